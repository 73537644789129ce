/*
 * tape.c - what a gradient needs, and the walks over it.
 *
 * The tape is a graph that hangs on its results: a tensor owns the node that made it, a node its
 * inputs. Nodes that name an output keep it without history (or it would own itself) and hand it
 * to `grad` re-attached, so that a recorded gradient depends on it as on any tensor.
 */
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

ti_node *ti_node_new(tern_ctx *ctx, int n_in, size_t opts_bytes)
{
    const size_t list = (size_t)n_in * sizeof(tern_tensor *);
    ti_node *n = ti_alloc(ctx, sizeof *n + list + opts_bytes);

    if (!n) return NULL;
    n->refs = 1;
    n->ctx = ctx;
    n->n_in = n_in;
    n->in = (tern_tensor **)(void *)(n + 1);
    n->opts = (char *)(n + 1) + list;
    n->seq = ++ctx->seq;
    n->where = ctx->where;
    return n;
}

static void forget(ti_node *n) /* what it keeps alive */
{
    for (int i = 0; i < n->n_in; i++) {
        tern_tensor *t = n->in[i];
        n->in[i] = NULL;
        tern_drop(t);
    }
    for (int i = 0; n->op && i < n->op->n_out; i++) {
        tern_tensor *t = n->saved[i];
        n->saved[i] = NULL;
        tern_drop(t);
    }
}

/* Deep tapes die in a loop, not by recursion. */
void ti_node_drop(ti_node *n)
{
    if (!n || --n->refs > 0) return;
    tern_ctx *ctx = n->ctx;

    n->next_dead = ctx->dead;
    ctx->dead = n;
    if (ctx->reaping) return;
    ctx->reaping = true;
    while ((n = ctx->dead) != NULL) {
        ctx->dead = n->next_dead;
        forget(n);
        ti_free(ctx, n);
    }
    ctx->reaping = false;
}

void ti_record(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in, tern_tensor *const *in,
               tern_tensor **out)
{
    bool tracked = false;
    ti_node *n;

    for (int i = 0; i < n_in; i++) tracked |= in[i] && in[i]->node;
    if (!tracked || !(n = ti_node_new(ctx, n_in, op->opts_size))) return;
    n->op = op;
    if (op->opts_size) memcpy(n->opts, opts, op->opts_size);
    for (int i = 0; i < n_in; i++) n->in[i] = tern_hold(in[i]);
    for (int i = 0; i < op->n_out; i++) {
        if (!out[i] || !(op->saves >> i & 1)) continue;
        n->saved[i] = tern_hold(ti_tensor(ctx, &out[i]->m, out[i]->store, NULL, i));
    }
    for (int i = 0; i < op->n_out && !ctx->error; i++) {
        if (!out[i] || op->out[i].kind != TI_DIFF) continue;
        out[i]->node = n;
        out[i]->i_out = i;
        n->refs++;
    }
    ti_node_drop(n);
}

tern_tensor *tern_track(tern_ctx *ctx, tern_tensor *x)
{
    if (x && !tern_error(ctx)) ti_own(ctx, "track", x);
    if (x && !tern_error(ctx) && !((1u << x->m.type) & TI_STORED_FLOATS))
        ti_fail(ctx, TERN_E_TYPE, "track: %s has no derivatives", tern_type_name(x->m.type));
    ti_node *leaf = x && !tern_error(ctx) ? ti_node_new(ctx, 0, 0) : NULL;
    tern_tensor *t = leaf ? ti_tensor(ctx, &x->m, x->store, leaf, 0) : NULL;

    ti_node_drop(leaf);
    return t;
}

tern_tensor *tern_detach(tern_ctx *ctx, tern_tensor *x)
{
    if (!x || tern_error(ctx) || ti_own(ctx, "detach", x)) return NULL;
    return ti_tensor(ctx, &x->m, x->store, NULL, 0);
}

bool tern_is_tracked(const tern_tensor *x) { return x && x->node; }

void tern_no_grad_begin(tern_ctx *ctx)
{
    if (ctx) ctx->no_grad++;
}

