/* program.c - steps, eager and replayed: the design's hard decisions, each by a test of its own. */
#include <stdio.h>

#include "step.h"

/* ---- Eager and replayed steps are the same bits ---- */

static uint64_t train(bool eager, const char *check, int steps, double *losses)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, train_step, &j);

    tern_eager_set(ctx, eager);
    check_option(ctx, check);
    for (int i = 0; i < steps; i++) {
        tern_tensor *in[3], *loss;

        tern_frame_begin(ctx);
        feed(ctx, in, i % 2, i % 5 == 4 ? 3 : 6);
        cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        losses[i] = tern_item(ctx, loss);
        tern_frame_end(ctx);
    }
    cr_assert(tern_program_traces(p) == (eager ? 0 : 2), "%d traces", tern_program_traces(p));
    const uint64_t h = hash_vars(ctx, true);
    tc_close(ctx);
    return h;
}

Test(program, eager_and_replayed_steps_are_the_same_bits)
{
    double a[20], b[20], c[20];
    const uint64_t x = train(true, "", 20, a), y = train(false, "", 20, b),
                   z = train(false, "poison", 20, c);

    cr_expect(memcmp(a, b, sizeof a) == 0, "losses differ: %.17g, %.17g", a[1], b[1]);
    cr_expect(memcmp(b, c, sizeof b) == 0, "a replay reads what is dead or unwritten");
    cr_expect(x == y && y == z, "weights differ");
    cr_expect(a[15] < a[0], "loss %g to %g", a[0], a[15]);
}

Test(program, the_planned_arena_is_the_measured_peak)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, train_step, &j);
    tern_tensor *in[3], *loss;
    tern_memory m;

    feed(ctx, in, 0, 6);
    tern_memory_stats(ctx, &m);
    const size_t before = m.live;
    tern_memory_peak_reset(ctx);
    (void)!tern_program_run(ctx, &loss, p, in);
    FINE(ctx);
    tern_memory_stats(ctx, &m);
    const size_t arena = tern_program_peak(p), small = 16 * 64; /* the loss, copies of small ones */
    cr_expect(m.peak >= before + arena && m.peak <= before + arena + small, "peak %zu, planned %zu",
              m.peak, before + arena);
    (void)!tern_program_run(ctx, &loss, p, in); /* now two runs are kept */
    const long live = ctx->n_live;
    for (int i = 0; i < 10; i++) {
        tern_frame_begin(ctx);
        (void)!tern_program_run(ctx, &loss, p, in);
        tern_frame_end(ctx);
    }
    FINE(ctx);
    cr_expect(ctx->n_live == live, "replays left %ld blocks", ctx->n_live - live);
    tc_close(ctx);
}

/* ---- GAN: the generator's gradient after the discriminator's update ---- */

typedef struct {
    tern_module *G, *D;
    tern_optim *og, *od;
    int part;
} gan;

static tern_status gan_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    gan *g = user;
    tern_tensor *fake = tern_forward(ctx, g->G, in[1]), *real_d, *fake_d, *d, *l;

    if (g->part != 2) {
        real_d = tern_forward(ctx, g->D, in[0]);
        fake_d = tern_forward(ctx, g->D, fake); /* not detached: backward(D) walks to D only */
        d = tern_sum(ctx, tern_sub(ctx, tern_tanh(ctx, fake_d), tern_tanh(ctx, real_d)), NULL);
        if (tern_backward(ctx, d, g->D) || tern_optim_step(ctx, g->od)) return tern_error(ctx);
    }
    if (g->part != 1) {
        l = tern_neg(ctx, tern_sum(ctx, tern_tanh(ctx, tern_forward(ctx, g->D, fake)), NULL));
        if (tern_backward(ctx, l, g->G) || tern_optim_step(ctx, g->og)) return tern_error(ctx);
    }
    out[0] = fake;
    return tern_error(ctx);
}

