/*
 * bench_suite.c - `tern bench suite NAME`: what bench/suites/NAME.txt lists.
 *
 *   problems FILE [TEXT]   problems of bench/problems/FILE (of all files: "."), those with TEXT
 *   model NAME BATCH
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"
#include "cli/session.h"

enum { MODELS = 64 };
typedef struct {
    problem_list list;
    struct {
        char name[64];
        int64_t batch;
    } model[MODELS];
    int n_model;
} suite;

static bool add_problems(suite *s, const char *file, const char *text)
{
    char *what = cli_format("problems/%s", file), *path = bench_path(what);
    const int before = s->list.n;
    bool fine = path && problems_read(&s->list, path);

    if (fine) problems_keep(&s->list, before, NULL, NULL, text);
    free(what);
    free(path);
    return fine;
}

static bool take(void *user, const char *where, char *line)
{
    suite *s = user;
    char file[128], text[128] = "", rest;
    long long batch;

    if (sscanf(line, " problems %127s %127[^\n]", file, text) >= 1)
        return add_problems(s, file, *text ? text : NULL);
    if (s->n_model < MODELS &&
        sscanf(line, " model %63s %lld %c", s->model[s->n_model].name, &batch, &rest) == 2 &&
        batch > 0) {
        s->model[s->n_model++].batch = batch;
        return true;
    }
    error("%s: \"problems FILE [TEXT]\" or \"model NAME BATCH\" is wanted", where);
    return false;
}

int bench_suite(cli *c)
{
    suite *s;
    bench b;
    char *what, *path;
    int status = EXIT_USAGE;
    bool fine;

    if (c->n_arg != 2)
        return usage_error(c, "bench suite needs a name: cnn, small, gemm, memory-bound, all");
    s = cli_alloc(sizeof *s);
    what = cli_format("suites/%s.txt", c->arg[1]);
    path = strchr(c->arg[1], '/') ? cli_copy(c->arg[1]) : bench_path(what);
    fine = path && bench_each_line(path, take, s);
    if (fine)
        problems_keep(&s->list, 0, cli_text(c, "op"), cli_text(c, "dir"), cli_text(c, "filter"));
    if (fine && bench_start(&b, c, "suite")) {
        status = s->list.n == 0 || bench_run_problems(&b, &s->list) ? EXIT_DONE : EXIT_FAILED;
        for (int i = 0; i < s->n_model && status == EXIT_DONE; i++)
            status = bench_run_model(&b, s->model[i].name, s->model[i].batch);
        if (status == EXIT_DONE) status = bench_report(&b);
        tern_error_clear(b.ctx);
        bench_end(&b);
        status = session_close(b.ctx, status);
    }
    problems_free(&s->list);
    free(s);
    free(what);
    free(path);
    return status;
}
