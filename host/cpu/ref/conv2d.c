/*
 * conv2d.c - reference for convolution, its adjoints and its fused forms.
 *
 *   y[n,k,p,q] = sum over r,s,c of
 *                x[n, c0+c, p*stride + r*dilation - pad, q*stride + …] * w[k,c,r,s],
 *   c0 the first channel of k's group. Elements outside of x are zero.
 */
#include "cpu/ref/ref.h"

typedef struct {
    const int64_t *x, *w, *y; /* extents [N,C,H,W], [K,C/G,R,S], [N,K,P,Q] */
    const int *stride, *pad, *dilation;
    int groups;
} geometry;

/* The taps of output (n, k, p, q), y of it: the product of y and x or w into the other, `into`. */
static void walk_taps(const geometry *g, double *x, double *w, double y, const double *into,
                      const int64_t at[4])
{
    const int64_t *X = g->x, *W = g->w;
    const int64_t c0 = at[1] / (W[0] / g->groups) * W[1];

    for (int64_t c = 0; c < W[1]; c++)
        for (int64_t r = 0; r < W[2]; r++) {
            const int64_t row = at[2] * g->stride[0] + r * g->dilation[0] - g->pad[0];
            if (row < 0 || row >= X[2]) continue;

            double *xr = &x[((at[0] * X[1] + c0 + c) * X[2] + row) * X[3]];
            double *wr = &w[((at[1] * W[1] + c) * W[2] + r) * W[3]];
            for (int64_t s = 0; s < W[3]; s++) {
                const int64_t col = at[3] * g->stride[1] + s * g->dilation[1] - g->pad[1];
                if (col < 0 || col >= X[3]) continue;
                if (into == x) xr[col] += y * wr[s];
                else wr[s] += xr[col] * y;
            }
        }
}

/* Visits every (x, w, y) that meet. */
static void walk(const geometry *g, double *x, double *w, const double *y, const double *into)
{
    const int64_t *Y = g->y;

    for (int64_t n = 0; n < Y[0]; n++)
        for (int64_t k = 0; k < Y[1]; k++)
            for (int64_t p = 0; p < Y[2]; p++)
                for (int64_t q = 0; q < Y[3]; q++)
                    walk_taps(g, x, w, *y++, into, (int64_t[]){n, k, p, q});
}

/* Element i of conv2d(x, w). */
static double element(const geometry *g, const double *x, const double *w, int64_t i)
{
    const int64_t *X = g->x, *W = g->w, *Y = g->y;
    const int64_t q = i % Y[3], p = i / Y[3] % Y[2], k = i / Y[3] / Y[2] % Y[1];
    const int64_t n = i / Y[3] / Y[2] / Y[1], c0 = k / (W[0] / g->groups) * W[1];
    double sum = 0;

    for (int64_t c = 0; c < W[1]; c++)
        for (int64_t r = 0; r < W[2]; r++) {
            const int64_t row = p * g->stride[0] + r * g->dilation[0] - g->pad[0];
            if (row < 0 || row >= X[2]) continue;

            const double *xr = &x[((n * X[1] + c0 + c) * X[2] + row) * X[3]];
            const double *wr = &w[((k * W[1] + c) * W[2] + r) * W[3]];
            for (int64_t s = 0; s < W[3]; s++) {
                const int64_t col = q * g->stride[1] + s * g->dilation[1] - g->pad[1];
                if (col >= 0 && col < X[3]) sum += xr[col] * wr[s];
            }
        }
    return sum;
}

static void zero(const ti_work *w, int k, ti_vec out)
{
    for (int64_t i = 0; i < w->out[k].count; i++) out[k][i] = 0;
}

#define DIM(v) (v).m.shape.dim

static geometry plain(const ti_work *w, const ti_view *x, const ti_view *f, const ti_view *y)
{
    const tern_conv2d_opts *o = w->opts;

    return (geometry){DIM(*x), DIM(*f), DIM(*y), o->stride, o->pad, o->dilation, o->groups};
}

