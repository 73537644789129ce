/*
 * layer_norm.cu - layer normalisation: x as [groups, n], a group the trailing axes.
 *
 *   mean = <x>, var = <(x - mean)^2>, inv = 1 / sqrt(var + eps), h = (x - mean) inv
 *   y = gamma h + beta
 *   dx = inv (q - <q> - h <q h>), q = gamma g;   dgamma = sum g h;   dbeta = sum g
 *
 * `lanes` threads a group, twice over it for the statistics, sums by a tree over the lanes. dgamma
 * and dbeta: a thread a column of a piece of the groups, then the pieces in order. By the shape
 * only.
 */
#include "runs.cuh"

typedef struct {
    ti_runs r;
    double eps;
    int64_t pieces, each;
} layers;

static layers layers_of(const ti_work *w)
{
    const tern_layer_norm_opts &o = ti_opts<tern_layer_norm_opts>(w);
    const tern_shape &s = w->in[0].m.shape;
    tern_shape flat;
    layers l;

    memset(&flat, 0, sizeof flat);
    flat.rank = 2;
    flat.dim[0] = flat.dim[1] = 1;
    for (int a = 0; a < s.rank; a++) flat.dim[a < s.rank - o.axes ? 0 : 1] *= s.dim[a];
    l.r = ti_runs_of(flat, 1);
    l.eps = o.eps;
    l.pieces = (l.r.count + 31) / 32;
    if (l.pieces > 128) l.pieces = 128;
    if (l.pieces < 1) l.pieces = 1;
    l.each = (l.r.count + l.pieces - 1) / l.pieces;
    if (l.each > 0) l.pieces = (l.r.count + l.each - 1) / l.each;
    return l;
}

/* Mean and 1/deviation of the first n values of x's run. All threads of the block call it. */
template <class T>
static inline __device__ void moments(const layers &l, const T *x, int64_t n, T *room, T *mean,
                                      T *inv)
{
    const int lane = (int)threadIdx.x & (l.r.lanes - 1);
    T sum = T(0), squares = T(0);

    for (int64_t k = lane; k < n; k += l.r.lanes) sum += x[k];
    const T m = ti_group_sum(sum, room, l.r.lanes) / T(l.r.n);
    for (int64_t k = lane; k < n; k += l.r.lanes) squares += (x[k] - m) * (x[k] - m);
    *inv = ti_rsqrt(ti_group_sum(squares, room, l.r.lanes) / T(l.r.n) + T(l.eps));
    *mean = m;
}

template <class T>
static __global__ void layer_kernel(const layers l, T *y, T *mean, T *inv, const T *x,
                                    const T *gamma, const T *beta)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const ti_runs &r = l.r;
    const int lane = (int)threadIdx.x & (r.lanes - 1);

    for (int64_t i0 = ti_first_run(r); i0 < r.count; i0 += ti_runs_step(r)) {
        const int64_t i = i0 + threadIdx.x / r.lanes, at = i * r.n, n = i < r.count ? r.n : 0;
        T m, by;

        moments(l, x + at, n, room, &m, &by);
        for (int64_t k = lane; k < n && y; k += r.lanes) {
            const T h = (x[at + k] - m) * by * (gamma ? gamma[k] : T(1));
            y[at + k] = beta ? h + beta[k] : h;
        }
        if (n == 0 || lane > 0) continue;
        if (mean) mean[i] = m;
        if (inv) inv[i] = by;
    }
}

template <class T> static T *or_null(const ti_view &v) { return v.count >= 0 ? ti_at<T>(v) : NULL; }

template <class T> static void layer_norm_as(const ti_work *w)
{
    const layers l = layers_of(w);

    TI_LAUNCH(layer_kernel<T>, ti_runs_grid(l.r), TI_BLOCK, 0, ti_cuda_stream(w), l,
              or_null<T>(w->out[0]), or_null<T>(w->out[1]), or_null<T>(w->out[2]),
              ti_at<const T>(w->in[0]), or_null<const T>(w->in[1]), or_null<const T>(w->in[2]));
    ti_launched(w);
}
TI_FLOAT_ROW(layer_norm, w->in[0])

/* ---- layer_norm_d: x gamma beta gy [mean inv] ---- */

