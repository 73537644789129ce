/*
 * tern/ops.h - tensor operations.
 *
 *  - Result.   A new tensor, owned by the innermost open frame.
 *  - Inputs.   Borrowed; a NULL input gives NULL. Types must fit: there is no promotion.
 *              Arithmetic is on f32 and f64, comparisons and exact arithmetic (add, sub, mul,
 *              maximum, minimum, sum, shift, scale) also on i64 and i32.
 *  - Shapes.   Two inputs broadcast as in NumPy: aligned at the last axis, extents of 1 repeat.
 *  - Axes.     A set of axes is a mask, bit a for axis a; 0 means all axes. Single axes may be
 *              negative: -1 is the last one.
 *  - Layout.   Image operations give channels-last tensors, elementwise ones follow their first
 *              full-size input, all else is row-major.
 *
 * N batch; C, H, W input channels, rows, columns; K, P, Q output channels, rows, columns;
 * R, S filter rows, columns; D, M features in and out.
 */
#ifndef TERN_OPS_H
#define TERN_OPS_H

#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* ---- Views: no data move, unless noted ---- */

typedef struct tern_shape_opts { /* for reshape, expand, fill, adjoints */
    int64_t rank;
    int64_t dim[TERN_RANK];
} tern_shape_opts;
typedef struct tern_axis_opts {
    int axis;
} tern_axis_opts;
typedef struct tern_permute_opts {
    int axes[TERN_RANK]; /* output axis i is input axis axes[i] */
} tern_permute_opts;
typedef struct tern_slice_opts {
    int axis;
    int64_t from, count, step; /* step 0 means 1 */
} tern_slice_opts;
typedef struct tern_pad_opts {
    int64_t before[TERN_RANK], after[TERN_RANK]; /* elements added per axis, >= 0 */
    double value;
} tern_pad_opts;
typedef struct tern_cast_opts {
    int type;
} tern_cast_opts;
typedef struct tern_round_to_opts {
    int to; /* tern_math_t */
} tern_round_to_opts;
typedef struct tern_copy_opts {
    int channels_last; /* 0: row-major */
} tern_copy_opts;

