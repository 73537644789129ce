/*
 * tern/grad.h - derivatives.
 *
 * Every operation applied to something tracked is recorded. Gradients are made of the same public
 * operations, so derivatives of any order exist.
 */
#ifndef TERN_GRAD_H
#define TERN_GRAD_H

#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* x as a tensor of its own that derivatives are taken for; x without history. */
TERN_API tern_tensor *tern_track(tern_ctx *ctx, tern_tensor *x);
TERN_API tern_tensor *tern_detach(tern_ctx *ctx, tern_tensor *x);
TERN_API bool tern_is_tracked(const tern_tensor *x);

/* Nothing is recorded between the two. They nest. */
TERN_API void tern_no_grad_begin(tern_ctx *ctx);
TERN_API void tern_no_grad_end(tern_ctx *ctx);

/*
 * d[i] = the total derivative of sum_j <y[j], gy[j]> in x[i], shaped like x[i]; zeros where it does
 * not depend on it. gy NULL: ones. Every x must be tracked (or a parameter read from its variable).
 * Consumes nothing and is itself recorded, for derivatives of higher order.
 */
TERN_API TERN_CHECKED tern_status tern_grads(tern_ctx *ctx, tern_tensor **d, int n_y,
                                             tern_tensor *const *y, tern_tensor *const *gy, int n_x,
                                             tern_tensor *const *x);

/*
 * Adds the gradient of a scalar loss to the pending gradients of a block's parameters (NULL: of
 * all blocks that were read), and consumes the record between them: a second walk over it fails.
 * tern_backward (nn.h) says it for a module.
 */
TERN_API TERN_CHECKED tern_status tern_backward_block(tern_ctx *ctx, tern_tensor *loss,
                                                      tern_var *block);
/* The same for those parameters of one block that lie in elements from … from+count: a part of a
 * net. */
TERN_API TERN_CHECKED tern_status tern_backward_range(tern_ctx *ctx, tern_tensor *loss,
                                                      tern_var *block, int64_t from, int64_t count);

/* The pending gradient of a parameter, or NULL (no failure) if there is none. */
TERN_API tern_tensor *tern_grad_of(tern_ctx *ctx, tern_var *param);
/* The pending gradients of block elements from … from+count, zeros where there are none. */
TERN_API tern_tensor *tern_block_grads(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count);
/* Whether any parameter in the range has one. */
TERN_API bool tern_block_has_grads(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count);
/* Drops those of the parameters that lie in the range. */
TERN_API void tern_block_grads_clear(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count);

TERN_END_DECLS

#endif
