/* history.c - the end of an epoch: validation, the best weights, patience, plateau, the row. */
#include <math.h>

#include "train/run.h"

static double infinite_or(double x, double otherwise) { return isnan(x) ? otherwise : x; }

/* Higher accuracy, ties the lower loss. Without validation data every epoch is the best so far. */
static bool is_better(const ti_run *run, const tern_epoch *e)
{
    if (!run->o.validate || run->r.best_epoch == 0) return true;
    if (e->val_accuracy != run->r.best_accuracy) return e->val_accuracy > run->r.best_accuracy;
    return infinite_or(e->val_loss, INFINITY) < infinite_or(run->r.best_loss, INFINITY);
}

static tern_status add_row(ti_run *run, const tern_epoch *e)
{
    if (run->n_rows == run->rows_room) {
        const int room = run->rows_room ? 2 * run->rows_room : 32;
        ti_row *more = tern_alloc(run->ctx, (size_t)room * sizeof *more);

        if (!more) return tern_error(run->ctx);
        for (int i = 0; i < run->n_rows; i++) more[i] = run->rows[i];
        tern_free(run->ctx, run->rows);
        run->rows = more;
        run->rows_room = room;
    }
    run->rows[run->n_rows++] = (ti_row){
        e->index, (double)e->step, e->train_loss, e->val_loss, e->val_accuracy, e->lr, e->best};
    run->r.epochs = run->n_rows;
    return TERN_OK;
}

static void look_ahead(ti_run *run, const tern_epoch *e)
{
    const double watched = run->o.validate ? e->val_loss : e->train_loss;

    if (run->o.schedule && run->o.schedule->kind == TERN_SCHEDULE_PLATEAU)
        (void)tern_schedule_observe(run->o.schedule, &run->schedule, watched);
    if (watched < run->patience_loss) {
        run->patience_loss = watched;
        run->patience_bad = 0;
    } else {
        run->patience_bad++;
    }
    if (run->o.patience > 0 && run->patience_bad >= run->o.patience)
        run->r.ended = TERN_ENDED_EARLY;
}

tern_status ti_epoch_end(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    const int64_t left = run->r.steps_total - run->r.steps;
    const int64_t here = run->r.steps - run->began_step;
    const double took = ti_seconds() - run->began;
    const bool whole = run->at.index == run->batches;
    tern_epoch e = {.index = (int)run->at.epoch + 1,
                    .epochs = run->o.epochs,
                    .step = run->r.steps,
                    .val_loss = NAN,
                    .val_accuracy = NAN,
                    .lr = tern_optim_lr(run->opt),
                    .seconds = run->epoch_seconds};

    /* A run that ends within an epoch may go on later: what the whole epoch decides is left. */
    e.train_loss = whole ? tern_meter_take(ctx, run->meter) : tern_meter_mean(ctx, run->meter);
    if (whole) run->logged[0] = run->logged[1] = 0;
    e.images_per_s = e.seconds > 0 ? (double)run->epoch_images / e.seconds : 0;
    if (tern_error(ctx) == TERN_OK && run->o.validate) {
        const tern_evaluate_opts how = {.batch = run->arena ? run->o.batch : 0,
                                        .arena = run->arena};
        tern_score score;

        if (tern_evaluate_with(ctx, &score, run->net, run->o.validate, &how) != TERN_OK)
            return tern_error(ctx);
        e.val_loss = score.loss;
        e.val_accuracy = score.accuracy;
    }
    if (tern_error(ctx) != TERN_OK) return tern_error(ctx);
    e.best = is_better(run, &e);
    e.eta_s = here > 0 ? took / (double)here * (double)left : NAN;
    if (whole) look_ahead(run, &e);
    if (run->r.ended == TERN_ENDED_EARLY) e.eta_s = 0;
    if (add_row(run, &e) != TERN_OK) return tern_error(ctx);
    if (e.best) {
        run->r.best_epoch = e.index;
        run->r.best_accuracy = e.val_accuracy;
        run->r.best_loss = e.val_loss;
        if (ti_best_save(run) != TERN_OK) return tern_error(ctx);
    }
    run->counted = true;
    run->epoch_seconds = 0;
    run->epoch_images = 0;
    if (ti_checkpoint_save(run) != TERN_OK) return tern_error(ctx);
    if (ti_journal_row(run, &e) != TERN_OK) return tern_error(ctx);
    if (run->o.on_epoch) run->o.on_epoch(&e, run->o.user);
    return tern_error(ctx);
}
