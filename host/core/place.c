/*
 * place.c - a pass over a program: every value gets a home, and the homes one arena.
 *
 * A value lies at home in itself, in the variable it is assigned to, in the concat it becomes a
 * part of, or on the input it may lie on. The homes are packed by lifetime: largest first, into
 * the lowest hole that fits.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/program.h"

/* What the passes below ask about a value. */
typedef struct {
    int maker;        /* the line that writes it, or -1 */
    bool read;        /* by a line that is no commit, or it is a result or the flag */
    bool always_read; /* by a commit that the flag does not stop */
} use;

typedef struct {
    ti_plan *p;
    use *use;
    int last_indexed; /* last line that may find an index out of range, or -1 */
} placing;

int ti_root_value(const ti_plan *p, int v, size_t *at)
{
    *at = 0;
    for (; p->value[v].home != v; v = p->value[v].home) *at += p->value[v].at;
    return v;
}

static bool is_concat(const ti_line *l) { return strcmp(l->op->name, "concat") == 0; }

/* Whether the op looks indices up: its kernels may find one out of range. */
static bool takes_indices(const ti_op *op)
{
    for (const ti_sample *s = op->samples; s && s->note; s++)
        for (int i = 0; i < s->n_in; i++)
            if (s->in[i].draw == TI_S_INDEX) return true;
    return false;
}

static void look_at_uses(placing *w)
{
    ti_plan *p = w->p;

    w->last_indexed = -1;
    for (int v = 0; v < p->n_value; v++) w->use[v].maker = -1;
    for (int i = 0; i < p->n_out; i++) w->use[p->out[i].value].read = true;
    w->use[p->skip].read = true;
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        const bool commit = l->op == p->commit;

        if (takes_indices(l->op)) w->last_indexed = i;
        for (int k = 0; k < l->n_in; k++) {
            if (l->in[k].value < 0) continue;
            if (!commit || k > 0) w->use[l->in[k].value].read = true;
            else if (l->in[1].value < 0) w->use[l->in[0].value].always_read = true;
        }
        for (int k = 0; k < l->op->n_out && !commit; k++)
            if (l->out[k].value >= 0) w->use[l->out[k].value].maker = i;
    }
}

/* ---- Lifetimes ---- */

static void touch(ti_plan *p, int v, int i)
{
    if (v < 0) return;
    if (i < p->value[v].first) p->value[v].first = i;
    if (i > p->value[v].last) p->value[v].last = i;
}

static tern_status lifetimes(ti_plan *p)
{
    for (int i = 0; i < p->n_line; i++) {
        ti_line *l = &p->line[i];

        if (!l->how->scratch || l->i_scratch >= 0) continue;
        l->i_scratch = ti_add_value(p, TI_TEMPORARY, l->how->scratch);
        if (l->i_scratch < 0) return p->ctx->error;
    }
    for (int v = 0; v < p->n_value; v++) {
        p->value[v].home = v;
        p->value[v].first = p->value[v].kind == TI_INPUT ? -1 : INT_MAX;
        p->value[v].last = -1;
    }
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        for (int k = 0; k < l->n_in; k++) touch(p, l->in[k].value, i);
        for (int k = 0; k < l->op->n_out; k++) touch(p, l->out[k].value, i);
        touch(p, l->i_scratch, i);
    }
    for (int i = 0; i < p->n_out; i++) touch(p, p->out[i].value, p->n_line);
    return TERN_OK;
}

/* ---- Homes ---- */

/* All of a temporary, without gaps. */
static bool whole(const ti_plan *p, const ti_arg *a)
{
    const ti_value *v = a->value >= 0 ? &p->value[a->value] : NULL;

    return v && v->kind == TI_TEMPORARY && a->m.offset == 0 && ti_is_dense(&a->m) &&
           ti_bytes(&a->m) == v->bytes;
}

static bool at_home(const ti_plan *p, const ti_arg *a)
{
    return whole(p, a) && p->value[a->value].home == a->value;
}

static void move_into(ti_plan *p, int v, int home, size_t at)
{
    ti_value *m = &p->value[v], *r;
    size_t ignored;

    m->home = home;
    m->at = at;
    r = &p->value[ti_root_value(p, home, &ignored)];
    if (m->first < r->first) r->first = m->first;
    if (m->last > r->last) r->last = m->last;
}

