/*
 * igemm.c - convolution as a matrix product without an im2col buffer.
 *
 * Blocks of rows (gather.h) are copied into panels that stay in L2; each copied vector is then used
 * k times, so for k >= 64 the copy costs a few percent, and the register tile needs no address
 * arithmetic, no border masks and no special case for odd channel counts: depth is a flat run of
 * taps x channels, zero-padded to whole vectors.
 *
 * Threads: forward and dx give out blocks of rows; the weights are packed once, before. dw gives
 * out (group, piece of the taps, stretch of each region's rows); where the stretches of one piece
 * are several, each has a slot for its sums, and the slots are added in order afterwards.
 */
#include "igemm.h"
#include "gather.h"

#include <string.h>

enum {
    ROWS_NN = 4 * NN_ROWS,  /* rows of a block, forward and dx: four register tiles */
    ROWS_TN = 128,          /* rows of a block, dw */
    FEW_TAPS = 4,           /* of one gather: so few are picked singly */
    DW_FLOATS = 96 * 1024,  /* sums of a piece of dw: 384 KiB, under half of L2 */
    DW_CHUNKS = 32,         /* dw is cut until it has about so many chunks, */
    DW_SLOTS = 1024 * 1024, /* as long as the slots stay below so many floats, */
    DW_ROWS = 4 * ROWS_TN   /* and a stretch has so many rows */
};

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 1000000.0

typedef struct {
    gather_region r;
    int64_t n_rows, block_rows, chunk_rows, chunks; /* of a group */
} region;

typedef struct {
    const ti_conv *v;
    gather g;
    region region[GATHER_REGIONS];
    int n_regions;
    const float *src, *w, *dy;
    float *out, *b;
    const ti_conv_epilogue *e;
    char *own; /* n_threads times own_bytes */
    size_t own_bytes;
    int64_t depth, n_cols, b_group;                /* floats of packed weights of a group */
    int64_t chunks;                                /* of a group, all regions */
    int64_t n_rows, taps, pieces, stretches, slot; /* dw */
} job;

/* ---- weights
 * --------------------------------------------------------------------------------------- */

/* B[n / NR][depth][NR] for the forward pass: n is k, depth runs over taps and channels, where the
 * plain weights have channels and taps. One panel. */
static void pack_fwd(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t n_k = o->n_cols, panels = ceil_div(n_k, NR), flat = o->g.n_taps * o->g.src_c;
    const int64_t group = i / panels, k0 = i % panels * NR;
    const float *w = o->w + group * n_k * flat;
    float *b = o->b + group * o->b_group + k0 * o->depth;

    (void)i_worker;
    for (int64_t k = k0; k < k0 + NR; k += VL) {
        int64_t tap = 0, c = 0;
        for (int64_t d = 0; d < flat; d += VL) {
            const vmask m = v_lanes(flat - d);
            vf r[VL];
            for (int l = 0; l < VL; l++)
                r[l] = k + l < n_k ? v_load_m(w + (k + l) * flat + d, m) : v_zero();
            v_transpose(r);
            for (int l = 0; l < VL && d + l < flat; l++) {
                v_store(b + (tap * o->g.src_c + c) * NR + k - k0, r[l]);
                if (++tap == o->g.n_taps) tap = 0, c++;
            }
        }
        for (int64_t d = flat; d < o->depth; d++) v_store(b + d * NR + k - k0, v_zero());
    }
}

/* VL channels of one filter, n_c of them there: tap u of the gather to b + u n_k NR. */
static void pack_taps(const job *o, const float *w, int64_t n_c, float *b)
{
    const int64_t rs = o->v->r * o->v->s, step = o->g.src_c * NR;
    const gather_tap *taps = o->g.taps;

    if (rs == 1) {
        v_store(b, v_load_m(w, v_lanes(n_c)));
        return;
    }
    for (int64_t t0 = 0; t0 < rs && o->g.n_taps > FEW_TAPS; t0 += VL) {
        vf r[VL];
        turn_taps(w, rs, t0, n_c, r);
        for (int64_t u = 0; u < o->g.n_taps; u++) {
            const int64_t t = taps[u].filter - t0;
            if (t >= 0 && t < VL) v_store(b + u * step, r[t]);
        }
    }
    for (int64_t u = 0; u < o->g.n_taps && o->g.n_taps <= FEW_TAPS; u++)
        for (int64_t c = 0; c < VL; c++) b[u * step + c] = c < n_c ? w[c * rs + taps[u].filter] : 0;
}

