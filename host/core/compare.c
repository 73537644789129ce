/*
 * compare.c - a traced step, call by call on several devices, each call judged alone.
 *
 * Values are kept as a plan keeps them: one run of bytes each, in the type of the step, so that an
 * argument is a view of it and lies on a side as it does in a real step.
 */
#include "core/compare.h"

#include <math.h>
#include <string.h>

/* ---- The step ---- */

/* Inputs into their slots; variables and constants where they are. */
static tern_status load(tern_compare *c, tern_tensor *const *in)
{
    tern_ctx *ctx = c->ref;
    const ti_plan *p = c->plan;

    for (int v = 0; v < p->n_value; v++) {
        ti_held *h = &c->value[v];

        if (p->value[v].kind == TI_VARIABLE) {
            TI_TRY(ti_materialise(p->value[v].var));
            h->bytes = p->value[v].var->store->data;
        } else if (p->value[v].kind == TI_CONSTANT) {
            h->bytes = p->value[v].held->data;
        } else if (p->value[v].kind == TI_INPUT) {
            const ti_meta m = ti_canonical(&in[v]->m);
            const ti_view from = ti_view_at(&in[v]->m, in[v]->store->data);

            if (!(h->bytes = ti_alloc(ctx, p->value[v].bytes))) return ctx->error;
            h->own = true;
            const ti_view to = ti_view_at(&m, h->bytes);
            if (to.count) ti_copy_view(&to, &from);
        }
    }
    return TERN_OK;
}

/* The reference's new values, as a step commits them. */
static tern_status commit(tern_compare *c)
{
    const ti_plan *p = c->plan;
    float skip;

    memcpy(&skip, c->value[p->skip].bytes, sizeof skip);
    for (int i = 0; i < p->n_line; i++)
        if (p->line[i].op == p->commit) TI_TRY(ti_unshare(p->value[p->line[i].out[0].value].var));
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        if (l->op != p->commit || (l->in[1].value >= 0 && skip != 0)) continue;
        char *data = p->value[l->out[0].value].var->store->data;
        const ti_view to = ti_view_at(&l->out[0].m, data);
        const ti_view from = ti_view_at(&l->in[0].m, c->value[l->in[0].value].bytes);
        if (to.count > 0) memcpy(to.data, from.data, ti_bytes(&to.m));
    }
    return TERN_OK;
}

static void forget_step(tern_compare *c)
{
    for (int v = 0; v < c->plan->n_value; v++) ti_compare_release(c, &c->value[v]);
}

static void forget_missing(tern_compare *c)
{
    for (int i = 0; c->missing && i < c->plan->n_line * c->n_side; i++) {
        ti_free(c->ref, c->missing[i]);
        c->missing[i] = NULL;
    }
}

static tern_status fits(tern_compare *c, tern_tensor *const *in)
{
    for (int i = 0; i < c->plan->n_in; i++) {
        if (!in || !in[i])
            return ti_fail(c->ref, TERN_E_ARGUMENT, "compare: input %d is missing", i);
        TI_TRY(ti_own(c->ref, "compare", in[i]));
        if (ti_bytes(&in[i]->m) != c->plan->value[i].bytes)
            return ti_fail(c->ref, TERN_E_SHAPE, "compare: input %d has %zu bytes, not %zu", i,
                           ti_bytes(&in[i]->m), c->plan->value[i].bytes);
    }
    return TERN_OK;
}

tern_status tern_compare_step(tern_ctx *ctx, tern_compare *c, tern_tensor *const *in,
                              tern_compare_fn fn, void *user)
{
    if (!ti_ready(ctx, c, "compare_step")) return ctx ? ctx->error : TERN_E_ARGUMENT;
    TI_TRY(fits(c, in));
    forget_missing(c);
    memset(c->distance, 0, (size_t)(c->n_tensor * c->n_side) * sizeof *c->distance);
    c->ran = false;
    ctx->no_grad++;
    if (!load(c, in)) {
        for (int i = 0; i < c->plan->n_line && !ctx->error; i++) {
            if (c->plan->line[i].op != c->plan->commit && ti_compare_line(c, i)) break;
            if (fn) fn(user, i + 1, c->plan->n_line);
        }
        if (!ctx->error) (void)!commit(c);
    }
    ctx->no_grad--;
    forget_step(c);
    c->ran = ctx->error == TERN_OK;
    return ctx->error;
}

/* ---- Open, close, look ---- */

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_compare *c = (tern_compare *)(void *)object;

    forget_missing(c);
    for (int i = 0; i < c->n_text; i++) ti_free(ctx, c->text[i]);
    ti_free(ctx, c->text);
    ti_free(ctx, c->value);
    ti_free(ctx, c->tensor);
    ti_free(ctx, c->distance);
    ti_free(ctx, c->missing);
    (void)!tern_close(c->bounds);
}

/* Until which line a value is asked for; what a commit takes, until the end. */
static void lifetimes(tern_compare *c)
{
    const ti_plan *p = c->plan;

    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        const int last = l->op == p->commit ? p->n_line : i;

        for (int k = 0; k < l->op->n_out; k++)
            if (l->out[k].value >= 0 && c->value[l->out[k].value].last < i)
                c->value[l->out[k].value].last = i;
        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0 && c->value[l->in[k].value].last < last)
                c->value[l->in[k].value].last = last;
    }
    c->value[p->skip].last = p->n_line;
}

