/*
 * tern/compare.h - a traced step, call by call on several devices, each call judged alone.
 *
 * The step is traced once, on a context of the device "ref". Each of its calls then runs there in
 * double; the results, rounded once, are what the following calls are given, on the reference and
 * on every side alike. So each call has exact inputs, which its derived bound speaks of, and an
 * error is found where it is made. Variables go on from step to step with the reference's values.
 */
#ifndef TERN_COMPARE_H
#define TERN_COMPARE_H

#include "tern/program.h"

TERN_BEGIN_DECLS

enum { TERN_SIDES = 4 }; /* most devices at once */

typedef struct tern_compare tern_compare;

/*
 * Traces `step` (as in tern_record) for inputs like `in` (ends with NULL) and names its tensors.
 * ctx: opened on "ref", with the variables and the mode that the step wants. side: other contexts,
 * which outlive the comparison; they hold no net. fused: the calls that programs make of several
 * stay together, as in training; else each layer has its own. Lives until it is closed, or ctx is.
 */
TERN_API tern_compare *tern_compare_open(tern_ctx *ctx, tern_step step, void *user,
                                         tern_tensor *const *in, int n_side, tern_ctx *const *side,
                                         bool fused);
TERN_API void tern_compare_close(tern_ctx *ctx, tern_compare *compare); /* NULL is legal */

typedef enum { TERN_PASS_FORWARD, TERN_PASS_BACKWARD, TERN_PASS_UPDATE } tern_pass;

/* A result of one call of the step, or of an update the part that belongs to one layer. Texts live
 * as long as the comparison. */
typedef struct tern_compare_tensor {
    tern_pass pass;
    const char *layer; /* the scope: "block1.conv2"; "loss" and "step" for what lies in none */
    /* "out", "dX", "dW", "db", "update" where it is that of its layer; else the word of the
     * operation's result, or the operation */
    const char *name;
    const char *op;
    const char *param; /* whose gradient it is: "lstm1.weight_hh_l0"; or "" */
    tern_type type;
    tern_shape shape; /* of an update: one axis, the layer's parameters one after the other */
    int call;         /* the call's number in the list */
} tern_compare_tensor;
/* The i-th, in the order in which they are computed; false past the last. */
TERN_API bool tern_compare_at(const tern_compare *compare, int i, tern_compare_tensor *tensor);

/* What one side made of one tensor in the last step. Elements with the rounded reference's bits
 * have no error at all; errors of the others are distances from the reference in double. */
typedef struct tern_distance {
    const char *missing;            /* why the side has no such tensor; NULL: it has */
    const char *kernel;             /* that made it */
    bool exact;                     /* it has no bound: its bits must be the rounded reference's */
    int64_t n, n_unequal, n_beyond; /* elements; with other bits; off by more than the bound */
    double max_abs, max_rel;        /* rel: of elements that are not zero */
    double ulp_max, ulp_p99; /* steps between numbers of the type; p99: above 255 a power of 2 */
    double share;            /* the largest error as a share of its bound; infinite without one */
    int64_t worst;           /* where that is, -1: nowhere; both values there */
    double got, want;
} tern_distance;

/* Called after each call: how many are done, of how many. */
typedef void (*tern_compare_fn)(void *user, int done, int all);
/* One step on `in`, shaped as for open. fn may be NULL. TERN_OK even if tensors are off. */
TERN_API TERN_CHECKED tern_status tern_compare_step(tern_ctx *ctx, tern_compare *compare,
                                                    tern_tensor *const *in, tern_compare_fn fn,
                                                    void *user);
/* false before the first step, or if there is no such tensor or side. */
TERN_API bool tern_compare_distance(const tern_compare *compare, int i, int i_side,
                                    tern_distance *distance);
/* Element `at` of tensor i by name: "[17,4,2,2]", of an update "conv2.weight [17,4,2,2]". */
TERN_API const char *tern_compare_place(char text[200], const tern_compare *compare, int i,
                                        int64_t at);

/* Plants a fault: in each step from now on, what side i_side makes of tensor i has its largest
 * element multiplied by 1 + rel. A step in which all of it is zero fails with TERN_E_VALUE. */
TERN_API TERN_CHECKED tern_status tern_compare_inject(tern_ctx *ctx, tern_compare *compare, int i,
                                                      int i_side, double rel);

TERN_END_DECLS

#endif
