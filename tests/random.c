/* random.c - streams, distributions, dropout: fixed bits, moments, independence of layout. */
#include "base/random.h"
#include "expect.h"

#define N TI_SHAPE

/* Bits are part of the contract: initial weights and masks must not change between versions. The
 * generator's own published vectors are in philox.c. */
Test(random, bits_stay)
{
    const ti_stream s = ti_stream_of(42, tern_purpose("net.fc1.w"), 7);
    uint32_t sum = 0;

    for (uint64_t i = 0; i < 1000; i++) sum = sum * 31 + ti_bits32(&s, i);
    cr_expect(sum == 1975143267u, "%u", sum);
    cr_expect(tern_purpose("") == tern_purpose(NULL));
    cr_expect(tern_purpose("a") != tern_purpose("b"));
    cr_expect(ti_bits64(&s, 3) == ((uint64_t)ti_bits32(&s, 7) << 32 | ti_bits32(&s, 6)));
}

/* Quantiles of the normal distribution, from tables. */
Test(random, normal_is_the_inverse_of_its_distribution)
{
    const struct {
        double p, x;
    } known[] = {{0.5, 0},
                 {0.975, 1.959963984540054},
                 {0.9, 1.2815515655446004},
                 {0.001, -3.090232306167813},
                 {1e-9, -5.997807015007686}};

    for (int i = 0; i < 5; i++) {
        const double got = ti_normal_of((uint64_t)(known[i].p * 0x1p52) << 12);
        cr_expect(fabs(got - known[i].x) < 1e-6, "%g: %.12g", known[i].p, got);
    }
    cr_expect(isfinite(ti_normal_of(0)) && isfinite(ti_normal_of(UINT64_MAX)));
    cr_expect(fabs(ti_log_of(10) - 2.302585092994046) < 1e-15);
    cr_expect(fabs(ti_log_of(1e-300) + 690.7755278982137) < 1e-12);
}

TC_BOTH(random, moments)
{
    enum { COUNT = 100000 };
    static double x[COUNT];
    tern_tensor *counter = TC(ctx, I64, TI_SCALAR, 5);
    tern_random_opts o = {.seed = 1, .purpose = 2, .rank = 1, .dim = {COUNT}};

    for (int k = 0; k < 4; k++) {
        const bool normal = k & 1;
        double mean = 0, var = 0;
        o.type = k < 2 ? TERN_F32 : TERN_F64;
        o.a = -1;
        o.b = 3;
        tern_tensor *t = normal ? tern_normal(ctx, counter, &o) : tern_uniform(ctx, counter, &o);
        cr_assert(tern_to_doubles(ctx, x, t) == TERN_OK, "%s", tern_error_text(ctx));
        for (int i = 0; i < COUNT; i++) mean += x[i] / COUNT;
        for (int i = 0; i < COUNT; i++) var += (x[i] - mean) * (x[i] - mean) / COUNT;
        /* five deviations of the estimate */
        const double want = normal ? 9 : 16.0 / 12;
        cr_expect(fabs(mean - (normal ? -1 : 1)) < 5 * sqrt(want / COUNT), "%d: %g", k, mean);
        cr_expect(fabs(var - want) < 5 * want * sqrt(2.0 / COUNT), "%d: %g", k, var);
        for (int i = 0; !normal && i < COUNT; i++) cr_assert(x[i] >= -1 && x[i] < 3);
    }
}

/* The fast rows give the reference's bits; other counters, seeds and purposes other numbers. */
Test(random, devices_agree_in_bits)
{
    enum { COUNT = 1237 };
    static double a[COUNT], b[COUNT], c[COUNT];
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");
    tern_random_opts o = {.seed = -3, .purpose = 1ll << 40, .rank = 1, .dim = {COUNT}, .b = 2};

    for (int k = 0; k < 4; k++) {
        tern_tensor *(*draw)(tern_ctx *, tern_tensor *, const tern_random_opts *) =
            k & 1 ? tern_normal : tern_uniform;
        o.type = k < 2 ? TERN_F32 : TERN_F64;
        cr_assert(!tern_to_doubles(cpu, a, draw(cpu, TC(cpu, I64, TI_SCALAR, 9), &o)));
        cr_assert(!tern_to_doubles(ref, b, draw(ref, TC(ref, I64, TI_SCALAR, 9), &o)));
        cr_assert(!tern_to_doubles(ref, c, draw(ref, TC(ref, I64, TI_SCALAR, 10), &o)));
        cr_expect(memcmp(a, b, sizeof a) == 0, "%d", k);
        cr_expect(memcmp(a, c, sizeof a) != 0, "%d", k);
    }
    tc_close(cpu);
    tc_close(ref);
}