static int64_t reach(const ti_meta *m) /* elements from offset to behind the last one */
{
    int64_t n = 1;

    for (int a = 0; a < m->shape.rank; a++) {
        if (m->shape.dim[a] == 0) return 0;
        n += (m->shape.dim[a] - 1) * m->stride[a];
    }
    return n;
}

static bool meets(const ti_arg *a, const ti_arg *range) /* same value, elements in common */
{
    return a->value == range->value && a->m.offset < range->m.offset + reach(&range->m) &&
           range->m.offset < a->m.offset + reach(&a->m);
}

/* The call's own input k: its output `value` may lie on it, and it is the very range. */
static bool may_lie_on(const ti_line *l, int k, int value, const ti_arg *range)
{
    if (!l->how->row->may_alias || l->in[k].m.offset != range->m.offset) return false;
    for (int o = 0; o < l->op->n_out; o++)
        if (l->out[o].value == value && (l->how->row->may_alias(o) != k ||
                                         !tern_same_shape(l->in[k].m.shape, l->out[o].m.shape) ||
                                         !ti_is_packed(&l->in[k].m) || !ti_is_packed(&l->out[o].m)))
            return false;
    return true;
}

/*
 * The call may write straight into the variable if the flag is complete before it and no index can
 * be found wrong after it, nobody else reads the new value (in a skipped step it would not be
 * there), nobody reads the old one later, and no other commit touches the range.
 */
static bool may_write_through(const placing *w, const ti_line *commit, int i_maker)
{
    const ti_plan *p = w->p;
    const ti_line *maker = &p->line[i_maker];
    const ti_arg *range = &commit->out[0];
    const int value = commit->in[0].value;
    const bool always = commit->in[1].value < 0;

    if (!p->ctx->backend->host_memory && !maker->how->row->predicated) return false;
    if (w->last_indexed > i_maker || (!always && w->use[p->skip].maker >= i_maker)) return false;
    for (int k = 0; k < maker->op->n_out; k++) {
        const int v = maker->out[k].value;

        if (v < 0 || (always && v != value)) continue;
        if (w->use[v].read || (!always && w->use[v].always_read)) return false;
    }
    for (int i = i_maker; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        if (l->op == p->commit && l != commit && meets(&l->out[0], range)) return false;
        for (int k = 0; k < l->n_in; k++)
            if (meets(&l->in[k], range) && (i > i_maker || !may_lie_on(l, k, value, range)))
                return false;
    }
    return true;
}

static void write_through(placing *w)
{
    ti_plan *p = w->p;

    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        const ti_arg *v = &l->in[0], *range = &l->out[0];

        if (l->op != p->commit || !at_home(p, v)) continue;
        const int maker = w->use[v->value].maker;
        if (maker < 0 || !may_write_through(w, l, maker)) continue;
        p->value[v->value].home = range->value;
        p->value[v->value].at = (size_t)range->m.offset * tern_type_size(range->m.type);
    }
    for (int i = 0; i < p->n_line; i++) { /* a call runs under the flag if what it makes lies so */
        ti_line *l = &p->line[i];

        l->predicated = false;
        for (int k = 0; k < l->op->n_out && l->op != p->commit; k++) {
            const int v = l->out[k].value;
            if (v < 0 || p->value[v].home == v) continue;
            const ti_value *home = &p->value[p->value[v].home];
            l->predicated |= home->kind == TI_VARIABLE && !home->var->always;
        }
    }
}

/* Whether the inputs are runs of bytes of the output, one behind the other. */
static bool is_in_order(const ti_line *l)
{
    const ti_meta *m = &l->out[0].m;
    int axis = 0;

    if (!ti_is_packed(m)) return false;
    for (int k = 0; k < l->n_in; k++) /* the axis in which some input is smaller */
        for (int a = 0; a < m->shape.rank; a++)
            if (l->in[k].m.shape.dim[a] != m->shape.dim[a] && a > axis) axis = a;
    for (int a = 0; a < axis; a++)
        if (m->shape.dim[a] != 1) return false;
    return true;
}

