/*
 * tern/train.h - training, scoring, checkpoints.
 *
 * A run is a folder. Every file in it is plain, written aside, synced and renamed; so whatever
 * ends a run, even a power cut, `last.ckpt` goes on from where it was saved, to the bit:
 *
 *   last.ckpt         weights, buffers, optimizer, schedule, counters, place in the data, history
 *   best.safetensors  the weights with the highest validation accuracy (ties: the lower loss)
 *   metrics.csv       one row per epoch        steps.jsonl   one line per logged step
 */
#ifndef TERN_TRAIN_H
#define TERN_TRAIN_H

#include "tern/data.h"
#include "tern/nn.h"
#include "tern/optim.h"
#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* One finished epoch. What was not measured is NaN. */
typedef struct tern_epoch {
    int index, epochs; /* from 1; of how many (0: not known, the run counts steps) */
    int64_t step;      /* steps of the run so far */
    double train_loss; /* mean over the epoch's images, while the weights moved */
    double val_loss, val_accuracy;
    double lr;                    /* of the epoch's last step */
    double seconds, images_per_s; /* of training, validation not counted */
    double eta_s;                 /* of the rest of the run */
    bool best;                    /* its weights are in best.safetensors now */
} tern_epoch;

/* One finished step. */
typedef struct tern_progress {
    int epoch, epochs;               /* from 1 */
    int64_t step, steps;             /* of the run */
    int64_t epoch_step, epoch_steps; /* of the epoch */
    double loss;                     /* mean of the epoch so far, as last read back; NaN before */
    double images_per_s, eta_s, epoch_eta_s;
    double seconds; /* since the fit began */
} tern_progress;

/* What a step's callback asks for: nothing, a checkpoint now, or the end of the run. */
typedef enum { TERN_GO_ON, TERN_SAVE, TERN_STOP } tern_wish;

/* Why a fit came back. */
typedef enum {
    TERN_ENDED_NOT,      /* it failed on the way                       */
    TERN_ENDED_DONE,     /* all steps were made                        */
    TERN_ENDED_EARLY,    /* patience ran out                           */
    TERN_ENDED_STOPPED,  /* tern_request_stop, or on_step asked for it */
    TERN_ENDED_NONFINITE /* the guard tripped                          */
} tern_ended;

typedef struct tern_fit_result {
    tern_ended ended;
    int epochs;                 /* finished ones */
    int64_t steps, steps_total; /* made, over all resumes; those that were planned */
    int64_t steps_resumed;  /* of the checkpoint that this fit went on from; 0: from the start */
    int64_t nonfinite_step; /* at which the guard tripped; 0: it did not */
    bool nothing_left;      /* the run was finished before: no step was made now */
    int best_epoch;         /* 0: none */
    double best_accuracy, best_loss; /* on the validation data; NaN without */
    double train_loss;               /* of the last step */
    double losses[4];     /* of the last four steps, oldest first; NaN where there were none */
    double train_seconds; /* over all resumes, validation not counted */
    int64_t images;       /* seen in training, over all resumes */
    int64_t saved_step;   /* the step of last.ckpt; -1: none */
    char note[160];       /* a resume elsewhere than where the checkpoint was made; or "" */
} tern_fit_result;

typedef struct tern_fit_opts {
    int epochs;                    /* 0: 1, or as many as `steps` needs */
    int64_t steps;                 /* of the whole run, over all resumes; 0: by epochs */
    int batch;                     /* 0: 64 */
    double smoothing;              /* of the labels */
    const tern_augment *augment;   /* of the training images; NULL: none */
    const tern_schedule *schedule; /* of the learning rate; NULL: constant */
    tern_data *validate;           /* scored after each epoch; NULL: none */
    int patience;                  /* epochs without a lower validation loss; 0: no early stop */
    const char *run_dir;           /* NULL: nothing is written; see tern_archive_supported */
    bool resume;                   /* go on from run_dir/last.ckpt; without that file start at 0 */
    int64_t save_every;            /* steps between checkpoints; 0: at the ends of epochs only */
    int64_t log_every;             /* steps between lines of steps.jsonl; 0: 50 */
    bool allow_nonfinite;          /* the guard is off */
    /* The most that training may take on the device, in bytes; 0: no limit. Steps keep within it as
     * tern_plan_memory_within plans them; where that cannot be, fit fails with TERN_E_MEMORY before
     * the first one. Validation takes batches no larger than training then. */
    size_t memory;
    const char *const *metadata; /* name, value, name, … NULL: goes into best.safetensors */
    void (*on_epoch)(const tern_epoch *epoch, void *user);
    tern_wish (*on_step)(const tern_progress *at, void *user);
    void *user;
    tern_fit_result *result; /* filled, whatever happens; NULL: not wanted */
} tern_fit_opts;

