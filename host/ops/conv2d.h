/*
 * conv2d.h - the shape rule that conv2d, its adjoints and its fused forms share.
 */
#ifndef TI_OPS_CONV2D_H
#define TI_OPS_CONV2D_H

#include "core/geometry.h"
#include "core/op.h"

/* The extents of conv2d(x, w) into y; every misfit of shapes and options fails with its numbers. */
static inline tern_status ti_conv2d_extents(const ti_call *c, const tern_conv2d_opts *o,
                                            tern_shape x, tern_shape w, tern_shape *y)
{
    const char *op = c->op->name;

    if (o->groups < 1) return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: groups %d < 1", op, o->groups);
    if (x.dim[1] % o->groups)
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %d groups do not divide C=%lld", op, o->groups,
                       (long long)x.dim[1]);
    if (w.dim[0] % o->groups)
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %d groups do not divide K=%lld", op, o->groups,
                       (long long)w.dim[0]);
    if (x.dim[1] / o->groups != w.dim[1])
        return ti_fail(c->ctx, TERN_E_SHAPE,
                       "%s: filters of %lld channels on C=%lld in %d groups (%lld each)", op,
                       (long long)w.dim[1], (long long)x.dim[1], o->groups,
                       (long long)(x.dim[1] / o->groups));
    *y = TI_SHAPE(x.dim[0], w.dim[0], 0, 0);
    for (int a = 0; a < 2; a++) {
        const char *axis = a ? "columns" : "rows";
        if (o->stride[a] < 1 || o->dilation[a] < 1 || o->pad[a] < 0)
            return ti_fail(c->ctx, TERN_E_ARGUMENT,
                           "%s: stride %d, dilation %d, pad %d of the %s: the least are 1, 1, 0",
                           op, o->stride[a], o->dilation[a], o->pad[a], axis);
        if (w.dim[2 + a] < 1)
            return ti_fail(c->ctx, TERN_E_SHAPE, "%s: filters without %s", op, axis);
        const ti_windows v = {x.dim[2 + a], w.dim[2 + a], o->stride[a], o->pad[a], o->dilation[a]};
        y->dim[2 + a] = ti_windows_count(&v, false);
        if (y->dim[2 + a] < 1)
            return ti_fail(c->ctx, TERN_E_SHAPE,
                           "%s: a filter of %lld %s, %d apart, exceeds %lld with pads of %d", op,
                           (long long)v.size, axis, o->dilation[a], (long long)v.extent, o->pad[a]);
    }
    if (tern_count(*y) < 0)
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: the result has more than 2^63 elements", op);
    return TERN_OK;
}

#endif
