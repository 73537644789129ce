/*
 * norm.c - batch normalisation, training and evaluation.
 */
#include "ops/norm.h"

#include "ops/common.h"

static const ti_field norm_fields[] = {
    TI_FIELD_HAS(tern_batch_norm_opts, TI_F64, eps, 1, 1e-5),
    TI_FIELD_HAS(tern_batch_norm_opts, TI_F64, momentum, 1, 0.1),
    {0},
};

/* All axes but 1; [C] as a shape that broadcasts along axis 1. */
static int64_t other_axes(tern_shape x) { return ((1ll << x.rank) - 1) & ~2ll; }
static tern_tensor *per_channel(tern_ctx *ctx, tern_tensor *t, tern_shape x)
{
    tern_shape s = {.rank = x.rank - 1};

    for (int a = 0; a < s.rank; a++) s.dim[a] = a ? 1 : x.dim[1];
    return tern_reshape(ctx, t, s);
}
static tern_tensor *sum_of(tern_ctx *ctx, tern_tensor *t, tern_shape x)
{
    return tern_sum(ctx, t, &(tern_reduce_opts){.axes = other_axes(x)});
}

/* x and, where present, the [C] inputs of both ops; the options. */
static tern_status check_inputs(const ti_call *c, int n)
{
    const tern_batch_norm_opts *o = c->opts;

    return ti_norm_check(c, ((1u << n) - 1) & ~1u, o->eps, o->momentum);
}

/* batch_norm: y, new_mean, new_var; hints: the batch's mean and 1/deviation. */
static tern_status norm_shape(ti_call *c)
{
    TI_TRY(check_inputs(c, 5));
    TI_TRY(ti_norm_count(c));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 5; i++)
        c->meta[i] = ti_packed_meta(c->in[0]->m.type, TI_SHAPE(c->in[0]->m.shape.dim[1]));
    return TERN_OK;
}

static tern_status norm_compose(const ti_call *c, tern_tensor **y)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *x = c->in[0];
    const tern_shape s = tern_shape_of(x);
    const tern_reduce_opts over = {.axes = other_axes(s), .keep = 1};
    tern_tensor *z = tern_sub(ctx, x, tern_mean(ctx, x, &over));
    tern_tensor *var = tern_mean(ctx, tern_mul(ctx, z, z), &over);
    const double eps = ((const tern_batch_norm_opts *)c->opts)->eps;
    tern_tensor *xhat = tern_mul(ctx, z, tern_rsqrt(ctx, tern_shift(ctx, var, eps)));

    y[0] = tern_add(ctx, tern_mul(ctx, xhat, per_channel(ctx, c->in[1], s)),
                    per_channel(ctx, c->in[2], s));
    return tern_error(ctx);
}

/*
 * Errors of the statistics, in u and to first order; e = ti_sum_error(L) holds for sums over n.
 *   z = x - mean:      z_err = |z| + a, where a = (e + 2) mean|x|
 *   var = mean(z z):   v_err = (e + 4) var + 2 mean(|z| z_err)
 *   1/sqrt(var + eps): relative r = v_err / (2 (var + eps)) + 3
 */
typedef struct {
    tern_ctx *ctx;
    tern_shape s;
    tern_tensor *mean_abs, *z, *var, *z_err, *v_err, *inv, *r; /* broadcast against x */
    tern_tensor *mean;
} stats;

static stats stats_of(const ti_call *c, double L)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *x = c->in[0];
    const double e = ti_sum_error(L), eps = ((const tern_batch_norm_opts *)c->opts)->eps;
    stats t = {.ctx = ctx, .s = x->m.shape};
    const tern_reduce_opts over = {.axes = other_axes(t.s), .keep = 1};

    t.mean = tern_mean(ctx, x, &over);
    t.mean_abs = tern_scale(ctx, tern_mean(ctx, tern_abs(ctx, x), &over), e + 2);
    t.z = tern_sub(ctx, x, t.mean);
    t.var = tern_mean(ctx, tern_mul(ctx, t.z, t.z), &over);
    t.z_err = tern_add(ctx, tern_abs(ctx, t.z), t.mean_abs);
    tern_tensor *zz = tern_mean(ctx, tern_mul(ctx, tern_abs(ctx, t.z), t.z_err), &over);
    t.v_err = tern_add(ctx, tern_scale(ctx, t.var, e + 4), tern_scale(ctx, zz, 2));
    tern_tensor *v = tern_shift(ctx, t.var, eps);
    t.inv = tern_rsqrt(ctx, v);
    t.r = tern_shift(ctx, tern_scale(ctx, tern_div(ctx, t.v_err, v), 0.5), 3);
    return t;
}

