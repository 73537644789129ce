/*
 * conv_tensor.cuh - a way of conv.cuh: convolutions as implicit products on tensor cores
 * (tensor.cuh), in the math modes tf32, bf16 and f16.
 *
 *   y[n,k,p,q] = sum over r,s,c of round(x[n, c0+c, …]) round(w[k,c,r,s])
 *
 * Operands are rounded to nearest even, as round_to does, and packed: images as [N,H,W,G,C/G],
 * filters as [k, (r,s,c)] or, for dx, [c, (r,s,k)], the last axis padded with zeros to 16 bytes.
 * Then they are what conv_tiled.cuh multiplies, with the padded channels for channels:
 *   y:  rows (n,p,q), columns k, depth (r,s,c)      a: patches of x      b: w
 *   dx: rows (n,h,w), columns c, depth (r,s,k)      a: patches of g      b: w, turned
 *   dw: rows k, columns (r,s,c), depth (n,p,q)      a: g                 b: patches of x
 * Where a window is one place the images are matrices. Sums are in f32. Scratch: the packed
 * operands, then sums of pieces.
 */
#ifndef TI_CUDA_CONV_TENSOR_CUH
#define TI_CUDA_CONV_TENSOR_CUH

#include "tensor.cuh"
#include "windows.cuh"

/* The convolution of the packed images. */
template <class F> static ti_geometry ti_packed(const ti_geometry &d)
{
    ti_geometry e = d;

    e.C = d.G * ti_vectors<F>::padded(d.C / d.G);
    e.K = d.G * ti_vectors<F>::padded(d.K / d.G);
    return e;
}

static inline ti_packing ti_image(const ti_geometry &d, int64_t places, int64_t channels)
{
    return ti_packing_of_rows(places * d.G, channels / d.G);
}
static inline ti_packing ti_image_x(const ti_geometry &d)
{
    return ti_image(d, d.N * d.H * d.W, d.C);
}
static inline ti_packing ti_image_g(const ti_geometry &d)
{
    return ti_image(d, d.N * d.P * d.Q, d.K);
}

/* Filters by k and tap, rows of c; by group, c and tap, rows of k. */
static inline ti_packing ti_filters(const ti_geometry &d)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S, dim[] = {d.K, rs}, stride[] = {c * rs, 1};

    return ti_packing_of(2, dim, stride, c, rs);
}
static inline ti_packing ti_turned(const ti_geometry &d)
{
    const int64_t c = d.C / d.G, k = d.K / d.G, rs = d.R * d.S;
    const int64_t dim[] = {d.G, c, rs}, stride[] = {k * c * rs, rs, 1};

    return ti_packing_of(3, dim, stride, k, c * rs);
}

/* As in conv_tiled.cuh, e being what is packed: depths and columns of dw are padded. */
template <class F> static ti_product ti_y_product(const ti_geometry &d)
{
    const ti_geometry e = ti_packed<F>(d);
    const int64_t k = d.K / d.G, depth = d.R * d.S * e.C / d.G;

    return ti_grouped(ti_tensor_product<F>(d.G, d.N * d.P * d.Q, k, depth), k, e.C / d.G,
                      k * depth);
}
template <class F> static ti_product ti_dx_product(const ti_geometry &d)
{
    const ti_geometry e = ti_packed<F>(d);
    const int64_t c = d.C / d.G, depth = d.R * d.S * e.K / d.G;

    return ti_grouped(ti_tensor_product<F>(d.G, d.N * d.H * d.W, c, depth), c, e.K / d.G,
                      c * depth);
}
template <class F> static ti_product ti_dw_product(const ti_geometry &d)
{
    const ti_geometry e = ti_packed<F>(d);
    const int64_t k = d.K / d.G, taps = d.R * d.S;

    return ti_grouped(ti_tensor_product<F>(d.G, k, taps * e.C / d.G, d.N * d.P * d.Q),
                      k * taps * (d.C / d.G), e.K / d.G, e.C / d.G);
}

/* Scratch of one product: where its operands and pieces lie. */
template <class F> struct ti_conv_room {
    int64_t b, pieces, all;

    ti_conv_room(const ti_packing &p, const ti_packing &q, const ti_product &product)
        : b(ti_vectors<F>::room(p)), pieces(b + ti_vectors<F>::room(q)),
          all(pieces + ti_product_scratch(product))
    {
    }
};

