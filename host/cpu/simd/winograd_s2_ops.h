/*
 * winograd_s2_ops.h - the transforms of winograd_s2.c.
 *
 * Stride 2 splits a row of pixels into its odd and its even ones:
 *
 *   y[p] = x[2p-1] w0 + x[2p] w1 + x[2p+1] w2
 *
 * On the odd pixels this is a dense 2-tap filter (w0, w2), for which F(4, 2) over the points
 * +-1/2, +-5/4, infinity needs 5 products instead of 8; on the even ones a 1-tap filter w1: 4
 * products for 4 outputs. So one dimension maps 9 pixels to 9 products, two dimensions need 81
 * products where the direct way takes 144.
 *
 * Slots of a dimension are numbered 0 … 4 for the points and 5 … 8 for the plain pixels, which
 * share one filter value: 6 x 6 matrices U serve 9 x 9 slots.
 *
 * 1/2 and 5/4 had the least error of seven pairs tried, about that of a direct sum.
 */
#ifndef TI_WINOGRAD_S2_OPS_H
#define TI_WINOGRAD_S2_OPS_H

#include "winograd_walk.h"

enum { SLOTS = 9, UNIQUE = 6 };

#define PA 0.5f
#define PB 1.25f
#define A2 (PA * PA)
#define B2 (PB * PB)
#define NA (1 / (2 * PA * (A2 - B2)))
#define NB (1 / (2 * PB * (B2 - A2)))

/* ---- one dimension --------------------------------------------------------------------------- */

/* Points +-PA, +-PB of five pixels; their halves are shared, so pairs. */
INLINE void bt01(vf d0, vf d1, vf d2, vf d3, vf *o0, vf *o1)
{
    const vf e = minus(B2, d1, d3), f = minus(B2, d0, d2);
    *o0 = plus(PA, f, e);
    *o1 = minus(PA, f, e);
}
INLINE void bt23(vf d0, vf d1, vf d2, vf d3, vf *o2, vf *o3)
{
    const vf e = minus(A2, d1, d3), f = minus(A2, d0, d2);
    *o2 = plus(PB, f, e);
    *o3 = minus(PB, f, e);
}
INLINE vf bt4(vf d0, vf d2, vf d4) { return plus(A2 * B2, d0, minus(A2 + B2, d2, d4)); }

INLINE void bt5(vf d0, vf d1, vf d2, vf d3, vf d4, float *v, int64_t ps)
{
    vf a, b;

    bt01(d0, d1, d2, d3, &a, &b);
    v_store(v, a);
    v_store(v + ps, b);
    bt23(d0, d1, d2, d3, &a, &b);
    v_store(v + 2 * ps, a);
    v_store(v + 3 * ps, b);
    v_store(v + 4 * ps, bt4(d0, d2, d4));
}

/* Five products to four outputs. */
INLINE void at5(vf m0, vf m1, vf m2, vf m3, vf m4, vf y[4])
{
    const vf s1 = v_add(m0, m1), d1 = v_sub(m0, m1), s2 = v_add(m2, m3), d2 = v_sub(m2, m3);
    y[0] = v_add(s1, s2);
    y[1] = plus(PB, d2, times(PA, d1));
    y[2] = plus(B2, s2, times(A2, s1));
    y[3] = plus(PB * B2, d2, plus(PA * A2, d1, m4));
}

/* Four output gradients to five points. */
INLINE void a5(vf y0, vf y1, vf y2, vf y3, vf o[5])
{
    const vf e = plus(A2, y2, y0), f = plus(A2, y3, y1), g = plus(B2, y2, y0), h = plus(B2, y3, y1);
    o[0] = plus(PA, f, e);
    o[1] = minus(PA, f, e);
    o[2] = plus(PB, h, g);
    o[3] = minus(PB, h, g);
    o[4] = y3;
}

/* Three filter values to six. */
INLINE void g6(vf w0, vf w1, vf w2, vf o[6])
{
    o[0] = plus(NA * PA, w2, times(NA, w0));
    o[1] = plus(NA * PA, w2, times(-NA, w0));
    o[2] = plus(NB * PB, w2, times(NB, w0));
    o[3] = plus(NB * PB, w2, times(-NB, w0));
    o[4] = w2;
    o[5] = w1;
}

