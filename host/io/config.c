/* config.c - configuration files: sections in order, each with its entries and their lines. */
#include <stdio.h>
#include <string.h>

#include "io/file.h"

enum { MOST_BYTES = 1 << 20, MOST_SECTIONS = 4096, MOST_LINE = 4096 };

struct tern_config {
    ti_object object;
    char *file;
    char *text; /* its lines are cut into the names, keys and values */
    tern_config_section *section;
    tern_config_entry *entry; /* of all sections, in order */
    int count, cap, n_entry, cap_entry;
};

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_config *c = (tern_config *)object;

    ti_free(ctx, c->file);
    ti_free(ctx, c->text);
    ti_free(ctx, c->section);
    ti_free(ctx, c->entry);
}

static tern_status wrong(tern_ctx *ctx, const tern_config *c, int line, const char *what)
{
    return ti_fail(ctx, TERN_E_FORMAT, "%.300s:%d: %s", c->file, line, what);
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

/* Cuts the blanks off both ends of text … end. */
static char *trim(char *text, char *stop)
{
    while (text < stop && blank(*text)) text++;
    while (stop > text && blank(stop[-1])) stop--;
    *stop = 0;
    return text;
}

static bool is_name(const char *text)
{
    if (!*text) return false;
    for (; *text; text++)
        if (!(*text >= 'a' && *text <= 'z') && !(*text >= 'A' && *text <= 'Z') &&
            !(*text >= '0' && *text <= '9') && !strchr("_-.", *text))
            return false;
    return true;
}

static tern_status add_section(tern_ctx *ctx, tern_config *c, char *text, int line)
{
    char *stop = strchr(text, ']');
    tern_config_section *list;

    if (!stop || stop[1]) return wrong(ctx, c, line, "a section is written [name]");
    char *name = trim(text + 1, stop);

    if (!is_name(name))
        return wrong(ctx, c, line, "the name of a section is letters, digits, '_', '-', '.'");
    if (c->count == MOST_SECTIONS) return wrong(ctx, c, line, "more than 4096 sections");
    if (!(list = ti_grow(ctx, c->section, c->count, &c->cap, sizeof *list))) return tern_error(ctx);
    c->section = list;
    list[c->count++] = (tern_config_section){.name = name, .line = line};
    return TERN_OK;
}

static tern_status add_entry(tern_ctx *ctx, tern_config *c, char *text, int line)
{
    char *equals = strchr(text, '='), said[160];
    tern_config_section *section = c->count ? &c->section[c->count - 1] : NULL;
    tern_config_entry *list;

    if (!equals) return wrong(ctx, c, line, "neither [section] nor key=value");
    char *key = trim(text, equals), *value = trim(equals + 1, equals + 1 + strlen(equals + 1));

    if (!is_name(key)) return wrong(ctx, c, line, "a key is letters, digits, '_', '-', '.'");
    if (!section) return wrong(ctx, c, line, "a [section] must come before the first key");
    for (int i = c->n_entry - section->count; i < c->n_entry; i++)
        if (strcmp(c->entry[i].key, key) == 0) {
            snprintf(said, sizeof said, "%.60s is given twice; first in line %d", key,
                     c->entry[i].line);
            return wrong(ctx, c, line, said);
        }
    if (section->count >= 256) return wrong(ctx, c, line, "more than 256 keys in a section");
    if (!(list = ti_grow(ctx, c->entry, c->n_entry, &c->cap_entry, sizeof *list)))
        return tern_error(ctx);
    c->entry = list;
    list[c->n_entry++] = (tern_config_entry){key, value, line};
    section->count++;
    return TERN_OK;
}

/* One line, without its newline. */
static tern_status add_line(tern_ctx *ctx, tern_config *c, char *text, size_t length, int line)
{
    if (length > MOST_LINE) return wrong(ctx, c, line, "longer than 4096 bytes");
    if (length && text[length - 1] == '\r') length--;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 32 && text[i] != '\t')
            return wrong(ctx, c, line, "has a control character");
    for (size_t i = 0; i < length; i++)
        if (text[i] == '#' && (i == 0 || blank(text[i - 1]))) length = i;
    text = trim(text, text + length);
    if (!*text) return TERN_OK;
    return *text == '[' ? add_section(ctx, c, text, line) : add_entry(ctx, c, text, line);
}

static tern_status parse(tern_ctx *ctx, tern_config *c, size_t bytes)
{
    char *at = c->text, *stop = at + bytes;

    if (bytes >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0) at += 3; /* some editors' mark */
    for (int line = 1; at < stop; line++) {
        char *newline = memchr(at, '\n', (size_t)(stop - at)), *next;

        next = newline ? newline + 1 : stop;
        TI_TRY(add_line(ctx, c, at, (size_t)((newline ? newline : stop) - at), line));
        at = next;
    }
    const tern_config_entry *entry = c->entry;

    for (int i = 0; i < c->count; entry += c->section[i++].count) c->section[i].entry = entry;
    return TERN_OK;
}

tern_config *tern_config_parse(tern_ctx *ctx, const char *file, const char *text, size_t bytes)
{
    tern_config *c;

    if (!ti_ready(ctx, file && (text || !bytes), "config_parse")) return NULL;
    if (bytes > MOST_BYTES) {
        ti_fail(ctx, TERN_E_FORMAT, "%.300s: %zu bytes; a configuration has at most 1 MiB", file,
                bytes);
        return NULL;
    }
    if (!(c = ti_object_new(ctx, sizeof *c, end))) return NULL;
    c->file = ti_strdup(ctx, file);
    c->text = c->file ? ti_alloc(ctx, bytes + 1) : NULL;
    if (c->text) {
        if (bytes) memcpy(c->text, text, bytes);
        if (parse(ctx, c, bytes) == TERN_OK) return c;
    }
    ti_object_close(ctx, c);
    return NULL;
}

tern_config *tern_config_read(tern_ctx *ctx, const char *path)
{
    size_t bytes;
    char *text = tern_file_read(ctx, &bytes, path, MOST_BYTES);
    tern_config *c = text ? tern_config_parse(ctx, path, text, bytes) : NULL;

    if (text) ti_free(ctx, text);
    return c;
}

void tern_config_close(tern_ctx *ctx, tern_config *c) { ti_object_close(ctx, c); }
const char *tern_config_file(const tern_config *c) { return c ? c->file : ""; }
int tern_config_count(const tern_config *c) { return c ? c->count : 0; }

const tern_config_section *tern_config_at(const tern_config *c, int i)
{
    return c && i >= 0 && i < c->count ? &c->section[i] : NULL;
}

const tern_config_entry *tern_config_find(const tern_config_section *section, const char *key)
{
    for (int i = 0; section && key && i < section->count; i++)
        if (strcmp(section->entry[i].key, key) == 0) return &section->entry[i];
    return NULL;
}
