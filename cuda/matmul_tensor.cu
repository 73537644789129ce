/*
 * matmul_tensor.cu - matmul in the math modes tf32, bf16 and f16, on tensor cores (tensor.cuh).
 *
 *   y[..., i, j] = sum over k of round(a[..., i, k]) round(b[..., k, j])
 *
 * Any strides. Operands are rounded to nearest even, as round_to does, and packed: a by rows, b by
 * columns, each with its own batch axes. Sums are in f32. Scratch: the packed operands, then sums
 * of pieces.
 */
#include "product.cuh"
#include "tensor.cuh"

typedef struct {
    ti_packing a, b;
    ti_product p;
    int64_t at_b, at_pieces, all; /* floats of scratch */
} plan;

/* Matrices of m, rows along axis `outer` (counted from the last but one) and numbers along the
 * other; *packed: where they lie then. */
template <class F> static ti_packing matrices(const ti_meta &m, int outer, ti_meta *packed)
{
    const int i = m.shape.rank - 2 + outer, k = m.shape.rank - 1 - outer;
    tern_shape s = m.shape;
    int64_t stride[TERN_RANK];

    memcpy(stride, m.stride, sizeof stride);
    s.dim[m.shape.rank - 2] = m.shape.dim[i];
    stride[m.shape.rank - 2] = m.stride[i];
    const ti_packing p =
        ti_packing_of(m.shape.rank - 1, s.dim, stride, m.shape.dim[k], m.stride[k]);
    s.dim[m.shape.rank - 1] = ti_vectors<F>::padded(m.shape.dim[k]);
    *packed = ti_packed_meta(m.type, s);
    return p;
}

template <class F> static plan plan_of(const ti_work *w)
{
    const tern_shape &y = w->out[0].m.shape, &x = w->in[0].m.shape;
    ti_meta a, b;
    plan n;

    n.a = matrices<F>(w->in[0].m, 0, &a);
    n.b = matrices<F>(w->in[1].m, 1, &b);
    n.p = ti_tensor_product<F>(ti_matmul_count(y), y.dim[y.rank - 2], y.dim[y.rank - 1],
                               x.dim[x.rank - 1]);
    ti_matmul_batch(&n.p, &w->out[0].m, &a, &b);
    n.at_b = ti_vectors<F>::room(n.a);
    n.at_pieces = n.at_b + ti_vectors<F>::room(n.b);
    n.all = n.at_pieces + ti_product_scratch(n.p);
    return n;
}

template <class F> static void matmul(const ti_work *w)
{
    typedef typename F::number number;
    const plan n = plan_of<F>(w);
    const int64_t pitch = ti_vectors<F>::padded(n.p.K);
    float *room = (float *)w->scratch;

    ti_pack_both<F>(w, n.a, n.b, room, room + n.at_b, ti_at<const float>(w->in[0]),
                    ti_at<const float>(w->in[1]));
    ti_tensor<F, false>(w, ti_matrix_of((const number *)room, pitch, 1),
                        ti_matrix_of((const number *)(room + n.at_b), pitch, 1), n.p,
                        ti_result_of(ti_at<float>(w->out[0]), n.p.N, 1, n.p.N), room + n.at_pieces);
}

template <class F> static size_t scratch(const ti_work *w)
{
    return (size_t)plan_of<F>(w).all * sizeof(float);
}
template <class F> static double chain(const ti_work *w)
{
    return ti_product_chain(plan_of<F>(w).p);
}
template <class F> static const char *rejects(const ti_work *w)
{
    const char *why = ti_no_tensor_cores(w);

    return why ? why : ti_tensor_rejects(plan_of<F>(w).p);
}
static double cost(const ti_work *w) { return 1000 + ti_moved_cost(w); }

#define ROW(format, mode)                                                                          \
    {                                                                                              \
        .op = "matmul", .impl = "tensor_" #format, .reject = rejects<ti_##format>, .cost = cost,   \
        .scratch = scratch<ti_##format>, .run = matmul<ti_##format>, .chain = chain<ti_##format>,  \
        .numbers = mode                                                                            \
    }
TI_KERNELS(ti_cuda_matmul_tensor) = {
    ROW(tf32, TI_CLASS_TF32),
    ROW(bf16, TI_CLASS_BF16),
    ROW(f16, TI_CLASS_F16),
    {.op = NULL},
};
