/*
 * simd.h - what the tests of the inner kernels share: every table that this machine can run, random
 * numbers, guarded arrays.
 */
#ifndef TC_SIMD_H
#define TC_SIMD_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/simd_choose.h"

#define U32 0x1p-24
#define U64 0x1p-53

static const char *const tc_isa_names[] = {"portable", "avx2", "avx512"};
enum { TC_ISAS = 3 };

static inline uint64_t tc_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline int64_t tc_below(uint64_t *state, int64_t n)
{
    return (int64_t)(tc_next(state) % (uint64_t)n);
}

/* Uniform in -1 … 1. */
static inline double tc_uniform(uint64_t *state)
{
    return (double)(int64_t)tc_next(state) * 0x1p-63;
}

/* n bytes aligned to 64, between two zones that nobody may write. */
enum { TC_GUARD = 4096, TC_JUNK = 0xa5 };
typedef struct {
    unsigned char *base;
    size_t bytes;
} tc_guarded;

static inline tc_guarded tc_guard(size_t bytes)
{
    tc_guarded g = {.bytes = bytes};
    g.base = aligned_alloc(64, (2 * TC_GUARD + bytes + 63) / 64 * 64);
    cr_assert(g.base != NULL);
    memset(g.base, TC_JUNK, 2 * TC_GUARD + bytes);
    return g;
}

static inline void *tc_data(tc_guarded g) { return g.base + TC_GUARD; }

static inline bool tc_intact(tc_guarded g)
{
    for (size_t i = 0; i < TC_GUARD; i++)
        if (g.base[i] != TC_JUNK || g.base[TC_GUARD + g.bytes + i] != TC_JUNK) return false;
    return true;
}

static inline void tc_release(tc_guarded *g)
{
    free(g->base);
    g->base = NULL;
}

static inline tc_guarded tc_random_floats(uint64_t *state, int64_t n)
{
    tc_guarded g = tc_guard((size_t)n * sizeof(float));
    float *p = tc_data(g);
    for (int64_t i = 0; i < n; i++) p[i] = (float)tc_uniform(state);
    return g;
}

#endif
