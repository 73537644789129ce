/*
 * activation.c - relu, leaky_relu, elu, gelu, and their first derivatives as ops.
 *
 * X_d(x or y, g) is one pass for what would be three; its own derivatives are made of public ops.
 * relu's takes the result, so that its input need not live until the backward pass.
 */
#include "ops/rules.h"

static tern_status one_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    ti_like(c, 0, 0);
    return TERN_OK;
}

static tern_status d_shape(ti_call *c)
{
    TI_TRY(ti_same_types(c, 3));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    return one_shape(c);
}

static const ti_op relu_d_op, leaky_relu_d_op, elu_d_op, gelu_d_op;

static tern_tensor *d_call(const ti_call *c, const ti_op *op, tern_tensor *at, tern_tensor *g)
{
    return ti_apply1(c->ctx, op, c->opts, 2, TI_IN(at, g));
}

/* ---- relu ---- */

static void relu_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = d_call(c, &relu_d_op, c->out[0], g[0]);
}

/* relu_d(y, g): flat in y, linear in g. */
static void relu_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    if (c->wants[1]) d[1] = d_call(c, &relu_d_op, c->in[0], g[0]);
}

/* ---- leaky_relu: slope x where x <= 0 ---- */

static const ti_field leaky_fields[] = {TI_FIELD_HAS(tern_slope_opts, TI_F64, slope, 1, 0.01),
                                        {.name = NULL}};

static void leaky_relu_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = d_call(c, &leaky_relu_d_op, c->in[0], g[0]);
}

static void leaky_relu_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    if (c->wants[1]) d[1] = d_call(c, &leaky_relu_d_op, c->in[0], g[0]);
}

/* ---- elu: slope (exp(x) - 1) where x <= 0 ---- */

static const ti_field elu_fields[] = {TI_FIELD_HAS(tern_slope_opts, TI_F64, slope, 1, 1),
                                      {.name = NULL}};

static void elu_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = d_call(c, &elu_d_op, c->in[0], g[0]);
}

/* elu_d(x, g): in x it is slope exp(x) g again, but zero where x > 0. x is cut at 0 first: exp
 * must not overflow on the side that does not count. */
static void elu_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *x = c->in[0];

    if (c->wants[0]) {
        const double slope = ((const tern_slope_opts *)c->opts)->slope;
        tern_tensor *low = tern_clamp(ctx, x, &(tern_clamp_opts){.has_max = 1});
        tern_tensor *e = tern_scale(ctx, tern_exp(ctx, low), slope);
        tern_tensor *zero = ti_constant(ctx, x, 0);
        tern_tensor *h = tern_mul(ctx, tern_mul(ctx, g[0], c->in[1]), e);
        d[0] = tern_where(ctx, tern_gt(ctx, x, zero), zero, h);
    }
    if (c->wants[1]) d[1] = d_call(c, &elu_d_op, x, g[0]);
}

/* ---- gelu ---- */

static const ti_field gelu_fields[] = {TI_FIELD(tern_gelu_opts, TI_INT, tanh, 1, 0),
                                       {.name = NULL}};

static void gelu_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = d_call(c, &gelu_d_op, c->in[0], g[0]);
}

/* phi(x) (2 - x x), phi the normal density. */
static tern_tensor *second(tern_ctx *ctx, tern_tensor *x)
{
    tern_tensor *xx = tern_mul(ctx, x, x);
    tern_tensor *phi =
        tern_scale(ctx, tern_exp(ctx, tern_scale(ctx, xx, -0.5)), 0.3989422804014327);

    return tern_mul(ctx, phi, tern_shift(ctx, tern_neg(ctx, xx), 2));
}

