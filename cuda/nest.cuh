/*
 * nest.cuh - loops over tensors of any strides, for elementwise kernels.
 *
 * A nest is the axes of a result, outermost first in the order in which the result lies, merged
 * where all operands allow it, and for each operand a stride in elements along each of them (0
 * where it repeats). Where all operands lie in one run, aligned, 16 bytes are moved at a time.
 */
#ifndef TI_CUDA_NEST_CUH
#define TI_CUDA_NEST_CUH

#include <limits.h>
#include <string.h>

#include "kernel.cuh"

enum { TI_OPERANDS = 7 };

typedef struct {
    int rank, n; /* axes; operands, the result being the first */
    bool narrow; /* positions fit 31 bits: divisions are cheap */
    bool vector; /* one run, all steps 1, 16-byte aligned, elements of one size */
    int64_t count;
    int64_t dim[TERN_RANK], stride[TI_OPERANDS][TERN_RANK];
} ti_nest;

/* Operand k, seen in the shape of the result. */
static inline void ti_nest_operand(ti_nest *e, int k, const ti_meta *m, const tern_shape &y)
{
    for (int a = 0; a < y.rank; a++) {
        const int b = a - y.rank + m->shape.rank;

        e->stride[k][a] = b < 0 || m->shape.dim[b] == 1 ? 0 : m->stride[b];
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

/* Axes of extent 1 go; with `sort` the others are ordered by operand 0's strides; they are merged.
 * At least one axis is left. */
static inline void ti_nest_simplify(ti_nest *e, bool sort)
{
    for (int a = e->rank - 1; a >= 0; a--)
        if (e->dim[a] == 1) ti_nest_drop_axis(e, a);
    for (int a = 1; a < e->rank && sort; a++)
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
    e->count = 1;
    for (int a = 0; a < e->rank; a++) e->count *= e->dim[a];
    e->narrow = e->count <= INT_MAX;
}

/* A result and n - 1 other operands, any types. */
static inline ti_nest ti_nest_over(const ti_view *const *v, int n)
{
    const ti_view *y = v[0];
    ti_nest e;
    uintptr_t bits = 0;

    memset(&e, 0, sizeof e);
    e.rank = y->m.shape.rank;
    e.n = n;
    memcpy(e.dim, y->m.shape.dim, sizeof e.dim);
    for (int k = 0; k < n; k++) {
        ti_nest_operand(&e, k, &v[k]->m, y->m.shape);
        bits |= (uintptr_t)v[k]->data;
    }
    ti_nest_simplify(&e, true);
    e.vector = e.rank == 1 && (bits & 15) == 0;
    for (int k = 0; k < n; k++)
        e.vector &=
            e.stride[k][0] == 1 && tern_type_size(v[k]->m.type) == tern_type_size(y->m.type);
    return e;
}

/* A result and up to three operands; NULL: none. */
static inline ti_nest ti_nest_of(const ti_view *y, const ti_view *a, const ti_view *b,
                                 const ti_view *c)
{
    const ti_view *const v[] = {y, a, b, c};

    return ti_nest_over(v, a ? b ? c ? 4 : 3 : 2 : 1);
}

/* Offsets of position i in the first n operands. */
template <int n>
static inline __device__ void ti_place(const ti_nest &e, int64_t i, int64_t (&at)[n])
{
    for (int k = 0; k < n; k++) at[k] = 0;
    for (int a = e.rank - 1; a > 0; a--) {
        int64_t next;

        if (e.narrow) next = (int64_t)((uint32_t)i / (uint32_t)e.dim[a]);
        else next = i / e.dim[a];
        const int64_t own = i - next * e.dim[a];
        for (int k = 0; k < n; k++) at[k] += own * e.stride[k][a];
        i = next;
    }
    for (int k = 0; k < n; k++) at[k] += i * e.stride[k][0];
}

/* 16 bytes of elements. */
template <class T> struct alignas(16) ti_pack {
    T x[16 / sizeof(T)];
};

/* y = f(a), y = f(a, b), y = f(a, b, c), element by element. */
template <class R, class A, class F>
static inline __device__ void ti_each(const ti_nest &e, R *y, const A *a, F f)
{
    constexpr int wide = sizeof(R) == sizeof(A) ? 16 / sizeof(R) : 1;
    int64_t i = ti_first();

    if (e.vector && wide > 1) {
        const int64_t n = e.count / wide;

        for (; i < n; i += ti_step()) {
            const ti_pack<A> p = ((const ti_pack<A> *)a)[i];
            ti_pack<R> r;
            for (int k = 0; k < wide; k++) r.x[k] = f(p.x[k]);
            ((ti_pack<R> *)y)[i] = r;
        }
        for (i = n * wide + ti_first(); i < e.count; i += ti_step()) y[i] = f(a[i]);
        return;
    }
    for (; i < e.count; i += ti_step()) {
        int64_t at[2];

        ti_place(e, i, at);
        y[at[0]] = f(a[at[1]]);
    }
}

template <class R, class A, class B, class F>
static inline __device__ void ti_each(const ti_nest &e, R *y, const A *a, const B *b, F f)
{
    constexpr int wide = sizeof(R) == sizeof(A) && sizeof(R) == sizeof(B) ? 16 / sizeof(R) : 1;
    int64_t i = ti_first();

    if (e.vector && wide > 1) {
        const int64_t n = e.count / wide;

        for (; i < n; i += ti_step()) {
            const ti_pack<A> p = ((const ti_pack<A> *)a)[i];
            const ti_pack<B> q = ((const ti_pack<B> *)b)[i];
            ti_pack<R> r;
            for (int k = 0; k < wide; k++) r.x[k] = f(p.x[k], q.x[k]);
            ((ti_pack<R> *)y)[i] = r;
        }
        for (i = n * wide + ti_first(); i < e.count; i += ti_step()) y[i] = f(a[i], b[i]);
        return;
    }
    for (; i < e.count; i += ti_step()) {
        int64_t at[3];

        ti_place(e, i, at);
        y[at[0]] = f(a[at[1]], b[at[2]]);
    }
}

static inline int ti_on_first(int i_out)
{
    (void)i_out;
    return 0;
}

#endif
