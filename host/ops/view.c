/*
 * view.c - the same storage under another shape: reshape, expand, permute (transpose), slice,
 * alias, flatten. Nothing moves, except that reshape copies first where the strides demand it.
 */
#include "ops/rules.h"

/* An axis of extent 1 has stride 0. */
static void canonical(ti_meta *m)
{
    for (int a = 0; a < m->shape.rank; a++)
        if (m->shape.dim[a] == 1) m->stride[a] = 0;
}

static ti_meta empty_like(const ti_call *c, tern_shape s)
{
    ti_meta m = ti_packed_meta(c->in[0]->m.type, s);

    m.offset = c->in[0]->m.offset;
    return m;
}

/* ---- alias ---- */

static tern_status alias_view(ti_call *c)
{
    c->meta[0] = c->in[0]->m;
    return TERN_OK;
}

static void alias_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    (void)c;
    d[0] = g[0];
}

static const ti_sample alias_samples[] = {
    {"odd", 1, {TI_D(NORMAL, 3, 5)}, NULL},
    {"scalar", 1, {TI_D0(NORMAL)}, NULL},
    {"empty", 1, {TI_D(NORMAL, 0, 2)}, NULL},
    TI_SAMPLES_END,
};
static const ti_op alias_op = {
    .name = "alias",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .view = alias_view,
    .grad = alias_grad,
    .samples = alias_samples,
};
tern_tensor *ti_alias(tern_ctx *ctx, tern_tensor *x)
{
    return ti_apply1(ctx, &alias_op, NULL, 1, &x);
}

/* ---- reshape ---- */

/* rank may be left out in texts: dim=6,4. One extent may be -1. */
static const ti_field shape_fields[] = {TI_FIELD(tern_shape_opts, TI_I64, rank, 1, 0),
                                        TI_FIELD(tern_shape_opts, TI_I64, dim, TERN_RANK, 0),
                                        {.name = NULL}};

/* The asked-for shape with -1 replaced; false where it does not hold x's elements. */
static bool fill_in(tern_shape *to, int64_t count)
{
    int hole = -1;
    int64_t known = 1;

    for (int a = 0; a < to->rank; a++) {
        if (to->dim[a] == -1) {
            if (hole >= 0) return false;
            hole = a;
        } else if (to->dim[a] < 0 || __builtin_mul_overflow(known, to->dim[a], &known)) {
            return false;
        }
    }
    if (hole >= 0) {
        if (known == 0 || count % known != 0) return false;
        to->dim[hole] = count / known;
    }
    return tern_count(*to) == count;
}

/*
 * Groups of axes that hold equally many elements on both sides must each lie evenly in x; then
 * the new strides follow from the innermost one of the group.
 */
static bool restride(const ti_meta *x, ti_meta *y)
{
    const int n_x = x->shape.rank, n_y = y->shape.rank;
    int i = 0, j = 0;

    while (i < n_x && j < n_y) {
        int64_t p = x->shape.dim[i], q = y->shape.dim[j], stride = -1, even = 0;
        const int i0 = i++, j0 = j++;

        while (p != q)
            if (p < q) p *= x->shape.dim[i++];
            else q *= y->shape.dim[j++];
        for (int a = i - 1; a >= i0; a--) {
            if (x->shape.dim[a] == 1) continue;
            if (stride < 0) stride = even = x->stride[a];
            else if (x->stride[a] != even) return false;
            even *= x->shape.dim[a];
        }
        for (int a = j - 1; a >= j0; a--) {
            y->stride[a] = y->shape.dim[a] == 1 ? 0 : stride;
            stride *= y->shape.dim[a];
        }
    }
    return true; /* what is left on either side has extent 1 */
}

static tern_status reshape_target(const ti_call *c, tern_shape *to)
{
    const tern_shape_opts *o = c->opts;
    char from[160], text[160];

    TI_TRY(ti_shape_of(c, o->rank, o->dim, to));
    if (fill_in(to, tern_count(c->in[0]->m.shape))) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "reshape: x %s does not fit into %s",
                   tern_shape_text(from, c->in[0]->m.shape), tern_shape_text(text, *to));
}

static tern_status reshape_view(ti_call *c)
{
    const ti_meta *x = &c->in[0]->m;
    tern_shape to;
    char text[160];

    TI_TRY(reshape_target(c, &to));
    c->meta[0] = empty_like(c, to);
    if (tern_count(to) == 0 || ti_is_packed(x) || restride(x, &c->meta[0])) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_STATE,
                   "reshape: x %s does not lie so that this needs no copy; copy it first",
                   tern_shape_text(text, x->shape));
}

