/* norm.c - batch and layer norm: values by hand, running statistics, second derivatives. */
#include "expect.h"

#define N TI_SHAPE

/* 1 3 | 5 7 in one channel: mean 4, biased variance 5, unbiased 20/3. */
TC_BOTH(norm, batch_norm_by_hand)
{
    tern_tensor *x = TC(ctx, F32, N(2, 1, 1, 2), 1, 3, 5, 7), *new_mean = NULL, *new_var = NULL;
    tern_tensor *gamma = TC(ctx, F32, N(1), 2), *beta = TC(ctx, F32, N(1), 10);
    tern_tensor *mean = TC(ctx, F32, N(1), 100), *var = TC(ctx, F32, N(1), 1);
    const tern_batch_norm_opts exact = {
        .has_eps = 1, .eps = 4, .has_momentum = 1, .momentum = 0.25};

    tern_tensor *y = tern_batch_norm(ctx, &new_mean, &new_var, x, gamma, beta, mean, var, &exact);
    TC_EXPECT(y, N(2, 1, 1, 2), 1e-7, 8, 10 - 2.0 / 3, 10 + 2.0 / 3, 12);
    TC_EXPECT(new_mean, N(1), 1e-7, 76);
    TC_EXPECT(new_var, N(1), 1e-7, 0.75 + 5.0 / 3);
    y = tern_batch_norm(ctx, &new_mean, NULL, x, gamma, beta, mean, var, NULL);
    TC_EXPECT(new_mean, N(1), 1e-7, 90.4);
    TC_EXPECT(tern_batch_norm_eval(ctx, x, gamma, beta, TC(ctx, F32, N(1), 3),
                                   TC(ctx, F32, N(1), 12), &exact),
              N(2, 1, 1, 2), 1e-7, 9, 10, 11, 12);
}

/* A large offset must not cost the variance: 1e6 + {0, 1, 2, 3} are exact in f32. */
TC_BOTH(norm, large_offsets)
{
    tern_tensor *x = TC(ctx, F32, N(4, 1), 1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3), *var = NULL;
    tern_tensor *one = TC(ctx, F32, N(1), 1), *zero = TC(ctx, F32, N(1), 0);
    const tern_batch_norm_opts all = {.has_momentum = 1, .momentum = 1};

    tern_batch_norm(ctx, NULL, &var, x, one, zero, zero, one, &all);
    TC_EXPECT(var, N(1), 1e-6, 5.0 / 3);
    TC_EXPECT(tern_layer_norm(ctx, tern_reshape(ctx, x, N(1, 4)), NULL, NULL, NULL), N(1, 4), 2e-2,
              -1.34164, -0.44721, 0.44721, 1.34164);
}

TC_BOTH(norm, layer_norm_by_hand)
{
    tern_tensor *x = TC(ctx, F32, N(2, 4), 1, 3, 5, 7, 2, 2, 2, 2);
    tern_tensor *gamma = TC(ctx, F32, N(4), 1, 2, 3, 4), *beta = TC(ctx, F32, N(4), 0, 1, 0, 1);
    const tern_layer_norm_opts exact = {.has_eps = 1, .eps = 4};

    TC_EXPECT(tern_layer_norm(ctx, x, gamma, beta, &exact), N(2, 4), 1e-6, -1, 1 - 2.0 / 3, 1, 5, 0,
              1, 0, 1);
    TC_EXPECT(tern_layer_norm(ctx, x, NULL, NULL, &exact), N(2, 4), 1e-6, -1, -1.0 / 3, 1.0 / 3, 1,
              0, 0, 0, 0);
}

/* Statistics of more values than one vector, among them one that is far off: the first, the last or
 * one between. An infinity makes all of them NaN. */
