/* reduce.c - reductions: values worked out by hand, ties, NaN, empty ranges, large counts. */
#include <stdlib.h>

#include "expect.h"

#define INF INFINITY
#define N TI_SHAPE
#define OVER(...) (&(tern_reduce_opts){__VA_ARGS__})
#define AXIS(...) (&(tern_arg_opts){__VA_ARGS__})

TC_BOTH(reduce, over_any_axes)
{
    tern_tensor *x = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6), *t = tern_transpose(ctx, x, 0, 1);

    TC_EXPECT(tern_sum(ctx, x, NULL), TI_SCALAR, 0, 21);
    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 1)), N(3), 0, 5, 7, 9);
    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 2)), N(2), 0, 6, 15);
    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 2, .keep = 1)), N(2, 1), 0, 6, 15);
    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 3, .keep = 1)), N(1, 1), 0, 21);
    TC_EXPECT(tern_sum(ctx, t, OVER(.axes = 1)), N(2), 0, 6, 15);
    TC_EXPECT(tern_mean(ctx, t, OVER(.axes = 2)), N(3), 0, 2.5, 3.5, 4.5);
    TC_EXPECT(tern_max(ctx, t, OVER(.axes = 1)), N(2), 0, 3, 6);
    TC_EXPECT(tern_min(ctx, x, NULL), TI_SCALAR, 0, 1);
    TC_EXPECT(tern_variance(ctx, x, OVER(.axes = 2)), N(2), 1e-7, 2.0 / 3, 2.0 / 3);
    TC_EXPECT(tern_variance(ctx, x, OVER(.axes = 2, .correction = 1)), N(2), 0, 1, 1);
    TC_EXPECT(tern_variance(ctx, x, NULL), TI_SCALAR, 1e-7, 35.0 / 12);
    TC_EXPECT(tern_sum(ctx, TC(ctx, F32, TI_SCALAR, 5), NULL), TI_SCALAR, 0, 5);
}

TC_BOTH(reduce, expanded_and_sliced_inputs)
{
    tern_tensor *x = TC(ctx, F32, N(2, 4), 1, 2, 3, 4, 5, 6, 7, 8);
    tern_tensor *odd = tern_slice(ctx, x, &(tern_slice_opts){1, 1, 2, 2}); /* 2 4 / 6 8 */
    tern_tensor *e = tern_expand(ctx, TC(ctx, F32, N(2, 1), 1, 10), N(3, 2, 5));

    TC_EXPECT(tern_sum(ctx, odd, NULL), TI_SCALAR, 0, 20);
    TC_EXPECT(tern_sum(ctx, odd, OVER(.axes = 1)), N(2), 0, 8, 12);
    TC_EXPECT(tern_max(ctx, odd, OVER(.axes = 2)), N(2), 0, 4, 8);
    TC_EXPECT(tern_sum(ctx, e, OVER(.axes = 5)), N(2), 0, 15, 150);
    TC_EXPECT(tern_sum(ctx, e, OVER(.axes = 2)), N(3, 5), 0, 11, 11, 11, 11, 11, 11, 11, 11, 11, 11,
              11, 11, 11, 11, 11);
    TC_EXPECT(tern_argmax(ctx, odd, AXIS(.has_axis = 1, .axis = 0)), N(2), 0, 1, 1);
}

TC_BOTH(reduce, empty_ranges)
{
    tern_tensor *x = tern_from_doubles(ctx, TERN_F32, NULL, N(2, 0));

    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 2)), N(2), 0, 0, 0);
    TC_EXPECT(tern_mean(ctx, x, OVER(.axes = 2)), N(2), 0, NAN, NAN);
    TC_EXPECT(tern_sum(ctx, x, OVER(.axes = 1)), N(0), 0, 0);
    TC_EXPECT(tern_max(ctx, x, OVER(.axes = 1)), N(0), 0, 0);
    TC_REFUSES(tern_max(ctx, x, OVER(.axes = 2)), TERN_E_SHAPE, "[2,0]");
    TC_REFUSES(tern_min(ctx, x, NULL), TERN_E_SHAPE, "nothing");
    TC_REFUSES(tern_argmax(ctx, x, NULL), TERN_E_SHAPE, "[2,0]");
    TC_REFUSES(tern_argmin(ctx, x, AXIS(.has_axis = 1, .axis = 1)), TERN_E_SHAPE, "argmin");
    x = tern_track(ctx, x);
    TC_EXPECT(tern_sum(ctx, tc_grad(ctx, tern_sum(ctx, x, NULL), NULL, x), NULL), TI_SCALAR, 0, 0);
    TC_EXPECT(tern_sum(ctx, tc_grad(ctx, tern_mean(ctx, x, NULL), NULL, x), NULL), TI_SCALAR, 0, 0);
}

