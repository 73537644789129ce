/* job.c - what `train` tells before and after the fit. */
#include "cli/job.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "cli/memory.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/signals.h"

/* Sentences on a terminal, key=value elsewhere. */
static bool pretty(void) { return out.show == SHOW_TTY || (out.show == SHOW_NEVER && out.err_tty); }

static const char *shape_text(char text[64], tern_shape s)
{
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < s.rank && used < 40; i++)
        used +=
            (size_t)snprintf(text + used, 64 - used, "%s%lld", i ? "×" : "", (long long)s.dim[i]);
    return text;
}

void job_header(cli *c, job *j)
{
    const unsigned long long seed = tern_seed(j->ctx);
    const char *math = tern_math_name((int)tern_math(j->ctx));
    tern_tuning tuning;
    const bool tuned = tern_tune_look(j->ctx, &tuning);

    (void)c;
    if (pretty()) {
        say("%stern %s%s (%s) · %s, %s (%s) · math %s%s\n", style("bold"), tern_version(),
            style("off"), build_type(), tern_device(j->ctx), tern_isa(j->ctx),
            tern_device_why(j->ctx), math, tern_winograd(j->ctx) ? "" : " · conv direct");
        say("       %s · seed %llu · %d threads\n",
            tern_deterministic(j->ctx) ? "deterministic" : "results may vary from run to run", seed,
            tern_threads(j->ctx));
        if (tuned) say("tuned  %s · choices %s\n", tuning.path, tuning.stamp);
        say("run    %s\n", j->folder);
        return;
    }
    say("tern %s %s device=%s isa=%s why=\"%s\" math=%s%s deterministic=%s seed=%llu threads=%d "
        "run=%s%s%s\n",
        tern_version(), build_type(), tern_device(j->ctx), tern_isa(j->ctx),
        tern_device_why(j->ctx), math, tern_winograd(j->ctx) ? "" : " conv=direct",
        tern_deterministic(j->ctx) ? "yes" : "no", seed, tern_threads(j->ctx), j->folder,
        tuned ? " choices=" : "", tuning.stamp);
}

static tern_shape batch_shape(const job *j, int64_t batch)
{
    tern_shape x = tern_data_shape(j->train);

    for (int i = x.rank++; i > 0; i--) x.dim[i] = x.dim[i - 1];
    x.dim[0] = batch;
    return x;
}

/* Tells the plan, and refuses one that cannot be carried out. */
static int plan_memory(cli *c, job *j)
{
    const memory_job m = memory_of(c, j->ctx, j->net, j->opt, batch_shape(j, cli_int(c, "batch")));
    tern_memory_plan plan;
    const int status = memory_plan(&m, &plan);

    if (status != EXIT_DONE || !pretty()) return status;
    say("memory at batch %lld: weights %s + gradients %s + optimizer %s\n"
        "                     + activations and workspace %s + images %s = %s\n",
        (long long)m.x.dim[0], mebibytes((double)(plan.weights + plan.buffers)),
        mebibytes((double)plan.gradients), mebibytes((double)plan.optimizer),
        mebibytes((double)(plan.train - plan.gradients)), mebibytes((double)plan.inputs),
        mebibytes((double)plan.train_total));
    if (plan.again)
        say("                     %d calls of a step run twice, to keep within --memory %s\n",
            plan.again, cli_text(c, "memory"));
    return EXIT_DONE;
}

int job_batch(cli *c, job *j)
{
    memory_job m = memory_of(c, j->ctx, j->net, j->opt, batch_shape(j, 1));

    return memory_batch(c, &m, tern_data_count(j->train));
}

int job_start(cli *c, job *j, int64_t steps)
{
    const int64_t n = tern_data_count(j->train), n_val = j->val ? tern_data_count(j->val) : 0;
    const int64_t n_test = tern_data_count(j->test);
    char shape[64];

    data_notes(j->train);
    if (!tern_archive_supported())
        warn("built without jansson: no weights are kept, and the run cannot be resumed");
    shape_text(shape, tern_data_shape(j->train));
    if (pretty()) {
        say("data   %s · %s train, %s val, %s test · %s · %d classes%s\n", data_name(c),
            thousands(n), thousands(n_val), thousands(n_test), shape, tern_data_classes(j->train),
            tern_data_synthetic(j->train) ? " · made here, not Fashion-MNIST" : "");
        say("\n%s", tern_summary(j->ctx, j->net, batch_shape(j, 1)));
    } else {
        say("data=%s train=%lld val=%lld test=%lld classes=%d model=%s params=%lld steps=%lld%s\n",
            data_name(c), (long long)n, (long long)n_val, (long long)n_test,
            tern_data_classes(j->train), cli_text(c, "model"), (long long)tern_module_size(j->net),
            (long long)steps, tern_data_synthetic(j->train) ? " synthetic=1" : "");
    }
    return plan_memory(c, j);
}

