/*
 * simd.c - matrix products of every instruction set against plain loops in higher precision: odd
 * sizes, all layouts, options, writes outside C, equal bits for every number of threads.
 */
#include "simd.h"

typedef struct {
    ti_gemm g;
    int64_t a_len, b_len, c_len;
    bool f64, bias;
} product;

/* Strides of one operand: 0 row-major, 1 column-major, 2 neither stride 1, 3 rows repeat. */
static void lay_out(int layout, int64_t rows, int64_t cols, int64_t gap, int64_t *rs, int64_t *cs,
                    int64_t *len)
{
    switch (layout) {
    case 0: *rs = cols + gap, *cs = 1; break;
    case 1: *rs = 1, *cs = rows + gap; break;
    case 2: *rs = 2 * cols + gap, *cs = 2; break;
    default: *rs = 0, *cs = 1; break;
    }
    *len = rows > 0 && cols > 0 ? (rows - 1) * *rs + (cols - 1) * *cs + 1 : 0;
}

static product make(uint64_t *s, int64_t m, int64_t n, int64_t k, int a_layout, int b_layout)
{
    product p = {.g = {.m = m, .n = n, .k = k}};

    lay_out(a_layout, m, k, tc_below(s, 4), &p.g.a_rs, &p.g.a_cs, &p.a_len);
    lay_out(b_layout, k, n, tc_below(s, 4), &p.g.b_rs, &p.g.b_cs, &p.b_len);
    p.g.ldc = n + tc_below(s, 3);
    p.c_len = m > 0 ? m * p.g.ldc : 0;
    p.bias = tc_below(s, 2);
    p.g.relu = tc_below(s, 2);
    p.g.accumulate = tc_below(s, 2);
    p.f64 = tc_below(s, 3) == 0;
    return p;
}

static tc_guarded numbers(uint64_t *s, int64_t n, bool f64)
{
    if (!f64) return tc_random_floats(s, n);
    tc_guarded g = tc_guard((size_t)n * sizeof(double));
    double *p = tc_data(g);
    for (int64_t i = 0; i < n; i++) p[i] = tc_uniform(s);
    return g;
}

static long double at(tc_guarded g, int64_t i, bool f64)
{
    return f64 ? ((double *)tc_data(g))[i] : ((float *)tc_data(g))[i];
}

typedef struct {
    tc_guarded a, b, c, bias;
} operands;

static void run(const ti_simd *simd, const product *p, const operands *o, tc_guarded c, int threads)
{
    ti_threads *pool = threads ? ti_threads_open(threads) : NULL;
    ti_gemm g = p->g;
    const int count = ti_threads_count(pool);
    size_t bytes = p->f64 ? simd->gemm_f64_scratch(&g, count) : simd->gemm_scratch(&g, count);
    tc_guarded scratch = tc_guard(bytes);

    g.bias = p->bias ? tc_data(o->bias) : NULL;
    if (p->f64)
        simd->gemm_f64(pool, &g, tc_data(o->a), tc_data(o->b), tc_data(c), tc_data(scratch));
    else simd->gemm(pool, &g, tc_data(o->a), tc_data(o->b), tc_data(c), tc_data(scratch));
    cr_expect(tc_intact(scratch), "scratch");
    tc_release(&scratch);
    ti_threads_close(pool);
}

static void check_values(const ti_simd *simd, const product *p, const operands *o, tc_guarded c,
                         const char *text)
{
    const ti_gemm *g = &p->g;
    const double u = p->f64 ? U64 : U32, grows = 4 * sqrt((double)simd->gemm_chain(g->k)) * u;

    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->ldc && i * g->ldc + j < p->c_len; j++) {
            const int64_t e = i * g->ldc + j;
            long double sum = 0, size = 0;
            if (j < g->n) {
                for (int64_t l = 0; l < g->k; l++) {
                    const long double x = at(o->a, i * g->a_rs + l * g->a_cs, p->f64) *
                                          at(o->b, l * g->b_rs + j * g->b_cs, p->f64);
                    sum += x;
                    size += fabsl(x);
                }
                if (g->accumulate) sum += at(o->c, e, p->f64), size += fabsl(at(o->c, e, p->f64));
                if (p->bias) sum += at(o->bias, j, p->f64), size += fabsl(at(o->bias, j, p->f64));
                if (g->relu && sum < 0) sum = 0;
            } else { /* between rows */
                sum = at(o->c, e, p->f64);
            }
            cr_assert(fabsl(at(c, e, p->f64) - sum) <= grows * size, "%s: C[%d,%d] is %Lg, not %Lg",
                      text, (int)i, (int)j, at(c, e, p->f64), sum);
        }
}

