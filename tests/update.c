/* update.c - optimizer steps against a model in double, census. */
#include "expect.h"

#define N TI_SHAPE

TC_BOTH(update, census)
{
    tern_tensor *stats = NULL, *x[3] = {TC(ctx, F32, N(2), 3, 4), TC(ctx, F32, TI_SCALAR, 7)};

    TC_EXPECT(tern_census(ctx, &stats, 2, x), TI_SCALAR, 0, 0);
    TC_EXPECT(stats, N(2), 0, 5, 0);
    x[1] = TC(ctx, F64, N(3), NAN, 1, -INFINITY);
    TC_EXPECT(tern_census(ctx, &stats, 2, x), TI_SCALAR, 0, 1);
    TC_EXPECT(stats, N(2), 0, 5, 2);
    x[1] = tern_fill(ctx, TERN_F32, N(0), 1);
    x[2] = TC(ctx, F32, N(1), INFINITY);
    TC_EXPECT(tern_census(ctx, &stats, 3, x), TI_SCALAR, 0, 1);
    TC_EXPECT(stats, N(2), 0, 5, 1);
    x[0] = TC(ctx, F32, N(2), 3e38, 3e38); /* squares leave f32 */
    TC_EXPECT(tern_census(ctx, &stats, 2, x), TI_SCALAR, 0, 0);
    TC_EXPECT(stats, N(2), 1e-6, 3e38 * sqrt(2), 0);
    TC_REFUSES(tern_census(ctx, NULL, 0, x), TERN_E_ARGUMENT, "census");
    x[0] = TC(ctx, I64, N(1), 1);
    TC_REFUSES(tern_census(ctx, NULL, 1, x), TERN_E_TYPE, "census");
}

enum { COUNT = 37, STEPS = 50 };

/* g is a fixed function of p and the step, so that errors of p come back. */
static double slope(double p, int i, int t)
{
    return p - 0.3 * i / COUNT + 0.1 * ((i + t) % 5 - 2);
}

typedef struct {
    double p[COUNT], m[COUNT], v[COUNT];
} state;

static void model_sgd(state *s, const tern_sgd_update_opts *o, bool momentum, double lr, int t)
{
    for (int i = 0; i < COUNT; i++) {
        const double g = 0.5 * slope(s->p[i], i, t) + o->decay * s->p[i];
        double step = g;
        if (momentum) {
            s->m[i] = o->momentum * s->m[i] + (1 - o->dampening) * g;
            step = o->nesterov ? g + o->momentum * s->m[i] : s->m[i];
        }
        s->p[i] -= lr * step;
    }
}

static void model_adam(state *s, const tern_adam_update_opts *o, double b1, double b2, double eps,
                       double lr, int t)
{
    for (int i = 0; i < COUNT; i++) {
        const double g = 0.5 * slope(s->p[i], i, t) + (o->decoupled ? 0 : o->decay * s->p[i]);
        s->m[i] = b1 * s->m[i] + (1 - b1) * g;
        s->v[i] = b2 * s->v[i] + (1 - b2) * g * g;
        if (o->decoupled) s->p[i] *= 1 - lr * o->decay;
        s->p[i] -= lr * (s->m[i] / (1 - pow(b1, t))) / (sqrt(s->v[i] / (1 - pow(b2, t))) + eps);
    }
}

static void pull(tern_ctx *ctx, tern_tensor *p, int t, double *g)
{
    double x[COUNT];

    cr_assert(tern_to_doubles(ctx, x, p) == TERN_OK, "%s", tern_error_text(ctx));
    for (int i = 0; i < COUNT; i++) g[i] = slope(x[i], i, t);
}

static void close_to(tern_ctx *ctx, tern_tensor *got, const double *want, const char *what)
{
    double x[COUNT];

    cr_assert(tern_to_doubles(ctx, x, got) == TERN_OK, "%s", tern_error_text(ctx));
    for (int i = 0; i < COUNT; i++)
        cr_expect(fabs(x[i] - want[i]) < 2e-6 * (1 + fabs(want[i])), "%s on %s, %d: %.9g, not %.9g",
                  what, tern_device(ctx), i, x[i], want[i]);
}

TC_BOTH(update, sgd_trajectories)
{
    const tern_sgd_update_opts all[] = {{0},
                                        {.momentum = 0.9},
                                        {.momentum = 0.8, .nesterov = 1, .decay = 0.02},
                                        {.momentum = 0.5, .dampening = 0.3}};
    tern_tensor *lr = TC(ctx, F32, TI_SCALAR, 0.0625), *half = TC(ctx, F32, TI_SCALAR, 0.5);

    for (int k = 0; k < 4; k++) {
        state s = {0};
        double g[COUNT];
        tern_tensor *p = tern_fill(ctx, TERN_F32, N(COUNT), 1);
        tern_tensor *m = k ? tern_fill(ctx, TERN_F32, N(COUNT), 0) : NULL;
        for (int i = 0; i < COUNT; i++) s.p[i] = 1;
        for (int t = 1; t <= STEPS; t++) {
            pull(ctx, p, t, g);
            p = tern_sgd_update(ctx, k ? &m : NULL, p, m,
                                tern_from_doubles(ctx, TERN_F32, g, N(COUNT)), lr, half, &all[k]);
            model_sgd(&s, &all[k], k > 0, 0.0625, t);
        }
        close_to(ctx, p, s.p, "p");
        if (k) close_to(ctx, m, s.m, "m");
    }
}

