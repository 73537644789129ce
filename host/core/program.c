/*
 * program.c - a step traced once per key, and replayed.
 *
 * The replay walks the array that bind.c made of a plan, without allocation or look-up. A run
 * allocates first, then loads its inputs, runs the lines, copies its results out.
 */
#include <string.h>

#include "core/program.h"

/* ---- Replay ---- */

/* TERN_CHECK=poison: what dies with line i is spoiled; the whole arena for -1. */
static void spoil(const ti_plan *p, int i)
{
    char *arena = p->ctx->arena->data;

    if (i < 0) memset(arena, 0xff, p->arena_bytes);
    for (int v = 0; v < p->n_value && i >= 0; v++) {
        const ti_value *x = &p->value[v];
        if (x->home == v && x->last == i && (x->kind == TI_INPUT || x->kind == TI_TEMPORARY))
            memset(arena + x->at, 0xff, x->bytes);
    }
}

static bool poisons(const tern_ctx *ctx)
{
    return ctx->env.check[0] && ctx->backend->host_memory && ti_listed(ctx->env.check, "poison");
}

/* The inputs are canonical, so each is one run of bytes. */
void ti_load_inputs(const ti_plan *p, tern_tensor *const *in)
{
    tern_ctx *ctx = p->ctx;

    if (poisons(ctx) && !ti_pool_watched(ctx->pool)) spoil(p, -1);
    for (int i = 0; i < p->n_in; i++) {
        const ti_view from = ti_view_at(&in[i]->m, in[i]->store->data);

        if (p->value[i].last < 0 || from.count == 0) continue; /* nobody reads it */
        ctx->backend->copy(ctx->device, ti_value_data(p, i), from.data, ti_bytes(&in[i]->m));
    }
}

/* An index that was found wrong stops the run before it writes a variable. */
static tern_status replay(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    const bool poison = poisons(ctx);

    for (const ti_bound_line *b = ti_after_derived(p); b->row; b++) {
        if (b->writes && __atomic_load_n(&ctx->fault.raised, __ATOMIC_RELAXED)) break;
        ti_watch_line(p, b->i_line);
        if (!b->skip || *b->skip == 0) ti_run_row(b->row, &b->work);
        if (poison) spoil(p, b->i_line);
        if (ctx->check_sync && ti_check_device(ctx, true)) break;
    }
    (void)!ti_check_device(ctx, false);
    return ti_check_fault(ctx);
}

static tern_status make_results(const ti_plan *p, tern_tensor **out)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->n_out; i++) {
        const ti_meta m = ti_follow_meta(p->out[i].m.type, &p->out[i].m);
        ti_storage *s = ti_storage_new(ctx, ti_bytes(&m));

        out[i] = ti_tensor(ctx, &m, s, NULL, 0);
        ti_storage_drop(s);
        if (!out[i]) return ctx->error;
    }
    return TERN_OK;
}

static void drop_kept(tern_program *prog, ti_kept *k)
{
    for (int i = 0; i < k->n_in; i++) tern_drop(k->in[i]);
    k->n_in = 0;
    k->full = false;
    ti_pool_free(prog->ctx->pool, k->copies);
    k->copies = NULL;
    k->plan = NULL;
}

/* Keeps what the run is given, and lets go of what the last but one was given. */
static tern_status keep(tern_program *prog, ti_plan *p, int n_in)
{
    tern_ctx *ctx = prog->ctx;
    ti_kept k = prog->kept[TI_KEPT - 1];
    const size_t bytes = p ? p->bound->host_bytes : 64;

    if (n_in > k.cap_in) {
        tern_tensor **room = ti_alloc(ctx, (size_t)n_in * sizeof *room);
        if (!room) return ctx->error;
        if (k.n_in) memcpy(room, k.in, (size_t)k.n_in * sizeof *room);
        ti_free(ctx, k.in);
        prog->kept[TI_KEPT - 1].in = k.in = room;
        prog->kept[TI_KEPT - 1].cap_in = k.cap_in = n_in;
    }
    if (!k.copies || k.copies->bytes < bytes) {
        ti_block *copies = ti_take(ctx, bytes, "kept", ctx->device_name, "");
        if (!copies) return ctx->error;
        ti_pool_free(ctx->pool, k.copies);
        prog->kept[TI_KEPT - 1].copies = k.copies = copies;
    }
    for (int i = 0; i < n_in; i++) tern_hold(prog->in[i]); /* first: they may be the same */
    for (int i = 0; i < k.n_in; i++) tern_drop(k.in[i]);
    if (n_in) memcpy(k.in, prog->in, (size_t)n_in * sizeof *k.in);
    k.n_in = n_in;
    k.plan = p;
    k.full = true;
    memmove(prog->kept + 1, prog->kept, (TI_KEPT - 1) * sizeof k);
    prog->kept[0] = k;
    ctx->backend->copy(ctx->device, k.copies->data, ctx->tripped->store->data, sizeof(float));
    for (int i = 0; p && i < p->bound->n_host; i++)
        ctx->backend->copy(ctx->device, k.copies->data + 64 * (size_t)(i + 1),
                           ti_value_data(p, p->bound->host[i]), p->value[p->bound->host[i]].bytes);
    return TERN_OK;
}

