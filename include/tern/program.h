/*
 * tern/program.h - variables, steps, programs.
 *
 * Tensors never change; what changes over time is a variable: a name, and an address for life.
 * Inside a step an assignment is pending: later reads see it, and all of them commit together at
 * the step's end, unless the step's skip flag is set. Outside a step they commit at once.
 */
#ifndef TERN_PROGRAM_H
#define TERN_PROGRAM_H

#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* A variable, all zeros. Fails while a step is traced. The name is copied. */
TERN_API tern_var *tern_variable(tern_ctx *ctx, const char *name, tern_type type, tern_shape shape);
/*
 * Lays n variables of one type, which were not read or assigned yet, side by side in one dense
 * block, in this order, and makes them parameters: reads are tracked, gradients lie parallel.
 * Variables keep their names and handles.
 */
TERN_API tern_var *tern_block(tern_ctx *ctx, const char *name, int n, tern_var *const *vars);
TERN_API tern_var *tern_var_block(tern_var *var);      /* itself, if it lies in none */
TERN_API int64_t tern_var_offset(const tern_var *var); /* in its block, elements */
TERN_API const char *tern_var_name(const tern_var *var);
TERN_API tern_shape tern_var_shape(const tern_var *var);
TERN_API tern_type tern_var_type(const tern_var *var);
/* Commits in skipped steps, too (loss scale, counts of steps). */
TERN_API void tern_var_always(tern_var *var);

TERN_API tern_tensor *tern_read(tern_ctx *ctx, tern_var *var);
TERN_API TERN_CHECKED tern_status tern_assign(tern_ctx *ctx, tern_var *var, tern_tensor *value);
/* Every element, from the host, between steps. */
TERN_API TERN_CHECKED tern_status tern_set(tern_ctx *ctx, tern_var *var, double value);
/* Elements from … from+count of a block, as a tensor [count]; value: packed, `count` elements. */
TERN_API tern_tensor *tern_block_read(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count);
TERN_API TERN_CHECKED tern_status tern_block_assign(tern_ctx *ctx, tern_var *block, int64_t from,
                                                    tern_tensor *value);

/*
 * The guard. tern_guard takes one census over the pending gradients of a block range, the last
 * loss that was walked, and all that is pending; if anything is not finite it sets skip and
 * latches tripped. *norm (NULL: not wanted) is the gradients' 2-norm, an f64 scalar. Update after
 * it. skip is 0 again at the next step; tripped stays until tern_set(ctx, tern_tripped(ctx), 0).
 */
TERN_API TERN_CHECKED tern_status tern_guard(tern_ctx *ctx, tern_tensor **norm, tern_var *block,
                                             int64_t from, int64_t count);
TERN_API tern_var *tern_skip(tern_ctx *ctx);
TERN_API tern_var *tern_tripped(tern_ctx *ctx);
TERN_API TERN_CHECKED tern_status tern_skip_if(tern_ctx *ctx, tern_tensor *flag);
/* Whether the guard is on (default). Part of a program's key. */
TERN_API void tern_guard_set(tern_ctx *ctx, bool on);
/* Whether the guard has tripped, looked at late: *behind says of how many runs ago that is known, 1
 * on a device that works beside the host, else 0. It waits for the run before the last one only. */
TERN_API TERN_CHECKED tern_status tern_guard_look(tern_ctx *ctx, bool *tripped, int *behind);

/*
 * The scale of the loss in math mode f16, a power of two, and the steps since it changed (f32
 * scalars; NULL before f16 was first set). tern_backward applies it and takes it back out of the
 * gradients. A step whose gradients are not finite is skipped, halves it and does not trip the
 * guard while it is above 1; 2,000 good steps in a row double it.
 */
TERN_API tern_var *tern_loss_scale(tern_ctx *ctx);
TERN_API tern_var *tern_loss_scale_good(tern_ctx *ctx);

/* Names what runs between the two for logs, errors and programs: "conv1", nested "block1.conv1".
 * The text must outlive the context's programs. */
TERN_API const char *tern_scope_begin(tern_ctx *ctx, const char *path); /* gives the one before */
TERN_API void tern_scope_end(tern_ctx *ctx, const char *before);
/* Tells programs that something outside their inputs (an option, a module) has changed. */
TERN_API void tern_structure_changed(tern_ctx *ctx);
TERN_API bool tern_tracing(const tern_ctx *ctx);
/* Whether a step is running, traced or not. */
TERN_API bool tern_in_step(const tern_ctx *ctx);

enum { TERN_STEP_OUT = 8 };
/*
 * A step: reads `in` (ends with NULL), writes up to TERN_STEP_OUT results, leading ones first.
 * While it is traced tensors have shapes but no values.
 */
typedef tern_status (*tern_step)(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user);

/* A program that traces `step` once for each key (shapes and types of inputs, mode, settings,
 * pending gradients) and replays it from the first run on. It lives as long as the context. */
