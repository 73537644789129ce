/*
 * launch.cuh - the one header of CUDA that a kernel file includes: launches, shared memory,
 * grid-stride loops, and reductions whose order of sums never changes.
 *
 * nvcc sees thin macros over CUDA. A host compiler (C++17) sees the emulator of tests/simt, which
 * runs the same source without a GPU. Only what stands here differs between the two:
 *
 *   TI_SHARED(float, tile, [32][33]);      __shared__ float tile[32][33];
 *   TI_SHARED_DYNAMIC(float, buffer);      extern __shared__ float buffer[];
 *   TI_LAUNCH(kernel, grid, block, bytes, stream, a, b);
 *   TI_BOUND(256);                         first line of a kernel with __launch_bounds__(256)
 *
 * A templated kernel stands in parentheses: TI_LAUNCH((kernel<float, 4>), ...). An error of the
 * launch itself waits in cudaGetLastError(), as always with CUDA.
 */
#ifndef TI_LAUNCH_CUH
#define TI_LAUNCH_CUH

#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define TI_SHARED(type, name, ...) __shared__ type name __VA_ARGS__
#define TI_SHARED_DYNAMIC(type, name)                                                              \
    extern __shared__ __align__(16) unsigned char ti_dynamic_shared[];                             \
    type *name = reinterpret_cast<type *>(ti_dynamic_shared)
#define TI_LAUNCH(kernel, grid, block, bytes, stream, ...)                                         \
    kernel<<<(grid), (block), (bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__)
#define TI_BOUND(threads) ((void)0)

#else

#include "simt.h"

/* The key is a variable of this very place, and of this instance of a template. */
#define TI_SHARED(type, name, ...)                                                                 \
    using name##_shared = type __VA_ARGS__;                                                        \
    static const char name##_key = 0;                                                              \
    name##_shared &name = *static_cast<name##_shared *>(                                           \
        simt::shared_static(&name##_key, sizeof(name##_shared), alignof(name##_shared), #name))
#define TI_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(simt::shared_dynamic(16))
#define TI_LAUNCH(kernel, grid, block, bytes, stream, ...)                                         \
    simt::start(#kernel, (grid), (block), (bytes), (cudaStream_t)(stream), kernel, __VA_ARGS__)
#define TI_BOUND(threads) simt::bound(threads, simt::Site{__FILE__, __LINE__})

#endif

enum { TI_BLOCK = 256, TI_WARP = 32 };
#define TI_ALL_LANES 0xffffffffu

/* Blocks of TI_BLOCK threads for count elements, one each; a grid-stride loop does the rest. */
static inline unsigned ti_grid(int64_t count)
{
    const int64_t blocks = count / TI_BLOCK + (count % TI_BLOCK != 0), most = 65535;

    return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* for (int64_t i = ti_first(); i < count; i += ti_step()) */
static __device__ __forceinline__ int64_t ti_first(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t ti_step(void) { return (int64_t)gridDim.x * blockDim.x; }

/* What a reduction does with two values. NaN stays NaN in the greatest and the least. */
struct ti_plus {
    template <class T> static __device__ __forceinline__ T zero(T) { return T(0); }
    template <class T> static __device__ __forceinline__ T join(T a, T b) { return a + b; }
};
struct ti_greatest {
    static __device__ __forceinline__ float zero(float) { return -INFINITY; }
    static __device__ __forceinline__ float join(float a, float b)
    {
        return a > b || a != a ? a : b;
    }
};
struct ti_least {
    static __device__ __forceinline__ float zero(float) { return INFINITY; }
    static __device__ __forceinline__ float join(float a, float b)
    {
        return a < b || a != a ? a : b;
    }
};

/* The value of all 32 lanes, in every lane: lane i first meets i^16, then i^8, ... All lanes of the
 * warp must call it. Both partners of a step join in the order of their lanes, so that all lanes
 * end with the same bits even where join is not commutative (which NaN, which zero wins). */
template <class Join, class T> static __device__ __forceinline__ T ti_warp_reduce(T v)
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1));

    for (int distance = TI_WARP / 2; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(TI_ALL_LANES, v, distance);
        v = lane & distance ? Join::join(other, v) : Join::join(v, other);
    }
    return v;
}

/* The value of all threads of the block, in every thread. `shared` holds 33 elements that nobody
 * else uses; blockDim.x is a multiple of 32, blockDim.y and z are 1, and all threads call it. It
 * may be called again at once, with the same memory. */
template <class Join, class T> static __device__ __forceinline__ T ti_block_reduce(T v, T *shared)
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1)), warp = (int)(threadIdx.x / TI_WARP);
    const int n_warps = (int)(blockDim.x / TI_WARP);

    v = ti_warp_reduce<Join>(v);
    if (lane == 0) shared[warp] = v;
    __syncthreads();
    if (warp == 0) {
        v = ti_warp_reduce<Join>(lane < n_warps ? shared[lane] : Join::zero(v));
        if (lane == 0) shared[TI_WARP] = v;
    }
    __syncthreads();
    return shared[TI_WARP]; /* the next call writes it behind a barrier of its own */
}

template <class T> static __device__ __forceinline__ T ti_warp_sum(T v)
{
    return ti_warp_reduce<ti_plus>(v);
}

template <class T> static __device__ __forceinline__ T ti_block_sum(T v, T *shared)
{
    return ti_block_reduce<ti_plus>(v, shared);
}

static __device__ __forceinline__ float ti_block_max(float v, float *shared)
{
    return ti_block_reduce<ti_greatest>(v, shared);
}

#endif /* TI_LAUNCH_CUH */
