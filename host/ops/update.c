/*
 * update.c - what an optimizer's step is made of: census, sgd_update, adam_update.
 *
 * They have no gradients: what they return is assigned, and assignment cuts history.
 */
#include <math.h>

#include "ops/common.h"

static const char assigned[] = "updates are assigned, and assignment cuts history";

/* ---- census(x0, x1, …): whether any element is not finite; the norm of x0 and their count ---- */

static tern_status census_shape(ti_call *c)
{
    for (int i = 0; i < c->n_in; i++) TI_TRY(ti_need_types(c, i, TI_STORED_FLOATS));
    c->meta[0] = ti_packed_meta(TERN_F32, TI_SCALAR);
    c->meta[1] = ti_packed_meta(TERN_F64, TI_SHAPE(2));
    return TERN_OK;
}

/* The norm's squares are added in double; in f64 that is one chain. The verdict is exact. */
static tern_tensor *census_bound(const ti_call *c, int i_out, double L)
{
    if (i_out == 0) return NULL;
    return tern_mul(c->ctx, tern_scale(c->ctx, c->out[1], ti_sum_error(L) + 2),
                    tern_from_doubles(c->ctx, TERN_F64, (double[]){1, 0}, TI_SHAPE(2)));
}

/* ---- sgd_update and adam_update ---- */

static const ti_field sgd_fields[] = {
    TI_FIELD(tern_sgd_update_opts, TI_F64, momentum, 1, 0),
    TI_FIELD(tern_sgd_update_opts, TI_F64, dampening, 1, 0),
    TI_FIELD(tern_sgd_update_opts, TI_F64, decay, 1, 0),
    TI_FIELD(tern_sgd_update_opts, TI_INT, nesterov, 1, 0),
    {0},
};
static const ti_field adam_fields[] = {
    TI_FIELD_HAS(tern_adam_update_opts, TI_F64, beta1, 1, 0.9),
    TI_FIELD_HAS(tern_adam_update_opts, TI_F64, beta2, 1, 0.999),
    TI_FIELD_HAS(tern_adam_update_opts, TI_F64, eps, 1, 1e-8),
    TI_FIELD(tern_adam_update_opts, TI_F64, decay, 1, 0),
    TI_FIELD(tern_adam_update_opts, TI_INT, decoupled, 1, 0),
    {0},
};

/* p and what lies parallel to it, inputs 0 … n-1; input i and those after it, floats of one
 * element. */
static tern_status check_parallel(const ti_call *c, int n)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, (1u << n) - 1));
    for (int i = 1; i < n; i++)
        if (c->in[i] && !tern_same_shape(c->in[0]->m.shape, c->in[i]->m.shape))
            return ti_misfit(c, 0, i);
    return TERN_OK;
}

static tern_status check_scalar(const ti_call *c, int i, unsigned types)
{
    char text[160];

    if (!c->in[i]) return TERN_OK;
    TI_TRY(ti_need_types(c, i, types));
    if (tern_count(c->in[i]->m.shape) == 1) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %s %s is not one number", c->op->name, c->op->in[i],
                   tern_shape_text(text, c->in[i]->m.shape));
}

static tern_status check_option(const ti_call *c, const char *name, double x, bool fits)
{
    if (fits && isfinite(x)) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: %s is %g", c->op->name, name, x);
}

static tern_status sgd_shape(ti_call *c)
{
    const tern_sgd_update_opts *o = c->opts;

    TI_TRY(check_parallel(c, 3));
    TI_TRY(check_scalar(c, 3, TI_FLOATS));
    TI_TRY(check_scalar(c, 4, TI_FLOATS));
    TI_TRY(check_option(c, "momentum", o->momentum, o->momentum >= 0));
    TI_TRY(check_option(c, "dampening", o->dampening, true));
    TI_TRY(check_option(c, "decay", o->decay, true));
    if (!c->in[1] && o->momentum != 0)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: momentum %g without m", c->op->name,
                       o->momentum);
    ti_like(c, 0, 0);
    ti_like(c, 1, c->in[1] ? 1 : 0);
    return TERN_OK;
}

static tern_status adam_shape(ti_call *c)
{
    const tern_adam_update_opts *o = c->opts;

    TI_TRY(check_parallel(c, 4));
    TI_TRY(check_scalar(c, 4, TI_FLOATS));
    TI_TRY(check_scalar(c, 5, 1u << TERN_I64));
    TI_TRY(check_scalar(c, 6, TI_FLOATS));
    TI_TRY(check_option(c, "beta1", o->beta1, o->beta1 >= 0 && o->beta1 < 1));
    TI_TRY(check_option(c, "beta2", o->beta2, o->beta2 >= 0 && o->beta2 < 1));
    TI_TRY(check_option(c, "eps", o->eps, o->eps >= 0));
    TI_TRY(check_option(c, "decay", o->decay, true));
    for (int i = 0; i < 3; i++) ti_like(c, i, i);
    return TERN_OK;
}