static tern_module *two_layers(tern_ctx *ctx, const char *name, int64_t a, int64_t b, int64_t c)
{
    const tern_nn_linear_opts tanh_act = {.act = TERN_TANH};
    tern_module *parts[] = {tern_nn_linear(ctx, a, b, &tanh_act), tern_nn_linear(ctx, b, c, NULL),
                            NULL};

    return tern_module_name(tern_sequential(ctx, parts), name);
}

static uint64_t run_gan(bool eager, bool in_two, const char *check)
{
    const tern_sgd_opts sgd = {.lr = 0.1, .momentum = 0.5};
    tern_ctx *ctx = tc_open("cpu");
    gan g = {.G = two_layers(ctx, "G", 2, 5, 3), .D = two_layers(ctx, "D", 3, 6, 1)};

    g.og = tern_sgd(ctx, g.G, &sgd);
    g.od = tern_sgd(ctx, g.D, &sgd);
    tern_mode(ctx, TERN_TRAIN);
    tern_program *p = tern_record(ctx, gan_step, &g), *q = tern_record(ctx, gan_step, &g);
    tern_eager_set(ctx, eager);
    check_option(ctx, check);
    for (int i = 0; i < 6; i++) {
        tern_tensor *out, *in[] = {randoms(ctx, TI_SHAPE(4, 3), (uint64_t)i),
                                   randoms(ctx, TI_SHAPE(4, 2), 50 + (uint64_t)i), NULL};
        g.part = in_two ? 1 : 0;
        (void)!tern_program_run(ctx, &out, p, in);
        g.part = 2;
        if (in_two) (void)!tern_program_run(ctx, &out, q, in);
    }
    FINE(ctx);
    const uint64_t h = hash_vars(ctx, false);
    tc_close(ctx);
    return h;
}

Test(program, a_generator_sees_the_updated_discriminator)
{
    const uint64_t whole = run_gan(true, false, "");

    cr_expect(whole == run_gan(true, true, ""), "not the updated discriminator");
    cr_expect(whole == run_gan(false, false, "poison"), "traced and eager differ");
    cr_expect(whole == run_gan(false, true, "poison"), "traced in two steps differs");
}

/* ---- Two batch-norm calls in a step make two updates ---- */

static tern_status two_norms(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_forward(ctx, user, tern_forward(ctx, user, in[0]));
    return tern_error(ctx);
}

Test(program, two_batch_norm_calls_make_two_updates)
{
    double mean[3];

    for (int i = 0; i < 3; i++) { /* eager, traced, two runs of the same thing by hand */
        tern_ctx *ctx = tc_open("cpu");
        tern_module *bn = tern_nn_batch_norm(ctx, 1, NULL);
        tern_tensor *y, *in[] = {tern_shift(ctx, randoms(ctx, TI_SHAPE(2, 1, 3, 3), 5), 3), NULL};
        tern_program *p = tern_record(ctx, two_norms, bn);

        tern_mode(ctx, TERN_TRAIN);
        cr_assert(tern_module_finish(ctx, bn) == TERN_OK);
        tern_eager_set(ctx, i == 0);
        if (i < 2) (void)!tern_program_run(ctx, &y, p, in);
        else y = tern_forward(ctx, bn, tern_forward(ctx, bn, in[0]));
        mean[i] = value(ctx, tern_module_var(ctx, bn, "running_mean"));
        tc_close(ctx);
    }
    cr_expect(mean[0] == mean[1] && mean[1] == mean[2], "%g %g %g", mean[0], mean[1], mean[2]);
    cr_expect(fabs(mean[0]) > 0.05, "mean %g", mean[0]);
}

/* ---- Keys ---- */

