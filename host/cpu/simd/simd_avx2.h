/* simd_avx2.h - simd.h for AVX2 with FMA. */
#ifndef TI_SIMD_AVX2_H
#define TI_SIMD_AVX2_H

#include <immintrin.h>

#define N_REGS 16
typedef __m256i vmask;

#ifdef TI_F64

#define VL 4
typedef __m256d vf;

INLINE vf v_set1(double x) { return _mm256_set1_pd(x); }
INLINE vf v_load(const double *p) { return _mm256_loadu_pd(p); }
INLINE void v_store(double *p, vf x) { _mm256_storeu_pd(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_pd(a, b, c); }
INLINE vf v_add(vf a, vf b) { return _mm256_add_pd(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm256_max_pd(a, b); }
INLINE double v_sum(vf a)
{
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
INLINE vmask v_lanes(int64_t n)
{
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE vf v_load_m(const double *p, vmask m) { return _mm256_maskload_pd(p, m); }
/* A masked store costs tens of cycles on AMD: only at a true edge. */
INLINE void v_store_m(double *p, vmask m, vf x)
{
    if (_mm256_movemask_pd(_mm256_castsi256_pd(m)) == 0xf) _mm256_storeu_pd(p, x);
    else _mm256_maskstore_pd(p, m, x);
}

INLINE void v_transpose(vf r[4])
{
    const __m256d a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    const __m256d c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);

    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

#else

#define VL 8
typedef __m256 vf;

INLINE vf v_set1(float x) { return _mm256_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vf v_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf v_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf v_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
INLINE vf v_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf v_sqrt(vf a) { return _mm256_sqrt_ps(a); }
INLINE vf v_div(vf a, vf b) { return _mm256_div_ps(a, b); }
INLINE vf v_div_near(vf a, vf b) { return _mm256_div_ps(a, b); }
typedef __m256 vwhere;
INLINE vwhere v_beats(vf v, vf best)
{
    return _mm256_and_ps(_mm256_cmp_ps(v, best, _CMP_NLE_UQ),
                         _mm256_cmp_ps(best, best, _CMP_ORD_Q));
}
INLINE vf v_pick(vwhere k, vf a, vf b) { return _mm256_blendv_ps(b, a, k); }
INLINE float v_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
INLINE vmask v_lanes(int64_t n)
{
    const int k = n > 8 ? 8 : n < 0 ? 0 : (int)n;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(k), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_load_m(const float *p, vmask m) { return _mm256_maskload_ps(p, m); }
/* A masked store costs tens of cycles on AMD: only at a true edge. */
INLINE void v_store_m(float *p, vmask m, vf x)
{
    if (_mm256_movemask_ps(_mm256_castsi256_ps(m)) == 0xff) _mm256_storeu_ps(p, x);
    else _mm256_maskstore_ps(p, m, x);
}

INLINE void v_transpose(vf r[8])
{
    __m256 t[8];

    for (int i = 0; i < 8; i += 4) {
        const __m256 a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        const __m256 c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]);
        const __m256 d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        t[i] = _mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

#endif

/* Keeps a value in a register where the compiler would load it again for each use. */
INLINE vf v_keep(vf x)
{
    __asm__("" : "+x"(x));
    return x;
}

#endif