/* uniform: b is never reached, however narrow the range. */
TC_BOTH(random, narrow_ranges)
{
    const float low = 1.0f, high = nextafterf(low, 2);
    tern_random_opts o = {.rank = 1, .dim = {200}, .a = low, .b = high};
    tern_tensor *counter = TC(ctx, I64, TI_SCALAR, 0);
    double x[200];

    cr_assert(tern_to_doubles(ctx, x, tern_uniform(ctx, counter, &o)) == TERN_OK);
    for (int i = 0; i < 200; i++) cr_expect(x[i] == low);
    o.b = low;
    TC_REFUSES(tern_uniform(ctx, counter, &o), TERN_E_ARGUMENT, "nothing from 1");
    o.b = NAN;
    TC_REFUSES(tern_uniform(ctx, counter, &o), TERN_E_ARGUMENT, "nan");
    TC_REFUSES(tern_normal(ctx, counter, &o), TERN_E_ARGUMENT, "nan");
    o.b = 3;
    o.dim[0] = -1;
    TC_REFUSES(tern_uniform(ctx, counter, &o), TERN_E_SHAPE, "uniform");
    o.dim[0] = 1;
    o.type = TERN_I64;
    TC_REFUSES(tern_uniform(ctx, counter, &o), TERN_E_TYPE, "neither f32 nor f64");
    TC_REFUSES(tern_normal(ctx, TC(ctx, F32, TI_SCALAR, 1), &o), TERN_E_TYPE, "normal");
}

/* An element goes or stays by its logical place, not by how it lies. */
TC_BOTH(random, dropout)
{
    const tern_shape s = N(3, 5, 7, 4);
    const tern_dropout_opts half = {.p = 0.5, .seed = 4, .purpose = 9};
    tern_tensor *counter = TC(ctx, I64, TI_SCALAR, 3), *x = tern_fill(ctx, TERN_F32, s, 1.5);
    double a[420], b[420], c[420], d[420];
    tern_tensor *t = tern_track(ctx, x);
    int kept = 0;

    cr_assert(!tern_to_doubles(ctx, a, tern_dropout(ctx, x, counter, &half)));
    cr_assert(
        !tern_to_doubles(ctx, b, tern_dropout(ctx, tern_channels_last(ctx, x), counter, &half)));
    cr_assert(!tern_to_doubles(ctx, c, tern_dropout(ctx, tc_strided(ctx, x), counter, &half)));
    cr_assert(
        !tern_to_doubles(ctx, d, tc_grad(ctx, tern_dropout(ctx, t, counter, &half), NULL, t)));
    cr_expect(memcmp(a, b, sizeof a) == 0 && memcmp(a, c, sizeof a) == 0);
    for (int i = 0; i < 420; i++) {
        cr_expect((a[i] == 0 && d[i] == 0) || (a[i] == 3 && d[i] == 2));
        kept += a[i] != 0;
    }
    cr_expect(kept > 160 && kept < 260, "%d of 420 were kept", kept);
    TC_EXPECT(tern_dropout(ctx, TC(ctx, F32, N(2), NAN, 1), counter, NULL), N(2), 0, NAN, 1);
    TC_REFUSES(tern_dropout(ctx, x, counter, &(tern_dropout_opts){.p = 1}), TERN_E_ARGUMENT, "p 1");
    TC_REFUSES(tern_dropout(ctx, x, TC(ctx, I64, N(2), 1, 2), &half), TERN_E_SHAPE, "[2]");
}