static void copy_results(const ti_plan *p, tern_tensor **out)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < p->n_out; i++) {
        const ti_view from = ti_view_at(&p->out[i].m, ti_value_data(p, p->out[i].value));

        if (from.count > 0)
            ctx->backend->copy(ctx->device, out[i]->store->data, from.data, ti_bytes(&out[i]->m));
    }
}

static tern_status run_graph(tern_program *prog, ti_plan *p, tern_tensor **out)
{
    tern_ctx *ctx = prog->ctx;

    ti_load_inputs(p, prog->in);
    ctx->backend->graph_run(ctx->device, p->bound->graph);
    TI_TRY(ti_check_device(ctx, false));
    copy_results(p, out);
    return TERN_OK;
}

static tern_status run_calls(tern_program *prog, ti_plan *p, tern_tensor **out)
{
    ti_watch_begin(p);
    ti_load_inputs(p, prog->in);
    if (!(p->times ? ti_replay_timed(p) : replay(p))) {
        p->bound->warm = true;
        copy_results(p, out);
    }
    ti_watch_end(p);
    return prog->ctx->error;
}

static tern_status run_plan(tern_program *prog, ti_plan *p, int n_in, tern_tensor **out)
{
    tern_ctx *ctx = prog->ctx;

    if (p->limit && ti_plan_bytes(p) > p->limit)
        return ti_fail(ctx, TERN_E_MEMORY,
                       "program_run: the step's arena takes %zu bytes, its limit is %zu",
                       ti_plan_bytes(p), p->limit);
    TI_TRY(ti_bind(p));
    for (int i = 0; i < p->bound->n_written; i++) TI_TRY(ti_unshare(p->bound->written[i]));
    TI_TRY(make_results(p, out));
    const bool graph = ti_graphs(p);
    if (graph) TI_TRY(ti_graph_ready(p));
    TI_TRY(keep(prog, p, n_in)); /* the last allocation: from here on only kernels may fail */
    TI_TRY(ti_refresh(p));
    TI_TRY(graph ? run_graph(prog, p, out) : run_calls(prog, p, out));
    ti_grads_state(ctx, NULL, p->granted);
    return TERN_OK;
}

/* ---- Keys and plans ---- */

ti_meta ti_canonical(const ti_meta *m)
{
    const bool last = m->shape.rank >= 3 && !ti_is_packed(m) && ti_is_channels_last(m);

    return last ? ti_channels_last_meta(m->type, m->shape) : ti_packed_meta(m->type, m->shape);
}

/* All that a trace depends on, as words in prog->key; how many. -1 and an error. */
static int make_key(tern_program *prog, int n_in, const ti_meta *in)
{
    tern_ctx *ctx = prog->ctx;
    const int n_flag = ti_count_params(ctx), n_flag_word = (n_flag + 7) / 8;
    const int most = 6 + n_in * (1 + TERN_RANK) + n_flag_word;
    int n = 0;

    if (most > prog->cap_key) {
        int64_t *room = ti_alloc(ctx, (size_t)most * sizeof *room);
        if (!room) return -1;
        ti_free(ctx, prog->key);
        prog->key = room;
        prog->cap_key = most;
    }
    int64_t *key = prog->key;
    key[n++] = ctx->mode | (int64_t)(ctx->no_grad > 0) << 8 | (int64_t)ctx->guard << 9;
    key[TI_KEY_STRUCTURE] = ctx->structure;
    n++;
    key[n++] = n_in;
    key[n++] = n_flag;
    key[n++] = (int64_t)prog->limit;
    for (int i = 0; i < n_in; i++) {
        const ti_meta *m = &in[i];

        key[n++] = m->shape.rank | (int64_t)m->type << 8 | (int64_t)!ti_is_packed(m) << 16;
        for (int a = 0; a < m->shape.rank; a++) key[n++] = m->shape.dim[a];
    }
    memset(key + n, 0, (size_t)n_flag_word * sizeof *key);
    if (n_flag) ti_grads_state(ctx, (bool *)(void *)(key + n), NULL);
    return n + n_flag_word;
}

