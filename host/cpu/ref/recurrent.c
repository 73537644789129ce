/*
 * recurrent.c - reference for rnn, lstm and gru: one sequence after the other, step by step.
 *
 *   rnn    h' = act(a)                                       a = w_ih x + b_ih + w_hh h + b_hh
 *   lstm   c' = s(a_f) c + s(a_i) tanh(a_g), h' = s(a_o) tanh(c')
 *   gru    r = s(a_r), z = s(a_z), h' = (1 - z) n + z h
 *          n = tanh(w_in x + b_in + r (w_hn h + b_hn)), or tanh(w_in x + b_in + w_hn (r h) + b_hn)
 *
 * The derivatives run a sequence forward, keeping gates and states, then back.
 */
#include "cpu/ref/ref.h"

typedef enum { RNN, LSTM, GRU } kind;

typedef struct {
    kind what;
    int act;
    bool reverse, before;
    int64_t T, N, D, H, gates; /* H wide each */
    const double *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh, *lengths;
    /* of one sequence: [T][4][H], states before each step and after the last [T+1][H] */
    double *gate, *h, *c, *d; /* d: [6][H], for the way back */
    double *dw_ih, *dw_hh, *db_ih, *db_hh;
} net;

static net net_of(const ti_work *w, kind what, ti_vec in)
{
    const ti_view *x = &w->in[0], *w_hh = &w->in[what == LSTM ? 4 : 3];
    net o = {.what = what,
             .T = x->m.shape.dim[0],
             .N = x->m.shape.dim[1],
             .D = x->m.shape.dim[2],
             .H = w_hh->m.shape.dim[1],
             .gates = what == LSTM  ? 4
                      : what == GRU ? 3
                                    : 1};

    if (what == RNN) o.act = ((const tern_rnn_opts *)w->opts)->act;
    if (what == RNN) o.reverse = ((const tern_rnn_opts *)w->opts)->reverse != 0;
    if (what == LSTM) o.reverse = ((const tern_lstm_opts *)w->opts)->reverse != 0;
    if (what == GRU) o.reverse = ((const tern_gru_opts *)w->opts)->reverse != 0;
    if (what == GRU) o.before = ((const tern_gru_opts *)w->opts)->reset_before != 0;
    if (!in) return o;
    o.x = *in++;
    o.h0 = *in++;
    if (what == LSTM) o.c0 = *in++;
    o.w_ih = *in++;
    o.w_hh = *in++;
    o.b_ih = *in++;
    o.b_hh = *in++;
    o.lengths = *in;
    o.gate = w->scratch;
    o.h = o.gate + o.T * 4 * o.H;
    o.c = o.h + (o.T + 1) * o.H;
    o.d = o.c + (o.T + 1) * o.H;
    return o;
}

static size_t scratch(const ti_work *w, kind what)
{
    const net o = net_of(w, what, NULL);

    return (size_t)((6 * o.T + 8) * o.H) * sizeof(double);
}
static size_t rnn_scratch(const ti_work *w) { return scratch(w, RNN); }
static size_t lstm_scratch(const ti_work *w) { return scratch(w, LSTM); }
static size_t gru_scratch(const ti_work *w) { return scratch(w, GRU); }

/* Steps of sequence n; -1 and a fault if that is not 0 … T. */
static int64_t steps_of(const ti_work *w, const net *o, int64_t n)
{
    if (!o->lengths) return o->T;
    if (o->lengths[n] >= 0 && o->lengths[n] <= (double)o->T) return (int64_t)o->lengths[n];
    ti_raise(w, n, (int64_t)o->lengths[n], o->T + 1);
    return -1;
}

/* Where the i-th of n steps stands. */
static int64_t time_of(const net *o, int64_t i, int64_t n) { return o->reverse ? n - 1 - i : i; }

static double product(const double *w, const double *bias, int64_t row, int64_t n, const double *x)
{
    double sum = bias ? bias[row] : 0;

    for (int64_t i = 0; i < n; i++) sum += w[row * n + i] * x[i];
    return sum;
}
static double from_x(const net *o, int64_t row, const double *x)
{
    return product(o->w_ih, o->b_ih, row, o->D, x);
}
static double from_h(const net *o, int64_t row, const double *h)
{
    return product(o->w_hh, o->b_hh, row, o->H, h);
}

