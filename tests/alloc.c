/*
 * alloc.c - every allocation of every sample fails once: forward, gradients, strided inputs.
 *
 * Each gives TERN_E_MEMORY and a text; nothing leaks, and the same call then works. What is at
 * stake is the host: an emulated device, whose kernels would take nearly all the time, runs them in
 * the call that works, not in each that fails.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "emulator.h"

static void run_kernels(tern_ctx *ctx, bool on)
{
    if (strcmp(tc_device(), "simt") == 0) tc_emulator_of(ctx).skip_kernels(!on);
}

static tern_status attempt(tern_ctx *ctx, const ti_op *op, const ti_sample *s, tern_tensor **given)
{
    tern_tensor *in[TI_FEW] = {0}, *out[TI_OUTS], *to[TI_FEW], *y[TI_OUTS], *d[TI_FEW];
    int n_y = 0, n_to = 0;

    tern_frame_begin(ctx);
    for (int i = 0; i < s->n_in; i++) {
        in[i] = given[i];
        if (in[i] && in[i]->m.type == TERN_F32) to[n_to++] = in[i] = tern_track(ctx, in[i]);
    }
    if (!tern_error(ctx) && !ti_apply(ctx, op, s->opts, s->n_in, in, (1u << op->n_out) - 1, out)) {
        for (int i = 0; i < op->n_out; i++)
            if (out[i] && tern_is_tracked(out[i])) y[n_y++] = out[i];
        if (n_y && tern_grads(ctx, d, n_y, y, NULL, n_to, to))
            n_y = 0; /* the status is read below */
    }
    tern_frame_end(ctx);
    return tern_error(ctx);
}

static void one_sample(const ti_op *op, const ti_sample *s, void *user)
{
    const bool strided = *(const bool *)user;
    tern_ctx *ctx = tc_open(tc_device());
    tern_tensor *in[TI_FEW];
    char name[120];
    tern_status status;
    long nth = 0, live;

    tc_name(name, op, s);
    tc_inputs(ctx, op, s, TERN_F32, 21, in);
    for (int i = 0; i < s->n_in; i++)
        if (in[i] && strided && !op->view) in[i] = tc_strided(ctx, in[i]);
    run_kernels(ctx, false);
    do {
        ti_fail_allocation(ctx, nth, nth & 1);
        status = attempt(ctx, op, s, in);
        ti_fail_allocation(ctx, -1, false);
        cr_assert(status == TERN_OK || status == TERN_E_MEMORY, "%s, allocation %ld: %s", name, nth,
                  tern_error_text(ctx));
        cr_assert(status == TERN_OK || tern_error_text(ctx)[0], "%s: no text", name);
        tern_error_clear(ctx);
        nth++;
    } while (status != TERN_OK && nth < 5000);
    cr_assert(status == TERN_OK, "%s: 5,000 allocations failed", name);
    run_kernels(ctx, true);
    /* once the caches are warm, a call leaves nothing behind */
    live = ti_live_allocations(ctx);
    cr_assert(attempt(ctx, op, s, in) == TERN_OK);
    cr_expect(ti_live_allocations(ctx) == live, "%s leaves %ld allocations", name,
              ti_live_allocations(ctx) - live);
    tc_close(ctx);
}

Test(alloc, each_failure_is_reported)
{
    bool strided = false;

    tc_each_sample(one_sample, &strided);
}

Test(alloc, each_failure_is_reported_strided)
{
    bool strided = true;

    tc_each_sample(one_sample, &strided);
}
