/*
 * rnn.c - recurrent operations and modules: by hand, against plain loops, lengths, both ways,
 * where GRU's reset gate stands, threads, hints, and what layers make of the operations.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/grad.h"
#include "tern/models.h"
#include "tern/nn.h"

typedef enum { RNN, LSTM, GRU, GRU_BEFORE } cell;

static const int n_gates[] = {1, 4, 3, 3};

static tern_tensor *normal(tern_ctx *ctx, tern_type type, tern_shape shape, uint64_t seed)
{
    const ti_sample_in like = {.shape = shape, .draw = TI_S_NORMAL};
    double *x = calloc((size_t)tern_count(shape) + 1, sizeof *x);

    tc_values(&like, seed, x);
    for (int64_t i = 0; i < tern_count(shape); i++) x[i] *= 0.5;
    tern_tensor *t = tern_from_doubles(ctx, type, x, shape);
    free(x);
    cr_assert(t, "%s", tern_error_text(ctx));
    return t;
}

static tern_tensor *numbers(tern_ctx *ctx, tern_shape shape, const double *x)
{
    return tern_from_doubles(ctx, TERN_F64, x, shape);
}

/* x h0 c0 w_ih w_hh b_ih b_hh lengths */
typedef struct {
    cell what;
    int reverse, act;
    int64_t T, N, D, H;
    tern_tensor *in[8];
} problem;

static problem problem_of(tern_ctx *ctx, tern_type type, cell what, int64_t T, int64_t N, int64_t D,
                          int64_t H, const int64_t *lengths)
{
    const int64_t G = n_gates[what] * H;
    problem p = {what, 0, TERN_TANH, T, N, D, H, {NULL}};
    const tern_shape shape[] = {TI_SHAPE(T, N, D), TI_SHAPE(N, H), TI_SHAPE(N, H), TI_SHAPE(G, D),
                                TI_SHAPE(G, H),    TI_SHAPE(G),    TI_SHAPE(G)};

    for (int i = 0; i < 7; i++)
        if (i != 2 || what == LSTM) p.in[i] = normal(ctx, type, shape[i], 5 + (uint64_t)i);
    if (lengths) p.in[7] = tern_from_host(ctx, TERN_I64, lengths, TI_SHAPE(N));
    return p;
}

static tern_tensor *apply(tern_ctx *ctx, const problem *p, tern_tensor **h_n, tern_tensor **c_n)
{
    tern_tensor *const *in = p->in;

    switch (p->what) {
    case LSTM:
        return tern_lstm(ctx, h_n, c_n, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7],
                         &(tern_lstm_opts){p->reverse});
    case RNN:
        return tern_rnn(ctx, h_n, in[0], in[1], in[3], in[4], in[5], in[6], in[7],
                        &(tern_rnn_opts){p->reverse, p->act});
    default:
        return tern_gru(ctx, h_n, in[0], in[1], in[3], in[4], in[5], in[6], in[7],
                        &(tern_gru_opts){p->reverse, p->what == GRU_BEFORE});
    }
}

static void near_to(tern_ctx *ctx, const char *what, tern_tensor *t, const double *want,
                    double allowed)
{
    cr_assert(t, "%s: %s", what, tern_error_text(ctx));
    double *x = tc_doubles(ctx, t);
    for (int64_t i = 0; i < tern_count(t->m.shape); i++)
        if (!(fabs(x[i] - want[i]) <= allowed)) {
            cr_expect(false, "%s[%lld] is %.12g, not %.12g", what, (long long)i, x[i], want[i]);
            break;
        }
    free(x);
}

static void equal(tern_ctx *ctx, const char *what, tern_tensor *a, tern_tensor *b)
{
    cr_assert(b, "%s: %s", what, tern_error_text(ctx));
    double *y = tc_doubles(ctx, b);
    cr_assert(a && tern_same_shape(a->m.shape, b->m.shape), "%s: shape", what);
    near_to(ctx, what, a, y, 0);
    free(y);
}

/* ---- By hand ---- */

