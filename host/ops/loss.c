/*
 * loss.c - softmax, log-softmax and the mean squared error.
 *
 * Both softmaxes are shift-invariant, so the maximum that keeps exp in range is a constant to
 * their derivatives.
 */
#include "ops/common.h"
#include "tern/grad.h"

static const ti_field axis_fields[] = {TI_FIELD(tern_axis_opts, TI_INT, axis, 1, 0), {0}};

static tern_reduce_opts along(const ti_call *c)
{
    const int rank = tern_shape_of(c->in[0]).rank;
    const int axis = ((const tern_axis_opts *)c->opts)->axis;

    return (tern_reduce_opts){.axes = 1ll << (axis < 0 ? axis + rank : axis), .keep = 1};
}

static tern_status softmax_shape(ti_call *c)
{
    int axis;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_axis(c, 0, ((const tern_axis_opts *)c->opts)->axis, &axis));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, c->in[0]->m.shape);
    return TERN_OK;
}

static tern_tensor *shifted(const ti_call *c)
{
    const tern_reduce_opts over = along(c);

    if (tern_count(tern_shape_of(c->in[0])) == 0) return c->in[0];
    return tern_sub(c->ctx, c->in[0], tern_detach(c->ctx, tern_max(c->ctx, c->in[0], &over)));
}

static tern_status softmax_compose(const ti_call *c, tern_tensor **y)
{
    const tern_reduce_opts over = along(c);
    tern_tensor *e = tern_exp(c->ctx, shifted(c));

    y[0] = tern_div(c->ctx, e, tern_sum(c->ctx, e, &over));
    return tern_error(c->ctx);
}

static tern_status log_softmax_compose(const ti_call *c, tern_tensor **y)
{
    const tern_reduce_opts over = along(c);
    tern_tensor *z = shifted(c), *e = tern_exp(c->ctx, z);

    y[0] = tern_sub(c->ctx, z, tern_log(c->ctx, tern_sum(c->ctx, e, &over)));
    return tern_error(c->ctx);
}

/*
 * z = x - max is within |z| u, exp within 4 u of its value, so with p = softmax(x) the sum is
 * within s = sum p|z| + 4 + e of its value, e = ti_sum_error(L): relative errors |z| + 4 + s.
 */
typedef struct {
    tern_tensor *z, *p, *p_err, *s; /* p_err: relative */
} parts;

static parts parts_of(const ti_call *c, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = along(c);
    parts t = {.z = shifted(c)};
    tern_tensor *e = tern_exp(ctx, t.z);

    t.p = tern_div(ctx, e, tern_sum(ctx, e, &over));
    t.z = tern_abs(ctx, t.z);
    t.s = tern_shift(ctx, tern_sum(ctx, tern_mul(ctx, t.p, t.z), &over), ti_sum_error(L) + 4);
    t.p_err = tern_shift(ctx, tern_add(ctx, t.z, t.s), 6);
    return t;
}

/* Results below the normal numbers are as coarse as these: 2^-126 in units of 2^-24. */
static const double coarse = 0x1p-102;

static tern_tensor *softmax_bound(const ti_call *c, int i_out, double L)
{
    const parts t = parts_of(c, L);

    (void)i_out;
    return tern_shift(c->ctx, tern_mul(c->ctx, t.p, t.p_err), coarse);
}

/* y = z - log sum: the logarithm of a sum within s of its value is within s, and its own 3. */
static tern_tensor *log_softmax_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const parts t = parts_of(c, L);
    tern_tensor *b = tern_add(ctx, tern_scale(ctx, t.z, 4), t.s);

    (void)i_out;
    return tern_shift(ctx, tern_add(ctx, b, tern_scale(ctx, tern_abs(ctx, c->out[0]), 4)), 1);
}

