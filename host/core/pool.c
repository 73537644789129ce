/*
 * pool.c - the memory pool of one device.
 *
 * Memory comes from the device in segments and is cut into chunks, which lie in address order; free
 * neighbours are one chunk. Free chunks hang in lists by size class (64-byte units, sixteen classes
 * for each doubling), a bitmap finds the next class that has one. Small requests share segments
 * that grow with the pool, large ones get segments of their own size, so a small long-lived block
 * never pins a large segment. The smallest ones come and go with every eager operation: freed, they
 * wait for a request of their size, and are joined with their neighbours before the next request of
 * another size, or when somebody looks. A chunk freed on a stream serves that stream only: its
 * order makes the reuse safe. Book-keeping lies in host memory, since the host may not be able to
 * touch the device's.
 *
 * A segment that would take the pool past its budget (peak use and 1/13) is paid for with
 * free segments first, so that steps of many sizes do not pile up segments of all of them. Where
 * that goes on - as much as the peak was given back and the peak has not risen - the steps need
 * more than the budget by turns, for want of a better fit: from then on they keep what they have.
 */
#include "core/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNIT = 64,
    STEPS = 16, /* size classes for each doubling */
    CLASSES = 40 * STEPS,
    WORDS = CLASSES / 64,
    PART = 256,             /* from 1/256 of the peak use on … */
    LEAST_LARGE = 16 << 10, /* … and at least this … */
    MOST_LARGE = 64 << 10,  /* … at most this, a request gets a segment of its own size */
    PAGE = 4096,
    LEAST_SEGMENT = 64 << 10, /* of small requests: 1/32 of the pool, at least this … */
    MOST_SEGMENT = 8 << 20,   /* … and at most this */
    SLACK = 13,               /* the budget is 1/13 more than the peak use */
    QUICK = 16,               /* units: freed chunks of at most this size wait for the next one */
    LOOK = 24,                /* free chunks looked at in a class for the best fit */
    SPARES = 64               /* records allocated at once */
};

typedef struct chunk chunk;
typedef struct segment segment;
typedef struct lane lane;

struct chunk {
    ti_block block; /* first: the caller's handle */
    size_t size;
    chunk *left, *right;   /* neighbours in the segment */
    chunk *before, *after; /* in the list of its class, while it is free */
    segment *home;
    const char *who; /* NULL: free; `waiting`: freed, but not yet joined with its neighbours */
};

static const char waiting[] = "waiting";

struct segment {
    segment *next, **link;
    lane *owner;
    char *base;
    size_t bytes;
    chunk *first;
};

/* The free chunks of one stream, small or large. */
struct lane {
    lane *next;
    int stream;
    bool large;
    uint64_t some[WORDS]; /* classes that have one */
    chunk *list[CLASSES];
    chunk *quick[QUICK + 1]; /* those that wait, by size, by `after` */
};

typedef struct spares {
    struct spares *next;
    chunk of[SPARES];
} spares;

struct ti_pool {
    pthread_mutex_t lock;
    ti_memory memory;
    lane *lanes;
    segment *segments;
    chunk *spare; /* unused records, by `after` */
    spares *slabs;
    tern_memory stats;
    size_t top;   /* most use that the budget has seen */
    size_t given; /* bytes given back to keep to the budget since then */
    size_t kept;  /* what may stay reserved, whatever the budget */
    long n_waiting;
};

/* The class of a size: exact below 16 units, then sixteen for each doubling. */
static int class_of(size_t size)
{
    const uint64_t u = size / UNIT;

    if (u < STEPS) return (int)u;
    const int top = 63 - __builtin_clzll(u);
    const int i = (top - 3) * STEPS + (int)(u >> (top - 4) & (STEPS - 1));
    return i < CLASSES ? i : CLASSES - 1;
}

static chunk *spare_record(ti_pool *p)
{
    chunk *c;

    if (!p->spare) {
        spares *s = calloc(1, sizeof *s);
        if (!s) return NULL;
        s->next = p->slabs;
        p->slabs = s;
        for (int i = 0; i < SPARES; i++) {
            s->of[i].after = p->spare;
            p->spare = &s->of[i];
        }
    }
    c = p->spare;
    p->spare = c->after;
    *c = (chunk){0};
    return c;
}

static void give_record(ti_pool *p, chunk *c)
{
    c->after = p->spare;
    p->spare = c;
}

static void list_in(chunk *c)
{
    lane *l = c->home->owner;
    const int i = class_of(c->size);

    c->who = NULL;
    c->before = NULL;
    c->after = l->list[i];
    if (c->after) c->after->before = c;
    l->list[i] = c;
    l->some[i / 64] |= (uint64_t)1 << i % 64;
}