void tern_no_grad_end(tern_ctx *ctx)
{
    if (!ctx) return;
    if (ctx->no_grad > 0) ctx->no_grad--;
    else ti_fail(ctx, TERN_E_STATE, "no_grad_end: no scope is open");
}

/*
 * One walk: the nodes that the results reach, earliest first, and their cotangents so far.
 * A gradient rule may walk too (X_d does), so a walk puts back the marks it found.
 */
typedef struct {
    ti_node *node;
    uint64_t walk; /* the node's marks before */
    int i_walk;
    bool needed, target;
} stop;

typedef struct {
    tern_ctx *ctx;
    uint64_t id;
    stop *at;
    int n, cap;
    tern_tensor *(*g)[TI_OUTS]; /* per node: cotangents, held */
    bool consume;
} walk;

static bool seen(const walk *w, const ti_node *n) { return n && n->walk == w->id; }
static bool needed(const walk *w, const tern_tensor *t)
{
    return t && seen(w, t->node) && t->node->needed;
}

static bool visit(walk *w, ti_node *n)
{
    stop *room;

    if (!n || seen(w, n)) return true;
    room = ti_grow(w->ctx, w->at, w->n, &w->cap, sizeof *room);
    if (!room) return false;
    w->at = room;
    w->at[w->n++] = (stop){n, n->walk, n->i_walk, n->needed, false};
    n->walk = w->id;
    n->needed = false;
    n->refs++;
    return true;
}

/* Earliest first. A chain of calls is met latest first: it needs no sort. */
static void turn_round(walk *w)
{
    for (int i = 0, j = w->n - 1; i < j; i++, j--) {
        const stop first = w->at[i];
        w->at[i] = w->at[j];
        w->at[j] = first;
    }
}

static int by_seq(const void *a, const void *b)
{
    const uint64_t x = ((const stop *)a)->node->seq, y = ((const stop *)b)->node->seq;

    return x < y ? -1 : x > y;
}

static tern_status begin(walk *w, int n_y, tern_tensor *const *y)
{
    tern_ctx *ctx = w->ctx;

    w->id = ++ctx->walk;
    for (int i = 0; i < n_y; i++)
        if (!visit(w, y[i]->node)) return ctx->error;
    for (int i = 0; i < w->n; i++) /* the list is its own queue */
        for (int j = 0; j < w->at[i].node->n_in; j++) {
            const tern_tensor *t = w->at[i].node->in[j];
            if (t && !visit(w, t->node)) return ctx->error;
        }
    bool chain = true;
    for (int i = 1; i < w->n; i++) chain &= w->at[i - 1].node->seq > w->at[i].node->seq;
    if (chain) turn_round(w);
    else qsort(w->at, (size_t)w->n, sizeof *w->at, by_seq);
    for (int i = 0; i < w->n; i++) w->at[i].node->i_walk = i;
    w->g = ti_alloc(ctx, (size_t)w->n * sizeof *w->g);
    return ctx->error;
}

static void want(walk *w, ti_node *n)
{
    if (seen(w, n)) w->at[n->i_walk].target = n->needed = true;
}

/* Adds d to the cotangent of (node, i_out). */
static void add_to(walk *w, const ti_node *n, int i_out, tern_tensor *d)
{
    tern_tensor **slot = &w->g[n->i_walk][i_out], *old = *slot;

    *slot = tern_hold(old ? tern_add(w->ctx, old, d) : d);
    tern_drop(old);
}

