/*
 * file.h - what the file formats share: a checked reader, errors that name the file.
 *
 * A file is a regular one, read in place, or a pipe, which is read into memory first.
 */
#ifndef TI_FILE_H
#define TI_FILE_H

#include "core/object.h"
#include "tern/io.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the file formats are written for little-endian machines"
#endif

typedef struct {
    const char *path; /* borrowed */
    int fd;           /* -1: the bytes are in memory */
    uint64_t size;    /* bytes that exist */
    char *memory;
} ti_file;

/* "PATH: what: reason of errno". */
tern_status ti_fail_errno(tern_ctx *ctx, const char *path, const char *what);

tern_status ti_file_open(tern_ctx *ctx, ti_file *file, const char *path);
/* Exactly `bytes` from there on. A file that has become shorter is TERN_E_IO. */
tern_status ti_file_at(tern_ctx *ctx, const ti_file *file, uint64_t from, void *to, size_t bytes);
void ti_file_close(tern_ctx *ctx, ti_file *file);

/* The bytes of count elements of a type; false if there are too many for an address space. */
bool ti_array_bytes(size_t *bytes, tern_type type, tern_shape shape);

#endif
