/*
 * derived.c - what a program makes of parameters alone: kept from run to run, made again when they
 * change, and an ordinary call where the step writes them.
 */
#include "core/program.h"
#include "step.h"

typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_program *program;
    tern_tensor *x;
} subject;

/* The net's results, scaled by what is made of its first parameters alone. */
static tern_status evaluate(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *first = tern_slice(ctx, tern_read(ctx, tern_module_block(ctx, user)),
                                    &(tern_slice_opts){.count = 5});

    out[0] = tern_mul(ctx, tern_forward(ctx, user, in[0]), tern_exp(ctx, first));
    return tern_error(ctx);
}

/* In a math mode in which products take rounded copies of the weights, where no kernel rounds them
 * itself. */
static subject open_subject(const char *device, bool keeps)
{
    subject s = {.ctx = tc_open(device)};
    tern_module *parts[5] = {NULL};

    cr_assert(tern_math_set(s.ctx, TERN_MATH_TF32) == TERN_OK);
    if (!keeps) snprintf(s.ctx->env.disable, sizeof s.ctx->env.disable, "layout");
    parts[0] = tern_nn_linear(s.ctx, 12, 9, NULL);
    parts[1] = tern_nn_tanh(s.ctx);
    parts[2] = tern_nn_linear(s.ctx, 9, 5, NULL);
    s.net = tern_sequential(s.ctx, parts);
    cr_assert(tern_module_finish(s.ctx, s.net) == TERN_OK, "%s", tern_error_text(s.ctx));
    s.program = tern_record(s.ctx, evaluate, s.net);
    s.x = tern_hold(randoms(s.ctx, TI_SHAPE(4, 12), 3));
    FINE(s.ctx);
    return s;
}

static void close_subject(subject *s)
{
    tern_drop(s->x);
    tc_close(s->ctx);
}

/* The 20 results of a run. */
static void run(subject *s, double *y)
{
    tern_tensor *in[] = {s->x, NULL}, *out = NULL;

    tern_frame_begin(s->ctx);
    cr_assert(tern_program_run(s->ctx, &out, s->program, in) == TERN_OK, "%s",
              tern_error_text(s->ctx));
    double *got = tc_doubles(s->ctx, out);
    memcpy(y, got, 20 * sizeof *y);
    free(got);
    tern_frame_end(s->ctx);
}

static void scale_weights(subject *s)
{
    tern_var *block = tern_module_block(s->ctx, s->net);

    tern_frame_begin(s->ctx);
    cr_assert(tern_assign(s->ctx, block, tern_scale(s->ctx, tern_read(s->ctx, block), 1.5)) ==
              TERN_OK);
    tern_frame_end(s->ctx);
}

/* n_kept calls, of at_least that many bytes. */
static void kept_until_a_parameter_changes(const char *device, int n_kept, size_t at_least)
{
    if (!tc_has(device)) return;
    subject s = open_subject(device, true), plain = open_subject(device, false);
    double a[20], b[20];

    run(&s, a);
    run(&plain, b);
    const ti_plan *p = ti_last_plan(s.program);
    cr_assert(p->n_derived == n_kept && p->derived_bytes >= at_least, "%d calls, %zu bytes",
              p->n_derived, p->derived_bytes);
    cr_expect(tern_program_peak(s.program) == p->arena_bytes + p->derived_bytes);
    cr_expect(ti_last_plan(plain.program)->n_derived == 0);
    cr_expect(memcmp(a, b, sizeof a) == 0, "what is kept changes results");

    /* Spoiled, it stays so: nothing is made again. */
    s.ctx->backend->zero(s.ctx->device, p->derived->data, p->derived_bytes);
    run(&s, b);
    cr_expect(memcmp(a, b, sizeof a) != 0, "what is kept was made again");
    scale_weights(&s);
    scale_weights(&plain);
    run(&s, a);
    run(&plain, b);
    cr_expect(memcmp(a, b, sizeof a) == 0, "what is kept is of old parameters");
    close_subject(&s);
    close_subject(&plain);
}