static void check(const ti_simd *simd, const product *p, uint64_t *s)
{
    const size_t each = p->f64 ? sizeof(double) : sizeof(float);
    operands o = {numbers(s, p->a_len, p->f64), numbers(s, p->b_len, p->f64),
                  numbers(s, p->c_len, p->f64), numbers(s, p->g.n, p->f64)};
    tc_guarded c = tc_guard((size_t)p->c_len * each), again = tc_guard((size_t)p->c_len * each);
    char text[200];

    snprintf(text, sizeof text, "%s f%d %dx%dx%d A %d,%d B %d,%d bias %d relu %d add %d",
             simd->name, p->f64 ? 64 : 32, (int)p->g.m, (int)p->g.n, (int)p->g.k, (int)p->g.a_rs,
             (int)p->g.a_cs, (int)p->g.b_rs, (int)p->g.b_cs, p->bias, p->g.relu, p->g.accumulate);
    memcpy(tc_data(c), tc_data(o.c), c.bytes);
    run(simd, p, &o, c, 0);
    cr_assert(tc_intact(c), "%s: writes outside C", text);
    check_values(simd, p, &o, c, text);
    for (int threads = 1; threads <= 4; threads++) {
        memcpy(tc_data(again), tc_data(o.c), c.bytes);
        run(simd, p, &o, again, threads);
        cr_assert(tc_intact(again), "%s: writes outside C", text);
        cr_assert(memcmp(tc_data(c), tc_data(again), c.bytes) == 0, "%s: %d threads", text,
                  threads);
    }
    tc_release(&o.a), tc_release(&o.b), tc_release(&o.c), tc_release(&o.bias);
    tc_release(&c), tc_release(&again);
}

static void odd_sizes(const ti_simd *simd)
{
    static const int64_t size[] = {0,  1,  2,  3,  4,  5,  7,  8,  9,  13, 15,
                                   16, 17, 28, 29, 31, 33, 48, 63, 65, 97, 130};
    static const int64_t deep[] = {0, 1, 2, 5, 8, 16, 17, 64, 255, 256, 257, 300, 600};
    const int64_t n_size = sizeof size / sizeof *size, n_deep = sizeof deep / sizeof *deep;
    uint64_t s = 1;

    for (int i = 0; i < 1200; i++) {
        const int64_t m = size[tc_below(&s, n_size)], n = size[tc_below(&s, n_size)];
        const product p =
            make(&s, m, n, deep[tc_below(&s, n_deep)], (int)tc_below(&s, 4), (int)tc_below(&s, 3));
        check(simd, &p, &s);
    }
}

/* Large enough for blocks, several slices, and threads. */
static void large_sizes(const ti_simd *simd)
{
    static const int64_t shapes[][3] = {{300, 200, 310}, {17, 1100, 300}, {530, 40, 270},
                                        {1, 2000, 700},  {3, 900, 9000},  {2000, 1, 600},
                                        {270, 1050, 30}, {64, 64, 5000},  {40, 70, 40000}};
    uint64_t s = 2;

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int layouts = 0; layouts < 4; layouts++) {
            const int64_t *d = shapes[i];
            const product p = make(&s, d[0], d[1], d[2], layouts % 2, layouts / 2);
            check(simd, &p, &s);
        }
}

static const ti_simd *table(const char *name)
{
    const ti_simd *simd = ti_simd_find(name);
    if (!simd) cr_skip_test("this machine has no %s", name);
    cr_assert_str_eq(simd->name, name);
    return simd;
}

Test(simd, portable_odd_sizes) { odd_sizes(table("portable")); }
Test(simd, portable_large_sizes) { large_sizes(table("portable")); }
Test(simd, avx2_odd_sizes) { odd_sizes(table("avx2")); }
Test(simd, avx2_large_sizes) { large_sizes(table("avx2")); }
Test(simd, avx512_odd_sizes) { odd_sizes(table("avx512")); }
Test(simd, avx512_large_sizes) { large_sizes(table("avx512")); }

Test(simd, nan_and_infinity_pass_through)
{
    for (int i = 0; i < TC_ISAS; i++) {
        const ti_simd *simd = ti_simd_find(tc_isa_names[i]);
        if (!simd) continue;
        float a[40 * 20], b[20 * 40], c[40 * 40];
        ti_gemm g = {.a_cs = 1, .b_cs = 1, .relu = true};
        _Alignas(64) static char scratch[1 << 20];

        for (int e = 0; e < 800; e++) a[e] = b[e] = 1;
        for (g.m = 1; g.m <= 40; g.m += 13)
            for (g.n = 1; g.n <= 40; g.n += 13) {
                g.k = g.a_rs = 20, g.b_rs = g.ldc = g.n;
                a[0] = NAN;
                if (g.m > 1) a[20] = INFINITY;
                if (g.m > 1) a[(g.m - 1) * 20] = g.m > 2 ? -INFINITY : a[20];
                cr_assert(simd->gemm_scratch(&g, 1) <= sizeof scratch);
                simd->gemm(NULL, &g, a, b, c, scratch);
                for (int64_t j = 0; j < g.n; j++) {
                    cr_expect(isnan(c[j]), "%s: relu loses NaN", simd->name);
                    if (g.m > 2) cr_expect(c[g.ldc + j] == INFINITY);
                    if (g.m > 2) cr_expect(c[(g.m - 1) * g.ldc + j] == 0);
                }
                for (int e = 0; e < 800; e++) a[e] = 1;
            }
    }
}

Test(simd, choice_honours_the_list)
{
    const bool avx2 = ti_simd_find("avx2") != NULL;

    cr_expect_str_eq(ti_simd_choose("avx512,avx2")->name, "portable");
    cr_expect_str_eq(ti_simd_choose("cudnn,avx512")->name, avx2 ? "avx2" : "portable");
    cr_expect(ti_simd_choose(NULL) == ti_simd_choose("avx,avx5,,portable,"));
    cr_expect(ti_simd_find("avx") == NULL);
}
