/*
 * matmul_tensor.cu - matmul in the math modes tf32, bf16 and f16, on tensor cores (tensor.cuh).
 *
 *   y[..., i, j] = sum over k of round(a[..., i, k]) round(b[..., k, j])
 *
 * Any strides. Operands are rounded to nearest even, as round_to does; sums are in f32.
 */
#include "product.cuh"
#include "tensor.cuh"

template <class F> static void matmul_in(const ti_work *w)
{
    const ti_product p = ti_matmul_of(w);
    const ti_meta *a = &w->in[0].m, *b = &w->in[1].m;
    const int i = a->shape.rank - 2, j = b->shape.rank - 2;

    ti_tensor<F>(w, ti_matrix_of(ti_at<const float>(w->in[0]), a->stride[i], a->stride[i + 1]),
                 ti_matrix_of(ti_at<const float>(w->in[1]), b->stride[j + 1], b->stride[j]), p,
                 ti_result_of(ti_at<float>(w->out[0]), p.N, 1, p.N), (float *)w->scratch);
}

static size_t scratch(const ti_work *w)
{
    return (size_t)ti_product_scratch(ti_matmul_of(w)) * sizeof(float);
}
static double chain(const ti_work *w) { return ti_product_chain(ti_matmul_of(w)); }
static double cost(const ti_work *w) { return 1000 + ti_moved_cost(w); }

#define ROW(format, mode)                                                                          \
    {                                                                                              \
        .op = "matmul", .impl = "tensor_" #format, .reject = ti_no_tensor_cores, .cost = cost,     \
        .scratch = scratch, .run = matmul_in<ti_##format>, .chain = chain, .numbers = mode         \
    }
TI_KERNELS(ti_cuda_matmul_tensor) = {
    ROW(tf32, TI_CLASS_TF32),
    ROW(bf16, TI_CLASS_BF16),
    ROW(f16, TI_CLASS_F16),
    {.op = NULL},
};
