/*
 * matmul.cu - products of matrices, of any strides, by the tiled product of gemm.cuh.
 *
 *   y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]
 */
#include "product.cuh"

static ti_product matmul_of(const ti_work *w)
{
    const tern_shape &y = w->out[0].m.shape, &a = w->in[0].m.shape;
    ti_product p =
        ti_product_of(ti_matmul_count(y), y.dim[y.rank - 2], y.dim[y.rank - 1], a.dim[a.rank - 1]);

    ti_matmul_batch(&p, &w->out[0].m, &w->in[0].m, &w->in[1].m);
    return p;
}

template <class T> static void matmul_as(const ti_work *w)
{
    const ti_product p = matmul_of(w);
    const ti_meta *a = &w->in[0].m, *b = &w->in[1].m;
    const int i = a->shape.rank - 2, j = b->shape.rank - 2;

    ti_gemm(w, ti_matrix_of(ti_at<const T>(w->in[0]), a->stride[i], a->stride[i + 1]),
            ti_matrix_of(ti_at<const T>(w->in[1]), b->stride[j + 1], b->stride[j]), p,
            ti_result_of(ti_at<T>(w->out[0]), p.N, 1, p.N), (T *)w->scratch);
}
TI_FLOAT_ROW(matmul, w->in[0])

static size_t matmul_scratch(const ti_work *w)
{
    return (size_t)ti_product_scratch(matmul_of(w)) * tern_type_size(w->in[0].m.type);
}
static double matmul_chain(const ti_work *w) { return ti_product_chain(matmul_of(w)); }

static double cost(const ti_work *w) { return 2000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_matmul) = {
    {.op = "matmul",
     .impl = "tiled",
     .cost = cost,
     .scratch = matmul_scratch,
     .run = matmul,
     .chain = matmul_chain,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