/* Six sums to three filter gradients. */
INLINE void gt6(const vf m[6], vf o[3])
{
    o[0] = plus(NA, v_sub(m[0], m[1]), times(NB, v_sub(m[2], m[3])));
    o[1] = m[5];
    o[2] = plus(NA * PA, v_add(m[0], m[1]), plus(NB * PB, v_add(m[2], m[3]), m[4]));
}

/* ---- filters --------------------------------------------------------------------------------- */

INLINE void filter_tile(const vf g[9], float *u, int64_t ps)
{
    vf c[3][6], o[6];

    UNROLL for (int j = 0; j < 3; j++) g6(g[j], g[3 + j], g[6 + j], c[j]);
    UNROLL for (int i = 0; i < 6; i++)
    {
        g6(c[0][i], c[1][i], c[2][i], o);
        UNROLL for (int j = 0; j < 6; j++) v_store(u + (i * 6 + j) * ps, o[j]);
    }
}

INLINE void inverse_tile(const float *du, int64_t ps, vf w[9])
{
    vf r[6][3];

    UNROLL for (int j = 0; j < 6; j++)
    {
        vf d[6];
        UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(du + (i * 6 + j) * ps);
        gt6(d, r[j]);
    }
    UNROLL for (int i = 0; i < 3; i++)
    {
        const vf d[6] = {r[0][i], r[1][i], r[2][i], r[3][i], r[4][i], r[5][i]};
        gt6(d, w + 3 * i);
    }
}

/* ---- images to slots, VL channels at a time -------------------------------------------------- */

typedef void slots_fn(const float *const *e, int64_t off, vmask m, float *v, int64_t ps);

/* Second pass of a row of nine pixels; odd pixels stand at 0, 2, 4, 6, 8. */
INLINE void pixel_row(const vf d[9], float *v, int64_t ps)
{
    bt5(d[0], d[2], d[4], d[6], d[8], v, ps);
    UNROLL for (int j = 0; j < 4; j++) v_store(v + (5 + j) * ps, d[2 * j + 1]);
}

/* 9x9 pixels of x. */
static void pixel_tile(const float *const *e, int64_t off, vmask m, float *v, int64_t ps)
{
#define D(i, j) v_load_m(e[(i)*9 + (j)] + off, m)
    vf r[9], s[9];

    UNROLL for (int j = 0; j < 9; j++) bt01(D(0, j), D(2, j), D(4, j), D(6, j), &r[j], &s[j]);
    pixel_row(r, v, ps);
    pixel_row(s, v + 9 * ps, ps);
    UNROLL for (int j = 0; j < 9; j++) bt23(D(0, j), D(2, j), D(4, j), D(6, j), &r[j], &s[j]);
    pixel_row(r, v + 18 * ps, ps);
    pixel_row(s, v + 27 * ps, ps);
    UNROLL for (int j = 0; j < 9; j++) r[j] = bt4(D(0, j), D(4, j), D(8, j));
    pixel_row(r, v + 36 * ps, ps);
    for (int i = 0; i < 4; i++) {
        UNROLL for (int j = 0; j < 9; j++) r[j] = D(2 * i + 1, j);
        pixel_row(r, v + (45 + 9 * i) * ps, ps);
    }
#undef D
}

INLINE void gradient_row(const vf d[5], float *v, int64_t ps)
{
    bt5(d[0], d[1], d[2], d[3], d[4], v, ps);
    UNROLL for (int j = 0; j < 4; j++) v_store(v + (5 + j) * ps, d[j]);
}

/* 5x5 of dy, for dx. */
static void dx_tile(const float *const *e, int64_t off, vmask m, float *v, int64_t ps)
{
#define D(i, j) v_load_m(e[(i)*5 + (j)] + off, m)
    vf r[5], s[5];

    UNROLL for (int j = 0; j < 5; j++) bt01(D(0, j), D(1, j), D(2, j), D(3, j), &r[j], &s[j]);
    gradient_row(r, v, ps);
    gradient_row(s, v + 9 * ps, ps);
    UNROLL for (int j = 0; j < 5; j++) bt23(D(0, j), D(1, j), D(2, j), D(3, j), &r[j], &s[j]);
    gradient_row(r, v + 18 * ps, ps);
    gradient_row(s, v + 27 * ps, ps);
    UNROLL for (int j = 0; j < 5; j++) r[j] = bt4(D(0, j), D(2, j), D(4, j));
    gradient_row(r, v + 36 * ps, ps);
    for (int i = 0; i < 4; i++) {
        UNROLL for (int j = 0; j < 5; j++) r[j] = D(i, j);
        gradient_row(r, v + (45 + 9 * i) * ps, ps);
    }
#undef D
}

