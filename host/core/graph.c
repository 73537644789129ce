/*
 * graph.c - a plan's calls captured once as the device's graph, and replayed by one launch.
 *
 * What a bound call is given never changes: addresses in the arena and of variables, options. So a
 * graph of the calls is the step. The first run of a bound plan goes call by call, which loads each
 * kernel and lets libraries make what they need; the second one is captured. When the arena grows
 * the addresses move, and both are done again.
 */
#include <stdio.h>

#include "core/program.h"

bool ti_graphs(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;

    if (!ctx->backend->capture_begin || !p->bound || !p->bound->warm || p->times) return false;
    if (!ctx->graphs && !p->bound->told) {
        p->bound->told = true;
        ti_log(ctx, "program", "plan %llu: replayed call by call: graphs are switched off",
               (unsigned long long)p->id);
    }
    return ctx->graphs;
}

void ti_graph_drop(ti_plan *p)
{
    if (!p->bound || !p->bound->graph) return;
    p->ctx->backend->graph_free(p->ctx->device, p->bound->graph);
    p->bound->graph = NULL;
}

/* The capture was spoilt by this line. A device that has failed altogether says so itself. */
static tern_status refused(const ti_plan *p, const ti_bound_line *b, const char *why)
{
    tern_ctx *ctx = p->ctx;
    const ti_line *l = b->row ? &p->line[b->i_line] : NULL;
    const char *failed = ctx->backend->sync(ctx->device);

    if (failed) return ti_fail(ctx, TERN_E_DEVICE, "%s: %s", ctx->device_name, failed);
    return ti_fail(ctx, TERN_E_UNSUPPORTED,
                   "%s: the step cannot be captured: %s/%s (%s %s): %s; TERN_DISABLE=graph runs it "
                   "call by call",
                   ctx->device_name, l ? l->op->name : "graph", l ? b->row->impl : "end",
                   l && l->where ? l->where : "step", l && l->back ? "backward" : "forward", why);
}

/* NULL without an error: for want of memory. */
static ti_graph *capture(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    const ti_backend *device = ctx->backend;
    const ti_bound_line *b = ti_after_derived(p);
    const char *why = device->capture_begin(ctx->device), *at_end = NULL;
    char text[200];

    if (why) {
        refused(p, b, why);
        return NULL;
    }
    for (; b->row; b++) {
        ti_run_row(b->row, &b->work);
        if ((why = device->capture_spoilt(ctx->device)) != NULL) break;
    }
    if (why) snprintf(text, sizeof text, "%s", why); /* the end has a text of its own */
    ti_graph *g = device->capture_end(ctx->device, &at_end);
    if (why) refused(p, b, text);
    else if (!g && at_end[0]) refused(p, b, at_end);
    if (!why || !g) return g;
    device->graph_free(ctx->device, g);
    return NULL;
}

tern_status ti_graph_ready(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    ti_graph *g = NULL;
    int n = 0;

    if (p->bound->graph) return TERN_OK;
    for (const ti_bound_line *b = ti_after_derived(p); b->row; b++) n++;
    if (ti_may_allocate(ctx)) {
        g = capture(p);
        if (!g && !ctx->error) { /* what the pool holds but does not use may make room */
            ti_pool_trim(ctx->pool);
            g = capture(p);
        }
    }
    if (!g && !ctx->error)
        ti_fail(ctx, TERN_E_MEMORY, "%s: no memory for a graph of %d calls", ctx->device_name, n);
    if (!g) return ctx->error;
    p->bound->graph = g;
    ti_log(ctx, "program", "plan %llu: %d calls captured as a graph of %zu nodes",
           (unsigned long long)p->id, n, ctx->backend->graph_size(g));
    return TERN_OK;
}

bool tern_graphs(const tern_ctx *ctx)
{
    return ctx && ctx->graphs && ctx->backend && ctx->backend->capture_begin;
}

void tern_graphs_set(tern_ctx *ctx, bool on)
{
    if (ctx) ctx->graphs = on;
}
