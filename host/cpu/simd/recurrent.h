/*
 * recurrent.h - the time loops of rnn, lstm and gru in f32, compiled once for each instruction set.
 *
 * A chunk of sequences runs through all steps on its own: x[t] and h lie side by side in panels
 * (panel.h), one product with the packed weights a step, then the gates in one pass.
 *
 *  - All operands are dense and row-major. Results overlap no operand.
 *  - A sequence's results depend on its own operands alone, never on the chunk; the sums in db are
 *    over groups of TI_R_GROUP sequences from 0 on, and chunks begin at such a group.
 */
#ifndef TI_CPU_RECURRENT_H
#define TI_CPU_RECURRENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum { TI_R_TANH, TI_R_RELU, TI_R_LSTM, TI_R_GRU, TI_R_GRU_BEFORE } ti_r_kind;

enum { TI_R_GROUP = 16 };

typedef struct {
    ti_r_kind kind;
    bool reverse;
    int64_t T, N, D, H;
    const float *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh; /* NULL: absent */
    const int64_t *lengths;                               /* each 0 … T; NULL: all T */
    /* Results of forward, any may be NULL; backward wants y and, but for rnn, the reserve: lstm
     * i f g o c', gru r z n and w_hn h + b_hn (after) or r h (before), each H wide. */
    float *y, *h_n, *c_n, *reserve;
    const float *gy, *gh, *gc; /* NULL: zeros */
    float *dx, *dh0, *dc0;     /* NULL: not wanted */
    float *dg;                 /* [T][N][ti_r_width]: see there */
    float *h_prev;             /* [T][N][H]: h before each step */
    double *db;                /* [groups][ti_r_width]: sums of dg over steps and sequences */
    float *packed;             /* what pack made */
} ti_recurrent;

/* dg: derivatives in the order of the gates; gru (after): of r, z, n, and of w_hn h + b_hn. */
static inline int64_t ti_r_width(const ti_recurrent *r)
{
    switch (r->kind) {
    case TI_R_LSTM:
    case TI_R_GRU: return 4 * r->H;
    case TI_R_GRU_BEFORE: return 3 * r->H;
    default: return r->H;
    }
}
static inline int64_t ti_r_groups(const ti_recurrent *r)
{
    return (r->N + TI_R_GROUP - 1) / TI_R_GROUP;
}

typedef struct ti_recurrent_loops {
    /* Packed weights: how many floats, in how many pieces; makes piece i. */
    size_t (*packed)(const ti_recurrent *r, bool back);
    int64_t (*pieces)(const ti_recurrent *r, bool back);
    void (*pack)(const ti_recurrent *r, bool back, int64_t i);
    size_t (*scratch)(const ti_recurrent *r, int64_t n); /* bytes, for a chunk of n sequences */
    void (*forward)(const ti_recurrent *r, int64_t from, int64_t to, void *scratch);
    void (*backward)(const ti_recurrent *r, int64_t from, int64_t to, void *scratch);
} ti_recurrent_loops;

extern const ti_recurrent_loops ti_recurrent_loops_portable;
#ifdef __x86_64__
extern const ti_recurrent_loops ti_recurrent_loops_avx2, ti_recurrent_loops_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_recurrent_loops *ti_recurrent_loops_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_recurrent_loops_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_recurrent_loops_avx2;
#endif
    (void)name;
    return &ti_recurrent_loops_portable;
}

#endif
