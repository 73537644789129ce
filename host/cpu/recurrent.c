/*
 * recurrent.c - rnn, lstm, gru in f32, and their derivatives.
 *
 * Weights are packed once a call; chunks of sequences then run through time on their own, so
 * threads meet only at the end. The derivatives in the weights are products over all steps and
 * sequences at once; those in the biases are added up in double, groups of sequences in order.
 * Where y or the reserve of the forward pass is missing it is computed again.
 */
#include <math.h>
#include <string.h>

#include "cpu/fast.h"
#include "cpu/simd/recurrent.h"

enum { CHUNK = 64 }; /* most sequences of a chunk: their panels stay in L2 */

/* A call; places in scratch are NULL while only their size is asked. */
typedef struct {
    const ti_work *w;
    const ti_recurrent_loops *loops;
    ti_recurrent r;
    int states, n_threads;
    bool back, again; /* again: forward first */
    int64_t chunk, gates;
    int64_t *lengths;
    float *clean; /* x, zeros where a sequence is over */
    char *own;    /* of each thread */
    size_t own_bytes;
    void *product; /* scratch of gemm */
} call;

static const float *given(const ti_view *v) { return v->count >= 0 ? TI_F(*v) : NULL; }
static float *asked(const ti_view *v) { return v->count >= 0 ? TI_F(*v) : NULL; }

static ti_r_kind kind_of(const ti_work *w)
{
    switch (w->op->name[0]) {
    case 'l': return TI_R_LSTM;
    case 'g': return ((const tern_gru_opts *)w->opts)->reset_before ? TI_R_GRU_BEFORE : TI_R_GRU;
    default: return ((const tern_rnn_opts *)w->opts)->act == TERN_RELU ? TI_R_RELU : TI_R_TANH;
    }
}

static void operands(call *k)
{
    const ti_view *in = k->w->in, *out = k->w->out;
    ti_recurrent *r = &k->r;
    const int s = k->states;

    r->x = TI_F(in[0]);
    r->h0 = given(&in[1]);
    r->c0 = s == 2 ? given(&in[2]) : NULL;
    r->w_ih = TI_F(in[1 + s]);
    r->w_hh = TI_F(in[2 + s]);
    r->b_ih = given(&in[3 + s]);
    r->b_hh = given(&in[4 + s]);
    if (!k->back) {
        r->y = asked(&out[0]);
        r->h_n = asked(&out[1]);
        if (s == 2) r->c_n = asked(&out[2]);
        if (k->gates > 1) r->reserve = asked(&out[1 + s]);
        return;
    }
    r->gy = given(&in[6 + s]);
    r->gh = given(&in[7 + s]);
    if (s == 2) r->gc = given(&in[8 + s]);
    if (!k->again) r->y = asked(&in[6 + 2 * s + 1]);
    if (!k->again && k->gates > 1) r->reserve = asked(&in[6 + 2 * s + 2]);
    r->dx = asked(&out[0]);
    r->dh0 = r->h0 ? asked(&out[1]) : NULL;
    r->dc0 = r->c0 ? asked(&out[2]) : NULL;
}

/* The derivatives in the weights: dg' x and dg' h, sums over all steps and sequences. */
typedef struct {
    ti_gemm g;
    const float *a, *b;
    float *c;
} product;

static void weigh(const call *k, product *p, int64_t from, int64_t rows, const float *b,
                  int64_t ldb, int64_t columns, float *c)
{
    const ti_recurrent *r = &k->r;

    *p = (product){.g = {.m = rows,
                         .n = columns,
                         .k = r->T * r->N,
                         .a_rs = 1,
                         .a_cs = ti_r_width(r),
                         .b_rs = ldb,
                         .b_cs = 1,
                         .ldc = columns},
                   .a = r->dg ? r->dg + from : NULL,
                   .b = b,
                   .c = c};
    ti_matrix(p->g.m, p->g.k, &p->g.a_rs, &p->g.a_cs);
    ti_matrix(p->g.k, p->g.n, &p->g.b_rs, &p->g.b_cs);
}

static int products(const call *k, product *p)
{
    const ti_recurrent *r = &k->r;
    const ti_view *out = k->w->out;
    const int64_t H = r->H, D = r->D;
    const int s = k->states;
    float *const dw_ih = asked(&out[1 + s]), *const dw_hh = asked(&out[2 + s]);
    int n = 0;

    if (out[1 + s].count >= 0)
        weigh(k, &p[n++], 0, k->gates * H, k->clean ? k->clean : r->x, D, D, dw_ih);
    if (out[2 + s].count < 0) return n;
    weigh(k, &p[n++], 0, (k->gates == 3 ? 2 : k->gates) * H, r->h_prev, H, H, dw_hh);
    if (k->gates != 3) return n;
    float *const rest = dw_hh ? dw_hh + 2 * H * H : NULL;
    if (r->kind == TI_R_GRU) weigh(k, &p[n++], 3 * H, H, r->h_prev, H, H, rest);
    else weigh(k, &p[n++], 2 * H, H, r->reserve ? r->reserve + 3 * H : NULL, 4 * H, H, rest);
    return n;
}

