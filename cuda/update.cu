/*
 * update.cu - kernels of an optimizer's step: census, sgd_update, adam_update.
 *
 * Updates are one launch over all parameters, in place where the program lays them so, and do
 * nothing where the skip flag is set or an index was found wrong. Their numbers are computed in the
 * parameters' type, coefficients in f64 by one thread a block. The census adds up squares in f64: a
 * block a piece, a tree inside it, pieces in a tree of one block.
 */
#include "base/powi.h"
#include "math.cuh"
#include "nest.cuh"

/* One number of type f32, f64 or i64 in device memory. */
typedef struct {
    const void *at;
    int type;
} number;

static number number_of(const ti_view &v)
{
    return number{v.count < 0 ? NULL : v.data, (int)v.m.type};
}
static inline __device__ double value_of(const number &n, double otherwise)
{
    if (!n.at) return otherwise;
    return n.type == TERN_F32   ? (double)*(const float *)n.at
           : n.type == TERN_F64 ? *(const double *)n.at
                                : (double)*(const int64_t *)n.at;
}

/* ---- census ---- */

static const int64_t most_pieces = 256;

static inline __device__ double load(int type, const void *x, int64_t i)
{
    switch (type) {
    case TERN_F32: return ((const float *)x)[i];
    case TERN_F64: return ((const double *)x)[i];
    case TERN_F16: return (double)__half2float(((const __half *)x)[i]);
    default: return (double)__bfloat162float(((const __nv_bfloat16 *)x)[i]);
    }
}

/* to[2 block], to[2 block + 1]: squares of the block's share, how many are not finite. */
static __global__ void census_kernel(int64_t n, int type, const void *x, double *to)
{
    TI_SHARED(double, room, [TI_BLOCK]);
    double squares = 0, bad = 0;

    for (int64_t i = ti_first(); i < n; i += ti_step()) {
        const double v = load(type, x, i);

        squares += v * v;
        bad += ti_finite(v) ? 0 : 1;
    }
    squares = ti_group_sum(squares, room, TI_BLOCK);
    bad = ti_group_sum(bad, room, TI_BLOCK);
    if (threadIdx.x > 0) return;
    to[2 * blockIdx.x] = squares;
    to[2 * blockIdx.x + 1] = bad;
}

/* from: `first` pieces of the first input, then those of the others. */
static __global__ void verdict_kernel(int64_t first, int64_t n, const double *from, float *flag,
                                      double *stats)
{
    TI_SHARED(double, room, [TI_BLOCK]);
    double squares = 0, bad = 0;

    for (int64_t i = threadIdx.x; i < n; i += TI_BLOCK) {
        if (i < first) squares += from[2 * i];
        bad += from[2 * i + 1];
    }
    squares = ti_group_sum(squares, room, TI_BLOCK);
    bad = ti_group_sum(bad, room, TI_BLOCK);
    if (threadIdx.x > 0) return;
    if (flag) *flag = bad > 0 ? 1.0f : 0.0f;
    if (stats) stats[0] = sqrt(squares);
    if (stats) stats[1] = bad;
}

static int64_t pieces_of(const ti_view &v)
{
    const int64_t n = (v.count + 4 * TI_BLOCK - 1) / (4 * TI_BLOCK);

    return n < 1 ? 1 : n > most_pieces ? most_pieces : n;
}

static void census(const ti_work *w)
{
    double *to = (double *)w->scratch;
    int64_t n = 0;

    for (int k = 0; k < w->n_in; k++) {
        const int64_t pieces = pieces_of(w->in[k]);

        TI_LAUNCH(census_kernel, (unsigned)pieces, TI_BLOCK, 0, ti_cuda_stream(w), w->in[k].count,
                  (int)w->in[k].m.type, (const void *)w->in[k].data, to + 2 * n);
        n += pieces;
    }
    TI_LAUNCH(verdict_kernel, 1, TI_BLOCK, 0, ti_cuda_stream(w), pieces_of(w->in[0]), n,
              (const double *)to, ti_at<float>(w->out[0]), ti_at<double>(w->out[1]));
    ti_launched(w);
}

static size_t census_scratch(const ti_work *w)
{
    int64_t n = 0;

    for (int k = 0; k < w->n_in; k++) n += pieces_of(w->in[k]);
    return (size_t)n * 2 * sizeof(double);
}
static double census_chain(const ti_work *w)
{
    const int64_t n = w->in[0].count, pieces = pieces_of(w->in[0]);

    return w->in[0].m.type == TERN_F64 ? (double)(n / (pieces * TI_BLOCK)) + 19 : 1;
}

/* ---- sgd_update ---- */

/* Places in new_p, p, g, then new_m and m where they are. */
template <int n> static inline __device__ void places(const ti_nest &e, int64_t i, int64_t (&at)[n])
{
    if (!e.vector) ti_place(e, i, at);
    else
        for (int k = 0; k < n; k++) at[k] = i;
}

