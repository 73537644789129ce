/* product.cuh - matmul as a product of gemm.cuh: any batch axes, any strides. */
#ifndef TI_CUDA_PRODUCT_CUH
#define TI_CUDA_PRODUCT_CUH

#include "gemm.cuh"

/* The batch axes of p: those of y, and where the matrices of a and b lie along them. */
static inline void ti_matmul_batch(ti_product *p, const ti_meta *y, const ti_meta *a,
                                   const ti_meta *b)
{
    const ti_meta *of[] = {y, a, b};
    tern_shape batch = y->shape;

    batch.rank -= 2;
    memset(&p->batch, 0, sizeof p->batch);
    p->batch.rank = batch.rank;
    p->batch.n = 4;
    memcpy(p->batch.dim, batch.dim, sizeof batch.dim);
    for (int k = 0; k < 3; k++) {
        ti_meta m = *of[k];

        m.shape.rank -= 2;
        ti_nest_operand(&p->batch, k, &m, batch);
    }
    ti_nest_simplify(&p->batch, false);
}
static inline int64_t ti_matmul_count(const tern_shape &y)
{
    int64_t n = 1;

    for (int i = 0; i < y.rank - 2; i++) n *= y.dim[i];
    return n;
}

#endif
