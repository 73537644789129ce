/*
 * trace.c - from a step to a plan.
 *
 * The user's step runs once on storages without bytes; apply notes each call as a line. At the end
 * each pending assignment becomes a commit line, and the passes make the plan of it.
 */
#include <string.h>

#include "core/program.h"

/* ---- Values and lines ---- */

int ti_add_value(ti_plan *p, ti_value_kind kind, size_t bytes)
{
    ti_value *room = ti_grow(p->ctx, p->value, p->n_value, &p->cap_value, sizeof *room);

    if (!room) return -1;
    p->value = room;
    p->value[p->n_value] = (ti_value){.kind = kind, .bytes = bytes};
    return p->n_value++;
}

/* From here on the storage is known as this value. */
static int add_storage(ti_plan *p, ti_value_kind kind, ti_storage *s, tern_var *var)
{
    const int v = ti_add_value(p, kind, s->bytes);

    if (v < 0) return v;
    p->value[v].var = var;
    s->plan = p->id;
    s->value = v;
    if (kind == TI_CONSTANT) {
        p->value[v].held = s;
        s->refs++;
    }
    return v;
}

/* The value that a storage stands for; -1 and an error if it may not be used in a trace. */
static int value_of(tern_ctx *ctx, ti_storage *s)
{
    ti_plan *p = ctx->tracing;

    if (s->plan == p->id) return s->value;
    if (!s->data) {
        ti_fail(ctx, TERN_E_TRACE, "a tensor of another trace was used: it has no values");
        return -1;
    }
    if (s->owner) {
        ti_fail(ctx, TERN_E_TRACE,
                "the value of variable %s was read outside the traced step: read it inside",
                s->owner->name);
        return -1;
    }
    return add_storage(p, TI_CONSTANT, s, NULL);
}

ti_storage *ti_traced_var(tern_ctx *ctx, tern_var *b)
{
    if (b->traced) return b->traced;
    b->traced = ti_storage_new(ctx, (size_t)b->count * tern_type_size(b->type));
    if (b->traced && add_storage(ctx->tracing, TI_VARIABLE, b->traced, b) < 0) {
        ti_storage_drop(b->traced);
        b->traced = NULL;
    }
    return b->traced;
}

tern_status ti_line_init(ti_plan *p, ti_line *l, const ti_op *op, const void *opts, int n_in,
                         ti_choice *how)
{
    *l = (ti_line){
        .op = op, .n_in = n_in, .i_scratch = -1, .where = p->ctx->where, .back = p->ctx->back};
    /* one piece of memory: the inputs, then the options */
    l->in = ti_alloc(p->ctx, (size_t)n_in * sizeof(ti_arg) + op->opts_size);
    if (!l->in) return p->ctx->error;
    l->opts = l->in + n_in;
    if (opts) memcpy(l->opts, opts, op->opts_size);
    for (int i = 0; i < TI_OUTS; i++) l->out[i].value = -1;
    l->how = how;
    how->refs++;
    return TERN_OK;
}

/* A line with room for its inputs; the caller counts it once it is whole. */
static ti_line *new_line(ti_plan *p, const ti_op *op, const void *opts, int n_in, ti_choice *how)
{
    ti_line *room = ti_grow(p->ctx, p->line, p->n_line, &p->cap_line, sizeof *room);

    if (!room) return NULL;
    p->line = room;
    return ti_line_init(p, &room[p->n_line], op, opts, n_in, how) ? NULL : &room[p->n_line];
}

void ti_line_free(ti_plan *p, ti_line *l)
{
    ti_free(p->ctx, l->in);
    if (l->how) l->how->refs--;
    *l = (ti_line){0};
}

tern_status ti_note(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                    tern_tensor *const *in, tern_tensor **out, ti_choice *how)
{
    ti_plan *p = ctx->tracing;
    ti_line *l = new_line(p, op, opts, n_in, how);

    if (!l) return ctx->error;
    for (int i = 0; i < n_in && !ctx->error; i++) {
        l->in[i].value = in[i] ? value_of(ctx, in[i]->store) : -1;
        if (in[i]) l->in[i].m = in[i]->m;
    }
    for (int i = 0; i < op->n_out && !ctx->error; i++) {
        if (!out[i]) continue;
        l->out[i].value = add_storage(p, TI_TEMPORARY, out[i]->store, NULL);
        l->out[i].m = out[i]->m;
    }
    if (ctx->error) ti_line_free(p, l);
    else p->n_line++;
    return ctx->error;
}

