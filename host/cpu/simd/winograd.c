/*
 * winograd.c - F(4x4, 3x3) with the transforms of winograd_ops.h.
 *
 * At each of the 36 points the products over channels are one matrix product, so almost all
 * arithmetic is panel_nn (forward, dx) or panel_tn (dw); the rest is moving data, and the blocking
 * decides how far.
 *
 * Scratch, all in panels (panel.h), one matrix a point:
 *   V [36][depth/VL][block][VL]   transformed input tiles
 *   M [36][chunk/VL][block][VL]   products, before the inverse transform
 *   U [36][chunk/NR][depth][NR]   transformed weights
 * Two regimes (make_plan), by the number of tiles alone:
 *   many: blocks of tiles small enough that V and M stay in L2. U is packed before and streams from
 *   L3 once a block, in order, so the hardware fetches it in time; V and M jump about and would
 *   not;
 *   up to 64: all tiles are one block, and U is made chunk by chunk just before its only use,
 *   so the 4x larger transformed weights never travel to memory.
 *
 * A transform writes 36 lines, one a point, at a fixed distance; were that a power of two they
 * would share a cache set. Hence PAD.
 *
 * Threads: forward and dx give out blocks (many) or chunks of columns (few); dw with one block
 * gives out chunks of dw, with many it gives out the points of one block after the other. Each sum
 * over channels or tiles is made by one thread in one order.
 */
#include "winograd.h"
#include "winograd_ops.h"

#include <stdatomic.h>
#include <string.h>

enum {
    PAD = 32,
    FEW_TILES = 64,         /* up to here all tiles are one block */
    BLOCK_FLOATS = 1 << 17, /* V and M of a block: 512 KiB, half of L2; the rest streams through */
    DW_ONE_BLOCK = SLICE,   /* tiles that dw takes as one block; */
    DW_BLOCK = 128,         /* else blocks of so many */
    CHUNK = 64,             /* columns whose products are kept before the inverse transform */
    TILES_EACH = 16         /* tiles transformed at a time by one thread */
};

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 1000000.0

typedef struct {
    int64_t tiles;   /* 4x4 output tiles of the whole batch */
    int64_t block;   /* tiles transformed at a time */
    int64_t chunk;   /* columns whose products are kept */
    int64_t chunk_c; /* dw only: rows of that chunk */
    bool many;
} plan;

/* Floats, all multiples of 16. */
typedef struct {
    int64_t zeros, shared, own, sums;
} sizes;

typedef struct {
    const ti_conv *v;
    ti_conv_pass pass;
    plan q;
    int64_t n_in, n_out, in, out; /* channels, and in whole vectors */
    int64_t src_h, src_w;         /* the image that 6x6 tiles are read from, */
    int64_t edge_h, edge_w;       /* and its padding */
    int64_t to_h, to_w;           /* the image that 4x4 tiles cover */
    const float *x, *dy, *w;
    float *y;
    const ti_conv_epilogue *e;
    atomic_bool *spoilt; /* set where outputs may be that have no part in it */
    float *zeros, *shared, *own, *sums;
    int64_t own_floats;
    int64_t v_step, m_step, u_step; /* between points */
    int64_t t0, n_t;                /* the block at hand, where all threads share it */
} job;

/* ---- tiles ----------------------------------------------------------------------------------- */

/* Tiles t0 + from … t0 + to of x (c channels) into V, whose panels have n_t rows; c is rounded up
 * with zeros. The hardware does not foresee six short rows, so we ask for the next tile while
 * working on this one. gradient: 4x4 tiles of the covered image instead of 6x6 of the source. */
