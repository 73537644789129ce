/*
 * groups.h - inner loops of layer norms, compiled once for each instruction set. All f32, the n
 * values of a group next to each other, groups one behind the other.
 *
 *  - Nothing depends on threads, nor on how many groups a call takes.
 *  - Sums are in double: over a group in eight chains or more, over groups one after the other.
 */
#ifndef TI_CPU_GROUPS_H
#define TI_CPU_GROUPS_H

#include <stdint.h>
#include <string.h>

enum { TI_GROUPS = 4 }; /* the most that sums_back takes */

typedef struct ti_groups {
    /* The mean and 1 / sqrt(variance + eps) of a group. */
    void (*statistics)(int64_t n, const float *x, double eps, double *mean, double *inv);
    /* One group: y = (x - mean) inv gamma + beta; gamma and beta may be NULL. */
    void (*apply)(int64_t n, const float *x, float mean, float inv, const float *gamma,
                  const float *beta, float *y);
    /* Of each group the sums of q = g gamma and of q z, where z = x - mean; over the groups
     * dgamma += g z inv, dbeta += g. gamma NULL: 1. */
    void (*sums_back)(int groups, int64_t n, const float *x, const float *g, const float *gamma,
                      const float *mean, const float *inv, double *sum_q, double *sum_qz,
                      double *dgamma, double *dbeta);
    /* One group: dx = inv (q - mean_q - z slope) */
    void (*apply_back)(int64_t n, const float *x, const float *g, const float *gamma, float mean,
                       float inv, float mean_q, float slope, float *dx);
} ti_groups;

extern const ti_groups ti_groups_portable;
#ifdef __x86_64__
extern const ti_groups ti_groups_avx2, ti_groups_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_groups *ti_groups_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_groups_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_groups_avx2;
#endif
    (void)name;
    return &ti_groups_portable;
}

#endif