static tern_tensor *norm_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const stats t = stats_of(c, L);
    const double m = ((const tern_batch_norm_opts *)c->opts)->momentum;
    const double n = ti_norm_values(t.s), unbias = n / (n - 1);
    const tern_shape flat = TI_SHAPE(t.s.dim[1]);

    if (i_out == 0) { /* |gamma| inv z_err + |y - beta| (r + 2) + |y| */
        tern_tensor *gain = tern_mul(ctx, per_channel(ctx, c->in[1], t.s), t.inv);
        tern_tensor *own = tern_abs(ctx, tern_mul(ctx, t.z, gain));
        tern_tensor *b = tern_mul(ctx, tern_abs(ctx, gain), t.z_err);
        b = tern_add(ctx, b, tern_mul(ctx, own, tern_shift(ctx, t.r, 2)));
        return tern_add(ctx, b, tern_scale(ctx, tern_abs(ctx, c->out[0]), 2));
    }
    if (i_out == 1 || i_out == 2) { /* 3 (|1-m| |old| + m |batch|) + m batch_err */
        tern_tensor *batch = i_out == 1 ? tern_abs(ctx, t.mean) : tern_scale(ctx, t.var, unbias);
        tern_tensor *err = i_out == 1 ? t.mean_abs : tern_scale(ctx, t.v_err, unbias);
        tern_tensor *old = tern_scale(ctx, tern_abs(ctx, c->in[i_out + 2]), 3 * (1 - m));
        tern_tensor *b = tern_add(ctx, tern_scale(ctx, batch, 5 * m), tern_scale(ctx, err, m));
        return tern_add(ctx, old, tern_reshape(ctx, b, flat));
    }
    return tern_reshape(ctx, i_out == 3 ? t.mean_abs : tern_mul(ctx, t.inv, t.r), flat);
}

/* batch_norm_d(x, gamma, beta, -, -, gy, mean, inv): dx, dgamma, dbeta; mean and inv are hints. */
static tern_status norm_d_shape(ti_call *c)
{
    TI_TRY(check_inputs(c, 5));
    TI_TRY(ti_norm_count(c));
    TI_TRY(ti_same_types(c, 0xff));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[5]->m.shape)) return ti_misfit(c, 0, 5);
    for (int i = 6; i < 8; i++) {
        if (!c->in[i]) continue;
        TI_TRY(ti_need_rank(c, i, 1, 1));
        if (c->in[i]->m.shape.dim[0] != c->in[0]->m.shape.dim[1]) return ti_misfit(c, 0, i);
    }
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    for (int i = 1; i < 3; i++)
        c->meta[i] = ti_packed_meta(c->in[0]->m.type, TI_SHAPE(c->in[0]->m.shape.dim[1]));
    return TERN_OK;
}

/*
 * h = z inv, h_err = inv z_err + |h| r; with <.> for means over n:
 *   <g h>_err = (e + 2) <|g h|> + <|g| h_err>,   <g>_err = e <|g|>
 *   dx = gamma inv (g - <g> - h <g h>)
 */
static tern_tensor *norm_d_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const stats t = stats_of(c, L);
    const double e = ti_sum_error(L), n = ti_norm_values(t.s);
    const tern_reduce_opts over = {.axes = other_axes(t.s), .keep = 1};
    tern_tensor *g = c->in[5], *g_abs = tern_abs(ctx, g);
    tern_tensor *h = tern_mul(ctx, t.z, t.inv), *gh = tern_mul(ctx, g, h);
    tern_tensor *h_abs = tern_abs(ctx, h);
    tern_tensor *h_err = tern_add(ctx, tern_mul(ctx, t.inv, t.z_err), tern_mul(ctx, h_abs, t.r));
    tern_tensor *gh_err = tern_mean(
        ctx, tern_add(ctx, tern_scale(ctx, tern_abs(ctx, gh), e + 2), tern_mul(ctx, g_abs, h_err)),
        &over);
    tern_tensor *g_err = tern_scale(ctx, tern_mean(ctx, g_abs, &over), e);

    if (i_out > 0)
        return tern_scale(ctx, tern_reshape(ctx, i_out == 1 ? gh_err : g_err, TI_SHAPE(t.s.dim[1])),
                          n);
    tern_tensor *m = tern_abs(ctx, tern_mean(ctx, gh, &over));
    tern_tensor *b = tern_add(ctx, g_err, tern_mul(ctx, h_abs, gh_err));
    tern_tensor *all = tern_add(ctx, g_abs, tern_abs(ctx, tern_mean(ctx, g, &over)));
    all = tern_add(ctx, all, tern_mul(ctx, h_abs, m));
    b = tern_add(ctx, b, tern_mul(ctx, h_err, m));
    b = tern_add(ctx, b, tern_mul(ctx, all, tern_shift(ctx, t.r, 4)));
    return tern_mul(ctx, b, tern_abs(ctx, tern_mul(ctx, per_channel(ctx, c->in[1], t.s), t.inv)));
}

