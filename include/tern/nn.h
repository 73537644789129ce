/*
 * tern/nn.h - modules: layers with named parameters, and trees of them.
 *
 *  - Trees.     A module enters one parent, once. The first call that needs values (forward,
 *               optimizer, load, save) finishes the whole tree: names become paths, the parameters
 *               lie side by side in one block, in the order of the layers, and initial values are
 *               drawn as functions of (seed, path, element). A finished module enters no other
 *               tree. Finishing fails while a step is traced; after a failure it may be tried
 * again.
 *  - Names.     "conv1", "conv2", "fc1": the kind and its number among its siblings, unless
 *               tern_module_name said otherwise. Paths join them: "block1.conv2.weight".
 *               Parameters and buffers have PyTorch's words: weight, bias, running_mean,
 * running_var.
 *               A name given to a root is no part of paths, but of what its random numbers are
 * drawn from: two nets of one shape start alike unless one of them is named.
 *  - Mode.      Batch norm and dropout look at tern_mode. Their statistics and counters are
 * buffers.
 *  - Layout.    Filters are K,C,R,S and matrices M,D, row-major in the block.
 */
#ifndef TERN_NN_H
#define TERN_NN_H

#include "tern/ops.h"
#include "tern/program.h"

TERN_BEGIN_DECLS

/* ---- Initial values ---- */

typedef enum {
    TERN_INIT_DEFAULT,        /* what the layer says: see there        */
    TERN_INIT_CONSTANT,       /* a                                    */
    TERN_INIT_UNIFORM,        /* in [a, b); both 0: [0, 1)            */
    TERN_INIT_NORMAL,         /* mean a, deviation b; both 0: 0 and 1 */
    TERN_INIT_XAVIER_UNIFORM, /* Glorot and Bengio 2010: variance gain^2 * 2 / (fan_in + fan_out) */
    TERN_INIT_XAVIER_NORMAL,
    TERN_INIT_HE_UNIFORM, /* He et al. 2015: variance gain^2 / fan_in */
    TERN_INIT_HE_NORMAL,
    TERN_INIT_ORTHOGONAL /* Saxe et al. 2014: rows (or columns, the fewer) orthogonal, norm gain */
} tern_init_kind;
typedef struct tern_init {
    int kind; /* tern_init_kind */
    double a, b;
    double gain;         /* 0: sqrt(2) for He, 1 for the others                       */
    int fan_out;         /* He only: 1 divides by fan_out instead of fan_in           */
    int64_t from, count; /* along axis 0: these start with `value`; count 0: none  */
    double value;
} tern_init;
/*
 * Initial values as a tensor: a function of (seed, name, element). fan_in is the product of all
 * extents but the first, fan_out the first times those after the second. TERN_INIT_DEFAULT is
 * uniform within 1/sqrt(fan_in). TERN_E_SHAPE if a fan or orthogonality is asked of rank < 2.
 */
TERN_API tern_tensor *tern_init_draw(tern_ctx *ctx, const char *name, tern_type type,
                                     tern_shape shape, const tern_init *init);
/* The initialiser with this name ("he_normal", "xavier_uniform", "orthogonal", …), or -1. */
TERN_API int tern_init_named(const char *name);

/* ---- Layers. NULL options: all defaults ---- */

typedef struct tern_nn_linear_opts {
    int act;                /* tern_act, applied to the result */
    int no_bias;            /* 1: no bias */
    tern_init weight, bias; /* default: both uniform within 1/sqrt(D), as PyTorch draws them */
} tern_nn_linear_opts;
/* [...,D] -> [...,M]; weight [M,D], bias [M]. */
TERN_API tern_module *tern_nn_linear(tern_ctx *ctx, int64_t d, int64_t m,
                                     const tern_nn_linear_opts *opts);

typedef struct tern_nn_conv2d_opts {
    int kernel[2];                              /* required: rows, columns; {3} means {3, 3} */
    int stride[2], pad[2], dilation[2], groups; /* as in tern_conv2d: no shorthand */
    int act, no_bias;                           /* as for linear */
    tern_init weight, bias; /* default: both uniform within 1/sqrt(C/groups * R * S) */
} tern_nn_conv2d_opts;
/* [N,C,H,W] -> [N,K,P,Q]; weight [K,C/groups,R,S], bias [K]. */
TERN_API tern_module *tern_nn_conv2d(tern_ctx *ctx, int64_t c, int64_t k,
                                     const tern_nn_conv2d_opts *opts);

/* size > 0 is the window's rows and columns and stands for opts->size; 0: opts->size counts. */
TERN_API tern_module *tern_nn_maxpool2d(tern_ctx *ctx, int size, const tern_pool2d_opts *opts);
TERN_API tern_module *tern_nn_avgpool2d(tern_ctx *ctx, int size, const tern_pool2d_opts *opts);
/* The mean over rows and columns: [N,C,H,W] -> [N,C]. */
TERN_API tern_module *tern_nn_global_avgpool(tern_ctx *ctx);

/* Over all axes but 1 of [N,C], [N,C,L], [N,C,H,W], …; weight (1) and bias (0) [C]. In training
 * the running statistics move with every call, two calls in a step move them twice. */
