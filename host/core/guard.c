/*
 * guard.c - what keeps a step with values that are not finite from spoiling the state; the scale of
 * the loss in math mode f16.
 *
 * One census over the gradients, the loss and all that is pending sets the flags before the update
 * is computed; the host reads them late. f16 has few exponents: there tern_backward multiplies the
 * loss by a power of two and divides the gradients by it, so that cotangents stay in its range. Too
 * large a scale overflows: such a step is skipped and the scale halved (Micikevicius et al. 2018).
 */
#include "core/core.h"

enum { GOOD_STEPS = 2000 };                             /* then the scale doubles */
static const double first_scale = 65536, most = 0x1p24; /* f32 holds their inverses, too */

tern_var *tern_skip(tern_ctx *ctx) { return ctx ? ctx->skip : NULL; }
tern_var *tern_tripped(tern_ctx *ctx) { return ctx ? ctx->tripped : NULL; }
bool tern_tracing(const tern_ctx *ctx) { return ctx && ctx->tracing; }
bool tern_in_step(const tern_ctx *ctx) { return ctx && ctx->in_step; }

void tern_guard_set(tern_ctx *ctx, bool on)
{
    if (ctx) ctx->guard = on;
}

tern_status tern_skip_if(tern_ctx *ctx, tern_tensor *flag)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "skip_if: no step is running");
    return tern_assign(ctx, ctx->skip, tern_maximum(ctx, tern_read(ctx, ctx->skip), flag));
}

/* What the census looks at: the gradients, the last loss, and what was assigned before the update.
 * Only floats can be other than finite. */
static int census_inputs(tern_ctx *ctx, tern_var *block, tern_tensor **all)
{
    int n = 1; /* 0: the gradients */

    if (ctx->loss) all[n++] = ctx->loss;
    for (int i = 0; i < ctx->n_pending; i++) {
        const ti_pending *p = &ctx->pending[i];
        const bool is_float = p->block->type == TERN_F32 || p->block->type == TERN_F64;
        if (is_float && !p->block->always && p->block != block->grads) all[n++] = p->value;
    }
    return n;
}

static tern_status trip_if(tern_ctx *ctx, tern_tensor *flag)
{
    return tern_assign(ctx, ctx->tripped, tern_maximum(ctx, tern_read(ctx, ctx->tripped), flag));
}

/* ---- The scale of the loss ---- */

tern_var *tern_loss_scale(tern_ctx *ctx) { return ctx ? ctx->loss_scale : NULL; }
tern_var *tern_loss_scale_good(tern_ctx *ctx) { return ctx ? ctx->loss_scale_good : NULL; }

tern_status ti_loss_scale_open(tern_ctx *ctx)
{
    if (ctx->loss_scale_good) return TERN_OK;
    tern_var *scale = tern_variable(ctx, "loss_scale", TERN_F32, TI_SCALAR);
    tern_var *good = tern_variable(ctx, "loss_scale.good", TERN_F32, TI_SCALAR);

    if (tern_set(ctx, scale, first_scale) || tern_set(ctx, good, 0)) return ctx->error;
    scale->always = good->always = true;
    ctx->loss_scale = scale;
    ctx->loss_scale_good = good;
    return TERN_OK;
}

/* Overflown gradients skip the step and halve the scale; they trip the guard like anything lost
 * elsewhere only where the scale cannot fall further. */
static void adapt(tern_ctx *ctx, tern_tensor *bad, tern_tensor *lost)
{
    tern_tensor *scale = tern_read(ctx, ctx->loss_scale);
    tern_tensor *good = tern_shift(ctx, tern_read(ctx, ctx->loss_scale_good), 1);
    tern_tensor *one = tern_fill(ctx, TERN_F32, TI_SCALAR, 1);
    tern_tensor *zero = tern_fill(ctx, TERN_F32, TI_SCALAR, 0);
    tern_tensor *is_bad = tern_gt(ctx, bad, zero);
    tern_tensor *is_due = tern_ge(ctx, good, tern_fill(ctx, TERN_F32, TI_SCALAR, GOOD_STEPS));
    tern_tensor *down = tern_maximum(ctx, tern_scale(ctx, scale, 0.5), one);
    tern_tensor *up =
        tern_minimum(ctx, tern_scale(ctx, scale, 2), tern_fill(ctx, TERN_F32, TI_SCALAR, most));
    tern_tensor *end = tern_mul(ctx, bad, tern_cast(ctx, tern_le(ctx, scale, one), TERN_F32));

    if (lost) {
        end = tern_maximum(ctx, end, lost);
        bad = tern_maximum(ctx, bad, lost);
    }
    if (trip_if(ctx, end) || tern_skip_if(ctx, bad) ||
        tern_assign(ctx, ctx->loss_scale,
                    tern_where(ctx, is_bad, down, tern_where(ctx, is_due, up, scale))))
        return;
    good = tern_where(ctx, is_bad, zero, tern_where(ctx, is_due, zero, good));
    (void)!tern_assign(ctx, ctx->loss_scale_good, good);
}

/* ---- The guard ---- */

tern_status tern_guard(tern_ctx *ctx, tern_tensor **norm, tern_var *block, int64_t from,
                       int64_t count)
{
    tern_tensor **all, *bad, *lost = NULL, *stats = NULL;

    if (norm) *norm = NULL;
    TI_TRY(ti_check_range(ctx, "guard", block, from, count));
    if (!ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "guard: no step is running");
    if (!ctx->guard && !norm) return TERN_OK;
    if (!(all = ti_alloc(ctx, (size_t)(ctx->n_pending + 2) * sizeof *all))) return ctx->error;
    tern_no_grad_begin(ctx);
    const int n = ctx->guard ? census_inputs(ctx, block, all) : 1;
    all[0] = tern_block_grads(ctx, block, from, count);
    const bool scaled = ctx->guard && ctx->math == TERN_MATH_F16 && block->type == TERN_F32;
    bad = ctx->error ? NULL : tern_census(ctx, norm ? &stats : NULL, scaled ? 1 : n, all);
    if (scaled && n > 1) lost = tern_census(ctx, NULL, n - 1, all + 1);
    ti_free(ctx, all);
    if (norm && stats) {
        *norm = tern_slice(ctx, stats, &(tern_slice_opts){.from = 0, .count = 1});
        *norm = tern_reshape(ctx, *norm, TI_SCALAR);
    }
    /* the flags first: an update that follows may be made in place */
    if (scaled) adapt(ctx, bad, lost);
    else if (ctx->guard && bad && !trip_if(ctx, bad)) (void)!tern_skip_if(ctx, bad);
    tern_no_grad_end(ctx);
    return ctx->error;
}
