/* swap.h - the byte order of arrays turned around, in place. */
#ifndef TI_SWAP_H
#define TI_SWAP_H

#include <stddef.h>
#include <stdint.h>

static inline void ti_swap(void *data, size_t count, size_t size)
{
    uint8_t *x = data;

    for (size_t i = 0; i < count && size > 1; i++, x += size)
        for (size_t a = 0, b = size - 1; a < b; a++, b--) {
            const uint8_t t = x[a];

            x[a] = x[b];
            x[b] = t;
        }
}

#endif