/* softmax_d(x, gy, y): y (gy - <gy, y>); log_softmax_d: gy - exp(y) sum gy. */
static tern_status softmax_d_shape(ti_call *c)
{
    int axis;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 7));
    TI_TRY(ti_axis(c, 0, ((const tern_axis_opts *)c->opts)->axis, &axis));
    for (int i = 1; i < 3; i++)
        if (c->in[i] && !tern_same_shape(c->in[0]->m.shape, c->in[i]->m.shape))
            return ti_misfit(c, 0, i);
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, c->in[0]->m.shape);
    return TERN_OK;
}

static tern_tensor *softmax_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = along(c);
    const parts t = parts_of(c, L);
    tern_tensor *g = tern_abs(ctx, c->in[1]), *pg = tern_mul(ctx, t.p, g);
    tern_tensor *own = tern_shift(ctx, t.p_err, ti_sum_error(L) + 3);
    tern_tensor *dot = tern_sum(ctx, pg, &over);
    tern_tensor *dot_err = tern_sum(ctx, tern_mul(ctx, pg, own), &over);
    tern_tensor *b = tern_mul(ctx, tern_add(ctx, g, dot), own);

    (void)i_out;
    return tern_shift(ctx, tern_mul(ctx, t.p, tern_add(ctx, b, dot_err)), coarse);
}

static tern_tensor *log_softmax_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = along(c);
    const parts t = parts_of(c, L);
    tern_tensor *g = tern_abs(ctx, c->in[1]), *sum = tern_sum(ctx, g, &over);
    tern_tensor *err = tern_scale(ctx, tern_shift(ctx, t.p_err, ti_sum_error(L) + 4), 2);

    (void)i_out;
    return tern_shift(
        ctx, tern_add(ctx, tern_mul(ctx, tern_mul(ctx, t.p, sum), err), tern_scale(ctx, g, 2)),
        coarse);
}

static void softmax_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);
static void log_softmax_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* mse(x, target): an ordinary op of both. */
static const ti_field mse_fields[] = {TI_FIELD_NAMES(tern_mse_opts, reduction, "mean|sum|none"),
                                      {0}};

static tern_status mse_shape(ti_call *c)
{
    const int reduction = ((const tern_mse_opts *)c->opts)->reduction;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 3));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    if (reduction < TERN_REDUCE_MEAN || reduction > TERN_REDUCE_NONE)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "mse: reduction %d is none of 0 … 2", reduction);
    if (reduction == TERN_REDUCE_NONE) ti_like(c, 0, 0);
    else c->meta[0] = ti_packed_meta(c->in[0]->m.type, TI_SCALAR);
    return TERN_OK;
}

/* What a sum of the squares is divided by. */
static double divisor(const ti_call *c)
{
    const int reduction = ((const tern_mse_opts *)c->opts)->reduction;

    return reduction == TERN_REDUCE_MEAN ? (double)tern_count(c->in[0]->m.shape) : 1;
}

static void mse_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *two = tern_scale(ctx, tern_sub(ctx, c->in[0], c->in[1]), 2 / divisor(c));

    if (c->wants[0] || c->wants[1]) two = tern_mul(ctx, two, g[0]);
    if (c->wants[0]) d[0] = two;
    if (c->wants[1]) d[1] = tern_neg(ctx, two);
}

static tern_tensor *mse_bound(const ti_call *c, int i_out, double L)
{
    return (void)i_out, tern_scale(c->ctx, tern_abs(c->ctx, c->out[0]), ti_sum_error(L) + 5);
}

