/*
 * layer_norm.c - normalisation over trailing axes, and its derivative.
 */
#include "ops/common.h"

static const ti_field layer_fields[] = {
    TI_FIELD(tern_layer_norm_opts, TI_INT, axes, 1, 1),
    TI_FIELD_HAS(tern_layer_norm_opts, TI_F64, eps, 1, 1e-5),
    {0},
};

static int n_axes(const ti_call *c) { return ((const tern_layer_norm_opts *)c->opts)->axes; }

/* The trailing part that is normalised, and what stands before it. */
static tern_shape trailing(const ti_call *c)
{
    const tern_shape x = tern_shape_of(c->in[0]);
    tern_shape s = {.rank = n_axes(c)};

    for (int a = 0; a < s.rank; a++) s.dim[a] = x.dim[x.rank - s.rank + a];
    return s;
}
static tern_shape before(const ti_call *c)
{
    tern_shape s = tern_shape_of(c->in[0]);

    for (int a = s.rank - n_axes(c); a < s.rank; a++) s.dim[a] = 0;
    s.rank -= n_axes(c);
    return s;
}
static tern_reduce_opts over_trailing(const ti_call *c)
{
    const int rank = tern_shape_of(c->in[0]).rank, n = n_axes(c);

    return (tern_reduce_opts){.axes = ((1ll << n) - 1) << (rank - n), .keep = 1};
}
static tern_reduce_opts over_before(const ti_call *c)
{
    return (tern_reduce_opts){.axes = (1ll << (tern_shape_of(c->in[0]).rank - n_axes(c))) - 1};
}

static tern_status check_inputs(const ti_call *c)
{
    const tern_layer_norm_opts *o = c->opts;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 7));
    TI_TRY(ti_need_rank(c, 0, 1, TERN_RANK));
    const int rank = c->in[0]->m.shape.rank;
    if (o->axes < 1 || o->axes > rank)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: %d axes of the %d that x has", c->op->name,
                       o->axes, rank);
    if (!(o->eps >= 0))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: eps %g < 0", c->op->name, o->eps);
    for (int i = 1; i < 3; i++)
        if (c->in[i] && !tern_same_shape(c->in[i]->m.shape, trailing(c))) return ti_misfit(c, 0, i);
    return TERN_OK;
}

/* layer_norm: y; hints: mean and 1/deviation of each group. */
static tern_status layer_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 3; i++) c->meta[i] = ti_packed_meta(c->in[0]->m.type, before(c));
    return TERN_OK;
}

static tern_status layer_compose(const ti_call *c, tern_tensor **y)
{
    tern_ctx *ctx = c->ctx;
    const tern_reduce_opts over = over_trailing(c);
    const double eps = ((const tern_layer_norm_opts *)c->opts)->eps;
    tern_tensor *z = tern_sub(ctx, c->in[0], tern_mean(ctx, c->in[0], &over));
    tern_tensor *var = tern_mean(ctx, tern_mul(ctx, z, z), &over);
    tern_tensor *h = tern_mul(ctx, z, tern_rsqrt(ctx, tern_shift(ctx, var, eps)));

    if (c->in[1]) h = tern_mul(ctx, h, c->in[1]);
    if (c->in[2]) h = tern_add(ctx, h, c->in[2]);
    y[0] = h;
    return tern_error(ctx);
}

/* Errors of the statistics as in norm.c: z_err = |z| + a, a = (e + 2) mean|x|; var within v_err;
 * 1/deviation within its r-fold; h = z inv within h_err. */
typedef struct {
    tern_tensor *a, *inv, *r, *h, *h_err;
} stats;

