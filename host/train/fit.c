/*
 * fit.c - the training loop.
 *
 * The order of things in an iteration is what makes a resumed run the run continued: set the rate,
 * make the step, count it, end the epoch if it is over, save. A checkpoint is always taken between
 * two iterations.
 */
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "tern/grad.h"
#include "tern/ops.h"
#include "tern/program.h"
#include "train/run.h"

static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    ti_run *run = user;
    const int64_t n = tern_shape_of(in[0]).dim[0];

    out[0] = tern_cross_entropy(ctx, tern_forward(ctx, run->net, in[0]), in[1], NULL,
                                &(tern_cross_entropy_opts){.smoothing = run->o.smoothing});
    if (!out[0] || tern_backward(ctx, out[0], run->net) != TERN_OK) return tern_error(ctx);
    if (tern_optim_step(ctx, run->opt) != TERN_OK) return tern_error(ctx);
    return tern_meter_add_weighted(ctx, run->meter, out[0], (double)n);
}

/* ---- before the first step ------------------------------------------------------------------- */

static tern_status check(tern_ctx *ctx, const tern_module *net, const tern_optim *opt,
                         const tern_data *data, const tern_fit_opts *o)
{
    if (!net || !opt || !data)
        return tern_fail(ctx, TERN_E_ARGUMENT, "fit: no module, optimizer or data");
    if (o->epochs < 0 || o->steps < 0 || o->batch < 0 || o->patience < 0 || o->save_every < 0 ||
        o->log_every < 0)
        return tern_fail(ctx, TERN_E_ARGUMENT,
                         "fit: negative: epochs %d, steps %lld, batch %d, patience %d", o->epochs,
                         (long long)o->steps, o->batch, o->patience);
    if (!(o->smoothing >= 0 && o->smoothing <= 1))
        return tern_fail(ctx, TERN_E_ARGUMENT, "fit: smoothing %g is not in 0 … 1", o->smoothing);
    if (o->patience && !o->validate)
        return tern_fail(ctx, TERN_E_ARGUMENT, "fit: patience %d needs validation data",
                         o->patience);
    if (o->resume && !o->run_dir)
        return tern_fail(ctx, TERN_E_ARGUMENT, "fit: nothing to resume without run_dir");
    if (tern_data_count(data) <= 0) return tern_fail(ctx, TERN_E_ARGUMENT, "fit: no images");
    return o->schedule ? tern_schedule_check(ctx, o->schedule) : tern_error(ctx);
}

static tern_status not_there_yet(ti_run *run)
{
    char path[TI_PATH];
    struct stat st;

    if (!run->o.run_dir || run->o.resume) return TERN_OK;
    if (ti_run_path(run, path, "last.ckpt") != TERN_OK) return tern_error(run->ctx);
    if (stat(path, &st) != 0) return TERN_OK;
    return tern_fail(run->ctx, TERN_E_STATE,
                     "%s is there already: resume that run, or take another folder", path);
}

/* Steps that keep within o.memory, or a text that says what they would take. */
static tern_status limit(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    const tern_shape one = tern_data_shape(run->data);
    tern_shape x = {one.rank + 1, {run->o.batch}};
    tern_memory_plan p;

    if (!run->o.memory) return TERN_OK;
    memcpy(x.dim + 1, one.dim, (size_t)one.rank * sizeof *one.dim);
    if (tern_plan_memory_within(ctx, &p, run->net, run->opt, x, run->o.memory) != TERN_OK)
        return tern_error(ctx);
    if (p.needed > run->o.memory)
        return tern_fail(ctx, TERN_E_MEMORY,
                         "fit: a step at batch %d needs %zu bytes, %zu are allowed", run->o.batch,
                         p.needed, run->o.memory);
    run->arena = run->o.memory - (p.needed - p.train);
    tern_program_limit(run->program, run->arena);
    return TERN_OK;
}

static int64_t planned(const ti_run *run)
{
    const int64_t by_epochs = run->o.epochs * run->batches;

    if (run->o.steps && run->o.epochs) return run->o.steps < by_epochs ? run->o.steps : by_epochs;
    return run->o.steps ? run->o.steps : run->o.epochs ? by_epochs : run->batches;
}