static tern_status check_sides(tern_ctx *ctx, int n, tern_ctx *const *side)
{
    if (n < 1 || n > TERN_SIDES)
        return ti_fail(ctx, TERN_E_ARGUMENT, "compare: %d devices; there are 1 to %d", n,
                       TERN_SIDES);
    for (int s = 0; s < n; s++) {
        if (!side[s] || side[s] == ctx)
            return ti_fail(ctx, TERN_E_ARGUMENT, "compare: side %d is no context of its own", s);
        if (side[s]->error)
            return ti_fail(ctx, TERN_E_STATE, "compare: side %d has failed: %.300s", s,
                           side[s]->text);
        if (!side[s]->backend->computes)
            return ti_fail(ctx, TERN_E_ARGUMENT, "compare: %s computes nothing",
                           tern_device(side[s]));
    }
    if (strcmp(ctx->device_name, "ref") == 0) return TERN_OK;
    return ti_fail(ctx, TERN_E_ARGUMENT, "compare: the reference is on %s, not on ref",
                   ctx->device_name);
}

/* The plan, fused or not, whatever the context is set to. */
static ti_plan *plan_of(tern_compare *c, int n, const ti_meta *meta, bool fused)
{
    char before[sizeof c->ref->env.disable];
    const size_t length = strlen(c->ref->env.disable);

    memcpy(before, c->ref->env.disable, sizeof before);
    if (fused) c->ref->env.disable[0] = 0;
    else if (length + sizeof ",fuse" <= sizeof before)
        memcpy(c->ref->env.disable + length, length ? ",fuse" : "fuse", length ? 6 : 5);
    ti_plan *p = ti_plan_for(c->program, n, meta);
    memcpy(c->ref->env.disable, before, sizeof before);
    return p;
}

static tern_status trace(tern_compare *c, tern_step step, void *user, tern_tensor *const *in,
                         bool fused)
{
    tern_ctx *ctx = c->ref;
    int n = 0;

    while (in && in[n]) n++;
    ti_meta *meta = ti_alloc(ctx, (size_t)(n + 1) * sizeof *meta);
    for (int i = 0; meta && i < n && !ti_own(ctx, "compare", in[i]); i++)
        meta[i] = ti_canonical(&in[i]->m);
    c->program = ctx->error ? NULL : tern_record(ctx, step, user);
    c->plan = c->program ? plan_of(c, n, meta, fused) : NULL;
    ti_free(ctx, meta);
    if (!c->plan) return ctx->error;
    c->value = ti_alloc(ctx, (size_t)c->plan->n_value * sizeof *c->value);
    c->missing = ti_alloc(ctx, (size_t)(c->plan->n_line * c->n_side) * sizeof(char *));
    if (!ctx->error && !ti_compare_names(c))
        c->distance = ti_alloc(ctx, (size_t)(c->n_tensor * c->n_side) * sizeof *c->distance);
    if (!ctx->error) lifetimes(c);
    return ctx->error;
}

tern_compare *tern_compare_open(tern_ctx *ctx, tern_step step, void *user, tern_tensor *const *in,
                                int n_side, tern_ctx *const *side, bool fused)
{
    tern_compare *c;

    if (!ti_ready(ctx, step && side, "compare_open") || check_sides(ctx, n_side, side)) return NULL;
    if (ctx->in_step) {
        ti_fail(ctx, TERN_E_STATE, "compare: a step is running");
        return NULL;
    }
    if (!(c = ti_object_new(ctx, sizeof *c, end))) return NULL;
    c->ref = ctx;
    c->n_side = n_side;
    c->i_fault = -1;
    memcpy(c->side, side, (size_t)n_side * sizeof(tern_ctx *));
    if (tern_open(&c->bounds, "cpu")) ti_compare_failed(c, c->bounds, "bounds");
    else c->bounds->no_grad++; /* for good */
    if (!ctx->error && !trace(c, step, user, in, fused)) return c;
    ti_object_close(ctx, c);
    return NULL;
}

void tern_compare_close(tern_ctx *ctx, tern_compare *c) { ti_object_close(ctx, c); }

bool tern_compare_at(const tern_compare *c, int i, tern_compare_tensor *tensor)
{
    if (!c || i < 0 || i >= c->n_tensor) return false;
    if (tensor) *tensor = c->tensor[i].t;
    return true;
}

bool tern_compare_distance(const tern_compare *c, int i, int i_side, tern_distance *distance)
{
    if (!c || !c->ran || i < 0 || i >= c->n_tensor || i_side < 0 || i_side >= c->n_side)
        return false;
    if (distance) *distance = c->distance[i * c->n_side + i_side];
    return true;
}

tern_status tern_compare_inject(tern_ctx *ctx, tern_compare *c, int i, int i_side, double rel)
{
    if (!ti_ready(ctx, c, "compare_inject")) return ctx ? ctx->error : TERN_E_ARGUMENT;
    if (i < 0 || i >= c->n_tensor || i_side < 0 || i_side >= c->n_side || !isfinite(rel))
        return ti_fail(ctx, TERN_E_ARGUMENT, "compare: no tensor %d, no side %d, or no factor %g",
                       i, i_side, rel);
    c->i_fault = i;
    c->fault_side = i_side;
    c->fault_rel = rel;
    return TERN_OK;
}
