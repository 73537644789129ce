/*
 * watch.c - for checkers, while a plan is replayed call by call: what of its arena is alive.
 *
 * To a checker of memory the arena is one block of the pool, in which a call may overrun its output
 * into the next value, or read one that has died, unseen. So the block is taken back while the plan
 * runs, and each value is a block of its own from the line that makes it to the last that reads it.
 */
#include "core/program.h"

static bool lies_in_arena(const ti_plan *p, int v)
{
    const ti_value *x = &p->value[v];

    return x->home == v && x->last >= 0 && (x->kind == TI_INPUT || x->kind == TI_TEMPORARY);
}

static void tell(const ti_plan *p, int v, bool live)
{
    const ti_value *x = &p->value[v];

    ti_pool_mark(p->ctx->pool, p->ctx->arena->data + x->at, x->bytes, live);
}

static void tell_of_arena(const ti_plan *p, bool live)
{
    ti_pool_mark(p->ctx->pool, p->ctx->arena->data, p->ctx->arena->bytes, live);
}

void ti_watch_begin(ti_plan *p)
{
    p->i_watched = -1;
    if (!ti_pool_watched(p->ctx->pool)) return;
    tell_of_arena(p, false);
    for (int v = 0; v < p->n_value; v++)
        if (lies_in_arena(p, v) && p->value[v].first < 0) tell(p, v, true);
}

/* Lines between the last one and this one have nothing to do, but values are theirs, too. */
void ti_watch_line(ti_plan *p, int i)
{
    const int before = p->i_watched;

    if (!ti_pool_watched(p->ctx->pool)) return;
    for (int v = 0; v < p->n_value; v++) {
        const ti_value *x = &p->value[v];
        if (lies_in_arena(p, v) && x->first <= before && x->last >= before && x->last < i)
            tell(p, v, false);
    }
    for (int v = 0; v < p->n_value; v++) {
        const ti_value *x = &p->value[v];
        if (lies_in_arena(p, v) && x->first > before && x->first <= i && x->last >= i)
            tell(p, v, true);
    }
    p->i_watched = i;
}

void ti_watch_end(ti_plan *p)
{
    if (!ti_pool_watched(p->ctx->pool)) return;
    for (int v = 0; v < p->n_value; v++)
        if (lies_in_arena(p, v)) tell(p, v, false);
    tell_of_arena(p, true);
}
