/* winograd.h - 3x3 convolutions with stride 1 and padding up to 2 by F(4x4, 3x3) (winograd.c). */
#ifndef TI_WINOGRAD_H
#define TI_WINOGRAD_H

#include "cpu/simd/kernels.h"
#include "simd.h"

bool TI_SIMD(wino_fits)(const ti_conv *v);
bool TI_SIMD(wino_pays)(const ti_conv *v, ti_conv_pass pass);
size_t TI_SIMD(wino_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads);
void TI_SIMD(wino_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                       const ti_conv_epilogue *e, void *scratch);
void TI_SIMD(wino_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                      void *scratch);
void TI_SIMD(wino_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                      void *scratch);
int64_t TI_SIMD(wino_chain)(const ti_conv *v, ti_conv_pass pass);
double TI_SIMD(wino_growth)(ti_conv_pass pass);

#endif
