/*
 * groups.cuh - sums and extremes over groups of threads smaller or larger than a warp, in trees
 * whose shape depends on the group's size only.
 */
#ifndef TI_CUDA_GROUPS_CUH
#define TI_CUDA_GROUPS_CUH

#include "launch.cuh"

#ifdef __CUDACC__
#define TI_UNROLL _Pragma("unroll")
#else
#define TI_UNROLL
#endif

/*
 * Sum over groups of `lanes` consecutive threads (a power of two that divides the block), in a tree
 * whose shape depends on `lanes` only; every thread gets its group's. `room` holds one value for
 * each thread. All threads of the block must call it.
 */
template <class T> static inline __device__ T ti_group_sum(T x, T *room, int lanes)
{
    const int t = (int)threadIdx.x, lane = t & (lanes - 1);

    room[t] = x;
    __syncthreads();
    for (int near = lanes / 2; near > 0; near /= 2) {
        if (lane < near) room[t] += room[t + near];
        __syncthreads();
    }
    x = room[t - lane];
    __syncthreads();
    return x;
}

/* The largest, NaN above all. */
template <class T> static inline __device__ T ti_larger(T a, T b)
{
    return b > a || b != b ? (a != a ? a : b) : a;
}
template <class T> static inline __device__ T ti_group_max(T x, T *room, int lanes)
{
    const int t = (int)threadIdx.x, lane = t & (lanes - 1);

    room[t] = x;
    __syncthreads();
    for (int near = lanes / 2; near > 0; near /= 2) {
        if (lane < near) room[t] = ti_larger(room[t], room[t + near]);
        __syncthreads();
    }
    x = room[t - lane];
    __syncthreads();
    return x;
}

#endif
