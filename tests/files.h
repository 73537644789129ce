/* files.h - what the tests of file formats share: a folder of their own, raw reading and writing,
 * damage. */
#ifndef TC_FILES_H
#define TC_FILES_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "tern/io.h"

static char tc_folder[64], tc_path[4][160];

static inline void tc_folder_begin(void)
{
    strcpy(tc_folder, "/tmp/tern-test-XX"
                      "XX"
                      "XX");
    cr_assert(mkdtemp(tc_folder) != NULL);
}

static inline void tc_folder_end(void)
{
    char line[128];

    snprintf(line, sizeof line, "rm -rf '%s'", tc_folder);
    cr_assert(system(line) == 0);
}

/* The path of a file in the folder; four may be in use at a time. */
static inline const char *tc_file(const char *name)
{
    static int i;

    i = (i + 1) % 4;
    snprintf(tc_path[i], sizeof tc_path[i], "%s/%s", tc_folder, name);
    return tc_path[i];
}

static inline void tc_put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");

    cr_assert(f && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, "%s", path);
}

/* Bytes of a file and a 0 behind them, to be freed. */
static inline char *tc_get(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *bytes = malloc((1 << 20) + 1);

    cr_assert(f && bytes, "%s", path);
    *n = fread(bytes, 1, 1 << 20, f);
    bytes[*n] = 0;
    fclose(f);
    return bytes;
}

/* A failure of that kind, whose text names the file; it is cleared. */
static inline void tc_refused(tern_ctx *ctx, const char *what, const char *path)
{
    const tern_status s = tern_error(ctx);

    cr_expect(s == TERN_E_FORMAT || s == TERN_E_IO || s == TERN_E_UNSUPPORTED, "%s: status %s: %s",
              what, tern_status_name(s), tern_error_text(ctx));
    cr_expect(strstr(tern_error_text(ctx), path) != NULL, "%s: does not name the file: %s", what,
              tern_error_text(ctx));
    tern_error_clear(ctx);
}

/* Reads a file in some format; false: refused. What was read is freed. */
typedef bool (*tc_reader)(tern_ctx *ctx, const char *path);

/* Every truncation and every flip of a bit: how many were read as if nothing had happened. Whatever
 * is refused must be so by a text that names the file. */
static inline void tc_damage(tern_ctx *ctx, const char *path, tc_reader read, int *cut,
                             int *flipped)
{
    size_t n;
    char *bytes = tc_get(path, &n), what[64];
    const char *bad = tc_file("damaged");

    *cut = *flipped = 0;
    for (size_t i = 0; i < n; i++) {
        tc_put(bad, bytes, i);
        snprintf(what, sizeof what, "cut at %zu", i);
        if (read(ctx, bad)) ++*cut;
        else tc_refused(ctx, what, bad);
    }
    for (size_t i = 0; i < 8 * n; i++) {
        bytes[i / 8] ^= (char)(1 << i % 8);
        tc_put(bad, bytes, n);
        snprintf(what, sizeof what, "byte %zu, bit %zu", i / 8, i % 8);
        if (read(ctx, bad)) ++*flipped;
        else tc_refused(ctx, what, bad);
        bytes[i / 8] ^= (char)(1 << i % 8);
    }
    free(bytes);
}

/* Fails every allocation in turn, once and for good: run must end with TERN_E_MEMORY or succeed,
 * and leave nothing behind. run gives false after a failure. Returns the number of sites. */
static inline long tc_faults(tern_ctx *ctx, bool (*run)(tern_ctx *ctx))
{
    long n = 0;

    cr_assert(run(ctx), "%s", tern_error_text(ctx)); /* what a context makes once is made */
    for (bool failed = true; failed; n++) {
        failed = false;
        for (int all = 0; all < 2; all++) {
            const long before = ti_live_allocations(ctx);

            ti_fail_allocation(ctx, n, all);
            if (!run(ctx)) {
                failed = true;
                cr_expect(tern_error(ctx) == TERN_E_MEMORY, "allocation %ld: %s", n,
                          tern_error_text(ctx));
            }
            ti_fail_allocation(ctx, -1, false);
            tern_error_clear(ctx);
            cr_expect(ti_live_allocations(ctx) == before, "allocation %ld: %ld are left", n,
                      ti_live_allocations(ctx) - before);
        }
    }
    return n - 1;
}

#endif
