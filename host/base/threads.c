/*
 * threads.c - the thread pool of a CPU device.
 *
 * One word, `state`, says all that a worker needs to know: whether a job is open, how many workers
 * are inside it, and the job's number. A worker enters by raising the count with a compare-and-swap
 * that succeeds only while the job is open; the caller, out of chunks, closes the job and waits
 * until the count is zero. So a worker that wakes late finds a closed door instead of a stale job,
 * and nobody waits for a worker that never came.
 *
 *   bit 0         the job is open
 *   bits 1 … 15   workers inside
 *   bits 16 …     number of the job
 *
 * Idle workers look at the word for a while, then sleep on `wake`. Both sides of a sleep follow the
 * same rule: the sleeper announces itself, then looks once more; the other changes the word, then
 * looks for sleepers. With sequentially consistent atomics one of the two sees the other.
 */
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OPEN UINT64_C(1)
#define ONE_INSIDE UINT64_C(2)
#define INSIDE UINT64_C(0xfffe)
#define ONE_JOB UINT64_C(0x10000)
#define MOST_THREADS 1024
#define SPIN_NS 20000

typedef struct {
    ti_threads *pool;
    pthread_t id;
    int number; /* 1 … count-1; the caller is 0 */
} worker;

struct ti_threads {
    int count;
    int n_started;    /* workers that run; written by callers under `turn` */
    bool tried_start; /* threads are asked for once: what failed stays away */
    bool spins;       /* there is a core for each thread to burn */

    pthread_mutex_t turn; /* one job at a time */
    ti_chunk_fn fn;       /* the job; stable while it is open or workers are inside */
    void *arg;
    int64_t n_chunks;
    _Alignas(64) _Atomic int64_t next_chunk;
    _Alignas(64) _Atomic uint64_t state;
    _Atomic bool stop;
    _Atomic int n_asleep;
    _Atomic bool caller_waits;

    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    worker workers[];
};

/* The pool whose chunk this thread is running, and its number there. */
static _Thread_local const ti_threads *inside;
static _Thread_local int inside_number;

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void run_chunks(ti_threads *t, int number)
{
    const ti_threads *outer = inside;
    const int outer_number = inside_number;

    inside = t;
    inside_number = number;
    for (;;) {
        const int64_t i = atomic_fetch_add_explicit(&t->next_chunk, 1, memory_order_relaxed);
        if (i >= t->n_chunks) break;
        t->fn(t->arg, i, number);
    }
    inside = outer;
    inside_number = outer_number;
}

/* Is there an open job other than `seen`? */
static bool news(ti_threads *t, uint64_t seen)
{
    const uint64_t s = atomic_load(&t->state);

    return ((s & OPEN) && s / ONE_JOB != seen) || atomic_load(&t->stop);
}

static void wait_for_news(ti_threads *t, uint64_t seen)
{
    if (t->spins) {
        const int64_t end = now_ns() + SPIN_NS;
        do {
            for (int i = 0; i < 16; i++) {
                if (news(t, seen)) return;
                relax();
            }
        } while (now_ns() < end);
    }
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->n_asleep, 1);
    while (!news(t, seen)) pthread_cond_wait(&t->wake, &t->lock);
    atomic_fetch_sub(&t->n_asleep, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *work(void *arg)
{
    const worker *w = arg;
    ti_threads *t = w->pool;
    uint64_t seen = 0; /* the first job is number 1 */

    for (;;) {
        wait_for_news(t, seen);
        if (atomic_load(&t->stop)) return NULL;

        uint64_t s = atomic_load(&t->state);
        while ((s & OPEN) && !atomic_compare_exchange_weak(&t->state, &s, s + ONE_INSIDE)) {
        }
        if (!(s & OPEN)) continue;
        seen = s / ONE_JOB;
        run_chunks(t, w->number);

        s = atomic_fetch_sub(&t->state, ONE_INSIDE) - ONE_INSIDE;
        if (!(s & (INSIDE | OPEN)) && atomic_load(&t->caller_waits)) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_signal(&t->done);
            pthread_mutex_unlock(&t->lock);
        }
    }
}

/* Workers leave signals to the program's own threads. */
static void start_workers(ti_threads *t)
{
    sigset_t all, before;

    t->tried_start = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < t->count - 1; i++) {
        worker *w = &t->workers[t->n_started];
        w->pool = t;
        w->number = t->n_started + 1;
        if (pthread_create(&w->id, NULL, work, w) != 0) break;
        t->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void open_job(ti_threads *t, int64_t n_chunks, ti_chunk_fn fn, void *arg)
{
    t->fn = fn;
    t->arg = arg;
    t->n_chunks = n_chunks;
    atomic_store(&t->next_chunk, 0);
    atomic_store(&t->state, (atomic_load(&t->state) & ~(ONE_JOB - 1)) + ONE_JOB + OPEN);

    const int asleep = atomic_load(&t->n_asleep);
    if (asleep == 0) return;
    pthread_mutex_lock(&t->lock);
    if (n_chunks - 1 >= asleep) pthread_cond_broadcast(&t->wake);
    else
        for (int64_t i = 0; i < n_chunks - 1; i++) pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

/* No worker can enter any more; those inside finish their chunks. */
static void close_job(ti_threads *t)
{
    atomic_fetch_and(&t->state, ~OPEN);
    if (t->spins) {
        const int64_t end = now_ns() + SPIN_NS;
        do {
            for (int i = 0; i < 16; i++) {
                if (!(atomic_load(&t->state) & INSIDE)) return;
                relax();
            }
        } while (now_ns() < end);
    }
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->caller_waits, true);
    while (atomic_load(&t->state) & INSIDE) pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->caller_waits, false);
    pthread_mutex_unlock(&t->lock);
}

