/* plain.c - the table, and convolutions as plain loops. */
#include "gemm.h"

static size_t no_conv_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    (void)v, (void)pass, (void)n_threads;
    return 0;
}

/* Visits every (x, w, y) triple that meets and adds to one of the three. */
INLINE void walk(const ti_conv *v, ti_conv_pass into, float *x, float *w, float *y)
{
    const int64_t cg = v->c / v->groups, kg = v->k / v->groups;

    for (int64_t i = 0; i < v->n * v->p * v->q * v->k; i++) {
        const int64_t k = i % v->k, q = i / v->k % v->q, p = i / v->k / v->q % v->p;
        const int64_t n = i / v->k / v->q / v->p;
        for (int64_t j = 0; j < v->r * v->s; j++) {
            const int64_t h = p * v->stride[0] - v->pad[0] + j / v->s * v->dilation[0];
            const int64_t u = q * v->stride[1] - v->pad[1] + j % v->s * v->dilation[1];
            if (h < 0 || h >= v->h || u < 0 || u >= v->w) continue;
            float *xe = x + ((n * v->h + h) * v->w + u) * v->c + k / kg * cg;
            float *we = w + (k * v->r * v->s + j) * cg;
            for (int64_t c = 0; c < cg; c++) switch (into) {
                case TI_CONV_FWD: y[i] += xe[c] * we[c]; break;
                case TI_CONV_DX: xe[c] += y[i] * we[c]; break;
                case TI_CONV_DW: we[c] += xe[c] * y[i]; break;
                }
        }
    }
}

static void conv_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                     const ti_conv_epilogue *e, void *scratch)
{
    const int64_t n = v->n * v->p * v->q * v->k;

    (void)t, (void)scratch;
    for (int64_t i = 0; i < n; i++) y[i] = 0;
    walk(v, TI_CONV_FWD, (float *)(uintptr_t)x, (float *)(uintptr_t)w, y);
    for (int64_t i = 0; i < n && e; i++) {
        if (e->bias) y[i] += e->bias[i % v->k];
        if (e->relu) y[i] = relu_of(y[i]);
    }
}

static void conv_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                    void *scratch)
{
    (void)t, (void)scratch;
    for (int64_t i = 0; i < v->n * v->h * v->w * v->c; i++) dx[i] = 0;
    walk(v, TI_CONV_DX, dx, (float *)(uintptr_t)w, (float *)(uintptr_t)dy);
}

static void conv_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                    void *scratch)
{
    (void)t, (void)scratch;
    for (int64_t i = 0; i < v->k * v->r * v->s * (v->c / v->groups); i++) dw[i] = 0;
    walk(v, TI_CONV_DW, (float *)(uintptr_t)x, dw, (float *)(uintptr_t)dy);
}

static int64_t conv_chain(const ti_conv *v, ti_conv_pass pass)
{
    return pass == TI_CONV_FWD  ? v->r * v->s * (v->c / v->groups) + 2
           : pass == TI_CONV_DX ? v->r * v->s * (v->k / v->groups)
                                : v->n * v->p * v->q;
}

static bool wino_fits(const ti_conv *v)
{
    (void)v;
    return false;
}

const ti_simd TI_SIMD(ti_simd) = {
    .name = TI_ISA_NAME,
    .gemm_scratch = TI_SIMD(gemm_scratch),
    .gemm = TI_SIMD(gemm),
    .gemm_f64_scratch = TI_SIMD(gemm_scratch_f64),
    .gemm_f64 = TI_SIMD(gemm_f64),
    .gemm_chain = TI_SIMD(gemm_chain),
    .conv_scratch = no_conv_scratch,
    .conv_fwd = conv_fwd,
    .conv_dx = conv_dx,
    .conv_dw = conv_dw,
    .conv_chain = conv_chain,
    .wino_fits = wino_fits,
};
