/*
 * random.c - uniform, normal, dropout: numbers of (seed, purpose, counter, element), no state.
 */
#include <math.h>

#include "ops/common.h"
#include "ops/rules.h"

static const ti_field random_fields[] = {
    TI_FIELD(tern_random_opts, TI_I64, seed, 1, 0),
    TI_FIELD(tern_random_opts, TI_I64, purpose, 1, 0),
    TI_FIELD(tern_random_opts, TI_I64, rank, 1, 0),
    TI_FIELD(tern_random_opts, TI_I64, dim, TERN_RANK, 0),
    TI_FIELD_NAMES(tern_random_opts, type, "f32|f64"),
    TI_FIELD(tern_random_opts, TI_F64, a, 1, 0),
    TI_FIELD(tern_random_opts, TI_F64, b, 1, 0),
    {0},
};

static tern_status check_counter(const ti_call *c, int i)
{
    char text[160];

    TI_TRY(ti_need_types(c, i, 1u << TERN_I64));
    if (tern_count(c->in[i]->m.shape) == 1) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: counter %s is not one number", c->op->name,
                   tern_shape_text(text, c->in[i]->m.shape));
}

static tern_status random_shape(ti_call *c)
{
    const tern_random_opts *o = c->opts;
    tern_shape s;

    TI_TRY(check_counter(c, 0));
    TI_TRY(ti_shape_of(c, o->rank, o->dim, &s));
    TI_TRY(ti_countable(c, s));
    if (o->type != TERN_F32 && o->type != TERN_F64)
        return ti_fail(c->ctx, TERN_E_TYPE, "%s: type %d is neither f32 nor f64", c->op->name,
                       o->type);
    c->meta[0] = ti_packed_meta((tern_type)o->type, s);
    return TERN_OK;
}

static tern_status uniform_shape(ti_call *c)
{
    const tern_random_opts *o = c->opts;
    const double b = o->a == 0 && o->b == 0 ? 1 : o->b;
    const bool narrow = o->type == TERN_F32;

    /* In the type of the result, or rounding could leave nothing between the two. */
    if (!(narrow ? (float)o->a < (float)b && isfinite((float)b - (float)o->a)
                 : o->a < b && isfinite(b - o->a)))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: there is nothing from %g up to %g",
                       c->op->name, o->a, b);
    return random_shape(c);
}

static tern_status normal_shape(ti_call *c)
{
    const tern_random_opts *o = c->opts;

    if (!isfinite(o->a) || !(o->b >= 0) || !isfinite(o->b))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: mean %g, deviation %g", c->op->name, o->a,
                       o->b);
    return random_shape(c);
}

static const ti_field dropout_fields[] = {
    TI_FIELD(tern_dropout_opts, TI_F64, p, 1, 0),
    TI_FIELD(tern_dropout_opts, TI_I64, seed, 1, 0),
    TI_FIELD(tern_dropout_opts, TI_I64, purpose, 1, 0),
    {0},
};

static tern_status dropout_shape(ti_call *c)
{
    const tern_dropout_opts *o = c->opts;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(check_counter(c, 1));
    if (!(o->p >= 0 && o->p < 1))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: p %g is not in 0 … 1, 1 excluded", c->op->name,
                       o->p);
    ti_like(c, 0, 0);
    return TERN_OK;
}

static void dropout_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    if (c->wants[0]) d[0] = tern_dropout(c->ctx, g[0], c->in[1], c->opts);
}

/* A quotient, or a product with the rounded inverse. */
static tern_tensor *dropout_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return tern_scale(c->ctx, tern_abs(c->ctx, c->out[0]), 3);
}

static const tern_random_opts three = {.seed = 1, .purpose = 2, .rank = 2, .dim = {5, 7}},
                              shifted = {.seed = -1, .rank = 1, .dim = {33}, .a = -2, .b = 3},
                              wide = {.purpose = 9, .rank = 1, .dim = {17}, .type = TERN_F64},
                              empty = {.rank = 2, .dim = {0, 3}};
static const ti_sample random_samples[] = {
    {"standard", 1, {{{0}, TI_S_COUNTER, 0}}, &three},
    {"shifted", 1, {{{0}, TI_S_COUNTER, 0}}, &shifted},
    {"f64", 1, {{{0}, TI_S_COUNTER, 0}}, &wide},
    {"empty", 1, {{{0}, TI_S_COUNTER, 0}}, &empty},
    TI_SAMPLES_END,
};
static const tern_dropout_opts third = {.p = 0.3, .seed = 42, .purpose = 7}, never = {0};
static const ti_sample dropout_samples[] = {
    {"some", 2, {TI_NORMAL(5, 7), {{0}, TI_S_COUNTER, 0}}, &third},
    {"images", 2, {TI_NORMAL(2, 3, 5, 4), {{0}, TI_S_COUNTER, 0}}, &third},
    {"none", 2, {TI_NORMAL(9), {{0}, TI_S_COUNTER, 0}}, &never},
    {"empty", 2, {TI_NORMAL(0, 3), {{0}, TI_S_COUNTER, 0}}, &third},
    TI_SAMPLES_END,
};

static const ti_op uniform = {
    .name = "uniform",
    .n_in = 1,
    .in = {"counter"},
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .opts_size = sizeof(tern_random_opts),
    .fields = random_fields,
    .shape = uniform_shape,
    .no_grad = "depends on a counter only",
    .samples = random_samples,
};
static const ti_op normal = {
    .name = "normal",
    .n_in = 1,
    .in = {"counter"},
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .opts_size = sizeof(tern_random_opts),
    .fields = random_fields,
    .shape = normal_shape,
    .no_grad = "depends on a counter only",
    .samples = random_samples,
};
static const ti_op dropout = {
    .name = "dropout",
    .n_in = 2,
    .in = {"x", "counter"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_dropout_opts),
    .fields = dropout_fields,
    .shape = dropout_shape,
    .grad = dropout_grad,
    .bound = dropout_bound,
    .samples = dropout_samples,
};

const ti_op *const ti_ops_random[] = {&uniform, &normal, &dropout, NULL};

/* FNV-1a; never 0, so that a name differs from no name. */
int64_t tern_purpose(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (; name && *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return (int64_t)(h ? h : 1);
}

tern_tensor *tern_uniform(tern_ctx *ctx, tern_tensor *counter, const tern_random_opts *o)
{
    return ti_apply1(ctx, &uniform, o, 1, &counter);
}
tern_tensor *tern_normal(tern_ctx *ctx, tern_tensor *counter, const tern_random_opts *o)
{
    return ti_apply1(ctx, &normal, o, 1, &counter);
}
tern_tensor *tern_dropout(tern_ctx *ctx, tern_tensor *x, tern_tensor *counter,
                          const tern_dropout_opts *opts)
{
    return ti_apply1(ctx, &dropout, opts, 2, TI_IN(x, counter));
}
