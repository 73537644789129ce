/*
 * program.h - what the files about programs share.
 */
#ifndef TI_PROGRAM_H
#define TI_PROGRAM_H

#include "core/core.h"

/* Runs kept to be explained; plans of a program, at most; where a key has the structure. */
enum { TI_KEPT = 2, TI_PLANS = 64, TI_KEY_STRUCTURE = 1 };

/* A line ready to run. */
typedef struct {
    const ti_row *row; /* NULL: the end */
    ti_work work;
    const float *skip; /* runs only while this is 0; NULL: always */
    bool writes;       /* a variable: nothing has failed when it runs */
    int i_line;
} ti_bound_line;

/* A plan whose views point into the arena and the variables. */
struct ti_bound {
    int n_written, n_host;
    tern_var **written; /* blocks that the plan writes */
    int *host;          /* small variables that it only reads: the host may set them */
    size_t host_bytes;
    bool told;       /* that graphs are switched off */
    bool warm;       /* each kernel has run once, bound as it is now: it may be captured */
    ti_graph *graph; /* or NULL */
    ti_bound_line line[];
};

/* What a run was given: enough to run it again. */
typedef struct {
    ti_plan *plan; /* NULL: the run was eager, or the plan is gone */
    int n_in, cap_in;
    tern_tensor **in; /* held */
    ti_block *copies; /* `tripped`, then the host's variables, as the run found them */
    bool full;
} ti_kept;

struct tern_program {
    tern_ctx *ctx;
    tern_program *next;
    tern_step step;
    void *user;
    size_t limit; /* of the arena of its plans; 0: none */
    int n_out, n_traces, n_plans;
    ti_plan *plans, *last; /* most recently used first */
    ti_kept kept[TI_KEPT]; /* the last run first */
    tern_tensor **in;      /* of this run, canonical */
    ti_meta *meta;
    int cap_in, cap_meta;
    int64_t *key;
    int cap_key;
    char *text;
};

/* trace.c: runs the step on shapes and plans what it noted; NULL and an error. */
ti_plan *ti_trace(tern_program *prog, int n_in, const ti_meta *in);
void ti_plan_free(ti_plan *p);
void ti_line_free(ti_plan *p, ti_line *l);
/* A line of the plan with absent operands; `where` and `back` are the context's. */
tern_status ti_line_init(ti_plan *p, ti_line *l, const ti_op *op, const void *opts, int n_in,
                         ti_choice *how);

/* bind.c */
tern_status ti_bind(ti_plan *p); /* also: the arena is large enough, variables have bytes */
char *ti_value_data(const ti_plan *p, int v); /* of a bound plan */

/* layout.c: the first bound line behind those whose results are kept; runs these if a parameter has
 * changed since they last did. */
const ti_bound_line *ti_after_derived(const ti_plan *p);
tern_status ti_refresh(ti_plan *p);

/* program.c */
ti_plan *ti_plan_for(tern_program *prog, int n_in, const ti_meta *in);
void ti_load_inputs(const ti_plan *p, tern_tensor *const *in);
ti_meta ti_canonical(const ti_meta *m); /* the layout of an input's slot */

/* watch.c: checkers are told what of the arena is alive: before the inputs are loaded, before each
 * line that runs, and when all is over, the results copied out. */
void ti_watch_begin(ti_plan *p);
void ti_watch_line(ti_plan *p, int i);
void ti_watch_end(ti_plan *p);

/* graph.c */
bool ti_graphs(ti_plan *p);             /* whether this run is a graph's launch */
tern_status ti_graph_ready(ti_plan *p); /* captures the plan's calls unless that was done */
void ti_graph_drop(ti_plan *p);         /* no graph any more; legal without one */

/* look.c: notes the guard's flag behind a run, where the device reads it late. */
void ti_guard_note(tern_ctx *ctx);

/* profile.c: a replay that adds its nanoseconds, line by line, to p->times. */
tern_status ti_replay_timed(ti_plan *p);

/* program_text.c: the line's text, like snprintf; `placed`: with places. */
size_t ti_line_text(const ti_plan *p, int i, bool placed, char *text, size_t room);
size_t ti_fused_text(const char *pattern, char *text, size_t room);
void ti_log_plan(const ti_plan *p, const char *after, bool placed);

static inline size_t ti_align(size_t bytes) { return (bytes + 63) / 64 * 64; }

#endif
