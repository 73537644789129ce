/*
 * functions.h - exp, tanh and sigmoid of f32 for loops that compilers vectorise: no branches,
 * selects only. Errors: see vector.h.
 *
 * They share one reduction: n = round(x log2 e), r = x - n ln2 in two steps (Cody and Waite), and
 * e^r - 1 = r + r^2 q(r), q of degree 4 (own Remez fit, 3e-9 relative on |r| <= ln2/2). Then
 * e^x = 2^n (1 + that). Where 1 is to be subtracted again (tanh, elu), it goes into the product:
 * 2^n (e^r - 1) + (2^n - 1), so that nothing cancels near 0.
 */
#ifndef TI_FUNCTIONS_H
#define TI_FUNCTIONS_H

#include <math.h>
#include <string.h>

#include "cpu/simd/simd.h"

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif
/* Results may lie on operands, element on element: no iteration depends on another. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

INLINE uint32_t bits(float x)
{
    uint32_t u;

    memcpy(&u, &x, 4);
    return u;
}

INLINE float from_bits(uint32_t u)
{
    float x;

    memcpy(&x, &u, 4);
    return x;
}

/* 2^n for n in -126 … 127 */
INLINE float power_of_two(int32_t n) { return from_bits((uint32_t)(n + 127) << 23); }

/* e^x = 2^n (1 + p), for |x| < 2^20; NaN goes into p. */
INLINE int32_t exp_parts(float x, float *p)
{
    const float magic = 0x1.8p23f, z = FMA(x, 0x1.715476p+0f, magic), n = z - magic;
    const float r = FMA(-n, 0x1.0bfbe8p-15f, FMA(-n, 0x1.62ep-1f, x)); /* n · 0x1.62ep-1: exact */
    float q = 0x1.6a242cp-10f;

    q = FMA(q, r, 0x1.1239e2p-7f);
    q = FMA(q, r, 0x1.5558f2p-5f);
    q = FMA(q, r, 0x1.555492p-3f);
    q = FMA(q, r, 0x1.fffffcp-2f);
    *p = FMA(q, r * r, r);
    return (int32_t)(bits(z) - 0x4b400000u);
}

/* Beyond the limits the result is 0 or infinite anyway. The scaling is in two steps, as 2^n may
 * leave the range of normal numbers; only the second one rounds. */
INLINE float f_exp(float x)
{
    float p;

    x = x < -105.0f ? -105.0f : x;
    x = x > 89.0f ? 89.0f : x;
    const int32_t n = exp_parts(x, &p), half = n >> 1;
    return (1.0f + p) * power_of_two(half) * power_of_two(n - half);
}

/* e^x - 1 for -60 <= x <= 60 */
INLINE float exp_less_one(float x)
{
    float p;
    const float s = power_of_two(exp_parts(x, &p));

    return FMA(s, p, s - 1.0f);
}

/* With E = e^(2|x|) - 1: E / (E + 2). 1 from 9.02 on. */
INLINE float f_tanh(float x)
{
    float a = fabsf(x);

    a = a > 12.0f ? 12.0f : a;
    const float e = exp_less_one(a + a);
    return copysignf(e / (e + 2.0f), x);
}

/* With e = exp(-|x|): 1 / (1 + e), times e where x < 0. Never overflows, keeps the tail. */
INLINE float f_sigmoid(float x)
{
    const float e = f_exp(-fabsf(x));

    return (x < 0 ? e : 1.0f) / (1.0f + e);
}

#endif
