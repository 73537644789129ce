/*
 * arithmetic.c - operations on two or three inputs, element by element: add, sub, mul, div, power,
 * maximum, minimum, the comparisons, where.
 *
 * All broadcast. The result follows the first input that has its shape.
 */
#include "ops/rules.h"

/* Broadcasts all inputs; the type is that of `like`, or bool. */
static tern_status spread(ti_call *c, int like, bool to_bool)
{
    tern_shape s = c->in[0]->m.shape;
    const tern_type type = to_bool ? TERN_BOOL : c->in[like]->m.type;

    for (int i = 1; i < c->n_in; i++)
        if (!ti_broadcast(s, c->in[i]->m.shape, &s)) {
            tern_shape both;
            const int other = i > 1 && ti_broadcast(c->in[0]->m.shape, c->in[i]->m.shape, &both);
            return ti_misfit(c, other, i);
        }
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(type, s);
    for (int i = 0; i < c->n_in; i++)
        if (tern_same_shape(c->in[i]->m.shape, s)) {
            c->meta[0] = ti_follow_meta(type, &c->in[i]->m);
            break;
        }
    return TERN_OK;
}

static tern_status floats_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 3));
    return spread(c, 0, false);
}

static tern_status numbers_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_NUMBERS));
    TI_TRY(ti_same_types(c, 3));
    return spread(c, 0, false);
}

static tern_status compare_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, TI_NUMBERS));
    TI_TRY(ti_same_types(c, 3));
    return spread(c, 0, true);
}

static tern_status where_shape(ti_call *c)
{
    TI_TRY(ti_need_types(c, 0, 1u << TERN_BOOL));
    TI_TRY(ti_same_types(c, 6));
    return spread(c, 1, false);
}

/* One rounding of the result. */
static tern_tensor *rounded_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return ti_relative_bound(c, 1);
}

/* pow is right to 1 ulp (2 u) in C libraries; own kernels stay under twice that. */
static tern_tensor *power_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    (void)L;
    return ti_relative_bound(c, 4);
}

/* ---- Gradients ---- */

static void add_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    for (int i = 0; i < 2; i++)
        if (c->wants[i]) d[i] = ti_fold(c->ctx, g[0], c->in[i]);
}

static void sub_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    if (c->wants[0]) d[0] = ti_fold(c->ctx, g[0], c->in[0]);
    if (c->wants[1]) d[1] = tern_neg(c->ctx, ti_fold(c->ctx, g[0], c->in[1]));
}

static void mul_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    for (int i = 0; i < 2; i++)
        if (c->wants[i]) d[i] = ti_fold(c->ctx, tern_mul(c->ctx, g[0], c->in[1 - i]), c->in[i]);
}

/* y = a/b: da = g/b, db = -g (y/b): 0 where a is 0, also if g/b overflows. */
static void div_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *b = c->in[1];

    if (c->wants[0]) d[0] = ti_fold(ctx, tern_div(ctx, g[0], b), c->in[0]);
    if (c->wants[1])
        d[1] = tern_neg(ctx, ti_fold(ctx, tern_mul(ctx, g[0], tern_div(ctx, c->out[0], b)), b));
}

/*
 * da = g b a^(b-1), db = g y log a. At a = 0 both have limits that the formulas miss (0 to the
 * power -1 times 0; 0 times -inf): there a is replaced by 1, which gives the documented zeros and
 * keeps NaN out of the derivatives of this rule. For da the same holds where 1/a overflows or a is
 * NaN, whose power 0 is 1.
 */
