/*
 * compare_line.c - one call of a compared step: in double on the reference, then on every side.
 *
 * The reference widens its arguments to double and its results are rounded into the values' bytes,
 * once; what a side makes is looked at and dropped. Hints (what a fast row leaves for its own
 * derivative) are a side's own: each hands them on to itself, and the reference has none.
 *
 * Bounds are evaluated in f64 by the ordinary CPU kernels, on wrapped operands: they are sums of
 * sizes, of which a few digits count, and the reference's plain loops would take as long again.
 */
#include <math.h>
#include <string.h>

#include "core/compare.h"
#include "core/judge.h"

/* One line while it runs. */
typedef struct {
    tern_compare *c;
    const ti_line *l;
    int i_line;
    int64_t opts[TI_OPTS / 8];
    tern_tensor **in, *out[TI_OUTS];      /* of the reference, in double */
    tern_tensor **as_bound, *to[TI_OUTS]; /* the same for bounds; as_bound NULL: not wrapped yet */
    tern_tensor **given;                  /* room for a side's inputs */
    const double *want[TI_OUTS];          /* its results, row-major */
    double *copy[TI_OUTS], *bound[TI_OUTS];
    double chain; /* that the bounds hold for, -1: there are none; and the class */
    ti_class numbers;
} line;

static const ti_arg *output_of(const line *w, int k) { return &w->l->out[k]; }
static bool is_hint(const ti_op *op, int k) { return op->out[k].kind == TI_HINT; }

/* The reference takes over what went wrong on another context. */
tern_status ti_compare_failed(tern_compare *c, tern_ctx *ctx, const char *what)
{
    if (!ctx->error) return c->ref->error;
    ti_fail(c->ref, ctx->error, "%s: %.400s", what, ctx->text);
    tern_error_clear(ctx);
    return c->ref->error;
}

/* ---- The reference ---- */

/* An argument widened to double; what is no f32 stays as it is. NULL: absent, a hint, or failed. */
static tern_tensor *widened(const tern_compare *c, const ti_arg *a)
{
    if (a->value < 0 || !c->value[a->value].bytes) return NULL;
    const tern_type type = a->m.type == TERN_F32 ? TERN_F64 : a->m.type;
    const ti_meta m = ti_packed_meta(type, a->m.shape);
    const ti_view from = ti_view_at(&a->m, c->value[a->value].bytes);
    ti_storage *s = ti_storage_new(c->ref, ti_bytes(&m));
    tern_tensor *t = ti_tensor(c->ref, &m, s, NULL, 0);

    ti_storage_drop(s);
    if (!t || from.count == 0) return t;
    const ti_view to = ti_view_at(&m, t->store->data);
    if (type != a->m.type) ti_get_all(&from, (double *)(void *)to.data);
    else ti_copy_view(&to, &from);
    return t;
}

/* Result k in double, and rounded, once, into the bytes of its value. */
static tern_status keep_result(line *w, int k)
{
    tern_ctx *ctx = w->c->ref;
    const ti_arg *a = output_of(w, k);
    ti_held *h = &w->c->value[a->value];
    const int64_t n = tern_count(a->m.shape);

    if (!(h->bytes = ti_alloc(ctx, w->c->plan->value[a->value].bytes))) return ctx->error;
    h->own = true;
    if (w->out[k]->m.type != TERN_F64 || !ti_is_packed(&w->out[k]->m)) {
        w->copy[k] = ti_alloc(ctx, (size_t)(n + 1) * sizeof(double));
        if (!w->copy[k] || tern_to_doubles(ctx, w->copy[k], w->out[k])) return ctx->error;
        w->want[k] = w->copy[k];
    }
    const ti_view to = ti_view_at(&a->m, h->bytes);
    const ti_view from = ti_view_at(&w->out[k]->m, w->out[k]->store->data);
    if (!w->want[k]) w->want[k] = (const double *)(const void *)from.data;
    if (n && from.m.type == to.m.type) ti_copy_view(&to, &from);
    else if (n) ti_put_all(&to, w->want[k]);
    return TERN_OK;
}

static tern_status run_reference(line *w)
{
    tern_ctx *ctx = w->c->ref;
    unsigned wanted = 0;

    for (int k = 0; k < w->l->op->n_out; k++)
        if (output_of(w, k)->value >= 0 && !is_hint(w->l->op, k)) wanted |= 1u << k;
    for (int k = 0; k < w->l->n_in && !ctx->error; k++) w->in[k] = widened(w->c, &w->l->in[k]);
    if (ctx->error) return ctx->error;
    TI_TRY(ti_apply(ctx, w->l->op, w->opts, w->l->n_in, w->in, wanted, w->out));
    for (int k = 0; k < w->l->op->n_out; k++)
        if (wanted >> k & 1) TI_TRY(keep_result(w, k));
    return ctx->error;
}

/* ---- Bounds ---- */