/* ---- The end of a trace ---- */

/* Results: old values of variables are copied before a commit overwrites them, and what lies with
 * gaps is put together, so that each is one run of bytes. */
static tern_status note_outputs(ti_plan *p, tern_tensor **out)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->n_out; i++) {
        int v = value_of(ctx, out[i]->store);

        if (v >= 0 && (p->value[v].kind == TI_VARIABLE || !ti_is_dense(&out[i]->m))) {
            out[i] = tern_copy(ctx, out[i]);
            v = out[i] ? value_of(ctx, out[i]->store) : -1;
        }
        if (v < 0) return ctx->error;
        p->out[i] = (ti_arg){v, out[i]->m};
    }
    return TERN_OK;
}

/* Pending values that are old values of variables (two are swapped) are copied first, too. */
static tern_status settle_pending(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < ctx->n_pending; i++) {
        ti_pending *q = &ctx->pending[i];
        const int v = value_of(ctx, q->value->store);

        if (v < 0) return ctx->error;
        if (p->value[v].kind != TI_VARIABLE) continue;
        tern_tensor *copy = tern_hold(tern_copy(ctx, q->value));
        if (!copy) return ctx->error;
        tern_drop(q->value);
        q->value = copy;
    }
    return TERN_OK;
}

static tern_status note_commit(ti_plan *p, const ti_pending *q, tern_tensor *skip)
{
    tern_ctx *ctx = p->ctx;
    _Alignas(8) const char no_opts[TI_OPTS] = {0};
    tern_tensor *in[2] = {q->value, q->block->always ? NULL : skip};
    ti_call c = {.ctx = ctx, .op = p->commit, .opts = no_opts, .n_in = 2, .in = in};
    ti_choice *how = ti_choose(ctx, &c, 1);
    const ti_storage *s = how ? ti_traced_var(ctx, q->block) : NULL;
    ti_line *l = s ? new_line(p, p->commit, NULL, 2, how) : NULL;

    if (!l) return ctx->error;
    l->in[0] = (ti_arg){value_of(ctx, q->value->store), q->value->m};
    l->in[1] = (ti_arg){in[1] ? p->skip : -1, skip->m};
    l->out[0] = (ti_arg){s->value, ti_packed_meta(q->block->type, TI_SHAPE(q->count))};
    l->out[0].m.offset = q->offset;
    p->n_line++;
    return ctx->error;
}

static tern_status end_trace(ti_plan *p, tern_tensor **out)
{
    tern_ctx *ctx = p->ctx;
    tern_tensor *skip;

    TI_TRY(note_outputs(p, out));
    TI_TRY(settle_pending(p));
    if (!(skip = tern_read(ctx, ctx->skip))) return ctx->error;
    p->skip = value_of(ctx, skip->store);
    for (int i = 0; i < ctx->n_pending; i++)
        if (ctx->pending[i].count > 0) TI_TRY(note_commit(p, &ctx->pending[i], skip));
    return ctx->error;
}

/* ---- Tracing ---- */

void ti_plan_free(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->n_line; i++) ti_line_free(p, &p->line[i]);
    for (int v = 0; v < p->n_value; v++) ti_storage_drop(p->value[v].held);
    ti_graph_drop(p);
    ti_pool_free(ctx->pool, p->derived);
    if (p->bound) {
        ti_free(ctx, p->bound->written);
        ti_free(ctx, p->bound->host);
    }
    ti_free(ctx, p->line);
    ti_free(ctx, p->value);
    ti_free(ctx, p->key);
    ti_free(ctx, p->granted);
    ti_free(ctx, p->bound);
    ti_free(ctx, p->views);
    ti_free(ctx, p);
}

/* Tensors without values, as values 0 … n_in-1, NULL at the end. */
static tern_status symbols(ti_plan *p, tern_tensor **t, const ti_meta *in)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->n_in; i++) {
        ti_storage *s = ti_storage_new(ctx, ti_bytes(&in[i]));
        if (s && add_storage(p, TI_INPUT, s, NULL) >= 0) t[i] = ti_tensor(ctx, &in[i], s, NULL, 0);
        ti_storage_drop(s);
        if (!t[i]) return ctx->error;
    }
    return TERN_OK;
}

