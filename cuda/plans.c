/*
 * plans.c - which engine of cuDNN was taken for a convolution, kept from one process to the next.
 *
 *   tern plans 1
 *   conv <graph> <type> <repeatable|varying> <math> <processors> <cuDNN> <engine> <knobs> <device>
 *
 * One line a plan, fields apart by tabs: a hash of the convolution, its type, whether its results
 * may vary from run to run, its math mode, the device and the library's version are the key; engine
 * and knobs (kind=value, by commas; - for none) the plan. It is $XDG_CACHE_HOME/tern/plans, or
 * under $HOME/.cache; TERN_DISABLE=plans leaves it alone. A file that is not exactly this is not
 * used, which is told with its line; a plan out of it passes the same filters and the same trial as
 * any other. A new one is written at once: beside the file, then in its place. What is lost in a
 * crash is chosen again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "dnn.h"

enum {
    MOST_BYTES = 4 << 20,
    MOST_PLANS = 20000,
    MOST_ENGINE = 1000000,
    FIELDS = 10,
    NAME = 128,
    PATH = 1024,
    KNOBS = TI_KNOBS * 42
};

static const char head[] = "tern plans 1";

typedef struct entry {
    struct entry *next;
    uint64_t graph, version;
    int type, math, varies, processors, line; /* line: in the file; 0: new */
    char device[NAME];
    ti_engine engine;
} entry;

struct ti_plan_file {
    char path[PATH], device[NAME];
    uint64_t version;
    entry *all;
    int n;
};

/* ---- Reading ---- */

/* Digits only, at most `most`. */
static bool number(const char *text, uint64_t most, uint64_t *to)
{
    char *end;

    errno = 0;
    *to = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == 0 && errno == 0 && *to <= most;
}

static bool read_knobs(char *text, ti_engine *e)
{
    if (strcmp(text, "-") == 0) return true;
    while (*text) {
        char *equals = strchr(text, '='), *comma = strchr(text, ',');
        uint64_t kind, value;

        if (!equals || (comma && comma < equals) || e->n_knob == TI_KNOBS) return false;
        *equals = 0;
        if (comma) *comma = 0;
        if (!number(text, 1000, &kind) || !number(equals + 1, INT64_MAX, &value)) return false;
        for (int i = 0; i < e->n_knob; i++)
            if (e->knob[i] == (int64_t)kind) return false;
        e->knob[e->n_knob] = (int64_t)kind;
        e->value[e->n_knob++] = (int64_t)value;
        if (comma && !comma[1]) return false;
        text = comma ? comma + 1 : text + strlen(text) + 1 + strlen(equals + 1);
        if (!comma) break;
    }
    return e->n_knob > 0;
}

/* False: no room. */
static bool write_knobs(const ti_engine *e, char *to, size_t room)
{
    size_t n = 0;

    for (int i = 0; i < e->n_knob && n < room; i++)
        n += (size_t)snprintf(to + n, room - n, "%s%lld=%lld", i ? "," : "", (long long)e->knob[i],
                              (long long)e->value[i]);
    if (e->n_knob == 0) n = (size_t)snprintf(to, room, "-");
    return n < room;
}

bool ti_engine_text(const ti_engine *e, char *to, size_t room)
{
    const size_t n = (size_t)snprintf(to, room, "%lld:", (long long)e->engine);

    return n < room && write_knobs(e, to + n, room - n);
}

bool ti_engine_read(const char *text, ti_engine *to)
{
    char copy[TI_PLAN_TEXT], *knobs;
    uint64_t engine;

    memset(to, 0, sizeof *to);
    if (strlen(text) >= sizeof copy) return false;
    strcpy(copy, text);
    if (!(knobs = strchr(copy, ':'))) return false;
    *knobs++ = 0;
    if (!number(copy, MOST_ENGINE, &engine) || !read_knobs(knobs, to)) return false;
    to->engine = (int64_t)engine;
    return true;
}

