/*
 * idx.c - IDX files (the MNIST family), gzipped or not.
 *
 *   0, 0, type, rank; rank big-endian 32-bit extents; the elements, big-endian, row-major.
 *
 * A gzipped file says nothing reliable of its length, so memory for the elements is taken only if
 * deflate could have packed that many into it (1032 : 1 is its limit).
 */
#include <string.h>
#include <zlib.h>

#include "io/file.h"
#include "io/swap.h"

enum { RATIO = 1032, CHUNK = 1 << 16 };

/* The bytes of a file, unpacked if they are gzipped. */
typedef struct {
    tern_ctx *ctx;
    const char *path;
    const uint8_t *bytes;
    size_t n, at;
    bool packed, ended;
    z_stream z;
} source;

static tern_status broken(source *s)
{
    if (s->z.msg)
        return ti_fail(s->ctx, TERN_E_FORMAT, "%.300s: gzip, at byte %zu: %s", s->path, s->at,
                       s->z.msg);
    return ti_fail(s->ctx, TERN_E_FORMAT,
                   "%.300s: gzip: truncated: its %zu bytes end after %lu unpacked ones", s->path,
                   s->n, s->z.total_out);
}

static tern_status source_open(source *s)
{
    s->packed = s->n >= 2 && s->bytes[0] == 0x1f && s->bytes[1] == 0x8b;
    if (!s->packed) return TERN_OK;
    if (inflateInit2(&s->z, 16 + MAX_WBITS) != Z_OK) {
        s->packed = false;
        return ti_fail(s->ctx, TERN_E_MEMORY, "%.300s: no memory to unpack it", s->path);
    }
    return TERN_OK;
}

/* Up to `bytes` more; *got fewer only at the end. */
static tern_status source_read(source *s, void *to, size_t bytes, size_t *got)
{
    uint8_t *out = to;

    *got = 0;
    if (!s->packed) {
        *got = bytes < s->n - s->at ? bytes : s->n - s->at;
        if (*got) memcpy(to, s->bytes + s->at, *got);
        s->at += *got;
        return TERN_OK;
    }
    while (*got < bytes && !s->ended) {
        const size_t in = s->n - s->at < CHUNK ? s->n - s->at : CHUNK;
        const size_t room = bytes - *got < CHUNK ? bytes - *got : CHUNK;

        s->z.next_in = (uint8_t *)s->bytes + s->at; /* zlib's pointers lack const */
        s->z.avail_in = (unsigned)in;
        s->z.next_out = out + *got;
        s->z.avail_out = (unsigned)room;
        const int rc = inflate(&s->z, Z_NO_FLUSH);

        s->at += in - s->z.avail_in;
        *got += room - s->z.avail_out;
        if (rc == Z_STREAM_END) s->ended = true;
        else if (rc == Z_BUF_ERROR && s->at == s->n) return broken(s);
        else if (rc != Z_OK && rc != Z_BUF_ERROR) return broken(s);
    }
    return TERN_OK;
}

/* Nothing may come any more. Reading also makes zlib check its sum. */
static tern_status source_end(source *s)
{
    uint8_t one;
    size_t got;

    TI_TRY(source_read(s, &one, 1, &got));
    if (got || s->at != s->n)
        return ti_fail(s->ctx, TERN_E_FORMAT, "%.300s: there are bytes after the last element",
                       s->path);
    return TERN_OK;
}

typedef struct {
    int code, size;
    tern_type type;
} kind;

static const kind kinds[] = {{0x08, 1, TERN_U8},  {0x09, 1, TERN_I32}, {0x0b, 2, TERN_I32},
                             {0x0c, 4, TERN_I32}, {0x0d, 4, TERN_F32}, {0x0e, 8, TERN_F64}};

