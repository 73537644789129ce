/*
 * reduce.c - sums, means, extremes, variances over a set of axes; argmax and argmin.
 *
 * Bounds of sums. Every kernel adds along chains of at most L roundings and then by trees, so the
 * error is at most L u sum|x|. Roundings are taken as independent and centred: then the error
 * passes c sqrt(L) u sum|x| with probability below 2 exp(-c c / 2) (Higham and Mary 2019); c = 6
 * makes that 3e-8. One more u covers the rounding of the result.
 */
#include <math.h>

#include "ops/rules.h"

static const double certain = 6;

static const ti_field reduce_fields[] = {TI_FIELD(tern_reduce_opts, TI_I64, axes, 1, 0),
                                         TI_FIELD(tern_reduce_opts, TI_INT, keep, 1, 0),
                                         {.name = NULL}};
static const ti_field variance_fields[] = {TI_FIELD(tern_reduce_opts, TI_I64, axes, 1, 0),
                                           TI_FIELD(tern_reduce_opts, TI_INT, keep, 1, 0),
                                           TI_FIELD(tern_reduce_opts, TI_INT, correction, 1, 0),
                                           {.name = NULL}};

static bool is_reduced(const tern_reduce_opts *o, int a)
{
    return o->axes == 0 || (o->axes >> a & 1);
}

/* What is left; `n`: how many elements each result is made of. */
static tern_shape left(tern_shape s, const tern_reduce_opts *o, bool keep, int64_t *n)
{
    tern_shape to = {0};

    *n = 1;
    for (int a = 0; a < s.rank; a++) {
        if (is_reduced(o, a)) *n *= s.dim[a];
        if (!is_reduced(o, a) || keep) to.dim[to.rank++] = is_reduced(o, a) ? 1 : s.dim[a];
    }
    return to;
}

static tern_status reduced_shape(ti_call *c, unsigned types, bool needs_some)
{
    const tern_reduce_opts *o = c->opts;
    const ti_meta *x = &c->in[0]->m;
    char text[160];
    int64_t n;

    TI_TRY(ti_need_types(c, 0, types));
    if (o->axes < 0 || o->axes >> x->shape.rank != 0)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: axes mask %lld does not fit x %s", c->op->name,
                       (long long)o->axes, tern_shape_text(text, x->shape));
    c->meta[0] = ti_packed_meta(x->type, left(x->shape, o, o->keep, &n));
    TI_TRY(ti_countable(c, c->meta[0].shape));
    if (needs_some && n == 0)
        return ti_fail(c->ctx, TERN_E_SHAPE,
                       "%s: nothing to choose from in x %s over axes mask %lld", c->op->name,
                       tern_shape_text(text, x->shape), (long long)o->axes);
    return TERN_OK;
}

static tern_status sum_shape(ti_call *c) { return reduced_shape(c, TI_NUMBERS, false); }
static tern_status mean_shape(ti_call *c) { return reduced_shape(c, TI_FLOATS, false); }
static tern_status extreme_shape(ti_call *c) { return reduced_shape(c, TI_NUMBERS, true); }

/* ---- Bounds ---- */

static tern_reduce_opts same_axes(const ti_call *c, bool keep)
{
    const tern_reduce_opts *o = c->opts;

    return (tern_reduce_opts){.axes = o->axes, .keep = keep};
}

static double count_of(const ti_call *c)
{
    int64_t n;

    left(c->in[0]->m.shape, c->opts, false, &n);
    return (double)n;
}

static tern_tensor *sum_bound(const ti_call *c, int i_out, double L)
{
    const tern_reduce_opts *o = c->opts;
    const tern_reduce_opts over = same_axes(c, o->keep);

    (void)i_out;
    return tern_scale(c->ctx, tern_sum(c->ctx, tern_abs(c->ctx, c->in[0]), &over),
                      certain * sqrt(L) + 1);
}

static tern_tensor *mean_bound(const ti_call *c, int i_out, double L)
{
    const double n = count_of(c);

    return tern_scale(c->ctx, sum_bound(c, i_out, L + 1), n > 0 ? 1 / n : 1);
}

/* With an error e of the mean, sum (x - mean - e)^2 is off by n e^2, which is of second order; each
 * square is rounded three times, and n var = sum of the squares. */
