/*
 * gru.c - one GRU layer in one direction, and its derivative, for both places of the reset gate.
 */
#include "ops/recurrent.h"

static const ti_field gru_fields[] = {TI_FIELD(tern_gru_opts, TI_INT, reverse, 1, 0),
                                      TI_FIELD(tern_gru_opts, TI_INT, reset_before, 1, 0),
                                      {0}};

static bool before(const ti_recurrence *r)
{
    return ((const tern_gru_opts *)r->opts)->reset_before != 0;
}

/* gate: r, z, n, and what the reset gate acts on (after) or makes (before) */
static void gru_forward(const ti_recurrence *r, ti_near gx, const ti_near *from, ti_near *to,
                        ti_step *keep)
{
    const int64_t H = r->H;
    const ti_near x_rz = ti_near_columns(&r->how, gx, 0, 2 * H),
                  x_n = ti_near_columns(&r->how, gx, 2 * H, H);
    const ti_near rz = ti_near_act(
        &r->how,
        ti_near_add(&r->how, x_rz, ti_near_linear(&r->how, from[0], r->w_hh, r->b_hh, 0, 2 * H)),
        TERN_SIGMOID);
    ti_near *gate = keep->gate, h_n;

    gate[0] = ti_near_columns(&r->how, rz, 0, H);
    gate[1] = ti_near_columns(&r->how, rz, H, H);
    if (before(r)) {
        gate[3] = ti_near_mul(&r->how, gate[0], from[0]);
        h_n = ti_near_linear(&r->how, gate[3], r->w_hh, r->b_hh, 2 * H, H);
    } else {
        gate[3] = ti_near_linear(&r->how, from[0], r->w_hh, r->b_hh, 2 * H, H);
        h_n = ti_near_mul(&r->how, gate[0], gate[3]);
    }
    gate[2] = ti_near_act(&r->how, ti_near_add(&r->how, x_n, h_n), TERN_TANH);
    to[0] = ti_near_add(&r->how, ti_near_mul(&r->how, ti_near_rest(&r->how, gate[1]), gate[2]),
                        ti_near_mul(&r->how, gate[1], from[0]));
}

static void gru_back(const ti_recurrence *r, const ti_step *s, const ti_near *d, ti_near *to,
                     ti_shares *shares)
{
    const int64_t H = r->H;
    const ti_near *gate = s->gate, h = s->before[0];
    const ti_near n = ti_near_back(
        &r->how, gate[2], ti_near_mul(&r->how, ti_near_rest(&r->how, gate[1]), d[0]), TERN_TANH);
    const ti_near z = ti_near_back(
        &r->how, gate[1],
        ti_near_mul(&r->how, ti_near_add(&r->how, h, ti_near_neg(&r->how, gate[2])), d[0]),
        TERN_SIGMOID);
    const ti_near d_h = ti_near_mul(&r->how, gate[1], d[0]);
    ti_near reset, direct = d_h;

    if (before(r)) {
        const ti_near d_rh = ti_near_product(&r->how, n, r->w_hh, 2 * H, H);
        reset = ti_near_back(&r->how, gate[0], ti_near_mul(&r->how, d_rh, h), TERN_SIGMOID);
        direct = ti_near_add(&r->how, d_h, ti_near_mul(&r->how, gate[0], d_rh));
    } else {
        reset = ti_near_back(&r->how, gate[0], ti_near_mul(&r->how, n, gate[3]), TERN_SIGMOID);
    }
    shares->x = ti_near_beside(&r->how, 3, (ti_near[]){reset, z, n});
    shares->n = 2;
    shares->h[0] = ti_near_beside(&r->how, 2, (ti_near[]){reset, z});
    shares->operand[0] = h;
    shares->h[1] = before(r) ? n : ti_near_mul(&r->how, gate[0], n);
    shares->operand[1] = before(r) ? gate[3] : h;
    to[0] = ti_near_add(&r->how, direct, ti_near_product(&r->how, shares->h[0], r->w_hh, 0, 2 * H));
    if (!before(r))
        to[0] =
            ti_near_add(&r->how, to[0], ti_near_product(&r->how, shares->h[1], r->w_hh, 2 * H, H));
}

static const ti_cell cell = {1, 3, gru_forward, gru_back};

static tern_status gru_shape(ti_call *c) { return ti_recurrent_shape(c, &cell, true); }
static tern_status gru_d_shape(ti_call *c) { return ti_recurrent_d_shape(c, &cell, true); }
static tern_status gru_compose(const ti_call *c, tern_tensor **y)
{
    return ti_recurrent_compose(c, &cell, y);
}
static tern_tensor *gru_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_bound(c, &cell, i_out, L);
}
static tern_tensor *gru_d_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_d_bound(c, &cell, i_out, L);
}
static double gru_flops(const ti_call *c) { return ti_recurrent_flops(c, &cell); }
static double gru_d_flops(const ti_call *c) { return 2 * gru_flops(c); }
static void gru_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* x h0 w_ih w_hh b_ih b_hh lengths */
#define IN(T, N, D, H)                                                                             \
    TI_NORMAL(T, N, D), TI_NORMAL(N, H), TI_NORMAL(3 * H, D), TI_NORMAL(3 * H, H),                 \
        TI_NORMAL(3 * H), TI_NORMAL(3 * H)
#define BARE(T, N, D, H)                                                                           \
    TI_NORMAL(T, N, D), TI_NOTHING, TI_NORMAL(3 * H, D), TI_NORMAL(3 * H, H), TI_NOTHING, TI_NOTHING
#define LENGTHS(T, N)                                                                              \
    {                                                                                              \
        TI_DIMS(N), TI_S_INDEX, T + 1                                                              \
    }

