/*
 * recurrent.c - the time loops of rnn, lstm and gru (recurrent.h).
 *
 * Forward: A = [x[t] | h] in panels, depth padded to whole vectors for each part; the weights are
 * packed likewise, so that one product a step gives what the gates need (gru: two or three). Back:
 * A holds the gates' derivatives, products with w_ih and w_hh give dx[t] and dh. Products in slices
 * of SLICE, each summed from zero.
 */
#include "cpu/simd/recurrent.h"

#include "cpu/simd/functions.h"
#include "cpu/simd/pack.h"
#include "panel.h"

INLINE int64_t padded(int64_t n) { return round_up(n, VL); }

/* ---- Products and their packed weights ---- */

enum { MOST = 3 };

/* Forward: rows row … row+n of the weights, times x or h or both; to column `to` of the gates.
 * Back: w_ih (x) or w_hh, all columns; `count` gates of the weights, which lie in A from slot
 * `slot` on. */
typedef struct {
    int64_t row, n, to, depth;
    bool x, h;
    int slot, count, gate[4];
    const float *b;
} product;

static int forward_list(const ti_recurrent *r, product *p)
{
    const int64_t H = r->H;
    int n = 0;

    switch (r->kind) {
    case TI_R_LSTM: p[n++] = (product){.n = 4 * H, .x = true, .h = true}; break;
    case TI_R_GRU:
        p[n++] = (product){.n = 2 * H, .x = true, .h = true};
        p[n++] = (product){.row = 2 * H, .n = H, .to = 2 * H, .x = true};
        p[n++] = (product){.row = 2 * H, .n = H, .to = 3 * H, .h = true};
        break;
    case TI_R_GRU_BEFORE:
        p[n++] = (product){.n = 2 * H, .x = true, .h = true};
        p[n++] = (product){.row = 2 * H, .n = H, .to = 2 * H, .x = true, .h = true};
        break;
    default: p[n++] = (product){.n = H, .x = true, .h = true};
    }
    for (int i = 0; i < n; i++) p[i].depth = (p[i].x ? padded(r->D) : 0) + (p[i].h ? padded(H) : 0);
    return n;
}

/* dx first. Slots of A: gru n, r, z and (after) that of w_hn h + b_hn; else as the gates stand. */
static int backward_list(const ti_recurrent *r, product *p)
{
    int n = 0;

    switch (r->kind) {
    case TI_R_LSTM:
        p[n++] = (product){.x = true, .count = 4, .gate = {0, 1, 2, 3}};
        p[n++] = (product){.count = 4, .gate = {0, 1, 2, 3}};
        break;
    case TI_R_GRU:
        p[n++] = (product){.x = true, .count = 3, .gate = {2, 0, 1}};
        p[n++] = (product){.slot = 1, .count = 3, .gate = {0, 1, 2}};
        break;
    case TI_R_GRU_BEFORE:
        p[n++] = (product){.x = true, .count = 3, .gate = {2, 0, 1}};
        p[n++] = (product){.slot = 1, .count = 2, .gate = {0, 1}};
        p[n++] = (product){.count = 1, .gate = {2}};
        break;
    default: p[n++] = (product){.x = true, .count = 1}; p[n++] = (product){.count = 1};
    }
    for (int i = 0; i < n; i++) {
        p[i].n = p[i].x ? r->D : r->H;
        p[i].depth = p[i].count * padded(r->H);
    }
    return n;
}

static int list_of(const ti_recurrent *r, bool back, product *p)
{
    const int n = back ? backward_list(r, p) : forward_list(r, p);
    const float *b = r->packed;

    for (int i = 0; i < n; i++) {
        p[i].b = b;
        if (b) b += ceil_div(p[i].n, NR) * NR * p[i].depth;
    }
    return n;
}

static size_t packed(const ti_recurrent *r, bool back)
{
    product p[MOST];
    size_t sum = 0;
    const int n = list_of(r, back, p);

    for (int i = 0; i < n; i++) sum += (size_t)(ceil_div(p[i].n, NR) * NR * p[i].depth);
    return sum + VL; /* transposes write whole vectors */
}

