/*
 * conv2d.cu - convolution, its adjoints and its fused forms, as implicit products (gemm.cuh).
 *
 *   y[n,k,p,q] = sum over r,s,c of x[n, c0+c, p*stride + r*dilation - pad, …] w[k,c,r,s]
 *
 * Images lie channels-last, filters row-major. A group is a batch of the product:
 *   y:  rows (n,p,q), columns k, depth (r,s,c)      a: patches of x      b: w
 *   dx: rows (n,h,w), columns c, depth (r,s,k)      a: patches of g      b: w, turned
 *   dw: rows k, columns (r,s,c), depth (n,p,q)      a: g                 b: patches of x
 * Rows and columns of images are 32-bit numbers; offsets into the data are 64-bit ones.
 */
#include "columns.cuh"
#include "gemm.cuh"

typedef struct {
    int64_t N, C, H, W, K, R, S, P, Q, G;
    int stride[2], pad[2], dilation[2];
} geometry;

static geometry geometry_of(const ti_view &x, const ti_view &w, const ti_view &y, const int *stride,
                            const int *pad, const int *dilation, int groups)
{
    const int64_t *X = x.m.shape.dim, *F = w.m.shape.dim, *Y = y.m.shape.dim;

    return geometry{X[0],
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

/* ---- Operands ---- */

/* x as windows over it meet it. */
template <class T> static ti_patches<T> windows(const geometry &d, const T *x, bool by_tap)
{
    return ti_patches<T>{x,
                         d.H * d.W * d.C,
                         (int)d.H,
                         (int)d.W,
                         (int)d.P,
                         (int)d.Q,
                         (int)d.S,
                         (int)(d.C / d.G),
                         (int)d.C,
                         {d.stride[0], d.stride[1]},
                         {-d.pad[0], -d.pad[1]},
                         {d.dilation[0], d.dilation[1]},
                         {1, 1},
                         by_tap};
}

/* g as elements of x meet it. */
template <class T> static ti_patches<T> covering(const geometry &d, const T *g)
{
    return ti_patches<T>{g,
                         d.P * d.Q * d.K,
                         (int)d.P,
                         (int)d.Q,
                         (int)d.H,
                         (int)d.W,
                         (int)d.S,
                         (int)(d.K / d.G),
                         (int)d.K,
                         {1, 1},
                         {d.pad[0], d.pad[1]},
                         {-d.dilation[0], -d.dilation[1]},
                         {d.stride[0], d.stride[1]},
                         false};
}

/* Row-major filters: one by k and (r,s,c), one by c and (r,s,k). */
template <class T> static ti_matrix<T> filters(const geometry &d, const T *f)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S;

    return rs == 1 ? ti_matrix_of(f, c, 1) : ti_matrix<T>{f, rs * c, rs, 1, c};
}
template <class T> static ti_matrix<T> turned(const geometry &d, const T *f)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S;

    return ti_matrix<T>{f, rs, rs * c, 1, d.K / d.G};
}

/* Offsets of one group after the other. */
static ti_product grouped(const geometry &d, int64_t M, int64_t N, int64_t K, int64_t y, int64_t a,
                          int64_t b)
{
    ti_product p = ti_product_of(d.G, M, N, K);

    p.batch.stride[0][0] = y;
    p.batch.stride[1][0] = a;
    p.batch.stride[2][0] = b;
    p.batch.stride[3][0] = N; /* bias */
    return p;
}
static ti_product y_product(const geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G, taps = d.R * d.S * c;

    return grouped(d, d.N * d.P * d.Q, k, taps, k, c, k * taps);
}
static ti_product dx_product(const geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G;

    return grouped(d, d.N * d.H * d.W, c, d.R * d.S * k, c, k, k * d.R * d.S * c);
}
static ti_product dw_product(const geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G, taps = d.R * d.S * c;

    return grouped(d, k, taps, d.N * d.P * d.Q, k * taps, k, c);
}

template <class T>
static void to_y(const ti_work *w, const geometry &d, T *y, const T *x, const T *f, const T *bias,
                 int act, T *scratch)
{
    ti_result<T> to = ti_result_of(y, d.K, 1, d.K / d.G);

    to.bias = bias;
    to.act = act;
    ti_gemm(w, windows(d, x, false), filters(d, f), y_product(d), to, scratch);
}

