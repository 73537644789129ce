/*
 * layers.h - inner loops of pools, layer norms, updates and random numbers, compiled once for each
 * instruction set. All f32, channels innermost and next to each other.
 *
 *  - Nothing depends on threads; an element or a channel is a function of its own operands.
 *  - Sums are in double, pixel after pixel.
 */
#ifndef TI_CPU_LAYERS_H
#define TI_CPU_LAYERS_H

#include <stdint.h>
#include <string.h>

/* A window clipped to the image: rows x columns pixels from the operand's first one on. Position
 * in the whole window: first + r · row_position + s. Whole vectors may be read up to x_room
 * elements from the first on, and written up to y_room elements from y's on: what comes there is
 * written later. */
typedef struct {
    int64_t rows, columns, row_step, column_step; /* steps in elements */
    int64_t x_room, y_room;
    int first, row_position;
} ti_window;

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
    /* y = first largest of a window, NaN above all; where (or NULL): its position. n channels. */
    void (*max_window)(int64_t n, const ti_window *o, const float *x, float *y, uint8_t *where);
    /* A row of `count` whole windows of rows x columns side by side, whose image rows lie `row`
     * apart; x_room elements of x may be read. */
    void (*max_tiles)(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                      int64_t x_room, const float *x, float *y, uint8_t *where);
    /* dx += g where the position is `where` */
    void (*max_window_back)(int64_t n, const ti_window *o, const float *g, const uint8_t *where,
                            float *dx);
    /* A row of pixels of dx, n channels each, under `count` windows side by side, `size` pixels
     * wide, in their row `row`: written, not added to. */
    void (*max_tiles_back)(int64_t n, int64_t count, int64_t size, int64_t row, const float *g,
                           const uint8_t *where, float *dx);
    /* y = scale · sum of the window; dx += scale · g in it */
    void (*avg_window)(int64_t n, const ti_window *o, const float *x, float scale, float *y);
    void (*avg_window_back)(int64_t n, const ti_window *o, const float *g, float scale, float *dx);

    /* One group of a layer norm, statistics given: y = (x - mean) inv gamma + beta; gamma and beta
     * may be NULL. Sums of q = g gamma and of q z; dx = inv (q - mean_q - z slope). */
    void (*group)(int64_t n, const float *x, float mean, float inv, const float *gamma,
                  const float *beta, float *y);
    void (*group_sums)(int64_t n, const float *x, const float *g, const float *gamma, float mean,
                       double *sum_q, double *sum_qz);
    void (*group_back)(int64_t n, const float *x, const float *g, const float *gamma, float mean,
                       float inv, float mean_q, float slope, float *dx);
    /* dgamma += g z inv, dbeta += g; either may be NULL. */
    void (*group_shares)(int64_t n, const float *x, const float *g, float mean, float inv,
                         double *dgamma, double *dbeta);

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
