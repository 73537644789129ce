/*
 * layer_norm.c - layer norm, f32: groups of values side by side, spread over the threads.
 *
 * The derivatives in gamma and beta are added up in double by chunks of groups, at most 64 and by
 * the shape only, then over the chunks in order.
 */
#include <math.h>
#include <string.h>

#include "cpu/fast.h"
#include "cpu/simd/groups.h"

enum { CHUNKS = 64 };

typedef struct {
    const ti_work *w;
    const ti_groups *loops;
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
    layer l = {.w = w, .n = 1, .eps = o->eps, .x = TI_F(w->in[0])};

    for (int a = 0; a < o->axes; a++) l.n *= s->dim[s->rank - 1 - a];
    l.groups = l.n ? w->in[0].count / l.n : 0;
    l.each = l.groups > 0 ? (l.groups - 1) / CHUNKS + 1 : 1;
    if (l.each < ti_items_of(20 + (double)l.n)) l.each = ti_items_of(20 + (double)l.n);
    l.chunks = (l.groups + l.each - 1) / l.each;
    l.loops = ti_groups_for(ti_cpu_simd(w->device)->name);
    l.gamma = present(&w->in[1]);
    l.beta = present(&w->in[2]);
    l.part = w->scratch;
    return l;
}

static void forward(void *arg, int64_t from, int64_t to, int i_worker)
{
    const layer *l = arg;
    const ti_work *w = l->w;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        double mean, inv;
        l->loops->statistics(l->n, l->x + i * l->n, l->eps, &mean, &inv);
        if (w->out[0].count > 0)
            l->loops->apply(l->n, l->x + i * l->n, (float)mean, (float)inv, l->gamma, l->beta,
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

/* layer_norm_d(x, gamma, beta, gy, mean, inv): the statistics of some groups. */
static void given(const layer *l, int64_t from, int groups, float *mean, float *inv)
{
    const ti_work *w = l->w;
    const bool hinted = w->in[4].count >= 0 && w->in[5].count >= 0;

    for (int k = 0; k < groups; k++) {
        double own_mean = 0, own_inv = 0;
        if (!hinted)
            l->loops->statistics(l->n, l->x + (from + k) * l->n, l->eps, &own_mean, &own_inv);
        mean[k] = hinted ? TI_F(w->in[4])[from + k] : (float)own_mean;
        inv[k] = hinted ? TI_F(w->in[5])[from + k] : (float)own_inv;
    }
}

static void backward(void *arg, int64_t from, int64_t to, int i_worker)
{
    const layer *l = arg;
    const int64_t n = l->n;
    double *part = l->part + from / l->each * 2 * n;

    (void)i_worker;
    memset(part, 0, (size_t)(2 * n) * sizeof(double));
    for (int64_t i = from; i < to; i += TI_GROUPS) {
        const int groups = to - i < TI_GROUPS ? (int)(to - i) : TI_GROUPS;
        float mean[TI_GROUPS], inv[TI_GROUPS];
        double q[TI_GROUPS], qz[TI_GROUPS];

        given(l, i, groups, mean, inv);
        l->loops->sums_back(groups, n, l->x + i * n, l->g + i * n, l->gamma, mean, inv, q, qz, part,
                            part + n);
        for (int k = 0; k < groups && l->w->out[0].count > 0; k++) {
            const double slope = (double)inv[k] * (double)inv[k] * qz[k] / (double)n;
            const int64_t at = (i + k) * n;
            l->loops->apply_back(n, l->x + at, l->g + at, l->gamma, mean[k], inv[k],
                                 (float)(q[k] / (double)n), (float)slope, TI_F(l->w->out[0]) + at);
        }
    }
}

static void layer_norm_d(const ti_work *w)
{
    layer l = layer_of(w);
    double *sum = l.part;

    l.g = TI_F(w->in[3]);
    ti_run_ranges(w->device, l.groups, l.each, backward, &l);
    if (l.chunks == 0) memset(sum, 0, (size_t)(2 * l.n) * sizeof *sum);
    for (int64_t i = 1; i < l.chunks; i++)
        for (int64_t j = 0; j < 2 * l.n; j++) sum[j] += l.part[2 * i * l.n + j];
    for (int k = 0; k < 2; k++) {
        const bool any = k == 0 ? l.gamma != NULL : l.beta != NULL;
        for (int64_t j = 0; j < l.n && w->out[1 + k].count > 0; j++)
            TI_F(w->out[1 + k])[j] = any ? (float)sum[k * l.n + j] : 0;
    }
}

static size_t scratch(const ti_work *w)
{
    const layer l = layer_of(w);

    return (size_t)(2 * (l.chunks > 0 ? l.chunks : 1) * l.n) * sizeof(double);
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
