/*
 * conv.cuh - the five operations of convolution around a way to compute y, dx and dw
 * (conv_tiled.cuh, depthwise.cu, conv_tensor.cuh): geometry, what conv2d_act_d does besides, rows.
 * And the two of fully connected layers, which are convolutions of images of one place.
 *
 * A way is a struct of static functions, each with its elements of scratch and its chain of sums:
 *   y(w, d, y, x, f, bias, act, room), dx(w, d, dx, g, f, room), dw(w, d, dw, x, g, room)
 * Images lie channels-last, filters row-major; dw either way. Its numbers are ti_as_is, or a
 * format of mma.cuh: then it rounds the operands, and there is no f64. Its layer is one of those
 * below.
 */
#ifndef TI_CUDA_CONV_CUH
#define TI_CUDA_CONV_CUH

#include <limits.h>
#include <string.h>

#include "columns.cuh"

typedef struct {
    int64_t N, C, H, W, K, R, S, P, Q, G;
    int stride[2], pad[2], dilation[2];
} ti_geometry;

static ti_geometry ti_geometry_of(const ti_view &x, const ti_view &w, const ti_view &y,
                                  const int *stride, const int *pad, const int *dilation,
                                  int groups)
{
    const int64_t *X = x.m.shape.dim, *F = w.m.shape.dim, *Y = y.m.shape.dim;

    return ti_geometry{X[0],
                       X[1],
                       X[2],
                       X[3],
                       F[0],
                       F[2],
                       F[3],
                       Y[2],
                       Y[3],
                       groups,
                       {stride[0], stride[1]},
                       {pad[0], pad[1]},
                       {dilation[0], dilation[1]}};
}

/* Everything that the kernels hold in 32 bits, with room for the sums of two. */
static inline const char *ti_windows_reject(const ti_geometry &d)
{
    const int64_t most = INT_MAX / 4, all[] = {d.C, d.H, d.W, d.K, d.R, d.S, d.P, d.Q};

    for (int i = 0; i < 8; i++)
        if (all[i] > most) return "an extent needs more than 30 bits";
    for (int a = 0; a < 2; a++)
        if ((a ? d.Q : d.P) * d.stride[a] > most || d.pad[a] > most ||
            (a ? d.S : d.R) * d.dilation[a] > most)
            return "windows reach farther than 30 bits";
    return NULL;
}

/* ---- conv2d, conv2d_dx, conv2d_dw ---- */

static ti_geometry ti_plain(const ti_work *w, const ti_view &x, const ti_view &f, const ti_view &y)
{
    const tern_conv2d_opts &o = ti_opts<tern_conv2d_opts>(w);

    return ti_geometry_of(x, f, y, o.stride, o.pad, o.dilation, o.groups);
}
static ti_geometry ti_of_y(const ti_work *w) { return ti_plain(w, w->in[0], w->in[1], w->out[0]); }
static ti_geometry ti_of_dx(const ti_work *w) { return ti_plain(w, w->out[0], w->in[1], w->in[0]); }
static ti_geometry ti_of_dw(const ti_work *w) { return ti_plain(w, w->in[0], w->out[0], w->in[1]); }

template <class Way, class T> static void ti_conv_y(const ti_work *w)
{
    Way::y(w, ti_of_y(w), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), ti_at<const T>(w->in[1]),
           (const T *)NULL, TERN_ACT_NONE, (T *)w->scratch);
}
template <class Way, class T> static void ti_conv_dx(const ti_work *w)
{
    Way::dx(w, ti_of_dx(w), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), ti_at<const T>(w->in[1]),
            (T *)w->scratch);
}
template <class Way, class T> static void ti_conv_dw(const ti_work *w)
{
    Way::dw(w, ti_of_dw(w), w->out[0], ti_at<const T>(w->in[0]), ti_at<const T>(w->in[1]),
            (T *)w->scratch);
}

/* ---- Layers with an activation, and their derivatives ----
 *
 * A layer says what convolution it is, from a view of its result or of a cotangent of that, and
 * whether windows may be larger than one place. */

struct ti_conv_layer {
    enum { WINDOWS = 1 };
    static ti_geometry of(const ti_work *w, const ti_view &y)
    {
        const tern_conv2d_act_opts &o = ti_opts<tern_conv2d_act_opts>(w);

        return ti_geometry_of(w->in[0], w->in[1], y, o.stride, o.pad, o.dilation, o.groups);
    }
    static int act(const ti_work *w) { return ti_opts<tern_conv2d_act_opts>(w).act; }
};

