/* loss.c - softmax, cross-entropy, mse: values by hand, extremes, targets out of range. */
#include "expect.h"

#define N TI_SHAPE
#define CE(...) (&(tern_cross_entropy_opts){__VA_ARGS__})
#define LAST (&(tern_axis_opts){-1})

/* exp of log 1, log 2, log 5 are 1, 2, 5. */
TC_BOTH(loss, softmax_by_hand)
{
    const double l2 = log(2), l5 = log(5);
    tern_tensor *x = TC(ctx, F32, N(2, 3), 0, l2, l5, 100, 100 + l2, 100 + l5);

    TC_EXPECT(tern_softmax(ctx, x, LAST), N(2, 3), 1e-5, 0.125, 0.25, 0.625, 0.125, 0.25, 0.625);
    TC_EXPECT(tern_log_softmax(ctx, x, LAST), N(2, 3), 1e-5, -log(8), l2 - log(8), l5 - log(8),
              -log(8), l2 - log(8), l5 - log(8));
    TC_EXPECT(tern_softmax(ctx, tern_transpose(ctx, x, 0, 1), NULL), N(3, 2), 1e-5, 0.125, 0.125,
              0.25, 0.25, 0.625, 0.625);
    TC_REFUSES(tern_softmax(ctx, x, &(tern_axis_opts){2}), TERN_E_ARGUMENT, "softmax");
    TC_REFUSES(tern_log_softmax(ctx, TC(ctx, I64, N(1), 1), LAST), TERN_E_TYPE, "log_softmax");
}

TC_BOTH(loss, extreme_values)
{
    tern_tensor *x = TC(ctx, F32, N(4, 2), 3e38, -3e38, -INFINITY, 0, -INFINITY, -INFINITY, NAN, 1);
    tern_tensor *t = TC(ctx, I64, N(2), 0, 1);

    TC_EXPECT(tern_softmax(ctx, x, LAST), N(4, 2), 0, 1, 0, 0, 1, NAN, NAN, NAN, NAN);
    TC_EXPECT(tern_log_softmax(ctx, TC(ctx, F32, N(1, 2), 1000, 0), LAST), N(1, 2), 1e-7, 0, -1000);
    x = TC(ctx, F32, N(2, 2), 1000, 0, -INFINITY, 0);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, NULL, CE(.reduction = TERN_REDUCE_NONE)), N(2), 1e-7, 0,
              0);
}

/* Beside 3e38 the logarithm of 2 vanishes: p is 1/2 each all the same. */
TC_BOTH(loss, large_ties)
{
    for (int type = TERN_F32; type <= TERN_F64; type++) {
        tern_tensor *x = tern_from_doubles(ctx, (tern_type)type, TC_LIST(3e38, 3e38), N(1, 2));
        tern_tensor *g = tern_from_doubles(ctx, (tern_type)type, TC_LIST(1, 2), N(1, 2));
        x = tern_track(ctx, x);
        TC_EXPECT(tc_grad(ctx, tern_softmax(ctx, x, LAST), g, x), N(1, 2), 1e-6, -0.25, 0.25);
        TC_EXPECT(tc_grad(ctx, tern_log_softmax(ctx, x, LAST), g, x), N(1, 2), 1e-6, -0.5, 0.5);
        tern_tensor *y = tern_cross_entropy(ctx, x, TC(ctx, I64, N(1), 1), NULL, NULL);
        TC_EXPECT(y, TI_SCALAR, 1e-6, log(2));
        TC_EXPECT(tc_grad(ctx, y, NULL, x), N(1, 2), 1e-6, 0.5, -0.5);
    }
}

/* p = 1/8, 2/8, 5/8 and 1/3 each. */
static tern_tensor *logits(tern_ctx *ctx)
{
    return TC(ctx, F32, N(2, 3), 0, log(2), log(5), 7, 7, 7);
}

