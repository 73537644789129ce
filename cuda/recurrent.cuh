/*
 * recurrent.cuh - what rnn, lstm, gru and their derivatives share: extents and operands.
 *
 *   rnn    h' = act(a)                                       a = w_ih x + b_ih + w_hh h + b_hh
 *   lstm   c' = s(a_f) c + s(a_i) tanh(a_g), h' = s(a_o) tanh(c')
 *   gru    r = s(a_r), z = s(a_z), h' = (1 - z) n + z h
 *          n = tanh(w_in x + b_in + r (w_hn h + b_hn)), or tanh(w_in x + b_in + w_hn (r h) + b_hn)
 *
 * Gates of a step [N, wide]: lstm i f g o c', gru r z n and w_hn h + b_hn (after) or r h (before),
 * rnn h'; zeros where a sequence is over, and so is y.
 */
#ifndef TI_CUDA_RECURRENT_CUH
#define TI_CUDA_RECURRENT_CUH

#include "gemm.cuh"
#include "step.cuh"

typedef enum { TI_RNN, TI_LSTM, TI_GRU, TI_GRU_BEFORE } ti_cell;

typedef struct {
    ti_cell cell;
    int act, states, gates;
    bool reverse;
    int64_t T, N, D, H, wide;
    ti_indices lengths; /* data NULL: all sequences have T steps */
} ti_net;

static inline ti_net ti_net_of(const ti_work *w)
{
    const int s = w->op->name[0] == 'l' ? 2 : 1;
    const int64_t *x = w->in[0].m.shape.dim;
    ti_net n;

    memset(&n, 0, sizeof n);
    n.cell = TI_RNN;
    if (s == 2) n.cell = TI_LSTM;
    else if (w->op->name[0] == 'g')
        n.cell = ti_opts<tern_gru_opts>(w).reset_before ? TI_GRU_BEFORE : TI_GRU;
    else n.act = ti_opts<tern_rnn_opts>(w).act;
    n.states = s;
    n.gates = n.cell == TI_LSTM ? 4 : n.cell == TI_RNN ? 1 : 3;
    n.reverse = *(const int *)w->opts != 0; /* all three begin with it */
    n.T = x[0], n.N = x[1], n.D = x[2];
    n.H = w->in[2 + s].m.shape.dim[1];
    n.wide = n.H * (n.cell == TI_LSTM ? 5 : n.cell == TI_RNN ? 1 : 4);
    n.lengths = ti_indices_of(w, w->in[5 + s]);
    if (w->in[5 + s].count < 0) n.lengths.data = NULL;
    return n;
}

/* Steps of sequence i; less than 1, and a fault, where they are not 0 ... T. */
static inline __device__ int64_t ti_steps(const ti_net &n, int64_t i)
{
    return n.lengths.data ? ti_checked(n.lengths, i, n.T + 1) : n.T;
}

/* Operands, results, and what lies in scratch. */
template <class T> struct ti_states {
    const T *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh;
    T *y, *h_n, *c_n; /* NULL: not wanted */
    T *gates;         /* [T, N, wide]; rnn's are y */
    T *h[2], *c;      /* [N, H] each, for the states between steps */
    T *room;          /* of the product */
};

/* X's inputs, with which those of X_d begin. */
template <class T> static void ti_given_states(const ti_work *w, const ti_net &n, ti_states<T> *o)
{
    const int s = n.states;
    const T *at[7];

    for (int i = 0; i < 5 + s; i++) at[i] = w->in[i].count >= 0 ? ti_at<const T>(w->in[i]) : NULL;
    memset(o, 0, sizeof *o);
    o->x = at[0], o->h0 = at[1];
    if (s == 2) o->c0 = at[2];
    o->w_ih = at[1 + s], o->w_hh = at[2 + s];
    o->b_ih = at[3 + s], o->b_hh = at[4 + s];
}

#endif
