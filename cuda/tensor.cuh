/*
 * tensor.cuh - the product of gemm.cuh on tensor cores: operands packed by pack.cuh, sums in f32.
 *
 *   y[i, j] = act(sum over k of a(i, k) b(j, k) + bias[j])
 *
 * Operands say where element (outer, k) lies, as in gemm.cuh, and lie in vectors of 16 bytes along
 * k or, turned, along the outer index: a filter's gradient sums over places, whose channels are
 * neighbours. A block computes TILE x TILE results, 64 or 128 wide, a warp TILE/2 x 32 of them.
 * Each step of 16 words along k brings one piece of each operand into shared memory by copies that
 * run on their own, two steps ahead of the one that is multiplied. Vectors are swizzled there:
 * eight that ldmatrix reads, or a warp's words of tf32, lie in different banks.
 *
 * Each sum is one chain of multiplications of 8 words, in order; k is cut into pieces as in
 * gemm.cuh. Both depend on the problem only.
 */
#ifndef TI_CUDA_TENSOR_CUH
#define TI_CUDA_TENSOR_CUH

#include "gemm.cuh"
#include "pack.cuh"

enum { TI_STEP_WORDS = 16, TI_PIECES = 3, TI_TENSOR_SMALL = 64, TI_TENSOR_LARGE = 128 };

/* A piece of an operand: TILE rows of 16 words. Lines of vectors: rows, or turned: numbers k. A
 * block of 2 TILE threads brings two vectors each. */
template <class F, int TILE, bool turned> struct ti_piece {
    enum {
        V = ti_vectors<F>::V,
        ACROSS = turned ? TILE / V : 4, /* vectors in a line */
        THREADS = 2 * TILE,
        /* Blocks at a time on a multiprocessor, as registers allow without spilling any. */
        BLOCKS = TILE == TI_TENSOR_SMALL      ? 3
                 : turned && F::PER_WORD == 1 ? 1
                                              : 2
    };

    static inline __device__ int slot(int line, int vector)
    {
        const int swizzle = !turned ? line / 2 % 4 : F::PER_WORD == 2 ? line % 8 : line % 4 * 2;

        return line * ACROSS + (vector ^ swizzle);
    }
    /* Where this thread's vector n begins. */
    static inline __device__ int line(int n)
    {
        return (int)threadIdx.x / ACROSS + n * (THREADS / ACROSS);
    }
    static inline __device__ int vector() { return (int)threadIdx.x % ACROSS; }
    static inline __device__ int outer(int n) { return turned ? vector() * V : line(n); }
    static inline __device__ int k(int n) { return turned ? line(n) : vector() * V; }

    template <class X>
    static inline __device__ void bring(uint4 *piece, const X &x, const ti_spot (&spot)[2],
                                        int first, int n_outer, int k0, int k_to)
    {
        TI_UNROLL
        for (int n = 0; n < 2; n++) {
            const bool in = first + outer(n) < n_outer && k0 + k(n) < k_to;
            const auto *from = in ? ti_where(x, spot[n], ti_inner(x, (uint32_t)(k0 + k(n)))) : NULL;

            ti_copy_16(&piece[slot(line(n), vector())], from ? from : x.x, from ? 16 : 0);
        }
    }

    /* Eight words, the half `part` of a step, of 16 rows from `at` on, as A of mma.cuh holds them
     * or, `b`, as two of its B do. */
    static inline __device__ void load(uint32_t (&r)[4], const uint4 *piece, int at, int part,
                                       bool b)
    {
        const int lane = (int)(threadIdx.x & (TI_WARP - 1)), m = lane / 8, i = lane % 8;
        const int row = at + 8 * (b ? m / 2 : m % 2), word = 8 * part + 4 * (b ? m % 2 : m / 2);

        if (!turned) ti_load_words<false>(r, &piece[slot(row + i, word / 4)]);
        else if (F::PER_WORD == 2) ti_load_words<true>(r, &piece[slot(2 * word + i, row / V)]);
        else {
            TI_UNROLL
            for (int n = 0; n < 4; n++) {
                const int of_row = at + 8 * (b ? n / 2 : n % 2) + lane / 4;
                const int of_k = 8 * part + 4 * (b ? n % 2 : n / 2) + lane % 4;

                r[n] = ((const uint32_t *)&piece[slot(of_k, of_row / V)])[of_row % V];
            }
        }
    }
};