TC_BOTH(norm, layer_norm_with_a_value_far_off)
{
    enum { COUNT = 77 };
    double x[COUNT], y[COUNT];

    for (int far = 0; far < COUNT; far += 38) {
        double mean = 0, var = 0;
        for (int i = 0; i < COUNT; i++) mean += x[i] = i == far ? 3e5 : i % 7;
        mean /= COUNT;
        for (int i = 0; i < COUNT; i++) var += (x[i] - mean) * (x[i] - mean) / COUNT;
        tern_tensor *in = tern_from_doubles(ctx, TERN_F32, x, N(1, COUNT));
        cr_assert(!tern_to_doubles(ctx, y, tern_layer_norm(ctx, in, NULL, NULL, NULL)));
        for (int i = 0; i < COUNT; i++)
            cr_expect(fabs(y[i] - (x[i] - mean) / sqrt(var)) < 1e-5, "%d, %d: %g", far, i, y[i]);
        x[far] = INFINITY;
        in = tern_from_doubles(ctx, TERN_F32, x, N(1, COUNT));
        cr_assert(!tern_to_doubles(ctx, y, tern_layer_norm(ctx, in, NULL, NULL, NULL)));
        for (int i = 0; i < COUNT; i++) cr_expect(isnan(y[i]), "%d, %d: %g", far, i, y[i]);
    }
}

TC_BOTH(norm, refuses)
{
    tern_tensor *x = tern_fill(ctx, TERN_F32, N(1, 3, 1, 1), 1),
                *c = tern_fill(ctx, TERN_F32, N(3), 1);
    tern_tensor *two = tern_fill(ctx, TERN_F32, N(2, 3), 1),
                *four = tern_fill(ctx, TERN_F32, N(4), 1);
    const tern_batch_norm_opts bad = {.has_eps = 1, .eps = -1},
                               wild = {.has_momentum = 1, .momentum = 2};

    TC_REFUSES(tern_batch_norm(ctx, NULL, NULL, x, c, c, c, c, NULL), TERN_E_SHAPE,
               "1 values per channel");
    TC_REFUSES(tern_batch_norm(ctx, NULL, NULL, two, four, c, c, c, NULL), TERN_E_SHAPE, "[4]");
    TC_REFUSES(tern_batch_norm(ctx, NULL, NULL, two, c, c, c, c, &bad), TERN_E_ARGUMENT, "eps -1");
    TC_REFUSES(tern_batch_norm(ctx, NULL, NULL, two, c, c, c, c, &wild), TERN_E_ARGUMENT,
               "momentum 2");
    TC_REFUSES(tern_batch_norm(ctx, NULL, NULL, c, c, c, c, c, NULL), TERN_E_SHAPE, "batch_norm");
    TC_REFUSES(tern_layer_norm(ctx, two, four, NULL, NULL), TERN_E_SHAPE, "layer_norm");
    TC_REFUSES(tern_layer_norm(ctx, two, NULL, NULL, &(tern_layer_norm_opts){.axes = 3}),
               TERN_E_ARGUMENT, "3 axes of the 2");
}

/* sum of (d y / d x)^2 through the batch's statistics, against differences. It is 0 to first order
 * if the statistics are taken for constants. */
static double penalty(tern_ctx *ctx, const double *v, double *slope)
{
    tern_tensor *x = tern_track(ctx, tern_from_doubles(ctx, TERN_F64, v, N(3, 2)));
    tern_tensor *one = tern_fill(ctx, TERN_F64, N(2), 1.5),
                *w = TC(ctx, F64, N(3, 2), 1, -2, 3, 0.5, -1, 2);
    tern_tensor *y = tern_batch_norm(ctx, NULL, NULL, x, one, one, one, one, NULL);
    tern_tensor *d = tc_grad(ctx, tern_mul(ctx, tern_mul(ctx, y, y), w), NULL, x);
    tern_tensor *p = tern_sum(ctx, tern_mul(ctx, d, d), NULL);

    if (slope) cr_assert(tern_to_doubles(ctx, slope, tc_grad(ctx, p, NULL, x)) == TERN_OK);
    return tern_item(ctx, p);
}

TC_BOTH(norm, second_derivative_through_the_statistics)
{
    double v[6] = {0.3, -1, 2, 0.7, -0.4, 1.1}, slope[6];

    penalty(ctx, v, slope);
    for (int i = 0; i < 6; i++) {
        const double h = 1e-5, at = v[i];
        v[i] = at + h;
        const double up = penalty(ctx, v, NULL);
        v[i] = at - h;
        const double down = penalty(ctx, v, NULL);
        v[i] = at;
        cr_expect(fabs((up - down) / (2 * h) - slope[i]) <= 1e-4 * (1 + fabs(slope[i])),
                  "element %d: %g, differences say %g", i, slope[i], (up - down) / (2 * h));
    }
}

