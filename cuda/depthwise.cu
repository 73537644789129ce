/*
 * depthwise.cu - convolution in groups of few channels, depthwise above all: too narrow for the
 * tiles of a product.
 *
 *   y[n,p,q,k] = sum over r,s,c of x[n, p stride + r dilation - pad, …, c0+c] w[k,c,r,s]
 *
 * y: a thread four columns q of one k, dx: a thread an element; neighbours differ in the channel.
 * dw: a thread one element of a piece of the places (n,p,q), the pieces added in order by a second
 * kernel. Each sum is one chain of fused multiply-adds in the order written here; pieces depend on
 * the extents only. Rows and columns of images are 32-bit numbers, offsets 64-bit ones.
 */
#include "conv.cuh"

enum { ACROSS = 4, FEW = 8 };

/* ---- y ---- */

template <class T>
static __global__ void direct_y_kernel(const ti_geometry d, T *y, const T *x, const T *f,
                                       const T *bias, int act)
{
    const int64_t c = d.C / d.G, each = d.K / d.G, quads = (d.Q + ACROSS - 1) / ACROSS;

    for (int64_t i = ti_first(); i < d.N * d.P * quads * d.K; i += ti_step()) {
        const int64_t k = i % d.K, np = i / d.K / quads, n = np / d.P;
        const int p = (int)(np % d.P), q = (int)(i / d.K % quads) * ACROSS;
        const T *filter = f + k * c * d.R * d.S;
        T sum[ACROSS];

        TI_UNROLL
        for (int l = 0; l < ACROSS; l++) sum[l] = T(0);
        for (int r = 0; r < d.R; r++) {
            const int row = p * d.stride[0] + r * d.dilation[0] - d.pad[0];

            if (row < 0 || row >= d.H) continue;
            const T *line = x + (n * d.H + row) * d.W * d.C + k / each * c;
            for (int s = 0; s < d.S; s++) {
                const int col = q * d.stride[1] + s * d.dilation[1] - d.pad[1];

                for (int64_t m = 0; m < c; m++) {
                    const T z = filter[(m * d.R + r) * d.S + s];

                    TI_UNROLL
                    for (int l = 0; l < ACROSS; l++) {
                        const int64_t at = col + (int64_t)l * d.stride[1];
                        if (at >= 0 && at < d.W) sum[l] = ti_fma(line[at * d.C + m], z, sum[l]);
                    }
                }
            }
        }
        TI_UNROLL
        for (int l = 0; l < ACROSS; l++)
            if (q + l < d.Q)
                y[(np * d.Q + q + l) * d.K + k] = ti_act_of(act, bias ? sum[l] + bias[k] : sum[l]);
    }
}

/* ---- dx ---- */

/* The window whose tap `tap` lies on `at`, or -1. */
static inline __device__ int window_on(const ti_geometry &d, int axis, int at, int tap, int64_t n)
{
    const int from = at + d.pad[axis] - tap * d.dilation[axis];

    if (from < 0 || from % d.stride[axis]) return -1;
    return from / d.stride[axis] < n ? from / d.stride[axis] : -1;
}

template <class T>
static __global__ void direct_dx_kernel(const ti_geometry d, T *dx, const T *g, const T *f)
{
    const int64_t c = d.C / d.G, each = d.K / d.G, taps = d.R * d.S;

    for (int64_t i = ti_first(); i < d.N * d.H * d.W * d.C; i += ti_step()) {
        const int64_t channel = i % d.C, nh = i / d.C / d.W, n = nh / d.H;
        const int row = (int)(nh % d.H), col = (int)(i / d.C % d.W);
        const int64_t k0 = channel / c * each;
        T sum = T(0);

        for (int r = 0; r < d.R; r++) {
            const int p = window_on(d, 0, row, r, d.P);

            for (int s = 0; s < d.S && p >= 0; s++) {
                const int q = window_on(d, 1, col, s, d.Q);

                if (q < 0) continue;
                const T *cotangent = g + ((n * d.P + p) * d.Q + q) * d.K + k0;
                for (int64_t k = 0; k < each; k++)
                    sum = ti_fma(cotangent[k], f[((k0 + k) * c + channel % c) * taps + r * d.S + s],
                                 sum);
            }
        }
        dx[i] = sum;
    }
}

/* ---- dw ---- */

typedef struct {
    int64_t pieces, each; /* of the places */
} cut;

static cut cut_of(const ti_geometry &d)
{
    const int64_t places = d.N * d.P * d.Q;
    cut u = {(places + 63) / 64, 0};

    u.pieces = u.pieces < 1 ? 1 : u.pieces > 256 ? 256 : u.pieces;
    u.each = (places + u.pieces - 1) / u.pieces;
    if (u.each > 0) u.pieces = (places + u.each - 1) / u.each;
    return u;
}

