/*
 * pool2d.c - reference for pools.
 *
 * Window (p, q) covers rows p*stride - pad + r*dilation, columns likewise; what lies outside of x
 * is no element of it.
 */
#include "cpu/ref/ref.h"

typedef struct {
    int64_t size[2], stride[2], pad[2], dilation[2];
    int64_t H, W, P, Q; /* extents of x and of y */
} windows;

static windows windows_of(const ti_work *w, const ti_view *x, const ti_view *y)
{
    const tern_pool2d_opts *o = w->opts;
    windows v = {.H = x->m.shape.dim[2],
                 .W = x->m.shape.dim[3],
                 .P = y->m.shape.dim[2],
                 .Q = y->m.shape.dim[3]};

    for (int a = 0; a < 2; a++) {
        v.size[a] = o->size[a];
        v.stride[a] = o->stride[a] ? o->stride[a] : o->size[a];
        v.pad[a] = o->pad[a];
        v.dilation[a] = o->dilation[a];
    }
    return v;
}

/* Those elements r, s of window i that lie in x. All of them may be more than a loop can pass. */
typedef struct {
    int64_t from[2], to[2], start[2];
} part;

static part part_of(const windows *v, int64_t i)
{
    const int64_t o[2] = {i / v->Q % v->P, i % v->Q}, extent[2] = {v->H, v->W};
    part p;

    for (int a = 0; a < 2; a++) {
        const int64_t d = v->dilation[a], start = o[a] * v->stride[a] - v->pad[a];
        const int64_t most = (extent[a] - start + d - 1) / d;
        p.start[a] = start;
        p.from[a] = start < 0 ? (d - 1 - start) / d : 0;
        p.to[a] = most < v->size[a] ? most : v->size[a];
    }
    return p;
}

#define ELEMENTS(p, r, s)                                                                          \
    for (int64_t r = (p).from[0]; r < (p).to[0]; r++)                                              \
        for (int64_t s = (p).from[1]; s < (p).to[1]; s++)

/* Where one of them is in its plane of x. */
static int64_t place(const windows *v, const part *p, int64_t r, int64_t s)
{
    return (p->start[0] + r * v->dilation[0]) * v->W + p->start[1] + s * v->dilation[1];
}

/* The first of the largest in window i, NaN above all: where in the plane, and r S + s. */
static int64_t largest(const windows *v, const double *plane, int64_t i, int64_t *where)
{
    const part p = part_of(v, i);
    int64_t best = -1;

    ELEMENTS(p, r, s)
    {
        const int64_t at = place(v, &p, r, s);
        if (best >= 0 && (isnan(plane[best]) || !(plane[at] > plane[best] || isnan(plane[at]))))
            continue;
        best = at;
        *where = r * v->size[1] + s;
    }
    return best;
}

static void max_pool(const ti_work *w, ti_vec in, ti_vec out)
{
    const windows v = windows_of(w, &w->in[0], out[0] ? &w->out[0] : &w->out[out[1] ? 1 : 2]);
    const int64_t n = w->in[0].m.shape.dim[0] * w->in[0].m.shape.dim[1] * v.P * v.Q;

    for (int64_t i = 0; i < n; i++) {
        const double *plane = in[0] + i / (v.P * v.Q) * v.H * v.W;
        int64_t where = 0;
        const int64_t at = largest(&v, plane, i, &where);
        if (out[0]) out[0][i] = plane[at];
        if (out[1]) out[1][i] = (double)at;
        if (out[2]) out[2][i] = (double)where;
    }
}

/* x gy [where]; the hint is not looked at: x says it all. */
static void max_pool_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const windows v = windows_of(w, &w->in[0], &w->in[1]);
    int64_t where;

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = 0;
    for (int64_t i = 0; i < w->in[1].count; i++) {
        const int64_t plane = i / (v.P * v.Q) * v.H * v.W;
        out[0][plane + largest(&v, in[0] + plane, i, &where)] += in[1][i];
    }
}

