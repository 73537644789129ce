/*
 * pool2d.c - maxima and averages over windows, and their adjoints.
 *
 * A maximum reads x at one place of each window; max_pool2d_dx adds into these, max_pool2d_at
 * reads them, and each is the other's gradient. max_pool2d_d is max_pool2d's own derivative: it
 * finds the places from x, or is spared that by the hint `where`.
 */
#include <string.h>

#include "core/geometry.h"
#include "ops/common.h"
#include "tern/grad.h"

static const ti_field pool_fields[] = {
    TI_FIELD(tern_pool2d_opts, TI_INT, size, 2, 0),
    TI_FIELD(tern_pool2d_opts, TI_INT, stride, 2, 0),
    TI_FIELD(tern_pool2d_opts, TI_INT, pad, 2, 0),
    TI_FIELD(tern_pool2d_opts, TI_INT, dilation, 2, 1),
    TI_FIELD(tern_pool2d_opts, TI_INT, ceil_mode, 1, 0),
    TI_FIELD(tern_pool2d_opts, TI_INT, exclude_pad, 1, 0),
    TI_FIELD(tern_pool2d_opts, TI_I64, shape, 4, 0),
    {0},
};

/* Stride and dilation may leave a window in the left padding between two elements of x. */
static bool all_hold_something(const ti_windows *w, int64_t n)
{
    for (int64_t o = 0; o < n && o * w->stride < w->pad; o++) {
        const int64_t before = w->pad - o * w->stride; /* elements of padding in front */
        const int64_t r = (before + w->dilation - 1) / w->dilation;
        if (r >= w->size || r * w->dilation - before >= w->extent) return false;
    }
    return true;
}

/* [N,C,P,Q] of pooling x [N,C,H,W]. */
static tern_status extents(const ti_call *c, tern_shape x, bool average, tern_shape *y)
{
    const tern_pool2d_opts *o = c->opts;
    const char *op = c->op->name;

    *y = x;
    for (int a = 0; a < 2; a++) {
        const char *axis = a ? "columns" : "rows";
        const int64_t extent = x.dim[2 + a];
        if (o->size[a] < 1)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: size of %d %s", op, o->size[a], axis);
        if (o->stride[a] < 0 || o->dilation[a] < 1 || o->pad[a] < 0)
            return ti_fail(c->ctx, TERN_E_ARGUMENT,
                           "%s: stride %d, dilation %d, pad %d of the %s: the least are 0, 1, 0",
                           op, o->stride[a], o->dilation[a], o->pad[a], axis);
        if (average && o->dilation[a] != 1)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: dilation %d, but averages have none", op,
                           o->dilation[a]);
        if (o->pad[a] > o->size[a] / 2)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: pad %d exceeds half of size %d", op,
                           o->pad[a], o->size[a]);
        const ti_windows w = {extent, o->size[a], o->stride[a] ? o->stride[a] : o->size[a],
                              o->pad[a], o->dilation[a]};
        const int64_t n = extent ? ti_windows_count(&w, o->ceil_mode != 0) : 0;
        if (n < 1)
            return ti_fail(c->ctx, TERN_E_SHAPE,
                           "%s: a window of %d %s, %d apart, exceeds %lld with pads of %d", op,
                           o->size[a], axis, o->dilation[a], (long long)extent, o->pad[a]);
        if (!all_hold_something(&w, n))
            return ti_fail(c->ctx, TERN_E_SHAPE,
                           "%s: a window of %d %s, %d apart, misses all %lld between pads of %d",
                           op, o->size[a], axis, o->dilation[a], (long long)extent, o->pad[a]);
        y->dim[2 + a] = n;
    }
    return TERN_OK;
}

static tern_status check_image(const ti_call *c, int i)
{
    TI_TRY(ti_need_types(c, i, TI_FLOATS));
    return ti_need_rank(c, i, 4, 4);
}

/* x's shape, which adjoints are given; N and C must be those of input 0. */
static tern_status given_shape(const ti_call *c, tern_shape *x)
{
    const tern_pool2d_opts *o = c->opts;
    const tern_shape g = c->in[0]->m.shape;
    char text[160], other[160];

    x->rank = 4;
    memset(x->dim, 0, sizeof x->dim);
    memcpy(x->dim, o->shape, sizeof o->shape);
    if (tern_count(*x) < 0 || x->dim[0] != g.dim[0] || x->dim[1] != g.dim[1])
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: g %s does not fit shape %s", c->op->name,
                       tern_shape_text(text, g), tern_shape_text(other, *x));
    return TERN_OK;
}

