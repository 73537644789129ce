/* archive.c - named arrays and texts in memory. */
#include "io/archive.h"

#include <string.h>

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_archive *a = (tern_archive *)object;

    for (int i = 0; i < a->count; i++) {
        ti_free(ctx, (char *)a->array[i].name);
        ti_free(ctx, a->array[i].data);
    }
    for (int i = 0; i < a->n_text; i++) ti_free(ctx, a->text[i]);
    ti_free(ctx, a->array);
    ti_free(ctx, a->text);
}

tern_archive *tern_archive_new(tern_ctx *ctx)
{
    return ti_ready(ctx, true, "archive_new") ? ti_object_new(ctx, sizeof(tern_archive), end)
                                              : NULL;
}

void tern_archive_close(tern_ctx *ctx, tern_archive *archive) { ti_object_close(ctx, archive); }

void *ti_archive_append(tern_ctx *ctx, tern_archive *a, const char *name, tern_type type,
                        tern_shape shape)
{
    tern_array *list, entry = {.type = type, .shape = shape};
    char text[160];

    if (!ti_array_bytes(&entry.bytes, type, shape)) {
        ti_fail(ctx, TERN_E_SHAPE, "array %.100s: %s %s does not fit an address space", name,
                tern_type_name(type), tern_shape_text(text, shape));
        return NULL;
    }
    if (!(list = ti_grow(ctx, a->array, a->count, &a->cap, sizeof *list))) return NULL;
    a->array = list;
    entry.name = ti_strdup(ctx, name);
    entry.data = entry.name ? ti_alloc(ctx, entry.bytes) : NULL;
    if (!entry.data) {
        ti_free(ctx, (char *)entry.name);
        return NULL;
    }
    a->array[a->count++] = entry;
    return entry.data;
}

void *tern_archive_add(tern_ctx *ctx, tern_archive *a, const char *name, tern_type type,
                       tern_shape shape, const void *data)
{
    void *room;

    if (!ti_ready(ctx, a && name, "archive_add")) return NULL;
    if ((unsigned)type >= TERN_N_TYPES || shape.rank < 0 || shape.rank > TERN_RANK) {
        ti_fail(ctx, TERN_E_ARGUMENT, "archive_add: %.100s: type %d, rank %d", name, (int)type,
                shape.rank);
        return NULL;
    }
    if (tern_archive_get(a, name)) {
        ti_fail(ctx, TERN_E_ARGUMENT, "archive_add: there is an array %.100s already", name);
        return NULL;
    }
    if (a->count >= TI_MOST_ARRAYS) {
        ti_fail(ctx, TERN_E_ARGUMENT, "archive_add: more than %d arrays", TI_MOST_ARRAYS);
        return NULL;
    }
    if ((room = ti_archive_append(ctx, a, name, type, shape)) && data &&
        a->array[a->count - 1].bytes)
        memcpy(room, data, a->array[a->count - 1].bytes);
    return room;
}

int tern_archive_count(const tern_archive *a) { return a ? a->count : 0; }

const tern_array *tern_archive_at(const tern_archive *a, int i)
{
    return a && i >= 0 && i < a->count ? &a->array[i] : NULL;
}

const tern_array *tern_archive_get(const tern_archive *a, const char *name)
{
    for (int i = 0; a && name && i < a->count; i++)
        if (strcmp(a->array[i].name, name) == 0) return &a->array[i];
    return NULL;
}

/* ---- texts ----------------------------------------------------------------------------------- */

tern_status ti_archive_meta_append(tern_ctx *ctx, tern_archive *a, const char *key,
                                   const char *value)
{
    char **list = ti_grow(ctx, a->text, a->n_text, &a->cap_text, sizeof *list);
    char *copy[2]; /* room for one is room for two: all these numbers are even */

    if (!list) return tern_error(ctx);
    a->text = list;
    copy[0] = ti_strdup(ctx, key);
    copy[1] = copy[0] ? ti_strdup(ctx, value) : NULL;
    if (!copy[1]) {
        ti_free(ctx, copy[0]);
        return tern_error(ctx);
    }
    a->text[a->n_text++] = copy[0];
    a->text[a->n_text++] = copy[1];
    return TERN_OK;
}

tern_status tern_archive_meta_set(tern_ctx *ctx, tern_archive *a, const char *key,
                                  const char *value)
{
    if (!ti_ready(ctx, a && key && value, "archive_meta_set"))
        return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (strcmp(key, "tern.format") == 0 || strcmp(key, "tern.checksum") == 0)
        return ti_fail(ctx, TERN_E_ARGUMENT, "archive_meta_set: %s is written by saving", key);
    for (int i = 0; i < a->n_text; i += 2)
        if (strcmp(a->text[i], key) == 0) {
            char *copy = ti_strdup(ctx, value);

            if (!copy) return tern_error(ctx);
            ti_free(ctx, a->text[i + 1]);
            a->text[i + 1] = copy;
            return TERN_OK;
        }
    return ti_archive_meta_append(ctx, a, key, value);
}

const char *tern_archive_meta(const tern_archive *a, const char *key)
{
    for (int i = 0; a && key && i < a->n_text; i += 2)
        if (strcmp(a->text[i], key) == 0) return a->text[i + 1];
    return NULL;
}

int tern_archive_meta_count(const tern_archive *a) { return a ? a->n_text / 2 : 0; }

const char *tern_archive_meta_at(const tern_archive *a, int i, const char **value)
{
    if (!a || i < 0 || i >= a->n_text / 2) return NULL;
    if (value) *value = a->text[2 * i + 1];
    return a->text[2 * i];
}