/* The same for dx: n is the input channel, depth runs over the gather's taps and k. */
static void pack_dx(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t n_c = o->n_cols, n_k = o->g.src_c, panels = ceil_div(n_c, NR);
    const int64_t group = i / panels, c0 = i % panels * NR, flat = o->v->r * o->v->s * n_c;
    const float *w = o->w + group * n_k * flat;
    float *b = o->b + group * o->b_group + c0 * o->depth;

    (void)i_worker;
    for (int64_t k = 0; k < n_k; k++) {
        const float *next = w + (k + 2) * flat + c0 * o->v->r * o->v->s; /* short rows far apart */
        for (int64_t j = 0; j < NR * o->v->r * o->v->s && k + 2 < n_k; j += 16)
            __builtin_prefetch(next + j);
        for (int64_t c = 0; c < NR; c += VL)
            pack_taps(o, w + k * flat + (c0 + c) * o->v->r * o->v->s, n_c - c0 - c, b + k * NR + c);
    }
    for (int64_t d = o->g.n_taps * n_k; d < o->depth; d++)
        for (int64_t c = 0; c < NR; c += VL) v_store(b + d * NR + c, v_zero());
}

/* ---- scratch
 * --------------------------------------------------------------------------------------- */

/* Each part a multiple of 64 bytes: taps, packed weights or slots, then each worker's own: a
 * region's taps, rows of A, and addresses of rows or rows of dy and where they lie. */
typedef struct {
    size_t b, own, own_each, total;
} parts;

static int64_t padded(int64_t floats) { return round_up(floats * (int64_t)sizeof(float), 64); }

static size_t taps_bytes(const ti_conv *v)
{
    return (size_t)round_up(v->r * v->s * (int64_t)sizeof(gather_tap), 64);
}

/* Taps of one piece of dw: whole taps, unless channels are no whole vectors. */
static int64_t dw_taps(const ti_conv *v)
{
    const int64_t c = v->c / v->groups, taps = v->r * v->s;
    if (c % VL) return taps;
    return min_of(taps, max_of(1, DW_FLOATS / (c * round_up(v->k / v->groups, VL))));
}

static int64_t stretch_rows(int64_t n_rows, int64_t stretches)
{
    return max_of(ROWS_TN, round_up(ceil_div(n_rows, stretches), ROWS_TN));
}

static void cut_dw(const ti_conv *v, job *o)
{
    const int64_t k = round_up(v->k / v->groups, VL), c = v->c / v->groups;

    o->n_rows = v->n * v->p * v->q;
    o->taps = dw_taps(v);
    o->pieces = ceil_div(v->r * v->s, o->taps);
    o->slot = k * round_up(o->taps * c, VL);
    o->chunks = v->groups * o->pieces;
    int64_t n = min_of(ceil_div(DW_CHUNKS, o->chunks), DW_SLOTS / (o->slot * o->chunks));
    n = max_of(1, min_of(n, o->n_rows / DW_ROWS));
    o->stretches = max_of(1, ceil_div(o->n_rows, stretch_rows(o->n_rows, n)));
}

static parts scratch_parts(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    const int64_t c = v->c / v->groups, k = v->k / v->groups, rs = v->r * v->s;
    const int64_t depth = round_up(rs * (pass == TI_CONV_DX ? k : c), VL);
    int64_t shared, own;

    if (pass == TI_CONV_DW) {
        job o = {0};
        cut_dw(v, &o);
        shared = o.chunks * o.stretches * padded(o.slot);
        own = padded(ROWS_TN * round_up(o.taps * c, VL)) + padded(ROWS_TN * round_up(k, VL)) +
              round_up(ROWS_TN * (int64_t)sizeof(int64_t), 64);
    } else {
        shared = v->groups * padded(depth * round_up(pass == TI_CONV_DX ? c : k, NR));
        own = padded(ROWS_NN * depth) + round_up(ROWS_NN * (int64_t)sizeof(float *), 64);
    }
    parts q = {.b = taps_bytes(v)};
    q.own = q.b + (size_t)shared;
    q.own_each = taps_bytes(v) + (size_t)own;
    q.total = q.own + (size_t)max_of(n_threads, 1) * q.own_each;
    return q;
}

