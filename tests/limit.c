/*
 * limit.c - programs that keep within a limit of memory: what they change, what they keep, when
 * they are refused, and the largest batch that is not.
 */
#include "step.h"
#include "tern/tern.h"

enum { IMAGES = 4, EMULATED = 1 }; /* in a batch; emulated kernels are slow */

static tern_shape batch_of(const tern_model_info *model, int64_t n)
{
    const tern_model_opts *o = &model->own;

    return (tern_shape){4, {n, o->channels, o->height, o->width}};
}

static job open_model(tern_ctx *ctx, const char *name, tern_model_info *info)
{
    job j = {0};

    cr_assert(tern_model_named(name, info), "%s", name);
    j.net = tern_model(ctx, name, NULL);
    j.opt = tern_adam(ctx, j.net, NULL);
    tern_mode(ctx, TERN_TRAIN);
    FINE(ctx);
    return j;
}

/* ---- The same bits, with calls that run again ---- */

typedef struct {
    size_t peak;
    int again;
    uint64_t hash;
    tern_status status;
} outcome;

/* Three steps (one, emulated) of a model whose arena may take `limit` bytes. */
static outcome steps_within(const char *device, const char *name, size_t limit)
{
    tern_ctx *ctx = tc_open(device);
    tern_model_info model;
    job j = open_model(ctx, name, &model);
    tern_program *p = tern_record(ctx, train_step, &j);
    outcome o = {0};
    const int64_t label[IMAGES] = {3, 1, 0, 2};
    const bool slow = strcmp(device, "simt") == 0;
    const int64_t n = slow ? EMULATED : IMAGES;

    tern_program_limit(p, limit);
    for (int i = 0; i < (slow ? 1 : 3) && !o.status; i++) {
        tern_frame_begin(ctx);
        tern_tensor *in[] = {
            tern_channels_last(ctx, randoms(ctx, batch_of(&model, n), 5 + (uint64_t)i)),
            tern_from_host(ctx, TERN_I64, label, TI_SHAPE(n)), NULL};
        tern_tensor *loss = NULL;
        o.status = tern_program_run(ctx, &loss, p, in);
        tern_error_clear(ctx);
        tern_frame_end(ctx);
    }
    o.hash = hash_vars(ctx, true);
    o.peak = tern_program_peak(p);
    o.again = tern_program_again(p);
    tc_close(ctx);
    return o;
}

static void same_bits(const char *device, const char *name, double share)
{
    if (!tc_has(device)) return;
    const outcome free_step = steps_within(device, name, 0);
    const size_t limit = (size_t)(share * (double)free_step.peak);
    const outcome tight = steps_within(device, name, limit);

    cr_expect(free_step.status == TERN_OK && free_step.again == 0);
    cr_expect(tight.status == TERN_OK, "%s, %s: %zu of %zu bytes", device, name, tight.peak, limit);
    cr_expect(tight.peak <= limit && tight.again > 0, "%s, %s: %zu of %zu bytes, %d again", device,
              name, tight.peak, limit, tight.again);
    cr_expect(tight.hash == free_step.hash, "%s, %s: calls that run again change bits", device,
              name);
}

Test(limit, calls_that_run_again_change_no_bit)
{
    same_bits("cpu", "resnet20", 0.9);
    same_bits("cpu", "resnet20", 0.75);
    same_bits("cpu", "resnet18", 0.9);
}

Test(limit, the_same_on_the_emulated_device) { same_bits("simt", "resnet20", 0.9); }

Test(limit, what_cannot_be_kept_is_refused_before_anything_runs)
{
    const outcome none = steps_within("cpu", "lenet5", 1), one = steps_within("cpu", "lenet5", 0);
    tern_ctx *ctx = tc_open("cpu");
    tern_model_info model;
    job j = open_model(ctx, "lenet5", &model);

    (void)j;
    cr_expect(none.status == TERN_E_MEMORY);
    cr_expect(one.status == TERN_OK);
    cr_expect(none.hash == hash_vars(ctx, true), "a refused step changed a variable");
    tc_close(ctx);
}

/* ---- Kernels with less scratch ---- */

