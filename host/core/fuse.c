/*
 * fuse.c - a pass over a program: several lines become one of a fused op.
 *
 * Patterns stand beside the op that they make (ti_fusion), the longest go first. A pattern fits if
 * the values that it loses are read by its own lines only, those of the derivative's pattern
 * included; if the new line has a place behind what it reads and before what reads it; and if the
 * device has a row for it, no reference where the lines it replaces had better, on operands as they
 * lie. Lines are replaced all at once, at the end.
 */
#include <limits.h>
#include <string.h>

#include "core/pattern.h"

enum { INSTANCES = 4, REWRITES = 3 }; /* derivatives of one forward pattern */

/* Order: line i has key 2 i + 1, and what comes right before it 2 i. */
typedef struct {
    ti_line line;
    int key;
} replacement;

typedef struct {
    ti_plan *p;
    int *maker, *reads; /* of each value: its line or -1; mentions as an input or a result */
    int *taken;         /* of each line: the replacement that it goes into, or -1 */
    replacement *list;
    int n, cap;
} fusing;

typedef struct {
    ti_pattern forward, made, backward[REWRITES], made_d[REWRITES];
    int n_backward;
} parsed;

/* One place where a pattern fits. */
typedef struct {
    ti_match m;
    const ti_pattern *pattern, *made;
} fit;

static void look(fusing *f)
{
    ti_plan *p = f->p;

    for (int v = 0; v < p->n_value; v++) f->maker[v] = -1;
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        f->taken[i] = -1;
        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0) f->reads[l->in[k].value]++;
        for (int k = 0; k < l->op->n_out && l->op != p->commit; k++)
            if (l->out[k].value >= 0) f->maker[l->out[k].value] = i;
    }
    for (int i = 0; i < p->n_out; i++) f->reads[p->out[i].value]++;
    f->reads[p->skip]++;
}

/* ---- What a pattern may lose ---- */

static int mentions(const ti_line *l, int value)
{
    int n = 0;

    for (int k = 0; k < l->n_in; k++) n += l->in[k].value == value;
    return n;
}

/* How often the value is read outside of the lines that go into replacements from … to-1. */
static int reads_outside(const fusing *f, int value, int from, int to)
{
    int n = f->reads[value];

    for (int i = 0; i < f->p->n_line && n > 0; i++)
        if (f->taken[i] >= from && f->taken[i] < to) n -= mentions(&f->p->line[i], value);
    return n;
}

/* What is left as an output: a name that `made` gives. */
static bool stays(const fit *t, const ti_arg *a)
{
    for (int k = 0; k < t->made->line[0].n_out; k++) {
        const int name = t->made->line[0].out[k];
        if (name >= 0 && t->m.arg[name] && ti_same_arg(t->m.arg[name], a)) return true;
    }
    return false;
}

/* Whether all that dies is read by lines of the replacements from … to-1 only. */
static bool loses_nothing(const fusing *f, const fit *t, int from, int to)
{
    for (int j = 0; j < t->pattern->n; j++) {
        const ti_line *l = &f->p->line[t->m.line[j]];

        for (int k = 0; k < l->op->n_out; k++)
            if (l->out[k].value >= 0 && !stays(t, &l->out[k]) &&
                reads_outside(f, l->out[k].value, from, to) > 0)
                return false;
    }
    return true;
}

static void take(fusing *f, const fit *t, int number)
{
    for (int j = 0; j < t->pattern->n; j++) f->taken[t->m.line[j]] = number;
}

static void give_back(fusing *f, int from)
{
    for (int i = 0; i < f->p->n_line; i++)
        if (f->taken[i] >= from) f->taken[i] = -1;
}

/* ---- The new line ---- */

static void inherit_options(const fusing *f, const fit *t, const ti_pattern_line *made, void *user)
{
    for (int j = 0; j < t->pattern->n; j++) {
        const ti_line *l = &f->p->line[t->m.line[j]];
        ti_opts_inherit(made->op, user, made->opts, l->op, l->opts);
    }
}

/* A row for the call, on operands as they lie, with results as they lay; NULL: there is none. */
static ti_choice *row_for(fusing *f, const fit *t, const ti_call *c, const ti_arg *const *out)
{
    tern_ctx *ctx = f->p->ctx;
    unsigned wanted = 0;
    bool all_ref = true;

    for (int k = 0; k < c->op->n_out; k++) wanted |= (unsigned)(out[k] != NULL) << k;
    for (int j = 0; j < t->pattern->n; j++)
        all_ref &= f->p->line[t->m.line[j]].how->row->body != NULL;
    ti_choice *how = ti_choose(ctx, (ti_call *)(uintptr_t)c, wanted);
    if (!how) { /* shapes that do not fit, or no row: not an error of the step's */
        if (ctx->error != TERN_E_MEMORY) tern_error_clear(ctx);
        return NULL;
    }
    if (how->packs || (how->row->body && !all_ref)) return NULL;
    for (int k = 0; k < c->op->n_out; k++)
        if (out[k] && !ti_same_meta(&how->out[k], &out[k]->m)) return NULL;
    return how;
}

