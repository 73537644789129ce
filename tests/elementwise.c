/* elementwise.c - arithmetic, unary operations, activations: values worked out by hand. */
#include <stdlib.h>

#include "expect.h"

#define INF INFINITY
#define N TI_SHAPE

TC_BOTH(elementwise, broadcasts_as_numpy)
{
    tern_tensor *a = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6), *b = TC(ctx, F32, N(3), 10, 20, 30);
    tern_tensor *c = TC(ctx, F32, N(2, 1), 100, 200), *s = TC(ctx, F32, TI_SCALAR, 2);

    TC_EXPECT(tern_add(ctx, a, b), N(2, 3), 0, 11, 22, 33, 14, 25, 36);
    TC_EXPECT(tern_add(ctx, b, c), N(2, 3), 0, 110, 120, 130, 210, 220, 230);
    TC_EXPECT(tern_mul(ctx, s, a), N(2, 3), 0, 2, 4, 6, 8, 10, 12);
    TC_EXPECT(tern_sub(ctx, a, c), N(2, 3), 0, -99, -98, -97, -196, -195, -194);
    TC_EXPECT(tern_div(ctx, a, b), N(2, 3), 1e-7, 0.1, 0.1, 0.1, 0.4, 0.25, 0.2);
    TC_EXPECT(tern_add(ctx, TC(ctx, F32, N(1), 1), TC(ctx, F32, N(1, 1), 2)), N(1, 1), 0, 3);
}

TC_BOTH(elementwise, takes_strided_and_expanded_inputs)
{
    tern_tensor *x = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6), *t = tern_transpose(ctx, x, 0, 1);
    tern_tensor *e = tern_expand(ctx, TC(ctx, F32, N(3, 1), 1, 10, 100), N(3, 2));
    const tern_slice_opts odd = {.axis = 1, .from = 0, .count = 2, .step = 2};

    TC_EXPECT(tern_mul(ctx, t, e), N(3, 2), 0, 1, 4, 20, 50, 300, 600);
    TC_EXPECT(tern_mul(ctx, e, t), N(3, 2), 0, 1, 4, 20, 50, 300, 600);
    TC_EXPECT(tern_add(ctx, t, t), N(3, 2), 0, 2, 8, 4, 10, 6, 12);
    TC_EXPECT(tern_scale(ctx, tern_slice(ctx, x, &odd), 2), N(2, 2), 0, 2, 6, 8, 12);
    TC_EXPECT(tern_exp(ctx, tern_scale(ctx, e, 0)), N(3, 2), 0, 1, 1, 1, 1, 1, 1);
    TC_EXPECT(tern_where(ctx, tern_gt(ctx, t, TC(ctx, F32, TI_SCALAR, 3)), t, e), N(3, 2), 0, 1, 4,
              10, 5, 100, 6);
}

TC_BOTH(elementwise, integers_are_exact)
{
    const int64_t big[] = {9007199254740993, INT64_MAX, -9007199254740993}, one[] = {1, 1, -1};
    tern_tensor *a = tern_from_host(ctx, TERN_I64, big, N(3));
    tern_tensor *b = tern_from_host(ctx, TERN_I64, one, N(3));
    int64_t y[3];
    uint8_t same[3];

    cr_assert(tern_to_host(ctx, y, tern_add(ctx, a, b)) == TERN_OK);
    cr_expect(y[0] == 9007199254740994 && y[1] == INT64_MIN && y[2] == -9007199254740994);
    cr_assert(tern_to_host(ctx, y, tern_mul(ctx, a, tern_scale(ctx, b, 3))) == TERN_OK);
    cr_expect(y[0] == 27021597764222979 && y[2] == 27021597764222979);
    cr_assert(tern_to_host(ctx, y, tern_maximum(ctx, a, tern_shift(ctx, a, 1))) == TERN_OK);
    cr_expect(y[0] == 9007199254740994 && y[1] == INT64_MAX && y[2] == -9007199254740992);
    cr_assert(tern_to_host(ctx, same, tern_eq(ctx, a, tern_shift(ctx, a, 1))) == TERN_OK);
    cr_expect(!same[0] && !same[1] && !same[2]);
    TC_EXPECT(tern_sub(ctx, TC(ctx, I32, N(2), 5, -5), TC(ctx, I32, N(1), 7)), N(2), 0, -2, -12);
    TC_REFUSES(tern_scale(ctx, a, 0.5), TERN_E_ARGUMENT, "0.5");
    TC_REFUSES(tern_div(ctx, a, b), TERN_E_TYPE, "div");
    TC_REFUSES(tern_exp(ctx, a), TERN_E_TYPE, "exp");
}