/* g indices: added up in the planes; x indices: read from them. */
static void max_pool_dx(const ti_work *w, ti_vec in, ti_vec out)
{
    const int64_t *X = w->out[0].m.shape.dim, *Y = w->in[0].m.shape.dim, n = X[2] * X[3];

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = 0;
    for (int64_t i = 0; i < w->in[0].count; i++) {
        const int64_t at = ti_index_at(w, &w->in[1], i, n);
        if (at >= 0) out[0][i / (Y[2] * Y[3]) * n + at] += in[0][i];
    }
}

static void max_pool_at(const ti_work *w, ti_vec in, ti_vec out)
{
    const int64_t *X = w->in[0].m.shape.dim, *Y = w->out[0].m.shape.dim, n = X[2] * X[3];

    for (int64_t i = 0; i < w->out[0].count; i++) {
        const int64_t at = ti_index_at(w, &w->in[1], i, n);
        out[0][i] = at >= 0 ? in[0][i / (Y[2] * Y[3]) * n + at] : 0;
    }
}

/* What window i of an average divides by: its elements in x, or those in x and its padding, which
 * ends pad elements behind x. */
static double divisor(const ti_work *w, const windows *v, int64_t i)
{
    const int64_t o[2] = {i / v->Q % v->P, i % v->Q}, extent[2] = {v->H, v->W};
    const bool inside = ((const tern_pool2d_opts *)w->opts)->exclude_pad != 0;
    double n = 1;

    for (int a = 0; a < 2; a++) {
        const int64_t least = inside ? 0 : -v->pad[a], most = extent[a] + (inside ? 0 : v->pad[a]);
        const int64_t from = o[a] * v->stride[a] - v->pad[a], to = from + v->size[a];
        n *= (double)((to < most ? to : most) - (from > least ? from : least));
    }
    return n;
}

static void avg_pool(const ti_work *w, ti_vec in, ti_vec out)
{
    const windows v = windows_of(w, &w->in[0], &w->out[0]);

    for (int64_t i = 0; i < w->out[0].count; i++) {
        const double *plane = in[0] + i / (v.P * v.Q) * v.H * v.W;
        const part p = part_of(&v, i);
        double sum = 0;
        ELEMENTS(p, r, s) sum += plane[place(&v, &p, r, s)];
        out[0][i] = sum / divisor(w, &v, i);
    }
}

static void avg_pool_dx(const ti_work *w, ti_vec in, ti_vec out)
{
    const windows v = windows_of(w, &w->out[0], &w->in[0]);

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = 0;
    for (int64_t i = 0; i < w->in[0].count; i++) {
        double *plane = out[0] + i / (v.P * v.Q) * v.H * v.W;
        const double g = in[0][i] / divisor(w, &v, i);
        const part p = part_of(&v, i);
        ELEMENTS(p, r, s) plane[place(&v, &p, r, s)] += g;
    }
}

/* At most as many as a window has elements, or as there are windows over an element. */
static double chain(const ti_work *w)
{
    const tern_pool2d_opts *o = w->opts;

    return w->in[0].m.type == TERN_F64 ? (double)o->size[0] * o->size[1] + 1 : 2;
}
static double dx_chain(const ti_work *w)
{
    const int64_t *y = w->in[0].m.shape.dim;

    return w->in[0].m.type == TERN_F64 ? (double)(y[2] * y[3]) : 1;
}

const ti_row ti_ref_pool2d[] = {
    {.op = "max_pool2d", .impl = "ref", .body = max_pool},
    {.op = "max_pool2d_d", .impl = "ref", .body = max_pool_d, .chain = chain},
    {.op = "max_pool2d_dx", .impl = "ref", .body = max_pool_dx, .chain = dx_chain},
    {.op = "max_pool2d_at", .impl = "ref", .body = max_pool_at},
    {.op = "avg_pool2d", .impl = "ref", .body = avg_pool, .chain = chain},
    {.op = "avg_pool2d_dx", .impl = "ref", .body = avg_pool_dx, .chain = chain},
    {.op = NULL},
};