/* TERN_CHECK=trace: the step must note the same lines, and freeze the same host numbers, again. */
static tern_status check_trace(tern_program *prog, const ti_plan *p, int n_in, const ti_meta *in)
{
    tern_ctx *ctx = prog->ctx;
    ti_plan *q = ti_trace(prog, n_in, in);
    int i = 0, k = 0;

    if (!q) return ctx->error;
    while (i < p->n_line && i < q->n_line && ti_same_line(&p->line[i], &q->line[i])) i++;
    const ti_line *a = i < p->n_line ? &p->line[i] : NULL, *b = i < q->n_line ? &q->line[i] : NULL;
    if (a || b)
        ti_fail(ctx, TERN_E_TRACE,
                "the step traces differently now: line %d was %s of %s, is %s of %s", i,
                a ? a->op->name : "none", a && a->where ? a->where : "the step",
                b ? b->op->name : "none", b && b->where ? b->where : "the step");
    for (k = 0; k < p->n_value && k < q->n_value && !ctx->error; k++) {
        const ti_storage *x = p->value[k].held, *y = q->value[k].held;

        if (x && y && x != y && ctx->backend->host_memory &&
            (x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0))
            ti_fail(
                ctx, TERN_E_TRACE,
                "the step traces differently now: %%%d is a constant of %zu bytes that was made "
                "outside the step, and its value has changed: make it an input or a variable",
                k, y->bytes);
    }
    ti_plan_free(q);
    return ctx->error;
}

/* The plan used longest ago goes when there are too many: steps of ever new shapes. */
static void forget_oldest(tern_program *prog)
{
    ti_plan **at = &prog->plans;

    if (prog->n_plans <= TI_PLANS) return;
    while ((*at)->next) at = &(*at)->next;
    for (int i = 0; i < TI_KEPT; i++)
        if (prog->kept[i].plan == *at) prog->kept[i].plan = NULL;
    if (prog->last == *at) prog->last = NULL;
    ti_plan_free(*at);
    *at = NULL;
    prog->n_plans--;
}

ti_plan *ti_plan_for(tern_program *prog, int n_in, const ti_meta *in)
{
    tern_ctx *ctx = prog->ctx;
    const bool check = ctx->env.check[0] && ti_listed(ctx->env.check, "trace");
    const int n_key = make_key(prog, n_in, in);
    ti_plan **at = &prog->plans, *p;

    if (n_key < 0) return NULL;
    while ((p = *at) != NULL &&
           (p->n_key != n_key || memcmp(p->key, prog->key, (size_t)n_key * sizeof *p->key) != 0))
        at = &p->next;
    if (p) {
        *at = p->next;
    } else {
        int64_t *key = ti_alloc(ctx, (size_t)n_key * sizeof *key);
        if (!key) return NULL;
        memcpy(key, prog->key, (size_t)n_key * sizeof *key);
        if (!(p = ti_trace(prog, n_in, in))) {
            ti_free(ctx, key);
            return NULL;
        }
        p->key = key;
        p->n_key = n_key;
        prog->n_traces++;
        prog->n_plans++;
    }
    p->next = prog->plans;
    prog->plans = p;
    forget_oldest(prog);
    return check && check_trace(prog, p, n_in, in) ? NULL : p;
}

/* ---- Runs ---- */

/* Room for n inputs. */
static tern_status room_for(tern_program *prog, int n)
{
    tern_ctx *ctx = prog->ctx;
    tern_tensor **in = NULL;
    ti_meta *meta = NULL;

    if (n < prog->cap_in && n < prog->cap_meta) return TERN_OK;
    in = ti_alloc(ctx, (size_t)(n + 1) * sizeof *in);
    meta = in ? ti_alloc(ctx, (size_t)(n + 1) * sizeof *meta) : NULL;
    if (!meta) {
        ti_free(ctx, in);
        return ctx->error;
    }
    ti_free(ctx, prog->in);
    ti_free(ctx, prog->meta);
    prog->in = in;
    prog->meta = meta;
    prog->cap_in = prog->cap_meta = n + 1;
    return TERN_OK;
}

