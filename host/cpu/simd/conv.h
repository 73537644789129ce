/* conv.h - convolutions of any shape, for the table (conv.c). */
#ifndef TI_SIMD_CONV_H
#define TI_SIMD_CONV_H

#include "cpu/simd/kernels.h"
#include "simd.h"

size_t TI_SIMD(conv_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads);
void TI_SIMD(conv_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                       const ti_conv_epilogue *e, void *scratch);
void TI_SIMD(conv_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                      void *scratch);
void TI_SIMD(conv_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                      void *scratch);
int64_t TI_SIMD(conv_chain)(const ti_conv *v, ti_conv_pass pass);

#endif
