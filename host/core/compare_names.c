/*
 * compare_names.c - names for the tensors of a step: "conv1.out", "conv1.dX", "conv1.dW".
 *
 * A plan knows the scope of each call and which values are variables. From that follow the result
 * of a layer (what leaves its scope forward), the gradient of its input (what leaves it backward),
 * and the gradients of its parameters (derivatives of inputs that are parameters, and the parts of
 * the concat that is the gradient of the block).
 */
#include <stdio.h>
#include <string.h>

#include "core/compare.h"

typedef struct {
    tern_compare *c;
    const ti_plan *p;
    bool *loss;         /* per line: a result of the step needs it */
    int *rank, *port;   /* per line: how well which of its outputs would do for the layer's */
    tern_var **param;   /* per value: whose gradient it is */
    tern_var **updated; /* per value: the block of parameters it becomes, */
    int64_t *at;        /* and where in it */
} names;

static bool same_text(const char *a, const char *b) { return a == b || (a && b && !strcmp(a, b)); }
static bool same_scope(const ti_line *a, const ti_line *b) { return same_text(a->where, b->where); }

static bool reads(const ti_line *l, int v)
{
    for (int k = 0; k < l->n_in; k++)
        if (l->in[k].value == v) return true;
    return false;
}

static bool makes_hint(const ti_line *l, int k) { return l->op->out[k].kind == TI_HINT; }

/* ---- What the plan says ---- */

static void mark_loss(names *w)
{
    const ti_plan *p = w->p;

    for (int i = p->n_line; i-- > 0;)
        for (int k = 0; k < p->line[i].op->n_out; k++) {
            const int v = p->line[i].out[k].value;
            for (int j = 0; v >= 0 && j < p->n_out; j++) w->loss[i] |= p->out[j].value == v;
            for (int j = i + 1; v >= 0 && j < p->n_line; j++)
                w->loss[i] |= w->loss[j] && reads(&p->line[j], v);
        }
}

/* The parameter that is just this range of the block. */
static tern_var *param_at(const tern_var *block, int64_t from, int64_t count)
{
    for (int i = 0; block && i < block->n_params; i++)
        if (block->params[i]->offset == from && block->params[i]->count == count)
            return block->params[i];
    return NULL;
}

/* X_d's outputs are the derivatives of X's inputs, which it takes, too. */
static void mark_derivatives(names *w, const ti_line *l)
{
    for (int k = 0; k < l->op->n_out && k < l->op->composed->n_in; k++) {
        const ti_arg *a = &l->in[k];
        const ti_value *v = a->value < 0 ? NULL : &w->p->value[a->value];

        if (l->out[k].value >= 0 && v && v->kind == TI_VARIABLE)
            w->param[l->out[k].value] = param_at(v->var, a->m.offset, tern_count(a->m.shape));
    }
}

/* The gradient of a range of a block: parameters side by side. */
static void mark_parts(names *w, const ti_line *l, const tern_var *block, int64_t from)
{
    for (int k = 0; k < l->n_in; k++) {
        const int64_t n = tern_count(l->in[k].m.shape);
        tern_var *v = param_at(block, from, n);

        if (v && w->p->value[l->in[k].value].kind == TI_TEMPORARY) w->param[l->in[k].value] = v;
        from += n;
    }
}

static void mark_gradients(names *w)
{
    const ti_plan *p = w->p;

    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        tern_var *block = l->op == p->commit ? p->value[l->out[0].value].var : NULL;

        if (l->back && l->op->composed) mark_derivatives(w, l);
        if (!block || block->n_params == 0) continue;
        const int64_t n = tern_count(l->out[0].m.shape);
        w->updated[l->in[0].value] = block;
        w->at[l->in[0].value] = l->out[0].m.offset;
        for (int j = 0; j < i; j++) {
            const ti_line *u = &p->line[j];
            if (strcmp(u->op->name, "concat") == 0 && tern_count(u->out[0].m.shape) == n)
                mark_parts(w, u, block, l->out[0].m.offset);
        }
    }
}

/* Whether a call of the same direction, elsewhere, reads output k of line i. */
static bool leaves(const ti_plan *p, int i, int k)
{
    const ti_line *l = &p->line[i];

    for (int j = 0; j < p->n_line; j++) {
        const ti_line *to = &p->line[j];
        if (to->op != p->commit && to->back == l->back && !same_scope(l, to) &&
            reads(to, l->out[k].value))
            return true;
    }
    return false;
}

/* A layer's result is what leaves its scope, the last such. Where cotangents from two places meet,
 * the sum is made in the scope of one of them: it is not that layer's own gradient. */
