/*
 * panel.h - the two register tiles on which igemm.c and winograd.c stand, and their data layout.
 *
 * PANEL LAYOUT. A matrix of T rows and D columns lies as X[D/VL][T][VL]: VL columns of all rows,
 * then the next VL. The rows of a register tile lie side by side, so every operand of the inner
 * loop is one base register and a constant, and no power-of-two row stride can make the rows fight
 * for the same cache sets (a plain row of 512 channels does: 2048 bytes apart, 8-way L1).
 *
 *   nn: C[t][n]  = sum_d A[t][d] B[d][n]    forward and dx; B in panels of NR columns, [D][NR]
 *   tn: C[m][n] += sum_t A[t][m] B[t][n]    dw; both in panels
 *
 * A Zen 4 core starts one 512-bit FMA and one 512-bit load a cycle. 14 x 2 vectors need 16 loads
 * for 28 FMAs, 8 x 2 need 10 for 16; both leave room for the load port to miss L1 now and then.
 */
#ifndef TI_PANEL_H
#define TI_PANEL_H

#include "cpu/simd/kernels.h"
#include "simd.h"

#define panel_nn TI_SIMD(panel_nn)
#define panel_nn_rows TI_SIMD(panel_nn_rows)
#define panel_nn_runs TI_SIMD(panel_nn_runs)
#define panel_tn TI_SIMD(panel_tn)

enum {
    NR = 2 * VL,                              /* columns of a register tile */
    NN_ROWS = N_REGS == 32 ? 14 : 6,          /* most rows of an nn tile */
    TN_ROWS = N_REGS == 32 && VL > 4 ? 8 : 4, /* rows of a tn tile; divides VL */
    SLICE = 256                               /* depth of one chain of sums in nn products */
};

/*
 * C = A B. The depth (a multiple of VL) is cut into slices of SLICE, each summed from zero and then
 * added. t_stride: rows of A's panels; rows t, … of the product go to panels of C of as many rows.
 */
void panel_nn(int64_t n_t, int64_t n_cols, int64_t depth, const float *a, int64_t t_stride,
              const float *b, float *c);

/* The same, but row t goes to c_rows[t]; n_cols may be any number. bias: n_cols, or NULL. */
void panel_nn_rows(int64_t n_t, int64_t n_cols, int64_t depth, const float *a, int64_t t_stride,
                   const float *b, float *const *c_rows, const float *bias, bool relu);

/* A's depth is `runs` runs of `depth`, of which each is cut into slices; they meet stretches of B,
 * of which each begins b_step behind the one before. b_depth: of all of B. */
typedef struct {
    int64_t runs, depth, b_step, b_depth;
} panel_runs;

void panel_nn_runs(int64_t n_t, int64_t n_cols, const panel_runs *d, const float *a,
                   int64_t t_stride, const float *b, float *const *c_rows, const float *bias,
                   bool relu);

/* C[m][ldc] (+)= A^T B over n_t rows, at most SLICE; m, n multiples of VL. */
void panel_tn(int64_t n_t, int64_t m, int64_t n, const float *a, const float *b, int64_t t_stride,
              float *c, int64_t ldc, bool add);

/* Taps t0 … t0 + VL of VL channels (n_c of them exist) of a filter [c][taps]: r[t] gets the
 * channels of tap t0 + t in its lanes. */
INLINE void turn_taps(const float *w, int64_t taps, int64_t t0, int64_t n_c, vf r[VL])
{
    const vmask m = v_lanes(taps - t0);

    UNROLL for (int i = 0; i < VL; i++)
    {
        r[i] = i < n_c ? v_load_m(w + i * taps + t0, m) : v_zero();
    }
    v_transpose(r);
}

/* And back, n_t taps; r is spoiled. */
INLINE void unturn_taps(vf r[VL], int64_t taps, int64_t t0, int64_t n_t, int64_t n_c, float *w)
{
    const vmask m = v_lanes(n_t);

    v_transpose(r);
    UNROLL for (int i = 0; i < VL; i++)
    {
        if (i < n_c) v_store_m(w + i * taps + t0, m, r[i]);
    }
}

#endif
