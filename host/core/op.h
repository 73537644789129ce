/*
 * op.h - what a file in host/ops states about its operations.
 *
 * An operation is one `static const ti_op`; the file's only global symbol besides its public
 * functions is the list `const ti_op *const ti_ops_<file>[] = {&a, &b, NULL}`.
 */
#ifndef TI_OP_H
#define TI_OP_H

#include <stddef.h>

#include "core/tensor.h"
#include "tern/ops.h"

/* Most outputs of an op; most inputs of one that is not variadic; most bytes of options. */
enum { TI_OUTS = 8, TI_FEW = 16, TI_OPTS = 256 };

typedef struct ti_op ti_op;

/* Outputs: differentiable; a value (statistics, indices) without derivative; a hint (mask, mean)
 * that only spares fast rows work and is never needed for the meaning. */
typedef enum { TI_DIFF, TI_VALUE, TI_HINT } ti_kind_of_out;
typedef struct {
    const char *name;
    ti_kind_of_out kind;
} ti_port;

typedef enum { TI_INT, TI_I64, TI_F64 } ti_field_type;
/* A field of the options. `has` finds the int flag that says "given": a legal zero needs one. */
typedef struct {
    const char *name;
    ti_field_type type;
    int count;
    size_t offset;
    double otherwise;  /* default: instead of zero (without flag) or of what is not given */
    const char *names; /* "none|relu": words for 0, 1, … */
    size_t has;        /* offset of the flag + 1; 0: none */
} ti_field;
#define TI_FIELD(opts_, kind, member, n, otherwise_)                                               \
    {                                                                                              \
        .name = #member, .type = kind, .count = n, .offset = offsetof(opts_, member),              \
        .otherwise = otherwise_                                                                    \
    }
#define TI_FIELD_HAS(opts_, kind, member, n, otherwise_)                                           \
    {                                                                                              \
        .name = #member, .type = kind, .count = n, .offset = offsetof(opts_, member),              \
        .otherwise = otherwise_, .has = offsetof(opts_, has_##member) + 1                          \
    }
#define TI_FIELD_NAMES(opts_, member, names_)                                                      \
    {                                                                                              \
        .name = #member, .type = TI_INT, .count = 1, .offset = offsetof(opts_, member),            \
        .names = names_                                                                            \
    }

/* What the numbers of a row are: equal to ref's rounding; sums in another order; … */
typedef enum {
    TI_EXACT,
    TI_REORDERED,
    TI_WINOGRAD,
    TI_CLASS_TF32,
    TI_CLASS_BF16,
    TI_CLASS_F16
} ti_class;

/* One application: for shape, view, grad, compose, bound. */
typedef struct {
    tern_ctx *ctx;
    const ti_op *op;
    const void *opts; /* filled: defaults in place */
    int n_in;
    tern_tensor *const *in;    /* NULL: absent */
    tern_tensor *out[TI_OUTS]; /* for grad: those the op saves, re-attached; for bound: all */
    ti_meta meta[TI_OUTS];     /* for the shape rule to fill */
    const bool *wants;         /* for grad: which inputs need a derivative */
    ti_class numbers;          /* for bound: of the row that is judged */
    size_t scratch_below;      /* for the choice of a row: it takes less than that; 0: any */
} ti_call;

/* What the conformance tests draw an input from. */
typedef enum {
    TI_S_NORMAL,   /* standard normal, in the float type under test                    */
    TI_S_POSITIVE, /* 0.5 … 2                                                          */
    TI_S_UNIT,     /* 0.05 … 0.95                                                      */
    TI_S_AWAY,     /* normal, but at least 0.1 away from 0 (kinks there)               */
    TI_S_DISTINCT, /* a shuffled grid, all at least 0.01 apart (for maxima)            */
    TI_S_PROB,     /* positive, sums to 1 along axis 1                                 */
    TI_S_INDEX,    /* i64 in 0 … limit-1                                               */
    TI_S_BOOL,     /* bool                                                             */
    TI_S_INT,      /* i64 in -limit … limit                                            */
    TI_S_COUNTER,  /* i64 scalar                                                       */
    TI_S_NONE      /* absent                                                           */
} ti_draw;
typedef struct {
    tern_shape shape;
    ti_draw draw;
    int64_t limit;
} ti_sample_in;
typedef struct {
    const char *note; /* "strided, odd", never NULL */
    int n_in;
    ti_sample_in in[TI_FEW];
    const void *opts; /* the op's options struct, or NULL */
} ti_sample;
#define TI_SAMPLES_END                                                                             \
    {                                                                                              \
        .note = NULL                                                                               \
    }

/*
 * What a fused op replaces in a program, in the notation of its text, lines parted by `;`. Options
 * are conditions in a pattern and given in what is made of it; the others are those of the same
 * name in the replaced lines. `-`: absent. A value that `made` does not name dies, or the pattern
 * does not fit.
 */
typedef struct {
    const char *pattern, *made;
} ti_rewrite;
typedef struct {
    const char *forward, *made; /* the last line's first output is read by others */
    /* Of its derivative, with the names of the forward pattern; the longest first. */
    ti_rewrite backward[3];
} ti_fusion;

struct ti_op {
    const char *name;
    int n_in; /* -1: any number */
    const char *in[TI_FEW];
    unsigned optional; /* mask of inputs that may be NULL */
    unsigned operands; /* mask of inputs that are multiplied and added up: math modes round them */
    unsigned twice;    /* mask of inputs that are read again once sums over all of them are known */
    int n_out;
    ti_port out[TI_OUTS];
    unsigned saves; /* mask of outputs that the gradient names */
    size_t opts_size;
    const ti_field *fields; /* ends with name NULL; may be NULL */
    /* Checks inputs and options, fills c->meta of all outputs. */
    tern_status (*shape)(ti_call *c);
    /* Instead of shape, for views: c->meta[0] on the first input's storage. */
    tern_status (*view)(ti_call *c);
    /* Views that not every layout allows: whether x's does. tern_apply copies x if not. */
    bool (*viewable)(const tern_tensor *x, const void *opts);
    /* d[i], for each wanted input i, from g (NULL where no cotangent arrived), out of public ops.
     * NULL d[i] without an error: zero. */
    void (*grad)(const ti_call *c, tern_tensor *const *g, tern_tensor **d);
    const char *no_grad; /* why there is no gradient, where there is none */
    /* A fused op's meaning out of smaller ops: y takes its differentiable outputs. */
    tern_status (*compose)(const ti_call *c, tern_tensor **y);
    /* X_d only: the X whose composition defines its derivatives. Inputs of X_d are X's inputs
     * (absent but for d_needs), one cotangent for each differentiable output of X, then extras;
     * its outputs are the derivatives of X's first n_out inputs. */
    const ti_op *composed;
    unsigned d_needs;
    /* Error bound of output i in units of the type's unit roundoff u, as an f64 tensor of its
     * shape: |computed - exact| <= u · bound for exact inputs. c->in and c->out are f64. L: the
     * longest sequential chain of sums, from the row. NULL: the result is exact (equal bits). */
    tern_tensor *(*bound)(const ti_call *c, int i_out, double L);
    const ti_sample *samples;
    const ti_fusion *fusions; /* ends with forward NULL; NULL: none */
    /* Multiply-adds · 2 and bytes are derived where they matter: flops of a call, or NULL for one
     * per output element. */
    double (*flops)(const ti_call *c);
};

/* Whether math modes round input i. Inputs beyond the mask are those of ops that take any number of
 * them and multiply none. */
static inline bool ti_is_operand(const ti_op *op, int i)
{
    return i < 32 && (op->operands >> i & 1);
}

/* The choke point. `wanted`: mask of outputs; out gets TI_OUTS entries, NULL where not wanted. */
tern_status ti_apply(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                     tern_tensor *const *in, unsigned wanted, tern_tensor **out);
/* The first output only. */
tern_tensor *ti_apply1(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                       tern_tensor *const *in);
#define TI_IN(...) ((tern_tensor *[]){__VA_ARGS__})

/* Options from a user's struct: fields and defaults into a zeroed one of op->opts_size bytes. */
void ti_opts_fill(const ti_op *op, void *to, const void *from);
/* "stride=2,1 pad=1,1" into a zeroed struct; fails naming the field. And back: only what differs
 * from the defaults; returns the length without the end. */
tern_status ti_opts_parse(tern_ctx *ctx, const ti_op *op, void *to, const char *text);
size_t ti_opts_text(const ti_op *op, const void *opts, char *text, size_t room);

/* Whether opts hold what the text gives; the fields of `from` that `op` has by the same name and
 * the text does not give. */
bool ti_opts_agree(tern_ctx *ctx, const ti_op *op, const void *opts, const char *text);
void ti_opts_inherit(const ti_op *op, void *to, const char *text, const ti_op *from_op,
                     const void *from);

extern const ti_op *const *const ti_all_ops[]; /* lists, by file; ends with NULL */
const ti_op *ti_op_named(const char *name);    /* NULL: there is none */

/* For fused ops. X's gradient is one call of X_d with X's inputs (those X_d needs), cotangents and
 * extras; X_d's gradient differentiates X's composition. */
void ti_fused_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d, const ti_op *d_op,
                   int n_extra, tern_tensor *const *extra);
