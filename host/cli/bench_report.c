/*
 * bench_report.c - results of `tern bench` as Markdown, CSV, JSON, JSON lines; files; comparisons.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"

static const double THRESHOLD = 0.03;

const char *bench_time(double ns)
{
    static char texts[8][32];
    static int next;
    char *text = texts[next++ % 8];
    const double x = ns < 1e3 ? ns : ns < 1e6 ? ns / 1e3 : ns < 1e9 ? ns / 1e6 : ns / 1e9;
    const char *unit = ns < 1e3 ? "ns" : ns < 1e6 ? "µs" : ns < 1e9 ? "ms" : "s";

    snprintf(text, 32, x < 10 ? "%.2f %s" : x < 100 ? "%.1f %s" : "%.0f %s", x, unit);
    return text;
}

const char *bench_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

char *bench_governor(void)
{
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "re");
    char text[64] = "";

    if (file) {
        if (!fgets(text, sizeof text, file)) text[0] = '\0';
        fclose(file);
    }
    text[strcspn(text, "\n")] = '\0';
    return cli_copy(*text ? text : "not shown");
}

/* "tern bench ops --problems x --threads 1": what was asked for, in the order of the table. */
const char *bench_command(const bench *b)
{
    char *text = cli_copy("tern bench"), *more;

    for (int i = 0; i < b->c->n_arg; i++) {
        const bool quote = strchr(b->c->arg[i], ' ') != NULL;
        more = cli_format("%s %s%s%s", text, quote ? "'" : "", b->c->arg[i], quote ? "'" : "");
        free(text);
        text = more;
    }
    for (int i = 0; i < option_count; i++) {
        const option *o = &option_table[i];

        if (!b->c->set[i].origin || strncmp(b->c->set[i].origin, "--", 2) != 0) continue;
        if (o->kind == O_FLAG) more = cli_format("%s --%s", text, o->name);
        else more = cli_format("%s --%s %s", text, o->name, b->c->set[i].text);
        free(text);
        text = more;
    }
    return cli_keep(text);
}

/* ---- Markdown -------------------------------------------------------------------------------- */

/* Columns that a terminal shows for UTF-8 text. */
static int width(const char *text)
{
    int n = 0;

    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(const char *text, int columns, bool right)
{
    const int fill = columns - width(text);

    if (right) result("%*s%s", fill > 0 ? fill : 0, "", text);
    else result("%s%*s", text, fill > 0 ? fill : 0, "");
}

enum { COLUMNS = 12 };
typedef struct {
    const char *head[COLUMNS];
    bool right[COLUMNS];
    int n, n_row;
    char **cell; /* n of each row */
} table;

static void table_put(table *t, const char *const *cell)
{
    t->cell = cli_realloc(t->cell, (size_t)((t->n_row + 1) * t->n) * sizeof *t->cell);
    for (int k = 0; k < t->n; k++) t->cell[t->n_row * t->n + k] = cli_copy(cell[k] ? cell[k] : "");
    t->n_row++;
}

static void table_print(table *t)
{
    int columns[COLUMNS];

    for (int k = 0; k < t->n; k++) {
        columns[k] = width(t->head[k]);
        for (int i = 0; i < t->n_row; i++)
            if (width(t->cell[i * t->n + k]) > columns[k])
                columns[k] = width(t->cell[i * t->n + k]);
    }
    for (int i = -2; i < t->n_row; i++) {
        for (int k = 0; k < t->n; k++) {
            if (i == -1) {
                result("|%s", t->right[k] ? "-" : ":");
                for (int w = 0; w < columns[k]; w++) result("-");
                result("%s", t->right[k] ? ":" : "-");
                continue;
            }
            result("| ");
            pad(i == -2 ? t->head[k] : t->cell[i * t->n + k], columns[k], t->right[k]);
            result(" ");
        }
        result("|\n");
    }
    for (int i = 0; i < t->n_row * t->n; i++) free(t->cell[i]);
    free(t->cell);
}

static void header(const bench *b)
{
    char *hardware = bench_hardware(b), *governor = bench_governor();

    result("<!-- tern %s %s, %s | %s, governor %s\n", tern_version(), build_type(),
           bench_compiler(), hardware, governor);
    for (int i = 0; i < b->n_roof; i++) {
        const roof *r = &b->roofs[i];

        result("     roofs measured now, %d thread%s: %.0f GFLOP/s; copy", r->threads,
               r->threads > 1 ? "s" : "", r->gflops);
        for (int k = 0; k < r->n_copy; k++)
            result("%s %.0f GB/s of %s", k ? "," : "", r->gb_per_s[k], mebibytes(r->bytes[k]));
        result("\n");
    }
    result("     warm caches, medians of %lld rounds; noise = IQR/median, ! above 10%%\n"
           "     %s -->\n",
           (long long)b->rounds, bench_command(b));
    if (strcmp(build_type(), "Release") != 0)
        result("\n**THIS IS A %s BUILD: ITS TIMES SAY NOTHING.**\n\n", build_type());
    free(hardware);
    free(governor);
}

/* Text that lives until the next 32. */
__attribute__((format(printf, 1, 2))) static const char *cell(const char *format, ...)
{
    static char texts[32][160];
    static int next;
    char *text = texts[next++ % 32];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof texts[0], format, args);
    va_end(args);
    return text;
}