static int64_t pieces(const ti_recurrent *r, bool back)
{
    product p[MOST];
    int64_t sum = 0;
    const int n = list_of(r, back, p);

    for (int i = 0; i < n; i++) sum += ceil_div(p[i].n, NR);
    return sum;
}

static void clear(float *at, int64_t n)
{
    for (int64_t i = 0; i < n; i++) at[i] = 0;
}

/* Rows of w as columns of B, the depth padded with zeros. Returns B behind them. */
static float *pack_rows(const float *w, int64_t depth, int64_t n, float *b)
{
    for (int64_t i = 0; i < n; i += VL)
        pack_transposed(w + i * depth, depth, min_of(VL, n - i), depth, b + i, NR);
    clear(b + depth * NR, (padded(depth) - depth) * NR);
    return b + padded(depth) * NR;
}

static void pack(const ti_recurrent *r, bool back, int64_t i)
{
    product list[MOST], *p = list;
    const int64_t H = r->H;

    list_of(r, back, list);
    while (i >= ceil_div(p->n, NR)) i -= ceil_div(p++->n, NR);
    const int64_t first = i * NR, n = min_of(NR, p->n - first);
    float *b = r->packed + (p->b - r->packed) + first * p->depth;

    if (!back) {
        if (p->x) b = pack_rows(r->w_ih + (p->row + first) * r->D, r->D, n, b);
        if (p->h) pack_rows(r->w_hh + (p->row + first) * H, H, n, b);
        return;
    }
    const float *w = p->x ? r->w_ih : r->w_hh;
    const int64_t ld = p->n;
    for (int k = 0; k < p->count; k++, b += padded(H) * NR) {
        pack_straight(w + p->gate[k] * H * ld + first, ld, n, H, b, NR);
        clear(b + H * NR, (padded(H) - H) * NR);
    }
}

/* ---- Chunks ---- */

/* Sequences from … from+n, and what they need besides the operands. */
typedef struct {
    const ti_recurrent *r;
    int64_t from, n, D, H;
    product list[MOST];
    float *a;             /* panels */
    float *gates, *h, *c; /* [n][5H], [n][H], [n][H]: what the results do not keep; c back: dc */
    float *d, *direct, *inner, *sum; /* [n][H]; sum: [4H] */
    float *bias, *zero, *waste;      /* [4H], [H], [H] */
    float **row;
    const float **h_at, **c_at;
} chunk;

static size_t lay_out(chunk *c, const ti_recurrent *r, int64_t n, char *at)
{
    const int64_t H = r->H, depth = max_of(padded(r->D) + padded(H), 4 * padded(H));
    const int64_t floats[] = {n * depth, n * 5 * H, n * H, n * H, n * H, n * H,
                              n * H,     4 * H,     4 * H, H,     H};
    float **const to[] = {&c->a,     &c->gates, &c->h,    &c->c,    &c->d,    &c->direct,
                          &c->inner, &c->sum,   &c->bias, &c->zero, &c->waste};
    size_t used = 0;

    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        *to[i] = at ? (float *)(void *)(at + used) : NULL;
        used += (size_t)round_up(floats[i] * (int64_t)sizeof(float), 64);
    }
    for (int i = 0; i < 3; i++) {
        void *list = at ? at + used : NULL;
        if (i == 0) c->row = list;
        else if (i == 1) c->h_at = list;
        else c->c_at = list;
        used += (size_t)round_up(n * (int64_t)sizeof(float *), 64);
    }
    return used;
}

static size_t scratch(const ti_recurrent *r, int64_t n)
{
    chunk c;

    return lay_out(&c, r, n, NULL);
}

static void open_chunk(chunk *c, const ti_recurrent *r, bool back, int64_t from, int64_t to,
                       void *memory)
{
    *c = (chunk){.r = r, .from = from, .n = to - from, .D = r->D, .H = r->H};
    lay_out(c, r, c->n, memory);
    list_of(r, back, c->list);
    clear(c->zero, c->H);
}

INLINE bool runs(const chunk *c, int64_t t, int64_t i)
{
    return !c->r->lengths || t < c->r->lengths[c->from + i];
}
/* Row of sequence i at step t in [T][N][…]. */
INLINE int64_t place(const chunk *c, int64_t t, int64_t i) { return t * c->r->N + c->from + i; }

