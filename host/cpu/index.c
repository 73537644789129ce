/*
 * index.c - CPU kernels for gather, scatter_add, take, take_add, one_hot, argmax, argmin in f32
 * (gather and take in any type).
 *
 * Operands come row-major. Sums are in f32, in the order of the indices, one index after the other
 * on one thread for each column of g; so equal indices add up in order, whatever the threads. What
 * an index out of range would have named is left out (zero), and raises a fault.
 */
#include <string.h>

#include "cpu/backend.h"

static int64_t index_at(const ti_view *v, int64_t i)
{
    if (v->m.type == TERN_I32) return ((const int32_t *)(const void *)v->data)[i];
    return ((const int64_t *)(const void *)v->data)[i];
}

/* -1, and a fault, where it is not in 0 ... limit-1. */
static int64_t checked(const ti_work *w, const ti_view *v, int64_t i, int64_t limit)
{
    const int64_t at = index_at(v, i);

    if (at >= 0 && at < limit) return at;
    ti_raise(w, i, at, limit);
    return -1;
}

/* Elements before, along and after an axis. */
typedef struct {
    int64_t outer, n, inner;
} cut;
static cut cut_of(tern_shape s, int axis)
{
    cut k = {1, 1, 1};

    if (axis < 0) axis += s.rank;
    for (int a = 0; a < s.rank; a++)
        *(a < axis ? &k.outer : a == axis ? &k.n : &k.inner) *= s.dim[a];
    return k;
}

static double cost(const ti_work *w)
{
    return 200 + 2 * (double)(w->out[0].count + w->in[0].count);
}

static void element(char *to, const char *from, int64_t i, int64_t j, size_t size)
{
    if (j < 0) memset(to + i * (int64_t)size, 0, size);
    else if (size == 4) memcpy(to + i * 4, from + j * 4, 4);
    else memcpy(to + i * (int64_t)size, from + j * (int64_t)size, size);
}

/* ---- gather, scatter_add ---- */

static void gather(const ti_work *w)
{
    const int axis = ((const tern_axis_opts *)w->opts)->axis;
    const ti_view *x = &w->in[0], *index = &w->in[1];
    const cut k = cut_of(index->m.shape, axis);
    const int64_t n = cut_of(x->m.shape, axis).n;
    const size_t size = tern_type_size(x->m.type);
    int64_t i = 0;

    for (int64_t o = 0; o < k.outer; o++)
        for (int64_t j = 0; j < k.n; j++)
            for (int64_t l = 0; l < k.inner; l++, i++) {
                const int64_t at = checked(w, index, i, n);
                element(w->out[0].data, x->data, i, at < 0 ? -1 : (o * n + at) * k.inner + l, size);
            }
}

static void scatter_add(const ti_work *w)
{
    const tern_scatter_opts *o = w->opts;
    const cut k = cut_of(w->in[1].m.shape, o->axis);
    const float *g = (const float *)(const void *)w->in[0].data;
    float *y = (float *)(void *)w->out[0].data;
    int64_t i = 0;

    memset(y, 0, (size_t)w->out[0].count * sizeof *y);
    for (int64_t p = 0; p < k.outer; p++)
        for (int64_t j = 0; j < k.n; j++)
            for (int64_t l = 0; l < k.inner; l++, i++) {
                const int64_t at = checked(w, &w->in[1], i, o->count);
                if (at >= 0) y[(p * o->count + at) * k.inner + l] += g[i];
            }
}

/* ---- take, take_add ---- */

typedef struct {
    const ti_work *w;
    int64_t row, limit, each; /* elements of a row; rows of the table; rows or columns of a chunk */
} table;

static void take_chunk(void *arg, int64_t i_chunk, int i_worker)
{
    const table *t = arg;
    const ti_work *w = t->w;
    const size_t bytes = (size_t)t->row * tern_type_size(w->in[0].m.type);
    const int64_t from = i_chunk * t->each, n = w->in[1].count;
    const int64_t to = from + t->each < n ? from + t->each : n;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) {
        const int64_t at = checked(w, &w->in[1], i, t->limit);
        char *y = w->out[0].data + i * (int64_t)bytes;
        if (at < 0) memset(y, 0, bytes);
        else memcpy(y, w->in[0].data + at * (int64_t)bytes, bytes);
    }
}

static void take(const ti_work *w)
{
    const int64_t n = w->in[1].count, row = w->out[0].count / n;
    table t = {.w = w, .row = row, .limit = w->in[0].m.shape.dim[0]};

    t.each = 16384 / row > 0 ? 16384 / row : 1;
    ti_threads_run(w->out[0].count < 65536 ? NULL : ti_cpu_threads(w->device),
                   (n + t.each - 1) / t.each, take_chunk, &t);
}

