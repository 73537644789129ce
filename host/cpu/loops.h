/*
 * loops.h - loops over tensors of any strides, for elementwise kernels.
 *
 * A nest is the axes of a result, outermost first in the order in which the result lies, merged
 * where all operands allow it, and for each operand a stride in bytes along each of them (0 where
 * it repeats). The innermost axis is handed to a kernel in runs of operands of step 1 or 0; what
 * lies otherwise is gathered into a buffer first. Work is cut into chunks of about 16 thousand
 * elements, by the shape only, and small work stays on the caller.
 */
#ifndef TI_CPU_LOOPS_H
#define TI_CPU_LOOPS_H

#include <string.h>

#include "cpu/backend.h"

enum { TI_OPERANDS = 4, TI_CHUNK = 16384, TI_BUFFER = 512 };

typedef struct {
    int rank, n; /* axes; operands, the result being the first */
    int64_t dim[TERN_RANK];
    int64_t stride[TI_OPERANDS][TERN_RANK]; /* bytes */
    char *data[TI_OPERANDS];
    int64_t size[TI_OPERANDS]; /* bytes of an element */
} ti_nest;

/* Operand k of n, seen in the shape of the result (operand 0). */
static inline void ti_nest_operand(ti_nest *e, int k, const ti_view *v, const tern_shape *y)
{
    e->data[k] = v->data;
    e->size[k] = (int64_t)tern_type_size(v->m.type);
    for (int a = 0; a < y->rank; a++) {
        const int b = a - y->rank + v->m.shape.rank;
        const bool repeats = b < 0 || v->m.shape.dim[b] == 1;
        e->stride[k][a] = repeats ? 0 : v->m.stride[b] * e->size[k];
    }
}

static inline void ti_nest_drop_axis(ti_nest *e, int a)
{
    e->rank--;
    for (int i = a; i < e->rank; i++) {
        e->dim[i] = e->dim[i + 1];
        for (int k = 0; k < e->n; k++) e->stride[k][i] = e->stride[k][i + 1];
    }
}

static inline void ti_nest_swap(ti_nest *e, int a, int b)
{
    const int64_t d = e->dim[a];

    e->dim[a] = e->dim[b];
    e->dim[b] = d;
    for (int k = 0; k < e->n; k++) {
        const int64_t s = e->stride[k][a];
        e->stride[k][a] = e->stride[k][b];
        e->stride[k][b] = s;
    }
}

/* Axes of extent 1 go, the others are ordered by operand 0's strides and merged. At least one axis
 * is left. */
static inline void ti_nest_simplify(ti_nest *e)
{
    for (int a = e->rank - 1; a >= 0; a--)
        if (e->dim[a] == 1) ti_nest_drop_axis(e, a);
    for (int a = 1; a < e->rank; a++)
        for (int b = a; b > 0 && e->stride[0][b - 1] < e->stride[0][b]; b--)
            ti_nest_swap(e, b - 1, b);
    for (int a = e->rank - 2; a >= 0; a--) {
        bool even = true;
        for (int k = 0; k < e->n; k++)
            even &= e->stride[k][a] == e->stride[k][a + 1] * e->dim[a + 1];
        if (!even) continue;
        e->dim[a + 1] *= e->dim[a];
        ti_nest_drop_axis(e, a);
    }
    if (e->rank == 0) {
        e->rank = 1;
        e->dim[0] = 1;
        for (int k = 0; k < e->n; k++) e->stride[k][0] = 0;
    }
}

/* The result and its n_in inputs in one run, if they lie so: the short way to what ti_nest_simplify
 * would find. */
static inline bool ti_nest_is_flat(ti_nest *e, const ti_work *w, int n_in)
{
    const ti_view *y = &w->out[0];
    bool flat = y->packed;

    for (int k = 0; k < n_in; k++) flat &= w->in[k].packed && w->in[k].count == y->count;
    if (!flat) return false;
    e->rank = 1;
    e->dim[0] = y->count;
    for (int k = 0; k <= n_in; k++) {
        const ti_view *v = k ? &w->in[k - 1] : y;
        e->data[k] = v->data;
        e->size[k] = (int64_t)tern_type_size(v->m.type);
        e->stride[k][0] = y->count > 1 ? e->size[k] : 0;
    }
    return true;
}