TC_BOTH(elementwise, nan_and_infinity)
{
    tern_tensor *x = TC(ctx, F32, N(5), NAN, INF, -INF, 0.0, -0.0);
    tern_tensor *one = TC(ctx, F32, TI_SCALAR, 1);

    TC_EXPECT(tern_maximum(ctx, x, one), N(5), 0, NAN, INF, 1, 1, 1);
    TC_EXPECT(tern_minimum(ctx, one, x), N(5), 0, NAN, 1, -INF, 0.0, -0.0);
    TC_EXPECT(tern_maximum(ctx, one, x), N(5), 0, NAN, INF, 1, 1, 1);
    TC_EXPECT(tern_relu(ctx, x), N(5), 0, NAN, INF, 0, 0, 0);
    TC_EXPECT(tern_sign(ctx, x), N(5), 0, NAN, 1, -1, 0, 0);
    TC_EXPECT(tern_clamp(ctx, x, &(tern_clamp_opts){1, 1, -2, 3}), N(5), 0, NAN, 3, -2, 0.0, -0.0);
    TC_EXPECT(tern_exp(ctx, x), N(5), 0, NAN, INF, 0, 1, 1);
    TC_EXPECT(tern_log(ctx, x), N(5), 0, NAN, INF, NAN, -INF, -INF);
    TC_EXPECT(tern_tanh(ctx, x), N(5), 0, NAN, 1, -1, 0.0, -0.0);
    TC_EXPECT(tern_sigmoid(ctx, x), N(5), 0, NAN, 1, 0, 0.5, 0.5);
    TC_EXPECT(tern_erf(ctx, x), N(5), 0, NAN, 1, -1, 0.0, -0.0);
    TC_EXPECT(tern_sqrt(ctx, x), N(5), 0, NAN, INF, NAN, 0.0, -0.0);
    TC_EXPECT(tern_rsqrt(ctx, x), N(5), 0, NAN, 0, NAN, INF, -INF);
    TC_EXPECT(tern_abs(ctx, x), N(5), 0, NAN, INF, INF, 0, 0);
    TC_EXPECT(tern_is_finite(ctx, x), N(5), 0, 0, 0, 0, 1, 1);
    TC_EXPECT(tern_gelu(ctx, x, NULL), N(5), 0, NAN, INF, -0.0, 0.0, -0.0);
    TC_EXPECT(tern_elu(ctx, x, NULL), N(5), 0, NAN, INF, -1, 0.0, -0.0);
    TC_EXPECT(tern_eq(ctx, x, x), N(5), 0, 0, 1, 1, 1, 1);
    TC_EXPECT(tern_ne(ctx, x, x), N(5), 0, 1, 0, 0, 0, 0);
    TC_EXPECT(tern_le(ctx, x, TC(ctx, F32, TI_SCALAR, 0)), N(5), 0, 0, 0, 1, 1, 1);
}

TC_BOTH(elementwise, large_and_tiny_arguments)
{
    tern_tensor *x = TC(ctx, F32, N(6), 88.5, 89, -87, -103, -104, 1e30);

    TC_EXPECT(tern_exp(ctx, x), N(6), 3e-7, 2.723088090850126e38, INF, 1.6458115e-38,
              1.401298464324817e-45, 0, INF);
    x = TC(ctx, F32, N(4), 1e-40, 1e-45, 3e38, 1e-30);
    TC_EXPECT(tern_log(ctx, x), N(4), 3e-7, -92.10340371976183, -103.27892990343185,
              88.59684582427442, -69.07755278982137);
    TC_EXPECT(tern_tanh(ctx, x), N(4), 0, 9.99994610111476e-41, 1.401298464324817e-45, 1,
              1.0000000031710769e-30);
    x = TC(ctx, F32, N(4), -88, 30, -20, 100);
    TC_EXPECT(tern_sigmoid(ctx, x), N(4), 4e-7, 6.054601895401186e-39, 1, 2.0611536181902037e-9, 1);
}

