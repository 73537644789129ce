/*
 * simd_bf16.c - products of operands rounded to bf16, to the bit against fused multiply-adds in the
 * order that the processor's instructions have: odd sizes, all layouts, numbers that they would
 * lose, equal bits for every number of threads.
 */
#include "simd.h"

#include "base/rounding.h"

enum { SLICE = 256 };

static const ti_bf16 *products(void)
{
    const ti_bf16 *k = ti_bf16_choose(NULL);
    if (!k) cr_skip_test("this machine has no avx512_bf16");
    return k;
}

/* One number l of a slice, 0 beyond its end. */
static float operand(const float *x, int64_t l, int64_t end, int64_t step)
{
    return l < end ? ti_round_bf16(x[l * step]) : 0;
}

/* flushes: sums below 2^-126 become zeros, as the instruction has it. */
static float element(const ti_gemm *g, const float *a, const float *b, float c, float bias,
                     bool flushes)
{
    const int64_t slices = g->k > SLICE ? (g->k + SLICE - 1) / SLICE : 1;
    const int64_t slice = g->k > 0 ? ((g->k + slices - 1) / slices + 1) / 2 * 2 : 2;
    float all = 0;

    for (int64_t l0 = 0; l0 == 0 || l0 < g->k; l0 += slice) {
        const int64_t end = l0 + slice < g->k ? l0 + slice : g->k;
        float sum = 0;
        for (int64_t l = l0; l < end; l += 2)
            for (int64_t i = l + 1; i >= l; i--) {
                sum = fmaf(operand(a, i, end, g->a_cs), operand(b, i, end, g->b_rs), sum);
                if (flushes && fabsf(sum) < 0x1p-126f) sum = 0;
            }
        all = l0 > 0 ? sum + all : g->accumulate ? sum + c : sum;
    }
    if (g->bias) all += bias;
    return g->relu && all < 0 ? 0 : all;
}

typedef struct {
    ti_gemm g;
    tc_guarded a, b, c, bias;
    bool flushes;
} product;

static int64_t length(int64_t rows, int64_t rs, int64_t cols, int64_t cs)
{
    return rows > 0 && cols > 0 ? (rows - 1) * rs + (cols - 1) * cs + 1 : 0;
}

static void check(const ti_bf16 *k, const product *p)
{
    const ti_gemm *g = &p->g;
    const size_t bytes = (size_t)(g->m * g->ldc) * sizeof(float);
    const float *a = tc_data(p->a), *b = tc_data(p->b), *old = tc_data(p->c);
    const float *bias = tc_data(p->bias);
    tc_guarded first = tc_guard(bytes), c = tc_guard(bytes);

    for (int threads = 0; threads <= 4; threads++) {
        tc_guarded *to = threads ? &c : &first, scratch = tc_guard(k->gemm_scratch(g));
        ti_threads *pool = threads ? ti_threads_open(threads) : NULL;
        memcpy(tc_data(*to), old, bytes);
        k->gemm(pool, g, a, b, tc_data(*to), tc_data(scratch));
        cr_assert(tc_intact(*to) && tc_intact(scratch), "writes outside C or scratch");
        cr_assert(memcmp(tc_data(first), tc_data(*to), bytes) == 0, "%d threads", threads);
        ti_threads_close(pool);
        tc_release(&scratch);
    }
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->ldc; j++) {
            const float got = ((float *)tc_data(first))[i * g->ldc + j];
            const float want = j < g->n ? element(g, a + i * g->a_rs, b + j * g->b_cs,
                                                  old[i * g->ldc + j], bias[j], p->flushes)
                                        : old[i * g->ldc + j];
            cr_assert(got == want || (isnan(got) && isnan(want)),
                      "%dx%dx%d A %d,%d B %d,%d: C[%d,%d] is %a, not %a", (int)g->m, (int)g->n,
                      (int)g->k, (int)g->a_rs, (int)g->a_cs, (int)g->b_rs, (int)g->b_cs, (int)i,
                      (int)j, (double)got, (double)want);
        }
    tc_release(&first), tc_release(&c);
}

/* layout: rows of A and columns of B along k, across it, or with gaps both ways. */
static product make(uint64_t *s, int64_t m, int64_t n, int64_t k, int layout)
{
    product p = {.g = {.m = m, .n = n, .k = k, .ldc = n + tc_below(s, 3)}, .flushes = true};
    ti_gemm *g = &p.g;

    g->a_rs = layout == 0 ? k + 3 : layout == 1 ? 1 : 2 * k + 1;
    g->a_cs = layout == 0 ? 1 : layout == 1 ? m + 1 : 2;
    g->b_cs = layout == 1 ? k + 1 : layout == 2 ? 3 : 1;
    g->b_rs = layout == 1 ? 1 : layout == 2 ? 3 * n : n + 2;
    g->relu = tc_below(s, 2);
    g->accumulate = tc_below(s, 2);
    p.a = tc_random_floats(s, length(m, g->a_rs, k, g->a_cs));
    p.b = tc_random_floats(s, length(k, g->b_rs, n, g->b_cs));
    p.c = tc_random_floats(s, m * g->ldc);
    p.bias = tc_random_floats(s, g->ldc);
    if (tc_below(s, 2)) g->bias = tc_data(p.bias);
    return p;
}

