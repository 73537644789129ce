/* eval.c - the verb `eval`: accuracy, loss, and a table of classes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/verbs.h"

typedef struct {
    tern_score score;
    int64_t *confusion; /* [n][n]: true class, class taken */
    int n;
    double seconds;
} scores;

static int64_t at(const scores *s, int is, int took) { return s->confusion[is * s->n + took]; }

static int64_t row_sum(const scores *s, int is)
{
    int64_t n = 0;

    for (int k = 0; k < s->n; k++) n += at(s, is, k);
    return n;
}

static int64_t column_sum(const scores *s, int took)
{
    int64_t n = 0;

    for (int k = 0; k < s->n; k++) n += at(s, k, took);
    return n;
}

static double share(int64_t part, int64_t all)
{
    return all > 0 ? (double)part / (double)all : NAN;
}

static const char *percent(char text[16], double x)
{
    if (isnan(x)) snprintf(text, 16, "-");
    else snprintf(text, 16, "%.1f%%", 100 * x);
    return text;
}

static double f1_of(double precision, double recall)
{
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

static int most_taken(const scores *s, int is)
{
    int best = -1;

    for (int k = 0; k < s->n; k++)
        if (k != is && at(s, is, k) > 0 && (best < 0 || at(s, is, k) > at(s, is, best))) best = k;
    return best;
}

static void worst_pairs(const scores *s, char **names)
{
    bool *told = cli_alloc((size_t)s->n * (size_t)s->n * sizeof *told);

    for (int i = 0; i < 3; i++) {
        int64_t best = 0;
        int where = -1;

        for (int k = 0; k < s->n * s->n; k++)
            if (k / s->n != k % s->n && !told[k] && s->confusion[k] > best) {
                best = s->confusion[k];
                where = k;
            }
        if (where < 0) break;
        told[where] = true;
        result("%s%s→%s %lld", i ? ", " : "worst pairs: ", names[where / s->n], names[where % s->n],
               (long long)best);
        if (i == 2 || best == 0) break;
    }
    result("\n");
    free(told);
}

static void table(const scores *s, const run_net *run)
{
    int wide = 5;
    char a[16], b[16], f[16], m[16];

    for (int i = 0; i < s->n; i++)
        if ((int)strlen(run->names[i]) > wide) wide = (int)strlen(run->names[i]);
    if (wide > 24) wide = 24;
    result("%-*s %7s   precision   recall      f1   most taken for\n", wide, "class", "n");
    for (int i = 0; i < s->n; i++) {
        const double precision = share(at(s, i, i), column_sum(s, i));
        const double recall = share(at(s, i, i), row_sum(s, i));
        const int k = most_taken(s, i);

        result("%-*.*s %7lld   %9s %8s %7s   %s %s\n", wide, wide, run->names[i],
               (long long)row_sum(s, i), percent(a, precision), percent(b, recall),
               percent(f, f1_of(precision, recall)), k < 0 ? "-" : run->names[k],
               k < 0 ? "" : percent(m, share(at(s, i, k), row_sum(s, i))));
    }
    worst_pairs(s, run->names);
}

static void document(cli *c, const scores *s, const run_net *run, const tern_data *data)
{
    json j = {0};
    char *text;

    json_open(&j, NULL, '{');
    json_text(&j, "schema", "tern.eval/1");
    json_text(&j, "run", c->arg[0]);
    json_text(&j, "weights", run->weights);
    json_text(&j, "data", data_name(c));
    json_bool(&j, "synthetic", tern_data_synthetic(data));
    json_text(&j, "split", cli_text(c, "split"));
    json_real(&j, "accuracy", s->score.accuracy);
    json_real(&j, "loss", s->score.loss);
    json_int(&j, "count", s->score.count);
    json_int(&j, "correct", s->score.correct);
    json_real(&j, "seconds", s->seconds);
    json_text(&j, "device", tern_device(run->ctx));
    json_text(&j, "isa", tern_isa(run->ctx));
    json_open(&j, "classes", '[');
    for (int i = 0; i < s->n; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", run->names[i]);
        json_int(&j, "count", row_sum(s, i));
        json_int(&j, "correct", at(s, i, i));
        json_int(&j, "taken", column_sum(s, i));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "confusion", '[');
    for (int i = 0; i < s->n; i++) {
        json_open(&j, NULL, '[');
        for (int k = 0; k < s->n; k++) json_int(&j, NULL, at(s, i, k));
        json_close(&j, ']');
    }
    json_close(&j, ']');
    json_close(&j, '}');
    text = json_take(&j);
    result("%s", text);
    free(text);
}

/* The part that is asked for; the validation images are those that training held out. */
static tern_data *part_of(cli *c, run_net *run)
{
    const char *split = cli_text(c, "split");
    const bool test = strcmp(split, "test") == 0;
    tern_data *data = data_open(c, run->ctx, test ? "test" : "train", &run->size), *val;
    int64_t held;

    if (!data || test) return data;
    held = data_held_out(c, tern_data_count(data));
    if (held == 0) return data;
    val = tern_data_split(run->ctx, data, held);
    return strcmp(split, "val") == 0 ? val : val ? data : NULL;
}

static int score_it(cli *c, run_net *run, scores *s)
{
    tern_data *data = part_of(c, run);
    const double before = seconds_now();
    double low, high;

    if (!data || tern_data_norm_set(run->ctx, data, &run->norm) != TERN_OK)
        return session_failed(run->ctx, NULL);
    if (tern_data_classes(data) != run->n_names) {
        error("%s has %d classes, the run was trained on %d", data_name(c), tern_data_classes(data),
              run->n_names);
        return EXIT_FAILED;
    }
    data_notes(data);
    s->n = run->n_names;
    s->confusion = cli_alloc((size_t)s->n * (size_t)s->n * sizeof *s->confusion);
    if (tern_evaluate_with(
            run->ctx, &s->score, run->net, data,
            &(tern_evaluate_opts){.batch = cli_given(c, "batch") ? (int)cli_int(c, "batch") : 0,
                                  .classes = s->n,
                                  .confusion = s->confusion}) != TERN_OK)
        return session_failed(run->ctx, NULL);
    s->seconds = seconds_now() - before;
    if (out.json) {
        document(c, s, run, data);
        return EXIT_DONE;
    }
    wilson(s->score.accuracy, (double)s->score.count, &low, &high);
    result("accuracy %.2f%% (95%% interval %.2f to %.2f) · loss %.4f · %s images, %s, %s\n",
           100 * s->score.accuracy, 100 * low, 100 * high, s->score.loss, thousands(s->score.count),
           duration(s->seconds), tern_device(run->ctx));
    table(s, run);
    return EXIT_DONE;
}

int verb_eval(cli *c)
{
    run_net run;
    scores s = {0};
    int status;

    if (c->n_arg != 1) return usage_error(c, "eval takes one run");
    status = run_open(c, &run, c->arg[0]);
    if (status == EXIT_DONE) status = score_it(c, &run, &s);
    status = session_close(run.ctx, status);
    free(s.confusion);
    run_close(&run);
    return status;
}
