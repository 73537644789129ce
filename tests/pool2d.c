/* pool2d.c - pools: values by hand, ties, NaN, padding rules, refusals. */
#include "expect.h"

#define N TI_SHAPE
#define POOL(...) (&(tern_pool2d_opts){__VA_ARGS__})

TC_BOTH(pool2d, maxima_and_their_places)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 3, 4), 1, 5, 2, 0, 7, 3, 8, 4, 9, 6, 1, 2), *i = NULL;
    tern_tensor *y = tern_max_pool2d(ctx, &i, x, POOL(.size = {2, 2}));

    TC_EXPECT(y, N(1, 1, 1, 2), 0, 7, 8);
    TC_EXPECT(i, N(1, 1, 1, 2), 0, 4, 6);
    y = tern_max_pool2d(ctx, &i, x, POOL(.size = {3, 3}, .stride = {1, 1}));
    TC_EXPECT(y, N(1, 1, 1, 2), 0, 9, 8);
    TC_EXPECT(i, N(1, 1, 1, 2), 0, 8, 6);
    TC_EXPECT(tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, 2}, .dilation = {2, 3})),
              N(1, 1, 1, 1), 0, 9);
}

TC_BOTH(pool2d, ties_and_nan)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 2, 4), 3, 3, NAN, 1, 3, 2, NAN, 5), *i = NULL;
    tern_tensor *low = tern_fill(ctx, TERN_F32, N(1, 1, 2, 2), -INFINITY);

    TC_EXPECT(tern_max_pool2d(ctx, &i, x, POOL(.size = {2, 2})), N(1, 1, 1, 2), 0, 3, NAN);
    TC_EXPECT(i, N(1, 1, 1, 2), 0, 0, 2); /* the first of equals, the first NaN */
    TC_EXPECT(tern_max_pool2d(ctx, &i, low, POOL(.size = {2, 2}, .pad = {1, 1}, .stride = {2, 2})),
              N(1, 1, 2, 2), 0, -INFINITY, -INFINITY, -INFINITY, -INFINITY);
    TC_EXPECT(i, N(1, 1, 2, 2), 0, 0, 1, 2, 3); /* padding is never chosen */
}

TC_BOTH(pool2d, adjoints)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 3, 3), 1, 2, 3, 4, 9, 5, 6, 7, 8), *i = NULL;
    const tern_pool2d_opts o = {.size = {2, 2}, .stride = {1, 1}};
    tern_pool2d_opts back = o;
    tern_tensor *xt = tern_track(ctx, x), *g = TC(ctx, F32, N(1, 1, 2, 2), 1, 10, 100, 1000);

    back.shape[0] = back.shape[1] = 1;
    back.shape[2] = back.shape[3] = 3;
    tern_max_pool2d(ctx, &i, x, &o);
    TC_EXPECT(tern_max_pool2d_dx(ctx, g, i, &back), N(1, 1, 3, 3), 0, 0, 0, 0, 0, 1111, 0, 0, 0, 0);
    TC_EXPECT(tern_max_pool2d_at(ctx, tern_neg(ctx, x), i, &o), N(1, 1, 2, 2), 0, -9, -9, -9, -9);
    TC_EXPECT(tc_grad(ctx, tern_max_pool2d(ctx, NULL, xt, &o), g, xt), N(1, 1, 3, 3), 0, 0, 0, 0, 0,
              1111, 0, 0, 0, 0);
    TC_EXPECT(tern_avg_pool2d_dx(ctx, g, &back), N(1, 1, 3, 3), 1e-7, 0.25, 2.75, 2.5, 25.25,
              277.75, 252.5, 25, 275, 250);
    TC_REFUSES(tern_max_pool2d_dx(ctx, g, TC(ctx, I64, N(1, 1, 2, 2), 0, 1, 2, 9), &back),
               TERN_E_VALUE, "9");
    TC_REFUSES(tern_max_pool2d_at(ctx, x, TC(ctx, I64, N(1, 1, 1, 1), -1), &o), TERN_E_VALUE, "-1");
}

/* 1 … 5 with windows of 3, stride 2, one of padding: what counts as an element of a window. */
TC_BOTH(pool2d, averages)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 1, 5), 1, 2, 3, 4, 5);
    const tern_pool2d_opts o = {.size = {1, 3}, .stride = {1, 2}, .pad = {0, 1}};
    tern_pool2d_opts inside = o, up = {.size = {1, 2}, .stride = {1, 2}, .ceil_mode = 1};

    inside.exclude_pad = 1;
    TC_EXPECT(tern_avg_pool2d(ctx, x, &o), N(1, 1, 1, 3), 1e-7, 1, 3, 3);
    TC_EXPECT(tern_avg_pool2d(ctx, x, &inside), N(1, 1, 1, 3), 1e-7, 1.5, 3, 4.5);
    TC_EXPECT(tern_avg_pool2d(ctx, x, &up), N(1, 1, 1, 3), 0, 1.5, 3.5, 5); /* beyond x and pad */
    up.ceil_mode = 0;
    TC_EXPECT(tern_avg_pool2d(ctx, x, &up), N(1, 1, 1, 2), 0, 1.5, 3.5);
}