TERN_API tern_module *tern_nn_batch_norm(tern_ctx *ctx, int64_t c,
                                         const tern_batch_norm_opts *opts);
typedef struct tern_nn_layer_norm_opts {
    int has_eps;
    double eps;    /* 1e-5 */
    int no_affine; /* 1: neither weight nor bias */
} tern_nn_layer_norm_opts;
/* Over the trailing axes, which have these extents; weight (1) and bias (0) are shaped like them.
 */
TERN_API tern_module *tern_nn_layer_norm(tern_ctx *ctx, tern_shape shape,
                                         const tern_nn_layer_norm_opts *opts);

TERN_API tern_module *tern_nn_relu(tern_ctx *ctx);
TERN_API tern_module *tern_nn_leaky_relu(tern_ctx *ctx, const tern_slope_opts *opts);
TERN_API tern_module *tern_nn_elu(tern_ctx *ctx, const tern_slope_opts *opts);
TERN_API tern_module *tern_nn_sigmoid(tern_ctx *ctx);
TERN_API tern_module *tern_nn_tanh(tern_ctx *ctx);
TERN_API tern_module *tern_nn_gelu(tern_ctx *ctx, const tern_gelu_opts *opts);

/* In training zeroes elements with probability p, 0 <= p < 1, and scales the others by 1/(1-p).
 * The mask is a function of (seed, path, calls so far, element). */
TERN_API tern_module *tern_nn_dropout(tern_ctx *ctx, double p);
/* Another p for a dropout module, or for all of those in a tree; programs trace again. */
TERN_API TERN_CHECKED tern_status tern_nn_set_dropout(tern_ctx *ctx, tern_module *m, double p);
/* [N,...] -> [N, product of the rest], logical order (C,H,W). */
TERN_API tern_module *tern_nn_flatten(tern_ctx *ctx);

/* One after the other. The list ends with NULL and holds at least one module. */
TERN_API tern_module *tern_sequential(tern_ctx *ctx, tern_module *const *parts);
typedef struct tern_nn_residual_opts {
    tern_module *shortcut; /* NULL: the input itself */
    int act;               /* applied to the sum */
} tern_nn_residual_opts;
/* act(parts one after the other(x) + shortcut(x)); the shortcut's name is "shortcut". */
TERN_API tern_module *tern_nn_residual(tern_ctx *ctx, tern_module *const *parts,
                                       const tern_nn_residual_opts *opts);
/* The sum of what the parts make of the same x. */
TERN_API tern_module *tern_nn_sum(tern_ctx *ctx, tern_module *const *parts);

/* ---- Modules of one's own: what the layers above are made with ---- */

typedef tern_tensor *(*tern_module_fn)(tern_ctx *ctx, tern_module *m, tern_tensor *x);
/* A module of a kind ("conv"; letters, digits, _), with a copy of `bytes` bytes at `state`. */
TERN_API tern_module *tern_module_new(tern_ctx *ctx, const char *kind, tern_module_fn forward,
                                      const void *state, size_t bytes);
/* Its copy of the state. Who changes it calls tern_structure_changed. */
TERN_API void *tern_module_state(tern_module *m);
/* Another parameter or buffer, before the tree is finished. init NULL: TERN_INIT_DEFAULT for
 * parameters, zeros for buffers. Parameters and f32 buffers have the tree's type. */
TERN_API TERN_CHECKED tern_status tern_module_param(tern_module *m, const char *name,
                                                    tern_shape shape, const tern_init *init);
TERN_API TERN_CHECKED tern_status tern_module_buffer(tern_module *m, const char *name,
                                                     tern_type type, tern_shape shape,
                                                     const tern_init *init);
/* Makes child a part of m; its forward is called by m's. A NULL child of a clean context fails. */
TERN_API TERN_CHECKED tern_status tern_module_add(tern_module *m, tern_module *child);
/* An explicit name: letters, digits, _ and -; siblings differ. Before the tree is finished.
 * Returns m, so that it can be written around a layer. */
TERN_API tern_module *tern_module_name(tern_module *m, const char *name);
/* How tern_summary describes it ("conv 3×3, relu"), and the FLOPs of one call (2 per multiply-add);
 * without it 0. Optional. */
TERN_API TERN_CHECKED tern_status tern_module_describe(tern_module *m, const char *text);
typedef int64_t (*tern_flops_fn)(const tern_module *m, tern_shape x, tern_shape y);
TERN_API void tern_module_flops(tern_module *m, tern_flops_fn flops);
/* f64 instead of f32 parameters for a whole tree, before it is finished. */
TERN_API TERN_CHECKED tern_status tern_module_type(tern_module *root, tern_type type);

TERN_API const char *tern_module_kind(const tern_module *m);
TERN_API const char *tern_module_text(const tern_module *m); /* of tern_module_describe, or kind */
/* "block1.conv2"; "" for a root and before the tree is finished. */
TERN_API const char *tern_module_path(const tern_module *m);
/* Purpose for a module's random operations: a function of its path (and its root's name). */
TERN_API int64_t tern_module_purpose(const tern_module *m);
TERN_API tern_module *tern_module_root(tern_module *m);
TERN_API tern_module *tern_module_child(const tern_module *m, int i); /* NULL past the last */
/* Finishes the tree, if it is not. */
TERN_API TERN_CHECKED tern_status tern_module_finish(tern_ctx *ctx, tern_module *m);

