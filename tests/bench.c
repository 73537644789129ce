/*
 * bench.c - what `tern bench` concludes: verdicts on recorded samples, lists and ranges; and that
 * every operation has a problem, and every call can be looked at, repeated, compared, profiled.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/call.h"

/* The command's own files, with memory that a failing test may end without. */
#include "cli/range.c"
#include "cli/stats.c"

void *cli_realloc(void *p, size_t bytes)
{
    void *q = realloc(p, bytes ? bytes : 1);

    cr_assert(q);
    return q;
}

void *cli_alloc(size_t bytes) { return memset(cli_realloc(NULL, bytes), 0, bytes); }

/* ---- Verdicts -------------------------------------------------------------------------------- */

enum { ROWS_MOST = 32, RUNS = 6 };
typedef struct {
    char name[64];
    samples run[RUNS];
} recorded;

static int read_recorded(recorded *r)
{
    FILE *file = fopen(TC_SOURCE_DIR "/tests/fixtures/bench_samples.txt", "r");
    char *text = NULL, *at, *word;
    size_t room = 0;
    int n = 0;

    cr_assert(file);
    while (getline(&text, &room, file) >= 0) {
        if (*text == '#') continue;
        const char *name = strtok_r(text, " \n", &at);
        const int run = atoi(strtok_r(NULL, " \n", &at));

        if (n == 0 || strcmp(r[n - 1].name, name) != 0) {
            cr_assert(n < ROWS_MOST);
            snprintf(r[n++].name, sizeof r->name, "%s", name);
        }
        cr_assert(run >= 0 && run < RUNS);
        while ((word = strtok_r(NULL, " \n", &at)) != NULL)
            samples_put(&r[n - 1].run[run], strtod(strchr(word, ':') + 1, NULL), atoi(word));
    }
    free(text);
    fclose(file);
    return n;
}

static void free_recorded(recorded *r, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < RUNS; k++) samples_free(&r[i].run[k]);
}

/* The verdict on `now`, slowed down by a factor. */
static verdict_kind judge(const samples *base, const samples *now, double factor)
{
    samples slow = {0};

    for (int i = 0; i < now->n; i++) samples_put(&slow, now->x[i] * factor, now->round[i]);
    const verdict v = compare_samples(base, &slow, 0.03);
    samples_free(&slow);
    return v.kind;
}

/* How many of all pairs of runs get each verdict. */
static int count_verdicts(const recorded *r, int n, double factor, int count[4])
{
    int n_pair = 0;

    memset(count, 0, 4 * sizeof *count);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < RUNS; j++)
            for (int k = j + 1; k < RUNS; k++, n_pair++)
                count[judge(&r[i].run[j], &r[i].run[k], factor)]++;
    return n_pair;
}

Test(bench, the_same_program_is_not_slower)
{
    static recorded r[ROWS_MOST];
    int count[4];
    const int n = read_recorded(r), n_pair = count_verdicts(r, n, 1, count);

    cr_assert(n_pair >= 20);
    cr_log_info("%d pairs: %d slower, %d faster, %d unsure, %d same", n_pair, count[IS_SLOWER],
                count[IS_FASTER], count[IS_UNSURE], count[IS_SAME]);
    cr_expect(count[IS_SLOWER] * 20 <= n_pair, "%d of %d", count[IS_SLOWER], n_pair);
    cr_expect(count[IS_FASTER] * 20 <= n_pair, "%d of %d", count[IS_FASTER], n_pair);
    cr_expect(count[IS_SAME] * 2 > n_pair, "%d of %d", count[IS_SAME], n_pair);
    free_recorded(r, n);
}

/*
 * A delay beyond the threshold is called the wrong way never, and "same" no more often than a 95 %
 * interval errs. How often noise leaves it unsure is not this test's to say, but one of 10 % is to
 * be found as surely as the interval promises.
 */
