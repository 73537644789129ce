/*
 * checkpoint.c - last.ckpt and best.safetensors.
 *
 * last.ckpt holds numbers only, no text that would have to be parsed, and nothing that differs
 * between two runs of one seed: no times, no thread count, no folder.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tern/program.h"
#include "tern/tune.h"
#include "train/run.h"

enum { VERSION = 1 };
static const char file_name[] = "last.ckpt";

tern_status ti_run_path(ti_run *run, char path[TI_PATH], const char *file)
{
    if (snprintf(path, TI_PATH, "%s/%s", run->o.run_dir, file) >= TI_PATH)
        return tern_fail(run->ctx, TERN_E_ARGUMENT, "%s: the path is too long", run->o.run_dir);
    return TERN_OK;
}

/* Integers of a run in a fixed order. Those before N_FIXED must be the same to go on from it. */
enum {
    I_BATCH,
    I_DATA,
    I_SEED,
    I_BATCHES,
    N_FIXED,
    I_STEP = N_FIXED,
    I_EPOCH,
    I_INDEX,
    I_COUNTED,
    I_BAD,
    I_BEST_EPOCH,
    I_IMAGES,
    I_EARLY,
    I_SEEN,
    I_CUT_BAD,
    I_CUTS,
    N_COUNTS
};
/* Reals. */
enum {
    R_BEST_ACCURACY,
    R_BEST_LOSS,
    R_PATIENCE,
    R_SCHEDULE,
    R_LOG_SUM,
    R_LOG_COUNT,
    R_METER_SUM,
    R_METER_COUNT,
    R_LOSSES,
    N_REALS = R_LOSSES + TI_LOSSES
};

static void fixed_of(const ti_run *run, int64_t count[N_FIXED])
{
    count[I_BATCH] = run->o.batch;
    count[I_DATA] = tern_data_count(run->data);
    count[I_SEED] = (int64_t)tern_seed(run->ctx);
    count[I_BATCHES] = run->batches;
}

static tern_status reals_of(ti_run *run, double real[N_REALS])
{
    double meter[2];

    if (ti_meter_get(run->ctx, run->meter, meter) != TERN_OK) return tern_error(run->ctx);
    real[R_BEST_ACCURACY] = run->r.best_accuracy;
    real[R_BEST_LOSS] = run->r.best_loss;
    real[R_PATIENCE] = run->patience_loss;
    real[R_SCHEDULE] = run->schedule.best;
    real[R_LOG_SUM] = run->logged[0];
    real[R_LOG_COUNT] = run->logged[1];
    real[R_METER_SUM] = meter[0];
    real[R_METER_COUNT] = meter[1];
    for (int i = 0; i < TI_LOSSES; i++)
        real[R_LOSSES + i] = run->last[i] ? tern_item(run->ctx, run->last[i]) : run->r.losses[i];
    return tern_error(run->ctx);
}

static tern_status put_state(ti_run *run, tern_archive *to)
{
    tern_ctx *ctx = run->ctx;
    int64_t count[N_COUNTS];
    double real[N_REALS];

    fixed_of(run, count);
    count[I_STEP] = run->r.steps;
    count[I_EPOCH] = run->at.epoch;
    count[I_INDEX] = run->at.index;
    count[I_COUNTED] = run->counted;
    count[I_BAD] = run->patience_bad;
    count[I_BEST_EPOCH] = run->r.best_epoch;
    count[I_IMAGES] = run->r.images;
    count[I_EARLY] = run->r.ended == TERN_ENDED_EARLY;
    count[I_SEEN] = run->schedule.seen;
    count[I_CUT_BAD] = run->schedule.bad;
    count[I_CUTS] = run->schedule.cuts;
    if (reals_of(run, real) != TERN_OK) return tern_error(ctx);
    if (!tern_archive_add(ctx, to, "fit.counts", TERN_I64, (tern_shape){1, {N_COUNTS}}, count) ||
        !tern_archive_add(ctx, to, "fit.reals", TERN_F64, (tern_shape){1, {N_REALS}}, real) ||
        !tern_archive_add(ctx, to, "fit.history", TERN_F64, (tern_shape){2, {run->n_rows, TI_ROW}},
                          run->n_rows ? (const void *)run->rows : ""))
        return tern_error(ctx);
    return TERN_OK;
}

