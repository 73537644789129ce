/*
 * norm.c - batch norm, f32, channels innermost: one pass over x for the statistics, one to apply,
 * which also adds and cuts in bn_add_act; the derivative has the same two.
 *
 * Pixels are cut into at most 64 chunks, by the shape only; each adds up its channels in double,
 * from a pivot (the first pixel), then the chunks are added in order.
 */
#include <math.h>
#include <string.h>

#include "cpu/fast.h"
#include "cpu/simd/norms.h"

enum { CHUNKS = 64 };

typedef struct {
    const ti_work *w;
    const ti_norms *loops;
    int64_t pixels, C, each, chunks;
    double eps, momentum;
    const float *x, *r;
    ti_cotangent g;
    bool relu;
    float *y, *dr;
    /* Scratch: sums of the chunks, their totals, and vectors over channels. */
    double *part, *sum[2], *pivot;
    float *mean, *gain, *beta, *slope;
} norm;

static norm norm_of(const ti_work *w)
{
    const tern_shape *s = &w->in[0].m.shape;
    norm o = {.w = w, .C = s->dim[1], .x = TI_F(w->in[0])};
    const int64_t C = o.C;

    o.loops = ti_norms_for(ti_cpu_simd(w->device)->name);
    o.pixels = C ? w->in[0].count / C : 0;
    o.each = o.pixels > 0 ? (o.pixels - 1) / CHUNKS + 1 : 1;
    if (o.each < ti_items_of(0.4 * (double)C)) o.each = ti_items_of(0.4 * (double)C);
    o.chunks = (o.pixels + o.each - 1) / o.each;
    o.part = w->scratch;
    if (!w->scratch) return o;
    for (int i = 0; i < 2; i++) o.sum[i] = o.part + o.chunks * 2 * C + i * C;
    o.pivot = o.sum[1] + C;
    o.mean = (float *)(void *)(o.pivot + C);
    o.gain = o.mean + C;
    o.beta = o.gain + C;
    o.slope = o.beta + C;
    return o;
}

static size_t scratch(const ti_work *w)
{
    const norm o = norm_of(w);

    return (size_t)o.C * ((size_t)(2 * o.chunks + 3) * sizeof(double) + 4 * sizeof(float));
}

static void total(norm *o)
{
    for (int64_t j = 0; j < 2 * o->C; j++) {
        double s = 0;
        for (int64_t i = 0; i < o->chunks; i++) s += o->part[i * 2 * o->C + j];
        o->sum[0][j] = s; /* sum[1] follows sum[0] */
    }
}

static void moments_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const norm *o = arg;
    double *part = o->part + from / o->each * 2 * o->C;

    (void)i_worker;
    memset(part, 0, (size_t)(2 * o->C) * sizeof(double));
    o->loops->moments(to - from, o->C, o->x + from * o->C, o->pivot, part, part + o->C);
}

/* The batch's mean and biased variance, in double, into sum[0] and sum[1]. */
static void moments(norm *o)
{
    const double n = (double)o->pixels;

    for (int64_t c = 0; c < o->C; c++) o->pivot[c] = (double)o->x[c];
    ti_run_ranges(o->w->device, o->pixels, o->each, moments_some, o);
    total(o);
    for (int64_t c = 0; c < o->C; c++) {
        const double d = o->sum[0][c] / n, v = o->sum[1][c] / n - d * d;
        o->sum[0][c] = o->pivot[c] + d;
        o->sum[1][c] = v < 0 ? 0 : v; /* NaN stays */
    }
}

static void apply_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const norm *o = arg;

    (void)i_worker;
    o->loops->normalise(to - from, o->C, o->x + from * o->C, o->mean, o->gain, o->beta,
                        o->r ? o->r + from * o->C : NULL, o->relu, o->y + from * o->C);
}