static const tern_axis_opts last = {-1}, middle = {1};
static const ti_sample softmax_samples[] = {
    {"first axis", 1, {TI_NORMAL(5, 7)}, NULL},
    {"last axis", 1, {TI_NORMAL(4, 33)}, &last},
    {"middle axis", 1, {TI_NORMAL(2, 5, 3)}, &middle},
    {"one value", 1, {TI_NORMAL(3, 1)}, &last},
    {"empty", 1, {TI_NORMAL(0, 4)}, &last},
    TI_SAMPLES_END,
};
static const ti_sample softmax_d_samples[] = {
    {"last axis", 3, {TI_NORMAL(4, 33), TI_NORMAL(4, 33), TI_NOTHING}, &last},
    {"middle axis", 3, {TI_NORMAL(2, 5, 3), TI_NORMAL(2, 5, 3), TI_NOTHING}, &middle},
    TI_SAMPLES_END,
};
static const ti_sample mse_samples[] = {
    {"mean", 2, {TI_NORMAL(3, 5), TI_NORMAL(3, 5)}, NULL},
    {"sum", 2, {TI_NORMAL(2, 3, 4), TI_NORMAL(2, 3, 4)}, &(tern_mse_opts){TERN_REDUCE_SUM}},
    {"none", 2, {TI_NORMAL(7), TI_NORMAL(7)}, &(tern_mse_opts){TERN_REDUCE_NONE}},
    {"empty sum", 2, {TI_NORMAL(0, 2), TI_NORMAL(0, 2)}, &(tern_mse_opts){TERN_REDUCE_SUM}},
    TI_SAMPLES_END,
};

static const ti_op softmax = {
    .name = "softmax",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_axis_opts),
    .fields = axis_fields,
    .shape = softmax_shape,
    .grad = softmax_grad,
    .compose = softmax_compose,
    .bound = softmax_bound,
    .samples = softmax_samples,
};
static const ti_op log_softmax = {
    .name = "log_softmax",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_axis_opts),
    .fields = axis_fields,
    .shape = softmax_shape,
    .grad = log_softmax_grad,
    .compose = log_softmax_compose,
    .bound = log_softmax_bound,
    .samples = softmax_samples,
};
static const ti_op softmax_d = {
    .name = "softmax_d",
    .n_in = 3,
    .in = {"x", "gy", "y"},
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_axis_opts),
    .fields = axis_fields,
    .shape = softmax_d_shape,
    .grad = ti_composed_grad,
    .composed = &softmax,
    .d_needs = 1,
    .bound = softmax_d_bound,
    .samples = softmax_d_samples,
};
static const ti_op log_softmax_d = {
    .name = "log_softmax_d",
    .n_in = 3,
    .in = {"x", "gy", "y"},
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_axis_opts),
    .fields = axis_fields,
    .shape = softmax_d_shape,
    .grad = ti_composed_grad,
    .composed = &log_softmax,
    .d_needs = 1,
    .bound = log_softmax_d_bound,
    .samples = softmax_d_samples,
};
static const ti_op mse = {
    .name = "mse",
    .n_in = 2,
    .in = {"x", "target"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_mse_opts),
    .fields = mse_fields,
    .shape = mse_shape,
    .grad = mse_grad,
    .bound = mse_bound,
    .samples = mse_samples,
};

/* y enters as a value: the derivatives of X_d are total ones in x. */
static void softmax_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *y = tern_detach(c->ctx, c->out[0]);

    ti_fused_grad(c, g, d, &softmax_d, 1, &y);
}
static void log_softmax_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *y = tern_detach(c->ctx, c->out[0]);

    ti_fused_grad(c, g, d, &log_softmax_d, 1, &y);
}

const ti_op *const ti_ops_loss[] = {&softmax, &softmax_d, &log_softmax, &log_softmax_d, &mse, NULL};

tern_tensor *tern_softmax(tern_ctx *ctx, tern_tensor *x, const tern_axis_opts *opts)
{
    return ti_apply1(ctx, &softmax, opts, 1, &x);
}
tern_tensor *tern_log_softmax(tern_ctx *ctx, tern_tensor *x, const tern_axis_opts *opts)
{
    return ti_apply1(ctx, &log_softmax, opts, 1, &x);
}
tern_tensor *tern_mse(tern_ctx *ctx, tern_tensor *x, tern_tensor *target, const tern_mse_opts *opts)
{
    return ti_apply1(ctx, &mse, opts, 2, TI_IN(x, target));
}
