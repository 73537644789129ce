/*
 * norm.cu - batch normalisation over channels-last x, seen as [rows, C].
 *
 *   mean = <x>, var = <(x - mean)^2>, inv = 1 / sqrt(var + eps), h = (x - mean) inv
 *   y = gamma h + beta
 *   dx = gamma inv (g - <g> - h <g h>)   dgamma = sum g h   dbeta = sum g
 *
 * bn_add_act adds r to y and cuts at 0; in its derivative g is (g + g2) where y is above 0.
 *
 * A thread takes a piece of a channel's rows: their sum, then, while they are in the cache, the
 * squares of the differences from the piece's own mean. A second kernel, a thread a channel, puts
 * the pieces together (Chan, Golub, LeVeque 1979) in order; then all elements are visited once
 * more. The derivative does the same with g and g h. Scratch: the pieces, then mean and inv of each
 * channel.
 */
#include "math.cuh"
#include "nest.cuh"

typedef struct {
    int64_t rows, C, pieces, each;
} channels;

static channels channels_of(const ti_work *w)
{
    const int64_t C = w->in[0].m.shape.dim[1];
    channels s = {C > 0 ? w->in[0].count / C : 0, C, 1, 0};

    s.pieces = (s.rows + 63) / 64;
    if (s.pieces > 128) s.pieces = 128;
    if (s.pieces < 1) s.pieces = 1;
    s.each = (s.rows + s.pieces - 1) / s.pieces;
    if (s.each > 0) s.pieces = (s.rows + s.each - 1) / s.each;
    return s;
}
static inline __device__ int64_t end_of(const channels &s, int64_t piece)
{
    const int64_t end = (piece + 1) * s.each;

    return end < s.rows ? end : s.rows;
}

/* to: means, then squares, [pieces, C] each. */
template <class T> static __global__ void pieces_kernel(const channels s, T *to, const T *x)
{
    for (int64_t i = ti_first(); i < s.pieces * s.C; i += ti_step()) {
        const int64_t c = i % s.C, from = i / s.C * s.each, end = end_of(s, i / s.C);
        T sum = T(0), squares = T(0);

        for (int64_t r = from; r < end; r++) sum += x[r * s.C + c];
        const T mean = sum / T(end - from);
        for (int64_t r = from; r < end; r++) {
            const T d = x[r * s.C + c] - mean;
            squares += d * d;
        }
        to[i] = mean;
        to[s.pieces * s.C + i] = squares;
    }
}

template <class T> struct statistics {
    T *mean, *inv;               /* always */
    T *new_mean, *new_var;       /* NULL: not wanted */
    const T *old_mean, *old_var; /* NULL where those are */
};

template <class T>
static __global__ void together_kernel(const channels s, const tern_batch_norm_opts o,
                                       const T *from, const statistics<T> to)
{
    for (int64_t c = ti_first(); c < s.C; c += ti_step()) {
        T mean = T(0), squares = T(0);

        for (int64_t p = 0; p < s.pieces; p++)
            mean += from[p * s.C + c] * T(end_of(s, p) - p * s.each);
        mean /= T(s.rows);
        for (int64_t p = 0; p < s.pieces; p++) {
            const T d = from[p * s.C + c] - mean;
            squares += from[(s.pieces + p) * s.C + c] + d * d * T(end_of(s, p) - p * s.each);
        }
        const T var = squares / T(s.rows), keep = T(1 - o.momentum), take = T(o.momentum);
        to.mean[c] = mean;
        to.inv[c] = ti_rsqrt(var + T(o.eps));
        if (to.new_mean) to.new_mean[c] = keep * to.old_mean[c] + take * mean;
        if (to.new_var) to.new_var[c] = keep * to.old_var[c] + take * (squares / T(s.rows - 1));
    }
}

template <class T>
static __global__ void apply_kernel(const channels s, T *y, const T *x, const T *mean, const T *inv,
                                    const T *gamma, const T *beta, const T *r, int act)
{
    for (int64_t i = ti_first(); i < s.rows * s.C; i += ti_step()) {
        const int64_t c = i % s.C;
        const T z = (x[i] - mean[c]) * inv[c] * gamma[c] + beta[c];

        y[i] = ti_act_of(act, r ? z + r[i] : z);
    }
}

/* Statistics of x into `to`, by `room` for the pieces. */
template <class T>
static void measure(const ti_work *w, const channels &s, const tern_batch_norm_opts &o, T *room,
                    const statistics<T> &to)
{
    const cudaStream_t stream = ti_cuda_stream(w);

    TI_LAUNCH(pieces_kernel<T>, ti_grid(s.pieces * s.C), TI_BLOCK, 0, stream, s, room,
              ti_at<const T>(w->in[0]));
    TI_LAUNCH(together_kernel<T>, ti_grid(s.C), TI_BLOCK, 0, stream, s, o, (const T *)room, to);
    ti_launched(w);
}

template <class T> static T *wanted(const ti_view &v, T *otherwise)
{
    return v.count >= 0 ? ti_at<T>(v) : otherwise;
}

