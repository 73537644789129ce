/* npy.h - NumPy's arrays, from and to bytes: .npy files are these, .npz files contain them. */
#ifndef TI_NPY_H
#define TI_NPY_H

#include "io/file.h"

typedef struct {
    tern_type type; /* in memory */
    char kind;      /* in the file: 'f', 'i', 'u', 'b' */
    int size;       /* of an element in the file */
    bool swap, fortran;
    tern_shape shape;
    size_t count, data_bytes; /* in the file */
    size_t header_bytes;      /* all that stands before the data */
} ti_npy;

enum { TI_NPY_HEAD = 12, TI_NPY_MOST_HEADER = 1 << 20 };

/* The length of all that stands before the data, from the first n (up to TI_NPY_HEAD) bytes. */
tern_status ti_npy_head(tern_ctx *ctx, size_t *bytes, const char *path, const uint8_t *head,
                        size_t n);
/* Reads that header; `all`: the size of the whole file, which must be header and data. */
tern_status ti_npy_header(tern_ctx *ctx, ti_npy *npy, const char *path, const char *header,
                          size_t bytes, uint64_t all);
/* Makes an array of the raw data (data_bytes), which it may turn around in place. *data: from
 * ti_alloc. */
tern_status ti_npy_elements(tern_ctx *ctx, void **data, const ti_npy *npy, const char *path,
                            void *raw);
/* The whole file as bytes from ti_alloc; NULL after a failure. */
char *ti_npy_bytes(tern_ctx *ctx, size_t *bytes, tern_type type, tern_shape shape,
                   const void *data);

#endif
