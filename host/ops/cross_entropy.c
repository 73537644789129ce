/*
 * cross_entropy.c - softmax cross-entropy over axis 1, and its derivative.
 *
 * With p = softmax(x), weights w (1 if absent), smoothing s and K classes, each place (n, ...) has
 *   classes:        loss = -(1-s) w_t log p_t - s/K sum_c w_c log p_c, or 0 if t is ignored
 *   probabilities:  loss = -sum_c w_c ((1-s) t_c + s/K) log p_c
 * The mean divides by the sum of w_t over the places that count, or by the number of places.
 */
#include "ops/common.h"
#include "tern/grad.h"

static const ti_field ce_fields[] = {
    TI_FIELD(tern_cross_entropy_opts, TI_F64, smoothing, 1, 0),
    TI_FIELD_NAMES(tern_cross_entropy_opts, reduction, "mean|sum|none"),
    TI_FIELD_HAS(tern_cross_entropy_opts, TI_I64, ignore, 1, 0),
    {0},
};

static bool by_class(const tern_tensor *target)
{
    return (1u << tern_type_of(target) & TI_INDICES) != 0;
}

/* x without axis 1: one place each. */
static tern_shape places(tern_shape x)
{
    for (int a = 1; a < x.rank - 1; a++) x.dim[a] = x.dim[a + 1];
    x.dim[--x.rank] = 0;
    return x;
}

/* The inputs that both ops begin with: x, target, weight. */
static tern_status check_inputs(const ti_call *c)
{
    const tern_cross_entropy_opts *o = c->opts;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 5));
    TI_TRY(ti_need_rank(c, 0, 2, TERN_RANK));
    TI_TRY(ti_need_types(c, 1, TI_NUMBERS));
    const tern_shape x = c->in[0]->m.shape, t = c->in[1]->m.shape;
    const bool classes = by_class(c->in[1]);
    if (!classes) TI_TRY(ti_same_types(c, 3));
    if (!tern_same_shape(t, classes ? places(x) : x)) return ti_misfit(c, 0, 1);
    if (x.dim[1] < 1) return ti_fail(c->ctx, TERN_E_SHAPE, "%s: x has no classes", c->op->name);
    if (c->in[2]) {
        TI_TRY(ti_need_rank(c, 2, 1, 1));
        if (c->in[2]->m.shape.dim[0] != x.dim[1]) return ti_misfit(c, 0, 2);
    }
    if (!(o->smoothing >= 0 && o->smoothing <= 1))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: smoothing %g is not in 0 … 1", c->op->name,
                       o->smoothing);
    if (o->reduction < TERN_REDUCE_MEAN || o->reduction > TERN_REDUCE_NONE)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: reduction %d is none of 0 … 2", c->op->name,
                       o->reduction);
    if (o->has_ignore && !classes)
        return ti_fail(c->ctx, TERN_E_ARGUMENT,
                       "%s: ignore=%lld, but the targets are probabilities", c->op->name,
                       (long long)o->ignore);
    return TERN_OK;
}

static tern_shape shape_of_y(const ti_call *c)
{
    const int reduction = ((const tern_cross_entropy_opts *)c->opts)->reduction;

    return reduction == TERN_REDUCE_NONE ? places(c->in[0]->m.shape) : TI_SCALAR;
}

static tern_status ce_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, shape_of_y(c));
    return TERN_OK;
}

/* [N,...] as [N,1,...]; [K] as [K,1,...]; [N,...,K] as [N,K,...]. */
static tern_tensor *with_axis(const ti_call *c, tern_tensor *t)
{
    tern_shape s = tern_shape_of(c->in[0]);

    s.dim[1] = 1;
    return tern_reshape(c->ctx, t, s);
}
static tern_tensor *per_class(const ti_call *c, tern_tensor *w)
{
    const tern_shape x = tern_shape_of(c->in[0]);
    tern_shape s = {.rank = x.rank - 1};

    for (int a = 0; a < s.rank; a++) s.dim[a] = a ? 1 : x.dim[1];
    return tern_reshape(c->ctx, w, s);
}
static tern_tensor *classes_second(const ti_call *c, tern_tensor *t)
{
    const int rank = tern_shape_of(t).rank;
    tern_permute_opts o = {{0, rank - 1}};

    for (int a = 2; a < rank; a++) o.axes[a] = a - 1;
    return tern_permute(c->ctx, t, &o);
}

/* Classes with 0 for those to ignore, and which count (NULL: all), both [N,1,...]. */
typedef struct {
    tern_tensor *index, *counts;
} classes;

