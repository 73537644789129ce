/*
 * unary.c - operations on one input, element by element: scale, shift, pow, clamp, neg, abs, sign,
 * exp, log, sqrt, rsqrt, erf, is_finite; tanh and sigmoid with their derivatives as ops.
 *
 * Factors c of the bounds |error| <= c u |y| count the kernels' own errors (host/cpu/simd/vector.c
 * states them in ulps; 1 ulp is at most 2 u |y|), rounded up.
 */
#include <math.h>

#include "ops/rules.h"

static tern_status numbers_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_NUMBERS));
    ti_like(c, 0, 0);
    return TERN_OK;
}

static tern_status floats_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    ti_like(c, 0, 0);
    return TERN_OK;
}

static double value_of(const ti_call *c) { return ((const tern_scalar_opts *)c->opts)->value; }

static const ti_field value_fields[] = {TI_FIELD(tern_scalar_opts, TI_F64, value, 1, 0),
                                        {.name = NULL}};

/* Integers are scaled and shifted by integers only. */
static tern_status by_shape(ti_call *c)
{
    const double by = value_of(c);

    TI_TRY(numbers_shape(c));
    if ((TI_INDICES >> c->in[0]->m.type & 1) && (by != rint(by) || fabs(by) > 0x1p53))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: %g is not an integer, and the input is %s",
                       c->op->name, by, tern_type_name(c->in[0]->m.type));
    return TERN_OK;
}

/* ---- Bounds ---- */

#define BOUND(name, factor)                                                                        \
    static tern_tensor *name(const ti_call *c, int i_out, double L)                                \
    {                                                                                              \
        (void)i_out;                                                                               \
        (void)L;                                                                                   \
        return ti_relative_bound(c, factor);                                                       \
    }
BOUND(one_bound, 1)   /* one rounding */
BOUND(scale_bound, 3) /* the factor is rounded to the type, then the product */
BOUND(pow_bound, 4)   /* C libraries: 1 ulp */
BOUND(four_bound, 4)  /* kernels of at most 2 ulp */
BOUND(six_bound, 6)   /* kernels of at most 3 ulp */

/* The summand is rounded to the type, then the sum. */
static tern_tensor *shift_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return tern_shift(c->ctx, ti_relative_bound(c, 1), fabs(value_of(c)));
}

/* ---- Gradients ---- */

static void scale_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_scale(c->ctx, g[0], value_of(c));
}

static void same_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    (void)c;
    d[0] = g[0];
}

/* p x^(p-1), and nothing at all for p = 0: no 0 times infinity. */
static void pow_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const double p = value_of(c);
    tern_tensor *x = c->in[0];

    if (p == 1) d[0] = g[0];
    else if (p == 2) d[0] = tern_scale(c->ctx, tern_mul(c->ctx, g[0], x), 2);
    else if (p != 0)
        d[0] = tern_scale(c->ctx, tern_mul(c->ctx, g[0], tern_pow(c->ctx, x, p - 1)), p);
}

static void neg_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_neg(c->ctx, g[0]);
}

static void abs_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_mul(c->ctx, g[0], tern_sign(c->ctx, c->in[0]));
}

static void zero_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    (void)c;
    (void)g;
    d[0] = NULL;
}

static void exp_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_mul(c->ctx, g[0], c->out[0]);
}

static void log_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_div(c->ctx, g[0], c->in[0]);
}

static void sqrt_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_scale(c->ctx, tern_div(c->ctx, g[0], c->out[0]), 0.5);
}

/* -1/2 y^3, as -1/2 y / x: y^3 leaves the range of the type earlier. */
static void rsqrt_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *y = c->out[0], *gy = tern_mul(c->ctx, g[0], y);

    d[0] = tern_scale(c->ctx, tern_mul(c->ctx, gy, tern_mul(c->ctx, y, y)), -0.5);
}

/* 2/sqrt(pi) exp(-x x) */
static void erf_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *e = tern_exp(ctx, tern_neg(ctx, tern_mul(ctx, c->in[0], c->in[0])));

    d[0] = tern_scale(ctx, tern_mul(ctx, g[0], e), 1.1283791670955126);
}

/* ---- clamp ---- */

static const ti_field clamp_fields[] = {TI_FIELD_HAS(tern_clamp_opts, TI_F64, min, 1, 0),
                                        TI_FIELD_HAS(tern_clamp_opts, TI_F64, max, 1, 0),
                                        {.name = NULL}};

static tern_status clamp_shape(ti_call *c)
{
    const tern_clamp_opts *o = c->opts;

    if ((o->has_min && o->min != o->min) || (o->has_max && o->max != o->max))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "clamp: a limit is NaN");
    if (o->has_min && o->has_max && o->min > o->max)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "clamp: min %g is above max %g", o->min, o->max);
    return floats_shape(c);
}