static const char *noise_of(const samples *t)
{
    return cell("%.1f%%%s", 100 * t->noise, t->noise > 0.1 ? " !" : "");
}

static void put_row(table *t, const bench_row *r)
{
    const bool timed = r->time.n > 0;
    char *line = cli_format("`%s`", r->problem ? r->problem : r->repro ? r->repro : "");

    table_put(
        t, (const char *[]){r->name, r->direction ? r->direction : "",
                            r->batch ? cell("%lld", (long long)r->batch) : "–",
                            cell("%d", r->threads), r->kernel ? r->kernel : "",
                            timed      ? bench_time(r->time.median)
                            : r->check ? cell("%s", "WRONG")
                                       : "–",
                            timed ? noise_of(&r->time) : "–",
                            timed && r->flops > 0 ? cell("%.1f", r->flops / r->time.median) : "–",
                            timed && r->bytes > 0 ? cell("%.1f", r->bytes / r->time.median) : "–",
                            timed && r->bound ? r->bound : "–",
                            timed && r->bound
                                ? cell("%.0f%%%s", 100 * r->roof,
                                       r->check && strcmp(r->check, "unchecked") == 0 ? " ?" : "")
                                : "–",
                            line});
    free(line);
}

static void markdown(const bench *b)
{
    table t = {{"op", "dir", "batch", "thr", "kernel", "median", "noise", "GFLOP/s", "GB/s",
                "bound", "% roof", "problem"},
               {false, false, true, true, false, true, true, true, true, false, true, false},
               COLUMNS};
    int n_wrong = 0, n_unchecked = 0;

    header(b);
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];

        put_row(&t, r);
        n_wrong += r->check && strcmp(r->check, "failed") == 0;
        n_unchecked += r->check && strcmp(r->check, "unchecked") == 0;
    }
    table_print(&t);
    if (n_wrong) result("\n%d rows differ from the reference and have no time.\n", n_wrong);
    if (n_unchecked)
        result("\n? %d rows were too large to be compared with the reference.\n", n_unchecked);
}

/* ---- CSV, JSON lines ------------------------------------------------------------------------- */

/* RFC 4180: in quotes, quotes doubled. */
static void csv_text(const char *text)
{
    result("\"");
    for (; text && *text; text++) result(*text == '"' ? "\"\"" : "%c", *text);
    result("\"");
}

static void csv(const bench *b)
{
    result(
        "kind,name,what,direction,batch,threads,kernel,check,median_ns,min_ns,q25_ns,q75_ns,noise,"
        "samples,gflops,gb_per_s,bound,roof,repro\n");
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];
        const samples *t = &r->time;

        csv_text(r->kind), result(","), csv_text(r->name), result(","), csv_text(r->what);
        result(",%s,%lld,%d,%s,%s,", r->direction ? r->direction : "", (long long)r->batch,
               r->threads, r->kernel ? r->kernel : "", r->check ? r->check : "");
        if (t->n)
            result("%.6g,%.6g,%.6g,%.6g,%.4g,%d,", t->median, t->least, t->q25, t->q75, t->noise,
                   t->n);
        else result(",,,,,0,");
        if (t->n && r->flops > 0) result("%.6g", r->flops / t->median);
        result(",");
        if (t->n && r->bytes > 0) result("%.6g", r->bytes / t->median);
        result(",%s,", r->bound ? r->bound : "");
        if (t->n && r->bound) result("%.4g", r->roof);
        result(",");
        csv_text(r->repro);
        result("\n");
    }
}

static void json_lines(const bench *b)
{
    for (int i = 0; i < b->n_row; i++) {
        json j = {.line = true};
        char *text;

        bench_json_row(&j, &b->row[i]);
        text = json_take(&j);
        result("%s", text);
        free(text);
    }
}

void bench_text(const bench *b, const char *format)
{
    if (strcmp(format, "csv") == 0) csv(b);
    else if (strcmp(format, "jsonl") == 0) json_lines(b);
    else if (strcmp(format, "json") == 0) {
        json j = {0};
        char *text;

        bench_json_run(&j, b);
        text = json_take(&j);
        result("%s", text);
        free(text);
    } else markdown(b);
}

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

    header(b);
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
    table_print(&t);
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
    return status;
}
