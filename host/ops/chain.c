/*
 * chain.c - chain: up to six elementwise operations on inputs of one shape as one call.
 *
 * s_k = f_k(a_k, b_k; p_k), operands being inputs or earlier steps; y is the last s_k.
 */
#include "core/chain.h"
#include "ops/common.h"

static const char kinds[] = "none|add|sub|mul|div|maximum|minimum|tanh_d|sigmoid_d|scale|shift|neg|"
                            "abs|exp|log|sqrt|rsqrt|tanh|sigmoid|relu";
static const ti_field fields[] = {
    {.name = "kind",
     .type = TI_INT,
     .count = TERN_CHAIN,
     .offset = offsetof(tern_chain_opts, kind),
     .names = kinds},
    TI_FIELD(tern_chain_opts, TI_INT, a, TERN_CHAIN, 0),
    TI_FIELD(tern_chain_opts, TI_INT, b, TERN_CHAIN, 0),
    TI_FIELD(tern_chain_opts, TI_F64, p, TERN_CHAIN, 0),
    {0},
};

static tern_status check_operand(const ti_call *c, int k, int operand, unsigned *used)
{
    if (operand < 0 || operand >= TERN_CHAIN_IN + k)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "chain: step %d takes operand %d, there are %d", k,
                       operand, TERN_CHAIN_IN + k);
    if (operand < TERN_CHAIN_IN && !c->in[operand])
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "chain: step %d takes input %d, which is NULL", k,
                       operand);
    *used |= 1u << operand;
    return TERN_OK;
}

static tern_status chain_shape(ti_call *c)
{
    const tern_chain_opts *o = c->opts;
    const int n = ti_chain_steps(o);
    unsigned used = 0, wanted = 0;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, 7));
    for (int i = 1; i < c->n_in; i++)
        if (c->in[i] && !tern_same_shape(c->in[0]->m.shape, c->in[i]->m.shape))
            return ti_misfit(c, 0, i);
    for (int k = 0; k < n; k++) {
        if (o->kind[k] < 0 || o->kind[k] >= TERN_CHAIN_KINDS)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "chain: step %d has no kind %d", k, o->kind[k]);
        TI_TRY(check_operand(c, k, o->a[k], &used));
        if (ti_chain_is_two(o->kind[k])) TI_TRY(check_operand(c, k, o->b[k], &used));
    }
    for (int k = 0; k + 1 < n; k++) wanted |= 1u << (TERN_CHAIN_IN + k);
    for (int i = 0; i < TERN_CHAIN_IN; i++) wanted |= (unsigned)(c->in[i] != NULL) << i;
    if (n == 0 || (used & wanted) != wanted)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "chain: %s",
                       n ? "an input or a step is no operand" : "there is no step");
    ti_like(c, 0, 0);
    return TERN_OK;
}

/* Step k as the operation that it stands for. */
static tern_tensor *step_of(const ti_call *c, int k, tern_tensor *a, tern_tensor *b)
{
    const tern_chain_opts *o = c->opts;
    const ti_op *op = ti_op_named(ti_chain_name(o->kind[k]));
    const tern_scalar_opts value = {.value = o->p[k]};
    const bool two = ti_chain_is_two(o->kind[k]);

    return ti_apply1(c->ctx, op, op->opts_size ? &value : NULL, two ? 2 : 1, TI_IN(a, b));
}

/* All steps; s[0 … 2] are the inputs. */
static void run_steps(const ti_call *c, tern_tensor **s)
{
    const tern_chain_opts *o = c->opts;

    for (int i = 0; i < TERN_CHAIN_IN; i++) s[i] = c->in[i];
    for (int k = 0; k < ti_chain_steps(o); k++)
        s[TERN_CHAIN_IN + k] = step_of(c, k, s[o->a[k]], s[o->b[k]]);
}

static tern_status chain_compose(const ti_call *c, tern_tensor **y)
{
    tern_tensor *s[TERN_CHAIN_IN + TERN_CHAIN] = {NULL};

    run_steps(c, s);
    y[0] = s[TERN_CHAIN_IN + ti_chain_steps(c->opts) - 1];
    return tern_error(c->ctx);
}

