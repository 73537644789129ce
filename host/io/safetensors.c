/*
 * safetensors.c - archives as files.
 *
 *   8 bytes   length of the header, little-endian
 *   header    JSON: {"__metadata__": {text: text}, NAME: {"dtype", "shape", "data_offsets"}, …},
 *             spaces up to the data, which begin at a multiple of 64
 *   data      the arrays, without gaps, larger elements first, so that each is aligned
 *
 * Our own files carry two texts, "tern.format" and "tern.checksum". The checksum is taken over the
 * whole file with the digits of its own text replaced by zeros. A file with any text that begins
 * with "tern." must have it: damage to one key cannot turn our file into somebody else's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/archive.h"

#ifndef TI_WITH_JANSSON

bool tern_archive_supported(void) { return false; }

tern_archive *tern_archive_read(tern_ctx *ctx, const char *path)
{
    if (ti_ready(ctx, path, "archive_read"))
        ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: safetensors: built without jansson", path);
    return NULL;
}

tern_status tern_archive_save(tern_ctx *ctx, const tern_archive *a, const char *path)
{
    if (!ti_ready(ctx, a && path, "archive_save")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    return ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: safetensors: built without jansson", path);
}

#else

bool tern_archive_supported(void) { return true; }

#include <jansson.h>

#define MOST_HEADER 100000000u /* as the reference implementation has it */
#define MOST_VALUES 1000000    /* colons, commas: bounds the parser's memory */
#define DEPTH 3                /* header, entry, shape */
#define CHECKSUM_KEY "\"tern.checksum\":\""

static const char *const dtypes[TERN_N_TYPES] = {
    [TERN_F32] = "F32", [TERN_F64] = "F64", [TERN_F16] = "F16", [TERN_BF16] = "BF16",
    [TERN_I64] = "I64", [TERN_I32] = "I32", [TERN_U8] = "U8",   [TERN_BOOL] = "BOOL"};

typedef struct {
    const char *name;
    tern_type type;
    tern_shape shape;
    uint64_t from, to;
} entry;

/* A file that is being read. */
typedef struct {
    tern_ctx *ctx;
    ti_file file;
    char *header; /* with the 8 bytes of the length before it */
    size_t length;
    json_t *json;
    entry *entries;
    int n;
    tern_archive *archive;
} reader;

static tern_status bad(const reader *r, const char *name, const char *what)
{
    return ti_fail(r->ctx, TERN_E_FORMAT, "%.250s: array \"%.60s\": %s", r->file.path, name, what);
}

/* ---- the header ------------------------------------------------------------------------------ */

static tern_status read_header(reader *r)
{
    uint64_t length;

    if (r->file.size < 8)
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.300s: has %d bytes; a safetensors file begins with 8 of a length",
                       r->file.path, (int)r->file.size);
    TI_TRY(ti_file_at(r->ctx, &r->file, 0, &length, 8));
    if (length > MOST_HEADER || length > r->file.size - 8 || length < 2)
        return ti_fail(
            r->ctx, TERN_E_FORMAT,
            "%.300s: header of %llu bytes (of 2 to %u) in a file of %llu bytes: damaged, "
            "or not a safetensors file",
            r->file.path, (unsigned long long)length, MOST_HEADER,
            (unsigned long long)r->file.size);
    r->length = (size_t)length;
    if (!(r->header = ti_alloc(r->ctx, 8 + r->length + 1))) return tern_error(r->ctx);
    return ti_file_at(r->ctx, &r->file, 0, r->header, 8 + r->length);
}

/* Nesting and numbers of values, before a parser takes memory for them. Strings are skipped; what
 * is wrong otherwise, the parser finds. */
static tern_status scan(const reader *r, const char *text, size_t length)
{
    int depth = 0, deepest = 0;
    size_t n = 0;
    bool in_string = false;

    for (size_t i = 0; i < length; i++) {
        const char c = text[i];

        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') in_string = true;
        else if (c == '{' || c == '[') deepest = ++depth > deepest ? depth : deepest;
        else if (c == '}' || c == ']') depth--;
        else if (c == ',' || c == ':') n++;
        if (deepest > DEPTH || n > MOST_VALUES)
            return ti_fail(r->ctx, TERN_E_FORMAT,
                           "%.300s: header: nested deeper than %d or more than %d values",
                           r->file.path, DEPTH, MOST_VALUES);
    }
    return TERN_OK;
}

