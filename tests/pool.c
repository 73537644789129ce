/* pool.c - the memory pool: reuse, limits, statistics, and what it says when it has nothing. */
#include "core/pool.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static size_t device_bytes, device_room;
static long device_fails;

static void *device_alloc(void *user, size_t bytes)
{
    void *p;

    (void)user;
    if (device_room && device_bytes + bytes > device_room) {
        device_fails++;
        return NULL;
    }
    p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p) device_bytes += bytes;
    return p;
}

static void device_free(void *user, void *p, size_t bytes)
{
    (void)user;
    device_bytes -= bytes;
    free(p);
}

/* What a checker hears: blocks handed out never overlap. */
enum { MARKS = 512 };
static struct {
    char *at;
    size_t bytes;
} marked[MARKS];
static long n_marks;
static bool watched;

static void device_mark(void *user, void *p, size_t bytes, bool live)
{
    char *at = p;
    int spare = -1;

    (void)user;
    if (!watched) return;
    n_marks++;
    for (int i = 0; i < MARKS; i++) {
        if (!marked[i].at) {
            spare = i;
            continue;
        }
        if (!live && marked[i].at == at && marked[i].bytes == bytes) {
            marked[i].at = NULL;
            return;
        }
        cr_assert(at + bytes <= marked[i].at || marked[i].at + marked[i].bytes <= at);
    }
    cr_assert(live, "a block was taken back that had not been handed out");
    cr_assert(spare >= 0);
    marked[spare].at = at;
    marked[spare].bytes = bytes;
}

static ti_pool *pool;
static void begin(void)
{
    const ti_memory m = {.alloc = device_alloc, .free = device_free, .mark = device_mark};

    device_bytes = device_room = 0;
    device_fails = 0;
    pool = ti_pool_open(&m);
    cr_assert(pool != NULL);
}
static void end(void)
{
    ti_pool_close(pool);
    cr_assert(device_bytes == 0, "%zu bytes of the device are lost", device_bytes);
}
TestSuite(pool, .init = begin, .fini = end);

static tern_memory stats(void)
{
    tern_memory s;

    ti_pool_stats(pool, &s);
    return s;
}

