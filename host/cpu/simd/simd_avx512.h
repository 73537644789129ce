/* simd_avx512.h - simd.h for AVX-512 F, VL, BW, DQ. */
#ifndef TI_SIMD_AVX512_H
#define TI_SIMD_AVX512_H

#include <immintrin.h>

#define N_REGS 32

#ifdef TI_F64

#define VL 8
typedef __m512d vf;
typedef __mmask8 vmask;

INLINE vf v_set1(double x) { return _mm512_set1_pd(x); }
INLINE vf v_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE void v_store(double *p, vf x) { _mm512_storeu_pd(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_pd(a, b, c); }
INLINE vf v_add(vf a, vf b) { return _mm512_add_pd(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm512_max_pd(a, b); }
INLINE double v_sum(vf a) { return _mm512_reduce_add_pd(a); }
INLINE vf v_load_m(const double *p, vmask m) { return _mm512_maskz_loadu_pd(m, p); }
INLINE void v_store_m(double *p, vmask m, vf x) { _mm512_mask_storeu_pd(p, m, x); }

INLINE void v_transpose(vf r[8])
{
    __m512d t[8], q[8];

    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_pd(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_pd(r[i], r[i + 1]);
    }
    /* t[2g + e]: in each 128-bit lane l, column 2l + e of rows 2g, 2g + 1. */
    for (int e = 0; e < 2; e++) {
        q[e] = _mm512_shuffle_f64x2(t[e], t[2 + e], 0x88);
        q[2 + e] = _mm512_shuffle_f64x2(t[e], t[2 + e], 0xdd);
        q[4 + e] = _mm512_shuffle_f64x2(t[4 + e], t[6 + e], 0x88);
        q[6 + e] = _mm512_shuffle_f64x2(t[4 + e], t[6 + e], 0xdd);
    }
    for (int e = 0; e < 4; e++) {
        r[e] = _mm512_shuffle_f64x2(q[e], q[4 + e], 0x88);
        r[4 + e] = _mm512_shuffle_f64x2(q[e], q[4 + e], 0xdd);
    }
}

#else

#define VL 16
typedef __m512 vf;
typedef __mmask16 vmask;

INLINE vf v_set1(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE float v_sum(vf a) { return _mm512_reduce_add_ps(a); }
INLINE vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
/* Division and root share a unit that takes 7 and 9 cycles a vector; this keeps out of it. */
INLINE vf v_div_near(vf a, vf b)
{
    const vf most = _mm512_min_ps(_mm512_set1_ps(0x1p100f), b), one = _mm512_set1_ps(1);
    const vf r = _mm512_rcp14_ps(most);

    return _mm512_mul_ps(a, _mm512_fmadd_ps(r, _mm512_fnmadd_ps(most, r, one), r));
}
typedef __mmask16 vwhere;
INLINE vwhere v_beats(vf v, vf best)
{
    const __mmask16 number = _mm512_cmp_ps_mask(best, best, _CMP_ORD_Q);

    return _mm512_mask_cmp_ps_mask(number, v, best, _CMP_NLE_UQ);
}
INLINE vf v_pick(vwhere k, vf a, vf b) { return _mm512_mask_mov_ps(b, k, a); }
INLINE vf v_load_m(const float *p, vmask m) { return _mm512_maskz_loadu_ps(m, p); }
INLINE void v_store_m(float *p, vmask m, vf x) { _mm512_mask_storeu_ps(p, m, x); }

/* Rows r[0..15] become columns. Two rounds inside 128-bit lanes, two across them. */
INLINE void v_transpose(vf r[16])
{
    __m512 t[16];

    for (int i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]);
        const __m512 d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        const __m512 a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const __m512 b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const __m512 c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif

/* Lanes [0, n); n may exceed VL or be negative. */
INLINE vmask v_lanes(int64_t n)
{
    return n >= VL ? (vmask)0xffff : n <= 0 ? (vmask)0 : (vmask)((1u << n) - 1);
}

/* Keeps a value in a register where the compiler would load it again for each use. */
INLINE vf v_keep(vf x)
{
    __asm__("" : "+v"(x));
    return x;
}

#endif
