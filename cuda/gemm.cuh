/*
 * gemm.cuh - one tiled product for matrices and for convolutions (implicit GEMM).
 *
 *   y[i, j] = act(sum over k of a(i, k) b(j, k) + bias[j])
 *
 * a and b are operands that say where element (outer, k) lies: a strided matrix, or the patches of
 * an image, gathered while they are loaded. A block computes 64 x 64 results, a thread 4 x 4 of
 * them, in steps of 16 along k through shared memory; each result is one chain of fused
 * multiply-adds in the order of k. Where that leaves too few blocks k is cut into `splits` pieces,
 * whose sums a second kernel adds in order. Both depend on the problem only. Batches: any number,
 * by strides.
 */
#ifndef TI_CUDA_GEMM_CUH
#define TI_CUDA_GEMM_CUH

#include "math.cuh"
#include "nest.cuh"
#include "operands.cuh"

enum { TI_TILE = 64, TI_DEPTH = 16, TI_EACH = 4 };

/* Where results go. Column j lies at j / n_low * high_step + j % n_low * low_step; where j % n_low
 * is n_kept or more there is no such column. */
template <class T> struct ti_result {
    T *y;
    int64_t row_step, n_low, n_kept, low_step, high_step;
    const T *bias; /* NULL: none */
    int act;
    T *partial; /* [splits, batches, M, N]; NULL: not cut */
};
/* -1: there is no such column. */
template <class T> static inline __device__ int64_t ti_column(const ti_result<T> &to, int64_t j)
{
    const int64_t high = j / to.n_low, low = j - high * to.n_low;

    return low < to.n_kept ? high * to.high_step + low * to.low_step : -1;
}
/* column: that of j. */
template <class T>
static inline __device__ void ti_deliver(const ti_result<T> &to, int64_t y_at, int64_t bias_at,
                                         int64_t i, int64_t j, int64_t column, T sum)
{
    if (to.bias) sum += to.bias[bias_at + j];
    to.y[y_at + i * to.row_step + column] = ti_act_of(to.act, sum);
}

typedef struct {
    int64_t M, N, K, splits, k_each;
    ti_nest batch; /* offsets of y, a, b, bias */
} ti_product;

/* One piece of 64 x 16 of an operand: 4 elements a thread, along k where that is the dense way. */
template <class T, class X>
static inline __device__ void ti_load_tile(T (*tile)[TI_TILE + 4], const X &x, const ti_spot *outer,
                                           int64_t first, int64_t n, bool along_k, int64_t k0,
                                           int64_t k1)
{
    const int t = (int)threadIdx.x;

    TI_UNROLL
    for (int l = 0; l < TI_EACH; l++) {
        const int i = along_k ? t / TI_DEPTH + 16 * l : t % TI_TILE;
        const int k = along_k ? t % TI_DEPTH : t / TI_TILE + 4 * l;

        tile[k][i] =
            first + i < n && k0 + k < k1 ? ti_fetch(x, outer[l], ti_inner(x, k0 + k)) : T(0);
    }
}

template <class T, class A, class B>
static __global__ void ti_gemm_kernel(A a, B b, const ti_product p, const ti_result<T> to,
                                      bool a_along_k, bool b_along_k)
{
    TI_SHARED(T, as, [TI_DEPTH][TI_TILE + 4]);
    TI_SHARED(T, bs, [TI_DEPTH][TI_TILE + 4]);
    const int t = (int)threadIdx.x, row = t / 16 * TI_EACH, col = t % 16 * TI_EACH;
    const int64_t n_i = (p.M + TI_TILE - 1) / TI_TILE, n_j = (p.N + TI_TILE - 1) / TI_TILE;
    const int64_t n_work = n_i * n_j * p.splits * p.batch.count;
    const T *a0 = a.x, *b0 = b.x;

    for (int64_t work = blockIdx.x; work < n_work; work += gridDim.x) {
        const int64_t j0 = work % n_j * TI_TILE, i0 = work / n_j % n_i * TI_TILE;
        const int64_t split = work / (n_j * n_i) % p.splits, batch = work / (n_j * n_i * p.splits);
        const int64_t k_from = split * p.k_each;
        const int64_t k_to = k_from + p.k_each < p.K ? k_from + p.k_each : p.K;
        ti_spot a_outer[TI_EACH], b_outer[TI_EACH];
        int64_t at[4];
        T sum[TI_EACH][TI_EACH];

        ti_place(p.batch, batch, at);
        a.x = a0 + at[1];
        b.x = b0 + at[2];
        TI_UNROLL
        for (int l = 0; l < TI_EACH; l++) {
            a_outer[l] = ti_outer(a, i0 + (a_along_k ? t / TI_DEPTH + 16 * l : t % TI_TILE));
            b_outer[l] = ti_outer(b, j0 + (b_along_k ? t / TI_DEPTH + 16 * l : t % TI_TILE));
            for (int m = 0; m < TI_EACH; m++) sum[l][m] = T(0);
        }
        for (int64_t k0 = k_from; k0 < k_to; k0 += TI_DEPTH) {
            ti_load_tile(as, a, a_outer, i0, p.M, a_along_k, k0, k_to);
            ti_load_tile(bs, b, b_outer, j0, p.N, b_along_k, k0, k_to);
            __syncthreads();
            TI_UNROLL
            for (int k = 0; k < TI_DEPTH; k++) {
                T x[TI_EACH], z[TI_EACH];

                for (int l = 0; l < TI_EACH; l++) x[l] = as[k][row + l];
                for (int l = 0; l < TI_EACH; l++) z[l] = bs[k][col + l];
                for (int l = 0; l < TI_EACH; l++)
                    for (int m = 0; m < TI_EACH; m++) sum[l][m] = ti_fma(x[l], z[m], sum[l][m]);
            }
            __syncthreads();
        }
        TI_UNROLL
        for (int l = 0; l < TI_EACH; l++) TI_UNROLL
        for (int m = 0; m < TI_EACH; m++) {
            const int64_t i = i0 + row + l, j = j0 + col + m;

            if (i >= p.M || j >= p.N) continue;
            if (to.partial)
                to.partial[((split * p.batch.count + batch) * p.M + i) * p.N + j] = sum[l][m];
            else ti_deliver(to, at[0], at[3], i, j, ti_column(to, j), sum[l][m]);
        }
    }
}