TC_BOTH(reduce, nan_and_ties)
{
    tern_tensor *x = TC(ctx, F32, N(3, 4), 1, NAN, 5, NAN, 5, 2, 5, 1, -INF, -INF, -INF, -INF);
    tern_tensor *g = TC(ctx, F32, N(3), 1, 6, 8), *z = tern_track(ctx, x);

    TC_EXPECT(tern_max(ctx, x, OVER(.axes = 2)), N(3), 0, NAN, 5, -INF);
    TC_EXPECT(tern_min(ctx, x, OVER(.axes = 2)), N(3), 0, NAN, 1, -INF);
    TC_EXPECT(tern_max(ctx, x, NULL), TI_SCALAR, 0, NAN);
    TC_EXPECT(tern_argmax(ctx, x, AXIS(.has_axis = 1, .axis = -1)), N(3), 0, 1, 0, 0);
    TC_EXPECT(tern_argmin(ctx, x, AXIS(.has_axis = 1, .axis = 1, .keep = 1)), N(3, 1), 0, 1, 3, 0);
    TC_EXPECT(tern_argmax(ctx, x, NULL), TI_SCALAR, 0, 1);
    TC_EXPECT(tern_argmin(ctx, x, AXIS(.keep = 1)), N(1, 1), 0, 1);
    TC_EXPECT(tc_grad(ctx, tern_max(ctx, z, OVER(.axes = 2)), g, z), N(3, 4), 0, NAN, NAN, NAN, NAN,
              3, 0, 3, 0, 2, 2, 2, 2);
    TC_EXPECT(tern_sum(ctx, TC(ctx, F32, N(3), INF, 1, -INF), NULL), TI_SCALAR, 0, NAN);
}

TC_BOTH(reduce, integers)
{
    const int64_t v[] = {9007199254740993, 1, -5, INT64_MAX};
    tern_tensor *x = tern_from_host(ctx, TERN_I64, v, N(2, 2));
    int64_t y[2];

    cr_assert(tern_to_host(ctx, y, tern_sum(ctx, x, OVER(.axes = 2))) == TERN_OK);
    cr_expect(y[0] == 9007199254740994 && y[1] == INT64_MAX - 5);
    cr_assert(tern_to_host(ctx, y, tern_max(ctx, x, OVER(.axes = 1))) == TERN_OK);
    cr_expect(y[0] == 9007199254740993 && y[1] == INT64_MAX);
    TC_EXPECT(tern_sum(ctx, TC(ctx, I32, N(2), 5, -7), NULL), TI_SCALAR, 0, -2);
    TC_EXPECT(tern_min(ctx, TC(ctx, I32, N(2), 5, -7), NULL), TI_SCALAR, 0, -7);
    TC_REFUSES(tern_mean(ctx, x, NULL), TERN_E_TYPE, "mean");
}

TC_BOTH(reduce, derivatives)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F64, N(2, 3), 1, 2, 6, 4, 5, 9));
    tern_tensor *g = TC(ctx, F64, N(2), 1, 10);
    tern_tensor *v = tern_variance(ctx, x, OVER(.axes = 2, .correction = 1));
    tern_tensor *d = tc_grad(ctx, v, g, x);

    TC_EXPECT(d, N(2, 3), 1e-15, -2, -1, 3, -20, -10, 30);
    /* Second derivative of the first row's variance in its first element: (1 - 1/3) · 2/2. */
    const tern_slice_opts one = {.axis = 1, .from = 0, .count = 1};
    tern_tensor *dd = tc_grad(ctx, tern_slice(ctx, d, &one), NULL, x);
    TC_EXPECT(dd, N(2, 3), 1e-14, 2.0 / 3, -1.0 / 3, -1.0 / 3, 20.0 / 3, -10.0 / 3, -10.0 / 3);
    TC_EXPECT(tc_grad(ctx, tern_mean(ctx, x, NULL), NULL, x), N(2, 3), 1e-15, 1.0 / 6, 1.0 / 6,
              1.0 / 6, 1.0 / 6, 1.0 / 6, 1.0 / 6);
}