/* Makes replacement `number`, whose lines are taken; false: it cannot be, or an error. */
static bool make_line(fusing *f, const fit *t, int number)
{
    const ti_pattern_line *made = &t->made->line[0];
    int64_t user[TI_OPTS / 8], filled[TI_OPTS / 8];
    tern_tensor tensor[TI_FEW], *in[TI_FEW];
    const ti_arg *arg[TI_FEW], *out[TI_OUTS] = {NULL};
    static const ti_arg absent = {.value = -1};

    if (ti_opts_parse(f->p->ctx, made->op, user, made->opts)) return false;
    inherit_options(f, t, made, user);
    ti_opts_fill(made->op, filled, user);
    memset(tensor, 0, sizeof tensor);
    for (int k = 0; k < made->n_in; k++) {
        arg[k] = made->in[k] >= 0 ? t->m.arg[made->in[k]] : &absent;
        if (!arg[k]) return false;
        tensor[k].m = arg[k]->m;
        in[k] = arg[k]->value >= 0 ? &tensor[k] : NULL;
    }
    for (int k = 0; k < made->n_out; k++) {
        const ti_arg *a = made->out[k] >= 0 ? t->m.arg[made->out[k]] : NULL;
        if (a && a->value >= 0 && reads_outside(f, a->value, number, number + 1) > 0) out[k] = a;
    }
    const ti_call c = {
        .ctx = f->p->ctx, .op = made->op, .opts = filled, .n_in = made->n_in, .in = in};
    ti_choice *how = row_for(f, t, &c, out);
    ti_line *l = &f->list[number].line;
    if (!how || ti_line_init(f->p, l, made->op, filled, made->n_in, how)) return false;
    for (int k = 0; k < made->n_in; k++) l->in[k] = *arg[k];
    for (int k = 0; k < made->op->n_out; k++) l->out[k] = out[k] ? *out[k] : absent;
    return true;
}

/* ---- Its place ---- */

static int key_of(const fusing *f, int i)
{
    return f->taken[i] >= 0 ? f->list[f->taken[i]].key : 2 * i + 1;
}

static bool is_free(const fusing *f, int key, int number)
{
    for (int i = 0; i < f->n; i++)
        if (i != number && f->list[i].key == key) return false;
    return true;
}

/* Behind what it reads, before what reads it: where its last line was, or earlier. */
static bool find_place(fusing *f, int number, int last)
{
    replacement *r = &f->list[number];
    int after = -1, before = INT_MAX, key = 2 * last;

    for (int k = 0; k < r->line.n_in; k++) {
        const int v = r->line.in[k].value;
        if (v >= 0 && f->maker[v] >= 0 && key_of(f, f->maker[v]) > after)
            after = key_of(f, f->maker[v]);
    }
    for (int i = 0; i < f->p->n_line; i++)
        for (int k = 0; k < r->line.op->n_out && f->taken[i] != number; k++)
            if (r->line.out[k].value >= 0 && mentions(&f->p->line[i], r->line.out[k].value) &&
                key_of(f, i) < before)
                before = key_of(f, i);
    if (key >= before) key = (before - 1) / 2 * 2;
    while (key > after && !is_free(f, key, number)) key -= 2;
    r->key = key;
    return key > after;
}

/* ---- One fusion ---- */

static bool room_for(fusing *f, int n)
{
    for (int i = 0; i < n; i++) {
        replacement *room = ti_grow(f->p->ctx, f->list, f->n + i, &f->cap, sizeof *room);
        if (!room) return false;
        f->list = room;
        room[f->n + i] = (replacement){.key = INT_MAX};
    }
    return true;
}

/* Replacement `number` of what fits there; false: it cannot be, or an error. */
static bool replaces(fusing *f, const fit *t, int number, bool back)
{
    /* The line that does the work gives its name: the first forward, the last backward. */
    const ti_line *named = &f->p->line[t->m.line[back ? t->pattern->n - 1 : 0]];

    if (!make_line(f, t, number)) return false;
    f->list[number].line.where = named->where;
    f->list[number].line.back = named->back;
    f->list[number].line.fused = t->pattern->text;
    for (int j = 0; j < t->pattern->n; j++) /* its first line, while it has no place yet */
        if (2 * t->m.line[j] + 1 < f->list[number].key) f->list[number].key = 2 * t->m.line[j] + 1;
    return true;
}

