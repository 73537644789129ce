/*
 * tern/optim.h - update rules and schedules of the learning rate.
 *
 * An optimizer updates a range of a module's block. Its state (moments, count of steps) lies
 * parallel to the range and is made when it opens. The learning rate is a variable, set between
 * steps; traced programs see the new value. tern_optim_step, in order: the guard's census,
 * clipping, the update, which commits only if all is finite.
 */
#ifndef TERN_OPTIM_H
#define TERN_OPTIM_H

#include "tern/nn.h"

TERN_BEGIN_DECLS

typedef struct tern_sgd_opts {
    double lr;                  /* required, > 0 (0 with has_lr)                               */
    double momentum, dampening; /* 0 … 1; nesterov needs momentum and no dampening */
    double decay;               /* L2: decay · p is added to the gradient, after clipping   */
    int nesterov;
    double clip_norm;    /* > 0: gradients are scaled so that their 2-norm is at most this */
    double clip_value;   /* > 0: each gradient is cut to ±this; not together with clip_norm */
    int64_t from, count; /* of the module's elements, whole parameters; count 0: to the end */
    int has_lr;          /* 1: lr counts even if it is 0                          */
    const char *name;    /* of the state, "sgd": "sgd.momentum", "sgd.lr"         */
} tern_sgd_opts;
/* m' = momentum m + (1 - dampening) g;  p' = p - lr m' (nesterov: p - lr (g + momentum m')).
 * The first step has m = 0, so that dampening acts on it, too. */
TERN_API tern_optim *tern_sgd(tern_ctx *ctx, tern_module *m, const tern_sgd_opts *opts);

typedef struct tern_adam_opts {
    double lr; /* default 0.001 */
    int has_beta1, has_beta2, has_eps;
    double beta1, beta2, eps; /* 0.9, 0.999, 1e-8 */
    double decay;             /* adam: L2, default 0; adamw: decoupled, default 0.01 */
    int has_decay;            /* 1: decay counts even if it is 0 */
    double clip_norm, clip_value;
    int64_t from, count;
    int has_lr;
    const char *name; /* "adam", "adamw": "adam.m", "adam.v", "adam.t", "adam.lr" */
} tern_adam_opts;
/* Kingma and Ba 2015; Loshchilov and Hutter 2019. opts may be NULL. */
TERN_API tern_optim *tern_adam(tern_ctx *ctx, tern_module *m, const tern_adam_opts *opts);
TERN_API tern_optim *tern_adamw(tern_ctx *ctx, tern_module *m, const tern_adam_opts *opts);

/* Consumes the range's pending gradients. Outside a step it is a step of its own. TERN_E_STATE if
 * there are no gradients. */
TERN_API TERN_CHECKED tern_status tern_optim_step(tern_ctx *ctx, tern_optim *opt);

/* Between steps. The rate is >= 0 and finite. */
TERN_API TERN_CHECKED tern_status tern_optim_set_lr(tern_ctx *ctx, tern_optim *opt, double lr);
TERN_API double tern_optim_lr(const tern_optim *opt);
/* The i-th variable of its state, for saving; the learning rate is the first. NULL past the last.
 * After values were put into it from outside, tern_optim_lr_read takes over the rate's. */
TERN_API tern_var *tern_optim_var(const tern_optim *opt, int i);
TERN_API TERN_CHECKED tern_status tern_optim_lr_read(tern_ctx *ctx, tern_optim *opt);
/* Bytes of that state; "sgd", "adam" or "adamw"; the name of the state. */
TERN_API size_t tern_optim_bytes(const tern_optim *opt);
TERN_API const char *tern_optim_kind(const tern_optim *opt);
TERN_API const char *tern_optim_name(const tern_optim *opt);
TERN_API tern_module *tern_optim_module(const tern_optim *opt);

/* ---- Schedules: host arithmetic, pure functions of (schedule, its state, step) ---- */

typedef enum {
    TERN_SCHEDULE_CONSTANT, /* lr                                                         */
    TERN_SCHEDULE_STEP,     /* lr · factor^floor(step / every)                            */
    TERN_SCHEDULE_COSINE,   /* least + (lr - least) (1 + cos(pi step / total)) / 2        */
    TERN_SCHEDULE_PLATEAU   /* lr · factor^cuts, at least `least`; a cut is made when the
                               watched value has not improved for `patience` observations */
} tern_schedule_kind;
typedef struct tern_schedule {
    int kind;
    double lr;
    int64_t total;    /* steps of the whole run; cosine needs it                         */
    int64_t warmup;   /* the first steps rise linearly: step i has (i + 1) / warmup of lr;
                         step and cosine count from the end of it                        */
    int64_t every;    /* step: a cut after this many steps; 0: total / 3, rounded up     */
    double factor;    /* 0: 0.1 for step, 0.5 for plateau                                */
    double least;     /* no lower                                                        */
    int64_t patience; /* plateau; 0: 5                                                   */
    double threshold; /* plateau: relative gain that counts as better; 0: 1e-4           */
} tern_schedule;
/* What plateau remembers; zeros at the start; plain numbers, to be saved. */
typedef struct tern_schedule_state {
    double best;
    int64_t seen, bad, cuts;
} tern_schedule_state;
/* The kind with this name ("constant", "step", "cosine", "plateau"), or -1; its name, or NULL. */
TERN_API int tern_schedule_named(const char *name);
TERN_API const char *tern_schedule_name(int kind);
/* TERN_E_ARGUMENT and a text if a field is out of its range. */
TERN_API TERN_CHECKED tern_status tern_schedule_check(tern_ctx *ctx, const tern_schedule *s);
/* The rate of a step, from 0. state may be NULL but for plateau. */
TERN_API double tern_schedule_lr(const tern_schedule *s, const tern_schedule_state *state,
                                 int64_t step);
/* Tells plateau a new value of what it watches (smaller is better). Returns whether it cut. */
TERN_API bool tern_schedule_observe(const tern_schedule *s, tern_schedule_state *state,
                                    double value);

TERN_END_DECLS

#endif