Test(rnn, one_step_by_hand)
{
    tern_ctx *ctx = tc_open("cpu");
    const double x = 0.5, h = 0.25, w = 2, u = -1, b1 = 0.1, b2 = 0.3;
    tern_tensor *h_n,
        *y = tern_rnn(ctx, &h_n, numbers(ctx, TI_SHAPE(1, 1, 1), &x),
                      numbers(ctx, TI_SHAPE(1, 1), &h), numbers(ctx, TI_SHAPE(1, 1), &w),
                      numbers(ctx, TI_SHAPE(1, 1), &u), numbers(ctx, TI_SHAPE(1), &b1),
                      numbers(ctx, TI_SHAPE(1), &b2), NULL, NULL);
    const double want = tanh(2 * 0.5 + 0.1 - 0.25 + 0.3);

    near_to(ctx, "y", y, &want, 1e-15);
    near_to(ctx, "h_n", h_n, &want, 1e-15);
    tc_close(ctx);
}

/* i = s(ln 3) = 3/4, f = s(-ln 3) = 1/4, g = tanh(atanh(1/2)) = 1/2, o = s(0) = 1/2. */
Test(rnn, lstm_step_by_hand)
{
    tern_ctx *ctx = tc_open("cpu");
    const double zero[4] = {0}, x = 1, h = 7, c = 2;
    const double w[4] = {log(3), -log(3), 0.5493061443340549, 0};
    tern_tensor *h_n, *c_n;
    tern_tensor *y = tern_lstm(ctx, &h_n, &c_n, numbers(ctx, TI_SHAPE(1, 1, 1), &x),
                               numbers(ctx, TI_SHAPE(1, 1), &h), numbers(ctx, TI_SHAPE(1, 1), &c),
                               numbers(ctx, TI_SHAPE(4, 1), w), numbers(ctx, TI_SHAPE(4, 1), zero),
                               NULL, NULL, NULL, NULL);
    const double c_new = 0.25 * 2 + 0.75 * 0.5, h_new = 0.5 * tanh(c_new);

    near_to(ctx, "c_n", c_n, &c_new, 1e-15);
    near_to(ctx, "h_n", h_n, &h_new, 1e-15);
    near_to(ctx, "y", y, &h_new, 1e-15);
    tc_close(ctx);
}

/* r = 1/2, z = s(-60) = 0: h' = n, with w_hn = 2, b_hn = 1, h = 1/2: tanh(r (2h + 1)) = tanh 1, or
 * tanh(2 (r h) + 1) = tanh 1.5. */
Test(rnn, the_reset_gate_acts_after_or_before_the_product)
{
    tern_ctx *ctx = tc_open("cpu");
    const double zero[3] = {0}, h = 0.5, u[3] = {0, 0, 2}, b_ih[3] = {0, -60, 0},
                 b_hh[3] = {0, 0, 1};

    for (int before = 0; before < 2; before++) {
        tern_tensor *y = tern_gru(
            ctx, NULL, numbers(ctx, TI_SHAPE(1, 1, 1), zero), numbers(ctx, TI_SHAPE(1, 1), &h),
            numbers(ctx, TI_SHAPE(3, 1), zero), numbers(ctx, TI_SHAPE(3, 1), u),
            numbers(ctx, TI_SHAPE(3), b_ih), numbers(ctx, TI_SHAPE(3), b_hh), NULL,
            &(tern_gru_opts){.reset_before = before});
        near_to(ctx, before ? "before" : "after", y, (double[]){tanh(before ? 1.5 : 1)}, 1e-14);
    }
    tc_close(ctx);
}

/* ---- Plain loops ---- */

static double logistic(double x) { return 1 / (1 + exp(-x)); }

static double line(const double *w, const double *b, int64_t row, int64_t n, const double *x)
{
    double sum = b ? b[row] : 0;

    for (int64_t i = 0; i < n; i++) sum += w[row * n + i] * x[i];
    return sum;
}

