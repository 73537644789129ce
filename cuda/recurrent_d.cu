/*
 * recurrent_d.cu - derivatives of rnn, lstm and gru.
 *
 * Where y or the reserve is missing the way forward is taken again (recurrent_forward.cuh). Then a
 * launch for each step back, two for gru with the reset before the product: what comes from the
 * step behind,
 *   d[n, j] = keep[n, j] + sum over r of dg[n, r] w_hh[r, j],
 * is the product of step.cuh with the units as columns; the thread of (n, j) makes dg of its own
 * step from it. keep: what reaches the state past the product, d where the sequence is over.
 *
 * dg of a step [N, width]: derivatives of the gates; rnn's one, lstm i f g o, gru r z n (before) or
 * r z q n (after), q being w_hn h + b_hn. Behind the steps, over all of them at once: dx = dg w_ih,
 * dw_ih = dg' x, dw_hh = dg' h, db = column sums of dg (columns.cuh). x counts as zero where the
 * sequence is over; h is that before the step. Sums in a fixed order, by the extents only.
 */
#include "columns.cuh"
#include "recurrent_forward.cuh"

/* ---- A step ---- */

typedef enum { STEP, RESET, FIRST } part; /* FIRST: behind the last step back, d of h0 */

template <class T> struct back_step {
    ti_small<T> product; /* of dg at `behind`, or of n's part of dg at t */
    const T *gy, *gates; /* at t */
    const T *y, *all_gates, *h0, *c0;
    const T *keep, *dc;
    T *dg, *keep_to, *dc_to;
    int64_t t, behind, width; /* behind: -1 where there is none */
    part what;
};

/* State before the step of sequence i: a column of what each step left, or what was given. */
template <class T>
static inline __device__ T before(const ti_net &n, int64_t t, int64_t steps, int64_t i, int64_t j,
                                  const T *left, int64_t wide, const T *given)
{
    const int64_t was = n.reverse ? t + 1 : t - 1;

    if (was >= 0 && was < steps) return left[(was * n.N + i) * wide + j];
    return given ? given[i * n.H + j] : T(0);
}

typedef struct {
    int64_t i, j, at, gate, steps;
} place;

template <class T>
static inline __device__ void lstm_back(const ti_net &n, const back_step<T> &s, const place &p,
                                        T dh)
{
    const T *a = s.gates + p.gate;
    const T i = a[0], f = a[n.H], g = a[2 * n.H], o = a[3 * n.H], t = ti_tanh(a[4 * n.H]);
    const T c = before(n, s.t, p.steps, p.i, p.j, s.all_gates + 4 * n.H, n.wide, s.c0);
    const T e = (s.dc ? s.dc[p.at] : T(0)) + dh * o * (T(1) - t * t);
    T *to = s.dg + p.i * s.width + p.j;

    to[0] = e * g * (i * (T(1) - i));
    to[n.H] = e * c * (f * (T(1) - f));
    to[2 * n.H] = e * i * (T(1) - g * g);
    to[3 * n.H] = dh * t * (o * (T(1) - o));
    s.dc_to[p.at] = e * f;
    s.keep_to[p.at] = T(0);
}

template <class T>
static inline __device__ void gru_back(const ti_net &n, const back_step<T> &s, const place &p, T dh)
{
    const T *a = s.gates + p.gate;
    const T r = a[0], z = a[n.H], y = a[2 * n.H];
    const T h = before(n, s.t, p.steps, p.i, p.j, s.y, n.H, s.h0);
    const T e = dh * (T(1) - z) * (T(1) - y * y);
    T *to = s.dg + p.i * s.width + p.j;

    to[n.H] = dh * (h - y) * (z * (T(1) - z));
    s.keep_to[p.at] = dh * z;
    if (n.cell == TI_GRU_BEFORE) {
        to[2 * n.H] = e;
        return;
    }
    to[0] = e * a[3 * n.H] * (r * (T(1) - r));
    to[2 * n.H] = e * r;
    to[3 * n.H] = e;
}

