/*
 * sgd.c - stochastic gradient descent: momentum, Nesterov, dampening, weight decay.
 */
#include "optim/optim.h"

#include <math.h>

static tern_tensor *sgd_update(tern_ctx *ctx, tern_optim *o, tern_tensor *p, tern_tensor *g,
                               tern_tensor *lr, tern_tensor *scale)
{
    const bool moving = o->n_var > 1;
    tern_tensor *m = moving ? tern_read(ctx, o->var[1]) : NULL, *new_m = NULL;

    if (moving && !m) return NULL;
    p = tern_sgd_update(ctx, moving ? &new_m : NULL, p, m, g, lr, scale, &o->how.sgd);
    if (p && moving && tern_assign(ctx, o->var[1], new_m)) return NULL;
    return p;
}

tern_optim *tern_sgd(tern_ctx *ctx, tern_module *m, const tern_sgd_opts *opts)
{
    const tern_sgd_opts o = opts ? *opts : (tern_sgd_opts){0};
    tern_optim *s;

    if (tern_error(ctx)) return NULL;
    if (o.lr == 0 && !o.has_lr) {
        tern_fail(ctx, TERN_E_ARGUMENT, "sgd: lr is missing (has_lr says that 0 is meant)");
        return NULL;
    }
    if (ti_optim_within(ctx, "sgd", "momentum", o.momentum, 1) ||
        ti_optim_within(ctx, "sgd", "dampening", o.dampening, 1) ||
        ti_optim_within(ctx, "sgd", "decay", o.decay, INFINITY))
        return NULL;
    if (o.nesterov && (o.momentum == 0 || o.dampening != 0)) {
        tern_fail(ctx, TERN_E_ARGUMENT, "sgd: nesterov needs momentum and no dampening");
        return NULL;
    }
    s = ti_optim_open(
        ctx, m, &(ti_optim_opts){"sgd", o.name, o.lr, o.clip_norm, o.clip_value, o.from, o.count});
    if (!s || (o.momentum != 0 && ti_optim_state(s, "momentum", false))) return NULL;
    s->how.sgd = (tern_sgd_update_opts){.momentum = o.momentum,
                                        .dampening = o.dampening,
                                        .decay = o.decay,
                                        .nesterov = o.nesterov != 0};
    s->update = sgd_update;
    return s;
}
