/*
 * chains.c - a pass over a program: elementwise calls that follow each other become one chain.
 *
 * A chain ends with a call and takes in those whose results only its own calls read: operands of
 * one shape, one type and one layout. It stands where its last call stood, so all that it reads is
 * made before and all that reads it comes after. What is between is never written to memory.
 */
#include <string.h>

#include "core/chain.h"
#include "core/program.h"

/* Kinds by the names of operations. Derivatives whose slope jumps are none: their first operand
 * must be a value that was stored. */
static const char *const names[TERN_CHAIN_KINDS] = {
    [TERN_CHAIN_ADD] = "add",         [TERN_CHAIN_SUB] = "sub",
    [TERN_CHAIN_MUL] = "mul",         [TERN_CHAIN_DIV] = "div",
    [TERN_CHAIN_MAXIMUM] = "maximum", [TERN_CHAIN_MINIMUM] = "minimum",
    [TERN_CHAIN_TANH_D] = "tanh_d",   [TERN_CHAIN_SIGMOID_D] = "sigmoid_d",
    [TERN_CHAIN_SCALE] = "scale",     [TERN_CHAIN_SHIFT] = "shift",
    [TERN_CHAIN_NEG] = "neg",         [TERN_CHAIN_ABS] = "abs",
    [TERN_CHAIN_EXP] = "exp",         [TERN_CHAIN_LOG] = "log",
    [TERN_CHAIN_SQRT] = "sqrt",       [TERN_CHAIN_RSQRT] = "rsqrt",
    [TERN_CHAIN_TANH] = "tanh",       [TERN_CHAIN_SIGMOID] = "sigmoid",
    [TERN_CHAIN_RELU] = "relu"};

typedef struct {
    ti_plan *p;
    int *maker, *reads; /* of each value: its line or -1; mentions as an input or a result */
    bool *taken;        /* lines that are in a chain, or gone */
} chaining;

typedef struct {
    int line[TERN_CHAIN], n; /* as the program has them, the last one first */
    const ti_arg *in[TERN_CHAIN_IN];
    int n_in;
} links;

const char *ti_chain_name(int kind) { return names[kind]; }

static int kind_of(const ti_line *l)
{
    for (int k = 1; k < TERN_CHAIN_KINDS; k++)
        if (strcmp(l->op->name, names[k]) == 0) return k;
    return TERN_CHAIN_END;
}

static void look(chaining *c)
{
    ti_plan *p = c->p;

    for (int v = 0; v < p->n_value; v++) c->maker[v] = -1;
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0) c->reads[l->in[k].value]++;
        for (int k = 0; k < l->op->n_out && l->op != p->commit; k++)
            if (l->out[k].value >= 0) c->maker[l->out[k].value] = i;
    }
    for (int i = 0; i < p->n_out; i++) c->reads[p->out[i].value]++;
    c->reads[p->skip]++;
}

/* An elementwise call of floats on operands that all lie as its result does. */
static bool is_link(const chaining *c, int i, const ti_meta *like)
{
    const ti_line *l = &c->p->line[i];
    const tern_type type = l->out[0].m.type;

    if (c->taken[i] || kind_of(l) == TERN_CHAIN_END) return false;
    if ((type != TERN_F32 && type != TERN_F64) || !ti_same_meta(&l->out[0].m, like)) return false;
    for (int k = 0; k < l->n_in; k++)
        if (l->in[k].m.type != type || !tern_same_shape(l->in[k].m.shape, like->shape))
            return false;
    return true;
}

static bool holds(const links *s, int i)
{
    for (int k = 0; k < s->n; k++)
        if (s->line[k] == i) return true;
    return false;
}

/* Whether the links read all of what this value is read for. */
static bool is_inner(const chaining *c, const links *s, int value)
{
    int n = c->reads[value];

    for (int k = 0; k < s->n; k++)
        for (int j = 0; j < c->p->line[s->line[k]].n_in; j++)
            n -= c->p->line[s->line[k]].in[j].value == value;
    return n == 0;
}

/* The operands from outside. False: there are too many. */
static bool find_inputs(const chaining *c, links *s)
{
    s->n_in = 0;
    for (int k = 0; k < s->n; k++) {
        const ti_line *l = &c->p->line[s->line[k]];

        for (int j = 0; j < l->n_in; j++) {
            const ti_arg *a = &l->in[j];
            int i = 0;

            if (c->maker[a->value] >= 0 && holds(s, c->maker[a->value])) continue;
            while (i < s->n_in && !ti_same_arg(s->in[i], a)) i++;
            if (i == TERN_CHAIN_IN) return false;
            if (i == s->n_in) s->in[s->n_in++] = a;
        }
    }
    return true;
}

