/*
 * loss.c - reference for softmax, log-softmax, cross-entropy and the mean squared error.
 *
 *   softmax:     p_i = exp(x_i) / sum exp(x)         dx = p (g - <g, p>)
 *   log_softmax: y_i = x_i - log sum exp(x)          dx = g - exp(y) sum g
 *
 * The largest x is taken off before exp, which changes neither.
 */
#include "cpu/ref/ref.h"

/* n values, `step` apart. */
typedef struct {
    int64_t n, step;
} run;

/* The largest value, and the logarithm of the sum that is left without it. They stay apart: beside
 * a large value their sum would lose the logarithm. */
typedef struct {
    double most, log;
} norm;

static norm norm_of(const double *x, run r)
{
    norm n = {.most = x[0]};
    double sum = 0;

    for (int64_t k = 1; k < r.n; k++)
        if (x[k * r.step] > n.most || isnan(x[k * r.step])) n.most = x[k * r.step];
    for (int64_t k = 0; k < r.n; k++) sum += exp(x[k * r.step] - n.most);
    n.log = log(sum);
    return n;
}

static double log_p(double x, norm n) { return (x - n.most) - n.log; }

/* Runs along the options' axis; run i begins at `first`. */
static run along(const ti_work *w)
{
    const tern_shape *s = &w->in[0].m.shape;
    int axis = ((const tern_axis_opts *)w->opts)->axis;
    run r = {1, 1};

    if (axis < 0) axis += s->rank;
    r.n = s->dim[axis];
    for (int a = axis + 1; a < s->rank; a++) r.step *= s->dim[a];
    return r;
}
static int64_t first(run r, int64_t i) { return i / r.step * r.step * r.n + i % r.step; }

#define RUNS(r, at)                                                                                \
    for (int64_t i_ = 0, at; i_ < w->in[0].count / (r).n && (at = first(r, i_), true); i_++)
#define VALUES(r, at, j) for (int64_t j = at, k_ = 0; k_ < (r).n; k_++, j += (r).step)

static void softmax(const ti_work *w, ti_vec in, ti_vec out)
{
    const run r = along(w);

    RUNS(r, at)
    {
        const double *x = in[0] + at;
        double most = x[0], sum = 0;
        for (int64_t k = 1; k < r.n; k++)
            if (x[k * r.step] > most || isnan(x[k * r.step])) most = x[k * r.step];
        VALUES(r, at, j) sum += out[0][j] = exp(in[0][j] - most);
        VALUES(r, at, j) out[0][j] /= sum;
    }
}

static void log_softmax(const ti_work *w, ti_vec in, ti_vec out)
{
    const run r = along(w);

    RUNS(r, at)
    {
        const double *x = in[0] + at;
        double most = x[0], sum = 0;
        for (int64_t k = 1; k < r.n; k++)
            if (x[k * r.step] > most || isnan(x[k * r.step])) most = x[k * r.step];
        VALUES(r, at, j) sum += exp(in[0][j] - most);
        VALUES(r, at, j) out[0][j] = (in[0][j] - most) - log(sum);
    }
}

/* x gy [y]; y is not looked at: x says it all. */
static void softmax_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const run r = along(w);

    RUNS(r, at)
    {
        const norm n = norm_of(in[0] + at, r);
        double dot = 0;
        VALUES(r, at, j) dot += exp(log_p(in[0][j], n)) * in[1][j];
        VALUES(r, at, j) out[0][j] = exp(log_p(in[0][j], n)) * (in[1][j] - dot);
    }
}

static void log_softmax_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const run r = along(w);

    RUNS(r, at)
    {
        const norm n = norm_of(in[0] + at, r);
        double sum = 0;
        VALUES(r, at, j) sum += in[1][j];
        VALUES(r, at, j) out[0][j] = in[1][j] - exp(log_p(in[0][j], n)) * sum;
    }
}

static double run_chain(const ti_work *w)
{
    return w->in[0].m.type == TERN_F64 ? (double)along(w).n : 1;
}

/* ---- Cross-entropy: see host/ops/cross_entropy.c for the formula ---- */

typedef struct {
    const tern_cross_entropy_opts *o;
    const ti_work *w;
    const double *target, *weight;
    int64_t places; /* losses */
    run r;          /* the classes of one place */
    bool by_class;
} entropy;

static entropy entropy_of(const ti_work *w, ti_vec in)
{
    const tern_shape *s = &w->in[0].m.shape;
    entropy e = {.o = w->opts, .w = w, .target = in[1], .weight = in[2], .r = {s->dim[1], 1}};

    for (int a = 2; a < s->rank; a++) e.r.step *= s->dim[a];
    e.places = s->dim[0] * e.r.step;
    e.by_class = (TI_INDICES >> w->in[1].m.type & 1) != 0;
    return e;
}

static double weight_of(const entropy *e, int64_t k) { return e->weight ? e->weight[k] : 1; }

/* The class of place i; -1 if it does not count. One out of range is a fault. */
static int64_t class_of(const entropy *e, int64_t i)
{
    const ti_view *t = &e->w->in[1];

    if (e->o->has_ignore && ti_load_integer(t->m.type, ti_element(t, i)) == e->o->ignore) return -1;
    return ti_index_at(e->w, t, i, e->r.n);
}

/* Smoothed target of class k at place i, whose class is `own`. */
static double target_of(const entropy *e, int64_t i, int64_t own, int64_t k)
{
    const double t = e->by_class ? k == own : e->target[first(e->r, i) + k * e->r.step];

    return (1 - e->o->smoothing) * t + e->o->smoothing / (double)e->r.n;
}