/* ---- Bound ---- */

/* Sums and products in which NULL is zero. */
static tern_tensor *plus(tern_ctx *ctx, tern_tensor *x, tern_tensor *y)
{
    return x && y ? tern_add(ctx, x, y) : x ? x : y;
}
static tern_tensor *times(tern_ctx *ctx, tern_tensor *x, tern_tensor *factor)
{
    return x ? tern_mul(ctx, x, tern_abs(ctx, factor)) : NULL;
}
static tern_tensor *over(tern_ctx *ctx, tern_tensor *x, tern_tensor *divisor)
{
    return x ? tern_div(ctx, x, tern_abs(ctx, divisor)) : NULL;
}
static tern_tensor *scaled(tern_ctx *ctx, tern_tensor *x, double by)
{
    return x ? tern_scale(ctx, x, fabs(by)) : NULL;
}
static tern_tensor *one_minus(tern_ctx *ctx, tern_tensor *x, double by)
{
    return tern_shift(ctx, tern_scale(ctx, x, -by), 1);
}

/* What errors ea and eb of the operands a and b make of step k's result s, to first order. */
static tern_tensor *passed_on(const ti_call *c, int k, tern_tensor *s, tern_tensor *const *x,
                              tern_tensor *ea, tern_tensor *eb)
{
    tern_ctx *ctx = c->ctx;
    const tern_chain_opts *o = c->opts;
    tern_tensor *a = x[o->a[k]], *b = x[o->b[k]];

    switch (o->kind[k]) {
    case TERN_CHAIN_MUL: return plus(ctx, times(ctx, ea, b), times(ctx, eb, a));
    case TERN_CHAIN_DIV: return over(ctx, plus(ctx, ea, times(ctx, eb, s)), b);
    case TERN_CHAIN_TANH_D:
        return plus(ctx, times(ctx, scaled(ctx, times(ctx, ea, a), 2), b),
                    times(ctx, eb, one_minus(ctx, tern_mul(ctx, a, a), 1)));
    case TERN_CHAIN_SIGMOID_D:
        return plus(ctx, times(ctx, times(ctx, ea, one_minus(ctx, a, 2)), b),
                    times(ctx, times(ctx, eb, a), one_minus(ctx, a, 1)));
    case TERN_CHAIN_SCALE: return scaled(ctx, ea, o->p[k]);
    case TERN_CHAIN_EXP: return times(ctx, ea, s);
    case TERN_CHAIN_LOG: return over(ctx, ea, a);
    case TERN_CHAIN_SQRT: return scaled(ctx, over(ctx, ea, s), 0.5);
    case TERN_CHAIN_RSQRT: return scaled(ctx, over(ctx, times(ctx, ea, s), a), 0.5);
    default: return ti_chain_is_two(o->kind[k]) ? plus(ctx, ea, eb) : ea; /* slopes up to 1 */
    }
}

/* The terms that step k adds up: what its own roundings are relative to. */
static tern_tensor *terms_of(const ti_call *c, int k, tern_tensor *s, tern_tensor *const *x)
{
    tern_ctx *ctx = c->ctx;
    const tern_chain_opts *o = c->opts;
    tern_tensor *a = x[o->a[k]], *b = x[o->b[k]];

    if (o->kind[k] == TERN_CHAIN_TANH_D)
        return times(ctx, tern_shift(ctx, tern_mul(ctx, a, a), 1), b);
    if (o->kind[k] == TERN_CHAIN_SIGMOID_D)
        return times(ctx, tern_mul(ctx, tern_abs(ctx, a), tern_shift(ctx, tern_abs(ctx, a), 1)), b);
    return tern_abs(ctx, s);
}

/* Every step is right within 4 u of its terms, and hands on what its operands are wrong by; twice
 * that covers the orders above the first. */
