/* gather.c - gathers of the three passes, their regions, and copying their rows (gather.h). */
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
        .taps_w = v->s,
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
    while (g.taps_w < g.n_taps && taps[g.taps_w].dh == taps[0].dh) g.taps_w++;
    return g;
}

/* ---- Regions ---- */

enum { WEIGHTS_ROWS = 32 }; /* streaming the weights costs as much as so many rows' products */

static int64_t n_rows(const gather_region *r) { return r->h.n_rows * r->w.n_rows; }
static int64_t n_taps(const gather_region *r) { return r->h.n_taps * r->w.n_taps; }

/* Whether tap t of a row of taps, or of a column, is inside the image at row i of the grid. */
static bool inside(const gather *g, bool columns, int64_t i, int64_t t)
{
    const int64_t at = columns ? g->src_w0 + i * g->src_dw + g->taps[t].dw
                               : g->src_h0 + i * g->src_dh + g->taps[t * g->taps_w].dh;

    return at >= 0 && at < (columns ? g->src_w : g->src_h);
}

/* An axis of the grid, cut where the taps inside the image change. 0: too many cuts. */
static int cut(const gather *g, bool columns, gather_stretch whole, gather_stretch to[GATHER_CUTS])
{
    int cuts = 0;

    for (int64_t i = 0; i < whole.n_rows; i++) {
        int64_t from = 0, end = whole.n_taps;
        while (from < end && !inside(g, columns, i, from)) from++;
        while (end > from && !inside(g, columns, i, end - 1)) end--;
        if (from == end) from = 0, end = 1; /* the pixels of one tap, which are read as zeros */
        if (cuts > 0 && to[cuts - 1].tap == from && to[cuts - 1].n_taps == end - from) {
            to[cuts - 1].n_rows++;
            continue;
        }
        if (cuts == GATHER_CUTS) return 0;
        to[cuts++] = (gather_stretch){i, 1, from, end - from};
    }
    return cuts;
}

int gather_regions(const gather *g, gather_region to[GATHER_REGIONS])
{
    const gather_region whole = {{0, g->rows_h, 0, g->n_taps / g->taps_w},
                                 {0, g->rows_w, 0, g->taps_w}};
    gather_stretch h[GATHER_CUTS], w[GATHER_CUTS];
    const int n_h = cut(g, false, whole.h, h), n_w = cut(g, true, whole.w, w);
    int64_t cost = 0;

    for (int i = 0; i < n_h * n_w; i++) {
        to[i] = (gather_region){h[i / n_w], w[i % n_w]};
        cost += (g->n * n_rows(&to[i]) + WEIGHTS_ROWS) * n_taps(&to[i]);
    }
    /* Depths are whole vectors, so taps must be, too. */
    if (g->src_c % VL == 0 && n_h * n_w > 0 &&
        cost < (g->n * n_rows(&whole) + WEIGHTS_ROWS) * g->n_taps)
        return n_h * n_w;
    to[0] = whole;
    return 1;
}

gather gather_part(const gather *g, const gather_region *r, gather_tap *taps)
{
    gather part = *g;

    part.rows_h = r->h.n_rows;
    part.rows_w = r->w.n_rows;
    part.out_h0 += r->h.row * g->out_dh;
    part.out_w0 += r->w.row * g->out_dw;
    part.src_h0 += r->h.row * g->src_dh;
    part.src_w0 += r->w.row * g->src_dw;
    part.n_taps = n_taps(r);
    part.taps_w = r->w.n_taps;
    part.taps = taps;
    for (int64_t i = 0; i < part.n_taps; i++)
        taps[i] = g->taps[(r->h.tap + i / part.taps_w) * g->taps_w + r->w.tap + i % part.taps_w];
    return part;
}

/* ---- Rows ---- */

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

/* The row behind (n, i, j). */
static void step(const gather *g, int64_t *n, int64_t *i, int64_t *j)
{
    if (++*j < g->rows_w) return;
    *j = 0;
    if (++*i < g->rows_h) return;
    *i = 0;
    ++*n;
}

static int64_t pixel(const gather *g, int64_t n, int64_t i, int64_t j)
{
    const int64_t h = n * g->out_h + g->out_h0 + i * g->out_dh;

    return (h * g->out_w + g->out_w0 + j * g->out_dw) * g->out_ld;
}

void gather_pixels(const gather *g, int64_t t0, int64_t n_t, int64_t *at)
{
    int64_t j = t0 % g->rows_w, i = t0 / g->rows_w % g->rows_h, n = t0 / (g->rows_w * g->rows_h);

    for (int64_t t = 0; t < n_t; t++, step(g, &n, &i, &j)) at[t] = pixel(g, n, i, j);
}

void gather_rows(const gather *g, const float *src, int64_t t0, int64_t n_t, int64_t u0, int64_t u1,
                 float *a, float *y, float **out)
{
    int64_t j = t0 % g->rows_w, i = t0 / g->rows_w % g->rows_h, n = t0 / (g->rows_w * g->rows_h);
    const int64_t ahead = 8 * g->src_dw * g->src_ld; /* the hardware does not foresee these */

    for (int64_t t = 0; t < n_t; t++, step(g, &n, &i, &j)) {
        const int64_t h = g->src_h0 + i * g->src_dh, w = g->src_w0 + j * g->src_dw;
        const float *image = src + n * g->src_h * g->src_w * g->src_ld;

        put_taps(g, image, h, w, u0, u1, a, n_t, t);
        if (u1 - u0 == 1)
            for (int64_t c = 0; c < g->src_c; c += 16)
                __builtin_prefetch(image + (h * g->src_w + w) * g->src_ld + ahead + c);
        if (out) {
            out[t] = y + pixel(g, n, i, j);
            for (int64_t c = 0; c < g->out_c; c += 16) /* fetched for writing while we pack */
                __builtin_prefetch(out[t] + c, 1);
        }
    }
}
