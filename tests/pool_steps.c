/*
 * pool_steps.c - what the pool asks of its device over many steps of several sizes: once each size
 * was there, nothing; and what it keeps beside what is in use at most. (labels: slow)
 */
#include <criterion/criterion.h>

#include "check.h"
#include "emulator.h"
#include "step.h"
#include "tern/models.h"

enum { STEPS = 200, SIZES = 4 };

/* A step to run at any size, on a device. */
typedef struct {
    const char *device, *model; /* NULL: a chain of operations on [n, 500], and its derivative */
    int64_t largest;
    bool eager;
    int rounds;      /* through all sizes, after which no memory may come from the device */
    double per_peak; /* reserved at most, by what is in use at most */
} load;

typedef struct {
    tern_ctx *ctx;
    const load *l;
    job job;
    tern_shape image; /* without the batch */
    tern_program *program;
} runner;

static tern_status chain(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *x = tern_track(ctx, in[0]), *y = x, *d;

    (void)user;
    for (int i = 0; i < 4; i++) y = tern_mul(ctx, tern_tanh(ctx, y), tern_add(ctx, y, x));
    out[0] = tern_sum(ctx, y, NULL);
    if (tern_grads(ctx, &d, 1, out, NULL, 1, &x)) return tern_error(ctx);
    out[0] = tern_add(ctx, out[0], tern_sum(ctx, d, NULL));
    return tern_error(ctx);
}

static runner begin(const load *l)
{
    runner r = {.ctx = tc_open(l->device), .l = l};
    tern_model_info model;

    tern_eager_set(r.ctx, l->eager);
    if (!l->model) {
        r.program = tern_record(r.ctx, chain, NULL);
        return r;
    }
    for (int i = 0; tern_model_at(i, &model); i++)
        if (strcmp(model.name, l->model) == 0)
            r.image = TI_SHAPE(0, model.own.channels, model.own.height, model.own.width);
    r.job.net = tern_model(r.ctx, l->model, NULL);
    r.job.opt = tern_adam(r.ctx, r.job.net, NULL);
    tern_mode(r.ctx, TERN_TRAIN);
    FINE(r.ctx);
    return r;
}

static void step(runner *r, int64_t n)
{
    tern_ctx *ctx = r->ctx;
    tern_shape x = r->l->model ? r->image : TI_SHAPE(n, 500);
    int64_t *label = calloc((size_t)n, sizeof *label);
    tern_tensor *out = NULL;

    if (r->l->model && !r->program) r->program = tern_record(ctx, train_step, &r->job);
    tern_frame_begin(ctx);
    x.dim[0] = n;
    tern_tensor *in[] = {tern_fill(ctx, TERN_F32, x, 0.25), NULL, NULL};
    if (r->l->model) in[1] = tern_from_host(ctx, TERN_I64, label, TI_SHAPE(n));
    if (!tern_program_run(ctx, &out, r->program, in)) (void)tern_item(ctx, out);
    tern_frame_end(ctx);
    free(label);
    FINE(ctx);
}

/* What the device was asked for: cudaMalloc and its like on the emulated one, too. */
static int64_t asked(tern_ctx *ctx)
{
    tern_memory m;

    tern_memory_stats(ctx, &m);
    return m.n_device_alloc + (ctx->plugin ? tc_emulator_of(ctx).creations() : 0);
}

static void run(const load *l)
{
    runner r = begin(l);
    const int64_t size[SIZES] = {l->largest, l->largest / 4, l->largest * 3 / 4, l->largest / 2};
    const int warm = l->rounds * SIZES;
    int64_t before = 0;
    tern_memory m;

    for (int i = 0; i < warm + STEPS; i++) {
        if (i == warm) before = asked(r.ctx);
        step(&r, size[i % SIZES]);
    }
    tern_memory_stats(r.ctx, &m);
    const double per_peak = (double)m.peak_reserved / (double)m.peak;
    cr_log_info("%s, %s, %s: %zu bytes reserved, %.3f of the peak; %lld allocations by the device",
                l->device, l->model ? l->model : "chain", l->eager ? "eager" : "traced",
                m.peak_reserved, per_peak, (long long)m.n_device_alloc);
    cr_expect(asked(r.ctx) == before, "%s, %s, %s: the device was asked %lld times in %d steps",
              l->device, l->model ? l->model : "chain", l->eager ? "eager" : "traced",
              (long long)(asked(r.ctx) - before), STEPS);
    cr_expect(per_peak <= l->per_peak, "%s, %s, %s: %zu reserved, %zu in use", l->device,
              l->model ? l->model : "chain", l->eager ? "eager" : "traced", m.peak_reserved,
              m.peak);
    tc_close(r.ctx);
}

