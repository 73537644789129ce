/*
 * npy.c - NumPy's .npy.
 *
 *   \x93NUMPY, version, length of the header, header (the text of a Python dictionary with descr,
 *   fortran_order, shape; spaces; a newline), elements.
 */
#include "io/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/swap.h"

tern_status ti_npy_head(tern_ctx *ctx, size_t *bytes, const char *path, const uint8_t *head,
                        size_t n)
{
    uint32_t length;

    if (n < 10 || memcmp(head, "\x93NUMPY", 6) != 0)
        return ti_fail(ctx, TERN_E_FORMAT,
                       "%.300s: does not begin with \\x93NUMPY: not a .npy file", path);
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: version %d.%d; 1.0 to 3.0 are read", path,
                       head[6], head[7]);
    const size_t before = head[6] == 1 ? 10 : 12;

    length = head[8] | (uint32_t)head[9] << 8;
    if (before == 12 && n >= 12) length |= (uint32_t)head[10] << 16 | (uint32_t)head[11] << 24;
    if (n < before || length > TI_NPY_MOST_HEADER)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: header of %u bytes; %d are the most", path,
                       length, TI_NPY_MOST_HEADER);
    *bytes = before + length;
    return TERN_OK;
}

/* ---- the dictionary -------------------------------------------------------------------------- */

typedef struct {
    const char *at, *end;
} cursor;

static void blanks(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t')) c->at++;
}

static bool take(cursor *c, const char *text)
{
    const size_t n = strlen(text);

    blanks(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, text, n) != 0) return false;
    c->at += n;
    return true;
}

static bool take_string(cursor *c, char *to, size_t room)
{
    size_t n = 0;

    blanks(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return false;
    for (const char quote = *c->at++; c->at < c->end && *c->at != quote; c->at++) {
        if (n + 1 >= room || *c->at == '\\' || (unsigned char)*c->at < 32) return false;
        to[n++] = *c->at;
    }
    to[n] = 0;
    return c->at++ < c->end;
}

/* (), (3,), (3, 4), (3, 4,) */
static bool take_shape(cursor *c, tern_shape *shape)
{
    if (!take(c, "(")) return false;
    while (!take(c, ")")) {
        int64_t x = 0;
        int digits = 0;

        if (shape->rank == TERN_RANK) return false;
        for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++, digits++)
            if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, *c->at - '0', &x))
                return false;
        if (!digits) return false;
        shape->dim[shape->rank++] = x;
        if (take(c, ",")) continue;
        if (shape->rank == 1 || !take(c, ")")) return false; /* (3) is a number, not a tuple */
        return true;
    }
    return true;
}

/* "<f4" */
static bool set_type(ti_npy *npy, const char *descr)
{
    static const struct {
        const char *name;
        tern_type type;
    } types[] = {{"f2", TERN_F16}, {"f4", TERN_F32}, {"f8", TERN_F64}, {"i1", TERN_I32},
                 {"i2", TERN_I32}, {"i4", TERN_I32}, {"i8", TERN_I64}, {"u1", TERN_U8},
                 {"u2", TERN_I32}, {"u4", TERN_I64}, {"u8", TERN_I64}, {"b1", TERN_BOOL}};
    const char order = descr[0];

    if (order && strchr("<>=|", order)) descr++;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(descr, types[i].name) != 0) continue;
        npy->type = types[i].type;
        npy->kind = descr[0];
        npy->size = descr[1] - '0';
        npy->swap = order == '>' && npy->size > 1;
        return order != '|' || npy->size == 1;
    }
    return false;
}

/* What is wrong with the dictionary, or NULL. */
static const char *parse(ti_npy *npy, cursor *c)
{
    bool seen[3] = {false, false, false};
    char key[16], descr[16];

    if (!take(c, "{")) return "the header is not a dictionary";
    while (!take(c, "}")) {
        if (!take_string(c, key, sizeof key) || !take(c, ":")) return "the header cannot be read";
        const int i = strcmp(key, "descr") == 0           ? 0
                      : strcmp(key, "fortran_order") == 0 ? 1
                      : strcmp(key, "shape") == 0         ? 2
                                                          : -1;
        if (i < 0) return "the header has an unknown key";
        if (seen[i]) return "the header has a key twice";
        seen[i] = true;
        if (i == 0 && (!take_string(c, descr, sizeof descr) || !set_type(npy, descr)))
            return "descr: the type is not one of bool, (u)int8 to 64, float16 to 64";
        if (i == 1 && !take(c, "False") && !(npy->fortran = take(c, "True")))
            return "fortran_order is neither True nor False";
        if (i == 2 && !take_shape(c, &npy->shape))
            return "shape is not a tuple of up to 8 whole numbers";
        if (!take(c, ",")) {
            if (!take(c, "}")) return "the header cannot be read";
            break;
        }
    }
    blanks(c);
    if (c->at != c->end) return "the header has something after its dictionary";
    return seen[0] && seen[1] && seen[2] ? NULL : "descr, fortran_order or shape is missing";
}