typedef struct {
    const char *of; /* prefix of its name in the file */
    int i;
} place;

/* The variable at a place, which begins as zeros, and the place after it: those of the network, of
 * the optimizer, of the loss's scale. NULL after the last. */
static tern_var *next_variable(const ti_run *run, place *at)
{
    tern_ctx *ctx = run->ctx;
    tern_var *var = NULL;

    if (!at->of) at->of = "net.";
    if (strcmp(at->of, "net.") == 0 && !(var = ti_net_var(ctx, run->net, at->i)))
        *at = (place){"optim.", 0};
    if (strcmp(at->of, "optim.") == 0 && !(var = tern_optim_var(run->opt, at->i)))
        *at = (place){"fit.", 0};
    if (strcmp(at->of, "fit.") == 0 && tern_math(ctx) == TERN_MATH_F16)
        var = at->i == 0 ? tern_loss_scale(ctx) : at->i == 1 ? tern_loss_scale_good(ctx) : NULL;
    at->i++;
    return var;
}

static tern_status put_variables(ti_run *run, tern_archive *to)
{
    place at = {NULL, 0};
    tern_var *var;

    while ((var = next_variable(run, &at)) != NULL)
        if (ti_archive_put(run->ctx, to, at.of, var) != TERN_OK) return tern_error(run->ctx);
    return tern_error(run->ctx);
}

/* The settings that change what a step computes: "f32", "bf16, direct". */
static const char *numbers_of(const tern_ctx *ctx)
{
    static const char *const direct[] = {"f32, direct", "tf32, direct", "bf16, direct",
                                         "f16, direct"};
    const int math = (int)tern_math(ctx);

    return tern_winograd(ctx) ? tern_math_name(math) : direct[math];
}

/* What kernels were chosen by the clock; "": none. */
static const char *stamp_of(const tern_ctx *ctx)
{
    tern_tuning tuning;

    (void)tern_tune_look(ctx, &tuning);
    return tuning.stamp;
}

tern_status ti_checkpoint_save(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    char path[TI_PATH];
    tern_archive *to;

    if (!run->o.run_dir || !tern_archive_supported()) return TERN_OK;
    if (ti_run_path(run, path, file_name) != TERN_OK) return tern_error(ctx);
    to = tern_archive_new(ctx);
    if (!to) return tern_error(ctx);
    if (tern_archive_meta_set(ctx, to, "checkpoint", "1") == TERN_OK &&
        tern_archive_meta_set(ctx, to, "version", tern_version()) == TERN_OK &&
        tern_archive_meta_set(ctx, to, "isa", tern_isa(ctx)) == TERN_OK &&
        tern_archive_meta_set(ctx, to, "device", tern_device(ctx)) == TERN_OK &&
        tern_archive_meta_set(ctx, to, "math", numbers_of(ctx)) == TERN_OK &&
        tern_archive_meta_set(ctx, to, "choices", stamp_of(ctx)) == TERN_OK &&
        put_variables(run, to) == TERN_OK && put_state(run, to) == TERN_OK &&
        tern_archive_save(ctx, to, path) == TERN_OK)
        run->r.saved_step = run->r.steps;
    tern_archive_close(ctx, to);
    if (tern_error(ctx) == TERN_OK) (void)!ti_journal_clock(run);
    return tern_error(ctx);
}

static tern_status check_fixed(ti_run *run, const char *path, const int64_t *count)
{
    static const char *const what[] = {"batches of", "a data set of", "the seed",
                                       "epochs of that many batches:"};
    int64_t mine[N_FIXED];

    fixed_of(run, mine);
    for (int i = 0; i < N_FIXED; i++)
        if (mine[i] != count[i])
            return tern_fail(run->ctx, TERN_E_STATE, "%s was made with %s %lld, not %lld", path,
                             what[i], (long long)count[i], (long long)mine[i]);
    if (count[I_STEP] < 0 || count[I_EPOCH] < 0 || count[I_INDEX] < 0 ||
        count[I_INDEX] > run->batches ||
        count[I_STEP] != count[I_EPOCH] * run->batches + count[I_INDEX])
        return tern_fail(run->ctx, TERN_E_FORMAT, "%s: step %lld is not batch %lld of epoch %lld",
                         path, (long long)count[I_STEP], (long long)count[I_INDEX],
                         (long long)count[I_EPOCH]);
    return TERN_OK;
}