size_t igemm_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    return scratch_parts(v, pass, n_threads).total;
}

/* ---- forward and dx
 * -------------------------------------------------------------------------------- */

/* Depth of A for the rows of a region, and where it is in B. */
static panel_runs runs_of(const job *o, const gather_region *r)
{
    const int64_t row = o->g.taps_w * o->g.src_c; /* of taps */
    panel_runs d = {.b_depth = o->depth, .b_step = row};

    if (r->w.n_taps == o->g.taps_w) {
        d.runs = 1;
        d.depth = round_up(r->h.n_taps * row, VL);
    } else {
        d.runs = r->h.n_taps;
        d.depth = r->w.n_taps * o->g.src_c;
    }
    return d;
}

static void run_rows(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t group = i / o->chunks;
    const float *bias = o->e && o->e->bias ? o->e->bias + group * o->n_cols : NULL;
    char *own = o->own + (size_t)i_worker * o->own_bytes;
    float *a = (float *)(own + taps_bytes(o->v));
    float **rows = (float **)((char *)a + (size_t)padded(ROWS_NN * o->depth));
    const region *r = o->region;
    int64_t chunk = i % o->chunks;

    for (; chunk >= r->chunks; r++) chunk -= r->chunks;
    const gather g = gather_part(&o->g, &r->r, (gather_tap *)own);
    const panel_runs d = runs_of(o, &r->r);
    const float *b =
        o->b + group * o->b_group + (r->r.h.tap * o->g.taps_w + r->r.w.tap) * o->g.src_c * NR;
    const int64_t t1 = min_of(r->n_rows, (chunk + 1) * r->chunk_rows);

    for (int64_t t = chunk * r->chunk_rows, n_t; t < t1; t += n_t) {
        n_t = min_of(r->block_rows, t1 - t);
        gather_rows(&g, o->src + group * g.src_c, t, n_t, 0, g.n_taps, a,
                    o->out + group * o->n_cols, rows);
        panel_nn_runs(n_t, o->n_cols, &d, a, n_t, b, rows, bias, o->e && o->e->relu);
    }
}

static void find_regions(job *o)
{
    gather_region r[GATHER_REGIONS];

    o->n_regions = gather_regions(&o->g, r);
    for (int i = 0; i < o->n_regions; i++)
        o->region[i] = (region){.r = r[i], .n_rows = o->g.n * r[i].h.n_rows * r[i].w.n_rows};
}

/* All groups of one gather, blocks of each region dealt in chunks that are worth a thread. */
static void run_gather(ti_threads *t, job *o, ti_chunk_fn pack)
{
    const int64_t panels = ceil_div(o->n_cols, NR), groups = o->v->groups;
    const double row = (double)o->depth * (double)o->n_cols;
    const int64_t n_rows = o->g.n * o->g.rows_h * o->g.rows_w;

    if (n_rows == 0) return;
    find_regions(o);
    o->chunks = 0;
    for (region *r = o->region; r < o->region + o->n_regions; r++) {
        const int64_t taps = r->r.h.n_taps * r->r.w.n_taps;
        const double products = row * (double)taps / (double)o->g.n_taps;
        const int64_t blocks = (int64_t)(MAC_CHUNK / (products * ROWS_NN)) + 1;
        r->block_rows = ceil_div(r->n_rows, ceil_div(r->n_rows, ROWS_NN));
        r->chunk_rows = blocks * r->block_rows;
        o->chunks += r->chunks = ceil_div(r->n_rows, r->chunk_rows);
    }
    const bool worth = row * (double)n_rows * (double)groups > 2 * MAC_CHUNK;
    o->b_group = padded(o->depth * round_up(o->n_cols, NR)) / (int64_t)sizeof(float);
    ti_threads_run(worth && row * (double)groups > MAC_CHUNK / 10 ? t : NULL, groups * panels, pack,
                   o);
    ti_threads_run(worth ? t : NULL, groups * o->chunks, run_rows, o);
}

static job start(const ti_conv *v, ti_conv_pass pass, ti_threads *t, char *scratch)
{
    const parts q = scratch_parts(v, pass, ti_threads_count(t));

    return (job){
        .v = v, .b = (float *)(scratch + q.b), .own = scratch + q.own, .own_bytes = q.own_each};
}