static tern_pool2d_opts shaped(const ti_call *c, const tern_tensor *like)
{
    tern_pool2d_opts o = *(const tern_pool2d_opts *)c->opts;

    memset(o.shape, 0, sizeof o.shape);
    if (like) memcpy(o.shape, like->m.shape.dim, sizeof o.shape);
    return o;
}

/* max_pool2d(x): y, indices; hint: where in its window the maximum is, r·S + s. */
static tern_type type_of_where(const tern_pool2d_opts *o)
{
    return (int64_t)o->size[0] * o->size[1] <= 256 ? TERN_U8 : TERN_I64;
}

static tern_status max_shape(ti_call *c)
{
    tern_shape y;

    TI_TRY(check_image(c, 0));
    TI_TRY(extents(c, c->in[0]->m.shape, false, &y));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, y);
    c->meta[1] = ti_channels_last_meta(TERN_I64, y);
    c->meta[2] = ti_channels_last_meta(type_of_where(c->opts), y);
    return TERN_OK;
}

static void max_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* max_pool2d_d(x, gy, where): gy at the maxima of x's windows. */
static tern_status max_d_shape(ti_call *c)
{
    tern_shape y;

    for (int i = 0; i < 2; i++) TI_TRY(check_image(c, i));
    TI_TRY(ti_same_types(c, 3));
    TI_TRY(extents(c, c->in[0]->m.shape, false, &y));
    if (!tern_same_shape(y, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    if (c->in[2]) {
        TI_TRY(ti_need_types(c, 2, 1u << type_of_where(c->opts)));
        if (!tern_same_shape(y, c->in[2]->m.shape)) return ti_misfit(c, 1, 2);
    }
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, c->in[0]->m.shape);
    return TERN_OK;
}

/* Linear in gy; where the maxima are changes nowhere but in jumps, so nothing flows to x. */
static void max_d_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, NULL);
    tern_tensor *indices = NULL;

    if (!c->wants[1]) return;
    tern_max_pool2d(c->ctx, &indices, tern_detach(c->ctx, c->in[0]), &o);
    d[1] = tern_max_pool2d_at(c->ctx, g[0], indices, &o);
}

/* max_pool2d_dx(g, indices) and max_pool2d_at(x, indices) */
static tern_status max_dx_shape(ti_call *c)
{
    tern_shape x;

    TI_TRY(check_image(c, 0));
    TI_TRY(ti_need_types(c, 1, TI_INDICES));
    if (!tern_same_shape(c->in[0]->m.shape, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    TI_TRY(given_shape(c, &x));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, x);
    return TERN_OK;
}

static tern_status max_at_shape(ti_call *c)
{
    TI_TRY(check_image(c, 0));
    TI_TRY(ti_need_types(c, 1, TI_INDICES));
    TI_TRY(ti_need_rank(c, 1, 4, 4));
    const tern_shape x = c->in[0]->m.shape, y = c->in[1]->m.shape;
    if (x.dim[0] != y.dim[0] || x.dim[1] != y.dim[1]) return ti_misfit(c, 0, 1);
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, y);
    return TERN_OK;
}

static void max_dx_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, NULL);

    if (c->wants[0]) d[0] = tern_max_pool2d_at(c->ctx, g[0], c->in[1], &o);
}

static void max_at_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, c->in[0]);

    if (c->wants[0]) d[0] = tern_max_pool2d_dx(c->ctx, g[0], c->in[1], &o);
}

/* What is added up, added up with its size: exact where windows do not overlap. */
static tern_tensor *max_d_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    return tern_scale(
        c->ctx,
        ti_apply1(c->ctx, c->op, c->opts, 3, TI_IN(c->in[0], tern_abs(c->ctx, c->in[1]), NULL)),
        ti_sum_error(L));
}

static tern_tensor *linear_bound(const ti_call *c, int i_out, double L)
{
    (void)i_out;
    return tern_scale(c->ctx,
                      ti_apply1(c->ctx, c->op, c->opts, c->n_in,
                                TI_IN(tern_abs(c->ctx, c->in[0]), c->n_in > 1 ? c->in[1] : NULL)),
                      ti_sum_error(L) + 1);
}

/* avg_pool2d(x) and avg_pool2d_dx(g): adjoints of each other, linear. */
static tern_status avg_shape(ti_call *c)
{
    tern_shape y;

    TI_TRY(check_image(c, 0));
    TI_TRY(extents(c, c->in[0]->m.shape, true, &y));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, y);
    return TERN_OK;
}

