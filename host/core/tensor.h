/*
 * tensor.h - tensors, the storage under them, and kernels' views.
 *
 * A tensor is a shape on a storage, and a storage has bytes or, while a step is traced, only a
 * number: the value that it stands for in the program.
 */
#ifndef TI_TENSOR_H
#define TI_TENSOR_H

#include "core/context.h"
#include "core/pool.h"
#include "tern/tensor.h"

#define TI_SHAPE(...)                                                                              \
    ((tern_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#define TI_SCALAR ((tern_shape){0})

typedef struct ti_node ti_node;

/* How a tensor lies on its storage. Strides and offset count elements; an axis of extent 1 has
 * stride 0. All bytes are defined: metas are compared and hashed as bytes. */
typedef struct {
    tern_type type;
    tern_shape shape;
    int64_t stride[TERN_RANK], offset;
} ti_meta;

typedef struct {
    int refs; /* tensors, programs, and the variable that owns it */
    size_t bytes;
    char *data;      /* NULL: symbolic, made while tracing */
    ti_block *block; /* where data lies in the pool; NULL: the bytes are somebody else's */
    uint64_t plan;   /* number of the plan that knows it as `value` */
    int value;
    tern_var *owner; /* the block variable whose address this is */
    tern_ctx *ctx;
} ti_storage;

struct tern_tensor {
    int refs;
    int i_out; /* which output of node */
    ti_meta m;
    ti_storage *store;
    ti_node *node; /* history, or NULL */
};

/* A kernel's view of an operand: the only place with a raw pointer (to its first element). */
typedef struct {
    char *data;
    int64_t count; /* elements; -1: absent */
    bool packed;   /* row-major without gaps */
    ti_meta m;
} ti_view;

/* Storage of `bytes` from the device's pool; symbolic while tracing. NULL: failed. */
ti_storage *ti_storage_new(tern_ctx *ctx, size_t bytes);
/* Around bytes that stay somebody else's and outlive it. */
ti_storage *ti_storage_wrap(tern_ctx *ctx, void *data, size_t bytes);
void ti_storage_drop(ti_storage *s); /* NULL is legal */
/* Fails if t, which is not NULL, was made by another context. */
tern_status ti_own(tern_ctx *ctx, const char *who, const tern_tensor *t);

/* A tensor on s, owned by the innermost frame, with references of its own to s and node. NULL: no
 * s, or no memory. */
tern_tensor *ti_tensor(tern_ctx *ctx, const ti_meta *m, ti_storage *s, ti_node *node, int i_out);
/* A tensor around host bytes that outlive it (loaders). */
tern_tensor *ti_tensor_wrap(tern_ctx *ctx, const ti_meta *m, void *data);
/* Ends the frame; those of `keep` that were its own go to the next one out. Allocates nothing. */
void ti_frame_end(tern_ctx *ctx, int n_keep, tern_tensor *const *keep);

ti_meta ti_packed_meta(tern_type type, tern_shape s); /* row-major */
ti_meta ti_channels_last_meta(tern_type type,
                              tern_shape s); /* axis 1 innermost; rank < 3: packed */
/* Row-major of s with m's order of axes, if m lies without gaps and overlaps; else row-major. */
ti_meta ti_follow_meta(tern_type type, const ti_meta *m);
bool ti_is_packed(const ti_meta *m);
bool ti_is_channels_last(const ti_meta *m);
/* Some order of the axes is without gaps and overlaps: all elements in one run. */
bool ti_is_dense(const ti_meta *m);
bool ti_same_shape(const tern_shape *a, const tern_shape *b);
bool ti_same_meta(const ti_meta *a, const ti_meta *b); /* offset included */
size_t ti_bytes(const ti_meta *m);                     /* count · element size */

ti_view ti_view_at(const ti_meta *m, char *base); /* base NULL: no data */
/* Element i in logical row-major order, as a double. Slow; for reference rows and tests. */
double ti_get(const ti_view *v, int64_t i);
void ti_put(const ti_view *v, int64_t i, double x);
/* All elements, row-major order. */
void ti_get_all(const ti_view *v, double *x);
void ti_put_all(const ti_view *v, const double *x);
/* Byte copy between two views of one shape and type, any strides. */
void ti_copy_view(const ti_view *to, const ti_view *from);
/* One element at an address, rounded to nearest even into storage types. */
double ti_load(tern_type type, const void *at);
void ti_store(tern_type type, void *at, double x);

#endif
