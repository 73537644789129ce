/*
 * recurrent.c - the walk over time that rnn, lstm and gru share, as composition and as bound.
 *
 * Forward: gx = w_ih x + b_ih for all steps at once, then one cell a step; a mask keeps the state
 * of sequences that are over. Back: the same steps in the opposite order. Each value may carry
 * probes of its error (near.h), from which bounds are made.
 */
#include "ops/recurrent.h"

/* ---- Operands ---- */

static ti_recurrence recurrence_of(const ti_call *c, const ti_cell *cell, bool back)
{
    tern_tensor *const *in = c->in;
    ti_recurrence r = {.how = {.ctx = c->ctx}, .cell = cell, .opts = c->opts};

    r.reverse = *(const int *)c->opts != 0; /* all three begin with it */
    r.x = *in++;
    r.h0 = *in++;
    if (cell->states == 2) r.c0 = *in++;
    r.w_ih = *in++;
    r.w_hh = *in++;
    r.b_ih = *in++;
    r.b_hh = *in++;
    r.lengths = *in++;
    if (back) {
        r.gy = *in++;
        r.gh = *in++;
        if (cell->states == 2) r.gc = *in++;
    }
    r.T = r.x->m.shape.dim[0];
    r.N = r.x->m.shape.dim[1];
    r.D = r.x->m.shape.dim[2];
    r.H = r.w_hh->m.shape.dim[1];
    return r;
}

static tern_status fits(const ti_call *c, int against, int i, tern_shape want)
{
    if (!c->in[i] || tern_same_shape(c->in[i]->m.shape, want)) return TERN_OK;
    return ti_misfit(c, against, i);
}

/* Of both ops; *r takes the operands. */
static tern_status check(const ti_call *c, const ti_cell *cell, bool back, ti_recurrence *r)
{
    const int s = cell->states, w_ih = 1 + s, w_hh = 2 + s, lengths = 5 + s;
    const unsigned floats = (1u << lengths) - 1;

    TI_TRY(ti_need_types(c, 0, TI_FLOATS));
    TI_TRY(ti_same_types(c, back ? ~(1u << lengths) : floats));
    TI_TRY(ti_need_types(c, lengths, TI_INDICES));
    TI_TRY(ti_need_rank(c, 0, 3, 3));
    TI_TRY(ti_need_rank(c, w_ih, 2, 2));
    TI_TRY(ti_need_rank(c, w_hh, 2, 2));
    *r = recurrence_of(c, cell, back);
    const tern_shape state = TI_SHAPE(r->N, r->H), rows = TI_SHAPE(cell->gates * r->H);
    if (r->D < 1 || r->H < 1)
        return ti_fail(c->ctx, TERN_E_SHAPE,
                       "%s: %lld features in and %lld in the state: both are "
                       "at least 1",
                       c->op->name, (long long)r->D, (long long)r->H);
    if (r->w_ih->m.shape.dim[1] != r->D) return ti_misfit(c, 0, w_ih);
    TI_TRY(fits(c, w_ih, w_hh, TI_SHAPE(r->w_ih->m.shape.dim[0], r->H)));
    if (r->w_hh->m.shape.dim[0] % cell->gates || r->w_hh->m.shape.dim[0] / cell->gates != r->H)
        return ti_fail(c->ctx, TERN_E_SHAPE,
                       "%s: w_hh has %lld rows, not %d for each of %lld "
                       "columns",
                       c->op->name, (long long)r->w_hh->m.shape.dim[0], cell->gates,
                       (long long)r->H);
    for (int i = 1; i < 1 + s; i++) TI_TRY(fits(c, w_hh, i, state));
    for (int i = 3 + s; i < 5 + s; i++) TI_TRY(fits(c, w_hh, i, rows));
    TI_TRY(fits(c, 0, lengths, TI_SHAPE(r->N)));
    if (!back) return TERN_OK;
    TI_TRY(fits(c, 0, lengths + 1, TI_SHAPE(r->T, r->N, r->H)));
    for (int i = 0; i < s; i++) TI_TRY(fits(c, w_hh, lengths + 2 + i, state));
    return fits(c, 0, lengths + 2 + s, TI_SHAPE(r->T, r->N, r->H));
}

static tern_shape reserve_shape(const ti_recurrence *r) /* four gates, and lstm's c */
{
    return TI_SHAPE(r->T, r->N, (3 + r->cell->states) * r->H);
}

