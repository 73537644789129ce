/*
 * cross_entropy.cu - softmax cross-entropy over axis 1, and its derivative.
 *
 * With z = x - max and lp = z - log sum exp(z), weights w (1 if absent), t' the smoothed target:
 *   loss = -sum_c w_c t'_c lp_c               dx = f (p sum_c w_c t'_c - w t')
 *   dtarget = -f (1 - s) w lp                 dweight_c = -sum f t'_c lp_c (- f loss / mass each)
 * f is the losses' cotangent over what the mean divides by.
 *
 * First a group of threads a place: max, log sum, loss, its weight, sum of w t'. Then sums over the
 * places by trees, in two steps; then a thread an element of dx and dtarget, a block a class of
 * dweight. No class of zero target is looked at where targets are classes: its lp may be infinite.
 */
#include "runs.cuh"

template <class T> struct places {
    T *most, *logs, *loss, *weight, *pull; /* of each place */
    T *pieces;                             /* sums of loss and weight, by blocks */
    T *total;                              /* loss, weight */
};

template <class T> struct entropy {
    ti_runs r;
    const T *x, *target, *weight;
    ti_indices classes;
    bool by_class, has_ignore;
    int64_t ignore;
    double smoothing;
    places<T> at;
};

/* The class of place i; -1 if it does not count. */
template <class T> static inline __device__ int64_t class_of(const entropy<T> &e, int64_t i)
{
    if (e.has_ignore && ti_index(e.classes, i) == e.ignore) return -1;
    return ti_checked(e.classes, i, e.r.n);
}
template <class T> static inline __device__ T weight_of(const entropy<T> &e, int64_t k)
{
    return e.weight ? e.weight[k] : T(1);
}
/* j: where x has this class and place. */
template <class T>
static inline __device__ T target_of(const entropy<T> &e, int64_t own, int64_t k, int64_t j)
{
    const T t = e.by_class ? T(k == own) : e.target[j];

    return T(1 - e.smoothing) * t + T(e.smoothing / (double)e.r.n);
}

template <class T> static __global__ void places_kernel(const entropy<T> e)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const ti_runs &r = e.r;
    const int lane = (int)threadIdx.x & (r.lanes - 1);

    for (int64_t i0 = ti_first_run(r); i0 < r.count; i0 += ti_runs_step(r)) {
        const int64_t i = i0 + threadIdx.x / r.lanes, at = ti_run_at(r, i);
        const int64_t n = i < r.count ? r.n : 0;
        const T most = ti_run_largest(r, e.x + at, n, room);
        T sum = T(0), loss = T(0), pull = T(0);

        for (int64_t k = lane; k < n; k += r.lanes) sum += ti_exp(e.x[at + k * r.step] - most);
        const T logs = ti_log(ti_group_sum(sum, room, r.lanes));
        const int64_t own = n && e.by_class ? class_of(e, i) : 0;
        for (int64_t k = lane; k < n && own >= 0; k += r.lanes) {
            const int64_t j = at + k * r.step;

            if (e.by_class && k != own && e.smoothing == 0) continue;
            const T q = weight_of(e, k) * target_of(e, own, k, j);
            loss -= q * ((e.x[j] - most) - logs);
            pull += q;
        }
        loss = ti_group_sum(loss, room, r.lanes);
        pull = ti_group_sum(pull, room, r.lanes);
        if (n == 0 || lane > 0) continue;
        e.at.most[i] = most;
        e.at.logs[i] = logs;
        e.at.loss[i] = loss;
        e.at.pull[i] = pull;
        e.at.weight[i] = own < 0 ? T(0) : e.by_class ? weight_of(e, own) : T(1);
    }
}

/* to[2 block], to[2 block + 1]: sums of a and b over the block's share. */
template <class T>
static __global__ void sums_kernel(int64_t n, T *to, const T *a, const T *b, int64_t step)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    T x = T(0), y = T(0);

    for (int64_t i = ti_first(); i < n; i += ti_step()) {
        x += a[i * step];
        y += b[i * step];
    }
    x = ti_group_sum(x, room, TI_BLOCK);
    y = ti_group_sum(y, room, TI_BLOCK);
    if (threadIdx.x > 0) return;
    to[2 * blockIdx.x] = x;
    to[2 * blockIdx.x + 1] = y;
}

