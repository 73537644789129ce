/*
 * near.h - values that carry bounds of their errors: compositions and bounds of ops with many steps
 * out of one text.
 *
 * An error is in units of u and to first order: an operation's own rounding, and what becomes of
 * its operands' errors. Without `errors` only values are computed.
 */
#ifndef TI_OPS_NEAR_H
#define TI_OPS_NEAR_H

#include "ops/common.h"
#include "ops/rules.h"

typedef struct {
    tern_tensor *v, *e; /* e NULL: exact, or not asked */
} ti_near;

typedef struct {
    tern_ctx *ctx;
    bool errors;
    double sum; /* ti_sum_error of the row's chain, for products and sums */
} ti_near_how;

/* a + b, NULL for none. */
static inline tern_tensor *ti_near_total(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)
{
    return a && b ? tern_add(ctx, a, b) : a ? a : b;
}

/* e + |w| d, for the error d of the factor beside w. */
static inline tern_tensor *ti_near_plus(tern_ctx *ctx, tern_tensor *e, tern_tensor *w,
                                        tern_tensor *d)
{
    return d ? ti_near_total(ctx, e, tern_mul(ctx, tern_abs(ctx, w), d)) : e;
}

static inline ti_near ti_near_add(const ti_near_how *m, ti_near a, ti_near b)
{
    ti_near y = {tern_add(m->ctx, a.v, b.v), NULL};

    if (m->errors)
        y.e = ti_near_total(m->ctx, ti_near_total(m->ctx, tern_abs(m->ctx, y.v), a.e), b.e);
    return y;
}

static inline ti_near ti_near_mul(const ti_near_how *m, ti_near a, ti_near b)
{
    ti_near y = {tern_mul(m->ctx, a.v, b.v), NULL};

    if (m->errors)
        y.e = ti_near_plus(m->ctx, ti_near_plus(m->ctx, tern_abs(m->ctx, y.v), a.v, b.e), b.v, a.e);
    return y;
}

/* 1 - a */
static inline ti_near ti_near_rest(const ti_near_how *m, ti_near a)
{
    ti_near y = {tern_shift(m->ctx, tern_neg(m->ctx, a.v), 1), NULL};

    if (m->errors) y.e = ti_near_total(m->ctx, tern_abs(m->ctx, y.v), a.e);
    return y;
}

/* The slope of an activation with result y. */
static inline ti_near ti_near_slope(const ti_near_how *m, ti_near y, int act)
{
    if (act == TERN_SIGMOID) return ti_near_mul(m, y, ti_near_rest(m, y));
    return ti_near_rest(m, ti_near_mul(m, y, y));
}

static inline ti_near ti_near_act(const ti_near_how *m, ti_near a, int act)
{
    tern_ctx *ctx = m->ctx;
    ti_near y = {ti_act(ctx, a.v, act), NULL};

    if (!m->errors || act == TERN_RELU) return (ti_near){y.v, a.e};
    y.e = tern_scale(ctx, tern_abs(ctx, y.v), 4);
    if (a.e) {
        const ti_near_how exact = {.ctx = ctx};
        y.e = ti_near_plus(ctx, y.e, ti_near_slope(&exact, (ti_near){y.v, NULL}, act).v, a.e);
    }
    return y;
}

/* g times the slope of an activation whose result is y. */
static inline ti_near ti_near_back(const ti_near_how *m, ti_near y, ti_near g, int act)
{
    tern_tensor *zero = ti_constant(m->ctx, y.v, 0);

    if (act != TERN_RELU) return ti_near_mul(m, g, ti_near_slope(m, y, act));
    tern_tensor *up = tern_gt(m->ctx, y.v, zero);
    return (ti_near){tern_where(m->ctx, up, g.v, zero), g.e};
}

static inline tern_tensor *ti_near_part(tern_ctx *ctx, tern_tensor *x, int axis, int64_t from,
                                        int64_t count)
{
    if (!x || (from == 0 && count == tern_shape_of(x).dim[axis])) return x;
    return tern_slice(ctx, x, &(tern_slice_opts){.axis = axis, .from = from, .count = count});
}

static inline ti_near ti_near_columns(const ti_near_how *m, ti_near a, int64_t from, int64_t count)
{
    return (ti_near){ti_near_part(m->ctx, a.v, 1, from, count),
                     ti_near_part(m->ctx, a.e, 1, from, count)};
}

