/*
 * winograd_walk.h - what both Winograd kernels need besides their transforms: constants times
 * vectors, the walk over tiles of an image and over plain weights [k][c][9].
 */
#ifndef TI_WINOGRAD_WALK_H
#define TI_WINOGRAD_WALK_H

#include <math.h>

#include "panel.h"

INLINE vf times(float a, vf b) { return v_mul(v_set1(a), b); }
INLINE vf plus(float a, vf b, vf c) { return v_fma(v_set1(a), b, c); }   /* c + a b */
INLINE vf minus(float a, vf b, vf c) { return v_fnma(v_set1(a), b, c); } /* c - a b */

/* ---- the walk over tiles --------------------------------------------------------------------- */

/* A 4 x 4 tile of an h x w grid of pixels: image, and the pixel of its corner. */
typedef struct {
    int64_t n, y, x;
} tile_pos;

INLINE tile_pos tile_at(int64_t h, int64_t w, int64_t t)
{
    const int64_t nx = ceil_div(w, 4), ny = ceil_div(h, 4);
    return (tile_pos){t / (nx * ny), t / nx % ny * 4, t % nx * 4};
}

INLINE tile_pos tile_next(int64_t h, int64_t w, tile_pos q)
{
    if ((q.x += 4) >= w) {
        q.x = 0;
        if ((q.y += 4) >= h) {
            q.y = 0;
            q.n++;
        }
    }
    return q;
}

/* Addresses of size x size pixels from (y, x) of image n. Those outside point to a row of zeros, so
 * borders need no code of their own. */
INLINE void tile_pointers(int64_t h, int64_t w, const float *x, int64_t c, int64_t n, int64_t y0,
                          int64_t x0, int64_t size, const float *zeros, const float **e)
{
    const float *image = x + n * h * w * c;

    for (int64_t i = 0; i < size; i++, e += size) {
        const float *row = y0 + i >= 0 && y0 + i < h ? image + (y0 + i) * w * c : NULL;
        for (int64_t j = 0; j < size; j++)
            e[j] = row && x0 + j >= 0 && x0 + j < w ? row + (x0 + j) * c : zeros;
    }
}

/* ---- what spoils others ---------------------------------------------------------------------- */

/*
 * A value that is not finite, or that a transform makes so, spoils outputs that it has no part in.
 * In V it spoils all columns of its tile, in U all tiles of its column; so the first columns and
 * the first tile of M tell. In the same way the first row and the first columns of dU tell.
 * What comes near the end of the range counts, too: a transform on the way out, or the product in
 * another column, may leave it. So values are added up times 2^40, and their sum has to be finite.
 */

/* n vectors, step floats apart. The sums are several, so that none waits for the one before. */
INLINE void add_scaled(const float *at, int64_t n, int64_t step, vf sum[4])
{
    for (int64_t i = 0; i < n; i += 4)
        UNROLL for (int64_t j = 0; j < 4; j++) sum[j] =
            v_fma(v_load(at + min_of(i + j, n - 1) * step), v_set1(0x1p40F), sum[j]);
}

INLINE bool is_finite(const vf sum[4])
{
    return isfinite(v_sum(v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3]))));
}

/* M of a block, whose columns are the first ones (first) or not: points matrices of n_t tiles and
 * n_k columns, step apart. */
INLINE bool products_spoilt(const float *m, int64_t points, int64_t step, int64_t n_t, int64_t n_k,
                            bool first)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};

    for (int64_t i = 0; i < points; i++, m += step) {
        add_scaled(m, n_k / VL, n_t * VL, sum);
        if (first) add_scaled(m, n_t, VL, sum);
    }
    return !is_finite(sum);
}

/* Rows k0 … and columns c0 … of dU: matrices step apart, rows ldc apart. */
INLINE bool sums_spoilt(const float *du, int64_t points, int64_t step, int64_t ldc, int64_t k0,
                        int64_t n_k, int64_t c0, int64_t n_c)
{
    vf sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};

    for (int64_t i = 0; i < points; i++, du += step) {
        if (c0 == 0) add_scaled(du, n_k, ldc, sum);
        if (k0 == 0) add_scaled(du, n_c / VL, VL, sum);
    }
    return !is_finite(sum);
}

