/*
 * call.c - one operation kept for repetition: its kernel alone, without the way to it.
 */
#include "tern/call.h"

#include <string.h>

#include "core/core.h"
#include "core/judge.h"
#include "core/object.h"

struct tern_call {
    ti_object object;
    const ti_op *op;
    int64_t opts[TI_OPTS / 8], filled[TI_OPTS / 8]; /* as given; with defaults in place */
    unsigned wanted;
    int n_in;
    ti_choice *how; /* NULL: a view */
    bool direct;    /* the row runs on the inputs as they lie, and there is something to compute */
    ti_block *scratch;
    ti_view *in_view, out_view[TI_OUTS];
    tern_tensor **in, *out[TI_OUTS]; /* held */
};

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_call *k = (tern_call *)(void *)object;

    for (int i = 0; k->in && i < k->n_in; i++) tern_drop(k->in[i]);
    for (int i = 0; i < TI_OUTS; i++) tern_drop(k->out[i]);
    if (k->how) k->how->refs--;
    if (k->scratch) ti_pool_free(ctx->pool, k->scratch);
    ti_free(ctx, k->in);
    ti_free(ctx, k->in_view);
}

/* Scratch and views, so that a repetition is one call of the row. */
static tern_status ready(tern_ctx *ctx, tern_call *k)
{
    const size_t bytes = k->how->scratch ? k->how->scratch : 64;
    bool empty = true;

    for (int i = 0; i < TI_OUTS; i++) {
        k->out_view[i] = (ti_view){.count = -1};
        if (!k->out[i]) continue;
        k->out_view[i] = ti_view_at(&k->out[i]->m, k->out[i]->store->data);
        empty &= k->out_view[i].count == 0;
    }
    for (int i = 0; i < k->n_in; i++)
        k->in_view[i] =
            k->in[i] ? ti_view_at(&k->in[i]->m, k->in[i]->store->data) : (ti_view){.count = -1};
    k->direct = !empty && !k->how->packs;
    if (!k->direct) return TERN_OK;
    k->scratch = ti_take(ctx, bytes, "scratch", k->op->name, "scratch: ");
    return ctx->error;
}

static tern_status apply(tern_ctx *ctx, tern_call *k, tern_tensor **out)
{
    ctx->no_grad++;
    const tern_status status = ti_apply(ctx, k->op, k->opts, k->n_in, k->in, k->wanted, out);
    ctx->no_grad--;
    return status;
}

static tern_status begin(tern_ctx *ctx, tern_call *k, tern_tensor *const *in)
{
    tern_tensor *out[TI_OUTS];

    if (!(k->in = ti_alloc(ctx, (size_t)(k->n_in + 1) * sizeof(tern_tensor *))) ||
        !(k->in_view = ti_alloc(ctx, (size_t)(k->n_in + 1) * sizeof *k->in_view)))
        return ctx->error;
    for (int i = 0; i < k->n_in; i++) {
        const bool copied = i == 0 && in[0] && k->op->viewable && !k->op->viewable(in[0], k->opts);
        k->in[i] = tern_hold(copied ? tern_copy(ctx, in[0]) : in[i]);
    }
    TI_TRY(apply(ctx, k, out));
    for (int i = 0; i < TI_OUTS; i++) k->out[i] = tern_hold(out[i]);
    if (k->op->view) return TERN_OK;
    ti_opts_fill(k->op, k->filled, k->opts);
    ti_call c = {.ctx = ctx, .op = k->op, .opts = k->filled, .n_in = k->n_in, .in = k->in};
    if (!(k->how = ti_choose(ctx, &c, k->wanted))) return ctx->error;
    k->how->refs++;
    return ready(ctx, k);
}

tern_call *tern_call_open(tern_ctx *ctx, const char *name, const char *options, int n_in,
                          tern_tensor *const *in, unsigned wanted)
{
    const ti_op *op = name ? ti_op_named(name) : NULL;
    tern_call *k;

    if (!ti_ready(ctx, name && (in || n_in == 0), "call_open")) return NULL;
    if (!op) {
        ti_fail(ctx, TERN_E_ARGUMENT, "call: there is no operation \"%.60s\"", name);
        return NULL;
    }
    if (ctx->tracing || (op->n_in >= 0 ? n_in != op->n_in : n_in < 1)) {
        if (ctx->tracing) ti_fail(ctx, TERN_E_TRACE, "call: a step is being traced");
        else ti_fail(ctx, TERN_E_ARGUMENT, "call: %d inputs do not fit %s", n_in, op->name);
        return NULL;
    }
    if (!(k = ti_object_new(ctx, sizeof *k, end))) return NULL;
    k->op = op;
    k->n_in = n_in;
    k->wanted = ((1u << op->n_out) - 1) & (wanted ? wanted : ~0u);
    tern_frame_begin(ctx);
    if (!ti_opts_parse(ctx, op, k->opts, options)) (void)!begin(ctx, k, in);
    tern_frame_end(ctx);
    if (!ctx->error) return k;
    ti_object_close(ctx, k);
    return NULL;
}

