/*
 * tern/io.h - files: archives, arrays, images, configurations, hashes.
 *
 * Rules that hold for every function here:
 *
 *  - Reading.  Everything is checked against the bytes that exist before memory is taken; what is
 *              not understood is refused. Texts name the file, the field and the number.
 *  - Writing.  Aside, in the same folder, then fsync, rename, fsync of the folder: come what may,
 *              there is the old file or the new one, whole. Devices and pipes are written directly.
 *  - Host arrays are row-major in logical order, numbers in the machine's byte order.
 */
#ifndef TERN_IO_H
#define TERN_IO_H

#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* ---- whole files ---------------------------------------------------------------------------- */

/* The bytes of a regular file or a pipe, followed by a 0 that does not count; NULL after a failure,
 * also if there are more than `most` (0: 2 GiB). Free it with tern_free. */
TERN_API void *tern_file_read(tern_ctx *ctx, size_t *bytes, const char *path, size_t most);
TERN_API TERN_CHECKED tern_status tern_file_write(tern_ctx *ctx, const char *path, const void *data,
                                                  size_t bytes);

/* The same piece by piece. Commit and abandon both end the writer; a commit that fails leaves the
 * old file. */
typedef struct tern_writer tern_writer;
TERN_API tern_writer *tern_writer_open(tern_ctx *ctx, const char *path);
TERN_API TERN_CHECKED tern_status tern_writer_put(tern_ctx *ctx, tern_writer *w, const void *data,
                                                  size_t bytes);
TERN_API TERN_CHECKED tern_status tern_writer_commit(tern_ctx *ctx, tern_writer *w);
TERN_API void tern_writer_abandon(tern_ctx *ctx, tern_writer *w); /* NULL is legal */

/* Removes what killed writers left in a folder (NAME.PID-N.tern-tmp, which no living writer has
 * locked). Gives their number; a folder that cannot be read has none. */
TERN_API int tern_files_clean(tern_ctx *ctx, const char *folder);

/* ---- archives: named arrays and texts ------------------------------------------------------- */

/* An array as it lies in a file or is to lie in one; data is row-major, bytes = count * size. */
typedef struct tern_array {
    const char *name; /* "" where the format has none */
    tern_type type;
    tern_shape shape;
    void *data;
    size_t bytes;
} tern_array;

typedef struct tern_archive tern_archive;

TERN_API tern_archive *tern_archive_new(tern_ctx *ctx);
/* Whether this build reads and writes safetensors (it needs Jansson). */
TERN_API bool tern_archive_supported(void);
TERN_API void tern_archive_close(tern_ctx *ctx, tern_archive *archive); /* NULL is legal */
/* Adds an array and gives its memory: a copy of data, or zeros to be filled in (data NULL). NULL
 * after a failure, also for a name that is taken. */
TERN_API void *tern_archive_add(tern_ctx *ctx, tern_archive *archive, const char *name,
                                tern_type type, tern_shape shape, const void *data);
TERN_API int tern_archive_count(const tern_archive *archive);
/* In the order of addition, or of the file. NULL: no such index or name. */
TERN_API const tern_array *tern_archive_at(const tern_archive *archive, int i);
TERN_API const tern_array *tern_archive_get(const tern_archive *archive, const char *name);
/* Texts. Keys that begin with "tern." are the library's own. NULL: there is none. */
TERN_API TERN_CHECKED tern_status tern_archive_meta_set(tern_ctx *ctx, tern_archive *archive,
                                                        const char *key, const char *value);
TERN_API const char *tern_archive_meta(const tern_archive *archive, const char *key);
TERN_API int tern_archive_meta_count(const tern_archive *archive);
TERN_API const char *tern_archive_meta_at(const tern_archive *archive, int i, const char **value);

/*
 * safetensors. A file that was saved here carries a checksum over header and data, which reading
 * demands; files of others have none and load. Reading refuses overlaps, holes, bytes after the
 * end, duplicate keys, headers over 100 MB, unknown types, more than 65536 arrays. Without Jansson:
 * TERN_E_UNSUPPORTED.
 */
TERN_API tern_archive *tern_archive_read(tern_ctx *ctx, const char *path);
TERN_API TERN_CHECKED tern_status tern_archive_save(tern_ctx *ctx, const tern_archive *archive,
                                                    const char *path);

/* ---- arrays of other programs --------------------------------------------------------------- */