/* d_rh: derivative of r h. */
template <class T>
static inline __device__ void reset_back(const ti_net &n, const back_step<T> &s, const place &p,
                                         T d_rh)
{
    const T r = s.gates[p.gate];
    const T h = before(n, s.t, p.steps, p.i, p.j, s.y, n.H, s.h0);

    s.dg[p.i * s.width + p.j] = d_rh * h * (r * (T(1) - r));
    s.keep_to[p.at] = s.keep[p.at] + d_rh * r;
}

template <class T>
static inline __device__ void step_back(const ti_net &n, const back_step<T> &s, const place &p, T v)
{
    const bool runs = s.t < p.steps;

    if (s.what == RESET) {
        if (runs) reset_back(n, s, p, v);
        return;
    }
    /* an infinite weight times nothing would be NaN */
    const T d = (s.keep ? s.keep[p.at] : T(0)) + (s.behind < p.steps ? v : T(0));
    if (s.what == FIRST) {
        s.keep_to[p.at] = d;
        return;
    }
    if (!runs) {
        for (int64_t q = 0; q < s.width; q += n.H) s.dg[p.i * s.width + q + p.j] = T(0);
        s.keep_to[p.at] = d;
        if (n.states == 2) s.dc_to[p.at] = s.dc ? s.dc[p.at] : T(0);
        return;
    }
    const T dh = s.gy ? d + s.gy[p.at] : d;
    switch (n.cell) {
    case TI_LSTM: lstm_back(n, s, p, dh); break;
    case TI_RNN:
        s.dg[p.at] = ti_act_back(n.act, s.gates[p.at], dh);
        s.keep_to[p.at] = T(0);
        break;
    default: gru_back(n, s, p, dh);
    }
}

template <class T> static __global__ void step_back_kernel(const ti_net n, const back_step<T> s)
{
    TI_SHARED(T, room, [ti_cut<1>::room]);
    const int64_t n_j = (n.H + TI_SQUARE - 1) / TI_SQUARE, n_work = ti_squares(n.N, n.H);

    for (int64_t work = blockIdx.x; work < n_work; work += gridDim.x) {
        const int64_t n0 = work / n_j * TI_SQUARE, j0 = work % n_j * TI_SQUARE;
        const int64_t i = n0 + threadIdx.x / TI_SQUARE, j = j0 + threadIdx.x % TI_SQUARE;
        T v;

        ti_small_product<T, 1>(s.product, n0, n.N, j0, n.H, room, &v);
        if (i >= n.N || j >= n.H) continue;
        const place p = {i, j, i * n.H + j, i * n.wide + j, ti_steps(n, i)};
        step_back(n, s, p, v);
    }
}

/* ---- Operands of dw: at k = t N + n x's row, or h's before the step; zeros past the end ---- */

template <class T> struct rows {
    const T *x, *given; /* given [N, width]: where there is no step before; NULL: zeros */
    int64_t N, width;
    int shift; /* to the step whose row counts: 0, or -1 or 1 for the one before */
    bool narrow;
    ti_net net;
};
template <class T> static inline __device__ ti_spot ti_outer(const rows<T> &, int64_t i)
{
    return ti_spot{i, 0, 0};
}
/* r: 0 zeros, 1 x, 2 given */
template <class T> static inline __device__ ti_spot ti_inner(const rows<T> &m, int64_t k)
{
    const int64_t t = m.narrow ? (uint32_t)k / (uint32_t)m.N : k / m.N, n = k - t * m.N;
    const int64_t steps = ti_steps(m.net, n), was = t + m.shift;

    if (t >= steps) return ti_spot{0, 0, 0};
    if (was >= 0 && was < steps) return ti_spot{(was * m.N + n) * m.width, 1, 0};
    return ti_spot{n * m.width, m.given ? 2 : 0, 0};
}
template <class T>
static inline __device__ T ti_fetch(const rows<T> &m, const ti_spot &o, const ti_spot &k)
{
    return k.r == 1 ? m.x[o.at + k.at] : k.r == 2 ? m.given[o.at + k.at] : T(0);
}
template <class T> static inline bool ti_along_k(const rows<T> &) { return false; }

template <class T>
static rows<T> rows_of(const ti_net &n, const T *x, const T *given, int64_t width, int shift)
{
    return rows<T>{x, given, n.N, width, shift, n.T * n.N <= INT_MAX, n};
}

/* ---- Host: what a call needs ---- */

