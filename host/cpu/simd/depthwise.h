/* depthwise.h - convolution with one channel in each group, groups = c = k (depthwise.c). */
#ifndef TI_DEPTHWISE_H
#define TI_DEPTHWISE_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define depthwise_scratch TI_SIMD(depthwise_scratch)
#define depthwise_fwd TI_SIMD(depthwise_fwd)
#define depthwise_dx TI_SIMD(depthwise_dx)
#define depthwise_dw TI_SIMD(depthwise_dw)
#define depthwise_chain TI_SIMD(depthwise_chain)

size_t depthwise_scratch(const ti_conv *v, ti_conv_pass pass);
void depthwise_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                   const ti_conv_epilogue *e, void *scratch);
void depthwise_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                  void *scratch);
void depthwise_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                  void *scratch);
int64_t depthwise_chain(const ti_conv *v, ti_conv_pass pass);

#endif
