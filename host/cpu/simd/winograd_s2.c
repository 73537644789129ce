/*
 * winograd_s2.c - 3x3 filters with stride 2 and padding 1, with the transforms of
 * winograd_s2_ops.h: 81 products where the direct way takes 144.
 *
 *   forward   9x9 pixels of x  -> 81 -> 4x4 of y
 *   dx        5x5 of dy        -> 81 -> 8x8 of dx: odd dx = F(4, 2) with (w2, w0), even dx = w1 dy
 *   dw        9x9 of x, 4x4 of dy -> 81 products summed over tiles -> 36 sums -> 3x3
 *
 * V, M and U, the two regimes and the threads are as in winograd.c, with 81 slots in V and M and 36
 * matrices in U; dw with many blocks gives out the 36 sums, each of which adds its slots in order.
 */
#include "winograd_s2.h"
#include "winograd_s2_ops.h"

#include <stdatomic.h>
#include <string.h>

enum {
    N_SLOTS = SLOTS * SLOTS,
    N_UNIQUE = UNIQUE * UNIQUE,
    PAD = 32,
    FEW_TILES = 64,
    BLOCK_FLOATS = 1 << 17,
    DW_BLOCK = 64,
    CHUNK = 64,
    TILES_EACH = 16
};

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 1000000.0

typedef struct {
    const ti_conv *v;
    ti_conv_pass pass;
    int64_t tiles, block, chunk, chunk_c; /* as in winograd.c */
    bool many;
    int64_t n_in, n_out, in, out;
    const float *x, *dy, *w;
    float *y;
    const ti_conv_epilogue *e;
    atomic_bool *spoilt; /* set where outputs may be that have no part in it */
    float *zeros, *shared, *own;
    int64_t n_zeros, n_shared, n_own; /* floats */
    int64_t v_step, m_step, u_step;   /* between slots, between matrices */
    int64_t t0, n_t;                  /* the block at hand, where all threads share it */
} job;

static job start(const ti_conv *v, ti_conv_pass pass)
{
    job o = {.v = v, .pass = pass, .tiles = v->n * ceil_div(v->p, 4) * ceil_div(v->q, 4)};

    o.n_in = pass == TI_CONV_DX ? v->k : v->c;
    o.n_out = pass == TI_CONV_DX ? v->c : v->k;
    o.in = round_up(o.n_in, VL);
    o.out = round_up(o.n_out, VL);
    o.n_zeros = round_up(max_of(o.in, o.out), 16);
    o.many = o.tiles > FEW_TILES;
    o.block = o.tiles;
    o.chunk = min_of(o.out, CHUNK);
    if (pass == TI_CONV_DW) {
        if (o.many) o.block = DW_BLOCK;
        o.chunk = o.many ? o.out : o.chunk;
        o.chunk_c = o.many ? o.in : min_of(o.in, CHUNK);
        o.v_step = o.block * o.in + PAD;
        o.m_step = o.block * o.out + PAD;
        o.u_step = o.chunk * o.chunk_c + PAD;
        o.n_shared = N_SLOTS * (o.v_step + o.m_step);
        *(o.many ? &o.n_shared : &o.n_own) += N_UNIQUE * o.u_step;
    } else {
        if (o.many) {
            o.block = BLOCK_FLOATS / N_SLOTS / (o.in + o.chunk) / NN_ROWS * NN_ROWS;
            o.block = min_of(o.tiles, max_of(NN_ROWS, o.block));
        }
        o.v_step = o.block * o.in + PAD;
        o.m_step = o.block * o.chunk + PAD;
        o.u_step = round_up(o.many ? o.out : o.chunk, NR) * o.in + PAD;
        o.n_shared = o.many ? N_UNIQUE * o.u_step : N_SLOTS * o.v_step;
        o.n_own = N_SLOTS * o.m_step + (o.many ? N_SLOTS * o.v_step : N_UNIQUE * o.u_step);
    }
    o.n_shared = round_up(o.n_shared, 16);
    o.n_own = round_up(o.n_own, 16);
    return o;
}

size_t wino2_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    const job o = start(v, pass);

    return (size_t)(o.n_zeros + o.n_shared + max_of(n_threads, 1) * o.n_own) * sizeof(float);
}

static void lay_out(job *o, float *scratch)
{
    o->zeros = scratch;
    o->shared = o->zeros + o->n_zeros;
    o->own = o->shared + o->n_shared;
    memset(o->zeros, 0, (size_t)o->n_zeros * sizeof(float));
}

