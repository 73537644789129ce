/*
 * backend.c - the CPU as a device: its memory, its threads, the instruction set it uses.
 *
 * Device "cpu" has all rows; device "ref" has the reference rows only.
 */
#include "cpu/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/simd_choose.h"

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif
#ifdef WATCHED
#include <sanitizer/asan_interface.h>
#endif

enum { ALIGN = 64 };
static const size_t huge = (size_t)2 << 20; /* from here on, memory comes in huge pages */

struct ti_device {
    ti_threads *threads;
    const ti_simd *simd;
    const ti_vector *vector;
    const ti_bf16 *bf16; /* NULL: there is none */
    bool reference;
};

static ti_device *cpu_open(const char *name, int n_threads, const char *disabled, char *why)
{
    ti_device *d = calloc(1, sizeof *d);

    if (d) d->threads = ti_threads_open(n_threads);
    if (!d || !d->threads) {
        strcpy(why, "out of host memory");
        free(d);
        return NULL;
    }
    d->simd = ti_simd_choose(disabled);
    d->vector = ti_vector_for(d->simd->name);
    d->bf16 = ti_bf16_choose(disabled);
    d->reference = strcmp(name, "ref") == 0;
    return d;
}

static void cpu_close(ti_device *d)
{
    ti_threads_close(d->threads);
    free(d);
}

static void *cpu_alloc(void *user, size_t bytes)
{
    const size_t align = bytes >= huge ? huge : ALIGN;
    void *p;

    (void)user;
    if (bytes > SIZE_MAX - align) return NULL;
    bytes = (bytes + align - 1) / align * align;
    p = aligned_alloc(align, bytes);
    if (p && bytes >= huge) (void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint */
#ifdef WATCHED
    if (p) __asan_poison_memory_region(p, bytes);
#endif
    return p;
}

static void cpu_free(void *user, void *p, size_t bytes)
{
    (void)user;
    (void)bytes;
    free(p); /* AddressSanitizer's takes poisoned memory, too */
}

#ifdef WATCHED
/* AddressSanitizer then watches each block of the pool by itself; a new one holds NaNs. */
static void cpu_mark(void *user, void *p, size_t bytes, bool live)
{
    (void)user;
    if (live) {
        __asan_unpoison_memory_region(p, bytes);
        memset(p, 0xff, bytes);
    } else __asan_poison_memory_region(p, bytes);
}
#endif

static ti_memory cpu_memory(ti_device *d)
{
    return (ti_memory){
        .alloc = cpu_alloc,
        .free = cpu_free,
#ifdef WATCHED
        .mark = cpu_mark,
#endif
        .user = d,
    };
}

static void cpu_copy(ti_device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes) memcpy(to, from, bytes);
}

static void cpu_zero(ti_device *d, void *to, size_t bytes)
{
    (void)d;
    if (bytes) memset(to, 0, bytes);
}

static const char *cpu_sync(ti_device *d)
{
    (void)d;
    return NULL; /* calls are done when they return */
}

static const char *cpu_isa(const ti_device *d) { return d->reference ? "ref" : d->simd->name; }

static void cpu_hardware(ti_device *d, char *text, size_t room)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(text, room, "cpu, %s", cpu_isa(d));
    while (file && fgets(line, sizeof line, file)) {
        const char *is = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !is) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, room, "%.120s, %s", is + 2, cpu_isa(d));
        break;
    }
    if (file) fclose(file);
}

static bool cpu_set_threads(ti_device *d, int n)
{
    ti_threads *t = ti_threads_open(n);

    if (!t) return false;
    ti_threads_close(d->threads);
    d->threads = t;
    return true;
}

static int cpu_thread_count(const ti_device *d) { return ti_threads_count(d->threads); }

static const ti_row *const *cpu_row_lists(const ti_device *d, int i_list)
{
    if (d->reference) i_list++;
    return i_list == 0 ? ti_cpu_rows : i_list == 1 ? ti_ref_rows : NULL;
}

ti_threads *ti_cpu_threads(const ti_device *d) { return d->threads; }
const ti_simd *ti_cpu_simd(const ti_device *d) { return d->simd; }
const ti_bf16 *ti_cpu_bf16(const ti_device *d) { return d->bf16; }
const ti_vector *ti_cpu_vector(const ti_device *d) { return d->vector; }

const ti_backend ti_backend_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .memory = cpu_memory,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .host_memory = true,
    .computes = true,
    .isa = cpu_isa,
    .hardware = cpu_hardware,
    .threads = cpu_set_threads,
    .thread_count = cpu_thread_count,
    .rows = cpu_row_lists,
};
