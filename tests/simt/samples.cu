/*
 * samples.cu - kernels that are right: the self-test wants their results, and no report.
 *
 * Between them they use what the emulator offers: grids and blocks in three dimensions, early
 * return, constants, vectors, templates, half types, static and dynamic shared memory, barriers,
 * shuffles with widths, votes, atomics, and the pattern of the last block.
 */
#include "launch.cuh"
#include "samples.h"

static __constant__ float factors[4] = {1.0f, 2.0f, 0.5f, 0.25f};

static __global__ void axpy_kernel(float *__restrict__ y, const float *__restrict__ x, float a,
                                   int64_t n)
{
    for (int64_t i = ti_first(); i < n; i += ti_step()) y[i] += a * x[i] * factors[0];
}

void sample_axpy(float *y, const float *x, float a, int64_t n, unsigned grid, cudaStream_t st)
{
    TI_LAUNCH(axpy_kernel, grid ? grid : ti_grid(n), TI_BLOCK, 0, st, y, x, a, n);
}

static __global__ void scale4_kernel(float *__restrict__ y, const float *__restrict__ x, float a,
                                     int64_t n)
{
    for (int64_t i = ti_first(); i < n / 4; i += ti_step()) {
        float4 v = reinterpret_cast<const float4 *>(x)[i];
        v.x *= a;
        v.y *= a;
        v.z *= a;
        v.w *= a;
        reinterpret_cast<float4 *>(y)[i] = v;
    }
    if (blockIdx.x == 0 && threadIdx.x < (unsigned)(n % 4))
        y[n / 4 * 4 + threadIdx.x] = x[n / 4 * 4 + threadIdx.x] * a;
}

void sample_scale4(float *y, const float *x, float a, int64_t n, cudaStream_t st)
{
    TI_LAUNCH(scale4_kernel, ti_grid(n / 4), TI_BLOCK, 0, st, y, x, a, n);
}

/* One 64x64 tile a block, 4x4 outputs a thread. */
template <int TILE, int PER_THREAD>
static __global__ void __launch_bounds__((TILE / PER_THREAD) * (TILE / PER_THREAD))
    gemm_kernel(float *__restrict__ c, const float *__restrict__ a, const float *__restrict__ b,
                int m, int n, int k)
{
    TI_BOUND((TILE / PER_THREAD) * (TILE / PER_THREAD));
    constexpr int T = TILE / PER_THREAD, DEPTH = 16;
    TI_SHARED(float, as, [DEPTH][TILE + 1]);
    TI_SHARED(float, bs, [DEPTH][TILE]);
    const int tx = (int)threadIdx.x, ty = (int)threadIdx.y, t = ty * T + tx;
    const int row0 = (int)blockIdx.y * TILE, col0 = (int)blockIdx.x * TILE;
    float sum[PER_THREAD][PER_THREAD] = {};

    for (int k0 = 0; k0 < k; k0 += DEPTH) {
        for (int i = t; i < TILE * DEPTH; i += T * T) {
            const int r = i / DEPTH, p = i % DEPTH, q = i / TILE, s = i % TILE;
            as[p][r] = row0 + r < m && k0 + p < k ? a[(int64_t)(row0 + r) * k + k0 + p] : 0.0f;
            bs[q][s] = k0 + q < k && col0 + s < n ? b[(int64_t)(k0 + q) * n + col0 + s] : 0.0f;
        }
        __syncthreads();
        for (int p = 0; p < DEPTH; p++)
            for (int i = 0; i < PER_THREAD; i++)
                for (int j = 0; j < PER_THREAD; j++)
                    sum[i][j] =
                        fmaf(as[p][ty * PER_THREAD + i], bs[p][tx * PER_THREAD + j], sum[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < PER_THREAD; i++)
        for (int j = 0; j < PER_THREAD; j++) {
            const int r = row0 + ty * PER_THREAD + i, s = col0 + tx * PER_THREAD + j;
            if (r < m && s < n) c[(int64_t)r * n + s] = sum[i][j];
        }
}

void sample_gemm(float *c, const float *a, const float *b, int m, int n, int k, cudaStream_t st)
{
    const dim3 grid((unsigned)(n + 63) / 64, (unsigned)(m + 63) / 64);

    TI_LAUNCH((gemm_kernel<64, 4>), grid, dim3(16, 16), 0, st, c, a, b, m, n, k);
}

/* One block a row. */
static __global__ void softmax_kernel(float *__restrict__ y, const float *__restrict__ x, int cols)
{
    TI_SHARED(float, s, [TI_WARP + 1]);
    const float *in = x + (int64_t)blockIdx.x * cols;
    float *out = y + (int64_t)blockIdx.x * cols;
    const int first = (int)threadIdx.x, step = (int)blockDim.x;
    float most = -INFINITY, sum = 0.0f;

    for (int i = first; i < cols; i += step) most = fmaxf(most, in[i]);
    most = ti_block_max(most, s);
    for (int i = first; i < cols; i += step) sum += __expf(in[i] - most);
    sum = ti_block_sum(sum, s);
    for (int i = first; i < cols; i += step) out[i] = __expf(in[i] - most) / sum;
}

void sample_softmax(float *y, const float *x, int rows, int cols, cudaStream_t st)
{
    TI_LAUNCH(softmax_kernel, (unsigned)rows, TI_BLOCK, 0, st, y, x, cols);
}

static __global__ void histogram_kernel(int *__restrict__ h, const int *__restrict__ x, int bins,
                                        int n)
{
    TI_SHARED_DYNAMIC(int, mine);

    for (int i = (int)threadIdx.x; i < bins; i += (int)blockDim.x) mine[i] = 0;
    __syncthreads();
    for (int64_t i = ti_first(); i < n; i += ti_step()) atomicAdd(&mine[x[i]], 1);
    __syncthreads();
    for (int i = (int)threadIdx.x; i < bins; i += (int)blockDim.x) atomicAdd(&h[i], mine[i]);
}

void sample_histogram(int *h, const int *x, int bins, int n, cudaStream_t st)
{
    TI_LAUNCH(histogram_kernel, 8, 128, (size_t)bins * sizeof(int), st, h, x, bins, n);
}

static __device__ float to_float(__half v) { return __half2float(v); }
static __device__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

template <class T>
static __global__ void to_float_kernel(float *__restrict__ y, const T *__restrict__ x, int64_t n)
{
    const int64_t i = ti_first();

    if (i >= n) return;
    y[i] = to_float(x[i]);
}

void sample_to_float(float *y, const void *x, int bf16, int64_t n, cudaStream_t st)
{
    const unsigned grid = (unsigned)((n + 63) / 64);

    if (bf16)
        TI_LAUNCH((to_float_kernel<__nv_bfloat16>), grid, 64, 0, st, y, (const __nv_bfloat16 *)x,
                  n);
    else TI_LAUNCH((to_float_kernel<__half>), grid, 64, 0, st, y, (const __half *)x, n);
}

/* The last block to finish adds the parts up. */
static __global__ void sum_kernel(float *out, float *parts, unsigned *ticket,
                                  const float *__restrict__ x, int64_t n)
{
    TI_SHARED(float, s, [TI_WARP + 1]);
    TI_SHARED(bool, last, );
    float v = 0.0f;

    for (int64_t i = ti_first(); i < n; i += ti_step()) v += x[i];
    v = ti_block_sum(v, s);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = v;
        __threadfence();
        last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!last) return;
    v = 0.0f;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) v += parts[i];
    v = ti_block_sum(v, s);
    if (threadIdx.x == 0) *out = v;
}