static void rank_lines(names *w)
{
    for (int i = 0; i < w->p->n_line; i++) {
        const ti_line *l = &w->p->line[i];
        const bool adds = l->back && strcmp(l->op->name, "add") == 0;

        w->rank[i] = 0;
        for (int k = l->op->n_out; l->op != w->p->commit && k-- > 0;) {
            const int v = l->out[k].value;
            if (v < 0 || l->op->out[k].kind != TI_DIFF || w->param[v]) continue;
            const int rank = adds ? 1 : leaves(w->p, i, k) ? 3 : l->back ? 0 : 2;
            if (rank < w->rank[i] || rank == 0) continue;
            w->rank[i] = rank;
            w->port[i] = k;
        }
    }
}

static bool is_layers(const names *w, int i, int k)
{
    const ti_line *l = &w->p->line[i];

    if (w->rank[i] == 0 || w->port[i] != k || !(l->where || l->back)) return false;
    for (int j = 0; j < w->p->n_line; j++) {
        const ti_line *m = &w->p->line[j];
        if (j == i || m->back != l->back || !same_scope(l, m)) continue;
        if (w->rank[j] > w->rank[i] || (w->rank[j] == w->rank[i] && j > i)) return false;
    }
    return true;
}

/* ---- Names ---- */

static const char *made(tern_compare *c, const char *format, int length, const char *text)
{
    char line[300];
    char **room = ti_grow(c->ref, c->text, c->n_text, &c->cap_text, sizeof *room);

    if (!room) return "";
    c->text = room;
    snprintf(line, sizeof line, format, length, text);
    room[c->n_text] = ti_strdup(c->ref, line);
    return room[c->n_text] ? room[c->n_text++] : "";
}

/* "dW" for "conv1.weight", "db" for "conv1.bias", else "dweight_hh_l0". */
static const char *gradient_name(tern_compare *c, const tern_var *v)
{
    const char *dot = strrchr(v->name, '.'), *own = dot ? dot + 1 : v->name;

    if (strcmp(own, "weight") == 0) return "dW";
    if (strcmp(own, "bias") == 0) return "db";
    return made(c, "d%.*s", 200, own);
}

static const char *layer_of(const char *where) { return *where ? where : "net"; }

static tern_pass pass_of(const names *w, int i)
{
    const ti_line *l = &w->p->line[i];

    if (l->back) return TERN_PASS_BACKWARD;
    if (l->where || w->loss[i]) return TERN_PASS_FORWARD;
    for (int j = i + 1; j < w->p->n_line; j++) /* the cotangent that the walk begins with */
        for (int k = 0; k < l->op->n_out && w->p->line[j].back; k++)
            if (l->out[k].value >= 0 && reads(&w->p->line[j], l->out[k].value))
                return TERN_PASS_BACKWARD;
    return TERN_PASS_UPDATE;
}

static ti_compared *next_tensor(tern_compare *c, int i, int k)
{
    ti_compared *room = ti_grow(c->ref, c->tensor, c->n_tensor, &c->cap_tensor, sizeof *room);
    const ti_line *l = &c->plan->line[i];

    if (!room) return NULL;
    c->tensor = room;
    room += c->n_tensor++;
    *room = (ti_compared){.out = k,
                          .t = {.op = l->op->name,
                                .param = "",
                                .type = l->out[k].m.type,
                                .shape = l->out[k].m.shape,
                                .call = i}};
    return room;
}

static tern_status name_output(names *w, int i, int k)
{
    const ti_line *l = &w->p->line[i];
    const tern_var *param = w->param[l->out[k].value];
    ti_compared *e = next_tensor(w->c, i, k);
    int n = 0;

    if (!e) return w->c->ref->error;
    for (int j = 0; j < l->op->n_out; j++) n += l->out[j].value >= 0 && !makes_hint(l, j);
    e->t.pass = pass_of(w, i);
    e->t.layer = l->where ? layer_of(l->where) : e->t.pass == TERN_PASS_UPDATE ? "step" : "loss";
    if (param) {
        e->t.param = param->name;
        e->t.name = gradient_name(w->c, param);
    } else if (is_layers(w, i, k)) e->t.name = l->back ? "dX" : "out";
    else if (!l->where && w->loss[i]) e->t.name = "out";
    else e->t.name = n > 1 ? l->op->out[k].name : l->op->name;
    return w->c->ref->error;
}

/* Length of the layer's name in that of its parameter; 0: it has none. */
static int length_of_layer(const tern_var *v)
{
    const char *dot = strrchr(v->name, '.');

    return dot ? (int)(dot - v->name) : 0;
}

static bool same_layer(const tern_var *a, const tern_var *b)
{
    const int n = length_of_layer(a);

    return n == length_of_layer(b) && strncmp(a->name, b->name, (size_t)n) == 0;
}