/* n rows, `width` wide and ld apart, into panels. */
static void into_panels(int64_t n, int64_t width, const float *x, int64_t ld, float *a)
{
    for (int64_t d = 0; d < width; d += VL, a += n * VL) {
        const vmask m = v_lanes(width - d);
        for (int64_t i = 0; i < n; i++) v_store(a + i * VL, v_load_m(x + i * ld + d, m));
    }
}
static void rows_into_panels(int64_t n, int64_t width, const float *const *x, float *a)
{
    for (int64_t d = 0; d < width; d += VL, a += n * VL) {
        const vmask m = v_lanes(width - d);
        for (int64_t i = 0; i < n; i++) v_store(a + i * VL, v_load_m(x[i] + d, m));
    }
}

/* A (its part x, h or both) times product k, + bias, to rows of ld from y on. */
static void multiply(const chunk *c, int k, float *y, int64_t ld, const float *bias)
{
    const product *p = &c->list[k];
    const float *a = c->a + (p->x ? 0 : padded(c->D) * c->n);

    for (int64_t i = 0; i < c->n; i++) c->row[i] = y + i * ld + p->to;
    panel_nn_rows(c->n, p->n, p->depth, a, c->n, p->b, c->row, bias ? bias + p->to : NULL, false);
}

/* ---- Gates, forward: one row each ---- */

static void rnn_gates(bool relu, int64_t n, const float *a, float *h)
{
    if (relu) {
        INDEPENDENT for (int64_t j = 0; j < n; j++) h[j] = a[j] <= 0 ? 0.0f : a[j];
    } else {
        INDEPENDENT for (int64_t j = 0; j < n; j++) h[j] = f_tanh(a[j]);
    }
}

static void lstm_gates(int64_t n, float *a, const float *c, float *c_new, float *h)
{
    float *const ai = a, *const af = a + n, *const ag = a + 2 * n, *const ao = a + 3 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float i = f_sigmoid(ai[j]), f = f_sigmoid(af[j]), o = f_sigmoid(ao[j]);
        const float g = f_tanh(ag[j]), s = FMA(f, c[j], i * g);

        ai[j] = i;
        af[j] = f;
        ag[j] = g;
        ao[j] = o;
        c_new[j] = s;
        h[j] = o * f_tanh(s);
    }
}

/* Reset after: a = r, z, w_in x + b_in, w_hn h + b_hn. */
static void gru_gates(int64_t n, float *a, const float *h, float *h_new)
{
    float *const ar = a, *const az = a + n, *const an = a + 2 * n, *const inner = a + 3 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float r = f_sigmoid(ar[j]), z = f_sigmoid(az[j]);
        const float y = f_tanh(FMA(r, inner[j], an[j]));

        ar[j] = r;
        az[j] = z;
        an[j] = y;
        h_new[j] = FMA(z, h[j] - y, y);
    }
}

/* Reset before: first r, z and r h, then n and h'. */
static void reset_gates(int64_t n, float *a, const float *h)
{
    float *const ar = a, *const az = a + n, *const rh = a + 3 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float r = f_sigmoid(ar[j]);

        ar[j] = r;
        az[j] = f_sigmoid(az[j]);
        rh[j] = r * h[j];
    }
}
static void new_gates(int64_t n, float *a, const float *h, float *h_new)
{
    float *const az = a + n, *const an = a + 2 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float y = f_tanh(an[j]);

        an[j] = y;
        h_new[j] = FMA(az[j], h[j] - y, y);
    }
}

/* ---- Forward ---- */

/* Biases, as the products want them: columns of the gates. */
static void sum_bias(const chunk *c)
{
    const ti_recurrent *r = c->r;
    const bool after = r->kind == TI_R_GRU;
    const int64_t all = r->kind == TI_R_LSTM ? 4 * c->H : r->kind >= TI_R_GRU ? 3 * c->H : c->H;
    const int64_t both = after ? 2 * c->H : all;

    for (int64_t j = 0; j < all; j++)
        c->bias[j] = (r->b_ih ? r->b_ih[j] : 0) + (r->b_hh && (j < both) ? r->b_hh[j] : 0);
    for (int64_t j = 0; after && j < c->H; j++)
        c->bias[3 * c->H + j] = r->b_hh ? r->b_hh[2 * c->H + j] : 0;
}

