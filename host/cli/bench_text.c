/* bench_text.c - rows of `tern bench` as Markdown, CSV, JSON, JSON lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/table.h"

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

void bench_header(const bench *b)
{
    char *hardware = bench_hardware(b), *governor = bench_governor();

    result("<!-- tern %s %s, %s | %s, governor %s\n", tern_version(), build_type(),
           build_compiler(), hardware, governor);
    for (int i = 0; i < b->n_roof; i++) {
        const roof *r = &b->roofs[i];

        result("     roofs measured now, %d thread%s: %.0f GFLOP/s; copy", r->threads,
               r->threads > 1 ? "s" : "", r->gflops);
        for (int k = 0; k < r->n_copy; k++)
            result("%s %.0f GB/s of %s", k ? "," : "", r->gb_per_s[k], mebibytes(r->bytes[k]));
        result("\n");
    }
    result("     math %s%s%s\n", tern_math_name((int)tern_math(b->ctx)),
           session_choices(b->ctx) ? ", kernels by the clock, choices " : "",
           session_choices(b->ctx) ? session_choices(b->ctx) : "");
    result("     warm caches, medians of %lld rounds; noise = IQR/median, ! above 10%%\n"
           "     %s -->\n",
           (long long)b->rounds, bench_command(b));
    if (strcmp(build_type(), "Release") != 0)
        result("\n**THIS IS A %s BUILD: ITS TIMES SAY NOTHING.**\n\n", build_type());
    free(hardware);
    free(governor);
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

static void models(const bench *b)
{
    table t = {
        {"model", "batch", "threads", "median ms", "min ms", "noise", "img/s", "GFLOP/s", "% roof"},
        {false, true, true, true, true, true, true, true, true},
        9};

    bench_header(b);
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];
        const samples *s = &r->time;

        table_put(&t, (const char *[]){r->name, cell("%lld", (long long)r->batch),
                                       cell("%d", r->threads), cell("%.3f", 1e-6 * s->median),
                                       cell("%.3f", 1e-6 * s->least), noise_of(s),
                                       rate(1e9 * (double)r->batch / s->median),
                                       r->flops > 0 ? cell("%.1f", r->flops / s->median) : "–",
                                       r->flops > 0 ? cell("%.0f%%", 100 * r->roof) : "–"});
    }
    table_print(&t, NULL);
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].notes) result("%s", b->row[i].notes);
}

static void markdown(const bench *b)
{
    table t = {{"op", "dir", "batch", "thr", "kernel", "median", "noise", "GFLOP/s", "GB/s",
                "bound", "% roof", "problem"},
               {false, false, true, true, false, true, true, true, true, false, true, false},
               COLUMNS};
    int n_wrong = 0, n_unchecked = 0;

    bench_header(b);
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];

        put_row(&t, r);
        n_wrong += r->check && strcmp(r->check, "failed") == 0;
        n_unchecked += r->check && strcmp(r->check, "unchecked") == 0;
    }
    table_print(&t, NULL);
    if (n_wrong) result("\n%d rows differ from the reference and have no time.\n", n_wrong);
    if (n_unchecked)
        result("\n? %d rows were too large to be compared with the reference.\n", n_unchecked);
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].notes) result("%s", b->row[i].notes);
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
    } else if (strcmp(b->what, "model") == 0) models(b);
    else markdown(b);
}
