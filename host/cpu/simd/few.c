/*
 * few.c - convolution where pixels are few and weights many: deep layers at batch 1.
 *
 * The weights pass through once, as they lie; whatever has to be turned is the images.
 *
 *   forward  rows of x (gather.h), their depth turned to the weights' order of channels and taps;
 *            dot products of rows and filters, vectors along the depth
 *   dx       T[pixel of dy][c x taps] = dy W, a few filters at a time so that W is read in order
 *            and T stays in L2; then T is added where its taps belong
 *   dw       the rows of forward, transposed, times dy: written where it belongs
 *
 * Threads: forward and dw give out filters, dx channels. Sums over filters, taps and pixels have
 * one order.
 */
#include "few.h"
#include "gather.h"
#include "mk.h"

#include <string.h>

enum {
    ROWS_FEW = N_REGS == 32 ? 32 : 24, /* forward and dx: more are worth packing the weights */
    ROWS_DW = 128,                     /* dw: one block of panel_tn */
    COLS = 32,                         /* filters given out at a time, forward */
    COLS_DW = 16,                      /* and dw */
    FILTERS = 16,                      /* of one pass over T: as many lines of L1 as it has ways */
    VECS = N_REGS == 32 ? 3 : 1,       /* of a tile of T */
    TILES = 16,                        /* tiles of T given out at a time */
    CHANNELS = 4 * VL                  /* of dx given out at a time */
};

_Static_assert(COLS_DW % VL == 0, "panels of dy are whole");

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 1000000.0

typedef struct {
    const ti_conv *v;
    gather g;
    int64_t n_t, n_c, n_k, taps, flat, depth; /* pixels; a group's channels; taps x channels */
    const float *dy, *w;
    float *a, *gathered, *t, *out;
    float **rows;
    const ti_conv_epilogue *e;
    const float *bias;
} job;

bool few_pays(const ti_conv *v, ti_conv_pass pass)
{
    const int64_t n_t = v->n * v->p * v->q, flat = v->r * v->s * (v->c / v->groups);

    if (pass != TI_CONV_DW) return n_t <= ROWS_FEW;
    return n_t <= ROWS_DW && flat % VL == 0 && v->k / v->groups % VL == 0;
}

/* ---- scratch --------------------------------------------------------------------------------- */

static job start(const ti_conv *v)
{
    job o = {.v = v, .n_t = v->n * v->p * v->q, .n_c = v->c / v->groups, .n_k = v->k / v->groups};

    o.taps = v->r * v->s;
    o.flat = o.taps * o.n_c;
    o.depth = round_up(o.flat, VL);
    return o;
}

/* Taps and rows' addresses; rows of x, twice; a panel of dy, or T. */
size_t few_scratch(const ti_conv *v, ti_conv_pass pass)
{
    const job o = start(v);
    const int64_t lists = o.taps * (int64_t)sizeof(gather_tap) + o.n_t * (int64_t)sizeof(float *);
    const int64_t floats = pass == TI_CONV_DX   ? o.n_t * o.depth
                           : pass == TI_CONV_DW ? o.n_t * (2 * o.depth + round_up(o.n_k, VL))
                                                : o.n_t * 2 * o.depth;

    return (size_t)(round_up(lists, 64) + round_up(floats * (int64_t)sizeof(float), 64));
}

static void lay_out(job *o, char *scratch)
{
    const int64_t lists = o->taps * (int64_t)sizeof(gather_tap) + o->n_t * (int64_t)sizeof(float *);

    o->g = gather_fwd(o->v, (gather_tap *)(void *)scratch);
    o->rows = (float **)(void *)(scratch + o->taps * (int64_t)sizeof(gather_tap));
    o->a = (float *)(void *)(scratch + round_up(lists, 64));
    o->gathered = o->a + o->n_t * o->depth;
    o->t = o->gathered + o->n_t * o->depth;
}

/* The rows of group i, channels before taps; y as for gather_rows. */
static void gather_group(const job *o, int64_t i, const float *x, float *y)
{
    const int64_t n_t = o->n_t;
    float *from = o->taps > 1 ? o->gathered : o->a;

    gather_rows(&o->g, x + i * o->n_c, 0, n_t, 0, o->taps, from, y, y ? o->rows : NULL);
    for (int64_t d = 0; d < o->depth && o->taps > 1; d++) {
        const int64_t e = d < o->flat ? d % o->taps * o->n_c + d / o->taps : d;
        for (int64_t t = 0; t < n_t; t++)
            o->a[(d / VL * n_t + t) * VL + d % VL] = from[(e / VL * n_t + t) * VL + e % VL];
    }
}

