/*
 * loss.c - softmax, cross-entropy and mean squared error, f32, along the last axis.
 *
 * Rows are spread over the threads. exp comes from simd/vector.c, sums are in double; losses are
 * added up in the order of the rows.
 */
#include <math.h>

#include "cpu/fast.h"

static int64_t row_of(const ti_work *w)
{
    const tern_shape *s = &w->in[0].m.shape;

    return s->dim[s->rank - 1];
}

static int64_t rows_each(int64_t n) { return ti_items_of(40 + 1.5 * (double)n); }

/* y = exp(x - max), their sum; NaN and infinities go the way of the formula. */
static double exp_row(const ti_vector *v, int64_t n, const float *x, float *y, float *most)
{
    *most = v->largest(n - 1, x + 1, x[0], 0);
    v->one[TI_V_SHIFT](n, x, y, -*most, 0);
    v->one[TI_V_EXP](n, y, y, 0, 0);
    return v->sum(n, y);
}

/* The same without a place for y. */
static double exp_sum(const ti_vector *v, int64_t n, const float *x, float *most)
{
    enum { FEW = 512 };
    float y[FEW];
    double sum = 0;

    *most = v->largest(n - 1, x + 1, x[0], 0);
    for (int64_t i = 0; i < n; i += FEW) {
        const int64_t k = n - i < FEW ? n - i : FEW;
        v->one[TI_V_SHIFT](k, x + i, y, -*most, 0);
        v->one[TI_V_EXP](k, y, y, 0, 0);
        sum += v->sum(k, y);
    }
    return sum;
}

/* ---- softmax, log_softmax and their derivatives ---- */

typedef struct {
    const ti_work *w;
    const ti_vector *v;
    int64_t n;
    const float *x, *g, *y;
    float *to;
} job;

static job job_of(const ti_work *w)
{
    return (job){.w = w,
                 .v = ti_cpu_vector(w->device),
                 .n = row_of(w),
                 .x = TI_F(w->in[0]),
                 .to = TI_F(w->out[0])};
}

static void run_rows(const job *o, ti_range_fn fn)
{
    ti_run_ranges(o->w->device, o->w->in[0].count / o->n, rows_each(o->n), fn, (void *)o);
}

static void softmax_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    float most;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        float *y = o->to + i * o->n;
        const double sum = exp_row(o->v, o->n, o->x + i * o->n, y, &most);
        o->v->one[TI_V_SCALE](o->n, y, y, (float)(1 / sum), 0);
    }
}

static void log_softmax_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    float most;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        float *y = o->to + i * o->n;
        const double sum = exp_sum(o->v, o->n, o->x + i * o->n, &most);
        o->v->one[TI_V_SHIFT](o->n, o->x + i * o->n, y, -most, 0);
        o->v->one[TI_V_SHIFT](o->n, y, y, -(float)log(sum), 0);
    }
}

/* dx = y (g - <g, y>) */
static void softmax_d_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    const int64_t n = o->n;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        const float *g = o->g + i * n, *y = o->y + i * n;
        float *dx = o->to + i * n;
        o->v->two[TI_V_MUL](n, g, 1, y, 1, dx, 0);
        const double dot = o->v->sum(n, dx);
        o->v->one[TI_V_SHIFT](n, g, dx, (float)-dot, 0);
        o->v->two[TI_V_MUL](n, dx, 1, y, 1, dx, 0);
    }
}

/* dx = g - exp(y) sum g */
static void log_softmax_d_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    const int64_t n = o->n;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        const float *g = o->g + i * n;
        float *dx = o->to + i * n;
        const double sum = o->v->sum(n, g);
        o->v->one[TI_V_EXP](n, o->y + i * n, dx, 0, 0);
        o->v->one[TI_V_SCALE](n, dx, dx, (float)-sum, 0);
        o->v->two[TI_V_ADD](n, dx, 1, g, 1, dx, 0);
    }
}

static void softmax(const ti_work *w)
{
    const job o = job_of(w);
    run_rows(&o, softmax_rows);
}
static void log_softmax(const ti_work *w)
{
    const job o = job_of(w);
    run_rows(&o, log_softmax_rows);
}
static void from_y(const ti_work *w, ti_range_fn fn)
{
    job o = job_of(w);

    o.g = TI_F(w->in[1]);
    o.y = TI_F(w->in[2]);
    run_rows(&o, fn);
}
static void softmax_d(const ti_work *w) { from_y(w, softmax_d_rows); }
static void log_softmax_d(const ti_work *w) { from_y(w, log_softmax_d_rows); }