TC_BOTH(elementwise, powers)
{
    tern_tensor *x = TC(ctx, F64, N(4), -2, 0, 0.5, 3), *t = tern_track(ctx, x);

    TC_EXPECT(tern_pow(ctx, x, 0), N(4), 0, 1, 1, 1, 1);
    TC_EXPECT(tern_pow(ctx, x, 2), N(4), 0, 4, 0, 0.25, 9);
    TC_EXPECT(tern_pow(ctx, x, 3), N(4), 1e-15, -8, 0, 0.125, 27);
    TC_EXPECT(tern_pow(ctx, x, -1), N(4), 1e-15, -0.5, INF, 2, 1.0 / 3);
    TC_EXPECT(tc_grad(ctx, tern_pow(ctx, t, 0), NULL, t), N(4), 0, 0, 0, 0, 0);
    TC_EXPECT(tc_grad(ctx, tern_pow(ctx, t, 1), NULL, t), N(4), 0, 1, 1, 1, 1);
    TC_EXPECT(tc_grad(ctx, tern_pow(ctx, t, 2), NULL, t), N(4), 0, -4, 0, 1, 6);

    tern_tensor *a = tern_track(ctx, TC(ctx, F64, N(5), 0, 0, 0, 2, 0));
    tern_tensor *b = tern_track(ctx, TC(ctx, F64, N(5), 0, 2, 1, 3, -1));
    tern_tensor *y = tern_power(ctx, a, b);
    TC_EXPECT(y, N(5), 0, 1, 0, 0, 8, INF);
    TC_EXPECT(tc_grad(ctx, y, NULL, a), N(5), 1e-15, 0, 0, 1, 12, -INF);
    TC_EXPECT(tc_grad(ctx, y, NULL, b), N(5), 1e-15, 0, 0, 0, 8 * log(2), -INF);
    /* Second derivatives stay finite where the function is smooth in a. */
    tern_tensor *da = tc_grad(ctx, tern_sum(ctx, y, NULL), NULL, a);
    const tern_slice_opts some = {.axis = 0, .from = 1, .count = 3};
    tern_tensor *daa = tc_grad(ctx, tern_slice(ctx, da, &some), NULL, a);
    TC_EXPECT(tern_slice(ctx, daa, &some), N(3), 1e-15, 2, 0, 12);
}

TC_BOTH(elementwise, derivatives_at_kinks)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, N(3), -1, 0, 2));
    tern_tensor *g = TC(ctx, F32, N(3), 1, 10, 100);

    TC_EXPECT(tc_grad(ctx, tern_relu(ctx, x), g, x), N(3), 0, 0, 0, 100);
    TC_EXPECT(tc_grad(ctx, tern_abs(ctx, x), g, x), N(3), 0, -1, 0, 100);
    TC_EXPECT(tc_grad(ctx, tern_sign(ctx, x), g, x), N(3), 0, 0, 0, 0);
    TC_EXPECT(tc_grad(ctx, tern_sqrt(ctx, x), g, x), N(3), 1e-6, NAN, INF, 35.35533905932738);
    TC_EXPECT(tc_grad(ctx, tern_clamp(ctx, x, &(tern_clamp_opts){1, 1, 0, 1}), g, x), N(3), 0, 0,
              10, 0);
    TC_EXPECT(tc_grad(ctx, tern_leaky_relu(ctx, x, NULL), g, x), N(3), 1e-7, 0.01, 0.1, 100);
    TC_EXPECT(tc_grad(ctx, tern_elu(ctx, x, NULL), g, x), N(3), 1e-6, 0.36787944117144233, 10, 100);

    tern_tensor *a = tern_track(ctx, TC(ctx, F32, N(3), 1, 2, 3));
    tern_tensor *b = tern_track(ctx, TC(ctx, F32, N(3), 2, 2, 2));
    tern_tensor *y = tern_maximum(ctx, a, b), *z = tern_minimum(ctx, a, b);
    TC_EXPECT(tc_grad(ctx, y, g, a), N(3), 0, 0, 5, 100);
    TC_EXPECT(tc_grad(ctx, y, g, b), N(3), 0, 1, 5, 0);
    TC_EXPECT(tc_grad(ctx, z, g, a), N(3), 0, 1, 5, 0);
    /* An infinite cotangent does not leak into the side that lost. */
    TC_EXPECT(tc_grad(ctx, y, TC(ctx, F32, N(3), INF, INF, INF), a), N(3), 0, 0, INF, INF);
}