static void gru_step(const net *o, const double *x, const double *h, double *gate, double *h_new)
{
    const int64_t H = o->H;
    double *r = gate, *z = gate + H, *n = gate + 2 * H, *inner = gate + 3 * H;

    for (int64_t j = 0; j < H; j++) {
        r[j] = ti_act_of(TERN_SIGMOID, from_x(o, j, x) + from_h(o, j, h));
        z[j] = ti_act_of(TERN_SIGMOID, from_x(o, H + j, x) + from_h(o, H + j, h));
        inner[j] = o->before ? r[j] * h[j] : from_h(o, 2 * H + j, h);
    }
    for (int64_t j = 0; j < H; j++) {
        const double a = o->before ? from_h(o, 2 * H + j, inner) : r[j] * inner[j];
        n[j] = tanh(from_x(o, 2 * H + j, x) + a);
        h_new[j] = (1 - z[j]) * n[j] + z[j] * h[j];
    }
}

/* From h, c to the states behind them. */
static void step(const net *o, const double *x, double *gate, const double *h, const double *c,
                 double *h_new, double *c_new)
{
    const int64_t H = o->H;
    double *i = gate, *f = gate + H, *g = gate + 2 * H, *out = gate + 3 * H;

    if (o->what == GRU) {
        gru_step(o, x, h, gate, h_new);
        return;
    }
    for (int64_t j = 0; j < H; j++) {
        if (o->what == RNN) {
            h_new[j] = ti_act_of(o->act, from_x(o, j, x) + from_h(o, j, h));
            continue;
        }
        i[j] = ti_act_of(TERN_SIGMOID, from_x(o, j, x) + from_h(o, j, h));
        f[j] = ti_act_of(TERN_SIGMOID, from_x(o, H + j, x) + from_h(o, H + j, h));
        g[j] = tanh(from_x(o, 2 * H + j, x) + from_h(o, 2 * H + j, h));
        out[j] = ti_act_of(TERN_SIGMOID, from_x(o, 3 * H + j, x) + from_h(o, 3 * H + j, h));
        c_new[j] = f[j] * c[j] + i[j] * g[j];
        h_new[j] = out[j] * tanh(c_new[j]);
    }
}

static void run_sequence(const net *o, int64_t n, int64_t steps)
{
    const int64_t H = o->H;

    for (int64_t j = 0; j < H; j++) {
        o->h[j] = o->h0 ? o->h0[n * H + j] : 0;
        o->c[j] = o->c0 ? o->c0[n * H + j] : 0;
    }
    for (int64_t i = 0; i < steps; i++) {
        const double *x = o->x + (time_of(o, i, steps) * o->N + n) * o->D;
        step(o, x, o->gate + i * 4 * H, o->h + i * H, o->c + i * H, o->h + (i + 1) * H,
             o->c + (i + 1) * H);
    }
}

/* y, h_n, [c_n], [reserve: gates, and lstm's c] */
static void forward(const ti_work *w, kind what, ti_vec in, ti_vec out)
{
    const net o = net_of(w, what, in);
    const int64_t H = o.H;
    double *const y = out[0], *const h_n = out[1], *const c_n = what == LSTM ? out[2] : NULL;
    double *const reserve = what == RNN ? NULL : out[what == LSTM ? 3 : 2];
    const int64_t wide = what == LSTM ? 5 * H : 4 * H;

    for (int64_t i = 0; y && i < o.T * o.N * H; i++) y[i] = 0;
    for (int64_t i = 0; reserve && i < o.T * o.N * wide; i++) reserve[i] = 0;
    for (int64_t n = 0; n < o.N; n++) {
        const int64_t steps = steps_of(w, &o, n);

        run_sequence(&o, n, steps);
        for (int64_t i = 0; i < steps; i++) {
            const int64_t at = time_of(&o, i, steps) * o.N + n;
            for (int64_t j = 0; y && j < H; j++) y[at * H + j] = o.h[(i + 1) * H + j];
            for (int64_t j = 0; reserve && j < wide; j++)
                reserve[at * wide + j] =
                    j < 4 * H ? o.gate[i * 4 * H + j] : o.c[(i + 1) * H + j - 4 * H];
        }
        const int64_t last = steps > 0 ? steps * H : 0;
        for (int64_t j = 0; h_n && j < H; j++) h_n[n * H + j] = o.h[last + j];
        for (int64_t j = 0; c_n && j < H; j++) c_n[n * H + j] = o.c[last + j];
    }
}

