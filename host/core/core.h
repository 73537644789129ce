/*
 * core.h - what the files of the core share: the context, variables, the tape.
 */
#ifndef TI_CORE_H
#define TI_CORE_H

#include <stdatomic.h>

#include "base/env.h"
#include "core/plan.h"
#include "tern/grad.h"
#include "tern/ops.h"

enum { TI_FRAMES = 256, TI_CHOICES = 1024, TI_RECENT = 16, TI_KEPT_SIZES = 65 };

/* A tape node. It is owned by its outputs, so the tape of what nobody can reach is gone. */
struct ti_node {
    int refs, n_in;
    uint64_t seq; /* inputs come earlier: descending seq is the order of the backward walk */
    tern_ctx *ctx;
    const ti_op *op; /* NULL: a leaf (a variable, a tracked tensor) */
    void *opts;
    tern_tensor **in;
    tern_tensor *saved[TI_OUTS]; /* outputs that the gradient names, without history */
    bool consumed, needed;
    uint64_t walk; /* the walk that has seen it, and where it stands in its list */
    int i_walk;
    const char *where; /* scope of the call */
    tern_var *var;
    ti_node *next_dead;
};

struct tern_var {
    tern_ctx *ctx;
    tern_var *next;
    char *name;
    tern_type type;
    tern_shape shape;
    tern_var *block; /* itself, or the block in which it lies */
    int64_t offset, count;
    uint64_t version;        /* of a block: grows whenever it may have been written */
    ti_storage *store;       /* of a block; NULL until it is first needed */
    ti_storage *traced;      /* its stand-in in the plan being traced */
    ti_node *leaf;           /* of a parameter */
    bool always, used;       /* used: read or assigned */
    bool has_grad, had_grad; /* pending gradient; the same when the step began */
    /* Of a block with parameters: */
    tern_var **params;
    int n_params;
    tern_var *grads;
};

/* An assignment that waits for the end of its step. */
typedef struct {
    tern_var *block;
    int64_t offset, count;
    tern_tensor *value;
} ti_pending;

struct tern_ctx {
    tern_status error;
    char text[512];
    ti_env env;
    tern_log_fn log;
    void *log_user;
    const ti_backend *backend;
    ti_device *device;
    void *plugin; /* the loaded library that the backend is in, or NULL */
    ti_pool *pool;
    char device_name[32], device_why[200];
    int n_threads;
    uint64_t seed;
    atomic_bool stop;
    ti_fault fault;

    tern_tensor **owned; /* by frames, innermost last */
    int n_owned, cap_owned, depth, mark[TI_FRAMES];
    long n_alloc, fail_at; /* fault injection: the allocation that fails, or -1 */
    bool fail_all;
    long n_live;
    union head *kept[TI_KEPT_SIZES]; /* freed small blocks, by size (context.c) */
    int n_kept[TI_KEPT_SIZES];

    uint64_t seq, walk;
    int no_grad;
    tern_mode_t mode;
    tern_math_t math;
    bool eager, in_step, reaping, guard, no_winograd, varies;
    bool graphs;         /* steps are captured, where the device can */
    int n_noted, i_note; /* notes of `tripped`, 2 at most; where the next one goes */
    bool check_sync;     /* TERN_CHECK=sync: the device is waited for after each call */
    ti_node *dead;
    const char *where;
    bool back; /* inside a backward walk */
    tern_var *vars, *skip, *tripped;
    tern_var *loss_scale, *loss_scale_good; /* NULL until math mode f16 was first set */
    ti_pending *pending;
    int n_pending, cap_pending;
    tern_tensor *loss; /* of the step's last backward walk: the guard looks at it */
    int64_t structure;
    tern_program *programs;
    ti_plan *tracing;
    ti_block *arena;
    uint64_t arena_age, n_plan;
    ti_choice *choice[TI_CHOICES], *recent[TI_RECENT]; /* recent: found last, by op */
    int n_choices;
    struct ti_tune *tune; /* tune.h; NULL until it is asked for */
    /* Modules, optimizers and the like register what must be freed when the context closes. */
    struct ti_closer *closers;
};

/* Registered by tern_on_close. */
typedef struct ti_closer {
    struct ti_closer *next;
    void (*fn)(tern_ctx *ctx, void *user);
    void *user;
} ti_closer;

/* device.c: takes a device by its name, with its pool. */
tern_status ti_device_open(tern_ctx *ctx, const char *wanted);
void ti_device_close(tern_ctx *ctx);
/* A block of the pool; NULL, TERN_E_MEMORY and why there is none: "who: part..." */
ti_block *ti_take(tern_ctx *ctx, size_t bytes, const char *holder, const char *who,
                  const char *part);
/* TERN_E_DEVICE if the device has failed; wait: for all that runs there, first. */
tern_status ti_check_device(tern_ctx *ctx, bool wait);

/* variable.c */
tern_status ti_materialise(tern_var *block); /* bytes, if it has none */
/* Before a write: sharers of the old value turn to a copy of it. */
tern_status ti_unshare(tern_var *block);
tern_status ti_step_begin(tern_ctx *ctx);
tern_status ti_step_commit(tern_ctx *ctx);
void ti_step_end(tern_ctx *ctx, bool keep); /* keep: the gradients' state, too */
void ti_variables_close(tern_ctx *ctx);
int ti_count_params(const tern_ctx *ctx);
/* Reads (to: out) or sets the state of all gradients, ti_count_params of them. */
void ti_grads_state(tern_ctx *ctx, bool *to, const bool *from);

tern_status ti_check_range(tern_ctx *ctx, const char *what, const tern_var *block, int64_t from,
                           int64_t count);

/* guard.c */
tern_status ti_loss_scale_open(tern_ctx *ctx);

/* tape.c */
void ti_record(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in, tern_tensor *const *in,
               tern_tensor **out);
ti_node *ti_node_new(tern_ctx *ctx, int n_in, size_t opts_bytes);
void ti_node_drop(ti_node *n); /* NULL is legal */

#endif
