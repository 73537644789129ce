/* product.cuh - matmul as a product of gemm.cuh: any batch axes, any strides. */
#ifndef TI_CUDA_PRODUCT_CUH
#define TI_CUDA_PRODUCT_CUH

#include "gemm.cuh"

/* The batch axes of y, and where a's and b's matrices lie along them. */
static inline ti_product ti_matmul_of(const ti_work *w)
{
    const ti_view *in[] = {&w->out[0], &w->in[0], &w->in[1]};
    const tern_shape &y = w->out[0].m.shape, &a = w->in[0].m.shape;
    ti_product p = ti_product_of(1, y.dim[y.rank - 2], y.dim[y.rank - 1], a.dim[a.rank - 1]);
    tern_shape batch = y;
    int64_t n = 1;

    batch.rank -= 2;
    for (int i = 0; i < batch.rank; i++) n *= batch.dim[i];
    p = ti_product_of(n, p.M, p.N, p.K);
    memset(&p.batch, 0, sizeof p.batch);
    p.batch.rank = batch.rank;
    p.batch.n = 4;
    memcpy(p.batch.dim, batch.dim, sizeof batch.dim);
    for (int k = 0; k < 3; k++) {
        ti_meta m = in[k]->m;

        m.shape.rank -= 2;
        ti_nest_operand(&p.batch, k, &m, batch);
    }
    ti_nest_simplify(&p.batch, false);
    return p;
}

#endif