void igemm_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
               const ti_conv_epilogue *e, void *scratch)
{
    job o = start(v, TI_CONV_FWD, t, scratch);

    o.g = gather_fwd(v, scratch);
    o.src = x;
    o.w = w;
    o.out = y;
    o.e = e;
    o.n_cols = v->k / v->groups;
    o.depth = round_up(o.g.n_taps * o.g.src_c, VL);
    run_gather(t, &o, pack_fwd);
}

/* Pixels that no output reads. */
static void zero_pixels(const ti_conv *v, int64_t a, int64_t b, float *dx)
{
    for (int64_t i = 0; i < v->n; i++)
        for (int64_t y = a; y < v->h; y += v->stride[0])
            for (int64_t x = b; x < v->w; x += v->stride[1])
                memset(dx + ((i * v->h + y) * v->w + x) * v->c, 0, (size_t)v->c * sizeof(float));
}

void igemm_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
              void *scratch)
{
    job o = start(v, TI_CONV_DX, t, scratch);

    o.src = dy;
    o.w = w;
    o.out = dx;
    o.n_cols = v->c / v->groups;
    for (int64_t a = 0; a < min_of(v->stride[0], v->h); a++)
        for (int64_t b = 0; b < min_of(v->stride[1], v->w); b++) {
            o.g = gather_dx(v, a, b, scratch);
            o.depth = round_up(o.g.n_taps * o.g.src_c, VL);
            if (o.g.n_taps == 0) zero_pixels(v, a, b, dx);
            else run_gather(t, &o, pack_dx);
        }
}

/* ---- dw
 * -------------------------------------------------------------------------------------------- */

/* Taps of the region's gather in u0 … u1; taps: room for them. */
static void keep_taps(gather *g, int64_t u0, int64_t u1, gather_tap *taps)
{
    int64_t n = 0;

    for (int64_t i = 0; i < g->n_taps; i++)
        if (taps[i].filter >= u0 && taps[i].filter < u1) taps[n++] = taps[i];
    g->n_taps = n;
}

/* slot[k_whole][ld], which begins at tap u0, += dy^T x; taps side by side are one product. */
static void add_products(const gather *g, int64_t n_t, int64_t k_whole, const float *b,
                         const float *a, int64_t u0, float *slot, int64_t ld)
{
    for (int64_t u = 0, run; u < g->n_taps; u += run) {
        for (run = 1; u + run < g->n_taps && g->taps[u + run].filter == g->taps[u].filter + run;)
            run++;
        panel_tn(n_t, k_whole, round_up(run * g->src_c, VL), b, a + u * g->src_c * n_t, n_t,
                 slot + (g->taps[u].filter - u0) * g->src_c, ld, true);
    }
}

/* One stretch of each region's rows, one piece of one group, into its slot: [k, whole vectors]
 * [taps x c]. */
static void run_stretch(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    const int64_t piece = i / o->stretches % o->pieces, group = i / o->stretches / o->pieces;
    const int64_t k = v->k / v->groups, k_whole = round_up(k, VL);
    const int64_t u0 = piece * o->taps, u1 = min_of(u0 + o->taps, o->g.n_taps);
    const int64_t ld = round_up((u1 - u0) * o->g.src_c, VL);
    char *own = o->own + (size_t)i_worker * o->own_bytes;
    gather_tap *taps = (gather_tap *)own;
    float *a = (float *)(own + taps_bytes(v));
    float *b = a + padded(ROWS_TN * round_up(o->taps * o->g.src_c, VL)) / (int64_t)sizeof(float);
    int64_t *pixels = (int64_t *)((char *)b + padded(ROWS_TN * k_whole));
    float *slot = o->b + i * (padded(o->slot) / (int64_t)sizeof(float));

    memset(slot, 0, (size_t)(k_whole * ld) * sizeof(float));
    for (const region *r = o->region; r < o->region + o->n_regions; r++) {
        const int64_t t0 = i % o->stretches * r->chunk_rows;
        const int64_t t1 = min_of(r->n_rows, t0 + r->chunk_rows);
        gather g = gather_part(&o->g, &r->r, taps);

        keep_taps(&g, u0, u1, taps);
        for (int64_t t = t0, n_t; t < t1 && g.n_taps > 0; t += n_t) {
            n_t = min_of(ROWS_TN, t1 - t);
            gather_rows(&g, o->src + group * g.src_c, t, n_t, 0, g.n_taps, a, NULL, NULL);
            gather_pixels(&g, t, n_t, pixels);
            for (int64_t j = 0; j < n_t; j++) {
                gather_put(b, n_t, j, 0, o->dy + pixels[j] + group * k, k);
                gather_put(b, n_t, j, k, NULL, k_whole - k);
            }
            add_products(&g, n_t, k_whole, b, a, u0, slot, ld);
        }
    }
}

