/*
 * judge.h - how far results are from exact ones, and whether a bound allows it.
 */
#ifndef TI_JUDGE_H
#define TI_JUDGE_H

#include "core/op.h"
#include "tern/compare.h"

typedef struct {
    tern_type type; /* of the result */
    tern_type work; /* whose roundings the bound counts: the type that the call computes in */
    int64_t n;
    const double *got, *want; /* want: in double */
    const double *bound;      /* in units of the unit roundoff; NULL: equal bits are wanted */
} ti_judged;

/* Sets all of *d but `missing` and `kernel`. */
void ti_judge(tern_distance *d, const ti_judged *j);

/* The first float type that computes among n inputs; `otherwise` if there is none. */
tern_type ti_working_type(int n, tern_tensor *const *in, tern_type otherwise);

#endif