/* The loss at place i. Classes whose target is 0 are left out: their log p may be infinite. */
static double loss_at(const entropy *e, const double *x, int64_t i)
{
    const int64_t own = e->by_class ? class_of(e, i) : 0, at = first(e->r, i);
    const norm n = norm_of(x + at, e->r);
    double loss = 0;

    if (own < 0) return 0;
    for (int64_t k = 0; k < e->r.n; k++) {
        if (e->by_class && k != own && e->o->smoothing == 0) continue;
        loss -= weight_of(e, k) * target_of(e, i, own, k) * log_p(x[at + k * e->r.step], n);
    }
    return loss;
}

/* What a mean divides by. */
static double mass_of(const entropy *e)
{
    double mass = 0;

    if (!e->by_class) return (double)e->places;
    for (int64_t i = 0; i < e->places; i++) {
        const int64_t own = class_of(e, i);
        if (own >= 0) mass += weight_of(e, own);
    }
    return mass;
}

static void cross_entropy(const ti_work *w, ti_vec in, ti_vec out)
{
    const entropy e = entropy_of(w, in);
    double sum = 0;

    for (int64_t i = 0; i < e.places; i++) {
        const double loss = loss_at(&e, in[0], i);
        sum += loss;
        if (e.o->reduction == TERN_REDUCE_NONE) out[0][i] = loss;
    }
    if (e.o->reduction == TERN_REDUCE_NONE) return;
    out[0][0] = e.o->reduction == TERN_REDUCE_MEAN ? sum / mass_of(&e) : sum;
}

/*
 * x target weight gy; f is what the losses' cotangents are:
 *   dx = f (p sum_c w_c t'_c - w t')   dtarget = -f (1-s) w log p
 *   dweight = -sum f t' log p, and as the mean of classes divides by weights: - f loss / mass each;
 *   0 without weights
 */
static void cross_entropy_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const entropy e = entropy_of(w, in);
    const bool mean = e.o->reduction == TERN_REDUCE_MEAN;
    const double mass = mean ? mass_of(&e) : 1;
    double total = 0;

    for (int64_t k = 0; out[2] && k < e.r.n; k++) out[2][k] = 0;
    for (int64_t i = 0; out[1] && i < w->out[1].count; i++) out[1][i] = 0;
    for (int64_t i = 0; out[2] && in[2] && mean && e.by_class && i < e.places; i++)
        total += loss_at(&e, in[0], i);
    for (int64_t i = 0; i < e.places; i++) {
        const int64_t own = e.by_class ? class_of(&e, i) : 0, at = first(e.r, i);
        const double f = in[3][e.o->reduction == TERN_REDUCE_NONE ? i : 0] / mass;
        const norm n = norm_of(in[0] + at, e.r);
        double pull = 0;

        for (int64_t k = 0; own >= 0 && k < e.r.n; k++)
            pull += weight_of(&e, k) * target_of(&e, i, own, k);
        for (int64_t k = 0; k < e.r.n; k++) {
            const int64_t j = at + k * e.r.step;
            const double t = own < 0 ? 0 : target_of(&e, i, own, k), lp = log_p(in[0][j], n);
            if (out[0]) out[0][j] = own < 0 ? 0 : f * (exp(lp) * pull - weight_of(&e, k) * t);
            if (out[1] && !e.by_class)
                out[1][j] = -f * (1 - e.o->smoothing) * weight_of(&e, k) * lp;
            if (out[2] && in[2] && t != 0) out[2][k] -= f * t * lp;
        }
        if (out[2] && in[2] && mean && e.by_class && own >= 0) out[2][own] -= f * total / mass;
    }
}

/* Along the classes and over the places, in double. */
static double entropy_chain(const ti_work *w)
{
    const double k = (double)w->in[0].m.shape.dim[1];

    return w->in[0].m.type == TERN_F64 ? k + (double)w->in[0].count / k : 2;
}

/* ---- Mean squared error ---- */

static void mse(const ti_work *w, ti_vec in, ti_vec out)
{
    const int reduction = ((const tern_mse_opts *)w->opts)->reduction;
    double sum = 0;

    for (int64_t i = 0; i < w->in[0].count; i++) {
        const double d = in[0][i] - in[1][i];
        if (reduction == TERN_REDUCE_NONE) out[0][i] = d * d;
        else sum += d * d;
    }
    if (reduction == TERN_REDUCE_NONE) return;
    out[0][0] = reduction == TERN_REDUCE_MEAN ? sum / (double)w->in[0].count : sum;
}

static double mse_chain(const ti_work *w)
{
    return w->in[0].m.type == TERN_F64 ? (double)w->in[0].count : 1;
}

const ti_row ti_ref_loss[] = {
    {.op = "softmax", .impl = "ref", .body = softmax, .chain = run_chain},
    {.op = "softmax_d", .impl = "ref", .body = softmax_d, .chain = run_chain},
    {.op = "log_softmax", .impl = "ref", .body = log_softmax, .chain = run_chain},
    {.op = "log_softmax_d", .impl = "ref", .body = log_softmax_d, .chain = run_chain},
    {.op = "cross_entropy", .impl = "ref", .body = cross_entropy, .chain = entropy_chain},
    {.op = "cross_entropy_d", .impl = "ref", .body = cross_entropy_d, .chain = entropy_chain},
    {.op = "mse", .impl = "ref", .body = mse, .chain = mse_chain},
    {.op = NULL},
};
