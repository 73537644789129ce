/*
 * rounding.h - floats rounded to nearest even to the numbers of a narrower format, for .c and .cu.
 *
 * The formats are those of the math modes: tf32, bf16 (both with f32's exponents), f16.
 */
#ifndef TI_ROUNDING_H
#define TI_ROUNDING_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tern/base.h"

#ifdef __CUDACC__
#define TI_ROUNDING_ON __host__ __device__
#else
#define TI_ROUNDING_ON
#endif

/* The definition: the nearest multiple of the format's last place there, or infinity. */
static inline TI_ROUNDING_ON double ti_round_f64(int to, double x)
{
    const int fraction = to == TERN_MATH_BF16 ? 7 : 10;
    const int least = to == TERN_MATH_F16 ? -14 : -126;
    const double most = ldexp(2.0 - ldexp(1.0, -fraction), to == TERN_MATH_F16 ? 15 : 127);

    if (to == TERN_MATH_F32 || x == 0 || x - x != 0) return x;
    const int e = (ilogb(x) < least ? least : ilogb(x)) - fraction;
    const double y = ldexp(rint(ldexp(x, -e)), e);
    return y > most ? (double)INFINITY : y < -most ? -(double)INFINITY : y;
}

/* The lowest `n` bits of the fraction rounded away; a carry may go into the exponent. */
static inline TI_ROUNDING_ON float ti_drop_bits(float x, int n)
{
    uint32_t u;

    memcpy(&u, &x, sizeof u);
    if ((u & 0x7f800000u) != 0x7f800000u) /* infinities and NaNs stay */
        u = (u + (1u << (n - 1)) - 1 + (u >> n & 1)) & ~((1u << n) - 1);
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline TI_ROUNDING_ON float ti_round_tf32(float x) { return ti_drop_bits(x, 13); }
static inline TI_ROUNDING_ON float ti_round_bf16(float x) { return ti_drop_bits(x, 16); }

/* Below 2^-14 the last place is 2^-24: 0.75's last place in f32, so adding it rounds to that. */
static inline TI_ROUNDING_ON float ti_round_f16(float x)
{
    const float size = fabsf(x), small = (size + 0.75f) - 0.75f, y = ti_drop_bits(size, 13);

    return copysignf(size < 0x1p-14f ? small : y > 65504.0f && size - size == 0 ? INFINITY : y, x);
}

#endif