static tern_status parse_header(reader *r)
{
    const char *text = r->header + 8;
    size_t length = r->length;
    json_error_t error;

    while (length > 0 && text[length - 1] == ' ') length--;
    if (length < 2 || text[0] != '{' || text[length - 1] != '}')
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.300s: header is not one JSON object: damaged, or not a safetensors file",
                       r->file.path);
    TI_TRY(scan(r, text, length));
    r->json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (r->json) return TERN_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return ti_fail(r->ctx, TERN_E_MEMORY, "%.300s: out of memory for the header", r->file.path);
    return ti_fail(r->ctx, TERN_E_FORMAT, "%.300s: header, byte %d: %.100s", r->file.path,
                   error.position, error.text);
}

static tern_status parse_shape(const reader *r, entry *e, const json_t *shape)
{
    const size_t rank = json_array_size(shape);

    if (!json_is_array(shape)) return bad(r, e->name, "shape is not a list");
    if (rank > TERN_RANK) return bad(r, e->name, "shape has more than 8 axes");
    e->shape.rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);

        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad(r, e->name, "shape: an extent is not a whole number from 0");
        e->shape.dim[i] = json_integer_value(dim);
    }
    return TERN_OK;
}

static tern_status parse_entry(const reader *r, entry *e, const json_t *value)
{
    const json_t *offsets = json_object_get(value, "data_offsets");
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const uint64_t data = r->file.size - 8 - r->length;
    size_t bytes;
    char text[160];

    if (!json_is_object(value)) return bad(r, e->name, "is not an object");
    if (json_object_size(value) != 3 || !dtype)
        return bad(r, e->name, "must have dtype, shape, data_offsets, and nothing else");
    for (e->type = 0; e->type < TERN_N_TYPES; e->type++)
        if (strcmp(dtypes[e->type], dtype) == 0) break;
    if (e->type == TERN_N_TYPES)
        return ti_fail(r->ctx, TERN_E_FORMAT, "%.250s: array \"%.60s\": dtype %.20s is not known",
                       r->file.path, e->name, dtype);
    TI_TRY(parse_shape(r, e, json_object_get(value, "shape")));
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)))
        return bad(r, e->name, "data_offsets is not a list of two whole numbers");
    const json_int_t from = json_integer_value(json_array_get(offsets, 0));
    const json_int_t to = json_integer_value(json_array_get(offsets, 1));

    if (from < 0 || to < from || (uint64_t)to > data)
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.250s: array \"%.60s\": data_offsets %lld, %lld in data of %llu bytes",
                       r->file.path, e->name, (long long)from, (long long)to,
                       (unsigned long long)data);
    if (!ti_array_bytes(&bytes, e->type, e->shape) || bytes != (uint64_t)(to - from))
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.250s: array \"%.60s\": %s %s in %lld bytes of data", r->file.path,
                       e->name, dtype, tern_shape_text(text, e->shape), (long long)(to - from));
    e->from = (uint64_t)from;
    e->to = (uint64_t)to;
    return TERN_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;

    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    if (x->to != y->to) return x->to < y->to ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The entries in the order of their data, which they must cover exactly. */
static tern_status parse_entries(reader *r)
{
    const uint64_t data = r->file.size - 8 - r->length;
    const size_t count = json_object_size(r->json);
    uint64_t at = 0;
    const char *key;
    json_t *value;

    if (count > TI_MOST_ARRAYS)
        return ti_fail(r->ctx, TERN_E_FORMAT, "%.300s: %zu arrays; %d are the most", r->file.path,
                       count, TI_MOST_ARRAYS);
    if (!(r->entries = ti_alloc(r->ctx, count * sizeof(entry)))) return tern_error(r->ctx);
    json_object_foreach(r->json, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) continue;
        r->entries[r->n].name = key;
        TI_TRY(parse_entry(r, &r->entries[r->n++], value));
    }
    if (r->n > 1) qsort(r->entries, (size_t)r->n, sizeof(entry), by_offset);
    for (int i = 0; i < r->n; i++) {
        if (r->entries[i].from != at)
            return bad(r, r->entries[i].name,
                       r->entries[i].from < at ? "its data overlap another array's"
                                               : "there is a hole before its data");
        at = r->entries[i].to;
    }
    if (at != data)
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.300s: %llu bytes of data, the header describes %llu", r->file.path,
                       (unsigned long long)data, (unsigned long long)at);
    return TERN_OK;
}

