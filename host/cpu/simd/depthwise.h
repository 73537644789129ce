/* depthwise.h - convolution with one channel in each group, groups = c = k (depthwise.c). */
#ifndef TI_DEPTHWISE_H
#define TI_DEPTHWISE_H

#include "cpu/simd/kernels.h"
#include "simd.h"

size_t TI_SIMD(depthwise_scratch)(const ti_conv *v, ti_conv_pass pass);
void TI_SIMD(depthwise_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w,
                            float *y, const ti_conv_epilogue *e, void *scratch);
void TI_SIMD(depthwise_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w,
                           float *dx, void *scratch);
void TI_SIMD(depthwise_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy,
                           float *dw, void *scratch);
int64_t TI_SIMD(depthwise_chain)(const ti_conv *v, ti_conv_pass pass);

#endif
