/*
 * layout.c - a pass over a program: what is made of parameters alone is kept from run to run.
 *
 * Weights that lie as a kernel wants them, or are rounded for a math mode, are derived: calls whose
 * inputs are parameters that the step does not write (evaluation, a frozen net), or derived
 * themselves. Such calls come first, their results have memory of their own, and a replay runs them
 * only where a parameter has changed since the last one. Where a step writes its parameters they
 * are ordinary calls, which ti_prune has made one wherever they are equal.
 */
#include <string.h>

#include "core/program.h"

enum { GROWS = 4 }; /* results that are larger than what they are made of by more are made anew */

static bool is_written(const ti_plan *p, int v)
{
    for (int i = 0; i < p->n_line; i++)
        if (p->line[i].op == p->commit && p->line[i].out[0].value == v) return true;
    return false;
}

static void find_sources(ti_plan *p)
{
    for (int v = 0; v < p->n_value; v++) {
        ti_value *x = &p->value[v];

        x->source = x->kind == TI_VARIABLE && x->var->n_params > 0 && !is_written(p, v);
    }
}

static bool is_derived(const ti_plan *p, const ti_line *l)
{
    size_t from = 0, to = 0;

    if (l->op == p->commit) return false;
    for (int k = 0; k < l->n_in; k++) {
        if (l->in[k].value < 0) continue;
        const ti_value *x = &p->value[l->in[k].value];
        if (!x->source && x->kind != TI_DERIVED) return false;
        from += ti_bytes(&l->in[k].m);
    }
    for (int k = 0; k < l->op->n_out; k++)
        if (l->out[k].value >= 0) to += p->value[l->out[k].value].bytes;
    return from > 0 && to <= GROWS * from;
}

/* Its results move out of the arena. */
static void keep(ti_plan *p, const ti_line *l)
{
    for (int k = 0; k < l->op->n_out; k++) {
        if (l->out[k].value < 0) continue;
        ti_value *x = &p->value[l->out[k].value];
        x->kind = TI_DERIVED;
        x->at = p->derived_bytes;
        p->derived_bytes += ti_align(x->bytes);
    }
}

tern_status ti_lay_out(ti_plan *p)
{
    ti_line *rest = ti_alloc(p->ctx, (size_t)p->n_line * sizeof *rest);
    int n_rest = 0;

    if (!rest) return p->ctx->error;
    find_sources(p);
    for (int i = 0; i < p->n_line; i++) {
        const ti_line l = p->line[i];

        if (!is_derived(p, &l)) {
            rest[n_rest++] = l;
            continue;
        }
        keep(p, &l);
        p->line[p->n_derived++] = l;
    }
    memcpy(p->line + p->n_derived, rest, (size_t)n_rest * sizeof *rest);
    ti_free(p->ctx, rest);
    return TERN_OK;
}

const ti_bound_line *ti_after_derived(const ti_plan *p)
{
    const ti_bound_line *b = p->bound->line;

    while (b->row && b->i_line < p->n_derived) b++;
    return b;
}

tern_status ti_refresh(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    uint64_t stamp = 1;

    if (!p->n_derived) return TERN_OK;
    for (int v = 0; v < p->n_value; v++) /* versions only grow, and so does their sum */
        if (p->value[v].source) stamp += p->value[v].var->version;
    if (p->stamp == stamp) return TERN_OK;
    p->stamp = 0;
    for (const ti_bound_line *b = p->bound->line; b != ti_after_derived(p); b++)
        ti_run_row(b->row, &b->work);
    TI_TRY(ti_check_device(ctx, false));
    TI_TRY(ti_check_fault(ctx));
    p->stamp = stamp;
    return TERN_OK;
}