static ti_threads *if_worth(ti_threads *t, const job *o, int64_t tiles)
{
    const double products = (double)tiles * N_SLOTS * (double)o->in * (double)o->out;
    return products > 2 * MAC_CHUNK ? t : NULL;
}

/* ---- tiles ----------------------------------------------------------------------------------- */

/* An image and how tiles lie on it: that of output pixel (y, x) has size x size pixels from
 * (scale y + origin, scale x + origin). */
typedef struct {
    const float *x;
    int64_t h, w, c, size, scale, origin;
} source;

static source source_of(const job *o, bool gradient)
{
    const ti_conv *v = o->v;

    if (gradient) return (source){o->dy, v->p, v->q, v->k, 4, 1, 0};
    if (o->pass == TI_CONV_DX) return (source){o->x, v->p, v->q, v->k, 5, 1, 0};
    return (source){o->x, v->h, v->w, v->c, 9, 2, -1};
}

static void point(const source *s, tile_pos q, const float *zeros, const float **e)
{
    tile_pointers(s->h, s->w, s->x, s->c, q.n, s->scale * q.y + s->origin,
                  s->scale * q.x + s->origin, s->size, zeros, e);
}

/* Tiles t0 + from … t0 + to into V, whose panels have n_t rows. */
INLINE void transform(const job *o, slots_fn *tile, const source s, int64_t t0, int64_t n_t,
                      int64_t from, int64_t to, float *v, int64_t ps)
{
    const int64_t p = o->v->p, w = o->v->q;
    tile_pos q = tile_at(p, w, t0 + from);
    const float *e[2][N_SLOTS];

    point(&s, q, o->zeros, e[from & 1]);
    for (int64_t t = from; t < to; t++) {
        const float **now = e[t & 1], **next = e[~t & 1];
        q = tile_next(p, w, q);
        if (q.n == o->v->n) q = tile_at(p, w, t0 + from);
        point(&s, q, o->zeros, next);
        for (int64_t b = 0; b < s.c; b += VL) {
            for (int64_t i = 0; i < s.size * s.size; i++) __builtin_prefetch(next[i] + b, 0, 2);
            tile(now, b, v_lanes(s.c - b), v + b * n_t + t * VL, ps);
        }
    }
}

static void transform_input(const job *o, int64_t t0, int64_t n_t, int64_t from, int64_t to,
                            float *v)
{
    const source s = source_of(o, false);

    if (o->pass == TI_CONV_DX) transform(o, dx_tile, s, t0, n_t, from, to, v, o->v_step);
    else transform(o, pixel_tile, s, t0, n_t, from, to, v, o->v_step);
}

/* Columns k0 … k0 + n_k of the result from M. */
static void transform_output(const job *o, const float *m, int64_t t0, int64_t n_t, int64_t k0,
                             int64_t n_k)
{
    const ti_conv *v = o->v;
    const bool dx = o->pass == TI_CONV_DX;
    const int64_t scale = dx ? 2 : 1, h = dx ? v->h : v->p, w = dx ? v->w : v->q, k = o->n_out;
    const int64_t size = 4 * scale;
    wino_place to = {.row = w * k, .col = k, .relu = o->e && o->e->relu, .bias = v_zero()};
    tile_pos q = tile_at(v->p, v->q, t0);

    for (int64_t t = 0; t < n_t; t++) {
        const tile_pos z = tile_next(v->p, v->q, q);
        float *out = o->y + ((q.n * h + scale * q.y) * w + scale * q.x) * k;
        float *next = z.n < v->n ? o->y + ((z.n * h + scale * z.y) * w + scale * z.x) * k : out;
        const bool whole = z.n < v->n && h - scale * z.y >= size && w - scale * z.x >= size;

        to.rows = h - scale * q.y;
        to.cols = w - scale * q.x;
        for (int64_t b = k0; b < k0 + n_k; b += VL) {
            const float *from = m + (b - k0) * n_t + t * VL;
            for (int64_t i = 0; i < size && whole; i++)
                for (int64_t j = 0; j < size; j++)
                    __builtin_prefetch(next + (i * w + j) * k + b, 1);
            to.mask = v_lanes(k - b);
            if (o->e && o->e->bias) to.bias = v_load_m(o->e->bias + b, to.mask);
            if (dx) dx_out_tile(from, o->m_step, out + b, &to);
            else y_tile(from, o->m_step, out + b, &to);
        }
        q = z;
    }
}

