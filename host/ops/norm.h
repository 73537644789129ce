/*
 * norm.h - what batch_norm and the ops that it is fused into refuse.
 */
#ifndef TI_OPS_NORM_H
#define TI_OPS_NORM_H

#include "core/op.h"

static inline double ti_norm_values(tern_shape x) /* per channel */
{
    double n = 1;

    for (int a = 0; a < x.rank; a++) n *= a == 1 ? 1 : (double)x.dim[a];
    return n;
}

/* x, the first input; those of the mask `vectors` are [C] where present; the options. */
static inline tern_status ti_norm_check(const ti_call *c, unsigned vectors, double eps,
                                        double momentum)
{
    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, vectors | 1));
    TI_TRY(ti_need_rank(c, 0, 2, TERN_RANK));
    for (int i = 1; i < c->n_in; i++) {
        if (!(vectors >> i & 1) || !c->in[i]) continue;
        TI_TRY(ti_need_rank(c, i, 1, 1));
        if (c->in[i]->m.shape.dim[0] != c->in[0]->m.shape.dim[1]) return ti_misfit(c, 0, i);
    }
    if (!(eps >= 0)) return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: eps %g < 0", c->op->name, eps);
    if (!(momentum >= 0 && momentum <= 1))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: momentum %g is not in 0 … 1", c->op->name,
                       momentum);
    return TERN_OK;
}

/* Batch statistics need two values per channel. */
static inline tern_status ti_norm_count(const ti_call *c)
{
    const double n = ti_norm_values(c->in[0]->m.shape);
    char text[160];

    if (n >= 2 || c->in[0]->m.shape.dim[1] == 0) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: x %s has %g values per channel; a variance needs two",
                   c->op->name, tern_shape_text(text, c->in[0]->m.shape), n);
}

#endif
