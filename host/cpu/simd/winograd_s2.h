/* winograd_s2.h - 3x3 convolutions with stride 2 and padding 1 (winograd_s2.c). */
#ifndef TI_WINOGRAD_S2_H
#define TI_WINOGRAD_S2_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define wino2_scratch TI_SIMD(wino2_scratch)
#define wino2_fwd TI_SIMD(wino2_fwd)
#define wino2_dx TI_SIMD(wino2_dx)
#define wino2_dw TI_SIMD(wino2_dw)
#define wino2_chain TI_SIMD(wino2_chain)
#define wino2_growth TI_SIMD(wino2_growth)

/* False as in winograd.h. */
size_t wino2_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads);
bool wino2_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch);
bool wino2_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch);
bool wino2_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch);
int64_t wino2_chain(const ti_conv *v, ti_conv_pass pass);
double wino2_growth(ti_conv_pass pass);

#endif
