/*
 * gemm.h - matrix products of operands rounded to bf16, by the dot products of AVX512_BF16.
 *
 * A lane of vdpbf16ps adds two products to a sum in f32, the odd one first, by two fused
 * multiply-adds, each rounded to nearest even. It takes operands below 2^-126 for zeros and makes
 * zeros of sums below 2^-126. The first would be another meaning of the mode: 2^-130 times 2^120 is
 * no zero on other devices. So packing looks for such operands, and where it finds one the whole
 * product is made by a second version of the kernels, of ordinary instructions and in the same
 * order. The second stays: each product may lose a sum of less than 2^-126, which is in the bounds
 * of class bf16 (ti_flushed in ops/common.h).
 *
 * Rules as in cpu/simd/kernels.h: bits do not depend on the threads, nothing is allocated.
 */
#ifndef TI_CPU_BF16_GEMM_H
#define TI_CPU_BF16_GEMM_H

#include "cpu/simd/kernels.h"

typedef struct {
    size_t (*gemm_scratch)(const ti_gemm *g);
    void (*gemm)(ti_threads *t, const ti_gemm *g, const float *a, const float *b, float *c,
                 void *scratch);
    int64_t (*gemm_chain)(int64_t k); /* bias and accumulate included */
} ti_bf16;

#ifdef __x86_64__
extern const ti_bf16 ti_bf16_avx512;
#endif

#endif