INLINE void transform(const job *o, const bool gradient, const float *x, int64_t c, int64_t t0,
                      int64_t n_t, int64_t from, int64_t to, float *v, int64_t ps)
{
    const int64_t h = gradient ? o->to_h : o->src_h, w = gradient ? o->to_w : o->src_w;
    const int64_t size = gradient ? 4 : 6;
    const int64_t edge_h = gradient ? 0 : o->edge_h, edge_w = gradient ? 0 : o->edge_w;
    tile_pos q = tile_at(o->to_h, o->to_w, t0 + from);
    const float *e[2][36];

    tile_pointers(h, w, x, c, q.n, q.y - edge_h, q.x - edge_w, size, o->zeros, e[from & 1]);
    for (int64_t t = from; t < to; t++) {
        const float **now = e[t & 1], **next = e[~t & 1];
        q = tile_next(o->to_h, o->to_w, q);
        if (q.n == o->v->n) q = tile_at(o->to_h, o->to_w, t0 + from);
        tile_pointers(h, w, x, c, q.n, q.y - edge_h, q.x - edge_w, size, o->zeros, next);
        for (int64_t b = 0; b < c; b += VL) {
            float *to_v = v + b * n_t + t * VL;
            for (int i = 0; i < size * size; i++)
                if (gradient || i % 6 > 1) /* columns 0 and 1 are this tile's 4 and 5 */
                    __builtin_prefetch(next[i] + b, 0, 2);
            if (gradient) gradient_tile(now, b, v_lanes(c - b), to_v, ps);
            else input_tile(now, b, v_lanes(c - b), to_v, ps);
        }
    }
}

/* Columns k0 … k0 + n_k of y from M. sums: [2][n_out] of this block, added to, or NULL. */
static void transform_output(const job *o, const float *m, int64_t t0, int64_t n_t, int64_t k0,
                             int64_t n_k, float *sums)
{
    const int64_t h = o->to_h, w = o->to_w, k = o->n_out;
    const ti_conv_epilogue *e = o->e;
    tile_pos q = tile_at(h, w, t0);

    for (int64_t t = 0; t < n_t; t++) {
        const tile_pos z = tile_next(h, w, q);
        const int64_t rows = h - q.y, cols = w - q.x;
        float *out = o->y + ((q.n * h + q.y) * w + q.x) * k;
        float *next = z.n < o->v->n ? o->y + ((z.n * h + z.y) * w + z.x) * k : out;
        const bool whole = z.n < o->v->n && h - z.y >= 4 && w - z.x >= 4;

        for (int64_t b = k0; b < k0 + n_k; b += VL) {
            const float *src = m + (b - k0) * n_t + t * VL;
            const vmask mask = v_lanes(k - b);
            for (int i = 0; i < 16 && whole; i++)
                __builtin_prefetch(next + (i / 4 * w + i % 4) * k + b, 1);
            wino_exit exit = {.plain = !e, .relu = e && e->relu, .sums = sums != NULL};
            exit.sum = exit.square = exit.bias = v_zero();
            if (e && e->bias) exit.bias = v_load_m(e->bias + b, mask);
            if (rows >= 4 && cols >= 4 && !e)
                output_tile(src, o->m_step, out + b, w * k, k, 4, 4, mask,
                            &(wino_exit){.plain = true});
            else output_tile(src, o->m_step, out + b, w * k, k, rows, cols, mask, &exit);
            if (sums) {
                float *to = sums + b;
                v_store_m(to, mask, v_add(exit.sum, v_load_m(to, mask)));
                v_store_m(to + k, mask, v_add(exit.square, v_load_m(to + k, mask)));
            }
        }
        q = z;
    }
}

/* ---- weights --------------------------------------------------------------------------------- */

static void filters(const job *o, int64_t k0, int64_t n_k, float *u)
{
    if (o->pass == TI_CONV_DX)
        filters_dx(filter_tile, o->v->k, o->v->c, o->w, k0, n_k, u, o->u_step);
    else filters_fwd(filter_tile, o->v->k, o->v->c, o->w, k0, n_k, u, o->u_step);
}

/* ---- plans ----------------------------------------------------------------------------------- */

