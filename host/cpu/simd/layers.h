/*
 * layers.h - inner loops of updates and random numbers, compiled once for each instruction set.
 * All f32.
 *
 * Nothing depends on threads; an element is a function of its own operands.
 */
#ifndef TI_CPU_LAYERS_H
#define TI_CPU_LAYERS_H

#include <stdint.h>
#include <string.h>

/* p' = kept p - rate m' / (sqrt(v') + eps) and so on; scale, decay: what is done to g. The
 * corrections of both moments are in rate and eps. */
typedef struct {
    float scale, decay, beta1, fresh1, beta2, fresh2, rate, eps, kept; /* fresh: 1 - beta */
} ti_adam;
typedef struct {
    float scale, decay, momentum, fresh, lr; /* fresh: 1 - dampening */
    int nesterov;
} ti_sgd;

typedef struct ti_layers {
    /* Results may lie on p, m, v. m NULL: none. */
    void (*sgd)(int64_t n, const ti_sgd *o, const float *p, const float *m, const float *g,
                float *new_p, float *new_m);
    void (*adam)(int64_t n, const ti_adam *o, const float *p, const float *m, const float *v,
                 const float *g, float *new_p, float *new_m, float *new_v);

    /* The words of blocks first … first + 16, in order: 64 of them. */
    void (*philox)(uint64_t key, uint64_t counter, uint64_t first, uint32_t to[64]);
    /* y = bits < cut ? 0 : x scale */
    void (*drop)(int64_t n, const uint32_t *bits, uint32_t cut, const float *x, float scale,
                 float *y);
} ti_layers;

extern const ti_layers ti_layers_portable;
#ifdef __x86_64__
extern const ti_layers ti_layers_avx2, ti_layers_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_layers *ti_layers_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_layers_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_layers_avx2;
#endif
    (void)name;
    return &ti_layers_portable;
}

#endif