/* Calls the user's function and counts its results. */
static tern_status call_step(tern_program *prog, tern_tensor **out, tern_tensor **in, int *n_out)
{
    tern_ctx *ctx = prog->ctx;
    const tern_status status = prog->step(ctx, out, in, prog->user);

    if (ctx->error) return ctx->error;
    if (status) return ti_fail(ctx, status, "the step failed without saying why");
    for (*n_out = 0; *n_out < TERN_STEP_OUT && out[*n_out];) ++*n_out;
    for (int i = *n_out; i < TERN_STEP_OUT; i++)
        if (out[i])
            return ti_fail(ctx, TERN_E_ARGUMENT, "the step made result %d but not result %d", i,
                           *n_out);
    return TERN_OK;
}

static tern_status trace(tern_program *prog, ti_plan *p, const ti_meta *in)
{
    tern_ctx *ctx = prog->ctx;
    tern_tensor *out[TERN_STEP_OUT] = {0}, **t = ti_alloc(ctx, (size_t)(p->n_in + 1) * sizeof *t);

    if (!t) return ctx->error;
    ctx->tracing = p;
    if (!symbols(p, t, in) && !ti_step_begin(ctx) && !call_step(prog, out, t, &p->n_out)) {
        ctx->no_grad++;
        ctx->where = NULL;
        end_trace(p, out);
        ctx->no_grad--;
    }
    if (!ctx->error) ti_grads_state(ctx, p->granted, NULL);
    for (int v = 0; v < p->n_value; v++)
        if (p->value[v].kind == TI_VARIABLE) {
            ti_storage_drop(p->value[v].var->traced);
            p->value[v].var->traced = NULL;
        }
    ti_step_end(ctx, false);
    ctx->tracing = NULL;
    ti_free(ctx, t);
    return ctx->error;
}

/* Each change is small, and is worth what placing says. */
static tern_status keep_limit(ti_plan *p)
{
    bool changed = true;

    for (int i = 4 * p->n_line; i > 0 && changed && p->limit && ti_plan_bytes(p) > p->limit; i--) {
        TI_TRY(ti_recompute(p, &changed));
        if (changed) TI_TRY(ti_place(p));
    }
    return TERN_OK;
}

static tern_status passes(ti_plan *p)
{
    ti_log_plan(p, "traced", false);
    TI_TRY(ti_prune(p));
    ti_log_plan(p, "pruned", false);
    if (!ti_listed(p->ctx->env.disable, "fuse")) {
        TI_TRY(ti_fuse(p));
        TI_TRY(ti_chain(p));
        ti_log_plan(p, "fused", false);
    }
    if (!ti_listed(p->ctx->env.disable, "layout")) TI_TRY(ti_lay_out(p));
    TI_TRY(ti_schedule(p));
    ti_log_plan(p, "scheduled", false);
    TI_TRY(ti_place(p));
    TI_TRY(keep_limit(p));
    ti_log_plan(p, "placed", true);
    return TERN_OK;
}

ti_plan *ti_trace(tern_program *prog, int n_in, const ti_meta *in)
{
    tern_ctx *ctx = prog->ctx;
    const int depth = ctx->depth, no_grad = ctx->no_grad;
    const bool back = ctx->back;
    const char *where = ctx->where;
    ti_plan *p = ti_alloc(ctx, sizeof *p);

    if (!p) return NULL;
    *p = (ti_plan){.ctx = ctx,
                   .commit = ti_op_named("commit"),
                   .id = ++ctx->n_plan,
                   .n_in = n_in,
                   .limit = prog->limit};
    p->granted = ti_alloc(ctx, (size_t)ti_count_params(ctx) + 1);
    tern_frame_begin(ctx);
    if (!ctx->error && !trace(prog, p, in)) passes(p);
    while (ctx->depth > depth) tern_frame_end(ctx); /* a step that failed left some open */
    ctx->no_grad = no_grad;
    ctx->back = back;
    ctx->where = where;
    if (!ctx->error) return p;
    ti_plan_free(p);
    return NULL;
}
