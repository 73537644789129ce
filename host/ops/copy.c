/*
 * copy.c - values in storage of their own: copy, cast, commit, concat, pad, fill.
 *
 * All of them take any element type and move its bytes as they are (cast excepted).
 */
#include "ops/rules.h"

static const char type_names[] = "f32|f64|f16|bf16|i64|i32|u8|bool";

static bool is_float(tern_type t) { return TI_STORED_FLOATS >> t & 1; }

static tern_status need_type(const ti_call *c, int type)
{
    if ((unsigned)type < TERN_N_TYPES) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: there is no type %d", c->op->name, type);
}

static void same_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    (void)c;
    d[0] = g[0];
}

/* ---- copy ---- */

static const ti_field copy_fields[] = {TI_FIELD(tern_copy_opts, TI_INT, channels_last, 1, 0),
                                       {.name = NULL}};

static tern_status copy_shape(ti_call *c)
{
    const ti_meta *x = &c->in[0]->m;

    TI_TRY(ti_countable(c, x->shape));
    c->meta[0] = ((const tern_copy_opts *)c->opts)->channels_last
                     ? ti_channels_last_meta(x->type, x->shape)
                     : ti_packed_meta(x->type, x->shape);
    return TERN_OK;
}

static const ti_sample copy_samples[] = {
    {"odd", 1, {TI_D(NORMAL, 3, 5, 7)}, NULL},
    {"channels last", 1, {TI_D(NORMAL, 2, 5, 3, 7)}, &(const tern_copy_opts){1}},
    {"channels last, rank 2", 1, {TI_D(NORMAL, 3, 4)}, &(const tern_copy_opts){1}},
    {"integers, scalar", 1, {TI_DL(INT, 99, 1)}, NULL},
    {"empty", 1, {TI_D(NORMAL, 2, 0, 3)}, &(const tern_copy_opts){1}},
    TI_SAMPLES_END,
};
static const ti_op copy_op = {
    .name = "copy",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_copy_opts),
    .fields = copy_fields,
    .shape = copy_shape,
    .grad = same_grad,
    .samples = copy_samples,
};
tern_tensor *tern_copy(tern_ctx *ctx, tern_tensor *x)
{
    return ti_apply1(ctx, &copy_op, NULL, 1, &x);
}
tern_tensor *tern_channels_last(tern_ctx *ctx, tern_tensor *x)
{
    return ti_apply1(ctx, &copy_op, &(tern_copy_opts){.channels_last = 1}, 1, &x);
}

/* ---- commit(new, skip): the write of a variable at a step's end; its output is the variable.
 * Nothing is written where skip (one f32) is not 0. ---- */

static tern_status commit_shape(ti_call *c)
{
    const tern_tensor *skip = c->in[1];
    char text[160];

    if (skip && (skip->m.type != TERN_F32 || tern_count(skip->m.shape) != 1))
        return ti_fail(c->ctx, TERN_E_ARGUMENT, "commit: skip is %s %s, not one f32",
                       tern_type_name(skip->m.type), tern_shape_text(text, skip->m.shape));
    TI_TRY(ti_countable(c, c->in[0]->m.shape));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, c->in[0]->m.shape);
    return TERN_OK;
}

static const ti_sample commit_samples[] = {
    {"unconditional", 2, {TI_D(NORMAL, 3, 5), {.draw = TI_S_NONE}}, NULL},
    TI_SAMPLES_END,
};
static const ti_op commit_op = {
    .name = "commit",
    .n_in = 2,
    .in = {"new", "skip"},
    .optional = 2,
    .n_out = 1,
    .out = {{"var", TI_VALUE}},
    .shape = commit_shape,
    .no_grad = "assignment cuts history",
    .samples = commit_samples,
};

/* ---- cast ---- */

static const ti_field cast_fields[] = {TI_FIELD_NAMES(tern_cast_opts, type, type_names),
                                       {.name = NULL}};

static tern_status cast_shape(ti_call *c)
{
    const int type = ((const tern_cast_opts *)c->opts)->type;

    TI_TRY(need_type(c, type));
    TI_TRY(ti_countable(c, c->in[0]->m.shape));
    c->meta[0] = ti_follow_meta((tern_type)type, &c->in[0]->m);
    return TERN_OK;
}

static void cast_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_type from = c->in[0]->m.type;

    if (is_float(from) && is_float((tern_type)((const tern_cast_opts *)c->opts)->type))
        d[0] = tern_cast(c->ctx, g[0], from);
}