tern_status ti_recurrent_shape(ti_call *c, const ti_cell *cell, bool reserve)
{
    ti_recurrence r;

    TI_TRY(check(c, cell, false, &r));
    const tern_type type = r.x->m.type;
    TI_TRY(ti_countable(c, reserve_shape(&r)));
    c->meta[0] = ti_packed_meta(type, TI_SHAPE(r.T, r.N, r.H));
    for (int i = 0; i < cell->states; i++)
        c->meta[1 + i] = ti_packed_meta(type, TI_SHAPE(r.N, r.H));
    if (reserve) c->meta[1 + cell->states] = ti_packed_meta(type, reserve_shape(&r));
    return TERN_OK;
}

tern_status ti_recurrent_d_shape(ti_call *c, const ti_cell *cell, bool reserve)
{
    ti_recurrence r;
    const tern_type type = c->in[0]->m.type;
    int n = 0;

    TI_TRY(check(c, cell, true, &r));
    if (reserve) TI_TRY(fits(c, 0, 7 + 2 * cell->states + 1, reserve_shape(&r)));
    c->meta[n++] = ti_packed_meta(type, r.x->m.shape);
    for (int i = 0; i < cell->states; i++) c->meta[n++] = ti_packed_meta(type, TI_SHAPE(r.N, r.H));
    c->meta[n++] = ti_packed_meta(type, r.w_ih->m.shape);
    c->meta[n++] = ti_packed_meta(type, r.w_hh->m.shape);
    for (int i = 0; i < 2; i++) c->meta[n++] = ti_packed_meta(type, TI_SHAPE(cell->gates * r.H));
    return TERN_OK;
}

double ti_recurrent_flops(const ti_call *c, const ti_cell *cell)
{
    const ti_recurrence r = recurrence_of(c, cell, false);

    return 2.0 * (double)r.T * (double)r.N * (double)(r.D + r.H) * (double)(cell->gates * r.H);
}

unsigned ti_recurrent_wanted(int n_in, tern_tensor *const *in, unsigned outs, unsigned hints)
{
    bool tracked = false;

    for (int i = 0; i < n_in; i++) tracked |= tern_is_tracked(in[i]);
    return tracked ? outs | hints : outs;
}

/* ---- The walk ---- */

/* Sequences that reach step t; NULL: all. */
static tern_tensor *reach(const ti_recurrence *r, int64_t t)
{
    if (!r->lengths) return NULL;
    tern_tensor *now = tern_fill(r->how.ctx, r->lengths->m.type, TI_SCALAR, (double)t);
    return tern_reshape(r->how.ctx, tern_lt(r->how.ctx, now, r->lengths), TI_SHAPE(r->N, 1));
}

static ti_near zero_state(const ti_recurrence *r)
{
    return (ti_near){.v = tern_fill(r->how.ctx, r->x->m.type, TI_SHAPE(r->N, r->H), 0)};
}

static ti_near given_or_zero(const ti_recurrence *r, tern_tensor *t)
{
    return t ? (ti_near){.v = t} : zero_state(r);
}

/* Step t of [T,N,X] as [N,X]. */
static tern_tensor *at_step(const ti_recurrence *r, tern_tensor *x, int64_t t)
{
    if (!x) return NULL;
    x = tern_slice(r->how.ctx, x, &(tern_slice_opts){.axis = 0, .from = t, .count = 1});
    return tern_reshape(r->how.ctx, x, TI_SHAPE(r->N, tern_shape_of(x).dim[2]));
}

/* x at step t, zeros where the sequence is over: what lies there counts for nothing, not even as
 * NaN. */
static ti_near x_at(const ti_recurrence *r, int64_t t, tern_tensor *mask)
{
    tern_tensor *x = at_step(r, r->x, t);

    return (ti_near){.v =
                         mask ? tern_where(r->how.ctx, mask, x, ti_constant(r->how.ctx, x, 0)) : x};
}

/* The i-th step to be taken. */
static int64_t step_at(const ti_recurrence *r, int64_t i) { return r->reverse ? r->T - 1 - i : i; }

/* What steps do at the same place draws the same shared numbers; the way back has its own. */
static void begin_step(const ti_recurrence *r, bool back)
{
    if (r->how.errors) r->how.count->place = back ? 1000 : 0;
}