static inline tern_tensor *ti_near_zeros(tern_ctx *ctx, const tern_tensor *x)
{
    return x ? tern_fill(ctx, x->m.type, x->m.shape, 0) : NULL;
}

static inline tern_tensor *ti_near_error(const ti_near_how *m, ti_near a)
{
    return a.e ? a.e : ti_near_zeros(m->ctx, a.v);
}

/* n <= 4 of them side by side, along axis 1. */
static inline ti_near ti_near_beside(const ti_near_how *m, int n, const ti_near *a)
{
    tern_tensor *v[4], *e[4];

    for (int i = 0; i < n; i++) {
        v[i] = a[i].v;
        if (m->errors) e[i] = ti_near_error(m, a[i]);
    }
    return (ti_near){n == 1 ? v[0] : tern_concat(m->ctx, n, v, 1),
                     !m->errors ? NULL
                     : n == 1   ? e[0]
                                : tern_concat(m->ctx, n, e, 1)};
}

/* a w, rows from … from+count of w, which is exact. */
static inline ti_near ti_near_product(const ti_near_how *m, ti_near a, tern_tensor *w, int64_t from,
                                      int64_t count)
{
    tern_ctx *ctx = m->ctx;
    ti_near y;

    w = ti_near_part(ctx, w, 0, from, count);
    y = (ti_near){tern_matmul(ctx, a.v, w), NULL};
    if (m->errors) {
        tern_tensor *size = tern_scale(ctx, tern_abs(ctx, a.v), m->sum);
        y.e = tern_matmul(ctx, ti_near_total(ctx, size, a.e), tern_abs(ctx, w));
    }
    return y;
}

/* a w' + b, b may be NULL; rows from … from+count of both. */
static inline ti_near ti_near_linear(const ti_near_how *m, ti_near a, tern_tensor *w,
                                     tern_tensor *b, int64_t from, int64_t count)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *rows = ti_near_part(ctx, w, 0, from, count);
    ti_near y = ti_near_product(m, a, tern_transpose(ctx, rows, 0, 1), 0, tern_shape_of(w).dim[1]);

    if (!b) return y;
    b = ti_near_part(ctx, b, 0, from, count);
    y.v = tern_add(ctx, y.v, b);
    if (m->errors) y.e = tern_add(ctx, y.e, tern_scale(ctx, tern_abs(ctx, b), m->sum));
    return y;
}

/* g' h with the sum over rows. */
static inline ti_near ti_near_outer(const ti_near_how *m, ti_near g, ti_near h)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *gt = tern_transpose(ctx, g.v, 0, 1);
    ti_near y = {tern_matmul(ctx, gt, h.v), NULL};

    if (!m->errors) return y;
    tern_tensor *g_size = tern_abs(ctx, gt), *h_size = tern_abs(ctx, h.v);
    tern_tensor *all = tern_add(ctx, tern_scale(ctx, g_size, m->sum),
                                tern_transpose(ctx, ti_near_error(m, g), 0, 1));
    y.e = tern_matmul(ctx, all, h_size);
    if (h.e) y.e = tern_add(ctx, y.e, tern_matmul(ctx, g_size, h.e));
    return y;
}

/* Sums over the rows of g. */
static inline ti_near ti_near_sums(const ti_near_how *m, ti_near g)
{
    const tern_reduce_opts rows = {.axes = 1};
    ti_near y = {tern_sum(m->ctx, g.v, &rows), NULL};

    if (m->errors) {
        tern_tensor *size = tern_scale(m->ctx, tern_abs(m->ctx, g.v), m->sum);
        y.e = tern_sum(m->ctx, ti_near_total(m->ctx, size, g.e), &rows);
    }
    return y;
}

/* mask ? a : b; mask NULL: a. */
static inline ti_near ti_near_chosen(const ti_near_how *m, tern_tensor *mask, ti_near a, ti_near b)
{
    if (!mask) return a;
    return (ti_near){tern_where(m->ctx, mask, a.v, b.v),
                     m->errors ? tern_where(m->ctx, mask, ti_near_error(m, a), ti_near_error(m, b))
                               : NULL};
}

#endif