/* Inside and on the limits, and only there, the result equals the input. */
static void clamp_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_where(c->ctx, tern_eq(c->ctx, c->in[0], c->out[0]), g[0],
                      ti_constant(c->ctx, g[0], 0));
}

/* ---- tanh_d(y, g) = g (1 - y y), sigmoid_d(y, g) = g y (1 - y) ---- */

static tern_status d_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 3));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    ti_like(c, 0, 0);
    return TERN_OK;
}

/* 1 - y y and y (1 - y) in f32 lose what is rounded off y y and 1 - y, relative to g. */
static tern_tensor *d_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return tern_scale(c->ctx, tern_abs(c->ctx, c->in[1]), 3);
}

static const ti_op tanh_d_op, sigmoid_d_op;

static void tanh_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *y = c->in[0];

    if (c->wants[0]) d[0] = tern_scale(ctx, tern_mul(ctx, tern_mul(ctx, g[0], c->in[1]), y), -2);
    if (c->wants[1]) d[1] = ti_apply1(ctx, &tanh_d_op, NULL, 2, TI_IN(y, g[0]));
}

static void sigmoid_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *y = c->in[0];

    if (c->wants[0])
        d[0] = tern_mul(ctx, tern_mul(ctx, g[0], c->in[1]),
                        tern_shift(ctx, tern_scale(ctx, y, -2), 1));
    if (c->wants[1]) d[1] = ti_apply1(ctx, &sigmoid_d_op, NULL, 2, TI_IN(y, g[0]));
}

static void tanh_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = ti_apply1(c->ctx, &tanh_d_op, NULL, 2, TI_IN(c->out[0], g[0]));
}

static void sigmoid_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = ti_apply1(c->ctx, &sigmoid_d_op, NULL, 2, TI_IN(c->out[0], g[0]));
}

static const ti_sample d_samples[] = {
    {"odd", 2, {TI_D(UNIT, 3, 7), TI_D(NORMAL, 3, 7)}, NULL},
    {"scalars", 2, {TI_D0(UNIT), TI_D0(NORMAL)}, NULL},
    {"empty", 2, {TI_D(UNIT, 0, 2), TI_D(NORMAL, 0, 2)}, NULL},
    TI_SAMPLES_END,
};
#define DERIVATIVE(name_)                                                                          \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 2,                                                                                 \
        .in = {"y", "g"},                                                                          \
        .n_out = 1,                                                                                \
        .out = {{"dx", TI_DIFF}},                                                                  \
        .shape = d_shape,                                                                          \
        .grad = name_##_grad,                                                                      \
        .bound = d_bound,                                                                          \
        .samples = d_samples,                                                                      \
    };
DERIVATIVE(tanh_d)
DERIVATIVE(sigmoid_d)

/* ---- Samples ---- */

#define ONES(D)                                                                                    \
    {"odd", 1, {TI_D(D, 3, 5, 7)}, NULL}, {"scalar", 1, {TI_D0(D)}, NULL},                         \
        {"one element", 1, {TI_D(D, 1, 1)}, NULL}, {"long", 1, {TI_D(D, 1037)}, NULL},             \
        {"rank 5", 1, {TI_D(D, 2, 1, 3, 2, 2)}, NULL},                                             \
    {                                                                                              \
        "empty", 1, {TI_D(D, 3, 0)}, NULL                                                          \
    }
static const ti_sample normal_samples[] = {ONES(NORMAL), TI_SAMPLES_END};
static const ti_sample positive_samples[] = {ONES(POSITIVE), TI_SAMPLES_END};
static const ti_sample away_samples[] = {ONES(AWAY), TI_SAMPLES_END};