static void list_out(chunk *c)
{
    lane *l = c->home->owner;
    const int i = class_of(c->size);

    if (c->after) c->after->before = c->before;
    if (c->before) c->before->after = c->after;
    else l->list[i] = c->after;
    if (!l->list[i]) l->some[i / 64] &= ~((uint64_t)1 << i % 64);
}

/* The smallest of the first few in a class that has room. */
static chunk *best_in(const lane *l, int i, size_t size)
{
    chunk *best = NULL;
    int n = 0;

    for (chunk *c = l->list[i]; c && n < LOOK; c = c->after, n++) {
        if (c->size == size) return c;
        if (c->size > size && (!best || c->size < best->size)) best = c;
    }
    return best;
}

static chunk *find(const lane *l, size_t size)
{
    int i = class_of(size);
    chunk *c = best_in(l, i, size);

    if (c || ++i >= CLASSES) return c;
    uint64_t word = l->some[i / 64] >> i % 64 << i % 64;
    for (int w = i / 64;; word = l->some[w]) {
        if (word) return best_in(l, w * 64 + __builtin_ctzll(word), size);
        if (++w == WORDS) return NULL;
    }
}

static lane *lane_of(ti_pool *p, int stream, bool large)
{
    lane *l = p->lanes;

    while (l && (l->stream != stream || l->large != large)) l = l->next;
    if (!l && (l = calloc(1, sizeof *l)) != NULL) {
        l->stream = stream;
        l->large = large;
        l->next = p->lanes;
        p->lanes = l;
    }
    return l;
}

static bool is_free(const segment *s) { return !s->first->who && !s->first->right; }

static void release(ti_pool *p, segment *s)
{
    list_out(s->first);
    give_record(p, s->first);
    *s->link = s->next;
    if (s->next) s->next->link = s->link;
    p->memory.free(p->memory.user, s->base, s->bytes);
    p->stats.reserved -= s->bytes;
    free(s);
}

/* left takes in its right neighbour. */
static chunk *merge(ti_pool *p, chunk *left)
{
    chunk *gone = left->right;

    left->size += gone->size;
    left->right = gone->right;
    if (left->right) left->right->left = left;
    give_record(p, gone);
    return left;
}

/* A chunk that nobody has any more: one with its free neighbours, in the list of its class. */
static void put_back(ti_pool *p, chunk *c)
{
    if (c->right && !c->right->who) {
        list_out(c->right);
        merge(p, c);
    }
    if (c->left && !c->left->who) {
        list_out(c->left);
        c = merge(p, c->left);
    }
    list_in(c);
}

/* Chunks that wait are put back. */
static void settle(ti_pool *p)
{
    for (lane *l = p->lanes; l && p->n_waiting; l = l->next)
        for (int i = 0; i <= QUICK; i++)
            while (l->quick[i]) {
                chunk *c = l->quick[i];
                l->quick[i] = c->after;
                p->n_waiting--;
                put_back(p, c);
            }
}

/* Gives free segments back until the device memory is at most `most`. */
static void shrink(ti_pool *p, size_t most)
{
    settle(p);
    for (segment *s = p->segments, *next; s && p->stats.reserved > most; s = next) {
        next = s->next;
        if (is_free(s)) release(p, s);
    }
}

static segment *new_segment(ti_pool *p, lane *l, size_t bytes)
{
    segment *s = calloc(1, sizeof *s);
    chunk *c = s ? spare_record(p) : NULL;

    if (!c) {
        free(s);
        return NULL;
    }
    s->base = p->memory.alloc(p->memory.user, bytes);
    if (!s->base) { /* empty the cache, try once more */
        shrink(p, 0);
        s->base = p->memory.alloc(p->memory.user, bytes);
    }
    if (!s->base) {
        give_record(p, c);
        free(s);
        return NULL;
    }
    s->owner = l;
    s->bytes = bytes;
    s->first = c;
    *c = (chunk){.block.data = s->base, .size = bytes, .home = s};
    s->next = p->segments;
    s->link = &p->segments;
    if (s->next) s->next->link = &s->next;
    p->segments = s;
    list_in(c);
    p->stats.n_device_alloc++;
    p->stats.reserved += bytes;
    if (p->stats.reserved > p->stats.peak_reserved) p->stats.peak_reserved = p->stats.reserved;
    return s;
}

static size_t round_up(size_t x, size_t to) { return (x + to - 1) / to * to; }