/* ---- the walk over weights ------------------------------------------------------------------- */

/* The points of one filter for VL channels, ps floats apart; and back. */
typedef void wino_filter_fn(const vf g[9], float *u, int64_t ps);
typedef void wino_inverse_fn(const float *du, int64_t ps, vf w[9]);

/* U for forward, columns k0 … k0 + n_k, points ps apart. A plain filter is a run of [c][9] and the
 * vector runs over k, so VL x VL blocks are turned in registers. */
INLINE void filters_fwd(wino_filter_fn *tile, int64_t all_k, int64_t n_c, const float *w,
                        int64_t k0, int64_t n_k, float *u, int64_t ps)
{
    const int64_t depth = round_up(n_c, VL);

    for (int64_t kb = 0; kb < n_k; kb += VL)
        for (int64_t c0 = 0; c0 < depth; c0 += VL) {
            _Alignas(64) float g[VL * 9][VL];
            for (int j = 0; j < 9; j++) {
                const vmask mask = v_lanes((n_c - c0) * 9 - j * VL);
                vf r[VL];
                for (int i = 0; i < VL; i++) {
                    const int64_t k = k0 + kb + i;
                    const float *row = w + (k * n_c + c0) * 9 + j * VL;
                    r[i] = k < all_k ? v_load_m(row, mask) : v_zero();
                    if (k < all_k) __builtin_prefetch(row + 9 * VL);
                }
                v_transpose(r);
                for (int i = 0; i < VL; i++) v_store(g[j * VL + i], r[i]);
            }
            for (int i = 0; i < VL; i++) {
                vf f[9];
                for (int rs = 0; rs < 9; rs++) f[rs] = v_load(g[i * 9 + rs]);
                tile(f, u + kb / NR * depth * NR + (c0 + i) * NR + kb % NR, ps);
            }
        }
}

/* U for dx: depth is k, columns c0 … c0 + n_c are input channels, the filter is turned by 180
 * degrees. */
INLINE void filters_dx(wino_filter_fn *tile, int64_t n_k, int64_t all_c, const float *w, int64_t c0,
                       int64_t n_c, float *u, int64_t ps)
{
    const int64_t depth = round_up(n_k, VL);

    for (int64_t k = 0; k < depth; k++)
        for (int64_t cb = 0; cb < n_c; cb += VL) {
            const float *row = w + (k * all_c + c0 + cb) * 9;
            vf f[9], r[VL];
            for (int t0 = 0; t0 < 9; t0 += VL) {
                turn_taps(row, 9, t0, k < n_k ? all_c - c0 - cb : 0, r);
                UNROLL for (int t = 0; t < VL; t++)
                {
                    if (t0 + t < 9) f[8 - t0 - t] = r[t];
                }
            }
            for (int j = 0; j < 9 && k + 1 < n_k; j++) __builtin_prefetch(row + 9 * all_c + j * VL);
            tile(f, u + cb / NR * depth * NR + k * NR + cb % NR, ps);
        }
}

/* Plain dw from the chunk of dU with rows k0 … k0 + n_k (ldc apart) and columns c0 … c0 + n_c. */
INLINE void inverse_filters(wino_inverse_fn *tile, int64_t all_k, int64_t all_c, const float *du,
                            int64_t ps, int64_t ldc, int64_t k0, int64_t n_k, int64_t c0,
                            int64_t n_c, float *dw)
{
    for (int64_t k = 0; k < min_of(n_k, all_k - k0); k++)
        for (int64_t c = 0; c < n_c; c += VL) {
            vf w[9], r[VL];
            tile(du + k * ldc + c, ps, w);
            for (int t0 = 0; t0 < 9; t0 += VL) {
                UNROLL for (int t = 0; t < VL; t++) r[t] = t0 + t < 9 ? w[t0 + t] : v_zero();
                unturn_taps(r, 9, t0, 9 - t0, all_c - c0 - c, dw + ((k0 + k) * all_c + c0 + c) * 9);
            }
        }
}

#endif