ti_threads *ti_threads_open(int n)
{
    const int count = n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : n;
    const size_t bytes = sizeof(ti_threads) + (size_t)(count - 1) * sizeof(worker);
    ti_threads *t = aligned_alloc(64, (bytes + 63) / 64 * 64);

    if (!t) return NULL;
    memset(t, 0, bytes);
    t->count = count;
    t->spins = count <= ti_threads_default();
    if (pthread_mutex_init(&t->turn, NULL) != 0) goto no_turn;
    if (pthread_mutex_init(&t->lock, NULL) != 0) goto no_lock;
    if (pthread_cond_init(&t->wake, NULL) != 0) goto no_wake;
    if (pthread_cond_init(&t->done, NULL) != 0) goto no_done;
    return t;
no_done:
    pthread_cond_destroy(&t->wake);
no_wake:
    pthread_mutex_destroy(&t->lock);
no_lock:
    pthread_mutex_destroy(&t->turn);
no_turn:
    free(t);
    return NULL;
}

void ti_threads_close(ti_threads *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->n_started; i++) pthread_join(t->workers[i].id, NULL);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    pthread_mutex_destroy(&t->turn);
    free(t);
}

int ti_threads_count(const ti_threads *t) { return t ? t->count : 1; }

static void run_serially(int64_t n_chunks, ti_chunk_fn fn, void *arg, int number)
{
    for (int64_t i = 0; i < n_chunks; i++) fn(arg, i, number);
}

void ti_threads_run(ti_threads *t, int64_t n_chunks, ti_chunk_fn fn, void *arg)
{
    /* A chunk that runs the same pool keeps its own number: the scratch of others is theirs. */
    const int number = t && inside == t ? inside_number : 0;

    if (!t || t->count == 1 || n_chunks <= 1 || inside) {
        run_serially(n_chunks, fn, arg, number);
        return;
    }
    /* Another thread may be in a run of this pool; it has the workers, this one still has itself.
     */
    if (pthread_mutex_trylock(&t->turn) != 0) {
        run_serially(n_chunks, fn, arg, number);
        return;
    }
    if (!t->tried_start) start_workers(t);
    if (t->n_started == 0) {
        run_serially(n_chunks, fn, arg, number);
    } else {
        open_job(t, n_chunks, fn, arg);
        run_chunks(t, 0);
        close_job(t);
    }
    pthread_mutex_unlock(&t->turn);
}

/* ---- cores of this process ----------------------------------------------------------------------
 */

/* Cores that the limits of one group grant, rounded up; 0: no limit, or none that can be read. */
static int group_cores(const char *root, const char *group, bool v2)
{
    char path[1024];
    long long quota = -1, period = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s%s/%s", root, group, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!(f = fopen(path, "re"))) return 0;
    if (v2) {
        if (fscanf(f, "%lld %lld", &quota, &period) != 2) quota = -1; /* "max 100000" */
    } else if (fscanf(f, "%lld", &quota) != 1) {
        quota = -1;
    }
    fclose(f);
    if (!v2 && quota > 0) {
        snprintf(path, sizeof path, "%s%s/cpu.cfs_period_us", root, group);
        if (!(f = fopen(path, "re"))) return 0;
        if (fscanf(f, "%lld", &period) != 1) period = 0;
        fclose(f);
    }
    if (quota <= 0 || period <= 0) return 0;
    const long long cores = quota / period + (quota % period != 0);
    return cores > MOST_THREADS ? MOST_THREADS : (int)cores;
}

/* The tightest limit of a group and the groups around it. In a container the group's path is often
 * not to be seen, and the container's own limit lies at the root. */
static int tightest(const char *root, char *group, bool v2)
{
    int least = 0;

    for (;;) {
        const int cores = group_cores(root, group, v2);
        if (cores > 0 && (least == 0 || cores < least)) least = cores;
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/* Does the comma-separated list of a v1 hierarchy name the cpu controller? */
static bool names_cpu(const char *list, const char *end)
{
    while (list < end) {
        const char *stop = list;
        while (stop < end && *stop != ',') stop++;
        if (stop - list == 3 && memcmp(list, "cpu", 3) == 0) return true;
        list = stop + 1;
    }
    return false;
}

static int quota_cores(void)
{
    char line[1024];
    int least = 0;
    FILE *f = fopen("/proc/self/cgroup", "re");

    if (!f) return 0;
    while (fgets(line, sizeof line, f)) {
        char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        const bool v2 = second == first + 1;
        if (!v2 && !names_cpu(first + 1, second)) continue;
        char *group = second + 1;
        group[strcspn(group, "\n")] = '\0';
        const int cores = tightest(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", group, v2);
        if (cores > 0 && (least == 0 || cores < least)) least = cores;
    }
    fclose(f);
    return least;
}

/* The kernel's mask may be longer than cpu_set_t, so it grows until it fits. */
static int affinity_cores(void)
{
    for (int most = 1024; most <= 1 << 20; most *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)most);
        const size_t bytes = CPU_ALLOC_SIZE((size_t)most);
        if (!set) return 1;
        const int got = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (got > 0) return got;
    }
    return 1;
}

int ti_threads_default(void)
{
    const int cores = affinity_cores(), quota = quota_cores();

    return quota > 0 && quota < cores ? quota : cores;
}
