/*
 * emulator.h - what a test may ask of the simt device: the functions of simt/control.h, found in
 * the plug-in that a context has opened.
 */
#ifndef TC_EMULATOR_H
#define TC_EMULATOR_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/core.h"
#include "simt/control.h"

typedef struct {
    int (*errors)(void), (*checked)(void);
    const char *(*last_error)(void);
    void (*errors_clear)(void), (*seed)(unsigned), (*fail_creation)(long), (*fail_kernel)(long);
    void (*on_report)(void (*report)(const char *text, void *data), void *data);
    void (*skip_kernels)(int on);
    void (*limit_memory)(size_t bytes), (*mark)(void *p, size_t bytes, int live, void *stream);
    long (*creations)(void);
    size_t (*live_bytes)(void);
    simt_stats (*work_done)(void);
} tc_emulator;

static inline void *tc_symbol(tern_ctx *ctx, const char *name)
{
    void *p = ctx->plugin ? dlsym(ctx->plugin, name) : NULL;

    cr_assert(p != NULL, "the plug-in of %s has no %s", tern_device(ctx), name);
    return p;
}

static inline tc_emulator tc_emulator_of(tern_ctx *ctx)
{
    tc_emulator e;

    *(void **)&e.errors = tc_symbol(ctx, "simt_errors");
    *(void **)&e.checked = tc_symbol(ctx, "simt_checked");
    *(void **)&e.last_error = tc_symbol(ctx, "simt_last_error");
    *(void **)&e.errors_clear = tc_symbol(ctx, "simt_errors_clear");
    *(void **)&e.seed = tc_symbol(ctx, "simt_seed");
    *(void **)&e.fail_creation = tc_symbol(ctx, "simt_fail_creation");
    *(void **)&e.fail_kernel = tc_symbol(ctx, "simt_fail_kernel");
    *(void **)&e.skip_kernels = tc_symbol(ctx, "simt_skip_kernels");
    *(void **)&e.on_report = tc_symbol(ctx, "simt_on_report");
    *(void **)&e.limit_memory = tc_symbol(ctx, "simt_limit_memory");
    *(void **)&e.mark = tc_symbol(ctx, "simt_mark");
    *(void **)&e.creations = tc_symbol(ctx, "simt_creations");
    *(void **)&e.live_bytes = tc_symbol(ctx, "simt_live_bytes");
    *(void **)&e.work_done = tc_symbol(ctx, "simt_work_done");
    return e;
}

/* Threads and streams in the order that TC_SEED says, if it does. */
static inline void tc_shuffle(tern_ctx *ctx)
{
    const char *seed = getenv("TC_SEED");

    if (seed) tc_emulator_of(ctx).seed((unsigned)atoi(seed));
}

/* The emulator has nothing to say against what ran so far. In the checked build it must have
 * looked: at `least` accesses at the least. */
static inline void tc_clean(tern_ctx *ctx, unsigned long long least)
{
    const tc_emulator e = tc_emulator_of(ctx);
    const unsigned long long n = e.work_done().accesses;

    cr_expect(e.errors() == 0, "%d reports, the last: %s", e.errors(), e.last_error());
#ifdef TC_CHECKED
    cr_expect(e.checked() == 1, "these kernels are not instrumented");
    cr_expect(n >= least, "the checker looked at %llu accesses only", n);
    fprintf(stderr, "checked: %llu accesses of kernels\n", n);
#else
    cr_expect(e.checked() == 0 && n == 0, "%llu accesses looked at (%llu)", n, least);
#endif
}

#endif
