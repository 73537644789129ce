/* table.c - this instruction set's table. */
#include "conv.h"
#include "gemm.h"

static bool wino_fits(const ti_conv *v)
{
    (void)v;
    return false;
}

const ti_simd TI_SIMD(ti_simd) = {
    .name = TI_ISA_NAME,
    .gemm_scratch = TI_SIMD(gemm_scratch),
    .gemm = TI_SIMD(gemm),
    .gemm_f64_scratch = TI_SIMD(gemm_scratch_f64),
    .gemm_f64 = TI_SIMD(gemm_f64),
    .gemm_chain = TI_SIMD(gemm_chain),
    .conv_scratch = TI_SIMD(conv_scratch),
    .conv_fwd = TI_SIMD(conv_fwd),
    .conv_dx = TI_SIMD(conv_dx),
    .conv_dw = TI_SIMD(conv_dw),
    .conv_chain = TI_SIMD(conv_chain),
    .wino_fits = wino_fits,
};
