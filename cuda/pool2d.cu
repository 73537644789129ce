/*
 * pool2d.cu - pools and their adjoints.
 *
 * Window (p, q) covers rows p stride - pad + r dilation, columns likewise. All tensors lie
 * channels-last; one thread an element of the result, neighbours differ in c. An adjoint is
 * gathered: an element of x adds up the windows over it, in order, so nothing is written twice;
 * only max_pool2d_dx, whose indices may be anything, takes a thread a plane.
 */
#include <limits.h>

#include "kernel.cuh"

typedef struct {
    int64_t N, C;
    int size[2], stride[2], pad[2], dilation[2];
    int X[2], Y[2]; /* H, W and P, Q */
    bool inside;    /* averages: only what lies in x counts */
} windows;

static windows windows_of(const ti_work *w, const ti_view &x, const ti_view &y)
{
    const tern_pool2d_opts &o = ti_opts<tern_pool2d_opts>(w);
    windows v = {x.m.shape.dim[0], x.m.shape.dim[1], {0}, {0}, {0}, {0}, {0}, {0}, false};

    for (int a = 0; a < 2; a++) {
        v.size[a] = o.size[a];
        v.stride[a] = o.stride[a] ? o.stride[a] : o.size[a];
        v.pad[a] = o.pad[a];
        v.dilation[a] = o.dilation[a];
        v.X[a] = (int)x.m.shape.dim[2 + a];
        v.Y[a] = (int)y.m.shape.dim[2 + a];
    }
    v.inside = o.exclude_pad != 0;
    return v;
}

/* Element i of a channels-last [N,C,A,B]. */
typedef struct {
    int64_t n, c;
    int a, b;
} spot;
static inline __device__ spot spot_of(int64_t i, int64_t C, const int *extent)
{
    const int64_t nab = i / C, na = nab / extent[1];

    return spot{na / extent[0], i % C, (int)(na % extent[0]), (int)(nab % extent[1])};
}
static inline __device__ int64_t offset(const windows &v, const int *extent, int64_t n, int a,
                                        int b, int64_t c)
{
    return ((n * extent[0] + a) * extent[1] + b) * v.C + c;
}

/* The first of the largest, NaN above all: row W + column, and r S + s in *where. */
template <class T>
static inline __device__ int64_t largest(const windows &v, const T *x, int64_t n, int p, int q,
                                         int64_t c, int64_t *where, T *top)
{
    int64_t best = -1;

    for (int r = 0; r < v.size[0]; r++) {
        const int row = p * v.stride[0] - v.pad[0] + r * v.dilation[0];
        if (row < 0 || row >= v.X[0]) continue;
        for (int s = 0; s < v.size[1]; s++) {
            const int col = q * v.stride[1] - v.pad[1] + s * v.dilation[1];
            if (col < 0 || col >= v.X[1]) continue;
            const T e = x[offset(v, v.X, n, row, col, c)];
            if (best >= 0 && (*top != *top || !(e > *top || e != e))) continue;
            best = (int64_t)row * v.X[1] + col;
            *top = e;
            *where = (int64_t)r * v.size[1] + s;
        }
    }
    return best;
}

template <class T>
static __global__ void max_kernel(const windows v, T *y, int64_t *indices, void *hint, bool narrow,
                                  const T *x)
{
    const int64_t count = v.N * v.C * v.Y[0] * v.Y[1];

    for (int64_t i = ti_first(); i < count; i += ti_step()) {
        const spot at = spot_of(i, v.C, v.Y);
        int64_t where = 0;
        T top = T(0);
        const int64_t best = largest(v, x, at.n, at.a, at.b, at.c, &where, &top);

        if (y) y[i] = top;
        if (indices) indices[i] = best;
        if (hint && narrow) ((uint8_t *)hint)[i] = (uint8_t)where;
        else if (hint) ((int64_t *)hint)[i] = where;
    }
}

/* Calls f(r, s, p, q) for the windows over row a, column b. */
template <class F> static inline __device__ void each_window(const windows &v, int a, int b, F f)
{
    for (int r = 0; r < v.size[0]; r++) {
        const int row = a + v.pad[0] - r * v.dilation[0], p = row / v.stride[0];
        if (row < 0 || row % v.stride[0] || p >= v.Y[0]) continue;
        for (int s = 0; s < v.size[1]; s++) {
            const int col = b + v.pad[1] - s * v.dilation[1], q = col / v.stride[1];
            if (col < 0 || col % v.stride[1] || q >= v.Y[1]) continue;
            f(r, s, p, q);
        }
    }
}

