/*
 * simd_portable.h - simd.h without intrinsics: 16-byte vectors of gcc and clang, which become SSE2,
 * NEON or whatever the machine has. A mask is a number of lanes; v_fma rounds once where the
 * machine can do that fast, else twice.
 */
#ifndef TI_SIMD_PORTABLE_H
#define TI_SIMD_PORTABLE_H

#include <string.h>

#ifdef __aarch64__
#define N_REGS 32
#else
#define N_REGS 16
#endif

typedef real vf __attribute__((vector_size(16)));
typedef int vmask;
#define VL ((int)(16 / sizeof(real)))

INLINE vf v_set1(real x) { return x - (vf){0}; }
INLINE vf v_load(const real *p)
{
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE void v_store(real *p, vf x) { memcpy(p, &x, sizeof x); }
INLINE vf v_fma(vf a, vf b, vf c)
{
#if defined(__ARM_FEATURE_FMA) && defined(TI_F64)
    for (int i = 0; i < VL; i++) c[i] = __builtin_fma(a[i], b[i], c[i]);
    return c;
#elif defined(__ARM_FEATURE_FMA)
    for (int i = 0; i < VL; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}
INLINE vf v_fnma(vf a, vf b, vf c) { return v_fma(-a, b, c); }
INLINE vf v_add(vf a, vf b) { return a + b; }
INLINE vf v_sub(vf a, vf b) { return a - b; }
INLINE vf v_mul(vf a, vf b) { return a * b; }
/* a > b ? a : b, so a NaN in either gives b */
INLINE vf v_max(vf a, vf b)
{
    for (int i = 0; i < VL; i++) b[i] = a[i] > b[i] ? a[i] : b[i];
    return b;
}
INLINE vf v_sqrt(vf a)
{
    for (int i = 0; i < VL; i++) a[i] = (real)__builtin_sqrt((double)a[i]);
    return a;
}
INLINE vf v_div(vf a, vf b) { return a / b; }
INLINE vf v_div_near(vf a, vf b) { return a / b; }
#ifndef TI_F64
typedef int32_t vwhere __attribute__((vector_size(16)));
INLINE vwhere v_beats(vf v, vf best) { return ~(vwhere)(v <= best) & (vwhere)(best == best); }
INLINE vf v_pick(vwhere k, vf a, vf b) { return (vf)(((vwhere)a & k) | ((vwhere)b & ~k)); }
#endif
INLINE real v_sum(vf a)
{
    for (int n = VL / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) a[i] += a[i + n];
    return a[0];
}
INLINE vmask v_lanes(int64_t n) { return n >= VL ? VL : n <= 0 ? 0 : (int)n; }
INLINE vf v_load_m(const real *p, vmask m)
{
    vf x = {0};
    if (m == VL) return v_load(p);
    UNROLL for (int i = 0; i < VL - 1; i++) if (i < m) x[i] = p[i];
    return x;
}
INLINE void v_store_m(real *p, vmask m, vf x)
{
    if (m == VL) v_store(p, x);
    else UNROLL for (int i = 0; i < VL - 1; i++) if (i < m) p[i] = x[i];
}
INLINE vf v_keep(vf x) { return x; }

INLINE void v_transpose(vf *r)
{
    for (int i = 0; i < VL; i++)
        for (int j = 0; j < i; j++) {
            const real x = r[i][j];
            r[i][j] = r[j][i];
            r[j][i] = x;
        }
}

#endif