static void norm_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* batch_norm_eval: statistics are inputs like the others. */
static tern_status eval_shape(ti_call *c)
{
    TI_TRY(check_inputs(c, 5));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    return TERN_OK;
}

static tern_status eval_compose(const ti_call *c, tern_tensor **y)
{
    tern_ctx *ctx = c->ctx;
    const tern_shape s = tern_shape_of(c->in[0]);
    const double eps = ((const tern_batch_norm_opts *)c->opts)->eps;
    tern_tensor *in[5] = {c->in[0]};

    for (int i = 1; i < 5; i++) in[i] = per_channel(ctx, c->in[i], s);
    tern_tensor *gain = tern_mul(ctx, in[1], tern_rsqrt(ctx, tern_shift(ctx, in[4], eps)));
    y[0] = tern_add(ctx, tern_mul(ctx, tern_sub(ctx, in[0], in[3]), gain), in[2]);
    return tern_error(ctx);
}

/* With q = gamma inv: dx = g q; dgamma = sum g z inv; dbeta = sum g; dmean = -q sum g;
 * dvar = -1/2 q inv^2 sum g z. */
static void eval_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    const tern_shape s = c->in[0]->m.shape;
    const double eps = ((const tern_batch_norm_opts *)c->opts)->eps;
    tern_tensor *inv = tern_rsqrt(ctx, tern_shift(ctx, c->in[4], eps));
    tern_tensor *q = tern_mul(ctx, c->in[1], inv), *sum_g = NULL, *sum_gz = NULL;

    if (c->wants[0]) d[0] = tern_mul(ctx, g[0], per_channel(ctx, q, s));
    if (c->wants[2] || c->wants[3]) sum_g = sum_of(ctx, g[0], s);
    if (c->wants[1] || c->wants[4]) {
        tern_tensor *z = tern_sub(ctx, c->in[0], per_channel(ctx, c->in[3], s));
        sum_gz = sum_of(ctx, tern_mul(ctx, g[0], z), s);
    }
    if (c->wants[1]) d[1] = tern_mul(ctx, sum_gz, inv);
    if (c->wants[2]) d[2] = sum_g;
    if (c->wants[3]) d[3] = tern_neg(ctx, tern_mul(ctx, q, sum_g));
    if (c->wants[4])
        d[4] =
            tern_scale(ctx, tern_mul(ctx, tern_mul(ctx, q, tern_mul(ctx, inv, inv)), sum_gz), -0.5);
}

/* |y - beta| and |beta|, and z's cancellation: gain (|x| + |mean|). */
static tern_tensor *eval_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_shape s = c->in[0]->m.shape;
    const double eps = ((const tern_batch_norm_opts *)c->opts)->eps;
    tern_tensor *inv = tern_rsqrt(ctx, tern_shift(ctx, c->in[4], eps));
    tern_tensor *gain = per_channel(ctx, tern_abs(ctx, tern_mul(ctx, c->in[1], inv)), s);
    tern_tensor *z = ti_abs_sum(ctx, c->in[0], per_channel(ctx, c->in[3], s));

    (void)i_out;
    (void)L;
    return tern_add(ctx, tern_scale(ctx, tern_mul(ctx, z, gain), 7),
                    tern_scale(ctx, tern_abs(ctx, per_channel(ctx, c->in[2], s)), 2));
}

#define TI_SPREAD(...)                                                                             \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_POSITIVE, 0                                                     \
    }
#define TI_CHANNELS(c) TI_NORMAL(c), TI_NORMAL(c), TI_NORMAL(c), TI_SPREAD(c)
static const tern_batch_norm_opts loose = {
    .has_eps = 1, .eps = 0.1, .has_momentum = 1, .momentum = 0.5};
