/*
 * plan.h - a program as plain data: values, lines, outputs.
 *
 * Values are storages: inputs, variables, constants, temporaries. An argument is a value with a
 * meta, so views are no lines; a variable is written by a `commit` line.
 */
#ifndef TI_PLAN_H
#define TI_PLAN_H

#include "core/row.h"
#include "tern/program.h"

typedef struct ti_choice ti_choice;
typedef struct ti_plan ti_plan;

/* TI_DERIVED: made of parameters alone, kept from run to run (layout.c). */
typedef enum { TI_INPUT, TI_VARIABLE, TI_CONSTANT, TI_TEMPORARY, TI_DERIVED } ti_value_kind;
typedef struct {
    ti_value_kind kind;
    size_t bytes;
    tern_var *var;    /* TI_VARIABLE: a block */
    ti_storage *held; /* TI_CONSTANT */
    bool source;      /* a block of parameters that the plan does not write */
    int first, last;  /* lines that write it first and touch it last */
    int home;         /* the value inside which it lies (itself: its own place) */
    size_t at;        /* bytes from there; of a home in the arena: from the arena's start */
} ti_value;

typedef struct {
    int value; /* -1: absent */
    ti_meta m;
} ti_arg;

typedef struct {
    const ti_op *op;
    void *opts;
    ti_choice *how; /* row, plan, scratch: referenced, so it is not evicted */
    int i_scratch;  /* value, or -1 */
    int n_in;
    ti_arg *in, out[TI_OUTS];
    const char *where; /* the scope it was called in */
    bool back;         /* inside a backward walk */
    bool predicated;   /* does not run when skip is set */
    bool again;        /* runs a second time, to keep within a limit */
    const char *fused; /* the pattern that it replaced, or NULL */
} ti_line;

struct ti_plan {
    ti_plan *next;
    tern_ctx *ctx;
    const ti_op *commit; /* the op of lines that write variables at the end */
    uint64_t id;
    int64_t *key;
    int n_key;
    ti_value *value;
    ti_line *line;
    int n_value, cap_value, n_line, cap_line, n_in, n_out;
    ti_arg out[TERN_STEP_OUT]; /* inputs are values 0 … n_in-1 */
    int skip;                  /* the value that holds the final skip flag */
    bool *granted;             /* per parameter: has a gradient pending when the step ends */
    size_t arena_bytes, limit; /* limit: what the arena may take; 0: as much as it needs */
    int n_again;               /* lines that run a second time for it */
    int n_derived;             /* lines at the front whose results are kept from run to run … */
    size_t derived_bytes;      /* … in a block of their own … */
    ti_block *derived;
    uint64_t stamp; /* … made of parameters at these versions, summed; 0: not made */
    uint64_t age;   /* of the arena it was bound to */
    int i_watched;  /* the last line that checkers were told of */
    struct ti_bound *bound;
    ti_view *views;
    double *times; /* NULL, or what the next timed replay writes: n_line + 1 nanoseconds */
};

/* The row, plan, packs and shapes that a call was found to have, by all that they depend on. */
struct ti_choice {
    ti_choice *next;
    uint64_t hash;
    int refs; /* lines of programs */
    int n_words;
    const ti_row *row;
    void *plan;
    bool packs; /* some inputs must be repacked first, as row->want says */
    size_t scratch;
    double chain;
    ti_view *views; /* of inputs and outputs, made by the first call that runs at once, or NULL */
    ti_meta out[TI_OUTS];
    size_t out_bytes[TI_OUTS];
    int64_t words[];
};

/* apply.c: choose the row of a call whose in are tensors (data or not). */
ti_choice *ti_choose(tern_ctx *ctx, ti_call *c, unsigned wanted);
void ti_run_row(const ti_row *row, const ti_work *w);
/* Fails if the kernels that ran raised something. */
tern_status ti_check_fault(tern_ctx *ctx);
void ti_choices_close(tern_ctx *ctx);

/* program.c: recording */
tern_status ti_note(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                    tern_tensor *const *in, tern_tensor **out, ti_choice *how);
ti_storage *ti_traced_var(tern_ctx *ctx, tern_var *block); /* its stand-in in the current trace */
int ti_add_value(ti_plan *p, ti_value_kind kind, size_t bytes); /* -1 and an error */
void ti_programs_close(tern_ctx *ctx);
const ti_plan *ti_last_plan(const tern_program *p);

/* Passes. */
tern_status ti_prune(ti_plan *p);
tern_status ti_fuse(ti_plan *p);
tern_status ti_chain(ti_plan *p);
bool ti_same_arg(const ti_arg *a, const ti_arg *b); /* the same elements, or both absent */
tern_status ti_lay_out(ti_plan *p);
tern_status ti_schedule(ti_plan *p);
tern_status ti_place(ti_plan *p);
/* After ti_place: one change that takes memory from the peak, unless there is none. */
tern_status ti_recompute(ti_plan *p, bool *changed);
double ti_line_flops(const ti_plan *p, const ti_line *l); /* 0 where the op states none */
/* What it takes of the device beside variables: the arena, and what it keeps. */
static inline size_t ti_plan_bytes(const ti_plan *p) { return p->arena_bytes + p->derived_bytes; }
int ti_root_value(const ti_plan *p, int v, size_t *at);
bool ti_same_line(const ti_line *a, const ti_line *b); /* but for the outputs' numbers */

#endif