/* One line, which is spoilt. NULL, or what is wrong with it. */
static const char *read_line(char *text, entry *e)
{
    char *field[FIELDS], *end;
    uint64_t n;
    int k = 0;

    while (k < FIELDS && text) {
        field[k++] = text;
        text = k < FIELDS ? strchr(text, '\t') : NULL;
        if (text) *text++ = 0;
    }
    if (k != FIELDS || strcmp(field[0], "conv") != 0) return "is no plan";
    e->graph = strtoull(field[1], &end, 16);
    if (strlen(field[1]) != 16 || strspn(field[1], "0123456789abcdef") != 16)
        return "has no hash of a graph";
    e->type = (int)tern_type_named(field[2]);
    if (e->type != TERN_F32 && e->type != TERN_F64) return "has no type that is computed";
    e->varies = strcmp(field[3], "varying") == 0;
    if (!e->varies && strcmp(field[3], "repeatable") != 0)
        return "says not whether it is repeatable";
    e->math = strcmp(field[4], "f32") == 0 ? TI_MATH_F32 : TI_MATH_TF32;
    if (e->math != TI_MATH_F32 && strcmp(field[4], "tf32") != 0) return "has no math mode";
    if (!number(field[5], 100000, &n)) return "has no number of processors";
    e->processors = (int)n;
    if (!number(field[6], 10000000, &e->version)) return "has no version of cuDNN";
    if (!number(field[7], MOST_ENGINE, &n)) return "has no engine";
    e->engine.engine = (int64_t)n;
    if (!read_knobs(field[8], &e->engine)) return "has no knobs";
    if (!field[9][0] || strlen(field[9]) >= NAME) return "has no device";
    snprintf(e->device, sizeof e->device, "%s", field[9]);
    return NULL;
}

static void forget(struct ti_plan_file *f)
{
    while (f->all) {
        entry *e = f->all;

        f->all = e->next;
        ti_cuda_host_free(e);
    }
    f->n = 0;
}

static entry *add(struct ti_plan_file *f, const entry *from)
{
    entry *e = f->n < MOST_PLANS ? ti_cuda_host_alloc(sizeof *e) : NULL;

    if (!e) return NULL;
    *e = *from;
    e->next = f->all;
    f->all = e;
    f->n++;
    return e;
}

/* The lines of `text`, n bytes; the first that is wrong, or 0, and what is wrong. */
static int read_lines(struct ti_plan_file *f, char *text, size_t n, const char **what)
{
    int line = 0;

    for (char *at = text, *end; at < text + n; at = end + 1) {
        entry e = {.line = ++line};

        end = memchr(at, '\n', (size_t)(text + n - at));
        *what = "does not end";
        if (!end) return line;
        *end = 0;
        *what = "holds a zero byte";
        if (strlen(at) != (size_t)(end - at)) return line;
        *what = line == 1 ? (strcmp(at, head) == 0 ? NULL : "is not \"tern plans 1\"")
                          : read_line(at, &e);
        if (*what) return line;
        if (line == 1) continue;
        *what = "is one too many, or there is no memory";
        if (!add(f, &e)) return line;
    }
    *what = "is missing";
    return line == 0 ? 1 : 0;
}

/* All plans of the file into f; one that is not there is empty. */
static void read_file(ti_device *d, struct ti_plan_file *f)
{
    FILE *file = fopen(f->path, "rb");
    char *text = file ? ti_cuda_host_alloc(MOST_BYTES + 1) : NULL;
    const char *what;

    if (!file) return;
    const size_t n = text ? fread(text, 1, MOST_BYTES + 1, file) : 0;
    const bool failed = ferror(file) != 0;
    fclose(file);
    if (!text || failed || n > MOST_BYTES)
        ti_vendor_tell(d, "%.200s: not used: %s", f->path,
                       !text    ? "no memory"
                       : failed ? "it cannot be read"
                                : "more than 4 MiB");
    else {
        const int line = read_lines(f, text, n, &what);

        if (line) {
            forget(f);
            ti_vendor_tell(d, "%.200s:%d: not used: this line %s", f->path, line, what);
        }
    }
    ti_cuda_host_free(text);
}

/* ---- Opening ---- */

static bool find_path(char path[PATH])
{
    const char *cache = ti_env_get("XDG_CACHE_HOME"), *home = ti_env_get("HOME");
    int n;

    if (cache && cache[0] == '/') n = snprintf(path, PATH, "%s/tern/plans", cache);
    else if (home && home[0] == '/') n = snprintf(path, PATH, "%s/.cache/tern/plans", home);
    else return false;
    return n < PATH - 32;
}

/* The device's file, read at the first call; NULL: there is none. */
static struct ti_plan_file *file_of(ti_device *d)
{
    struct cudaDeviceProp properties;
    const char *why;
    const ti_cudnn *api = ti_cudnn_of(d, NULL, &why);
    struct ti_plan_file *f = d->plan_file;

