/*
 * tensor.cuh - the product of gemm.cuh on tensor cores: f32 operands rounded to tf32, bf16 or f16
 * while they are loaded, sums in f32. Same operands, pieces of k, and results.
 *
 * A block of four warps computes 64 x 64 results, a warp 32 x 32 of them as 2 x 4 tiles. Each step
 * brings 16 words of 32 bits along k (16 numbers of tf32, 32 of the others) of 64 rows of each
 * operand into shared memory, rows 80 bytes apart so that eight of them lie in different banks.
 */
#ifndef TI_CUDA_TENSOR_CUH
#define TI_CUDA_TENSOR_CUH

#include "gemm.cuh"
#include "mma.cuh"

enum { TI_TENSOR_BLOCK = 128, TI_STEP_WORDS = 16, TI_ROW_VECTORS = 5, TI_SPOTS = 8 };

typedef struct {
    uint4 row[TI_TILE][TI_ROW_VECTORS];
} ti_words;

/* Which row and word of a piece this thread brings in turn l. */
static inline __device__ int ti_piece_row(bool along_k, int l)
{
    const int t = (int)threadIdx.x;

    return along_k ? t / TI_STEP_WORDS + 8 * l : t % TI_TILE;
}
static inline __device__ int ti_piece_word(bool along_k, int l)
{
    const int t = (int)threadIdx.x;

    return along_k ? t % TI_STEP_WORDS : t / TI_TILE + 2 * l;
}

template <class F, class X>
static inline __device__ void ti_load_piece(ti_words &piece, const X &x, const ti_spot *outer,
                                            int64_t first, int64_t n, bool along_k, int64_t k0,
                                            int64_t k1)
{
    TI_UNROLL
    for (int l = 0; l < TI_SPOTS; l++) {
        const int i = ti_piece_row(along_k, l), word = ti_piece_word(along_k, l);
        float v[2] = {0.0f, 0.0f};

        TI_UNROLL
        for (int e = 0; e < F::PER_WORD; e++) {
            const int64_t k = k0 + word * F::PER_WORD + e;
            if (first + i < n && k < k1) v[e] = ti_fetch(x, outer[l], ti_inner(x, k));
        }
        ((uint32_t *)piece.row[i])[word] = F::word(v);
    }
}

/* Eight words along k: the warp's rows `at` of a, columns `bt` of b. */
template <class F>
static inline __device__ void ti_tensor_step(float (&sum)[2][4][4], const ti_words &a,
                                             const ti_words &b, int at, int bt, int part)
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1));
    uint32_t x[2][4], y[4];

    TI_UNROLL
    for (int m = 0; m < 2; m++) /* tiles: rows 0-7, 8-15 of words 0-3, then of words 4-7 */
        ti_load_words<false>(x[m], &a.row[at + 16 * m + lane % 16][2 * part + lane / 16]);
    TI_UNROLL
    for (int n = 0; n < 4; n += 2) { /* tiles: words 0-3, 4-7 of columns 0-7, then of 8-15 */
        ti_load_words<false>(
            y, &b.row[bt + 8 * n + lane % 8 + lane / 16 * 8][2 * part + lane / 8 % 2]);
        const uint32_t left[2] = {y[0], y[1]}, right[2] = {y[2], y[3]};
        TI_UNROLL
        for (int m = 0; m < 2; m++) {
            ti_multiply<F>(sum[m][n], x[m], left);
            ti_multiply<F>(sum[m][n + 1], x[m], right);
        }
    }
}