/* mean, var: the running statistics. */
template <class T>
static void forward(const ti_work *w, const tern_batch_norm_opts &o, const T *r, int act,
                    const ti_view &mean, const ti_view &var)
{
    const channels s = channels_of(w);
    T *room = (T *)w->scratch, *own = room + 2 * s.pieces * s.C;
    const statistics<T> to = {wanted(w->out[3], own),     wanted(w->out[4], own + s.C),
                              wanted<T>(w->out[1], NULL), wanted<T>(w->out[2], NULL),
                              ti_at<const T>(mean),       ti_at<const T>(var)};

    measure(w, s, o, room, to);
    if (w->out[0].count > 0)
        TI_LAUNCH(apply_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w), s,
                  ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), (const T *)to.mean,
                  (const T *)to.inv, ti_at<const T>(w->in[1]), ti_at<const T>(w->in[2]), r, act);
    ti_launched(w);
}

template <class T> static void batch_norm_as(const ti_work *w)
{
    forward<T>(w, ti_opts<tern_batch_norm_opts>(w), NULL, TERN_ACT_NONE, w->in[3], w->in[4]);
}
TI_FLOAT_ROW(batch_norm, w->in[0])

static tern_batch_norm_opts norm_opts(const ti_work *w)
{
    const tern_bn_add_act_opts o = ti_opts<tern_bn_add_act_opts>(w);

    return tern_batch_norm_opts{1, 1, o.eps, o.momentum};
}

template <class T> static void bn_add_act_as(const ti_work *w)
{
    const T *r = w->in[3].count >= 0 ? ti_at<const T>(w->in[3]) : NULL;

    forward<T>(w, norm_opts(w), r, ti_opts<tern_bn_add_act_opts>(w).act, w->in[4], w->in[5]);
}
TI_FLOAT_ROW(bn_add_act, w->in[0])

/* ---- batch_norm_d: x gamma beta - - gy [mean inv] ---- */

template <class T> struct cotangent {
    const T *g, *g2, *y; /* g2, y: NULL without */
    T *dr;               /* NULL: not wanted */
};
template <class T> static inline __device__ T at(const cotangent<T> &q, int64_t i)
{
    const T g = q.g2 ? q.g[i] + q.g2[i] : q.g[i];

    return !q.y || q.y[i] > 0 ? g : T(0);
}

/* to: sums of g, then of g h, [pieces, C] each. */
template <class T>
static __global__ void d_pieces_kernel(const channels s, T *to, const T *x, const cotangent<T> q,
                                       const T *mean, const T *inv)
{
    for (int64_t i = ti_first(); i < s.pieces * s.C; i += ti_step()) {
        const int64_t c = i % s.C, from = i / s.C * s.each, end = end_of(s, i / s.C);
        const T m = mean[c], by = inv[c];
        T sum_g = T(0), sum_gh = T(0);

        for (int64_t r = from; r < end; r++) {
            const T g = at(q, r * s.C + c);

            if (q.dr) q.dr[r * s.C + c] = g;
            sum_g += g;
            sum_gh += g * ((x[r * s.C + c] - m) * by);
        }
        to[i] = sum_g;
        to[s.pieces * s.C + i] = sum_gh;
    }
}

/* Sums of a channel: to[c] of g, to[C + c] of g h. */
template <class T>
static __global__ void d_together_kernel(const channels s, const T *from, T *to, T *dgamma,
                                         T *dbeta)
{
    for (int64_t c = ti_first(); c < s.C; c += ti_step()) {
        T sum_g = T(0), sum_gh = T(0);

        for (int64_t p = 0; p < s.pieces; p++) {
            sum_g += from[p * s.C + c];
            sum_gh += from[(s.pieces + p) * s.C + c];
        }
        to[c] = sum_g;
        to[s.C + c] = sum_gh;
        if (dgamma) dgamma[c] = sum_gh;
        if (dbeta) dbeta[c] = sum_g;
    }
}

template <class T>
static __global__ void dx_kernel(const channels s, T *dx, const T *x, const cotangent<T> q,
                                 const T *mean, const T *inv, const T *gamma, const T *sums)
{
    const T n = T(s.rows);

    for (int64_t i = ti_first(); i < s.rows * s.C; i += ti_step()) {
        const int64_t c = i % s.C;
        const T h = (x[i] - mean[c]) * inv[c];

        dx[i] = gamma[c] * inv[c] * (at(q, i) - sums[c] / n - h * (sums[s.C + c] / n));
    }
}