static tern_status read_head(source *s, const kind **k, tern_shape *shape, size_t *bytes)
{
    uint8_t head[4 + 4 * TERN_RANK] = {0};
    char text[160];
    size_t got;

    TI_TRY(source_read(s, head, 4, &got));
    *k = NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (got == 4 && head[2] == kinds[i].code) *k = &kinds[i];
    if (!*k || head[0] || head[1])
        return ti_fail(s->ctx, TERN_E_FORMAT,
                       got < 4 ? "%.300s: has fewer than 4 bytes: not an IDX file"
                               : "%.300s: begins with %02x %02x %02x %02x; an IDX file with 00 00, "
                                 "type 08 to 0e, rank",
                       s->path, head[0], head[1], head[2], head[3]);
    if (head[3] < 1 || head[3] > TERN_RANK)
        return ti_fail(s->ctx, TERN_E_FORMAT, "%.300s: rank is %d; 1 to %d are read", s->path,
                       head[3], TERN_RANK);
    shape->rank = head[3];
    TI_TRY(source_read(s, head, 4 * (size_t)shape->rank, &got));
    if (got < 4 * (size_t)shape->rank)
        return ti_fail(s->ctx, TERN_E_FORMAT, "%.300s: ends within its extents", s->path);
    for (int i = 0; i < shape->rank; i++)
        shape->dim[i] = (int64_t)head[4 * i] << 24 | head[4 * i + 1] << 16 | head[4 * i + 2] << 8 |
                        head[4 * i + 3];
    const int64_t count = tern_count(*shape);
    const uint64_t left = s->n - s->at, most = s->packed ? left * RATIO + CHUNK : left;

    if (count < 0 || (uint64_t)count > most / (unsigned)(*k)->size)
        return ti_fail(s->ctx, TERN_E_FORMAT,
                       "%.300s: promises %s elements of %d bytes; the file has %zu bytes%s",
                       s->path, tern_shape_text(text, *shape), (*k)->size, s->n,
                       s->packed ? " (gzipped)" : "");
    *bytes = (size_t)count * (size_t)(*k)->size;
    return TERN_OK;
}

/* Widens i8 and i16 in place, from the end; `raw` has room for i32. */
static void widen(const kind *k, void *raw, size_t count)
{
    int32_t *to = raw;

    for (size_t i = count; i-- > 0;) {
        int16_t half = 0;

        if (k->size == 2) memcpy(&half, (char *)raw + 2 * i, 2);
        const int32_t x = k->size == 1 ? ((int8_t *)raw)[i] : half;

        memcpy(&to[i], &x, 4);
    }
}

static tern_status read_idx(source *s, tern_array *array)
{
    const kind *k;
    tern_shape shape = {0};
    size_t bytes = 0, got;

    TI_TRY(read_head(s, &k, &shape, &bytes));
    const size_t count = bytes / (size_t)k->size;
    *array = (tern_array){
        .name = "", .type = k->type, .shape = shape, .bytes = count * tern_type_size(k->type)};
    if (!(array->data = ti_alloc(s->ctx, array->bytes))) return tern_error(s->ctx);
    TI_TRY(source_read(s, array->data, bytes, &got));
    if (got < bytes)
        return ti_fail(s->ctx, TERN_E_FORMAT, "%.300s: truncated: %zu of %zu bytes of elements",
                       s->path, got, bytes);
    TI_TRY(source_end(s));
    ti_swap(array->data, count, (size_t)k->size);
    if (k->type == TERN_I32 && k->size < 4) widen(k, array->data, count);
    return TERN_OK;
}

tern_status tern_idx_read(tern_ctx *ctx, tern_array *array, const char *path)
{
    source s = {.ctx = ctx, .path = path};
    void *bytes;

    if (array) *array = (tern_array){.name = ""};
    if (!ti_ready(ctx, array && path, "idx_read")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (!(bytes = tern_file_read(ctx, &s.n, path, 0))) return tern_error(ctx);
    s.bytes = bytes;
    if (source_open(&s) == TERN_OK) (void)!read_idx(&s, array);
    if (s.packed) inflateEnd(&s.z);
    ti_free(ctx, bytes);
    if (tern_error(ctx) == TERN_OK) return TERN_OK;
    ti_free(ctx, array->data);
    *array = (tern_array){.name = ""};
    return tern_error(ctx);
}