Test(program, schedules_replay_and_options_trace_again)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, train_step, &j);
    tern_tensor *in[3], *loss;

    for (int i = 0; i < 5; i++) {
        cr_assert(tern_optim_set_lr(ctx, j.opt, 0.1 / (i + 1)) == TERN_OK);
        feed(ctx, in, i, 6);
        (void)!tern_program_run(ctx, &loss, p, in);
    }
    FINE(ctx);
    cr_expect(tern_program_traces(p) == 1, "a schedule traced again");
    cr_assert(tern_nn_set_dropout(ctx, j.drop, 0.5) == TERN_OK);
    (void)!tern_program_run(ctx, &loss, p, in);
    cr_expect(tern_program_traces(p) == 2, "a changed option did not trace again");
    feed(ctx, in, 1, 2);
    (void)!tern_program_run(ctx, &loss, p, in);
    cr_expect(tern_program_traces(p) == 3, "another batch size replayed an old plan");
    tern_guard_set(ctx, false);
    (void)!tern_program_run(ctx, &loss, p, in);
    cr_expect(tern_program_traces(p) == 4, "the guard is no part of the key");
    tern_guard_set(ctx, true);
    cr_assert(tern_threads_set(ctx, 3) == TERN_OK); /* other scratch than the last run's plan has */
    cr_expect(tern_program_explain(ctx, p) == TERN_OK, "%s", tern_error_text(ctx));
    tc_close(ctx);
}

static tern_status logits_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_forward(ctx, ((job *)user)->net, in[0]);
    return tern_error(ctx);
}

/* Training, evaluating and eager use of the same weights in turn agree; strides do not matter. */
Test(program, uses_of_the_same_weights_in_turn_agree)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, train_step, &j), *q = tern_record(ctx, logits_step, &j);
    tern_tensor *in[3], *out;
    double x[24], y[24], z[24];

    for (int i = 0; i < 3; i++) {
        feed(ctx, in, i, 6);
        tern_mode(ctx, TERN_TRAIN);
        (void)!tern_program_run(ctx, &out, p, in);
        tern_mode(ctx, TERN_EVAL);
        (void)!tern_program_run(ctx, &out, q, (tern_tensor *[]){in[0], NULL});
        (void)!tern_to_doubles(ctx, x, out);
        (void)!tern_to_doubles(ctx, y, tern_forward(ctx, j.net, in[0]));
        tern_tensor *turned =
            tern_transpose(ctx, tern_copy(ctx, tern_transpose(ctx, in[0], 2, 3)), 2, 3);
        for (int eager = 0; eager < 2; eager++) {
            tern_eager_set(ctx, eager);
            (void)!tern_program_run(ctx, &out, q, (tern_tensor *[]){turned, NULL});
            (void)!tern_to_doubles(ctx, z, out);
            cr_expect(memcmp(x, z, sizeof x) == 0, "strided input differs, eager %d", eager);
        }
        tern_eager_set(ctx, false);
        FINE(ctx);
        cr_expect(memcmp(x, y, sizeof x) == 0, "traced and eager evaluation differ");
    }
    tc_close(ctx);
}

/* ---- The guard ---- */