#define CAST(t) (&(const tern_cast_opts){t})
static const ti_sample cast_samples[] = {
    {"to f64", 1, {TI_D(NORMAL, 3, 7)}, CAST(TERN_F64)},
    {"to i64, exact", 1, {TI_DL(INT, 1000, 3, 7)}, CAST(TERN_I64)},
    {"bool to f64, scalar", 1, {TI_D0(BOOL)}, CAST(TERN_F64)},
    {"empty", 1, {TI_D(NORMAL, 0)}, CAST(TERN_F64)},
    TI_SAMPLES_END,
};
static const ti_op cast_op = {
    .name = "cast",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_cast_opts),
    .fields = cast_fields,
    .shape = cast_shape,
    .grad = cast_grad,
    .samples = cast_samples,
};
tern_tensor *tern_cast(tern_ctx *ctx, tern_tensor *x, tern_type type)
{
    if (x && x->m.type == type) return x;
    return ti_apply1(ctx, &cast_op, &(tern_cast_opts){(int)type}, 1, &x);
}

/* ---- concat ---- */

static const ti_field axis_fields[] = {TI_FIELD(tern_axis_opts, TI_INT, axis, 1, 0),
                                       {.name = NULL}};

static tern_status concat_shape(ti_call *c)
{
    tern_shape s;
    int axis;

    if (c->n_in < 1) return ti_fail(c->ctx, TERN_E_ARGUMENT, "concat: needs at least one tensor");
    TI_TRY(ti_axis(c, 0, ((const tern_axis_opts *)c->opts)->axis, &axis));
    s = c->in[0]->m.shape;
    for (int i = 1; i < c->n_in; i++) {
        tern_shape t = c->in[i]->m.shape;
        if (c->in[i]->m.type != c->in[0]->m.type)
            return ti_fail(c->ctx, TERN_E_TYPE, "concat: tensor %d is %s, the first is %s", i,
                           tern_type_name(c->in[i]->m.type), tern_type_name(c->in[0]->m.type));
        if (t.rank != s.rank || __builtin_add_overflow(s.dim[axis], t.dim[axis], &s.dim[axis]))
            return ti_misfit(c, 0, i);
        t.dim[axis] = s.dim[axis];
        if (!tern_same_shape(s, t)) return ti_misfit(c, 0, i);
    }
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, s);
    return TERN_OK;
}

static void concat_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const int o = ((const tern_axis_opts *)c->opts)->axis;
    const int axis = o < 0 ? o + c->in[0]->m.shape.rank : o;
    tern_slice_opts part = {.axis = axis};

    for (int i = 0; i < c->n_in; i++) {
        part.count = c->in[i]->m.shape.dim[axis];
        if (c->wants[i]) d[i] = tern_slice(c->ctx, g[0], &part);
        part.from += part.count;
    }
}

static const ti_sample concat_samples[] = {
    {"first axis", 3, {TI_D(NORMAL, 2, 3), TI_D(NORMAL, 1, 3), TI_D(NORMAL, 4, 3)}, NULL},
    {"last axis", 2, {TI_D(NORMAL, 2, 3, 5), TI_D(NORMAL, 2, 3, 2)}, &(const tern_axis_opts){-1}},
    {"middle, one empty",
     2,
     {TI_D(NORMAL, 2, 0, 3), TI_D(NORMAL, 2, 3, 3)},
     &(const tern_axis_opts){1}},
    {"one", 1, {TI_D(NORMAL, 3)}, NULL},
    {"empty", 2, {TI_D(NORMAL, 0, 2), TI_D(NORMAL, 0, 2)}, NULL},
    TI_SAMPLES_END,
};
static const ti_op concat_op = {
    .name = "concat",
    .n_in = -1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_axis_opts),
    .fields = axis_fields,
    .shape = concat_shape,
    .grad = concat_grad,
    .samples = concat_samples,
};
tern_tensor *tern_concat(tern_ctx *ctx, int n, tern_tensor *const *x, int axis)
{
    return ti_apply1(ctx, &concat_op, &(tern_axis_opts){axis}, n, x);
}

/* ---- pad ---- */

static const ti_field pad_fields[] = {TI_FIELD(tern_pad_opts, TI_I64, before, TERN_RANK, 0),
                                      TI_FIELD(tern_pad_opts, TI_I64, after, TERN_RANK, 0),
                                      TI_FIELD(tern_pad_opts, TI_F64, value, 1, 0),
                                      {.name = NULL}};

