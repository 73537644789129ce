/*
 * recurrent_forward.cuh - the way forward through rnn, lstm and gru (recurrent.cuh), which the
 * derivatives take again where y or the reserve is missing.
 *
 * w_ih x + b_ih of all steps is one product (gemm.cuh) into the gates' places. Then a launch for
 * each step, two for gru with the reset before the product: a block multiplies 16 sequences by 16
 * units with all their gates (step.cuh), and each thread goes on with one sequence and unit. States
 * go from one buffer to another; where a sequence is over they are copied.
 */
#ifndef TI_CUDA_RECURRENT_FORWARD_CUH
#define TI_CUDA_RECURRENT_FORWARD_CUH

#include "recurrent.cuh"

/* ---- A step ---- */

template <class T> struct ti_one_step {
    ti_small<T> product;
    const T *bias; /* the product's part of b_hh, or NULL */
    T *gates, *y;  /* of this step */
    const T *h, *c;
    T *h_to, *c_to;
    int64_t t;
    bool resets; /* gru's first launch: up to r h */
};

/* Where one thread works. */
typedef struct {
    int64_t at, gate, j; /* in [N, H]; in [N, wide]; the unit */
} ti_spot_in_step;

template <class T>
static inline __device__ void ti_lstm_cell(const ti_net &n, const ti_one_step<T> &s,
                                           const ti_spot_in_step &p, const T *v)
{
    T *a = s.gates + p.gate;
    const T i = ti_sigmoid(a[0] + v[0]), f = ti_sigmoid(a[n.H] + v[1]);
    const T g = ti_tanh(a[2 * n.H] + v[2]), o = ti_sigmoid(a[3 * n.H] + v[3]);
    const T c = f * (s.c ? s.c[p.at] : T(0)) + i * g, h = o * ti_tanh(c);

    a[0] = i;
    a[n.H] = f;
    a[2 * n.H] = g;
    a[3 * n.H] = o;
    a[4 * n.H] = s.c_to[p.at] = c;
    s.h_to[p.at] = h;
    if (s.y) s.y[p.at] = h;
}

/* z, n, h to the state behind them. */
template <class T>
static inline __device__ void ti_gru_state(const ti_one_step<T> &s, const ti_spot_in_step &p, T z,
                                           T n)
{
    const T h = (T(1) - z) * n + z * (s.h ? s.h[p.at] : T(0));

    s.h_to[p.at] = h;
    if (s.y) s.y[p.at] = h;
}

template <class T>
static inline __device__ void ti_gru_cell(const ti_net &n, const ti_one_step<T> &s,
                                          const ti_spot_in_step &p, const T *v)
{
    T *a = s.gates + p.gate;
    const T r = ti_sigmoid(a[0] + v[0]), z = ti_sigmoid(a[n.H] + v[1]);
    const T y = ti_tanh(a[2 * n.H] + r * v[2]);

    a[0] = r;
    a[n.H] = z;
    a[2 * n.H] = y;
    a[3 * n.H] = v[2];
    ti_gru_state(s, p, z, y);
}

template <class T>
static inline __device__ void ti_reset_cell(const ti_net &n, const ti_one_step<T> &s,
                                            const ti_spot_in_step &p, const T *v)
{
    T *a = s.gates + p.gate;
    const T r = ti_sigmoid(a[0] + v[0]);

    a[0] = r;
    a[n.H] = ti_sigmoid(a[n.H] + v[1]);
    a[3 * n.H] = r * (s.h ? s.h[p.at] : T(0));
}

/* rnn, and n of a gru whose r h is there. */
template <class T>
static inline __device__ void ti_last_cell(const ti_net &n, const ti_one_step<T> &s,
                                           const ti_spot_in_step &p, const T *v)
{
    T *a = s.gates + p.gate;

    if (n.cell == TI_RNN) {
        const T h = ti_act_of(n.act, a[0] + v[0]);
        s.h_to[p.at] = a[0] = h;
        return;
    }
    const T y = ti_tanh(a[2 * n.H] + v[0]);
    a[2 * n.H] = y;
    ti_gru_state(s, p, a[n.H], y);
}

/* The sequence is over: states stay. */
template <class T>
static inline __device__ void ti_over(const ti_net &n, const ti_one_step<T> &s,
                                      const ti_spot_in_step &p)
{
    T *a = s.gates + p.gate;

    if (s.resets) {
        a[3 * n.H] = T(0);
        return;
    }
    /* r h is the product's operand, and zero since the reset */
    for (int64_t q = 0; q < (n.cell == TI_GRU_BEFORE ? 3 * n.H : n.wide); q += n.H) a[q] = T(0);
    s.h_to[p.at] = s.h ? s.h[p.at] : T(0);
    if (n.states == 2) s.c_to[p.at] = s.c ? s.c[p.at] : T(0);
    if (s.y) s.y[p.at] = T(0);
}