/* ---- forward and dx -------------------------------------------------------------------------- */

static void filters(const job *o, int64_t k0, int64_t n_k, float *u)
{
    if (o->pass == TI_CONV_DX)
        filters_dx(filter_tile, o->v->k, o->v->c, o->w, k0, n_k, u, o->u_step);
    else filters_fwd(filter_tile, o->v->k, o->v->c, o->w, k0, n_k, u, o->u_step);
}

static void pack_columns(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t k0 = i * NR;

    (void)i_worker;
    filters(o, k0, min_of(NR, o->out - k0), o->shared + k0 * o->in);
}

/* The matrix U that slot (i, j) uses. */
INLINE int64_t unique(int64_t i, int64_t j)
{
    return min_of(i, UNIQUE - 1) * UNIQUE + min_of(j, UNIQUE - 1);
}

static void multiply(const job *o, int64_t n_t, int64_t n_k, const float *v, const float *u,
                     float *m)
{
    for (int64_t i = 0; i < N_SLOTS; i++)
        panel_nn(n_t, n_k, o->in, v + i * o->v_step, n_t,
                 u + unique(i / SLOTS, i % SLOTS) * o->u_step, m + i * o->m_step);
}

static void run_block(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t t0 = i * o->block, n_t = min_of(o->block, o->tiles - t0);
    float *v = o->own + i_worker * o->n_own, *m = v + N_SLOTS * o->v_step;

    transform_input(o, t0, n_t, 0, n_t, v);
    for (int64_t k = 0; k < o->out; k += o->chunk) {
        const int64_t n_k = min_of(o->chunk, o->out - k);
        multiply(o, n_t, n_k, v, o->shared + k * o->in, m);
        if (products_spoilt(m, N_SLOTS, o->m_step, n_t, n_k, k == 0)) *o->spoilt = true;
        transform_output(o, m, t0, n_t, k, n_k);
    }
}

/* Tiles of the block that all threads share. */
static void run_input(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t from = i * TILES_EACH, to = min_of(o->n_t, from + TILES_EACH);

    (void)i_worker;
    transform_input(o, o->t0, o->n_t, from, to, o->shared);
    if (o->pass == TI_CONV_DW)
        transform(o, dw_tile, source_of(o, true), o->t0, o->n_t, from, to,
                  o->shared + N_SLOTS * o->v_step, o->m_step);
}

static void run_columns(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t k0 = i * o->chunk, n_k = min_of(o->chunk, o->out - k0);
    float *m = o->own + i_worker * o->n_own, *u = m + N_SLOTS * o->m_step;

    filters(o, k0, n_k, u);
    multiply(o, o->n_t, n_k, o->shared, u, m);
    if (products_spoilt(m, N_SLOTS, o->m_step, o->n_t, n_k, k0 == 0)) *o->spoilt = true;
    transform_output(o, m, 0, o->n_t, k0, n_k);
}

static void run(ti_threads *t, job *o)
{
    ti_threads *all = if_worth(t, o, o->tiles);

    if (o->many) {
        ti_threads_run(all, ceil_div(o->out, NR), pack_columns, o);
        ti_threads_run(all, ceil_div(o->tiles, o->block), run_block, o);
    } else {
        o->n_t = o->tiles;
        ti_threads_run(all, ceil_div(o->n_t, TILES_EACH), run_input, o);
        ti_threads_run(all, ceil_div(o->out, o->chunk), run_columns, o);
    }
}

bool wino2_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch)
{
    job o = start(v, TI_CONV_FWD);
    atomic_bool spoilt = false;

    lay_out(&o, scratch);
    o.spoilt = &spoilt;
    o.x = x;
    o.w = w;
    o.y = y;
    o.e = e;
    run(t, &o);
    return !spoilt;
}

bool wino2_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch)
{
    job o = start(v, TI_CONV_DX);
    atomic_bool spoilt = false;

    lay_out(&o, scratch);
    o.spoilt = &spoilt;
    o.x = dy;
    o.w = w;
    o.y = dx;
    run(t, &o);
    return !spoilt;
}

/* ---- dw -------------------------------------------------------------------------------------- */