void tern_call_close(tern_ctx *ctx, tern_call *call) { ti_object_close(ctx, call); }

tern_status tern_call_run(tern_ctx *ctx, tern_call *k, int64_t times)
{
    tern_tensor *out[TI_OUTS];

    if (!ti_ready(ctx, k, "call_run")) return ctx ? ctx->error : TERN_E_ARGUMENT;
    if (!k->direct) {
        for (int64_t i = 0; i < times && !ctx->error; i++) {
            tern_frame_begin(ctx);
            (void)!apply(ctx, k, out);
            tern_frame_end(ctx);
        }
    } else {
        const ti_work w = {.op = k->op,
                           .opts = k->filled,
                           .plan = k->how->plan,
                           .n_in = k->n_in,
                           .in = k->in_view,
                           .out = k->out_view,
                           .scratch = k->scratch->data,
                           .device = ctx->device,
                           .fault = &ctx->fault};
        for (int64_t i = 0; i < times; i++) ti_run_row(k->how->row, &w);
    }
    TI_TRY(ti_check_device(ctx, true));
    return ti_check_fault(ctx);
}

tern_tensor *tern_call_out(const tern_call *k, int i)
{
    return k && i >= 0 && i < TI_OUTS ? k->out[i] : NULL;
}

void tern_call_look(const tern_call *k, tern_call_info *info)
{
    static const char *const numbers[] = {"exact", "reordered", "winograd", "tf32", "bf16", "f16"};

    *info = (tern_call_info){.kernel = "view", .numbers = "exact"};
    if (!k || !k->how) return;
    ti_call c = {.op = k->op, .opts = k->filled, .n_in = k->n_in, .in = k->in};
    info->kernel = k->how->row->impl;
    info->numbers = numbers[k->how->row->numbers];
    info->scratch = k->how->scratch;
    info->packs = k->how->packs;
    info->counted = k->op->flops != NULL;
    for (int i = 0; i < k->n_in; i++)
        if (k->in[i]) {
            const double bytes = (double)ti_bytes(&k->in[i]->m);
            info->bytes += bytes;
            if (i < 32 && (k->op->twice >> i & 1)) info->again += bytes;
        }
    for (int i = TI_OUTS - 1; i >= 0; i--) {
        if (!k->out[i]) continue;
        c.meta[i] = k->out[i]->m;
        info->bytes += (double)ti_bytes(&k->out[i]->m);
        info->flops = (double)tern_count(k->out[i]->m.shape);
    }
    if (info->counted) info->flops = k->op->flops(&c);
}

/* ---- Against the reference ---- */

static bool is_hint(const tern_call *k, int i)
{
    /* What X_d takes beyond X's inputs and their cotangents only spares fast rows work. */
    const ti_op *x = k->op->composed;
    int n = x ? x->n_in : 0;

    for (int j = 0; x && j < x->n_out; j++) n += x->out[j].kind == TI_DIFF;
    return x && i >= n && k->op->optional >> i & 1;
}

/* Input i with the same values on ref, f32 widened; operands rounded as the math mode has it. */
static tern_tensor *widened(tern_ctx *ctx, tern_ctx *ref, const tern_call *k, int i)
{
    tern_tensor *t = k->in[i];
    const tern_type type = t->m.type == TERN_F32 ? TERN_F64 : t->m.type;
    const int64_t n = tern_count(t->m.shape);
    double *x = ti_alloc(ctx, (size_t)(n + 1) * sizeof *x);
    tern_tensor *to = NULL;

    if (x && !tern_to_doubles(ctx, x, t)) to = tern_from_doubles(ref, type, x, t->m.shape);
    ti_free(ctx, x);
    return to && t->m.type == TERN_F32 && ti_is_operand(k->op, i)
               ? tern_round_to(ref, to, ctx->math)
               : to;
}

static void add(tern_call_error *e, const char *name, const ti_judged *judged)
{
    tern_distance d;

    ti_judge(&d, judged);
    e->n += d.n;
    e->n_beyond += d.n_beyond;
    if (d.worst < 0 || d.share <= e->share) return;
    e->share = d.share;
    e->worst_name = name;
    e->worst = d.worst;
    e->got = d.got;
    e->want = d.want;
}

/* The call `c` on ref, seen from a context on the CPU: bounds are sums of sizes, of which a few
 * digits count, and the reference's plain loops would take long. in: room for the inputs. */
