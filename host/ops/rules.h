/*
 * rules.h - what the shape rules, bounds and samples of several op files share.
 */
#ifndef TI_OPS_RULES_H
#define TI_OPS_RULES_H

#include <string.h>

#include "core/op.h"

/* Refuses shapes whose elements cannot be counted, or their bytes not. */
static inline tern_status ti_countable(const ti_call *c, tern_shape s)
{
    const int64_t n = tern_count(s);
    char text[160];

    if (n >= 0 && n <= INT64_MAX / 16) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: a result of shape %s is not possible", c->op->name,
                   s.rank < 0 || s.rank > TERN_RANK ? "(bad rank)" : tern_shape_text(text, s));
}

/* Rank and extents out of options. In texts the rank may be left out (0): then it is the number of
 * extents up to the last that is not 0. */
static inline tern_status ti_shape_of(const ti_call *c, int64_t rank, const int64_t *dim,
                                      tern_shape *to)
{
    memset(to, 0, sizeof *to);
    if (rank < 0 || rank > TERN_RANK)
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: rank %lld is not in 0 ... %d", c->op->name,
                       (long long)rank, TERN_RANK);
    for (int a = 0; rank == 0 && a < TERN_RANK; a++)
        if (dim[a] != 0) to->rank = a + 1;
    if (rank > 0) to->rank = (int)rank;
    memcpy(to->dim, dim, (size_t)to->rank * sizeof *dim);
    return TERN_OK;
}

/* The other way, for public functions; a bad rank stays for the shape rule to refuse. */
static inline void ti_shape_into(tern_shape s, int64_t *rank, int64_t *dim)
{
    *rank = s.rank;
    if (s.rank > 0 && s.rank <= TERN_RANK) memcpy(dim, s.dim, (size_t)s.rank * sizeof *dim);
}

/* One element that broadcasts against x, of x's type. NULL for NULL. */
static inline tern_tensor *ti_constant(tern_ctx *ctx, const tern_tensor *x, double value)
{
    return x ? tern_fill(ctx, x->m.type, TI_SCALAR, value) : NULL;
}

/* `factor` roundings of the result itself. */
static inline tern_tensor *ti_relative_bound(const ti_call *c, double factor)
{
    return tern_scale(c->ctx, tern_abs(c->ctx, c->out[0]), factor);
}

/* Samples: an input of a shape and how it is drawn. */
#define TI_D(draw_, ...)                                                                           \
    {                                                                                              \
        .shape = TI_SHAPE(__VA_ARGS__), .draw = TI_S_##draw_                                       \
    }
#define TI_D0(draw_)                                                                               \
    {                                                                                              \
        .draw = TI_S_##draw_                                                                       \
    }
#define TI_DL(draw_, limit_, ...)                                                                  \
    {                                                                                              \
        .shape = TI_SHAPE(__VA_ARGS__), .draw = TI_S_##draw_, .limit = limit_                      \
    }

#endif