/* One step of the walk, in a frame of its own. */
static tern_status pull(walk *w, ti_node *n, tern_tensor *const *g)
{
    tern_ctx *ctx = w->ctx;
    const char *where = ctx->where;
    tern_tensor *few[TI_FEW], **d = few;
    bool few_wants[TI_FEW], *wants = few_wants;
    ti_call c; /* its metas stay unset: they are large, and shape rules are not asked here */

    if (n->n_in > TI_FEW) {
        if (!(d = ti_alloc(ctx, (size_t)n->n_in * (sizeof *d + sizeof *wants)))) return ctx->error;
        wants = (bool *)(void *)(d + n->n_in);
    }
    c.ctx = ctx;
    c.op = n->op;
    c.opts = n->opts;
    c.n_in = n->n_in;
    c.in = n->in;
    c.wants = wants;
    for (int i = 0; i < TI_OUTS; i++) c.out[i] = NULL;
    for (int i = 0; i < n->n_in; i++) {
        d[i] = NULL;
        wants[i] = needed(w, n->in[i]);
    }
    tern_frame_begin(ctx);
    ctx->where = n->where;
    for (int i = 0; i < n->op->n_out; i++) {
        const tern_tensor *s = n->saved[i];
        if (s)
            c.out[i] = ti_tensor(ctx, &s->m, s->store, n->op->out[i].kind == TI_DIFF ? n : NULL, i);
    }
    if (!ctx->error) n->op->grad(&c, g, d);
    for (int i = 0; i < n->n_in && !ctx->error; i++)
        if (wants[i] && d[i]) add_to(w, n->in[i]->node, n->in[i]->i_out, d[i]);
    ctx->where = where;
    tern_frame_end(ctx);
    if (d != few) ti_free(ctx, d);
    return ctx->error;
}

static tern_status descend(walk *w)
{
    tern_ctx *ctx = w->ctx;
    const bool back = ctx->back;

    for (int i = 0; i < w->n; i++) { /* needed: a target, or on the way to one */
        ti_node *n = w->at[i].node;
        for (int j = 0; j < n->n_in && !n->needed; j++) n->needed = needed(w, n->in[j]);
    }
    ctx->back = true;
    for (int i = w->n; i-- > 0 && !ctx->error;) {
        ti_node *n = w->at[i].node;
        bool any = false, on = false;

        const int n_out = n->op ? n->op->n_out : 1;

        for (int k = 0; k < n_out; k++) any |= w->g[i][k] != NULL;
        for (int j = 0; j < n->n_in; j++) on |= needed(w, n->in[j]);
        if (any && n->consumed)
            ti_fail(ctx, TERN_E_STATE,
                    "the tape behind this %s was consumed by an earlier "
                    "tern_backward",
                    n->op->name);
        if (!any || !on || ctx->error || pull(w, n, w->g[i])) continue;
        if (w->consume) {
            forget(n);
            n->consumed = true;
        }
        for (int k = 0; k < n_out && !w->at[i].target; k++) {
            tern_drop(w->g[i][k]);
            w->g[i][k] = NULL;
        }
    }
    ctx->back = back;
    return ctx->error;
}

static void end(walk *w)
{
    for (int i = 0; i < w->n; i++) {
        stop *s = &w->at[i];
        const int n_out = s->node->op ? s->node->op->n_out : 1;
        for (int k = 0; w->g && k < n_out; k++) tern_drop(w->g[i][k]);
        s->node->walk = s->walk;
        s->node->i_walk = s->i_walk;
        s->node->needed = s->needed;
        ti_node_drop(s->node);
    }
    ti_free(w->ctx, w->g);
    ti_free(w->ctx, w->at);
}

/* The cotangent of y: given, or ones. */
static void seed(walk *w, tern_tensor *y, tern_tensor *gy)
{
    tern_tensor *g = gy ? gy : tern_fill(w->ctx, y->m.type, y->m.shape, 1);
    char a[160], b[160];

    if (g && (!tern_same_shape(g->m.shape, y->m.shape) || g->m.type != y->m.type)) {
        ti_fail(w->ctx, TERN_E_SHAPE, "grads: the cotangent %s %s does not fit the result %s %s",
                tern_type_name(g->m.type), tern_shape_text(a, g->m.shape),
                tern_type_name(y->m.type), tern_shape_text(b, y->m.shape));
        return;
    }

    if (g && y->node) add_to(w, y->node, y->i_out, g);
}