static tern_tensor *variance_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts keep = same_axes(c, true);
    const double n = count_of(c), u = 0x1p-24;
    tern_tensor *y = tern_abs(ctx, c->out[0]), *e;

    (void)i_out;
    e = tern_scale(ctx, tern_sum(ctx, tern_abs(ctx, c->in[0]), &keep),
                   n > 0 ? (certain * sqrt(L) + 1) / n : 1);
    e = tern_scale(ctx, tern_reshape(ctx, tern_mul(ctx, e, e), tern_shape_of(y)), 4 * u);
    return tern_add(ctx, tern_scale(ctx, y, certain * sqrt(L) + 5), e);
}

/* ---- Gradients ---- */

/* Something with the result's shape, seen in x's. */
static tern_tensor *spread(const ti_call *c, tern_tensor *g)
{
    const tern_shape s = c->in[0]->m.shape;
    int64_t n;

    return tern_expand(c->ctx, tern_reshape(c->ctx, g, left(s, c->opts, true, &n)), s);
}

static void sum_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = spread(c, g[0]);
}

static void mean_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    if (count_of(c) > 0) d[0] = spread(c, tern_scale(c->ctx, g[0], 1 / count_of(c)));
}

/* An equal share to all that equal the extreme. NaN equals nothing: 0 · inf, NaN to all. */
static void extreme_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = same_axes(c, ((const tern_reduce_opts *)c->opts)->keep);
    tern_tensor *equal = tern_eq(ctx, c->in[0], spread(c, c->out[0]));
    tern_tensor *won = tern_cast(ctx, equal, g[0]->m.type);
    tern_tensor *n = tern_sum(ctx, won, &over);

    d[0] = tern_mul(ctx, won, spread(c, tern_div(ctx, g[0], n)));
}

/* 2 (x - mean) / (n - correction); the mean's own derivative sums to nothing. */
static void variance_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts keep = same_axes(c, true);
    const double by = count_of(c) - ((const tern_reduce_opts *)c->opts)->correction;
    tern_tensor *z = tern_sub(ctx, c->in[0], tern_mean(ctx, c->in[0], &keep));

    d[0] = tern_mul(ctx, spread(c, tern_scale(ctx, g[0], 2 / (by > 0 ? by : 0))), z);
}

/* ---- Samples ---- */

#define OVER(...) (&(const tern_reduce_opts){__VA_ARGS__})
#define REDUCE(D)                                                                                  \
    {"all", 1, {TI_D(D, 3, 5, 7)}, NULL},                                                          \
        {"last axis, kept", 1, {TI_D(D, 5, 37)}, OVER(.axes = 2, .keep = 1)},                      \
        {"first axis", 1, {TI_D(D, 37, 5)}, OVER(.axes = 1)},                                      \
        {"all but channels", 1, {TI_D(D, 3, 4, 5, 2)}, OVER(.axes = 13)},                          \
        {"middle of rank 5", 1, {TI_D(D, 2, 3, 2, 3, 2)}, OVER(.axes = 10)},                       \
        {"long", 1, {TI_D(D, 2, 4099)}, OVER(.axes = 2)},                                          \
        {"of one element", 1, {TI_D(D, 3, 1)}, OVER(.axes = 2)}, {"scalar", 1, {TI_D0(D)}, NULL},  \
    {                                                                                              \
        "empty, over the others", 1, {TI_D(D, 0, 3)}, OVER(.axes = 2)                              \
    }
static const ti_sample sum_samples[] = {
    REDUCE(NORMAL),
    {"of nothing", 1, {TI_D(NORMAL, 3, 0)}, OVER(.axes = 2)},
    {"integers", 1, {TI_DL(INT, 1000, 3, 7)}, OVER(.axes = 1)},
    TI_SAMPLES_END,
};
static const ti_sample mean_samples[] = {REDUCE(NORMAL), TI_SAMPLES_END};
static const ti_sample extreme_samples[] = {REDUCE(DISTINCT), TI_SAMPLES_END};
static const ti_sample variance_samples[] = {
    {"all", 1, {TI_D(NORMAL, 3, 5, 7)}, NULL},
    {"last axis, n - 1", 1, {TI_D(NORMAL, 5, 37)}, OVER(.axes = 2, .keep = 1, .correction = 1)},
    {"all but channels", 1, {TI_D(NORMAL, 3, 4, 5, 2)}, OVER(.axes = 13)},
    {"first axis", 1, {TI_D(NORMAL, 41, 3)}, OVER(.axes = 1, .correction = 1)},
    {"of one element", 1, {TI_D(NORMAL, 3, 1)}, OVER(.axes = 2)},
    {"empty, over the others", 1, {TI_D(NORMAL, 0, 3)}, OVER(.axes = 2)},
    TI_SAMPLES_END,
};