static tern_status for_bounds(ti_call *b, tern_ctx *cpu, const ti_call *c, tern_tensor **in)
{
    *b = *c;
    b->ctx = cpu;
    b->in = in;
    for (int i = 0; i < c->n_in; i++)
        in[i] = c->in[i] ? ti_tensor_wrap(cpu, &c->in[i]->m, c->in[i]->store->data) : NULL;
    for (int i = 0; i < c->op->n_out; i++)
        if (c->out[i]) b->out[i] = ti_tensor_wrap(cpu, &c->out[i]->m, c->out[i]->store->data);
    return cpu->error;
}

/* Output i of the call; `c` is the same call on ref, with its outputs, `b` the same for bounds. */
static tern_status check_output(tern_ctx *ctx, tern_call_error *e, tern_call *k, const ti_call *c,
                                const ti_call *b, int i)
{
    tern_tensor *bound = NULL, *want = c->out[i], *got = k->out[i];
    const int64_t n = tern_count(want->m.shape);
    double *x;

    if (k->op->bound && want->m.type == TERN_F64)
        bound = k->op->bound(b, i, k->how ? k->how->chain : 1);
    if (b->ctx->error) return b->ctx->error;
    if (!(x = ti_alloc(ctx, (size_t)(3 * n + 1) * sizeof *x))) return ctx->error;
    if (!tern_to_doubles(ctx, x, got) && !tern_to_doubles(c->ctx, x + n, want) &&
        (!bound || !tern_to_doubles(b->ctx, x + 2 * n, bound))) {
        const tern_type type = got->m.type;
        const ti_judged judged = {.type = type,
                                  .work = ti_working_type(k->n_in, k->in, type),
                                  .n = n,
                                  .got = x,
                                  .want = x + n,
                                  .bound = bound ? x + 2 * n : NULL};
        add(e, k->op->out[i].name, &judged);
    }
    ti_free(ctx, x);
    return ctx->error;
}

/* The call on ref in f64, and each output that both have against it. */
static void check(tern_ctx *ctx, tern_call_error *e, tern_call *k, ti_call *c, tern_ctx *cpu)
{
    tern_tensor **in = ti_alloc(ctx, (size_t)(2 * k->n_in + 1) * sizeof(tern_tensor *));
    ti_call b;

    if (!in) return;
    c->in = in;
    for (int i = 0; i < k->n_in && !ctx->error; i++)
        if (k->in[i] && !is_hint(k, i)) in[i] = widened(ctx, c->ctx, k, i);
    if (!ctx->error && !ti_apply(c->ctx, k->op, k->opts, k->n_in, in, k->wanted, c->out) &&
        !for_bounds(&b, cpu, c, in + k->n_in))
        for (int i = 0; i < k->op->n_out; i++)
            if (k->op->out[i].kind != TI_HINT && c->out[i] && k->out[i])
                if (check_output(ctx, e, k, c, &b, i)) break;
    ti_free(ctx, in);
}

/* The context takes over what went wrong on another. */
static void take_error(tern_ctx *ctx, const char *where, tern_ctx *other)
{
    if (other->error && !ctx->error)
        ti_fail(ctx, other->error, "on %s: %.400s", where, other->text);
    tern_error_clear(other);
}

tern_status tern_call_check(tern_ctx *ctx, tern_call_error *e, tern_call *k, tern_ctx *ref)
{
    int64_t filled[TI_OPTS / 8];
    tern_ctx *cpu;

    if (!ti_ready(ctx, e && k && ref && ref != ctx, "call_check"))
        return ctx ? ctx->error : TERN_E_ARGUMENT;
    *e = (tern_call_error){.worst = -1};
    TI_TRY(tern_call_run(ctx, k, 1));
    if (tern_open(&cpu, "cpu") == TERN_OK) {
        ti_opts_fill(k->op, filled, k->opts);
        ti_call c = {.ctx = ref, .op = k->op, .opts = filled, .n_in = k->n_in};
        if (k->how) c.numbers = k->how->row->numbers;
        cpu->no_grad++; /* for good */
        ref->no_grad++;
        tern_frame_begin(ref);
        tern_frame_begin(cpu);
        check(ctx, e, k, &c, cpu);
        tern_frame_end(cpu);
        tern_frame_end(ref);
        ref->no_grad--;
    }
    take_error(ctx, "ref", ref);
    if (!cpu) return ctx->error ? ctx->error : ti_fail(ctx, TERN_E_MEMORY, "call_check: no memory");
    take_error(ctx, "cpu", cpu);
    (void)!tern_close(cpu);
    return ctx->error;
}

tern_status tern_memory_cycle(tern_ctx *ctx, size_t bytes, int64_t times)
{
    if (!ti_ready(ctx, ctx != NULL, "memory_cycle")) return ctx ? ctx->error : TERN_E_ARGUMENT;
    for (int64_t i = 0; i < times; i++) {
        ti_block *block = ti_take(ctx, bytes, "memory_cycle", "memory_cycle", "");

        if (!block) return ctx->error;
        ti_pool_free(ctx->pool, block);
    }
    return TERN_OK;
}