/* What a mean divides by; otherwise 1. */
template <class T> static inline __device__ T mass_of(const entropy<T> &e, int reduction)
{
    return reduction != TERN_REDUCE_MEAN ? T(1) : e.by_class ? e.at.total[1] : T(e.r.count);
}

template <class T> static __global__ void result_kernel(const entropy<T> e, int reduction, T *y)
{
    if (reduction == TERN_REDUCE_NONE)
        for (int64_t i = ti_first(); i < e.r.count; i += ti_step()) y[i] = e.at.loss[i];
    else if (ti_first() == 0) *y = e.at.total[0] / mass_of(e, reduction);
}

/* dx or dtarget. */
template <class T>
static __global__ void elements_kernel(const entropy<T> e, int reduction, const T *gy, T *dx,
                                       T *dtarget)
{
    const T mass = mass_of(e, reduction);

    for (int64_t j = ti_first(); j < e.r.count * e.r.n; j += ti_step()) {
        const int64_t k = j / e.r.step % e.r.n;
        const int64_t i = j / e.r.step / e.r.n * e.r.step + j % e.r.step;
        const int64_t own = e.by_class ? class_of(e, i) : 0;
        const T f = gy[reduction == TERN_REDUCE_NONE ? i : 0] / mass;
        const T lp = (e.x[j] - e.at.most[i]) - e.at.logs[i];

        if (dx)
            dx[j] =
                own < 0
                    ? T(0)
                    : f * (ti_exp(lp) * e.at.pull[i] - weight_of(e, k) * target_of(e, own, k, j));
        if (dtarget) dtarget[j] = -f * T(1 - e.smoothing) * weight_of(e, k) * lp;
    }
}

/* A block a class. */
template <class T>
static __global__ void weights_kernel(const entropy<T> e, int reduction, const T *gy, T *dweight)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const T mass = mass_of(e, reduction);

    for (int64_t k = blockIdx.x; k < e.r.n; k += gridDim.x) {
        T sum = T(0), owned = T(0);

        for (int64_t i = threadIdx.x; i < e.r.count; i += TI_BLOCK) {
            const int64_t own = e.by_class ? class_of(e, i) : 0,
                          j = ti_run_at(e.r, i) + k * e.r.step;
            const T t = own < 0 ? T(0) : target_of(e, own, k, j);

            if (t != 0)
                sum -= gy[reduction == TERN_REDUCE_NONE ? i : 0] / mass * t *
                       ((e.x[j] - e.at.most[i]) - e.at.logs[i]);
            owned += e.by_class && own == k ? T(1) : T(0);
        }
        sum = ti_group_sum(sum, room, TI_BLOCK);
        owned = ti_group_sum(owned, room, TI_BLOCK);
        if (threadIdx.x > 0) continue;
        if (reduction == TERN_REDUCE_MEAN && e.by_class)
            sum -= owned * (gy[0] / mass * e.at.total[0] / mass);
        dweight[k] = sum;
    }
}

/* ---- Host ---- */

static int64_t pieces_of(int64_t places)
{
    const int64_t n = places / (4 * TI_BLOCK) + 1;

    return n > 256 ? 256 : n;
}

/* The inputs and the scratch of a call, and what both ops begin with. */
template <class T> static entropy<T> begin(const ti_work *w)
{
    const tern_cross_entropy_opts &o = ti_opts<tern_cross_entropy_opts>(w);
    entropy<T> e;

    e.r = ti_runs_of(w->in[0].m.shape, 1);
    e.x = ti_at<const T>(w->in[0]);
    e.by_class = (TI_INDICES >> w->in[1].m.type & 1) != 0;
    e.target = e.by_class ? NULL : ti_at<const T>(w->in[1]);
    e.classes = ti_indices_of(w, w->in[1]);
    e.weight = w->in[2].count >= 0 ? ti_at<const T>(w->in[2]) : NULL;
    e.has_ignore = o.has_ignore != 0;
    e.ignore = o.ignore;
    e.smoothing = o.smoothing;
    const int64_t n = e.r.count, pieces = pieces_of(n);
    T *room = (T *)w->scratch;
    e.at = places<T>{room,
                     room + n,
                     room + 2 * n,
                     room + 3 * n,
                     room + 4 * n,
                     room + 5 * n,
                     room + 5 * n + 2 * pieces};
    const cudaStream_t stream = ti_cuda_stream(w);
    TI_LAUNCH(places_kernel<T>, ti_runs_grid(e.r), TI_BLOCK, 0, stream, e);
    TI_LAUNCH(sums_kernel<T>, (unsigned)pieces, TI_BLOCK, 0, stream, n, e.at.pieces,
              (const T *)e.at.loss, (const T *)e.at.weight, (int64_t)1);
    TI_LAUNCH(sums_kernel<T>, 1, TI_BLOCK, 0, stream, pieces, e.at.total, (const T *)e.at.pieces,
              (const T *)e.at.pieces + 1, (int64_t)2);
    return e;
}