/* x gy [where]: without the hint each window is looked through again. */
template <class T>
static __global__ void max_d_kernel(const windows v, T *dx, const T *x, const T *gy,
                                    const void *hint, bool narrow)
{
    const int64_t count = v.N * v.C * v.X[0] * v.X[1];

    for (int64_t i = ti_first(); i < count; i += ti_step()) {
        const spot at = spot_of(i, v.C, v.X);
        T sum = T(0);

        each_window(v, at.a, at.b, [&](int r, int s, int p, int q) {
            const int64_t j = offset(v, v.Y, at.n, p, q, at.c);
            int64_t where = 0;
            T top = T(0);

            if (!hint) (void)largest(v, x, at.n, p, q, at.c, &where, &top);
            else where = narrow ? ((const uint8_t *)hint)[j] : ((const int64_t *)hint)[j];
            if (where == (int64_t)r * v.size[1] + s) sum += gy[j];
        });
        dx[i] = sum;
    }
}

static bool is_narrow(const ti_view &v) { return v.m.type == TERN_U8; }

template <class T> static void max_pool_as(const ti_work *w)
{
    const ti_view &y = w->out[w->out[0].count >= 0 ? 0 : w->out[1].count >= 0 ? 1 : 2];
    const windows v = windows_of(w, w->in[0], y);

    TI_LAUNCH(max_kernel<T>, ti_grid(y.count), TI_BLOCK, 0, ti_cuda_stream(w), v,
              ti_at<T>(w->out[0]), ti_at<int64_t>(w->out[1]), (void *)w->out[2].data,
              is_narrow(w->out[2]), ti_at<const T>(w->in[0]));
    ti_launched(w);
}
template <class T> static void max_pool_d_as(const ti_work *w)
{
    const windows v = windows_of(w, w->in[0], w->in[1]);

    TI_LAUNCH(max_d_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w), v,
              ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), ti_at<const T>(w->in[1]),
              (const void *)w->in[2].data, is_narrow(w->in[2]));
    ti_launched(w);
}
TI_FLOAT_ROW(max_pool, w->in[0])
TI_FLOAT_ROW(max_pool_d, w->in[0])

/* ---- g and indices; x and indices ---- */

template <class T>
static __global__ void max_dx_kernel(int64_t N, int64_t C, int64_t n_x, int64_t n_y, T *dx,
                                     const T *g, const ti_indices indices)
{
    for (int64_t i = ti_first(); i < N * C; i += ti_step()) {
        const int64_t n = i / C, c = i % C;

        for (int64_t j = 0; j < n_x; j++) dx[(n * n_x + j) * C + c] = T(0);
        for (int64_t j = 0; j < n_y; j++) {
            const int64_t from = (n * n_y + j) * C + c, at = ti_checked(indices, from, n_x);
            if (at >= 0) dx[(n * n_x + at) * C + c] += g[from];
        }
    }
}

template <class T>
static __global__ void max_at_kernel(int64_t N, int64_t C, int64_t n_x, int64_t n_y, T *y,
                                     const T *x, const ti_indices indices)
{
    for (int64_t i = ti_first(); i < N * C * n_y; i += ti_step()) {
        const int64_t n = i / C / n_y, c = i % C, at = ti_checked(indices, i, n_x);

        y[i] = at >= 0 ? x[(n * n_x + at) * C + c] : T(0);
    }
}

template <class T> static void max_pool_dx_as(const ti_work *w)
{
    const int64_t *X = w->out[0].m.shape.dim, *Y = w->in[0].m.shape.dim;

    TI_LAUNCH(max_dx_kernel<T>, ti_grid(X[0] * X[1]), TI_BLOCK, 0, ti_cuda_stream(w), X[0], X[1],
              X[2] * X[3], Y[2] * Y[3], ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
              ti_indices_of(w, w->in[1]));
    ti_launched(w);
}
template <class T> static void max_pool_at_as(const ti_work *w)
{
    const int64_t *X = w->in[0].m.shape.dim, *Y = w->out[0].m.shape.dim;

    TI_LAUNCH(max_at_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w), X[0],
              X[1], X[2] * X[3], Y[2] * Y[3], ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
              ti_indices_of(w, w->in[1]));
    ti_launched(w);
}
TI_FLOAT_ROW(max_pool_dx, w->in[0])
TI_FLOAT_ROW(max_pool_at, w->in[0])

/* ---- Averages ---- */