typedef struct {
    ti_net n;
    int64_t width, steps; /* of dg; T N */
    bool again;           /* forward first */
    ti_product dx, dw_ih, dw_hh;
    ti_columns db;
    int64_t dg, keep, dc, sums, y, gates, h, c, room, all; /* in scratch, in elements */
} backward;

/* dw of so many gates, their rows of dg standing side by side. */
static ti_product weights(const backward &b, int64_t gates, int64_t columns)
{
    return ti_product_of(1, gates * b.n.H, columns, b.steps);
}

static bool given(const ti_view &v) { return v.count >= 0; }

static backward backward_of(const ti_work *w)
{
    backward b;
    int64_t at = 0;

    memset(&b, 0, sizeof b);
    b.n = ti_net_of(w);
    const ti_net &n = b.n;
    const int s = n.states;
    const int64_t state = n.N * n.H;
    b.width = n.H * (n.cell == TI_GRU ? 4 : n.gates);
    b.steps = n.T * n.N;
    b.again = !given(w->in[7 + 2 * s]) || (n.cell != TI_RNN && !given(w->in[8 + 2 * s]));
    b.dx = ti_product_of(1, b.steps, n.D, n.gates * n.H);
    b.dw_ih = weights(b, n.cell == TI_GRU ? 2 : n.gates, n.D);
    b.dw_hh = weights(b, n.cell == TI_GRU_BEFORE ? 2 : n.gates, n.H);
    b.db = ti_columns_of(b.steps, b.width);

    const ti_product all[] = {ti_inputs_product(n), b.dx, b.dw_ih, b.dw_hh, weights(b, 1, n.D),
                              weights(b, 1, n.H)};
    int64_t room = ti_columns_scratch(b.db);
    for (int i = 0; i < 6; i++) {
        const int64_t one = ti_product_scratch(all[i]);
        room = one > room ? one : room;
    }
    b.dg = at, at += b.steps * b.width;
    b.keep = at, at += state;
    b.dc = at, at += s == 2 ? state : 0;
    b.sums = at, at += b.width;
    b.y = at, at += b.again && n.cell != TI_RNN ? b.steps * n.H : 0;
    b.gates = at, at += b.again ? b.steps * n.wide : 0;
    b.h = at, at += b.again ? 2 * state : 0;
    b.c = at, at += b.again && s == 2 ? state : 0;
    b.room = at, b.all = at + room;
    return b;
}

/* ---- Host: the steps ---- */

template <class T> struct pass {
    const ti_work *w;
    const backward *b;
    ti_states<T> o; /* y and gates there */
    const T *gy, *gh, *gc;
    T *dg, *keep, *dc, *sums;
};

template <class T> static void launch_back(const pass<T> &q, const back_step<T> &s)
{
    const ti_net &n = q.b->n;

    TI_LAUNCH(step_back_kernel<T>, ti_squares_grid(n.N, n.H), TI_BLOCK, 0, ti_cuda_stream(q.w), n,
              s);
    ti_launched(q.w);
}

/* The i-th step back; i = T: to the given states. */
template <class T> static void back_to(const pass<T> &q, int64_t i)
{
    const ti_net &n = q.b->n;
    const int s = n.states;
    const int64_t H = n.H, t = n.reverse ? i : n.T - 1 - i, width = q.b->width;
    T *const dh0 = ti_at<T>(q.w->out[1]), *const dc0 = s == 2 ? ti_at<T>(q.w->out[2]) : NULL;
    back_step<T> k;

    memset(&k, 0, sizeof k);
    k.t = t;
    k.behind = i == 0 ? -1 : n.reverse ? t - 1 : t + 1;
    k.width = width;
    k.y = q.o.y, k.all_gates = q.o.gates, k.h0 = q.o.h0, k.c0 = q.o.c0;
    k.keep = i == 0 ? q.gh : q.keep;
    k.dc = i == 0 ? q.gc : q.dc;
    k.keep_to = q.keep;
    k.dc_to = q.dc;
    k.product = ti_small<T>{i == 0 ? NULL : q.dg + k.behind * n.N * width,
                            q.o.w_hh,
                            (n.cell == TI_GRU_BEFORE ? 2 : n.gates) * H,
                            width,
                            H,
                            1,
                            0};
    if (i == n.T) {
        k.what = FIRST;
        k.keep_to = dh0;
        launch_back(q, k);
        return;
    }
    if (i == n.T - 1 && dc0 && q.o.c0) k.dc_to = dc0;
    k.gy = q.gy ? q.gy + t * n.N * H : NULL;
    k.gates = q.o.gates + t * n.N * n.wide;
    k.dg = q.dg + t * n.N * width;
    launch_back(q, k);
    if (n.cell != TI_GRU_BEFORE) return;
    k.what = RESET;
    k.keep = q.keep;
    k.product = ti_small<T>{k.dg + 2 * H, q.o.w_hh + 2 * H * H, H, width, H, 1, 0};
    launch_back(q, k);
}

