/* table.c - this instruction set's table. */
#include "conv.h"
#include "gemm.h"
#include "winograd.h"

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
    .wino_fits = TI_SIMD(wino_fits),
    .wino_pays = TI_SIMD(wino_pays),
    .wino_scratch = TI_SIMD(wino_scratch),
    .wino_fwd = TI_SIMD(wino_fwd),
    .wino_dx = TI_SIMD(wino_dx),
    .wino_dw = TI_SIMD(wino_dw),
    .wino_chain = TI_SIMD(wino_chain),
    .wino_growth = TI_SIMD(wino_growth),
};
