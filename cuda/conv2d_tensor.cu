/*
 * conv2d_tensor.cu - convolution, its adjoints and its fused forms in the math modes tf32, bf16 and
 * f16, as implicit products on tensor cores (tensor.cuh).
 *
 *   y[n,k,p,q] = sum over r,s,c of round(x[n, c0+c, …]) round(w[k,c,r,s])
 *
 * Operands are rounded to nearest even, as round_to does, and packed: images as [N,H,W,G,C/G],
 * filters as [k, (r,s,c)] or, for dx, [c, (r,s,k)], the last axis padded with zeros to 16 bytes.
 * Then they are what conv2d.cu multiplies, with the padded channels for channels:
 *   y:  rows (n,p,q), columns k, depth (r,s,c)      a: patches of x      b: w
 *   dx: rows (n,h,w), columns c, depth (r,s,k)      a: patches of g      b: w, turned
 *   dw: rows k, columns (r,s,c), depth (n,p,q)      a: g                 b: patches of x
 * Sums are in f32. Scratch: the packed operands, then sums of pieces.
 */
#include "tensor.cuh"
#include "windows.cuh"

enum { FEW = 8 };

/* The convolution of the packed images. */
template <class F> static ti_geometry packed(const ti_geometry &d)
{
    ti_geometry e = d;

    e.C = d.G * ti_vectors<F>::padded(d.C / d.G);
    e.K = d.G * ti_vectors<F>::padded(d.K / d.G);
    return e;
}

static ti_packing image(const ti_geometry &d, int64_t places, int64_t channels)
{
    return ti_packing_of_rows(places * d.G, channels / d.G);
}
static ti_packing image_x(const ti_geometry &d) { return image(d, d.N * d.H * d.W, d.C); }
static ti_packing image_g(const ti_geometry &d) { return image(d, d.N * d.P * d.Q, d.K); }

/* Filters by k and tap, rows of c; by group, c and tap, rows of k. */
static ti_packing filters(const ti_geometry &d)
{
    const int64_t c = d.C / d.G, rs = d.R * d.S, dim[] = {d.K, rs}, stride[] = {c * rs, 1};

    return ti_packing_of(2, dim, stride, c, rs);
}
static ti_packing turned(const ti_geometry &d)
{
    const int64_t c = d.C / d.G, k = d.K / d.G, rs = d.R * d.S;
    const int64_t dim[] = {d.G, c, rs}, stride[] = {k * c * rs, rs, 1};

    return ti_packing_of(3, dim, stride, k, c * rs);
}

/* As in conv2d.cu, e being packed(d): depths and columns of dw are padded. */
template <class F> static ti_product y_product(const ti_geometry &d)
{
    const ti_geometry e = packed<F>(d);
    const int64_t k = d.K / d.G, depth = d.R * d.S * e.C / d.G;

    return ti_grouped(ti_tensor_product<F>(d.G, d.N * d.P * d.Q, k, depth), k, e.C / d.G,
                      k * depth);
}
template <class F> static ti_product dx_product(const ti_geometry &d)
{
    const ti_geometry e = packed<F>(d);
    const int64_t c = d.C / d.G, depth = d.R * d.S * e.K / d.G;

    return ti_grouped(ti_tensor_product<F>(d.G, d.N * d.H * d.W, c, depth), c, e.K / d.G,
                      c * depth);
}
template <class F> static ti_product dw_product(const ti_geometry &d)
{
    const ti_geometry e = packed<F>(d);
    const int64_t k = d.K / d.G, taps = d.R * d.S;

    return ti_grouped(ti_tensor_product<F>(d.G, k, taps * e.C / d.G, d.N * d.P * d.Q),
                      k * taps * (d.C / d.G), e.K / d.G, e.C / d.G);
}

/* Scratch of one product: where its operands and pieces lie. */
template <class F> struct scratch_of {
    int64_t b, pieces, all;

    scratch_of(const ti_packing &p, const ti_packing &q, const ti_product &product)
        : b(ti_vectors<F>::room(p)), pieces(b + ti_vectors<F>::room(q)),
          all(pieces + ti_product_scratch(product))
    {
    }
};