static plan make_plan(const ti_conv *v, ti_conv_pass pass)
{
    const int64_t in = round_up(pass == TI_CONV_DX ? v->k : v->c, VL);
    const int64_t out = round_up(pass == TI_CONV_DX ? v->c : v->k, VL);
    const int64_t h = pass == TI_CONV_DX ? v->h : v->p, w = pass == TI_CONV_DX ? v->w : v->q;
    plan q = {.tiles = v->n * ceil_div(h, 4) * ceil_div(w, 4)};

    if (pass == TI_CONV_DW) {
        /* dU is read and written once a block, so blocks are long; with one block only a chunk of
         * it exists at a time (36 matrices of 64 x 64: 0.6 MB, in L2). */
        q.many = q.tiles > DW_ONE_BLOCK;
        q.block = q.many ? DW_BLOCK : q.tiles;
        q.chunk = q.many ? out : min_of(out, CHUNK);
        q.chunk_c = q.many ? in : min_of(in, CHUNK);
        return q;
    }
    q.many = q.tiles > FEW_TILES;
    q.chunk = min_of(out, q.many || out >= 4 * CHUNK ? CHUNK : NR);
    q.block = q.tiles;
    if (q.many) {
        q.block = BLOCK_FLOATS / POINTS / (in + q.chunk) / NN_ROWS * NN_ROWS;
        q.block = min_of(q.tiles, max_of(NN_ROWS, q.block));
    }
    return q;
}

/* zeros; what all threads share; each one's own; slots of the epilogue's sums. */
static sizes plan_sizes(job *o, bool sums)
{
    const plan *q = &o->q;
    const int64_t v = q->block * o->in, out_cols = o->pass == TI_CONV_DW ? o->out : q->chunk;
    sizes z = {.zeros = round_up(max_of(o->in, o->out), 16)};

    o->v_step = v + PAD;
    o->m_step = q->block * out_cols + PAD;
    if (o->pass == TI_CONV_DW) {
        o->u_step = q->chunk * q->chunk_c + PAD;
        z.shared = POINTS * (o->v_step + o->m_step);
        *(q->many ? &z.shared : &z.own) += POINTS * o->u_step;
    } else if (q->many) {
        o->u_step = round_up(o->out, NR) * o->in + PAD;
        z.shared = POINTS * o->u_step;
        z.own = POINTS * (o->v_step + o->m_step);
    } else {
        o->u_step = round_up(q->chunk, NR) * o->in + PAD;
        z.shared = POINTS * o->v_step;
        z.own = POINTS * (o->m_step + o->u_step);
    }
    if (sums) z.sums = ceil_div(q->tiles, q->block) * 2 * o->n_out;
    z.shared = round_up(z.shared, 16);
    z.own = round_up(z.own, 16);
    return z;
}

static job start(const ti_conv *v, ti_conv_pass pass)
{
    job o = {.v = v, .pass = pass, .q = make_plan(v, pass)};

    o.n_in = pass == TI_CONV_DX ? v->k : v->c;
    o.n_out = pass == TI_CONV_DX ? v->c : v->k;
    o.in = round_up(o.n_in, VL);
    o.out = round_up(o.n_out, VL);
    /* dx is a convolution of dy with the padding that makes up for the other. */
    o.src_h = pass == TI_CONV_DX ? v->p : v->h;
    o.src_w = pass == TI_CONV_DX ? v->q : v->w;
    o.to_h = pass == TI_CONV_DX ? v->h : v->p;
    o.to_w = pass == TI_CONV_DX ? v->w : v->q;
    o.edge_h = pass == TI_CONV_DX ? 2 - v->pad[0] : v->pad[0];
    o.edge_w = pass == TI_CONV_DX ? 2 - v->pad[1] : v->pad[1];
    return o;
}

size_t wino1_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    job o = start(v, pass);
    const sizes z = plan_sizes(&o, pass == TI_CONV_FWD);

    return (size_t)(z.zeros + z.shared + max_of(n_threads, 1) * z.own + z.sums) * sizeof(float);
}

static void lay_out(job *o, ti_threads *t, float *scratch)
{
    const sizes z = plan_sizes(o, false);

    o->zeros = scratch;
    o->shared = o->zeros + z.zeros;
    o->own = o->shared + z.shared;
    o->own_floats = z.own;
    o->sums = o->own + ti_threads_count(t) * z.own;
    memset(o->zeros, 0, (size_t)z.zeros * sizeof(float));
}

/* ---- forward and dx -------------------------------------------------------------------------- */

static void pack_columns(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t k0 = i * NR;

    (void)i_worker;
    filters(o, k0, min_of(NR, o->out - k0), o->shared + k0 * o->in);
}

