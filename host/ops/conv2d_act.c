/*
 * conv2d_act.c - conv2d_act, act(conv2d(x, w) + b), and its derivative conv2d_act_d.
 */
#include <string.h>

#include "ops/common.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"
#include "tern/grad.h"

static const ti_field act_fields[] = {
    TI_FIELD(tern_conv2d_act_opts, TI_INT, stride, 2, 1),
    TI_FIELD(tern_conv2d_act_opts, TI_INT, pad, 2, 0),
    TI_FIELD(tern_conv2d_act_opts, TI_INT, dilation, 2, 1),
    TI_FIELD(tern_conv2d_act_opts, TI_INT, groups, 1, 1),
    TI_FIELD_NAMES(tern_conv2d_act_opts, act, "none|relu|tanh|sigmoid"),
    {0},
};

static tern_conv2d_opts geometry(const ti_call *c, const tern_tensor *like)
{
    const tern_conv2d_act_opts *o = c->opts;
    tern_conv2d_opts to = {.groups = o->groups};

    memcpy(to.stride, o->stride, sizeof to.stride);
    memcpy(to.pad, o->pad, sizeof to.pad);
    memcpy(to.dilation, o->dilation, sizeof to.dilation);
    if (like) memcpy(to.shape, like->m.shape.dim, sizeof to.shape);
    return to;
}

/* x, w and b, the first inputs of both ops; the shape of y. */
static tern_status check_inputs(const ti_call *c, tern_shape *y)
{
    const tern_conv2d_opts o = geometry(c, NULL);
    const int act = ((const tern_conv2d_act_opts *)c->opts)->act;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 7));
    for (int i = 0; i < 2; i++) TI_TRY(ti_need_rank(c, i, 4, 4));
    if (c->in[2]) {
        TI_TRY(ti_need_rank(c, 2, 1, 1));
        if (c->in[2]->m.shape.dim[0] != c->in[1]->m.shape.dim[0]) return ti_misfit(c, 1, 2);
    }
    if (act < TERN_ACT_NONE || act > TERN_SIGMOID)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: act %d is none of 0 … 3", c->op->name, act);
    return ti_conv2d_extents(c, &o, c->in[0]->m.shape, c->in[1]->m.shape, y);
}

static tern_status act_shape(ti_call *c)
{
    tern_shape y;

    TI_TRY(check_inputs(c, &y));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, y);
    return TERN_OK;
}

static tern_status act_compose(const ti_call *c, tern_tensor **y)
{
    tern_ctx *ctx = c->ctx;
    const tern_conv2d_opts o = geometry(c, NULL);
    tern_tensor *b = c->in[2], *z = tern_conv2d(ctx, c->in[0], c->in[1], &o);

    if (b) z = tern_add(ctx, z, tern_reshape(ctx, b, TI_SHAPE(b->m.shape.dim[0], 1, 1)));
    y[0] = ti_act(ctx, z, ((const tern_conv2d_act_opts *)c->opts)->act);
    return tern_error(ctx);
}

/* conv2d(|x|, |w|) + |b|, and what the activation adds. */
static tern_tensor *act_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_conv2d_opts o = geometry(c, NULL);
    tern_tensor *b = c->in[2];
    tern_tensor *z = ti_conv2d_size(ctx, TI_SIZE_Y, c->numbers, c->in[0], c->in[1], o);

    (void)i_out;
    if (b)
        z = tern_add(ctx, z,
                     tern_abs(ctx, tern_reshape(ctx, b, TI_SHAPE(b->m.shape.dim[0], 1, 1))));
    const int64_t *w = c->in[1]->m.shape.dim;
    z = ti_flushed(c, tern_scale(ctx, z, ti_sum_error(L)), w[1] * w[2] * w[3]);
    return tern_add(ctx, z, tern_scale(ctx, tern_abs(ctx, c->out[0]), 4));
}

