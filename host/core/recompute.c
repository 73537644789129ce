/*
 * recompute.c - a pass over a placed program that takes more than its limit: less memory at its
 * peak, one change a call.
 *
 * First calls that run again: a value that lives across the peak without being read there dies
 * before it, and what makes it (with what is dead by then of what that takes) is made again right
 * before the next line that reads it. Of all such values the one goes whose work for a byte is
 * least, so activations and batch norms before convolutions. Operations are pure: all bits stay.
 * Where no value is left that helps, the call at the peak takes a kernel with less scratch.
 */
#include <limits.h>
#include <string.h>

#include "core/program.h"

enum {
    CHAIN = 6,   /* lines that are run again for one value, at most */
    SMALL = 16,  /* what is this much smaller than the value is kept for it instead */
    LEAST = 1024 /* values smaller than the peak by this are not worth a call */
};

typedef struct {
    ti_plan *p;
    int *maker, *first, *last; /* of each value, whatever it lies in */
    size_t *live;              /* bytes of the arena alive at each line */
    int peak;                  /* the line where most is */
} looking;

/* A value to be made again, and all that takes. */
typedef struct {
    int value, before; /* the line that reads it next */
    int line[CHAIN], n;
    size_t kept, made; /* bytes that live longer for it; that its lines make */
    double work;       /* of its lines */
} again;

static void touch(looking *w, int v, int i)
{
    if (v < 0) return;
    if (i < w->first[v]) w->first[v] = i;
    if (i > w->last[v]) w->last[v] = i;
}

static void look(looking *w)
{
    ti_plan *p = w->p;

    for (int v = 0; v < p->n_value; v++) {
        w->maker[v] = w->last[v] = -1;
        w->first[v] = INT_MAX;
    }
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        for (int k = 0; k < l->n_in; k++) touch(w, l->in[k].value, i);
        for (int k = 0; k < l->op->n_out; k++) {
            touch(w, l->out[k].value, i);
            if (l->op != p->commit && l->out[k].value >= 0) w->maker[l->out[k].value] = i;
        }
    }
    for (int i = 0; i < p->n_out; i++) touch(w, p->out[i].value, p->n_line);
    touch(w, p->skip, p->n_line);
    for (int v = 0; v < p->n_value; v++) {
        const ti_value *x = &p->value[v];

        if (x->home != v || x->last < 0 || (x->kind != TI_TEMPORARY && x->kind != TI_INPUT))
            continue;
        for (int i = x->first < 0 ? 0 : x->first; i <= x->last && i < p->n_line; i++)
            w->live[i] += ti_align(x->bytes);
    }
    for (int i = 0; i < p->n_line; i++)
        if (w->live[i] > w->live[w->peak]) w->peak = i;
}

/* ---- Calls that run again ---- */

/* Roughly, in bytes moved: what a line costs, so that values can be put in an order. */
static double work_of(const ti_plan *p, const ti_line *l)
{
    double bytes = 0;

    for (int k = 0; k < l->n_in; k++)
        if (l->in[k].value >= 0) bytes += (double)ti_bytes(&l->in[k].m);
    for (int k = 0; k < l->op->n_out; k++)
        if (l->out[k].value >= 0) bytes += (double)ti_bytes(&l->out[k].m);
    return bytes + ti_line_flops(p, l) / 4;
}

/* Whether all of the arena that it holds, across the peak, it holds for itself. */
static bool can_die(const looking *w, int v)
{
    const ti_plan *p = w->p;
    size_t ignored;
    const int root = ti_root_value(p, v, &ignored);

    if (p->value[v].kind != TI_TEMPORARY || w->maker[v] < 0 || w->last[v] >= p->n_line)
        return false;
    if (w->maker[v] >= w->peak || w->last[v] <= w->peak) return false;
    if (p->value[root].kind != TI_TEMPORARY || p->value[root].bytes != p->value[v].bytes)
        return false;
    for (int u = 0; u < p->n_value; u++) /* another part of it is alive there */
        if (u != v && w->first[u] <= w->peak && w->last[u] >= w->peak &&
            ti_root_value(p, u, &ignored) == root)
            return false;
    return true;
}