/* Bad shapes are left to the view rule. */
static bool viewable(const tern_tensor *x, const void *opts)
{
    const tern_shape_opts *o = opts;
    tern_shape to = {.rank = (int)o->rank};

    if (o->rank < 0 || o->rank > TERN_RANK) return true;
    memcpy(to.dim, o->dim, sizeof to.dim);
    if (!fill_in(&to, tern_count(x->m.shape))) return true;
    ti_meta m = ti_packed_meta(x->m.type, to);
    return tern_count(to) == 0 || ti_is_packed(&x->m) || restride(&x->m, &m);
}

static void reshape_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_reshape(c->ctx, g[0], c->in[0]->m.shape);
}

#define TO(...)                                                                                    \
    (&(const tern_shape_opts){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
static const ti_sample reshape_samples[] = {
    {"split and join", 1, {TI_D(NORMAL, 6, 4)}, TO(3, 2, 2, 2)},
    {"one left out", 1, {TI_D(NORMAL, 3, 5, 2)}, TO(5, -1)},
    {"to a scalar", 1, {TI_D(NORMAL, 1, 1)}, NULL},
    {"from a scalar", 1, {TI_D0(NORMAL)}, TO(1, 1, 1)},
    {"rank 8", 1, {TI_D(NORMAL, 16)}, TO(1, 2, 1, 2, 1, 2, 1, 2)},
    {"empty", 1, {TI_D(NORMAL, 0, 3)}, TO(2, 0)},
    TI_SAMPLES_END,
};
static const ti_op reshape_op = {
    .name = "reshape",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_shape_opts),
    .fields = shape_fields,
    .view = reshape_view,
    .viewable = viewable,
    .grad = reshape_grad,
    .samples = reshape_samples,
};

tern_tensor *tern_reshape(tern_ctx *ctx, tern_tensor *x, tern_shape shape)
{
    tern_shape_opts o = {0};

    if (x && tern_same_shape(x->m.shape, shape)) return x;
    ti_shape_into(shape, &o.rank, o.dim);
    if (x && !viewable(x, &o)) x = tern_copy(ctx, x);
    return ti_apply1(ctx, &reshape_op, &o, 1, &x);
}

tern_tensor *tern_flatten(tern_ctx *ctx, tern_tensor *x)
{
    tern_shape s = {.rank = 2, .dim = {1, 1}};

    for (int a = 0; x && a < x->m.shape.rank; a++) s.dim[a > 0] *= x->m.shape.dim[a];
    return tern_reshape(ctx, x, s);
}

/* ---- expand ---- */

static tern_status expand_view(ti_call *c)
{
    const tern_shape_opts *o = c->opts;
    const ti_meta *x = &c->in[0]->m;
    tern_shape to;
    char from[160], text[160];
    bool fits;

    TI_TRY(ti_shape_of(c, o->rank, o->dim, &to));
    TI_TRY(ti_countable(c, to));
    c->meta[0] = empty_like(c, to);
    fits = x->shape.rank <= to.rank;
    for (int a = 0; fits && a < to.rank; a++) {
        const int b = a - (to.rank - x->shape.rank);
        fits = b < 0 || x->shape.dim[b] == 1 || x->shape.dim[b] == to.dim[a];
        c->meta[0].stride[a] = b < 0 || x->shape.dim[b] == 1 ? 0 : x->stride[b];
    }
    if (fits) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_SHAPE, "expand: x %s does not repeat to %s",
                   tern_shape_text(from, x->shape), tern_shape_text(text, to));
}

static void expand_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = ti_fold(c->ctx, g[0], c->in[0]);
}

static const ti_sample expand_samples[] = {
    {"middle", 1, {TI_D(NORMAL, 3, 1, 2)}, TO(3, 5, 2)},
    {"leading", 1, {TI_D(NORMAL, 3)}, TO(2, 2, 3)},
    {"scalar", 1, {TI_D0(NORMAL)}, TO(4, 1)},
    {"to nothing", 1, {TI_D(NORMAL, 1, 3)}, TO(0, 3)},
    {"empty", 1, {TI_D(NORMAL, 0, 1)}, TO(0, 7)},
    TI_SAMPLES_END,
};
static const ti_op expand_op = {
    .name = "expand",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_shape_opts),
    .fields = shape_fields,
    .view = expand_view,
    .grad = expand_grad,
    .samples = expand_samples,
};