/* partial [piece, r, s, c, k] */
template <class T>
static __global__ void direct_dw_kernel(const ti_geometry d, const cut u, T *partial, const T *x,
                                        const T *g)
{
    const int64_t c = d.C / d.G, each = d.K / d.G, taps = d.R * d.S * c, places = d.N * d.P * d.Q;

    for (int64_t i = ti_first(); i < u.pieces * taps * d.K; i += ti_step()) {
        const int64_t k = i % d.K, tap = i / d.K % taps, from = i / d.K / taps * u.each;
        const int64_t to = from + u.each < places ? from + u.each : places;
        const int down = (int)(tap / c / d.S) * d.dilation[0] - d.pad[0];
        const int right = (int)(tap / c % d.S) * d.dilation[1] - d.pad[1];
        const T *channel = x + k / each * c + tap % c;
        int64_t n = from / d.Q / d.P;
        int p = (int)(from / d.Q % d.P), q = (int)(from % d.Q);
        T sum = T(0);

        for (int64_t at = from; at < to; at++) {
            const int row = p * d.stride[0] + down, col = q * d.stride[1] + right;

            if (row >= 0 && row < d.H && col >= 0 && col < d.W)
                sum = ti_fma(g[at * d.K + k], channel[((n * d.H + row) * d.W + col) * d.C], sum);
            if (++q < d.Q) continue;
            q = 0;
            if (++p < d.P) continue;
            p = 0, n++;
        }
        partial[i] = sum;
    }
}

template <class T>
static __global__ void direct_dw_finish_kernel(const ti_geometry d, int64_t pieces, bool last,
                                               T *dw, const T *partial)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S, all = rs * c * d.K;

    for (int64_t i = ti_first(); i < all; i += ti_step()) {
        const int64_t k = i % d.K, tap = i / d.K;
        T sum = T(0);

        for (int64_t piece = 0; piece < pieces; piece++) sum += partial[piece * all + i];
        dw[k * rs * c + (last ? tap : tap % c * rs + tap / c)] = sum;
    }
}

/* ---- The way ---- */

struct direct {
    typedef ti_as_is numbers;
    typedef ti_conv_layer layer;

    template <class T>
    static void y(const ti_work *w, const ti_geometry &d, T *y, const T *x, const T *f,
                  const T *bias, int act, T *)
    {
        const int64_t n = d.N * d.P * ((d.Q + ACROSS - 1) / ACROSS) * d.K;

        TI_LAUNCH(direct_y_kernel<T>, ti_grid(n), TI_BLOCK, 0, ti_cuda_stream(w), d, y, x, f, bias,
                  act);
        ti_launched(w);
    }

    template <class T>
    static void dx(const ti_work *w, const ti_geometry &d, T *dx, const T *g, const T *f, T *)
    {
        TI_LAUNCH(direct_dx_kernel<T>, ti_grid(d.N * d.H * d.W * d.C), TI_BLOCK, 0,
                  ti_cuda_stream(w), d, dx, g, f);
        ti_launched(w);
    }

    template <class T>
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const T *x,
                   const T *g, T *room)
    {
        const cut u = cut_of(d);
        const int64_t all = d.R * d.S * (d.C / d.G) * d.K;

        TI_LAUNCH(direct_dw_kernel<T>, ti_grid(u.pieces * all), TI_BLOCK, 0, ti_cuda_stream(w), d,
                  u, room, x, g);
        TI_LAUNCH(direct_dw_finish_kernel<T>, ti_grid(all), TI_BLOCK, 0, ti_cuda_stream(w), d,
                  u.pieces, ti_is_channels_last(&dw.m), ti_at<T>(dw), (const T *)room);
        ti_launched(w);
    }

    static int64_t y_room(const ti_geometry &) { return 0; }
    static int64_t dx_room(const ti_geometry &) { return 0; }
    static int64_t dw_room(const ti_geometry &d)
    {
        return cut_of(d).pieces * d.R * d.S * (d.C / d.G) * d.K;
    }
    static double y_chain(const ti_geometry &d) { return (double)(d.R * d.S * (d.C / d.G)); }
    static double dx_chain(const ti_geometry &d) { return (double)(d.R * d.S * (d.K / d.G)); }
    static double dw_chain(const ti_geometry &d)
    {
        return (double)(cut_of(d).each + cut_of(d).pieces);
    }
    static const char *rejects(const ti_work *, const ti_geometry &d)
    {
        if (d.G == 1) return "takes groups";
        if (d.C / d.G > FEW || d.K / d.G > FEW) return "a group has more than 8 channels";
        return ti_windows_reject(d);
    }
};

static double cost(const ti_work *w) { return 4000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_depthwise) = {TI_CONV_ROWS("direct", direct, TI_REORDERED, cost), {.op = NULL}};
