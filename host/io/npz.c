/* npz.c - NumPy's .npz: a zip file of .npy files. Written stored, not deflated, with a fixed date,
 * so that equal arrays are equal bytes. */
#include <string.h>

#include "io/archive.h"
#include "io/npy.h"

#ifndef TI_WITH_ZIP

tern_archive *tern_npz_read(tern_ctx *ctx, const char *path)
{
    if (ti_ready(ctx, path, "npz_read"))
        ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: .npz: built without libzip", path);
    return NULL;
}

tern_status tern_npz_write(tern_ctx *ctx, const tern_archive *a, const char *path)
{
    if (!ti_ready(ctx, a && path, "npz_write")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    return ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: .npz: built without libzip", path);
}

#else

#include <zip.h>

enum { RATIO = 1032 }; /* what deflate can do */

static tern_status fail_zip(tern_ctx *ctx, const char *path, const char *what, zip_error_t *error)
{
    return ti_fail(ctx, zip_error_code_zip(error) == ZIP_ER_MEMORY ? TERN_E_MEMORY : TERN_E_FORMAT,
                   "%.250s: %.80s: %.80s", path, what, zip_error_strerror(error));
}

/* ---- reading --------------------------------------------------------------------------------- */

static tern_status exactly(tern_ctx *ctx, zip_file_t *f, const char *where, void *to, size_t bytes)
{
    const zip_int64_t got = zip_fread(f, to, bytes);

    if (got == (zip_int64_t)bytes) return TERN_OK;
    if (got < 0) return fail_zip(ctx, where, "unpack", zip_file_get_error(f));
    return ti_fail(ctx, TERN_E_FORMAT, "%.300s: ends too early", where);
}

/* The header and elements of one entry; its sum is checked by reading to the end. */
static tern_status read_entry(tern_ctx *ctx, tern_archive *a, zip_file_t *f, const zip_stat_t *st,
                              const char *where, const char *name)
{
    uint8_t head[TI_NPY_HEAD] = {0}, one;
    const size_t n = st->size < TI_NPY_HEAD ? (size_t)st->size : TI_NPY_HEAD;
    char *header = NULL, *raw = NULL;
    void *data = NULL, *to;
    size_t bytes = 0;
    ti_npy npy;

    if (exactly(ctx, f, where, head, n) == TERN_OK &&
        ti_npy_head(ctx, &bytes, where, head, n) == TERN_OK) {
        if (bytes < n || bytes > st->size)
            ti_fail(ctx, TERN_E_FORMAT, "%.300s: header of %zu bytes in %llu bytes", where, bytes,
                    (unsigned long long)st->size);
        else if ((header = ti_alloc(ctx, bytes))) memcpy(header, head, n);
    }
    if (header && exactly(ctx, f, where, header + n, bytes - n) == TERN_OK &&
        ti_npy_header(ctx, &npy, where, header, bytes, st->size) == TERN_OK &&
        (raw = ti_alloc(ctx, npy.data_bytes)) &&
        exactly(ctx, f, where, raw, npy.data_bytes) == TERN_OK) {
        const zip_int64_t got = zip_fread(f, &one, 1);

        if (got < 0) fail_zip(ctx, where, "unpack", zip_file_get_error(f));
        else if (got > 0) ti_fail(ctx, TERN_E_FORMAT, "%.300s: is longer than it says", where);
        else if (ti_npy_elements(ctx, &data, &npy, where, raw) == TERN_OK &&
                 (to = ti_archive_append(ctx, a, name, npy.type, npy.shape)) && npy.count)
            memcpy(to, data, a->array[a->count - 1].bytes);
    }
    ti_free(ctx, header);
    ti_free(ctx, raw);
    ti_free(ctx, data);
    return tern_error(ctx);
}

static tern_status open_entry(tern_ctx *ctx, tern_archive *a, zip_t *zip, zip_int64_t i,
                              const char *path)
{
    const zip_uint64_t want = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE |
                              ZIP_STAT_ENCRYPTION_METHOD | ZIP_STAT_COMP_METHOD;
    char where[400], name[256];
    zip_file_t *f;
    zip_stat_t st;

    if (zip_stat_index(zip, (zip_uint64_t)i, 0, &st) != 0)
        return fail_zip(ctx, path, "an entry", zip_get_error(zip));
    const size_t length = (st.valid & want) == want ? strlen(st.name) : 0;

    if (length < 5 || length >= sizeof name || strcmp(st.name + length - 4, ".npy") != 0)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: entry %lld is not NAME.npy", path,
                       (long long)i);
    snprintf(name, sizeof name, "%.*s", (int)length - 4, st.name);
    snprintf(where, sizeof where, "%.250s: %.100s", path, st.name);
    if (st.encryption_method != ZIP_EM_NONE ||
        (st.comp_method != ZIP_CM_STORE && st.comp_method != ZIP_CM_DEFLATE))
        return ti_fail(ctx, TERN_E_FORMAT, "%s: is encrypted, or packed by method %d", where,
                       st.comp_method);
    if (st.size / RATIO > st.comp_size + 1)
        return ti_fail(ctx, TERN_E_FORMAT, "%s: promises %llu bytes in %llu packed ones", where,
                       (unsigned long long)st.size, (unsigned long long)st.comp_size);
    if (tern_archive_get(a, name)) return ti_fail(ctx, TERN_E_FORMAT, "%s: is there twice", where);
    if (!(f = zip_fopen_index(zip, (zip_uint64_t)i, 0)))
        return fail_zip(ctx, where, "open", zip_get_error(zip));
    (void)!read_entry(ctx, a, f, &st, where, name);
    zip_fclose(f);
    return tern_error(ctx);
}

