/*
 * recurrent.c - rnn, lstm and gru layers: stacks of one-way operations.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tern/nn.h"

typedef enum { RNN, LSTM, GRU } kind;

typedef struct {
    kind what;
    tern_nn_rnn_opts o;
    int64_t d, h;
    int layers, ways;
} recurrent_state;

static const char *const names[] = {"rnn", "lstm", "gru"};
static const int gates[] = {1, 4, 3};

/* "weight_ih_l0_reverse" */
static const char *name_of(char text[48], const char *what, int layer, int way)
{
    snprintf(text, 48, "%s_l%d%s", what, layer, way ? "_reverse" : "");
    return text;
}

/* ---- Calls ---- */

/* States of layer and way i out of [S,N,H]; NULL stays. */
static tern_tensor *state_at(tern_ctx *ctx, tern_tensor *all, int i)
{
    if (!all) return NULL;
    const tern_shape s = tern_shape_of(all);
    tern_tensor *one = tern_slice(ctx, all, &(tern_slice_opts){.from = i, .count = 1});
    return tern_reshape(ctx, one, (tern_shape){2, {s.dim[1], s.dim[2]}});
}

typedef struct {
    tern_tensor *h0, *c0, *lengths; /* of all layers */
    tern_tensor *h[2], *c[2];       /* results of the layer at hand */
} states;

static tern_tensor *one_way(tern_ctx *ctx, tern_module *m, const recurrent_state *s, int layer,
                            int way, tern_tensor *x, states *st)
{
    static const char *const what[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const int i = layer * s->ways + way, n = s->o.no_bias ? 2 : 4;
    tern_tensor *h0 = state_at(ctx, st->h0, i), *c0 = state_at(ctx, st->c0, i), *w[4] = {NULL};
    char text[48];

    for (int k = 0; k < n; k++)
        w[k] = tern_read(ctx, tern_module_var(ctx, m, name_of(text, what[k], layer, way)));
    if (tern_error(ctx)) return NULL;
    switch (s->what) {
    case LSTM:
        return tern_lstm(ctx, &st->h[way], &st->c[way], x, h0, c0, w[0], w[1], w[2], w[3],
                         st->lengths, &(tern_lstm_opts){.reverse = way});
    case GRU:
        return tern_gru(ctx, &st->h[way], x, h0, w[0], w[1], w[2], w[3], st->lengths,
                        &(tern_gru_opts){.reverse = way, .reset_before = s->o.reset_before});
    default:
        return tern_rnn(ctx, &st->h[way], x, h0, w[0], w[1], w[2], w[3], st->lengths,
                        &(tern_rnn_opts){.reverse = way, .act = s->o.act});
    }
}

static tern_tensor *swap_axes(tern_ctx *ctx, tern_tensor *x)
{
    return tern_permute(ctx, x, &(tern_permute_opts){{1, 0, 2}});
}

static tern_status check_call(tern_ctx *ctx, tern_module *m, const recurrent_state *s,
                              tern_tensor *x, const states *st)
{
    const tern_shape got = tern_shape_of(x);
    const tern_shape want = {3, {s->layers * s->ways, got.dim[s->o.batch_first ? 0 : 1], s->h}};
    tern_tensor *const given[] = {st->h0, st->c0};
    char a[160], b[160];

    if (tern_error(ctx)) return tern_error(ctx);
    if (got.rank != 3 || got.dim[2] != s->d)
        return tern_fail(ctx, TERN_E_SHAPE, "%s: %s is not [%s,%lld]",
                         *tern_module_path(m) ? tern_module_path(m) : names[s->what],
                         tern_shape_text(a, got), s->o.batch_first ? "N,T" : "T,N",
                         (long long)s->d);
    if (st->c0 && s->what != LSTM)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: it has no second state c0", names[s->what]);
    for (int i = 0; i < 2; i++)
        if (given[i] && !tern_same_shape(tern_shape_of(given[i]), want))
            return tern_fail(ctx, TERN_E_SHAPE, "%s: %s is %s, wanted: %s", names[s->what],
                             i ? "c0" : "h0", tern_shape_text(a, tern_shape_of(given[i])),
                             tern_shape_text(b, want));
    return TERN_OK;
}

/* all[i] takes the states of layer and way i. */
static tern_tensor *through(tern_ctx *ctx, tern_module *m, tern_tensor *x, states *st,
                            tern_tensor **all_h, tern_tensor **all_c)
{
    const recurrent_state *s = tern_module_state(m);
    tern_tensor *y = s->o.batch_first ? swap_axes(ctx, x) : x;

    for (int layer = 0; layer < s->layers && y; layer++) {
        tern_tensor *out[2] = {NULL, NULL};

        if (layer && s->o.dropout > 0) y = tern_forward(ctx, tern_module_child(m, layer - 1), y);
        for (int way = 0; way < s->ways; way++) {
            if (!(out[way] = one_way(ctx, m, s, layer, way, y, st))) return NULL;
            if (all_h) all_h[layer * s->ways + way] = st->h[way];
            if (all_c) all_c[layer * s->ways + way] = st->c[way];
        }
        y = s->ways == 2 ? tern_concat(ctx, 2, out, 2) : out[0];
    }
    if (s->o.last) return s->ways == 2 ? tern_concat(ctx, 2, st->h, 1) : st->h[0];
    return s->o.batch_first ? swap_axes(ctx, y) : y;
}

static tern_tensor *recurrent_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    states st = {NULL};

    return check_call(ctx, m, tern_module_state(m), x, &st) ? NULL
                                                            : through(ctx, m, x, &st, NULL, NULL);
}