/* v: the inputs as doubles. One step of sequence n in place. */
static void plain_step(const problem *p, double *const *v, const double *x, double *h, double *c)
{
    const int64_t H = p->H, D = p->D;
    double *gx = calloc((size_t)(4 * H), sizeof *gx), *gh = calloc((size_t)(4 * H), sizeof *gh);
    double *rh = calloc((size_t)H, sizeof *rh);

    for (int64_t k = 0; k < n_gates[p->what] * H; k++) {
        gx[k] = line(v[3], v[5], k, D, x);
        gh[k] = line(v[4], v[6], k, H, h);
    }
    for (int64_t j = 0; j < H; j++) rh[j] = h[j] * logistic(gx[j] + gh[j]);
    for (int64_t j = 0; p->what == GRU_BEFORE && j < H; j++)
        gh[2 * H + j] = line(v[4], v[6], 2 * H + j, H, rh);
    for (int64_t j = 0; j < H; j++) {
        const double a = gx[j] + gh[j];
        if (p->what == RNN) {
            h[j] = p->act == TERN_RELU ? (a > 0 ? a : 0) : tanh(a);
        } else if (p->what == LSTM) {
            c[j] = logistic(gx[H + j] + gh[H + j]) * c[j] +
                   logistic(a) * tanh(gx[2 * H + j] + gh[2 * H + j]);
            h[j] = logistic(gx[3 * H + j] + gh[3 * H + j]) * tanh(c[j]);
        } else {
            const double z = logistic(gx[H + j] + gh[H + j]);
            const double r = p->what == GRU ? logistic(a) : 1;
            h[j] = (1 - z) * tanh(gx[2 * H + j] + r * gh[2 * H + j]) + z * h[j];
        }
    }
    free(gx);
    free(gh);
    free(rh);
}

static void against_loops(tern_ctx *ctx, problem p, const int64_t *lengths, double allowed)
{
    const int64_t N = p.N, H = p.H;
    double *v[7] = {NULL}, *y = calloc((size_t)(p.T * N * H), sizeof *y);
    double *h = calloc((size_t)(N * H), sizeof *h), *c = calloc((size_t)(N * H), sizeof *c);
    tern_tensor *h_n = NULL, *c_n = NULL, *got = apply(ctx, &p, &h_n, &c_n);

    for (int i = 0; i < 7; i++)
        if (p.in[i]) v[i] = tc_doubles(ctx, p.in[i]);
    for (int64_t n = 0; n < N; n++) {
        const int64_t end = lengths ? lengths[n] : p.T;
        for (int64_t j = 0; j < H; j++) {
            h[n * H + j] = v[1] ? v[1][n * H + j] : 0;
            c[n * H + j] = v[2] ? v[2][n * H + j] : 0;
        }
        for (int64_t i = 0; i < end; i++) {
            const int64_t at = (p.reverse ? end - 1 - i : i) * N + n;
            plain_step(&p, v, v[0] + at * p.D, h + n * H, c + n * H);
            memcpy(y + at * H, h + n * H, (size_t)H * sizeof *y);
        }
    }
    near_to(ctx, "y", got, y, allowed);
    near_to(ctx, "h_n", h_n, h, allowed);
    if (p.what == LSTM) near_to(ctx, "c_n", c_n, c, allowed);
    for (int i = 0; i < 7; i++) free(v[i]);
    free(y);
    free(h);
    free(c);
}

static void equal_plain_loops(const char *device)
{
    tern_ctx *ctx = tc_open(device);
    int64_t lengths[70];

    for (int i = 0; i < 70; i++) lengths[i] = i * 5 % 8;
    for (int what = RNN; what <= GRU_BEFORE; what++)
        for (int how = 0; how < 8; how++) {
            const tern_type type = how & 1 ? TERN_F32 : TERN_F64;
            const int64_t *given = how & 2 ? lengths : NULL, N = how & 1 ? 70 : 5;

            tern_frame_begin(ctx);
            problem p = problem_of(ctx, type, (cell)what, 7, N, 19, 21, given);
            p.reverse = how >> 2;
            if (what == RNN && how & 4) p.act = TERN_RELU;
            if (how == 3) p.in[1] = p.in[2] = p.in[5] = NULL;
            if (how == 6) p.in[6] = NULL;
            against_loops(ctx, p, given, type == TERN_F32 ? (what == RNN ? 2e-4 : 5e-5) : 1e-11);
            tern_frame_end(ctx);
        }
    tc_close(ctx);
}

Test(rnn, all_cells_equal_plain_loops) { equal_plain_loops("cpu"); }
Test(rnn, all_cells_equal_plain_loops_on_simt)
{
    if (tc_has("simt")) equal_plain_loops("simt");
}

/* ---- Lengths ---- */

