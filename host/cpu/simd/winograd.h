/* winograd.h - 3x3 convolutions by Winograd: with stride 1 and padding up to 2 (wino1_*,
 * winograd.c), and whichever kind fits, for the table (wino_*, wino.c). */
#ifndef TI_WINOGRAD_H
#define TI_WINOGRAD_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define wino1_scratch TI_SIMD(wino1_scratch)
#define wino1_fwd TI_SIMD(wino1_fwd)
#define wino1_dx TI_SIMD(wino1_dx)
#define wino1_dw TI_SIMD(wino1_dw)
#define wino1_chain TI_SIMD(wino1_chain)
#define wino1_growth TI_SIMD(wino1_growth)

/* False: a value is not finite, or leaves the range on its way, and outputs that it has no part in
 * may be spoilt. */
size_t wino1_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads);
bool wino1_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch);
bool wino1_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch);
bool wino1_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch);
int64_t wino1_chain(const ti_conv *v, ti_conv_pass pass);
double wino1_growth(ti_conv_pass pass);

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
double TI_SIMD(wino_growth)(const ti_conv *v, ti_conv_pass pass);

#endif