static classes classes_of(const ti_call *c)
{
    tern_ctx *ctx = c->ctx;
    const tern_cross_entropy_opts *o = c->opts;
    tern_tensor *t = with_axis(c, tern_detach(ctx, c->in[1]));
    const tern_type type = tern_type_of(t);

    if (!o->has_ignore) return (classes){t, NULL};
    tern_tensor *counts = tern_ne(ctx, t, tern_fill(ctx, type, TI_SCALAR, (double)o->ignore));
    return (classes){tern_where(ctx, counts, t, tern_fill(ctx, type, TI_SCALAR, 0)), counts};
}

static tern_tensor *where_counts(const ti_call *c, classes t, tern_tensor *x)
{
    tern_tensor *zero = tern_fill(c->ctx, tern_type_of(c->in[0]), TI_SCALAR, 0);

    return t.counts ? tern_where(c->ctx, t.counts, x, zero) : x;
}

/* Sum of w_t over the places that count: what the mean divides by. */
static tern_tensor *mass(const ti_call *c, tern_tensor *weight)
{
    tern_ctx *ctx = c->ctx;
    const tern_type type = tern_type_of(c->in[0]);

    if (!by_class(c->in[1]) || (!weight && !((const tern_cross_entropy_opts *)c->opts)->has_ignore))
        return tern_fill(ctx, type, TI_SCALAR, (double)tern_count(places(tern_shape_of(c->in[0]))));
    const classes t = classes_of(c);
    tern_tensor *w =
        weight ? tern_take(ctx, weight, t.index) : tern_fill(ctx, type, tern_shape_of(t.index), 1);
    return tern_sum(ctx, where_counts(c, t, w), NULL);
}

/* The loss from given log-probabilities lp, before the mean's division. */
static tern_tensor *loss_of(const ti_call *c, tern_tensor *lp, tern_tensor *target,
                            tern_tensor *weight)
{
    tern_ctx *ctx = c->ctx;
    const tern_cross_entropy_opts *o = c->opts;
    const double even = o->smoothing / (double)tern_shape_of(lp).dim[1];
    const tern_reduce_opts over = {.axes = 2, .keep = 1};
    tern_tensor *wlp = weight ? tern_mul(ctx, lp, per_class(c, weight)) : lp, *loss;

    if (by_class(target)) {
        const classes t = classes_of(c);
        loss = tern_gather(ctx, wlp, t.index, &(tern_axis_opts){1});
        loss = tern_scale(ctx, loss, -(1 - o->smoothing));
        if (even > 0) loss = tern_sub(ctx, loss, tern_scale(ctx, tern_sum(ctx, wlp, &over), even));
        loss = where_counts(c, t, loss);
    } else {
        tern_tensor *t = tern_scale(ctx, target, 1 - o->smoothing);
        if (even > 0) t = tern_shift(ctx, t, even);
        loss = tern_neg(ctx, tern_sum(ctx, tern_mul(ctx, t, wlp), &over));
    }
    if (o->reduction == TERN_REDUCE_NONE)
        return tern_reshape(ctx, loss, places(tern_shape_of(c->in[0])));
    return tern_sum(ctx, loss, NULL);
}

static bool is_mean(const ti_call *c)
{
    return ((const tern_cross_entropy_opts *)c->opts)->reduction == TERN_REDUCE_MEAN;
}

static tern_status ce_compose(const ti_call *c, tern_tensor **y)
{
    tern_tensor *lp = tern_log_softmax(c->ctx, c->in[0], &(tern_axis_opts){1});

    y[0] = loss_of(c, lp, c->in[1], c->in[2]);
    if (is_mean(c)) y[0] = tern_div(c->ctx, y[0], mass(c, c->in[2]));
    return tern_error(c->ctx);
}

/* As in loss.c: p's relative error and the log-probabilities' own, in units of u. */
typedef struct {
    tern_tensor *lp, *p, *p_err, *lp_err;
    double e;
} parts;

static parts parts_of(const ti_call *c, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = {.axes = 2, .keep = 1};
    const tern_axis_opts axis = {1};
    parts t = {.lp = tern_log_softmax(ctx, c->in[0], &axis), .e = ti_sum_error(L)};
    tern_tensor *z = tern_abs(ctx, c->in[0]);

    t.p = tern_softmax(ctx, c->in[0], &axis);
    if (tern_count(tern_shape_of(z)) > 0)
        z = tern_abs(ctx, tern_sub(ctx, c->in[0], tern_max(ctx, c->in[0], &over)));
    tern_tensor *s = tern_shift(ctx, tern_sum(ctx, tern_mul(ctx, t.p, z), &over), t.e + 4);
    t.p_err = tern_shift(ctx, tern_add(ctx, z, s), 6);
    t.lp = tern_abs(ctx, t.lp);
    /* That of log p, and of what is done to it before it is added up. */
    t.lp_err = tern_add(ctx, tern_add(ctx, tern_scale(ctx, z, 4), tern_shift(ctx, s, 1)),
                        tern_scale(ctx, t.lp, 2 * t.e + 8));
    return t;
}

