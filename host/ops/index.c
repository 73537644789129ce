/*
 * index.c - reading and adding by index: gather, scatter_add, take, take_add, one_hot.
 *
 * Each of gather and take has its adjoint beside it, and is the adjoint's gradient. Indices are
 * values that only the kernels see: one out of range raises a fault, the host reports it.
 */
#include <math.h>

#include "ops/rules.h"

static tern_status need_index(const ti_call *c, int i) { return ti_need_types(c, i, TI_INDICES); }

/* Sums of at most as many terms as there are indices: one chain, added in order. */
static const double certain = 6;

/* ---- gather ---- */

static const ti_field gather_fields[] = {TI_FIELD(tern_axis_opts, TI_INT, axis, 1, 0),
                                         {.name = NULL}};

static int axis_in(const ti_call *c, int axis)
{
    return axis < 0 ? axis + c->in[0]->m.shape.rank : axis;
}

static tern_status gather_shape(ti_call *c)
{
    const tern_shape index = c->in[1]->m.shape;
    tern_shape x = c->in[0]->m.shape;
    int axis;

    TI_TRY(need_index(c, 1));
    TI_TRY(ti_axis(c, 0, ((const tern_axis_opts *)c->opts)->axis, &axis));
    if (x.rank != index.rank) return ti_misfit(c, 0, 1);
    x.dim[axis] = index.dim[axis];
    if (!tern_same_shape(x, index)) return ti_misfit(c, 0, 1);
    TI_TRY(ti_countable(c, index));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, index);
    return TERN_OK;
}

static void gather_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const int axis = axis_in(c, ((const tern_axis_opts *)c->opts)->axis);
    const tern_scatter_opts o = {axis, c->in[0]->m.shape.dim[axis]};

    d[0] = tern_scatter_add(c->ctx, g[0], c->in[1], &o);
}

static const ti_sample gather_samples[] = {
    {"first axis", 2, {TI_D(NORMAL, 5, 3), TI_DL(INDEX, 5, 4, 3)}, NULL},
    {"last axis", 2, {TI_D(NORMAL, 3, 7), TI_DL(INDEX, 7, 3, 2)}, &(const tern_axis_opts){-1}},
    {"middle", 2, {TI_D(NORMAL, 2, 4, 3), TI_DL(INDEX, 4, 2, 9, 3)}, &(const tern_axis_opts){1}},
    {"none", 2, {TI_D(NORMAL, 3, 7), TI_DL(INDEX, 7, 3, 0)}, &(const tern_axis_opts){1}},
    TI_SAMPLES_END,
};
static const ti_op gather_op = {
    .name = "gather",
    .n_in = 2,
    .in = {"x", "index"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_axis_opts),
    .fields = gather_fields,
    .shape = gather_shape,
    .grad = gather_grad,
    .samples = gather_samples,
};
tern_tensor *tern_gather(tern_ctx *ctx, tern_tensor *x, tern_tensor *index,
                         const tern_axis_opts *opts)
{
    return ti_apply1(ctx, &gather_op, opts, 2, TI_IN(x, index));
}

/* ---- scatter_add ---- */

static const ti_field scatter_fields[] = {TI_FIELD(tern_scatter_opts, TI_INT, axis, 1, 0),
                                          TI_FIELD(tern_scatter_opts, TI_I64, count, 1, 0),
                                          {.name = NULL}};

static tern_status scatter_shape(ti_call *c)
{
    const tern_scatter_opts *o = c->opts;
    tern_shape s = c->in[0]->m.shape;
    int axis;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(need_index(c, 1));
    TI_TRY(ti_axis(c, 0, o->axis, &axis));
    if (!tern_same_shape(s, c->in[1]->m.shape)) return ti_misfit(c, 0, 1);
    if (o->count < 0)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "scatter_add: count %lld is negative",
                       (long long)o->count);
    s.dim[axis] = o->count;
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, s);
    return TERN_OK;
}

static void scatter_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_axis_opts o = {axis_in(c, ((const tern_scatter_opts *)c->opts)->axis)};

    d[0] = tern_gather(c->ctx, g[0], c->in[1], &o);
}

static tern_tensor *scatter_bound(const ti_call *c, int i_out, double L)
{
    tern_tensor *s = tern_scatter_add(c->ctx, tern_abs(c->ctx, c->in[0]), c->in[1], c->opts);

    (void)i_out;
    return tern_scale(c->ctx, s, certain * sqrt(L) + 1);
}