tern_status tern_grads(tern_ctx *ctx, tern_tensor **d, int n_y, tern_tensor *const *y,
                       tern_tensor *const *gy, int n_x, tern_tensor *const *x)
{
    walk w = {.ctx = ctx};

    for (int i = 0; d && i < n_x; i++) d[i] = NULL;
    if (tern_error(ctx)) return tern_error(ctx);
    if (n_y < 1 || n_x < 1 || !d || !y || !x)
        return ti_fail(ctx, TERN_E_ARGUMENT, "grads: %s",
                       n_y < 1 || n_x < 1 ? "no results or no inputs were given"
                                          : "a list of tensors is NULL");
    for (int i = 0; i < n_y && !ctx->error; i++)
        if (!y[i]) return ti_fail(ctx, TERN_E_ARGUMENT, "grads: result %d is NULL", i);
        else if (ti_own(ctx, "grads", y[i]) || (gy && gy[i] && ti_own(ctx, "grads", gy[i]))) break;
    for (int i = 0; i < n_x && !ctx->error; i++)
        if (!x[i] || !x[i]->node)
            return ti_fail(ctx, TERN_E_ARGUMENT, "grads: input %d is not tracked", i);
        else if (ti_own(ctx, "grads", x[i])) break;
    if (ctx->error) return ctx->error;
    tern_frame_begin(ctx);
    if (!begin(&w, n_y, y)) {
        for (int i = 0; i < n_x; i++) want(&w, x[i]->node);
        for (int i = 0; i < n_y; i++) seed(&w, y[i], gy ? gy[i] : NULL);
        descend(&w);
    }
    for (int i = 0; i < n_x && !ctx->error; i++) {
        tern_tensor *g = seen(&w, x[i]->node) ? w.g[x[i]->node->i_walk][x[i]->i_out] : NULL;
        if (g) d[i] = ti_tensor(ctx, &g->m, g->store, g->node, g->i_out);
        else d[i] = tern_fill(ctx, x[i]->m.type, x[i]->m.shape, 0);
    }
    end(&w);
    ti_frame_end(ctx, n_x, d);
    return ctx->error;
}

/* The block's new gradients: one concat of what each parameter has and gets; what it gets is
 * multiplied by `factor` (a scalar; NULL: by 1). */
static void grant(walk *w, tern_var *block, tern_tensor *factor)
{
    tern_ctx *ctx = w->ctx;
    tern_tensor **piece = NULL;
    bool any = false;

    for (int i = 0; i < block->n_params; i++) {
        const ti_node *leaf = block->params[i]->leaf;
        any |= seen(w, leaf) && w->g[leaf->i_walk][0] != NULL;
    }
    if (!any || !(piece = ti_alloc(ctx, (size_t)block->n_params * sizeof *piece))) return;
    for (int i = 0; i < block->n_params && !ctx->error; i++) {
        tern_var *v = block->params[i];
        tern_tensor *d = seen(w, v->leaf) ? w->g[v->leaf->i_walk][0] : NULL, *old = NULL;

        if (d) d = tern_reshape(ctx, d, TI_SHAPE(v->count));
        if (d && factor) d = tern_mul(ctx, d, tern_cast(ctx, factor, v->type));
        if (v->has_grad) old = tern_block_read(ctx, block->grads, v->offset, v->count);
        piece[i] = d && old ? tern_add(ctx, old, d) : d ? d : old;
        if (!piece[i]) piece[i] = tern_fill(ctx, v->type, TI_SHAPE(v->count), 0);
    }
    if (!ctx->error &&
        !tern_block_assign(ctx, block->grads, 0, tern_concat(ctx, block->n_params, piece, 0)))
        for (int i = 0; i < block->n_params; i++) {
            tern_var *v = block->params[i];
            v->has_grad |= seen(w, v->leaf) && w->g[v->leaf->i_walk][0] != NULL;
        }
    ti_free(ctx, piece);
}

/* Blocks with parameters whose gradients are wanted. */
static tern_var *next_block(tern_var *v, const tern_var *only)
{
    while (v && !(v->block == v && v->n_params && (!only || v == only))) v = v->next;
    return v;
}

