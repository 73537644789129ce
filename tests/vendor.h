/*
 * vendor.h - what the tests of rows by cuBLASLt and cuDNN share: the stand-ins, a log, operands.
 */
#ifndef TC_VENDOR_H
#define TC_VENDOR_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "simt/shim_control.h"
#include "tern/tern.h"

typedef struct {
    void *lib;
    void (*behave)(int how);
    long (*calls)(void);
} shim;

/* Once it is in the process, the plug-in finds it by its soname. False, and said: not built. */
static inline bool shim_open(shim *s, const char *path)
{
    s->lib = path[0] ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!s->lib) {
        fprintf(stderr, "SKIPPED: no stand-in: %s\n", path[0] ? dlerror() : "not built");
        cr_skip_test("no stand-in");
        return false;
    }
    *(void **)&s->behave = dlsym(s->lib, "shim_behave");
    *(void **)&s->calls = dlsym(s->lib, "shim_calls");
    cr_assert(s->behave && s->calls);
    s->behave(SHIM_RIGHT);
    setenv("XDG_CACHE_HOME", "", 1); /* the user's plans are not ours */
    setenv("HOME", "", 1);
    return tc_has("simt");
}

/* The log of a context. */
typedef struct {
    char text[60000];
} memory;

static inline void note(void *user, const char *topic, const char *text)
{
    memory *m = user;
    const size_t n = strlen(m->text);

    snprintf(m->text + n, sizeof m->text - n, "%s: %s\n", topic, text);
}

static inline tern_ctx *open_simt(memory *m)
{
    setenv("TERN_LOG", "info,dispatch", 1);
    tern_ctx *ctx = tc_open("simt");

    unsetenv("TERN_LOG");
    m->text[0] = 0;
    tern_log_to(ctx, note, m);
    return ctx;
}

static inline tern_tensor *draw(tern_ctx *ctx, tern_type type, uint64_t seed, tern_shape s)
{
    double *x = malloc(((size_t)tern_count(s) + 1) * sizeof *x);

    for (int64_t i = 0; i < tern_count(s); i++) x[i] = (float)(2 * tc_uniform(&seed) - 1);
    tern_tensor *t = tern_from_doubles(ctx, type, x, s);
    free(x);
    return t;
}

static inline void near(tern_ctx *ctx, tern_tensor *a, tern_ctx *other, tern_tensor *b,
                        double allowed)
{
    double *x = tc_doubles(ctx, a), *y = tc_doubles(other, b);

    for (int64_t i = 0; i < tern_count(tern_shape_of(a)); i++)
        cr_assert(fabs(x[i] - y[i]) <= allowed, "[%d]: %.9g and %.9g", (int)i, x[i], y[i]);
    free(x);
    free(y);
}

#endif
