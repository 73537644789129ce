/*
 * bn_add_act.c - bn_add_act, act(batch_norm(x) + r), and its derivative bn_add_act_d.
 *
 * y = act(gamma h + beta + r), h = (x - mean) inv of the batch. The derivative names y, whose sign
 * is relu's slope, so neither r nor the normalised x need live until the backward pass:
 *   q = (g + g2) act'(y);  dx, dgamma, dbeta are batch_norm's at q;  dr = q
 */
#include <string.h>

#include "ops/common.h"
#include "ops/norm.h"
#include "tern/grad.h"

static const ti_field act_fields[] = {
    TI_FIELD_HAS(tern_bn_add_act_opts, TI_F64, eps, 1, 1e-5),
    TI_FIELD_HAS(tern_bn_add_act_opts, TI_F64, momentum, 1, 0.1),
    TI_FIELD_NAMES(tern_bn_add_act_opts, act, "none|relu"),
    {0},
};

static const ti_op bn_add_act_d;

static tern_batch_norm_opts norm_opts(const ti_call *c)
{
    const tern_bn_add_act_opts *o = c->opts;

    return (tern_batch_norm_opts){o->has_eps, o->has_momentum, o->eps, o->momentum};
}
static int act_of(const ti_call *c) { return ((const tern_bn_add_act_opts *)c->opts)->act; }

/* Inputs of x's shape are those of the mask `images`. */
static tern_status check_inputs(const ti_call *c, unsigned vectors, unsigned images)
{
    const tern_bn_add_act_opts *o = c->opts;

    TI_TRY(ti_norm_check(c, vectors, o->eps, o->momentum));
    TI_TRY(ti_norm_count(c));
    TI_TRY(ti_same_types(c, images | 1));
    for (int i = 1; i < c->n_in; i++)
        if ((images >> i & 1) && c->in[i] && !tern_same_shape(c->in[0]->m.shape, c->in[i]->m.shape))
            return ti_misfit(c, 0, i);
    if (o->act == TERN_ACT_NONE || o->act == TERN_RELU) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: act %d is neither none nor relu", c->op->name,
                   o->act);
}

/* bn_add_act(x, gamma, beta, r, mean, var): y, new_mean, new_var; hints as batch_norm's. */
static tern_status act_shape(ti_call *c)
{
    TI_TRY(check_inputs(c, 1u << 1 | 1u << 2 | 1u << 4 | 1u << 5, 1u << 3));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 5; i++)
        c->meta[i] = ti_packed_meta(c->in[0]->m.type, TI_SHAPE(c->in[0]->m.shape.dim[1]));
    return TERN_OK;
}

static tern_status act_compose(const ti_call *c, tern_tensor **y)
{
    const tern_batch_norm_opts o = norm_opts(c);
    tern_tensor *const *in = c->in;

    y[0] = tern_batch_norm(c->ctx, NULL, NULL, in[0], in[1], in[2], in[4], in[5], &o);
    if (in[3]) y[0] = tern_add(c->ctx, y[0], in[3]);
    y[0] = ti_act(c->ctx, y[0], act_of(c));
    return tern_error(c->ctx);
}

/* batch_norm's bound; the sum's rounding on top; relu is exact, and not steeper than 1. */
static tern_tensor *act_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_batch_norm_opts o = norm_opts(c);
    tern_tensor *in[] = {c->in[0], c->in[1], c->in[2], c->in[4], c->in[5]};
    ti_call norm = {.ctx = ctx, .op = ti_op_named("batch_norm"), .opts = &o, .n_in = 5, .in = in};

    memcpy(norm.out, c->out, sizeof norm.out);
    if (i_out == 0)
        norm.out[0] = tern_batch_norm(ctx, NULL, NULL, in[0], in[1], in[2], in[3], in[4], &o);
    tern_tensor *b = norm.op->bound(&norm, i_out, L);
    if (i_out == 0 && c->in[3])
        b = tern_add(ctx, b, tern_scale(ctx, ti_abs_sum(ctx, norm.out[0], c->in[3]), 2));
    return b;
}

static void act_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *y = act_of(c) == TERN_ACT_NONE ? NULL : tern_detach(c->ctx, c->out[0]),
                *out[TI_OUTS];
    unsigned wanted = 0;

    for (int i = 0; i < 4; i++) wanted |= (unsigned)(c->wants[i] && c->in[i] != NULL) << i;
    if (!wanted || !g[0]) return;
    if (!ti_apply(c->ctx, &bn_add_act_d, c->opts, 8,
                  TI_IN(c->in[0], c->in[1], c->in[2], g[0], NULL, y, c->out[3], c->out[4]), wanted,
                  out))
        memcpy(d, out, 4 * sizeof *d);
}