tern_tensor *tern_expand(tern_ctx *ctx, tern_tensor *x, tern_shape shape)
{
    tern_shape_opts o = {0};

    if (x && tern_same_shape(x->m.shape, shape)) return x;
    ti_shape_into(shape, &o.rank, o.dim);
    return ti_apply1(ctx, &expand_op, &o, 1, &x);
}

/* ---- permute ---- */

static const ti_field permute_fields[] = {TI_FIELD(tern_permute_opts, TI_INT, axes, TERN_RANK, 0),
                                          {.name = NULL}};

static tern_status permute_axes(const ti_call *c, int *axes)
{
    const tern_permute_opts *o = c->opts;
    const int rank = c->in[0]->m.shape.rank;
    unsigned seen = 0;

    for (int i = 0; i < rank; i++) {
        TI_TRY(ti_axis(c, 0, o->axes[i], &axes[i]));
        if (seen >> axes[i] & 1)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "permute: axis %d is named twice", axes[i]);
        seen |= 1u << axes[i];
    }
    for (int i = rank; i < TERN_RANK; i++)
        if (o->axes[i] != 0)
            return ti_fail(c->ctx, TERN_E_ARGUMENT, "permute: more than the %d axes of x are named",
                           rank);
    return TERN_OK;
}

static tern_status permute_view(ti_call *c)
{
    const ti_meta *x = &c->in[0]->m;
    int axes[TERN_RANK];

    TI_TRY(permute_axes(c, axes));
    c->meta[0] = *x;
    for (int i = 0; i < x->shape.rank; i++) {
        c->meta[0].shape.dim[i] = x->shape.dim[axes[i]];
        c->meta[0].stride[i] = x->stride[axes[i]];
    }
    return TERN_OK;
}

static void permute_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_permute_opts back = {{0}};
    int axes[TERN_RANK];

    if (permute_axes(c, axes) != TERN_OK) return;
    for (int i = 0; i < c->in[0]->m.shape.rank; i++) back.axes[axes[i]] = i;
    d[0] = tern_permute(c->ctx, g[0], &back);
}

static const ti_sample permute_samples[] = {
    {"last first", 1, {TI_D(NORMAL, 2, 3, 5)}, &(const tern_permute_opts){{2, 0, 1}}},
    {"from the end", 1, {TI_D(NORMAL, 2, 3, 4, 1)}, &(const tern_permute_opts){{0, -1, 2, 1}}},
    {"one axis", 1, {TI_D(NORMAL, 4)}, NULL},
    {"scalar", 1, {TI_D0(NORMAL)}, NULL},
    {"empty", 1, {TI_D(NORMAL, 3, 0)}, &(const tern_permute_opts){{1, 0}}},
    TI_SAMPLES_END,
};
static const ti_op permute_op = {
    .name = "permute",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_permute_opts),
    .fields = permute_fields,
    .view = permute_view,
    .grad = permute_grad,
    .samples = permute_samples,
};

tern_tensor *tern_permute(tern_ctx *ctx, tern_tensor *x, const tern_permute_opts *opts)
{
    return ti_apply1(ctx, &permute_op, opts, 1, &x);
}

tern_tensor *tern_transpose(tern_ctx *ctx, tern_tensor *x, int a, int b)
{
    const ti_call c = {.ctx = ctx, .op = &permute_op, .n_in = 1, .in = &x};
    tern_permute_opts o = {{0}};

    if (!x || tern_error(ctx)) return ti_apply1(ctx, &permute_op, &o, 1, &x);
    if (ti_axis(&c, 0, a, &a) != TERN_OK || ti_axis(&c, 0, b, &b) != TERN_OK) return NULL;
    for (int i = 0; i < x->m.shape.rank; i++) o.axes[i] = i == a ? b : i == b ? a : i;
    return ti_apply1(ctx, &permute_op, &o, 1, &x);
}

/* ---- slice ---- */

static const ti_field slice_fields[] = {TI_FIELD(tern_slice_opts, TI_INT, axis, 1, 0),
                                        TI_FIELD(tern_slice_opts, TI_I64, from, 1, 0),
                                        TI_FIELD(tern_slice_opts, TI_I64, count, 1, 0),
                                        TI_FIELD(tern_slice_opts, TI_I64, step, 1, 1),
                                        {.name = NULL}};

