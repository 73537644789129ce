/*
 * tern/nn_rnn.h - recurrent layers as modules. The rules of tern/nn.h hold, which includes this
 * file; the operations are those of tern/ops_rnn.h.
 *
 * Parameters have PyTorch's names: weight_ih_l0 [GH,D], weight_hh_l0 [GH,H], bias_ih_l0 and
 * bias_hh_l0 [GH], with _reverse behind them for the way back, l1 and so on for further layers. All
 * are uniform within 1/sqrt(H) unless the options say more.
 */
#ifndef TERN_NN_RNN_H
#define TERN_NN_RNN_H

#include "tern/nn.h"

TERN_BEGIN_DECLS

typedef struct tern_nn_rnn_opts {
    int layers;        /* 0 means 1; each reads what the one below gives  */
    int bidirectional; /* 1: both ways, their results side by side: 2H    */
    int batch_first;   /* 1: x [N,T,D] and y [N,T,H], not [T,N,D], [T,N,H] */
    int last;          /* 1: gives the last layer's final state, [N,H], not all steps */
    double dropout;    /* between layers in training, 0 <= p < 1          */
    int no_bias;
    int act;             /* rnn: TERN_TANH (default) or TERN_RELU             */
    int reset_before;    /* gru: see tern_gru_opts                            */
    int has_forget_bias; /* lstm: the forget gates start with this bias (Gers et al. 2000) */
    double forget_bias;
    tern_init weight_ih, weight_hh; /* TERN_INIT_DEFAULT: as above */
} tern_nn_rnn_opts;
TERN_API tern_module *tern_nn_rnn(tern_ctx *ctx, int64_t d, int64_t h,
                                  const tern_nn_rnn_opts *opts);
TERN_API tern_module *tern_nn_lstm(tern_ctx *ctx, int64_t d, int64_t h,
                                   const tern_nn_rnn_opts *opts);
TERN_API tern_module *tern_nn_gru(tern_ctx *ctx, int64_t d, int64_t h,
                                  const tern_nn_rnn_opts *opts);
/*
 * One call of such a module (alone, or part of a tree) with states and lengths: h0 and c0 [S,N,H],
 * where S counts layers, and ways within them (NULL: zeros; c0 for lstm only); lengths as in
 * tern/ops_rnn.h, or NULL. *h_n, *c_n (may be NULL): the final states [S,N,H].
 */
TERN_API tern_tensor *tern_forward_recurrent(tern_ctx *ctx, tern_module *m, tern_tensor **h_n,
                                             tern_tensor **c_n, tern_tensor *x, tern_tensor *h0,
                                             tern_tensor *c0, tern_tensor *lengths);
/* Images as sequences of their rows: [N,C,H,W] -> [N,H,C·W], for batch_first layers. */
TERN_API tern_module *tern_nn_rows(tern_ctx *ctx);

TERN_END_DECLS

#endif