/* What lies beyond a sequence's end, NaN even, enters neither results nor derivatives. */
static void nothing_beyond_the_end(const char *device)
{
    const int64_t lengths[] = {3, 0, 4, 1};
    tern_ctx *ctx = tc_open(device);

    for (int what = RNN; what <= GRU_BEFORE; what++)
        for (int how = 0; how < 4; how++) {
            tern_tensor *d[2][7], *y[2], *h_n[2], *to[7];
            const tern_type type = how & 2 ? TERN_F64 : TERN_F32;

            tern_frame_begin(ctx);
            problem p = problem_of(ctx, type, (cell)what, 4, 4, 3, 5, lengths);
            p.reverse = how & 1;
            double *x = tc_doubles(ctx, p.in[0]);
            for (int k = 0; k < 2; k++) {
                int n = 0;
                for (int t = 0; t < 4 && k; t++)
                    for (int i = 0; i < 12; i++)
                        if (t >= lengths[i / 3]) x[t * 12 + i] = NAN;
                p.in[0] = tern_from_doubles(ctx, type, x, TI_SHAPE(4, 4, 3));
                for (int i = 0; i < 7; i++)
                    if (p.in[i]) to[n++] = p.in[i] = tern_track(ctx, p.in[i]);
                y[k] = apply(ctx, &p, &h_n[k], NULL);
                cr_assert(!tern_grads(ctx, d[k], 2, (tern_tensor *[]){y[k], h_n[k]}, NULL, n, to),
                          "%s", tern_error_text(ctx));
                if (!k) continue;
                equal(ctx, "y", y[1], y[0]);
                equal(ctx, "h_n", h_n[1], h_n[0]);
                for (int i = 0; i < n; i++) equal(ctx, "a derivative", d[1][i], d[0][i]);
            }
            double *out = tc_doubles(ctx, y[0]);
            for (int i = 0; i < 4 * 4 * 5; i++)
                if (i / 20 >= lengths[i / 5 % 4]) cr_expect(out[i] == 0, "y[%d] beyond the end", i);
            free(out);
            free(x);
            tern_frame_end(ctx);
        }
    tc_close(ctx);
}

Test(rnn, what_lies_beyond_the_end_does_not_count) { nothing_beyond_the_end("cpu"); }
Test(rnn, what_lies_beyond_the_end_does_not_count_on_simt)
{
    if (tc_has("simt")) nothing_beyond_the_end("simt");
}

static void expect_failure(tern_ctx *ctx, tern_status status, const char *part)
{
    cr_expect(tern_error(ctx) == status, "%s: %s", tern_status_name(tern_error(ctx)),
              tern_error_text(ctx));
    cr_expect(strstr(tern_error_text(ctx), part), "\"%s\" lacks \"%s\"", tern_error_text(ctx),
              part);
    tern_error_clear(ctx);
}

static void refuse_wrong_arguments(const char *device)
{
    const int64_t lengths[] = {2, 5, 1}, few[] = {1, 2};
    tern_ctx *ctx = tc_open(device);
    problem p = problem_of(ctx, TERN_F32, LSTM, 4, 3, 2, 2, lengths), q;
    float y[4 * 3 * 2];
    tern_tensor *late = apply(ctx, &p, NULL, NULL); /* GPUs say it when values are read */

    cr_expect(!late || tern_to_host(ctx, y, late));
    expect_failure(ctx, TERN_E_VALUE, "index 5 is not in 0 to 4");
    p = problem_of(ctx, TERN_F32, LSTM, 4, 3, 2, 2, NULL);
    q = p, q.in[7] = tern_from_host(ctx, TERN_I64, few, TI_SHAPE(2));
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "lengths [2]");
    q = p, q.in[4] = normal(ctx, TERN_F32, TI_SHAPE(8, 3), 1);
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "w_hh has 8 rows");
    q = p, q.in[3] = normal(ctx, TERN_F32, TI_SHAPE(8, 3), 1);
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "x [4,3,2] does not fit w_ih [8,3]");
    q = p, q.in[2] = normal(ctx, TERN_F32, TI_SHAPE(3, 3), 1);
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "c0 [3,3]");
    q = p, q.in[1] = normal(ctx, TERN_F64, TI_SHAPE(3, 2), 1);
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_TYPE, "h0 is f64");
    q = p, q.in[0] = normal(ctx, TERN_F32, TI_SHAPE(4, 2), 1);
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "3 axes");
    q = p, q.what = RNN, q.act = TERN_SIGMOID;
    cr_expect(!apply(ctx, &q, NULL, NULL));
    expect_failure(ctx, TERN_E_ARGUMENT, "act 3");
    tc_close(ctx);
}

