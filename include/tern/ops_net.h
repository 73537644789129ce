/*
 * tern/ops_net.h - operations of networks: convolution, pooling, normalisation, losses, random
 * numbers, updates. The rules of tern/ops.h hold, which includes this file.
 *
 * N batch; C, H, W input channels, rows, columns; K, P, Q output channels, rows, columns;
 * R, S filter rows, columns.
 */
#ifndef TERN_OPS_NET_H
#define TERN_OPS_NET_H

#include "tern/ops.h"

TERN_BEGIN_DECLS

/* ---- Convolution ---- */

typedef struct tern_conv2d_opts {
    int stride[2];    /* rows, columns; 0 means 1                  */
    int pad[2];       /* zeros added at both ends, in elements     */
    int dilation[2];  /* distance between filter taps; 0 means 1   */
    int groups;       /* 0 means 1; must divide C and K            */
    int64_t shape[4]; /* adjoints only: the shape they return      */
} tern_conv2d_opts;
/*
 * Cross-correlation (the filter is not flipped).
 *   x [N,C,H,W], w [K,C/G,R,S]  ->  y [N,K,P,Q],
 *   P = floor((H + 2 pad - dilation (R-1) - 1) / stride) + 1, Q likewise from W and S.
 */
TERN_API tern_tensor *tern_conv2d(tern_ctx *ctx, tern_tensor *x, tern_tensor *w,
                                  const tern_conv2d_opts *opts);
/* Adjoints of <conv2d(x, w), g>: in x, shaped opts->shape; in w, shaped opts->shape. */
TERN_API tern_tensor *tern_conv2d_dx(tern_ctx *ctx, tern_tensor *g, tern_tensor *w,
                                     const tern_conv2d_opts *opts);
TERN_API tern_tensor *tern_conv2d_dw(tern_ctx *ctx, tern_tensor *x, tern_tensor *g,
                                     const tern_conv2d_opts *opts);
typedef struct tern_conv2d_act_opts {
    int stride[2], pad[2], dilation[2], groups;
    int act; /* tern_act */
} tern_conv2d_act_opts;
/* act(conv2d(x, w) + b): b [K] or NULL. */
TERN_API tern_tensor *tern_conv2d_act(tern_ctx *ctx, tern_tensor *x, tern_tensor *w, tern_tensor *b,
                                      const tern_conv2d_act_opts *opts);

/* ---- Pooling ---- */

typedef struct tern_pool2d_opts {
    int size[2];      /* required, >= 1                                                     */
    int stride[2];    /* 0 means size                                                       */
    int pad[2];       /* at both ends, at most size / 2; never chosen as a maximum          */
    int dilation[2];  /* max pooling only; 0 means 1                                       */
    int ceil_mode;    /* round the output up; the last window must start inside x or left pad */
    int exclude_pad;  /* average: divide by the elements inside, not by size               */
    int64_t shape[4]; /* adjoints only */
} tern_pool2d_opts;
/* x [N,C,H,W] -> [N,K=C,P,Q]. *indices (may be NULL) i64: h·W + w of the maximum. The first of
 * equal maxima, in row-major order, wins; NaN wins over all. */
TERN_API tern_tensor *tern_max_pool2d(tern_ctx *ctx, tern_tensor **indices, tern_tensor *x,
                                      const tern_pool2d_opts *opts);
/* g [N,C,P,Q] summed into zeros [N,C,H,W] = opts->shape at the indices; and its adjoint:
 * x [N,C,H,W] read at the indices. */
TERN_API tern_tensor *tern_max_pool2d_dx(tern_ctx *ctx, tern_tensor *g, tern_tensor *indices,
                                         const tern_pool2d_opts *opts);
TERN_API tern_tensor *tern_max_pool2d_at(tern_ctx *ctx, tern_tensor *x, tern_tensor *indices,
                                         const tern_pool2d_opts *opts);
TERN_API tern_tensor *tern_avg_pool2d(tern_ctx *ctx, tern_tensor *x, const tern_pool2d_opts *opts);
TERN_API tern_tensor *tern_avg_pool2d_dx(tern_ctx *ctx, tern_tensor *g,
                                         const tern_pool2d_opts *opts);

/* ---- Normalisation ---- */