static tern_tensor *chain_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    const tern_chain_opts *o = c->opts;
    const int n = ti_chain_steps(o);
    tern_tensor *s[TERN_CHAIN_IN + TERN_CHAIN] = {NULL}, *e[TERN_CHAIN_IN + TERN_CHAIN] = {NULL};

    (void)i_out;
    (void)L;
    run_steps(c, s);
    for (int k = 0, at = TERN_CHAIN_IN; k < n; k++, at++)
        e[at] = plus(ctx, tern_scale(ctx, terms_of(c, k, s[at], s), 4),
                     passed_on(c, k, s[at], s, e[o->a[k]], e[o->b[k]]));
    return tern_scale(ctx, e[TERN_CHAIN_IN + n - 1], 2);
}

/* ---- Samples ---- */

enum { X0, X1, X2, S0, S1, S2, S3, S4 };
#define KIND(name) TERN_CHAIN_##name
static const tern_chain_opts
    swish = {.kind = {KIND(SIGMOID), KIND(MUL)}, .a = {X0, X0}, .b = {0, S0}},
    swish_d = {.kind = {KIND(SIGMOID), KIND(SIGMOID_D), KIND(MUL), KIND(MUL), KIND(ADD)},
               .a = {X0, S0, S1, X1, S2},
               .b = {0, X1, X0, S0, S3}},
    line = {.kind = {KIND(SCALE), KIND(ADD), KIND(RELU), KIND(SUB), KIND(SHIFT), KIND(NEG)},
            .a = {X0, S0, S1, S2, S3, S4},
            .b = {0, X1, 0, X2},
            .p = {1.25, 0, 0, 0, -0.5}},
    roots = {.kind = {KIND(SQRT), KIND(RSQRT), KIND(LOG), KIND(MAXIMUM), KIND(MINIMUM), KIND(DIV)},
             .a = {X0, X1, S1, S2, S3, S4},
             .b = {0, 0, 0, S0, X0, X1}},
    bend = {.kind = {KIND(TANH), KIND(TANH_D), KIND(ABS), KIND(EXP)},
            .a = {X0, S0, S1, S2},
            .b = {0, X1}},
    alone = {.kind = {KIND(NEG)}};

#define POSITIVE(...)                                                                              \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_POSITIVE, 0                                                     \
    }
static const ti_sample samples[] = {
    {"swish", 3, {TI_NORMAL(3, 5, 7), TI_NOTHING, TI_NOTHING}, &swish},
    {"swish, long", 3, {TI_NORMAL(2111), TI_NOTHING, TI_NOTHING}, &swish},
    {"swish's slope", 3, {TI_NORMAL(3, 37), TI_NORMAL(3, 37), TI_NOTHING}, &swish_d},
    {"six steps", 3, {TI_NORMAL(5, 3, 4, 2), TI_NORMAL(5, 3, 4, 2), TI_NORMAL(5, 3, 4, 2)}, &line},
    {"roots", 3, {POSITIVE(7, 31), POSITIVE(7, 31), TI_NOTHING}, &roots},
    {"bend", 3, {TI_NORMAL(63), TI_NORMAL(63), TI_NOTHING}, &bend},
    {"one step", 3, {TI_NORMAL(2, 3), TI_NOTHING, TI_NOTHING}, &alone},
    {"empty", 3, {TI_NORMAL(0, 3), TI_NOTHING, TI_NOTHING}, &swish},
    TI_SAMPLES_END,
};

static const ti_op chain = {
    .name = "chain",
    .n_in = TERN_CHAIN_IN,
    .in = {"x0", "x1", "x2"},
    .optional = 1u << 1 | 1u << 2,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_chain_opts),
    .fields = fields,
    .shape = chain_shape,
    .grad = ti_compose_grad,
    .compose = chain_compose,
    .bound = chain_bound,
    .samples = samples,
};

const ti_op *const ti_ops_chain[] = {&chain, NULL};

tern_tensor *tern_chain(tern_ctx *ctx, tern_tensor *x0, tern_tensor *x1, tern_tensor *x2,
                        const tern_chain_opts *opts)
{
    return ti_apply1(ctx, &chain, opts, TERN_CHAIN_IN, TI_IN(x0, x1, x2));
}
