/*
 * context.h - errors and host memory of a context: what every file of the library may use.
 */
#ifndef TI_CONTEXT_H
#define TI_CONTEXT_H

#include "tern/base.h"

/* Passes a bad status upward: the only macro with a return in it. */
#define TI_TRY(expr)                                                                               \
    do {                                                                                           \
        const tern_status ti_try_status = (expr);                                                  \
        if (ti_try_status != TERN_OK) return ti_try_status;                                        \
    } while (0)

/* Keeps the first failure, code and text together. Returns the context's status. */
__attribute__((format(printf, 3, 4))) tern_status ti_fail(tern_ctx *ctx, tern_status status,
                                                          const char *text, ...);
/* A line for TERN_LOG's topic; nothing is formatted if nobody asked. */
__attribute__((format(printf, 3, 4))) void ti_log(tern_ctx *ctx, const char *topic,
                                                  const char *text, ...);
bool ti_logs(const tern_ctx *ctx, const char *topic);

/* Host memory, zeroed; NULL and TERN_E_MEMORY when there is none. 0 bytes give a pointer, too. */
void *ti_alloc(tern_ctx *ctx, size_t bytes);
/* The same, not zeroed: for what is written whole at once. */
void *ti_alloc_as_is(tern_ctx *ctx, size_t bytes);
/* Room for entry n of a list of `cap`: the list, perhaps moved, or NULL (the old one stays). */
void *ti_grow_full(tern_ctx *ctx, void *list, int n, int *cap, size_t each); /* one without room */
static inline void *ti_grow(tern_ctx *ctx, void *list, int n, int *cap, size_t each)
{
    return n < *cap ? list : ti_grow_full(ctx, list, n, cap, each);
}
void ti_free(tern_ctx *ctx, void *p); /* NULL is legal */
char *ti_strdup(tern_ctx *ctx, const char *text);

/* Fault injection for the tests: the n-th allocation from now on fails (host and device counted
 * together); -1: none. `all`: those after it, too. */
void ti_fail_allocation(tern_ctx *ctx, long nth, bool all);
long ti_live_allocations(const tern_ctx *ctx);
/* Counts one allocation; false: it shall fail. */
bool ti_may_allocate(tern_ctx *ctx);

#endif
