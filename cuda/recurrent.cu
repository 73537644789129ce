/*
 * recurrent.cu - rnn, lstm and gru by one product for the inputs and a launch a step
 * (recurrent_forward.cuh, which says how).
 *
 * Scratch: the gates of all steps, unless the reserve (rnn: y) is wanted and takes them; the states
 * between steps; pieces of the product's sums. Sums are in the order of k, by the extents only.
 */
#include "recurrent_forward.cuh"

/* Where things begin in scratch, in elements. */
typedef struct {
    int64_t gates, h, c, room, all;
} layout;

/* What holds the gates of all steps, if it is wanted. */
static const ti_view &kept_of(const ti_work *w, const ti_net &n)
{
    return w->out[n.cell == TI_RNN ? 0 : 1 + n.states];
}

static layout layout_of(const ti_work *w, const ti_net &n)
{
    const int64_t state = n.N * n.H;
    layout l;

    l.gates = 0;
    l.h = kept_of(w, n).count >= 0 ? 0 : n.T * n.N * n.wide;
    l.c = l.h + 2 * state;
    l.room = l.c + (n.states == 2 ? state : 0);
    l.all = l.room + ti_product_scratch(ti_inputs_product(n));
    return l;
}

template <class T> static void recurrent_as(const ti_work *w)
{
    const ti_net n = ti_net_of(w);
    const layout l = layout_of(w, n);
    const ti_view *out = w->out, &kept = kept_of(w, n);
    const int s = n.states;
    T *scratch = (T *)w->scratch;
    ti_states<T> o;

    ti_given_states(w, n, &o);
    o.y = out[0].count >= 0 ? ti_at<T>(out[0]) : NULL;
    o.h_n = out[1].count >= 0 ? ti_at<T>(out[1]) : NULL;
    o.c_n = s == 2 && out[2].count >= 0 ? ti_at<T>(out[2]) : NULL;
    o.gates = kept.count >= 0 ? ti_at<T>(kept) : scratch + l.gates;
    o.h[0] = scratch + l.h;
    o.h[1] = o.h[0] + n.N * n.H;
    o.c = scratch + l.c;
    o.room = scratch + l.room;
    ti_forward(w, n, o);
    if (n.T == 0 && o.h_n) ti_keep_still(w, n, o.h_n, o.h0);
    if (n.T == 0 && o.c_n) ti_keep_still(w, n, o.c_n, o.c0);
}
TI_FLOAT_ROW(recurrent, w->in[0])

static size_t scratch(const ti_work *w)
{
    return (size_t)layout_of(w, ti_net_of(w)).all * tern_type_size(w->in[0].m.type);
}

static double cost(const ti_work *w)
{
    return 3000 * (double)(w->in[0].m.shape.dim[0] + 1) + ti_moved_cost(w);
}
static double chain(const ti_work *w) { return ti_forward_chain(ti_net_of(w)); }

#define M TI_ROW_MAJOR
#define ROW(name)                                                                                  \
    {                                                                                              \
        .op = name, .impl = "steps", .reject = ti_only_floats, .cost = cost,                       \
        .want = {M, M, M, M, M, M, M, M}, .scratch = scratch, .run = recurrent, .chain = chain,    \
        .numbers = TI_REORDERED                                                                    \
    }

TI_KERNELS(ti_cuda_recurrent) = {ROW("rnn"), ROW("lstm"), ROW("gru"), {.op = NULL}};