/* The inputs as the step sees them, eager or traced: without history, in the layout of a slot. */
static tern_status take_inputs(tern_program *prog, int n_in, tern_tensor *const *in)
{
    tern_ctx *ctx = prog->ctx;

    TI_TRY(room_for(prog, n_in));
    ctx->no_grad++;
    for (int i = 0; i < n_in && !ctx->error && !ti_own(ctx, "program_run", in[i]); i++) {
        ti_meta m = prog->meta[i] = ti_canonical(&in[i]->m);

        m.offset = in[i]->m.offset;
        if (!in[i]->store->data)
            ti_fail(ctx, TERN_E_TRACE, "program_run: input %d has no values: it is from a trace",
                    i);
        else if (ti_same_meta(&m, &in[i]->m))
            prog->in[i] = ti_tensor(ctx, &m, in[i]->store, NULL, 0);
        else prog->in[i] = tern_copy(ctx, in[i]);
    }
    ctx->no_grad--;
    prog->in[n_in] = NULL;
    return ctx->error;
}

static tern_status run_eager(tern_program *prog, int n_in, tern_tensor **out)
{
    tern_ctx *ctx = prog->ctx;
    tern_status status = TERN_OK;
    int n_out = 0;

    TI_TRY(ti_materialise(ctx->tripped));
    TI_TRY(keep(prog, NULL, n_in));
    tern_frame_begin(ctx);
    const int depth = ctx->depth;
    tern_tensor *result[TERN_STEP_OUT] = {0};
    if (!ti_step_begin(ctx)) status = prog->step(ctx, result, prog->in, prog->user);
    if (status && !ctx->error) ti_fail(ctx, status, "the step failed without saying why");
    while (n_out < TERN_STEP_OUT && result[n_out]) n_out++;
    for (int i = n_out; i < TERN_STEP_OUT && !ctx->error; i++)
        if (result[i])
            ti_fail(ctx, TERN_E_ARGUMENT, "the step made result %d but not result %d", i, n_out);
    while (ctx->depth > depth) ti_frame_end(ctx, n_out, result); /* left open by the step */
    for (int i = 0; i < n_out && !ctx->error; i++) /* a step's results have no history */
        out[i] = ti_tensor(ctx, &result[i]->m, result[i]->store, NULL, 0);
    ti_frame_end(ctx, n_out, out); /* before the commit: the step shares no variable any more */
    if (!ctx->error) ti_step_commit(ctx);
    ti_step_end(ctx, ctx->error == TERN_OK);
    if (!ctx->error && n_out > prog->n_out) prog->n_out = n_out;
    return ctx->error;
}

static tern_status run_traced(tern_program *prog, int n_in, tern_tensor **out)
{
    ti_plan *p = ti_plan_for(prog, n_in, prog->meta);

    if (!p) return prog->ctx->error;
    TI_TRY(run_plan(prog, p, n_in, out));
    if (p->n_out > prog->n_out) prog->n_out = p->n_out;
    prog->last = p;
    return TERN_OK;
}

tern_status tern_program_run(tern_ctx *ctx, tern_tensor **out, tern_program *prog, tern_tensor **in)
{
    tern_tensor *result[TERN_STEP_OUT] = {0};
    int n_in = 0, n_out = 0;

    if (!ctx) return TERN_E_ARGUMENT;
    const int depth = ctx->depth, no_grad = ctx->no_grad;
    const bool back = ctx->back;
    const char *where = ctx->where;

    for (int i = 0; prog && out && i < prog->n_out; i++) out[i] = NULL;
    if (ctx->error) return ctx->error;
    if (!prog) return ti_fail(ctx, TERN_E_ARGUMENT, "program_run: the program is NULL");
    if (prog->ctx != ctx)
        return ti_fail(ctx, TERN_E_ARGUMENT, "program_run: the program is of another context");
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "program_run: a step is already running");
    while (in && in[n_in]) n_in++;
    tern_frame_begin(ctx);
    if (!take_inputs(prog, n_in, in)) {
        if (ctx->eager) run_eager(prog, n_in, result);
        else run_traced(prog, n_in, result);
        if (!ctx->error) ti_guard_note(ctx);
    }
    while (n_out < TERN_STEP_OUT && result[n_out]) n_out++;
    while (ctx->depth > depth) ti_frame_end(ctx, n_out, result);
    ctx->no_grad = no_grad;
    ctx->back = back;
    ctx->where = where;
    for (int i = 0; i < n_out && out && !ctx->error; i++) out[i] = result[i];
    return ctx->error;
}