/* bn_add_act_d(x, gamma, beta, g, g2, y, batch_mean, inv): dx, dgamma, dbeta, dr. */
static tern_status d_shape(ti_call *c)
{
    const int act = act_of(c);

    TI_TRY(check_inputs(c, 1u << 1 | 1u << 2 | 1u << 6 | 1u << 7, 1u << 3 | 1u << 4 | 1u << 5));
    if (act != TERN_ACT_NONE && !c->in[5])
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: y is NULL, but its sign is the slope",
                       c->op->name);
    c->meta[0] = c->meta[3] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 3; i++)
        c->meta[i] = ti_packed_meta(c->in[0]->m.type, TI_SHAPE(c->in[0]->m.shape.dim[1]));
    return TERN_OK;
}

/* The cotangent of the normalised x. */
static tern_tensor *cotangent(const ti_call *c)
{
    tern_tensor *q = c->in[3];

    if (c->in[4]) q = tern_add(c->ctx, q, c->in[4]);
    if (act_of(c) != TERN_ACT_NONE)
        q = ti_apply1(c->ctx, ti_op_named("relu_d"), NULL, 2, TI_IN(c->in[5], q));
    return q;
}

static tern_status d_compose(const ti_call *c, tern_tensor **y)
{
    const tern_batch_norm_opts o = norm_opts(c);
    tern_tensor *out[TI_OUTS] = {NULL};

    y[3] = cotangent(c);
    (void)!ti_apply(c->ctx, ti_op_named("batch_norm_d"), &o, 8,
                    TI_IN(c->in[0], c->in[1], c->in[2], NULL, NULL, y[3], NULL, NULL), 7, out);
    memcpy(y, out, 3 * sizeof *y);
    return tern_error(c->ctx);
}

/* batch_norm_d's bound at q; and what the rounding u |g + g2| of q makes of it, which is no more
 * than the terms of that bound. */
static tern_tensor *d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_batch_norm_opts o = norm_opts(c);
    tern_tensor *q = cotangent(c), *sum = tern_abs(ctx, q);
    tern_tensor *in[] = {c->in[0], c->in[1], c->in[2], NULL, NULL, q, NULL, NULL};
    ti_call norm = {.ctx = ctx, .op = ti_op_named("batch_norm_d"), .opts = &o, .n_in = 8, .in = in};

    if (i_out == 3) return sum;
    tern_tensor *b = norm.op->bound(&norm, i_out, L);
    return c->in[4] ? tern_scale(ctx, b, 2) : b;
}

static const tern_bn_add_act_opts plain = {0}, relu = {.act = TERN_RELU},
                                  loose = {.has_eps = 1,
                                           .eps = 0.1,
                                           .has_momentum = 1,
                                           .momentum = 0.5,
                                           .act = TERN_RELU};
#define TI_SPREAD(c)                                                                               \
    {                                                                                              \
        TI_DIMS(c), TI_S_POSITIVE, 0                                                               \
    }
#define TI_AWAY(...)                                                                               \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_AWAY, 0                                                         \
    }
static const ti_sample act_samples[] = {
    {"sum",
     6,
     {TI_NORMAL(3, 5, 4, 3), TI_NORMAL(5), TI_NORMAL(5), TI_NORMAL(3, 5, 4, 3), TI_NORMAL(5),
      TI_SPREAD(5)},
     &plain},
    {"sum, relu",
     6,
     {TI_NORMAL(2, 17, 3, 3), TI_NORMAL(17), TI_NORMAL(17), TI_NORMAL(2, 17, 3, 3), TI_NORMAL(17),
      TI_SPREAD(17)},
     &relu},
    {"relu, two axes",
     6,
     {TI_NORMAL(9, 4), TI_NORMAL(4), TI_NORMAL(4), TI_NOTHING, TI_NORMAL(4), TI_SPREAD(4)},
     &loose},
    {"relu, 35 channels",
     6,
     {TI_NORMAL(5, 35, 2, 3), TI_NORMAL(35), TI_NORMAL(35), TI_NOTHING, TI_NORMAL(35),
      TI_SPREAD(35)},
     &relu},
    {"two values",
     6,
     {TI_NORMAL(2, 3, 1, 1), TI_NORMAL(3), TI_NORMAL(3), TI_NORMAL(2, 3, 1, 1), TI_NORMAL(3),
      TI_SPREAD(3)},
     &loose},
    TI_SAMPLES_END,
};
static const ti_sample d_samples[] = {
    {"no activation",
     8,
     {TI_NORMAL(3, 5, 4, 3), TI_NORMAL(5), TI_NORMAL(5), TI_NORMAL(3, 5, 4, 3), TI_NOTHING,
      TI_NOTHING, TI_NOTHING, TI_NOTHING},
     &plain},
    {"relu",
     8,
     {TI_NORMAL(2, 17, 3, 3), TI_NORMAL(17), TI_NORMAL(17), TI_NORMAL(2, 17, 3, 3), TI_NOTHING,
      TI_AWAY(2, 17, 3, 3), TI_NOTHING, TI_NOTHING},
     &relu},
    {"relu, two cotangents, two axes",
     8,
     {TI_NORMAL(9, 4), TI_NORMAL(4), TI_NORMAL(4), TI_NORMAL(9, 4), TI_NORMAL(9, 4), TI_AWAY(9, 4),
      TI_NOTHING, TI_NOTHING},
     &loose},
    {"two cotangents, 35 channels",
     8,
     {TI_NORMAL(5, 35, 2, 3), TI_NORMAL(35), TI_NORMAL(35), TI_NORMAL(5, 35, 2, 3),
      TI_NORMAL(5, 35, 2, 3), TI_NOTHING, TI_NOTHING, TI_NOTHING},
     &plain},
    TI_SAMPLES_END,
};

