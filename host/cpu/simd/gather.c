/* gather.c - gathers of the three passes, and copying their rows (gather.h). */
#include "gather.h"

gather gather_fwd(const ti_conv *v, gather_tap *taps)
{
    for (int64_t i = 0; i < v->r * v->s; i++)
        taps[i] = (gather_tap){i / v->s * v->dilation[0], i % v->s * v->dilation[1], i};
    return (gather){
        .n = v->n,
        .rows_h = v->p,
        .rows_w = v->q,
        .out_h = v->p,
        .out_w = v->q,
        .out_ld = v->k,
        .out_c = v->k / v->groups,
        .out_dh = 1,
        .out_dw = 1,
        .src_h = v->h,
        .src_w = v->w,
        .src_ld = v->c,
        .src_c = v->c / v->groups,
        .src_h0 = -v->pad[0],
        .src_w0 = -v->pad[1],
        .src_dh = v->stride[0],
        .src_dw = v->stride[1],
        .n_taps = v->r * v->s,
        .joined = v->dilation[1] == 1 && v->groups == 1,
        .taps = taps,
    };
}

gather gather_dx(const ti_conv *v, int64_t a, int64_t b, gather_tap *taps)
{
    gather g = {
        .n = v->n,
        .rows_h = ceil_div(v->h - a, v->stride[0]),
        .rows_w = ceil_div(v->w - b, v->stride[1]),
        .out_h = v->h,
        .out_w = v->w,
        .out_ld = v->c,
        .out_c = v->c / v->groups,
        .out_h0 = a,
        .out_w0 = b,
        .out_dh = v->stride[0],
        .out_dw = v->stride[1],
        .src_h = v->p,
        .src_w = v->q,
        .src_ld = v->k,
        .src_c = v->k / v->groups,
        .src_dh = 1,
        .src_dw = 1,
        .taps = taps,
    };
    for (int64_t i = 0; i < v->r * v->s; i++) {
        const int64_t y = a + v->pad[0] - i / v->s * v->dilation[0];
        const int64_t x = b + v->pad[1] - i % v->s * v->dilation[1];
        if (y % v->stride[0] == 0 && x % v->stride[1] == 0)
            taps[g.n_taps++] = (gather_tap){y / v->stride[0], x / v->stride[1], i};
    }
    return g;
}

/* One row; zeros outside the image. Taps that lie side by side are copied in one go. */
static void put_taps(const gather *g, const float *image, int64_t h0, int64_t w0, int64_t u0,
                     int64_t u1, float *a, int64_t n_t, int64_t t)
{
    int64_t d = 0, run;

    for (int64_t u = u0; u < u1; u += run, d += run * g->src_c) {
        const int64_t h = h0 + g->taps[u].dh, w = w0 + g->taps[u].dw;
        const bool row = h >= 0 && h < g->src_h;
        for (run = 1; g->joined && u + run < u1 && g->taps[u + run].dh == g->taps[u].dh; run++) {
        }
        if (!row || (w >= 0 && w + run <= g->src_w)) {
            const float *src = row ? image + (h * g->src_w + w) * g->src_ld : NULL;
            gather_put(a, n_t, t, d, src, run * g->src_c);
            continue;
        }
        for (int64_t i = 0; i < run; i++) {
            const bool inside = w + i >= 0 && w + i < g->src_w;
            const float *src = inside ? image + (h * g->src_w + w + i) * g->src_ld : NULL;
            gather_put(a, n_t, t, d + i * g->src_c, src, g->src_c);
        }
    }
    gather_put(a, n_t, t, d, NULL, round_up(d, VL) - d);
}

void gather_rows(const gather *g, const float *src, int64_t t0, int64_t n_t, int64_t u0, int64_t u1,
                 float *a, float *y, float **out)
{
    int64_t j = t0 % g->rows_w, i = t0 / g->rows_w % g->rows_h, n = t0 / (g->rows_w * g->rows_h);
    const int64_t ahead = 8 * g->src_dw * g->src_ld; /* the hardware does not foresee these */

    for (int64_t t = 0; t < n_t; t++) {
        const int64_t h = g->src_h0 + i * g->src_dh, w = g->src_w0 + j * g->src_dw;
        const float *image = src + n * g->src_h * g->src_w * g->src_ld;

        put_taps(g, image, h, w, u0, u1, a, n_t, t);
        if (u1 - u0 == 1)
            for (int64_t c = 0; c < g->src_c; c += 16)
                __builtin_prefetch(image + (h * g->src_w + w) * g->src_ld + ahead + c);
        if (out) {
            out[t] = y + ((n * g->out_h + g->out_h0 + i * g->out_dh) * g->out_w + g->out_w0 +
                          j * g->out_dw) *
                             g->out_ld;
            for (int64_t c = 0; c < g->out_c; c += 16) /* fetched for writing while we pack */
                __builtin_prefetch(out[t] + c, 1);
        }
        if (++j == g->rows_w) {
            j = 0;
            if (++i == g->rows_h) {
                i = 0;
                n++;
            }
        }
    }
}