#define INTO(axis, count) (&(const tern_scatter_opts){axis, count})
static const ti_sample scatter_samples[] = {
    {"first axis, equal ones", 2, {TI_D(NORMAL, 9, 3), TI_DL(INDEX, 2, 9, 3)}, INTO(0, 4)},
    {"last axis", 2, {TI_D(NORMAL, 3, 2), TI_DL(INDEX, 7, 3, 2)}, INTO(-1, 7)},
    {"middle", 2, {TI_D(NORMAL, 2, 9, 3), TI_DL(INDEX, 4, 2, 9, 3)}, INTO(1, 4)},
    {"of nothing", 2, {TI_D(NORMAL, 3, 0), TI_DL(INDEX, 1, 3, 0)}, INTO(1, 2)},
    TI_SAMPLES_END,
};
static const ti_op scatter_add_op = {
    .name = "scatter_add",
    .n_in = 2,
    .in = {"g", "index"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_scatter_opts),
    .fields = scatter_fields,
    .shape = scatter_shape,
    .grad = scatter_grad,
    .bound = scatter_bound,
    .samples = scatter_samples,
};
tern_tensor *tern_scatter_add(tern_ctx *ctx, tern_tensor *g, tern_tensor *index,
                              const tern_scatter_opts *opts)
{
    return ti_apply1(ctx, &scatter_add_op, opts, 2, TI_IN(g, index));
}

/* ---- take ---- */

static tern_status take_shape(ti_call *c)
{
    const tern_shape x = c->in[0]->m.shape, index = c->in[1]->m.shape;
    tern_shape s = index;
    char text[160];

    TI_TRY(need_index(c, 1));
    TI_TRY(ti_need_rank(c, 0, 1, TERN_RANK));
    if (x.rank - 1 + index.rank > TERN_RANK)
        return ti_fail(c->ctx, TERN_E_SHAPE, "take: a result of rank %d is not possible; x is %s",
                       x.rank - 1 + index.rank, tern_shape_text(text, x));
    for (int a = 1; a < x.rank; a++) s.dim[s.rank++] = x.dim[a];
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, s);
    return TERN_OK;
}

static void take_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_take_add(c->ctx, g[0], c->in[1], c->in[0]->m.shape.dim[0]);
}

static const ti_sample take_samples[] = {
    {"rows", 2, {TI_D(NORMAL, 5, 3), TI_DL(INDEX, 5, 4)}, NULL},
    {"twice indexed", 2, {TI_D(NORMAL, 7, 2, 3), TI_DL(INDEX, 7, 2, 5)}, NULL},
    {"elements, scalar index", 2, {TI_D(NORMAL, 7), {.draw = TI_S_INDEX, .limit = 7}}, NULL},
    {"none", 2, {TI_D(NORMAL, 7, 3), TI_DL(INDEX, 7, 0)}, NULL},
    TI_SAMPLES_END,
};
static const ti_op take_op = {
    .name = "take",
    .n_in = 2,
    .in = {"x", "index"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .shape = take_shape,
    .grad = take_grad,
    .samples = take_samples,
};
tern_tensor *tern_take(tern_ctx *ctx, tern_tensor *x, tern_tensor *index)
{
    return ti_apply1(ctx, &take_op, NULL, 2, TI_IN(x, index));
}

/* ---- take_add ---- */

typedef struct {
    int64_t count;
} take_add_opts;
static const ti_field take_add_fields[] = {TI_FIELD(take_add_opts, TI_I64, count, 1, 0),
                                           {.name = NULL}};

static tern_status take_add_shape(ti_call *c)
{
    const int64_t count = ((const take_add_opts *)c->opts)->count;
    const tern_shape g = c->in[0]->m.shape, index = c->in[1]->m.shape;
    tern_shape s = {.rank = 1, .dim = {count}};

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(need_index(c, 1));
    if (count < 0)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "take_add: count %lld is negative",
                       (long long)count);
    for (int a = 0; a < index.rank; a++)
        if (g.rank < index.rank || g.dim[a] != index.dim[a]) return ti_misfit(c, 0, 1);
    if (g.rank - index.rank + 1 > TERN_RANK)
        return ti_fail(c->ctx, TERN_E_SHAPE, "take_add: a result of rank %d is not possible",
                       g.rank - index.rank + 1);
    for (int a = index.rank; a < g.rank; a++) s.dim[s.rank++] = g.dim[a];
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, s);
    return TERN_OK;
}

static void take_add_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    d[0] = tern_take(c->ctx, g[0], c->in[1]);
}

