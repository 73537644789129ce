/* json.c - the JSON writer. The command never sets a locale, so printf writes points. */
#include "cli/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"

static void put(json *j, const char *text, size_t n)
{
    if (j->size + n + 1 > j->room) {
        j->room = (j->size + n + 1) * 2;
        j->text = cli_realloc(j->text, j->room);
    }
    memcpy(j->text + j->size, text, n);
    j->size += n;
    j->text[j->size] = '\0';
}

static void puts_(json *j, const char *text) { put(j, text, strlen(text)); }

/* Length of the UTF-8 character at s, 0 if it is none. */
static int utf8(const unsigned char *s)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    const int n = s[0] < 0x80       ? 1
                  : s[0] >> 5 == 6  ? 2
                  : s[0] >> 4 == 14 ? 3
                  : s[0] >> 3 == 30 ? 4
                                    : 0;
    unsigned code = n > 1 ? s[0] & (0x7fu >> n) : s[0];

    for (int i = 1; i < n; i++) {
        if (s[i] >> 6 != 2) return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if (n > 1 && (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)))
        return 0;
    return n;
}

static void quoted(json *j, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    puts_(j, "\"");
    while (*s) {
        char code[8];
        const int n = utf8(s);

        if (*s == '"' || *s == '\\') {
            put(j, (char[]){'\\', (char)*s}, 2);
        } else if (*s == '\n') {
            puts_(j, "\\n");
        } else if (*s == '\t') {
            puts_(j, "\\t");
        } else if (*s < 0x20 || *s == 0x7f) {
            snprintf(code, sizeof code, "\\u%04x", *s);
            puts_(j, code);
        } else if (n == 0) {
            puts_(j, "\\ufffd"); /* a byte that is no UTF-8 */
        } else {
            put(j, (const char *)s, (size_t)n);
        }
        s += n ? n : 1;
    }
    puts_(j, "\"");
}

static void key_of(json *j, const char *key)
{
    if (j->comma) puts_(j, ",");
    if (j->depth && !j->line) {
        puts_(j, "\n");
        for (int i = 0; i < j->depth; i++) puts_(j, "  ");
    }
    if (key) {
        quoted(j, key);
        puts_(j, ": ");
    }
    j->comma = true;
}

void json_open(json *j, const char *key, char bracket)
{
    key_of(j, key);
    put(j, &bracket, 1);
    j->depth++;
    j->comma = false;
}

void json_close(json *j, char bracket)
{
    j->depth--;
    if (j->comma && !j->line) {
        puts_(j, "\n");
        for (int i = 0; i < j->depth; i++) puts_(j, "  ");
    }
    put(j, &bracket, 1);
    j->comma = true;
}

void json_text(json *j, const char *key, const char *value)
{
    key_of(j, key);
    if (value) quoted(j, value);
    else puts_(j, "null");
}

void json_int(json *j, const char *key, int64_t value)
{
    char text[32];

    snprintf(text, sizeof text, "%lld", (long long)value);
    key_of(j, key);
    puts_(j, text);
}

void json_bool(json *j, const char *key, bool value)
{
    key_of(j, key);
    puts_(j, value ? "true" : "false");
}

void json_null(json *j, const char *key)
{
    key_of(j, key);
    puts_(j, "null");
}

void json_raw(json *j, const char *key, const char *text)
{
    key_of(j, key);
    puts_(j, text);
}

void json_members(json *j, const char *object)
{
    const char *from = strchr(object, '{'), *to = strrchr(object, '}');

    if (!from || !to || to == from + 1) return;
    key_of(j, NULL);
    put(j, from + 1, (size_t)(to - from - 1));
}

void json_real(json *j, const char *key, double value)
{
    char text[64];

    if (isfinite(value)) {
        for (int digits = 6; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, value);
            if (strtod(text, NULL) == value) break;
        }
        key_of(j, key);
        puts_(j, text);
        return;
    }
    json_null(j, key);
    if (!key) return;
    snprintf(text, sizeof text, "%.40s_nonfinite", key);
    json_text(j, text, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

char *json_take(json *j)
{
    char *text;

    puts_(j, "\n");
    text = j->text;
    *j = (json){0};
    return text;
}
