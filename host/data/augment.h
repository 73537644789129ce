/* augment.h - images turned, scaled, moved, flipped, cropped. */
#ifndef TI_AUGMENT_H
#define TI_AUGMENT_H

#include "data/source.h"

/* Sine and cosine of an angle in degrees (up to 1e6): polynomials over sums and products, the same
 * bits on every machine; within 1e-15. */
void ti_turn(double degrees, double *sine, double *cosine);

bool ti_augments(const tern_augment *a);
/* NULL if a's numbers make sense, else what is wrong. */
const char *ti_augment_wrong(const tern_augment *a);
/*
 * Image `from` ([h][w][c] of s->type) into f32 `to`, changed as (seed, epoch, sample) will have it,
 * then x * scale[c] + offset[c]; what comes from outside is 0 before that.
 */
void ti_augment_image(float *to, const ti_source *s, const void *from, const tern_augment *a,
                      uint64_t seed, uint32_t epoch, int64_t sample, const float *scale,
                      const float *offset);

#endif