static tern_status avg_dx_shape(ti_call *c)
{
    tern_shape x, y;
    char text[160], other[160];

    TI_TRY(check_image(c, 0));
    TI_TRY(given_shape(c, &x));
    TI_TRY(extents(c, x, true, &y));
    if (!tern_same_shape(y, c->in[0]->m.shape))
        return ti_fail(c->ctx, TERN_E_SHAPE, "%s: g is %s, but the result has %s", c->op->name,
                       tern_shape_text(text, c->in[0]->m.shape), tern_shape_text(other, y));
    c->meta[0] = ti_channels_last_meta(c->in[0]->m.type, x);
    return TERN_OK;
}

static void avg_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, c->in[0]);

    if (c->wants[0]) d[0] = tern_avg_pool2d_dx(c->ctx, g[0], &o);
}

static void avg_dx_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, NULL);

    if (c->wants[0]) d[0] = tern_avg_pool2d(c->ctx, g[0], &o);
}

#define TI_DISTINCT(...)                                                                           \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_DISTINCT, 0                                                     \
    }
#define TI_INDEX(limit, ...)                                                                       \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_INDEX, limit                                                    \
    }
static const tern_pool2d_opts twos = {.size = {2, 2}},
                              overlap = {.size = {3, 2}, .stride = {2, 1}, .pad = {1, 1}},
                              ceiling = {.size = {3, 3}, .stride = {2, 2}, .ceil_mode = 1},
                              spread = {.size = {2, 3}, .stride = {1, 2}, .dilation = {3, 2}},
                              inside = {.size = {3, 3},
                                        .stride = {2, 2},
                                        .pad = {1, 1},
                                        .ceil_mode = 1,
                                        .exclude_pad = 1},
                              whole = {.size = {17, 18}};
static const ti_sample max_samples[] = {
    {"two by two", 1, {TI_DISTINCT(2, 3, 6, 5)}, &twos},
    {"overlap, pads", 1, {TI_DISTINCT(2, 17, 5, 4)}, &overlap},
    {"ceil", 1, {TI_DISTINCT(1, 2, 6, 8)}, &ceiling},
    {"dilated", 1, {TI_DISTINCT(2, 2, 7, 8)}, &spread},
    {"more than 256 in a window", 1, {TI_DISTINCT(1, 1, 17, 18)}, &whole},
    {"empty batch", 1, {TI_DISTINCT(0, 3, 4, 4)}, &twos},
    TI_SAMPLES_END,
};
static const ti_sample max_d_samples[] = {
    {"two by two", 3, {TI_DISTINCT(2, 3, 6, 5), TI_NORMAL(2, 3, 3, 2), TI_NOTHING}, &twos},
    {"overlap, pads", 3, {TI_DISTINCT(2, 3, 5, 4), TI_NORMAL(2, 3, 3, 5), TI_NOTHING}, &overlap},
    {"ceil", 3, {TI_DISTINCT(1, 2, 6, 8), TI_NORMAL(1, 2, 3, 4), TI_NOTHING}, &ceiling},
    TI_SAMPLES_END,
};
static const ti_sample max_dx_samples[] = {
    {"equal places add up",
     2,
     {TI_NORMAL(2, 3, 3, 2), TI_INDEX(30, 2, 3, 3, 2)},
     &(tern_pool2d_opts){.size = {2, 2}, .shape = {2, 3, 6, 5}}},
    {"empty batch",
     2,
     {TI_NORMAL(0, 3, 2, 2), TI_INDEX(16, 0, 3, 2, 2)},
     &(tern_pool2d_opts){.size = {2, 2}, .shape = {0, 3, 4, 4}}},
    TI_SAMPLES_END,
};
static const ti_sample max_at_samples[] = {
    {"any places", 2, {TI_NORMAL(2, 3, 6, 5), TI_INDEX(30, 2, 3, 3, 2)}, &twos},
    TI_SAMPLES_END,
};
static const ti_sample avg_samples[] = {
    {"two by two", 1, {TI_NORMAL(2, 3, 6, 5)}, &twos},
    {"overlap, pads", 1, {TI_NORMAL(2, 17, 5, 4)}, &overlap},
    {"ceil", 1, {TI_NORMAL(1, 2, 6, 8)}, &ceiling},
    {"ceil, pads left out", 1, {TI_NORMAL(2, 3, 6, 8)}, &inside},
    {"empty batch", 1, {TI_NORMAL(0, 3, 4, 4)}, &twos},
    TI_SAMPLES_END,
};
static const ti_sample avg_dx_samples[] = {
    {"two by two",
     1,
     {TI_NORMAL(2, 3, 3, 2)},
     &(tern_pool2d_opts){.size = {2, 2}, .shape = {2, 3, 6, 5}}},
    {"overlap, pads",
     1,
     {TI_NORMAL(2, 3, 3, 5)},
     &(tern_pool2d_opts){.size = {3, 2}, .stride = {2, 1}, .pad = {1, 1}, .shape = {2, 3, 5, 4}}},
    {"ceil, pads left out",
     1,
     {TI_NORMAL(2, 3, 4, 5)},
     &(tern_pool2d_opts){.size = {3, 3},
                         .stride = {2, 2},
                         .pad = {1, 1},
                         .ceil_mode = 1,
                         .exclude_pad = 1,
                         .shape = {2, 3, 6, 8}}},
    TI_SAMPLES_END,
};