    if (f || !api || ti_listed(d->disabled, "plans")) return f;
    f = ti_cuda_host_alloc(sizeof *f);
    if (!f || !find_path(f->path) ||
        cudaGetDeviceProperties(&properties, d->index) != cudaSuccess) {
        ti_cuda_host_free(f);
        return NULL;
    }
    snprintf(f->device, sizeof f->device, "%.100s", properties.name);
    for (char *p = f->device; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
    f->version = api->version();
    read_file(d, f);
    return d->plan_file = f;
}

/* ---- Finding and adding ---- */

static entry key_of(const ti_device *d, const struct ti_plan_file *f, const ti_conv *c)
{
    entry e = {.graph = 14695981039346656037u,
               .version = f->version,
               .type = c->type,
               .math = c->math,
               .varies = c->varies,
               .processors = d->n_processors};
    const unsigned char *p = (const unsigned char *)c;

    for (size_t i = 0; i < sizeof *c; i++) e.graph = (e.graph ^ p[i]) * 1099511628211u;
    snprintf(e.device, sizeof e.device, "%s", f->device);
    return e;
}

static bool same(const entry *a, const entry *b)
{
    return a->graph == b->graph && a->version == b->version && a->type == b->type &&
           a->math == b->math && a->varies == b->varies && a->processors == b->processors &&
           !strcmp(a->device, b->device);
}

bool ti_plans_find(ti_device *d, const ti_conv *c, ti_engine *to, char where[TI_VENDOR_TEXT])
{
    const struct ti_plan_file *f = file_of(d);

    if (!f) return false;
    const entry key = key_of(d, f, c);
    for (const entry *e = f->all; e; e = e->next)
        if (same(e, &key)) {
            *to = e->engine;
            snprintf(where, TI_VENDOR_TEXT, "%.200s:%d", f->path, e->line);
            return true;
        }
    return false;
}

/* ---- Writing ---- */

static void write_plan(FILE *to, const entry *e)
{
    char knobs[KNOBS];

    (void)write_knobs(&e->engine, knobs, sizeof knobs);
    fprintf(to, "conv\t%016llx\t%s\t%s\t%s\t%d\t%llu\t%lld\t%s\t%s\n", (unsigned long long)e->graph,
            tern_type_name((tern_type)e->type), e->varies ? "varying" : "repeatable",
            e->math == TI_MATH_F32 ? "f32" : "tf32", e->processors, (unsigned long long)e->version,
            (long long)e->engine.engine, knobs, e->device);
}

static void make_folders(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = 0;
        (void)mkdir(path, 0777); /* what is there already stays; what fails shows when opening */
    }
}

/* What others have written meanwhile stays, but for our own new plans. */
static void write_file(ti_device *d, struct ti_plan_file *f)
{
    struct ti_plan_file now = {.n = 0};
    char aside[PATH + 64];
    bool fine;

    make_folders(f->path);
    memcpy(now.path, f->path, sizeof now.path);
    read_file(d, &now);
    snprintf(aside, sizeof aside, "%s.%ld.%p", f->path, (long)getpid(), (void *)f);
    FILE *to = fopen(aside, "wb");
    fine = to != NULL;
    if (fine) {
        fprintf(to, "%s\n", head);
        for (const entry *e = f->all; e; e = e->next)
            if (e->line == 0) write_plan(to, e);
        for (const entry *e = now.all; e; e = e->next) {
            const entry *mine = f->all;

            while (mine && !(mine->line == 0 && same(mine, e))) mine = mine->next;
            if (!mine) write_plan(to, e);
        }
        fine = !ferror(to);
        fine = fclose(to) == 0 && fine;
        fine = fine && rename(aside, f->path) == 0;
        if (!fine) (void)remove(aside);
    }
    if (!fine) ti_vendor_tell(d, "%.200s: not written: %.60s", f->path, strerror(errno));
    forget(&now);
}

void ti_plans_add(ti_device *d, const ti_conv *c, const ti_engine *engine)
{
    struct ti_plan_file *f = file_of(d);

    if (!f) return;
    const entry key = key_of(d, f, c);
    entry *e = f->all;
    while (e && !same(e, &key)) e = e->next;
    if (e && memcmp(&e->engine, engine, sizeof *engine) == 0) return;
    if (!e) e = add(f, &key);
    if (!e) return;
    e->engine = *engine;
    e->line = 0;
    write_file(d, f);
}

void ti_plans_close(ti_device *d)
{
    struct ti_plan_file *f = d->plan_file;

    if (!f) return;
    forget(f);
    ti_cuda_host_free(f);
    d->plan_file = NULL;
}
