/*
 * tern/ops_rnn.h - recurrent layers: one call runs one layer in one direction over all time steps.
 * The rules of tern/ops.h hold, which includes this file.
 *
 *  - Shapes.   T time steps, N sequences, D features in, H features of the state; G gates stand
 *              one below the other in the weights (G = 1, 4, 3 for rnn, lstm, gru).
 *              x [T,N,D], h0 and c0 [N,H] (NULL: zeros), w_ih [GH,D], w_hh [GH,H], b_ih and b_hh
 *              [GH] (NULL: none), lengths i64 or i32 [N] (NULL: all T)  ->  y [T,N,H].
 *  - Lengths.  0 … T, in any order. From its length on, a sequence's x counts for nothing, its y
 *              is zeros and its state stays, so *h_n and *c_n [N,H] (may be NULL) are the state
 *              after its last step. TERN_E_VALUE for others.
 *  - Reverse.  Each sequence is read from its own end to its start; y[t] still belongs to x[t].
 *  - Layout of weights and order of gates are PyTorch's.
 */
#ifndef TERN_OPS_RNN_H
#define TERN_OPS_RNN_H

#include "tern/ops.h"

TERN_BEGIN_DECLS

typedef struct tern_rnn_opts {
    int reverse;
    int act; /* TERN_TANH (default) or TERN_RELU */
} tern_rnn_opts;
/* h' = act(w_ih x + b_ih + w_hh h + b_hh). (Elman 1990.) */
TERN_API tern_tensor *tern_rnn(tern_ctx *ctx, tern_tensor **h_n, tern_tensor *x, tern_tensor *h0,
                               tern_tensor *w_ih, tern_tensor *w_hh, tern_tensor *b_ih,
                               tern_tensor *b_hh, tern_tensor *lengths, const tern_rnn_opts *opts);

typedef struct tern_lstm_opts {
    int reverse;
} tern_lstm_opts;
/* Gates i, f, g, o: c' = s(f) c + s(i) tanh(g), h' = s(o) tanh(c'), s the logistic function.
 * (Hochreiter and Schmidhuber 1997, Gers et al. 2000.) */
TERN_API tern_tensor *tern_lstm(tern_ctx *ctx, tern_tensor **h_n, tern_tensor **c_n, tern_tensor *x,
                                tern_tensor *h0, tern_tensor *c0, tern_tensor *w_ih,
                                tern_tensor *w_hh, tern_tensor *b_ih, tern_tensor *b_hh,
                                tern_tensor *lengths, const tern_lstm_opts *opts);

typedef struct tern_gru_opts {
    int reverse;
    int reset_before; /* 1: the reset gate acts on h before the product, as in Cho et al. 2014; 0:
                         on the product and its bias, as in cuDNN and PyTorch */
} tern_gru_opts;
/* Gates r, z, n: h' = (1 - s(z)) n + s(z) h, where n is
 *   tanh(w_in x + b_in + s(r) (w_hn h + b_hn)), or with reset_before
 *   tanh(w_in x + b_in + w_hn (s(r) h) + b_hn). */
TERN_API tern_tensor *tern_gru(tern_ctx *ctx, tern_tensor **h_n, tern_tensor *x, tern_tensor *h0,
                               tern_tensor *w_ih, tern_tensor *w_hh, tern_tensor *b_ih,
                               tern_tensor *b_hh, tern_tensor *lengths, const tern_gru_opts *opts);

TERN_END_DECLS

#endif
