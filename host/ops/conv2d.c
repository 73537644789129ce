/*
 * conv2d.c - convolution and its two adjoints.
 *
 * <conv2d(x, w), g> is linear in each of x, w and g. conv2d, conv2d_dx and conv2d_dw are its three
 * partial derivatives, so the gradient of each is made of the other two: derivatives of every
 * order stay inside this file.
 */
#include <string.h>

#include "ops/common.h"
#include "ops/conv2d.h"
#include "ops/winograd.h"

static const ti_field conv_fields[] = {
    TI_FIELD(tern_conv2d_opts, TI_INT, stride, 2, 1),
    TI_FIELD(tern_conv2d_opts, TI_INT, pad, 2, 0),
    TI_FIELD(tern_conv2d_opts, TI_INT, dilation, 2, 1),
    TI_FIELD(tern_conv2d_opts, TI_INT, groups, 1, 1),
    TI_FIELD(tern_conv2d_opts, TI_I64, shape, 4, 0),
    {0},
};

/* The first two inputs: float images or filters of one type. */
static tern_status check_inputs(const ti_call *c)
{
    for (int i = 0; i < 2; i++) {
        TI_TRY(ti_need_types(c, i, TI_FLOATS));
        TI_TRY(ti_need_rank(c, i, 4, 4));
    }
    return ti_same_types(c, 3);
}

static tern_status conv_shape(ti_call *c)
{
    tern_shape y;

    TI_TRY(check_inputs(c));
    TI_TRY(ti_conv2d_extents(c, c->opts, c->in[0]->m.shape, c->in[1]->m.shape, &y));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, y);
    return TERN_OK;
}

/* x or w from the options, checked against the cotangent y (input i_y) and the other one. */
static tern_status adjoint_shape(ti_call *c, bool of_x)
{
    const tern_conv2d_opts *o = c->opts;
    const int i_y = of_x ? 0 : 1;
    tern_shape s = {.rank = 4}, y;
    char text[160], other[160];

    TI_TRY(check_inputs(c));
    memcpy(s.dim, o->shape, sizeof o->shape);
    if (tern_count(s) < 0)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: shape %s", c->op->name,
                       tern_shape_text(text, s));
    TI_TRY(ti_conv2d_extents(c, o, of_x ? s : c->in[0]->m.shape, of_x ? c->in[1]->m.shape : s, &y));
    if (!tern_same_shape(y, c->in[i_y]->m.shape))
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %s is %s, but the result has %s", c->op->name,
                       c->op->in[i_y], tern_shape_text(text, c->in[i_y]->m.shape),
                       tern_shape_text(other, y));
    c->meta[0] = of_x ? ti_channels_last_meta(c->in[0]->m.type, s)
                      : ti_packed_meta(c->in[0]->m.type, s); /* as modules hold filters */
    return TERN_OK;
}

static tern_status conv_dx_shape(ti_call *c) { return adjoint_shape(c, true); }
static tern_status conv_dw_shape(ti_call *c) { return adjoint_shape(c, false); }

static tern_conv2d_opts shaped(const ti_call *c, const tern_tensor *like)
{
    tern_conv2d_opts o = *(const tern_conv2d_opts *)c->opts;

    memset(o.shape, 0, sizeof o.shape);
    if (like) memcpy(o.shape, like->m.shape.dim, sizeof o.shape);
    return o;
}

/* y = conv2d(x, w) */
static void conv_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_conv2d_opts to_x = shaped(c, c->in[0]), to_w = shaped(c, c->in[1]);

    if (c->wants[0]) d[0] = tern_conv2d_dx(c->ctx, g[0], c->in[1], &to_x);
    if (c->wants[1]) d[1] = tern_conv2d_dw(c->ctx, c->in[0], g[0], &to_w);
}

