/* conv2d.c - products and convolutions: values by hand, strides, empty shapes, refusals. */
#include "expect.h"

#define N TI_SHAPE
#define CONV(...) (&(tern_conv2d_opts){__VA_ARGS__})

static tern_tensor *counting(tern_ctx *ctx, tern_shape s)
{
    double x[512];

    for (int64_t i = 0; i < tern_count(s); i++) x[i] = (double)(i + 1);
    return tern_from_doubles(ctx, TERN_F32, x, s);
}

/* 1 … 9 with a 2x2 filter 1 2 3 4: 1·1 + 2·2 + 4·3 + 5·4 = 37 and so on; not flipped. */
TC_BOTH(conv2d, by_hand)
{
    tern_tensor *x = counting(ctx, N(1, 1, 3, 3)), *w = counting(ctx, N(1, 1, 2, 2));

    TC_EXPECT(tern_conv2d(ctx, x, w, NULL), N(1, 1, 2, 2), 0, 37, 47, 67, 77);
    TC_EXPECT(tern_conv2d(ctx, x, w, CONV(.stride = {2, 1})), N(1, 1, 1, 2), 0, 37, 47);
    TC_EXPECT(tern_conv2d(ctx, x, w, CONV(.dilation = {2, 2})), N(1, 1, 1, 1), 0,
              1 * 1 + 3 * 2 + 7 * 3 + 9 * 4);
    TC_EXPECT(tern_conv2d(ctx, x, w, CONV(.pad = {1, 0}, .stride = {3, 1})), N(1, 1, 2, 2), 0,
              1 * 3 + 2 * 4, 2 * 3 + 3 * 4, 7 * 1 + 8 * 2, 8 * 1 + 9 * 2);
}

/* Two channels of two groups: each output sees its own channel only. */
TC_BOTH(conv2d, groups)
{
    tern_tensor *x = TC(ctx, F32, N(1, 2, 1, 2), 1, 2, 10, 20),
                *w = TC(ctx, F32, N(2, 1, 1, 1), 3, 5);
    tern_tensor *full = TC(ctx, F32, N(1, 2, 1, 1), 3, 5);

    TC_EXPECT(tern_conv2d(ctx, x, w, CONV(.groups = 2)), N(1, 2, 1, 2), 0, 3, 6, 50, 100);
    TC_EXPECT(tern_conv2d(ctx, x, full, NULL), N(1, 1, 1, 2), 0, 53, 106);
}

TC_BOTH(conv2d, adjoints_by_hand)
{
    tern_tensor *w = counting(ctx, N(1, 1, 2, 2)), *x = counting(ctx, N(1, 1, 3, 3));
    tern_tensor *g = TC(ctx, F32, N(1, 1, 2, 2), 1, 10, 100, 1000);

    TC_EXPECT(tern_conv2d_dx(ctx, g, w, CONV(.shape = {1, 1, 3, 3})), N(1, 1, 3, 3), 0, 1, 12, 20,
              103, 1234, 2040, 300, 3400, 4000);
    TC_EXPECT(tern_conv2d_dw(ctx, x, g, CONV(.shape = {1, 1, 2, 2})), N(1, 1, 2, 2), 0, 5421, 6532,
              8754, 9865);
    /* a row that no window reaches gets nothing */
    TC_EXPECT(tern_conv2d_dx(ctx, TC(ctx, F32, N(1, 1, 1, 1), 2), w,
                             CONV(.stride = {3, 3}, .shape = {1, 1, 3, 3})),
              N(1, 1, 3, 3), 0, 2, 4, 0, 6, 8, 0, 0, 0, 0);
}

TC_BOTH(conv2d, strided_inputs_give_the_same)
{
    tern_tensor *x = counting(ctx, N(2, 3, 4, 5)), *w = counting(ctx, N(4, 3, 2, 3));
    tern_tensor *y = tern_conv2d(ctx, x, w, CONV(.pad = {1, 1}));
    tern_tensor *z = tern_conv2d(ctx, tc_strided(ctx, x), tc_strided(ctx, w), CONV(.pad = {1, 1}));
    tern_tensor *differ = tern_cast(ctx, tern_ne(ctx, y, z), TERN_F32);

    TC_EXPECT(tern_sum(ctx, differ, NULL), TI_SCALAR, 0, 0);
}

TC_BOTH(conv2d, empty_batch)
{
    tern_tensor *x = tern_fill(ctx, TERN_F32, N(0, 2, 3, 3), 1), *w = counting(ctx, N(1, 2, 1, 1));
    tern_tensor *y = tern_conv2d(ctx, x, w, NULL);

    TC_EXPECT(tern_sum(ctx, y, NULL), TI_SCALAR, 0, 0);
    TC_EXPECT(tern_conv2d_dw(ctx, x, y, CONV(.shape = {1, 2, 1, 1})), N(1, 2, 1, 1), 0, 0, 0);
}

