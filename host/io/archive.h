/* archive.h - an archive from inside, and the checksum of its file. */
#ifndef TI_ARCHIVE_H
#define TI_ARCHIVE_H

#include "io/file.h"

enum { TI_MOST_ARRAYS = 65536 };

struct tern_archive {
    ti_object object;
    tern_array *array;
    int count, cap;
    char **text; /* key, value, key, … */
    int n_text, cap_text;
};

/* tern_archive_add for names that are known to be new. */
void *ti_archive_append(tern_ctx *ctx, tern_archive *archive, const char *name, tern_type type,
                        tern_shape shape);
tern_status ti_archive_meta_append(tern_ctx *ctx, tern_archive *archive, const char *key,
                                   const char *value);

/* A checksum that grows: XXH128, or CRC-32 in a build without xxHash. */
typedef struct {
    tern_hash *xxh; /* NULL: CRC-32 */
    unsigned long crc;
} ti_checksum;

enum { TI_CHECKSUM_TEXT = 48 }; /* "xxh128:" or "crc32:" and hexadecimal digits */

/* kind: a text that ti_checksum_text has written, to compute the same kind; NULL: the best one. */
tern_status ti_checksum_begin(tern_ctx *ctx, ti_checksum *sum, const char *kind, const char *path);
void ti_checksum_add(ti_checksum *sum, const void *data, size_t bytes);
void ti_checksum_end(tern_ctx *ctx, ti_checksum *sum, char text[TI_CHECKSUM_TEXT]);

#endif