static tern_status begin(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    bool found = false;

    if (not_there_yet(run) != TERN_OK || tern_module_finish(ctx, run->net) != TERN_OK)
        return tern_error(ctx);
    run->meter = tern_meter_open(ctx);
    run->loader = tern_loader_open(
        ctx, run->data,
        &(tern_loader_opts){.batch = run->o.batch,
                            .augment = run->o.augment ? *run->o.augment : (tern_augment){0}});
    run->program = tern_record(ctx, step, run);
    if (!run->meter || !run->loader || !run->program || limit(run) != TERN_OK)
        return tern_error(ctx);
    run->batches = tern_loader_batches(run->loader);
    run->r.steps_total = planned(run);
    if (!run->o.epochs)
        run->o.epochs = (int)((run->r.steps_total + run->batches - 1) / run->batches);
    if (ti_journal_open(run) != TERN_OK) return tern_error(ctx);
    if (run->o.resume && ti_checkpoint_load(run, &found) != TERN_OK) return tern_error(ctx);
    if (ti_journal_rewind(run) != TERN_OK) return tern_error(ctx);
    return found ? tern_loader_seek(ctx, run->loader, run->at) : TERN_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void keep_loss(ti_run *run, tern_tensor *loss)
{
    tern_drop(run->last[0]);
    memmove(run->last, run->last + 1, sizeof run->last - sizeof run->last[0]);
    memmove(run->r.losses, run->r.losses + 1, sizeof run->r.losses - sizeof run->r.losses[0]);
    run->last[TI_LOSSES - 1] = tern_hold(loss);
    run->r.losses[TI_LOSSES - 1] = NAN;
}

/* Losses that still lie on the device. An error that is there already forbids reading. */
static tern_status read_losses(ti_run *run)
{
    for (int i = 0; i < TI_LOSSES; i++)
        if (run->last[i]) run->r.losses[i] = tern_item(run->ctx, run->last[i]);
    run->r.train_loss = run->r.losses[TI_LOSSES - 1];
    return tern_error(run->ctx);
}

/* The last counted step was none. */
static void uncount(ti_run *run)
{
    run->r.steps--;
    run->r.images -= run->last_count;
    run->epoch_images -= run->last_count;
    run->at.index--;
}

static void forget_loss(ti_run *run)
{
    tern_drop(run->last[TI_LOSSES - 1]);
    memmove(run->last + 1, run->last, sizeof run->last - sizeof run->last[0]);
    memmove(run->r.losses + 1, run->r.losses, sizeof run->r.losses - sizeof run->r.losses[0]);
    run->last[0] = NULL;
    run->r.losses[0] = NAN;
}

/* Fails with the name of the first tensor that was not finite. The step changed nothing. */
static tern_status tripped(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    char what[512] = "no single tensor stands out when the step is made again";

    if (read_losses(run) != TERN_OK) return tern_error(ctx);
    if (tern_program_explain(ctx, run->program) != TERN_OK) {
        snprintf(what, sizeof what, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    (void)!tern_set(ctx, tern_tripped(ctx), 0);
    run->r.ended = TERN_ENDED_NONFINITE;
    run->r.nonfinite_step = run->r.steps + 1;
    if (run->r.saved_step < 0 && tern_error(ctx) == TERN_OK) (void)!ti_checkpoint_save(run);
    return tern_fail(ctx, TERN_E_VALUE, "non-finite values at step %lld (epoch %lld): %s",
                     (long long)run->r.nonfinite_step, (long long)run->at.epoch + 1, what);
}

/* Whether the step that was last counted tripped the guard: known for sure before anything is
 * written that lasts. make_step knows it at once, or one step late. */
static tern_status prove(ti_run *run)
{
    tern_ctx *ctx = run->ctx;

    if (run->o.allow_nonfinite || !run->behind) return tern_error(ctx);
    tern_frame_begin(ctx);
    const bool bad = tern_item(ctx, tern_read(ctx, tern_tripped(ctx))) != 0;
    tern_frame_end(ctx);
    if (tern_error(ctx) != TERN_OK || !bad) return tern_error(ctx);
    uncount(run);
    return tripped(run);
}

static tern_status make_step(ti_run *run, tern_batch *b)
{
    tern_ctx *ctx = run->ctx;
    tern_tensor *loss = NULL;
    bool bad = false;

    if (run->o.schedule && tern_optim_set_lr(ctx, run->opt,
                                             tern_schedule_lr(run->o.schedule, &run->schedule,
                                                              run->r.steps)) != TERN_OK)
        return tern_error(ctx);
    tern_frame_begin(ctx);
    if (tern_program_run(ctx, &loss, run->program, b->in) == TERN_OK) {
        keep_loss(run, loss);
        if (!run->o.allow_nonfinite) (void)!tern_guard_look(ctx, &bad, &run->behind);
    }
    tern_frame_end(ctx);
    if (tern_error(ctx) != TERN_OK) return tern_error(ctx);
    if (bad && run->behind) { /* it was the step before this one, which then did nothing */
        forget_loss(run);
        uncount(run);
    }
    if (bad) return tripped(run);
    run->last_count = b->count;
    run->r.steps++;
    run->r.images += b->count;
    run->epoch_images += b->count;
    run->at.index++;
    run->counted = false;
    return TERN_OK;
}

static tern_status log_step(ti_run *run)
{
    const double now = ti_seconds(), took = now - run->log_time;
    double meter[2], loss, per_s;

    if (!run->o.run_dir || run->r.steps % run->o.log_every != 0) return TERN_OK;
    if (ti_meter_get(run->ctx, run->meter, meter) != TERN_OK) return tern_error(run->ctx);
    loss = (meter[0] - run->logged[0]) / (meter[1] - run->logged[1]);
    per_s = took > 0 ? (double)((run->r.steps - run->log_step) * run->o.batch) / took : 0;
    run->logged[0] = meter[0];
    run->logged[1] = meter[1];
    run->log_time = now;
    run->log_step = run->r.steps;
    return ti_journal_step(run, loss, per_s);
}

static tern_wish report(ti_run *run)
{
    const double now = ti_seconds(), took = now - run->began;
    const int64_t here = run->r.steps - run->began_step;
    tern_progress p = {.epoch = (int)run->at.epoch + 1,
                       .epochs = run->o.epochs,
                       .step = run->r.steps,
                       .steps = run->r.steps_total,
                       .epoch_step = run->at.index,
                       .epoch_steps = run->batches,
                       .seconds = took};

    if (!run->o.on_step) return TERN_GO_ON;
    if (now - run->tick >= 0.1) {
        run->tick = now;
        run->shown_loss = tern_meter_mean(run->ctx, run->meter);
    }
    p.loss = run->shown_loss;
    p.images_per_s = run->epoch_seconds > 0 ? (double)run->epoch_images / run->epoch_seconds : 0;
    p.eta_s = here > 0 ? took / (double)here * (double)(p.steps - p.step) : NAN;
    p.epoch_eta_s = here > 0 ? took / (double)here * (double)(p.epoch_steps - p.epoch_step) : NAN;
    return run->o.on_step(&p, run->o.user);
}

static bool epoch_over(const ti_run *run)
{
    return run->at.index == run->batches || run->r.steps == run->r.steps_total;
}

/* A step, and the wait for it where its result is looked at: both are training time. */
static tern_status timed_step(ti_run *run, tern_batch *b, double began)
{
    if (make_step(run, b) != TERN_OK) return tern_error(run->ctx);
    const bool logs = run->o.run_dir && run->r.steps % run->o.log_every == 0;

    if ((logs || epoch_over(run)) && prove(run) != TERN_OK) return tern_error(run->ctx);
    run->r.train_seconds += ti_seconds() - began;
    run->epoch_seconds += ti_seconds() - began;
    return TERN_OK;
}

/* What follows a step; stop tells that the run was asked to end. */
static tern_status after_step(ti_run *run, bool *stop)
{
    tern_ctx *ctx = run->ctx;
    const bool over = epoch_over(run);
    tern_wish wish;

    if (log_step(run) != TERN_OK) return tern_error(ctx);
    wish = report(run);
    *stop = wish == TERN_STOP || tern_stop_requested(ctx);
    if (over && ti_epoch_end(run) != TERN_OK) return tern_error(ctx);
    if (run->r.saved_step == run->r.steps) return tern_error(ctx);
    if (wish == TERN_SAVE || *stop || (run->o.save_every && run->r.steps % run->o.save_every == 0))
        return prove(run) != TERN_OK ? tern_error(ctx) : ti_checkpoint_save(run);
    return tern_error(ctx);
}

/* A run that went on after its last row belonged to an unfinished epoch: that row is not final. */
static void reopen_epoch(ti_run *run)
{
    if (!run->counted || run->at.index == run->batches || run->at.index == 0) return;
    if (run->n_rows > 0) run->r.epochs = --run->n_rows;
    run->counted = false;
}

static tern_status loop(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    tern_batch b;
    bool stop = tern_stop_requested(ctx);

    run->r.nothing_left = run->r.ended == TERN_ENDED_EARLY || run->r.steps >= run->r.steps_total;
    if (!run->r.nothing_left) reopen_epoch(run);
    while (run->r.steps < run->r.steps_total && run->r.ended != TERN_ENDED_EARLY && !stop) {
        const double before = ti_seconds();

        if (!tern_loader_next(ctx, &b, run->loader)) {
            if (tern_error(ctx) != TERN_OK) return tern_error(ctx);
            run->at = (tern_position){run->at.epoch + 1, 0};
            continue;
        }
        if (timed_step(run, &b, before) != TERN_OK) return tern_error(ctx);
        if (after_step(run, &stop) != TERN_OK) return tern_error(ctx);
    }
    if (read_losses(run) != TERN_OK || run->r.ended == TERN_ENDED_EARLY) return tern_error(ctx);
    if (run->r.steps >= run->r.steps_total) {
        run->r.ended = TERN_ENDED_DONE;
        return TERN_OK;
    }
    run->r.ended = TERN_ENDED_STOPPED;
    tern_stop_clear(ctx);
    if (run->r.best_epoch == 0 && ti_best_save(run) != TERN_OK) return tern_error(ctx);
    return tern_fail(ctx, TERN_E_STOPPED, "stopped after step %lld of %lld",
                     (long long)run->r.steps, (long long)run->r.steps_total);
}

static void end(ti_run *run, tern_fit_result *result)
{
    tern_ctx *ctx = run->ctx;

    for (int i = 0; i < TI_LOSSES; i++) tern_drop(run->last[i]);
    ti_journal_close(run);
    tern_loader_close(ctx, run->loader);
    tern_free(ctx, run->rows);
    if (result) *result = run->r;
    tern_free(ctx, run);
}

tern_status tern_fit(tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_data *data,
                     const tern_fit_opts *opts)
{
    const tern_fit_opts o = opts ? *opts : (tern_fit_opts){0};
    const tern_mode_t before = tern_mode_of(ctx);
    ti_run *run;

    if (o.result) *o.result = (tern_fit_result){.saved_step = -1, .train_loss = NAN};
    if (check(ctx, net, opt, data, &o) != TERN_OK) return tern_error(ctx);
    run = tern_alloc(ctx, sizeof *run);
    if (!run) return tern_error(ctx);
    run->ctx = ctx;
    run->net = net;
    run->opt = opt;
    run->data = data;
    run->o = o;
    if (!run->o.batch) run->o.batch = 64;
    if (!run->o.log_every) run->o.log_every = 50;
    run->r = (tern_fit_result){.saved_step = -1,
                               .train_loss = NAN,
                               .best_accuracy = NAN,
                               .best_loss = NAN,
                               .losses = {NAN, NAN, NAN, NAN}};
    run->patience_loss = INFINITY;
    run->steps_file = -1;
    run->shown_loss = NAN;
    if (o.allow_nonfinite) tern_guard_set(ctx, false);
    if (begin(run) == TERN_OK) {
        run->began = run->log_time = ti_seconds();
        run->began_step = run->log_step = run->r.steps;
        tern_mode(ctx, TERN_TRAIN);
        (void)!loop(run);
        tern_mode(ctx, before);
    }
    if (o.allow_nonfinite) tern_guard_set(ctx, true);
    end(run, o.result);
    return tern_error(ctx);
}
