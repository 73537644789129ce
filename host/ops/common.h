/*
 * common.h - what the files of several families share: bounds, activations, samples.
 */
#ifndef TI_OPS_COMMON_H
#define TI_OPS_COMMON_H

#include <math.h>

#include "core/op.h"

/* The shape of a sample, for static initialisers; with nothing else it draws from a normal. */
#define TI_DIMS(...)                                                                               \
    {                                                                                              \
        (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), { __VA_ARGS__ }                 \
    }
#define TI_NORMAL(...)                                                                             \
    {                                                                                              \
        TI_DIMS(__VA_ARGS__), TI_S_NORMAL, 0                                                       \
    }
#define TI_NOTHING                                                                                 \
    {                                                                                              \
        {0}, TI_S_NONE, 0                                                                          \
    }

/*
 * |computed - exact| <= u · ti_sum_error(L) · sum |terms| for a sum whose terms pass through at
 * most L roundings: L + 1 always (to first order, the last rounding included), and 6 sqrt(L + 1)
 * but with probability 2 exp(-18) = 3e-8 for each rounding error (Higham and Mary 2019, lambda 6).
 */
static inline double ti_sum_error(double L) { return L < 35 ? L + 1 : 6 * sqrt(L + 1); }

/*
 * A bound of class bf16, of sums of so many products each. Processors that multiply pairs of bf16
 * may take a sum below 2^-126 for zero after each product: less than 2^-126 is lost each time, and
 * u = 2^-24 is the unit of bounds. They must not do so to operands.
 */
static inline tern_tensor *ti_flushed(const ti_call *c, tern_tensor *bound, int64_t products)
{
    if (c->numbers != TI_CLASS_BF16) return bound;
    return tern_shift(c->ctx, bound, (double)products * 0x1p-102);
}

/* |a| + |b|, elementwise with broadcasting. */
static inline tern_tensor *ti_abs_sum(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)
{
    return tern_add(ctx, tern_abs(ctx, a), tern_abs(ctx, b));
}

/* The slope is at most 1 and the function itself is right within 4 u, for every tern_act. */
static inline tern_tensor *ti_act(tern_ctx *ctx, tern_tensor *x, int act)
{
    switch (act) {
    case TERN_RELU: return tern_relu(ctx, x);
    case TERN_TANH: return tern_tanh(ctx, x);
    case TERN_SIGMOID: return tern_sigmoid(ctx, x);
    default: return x;
    }
}

#endif
