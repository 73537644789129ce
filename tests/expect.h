/*
 * expect.h - literal inputs and expected values, for tests of single operations.
 */
#ifndef TC_EXPECT_H
#define TC_EXPECT_H

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "check.h"
#include "tern/tern.h"

#define TC_LIST(...) ((const double[]){__VA_ARGS__})
/* A tensor of a type and shape from literal values: TC(ctx, F32, TI_SHAPE(2, 2), 1, 2, 3, 4). */
#define TC(ctx, type, shape, ...) tern_from_doubles(ctx, TERN_##type, TC_LIST(__VA_ARGS__), shape)

/* Whether two numbers are the same to `tolerance` relative; 0: the same bits, all NaN being one. */
static inline bool tc_alike(double a, double b, double tolerance)
{
    if (a != a || b != b) return a != a && b != b;
    if (tolerance == 0) return a == b && signbit(a) == signbit(b);
    return a == b || fabs(a - b) <= tolerance * fmax(fabs(b), 1e-30);
}

static inline void tc_expect(tern_ctx *ctx, tern_tensor *y, tern_shape shape, const double *want,
                             double tolerance, const char *what)
{
    char got_shape[160], want_shape[160];
    double got[256];

    cr_assert(y != NULL, "%s: %s", what, tern_error_text(ctx));
    tern_shape_text(got_shape, tern_shape_of(y));
    tern_shape_text(want_shape, shape);
    cr_assert(tern_same_shape(tern_shape_of(y), shape), "%s: shape %s, not %s", what, got_shape,
              want_shape);
    cr_assert(tern_count(shape) <= 256);
    cr_assert(tern_to_doubles(ctx, got, y) == TERN_OK, "%s: %s", what, tern_error_text(ctx));
    for (int64_t i = 0; i < tern_count(shape); i++)
        cr_expect(tc_alike(got[i], want[i], tolerance),
                  "%s on %s: element %lld is %.17g, not %.17g", what, tern_device(ctx),
                  (long long)i, got[i], want[i]);
}
/* TC_EXPECT(tern_add(ctx, a, b), TI_SHAPE(2), 0, 1, 2): exactly these. */
#define TC_EXPECT(call, shape, tolerance, ...)                                                     \
    tc_expect(ctx, call, shape, TC_LIST(__VA_ARGS__), tolerance, #call)
/* A call that must fail with this status and with this text in its message. */
#define TC_REFUSES(call, status_, part)                                                            \
    do {                                                                                           \
        cr_expect((call) == NULL, "%s succeeded", #call);                                          \
        cr_expect(tern_error(ctx) == (status_), "%s: %s", #call, tern_error_text(ctx));            \
        cr_expect(strstr(tern_error_text(ctx), part) != NULL, "%s: %s", #call,                     \
                  tern_error_text(ctx));                                                           \
        tern_error_clear(ctx);                                                                     \
    } while (0)

/* The derivative of sum(y gy) in x: for a statement like y = tern_exp(ctx, x). gy NULL: ones. */
static inline tern_tensor *tc_grad(tern_ctx *ctx, tern_tensor *y, tern_tensor *gy, tern_tensor *x)
{
    tern_tensor *d = NULL;

    return y && tern_grads(ctx, &d, 1, &y, gy ? &gy : NULL, 1, &x) == TERN_OK ? d : NULL;
}

/* Runs a body on the ordinary device and on the reference. */
#define TC_BOTH(suite, name)                                                                       \
    static void suite##_##name(tern_ctx *ctx);                                                     \
    Test(suite, name)                                                                              \
    {                                                                                              \
        for (int i = 0; i < 2; i++) {                                                              \
            tern_ctx *c = tc_open(i ? "ref" : "cpu");                                              \
            suite##_##name(c);                                                                     \
            tc_close(c);                                                                           \
        }                                                                                          \
    }                                                                                              \
    static void suite##_##name(tern_ctx *ctx)

#endif
