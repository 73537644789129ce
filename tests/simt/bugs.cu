/*
 * bugs.cu - one deliberate bug per rule. The self-test wants each of them reported, with the rule's
 * words and this file's line. Numbers are the cases below; selftest.cpp lists what is expected.
 */
#include "launch.cuh"
#include "samples.h"

static __device__ int counters[2];

/* Bugs in memory: stray, unwritten, misaligned, and races. g has n floats. */
static __global__ void memory_bug(int which, float *g, int n)
{
    TI_SHARED(float, s, [64]);
    const int t = (int)threadIdx.x, b = (int)blockIdx.x;
    float *p = s; /* the compiler no longer knows the extent */

    switch (which) {
    case 0: g[n + t] = 1.0f; break;               /* write past the end of an allocation */
    case 1: p[t + 1] = 1.0f; break;               /* write past the end of shared memory */
    case 2: g[t] = g[(int64_t)n * 100000]; break; /* read far outside */
    case 3: g[-1 - t] = 0.0f; break;              /* write before the start */
    case 4:
        p[t] = 1.0f;
        g[t] = p[63 - t];
        break;                      /* no __syncthreads */
    case 5: g[t] = p[t]; break;     /* shared memory nobody wrote */
    case 6: g[t] = g[n - 1]; break; /* global memory nobody wrote */
    case 7: g[0] = (float)t; break; /* all threads at one address */
    case 8:
        if (t == 0) g[b + 1] = g[b];
        break; /* blocks that read their neighbour */
    case 9:    /* lanes that trust in lockstep */
        p[t] = (float)t;
        if (t < 16) p[t] += p[t + 16];
        break;
    case 10:
        if (t == 0) g[0] += 1.0f;
        break; /* a sum over blocks without atomics */
    case 11: *(float4 *)(g + 1) = make_float4(1, 2, 3, 4); break; /* misaligned vector */
    case 12:                                                      /* a write to a device global */
        counters[t & 1] += 1;
        g[t] = (float)counters[0];
        break;
    case 13:
        atomicAdd(&g[0], 1.0f);
        g[t] = 1.0f;
        break; /* atomic beside plain */
    case 14:   /* a buffer refilled while others still read it */
        p[t] = 1.0f;
        __syncthreads();
        g[t] = p[(t + 1) & 63];
        p[t] = 2.0f;
        break;
    case 15: s[(t & 1) + 63] = 1.0f; break;                   /* index past the declared extent */
    case 16: ((int *)g)[t] = (0x7fffffff - t) + 2 * t; break; /* signed overflow */
    case 17: g[t] = *(float *)((char *)g + 2); break;         /* misaligned scalar */
    }
}

/* Last block without its fences. */
static __global__ void fence_bug(int which, float *g, int n)
{
    TI_SHARED(int, last, );
    unsigned *ticket = (unsigned *)g + (n - 1);

    if (threadIdx.x == 0) {
        g[blockIdx.x] = 1.0f;
        if (which != 20) __threadfence();
        last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
        if (which != 21) __threadfence();
    }
    __syncthreads();
    if (!last || threadIdx.x) return;
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) sum += g[i];
    g[64] = sum;
}

/* Bugs in barriers and collectives. */
static __global__ void barrier_bug(int which, float *g, int n)
{
    const int t = (int)threadIdx.x;
    float v = (float)t;

    (void)n;
    switch (which) {
    case 30: /* divergent barrier */
        if (t < 32) __syncthreads();
        else __syncthreads();
        break;
    case 31: /* deadlock: barrier against shuffle */
        if (t < 48) __syncthreads();
        else v = __shfl_down_sync(TI_ALL_LANES, v, 1);
        break;
    case 32: /* a lane outside the mask is read */
        if (t < 16) v = __shfl_down_sync(0x0000ffffu, v, 1);
        break;
    case 33: v = __shfl_sync(0x0000ffffu, v, 0); break; /* callers outside their mask */
    case 34:                                            /* the mask names lanes that have left */
        if (t >= 16) return;
        v = __shfl_xor_sync(TI_ALL_LANES, v, 1);
        break;
    case 35: v = __shfl_sync(TI_ALL_LANES, v, 0, 12); break; /* no power of two */
    case 36: /* two different collectives of one warp */
        if (t & 1) __syncwarp();
        else v = (float)__any_sync(TI_ALL_LANES, t);
        break;
    case 37: __trap(); break;
    }
    if (t < 64) g[t] = v;
}

static __global__ void __launch_bounds__(32) bound_bug(float *g)
{
    TI_BOUND(32);
    g[threadIdx.x] = 0.0f;
}

static __global__ void big_shared_bug(float *g)
{
#ifndef __CUDACC__ /* nvcc refuses this already */
    TI_SHARED(float, s, [12289]);
    s[threadIdx.x] = 1.0f;
    g[threadIdx.x] = s[threadIdx.x];
#else
    (void)g;
#endif
}

static __global__ void dynamic_bug(float *g)
{
    TI_SHARED_DYNAMIC(float, s);
    s[threadIdx.x] = 1.0f; /* fewer bytes were launched */
    g[threadIdx.x] = s[threadIdx.x];
}

void bug_run(int which, float *g, int n, int blocks, int threads, size_t dynamic, cudaStream_t st)
{
    const unsigned grid = (unsigned)blocks, block = (unsigned)threads;

    if (which < 20) TI_LAUNCH(memory_bug, grid, block, dynamic, st, which, g, n);
    else if (which < 30) TI_LAUNCH(fence_bug, grid, block, dynamic, st, which, g, n);
    else if (which < 40) TI_LAUNCH(barrier_bug, grid, block, dynamic, st, which, g, n);
    else if (which == 40) TI_LAUNCH(bound_bug, grid, block, dynamic, st, g);
    else if (which == 41) TI_LAUNCH(big_shared_bug, grid, block, dynamic, st, g);
    else TI_LAUNCH(dynamic_bug, grid, block, dynamic, st, g);
}