/* ---- Host: behind the steps ---- */

/* dw of `gates` gates: their derivatives, from column `from` of dg, times b's rows. */
template <class T, class B>
static void weigh(const pass<T> &q, T *dw, int64_t from, int64_t gates, const B &b, int64_t columns)
{
    ti_gemm(q.w, ti_matrix_of((const T *)q.dg + from, 1, q.b->width), b,
            weights(*q.b, gates, columns), ti_result_of(dw, columns, 1, columns), q.o.room);
}

template <class T> static void inputs_back(const pass<T> &q)
{
    const ti_net &n = q.b->n;
    const int64_t H = n.H, D = n.D;
    T *const dx = ti_at<T>(q.w->out[0]), *const dw = ti_at<T>(q.w->out[1 + n.states]);
    const rows<T> x = rows_of<T>(n, q.o.x, NULL, D, 0);
    ti_matrix<T> dg = ti_matrix_of((const T *)q.dg, q.b->width, 1);

    if (n.cell == TI_GRU) dg.n_low = 2 * H, dg.high_step = 3 * H; /* past q */
    if (given(q.w->out[0]))
        ti_gemm(q.w, dg, ti_matrix_of(q.o.w_ih, 1, D), q.b->dx, ti_result_of(dx, D, 1, D),
                q.o.room);
    if (!given(q.w->out[1 + n.states])) return;
    weigh(q, dw, 0, n.cell == TI_GRU ? 2 : n.gates, x, D);
    if (n.cell == TI_GRU) weigh(q, dw + 2 * H * D, 3 * H, 1, x, D);
}

template <class T> static void states_back(const pass<T> &q)
{
    const ti_net &n = q.b->n;
    const int64_t H = n.H;
    const bool early = n.cell == TI_GRU_BEFORE;
    T *const dw = ti_at<T>(q.w->out[2 + n.states]);

    if (!given(q.w->out[2 + n.states])) return;
    weigh(q, dw, 0, early ? 2 : n.gates, rows_of<T>(n, q.o.y, q.o.h0, H, n.reverse ? 1 : -1), H);
    if (early)
        weigh(q, dw + 2 * H * H, 2 * H, 1, ti_matrix_of((const T *)q.o.gates + 3 * H, 1, n.wide),
              H);
}

template <class T> static void copy(const pass<T> &q, T *to, const T *from, int64_t n)
{
    ti_cuda_check(q.w->device,
                  cudaMemcpyAsync(to, from, (size_t)n * sizeof(T), cudaMemcpyDeviceToDevice,
                                  ti_cuda_stream(q.w)),
                  q.w->op->name);
}

static void nothing(const ti_work *w, const ti_view &v)
{
    if (v.count > 0)
        ti_cuda_check(w->device,
                      cudaMemsetAsync(v.data, 0, (size_t)v.count * tern_type_size(v.m.type),
                                      ti_cuda_stream(w)),
                      w->op->name);
}

/* The sums once, then each bias's part. Zeros for a bias that is absent. */
template <class T> static void biases_back(const pass<T> &q)
{
    const ti_net &n = q.b->n;
    const int s = n.states;
    const int64_t H = n.H, rz = (n.cell == TI_GRU ? 2 : n.gates) * H;
    const ti_view *db = q.w->out + 3 + s;
    const bool ih = given(db[0]) && q.o.b_ih, hh = given(db[1]) && q.o.b_hh;

    if (!ih) nothing(q.w, db[0]);
    if (!hh) nothing(q.w, db[1]);
    if (!ih && !hh) return;
    ti_column_sums(q.w, q.sums, (const T *)q.dg, q.b->db, q.o.room);
    if (ih) copy(q, ti_at<T>(db[0]), q.sums, rz);
    if (ih && n.cell == TI_GRU) copy(q, ti_at<T>(db[0]) + rz, q.sums + 3 * H, H);
    if (hh) copy(q, ti_at<T>(db[1]), q.sums, n.gates * H);
}

