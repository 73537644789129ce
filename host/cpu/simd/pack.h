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

/*
 * Columns 0 … n of `rows` rows into panels of `width` columns:
 * dst[width * rows * p + k * width + i] = src[k * ld + p * width + i]. Several panels at once: one
 * alone uses a part of each line of src, and where rows lie 4 KiB apart the lines do not stay in L1
 * for the next. Whole vectors are stored as long as what overhangs is still to be written.
 */
enum { PACK_PANELS = 8, PACK_AHEAD = 8 };
static inline void pack_panels(const real *src, int64_t ld, int64_t n, int64_t rows, int64_t width,
                               real *dst)
{
    const int64_t wide = round_up(width, VL), line = 64 / (int64_t)sizeof(real);
    const int64_t calm = max_of(0, rows - ceil_div(wide - width, width));
    int64_t i = 0, columns;

    for (; i + wide <= n; i += columns) {
        columns = min_of(PACK_PANELS, (n - i - wide) / width + 1) * width;
        for (int64_t k = 0; k < rows; k++) {
            const real *from = src + k * ld + i;
            real *to = dst + i * rows + k * width;
            for (int64_t j = 0; j < columns; j += line)
                __builtin_prefetch(from + PACK_AHEAD * ld + j);
            for (int64_t j = 0; j < columns; j += width)
                for (int64_t v = 0; v < wide; v += VL) {
                    const vf x = v_load(from + j + v);
                    if (k < calm) v_store(to + j * rows + v, x);
                    else v_store_m(to + j * rows + v, v_lanes(width - v), x);
                }
        }
    }
    for (; i < n; i += width)
        pack_straight(src + i, ld, min_of(width, n - i), rows, dst + i * rows, width);
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