static uint64_t state = 1;
static uint32_t draw(uint32_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

Test(pool, blocks_are_aligned_and_apart)
{
    enum { N = 300 };
    ti_block *b[N];

    for (int i = 0; i < N; i++) {
        b[i] = ti_pool_alloc(pool, (size_t)i * 37, 0, "t");
        cr_assert(b[i] && b[i]->data && (uintptr_t)b[i]->data % 64 == 0);
        cr_assert(b[i]->bytes == (size_t)i * 37);
        memset(b[i]->data, i & 255, b[i]->bytes);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < b[i]->bytes; k++) cr_assert((b[i]->data[k] & 255) == (i & 255));
    for (int i = 0; i < N; i++) ti_pool_free(pool, b[(i * 7) % N]);
    ti_pool_free(pool, NULL);
    cr_assert(stats().live == 0);
    ti_pool_trim(pool);
    cr_assert(stats().reserved == 0 && device_bytes == 0);
}

Test(pool, what_is_freed_serves_again)
{
    ti_block *a = ti_pool_alloc(pool, 5 << 20, 0, "a");
    char *at = a->data;

    ti_pool_free(pool, a);
    a = ti_pool_alloc(pool, 5 << 20, 0, "a");
    cr_assert(a->data == at);
    ti_pool_free(pool, a);
    const tern_memory s = stats();
    cr_assert(s.n_alloc == 2 && s.n_hit == 1 && s.n_device_alloc == 1);
    cr_assert(s.live == 0 && s.peak == 5 << 20 && s.reserved == 5 << 20);
    cr_assert(s.largest_free == 5 << 20 && s.fragmentation == 0);
}

Test(pool, neighbours_become_one)
{
    ti_block *b[8];

    for (int i = 0; i < 8; i++) b[i] = ti_pool_alloc(pool, 4096, 0, "t");
    const size_t reserved = stats().reserved;
    for (int i = 0; i < 8; i += 2) ti_pool_free(pool, b[i]);
    for (int i = 1; i < 8; i += 2) ti_pool_free(pool, b[i]);
    cr_assert(stats().largest_free == reserved);
    ti_block *three = ti_pool_alloc(pool, 3 * 4096, 0, "t");
    cr_assert(stats().n_device_alloc == 1);
    ti_pool_free(pool, three);
}

Test(pool, the_smallest_wait_for_their_size)
{
    ti_block *b[8], *again;

    for (int i = 0; i < 8; i++) b[i] = ti_pool_alloc(pool, 100, 0, "t");
    const size_t reserved = stats().reserved;
    char *const last = b[3]->data;
    for (int i = 0; i < 8; i++) ti_pool_free(pool, b[i ^ 4]);
    again = ti_pool_alloc(pool, 128, 0, "t");
    cr_assert(again->data == last, "what was freed last is not what is given first");
    ti_block *other = ti_pool_alloc(pool, 7 * 128, 0, "t");
    cr_assert(stats().n_device_alloc == 1 && stats().live == 8 * 128);
    ti_pool_free(pool, again);
    ti_pool_free(pool, other);
    cr_assert(stats().live == 0 && stats().largest_free == reserved);
    tern_holder h[2];
    again = ti_pool_alloc(pool, 1, 0, "mine");
    ti_pool_free(pool, ti_pool_alloc(pool, 1, 0, "gone"));
    cr_assert(ti_pool_holders(pool, h, 2) == 1 && strcmp(h[0].name, "mine") == 0);
    ti_pool_free(pool, again);
    ti_pool_trim(pool);
    cr_assert(device_bytes == 0);
}

Test(pool, a_stream_reuses_only_its_own)
{
    ti_block *a = ti_pool_alloc(pool, 2 << 20, 1, "a");
    char *at = a->data;

    ti_pool_free(pool, a);
    a = ti_pool_alloc(pool, 2 << 20, 2, "a");
    ti_block *b = ti_pool_alloc(pool, 2 << 20, 1, "b");
    cr_assert(stats().n_device_alloc >= 2);
    (void)at;
    ti_pool_free(pool, a);
    ti_pool_free(pool, b);
}

Test(pool, the_cap_holds)
{
    ti_pool_cap(pool, 10 << 20);
    ti_block *a = ti_pool_alloc(pool, 6 << 20, 0, "a"), *b = ti_pool_alloc(pool, 3 << 20, 0, "b");
    cr_assert(a && b);
    cr_assert(ti_pool_alloc(pool, 2 << 20, 0, "c") == NULL);
    ti_pool_free(pool, a);
    a = ti_pool_alloc(pool, 7 << 20, 0, "c"); /* the cached 6 MiB make room for it */
    cr_assert(a != NULL && stats().reserved <= 10 << 20 && stats().peak_reserved <= 10 << 20);
    ti_pool_free(pool, a);
    ti_pool_free(pool, b);
    ti_pool_cap(pool, 0);
    a = ti_pool_alloc(pool, 30 << 20, 0, "d");
    cr_assert(a != NULL);
    ti_pool_free(pool, a);
    cr_assert(ti_pool_alloc(pool, SIZE_MAX - 8, 0, "absurd") == NULL);
}

Test(pool, empties_its_cache_before_it_gives_up)
{
    device_room = 16 << 20;
    ti_block *a = ti_pool_alloc(pool, 8 << 20, 0, "a"), *b = ti_pool_alloc(pool, 7 << 20, 0, "b");
    ti_pool_free(pool, a);
    ti_pool_free(pool, b);
    a = ti_pool_alloc(pool, 15 << 20, 0, "c");
    cr_assert(a != NULL);
    cr_assert(ti_pool_alloc(pool, 4 << 20, 0, "d") == NULL && device_fails > 0);
    ti_pool_free(pool, a);
}

Test(pool, says_who_holds_what)
{
    char text[512], small[20];
    ti_block *b[40];

    ti_pool_cap(pool, 64 << 20);
    b[0] = ti_pool_alloc(pool, 40 << 20, 0, "arena");
    b[1] = ti_pool_alloc(pool, 10 << 20, 0, "variables");
    b[2] = ti_pool_alloc(pool, 5 << 20, 0, "variables");
    ti_pool_explain(pool, 32 << 20, text, sizeof text);
    cr_assert(strstr(text, "no memory for 32.00 MiB: 55.00 MiB in use"), "%s", text);
    cr_assert(strstr(text, "cap 64.00 MiB"), "%s", text);
    cr_assert(strstr(text, "largest holders: arena 40.00 MiB (1), variables 15.00 MiB (2)"), "%s",
              text);
    ti_pool_explain(pool, 1, small, sizeof small);
    cr_assert(strlen(small) < sizeof small);
    for (int i = 0; i < 3; i++) ti_pool_free(pool, b[i]);
    static char names[40][8];
    for (int i = 0; i < 40; i++) {
        names[i][0] = (char)('A' + i % 26), names[i][1] = (char)('0' + i / 26);
        b[i] = ti_pool_alloc(pool, 100, 0, names[i]);
    }
    ti_pool_explain(pool, 1, text, sizeof text);
    cr_assert(strstr(text, "others"), "%s", text);
    for (int i = 0; i < 40; i++) ti_pool_free(pool, b[i]);
}

Test(pool, adds_up_the_holders)
{
    static const char *const who[] = {"x", "y", "z", "y", "x", "y"};
    static const size_t bytes[] = {100, 5000, 64, 20000, 300, 1};
    ti_block *b[6];
    tern_holder h[4];

    cr_expect(ti_pool_holders(pool, h, 4) == 0);
    for (int i = 0; i < 6; i++) b[i] = ti_pool_alloc(pool, bytes[i], 0, who[i]);
    cr_assert(ti_pool_holders(pool, h, 4) == 3);
    cr_expect_str_eq(h[0].name, "y");
    cr_expect(h[0].bytes == 5056 + 20032 + 64 && h[0].n_block == 3);
    cr_expect_str_eq(h[1].name, "x");
    cr_expect(h[1].bytes == 128 + 320 && h[1].n_block == 2);
    cr_expect_str_eq(h[2].name, "z");
    cr_assert(ti_pool_holders(pool, h, 2) == 2);
    cr_expect(h[0].bytes + h[1].bytes == stats().live && h[0].n_block + h[1].n_block == 6);
    cr_expect(strcmp(h[0].name, "others") == 0 || strcmp(h[1].name, "others") == 0);
    cr_expect(ti_pool_holders(pool, h, 0) == 0);
    ti_pool_free(pool, b[3]);
    cr_assert(ti_pool_holders(pool, h, 4) == 3);
    cr_expect(h[0].bytes == 5056 + 64 && h[0].n_block == 2);
    for (int i = 0; i < 6; i++)
        if (i != 3) ti_pool_free(pool, b[i]);
}

/* Steps of many sizes, as an eager loop makes them: activations forward, freed backward, among
 * short-lived small ones. */
static void step(int scale)
{
    enum { N = 60 };
    ti_block *b[N], *s[N];

    for (int i = 0; i < N; i++) {
        b[i] = ti_pool_alloc(pool, (size_t)(1 + i * 7 % 13) * (size_t)scale * 1024, 0, "act");
        s[i] = ti_pool_alloc(pool, (size_t)(1 + i % 9) * 100, 0, "stat");
        cr_assert(b[i] && s[i]);
    }
    for (int i = N; i-- > 0;) {
        ti_block *g = ti_pool_alloc(pool, b[i]->bytes, 0, "grad");
        cr_assert(g != NULL);
        ti_pool_free(pool, b[i]);
        ti_pool_free(pool, s[i]);
        ti_pool_free(pool, g);
    }
}

Test(pool, varied_steps_do_not_pile_up)
{
    for (int i = 0; i < 200; i++) step(1 + (int)draw(128));
    const tern_memory s = stats();
    cr_assert((double)s.peak_reserved <= 1.10 * (double)s.peak, "%zu reserved, %zu used",
              s.peak_reserved, s.peak);
    const int64_t n = s.n_device_alloc;
    step(64);
    step(64);
    const int64_t before = stats().n_device_alloc;
    step(64);
    cr_assert(stats().n_device_alloc == before, "a repeated step went to the device (%ld before)",
              (long)n);
}

Test(pool, random_use_loses_nothing)
{
    enum { N = 400 };
    ti_block *b[N] = {0};
    size_t live = 0;

    watched = true;
    for (int i = 0; i < 20000; i++) {
        const int k = (int)draw(N);
        if (b[k]) {
            for (size_t j = 0; j < b[k]->bytes; j += 997) cr_assert(b[k]->data[j] == (char)k);
            live -= b[k]->bytes <= 64 ? 64 : (b[k]->bytes + 63) / 64 * 64;
            ti_pool_free(pool, b[k]);
            b[k] = NULL;
            continue;
        }
        const size_t bytes = draw(4) ? draw(5000) : draw(3 << 20);
        b[k] = ti_pool_alloc(pool, bytes, (int)draw(2), "r");
        cr_assert(b[k] != NULL);
        for (size_t j = 0; j < bytes; j += 997) b[k]->data[j] = (char)k;
        live += bytes <= 64 ? 64 : (bytes + 63) / 64 * 64;
        cr_assert(stats().live == live);
    }
    for (int k = 0; k < N; k++) ti_pool_free(pool, b[k]);
    cr_assert(stats().live == 0 && n_marks > 10000);
    for (int i = 0; i < MARKS; i++) cr_assert(!marked[i].at, "a block was never taken back");
    ti_pool_trim(pool);
    cr_assert(device_bytes == 0);
}

static void *work(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5000; i++) {
        ti_block *b = ti_pool_alloc(pool, (size_t)(i % 777) * 16, 0, "w");
        if (b) b->data[0] = 1;
        ti_pool_free(pool, b);
    }
    return NULL;
}

Test(pool, threads_share_it)
{
    pthread_t t[3];

    for (int i = 0; i < 3; i++) cr_assert(pthread_create(&t[i], NULL, work, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    cr_assert(stats().live == 0);
}