/* |g| scaled, and what decay adds to it. */
static tern_tensor *size_of_g(const ti_call *c, int i_g, int i_scale, double decay)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *g = tern_abs(ctx, c->in[i_g]);

    if (c->in[i_scale])
        g = tern_mul(ctx, g, tern_abs(ctx, tern_reshape(ctx, c->in[i_scale], TI_SCALAR)));
    return decay == 0 ? g : tern_add(ctx, g, tern_scale(ctx, tern_abs(ctx, c->in[0]), fabs(decay)));
}

/* Every term passes through at most 8 roundings, coefficients included. */
static tern_tensor *sgd_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_sgd_update_opts *o = c->opts;
    tern_tensor *g = size_of_g(c, 2, 4, o->decay), *m = g;

    (void)L;
    if (c->in[1])
        m = tern_add(ctx, tern_scale(ctx, tern_abs(ctx, c->in[1]), o->momentum),
                     tern_scale(ctx, g, fabs(1 - o->dampening)));
    if (i_out == 1) return tern_scale(ctx, m, 8);
    if (c->in[1] && o->nesterov) m = tern_add(ctx, g, tern_scale(ctx, m, o->momentum));
    m = tern_mul(ctx, m, tern_abs(ctx, tern_reshape(ctx, c->in[3], TI_SCALAR)));
    return tern_scale(ctx, tern_add(ctx, tern_abs(ctx, c->in[0]), m), 8);
}

/*
 * M = beta1 |m| + (1 - beta1) |g|, V likewise: 8 u M, 8 u V. The step lr c M / (sqrt(c' v') + eps)
 * has in its root the relative error of v', which has no cancellation, so 16 in all; a quotient
 * may take three of them.
 */
static tern_tensor *adam_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_adam_update_opts *o = c->opts;

    (void)L;
    tern_frame_begin(ctx); /* blocks of parameters are large: what is used up goes early */
    tern_tensor *g = size_of_g(c, 3, 6, o->decoupled ? 0 : o->decay);
    tern_tensor *x = i_out == 2 ? tern_mul(ctx, g, g) : g;
    const double beta = i_out == 2 ? o->beta2 : o->beta1;
    tern_tensor *old = tern_abs(ctx, c->in[i_out == 2 ? 2 : 1]);
    tern_tensor *mean = tern_frame_keep(
        ctx, tern_add(ctx, tern_scale(ctx, old, beta), tern_scale(ctx, x, 1 - beta)));
    if (i_out > 0) return tern_scale(ctx, mean, 8);
    const double t = tern_item(ctx, c->in[5]);
    const double c1 = 1 / (1 - pow(o->beta1, t)), c2 = 1 / (1 - pow(o->beta2, t));
    tern_frame_begin(ctx);
    tern_tensor *root = tern_sqrt(ctx, tern_scale(ctx, tern_abs(ctx, c->out[2]), c2));
    tern_tensor *step = tern_frame_keep(
        ctx, tern_div(ctx, tern_scale(ctx, mean, c1), tern_shift(ctx, root, o->eps)));
    tern_tensor *lr = tern_abs(ctx, tern_reshape(ctx, c->in[4], TI_SCALAR));
    return tern_scale(ctx, tern_add(ctx, tern_abs(ctx, c->in[0]), tern_mul(ctx, step, lr)), 16);
}

#define TI_ONE(draw_)                                                                              \
    {                                                                                              \
        {0}, TI_S_##draw_, 0                                                                       \
    }
#define TI_SPREAD(...)                                                                             \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_POSITIVE, 0                                                     \
    }
static const tern_sgd_update_opts heavy = {.momentum = 0.9, .decay = 0.01},
                                  nesterov = {.momentum = 0.8, .nesterov = 1},
                                  damped = {.momentum = 0.9, .dampening = 0.5};
static const ti_sample sgd_samples[] = {
    {"plain", 5, {TI_NORMAL(37), TI_NOTHING, TI_NORMAL(37), TI_ONE(UNIT), TI_NOTHING}, NULL},
    {"momentum, decay",
     5,
     {TI_NORMAL(5, 7), TI_NORMAL(5, 7), TI_NORMAL(5, 7), TI_ONE(UNIT), TI_ONE(POSITIVE)},
     &heavy},
    {"nesterov",
     5,
     {TI_NORMAL(33), TI_NORMAL(33), TI_NORMAL(33), TI_ONE(UNIT), TI_NOTHING},
     &nesterov},
    {"dampened",
     5,
     {TI_NORMAL(17), TI_NORMAL(17), TI_NORMAL(17), TI_ONE(UNIT), TI_NOTHING},
     &damped},
    {"empty", 5, {TI_NORMAL(0), TI_NORMAL(0), TI_NORMAL(0), TI_ONE(UNIT), TI_NOTHING}, &heavy},
    TI_SAMPLES_END,
};
static const tern_adam_update_opts coupled = {.decay = 0.1}, decoupled = {.decay = 0.1,
                                                                          .decoupled = 1,
                                                                          .has_beta1 = 1,
                                                                          .beta1 = 0.5,
                                                                          .has_eps = 1,
                                                                          .eps = 1e-3};
