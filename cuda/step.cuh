/*
 * step.cuh - the product inside a step of a recurrent net, small and one of many in a row.
 *
 *   v[n, j, g] = sum over k of a[n, k] w[k, j, g]     g: 0 ... G-1, all of them for one thread
 *
 * A block takes 16 rows n and 16 units j with all their gates. Its threads are cut into groups that
 * take turns of 8 along k; a thread holds 4 rows by up to 4 columns, in fused multiply-adds in the
 * order of k. The groups' sums are then added in order, by the thread that goes on with (n, j). All
 * this depends on G only.
 */
#ifndef TI_CUDA_STEP_CUH
#define TI_CUDA_STEP_CUH

#include "math.cuh"

enum { TI_SQUARE = 16, TI_TURN = 8, TI_OF_ROWS = 4 };

/* For G = 1 … 4 gates: units of a thread, groups of threads, depth of a round, elements of rows. */
template <int G> struct ti_cut {
    enum {
        units = G == 1   ? 4
                : G == 2 ? 2
                         : 1,
        groups = TI_BLOCK / (TI_SQUARE / TI_OF_ROWS) / (TI_SQUARE / units),
        depth = TI_TURN * groups,
        each = units * G, /* columns of a thread */
        columns = TI_SQUARE * G,
        a_row = TI_SQUARE + 4,
        w_row = columns + 4,
        tiles = depth * (a_row + w_row),
        sums = groups * TI_SQUARE * columns,
        room = tiles > sums ? tiles : sums
    };
};

/* Element k of row n of a; gate g of unit j of w: steps in elements, one of w's two being 1. */
template <class T> struct ti_small {
    const T *a, *w; /* a NULL: zeros, as nothing has happened yet */
    int64_t depth, a_step, k_step, unit_step, gate_step;
};

/* Rounds of 8 terms in a group, then the groups. */
template <int G> static inline double ti_small_chain(int64_t depth)
{
    const int64_t rounds = (depth + ti_cut<G>::depth - 1) / ti_cut<G>::depth;

    return (double)(rounds * TI_TURN + ti_cut<G>::groups);
}

static inline __host__ __device__ int64_t ti_squares(int64_t N, int64_t H)
{
    return ((N + TI_SQUARE - 1) / TI_SQUARE) * ((H + TI_SQUARE - 1) / TI_SQUARE);
}
static inline unsigned ti_squares_grid(int64_t N, int64_t H)
{
    const int64_t blocks = ti_squares(N, H), most = 65535;

    return (unsigned)(blocks < most ? blocks : most);
}

/* Rows n0 … and units j0 … from k0 on into shared memory, zeros beyond the ends. Neighbouring
 * threads take 8 along k of one row, or units side by side: no two meet in a bank. */
template <class T, int G>
static inline __device__ void ti_small_load(const ti_small<T> &p, int64_t n0, int64_t N, int64_t j0,
                                            int64_t H, int64_t k0, T *as, T *ws)
{
    typedef ti_cut<G> cut;
    const bool along_k = p.k_step == 1;

    TI_UNROLL
    for (int e = (int)threadIdx.x; e < cut::depth * TI_SQUARE; e += TI_BLOCK) {
        const int k = e % TI_TURN + e / (TI_TURN * TI_SQUARE) * TI_TURN;
        const int n = e / TI_TURN % TI_SQUARE;
        const bool in = n0 + n < N && k0 + k < p.depth;

        as[k * cut::a_row + n] = in ? p.a[(n0 + n) * p.a_step + k0 + k] : T(0);
    }
    TI_UNROLL
    for (int e = (int)threadIdx.x; e < cut::depth * cut::columns; e += TI_BLOCK) {
        const int k = along_k ? e % TI_TURN + e / (TI_TURN * cut::columns) * TI_TURN
                              : e / TI_SQUARE % cut::depth;
        const int j = along_k ? e / TI_TURN % TI_SQUARE : e % TI_SQUARE;
        const int g = along_k ? e / (TI_TURN * TI_SQUARE) % G : e / (TI_SQUARE * cut::depth);
        const bool in = j0 + j < H && k0 + k < p.depth;

        ws[k * cut::w_row + j * G + g] =
            in ? p.w[(k0 + k) * p.k_step + (j0 + j) * p.unit_step + g * p.gate_step] : T(0);
    }
}

/* Sums of thread t for row n0 + t / 16 and unit j0 + t % 16. All threads of the block call it;
 * room: ti_cut<G>::room elements of shared memory, free again on return. */
template <class T, int G>
static inline __device__ void ti_small_product(const ti_small<T> &p, int64_t n0, int64_t N,
                                               int64_t j0, int64_t H, T *room, T *v)
{
    typedef ti_cut<G> cut;
    const int t = (int)threadIdx.x, across = TI_SQUARE / cut::units;
    const int row = t / across % (TI_SQUARE / TI_OF_ROWS) * TI_OF_ROWS;
    const int column = t % across * cut::each, group = t / (across * (TI_SQUARE / TI_OF_ROWS));
    T *as = room, *ws = room + cut::depth * cut::a_row;
    T sum[TI_OF_ROWS][cut::each];

    TI_UNROLL
    for (int g = 0; g < G; g++) v[g] = T(0);
    if (!p.a) return;
    TI_UNROLL
    for (int l = 0; l < TI_OF_ROWS; l++) TI_UNROLL
    for (int m = 0; m < cut::each; m++) sum[l][m] = T(0);
    for (int64_t k0 = 0; k0 < p.depth; k0 += cut::depth) {
        ti_small_load<T, G>(p, n0, N, j0, H, k0, as, ws);
        __syncthreads();
        TI_UNROLL
        for (int k = group * TI_TURN; k < group * TI_TURN + TI_TURN; k++) {
            T x[TI_OF_ROWS], z[cut::each];

            TI_UNROLL
            for (int l = 0; l < TI_OF_ROWS; l++) x[l] = as[k * cut::a_row + row + l];
            TI_UNROLL
            for (int m = 0; m < cut::each; m++) z[m] = ws[k * cut::w_row + column + m];
            TI_UNROLL
            for (int l = 0; l < TI_OF_ROWS; l++) TI_UNROLL
            for (int m = 0; m < cut::each; m++) sum[l][m] = ti_fma(x[l], z[m], sum[l][m]);
        }
        __syncthreads();
    }
    TI_UNROLL
    for (int l = 0; l < TI_OF_ROWS; l++) TI_UNROLL
    for (int m = 0; m < cut::each; m++)
        room[(group * TI_SQUARE + row + l) * cut::columns + column + m] = sum[l][m];
    __syncthreads();
    for (int s = 0; s < cut::groups; s++) TI_UNROLL
    for (int g = 0; g < G; g++)
        v[g] += room[(s * TI_SQUARE + t / TI_SQUARE) * cut::columns + t % TI_SQUARE * G + g];
    __syncthreads();
}

#endif
