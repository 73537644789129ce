/*
 * conv.c - which kernel a convolution takes: by its shape alone.
 */
#include "conv.h"
#include "depthwise.h"
#include "few.h"
#include "igemm.h"
#include "small_conv.h"

#include <string.h>

typedef enum {
    NOTHING, /* the result has no elements, or no product reaches it */
    DEPTHWISE,
    SMALL,
    FEW,
    IGEMM
} method;

static method choose(const ti_conv *v, ti_conv_pass pass)
{
    if (v->c <= 0 || v->k <= 0 || v->r <= 0 || v->s <= 0 || v->n <= 0 || v->p <= 0 || v->q <= 0)
        return NOTHING;
    if (v->groups == v->c && v->groups == v->k && v->c > 1) return DEPTHWISE;
    if (small_conv_pays(v, pass)) return SMALL;
    return few_pays(v, pass) ? FEW : IGEMM;
}

size_t TI_SIMD(conv_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    switch (choose(v, pass)) {
    case NOTHING: return 0;
    case DEPTHWISE: return depthwise_scratch(v, pass);
    case SMALL: return small_conv_scratch(v, pass, n_threads);
    case FEW: return few_scratch(v, pass);
    case IGEMM: return igemm_scratch(v, pass, n_threads);
    }
    return 0;
}

static void zero(float *to, int64_t n)
{
    if (n > 0) memset(to, 0, (size_t)n * sizeof(float));
}

void TI_SIMD(conv_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                       const ti_conv_epilogue *e, void *scratch)
{
    switch (choose(v, TI_CONV_FWD)) {
    case NOTHING:
        for (int64_t i = 0; i < v->n * v->p * v->q; i++)
            for (int64_t k = 0; k < v->k; k++) {
                const float b = e && e->bias ? e->bias[k] : 0;
                y[i * v->k + k] = e && e->relu ? relu_of(b) : b;
            }
        break;
    case DEPTHWISE: depthwise_fwd(t, v, x, w, y, e, scratch); break;
    case SMALL: small_conv_fwd(t, v, x, w, y, e, scratch); break;
    case FEW: few_fwd(t, v, x, w, y, e, scratch); break;
    case IGEMM: igemm_fwd(t, v, x, w, y, e, scratch); break;
    }
}

void TI_SIMD(conv_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                      void *scratch)
{
    switch (choose(v, TI_CONV_DX)) {
    case NOTHING: zero(dx, v->n * v->h * v->w * v->c); break;
    case DEPTHWISE: depthwise_dx(t, v, dy, w, dx, scratch); break;
    case SMALL: small_conv_dx(t, v, dy, w, dx, scratch); break;
    case FEW: few_dx(t, v, dy, w, dx, scratch); break;
    case IGEMM: igemm_dx(t, v, dy, w, dx, scratch); break;
    }
}

void TI_SIMD(conv_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                      void *scratch)
{
    switch (choose(v, TI_CONV_DW)) {
    case NOTHING: zero(dw, v->k * v->r * v->s * (v->c / v->groups)); break;
    case DEPTHWISE: depthwise_dw(t, v, x, dy, dw, scratch); break;
    case SMALL: small_conv_dw(t, v, x, dy, dw, scratch); break;
    case FEW: few_dw(t, v, x, dy, dw, scratch); break;
    case IGEMM: igemm_dw(t, v, x, dy, dw, scratch); break;
    }
}

int64_t TI_SIMD(conv_chain)(const ti_conv *v, ti_conv_pass pass)
{
    switch (choose(v, pass)) {
    case NOTHING: return 1;
    case DEPTHWISE: return depthwise_chain(v, pass);
    case SMALL: return small_conv_chain(v, pass);
    case FEW: return few_chain(v, pass);
    case IGEMM: return igemm_chain(v, pass);
    }
    return 1;
}
