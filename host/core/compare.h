/*
 * compare.h - what the files of the comparison of devices share.
 */
#ifndef TI_COMPARE_H
#define TI_COMPARE_H

#include "core/object.h"
#include "core/program.h"
#include "tern/compare.h"

/* A value of the plan while a step runs. */
typedef struct {
    char *bytes;                /* the reference's, as the storage lies; NULL: there are none */
    bool own;                   /* they are to be freed */
    int last;                   /* the line after which nobody asks for them */
    ti_storage *on[TERN_SIDES]; /* the same on a side, or a hint that it made for itself */
} ti_held;

/* A tensor of the list: elements from … of output `out` of line t.call. */
typedef struct {
    tern_compare_tensor t;
    int out;
    int64_t from;
} ti_compared;

struct tern_compare {
    ti_object object;
    tern_ctx *ref, *bounds; /* bounds: a context of its own, on "cpu" */
    int n_side;
    tern_ctx *side[TERN_SIDES];
    tern_program *program;
    ti_plan *plan;
    ti_held *value;
    ti_compared *tensor;
    int n_tensor, cap_tensor;
    char **text; /* names that were made */
    int n_text, cap_text;
    tern_distance *distance; /* n_side for each tensor */
    char **missing;          /* n_side for each line: why the side could not run it, or NULL */
    bool ran;
    int i_fault, fault_side; /* the planted fault; -1: none */
    double fault_rel;
};

/* compare_line.c: runs line i, which is no commit, on the reference and on every side. */
tern_status ti_compare_line(tern_compare *c, int i);
void ti_compare_release(tern_compare *c, ti_held *h);
/* The reference takes over what went wrong on another context. */
tern_status ti_compare_failed(tern_compare *c, tern_ctx *ctx, const char *what);

/* compare_names.c: makes c->tensor of c->plan. */
tern_status ti_compare_names(tern_compare *c);

#endif