static void rnn(const ti_work *w, ti_vec in, ti_vec out) { forward(w, RNN, in, out); }
static void lstm(const ti_work *w, ti_vec in, ti_vec out) { forward(w, LSTM, in, out); }
static void gru(const ti_work *w, ti_vec in, ti_vec out) { forward(w, GRU, in, out); }

/* ---- The way back ---- */

/* a = w_ih[row] x + b_ih[row], whose derivative is g. */
static void into_x(const net *o, int64_t row, double g, const double *x, double *dx)
{
    for (int64_t i = 0; i < o->D; i++) {
        if (dx) dx[i] += g * o->w_ih[row * o->D + i];
        if (o->dw_ih) o->dw_ih[row * o->D + i] += g * x[i];
    }
    if (o->db_ih) o->db_ih[row] += g;
}
/* a = w_hh[row] h + b_hh[row] */
static void into_h(const net *o, int64_t row, double g, const double *h, double *dh)
{
    for (int64_t i = 0; i < o->H; i++) {
        dh[i] += g * o->w_hh[row * o->H + i];
        if (o->dw_hh) o->dw_hh[row * o->H + i] += g * h[i];
    }
    if (o->db_hh) o->db_hh[row] += g;
}

/* d: of h' on entry, of h on return. */
static void gru_back(const net *o, const double *gate, const double *x, const double *h, double *d,
                     double *dx)
{
    const int64_t H = o->H;
    const double *r = gate, *z = gate + H, *n = gate + 2 * H, *inner = gate + 3 * H;
    double *dh = o->d + 2 * H, *d_inner = o->d + 3 * H;

    for (int64_t j = 0; j < H; j++) dh[j] = d[j] * z[j], d_inner[j] = 0;
    for (int64_t j = 0; j < H; j++) {
        const double g = d[j] * (1 - z[j]) * (1 - n[j] * n[j]);

        into_x(o, 2 * H + j, g, x, dx);
        if (o->before) into_h(o, 2 * H + j, g, inner, d_inner);
        else {
            into_h(o, 2 * H + j, g * r[j], h, dh);
            d_inner[j] = g; /* of r · inner */
        }
    }
    for (int64_t j = 0; j < H; j++) {
        const double d_r = d_inner[j] * (o->before ? h[j] : inner[j]);
        const double g_r = d_r * r[j] * (1 - r[j]);
        const double g_z = d[j] * (h[j] - n[j]) * z[j] * (1 - z[j]);

        if (o->before) dh[j] += d_inner[j] * r[j];
        into_x(o, j, g_r, x, dx);
        into_h(o, j, g_r, h, dh);
        into_x(o, H + j, g_z, x, dx);
        into_h(o, H + j, g_z, h, dh);
    }
    for (int64_t j = 0; j < H; j++) d[j] = dh[j];
}

static void lstm_back(const net *o, const double *gate, const double *x, const double *h,
                      const double *c, double *d, double *dc, double *dx)
{
    const int64_t H = o->H;
    double *dh = o->d + 2 * H;

    for (int64_t j = 0; j < H; j++) dh[j] = 0;
    for (int64_t j = 0; j < H; j++) {
        const double i = gate[j], f = gate[H + j], g = gate[2 * H + j], out = gate[3 * H + j];
        const double t = tanh(c[H + j]), e = dc[j] + d[j] * out * (1 - t * t);
        const double a[4] = {e * g * i * (1 - i), e * c[j] * f * (1 - f), e * i * (1 - g * g),
                             d[j] * t * out * (1 - out)};

        for (int64_t k = 0; k < 4; k++) {
            into_x(o, k * H + j, a[k], x, dx);
            into_h(o, k * H + j, a[k], h, dh);
        }
        dc[j] = e * f;
    }
    for (int64_t j = 0; j < H; j++) d[j] = dh[j];
}