/* x = conv2d_dx(y, w) */
static void conv_dx_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_conv2d_opts to_y = shaped(c, NULL), to_w = shaped(c, c->in[1]);

    if (c->wants[0]) d[0] = tern_conv2d(c->ctx, g[0], c->in[1], &to_y);
    if (c->wants[1]) d[1] = tern_conv2d_dw(c->ctx, g[0], c->in[0], &to_w);
}

/* w = conv2d_dw(x, y) */
static void conv_dw_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_conv2d_opts to_x = shaped(c, c->in[0]), to_y = shaped(c, NULL);

    if (c->wants[0]) d[0] = tern_conv2d_dx(c->ctx, c->in[1], g[0], &to_x);
    if (c->wants[1]) d[1] = tern_conv2d(c->ctx, c->in[0], g[0], &to_y);
}

/* All three are sums of products: the sizes of what is added up, by the same op. */
static tern_tensor *size_bound(const ti_call *c, ti_conv_size what, double L)
{
    const tern_conv2d_opts *o = c->opts;

    return tern_scale(c->ctx, ti_conv2d_size(c->ctx, what, c->numbers, c->in[0], c->in[1], *o),
                      ti_sum_error(L));
}
static tern_tensor *conv_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    return size_bound(c, TI_SIZE_Y, L);
}
static tern_tensor *conv_dx_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    return size_bound(c, TI_SIZE_DX, L);
}
static tern_tensor *conv_dw_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    return size_bound(c, TI_SIZE_DW, L);
}

/* Two for each (x, w, y) that would meet without borders. */
static double flops(tern_shape y, tern_shape w)
{
    return 2.0 * (double)tern_count(y) * (double)(w.dim[1] * w.dim[2] * w.dim[3]);
}
static double conv_flops(const ti_call *c) { return flops(c->meta[0].shape, c->in[1]->m.shape); }
static double conv_dx_flops(const ti_call *c)
{
    return flops(c->in[0]->m.shape, c->in[1]->m.shape);
}
static double conv_dw_flops(const ti_call *c) { return flops(c->in[1]->m.shape, c->meta[0].shape); }

/* Each geometry once: as options of conv2d, and with the shapes that the adjoints return. */
static const tern_conv2d_opts plain = {0}, strided = {.stride = {2, 1}, .pad = {1, 2}},
                              dilated = {.dilation = {2, 3}, .pad = {2, 0}, .groups = 2},
                              depthwise = {.pad = {1, 1}, .groups = 5}, same = {.pad = {1, 1}},
                              mixed = {.pad = {0, 2}}, halved = {.stride = {2, 2}, .pad = {1, 1}};
