/* small_conv.h - convolutions with few channels (small_conv.c): one group, no dilation. */
#ifndef TI_SMALL_CONV_H
#define TI_SMALL_CONV_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define small_conv_pays TI_SIMD(small_conv_pays)
#define small_conv_scratch TI_SIMD(small_conv_scratch)
#define small_conv_fwd TI_SIMD(small_conv_fwd)
#define small_conv_dx TI_SIMD(small_conv_dx)
#define small_conv_dw TI_SIMD(small_conv_dw)
#define small_conv_chain TI_SIMD(small_conv_chain)

bool small_conv_pays(const ti_conv *v, ti_conv_pass pass);
size_t small_conv_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads);
void small_conv_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                    const ti_conv_epilogue *e, void *scratch);
void small_conv_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                   void *scratch);
void small_conv_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                   void *scratch);
int64_t small_conv_chain(const ti_conv *v, ti_conv_pass pass);

#endif