/* n states [N,H] as [n,N,H]. */
static tern_tensor *stacked(tern_ctx *ctx, int n, tern_tensor **list)
{
    for (int i = 0; i < n; i++) {
        const tern_shape s = tern_shape_of(list[i]);
        list[i] = tern_reshape(ctx, list[i], (tern_shape){3, {1, s.dim[0], s.dim[1]}});
    }
    return tern_error(ctx) ? NULL : tern_concat(ctx, n, list, 0);
}

tern_tensor *tern_forward_recurrent(tern_ctx *ctx, tern_module *m, tern_tensor **h_n,
                                    tern_tensor **c_n, tern_tensor *x, tern_tensor *h0,
                                    tern_tensor *c0, tern_tensor *lengths)
{
    states st = {.h0 = h0, .c0 = c0, .lengths = lengths};
    tern_tensor **h = NULL, **c = NULL, *y = NULL;
    const recurrent_state *s = NULL;

    if (h_n) *h_n = NULL;
    if (c_n) *c_n = NULL;
    if (tern_error(ctx)) return NULL;
    for (int i = 0; m && i < 3; i++)
        if (strcmp(tern_module_kind(m), names[i]) == 0) s = tern_module_state(m);
    if (!s || !x || (c_n && s->what != LSTM)) {
        tern_fail(ctx, TERN_E_ARGUMENT,
                  "forward_recurrent: an rnn, lstm or gru module and x are wanted, and c_n of an "
                  "lstm only");
        return NULL;
    }
    if (tern_module_finish(ctx, m) || check_call(ctx, m, s, x, &st)) return NULL;
    const int n = s->layers * s->ways;
    h = tern_alloc(ctx, (size_t)n * sizeof *h);
    c = tern_alloc(ctx, (size_t)n * sizeof *c);
    if (h && c && (y = through(ctx, m, x, &st, h, c)) != NULL) {
        if (h_n) *h_n = stacked(ctx, n, h);
        if (c_n) *c_n = stacked(ctx, n, c);
    }
    tern_free(ctx, h);
    tern_free(ctx, c);
    return tern_error(ctx) ? NULL : y;
}

/* ---- Making them ---- */

static int64_t recurrent_flops(const tern_module *m, tern_shape x, tern_shape y)
{
    const recurrent_state *s = tern_module_state((tern_module *)m);
    int64_t per_step = 0;

    (void)y;
    for (int i = 0; i < s->layers; i++)
        per_step += s->ways * gates[s->what] * s->h * ((i ? s->ways * s->h : s->d) + s->h);
    return 2 * per_step * x.dim[0] * x.dim[1];
}

static tern_status params(tern_module *m, const recurrent_state *s, int layer, int way)
{
    const double bound = 1 / sqrt((double)s->h);
    const int64_t rows = gates[s->what] * s->h, d = layer ? s->ways * s->h : s->d;
    const tern_init plain = {.kind = TERN_INIT_UNIFORM, .a = -bound, .b = bound};
    const tern_init ih = s->o.weight_ih.kind ? s->o.weight_ih : plain;
    const tern_init hh = s->o.weight_hh.kind ? s->o.weight_hh : plain;
    tern_init bias = plain;
    tern_status status;
    char text[48];

    if ((status = tern_module_param(m, name_of(text, "weight_ih", layer, way),
                                    (tern_shape){2, {rows, d}}, &ih)) ||
        (status = tern_module_param(m, name_of(text, "weight_hh", layer, way),
                                    (tern_shape){2, {rows, s->h}}, &hh)) ||
        s->o.no_bias)
        return status;
    if (s->o.has_forget_bias) { /* the second gate; the two biases are added */
        bias.from = bias.count = s->h;
        bias.value = s->o.forget_bias;
    }
    if ((status = tern_module_param(m, name_of(text, "bias_ih", layer, way),
                                    (tern_shape){1, {rows}}, &bias)))
        return status;
    bias.value = 0;
    return tern_module_param(m, name_of(text, "bias_hh", layer, way), (tern_shape){1, {rows}},
                             &bias);
}