TERN_API tern_program *tern_record(tern_ctx *ctx, tern_step step, void *user);
/* Lets go of a program before that, not while it runs. NULL is legal. */
TERN_API void tern_program_close(tern_ctx *ctx, tern_program *program);
/* One step. in ends with NULL; out takes as many results as the step makes. Nothing is changed by
 * a step that fails. On a device with graphs a key's second run is captured; TERN_E_UNSUPPORTED and
 * the call's name if a kernel does what no capture may hold. */
TERN_API TERN_CHECKED tern_status tern_program_run(tern_ctx *ctx, tern_tensor **out,
                                                   tern_program *program, tern_tensor **in);
/* Plans the step for such inputs without running it; `shapes` and `types` have n entries. Inputs of
 * rank 4 are taken to lie channels-last, as loaders give them. */
TERN_API TERN_CHECKED tern_status tern_program_plan(tern_ctx *ctx, tern_program *program, int n,
                                                    const tern_shape *shapes,
                                                    const tern_type *types);
/*
 * The most that the arena of its plans may take, in bytes; 0 (default): as much as it needs. A plan
 * that needs more runs cheap calls again where what they made is read next, which changes no bit,
 * and then takes kernels with less scratch, as far as there are any, whose results may differ
 * within their bounds. If it needs more even so, tern_program_run fails with TERN_E_MEMORY before
 * anything runs; tern_program_plan only plans, and tern_program_peak tells what it would take.
 */
TERN_API void tern_program_limit(tern_program *program, size_t bytes);
/* Calls of the last plan that run a second time for the limit's sake. */
TERN_API int tern_program_again(const tern_program *program);
/* The last plan as text, one call a line; its arena in bytes, and what it keeps from run to run;
 * how often the step was traced. */
TERN_API const char *tern_program_text(tern_ctx *ctx, tern_program *program);
TERN_API size_t tern_program_peak(const tern_program *program);
TERN_API int tern_program_traces(const tern_program *program);

/* The last plan as data. A value that has no place of its own lies `inside` another, at `at` bytes:
 * a variable, or one in the arena, where `at` counts from the arena's start. */
typedef enum {
    TERN_VALUE_INPUT,
    TERN_VALUE_VARIABLE,
    TERN_VALUE_CONSTANT,
    TERN_VALUE_TEMPORARY,
    TERN_VALUE_DERIVED /* made of parameters alone, kept from run to run */
} tern_value_kind;
typedef struct tern_program_value {
    tern_value_kind kind;
    const char *name; /* of a variable; else "" */
    size_t bytes, at;
    int inside;      /* itself: it has a place of its own */
    int first, last; /* lines from its making to its last use; -1: before all, n: a result */
    bool scratch;    /* of the line `first` */
} tern_program_value;
typedef struct tern_program_line {
    const char *op, *kernel, *where; /* where: the scope, "conv1", or "" */
    char out[176];                   /* type and shape of the first output: "f32[64,32,28,28]" */
    char fused[96];                  /* what a fused line stands for: "batch_norm+relu"; or "" */
    bool backward, commit;           /* commit: writes a variable at the end */
    bool again;                      /* runs a second time, for the limit's sake */
    int n_in, n_out;                 /* operands, absent ones counted */
} tern_program_line;
/* false: there is no such line or value. */
TERN_API bool tern_program_line_at(const tern_program *p, int i, tern_program_line *line);
TERN_API bool tern_program_value_at(const tern_program *p, int i, tern_program_value *value);
/* The value that is operand k of a line, inputs first, then outputs; -1: absent. */
TERN_API int tern_program_operand(const tern_program *p, int i_line, int k);

/* Runs the last step again call by call, commits nothing, and fails with TERN_E_VALUE and the
 * name of the first tensor that is not finite. TERN_OK: all are. */
TERN_API TERN_CHECKED tern_status tern_program_explain(tern_ctx *ctx, tern_program *program);

/* A line of a program and the time that it took. Texts live as long as the program. */
typedef struct tern_line_time {
    const char *op, *kernel, *where; /* where: the scope, "conv1", or "" */
    bool backward, update;           /* inside a backward walk; writes variables */
    double ns;                       /* median */
    double flops, bytes;             /* flops: 0 where the operation states none */
} tern_line_time;
/* Runs the step on `in` 1 + `times` times, for real (variables change), with a clock around each
 * line. `line` takes up to `room` of them; *n: how many there are, *step_ns (may be NULL): the
 * median of the whole replay with those clocks. TERN_E_STATE for eager contexts. */
TERN_API TERN_CHECKED tern_status tern_program_profile(tern_ctx *ctx, tern_program *program,
                                                       tern_tensor **in, int times,
                                                       tern_line_time *line, int room, int *n,
                                                       double *step_ns);

TERN_END_DECLS

#endif