/* ---- documents ------------------------------------------------------------------------------- */

static void machine(json *js, const job *j)
{
    json_text(js, "version", tern_version());
    json_text(js, "build", build_type());
    json_text(js, "compiler", build_compiler());
    json_text(js, "device", tern_device(j->ctx));
    json_text(js, "device_why", tern_device_why(j->ctx));
    json_text(js, "isa", tern_isa(j->ctx));
    json_text(js, "math", tern_math_name((int)tern_math(j->ctx)));
    json_text(js, "conv", tern_winograd(j->ctx) ? "auto" : "direct");
    json_text(js, "choices", session_choices(j->ctx));
    json_bool(js, "deterministic", tern_deterministic(j->ctx));
    json_int(js, "seed", (int64_t)tern_seed(j->ctx));
    json_int(js, "threads", tern_threads(j->ctx));
}

static void data_of(json *js, cli *c, const job *j)
{
    json_text(js, "data", data_name(c));
    json_bool(js, "synthetic", tern_data_synthetic(j->train));
    json_int(js, "train_count", tern_data_count(j->train));
    json_int(js, "val_count", j->val ? tern_data_count(j->val) : 0);
    json_int(js, "test_count", tern_data_count(j->test));
    json_int(js, "resized", tern_data_resized(j->train) + tern_data_resized(j->test));
}

tern_status job_environment(cli *c, job *j)
{
    json js = {0};
    char *text, *path = cli_format("%s/env.json", j->folder);
    tern_status status;

    json_open(&js, NULL, '{');
    json_text(&js, "schema", "tern.env/1");
    machine(&js, j);
    data_of(&js, c, j);
    json_text(&js, "train_xxh128", tern_data_hash(j->ctx, j->train));
    json_text(&js, "test_xxh128", tern_data_hash(j->ctx, j->test));
    json_close(&js, '}');
    text = json_take(&js);
    status = tern_file_write(j->ctx, path, text, strlen(text));
    free(text);
    free(path);
    return status;
}

static const char *ended_text(tern_ended ended)
{
    static const char *const names[] = {"failed", "done", "early", "stopped", "nonfinite"};

    return names[ended];
}

typedef struct {
    tern_score test;
    bool tested;
    char last[33], best[33]; /* hashes */
} outcome;