/* state: before and after. keep: all steps, by time; or NULL. */
static void forward(const ti_recurrence *r, ti_near state[2], ti_near *y, ti_step *keep)
{
    const int64_t rows = r->cell->gates * r->H;
    const ti_near zero = {.v = ti_constant(r->how.ctx, r->x, 0)};

    state[0] = given_or_zero(r, r->h0);
    state[1] = r->cell->states == 2 ? given_or_zero(r, r->c0) : (ti_near){.v = NULL};
    for (int64_t i = 0; i < r->T && !tern_error(r->how.ctx); i++) {
        const int64_t t = step_at(r, i);
        ti_step own, *s = keep ? keep + t : &own;
        ti_near to[2];

        begin_step(r, false);
        s->mask = reach(r, t);
        for (int k = 0; k < 2; k++) s->before[k] = state[k];
        const ti_near gx = ti_near_linear(&r->how, x_at(r, t, s->mask), r->w_ih, r->b_ih, 0, rows);
        r->cell->forward(r, gx, state, to, s);
        y[t] = s->mask ? ti_near_chosen(&r->how, s->mask, to[0], zero) : to[0];
        for (int k = 0; k < r->cell->states; k++)
            state[k] = ti_near_chosen(&r->how, s->mask, to[k], state[k]);
    }
}

/* The bound for a value [N,X] with such probes. */
static tern_tensor *bound_of(const ti_recurrence *r, ti_near a)
{
    if (a.e) return ti_near_reach(r->how.ctx, a.e);
    return tern_fill(r->how.ctx, a.v->m.type, a.v->m.shape, 0);
}

/* [N,X] of each step, or their bounds, as [T,N,X]. */
static tern_tensor *all_steps(const ti_recurrence *r, const ti_near *a, bool error, int64_t width)
{
    tern_tensor **list, *y = NULL;

    if (r->T == 0) return tern_fill(r->how.ctx, r->x->m.type, TI_SHAPE(0, r->N, width), 0);
    if (!(list = ti_alloc(r->how.ctx, (size_t)r->T * sizeof *list))) return NULL;
    for (int64_t t = 0; t < r->T; t++)
        list[t] =
            tern_reshape(r->how.ctx, error ? bound_of(r, a[t]) : a[t].v, TI_SHAPE(1, r->N, width));
    if (!tern_error(r->how.ctx)) y = tern_concat(r->how.ctx, (int)r->T, list, 0);
    ti_free(r->how.ctx, list);
    return y;
}

tern_status ti_recurrent_compose(const ti_call *c, const ti_cell *cell, tern_tensor **y)
{
    const ti_recurrence r = recurrence_of(c, cell, false);
    ti_near state[2], *out = ti_alloc(c->ctx, (size_t)r.T * sizeof *out);

    if (!out) return tern_error(c->ctx);
    forward(&r, state, out, NULL);
    if (!tern_error(c->ctx)) {
        y[0] = all_steps(&r, out, false, r.H);
        for (int i = 0; i < cell->states; i++) y[1 + i] = state[i].v;
    }
    ti_free(c->ctx, out);
    return tern_error(c->ctx);
}

/* ---- Bounds ---- */

/* The longest chain of a row, and where random numbers begin. */
static void ask_errors(ti_recurrence *r, ti_near_count *count, double L)
{
    r->how.errors = true;
    r->how.chain = L;
    r->how.beside = (r->D > r->H ? r->D : r->H) + 2; /* x, h, and two biases */
    r->how.count = count;
}

tern_tensor *ti_recurrent_bound(const ti_call *c, const ti_cell *cell, int i_out, double L)
{
    ti_recurrence r = recurrence_of(c, cell, false);
    ti_near_count count = {0};
    ti_near state[2], *out = ti_alloc(c->ctx, (size_t)r.T * sizeof *out);
    tern_tensor *bound = NULL;

    ask_errors(&r, &count, L);
    if (!out) return NULL;
    forward(&r, state, out, NULL);
    if (!tern_error(c->ctx))
        bound = i_out == 0 ? all_steps(&r, out, true, r.H) : bound_of(&r, state[i_out - 1]);
    ti_free(c->ctx, out);
    return bound;
}

/* Which derivative is wanted. */
typedef enum { DX, DH0, DC0, DW_IH, DW_HH, DB_IH, DB_HH } wanted;