TC_BOTH(conv2d, bias_and_activation)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 1, 3), -1, 0.5, NAN),
                *w = TC(ctx, F32, N(2, 1, 1, 1), 1, -2);
    tern_tensor *b = TC(ctx, F32, N(2), 0.25, 1);

    TC_EXPECT(tern_conv2d_act(ctx, x, w, b, &(tern_conv2d_act_opts){.act = TERN_RELU}),
              N(1, 2, 1, 3), 0, 0, 0.75, NAN, 3, 0, NAN);
    TC_EXPECT(tern_conv2d_act(ctx, x, w, NULL, NULL), N(1, 2, 1, 3), 0, -1, 0.5, NAN, 2, -1, NAN);
    TC_EXPECT(tern_conv2d_act(ctx, x, w, b, &(tern_conv2d_act_opts){.act = TERN_TANH}),
              N(1, 2, 1, 3), 3e-7, tanh(-0.75), tanh(0.75), NAN, tanh(3), 0, NAN);
}

TC_BOTH(conv2d, refuses)
{
    tern_tensor *x = counting(ctx, N(1, 3, 4, 4)), *w = counting(ctx, N(2, 3, 3, 3));

    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.groups = 2)), TERN_E_SHAPE,
               "2 groups do not divide C=3");
    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.groups = -1)), TERN_E_ARGUMENT, "groups -1");
    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.stride = {-1, 1})), TERN_E_ARGUMENT, "stride -1");
    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.pad = {0, -2})), TERN_E_ARGUMENT, "pad -2");
    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.dilation = {2147483647, 1})), TERN_E_SHAPE,
               "2147483647");
    TC_REFUSES(tern_conv2d(ctx, x, w, CONV(.pad = {2147483647, 2147483647})), TERN_E_SHAPE, "2^63");
    TC_REFUSES(tern_conv2d(ctx, x, counting(ctx, N(2, 2, 3, 3)), NULL), TERN_E_SHAPE, "C=3");
    TC_REFUSES(tern_conv2d(ctx, x, counting(ctx, N(2, 3, 5, 3)), NULL), TERN_E_SHAPE, "5 rows");
    TC_REFUSES(tern_conv2d(ctx, x, counting(ctx, N(3, 3, 3)), NULL), TERN_E_SHAPE, "conv2d");
    TC_REFUSES(tern_conv2d(ctx, x, tern_cast(ctx, w, TERN_F64), NULL), TERN_E_TYPE, "conv2d");
    TC_REFUSES(tern_conv2d(ctx, x, NULL, NULL), TERN_E_ARGUMENT, "w");
    TC_REFUSES(tern_conv2d_dx(ctx, x, w, CONV(.shape = {1, 3, 4, 4})), TERN_E_SHAPE, "conv2d_dx");
    TC_REFUSES(tern_conv2d_dw(ctx, x, x, CONV(.shape = {2, 3, -3, 3})), TERN_E_ARGUMENT, "-3");
}

TC_BOTH(matmul, by_hand)
{
    tern_tensor *a = counting(ctx, N(2, 3)), *b = counting(ctx, N(3, 2));

    TC_EXPECT(tern_matmul(ctx, a, b), N(2, 2), 0, 22, 28, 49, 64);
    TC_EXPECT(tern_matmul(ctx, tern_transpose(ctx, b, 0, 1), tern_transpose(ctx, a, 0, 1)), N(2, 2),
              0, 22, 49, 28, 64);
    /* batches broadcast: [2,1,1,2] x [3,2,1] */
    TC_EXPECT(tern_matmul(ctx, counting(ctx, N(2, 1, 1, 2)), counting(ctx, N(3, 2, 1))),
              N(2, 3, 1, 1), 0, 5, 11, 17, 11, 25, 39);
    TC_EXPECT(tern_matmul(ctx, tern_fill(ctx, TERN_F32, N(2, 0), 1),
                          tern_fill(ctx, TERN_F32, N(0, 2), 1)),
              N(2, 2), 0, 0, 0, 0, 0);
    TC_REFUSES(tern_matmul(ctx, a, a), TERN_E_SHAPE, "[2,3]");
    TC_REFUSES(tern_matmul(ctx, a, counting(ctx, N(3))), TERN_E_SHAPE, "matmul");
}