void sample_sum(float *out, float *parts, unsigned *ticket, const float *x, int64_t n, int blocks,
                cudaStream_t st)
{
    TI_LAUNCH(sum_kernel, (unsigned)blocks, 128, 0, st, out, parts, ticket, x, n);
}

static __global__ void mask_kernel(unsigned *__restrict__ mask, const int *__restrict__ x, int n)
{
    const int i = (int)ti_first();
    const unsigned m = __ballot_sync(TI_ALL_LANES, i < n && x[i] > 0);

    if (threadIdx.x % TI_WARP == 0 && i < n) mask[i / TI_WARP] = m;
}

void sample_mask(unsigned *mask, const int *x, int n, cudaStream_t st)
{
    TI_LAUNCH(mask_kernel, (unsigned)(n + 127) / 128, 128, 0, st, mask, x, n);
}

/* out[kind * 64 + t]: each collective once, where its lanes are defined. */
static __global__ void warps_kernel(int *out)
{
    TI_SHARED(int, s, [64]);
    const int t = (int)threadIdx.x, lane = t % TI_WARP;

    out[t] = __shfl_sync(TI_ALL_LANES, t, 5, 8);
    out[64 + t] = __shfl_up_sync(TI_ALL_LANES, t, 3, 16);
    out[128 + t] = __shfl_down_sync(TI_ALL_LANES, t, 2);
    out[192 + t] = __shfl_xor_sync(TI_ALL_LANES, t, 1);
    out[256 + t] = __all_sync(TI_ALL_LANES, lane < 32) + 2 * __any_sync(TI_ALL_LANES, lane == 40);
    out[320 + t] = (int)__match_any_sync(TI_ALL_LANES, lane / 8);
    out[384 + t] = __syncthreads_count(t % 3 == 0);
    out[448 + t] = __syncthreads_or(t == 9) + 2 * __syncthreads_and(t != 9);
    s[t] = t;
    __syncwarp();
    if (lane < 16) s[t] += s[t + 16]; /* ordered by __syncwarp */
    __syncwarp();
    out[512 + t] = s[t];
    /* Two halves of a warp, each among itself. */
    out[576 + t] =
        lane < 16 ? __shfl_xor_sync(0x0000ffffu, t, 15) : __shfl_xor_sync(0xffff0000u, t, 15);
}

void sample_warps(int *out, cudaStream_t st) { TI_LAUNCH(warps_kernel, 1, 64, 0, st, out); }

/* y[w][h][d] = x[d][h][w] */
static __global__ void transpose3_kernel(float *__restrict__ y, const float *__restrict__ x, int d,
                                         int h, int w)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int j = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    const int k = (int)(blockIdx.z * blockDim.z + threadIdx.z);

    if (i < w && j < h && k < d) y[((int64_t)i * h + j) * d + k] = x[((int64_t)k * h + j) * w + i];
}

void sample_transpose3(float *y, const float *x, int d, int h, int w, cudaStream_t st)
{
    const dim3 grid((unsigned)(w + 3) / 4, (unsigned)(h + 3) / 4, (unsigned)(d + 1) / 2);

    TI_LAUNCH(transpose3_kernel, grid, dim3(4, 4, 2), 0, st, y, x, d, h, w);
}

static __global__ void dynamic_kernel(float *y, int n)
{
    TI_SHARED_DYNAMIC(float, s);

    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) s[i] = (float)i;
    __syncthreads();
    if (threadIdx.x == 0) y[0] = s[n - 1];
}

/* More than 48 KiB has to be asked for. */
cudaError_t sample_dynamic(float *y, size_t bytes, int opt_in, cudaStream_t st)
{
    if (opt_in) {
        const cudaError_t e = cudaFuncSetAttribute(
            dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
        if (e != cudaSuccess) return e;
    }
    TI_LAUNCH(dynamic_kernel, 1, 64, bytes, st, y, (int)(bytes / sizeof(float)));
    return cudaGetLastError();
}
