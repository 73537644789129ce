/*
 * bench_run.c - the clock of `tern bench`: settings, samples, rows.
 *
 * Rows are measured in rounds: all of them, then all again, with inputs and outputs made anew. So
 * the samples of a row lie apart in time and in memory, and intervals show what both do.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/out.h"
#include "cli/session.h"

enum { SAMPLES_MOST = 100000 };

static bool settings(bench *b, cli *c)
{
    int64_t *list = NULL;

    b->warm = cli_int(c, "warm-up");
    b->least = cli_int(c, "repeat");
    b->rounds = cli_int(c, "rounds");
    b->seconds = cli_real(c, "seconds");
    b->patience = cli_real(c, "timeout");
    b->quiet = cli_real(c, "noise") / 100;
    b->n_threads = cli_given(c, "threads") ? ints_parse(cli_text(c, "threads"), &list) : 0;
    b->threads = cli_alloc((size_t)(b->n_threads + 1) * sizeof *b->threads);
    for (int i = 0; i < b->n_threads; i++) b->threads[i] = (int)list[i];
    if (b->n_threads == 0) b->threads[b->n_threads++] = tern_threads(b->ctx);
    free(list);
    return true;
}

bool bench_start(bench *b, cli *c, const char *what)
{
    *b = (bench){.c = c, .what = what};
    if (strcmp(build_type(), "Release") != 0)
        warn("THIS IS A %s BUILD: its times say nothing", build_type());
    b->ctx = session_open(c);
    if (!b->ctx) return false;
    if (strcmp(tern_device(b->ctx), "ref") != 0 && strcmp(tern_device(b->ctx), "null") != 0 &&
        tern_open(&b->ref, "ref") != TERN_OK) {
        session_failed(b->ref, "--device ref");
        (void)!tern_close(b->ref);
        (void)!session_close(b->ctx, EXIT_FAILED);
        return false;
    }
    return settings(b, c);
}

bench_row *bench_add(bench *b, const char *kind, const char *name)
{
    b->row = cli_realloc(b->row, (size_t)(b->n_row + 1) * sizeof *b->row);
    b->row[b->n_row] = (bench_row){.kind = kind, .name = cli_copy(name)};
    return &b->row[b->n_row++];
}

void bench_end(bench *b)
{
    for (int i = 0; i < b->n_row; i++) {
        bench_row *r = &b->row[i];

        free(r->name);
        free(r->what);
        free(r->problem);
        free(r->repro);
        free(r->why);
        free(r->extra);
        free(r->notes);
        samples_free(&r->time);
    }
    free(b->row);
    free(b->roofs);
    free(b->threads);
    if (b->ref) {
        tern_error_clear(b->ref);
        (void)!tern_close(b->ref);
    }
}

/* ---- Samples --------------------------------------------------------------------------------- */

/* Times that the system took a core away from this process. */
static long preempted(void)
{
    struct rusage use;

    return getrusage(RUSAGE_SELF, &use) == 0 ? use.ru_nivcsw : 0;
}

/* How many calls make a sample: so many that it takes a millisecond, or one. 0: it failed. */
static int64_t calls_in_a_sample(bench_fn fn, void *user, double seconds)
{
    const double want = seconds < 0.02 ? seconds / 20 : 1e-3;
    int64_t times = 1;

    while (true) {
        const double began = seconds_now();

        if (!fn(user, times)) return 0;
        const double took = seconds_now() - began;
        if (took >= want / 2 || times >= (int64_t)1 << 30) {
            const double fit = took > 0 ? want / took * (double)times : 1;
            return fit < 1.5 ? 1 : (int64_t)(fit + 0.5);
        }
        times = took < want / 50 ? times * 10 : (int64_t)((double)times * want / took) + 1;
    }
}

static bool enough(const bench *b, samples *t, int64_t round, double spent)
{
    const bool last = round >= b->rounds - 1;
    const double share = (double)(round + 1) / (double)b->rounds;

    if (t->n >= SAMPLES_MOST || spent > 4 * b->patience) return true;
    if ((double)t->n < (double)b->least * share || spent < b->seconds / (double)b->rounds)
        return false;
    if (!last || spent > b->patience) return true;
    if (t->n % 16) return false;
    samples_sum(t);
    return t->noise <= b->quiet;
}

/* Samples during which the system took a core away are measured again, while there is patience. */
bool bench_sample(const bench *b, samples *t, int64_t round, bench_fn fn, void *user)
{
    const double began = seconds_now();
    double warm = 0;
    int64_t times = 1;

    for (int64_t i = 0; i < b->warm && seconds_now() - began < b->seconds; i++) {
        const double from = seconds_now();
        if (!fn(user, 1)) return false;
        warm = seconds_now() - from;
    }
    if (warm < 1e-3 && (times = calls_in_a_sample(fn, user, b->seconds)) == 0) return false;
    const double first = seconds_now();
    do {
        const long before = preempted();
        const double from = seconds_now();
        if (!fn(user, times)) return false;
        const double to = seconds_now();
        if (preempted() != before) {
            t->disturbed++;
            if (to - first < b->patience && to - from < b->patience / 4) continue;
        }
        samples_put(t, 1e9 * (to - from) / (double)times, (int)round);
    } while (!enough(b, t, round, seconds_now() - first));
    return true;
}

/* ---- The machine ----------------------------------------------------------------------------- */

static void cpu_name(char text[160])
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(text, 160, "unknown CPU");
    while (file && fgets(line, sizeof line, file)) {
        char *is = strchr(line, ':');

        if (strncmp(line, "model name", 10) != 0 || !is) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(text, 160, "%.150s", is + 2);
        break;
    }
    if (file) fclose(file);
}

char *bench_hardware(const bench *b)
{
    char name[160];

    cpu_name(name);
    return cli_format("%s, %ld cores, %s, %s", name, sysconf(_SC_NPROCESSORS_ONLN),
                      tern_device(b->ctx), tern_isa(b->ctx));
}

void bench_judge(bench *b, bench_row *row)
{
    const roof *r = bench_roof(b, row->threads);
    const double bytes = row->bytes;
    double compute, memory;
    int i = 0;

    if (!r || (row->bytes <= 0 && row->flops <= 0)) return;
    while (i < r->n_copy - 1 && r->bytes[i] < bytes) i++;
    row->limit_gb_per_s = r->gb_per_s[i];
    if (i > 0 && bytes < r->bytes[i]) { /* between two: straight over the logarithm of the size */
        const double at = log(bytes / r->bytes[i - 1]) / log(r->bytes[i] / r->bytes[i - 1]);
        row->limit_gb_per_s = (1 - at) * r->gb_per_s[i - 1] + at * r->gb_per_s[i];
    }
    row->limit_gflops = r->gflops;
    compute = row->flops / r->gflops;
    memory = bytes / row->limit_gb_per_s;
    row->bound = compute > memory ? "compute" : "memory";
    samples_sum(&row->time);
    if (row->time.median > 0) row->roof = (compute > memory ? compute : memory) / row->time.median;
}