static const tern_gru_opts back = {.reverse = 1}, reset = {.reset_before = 1},
                           reset_back = {.reverse = 1, .reset_before = 1};
static const ti_sample gru_samples[] = {
    {"after", 7, {IN(4, 5, 3, 6), TI_NOTHING}, NULL},
    {"before", 7, {IN(4, 5, 3, 6), TI_NOTHING}, &reset},
    {"reverse", 7, {IN(3, 4, 5, 3), TI_NOTHING}, &back},
    {"lengths", 7, {IN(5, 6, 3, 4), LENGTHS(5, 6)}, NULL},
    {"before, lengths, reverse", 7, {IN(4, 5, 2, 5), LENGTHS(4, 5)}, &reset_back},
    {"one step, bare", 7, {BARE(1, 3, 4, 2), TI_NOTHING}, NULL},
    {"one sequence, odd", 7, {IN(3, 1, 19, 37), TI_NOTHING}, NULL},
    {"before, odd, bare", 7, {BARE(2, 3, 17, 18), TI_NOTHING}, &reset},
    {"no steps", 7, {IN(0, 2, 3, 2), TI_NOTHING}, NULL},
    {"empty batch", 7, {IN(3, 0, 2, 2), TI_NOTHING}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample gru_d_samples[] = {
    {"after",
     11,
     {IN(2, 2, 3, 4), TI_NOTHING, TI_NORMAL(2, 2, 4), TI_NORMAL(2, 4), TI_NOTHING, TI_NOTHING},
     NULL},
    {"before",
     11,
     {IN(2, 2, 3, 4), TI_NOTHING, TI_NORMAL(2, 2, 4), TI_NORMAL(2, 4), TI_NOTHING, TI_NOTHING},
     &reset},
    {"reverse, lengths",
     11,
     {IN(3, 3, 2, 2), LENGTHS(3, 3), TI_NORMAL(3, 3, 2), TI_NORMAL(3, 2), TI_NOTHING, TI_NOTHING},
     &back},
    {"bare, odd",
     11,
     {BARE(2, 17, 18, 19), TI_NOTHING, TI_NORMAL(2, 17, 19), TI_NOTHING, TI_NOTHING, TI_NOTHING},
     NULL},
    {"before, odd, last state only",
     11,
     {IN(2, 3, 17, 18), LENGTHS(2, 3), TI_NOTHING, TI_NORMAL(3, 18), TI_NOTHING, TI_NOTHING},
     &reset},
    {"long sums",
     11,
     {BARE(2, 2, 3, 45), TI_NOTHING, TI_NORMAL(2, 2, 45), TI_NOTHING, TI_NOTHING, TI_NOTHING},
     NULL},
    {"no steps",
     11,
     {IN(0, 2, 3, 2), TI_NOTHING, TI_NORMAL(0, 2, 2), TI_NORMAL(2, 2), TI_NOTHING, TI_NOTHING},
     NULL},
    {"empty batch",
     11,
     {IN(3, 0, 2, 2), TI_NOTHING, TI_NORMAL(3, 0, 2), TI_NORMAL(0, 2), TI_NOTHING, TI_NOTHING},
     NULL},
    TI_SAMPLES_END,
};

static const ti_op gru = {
    .name = "gru",
    .n_in = 7,
    .in = {"x", "h0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths"},
    .optional = 1u << 1 | 7u << 4,
    .n_out = 3,
    .out = {{"y", TI_DIFF}, {"h_n", TI_DIFF}, {"reserve", TI_HINT}},
    .saves = 1u | 1u << 2,
    .opts_size = sizeof(tern_gru_opts),
    .fields = gru_fields,
    .shape = gru_shape,
    .grad = gru_grad,
    .compose = gru_compose,
    .bound = gru_bound,
    .samples = gru_samples,
    .flops = gru_flops,
};
static const ti_op gru_d = {
    .name = "gru_d",
    .n_in = 11,
    .in = {"x", "h0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths", "gy", "gh", "y", "reserve"},
    .optional = 1u << 1 | 0x7fu << 4,
    .n_out = 6,
    .out = {{"dx", TI_DIFF},
            {"dh0", TI_DIFF},
            {"dw_ih", TI_DIFF},
            {"dw_hh", TI_DIFF},
            {"db_ih", TI_DIFF},
            {"db_hh", TI_DIFF}},
    .opts_size = sizeof(tern_gru_opts),
    .fields = gru_fields,
    .shape = gru_d_shape,
    .grad = ti_composed_grad,
    .composed = &gru,
    .d_needs = 0x7f,
    .bound = gru_d_bound,
    .samples = gru_d_samples,
    .flops = gru_d_flops,
};

/* y enters as a value: it only spares computing it again. */
static void gru_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *extra[] = {tern_detach(c->ctx, c->out[0]), c->out[2]};

    ti_fused_grad(c, g, d, &gru_d, 2, extra);
}

const ti_op *const ti_ops_gru[] = {&gru, &gru_d, NULL};

tern_tensor *tern_gru(tern_ctx *ctx, tern_tensor **h_n, tern_tensor *x, tern_tensor *h0,
                      tern_tensor *w_ih, tern_tensor *w_hh, tern_tensor *b_ih, tern_tensor *b_hh,
                      tern_tensor *lengths, const tern_gru_opts *opts)
{
    tern_tensor *in[] = {x, h0, w_ih, w_hh, b_ih, b_hh, lengths}, *out[TI_OUTS] = {NULL};
    const unsigned outs = 1u | (unsigned)(h_n != NULL) << 1;

    if (h_n) *h_n = NULL;
    if (ti_apply(ctx, &gru, opts, 7, in, ti_recurrent_wanted(7, in, outs, 1u << 2), out))
        return NULL;
    if (h_n) *h_n = out[1];
    return out[0];
}