/* Result out[0] and the first n_in inputs of a call. */
static inline void ti_nest_of(ti_nest *e, const ti_work *w, int n_in)
{
    const tern_shape *y = &w->out[0].m.shape;

    e->n = n_in + 1;
    if (ti_nest_is_flat(e, w, n_in)) return;
    e->rank = y->rank;
    memcpy(e->dim, y->dim, sizeof e->dim);
    ti_nest_operand(e, 0, &w->out[0], y);
    for (int k = 0; k < n_in; k++) ti_nest_operand(e, k + 1, &w->in[k], y);
    ti_nest_simplify(e);
}

/* n elements; p and step (1 or 0 elements, the result's 1) for each operand. */
typedef void (*ti_run_fn)(const void *arg, int64_t n, char *const *p, const int64_t *step);

typedef struct {
    const ti_nest *e;
    ti_run_fn run;
    const void *arg;
    bool dense;           /* the kernel wants steps of 1 only */
    int64_t rows, pieces; /* outer positions; pieces that an inner run is cut into */
    int64_t piece, each;  /* elements of a piece; rows (pieces 1) of a chunk */
} ti_loop_job;

static inline void ti_spread(char *to, const char *from, int64_t n, int64_t stride, int64_t size)
{
    switch (size) {
    case 1:
        for (int64_t i = 0; i < n; i++) to[i] = from[i * stride];
        break;
    case 2:
        for (int64_t i = 0; i < n; i++) memcpy(to + 2 * i, from + i * stride, 2);
        break;
    case 4:
        for (int64_t i = 0; i < n; i++) memcpy(to + 4 * i, from + i * stride, 4);
        break;
    default:
        for (int64_t i = 0; i < n; i++) memcpy(to + 8 * i, from + i * stride, 8);
    }
}

/* The other way: packed elements to addresses `stride` apart. */
static inline void ti_scatter(char *to, const char *from, int64_t n, int64_t stride, int64_t size)
{
    for (int64_t i = 0; i < n; i++) memcpy(to + i * stride, from + i * size, (size_t)size);
}

/* One run of the inner axis: n elements from these addresses. */
static inline void ti_loop_run(const ti_loop_job *l, int64_t n, char *const *at)
{
    const ti_nest *e = l->e;
    _Alignas(64) char buffer[TI_OPERANDS][TI_BUFFER * 8];
    char *p[TI_OPERANDS];
    int64_t step[TI_OPERANDS], inner[TI_OPERANDS], block = n;
    bool gaps[TI_OPERANDS]; /* goes through a buffer */

    for (int k = 0; k < e->n; k++) {
        inner[k] = e->stride[k][e->rank - 1];
        step[k] = k == 0 || inner[k] != 0 || l->dense;
        gaps[k] = step[k] && inner[k] != e->size[k] && n > 1;
        if (gaps[k]) block = TI_BUFFER;
    }
    for (int64_t i = 0; i < n; i += block) {
        const int64_t m = n - i < block ? n - i : block;
        for (int k = 0; k < e->n; k++) {
            p[k] = gaps[k] ? buffer[k] : at[k] + i * inner[k];
            if (k > 0 && gaps[k])
                ti_spread(buffer[k], at[k] + i * inner[k], m, inner[k], e->size[k]);
        }
        l->run(l->arg, m, p, step);
        if (gaps[0]) ti_scatter(at[0] + i * inner[0], p[0], m, inner[0], e->size[0]);
    }
}

