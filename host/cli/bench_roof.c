/*
 * bench_roof.c - what the machine can do, measured when it is asked: multiply-adds in registers, of
 * f32 or, in that math mode and where the processor has them, of pairs of bf16, and copies by the
 * size of what is touched.
 *
 * On the CPU each thread runs 12 independent chains of fused multiply-adds. Elsewhere a large
 * product stands in for them. Copies are the operation `copy`, as a program runs it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { CHAINS = 12, TURNS = 20000 };

/* One burst: its flops. The result is stored so that nothing is left out. */
typedef double (*burst_fn)(float *to);

#if defined(__x86_64__)
#define BURST(name, isa, vec, lanes, products, set1, fma, store)                                   \
    __attribute__((target(isa))) static double name(float *to)                                     \
    {                                                                                              \
        const vec m = set1(0.999f), a = set1(0.001f);                                              \
        vec x[CHAINS];                                                                             \
        for (int i = 0; i < CHAINS; i++) x[i] = set1((float)i);                                    \
        for (int t = 0; t < TURNS; t++) {                                                          \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) x[i] = fma(x[i], m, a);      \
        }                                                                                          \
        for (int i = 0; i < CHAINS; i++) store(to + lanes * i, x[i]);                              \
        return 2.0 * TURNS * CHAINS * lanes * products;                                            \
    }
#define PAIRS(x, m, a) _mm512_dpbf16_ps(x, (__m512bh)(m), (__m512bh)(a))
BURST(burst_bf16, "avx512f,avx512bf16", __m512, 16, 2, _mm512_set1_ps, PAIRS, _mm512_storeu_ps)
BURST(burst_avx512, "avx512f", __m512, 16, 1, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps)
BURST(burst_avx2, "avx2,fma", __m256, 8, 1, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps)
#undef PAIRS
#undef BURST
#endif

/* Chains of 4 lanes: multiply, then add, fused where the machine has it without being asked. */
static double burst_plain(float *to)
{
    float x[CHAINS * 4];

    for (int i = 0; i < CHAINS * 4; i++) x[i] = (float)i;
    for (int t = 0; t < TURNS; t++)
        for (int i = 0; i < CHAINS * 4; i++)
#ifdef __FP_FAST_FMAF
            x[i] = __builtin_fmaf(x[i], 0.999f, 0.001f);
#else
            x[i] = x[i] * 0.999f + 0.001f;
#endif
    memcpy(to, x, sizeof x);
    return 2.0 * TURNS * CHAINS * 4;
}

static burst_fn burst_of(const char *isa, tern_math_t math)
{
#if defined(__x86_64__)
    if (strcmp(isa, "avx512") == 0 && math == TERN_MATH_BF16 &&
        __builtin_cpu_supports("avx512bf16"))
        return burst_bf16;
    if (strcmp(isa, "avx512") == 0 && __builtin_cpu_supports("avx512f")) return burst_avx512;
    if (strcmp(isa, "portable") != 0 && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("avx2"))
        return burst_avx2;
#endif
    (void)isa;
    (void)math;
    return burst_plain;
}

typedef struct {
    burst_fn burst;
    pthread_t thread;
    double best; /* flops per second */
    float to[CHAINS * 16];
} worker;

static void *work(void *user)
{
    worker *w = user;
    const double until = seconds_now() + 0.1;

    do {
        const double from = seconds_now(), flops = w->burst(w->to), took = seconds_now() - from;
        if (took > 0 && flops / took > w->best) w->best = flops / took;
    } while (seconds_now() < until);
    return NULL;
}

/* All threads at once; the sum of what each reached at its best. */
static double arithmetic(int threads, const char *isa, tern_math_t math)
{
    worker *w = cli_alloc((size_t)threads * sizeof *w);
    double sum = 0;

    for (int i = 0; i < threads; i++) w[i].burst = burst_of(isa, math);
    for (int i = 1; i < threads; i++)
        if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0) w[i].burst = NULL;
    work(&w[0]);
    for (int i = 0; i < threads; i++) {
        if (i && w[i].burst) pthread_join(w[i].thread, NULL);
        sum += w[i].best;
    }
    free(w);
    return 1e-9 * sum;
}

static bool call_times(void *user, int64_t times)
{
    void **both = user;

    return tern_call_run(both[0], both[1], times) == TERN_OK;
}

/* The best sample of a call, in nanoseconds; 0 and an error in ctx. */
static double best_of(const bench *b, const char *text)
{
    const bench short_look = {
        .warm = 2, .least = 10, .rounds = 1, .seconds = 0.05, .patience = 0.2, .quiet = 0.01};
    problem_list list = {0};
    samples t = {0};
    tern_call *call = NULL;
    double least = 0;

    if (problem_add(&list, text, "roof")) call = problem_call(b->ctx, &list.at[0], 1);
    if (call && bench_sample(&short_look, &t, 0, call_times, (void *[]){b->ctx, call})) {
        samples_sum(&t);
        least = t.least;
    }
    tern_call_close(b->ctx, call);
    samples_free(&t);
    problems_free(&list);
    return least;
}

static bool measure(bench *b, roof *r)
{
    /* bytes in one array: in L1, L2, L3, beyond */
    static const double sizes[] = {8 << 10, 128 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20};
    const bool host =
        strcmp(tern_device(b->ctx), "cpu") == 0 || strcmp(tern_device(b->ctx), "ref") == 0;

    r->gflops = arithmetic(r->threads, tern_isa(b->ctx), tern_math(b->ctx));
    if (!host) {
        const double ns = best_of(b, "matmul a=8192x8192 b=8192x8192");
        r->gflops = ns > 0 ? 2.0 * 8192 * 8192 * 8192 / ns : 0;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *text = cli_format("copy x=%lld", (long long)(sizes[i] / 4));
        const double ns = best_of(b, text);

        free(text);
        if (!(ns > 0)) return false;
        r->bytes[r->n_copy] = 2 * sizes[i];
        r->gb_per_s[r->n_copy++] = 2 * sizes[i] / ns;
    }
    return r->gflops > 0;
}

const roof *bench_roof(bench *b, int threads)
{
    const int before = tern_threads(b->ctx);
    roof r = {.threads = threads};
    bool fine;

    for (int i = 0; i < b->n_roof; i++)
        if (b->roofs[i].threads == threads) return &b->roofs[i];
    /* null computes nothing, and what an emulator could do at its best says nothing. */
    if (strcmp(tern_device(b->ctx), "null") == 0 || strcmp(tern_device(b->ctx), "simt") == 0 ||
        tern_error(b->ctx) != TERN_OK)
        return NULL;
    fine = tern_threads_set(b->ctx, threads) == TERN_OK && measure(b, &r) &&
           tern_threads_set(b->ctx, before) == TERN_OK;
    if (!fine) return NULL;
    b->roofs = cli_realloc(b->roofs, (size_t)(b->n_roof + 1) * sizeof *b->roofs);
    b->roofs[b->n_roof] = r;
    return &b->roofs[b->n_roof++];
}