Test(bench, delays_are_found)
{
    static const double factors[] = {1.05, 1.07, 1.10};
    static recorded r[ROWS_MOST];
    const int n = read_recorded(r);

    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++)
        for (int back = 0; back < 2; back++) {
            const double f = back ? 1 / factors[i] : factors[i];
            const int right = back ? IS_FASTER : IS_SLOWER, wrong = back ? IS_SLOWER : IS_FASTER;
            int count[4];
            const int n_pair = count_verdicts(r, n, f, count);

            cr_log_info("times %.3f: %d of %d found, %d same", f, count[right], n_pair,
                        count[IS_SAME]);
            cr_expect(count[wrong] == 0, "times %g: %d the wrong way", f, count[wrong]);
            cr_expect(count[IS_SAME] <= 0.05 * n_pair, "times %g: %d same", f, count[IS_SAME]);
            cr_expect(factors[i] < 1.10 || count[right] >= 0.95 * n_pair, "times %g: %d found", f,
                      count[right]);
        }
    free_recorded(r, n);
}

/* Rounds that disagree make an interval as wide as they lie apart. */
Test(bench, rounds_that_disagree_are_unsure)
{
    samples a = {0}, b = {0};

    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 40; i++) {
            samples_put(&a, 100 + 0.01 * i, round);
            samples_put(&b, (round < 3 ? 101 : 115) + 0.01 * i, round);
        }
    const verdict v = compare_samples(&a, &b, 0.03), again = compare_samples(&a, &b, 0.03);
    cr_expect(v.kind == IS_UNSURE && v.low < 0.02 && v.high > 0.1, "%g to %g", v.low, v.high);
    cr_expect(v.low == again.low && v.high == again.high, "the generator starts the same");
    samples_free(&b);
    samples_put(&b, 1, 0);
    cr_expect(compare_samples(&a, &b, 0.03).kind == IS_UNSURE, "one sample says nothing");
    samples_free(&a);
    samples_free(&b);
}

/* ---- Lists and ranges ------------------------------------------------------------------------ */

static void expect_ints(const char *text, int n, const int64_t *want)
{
    int64_t *got;
    const int n_got = ints_parse(text, &got);

    cr_expect(n_got == n, "\"%s\": %d numbers, wanted %d", text, n_got, n);
    for (int i = 0; i < n && i < n_got; i++) cr_expect(got[i] == want[i], "\"%s\"[%d]", text, i);
    free(got);
}

Test(bench, ranges)
{
    static const char *const none[] = {"",       "x",      "1,",     ",1",  "1..",     "4..1",
                                       "1..8*1", "0..8*2", "1..8+0", "1 2", "1..9999", "+1"};

    expect_ints("7", 1, (int64_t[]){7});
    expect_ints("128,256", 2, (int64_t[]){128, 256});
    expect_ints("64..1024*2", 5, (int64_t[]){64, 128, 256, 512, 1024});
    expect_ints("1..4", 4, (int64_t[]){1, 2, 3, 4});
    expect_ints("1..10+4,3", 4, (int64_t[]){1, 5, 9, 3});
    expect_ints("9223372036854775806..9223372036854775807", 2,
                (int64_t[]){INT64_MAX - 1, INT64_MAX});
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) expect_ints(none[i], 0, NULL);
}

/* ---- Problems and calls ---------------------------------------------------------------------- */

Test(bench, every_operation_has_a_problem)
{
    tern_op_info op;
    char line[64];

    for (int i = 0; tern_op_at(i, &op); i++) {
        char *command = NULL;

        cr_assert(asprintf(&command, "cat %s/bench/problems/*.txt | cut -d' ' -f1 | grep -x '%s'",
                           TC_SOURCE_DIR, op.name) > 0);
        FILE *pipe = popen(command, "r");
        cr_assert(pipe);
        cr_expect(fgets(line, sizeof line, pipe), "bench/problems has no line of %s", op.name);
        while (fgets(line, sizeof line, pipe)) continue;
        pclose(pipe);
        free(command);
    }
}

static void one_call(const ti_op *op, const ti_sample *s, void *user)
{
    tern_ctx *ctx = ((tern_ctx **)user)[0], *ref = ((tern_ctx **)user)[1];
    tern_tensor *in[TI_FEW];
    int64_t opts[TI_OPTS / 8];
    char text[1024], name[120];
    tern_call_info info;
    tern_call_error e;

    tern_frame_begin(ctx);
    ti_opts_fill(op, opts, s->opts);
    ti_opts_text(op, opts, text, sizeof text);
    tc_inputs(ctx, op, s, TERN_F32, 3, in);
    tern_call *k = tern_call_open(ctx, op->name, text, s->n_in, in, 0);
    cr_assert(k, "%s: %s", tc_name(name, op, s), tern_error_text(ctx));
    tern_call_look(k, &info);
    cr_expect(info.kernel && info.flops >= 0 && info.bytes >= 0);
    cr_expect(tern_call_run(ctx, k, 3) == TERN_OK);
    cr_assert(tern_call_check(ctx, &e, k, ref) == TERN_OK, "%s: %s", tc_name(name, op, s),
              tern_error_text(ctx));
    cr_expect(e.n_beyond == 0, "%s: %s[%lld] is %g, wanted %g", tc_name(name, op, s), e.worst_name,
              (long long)e.worst, e.got, e.want);
    tern_call_close(ctx, k);
    tern_frame_end(ctx);
}

