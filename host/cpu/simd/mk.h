/*
 * mk.h - the microkernels: one register tile of C, rows by vectors.
 *
 *   C[i][j] (+)= sum over runs u, over k < k_len of
 *                A[u*a_run + i*a_rs + k*a_ks] * B[u*b_run + k*ldb + j]
 *   then, on request, + bias[j] and relu.
 *
 * Runs and free strides let one family serve packed products (one run, a_rs = 1), unpacked operands
 * and convolutions: forward (runs = filter rows, a row of A = a pixel), dw (runs = image rows, k =
 * pixels) and dx (rows of C that overlap: ldc = channels). The order of the sums is u, then k, one
 * accumulator a lane; what C holds is added last.
 */
#ifndef TI_MK_H
#define TI_MK_H

#include "simd.h"

#ifdef TI_F64
#define MK(name) TI_SIMD(name##_f64)
#else
#define MK(name) TI_SIMD(name)
#endif

/* Most rows for 1, 2, 3, 4 vectors. With 16 registers 4 x 3 would need them all and spills. */
#if N_REGS == 32
#define MK_ROWS                                                                                    \
    {                                                                                              \
        28, 14, 8, 6                                                                               \
    }
#else
#define MK_ROWS                                                                                    \
    {                                                                                              \
        12, 6, 3, 2                                                                                \
    }
#endif
enum { MK_MAX_ROWS = 28, MK_MAX_VECS = 4 };

typedef struct {
    const real *a, *b;
    real *c;
    int64_t a_rs, a_ks, a_run;
    int64_t ldb, b_run;
    int64_t k_len, n_runs;
    int64_t ldc;
    const real *bias; /* NULL: none */
    real *pack;       /* mk_packing: each row of B, whole vectors, is also stored here */
    int64_t pack_ld;
    bool accumulate, relu;
    int last_lanes; /* lanes in use in the last vector, 1 … VL */
} mk_tile;

typedef void mk_fn(const mk_tile *t);

/* [vectors - 1][rows - 1]; NULL beyond MK_ROWS. mk_unit needs a_rs = 1; mk_packing packs B on the
 * way: the pass over B that packing costs vanishes behind the products. */
extern mk_fn *const MK(mk_unit)[MK_MAX_VECS][MK_MAX_ROWS];
extern mk_fn *const MK(mk_strided)[MK_MAX_VECS][MK_MAX_ROWS];
extern mk_fn *const MK(mk_packing)[MK_MAX_VECS][MK_MAX_ROWS];

/* C[i][j] (+)= sum over k of A[i*lda + k] * B[j*ldb + k], lane l summing k = l, l + VL, … */
enum { MK_DOT_M = 4, MK_DOT_N = 6 };
typedef struct {
    const real *a, *b;
    real *c;
    int64_t lda, ldb, ldc, k;
    const real *bias;
    bool accumulate, relu;
    real *lanes; /* if set: add the unsummed lanes of each (i, j) here, and leave C alone */
} mk_dot_tile;
typedef void mk_dot_fn(const mk_dot_tile *t);
extern mk_dot_fn *const MK(mk_dot)[MK_DOT_M][MK_DOT_N];

#endif
