/*
 * layer_norm.c - layer norm, f32: groups of values side by side, spread over the threads.
 *
 * The derivatives in gamma and beta are added up in double by chunks of groups, at most 64 and by
 * the shape only, then over the chunks in order.
 */
#include <math.h>
#include <string.h>

#include "cpu/fast.h"
#include "cpu/simd/layers.h"

enum { CHUNKS = 64 };

typedef struct {
    const ti_work *w;
    const ti_vector *v;
    const ti_layers *loops;
    int64_t n, groups, each, chunks;
    double eps;
    const float *x, *gamma, *beta, *g;
    double *part; /* of each chunk: dgamma, dbeta */
} layer;

static const float *present(const ti_view *v) { return v->count >= 0 ? TI_F(*v) : NULL; }

static layer layer_of(const ti_work *w)
{
    const tern_layer_norm_opts *o = w->opts;
    const tern_shape *s = &w->in[0].m.shape;
    layer l = {.w = w, .v = ti_cpu_vector(w->device), .n = 1, .eps = o->eps, .x = TI_F(w->in[0])};

    for (int a = 0; a < o->axes; a++) l.n *= s->dim[s->rank - 1 - a];
    l.groups = l.n ? w->in[0].count / l.n : 0;
    l.each = l.groups > 0 ? (l.groups - 1) / CHUNKS + 1 : 1;
    if (l.each < ti_items_of(20 + (double)l.n)) l.each = ti_items_of(20 + (double)l.n);
    l.chunks = (l.groups + l.each - 1) / l.each;
    l.loops = ti_layers_for(ti_cpu_simd(w->device)->name);
    l.gamma = present(&w->in[1]);
    l.beta = present(&w->in[2]);
    l.part = w->scratch;
    return l;
}

/* In double, two passes. */
static void statistics(const layer *l, const float *x, double *mean, double *inv)
{
    const double n = (double)l->n;

    *mean = l->v->sum(l->n, x) / n;
    *inv = 1 / sqrt(l->v->sum_squares(l->n, x, *mean) / n + l->eps);
}

static void forward(void *arg, int64_t from, int64_t to, int i_worker)
{
    const layer *l = arg;
    const ti_work *w = l->w;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        double mean, inv;
        statistics(l, l->x + i * l->n, &mean, &inv);
        if (w->out[0].count > 0)
            l->loops->group(l->n, l->x + i * l->n, (float)mean, (float)inv, l->gamma, l->beta,
                            TI_F(w->out[0]) + i * l->n);
        if (w->out[1].count > 0) TI_F(w->out[1])[i] = (float)mean;
        if (w->out[2].count > 0) TI_F(w->out[2])[i] = (float)inv;
    }
}

static void layer_norm(const ti_work *w)
{
    layer l = layer_of(w);

    ti_run_ranges(w->device, l.groups, l.each, forward, &l);
}

/* layer_norm_d(x, gamma, beta, gy, mean, inv) */
static void backward(void *arg, int64_t from, int64_t to, int i_worker)
{
    const layer *l = arg;
    const ti_work *w = l->w;
    const double n = (double)l->n;
    double *part = l->part + from / l->each * 2 * l->n;
    double *dgamma = l->gamma && w->out[1].count > 0 ? part : NULL;
    double *dbeta = l->beta && w->out[2].count > 0 ? part + l->n : NULL;

    (void)i_worker;
    memset(part, 0, (size_t)(2 * l->n) * sizeof(double));
    for (int64_t i = from; i < to; i++) {
        const float *x = l->x + i * l->n, *g = l->g + i * l->n;
        double mean, inv, sum_q, sum_qz;

        if (w->in[4].count >= 0 && w->in[5].count >= 0)
            mean = (double)TI_F(w->in[4])[i], inv = (double)TI_F(w->in[5])[i];
        else statistics(l, x, &mean, &inv);
        l->loops->group_shares(l->n, x, g, (float)mean, (float)inv, dgamma, dbeta);
        if (w->out[0].count <= 0) continue;
        l->loops->group_sums(l->n, x, g, l->gamma, (float)mean, &sum_q, &sum_qz);
        l->loops->group_back(l->n, x, g, l->gamma, (float)mean, (float)inv, (float)(sum_q / n),
                             (float)(inv * inv * sum_qz / n), TI_F(w->out[0]) + i * l->n);
    }
}

static void layer_norm_d(const ti_work *w)
{
    layer l = layer_of(w);

    l.g = TI_F(w->in[3]);
    ti_run_ranges(w->device, l.groups, l.each, backward, &l);
    for (int k = 0; k < 2; k++)
        for (int64_t j = 0; j < l.n && w->out[1 + k].count > 0; j++) {
            double sum = 0;
            for (int64_t i = 0; i < l.chunks; i++) sum += l.part[(2 * i + k) * l.n + j];
            TI_F(w->out[1 + k])[j] = (float)sum;
        }
}

static size_t scratch(const ti_work *w)
{
    const layer l = layer_of(w);

    return (size_t)(2 * l.chunks * l.n) * sizeof(double);
}

static const char *rejects(const ti_work *w) { return ti_all_f32(w) ? NULL : "takes f32"; }
static double cost(const ti_work *w) { return 500 + (double)w->in[0].count; }

#define PACKED                                                                                     \
    {                                                                                              \
        TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR         \
    }

const ti_row ti_cpu_layer_norm[] = {
    {.op = "layer_norm",
     .impl = "groups",
     .reject = rejects,
     .cost = cost,
     .want = PACKED,
     .run = layer_norm,
     .numbers = TI_REORDERED},
    {.op = "layer_norm_d",
     .impl = "groups",
     .reject = rejects,
     .cost = cost,
     .want = PACKED,
     .scratch = scratch,
     .run = layer_norm_d,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
