/*
 * norms.h - inner loops of batch norms, compiled once for each instruction set. All f32, channels
 * innermost and next to each other: n of them, `pixels` times.
 *
 *  - Nothing depends on threads; a channel is a function of its own operands.
 *  - Sums are in double, pixel after pixel; of few channels in as many chains as fill a register.
 */
#ifndef TI_CPU_NORMS_H
#define TI_CPU_NORMS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Of a norm, an addition behind it and a relu behind that: q = (g + g2) (y > 0); NULL: without. */
typedef struct {
    const float *g, *g2, *y;
} ti_cotangent;

typedef struct ti_norms {
    /* sum += x over the pixels */
    void (*sums)(int64_t pixels, int64_t n, const float *x, double *sum);
    /* sum += x - pivot, squares += (x - pivot)^2; n channels, `pixels` of them. With one of the
     * values as the pivot nothing cancels that double could not bear. */
    void (*moments)(int64_t pixels, int64_t n, const float *x, const double *pivot, double *sum,
                    double *squares);
    /* y = (x - mean) gain + beta + r, r may be NULL; relu: 0 where that is not above (NaN stays) */
    void (*normalise)(int64_t pixels, int64_t n, const float *x, const float *mean,
                      const float *gain, const float *beta, const float *r, bool relu, float *y);
    /* sum_g += q, sum_gz += q (x - mean), where q = g, + g2 unless that is NULL, but 0 where y is
     * not above 0 unless y is NULL; dr = q unless it is NULL. dr may lie on g. */
    void (*moments_back)(int64_t pixels, int64_t n, const float *x, const ti_cotangent *g,
                         const float *mean, double *sum_g, double *sum_gz, float *dr);
    /* dx = gain (q - mean_g - (x - mean) slope); dx may lie on g */
    void (*normalise_back)(int64_t pixels, int64_t n, const float *x, const ti_cotangent *g,
                           const float *mean, const float *gain, const float *mean_g,
                           const float *slope, float *dx);
} ti_norms;

extern const ti_norms ti_norms_portable;
#ifdef __x86_64__
extern const ti_norms ti_norms_avx2, ti_norms_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_norms *ti_norms_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_norms_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_norms_avx2;
#endif
    (void)name;
    return &ti_norms_portable;
}

#endif