/*
 * Trains net on data with softmax cross-entropy. The run folder is durable before the first step.
 * A resume of a finished run makes no step and is TERN_OK. Fails with TERN_E_STOPPED when it was
 * asked to stop (a checkpoint of that very step was saved) and with TERN_E_VALUE when the guard
 * found a value that is not finite: the text names the first one, the weights are those before
 * that step, and last.ckpt stays as it was saved last (one is written if there was none). net keeps
 * the last weights; the best are in the folder.
 */
TERN_API TERN_CHECKED tern_status tern_fit(tern_ctx *ctx, tern_module *net, tern_optim *opt,
                                           tern_data *data, const tern_fit_opts *opts);

/* Means over `count` images: the share whose class came first, and the cross-entropy. */
typedef struct tern_score {
    double accuracy, loss;
    int64_t count, correct;
} tern_score;
typedef struct tern_evaluate_opts {
    int batch;          /* 0: 250; the score does not depend on it but for the loss's last bits */
    int classes;        /* of the confusion matrix */
    int64_t *confusion; /* [classes][classes]: true class, class taken; NULL: not wanted */
    size_t arena;       /* as of tern_program_limit; 0: no limit */
} tern_evaluate_opts;
TERN_API TERN_CHECKED tern_status tern_evaluate(tern_ctx *ctx, tern_score *score, tern_module *net,
                                                tern_data *data);
TERN_API TERN_CHECKED tern_status tern_evaluate_with(tern_ctx *ctx, tern_score *score,
                                                     tern_module *net, tern_data *data,
                                                     const tern_evaluate_opts *opts);

/* A mean kept on the device: of scalars (f32), each counted `weight` times. */
typedef struct tern_meter tern_meter;
TERN_API tern_meter *tern_meter_open(tern_ctx *ctx);
TERN_API TERN_CHECKED tern_status tern_meter_add(tern_ctx *ctx, tern_meter *meter, tern_tensor *x);
TERN_API TERN_CHECKED tern_status tern_meter_add_weighted(tern_ctx *ctx, tern_meter *meter,
                                                          tern_tensor *x, double weight);
/* The mean so far (NaN: of nothing); take also starts anew. */
TERN_API double tern_meter_mean(tern_ctx *ctx, tern_meter *meter);
TERN_API double tern_meter_take(tern_ctx *ctx, tern_meter *meter);

/*
 * Parameters and buffers of a module by their names, as safetensors; filters and matrices in the
 * layout of PyTorch. Loading demands every name, with its shape and type, and nothing else; a file
 * that does not fit changes nothing.
 */
TERN_API TERN_CHECKED tern_status tern_save(tern_ctx *ctx, tern_module *net, const char *path);
TERN_API TERN_CHECKED tern_status tern_save_with(tern_ctx *ctx, tern_module *net, const char *path,
                                                 const char *const *metadata);
TERN_API TERN_CHECKED tern_status tern_load(tern_ctx *ctx, tern_module *net, const char *path);

/* XXH128 of the parameters' and buffers' values, little-endian, in the order of their names, as 32
 * hex digits. */
TERN_API TERN_CHECKED tern_status tern_weights_hash(tern_ctx *ctx, char text[33], tern_module *net);

TERN_END_DECLS

#endif
