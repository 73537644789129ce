/*
 * adam.c - Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019).
 */
#include "optim/optim.h"

#include <math.h>

enum { M = 1, V, T };

/* t counts the steps that committed: a step that the guard skips leaves it alone. */
static tern_tensor *adam_update(tern_ctx *ctx, tern_optim *o, tern_tensor *p, tern_tensor *g,
                                tern_tensor *lr, tern_tensor *scale)
{
    tern_tensor *m = tern_read(ctx, o->var[M]), *v = tern_read(ctx, o->var[V]);
    tern_tensor *t = tern_shift(ctx, tern_read(ctx, o->var[T]), 1), *new_m = NULL, *new_v = NULL;

    if (!m || !v || !t) return NULL;
    p = tern_adam_update(ctx, &new_m, &new_v, p, m, v, g, lr, t, scale, &o->how.adam);
    if (!p || tern_assign(ctx, o->var[M], new_m) || tern_assign(ctx, o->var[V], new_v) ||
        tern_assign(ctx, o->var[T], t))
        return NULL;
    return p;
}

static tern_optim *adam(tern_ctx *ctx, tern_module *m, const tern_adam_opts *opts, const char *kind,
                        bool decoupled)
{
    tern_adam_opts o = opts ? *opts : (tern_adam_opts){0};
    tern_optim *s;

    if (tern_error(ctx)) return NULL;
    if (o.lr == 0 && !o.has_lr) o.lr = 0.001;
    if (o.decay == 0 && !o.has_decay && decoupled) o.decay = 0.01;
    if (!o.has_beta1) o.beta1 = 0.9;
    if (!o.has_beta2) o.beta2 = 0.999;
    if (!o.has_eps) o.eps = 1e-8;
    const double below_1 = nextafter(1, 0);
    if (ti_optim_within(ctx, kind, "beta1", o.beta1, below_1) ||
        ti_optim_within(ctx, kind, "beta2", o.beta2, below_1) ||
        ti_optim_within(ctx, kind, "eps", o.eps, INFINITY) ||
        ti_optim_within(ctx, kind, "decay", o.decay, INFINITY))
        return NULL;
    s = ti_optim_open(
        ctx, m, &(ti_optim_opts){kind, o.name, o.lr, o.clip_norm, o.clip_value, o.from, o.count});
    if (!s || ti_optim_state(s, "m", false) || ti_optim_state(s, "v", false) ||
        ti_optim_state(s, "t", true))
        return NULL;
    s->how.adam = (tern_adam_update_opts){.has_beta1 = true,
                                          .has_beta2 = true,
                                          .has_eps = true,
                                          .beta1 = o.beta1,
                                          .beta2 = o.beta2,
                                          .eps = o.eps,
                                          .decay = o.decay,
                                          .decoupled = decoupled};
    s->update = adam_update;
    return s;
}

tern_optim *tern_adam(tern_ctx *ctx, tern_module *m, const tern_adam_opts *opts)
{
    return adam(ctx, m, opts, "adam", false);
}

tern_optim *tern_adamw(tern_ctx *ctx, tern_module *m, const tern_adam_opts *opts)
{
    return adam(ctx, m, opts, "adamw", true);
}
