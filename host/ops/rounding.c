/*
 * rounding.c - round_to: elements rounded to the numbers of a narrower float format.
 *
 * Math modes other than f32 apply it to the operands of products (core/apply.c), beneath the tape.
 */
#include "ops/rules.h"

static const ti_field round_to_fields[] = {
    TI_FIELD_NAMES(tern_round_to_opts, to, "f32|tf32|bf16|f16"), {.name = NULL}};

static tern_status round_to_shape(ti_call *c)
{
    const int to = ((const tern_round_to_opts *)c->opts)->to;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    if (!tern_math_name(to))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "round_to: %d is none of 0 (f32) to 3 (f16)", to);
    TI_TRY(ti_countable(c, c->in[0]->m.shape));
    c->meta[0] = ti_follow_meta(c->in[0]->m.type, &c->in[0]->m);
    return TERN_OK;
}

#define TO(format) (&(const tern_round_to_opts){format})
static const ti_sample round_to_samples[] = {
    {"tf32", 1, {TI_D(NORMAL, 3, 5, 7)}, TO(TERN_MATH_TF32)},
    {"bf16", 1, {TI_D(NORMAL, 1037)}, TO(TERN_MATH_BF16)},
    {"f16", 1, {TI_D(NORMAL, 41, 3)}, TO(TERN_MATH_F16)},
    {"f32, scalar", 1, {TI_D0(NORMAL)}, TO(TERN_MATH_F32)},
    {"empty", 1, {TI_D(NORMAL, 0, 2)}, TO(TERN_MATH_BF16)},
    TI_SAMPLES_END,
};
static const ti_op round_to_op = {
    .name = "round_to",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .opts_size = sizeof(tern_round_to_opts),
    .fields = round_to_fields,
    .shape = round_to_shape,
    .no_grad = "it is a step function: its derivative is zero where it has one",
    .samples = round_to_samples,
};
tern_tensor *tern_round_to(tern_ctx *ctx, tern_tensor *x, tern_math_t to)
{
    return ti_apply1(ctx, &round_to_op, &(tern_round_to_opts){(int)to}, 1, &x);
}

const ti_op *const ti_ops_rounding[] = {&round_to_op, NULL};