TC_BOTH(update, adam_trajectories)
{
    const tern_adam_update_opts all[] = {{0},
                                         {.decay = 0.1},
                                         {.decay = 0.1,
                                          .decoupled = 1,
                                          .has_beta1 = 1,
                                          .beta1 = 0,
                                          .has_beta2 = 1,
                                          .beta2 = 0.9,
                                          .has_eps = 1,
                                          .eps = 0.01}};
    tern_tensor *lr = TC(ctx, F32, TI_SCALAR, 0.0625), *half = TC(ctx, F32, TI_SCALAR, 0.5);

    for (int k = 0; k < 3; k++) {
        state s = {0};
        double g[COUNT];
        tern_tensor *p = tern_fill(ctx, TERN_F32, N(COUNT), 1);
        tern_tensor *m = tern_fill(ctx, TERN_F32, N(COUNT), 0), *v = m;
        for (int i = 0; i < COUNT; i++) s.p[i] = 1;
        for (int t = 1; t <= STEPS; t++) {
            pull(ctx, p, t, g);
            p = tern_adam_update(ctx, &m, &v, p, m, v,
                                 tern_from_doubles(ctx, TERN_F32, g, N(COUNT)), lr,
                                 TC(ctx, I64, TI_SCALAR, t), half, &all[k]);
            model_adam(&s, &all[k], k < 2 ? 0.9 : 0, k < 2 ? 0.999 : 0.9, k < 2 ? 1e-8 : 0.01,
                       0.0625, t);
        }
        close_to(ctx, p, s.p, "p");
        close_to(ctx, m, s.m, "m");
        close_to(ctx, v, s.v, "v");
    }
}

/* Moments from far below to far above 1, divisors that eps keeps from 0 or does not, lengths that
 * fill no vector. The first gradient is 0, so are its moments: with eps it moves nothing. */
Test(update, adam_over_all_magnitudes)
{
    enum { LONG = 151 };
    tern_ctx *c[] = {tc_open("cpu"), tc_open("ref")};
    const tern_adam_update_opts all[] = {
        {0}, {.has_eps = 1, .eps = 0}, {.decoupled = 1, .decay = 1}};

    for (int k = 0; k < 3; k++) {
        double g[LONG] = {0}, zero[LONG] = {0}, *p[2], *v[2];

        for (int i = 1; i < LONG; i++) g[i] = ldexp(i % 2 ? 1.25 : -1.5, (i - 76) * 3 / 5);
        if (k == 1) g[0] = 1; /* 0/0 otherwise */
        for (int d = 0; d < 2; d++) {
            tern_tensor *at = tern_from_doubles(c[d], TERN_F32, zero, N(LONG)), *m = at, *w = at;
            tern_tensor *x = tern_from_doubles(c[d], TERN_F32, g, N(LONG));
            for (int t = 1; t <= 3; t++)
                at = tern_adam_update(c[d], &m, &w, at, m, w, x, TC(c[d], F32, TI_SCALAR, 0.25),
                                      TC(c[d], I64, TI_SCALAR, t), NULL, &all[k]);
            p[d] = tc_doubles(c[d], at);
            v[d] = tc_doubles(c[d], w);
        }
        for (int i = 0; i < LONG && p[0] && p[1]; i++) {
            cr_expect(fabs(p[0][i] - p[1][i]) <= 2e-6 * (fabs(p[1][i]) + 1e-3), "%d %d: %g, not %g",
                      k, i, p[0][i], p[1][i]);
            cr_expect(fabs(v[0][i] - v[1][i]) <= 1e-6 * v[1][i], "%d %d: v %g, not %g", k, i,
                      v[0][i], v[1][i]);
        }
        for (int d = 0; d < 2; d++) {
            free(p[d]);
            free(v[d]);
        }
    }
    tc_close(c[0]);
    tc_close(c[1]);
}

TC_BOTH(update, refuses)
{
    tern_tensor *p = tern_fill(ctx, TERN_F32, N(3), 1), *q = tern_fill(ctx, TERN_F32, N(4), 1);
    tern_tensor *one = TC(ctx, F32, TI_SCALAR, 1), *t = TC(ctx, I64, TI_SCALAR, 1);
    const tern_sgd_update_opts heavy = {.momentum = 0.9};
    const tern_adam_update_opts bad = {.has_beta1 = 1, .beta1 = 1};

    TC_REFUSES(tern_sgd_update(ctx, NULL, p, NULL, p, one, NULL, &heavy), TERN_E_ARGUMENT,
               "momentum 0.9 without m");
    TC_REFUSES(tern_sgd_update(ctx, NULL, p, NULL, q, one, NULL, NULL), TERN_E_SHAPE, "[4]");
    TC_REFUSES(tern_sgd_update(ctx, NULL, p, NULL, p, q, NULL, NULL), TERN_E_SHAPE, "lr");
    TC_REFUSES(tern_adam_update(ctx, NULL, NULL, p, p, p, p, one, one, NULL, NULL), TERN_E_TYPE,
               "adam");
    TC_REFUSES(tern_adam_update(ctx, NULL, NULL, p, p, p, p, one, t, NULL, &bad), TERN_E_ARGUMENT,
               "beta1");
    TC_REFUSES(tern_adam_update(ctx, NULL, NULL, p, p, NULL, p, one, t, NULL, NULL),
               TERN_E_ARGUMENT, "v is NULL");
}
