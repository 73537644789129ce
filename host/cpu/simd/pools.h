/*
 * pools.h - inner loops of pools, compiled once for each instruction set. All f32, channels
 * innermost and next to each other.
 *
 * Nothing depends on threads; a channel is a function of its own operands.
 */
#ifndef TI_CPU_POOLS_H
#define TI_CPU_POOLS_H

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

typedef struct ti_pools {
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
    /* The same for windows side by side, as above: a row of results; `rows` rows of dx, written. */
    void (*avg_tiles)(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                      int64_t x_room, const float *x, float scale, float *y);
    void (*avg_tiles_back)(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                           const float *g, float scale, float *dx);
} ti_pools;

extern const ti_pools ti_pools_portable;
#ifdef __x86_64__
extern const ti_pools ti_pools_avx2, ti_pools_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_pools *ti_pools_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_pools_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_pools_avx2;
#endif
    (void)name;
    return &ti_pools_portable;
}

#endif