static size_t scratch(const ti_work *w)
{
    const ti_runs r = ti_runs_of(w->in[0].m.shape, 1);

    return (size_t)(5 * r.count + 2 * pieces_of(r.count) + 2) * tern_type_size(w->in[0].m.type);
}

template <class T> static void cross_entropy_as(const ti_work *w)
{
    const entropy<T> e = begin<T>(w);
    const int reduction = ti_opts<tern_cross_entropy_opts>(w).reduction;

    TI_LAUNCH(result_kernel<T>, reduction == TERN_REDUCE_NONE ? ti_grid(e.r.count) : 1, TI_BLOCK, 0,
              ti_cuda_stream(w), e, reduction, ti_at<T>(w->out[0]));
    ti_launched(w);
}
TI_FLOAT_ROW(cross_entropy, w->in[0])

static void zero(const ti_work *w, const ti_view &v)
{
    ti_cuda_check(
        w->device,
        cudaMemsetAsync(v.data, 0, (size_t)v.count * tern_type_size(v.m.type), ti_cuda_stream(w)),
        w->op->name);
}

template <class T> static void cross_entropy_d_as(const ti_work *w)
{
    const entropy<T> e = begin<T>(w);
    const int reduction = ti_opts<tern_cross_entropy_opts>(w).reduction;
    const cudaStream_t stream = ti_cuda_stream(w);
    const T *gy = ti_at<const T>(w->in[3]);
    T *dx = w->out[0].count > 0 ? ti_at<T>(w->out[0]) : NULL;
    T *dtarget = w->out[1].count > 0 && !e.by_class ? ti_at<T>(w->out[1]) : NULL;

    if (dx || dtarget)
        TI_LAUNCH(elements_kernel<T>, ti_grid(e.r.count * e.r.n), TI_BLOCK, 0, stream, e, reduction,
                  gy, dx, dtarget);
    if (w->out[1].count > 0 && e.by_class) zero(w, w->out[1]);
    if (w->out[2].count > 0 && e.weight)
        TI_LAUNCH(weights_kernel<T>, (unsigned)(e.r.n < 1 << 20 ? e.r.n : 1 << 20), TI_BLOCK, 0,
                  stream, e, reduction, gy, ti_at<T>(w->out[2]));
    else if (w->out[2].count > 0) zero(w, w->out[2]);
    ti_launched(w);
}
TI_FLOAT_ROW(cross_entropy_d, w->in[0])

/* Along the classes, then over the places. */
static double chain(const ti_work *w)
{
    const ti_runs r = ti_runs_of(w->in[0].m.shape, 1);

    return ti_runs_chain(r) + (double)(r.count / (pieces_of(r.count) * TI_BLOCK)) + 20;
}
static double chain_d(const ti_work *w)
{
    const ti_runs r = ti_runs_of(w->in[0].m.shape, 1);

    return ti_runs_chain(r) + (double)(r.count / TI_BLOCK) + 20;
}

#define ROW(name, chain_)                                                                          \
    {                                                                                              \
        .op = #name, .impl = "tree", .cost = ti_moved_cost,                                        \
        .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR}, .scratch = scratch,      \
        .run = name, .chain = chain_, .numbers = TI_REORDERED                                      \
    }
TI_KERNELS(ti_cuda_cross_entropy) = {
    ROW(cross_entropy, chain), ROW(cross_entropy_d, chain_d), {.op = NULL}};