template <class F> struct tensor {
    typedef F numbers;
    typedef typename F::number number;

    static void y(const ti_work *w, const ti_geometry &d, float *y, const float *x, const float *f,
                  const float *bias, int act, float *room)
    {
        const ti_geometry e = packed<F>(d);
        const ti_product p = y_product<F>(d);
        const scratch_of<F> at(image_x(d), filters(d), p);
        ti_result<float> to = ti_result_of(y, d.K, 1, d.K / d.G);

        to.bias = bias;
        to.act = act;
        ti_pack_both<F>(w, image_x(d), filters(d), room, room + at.b, x, f);
        ti_tensor<F, false>(w, ti_windows(e, (const number *)room, false),
                            ti_matrix_of((const number *)(room + at.b), p.K, 1), p, to,
                            room + at.pieces);
    }

    static void dx(const ti_work *w, const ti_geometry &d, float *dx, const float *g,
                   const float *f, float *room)
    {
        const ti_geometry e = packed<F>(d);
        const ti_product p = dx_product<F>(d);
        const scratch_of<F> at(image_g(d), turned(d), p);

        ti_pack_both<F>(w, image_g(d), turned(d), room, room + at.b, g, f);
        ti_tensor<F, false>(w, ti_covering(e, (const number *)room),
                            ti_matrix_of((const number *)(room + at.b), p.K, 1), p,
                            ti_result_of(dx, d.C, 1, d.C / d.G), room + at.pieces);
    }

    /* dw lies channels-last or row-major. */
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const float *x,
                   const float *g, float *room)
    {
        const ti_geometry e = packed<F>(d);
        const ti_product p = dw_product<F>(d);
        const scratch_of<F> at(image_g(d), image_x(d), p);
        const int64_t c = d.C / d.G, rs = d.R * d.S;
        const bool last = ti_is_channels_last(&dw.m);
        ti_result<float> to = ti_result_of(ti_at<float>(dw), rs * c, last ? 1 : rs, e.C / d.G);

        to.n_kept = c;
        to.high_step = last ? c : 1;
        ti_pack_both<F>(w, image_g(d), image_x(d), room, room + at.b, g, x);
        ti_tensor<F, true>(w, ti_matrix_of((const number *)room, 1, e.K),
                           ti_windows(e, (const number *)(room + at.b), true), p, to,
                           room + at.pieces);
    }

    static int64_t y_room(const ti_geometry &d)
    {
        return scratch_of<F>(image_x(d), filters(d), y_product<F>(d)).all;
    }
    static int64_t dx_room(const ti_geometry &d)
    {
        return scratch_of<F>(image_g(d), turned(d), dx_product<F>(d)).all;
    }
    static int64_t dw_room(const ti_geometry &d)
    {
        return scratch_of<F>(image_g(d), image_x(d), dw_product<F>(d)).all;
    }
    static double y_chain(const ti_geometry &d) { return ti_product_chain(y_product<F>(d)); }
    static double dx_chain(const ti_geometry &d) { return ti_product_chain(dx_product<F>(d)); }
    static double dw_chain(const ti_geometry &d) { return ti_product_chain(dw_product<F>(d)); }
    static const char *rejects(const ti_work *w, const ti_geometry &d)
    {
        if (d.G > 1 && d.C / d.G <= FEW && d.K / d.G <= FEW)
            return "a group has at most 8 channels";
        const ti_product all[] = {y_product<F>(d), dx_product<F>(d), dw_product<F>(d)};
        const char *why = ti_no_tensor_cores(w);
        if (!why) why = ti_windows_reject(packed<F>(d));
        for (int i = 0; i < 3 && !why; i++) why = ti_tensor_rejects(all[i]);
        return why;
    }
};

static double cost(const ti_work *w) { return 4000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_conv2d_tensor) = {
    TI_CONV_ROWS("tensor_tf32", tensor<ti_tf32>, TI_CLASS_TF32, cost),
    TI_CONV_ROWS("tensor_bf16", tensor<ti_bf16>, TI_CLASS_BF16, cost),
    TI_CONV_ROWS("tensor_f16", tensor<ti_f16>, TI_CLASS_F16, cost),
    {.op = NULL},
};