/* Same elements in row-major order; one extent may be -1. Copies where the strides demand it. */
TERN_API tern_tensor *tern_reshape(tern_ctx *ctx, tern_tensor *x, tern_shape shape);
/* Extents of 1 (and missing leading axes) repeat. Numpy's broadcast_to. */
TERN_API tern_tensor *tern_expand(tern_ctx *ctx, tern_tensor *x, tern_shape shape);
TERN_API tern_tensor *tern_permute(tern_ctx *ctx, tern_tensor *x, const tern_permute_opts *opts);
TERN_API tern_tensor *tern_transpose(tern_ctx *ctx, tern_tensor *x, int a, int b);
/* count elements of an axis: from, from+step, … */
TERN_API tern_tensor *tern_slice(tern_ctx *ctx, tern_tensor *x, const tern_slice_opts *opts);
/* x [N,...] -> [N, product of the rest], logical order (C,H,W). */
TERN_API tern_tensor *tern_flatten(tern_ctx *ctx, tern_tensor *x);
/* The same values in storage of their own, row-major or channels-last (axis 1 innermost). */
TERN_API tern_tensor *tern_copy(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_channels_last(tern_ctx *ctx, tern_tensor *x);
/* n >= 1 tensors that differ in one axis at most, put together (copies). */
TERN_API tern_tensor *tern_concat(tern_ctx *ctx, int n, tern_tensor *const *x, int axis);
/* Constant border (copies). */
TERN_API tern_tensor *tern_pad(tern_ctx *ctx, tern_tensor *x, const tern_pad_opts *opts);
/* Elements converted: floats round to nearest even; to integers truncates, saturates, NaN is 0;
 * to bool x != 0. Differentiable between f32 and f64 (and storage floats). */
TERN_API tern_tensor *tern_cast(tern_ctx *ctx, tern_tensor *x, tern_type type);
/* Elements rounded to nearest even to the numbers of tf32, bf16 or f16, in x's own type (f32, f64):
 * what a math mode does to the operands of products. Too large for the format: infinite. */
TERN_API tern_tensor *tern_round_to(tern_ctx *ctx, tern_tensor *x, tern_math_t to);

/* ---- Elementwise ---- */

TERN_API tern_tensor *tern_add(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_sub(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_mul(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_div(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
/* a to the power b, elementwise. The derivative in b is 0 where a is 0 and b >= 0. */
TERN_API tern_tensor *tern_power(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
/* NaN if either is. Derivative: to the larger; ties share it equally. */
TERN_API tern_tensor *tern_maximum(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_minimum(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
/* Comparisons give bool. */
TERN_API tern_tensor *tern_eq(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_ne(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_lt(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_le(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_gt(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
TERN_API tern_tensor *tern_ge(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);
/* cond (bool) ? a : b; all three broadcast. */
TERN_API tern_tensor *tern_where(tern_ctx *ctx, tern_tensor *cond, tern_tensor *a, tern_tensor *b);

typedef struct tern_scalar_opts {
    double value;
} tern_scalar_opts;
TERN_API tern_tensor *tern_scale(tern_ctx *ctx, tern_tensor *x, double by); /* x · by */
TERN_API tern_tensor *tern_shift(tern_ctx *ctx, tern_tensor *x, double by); /* x + by */
TERN_API tern_tensor *tern_pow(tern_ctx *ctx, tern_tensor *x, double exponent);
typedef struct tern_clamp_opts {
    int has_min, has_max;
    double min, max;
} tern_clamp_opts;
/* NaN stays. Derivative 1 inside and on the limits, 0 outside. Fails if min > max. */
TERN_API tern_tensor *tern_clamp(tern_ctx *ctx, tern_tensor *x, const tern_clamp_opts *opts);

TERN_API tern_tensor *tern_neg(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_abs(tern_ctx *ctx, tern_tensor *x);  /* derivative 0 at 0 */
TERN_API tern_tensor *tern_sign(tern_ctx *ctx, tern_tensor *x); /* -1, 0, 1; NaN stays */
TERN_API tern_tensor *tern_exp(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_log(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_sqrt(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_rsqrt(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_erf(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_tanh(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_sigmoid(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_is_finite(tern_ctx *ctx, tern_tensor *x); /* bool */

/* ---- Activations ---- */

typedef struct tern_slope_opts {
    int has_slope;
    double slope; /* for x < 0. leaky_relu: 0.01; elu: 1 */
} tern_slope_opts;
typedef struct tern_gelu_opts {
    int tanh; /* 1: 0.5x(1 + tanh(sqrt(2/pi)(x + 0.044715x^3))); 0: x·Phi(x) exactly */
} tern_gelu_opts;
TERN_API tern_tensor *tern_relu(tern_ctx *ctx, tern_tensor *x); /* NaN stays; derivative 0 at 0 */
TERN_API tern_tensor *tern_leaky_relu(tern_ctx *ctx, tern_tensor *x, const tern_slope_opts *opts);
TERN_API tern_tensor *tern_elu(tern_ctx *ctx, tern_tensor *x, const tern_slope_opts *opts);
/* -inf gives -0. */
TERN_API tern_tensor *tern_gelu(tern_ctx *ctx, tern_tensor *x, const tern_gelu_opts *opts);

/* ---- Reductions ---- */

typedef struct tern_reduce_opts {
    int64_t axes;   /* mask; 0 means all */
    int keep;       /* 1: reduced axes stay with extent 1 */
    int correction; /* var only: divide by n - correction; 0 means 0 */
} tern_reduce_opts;
TERN_API tern_tensor *tern_sum(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts);
TERN_API tern_tensor *tern_mean(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts);
/* Fail if nothing is reduced over an empty range. NaN wins, and makes the derivative NaN. Ties
 * share it equally. */
TERN_API tern_tensor *tern_max(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts);
TERN_API tern_tensor *tern_min(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts);
TERN_API tern_tensor *tern_variance(tern_ctx *ctx, tern_tensor *x, const tern_reduce_opts *opts);
typedef struct tern_arg_opts {
    int has_axis; /* 0: over all elements, as if flat */
    int axis, keep;
} tern_arg_opts;
/* i64 index of the first largest (smallest) one along an axis; the first NaN wins. */
TERN_API tern_tensor *tern_argmax(tern_ctx *ctx, tern_tensor *x, const tern_arg_opts *opts);
TERN_API tern_tensor *tern_argmin(tern_ctx *ctx, tern_tensor *x, const tern_arg_opts *opts);

/* ---- Products ---- */

/* a [...,M,K] b [...,K,N] -> [...,M,N]; the leading axes broadcast. Both have rank >= 2. */
TERN_API tern_tensor *tern_matmul(tern_ctx *ctx, tern_tensor *a, tern_tensor *b);

/* Activation of a fused op. */
typedef enum { TERN_ACT_NONE, TERN_RELU, TERN_TANH, TERN_SIGMOID } tern_act;
typedef struct tern_linear_opts {
    int act; /* tern_act */
} tern_linear_opts;
/* act(x w' + b): x [...,D], w [M,D], b [M] or NULL -> [...,M]. */
TERN_API tern_tensor *tern_linear_act(tern_ctx *ctx, tern_tensor *x, tern_tensor *w, tern_tensor *b,
                                      const tern_linear_opts *opts);

/* ---- Indexing; indices are i64 or i32, and out of range is TERN_E_VALUE ---- */

/* x and index of one rank; y[i,j,k] = x[i, index[i,j,k], k] for axis 1; shaped like index. */
TERN_API tern_tensor *tern_gather(tern_ctx *ctx, tern_tensor *x, tern_tensor *index,
                                  const tern_axis_opts *opts);
typedef struct tern_scatter_opts {
    int axis;
    int64_t count; /* extent of that axis in the result */
} tern_scatter_opts;
/* The adjoint of gather: zeros, plus g at the indices (equal indices add up, in order). */
TERN_API tern_tensor *tern_scatter_add(tern_ctx *ctx, tern_tensor *g, tern_tensor *index,
                                       const tern_scatter_opts *opts);
/* Rows of a table: x [V,...], index [...] -> [index..., ...]. (Embedding.) */
TERN_API tern_tensor *tern_take(tern_ctx *ctx, tern_tensor *x, tern_tensor *index);
/* The adjoint of take: g [index..., ...] -> [count, ...]. */
TERN_API tern_tensor *tern_take_add(tern_ctx *ctx, tern_tensor *g, tern_tensor *index,
                                    int64_t count);
typedef struct tern_one_hot_opts {
    int64_t classes;
    int type;       /* f32 or f64 */
    int has_ignore; /* index `ignore` gives a row of zeros */
    int64_t ignore;
} tern_one_hot_opts;
/* index [...] -> [..., classes]. */
TERN_API tern_tensor *tern_one_hot(tern_ctx *ctx, tern_tensor *index,
                                   const tern_one_hot_opts *opts);

/* ---- Any operation by its name ---- */

typedef struct tern_op_field {
    const char *name, *type; /* "int", "i64", "f64" */
    int count;               /* values, at most: stride=2,1 */
    double otherwise;        /* the default */
    const char *names;       /* "none|relu|tanh": words that stand for 0, 1, 2; or NULL */
} tern_op_field;
typedef struct tern_op_info {
    const char *name;
    int n_in; /* -1: any number */
    const char *in[16];
    unsigned optional; /* mask of inputs that may be absent */
    int n_out;
    const char *out[8];
    unsigned differentiable; /* mask of outputs */
    int n_fields;
    tern_op_field field[24];
} tern_op_info;
/* The i-th operation, in alphabetical order; false past the last. */
TERN_API bool tern_op_at(int i, tern_op_info *info);
TERN_API bool tern_op_named(const char *name, tern_op_info *info);
/* options: "stride=2,1 pad=1,1", or NULL. in: n_in tensors, NULL where absent. out takes n_out
 * results; those that the call does not give are NULL. */
TERN_API TERN_CHECKED tern_status tern_apply(tern_ctx *ctx, const char *op, const char *options,
                                             int n_in, tern_tensor *const *in, tern_tensor **out);

TERN_END_DECLS

#include "tern/ops_net.h"
#include "tern/ops_rnn.h"

#endif