/* Parameters of a block (NULL: of all) that touch elements from … from+count. */
static tern_status backward(tern_ctx *ctx, tern_tensor *loss, tern_var *block, int64_t from,
                            int64_t count)
{
    walk w = {.ctx = ctx, .consume = true};
    tern_tensor *scale = NULL, *factor = NULL;
    char text[160];

    if (tern_error(ctx)) return tern_error(ctx);
    if (!loss) return ti_fail(ctx, TERN_E_ARGUMENT, "backward: the loss is NULL");
    TI_TRY(ti_own(ctx, "backward", loss));
    if (block && block->ctx != ctx)
        return ti_fail(ctx, TERN_E_ARGUMENT, "backward: %s belongs to another context",
                       block->name);
    if (tern_count(loss->m.shape) != 1)
        return ti_fail(ctx, TERN_E_SHAPE, "backward: the loss is %s, not a scalar",
                       tern_shape_text(text, loss->m.shape));
    if (!loss->node)
        return ti_fail(ctx, TERN_E_STATE, "backward: the loss depends on nothing tracked");
    tern_frame_begin(ctx);
    tern_no_grad_begin(ctx);
    if (!begin(&w, 1, &loss)) {
        for (tern_var *b = next_block(ctx->vars, block); b; b = next_block(b->next, block))
            for (int i = 0; i < b->n_params; i++) {
                const tern_var *v = b->params[i];
                if (v->offset < from + count && v->offset + v->count > from) want(&w, v->leaf);
            }
        if (ctx->math == TERN_MATH_F16 && loss->m.type == TERN_F32) {
            scale = tern_read(ctx, ctx->loss_scale);
            factor = tern_div(ctx, tern_fill(ctx, TERN_F32, TI_SCALAR, 1), scale);
            scale = tern_reshape(ctx, scale, loss->m.shape);
        }
        seed(&w, loss, scale);
        descend(&w);
        for (tern_var *b = next_block(ctx->vars, block); b && !ctx->error;
             b = next_block(b->next, block))
            grant(&w, b, factor);
    }
    end(&w);
    if (ctx->in_step && !ctx->error) {
        tern_drop(ctx->loss);
        ctx->loss = tern_hold(tern_detach(ctx, loss));
    }
    tern_no_grad_end(ctx);
    tern_frame_end(ctx);
    return ctx->error;
}

tern_status tern_backward_block(tern_ctx *ctx, tern_tensor *loss, tern_var *block)
{
    return backward(ctx, loss, block, 0, block ? block->count : INT64_MAX / 2);
}

tern_status tern_backward_range(tern_ctx *ctx, tern_tensor *loss, tern_var *block, int64_t from,
                                int64_t count)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!block || from < 0 || count < 1 || from > block->count - count)
        return ti_fail(ctx, TERN_E_ARGUMENT, "backward: %lld elements from %lld of %s",
                       (long long)count, (long long)from, block ? block->name : "no block");
    return backward(ctx, loss, block, from, count);
}

/* ---- Fused operations ---- */

static int count_diffs(const ti_op *op)
{
    int n = 0;

    for (int i = 0; i < op->n_out; i++) n += op->out[i].kind == TI_DIFF;
    return n;
}

void ti_fused_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d, const ti_op *d_op,
                   int n_extra, tern_tensor *const *extra)
{
    tern_tensor *in[TI_FEW], *out[TI_OUTS];
    unsigned wanted = 0;
    bool any = false;
    int n = 0;

    for (int i = 0; i < c->n_in; i++) in[n++] = d_op->d_needs >> i & 1 ? c->in[i] : NULL;
    for (int i = 0; i < c->op->n_out; i++)
        if (c->op->out[i].kind == TI_DIFF) any |= (in[n++] = g[i]) != NULL;
    for (int i = 0; i < n_extra; i++) in[n++] = extra[i];
    for (int i = 0; i < d_op->n_out; i++)
        wanted |= (unsigned)(c->wants[i] && c->in[i] != NULL) << i;
    if (!any || !wanted) return;
    if (!ti_apply(c->ctx, d_op, c->opts, n, in, wanted, out))
        for (int i = 0; i < d_op->n_out; i++) d[i] = out[i];
}

