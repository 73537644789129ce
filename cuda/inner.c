/*
 * inner.c - calls of our own rows inside a library's row: beside it, before it (operands rounded to
 * the math mode) and after it.
 */
#include <string.h>

#include "tern/ops.h"
#include "vendor.h"

/* One that takes the numbers as they are: rows of other math modes are no measure. */
const ti_row *ti_own_row(const ti_work *w)
{
    const ti_row *best = NULL;
    double least = 0;

    for (int k = 0; ti_cuda_rows[k]; k++)
        for (const ti_row *r = ti_cuda_rows[k]; r->op; r++) {
            if (strcmp(r->op, w->op->name) != 0 || r->prepare || r->numbers >= TI_CLASS_TF32 ||
                (r->reject && r->reject(w)))
                continue;
            const double cost = r->cost ? r->cost(w) : 1e18;
            if (!best || cost < least) best = r, least = cost;
        }
    return best;
}

size_t ti_own_scratch(const ti_row *row, const ti_work *w)
{
    const size_t bytes = row && row->scratch ? row->scratch(w) : 0;

    return bytes < 64 ? 64 : bytes;
}

double ti_work_bytes(const ti_work *w)
{
    double bytes = 0;

    for (int i = 0; i < w->n_in + w->op->n_out; i++) {
        const ti_view *v = i < w->n_in ? &w->in[i] : &w->out[i - w->n_in];
        if (v->count > 0) bytes += (double)v->count * (double)tern_type_size(v->m.type);
    }
    return bytes;
}

void ti_inner_call(ti_inner *c, const ti_work *w, const char *op, const void *opts, int n_in,
                   const ti_view *in, ti_view out)
{
    memset(c, 0, sizeof *c);
    c->op = (ti_op){.name = op, .n_in = n_in, .n_out = 1};
    for (int i = 0; i < TI_OUTS; i++) c->out[i].count = -1;
    memcpy(c->in, in, (size_t)n_in * sizeof *in);
    c->out[0] = out;
    c->w = (ti_work){.op = &c->op,
                     .opts = opts,
                     .n_in = n_in,
                     .in = c->in,
                     .out = c->out,
                     .scratch = w->scratch,
                     .device = w->device,
                     .fault = w->fault,
                     .tuner = w->tuner,
                     .varies = w->varies};
}

void ti_relu_after(const ti_work *w)
{
    ti_inner c;

    ti_inner_call(&c, w, "relu", NULL, 1, &w->out[0], w->out[0]);
    ti_own_row(&c.w)->run(&c.w);
}

/* ---- Rounding the operands ---- */

static bool is_operand(const ti_work *w, int i)
{
    return (w->op->operands >> i & 1) && w->in[i].count > 0 && w->in[i].m.type == TERN_F32;
}

static size_t whole(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t ti_rounded_scratch(const ti_work *w, size_t inner)
{
    size_t bytes = whole(inner);

    for (int i = 0; i < w->n_in; i++)
        if (is_operand(w, i)) bytes += whole(ti_bytes(&w->in[i].m));
    return bytes;
}

void ti_rounded_run(const ti_work *w, tern_math_t to, size_t inner, ti_run_fn run)
{
    const tern_round_to_opts format = {(int)to};
    char *at = (char *)w->scratch + whole(inner);
    ti_work rounded = *w;
    ti_view in[TI_FEW];

    memcpy(in, w->in, (size_t)w->n_in * sizeof *in);
    for (int i = 0; i < w->n_in; i++) {
        ti_inner c;

        if (!is_operand(w, i)) continue;
        in[i].data = at;
        at += whole(ti_bytes(&in[i].m));
        ti_inner_call(&c, w, "round_to", &format, 1, &w->in[i], in[i]);
        ti_own_row(&c.w)->run(&c.w);
    }
    rounded.in = in;
    run(&rounded);
}
