/*
 * update.c - census, sgd_update and adam_update, f32, one pass over a block, in place where the
 * plan likes.
 */
#include <math.h>

#include "base/powi.h"
#include "cpu/fast.h"
#include "cpu/simd/layers.h"

enum { PIECE = 16384 };

static int64_t pieces_of(const ti_view *v) { return (v->count + PIECE - 1) / PIECE; }

/* ---- census ---- */

typedef struct {
    const ti_vector *v;
    const float *x;
    bool norm;             /* wanted */
    double *squares, *bad; /* of each piece */
} tally;

static void tally_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const tally *o = arg;
    double s = 0, bad = 0;
    bool finite;

    (void)i_worker;
    /* No sum of squares of f32 leaves double, so it is finite if and only if all of them are. */
    if (o->norm) finite = isfinite(s = o->v->sum_squares(to - from, o->x + from, 0));
    else finite = o->v->finite(to - from, o->x + from);
    if (!finite)
        for (int64_t i = from; i < to; i++) bad += !isfinite(o->x[i]);
    o->squares[from / PIECE] = s;
    o->bad[from / PIECE] = bad;
}

static const char *census_rejects(const ti_work *w)
{
    for (int i = 0; i < w->n_in; i++)
        if (w->in[i].m.type != TERN_F32 || !w->in[i].packed) return "takes packed f32";
    return NULL;
}

static size_t census_scratch(const ti_work *w)
{
    int64_t most = 1;

    for (int i = 0; i < w->n_in; i++)
        most = pieces_of(&w->in[i]) > most ? pieces_of(&w->in[i]) : most;
    return (size_t)most * 2 * sizeof(double);
}

static void census(const ti_work *w)
{
    double squares = 0, bad = 0;

    for (int k = 0; k < w->n_in; k++) {
        const int64_t n = pieces_of(&w->in[k]);
        tally o = {.v = ti_cpu_vector(w->device), .x = TI_F(w->in[k]), .squares = w->scratch};
        o.norm = k == 0 && w->out[1].data;
        o.bad = o.squares + n;
        ti_run_ranges(w->device, w->in[k].count, PIECE, tally_some, &o);
        for (int64_t i = 0; i < n; i++) {
            if (k == 0) squares += o.squares[i];
            bad += o.bad[i];
        }
    }
    if (w->out[0].data) TI_F(w->out[0])[0] = bad > 0;
    if (!w->out[1].data) return;
    ((double *)(void *)w->out[1].data)[0] = sqrt(squares);
    ((double *)(void *)w->out[1].data)[1] = bad;
}

/* ---- sgd_update(p, m, g, lr, scale), adam_update(p, m, v, g, lr, t, scale) ---- */

typedef struct {
    const ti_layers *loops;
    ti_sgd sgd;
    ti_adam adam;
    const float *p, *m, *v, *g;
    float *new_p, *new_m, *new_v;
} step;

static double scalar(const ti_view *v, double otherwise)
{
    return v->count > 0 ? ti_get(v, 0) : otherwise;
}

static void sgd_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const step *o = arg;

    (void)i_worker;
    o->loops->sgd(to - from, &o->sgd, o->p + from, o->m ? o->m + from : NULL, o->g + from,
                  o->new_p + from, o->new_m ? o->new_m + from : NULL);
}

static void adam_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const step *o = arg;

    (void)i_worker;
    o->loops->adam(to - from, &o->adam, o->p + from, o->m + from, o->v + from, o->g + from,
                   o->new_p + from, o->new_m + from, o->new_v + from);
}

static const char *packed_f32(const ti_work *w, int n)
{
    for (int i = 0; i < n; i++)
        if (w->in[i].count >= 0 && (w->in[i].m.type != TERN_F32 || !w->in[i].packed))
            return "takes packed f32";
    return NULL;
}

static const char *sgd_rejects(const ti_work *w)
{
    const bool momentum = w->in[1].count >= 0;

    if (w->out[0].count < 0 || (w->out[1].count >= 0) != momentum)
        return "gives new_p, and new_m where there is m";
    return packed_f32(w, 3);
}
static const char *adam_rejects(const ti_work *w)
{
    for (int i = 0; i < 3; i++)
        if (w->out[i].count < 0) return "gives all three";
    return packed_f32(w, 4);
}

static void sgd(const ti_work *w)
{
    const tern_sgd_update_opts *o = w->opts;
    step s = {.loops = ti_layers_for(ti_cpu_simd(w->device)->name),
              .p = TI_F(w->in[0]),
              .m = w->in[1].count >= 0 ? TI_F(w->in[1]) : NULL,
              .g = TI_F(w->in[2]),
              .new_p = TI_F(w->out[0]),
              .new_m = w->out[1].count >= 0 ? TI_F(w->out[1]) : NULL};

    s.sgd = (ti_sgd){.scale = (float)scalar(&w->in[4], 1),
                     .decay = (float)o->decay,
                     .momentum = (float)o->momentum,
                     .fresh = (float)(1 - o->dampening),
                     .lr = (float)scalar(&w->in[3], 0),
                     .nesterov = o->nesterov};
    ti_run_ranges(w->device, w->in[0].count, PIECE, sgd_some, &s);
}

static void adam(const ti_work *w)
{
    const tern_adam_update_opts *o = w->opts;
    const double lr = scalar(&w->in[4], 0);
    const int64_t t = *(const int64_t *)(const void *)w->in[5].data;
    /* (m / fix1) / (sqrt(v / fix2) + eps) is m root / fix1 / (sqrt(v) + eps root) */
    const double root = sqrt(1 - ti_powi(o->beta2, t));
    step s = {.loops = ti_layers_for(ti_cpu_simd(w->device)->name),
              .p = TI_F(w->in[0]),
              .m = TI_F(w->in[1]),
              .v = TI_F(w->in[2]),
              .g = TI_F(w->in[3]),
              .new_p = TI_F(w->out[0]),
              .new_m = TI_F(w->out[1]),
              .new_v = TI_F(w->out[2])};

    s.adam = (ti_adam){.scale = (float)scalar(&w->in[6], 1),
                       .decay = o->decoupled ? 0 : (float)o->decay,
                       .beta1 = (float)o->beta1,
                       .fresh1 = (float)(1 - o->beta1),
                       .beta2 = (float)o->beta2,
                       .fresh2 = (float)(1 - o->beta2),
                       .rate = (float)(lr * root / (1 - ti_powi(o->beta1, t))),
                       .eps = (float)(o->eps * root),
                       .kept = o->decoupled ? (float)(1 - lr * o->decay) : 1};
    ti_run_ranges(w->device, w->in[0].count, PIECE, adam_some, &s);
}

static double census_cost(const ti_work *w)
{
    double n = 0;

    for (int i = 0; i < w->n_in; i++) n += (double)w->in[i].count;
    return 200 + 0.1 * n;
}
static double cost(const ti_work *w) { return 200 + 0.5 * (double)w->in[0].count; }
static int own(int i_out) { return i_out; } /* p, m, v lie at the places of their successors */

const ti_row ti_cpu_update[] = {
    {.op = "census",
     .impl = "block",
     .reject = census_rejects,
     .cost = census_cost,
     .scratch = census_scratch,
     .run = census,
     .numbers = TI_REORDERED},
    {.op = "sgd_update",
     .impl = "block",
     .reject = sgd_rejects,
     .cost = cost,
     .may_alias = own,
     .run = sgd,
     .numbers = TI_REORDERED},
    {.op = "adam_update",
     .impl = "block",
     .reject = adam_rejects,
     .cost = cost,
     .may_alias = own,
     .run = adam,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