/* With u = k (x + c x^3), t = tanh u: (1 - t t) (u' + x (u''/2 - t u' u')). */
static tern_tensor *second_tanh(tern_ctx *ctx, tern_tensor *x)
{
    const double k = 0.7978845608028654, c = 0.044715;
    tern_tensor *xx = tern_mul(ctx, x, x);
    tern_tensor *u = tern_mul(ctx, x, tern_shift(ctx, tern_scale(ctx, xx, k * c), k));
    tern_tensor *u1 = tern_shift(ctx, tern_scale(ctx, xx, 3 * k * c), k);
    tern_tensor *u2 = tern_scale(ctx, x, 3 * k * c), *t = tern_tanh(ctx, u);
    tern_tensor *flat = tern_shift(ctx, tern_neg(ctx, tern_mul(ctx, t, t)), 1);
    tern_tensor *bend = tern_sub(ctx, u2, tern_mul(ctx, t, tern_mul(ctx, u1, u1)));

    return tern_mul(ctx, flat, tern_add(ctx, u1, tern_mul(ctx, x, bend)));
}

/* Beyond 40 all is 0 in every type; x x must not overflow there. */
static void gelu_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;

    if (c->wants[0]) {
        const bool by_tanh = ((const tern_gelu_opts *)c->opts)->tanh;
        tern_tensor *x = tern_clamp(ctx, c->in[0], &(tern_clamp_opts){1, 1, -40, 40});
        tern_tensor *h = by_tanh ? second_tanh(ctx, x) : second(ctx, x);
        d[0] = tern_mul(ctx, tern_mul(ctx, g[0], c->in[1]), h);
    }
    if (c->wants[1]) d[1] = d_call(c, &gelu_d_op, c->in[0], g[0]);
}

/* ---- Bounds ---- */

#define BOUND(name, tensor, factor)                                                                \
    static tern_tensor *name(const ti_call *c, int i_out, double L)                                \
    {                                                                                              \
        (void)i_out;                                                                               \
        (void)L;                                                                                   \
        return tern_scale(c->ctx, tern_abs(c->ctx, tensor), factor);                               \
    }
BOUND(leaky_bound, c->out[0], 3) /* the slope is rounded, then the product */

/* exp(x) - 1 is off by a few u of at most 1, and no less precise than that near 0, where |x| is
 * the scale: the kernels keep the small part of exp apart. */
static tern_tensor *elu_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return ti_relative_bound(c, 8);
}

/* elu': slope exp(x) g; gelu': g times a factor below 1.2 whose terms are below 1.2 each. */
BOUND(elu_d_bound, c->out[0], 8)
/* x Phi(x): Phi = (1 + erf)/2 is off by 2 u of 1. */
BOUND(gelu_bound, c->in[0], 6)
BOUND(gelu_d_bound, c->in[1], 16)

/* ---- Samples ---- */

#define ONES(D, O)                                                                                 \
    {"odd", 1, {TI_D(D, 3, 5, 7)}, O}, {"scalar", 1, {TI_D0(D)}, O},                               \
        {"long", 1, {TI_D(D, 1037)}, O}, {"rank 5", 1, {TI_D(D, 2, 1, 3, 2, 2)}, O},               \
    {                                                                                              \
        "empty", 1, {TI_D(D, 3, 0)}, O                                                             \
    }
#define TWOS(D, O)                                                                                 \
    {"odd", 2, {TI_D(D, 3, 5, 7), TI_D(NORMAL, 3, 5, 7)}, O},                                      \
        {"scalar", 2, {TI_D0(D), TI_D0(NORMAL)}, O},                                               \
        {"long", 2, {TI_D(D, 1037), TI_D(NORMAL, 1037)}, O},                                       \
    {                                                                                              \
        "empty", 2, {TI_D(D, 3, 0), TI_D(NORMAL, 3, 0)}, O                                         \
    }
#define SLOPE(v) (&(const tern_slope_opts){1, v})
#define TANH (&(const tern_gelu_opts){1})