static tern_tensor *wrapped(tern_ctx *ctx, const tern_tensor *t)
{
    return t ? ti_tensor_wrap(ctx, &t->m, t->store->data) : NULL;
}

static tern_status wrap_operands(line *w)
{
    tern_ctx *ctx = w->c->bounds;

    if (w->as_bound) return TERN_OK;
    w->as_bound = ti_alloc(w->c->ref, (size_t)(w->l->n_in + 1) * sizeof(tern_tensor *));
    for (int k = 0; w->as_bound && k < w->l->n_in; k++) w->as_bound[k] = wrapped(ctx, w->in[k]);
    for (int k = 0; k < TI_OUTS; k++) w->to[k] = wrapped(ctx, w->out[k]);
    return w->c->ref->error ? w->c->ref->error : ti_compare_failed(w->c, ctx, "bounds");
}

/* The bound of result k for such a row; *to is NULL where bits must be equal. */
static tern_status bound_of(line *w, int k, const ti_choice *how, const double **to)
{
    tern_ctx *ctx = w->c->bounds;
    ti_call c = {.ctx = ctx, .op = w->l->op, .opts = w->opts, .n_in = w->l->n_in};
    const int64_t n = tern_count(w->out[k]->m.shape);

    *to = NULL;
    if (!w->l->op->bound || w->out[k]->m.type != TERN_F64) return TERN_OK;
    for (int j = 0; j < TI_OUTS; j++) {
        if (how->chain == w->chain && how->row->numbers == w->numbers) break;
        ti_free(w->c->ref, w->bound[j]);
        w->bound[j] = NULL;
    }
    w->chain = how->chain;
    c.numbers = w->numbers = how->row->numbers;
    TI_TRY(wrap_operands(w));
    c.in = w->as_bound;
    memcpy(c.out, w->to, sizeof c.out);
    if (!w->bound[k]) {
        tern_frame_begin(ctx);
        tern_tensor *b = w->l->op->bound(&c, k, how->chain);
        if (b && (w->bound[k] = ti_alloc(w->c->ref, (size_t)(n + 1) * sizeof(double))) != NULL)
            (void)!tern_to_doubles(ctx, w->bound[k], b);
        tern_frame_end(ctx);
    }
    *to = w->bound[k];
    return ti_compare_failed(w->c, ctx, "bounds");
}

/* ---- A side ---- */

/* A value on side s: what it was given before, or the reference's bytes. */
static ti_storage *on_side(tern_compare *c, int s, int v)
{
    tern_ctx *ctx = c->side[s];
    ti_held *h = &c->value[v];
    const size_t bytes = c->plan->value[v].bytes;

    if (h->on[s] || !h->bytes) return h->on[s];
    h->on[s] = ti_storage_new(ctx, bytes);
    if (h->on[s] && bytes) ctx->backend->upload(ctx->device, h->on[s]->data, h->bytes, bytes);
    return h->on[s];
}

static tern_status give_inputs(line *w, int s)
{
    tern_ctx *ctx = w->c->side[s];

    for (int k = 0; k < w->l->n_in && !ctx->error; k++) {
        const ti_arg *a = &w->l->in[k];
        ti_storage *store = a->value < 0 ? NULL : on_side(w->c, s, a->value);
        w->given[k] = store ? ti_tensor(ctx, &a->m, store, NULL, 0) : NULL;
    }
    return ctx->error;
}

/* Multiplies the largest element by 1 + rel. */
static tern_status plant(tern_compare *c, const ti_compared *e, double *x)
{
    const int64_t n = tern_count(e->t.shape);
    int64_t best = -1;

    for (int64_t i = 0; i < n; i++)
        if (best < 0 || fabs(x[i]) > fabs(x[best])) best = i;
    if (best < 0 || x[best] == 0)
        return ti_fail(c->ref, TERN_E_VALUE, "%s.%s is all zeros: no element of it can be scaled",
                       e->t.layer, e->t.name);
    x[best] *= 1 + c->fault_rel;
    if (e->t.type == TERN_F32) x[best] = (double)(float)x[best];
    return TERN_OK;
}

static tern_status judge_output(line *w, int s, int k, double *got, const double *bound,
                                const ti_row *row)
{
    tern_compare *c = w->c;
    const tern_type type = output_of(w, k)->m.type;

    for (int i = 0; i < c->n_tensor; i++) {
        const ti_compared *e = &c->tensor[i];
        tern_distance *d = &c->distance[i * c->n_side + s];

        if (e->t.call != w->i_line || e->out != k) continue;
        if (c->i_fault == i && c->fault_side == s) TI_TRY(plant(c, e, got + e->from));
        ti_judge(d, &(ti_judged){.type = type,
                                 .work = ti_working_type(w->l->n_in, w->given, type),
                                 .n = tern_count(e->t.shape),
                                 .got = got + e->from,
                                 .want = w->want[k] + e->from,
                                 .bound = bound ? bound + e->from : NULL});
        d->missing = NULL;
        d->kernel = row->impl;
    }
    return TERN_OK;
}

