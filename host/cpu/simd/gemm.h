/* gemm.h - the matrix products of gemm.c, for the table and for convolutions. */
#ifndef TI_SIMD_GEMM_H
#define TI_SIMD_GEMM_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#ifdef TI_F64
#define GEMM(name) TI_SIMD(name##_f64)
#else
#define GEMM(name) TI_SIMD(name)
#endif

size_t TI_SIMD(gemm_scratch)(const ti_gemm *g, int n_threads);
void TI_SIMD(gemm)(ti_threads *t, const ti_gemm *g, const float *a, const float *b, float *c,
                   void *scratch);
size_t TI_SIMD(gemm_scratch_f64)(const ti_gemm *g, int n_threads);
void TI_SIMD(gemm_f64)(ti_threads *t, const ti_gemm *g, const double *a, const double *b, double *c,
                       void *scratch);
int64_t TI_SIMD(gemm_chain)(int64_t k);

#endif
