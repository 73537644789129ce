/*
 * philox.h - Philox4x32-10, the one generator of random numbers, for .c and .cu alike.
 *
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3" (SC11). A number is a
 * function of a key and a counter, nothing else; tests/philox.c checks the published vectors.
 * Key: the seed. Counter, by the house's rule: element (64 bits), count of calls, purpose.
 */
#ifndef TI_PHILOX_H
#define TI_PHILOX_H

#include <stdint.h>

#ifdef __CUDACC__
#define TI_PHILOX static inline __host__ __device__
#else
#define TI_PHILOX static inline
#endif

typedef struct {
    uint32_t x[4];
} ti_philox4;

TI_PHILOX ti_philox4 ti_philox(ti_philox4 counter, uint64_t key)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    ti_philox4 c = counter;

    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c.x[0], b = (uint64_t)0xCD9E8D57u * c.x[2];

        c = (ti_philox4){{(uint32_t)(b >> 32) ^ c.x[1] ^ k0, (uint32_t)b,
                          (uint32_t)(a >> 32) ^ c.x[3] ^ k1, (uint32_t)a}};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* Four numbers for (seed, purpose, count of calls, element). */
TI_PHILOX ti_philox4 ti_philox_at(uint64_t seed, uint32_t purpose, uint32_t call, uint64_t element)
{
    const ti_philox4 counter = {{(uint32_t)element, (uint32_t)(element >> 32), call, purpose}};

    return ti_philox(counter, seed);
}

#endif