static void rnn_back(const net *o, const double *h_new, const double *x, const double *h, double *d,
                     double *dx)
{
    double *dh = o->d + 2 * o->H;

    for (int64_t j = 0; j < o->H; j++) dh[j] = 0;
    for (int64_t j = 0; j < o->H; j++) {
        const double g = ti_act_back(o->act, h_new[j], d[j]);
        into_x(o, j, g, x, dx);
        into_h(o, j, g, h, dh);
    }
    for (int64_t j = 0; j < o->H; j++) d[j] = dh[j];
}

/* Inputs of X, gy, gh, [gc], and hints that are not looked at; out: dx, dh0, [dc0], dw_ih, …: zeros
 * for what is absent. */
static void backward(const ti_work *w, kind what, ti_vec in, ti_vec out)
{
    net o = net_of(w, what, in);
    const int64_t H = o.H;
    const int s = what == LSTM ? 2 : 1;
    const double *gy = in[6 + s], *gh = in[7 + s], *gc = what == LSTM ? in[8 + s] : NULL;
    double *const dx = out[0], *const dh0 = o.h0 ? out[1] : NULL;
    double *const dc0 = o.c0 ? out[2] : NULL, *d = o.d, *dc = o.d + H;

    for (int k = 0; k < w->op->n_out; k++)
        for (int64_t i = 0; out[k] && i < w->out[k].count; i++) out[k][i] = 0;
    o.dw_ih = out[1 + s];
    o.dw_hh = out[2 + s];
    o.db_ih = o.b_ih ? out[3 + s] : NULL;
    o.db_hh = o.b_hh ? out[4 + s] : NULL;
    for (int64_t n = 0; n < o.N; n++) {
        const int64_t steps = steps_of(w, &o, n);

        run_sequence(&o, n, steps);
        for (int64_t j = 0; j < H; j++) {
            d[j] = gh ? gh[n * H + j] : 0;
            dc[j] = gc ? gc[n * H + j] : 0;
        }
        for (int64_t i = steps; i-- > 0;) {
            const int64_t at = time_of(&o, i, steps) * o.N + n;
            const double *x = o.x + at * o.D, *gate = o.gate + i * 4 * H, *h = o.h + i * H;
            double *to = dx ? dx + at * o.D : NULL;

            for (int64_t j = 0; gy && j < H; j++) d[j] += gy[at * H + j];
            if (what == RNN) rnn_back(&o, h + H, x, h, d, to);
            else if (what == LSTM) lstm_back(&o, gate, x, h, o.c + i * H, d, dc, to);
            else gru_back(&o, gate, x, h, d, to);
        }
        for (int64_t j = 0; dh0 && j < H; j++) dh0[n * H + j] = d[j];
        for (int64_t j = 0; dc0 && j < H; j++) dc0[n * H + j] = dc[j];
    }
}

static void rnn_d(const ti_work *w, ti_vec in, ti_vec out) { backward(w, RNN, in, out); }
static void lstm_d(const ti_work *w, ti_vec in, ti_vec out) { backward(w, LSTM, in, out); }
static void gru_d(const ti_work *w, ti_vec in, ti_vec out) { backward(w, GRU, in, out); }

/* Sums in double: what counts in f64 only. */
static double longest(const ti_work *w, kind what, bool back)
{
    const net o = net_of(w, what, NULL);
    const double forth = (double)(o.D + o.H) + 2, state = (double)(o.gates * o.H) + 2;

    if (w->in[0].m.type != TERN_F64) return 1;
    return back ? fmax(fmax(forth, state), (double)(o.T * o.N)) : forth;
}
static double rnn_chain(const ti_work *w) { return longest(w, RNN, false); }
static double lstm_chain(const ti_work *w) { return longest(w, LSTM, false); }
static double gru_chain(const ti_work *w) { return longest(w, GRU, false); }
static double rnn_d_chain(const ti_work *w) { return longest(w, RNN, true); }
static double lstm_d_chain(const ti_work *w) { return longest(w, LSTM, true); }
static double gru_d_chain(const ti_work *w) { return longest(w, GRU, true); }

#define ROW(x, cell)                                                                               \
    {                                                                                              \
        .op = #x, .impl = "ref", .body = x, .scratch = cell##_scratch, .chain = x##_chain          \
    }
const ti_row ti_ref_recurrent[] = {
    ROW(rnn, rnn),     ROW(lstm, lstm), ROW(gru, gru), ROW(rnn_d, rnn),
    ROW(lstm_d, lstm), ROW(gru_d, gru), {.op = NULL},
};