static double act_flops(const ti_call *c)
{
    const int64_t *w = c->in[1]->m.shape.dim;

    return 2.0 * (double)tern_count(c->meta[0].shape) * (double)(w[1] * w[2] * w[3]);
}

/* conv2d_act_d(x, w, b, gy, y): dx, dw, db. y spares computing it again. */
static tern_status act_d_shape(ti_call *c)
{
    tern_shape y;

    TI_TRY(check_inputs(c, &y));
    TI_TRY(ti_same_types(c, 0x1f));
    for (int i = 3; i < 5; i++)
        if (c->in[i] && !tern_same_shape(c->in[i]->m.shape, y)) return ti_misfit(c, 0, i);
    const tern_type type = c->in[0]->m.type;
    c->meta[0] = ti_channels_last_meta(type, c->in[0]->m.shape);
    c->meta[1] = ti_packed_meta(type, c->in[1]->m.shape);
    c->meta[2] = ti_packed_meta(type, TI_SHAPE(c->in[1]->m.shape.dim[0]));
    return TERN_OK;
}

/* Slopes are at most 1 and right within 4 u of 1, so gy stands for gy act'(z) in each. */
static tern_tensor *act_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_conv2d_opts o = geometry(c, i_out < 2 ? c->in[i_out] : NULL);
    tern_tensor *g = c->in[3], *s;

    if (i_out == 0) s = ti_conv2d_size(ctx, TI_SIZE_DX, c->numbers, g, c->in[1], o);
    else if (i_out == 1) s = ti_conv2d_size(ctx, TI_SIZE_DW, c->numbers, c->in[0], g, o);
    else s = tern_sum(ctx, tern_abs(ctx, g), &(tern_reduce_opts){.axes = 1 | 4 | 8});
    s = tern_scale(ctx, s, ti_sum_error(L) + 4);
    const int64_t *w = c->in[1]->m.shape.dim, *y = g->m.shape.dim;
    if (i_out == 0) s = ti_flushed(c, s, w[0] * w[2] * w[3]);
    if (i_out == 1) s = ti_flushed(c, s, y[0] * y[2] * y[3]);
    return s;
}

static double act_d_flops(const ti_call *c)
{
    const int64_t *w = c->in[1]->m.shape.dim;

    return 4.0 * (double)tern_count(c->in[3]->m.shape) * (double)(w[1] * w[2] * w[3]);
}

static void act_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

static const tern_conv2d_act_opts plain = {0}, relu = {.pad = {1, 1}, .act = TERN_RELU},
                                  tangent = {.stride = {2, 2}, .pad = {0, 1}, .act = TERN_TANH},
                                  sigmoid = {.groups = 2, .act = TERN_SIGMOID};
static const ti_sample act_samples[] = {
    {"no bias", 3, {TI_NORMAL(2, 3, 5, 4), TI_NORMAL(4, 3, 3, 3), TI_NOTHING}, &plain},
    {"relu", 3, {TI_NORMAL(2, 3, 5, 6), TI_NORMAL(4, 3, 3, 3), TI_NORMAL(4)}, &relu},
    {"tanh, strided", 3, {TI_NORMAL(2, 2, 7, 6), TI_NORMAL(3, 2, 3, 2), TI_NORMAL(3)}, &tangent},
    {"sigmoid, groups", 3, {TI_NORMAL(1, 4, 4, 5), TI_NORMAL(6, 2, 2, 3), TI_NORMAL(6)}, &sigmoid},
    {"wide groups", 3, {TI_NORMAL(1, 18, 4, 5), TI_NORMAL(20, 9, 2, 3), TI_NORMAL(20)}, &sigmoid},
    {"empty batch", 3, {TI_NORMAL(0, 3, 5, 5), TI_NORMAL(4, 3, 3, 3), TI_NORMAL(4)}, &relu},
    TI_SAMPLES_END,
};
static const ti_sample act_d_samples[] = {
    {"no bias",
     5,
     {TI_NORMAL(2, 3, 5, 4), TI_NORMAL(4, 3, 3, 3), TI_NOTHING, TI_NORMAL(2, 4, 3, 2), TI_NOTHING},
     &plain},
    {"tanh, strided",
     5,
     {TI_NORMAL(2, 2, 7, 6), TI_NORMAL(3, 2, 3, 2), TI_NORMAL(3), TI_NORMAL(2, 3, 3, 4),
      TI_NOTHING},
     &tangent},
    {"sigmoid, groups",
     5,
     {TI_NORMAL(1, 4, 4, 5), TI_NORMAL(6, 2, 2, 3), TI_NORMAL(6), TI_NORMAL(1, 6, 3, 3),
      TI_NOTHING},
     &sigmoid},
    {"wide groups",
     5,
     {TI_NORMAL(1, 18, 4, 5), TI_NORMAL(20, 9, 2, 3), TI_NORMAL(20), TI_NORMAL(1, 20, 3, 3),
      TI_NOTHING},
     &sigmoid},
    {"empty batch",
     5,
     {TI_NORMAL(0, 3, 5, 5), TI_NORMAL(4, 3, 3, 3), TI_NORMAL(4), TI_NORMAL(0, 4, 5, 5),
      TI_NOTHING},
     &relu},
    TI_SAMPLES_END,
};