template <class T>
static __global__ void sgd_kernel(const ti_nest e, const tern_sgd_update_opts o, const number lr_,
                                  const number scale_, const float *skip,
                                  const ti_cuda_fault *fault, T *new_p, const T *p_, const T *g_,
                                  T *new_m, const T *m_)
{
    if (ti_stopped(skip, fault)) return;
    const T lr = T(value_of(lr_, 0)), scale = T(value_of(scale_, 1)), decay = T(o.decay);
    const T momentum = T(o.momentum), fresh = T(1 - o.dampening);

    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[5];

        places(e, i, at);
        const T p = p_[at[1]], g = scale * g_[at[2]] + decay * p;
        T step = g;
        if (m_) {
            const T m = momentum * m_[at[4]] + fresh * g;

            step = o.nesterov ? g + momentum * m : m;
            if (new_m) new_m[at[3]] = m;
        } else if (new_m) new_m[at[3]] = g;
        if (new_p) new_p[at[0]] = p - lr * step;
    }
}

/* Absent operands stand in p's place, unread. */
static const ti_view *or_else(const ti_view *v, const ti_view *other)
{
    return v->count >= 0 ? v : other;
}

template <class T> static void sgd_as(const ti_work *w)
{
    const ti_view *p = &w->in[0];
    const ti_view *const all[] = {or_else(&w->out[0], p), p, &w->in[2], or_else(&w->out[1], p),
                                  or_else(&w->in[1], p)};
    const ti_nest e = ti_nest_over(all, 5);

    TI_LAUNCH(sgd_kernel<T>, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              ti_opts<tern_sgd_update_opts>(w), number_of(w->in[3]), number_of(w->in[4]), w->skip,
              w->device->fault, ti_at<T>(w->out[0]), ti_at<const T>(*p), ti_at<const T>(w->in[2]),
              ti_at<T>(w->out[1]), ti_at<const T>(w->in[1]));
    ti_launched(w);
}
TI_FLOAT_ROW(sgd, w->in[0])

/* ---- adam_update ---- */

template <class T> struct moments {
    T *new_p, *new_m, *new_v;
    const T *p, *m, *v, *g;
};

template <class T>
static __global__ void adam_kernel(const ti_nest e, const tern_adam_update_opts o, const number lr_,
                                   const number t_, const number scale_, const float *skip,
                                   const ti_cuda_fault *fault, const moments<T> a)
{
    TI_SHARED(double, fix, [3]); /* the rate, what v is multiplied with, what is kept of p */

    if (ti_stopped(skip, fault)) return;
    if (threadIdx.x == 0) {
        const double lr = value_of(lr_, 0);
        const int64_t t = (int64_t)value_of(t_, 1);

        fix[0] = lr / (1 - ti_powi(o.beta1, t));
        fix[1] = 1 / (1 - ti_powi(o.beta2, t));
        fix[2] = o.decoupled ? 1 - lr * o.decay : 1;
    }
    __syncthreads();
    const T rate = T(fix[0]), fix2 = T(fix[1]), kept = T(fix[2]), scale = T(value_of(scale_, 1));
    const T decay = o.decoupled ? T(0) : T(o.decay), eps = T(o.eps);
    const T beta1 = T(o.beta1), fresh1 = T(1 - o.beta1), beta2 = T(o.beta2);
    const T fresh2 = T(1 - o.beta2);

    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[7];

        places(e, i, at);
        const T p = a.p[at[3]], g = scale * a.g[at[6]] + decay * p;
        const T m = beta1 * a.m[at[4]] + fresh1 * g, v = beta2 * a.v[at[5]] + fresh2 * g * g;
        if (a.new_p) a.new_p[at[0]] = kept * p - rate * m / (ti_sqrt(v * fix2) + eps);
        if (a.new_m) a.new_m[at[1]] = m;
        if (a.new_v) a.new_v[at[2]] = v;
    }
}

template <class T> static void adam_as(const ti_work *w)
{
    const ti_view *all[7];
    const moments<T> a = {ti_at<T>(w->out[0]),      ti_at<T>(w->out[1]),
                          ti_at<T>(w->out[2]),      ti_at<const T>(w->in[0]),
                          ti_at<const T>(w->in[1]), ti_at<const T>(w->in[2]),
                          ti_at<const T>(w->in[3])};

    for (int k = 0; k < 3; k++) all[k] = or_else(&w->out[k], &w->in[k]);
    for (int k = 0; k < 4; k++) all[3 + k] = &w->in[k];
    const ti_nest e = ti_nest_over(all, 7);
    TI_LAUNCH(adam_kernel<T>, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              ti_opts<tern_adam_update_opts>(w), number_of(w->in[4]), number_of(w->in[5]),
              number_of(w->in[6]), w->skip, w->device->fault, a);
    ti_launched(w);
}
TI_FLOAT_ROW(adam, w->in[0])

static int own(int i_out) { return i_out; } /* p, m, v lie at the places of their successors */

TI_KERNELS(ti_cuda_update) = {
    {.op = "census",
     .impl = "tree",
     .cost = ti_moved_cost,
     .want = {TI_DENSE},
     .scratch = census_scratch,
     .run = census,
     .chain = census_chain,
     .numbers = TI_REORDERED},
    {.op = "sgd_update",
     .impl = "loop",
     .cost = ti_moved_cost,
     .may_alias = own,
     .run = sgd,
     .numbers = TI_REORDERED,
     .predicated = true},
    {.op = "adam_update",
     .impl = "loop",
     .cost = ti_moved_cost,
     .may_alias = own,
     .run = adam,
     .numbers = TI_REORDERED,
     .predicated = true},
    {.op = NULL},
};
