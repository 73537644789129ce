/*
 * winograd_ops.h - the transforms of F(4x4, 3x3) over the points 0, +-5/8, +-3/2, infinity.
 *
 *   forward   y  = At [ (G g Gt) . (Bt d B) ] A      36 products for 16 outputs instead of 144
 *   dx        the same with channels swapped and the filter turned by 180 degrees
 *   dw        dg = Gt [ sum over tiles (Bt d B) . (A dy At) ] G
 *
 * 5/8 and 3/2 halve the error of the usual 1 and 2 at the same speed; all constants below but N0,
 * NA, NB and their products are exact.
 */
#ifndef TI_WINOGRAD_OPS_H
#define TI_WINOGRAD_OPS_H

#include "winograd_walk.h"

enum { POINTS = 36 };

#define PA 0.625f
#define PB 1.5f
#define A2 (PA * PA)
#define B2 (PB * PB)
#define N0 (1 / (A2 * B2)) /* 1 / prod(0 - q) over the other finite points q */
#define NA (1 / (2 * A2 * (A2 - B2)))
#define NB (1 / (2 * B2 * (B2 - A2)))

/* ---- one dimension --------------------------------------------------------------------------- */

/* Rows of Bt: input 6 -> 6. Rows 1, 2 and 3, 4 share their halves. */
INLINE vf bt0(vf d0, vf d2, vf d4) { return plus(A2 * B2, d0, minus(A2 + B2, d2, d4)); }
INLINE void bt12(vf d1, vf d2, vf d3, vf d4, vf *o1, vf *o2)
{
    const vf even = minus(B2, d2, d4), odd = minus(B2, d1, d3);
    *o1 = plus(PA, odd, even);
    *o2 = minus(PA, odd, even);
}
INLINE void bt34(vf d1, vf d2, vf d3, vf d4, vf *o3, vf *o4)
{
    const vf even = minus(A2, d2, d4), odd = minus(A2, d1, d3);
    *o3 = plus(PB, odd, even);
    *o4 = minus(PB, odd, even);
}

/* The second pass of Bt d B: six columns of one row, stored as six points ps floats apart. */
INLINE void bt_row(const vf d[6], float *v, int64_t ps)
{
    vf a, b;

    v_store(v, bt0(d[0], d[2], d[4]));
    bt12(d[1], d[2], d[3], d[4], &a, &b);
    v_store(v + ps, a);
    v_store(v + 2 * ps, b);
    bt34(d[1], d[2], d[3], d[4], &a, &b);
    v_store(v + 3 * ps, a);
    v_store(v + 4 * ps, b);
    v_store(v + 5 * ps, bt0(d[1], d[3], d[5]));
}

/* At: products 6 -> outputs 4. */
INLINE void at(vf m0, vf m1, vf m2, vf m3, vf m4, vf m5, vf y[4])
{
    const vf s1 = v_add(m1, m2), d1 = v_sub(m1, m2), s2 = v_add(m3, m4), d2 = v_sub(m3, m4);
    y[0] = v_add(v_add(m0, s1), s2);
    y[1] = plus(PB, d2, times(PA, d1));
    y[2] = plus(B2, s2, times(A2, s1));
    y[3] = plus(PB * B2, d2, plus(PA * A2, d1, m5));
}

/* A: output gradient 4 -> 6. */
INLINE void a4(vf y0, vf y1, vf y2, vf y3, vf o[6])
{
    const vf e = plus(A2, y2, y0), f = plus(A2, y3, y1), g = plus(B2, y2, y0), h = plus(B2, y3, y1);
    o[0] = y0;
    o[1] = plus(PA, f, e);
    o[2] = minus(PA, f, e);
    o[3] = plus(PB, h, g);
    o[4] = minus(PB, h, g);
    o[5] = y3;
}

/* G: filter 3 -> 6. */
INLINE void g3(vf a, vf b, vf c, vf o[6])
{
    const vf s = plus(NA * A2, c, times(NA, a)), t = plus(NB * B2, c, times(NB, a));
    o[0] = times(N0, a);
    o[1] = plus(NA * PA, b, s);
    o[2] = minus(NA * PA, b, s);
    o[3] = plus(NB * PB, b, t);
    o[4] = minus(NB * PB, b, t);
    o[5] = c;
}

/* Gt: accumulated products 6 -> filter gradient 3. */
INLINE void gt(const vf m[6], vf o[3])
{
    const vf s1 = v_add(m[1], m[2]), d1 = v_sub(m[1], m[2]);
    const vf s2 = v_add(m[3], m[4]), d2 = v_sub(m[3], m[4]);
    o[0] = plus(NA, s1, plus(NB, s2, times(N0, m[0])));
    o[1] = plus(NA * PA, d1, times(NB * PB, d2));
    o[2] = plus(NA * A2, s1, plus(NB * B2, s2, m[5]));
}

