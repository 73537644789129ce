/*
 * init.c - initial values: their statistics, fans, orthogonality, and that they depend on (seed,
 * name, element) only.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/nn.h"

/* Mean and deviation within 6 standard errors, all within [low, high]. kurtosis: of the
 * distribution, which the error of the deviation depends on. */
static void expect_moments(tern_ctx *ctx, tern_shape shape, tern_init init, double mean,
                           double deviation, double low, double high, double kurtosis)
{
    tern_frame_begin(ctx);
    tern_tensor *t = tern_init_draw(ctx, "some.weight", TERN_F32, shape, &init);
    cr_assert(t, "%s", tern_error_text(ctx));
    const int64_t n = tern_count(shape);
    double *x = tc_doubles(ctx, t), sum = 0, square = 0;

    for (int64_t i = 0; i < n; i++) {
        cr_assert(x[i] >= low && x[i] <= high, "kind %d: %.9g is not in %.9g … %.9g", init.kind,
                  x[i], low, high);
        sum += x[i];
    }
    sum /= (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - sum) * (x[i] - sum);
    const double got = sqrt(square / (double)n);
    cr_expect(fabs(sum - mean) <= 6 * deviation / sqrt((double)n), "kind %d: mean %g, not %g",
              init.kind, sum, mean);
    cr_expect(fabs(got / deviation - 1) <= 6 * sqrt((kurtosis - 1) / (4 * (double)n)),
              "kind %d: deviation %g, not %g", init.kind, got, deviation);
    free(x);
    tern_frame_end(ctx);
}

Test(init, moments)
{
    const tern_shape w = {2, {200, 300}}, k = {4, {64, 32, 3, 5}};
    const double fan_in = 32 * 15, fan_out = 64 * 15, u = 1.8, nk = 3, inf = INFINITY;
    tern_ctx *ctx = tc_open("cpu");
    double s;

    s = 1 / sqrt(300);
    expect_moments(ctx, w, (tern_init){0}, 0, s / sqrt(3), -s, s, u);
    s = 1 / sqrt(fan_in);
    expect_moments(ctx, k, (tern_init){0}, 0, s / sqrt(3), -s, s, u);
    expect_moments(ctx, w, (tern_init){.kind = TERN_INIT_UNIFORM}, 0.5, 1 / sqrt(12), 0, 1, u);
    expect_moments(ctx, w, (tern_init){.kind = TERN_INIT_UNIFORM, .a = -1, .b = 3}, 1, 4 / sqrt(12),
                   -1, 3, u);
    expect_moments(ctx, w, (tern_init){.kind = TERN_INIT_NORMAL}, 0, 1, -inf, inf, nk);
    expect_moments(ctx, w, (tern_init){.kind = TERN_INIT_NORMAL, .a = 2, .b = 0.5}, 2, 0.5, -inf,
                   inf, nk);
    s = sqrt(2 / (fan_in + fan_out));
    expect_moments(ctx, k, (tern_init){.kind = TERN_INIT_XAVIER_NORMAL}, 0, s, -inf, inf, nk);
    expect_moments(ctx, k, (tern_init){.kind = TERN_INIT_XAVIER_UNIFORM, .gain = 3}, 0, 3 * s,
                   -3.001 * s * sqrt(3), 3.001 * s * sqrt(3), u);
    s = sqrt(2 / fan_in);
    expect_moments(ctx, k, (tern_init){.kind = TERN_INIT_HE_NORMAL}, 0, s, -inf, inf, nk);
    expect_moments(ctx, k, (tern_init){.kind = TERN_INIT_HE_UNIFORM}, 0, s, -1.001 * s * sqrt(3),
                   1.001 * s * sqrt(3), u);
    s = 1 / sqrt(fan_out);
    expect_moments(ctx, k, (tern_init){.kind = TERN_INIT_HE_NORMAL, .gain = 1, .fan_out = 1}, 0, s,
                   -inf, inf, nk);
    tc_close(ctx);
}

Test(init, constant_and_integers)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_init seven = {.kind = TERN_INIT_CONSTANT, .a = 7};
    double *x = tc_doubles(ctx, tern_init_draw(ctx, "n", TERN_I64, (tern_shape){1, {3}}, &seven));

    for (int i = 0; i < 3; i++) cr_expect(x[i] == 7);
    free(x);
    tc_close(ctx);
}

static double worst_product(const double *v, int64_t m, int64_t n, int64_t along, int64_t across,
                            double gain)
{
    double worst = 0;

    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += v[i * across + k * along] * v[j * across + k * along];
            worst = fmax(worst, fabs(sum - (i == j ? gain * gain : 0)));
        }
    return worst;
}