/* What step t adds to the error of a derivative in a weight or a bias; for w_hh in pieces. */
static void add_share(const ti_recurrence *r, wanted what, const ti_shares *s, ti_near x,
                      ti_near_sum to[2])
{
    const bool by_x = what == DW_IH || what == DB_IH;

    for (int i = 0; i < (by_x ? 1 : s->n); i++) {
        const ti_near g = by_x ? s->x : s->h[i], operand = by_x ? x : s->operand[i];
        to[i] = ti_near_both(r->how.ctx, to[i],
                             what >= DB_IH ? ti_near_sums(&r->how, g)
                                           : ti_near_outer(&r->how, g, operand));
    }
}

/* The bound of such a sum, its pieces one below the other; NULL: no step was made. */
static tern_tensor *bound_of_sum(const ti_recurrence *r, const ti_near_sum piece[2])
{
    tern_ctx *ctx = r->how.ctx;
    const double scale = ti_near_scale(&r->how, r->T * r->N);
    tern_tensor *bound[2];
    int n = 0;

    for (; n < 2 && piece[n].size; n++)
        bound[n] = ti_near_reach(
            ctx, ti_near_rounded(&r->how, piece[n].e, tern_scale(ctx, piece[n].size, scale)));
    return n == 2 ? tern_concat(ctx, 2, bound, 0) : n == 1 ? bound[0] : NULL;
}

/* Back through all steps; dx: one a step. Returns the bound of a sum over the steps, if one is
 * wanted. */
static tern_tensor *backward(const ti_recurrence *r, wanted what, const ti_step *keep, ti_near d[2],
                             ti_near *dx)
{
    const ti_near zero = {.v = ti_constant(r->how.ctx, r->x, 0)};
    ti_near_sum sum[2] = {{NULL, NULL}, {NULL, NULL}};

    for (int64_t i = r->T; i-- > 0 && !tern_error(r->how.ctx);) {
        const int64_t t = step_at(r, i);
        const ti_step *s = keep + t;
        ti_near from[2] = {d[0], d[1]}, to[2] = {{.v = NULL}, {.v = NULL}};
        ti_shares shares = {.n = 1};

        begin_step(r, true);
        if (r->gy) from[0] = ti_near_add(&r->how, from[0], (ti_near){.v = at_step(r, r->gy, t)});
        for (int k = 0; k < 2 && from[k].v && s->mask; k++)
            from[k] = ti_near_chosen(&r->how, s->mask, from[k], zero);
        r->cell->back(r, s, from, to, &shares);
        for (int k = 0; k < 2 && to[k].v; k++) d[k] = ti_near_chosen(&r->how, s->mask, to[k], d[k]);
        if (what == DX)
            dx[t] = ti_near_product(&r->how, shares.x, r->w_ih, 0, r->cell->gates * r->H);
        if (what >= DW_IH) add_share(r, what, &shares, x_at(r, t, s->mask), sum);
    }
    return what >= DW_IH && !tern_error(r->how.ctx) ? bound_of_sum(r, sum) : NULL;
}

tern_tensor *ti_recurrent_d_bound(const ti_call *c, const ti_cell *cell, int i_out, double L)
{
    ti_recurrence r = recurrence_of(c, cell, true);
    const wanted what = (wanted)(cell->states == 1 && i_out >= DC0 ? i_out + 1 : i_out);
    ti_near_count count = {0};
    ti_near state[2], d[2], *list = ti_alloc(c->ctx, (size_t)r.T * sizeof *list);
    ti_step *keep = ti_alloc(c->ctx, (size_t)r.T * sizeof *keep);
    tern_tensor *bound = NULL;

    ask_errors(&r, &count, L);
    if (list && keep) {
        forward(&r, state, list, keep);
        d[0] = given_or_zero(&r, r.gh);
        d[1] = cell->states == 2 ? given_or_zero(&r, r.gc) : (ti_near){.v = NULL};
        bound = backward(&r, what, keep, d, list);
        if (what == DX && !tern_error(c->ctx)) bound = all_steps(&r, list, true, r.D);
        else if (what <= DC0 && !tern_error(c->ctx)) bound = bound_of(&r, d[what - DH0]);
        else if (!bound && c->out[i_out])
            bound = tern_fill(c->ctx, c->out[i_out]->m.type, c->out[i_out]->m.shape, 0);
    }
    ti_free(c->ctx, keep);
    ti_free(c->ctx, list);
    return tern_error(c->ctx) ? NULL : bound;
}