static int64_t wide(const ti_recurrent *r) /* a row of gates */
{
    return r->kind == TI_R_LSTM ? 5 * r->H : r->kind >= TI_R_GRU ? 4 * r->H : r->H;
}

static void step_forward(const chunk *c, int64_t t)
{
    const ti_recurrent *r = c->r;
    const int64_t n = c->n, D = c->D, H = c->H, ld = wide(r);
    const bool has_bias = r->b_ih || r->b_hh;
    const float *const bias = has_bias ? c->bias : NULL;
    float *const gates = r->reserve ? r->reserve + place(c, t, 0) * ld : c->gates;
    float *const h_part = c->a + padded(D) * n;

    into_panels(n, D, r->x + place(c, t, 0) * D, D, c->a);
    rows_into_panels(n, H, c->h_at, h_part);
    multiply(c, 0, gates, ld, bias);
    if (r->kind == TI_R_GRU) {
        multiply(c, 1, gates, ld, bias);
        multiply(c, 2, gates, ld, bias);
    } else if (r->kind == TI_R_GRU_BEFORE) {
        for (int64_t i = 0; i < n; i++) reset_gates(H, gates + i * ld, c->h_at[i]);
        into_panels(n, H, gates + 3 * H, ld, h_part);
        multiply(c, 1, gates, ld, bias);
    }
    for (int64_t i = 0; i < n; i++) {
        float *const a = gates + i * ld, *const y = r->y ? r->y + place(c, t, i) * H : c->h + i * H;
        float *const s = r->reserve ? a + 4 * H : c->c + i * H;

        if (!runs(c, t, i)) {
            if (r->y) clear(y, H);
            if (r->reserve) clear(a, ld);
            continue;
        }
        switch (r->kind) {
        case TI_R_LSTM:
            lstm_gates(H, a, c->c_at[i], s, y);
            c->c_at[i] = s;
            break;
        case TI_R_GRU: gru_gates(H, a, c->h_at[i], y); break;
        case TI_R_GRU_BEFORE: new_gates(H, a, c->h_at[i], y); break;
        default: rnn_gates(r->kind == TI_R_RELU, H, a, y);
        }
        c->h_at[i] = y;
    }
}

static void forward(const ti_recurrent *r, int64_t from, int64_t to, void *memory)
{
    chunk c;
    const size_t bytes = (size_t)r->H * sizeof(float);

    open_chunk(&c, r, false, from, to, memory);
    sum_bias(&c);
    for (int64_t i = 0; i < c.n; i++) {
        c.h_at[i] = r->h0 ? r->h0 + (from + i) * c.H : c.zero;
        c.c_at[i] = r->c0 ? r->c0 + (from + i) * c.H : c.zero;
    }
    for (int64_t i = 0; i < r->T; i++) step_forward(&c, r->reverse ? r->T - 1 - i : i);
    for (int64_t i = 0; i < c.n; i++) {
        if (r->h_n) memcpy(r->h_n + (from + i) * c.H, c.h_at[i], bytes);
        if (r->c_n) memcpy(r->c_n + (from + i) * c.H, c.c_at[i], bytes);
    }
}

/* ---- Gates, back: one row each. d and direct: what came from later steps; g: from y ---- */

static void rnn_back(bool relu, int64_t n, const float *h, const float *g, const float *d,
                     float *to)
{
    if (relu) {
        INDEPENDENT for (int64_t j = 0; j < n; j++) to[j] = h[j] > 0 ? g[j] + d[j] : 0.0f;
    } else {
        INDEPENDENT for (int64_t j = 0; j < n; j++) to[j] = (g[j] + d[j]) * FMA(-h[j], h[j], 1.0f);
    }
}