static const ti_op max_pool2d = {
    .name = "max_pool2d",
    .n_in = 1,
    .in = {"x"},
    .n_out = 3,
    .out = {{"y", TI_DIFF}, {"indices", TI_VALUE}, {"where", TI_HINT}},
    .saves = 1u << 2,
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = max_shape,
    .grad = max_grad,
    .samples = max_samples,
};
static const ti_op max_pool2d_d = {
    .name = "max_pool2d_d",
    .n_in = 3,
    .in = {"x", "gy", "where"},
    .optional = 1u << 2,
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = max_d_shape,
    .grad = max_d_grad,
    .bound = max_d_bound,
    .samples = max_d_samples,
};
static const ti_op max_pool2d_dx = {
    .name = "max_pool2d_dx",
    .n_in = 2,
    .in = {"g", "indices"},
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = max_dx_shape,
    .grad = max_dx_grad,
    .bound = linear_bound,
    .samples = max_dx_samples,
};
static const ti_op max_pool2d_at = {
    .name = "max_pool2d_at",
    .n_in = 2,
    .in = {"x", "indices"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = max_at_shape,
    .grad = max_at_grad,
    .samples = max_at_samples,
};
static const ti_op avg_pool2d = {
    .name = "avg_pool2d",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = avg_shape,
    .grad = avg_grad,
    .bound = linear_bound,
    .samples = avg_samples,
};
static const ti_op avg_pool2d_dx = {
    .name = "avg_pool2d_dx",
    .n_in = 1,
    .in = {"g"},
    .n_out = 1,
    .out = {{"dx", TI_DIFF}},
    .opts_size = sizeof(tern_pool2d_opts),
    .fields = pool_fields,
    .shape = avg_dx_shape,
    .grad = avg_dx_grad,
    .bound = linear_bound,
    .samples = avg_dx_samples,
};

static void max_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pool2d_opts o = shaped(c, NULL);

    if (g[0]) d[0] = ti_apply1(c->ctx, &max_pool2d_d, &o, 3, TI_IN(c->in[0], g[0], c->out[2]));
}

const ti_op *const ti_ops_pool2d[] = {
    &max_pool2d, &max_pool2d_d, &max_pool2d_dx, &max_pool2d_at, &avg_pool2d, &avg_pool2d_dx, NULL};

/* The hint is worth its bytes only where a gradient may ask for it. */
tern_tensor *tern_max_pool2d(tern_ctx *ctx, tern_tensor **indices, tern_tensor *x,
                             const tern_pool2d_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};
    const unsigned wanted = 1u | (indices ? 2u : 0) | (tern_is_tracked(x) ? 4u : 0);

    if (indices) *indices = NULL;
    if (ti_apply(ctx, &max_pool2d, opts, 1, &x, wanted, out) != TERN_OK) return NULL;
    if (indices) *indices = out[1];
    return out[0];
}
tern_tensor *tern_max_pool2d_dx(tern_ctx *ctx, tern_tensor *g, tern_tensor *indices,
                                const tern_pool2d_opts *opts)
{
    return ti_apply1(ctx, &max_pool2d_dx, opts, 2, TI_IN(g, indices));
}
tern_tensor *tern_max_pool2d_at(tern_ctx *ctx, tern_tensor *x, tern_tensor *indices,
                                const tern_pool2d_opts *opts)
{
    return ti_apply1(ctx, &max_pool2d_at, opts, 2, TI_IN(x, indices));
}
tern_tensor *tern_avg_pool2d(tern_ctx *ctx, tern_tensor *x, const tern_pool2d_opts *opts)
{
    return ti_apply1(ctx, &avg_pool2d, opts, 1, &x);
}
tern_tensor *tern_avg_pool2d_dx(tern_ctx *ctx, tern_tensor *g, const tern_pool2d_opts *opts)
{
    return ti_apply1(ctx, &avg_pool2d_dx, opts, 1, &g);
}
