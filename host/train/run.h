/* run.h - a training run in progress, shared by the files of this folder. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <stdio.h>

#include "tern/io.h"
#include "tern/train.h"

enum {
    TI_NAME = 512,  /* longest name of a saved array */
    TI_PATH = 4096, /* longest path in a run folder  */
    TI_LOSSES = 4   /* last losses that are kept     */
};

/* One finished epoch, as the checkpoint keeps it: the same for every run of the same seed. */
typedef struct {
    double epoch, step, train_loss, val_loss, val_accuracy, lr, best;
} ti_row;
enum { TI_ROW = sizeof(ti_row) / sizeof(double) };

typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_optim *opt;
    tern_data *data;
    tern_fit_opts o;
    tern_fit_result r;

    tern_loader *loader;
    tern_program *program;
    size_t arena; /* the most that its arena may take; 0: no limit */
    tern_meter *meter;
    int64_t batches; /* in an epoch */

    /* What a checkpoint restores, beside variables. */
    tern_position at;     /* the next batch; index = batches: the epoch is over */
    bool counted;         /* the epoch at hand has its row */
    double patience_loss; /* the lowest validation loss so far */
    int64_t patience_bad; /* epochs since */
    tern_schedule_state schedule;
    double logged[2]; /* sum and count of the meter at the last line of steps.jsonl */
    ti_row *rows;     /* history */
    int n_rows, rows_room;

    tern_tensor *last[TI_LOSSES]; /* held; [0] is the oldest */
    int steps_file;               /* steps.jsonl, or -1 */
    void *csv;                    /* the rows of metrics.csv as text, with times */
    int csv_room;
    /* Times; the files that must repeat to the bit have none. */
    double began, epoch_seconds, tick, shown_loss, log_time;
    int64_t log_step, epoch_images, began_step, last_count; /* images of the last step */
    int behind; /* steps that the guard is looked at late */
} ti_run;

/* weights.c */
tern_var *ti_net_var(tern_ctx *ctx, tern_module *net, int i);
tern_status ti_archive_put(tern_ctx *ctx, tern_archive *to, const char *prefix, tern_var *var);
const tern_array *ti_archive_fits(tern_ctx *ctx, const tern_archive *from, const char *file,
                                  const char *prefix, tern_var *var);
tern_status ti_archive_take(tern_ctx *ctx, const tern_array *array, tern_var *var);

/* meter.c: sum and count */
tern_status ti_meter_get(tern_ctx *ctx, const tern_meter *m, double value[2]);
tern_status ti_meter_set(tern_ctx *ctx, tern_meter *m, const double value[2]);

/* checkpoint.c */
tern_status ti_checkpoint_save(ti_run *run);
/* Restores last.ckpt. *found is false, without an error, where there is none. */
tern_status ti_checkpoint_load(ti_run *run, bool *found);
tern_status ti_best_save(ti_run *run);
/* "<run_dir>/<file>" into path. */
tern_status ti_run_path(ti_run *run, char path[TI_PATH], const char *file);

/* journal.c: the files that only people read */
tern_status ti_journal_open(ti_run *run);
void ti_journal_close(ti_run *run);
/* After a checkpoint was restored: brings metrics.csv and steps.jsonl to its step. */
tern_status ti_journal_rewind(ti_run *run);
tern_status ti_journal_row(ti_run *run, const tern_epoch *e); /* metrics.csv, after the last row */
tern_status ti_journal_step(ti_run *run, double loss, double images_per_s);
tern_status ti_journal_clock(ti_run *run);
/* The shortest text that reads back as x, with a point whatever the locale; "" for NaN. */
const char *ti_number(char text[32], double x);
double ti_seconds(void);

/* history.c: what the end of an epoch decides */
tern_status ti_epoch_end(ti_run *run);

#endif
