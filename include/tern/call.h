/*
 * tern/call.h - one operation as a thing to look at: which kernel takes it, what it moves and
 * computes, how long it takes, how far it is from the definition. For benchmarks and comparisons.
 */
#ifndef TERN_CALL_H
#define TERN_CALL_H

#include "tern/ops.h"

TERN_BEGIN_DECLS

typedef struct tern_call tern_call;

/*
 * Applies the operation once (options and inputs as for tern_apply) and keeps what a repetition
 * needs: the kernel that was chosen, inputs, outputs, scratch. wanted: mask of outputs that are
 * made; 0: all. Nothing is recorded for derivatives. Lives until it is closed, or the context is.
 */
TERN_API tern_call *tern_call_open(tern_ctx *ctx, const char *op, const char *options, int n_in,
                                   tern_tensor *const *in, unsigned wanted);
TERN_API void tern_call_close(tern_ctx *ctx, tern_call *call); /* NULL is legal */

/* The kernel `times` times, into the same outputs; waits for the last one. */
TERN_API TERN_CHECKED tern_status tern_call_run(tern_ctx *ctx, tern_call *call, int64_t times);
/* Output i; NULL: not wanted, or the call does not give it. */
TERN_API tern_tensor *tern_call_out(const tern_call *call, int i);

typedef struct tern_call_info {
    const char *kernel;  /* "winograd"; "view" where no kernel runs */
    const char *numbers; /* "exact", "reordered", "winograd", "tf32", "bf16", "f16" */
    double flops;        /* 2 for each multiply-add; one for each output element if not counted */
    bool counted;        /* the operation states its flops */
    double bytes;        /* of all inputs and outputs, each once */
    double again;        /* of inputs that are read a second time, once sums over them are known */
    size_t scratch;      /* bytes */
    bool packs;          /* inputs do not lie as the kernel wants: a run copies them, too */
} tern_call_info;
TERN_API void tern_call_look(const tern_call *call, tern_call_info *info);

/* Outputs against those of the reference kernels in f64, by the operation's derived bound; those
 * without a bound must be the rounded reference's bits. */
typedef struct tern_call_error {
    int64_t n, n_beyond;    /* elements compared, and those off by more than the bound */
    double share;           /* the largest error as a share of its bound; 0: equal bits */
    const char *worst_name; /* the output, its element, both values */
    int64_t worst;
    double got, want;
} tern_call_error;
/* ref: another context, opened on "ref". TERN_OK even if elements are beyond. */
TERN_API TERN_CHECKED tern_status tern_call_check(tern_ctx *ctx, tern_call_error *error,
                                                  tern_call *call, tern_ctx *ref);

/* A block of so many bytes, taken from the device's pool and given back, `times` times. */
TERN_API TERN_CHECKED tern_status tern_memory_cycle(tern_ctx *ctx, size_t bytes, int64_t times);

TERN_END_DECLS

#endif