TC_BOTH(reduce, wrong_arguments)
{
    tern_tensor *x = TC(ctx, F32, N(2, 2), 1, 2, 3, 4);

    TC_REFUSES(tern_sum(ctx, x, OVER(.axes = 4)), TERN_E_ARGUMENT, "mask 4");
    TC_REFUSES(tern_sum(ctx, x, OVER(.axes = -1)), TERN_E_ARGUMENT, "[2,2]");
    TC_REFUSES(tern_argmax(ctx, x, AXIS(.has_axis = 1, .axis = 2)), TERN_E_ARGUMENT, "2");
    TC_REFUSES(tern_argmax(ctx, x, AXIS(.has_axis = 1, .axis = -3)), TERN_E_ARGUMENT, "-3");
    TC_REFUSES(tern_sum(ctx, NULL, NULL), TERN_E_ARGUMENT, "sum");
}

/* Shapes that take each path of the CPU kernels, against sums in integers. */
Test(reduce, every_path_of_the_kernels_is_exact_on_small_integers)
{
    static const struct {
        tern_shape s;
        int64_t axes;
        int a, b; /* axes swapped before */
    } cases[] = {
        {{2, {3, 70001}}, 2, 0, 0},       {{2, {70001, 3}}, 1, 0, 0},
        {{2, {300, 1031}}, 1, 0, 0},      {{1, {300007}}, 0, 0, 0},
        {{4, {5, 300, 7, 9}}, 13, 0, 0},  {{4, {40, 3, 31, 33}}, 13, 0, 0},
        {{4, {16, 17, 18, 19}}, 5, 1, 3}, {{4, {16, 17, 18, 19}}, 10, 0, 2},
        {{3, {257, 3, 258}}, 2, 0, 2},    {{5, {3, 2, 5, 2, 301}}, 21, 1, 4},
    };
    tern_ctx *ctx = tc_open("cpu"), *ref = tc_open("ref");

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        for (int type = TERN_F32; type <= TERN_F64; type++) {
            const int64_t n = tern_count(cases[k].s);
            const tern_reduce_opts o = {.axes = cases[k].axes};
            double *v = malloc((size_t)n * sizeof *v), *got[2];
            tern_ctx *c[2] = {ctx, ref};
            int64_t m[2];

            for (int64_t i = 0; i < n; i++) v[i] = (double)(i * 7919 % 13 - 6);
            for (int which = 0; which < 2; which++) {
                for (int i = 0; i < 2; i++) {
                    tern_tensor *x = tern_from_doubles(c[i], (tern_type)type, v, cases[k].s);
                    x = tern_transpose(c[i], x, cases[k].a, cases[k].b);
                    tern_tensor *y = which ? tern_max(c[i], x, &o) : tern_sum(c[i], x, &o);
                    got[i] = tc_doubles(c[i], y);
                    m[i] = tern_count(tern_shape_of(y));
                }
                cr_assert(m[0] == m[1] && got[0] && got[1]);
                cr_expect(memcmp(got[0], got[1], (size_t)m[0] * sizeof **got) == 0,
                          "case %zu, type %d, %s", k, type, which ? "max" : "sum");
                free(got[0]);
                free(got[1]);
            }
            free(v);
        }
    tc_close(ref);
    tc_close(ctx);
}

Test(reduce, bits_do_not_depend_on_threads)
{
    tern_ctx *ctx = tc_open("cpu");
    uint64_t state = 5;
    double *v = malloc(300000 * sizeof *v);
    float y[2][300];

    for (int i = 0; i < 300000; i++) v[i] = tc_normal(&state);
    for (int i = 0; i < 2; i++) {
        cr_assert(tern_threads_set(ctx, i ? 5 : 1) == TERN_OK);
        tern_tensor *x = tern_from_doubles(ctx, TERN_F32, v, N(1000, 300));
        cr_assert(tern_to_host(ctx, y[i], tern_variance(ctx, x, OVER(.axes = 1))) == TERN_OK);
    }
    cr_expect(memcmp(y[0], y[1], sizeof y[0]) == 0);
    free(v);
    tc_close(ctx);
}

/* More than 2^31 elements, none of which needs memory: those that are not 0 lie beyond. */
Test(reduce, counts_beyond_31_bits)
{
    const float values[] = {0, 0, 0, 0, 1};
    const int64_t n = ((int64_t)1 << 29) + 3;
    tern_ctx *ctx = tc_open("cpu");
    tern_tensor *x = tern_from_host(ctx, TERN_F32, values, TI_SHAPE(5, 1));
    tern_tensor *all = tern_expand(ctx, x, TI_SHAPE(5, n));
    tern_memory m;

    cr_expect(tern_item(ctx, tern_max(ctx, all, NULL)) == 1);
    cr_expect(tern_item(ctx, tern_sum(ctx, all, NULL)) == (double)(float)n);
    tern_memory_stats(ctx, &m);
    cr_expect(m.peak < 1 << 20, "%zu bytes", m.peak);
    tc_close(ctx);
}
