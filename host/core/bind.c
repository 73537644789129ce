/*
 * bind.c - the last pass: a plan becomes an array of {row, work}, whose views point into the arena,
 * the variables and the constants.
 */
#include <string.h>

#include "core/program.h"

char *ti_value_data(const ti_plan *p, int v)
{
    size_t at;
    const ti_value *r = &p->value[ti_root_value(p, v, &at)];

    if (r->kind == TI_VARIABLE) return r->var->store->data + at;
    if (r->kind == TI_CONSTANT) return r->held->data + at;
    if (r->kind == TI_DERIVED) return p->derived->data + r->at + at;
    return p->ctx->arena->data + r->at + at;
}

/* What lies in the arena is dead between runs, so the old one goes before the new one comes. */
static tern_status grow_arena(tern_ctx *ctx, size_t bytes)
{
    if (ctx->arena && bytes <= ctx->arena->bytes) return TERN_OK;
    ti_pool_free(ctx->pool, ctx->arena);
    ctx->arena_age++;
    ctx->arena = ti_take(ctx, bytes, "arena", ctx->device_name, "the arena of a program: ");
    return ctx->error;
}

/* The block that line l writes, by a commit or straight through output k; NULL: none. */
static tern_var *written_by(const ti_plan *p, const ti_line *l, int k)
{
    size_t at;

    if (l->out[k].value < 0) return NULL;
    return p->value[ti_root_value(p, l->out[k].value, &at)].var;
}

static struct ti_bound *new_bound(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    int n_view = 0, n_var = 0;

    for (int i = 0; i < p->n_line; i++) n_view += p->line[i].n_in + TI_OUTS;
    for (int v = 0; v < p->n_value; v++) n_var += p->value[v].kind == TI_VARIABLE;
    struct ti_bound *b = ti_alloc(ctx, sizeof *b + (size_t)(p->n_line + 1) * sizeof(ti_bound_line));
    if (!b) return NULL;
    b->written = ti_alloc(ctx, (size_t)n_var * sizeof(tern_var *));
    b->host = b->written ? ti_alloc(ctx, (size_t)n_var * sizeof *b->host) : NULL;
    if (!p->views && b->host) p->views = ti_alloc(ctx, (size_t)n_view * sizeof *p->views);
    if (!ctx->error) return b;
    ti_free(ctx, b->written);
    ti_free(ctx, b->host);
    ti_free(ctx, b);
    return NULL;
}

/* Which variables the plan writes, and which small ones it reads only. */
static void sort_variables(const ti_plan *p, struct ti_bound *b)
{
    b->host_bytes = 64; /* `tripped` comes first */
    for (int i = 0; i < p->n_line; i++)
        for (int k = 0; k < p->line[i].op->n_out; k++) {
            tern_var *var = written_by(p, &p->line[i], k);
            int j = 0;

            while (var && j < b->n_written && b->written[j] != var) j++;
            if (var && j == b->n_written) b->written[b->n_written++] = var;
        }
    for (int v = 0; v < p->n_value; v++) {
        bool written = p->value[v].kind != TI_VARIABLE || p->value[v].bytes > 64;

        for (int j = 0; j < b->n_written; j++) written |= b->written[j] == p->value[v].var;
        if (written) continue;
        b->host[b->n_host++] = v;
        b->host_bytes += 64;
    }
}

/* Nothing to do: every output is empty, or each input already lies where the line would copy it. */
static bool is_idle(const ti_plan *p, const ti_line *l, const ti_work *w)
{
    const bool copies = l->op == p->commit || strcmp(l->op->name, "concat") == 0;
    bool empty = true;
    char *at = w->out[0].data;

    for (int k = 0; k < l->op->n_out; k++) empty &= w->out[k].count <= 0;
    if (empty || !copies) return empty;
    for (int k = 0; k < (l->op == p->commit ? 1 : l->n_in); k++) {
        if (w->in[k].data != at || !w->in[k].packed || !w->out[0].packed) return false;
        at += ti_bytes(&w->in[k].m);
    }
    return true;
}

static void bind_line(const ti_plan *p, const ti_line *l, ti_bound_line *b, ti_view *view)
{
    tern_ctx *ctx = p->ctx;

    for (int k = 0; k < l->n_in + TI_OUTS; k++) {
        const ti_arg *a = k < l->n_in ? &l->in[k] : &l->out[k - l->n_in];
        view[k] =
            a->value < 0 ? (ti_view){.count = -1} : ti_view_at(&a->m, ti_value_data(p, a->value));
    }
    *b = (ti_bound_line){.row = l->how->row};
    b->work = (ti_work){.op = l->op,
                        .opts = l->opts,
                        .plan = l->how->plan,
                        .n_in = l->n_in,
                        .in = view,
                        .out = view + l->n_in,
                        .device = ctx->device,
                        .fault = &ctx->fault};
    b->work.scratch = l->i_scratch < 0 ? ctx->arena->data : ti_value_data(p, l->i_scratch);
    if (l->predicated) b->work.skip = (const float *)(const void *)ti_value_data(p, p->skip);
    b->skip = ctx->backend->host_memory ? b->work.skip : NULL;
    for (int k = 0; k < l->op->n_out; k++) b->writes |= written_by(p, l, k) != NULL;
}

tern_status ti_bind(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    ti_view *view;
    int n = 0;

    TI_TRY(grow_arena(ctx, p->arena_bytes ? p->arena_bytes : 64));
    if (p->bound && p->age == ctx->arena_age) return TERN_OK;
    if (p->derived_bytes && !p->derived) {
        p->derived = ti_take(ctx, p->derived_bytes, "derived", ctx->device_name,
                             "weights as a program wants them: ");
        if (!p->derived) return ctx->error;
    }
    for (int v = 0; v < p->n_value; v++)
        if (p->value[v].kind == TI_VARIABLE) TI_TRY(ti_materialise(p->value[v].var));
    if (!p->bound) {
        if (!(p->bound = new_bound(p))) return ctx->error;
        sort_variables(p, p->bound);
    }
    view = p->views;
    ti_graph_drop(p);
    p->bound->warm = false;
    for (int i = 0; i < p->n_line; i++) {
        ti_bound_line *b = &p->bound->line[n];

        bind_line(p, &p->line[i], b, view);
        b->i_line = i;
        view += p->line[i].n_in + TI_OUTS;
        if (!is_idle(p, &p->line[i], &b->work)) n++;
    }
    p->bound->line[n].row = NULL;
    p->age = ctx->arena_age;
    return TERN_OK;
}