template <class T> static pass<T> pass_of(const ti_work *w, const backward &b)
{
    const ti_view *in = w->in;
    const int s = b.n.states;
    T *at = (T *)w->scratch;
    pass<T> q;

    memset(&q, 0, sizeof q);
    q.w = w, q.b = &b;
    ti_given_states(w, b.n, &q.o);
    q.gy = given(in[6 + s]) ? ti_at<const T>(in[6 + s]) : NULL;
    q.gh = given(in[7 + s]) ? ti_at<const T>(in[7 + s]) : NULL;
    q.gc = s == 2 && given(in[8 + s]) ? ti_at<const T>(in[8 + s]) : NULL;
    q.dg = at + b.dg, q.keep = at + b.keep, q.dc = at + b.dc, q.sums = at + b.sums;
    q.o.room = at + b.room;
    if (b.again) {
        q.o.gates = at + b.gates;
        q.o.y = b.n.cell == TI_RNN ? q.o.gates : at + b.y;
        q.o.h[0] = at + b.h;
        q.o.h[1] = q.o.h[0] + b.n.N * b.n.H;
        q.o.c = at + b.c;
    } else {
        q.o.y = ti_at<T>(in[7 + 2 * s]);
        q.o.gates = b.n.cell == TI_RNN ? q.o.y : ti_at<T>(in[8 + 2 * s]);
    }
    return q;
}

template <class T> static void recurrent_d_as(const ti_work *w)
{
    const backward b = backward_of(w);
    const ti_net &n = b.n;
    const pass<T> q = pass_of<T>(w, b);
    const bool to_h0 = given(w->out[1]) && q.o.h0;
    const bool to_c0 = n.states == 2 && given(w->out[2]) && q.o.c0;

    if (b.again) ti_forward(w, n, q.o);
    for (int64_t i = 0; i < n.T + (to_h0 ? 1 : 0) && n.N > 0; i++) back_to(q, i);
    inputs_back(q);
    states_back(q);
    biases_back(q);
    if (!to_h0) nothing(w, w->out[1]);
    if (!to_c0 && n.states == 2) nothing(w, w->out[2]);
    else if (to_c0 && n.T == 0) ti_keep_still(w, n, ti_at<T>(w->out[2]), q.gc);
}
TI_FLOAT_ROW(recurrent_d, w->in[0])

static size_t scratch(const ti_work *w)
{
    return (size_t)backward_of(w).all * tern_type_size(w->in[0].m.type);
}

static double cost(const ti_work *w)
{
    return 3000 * (double)(2 * w->in[0].m.shape.dim[0] + 6) + ti_moved_cost(w);
}
static double chain(const ti_work *w)
{
    const backward b = backward_of(w);
    const double all[] = {ti_forward_chain(b.n),
                          ti_product_chain(b.dx),
                          ti_product_chain(b.dw_ih),
                          ti_product_chain(b.dw_hh),
                          ti_product_chain(weights(b, 1, b.n.D)),
                          ti_product_chain(weights(b, 1, b.n.H)),
                          ti_columns_chain(b.db),
                          ti_small_chain<1>(b.n.gates * b.n.H) + 2};
    double most = 0;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) most = all[i] > most ? all[i] : most;
    return most;
}

#define M TI_ROW_MAJOR
#define ROW(name)                                                                                  \
    {                                                                                              \
        .op = name, .impl = "steps", .reject = ti_only_floats, .cost = cost,                       \
        .want = {M, M, M, M, M, M, M, M, M, M, M, M, M}, .scratch = scratch, .run = recurrent_d,   \
        .chain = chain, .numbers = TI_REORDERED                                                    \
    }

TI_KERNELS(ti_cuda_recurrent_d) = {ROW("rnn_d"), ROW("lstm_d"), ROW("gru_d"), {.op = NULL}};