static inline void ti_loop_chunk(void *arg, int64_t i_chunk, int i_worker)
{
    const ti_loop_job *l = arg;
    const ti_nest *e = l->e;
    const int last = e->rank - 1;
    const int64_t first = l->pieces > 1 ? i_chunk / l->pieces : i_chunk * l->each;
    const int64_t from = l->pieces > 1 ? i_chunk % l->pieces * l->piece : 0;
    const int64_t left = e->dim[last] - from, n = left < l->piece ? left : l->piece;
    int64_t rows = l->pieces > 1 ? 1 : l->each, index[TERN_RANK] = {0}, rest = first;
    char *at[TI_OPERANDS];

    (void)i_worker;
    if (rows > l->rows - first) rows = l->rows - first;
    for (int k = 0; k < e->n; k++) at[k] = e->data[k] + from * e->stride[k][last];
    for (int a = last - 1; a >= 0; a--) {
        index[a] = rest % e->dim[a];
        rest /= e->dim[a];
        for (int k = 0; k < e->n; k++) at[k] += index[a] * e->stride[k][a];
    }
    for (int64_t r = 0; r < rows; r++) {
        ti_loop_run(l, n, at);
        for (int a = last - 1; a >= 0; a--) {
            for (int k = 0; k < e->n; k++) at[k] += e->stride[k][a];
            if (++index[a] < e->dim[a]) break;
            for (int k = 0; k < e->n; k++) at[k] -= e->stride[k][a] * e->dim[a];
            index[a] = 0;
        }
    }
}

/* Runs the kernel over all elements; `ns` is about what one element costs. */
static inline void ti_loop_over(const ti_work *w, const ti_nest *e, bool dense, double ns,
                                ti_run_fn run, const void *arg)
{
    ti_loop_job l = {.e = e, .run = run, .arg = arg, .dense = dense, .rows = 1};
    const int64_t inner = e->dim[e->rank - 1];
    const bool small = (double)w->out[0].count * ns < 20000;

    if (e->rank == 1 && inner <= TI_CHUNK) {
        ti_loop_run(&l, inner, e->data);
        return;
    }
    for (int a = 0; a < e->rank - 1; a++) l.rows *= e->dim[a];
    l.pieces = (inner + TI_CHUNK - 1) / TI_CHUNK;
    l.piece = l.pieces > 1 ? TI_CHUNK : inner;
    l.each = TI_CHUNK / inner > 0 ? TI_CHUNK / inner : 1;
    const int64_t chunks = l.pieces > 1 ? l.rows * l.pieces : (l.rows + l.each - 1) / l.each;
    ti_threads_run(small ? NULL : ti_cpu_threads(w->device), chunks, ti_loop_chunk, &l);
}

/* A short result and its inputs in one run each, as of most eager calls. */
static inline bool ti_loop_short(const ti_work *w, int n_in, ti_run_fn run, const void *arg)
{
    const ti_view *y = &w->out[0];
    char *p[TI_OPERANDS] = {y->data};
    int64_t step[TI_OPERANDS] = {1};
    bool flat = y->packed && y->count <= TI_CHUNK;

    for (int k = 0; k < n_in; k++) {
        flat &= w->in[k].packed && w->in[k].count == y->count;
        p[k + 1] = w->in[k].data;
        step[k + 1] = 1;
    }
    if (flat) run(arg, y->count, p, step);
    return flat;
}

/* The same for the result and its first n_in inputs. */
static inline void ti_loop(const ti_work *w, int n_in, bool dense, double ns, ti_run_fn run,
                           const void *arg)
{
    ti_nest e;

    if (ti_loop_short(w, n_in, run, arg)) return;
    ti_nest_of(&e, w, n_in);
    ti_loop_over(w, &e, dense, ns, run, arg);
}

/* Nanoseconds of a call whose elements cost `ns` each, more where they must be gathered. */
static inline double ti_loop_cost(const ti_work *w, double ns)
{
    bool even = true;

    for (int i = 0; i < w->n_in; i++) even &= w->in[i].packed || ti_is_dense(&w->in[i].m);
    return 100 + (double)w->out[0].count * (even ? ns : ns + 1);
}

#endif