tern_status ti_npy_header(tern_ctx *ctx, ti_npy *npy, const char *path, const char *header,
                          size_t bytes, uint64_t all)
{
    const size_t before = header[6] == 1 ? 10 : 12;
    cursor c = {header + before, header + bytes};
    char text[160];
    size_t in_memory;

    *npy = (ti_npy){.header_bytes = bytes};
    const char *wrong = parse(npy, &c);

    if (wrong) return ti_fail(ctx, TERN_E_FORMAT, "%.300s: %s", path, wrong);
    if (!ti_array_bytes(&in_memory, npy->type, npy->shape) ||
        (npy->count = (size_t)tern_count(npy->shape)) > (all - bytes) / (unsigned)npy->size ||
        npy->count * (size_t)npy->size != all - bytes)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: %s elements of %d bytes in %llu bytes of data",
                       path, tern_shape_text(text, npy->shape), npy->size,
                       (unsigned long long)(all - bytes));
    npy->data_bytes = npy->count * (size_t)npy->size;
    return TERN_OK;
}

/* ---- elements -------------------------------------------------------------------------------- */

static int64_t get_integer(const ti_npy *npy, const uint8_t *at)
{
    uint64_t x = 0;

    memcpy(&x, at, (size_t)npy->size);
    if (npy->kind == 'i' && npy->size < 8 && x >> (8 * npy->size - 1))
        x |= ~(uint64_t)0 << 8 * npy->size;
    return (int64_t)x;
}

/* Element i of the file into element k of the array. */
static void put(const ti_npy *npy, void *data, size_t k, const uint8_t *raw, size_t i)
{
    const size_t size = tern_type_size(npy->type);
    const uint8_t *at = raw + i * (size_t)npy->size;

    if (size == (size_t)npy->size) memcpy((char *)data + k * size, at, size);
    else if (npy->type == TERN_I32) ((int32_t *)data)[k] = (int32_t)get_integer(npy, at);
    else ((int64_t *)data)[k] = get_integer(npy, at);
}

static tern_status check(tern_ctx *ctx, const ti_npy *npy, const char *path, const uint8_t *raw)
{
    for (size_t i = 0; i < npy->count; i++) {
        if (npy->kind == 'b' && raw[i] > 1)
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: element %zu of a bool array is %d", path, i,
                           raw[i]);
        if (npy->kind == 'u' && npy->size == 8 && get_integer(npy, raw + 8 * i) < 0)
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: element %zu does not fit i64", path, i);
    }
    return TERN_OK;
}

tern_status ti_npy_elements(tern_ctx *ctx, void **data, const ti_npy *npy, const char *path,
                            void *raw)
{
    int64_t index[TERN_RANK] = {0};
    size_t stride[TERN_RANK], at = 0, step = 1;

    if (npy->swap) ti_swap(raw, npy->count, (size_t)npy->size);
    if (npy->kind == 'b' || npy->kind == 'u') TI_TRY(check(ctx, npy, path, raw));
    if (!(*data = ti_alloc(ctx, npy->count * tern_type_size(npy->type)))) return tern_error(ctx);
    for (int i = npy->shape.rank - 1; i >= 0; i--) { /* of the array */
        stride[i] = step;
        step *= (size_t)npy->shape.dim[i];
    }
    for (size_t i = 0; i < npy->count; i++) {
        put(npy, *data, npy->fortran ? at : i, raw, i);
        /* The first axis runs fastest in a Fortran file. */
        for (int d = 0; npy->fortran && d < npy->shape.rank; d++) {
            at += stride[d];
            if (++index[d] < npy->shape.dim[d]) break;
            at -= stride[d] * (size_t)npy->shape.dim[d];
            index[d] = 0;
        }
    }
    return TERN_OK;
}