/* NumPy's .npy, versions 1 to 3. The array's data are freed with tern_free. Reading takes both byte
 * orders and both element orders; i8, i16, u16 and u32 widen to i32 or i64. bf16, which the format
 * lacks, is written as f32. */
TERN_API TERN_CHECKED tern_status tern_npy_read(tern_ctx *ctx, tern_array *array, const char *path);
TERN_API TERN_CHECKED tern_status tern_npy_write(tern_ctx *ctx, const char *path, tern_type type,
                                                 tern_shape shape, const void *data);
/* The same with tensors. */
TERN_API tern_tensor *tern_npy_load(tern_ctx *ctx, const char *path);
TERN_API TERN_CHECKED tern_status tern_npy_save(tern_ctx *ctx, const char *path, tern_tensor *t);
/* .npz: an archive without texts. Without libzip: TERN_E_UNSUPPORTED. */
TERN_API tern_archive *tern_npz_read(tern_ctx *ctx, const char *path);
TERN_API TERN_CHECKED tern_status tern_npz_write(tern_ctx *ctx, const tern_archive *archive,
                                                 const char *path);

/* IDX, gzipped or not: u8, i32, f32, f64; i8 and i16 widen to i32. */
TERN_API TERN_CHECKED tern_status tern_idx_read(tern_ctx *ctx, tern_array *array, const char *path);

/* ---- images --------------------------------------------------------------------------------- */

/* [H][W][C] bytes; C is 1 (grey) or 3 (red, green, blue). */
typedef struct tern_image {
    int64_t height, width, channels;
    uint8_t *pixels; /* freed with tern_free */
} tern_image;

/* PNG or JPEG, told apart by their first bytes. channels 0: grey for grey files, else colour.
 * Transparency lies on black; 16 bits are rounded to 8. At most 64 million pixels. */
TERN_API TERN_CHECKED tern_status tern_image_read(tern_ctx *ctx, tern_image *image,
                                                  const char *path, int channels);
TERN_API TERN_CHECKED tern_status tern_png_write(tern_ctx *ctx, const char *path,
                                                 const tern_image *image);
/*
 * Each output pixel is the mean of the input under it (areas weighted, so shrinking does not
 * alias); along an axis that grows, linear between the centres of pixels, edges repeated. Integer
 * arithmetic: the same bytes everywhere.
 */
TERN_API TERN_CHECKED tern_status tern_image_resize(tern_ctx *ctx, tern_image *out,
                                                    const tern_image *in, int64_t height,
                                                    int64_t width);

/* ---- configurations ------------------------------------------------------------------------- */

/*
 * A file of sections in order, each "[name]" followed by lines "key=value"; '#' begins a comment at
 * the start of a line or after a space; sections may repeat, keys within a section may not. Names
 * and keys are letters, digits, '_', '-', '.'. At most 1 MiB, 4096 sections, lines of 4096 bytes.
 */
typedef struct tern_config tern_config;
typedef struct tern_config_entry {
    const char *key, *value; /* without the spaces around them */
    int line;
} tern_config_entry;
typedef struct tern_config_section {
    const char *name;
    int line, count;
    const tern_config_entry *entry;
} tern_config_section;

TERN_API tern_config *tern_config_read(tern_ctx *ctx, const char *path);
/* The same from memory; `file` is what messages call it. */
TERN_API tern_config *tern_config_parse(tern_ctx *ctx, const char *file, const char *text,
                                        size_t bytes);
TERN_API void tern_config_close(tern_ctx *ctx, tern_config *config); /* NULL is legal */
TERN_API const char *tern_config_file(const tern_config *config);
TERN_API int tern_config_count(const tern_config *config);
TERN_API const tern_config_section *tern_config_at(const tern_config *config, int i);
/* The entry with this key, or NULL. */
TERN_API const tern_config_entry *tern_config_find(const tern_config_section *section,
                                                   const char *key);

/* ---- hashes --------------------------------------------------------------------------------- */

/* XXH128 of all that was added, as `xxhsum -H2` prints it. The text is NULL in a build without
 * xxHash. */
typedef struct tern_hash tern_hash;
TERN_API tern_hash *tern_hash_open(tern_ctx *ctx);
TERN_API void tern_hash_add(tern_hash *hash, const void *data, size_t bytes);
TERN_API const char *tern_hash_text(tern_hash *hash);
TERN_API void tern_hash_close(tern_ctx *ctx, tern_hash *hash); /* NULL is legal */

TERN_END_DECLS

#endif
