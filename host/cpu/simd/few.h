/* few.h - convolutions whose result or gradient has few pixels (few.c), any geometry. */
#ifndef TI_FEW_CONV_H
#define TI_FEW_CONV_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define few_pays TI_SIMD(few_pays)
#define few_scratch TI_SIMD(few_scratch)
#define few_fwd TI_SIMD(few_fwd)
#define few_dx TI_SIMD(few_dx)
#define few_dw TI_SIMD(few_dw)
#define few_chain TI_SIMD(few_chain)

bool few_pays(const ti_conv *v, ti_conv_pass pass);
size_t few_scratch(const ti_conv *v, ti_conv_pass pass);
void few_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
             const ti_conv_epilogue *e, void *scratch);
void few_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
            void *scratch);
void few_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
            void *scratch);
int64_t few_chain(const ti_conv *v, ti_conv_pass pass);

#endif