static stats stats_of(const ti_call *c, double L)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *x = c->in[0];
    const tern_reduce_opts over = over_trailing(c);
    const double e = ti_sum_error(L), eps = ((const tern_layer_norm_opts *)c->opts)->eps;
    tern_tensor *z = tern_sub(ctx, x, tern_mean(ctx, x, &over)), *z_abs = tern_abs(ctx, z);
    tern_tensor *var = tern_mean(ctx, tern_mul(ctx, z, z), &over);
    tern_tensor *v = tern_shift(ctx, var, eps);
    stats t = {.a = tern_scale(ctx, tern_mean(ctx, tern_abs(ctx, x), &over), e + 2)};
    tern_tensor *z_err = tern_add(ctx, z_abs, t.a);
    tern_tensor *zz = tern_mean(ctx, tern_mul(ctx, z_abs, z_err), &over);
    tern_tensor *v_err = tern_add(ctx, tern_scale(ctx, var, e + 4), tern_scale(ctx, zz, 2));

    t.inv = tern_rsqrt(ctx, v);
    t.r = tern_shift(ctx, tern_scale(ctx, tern_div(ctx, v_err, v), 0.5), 3);
    t.h = tern_mul(ctx, z, t.inv);
    t.h_err = tern_add(ctx, tern_mul(ctx, z_err, t.inv), tern_mul(ctx, tern_abs(ctx, t.h), t.r));
    return t;
}

static tern_tensor *layer_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const stats t = stats_of(c, L);

    if (i_out > 0)
        return tern_reshape(ctx, i_out == 1 ? t.a : tern_mul(ctx, t.inv, t.r), before(c));
    tern_tensor *b = tern_add(ctx, t.h_err, tern_scale(ctx, tern_abs(ctx, t.h), 2));
    if (c->in[1]) b = tern_mul(ctx, b, tern_abs(ctx, c->in[1]));
    return tern_add(ctx, b, tern_scale(ctx, tern_abs(ctx, c->out[0]), 2));
}

/* layer_norm_d(x, gamma, beta, gy, mean, inv): dx, dgamma, dbeta; mean and inv are hints. */
static tern_status layer_d_shape(ti_call *c)
{
    TI_TRY(check_inputs(c));
    TI_TRY(ti_same_types(c, 0x3f));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[3]->m.shape)) return ti_misfit(c, 0, 3);
    for (int i = 4; i < 6; i++)
        if (c->in[i] && !tern_same_shape(c->in[i]->m.shape, before(c))) return ti_misfit(c, 0, i);
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 3; i++) c->meta[i] = ti_packed_meta(c->in[0]->m.type, trailing(c));
    return TERN_OK;
}

/* q = g gamma; dx = inv (q - <q> - h <q h>), as in norm.c; dgamma = sum g h; dbeta = sum g. */
static tern_tensor *layer_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const stats t = stats_of(c, L);
    const tern_reduce_opts over = over_trailing(c), rows = over_before(c);
    const double e = ti_sum_error(L);
    tern_tensor *h = tern_abs(ctx, t.h), *g = c->in[3];

    if (i_out > 0) {
        tern_tensor *b = tern_abs(ctx, g);
        if (i_out == 1) b = tern_mul(ctx, b, tern_add(ctx, t.h_err, tern_scale(ctx, h, e + 2)));
        else b = tern_scale(ctx, b, e);
        return rows.axes ? tern_sum(ctx, b, &rows) : b;
    }
    tern_tensor *q = c->in[1] ? tern_mul(ctx, g, c->in[1]) : g, *q_abs = tern_abs(ctx, q);
    tern_tensor *qh_err = tern_add(ctx, tern_scale(ctx, tern_mul(ctx, q_abs, h), e + 3),
                                   tern_mul(ctx, q_abs, t.h_err));
    tern_tensor *m = tern_abs(ctx, tern_mean(ctx, tern_mul(ctx, q, t.h), &over));
    tern_tensor *q_mean = tern_mean(ctx, q_abs, &over);
    tern_tensor *all = tern_add(ctx, tern_add(ctx, q_abs, q_mean), tern_mul(ctx, h, m));
    tern_tensor *b = tern_add(ctx, tern_scale(ctx, q_mean, e + 1),
                              tern_mul(ctx, h, tern_mean(ctx, qh_err, &over)));
    b = tern_add(ctx, b, tern_mul(ctx, t.h_err, m));
    b = tern_add(ctx, b, tern_mul(ctx, all, tern_shift(ctx, t.r, 4)));
    return tern_mul(ctx, b, t.inv);
}

