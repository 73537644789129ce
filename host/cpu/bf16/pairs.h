/*
 * pairs.h - floats rounded to bf16 and packed in pairs, as the dot products take them.
 *
 * An operand is a matrix of n vectors of k numbers: rows of A, columns of B. They are packed by
 * SLICEs along k and within a slice by panels of `width` vectors: [pair of k][vector of the panel].
 * What is missing to whole pairs and panels is zero.
 */
#ifndef TI_CPU_BF16_PAIRS_H
#define TI_CPU_BF16_PAIRS_H

#include "cpu/simd/simd.h"

enum { SLICE = 256, WIDE = 2 * VL }; /* WIDE: numbers in a vector of pairs */

typedef struct {
    const float *x;
    int64_t n, k, n_step, k_step; /* number l of vector i at i n_step + l k_step */
    int64_t width, panels;
    int64_t slice, slices; /* numbers of a slice, even */
    uint32_t *to;
} ti_pairs;

/* Where a panel of a slice begins; how many pairs the slice has. */
INLINE int64_t pairs_of(const ti_pairs *o, int64_t slice)
{
    return ceil_div(min_of(o->slice, o->k - slice * o->slice), 2);
}
INLINE uint32_t *panel_at(const ti_pairs *o, int64_t slice, int64_t panel)
{
    return o->to + (slice * o->slice / 2 * o->panels + panel * pairs_of(o, slice)) * o->width;
}

/* Rounded to nearest even, small numbers too; NaNs stay NaN. */
INLINE __m256i rounded(vf x)
{
    const __m512i u = _mm512_castps_si512(x), top = _mm512_srli_epi32(u, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i add = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m512i near = _mm512_srli_epi32(_mm512_add_epi32(u, add), 16);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(near, nan, top, _mm512_set1_epi32(0x40)));
}

/* 32 numbers in their order. The instruction takes subnormal numbers for zeros: *tiny says whether
 * there was one; `exact` goes without it. */
INLINE __m512i to_bf16(vf first, vf second, const bool exact, __mmask16 *tiny)
{
    enum { SUBNORMAL = 0x20 };

    if (exact)
        return _mm512_inserti64x4(_mm512_castsi256_si512(rounded(first)), rounded(second), 1);
    *tiny |= _mm512_fpclass_ps_mask(first, SUBNORMAL) | _mm512_fpclass_ps_mask(second, SUBNORMAL);
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* Vectors whose numbers lie side by side: VL of them at a time are turned. */
INLINE __mmask16 pack_along(const float *x, int64_t step, int64_t n, int64_t k, int64_t width,
                            uint32_t *to, const bool exact)
{
    __mmask16 tiny = 0;

    for (int64_t i = 0; i < width; i += VL) {
        const vmask lanes = v_lanes(width - i);
        for (int64_t l = 0; l < k; l += WIDE) {
            const vmask first = v_lanes(k - l), second = v_lanes(k - l - VL);
            vf r[VL];
            for (int64_t j = 0; j < VL; j++) {
                const float *from = x + (i + j) * step + l;
                r[j] = i + j < n
                           ? _mm512_castsi512_ps(to_bf16(v_load_m(from, first),
                                                         v_load_m(from + VL, second), exact, &tiny))
                           : v_zero();
            }
            v_transpose(r);
            const int64_t pairs = min_of(VL, ceil_div(k - l, 2));
            for (int64_t p = 0; p < pairs; p++)
                v_store_m((float *)(void *)(to + (l / 2 + p) * width + i), lanes, r[p]);
        }
    }
    return tiny;
}

/* Vectors that lie side by side, panels too: each number of `count` panels in turn. */
INLINE __mmask16 pack_across(const float *x, int64_t step, int64_t n, int64_t k, int64_t width,
                             int64_t count, uint32_t *to, const bool exact)
{
    const __m512i turn =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const int64_t panel = ceil_div(k, 2) * width;
    __mmask16 tiny = 0;

    for (int64_t l = 0; l < k; l += 2, x += 2 * step, to += width)
        for (int64_t p = 0; p < count; p++)
            for (int64_t i = 0; i < width; i += VL) {
                const float *from = x + p * width + i;
                const vmask used = v_lanes(min_of(width - i, n - p * width - i));
                const vf even = v_load_m(from, used);
                const vf odd = l + 1 < k ? v_load_m(from + step, used) : v_zero();
                const __m512i y = _mm512_permutexvar_epi16(turn, to_bf16(even, odd, exact, &tiny));
                _mm512_mask_storeu_epi32(to + p * panel + i, v_lanes(width - i), y);
            }
    return tiny;
}

/* Any strides: VL x WIDE numbers at a time go through a copy. */
INLINE __mmask16 pack_any(const ti_pairs *o, const float *x, int64_t n, int64_t k, uint32_t *to,
                          const bool exact)
{
    float part[VL * WIDE];
    __mmask16 tiny = 0;
    uint32_t packed[VL * VL];

    for (int64_t i = 0; i < o->width; i += VL)
        for (int64_t l = 0; l < k; l += WIDE) {
            const int64_t rows = max_of(0, min_of(VL, n - i)), cols = min_of(WIDE, k - l);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < cols; j++)
                    part[r * WIDE + j] = x[(i + r) * o->n_step + (l + j) * o->k_step];
            tiny |= pack_along(part, WIDE, rows, cols, VL, packed, exact);
            for (int64_t p = 0; p < ceil_div(cols, 2); p++)
                for (int64_t r = 0; r < min_of(VL, o->width - i); r++)
                    to[(l / 2 + p) * o->width + i + r] = packed[p * VL + r];
        }
    return tiny;
}

/* Panels from … to of a slice; whether a number is so small that the instructions would lose it. */
INLINE bool pack_panels_of(const ti_pairs *o, int64_t slice, int64_t from, int64_t to,
                           const bool exact)
{
    const int64_t l = slice * o->slice, k = min_of(o->slice, o->k - l);
    const float *x = o->x + l * o->k_step + from * o->width * o->n_step;
    const int64_t n = o->n - from * o->width;
    uint32_t *at = panel_at(o, slice, from);
    __mmask16 tiny = 0;

    if (o->k_step != 1 && o->n_step == 1)
        return pack_across(x, o->k_step, n, k, o->width, to - from, at, exact) != 0;
    for (int64_t p = from; p < to; p++) {
        const int64_t i = (p - from) * o->width, rows = min_of(o->width, n - i);
        const float *first = x + i * o->n_step;
        at = panel_at(o, slice, p);
        if (o->k_step == 1) tiny |= pack_along(first, o->n_step, rows, k, o->width, at, exact);
        else tiny |= pack_any(o, first, rows, k, at, exact);
    }
    return tiny != 0;
}

#endif
