/*
 * rnn_bounds.c - bounds of recurrent operations: they hold over many steps, whatever the weights
 * and inputs, and say something: an error is no tiny share of them.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/call.h"

static const struct {
    const char *op, *d, *options;
    int gates, states;
} cells[] = {
    {"rnn", "rnn_d", "", 1, 1},
    {"rnn", "rnn_d", "act=relu", 1, 1},
    {"lstm", "lstm_d", "", 4, 2},
    {"gru", "gru_d", "", 3, 1},
    {"gru", "gru_d", "reset_before=1", 3, 1},
};
enum { RELU = 1, LSTM = 2, CELLS = 5 };

typedef enum { NORMAL, SAME, ZEROS, LARGE, KINDS } kind; /* of x; SAME: for all steps and rows */

typedef struct {
    int cell, reverse, lengths;
    kind x;
    int64_t T, N, D, H;
    double weights, biases; /* their deviation */
} problem;

/* Bounds are many small operations: to hand each of them to threads would take longest. */
static tern_ctx *open_dev(const char *device)
{
    setenv("TERN_THREADS", "1", 1);
    return tc_open(device);
}

static const char *told(char text[160], const problem *p)
{
    snprintf(text, 160, "%s %s, x %d, T%d N%d D%d H%d, weights %.3g, biases %.3g%s%s",
             cells[p->cell].op, cells[p->cell].options, (int)p->x, (int)p->T, (int)p->N, (int)p->D,
             (int)p->H, p->weights, p->biases, p->reverse ? ", reverse" : "",
             p->lengths ? ", lengths" : "");
    return text;
}

static tern_tensor *drawn(tern_ctx *ctx, tern_shape s, double deviation, uint64_t *seed)
{
    const int64_t n = tern_count(s);
    double *x = calloc((size_t)n + 1, sizeof *x);

    for (int64_t i = 0; i < n; i++) x[i] = deviation * tc_normal(seed);
    tern_tensor *t = tern_from_doubles(ctx, TERN_F32, x, s);
    free(x);
    cr_assert(t, "%s", tern_error_text(ctx));
    return t;
}

static tern_tensor *input(tern_ctx *ctx, const problem *p, uint64_t *seed)
{
    const tern_shape s = TI_SHAPE(p->T, p->N, p->D);

    if (p->x == ZEROS) return tern_fill(ctx, TERN_F32, s, 0);
    if (p->x == SAME)
        return tern_copy(ctx, tern_expand(ctx, drawn(ctx, TI_SHAPE(p->D), 1, seed), s));
    return drawn(ctx, s, p->x == LARGE ? 30 : 1, seed);
}

/* Inputs of X, then the cotangents of X_d; how many X has. */
static int operands(tern_ctx *ctx, const problem *p, uint64_t seed, tern_tensor **in)
{
    const int64_t G = cells[p->cell].gates * p->H;
    const tern_shape state = TI_SHAPE(p->N, p->H);
    int n = 0;

    in[n++] = input(ctx, p, &seed);
    for (int k = 0; k < cells[p->cell].states; k++) in[n++] = drawn(ctx, state, 0.5, &seed);
    in[n++] = drawn(ctx, TI_SHAPE(G, p->D), p->weights, &seed);
    in[n++] = drawn(ctx, TI_SHAPE(G, p->H), p->weights, &seed);
    for (int k = 0; k < 2; k++) in[n++] = drawn(ctx, TI_SHAPE(G), p->biases, &seed);
    in[n] = NULL;
    if (p->lengths) {
        int64_t *end = calloc((size_t)p->N, sizeof *end);
        for (int64_t i = 0; i < p->N; i++)
            end[i] = (int64_t)(tc_uniform(&seed) * (double)(p->T + 1));
        in[n] = tern_from_host(ctx, TERN_I64, end, TI_SHAPE(p->N));
        free(end);
    }
    const int n_in = n + 1;
    in[n_in] = drawn(ctx, TI_SHAPE(p->T, p->N, p->H), 1, &seed);
    for (int k = 0; k < cells[p->cell].states; k++) in[n_in + 1 + k] = drawn(ctx, state, 1, &seed);
    return n_in;
}

/* How much of its bound output i of X, or of X_d, uses; -1: all outputs. */
static double share(tern_ctx *ctx, tern_ctx *ref, const problem *p, uint64_t seed, bool back, int i)
{
    tern_tensor *in[16] = {NULL};
    char options[80], text[160];
    tern_call_error e;

    tern_frame_begin(ctx);
    const int n = operands(ctx, p, seed, in), states = cells[p->cell].states;
    const int hints = strcmp(cells[p->cell].op, "rnn") == 0 ? 1 : 2; /* y and the reserve: absent */
    snprintf(options, sizeof options, "%s reverse=%d", cells[p->cell].options, p->reverse);
    tern_call *call = tern_call_open(ctx, back ? cells[p->cell].d : cells[p->cell].op, options,
                                     back ? n + 1 + states + hints : n, in, i < 0 ? 0 : 1u << i);
    cr_assert(call && !tern_call_check(ctx, &e, call, ref), "%s: %s", told(text, p),
              tern_error_text(ctx));
    cr_expect(e.n_beyond == 0,
              "%s%s, seed %d on %s: %lld beyond, %.3g of the bound: %s is %g, not %g",
              told(text, p), back ? ", back" : "", (int)seed, tern_device(ctx),
              (long long)e.n_beyond, e.share, e.worst_name, e.got, e.want);
    tern_call_close(ctx, call);
    tern_frame_end(ctx);
    return e.share;
}

