/*
 * powi.h - powers with integer exponents by squaring: the same bits everywhere.
 */
#ifndef TI_POWI_H
#define TI_POWI_H

#include <stdint.h>

#ifdef __CUDACC__
#define TI_POWI_ON __host__ __device__
#else
#define TI_POWI_ON
#endif

/* x to the power n; 1 for n <= 0. Within about 2 log2(n) roundings. */
static inline TI_POWI_ON double ti_powi(double x, int64_t n)
{
    double y = 1;

    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}

#endif