/* A fully connected layer: images of one place, as many as x has rows. */
struct ti_linear_layer {
    enum { WINDOWS = 0 };
    static ti_geometry of(const ti_work *w, const ti_view &y)
    {
        const int64_t *f = w->in[1].m.shape.dim, rows = f[0] > 0 ? y.count / f[0] : 0;

        return ti_geometry{rows, f[1], 1, 1, f[0], 1, 1, 1, 1, 1, {1, 1}, {0, 0}, {1, 1}};
    }
    static int act(const ti_work *w) { return ti_opts<tern_linear_opts>(w).act; }
};

template <class Way> static ti_geometry ti_of_act(const ti_work *w)
{
    return Way::layer::of(w, w->out[0]);
}
template <class Way> static ti_geometry ti_of_act_d(const ti_work *w)
{
    return Way::layer::of(w, w->in[3]);
}

template <class T> static const T *ti_bias_of(const ti_work *w)
{
    return w->in[2].count >= 0 ? ti_at<const T>(w->in[2]) : NULL;
}

template <class Way, class T> static void ti_act(const ti_work *w)
{
    Way::y(w, ti_of_act<Way>(w), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
           ti_at<const T>(w->in[1]), ti_bias_of<T>(w), Way::layer::act(w), (T *)w->scratch);
}

/* Scratch: room for the products and sums, then h = gy act'(y). Without an activation h may be gy,
 * and y does not matter. */
typedef struct {
    ti_geometry d;
    ti_columns db;
    bool makes_y, makes_h;
    int64_t h, room;
    double chain;
} ti_layer_backward;

template <class Way> static ti_layer_backward ti_layer_backward_of(const ti_work *w)
{
    const ti_geometry d = ti_of_act_d<Way>(w);
    const bool acts = Way::layer::act(w) != TERN_ACT_NONE, makes_h = acts || Way::numbers::ROUNDS;
    ti_layer_backward b = {d,
                           ti_columns_of(d.N * d.P * d.Q, d.K),
                           acts && w->in[4].count < 0,
                           makes_h,
                           0,
                           ti_columns_scratch(ti_columns_of(d.N * d.P * d.Q, d.K)),
                           0};
    const int64_t room[] = {Way::y_room(d), Way::dx_room(d), Way::dw_room(d)};
    const double chain[] = {Way::y_chain(d), Way::dx_chain(d), Way::dw_chain(d)};

    b.chain = ti_columns_chain(b.db);
    b.h = makes_h ? d.N * d.P * d.Q * d.K : 0;
    for (int i = b.makes_y ? 0 : 1; i < 3; i++) {
        b.room = room[i] > b.room ? room[i] : b.room;
        b.chain = chain[i] > b.chain ? chain[i] : b.chain;
    }
    return b;
}

template <class Way, class T> static void ti_act_d(const ti_work *w)
{
    const ti_layer_backward b = ti_layer_backward_of<Way>(w);
    const T *x = ti_at<const T>(w->in[0]), *f = ti_at<const T>(w->in[1]);
    const T *gy = ti_at<const T>(w->in[3]), *from = gy;
    T *room = (T *)w->scratch, *h = room + b.room;
    const T *y = b.makes_y ? h : w->in[4].count >= 0 ? ti_at<const T>(w->in[4]) : gy;
    const cudaStream_t stream = ti_cuda_stream(w);
    if (b.makes_y) Way::y(w, b.d, h, x, f, ti_bias_of<T>(w), Way::layer::act(w), room);
    if (b.makes_h) {
        TI_LAUNCH((ti_back_kernel<T, typename Way::numbers>), ti_grid(b.h), TI_BLOCK, 0, stream,
                  Way::layer::act(w), b.h, h, y, gy);
        from = h;
    }
    if (w->out[0].count > 0) Way::dx(w, b.d, ti_at<T>(w->out[0]), from, f, room);
    if (w->out[1].count > 0) Way::dw(w, b.d, w->out[1], x, from, room);
    if (w->out[2].count > 0 && w->in[2].count >= 0)
        ti_column_sums(w, ti_at<T>(w->out[2]), from, b.db, room);
    else if (w->out[2].count > 0)
        ti_cuda_check(w->device,
                      cudaMemsetAsync(w->out[2].data, 0, (size_t)b.d.K * sizeof(T), stream),
                      w->op->name);
    ti_launched(w);
}

