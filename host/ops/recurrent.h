/*
 * recurrent.h - what rnn, lstm and gru share: operands, shape rules, and one walk over time that is
 * both their composition and, with probes of errors carried along, their bound.
 *
 * Inputs of X, in this order: x, h0, [c0,] w_ih, w_hh, b_ih, b_hh, lengths. X_d adds the cotangents
 * gy, gh, [gc], then y and, but for rnn, the reserve.
 */
#ifndef TI_OPS_RECURRENT_H
#define TI_OPS_RECURRENT_H

#include "ops/near_sums.h"
#include "tern/grad.h"

typedef struct ti_cell ti_cell;
/* One call. Absent operands are NULL. */
typedef struct {
    ti_near_how how;
    const ti_cell *cell;
    const void *opts;
    bool reverse;
    int64_t T, N, D, H;
    tern_tensor *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh, *lengths, *gy, *gh, *gc;
} ti_recurrence;

/* What a step leaves for the way back. */
typedef struct {
    ti_near gate[4], before[2], c; /* before: h, c; c: tanh(c') */
    tern_tensor *mask;             /* [N,1]: the sequence is not over; NULL: all are not */
} ti_step;

/* The way back through a step: derivatives of w_ih x + b_ih, and rows of w_hh h + b_hh beside what
 * w_hh was multiplied with, in one or two pieces one below the other. */
typedef struct {
    ti_near x, h[2], operand[2];
    int n;
} ti_shares;

struct ti_cell {
    int states, gates; /* states: 1 (h) or 2 (h, c) */
    /* gx [N,GH]: w_ih x + b_ih. to[states]; keep takes gates and c. */
    void (*forward)(const ti_recurrence *r, ti_near gx, const ti_near *from, ti_near *to,
                    ti_step *keep);
    /* d of the states after, to those before. */
    void (*back)(const ti_recurrence *r, const ti_step *s, const ti_near *d, ti_near *to,
                 ti_shares *shares);
};

tern_status ti_recurrent_shape(ti_call *c, const ti_cell *cell, bool reserve);
tern_status ti_recurrent_d_shape(ti_call *c, const ti_cell *cell, bool reserve);
tern_status ti_recurrent_compose(const ti_call *c, const ti_cell *cell, tern_tensor **y);
tern_tensor *ti_recurrent_bound(const ti_call *c, const ti_cell *cell, int i_out, double L);
tern_tensor *ti_recurrent_d_bound(const ti_call *c, const ti_cell *cell, int i_out, double L);
double ti_recurrent_flops(const ti_call *c, const ti_cell *cell);
/* Which outputs the public functions ask for: hints only where a gradient may follow. */
unsigned ti_recurrent_wanted(int n_in, tern_tensor *const *in, unsigned outs, unsigned hints);

#endif