/* A concat's inputs lie in its output, later concats first. */
static void lay_concats(ti_plan *p)
{
    for (int i = p->n_line; i-- > 0;) {
        const ti_line *l = &p->line[i];
        size_t at = 0, ignored;

        if (!is_concat(l) || !is_in_order(l)) continue;
        if (p->value[ti_root_value(p, l->out[0].value, &ignored)].kind != TI_TEMPORARY) continue;
        for (int k = 0; k < l->n_in; k++) {
            const ti_arg *a = &l->in[k];
            if (at_home(p, a) && ti_is_packed(&a->m) && a->value != l->out[0].value)
                move_into(p, a->value, l->out[0].value, at);
            at += ti_bytes(&a->m);
        }
    }
}

/* An output lies on an input that dies there, where the row allows it. */
static void lie_on_inputs(ti_plan *p)
{
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        for (int o = 0; o < l->op->n_out && l->how->row->may_alias; o++) {
            const int k = l->how->row->may_alias(o);
            size_t at, ignored;

            if (k < 0 || k >= l->n_in || !at_home(p, &l->out[o]) || !whole(p, &l->in[k]) ||
                !ti_same_meta(&l->in[k].m, &l->out[o].m))
                continue;
            const int root = ti_root_value(p, l->in[k].value, &at);
            bool alone = p->value[root].kind == TI_TEMPORARY && p->value[root].last == i;
            for (int m = 0; m < l->n_in && alone; m++)
                alone = l->in[m].value < 0 || m == k ||
                        ti_root_value(p, l->in[m].value, &ignored) != root;
            for (int m = 0; m < l->op->n_out && alone; m++)
                alone = l->out[m].value < 0 || ti_root_value(p, l->out[m].value, &ignored) != root;
            if (alone) move_into(p, l->out[o].value, root, at);
        }
    }
}

/* ---- The arena ---- */

typedef struct {
    int value;
    size_t bytes;
} sized;

static int larger_first(const void *a, const void *b)
{
    const sized *x = a, *y = b;

    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->value < y->value ? -1 : 1;
}

/* `placed` stays sorted by address, so that one pass over it finds the lowest hole. */
static void put(ti_plan *p, int v, size_t bytes, int *placed, int n)
{
    ti_value *x = &p->value[v];
    size_t at = 0;
    int i;

    for (i = 0; i < n; i++) {
        const ti_value *y = &p->value[placed[i]];

        if (x->first > y->last || y->first > x->last) continue;
        if (y->at >= at + bytes) break;
        if (at < y->at + ti_align(y->bytes)) at = y->at + ti_align(y->bytes);
    }
    x->at = at;
    if (at + bytes > p->arena_bytes) p->arena_bytes = at + bytes;
    for (i = n; i > 0 && p->value[placed[i - 1]].at > at; i--) placed[i] = placed[i - 1];
    placed[i] = v;
}

static tern_status pack(ti_plan *p)
{
    const size_t n_most = (size_t)p->n_value;
    sized *order = ti_alloc(p->ctx, n_most * sizeof *order);
    int *placed = order ? ti_alloc(p->ctx, n_most * sizeof *placed) : NULL, n = 0;

    p->arena_bytes = 0;
    for (int v = 0; placed && v < p->n_value; v++) {
        const ti_value *x = &p->value[v];

        if (x->home == v && x->last >= 0 && (x->kind == TI_INPUT || x->kind == TI_TEMPORARY))
            order[n++] = (sized){v, ti_align(x->bytes)};
    }
    if (n) qsort(order, (size_t)n, sizeof *order, larger_first);
    for (int i = 0; i < n; i++) put(p, order[i].value, order[i].bytes, placed, i);
    ti_free(p->ctx, placed);
    ti_free(p->ctx, order);
    return p->ctx->error;
}

tern_status ti_place(ti_plan *p)
{
    TI_TRY(lifetimes(p));
    placing w = {.p = p, .use = ti_alloc(p->ctx, (size_t)p->n_value * sizeof *w.use)};

    if (!w.use) return p->ctx->error;
    look_at_uses(&w);
    write_through(&w);
    ti_free(p->ctx, w.use);
    lay_concats(p);
    lie_on_inputs(p);
    return pack(p);
}