/* Eight words along k: the warp's rows `at` of a, columns `bt` of b. */
template <class F, int TILE, bool turned>
static inline __device__ void ti_tensor_step(float (&sum)[TILE / 32][4][4], const uint4 *a,
                                             const uint4 *b, int at, int bt, int part)
{
    typedef ti_piece<F, TILE, turned> piece;
    uint32_t x[4], y[2][4];

    TI_UNROLL
    for (int n = 0; n < 2; n++) piece::load(y[n], b, bt + 16 * n, part, true);
    TI_UNROLL
    for (int m = 0; m < TILE / 32; m++) {
        piece::load(x, a, at + 16 * m, part, false);
        TI_UNROLL
        for (int n = 0; n < 4; n++) {
            const uint32_t of_n[2] = {y[n / 2][n % 2 * 2], y[n / 2][n % 2 * 2 + 1]};
            ti_multiply<F>(sum[m][n], x, of_n);
        }
    }
}

/* What one block computes. */
typedef struct {
    int i0, j0, k_from, k_to, split, batch;
} ti_share;

static inline __device__ ti_share ti_share_of(const ti_product &p, unsigned work, int tile)
{
    const unsigned n_i = ((unsigned)p.M + tile - 1) / tile, n_j = ((unsigned)p.N + tile - 1) / tile;
    const unsigned rest = work / n_j, piece = rest / n_i, splits = (unsigned)p.splits;
    ti_share s;

    s.j0 = (int)(work - rest * n_j) * tile;
    s.i0 = (int)(rest - piece * n_i) * tile;
    s.batch = (int)(piece / splits);
    s.split = (int)(piece % splits);
    s.k_from = s.split * (int)p.k_each;
    s.k_to = s.k_from + p.k_each < p.K ? s.k_from + (int)p.k_each : (int)p.K;
    return s;
}

/* The warp's results, from row i and column j on. What needs a function of many instructions gets
 * it in a second walk, which is not unrolled. */
template <int TILE>
static inline __device__ void ti_tensor_store(const float (&sum)[TILE / 32][4][4],
                                              const ti_product &p, const ti_result<float> &to,
                                              const ti_share &s, int i, int j)
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1));
    int64_t place[4];

    ti_place(p.batch, s.batch, place);
    const float *bias = to.bias && !to.partial ? to.bias + place[3] : NULL;
    float *y =
        to.partial ? to.partial + (s.split * p.batch.count + s.batch) * p.M * p.N : to.y + place[0];
    const int64_t row_step = to.partial ? p.N : to.row_step;
    const int act = to.partial ? TERN_ACT_NONE : to.act;

    i += lane / 4;
    j += lane % 4 * 2;
    TI_UNROLL
    for (int n = 0; n < 8; n++) {
        const int of_j = j + n / 2 * 8 + n % 2;
        const int64_t column = of_j >= p.N ? -1 : to.partial ? of_j : ti_column(to, of_j);
        if (column < 0) continue;
        const float more = bias ? bias[of_j] : 0.0f;
        float *at = y + i * row_step + column;

        TI_UNROLL
        for (int m = 0; m < TILE / 16; m++, at += 8 * row_step) {
            const float v = sum[m / 2][n / 2][m % 2 * 2 + n % 2] + more;

            if (i + m * 8 < p.M) *at = act == TERN_RELU ? ti_act_of(TERN_RELU, v) : v;
        }
    }
    if (act == TERN_ACT_NONE || act == TERN_RELU) return;
    for (int e = 0; e < TILE / 2; e++) {
        const int of_i = i + e / 8 * 8, of_j = j + e % 8 / 2 * 8 + e % 2;
        const int64_t column = of_i >= p.M || of_j >= p.N ? -1 : ti_column(to, of_j);
        float *at = y + of_i * row_step + column;

        if (column >= 0) *at = ti_act_of(act, *at);
    }
}