/* ---- rnn ---- */

static const ti_field rnn_fields[] = {
    TI_FIELD(tern_rnn_opts, TI_INT, reverse, 1, 0),
    {.name = "act",
     .type = TI_INT,
     .count = 1,
     .offset = offsetof(tern_rnn_opts, act),
     .otherwise = TERN_TANH,
     .names = "none|relu|tanh|sigmoid"},
    {0},
};

static int act_of(const void *opts) { return ((const tern_rnn_opts *)opts)->act; }

static void rnn_forward(const ti_recurrence *r, ti_near gx, const ti_near *from, ti_near *to,
                        ti_step *keep)
{
    const ti_near gh = ti_near_linear(&r->how, from[0], r->w_hh, r->b_hh, 0, r->H);

    to[0] = keep->gate[0] = ti_near_act(&r->how, ti_near_add(&r->how, gx, gh), act_of(r->opts));
}

static void rnn_back(const ti_recurrence *r, const ti_step *s, const ti_near *d, ti_near *to,
                     ti_shares *shares)
{
    shares->x = shares->h[0] = ti_near_back(&r->how, s->gate[0], d[0], act_of(r->opts));
    shares->operand[0] = s->before[0];
    to[0] = ti_near_product(&r->how, shares->x, r->w_hh, 0, r->H);
}

static const ti_cell rnn_cell = {1, 1, rnn_forward, rnn_back};

static tern_status check_act(const ti_call *c)
{
    const int act = act_of(c->opts);

    if (act == TERN_TANH || act == TERN_RELU) return TERN_OK;
    return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: act %d is neither %d (relu) nor %d (tanh)",
                   c->op->name, act, TERN_RELU, TERN_TANH);
}

static tern_status rnn_shape(ti_call *c)
{
    TI_TRY(check_act(c));
    return ti_recurrent_shape(c, &rnn_cell, false);
}
static tern_status rnn_d_shape(ti_call *c)
{
    TI_TRY(check_act(c));
    return ti_recurrent_d_shape(c, &rnn_cell, false);
}
static tern_status rnn_compose(const ti_call *c, tern_tensor **y)
{
    return ti_recurrent_compose(c, &rnn_cell, y);
}
static tern_tensor *rnn_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_bound(c, &rnn_cell, i_out, L);
}
static tern_tensor *rnn_d_bound(const ti_call *c, int i_out, double L)
{
    return ti_recurrent_d_bound(c, &rnn_cell, i_out, L);
}
static double rnn_flops(const ti_call *c) { return ti_recurrent_flops(c, &rnn_cell); }
static double rnn_d_flops(const ti_call *c) { return 2 * rnn_flops(c); }
static void rnn_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d);

/* x h0 w_ih w_hh b_ih b_hh lengths */
#define IN(T, N, D, H)                                                                             \
    TI_NORMAL(T, N, D), TI_NORMAL(N, H), TI_NORMAL(H, D), TI_NORMAL(H, H), TI_NORMAL(H),           \
        TI_NORMAL(H)
#define BARE(T, N, D, H)                                                                           \
    TI_NORMAL(T, N, D), TI_NOTHING, TI_NORMAL(H, D), TI_NORMAL(H, H), TI_NOTHING, TI_NOTHING
#define LENGTHS(T, N)                                                                              \
    {                                                                                              \
        TI_DIMS(N), TI_S_INDEX, T + 1                                                              \
    }

static const tern_rnn_opts back = {.reverse = 1}, relu = {.act = TERN_RELU},
                           relu_back = {.reverse = 1, .act = TERN_RELU};
