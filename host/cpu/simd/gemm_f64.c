/* gemm_f64.c - the matrix product of gemm.c in double precision. */
#define TI_F64 1
#include "gemm.c"
