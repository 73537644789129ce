/*
 * object.h - what files, data sets and loaders share: checked arguments, and an owner.
 *
 * An object begins with a ti_object. Its own close function frees it, else the context does when
 * it closes, the newest first.
 */
#ifndef TI_OBJECT_H
#define TI_OBJECT_H

#include "core/context.h"

typedef struct ti_object ti_object;
struct ti_object {
    ti_object *next, *prev; /* a ring through the list, which the context holds */
    void (*end)(tern_ctx *ctx, ti_object *object);
};

/* A zeroed object of that size; NULL after a failure. */
void *ti_object_new(tern_ctx *ctx, size_t bytes, void (*end)(tern_ctx *, ti_object *));
/* Puts an object from ti_alloc on the list. Cannot fail once another object has made the list. */
void ti_object_own(tern_ctx *ctx, ti_object *object, void (*end)(tern_ctx *, ti_object *));
/* Takes it off the list, calls its `end`, frees it. NULL is legal. */
void ti_object_close(tern_ctx *ctx, void *object);

/* Whether a public function may begin: no earlier failure, and its required arguments are there. */
bool ti_ready(tern_ctx *ctx, bool arguments, const char *function);

#endif