/* The pieces' sums, in order. */
template <class T>
static __global__ void ti_gemm_finish_kernel(const ti_product p, const ti_result<T> to)
{
    const int64_t n = p.batch.count * p.M * p.N;

    for (int64_t i = ti_first(); i < n; i += ti_step()) {
        const int64_t column = ti_column(to, i % p.N);
        T sum = to.partial[i];
        int64_t at[4];

        if (column < 0) continue;
        for (int64_t s = 1; s < p.splits; s++) sum += to.partial[s * n + i];
        ti_place(p.batch, i / (p.M * p.N), at);
        ti_deliver(to, at[0], at[3], i / p.N % p.M, i % p.N, column, sum);
    }
}

/* ---- Host ---- */

static inline int64_t ti_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Pieces of k: enough for 256 blocks, each of `tile` x `tile` results, of 256 terms at least and
 * of whole steps. */
static inline ti_product ti_product_of(int64_t batches, int64_t M, int64_t N, int64_t K,
                                       int64_t tile = TI_TILE, int64_t step = TI_DEPTH)
{
    const int64_t tiles = batches * ti_up(M, tile) * ti_up(N, tile);
    ti_product p;

    memset(&p, 0, sizeof p);
    p.M = M, p.N = N, p.K = K;
    p.splits = tiles > 0 && tiles < 256 ? 256 / tiles : 1;
    if (p.splits > K / 256) p.splits = K / 256;
    if (p.splits < 1) p.splits = 1;
    p.k_each = ti_up(ti_up(K, p.splits), step) * step;
    if (p.k_each < 1) p.k_each = step;
    p.splits = K > 0 ? ti_up(K, p.k_each) : 1;
    p.batch.rank = 1;
    p.batch.n = 4;
    p.batch.dim[0] = p.batch.count = batches;
    p.batch.narrow = batches <= INT_MAX;
    return p;
}
/* Elements of scratch. */
static inline int64_t ti_product_scratch(const ti_product &p)
{
    return p.splits > 1 ? p.splits * p.batch.count * p.M * p.N : 0;
}
/* The longest chain of sums; bias and activation may add 2. */
static inline double ti_product_chain(const ti_product &p)
{
    return (double)(p.k_each < p.K ? p.k_each : p.K) + (double)p.splits;
}

template <class T>
static inline ti_matrix<T> ti_matrix_of(const T *x, int64_t outer_step, int64_t k_step)
{
    return ti_matrix<T>{x, outer_step, k_step, 0, 0};
}
template <class T> static inline bool ti_along_k(const ti_matrix<T> &m)
{
    return m.k_step == 1 || m.outer_step != 1;
}
template <class T> static inline bool ti_along_k(const ti_patches<T> &p) { return !p.by_tap; }

template <class T>
static inline ti_result<T> ti_result_of(T *y, int64_t row_step, int64_t column_step,
                                        int64_t columns)
{
    const int64_t n = columns > 0 ? columns : 1;

    return ti_result<T>{y, row_step, n, n, column_step, 0, NULL, 0, NULL};
}

/* scratch: ti_product_scratch elements, or NULL where that is 0. */
template <class T, class A, class B>
static void ti_gemm(const ti_work *w, const A &a, const B &b, const ti_product &p, ti_result<T> to,
                    T *scratch)
{
    const int64_t work = ti_up(p.M, TI_TILE) * ti_up(p.N, TI_TILE) * p.splits * p.batch.count;
    const cudaStream_t stream = ti_cuda_stream(w);

    if (work == 0) return;
    to.partial = p.splits > 1 ? scratch : NULL;
    TI_LAUNCH((ti_gemm_kernel<T, A, B>), (unsigned)(work < 1 << 20 ? work : 1 << 20), TI_BLOCK, 0,
              stream, a, b, p, to, ti_along_k(a), ti_along_k(b));
    if (to.partial)
        TI_LAUNCH(ti_gemm_finish_kernel<T>, ti_grid(p.batch.count * p.M * p.N), TI_BLOCK, 0, stream,
                  p, to);
    ti_launched(w);
}

#endif