static void power_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *a = c->in[0], *b = c->in[1];
    tern_tensor *zero = ti_constant(ctx, a, 0), *one = ti_constant(ctx, a, 1);
    tern_tensor *no = tern_fill(ctx, TERN_BOOL, TI_SCALAR, 0);

    if (c->wants[0]) {
        tern_tensor *inverts = tern_is_finite(ctx, tern_div(ctx, one, a));
        tern_tensor *flat = tern_where(ctx, inverts, no, tern_eq(ctx, b, zero));
        tern_tensor *p = tern_power(ctx, tern_where(ctx, flat, one, a), tern_shift(ctx, b, -1));
        d[0] = ti_fold(ctx, tern_mul(ctx, g[0], tern_mul(ctx, b, p)), a);
    }
    if (c->wants[1]) {
        tern_tensor *at_0 = tern_eq(ctx, a, zero);
        tern_tensor *flat = tern_where(ctx, at_0, tern_ge(ctx, b, zero), no);
        tern_tensor *l = tern_log(ctx, tern_where(ctx, flat, one, a));
        d[1] = ti_fold(ctx, tern_mul(ctx, g[0], tern_mul(ctx, c->out[0], l)), b);
    }
}

/* The whole cotangent where an input wins, half of it at ties. */
static void winner_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d,
                        tern_tensor *(*loses)(tern_ctx *, tern_tensor *, tern_tensor *))
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *zero = ti_constant(ctx, g[0], 0), *half = tern_scale(ctx, g[0], 0.5);
    tern_tensor *tie = tern_eq(ctx, c->in[0], c->in[1]);

    for (int i = 0; i < 2; i++) {
        if (!c->wants[i]) continue;
        tern_tensor *lost = loses(ctx, c->in[i], c->in[1 - i]);
        tern_tensor *own = tern_where(ctx, lost, zero, g[0]);
        d[i] = ti_fold(ctx, tern_where(ctx, tie, half, own), c->in[i]);
    }
}

static void maximum_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    winner_grad(c, g, d, tern_lt);
}

static void minimum_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    winner_grad(c, g, d, tern_gt);
}

static void where_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *zero = ti_constant(c->ctx, g[0], 0);

    if (c->wants[1]) d[1] = ti_fold(c->ctx, tern_where(c->ctx, c->in[0], g[0], zero), c->in[1]);
    if (c->wants[2]) d[2] = ti_fold(c->ctx, tern_where(c->ctx, c->in[0], zero, g[0]), c->in[2]);
}

/* ---- Samples ---- */

#define PAIRS(A, B)                                                                                \
    {"odd", 2, {TI_D(A, 3, 5, 7), TI_D(B, 3, 5, 7)}, NULL},                                        \
        {"last axis repeats", 2, {TI_D(A, 4, 33), TI_D(B, 33)}, NULL},                             \
        {"both repeat", 2, {TI_D(A, 5, 1, 3), TI_D(B, 1, 4, 1)}, NULL},                            \
        {"scalar first", 2, {TI_D0(A), TI_D(B, 2, 3)}, NULL},                                      \
        {"one element, scalar", 2, {TI_D(A, 1), TI_D0(B)}, NULL},                                  \
        {"rank 5, channel", 2, {TI_D(A, 2, 3, 2, 1, 3), TI_D(B, 3, 1, 1, 1)}, NULL},               \
    {                                                                                              \
        "empty", 2, {TI_D(A, 0, 3), TI_D(B, 3)}, NULL                                              \
    }