/* New parameters, layer by layer. */
static tern_status name_update(names *w, int i, int k)
{
    const int v = w->p->line[i].out[k].value;
    const tern_var *block = w->updated[v];
    const int64_t first = w->at[v], count = tern_count(w->p->line[i].out[k].m.shape);

    for (int a = 0, b; a < block->n_params; a = b) {
        const tern_var *p = block->params[a];
        int64_t n = 0;

        for (b = a; b < block->n_params && same_layer(p, block->params[b]); b++)
            n += block->params[b]->count;
        if (n == 0 || p->offset < first || p->offset >= first + count) continue;
        ti_compared *e = next_tensor(w->c, i, k);
        if (!e) return w->c->ref->error;
        e->t.pass = TERN_PASS_UPDATE;
        e->t.layer = length_of_layer(p) ? made(w->c, "%.*s", length_of_layer(p), p->name) : "net";
        e->t.name = "update";
        e->t.shape = TI_SHAPE(n);
        e->from = p->offset - first;
    }
    return w->c->ref->error;
}

static tern_status name_all(names *w)
{
    const ti_plan *p = w->p;

    mark_loss(w);
    mark_gradients(w);
    rank_lines(w);
    for (int i = 0; i < p->n_line; i++)
        for (int k = 0; k < p->line[i].op->n_out && p->line[i].op != p->commit; k++) {
            const int v = p->line[i].out[k].value;

            if (v < 0 || makes_hint(&p->line[i], k)) continue;
            TI_TRY(w->updated[v] ? name_update(w, i, k) : name_output(w, i, k));
        }
    return w->c->ref->error;
}

tern_status ti_compare_names(tern_compare *c)
{
    const ti_plan *p = c->plan;
    const size_t n = (size_t)p->n_line, m = (size_t)p->n_value;
    names w = {.c = c, .p = p};

    w.loss = ti_alloc(c->ref, n * sizeof *w.loss);
    w.rank = ti_alloc(c->ref, n * sizeof *w.rank);
    w.port = ti_alloc(c->ref, n * sizeof *w.port);
    w.param = ti_alloc(c->ref, m * sizeof(tern_var *));
    w.updated = ti_alloc(c->ref, m * sizeof(tern_var *));
    w.at = ti_alloc(c->ref, m * sizeof *w.at);
    if (!c->ref->error) (void)!name_all(&w);
    ti_free(c->ref, w.loss);
    ti_free(c->ref, w.rank);
    ti_free(c->ref, w.port);
    ti_free(c->ref, w.param);
    ti_free(c->ref, w.updated);
    ti_free(c->ref, w.at);
    return c->ref->error;
}

/* ---- Where an element lies ---- */

static size_t say_index(char *text, size_t room, tern_shape s, int64_t at)
{
    int64_t index[TERN_RANK];
    size_t n = 0;

    for (int a = s.rank; a-- > 0;) {
        index[a] = s.dim[a] ? at % s.dim[a] : 0;
        at = s.dim[a] ? at / s.dim[a] : 0;
    }
    n += (size_t)snprintf(text, room, "[");
    for (int a = 0; a < s.rank && n < room; a++)
        n += (size_t)snprintf(text + n, room - n, "%s%lld", a ? "," : "", (long long)index[a]);
    if (n < room) n += (size_t)snprintf(text + n, room - n, "]");
    return n;
}

/* The assignment of new parameters that line i computes, or NULL. */
static const ti_line *update_of(const ti_plan *p, int i)
{
    for (int j = i + 1; j < p->n_line; j++) {
        const ti_line *m = &p->line[j];
        if (m->op != p->commit || p->value[m->out[0].value].var->n_params == 0) continue;
        for (int k = 0; k < p->line[i].op->n_out; k++)
            if (p->line[i].out[k].value == m->in[0].value) return m;
    }
    return NULL;
}

const char *tern_compare_place(char text[200], const tern_compare *c, int i, int64_t at)
{
    text[0] = 0;
    if (!c || i < 0 || i >= c->n_tensor || at < 0) return text;
    const ti_compared *e = &c->tensor[i];
    const ti_line *l = &c->plan->line[e->t.call], *commit = update_of(c->plan, e->t.call);
    const tern_var *block = commit ? c->plan->value[commit->out[0].value].var : NULL;

    /* what lies parallel to the parameters is named by them, too */
    if (block && tern_count(l->out[e->out].m.shape) != tern_count(commit->out[0].m.shape))
        block = NULL;
    const int64_t in_block = block ? commit->out[0].m.offset + e->from + at : 0;
    for (int k = 0; block && k < block->n_params; k++) {
        const tern_var *p = block->params[k];

        if (in_block < p->offset || in_block >= p->offset + p->count) continue;
        const size_t used = (size_t)snprintf(text, 200, "%.100s ", p->name);
        say_index(text + used, 200 - used, p->shape, in_block - p->offset);
        return text;
    }
    say_index(text, 200, e->t.shape, at);
    return text;
}