static tern_status convolve(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)user;
    out[0] = tern_conv2d(ctx, in[0], in[1], &(tern_conv2d_opts){.pad = {1, 1}});
    return tern_error(ctx);
}

Test(limit, a_kernel_with_less_scratch_is_taken)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_program *p = tern_record(ctx, convolve, NULL);
    tern_tensor *in[] = {tern_channels_last(ctx, randoms(ctx, TI_SHAPE(2, 32, 16, 16), 1)),
                         randoms(ctx, TI_SHAPE(32, 32, 3, 3), 2), NULL};
    tern_tensor *a = NULL, *b = NULL;
    tern_program_line before, after;

    cr_assert(tern_program_run(ctx, &a, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    int i = 0, v = 0;
    while (tern_program_line_at(p, i, &before) && strcmp(before.op, "conv2d") != 0) i++;
    tern_program_value scratch = {0};
    while (tern_program_value_at(p, v, &scratch) && !(scratch.scratch && scratch.first == i)) v++;
    cr_assert(scratch.scratch && scratch.bytes > 0, "%s takes no scratch: nothing is tested here",
              before.kernel);
    const size_t limit = tern_program_peak(p) - scratch.bytes / 2;
    tern_program_limit(p, limit);
    cr_assert(tern_program_run(ctx, &b, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    cr_assert(tern_program_line_at(p, i, &after));
    cr_expect(tern_program_peak(p) <= limit);
    cr_expect(tern_program_again(p) == 0);
    cr_expect(strcmp(before.kernel, after.kernel) != 0, "%s stays", after.kernel);
    double *x = tc_doubles(ctx, a), *y = tc_doubles(ctx, b);
    for (int64_t k = 0; k < 2 * 32 * 16 * 16; k++)
        cr_assert(fabs(x[k] - y[k]) < 1e-3, "%lld: %g, %g", (long long)k, x[k], y[k]);
    free(x);
    free(y);
    tc_close(ctx);
}

/* ---- A fit within a limit ---- */

static tern_data *data_for(tern_ctx *ctx, const tern_model_info *model, int64_t n)
{
    const tern_shape x = batch_of(model, n);
    float *pixel = calloc((size_t)tern_count(x), sizeof *pixel);
    int64_t *label = calloc((size_t)n, sizeof *label);
    uint64_t seed = 3;

    for (int64_t i = 0; i < tern_count(x); i++) pixel[i] = (float)tc_normal(&seed);
    for (int64_t i = 0; i < n; i++) label[i] = i % 10;
    tern_data *data = tern_data_from_arrays(ctx, TERN_F32, pixel, x, label, 10, NULL);
    FINE(ctx);
    free(pixel);
    free(label);
    return data;
}

typedef struct {
    tern_status status;
    size_t peak; /* of the pool, from the fit on */
    char hash[33];
} fitted;

static fitted fit_within(const char *name, int batch, size_t memory, bool validate)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_model_info model;
    job j = open_model(ctx, name, &model);
    tern_data *data = data_for(ctx, &model, 2 * batch);
    const tern_fit_opts how = {
        .steps = 2, .batch = batch, .memory = memory, .validate = validate ? data : NULL};
    fitted f = {0};
    tern_memory now;

    tern_memory_peak_reset(ctx);
    f.status = tern_fit(ctx, j.net, j.opt, data, &how);
    tern_error_clear(ctx);
    tern_memory_stats(ctx, &now);
    f.peak = now.peak;
    cr_expect(tern_weights_hash(ctx, f.hash, j.net) == TERN_OK);
    tc_close(ctx);
    return f;
}

static void largest(const char *name, size_t memory)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_model_info model;
    job j = open_model(ctx, name, &model);
    tern_memory_plan fits, next;
    const int64_t n =
        tern_largest_batch(ctx, j.net, j.opt, batch_of(&model, 1), memory, true, 4096);
    const int64_t plain =
        tern_largest_batch(ctx, j.net, j.opt, batch_of(&model, 1), memory, false, 4096);

    FINE(ctx);
    cr_assert(n > 1 && n < 4096, "%s: %lld", name, (long long)n);
    cr_expect(plain <= n, "%s: %lld as they are, %lld changed", name, (long long)plain,
              (long long)n);
    cr_assert(!tern_plan_memory_within(ctx, &fits, j.net, j.opt, batch_of(&model, n), memory));
    cr_assert(!tern_plan_memory_within(ctx, &next, j.net, j.opt, batch_of(&model, n + 1), memory));
    cr_expect(fits.needed <= memory && next.needed > memory, "%s: %zu, %zu of %zu", name,
              fits.needed, next.needed, memory);
    tc_close(ctx);

    const fitted good = fit_within(name, (int)n, memory, true);
    const fitted bad = fit_within(name, (int)n + 1, memory, true);
    cr_expect(good.status == TERN_OK, "%s: batch %lld does not fit", name, (long long)n);
    cr_expect(good.peak <= memory && good.peak > memory / 2, "%s: %zu of %zu bytes", name,
              good.peak, memory);
    cr_expect(bad.status == TERN_E_MEMORY, "%s: batch %lld fits, too", name, (long long)n + 1);
}

Test(limit, the_largest_batch_fits_and_the_next_one_does_not)
{
    largest("lenet5", 4 << 20);
    largest("mlp", 16 << 20);
    largest("resnet20", 24 << 20);
}

Test(limit, a_fit_within_a_limit_gives_the_same_weights)
{
    const fitted wide = fit_within("resnet20", 8, 0, false);
    const fitted tight = fit_within("resnet20", 8, wide.peak * 4 / 5, false);

    cr_expect(wide.status == TERN_OK && tight.status == TERN_OK);
    cr_expect(tight.peak <= wide.peak * 4 / 5, "%zu of %zu", tight.peak, wide.peak);
    cr_expect(strcmp(wide.hash, tight.hash) == 0, "%s, %s", wide.hash, tight.hash);
}

/* Plans the small net's step; *again: what the limit made of it. */
static tern_status plan_small(tern_ctx *ctx, job *j, size_t limit, size_t *peak, int *again)
{
    const tern_shape shapes[] = {TI_SHAPE(16, 1, 6, 6), TI_SHAPE(16)};
    const tern_type types[] = {TERN_F32, TERN_I64};
    tern_program *p = tern_record(ctx, train_step, j);

    tern_program_limit(p, limit);
    if (p && tern_program_plan(ctx, p, 2, shapes, types) == TERN_OK) {
        *peak = tern_program_peak(p);
        *again = tern_program_again(p);
    }
    tern_program_close(ctx, p);
    return tern_error(ctx);
}

Test(limit, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open(tc_device());
    job j = small_net(ctx, true);
    size_t peak = 0, least = 0;
    int again = 0;

    cr_assert(plan_small(ctx, &j, 0, &peak, &again) == TERN_OK && again == 0);
    cr_assert(plan_small(ctx, &j, peak - 64, &least, &again) == TERN_OK && again > 0,
              "nothing is tested here");
    const long live = ti_live_allocations(ctx);
    tern_status status = TERN_E_MEMORY;
    for (long n = 0; status != TERN_OK && n < 20000; n++) {
        ti_fail_allocation(ctx, n, n & 1);
        status = plan_small(ctx, &j, peak - 64, &least, &again);
        ti_fail_allocation(ctx, -1, false);
        cr_assert(status == TERN_OK || status == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(status == TERN_OK);
    cr_expect(ti_live_allocations(ctx) == live, "%ld allocations are left",
              ti_live_allocations(ctx) - live);
    tc_close(ctx);
}

Test(limit, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_model_info model;
    job j = open_model(ctx, "lenet5", &model);

    cr_expect(tern_largest_batch(ctx, j.net, j.opt, batch_of(&model, 1), 0, true, 8) == 0);
    cr_expect(tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_largest_batch(ctx, j.net, j.opt, batch_of(&model, 1), 1, true, 8) == 0);
    FINE(ctx);
    tern_program_limit(NULL, 1);
    cr_expect(tern_program_again(NULL) == 0);
    tern_program_close(ctx, NULL);
    tern_program_close(NULL, NULL);
    tc_close(ctx);
}