template <class T>
static void to_dx(const ti_work *w, const geometry &d, T *dx, const T *g, const T *f, T *scratch)
{
    ti_gemm(w, covering(d, g), turned(d, f), dx_product(d), ti_result_of(dx, d.C, 1, d.C / d.G),
            scratch);
}

/* dw lies channels-last or row-major. */
template <class T>
static void to_dw(const ti_work *w, const geometry &d, const ti_view &dw, const T *x, const T *g,
                  T *scratch)
{
    const int64_t c = d.C / d.G, taps = d.R * d.S * c;
    ti_result<T> to = ti_result_of(ti_at<T>(dw), taps, 1, taps);

    if (!ti_is_channels_last(&dw.m)) {
        to.n_low = c;
        to.low_step = d.R * d.S;
        to.high_step = 1;
    }
    ti_gemm(w, ti_matrix_of(g, 1, d.K), windows(d, x, true), dw_product(d), to, scratch);
}

/* ---- conv2d, conv2d_dx, conv2d_dw ---- */

static geometry plain(const ti_work *w, const ti_view &x, const ti_view &f, const ti_view &y)
{
    const tern_conv2d_opts &o = ti_opts<tern_conv2d_opts>(w);

    return geometry_of(x, f, y, o.stride, o.pad, o.dilation, o.groups);
}
static geometry of_y(const ti_work *w) { return plain(w, w->in[0], w->in[1], w->out[0]); }
static geometry of_dx(const ti_work *w) { return plain(w, w->out[0], w->in[1], w->in[0]); }
static geometry of_dw(const ti_work *w) { return plain(w, w->in[0], w->out[0], w->in[1]); }

template <class T> static void conv_as(const ti_work *w)
{
    to_y<T>(w, of_y(w), ti_at<T>(w->out[0]), ti_at<T>(w->in[0]), ti_at<T>(w->in[1]), NULL,
            TERN_ACT_NONE, (T *)w->scratch);
}
template <class T> static void conv_dx_as(const ti_work *w)
{
    to_dx<T>(w, of_dx(w), ti_at<T>(w->out[0]), ti_at<T>(w->in[0]), ti_at<T>(w->in[1]),
             (T *)w->scratch);
}
template <class T> static void conv_dw_as(const ti_work *w)
{
    to_dw<T>(w, of_dw(w), w->out[0], ti_at<T>(w->in[0]), ti_at<T>(w->in[1]), (T *)w->scratch);
}
TI_FLOAT_ROW(conv, w->in[0])
TI_FLOAT_ROW(conv_dx, w->in[0])
TI_FLOAT_ROW(conv_dw, w->in[0])

static size_t size_of(const ti_work *w) { return tern_type_size(w->in[0].m.type); }
#define PRODUCT(name, of, product)                                                                 \
    static size_t name##_scratch(const ti_work *w)                                                 \
    {                                                                                              \
        return (size_t)ti_product_scratch(product(of(w))) * size_of(w);                            \
    }                                                                                              \
    static double name##_chain(const ti_work *w) { return ti_product_chain(product(of(w))) + 2; }
PRODUCT(conv, of_y, y_product)
PRODUCT(conv_dx, of_dx, dx_product)
PRODUCT(conv_dw, of_dw, dw_product)

/* ---- conv2d_act and conv2d_act_d ---- */

static geometry fused(const ti_work *w, const ti_view &y)
{
    const tern_conv2d_act_opts &o = ti_opts<tern_conv2d_act_opts>(w);

    return geometry_of(w->in[0], w->in[1], y, o.stride, o.pad, o.dilation, o.groups);
}
static geometry of_act(const ti_work *w) { return fused(w, w->out[0]); }

template <class T> static const T *bias_of(const ti_work *w)
{
    return w->in[2].count >= 0 ? ti_at<const T>(w->in[2]) : NULL;
}
static int act_of(const ti_work *w) { return ti_opts<tern_conv2d_act_opts>(w).act; }

template <class T> static void conv_act_as(const ti_work *w)
{
    to_y<T>(w, of_act(w), ti_at<T>(w->out[0]), ti_at<T>(w->in[0]), ti_at<T>(w->in[1]),
            bias_of<T>(w), act_of(w), (T *)w->scratch);
}
TI_FLOAT_ROW(conv_act, w->in[0])
PRODUCT(conv_act, of_act, y_product)

/* Scratch: room for the products and sums, then h = gy act'(y). */
typedef struct {
    geometry d;
    ti_columns db;
    bool makes_y, makes_h;
    int64_t h, room;
    double chain;
} backward;

