/*
 * lstm.c - one LSTM layer in one direction, and its derivative.
 */
#include "ops/recurrent.h"

static const ti_field lstm_fields[] = {TI_FIELD(tern_lstm_opts, TI_INT, reverse, 1, 0), {0}};

/* gate: i, f, g, o */
static void lstm_forward(const ti_recurrence *r, ti_near gx, const ti_near *from, ti_near *to,
                         ti_step *keep)
{
    const ti_near gh = ti_near_linear(&r->how, from[0], r->w_hh, r->b_hh, 0, 4 * r->H);
    const ti_near all = ti_near_add(&r->how, gx, gh);
    ti_near *gate = keep->gate;

    for (int k = 0; k < 4; k++)
        gate[k] = ti_near_act(&r->how, ti_near_columns(&r->how, all, k * r->H, r->H),
                              k == 2 ? TERN_TANH : TERN_SIGMOID);
    to[1] = ti_near_add(&r->how, ti_near_mul(&r->how, gate[1], from[1]),
                        ti_near_mul(&r->how, gate[0], gate[2]));
    keep->c = ti_near_act(&r->how, to[1], TERN_TANH);
    to[0] = ti_near_mul(&r->how, gate[3], keep->c);
}

static void lstm_back(const ti_recurrence *r, const ti_step *s, const ti_near *d, ti_near *to,
                      ti_shares *shares)
{
    const ti_near *gate = s->gate, h = d[0];
    const ti_near c = ti_near_add(
        &r->how, d[1], ti_near_back(&r->how, s->c, ti_near_mul(&r->how, gate[3], h), TERN_TANH));
    const ti_near g[4] = {
        ti_near_back(&r->how, gate[0], ti_near_mul(&r->how, gate[2], c), TERN_SIGMOID),
        ti_near_back(&r->how, gate[1], ti_near_mul(&r->how, c, s->before[1]), TERN_SIGMOID),
        ti_near_back(&r->how, gate[2], ti_near_mul(&r->how, gate[0], c), TERN_TANH),
        ti_near_back(&r->how, gate[3], ti_near_mul(&r->how, s->c, h), TERN_SIGMOID),
    };

    shares->x = shares->h[0] = ti_near_beside(&r->how, 4, g);
    shares->operand[0] = s->before[0];
    to[0] = ti_near_product(&r->how, shares->x, r->w_hh, 0, 4 * r->H);
    to[1] = ti_near_mul(&r->how, gate[1], c);
}

static const ti_cell cell = {2, 4, lstm_forward, lstm_back};

static tern_status lstm_shape(ti_call *c) { return ti_recurrent_shape(c, &cell, true); }
static tern_status lstm_d_shape(ti_call *c) { return ti_recurrent_d_shape(c, &cell, true); }
static tern_status lstm_compose(const ti_call *c, tern_tensor **y)
{
    return ti_recurrent_compose(c, &cell, y);
}
static tern_tensor *lstm_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_bound(c, &cell, i_out, L);
}
static tern_tensor *lstm_d_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_d_bound(c, &cell, i_out, L);
}
static double lstm_flops(const ti_call *c) { return ti_recurrent_flops(c, &cell); }
static double lstm_d_flops(const ti_call *c) { return 2 * lstm_flops(c); }
static void lstm_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* x h0 c0 w_ih w_hh b_ih b_hh lengths */
#define IN(T, N, D, H)                                                                             \
    TI_NORMAL(T, N, D), TI_NORMAL(N, H), TI_NORMAL(N, H), TI_NORMAL(4 * H, D),                     \
        TI_NORMAL(4 * H, H), TI_NORMAL(4 * H), TI_NORMAL(4 * H)
#define BARE(T, N, D, H)                                                                           \
    TI_NORMAL(T, N, D), TI_NOTHING, TI_NOTHING, TI_NORMAL(4 * H, D), TI_NORMAL(4 * H, H),          \
        TI_NOTHING, TI_NOTHING
#define LENGTHS(T, N)                                                                              \
    {                                                                                              \
        TI_DIMS(N), TI_S_INDEX, T + 1                                                              \
    }

