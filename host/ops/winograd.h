/*
 * winograd.h - sizes of what a convolution by Winograd adds up: for bounds.
 *
 * Such a kernel computes, per tile and axis, y_o = sum_i At[o,i] (sum_p Bt[i,p] x_p)
 * (sum_r G[i,r] w_r). Its rounding errors follow not |x| |w| of the taps that remain in the end,
 * but all that cancels on the way: sum_p,r K_o[p,r] |x_p| |w_r|, K_o[p,r] = sum_i |At[o,i]|
 * |Bt[i,p]| |G[i,r]|. With d = p - stride o, the distance between pixel and output, and the largest
 * K over the outputs o of a tile,
 *
 *   M[d,r] = max_o K_o[stride o + d, r],
 *
 * that is a convolution of |x| with the wider filter M |w| M'. The adjoints have the same K: for dx
 * the filter is turned by 180 degrees, so M is, too; for dw the wider correlation of |x| and |dy|
 * is taken together by M' ... M.
 *
 * Rows of class TI_WINOGRAD use F(4x4, 3x3) over the points 0, +-5/8, +-3/2 and infinity for
 * stride 1; for stride 2 F(4, 2) over +-1/2, +-5/4 and infinity on every other pixel, and the
 * middle tap on those between. They take 3x3 filters only.
 */
#ifndef TI_OPS_WINOGRAD_H
#define TI_OPS_WINOGRAD_H

#include <math.h>

#include "core/op.h"

/* Distances that M covers, for stride 1 and 2; how much farther than a 3x3 filter on each side. */
enum { TI_WINO_1 = 9, TI_WINO_2 = 15 };
static inline int ti_winograd_reach(int stride) { return stride == 2 ? 6 : 3; }
static inline int ti_winograd_width(int stride) { return stride == 2 ? TI_WINO_2 : TI_WINO_1; }

/* Sizes of the transforms' entries. Points +-a, +-b, then infinity; with `zero` the point 0 first:
 * F(4, 3) on 6 pixels, without it F(4, 2) on 5. */
typedef struct {
    int n, taps;
    double at[4][6], bt[6][6], g[6][3];
} ti_winograd;

static inline ti_winograd ti_winograd_sizes(bool zero, double a, double b)
{
    const double point[4] = {a, a, b, b}, a2 = a * a, b2 = b * b;
    ti_winograd w = {.n = zero ? 6 : 5, .taps = zero ? 3 : 2};
    const int first = zero ? 1 : 0, last = w.n - 1;

    if (zero) {
        w.at[0][0] = w.bt[0][4] = 1;
        w.bt[0][0] = a2 * b2;
        w.bt[0][2] = a2 + b2;
        w.g[0][0] = 1 / (a2 * b2);
    }
    for (int i = 0; i < 4; i++) {
        const double p = point[i], other = i < 2 ? b2 : a2;
        /* the polynomial without this point, times x where 0 is a point */
        const double norm = 1 / (2 * p * fabs(p * p - other) * (zero ? p : 1));
        const double bt[4] = {p * other, other, p, 1};

        for (int o = 0; o < 4; o++) w.at[o][first + i] = pow(p, o);
        for (int k = 0; k < 4; k++) w.bt[first + i][first + k] = bt[k];
        for (int r = 0; r < w.taps; r++) w.g[first + i][r] = norm * pow(p, r);
    }
    w.at[3][last] = w.g[last][w.taps - 1] = 1;
    w.bt[last][first] = a2 * b2;
    w.bt[last][first + 2] = a2 + b2;
    w.bt[last][first + 4] = 1;
    return w;
}

/* M[d + reach][r]. */
static inline void ti_winograd_spread(int stride, double m[][3])
{
    const ti_winograd w =
        stride == 2 ? ti_winograd_sizes(false, 0.5, 1.25) : ti_winograd_sizes(true, 0.625, 1.5);
    const int reach = ti_winograd_reach(stride);

    for (int j = 0; j < ti_winograd_width(stride); j++) m[j][0] = m[j][1] = m[j][2] = 0;
    if (stride == 2) m[reach + 1][1] = 1;
    for (int o = 0; o < 4; o++)
        for (int p = 0; p < w.n; p++)
            for (int r = 0; r < w.taps; r++) {
                double *at = &m[stride * (p - o) + reach][stride * r], k = 0;

                for (int i = 0; i < w.n; i++) k += w.at[o][i] * w.bt[i][p] * w.g[i][r];
                if (k > *at) *at = k;
            }
}

/* M as a tensor [width, 3], turned or not. */
static inline tern_tensor *ti_winograd_matrix(tern_ctx *ctx, int stride, bool turned)
{
    const int n = ti_winograd_width(stride);
    double m[TI_WINO_2][3], x[TI_WINO_2 * 3];

    ti_winograd_spread(stride, m);
    for (int j = 0; j < n; j++)
        for (int r = 0; r < 3; r++) x[j * 3 + r] = turned ? m[n - 1 - j][2 - r] : m[j][r];
    return tern_from_doubles(ctx, TERN_F64, x, TI_SHAPE(n, 3));
}

/* m' along both last axes of w: [K,C,a,a] and m [a,b] give [K,C,b,b]. */
static inline tern_tensor *ti_winograd_both(tern_ctx *ctx, tern_tensor *w, tern_tensor *m)
{
    const tern_shape s = tern_shape_of(w);
    const int64_t kc = s.dim[0] * s.dim[1], a = s.dim[2], b = tern_shape_of(m).dim[1];
    const tern_permute_opts turn = {{0, 2, 1}};

    w = tern_matmul(ctx, tern_reshape(ctx, w, TI_SHAPE(kc * a, a)), m);
    w = tern_permute(ctx, tern_reshape(ctx, w, TI_SHAPE(kc, a, b)), &turn);
    w = tern_matmul(ctx, tern_reshape(ctx, w, TI_SHAPE(kc * b, a)), m);
    w = tern_permute(ctx, tern_reshape(ctx, w, TI_SHAPE(kc, b, b)), &turn);
    return tern_reshape(ctx, w, TI_SHAPE(s.dim[0], s.dim[1], b, b));
}

/* The sizes of what is added up in conv2d, conv2d_dx or conv2d_dw of |a| and |b| by a kernel of
 * this class; o: for conv2d_dx and conv2d_dw with the result's shape. */
typedef enum { TI_SIZE_Y, TI_SIZE_DX, TI_SIZE_DW } ti_conv_size;
static inline tern_tensor *ti_conv2d_size(tern_ctx *ctx, ti_conv_size what, ti_class numbers,
                                          tern_tensor *a, tern_tensor *b, tern_conv2d_opts o)
{
    const bool spread = numbers == TI_WINOGRAD;
    const int stride = o.stride[0];
    tern_tensor *m = spread ? ti_winograd_matrix(ctx, stride, what == TI_SIZE_DX) : NULL, *y;

    a = tern_abs(ctx, a);
    b = tern_abs(ctx, b);
    for (int k = 0; spread && k < 2; k++) o.pad[k] += ti_winograd_reach(stride);
    if (what == TI_SIZE_DW) {
        for (int k = 2; spread && k < 4; k++) o.shape[k] = ti_winograd_width(stride);
        y = tern_conv2d_dw(ctx, a, b, &o);
        return spread ? ti_winograd_both(ctx, y, m) : y;
    }
    if (spread) b = ti_winograd_both(ctx, b, tern_transpose(ctx, m, 0, 1));
    return what == TI_SIZE_Y ? tern_conv2d(ctx, a, b, &o) : tern_conv2d_dx(ctx, a, b, &o);
}

#endif