Test(program, a_step_that_the_guard_skips_changes_nothing)
{
    for (int eager = 0; eager < 2; eager++) {
        tern_ctx *ctx = tc_open("cpu");
        job j = small_net(ctx, true);
        tern_program *p = tern_record(ctx, train_step, &j);
        tern_tensor *in[3], *loss;

        tern_eager_set(ctx, eager);
        for (int i = 0; i < 2; i++) {
            feed(ctx, in, i, 6);
            (void)!tern_program_run(ctx, &loss, p, in);
        }
        const uint64_t before = hash_vars(ctx, false);
        tern_var *w = tern_param_at(ctx, j.net, 5); /* the first linear layer's bias */
        cr_assert(tern_set(ctx, w, 3e38) == TERN_OK);
        const uint64_t spoiled = hash_vars(ctx, false);
        (void)!tern_program_run(ctx, &loss, p, in);
        FINE(ctx);
        cr_expect(value(ctx, tern_skip(ctx)) == 1 && value(ctx, tern_tripped(ctx)) == 1);
        cr_expect(hash_vars(ctx, false) == spoiled, "a skipped step changed a variable");
        cr_expect(tern_program_explain(ctx, p) == TERN_E_VALUE);
        cr_expect(strstr(tern_error_text(ctx), "forward: "), "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
        cr_expect(hash_vars(ctx, false) == spoiled, "explaining changed a variable");
        feed(ctx, in, 9, 6); /* latched: a good step is skipped, too, until the host says so */
        cr_assert(tern_set(ctx, w, 0) == TERN_OK);
        const uint64_t mended = hash_vars(ctx, false);
        (void)!tern_program_run(ctx, &loss, p, in);
        cr_expect(hash_vars(ctx, false) == mended, "the latch did not hold");
        cr_assert(tern_set(ctx, tern_tripped(ctx), 0) == TERN_OK);
        (void)!tern_program_run(ctx, &loss, p, in);
        cr_expect(value(ctx, tern_skip(ctx)) == 0 && hash_vars(ctx, false) != before);
        cr_expect(tern_program_explain(ctx, p) == TERN_OK, "%s", tern_error_text(ctx));
        tc_close(ctx);
    }
}

Test(program, the_guard_names_an_input_and_a_variable)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, train_step, &j);
    tern_tensor *in[3], *loss;
    float x[216] = {0};

    feed(ctx, in, 0, 6);
    x[3] = INFINITY;
    x[4] = NAN;
    in[0] = tern_from_host(ctx, TERN_F32, x, TI_SHAPE(6, 1, 6, 6));
    (void)!tern_program_run(ctx, &loss, p, in);
    feed(ctx, in, 1, 6); /* the host looks late: another step, skipped, has come */
    (void)!tern_program_run(ctx, &loss, p, in);
    FINE(ctx);
    cr_expect(tern_program_explain(ctx, p) == TERN_E_VALUE);
    cr_expect_str_eq(tern_error_text(ctx), "input 0: 2 of 216 values (1 nan, 1 inf)");
    tern_error_clear(ctx);
    cr_assert(tern_set(ctx, tern_tripped(ctx), 0) == TERN_OK);
    cr_assert(tern_set(ctx, tern_param_at(ctx, j.net, 0), NAN) == TERN_OK);
    (void)!tern_program_run(ctx, &loss, p, in);
    cr_expect(tern_program_explain(ctx, p) == TERN_E_VALUE);
    cr_expect(strstr(tern_error_text(ctx), "variable") &&
                  strstr(tern_error_text(ctx), "weight: 27 of 27 values (27 nan, 0 inf)"),
              "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
}

static tern_status divides(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const char *before = tern_scope_begin(ctx, "ratio");

    out[0] = tern_div(ctx, in[0], tern_read(ctx, user));
    tern_scope_end(ctx, before);
    return tern_error(ctx);
}

/* What the host has set is as the run found it, not as it is now. */
Test(program, explaining_uses_the_variables_of_the_run)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_var *by = tern_variable(ctx, "by", TERN_F32, TI_SCALAR);
    tern_program *p = tern_record(ctx, divides, by);
    tern_tensor *out, *in[] = {randoms(ctx, TI_SHAPE(18, 1024), 1), NULL};

    cr_expect(tern_program_explain(ctx, p) == TERN_E_STATE);
    tern_error_clear(ctx);
    cr_assert(tern_program_run(ctx, &out, p, in) == TERN_OK);
    cr_assert(tern_set(ctx, by, 2) == TERN_OK);
    cr_expect(tern_program_explain(ctx, p) == TERN_E_VALUE);
    cr_expect_str_eq(tern_error_text(ctx),
                     "ratio forward: div: 18,432 of 18,432 values (0 nan, 18,432 inf)");
    tern_error_clear(ctx);
    cr_expect(value(ctx, by) == 2);
    tc_close(ctx);
}