/* mean, var: the running statistics. */
static void forward(norm *o, const ti_view *mean_view, const ti_view *var_view)
{
    const ti_work *w = o->w;
    const float *gamma = TI_F(w->in[1]), *beta = TI_F(w->in[2]);
    const double n = (double)o->pixels, m = o->momentum;

    moments(o);
    for (int64_t c = 0; c < o->C; c++) {
        const double mean = o->sum[0][c], var = o->sum[1][c], inv = 1 / sqrt(var + o->eps);
        o->mean[c] = (float)mean;
        o->gain[c] = (float)((double)gamma[c] * inv);
        o->beta[c] = beta[c];
        if (w->out[1].count > 0)
            TI_F(w->out[1])[c] = (float)((1 - m) * (double)TI_F(*mean_view)[c] + m * mean);
        if (w->out[2].count > 0) TI_F(w->out[2])
        [c] = (float)((1 - m) * (double)TI_F(*var_view)[c] + m * var * n / (n - 1));
        if (w->out[3].count > 0) TI_F(w->out[3])[c] = o->mean[c];
        if (w->out[4].count > 0) TI_F(w->out[4])[c] = (float)inv;
    }
    o->y = TI_F(w->out[0]);
    if (w->out[0].count > 0) ti_run_ranges(w->device, o->pixels, o->each, apply_some, o);
}

static void batch_norm(const ti_work *w)
{
    const tern_batch_norm_opts *opts = w->opts;
    norm o = norm_of(w);

    o.eps = opts->eps;
    o.momentum = opts->momentum;
    forward(&o, &w->in[3], &w->in[4]);
}

static void bn_add_act(const ti_work *w)
{
    const tern_bn_add_act_opts *opts = w->opts;
    norm o = norm_of(w);

    o.eps = opts->eps;
    o.momentum = opts->momentum;
    o.r = w->in[3].count >= 0 ? TI_F(w->in[3]) : NULL;
    o.relu = opts->act == TERN_RELU;
    forward(&o, &w->in[4], &w->in[5]);
}

static void batch_norm_eval(const ti_work *w)
{
    const double eps = ((const tern_batch_norm_opts *)w->opts)->eps;
    norm o = norm_of(w);

    for (int64_t c = 0; c < o.C; c++) {
        o.mean[c] = TI_F(w->in[3])[c];
        o.gain[c] = (float)((double)TI_F(w->in[1])[c] / sqrt((double)TI_F(w->in[4])[c] + eps));
        o.beta[c] = TI_F(w->in[2])[c];
    }
    o.y = TI_F(w->out[0]);
    ti_run_ranges(w->device, o.pixels, o.each, apply_some, &o);
}

/* ---- batch_norm_d(x, gamma, beta, -, -, gy, mean, inv) ---- */

static ti_cotangent cotangent_from(const norm *o, int64_t from)
{
    const ti_cotangent *g = &o->g;

    from *= o->C;
    return (ti_cotangent){g->g + from, g->g2 ? g->g2 + from : NULL, g->y ? g->y + from : NULL};
}

static void moments_back_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const norm *o = arg;
    const ti_cotangent g = cotangent_from(o, from);
    double *part = o->part + from / o->each * 2 * o->C;

    (void)i_worker;
    memset(part, 0, (size_t)(2 * o->C) * sizeof(double));
    o->loops->moments_back(to - from, o->C, o->x + from * o->C, &g, o->mean, part, part + o->C,
                           o->dr ? o->dr + from * o->C : NULL);
}

static void apply_back_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const norm *o = arg;
    const ti_cotangent g = cotangent_from(o, from);

    (void)i_worker;
    o->loops->normalise_back(to - from, o->C, o->x + from * o->C, &g, o->mean, o->gain, o->beta,
                             o->slope, o->y + from * o->C);
}