static void multiply(const job *o, int64_t n_t, int64_t n_k, const float *v, const float *u,
                     float *m)
{
    for (int64_t i = 0; i < POINTS; i++)
        panel_nn(n_t, n_k, o->in, v + i * o->v_step, n_t, u + i * o->u_step, m + i * o->m_step);
}

static void run_block(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const plan *q = &o->q;
    const int64_t t0 = i * q->block, n_t = min_of(q->block, q->tiles - t0);
    float *v = o->own + i_worker * o->own_floats, *m = v + POINTS * o->v_step;
    float *sums = o->e && o->e->sums ? o->sums + i * 2 * o->n_out : NULL;

    transform(o, false, o->x, o->n_in, t0, n_t, 0, n_t, v, o->v_step);
    for (int64_t k = 0; k < o->out; k += q->chunk) {
        const int64_t n_k = min_of(q->chunk, o->out - k);
        multiply(o, n_t, n_k, v, o->shared + k * o->in, m);
        if (products_spoilt(m, POINTS, o->m_step, n_t, n_k, k == 0)) *o->spoilt = true;
        transform_output(o, m, t0, n_t, k, n_k, sums);
    }
}

/* Tiles of the block that all threads share. */
static void run_input(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t from = i * TILES_EACH, to = min_of(o->n_t, from + TILES_EACH);

    (void)i_worker;
    transform(o, false, o->x, o->n_in, o->t0, o->n_t, from, to, o->shared, o->v_step);
    if (o->pass == TI_CONV_DW)
        transform(o, true, o->dy, o->n_out, o->t0, o->n_t, from, to, o->shared + POINTS * o->v_step,
                  o->m_step);
}

static void run_columns(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t k0 = i * o->q.chunk, n_k = min_of(o->q.chunk, o->out - k0);
    float *m = o->own + i_worker * o->own_floats, *u = m + POINTS * o->m_step;

    filters(o, k0, n_k, u);
    multiply(o, o->n_t, n_k, o->shared, u, m);
    if (products_spoilt(m, POINTS, o->m_step, o->n_t, n_k, k0 == 0)) *o->spoilt = true;
    transform_output(o, m, 0, o->n_t, k0, n_k, o->e && o->e->sums ? o->sums : NULL);
}

static ti_threads *if_worth(ti_threads *t, const job *o, int64_t tiles)
{
    const double products = (double)tiles * POINTS * (double)o->in * (double)o->out;
    return products > 2 * MAC_CHUNK ? t : NULL;
}

static void run(ti_threads *t, job *o)
{
    const plan *q = &o->q;
    const int64_t n_blocks = ceil_div(q->tiles, q->block), n_sums = 2 * o->n_out;
    ti_threads *all = if_worth(t, o, q->tiles);
    float *sums = o->e ? o->e->sums : NULL;

    if (sums) memset(o->sums, 0, (size_t)(n_blocks * n_sums) * sizeof(float));
    if (q->many) {
        ti_threads_run(all, ceil_div(o->out, NR), pack_columns, o);
        ti_threads_run(all, n_blocks, run_block, o);
    } else {
        o->n_t = q->tiles;
        ti_threads_run(all, ceil_div(o->n_t, TILES_EACH), run_input, o);
        ti_threads_run(all, ceil_div(o->out, q->chunk), run_columns, o);
    }
    for (int64_t k = 0; k < n_sums && sums; k++) {
        sums[k] = 0;
        for (int64_t i = 0; i < n_blocks; i++) sums[k] += o->sums[i * n_sums + k];
    }
}

bool wino1_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch)
{
    job o = start(v, TI_CONV_FWD);
    atomic_bool spoilt = false;

    o.x = x;
    o.w = w;
    o.y = y;
    o.e = e && (e->bias || e->relu || e->sums) ? e : NULL;
    lay_out(&o, t, scratch);
    o.spoilt = &spoilt;
    run(t, &o);
    return !spoilt;
}