TC_BOTH(elementwise, activations)
{
    tern_tensor *x = TC(ctx, F64, N(4), -2, -0.5, 0.5, 2), *t = tern_track(ctx, x);
    const tern_gelu_opts by_tanh = {1};

    TC_EXPECT(tern_gelu(ctx, x, NULL), N(4), 1e-14, -0.04550026389635842, -0.15426876936299344,
              0.34573123063700656, 1.9544997361036416);
    TC_EXPECT(tern_gelu(ctx, x, &by_tanh), N(4), 1e-14, -0.04540230591222494, -0.15428599017485606,
              0.34571400982514394, 1.954597694087775);
    TC_EXPECT(tern_elu(ctx, x, &(tern_slope_opts){1, 0.5}), N(4), 1e-15, -0.43233235838169365,
              -0.1967346701436833, 0.5, 2);
    TC_EXPECT(tern_leaky_relu(ctx, x, &(tern_slope_opts){1, 0}), N(4), 0, -0.0, -0.0, 0.5, 2);
    TC_EXPECT(tc_grad(ctx, tern_gelu(ctx, t, NULL), NULL, t), N(4), 1e-13, -0.08523180107819693,
              0.13250487534383712, 0.8674951246561629, 1.085231801078197);
    TC_EXPECT(tc_grad(ctx, tern_tanh(ctx, t), NULL, t), N(4), 1e-14, 0.07065082485316443,
              0.7864477329659274, 0.7864477329659274, 0.07065082485316443);
}

TC_BOTH(elementwise, huge_arguments_of_gelu_have_finite_derivatives)
{
    tern_tensor *x = tern_track(ctx, TC(ctx, F32, N(4), -3e38, 3e38, -50, 50));

    for (int i = 0; i < 2; i++) {
        const tern_gelu_opts o = {i};
        tern_tensor *d = tc_grad(ctx, tern_gelu(ctx, x, &o), NULL, x);
        TC_EXPECT(d, N(4), 0, 0, 1, 0, 1);
        TC_EXPECT(tern_abs(ctx, tc_grad(ctx, d, NULL, x)), N(4), 0, 0, 0, 0, 0);
    }
    tern_tensor *d = tc_grad(ctx, tern_elu(ctx, x, NULL), NULL, x);
    TC_EXPECT(tern_abs(ctx, tc_grad(ctx, d, NULL, x)), N(4), 1e-6, 0, 0, 1.9287498479639178e-22, 0);
}

TC_BOTH(elementwise, says_what_does_not_fit)
{
    tern_tensor *a = TC(ctx, F32, N(2, 3), 1, 2, 3, 4, 5, 6), *b = TC(ctx, F32, N(4), 1, 2, 3, 4);
    tern_tensor *d = TC(ctx, F64, N(3), 1, 2, 3), *u = TC(ctx, U8, N(2, 3), 1, 2, 3, 4, 5, 6);

    TC_REFUSES(tern_add(ctx, a, b), TERN_E_SHAPE, "[2,3]");
    TC_REFUSES(tern_add(ctx, a, b), TERN_E_SHAPE, "[4]");
    TC_REFUSES(tern_add(ctx, a, d), TERN_E_TYPE, "f64");
    TC_REFUSES(tern_add(ctx, u, u), TERN_E_TYPE, "u8");
    TC_REFUSES(tern_where(ctx, a, a, a), TERN_E_TYPE, "where");
    TC_REFUSES(tern_where(ctx, tern_gt(ctx, a, a), a, b), TERN_E_SHAPE, "where");
    TC_REFUSES(tern_clamp(ctx, a, &(tern_clamp_opts){1, 1, 2, 1}), TERN_E_ARGUMENT, "min 2");
    TC_REFUSES(tern_clamp(ctx, a, &(tern_clamp_opts){.has_min = 1, .min = NAN}), TERN_E_ARGUMENT,
               "NaN");
    TC_REFUSES(tern_add(ctx, a, NULL), TERN_E_ARGUMENT, "add");
}