static const tern_array *wanted(ti_run *run, const tern_archive *from, const char *path,
                                const char *name, tern_type type, int64_t count)
{
    const tern_array *a = tern_archive_get(from, name);
    const int rank = count < 0 ? 2 : 1;

    if (a && a->type == type && a->shape.rank == rank &&
        a->shape.dim[rank - 1] == (count < 0 ? -count : count))
        return a;
    tern_fail(run->ctx, TERN_E_FORMAT, "%s: %s %s", path, name,
              a ? "has another shape or type than this version writes" : "is missing");
    return NULL;
}

static void take_state(ti_run *run, const int64_t *count, const double *real)
{
    run->r.steps = run->r.steps_resumed = run->r.saved_step = count[I_STEP];
    run->at = (tern_position){count[I_EPOCH], count[I_INDEX]};
    run->counted = count[I_COUNTED] != 0;
    run->patience_bad = count[I_BAD];
    run->r.best_epoch = (int)count[I_BEST_EPOCH];
    run->r.images = count[I_IMAGES];
    run->r.ended = count[I_EARLY] ? TERN_ENDED_EARLY : TERN_ENDED_NOT;
    run->schedule =
        (tern_schedule_state){real[R_SCHEDULE], count[I_SEEN], count[I_CUT_BAD], count[I_CUTS]};
    run->r.best_accuracy = real[R_BEST_ACCURACY];
    run->r.best_loss = real[R_BEST_LOSS];
    run->patience_loss = real[R_PATIENCE];
    memcpy(run->logged, real + R_LOG_SUM, sizeof run->logged);
    memcpy(run->r.losses, real + R_LOSSES, sizeof run->r.losses);
    run->r.train_loss = run->r.losses[TI_LOSSES - 1];
}

static tern_status take_rows(ti_run *run, const tern_array *history)
{
    const int64_t n = history->shape.dim[0];

    if (n > 1 << 24)
        return tern_fail(run->ctx, TERN_E_FORMAT, "fit.history has %lld rows", (long long)n);
    tern_free(run->ctx, run->rows);
    run->rows_room = (int)n + 16;
    run->rows = tern_alloc(run->ctx, (size_t)run->rows_room * sizeof *run->rows);
    if (!run->rows) return tern_error(run->ctx);
    if (n) memcpy(run->rows, history->data, (size_t)n * sizeof *run->rows);
    run->n_rows = (int)n;
    run->r.epochs = (int)n;
    return TERN_OK;
}

/* Two passes: the first one looks whether everything fits, the second cannot but succeed. */
static tern_status variables(ti_run *run, const tern_archive *from, const char *path, bool take)
{
    tern_ctx *ctx = run->ctx;
    place at = {NULL, 0};
    tern_var *var;
    const tern_array *a;
    int n = 0;

    for (; (var = next_variable(run, &at)) != NULL; n++) {
        if (!(a = ti_archive_fits(ctx, from, path, at.of, var))) return tern_error(ctx);
        if (take && ti_archive_take(ctx, a, var) != TERN_OK) return tern_error(ctx);
    }
    if (tern_error(ctx) == TERN_OK && tern_archive_count(from) != n + 3)
        return tern_fail(ctx, TERN_E_FORMAT, "%s: holds %d arrays, this network and optimizer %d",
                         path, tern_archive_count(from), n + 3);
    return tern_error(ctx);
}