/* The next line that reads it behind the peak; -1: the peak's own. */
static int next_reader(const looking *w, int v)
{
    for (int i = w->peak; i < w->p->n_line; i++) {
        const ti_line *l = &w->p->line[i];

        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value == v) return i == w->peak ? -1 : i;
    }
    return -1;
}

/* Notes the maker of v, and what it takes that is dead by then. */
static bool chain(const looking *w, again *a, int v)
{
    const ti_plan *p = w->p;
    const int maker = w->maker[v];

    for (int i = 0; i < a->n; i++)
        if (a->line[i] == maker) return true;
    if (maker < 0 || a->n == CHAIN || p->line[maker].op == p->commit) return false;
    a->line[a->n++] = maker;
    const ti_line *l = &p->line[maker];

    a->work += work_of(p, l);
    for (int k = 0; k < l->op->n_out; k++)
        if (l->out[k].value >= 0) a->made += ti_align(p->value[l->out[k].value].bytes);
    for (int k = 0; k < l->n_in; k++) {
        const int u = l->in[k].value;

        if (u < 0 || w->last[u] >= a->before ||
            (p->value[u].kind != TI_TEMPORARY && p->value[u].kind != TI_INPUT))
            continue;
        const size_t bytes = ti_align(p->value[u].bytes);
        if (p->value[u].kind == TI_INPUT || bytes <= p->value[a->value].bytes / SMALL)
            a->kept += w->last[u] < w->peak ? bytes : 0;
        else if (w->last[u] < w->peak && !chain(w, a, u)) return false;
    }
    return true;
}

/* The value whose making again costs least for what it gives; false: none helps. */
static bool best_again(const looking *w, again *best)
{
    const ti_plan *p = w->p;
    double least = 0;
    bool found = false;

    for (int v = 0; v < p->n_value; v++) {
        again a = {.value = v};
        const size_t bytes = ti_align(p->value[v].bytes);

        if (bytes < w->live[w->peak] / LEAST) continue;
        if (!can_die(w, v) || (a.before = next_reader(w, v)) < 0 || !chain(w, &a, v)) continue;
        size_t scratch = 0;
        for (int i = 0; i < a.n; i++)
            if (p->line[a.line[i]].how->scratch > scratch)
                scratch = p->line[a.line[i]].how->scratch;
        /* The lines themselves are to stay below the peak. */
        if (a.kept >= bytes ||
            w->live[a.before] + a.made + ti_align(scratch) >= w->live[w->peak] + bytes)
            continue;
        const double price = a.work / (double)(bytes - a.kept);
        if (found && price >= least) continue;
        found = true;
        least = price;
        *best = a;
    }
    return found;
}

static tern_status copy_line(ti_plan *p, ti_line *to, const ti_line *from, int *now)
{
    TI_TRY(ti_line_init(p, to, from->op, from->opts, from->n_in, from->how));
    for (int k = 0; k < from->n_in; k++) {
        to->in[k] = from->in[k];
        if (to->in[k].value >= 0) to->in[k].value = now[to->in[k].value];
    }
    for (int k = 0; k < from->op->n_out; k++) {
        to->out[k] = from->out[k];
        if (to->out[k].value < 0) continue;
        const int v = ti_add_value(p, TI_TEMPORARY, p->value[from->out[k].value].bytes);
        if (v < 0) break;
        to->out[k].value = now[from->out[k].value] = v;
    }
    to->where = from->where;
    to->fused = from->fused;
    to->back = to->again = true;
    if (p->ctx->error) ti_line_free(p, to);
    return p->ctx->error;
}

/* In the recorded order: what a line takes was made before it. */
static void in_order(again *a)
{
    for (int i = 1; i < a->n; i++)
        for (int k = i; k > 0 && a->line[k] < a->line[k - 1]; k--) {
            const int line = a->line[k];
            a->line[k] = a->line[k - 1];
            a->line[k - 1] = line;
        }
}