/* The factors and, where they are rounded by calls of their own, both weights. */
Test(derived, kept_until_a_parameter_changes)
{
    kept_until_a_parameter_changes("cpu", 3, (5 + 12 * 9 + 9 * 5) * sizeof(float));
}
Test(derived, on_the_emulated_device)
{
    kept_until_a_parameter_changes("simt", 1, 5 * sizeof(float));
}

/* A step writes its parameters: each weight is rounded once for all calls that take it so. */
Test(derived, a_training_step_shares_but_keeps_nothing)
{
    subject s = open_subject("cpu", true);
    const tern_shape shapes[] = {TI_SHAPE(4, 12), TI_SHAPE(4)};
    const tern_type types[] = {TERN_F32, TERN_I64};
    job j = {.net = s.net, .opt = tern_adam(s.ctx, s.net, NULL)};
    tern_program *train = tern_record(s.ctx, train_step, &j);
    int n = 0;

    tern_mode(s.ctx, TERN_TRAIN);
    cr_assert(tern_program_plan(s.ctx, train, 2, shapes, types) == TERN_OK, "%s",
              tern_error_text(s.ctx));
    const ti_plan *p = ti_last_plan(train);
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        if (strcmp(l->op->name, "round_to") != 0) continue;
        n += p->value[l->in[0].value].kind == TI_VARIABLE;
    }
    cr_expect(n == 2, "weights are rounded %d times", n);
    cr_expect(p->n_derived == 0 && p->derived_bytes == 0);
    close_subject(&s);
}

/* The weights that another program trains. */
Test(derived, follows_a_training_program)
{
    double a[2][20];

    for (int keeps = 0; keeps < 2; keeps++) {
        subject s = open_subject("cpu", keeps);
        job j = {.net = s.net, .opt = tern_sgd(s.ctx, s.net, &(tern_sgd_opts){.lr = 0.5})};
        tern_program *train = tern_record(s.ctx, train_step, &j);
        const int64_t label[] = {0, 1, 2, 3};
        double before[20];

        for (int i = 0; i < 3; i++) {
            run(&s, before);
            tern_mode(s.ctx, TERN_TRAIN);
            tern_frame_begin(s.ctx);
            tern_tensor *in[] = {s.x, tern_from_host(s.ctx, TERN_I64, label, TI_SHAPE(4)), NULL};
            tern_tensor *loss = NULL;
            cr_assert(tern_program_run(s.ctx, &loss, train, in) == TERN_OK, "%s",
                      tern_error_text(s.ctx));
            tern_frame_end(s.ctx);
            tern_mode(s.ctx, TERN_EVAL);
            run(&s, a[keeps]);
            cr_expect(memcmp(a[keeps], before, sizeof before) != 0);
        }
        close_subject(&s);
    }
    cr_expect(memcmp(a[0], a[1], sizeof a[0]) == 0);
}

Test(derived, every_allocation_may_fail)
{
    subject s = open_subject(tc_device(), true);
    tern_tensor *in[] = {s.x, NULL}, *out = NULL;
    tern_status status = TERN_E_MEMORY;

    for (long n = 0; status != TERN_OK && n < 3000; n++) {
        tern_program *p = tern_record(s.ctx, evaluate, s.net);

        tern_frame_begin(s.ctx);
        ti_fail_allocation(s.ctx, n, n & 1);
        status = tern_program_run(s.ctx, &out, p, in);
        ti_fail_allocation(s.ctx, -1, false);
        cr_assert(status == TERN_OK || status == TERN_E_MEMORY, "%s", tern_error_text(s.ctx));
        tern_error_clear(s.ctx);
        tern_frame_end(s.ctx);
        tern_program_close(s.ctx, p);
    }
    cr_expect(status == TERN_OK);
    close_subject(&s);
}
