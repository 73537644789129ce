/* igemm.h - convolution as a matrix product (igemm.c): any filter, stride, padding, dilation,
 * groups, channels. No extent may be zero but n, h and w. */
#ifndef TI_IGEMM_H
#define TI_IGEMM_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define igemm_scratch TI_SIMD(igemm_scratch)
#define igemm_fwd TI_SIMD(igemm_fwd)
#define igemm_dx TI_SIMD(igemm_dx)
#define igemm_dw TI_SIMD(igemm_dw)
#define igemm_chain TI_SIMD(igemm_chain)

size_t igemm_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads);
void igemm_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch);
void igemm_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch);
void igemm_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch);
int64_t igemm_chain(const ti_conv *v, ti_conv_pass pass);

#endif