static const ti_sample normal_samples[] = {
    PAIRS(NORMAL, NORMAL),
    {"long", 2, {TI_D(NORMAL, 3, 1031), TI_D(NORMAL, 3, 1)}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample div_samples[] = {PAIRS(NORMAL, POSITIVE), TI_SAMPLES_END};
static const ti_sample power_samples[] = {PAIRS(POSITIVE, NORMAL), TI_SAMPLES_END};
/* Operands that never tie: maxima have kinks there. */
static const ti_sample apart_samples[] = {PAIRS(AWAY, DISTINCT), TI_SAMPLES_END};
static const ti_sample integer_samples[] = {
    {"ties", 2, {TI_DL(INT, 2, 4, 9), TI_DL(INT, 2, 9)}, NULL},
    {"floats", 2, {TI_D(NORMAL, 3, 4), TI_D(NORMAL, 3, 4)}, NULL},
    {"scalars", 2, {TI_DL(INT, 1), TI_DL(INT, 1)}, NULL},
    {"empty", 2, {TI_D(NORMAL, 0), TI_D(NORMAL, 1)}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample where_samples[] = {
    {"odd", 3, {TI_D(BOOL, 3, 7), TI_D(NORMAL, 3, 7), TI_D(NORMAL, 3, 7)}, NULL},
    {"all repeat", 3, {TI_D(BOOL, 4, 1, 1), TI_D(NORMAL, 3, 1), TI_D(NORMAL, 5)}, NULL},
    {"scalars", 3, {TI_D0(BOOL), TI_D0(NORMAL), TI_D0(NORMAL)}, NULL},
    {"integers", 3, {TI_D(BOOL, 9), TI_DL(INT, 9, 9), TI_DL(INT, 9, 9)}, NULL},
    {"empty", 3, {TI_D(BOOL, 1), TI_D(NORMAL, 0), TI_D(NORMAL, 1)}, NULL},
    TI_SAMPLES_END,
};

/* ---- Operations ---- */

#define TWO(name_, shape_, grad_, bound_, samples_, saves_)                                        \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 2,                                                                                 \
        .in = {"a", "b"},                                                                          \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_DIFF}},                                                                   \
        .saves = saves_,                                                                           \
        .shape = shape_,                                                                           \
        .grad = grad_,                                                                             \
        .bound = bound_,                                                                           \
        .samples = samples_,                                                                       \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)                       \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, NULL, 2, TI_IN(a, b));                                  \
    }

TWO(add, numbers_shape, add_grad, rounded_bound, normal_samples, 0)
TWO(sub, numbers_shape, sub_grad, rounded_bound, normal_samples, 0)
TWO(mul, numbers_shape, mul_grad, rounded_bound, normal_samples, 0)
TWO(div, floats_shape, div_grad, rounded_bound, div_samples, 1)
TWO(power, floats_shape, power_grad, power_bound, power_samples, 1)
TWO(maximum, numbers_shape, maximum_grad, NULL, apart_samples, 0)
TWO(minimum, numbers_shape, minimum_grad, NULL, apart_samples, 0)

#define COMPARE(name_)                                                                             \
    static const ti_op name_##_op = {                                                              \
        .name = #name_,                                                                            \
        .n_in = 2,                                                                                 \
        .in = {"a", "b"},                                                                          \
        .n_out = 1,                                                                                \
        .out = {{"y", TI_VALUE}},                                                                  \
        .shape = compare_shape,                                                                    \
        .no_grad = "boolean result",                                                               \
        .samples = integer_samples,                                                                \
    };                                                                                             \
    tern_tensor *tern_##name_(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)                       \
    {                                                                                              \
        return ti_apply1(ctx, &name_##_op, NULL, 2, TI_IN(a, b));                                  \
    }

COMPARE(eq)
COMPARE(ne)
COMPARE(lt)
COMPARE(le)
COMPARE(gt)
COMPARE(ge)

static const ti_op where_op = {
    .name = "where",
    .n_in = 3,
    .in = {"cond", "a", "b"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .shape = where_shape,
    .grad = where_grad,
    .samples = where_samples,
};
tern_tensor *tern_where(tern_ctx *ctx, tern_tensor *cond, tern_tensor *a, tern_tensor *b)
{
    return ti_apply1(ctx, &where_op, NULL, 3, TI_IN(cond, a, b));
}

const ti_op *const ti_ops_arithmetic[] = {&add_op, &sub_op, &mul_op,     &div_op,     &power_op,
                                          &eq_op,  &ne_op,  &maximum_op, &minimum_op, &lt_op,
                                          &le_op,  &gt_op,  &ge_op,      &where_op,   NULL};