/* What window (p, q) divides by: its elements in x, or in x and its padding. */
template <class T> static inline __device__ T divisor(const windows &v, int p, int q)
{
    const int o[2] = {p, q};
    T n = T(1);

    for (int a = 0; a < 2; a++) {
        const int least = v.inside ? 0 : -v.pad[a], most = v.X[a] + (v.inside ? 0 : v.pad[a]);
        const int from = o[a] * v.stride[a] - v.pad[a], to = from + v.size[a];

        n *= (T)((to < most ? to : most) - (from > least ? from : least));
    }
    return n;
}

template <class T> static __global__ void avg_kernel(const windows v, T *y, const T *x)
{
    const int64_t count = v.N * v.C * v.Y[0] * v.Y[1];

    for (int64_t i = ti_first(); i < count; i += ti_step()) {
        const spot at = spot_of(i, v.C, v.Y);
        T sum = T(0);

        for (int r = 0; r < v.size[0]; r++) {
            const int row = at.a * v.stride[0] - v.pad[0] + r;
            if (row < 0 || row >= v.X[0]) continue;
            for (int s = 0; s < v.size[1]; s++) {
                const int col = at.b * v.stride[1] - v.pad[1] + s;
                if (col >= 0 && col < v.X[1]) sum += x[offset(v, v.X, at.n, row, col, at.c)];
            }
        }
        y[i] = sum / divisor<T>(v, at.a, at.b);
    }
}

template <class T> static __global__ void avg_dx_kernel(const windows v, T *dx, const T *g)
{
    const int64_t count = v.N * v.C * v.X[0] * v.X[1];

    for (int64_t i = ti_first(); i < count; i += ti_step()) {
        const spot at = spot_of(i, v.C, v.X);
        T sum = T(0);

        each_window(v, at.a, at.b, [&](int, int, int p, int q) {
            sum += g[offset(v, v.Y, at.n, p, q, at.c)] / divisor<T>(v, p, q);
        });
        dx[i] = sum;
    }
}

template <class T> static void avg_pool_as(const ti_work *w)
{
    TI_LAUNCH(avg_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              windows_of(w, w->in[0], w->out[0]), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]));
    ti_launched(w);
}
template <class T> static void avg_pool_dx_as(const ti_work *w)
{
    TI_LAUNCH(avg_dx_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              windows_of(w, w->out[0], w->in[0]), ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]));
    ti_launched(w);
}
TI_FLOAT_ROW(avg_pool, w->in[0])
TI_FLOAT_ROW(avg_pool_dx, w->in[0])

/* ---- Rows ---- */

/* Rows and columns of windows fit 31 bits. */
static const char *too_wide(const windows &v)
{
    for (int a = 0; a < 2; a++)
        if (((double)v.Y[a] + 1) * v.stride[a] + (double)v.size[a] * v.dilation[a] + v.X[a] >
            (double)INT_MAX / 2)
            return "windows reach farther than 30 bits";
    return NULL;
}
static const char *forward_rejects(const ti_work *w)
{
    const ti_view &y = w->out[w->out[0].count >= 0 ? 0 : w->out[1].count >= 0 ? 1 : 2];

    return too_wide(windows_of(w, w->in[0], y));
}
static const char *d_rejects(const ti_work *w)
{
    return too_wide(windows_of(w, w->in[0], w->in[1]));
}
static const char *dx_rejects(const ti_work *w)
{
    return too_wide(windows_of(w, w->out[0], w->in[0]));
}
static double chain(const ti_work *w)
{
    const tern_pool2d_opts &o = ti_opts<tern_pool2d_opts>(w);

    return (double)o.size[0] * o.size[1] + 1;
}
static double plane_chain(const ti_work *w)
{
    const int64_t *y = w->in[0].m.shape.dim;

    return (double)(y[2] * y[3]);
}

#define ROW(op_, name, reject_, chain_)                                                            \
    {                                                                                              \
        .op = op_, .impl = "gather", .reject = reject_, .cost = ti_moved_cost,                     \
        .want = {TI_CHANNELS_LAST, TI_CHANNELS_LAST, TI_CHANNELS_LAST}, .run = name,               \
        .chain = chain_                                                                            \
    }
TI_KERNELS(ti_cuda_pool2d) = {
    ROW("max_pool2d", max_pool, forward_rejects, NULL),
    ROW("max_pool2d_d", max_pool_d, d_rejects, chain),
    ROW("max_pool2d_dx", max_pool_dx, NULL, plane_chain),
    ROW("max_pool2d_at", max_pool_at, NULL, NULL),
    ROW("avg_pool2d", avg_pool, forward_rejects, chain),
    ROW("avg_pool2d_dx", avg_pool_dx, dx_rejects, chain),
    {.op = NULL},
};