static void conv(const ti_work *w, ti_vec in, ti_vec out)
{
    const geometry g = plain(w, &w->in[0], &w->in[1], &w->out[0]);

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = element(&g, in[0], in[1], i);
}

static void conv_dx(const ti_work *w, ti_vec in, ti_vec out)
{
    const geometry g = plain(w, &w->out[0], &w->in[1], &w->in[0]);

    zero(w, 0, out);
    walk(&g, out[0], in[1], in[0], out[0]);
}

static void conv_dw(const ti_work *w, ti_vec in, ti_vec out)
{
    const geometry g = plain(w, &w->in[0], &w->out[0], &w->in[1]);

    zero(w, 0, out);
    walk(&g, in[0], out[0], in[1], out[0]);
}

static geometry fused(const ti_work *w, const ti_view *y)
{
    const tern_conv2d_act_opts *o = w->opts;

    return (geometry){DIM(w->in[0]), DIM(w->in[1]), DIM(*y),  o->stride,
                      o->pad,        o->dilation,   o->groups};
}

/* act(conv2d(x, w) + b) at element i. */
static double activated(const geometry *g, int act, ti_vec in, int64_t i)
{
    const double z = element(g, in[0], in[1], i);

    return ti_act_of(act, in[2] ? z + in[2][i / (g->y[2] * g->y[3]) % g->y[1]] : z);
}

static void conv_act(const ti_work *w, ti_vec in, ti_vec out)
{
    const int act = ((const tern_conv2d_act_opts *)w->opts)->act;
    const geometry g = fused(w, &w->out[0]);

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = activated(&g, act, in, i);
}

/* x w b gy [y]: h = gy act'(z), in gy's own place; then the adjoints at h (db is 0 without b). */
static void conv_act_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const int act = ((const tern_conv2d_act_opts *)w->opts)->act;
    const geometry g = fused(w, &w->in[3]);
    double *h = in[3];

    for (int64_t i = 0; act != TERN_ACT_NONE && i < w->in[3].count; i++)
        h[i] = ti_act_back(act, in[4] ? in[4][i] : activated(&g, act, in, i), h[i]);
    for (int k = 0; k < 3; k++)
        if (out[k]) zero(w, k, out);
    if (out[0]) walk(&g, out[0], in[1], h, out[0]);
    if (out[1]) walk(&g, in[0], out[1], h, out[1]);
    for (int64_t i = 0; out[2] && in[2] && i < w->in[3].count; i++)
        out[2][i / (g.y[2] * g.y[3]) % g.y[1]] += h[i];
}

/* Sums are in double: one chain of such roundings, which in f64 is what counts. The last value of
 * each is the longest sum of the op. */
static double longest(const ti_work *w, double n)
{
    return w->in[0].m.type == TERN_F64 ? n + 2 : 2;
}
static double taps(const ti_work *w)
{
    const int64_t *f = DIM(w->in[1]);

    return longest(w, (double)(f[1] * f[2] * f[3]));
}
static double dx_taps(const ti_work *w)
{
    const int64_t *f = DIM(w->in[1]);

    return longest(w, (double)(f[0] * f[2] * f[3]));
}
static double dw_taps(const ti_work *w)
{
    const int64_t *y = DIM(w->in[1]);

    return longest(w, (double)(y[0] * y[2] * y[3]));
}
static double act_d_taps(const ti_work *w)
{
    const int64_t *y = DIM(w->in[3]);

    return fmax(fmax(taps(w), dx_taps(w)), longest(w, (double)(y[0] * y[2] * y[3])));
}

const ti_row ti_ref_conv2d[] = {
    {.op = "conv2d", .impl = "ref", .body = conv, .chain = taps},
    {.op = "conv2d_dx", .impl = "ref", .body = conv_dx, .chain = dx_taps},
    {.op = "conv2d_dw", .impl = "ref", .body = conv_dw, .chain = dw_taps},
    {.op = "conv2d_act", .impl = "ref", .body = conv_act, .chain = taps},
    {.op = "conv2d_act_d", .impl = "ref", .body = conv_act_d, .chain = act_d_taps},
    {.op = NULL},
};
