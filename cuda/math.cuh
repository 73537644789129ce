/*
 * math.cuh - one name for the f32 and the f64 function, so that kernels are written once.
 *
 * Accuracy of the f32 functions on a GPU (CUDA Programming Guide, mathematical functions): exp,
 * log, expm1, tanh 1 ulp, erf, rsqrt 2, erfc 4; division and square root are rounded correctly.
 * Powers go through f64: powf is right to 4 ulp only.
 */
#ifndef TI_CUDA_MATH_CUH
#define TI_CUDA_MATH_CUH

#include <math.h>

#include "kernel.cuh"

#define TI_BOTH(name, of_f32, of_f64)                                                              \
    static inline __device__ float name(float x) { return of_f32(x); }                             \
    static inline __device__ double name(double x) { return of_f64(x); }
TI_BOTH(ti_exp, expf, exp)
TI_BOTH(ti_expm1, expm1f, expm1)
TI_BOTH(ti_log, logf, log)
TI_BOTH(ti_sqrt, sqrtf, sqrt)
TI_BOTH(ti_erf, erff, erf)
TI_BOTH(ti_erfc, erfcf, erfc)
TI_BOTH(ti_tanh, tanhf, tanh)
TI_BOTH(ti_abs, fabsf, fabs)
#undef TI_BOTH

static inline __device__ float ti_fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline __device__ double ti_fma(double a, double b, double c) { return fma(a, b, c); }
static inline __device__ float ti_rsqrt(float x) { return 1.0f / sqrtf(x); }
static inline __device__ double ti_rsqrt(double x) { return 1.0 / sqrt(x); }

template <class T> static inline __device__ T ti_sigmoid(T x)
{
    const T e = ti_exp(-ti_abs(x));

    return (x < 0 ? e : T(1)) / (T(1) + e);
}
template <class T> static inline __device__ bool ti_finite(T x) { return x - x == T(0); }

/* The activations of fused ops; back: g times the slope, from the result y. */
template <class T> static inline __device__ T ti_act_of(int act, T z)
{
    switch (act) {
    case TERN_RELU: return z > 0 || z != z ? z : T(0);
    case TERN_TANH: return ti_tanh(z);
    case TERN_SIGMOID: return ti_sigmoid(z);
    default: return z;
    }
}
template <class T> static inline __device__ T ti_act_back(int act, T y, T g)
{
    switch (act) {
    case TERN_RELU: return y > 0 ? g : T(0);
    case TERN_TANH: return g * (T(1) - y * y);
    case TERN_SIGMOID: return g * y * (T(1) - y);
    default: return g;
    }
}

#endif
