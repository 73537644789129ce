/* peak.c - the planned peak of memory is the pool's measured one, for every model by name. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>

#include "step.h"
#include "tern/tern.h"

static void compare(const tern_model_info *model, int64_t batch)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_model_opts *o = &model->own;
    const tern_shape x = {4, {batch, o->channels, o->height, o->width}};
    job j = {.net = tern_model(ctx, model->name, NULL)};
    tern_memory_plan plan;
    tern_memory measured;
    int64_t labels[8] = {0};

    j.opt = tern_adam(ctx, j.net, NULL);
    cr_assert(eq(int, tern_plan_memory(ctx, &plan, j.net, j.opt, x), TERN_OK), "%s: %s",
              model->name, tern_error_text(ctx));
    tern_program *program = tern_record(ctx, train_step, &j);
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
    tc_close(ctx);
}

Test(peak, planned_is_measured)
{
    tern_model_info model;
    int n = 0;

    for (; tern_model_at(n, &model); n++) compare(&model, 4);
    cr_expect(n >= 6, "%d models", n);
}