tern_status tern_program_plan(tern_ctx *ctx, tern_program *prog, int n, const tern_shape *shapes,
                              const tern_type *types)
{
    char text[160];

    if (!ctx) return TERN_E_ARGUMENT;
    if (ctx->error) return ctx->error;
    if (!prog || n < 0 || (n > 0 && (!shapes || !types)))
        return ti_fail(ctx, TERN_E_ARGUMENT, "program_plan: an argument is missing");
    if (prog->ctx != ctx)
        return ti_fail(ctx, TERN_E_ARGUMENT, "program_plan: the program is of another context");
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "program_plan: a step is running");
    TI_TRY(room_for(prog, n));
    for (int i = 0; i < n; i++) {
        if ((unsigned)types[i] >= TERN_N_TYPES)
            return ti_fail(ctx, TERN_E_TYPE, "program_plan: input %d has no type", i);
        if (tern_count(shapes[i]) < 0 || tern_count(shapes[i]) > INT64_MAX / 16)
            return ti_fail(ctx, TERN_E_SHAPE, "program_plan: input %d cannot be %s", i,
                           tern_shape_text(text, shapes[i]));
        ti_meta m = ti_packed_meta(types[i], shapes[i]); /* images as loaders give them */
        if (shapes[i].rank == 4) m = ti_channels_last_meta(types[i], shapes[i]);
        prog->meta[i] = ti_canonical(&m);
    }
    ti_plan *p = ti_plan_for(prog, n, prog->meta);
    if (p) prog->last = p;
    return ctx->error;
}

tern_program *tern_record(tern_ctx *ctx, tern_step step, void *user)
{
    if (!ctx || ctx->error) return NULL;
    if (!step) {
        ti_fail(ctx, TERN_E_ARGUMENT, "record: the step is NULL");
        return NULL;
    }
    tern_program *p = ti_alloc(ctx, sizeof *p);

    if (!p) return NULL;
    ti_pool_trim(ctx->pool); /* what building the net left free would be cut up by its batches */
    *p = (tern_program){.ctx = ctx, .next = ctx->programs, .step = step, .user = user};
    return ctx->programs = p;
}

void tern_program_limit(tern_program *p, size_t bytes)
{
    if (p) p->limit = bytes;
}

static void free_program(tern_program *p)
{
    tern_ctx *ctx = p->ctx;

    for (int i = 0; i < TI_KEPT; i++) {
        drop_kept(p, &p->kept[i]);
        ti_free(ctx, p->kept[i].in);
    }
    for (ti_plan *q = p->plans, *after; q; q = after) {
        after = q->next;
        ti_plan_free(q);
    }
    ti_free(ctx, p->in);
    ti_free(ctx, p->meta);
    ti_free(ctx, p->key);
    ti_free(ctx, p->text);
    ti_free(ctx, p);
}

void tern_program_close(tern_ctx *ctx, tern_program *p)
{
    tern_program **at = ctx ? &ctx->programs : NULL;

    while (at && *at && *at != p) at = &(*at)->next;
    if (!p || !at || !*at) return;
    *at = p->next;
    free_program(p);
}

void ti_programs_close(tern_ctx *ctx)
{
    for (tern_program *p = ctx->programs, *next; p; p = next) {
        next = p->next;
        free_program(p);
    }
    ctx->programs = NULL;
    if (ctx->pool) ti_pool_free(ctx->pool, ctx->arena);
    ctx->arena = NULL;
}

size_t tern_program_peak(const tern_program *p)
{
    return p && p->last ? ti_plan_bytes(p->last) : 0;
}
int tern_program_again(const tern_program *p) { return p && p->last ? p->last->n_again : 0; }
int tern_program_traces(const tern_program *p) { return p ? p->n_traces : 0; }
const ti_plan *ti_last_plan(const tern_program *p) { return p->last; }