/* A layer and its activation behind it, whose slope is one of the result. */
#define BEHIND(act)                                                                                \
    {                                                                                              \
        .forward = "z = conv2d_act x w b act=none; y = " act " z",                                 \
        .made = "y = conv2d_act x w b act=" act, .backward = {                                     \
            {"q = " act "_d y g; dx, dw, db = conv2d_act_d x w b q -",                             \
             "dx, dw, db = conv2d_act_d x w b g y act=" act}                                       \
        }                                                                                          \
    }
static const ti_fusion fusions[] = {
    BEHIND("relu"),
    BEHIND("tanh"),
    BEHIND("sigmoid"),
    {.forward = "z = conv2d x w; y = relu z", .made = "y = conv2d_act x w - act=relu"},
    {.forward = NULL},
};

static const ti_op conv2d_act = {
    .name = "conv2d_act",
    .n_in = 3,
    .in = {"x", "w", "b"},
    .operands = 3,
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_conv2d_act_opts),
    .fields = act_fields,
    .shape = act_shape,
    .grad = act_grad,
    .compose = act_compose,
    .bound = act_bound,
    .samples = act_samples,
    .fusions = fusions,
    .flops = act_flops,
};
static const ti_op conv2d_act_d = {
    .name = "conv2d_act_d",
    .n_in = 5,
    .in = {"x", "w", "b", "gy", "y"},
    .operands = 11,
    .optional = 1u << 2 | 1u << 4,
    .n_out = 3,
    .out = {{"dx", TI_DIFF}, {"dw", TI_DIFF}, {"db", TI_DIFF}},
    .opts_size = sizeof(tern_conv2d_act_opts),
    .fields = act_fields,
    .shape = act_d_shape,
    .grad = ti_composed_grad,
    .composed = &conv2d_act,
    .d_needs = 7,
    .bound = act_d_bound,
    .samples = act_d_samples,
    .flops = act_d_flops,
};

/* y enters as a value: the derivatives of conv2d_act_d are total ones in x, w and b. */
static void act_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const int act = ((const tern_conv2d_act_opts *)c->opts)->act;
    tern_tensor *y = act == TERN_ACT_NONE ? NULL : tern_detach(c->ctx, c->out[0]);

    ti_fused_grad(c, g, d, &conv2d_act_d, 1, &y);
}

const ti_op *const ti_ops_conv2d_act[] = {&conv2d_act, &conv2d_act_d, NULL};

tern_tensor *tern_conv2d_act(tern_ctx *ctx, tern_tensor *x, tern_tensor *w, tern_tensor *b,
                             const tern_conv2d_act_opts *opts)
{
    return ti_apply1(ctx, &conv2d_act, opts, 3, TI_IN(x, w, b));
}
