/*
 * tern/tensor.h - tensors: types, shapes, host arrays.
 *
 * A tensor never changes. Shapes are logical; how a tensor lies in memory is its strides. Images
 * are N,C,H,W and lie channels-last; host arrays are row-major in logical order.
 */
#ifndef TERN_TENSOR_H
#define TERN_TENSOR_H

#include "tern/base.h"

TERN_BEGIN_DECLS

enum { TERN_RANK = 8 }; /* most axes of a tensor */

/* Element types. f32 and f64 compute; i64 and i32 count and index; the others are storage. */
typedef enum {
    TERN_F32,
    TERN_F64,
    TERN_F16,
    TERN_BF16,
    TERN_I64,
    TERN_I32,
    TERN_U8,
    TERN_BOOL,
    TERN_N_TYPES
} tern_type;

TERN_API const char *tern_type_name(tern_type type); /* "f32" */
TERN_API size_t tern_type_size(tern_type type);      /* bytes of an element */
/* The type with this name, or TERN_N_TYPES. */
TERN_API tern_type tern_type_named(const char *name);

/* rank 0 is a scalar: one element. Extents may be 0. */
typedef struct {
    int rank;
    int64_t dim[TERN_RANK];
} tern_shape;

/* Product of the extents; -1 if it does not fit 63 bits or an extent is negative. */
TERN_API int64_t tern_count(tern_shape shape);
TERN_API bool tern_same_shape(tern_shape a, tern_shape b);
/* "[2,3,4]" into text, which it returns. */
TERN_API const char *tern_shape_text(char text[160], tern_shape shape);

/* Shape, type, strides (elements; 0 for axes of extent 1), path of the device. NULL: rank 0, f32.
 */
TERN_API tern_shape tern_shape_of(const tern_tensor *t);
TERN_API tern_type tern_type_of(const tern_tensor *t);
TERN_API void tern_strides_of(const tern_tensor *t, int64_t stride[TERN_RANK]);
/* Whether the tensor lies row-major without gaps. */
TERN_API bool tern_is_packed(const tern_tensor *t);

/* A tensor with a copy of `x`, row-major elements of `type`. Fails while a step is traced. */
TERN_API tern_tensor *tern_from_host(tern_ctx *ctx, tern_type type, const void *x,
                                     tern_shape shape);
/* The same from doubles, rounded to `type`. */
TERN_API tern_tensor *tern_from_doubles(tern_ctx *ctx, tern_type type, const double *x,
                                        tern_shape shape);
/* Waits for t and copies its elements, row-major, in t's own type. x has room for all of them. */
TERN_API TERN_CHECKED tern_status tern_to_host(tern_ctx *ctx, void *x, tern_tensor *t);
TERN_API TERN_CHECKED tern_status tern_to_doubles(tern_ctx *ctx, double *x, tern_tensor *t);
/* The one element of t as a double; 0 after a failure. */
TERN_API double tern_item(tern_ctx *ctx, tern_tensor *t);

TERN_END_DECLS

#endif
