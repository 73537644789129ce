/*
 * index.c - reference for gather, scatter_add, take, take_add, one_hot.
 *
 * gather and take move bytes; the adjoints add in double, in the order of the indices. What an
 * index out of range would have named is left out (zero), and raises a fault.
 */
#include "cpu/ref/ref.h"

static void put(const ti_view *to, int64_t i, const ti_view *from, int64_t j)
{
    const size_t size = tern_type_size(to->m.type);

    if (j < 0) memset(ti_element(to, i), 0, size);
    else memcpy(ti_element(to, i), ti_element(from, j), size);
}

/* How a tensor like index falls apart around the axis. */
typedef struct {
    int64_t n, inner; /* extent of the axis, elements after it */
} cut;
static cut cut_of(const ti_view *index, int axis)
{
    const tern_shape *s = &index->m.shape;
    cut k = {.inner = 1};

    if (axis < 0) axis += s->rank;
    k.n = s->dim[axis];
    for (int a = axis + 1; a < s->rank; a++) k.inner *= s->dim[a];
    return k;
}

static int64_t extent(const ti_view *v, int axis)
{
    return v->m.shape.dim[axis < 0 ? axis + v->m.shape.rank : axis];
}

/* y[o,j,i] = x[o, index[o,j,i], i] */
static void gather(const ti_work *w)
{
    const int axis = ((const tern_axis_opts *)w->opts)->axis;
    const ti_view *x = &w->in[0], *index = &w->in[1];
    const cut k = cut_of(index, axis);
    const int64_t n = extent(x, axis);

    for (int64_t i = 0; i < index->count; i++) {
        const int64_t at = ti_index_at(w, index, i, n), outer = i / (k.n * k.inner);
        put(&w->out[0], i, x, at < 0 ? -1 : (outer * n + at) * k.inner + i % k.inner);
    }
}

/* y[o, index[o,j,i], i] += g[o,j,i] */
static void scatter_add(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_scatter_opts *o = w->opts;
    const cut k = cut_of(&w->in[1], o->axis);

    memset(out[0], 0, (size_t)w->out[0].count * sizeof(double));
    for (int64_t i = 0; i < w->in[1].count; i++) {
        const int64_t at = ti_index_at(w, &w->in[1], i, o->count), outer = i / (k.n * k.inner);
        if (at >= 0) out[0][(outer * o->count + at) * k.inner + i % k.inner] += in[0][i];
    }
}

/* Elements of one row of a table. */
static int64_t row_of(const tern_shape *s, int from)
{
    int64_t n = 1;

    for (int a = from; a < s->rank; a++) n *= s->dim[a];
    return n;
}

static void take(const ti_work *w)
{
    const ti_view *x = &w->in[0], *index = &w->in[1];
    const int64_t row = row_of(&x->m.shape, 1);

    for (int64_t i = 0; i < index->count; i++) {
        const int64_t at = ti_index_at(w, index, i, x->m.shape.dim[0]);
        for (int64_t j = 0; j < row; j++)
            put(&w->out[0], i * row + j, x, at < 0 ? -1 : at * row + j);
    }
}

static void take_add(const ti_work *w, ti_vec in, ti_vec out)
{
    const int64_t row = row_of(&w->out[0].m.shape, 1), count = w->out[0].m.shape.dim[0];

    memset(out[0], 0, (size_t)w->out[0].count * sizeof(double));
    for (int64_t i = 0; i < w->in[1].count; i++) {
        const int64_t at = ti_index_at(w, &w->in[1], i, count);
        for (int64_t j = 0; at >= 0 && j < row; j++) out[0][at * row + j] += in[0][i * row + j];
    }
}

static void one_hot(const ti_work *w)
{
    const tern_one_hot_opts *o = w->opts;
    const ti_view *index = &w->in[0], *y = &w->out[0];

    for (int64_t i = 0; i < y->count; i++) ti_store(y->m.type, ti_element(y, i), 0);
    for (int64_t i = 0; i < index->count; i++) {
        const int64_t k = ti_load_integer(index->m.type, ti_element(index, i));
        if (o->has_ignore && k == o->ignore) continue;
        const int64_t at = ti_index_at(w, index, i, o->classes);
        if (at >= 0) ti_store(y->m.type, ti_element(y, i * o->classes + at), 1);
    }
}

/* All of g could meet in one element. In f64 these chains count; f32 is rounded once. */
static double chain(const ti_work *w)
{
    return w->in[0].m.type == TERN_F64 ? (double)w->in[1].count : 1;
}

const ti_row ti_ref_index[] = {
    {.op = "gather", .impl = "ref", .run = gather},
    {.op = "scatter_add", .impl = "ref", .body = scatter_add, .chain = chain},
    {.op = "take", .impl = "ref", .run = take},
    {.op = "take_add", .impl = "ref", .body = take_add, .chain = chain},
    {.op = "one_hot", .impl = "ref", .run = one_hot},
    {.op = NULL},
};
