/*
 * step.c - what every optimizer does around its rule: census, clipping, update, consumption.
 *
 * The guard comes first: the skip flag is complete before the update is computed, so the update may
 * be made in place, under the flag. Clipping takes the norm from the guard, on the device: nothing
 * is read back.
 */
#include "optim/optim.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

tern_status ti_optim_within(tern_ctx *ctx, const char *kind, const char *field, double x,
                            double most)
{
    if (x >= 0 && x <= most && isfinite(x)) return tern_error(ctx);
    if (isfinite(most))
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: %s is %g; it is in 0 … %g", kind, field, x,
                         most);
    return tern_fail(ctx, TERN_E_ARGUMENT, "%s: %s is %g; it is finite and not negative", kind,
                     field, x);
}

static void optim_close(tern_ctx *ctx, void *user) { tern_free(ctx, user); }

static tern_status check(tern_ctx *ctx, const ti_optim_opts *o)
{
    if (ti_optim_within(ctx, o->kind, "lr", o->lr, INFINITY) ||
        ti_optim_within(ctx, o->kind, "clip_norm", o->clip_norm, INFINITY) ||
        ti_optim_within(ctx, o->kind, "clip_value", o->clip_value, INFINITY))
        return tern_error(ctx);
    if (o->clip_norm > 0 && o->clip_value > 0)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: clip_norm and clip_value exclude each other",
                         o->kind);
    if (o->name && (!*o->name || strlen(o->name) > 40))
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: the name has 1 to 40 bytes", o->kind);
    if (tern_in_step(ctx))
        return tern_fail(ctx, TERN_E_TRACE, "%s: optimizers cannot be opened inside a step",
                         o->kind);
    return TERN_OK;
}

/* Whether a parameter begins or ends at this element of the module: gradients are of whole ones. */
static bool is_edge(tern_ctx *ctx, tern_module *m, int64_t at)
{
    const tern_var *v = tern_param_at(ctx, m, 0);
    int64_t edge = 0;

    for (int i = 0; v && edge < at; v = tern_param_at(ctx, m, ++i))
        edge += tern_count(tern_var_shape(v));
    return edge == at;
}

static tern_status range_of(tern_ctx *ctx, tern_optim *o, const ti_optim_opts *opts)
{
    int64_t from, count;

    if (tern_module_range(ctx, o->module, &from, &count)) return tern_error(ctx);
    if (count == 0)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: the module has no parameters", opts->kind);
    if (opts->from < 0 || opts->count < 0 || opts->from >= count ||
        opts->count > count - opts->from)
        return tern_fail(ctx, TERN_E_ARGUMENT,
                         "%s: elements from %lld, %lld of them (0: all), are not in the module's "
                         "%lld parameters",
                         opts->kind, (long long)opts->from, (long long)opts->count,
                         (long long)count);
    o->block = tern_module_block(ctx, o->module);
    o->from = from + opts->from;
    o->count = opts->count ? opts->count : count - opts->from;
    if (!is_edge(ctx, o->module, opts->from) || !is_edge(ctx, o->module, opts->from + o->count))
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: elements %lld … %lld cut through a parameter",
                         opts->kind, (long long)opts->from, (long long)(opts->from + o->count));
    return tern_error(ctx);
}

static tern_status add_var(tern_optim *o, const char *name, tern_type type, tern_shape shape)
{
    char text[80];

    snprintf(text, sizeof text, "%s.%s", o->name, name);
    tern_var *v = tern_variable(o->ctx, text, type, shape);
    if (!v) return tern_error(o->ctx);
    o->var[o->n_var++] = v;
    return TERN_OK;
}

tern_status ti_optim_state(tern_optim *o, const char *name, bool counter)
{
    const tern_shape flat = {1, {o->count}};

    if (add_var(o, name, counter ? TERN_I64 : tern_var_type(o->block),
                counter ? (tern_shape){0} : flat))
        return tern_error(o->ctx);
    return tern_set(o->ctx, o->var[o->n_var - 1], 0); /* its memory now, not in the first step */
}

tern_optim *ti_optim_open(tern_ctx *ctx, tern_module *m, const ti_optim_opts *opts)
{
    tern_optim *o;

    if (tern_error(ctx)) return NULL;
    if (!m) {
        tern_fail(ctx, TERN_E_ARGUMENT, "%s: the module is NULL", opts->kind);
        return NULL;
    }
    if (check(ctx, opts) || !(o = tern_alloc(ctx, sizeof *o))) return NULL;
    if (tern_on_close(ctx, optim_close, o)) {
        tern_free(ctx, o);
        return NULL;
    }
    o->ctx = ctx;
    o->module = m;
    o->kind = opts->kind;
    o->clip_norm = opts->clip_norm;
    o->clip_value = opts->clip_value;
    snprintf(o->name, sizeof o->name, "%s", opts->name ? opts->name : opts->kind);
    if (range_of(ctx, o, opts) || add_var(o, "lr", tern_var_type(o->block), (tern_shape){0}) ||
        tern_optim_set_lr(ctx, o, opts->lr))
        return NULL;
    return o;
}

