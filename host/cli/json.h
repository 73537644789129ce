/* json.h - a JSON document, written as it goes: escapes, numbers without a locale, null for what
 * is not finite. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json {
    char *text; /* what was written so far; json_take hands it over */
    size_t size, room;
    int depth;
    bool comma; /* the next value needs one before it */
    bool line;  /* all of it on one line */
} json;

/* A key is NULL inside arrays and for the outermost value. */
void json_open(json *j, const char *key, char bracket);      /* '{' or '[' */
void json_close(json *j, char bracket);                      /* '}' or ']' */
void json_text(json *j, const char *key, const char *value); /* NULL: null */
void json_int(json *j, const char *key, int64_t value);
void json_bool(json *j, const char *key, bool value);
void json_null(json *j, const char *key);
/* A value that is JSON already. */
void json_raw(json *j, const char *key, const char *text);
/* The members of an object that is JSON already, as members here. */
void json_members(json *j, const char *object);
/* The shortest decimal that reads back as the same double. Not finite: null, and beside it
 * KEY_nonfinite: "nan", "inf" or "-inf". */
void json_real(json *j, const char *key, double value);
/* The document with a newline at its end; the caller frees it. */
char *json_take(json *j);

#endif