static const ti_sample conv_samples[] = {
    {"valid", 2, {TI_NORMAL(2, 3, 5, 4), TI_NORMAL(4, 3, 3, 3)}, &plain},
    {"strided, padded", 2, {TI_NORMAL(1, 2, 7, 6), TI_NORMAL(3, 2, 3, 2)}, &strided},
    {"dilated, groups", 2, {TI_NORMAL(2, 4, 6, 8), TI_NORMAL(6, 2, 3, 2)}, &dilated},
    {"depthwise", 2, {TI_NORMAL(2, 5, 4, 5), TI_NORMAL(10, 1, 3, 3)}, &depthwise},
    {"depthwise, strided",
     2,
     {TI_NORMAL(2, 6, 7, 9), TI_NORMAL(6, 1, 3, 3)},
     &(tern_conv2d_opts){.stride = {2, 2}, .pad = {1, 1}, .groups = 6}},
    {"dilated, wide groups", 2, {TI_NORMAL(2, 18, 6, 8), TI_NORMAL(20, 9, 3, 2)}, &dilated},
    {"one by one", 2, {TI_NORMAL(3, 7, 3, 2), TI_NORMAL(5, 7, 1, 1)}, &plain},
    {"3x3, more tiles", 2, {TI_NORMAL(2, 4, 9, 7), TI_NORMAL(5, 4, 3, 3)}, &same},
    {"3x3, no padding, and full", 2, {TI_NORMAL(2, 17, 10, 9), TI_NORMAL(16, 17, 3, 3)}, &mixed},
    {"3x3, stride 2", 2, {TI_NORMAL(2, 16, 9, 12), TI_NORMAL(17, 16, 3, 3)}, &halved},
    {"filter as large as x", 2, {TI_NORMAL(2, 3, 6, 7), TI_NORMAL(2, 3, 6, 7)}, &plain},
    {"empty batch", 2, {TI_NORMAL(0, 3, 5, 5), TI_NORMAL(4, 3, 3, 3)}, &plain},
    TI_SAMPLES_END,
};
static const ti_sample conv_dx_samples[] = {
    {"valid",
     2,
     {TI_NORMAL(2, 4, 3, 2), TI_NORMAL(4, 3, 3, 3)},
     &(tern_conv2d_opts){.shape = {2, 3, 5, 4}}},
    {"strided: one row of x is not read",
     2,
     {TI_NORMAL(1, 3, 4, 9), TI_NORMAL(3, 2, 3, 2)},
     &(tern_conv2d_opts){.stride = {2, 1}, .pad = {1, 2}, .shape = {1, 2, 8, 6}}},
    {"dilated, groups",
     2,
     {TI_NORMAL(2, 6, 6, 5), TI_NORMAL(6, 2, 3, 2)},
     &(tern_conv2d_opts){.dilation = {2, 3}, .pad = {2, 0}, .groups = 2, .shape = {2, 4, 6, 8}}},
    {"dilated, wide groups",
     2,
     {TI_NORMAL(2, 20, 6, 5), TI_NORMAL(20, 9, 3, 2)},
     &(tern_conv2d_opts){.dilation = {2, 3}, .pad = {2, 0}, .groups = 2, .shape = {2, 18, 6, 8}}},
    {"depthwise, strided",
     2,
     {TI_NORMAL(2, 6, 4, 5), TI_NORMAL(6, 1, 3, 3)},
     &(tern_conv2d_opts){.stride = {2, 2}, .pad = {1, 1}, .groups = 6, .shape = {2, 6, 7, 9}}},
    {"3x3, more tiles",
     2,
     {TI_NORMAL(2, 5, 9, 7), TI_NORMAL(5, 4, 3, 3)},
     &(tern_conv2d_opts){.pad = {1, 1}, .shape = {2, 4, 9, 7}}},
    {"3x3, no padding, and full",
     2,
     {TI_NORMAL(2, 16, 8, 11), TI_NORMAL(16, 17, 3, 3)},
     &(tern_conv2d_opts){.pad = {0, 2}, .shape = {2, 17, 10, 9}}},
    {"3x3, stride 2",
     2,
     {TI_NORMAL(2, 17, 5, 6), TI_NORMAL(17, 16, 3, 3)},
     &(tern_conv2d_opts){.stride = {2, 2}, .pad = {1, 1}, .shape = {2, 16, 9, 12}}},
    {"empty batch",
     2,
     {TI_NORMAL(0, 4, 3, 3), TI_NORMAL(4, 3, 3, 3)},
     &(tern_conv2d_opts){.shape = {0, 3, 5, 5}}},
    TI_SAMPLES_END,
};
static const ti_sample conv_dw_samples[] = {
    {"valid",
     2,
     {TI_NORMAL(2, 3, 5, 4), TI_NORMAL(2, 4, 3, 2)},
     &(tern_conv2d_opts){.shape = {4, 3, 3, 3}}},
    {"strided: one row of x is not read",
     2,
     {TI_NORMAL(1, 2, 8, 6), TI_NORMAL(1, 3, 4, 9)},
     &(tern_conv2d_opts){.stride = {2, 1}, .pad = {1, 2}, .shape = {3, 2, 3, 2}}},
    {"depthwise",
     2,
     {TI_NORMAL(2, 5, 4, 5), TI_NORMAL(2, 10, 4, 5)},
     &(tern_conv2d_opts){.pad = {1, 1}, .groups = 5, .shape = {10, 1, 3, 3}}},
    {"depthwise, more places",
     2,
     {TI_NORMAL(3, 6, 11, 9), TI_NORMAL(3, 6, 11, 9)},
     &(tern_conv2d_opts){.pad = {1, 1}, .groups = 6, .shape = {6, 1, 3, 3}}},
    {"dilated, wide groups",
     2,
     {TI_NORMAL(2, 18, 6, 8), TI_NORMAL(2, 20, 6, 5)},
     &(tern_conv2d_opts){.dilation = {2, 3}, .pad = {2, 0}, .groups = 2, .shape = {20, 9, 3, 2}}},
    {"3x3, more tiles",
     2,
     {TI_NORMAL(2, 4, 9, 7), TI_NORMAL(2, 5, 9, 7)},
     &(tern_conv2d_opts){.pad = {1, 1}, .shape = {5, 4, 3, 3}}},
    {"3x3, no padding, and full",
     2,
     {TI_NORMAL(2, 17, 10, 9), TI_NORMAL(2, 16, 8, 11)},
     &(tern_conv2d_opts){.pad = {0, 2}, .shape = {16, 17, 3, 3}}},
    {"3x3, stride 2",
     2,
     {TI_NORMAL(2, 16, 9, 12), TI_NORMAL(2, 17, 5, 6)},
     &(tern_conv2d_opts){.stride = {2, 2}, .pad = {1, 1}, .shape = {17, 16, 3, 3}}},
    {"empty batch gives zeros",
     2,
     {TI_NORMAL(0, 3, 5, 5), TI_NORMAL(0, 4, 3, 3)},
     &(tern_conv2d_opts){.shape = {4, 3, 3, 3}}},
    TI_SAMPLES_END,
};