/* Takes in one more call, later ones first, that only the links read; false: there is none. */
static bool extend(const chaining *c, links *s)
{
    const ti_meta *like = &c->p->line[s->line[0]].out[0].m;

    if (s->n == TERN_CHAIN) return false;
    for (int i = s->line[0] - 1; i >= 0; i--) {
        const int made = c->p->line[i].out[0].value;

        if (holds(s, i) || made < 0 || !is_link(c, i, like) || !is_inner(c, s, made)) continue;
        s->line[s->n++] = i;
        if (find_inputs(c, s)) return true;
        s->n--;
    }
    return false;
}

/* ---- The new line ---- */

static void in_order(links *s)
{
    for (int i = 1; i < s->n; i++)
        for (int k = i; k > 0 && s->line[k] < s->line[k - 1]; k--) {
            const int line = s->line[k];
            s->line[k] = s->line[k - 1];
            s->line[k - 1] = line;
        }
}

static int operand_of(const chaining *c, const links *s, const ti_arg *a)
{
    for (int k = 0; k < s->n; k++)
        if (c->maker[a->value] == s->line[k]) return TERN_CHAIN_IN + k;
    for (int i = 0; i < s->n_in; i++)
        if (ti_same_arg(s->in[i], a)) return i;
    return 0;
}

static tern_chain_opts options_of(const chaining *c, const links *s)
{
    tern_chain_opts o = {.kind = {0}};

    for (int k = 0; k < s->n; k++) {
        const ti_line *l = &c->p->line[s->line[k]];

        o.kind[k] = kind_of(l);
        o.a[k] = operand_of(c, s, &l->in[0]);
        if (l->n_in > 1) o.b[k] = operand_of(c, s, &l->in[1]);
        if (l->op->opts_size) o.p[k] = ((const tern_scalar_opts *)l->opts)->value;
    }
    return o;
}

/* A row for it, no reference where the calls had better; NULL: there is none, or an error. */
static ti_choice *row_for(const chaining *c, const links *s, const ti_op *op,
                          const tern_chain_opts *o)
{
    tern_ctx *ctx = c->p->ctx;
    tern_tensor tensor[TERN_CHAIN_IN], *in[TERN_CHAIN_IN] = {NULL};
    ti_call call = {.ctx = ctx, .op = op, .opts = o, .n_in = TERN_CHAIN_IN, .in = in};
    bool all_ref = true;

    for (int i = 0; i < s->n_in; i++) {
        tensor[i] = (tern_tensor){.m = s->in[i]->m};
        in[i] = &tensor[i];
    }
    for (int k = 0; k < s->n; k++) all_ref &= c->p->line[s->line[k]].how->row->body != NULL;
    ti_choice *how = ti_choose(ctx, &call, 1);
    if (!how) {
        if (ctx->error != TERN_E_MEMORY) tern_error_clear(ctx);
        return NULL;
    }
    const ti_meta *like = &c->p->line[s->line[s->n - 1]].out[0].m;
    if (how->packs || (how->row->body && !all_ref) || !ti_same_meta(&how->out[0], like))
        return NULL;
    return how;
}

static void replace(chaining *c, links *s)
{
    ti_plan *p = c->p;
    const ti_op *op = ti_op_named("chain");
    ti_line made, *last;

    in_order(s);
    const tern_chain_opts o = options_of(c, s);
    ti_choice *how = row_for(c, s, op, &o);
    if (!how || ti_line_init(p, &made, op, &o, TERN_CHAIN_IN, how)) return;
    last = &p->line[s->line[s->n - 1]];
    for (int i = 0; i < TERN_CHAIN_IN; i++)
        made.in[i] = i < s->n_in ? *s->in[i] : (ti_arg){.value = -1};
    made.out[0] = last->out[0];
    made.where = last->where;
    made.back = last->back;
    made.fused = "y = elementwise x";
    for (int k = 0; k < s->n; k++) {
        ti_line_free(p, &p->line[s->line[k]]);
        c->taken[s->line[k]] = true;
    }
    *last = made;
}

tern_status ti_chain(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    int *memory = ti_alloc(ctx, 2 * (size_t)p->n_value * sizeof *memory), n = 0;
    chaining c = {.p = p, .maker = memory};

    c.taken = memory ? ti_alloc(ctx, (size_t)p->n_line + 1) : NULL;
    if (c.taken) {
        c.reads = memory + p->n_value;
        look(&c);
        for (int i = p->n_line; i-- > 0 && !ctx->error;) {
            links s = {.line = {i}, .n = 1};

            if (!is_link(&c, i, &p->line[i].out[0].m) || !find_inputs(&c, &s)) continue;
            while (extend(&c, &s)) continue;
            if (s.n > 1) replace(&c, &s);
        }
        for (int i = 0; i < p->n_line; i++)
            if (p->line[i].op) p->line[n++] = p->line[i];
        p->n_line = n;
    }
    ti_free(ctx, c.taken);
    ti_free(ctx, memory);
    return ctx->error;
}