static void lstm_back(int64_t n, const float *a, const float *c, const float *g, const float *d,
                      float *dc, float *to)
{
    const float *const ai = a, *const af = a + n, *const ag = a + 2 * n, *const ao = a + 3 * n;
    const float *const s = a + 4 * n;
    float *const di = to, *const df = to + n, *const dg = to + 2 * n, *const d_o = to + 3 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float i = ai[j], f = af[j], z = ag[j], o = ao[j], t = f_tanh(s[j]);
        const float dh = g[j] + d[j], e = FMA(dh * o, FMA(-t, t, 1.0f), dc[j]);

        di[j] = e * z * (i * (1.0f - i));
        df[j] = e * c[j] * (f * (1.0f - f));
        dg[j] = e * i * FMA(-z, z, 1.0f);
        d_o[j] = dh * t * (o * (1.0f - o));
        dc[j] = e * f;
    }
}

static void gru_back(int64_t n, const float *a, const float *h, const float *g, const float *d,
                     float *direct, float *to)
{
    const float *const ar = a, *const az = a + n, *const an = a + 2 * n, *const inner = a + 3 * n;
    float *const dr = to, *const dz = to + n, *const dn = to + 2 * n, *const di = to + 3 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float r = ar[j], z = az[j], y = an[j], dh = g[j] + d[j] + direct[j];
        const float e = dh * (1.0f - z) * FMA(-y, y, 1.0f);

        dr[j] = e * inner[j] * (r * (1.0f - r));
        dz[j] = dh * (h[j] - y) * (z * (1.0f - z));
        dn[j] = e;
        di[j] = e * r;
        direct[j] = dh * z;
    }
}

/* Reset before: first z and n, then, from the derivative of r h, r. */
static void new_back(int64_t n, const float *a, const float *h, const float *g, const float *d,
                     float *direct, float *to)
{
    const float *const az = a + n, *const an = a + 2 * n;
    float *const dz = to + n, *const dn = to + 2 * n;

    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        const float z = az[j], y = an[j], dh = g[j] + d[j] + direct[j];

        dz[j] = dh * (h[j] - y) * (z * (1.0f - z));
        dn[j] = dh * (1.0f - z) * FMA(-y, y, 1.0f);
        direct[j] = dh * z;
    }
}
static void reset_back(int64_t n, const float *a, const float *h, const float *d_rh, float *direct,
                       float *to)
{
    INDEPENDENT for (int64_t j = 0; j < n; j++)
    {
        to[j] = d_rh[j] * h[j] * (a[j] * (1.0f - a[j]));
        direct[j] = FMA(d_rh[j], a[j], direct[j]);
    }
}

/* ---- Back ---- */

/* The step before t of sequence i, or -1. */
INLINE int64_t step_before(const chunk *c, int64_t t, int64_t i)
{
    const ti_recurrent *r = c->r;
    const int64_t end = r->lengths ? r->lengths[c->from + i] : r->T;

    if (!r->reverse) return t - 1;
    return t + 1 < end ? t + 1 : -1;
}

/* A times product k to rows of ld from y on; rows that do not run keep theirs. */
static void multiply_back(const chunk *c, int k, int64_t t, float *y, int64_t ld)
{
    const product *p = &c->list[k];

    for (int64_t i = 0; i < c->n; i++) c->row[i] = p->x || runs(c, t, i) ? y + i * ld : c->waste;
    panel_nn_rows(c->n, p->n, p->depth, c->a + p->slot * padded(c->H) * c->n, c->n, p->b, c->row,
                  NULL, false);
}

/* db += sums of the step's rows, group by group. */
static void add_bias(const chunk *c, const float *dg)
{
    const ti_recurrent *r = c->r;
    const int64_t ld = ti_r_width(r);

    for (int64_t i = 0; r->db && i < c->n; i += TI_R_GROUP) {
        double *to = r->db + (c->from + i) / TI_R_GROUP * ld;

        clear(c->sum, ld);
        for (int64_t k = i; k < min_of(i + TI_R_GROUP, c->n); k++)
            for (int64_t j = 0; j < ld; j++) c->sum[j] += dg[k * ld + j];
        for (int64_t j = 0; j < ld; j++) to[j] += (double)c->sum[j];
    }
}