Test(rnn, wrong_arguments_are_refused)
{
    refuse_wrong_arguments("cpu");
    refuse_wrong_arguments("ref");
}
Test(rnn, wrong_arguments_are_refused_on_simt)
{
    if (tc_has("simt")) refuse_wrong_arguments("simt");
}

/* ---- Threads and hints ---- */

static const char *const d_names[] = {"rnn_d", "lstm_d", "gru_d", "gru_d"};

/* Derivatives by the tape, which has what the forward pass left, and by X_d without it: d[i], for
 * each input, the same bits. How many there are. */
static int with_and_without_hints(tern_ctx *ctx, problem p, tern_tensor **d)
{
    tern_tensor *to[7], *y, *in[13] = {NULL}, *out[TI_OUTS];
    tern_tensor *g = normal(ctx, p.in[0]->m.type, TI_SHAPE(p.T, p.N, p.H), 77);
    char opts[60];
    int n = 0;

    for (int i = 0; i < 7; i++)
        if (p.in[i]) in[n] = p.in[i], to[n++] = p.in[i] = tern_track(ctx, p.in[i]);
    y = apply(ctx, &p, NULL, NULL);
    cr_assert(!tern_grads(ctx, d, 1, &y, &g, n, to), "%s", tern_error_text(ctx));
    in[n] = p.in[7];
    in[n + 1] = g;
    snprintf(opts, sizeof opts, "reverse=%d%s", p.reverse,
             p.what == GRU_BEFORE ? " reset_before=1" : "");
    cr_assert(!tern_apply(ctx, d_names[p.what], opts,
                          p.what == LSTM  ? 13
                          : p.what == RNN ? 10
                                          : 11,
                          in, out),
              "%s", tern_error_text(ctx));
    for (int i = 0; i < n; i++) equal(ctx, "without hints", out[i], d[i]);
    return n;
}

Test(rnn, hints_do_not_matter_on_simt)
{
    const int64_t lengths[] = {3, 0, 4, 1, 2, 4, 4, 3, 0, 1, 2, 3, 4, 4, 4, 2, 1};

    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt");
    for (int what = RNN; what <= GRU_BEFORE; what++)
        for (int how = 0; how < 8; how++) {
            tern_tensor *d[7];

            tern_frame_begin(ctx);
            problem p = problem_of(ctx, how & 1 ? TERN_F64 : TERN_F32, (cell)what, 4, 17, 5, 18,
                                   how & 2 ? lengths : NULL);
            p.reverse = how >> 2;
            with_and_without_hints(ctx, p, d);
            tern_frame_end(ctx);
        }
    tc_close(ctx);
}

/* Chunks of sequences depend on the number of threads, their results do not; nor does it matter
 * whether the forward pass left its gates. */
Test(rnn, bits_depend_neither_on_threads_nor_on_hints)
{
    double *first[4][8] = {{NULL}};

    for (int threads = 1; threads <= 4; threads++) {
        tern_ctx *ctx = tc_open("cpu");
        cr_assert(tern_threads_set(ctx, threads) == TERN_OK);
        for (int what = RNN; what <= GRU_BEFORE; what++) {
            problem p = problem_of(ctx, TERN_F32, (cell)what, 5, 150, 17, 33, NULL);
            tern_tensor *d[7];
            int k = 0;

            for (int i = 0, n = with_and_without_hints(ctx, p, d); i < n; i++) {
                const size_t bytes = (size_t)tern_count(d[i]->m.shape) * sizeof(double);
                double *x = tc_doubles(ctx, d[i]);
                if (threads == 1) first[what][k++] = x;
                else {
                    cr_expect(memcmp(x, first[what][k++], bytes) == 0, "%s, %d threads, %d",
                              d_names[what], threads, i);
                    free(x);
                }
            }
        }
        tc_close(ctx);
    }
    for (int i = 0; i < 32; i++) free(first[i / 8][i % 8]);
}

/* ---- Modules ---- */

static tern_tensor *var(tern_ctx *ctx, tern_module *m, const char *path)
{
    return tern_read(ctx, tern_module_var(ctx, m, path));
}