tern_status tern_npy_read(tern_ctx *ctx, tern_array *array, const char *path)
{
    uint8_t head[TI_NPY_HEAD] = {0};
    char *header = NULL, *raw = NULL;
    size_t bytes = 0;
    ti_file file;
    ti_npy npy;

    if (array) *array = (tern_array){.name = ""};
    if (!ti_ready(ctx, array && path, "npy_read")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (ti_file_open(ctx, &file, path) != TERN_OK) return tern_error(ctx);
    const size_t n = file.size < TI_NPY_HEAD ? (size_t)file.size : TI_NPY_HEAD;

    if (ti_file_at(ctx, &file, 0, head, n) == TERN_OK &&
        ti_npy_head(ctx, &bytes, path, head, n) == TERN_OK && (header = ti_alloc(ctx, bytes)) &&
        ti_file_at(ctx, &file, 0, header, bytes) == TERN_OK &&
        ti_npy_header(ctx, &npy, path, header, bytes, file.size) == TERN_OK &&
        (raw = ti_alloc(ctx, npy.data_bytes)) &&
        ti_file_at(ctx, &file, bytes, raw, npy.data_bytes) == TERN_OK &&
        ti_npy_elements(ctx, &array->data, &npy, path, raw) == TERN_OK) {
        array->type = npy.type;
        array->shape = npy.shape;
        array->bytes = npy.count * tern_type_size(npy.type);
    }
    ti_free(ctx, header);
    ti_free(ctx, raw);
    ti_file_close(ctx, &file);
    return tern_error(ctx);
}

/* ---- writing --------------------------------------------------------------------------------- */

static const char *const descrs[TERN_N_TYPES] = {
    [TERN_F32] = "<f4", [TERN_F64] = "<f8", [TERN_F16] = "<f2", [TERN_BF16] = "<f4",
    [TERN_I64] = "<i8", [TERN_I32] = "<i4", [TERN_U8] = "|u1",  [TERN_BOOL] = "|b1"};

char *ti_npy_bytes(tern_ctx *ctx, size_t *bytes, tern_type type, tern_shape shape, const void *data)
{
    const int64_t count = tern_count(shape);
    const size_t each = type == TERN_BF16 ? 4 : tern_type_size(type);
    char header[512];
    int n = 10;

    n += snprintf(header + n, sizeof header - (size_t)n,
                  "{'descr': '%s', 'fortran_order': False, 'shape': (", descrs[type]);
    for (int i = 0; i < shape.rank; i++)
        n += snprintf(header + n, sizeof header - (size_t)n, "%lld%s", (long long)shape.dim[i],
                      i + 1 < shape.rank ? ", "
                      : i == 0           ? ","
                                         : "");
    n += snprintf(header + n, sizeof header - (size_t)n, "), }");
    const size_t before = ((size_t)n + 1 + 63) / 64 * 64;

    memset(header + n, ' ', before - (size_t)n);
    header[before - 1] = '\n';
    memcpy(header, "\x93NUMPY\1\0", 8);
    header[8] = (char)((before - 10) & 255);
    header[9] = (char)((before - 10) >> 8);
    *bytes = before + (size_t)count * each;
    char *all = ti_alloc(ctx, *bytes);

    if (!all) return NULL;
    memcpy(all, header, before);
    if (type != TERN_BF16 && count) memcpy(all + before, data, (size_t)count * each);
    for (int64_t i = 0; type == TERN_BF16 && i < count; i++) {
        const uint32_t wide = (uint32_t)((const uint16_t *)data)[i] << 16;

        memcpy(all + before + 4 * i, &wide, 4);
    }
    return all;
}

tern_status tern_npy_write(tern_ctx *ctx, const char *path, tern_type type, tern_shape shape,
                           const void *data)
{
    size_t bytes;
    char *all;

    if (!ti_ready(ctx, path && data, "npy_write")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if ((unsigned)type >= TERN_N_TYPES || shape.rank < 0 || shape.rank > TERN_RANK ||
        !ti_array_bytes(&bytes, type, shape))
        return ti_fail(ctx, TERN_E_ARGUMENT, "npy_write: %.300s: type %d, rank %d", path, (int)type,
                       shape.rank);
    if (!(all = ti_npy_bytes(ctx, &bytes, type, shape, data))) return tern_error(ctx);
    (void)!tern_file_write(ctx, path, all, bytes);
    ti_free(ctx, all);
    return tern_error(ctx);
}

/* ---- tensors --------------------------------------------------------------------------------- */

tern_tensor *tern_npy_load(tern_ctx *ctx, const char *path)
{
    tern_array a;

    if (tern_npy_read(ctx, &a, path) != TERN_OK) return NULL;
    tern_tensor *t = tern_from_host(ctx, a.type, a.data, a.shape);

    tern_free(ctx, a.data);
    return t;
}

tern_status tern_npy_save(tern_ctx *ctx, const char *path, tern_tensor *t)
{
    size_t bytes;
    void *data;

    if (!ti_ready(ctx, path && t, "npy_save")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (!ti_array_bytes(&bytes, tern_type_of(t), tern_shape_of(t)))
        return ti_fail(ctx, TERN_E_SHAPE, "npy_save: %.300s: too large", path);
    if (!(data = ti_alloc(ctx, bytes))) return tern_error(ctx);
    if (tern_to_host(ctx, data, t) == TERN_OK)
        (void)!tern_npy_write(ctx, path, tern_type_of(t), tern_shape_of(t), data);
    ti_free(ctx, data);
    return tern_error(ctx);
}