tern_archive *tern_npz_read(tern_ctx *ctx, const char *path)
{
    tern_archive *a;
    zip_source_t *source = NULL;
    zip_error_t error;
    zip_t *zip = NULL;
    size_t bytes;
    void *data;

    if (!ti_ready(ctx, path, "npz_read") || !(data = tern_file_read(ctx, &bytes, path, 0)))
        return NULL;
    zip_error_init(&error);
    a = bytes ? tern_archive_new(ctx) : NULL;
    if (!bytes) /* libzip takes nothing for an archive of nothing */
        ti_fail(ctx, TERN_E_FORMAT, "%.300s: is empty: not a .npz file", path);
    if (a && (source = zip_source_buffer_create(data, bytes, 0, &error)))
        zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &error);
    if (a && !zip) {
        fail_zip(ctx, path, "not a .npz file", &error);
        zip_source_free(source);
    }
    const zip_int64_t n = zip ? zip_get_num_entries(zip, 0) : 0;

    if (n > TI_MOST_ARRAYS)
        ti_fail(ctx, TERN_E_FORMAT, "%.300s: %lld arrays; %d are the most", path, (long long)n,
                TI_MOST_ARRAYS);
    for (zip_int64_t i = 0; i < n && tern_error(ctx) == TERN_OK; i++)
        (void)!open_entry(ctx, a, zip, i, path);
    if (zip) zip_discard(zip);
    zip_error_fini(&error);
    ti_free(ctx, data);
    if (tern_error(ctx) == TERN_OK) return a;
    tern_archive_close(ctx, a);
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

static tern_status add_entry(tern_ctx *ctx, zip_t *zip, const tern_array *array, const char *path,
                             char **bytes)
{
    char name[264];
    zip_source_t *source;
    size_t n;

    if (strlen(array->name) > 250)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%.250s: name %.60s… is too long", path, array->name);
    snprintf(name, sizeof name, "%s.npy", array->name);
    if (!(*bytes = ti_npy_bytes(ctx, &n, array->type, array->shape, array->data)))
        return tern_error(ctx);
    if (!(source = zip_source_buffer(zip, *bytes, n, 0)))
        return fail_zip(ctx, path, name, zip_get_error(zip));
    const zip_int64_t i = zip_file_add(zip, name, source, ZIP_FL_ENC_UTF_8);

    if (i < 0) {
        fail_zip(ctx, path, name, zip_get_error(zip));
        zip_source_free(source);
        return tern_error(ctx);
    }
    if (zip_set_file_compression(zip, (zip_uint64_t)i, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(zip, (zip_uint64_t)i, 0, 1 << 5 | 1, 0) != 0) /* 1980-01-01 */
        return fail_zip(ctx, path, name, zip_get_error(zip));
    return TERN_OK;
}

/* The finished zip lies in `into`. */
static tern_status put_source(tern_ctx *ctx, zip_source_t *into, const char *path)
{
    zip_stat_t st;
    char *all = NULL;

    if (zip_source_stat(into, &st) != 0 || zip_source_open(into) != 0)
        return fail_zip(ctx, path, "finish", zip_source_error(into));
    if ((all = ti_alloc(ctx, st.size))) {
        if (zip_source_read(into, all, st.size) != (zip_int64_t)st.size)
            fail_zip(ctx, path, "finish", zip_source_error(into));
        else (void)!tern_file_write(ctx, path, all, st.size);
    }
    zip_source_close(into);
    ti_free(ctx, all);
    return tern_error(ctx);
}

tern_status tern_npz_write(tern_ctx *ctx, const tern_archive *a, const char *path)
{
    zip_source_t *into;
    zip_error_t error;
    char **bytes;
    zip_t *zip;

    if (!ti_ready(ctx, a && path, "npz_write")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (!a->count) { /* libzip would write no file at all */
        static const char nothing[22] = "PK\5\6";

        return tern_file_write(ctx, path, nothing, sizeof nothing);
    }
    if (!(bytes = ti_alloc(ctx, (size_t)a->count * sizeof *bytes))) return tern_error(ctx);
    zip_error_init(&error);
    into = zip_source_buffer_create(NULL, 0, 0, &error);
    zip = into ? zip_open_from_source(into, ZIP_TRUNCATE, &error) : NULL;
    if (!zip) fail_zip(ctx, path, "create", &error);
    else zip_source_keep(into);
    for (int i = 0; i < a->count && tern_error(ctx) == TERN_OK; i++)
        (void)!add_entry(ctx, zip, &a->array[i], path, &bytes[i]);
    if (zip && tern_error(ctx) == TERN_OK) {
        if (zip_close(zip) == 0) zip = NULL;
        else fail_zip(ctx, path, "finish", zip_get_error(zip));
    }
    if (zip) zip_discard(zip);
    else if (tern_error(ctx) == TERN_OK) (void)!put_source(ctx, into, path);
    zip_source_free(into);
    zip_error_fini(&error);
    for (int i = 0; i < a->count; i++) ti_free(ctx, bytes[i]);
    ti_free(ctx, bytes);
    return tern_error(ctx);
}

#endif
