/*
 * look.c - the guard's flag read late.
 *
 * Reading it at once would make the host wait for the step. So each run notes the flag in the order
 * of the device's work, and the host looks at the note of the run before.
 */
#include <math.h>

#include "core/program.h"

void ti_guard_note(tern_ctx *ctx)
{
    const float *flag = (const float *)(const void *)ctx->tripped->store->data;

    if (!ctx->backend->note) return;
    ctx->backend->note(ctx->device, ctx->i_note, flag);
    ctx->i_note ^= 1;
    if (ctx->n_noted < 2) ctx->n_noted++;
}

/* Waits for all, and tells what has failed. */
static bool look_now(tern_ctx *ctx)
{
    tern_frame_begin(ctx);
    const double flag = tern_item(ctx, tern_read(ctx, ctx->tripped));
    tern_frame_end(ctx);
    return flag != 0;
}

tern_status tern_guard_look(tern_ctx *ctx, bool *tripped, int *behind)
{
    if (!ctx) return TERN_E_ARGUMENT;
    if (ctx->error) return ctx->error;
    if (!tripped) return ti_fail(ctx, TERN_E_ARGUMENT, "guard_look: there is no place for it");
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "guard_look: a step is running");
    const bool late = ctx->backend->note != NULL;

    if (behind) *behind = late;
    *tripped = false;
    if (!late) {
        *tripped = look_now(ctx);
    } else if (ctx->n_noted == 2) {
        const float flag = ctx->backend->noted(ctx->device, ctx->i_note); /* the older one */
        *tripped = isnan(flag) ? look_now(ctx) : flag != 0;
    }
    return ctx->error;
}