/* Some columns of all rows: no two chunks touch one element. */
static void take_add_chunk(void *arg, int64_t i_chunk, int i_worker)
{
    const table *t = arg;
    const ti_work *w = t->w;
    const float *g = (const float *)(const void *)w->in[0].data;
    float *y = (float *)(void *)w->out[0].data;
    const int64_t from = i_chunk * t->each;
    const int64_t to = from + t->each < t->row ? from + t->each : t->row;

    (void)i_worker;
    for (int64_t i = 0; i < t->limit; i++)
        memset(y + i * t->row + from, 0, (size_t)(to - from) * sizeof *y);
    for (int64_t i = 0; i < w->in[1].count; i++) {
        const int64_t at = index_at(&w->in[1], i);
        if (at < 0 || at >= t->limit) continue;
        for (int64_t j = from; j < to; j++) y[at * t->row + j] += g[i * t->row + j];
    }
}

static void take_add(const ti_work *w)
{
    table t = {.w = w, .row = 1, .limit = w->out[0].m.shape.dim[0], .each = 256};

    for (int a = 1; a < w->out[0].m.shape.rank; a++) t.row *= w->out[0].m.shape.dim[a];
    for (int64_t i = 0; i < w->in[1].count; i++) (void)checked(w, &w->in[1], i, t.limit);
    ti_threads_run(w->in[0].count < 65536 ? NULL : ti_cpu_threads(w->device),
                   (t.row + t.each - 1) / t.each, take_add_chunk, &t);
}

/* ---- one_hot ---- */

static void one_hot(const ti_work *w)
{
    const tern_one_hot_opts *o = w->opts;
    float *y = (float *)(void *)w->out[0].data;

    memset(y, 0, (size_t)w->out[0].count * sizeof *y);
    for (int64_t i = 0; i < w->in[0].count; i++) {
        if (o->has_ignore && index_at(&w->in[0], i) == o->ignore) continue;
        const int64_t at = checked(w, &w->in[0], i, o->classes);
        if (at >= 0) y[i * o->classes + at] = 1;
    }
}

/* ---- argmax, argmin ---- */

static bool beats(float x, float best, int sign)
{
    return (x != x && best == best) || (sign > 0 ? x > best : x < best);
}

static void arg(const ti_work *w, int sign)
{
    const tern_arg_opts *o = w->opts;
    const cut k = o->has_axis ? cut_of(w->in[0].m.shape, o->axis) : (cut){1, w->in[0].count, 1};
    const float *x = (const float *)(const void *)w->in[0].data;
    int64_t *y = (int64_t *)(void *)w->out[0].data;

    for (int64_t p = 0; p < k.outer; p++)
        for (int64_t l = 0; l < k.inner; l++) {
            const float *run = x + p * k.n * k.inner + l;
            int64_t best = 0;
            for (int64_t i = 1; i < k.n; i++)
                if (beats(run[i * k.inner], run[best * k.inner], sign)) best = i;
            *y++ = best;
        }
}
static void argmax(const ti_work *w) { arg(w, 1); }
static void argmin(const ti_work *w) { arg(w, -1); }

/* ---- Rows ---- */

static const char *not_f32(const ti_work *w)
{
    return w->in[0].m.type == TERN_F32 ? NULL : "takes f32";
}
static const char *gives_no_f32(const ti_work *w)
{
    return w->out[0].m.type == TERN_F32 ? NULL : "gives f32";
}
/* A table without rows, or rows without elements: the reference knows what to raise. */
static const char *empty(const ti_work *w)
{
    return w->in[0].count == 0 ? "takes no empty table" : NULL;
}
static double chain(const ti_work *w) { return (double)w->in[1].count; }

#define ROW(name, reject_, chain_)                                                                 \
    {                                                                                              \
        .op = #name, .impl = "loops", .reject = reject_, .cost = cost,                             \
        .want = {TI_ROW_MAJOR, TI_ROW_MAJOR}, .run = name, .chain = chain_                         \
    }
const ti_row ti_cpu_index[] = {
    ROW(gather, empty, NULL),         ROW(scatter_add, not_f32, chain),
    ROW(take, empty, NULL),           ROW(take_add, not_f32, chain),
    ROW(one_hot, gives_no_f32, NULL), ROW(argmax, not_f32, NULL),
    ROW(argmin, not_f32, NULL),       {.op = NULL},
};