/*
 * The gradient of X_d(in, gy, extras). X's composition runs again on aliases of the true inputs,
 * so that a tensor given twice is told apart, and what is recorded leads on to the originals:
 * differentiate <y(in), gy> once for X_d's outputs, then those against their cotangents.
 */
void ti_composed_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    const ti_op *x = c->op->composed;
    const int n_in = x->n_in, n_d = c->op->n_out, n_y = count_diffs(x), no_grad = ctx->no_grad;
    tern_tensor *in[TI_FEW] = {0}, *y[TI_OUTS] = {0}, *ys[TI_OUTS], *gys[TI_OUTS];
    tern_tensor *of[TI_FEW], *first[TI_FEW], *at[TI_FEW], *gs[TI_FEW], *to[TI_FEW], *gd[TI_FEW];
    int which_d[TI_FEW], which_in[TI_FEW], n_of = 0, n_ys = 0, n = 0, n_to = 0;

    ctx->no_grad = 0;
    for (int i = 0; i < n_in + n_y; i++) { /* the last ones are cotangents */
        if (!c->in[i]) continue;
        const bool real = (TI_STORED_FLOATS >> c->in[i]->m.type & 1) != 0; /* not class indices */
        const bool differs = real && (i < n_d || i >= n_in);
        in[i] = differs && c->in[i]->node ? ti_alias(ctx, c->in[i])
                : differs                 ? tern_track(ctx, c->in[i])
                                          : tern_detach(ctx, c->in[i]);
        if (differs && i < n_d && in[i]) {
            which_d[n_of] = i;
            of[n_of++] = in[i];
        }
    }
    const ti_call xc = {.ctx = ctx, .op = x, .opts = c->opts, .n_in = n_in, .in = in};
    if (!ctx->error && !x->compose(&xc, y))
        for (int i = 0; i < n_y; i++) {
            if (!y[i] || !in[n_in + i] || !y[i]->node) continue;
            ys[n_ys] = y[i];
            gys[n_ys++] = in[n_in + i];
        }
    if (!ctx->error && n_ys && n_of && tern_grads(ctx, first, n_ys, ys, gys, n_of, of)) n_of = 0;
    ctx->no_grad = no_grad;
    if (ctx->error || !n_ys) return;
    for (int i = 0; i < n_of; i++) {
        if (!g[which_d[i]] || !first[i]->node) continue;
        at[n] = first[i];
        gs[n++] = g[which_d[i]];
    }
    for (int i = 0; i < n_in + n_y; i++) {
        if (!in[i] || !c->wants[i]) continue;
        which_in[n_to] = i;
        to[n_to++] = in[i];
    }
    if (n && n_to && !tern_grads(ctx, gd, n, at, gs, n_to, to))
        for (int i = 0; i < n_to; i++) d[which_in[i]] = gd[i];
}

/* The composition runs again on aliases of the inputs, and what is recorded leads on. */
void ti_compose_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    const int no_grad = ctx->no_grad;
    tern_tensor *in[TI_FEW] = {0}, *y[TI_OUTS] = {0}, *ys[TI_OUTS], *gs[TI_OUTS];
    tern_tensor *to[TI_FEW], *gd[TI_FEW];
    int which[TI_FEW], n_y = 0, n_to = 0, k = 0;

    ctx->no_grad = 0;
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i]) continue;
        in[i] = !c->wants[i] ? tern_detach(ctx, c->in[i]) : ti_alias(ctx, c->in[i]);
        if (!c->wants[i]) continue;
        which[n_to] = i;
        to[n_to++] = in[i];
    }
    ti_call own = *c;
    own.in = in;
    const bool made = !ctx->error && !c->op->compose(&own, y);
    ctx->no_grad = no_grad;
    for (int i = 0; made && i < c->op->n_out; i++) {
        if (c->op->out[i].kind != TI_DIFF) continue;
        if (g[i] && y[k] && y[k]->node) {
            ys[n_y] = y[k];
            gs[n_y++] = g[i];
        }
        k++;
    }
    if (!made || !n_y || !n_to || tern_grads(ctx, gd, n_y, ys, gs, n_to, to)) return;
    for (int i = 0; i < n_to; i++) d[which[i]] = gd[i];
}
