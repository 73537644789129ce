/*
 * explain.c - the guard's second half: a run again, call by call, until a tensor is not finite.
 *
 * The guard only counts, and the host may look late. So the inputs of the last two runs are kept,
 * and the small variables that only the host sets; the others are as the run found them, since a
 * step that trips the guard commits nothing. Lines that write variables are left out: they come
 * after the guard, or they carry what it has seen.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/program.h"

typedef struct {
    int64_t all, nan, inf;
} census;

static void count_f32(census *c, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) isnan(x[i]) ? c->nan++ : c->inf++;
}

/* Elements that are no numbers, of a view as it lies. */
static tern_status count(tern_ctx *ctx, const ti_view *v, census *c)
{
    const tern_type t = v->m.type;
    char *data = v->data;
    bool dense = ti_is_dense(&v->m);

    *c = (census){.all = v->count};
    if (v->count <= 0 || (t != TERN_F32 && t != TERN_F64 && t != TERN_F16 && t != TERN_BF16))
        return TERN_OK;
    if (!ctx->backend->host_memory) { /* through a copy: only what is one run of bytes */
        if (!dense) return TERN_OK;
        if (!(data = ti_alloc(ctx, ti_bytes(&v->m)))) return ctx->error;
        ctx->backend->download(ctx->device, data, v->data, ti_bytes(&v->m));
        if (ti_check_device(ctx, false)) {
            ti_free(ctx, data);
            return ctx->error;
        }
    }
    if (dense && t == TERN_F32) count_f32(c, (const float *)(const void *)data, v->count);
    else
        for (int64_t i = 0; i < v->count; i++) {
            const double x =
                dense ? ti_load(t, data + (size_t)i * tern_type_size(t)) : ti_get(v, i);
            if (!isfinite(x)) isnan(x) ? c->nan++ : c->inf++;
        }
    if (data != v->data) ti_free(ctx, data);
    return TERN_OK;
}

/* 18432 as "18,432". */
static const char *grouped(char text[32], int64_t n)
{
    char plain[24];
    const int len = snprintf(plain, sizeof plain, "%lld", (long long)n);
    int at = 0;

    for (int i = 0; i < len; i++) {
        if (i && (len - i) % 3 == 0) text[at++] = ',';
        text[at++] = plain[i];
    }
    text[at] = 0;
    return text;
}

/* Fails with the name if the view holds what is not finite. */
static tern_status look(tern_ctx *ctx, const char *name, const ti_view *v)
{
    char bad[32], all[32], nan[32], inf[32];
    census c;

    TI_TRY(count(ctx, v, &c));
    if (c.nan + c.inf == 0) return TERN_OK;
    return ti_fail(ctx, TERN_E_VALUE, "%s: %s of %s values (%s nan, %s inf)", name,
                   grouped(bad, c.nan + c.inf), grouped(all, c.all), grouped(nan, c.nan),
                   grouped(inf, c.inf));
}

/* What the run started from: its inputs, and the variables it reads. */
static tern_status look_at_start(const ti_plan *p, tern_tensor *const *in)
{
    tern_ctx *ctx = p->ctx;
    char name[300];

    for (int i = 0; i < p->n_in; i++) {
        const ti_view v = ti_view_at(&in[i]->m, in[i]->store->data);
        snprintf(name, sizeof name, "input %d", i);
        TI_TRY(look(ctx, name, &v));
    }
    for (int v = 0; v < p->n_value; v++) {
        tern_var *b = p->value[v].var;

        if (p->value[v].kind != TI_VARIABLE || p->value[v].last < 0) continue;
        for (int i = 0; i < (b->n_params ? b->n_params : 1); i++) {
            const tern_var *x = b->n_params ? b->params[i] : b;
            ti_meta m = ti_packed_meta(x->type, x->shape);

            m.offset = b->n_params ? x->offset : 0;
            const ti_view view = ti_view_at(&m, b->store->data);
            snprintf(name, sizeof name, "variable %.250s", x->name);
            TI_TRY(look(ctx, name, &view));
        }
    }
    return TERN_OK;
}