/* Statistics are left in mean and inv, and given there if `given`. */
template <class T>
static __global__ void layer_dx_kernel(const layers l, bool given, T *dx, T *mean, T *inv,
                                       const T *x, const T *gamma, const T *g)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const ti_runs &r = l.r;
    const int lane = (int)threadIdx.x & (r.lanes - 1);

    for (int64_t i0 = ti_first_run(r); i0 < r.count; i0 += ti_runs_step(r)) {
        const int64_t i = i0 + threadIdx.x / r.lanes, at = i * r.n, n = i < r.count ? r.n : 0;
        T m = T(0), by = T(0), sum_q = T(0), sum_qh = T(0);

        if (!given) moments(l, x + at, n, room, &m, &by);
        else if (n) {
            m = mean[i];
            by = inv[i];
        }
        for (int64_t k = lane; k < n; k += r.lanes) {
            const T q = gamma ? g[at + k] * gamma[k] : g[at + k];

            sum_q += q;
            sum_qh += q * ((x[at + k] - m) * by);
        }
        sum_q = ti_group_sum(sum_q, room, r.lanes) / T(r.n);
        sum_qh = ti_group_sum(sum_qh, room, r.lanes) / T(r.n);
        for (int64_t k = lane; k < n && dx; k += r.lanes) {
            const T q = gamma ? g[at + k] * gamma[k] : g[at + k];

            dx[at + k] = by * (q - sum_q - (x[at + k] - m) * by * sum_qh);
        }
        if (given || n == 0 || lane > 0) continue;
        mean[i] = m;
        inv[i] = by;
    }
}

/* to: sums of g h, then of g, [pieces, n] each. */
template <class T>
static __global__ void layer_pieces_kernel(const layers l, T *to, const T *x, const T *g,
                                           const T *mean, const T *inv)
{
    const int64_t n = l.r.n;

    for (int64_t i = ti_first(); i < l.pieces * n; i += ti_step()) {
        const int64_t k = i % n, from = i / n * l.each;
        const int64_t end = from + l.each < l.r.count ? from + l.each : l.r.count;
        T sum_gh = T(0), sum_g = T(0);

        for (int64_t j = from; j < end; j++) {
            sum_gh += g[j * n + k] * ((x[j * n + k] - mean[j]) * inv[j]);
            sum_g += g[j * n + k];
        }
        to[i] = sum_gh;
        to[l.pieces * n + i] = sum_g;
    }
}

/* has: whether gamma and beta are there; the derivatives of what is not are 0. */
template <class T>
static __global__ void layer_together_kernel(const layers l, const T *from, T *dgamma, T *dbeta,
                                             bool has_gamma, bool has_beta)
{
    for (int64_t k = ti_first(); k < l.r.n; k += ti_step()) {
        T sum_gh = T(0), sum_g = T(0);

        for (int64_t p = 0; p < l.pieces; p++) {
            sum_gh += from[p * l.r.n + k];
            sum_g += from[(l.pieces + p) * l.r.n + k];
        }
        if (dgamma) dgamma[k] = has_gamma ? sum_gh : T(0);
        if (dbeta) dbeta[k] = has_beta ? sum_g : T(0);
    }
}

template <class T> static void layer_norm_d_as(const ti_work *w)
{
    const layers l = layers_of(w);
    const bool given = w->in[4].count >= 0 && w->in[5].count >= 0;
    const T *x = ti_at<const T>(w->in[0]), *g = ti_at<const T>(w->in[3]);
    T *room = (T *)w->scratch, *own = room + 2 * l.pieces * l.r.n;
    T *mean = given ? ti_at<T>(w->in[4]) : own, *inv = given ? ti_at<T>(w->in[5]) : own + l.r.count;
    const cudaStream_t stream = ti_cuda_stream(w);

    TI_LAUNCH(layer_dx_kernel<T>, ti_runs_grid(l.r), TI_BLOCK, 0, stream, l, given,
              or_null<T>(w->out[0]), mean, inv, x, or_null<const T>(w->in[1]), g);
    if (w->out[1].count > 0 || w->out[2].count > 0) {
        TI_LAUNCH(layer_pieces_kernel<T>, ti_grid(l.pieces * l.r.n), TI_BLOCK, 0, stream, l, room,
                  x, g, (const T *)mean, (const T *)inv);
        TI_LAUNCH(layer_together_kernel<T>, ti_grid(l.r.n), TI_BLOCK, 0, stream, l, (const T *)room,
                  or_null<T>(w->out[1]), or_null<T>(w->out[2]), w->in[1].count >= 0,
                  w->in[2].count >= 0);
    }
    ti_launched(w);
}
TI_FLOAT_ROW(layer_norm_d, w->in[0])

/* ---- Rows ---- */

static size_t d_scratch(const ti_work *w)
{
    const layers l = layers_of(w);

    return (size_t)(2 * l.pieces * l.r.n + 2 * l.r.count) * tern_type_size(w->in[0].m.type);
}
static double chain(const ti_work *w) { return ti_runs_chain(layers_of(w).r); }
static double d_chain(const ti_work *w)
{
    const layers l = layers_of(w);
    const double rows = (double)(l.each + l.pieces), along = ti_runs_chain(l.r);

    return rows > along ? rows : along;
}

#define ROW(name, scratch_, chain_)                                                                \
    {                                                                                              \
        .op = #name, .impl = "tree", .cost = ti_moved_cost,                                        \
        .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR,                                         \
                 TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR},                                        \
        .scratch = scratch_, .run = name, .chain = chain_, .numbers = TI_REORDERED                 \
    }
TI_KERNELS(ti_cuda_layer_norm) = {
    ROW(layer_norm, NULL, chain), ROW(layer_norm_d, d_scratch, d_chain), {.op = NULL}};