static const char *softmax_rejects(const ti_work *w)
{
    const int axis = ((const tern_axis_opts *)w->opts)->axis, rank = w->in[0].m.shape.rank;

    if (!ti_all_f32(w)) return "takes f32";
    return axis == -1 || axis == rank - 1 ? NULL : "the axis is not the last one";
}
static const char *softmax_d_rejects(const ti_work *w)
{
    return w->in[2].count < 0 ? "wants y" : softmax_rejects(w);
}

/* ---- cross_entropy(x, target, weight), cross_entropy_d(…, gy): x [N,K] ---- */

typedef struct {
    job j;
    const tern_cross_entropy_opts *o;
    const ti_view *target;
    const float *weight, *share; /* share: probabilities, or NULL */
    double *loss;                /* forward: of each row */
    const float *gy;
    double mass;
} entropy;

static const char *entropy_rejects(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return w->in[0].m.shape.rank == 2 ? NULL : "x has more than two axes";
}
static const char *entropy_d_rejects(const ti_work *w)
{
    if (w->out[1].count >= 0 || w->out[2].count >= 0) return "gives dx only";
    return entropy_rejects(w);
}

/* The class of row i, in place of an index that is out of range or to be ignored: -1. */
static int64_t class_of(const entropy *e, int64_t i, bool tell)
{
    const char *data = e->target->data;
    const int64_t at = e->target->m.type == TERN_I64 ? ((const int64_t *)(const void *)data)[i]
                                                     : ((const int32_t *)(const void *)data)[i];

    if (e->o->has_ignore && at == e->o->ignore) return -1;
    if (at >= 0 && at < e->j.n) return at;
    if (tell) ti_raise(e->j.w, i, at, e->j.n);
    return -1;
}

static double weight_of(const entropy *e, int64_t k)
{
    return e->weight ? (double)e->weight[k] : 1;
}

static entropy entropy_of(const ti_work *w)
{
    entropy e = {.j = job_of(w), .o = w->opts, .target = &w->in[1], .mass = 1};
    const int64_t n = w->in[0].m.shape.dim[0];

    e.weight = w->in[2].count >= 0 ? TI_F(w->in[2]) : NULL;
    e.share = e.target->m.type == TERN_F32 ? TI_F(*e.target) : NULL;
    if (e.o->reduction != TERN_REDUCE_MEAN) return e;
    e.mass = e.share ? (double)n : 0;
    for (int64_t i = 0; !e.share && i < n; i++) {
        const int64_t own = class_of(&e, i, true);
        if (own >= 0) e.mass += weight_of(&e, own);
    }
    return e;
}

static void entropy_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const entropy *e = arg;
    const int64_t n = e->j.n;
    const double s = e->o->smoothing, even = s / (double)n;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        const float *x = e->j.x + i * n, *t = e->share ? e->share + i * n : NULL;
        const int64_t own = t ? -1 : class_of(e, i, true);
        float most;

        e->loss[i] = 0;
        if (!t && own < 0) continue;
        /* Apart from the largest value, beside which the logarithm could vanish. */
        const double l = log(exp_sum(e->j.v, n, x, &most)), m = (double)most;
        double loss = t ? 0 : (1 - s) * weight_of(e, own) * ((double)x[own] - m - l);
        for (int64_t k = 0; (t || s > 0) && k < n; k++) {
            const double share = t ? (1 - s) * (double)t[k] + even : even;
            loss += weight_of(e, k) * share * ((double)x[k] - m - l);
        }
        e->loss[i] = -loss;
    }
}

static size_t entropy_scratch(const ti_work *w)
{
    return (size_t)w->in[0].m.shape.dim[0] * sizeof(double);
}

static void cross_entropy(const ti_work *w)
{
    const int64_t n = w->in[0].m.shape.dim[0];
    entropy e = entropy_of(w);
    double sum = 0;

    e.loss = w->scratch;
    ti_run_ranges(w->device, n, rows_each(e.j.n), entropy_rows, &e);
    for (int64_t i = 0; i < n; i++) {
        if (e.o->reduction == TERN_REDUCE_NONE) TI_F(w->out[0])[i] = (float)e.loss[i];
        sum += e.loss[i];
    }
    if (e.o->reduction != TERN_REDUCE_NONE) TI_F(w->out[0])[0] = (float)(sum / e.mass);
}