static ti_threads *if_worth(ti_threads *t, const job *o)
{
    return (double)o->n_t * (double)o->flat * (double)o->n_k > 2 * MAC_CHUNK ? t : NULL;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Some rows times some filters. */
INLINE void dots(const int rows, const int n_k, const job *o, int64_t t, int64_t k)
{
    const int64_t flat = o->flat;
    const float *a = o->a + t * VL, *w = o->w + k * flat;
    float *const *out = o->rows + t;

    for (int64_t d0 = 0; d0 < flat; d0 += SLICE * VL) {
        const int64_t d1 = min_of(flat, d0 + SLICE * VL);
        vf s[6][4];

        UNROLL for (int i = 0; i < rows; i++)
        {
            UNROLL for (int j = 0; j < n_k; j++) s[i][j] = v_zero();
        }
        for (int64_t d = d0; d < d1; d += VL, a += o->n_t * VL) {
            const vmask m = v_lanes(flat - d);
            vf b[4];
            UNROLL for (int j = 0; j < n_k; j++) b[j] = v_load_m(w + j * flat + d, m);
            UNROLL for (int i = 0; i < rows; i++)
            {
                const vf x = v_load(a + i * VL);
                UNROLL for (int j = 0; j < n_k; j++) s[i][j] = v_fma(x, b[j], s[i][j]);
            }
        }
        UNROLL for (int i = 0; i < rows; i++)
        {
            UNROLL for (int j = 0; j < n_k; j++)
            {
                float x = v_sum(s[i][j]);
                if (d0 > 0) x += out[i][k + j];
                if (d1 == flat && o->bias) x += o->bias[k + j];
                if (d1 == flat && o->e && o->e->relu) x = relu_of(x);
                out[i][k + j] = x;
            }
        }
    }
}

static void fwd_filters(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t end = min_of(o->n_k, i * COLS + COLS);

    (void)i_worker;
    for (int64_t k = i * COLS; k < end;) {
        const bool wide = end - k >= 4;
        for (int64_t t = 0; t < o->n_t;) {
            const int64_t left = o->n_t - t;
            if (wide && left >= 6) dots(6, 4, o, t, k);
            else if (wide && left >= 4) dots(4, 4, o, t, k);
            else if (wide) dots(1, 4, o, t, k);
            else if (left >= 6) dots(6, 1, o, t, k);
            else dots(1, 1, o, t, k);
            t += left >= 6 ? 6 : wide && left >= 4 ? 4 : 1;
        }
        k += wide ? 4 : 1;
    }
}

void few_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
             const ti_conv_epilogue *e, void *scratch)
{
    job o = start(v);

    lay_out(&o, scratch);
    o.e = e;
    for (int64_t i = 0; i < v->groups; i++) {
        gather_group(&o, i, x, y + i * o.n_k);
        o.w = w + i * o.n_k * o.flat;
        o.bias = e && e->bias ? e->bias + i * o.n_k : NULL;
        ti_threads_run(if_worth(t, &o), ceil_div(o.n_k, COLS), fwd_filters, &o);
    }
}

/* ---- dx -------------------------------------------------------------------------------------- */