static size_t product_scratch(const call *k)
{
    product p[3];
    size_t most = 0;

    for (int n = products(k, p); n-- > 0;) {
        const size_t one = ti_cpu_simd(k->w->device)->gemm_scratch(&p[n].g, k->n_threads);
        if (one > most) most = one;
    }
    return most;
}

/* The next `bytes` of scratch, or NULL while only sizes are asked. */
static void *take(char *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;

    *used += (bytes + 63) / 64 * 64;
    return at;
}

static size_t lay_out(call *k, char *base)
{
    ti_recurrent *r = &k->r;
    const size_t steps = (size_t)(r->T * r->N), H = (size_t)r->H, f = sizeof(float);
    size_t used = 0, weights = 0;

    if (k->w->in[5 + k->states].count >= 0) {
        k->lengths = take(base, &used, (size_t)r->N * sizeof(int64_t));
        if (k->back) k->clean = take(base, &used, steps * (size_t)r->D * f);
    }
    if (k->again) r->y = take(base, &used, steps * H * f);
    if (k->again && k->gates > 1)
        r->reserve = take(base, &used, steps * (k->gates == 4 ? 5 : 4) * H * f);
    if (k->back) {
        r->dg = take(base, &used, steps * (size_t)ti_r_width(r) * f);
        r->h_prev = take(base, &used, steps * H * f);
        r->db = take(base, &used, (size_t)(ti_r_groups(r) * ti_r_width(r)) * sizeof(double));
        weights = k->loops->packed(r, true);
    }
    if ((!k->back || k->again) && k->loops->packed(r, false) > weights)
        weights = k->loops->packed(r, false);
    r->packed = take(base, &used, weights * f);
    k->own_bytes = (k->loops->scratch(r, k->chunk) + 63) / 64 * 64;
    k->own = take(base, &used, (size_t)k->n_threads * k->own_bytes);
    if (k->back) {
        const size_t bytes = product_scratch(k);
        k->product = take(base, &used, bytes);
    }
    return used;
}

/* Chunks: enough for the threads, even, whole groups. */
static int64_t chunk_of(int64_t n, int n_threads)
{
    int64_t parts = (n + CHUNK - 1) / CHUNK, each;

    if (parts < n_threads) parts = n_threads;
    each = (n + parts - 1) / parts;
    each = (each + TI_R_GROUP - 1) / TI_R_GROUP * TI_R_GROUP;
    return each < TI_R_GROUP ? TI_R_GROUP : each;
}

static call call_of(const ti_work *w)
{
    const ti_r_kind kind = kind_of(w);
    call k = {.w = w,
              .loops = ti_recurrent_loops_for(ti_cpu_simd(w->device)->name),
              .states = kind == TI_R_LSTM ? 2 : 1,
              .n_threads = ti_threads_count(ti_cpu_threads(w->device)),
              .gates = kind == TI_R_LSTM  ? 4
                       : kind >= TI_R_GRU ? 3
                                          : 1};
    const tern_shape *x = &w->in[0].m.shape;

    k.back = w->n_in > 6 + k.states;
    k.again = k.back && (w->in[7 + 2 * k.states].count < 0 ||
                         (k.gates > 1 && w->in[8 + 2 * k.states].count < 0));
    k.r = (ti_recurrent){.kind = kind,
                         .reverse = *(const int *)w->opts != 0, /* all three begin with it */
                         .T = x->dim[0],
                         .N = x->dim[1],
                         .D = x->dim[2],
                         .H = w->in[2 + k.states].m.shape.dim[1]};
    k.chunk = chunk_of(k.r.N, k.n_threads);
    return k;
}

static size_t scratch(const ti_work *w)
{
    call k = call_of(w);

    return lay_out(&k, NULL);
}

static void read_lengths(call *k)
{
    const ti_view *v = &k->w->in[5 + k->states];

    for (int64_t i = 0; i < k->r.N; i++) {
        int64_t n = v->m.type == TERN_I32 ? ((const int32_t *)(const void *)v->data)[i]
                                          : ((const int64_t *)(const void *)v->data)[i];
        if (n < 0 || n > k->r.T) {
            ti_raise(k->w, i, n, k->r.T + 1);
            n = 0;
        }
        k->lengths[i] = n;
    }
    k->r.lengths = k->lengths;
}

static void clean_x(const call *k)
{
    const ti_recurrent *r = &k->r;
    const size_t bytes = (size_t)r->D * sizeof(float);

    for (int64_t i = 0; i < r->T * r->N; i++) {
        float *to = k->clean + i * r->D;
        if (i / r->N < k->lengths[i % r->N]) memcpy(to, r->x + i * r->D, bytes);
        else memset(to, 0, bytes);
    }
}

static void pack_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const call *k = arg;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) k->loops->pack(&k->r, false, i);
}
static void pack_back_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const call *k = arg;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) k->loops->pack(&k->r, true, i);
}
static void forward_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const call *k = arg;

    k->loops->forward(&k->r, from, to, k->own + (size_t)i_worker * k->own_bytes);
}
static void back_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const call *k = arg;

    k->loops->backward(&k->r, from, to, k->own + (size_t)i_worker * k->own_bytes);
}