static const ti_sample rnn_samples[] = {
    {"tanh", 7, {IN(4, 5, 3, 6), TI_NOTHING}, NULL},
    {"relu, reverse", 7, {IN(3, 4, 5, 3), TI_NOTHING}, &relu_back},
    {"lengths", 7, {IN(5, 6, 3, 4), LENGTHS(5, 6)}, NULL},
    {"lengths, reverse", 7, {IN(4, 5, 2, 5), LENGTHS(4, 5)}, &back},
    {"one step, bare", 7, {BARE(1, 3, 4, 2), TI_NOTHING}, &relu},
    {"one sequence, odd", 7, {IN(3, 1, 19, 37), TI_NOTHING}, NULL},
    {"no steps", 7, {IN(0, 2, 3, 2), TI_NOTHING}, NULL},
    {"empty batch", 7, {IN(3, 0, 2, 2), TI_NOTHING}, NULL},
    TI_SAMPLES_END,
};
static const ti_sample rnn_d_samples[] = {
    {"tanh",
     10,
     {IN(3, 2, 3, 4), TI_NOTHING, TI_NORMAL(3, 2, 4), TI_NORMAL(2, 4), TI_NOTHING},
     NULL},
    {"relu, reverse, lengths",
     10,
     {IN(3, 3, 2, 3), LENGTHS(3, 3), TI_NORMAL(3, 3, 3), TI_NORMAL(3, 3), TI_NOTHING},
     &relu_back},
    {"bare, odd",
     10,
     {BARE(2, 17, 18, 19), TI_NOTHING, TI_NORMAL(2, 17, 19), TI_NOTHING, TI_NOTHING},
     NULL},
    {"last state only",
     10,
     {IN(2, 1, 2, 2), LENGTHS(2, 1), TI_NOTHING, TI_NORMAL(1, 2), TI_NOTHING},
     NULL},
    {"long sums",
     10,
     {BARE(2, 2, 3, 130), TI_NOTHING, TI_NORMAL(2, 2, 130), TI_NOTHING, TI_NOTHING},
     NULL},
    {"no steps",
     10,
     {IN(0, 2, 3, 2), TI_NOTHING, TI_NORMAL(0, 2, 2), TI_NORMAL(2, 2), TI_NOTHING},
     NULL},
    {"empty batch",
     10,
     {IN(3, 0, 2, 2), TI_NOTHING, TI_NORMAL(3, 0, 2), TI_NORMAL(0, 2), TI_NOTHING},
     NULL},
    TI_SAMPLES_END,
};

static const ti_op rnn = {
    .name = "rnn",
    .n_in = 7,
    .in = {"x", "h0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths"},
    .optional = 1u << 1 | 7u << 4,
    .n_out = 2,
    .out = {{"y", TI_DIFF}, {"h_n", TI_DIFF}},
    .saves = 1,
    .opts_size = sizeof(tern_rnn_opts),
    .fields = rnn_fields,
    .shape = rnn_shape,
    .grad = rnn_grad,
    .compose = rnn_compose,
    .bound = rnn_bound,
    .samples = rnn_samples,
    .flops = rnn_flops,
};
static const ti_op rnn_d = {
    .name = "rnn_d",
    .n_in = 10,
    .in = {"x", "h0", "w_ih", "w_hh", "b_ih", "b_hh", "lengths", "gy", "gh", "y"},
    .optional = 1u << 1 | 077u << 4,
    .n_out = 6,
    .out = {{"dx", TI_DIFF},
            {"dh0", TI_DIFF},
            {"dw_ih", TI_DIFF},
            {"dw_hh", TI_DIFF},
            {"db_ih", TI_DIFF},
            {"db_hh", TI_DIFF}},
    .opts_size = sizeof(tern_rnn_opts),
    .fields = rnn_fields,
    .shape = rnn_d_shape,
    .grad = ti_composed_grad,
    .composed = &rnn,
    .d_needs = 0x7f,
    .bound = rnn_d_bound,
    .samples = rnn_d_samples,
    .flops = rnn_d_flops,
};

/* y enters as a value: it only spares computing it again. */
static void rnn_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_tensor *y = tern_detach(c->ctx, c->out[0]);

    ti_fused_grad(c, g, d, &rnn_d, 1, &y);
}

const ti_op *const ti_ops_recurrent[] = {&rnn, &rnn_d, NULL};

tern_tensor *tern_rnn(tern_ctx *ctx, tern_tensor **h_n, tern_tensor *x, tern_tensor *h0,
                      tern_tensor *w_ih, tern_tensor *w_hh, tern_tensor *b_ih, tern_tensor *b_hh,
                      tern_tensor *lengths, const tern_rnn_opts *opts)
{
    tern_tensor *out[TI_OUTS] = {NULL};

    if (h_n) *h_n = NULL;
    if (ti_apply(ctx, &rnn, opts, 7, TI_IN(x, h0, w_ih, w_hh, b_ih, b_hh, lengths), h_n ? 3 : 1,
                 out))
        return NULL;
    if (h_n) *h_n = out[1];
    return out[0];
}