/* The fast rows against the reference: odd channels, many chunks, with and without hints. */
static void through(tern_ctx *ctx, int64_t n, int64_t c, double *to)
{
    const tern_shape s = N(n, c, 5, 3);
    uint64_t state = 11;
    tern_tensor *p[4];
    static double x[40 * 70 * 15];

    tern_frame_begin(ctx);
    for (int64_t i = 0; i < tern_count(s); i++) x[i] = (float)(3 + tc_normal(&state));
    tern_tensor *t = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, x, s));
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < c; i++) x[i] = (float)(0.5 + tc_uniform(&state));
        p[k] = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, x, N(c)));
    }
    tern_tensor *y = tern_batch_norm(ctx, NULL, NULL, t, p[0], p[1], p[2], p[3], NULL);
    y = tern_batch_norm_eval(ctx, tern_mul(ctx, y, t), p[0], p[1], p[2], p[3], NULL);
    tern_tensor *all[3] = {t, p[0], p[1]}, *d[3];
    cr_assert(tern_grads(ctx, d, 1, &y, &t, 3, all) == TERN_OK, "%s", tern_error_text(ctx));
    cr_assert(tern_to_doubles(ctx, to, d[0]) == TERN_OK &&
              tern_to_doubles(ctx, to + 40 * 70 * 15, d[1]) == TERN_OK &&
              tern_to_doubles(ctx, to + 40 * 70 * 15 + 70, d[2]) == TERN_OK);
    tern_frame_end(ctx);
}

Test(norm, gradients_agree_with_the_reference)
{
    enum { MOST = 40 * 70 * 15 };
    static double a[MOST + 140], b[MOST + 140];
    const int64_t shape[][2] = {{2, 1}, {3, 17}, {40, 70}, {31, 16}};
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");

    for (int k = 0; k < 4; k++) {
        const int64_t n = shape[k][0], c = shape[k][1];
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        through(cpu, n, c, a);
        through(ref, n, c, b);
        for (int64_t i = 0; i < MOST + 140; i++)
            cr_expect(fabs(a[i] - b[i]) <= 2e-5 * (1 + fabs(b[i])), "[%lld,%lld] %lld: %g, not %g",
                      (long long)n, (long long)c, (long long)i, a[i], b[i]);
    }
    tc_close(cpu);
    tc_close(ref);
}

static void layered(tern_ctx *ctx, int64_t rows, int64_t n, int present, double *to)
{
    uint64_t state = 5;
    static double x[300 * 70];
    tern_tensor *in[3], *d[3];

    tern_frame_begin(ctx);
    for (int k = 0; k < 3; k++) {
        const tern_shape s = k ? N(n) : N(rows, n);
        for (int64_t i = 0; i < tern_count(s); i++) x[i] = (float)(2 + tc_normal(&state));
        in[k] = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, x, s));
    }
    tern_tensor *y =
        tern_layer_norm(ctx, in[0], present & 1 ? in[1] : NULL, present & 2 ? in[2] : NULL, NULL);
    y = tern_mul(ctx, y, y);
    cr_assert(tern_grads(ctx, d, 1, &y, &in[0], 3, in) == TERN_OK, "%s", tern_error_text(ctx));
    for (int k = 0; k < 3; k++)
        cr_assert(tern_to_doubles(ctx, to + (k ? 300 * 70 + (k - 1) * 70 : 0), d[k]) == TERN_OK);
    tern_frame_end(ctx);
}

Test(norm, layer_gradients_agree_with_the_reference)
{
    enum { MOST = 300 * 70 };
    static double a[MOST + 140], b[MOST + 140];
    const int64_t shape[][2] = {{1, 1}, {3, 17}, {300, 70}, {64, 16}};
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");

    for (int k = 0; k < 16; k++) {
        memset(a, 0, sizeof a);
        memset(b, 0, sizeof b);
        layered(cpu, shape[k / 4][0], shape[k / 4][1], k % 4, a);
        layered(ref, shape[k / 4][0], shape[k / 4][1], k % 4, b);
        for (int64_t i = 0; i < MOST + 140; i++)
            cr_expect(fabs(a[i] - b[i]) <= 2e-5 * (1 + fabs(b[i])), "%d, %lld: %g, not %g", k,
                      (long long)i, a[i], b[i]);
    }
    tc_close(cpu);
    tc_close(ref);
}