template <class F, int TILE, bool turned, class A, class B>
static __global__ void __launch_bounds__(2 * TILE, ti_piece<F, TILE, turned>::BLOCKS)
    ti_tensor_kernel(A a, B b, const ti_product p, const ti_result<float> to, unsigned n_work)
{
    TI_BOUND(2 * TILE);
    typedef ti_piece<F, TILE, turned> piece;
    TI_SHARED(uint4, as, [TI_PIECES][4 * TILE]);
    TI_SHARED(uint4, bs, [TI_PIECES][4 * TILE]);
    const int warp = (int)threadIdx.x / TI_WARP, step = TI_STEP_WORDS * F::PER_WORD;
    const int ahead = (TI_PIECES - 1) * step; /* of the products are the copies */
    const int at = warp / (TILE / 32) * (TILE / 2), bt = warp % (TILE / 32) * 32;
    const auto *a0 = a.x;
    const auto *b0 = b.x;

    for (unsigned work = blockIdx.x; work < n_work; work += gridDim.x) {
        const ti_share s = ti_share_of(p, work, TILE);
        ti_spot a_spot[2], b_spot[2];
        float sum[TILE / 32][4][4];
        int64_t place[4];
        int fresh = 0;

        ti_place(p.batch, s.batch, place);
        a.x = a0 + place[1];
        b.x = b0 + place[2];
        TI_UNROLL
        for (int n = 0; n < 2; n++) {
            a_spot[n] = ti_outer(a, (uint32_t)(s.i0 + piece::outer(n)));
            b_spot[n] = ti_outer(b, (uint32_t)(s.j0 + piece::outer(n)));
        }
        TI_UNROLL
        for (int e = 0; e < TILE / 2; e++) sum[e / 16][e / 4 % 4][e % 4] = 0.0f;
        for (int k0 = s.k_from - ahead; k0 < s.k_to; k0 += step) {
            const bool multiplies = k0 >= s.k_from;

            if (multiplies) {
                ti_wait_copies<TI_PIECES - 2>();
                __syncthreads(); /* nobody reads the piece any more that comes next */
            }
            if (k0 + ahead < s.k_to) {
                piece::bring(as[fresh], a, a_spot, s.i0, (int)p.M, k0 + ahead, s.k_to);
                piece::bring(bs[fresh], b, b_spot, s.j0, (int)p.N, k0 + ahead, s.k_to);
            }
            ti_end_group();
            fresh = (fresh + 1) % TI_PIECES;
            if (multiplies) {
                ti_tensor_step<F, TILE, turned>(sum, as[fresh], bs[fresh], at, bt, 0);
                ti_tensor_step<F, TILE, turned>(sum, as[fresh], bs[fresh], at, bt, 1);
            }
        }
        ti_wait_copies<0>(); /* the next work begins with the same pieces */
        __syncthreads();
        ti_tensor_store<TILE>(sum, p, to, s, s.i0 + at, s.j0 + bt);
    }
}

/* ---- Host ---- */

/* Large tiles where they are filled and make blocks enough. */
static inline int ti_tensor_tile(int64_t batches, int64_t M, int64_t N)
{
    const int64_t most = TI_TENSOR_LARGE;

    return M > most / 2 && N > most / 2 && batches * ti_up(M, most) * ti_up(N, most) >= 64
               ? TI_TENSOR_LARGE
               : TI_TENSOR_SMALL;
}
template <class F>
static inline ti_product ti_tensor_product(int64_t batches, int64_t M, int64_t N, int64_t K)
{
    return ti_product_of(batches, M, N, K, ti_tensor_tile(batches, M, N),
                         TI_STEP_WORDS * F::PER_WORD);
}

static inline int64_t ti_tensor_blocks(const ti_product &p)
{
    const int tile = ti_tensor_tile(p.batch.count, p.M, p.N);

    return ti_up(p.M, tile) * ti_up(p.N, tile) * p.splits * p.batch.count;
}

template <class F, int TILE, bool turned, class A, class B>
static void ti_tensor_launch(const ti_work *w, const A &a, const B &b, const ti_product &p,
                             const ti_result<float> &to)
{
    const unsigned work = (unsigned)ti_tensor_blocks(p);

    TI_LAUNCH((ti_tensor_kernel<F, TILE, turned, A, B>), work < 1 << 20 ? work : 1 << 20, 2 * TILE,
              0, ti_cuda_stream(w), a, b, p, to, work);
}

/* Packed operands, p by ti_tensor_product. scratch: ti_product_scratch elements, or NULL where that
 * is 0. */
template <class F, bool turned, class A, class B>
static void ti_tensor(const ti_work *w, const A &a, const B &b, const ti_product &p,
                      ti_result<float> to, float *scratch)
{
    if (p.batch.count == 0 || p.M == 0 || p.N == 0) return;
    to.partial = p.splits > 1 ? scratch : NULL;
    if (ti_tensor_tile(p.batch.count, p.M, p.N) == TI_TENSOR_LARGE)
        ti_tensor_launch<F, TI_TENSOR_LARGE, turned>(w, a, b, p, to);
    else ti_tensor_launch<F, TI_TENSOR_SMALL, turned>(w, a, b, p, to);
    if (to.partial)
        TI_LAUNCH(ti_gemm_finish_kernel<float>, ti_grid(p.batch.count * p.M * p.N), TI_BLOCK, 0,
                  ti_cuda_stream(w), p, to);
    ti_launched(w);
}

/* GPUs before sm_80 lack the instructions: their twins would be slow. */
static inline const char *ti_no_tensor_cores(const ti_work *w)
{
    if (!ti_is(w->in[0], TERN_F32)) return "takes f32";
    return strcmp(w->device->isa, "sm_75") == 0 ? "needs compute capability 8.0" : NULL;
}
/* Indices are numbers of 32 bits in the kernel. */
static inline const char *ti_tensor_rejects(const ti_product &p)
{
    const int64_t most = INT_MAX / 2;

    if (p.M > most || p.N > most || p.K > most) return "a side or a sum is longer than 2^30";
    return ti_tensor_blocks(p) > most ? "has more than 2^30 tiles" : NULL;
}

#endif