/* Two layers both ways are four operations. */
Test(rnn, layers_are_stacked_operations)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *m = tern_nn_lstm(ctx, 3, 4, &(tern_nn_rnn_opts){.layers = 2, .bidirectional = 1});
    tern_tensor *x = normal(ctx, TERN_F32, TI_SHAPE(5, 6, 3), 1), *h[4], *c[4], *h_n, *c_n;
    tern_tensor *h0 = normal(ctx, TERN_F32, TI_SHAPE(4, 6, 4), 2);
    tern_tensor *c0 = normal(ctx, TERN_F32, TI_SHAPE(4, 6, 4), 3), *y = x;
    const int64_t end[] = {5, 1, 3, 2, 4, 5};
    tern_tensor *lengths = tern_from_host(ctx, TERN_I64, end, TI_SHAPE(6));
    tern_tensor *got = tern_forward_recurrent(ctx, m, &h_n, &c_n, x, h0, c0, lengths);

    cr_expect(tern_module_size(m) == 2 * (16 * (3 + 4) + 32) + 2 * (16 * (8 + 4) + 32));
    for (int layer = 0; layer < 2; layer++) {
        tern_tensor *out[2];
        for (int way = 0; way < 2; way++) {
            const int i = 2 * layer + way;
            char name[4][40];
            static const char *const what[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
            for (int k = 0; k < 4; k++)
                snprintf(name[k], 40, "%s_l%d%s", what[k], layer, way ? "_reverse" : "");
            tern_tensor *own[2] = {h0, c0};
            for (int k = 0; k < 2; k++)
                own[k] = tern_reshape(
                    ctx, tern_slice(ctx, own[k], &(tern_slice_opts){.from = i, .count = 1}),
                    TI_SHAPE(6, 4));
            out[way] = tern_lstm(ctx, &h[i], &c[i], y, own[0], own[1], var(ctx, m, name[0]),
                                 var(ctx, m, name[1]), var(ctx, m, name[2]), var(ctx, m, name[3]),
                                 lengths, &(tern_lstm_opts){.reverse = way});
        }
        y = tern_concat(ctx, 2, out, 2);
    }
    equal(ctx, "y", got, y);
    equal(ctx, "h_n", tern_reshape(ctx, h_n, TI_SHAPE(24, 4)), tern_concat(ctx, 4, h, 0));
    equal(ctx, "c_n", tern_reshape(ctx, c_n, TI_SHAPE(24, 4)), tern_concat(ctx, 4, c, 0));
    tc_close(ctx);
}

Test(rnn, batch_first_and_last_state)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_nn_rnn_opts o[] = {{.bidirectional = 1},
                                  {.bidirectional = 1, .batch_first = 1},
                                  {.bidirectional = 1, .batch_first = 1, .last = 1}};
    tern_tensor *x = normal(ctx, TERN_F32, TI_SHAPE(5, 6, 3), 1), *y[3], *h_n;
    tern_tensor *turned = tern_permute(ctx, x, &(tern_permute_opts){{1, 0, 2}});
    tern_module *m[3];

    for (int i = 0; i < 3; i++) {
        m[i] = tern_nn_gru(ctx, 3, 4, &o[i]);
        y[i] = tern_forward(ctx, m[i], i ? turned : x);
    }
    equal(ctx, "batch first", tern_permute(ctx, y[1], &(tern_permute_opts){{1, 0, 2}}), y[0]);
    cr_assert(tern_forward_recurrent(ctx, m[0], &h_n, NULL, x, NULL, NULL, NULL));
    equal(
        ctx, "last state", y[2],
        tern_reshape(ctx, tern_permute(ctx, h_n, &(tern_permute_opts){{1, 0, 2}}), TI_SHAPE(6, 8)));
    tc_close(ctx);
}

Test(rnn, initial_values)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_nn_rnn_opts o = {.has_forget_bias = 1, .forget_bias = 1.5};
    tern_module *m = tern_nn_lstm(ctx, 3, 16, &o);
    double *ih = tc_doubles(ctx, var(ctx, m, "bias_ih_l0"));
    double *hh = tc_doubles(ctx, var(ctx, m, "bias_hh_l0"));
    double *w = tc_doubles(ctx, var(ctx, m, "weight_ih_l0")), most = 0;

    for (int i = 0; i < 64; i++) {
        const bool forget = i / 16 == 1;
        cr_expect(forget ? ih[i] == 1.5 && hh[i] == 0 : fabs(ih[i]) <= 0.25 && ih[i] != 1.5);
    }
    for (int i = 0; i < 192; i++) most = fmax(most, fabs(w[i]));
    cr_expect(most <= 0.25 && most > 0.2); /* 1/sqrt(16), not 1/sqrt(3) */
    free(ih);
    free(hh);
    free(w);
    tc_close(ctx);
}