/* ---- They hold ---- */

static int64_t up_to(uint64_t *seed, int64_t most)
{
    return 1 + (int64_t)(tc_uniform(seed) * (double)most);
}

/* Small and large weights, gates that are open, closed or in between, steps that repeat. */
static problem any(uint64_t *seed, int64_t steps)
{
    static const double weights[] = {0.03, 0.3, 1, 4}, biases[] = {0, 1, 10};
    problem p = {.cell = (int)up_to(seed, CELLS) - 1,
                 .reverse = (int)up_to(seed, 2) - 1,
                 .lengths = up_to(seed, 3) == 1,
                 .x = (kind)(up_to(seed, KINDS) - 1),
                 .T = up_to(seed, steps),
                 .N = up_to(seed, 6),
                 .D = up_to(seed, 9),
                 .H = up_to(seed, 24),
                 .weights = weights[up_to(seed, 4) - 1],
                 .biases = biases[up_to(seed, 3) - 1]};

    return p;
}

/* Derivatives through weights above 1 leave the range of f32, and relu's states do, too. */
static bool stays_finite(const problem *p)
{
    const double growth = p->weights * sqrt((double)p->H);

    return pow(fmax(growth, 1), (double)p->T) < (p->cell == RELU ? 1e20 : 1e25);
}

static void hold(const char *device, int count, int64_t steps)
{
    tern_ctx *ctx = open_dev(device), *ref = open_dev("ref");
    uint64_t seed = 3;
    double worst[2] = {0};
    int n_back = 0;

    for (int i = 0; i < count; i++) {
        problem p = any(&seed, steps);
        if (p.cell == RELU && !stays_finite(&p)) p.weights = 0.03;
        worst[0] = fmax(worst[0], share(ctx, ref, &p, 100 + (uint64_t)i, false, -1));
        if (!stays_finite(&p)) continue;
        n_back++;
        worst[1] = fmax(worst[1], share(ctx, ref, &p, 100 + (uint64_t)i, true, -1));
    }
    cr_log_info("%s: %d problems, %d of them back: at most %.3g and %.3g of a bound", device, count,
                n_back, worst[0], worst[1]);
    cr_expect(n_back > count / 3);
    tc_close(ref);
    tc_close(ctx);
}

Test(rnn_bounds, hold_on_cpu) { hold("cpu", 40, 64); }
Test(rnn_bounds, hold_on_simt)
{
    if (tc_has("simt")) hold("simt", 20, 30);
}

/* Inputs that differ, and equal ones, whose roundings repeat; gates that let all through make sums
 * over all steps. */
Test(rnn_bounds, hold_over_200_steps)
{
    tern_ctx *ctx = open_dev("cpu"), *ref = open_dev("ref");

    for (int cell = 0; cell < CELLS; cell++)
        for (int open = 0; open < 2; open++) {
            problem p = {.cell = cell, .T = 200, .N = 2, .D = 3, .H = 8, .weights = 0.2};
            p.x = open ? SAME : NORMAL;
            p.biases = open && cell != RELU ? 4 : 0.1;
            share(ctx, ref, &p, 7, false, 0);
            share(ctx, ref, &p, 7, true, 2 + cells[cell].states); /* dw_hh */
        }
    tc_close(ref);
    tc_close(ctx);
}

/* Large weights make a layer that doubles errors every few steps, until they are as large as what
 * they are errors of; in some elements the first order nearly cancels. */
Test(rnn_bounds, hold_where_errors_leave_the_first_order)
{
    tern_ctx *ctx = open_dev("cpu"), *ref = open_dev("ref");
    problem p = {.cell = LSTM, .x = ZEROS, .reverse = 1, .N = 6, .D = 9, .H = 18, .weights = 4};

    for (p.T = 21; p.T <= 36; p.T += 5) share(ctx, ref, &p, 120, false, -1);
    tc_close(ref);
    tc_close(ctx);
}

/* ---- They say something ---- */

/* A layer as it is made: weights within 1 / sqrt(H). Its errors are at least one two-thousandth of
 * their bounds: what is that much more wrong is seen. */
static void useful(int64_t T, int64_t N, int64_t D, int64_t H)
{
    tern_ctx *ctx = open_dev("cpu"), *ref = open_dev("ref");
    char text[160];

    for (int cell = 0; cell < CELLS; cell++) {
        const double deviation = 1 / sqrt(3 * (double)H);
        const problem p = {.cell = cell,
                           .T = T,
                           .N = N,
                           .D = D,
                           .H = H,
                           .weights = deviation,
                           .biases = deviation};
        const int outs = cells[cell].states;
        double least = 1;

        for (int i = 0; i < 1 + outs; i++) least = fmin(least, share(ctx, ref, &p, 5, false, i));
        /* Where an argument of relu lies within its error of 0 the slope may be 0 or 1. */
        for (int i = 0; i < 5 + outs && cell != RELU; i++)
            least = fmin(least, share(ctx, ref, &p, 5, true, i));
        cr_log_info("%s: at least %.2g of a bound", told(text, &p), least);
        cr_expect(least >= 5e-4, "%s: %.2g of a bound", told(text, &p), least);
    }
    tc_close(ref);
    tc_close(ctx);
}

Test(rnn_bounds, are_no_wider_than_they_must) { useful(64, 2, 16, 32); }