typedef struct tern_batch_norm_opts {
    int has_eps, has_momentum;
    double eps;      /* 1e-5 */
    double momentum; /* 0.1: new = (1 - momentum) old + momentum batch */
} tern_batch_norm_opts;
/*
 * Over all axes but 1, with the batch's mean and biased variance (Ioffe and Szegedy 2015):
 * y = gamma (x - mean) / sqrt(var + eps) + beta; x [N,C,...], the others [C].
 * *new_mean, *new_var (may be NULL): the running statistics after this batch; the variance enters
 * unbiased (n - 1). Needs more than one value per channel.
 */
TERN_API tern_tensor *tern_batch_norm(tern_ctx *ctx, tern_tensor **new_mean, tern_tensor **new_var,
                                      tern_tensor *x, tern_tensor *gamma, tern_tensor *beta,
                                      tern_tensor *mean, tern_tensor *var,
                                      const tern_batch_norm_opts *opts);
/* The same with given mean and variance (evaluation). Differentiable in all five. */
TERN_API tern_tensor *tern_batch_norm_eval(tern_ctx *ctx, tern_tensor *x, tern_tensor *gamma,
                                           tern_tensor *beta, tern_tensor *mean, tern_tensor *var,
                                           const tern_batch_norm_opts *opts);
typedef struct tern_bn_add_act_opts {
    int has_eps, has_momentum;
    double eps, momentum; /* as of tern_batch_norm_opts */
    int act;              /* TERN_ACT_NONE or TERN_RELU */
} tern_bn_add_act_opts;
/* act(batch_norm(x) + r) in one pass; r of x's shape, or NULL. */
TERN_API tern_tensor *tern_bn_add_act(tern_ctx *ctx, tern_tensor **new_mean, tern_tensor **new_var,
                                      tern_tensor *x, tern_tensor *gamma, tern_tensor *beta,
                                      tern_tensor *r, tern_tensor *mean, tern_tensor *var,
                                      const tern_bn_add_act_opts *opts);
typedef struct tern_layer_norm_opts {
    int axes; /* how many trailing axes; 0 means 1 */
    int has_eps;
    double eps; /* 1e-5 */
} tern_layer_norm_opts;
/* gamma, beta: the trailing shape, or NULL. Biased variance. (Ba et al. 2016.) */
TERN_API tern_tensor *tern_layer_norm(tern_ctx *ctx, tern_tensor *x, tern_tensor *gamma,
                                      tern_tensor *beta, const tern_layer_norm_opts *opts);

/* ---- Losses ---- */

TERN_API tern_tensor *tern_softmax(tern_ctx *ctx, tern_tensor *x, const tern_axis_opts *opts);
TERN_API tern_tensor *tern_log_softmax(tern_ctx *ctx, tern_tensor *x, const tern_axis_opts *opts);
typedef enum { TERN_REDUCE_MEAN, TERN_REDUCE_SUM, TERN_REDUCE_NONE } tern_reduction;
typedef struct tern_cross_entropy_opts {
    double smoothing; /* of the labels, 0 … 1 */
    int reduction;    /* mean: over the weights of the targets that count */
    int has_ignore;   /* targets equal to `ignore` do not count */
    int64_t ignore;
} tern_cross_entropy_opts;
/*
 * Softmax cross-entropy over axis 1. x [N,K] or [N,K,...]; target: classes i64 or i32 [N,...], or
 * probabilities of x's shape and type; weight [K] or NULL. With classes mean divides by the sum of
 * their weights, with probabilities by N (times ...). Scalar, or [N,...] for TERN_REDUCE_NONE.
 */
TERN_API tern_tensor *tern_cross_entropy(tern_ctx *ctx, tern_tensor *x, tern_tensor *target,
                                         tern_tensor *weight, const tern_cross_entropy_opts *opts);
typedef struct tern_mse_opts {
    int reduction;
} tern_mse_opts;
TERN_API tern_tensor *tern_mse(tern_ctx *ctx, tern_tensor *x, tern_tensor *target,
                               const tern_mse_opts *opts);

/* ---- Random; a number is a function of (seed, purpose, counter, element) only ---- */

