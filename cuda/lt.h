/*
 * lt.h - one product of matrices by cuBLASLt: its algorithm, which our own row has confirmed, and
 * its run.
 */
#ifndef TI_CUDA_LT_H
#define TI_CUDA_LT_H

#include "vendor.h"

/* y = act(a b + bias): y [M,N] dense, a [M,K], b [K,N]. All bytes are defined: it is a key. */
typedef struct {
    int64_t M, N, K, batch, lda, ldb, step_a, step_b;
    int turn_a, turn_b; /* the matrix lies by columns */
    int type, bias, relu, math;
    int varies, spare; /* varies: the result may differ between equal runs */
} ti_product;

typedef struct {
    ti_product p;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    const ti_row *own;
    tern_math_t to;  /* what the operands are rounded to */
    bool relu_after; /* by our own row */
} ti_lt_plan;

/* w: a call that is the product to->p. NULL, or why there is no plan. */
const char *ti_lt_prepare(const ti_work *w, ti_lt_plan *to, tern_math_t math);
/* w->plan is a ti_lt_plan. */
void ti_lt_run(const ti_work *w);
/* y = act(a b + bias) by the plan; y, a, b and bias are addresses. */
void ti_lt_multiply(const ti_work *w, const ti_lt_plan *how, void *y, const void *a, const void *b,
                    const void *bias);

static inline ti_math ti_lt_math(tern_math_t to)
{
    return to == TERN_MATH_F32 ? TI_MATH_F32 : TI_MATH_TF32;
}

#endif