/* Replayed steps lie in one arena. */
Test(pool_steps, replayed_they_ask_for_nothing)
{
    run(&(load){"cpu", "lenet5", 16, .rounds = 2, .per_peak = 1.10});
    run(&(load){"cpu", "mlp", 32, .rounds = 2, .per_peak = 1.10});
    run(&(load){"null", "resnet20", 32, .rounds = 2, .per_peak = 1.10});
    run(&(load){"null", "lstm-rows", 64, .rounds = 2, .per_peak = 1.10});
}

/* Eager ones are fitted as they come. Steps of many tensors are soon; where a few blocks make most
 * of the peak, as in LeNet-5, no order of arrival fits them well: more is kept, after a while. */
Test(pool_steps, eager_they_ask_for_nothing)
{
    run(&(load){"null", "resnet20", 32, .eager = true, .rounds = 2, .per_peak = 1.10});
    run(&(load){"cpu", NULL, 64, .eager = true, .rounds = 2, .per_peak = 1.10});
    run(&(load){"cpu", "lenet5", 16, .eager = true, .rounds = 20, .per_peak = 1.75});
}

Test(pool_steps, on_the_emulated_device)
{
    if (!tc_has("simt")) return;
    run(&(load){"simt", NULL, 64, .rounds = 2, .per_peak = 1.10});
    run(&(load){"simt", NULL, 64, .eager = true, .rounds = 2, .per_peak = 1.10});
    run(&(load){"simt", "lenet5", 4, .rounds = 2, .per_peak = 1.10});
}

Test(pool_steps, the_holders_are_named)
{
    const load l = {.device = "cpu", .model = "lenet5", .largest = 8};
    runner r = begin(&l);
    tern_holder h[20];
    tern_memory m;
    size_t sum = 0;
    bool arena = false;

    step(&r, 8);
    tern_memory_stats(r.ctx, &m);
    const int n = tern_memory_holders(r.ctx, h, 20);
    for (int i = 0; i < n; i++) {
        sum += h[i].bytes;
        arena |= strcmp(h[i].name, "arena") == 0 && h[i].n_block == 1;
        cr_expect(i == 0 || h[i].bytes <= h[i - 1].bytes);
    }
    cr_expect(n > 1 && sum == m.live && arena, "%d holders of %zu bytes, %zu in use", n, sum,
              m.live);
    cr_expect(tern_memory_holders(r.ctx, NULL, 3) == 0);
    tc_close(r.ctx);
}

/* Ever other sizes: little is kept of each. */
static void varied(const char *device, bool eager)
{
    const load l = {.device = device, .eager = eager};
    runner r = begin(&l);
    uint64_t state = 3;
    tern_memory m;

    for (int i = 0; i < STEPS; i++) step(&r, 1 + (int64_t)(64 * tc_uniform(&state)));
    tern_memory_stats(r.ctx, &m);
    cr_log_info("%s, %s: %zu bytes reserved, peak %zu", device, eager ? "eager" : "traced",
                m.peak_reserved, m.peak);
    cr_expect((double)m.peak_reserved <= 1.10 * (double)m.peak, "%s: %zu reserved, %zu used",
              device, m.peak_reserved, m.peak);
    tc_close(r.ctx);
}

Test(pool_steps, varied_steps_keep_little_memory)
{
    varied("cpu", false);
    varied("cpu", true);
    if (!tc_has("simt")) return;
    varied("simt", false);
    varied("simt", true);
}