static const ti_sample relu_samples[] = {ONES(AWAY, NULL), TI_SAMPLES_END};
static const ti_sample relu_d_samples[] = {TWOS(AWAY, NULL), TI_SAMPLES_END};
static const ti_sample slope_samples[] = {
    ONES(AWAY, NULL),
    {"steep", 1, {TI_D(AWAY, 7, 3)}, SLOPE(0.3)},
    {"slope 0", 1, {TI_D(AWAY, 7, 3)}, SLOPE(0)},
    {"slope -2", 1, {TI_D(AWAY, 7, 3)}, SLOPE(-2)},
    TI_SAMPLES_END,
};
static const ti_sample slope_d_samples[] = {
    TWOS(AWAY, NULL),
    {"steep", 2, {TI_D(AWAY, 7, 3), TI_D(NORMAL, 7, 3)}, SLOPE(0.3)},
    TI_SAMPLES_END,
};
static const ti_sample gelu_samples[] = {
    ONES(NORMAL, NULL),
    {"tanh", 1, {TI_D(NORMAL, 7, 31)}, TANH},
    {"tanh, scalar", 1, {TI_D0(NORMAL)}, TANH},
    TI_SAMPLES_END,
};
static const ti_sample gelu_d_samples[] = {
    TWOS(NORMAL, NULL),
    {"tanh", 2, {TI_D(NORMAL, 7, 31), TI_D(NORMAL, 7, 31)}, TANH},
    TI_SAMPLES_END,
};

/* ---- Operations ---- */

#define PAIR(name_, d_in, saves_, bytes, fields_, bound_, d_bound_, samples_, d_samples_)          \
    static const ti_op name_##_d_op = {                                                            \
        .name = #name_ "_d",                                                                       \
        .n_in = 2,                                                                                 \
        .in = {d_in, "g"},                                                                         \
        .n_out = 1,                                                                                \
        .out = {{"dx", TI_DIFF}},                                                                  \
        .opts_size = bytes,                                                                        \
        .fields = fields_,                                                                         \
        .shape = d_shape,                                                                          \
        .grad = name_##_d_grad,                                                                    \
        .bound = d_bound_,                                                                         \
        .samples = d_samples_,                                                                     \
    };                                                                                             \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 1,                                                                                 \
        .in = {"x"},                                                                               \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_DIFF}},                                                                   \
        .saves = saves_,                                                                           \
        .opts_size = bytes,                                                                        \
        .fields = fields_,                                                                         \
        .shape = one_shape,                                                                        \
        .grad = name_##_grad,                                                                      \
        .bound = bound_,                                                                           \
        .samples = samples_,                                                                       \
    };

PAIR(relu, "y", 1, 0, NULL, NULL, NULL, relu_samples, relu_d_samples)
PAIR(leaky_relu, "x", 0, sizeof(tern_slope_opts), leaky_fields, leaky_bound, leaky_bound,
     slope_samples, slope_d_samples)
PAIR(elu, "x", 0, sizeof(tern_slope_opts), elu_fields, elu_bound, elu_d_bound, slope_samples,
     slope_d_samples)
PAIR(gelu, "x", 0, sizeof(tern_gelu_opts), gelu_fields, gelu_bound, gelu_d_bound, gelu_samples,
     gelu_d_samples)

tern_tensor *tern_relu(tern_ctx *ctx, tern_tensor *x)
{
    return ti_apply1(ctx, &relu_op, NULL, 1, &x);
}
tern_tensor *tern_leaky_relu(tern_ctx *ctx, tern_tensor *x, const tern_slope_opts *opts)
{
    return ti_apply1(ctx, &leaky_relu_op, opts, 1, &x);
}
tern_tensor *tern_elu(tern_ctx *ctx, tern_tensor *x, const tern_slope_opts *opts)
{
    return ti_apply1(ctx, &elu_op, opts, 1, &x);
}
tern_tensor *tern_gelu(tern_ctx *ctx, tern_tensor *x, const tern_gelu_opts *opts)
{
    return ti_apply1(ctx, &gelu_op, opts, 1, &x);
}

const ti_op *const ti_ops_activation[] = {&relu_op,         &relu_d_op, &leaky_relu_op,
                                          &leaky_relu_d_op, &elu_op,    &elu_d_op,
                                          &gelu_op,         &gelu_d_op, NULL};