TC_BOTH(matmul, linear)
{
    tern_tensor *x = counting(ctx, N(2, 2)), *w = TC(ctx, F32, N(3, 2), 1, 0, 0, 1, -1, -1);
    tern_tensor *b = TC(ctx, F32, N(3), 0.5, -2, 0), *xt = tern_track(ctx, x);
    const tern_linear_opts relu = {TERN_RELU};

    TC_EXPECT(tern_linear_act(ctx, x, w, NULL, NULL), N(2, 3), 0, 1, 2, -3, 3, 4, -7);
    TC_EXPECT(tern_linear_act(ctx, x, w, b, &relu), N(2, 3), 0, 1.5, 0, 0, 3.5, 2, 0);
    /* where relu is flat (0 counts as flat) nothing comes back */
    TC_EXPECT(tc_grad(ctx, tern_linear_act(ctx, xt, w, b, &relu), NULL, xt), N(2, 2), 0, 1, 0, 1,
              1);
    TC_REFUSES(tern_linear_act(ctx, x, w, x, NULL), TERN_E_SHAPE, "linear_act");
    TC_REFUSES(tern_linear_act(ctx, x, b, NULL, NULL), TERN_E_SHAPE, "linear_act");
}

/* No features out: nothing comes back, and nothing is divided by. */
TC_BOTH(matmul, linear_without_features)
{
    tern_tensor *x = tern_track(ctx, counting(ctx, N(2, 3)));
    tern_tensor *w = tern_fill(ctx, TERN_F32, N(0, 3), 1), *b = tern_fill(ctx, TERN_F32, N(0), 1);
    tern_tensor *y = tern_linear_act(ctx, x, w, b, NULL);

    TC_EXPECT(tern_sum(ctx, y, NULL), TI_SCALAR, 0, 0);
    TC_EXPECT(tc_grad(ctx, y, NULL, x), N(2, 3), 0, 0, 0, 0, 0, 0, 0);
}

/* Fast rows of the derivatives need y, which samples of X_d do not give: here both devices run
 * whole gradients, of odd shapes, of every activation. */
static void gradients(tern_ctx *ctx, int act, int which, double *dx, double *dw, double *db)
{
    uint64_t state = 7;
    double v[4096];
    const tern_shape xs = which ? N(3, 5, 9, 7) : N(21, 37), ws = which ? N(6, 5, 3, 3) : N(19, 37);
    tern_tensor *in[3], *d[3];

    tern_frame_begin(ctx);
    for (int k = 0; k < 3; k++) {
        const tern_shape s = k == 0 ? xs : k == 1 ? ws : N(which ? 6 : 19);
        for (int64_t i = 0; i < tern_count(s); i++) v[i] = (float)tc_normal(&state) * 0.3;
        in[k] = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, v, s));
    }
    const tern_conv2d_act_opts co = {.pad = {1, 1}, .stride = {2, 1}, .act = act};
    tern_tensor *y = which ? tern_conv2d_act(ctx, in[0], in[1], in[2], &co)
                           : tern_linear_act(ctx, in[0], in[1], in[2], &(tern_linear_opts){act});
    y = tern_mul(ctx, y, y);
    cr_assert(tern_grads(ctx, d, 1, &y, NULL, 3, in) == TERN_OK, "%s", tern_error_text(ctx));
    cr_assert(tern_to_doubles(ctx, dx, d[0]) == TERN_OK &&
              tern_to_doubles(ctx, dw, d[1]) == TERN_OK &&
              tern_to_doubles(ctx, db, d[2]) == TERN_OK);
    tern_frame_end(ctx);
}

Test(conv2d, fused_gradients_agree_with_the_reference)
{
    static double a[3][4096], b[3][4096];
    const int64_t n[2][3] = {{21 * 37, 19 * 37, 19}, {3 * 5 * 9 * 7, 6 * 5 * 9, 6}};
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");

    for (int act = TERN_ACT_NONE; act <= TERN_SIGMOID; act++)
        for (int which = 0; which < 2; which++) {
            gradients(cpu, act, which, a[0], a[1], a[2]);
            gradients(ref, act, which, b[0], b[1], b[2]);
            for (int k = 0; k < 3; k++)
                for (int64_t i = 0; i < n[which][k]; i++)
                    cr_expect(fabs(a[k][i] - b[k][i]) <= 2e-6 * (1 + fabs(b[k][i])),
                              "act %d, %s, d%d[%lld]: %g, not %g", act, which ? "conv" : "linear",
                              k, (long long)i, a[k][i], b[k][i]);
        }
    tc_close(cpu);
    tc_close(ref);
}

/* Growing the number of threads between two runs must not run out of scratch, nor change bits. */
Test(conv2d, threads_may_change)
{
    static double a[3][4096], b[3][4096];
    tern_ctx *ctx = tc_open("cpu");

    cr_assert(tern_threads_set(ctx, 1) == TERN_OK);
    gradients(ctx, TERN_RELU, 1, a[0], a[1], a[2]);
    cr_assert(tern_threads_set(ctx, 7) == TERN_OK);
    gradients(ctx, TERN_RELU, 1, b[0], b[1], b[2]);
    cr_expect(memcmp(a, b, sizeof a) == 0);
    tc_close(ctx);
}
