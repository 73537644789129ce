/*
 * null/backend.c - a device that allocates and copies, and computes nothing.
 *
 * Plans, schedules and their peaks can be made and run on it for nets of any size: fresh memory is
 * zeros that the system backs only where they are touched. It has no rows: a backend that does not
 * compute takes every call. Copy this folder to begin a new backend.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/row.h"

struct ti_device {
    int n_threads;
};

static ti_device *null_open(const char *name, int n_threads, const char *disabled, char *why)
{
    ti_device *d = calloc(1, sizeof *d);

    (void)name;
    (void)disabled;
    if (d) d->n_threads = n_threads;
    else strcpy(why, "out of host memory");
    return d;
}

static void null_close(ti_device *d) { free(d); }

static void *null_alloc(void *user, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    (void)user;
    return p == MAP_FAILED ? NULL : p;
}

static void null_free(void *user, void *p, size_t bytes)
{
    (void)user;
    munmap(p, bytes);
}

static ti_memory null_memory(ti_device *d)
{
    return (ti_memory){.alloc = null_alloc, .free = null_free, .user = d};
}

static void null_copy(ti_device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes) memmove(to, from, bytes);
}

static void null_zero(ti_device *d, void *to, size_t bytes)
{
    (void)d;
    if (bytes) memset(to, 0, bytes);
}

static const char *null_sync(ti_device *d)
{
    (void)d;
    return NULL;
}

static const char *null_isa(const ti_device *d)
{
    (void)d;
    return "none";
}

static bool null_threads(ti_device *d, int n)
{
    d->n_threads = n;
    return true;
}

static int null_thread_count(const ti_device *d) { return d->n_threads; }

static const ti_row *const *null_rows(const ti_device *d, int i_list)
{
    (void)d;
    (void)i_list;
    return NULL;
}

const ti_backend ti_backend_null = {
    .name = "null",
    .open = null_open,
    .close = null_close,
    .memory = null_memory,
    .upload = null_copy,
    .download = null_copy,
    .copy = null_copy,
    .zero = null_zero,
    .sync = null_sync,
    .host_memory = true,
    .computes = false,
    .isa = null_isa,
    .threads = null_threads,
    .thread_count = null_thread_count,
    .rows = null_rows,
};
