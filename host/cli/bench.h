/*
 * bench.h - what the files of the verb `bench` share: problems, rows, samples, verdicts.
 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/options.h"
#include "cli/stats.h"
#include "tern/tern.h"

struct json;

/* ---- Problems: one operation with its shapes, a line of bench/problems/x.txt ---- */

enum { INPUTS = 64 };
typedef struct {
    char *shape; /* "Nx64x32x32", "scalar"; NULL: the input is absent */
    char *draw;  /* "normal", "index<10", "from:batch_norm" */
    bool packed; /* row-major; else rank 4 lies channels-last */
} problem_input;
typedef struct {
    char *where; /* "bench/problems/conv.txt:12", "command line" */
    char *text;  /* as written, without the name: what repeats the row */
    char *name;
    tern_op_info op;
    int64_t batch; /* N; 0: the shapes have none */
    char *options; /* N not yet put in */
    unsigned wanted;
    int n_in;
    problem_input in[INPUTS];
} problem;
typedef struct {
    problem *at;
    int n;
} problem_list;

/* Appends the problem in `text`; false after a message that names `where` and the field. */
bool problem_add(problem_list *list, const char *text, const char *where);
/* Calls each for every line of a file that is neither empty nor a comment; where: "file:3". False
 * after a message, and when it said so. */
typedef bool (*bench_line_fn)(void *user, const char *where, char *line);
bool bench_each_line(const char *path, bench_line_fn each, void *user);
/* The problems of a file, or of all .txt files of a folder; false after a message. */
bool problems_read(problem_list *list, const char *path);
/* Keeps, from entry `from` on, those of operation `op` in direction `dir` that hold `text`; NULL:
 * any. */
void problems_keep(problem_list *list, int from, const char *op, const char *dir, const char *text);
void problems_free(problem_list *list);
/* The call with N = batch; NULL and an error in ctx. */
tern_call *problem_call(tern_ctx *ctx, const problem *p, int64_t batch);
/* "fwd", "bwd", "bwd-x", "bwd-w", "update" */
const char *problem_direction(const problem *p);
/* bench/WHAT beside the command or here, to be freed; NULL after a message. */
char *bench_path(const char *what);

/* ---- Rows and the run they belong to ---- */

typedef struct {
    int threads;
    double gflops; /* multiply-adds of f32 */
    int n_copy;
    double bytes[8], gb_per_s[8]; /* copies, read and written bytes together, by working set */
} roof;
typedef struct {
    const char *kind; /* "op", "step", "pool", "launch" */
    char *name, *what /* op or model */, *problem, *repro;
    const char *direction, *kernel, *numbers;
    int64_t batch;
    int threads;
    const char *check; /* "ok", "failed", "unchecked", NULL: there is nothing to compare */
    char *why;         /* of a check that is not ok */
    double share;      /* of the bound */
    int64_t check_batch;
    samples time;        /* nanoseconds */
    double flops, bytes; /* 0: do not apply */
    double limit_gflops, limit_gb_per_s, roof;
    const char *bound; /* "compute", "memory" or NULL */
    char *extra;       /* JSON text of a member "details", or NULL */
    char *notes;       /* Markdown below the table, or NULL */
} bench_row;
typedef struct {
    cli *c;
    tern_ctx *ctx, *ref;
    const char *what; /* "ops", "model", … */
    bench_row *row;
    int n_row;
    roof *roofs;
    int n_roof;
    /* How long to look. */
    int64_t warm, least, rounds;
    double seconds, patience, quiet; /* quiet: the noise that is low enough */
    int *threads;
    int n_threads;
} bench;

bool bench_start(bench *b, cli *c, const char *what); /* context and settings */
bench_row *bench_add(bench *b, const char *kind, const char *name);
void bench_end(bench *b);
const roof *bench_roof(bench *b, int threads); /* measured at first use */
/* The lower of what arithmetic and memory allow, and how much of it the row reaches. */
void bench_judge(bench *b, bench_row *row);
/* Prints, saves, compares, draws: all that options ask for. Exit status. */
int bench_report(bench *b);

/* Samples into t of fn(user, times), until they are enough; round counts from 0. False: it failed.
 */
typedef bool (*bench_fn)(void *user, int64_t times);
bool bench_sample(const bench *b, samples *t, int64_t round, bench_fn fn, void *user);

void bench_json_run(struct json *j, const bench *b);
void bench_json_head(struct json *j, const bench *b); /* command, hardware, compiler, roofs */
void bench_json_row(struct json *j, const bench_row *row);
/* Another run's rows, for --baseline; false after a message. *hardware: "AMD EPYC …, avx512". */
bool bench_load(const char *path, bench *to, char **hardware);
char *bench_hardware(const bench *b);
void bench_header(const bench *b); /* the comment above a table */
char *bench_governor(void);
const char *bench_command(const bench *b);
void bench_text(const bench *b, const char *format); /* md, csv, jsonl, json on stdout */
const char *bench_time(double ns);                   /* "61.3 µs" */
bool bench_plot(const bench *b, const char *path);

int bench_ops(cli *c);
int bench_suite(cli *c);
int bench_model(cli *c);
int bench_pool(cli *c);
int bench_launch(cli *c);
/* Rows of a problem list, of a model: for suites. */
bool bench_run_problems(bench *b, const problem_list *list);
int bench_run_model(bench *b, const char *name, int64_t batch); /* exit status */

/* "1,2,8", "64..1024*2", "1..4+1" into a list to be freed; 0 entries: it is none. */
int ints_parse(const char *text, int64_t **list);

#endif
