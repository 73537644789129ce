/*
 * geometry.h - where the windows of a convolution or a pool lie: one place for the shape rules and
 * for the kernels of every backend.
 */
#ifndef TI_GEOMETRY_H
#define TI_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

/* Windows along one axis: window o covers o·stride - pad + r·dilation, r = 0 … size-1. */
typedef struct {
    int64_t extent, size, stride, pad, dilation;
} ti_windows;

/*
 * How many windows there are; 0 if not one fits, -1 if the numbers do not fit 63 bits. `up` rounds
 * up: a last window may then hang over the end, if it starts inside or in the left padding.
 */
static inline int64_t ti_windows_count(const ti_windows *w, bool up)
{
    int64_t reach, padded, room, count;

    if (__builtin_mul_overflow(w->dilation, w->size - 1, &reach) ||
        __builtin_add_overflow(w->extent, 2 * w->pad, &padded) ||
        __builtin_sub_overflow(padded, reach, &room))
        return -1;
    room -= 1; /* reach >= 0, so this cannot wrap below the smallest number by itself */
    if (up && room < 0 && room > -w->stride) room = 0;
    if (room < 0) return 0;
    count = room / w->stride + 1;
    if (up && room % w->stride && count * w->stride < w->extent + w->pad) count++;
    return count;
}

#endif
