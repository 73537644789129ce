/*
 * loss.cu - softmax and log-softmax with their derivatives, the mean squared error.
 *
 *   softmax:     p_i = exp(x_i - max) / sum          dx = p (g - <g, p>)
 *   log_softmax: y_i = (x_i - max) - log sum         dx = g - p sum g
 *
 * A group of threads takes one run along the axis: its largest, its sums by a tree over the group,
 * its results. Runs whose values lie apart take a thread each, neighbours beside each other.
 */
#include "runs.cuh"

enum { SOFTMAX, LOG_SOFTMAX, SOFTMAX_D, LOG_SOFTMAX_D };

template <class T>
static __global__ void softmax_kernel(const ti_runs r, int kind, T *y, const T *x, const T *g)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const int lane = (int)threadIdx.x & (r.lanes - 1);

    for (int64_t i0 = ti_first_run(r); i0 < r.count; i0 += ti_runs_step(r)) {
        const int64_t i = i0 + threadIdx.x / r.lanes, at = ti_run_at(r, i);
        const int64_t n = i < r.count ? r.n : 0;
        const T most = ti_run_largest(r, x + at, n, room);
        T sum = T(0), dot = T(0);

        for (int64_t k = lane; k < n; k += r.lanes) {
            const T e = ti_exp(x[at + k * r.step] - most);

            sum += e;
            if (kind == SOFTMAX_D) dot += e * g[at + k * r.step];
            if (kind == LOG_SOFTMAX_D) dot += g[at + k * r.step];
        }
        sum = ti_group_sum(sum, room, r.lanes);
        if (kind >= SOFTMAX_D) dot = ti_group_sum(dot, room, r.lanes);
        if (kind == SOFTMAX_D) dot /= sum;
        const T logs = kind == LOG_SOFTMAX ? ti_log(sum) : T(0);
        for (int64_t k = lane; k < n; k += r.lanes) {
            const int64_t j = at + k * r.step;
            const T z = x[j] - most;

            y[j] = kind == SOFTMAX       ? ti_exp(z) / sum
                   : kind == LOG_SOFTMAX ? z - logs
                   : kind == SOFTMAX_D   ? ti_exp(z) / sum * (g[j] - dot)
                                         : g[j] - ti_exp(z) / sum * dot;
        }
    }
}

static ti_runs along(const ti_work *w)
{
    const int axis = ti_opts<tern_axis_opts>(w).axis;

    return ti_runs_of(w->in[0].m.shape, axis < 0 ? axis + w->in[0].m.shape.rank : axis);
}

template <class T> static void softmax_as(const ti_work *w, int kind)
{
    const ti_runs r = along(w);

    TI_LAUNCH(softmax_kernel<T>, ti_runs_grid(r), TI_BLOCK, 0, ti_cuda_stream(w), r, kind,
              ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
              kind >= SOFTMAX_D ? ti_at<const T>(w->in[1]) : NULL);
    ti_launched(w);
}
static void any_softmax(const ti_work *w, int kind)
{
    if (ti_is(w->in[0], TERN_F32)) softmax_as<float>(w, kind);
    else softmax_as<double>(w, kind);
}
static void softmax(const ti_work *w) { any_softmax(w, SOFTMAX); }
static void log_softmax(const ti_work *w) { any_softmax(w, LOG_SOFTMAX); }
static void softmax_d(const ti_work *w) { any_softmax(w, SOFTMAX_D); }
static void log_softmax_d(const ti_work *w) { any_softmax(w, LOG_SOFTMAX_D); }

static double chain(const ti_work *w) { return ti_runs_chain(along(w)); }

/* ---- Mean squared error ---- */

template <class T> static __global__ void squares_kernel(int64_t n, T *y, const T *a, const T *b)
{
    for (int64_t i = ti_first(); i < n; i += ti_step()) y[i] = (a[i] - b[i]) * (a[i] - b[i]);
}

/* A block a piece. */
template <class T> static __global__ void pieces_kernel(int64_t n, T *to, const T *a, const T *b)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    T sum = T(0);

    for (int64_t i = ti_first(); i < n; i += ti_step()) sum += (a[i] - b[i]) * (a[i] - b[i]);
    sum = ti_group_sum(sum, room, TI_BLOCK);
    if (threadIdx.x == 0) to[blockIdx.x] = sum;
}

/* One block: the pieces' sum, divided by n if n > 0. */
template <class T>
static __global__ void total_kernel(int64_t pieces, T *y, const T *from, double n)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    T sum = T(0);

    for (int64_t i = threadIdx.x; i < pieces; i += TI_BLOCK) sum += from[i];
    sum = ti_group_sum(sum, room, TI_BLOCK);
    if (threadIdx.x == 0) *y = n >= 0 ? sum / T(n) : sum;
}

static int64_t pieces_of(const ti_work *w)
{
    const int64_t n = w->in[0].count / (4 * TI_BLOCK) + 1;

    return n > 256 ? 256 : n;
}

template <class T> static void mse_as(const ti_work *w)
{
    const int reduction = ti_opts<tern_mse_opts>(w).reduction;
    const int64_t n = w->in[0].count, pieces = pieces_of(w);
    const T *a = ti_at<const T>(w->in[0]), *b = ti_at<const T>(w->in[1]);
    const cudaStream_t stream = ti_cuda_stream(w);
    T *room = (T *)w->scratch, *y = ti_at<T>(w->out[0]);

    if (reduction == TERN_REDUCE_NONE) {
        TI_LAUNCH(squares_kernel<T>, ti_grid(n), TI_BLOCK, 0, stream, n, y, a, b);
    } else {
        TI_LAUNCH(pieces_kernel<T>, (unsigned)pieces, TI_BLOCK, 0, stream, n, room, a, b);
        TI_LAUNCH(total_kernel<T>, 1, TI_BLOCK, 0, stream, pieces, y, (const T *)room,
                  reduction == TERN_REDUCE_MEAN ? (double)n : -1.0);
    }
    ti_launched(w);
}
TI_FLOAT_ROW(mse, w->in[0])

static size_t mse_scratch(const ti_work *w)
{
    return (size_t)pieces_of(w) * tern_type_size(w->in[0].m.type);
}
static double mse_chain(const ti_work *w)
{
    return (double)(w->in[0].count / (pieces_of(w) * TI_BLOCK)) + 20;
}

#define ROW(name, scratch_, chain_)                                                                \
    {                                                                                              \
        .op = #name, .impl = "tree", .cost = ti_moved_cost,                                        \
        .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR}, .scratch = scratch_, .run = name,      \
        .chain = chain_, .numbers = TI_REORDERED                                                   \
    }
TI_KERNELS(ti_cuda_loss) = {
    ROW(softmax, NULL, chain),        ROW(softmax_d, NULL, chain),
    ROW(log_softmax, NULL, chain),    ROW(log_softmax_d, NULL, chain),
    ROW(mse, mse_scratch, mse_chain), {.op = NULL},
};