/* What may be reserved while `use` bytes are in use. */
static size_t budget(const ti_pool *p, size_t use)
{
    if (use < p->stats.peak) use = p->stats.peak;
    use += use / SLACK;
    return use > p->kept ? use : p->kept;
}

/* Before a segment of `bytes` comes, with which `use` bytes will be in use. */
static void keep_to_budget(ti_pool *p, size_t use, size_t bytes)
{
    const size_t before = p->stats.reserved, most = budget(p, use);

    if (use < p->stats.peak) use = p->stats.peak;
    if (use > p->top) {
        p->top = use;
        p->given = 0;
    }
    if (before + bytes <= most) return;
    if (p->given > use && before + bytes <= 2 * use) {
        p->kept = before + bytes;
        p->given = 0;
        return;
    }
    shrink(p, most > bytes ? most - bytes : 0);
    p->given += before - p->stats.reserved;
}

/* A chunk of a new segment; free segments make room for it where budget or cap demand that. */
static chunk *from_device(ti_pool *p, lane *l, size_t size)
{
    const tern_memory *st = &p->stats;
    size_t bytes = round_up(size, PAGE), most = st->reserved / 32;

    if (!l->large) {
        most = most < LEAST_SEGMENT ? LEAST_SEGMENT : most > MOST_SEGMENT ? MOST_SEGMENT : most;
        if (bytes < most) bytes = round_up(most, PAGE);
    }
    keep_to_budget(p, st->live + size, bytes);
    if (st->cap && st->reserved + bytes > st->cap) {
        bytes = round_up(size, UNIT);
        shrink(p, st->cap > bytes ? st->cap - bytes : 0);
        if (st->reserved + bytes > st->cap) return NULL;
    }
    segment *s = new_segment(p, l, bytes);
    if (!s && bytes > size) s = new_segment(p, l, round_up(size, UNIT));
    return s ? s->first : NULL;
}

/* What a free chunk has too much stays free. Without a record for it the block is larger. */
static void split(ti_pool *p, chunk *c, size_t size)
{
    chunk *rest = c->size > size ? spare_record(p) : NULL;

    if (!rest) return;
    *rest = (chunk){.block.data = c->block.data + size,
                    .size = c->size - size,
                    .left = c,
                    .right = c->right,
                    .home = c->home};
    if (rest->right) rest->right->left = rest;
    c->right = rest;
    c->size = size;
    list_in(rest);
}

/* From here on a request is a large one. */
static size_t large_from(const ti_pool *p)
{
    const size_t part = p->top / PART;

    return part < LEAST_LARGE ? LEAST_LARGE : part > MOST_LARGE ? MOST_LARGE : part;
}

/* One that waits for just this request, or NULL. */
static chunk *take_quick(ti_pool *p, lane *l, size_t size)
{
    chunk *c = size <= QUICK * UNIT ? l->quick[size / UNIT] : NULL;

    if (!c) return NULL;
    l->quick[size / UNIT] = c->after;
    p->n_waiting--;
    p->stats.n_hit++;
    return c;
}

static void put_quick(ti_pool *p, chunk *c)
{
    chunk **list = &c->home->owner->quick[c->size / UNIT];

    c->who = waiting;
    c->after = *list;
    *list = c;
    p->n_waiting++;
}

static chunk *take(ti_pool *p, size_t size, int stream)
{
    lane *l = lane_of(p, stream, size >= large_from(p));
    chunk *c;

    if (!l || (p->stats.cap && p->stats.live + size > p->stats.cap)) return NULL;
    if ((c = take_quick(p, l, size)) != NULL) return c;
    settle(p);
    c = find(l, size);
    if (c) p->stats.n_hit++;
    else if (!(c = from_device(p, l, size))) return NULL;
    list_out(c);
    split(p, c, size);
    return c;
}

static void mark(const ti_pool *p, const ti_block *b, bool live)
{
    if (p->memory.mark && b->bytes) p->memory.mark(p->memory.user, b->data, b->bytes, live);
}

ti_block *ti_pool_alloc(ti_pool *p, size_t bytes, int stream, const char *who)
{
    const size_t size = bytes <= UNIT ? UNIT : round_up(bytes, UNIT);
    chunk *c;

    if (size < bytes || size > SIZE_MAX / 4) return NULL; /* wrapped, or absurd */
    pthread_mutex_lock(&p->lock);
    p->stats.n_alloc++;
    c = take(p, size, stream);
    if (c) {
        c->who = who ? who : "unnamed";
        c->block.bytes = bytes;
        p->stats.live += c->size;
        if (p->stats.live > p->stats.peak) p->stats.peak = p->stats.live;
        mark(p, &c->block, true);
    }
    pthread_mutex_unlock(&p->lock);
    return c ? &c->block : NULL;
}

