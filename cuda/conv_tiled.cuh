/*
 * conv_tiled.cuh - a way of conv.cuh: convolutions and fully connected layers as implicit products
 * (gemm.cuh).
 *
 *   y[n,k,p,q] = sum over r,s,c of x[n, c0+c, p*stride + r*dilation - pad, …] w[k,c,r,s]
 *
 * Images lie channels-last, filters row-major. A group is a batch of the product:
 *   y:  rows (n,p,q), columns k, depth (r,s,c)      a: patches of x      b: w
 *   dx: rows (n,h,w), columns c, depth (r,s,k)      a: patches of g      b: w, turned
 *   dw: rows k, columns (r,s,c), depth (n,p,q)      a: g                 b: patches of x
 * Where a window is one place the images are matrices: the same products, in the same order. Rows
 * and columns of images are 32-bit numbers; offsets into the data are 64-bit ones.
 */
#ifndef TI_CUDA_CONV_TILED_CUH
#define TI_CUDA_CONV_TILED_CUH

#include "windows.cuh"

template <class Layer> struct ti_tiled_way {
    typedef ti_as_is numbers;
    typedef Layer layer;

    /* Row-major filters: one by k and (r,s,c), one by c and (r,s,k). */
    template <class T> static ti_matrix<T> filters(const ti_geometry &d, const T *f)
    {
        const int64_t c = d.C / d.G, rs = d.R * d.S;

        return rs == 1 ? ti_matrix_of(f, c, 1) : ti_matrix<T>{f, rs * c, rs, 1, c};
    }
    template <class T> static ti_matrix<T> turned(const ti_geometry &d, const T *f)
    {
        const int64_t c = d.C / d.G, rs = d.R * d.S;

        return rs == 1 ? ti_matrix_of(f, 1, c) : ti_matrix<T>{f, rs, rs * c, 1, d.K / d.G};
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

    template <class T>
    static void y(const ti_work *w, const ti_geometry &d, T *y, const T *x, const T *f,
                  const T *bias, int act, T *room)
    {
        const ti_product p = y_product(d);
        ti_result<T> to = ti_result_of(y, d.K, 1, d.K / d.G);

        to.bias = bias;
        to.act = act;
        if (ti_one_place(d)) ti_gemm(w, ti_matrix_of(x, d.C, 1), filters(d, f), p, to, room);
        else if constexpr (Layer::WINDOWS)
            ti_gemm(w, ti_windows(d, x, false), filters(d, f), p, to, room);
    }

    template <class T>
    static void dx(const ti_work *w, const ti_geometry &d, T *dx, const T *g, const T *f, T *room)
    {
        const ti_product p = dx_product(d);
        const ti_result<T> to = ti_result_of(dx, d.C, 1, d.C / d.G);

        if (ti_one_place(d)) ti_gemm(w, ti_matrix_of(g, d.K, 1), turned(d, f), p, to, room);
        else if constexpr (Layer::WINDOWS) ti_gemm(w, ti_covering(d, g), turned(d, f), p, to, room);
    }

    /* dw lies channels-last or row-major. */
    template <class T>
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const T *x,
                   const T *g, T *room)
    {
        const int64_t c = d.C / d.G, taps = d.R * d.S * c;
        const ti_matrix<T> by_place = ti_matrix_of(g, 1, d.K);
        const ti_product p = dw_product(d);
        ti_result<T> to = ti_result_of(ti_at<T>(dw), taps, 1, taps);

        if (Layer::WINDOWS && !ti_is_channels_last(&dw.m)) {
            to.n_low = to.n_kept = c;
            to.low_step = d.R * d.S;
            to.high_step = 1;
        }
        if (ti_one_place(d)) ti_gemm(w, by_place, ti_matrix_of(x, 1, d.C), p, to, room);
        else if constexpr (Layer::WINDOWS)
            ti_gemm(w, by_place, ti_windows(d, x, true), p, to, room);
    }

    static int64_t y_room(const ti_geometry &d) { return ti_product_scratch(y_product(d)); }
    static int64_t dx_room(const ti_geometry &d) { return ti_product_scratch(dx_product(d)); }
    static int64_t dw_room(const ti_geometry &d) { return ti_product_scratch(dw_product(d)); }
    static double y_chain(const ti_geometry &d) { return ti_product_chain(y_product(d)); }
    static double dx_chain(const ti_geometry &d) { return ti_product_chain(dx_product(d)); }
    static double dw_chain(const ti_geometry &d) { return ti_product_chain(dw_product(d)); }
    static const char *rejects(const ti_work *, const ti_geometry &d)
    {
        return Layer::WINDOWS ? ti_windows_reject(d) : NULL;
    }
};

#endif