/* G: gates that the product gives; 2: r and z, before the reset. */
template <class T, int G>
static __global__ void ti_step_kernel(const ti_net n, const ti_one_step<T> s)
{
    TI_SHARED(T, room, [ti_cut<G>::room]);
    const int64_t n_j = (n.H + TI_SQUARE - 1) / TI_SQUARE, n_work = ti_squares(n.N, n.H);

    for (int64_t work = blockIdx.x; work < n_work; work += gridDim.x) {
        const int64_t n0 = work / n_j * TI_SQUARE, j0 = work % n_j * TI_SQUARE;
        const int64_t i = n0 + threadIdx.x / TI_SQUARE, j = j0 + threadIdx.x % TI_SQUARE;
        T v[4];

        ti_small_product<T, G>(s.product, n0, n.N, j0, n.H, room, v);
        if (i >= n.N || j >= n.H) continue;
        const ti_spot_in_step p = {i * n.H + j, i * n.wide + j, j};
        if (s.t >= ti_steps(n, i)) {
            ti_over(n, s, p);
            continue;
        }
        TI_UNROLL
        for (int g = 0; g < G; g++)
            if (s.bias) v[g] += s.bias[g * n.H + j];
        if (G == 4) ti_lstm_cell(n, s, p, v);
        else if (G == 3) ti_gru_cell(n, s, p, v);
        else if (G == 2) ti_reset_cell(n, s, p, v);
        else ti_last_cell(n, s, p, v);
    }
}

/* Without steps the states stay as they are. */
template <class T> static __global__ void ti_still_kernel(const ti_net n, T *to, const T *from)
{
    for (int64_t i = ti_first(); i < n.N * n.H; i += ti_step()) {
        (void)ti_steps(n, i / n.H);
        to[i] = from ? from[i] : T(0);
    }
}

/* ---- Host ---- */

static inline ti_product ti_inputs_product(const ti_net &n)
{
    return ti_product_of(1, n.T * n.N, n.gates * n.H, n.D);
}

static inline double ti_forward_chain(const ti_net &n)
{
    const double x = ti_product_chain(ti_inputs_product(n)) + 1;
    double h = 0;

    switch (n.cell) {
    case TI_LSTM: h = ti_small_chain<4>(n.H); break;
    case TI_GRU: h = ti_small_chain<3>(n.H); break;
    default: h = ti_small_chain<1>(n.H);
    }
    return (x > h ? x : h) + 1;
}

template <class T>
static void ti_keep_still(const ti_work *w, const ti_net &n, T *to, const T *from)
{
    TI_LAUNCH(ti_still_kernel<T>, ti_grid(n.N * n.H), TI_BLOCK, 0, ti_cuda_stream(w), n, to, from);
    ti_launched(w);
}

template <class T>
static void ti_launch_step(const ti_work *w, const ti_net &n, const ti_one_step<T> &s, int G)
{
    const unsigned grid = ti_squares_grid(n.N, n.H);
    const cudaStream_t stream = ti_cuda_stream(w);

    switch (G) {
    case 4: TI_LAUNCH((ti_step_kernel<T, 4>), grid, TI_BLOCK, 0, stream, n, s); break;
    case 3: TI_LAUNCH((ti_step_kernel<T, 3>), grid, TI_BLOCK, 0, stream, n, s); break;
    case 2: TI_LAUNCH((ti_step_kernel<T, 2>), grid, TI_BLOCK, 0, stream, n, s); break;
    default: TI_LAUNCH((ti_step_kernel<T, 1>), grid, TI_BLOCK, 0, stream, n, s);
    }
    ti_launched(w);
}

/* Step t, the i-th to be taken. */
template <class T>
static void ti_take_step(const ti_work *w, const ti_net &n, const ti_states<T> &o, int64_t i)
{
    const int64_t t = n.reverse ? n.T - 1 - i : i, H = n.H;
    const bool last = i == n.T - 1;
    ti_one_step<T> s;

    memset(&s, 0, sizeof s);
    s.t = t;
    s.gates = o.gates + t * n.N * n.wide;
    s.y = o.y && n.cell != TI_RNN ? o.y + t * n.N * H : NULL;
    s.h = i == 0 ? o.h0 : o.h[i % 2];
    s.h_to = last && o.h_n ? o.h_n : o.h[(i + 1) % 2];
    s.c = i == 0 ? o.c0 : o.c;
    s.c_to = last && o.c_n ? o.c_n : o.c;
    s.bias = o.b_hh;
    s.product = ti_small<T>{s.h, o.w_hh, H, H, 1, H, H * H};
    if (n.cell != TI_GRU_BEFORE) {
        ti_launch_step(w, n, s, n.gates);
        return;
    }
    s.resets = true;
    ti_launch_step(w, n, s, 2);
    s.resets = false;
    s.bias = o.b_hh ? o.b_hh + 2 * H : NULL;
    s.product.a = s.gates + 3 * H;
    s.product.a_step = n.wide;
    s.product.w = o.w_hh + 2 * H * H;
    ti_launch_step(w, n, s, 1);
}

template <class T> static void ti_forward(const ti_work *w, const ti_net &n, const ti_states<T> &o)
{
    ti_result<T> to = ti_result_of(o.gates, n.wide, 1, n.gates * n.H);

    to.bias = o.b_ih;
    ti_gemm(w, ti_matrix_of(o.x, n.D, 1), ti_matrix_of(o.w_ih, n.D, 1), ti_inputs_product(n), to,
            o.room);
    for (int64_t i = 0; i < n.T && n.N > 0; i++) ti_take_step(w, n, o, i);
}

#endif