static tern_status run_again(ti_plan *p, again *a)
{
    tern_ctx *ctx = p->ctx;
    const int n_value = p->n_value;
    ti_line copy[CHAIN], *line = ti_alloc(ctx, (size_t)(p->n_line + a->n) * sizeof *line);
    int *now = line ? ti_alloc(ctx, (size_t)n_value * sizeof *now) : NULL, n = 0;

    for (int v = 0; now && v < n_value; v++) now[v] = v;
    in_order(a);
    while (now && n < a->n && !copy_line(p, &copy[n], &p->line[a->line[n]], now)) n++;
    if (ctx->error) {
        while (n > 0) ti_line_free(p, &copy[--n]);
        ti_free(ctx, now);
        ti_free(ctx, line);
        return ctx->error;
    }
    for (int i = a->before; i < p->n_line; i++)
        for (int k = 0; k < p->line[i].n_in; k++)
            if (p->line[i].in[k].value == a->value) p->line[i].in[k].value = now[a->value];
    memcpy(line, p->line, (size_t)a->before * sizeof *line);
    memcpy(line + a->before, copy, (size_t)n * sizeof *line);
    memcpy(line + a->before + n, p->line + a->before,
           (size_t)(p->n_line - a->before) * sizeof *line);
    ti_free(ctx, now);
    ti_free(ctx, p->line);
    p->line = line;
    p->n_line += n;
    p->cap_line = p->n_line;
    p->n_again += n;
    return TERN_OK;
}

/* ---- Less scratch ---- */

/* Another row for line i, with less scratch; false: there is none, or an error. */
static bool take_leaner(ti_plan *p, int i)
{
    tern_ctx *ctx = p->ctx;
    ti_line *l = &p->line[i];
    tern_tensor tensor[TI_FEW], *in[TI_FEW];
    ti_call c = {.ctx = ctx, .op = l->op, .opts = l->opts, .n_in = l->n_in, .in = in};
    unsigned wanted = 0;

    if (!l->how->scratch || l->n_in > TI_FEW) return false;
    for (int k = 0; k < l->n_in; k++) {
        tensor[k] = (tern_tensor){.m = l->in[k].m};
        in[k] = l->in[k].value >= 0 ? &tensor[k] : NULL;
    }
    for (int k = 0; k < l->op->n_out; k++) wanted |= (unsigned)(l->out[k].value >= 0) << k;
    c.scratch_below = l->how->scratch;
    ti_choice *how = ti_choose(ctx, &c, wanted);
    if (!how) { /* no such row is no error of the step's */
        if (ctx->error != TERN_E_MEMORY) tern_error_clear(ctx);
        return false;
    }
    if (how->packs || (how->row->body && !l->how->row->body)) return false;
    for (int k = 0; k < l->op->n_out; k++)
        if (l->out[k].value >= 0 && !ti_same_meta(&how->out[k], &l->out[k].m)) return false;
    how->refs++;
    l->how->refs--;
    l->how = how;
    if (l->i_scratch >= 0) p->value[l->i_scratch].bytes = how->scratch;
    return true;
}

/* ---- The pass ---- */

tern_status ti_recompute(ti_plan *p, bool *changed)
{
    tern_ctx *ctx = p->ctx;
    const size_t n = 3 * (size_t)p->n_value;
    looking w = {.p = p, .live = ti_alloc(ctx, ((size_t)p->n_line + 1) * sizeof *w.live)};
    again a;

    *changed = false;
    w.maker = w.live ? ti_alloc(ctx, n * sizeof *w.maker) : NULL;
    if (w.maker) {
        w.first = w.maker + p->n_value;
        w.last = w.first + p->n_value;
        look(&w);
        if (best_again(&w, &a)) *changed = run_again(p, &a) == TERN_OK;
        else *changed = take_leaner(p, w.peak);
    }
    ti_free(ctx, w.maker);
    ti_free(ctx, w.live);
    return ctx->error;
}