/* The derivatives of what t[0] fits: each takes its lines. How many there are with t[0]. */
static int find_derivatives(fusing *f, const parsed *x, fit *t)
{
    int n = 1;

    for (int b = 0; b < x->n_backward; b++)
        for (int i = 0; i < f->p->n_line && n < INSTANCES; i++) {
            const int number = f->n + n;

            t[n] = (fit){t[0].m, &x->backward[b], &x->made_d[b]};
            if (f->taken[i] >= 0 || !ti_pattern_fits(&t[n].m, t[n].pattern, i)) continue;
            take(f, &t[n], number);
            if (loses_nothing(f, &t[n], number, number + 1) && replaces(f, &t[n], number, true))
                n++;
            else give_back(f, number);
        }
    return n;
}

static void try_at(fusing *f, const parsed *x, int i)
{
    fit t[INSTANCES] = {{{.p = f->p, .maker = f->maker, .taken = f->taken}, &x->forward, &x->made}};
    const int first = f->n;
    int n_placed = 0, n;

    if (f->taken[i] >= 0 || !ti_pattern_fits(&t[0].m, &x->forward, i)) return;
    if (!room_for(f, INSTANCES)) return;
    take(f, &t[0], first);
    n = find_derivatives(f, x, t);
    if (loses_nothing(f, &t[0], first, first + n) && replaces(f, &t[0], first, false)) {
        f->n = first + n;
        while (n_placed < n &&
               find_place(f, first + n_placed, t[n_placed].m.line[t[n_placed].pattern->n - 1]))
            n_placed++;
    }
    if (n_placed == n) return;
    f->n = first;
    for (int k = first; k < first + n; k++) ti_line_free(f->p, &f->list[k].line);
    give_back(f, first);
}

static tern_status parse(fusing *f, const ti_fusion *from, parsed *x)
{
    ti_names names = {0};
    bool right = ti_pattern_parse(from->forward, &names, &x->forward) &&
                 ti_pattern_parse(from->made, &names, &x->made);

    for (x->n_backward = 0; right && x->n_backward < REWRITES; x->n_backward++) {
        const ti_rewrite *r = &from->backward[x->n_backward];
        if (!r->pattern) break;
        right = ti_pattern_parse(r->pattern, &names, &x->backward[x->n_backward]) &&
                ti_pattern_parse(r->made, &names, &x->made_d[x->n_backward]);
    }
    if (right) return TERN_OK;
    return ti_fail(f->p->ctx, TERN_E_ARGUMENT, "fuse: \"%.200s\" is no pattern", from->forward);
}

static tern_status fuse_all(fusing *f)
{
    parsed x;

    for (int length = TI_PATTERN_LINES; length > 0; length--)
        for (const ti_op *const *const *list = ti_all_ops; *list; list++)
            for (const ti_op *const *op = *list; *op; op++)
                for (const ti_fusion *from = (*op)->fusions; from && from->forward; from++) {
                    if (ti_pattern_length(from->forward) != length) continue;
                    TI_TRY(parse(f, from, &x));
                    for (int i = 0; i < f->p->n_line && !f->p->ctx->error; i++) try_at(f, &x, i);
                    if (f->p->ctx->error) return f->p->ctx->error;
                }
    return TERN_OK;
}

/* The lines that are left and the new ones, by their keys. */
static tern_status apply(fusing *f)
{
    ti_plan *p = f->p;
    const int n_most = p->n_line + f->n;
    ti_line *line = ti_alloc(p->ctx, (size_t)n_most * sizeof *line);
    int *before = line ? ti_alloc(p->ctx, (size_t)(p->n_line + 1) * sizeof *before) : NULL, n = 0;

    if (!before) {
        ti_free(p->ctx, line);
        return p->ctx->error;
    }
    for (int i = 0; i < f->n; i++) before[f->list[i].key / 2] = i + 1;
    for (int i = 0; i < p->n_line; i++) {
        if (before[i]) line[n++] = f->list[before[i] - 1].line;
        if (f->taken[i] < 0) line[n++] = p->line[i];
        else ti_line_free(p, &p->line[i]);
    }
    ti_free(p->ctx, before);
    ti_free(p->ctx, p->line);
    p->line = line;
    p->n_line = n;
    p->cap_line = n_most;
    f->n = 0;
    return TERN_OK;
}

tern_status ti_fuse(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    int *memory = ti_alloc(ctx, (size_t)(2 * p->n_value + p->n_line) * sizeof *memory);
    fusing f = {.p = p};

    if (!memory) return ctx->error;
    f.maker = memory;
    f.reads = memory + p->n_value;
    f.taken = memory + 2 * p->n_value;
    look(&f);
    if (!fuse_all(&f) && f.n) (void)!apply(&f);
    for (int i = 0; i < f.n; i++) ti_line_free(p, &f.list[i].line); /* after an error */
    ti_free(ctx, f.list);
    ti_free(ctx, memory);
    return ctx->error;
}
