/*
 * bench_ops.c - `tern bench ops`: problems compared with the reference, then timed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"
#include "cli/session.h"

/* What ref may be asked to compute: it is plain loops in double. */
static const double REF_FLOPS = 1e9, REF_BYTES = 2e8;

/* ---- Comparison with ref --------------------------------------------------------------------- */

static bool affordable(const tern_call_info *info)
{
    return (!info->counted || info->flops <= REF_FLOPS) && info->bytes <= REF_BYTES;
}

/* The smallest batch at which the same kernel takes the call; -1: none that ref can follow. */
static int64_t batch_to_check(bench *b, const problem *p, const bench_row *row)
{
    int64_t n = row->batch ? 1 : 0;

    while (true) {
        tern_call *call = problem_call(b->ctx, p, n);
        tern_call_info info;

        tern_call_look(call, &info);
        tern_call_close(b->ctx, call);
        if (!call || !affordable(&info)) return -1;
        if (strcmp(info.kernel, row->kernel) == 0) return n;
        if (n == row->batch) return -1;
        n = n * 2 > row->batch ? row->batch : n * 2;
    }
}

/* An earlier row of the same problem and kernel: threads and batch change nothing then. */
static const bench_row *checked_before(const bench *b, const bench_row *row)
{
    for (int i = 0; i < b->n_row && &b->row[i] != row; i++)
        if (b->row[i].check && strcmp(b->row[i].problem, row->problem) == 0 &&
            strcmp(b->row[i].kernel, row->kernel) == 0)
            return &b->row[i];
    return NULL;
}

static tern_status check(bench *b, const problem *p, bench_row *row)
{
    tern_call_error e;
    tern_call *call;
    tern_status status;

    if (!b->ref || cli_flag(b->c, "no-check")) return TERN_OK;
    const bench_row *before = checked_before(b, row);
    if (before && strcmp(before->check, "unchecked") != 0) {
        row->check = before->check;
        row->share = before->share;
        row->check_batch = before->check_batch;
        row->why = before->why ? cli_copy(before->why) : NULL;
        return TERN_OK;
    }
    row->check_batch = batch_to_check(b, p, row);
    if (tern_error(b->ctx) != TERN_OK) return tern_error(b->ctx);
    if (row->check_batch < 0) {
        row->check = "unchecked";
        row->check_batch = 0;
        return TERN_OK;
    }
    call = problem_call(b->ctx, p, row->check_batch);
    status = call ? tern_call_check(b->ctx, &e, call, b->ref) : tern_error(b->ctx);
    tern_call_close(b->ctx, call);
    if (status != TERN_OK) return status;
    row->share = e.share;
    row->check = e.n_beyond ? "failed" : "ok";
    if (e.n_beyond)
        row->why = cli_format("%lld of %lld values are off: %s[%lld] is %.9g, ref has %.9g",
                              (long long)e.n_beyond, (long long)e.n, e.worst_name,
                              (long long)e.worst, e.got, e.want);
    return TERN_OK;
}

/* ---- Rows ------------------------------------------------------------------------------------ */

typedef struct {
    const problem *p;
    int i_row;
} job;
typedef struct {
    bench *b;
    tern_call *call;
} running;

static bool times(void *user, int64_t n)
{
    running *r = user;

    return tern_call_run(r->b->ctx, r->call, n) == TERN_OK;
}

static void progress(const bench *b, const char *doing, int i, int n, const char *name)
{
    if (out.show == SHOW_TTY && !out.quiet) {
        char *text = cli_format("%s %d/%d  %s", doing, i + 1, n, name);
        redraw(text);
        free(text);
    }
    (void)b;
}

/* What a call moves at least: its operands once, and again those that it must read twice, where
 * processors have no cache of their own that would hold them. */
static double traffic(const bench *b, const bench_row *row, const tern_call_info *info)
{
    const double own_cache = (double)(1 << 20) * row->threads;
    const bool host = strcmp(tern_device(b->ctx), "cpu") == 0;

    return info->bytes + (host && info->again > own_cache ? info->again : 0);
}

/* Looks at the call, compares it; false: the context failed. */
static bool prepare(bench *b, const problem *p, bench_row *row)
{
    tern_call_info info;
    tern_call *call;

    if (tern_threads_set(b->ctx, row->threads) != TERN_OK) return false;
    call = problem_call(b->ctx, p, row->batch);
    if (!call) return false;
    tern_call_look(call, &info);
    row->kernel = info.kernel;
    row->numbers = info.numbers;
    row->flops = info.counted ? info.flops : 0;
    row->bytes = traffic(b, row, &info);
    tern_call_close(b->ctx, call);
    return check(b, p, row) == TERN_OK;
}