static void layer_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

static const tern_layer_norm_opts two = {.axes = 2, .has_eps = 1, .eps = 0.1}, all = {.axes = 2};
static const ti_sample layer_samples[] = {
    {"last axis", 3, {TI_NORMAL(3, 4, 7), TI_NORMAL(7), TI_NORMAL(7)}, NULL},
    {"two axes", 3, {TI_NORMAL(5, 3, 4), TI_NORMAL(3, 4), TI_NORMAL(3, 4)}, &two},
    {"no beta", 3, {TI_NORMAL(4, 17), TI_NORMAL(17), TI_NOTHING}, NULL},
    {"neither", 3, {TI_NORMAL(4, 33), TI_NOTHING, TI_NOTHING}, NULL},
    {"all axes", 3, {TI_NORMAL(4, 5), TI_NORMAL(4, 5), TI_NORMAL(4, 5)}, &all},
    {"empty batch", 3, {TI_NORMAL(0, 5), TI_NORMAL(5), TI_NORMAL(5)}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample layer_d_samples[] = {
    {"last axis",
     6,
     {TI_NORMAL(3, 4, 7), TI_NORMAL(7), TI_NORMAL(7), TI_NORMAL(3, 4, 7), TI_NOTHING, TI_NOTHING},
     NULL},
    {"two axes, no beta",
     6,
     {TI_NORMAL(5, 3, 4), TI_NORMAL(3, 4), TI_NOTHING, TI_NORMAL(5, 3, 4), TI_NOTHING, TI_NOTHING},
     &two},
    {"neither",
     6,
     {TI_NORMAL(4, 9), TI_NOTHING, TI_NOTHING, TI_NORMAL(4, 9), TI_NOTHING, TI_NOTHING},
     NULL},
    TI_SAMPLES_END,
};

static const ti_op layer_norm = {
    .name = "layer_norm",
    .n_in = 3,
    .in = {"x", "gamma", "beta"},
    .optional = 1u << 1 | 1u << 2,
    .n_out = 3,
    .out = {{"y", TI_DIFF}, {"mean", TI_HINT}, {"inv", TI_HINT}},
    .saves = 1u << 1 | 1u << 2,
    .opts_size = sizeof(tern_layer_norm_opts),
    .fields = layer_fields,
    .shape = layer_shape,
    .grad = layer_grad,
    .compose = layer_compose,
    .bound = layer_bound,
    .samples = layer_samples,
};
static const ti_op layer_norm_d = {
    .name = "layer_norm_d",
    .n_in = 6,
    .in = {"x", "gamma", "beta", "gy", "mean", "inv"},
    .optional = 1u << 1 | 1u << 2 | 1u << 4 | 1u << 5,
    .n_out = 3,
    .out = {{"dx", TI_DIFF}, {"dgamma", TI_DIFF}, {"dbeta", TI_DIFF}},
    .opts_size = sizeof(tern_layer_norm_opts),
    .fields = layer_fields,
    .shape = layer_d_shape,
    .grad = ti_composed_grad,
    .composed = &layer_norm,
    .d_needs = 7,
    .bound = layer_d_bound,
    .samples = layer_d_samples,
};

static void layer_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    ti_fused_grad(c, g, d, &layer_norm_d, 2, &c->out[1]);
}

const ti_op *const ti_ops_layer_norm[] = {&layer_norm, &layer_norm_d, NULL};

tern_tensor *tern_layer_norm(tern_ctx *ctx, tern_tensor *x, tern_tensor *gamma, tern_tensor *beta,
                             const tern_layer_norm_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const tern_status status = ti_apply(ctx, &layer_norm, opts, 3, TI_IN(x, gamma, beta), 7, out);

    return status == TERN_OK ? out[0] : NULL;
}
