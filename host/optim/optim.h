/*
 * optim.h - what the files of optim share: an optimizer, and a rule as a table of functions.
 */
#ifndef TI_OPTIM_OPTIM_H
#define TI_OPTIM_OPTIM_H

#include "tern/grad.h"
#include "tern/optim.h"

enum { TI_OPTIM_VARS = 4 };

typedef union {
    tern_sgd_update_opts sgd;
    tern_adam_update_opts adam;
} ti_rule_opts;

struct tern_optim {
    tern_ctx *ctx;
    tern_module *module;
    tern_var *block;
    int64_t from, count;
    const char *kind;
    char name[64];
    double lr, clip_norm, clip_value;
    tern_var *var[TI_OPTIM_VARS]; /* the learning rate, then the rule's own */
    int n_var;
    ti_rule_opts how;
    /* Computes new values of the range from p and g and assigns the rule's own state. */
    tern_tensor *(*update)(tern_ctx *ctx, tern_optim *o, tern_tensor *p, tern_tensor *g,
                           tern_tensor *lr, tern_tensor *scale);
    tern_program *alone; /* the step of its own, when there is none around it */
};

/* What all rules have in common. */
typedef struct {
    const char *kind, *name; /* name NULL: kind */
    double lr, clip_norm, clip_value;
    int64_t from, count;
} ti_optim_opts;

/* step.c: checks, and makes the optimizer with its learning rate. NULL: failed. */
tern_optim *ti_optim_open(tern_ctx *ctx, tern_module *m, const ti_optim_opts *opts);
/* One more variable of the state, "adam.m": parallel to the range, or one i64. */
tern_status ti_optim_state(tern_optim *o, const char *name, bool counter);
/* x >= 0 and finite, and at most `most`; else a failure that names the field. */
tern_status ti_optim_within(tern_ctx *ctx, const char *kind, const char *field, double x,
                            double most);

#endif