typedef struct tern_random_opts {
    int64_t seed, purpose; /* purpose: tern_purpose of a name */
    int64_t rank, dim[TERN_RANK];
    int type;
    double a, b; /* uniform: in [a, b); normal: mean a, deviation b. b 0 with a 0 means 1 */
} tern_random_opts;
TERN_API int64_t tern_purpose(const char *name);
/* counter: one i64. */
TERN_API tern_tensor *tern_uniform(tern_ctx *ctx, tern_tensor *counter, const tern_random_opts *o);
TERN_API tern_tensor *tern_normal(tern_ctx *ctx, tern_tensor *counter, const tern_random_opts *o);
typedef struct tern_dropout_opts {
    double p; /* probability of zero, 0 <= p < 1 */
    int64_t seed, purpose;
} tern_dropout_opts;
/* x / (1 - p) where kept. counter: one i64. */
TERN_API tern_tensor *tern_dropout(tern_ctx *ctx, tern_tensor *x, tern_tensor *counter,
                                   const tern_dropout_opts *opts);
TERN_API tern_tensor *tern_fill(tern_ctx *ctx, tern_type type, tern_shape shape, double value);

/* ---- Chains ---- */

enum { TERN_CHAIN = 6, TERN_CHAIN_IN = 3 };
typedef enum {
    TERN_CHAIN_END,
    TERN_CHAIN_ADD,
    TERN_CHAIN_SUB,
    TERN_CHAIN_MUL,
    TERN_CHAIN_DIV,
    TERN_CHAIN_MAXIMUM,
    TERN_CHAIN_MINIMUM,
    TERN_CHAIN_TANH_D,    /* b (1 - a a) */
    TERN_CHAIN_SIGMOID_D, /* b a (1 - a) */
    TERN_CHAIN_SCALE,     /* a p; from here on functions of one operand */
    TERN_CHAIN_SHIFT,     /* a + p */
    TERN_CHAIN_NEG,
    TERN_CHAIN_ABS,
    TERN_CHAIN_EXP,
    TERN_CHAIN_LOG,
    TERN_CHAIN_SQRT,
    TERN_CHAIN_RSQRT,
    TERN_CHAIN_TANH,
    TERN_CHAIN_SIGMOID,
    TERN_CHAIN_RELU,
    TERN_CHAIN_KINDS
} tern_chain_kind;
/* Step k is kind[k] of operands a[k] and b[k]: 0 … 2 are the inputs, 3 + j is step j, j < k. It
 * ends before the first TERN_CHAIN_END; each step but the last one is an operand of a later one. */
typedef struct tern_chain_opts {
    int kind[TERN_CHAIN], a[TERN_CHAIN], b[TERN_CHAIN];
    double p[TERN_CHAIN];
} tern_chain_opts;
/* Elementwise operations on inputs of one shape as one call: the result of the last step. x1 and x2
 * may be NULL where no step takes them. Programs make it of calls that follow each other. */
TERN_API tern_tensor *tern_chain(tern_ctx *ctx, tern_tensor *x0, tern_tensor *x1, tern_tensor *x2,
                                 const tern_chain_opts *opts);

/* ---- Updates; no gradients ---- */

/* *stats f64 [2]: the 2-norm of x[0], how many elements of all are not finite. Returns 1 or 0, f32:
 * whether there are any. */
TERN_API tern_tensor *tern_census(tern_ctx *ctx, tern_tensor **stats, int n, tern_tensor *const *x);
typedef struct tern_sgd_update_opts {
    double momentum, dampening, decay; /* decay: added to the gradient, times p */
    int nesterov;
} tern_sgd_update_opts;
/* p, m, g of one shape; lr a scalar; scale a scalar that multiplies g, or NULL; m NULL: no
 * momentum. m' = momentum m + (1 - dampening) g; p' = p - lr m'. Returns p', *new_m. */
TERN_API tern_tensor *tern_sgd_update(tern_ctx *ctx, tern_tensor **new_m, tern_tensor *p,
                                      tern_tensor *m, tern_tensor *g, tern_tensor *lr,
                                      tern_tensor *scale, const tern_sgd_update_opts *opts);
typedef struct tern_adam_update_opts {
    int has_beta1, has_beta2, has_eps;
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-8 */
    double decay;
    int decoupled; /* 1: AdamW */
} tern_adam_update_opts;
/* Kingma and Ba 2015, Loshchilov and Hutter 2019. t: one i64, the number of this step, from 1. */
TERN_API tern_tensor *tern_adam_update(tern_ctx *ctx, tern_tensor **new_m, tern_tensor **new_v,
                                       tern_tensor *p, tern_tensor *m, tern_tensor *v,
                                       tern_tensor *g, tern_tensor *lr, tern_tensor *t,
                                       tern_tensor *scale, const tern_adam_update_opts *opts);

TERN_END_DECLS

#endif
