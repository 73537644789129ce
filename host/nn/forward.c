/*
 * forward.c - calling modules and walking back through them.
 */
#include "nn/module.h"
#include "tern/grad.h"

tern_tensor *tern_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    if (ti_nn_need(ctx, m, "forward")) return NULL;
    if (!x) {
        tern_fail(ctx, TERN_E_ARGUMENT, "forward: the input of %s is NULL",
                  *tern_module_path(m) ? m->path : m->kind);
        return NULL;
    }
    if (tern_module_finish(ctx, m)) return NULL;

    tern_frame_begin(ctx);
    const char *before = tern_scope_begin(ctx, m->path);
    tern_tensor *y = m->forward(ctx, m, x);
    tern_scope_end(ctx, before);
    y = tern_frame_keep(ctx, y);
    if (!y && !tern_error(ctx))
        tern_fail(ctx, TERN_E_STATE, "%s: its forward function returned nothing",
                  *m->path ? m->path : m->kind);
    if (y) ti_nn_note(m, x, y);
    return tern_error(ctx) ? NULL : y;
}

tern_status tern_backward(tern_ctx *ctx, tern_tensor *loss, tern_module *m)
{
    int64_t from, count;

    if (tern_error(ctx)) return tern_error(ctx);
    if (!m) return tern_backward_block(ctx, loss, NULL);
    if (ti_nn_need(ctx, m, "backward")) return tern_error(ctx);
    if (!tern_module_root(m)->finished)
        return tern_fail(ctx, TERN_E_STATE,
                         "backward: no loss can come from %s, which was not used",
                         m->name ? m->name : m->kind);
    if (tern_module_range(ctx, m, &from, &count)) return tern_error(ctx);
    if (count == 0)
        return tern_fail(ctx, TERN_E_STATE, "backward: %s has no parameters",
                         *m->path ? m->path : m->kind);
    return tern_backward_range(ctx, loss, tern_module_root(m)->block, from, count);
}

void tern_grads_clear(tern_ctx *ctx, tern_module *m)
{
    int64_t from, count;

    if (!m || m->ctx != ctx || !tern_module_root(m)->finished) return;
    if (tern_module_range(ctx, m, &from, &count) == TERN_OK && count)
        tern_block_grads_clear(ctx, tern_module_root(m)->block, from, count);
}