template <class F, class A, class B>
static __global__ void __launch_bounds__(TI_TENSOR_BLOCK)
    ti_tensor_kernel(A a, B b, const ti_product p, const ti_result<float> to, bool a_along_k,
                     bool b_along_k)
{
    TI_BOUND(TI_TENSOR_BLOCK);
    TI_SHARED(ti_words, as, [1]);
    TI_SHARED(ti_words, bs, [1]);
    const int lane = (int)(threadIdx.x & (TI_WARP - 1)), warp = (int)threadIdx.x / TI_WARP;
    const int at = warp / 2 * 32, bt = warp % 2 * 32;
    const int64_t n_i = (p.M + TI_TILE - 1) / TI_TILE, n_j = (p.N + TI_TILE - 1) / TI_TILE;
    const int64_t n_work = n_i * n_j * p.splits * p.batch.count;
    const auto *a0 = a.x;
    const auto *b0 = b.x;

    for (int64_t work = blockIdx.x; work < n_work; work += gridDim.x) {
        const int64_t j0 = work % n_j * TI_TILE, i0 = work / n_j % n_i * TI_TILE;
        const int64_t split = work / (n_j * n_i) % p.splits, batch = work / (n_j * n_i * p.splits);
        const int64_t k_from = split * p.k_each;
        const int64_t k_to = k_from + p.k_each < p.K ? k_from + p.k_each : p.K;
        ti_spot a_outer[TI_SPOTS], b_outer[TI_SPOTS];
        int64_t place[4];
        float sum[2][4][4];

        ti_place(p.batch, batch, place);
        a.x = a0 + place[1];
        b.x = b0 + place[2];
        TI_UNROLL
        for (int l = 0; l < TI_SPOTS; l++) {
            a_outer[l] = ti_outer(a, i0 + ti_piece_row(a_along_k, l));
            b_outer[l] = ti_outer(b, j0 + ti_piece_row(b_along_k, l));
        }
        TI_UNROLL
        for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] = 0.0f;
        for (int64_t k0 = k_from; k0 < k_to; k0 += TI_STEP_WORDS * F::PER_WORD) {
            ti_load_piece<F>(as[0], a, a_outer, i0, p.M, a_along_k, k0, k_to);
            ti_load_piece<F>(bs[0], b, b_outer, j0, p.N, b_along_k, k0, k_to);
            __syncthreads();
            ti_tensor_step<F>(sum, as[0], bs[0], at, bt, 0);
            ti_tensor_step<F>(sum, as[0], bs[0], at, bt, 1);
            __syncthreads();
        }
        TI_UNROLL
        for (int e = 0; e < 32; e++) {
            const int m = e / 16, n = e / 4 % 4;
            const int64_t i = i0 + at + 16 * m + lane / 4 + 8 * (e % 4 / 2);
            const int64_t j = j0 + bt + 8 * n + lane % 4 * 2 + e % 2;

            if (i >= p.M || j >= p.N) continue;
            if (to.partial)
                to.partial[((split * p.batch.count + batch) * p.M + i) * p.N + j] =
                    sum[m][n][e % 4];
            else ti_deliver(to, place[0], place[3], i, j, sum[m][n][e % 4]);
        }
    }
}

/* scratch: ti_product_scratch elements, or NULL where that is 0. */
template <class F, class A, class B>
static void ti_tensor(const ti_work *w, const A &a, const B &b, const ti_product &p,
                      ti_result<float> to, float *scratch)
{
    const int64_t work = ti_up(p.M, TI_TILE) * ti_up(p.N, TI_TILE) * p.splits * p.batch.count;
    const cudaStream_t stream = ti_cuda_stream(w);

    if (work == 0) return;
    to.partial = p.splits > 1 ? scratch : NULL;
    TI_LAUNCH((ti_tensor_kernel<F, A, B>), (unsigned)(work < 1 << 20 ? work : 1 << 20),
              TI_TENSOR_BLOCK, 0, stream, a, b, p, to, ti_along_k(a), ti_along_k(b));
    if (to.partial)
        TI_LAUNCH(ti_gemm_finish_kernel<float>, ti_grid(p.batch.count * p.M * p.N), TI_BLOCK, 0,
                  stream, p, to);
    ti_launched(w);
}

/* GPUs before sm_80 lack the instructions: their twins would be slow. */
static inline const char *ti_no_tensor_cores(const ti_work *w)
{
    if (!ti_is(w->in[0], TERN_F32)) return "takes f32";
    return strcmp(w->device->isa, "sm_75") == 0 ? "needs compute capability 8.0" : NULL;
}

#endif
