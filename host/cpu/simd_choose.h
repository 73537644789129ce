/*
 * simd_choose.h - which table of inner kernels this machine runs.
 */
#ifndef TI_CPU_SIMD_CHOOSE_H
#define TI_CPU_SIMD_CHOOSE_H

#include <string.h>

#include "cpu/bf16/gemm.h"
#include "cpu/simd/kernels.h"

/* Is `name` an entry of a comma-separated list? NULL is an empty list. */
static inline bool ti_simd_listed(const char *list, const char *name)
{
    const size_t length = strlen(name);

    while (list && *list) {
        const size_t n = strcspn(list, ",");
        if (n == length && memcmp(list, name, n) == 0) return true;
        list += n + (list[n] == ',');
    }
    return false;
}

/* The table called `name` if this build has it and this machine can run it, else NULL. */
static inline const ti_simd *ti_simd_find(const char *name)
{
#ifdef __x86_64__
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2");

    if (strcmp(name, "avx512") == 0 && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq"))
        return &ti_simd_avx512;
    if (strcmp(name, "avx2") == 0 && avx2) return &ti_simd_avx2;
#endif
    return strcmp(name, "portable") == 0 ? &ti_simd_portable : NULL;
}

/* The best table that runs here and that `disabled` (TERN_DISABLE) does not name. The portable one
 * is always there. */
static inline const ti_simd *ti_simd_choose(const char *disabled)
{
    static const char *const best_first[] = {"avx512", "avx2"};

    for (int i = 0; i < 2; i++) {
        const char *name = best_first[i];
        const ti_simd *found = ti_simd_listed(disabled, name) ? NULL : ti_simd_find(name);
        if (found) return found;
    }
    return &ti_simd_portable;
}

/* Products in bf16: with the table avx512, where the processor has them and `disabled` does not
 * name avx512_bf16. NULL: there are none. */
static inline const ti_bf16 *ti_bf16_choose(const char *disabled)
{
#ifdef __x86_64__
    if (strcmp(ti_simd_choose(disabled)->name, "avx512") == 0 &&
        __builtin_cpu_supports("avx512bf16") && !ti_simd_listed(disabled, "avx512_bf16"))
        return &ti_bf16_avx512;
#endif
    return NULL;
}

#endif
