/* small_conv.h - convolutions with few channels (small_conv.c): one group, no dilation. */
#ifndef TI_SMALL_CONV_H
#define TI_SMALL_CONV_H

#include "cpu/simd/kernels.h"
#include "simd.h"

bool TI_SIMD(small_conv_pays)(const ti_conv *v, ti_conv_pass pass);
size_t TI_SIMD(small_conv_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads);
void TI_SIMD(small_conv_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w,
                             float *y, const ti_conv_epilogue *e, void *scratch);
void TI_SIMD(small_conv_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w,
                            float *dx, void *scratch);
void TI_SIMD(small_conv_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy,
                            float *dw, void *scratch);
int64_t TI_SIMD(small_conv_chain)(const ti_conv *v, ti_conv_pass pass);

#endif
