/*
 * near_sums.h - parts of values that carry probes of their errors, products and sums of them.
 */
#ifndef TI_OPS_NEAR_SUMS_H
#define TI_OPS_NEAR_SUMS_H

#include "ops/near.h"

/* ---- Parts ---- */

static inline tern_tensor *ti_near_part(tern_ctx *ctx, tern_tensor *x, int axis, int64_t from,
                                        int64_t count)
{
    if (!x || (from == 0 && count == tern_shape_of(x).dim[axis])) return x;
    return tern_slice(ctx, x, &(tern_slice_opts){.axis = axis, .from = from, .count = count});
}

static inline ti_near ti_near_columns(const ti_near_how *m, ti_near a, int64_t from, int64_t count)
{
    return (ti_near){.v = ti_near_part(m->ctx, a.v, 1, from, count),
                     .e = ti_near_part(m->ctx, a.e, 2, from, count),
                     .unit = a.unit};
}

/* The probes of a, zeros if it is exact. */
static inline tern_tensor *ti_near_error(const ti_near_how *m, ti_near a)
{
    if (a.e || !a.v) return a.e;
    return tern_fill(m->ctx, a.v->m.type, ti_near_probes(tern_shape_of(a.v)), 0);
}

/* n <= 4 of them side by side, along axis 1. */
static inline ti_near ti_near_beside(const ti_near_how *m, int n, const ti_near *a)
{
    tern_tensor *v[4], *e[4];

    if (n == 1) return a[0];
    for (int i = 0; i < n; i++) {
        v[i] = a[i].v;
        if (m->errors) e[i] = ti_near_error(m, a[i]);
    }
    return (ti_near){.v = tern_concat(m->ctx, n, v, 1),
                     .e = m->errors ? tern_concat(m->ctx, n, e, 2) : NULL};
}

/* mask ? a : b; mask NULL: a. */
static inline ti_near ti_near_chosen(const ti_near_how *m, tern_tensor *mask, ti_near a, ti_near b)
{
    if (!mask) return a;
    ti_near y = {.v = tern_where(m->ctx, mask, a.v, b.v)};
    if (a.e || b.e) {
        tern_tensor *zero = ti_constant(m->ctx, y.v, 0);
        y.e = tern_where(m->ctx, mask, a.e ? a.e : zero, b.e ? b.e : zero);
    }
    return y;
}

/* ---- Products: w and b are exact ---- */

/* The probes of a w + b, b may be NULL. */
static inline tern_tensor *ti_near_through(const ti_near_how *m, ti_near a, tern_tensor *w,
                                           tern_tensor *b)
{
    tern_ctx *ctx = m->ctx;
    const int64_t terms = tern_shape_of(w).dim[0];
    tern_tensor *size = tern_matmul(ctx, tern_abs(ctx, a.v), tern_abs(ctx, w));
    tern_tensor *e = a.e ? tern_matmul(ctx, a.e, w) : NULL;

    if (b) size = tern_add(ctx, size, tern_abs(ctx, b));
    return ti_near_rounded(m, e, tern_scale(ctx, size, ti_near_scale(m, terms)));
}

/* a w, rows from … from+count of w. */
static inline ti_near ti_near_product(const ti_near_how *m, ti_near a, tern_tensor *w, int64_t from,
                                      int64_t count)
{
    w = ti_near_part(m->ctx, w, 0, from, count);
    return (ti_near){.v = tern_matmul(m->ctx, a.v, w),
                     .e = m->errors ? ti_near_through(m, a, w, NULL) : NULL};
}

/* a w' + b, b may be NULL; rows from … from+count of both. */
static inline ti_near ti_near_linear(const ti_near_how *m, ti_near a, tern_tensor *w,
                                     tern_tensor *b, int64_t from, int64_t count)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *turned = tern_transpose(ctx, ti_near_part(ctx, w, 0, from, count), 0, 1);
    ti_near y = {.v = tern_matmul(ctx, a.v, turned)};

    b = ti_near_part(ctx, b, 0, from, count);
    if (b) y.v = tern_add(ctx, y.v, b);
    if (m->errors) y.e = ti_near_through(m, a, turned, b);
    return y;
}

/* ---- Sums over all steps, of which only errors are asked ---- */

typedef struct {
    tern_tensor *e, *size; /* of the terms: probes, and the sum of their sizes */
} ti_near_sum;

static inline ti_near_sum ti_near_both(tern_ctx *ctx, ti_near_sum a, ti_near_sum b)
{
    return (ti_near_sum){ti_near_total(ctx, a.e, b.e), ti_near_total(ctx, a.size, b.size)};
}

/* g' h with the sum over rows. */
static inline ti_near_sum ti_near_outer(const ti_near_how *m, ti_near g, ti_near h)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *turned = tern_transpose(ctx, g.v, 0, 1);
    tern_tensor *by_g = g.e ? tern_matmul(ctx, tern_transpose(ctx, g.e, 1, 2), h.v) : NULL;
    tern_tensor *by_h = h.e ? tern_matmul(ctx, turned, h.e) : NULL;

    return (ti_near_sum){ti_near_total(ctx, by_g, by_h),
                         tern_matmul(ctx, tern_abs(ctx, turned), tern_abs(ctx, h.v))};
}

/* Sums over the rows of g. */
static inline ti_near_sum ti_near_sums(const ti_near_how *m, ti_near g)
{
    const tern_reduce_opts rows = {.axes = 1}, probe_rows = {.axes = 2};

    return (ti_near_sum){g.e ? tern_sum(m->ctx, g.e, &probe_rows) : NULL,
                         tern_sum(m->ctx, tern_abs(m->ctx, g.v), &rows)};
}

#endif