Test(rnn, dropout_stands_between_layers_in_training)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_nn_rnn_opts o = {.layers = 2, .dropout = 0.5}, plain = {.layers = 2};
    tern_module *m = tern_nn_rnn(ctx, 3, 8, &o), *n = tern_nn_rnn(ctx, 3, 8, &plain);
    tern_tensor *x = normal(ctx, TERN_F32, TI_SHAPE(4, 6, 3), 1);
    tern_tensor *y = tern_forward(ctx, n, x);

    equal(ctx, "evaluation", tern_forward(ctx, m, x), y);
    tern_mode(ctx, TERN_TRAIN);
    double *a = tc_doubles(ctx, y), *b = tc_doubles(ctx, tern_forward(ctx, m, x));
    cr_expect(memcmp(a, b, 4 * 6 * 8 * sizeof *a) != 0);
    free(a);
    free(b);
    tern_mode(ctx, TERN_EVAL);
    tc_close(ctx);
}

Test(rnn, modules_refuse_what_does_not_fit)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_tensor *x = normal(ctx, TERN_F32, TI_SHAPE(4, 6, 3), 1);
    tern_module *m = tern_nn_gru(ctx, 5, 8, NULL);

    cr_expect(!tern_forward(ctx, m, x));
    expect_failure(ctx, TERN_E_SHAPE, "[4,6,3] is not [T,N,5]");
    m = tern_nn_gru(ctx, 3, 8, NULL);
    cr_expect(!tern_forward_recurrent(ctx, m, NULL, NULL, x, x, NULL, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "h0 is [4,6,3], wanted: [1,6,8]");
    cr_expect(!tern_forward_recurrent(ctx, m, NULL, NULL, x, NULL, x, NULL));
    expect_failure(ctx, TERN_E_ARGUMENT, "no second state");
    cr_expect(!tern_nn_gru(ctx, 0, 8, NULL));
    expect_failure(ctx, TERN_E_ARGUMENT, "at least 1");
    cr_expect(!tern_nn_lstm(ctx, 3, 8, &(tern_nn_rnn_opts){.reset_before = 1}));
    expect_failure(ctx, TERN_E_ARGUMENT, "only gru");
    cr_expect(!tern_nn_rnn(ctx, 3, 8, &(tern_nn_rnn_opts){.dropout = 1}));
    expect_failure(ctx, TERN_E_ARGUMENT, "dropout");
    cr_expect(!tern_nn_gru(ctx, 3, 8, &(tern_nn_rnn_opts){.act = TERN_RELU}));
    expect_failure(ctx, TERN_E_ARGUMENT, "activation");
    tc_close(ctx);
}

/* ---- Programs: a replayed step has the bits of the eager one ---- */

static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_sum(ctx, tern_forward(ctx, user, in[0]), NULL);
    if (!out[0] || tern_backward(ctx, out[0], user)) return tern_error(ctx);
    out[1] = tern_block_grads(ctx, tern_module_block(ctx, user), 0, tern_module_size(user));
    return tern_error(ctx);
}

Test(rnn, a_replayed_step_equals_the_eager_one)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *m = tern_model(ctx, "lstm-rows", &(tern_model_opts){1, 5, 7, 3});
    tern_tensor *x = normal(ctx, TERN_F32, TI_SHAPE(4, 1, 5, 7), 1), *in[] = {x, NULL};
    tern_tensor *eager[2] = {NULL}, *replayed[2] = {NULL};

    cr_assert(m && !step(ctx, eager, in, m), "%s", tern_error_text(ctx));
    tern_grads_clear(ctx, m);
    tern_program *p = tern_record(ctx, step, m);
    cr_assert(!tern_program_run(ctx, replayed, p, in), "%s", tern_error_text(ctx));
    equal(ctx, "loss", replayed[0], eager[0]);
    equal(ctx, "gradients", replayed[1], eager[1]);
    tc_close(ctx);
}