TC_BOTH(loss, cross_entropy_of_classes)
{
    const double a = log(8) - log(5), b = log(3), m = (3 * log(8) - log(10)) / 3;
    tern_tensor *x = logits(ctx), *t = TC(ctx, I64, N(2), 2, 0), *w = TC(ctx, F32, N(3), 1, 2, 4);

    TC_EXPECT(tern_cross_entropy(ctx, x, t, NULL, NULL), TI_SCALAR, 1e-6, (a + b) / 2);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, NULL, CE(.reduction = TERN_REDUCE_SUM)), TI_SCALAR,
              1e-6, a + b);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, w, NULL), TI_SCALAR, 1e-6, (4 * a + b) / 5);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, w, CE(.reduction = TERN_REDUCE_NONE)), N(2), 1e-6,
              4 * a, b);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, NULL, CE(.smoothing = 0.3)), TI_SCALAR, 1e-6,
              (0.7 * a + 0.3 * m + b) / 2);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, NULL, CE(.has_ignore = 1, .ignore = 2)), TI_SCALAR,
              1e-6, b);
    t = TC(ctx, I32, N(2), -100, 2);
    TC_EXPECT(tern_cross_entropy(ctx, x, t, w, CE(.has_ignore = 1, .ignore = -100)), TI_SCALAR,
              1e-6, b);
    TC_EXPECT(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 1, 1), NULL,
                                 CE(.has_ignore = 1, .ignore = 1)),
              TI_SCALAR, 0, NAN);
    TC_EXPECT(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 1, 1), NULL,
                                 CE(.has_ignore = 1, .ignore = 1, .reduction = TERN_REDUCE_SUM)),
              TI_SCALAR, 0, 0);
}

TC_BOTH(loss, cross_entropy_of_probabilities)
{
    tern_tensor *x = logits(ctx), *p = TC(ctx, F32, N(2, 3), 0.5, 0.5, 0, 0, 0, 1);
    tern_tensor *w = TC(ctx, F32, N(3), 1, 2, 4);
    const double a = 0.5 * log(8) + 0.5 * (log(8) - log(2)), b = log(3);

    TC_EXPECT(tern_cross_entropy(ctx, x, p, NULL, NULL), TI_SCALAR, 1e-6, (a + b) / 2);
    /* the mean divides by the places, not by weights */
    TC_EXPECT(tern_cross_entropy(ctx, x, p, w, NULL), TI_SCALAR, 1e-6,
              (0.5 * log(8) + log(8) - log(2) + 4 * b) / 2);
    TC_REFUSES(tern_cross_entropy(ctx, x, p, NULL, CE(.has_ignore = 1)), TERN_E_ARGUMENT,
               "ignore=0");
}

TC_BOTH(loss, cross_entropy_gradient)
{
    tern_tensor *x = tern_track(ctx, logits(ctx)), *t = TC(ctx, I64, N(2), 2, 1);

    TC_EXPECT(tc_grad(ctx, tern_cross_entropy(ctx, x, t, NULL, NULL), NULL, x), N(2, 3), 2e-6,
              1 / 16.0, 1 / 8.0, -3 / 16.0, 1 / 6.0, -1 / 3.0, 1 / 6.0);
    TC_EXPECT(tc_grad(ctx,
                      tern_cross_entropy(ctx, x, t, TC(ctx, F32, N(3), 1, 2, 4),
                                         CE(.has_ignore = 1, .ignore = 1)),
                      NULL, x),
              N(2, 3), 2e-6, 1 / 8.0, 1 / 4.0, -3 / 8.0, 0, 0, 0);
}

TC_BOTH(loss, targets_out_of_range)
{
    tern_tensor *x = tern_track(ctx, logits(ctx));

    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 0, 3), NULL, NULL), TERN_E_VALUE, "3");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I32, N(2), -1, 0), NULL, NULL), TERN_E_VALUE,
               "-1");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 0, 9007199254740992), NULL,
                                  CE(.smoothing = 0.5)),
               TERN_E_VALUE, "index");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(3), 0, 0, 0), NULL, NULL), TERN_E_SHAPE,
               "[3]");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 0, 0), TC(ctx, F32, N(2), 1, 1), NULL),
               TERN_E_SHAPE, "[2]");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 0, 0), NULL, CE(.smoothing = 1.5)),
               TERN_E_ARGUMENT, "1.5");
    TC_REFUSES(tern_cross_entropy(ctx, x, TC(ctx, I64, N(2), 0, 0), NULL, CE(.reduction = 3)),
               TERN_E_ARGUMENT, "reduction 3");
}