/* ---- Operations ---- */

#define REDUCTION(name_, shape_, grad_, bound_, samples_, saves_, fields_)                         \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 1,                                                                                 \
        .in = {"x"},                                                                               \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_DIFF}},                                                                   \
        .saves = saves_,                                                                           \
        .opts_size = sizeof(tern_reduce_opts),                                                     \
        .fields = fields_,                                                                         \
        .shape = shape_,                                                                           \
        .grad = grad_,                                                                             \
        .bound = bound_,                                                                           \
        .samples = samples_,                                                                       \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts)         \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, opts, 1, &x);                                           \
    }

REDUCTION(sum, sum_shape, sum_grad, sum_bound, sum_samples, 0, reduce_fields)
REDUCTION(mean, mean_shape, mean_grad, mean_bound, mean_samples, 0, reduce_fields)
REDUCTION(max, extreme_shape, extreme_grad, NULL, extreme_samples, 1, reduce_fields)
REDUCTION(min, extreme_shape, extreme_grad, NULL, extreme_samples, 1, reduce_fields)
REDUCTION(variance, mean_shape, variance_grad, variance_bound, variance_samples, 0, variance_fields)

/* ---- argmax, argmin ---- */

static const ti_field arg_fields[] = {TI_FIELD_HAS(tern_arg_opts, TI_INT, axis, 1, 0),
                                      TI_FIELD(tern_arg_opts, TI_INT, keep, 1, 0),
                                      {.name = NULL}};

static tern_status arg_shape(ti_call *c)
{
    const tern_arg_opts *o = c->opts;
    const tern_shape s = c->in[0]->m.shape;
    tern_shape to = {0};
    int axis = -1;
    char text[160];

    TI_TRY(ti_need_types(c, 0, TI_NUMBERS));
    if (o->has_axis) TI_TRY(ti_axis(c, 0, o->axis, &axis));
    if (o->has_axis ? s.dim[axis] == 0 : tern_count(s) == 0)
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: nothing to choose from in x %s", c->op->name,
                       tern_shape_text(text, s));
    for (int a = 0; a < s.rank; a++) {
        const bool gone = !o->has_axis || a == axis;
        if (!gone || o->keep) to.dim[to.rank++] = gone ? 1 : s.dim[a];
    }
    TI_TRY(ti_countable(c, to));
    c->meta[0] = ti_packed_meta(TERN_I64, to);
    return TERN_OK;
}

#define AXIS(...) (&(const tern_arg_opts){__VA_ARGS__})
static const ti_sample arg_samples[] = {
    {"all", 1, {TI_D(DISTINCT, 3, 5)}, NULL},
    {"all, kept", 1, {TI_D(DISTINCT, 3, 5)}, AXIS(.keep = 1)},
    {"last axis", 1, {TI_D(DISTINCT, 3, 5, 7)}, AXIS(.has_axis = 1, .axis = -1)},
    {"middle, kept", 1, {TI_D(DISTINCT, 3, 5, 7)}, AXIS(.has_axis = 1, .axis = 1, .keep = 1)},
    {"integers with ties", 1, {TI_DL(INT, 2, 3, 9)}, AXIS(.has_axis = 1, .axis = 1)},
    {"long", 1, {TI_D(DISTINCT, 2, 300, 3)}, AXIS(.has_axis = 1, .axis = 1)},
    {"long, with ties", 1, {TI_DL(INT, 9, 2, 300, 3)}, AXIS(.has_axis = 1, .axis = 1)},
    {"scalar", 1, {TI_D0(NORMAL)}, NULL},
    {"empty, over the others", 1, {TI_D(NORMAL, 0, 3)}, AXIS(.has_axis = 1, .axis = 1)},
    TI_SAMPLES_END,
};
#define ARG(name_)                                                                                 \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 1,                                                                                 \
        .in = {"x"},                                                                               \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_VALUE}},                                                                  \
        .opts_size = sizeof(tern_arg_opts),                                                        \
        .fields = arg_fields,                                                                      \
        .shape = arg_shape,                                                                        \
        .no_grad = "integer result",                                                               \
        .samples = arg_samples,                                                                    \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *x, const tern_arg_opts *opts)            \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, opts, 1, &x);                                           \
    }
ARG(argmax)
ARG(argmin)

const ti_op *const ti_ops_reduce[] = {&sum_op,      &mean_op,   &max_op,    &min_op,
                                      &variance_op, &argmax_op, &argmin_op, NULL};