void ti_composed_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);
/* The gradient of an op that has no X_d: that of its composition. */
void ti_compose_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);
/* x as an output of an op of its own (a view). */
tern_tensor *ti_alias(tern_ctx *ctx, tern_tensor *x);

/* Helpers of shape rules; each fails with the op's name and the numbers. */
tern_status ti_need_types(const ti_call *c, int i, unsigned types); /* mask of 1u << TERN_F32 … */
tern_status ti_same_types(const ti_call *c, unsigned inputs); /* those inputs, where present */
tern_status ti_need_rank(const ti_call *c, int i, int least, int most);
tern_status ti_misfit(const ti_call *c, int i, int j); /* "op: a [2,3] does not fit b [4]" */
/* Output i_out like input i_in: type, shape, order of axes. */
void ti_like(ti_call *c, int i_out, int i_in);
/* axis -rank … rank-1 to 0 … rank-1; fails otherwise. */
tern_status ti_axis(const ti_call *c, int i, int axis, int *to);
/* The broadcast of two shapes; false if they do not fit. */
bool ti_broadcast(tern_shape a, tern_shape b, tern_shape *to);
enum {
    TI_FLOATS = 1u << TERN_F32 | 1u << TERN_F64,
    TI_INDICES = 1u << TERN_I64 | 1u << TERN_I32,
    TI_NUMBERS = TI_FLOATS | TI_INDICES,
    TI_STORED_FLOATS = TI_FLOATS | 1u << TERN_F16 | 1u << TERN_BF16,
    TI_ANY_TYPE = (1u << TERN_N_TYPES) - 1
};
/* Sums g over what broadcasting repeated, to the shape of `like`. */
tern_tensor *ti_fold(tern_ctx *ctx, tern_tensor *g, tern_tensor *like);

#endif