TC_BOTH(elementwise, follows_the_layout_of_its_input)
{
    double v[24];
    int64_t stride[TERN_RANK];

    for (int i = 0; i < 24; i++) v[i] = i;
    tern_tensor *x = tern_channels_last(ctx, tern_from_doubles(ctx, TERN_F32, v, N(1, 2, 3, 4)));
    tern_tensor *y = tern_add(ctx, TC(ctx, F32, N(2, 1, 1), 100, 200), tern_relu(ctx, x));
    tern_strides_of(y, stride);
    cr_expect(stride[1] == 1 && stride[2] == 8 && stride[3] == 2);
    for (int i = 0; i < 24; i++) v[i] += i < 12 ? 100 : 200;
    tc_expect(ctx, y, N(1, 2, 3, 4), v, 0, "channels last");
}

/* Where a factor of the formula overflows or is undefined, and the derivative is not. */
TC_BOTH(elementwise, derivatives_at_the_edges)
{
    const double tiny = 0x1p-140;
    tern_tensor *a = tern_track(ctx, TC(ctx, F32, N(3), tiny, 0, 2));
    tern_tensor *b = tern_track(ctx, TC(ctx, F32, N(3), 0, 0, 0));

    TC_EXPECT(tc_grad(ctx, tern_power(ctx, a, b), NULL, a), N(3), 0, 0, 0, 0);
    TC_EXPECT(tc_grad(ctx, tern_div(ctx, b, a), NULL, a), N(3), 0, -0.0, NAN, -0.0);
    /* -y^3/2, on the side that x lies on */
    a = tern_track(ctx, TC(ctx, F32, N(3), 0, -0.0, 4));
    TC_EXPECT(tc_grad(ctx, tern_rsqrt(ctx, a), NULL, a), N(3), 0, -INFINITY, INFINITY, -0.0625);
}

/* Large enough for several chunks and for gathering: transposed, repeated, sliced operands, on
 * several threads, against the reference. Integers small enough for exact sums and products. */
Test(elementwise, chunks_and_strides_of_large_tensors)
{
    static const tern_shape shapes[] = {
        {1, {40001}}, {2, {3, 40001}}, {2, {40001, 3}}, {3, {130, 7, 91}}, {3, {2, 190, 190}}};
    tern_ctx *c[2] = {tc_open("cpu"), tc_open("ref")};

    cr_assert(tern_threads_set(c[0], 3) == TERN_OK);
    for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
        const int last = shapes[k].rank - 1;
        const int64_t n = tern_count(shapes[k]);
        double *v = malloc((size_t)n * sizeof *v), *got[2][4];

        for (int64_t i = 0; i < n; i++) v[i] = (double)(i * 7919 % 101 - 50);
        for (int i = 0; i < 2; i++) {
            tern_tensor *x = tern_from_doubles(c[i], TERN_F32, v, shapes[k]);
            tern_tensor *t = tern_transpose(c[i], x, 0, last), *s = t, *line;
            s = tern_slice(c[i], t, &(tern_slice_opts){0, 1, (t->m.shape.dim[0] - 1) / 2, 2});
            line = tern_slice(c[i], t, &(tern_slice_opts){0, 0, 1, 1});
            got[i][0] = tc_doubles(c[i], tern_sub(c[i], t, line));
            got[i][1] = tc_doubles(c[i], tern_where(c[i], tern_lt(c[i], s, line), line, s));
            got[i][2] = tc_doubles(c[i], tern_copy(c[i], t));
            got[i][3] = tc_doubles(c[i], tern_concat(c[i], 2, TI_IN(s, t), 0));
            for (int m = 0; m < 4; m++) cr_assert(got[i][m] != NULL, "%s", tern_error_text(c[i]));
            if (i == 0) continue;
            const int64_t a = n / t->m.shape.dim[0] * s->m.shape.dim[0];
            const int64_t count[4] = {n, a, n, n + a};
            for (int m = 0; m < 4; m++)
                cr_expect(memcmp(got[0][m], got[1][m], (size_t)count[m] * sizeof(double)) == 0,
                          "shape %zu, result %d", k, m);
        }
        for (int m = 0; m < 8; m++) free(got[m / 4][m % 4]);
        free(v);
    }
    tc_close(c[1]);
    tc_close(c[0]);
}