#define TI_ADAM(scale_, ...)                                                                       \
    {                                                                                              \
        TI_NORMAL(__VA_ARGS__), TI_NORMAL(__VA_ARGS__), TI_SPREAD(__VA_ARGS__),                    \
            TI_NORMAL(__VA_ARGS__), TI_ONE(UNIT), TI_ONE(COUNTER), scale_                          \
    }
static const ti_sample adam_samples[] = {
    {"plain", 7, TI_ADAM(TI_NOTHING, 37), NULL},
    {"decay, scale", 7, TI_ADAM(TI_ONE(POSITIVE), 5, 7), &coupled},
    {"decoupled decay", 7, TI_ADAM(TI_NOTHING, 33), &decoupled},
    {"empty", 7, TI_ADAM(TI_NOTHING, 0), NULL},
    TI_SAMPLES_END,
};
static const ti_sample census_samples[] = {
    {"one", 1, {TI_NORMAL(37)}, NULL},
    {"three", 3, {TI_NORMAL(5, 7), TI_ONE(NORMAL), TI_NORMAL(2, 3, 4, 5)}, NULL},
    {"empty", 2, {TI_NORMAL(0), TI_NORMAL(3)}, NULL},
    TI_SAMPLES_END,
};

static const ti_op census = {
    .name = "census",
    .n_in = -1,
    .in = {"x"},
    .n_out = 2,
    .out = {{"bad", TI_VALUE}, {"stats", TI_VALUE}},
    .shape = census_shape,
    .no_grad = assigned,
    .bound = census_bound,
    .samples = census_samples,
};
static const ti_op sgd_update = {
    .name = "sgd_update",
    .n_in = 5,
    .in = {"p", "m", "g", "lr", "scale"},
    .optional = 1u << 1 | 1u << 4,
    .n_out = 2,
    .out = {{"new_p", TI_VALUE}, {"new_m", TI_VALUE}},
    .opts_size = sizeof(tern_sgd_update_opts),
    .fields = sgd_fields,
    .shape = sgd_shape,
    .no_grad = assigned,
    .bound = sgd_bound,
    .samples = sgd_samples,
};
static const ti_op adam_update = {
    .name = "adam_update",
    .n_in = 7,
    .in = {"p", "m", "v", "g", "lr", "t", "scale"},
    .optional = 1u << 6,
    .n_out = 3,
    .out = {{"new_p", TI_VALUE}, {"new_m", TI_VALUE}, {"new_v", TI_VALUE}},
    .opts_size = sizeof(tern_adam_update_opts),
    .fields = adam_fields,
    .shape = adam_shape,
    .no_grad = assigned,
    .bound = adam_bound,
    .samples = adam_samples,
};

const ti_op *const ti_ops_update[] = {&census, &sgd_update, &adam_update, NULL};

tern_tensor *tern_census(tern_ctx *ctx, tern_tensor **stats, int n, tern_tensor *const *x)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const tern_status status = ti_apply(ctx, &census, NULL, n, x, stats ? 3 : 1, out);

    if (stats) *stats = status == TERN_OK ? out[1] : NULL;
    return status == TERN_OK ? out[0] : NULL;
}

tern_tensor *tern_sgd_update(tern_ctx *ctx, tern_tensor **new_m, tern_tensor *p, tern_tensor *m,
                             tern_tensor *g, tern_tensor *lr, tern_tensor *scale,
                             const tern_sgd_update_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const tern_status status =
        ti_apply(ctx, &sgd_update, opts, 5, TI_IN(p, m, g, lr, scale), m && new_m ? 3 : 1, out);

    if (new_m) *new_m = status == TERN_OK ? out[1] : NULL;
    return status == TERN_OK ? out[0] : NULL;
}

tern_tensor *tern_adam_update(tern_ctx *ctx, tern_tensor **new_m, tern_tensor **new_v,
                              tern_tensor *p, tern_tensor *m, tern_tensor *v, tern_tensor *g,
                              tern_tensor *lr, tern_tensor *t, tern_tensor *scale,
                              const tern_adam_update_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const unsigned wanted = 1u | (new_m ? 2u : 0) | (new_v ? 4u : 0);
    const tern_status status =
        ti_apply(ctx, &adam_update, opts, 7, TI_IN(p, m, v, g, lr, t, scale), wanted, out);

    if (new_m) *new_m = status == TERN_OK ? out[1] : NULL;
    if (new_v) *new_v = status == TERN_OK ? out[2] : NULL;
    return status == TERN_OK ? out[0] : NULL;
}