/* Rows k0 … and columns c0 … of sum (i, j) of the block at hand, added to du or written there. */
static void add_slots(const job *o, int64_t i, int64_t j, int64_t k0, int64_t n_k, int64_t c0,
                      int64_t n_c, float *du, bool add)
{
    const float *v = o->shared + c0 * o->n_t, *g = o->shared + N_SLOTS * o->v_step + k0 * o->n_t;
    const int64_t i1 = i == UNIQUE - 1 ? SLOTS : i + 1, j1 = j == UNIQUE - 1 ? SLOTS : j + 1;

    for (int64_t a = i; a < i1; a++)
        for (int64_t b = j; b < j1; b++)
            panel_tn(o->n_t, n_k, n_c, g + (a * SLOTS + b) * o->m_step,
                     v + (a * SLOTS + b) * o->v_step, o->n_t, du, o->chunk_c,
                     add || a > i || b > j);
}

static void add_sum(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    float *du = o->shared + N_SLOTS * (o->v_step + o->m_step) + i * o->u_step;

    (void)i_worker;
    add_slots(o, i / UNIQUE, i % UNIQUE, 0, o->out, 0, o->in, du, o->t0 > 0);
}

/* Filters of VL output channels from the finished dU. */
static void finish_filters(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const float *du = o->shared + N_SLOTS * (o->v_step + o->m_step) + i * VL * o->in;

    (void)i_worker;
    if (sums_spoilt(du, N_UNIQUE, o->u_step, o->in, i * VL, VL, 0, o->in)) *o->spoilt = true;
    inverse_filters(inverse_tile, o->v->k, o->v->c, du, o->u_step, o->in, i * VL, VL, 0, o->in,
                    o->y);
}

/* One chunk of dw from the only block. */
static void run_chunk(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t across = ceil_div(o->in, o->chunk_c), k0 = i / across * o->chunk;
    const int64_t c0 = i % across * o->chunk_c;
    const int64_t n_k = min_of(o->chunk, o->out - k0), n_c = min_of(o->chunk_c, o->in - c0);
    float *du = o->own + i_worker * o->n_own;

    for (int64_t u = 0; u < N_UNIQUE; u++)
        add_slots(o, u / UNIQUE, u % UNIQUE, k0, n_k, c0, n_c, du + u * o->u_step, false);
    if (sums_spoilt(du, N_UNIQUE, o->u_step, o->chunk_c, k0, n_k, c0, n_c)) *o->spoilt = true;
    inverse_filters(inverse_tile, o->v->k, o->v->c, du, o->u_step, o->chunk_c, k0, n_k, c0, n_c,
                    o->y);
}

bool wino2_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch)
{
    job o = start(v, TI_CONV_DW);
    atomic_bool spoilt = false;

    lay_out(&o, scratch);
    o.spoilt = &spoilt;
    o.x = x;
    o.dy = dy;
    o.y = dw;
    for (o.t0 = 0; o.t0 < o.tiles; o.t0 += o.block) {
        o.n_t = min_of(o.block, o.tiles - o.t0);
        ti_threads *all = if_worth(t, &o, o.n_t);
        ti_threads_run(all, ceil_div(o.n_t, TILES_EACH), run_input, &o);
        if (o.many) ti_threads_run(all, N_UNIQUE, add_sum, &o);
        else
            ti_threads_run(all, ceil_div(o.out, o.chunk) * ceil_div(o.in, o.chunk_c), run_chunk,
                           &o);
    }
    if (o.many) ti_threads_run(if_worth(t, &o, o.tiles), ceil_div(v->k, VL), finish_filters, &o);
    return !spoilt;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* As in winograd.c; a plain sum of dw adds 16 slots a block. */
int64_t wino2_chain(const ti_conv *v, ti_conv_pass pass)
{
    const job o = start(v, pass);

    if (pass == TI_CONV_DW) return o.block + 16 * ceil_div(o.tiles, o.block) + 36;
    return min_of(o.n_in, SLICE) + ceil_div(o.n_in, SLICE) + 36 + 1;
}

/*
 * G = max over o of sum over i of |At[o][i]| * sum|Bt[i]| * sum|G[i]| is 12.65 for F(4, 2), 21.1
 * with Gt, Bt, A. Forward: (G + 1)^2 / 9, with the plain pixel. dx: G^2 / 4, as no pixel has more
 * than 4 products. dw: 21.1^2 / 16.
 */
double wino2_growth(ti_conv_pass pass)
{
    return pass == TI_CONV_FWD ? 20.8 : pass == TI_CONV_DX ? 40.1 : 27.9;
}