static void done(product *p)
{
    tc_release(&p->a), tc_release(&p->b), tc_release(&p->c), tc_release(&p->bias);
}

Test(simd_bf16, odd_sizes_to_the_bit)
{
    static const int64_t size[] = {0, 1, 2, 5, 13, 14, 15, 16, 17, 29, 31, 32, 33, 64, 97};
    static const int64_t deep[] = {0, 1, 2, 3, 17, 31, 32, 33, 64, 255, 256, 257, 515};
    const ti_bf16 *k = products();
    uint64_t s = 3;

    for (int i = 0; i < 300; i++) {
        product p =
            make(&s, size[tc_below(&s, 15)], size[tc_below(&s, 15)], deep[tc_below(&s, 13)], i % 3);
        check(k, &p);
        done(&p);
    }
}

/* Several parts of C, in both directions, and threads. */
Test(simd_bf16, large_sizes_to_the_bit)
{
    const ti_bf16 *k = products();
    uint64_t s = 4;

    for (int layout = 0; layout < 3; layout++) {
        product p = make(&s, 260, 530, 70, layout), q = make(&s, 3, 700, 3001, layout);
        check(k, &p), check(k, &q);
        done(&p), done(&q);
    }
}

/* What is subnormal counts as itself, beside what is huge, too; infinities and NaN stay. */
Test(simd_bf16, subnormal_infinite_and_no_numbers)
{
    static const float odd[] = {
        0x1p-130f, 0x1p-149f, 0x1.fffffep-127f,  INFINITY,  -INFINITY, NAN, 0x1.fffffep127f,
        0x1p120f,  -0.0f,     -0x1.fe7ffep+127f, 0x1p-127f, -0x1p-126f};
    const ti_bf16 *k = products();
    uint64_t s = 5;

    for (int i = 0; i < 120; i++) {
        product p =
            make(&s, 1 + tc_below(&s, 40), 1 + tc_below(&s, 40), 1 + tc_below(&s, 300), i % 3);
        float *a = tc_data(p.a), *b = tc_data(p.b);
        p.flushes = false;
        for (int j = 0; j < 8; j++) {
            a[tc_below(&s, (int64_t)(p.a.bytes / sizeof *a))] = odd[tc_below(&s, 12)];
            b[tc_below(&s, (int64_t)(p.b.bytes / sizeof *b))] = odd[tc_below(&s, 12)];
        }
        a[0] = 0x1p-130f; /* one is enough for the second version of the kernels */
        check(k, &p);
        done(&p);
    }
    /* 2^-130 2^120, and infinity times 2^-130, alone and where no lane beside it tells */
    for (int64_t n = 1; n < 40; n++) {
        float a[80] = {[78] = 0x1p-130f, [79] = 0}, b[80] = {[78] = 0x1p120f}, c;
        _Alignas(64) char scratch[1 << 14];
        ti_gemm g = {
            .m = 1, .n = 1, .k = 2 * n, .a_rs = 1, .a_cs = 1, .b_rs = 1, .b_cs = 1, .ldc = 1};
        cr_assert(k->gemm_scratch(&g) <= sizeof scratch);
        k->gemm(NULL, &g, a + 80 - 2 * n, b + 80 - 2 * n, &c, scratch);
        cr_expect(c == 0x1p-10f, "k %d: %a", (int)g.k, (double)c);
        b[78] = INFINITY;
        k->gemm(NULL, &g, a + 80 - 2 * n, b + 80 - 2 * n, &c, scratch);
        cr_expect(c == INFINITY, "k %d: %a", (int)g.k, (double)c);
    }
}

/* The instruction loses sums below 2^-126: by what the class's bound allows, and no more. */
Test(simd_bf16, sums_below_normal_numbers)
{
    const ti_bf16 *k = products();
    uint64_t s = 6;

    for (int i = 0; i < 60; i++) {
        product p =
            make(&s, 1 + tc_below(&s, 20), 1 + tc_below(&s, 40), 1 + tc_below(&s, 300), i % 3);
        float *a = tc_data(p.a), *b = tc_data(p.b);
        for (size_t j = 0; j < p.a.bytes / sizeof *a; j++) a[j] *= 0x1p-64f;
        for (size_t j = 0; j < p.b.bytes / sizeof *b; j++) b[j] *= 0x1p-62f;
        p.g.bias = NULL;
        p.g.accumulate = false;
        check(k, &p);
        done(&p);
    }
}

Test(simd_bf16, choice_honours_the_list)
{
    (void)products();
    cr_expect(ti_bf16_choose("avx512_bf16") == NULL);
    cr_expect(ti_bf16_choose("cudnn,avx512") == NULL);
    cr_expect(ti_bf16_choose("avx512_bf1,avx2") != NULL);
    cr_expect_str_eq(ti_simd_choose("avx512_bf16")->name, "avx512");
}
