/*
 * columns.cuh - sums over the rows of x [rows, columns], as bias gradients need them.
 *
 * A thread adds up one column of one piece of the rows, in order; a second kernel adds the pieces.
 * Pieces depend on the extents only.
 */
#ifndef TI_CUDA_COLUMNS_CUH
#define TI_CUDA_COLUMNS_CUH

#include "math.cuh"

typedef struct {
    int64_t rows, columns, pieces, each;
} ti_columns;

static inline ti_columns ti_columns_of(int64_t rows, int64_t columns)
{
    ti_columns c = {rows, columns, (rows + 63) / 64, 0};

    if (c.pieces > 128) c.pieces = 128;
    if (c.pieces < 1) c.pieces = 1;
    c.each = (rows + c.pieces - 1) / c.pieces;
    c.pieces = c.each > 0 ? (rows + c.each - 1) / c.each : 1;
    return c;
}
static inline double ti_columns_chain(const ti_columns &c) { return (double)(c.each + c.pieces); }
/* Elements of scratch. */
static inline int64_t ti_columns_scratch(const ti_columns &c) { return c.pieces * c.columns; }

template <class T>
static __global__ void ti_columns_kernel(const ti_columns c, T *partial, const T *x)
{
    for (int64_t i = ti_first(); i < c.pieces * c.columns; i += ti_step()) {
        const int64_t j = i % c.columns, from = i / c.columns * c.each;
        const int64_t to = from + c.each < c.rows ? from + c.each : c.rows;
        T sum = T(0);

        for (int64_t r = from; r < to; r++) sum += x[r * c.columns + j];
        partial[i] = sum;
    }
}

/* y[j] = sum over pieces of partial[piece, j]. */
template <class T>
static __global__ void ti_pieces_kernel(int64_t pieces, int64_t n, T *y, const T *partial)
{
    for (int64_t j = ti_first(); j < n; j += ti_step()) {
        T sum = T(0);

        for (int64_t s = 0; s < pieces; s++) sum += partial[s * n + j];
        y[j] = sum;
    }
}

template <class T>
static void ti_column_sums(const ti_work *w, T *y, const T *x, const ti_columns &c, T *scratch)
{
    const cudaStream_t stream = ti_cuda_stream(w);
    T *partial = c.pieces > 1 ? scratch : y;

    TI_LAUNCH(ti_columns_kernel<T>, ti_grid(c.pieces * c.columns), TI_BLOCK, 0, stream, c, partial,
              x);
    if (c.pieces > 1)
        TI_LAUNCH(ti_pieces_kernel<T>, ti_grid(c.columns), TI_BLOCK, 0, stream, c.pieces, c.columns,
                  y, partial);
    ti_launched(w);
}

/* ---- h = g act'(y), as it is or rounded to a format of mma.cuh ---- */

struct ti_as_is {
    enum { ROUNDS = 0 };
    template <class T> static __device__ __forceinline__ T rounded(T x) { return x; }
};

template <class T, class Numbers = ti_as_is>
static __global__ void ti_back_kernel(int act, int64_t n, T *h, const T *y, const T *g)
{
    for (int64_t i = ti_first(); i < n; i += ti_step())
        h[i] = Numbers::rounded(ti_act_back(act, y[i], g[i]));
}

#endif