Test(init, orthogonal)
{
    static const tern_shape shapes[] = {{2, {20, 50}},      {2, {50, 20}}, {2, {16, 16}},
                                        {4, {12, 5, 3, 3}}, {2, {1, 7}},   {2, {7, 1}}};
    tern_ctx *ctx = tc_open("cpu");

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int f32 = 0; f32 < 2; f32++) {
            const double gain = i % 2 ? 1 : 2.5, tight = f32 ? 2e-6 : 1e-13;
            const tern_init o = {.kind = TERN_INIT_ORTHOGONAL, .gain = gain};
            const int64_t rows = shapes[i].dim[0], cols = tern_count(shapes[i]) / rows;
            tern_tensor *t = tern_init_draw(ctx, "q", f32 ? TERN_F32 : TERN_F64, shapes[i], &o);
            double *v = tc_doubles(ctx, t);

            const double worst = rows <= cols ? worst_product(v, rows, cols, 1, cols, gain)
                                              : worst_product(v, cols, rows, cols, 1, gain);
            cr_expect(worst <= tight * gain * gain, "shape %d: off by %g", (int)i, worst);
            free(v);
        }
    tc_close(ctx);
}

Test(init, depends_on_seed_name_and_element_only)
{
    const tern_shape shape = {2, {37, 41}}, more = {2, {74, 41}};
    const tern_init o = {.kind = TERN_INIT_NORMAL};
    tern_ctx *ctx = tc_open("cpu"), *other = tc_open("ref");
    const size_t n = 37 * 41;
    double *a = tc_doubles(ctx, tern_init_draw(ctx, "conv1.weight", TERN_F32, shape, &o));
    double *b, *c;

    cr_assert(tern_threads_set(ctx, 3) == TERN_OK);
    b = tc_doubles(ctx, tern_init_draw(ctx, "conv1.weight", TERN_F32, shape, &o));
    cr_expect(memcmp(a, b, n * sizeof *a) == 0, "a second draw is equal");
    free(b);
    b = tc_doubles(other, tern_init_draw(other, "conv1.weight", TERN_F32, shape, &o));
    cr_expect(memcmp(a, b, n * sizeof *a) == 0, "the reference device draws the same bits");
    free(b);
    b = tc_doubles(ctx, tern_init_draw(ctx, "conv1.weight", TERN_F32, more, &o));
    cr_expect(memcmp(a, b, n * sizeof *a) == 0, "a longer draw begins with the same numbers");
    free(b);
    b = tc_doubles(ctx, tern_init_draw(ctx, "conv2.weight", TERN_F32, shape, &o));
    cr_expect(memcmp(a, b, n * sizeof *a) != 0, "another name draws other numbers");
    cr_assert(tern_seed_set(ctx, 43) == TERN_OK);
    c = tc_doubles(ctx, tern_init_draw(ctx, "conv1.weight", TERN_F32, shape, &o));
    cr_expect(memcmp(a, c, n * sizeof *a) != 0, "another seed draws other numbers");
    free(a);
    free(b);
    free(c);
    tc_close(ctx);
    tc_close(other);
}

Test(init, names)
{
    cr_expect(tern_init_named("he_normal") == TERN_INIT_HE_NORMAL);
    cr_expect(tern_init_named("orthogonal") == TERN_INIT_ORTHOGONAL);
    cr_expect(tern_init_named("default") == TERN_INIT_DEFAULT);
    cr_expect(tern_init_named("glorot") == -1);
    cr_expect(tern_init_named(NULL) == -1);
}

static void refused(tern_ctx *ctx, tern_init o, tern_shape shape, tern_type type, tern_status want)
{
    cr_expect(!tern_init_draw(ctx, "w", type, shape, &o));
    cr_expect(tern_error(ctx) == want, "kind %d: %s", o.kind, tern_error_text(ctx));
    tern_error_clear(ctx);
}

Test(init, wrong_arguments)
{
    const tern_shape two = {2, {3, 4}}, one = {1, {3}};
    tern_ctx *ctx = tc_open("cpu");

    refused(ctx, (tern_init){.kind = 99}, two, TERN_F32, TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.kind = -1}, two, TERN_F32, TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.kind = TERN_INIT_UNIFORM, .a = 2, .b = 1}, two, TERN_F32,
            TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.kind = TERN_INIT_NORMAL, .b = -1}, two, TERN_F32, TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.kind = TERN_INIT_NORMAL, .b = NAN}, two, TERN_F32, TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.gain = -1}, two, TERN_F32, TERN_E_ARGUMENT);
    refused(ctx, (tern_init){.kind = TERN_INIT_HE_NORMAL}, one, TERN_F32, TERN_E_SHAPE);
    refused(ctx, (tern_init){.kind = TERN_INIT_ORTHOGONAL}, one, TERN_F32, TERN_E_SHAPE);
    refused(ctx, (tern_init){.kind = TERN_INIT_NORMAL}, two, TERN_I64, TERN_E_ARGUMENT);
    tc_close(ctx);
}