/* Texts into the archive; *sum: the checksum's text, *ours: a text begins with "tern.". */
static tern_status parse_texts(reader *r, const char **sum, bool *ours)
{
    json_t *texts = json_object_get(r->json, "__metadata__"), *value;
    const char *key;

    if (!texts) return TERN_OK;
    if (!json_is_object(texts))
        return ti_fail(r->ctx, TERN_E_FORMAT, "%.300s: __metadata__ is not an object",
                       r->file.path);
    json_object_foreach(texts, key, value)
    {
        const char *text = json_string_value(value);

        if (!text)
            return ti_fail(r->ctx, TERN_E_FORMAT, "%.250s: __metadata__ \"%.60s\" is not a text",
                           r->file.path, key);
        if (strncmp(key, "tern.", 5) == 0) *ours = true;
        if (strcmp(key, "tern.checksum") == 0) *sum = text;
        else if (strcmp(key, "tern.format") != 0)
            TI_TRY(ti_archive_meta_append(r->ctx, r->archive, key, text));
    }
    return TERN_OK;
}

/* ---- the data -------------------------------------------------------------------------------- */

/* Where the digits of the checksum stand in a header; NULL: not as we write it. */
static char *find_digits(char *header, size_t length, const char *sum)
{
    const size_t key = strlen(CHECKSUM_KEY), n = strlen(sum);
    char *at = memmem(header, length, CHECKSUM_KEY, key);

    if (!at || length - (size_t)(at - header) < key + n + 1) return NULL;
    at += key;
    return memcmp(at, sum, n) == 0 && at[n] == '"' ? at : NULL;
}

static tern_status check_bools(const reader *r, const tern_array *array)
{
    const uint8_t *x = array->data;

    for (size_t i = 0; array->type == TERN_BOOL && i < array->bytes; i++)
        if (x[i] > 1) return bad(r, array->name, "a BOOL is neither 0 nor 1");
    return TERN_OK;
}

static tern_status read_data(reader *r, ti_checksum *sum)
{
    for (int i = 0; i < r->n; i++) {
        const entry *e = &r->entries[i];
        const size_t bytes = (size_t)(e->to - e->from);
        char *to = ti_archive_append(r->ctx, r->archive, e->name, e->type, e->shape);

        if (!to) return tern_error(r->ctx);
        TI_TRY(ti_file_at(r->ctx, &r->file, 8 + r->length + e->from, to, bytes));
        if (sum) ti_checksum_add(sum, to, bytes);
        TI_TRY(check_bools(r, &r->archive->array[i]));
    }
    return TERN_OK;
}

static tern_status read_ours(reader *r, const char *text)
{
    char *digits = text ? find_digits(r->header + 8, r->length, text) : NULL, now[TI_CHECKSUM_TEXT];
    const char *format;
    ti_checksum sum;

    if (!digits)
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.300s: it has texts of Tern's, but not Tern's checksum: damaged, or "
                       "written by another program",
                       r->file.path);
    TI_TRY(ti_checksum_begin(r->ctx, &sum, text, r->file.path));
    memset(digits, '0', strlen(text));
    ti_checksum_add(&sum, r->header, 8 + r->length);
    (void)!read_data(r, &sum);
    ti_checksum_end(r->ctx, &sum, now);
    TI_TRY(tern_error(r->ctx));
    if (strcmp(now, text) != 0)
        return ti_fail(r->ctx, TERN_E_FORMAT,
                       "%.250s: damaged: its checksum is %.40s, its contents give %.40s",
                       r->file.path, text, now);
    format =
        json_string_value(json_object_get(json_object_get(r->json, "__metadata__"), "tern.format"));
    if (!format || strcmp(format, "1") != 0)
        return ti_fail(r->ctx, TERN_E_UNSUPPORTED, "%.300s: tern.format is %.20s; this reads 1",
                       r->file.path, format ? format : "missing");
    return TERN_OK;
}

static tern_status read_all(reader *r)
{
    const char *sum = NULL;
    bool ours = false;

    TI_TRY(read_header(r));
    TI_TRY(parse_header(r));
    TI_TRY(parse_entries(r));
    TI_TRY(parse_texts(r, &sum, &ours));
    return ours ? read_ours(r, sum) : read_data(r, NULL);
}