/* ---- Rows ---- */

template <class Way> static size_t ti_act_d_scratch(const ti_work *w)
{
    const ti_layer_backward b = ti_layer_backward_of<Way>(w);

    return (size_t)(b.room + b.h) * tern_type_size(w->in[0].m.type);
}
template <class Way> static double ti_act_d_chain(const ti_work *w)
{
    return ti_layer_backward_of<Way>(w).chain + 2;
}

/* Of one operation around a way: run, reject, and, but for act_d, scratch and chain. */
#define TI_CONV_RUN(name)                                                                          \
    template <class Way> static void ti_##name##_run(const ti_work *w)                             \
    {                                                                                              \
        if constexpr (Way::numbers::ROUNDS) ti_##name<Way, float>(w);                              \
        else if (ti_is(w->in[0], TERN_F32)) ti_##name<Way, float>(w);                              \
        else ti_##name<Way, double>(w);                                                            \
    }
#define TI_CONV(name, of, what)                                                                    \
    TI_CONV_RUN(name)                                                                              \
    template <class Way> static const char *ti_##name##_rejects(const ti_work *w)                  \
    {                                                                                              \
        return Way::rejects(w, of(w));                                                             \
    }                                                                                              \
    template <class Way> static size_t ti_##name##_scratch(const ti_work *w)                       \
    {                                                                                              \
        return (size_t)Way::what##_room(of(w)) * tern_type_size(w->in[0].m.type);                  \
    }                                                                                              \
    template <class Way> static double ti_##name##_chain(const ti_work *w)                         \
    {                                                                                              \
        return Way::what##_chain(of(w)) + 2;                                                       \
    }

TI_CONV(conv_y, ti_of_y, y)
TI_CONV(conv_dx, ti_of_dx, dx)
TI_CONV(conv_dw, ti_of_dw, dw)
TI_CONV(act, ti_of_act<Way>, y)
TI_CONV_RUN(act_d)
#undef TI_CONV
#undef TI_CONV_RUN

/* h must be numbers of the math mode: 0 or those of gy. */
template <class Way> static const char *ti_act_d_rejects(const ti_work *w)
{
    const int act = Way::layer::act(w);

    if (Way::numbers::ROUNDS && act != TERN_ACT_NONE && act != TERN_RELU)
        return "would round what arrives behind this activation";
    return Way::rejects(w, ti_of_act_d<Way>(w));
}

#define TI_CONV_ROW(op_, impl_, name, Way, class_, cost_, ...)                                     \
    {                                                                                              \
        .op = op_, .impl = impl_, .reject = ti_##name##_rejects<Way>, .cost = cost_,               \
        .want = {__VA_ARGS__}, .scratch = ti_##name##_scratch<Way>, .run = ti_##name##_run<Way>,   \
        .chain = ti_##name##_chain<Way>, .numbers = class_                                         \
    }
#define TI_CONV_ROWS(impl, Way, class_, cost)                                                      \
    TI_CONV_ROW("conv2d", impl, conv_y, Way, class_, cost, TI_CHANNELS_LAST, TI_ROW_MAJOR),        \
        TI_CONV_ROW("conv2d_dx", impl, conv_dx, Way, class_, cost, TI_CHANNELS_LAST,               \
                    TI_ROW_MAJOR),                                                                 \
        TI_CONV_ROW("conv2d_dw", impl, conv_dw, Way, class_, cost, TI_CHANNELS_LAST,               \
                    TI_CHANNELS_LAST),                                                             \
        TI_CONV_ROW("conv2d_act", impl, act, Way, class_, cost, TI_CHANNELS_LAST, TI_ROW_MAJOR,    \
                    TI_ROW_MAJOR),                                                                 \
        TI_CONV_ROW("conv2d_act_d", impl, act_d, Way, class_, cost, TI_CHANNELS_LAST,              \
                    TI_ROW_MAJOR, TI_ROW_MAJOR, TI_CHANNELS_LAST, TI_CHANNELS_LAST)
#define TI_LINEAR_ROWS(impl, Way, class_, cost)                                                    \
    TI_CONV_ROW("linear_act", impl, act, Way, class_, cost, TI_ROW_MAJOR, TI_ROW_MAJOR,            \
                TI_ROW_MAJOR),                                                                     \
        TI_CONV_ROW("linear_act_d", impl, act_d, Way, class_, cost, TI_ROW_MAJOR, TI_ROW_MAJOR,    \
                    TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR)

#endif
