/* bench_report.c - what becomes of the rows of `tern bench`: text, files, comparisons. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/table.h"

static const double THRESHOLD = 0.03;

/* ---- Files and comparisons ------------------------------------------------------------------- */

static bool save(const bench *b, const char *path)
{
    FILE *file = fopen(path, "we");
    json j = {0};
    char *text;
    bool fine;

    if (!file) {
        error("--save %s: %s", path, strerror(errno));
        return false;
    }
    bench_json_run(&j, b);
    text = json_take(&j);
    fine = fputs(text, file) >= 0;
    fine = fclose(file) == 0 && fine;
    free(text);
    if (!fine) error("--save %s: %s", path, strerror(errno));
    else say("wrote %s (all samples)\n", path);
    return fine;
}

static const bench_row *counterpart(const bench *base, const bench_row *r)
{
    for (int i = 0; i < base->n_row; i++) {
        const bench_row *o = &base->row[i];

        if (o->batch == r->batch && o->threads == r->threads && strcmp(o->name, r->name) == 0 &&
            strcmp(o->problem, r->problem ? r->problem : "") == 0)
            return o;
    }
    return NULL;
}

static void compare_json(const bench *b, const bench *base, const verdict *v, const int *count)
{
    json j = {0};
    char *text;

    json_open(&j, NULL, '{');
    json_text(&j, "schema", "tern.bench/1");
    json_text(&j, "baseline", cli_text(b->c, "baseline"));
    json_real(&j, "threshold", THRESHOLD);
    for (int k = 0; k < 4; k++) json_int(&j, verdict_keys[k], count[k]);
    json_open(&j, "comparisons", '[');
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i], *o = counterpart(base, r);

        if (!o || !o->time.n || !r->time.n) continue;
        json_open(&j, NULL, '{');
        json_text(&j, "name", r->name);
        json_text(&j, "problem", r->problem);
        json_int(&j, "batch", r->batch);
        json_int(&j, "threads", r->threads);
        json_real(&j, "base_ns", o->time.median);
        json_real(&j, "now_ns", r->time.median);
        json_real(&j, "change", v[i].change);
        json_real(&j, "low", v[i].low);
        json_real(&j, "high", v[i].high);
        json_text(&j, "verdict", verdict_keys[v[i].kind]);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    text = json_take(&j);
    result("%s", text);
    free(text);
}

static void compare_text(const bench *b, const bench *base, const verdict *v, const int *count,
                         int n_new)
{
    table t = {{"op", "dir", "batch", "thr", "base", "now", "change", "95% interval", "verdict"},
               {false, false, true, true, true, true, true, false, false},
               9};

    bench_header(b);
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i], *o = counterpart(base, r);
        const bool both = o && o->time.n && r->time.n;
        const double noise = both && o->time.noise > r->time.noise ? o->time.noise : r->time.noise;

        table_put(&t, (const char *[]){
                          r->name, r->direction ? r->direction : "",
                          r->batch ? cell("%lld", (long long)r->batch) : "–",
                          cell("%d", r->threads), o && o->time.n ? bench_time(o->time.median) : "–",
                          r->time.n ? bench_time(r->time.median) : "–",
                          both ? cell("%+.1f%%", 100 * v[i].change) : "–",
                          both ? cell("%+.1f to %+.1f%%", 100 * v[i].low, 100 * v[i].high) : "–",
                          !both                    ? r->time.n ? "new" : "no time"
                          : v[i].kind == IS_UNSURE ? cell("unsure: noise %.0f%%", 100 * noise)
                                                   : verdict_names[v[i].kind]});
    }
    table_print(&t, NULL);
    result("%d slower, %d faster, %d unsure, %d same", count[IS_SLOWER], count[IS_FASTER],
           count[IS_UNSURE], count[IS_SAME]);
    if (n_new) result(", %d not in the baseline", n_new);
    result(" (threshold %.0f%%)\n", 100 * THRESHOLD);
}

static int compare(bench *b, const char *path, bool as_json)
{
    bench base = {.c = b->c};
    char *hardware = NULL, *here = bench_hardware(b);
    verdict *v = cli_alloc((size_t)(b->n_row + 1) * sizeof *v);
    int count[4] = {0}, n_new = 0, status = EXIT_FAILED;

    if (bench_load(path, &base, &hardware)) {
        if (strcmp(hardware, here) != 0 && !cli_flag(b->c, "force")) {
            error("--baseline %s is of other hardware: \"%s\", here: \"%s\"", path, hardware, here);
            hint("--force compares all the same");
        } else {
            for (int i = 0; i < b->n_row; i++) {
                const bench_row *o = counterpart(&base, &b->row[i]);

                if (o && o->time.n && b->row[i].time.n) {
                    v[i] = compare_samples(&o->time, &b->row[i].time, THRESHOLD);
                    count[v[i].kind]++;
                } else n_new++;
            }
            if (as_json) compare_json(b, &base, v, count);
            else compare_text(b, &base, v, count, n_new);
            status = count[IS_SLOWER] ? EXIT_SLOWER : EXIT_DONE;
        }
    }
    bench_end(&base);
    free(hardware);
    free(here);
    free(v);
    return status;
}

int bench_report(bench *b)
{
    const char *file = cli_text(b->c, "save"), *base = cli_text(b->c, "baseline");
    const char *picture = cli_text(b->c, "plot");
    const char *format = out.json ? "json" : cli_text(b->c, "format");
    int status = EXIT_DONE;

    for (int i = 0; i < b->n_row; i++) {
        samples_sum(&b->row[i].time);
        if (b->row[i].check && strcmp(b->row[i].check, "failed") == 0) status = EXIT_BOUND;
    }
    if (base) {
        const int compared = compare(b, base, strcmp(format, "json") == 0);
        if (compared != EXIT_DONE) status = compared;
    } else bench_text(b, format);
    if (file && !save(b, file)) status = EXIT_FAILED;
    if (picture && !bench_plot(b, picture)) status = EXIT_FAILED;
    return status;
}
