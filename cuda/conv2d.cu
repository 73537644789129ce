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
#include "windows.cuh"

/* ---- Operands and products ---- */

/* Row-major filters: one by k and (r,s,c), one by c and (r,s,k). */
template <class T> static ti_matrix<T> filters(const ti_geometry &d, const T *f)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S;

    return rs == 1 ? ti_matrix_of(f, c, 1) : ti_matrix<T>{f, rs * c, rs, 1, c};
}
template <class T> static ti_matrix<T> turned(const ti_geometry &d, const T *f)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S;

    return ti_matrix<T>{f, rs, rs * c, 1, d.K / d.G};
}

static ti_product y_product(const ti_geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G, taps = d.R * d.S * c;

    return ti_grouped(ti_product_of(d.G, d.N * d.P * d.Q, k, taps), k, c, k * taps);
}
static ti_product dx_product(const ti_geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G;

    return ti_grouped(ti_product_of(d.G, d.N * d.H * d.W, c, d.R * d.S * k), c, k,
                      k * d.R * d.S * c);
}
static ti_product dw_product(const ti_geometry &d)
{
    const int64_t k = d.K / d.G, c = d.C / d.G, taps = d.R * d.S * c;

    return ti_grouped(ti_product_of(d.G, k, taps, d.N * d.P * d.Q), k * taps, k, c);
}

/* ---- The way ---- */

struct tiled {
    typedef ti_as_is numbers;
    typedef ti_conv_layer layer;

    template <class T>
    static void y(const ti_work *w, const ti_geometry &d, T *y, const T *x, const T *f,
                  const T *bias, int act, T *room)
    {
        ti_result<T> to = ti_result_of(y, d.K, 1, d.K / d.G);

        to.bias = bias;
        to.act = act;
        ti_gemm(w, ti_windows(d, x, false), filters(d, f), y_product(d), to, room);
    }

    template <class T>
    static void dx(const ti_work *w, const ti_geometry &d, T *dx, const T *g, const T *f, T *room)
    {
        ti_gemm(w, ti_covering(d, g), turned(d, f), dx_product(d),
                ti_result_of(dx, d.C, 1, d.C / d.G), room);
    }

    /* dw lies channels-last or row-major. */
    template <class T>
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const T *x,
                   const T *g, T *room)
    {
        const int64_t c = d.C / d.G, taps = d.R * d.S * c;
        ti_result<T> to = ti_result_of(ti_at<T>(dw), taps, 1, taps);

        if (!ti_is_channels_last(&dw.m)) {
            to.n_low = to.n_kept = c;
            to.low_step = d.R * d.S;
            to.high_step = 1;
        }
        ti_gemm(w, ti_matrix_of(g, 1, d.K), ti_windows(d, x, true), dw_product(d), to, room);
    }

    static int64_t y_room(const ti_geometry &d) { return ti_product_scratch(y_product(d)); }
    static int64_t dx_room(const ti_geometry &d) { return ti_product_scratch(dx_product(d)); }
    static int64_t dw_room(const ti_geometry &d) { return ti_product_scratch(dw_product(d)); }
    static double y_chain(const ti_geometry &d) { return ti_product_chain(y_product(d)); }
    static double dx_chain(const ti_geometry &d) { return ti_product_chain(dx_product(d)); }
    static double dw_chain(const ti_geometry &d) { return ti_product_chain(dw_product(d)); }
    static const char *rejects(const ti_work *, const ti_geometry &d)
    {
        return ti_windows_reject(d);
    }
};

static double cost(const ti_work *w) { return 5000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_conv2d) = {TI_CONV_ROWS("implicit", tiled, TI_REORDERED, cost), {.op = NULL}};