/* Inputs 6 and 7 are the hints of both ops. */
static void backward(norm *o)
{
    const ti_work *w = o->w;
    const bool hinted = w->in[6].count >= 0 && w->in[7].count >= 0;
    const double n = (double)o->pixels;

    o->y = TI_F(w->out[0]);
    if (!hinted) moments(o);
    for (int64_t c = 0; c < o->C; c++) { /* the pivots' place takes 1/deviation */
        o->mean[c] = hinted ? TI_F(w->in[6])[c] : (float)o->sum[0][c];
        o->pivot[c] = hinted ? (double)TI_F(w->in[7])[c] : 1 / sqrt(o->sum[1][c] + o->eps);
    }
    ti_run_ranges(w->device, o->pixels, o->each, moments_back_some, o);
    total(o);
    for (int64_t c = 0; c < o->C; c++) {
        const double inv = o->pivot[c], sum_g = o->sum[0][c], sum_gz = o->sum[1][c];
        o->gain[c] = (float)((double)TI_F(w->in[1])[c] * inv);
        o->beta[c] = (float)(sum_g / n);
        o->slope[c] = (float)(inv * inv * sum_gz / n);
        if (w->out[1].count > 0) TI_F(w->out[1])[c] = (float)(sum_gz * inv);
        if (w->out[2].count > 0) TI_F(w->out[2])[c] = (float)sum_g;
    }
    if (o->dr) o->g = (ti_cotangent){.g = o->dr}; /* it is there now */
    if (w->out[0].count > 0) ti_run_ranges(w->device, o->pixels, o->each, apply_back_some, o);
}

static void batch_norm_d(const ti_work *w)
{
    norm o = norm_of(w);

    o.eps = ((const tern_batch_norm_opts *)w->opts)->eps;
    o.g.g = TI_F(w->in[5]);
    backward(&o);
}

/* bn_add_act_d(x, gamma, beta, g, g2, y, mean, inv) */
static void bn_add_act_d(const ti_work *w)
{
    const tern_bn_add_act_opts *opts = w->opts;
    norm o = norm_of(w);

    o.eps = opts->eps;
    o.g.g = TI_F(w->in[3]);
    o.g.g2 = w->in[4].count >= 0 ? TI_F(w->in[4]) : NULL;
    o.g.y = opts->act == TERN_RELU ? TI_F(w->in[5]) : NULL;
    o.dr = w->out[3].count > 0 ? TI_F(w->out[3]) : NULL;
    backward(&o);
}

static const char *rejects(const ti_work *w) { return ti_all_f32(w) ? NULL : "takes f32"; }
static double cost(const ti_work *w) { return 1000 + 0.5 * (double)w->in[0].count; }
static int on_first(int i_out) { return i_out == 0 ? 0 : -1; }
static int on_r(int i_out) { return i_out == 0 ? 3 : -1; }
/* dr, written first and read again; else dx, each element after its g was read for the last time */
static int on_g(int i_out) { return i_out == 0 || i_out == 3 ? 3 : -1; }

#define VECTORS TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR

const ti_row ti_cpu_norm[] = {
    {.op = "batch_norm",
     .impl = "channels",
     .reject = rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST, VECTORS},
     .scratch = scratch,
     .run = batch_norm,
     .numbers = TI_REORDERED},
    {.op = "batch_norm_d",
     .impl = "channels",
     .reject = rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST, VECTORS, TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR},
     .scratch = scratch,
     .run = batch_norm_d,
     .numbers = TI_REORDERED},
    {.op = "bn_add_act",
     .impl = "channels",
     .reject = rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_CHANNELS_LAST, TI_ROW_MAJOR,
              TI_ROW_MAJOR},
     .may_alias = on_r,
     .scratch = scratch,
     .run = bn_add_act,
     .numbers = TI_REORDERED},
    {.op = "bn_add_act_d",
     .impl = "channels",
     .reject = rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_CHANNELS_LAST, TI_CHANNELS_LAST,
              TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR},
     .may_alias = on_g,
     .scratch = scratch,
     .run = bn_add_act_d,
     .numbers = TI_REORDERED},
    {.op = "batch_norm_eval",
     .impl = "channels",
     .reject = rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST, VECTORS},
     .may_alias = on_first,
     .scratch = scratch,
     .run = batch_norm_eval,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