/* Some columns of T. */
static void dx_products(void *arg, int64_t i, int i_worker)
{
    static const int max_rows[MK_MAX_VECS] = MK_ROWS;
    const job *o = arg;
    const int64_t width = VECS * VL, end = min_of(o->flat, (i + 1) * TILES * width);
    const int64_t most = max_rows[VECS - 1], mr = ceil_div(o->n_t, ceil_div(o->n_t, most));
    mk_tile t = {.a_rs = o->v->k, .a_ks = 1, .ldb = o->flat, .n_runs = 1, .ldc = o->depth};

    (void)i_worker;
    for (int64_t k = 0; k < o->n_k; k += FILTERS) {
        t.k_len = min_of(FILTERS, o->n_k - k);
        t.accumulate = k > 0;
        for (int64_t d = i * TILES * width; d < end; d += width) {
            const int64_t cols = min_of(width, end - d), vecs = ceil_div(cols, VL);
            t.b = o->w + k * o->flat + d;
            t.last_lanes = (int)(cols - (vecs - 1) * VL);
            for (int64_t j = 0; j < FILTERS && k + FILTERS + j < o->n_k; j++)
                for (int64_t c = 0; c < width; c += 16) /* the next filters, short runs far apart */
                    __builtin_prefetch(t.b + (FILTERS + j) * o->flat + c);
            for (int64_t r = 0; r < o->n_t; r += mr) {
                t.a = o->dy + r * o->v->k + k;
                t.c = o->a + r * o->depth + d;
                MK(mk_strided)[vecs - 1][min_of(mr, o->n_t - r) - 1](&t);
            }
        }
    }
}

/* T, taps t0 … t0 + VL of VL channels from c, added to dx. */
static void add_taps(const job *o, int64_t c, int64_t t0)
{
    const ti_conv *v = o->v;
    const vmask m = v_lanes(o->n_c - c);

    for (int64_t i = 0; i < o->n_t; i++) {
        const int64_t q = i % v->q * v->stride[1] - v->pad[1];
        const int64_t p = i / v->q % v->p * v->stride[0] - v->pad[0];
        float *image = o->out + i / (v->q * v->p) * v->h * v->w * v->c + c;
        vf r[VL];

        turn_taps(o->a + i * o->depth + c * o->taps, o->taps, t0, o->n_c - c, r);
        for (int64_t t = t0; t < min_of(o->taps, t0 + VL); t++) {
            const int64_t y = p + o->g.taps[t].dh, x = q + o->g.taps[t].dw;
            if (y < 0 || y >= v->h || x < 0 || x >= v->w) continue;
            float *to = image + (y * v->w + x) * v->c;
            v_store_m(to, m, v_add(v_load_m(to, m), r[t - t0]));
        }
    }
}

static void dx_channels(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t end = min_of(o->n_c, (i + 1) * CHANNELS);

    (void)i_worker;
    for (int64_t c = i * CHANNELS; c < end; c += VL)
        for (int64_t t0 = 0; t0 < o->taps; t0 += VL) add_taps(o, c, t0);
}

void few_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
            void *scratch)
{
    job o = start(v);

    lay_out(&o, scratch);
    memset(dx, 0, (size_t)(v->n * v->h * v->w * v->c) * sizeof(float));
    for (int64_t i = 0; i < v->groups; i++) {
        o.dy = dy + i * o.n_k;
        o.w = w + i * o.n_k * o.flat;
        o.out = dx + i * o.n_c;
        ti_threads *all = if_worth(t, &o);
        ti_threads_run(all, ceil_div(o.flat, TILES * VECS * VL), dx_products, &o);
        ti_threads_run(all, ceil_div(o.n_c, CHANNELS), dx_channels, &o);
    }
}

/* ---- dw -------------------------------------------------------------------------------------- */

static void dw_filters(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t k = i * COLS_DW;

    (void)i_worker;
    panel_tn(o->n_t, min_of(COLS_DW, o->n_k - k), o->flat, o->t + k * o->n_t, o->a, o->n_t,
             o->out + k * o->flat, o->flat, false);
}

void few_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
            void *scratch)
{
    job o = start(v);

    lay_out(&o, scratch);
    for (int64_t i = 0; i < v->groups; i++) {
        gather_group(&o, i, x, NULL);
        for (int64_t j = 0; j < o.n_t; j++)
            gather_put(o.t, o.n_t, j, 0, dy + j * v->k + i * o.n_k, o.n_k);
        o.out = dw + i * o.n_k * o.flat;
        ti_threads_run(if_worth(t, &o), ceil_div(o.n_k, COLS_DW), dw_filters, &o);
    }
}

int64_t few_chain(const ti_conv *v, ti_conv_pass pass)
{
    const job o = start(v);

    if (pass == TI_CONV_DW) return max_of(1, o.n_t);
    if (pass == TI_CONV_DX) return min_of(FILTERS, o.n_k) + ceil_div(o.n_k, FILTERS) + o.taps;
    return min_of(o.flat, SLICE) + ceil_div(o.flat, SLICE) + 4 + 1;
}