#define WITH(v) (&(const tern_scalar_opts){v})
static const ti_sample scale_samples[] = {
    {"by -1.5", 1, {TI_D(NORMAL, 3, 5, 7)}, WITH(-1.5)},
    {"by a tenth", 1, {TI_D(NORMAL, 41)}, WITH(0.1)},
    {"by 0, scalar", 1, {TI_D0(NORMAL)}, WITH(0)},
    {"integers", 1, {TI_DL(INT, 9, 4, 3)}, WITH(-3)},
    {"empty", 1, {TI_D(NORMAL, 0)}, WITH(2)},
    TI_SAMPLES_END,
};
static const ti_sample pow_samples[] = {
    {"squared", 1, {TI_D(NORMAL, 3, 5, 7)}, WITH(2)},
    {"inverse root", 1, {TI_D(POSITIVE, 41)}, WITH(-0.5)},
    {"to 0", 1, {TI_D(NORMAL, 5)}, WITH(0)},
    {"to 1, scalar", 1, {TI_D0(NORMAL)}, WITH(1)},
    {"cubed", 1, {TI_D(NORMAL, 2, 3)}, WITH(3)},
    {"to 2.7", 1, {TI_D(POSITIVE, 2, 3)}, WITH(2.7)},
    {"empty", 1, {TI_D(NORMAL, 0)}, WITH(2)},
    TI_SAMPLES_END,
};
/* Draws of AWAY keep 0.1 from 0: limits there, and where a normal draw hardly comes. */
static const ti_sample clamp_samples[] = {
    {"below", 1, {TI_D(AWAY, 3, 5, 7)}, &(const tern_clamp_opts){.has_min = 1}},
    {"above", 1, {TI_D(AWAY, 41)}, &(const tern_clamp_opts){.has_max = 1}},
    {"both", 1, {TI_D(AWAY, 2, 9)}, &(const tern_clamp_opts){1, 1, 0, 1e6}},
    {"none, scalar", 1, {TI_D0(NORMAL)}, NULL},
    {"empty", 1, {TI_D(NORMAL, 0)}, &(const tern_clamp_opts){1, 1, -1, 1}},
    TI_SAMPLES_END,
};

/* ---- Operations ---- */

#define ONE(name_, shape_, grad_, bound_, samples_, saves_)                                        \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 1,                                                                                 \
        .in = {"x"},                                                                               \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_DIFF}},                                                                   \
        .saves = saves_,                                                                           \
        .shape = shape_,                                                                           \
        .grad = grad_,                                                                             \
        .bound = bound_,                                                                           \
        .samples = samples_,                                                                       \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *x)                                       \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, NULL, 1, &x);                                           \
    }

ONE(neg, floats_shape, neg_grad, NULL, normal_samples, 0)
ONE(abs, floats_shape, abs_grad, NULL, away_samples, 0)
ONE(sign, floats_shape, zero_grad, NULL, away_samples, 0)
ONE(exp, floats_shape, exp_grad, four_bound, normal_samples, 1)
ONE(log, floats_shape, log_grad, four_bound, positive_samples, 0)
ONE(sqrt, floats_shape, sqrt_grad, one_bound, positive_samples, 1)
ONE(rsqrt, floats_shape, rsqrt_grad, four_bound, positive_samples, 1)
ONE(erf, floats_shape, erf_grad, six_bound, normal_samples, 0)
ONE(tanh, floats_shape, tanh_grad, six_bound, normal_samples, 1)
ONE(sigmoid, floats_shape, sigmoid_grad, six_bound, normal_samples, 1)

#define ONE_BY(name_, shape_, grad_, bound_, samples_)                                             \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 1,                                                                                 \
        .in = {"x"},                                                                               \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_DIFF}},                                                                   \
        .opts_size = sizeof(tern_scalar_opts),                                                     \
        .fields = value_fields,                                                                    \
        .shape = shape_,                                                                           \
        .grad = grad_,                                                                             \
        .bound = bound_,                                                                           \
        .samples = samples_,                                                                       \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *x, double value)                         \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, &(tern_scalar_opts){value}, 1, &x);                     \
    }

ONE_BY(scale, by_shape, scale_grad, scale_bound, scale_samples)
ONE_BY(shift, by_shape, same_grad, shift_bound, scale_samples)
ONE_BY(pow, floats_shape, pow_grad, pow_bound, pow_samples)

static const ti_op clamp_op = {
    .name = "clamp",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_clamp_opts),
    .fields = clamp_fields,
    .shape = clamp_shape,
    .grad = clamp_grad,
    .samples = clamp_samples,
};
tern_tensor *tern_clamp(tern_ctx *ctx, tern_tensor *x, const tern_clamp_opts *opts)
{
    return ti_apply1(ctx, &clamp_op, opts, 1, &x);
}

static tern_status is_finite_shape(ti_call *c)
{
    TI_TRY(floats_shape(c));
    c->meta[0] = ti_follow_meta(TERN_BOOL, &c->in[0]->m);
    return TERN_OK;
}
static const ti_op is_finite_op = {
    .name = "is_finite",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .shape = is_finite_shape,
    .no_grad = "boolean result",
    .samples = normal_samples,
};
tern_tensor *tern_is_finite(tern_ctx *ctx, tern_tensor *x)
{
    return ti_apply1(ctx, &is_finite_op, NULL, 1, &x);
}

const ti_op *const ti_ops_unary[] = {
    &scale_op, &shift_op,  &pow_op,     &clamp_op,     &neg_op,       &abs_op,
    &sign_op,  &exp_op,    &log_op,     &sqrt_op,      &rsqrt_op,     &erf_op,
    &tanh_op,  &tanh_d_op, &sigmoid_op, &sigmoid_d_op, &is_finite_op, NULL};
