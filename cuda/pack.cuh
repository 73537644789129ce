/*
 * pack.cuh - operands of tensor cores, rounded and packed once per call: rows of numbers of a
 * format (mma.cuh), each padded with zeros to whole vectors of 16 bytes.
 *
 * What multiplies then moves nothing but aligned vectors, however odd the extents and strides of
 * the operand were. A thread makes one vector; neighbours go along the way that is dense in memory.
 */
#ifndef TI_CUDA_PACK_CUH
#define TI_CUDA_PACK_CUH

#include "mma.cuh"
#include "nest.cuh"

/* Rows lie as the nest's only operand says, the `n` numbers of one `step` elements apart. */
typedef struct {
    ti_nest rows;
    int64_t n, step;
} ti_packing;

template <class F> struct ti_vectors {
    enum { V = 4 * F::PER_WORD }; /* numbers in a vector */

    static inline __host__ __device__ int64_t of(int64_t n) { return (n + V - 1) / V; }
    /* A row of n numbers with its zeros. */
    static inline int64_t padded(int64_t n) { return of(n) * V; }
    static inline int64_t count(const ti_packing &p) { return p.rows.count * of(p.n); }
    /* Floats of scratch, keeping its alignment. */
    static inline int64_t room(const ti_packing &p) { return (count(p) * 4 + 15) / 16 * 16; }
};

template <class F>
static inline __device__ void ti_pack_vector(const ti_packing &p, uint4 *to, const float *x,
                                             int64_t i)
{
    const int64_t across = ti_vectors<F>::of(p.n);
    const bool by_row = p.step != 1;
    const int64_t row = by_row ? i % p.rows.count : i / across;
    const int64_t v = by_row ? i / p.rows.count : i % across;
    uint32_t word[4];
    int64_t at[1];

    ti_place(p.rows, row, at);
    TI_UNROLL
    for (int n = 0; n < 4; n++) {
        float each[2] = {0.0f, 0.0f};

        TI_UNROLL
        for (int e = 0; e < F::PER_WORD; e++) {
            const int64_t k = (v * 4 + n) * F::PER_WORD + e;
            if (k < p.n) each[e] = x[at[0] + k * p.step];
        }
        word[n] = F::word(each);
    }
    to[row * across + v] = make_uint4(word[0], word[1], word[2], word[3]);
}

template <class F>
static __global__ void ti_pack_kernel(const ti_packing p, const ti_packing q, uint4 *to_p,
                                      uint4 *to_q, const float *x, const float *y)
{
    const int64_t n = p.rows.count * ti_vectors<F>::of(p.n);
    const int64_t n_all = n + q.rows.count * ti_vectors<F>::of(q.n);

    for (int64_t i = ti_first(); i < n_all; i += ti_step())
        if (i < n) ti_pack_vector<F>(p, to_p, x, i);
        else ti_pack_vector<F>(q, to_q, y, i - n);
}

/* ---- Host ---- */

/* Rows along n_axes axes, outermost first, then numbers n, step. */
static inline ti_packing ti_packing_of(int n_axes, const int64_t *dim, const int64_t *stride,
                                       int64_t n, int64_t step)
{
    ti_packing p;

    memset(&p, 0, sizeof p);
    p.n = n;
    p.step = n > 1 ? step : 1;
    p.rows.rank = n_axes;
    p.rows.n = 1;
    memcpy(p.rows.dim, dim, (size_t)n_axes * sizeof *dim);
    memcpy(p.rows.stride[0], stride, (size_t)n_axes * sizeof *stride);
    ti_nest_simplify(&p.rows, false);
    return p;
}
/* Rows one behind the other. */
static inline ti_packing ti_packing_of_rows(int64_t rows, int64_t n)
{
    return ti_packing_of(1, &rows, &n, n, 1);
}

/* Both operands at once; to_p and to_q are multiples of 16. */
template <class F>
static void ti_pack_both(const ti_work *w, const ti_packing &p, const ti_packing &q, void *to_p,
                         void *to_q, const float *x, const float *y)
{
    const int64_t n = ti_vectors<F>::count(p) + ti_vectors<F>::count(q);

    if (n == 0) return;
    TI_LAUNCH(ti_pack_kernel<F>, ti_grid(n), TI_BLOCK, 0, ti_cuda_stream(w), p, q, (uint4 *)to_p,
              (uint4 *)to_q, x, y);
    ti_launched(w);
}

#endif