/* A last window that would start in the right padding is left out, as in PyTorch. */
TC_BOTH(pool2d, ceil_mode)
{
    tern_tensor *x = TC(ctx, F32, N(1, 1, 1, 3), 1, 2, 3);

    TC_EXPECT(
        tern_max_pool2d(ctx, NULL, x,
                        POOL(.size = {1, 2}, .stride = {1, 3}, .pad = {0, 1}, .ceil_mode = 1)),
        N(1, 1, 1, 2), 0, 1, 3);
    TC_EXPECT(
        tern_max_pool2d(ctx, NULL, x,
                        POOL(.size = {1, 2}, .stride = {1, 4}, .pad = {0, 1}, .ceil_mode = 1)),
        N(1, 1, 1, 1), 0, 1);
}

TC_BOTH(pool2d, refuses)
{
    tern_tensor *x = tern_fill(ctx, TERN_F32, N(1, 2, 4, 4), 1);

    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, NULL), TERN_E_ARGUMENT, "size of 0");
    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, 2}, .pad = {3, 0})), TERN_E_ARGUMENT,
               "pad 3 exceeds half of size 2");
    TC_REFUSES(tern_avg_pool2d(ctx, x, POOL(.size = {2, 2}, .dilation = {1, 2})), TERN_E_ARGUMENT,
               "dilation 2");
    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, POOL(.size = {5, 2})), TERN_E_SHAPE, "exceeds 4");
    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, 2}, .dilation = {2147483647, 1})),
               TERN_E_SHAPE, "2147483647");
    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, -2})), TERN_E_ARGUMENT, "-2");
    TC_REFUSES(tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, 2}, .stride = {-1, 0})),
               TERN_E_ARGUMENT, "stride -1");
    /* -1 and 4: between two elements of the padding */
    TC_REFUSES(
        tern_max_pool2d(ctx, NULL, x, POOL(.size = {2, 2}, .pad = {1, 0}, .dilation = {5, 1})),
        TERN_E_SHAPE, "misses");
    TC_REFUSES(tern_avg_pool2d_dx(ctx, x, POOL(.size = {2, 2}, .shape = {1, 2, 4, 4})),
               TERN_E_SHAPE, "avg_pool2d_dx");
}

/* Many channels, windows that overlap and windows side by side, which leave a row and two columns
 * over: the fast rows against the reference. */
static void pooled(tern_ctx *ctx, int64_t channels, bool tiles, double *to)
{
    const tern_shape s = N(2, channels, 9, 8);
    const tern_pool2d_opts o =
        tiles ? (tern_pool2d_opts){.size = {2, 3}}
              : (tern_pool2d_opts){.size = {3, 2}, .stride = {2, 1}, .pad = {1, 1}};
    uint64_t state = 3;
    static double x[2 * 40 * 9 * 8];

    tern_frame_begin(ctx);
    for (int64_t i = 0; i < tern_count(s); i++)
        x[i] = floor(4 * tc_uniform(&state)); /* many ties */
    tern_tensor *t = tern_track(ctx, tern_from_doubles(ctx, TERN_F32, x, s));
    tern_tensor *y = tern_max_pool2d(ctx, NULL, tern_mul(ctx, t, t), &o);
    tern_tensor *d = tc_grad(ctx, tern_mul(ctx, y, tern_avg_pool2d(ctx, t, &o)), NULL, t);
    cr_assert(d && tern_to_doubles(ctx, to, d) == TERN_OK, "%s", tern_error_text(ctx));
    tern_frame_end(ctx);
}

/* Only what lies inside of x is looked at: 2^62 elements would take years. */
TC_BOTH(pool2d, huge_windows)
{
    const int size = INT32_MAX, pad = INT32_MAX / 2;
    const tern_pool2d_opts o = {
        .size = {size, size}, .stride = {size, size}, .pad = {pad, pad}, .exclude_pad = 1};
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, TI_SHAPE(1, 1, 2, 2), 1, 4, 2, 5));
    const tern_shape one = TI_SHAPE(1, 1, 1, 1), all = TI_SHAPE(1, 1, 2, 2);

    TC_EXPECT(tern_max_pool2d(ctx, NULL, x, &o), one, 0, 5);
    TC_EXPECT(tern_avg_pool2d(ctx, x, &o), one, 0, 3);
    TC_EXPECT(tc_grad(ctx, tern_max_pool2d(ctx, NULL, x, &o), NULL, x), all, 0, 0, 0, 0, 1);
    TC_EXPECT(tc_grad(ctx, tern_avg_pool2d(ctx, x, &o), NULL, x), all, 0, 0.25, 0.25, 0.25, 0.25);
}

Test(pool2d, gradients_agree_with_the_reference)
{
    static double a[2 * 40 * 9 * 8], b[2 * 40 * 9 * 8];
    const int64_t channels[] = {1, 3, 6, 16, 17, 40};
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");

    for (int k = 0; k < 12; k++) {
        pooled(cpu, channels[k / 2], k & 1, a);
        pooled(ref, channels[k / 2], k & 1, b);
        for (int64_t i = 0; i < 2 * channels[k / 2] * 72; i++)
            cr_expect(fabs(a[i] - b[i]) <= 1e-6 * (1 + fabs(b[i])),
                      "%lld channels, %lld: %g, not %g", (long long)channels[k / 2], (long long)i,
                      a[i], b[i]);
    }
    tc_close(cpu);
    tc_close(ref);
}
