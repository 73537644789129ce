/*
 * tune_file.c - the file of choices by the clock.
 *
 *   tern choices 1
 *   <call> <operation> <kernel> <nanoseconds> <device> <hash>
 *
 * One line a choice, fields apart by tabs; lines are only added. In place of a kernel it may be a
 * library's plan for a problem of its own. `call` is a hash of all that the choice depends on,
 * `hash` one of everything up to here, so that a file that was cut, changed or put together from
 * others is found out, and a prefix of it has a name. It is written aside and put in place. What
 * another process has added meanwhile is taken over.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/tune.h"

enum { LINE = 800, MOST = 100000, FIELDS = 6 };

static const char head[] = "tern choices 1";
static const uint64_t start = 14695981039346656037u;

static uint64_t hash_of(uint64_t hash, const char *text)
{
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

static uint64_t last_hash(const ti_tune *t) { return t->n ? t->all[t->n - 1].hash : start; }

/* A line without its hash. */
static void write_fields(char text[LINE], const ti_tuned *c)
{
    snprintf(text, LINE, "%016" PRIx64 "\t%s\t%s\t%.0f\t%s\t", c->key, c->op, c->kernel, c->ns,
             c->where);
}

static tern_status put(tern_ctx *ctx, ti_tune *t, const ti_tuned *c)
{
    ti_tuned *list = t->n < MOST ? ti_grow(ctx, t->all, t->n, &t->cap, sizeof *list) : NULL;
    char text[LINE];

    if (!list)
        return ctx->error ? ctx->error
                          : ti_fail(ctx, TERN_E_FORMAT, "%s: more than %d choices", t->path, MOST);
    t->all = list;
    write_fields(text, c);
    list[t->n] = *c;
    list[t->n].hash = hash_of(last_hash(t), text);
    t->n++;
    snprintf(t->stamp, sizeof t->stamp, "%d:%016" PRIx64, t->n, last_hash(t));
    return TERN_OK;
}

/* ---- Reading ---- */

static bool hex(const char *text, uint64_t *to)
{
    *to = strtoull(text, NULL, 16);
    return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16;
}

static bool name(const char *text, char *to, size_t room)
{
    if (!*text || strlen(text) >= room) return false;
    strcpy(to, text);
    return true;
}

/* One line, which is spoilt. NULL, or what is wrong with it. */
static const char *read_line(tern_ctx *ctx, ti_tune *t, char *text)
{
    char *field[FIELDS], *end;
    ti_tuned c = {0};
    uint64_t hash;
    int k = 0;

    while (k < FIELDS && text) {
        field[k++] = text;
        text = strchr(text, '\t');
        if (text) *text++ = '\0';
    }
    if (k != FIELDS || text) return "is no choice";
    if (!hex(field[0], &c.key) || !name(field[1], c.op, sizeof c.op) ||
        !name(field[2], c.kernel, sizeof c.kernel) || !name(field[4], c.where, sizeof c.where) ||
        !hex(field[5], &hash))
        return "is no choice";
    c.ns = strtod(field[3], &end);
    if (*end || !(c.ns >= 0 && c.ns < 1e15)) return "has no time";
    if (put(ctx, t, &c)) return "is one too many";
    return last_hash(t) == hash ? NULL : "is not what was written there";
}

static tern_status read_lines(tern_ctx *ctx, ti_tune *t, FILE *file)
{
    char text[LINE];
    int line = 0;

    while (fgets(text, sizeof text, file)) {
        char *end = strchr(text, '\n');
        const char *what = NULL;

        line++;
        if (!end) what = "does not end";
        else *end = '\0';
        if (!what && line == 1) what = strcmp(text, head) == 0 ? NULL : "is not \"tern choices 1\"";
        else if (!what) what = read_line(ctx, t, text);
        if (ctx->error) return ctx->error;
        if (what)
            return ti_fail(ctx, TERN_E_FORMAT, "%s:%d: this line %s: not a file of choices",
                           t->path, line, what);
    }
    if (ferror(file)) return ti_fail(ctx, TERN_E_IO, "%s: %s", t->path, strerror(errno));
    if (line == 0) return ti_fail(ctx, TERN_E_FORMAT, "%s: empty: not a file of choices", t->path);
    return TERN_OK;
}

tern_status ti_tune_read(tern_ctx *ctx, ti_tune *t)
{
    FILE *file = fopen(t->path, "re");

    snprintf(t->stamp, sizeof t->stamp, "0:%016" PRIx64, start);
    if (!file)
        return errno == ENOENT ? TERN_OK
                               : ti_fail(ctx, TERN_E_IO, "%s: %s", t->path, strerror(errno));
    (void)!read_lines(ctx, t, file);
    fclose(file);
    return ctx->error;
}

const ti_tuned *ti_tune_find(const ti_tune *t, uint64_t key)
{
    for (int i = 0; i < t->n; i++)
        if (t->all[i].key == key) return &t->all[i];
    return NULL;
}

int ti_tune_line(const ti_tune *t, const ti_tuned *choice) { return (int)(choice - t->all) + 2; }

/* ---- Writing ---- */

/* What others have added to the file since it was read. */
static tern_status take_over(tern_ctx *ctx, ti_tune *t)
{
    ti_tune now = {.n = 0};

    strcpy(now.path, t->path);
    if (ti_tune_read(ctx, &now)) goto out;
    t->lost = now.n < t->n || (t->n && now.all[t->n - 1].hash != last_hash(t));
    for (int i = t->n; i < now.n && !t->lost && !ctx->error; i++) (void)!put(ctx, t, &now.all[i]);
    if (t->lost) ti_log(ctx, "info", "%s is another file now: it is left alone", t->path);
out:
    ti_free(ctx, now.all);
    return ctx->error;
}

static tern_status write_all(tern_ctx *ctx, const ti_tune *t)
{
    char aside[TI_TUNE_PATH + 32], text[LINE];
    FILE *file;
    bool fine;

    snprintf(aside, sizeof aside, "%s.%ld", t->path, (long)getpid());
    file = fopen(aside, "we");
    fine = file != NULL;
    if (file) {
        fprintf(file, "%s\n", head);
        for (int i = 0; i < t->n; i++) {
            write_fields(text, &t->all[i]);
            fprintf(file, "%s%016" PRIx64 "\n", text, t->all[i].hash);
        }
        fine = fflush(file) == 0 && fsync(fileno(file)) == 0;
        fine = fclose(file) == 0 && fine;
        fine = fine && rename(aside, t->path) == 0;
    }
    if (fine) return TERN_OK;
    (void)!ti_fail(ctx, TERN_E_IO, "%s: %s", t->path, strerror(errno));
    if (file) (void)remove(aside);
    return ctx->error;
}

const ti_tuned *ti_tune_add(tern_ctx *ctx, ti_tune *t, const ti_tuned *choice)
{
    const ti_tuned *there;

    if (!t->lost && take_over(ctx, t)) return NULL;
    if ((there = ti_tune_find(t, choice->key)) != NULL) return there;
    if (put(ctx, t, choice)) return NULL;
    t->n_timed++;
    if (!t->lost && write_all(ctx, t)) return NULL;
    return &t->all[t->n - 1];
}