/* ---- two dimensions, VL channels at a time --------------------------------------------------- */

/* Bt d B. Two rows of the first pass at a time: their six columns stay in registers, where all 36
 * would spill; reading the input again is cheaper, it is in L1 and loads are free here. */
INLINE void input_tile(const float *const e[36], int64_t off, vmask m, float *v, int64_t ps)
{
#define D(i, j) v_load_m(e[(i)*6 + (j)] + off, m)
    vf r[6], s[6];

    UNROLL for (int j = 0; j < 6; j++) r[j] = bt0(D(0, j), D(2, j), D(4, j));
    bt_row(r, v, ps);
    UNROLL for (int j = 0; j < 6; j++) bt12(D(1, j), D(2, j), D(3, j), D(4, j), &r[j], &s[j]);
    bt_row(r, v + 6 * ps, ps);
    bt_row(s, v + 12 * ps, ps);
    UNROLL for (int j = 0; j < 6; j++) bt34(D(1, j), D(2, j), D(3, j), D(4, j), &r[j], &s[j]);
    bt_row(r, v + 18 * ps, ps);
    bt_row(s, v + 24 * ps, ps);
    UNROLL for (int j = 0; j < 6; j++) r[j] = bt0(D(1, j), D(3, j), D(5, j));
    bt_row(r, v + 30 * ps, ps);
#undef D
}

/* A dy At: the 6 x 4 values of the first pass fit the registers. */
INLINE void gradient_tile(const float *const e[16], int64_t off, vmask m, float *v, int64_t ps)
{
    vf c[4][6], o[6];

    UNROLL for (int j = 0; j < 4; j++)
    {
        vf d[4];
        UNROLL for (int i = 0; i < 4; i++) d[i] = v_load_m(e[i * 4 + j] + off, m);
        a4(d[0], d[1], d[2], d[3], c[j]);
    }
    UNROLL for (int i = 0; i < 6; i++)
    {
        a4(c[0][i], c[1][i], c[2][i], c[3][i], o);
        UNROLL for (int j = 0; j < 6; j++) v_store(v + (i * 6 + j) * ps, o[j]);
    }
}

/* G g Gt. */
INLINE void filter_tile(const vf g[9], float *u, int64_t ps)
{
    vf c[3][6], o[6];

    UNROLL for (int j = 0; j < 3; j++) g3(g[j], g[3 + j], g[6 + j], c[j]);
    UNROLL for (int i = 0; i < 6; i++)
    {
        g3(c[0][i], c[1][i], c[2][i], o);
        UNROLL for (int j = 0; j < 6; j++) v_store(u + (i * 6 + j) * ps, o[j]);
    }
}

/* Gt dU G. */
INLINE void inverse_tile(const float *du, int64_t ps, vf w[9])
{
    vf r[6][3];

    UNROLL for (int j = 0; j < 6; j++)
    {
        vf d[6];
        UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(du + (i * 6 + j) * ps);
        gt(d, r[j]);
    }
    UNROLL for (int i = 0; i < 3; i++)
    {
        const vf d[6] = {r[0][i], r[1][i], r[2][i], r[3][i], r[4][i], r[5][i]};
        gt(d, w + 3 * i);
    }
}

/* What becomes of an output vector. */
typedef struct {
    bool plain, relu, sums; /* plain: nothing is done */
    vf bias, sum, square;
} wino_exit;

/* At m A, written where the tile lies inside the image (rows x cols of 4 x 4). */
INLINE void output_tile(const float *v, int64_t ps, float *y, int64_t row, int64_t col,
                        int64_t rows, int64_t cols, vmask m, wino_exit *e)
{
    vf c[6][4], o[4];

    UNROLL for (int j = 0; j < 6; j++)
    {
        vf d[6];
        UNROLL for (int i = 0; i < 6; i++) d[i] = v_load(v + (i * 6 + j) * ps);
        at(d[0], d[1], d[2], d[3], d[4], d[5], c[j]);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        if (i >= rows) break;
        at(c[0][i], c[1][i], c[2][i], c[3][i], c[4][i], c[5][i], o);
        UNROLL for (int j = 0; j < 4; j++)
        {
            if (j >= cols) break;
            if (!e->plain) {
                o[j] = v_add(o[j], e->bias);
                if (e->sums) {
                    e->sum = v_add(e->sum, o[j]);
                    e->square = v_fma(o[j], o[j], e->square);
                }
                if (e->relu) o[j] = v_relu(o[j]);
            }
            v_store_m(y + i * row + j * col, m, o[j]);
        }
    }
}

#endif