static backward backward_of(const ti_work *w)
{
    const geometry d = fused(w, w->in[3]);
    const bool acts = act_of(w) != TERN_ACT_NONE;
    backward b = {d,
                  ti_columns_of(d.N * d.P * d.Q, d.K),
                  acts && w->in[4].count < 0,
                  acts,
                  0,
                  ti_columns_scratch(ti_columns_of(d.N * d.P * d.Q, d.K)),
                  0};
    const ti_product all[] = {y_product(d), dx_product(d), dw_product(d)};

    b.chain = ti_columns_chain(b.db);
    b.h = acts ? d.N * d.P * d.Q * d.K : 0;
    for (int i = b.makes_y ? 0 : 1; i < 3; i++) {
        const int64_t n = ti_product_scratch(all[i]);
        const double L = ti_product_chain(all[i]);

        b.room = n > b.room ? n : b.room;
        b.chain = L > b.chain ? L : b.chain;
    }
    return b;
}

template <class T> static void conv_act_d_as(const ti_work *w)
{
    const backward b = backward_of(w);
    const T *x = ti_at<const T>(w->in[0]), *f = ti_at<const T>(w->in[1]);
    const T *gy = ti_at<const T>(w->in[3]), *from = gy;
    T *room = (T *)w->scratch, *h = room + b.room;
    const cudaStream_t stream = ti_cuda_stream(w);

    if (b.makes_y) to_y<T>(w, b.d, h, x, f, bias_of<T>(w), act_of(w), room);
    if (b.makes_h) {
        TI_LAUNCH(ti_back_kernel<T>, ti_grid(b.h), TI_BLOCK, 0, stream, act_of(w), b.h, h,
                  b.makes_y ? h : ti_at<const T>(w->in[4]), gy);
        from = h;
    }
    if (w->out[0].count > 0) to_dx<T>(w, b.d, ti_at<T>(w->out[0]), from, f, room);
    if (w->out[1].count > 0) to_dw<T>(w, b.d, w->out[1], x, from, room);
    if (w->out[2].count > 0 && w->in[2].count >= 0)
        ti_column_sums(w, ti_at<T>(w->out[2]), from, b.db, room);
    else if (w->out[2].count > 0)
        ti_cuda_check(w->device,
                      cudaMemsetAsync(w->out[2].data, 0, (size_t)b.d.K * sizeof(T), stream),
                      w->op->name);
    ti_launched(w);
}
TI_FLOAT_ROW(conv_act_d, w->in[0])

static size_t conv_act_d_scratch(const ti_work *w)
{
    const backward b = backward_of(w);

    return (size_t)(b.room + b.h) * size_of(w);
}
static double conv_act_d_chain(const ti_work *w) { return backward_of(w).chain + 2; }

/* ---- Rows ---- */

/* Everything that the kernels hold in 32 bits, with room for the sums of two. */
static const char *rejects(const geometry &d)
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
static const char *conv_rejects(const ti_work *w) { return rejects(of_y(w)); }
static const char *conv_dx_rejects(const ti_work *w) { return rejects(of_dx(w)); }
static const char *conv_dw_rejects(const ti_work *w) { return rejects(of_dw(w)); }
static const char *conv_act_rejects(const ti_work *w) { return rejects(of_act(w)); }
static const char *conv_act_d_rejects(const ti_work *w) { return rejects(fused(w, w->in[3])); }

static double cost(const ti_work *w) { return 5000 + ti_moved_cost(w); }

#define IMAGE TI_CHANNELS_LAST
#define ROW(op_, name, ...)                                                                        \
    {                                                                                              \
        .op = op_, .impl = "implicit", .reject = name##_rejects, .cost = cost,                     \
        .want = {__VA_ARGS__}, .scratch = name##_scratch, .run = name, .chain = name##_chain,      \
        .numbers = TI_REORDERED                                                                    \
    }

TI_KERNELS(ti_cuda_conv2d) = {
    ROW("conv2d", conv, IMAGE, TI_ROW_MAJOR),
    ROW("conv2d_dx", conv_dx, IMAGE, TI_ROW_MAJOR),
    ROW("conv2d_dw", conv_dw, IMAGE, IMAGE),
    ROW("conv2d_act", conv_act, IMAGE, TI_ROW_MAJOR, TI_ROW_MAJOR),
    ROW("conv2d_act_d", conv_act_d, IMAGE, TI_ROW_MAJOR, TI_ROW_MAJOR, IMAGE, IMAGE),
    {.op = NULL},
};