/* ---- Values ---- */

/* One call of a module, in a frame and a scope of its own. */
TERN_API tern_tensor *tern_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x);
/* Adds the gradients of a scalar loss to the pending ones of m's parameters (NULL: of all that were
 * read), and consumes the record between them and the loss. */
TERN_API TERN_CHECKED tern_status tern_backward(tern_ctx *ctx, tern_tensor *loss, tern_module *m);
/* Drops the pending gradients of m's parameters. */
TERN_API void tern_grads_clear(tern_ctx *ctx, tern_module *m);

/*
 * The variables below finish the tree first, and stand in a fixed order: that of the layers, depth
 * first, own ones before those of parts.
 * tern_module_var: by its path below m ("conv1.weight"); fails if there is none.
 * tern_param_at, tern_buffer_at: the i-th below m, NULL past the last.
 */
TERN_API tern_var *tern_module_var(tern_ctx *ctx, tern_module *m, const char *path);
TERN_API tern_var *tern_param_at(tern_ctx *ctx, tern_module *m, int i);
TERN_API tern_var *tern_buffer_at(tern_ctx *ctx, tern_module *m, int i);
/* The block of the tree's parameters (NULL if it has none), and the range of it that is m's. */
TERN_API tern_var *tern_module_block(tern_ctx *ctx, tern_module *m);
TERN_API TERN_CHECKED tern_status tern_module_range(tern_ctx *ctx, tern_module *m, int64_t *from,
                                                    int64_t *count);
/* How many parameters m has, in elements. Needs no finished tree; -1 for NULL. */
TERN_API int64_t tern_module_size(const tern_module *m);

/* ---- Summaries: from shapes alone; nothing is computed, no activation is stored ---- */

typedef struct tern_summary_row {
    const char *name; /* path                                        */
    const char *kind; /* "conv"                                      */
    const char *text; /* "conv 3×3, relu"                            */
    tern_shape out;   /* of the whole batch                          */
    int64_t params;
    int64_t flops; /* of one image, forward; 2 per multiply-add */
} tern_summary_row;
/* The calls of a forward pass over x, in order: of modules without parts, and of those that have
 * parameters or FLOPs of their own. */
typedef struct tern_summary_table {
    int n;
    const tern_summary_row *row;
    tern_shape x, out;
    int64_t params, buffers; /* elements of the whole net, each counted once */
    int64_t flops;           /* of one image */
} tern_summary_table;
/* Belongs to the module, until the next call for the same shape. */
TERN_API const tern_summary_table *tern_summary_rows(tern_ctx *ctx, tern_module *net, tern_shape x);
/* The same as text: #, name, kind, output, params, MFLOP/image, and totals. "" after a failure. */
TERN_API const char *tern_summary(tern_ctx *ctx, tern_module *net, tern_shape x);

/* Bytes that training and inference on such batches take. */
typedef struct tern_memory_plan {
    size_t weights, buffers, gradients, optimizer; /* optimizer: 0 without one             */
    size_t train;  /* peak of a training step's arena; with an optimizer, gradients lie in it */
    size_t infer;  /* the same of a forward pass           */
    size_t inputs; /* one batch: images and labels         */
    size_t train_total, infer_total; /* sums of what each of them needs      */
    size_t needed;                   /* train_total and the next batch, which is made meanwhile */
    int again;                       /* calls of a step that run twice to keep within `memory`  */
} tern_memory_plan;
/* Plans a step of training (cross-entropy over i64 labels for outputs [N,K], else the sum) and one
 * of evaluation. opt may be NULL. */
TERN_API TERN_CHECKED tern_status tern_plan_memory(tern_ctx *ctx, tern_memory_plan *plan,
                                                   tern_module *net, tern_optim *opt, tern_shape x);
/* The same for steps that keep within `memory` bytes in all (0: no limit) where they can, as
 * tern_program_limit says: if they cannot, needed is more than that. */
TERN_API TERN_CHECKED tern_status tern_plan_memory_within(tern_ctx *ctx, tern_memory_plan *plan,
                                                          tern_module *net, tern_optim *opt,
                                                          tern_shape x, size_t memory);
/* The largest batch of 1 … `most` images like x (whose first extent does not matter) for which that
 * plan needs no more than `memory` bytes; 0: not even one image does, or a failure. adapts: steps
 * may be changed to keep within it; else as they are. */
TERN_API int64_t tern_largest_batch(tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_shape x,
                                    size_t memory, bool adapts, int64_t most);
/* The program of that training step, planned for the batch x with an arena of at most `arena` bytes
 * (0: as it needs). NULL and an error. */
TERN_API tern_program *tern_plan_step(tern_ctx *ctx, tern_module *net, tern_optim *opt,
                                      tern_shape x, size_t arena);

TERN_END_DECLS

#include "tern/nn_rnn.h"

#endif