static const ti_op conv2d = {
    .name = "conv2d",
    .n_in = 2,
    .in = {"x", "w"},
    .operands = 3,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_conv2d_opts),
    .fields = conv_fields,
    .shape = conv_shape,
    .grad = conv_grad,
    .bound = conv_bound,
    .samples = conv_samples,
    .flops = conv_flops,
};
static const ti_op conv2d_dx = {
    .name = "conv2d_dx",
    .n_in = 2,
    .in = {"g", "w"},
    .operands = 3,
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_conv2d_opts),
    .fields = conv_fields,
    .shape = conv_dx_shape,
    .grad = conv_dx_grad,
    .bound = conv_dx_bound,
    .samples = conv_dx_samples,
    .flops = conv_dx_flops,
};
static const ti_op conv2d_dw = {
    .name = "conv2d_dw",
    .n_in = 2,
    .in = {"x", "g"},
    .operands = 3,
    .n_out = 1,
    .out = {{"dw", TI_DIFF}},
    .opts_size = sizeof(tern_conv2d_opts),
    .fields = conv_fields,
    .shape = conv_dw_shape,
    .grad = conv_dw_grad,
    .bound = conv_dw_bound,
    .samples = conv_dw_samples,
    .flops = conv_dw_flops,
};

const ti_op *const ti_ops_conv2d[] = {&conv2d, &conv2d_dx, &conv2d_dw, NULL};

tern_tensor *tern_conv2d(tern_ctx *ctx, tern_tensor *x, tern_tensor *w,
                         const tern_conv2d_opts *opts)
{
    return ti_apply1(ctx, &conv2d, opts, 2, TI_IN(x, w));
}
tern_tensor *tern_conv2d_dx(tern_ctx *ctx, tern_tensor *g, tern_tensor *w,
                            const tern_conv2d_opts *opts)
{
    return ti_apply1(ctx, &conv2d_dx, opts, 2, TI_IN(g, w));
}
tern_tensor *tern_conv2d_dw(tern_ctx *ctx, tern_tensor *x, tern_tensor *g,
                            const tern_conv2d_opts *opts)
{
    return ti_apply1(ctx, &conv2d_dw, opts, 2, TI_IN(x, g));
}