/* Inputs 6 and 7 are the hints of both ops. */
template <class T>
static void backward(const ti_work *w, const tern_batch_norm_opts &o, cotangent<T> q)
{
    const channels s = channels_of(w);
    const bool given = w->in[6].count >= 0 && w->in[7].count >= 0;
    const T *x = ti_at<const T>(w->in[0]);
    T *room = (T *)w->scratch, *own = room + 2 * s.pieces * s.C, *sums = own + 2 * s.C;
    const T *mean = given ? ti_at<const T>(w->in[6]) : own;
    const T *inv = given ? ti_at<const T>(w->in[7]) : own + s.C;
    const cudaStream_t stream = ti_cuda_stream(w);

    if (!given) measure(w, s, o, room, statistics<T>{own, own + s.C, NULL, NULL, NULL, NULL});
    TI_LAUNCH(d_pieces_kernel<T>, ti_grid(s.pieces * s.C), TI_BLOCK, 0, stream, s, room, x, q, mean,
              inv);
    TI_LAUNCH(d_together_kernel<T>, ti_grid(s.C), TI_BLOCK, 0, stream, s, (const T *)room, sums,
              wanted<T>(w->out[1], NULL), wanted<T>(w->out[2], NULL));
    if (q.dr) q = cotangent<T>{q.dr, NULL, NULL, NULL}; /* it is there now */
    if (w->out[0].count > 0)
        TI_LAUNCH(dx_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, stream, s,
                  ti_at<T>(w->out[0]), x, q, mean, inv, ti_at<const T>(w->in[1]), (const T *)sums);
    ti_launched(w);
}

template <class T> static void batch_norm_d_as(const ti_work *w)
{
    backward<T>(w, ti_opts<tern_batch_norm_opts>(w),
                cotangent<T>{ti_at<const T>(w->in[5]), NULL, NULL, NULL});
}
TI_FLOAT_ROW(batch_norm_d, w->in[0])

/* bn_add_act_d: x gamma beta g g2 y [mean inv] */
template <class T> static void bn_add_act_d_as(const ti_work *w)
{
    const bool relu = ti_opts<tern_bn_add_act_opts>(w).act == TERN_RELU;

    backward<T>(w, norm_opts(w),
                cotangent<T>{ti_at<const T>(w->in[3]),
                             w->in[4].count >= 0 ? ti_at<const T>(w->in[4]) : NULL,
                             relu ? ti_at<const T>(w->in[5]) : NULL,
                             w->out[3].count > 0 ? ti_at<T>(w->out[3]) : NULL});
}
TI_FLOAT_ROW(bn_add_act_d, w->in[0])

/* ---- batch_norm_eval: x gamma beta mean var ---- */

template <class T>
static __global__ void eval_kernel(const channels s, double eps, T *y, const T *x, const T *gamma,
                                   const T *beta, const T *mean, const T *var)
{
    for (int64_t i = ti_first(); i < s.rows * s.C; i += ti_step()) {
        const int64_t c = i % s.C;

        y[i] = (x[i] - mean[c]) * ti_rsqrt(var[c] + T(eps)) * gamma[c] + beta[c];
    }
}

template <class T> static void batch_norm_eval_as(const ti_work *w)
{
    TI_LAUNCH(eval_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              channels_of(w), ti_opts<tern_batch_norm_opts>(w).eps, ti_at<T>(w->out[0]),
              ti_at<const T>(w->in[0]), ti_at<const T>(w->in[1]), ti_at<const T>(w->in[2]),
              ti_at<const T>(w->in[3]), ti_at<const T>(w->in[4]));
    ti_launched(w);
}
TI_FLOAT_ROW(batch_norm_eval, w->in[0])

/* ---- Rows ---- */

static size_t scratch(const ti_work *w)
{
    const channels s = channels_of(w);

    return (size_t)((2 * s.pieces + 4) * s.C) * tern_type_size(w->in[0].m.type);
}
static double chain(const ti_work *w)
{
    const channels s = channels_of(w);

    return (double)(s.each + s.pieces) + 2;
}

#define ROW(name, g_, scratch_, chain_)                                                            \
    {                                                                                              \
        .op = #name, .impl = "pieces", .cost = ti_moved_cost,                                      \
        .want = {TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR,                       \
                 TI_ROW_MAJOR,     g_,           TI_ROW_MAJOR, TI_ROW_MAJOR},                      \
        .scratch = scratch_, .run = name, .chain = chain_, .numbers = TI_REORDERED                 \
    }
/* An element is read before it is written, by the same thread. */
static int on_fourth(int i_out) { return i_out == 0 || i_out == 3 ? 3 : -1; }

#define FUSED(name, fourth, fifth)                                                                 \
    {                                                                                              \
        .op = #name, .impl = "pieces", .cost = ti_moved_cost,                                      \
        .want = {TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_CHANNELS_LAST,                   \
                 fourth,           fifth,        TI_ROW_MAJOR, TI_ROW_MAJOR},                      \
        .may_alias = on_fourth, .scratch = scratch, .run = name, .chain = chain,                   \
        .numbers = TI_REORDERED                                                                    \
    }
TI_KERNELS(ti_cuda_norm) = {
    ROW(batch_norm, TI_ANY_LAYOUT, scratch, chain),
    ROW(batch_norm_d, TI_CHANNELS_LAST, scratch, chain),
    ROW(batch_norm_eval, TI_ANY_LAYOUT, NULL, NULL),
    FUSED(bn_add_act, TI_ROW_MAJOR, TI_ROW_MAJOR),
    FUSED(bn_add_act_d, TI_CHANNELS_LAST, TI_CHANNELS_LAST),
    {.op = NULL},
};
