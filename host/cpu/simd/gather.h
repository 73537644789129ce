/*
 * gather.h - rows of a convolution's matrix form, copied into panels (panel.h).
 *
 * A gather describes a product whose rows are output positions on a grid and whose depth is a list
 * of taps, each a shift in the source image, times the source's channels:
 *
 *   forward   one gather: rows are the pixels of y, taps the filter's r x s
 *   dx        one gather for each residue of (h, w) modulo the stride: within it the taps that hit
 *             a whole output pixel are fixed, so nothing is multiplied by inserted zeros
 *             (3x3 stride 2: 1, 2, 2 and 4 taps; 1x1 stride 2: one tap, and three quarters are
 *             zero)
 *   dw        the forward gather, transposed: A^T dy
 *
 * Along the border some taps lie outside of the image. A gather falls into regions, rectangles of
 * its grid that have the same taps inside, and each multiplies by those only: 31 % fewer products
 * for 3x3 filters on 4x4 pixels, 16 % on 8x8, 4 % on 32x32.
 */
#ifndef TI_GATHER_H
#define TI_GATHER_H

#include "panel.h"

#define gather_fwd TI_SIMD(gather_fwd)
#define gather_dx TI_SIMD(gather_dx)
#define gather_rows TI_SIMD(gather_rows)
#define gather_regions TI_SIMD(gather_regions)
#define gather_pixels TI_SIMD(gather_pixels)
#define gather_part TI_SIMD(gather_part)

typedef struct {
    int64_t dh, dw, filter; /* filter: index r * S + s in the weights */
} gather_tap;

typedef struct {
    int64_t n, rows_h, rows_w; /* grid of rows */
    /* Row (i, j) is pixel (out_h0 + i out_dh, out_w0 + j out_dw) of the image that rows belong to.
     */
    int64_t out_h, out_w, out_ld, out_c; /* out_c: columns written */
    int64_t out_h0, out_w0, out_dh, out_dw;
    /* Row (i, j), tap t reads pixel (src_h0 + i src_dh + t.dh, src_w0 + j src_dw + t.dw). */
    int64_t src_h, src_w, src_ld, src_c; /* src_c: channels of a group */
    int64_t src_h0, src_w0, src_dh, src_dw;
    int64_t n_taps, taps_w; /* taps_w: of a row of the filter */
    bool joined;            /* taps side by side in a filter row lie side by side in memory */
    const gather_tap *taps;
} gather;

/* Along one axis: rows of the grid, and the taps that they take. */
typedef struct {
    int64_t row, n_rows, tap, n_taps;
} gather_stretch;

typedef struct {
    gather_stretch h, w;
} gather_region;

enum { GATHER_CUTS = 7, GATHER_REGIONS = GATHER_CUTS * GATHER_CUTS };

/* taps: room for r * s. */
gather gather_fwd(const ti_conv *v, gather_tap *taps);
/* The taps that reach the pixels whose coordinates are (a, b) modulo the stride. */
gather gather_dx(const ti_conv *v, int64_t a, int64_t b, gather_tap *taps);

/* Regions that make up the gather; one, the whole of it, where more do not pay. How many. */
int gather_regions(const gather *g, gather_region to[GATHER_REGIONS]);
/* The gather of one region. taps: room for those of g. */
gather gather_part(const gather *g, const gather_region *r, gather_tap *taps);

/* Rows t0 … t0 + n_t, taps u0 … u1, as panels of n_t rows, the depth zero-padded to VL; where not
 * NULL, out receives the addresses of the rows' pixels in y. */
void gather_rows(const gather *g, const float *src, int64_t t0, int64_t n_t, int64_t u0, int64_t u1,
                 float *a, float *y, float **out);

/* Where the pixels of these rows lie, in floats. */
void gather_pixels(const gather *g, int64_t t0, int64_t n_t, int64_t *at);

/* n floats to columns d … of row t; NULL is zeros. */
INLINE void gather_put(float *a, int64_t n_t, int64_t t, int64_t d, const float *src, int64_t n)
{
    if (d % VL == 0)
        for (; n >= VL; n -= VL, d += VL) {
            v_store(a + (d / VL * n_t + t) * VL, src ? v_load(src) : v_zero());
            if (src) src += VL;
        }
    while (n > 0) {
        const int64_t at = d % VL, len = min_of(n, VL - at);
        const vmask m = v_lanes(len);
        v_store_m(a + (d / VL * n_t + t) * VL + at, m, src ? v_load_m(src, m) : v_zero());
        d += len;
        n -= len;
        if (src) src += len;
    }
}

#endif
