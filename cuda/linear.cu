/*
 * linear.cu - fully connected layers, by the tiled product of gemm.cuh.
 *
 *   linear_act:   y[n, k] = act(sum over c of x[n, c] w[k, c] + b[k])
 *   linear_act_d: h = gy act'(y); dx = h w, dw = h' x, db = column sums of h
 *
 * All lie row-major. What they share with convolutions stands in conv.cuh.
 */
#include "conv.cuh"
#include "gemm.cuh"

struct tiled {
    typedef ti_as_is numbers;
    typedef ti_linear_layer layer;

    template <class T>
    static void y(const ti_work *w, const ti_geometry &d, T *y, const T *x, const T *f,
                  const T *bias, int act, T *room)
    {
        ti_result<T> to = ti_result_of(y, d.K, 1, d.K);

        to.bias = bias;
        to.act = act;
        ti_gemm(w, ti_matrix_of(x, d.C, 1), ti_matrix_of(f, d.C, 1), y_product(d), to, room);
    }
    template <class T>
    static void dx(const ti_work *w, const ti_geometry &d, T *dx, const T *h, const T *f, T *room)
    {
        ti_gemm(w, ti_matrix_of(h, d.K, 1), ti_matrix_of(f, 1, d.C), dx_product(d),
                ti_result_of(dx, d.C, 1, d.C), room);
    }
    template <class T>
    static void dw(const ti_work *w, const ti_geometry &d, const ti_view &dw, const T *x,
                   const T *h, T *room)
    {
        ti_gemm(w, ti_matrix_of(h, 1, d.K), ti_matrix_of(x, 1, d.C), dw_product(d),
                ti_result_of(ti_at<T>(dw), d.C, 1, d.C), room);
    }

    static ti_product y_product(const ti_geometry &d) { return ti_product_of(1, d.N, d.K, d.C); }
    static ti_product dx_product(const ti_geometry &d) { return ti_product_of(1, d.N, d.C, d.K); }
    static ti_product dw_product(const ti_geometry &d) { return ti_product_of(1, d.K, d.C, d.N); }
    static int64_t y_room(const ti_geometry &d) { return ti_product_scratch(y_product(d)); }
    static int64_t dx_room(const ti_geometry &d) { return ti_product_scratch(dx_product(d)); }
    static int64_t dw_room(const ti_geometry &d) { return ti_product_scratch(dw_product(d)); }
    static double y_chain(const ti_geometry &d) { return ti_product_chain(y_product(d)); }
    static double dx_chain(const ti_geometry &d) { return ti_product_chain(dx_product(d)); }
    static double dw_chain(const ti_geometry &d) { return ti_product_chain(dw_product(d)); }
    static const char *rejects(const ti_work *, const ti_geometry &) { return NULL; }
};

static double cost(const ti_work *w) { return 2000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_linear) = {TI_LINEAR_ROWS("tiled", tiled, TI_REORDERED, cost), {.op = NULL}};
