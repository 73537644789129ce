/* threads.c - the pool: every chunk once, any count, nested runs, several callers, sleep and wake.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/threads.h"

#define MOST 4096

typedef struct {
    _Atomic int seen[MOST];
    int64_t order[MOST]; /* serial runs only */
    _Atomic int n_seen, wrong_worker;
    int count;
} tally;

static void visit(void *arg, int64_t i, int i_worker)
{
    tally *t = arg;

    atomic_fetch_add(&t->seen[i], 1);
    if (i_worker < 0 || i_worker >= t->count) atomic_fetch_add(&t->wrong_worker, 1);
}

static void note_order(void *arg, int64_t i, int i_worker)
{
    tally *t = arg;

    if (i_worker != 0) atomic_fetch_add(&t->wrong_worker, 1);
    t->order[atomic_fetch_add(&t->n_seen, 1)] = i;
}

static bool each_once(tally *t, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (atomic_exchange(&t->seen[i], 0) != 1) return false;
    return atomic_load(&t->wrong_worker) == 0;
}

Test(threads, run_visits_every_chunk_once)
{
    static tally t;

    for (int n = 1; n <= 9; n++) {
        ti_threads *pool = ti_threads_open(n);
        cr_assert(ne(ptr, pool, NULL));
        cr_expect(eq(int, ti_threads_count(pool), n));
        t.count = n;
        for (int64_t chunks = 0; chunks < 40; chunks++) {
            ti_threads_run(pool, chunks, visit, &t);
            cr_assert(each_once(&t, chunks), "%d threads, %d chunks", n, (int)chunks);
        }
        ti_threads_run(pool, MOST, visit, &t);
        cr_assert(each_once(&t, MOST));
        ti_threads_close(pool);
    }
}

Test(threads, many_short_runs)
{
    static tally t;
    ti_threads *pool = ti_threads_open(4);

    t.count = 4;
    for (int i = 0; i < 3000; i++) {
        ti_threads_run(pool, 1 + i % 7, visit, &t);
        cr_assert(each_once(&t, 1 + i % 7), "run %d", i);
    }
    ti_threads_close(pool);
}

Test(threads, workers_that_sleep_come_back)
{
    static tally t;
    ti_threads *pool = ti_threads_open(3);

    t.count = 3;
    for (int i = 0; i < 20; i++) {
        ti_threads_run(pool, 50, visit, &t);
        cr_assert(each_once(&t, 50));
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ti_threads_close(pool);
}

Test(threads, null_and_one_chunk_run_in_place_and_in_order)
{
    static tally t, u;
    ti_threads *pool = ti_threads_open(1);

    ti_threads_run(NULL, 100, note_order, &t);
    ti_threads_run(pool, 100, note_order, &u);
    for (int64_t i = 0; i < 100; i++) cr_assert(t.order[i] == i && u.order[i] == i);
    cr_expect(eq(int, ti_threads_count(NULL), 1));
    ti_threads_close(pool);
    ti_threads_close(NULL);
    cr_expect(eq(int, t.wrong_worker + u.wrong_worker, 0));
}

Test(threads, odd_counts_are_put_right)
{
    for (int n = -3; n <= 0; n++) {
        ti_threads *pool = ti_threads_open(n);
        cr_expect(eq(int, ti_threads_count(pool), 1));
        ti_threads_close(pool);
    }
    cr_expect(ge(int, ti_threads_default(), 1));
}

/* ---- nested runs and several callers ------------------------------------------------------------
 */

typedef struct {
    ti_threads *pool;
    tally inner[16];
    _Atomic int wrong;
    int outer_worker[16];
} nest;

typedef struct {
    nest *all;
    int64_t i;
    int i_worker;
} nest_arg;

static void inner(void *arg, int64_t i, int i_worker)
{
    nest_arg *a = arg;

    if (i_worker != a->i_worker) atomic_fetch_add(&a->all->wrong, 1);
    atomic_fetch_add(&a->all->inner[a->i].seen[i], 1);
}

static void outer(void *arg, int64_t i, int i_worker)
{
    nest *all = arg;
    nest_arg a = {all, i, i_worker};

    ti_threads_run(all->pool, 33, inner, &a);
}

Test(threads, a_run_inside_a_run_is_serial_and_keeps_its_worker)
{
    static nest all;

    all.pool = ti_threads_open(4);
    for (int round = 0; round < 50; round++) {
        ti_threads_run(all.pool, 16, outer, &all);
        for (int i = 0; i < 16; i++) cr_assert(each_once(&all.inner[i], 33));
    }
    cr_expect(eq(int, all.wrong, 0));
    ti_threads_close(all.pool);
}

static ti_threads *shared;

static void *caller(void *arg)
{
    tally *t = arg;

    for (int i = 0; i < 200; i++) {
        ti_threads_run(shared, 20, visit, t);
        if (!each_once(t, 20)) return t;
    }
    return NULL;
}

Test(threads, two_callers_may_share_a_pool)
{
    static tally t[3];
    pthread_t id[3];
    void *bad;

    shared = ti_threads_open(3);
    for (int i = 0; i < 3; i++) {
        t[i].count = 3;
        cr_assert(eq(int, pthread_create(&id[i], NULL, caller, &t[i]), 0));
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(id[i], &bad);
        cr_expect(eq(ptr, bad, NULL));
    }
    ti_threads_close(shared);
}

/* ---- what the system grants
 * ---------------------------------------------------------------------- */

Test(threads, default_follows_affinity)
{
    cpu_set_t before, one;

    cr_assert(eq(int, sched_getaffinity(0, sizeof before, &before), 0));
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &before)) {
            CPU_SET(i, &one);
            break;
        }
    cr_assert(eq(int, sched_setaffinity(0, sizeof one, &one), 0));
    cr_expect(eq(int, ti_threads_default(), 1));
    cr_assert(eq(int, sched_setaffinity(0, sizeof before, &before), 0));
    cr_expect(le(int, ti_threads_default(), CPU_COUNT(&before)));
}

/* Address space for a few stacks only: later threads cannot start, the run still ends. */
Test(threads, fewer_workers_when_threads_cannot_start)
{
    static tally t;
    struct rlimit limit;
    ti_threads *pool = ti_threads_open(1000);

    cr_assert(ne(ptr, pool, NULL));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = (rlim_t)600 << 20;
    setrlimit(RLIMIT_AS, &limit);
#else
    (void)limit;
#endif
    t.count = 1000;
    ti_threads_run(pool, 2000, visit, &t);
    cr_expect(each_once(&t, 2000));
    ti_threads_close(pool);
}
