/* mk_f64.c - the microkernels of mk.c in double precision. */
#define TI_F64 1
#include "mk.c"
