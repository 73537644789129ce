/* peak.c - the planned peak of memory is the pool's measured one, for every model by name. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "step.h"
#include "tern/tern.h"

/* share: of what the step takes as it is, that it may take; 0: all. */
static void compare(const tern_model_info *model, int64_t batch, double share)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_model_opts *o = &model->own;
    const tern_shape x = {4, {batch, o->channels, o->height, o->width}};
    job j = {.net = tern_model(ctx, model->name, NULL)};
    tern_memory_plan plan;
    tern_memory measured;
    size_t memory = 0;
    int64_t labels[8] = {0};

    j.opt = tern_adam(ctx, j.net, NULL);
    cr_assert(eq(int, tern_plan_memory(ctx, &plan, j.net, j.opt, x), TERN_OK), "%s: %s",
              model->name, tern_error_text(ctx));
    if (share > 0) {
        memory = (size_t)(share * (double)plan.needed);
        cr_assert(eq(int, tern_plan_memory_within(ctx, &plan, j.net, j.opt, x, memory), TERN_OK));
        if (plan.needed > memory) memory = plan.needed; /* the least that it can do */
    }
    tern_program *program = tern_record(ctx, train_step, &j);
    tern_program_limit(program, memory ? plan.train : 0);
    float *pixels = calloc((size_t)tern_count(x), sizeof *pixels);
    tern_tensor *in[] = {tern_from_host(ctx, TERN_F32, pixels, x),
                         tern_from_host(ctx, TERN_I64, labels, (tern_shape){1, {batch}}), NULL};
    free(pixels);
    tern_mode(ctx, TERN_TRAIN);
    tern_memory_peak_reset(ctx);
    for (int i = 0; i < 2; i++) {
        tern_tensor *loss = NULL;
        tern_frame_begin(ctx);
        cr_assert(eq(int, tern_program_run(ctx, &loss, program, in), TERN_OK), "%s: %s",
                  model->name, tern_error_text(ctx));
        tern_frame_end(ctx);
    }
    tern_memory_stats(ctx, &measured);
    cr_expect(abs((int)((double)plan.train_total * 1e4 / (double)measured.peak) - 10000) <= 100,
              "%s: planned %zu bytes, measured %zu", model->name, plan.train_total, measured.peak);
    cr_expect(memory == 0 || measured.peak <= memory, "%s: measured %zu, limit %zu", model->name,
              measured.peak, memory);
    tc_close(ctx);
}

Test(peak, planned_is_measured)
{
    tern_model_info model;
    int n = 0;

    for (; tern_model_at(n, &model); n++) compare(&model, 4, 0);
    cr_expect(n >= 6, "%d models", n);
}

Test(peak, of_steps_within_a_limit)
{
    tern_model_info model;

    for (int n = 0; tern_model_at(n, &model); n++) compare(&model, 4, 0.85);
}

/* ---- Allocations of a replay ---- */

static tern_status sum_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)user;
    out[0] = tern_sum(ctx, in[0], NULL);
    return tern_error(ctx);
}

/* What the fourth run of a step asks for: of host and device, of the device alone. */
static void count_allocations(tern_step step, long *all, int64_t *device)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, step, &j);
    tern_memory before, after;
    tern_tensor *in[3], *out = NULL;

    for (int i = 0; i < 4; i++) {
        tern_frame_begin(ctx);
        feed(ctx, in, 0, 8);
        tern_memory_stats(ctx, &before);
        ti_fail_allocation(ctx, -1, false); /* counts from 0 */
        cr_assert(tern_program_run(ctx, &out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        *all = ctx->n_alloc;
        tern_memory_stats(ctx, &after);
        *device = after.n_alloc - before.n_alloc;
        tern_frame_end(ctx);
    }
    tc_close(ctx);
}

/* A step of one call and one of many, with one scalar result each, ask for the same: what the
 * result is made of. */
Test(peak, a_replay_allocates_its_results_only)
{
    long one = 0, many = 0;
    int64_t device_one = 0, device_many = 0;

    count_allocations(sum_step, &one, &device_one);
    count_allocations(train_step, &many, &device_many);
    cr_expect(one > 0 && many == one, "%ld allocations, %ld of a training step", one, many);
    cr_expect(device_many == device_one, "%lld blocks, %lld of a training step",
              (long long)device_one, (long long)device_many);
}