/* A vector of row k of dw, from channel c of tap u on: its slots, added in order. */
INLINE vf slot_sum(const job *o, int64_t group, int64_t k, int64_t u, int64_t c)
{
    const int64_t piece = u / o->taps, u0 = piece * o->taps, n_c = o->g.src_c;
    const int64_t slot = padded(o->slot) / (int64_t)sizeof(float);
    const int64_t width = round_up((min_of(u0 + o->taps, o->g.n_taps) - u0) * n_c, VL);
    const float *from =
        o->b + (group * o->pieces + piece) * o->stretches * slot + k * width + (u - u0) * n_c + c;
    vf sum = v_load(from);

    for (int64_t s = 1; s < o->stretches; s++) sum = v_add(sum, v_load(from + s * slot));
    return sum;
}

/* One row of dw, turned into [c][taps]. */
static void add_slots(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t n_k = o->v->k / o->v->groups, group = i / n_k, k = i % n_k;
    const int64_t n_c = o->g.src_c, taps = o->g.n_taps;
    float *to = o->out + i * taps * n_c;

    (void)i_worker;
    if (n_c % VL) { /* one piece, a run over taps and channels */
        for (int64_t d = 0, u = 0, c = 0; d < taps * n_c; d += VL) {
            float sums[VL];
            v_store(sums, slot_sum(o, group, k, 0, d));
            for (int64_t j = 0; j < min_of(VL, taps * n_c - d); j++) {
                to[c * taps + u] = sums[j];
                if (++c == n_c) c = 0, u++;
            }
        }
        return;
    }
    for (int64_t c = 0; c < n_c; c += VL)
        for (int64_t u = 0; u < taps; u += VL) {
            const int64_t n_u = min_of(VL, taps - u);
            vf r[VL];
            if (taps == 1) {
                v_store(to + c, slot_sum(o, group, k, 0, c));
                continue;
            }
            for (int64_t j = 0; j < VL; j++)
                r[j] = j < n_u ? slot_sum(o, group, k, u + j, c) : v_zero();
            unturn_taps(r, taps, u, n_u, VL, to + c * taps);
        }
}

void igemm_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
              void *scratch)
{
    job o = start(v, TI_CONV_DW, t, scratch);
    const double flat = (double)(v->r * v->s) * (double)(v->c / v->groups);

    cut_dw(v, &o);
    o.g = gather_fwd(v, scratch);
    o.src = x;
    o.dy = dy;
    o.out = dw;
    find_regions(&o);
    for (int i = 0; i < o.n_regions; i++)
        o.region[i].chunk_rows = stretch_rows(o.region[i].n_rows, o.stretches);
    const bool worth = flat * (double)v->k * (double)o.n_rows > 2 * MAC_CHUNK;
    const bool wide = flat * (double)v->k * (double)o.stretches > MAC_CHUNK / 2;
    ti_threads_run(worth ? t : NULL, o.chunks * o.stretches, run_stretch, &o);
    ti_threads_run(wide ? t : NULL, v->k, add_slots, &o);
}

/* Regions that a convolution may have: each tap goes and comes once along its axis. */
static int64_t most_regions(const ti_conv *v)
{
    return min_of(GATHER_CUTS, 2 * v->r - 1) * min_of(GATHER_CUTS, 2 * v->s - 1);
}

int64_t igemm_chain(const ti_conv *v, ti_conv_pass pass)
{
    if (pass == TI_CONV_DW) {
        job o = {0};
        cut_dw(v, &o);
        return min_of(ROWS_TN, o.n_rows) + stretch_rows(o.n_rows, o.stretches) / ROWS_TN +
               most_regions(v) + o.stretches;
    }
    const int64_t d = v->r * v->s * (pass == TI_CONV_DX ? v->k : v->c) / v->groups;
    return min_of(d, SLICE) + ceil_div(d, SLICE) + v->r + 4 + 1;
}