bool wino1_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch)
{
    job o = start(v, TI_CONV_DX);
    atomic_bool spoilt = false;

    o.x = dy;
    o.w = w;
    o.y = dx;
    lay_out(&o, t, scratch);
    o.spoilt = &spoilt;
    run(t, &o);
    return !spoilt;
}

/* ---- dw -------------------------------------------------------------------------------------- */

/* One point of the block at hand, added to dU. */
static void add_point(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    float *g = o->shared + POINTS * o->v_step, *du = g + POINTS * o->m_step;

    (void)i_worker;
    panel_tn(o->n_t, o->out, o->in, g + i * o->m_step, o->shared + i * o->v_step, o->n_t,
             du + i * o->u_step, o->in, o->t0 > 0);
}

/* Filters of VL output channels from the finished dU. */
static void finish_filters(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const float *du = o->shared + POINTS * (o->v_step + o->m_step);

    (void)i_worker;
    du += i * VL * o->in;
    if (sums_spoilt(du, POINTS, o->u_step, o->in, i * VL, VL, 0, o->in)) *o->spoilt = true;
    inverse_filters(inverse_tile, o->v->k, o->v->c, du, o->u_step, o->in, i * VL, VL, 0, o->in,
                    o->y);
}

/* One chunk of dw from the only block. */
static void run_chunk(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const plan *q = &o->q;
    const int64_t across = ceil_div(o->in, q->chunk_c), k0 = i / across * q->chunk;
    const int64_t c0 = i % across * q->chunk_c;
    const int64_t n_k = min_of(q->chunk, o->out - k0), n_c = min_of(q->chunk_c, o->in - c0);
    const float *v = o->shared + c0 * o->n_t, *g = o->shared + POINTS * o->v_step + k0 * o->n_t;
    float *du = o->own + i_worker * o->own_floats;

    for (int64_t p = 0; p < POINTS; p++)
        panel_tn(o->n_t, n_k, n_c, g + p * o->m_step, v + p * o->v_step, o->n_t, du + p * o->u_step,
                 q->chunk_c, false);
    if (sums_spoilt(du, POINTS, o->u_step, q->chunk_c, k0, n_k, c0, n_c)) *o->spoilt = true;
    inverse_filters(inverse_tile, o->v->k, o->v->c, du, o->u_step, q->chunk_c, k0, n_k, c0, n_c,
                    o->y);
}

bool wino1_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch)
{
    job o = start(v, TI_CONV_DW);
    atomic_bool spoilt = false;
    const plan *q = &o.q;

    o.x = x;
    o.dy = dy;
    o.y = dw;
    lay_out(&o, t, scratch);
    o.spoilt = &spoilt;
    for (o.t0 = 0; o.t0 < q->tiles; o.t0 += q->block) {
        o.n_t = min_of(q->block, q->tiles - o.t0);
        ti_threads *all = if_worth(t, &o, o.n_t);
        ti_threads_run(all, ceil_div(o.n_t, TILES_EACH), run_input, &o);
        if (q->many) ti_threads_run(all, POINTS, add_point, &o);
        else
            ti_threads_run(all, ceil_div(o.out, q->chunk) * ceil_div(o.in, q->chunk_c), run_chunk,
                           &o);
    }
    if (q->many) ti_threads_run(if_worth(t, &o, q->tiles), ceil_div(v->k, VL), finish_filters, &o);
    return !spoilt;
}

/* ---- errors ---------------------------------------------------------------------------------- */

/* Two transforms of 6 roundings each way, the sums, bias. */
int64_t wino1_chain(const ti_conv *v, ti_conv_pass pass)
{
    const plan q = make_plan(v, pass);
    const int64_t d = pass == TI_CONV_DX ? v->k : v->c;

    if (pass == TI_CONV_DW) return q.block + ceil_div(q.tiles, q.block) + 36;
    return min_of(d, SLICE) + ceil_div(d, SLICE) + 36 + 1;
}

/* (max over o of sum over i of |At[o][i]| * sum|Bt[i]| * sum|G[i]|)^2 / 9, and with Gt,
 * Bt, A / 16. */
double wino1_growth(ti_conv_pass pass) { return pass == TI_CONV_DW ? 50.2 : 62.7; }
