/*
 * hostile.c - calls that no correct program makes: missing pointers, ranges and shapes beyond all
 * numbers, tensors and variables of another context. Each must fail with a text, none may crash.
 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "tern/tern.h"

/* The call failed, the text says why, and the context works on. */
static void refused(tern_ctx *ctx, tern_status status, const char *what)
{
    const float x = 2;

    cr_assert_eq(tern_error(ctx), status, "%s: %s %s", what, tern_status_name(tern_error(ctx)),
                 tern_error_text(ctx));
    cr_assert_neq(tern_error_text(ctx)[0], 0, "%s: no text", what);
    tern_error_clear(ctx);
    cr_assert_eq(tern_item(ctx, tern_scale(ctx, tern_from_host(ctx, TERN_F32, &x, TI_SCALAR), 3)),
                 6, "%s: the context is of no use afterwards", what);
}

static void nothing(tern_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
}

Test(hostile, without_a_context)
{
    float x[2] = {0};
    tern_tensor *none = NULL;

    cr_expect_eq(tern_seed_set(NULL, 1), TERN_E_ARGUMENT);
    cr_expect_eq(tern_threads_set(NULL, 1), TERN_E_ARGUMENT);
    cr_expect_eq(tern_on_close(NULL, nothing, NULL), TERN_E_ARGUMENT);
    cr_expect_null(tern_from_host(NULL, TERN_F32, x, TI_SHAPE(2)));
    cr_expect_eq(tern_to_host(NULL, x, NULL), TERN_E_ARGUMENT);
    cr_expect_eq(tern_item(NULL, NULL), 0);
    cr_expect_null(tern_track(NULL, NULL));
    cr_expect_eq(tern_grads(NULL, &none, 1, &none, NULL, 1, &none), TERN_E_ARGUMENT);
    cr_expect_eq(tern_backward_block(NULL, NULL, NULL), TERN_E_ARGUMENT);
    cr_expect_eq(tern_backward_range(NULL, NULL, NULL, 0, 1), TERN_E_ARGUMENT);
    cr_expect_null(tern_block(NULL, "b", 0, NULL));
    cr_expect_null(tern_block_read(NULL, NULL, 0, 1));
    cr_expect_eq(tern_block_assign(NULL, NULL, 0, NULL), TERN_E_ARGUMENT);
    cr_expect_eq(tern_assign(NULL, NULL, NULL), TERN_E_ARGUMENT);
    cr_expect_eq(tern_set(NULL, NULL, 1), TERN_E_ARGUMENT);
    cr_expect_eq(tern_guard(NULL, NULL, NULL, 0, 1), TERN_E_ARGUMENT);
    cr_expect_eq(tern_skip_if(NULL, NULL), TERN_E_ARGUMENT);
    cr_expect_eq(tern_meter_add(NULL, NULL, NULL), TERN_E_ARGUMENT);
    tern_block_grads_clear(NULL, NULL, 0, 1);
    tern_memory_stats(NULL, NULL);
    cr_expect_eq(tern_memory_holders(NULL, NULL, 3), 0);
    tern_free(NULL, NULL);
}

Test(hostile, pointers_that_are_missing)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_tensor *d, *y = tern_track(ctx, tern_fill(ctx, TERN_F32, TI_SHAPE(3), 1));
    tern_module *net = tern_nn_linear(ctx, 3, 2, NULL);
    const tern_schedule plateau = {.kind = TERN_SCHEDULE_PLATEAU, .lr = 1};

    cr_expect_eq(tern_type_named(NULL), TERN_N_TYPES);
    tern_strides_of(y, NULL);
    cr_expect(tern_op_named("add", NULL) && !tern_op_named(NULL, NULL) && tern_op_at(0, NULL));
    cr_expect(tern_model_at(0, NULL));
    cr_expect_eq(tern_schedule_lr(NULL, NULL, 0), 0);
    cr_expect(!tern_schedule_observe(&plateau, NULL, 1));
    cr_expect_null(tern_concat(ctx, 2, NULL, 0));
    refused(ctx, TERN_E_ARGUMENT, "concat");
    (void)!tern_grads(ctx, &d, 1, NULL, NULL, 1, &y);
    refused(ctx, TERN_E_ARGUMENT, "grads");
    (void)!tern_apply(ctx, "relu", NULL, 1, &y, NULL);
    refused(ctx, TERN_E_ARGUMENT, "apply without results");
    (void)!tern_apply(ctx, "relu", NULL, 1, NULL, &d);
    refused(ctx, TERN_E_ARGUMENT, "apply without inputs");
    cr_expect_null(tern_block(ctx, "b", 1, NULL));
    refused(ctx, TERN_E_ARGUMENT, "block");
    (void)!tern_module_range(ctx, net, NULL, NULL);
    refused(ctx, TERN_E_ARGUMENT, "module_range");
    (void)!tern_plan_memory(ctx, NULL, net, NULL, TI_SHAPE(1, 3));
    refused(ctx, TERN_E_ARGUMENT, "plan_memory");
    (void)!tern_weights_hash(ctx, NULL, net);
    refused(ctx, TERN_E_ARGUMENT, "weights_hash");
    tc_close(ctx);
}