void ti_pool_free(ti_pool *p, ti_block *block)
{
    chunk *c = (chunk *)(void *)block;

    if (!c) return;
    pthread_mutex_lock(&p->lock);
    p->stats.live -= c->size;
    mark(p, block, false);
    if (c->size <= QUICK * UNIT) put_quick(p, c);
    else put_back(p, c);
    pthread_mutex_unlock(&p->lock);
}

void ti_pool_mark(ti_pool *p, void *part, size_t bytes, bool live)
{
    const ti_block b = {.data = part, .bytes = bytes};

    pthread_mutex_lock(&p->lock);
    mark(p, &b, live);
    pthread_mutex_unlock(&p->lock);
}

bool ti_pool_watched(const ti_pool *p) { return p->memory.mark != NULL; }

size_t ti_pool_room(const ti_pool *p)
{
    return p->memory.room ? p->memory.room(p->memory.user) : 0;
}

ti_pool *ti_pool_open(const ti_memory *memory)
{
    ti_pool *p = calloc(1, sizeof *p);

    if (!p) return NULL;
    p->memory = *memory;
    if (pthread_mutex_init(&p->lock, NULL) != 0) {
        free(p);
        return NULL;
    }
    return p;
}

void ti_pool_close(ti_pool *p)
{
    if (!p) return;
    for (segment *s = p->segments, *next; s; s = next) {
        next = s->next;
        p->memory.free(p->memory.user, s->base, s->bytes);
        free(s);
    }
    for (spares *s = p->slabs, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    for (lane *l = p->lanes, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void ti_pool_trim(ti_pool *p)
{
    pthread_mutex_lock(&p->lock);
    shrink(p, 0);
    p->kept = 0;
    pthread_mutex_unlock(&p->lock);
}

void ti_pool_cap(ti_pool *p, size_t bytes)
{
    pthread_mutex_lock(&p->lock);
    p->stats.cap = bytes;
    if (bytes) shrink(p, bytes);
    pthread_mutex_unlock(&p->lock);
}

static size_t largest_free(const ti_pool *p)
{
    size_t most = 0;

    for (const lane *l = p->lanes; l; l = l->next) {
        int i = CLASSES - 1;
        while (i > 0 && !l->list[i]) i--; /* the largest lies in the highest class */
        for (const chunk *c = l->list[i]; c; c = c->after)
            if (c->size > most) most = c->size;
    }
    return most;
}

static void fill_stats(ti_pool *p, tern_memory *stats)
{
    const size_t spare = p->stats.reserved - p->stats.live;

    settle(p);
    *stats = p->stats;
    stats->largest_free = largest_free(p);
    stats->fragmentation = spare ? 1 - (double)stats->largest_free / (double)spare : 0;
}

void ti_pool_stats(ti_pool *p, tern_memory *stats)
{
    pthread_mutex_lock(&p->lock);
    fill_stats(p, stats);
    pthread_mutex_unlock(&p->lock);
}

void ti_pool_peak_reset(ti_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->stats.peak = p->stats.live;
    p->stats.peak_reserved = p->stats.reserved;
    pthread_mutex_unlock(&p->lock);
}

/* Adds the block to its holder's sum. What finds no room in the table counts as the last. */
static int add_holder(tern_holder *h, int n, int most, const chunk *c)
{
    int i = 0;

    while (i < n && strcmp(h[i].name, c->who) != 0) i++;
    if (i == n && n == most) h[--i].name = "others";
    else if (i == n) h[n++] = (tern_holder){.name = c->who};
    h[i].bytes += c->size;
    h[i].n_block++;
    return n;
}

int ti_pool_holders(ti_pool *p, tern_holder *h, int most)
{
    int n = 0;

    if (most < 1) return 0;
    pthread_mutex_lock(&p->lock);
    settle(p);
    for (const segment *s = p->segments; s; s = s->next)
        for (const chunk *c = s->first; c; c = c->right)
            if (c->who) n = add_holder(h, n, most, c);
    pthread_mutex_unlock(&p->lock);
    for (int k = 1; k < n; k++) { /* most bytes first */
        const tern_holder x = h[k];
        int i = k;
        for (; i > 0 && h[i - 1].bytes < x.bytes; i--) h[i] = h[i - 1];
        h[i] = x;
    }
    return n;
}
