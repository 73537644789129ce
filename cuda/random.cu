/*
 * random.cu - uniform, normal, dropout: element i, counted row-major, is number i of the stream
 * that seed, purpose and counter name (base/random.h). A thread an element; the same bits on every
 * device.
 */
#include "base/random.h"
#include "nest.cuh"

static inline __device__ ti_stream stream_of(int64_t seed, int64_t purpose, const int64_t *counter)
{
    return ti_stream_of(seed, purpose, *counter);
}

static inline __device__ float between(float a, float b, const ti_stream *s, int64_t i)
{
    return ti_between_f32(a, b, ti_unit_f32(ti_bits32(s, (uint64_t)i)));
}
static inline __device__ double between(double a, double b, const ti_stream *s, int64_t i)
{
    return ti_between_f64(a, b, ti_unit_f64(ti_bits64(s, (uint64_t)i)));
}

template <class T>
static __global__ void uniform_kernel(const tern_random_opts o, int64_t n, T *y,
                                      const int64_t *counter)
{
    const ti_stream s = stream_of(o.seed, o.purpose, counter);

    for (int64_t i = ti_first(); i < n; i += ti_step()) y[i] = between(T(o.a), T(o.b), &s, i);
}

template <class T>
static __global__ void normal_kernel(const tern_random_opts o, int64_t n, T *y,
                                     const int64_t *counter)
{
    const ti_stream s = stream_of(o.seed, o.purpose, counter);

    for (int64_t i = ti_first(); i < n; i += ti_step())
        y[i] = T(fma(o.b, ti_normal_of(ti_bits64(&s, (uint64_t)i)), o.a));
}

/* b 0 with a 0 means 1. */
static tern_random_opts filled(const ti_work *w)
{
    tern_random_opts o = ti_opts<tern_random_opts>(w);

    if (o.a == 0 && o.b == 0) o.b = 1;
    return o;
}

#define DRAW(name)                                                                                 \
    template <class T> static void name##_as(const ti_work *w)                                     \
    {                                                                                              \
        TI_LAUNCH(name##_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),      \
                  filled(w), w->out[0].count, ti_at<T>(w->out[0]),                                 \
                  ti_at<const int64_t>(w->in[0]));                                                 \
        ti_launched(w);                                                                            \
    }                                                                                              \
    TI_FLOAT_ROW(name, w->out[0])
DRAW(uniform)
DRAW(normal)

/* Operand 2 of the nest is the row-major number of the element. */
template <class T>
static __global__ void dropout_kernel(const ti_nest e, const tern_dropout_opts o, T *y, const T *x,
                                      const int64_t *counter)
{
    const ti_stream s = stream_of(o.seed, o.purpose, counter);
    const uint32_t cut = ti_dropout_cut(o.p);
    const T kept = T(1 - o.p);

    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[3];

        ti_place(e, i, at);
        y[at[0]] = ti_bits32(&s, (uint64_t)at[2]) < cut ? T(0) : x[at[1]] / kept;
    }
}

template <class T> static void dropout_as(const ti_work *w)
{
    ti_view number = w->in[0];

    number.m = ti_packed_meta(number.m.type, number.m.shape);
    const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], &number, NULL);
    TI_LAUNCH(dropout_kernel<T>, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              ti_opts<tern_dropout_opts>(w), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
              ti_at<const int64_t>(w->in[1]));
    ti_launched(w);
}
TI_FLOAT_ROW(dropout, w->in[0])

#define ROW(name, alias)                                                                           \
    {                                                                                              \
        .op = #name, .impl = "philox", .cost = ti_moved_cost, .may_alias = alias, .run = name      \
    }
TI_KERNELS(ti_cuda_random) = {
    ROW(uniform, NULL), ROW(normal, NULL), ROW(dropout, ti_on_first), {.op = NULL}};