static const tern_lstm_opts back = {.reverse = 1};
static const ti_sample lstm_samples[] = {
    {"plain", 8, {IN(4, 5, 3, 6), TI_NOTHING}, NULL},
    {"reverse", 8, {IN(3, 4, 5, 3), TI_NOTHING}, &back},
    {"lengths", 8, {IN(5, 6, 3, 4), LENGTHS(5, 6)}, NULL},
    {"lengths, reverse", 8, {IN(4, 5, 2, 5), LENGTHS(4, 5)}, &back},
    {"one step, bare", 8, {BARE(1, 3, 4, 2), TI_NOTHING}, NULL},
    {"one sequence, odd", 8, {IN(3, 1, 19, 37), TI_NOTHING}, NULL},
    {"no steps", 8, {IN(0, 2, 3, 2), TI_NOTHING}, NULL},
    {"empty batch", 8, {IN(3, 0, 2, 2), TI_NOTHING}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample lstm_d_samples[] = {
    {"plain",
     13,
     {IN(2, 2, 3, 4), TI_NOTHING, TI_NORMAL(2, 2, 4), TI_NORMAL(2, 4), TI_NORMAL(2, 4), TI_NOTHING,
      TI_NOTHING},
     NULL},
    {"reverse, lengths",
     13,
     {IN(3, 3, 2, 2), LENGTHS(3, 3), TI_NORMAL(3, 3, 2), TI_NORMAL(3, 2), TI_NORMAL(3, 2),
      TI_NOTHING, TI_NOTHING},
     &back},
    {"bare, odd",
     13,
     {BARE(2, 17, 18, 19), TI_NOTHING, TI_NORMAL(2, 17, 19), TI_NOTHING, TI_NOTHING, TI_NOTHING,
      TI_NOTHING},
     NULL},
    {"last state only",
     13,
     {IN(2, 1, 2, 2), LENGTHS(2, 1), TI_NOTHING, TI_NOTHING, TI_NORMAL(1, 2), TI_NOTHING,
      TI_NOTHING},
     NULL},
    {"long sums",
     13,
     {BARE(2, 2, 3, 37), TI_NOTHING, TI_NORMAL(2, 2, 37), TI_NOTHING, TI_NOTHING, TI_NOTHING,
      TI_NOTHING},
     NULL},
    {"no steps",
     13,
     {IN(0, 2, 3, 2), TI_NOTHING, TI_NORMAL(0, 2, 2), TI_NORMAL(2, 2), TI_NORMAL(2, 2), TI_NOTHING,
      TI_NOTHING},
     NULL},
    {"empty batch",
     13,
     {IN(3, 0, 2, 2), TI_NOTHING, TI_NORMAL(3, 0, 2), TI_NORMAL(0, 2), TI_NORMAL(0, 2), TI_NOTHING,
      TI_NOTHING},
     NULL},
    TI_SAMPLES_END,
};

static const ti_op lstm = {
    .name = "lstm",
    .n_in = 8,
    .in = {"x", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths"},
    .optional = 3u << 1 | 7u << 5,
    .n_out = 4,
    .out = {{"y", TI_DIFF}, {"h_n", TI_DIFF}, {"c_n", TI_DIFF}, {"reserve", TI_HINT}},
    .saves = 1u | 1u << 3,
    .opts_size = sizeof(tern_lstm_opts),
    .fields = lstm_fields,
    .shape = lstm_shape,
    .grad = lstm_grad,
    .compose = lstm_compose,
    .bound = lstm_bound,
    .samples = lstm_samples,
    .flops = lstm_flops,
};
static const ti_op lstm_d = {
    .name = "lstm_d",
    .n_in = 13,
    .in = {"x", "h0", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths", "gy", "gh", "gc", "y",
           "reserve"},
    .optional = 3u << 1 | 0xffu << 5,
    .n_out = 7,
    .out = {{"dx", TI_DIFF},
            {"dh0", TI_DIFF},
            {"dc0", TI_DIFF},
            {"dw_ih", TI_DIFF},
            {"dw_hh", TI_DIFF},
            {"db_ih", TI_DIFF},
            {"db_hh", TI_DIFF}},
    .opts_size = sizeof(tern_lstm_opts),
    .fields = lstm_fields,
    .shape = lstm_d_shape,
    .grad = ti_composed_grad,
    .composed = &lstm,
    .d_needs = 0xff,
    .bound = lstm_d_bound,
    .samples = lstm_d_samples,
    .flops = lstm_d_flops,
};

/* y enters as a value: it only spares computing it again. */
static void lstm_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *extra[] = {tern_detach(c->ctx, c->out[0]), c->out[3]};

    ti_fused_grad(c, g, d, &lstm_d, 2, extra);
}

const ti_op *const ti_ops_lstm[] = {&lstm, &lstm_d, NULL};

tern_tensor *tern_lstm(tern_ctx *ctx, tern_tensor **h_n, tern_tensor **c_n, tern_tensor *x,
                       tern_tensor *h0, tern_tensor *c0, tern_tensor *w_ih, tern_tensor *w_hh,
                       tern_tensor *b_ih, tern_tensor *b_hh, tern_tensor *lengths,
                       const tern_lstm_opts *opts)
{
    tern_tensor *in[] = {x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths}, *out[TI_OUTS] = {NULL};
    const unsigned outs = 1u | (unsigned)(h_n != NULL) << 1 | (unsigned)(c_n != NULL) << 2;

    if (h_n) *h_n = NULL;
    if (c_n) *c_n = NULL;
    if (ti_apply(ctx, &lstm, opts, 8, in, ti_recurrent_wanted(8, in, outs, 1u << 3), out))
        return NULL;
    if (h_n) *h_n = out[1];
    if (c_n) *c_n = out[2];
    return out[0];
}