static tern_status restore(ti_run *run, const tern_archive *from, const char *path)
{
    tern_ctx *ctx = run->ctx;
    const char *isa = tern_archive_meta(from, "isa"), *version = tern_archive_meta(from, "version");
    const char *math = tern_archive_meta(from, "math"); /* a file without it is older: f32 */
    const char *choices = tern_archive_meta(from, "choices");
    const tern_array *counts = wanted(run, from, path, "fit.counts", TERN_I64, N_COUNTS);
    const tern_array *reals =
        counts ? wanted(run, from, path, "fit.reals", TERN_F64, N_REALS) : NULL;
    const tern_array *rows =
        reals ? wanted(run, from, path, "fit.history", TERN_F64, -TI_ROW) : NULL;
    const double *real = reals ? reals->data : NULL;

    if (!rows || check_fixed(run, path, counts->data) != TERN_OK) return tern_error(ctx);
    if (variables(run, from, path, false) != TERN_OK) return tern_error(ctx);
    if (take_rows(run, rows) != TERN_OK) return tern_error(ctx);
    if (variables(run, from, path, true) != TERN_OK) return tern_error(ctx);
    take_state(run, counts->data, real);
    if (!isa || strcmp(isa, tern_isa(ctx)) != 0)
        snprintf(run->r.note, sizeof run->r.note,
                 "the checkpoint was made with %s kernels, here are %s: the last bits may differ",
                 isa ? isa : "unknown", tern_isa(ctx));
    else if (strcmp(math ? math : "f32", numbers_of(ctx)) != 0)
        snprintf(run->r.note, sizeof run->r.note,
                 "the checkpoint was made with math %s, this run goes on with %s",
                 math ? math : "f32", numbers_of(ctx));
    else if (!version || strcmp(version, tern_version()) != 0)
        snprintf(run->r.note, sizeof run->r.note, "the checkpoint was made by version %s",
                 version ? version : "unknown");
    else if (!tern_tune_holds(ctx, choices ? choices : ""))
        snprintf(
            run->r.note, sizeof run->r.note,
            "the checkpoint was made with the choices %s of --tune, here are %s: the last bits "
            "may differ",
            choices && *choices ? choices : "(none)", *stamp_of(ctx) ? stamp_of(ctx) : "(none)");
    if (ti_meter_set(ctx, run->meter, real + R_METER_SUM) != TERN_OK) return tern_error(ctx);
    return tern_optim_lr_read(ctx, run->opt);
}

tern_status ti_checkpoint_load(ti_run *run, bool *found)
{
    char path[TI_PATH];
    struct stat st;
    tern_archive *from;

    *found = false;
    if (ti_run_path(run, path, file_name) != TERN_OK) return tern_error(run->ctx);
    if (stat(path, &st) != 0 && errno == ENOENT) return TERN_OK;
    from = tern_archive_read(run->ctx, path);
    if (!from) return tern_error(run->ctx);
    *found = restore(run, from, path) == TERN_OK;
    tern_archive_close(run->ctx, from);
    return tern_error(run->ctx);
}

/* Numbers of a standardisation, separated by commas. */
static void list(char text[160], const float *x, int n)
{
    char number[32];
    size_t used = 0;

    text[0] = '\0';
    for (int i = 0; i < n && i < TERN_CHANNELS; i++)
        used += (size_t)snprintf(text + used, 160 - used, "%s%s", i ? "," : "",
                                 ti_number(number, (double)x[i]));
}

static char *class_names(ti_run *run)
{
    const int n = tern_data_classes(run->data);
    size_t bytes = 1;
    char *text;

    for (int i = 0; i < n; i++) bytes += strlen(tern_data_class_name(run->data, i)) + 1;
    text = tern_alloc(run->ctx, bytes);
    for (int i = 0; text && i < n; i++) {
        if (i) strcat(text, "\n");
        strcat(text, tern_data_class_name(run->data, i));
    }
    return text;
}

tern_status ti_best_save(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    const tern_norm norm = tern_data_norm(run->data);
    const char *meta[64];
    char path[TI_PATH], mean[160], std[160], epoch[32], accuracy[32], shape[160];
    char *names;
    int n = 0;

    if (!run->o.run_dir || !tern_archive_supported()) return TERN_OK;
    names = class_names(run);
    if (!names || ti_run_path(run, path, "best.safetensors") != TERN_OK) goto out;
    list(mean, norm.mean, norm.channels);
    list(std, norm.std, norm.channels);
    snprintf(epoch, sizeof epoch, "%d", run->r.best_epoch);
    for (const char *const *m = run->o.metadata; m && m[0] && m[1] && n < 40; m += 2) {
        meta[n++] = m[0];
        meta[n++] = m[1];
    }
    const char *const own[] = {"classes",
                               names,
                               "mean",
                               mean,
                               "std",
                               std,
                               "epoch",
                               epoch,
                               "val_accuracy",
                               ti_number(accuracy, run->r.best_accuracy),
                               "image",
                               tern_shape_text(shape, tern_data_shape(run->data)),
                               NULL};
    memcpy(meta + n, own, sizeof own);
    (void)!tern_save_with(ctx, run->net, path, meta);
out:
    tern_free(ctx, names);
    return tern_error(ctx);
}
