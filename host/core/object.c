/* object.c - objects that the context owns. */
#include "core/object.h"

#include "core/core.h"

static void close_all(tern_ctx *ctx, void *user)
{
    ti_object *head = user;

    while (head->next != head) ti_object_close(ctx, head->next);
    ti_free(ctx, head);
}

/* The context's list, made at the first use. */
static ti_object *list_of(tern_ctx *ctx)
{
    for (ti_closer *c = ctx->closers; c; c = c->next)
        if (c->fn == close_all) return c->user;
    ti_object *head = ti_alloc(ctx, sizeof *head);

    if (!head) return NULL;
    head->next = head->prev = head;
    if (tern_on_close(ctx, close_all, head) == TERN_OK) return head;
    ti_free(ctx, head);
    return NULL;
}

void ti_object_own(tern_ctx *ctx, ti_object *o, void (*end)(tern_ctx *, ti_object *))
{
    ti_object *head = list_of(ctx);

    *o = (ti_object){head->next, head, end};
    head->next->prev = o;
    head->next = o;
}

void *ti_object_new(tern_ctx *ctx, size_t bytes, void (*end)(tern_ctx *, ti_object *))
{
    ti_object *o = list_of(ctx) ? ti_alloc(ctx, bytes) : NULL;

    if (o) ti_object_own(ctx, o, end);
    return o;
}

void ti_object_close(tern_ctx *ctx, void *object)
{
    ti_object *o = object;

    if (!ctx || !o) return;
    o->next->prev = o->prev;
    o->prev->next = o->next;
    if (o->end) o->end(ctx, o);
    ti_free(ctx, o);
}

bool ti_ready(tern_ctx *ctx, bool arguments, const char *function)
{
    if (!ctx || tern_error(ctx) != TERN_OK) return false;
    if (!arguments) ti_fail(ctx, TERN_E_ARGUMENT, "%s: a required argument is NULL", function);
    return arguments;
}