/* Gate `gate` of dg into slot `slot` of A. */
static void slot_in(const chunk *c, const float *dg, int gate, int slot)
{
    into_panels(c->n, c->H, dg + gate * c->H, ti_r_width(c->r), c->a + slot * padded(c->H) * c->n);
}

static void gates_back(const chunk *c, int64_t t, float *dg)
{
    const ti_recurrent *r = c->r;
    const int64_t H = c->H, ld = ti_r_width(r), ldr = wide(r);

    for (int64_t i = 0; i < c->n; i++) {
        const int64_t at = place(c, t, i), prev = step_before(c, t, i);
        const int64_t own = c->from + i, was = prev < 0 ? 0 : place(c, prev, i);
        const float *h = prev >= 0 ? r->y + was * H : r->h0 ? r->h0 + own * H : c->zero;
        const float *g = r->gy ? r->gy + at * H : c->zero, *d = c->d + i * H;
        const float *a = r->reserve ? r->reserve + at * ldr : r->y + at * H;
        float *to = dg + i * ld, *keep = r->h_prev + at * H;

        if (!runs(c, t, i)) {
            clear(to, ld);
            clear(keep, H);
            c->h_at[i] = c->zero;
            continue;
        }
        c->h_at[i] = h;
        memcpy(keep, h, (size_t)H * sizeof *h);
        const float *s = prev >= 0 && r->kind == TI_R_LSTM ? r->reserve + was * ldr + 4 * H
                         : r->c0                           ? r->c0 + own * H
                                                           : c->zero;
        switch (r->kind) {
        case TI_R_LSTM: lstm_back(H, a, s, g, d, c->c + i * H, to); break;
        case TI_R_GRU: gru_back(H, a, h, g, d, c->direct + i * H, to); break;
        case TI_R_GRU_BEFORE: new_back(H, a, h, g, d, c->direct + i * H, to); break;
        default: rnn_back(r->kind == TI_R_RELU, H, a, g, d, to);
        }
    }
}

static void step_back(const chunk *c, int64_t t, bool more)
{
    const ti_recurrent *r = c->r;
    const int64_t H = c->H, D = c->D, ld = ti_r_width(r), ldr = wide(r);
    float *const dg = r->dg + place(c, t, 0) * ld;

    gates_back(c, t, dg);
    if (r->kind == TI_R_LSTM) {
        for (int k = 0; k < 4; k++) slot_in(c, dg, k, k);
    } else if (r->kind >= TI_R_GRU) {
        slot_in(c, dg, 2, 0);
        if (r->kind == TI_R_GRU_BEFORE) {
            multiply_back(c, 2, t, c->inner, H);
            for (int64_t i = 0; i < c->n; i++)
                if (runs(c, t, i))
                    reset_back(H, r->reserve + place(c, t, i) * ldr, c->h_at[i], c->inner + i * H,
                               c->direct + i * H, dg + i * ld);
        } else slot_in(c, dg, 3, 3);
        slot_in(c, dg, 0, 1);
        slot_in(c, dg, 1, 2);
    } else slot_in(c, dg, 0, 0);
    if (r->dx) multiply_back(c, 0, t, r->dx + place(c, t, 0) * D, D);
    if (more) multiply_back(c, 1, t, c->d, H);
    add_bias(c, dg);
}

static void backward(const ti_recurrent *r, int64_t from, int64_t to, void *memory)
{
    const int64_t H = r->H, first = from * H, n = (to - from) * H;
    chunk c;

    open_chunk(&c, r, true, from, to, memory);
    for (int64_t i = 0; i < n; i++) {
        c.d[i] = r->gh ? r->gh[first + i] : 0;
        c.c[i] = r->gc ? r->gc[first + i] : 0;
        c.direct[i] = 0;
    }
    for (int64_t i = r->T; i-- > 0;) step_back(&c, r->reverse ? r->T - 1 - i : i, i > 0 || r->dh0);
    for (int64_t i = 0; i < n; i++) {
        if (r->dh0) r->dh0[first + i] = c.d[i] + c.direct[i];
        if (r->dc0) r->dc0[first + i] = c.c[i];
    }
}

const ti_recurrent_loops TI_SIMD(ti_recurrent_loops) = {packed,  pieces,  pack,
                                                        scratch, forward, backward};
