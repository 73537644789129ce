/*
 * runs.cuh - groups of threads over the runs along one axis of a row-major tensor.
 *
 * A run is n values, `step` apart. Where they lie side by side a group of `lanes` threads takes
 * one, else a thread does, so that neighbouring threads read neighbouring values. By the shape
 * only.
 */
#ifndef TI_CUDA_RUNS_CUH
#define TI_CUDA_RUNS_CUH

#include "math.cuh"

typedef struct {
    int64_t count, n, step;
    int lanes;
} ti_runs;

static inline ti_runs ti_runs_of(const tern_shape &s, int axis)
{
    ti_runs r = {1, s.dim[axis], 1, 1};

    for (int a = 0; a < s.rank; a++) {
        if (a != axis) r.count *= s.dim[a];
        if (a > axis) r.step *= s.dim[a];
    }
    while (r.step == 1 && r.lanes < TI_BLOCK && r.lanes * 4 < r.n) r.lanes *= 2;
    return r;
}

static inline unsigned ti_runs_grid(const ti_runs &r)
{
    const int64_t groups = TI_BLOCK / r.lanes, blocks = (r.count + groups - 1) / groups;

    return (unsigned)(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks);
}
static inline double ti_runs_chain(const ti_runs &r)
{
    double L = (double)((r.n + r.lanes - 1) / r.lanes);

    for (int lanes = r.lanes; lanes > 1; lanes /= 2) L++;
    return L;
}

/* for (i0 = ti_first_run(r); i0 < r.count; i0 += ti_runs_step(r)): run i0 + threadIdx.x / lanes. */
static inline __device__ int64_t ti_first_run(const ti_runs &r)
{
    return (int64_t)blockIdx.x * (TI_BLOCK / r.lanes);
}
static inline __device__ int64_t ti_runs_step(const ti_runs &r)
{
    return (int64_t)gridDim.x * (TI_BLOCK / r.lanes);
}
static inline __device__ int64_t ti_run_at(const ti_runs &r, int64_t i)
{
    return i / r.step * r.step * r.n + i % r.step;
}

/* The largest of the first n values of x's run, NaN above all. All threads of the block call it. */
template <class T>
static inline __device__ T ti_run_largest(const ti_runs &r, const T *x, int64_t n, T *room)
{
    const int lane = (int)threadIdx.x & (r.lanes - 1);
    T most = -(T)INFINITY;

    for (int64_t k = lane; k < n; k += r.lanes) most = ti_larger(most, x[k * r.step]);
    return ti_group_max(most, room, r.lanes);
}

#endif