static void run_forward(call *k)
{
    const int64_t each = ti_items_of((double)(k->r.D + k->r.H) * 5);

    ti_run_ranges(k->w->device, k->loops->pieces(&k->r, false), each, pack_some, k);
    ti_run_ranges(k->w->device, k->r.N, k->chunk, forward_some, k);
}

static void forward(const ti_work *w)
{
    call k = call_of(w);

    operands(&k);
    lay_out(&k, w->scratch);
    if (k.lengths) read_lengths(&k);
    run_forward(&k);
}

/* Groups in order; columns of b_hh: gru has its own for n. */
static void sum_bias(const call *k, int i_out, bool hidden)
{
    const ti_recurrent *r = &k->r;
    const ti_view *out = &k->w->out[i_out];
    const int64_t wide = ti_r_width(r), groups = ti_r_groups(r), H = r->H;

    for (int64_t j = 0; j < k->gates * H; j++) {
        const int64_t column = hidden && r->kind == TI_R_GRU && j >= 2 * H ? j + H : j;
        double sum = 0;
        for (int64_t i = 0; i < groups; i++) sum += r->db[i * wide + column];
        TI_F(*out)[j] = (float)sum;
    }
}

/* Results for operands that are absent: zeros. */
static void nothing(const ti_view *out)
{
    if (out->count > 0) memset(out->data, 0, (size_t)out->count * sizeof(float));
}

static void backward(const ti_work *w)
{
    call k = call_of(w);
    ti_recurrent *r = &k.r;
    const int s = k.states;
    product p[3];

    operands(&k);
    lay_out(&k, w->scratch);
    if (k.lengths) read_lengths(&k);
    if (k.lengths) clean_x(&k);
    if (k.again) run_forward(&k);
    memset(r->db, 0, (size_t)(ti_r_groups(r) * ti_r_width(r)) * sizeof *r->db);
    ti_run_ranges(w->device, k.loops->pieces(r, true), ti_items_of((double)(r->D + r->H) * 5),
                  pack_back_some, &k);
    ti_run_ranges(w->device, r->N, k.chunk, back_some, &k);
    for (int i = 0, n = products(&k, p); i < n; i++)
        ti_cpu_simd(w->device)->gemm(ti_cpu_threads(w->device), &p[i].g, p[i].a, p[i].b, p[i].c,
                                     k.product);
    for (int i = 0; i < 2; i++) {
        if (w->out[3 + s + i].count < 0) continue;
        if (w->in[3 + s + i].count < 0) nothing(&w->out[3 + s + i]);
        else sum_bias(&k, 3 + s + i, i == 1);
    }
    for (int i = 1; i <= s; i++)
        if (w->in[i].count < 0) nothing(&w->out[i]);
}

/* ---- Rows ---- */

static const char *rejects(const ti_work *w) { return ti_all_f32(w) ? NULL : "takes f32"; }

static double work_of(const ti_work *w)
{
    const call k = call_of(w);
    const ti_recurrent *r = &k.r;

    return (double)r->T * (double)r->N * (double)(k.gates * r->H) * (double)(r->D + r->H);
}
static double cost(const ti_work *w) { return 2000 + 0.025 * work_of(w); }
static double cost_back(const ti_work *w) { return 4000 + 0.05 * work_of(w); }

/* Slices as in gemm, over two padded parts; then bias and the other part of gru. */
static double chain(const ti_work *w)
{
    const call k = call_of(w);

    return (double)ti_cpu_simd(w->device)->gemm_chain(k.r.D + k.r.H) + 2;
}
static double chain_back(const ti_work *w)
{
    const call k = call_of(w);
    const ti_simd *g = ti_cpu_simd(w->device);
    const double sums = fmax((double)g->gemm_chain(k.r.T * k.r.N), TI_R_GROUP + 1);

    return fmax(fmax(chain(w), (double)g->gemm_chain(k.gates * k.r.H) + 2), sums);
}

#define M TI_ROW_MAJOR
#define PACKED                                                                                     \
    {                                                                                              \
        M, M, M, M, M, M, M, M, M, M, M, M, M                                                      \
    }
#define ROW(name)                                                                                  \
    {                                                                                              \
        .op = #name, .impl = "panels", .reject = rejects, .cost = cost, .want = PACKED,            \
        .scratch = scratch, .run = forward, .chain = chain, .numbers = TI_REORDERED                \
    }
#define ROW_D(name)                                                                                \
    {                                                                                              \
        .op = #name, .impl = "panels", .reject = rejects, .cost = cost_back, .want = PACKED,       \
        .scratch = scratch, .run = backward, .chain = chain_back, .numbers = TI_REORDERED          \
    }

const ti_row ti_cpu_recurrent[] = {
    ROW(rnn), ROW(lstm), ROW(gru), ROW_D(rnn_d), ROW_D(lstm_d), ROW_D(gru_d), {.op = NULL},
};