/* "conv3 backward: conv2d_dw", of several outputs "…batch_norm.new_var". */
static tern_status look_at_line(tern_ctx *ctx, const ti_line *l, const ti_bound_line *b)
{
    char name[300];

    for (int k = 0; k < l->op->n_out; k++) {
        const char *out = k && l->op->out[k].name ? l->op->out[k].name : NULL;

        if (b->work.out[k].count <= 0) continue;
        snprintf(name, sizeof name, "%.150s %s: %s%s%s", l->where ? l->where : "step",
                 l->back ? "backward" : "forward", l->op->name, out ? "." : "", out ? out : "");
        TI_TRY(look(ctx, name, &b->work.out[k]));
    }
    return TERN_OK;
}

static tern_status run_again(ti_plan *p, tern_tensor *const *in)
{
    tern_ctx *ctx = p->ctx;

    TI_TRY(look_at_start(p, in));
    ti_load_inputs(p, in);
    for (const ti_bound_line *b = p->bound->line; b->row; b++) {
        if (b->writes) continue;
        ti_run_row(b->row, &b->work);
        TI_TRY(ti_check_fault(ctx));
        TI_TRY(look_at_line(ctx, &p->line[b->i_line], b));
    }
    return TERN_OK;
}

/* Exchanges the host's variables with the copies of a run. Twice: nothing has changed. */
static void swap_host(const ti_plan *p, const ti_kept *k, char *spare)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->bound->n_host; i++) {
        const size_t bytes = p->value[p->bound->host[i]].bytes;
        char *now = ti_value_data(p, p->bound->host[i]);
        char *then = k->copies->data + 64 * (size_t)(i + 1);

        ctx->backend->copy(ctx->device, spare, now, bytes);
        ctx->backend->copy(ctx->device, now, then, bytes);
        ctx->backend->copy(ctx->device, then, spare, bytes);
    }
}

static tern_status explain(tern_program *prog, ti_kept *k)
{
    tern_ctx *ctx = prog->ctx;
    /* After a change (of threads, of an option) kernels may want other scratch than was planned. */
    const bool planned = k->plan && k->plan->key[TI_KEY_STRUCTURE] == ctx->structure;
    ti_plan *p = k->plan;

    if (!planned) { /* or the run was eager: its plan is made now */
        ti_meta *meta = ti_alloc(ctx, (size_t)(k->n_in + 1) * sizeof *meta);
        for (int i = 0; meta && i < k->n_in; i++) meta[i] = ti_canonical(&k->in[i]->m);
        p = meta ? ti_plan_for(prog, k->n_in, meta) : NULL;
        ti_free(ctx, meta);
        if (!p) return ctx->error;
    }
    TI_TRY(ti_bind(p));
    /* What shares a variable's bytes must not see them change, even for this while. */
    for (int i = 0; planned && i < p->bound->n_host; i++)
        TI_TRY(ti_unshare(p->value[p->bound->host[i]].var));
    ti_block *spare = ti_take(ctx, 64, "explain", "explain", "");
    if (!spare) return ctx->error;
    if (planned) swap_host(p, k, spare->data);
    run_again(p, k->in);
    if (planned) swap_host(p, k, spare->data);
    ti_pool_free(ctx->pool, spare);
    return ctx->error;
}

/* Whether `tripped` was set before the run: then the run skipped because of an earlier one. */
static bool was_tripped(tern_ctx *ctx, const ti_kept *k)
{
    float flag = 0;

    ctx->backend->download(ctx->device, &flag, k->copies->data, sizeof flag);
    return flag != 0;
}

tern_status tern_program_explain(tern_ctx *ctx, tern_program *prog)
{
    if (!ctx) return TERN_E_ARGUMENT;
    if (ctx->error) return ctx->error;
    if (!prog) return ti_fail(ctx, TERN_E_ARGUMENT, "explain: the program is NULL");
    if (prog->ctx != ctx)
        return ti_fail(ctx, TERN_E_ARGUMENT, "explain: the program is of another context");
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "explain: a step is running");
    if (!prog->kept[0].full) return ti_fail(ctx, TERN_E_STATE, "explain: run the program first");
    for (int tripped = 0; tripped < 2; tripped++) /* the run that tripped comes first */
        for (int i = 0; i < TI_KEPT; i++)
            if (prog->kept[i].full && was_tripped(ctx, &prog->kept[i]) == (tripped == 1))
                TI_TRY(explain(prog, &prog->kept[i]));
    return TERN_OK;
}