static char *document(cli *c, job *j, const outcome *o)
{
    json js = {0};

    json_open(&js, NULL, '{');
    json_text(&js, "schema", "tern.train/1");
    json_text(&js, "run", j->folder);
    json_text(&js, "model", cli_text(c, "model"));
    json_int(&js, "params", tern_module_size(j->net));
    data_of(&js, c, j);
    json_text(&js, "ended", ended_text(j->fit.ended));
    if (o->tested) json_real(&js, "test_acc", o->test.accuracy);
    else json_null(&js, "test_acc");
    if (o->tested) json_real(&js, "test_loss", o->test.loss);
    else json_null(&js, "test_loss");
    if (j->fit.steps > 0) json_real(&js, "train_loss", j->fit.train_loss);
    else json_null(&js, "train_loss");
    json_int(&js, "best_epoch", j->fit.best_epoch);
    if (j->val && j->fit.best_epoch > 0) {
        json_real(&js, "val_acc", j->fit.best_accuracy);
        json_real(&js, "val_loss", j->fit.best_loss);
    } else {
        json_null(&js, "val_acc");
        json_null(&js, "val_loss");
    }
    json_real(&js, "train_seconds", j->fit.train_seconds);
    json_int(&js, "epochs", j->fit.epochs);
    json_int(&js, "steps", j->fit.steps);
    json_int(&js, "steps_total", j->fit.steps_total);
    json_int(&js, "resumed_at", j->fit.steps_resumed);
    json_int(&js, "images", j->fit.images);
    json_real(&js, "img_per_s",
              j->fit.train_seconds > 0 ? (double)j->fit.images / j->fit.train_seconds : 0);
    json_int(&js, "batch", cli_int(c, "batch"));
    json_int(&js, "peak_rss_bytes", peak_rss_bytes());
    json_text(&js, "weights_xxh128", *o->last ? o->last : NULL);
    json_text(&js, "best_xxh128", *o->best ? o->best : NULL);
    machine(&js, j);
    json_close(&js, '}');
    return json_take(&js);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Scores the best weights on the test part; the net holds them afterwards. A build that keeps no
 * weights scores the last ones. */
static tern_status test_best(job *j, outcome *o)
{
    char *best = cli_format("%s/best.safetensors", j->folder);
    const double before = seconds_now();

    if (tern_weights_hash(j->ctx, o->last, j->net) == TERN_OK &&
        (!tern_archive_supported() || tern_load(j->ctx, j->net, best) == TERN_OK) &&
        tern_weights_hash(j->ctx, o->best, j->net) == TERN_OK &&
        tern_evaluate(j->ctx, &o->test, j->net, j->test) == TERN_OK)
        o->tested = true;
    say_more("test part scored in %s\n", duration(seconds_now() - before));
    free(best);
    return tern_error(j->ctx);
}

static void tell(void (*to)(const char *, ...), job *j, const outcome *o)
{
    double low, high;

    wilson(o->test.accuracy, (double)o->test.count, &low, &high);
    if (j->val)
        to("best    epoch %d, val acc %.2f%%, val loss %.4f → %s/best.safetensors\n",
           j->fit.best_epoch, 100 * j->fit.best_accuracy, j->fit.best_loss, j->folder);
    to("ended   %s after %s steps, %s of training\n",
       j->fit.ended == TERN_ENDED_EARLY ? "early: no better val loss" : "done",
       thousands(j->fit.steps), duration(j->fit.train_seconds));
    to("test    %.2f%% of %s (95%% interval %.2f to %.2f), looked at once\n",
       100 * o->test.accuracy, thousands(o->test.count), 100 * low, 100 * high);
    if (*o->last)
        to("weights xxh128 %s · same seed, device and build give the same value\n", o->last);
    to("next    tern eval %s\n", j->folder);
}

int job_results(cli *c, job *j)
{
    outcome o = {0};
    char *text, *path;
    tern_status wrote;

    if (*j->fit.note) warn("%s", j->fit.note);
    if (j->fit.nothing_left)
        say(pretty() ? "note    this run is finished: nothing was left to train\n"
                     : "finished=1 nothing was left to train\n");
    if (test_best(j, &o) != TERN_OK) return session_failed(j->ctx, NULL);
    text = document(c, j, &o);
    path = cli_format("%s/result.json", j->folder);
    wrote = tern_file_write(j->ctx, path, text, strlen(text));
    free(path);
    if (out.json) {
        result("%s", text);
    } else if (out.out_tty) {
        tell(result, j, &o);
    } else {
        result("%s test_acc=%.4f best_epoch=%d ended=%s\n", j->folder, o.test.accuracy,
               j->fit.best_epoch, ended_text(j->fit.ended));
    }
    if (!out.out_tty || out.json) {
        if (pretty()) tell(say, j, &o);
        else if (*o.last)
            say("weights_xxh128=%s train_seconds=%.2f steps=%lld\n", o.last, j->fit.train_seconds,
                (long long)j->fit.steps);
    }
    free(text);
    return wrote == TERN_OK ? EXIT_DONE : session_failed(j->ctx, NULL);
}

static void losses(char *text, size_t room, const job *j)
{
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < 4 && used < room; i++) {
        const double x = j->fit.losses[i];
        /* Steps that were not made have no loss; the last one is the step that overflowed. */
        if (isnan(x) && i < 3 && used == 0) continue;
        used += (size_t)snprintf(text + used, room - used, "%s%.4g", used ? ", " : "", x);
    }
}

static int say_nonfinite(cli *c, job *j)
{
    char before[160];

    losses(before, sizeof before, j);
    error("%s", tern_error_text(j->ctx));
    hint("loss before: %s", before);
    if (j->fit.saved_step >= 0)
        hint("kept:  %s/last.ckpt, step %s, all finite", j->folder, thousands(j->fit.saved_step));
    hint("try:   a smaller lr (%g now), or --clip 1.0", cli_real(c, "lr"));
    return EXIT_NONFINITE;
}

int job_stopped(cli *c, job *j)
{
    const outcome o = {0};
    int status;
    char *text;

    if (*j->fit.note) warn("%s", j->fit.note);
    if (j->status == TERN_E_VALUE && j->fit.ended != TERN_ENDED_NONFINITE)
        return session_failed(j->ctx, NULL);
    if (j->status == TERN_E_VALUE) {
        status = say_nonfinite(c, j);
    } else {
        status = 128 + signals_got();
        say("saved   %s/last.ckpt  (step %s of %s, epoch %d)\n", j->folder,
            thousands(j->fit.saved_step), thousands(j->fit.steps_total),
            (int)(j->fit.steps_total ? j->fit.epochs + 1 : 0));
        say("resume  tern train --resume %s\n", j->folder);
    }
    tern_error_clear(j->ctx);
    if (out.json) {
        text = document(c, j, &o);
        result("%s", text);
        free(text);
    }
    return status;
}