static tern_status look_at(line *w, int s, int k, tern_tensor *t, const ti_choice *how)
{
    tern_compare *c = w->c;
    const ti_arg *a = output_of(w, k);
    const double *bound;
    double *got;

    if (t->m.type != a->m.type || !tern_same_shape(t->m.shape, a->m.shape))
        return ti_fail(c->ref, TERN_E_STATE, "%s: %s is other there than on ref", w->l->op->name,
                       w->l->op->out[k].name);
    if (is_hint(w->l->op, k)) {
        c->value[a->value].on[s] = t->store;
        t->store->refs++;
        return TERN_OK;
    }
    TI_TRY(bound_of(w, k, how, &bound));
    if (!(got = ti_alloc(c->ref, (size_t)(tern_count(t->m.shape) + 1) * sizeof *got)))
        return c->ref->error;
    if (!tern_to_doubles(c->side[s], got, t)) (void)!judge_output(w, s, k, got, bound, how->row);
    ti_free(c->ref, got);
    return c->ref->error ? c->ref->error : c->side[s]->error;
}

/* A side without such a kernel has no such tensors; whatever else fails is a failure. */
static tern_status is_missing(line *w, int s)
{
    tern_compare *c = w->c;
    char **why = &c->missing[w->i_line * c->n_side + s];

    if (c->side[s]->error != TERN_E_UNSUPPORTED)
        return ti_compare_failed(c, c->side[s], tern_device(c->side[s]));
    if (!(*why = ti_strdup(c->ref, c->side[s]->text))) return c->ref->error;
    tern_error_clear(c->side[s]);
    for (int i = 0; i < c->n_tensor; i++)
        if (c->tensor[i].t.call == w->i_line)
            c->distance[i * c->n_side + s] = (tern_distance){.missing = *why, .worst = -1};
    return TERN_OK;
}

static tern_status run_side(line *w, int s)
{
    tern_ctx *ctx = w->c->side[s];
    const ti_op *op = w->l->op;
    tern_tensor *out[TI_OUTS];
    ti_call c = {.ctx = ctx, .op = op, .opts = w->opts, .n_in = w->l->n_in, .in = w->given};
    const ti_choice *how = NULL;
    unsigned wanted = 0;

    for (int k = 0; k < op->n_out; k++)
        if (output_of(w, k)->value >= 0) wanted |= 1u << k;
    tern_frame_begin(ctx);
    ctx->no_grad++;
    if (!give_inputs(w, s) && !ti_apply(ctx, op, w->opts, w->l->n_in, w->given, wanted, out) &&
        (how = ti_choose(ctx, &c, wanted)) != NULL)
        for (int k = 0; k < op->n_out; k++)
            if (wanted >> k & 1 && look_at(w, s, k, out[k], how)) break;
    ctx->no_grad--;
    tern_frame_end(ctx);
    if (ctx->error && !w->c->ref->error) return is_missing(w, s);
    return w->c->ref->error;
}

/* ---- The call ---- */

void ti_compare_release(tern_compare *c, ti_held *h)
{
    for (int s = 0; s < c->n_side; s++) {
        ti_storage_drop(h->on[s]);
        h->on[s] = NULL;
    }
    if (h->own) ti_free(c->ref, h->bytes);
    h->bytes = NULL;
    h->own = false;
}

tern_status ti_compare_line(tern_compare *c, int i)
{
    tern_ctx *ctx = c->ref;
    line w = {.c = c, .l = &c->plan->line[i], .i_line = i, .chain = -1};
    const size_t room = (size_t)(w.l->n_in + 1) * sizeof(tern_tensor *);

    ti_opts_fill(w.l->op, w.opts, w.l->opts);
    w.in = ti_alloc(ctx, room);
    w.given = w.in ? ti_alloc(ctx, room) : NULL;
    tern_frame_begin(ctx);
    tern_frame_begin(c->bounds);
    if (w.given && !run_reference(&w)) {
        ti_pool_trim(ctx->pool); /* a large net has large updates: only what is needed stays */
        for (int s = 0; s < c->n_side && !ctx->error; s++) {
            (void)!run_side(&w, s);
            ti_pool_trim(c->side[s]->pool);
        }
    }
    tern_frame_end(c->bounds);
    tern_frame_end(ctx);
    ti_pool_trim(c->bounds->pool);
    ti_free(ctx, w.in);
    ti_free(ctx, w.as_bound);
    ti_free(ctx, w.given);
    for (int k = 0; k < TI_OUTS; k++) {
        ti_free(ctx, w.copy[k]);
        ti_free(ctx, w.bound[k]);
    }
    for (int v = 0; v < c->plan->n_value; v++)
        if (c->value[v].last == i) ti_compare_release(c, &c->value[v]);
    return ctx->error;
}