/* dx = f (p sum_c w_c t'_c - w t'), f = gy / mass */
static void entropy_d_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const entropy *e = arg;
    const int64_t n = e->j.n;
    const double s = e->o->smoothing, even = s / (double)n;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        const float *x = e->j.x + i * n, *t = e->share ? e->share + i * n : NULL;
        const int64_t own = t ? -1 : class_of(e, i, true);
        const double f = (double)e->gy[e->o->reduction == TERN_REDUCE_NONE ? i : 0] / e->mass;
        float *dx = e->j.to + i * n, most;
        double pull = 0;

        if (!t && own < 0) {
            for (int64_t k = 0; k < n; k++) dx[k] = 0;
            continue;
        }
        if (!t) pull = (1 - s) * weight_of(e, own);
        for (int64_t k = 0; (t || s > 0) && k < n; k++)
            pull += weight_of(e, k) * (t ? (1 - s) * (double)t[k] + even : even);
        const double sum = exp_row(e->j.v, n, x, dx, &most);
        e->j.v->one[TI_V_SCALE](n, dx, dx, (float)(f * pull / sum), 0);
        if (!t) dx[own] = (float)((double)dx[own] - f * weight_of(e, own) * (1 - s));
        for (int64_t k = 0; (t || s > 0) && k < n; k++) {
            const double share = t ? (1 - s) * (double)t[k] + even : even;
            dx[k] = (float)((double)dx[k] - f * weight_of(e, k) * share);
        }
    }
}

static void cross_entropy_d(const ti_work *w)
{
    entropy e = entropy_of(w);

    e.gy = TI_F(w->in[3]);
    ti_run_ranges(w->device, w->in[0].m.shape.dim[0], rows_each(e.j.n), entropy_d_rows, &e);
}

/* ---- mse ---- */

enum { PIECE = 8192 };

typedef struct {
    const ti_work *w;
    const ti_vector *v;
    const float *x, *t;
    double *part;
} squares;

static void squares_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    enum { FEW = 1024 };
    const squares *o = arg;
    float d[FEW];
    double sum = 0;

    (void)i_worker;
    for (int64_t i = from; i < to; i += FEW) {
        const int64_t n = to - i < FEW ? to - i : FEW;
        o->v->two[TI_V_SUB](n, o->x + i, 1, o->t + i, 1, d, 0);
        sum += o->v->sum_squares(n, d, 0);
    }
    o->part[from / PIECE] = sum;
}

static const char *mse_rejects(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return ((const tern_mse_opts *)w->opts)->reduction == TERN_REDUCE_NONE ? "sums only" : NULL;
}

static int64_t pieces(const ti_work *w) { return (w->in[0].count + PIECE - 1) / PIECE; }
static size_t mse_scratch(const ti_work *w) { return (size_t)pieces(w) * sizeof(double); }

static void mse(const ti_work *w)
{
    const bool mean = ((const tern_mse_opts *)w->opts)->reduction == TERN_REDUCE_MEAN;
    squares o = {w, ti_cpu_vector(w->device), TI_F(w->in[0]), TI_F(w->in[1]), w->scratch};
    double sum = 0;

    ti_run_ranges(w->device, w->in[0].count, PIECE, squares_some, &o);
    for (int64_t i = 0; i < pieces(w); i++) sum += o.part[i];
    TI_F(w->out[0])[0] = (float)(mean ? sum / (double)w->in[0].count : sum);
}

static double cost(const ti_work *w) { return 200 + 2 * (double)w->in[0].count; }

#define ROW(op_, rejects_, run_, ...)                                                              \
    {                                                                                              \
        .op = op_, .impl = "rows", .reject = rejects_, .cost = cost, .run = run_,                  \
        .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR}, .numbers = TI_REORDERED, \
        __VA_ARGS__                                                                                \
    }

const ti_row ti_cpu_loss[] = {
    ROW("softmax", softmax_rejects, softmax, .plan_bytes = 0),
    ROW("softmax_d", softmax_d_rejects, softmax_d, .plan_bytes = 0),
    ROW("log_softmax", softmax_rejects, log_softmax, .plan_bytes = 0),
    ROW("log_softmax_d", softmax_d_rejects, log_softmax_d, .plan_bytes = 0),
    ROW("cross_entropy", entropy_rejects, cross_entropy, .scratch = entropy_scratch),
    ROW("cross_entropy_d", entropy_d_rejects, cross_entropy_d, .plan_bytes = 0),
    ROW("mse", mse_rejects, mse, .scratch = mse_scratch),
    {.op = NULL},
};