static tern_tensor *abs_or_null(tern_ctx *ctx, tern_tensor *t)
{
    return t ? tern_abs(ctx, t) : NULL;
}

static tern_tensor *ce_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const parts p = parts_of(c, L);
    tern_tensor *t = by_class(c->in[1]) ? c->in[1] : tern_abs(ctx, c->in[1]);

    (void)i_out;
    tern_tensor *b = loss_of(c, tern_neg(ctx, p.lp_err), t, abs_or_null(ctx, c->in[2]));
    if (is_mean(c)) b = tern_div(ctx, b, tern_abs(ctx, mass(c, c->in[2])));
    return tern_add(ctx, b, tern_scale(ctx, tern_abs(ctx, c->out[0]), p.e + 4));
}

/* cross_entropy_d(x, target, weight, gy): dx, dtarget, dweight. */
static tern_status ce_d_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    TI_TRY(ti_same_types(c, 0xd));
    const tern_shape x = c->in[0]->m.shape;
    if (!tern_same_shape(c->in[3]->m.shape, shape_of_y(c))) return ti_misfit(c, 0, 3);
    const tern_type type = c->in[0]->m.type;
    c->meta[0] = ti_packed_meta(type, x);
    c->meta[1] = ti_packed_meta(type, c->in[1]->m.shape);
    c->meta[2] = ti_packed_meta(type, TI_SHAPE(x.dim[1]));
    return TERN_OK;
}

/* |w_c| |t'_c| of each place, t' the smoothed target: [N,K,...]; 0 where ignored. */
static tern_tensor *pull(const ti_call *c, bool with_weight)
{
    tern_ctx *ctx = c->ctx;
    const tern_cross_entropy_opts *o = c->opts;
    const int64_t k = c->in[0]->m.shape.dim[1];
    tern_tensor *t;

    if (by_class(c->in[1])) {
        const classes own = classes_of(c);
        t = tern_one_hot(ctx, tern_reshape(ctx, own.index, places(c->in[0]->m.shape)),
                         &(tern_one_hot_opts){.classes = k, .type = (int)c->in[0]->m.type});
        t = tern_shift(ctx, tern_scale(ctx, classes_second(c, t), 1 - o->smoothing),
                       o->smoothing / (double)k);
        t = where_counts(c, own, t);
    } else
        t = tern_abs(ctx, tern_shift(ctx, tern_scale(ctx, c->in[1], 1 - o->smoothing),
                                     o->smoothing / (double)k));
    return with_weight && c->in[2] ? tern_mul(ctx, t, per_class(c, tern_abs(ctx, c->in[2]))) : t;
}

/* dx = f (p S - q), dtarget = -f (1-s) w lp, dweight = -sum f t' lp - [classes] f loss count:
 * q = w t', S = sum_c q, f = gy over what the mean divides by. */
static tern_tensor *ce_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_cross_entropy_opts *o = c->opts;
    const parts p = parts_of(c, L);
    const tern_reduce_opts over = {.axes = 2, .keep = 1};
    const tern_reduce_opts rest = {.axes = ((1ll << c->in[0]->m.shape.rank) - 1) & ~2ll};
    tern_tensor *f = tern_abs(ctx, c->in[3]), *w = abs_or_null(ctx, c->in[2]);

    if (o->reduction == TERN_REDUCE_NONE) f = with_axis(c, f);
    if (is_mean(c)) f = tern_div(ctx, f, tern_abs(ctx, mass(c, c->in[2])));
    if (i_out == 0) {
        tern_tensor *q = pull(c, true), *s = tern_sum(ctx, q, &over);
        tern_tensor *err = tern_shift(ctx, p.p_err, 2 * p.e + 8);
        q = tern_add(ctx, tern_mul(ctx, tern_mul(ctx, p.p, s), err),
                     tern_scale(ctx, q, 2 * p.e + 8));
        return tern_shift(ctx, tern_mul(ctx, q, f), 0x1p-102); /* coarse below normal numbers */
    }
    if (i_out == 1) {
        if (by_class(c->in[1])) return NULL;
        tern_tensor *b = tern_mul(ctx, p.lp_err, f);
        return w ? tern_mul(ctx, b, per_class(c, w)) : b;
    }
    tern_tensor *t = pull(c, false);
    tern_tensor *b = tern_sum(ctx, tern_mul(ctx, tern_mul(ctx, t, p.lp_err), f), &rest);
    if (!is_mean(c) || !by_class(c->in[1])) return b;
    tern_tensor *loss = loss_of(c, tern_neg(ctx, p.lp_err), c->in[1], w);
    loss = tern_mul(ctx, loss, tern_div(ctx, f, tern_abs(ctx, mass(c, c->in[2]))));
    return tern_add(ctx, b, tern_scale(ctx, tern_mul(ctx, tern_sum(ctx, t, &rest), loss), 2));
}