static bool fits(tern_ctx *ctx, const recurrent_state *s)
{
    const tern_nn_rnn_opts *o = &s->o;
    const char *what = NULL;
    const int64_t most = (int64_t)1 << 30;

    if (s->d < 1 || s->h < 1 || s->d > most || s->h > most)
        what = "features in and in the state are at least 1";
    else if (s->layers < 1 || s->layers > 1024) what = "layers are 1 to 1024";
    else if (!(o->dropout >= 0 && o->dropout < 1)) what = "dropout is at least 0 and below 1";
    else if (o->act && (s->what != RNN || (o->act != TERN_TANH && o->act != TERN_RELU)))
        what = "only rnn has an activation, tanh or relu";
    else if (o->reset_before && s->what != GRU) what = "only gru has a reset gate";
    else if (o->has_forget_bias && (s->what != LSTM || o->no_bias || !isfinite(o->forget_bias)))
        what = "a forget bias is finite, and for an lstm with biases";
    if (what) tern_fail(ctx, TERN_E_ARGUMENT, "%s: %s", names[s->what], what);
    return !what;
}

static tern_module *make(tern_ctx *ctx, kind what, int64_t d, int64_t h,
                         const tern_nn_rnn_opts *opts)
{
    recurrent_state s = {.what = what, .d = d, .h = h};
    char text[80];

    if (tern_error(ctx)) return NULL;
    if (opts) s.o = *opts;
    s.layers = s.o.layers ? s.o.layers : 1;
    s.ways = s.o.bidirectional ? 2 : 1;
    if (!fits(ctx, &s)) return NULL;
    tern_module *m = tern_module_new(ctx, names[what], recurrent_forward, &s, sizeof s);
    if (!m) return NULL;
    for (int i = 0; i < s.layers * s.ways; i++)
        if (params(m, &s, i / s.ways, i % s.ways)) return NULL;
    for (int i = 1; i < s.layers && s.o.dropout > 0; i++)
        if (tern_module_add(m, tern_nn_dropout(ctx, s.o.dropout))) return NULL;
    size_t n = (size_t)snprintf(text, sizeof text, "%s %lld", names[what], (long long)h);
    if (s.layers > 1) n += (size_t)snprintf(text + n, sizeof text - n, ", %d layers", s.layers);
    snprintf(text + n, sizeof text - n, "%s%s%s", s.ways == 2 ? ", both ways" : "",
             s.o.act == TERN_RELU ? ", relu" : "", s.o.last ? ", last state" : "");
    tern_module_flops(m, recurrent_flops);
    return tern_module_describe(m, text) ? NULL : m;
}

tern_module *tern_nn_rnn(tern_ctx *ctx, int64_t d, int64_t h, const tern_nn_rnn_opts *opts)
{
    return make(ctx, RNN, d, h, opts);
}
tern_module *tern_nn_lstm(tern_ctx *ctx, int64_t d, int64_t h, const tern_nn_rnn_opts *opts)
{
    return make(ctx, LSTM, d, h, opts);
}
tern_module *tern_nn_gru(tern_ctx *ctx, int64_t d, int64_t h, const tern_nn_rnn_opts *opts)
{
    return make(ctx, GRU, d, h, opts);
}

/* ---- Rows of images ---- */

static tern_tensor *rows_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);
    char text[160];

    if (s.rank != 4) {
        tern_fail(ctx, TERN_E_SHAPE, "%s: [N,C,H,W] is wanted, not %s", tern_module_path(m),
                  tern_shape_text(text, s));
        return NULL;
    }
    x = tern_permute(ctx, x, &(tern_permute_opts){{0, 2, 1, 3}});
    return tern_reshape(ctx, x, (tern_shape){3, {s.dim[0], s.dim[2], s.dim[1] * s.dim[3]}});
}

tern_module *tern_nn_rows(tern_ctx *ctx)
{
    return tern_module_new(ctx, "rows", rows_forward, NULL, 0);
}