tern_archive *tern_archive_read(tern_ctx *ctx, const char *path)
{
    reader r = {.ctx = ctx};

    if (!ti_ready(ctx, path, "archive_read") || !(r.archive = tern_archive_new(ctx))) return NULL;
    if (ti_file_open(ctx, &r.file, path) == TERN_OK) (void)!read_all(&r);
    ti_file_close(ctx, &r.file);
    ti_free(ctx, r.header);
    ti_free(ctx, r.entries);
    json_decref(r.json);
    if (tern_error(ctx) == TERN_OK) return r.archive;
    tern_archive_close(ctx, r.archive);
    return NULL;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static json_t *array_json(const tern_array *a, uint64_t from)
{
    json_t *shape = json_array();

    for (int i = 0; i < a->shape.rank; i++)
        json_array_append_new(shape, json_integer(a->shape.dim[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtypes[a->type], "shape", shape,
                     "data_offsets", (json_int_t)from, (json_int_t)(from + a->bytes));
}

/* Larger elements first, else in the archive's order. */
static void data_order(const tern_archive *a, int *order)
{
    int n = 0;

    for (size_t size = 8; size > 0; size /= 2)
        for (int i = 0; i < a->count; i++)
            if (tern_type_size(a->array[i].type) == size) order[n++] = i;
}

/* The header as text, its checksum all zeros, without padding; NULL: not UTF-8, or no memory. */
static char *header_text(const tern_archive *a, const int *order, const char *zeros)
{
    json_t *root = json_object(), *texts = json_object();
    uint64_t at = 0;
    char *text = NULL;
    int failed = json_object_set_new(texts, "tern.format", json_string("1"));

    failed |= json_object_set_new(texts, "tern.checksum", json_string(zeros));
    for (int i = 0; i < a->n_text; i += 2)
        failed |= json_object_set_new(texts, a->text[i], json_string(a->text[i + 1]));
    failed |= json_object_set_new(root, "__metadata__", texts);
    for (int i = 0; i < a->count; i++) {
        const tern_array *array = &a->array[order[i]];

        failed |= json_object_set_new(root, array->name, array_json(array, at));
        at += array->bytes;
    }
    if (!failed) text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

/* Length, text and spaces: what stands before the data. */
static char *header_bytes(tern_ctx *ctx, const char *text, size_t *bytes)
{
    const uint64_t length = (8 + strlen(text) + 63) / 64 * 64 - 8;
    char *header = ti_alloc(ctx, 8 + length);

    if (!header) return NULL;
    *bytes = 8 + length;
    memcpy(header, &length, 8);
    memset(header + 8, ' ', length);
    memcpy(header + 8, text, strlen(text));
    return header;
}

static tern_status put_all(tern_ctx *ctx, const tern_archive *a, const int *order, char *header,
                           size_t bytes, const char *path)
{
    tern_writer *w = tern_writer_open(ctx, path);
    tern_status status;

    if (!w) return tern_error(ctx);
    status = tern_writer_put(ctx, w, header, bytes);
    for (int i = 0; i < a->count && status == TERN_OK; i++)
        status = tern_writer_put(ctx, w, a->array[order[i]].data, a->array[order[i]].bytes);
    return tern_writer_commit(ctx, w);
}

static tern_status save(tern_ctx *ctx, const tern_archive *a, const int *order, const char *path)
{
    char zeros[TI_CHECKSUM_TEXT] = "", sum_text[TI_CHECKSUM_TEXT], *text, *header, *digits;
    ti_checksum sum;
    size_t bytes = 0;

    TI_TRY(ti_checksum_begin(ctx, &sum, NULL, path));
    memset(zeros, '0', sum.xxh ? strlen("xxh128:") + 32 : strlen("crc32:") + 8);
    text = header_text(a, order, zeros);
    header = text && strlen(text) <= MOST_HEADER - 64 ? header_bytes(ctx, text, &bytes) : NULL;
    if (!text || (!header && tern_error(ctx) == TERN_OK))
        ti_fail(
            ctx, TERN_E_ARGUMENT,
            "%.300s: a name or text is not UTF-8, \"__metadata__\", or too long for a header of "
            "100 MB",
            path);
    ti_checksum_add(&sum, header, bytes);
    for (int i = 0; i < a->count; i++)
        ti_checksum_add(&sum, a->array[order[i]].data, a->array[order[i]].bytes);
    ti_checksum_end(ctx, &sum, sum_text);
    digits = header ? find_digits(header + 8, bytes - 8, zeros) : NULL;
    if (digits) {
        memcpy(digits, sum_text, strlen(zeros));
        (void)!put_all(ctx, a, order, header, bytes, path);
    }
    free(text); /* Jansson's own */
    ti_free(ctx, header);
    return tern_error(ctx);
}

tern_status tern_archive_save(tern_ctx *ctx, const tern_archive *a, const char *path)
{
    int *order;

    if (!ti_ready(ctx, a && path, "archive_save")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (tern_archive_get(a, "__metadata__"))
        return ti_fail(ctx, TERN_E_ARGUMENT, "%.300s: no array may be named __metadata__", path);
    if (!(order = ti_alloc(ctx, (size_t)a->count * sizeof *order))) return tern_error(ctx);
    data_order(a, order);
    (void)!save(ctx, a, order, path);
    ti_free(ctx, order);
    return tern_error(ctx);
}

#endif