template <class F, class Layer> struct ti_tensor_way {
    typedef F numbers;
    typedef Layer layer;
    typedef typename F::number number;

    static ti_matrix<number> matrix(const float *packed, int64_t outer_step, int64_t k_step)
    {
        return ti_matrix_of((const number *)packed, outer_step, k_step);
    }

    /* a and b, or in their places what they are where a window is one place. */
    template <bool turned, class A, class B, class A1, class B1>
    static void multiply(const ti_work *w, const ti_geometry &d, const A &a, const B &b,
                         const A1 &a_of_one, const B1 &b_of_one, const ti_product &p,
                         const ti_result<float> &to, float *pieces)
    {
        if (ti_one_place(d)) ti_tensor<F, turned>(w, a_of_one, b_of_one, p, to, pieces);
        else if constexpr (Layer::WINDOWS) ti_tensor<F, turned>(w, a, b, p, to, pieces);
    }

    static void y(const ti_work *w, const ti_geometry &d, float *y, const float *x, const float *f,
                  const float *bias, int act, float *room)
    {
        const ti_geometry e = ti_packed<F>(d);
        const ti_product p = ti_y_product<F>(d);
        const ti_conv_room<F> at(ti_image_x(d), ti_filters(d), p);
        ti_result<float> to = ti_result_of(y, d.K, 1, d.K / d.G);

        to.bias = bias;
        to.act = act;
        const ti_matrix<number> by_k = matrix(room + at.b, p.K, 1);

        ti_pack_both<F>(w, ti_image_x(d), ti_filters(d), room, room + at.b, x, f);
        multiply<false>(w, d, ti_windows(e, (const number *)room, false), by_k,
                        matrix(room, e.C, 1), by_k, p, to, room + at.pieces);
    }

    static void dx(const ti_work *w, const ti_geometry &d, float *dx, const float *g,
                   const float *f, float *room)
    {
        const ti_geometry e = ti_packed<F>(d);
        const ti_product p = ti_dx_product<F>(d);
        const ti_conv_room<F> at(ti_image_g(d), ti_turned(d), p);
        const ti_matrix<number> by_c = matrix(room + at.b, p.K, 1);

        ti_pack_both<F>(w, ti_image_g(d), ti_turned(d), room, room + at.b, g, f);
        multiply<false>(w, d, ti_covering(e, (const number *)room), by_c, matrix(room, e.K, 1),
                        by_c, p, ti_result_of(dx, d.C, 1, d.C / d.G), room + at.pieces);
    }

    /* dw lies channels-last or row-major. */
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const float *x,
                   const float *g, float *room)
    {
        const ti_geometry e = ti_packed<F>(d);
        const ti_product p = ti_dw_product<F>(d);
        const ti_conv_room<F> at(ti_image_g(d), ti_image_x(d), p);
        const int64_t c = d.C / d.G, rs = d.R * d.S;
        const bool last = ti_is_channels_last(&dw.m);
        ti_result<float> to = ti_result_of(ti_at<float>(dw), rs * c, last ? 1 : rs, e.C / d.G);

        const ti_matrix<number> by_place = matrix(room, 1, e.K);

        to.n_kept = c;
        to.high_step = last ? c : 1;
        ti_pack_both<F>(w, ti_image_g(d), ti_image_x(d), room, room + at.b, g, x);
        multiply<true>(w, d, by_place, ti_windows(e, (const number *)(room + at.b), true), by_place,
                       matrix(room + at.b, 1, e.C), p, to, room + at.pieces);
    }

    static int64_t y_room(const ti_geometry &d)
    {
        return ti_conv_room<F>(ti_image_x(d), ti_filters(d), ti_y_product<F>(d)).all;
    }
    static int64_t dx_room(const ti_geometry &d)
    {
        return ti_conv_room<F>(ti_image_g(d), ti_turned(d), ti_dx_product<F>(d)).all;
    }
    static int64_t dw_room(const ti_geometry &d)
    {
        return ti_conv_room<F>(ti_image_g(d), ti_image_x(d), ti_dw_product<F>(d)).all;
    }
    static double y_chain(const ti_geometry &d) { return ti_product_chain(ti_y_product<F>(d)); }
    static double dx_chain(const ti_geometry &d) { return ti_product_chain(ti_dx_product<F>(d)); }
    static double dw_chain(const ti_geometry &d) { return ti_product_chain(ti_dw_product<F>(d)); }
    static const char *rejects(const ti_work *w, const ti_geometry &d)
    {
        const ti_product all[] = {ti_y_product<F>(d), ti_dx_product<F>(d), ti_dw_product<F>(d)};
        const char *why = ti_no_tensor_cores(w);

        if (!why && d.G > 1 && d.C / d.G <= 8 && d.K / d.G <= 8)
            why = "a group has at most 8 channels";
        if (!why) why = ti_windows_reject(ti_packed<F>(d));
        for (int i = 0; i < 3 && !why; i++) why = ti_tensor_rejects(all[i]);
        return why;
    }
};

template <class F> using ti_conv_tensor = ti_tensor_way<F, ti_conv_layer>;
template <class F> using ti_linear_tensor = ti_tensor_way<F, ti_linear_layer>;

#endif