TC_BOTH(loss, mse)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, N(2, 2), 1, 2, 3, 4));
    tern_tensor *t = TC(ctx, F32, N(2, 2), 1, 0, 6, 4);
    const tern_mse_opts sum = {TERN_REDUCE_SUM}, none = {TERN_REDUCE_NONE};

    TC_EXPECT(tern_mse(ctx, x, t, NULL), TI_SCALAR, 0, 3.25);
    TC_EXPECT(tern_mse(ctx, x, t, &sum), TI_SCALAR, 0, 13);
    TC_EXPECT(tern_mse(ctx, x, t, &none), N(2, 2), 0, 0, 4, 9, 0);
    TC_EXPECT(tc_grad(ctx, tern_mse(ctx, x, t, NULL), NULL, x), N(2, 2), 0, 0, 1, -1.5, 0);
    TC_REFUSES(tern_mse(ctx, x, TC(ctx, F32, N(2), 1, 1), NULL), TERN_E_SHAPE, "mse");
}

/* Fast rows of the derivatives want y, which samples of X_d do not give: whole gradients here. */
static void gradient(tern_ctx *ctx, int which, int64_t rows, int64_t k, double *to)
{
    static double v[5000];
    uint64_t state = 9;
    tern_tensor *y = NULL;

    tern_frame_begin(ctx);
    for (int64_t i = 0; i < rows * k; i++) v[i] = (float)(4 * tc_normal(&state));
    tern_tensor *x = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, v, N(rows, k)));
    tern_tensor *w = tern_fill(ctx, TERN_F32, N(k), 1.5);
    tern_tensor *p = tern_softmax(ctx, tern_neg(ctx, tern_detach(ctx, x)), LAST);
    for (int64_t i = 0; i < rows; i++) v[i] = (double)(i % k);
    tern_tensor *t = tern_from_doubles(ctx, TERN_I32, v, N(rows));
    if (which == 0) y = tern_softmax(ctx, x, LAST);
    if (which == 1) y = tern_log_softmax(ctx, x, LAST);
    if (which == 2) y = tern_cross_entropy(ctx, x, t, w, CE(.smoothing = 0.2, .has_ignore = 1));
    if (which == 3) y = tern_cross_entropy(ctx, x, p, w, CE(.reduction = TERN_REDUCE_NONE));
    if (which == 4) y = tern_mse(ctx, x, p, NULL);
    y = tern_mul(ctx, y, y);
    cr_assert(tern_to_doubles(ctx, to, tc_grad(ctx, y, NULL, x)) == TERN_OK, "%s",
              tern_error_text(ctx));
    tern_frame_end(ctx);
}

Test(loss, gradients_agree_with_the_reference)
{
    static double a[5000], b[5000];
    const int64_t shape[][2] = {{1, 1}, {7, 2}, {33, 10}, {5, 1000}};
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");

    for (int i = 0; i < 20; i++) {
        const int64_t rows = shape[i / 5][0], k = shape[i / 5][1];
        gradient(cpu, i % 5, rows, k, a);
        gradient(ref, i % 5, rows, k, b);
        for (int64_t j = 0; j < rows * k; j++)
            cr_expect((a[j] != a[j] && b[j] != b[j]) ||
                          fabs(a[j] - b[j]) <= 1e-5 * (1 + fabs(b[j])),
                      "%d, [%lld,%lld] %lld: %g, not %g", i % 5, (long long)rows, (long long)k,
                      (long long)j, a[j], b[j]);
    }
    tc_close(cpu);
    tc_close(ref);
}
