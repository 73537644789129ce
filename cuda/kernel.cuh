/*
 * kernel.cuh - what the host side of every kernel file uses: rows, operands, the stream, faults.
 */
#ifndef TI_CUDA_KERNEL_CUH
#define TI_CUDA_KERNEL_CUH

#include "backend.h"
#include "groups.cuh"

/* The list of a file's rows: its only global symbol. */
#define TI_KERNELS(name)                                                                           \
    extern "C" const ti_row name[];                                                                \
    const ti_row name[]

/* A view's first element. NULL where it is absent. */
template <class T> static inline T *ti_at(const ti_view &v) { return (T *)(void *)v.data; }

/* Options of a call. */
template <class O> static inline const O &ti_opts(const ti_work *w) { return *(const O *)w->opts; }

/* The stream of w's device, which becomes the thread's. */
static inline cudaStream_t ti_cuda_stream(const ti_work *w)
{
    (void)cudaSetDevice(w->device->index);
    return w->device->stream;
}

/* After each launch: a bad one is noted. */
static inline void ti_launched(const ti_work *w) { ti_cuda_launched(w->device, w->op->name); }

static inline bool ti_is(const ti_view &v, tern_type type) { return v.m.type == type; }

/* Runs as<float> or as<double>, by the type of an operand. */
#define TI_FLOAT_ROW(name, view)                                                                   \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        if (ti_is(view, TERN_F32)) name##_as<float>(w);                                            \
        else name##_as<double>(w);                                                                 \
    }

static inline const char *ti_only_floats(const ti_work *w)
{
    return TI_FLOATS >> w->in[0].m.type & 1 ? NULL : "takes f32 and f64";
}

/* Nanoseconds for so many bytes at 1 TB/s, and a launch. */
static inline double ti_bytes_cost(double bytes) { return 3000 + bytes * 1e-3; }
static inline double ti_moved(const ti_work *w)
{
    double bytes = 0;

    for (int i = 0; i < w->n_in; i++)
        if (w->in[i].count > 0)
            bytes += (double)w->in[i].count * (double)tern_type_size(w->in[i].m.type);
    for (int i = 0; i < w->op->n_out; i++)
        if (w->out[i].count > 0)
            bytes += (double)w->out[i].count * (double)tern_type_size(w->out[i].m.type);
    return bytes;
}
static inline double ti_moved_cost(const ti_work *w) { return ti_bytes_cost(ti_moved(w)); }

/* Whether a predicated row must leave everything as it is: the flag, or an index found wrong. */
static inline __device__ bool ti_stopped(const float *skip, const ti_cuda_fault *fault)
{
    return (skip && *skip != 0.0f) || fault->call != 0;
}

/* An index of type i64 or i32; -1, and a fault, where it is not in 0 ... limit-1. */
typedef struct {
    const void *data;
    bool wide;
    ti_cuda_fault *fault;
    unsigned long long call;
    const char *op;
} ti_indices;

static inline ti_indices ti_indices_of(const ti_work *w, const ti_view &v)
{
    return ti_indices{v.data, v.m.type == TERN_I64, w->device->fault, ++w->device->n_calls,
                      w->op->name};
}

/* Element `at` of x is `value`, which is not in 0 ... limit-1. */
static inline __device__ void ti_raise_on(const ti_indices &x, int64_t at, int64_t value,
                                          int64_t limit)
{
    const unsigned long long first = atomicCAS(&x.fault->call, 0ull, x.call);
    const unsigned long long place = at < 0xffffffffll ? (unsigned long long)at : 0xffffffffull;

    if (first != 0 && first != x.call) return; /* an earlier call has found one */
    if (first == 0) {
        x.fault->limit = limit;
        x.fault->op = x.op;
    }
    atomicMax(&x.fault->low, ~(place << 32 | ((unsigned long long)value & 0xffffffffull)));
    atomicMax(&x.fault->high, ~(place << 32 | (unsigned long long)value >> 32));
}

static inline __device__ int64_t ti_index(const ti_indices &x, int64_t i)
{
    return x.wide ? ((const int64_t *)x.data)[i] : ((const int32_t *)x.data)[i];
}
static inline __device__ int64_t ti_checked(const ti_indices &x, int64_t i, int64_t limit)
{
    const int64_t at = ti_index(x, i);

    if (at >= 0 && at < limit) return at;
    ti_raise_on(x, i, at, limit);
    return -1;
}

#endif