/* A flag that is complete only after the update was computed: nothing may be written before it. */
static tern_status late_skip(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *flag = in[2];

    in[2] = NULL;
    if (train_step(ctx, out, in, user)) return tern_error(ctx);
    return tern_skip_if(ctx, flag);
}

Test(program, nothing_is_written_before_the_flag_is_complete)
{
    for (int eager = 0; eager < 2; eager++) {
        tern_ctx *ctx = tc_open("cpu");
        job j = small_net(ctx, false);
        tern_program *p = tern_record(ctx, late_skip, &j);
        tern_tensor *in[4], *loss;

        tern_eager_set(ctx, eager);
        feed(ctx, in, 0, 6);
        in[2] = tern_fill(ctx, TERN_F32, TI_SCALAR, 1);
        in[3] = NULL;
        const uint64_t before = hash_vars(ctx, false);
        (void)!tern_program_run(ctx, &loss, p, in);
        cr_expect(hash_vars(ctx, false) == before, "eager %d", eager);
        cr_expect(value(ctx, tern_tripped(ctx)) == 0, "an ordinary skip latched");
        in[2] = tern_fill(ctx, TERN_F32, TI_SCALAR, 0);
        (void)!tern_program_run(ctx, &loss, p, in);
        cr_expect(hash_vars(ctx, false) != before, "not trained");
        tc_close(ctx);
    }
}

/* A skipped step's outputs are those of the eager one, even where they use the new values. */
static tern_status look_again(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;

    if (train_step(ctx, out, in, j)) return tern_error(ctx);
    out[1] = tern_sum(ctx, tern_read(ctx, tern_param_at(ctx, j->net, 0)), NULL);
    return tern_error(ctx);
}

Test(program, a_skipped_step_has_the_outputs_of_the_eager_one)
{
    double x[2][2];

    for (int eager = 0; eager < 2; eager++) {
        tern_ctx *ctx = tc_open("cpu");
        job j = small_net(ctx, false);
        tern_program *p = tern_record(ctx, look_again, &j);
        tern_tensor *in[3], *out[2];

        tern_eager_set(ctx, eager);
        feed(ctx, in, 0, 6);
        cr_assert(tern_set(ctx, tern_tripped(ctx), 1) == TERN_OK);
        (void)!tern_program_run(ctx, out, p, in);
        FINE(ctx);
        x[eager][0] = tern_item(ctx, out[1]);
        x[eager][1] =
            tern_item(ctx, tern_sum(ctx, tern_read(ctx, tern_param_at(ctx, j.net, 0)), NULL));
        tc_close(ctx);
    }
    cr_expect(x[0][0] == x[1][0], "%g traced, %g eager", x[0][0], x[1][0]);
    cr_expect(x[0][1] == x[1][1] && x[0][0] != x[0][1], "the new value was not read");
}

/* ---- Accumulation, penalty, dropout ---- */

typedef struct {
    job j;
    bool last;
} accumulating;
static tern_status accumulate(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    accumulating *a = user;

    out[0] = tern_cross_entropy(ctx, tern_forward(ctx, a->j.net, in[0]), in[1], NULL, NULL);
    if (tern_backward(ctx, out[0], a->j.net)) return tern_error(ctx);
    return a->last ? tern_optim_step(ctx, a->j.opt) : TERN_OK;
}