static bool one_round(bench *b, const problem *p, bench_row *row, int64_t round)
{
    running r = {.b = b};
    bool fine;

    if (tern_threads_set(b->ctx, row->threads) != TERN_OK) return false;
    r.call = problem_call(b->ctx, p, row->batch);
    fine = r.call && bench_sample(b, &row->time, round, times, &r);
    tern_call_close(b->ctx, r.call);
    return fine;
}

/* The line that repeats a row. */
static char *repro(const bench *b, const problem *p, const bench_row *row)
{
    char *batch =
        row->batch == p->batch ? cli_copy("") : cli_format(" --batch %lld", (long long)row->batch);
    char *text = cli_format("tern bench ops '%s'%s --threads %d%s%s", p->text, batch, row->threads,
                            cli_given(b->c, "device") ? " --device " : "",
                            cli_given(b->c, "device") ? cli_text(b->c, "device") : "");

    free(batch);
    return text;
}

static void plan_rows(bench *b, const problem *p, job **jobs, int *n)
{
    int64_t *batch = NULL, own = p->batch;
    int n_batch = 0;

    if (p->batch && cli_given(b->c, "batch")) n_batch = ints_parse(cli_text(b->c, "batch"), &batch);
    for (int t = 0; t < b->n_threads; t++)
        for (int i = 0; i < (n_batch ? n_batch : 1); i++) {
            bench_row *row = bench_add(b, "op", p->name);

            row->what = cli_copy(p->op.name);
            row->problem = cli_copy(p->text);
            row->direction = problem_direction(p);
            row->batch = n_batch ? batch[i] : own;
            row->threads = b->threads[t];
            row->repro = repro(b, p, row);
            *jobs = cli_realloc(*jobs, (size_t)(*n + 1) * sizeof **jobs);
            (*jobs)[(*n)++] = (job){p, b->n_row - 1};
        }
    free(batch);
}

static bool failed(bench *b, const problem *p)
{
    redraw("");
    session_failed(b->ctx, p->where);
    return false;
}

bool bench_run_problems(bench *b, const problem_list *list)
{
    const bool computes = strcmp(tern_device(b->ctx), "null") != 0;
    job *jobs = NULL;
    int n = 0;
    bool fine = true;

    if (!computes) {
        error("--device null computes nothing: there is nothing to time");
        return false;
    }
    for (int i = 0; i < list->n; i++) plan_rows(b, &list->at[i], &jobs, &n);
    for (int i = 0; i < n && fine; i++) {
        bench_row *row = &b->row[jobs[i].i_row];

        progress(b, "compare", i, n, row->name);
        fine = prepare(b, jobs[i].p, row) || failed(b, jobs[i].p);
        if (fine && row->why) warn("%s: %s: %s", row->name, row->check, row->why);
    }
    for (int64_t round = 0; round < b->rounds && fine; round++)
        for (int i = 0; i < n && fine; i++) {
            bench_row *row = &b->row[jobs[i].i_row];

            if (row->check && strcmp(row->check, "failed") == 0) continue;
            progress(b, "time", (int)round * n + i, (int)b->rounds * n, row->name);
            fine = one_round(b, jobs[i].p, row, round) || failed(b, jobs[i].p);
        }
    redraw("");
    for (int i = 0; i < n && fine; i++) bench_judge(b, &b->row[jobs[i].i_row]);
    free(jobs);
    return fine;
}

/* ---- The verb -------------------------------------------------------------------------------- */

static bool collect(cli *c, problem_list *list)
{
    const char *path = cli_text(c, "problems");
    char *found;
    bool fine = true;

    for (int i = 1; i < c->n_arg && fine; i++) fine = problem_add(list, c->arg[i], "command line");
    if (c->n_arg > 1 || !fine) return fine;
    found = path ? cli_copy(path) : bench_path("problems");
    fine = found && problems_read(list, found);
    free(found);
    if (fine) problems_keep(list, 0, cli_text(c, "op"), cli_text(c, "dir"), cli_text(c, "filter"));
    if (fine && list->n == 0) error("no problem is left by --filter, --op and --dir");
    return fine && list->n > 0;
}

int bench_ops(cli *c)
{
    problem_list list = {0};
    bench b;
    int status = EXIT_FAILED;

    if (!collect(c, &list)) {
        problems_free(&list);
        return EXIT_USAGE;
    }
    if (bench_start(&b, c, "ops")) {
        if (bench_run_problems(&b, &list)) status = bench_report(&b);
        else tern_error_clear(b.ctx);
        bench_end(&b);
        status = session_close(b.ctx, status);
    }
    problems_free(&list);
    return status;
}