static const ti_sample norm_samples[] = {
    {"images", 5, {TI_NORMAL(3, 5, 4, 3), TI_CHANNELS(5)}, NULL},
    {"17 channels", 5, {TI_NORMAL(2, 17, 3, 3), TI_CHANNELS(17)}, &loose},
    {"two axes", 5, {TI_NORMAL(9, 4), TI_CHANNELS(4)}, NULL},
    {"three axes", 5, {TI_NORMAL(2, 3, 7), TI_CHANNELS(3)}, &loose},
    {"two values", 5, {TI_NORMAL(2, 3, 1, 1), TI_CHANNELS(3)}, &loose},
    TI_SAMPLES_END,
};
static const ti_sample norm_d_samples[] = {
    {"images",
     8,
     {TI_NORMAL(3, 5, 4, 3), TI_NORMAL(5), TI_NORMAL(5), TI_NOTHING, TI_NOTHING,
      TI_NORMAL(3, 5, 4, 3), TI_NOTHING, TI_NOTHING},
     NULL},
    {"two axes",
     8,
     {TI_NORMAL(9, 4), TI_NORMAL(4), TI_NORMAL(4), TI_NOTHING, TI_NOTHING, TI_NORMAL(9, 4),
      TI_NOTHING, TI_NOTHING},
     &loose},
    TI_SAMPLES_END,
};
static const ti_sample eval_samples[] = {
    {"images", 5, {TI_NORMAL(3, 5, 4, 3), TI_CHANNELS(5)}, NULL},
    {"two axes", 5, {TI_NORMAL(9, 17), TI_CHANNELS(17)}, &loose},
    {"one value", 5, {TI_NORMAL(1, 3), TI_CHANNELS(3)}, NULL},
    {"empty batch", 5, {TI_NORMAL(0, 3, 2, 2), TI_CHANNELS(3)}, NULL},
    TI_SAMPLES_END,
};

static const ti_op batch_norm = {
    .name = "batch_norm",
    .n_in = 5,
    .in = {"x", "gamma", "beta", "mean", "var"},
    .twice = 1,
    .n_out = 5,
    .out = {{"y", TI_DIFF},
            {"new_mean", TI_VALUE},
            {"new_var", TI_VALUE},
            {"batch_mean", TI_HINT},
            {"inv", TI_HINT}},
    .saves = 1u << 3 | 1u << 4,
    .opts_size = sizeof(tern_batch_norm_opts),
    .fields = norm_fields,
    .shape = norm_shape,
    .grad = norm_grad,
    .compose = norm_compose,
    .bound = norm_bound,
    .samples = norm_samples,
};
static const ti_op batch_norm_d = {
    .name = "batch_norm_d",
    .n_in = 8,
    .in = {"x", "gamma", "beta", "mean", "var", "gy", "batch_mean", "inv"},
    .optional = 1u << 3 | 1u << 4 | 1u << 6 | 1u << 7,
    .twice = 1 | 1u << 5,
    .n_out = 3,
    .out = {{"dx", TI_DIFF}, {"dgamma", TI_DIFF}, {"dbeta", TI_DIFF}},
    .opts_size = sizeof(tern_batch_norm_opts),
    .fields = norm_fields,
    .shape = norm_d_shape,
    .grad = ti_composed_grad,
    .composed = &batch_norm,
    .d_needs = 7,
    .bound = norm_d_bound,
    .samples = norm_d_samples,
};
static const ti_op batch_norm_eval = {
    .name = "batch_norm_eval",
    .n_in = 5,
    .in = {"x", "gamma", "beta", "mean", "var"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_batch_norm_opts),
    .fields = norm_fields,
    .shape = eval_shape,
    .grad = eval_grad,
    .compose = eval_compose,
    .bound = eval_bound,
    .samples = eval_samples,
};

static void norm_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    ti_fused_grad(c, g, d, &batch_norm_d, 2, &c->out[3]);
}

const ti_op *const ti_ops_norm[] = {&batch_norm, &batch_norm_d, &batch_norm_eval, NULL};

tern_tensor *tern_batch_norm(tern_ctx *ctx, tern_tensor **new_mean, tern_tensor **new_var,
                             tern_tensor *x, tern_tensor *gamma, tern_tensor *beta,
                             tern_tensor *mean, tern_tensor *var, const tern_batch_norm_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const unsigned wanted = 0x19u | (new_mean ? 2u : 0) | (new_var ? 4u : 0);
    const tern_status status =
        ti_apply(ctx, &batch_norm, opts, 5, TI_IN(x, gamma, beta, mean, var), wanted, out);

    if (new_mean) *new_mean = status == TERN_OK ? out[1] : NULL;
    if (new_var) *new_var = status == TERN_OK ? out[2] : NULL;
    return status == TERN_OK ? out[0] : NULL;
}
tern_tensor *tern_batch_norm_eval(tern_ctx *ctx, tern_tensor *x, tern_tensor *gamma,
                                  tern_tensor *beta, tern_tensor *mean, tern_tensor *var,
                                  const tern_batch_norm_opts *opts)
{
    return ti_apply1(ctx, &batch_norm_eval, opts, 5, TI_IN(x, gamma, beta, mean, var));
}
