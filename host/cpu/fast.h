/*
 * fast.h - what the fast rows of several families share.
 */
#ifndef TI_CPU_FAST_H
#define TI_CPU_FAST_H

#include "core/row.h"
#include "cpu/backend.h"
#include "cpu/simd/vector.h"

#define TI_F(v) ((float *)(void *)(v).data)

/* Whether every float operand is f32; rows say what they want of integers themselves. */
static inline bool ti_all_f32(const ti_work *w)
{
    for (int i = 0; i < w->n_in; i++)
        if (w->in[i].count >= 0 && (TI_STORED_FLOATS >> w->in[i].m.type & 1) &&
            w->in[i].m.type != TERN_F32)
            return false;
    return true;
}

/* [R, D] out of [..., D]: rows that lie evenly. False if they do not. */
typedef struct {
    int64_t rows, row_step, columns, step;
} ti_rows;

static inline bool ti_rows_of(const ti_view *v, ti_rows *r)
{
    const int rank = v->m.shape.rank;
    bool first = true;

    *r = (ti_rows){.rows = 1, .columns = v->m.shape.dim[rank - 1], .step = v->m.stride[rank - 1]};
    if (r->columns == 1) r->step = 1;
    for (int a = rank - 2; a >= 0; a--) {
        const int64_t n = v->m.shape.dim[a];
        if (n == 1) continue;
        if (first) r->row_step = v->m.stride[a];
        else if (v->m.stride[a] != r->row_step * r->rows) return false;
        first = false;
        r->rows *= n;
    }
    if (r->rows == 1) r->row_step = r->columns;
    return true;
}

/* A matrix operand of a product: element (i, j) at i·rs + j·cs. Axes of one element have no
 * stride of their own; 1 suits the kernels best. */
static inline void ti_matrix(int64_t rows, int64_t columns, int64_t *rs, int64_t *cs)
{
    if (columns == 1) *cs = *rs == 1 ? rows : 1;
    if (rows == 1) *rs = *cs == 1 ? columns : 1;
}

/* n items in chunks of `each`, whatever the threads. */
typedef void (*ti_range_fn)(void *arg, int64_t from, int64_t to, int i_worker);
typedef struct {
    ti_range_fn fn;
    void *arg;
    int64_t n, each;
} ti_ranges;

static inline void ti_range_chunk(void *arg, int64_t i, int i_worker)
{
    const ti_ranges *r = arg;
    const int64_t from = i * r->each, to = from + r->each;

    r->fn(r->arg, from, to < r->n ? to : r->n, i_worker);
}

static inline void ti_run_ranges(ti_device *d, int64_t n, int64_t each, ti_range_fn fn, void *arg)
{
    ti_ranges r = {fn, arg, n, each < 1 ? 1 : each};

    if (n <= 0) return;
    if (n <= r.each) fn(arg, 0, n, 0);
    else ti_threads_run(ti_cpu_threads(d), (n + r.each - 1) / r.each, ti_range_chunk, &r);
}

/* Chunks of about 20 µs: how many items that cost `ns` each. */
static inline int64_t ti_items_of(double ns)
{
    const double items = 20000 / (ns > 0.01 ? ns : 0.01);

    return items < 1 ? 1 : (int64_t)items;
}

#endif
