/*
 * linear.c - linear_act, act(x w' + b), and its derivative linear_act_d.
 */
#include "ops/common.h"
#include "tern/grad.h"

static const ti_field linear_fields[] = {
    TI_FIELD_NAMES(tern_linear_opts, act, "none|relu|tanh|sigmoid"), {0}};

static tern_shape shape_of_y(tern_shape x, tern_shape w)
{
    x.dim[x.rank - 1] = w.dim[0];
    return x;
}

/* x, w and b, the first inputs of both ops. */
static tern_status check_inputs(const ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 7));
    TI_TRY(ti_need_rank(c, 0, 1, TERN_RANK));
    TI_TRY(ti_need_rank(c, 1, 2, 2));
    const tern_shape x = c->in[0]->m.shape, w = c->in[1]->m.shape;
    if (x.dim[x.rank - 1] != w.dim[1]) return ti_misfit(c, 0, 1);
    if (c->in[2]) {
        TI_TRY(ti_need_rank(c, 2, 1, 1));
        if (c->in[2]->m.shape.dim[0] != w.dim[0]) return ti_misfit(c, 1, 2);
    }
    const int act = ((const tern_linear_opts *)c->opts)->act;
    if (act < TERN_ACT_NONE || act > TERN_SIGMOID)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: act %d is none of 0 … 3", c->op->name, act);
    return TERN_OK;
}

static tern_status linear_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, shape_of_y(c->in[0]->m.shape, c->in[1]->m.shape));
    return TERN_OK;
}

static tern_tensor *as_rows(tern_ctx *ctx, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);
    int64_t rows = 1;

    if (!x || s.rank == 2) return x;
    for (int a = 0; a < s.rank - 1; a++) rows *= s.dim[a];
    return tern_reshape(ctx, x, TI_SHAPE(rows, s.dim[s.rank - 1]));
}

static tern_status linear_compose(const ti_call *c, tern_tensor **y)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *x = c->in[0], *w = c->in[1], *b = c->in[2];
    tern_tensor *z = tern_matmul(ctx, as_rows(ctx, x), tern_transpose(ctx, w, 0, 1));

    if (b) z = tern_add(ctx, z, b);
    z = ti_act(ctx, z, ((const tern_linear_opts *)c->opts)->act);
    y[0] = tern_reshape(ctx, z, shape_of_y(tern_shape_of(x), tern_shape_of(w)));
    return tern_error(ctx);
}

/* |x| |w|' + |b|, and what the activation adds. */
static tern_tensor *linear_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *w = tern_transpose(ctx, tern_abs(ctx, c->in[1]), 0, 1);
    tern_tensor *z = tern_matmul(ctx, as_rows(ctx, tern_abs(ctx, c->in[0])), w);

    (void)i_out;
    if (c->in[2]) z = tern_add(ctx, z, tern_abs(ctx, c->in[2]));
    z = tern_reshape(ctx, z, c->out[0]->m.shape);
    z = ti_flushed(c, tern_scale(ctx, z, ti_sum_error(L)), c->in[1]->m.shape.dim[1]);
    return tern_add(ctx, z, tern_scale(ctx, tern_abs(ctx, c->out[0]), 4));
}

static double linear_flops(const ti_call *c)
{
    return 2.0 * (double)tern_count(c->in[0]->m.shape) * (double)c->in[1]->m.shape.dim[0];
}

/* linear_act_d(x, w, b, gy, y): dx, dw, db. y spares computing it again. */
static tern_status linear_d_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    TI_TRY(ti_same_types(c, 0x1f));
    const tern_shape w = c->in[1]->m.shape, y = shape_of_y(c->in[0]->m.shape, w);
    for (int i = 3; i < 5; i++)
        if (c->in[i] && !tern_same_shape(c->in[i]->m.shape, y)) return ti_misfit(c, 0, i);
    for (int i = 0; i < 2; i++) c->meta[i] = ti_packed_meta(c->in[0]->m.type, c->in[i]->m.shape);
    c->meta[2] = ti_packed_meta(c->in[0]->m.type, TI_SHAPE(w.dim[0]));
    return TERN_OK;
}

/* Slopes are at most 1 and right within 4 u of 1, so gy stands for gy act'(z) in each. */
static tern_tensor *linear_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *h = as_rows(ctx, tern_abs(ctx, c->in[3])), *s;

    if (i_out == 0) s = tern_matmul(ctx, h, tern_abs(ctx, c->in[1]));
    else if (i_out == 1)
        s = tern_matmul(ctx, tern_transpose(ctx, h, 0, 1), as_rows(ctx, tern_abs(ctx, c->in[0])));
    else s = tern_sum(ctx, h, &(tern_reduce_opts){.axes = 1});
    s = tern_scale(ctx, s, ti_sum_error(L) + 4);
    if (i_out < 2) s = ti_flushed(c, s, tern_shape_of(h).dim[i_out == 0 ? 1 : 0]);
    return i_out == 0 ? tern_reshape(ctx, s, c->in[0]->m.shape) : s;
}

