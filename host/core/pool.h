/*
 * pool.h - the memory pool of one device, over the backend's alloc and free.
 *
 * Size classes, split and coalesce, blocks tagged by stream and reused in its order. A request that
 * finds nothing free takes a new segment from the device; if the device has none, the cache is
 * emptied and it tries once more. Locked: any thread may call.
 */
#ifndef TI_POOL_H
#define TI_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tern/base.h"

typedef struct ti_pool ti_pool;
typedef struct ti_block {
    char *data;   /* 64-byte aligned at least */
    size_t bytes; /* as asked for */
} ti_block;

/* The device's allocator. alloc gives NULL when it has none; 64-byte alignment at least. */
typedef struct {
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *p, size_t bytes);
    /* For checkers: told of each block of more than 0 bytes that is handed out (live) or taken
     * back; what lies outside of live blocks is not to be touched. May be NULL. */
    void (*mark)(void *user, void *p, size_t bytes, bool live);
    /* Bytes it could still give; NULL where it cannot say. */
    size_t (*room)(void *user);
    void *user;
} ti_memory;

ti_pool *ti_pool_open(const ti_memory *memory); /* NULL without host memory */
void ti_pool_close(ti_pool *pool);              /* gives all segments back; NULL is legal */
/* who: names the holder in explanations; borrowed, must live as long as the pool. 0 bytes are
 * legal. NULL: no memory, or over the cap. */
ti_block *ti_pool_alloc(ti_pool *pool, size_t bytes, int stream, const char *who);
void ti_pool_free(ti_pool *pool, ti_block *block); /* NULL is legal */
/* Tells checkers of a part of a block that is no block of its own; whether there are any. */
void ti_pool_mark(ti_pool *pool, void *p, size_t bytes, bool live);
bool ti_pool_watched(const ti_pool *pool);
/* Bytes that the device could still give; 0 where it cannot say. */
size_t ti_pool_room(const ti_pool *pool);
void ti_pool_trim(ti_pool *pool); /* free segments go back to the device */
void ti_pool_cap(ti_pool *pool, size_t bytes);
void ti_pool_stats(ti_pool *pool, tern_memory *stats);
void ti_pool_peak_reset(ti_pool *pool);
/* As tern_memory_holders. */
int ti_pool_holders(ti_pool *pool, tern_holder *holder, int most);
/* pool_text.c: why a request failed: the largest holders, the largest free block, fragmentation,
 * the cap. */
void ti_pool_explain(ti_pool *pool, size_t bytes, char *text, size_t room);

#endif
