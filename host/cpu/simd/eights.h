/*
 * eights.h - sums in double: eight floats at a time into eight doubles, on every instruction set.
 *
 * Macros, since functions must not return vectors wider than the registers.
 */
#ifndef TI_SIMD_EIGHTS_H
#define TI_SIMD_EIGHTS_H

#include <string.h>

#include "cpu/simd/simd.h"

typedef float f8 __attribute__((vector_size(32)));
typedef double d8 __attribute__((vector_size(64)));

#define GET(type, x, from)                                                                         \
    type x;                                                                                        \
    memcpy(&x, from, sizeof x)
/* a b + c, rounded once where the processor can. A difference x - p as x 1 - p, too: additions and
 * conversions share a pipe, multiplications have the other. */
#ifdef __AVX512F__
#define MUL_ADD(a, b, c) ((d8)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#else
#define MUL_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* The eight in one, pairs first. */
INLINE double total_of(const d8 *s)
{
    double lane[8];

    memcpy(lane, s, sizeof lane);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

#endif