static double linear_d_flops(const ti_call *c) { return 2 * linear_flops(c); }

static void linear_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

static const tern_linear_opts none = {TERN_ACT_NONE}, relu = {TERN_RELU}, tangent = {TERN_TANH},
                              sigmoid = {TERN_SIGMOID};
static const ti_sample linear_samples[] = {
    {"no bias", 3, {TI_NORMAL(5, 7), TI_NORMAL(3, 7), TI_NOTHING}, &none},
    {"bias", 3, {TI_NORMAL(9, 17), TI_NORMAL(33, 17), TI_NORMAL(33)}, &none},
    {"relu", 3, {TI_NORMAL(4, 6), TI_NORMAL(5, 6), TI_NORMAL(5)}, &relu},
    {"tanh, three axes", 3, {TI_NORMAL(2, 3, 4), TI_NORMAL(5, 4), TI_NORMAL(5)}, &tangent},
    {"sigmoid", 3, {TI_NORMAL(3, 4), TI_NORMAL(2, 4), TI_NORMAL(2)}, &sigmoid},
    {"one vector", 3, {TI_NORMAL(11), TI_NORMAL(4, 11), TI_NORMAL(4)}, &tangent},
    {"empty batch", 3, {TI_NORMAL(0, 3), TI_NORMAL(2, 3), TI_NORMAL(2)}, &relu},
    TI_SAMPLES_END,
};
static const ti_sample linear_d_samples[] = {
    {"bias",
     5,
     {TI_NORMAL(5, 7), TI_NORMAL(3, 7), TI_NORMAL(3), TI_NORMAL(5, 3), TI_NOTHING},
     &none},
    {"tanh",
     5,
     {TI_NORMAL(4, 6), TI_NORMAL(5, 6), TI_NORMAL(5), TI_NORMAL(4, 5), TI_NOTHING},
     &tangent},
    {"no bias, sigmoid",
     5,
     {TI_NORMAL(2, 3, 4), TI_NORMAL(5, 4), TI_NOTHING, TI_NORMAL(2, 3, 5), TI_NOTHING},
     &sigmoid},
    {"empty batch",
     5,
     {TI_NORMAL(0, 3), TI_NORMAL(2, 3), TI_NORMAL(2), TI_NORMAL(0, 2), TI_NOTHING},
     &relu},
    TI_SAMPLES_END,
};

/* A layer and its activation behind it, whose slope is one of the result. */
#define BEHIND(act)                                                                                \
    {                                                                                              \
        .forward = "z = linear_act x w b act=none; y = " act " z",                                 \
        .made = "y = linear_act x w b act=" act, .backward = {                                     \
            {"q = " act "_d y g; dx, dw, db = linear_act_d x w b q -",                             \
             "dx, dw, db = linear_act_d x w b g y act=" act}                                       \
        }                                                                                          \
    }
static const ti_fusion fusions[] = {
    BEHIND("relu"), BEHIND("tanh"), BEHIND("sigmoid"), {.forward = NULL}};

static const ti_op linear_act = {
    .name = "linear_act",
    .n_in = 3,
    .in = {"x", "w", "b"},
    .operands = 3,
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_linear_opts),
    .fields = linear_fields,
    .shape = linear_shape,
    .grad = linear_grad,
    .compose = linear_compose,
    .bound = linear_bound,
    .samples = linear_samples,
    .fusions = fusions,
    .flops = linear_flops,
};
static const ti_op linear_act_d = {
    .name = "linear_act_d",
    .n_in = 5,
    .in = {"x", "w", "b", "gy", "y"},
    .operands = 11,
    .optional = 1u << 2 | 1u << 4,
    .n_out = 3,
    .out = {{"dx", TI_DIFF}, {"dw", TI_DIFF}, {"db", TI_DIFF}},
    .opts_size = sizeof(tern_linear_opts),
    .fields = linear_fields,
    .shape = linear_d_shape,
    .grad = ti_composed_grad,
    .composed = &linear_act,
    .d_needs = 7,
    .bound = linear_d_bound,
    .samples = linear_d_samples,
    .flops = linear_d_flops,
};

/* y enters as a value: the derivatives of linear_act_d are total ones in x, w and b. */
static void linear_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const int act = ((const tern_linear_opts *)c->opts)->act;
    tern_tensor *y = act == TERN_ACT_NONE ? NULL : tern_detach(c->ctx, c->out[0]);

    ti_fused_grad(c, g, d, &linear_act_d, 1, &y);
}

const ti_op *const ti_ops_linear[] = {&linear_act, &linear_act_d, NULL};

tern_tensor *tern_linear_act(tern_ctx *ctx, tern_tensor *x, tern_tensor *w, tern_tensor *b,
                             const tern_linear_opts *opts)
{
    return ti_apply1(ctx, &linear_act, opts, 3, TI_IN(x, w, b));
}