/* min(1, most / norm), a scalar of the parameters' type. A norm of 0 gives 1. */
static tern_tensor *clip_scale(tern_ctx *ctx, tern_optim *o, tern_tensor *norm)
{
    tern_tensor *most = tern_fill(ctx, TERN_F64, (tern_shape){0}, o->clip_norm);
    /* norm at least most: the quotient is 1 where nothing is to be clipped */
    tern_tensor *scale = tern_div(ctx, most, tern_maximum(ctx, norm, most));

    return tern_cast(ctx, scale, tern_var_type(o->block));
}

static tern_status update(tern_ctx *ctx, tern_optim *o)
{
    tern_tensor *norm = NULL, *scale = NULL;
    tern_tensor *g = tern_block_grads(ctx, o->block, o->from, o->count);

    if (tern_guard(ctx, o->clip_norm > 0 ? &norm : NULL, o->block, o->from, o->count))
        return tern_error(ctx);
    if (o->clip_norm > 0) scale = clip_scale(ctx, o, norm);
    if (o->clip_value > 0)
        g = tern_clamp(ctx, g, &(tern_clamp_opts){true, true, -o->clip_value, o->clip_value});
    tern_tensor *p = tern_block_read(ctx, o->block, o->from, o->count);
    tern_tensor *lr = tern_read(ctx, o->var[0]);
    if (tern_error(ctx)) return tern_error(ctx);
    tern_tensor *new_p = o->update(ctx, o, p, g, lr, scale);
    if (!new_p || tern_block_assign(ctx, o->block, o->from, new_p)) return tern_error(ctx);
    tern_block_grads_clear(ctx, o->block, o->from, o->count);
    return tern_error(ctx);
}

static tern_status update_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)out;
    (void)in;
    tern_frame_begin(ctx);
    tern_no_grad_begin(ctx);
    const tern_status status = update(ctx, user);
    tern_no_grad_end(ctx);
    tern_frame_end(ctx);
    return status;
}

tern_status tern_optim_step(tern_ctx *ctx, tern_optim *o)
{
    tern_tensor *in[1] = {NULL}, *out[TERN_STEP_OUT] = {NULL};

    if (tern_error(ctx)) return tern_error(ctx);
    if (!o) return tern_fail(ctx, TERN_E_ARGUMENT, "optim_step: the optimizer is NULL");
    if (o->ctx != ctx)
        return tern_fail(ctx, TERN_E_ARGUMENT, "optim_step: %s belongs to another context",
                         o->name);
    if (!tern_block_has_grads(ctx, o->block, o->from, o->count))
        return tern_fail(ctx, TERN_E_STATE,
                         "optim_step: no gradients are pending for the parameters of %s; call "
                         "tern_backward first",
                         o->name);
    if (tern_in_step(ctx)) return update_step(ctx, out, in, o);
    if (!o->alone && !(o->alone = tern_record(ctx, update_step, o))) return tern_error(ctx);
    return tern_program_run(ctx, out, o->alone, in);
}

tern_status tern_optim_set_lr(tern_ctx *ctx, tern_optim *o, double lr)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!o) return tern_fail(ctx, TERN_E_ARGUMENT, "optim_set_lr: the optimizer is NULL");
    if (ti_optim_within(ctx, o->kind, "lr", lr, INFINITY) || tern_set(ctx, o->var[0], lr))
        return tern_error(ctx);
    o->lr = lr;
    return TERN_OK;
}

double tern_optim_lr(const tern_optim *o) { return o ? o->lr : 0; }

tern_status tern_optim_lr_read(tern_ctx *ctx, tern_optim *o)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!o) return tern_fail(ctx, TERN_E_ARGUMENT, "optim_lr_read: the optimizer is NULL");
    tern_frame_begin(ctx);
    const double lr = tern_item(ctx, tern_read(ctx, o->var[0]));
    tern_frame_end(ctx);
    if (tern_error(ctx)) return tern_error(ctx);
    if (ti_optim_within(ctx, o->kind, "lr", lr, INFINITY)) return tern_error(ctx);
    o->lr = lr;
    return TERN_OK;
}

tern_var *tern_optim_var(const tern_optim *o, int i)
{
    return o && i >= 0 && i < o->n_var ? o->var[i] : NULL;
}

size_t tern_optim_bytes(const tern_optim *o)
{
    size_t bytes = 0;

    for (int i = 0; o && i < o->n_var; i++)
        bytes += (size_t)tern_count(tern_var_shape(o->var[i])) *
                 tern_type_size(tern_var_type(o->var[i]));
    return bytes;
}

const char *tern_optim_kind(const tern_optim *o) { return o ? o->kind : ""; }
const char *tern_optim_name(const tern_optim *o) { return o ? o->name : ""; }
tern_module *tern_optim_module(const tern_optim *o) { return o ? o->module : NULL; }