static tern_status plain(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const int *threads = user;

    if (threads) return tern_threads_set(ctx, *threads);
    out[0] = tern_relu(ctx, in[0]);
    return tern_error(ctx);
}

Test(hostile, beyond_all_numbers)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_shape nine = {9, {1}}, huge = {2, {INT64_MAX / 8, 4}};
    const tern_type type = TERN_F32;
    tern_var *v = tern_variable(ctx, "v", TERN_F32, TI_SHAPE(4));
    tern_var *b = tern_block(ctx, "b", 1, &v);
    tern_program *p = tern_record(ctx, plain, NULL);
    char text[160];
    int threads = 2;

    cr_expect(!tern_same_shape(nine, nine));
    cr_expect_str_eq(tern_shape_text(text, nine), "[9 axes]");
    cr_expect_str_eq(tern_shape_text(text, (tern_shape){INT_MIN, {1}}), "[-2147483648 axes]");
    cr_expect_null(tern_variable(ctx, "w", TERN_F32, nine));
    refused(ctx, TERN_E_ARGUMENT, "variable");
    cr_expect_null(tern_init_draw(ctx, "w", TERN_F32, nine, NULL));
    tern_error_clear(ctx);
    (void)!tern_program_plan(ctx, p, 1, &huge, &type);
    refused(ctx, TERN_E_SHAPE, "program_plan");
    (void)!tern_backward_range(ctx, NULL, b, 2, INT64_MAX);
    refused(ctx, TERN_E_ARGUMENT, "backward_range");
    cr_expect_null(tern_block_read(ctx, b, 2, INT64_MAX));
    refused(ctx, TERN_E_ARGUMENT, "block_read");
    tern_block_grads_clear(ctx, b, INT64_MIN, INT64_MAX);
    cr_expect(!tern_block_has_grads(ctx, b, 2, INT64_MAX));
    cr_expect_eq(tern_schedule_lr(&(tern_schedule){.lr = 1, .warmup = 2}, NULL, INT64_MIN), 0.5);
    (void)!tern_program_run(ctx, NULL, tern_record(ctx, plain, &threads), NULL);
    refused(ctx, TERN_E_STATE, "threads_set in a step");
    tern_var *twice[2] = {tern_variable(ctx, "t", TERN_F32, TI_SHAPE(2))};
    twice[1] = twice[0];
    cr_expect_null(tern_block(ctx, "twice", 2, twice));
    refused(ctx, TERN_E_ARGUMENT, "block of one variable twice");
    tc_close(ctx);
}

Test(hostile, of_another_context)
{
    tern_ctx *ctx = tc_open("cpu"), *other = tc_open("cpu");
    tern_tensor *t = tern_fill(other, TERN_F32, TI_SHAPE(3), 1), *out[TERN_STEP_OUT];
    tern_var *v = tern_variable(other, "v", TERN_F32, TI_SHAPE(3));
    tern_var *mine = tern_variable(ctx, "v", TERN_F32, TI_SHAPE(3));
    tern_program *p = tern_record(ctx, plain, NULL);
    float x[3];

    cr_expect_null(tern_relu(ctx, t));
    cr_expect(strstr(tern_error_text(ctx), "another context") != NULL);
    refused(ctx, TERN_E_ARGUMENT, "relu");
    cr_expect_null(tern_reshape(ctx, t, TI_SHAPE(3, 1)));
    refused(ctx, TERN_E_ARGUMENT, "reshape");
    cr_expect_null(tern_track(ctx, t));
    refused(ctx, TERN_E_ARGUMENT, "track");
    cr_expect_null(tern_detach(ctx, t));
    refused(ctx, TERN_E_ARGUMENT, "detach");
    (void)!tern_to_host(ctx, x, t);
    refused(ctx, TERN_E_ARGUMENT, "to_host");
    (void)!tern_assign(ctx, mine, t);
    refused(ctx, TERN_E_ARGUMENT, "assign a foreign value");
    (void)!tern_assign(ctx, v, tern_fill(ctx, TERN_F32, TI_SHAPE(3), 1));
    refused(ctx, TERN_E_ARGUMENT, "assign to a foreign variable");
    (void)!tern_set(ctx, v, 1);
    refused(ctx, TERN_E_ARGUMENT, "set");
    cr_expect_null(tern_read(ctx, v));
    refused(ctx, TERN_E_ARGUMENT, "read");
    cr_expect_null(tern_block(ctx, "b", 1, &v));
    refused(ctx, TERN_E_ARGUMENT, "block");
    (void)!tern_program_run(ctx, out, p, (tern_tensor *[]){t, NULL});
    refused(ctx, TERN_E_ARGUMENT, "program_run");
    (void)!tern_program_plan(other, p, 0, NULL, NULL);
    refused(other, TERN_E_ARGUMENT, "program_plan");
    tc_close(ctx);
    tc_close(other);
}