#define NORM "n, new_mean, new_var, mean, inv = batch_norm x gamma beta old_mean old_var; "
#define MADE "y, new_mean, new_var, mean, inv = bn_add_act x gamma beta "
#define NORM_D "dx, dgamma, dbeta = batch_norm_d x gamma beta - - q mean inv"
#define MADE_D "dx, dgamma, dbeta, q = bn_add_act_d x gamma beta "
static const ti_fusion fusions[] = {
    {.forward = NORM "s = add n r; y = relu s",
     .made = MADE "r old_mean old_var act=relu",
     .backward = {{"g = add g1 g2; q = relu_d y g; " NORM_D, MADE_D "g1 g2 y mean inv act=relu"},
                  {"q = relu_d y g; " NORM_D, MADE_D "g - y mean inv act=relu"}}},
    {.forward = NORM "y = relu n",
     .made = MADE "- old_mean old_var act=relu",
     .backward = {{"g = add g1 g2; q = relu_d y g; " NORM_D, MADE_D "g1 g2 y mean inv act=relu"},
                  {"q = relu_d y g; " NORM_D, MADE_D "g - y mean inv act=relu"}}},
    {.forward = NORM "y = add n r", .made = MADE "r old_mean old_var"},
    {.forward = NULL},
};

static const ti_op bn_add_act = {
    .name = "bn_add_act",
    .n_in = 6,
    .in = {"x", "gamma", "beta", "r", "mean", "var"},
    .optional = 1u << 3,
    .twice = 1,
    .n_out = 5,
    .out = {{"y", TI_DIFF},
            {"new_mean", TI_VALUE},
            {"new_var", TI_VALUE},
            {"batch_mean", TI_HINT},
            {"inv", TI_HINT}},
    .saves = 1u | 1u << 3 | 1u << 4,
    .opts_size = sizeof(tern_bn_add_act_opts),
    .fields = act_fields,
    .shape = act_shape,
    .grad = act_grad,
    .compose = act_compose,
    .bound = act_bound,
    .samples = act_samples,
    .fusions = fusions,
};
static const ti_op bn_add_act_d = {
    .name = "bn_add_act_d",
    .n_in = 8,
    .in = {"x", "gamma", "beta", "g", "g2", "y", "batch_mean", "inv"},
    .optional = 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7,
    .twice = 1 | 1u << 3,
    .n_out = 4,
    .out = {{"dx", TI_DIFF}, {"dgamma", TI_DIFF}, {"dbeta", TI_DIFF}, {"dr", TI_DIFF}},
    .opts_size = sizeof(tern_bn_add_act_opts),
    .fields = act_fields,
    .shape = d_shape,
    .grad = ti_compose_grad,
    .compose = d_compose,
    .bound = d_bound,
    .samples = d_samples,
};

const ti_op *const ti_ops_bn_add_act[] = {&bn_add_act, &bn_add_act_d, NULL};

tern_tensor *tern_bn_add_act(tern_ctx *ctx, tern_tensor **new_mean, tern_tensor **new_var,
                             tern_tensor *x, tern_tensor *gamma, tern_tensor *beta, tern_tensor *r,
                             tern_tensor *mean, tern_tensor *var, const tern_bn_add_act_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const unsigned wanted = 0x19u | (new_mean ? 2u : 0) | (new_var ? 4u : 0);
    const tern_status status =
        ti_apply(ctx, &bn_add_act, opts, 6, TI_IN(x, gamma, beta, r, mean, var), wanted, out);

    if (new_mean) *new_mean = status == TERN_OK ? out[1] : NULL;
    if (new_var) *new_var = status == TERN_OK ? out[2] : NULL;
    return status == TERN_OK ? out[0] : NULL;
}