static void ce_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

#define TI_CLASSES(limit, ...)                                                                     \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_INDEX, limit                                                    \
    }
#define TI_SPREAD(...)                                                                             \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_POSITIVE, 0                                                     \
    }
#define TI_PROB(...)                                                                               \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_PROB, 0                                                         \
    }
static const tern_cross_entropy_opts smooth = {.smoothing = 0.1},
                                     sum = {.reduction = TERN_REDUCE_SUM},
                                     none = {.reduction = TERN_REDUCE_NONE, .smoothing = 0.2},
                                     ignoring = {.has_ignore = 1, .ignore = 2};
static const ti_sample ce_samples[] = {
    {"classes", 3, {TI_NORMAL(5, 10), TI_CLASSES(10, 5), TI_NOTHING}, NULL},
    {"weights, smoothing", 3, {TI_NORMAL(4, 7), TI_CLASSES(7, 4), TI_SPREAD(7)}, &smooth},
    {"places, sum", 3, {TI_NORMAL(2, 3, 4), TI_CLASSES(3, 2, 4), TI_SPREAD(3)}, &sum},
    {"ignoring", 3, {TI_NORMAL(9, 4), TI_CLASSES(4, 9), TI_SPREAD(4)}, &ignoring},
    {"not reduced", 3, {TI_NORMAL(3, 33), TI_CLASSES(33, 3), TI_NOTHING}, &none},
    {"probabilities", 3, {TI_NORMAL(4, 5), TI_PROB(4, 5), TI_NOTHING}, NULL},
    {"probabilities, weights", 3, {TI_NORMAL(2, 5, 3), TI_PROB(2, 5, 3), TI_SPREAD(5)}, &smooth},
    {"empty sum", 3, {TI_NORMAL(0, 4), TI_CLASSES(4, 0), TI_NOTHING}, &sum},
    TI_SAMPLES_END,
};
static const ti_sample ce_d_samples[] = {
    {"classes", 4, {TI_NORMAL(5, 10), TI_CLASSES(10, 5), TI_NOTHING, {{0}, TI_S_NORMAL, 0}}, NULL},
    {"weights, ignoring",
     4,
     {TI_NORMAL(9, 4), TI_CLASSES(4, 9), TI_SPREAD(4), {{0}, TI_S_NORMAL, 0}},
     &ignoring},
    {"not reduced",
     4,
     {TI_NORMAL(2, 3, 4), TI_CLASSES(3, 2, 4), TI_SPREAD(3), TI_NORMAL(2, 4)},
     &none},
    {"probabilities",
     4,
     {TI_NORMAL(4, 5), TI_PROB(4, 5), TI_SPREAD(5), {{0}, TI_S_NORMAL, 0}},
     &smooth},
    TI_SAMPLES_END,
};

static const ti_op cross_entropy = {
    .name = "cross_entropy",
    .n_in = 3,
    .in = {"x", "target", "weight"},
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_cross_entropy_opts),
    .fields = ce_fields,
    .shape = ce_shape,
    .grad = ce_grad,
    .compose = ce_compose,
    .bound = ce_bound,
    .samples = ce_samples,
};
static const ti_op cross_entropy_d = {
    .name = "cross_entropy_d",
    .n_in = 4,
    .in = {"x", "target", "weight", "gy"},
    .optional = 1u << 2,
    .n_out = 3,
    .out = {{"dx", TI_DIFF}, {"dtarget", TI_DIFF}, {"dweight", TI_DIFF}},
    .opts_size = sizeof(tern_cross_entropy_opts),
    .fields = ce_fields,
    .shape = ce_d_shape,
    .grad = ti_composed_grad,
    .composed = &cross_entropy,
    .d_needs = 7,
    .bound = ce_d_bound,
    .samples = ce_d_samples,
};

static void ce_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    ti_fused_grad(c, g, d, &cross_entropy_d, 0, NULL);
}

const ti_op *const ti_ops_cross_entropy[] = {&cross_entropy, &cross_entropy_d, NULL};

tern_tensor *tern_cross_entropy(tern_ctx *ctx, tern_tensor *x, tern_tensor *target,
                                tern_tensor *weight, const tern_cross_entropy_opts *opts)
{
    return ti_apply1(ctx, &cross_entropy, opts, 3, TI_IN(x, target, weight));
}