static tern_status pad_shape(ti_call *c)
{
    const tern_pad_opts *o = c->opts;
    tern_shape s = c->in[0]->m.shape;

    for (int a = 0; a < TERN_RANK; a++) {
        const int64_t before = o->before[a], after = o->after[a];
        if (before < 0 || after < 0 || (a >= s.rank && (before || after)))
            return ti_fail(c->ctx, TERN_E_ARGUMENT,
                           "pad: %lld before and %lld after axis %d of a tensor of rank %d",
                           (long long)before, (long long)after, a, s.rank);
        if (a < s.rank && (__builtin_add_overflow(s.dim[a], before, &s.dim[a]) ||
                           __builtin_add_overflow(s.dim[a], after, &s.dim[a])))
            return ti_fail(c->ctx, TERN_E_SHAPE, "pad: axis %d would have more than 2^63 elements",
                           a);
    }
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, s);
    return TERN_OK;
}

static void pad_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    const tern_pad_opts *o = c->opts;

    d[0] = g[0];
    for (int a = 0; a < c->in[0]->m.shape.rank; a++)
        if (o->before[a] || o->after[a])
            d[0] =
                tern_slice(c->ctx, d[0],
                           &(tern_slice_opts){
                               .axis = a, .from = o->before[a], .count = c->in[0]->m.shape.dim[a]});
}

static const ti_sample pad_samples[] = {
    {"both ends", 1, {TI_D(NORMAL, 3, 5)}, &(const tern_pad_opts){{1, 2}, {0, 3}, 0}},
    {"with a value", 1, {TI_D(NORMAL, 2, 1, 3)}, &(const tern_pad_opts){{0, 2}, {1}, -1.5}},
    {"nothing, scalar", 1, {TI_D0(NORMAL)}, NULL},
    {"integers", 1, {TI_DL(INT, 9, 4)}, &(const tern_pad_opts){{3}, {1}, 7}},
    {"of nothing", 1, {TI_D(NORMAL, 0, 2)}, &(const tern_pad_opts){{2}, {1}, 3}},
    TI_SAMPLES_END,
};
static const ti_op pad_op = {
    .name = "pad",
    .n_in = 1,
    .in = {"x"},
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .opts_size = sizeof(tern_pad_opts),
    .fields = pad_fields,
    .shape = pad_shape,
    .grad = pad_grad,
    .samples = pad_samples,
};
tern_tensor *tern_pad(tern_ctx *ctx, tern_tensor *x, const tern_pad_opts *opts)
{
    return ti_apply1(ctx, &pad_op, opts, 1, &x);
}

/* ---- fill ---- */

/* rank may be left out in texts: dim=6,4. */
typedef struct {
    double value;
    int64_t rank, dim[TERN_RANK];
    int type;
} fill_opts;
static const ti_field fill_fields[] = {TI_FIELD(fill_opts, TI_F64, value, 1, 0),
                                       TI_FIELD(fill_opts, TI_I64, rank, 1, 0),
                                       TI_FIELD(fill_opts, TI_I64, dim, TERN_RANK, 0),
                                       TI_FIELD_NAMES(fill_opts, type, type_names),
                                       {.name = NULL}};

static tern_status fill_shape(ti_call *c)
{
    const fill_opts *o = c->opts;
    tern_shape s;

    TI_TRY(need_type(c, o->type));
    TI_TRY(ti_shape_of(c, o->rank, o->dim, &s));
    TI_TRY(ti_countable(c, s));
    c->meta[0] = ti_packed_meta((tern_type)o->type, s);
    return TERN_OK;
}

static const ti_sample fill_samples[] = {
    {"f32", 0, {{.draw = TI_S_NONE}}, &(const fill_opts){0.1, 2, {3, 5}, TERN_F32}},
    {"f64", 0, {{.draw = TI_S_NONE}}, &(const fill_opts){-0.1, 1, {7}, TERN_F64}},
    {"i64, scalar", 0, {{.draw = TI_S_NONE}}, &(const fill_opts){-3, 0, {0}, TERN_I64}},
    {"bool", 0, {{.draw = TI_S_NONE}}, &(const fill_opts){1, 1, {5}, TERN_BOOL}},
    {"empty", 0, {{.draw = TI_S_NONE}}, &(const fill_opts){1, 2, {0, 5}, TERN_F32}},
    TI_SAMPLES_END,
};
static const ti_op fill_op = {
    .name = "fill",
    .n_in = 0,
    .n_out = 1,
    .out = {{"y", TI_VALUE}},
    .opts_size = sizeof(fill_opts),
    .fields = fill_fields,
    .shape = fill_shape,
    .no_grad = "no input",
    .samples = fill_samples,
};
tern_tensor *tern_fill(tern_ctx *ctx, tern_type type, tern_shape shape, double value)
{
    fill_opts o = {.value = value, .type = (int)type};

    ti_shape_into(shape, &o.rank, o.dim);
    return ti_apply1(ctx, &fill_op, &o, 0, NULL);
}

const ti_op *const ti_ops_copy[] = {&copy_op, &commit_op, &cast_op, &concat_op,
                                    &pad_op,  &fill_op,   NULL};