Test(bench, calls_of_all_samples)
{
    tern_ctx *ctx[] = {tc_open("cpu"), tc_open("ref")};

    tc_each_sample(one_call, ctx);
    tc_close(ctx[0]);
    tc_close(ctx[1]);
}

/* Norms read their image again after its sums, with given statistics they do not. */
Test(bench, what_is_read_twice)
{
    static const struct {
        const char *op;
        int n_in, twice;
    } of[] = {{"batch_norm", 5, 1}, {"batch_norm_eval", 5, 0}, {"add", 2, 0}};
    tern_ctx *ctx = tc_open("cpu");

    for (int i = 0; i < 3; i++) {
        tern_tensor *x = tern_fill(ctx, TERN_F32, TI_SHAPE(2, 3, 4, 4), 1);
        tern_tensor *c = of[i].n_in > 2 ? tern_fill(ctx, TERN_F32, TI_SHAPE(3), 1) : x;
        tern_call *k = tern_call_open(ctx, of[i].op, "", of[i].n_in, TI_IN(x, c, c, c, c), 1);
        tern_call_info info;
        cr_assert(k, "%s", tern_error_text(ctx));
        tern_call_look(k, &info);
        cr_expect(info.again == of[i].twice * 96 * 4, "%s: %g", of[i].op, info.again);
        tern_call_close(ctx, k);
    }
    tc_close(ctx);
}

Test(bench, calls_when_memory_fails)
{
    tern_ctx *ctx = tc_open(tc_device());
    tern_tensor *in[2];
    tern_call *k = NULL;
    int n = 0;

    for (int i = 0; i < 2; i++) in[i] = tern_fill(ctx, TERN_F32, TI_SHAPE(64, 64), 1);
    for (; !k && n < 1000; n++) {
        ti_fail_allocation(ctx, n, false);
        k = tern_call_open(ctx, "matmul", NULL, 2, in, 0);
        ti_fail_allocation(ctx, -1, false);
        if (!k) cr_assert(tern_error(ctx) == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(k && n > 3);
    cr_expect(tern_call_run(ctx, NULL, 1) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx); /* the call is closed with it */
}

/* ---- Profiles -------------------------------------------------------------------------------- */

static tern_status twice(tern_ctx *ctx, tern_tensor **to, tern_tensor **in, void *user)
{
    (void)user;
    to[0] = tern_matmul(ctx, tern_relu(ctx, in[0]), in[0]);
    return tern_error(ctx);
}

Test(bench, profile_of_a_program)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_program *p = tern_record(ctx, twice, NULL);
    tern_tensor *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(32, 32), 1), NULL};
    tern_line_time line[8];
    double whole = 0;
    int n = 0, n_found = 0;

    cr_assert(tern_program_profile(ctx, p, in, 5, line, 8, &n, &whole) == TERN_OK, "%s",
              tern_error_text(ctx));
    for (int i = 0; i < n && i < 8; i++) { /* the flags of the step have lines, too */
        const bool product = strcmp(line[i].op, "matmul") == 0;

        if (!product && strcmp(line[i].op, "relu") != 0) continue;
        n_found++;
        cr_expect(line[i].ns > 0 && line[i].flops == (product ? 2.0 * 32 * 32 * 32 : 0));
        cr_expect(line[i].bytes == (product ? 3 : 2) * 4096 && !line[i].update);
    }
    cr_expect(n_found == 2 && whole > 0);
    tern_eager_set(ctx, true);
    cr_expect(tern_program_profile(ctx, p, in, 5, line, 8, &n, &whole) == TERN_E_STATE);
    tern_error_clear(ctx);
    tc_close(ctx);
}