static tern_status slice_view(ti_call *c)
{
    const tern_slice_opts *o = c->opts;
    const ti_meta *x = &c->in[0]->m;
    int axis;
    int64_t extent;
    char text[160];

    TI_TRY(ti_axis(c, 0, o->axis, &axis));
    extent = x->shape.dim[axis];
    if (o->step < 1)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "slice: step %lld is not positive",
                       (long long)o->step);
    if (o->from < 0 || o->count < 0 || o->from > extent ||
        (o->count > 0 && (o->from == extent || o->count - 1 > (extent - 1 - o->from) / o->step)))
        return ti_fail(c->ctx, TERN_E_SHAPE,
                       "slice: %lld elements from %lld, step %lld, leave axis %d of x %s",
                       (long long)o->count, (long long)o->from, (long long)o->step, axis,
                       tern_shape_text(text, x->shape));
    c->meta[0] = *x;
    c->meta[0].shape.dim[axis] = o->count;
    if (o->count > 0) c->meta[0].offset += o->from * x->stride[axis];
    if (o->count > 1) c->meta[0].stride[axis] = x->stride[axis] * o->step;
    if (tern_count(c->meta[0].shape) == 0) c->meta[0] = empty_like(c, c->meta[0].shape);
    canonical(&c->meta[0]);
    return TERN_OK;
}

/* Zeros around g; with a step first zeros between its elements, which is padding of an axis that
 * is split off. */
static void slice_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_slice_opts *o = c->opts;
    tern_ctx *ctx = c->ctx;
    const tern_shape s = c->in[0]->m.shape;
    const int axis = o->axis < 0 ? o->axis + s.rank : o->axis;
    const int64_t room = s.dim[axis] - o->from;
    tern_shape apart = {.rank = 4, .dim = {1, o->count, 1, 1}}, wide = {.rank = 3};
    tern_tensor *z = g[0];
    tern_pad_opts around = {{0}};

    if (tern_count(g[0]->m.shape) == 0) return;
    for (int a = 0; a < s.rank; a++)
        if (a != axis) apart.dim[a < axis ? 0 : 3] *= s.dim[a];
    if (o->step > 1) {
        const int64_t step = o->step < room ? o->step : room; /* of one element, perhaps */
        const tern_pad_opts between = {.after = {0, 0, step - 1, 0}};
        z = tern_pad(ctx, tern_reshape(ctx, z, apart), &between);
        wide = TI_SHAPE(apart.dim[0], o->count * step, apart.dim[3]);
        z = tern_reshape(ctx, z, wide);
        if (wide.dim[1] > room) {
            z = tern_slice(ctx, z, &(tern_slice_opts){.axis = 1, .count = room});
            wide.dim[1] = room;
        }
    } else {
        wide = TI_SHAPE(apart.dim[0], o->count, apart.dim[3]);
        z = tern_reshape(ctx, z, wide);
    }
    around.before[1] = o->from;
    around.after[1] = room - wide.dim[1];
    if (around.before[1] || around.after[1]) z = tern_pad(ctx, z, &around);
    d[0] = tern_reshape(ctx, z, s);
}

static const ti_sample slice_samples[] = {
    {"middle", 1, {TI_D(NORMAL, 3, 7, 2)}, &(const tern_slice_opts){1, 2, 3, 1}},
    {"every third", 1, {TI_D(NORMAL, 2, 10)}, &(const tern_slice_opts){-1, 1, 3, 3}},
    {"every second, to the end", 1, {TI_D(NORMAL, 9, 2)}, &(const tern_slice_opts){0, 0, 5, 2}},
    {"one, long step", 1, {TI_D(NORMAL, 5)}, &(const tern_slice_opts){0, 4, 1, 1000}},
    {"none", 1, {TI_D(NORMAL, 5, 2)}, &(const tern_slice_opts){0, 5, 0, 1}},
    {"empty", 1, {TI_D(NORMAL, 0, 2)}, &(const tern_slice_opts){1, 0, 1, 1}},
    TI_SAMPLES_END,
};
static const ti_op slice_op = {
    .name = "slice",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_slice_opts),
    .fields = slice_fields,
    .view = slice_view,
    .grad = slice_grad,
    .samples = slice_samples,
};

tern_tensor *tern_slice(tern_ctx *ctx, tern_tensor *x, const tern_slice_opts *opts)
{
    return ti_apply1(ctx, &slice_op, opts, 1, &x);
}

const ti_op *const ti_ops_view[] = {&alias_op,   &reshape_op, &expand_op,
                                    &permute_op, &slice_op,   NULL};
