/*
 * products.h - how rows of matrix products make them: "gemm" by the inner kernels' products in the
 * type of the operands, "bf16" by those of operands rounded to bf16, on processors that have them.
 */
#ifndef TI_CPU_PRODUCTS_H
#define TI_CPU_PRODUCTS_H

#include <math.h>

#include "cpu/fast.h"

static inline size_t ti_padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

static inline const char *ti_no_bf16(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return ti_cpu_bf16(w->device) ? NULL : "this processor has no avx512_bf16, or it is disabled";
}

static inline size_t ti_product_scratch(const ti_work *w, bool bf16, const ti_gemm *g,
                                        int n_threads)
{
    const ti_simd *k = ti_cpu_simd(w->device);

    if (bf16) return ti_cpu_bf16(w->device)->gemm_scratch(g);
    return w->in[0].m.type == TERN_F64 ? k->gemm_f64_scratch(g, n_threads)
                                       : k->gemm_scratch(g, n_threads);
}

static inline void ti_product(const ti_work *w, bool bf16, ti_threads *t, const ti_gemm *g,
                              const char *a, const char *b, char *c, void *scratch)
{
    const ti_simd *k = ti_cpu_simd(w->device);

    if (w->in[0].m.type == TERN_F64)
        k->gemm_f64(t, g, (const double *)(const void *)a, (const double *)(const void *)b,
                    (double *)(void *)c, scratch);
    else
        (bf16 ? ti_cpu_bf16(w->device)->gemm : k->gemm)(t, g, (const float *)(const void *)a,
                                                        (const float *)(const void *)b,
                                                        (float *)(void *)c, scratch);
}

static inline double ti_product_chain(const ti_work *w, bool bf16, int64_t k)
{
    return (double)(bf16 ? ti_cpu_bf16(w->device)->gemm_chain(k)
                         : ti_cpu_simd(w->device)->gemm_chain(k));
}

/* In bf16 both operands are packed at each call, a few rows take as long as 6, and short sums as
 * long as writing them. */
static inline double ti_product_ns(const ti_work *w, bool bf16, const ti_gemm *g)
{
    const double m = (double)g->m, n = (double)g->n, k = (double)g->k;

    if (bf16) return 200 + 0.0115 * fmax(m, 6) * n * k + 0.1 * k * (m + n) + 0.025 * m * n;
    return 300 + m * n * k * (w->in[0].m.type == TERN_F64 ? 0.05 : 0.025);
}

#endif