/* 4x4 of dy, for dw. */
static void dw_tile(const float *const *e, int64_t off, vmask m, float *v, int64_t ps)
{
#define D(i, j) v_load_m(e[(i)*4 + (j)] + off, m)
    vf c[4][5], o[5];

    UNROLL for (int j = 0; j < 4; j++) a5(D(0, j), D(1, j), D(2, j), D(3, j), c[j]);
    UNROLL for (int i = 0; i < 5; i++)
    {
        a5(c[0][i], c[1][i], c[2][i], c[3][i], o);
        UNROLL for (int j = 0; j < 5; j++) v_store(v + (9 * i + j) * ps, o[j]);
        UNROLL for (int j = 0; j < 4; j++) v_store(v + (9 * i + 5 + j) * ps, c[j][i]);
    }
    for (int i = 0; i < 4; i++) {
        vf d[4];
        UNROLL for (int j = 0; j < 4; j++) d[j] = D(i, j);
        a5(d[0], d[1], d[2], d[3], o);
        UNROLL for (int j = 0; j < 5; j++) v_store(v + (45 + 9 * i + j) * ps, o[j]);
        UNROLL for (int j = 0; j < 4; j++) v_store(v + (45 + 9 * i + 5 + j) * ps, d[j]);
    }
#undef D
}

/* ---- slots to images ------------------------------------------------------------------------- */

/* The place of a tile in its image, where it lies inside: rows x cols; what is done on the way. */
typedef struct {
    int64_t row, col, rows, cols;
    vmask mask;
    bool relu;
    vf bias;
} wino_place;

#define M(i, j) v_load(v + ((i)*9 + (j)) * ps)

/* 4x4 of y. */
static void y_tile(const float *v, int64_t ps, float *y, const wino_place *to)
{
    vf c[5][4], o[4][4];

    UNROLL for (int j = 0; j < 5; j++)
    {
        at5(M(0, j), M(1, j), M(2, j), M(3, j), M(4, j), c[j]);
        UNROLL for (int i = 0; i < 4; i++) c[j][i] = v_add(c[j][i], M(5 + i, j));
    }
    UNROLL for (int i = 0; i < 4; i++) at5(c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], o[i]);
    UNROLL for (int j = 0; j < 4; j++)
    {
        vf d[4];
        at5(M(0, 5 + j), M(1, 5 + j), M(2, 5 + j), M(3, 5 + j), M(4, 5 + j), d);
        UNROLL for (int i = 0; i < 4; i++)
        {
            if (i < to->rows && j < to->cols) {
                vf out = v_add(v_add(d[i], M(5 + i, 5 + j)), o[i][j]);
                out = v_add(out, to->bias);
                if (to->relu) out = v_relu(out);
                v_store_m(y + i * to->row + j * to->col, to->mask, out);
            }
        }
    }
}

/* One row of 8 pixels of dx from its 9 slots. */
INLINE void dx_row(const vf d[9], float *y, const wino_place *to)
{
    vf o[4];

    at5(d[0], d[1], d[2], d[3], d[4], o);
    UNROLL for (int j = 0; j < 4; j++)
    {
        if (2 * j < to->cols) v_store_m(y + 2 * j * to->col, to->mask, d[5 + j]);
        if (2 * j + 1 < to->cols) v_store_m(y + (2 * j + 1) * to->col, to->mask, o[j]);
    }
}

/* 8x8 of dx. The odd rows' plain columns go through the stack: 36 values do not fit. */
static void dx_out_tile(const float *v, int64_t ps, float *y, const wino_place *to)
{
    vf c[9][4];

    UNROLL for (int j = 0; j < 9; j++) at5(M(0, j), M(1, j), M(2, j), M(3, j), M(4, j), c[j]);
    UNROLL for (int i = 0; i < 4; i++)
    {
        vf d[9];
        if (2 * i < to->rows) {
            UNROLL for (int j = 0; j < 9; j++) d[j] = M(5 + i, j);
            dx_row(d, y + 2 * i * to->row, to);
        }
        if (2 * i + 1 < to->rows) {
            UNROLL for (int j = 0; j < 9; j++) d[j] = c[j][i];
            dx_row(d, y + (2 * i + 1) * to->row, to);
        }
    }
}
#undef M

#endif
