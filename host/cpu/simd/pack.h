/*
 * pack.h - copies of small matrices into the layouts that the microkernels read.
 */
#ifndef TI_PACK_H
#define TI_PACK_H

#include "simd.h"

/* dst[k * dst_ld + i] = src[i * ld + k] for i < rows <= VL and k < cols. VL numbers are written for
 * each k: what overhangs is zero, and the next k, or the next panel, overwrites it. */
static inline void pack_transposed(const real *src, int64_t ld, int64_t rows, int64_t cols,
                                   real *dst, int64_t dst_ld)
{
    vf r[VL];

    for (int64_t k = 0; k < cols; k += VL, src += VL) {
        const vmask mask = v_lanes(cols - k);
        if (rows == VL && cols - k >= VL)
            for (int i = 0; i < VL; i++) r[i] = v_load(src + i * ld);
        else
            for (int i = 0; i < VL; i++) r[i] = i < rows ? v_load_m(src + i * ld, mask) : v_zero();
        v_transpose(r);
        const int64_t n = min_of(VL, cols - k);
        for (int64_t i = 0; i < n; i++, dst += dst_ld) v_store(dst, r[i]);
    }
}

/* dst[k * width + i] = src[k * ld + i] for i < n <= width, zero up to a whole vector. */
static inline void pack_straight(const real *src, int64_t ld, int64_t n, int64_t cols, real *dst,
                                 int64_t width)
{
    const int64_t whole = n / VL * VL;
    const vmask mask = v_lanes(n - whole);

    for (int64_t k = 0; k < cols; k++, src += ld, dst += width) {
        int64_t i = 0;
        for (; i < whole; i += VL) v_store(dst + i, v_load(src + i));
        if (i < n) v_store(dst + i, v_load_m(src + i, mask));
    }
}

/* dst[k * width + i] = src[k * ks + i * is] for i < n <= width, zero up to a whole vector: neither
 * stride is 1, so one number at a time. */
static inline void pack_any(const real *src, int64_t ks, int64_t is, int64_t n, int64_t cols,
                            real *dst, int64_t width)
{
    const int64_t wide = min_of(round_up(n, VL), width);

    for (int64_t k = 0; k < cols; k++, src += ks, dst += width) {
        for (int64_t i = 0; i < n; i++) dst[i] = src[i * is];
        for (int64_t i = n; i < wide; i++) dst[i] = 0;
    }
}

#endif