static tern_tensor *take_add_bound(const ti_call *c, int i_out, double L)
{
    const int64_t count = ((const take_add_opts *)c->opts)->count;
    tern_tensor *s = tern_take_add(c->ctx, tern_abs(c->ctx, c->in[0]), c->in[1], count);

    (void)i_out;
    return tern_scale(c->ctx, s, certain * sqrt(L) + 1);
}

#define COUNT(n) (&(const take_add_opts){n})
static const ti_sample take_add_samples[] = {
    {"rows, equal ones", 2, {TI_D(NORMAL, 9, 3), TI_DL(INDEX, 4, 9)}, COUNT(5)},
    {"twice indexed", 2, {TI_D(NORMAL, 2, 5, 3, 2), TI_DL(INDEX, 7, 2, 5)}, COUNT(7)},
    {"elements", 2, {TI_D(NORMAL, 6), TI_DL(INDEX, 3, 6)}, COUNT(3)},
    {"of nothing", 2, {TI_D(NORMAL, 0, 3), TI_DL(INDEX, 1, 0)}, COUNT(2)},
    {"many rows", 2, {TI_D(NORMAL, 300, 3), TI_DL(INDEX, 40, 300)}, COUNT(40)},
    {"long rows", 2, {TI_D(NORMAL, 5, 300), TI_DL(INDEX, 3, 5)}, COUNT(3)},
    TI_SAMPLES_END,
};
static const ti_op take_add_op = {
    .name = "take_add",
    .n_in = 2,
    .in = {"g", "index"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(take_add_opts),
    .fields = take_add_fields,
    .shape = take_add_shape,
    .grad = take_add_grad,
    .bound = take_add_bound,
    .samples = take_add_samples,
};
tern_tensor *tern_take_add(tern_ctx *ctx, tern_tensor *g, tern_tensor *index, int64_t count)
{
    return ti_apply1(ctx, &take_add_op, &(take_add_opts){count}, 2, TI_IN(g, index));
}

/* ---- one_hot ---- */

static const ti_field one_hot_fields[] = {TI_FIELD(tern_one_hot_opts, TI_I64, classes, 1, 0),
                                          TI_FIELD_NAMES(tern_one_hot_opts, type, "f32|f64"),
                                          TI_FIELD_HAS(tern_one_hot_opts, TI_I64, ignore, 1, 0),
                                          {.name = NULL}};

static tern_status one_hot_shape(ti_call *c)
{
    const tern_one_hot_opts *o = c->opts;
    tern_shape s = c->in[0]->m.shape;

    TI_TRY(need_index(c, 0));
    TI_TRY(ti_need_rank(c, 0, 0, TERN_RANK - 1));
    if (o->classes < 1)
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "one_hot: %lld classes", (long long)o->classes);
    if (o->type != TERN_F32 && o->type != TERN_F64)
        return ti_fail(c->ctx, TERN_E_TYPE, "one_hot: type %d is neither f32 nor f64", o->type);
    s.dim[s.rank++] = o->classes;
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta((tern_type)o->type, s);
    return TERN_OK;
}

#define CLASSES(...) (&(const tern_one_hot_opts){__VA_ARGS__})
static const ti_sample one_hot_samples[] = {
    {"vector", 1, {TI_DL(INDEX, 5, 7)}, CLASSES(.classes = 5)},
    {"one ignored",
     1,
     {TI_DL(INDEX, 3, 2, 9)},
     CLASSES(.classes = 3, .has_ignore = 1, .ignore = 1)},
    {"scalar", 1, {{.draw = TI_S_INDEX, .limit = 4}}, CLASSES(.classes = 4, .type = TERN_F64)},
    {"empty", 1, {TI_DL(INDEX, 3, 0)}, CLASSES(.classes = 3)},
    TI_SAMPLES_END,
};
static const ti_op one_hot_op = {
    .name = "one_hot",
    .n_in = 1,
    .in = {"index"},
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .opts_size = sizeof(tern_one_hot_opts),
    .fields = one_hot_fields,
    .shape = one_hot_shape,
    .no_grad = "integer input",
    .samples = one_hot_samples,
};
tern_tensor *tern_one_hot(tern_ctx *ctx, tern_tensor *index, const tern_one_hot_opts *opts)
{
    return ti_apply1(ctx, &one_hot_op, opts, 1, &index);
}

const ti_op *const ti_ops_index[] = {&gather_op,   &scatter_add_op, &take_op,
                                     &take_add_op, &one_hot_op,     NULL};
