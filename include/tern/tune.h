/*
 * tern/tune.h - kernels chosen by the clock, and the file that keeps the choices.
 *
 * Without it a context chooses by its kernels' stated costs, so the choice is the same everywhere.
 * With it each call that several kernels take is timed when it is first met: three runs to get
 * warm, five that count, their median. So are the best ten or so of the plans that cuDNN and
 * cuBLASLt have for a product or a convolution, and the fastest one that agrees with our own kernel
 * is taken. The file keeps what was found: what is in it is not timed again. A choice is for one
 * operation with its options, shapes, types and layouts, one math mode, one number of threads, one
 * device with its libraries and one version of Tern; what differs is another call. All that may be
 * chosen is repeatable (unless tern_deterministic_set admits others) and inside the operation's
 * bound, but two kernels need not give the same bits: who wants those of an earlier run takes its
 * file along.
 */
#ifndef TERN_TUNE_H
#define TERN_TUNE_H

#include "tern/base.h"

TERN_BEGIN_DECLS

/*
 * Reads the choices in the file, one that is not there being empty, and times from now on; what is
 * found is written at once. Before the first operation: what was chosen before stays. TERN_E_STATE
 * if it is on already, TERN_E_FORMAT for a file that is not what was written, with its line,
 * TERN_E_IO for one that cannot be read or written.
 */
TERN_API TERN_CHECKED tern_status tern_tune(tern_ctx *ctx, const char *path);

typedef struct tern_tuning {
    const char *path;
    int n_choices, n_timed; /* in the file; of these, by this context */
    const char *stamp;      /* "12:9f3a…": how many choices there are, and a hash of them */
} tern_tuning;
/* False: it is off. */
TERN_API bool tern_tune_look(const tern_ctx *ctx, tern_tuning *to);

/* Whether the choices that a stamp stands for are the first ones of this context's file, so that
 * calls met then are computed the same way now. "" stands for tuning that is off. */
TERN_API bool tern_tune_holds(const tern_ctx *ctx, const char *stamp);

TERN_END_DECLS

#endif