Test(program, gradients_accumulate_over_steps)
{
    uint64_t h[3];

    for (int i = 0; i < 3; i++) {
        tern_ctx *ctx = tc_open("cpu");
        accumulating a = {.j = small_net(ctx, false)};
        tern_program *more = tern_record(ctx, accumulate, &a),
                     *last = tern_record(ctx, accumulate, &a);

        tern_eager_set(ctx, i == 0);
        check_option(ctx, i == 2 ? "poison" : "");
        for (int k = 0; k < 9; k++) {
            tern_tensor *in[3], *loss;
            feed(ctx, in, k, 4);
            a.last = k % 3 == 2;
            (void)!tern_program_run(ctx, &loss, a.last ? last : more, in);
            FINE(ctx);
            cr_expect((tern_grad_of(ctx, tern_param_at(ctx, a.j.net, 0)) != NULL) == !a.last,
                      "step %d", k);
        }
        if (i)
            cr_expect(tern_program_traces(more) == 2 && tern_program_traces(last) == 1,
                      "first, middle, last: %d, %d", tern_program_traces(more),
                      tern_program_traces(last));
        h[i] = hash_vars(ctx, false);
        tc_close(ctx);
    }
    cr_expect(h[0] == h[1] && h[1] == h[2], "accumulation differs");
}

static tern_status two_drops(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_forward(ctx, user, in[0]);
    out[1] = tern_forward(ctx, user, in[0]);
    return tern_error(ctx);
}

Test(program, two_dropouts_of_a_step_differ_and_resume_alike)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *d = tern_nn_dropout(ctx, 0.5);
    tern_program *p = tern_record(ctx, two_drops, d);
    tern_tensor *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(64), 1), NULL}, *y[2];
    double a[64], b[64], c[64];

    tern_mode(ctx, TERN_TRAIN);
    cr_assert(tern_module_finish(ctx, d) == TERN_OK);
    (void)!tern_program_run(ctx, y, p, in);
    (void)!tern_to_doubles(ctx, a, y[0]);
    (void)!tern_to_doubles(ctx, b, y[1]);
    FINE(ctx);
    cr_expect(memcmp(a, b, sizeof a) != 0, "two dropouts of a step are equal");
    (void)!tern_program_run(ctx, y, p, in);
    cr_assert(tern_set(ctx, tern_buffer_at(ctx, d, 0), 0) == TERN_OK); /* resumed */
    tern_eager_set(ctx, true);
    (void)!tern_program_run(ctx, y, p, in);
    (void)!tern_to_doubles(ctx, c, y[1]);
    cr_expect(memcmp(b, c, sizeof b) == 0, "the same step has another mask after resume");
    tc_close(ctx);
}

/* ---- Every allocation fails once ---- */

static void fail_each_allocation(bool eager)
{
    uint64_t good = 0;
    long n_failures = 0;

    for (long nth = -1;; nth++) {
        tern_ctx *ctx = tc_open(tc_device());
        job j = small_net(ctx, true);
        tern_program *p = tern_record(ctx, train_step, &j);
        tern_tensor *in[3], *loss;

        tern_eager_set(ctx, eager);
        feed(ctx, in, 0, 4);
        cr_assert(tern_module_finish(ctx, j.net) == TERN_OK);
        const uint64_t before = hash_vars(ctx, true);
        ti_fail_allocation(ctx, nth, false);
        const tern_status s = tern_program_run(ctx, &loss, p, in);
        ti_fail_allocation(ctx, -1, false);
        if (s) {
            n_failures++;
            cr_assert(s == TERN_E_MEMORY, "allocation %ld: %s", nth, tern_error_text(ctx));
            cr_assert(!ctx->tracing && !ctx->in_step && ctx->depth == 0);
            tern_error_clear(ctx);
            cr_assert(hash_vars(ctx, true) == before,
                      "allocation %ld: a failed step changed a variable", nth);
            (void)!tern_program_run(ctx, &loss, p, in);
        }
        (void)!tern_program_run(ctx, &loss, p, in);
        const uint64_t h = hash_vars(ctx, true);
        if (nth < 0) good = h;
        cr_assert(h == good, "allocation %ld: the next step differs", nth);
        tc_close(ctx);
        if (nth >= 0 && !s) break;
    }
    cr_expect(n_failures > 100, "%ld failures", n_failures);
}

Test(program, each_allocation_of_a_traced_step_may_fail) { fail_each_allocation(false); }
Test(program, each_allocation_of_an_eager_step_may_fail) { fail_each_allocation(true); }
