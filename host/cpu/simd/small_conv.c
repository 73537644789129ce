/*
 * small_conv.c - convolution with few input channels on the microkernels of mk.h, whose runs and
 * strides walk the image: no rows are copied. Which index goes into the lanes decides everything:
 *
 *   forward, K >= VL: lanes = output channels, rows = pixels of one output row; run u = filter row,
 *            k = the S*C contiguous floats under the filter row. The image is padded once, in L1.
 *   forward, K < VL: lanes = pixels. S*C copies of the image, shifted, cut to width Q, make every
 *            filter tap a contiguous plane of P*Q pixels, so no lane is idle at row ends; the
 *            planar result is interleaved to channels-last.
 *   dx:      lanes = the S*C floats of one filter row, rows = pixels of one column of dy, k =
 *            output channels; tiles are added where they belong in a padded dx. Does only the
 *            products that exist. A column, because pixels of one row land on overlapping floats,
 *            and a load that overlaps a store in flight waits for it.
 *   dw, K >= VL: lanes = output channels, rows = the S*C floats, k = pixels, in chunks of image
 *            rows that stay in L1 for all filter rows.
 *   dw, K < VL: lanes = pixels (dot form) on the shifted copies and a planar copy of dy.
 *
 * Threads: images are given out in groups. dw sums a fixed number of groups, each in a slot of its
 * own; the slots are added in order.
 */
#include "small_conv.h"
#include "mk.h"
#include "pack.h"

#include <string.h>

enum {
    SLACK = 64,             /* what whole vectors write past the end of a part of scratch */
    L1_CHUNK = 4096,        /* floats of dy that a dw chunk may hold */
    IMAGE_FLOATS = 1 << 18, /* largest padded image */
    LONGEST = 256,          /* products of one sum */
    SLOTS = 16              /* groups of images in dw */
};

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 1000000.0

static const int max_rows[MK_MAX_VECS] = MK_ROWS;

typedef struct {
    const ti_conv *v;
    int64_t sc, wide, high, plane; /* S*C; floats of a padded row; padded rows; floats of a plane */
    bool narrow;                   /* lanes = pixels */
    const float *x, *dy, *w;       /* w: as the pass packed it */
    float *out;
    const ti_conv_epilogue *e;
    int64_t images; /* of one chunk */
    float *turned, *packed, *slots, *own;
    int64_t turned_floats, packed_floats, slot_floats, own_floats;
} job;

/* ---- choice, scratch ------------------------------------------------------------------------- */

static int64_t sum_length(const ti_conv *v, ti_conv_pass pass)
{
    return pass == TI_CONV_FWD ? v->r * v->s * v->c : pass == TI_CONV_DX ? v->k : v->q;
}

bool small_conv_pays(const ti_conv *v, ti_conv_pass pass)
{
    const double image = (double)(v->p * v->q) * (double)(v->k * v->c) * (double)(v->r * v->s);

    if (v->groups != 1 || v->dilation[0] != 1 || v->dilation[1] != 1 || v->c >= 16) return false;
    if (v->c % VL == 0 && pass != TI_CONV_DX) return false;
    if (v->r * v->s == 1 || sum_length(v, pass) > LONGEST) return false;
    if ((v->h + 2 * v->pad[0]) * (v->w + 2 * v->pad[1]) > IMAGE_FLOATS / v->c) return false;
    /* Threads work on images; one large image is for igemm, whose threads share it. */
    return v->n >= 4 || image < 4 * MAC_CHUNK;
}

/* Filters are taken as [taps][c] here; a plain one is [c][taps]. Where float j of a filter lies. */
INLINE int64_t place(const ti_conv *v, int64_t j) { return j % v->c * v->r * v->s + j / v->c; }

static const float *turned(const job *o, const float *w)
{
    const int64_t n_c = o->v->c, taps = o->v->r * o->v->s;
    float *to = o->turned;

    if (n_c == 1) return w;
    for (int64_t k = 0; k < o->v->k; k++, w += taps * n_c)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < n_c; c++) *to++ = w[c * taps + t];
    return o->turned;
}

/* In floats, multiples of 16: weights turned, packed; slots of dw; each thread's own. */
static job start(const ti_conv *v, ti_conv_pass pass)
{
    job o = {.v = v, .sc = v->s * v->c};
    const int64_t rsck = v->r * o.sc * v->k, pq = round_up(v->p * v->q + SLACK, VL);

    o.wide = (v->w + 2 * v->pad[1]) * v->c;
    o.high = v->h + 2 * v->pad[0];
    o.plane = round_up(o.high * v->q + SLACK, VL);
    o.narrow = v->k < VL && v->stride[0] == 1;
    o.own_floats = round_up(o.wide * o.high + SLACK, 16);
    o.images = ceil_div(v->n, SLOTS);
    if (pass == TI_CONV_FWD) o.packed_floats = rsck + SLACK;
    if (pass == TI_CONV_DX)
        o.packed_floats = v->r * v->k * round_up(o.sc, MK_MAX_VECS * VL) + SLACK;
    if (pass == TI_CONV_DW) o.slot_floats = round_up(o.narrow ? (rsck + VL) * VL : rsck, 16);
    if (pass != TI_CONV_DX && o.narrow)
        o.own_floats += round_up(o.sc * o.plane + v->k * max_of(pq, MK_MAX_VECS * VL) + SLACK, 16);
    o.packed_floats = round_up(o.packed_floats, 16);
    if (pass != TI_CONV_DW && v->c > 1) o.turned_floats = round_up(rsck, 16);
    return o;
}

size_t small_conv_scratch(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    const job o = start(v, pass);
    const int64_t own = max_of(n_threads, 1) * o.own_floats;

    return (size_t)(o.turned_floats + o.packed_floats + SLOTS * o.slot_floats + own) *
           sizeof(float);
}

static void lay_out(job *o, float *scratch)
{
    o->turned = scratch;
    o->packed = o->turned + o->turned_floats;
    o->slots = o->packed + o->packed_floats;
    o->own = o->slots + SLOTS * o->slot_floats;
}

/* Images in chunks that are worth a thread. */
static void run_images(ti_threads *t, job *o, ti_chunk_fn fn)
{
    const ti_conv *v = o->v;
    const double image = (double)(v->p * v->q) * (double)(v->r * o->sc) * (double)v->k;

    o->images = (int64_t)(MAC_CHUNK / (image + 1)) + 1;
    ti_threads_run(image * (double)v->n > 2 * MAC_CHUNK ? t : NULL, ceil_div(v->n, o->images), fn,
                   o);
}

/* ---- images ---------------------------------------------------------------------------------- */

static void copy(const float *from, int64_t n, float *to)
{
    int64_t j = 0;

    for (; j + VL <= n; j += VL) v_store(to + j, v_load(from + j));
    if (j < n) v_store_m(to + j, v_lanes(n - j), v_load_m(from + j, v_lanes(n - j)));
}

/* Image i with zeros around it, in dst; the image itself where it needs none. The zeros are written
 * for the first image only. */
static const float *pad_image(const job *o, int64_t i, bool first, float *dst)
{
    const ti_conv *v = o->v;
    const int64_t row = v->w * v->c;
    const float *x = o->x + i * v->h * row;

    if (v->pad[0] == 0 && v->pad[1] == 0) return x;
    if (first) memset(dst, 0, (size_t)(o->wide * o->high) * sizeof(float));
    for (int64_t y = 0; y < v->h; y++)
        copy(x + y * row, row, dst + (v->pad[0] + y) * o->wide + v->pad[1] * v->c);
    return dst;
}

/* planes[s*C + c][y][q] = x[y][q*stride + s][c] for all rows y of the padded image. */
static void shifted_planes(const job *o, const float *x, float *planes)
{
    const ti_conv *v = o->v;
    const int64_t step = v->stride[1] * v->c;

    for (int64_t sc = 0; sc < o->sc; sc++)
        for (int64_t y = 0; y < o->high; y++) {
            const float *from = x + y * o->wide + sc;
            float *to = planes + sc * o->plane + y * v->q;
            if (step == 1) copy(from, v->q, to);
            else
                for (int64_t j = 0; j < v->q; j++) to[j] = from[j * step];
        }
}

/* y[pixel][ch] = relu(planar[ch][pixel] + bias[ch]), k < VL channels. Stores overhang into the next
 * pixel, which is written later, but never past the last one. */
static void interleave(const float *planar, int64_t ld, int64_t k, int64_t n,
                       const ti_conv_epilogue *e, float *y)
{
    const vmask lanes = v_lanes(k);
    const vf bias = e && e->bias ? v_load_m(e->bias, lanes) : v_zero();

    for (int64_t i = 0; i < n; i += VL) {
        const vmask m = v_lanes(n - i);
        vf r[VL];
        for (int ch = 0; ch < VL; ch++)
            r[ch] = ch < k ? v_load_m(planar + ch * ld + i, m) : v_zero();
        v_transpose(r);
        for (int64_t j = i; j < min_of(n, i + VL); j++) {
            vf x = v_add(r[j - i], bias);
            if (e && e->relu) x = v_relu(x);
            if (j * k + VL <= n * k) v_store(y + j * k, x);
            else v_store_m(y + j * k, lanes, x);
        }
    }
}

static void deinterleave(const float *y, int64_t k, int64_t n, int64_t ld, float *planar)
{
    const vmask lanes = v_lanes(k);

    for (int64_t i = 0; i < n; i += VL) {
        vf r[VL];
        for (int64_t j = 0; j < VL; j++)
            r[j] = i + j < n ? v_load_m(y + (i + j) * k, lanes) : v_zero();
        v_transpose(r);
        for (int64_t ch = 0; ch < k; ch++) v_store(planar + ch * ld + i, r[ch]);
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

static void fwd_wide(const job *o, const float *x, float *y)
{
    const ti_conv *v = o->v;
    const int64_t nv = min_of(ceil_div(v->k, VL), MK_MAX_VECS), nr = nv * VL;
    const int64_t mr = ceil_div(v->q, ceil_div(v->q, max_rows[nv - 1]));
    const int64_t step = v->stride[1] * v->c;
    mk_tile t = {
        .a_rs = step,
        .a_ks = 1,
        .a_run = o->wide,
        .ldb = v->k,
        .b_run = o->sc * v->k,
        .k_len = o->sc,
        .n_runs = v->r,
        .ldc = v->k,
        .relu = o->e && o->e->relu,
    };

    for (int64_t oy = 0; oy < v->p; oy++)
        for (int64_t k = 0; k < v->k; k += nr) {
            const int64_t cols = min_of(nr, v->k - k), vecs = ceil_div(cols, VL);
            mk_fn *const *fns = step == 1 ? MK(mk_unit)[vecs - 1] : MK(mk_strided)[vecs - 1];
            t.last_lanes = (int)(cols - (vecs - 1) * VL);
            t.b = o->packed + k;
            t.bias = o->e && o->e->bias ? o->e->bias + k : NULL;
            for (int64_t ox = 0; ox < v->q; ox += mr) {
                t.a = x + oy * v->stride[0] * o->wide + ox * step;
                t.c = y + (oy * v->q + ox) * v->k + k;
                fns[min_of(mr, v->q - ox) - 1](&t);
            }
        }
}

static void fwd_narrow(const job *o, const float *planes, float *y, float *tile)
{
    const ti_conv *v = o->v;
    const int64_t pq = v->p * v->q;
    int64_t nv = MK_MAX_VECS;
    while (nv > 1 && max_rows[nv - 1] < v->k) nv--;
    const int64_t nr = nv * VL, mr = min_of(v->k, max_rows[nv - 1]);
    mk_tile t = {
        .a_rs = 1,
        .a_ks = v->k,
        .a_run = o->sc * v->k,
        .ldb = o->plane,
        .b_run = v->q,
        .k_len = o->sc,
        .n_runs = v->r,
        .ldc = nr,
    };

    for (int64_t j = 0; j < pq; j += nr) {
        const int64_t n = min_of(nr, pq - j), vecs = ceil_div(n, VL);
        t.b = planes + j;
        t.last_lanes = (int)(n - (vecs - 1) * VL);
        for (int64_t k = 0; k < v->k; k += mr) {
            t.a = o->packed + k;
            t.c = tile + k * nr;
            MK(mk_unit)[vecs - 1][min_of(mr, v->k - k) - 1](&t);
        }
        interleave(tile, nr, v->k, n, o->e, y + j * v->k);
    }
}

static void fwd_images(void *arg, int64_t i_chunk, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    float *own = o->own + i_worker * o->own_floats;
    float *planes = own + round_up(o->wide * o->high + SLACK, 16);
    const int64_t first = i_chunk * o->images, end = min_of(v->n, first + o->images);

    for (int64_t i = first; i < end; i++) {
        const float *x = pad_image(o, i, i == first, own);
        float *y = o->out + i * v->p * v->q * v->k;
        if (o->narrow) {
            shifted_planes(o, x, planes);
            fwd_narrow(o, planes, y, planes + o->sc * o->plane);
        } else {
            fwd_wide(o, x, y);
        }
    }
}

void small_conv_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                    const ti_conv_epilogue *e, void *scratch)
{
    job o = start(v, TI_CONV_FWD);
    const int64_t rsc = v->r * o.sc;

    lay_out(&o, scratch);
    o.x = x;
    o.out = y;
    o.e = e;
    w = turned(&o, w);
    /* packed[r][s][c][k]. Later groups first: what one overhangs is overwritten by group 0. */
    for (int64_t k = (v->k - 1) / VL * VL; k >= 0; k -= VL)
        pack_transposed(w + k * rsc, rsc, min_of(VL, v->k - k), rsc, o.packed + k, v->k);
    run_images(t, &o, fwd_images);
}

/* ---- dx -------------------------------------------------------------------------------------- */

static void dx_images(void *arg, int64_t i_chunk, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    const int64_t nr = round_up(min_of(o->sc, MK_MAX_VECS * VL), VL), panels = ceil_div(o->sc, nr);
    const int64_t mr = ceil_div(v->p, ceil_div(v->p, max_rows[nr / VL - 1]));
    const bool pads = v->pad[0] || v->pad[1];
    const int64_t end = min_of(v->n, (i_chunk + 1) * o->images), row = v->w * v->c;
    mk_tile t = {
        .a_rs = v->q * v->k,
        .a_ks = 1,
        .ldb = nr,
        .k_len = v->k,
        .n_runs = 1,
        .ldc = v->stride[0] * o->wide,
        .accumulate = true,
    };

    for (int64_t i = i_chunk * o->images; i < end; i++) {
        float *dx = o->out + i * v->h * row, *acc = pads ? o->own + i_worker * o->own_floats : dx;
        memset(acc, 0, (size_t)(o->wide * o->high) * sizeof(float));
        for (int64_t oy = 0; oy < v->p; oy += mr)
            for (int64_t ox = 0; ox < v->q; ox++)
                for (int64_t r = 0; r < v->r; r++)
                    for (int64_t j = 0; j < o->sc; j += nr) {
                        const int64_t cols = min_of(nr, o->sc - j), vecs = ceil_div(cols, VL);
                        t.last_lanes = (int)(cols - (vecs - 1) * VL);
                        t.a = o->dy + ((i * v->p + oy) * v->q + ox) * v->k;
                        t.b = o->packed + (r * panels + j / nr) * v->k * nr;
                        t.c =
                            acc + (oy * v->stride[0] + r) * o->wide + ox * v->stride[1] * v->c + j;
                        MK(mk_strided)[vecs - 1][min_of(mr, v->p - oy) - 1](&t);
                    }
        for (int64_t h = 0; h < v->h && pads; h++)
            copy(acc + (h + v->pad[0]) * o->wide + v->pad[1] * v->c, row, dx + h * row);
    }
}

void small_conv_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                   void *scratch)
{
    job o = start(v, TI_CONV_DX);
    const int64_t nr = round_up(min_of(o.sc, MK_MAX_VECS * VL), VL);
    float *to;

    lay_out(&o, scratch);
    o.dy = dy;
    o.out = dx;
    w = turned(&o, w);
    to = o.packed;
    for (int64_t r = 0; r < v->r; r++) /* packed[r][panel][k][nr] */
        for (int64_t j = 0; j < o.sc; j += nr, to += v->k * nr)
            pack_straight(w + r * o.sc + j, v->r * o.sc, min_of(nr, o.sc - j), v->k, to, nr);
    run_images(t, &o, dx_images);
}

/* ---- dw -------------------------------------------------------------------------------------- */

/* Vectors a tile should have for m rows of n floats: full lanes first, then the tile that fills
 * most registers. */
static int64_t choose_vecs(int64_t m, int64_t n)
{
    int64_t best = 1;
    double best_cost = 0;

    for (int64_t nv = 1; nv <= min_of(MK_MAX_VECS, ceil_div(n, VL)); nv++) {
        const int64_t tiles = ceil_div(m, max_rows[nv - 1]), mr = ceil_div(m, tiles);
        const double fma = (double)max_of(4, mr * nv);
        const double all = (double)(ceil_div(ceil_div(n, VL), nv) * tiles);
        const double cost = all * (fma + 0.1 * (double)(mr + nv));
        if (nv == 1 || cost < best_cost) {
            best = nv;
            best_cost = cost;
        }
    }
    return best;
}

/* Rows of dy that are worked on at a time. */
static int64_t dw_rows(const ti_conv *v) { return max_of(1, L1_CHUNK / (v->q * v->k)); }

/* One image, added to acc[r][s][c][k] (written where first). */
static void dw_wide(const job *o, int64_t i, bool first, const float *x, float *acc)
{
    const ti_conv *v = o->v;
    const int64_t nv = choose_vecs(o->sc, v->k), nr = nv * VL, chunk = dw_rows(v);
    const int64_t mr = ceil_div(o->sc, ceil_div(o->sc, max_rows[nv - 1]));
    mk_tile t = {
        .a_rs = 1,
        .a_ks = v->stride[1] * v->c,
        .a_run = v->stride[0] * o->wide,
        .ldb = v->k,
        .b_run = v->q * v->k,
        .k_len = v->q,
        .ldc = v->k,
        .accumulate = !first,
    };

    for (int64_t oy = 0; oy < v->p; oy += chunk, t.accumulate = true) {
        const float *dy = o->dy + (i * v->p + oy) * v->q * v->k;
        t.n_runs = min_of(chunk, v->p - oy);
        for (int64_t k = 0; k < v->k; k += nr) {
            const int64_t cols = min_of(nr, v->k - k), vecs = ceil_div(cols, VL);
            t.last_lanes = (int)(cols - (vecs - 1) * VL);
            t.b = dy + k;
            for (int64_t r = 0; r < v->r; r++)
                for (int64_t j = 0; j < o->sc; j += mr) {
                    t.a = x + (oy * v->stride[0] + r) * o->wide + j;
                    t.c = acc + (r * o->sc + j) * v->k + k;
                    MK(mk_unit)[vecs - 1][min_of(mr, o->sc - j) - 1](&t);
                }
        }
    }
}

/* One image, added to the lanes of each (k, r, sc), in the order of dw_narrow_out. */
static void dw_narrow(const job *o, int64_t i, const float *planes, float *dyp, float *lanes)
{
    const ti_conv *v = o->v;
    const int64_t pq = v->p * v->q, ld = round_up(pq, VL);
    const int64_t mr = ceil_div(v->k, ceil_div(v->k, MK_DOT_M));
    const int64_t nr = ceil_div(o->sc, ceil_div(o->sc, MK_DOT_N));
    mk_dot_tile t = {.lda = ld, .ldb = o->plane, .k = pq, .lanes = lanes};

    deinterleave(o->dy + i * pq * v->k, v->k, pq, ld, dyp);
    for (int64_t k = 0; k < v->k; k += mr) /* outermost: mr planes of dy and those of x fill L1 */
        for (int64_t r = 0; r < v->r; r++)
            for (int64_t j = 0; j < o->sc; j += nr) {
                const int64_t m = min_of(mr, v->k - k), n = min_of(nr, o->sc - j);
                t.a = dyp + k * ld;
                t.b = planes + j * o->plane + r * v->q;
                MK(mk_dot)[m - 1][n - 1](&t);
                t.lanes += m * n * VL;
            }
}

/* A group of images, into slot i_chunk. */
static void dw_images(void *arg, int64_t i_chunk, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    float *own = o->own + i_worker * o->own_floats, *slot = o->slots + i_chunk * o->slot_floats;
    float *planes = own + round_up(o->wide * o->high + SLACK, 16);
    const int64_t first = i_chunk * o->images, end = min_of(v->n, first + o->images);

    if (o->narrow) memset(slot, 0, (size_t)o->slot_floats * sizeof(float));
    for (int64_t i = first; i < end; i++) {
        const float *x = pad_image(o, i, i == first, own);
        if (o->narrow) {
            shifted_planes(o, x, planes);
            dw_narrow(o, i, planes, planes + o->sc * o->plane, slot);
        } else {
            dw_wide(o, i, i == first, x, slot);
        }
    }
}

/* The slots of one (k, r, sc) of the wide form, added in order. */
static void dw_wide_out(const job *o, int64_t n_slots, float *dw)
{
    const int64_t n_k = o->v->k, rsc = o->v->r * o->sc;

    for (int64_t j = 0; j < rsc; j++) {
        const int64_t at = place(o->v, j);
        for (int64_t k = 0; k < n_k; k += VL) {
            const vmask m = v_lanes(n_k - k);
            float sums[VL];
            vf sum = v_zero();
            for (int64_t i = 0; i < n_slots; i++)
                sum = v_add(sum, v_load_m(o->slots + i * o->slot_floats + j * n_k + k, m));
            v_store(sums, sum);
            for (int64_t l = 0; l < min_of(VL, n_k - k); l++) dw[(k + l) * rsc + at] = sums[l];
        }
    }
}

/* The lanes of all slots of the narrow form. */
static void dw_narrow_out(const job *o, int64_t n_slots, float *dw)
{
    const int64_t n_k = o->v->k, rsc = o->v->r * o->sc;
    const int64_t mr = ceil_div(n_k, ceil_div(n_k, MK_DOT_M));
    const int64_t nr = ceil_div(o->sc, ceil_div(o->sc, MK_DOT_N));
    const float *lanes = o->slots;

    for (int64_t k = 0; k < n_k; k += mr)
        for (int64_t r = 0; r < o->v->r; r++)
            for (int64_t j = 0; j < o->sc; j += nr)
                for (int64_t ki = k; ki < min_of(k + mr, n_k); ki++)
                    for (int64_t ji = j; ji < min_of(j + nr, o->sc); ji++, lanes += VL) {
                        vf sum = v_zero();
                        for (int64_t i = 0; i < n_slots; i++)
                            sum = v_add(sum, v_load(lanes + i * o->slot_floats));
                        dw[ki * rsc + place(o->v, r * o->sc + ji)] = v_sum(sum);
                    }
}

void small_conv_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                   void *scratch)
{
    job o = start(v, TI_CONV_DW);
    const double work = (double)(v->n * v->p * v->q) * (double)(v->r * o.sc) * (double)v->k;
    const int64_t n_slots = ceil_div(v->n, o.images);

    lay_out(&o, scratch);
    o.x = x;
    o.dy = dy;
    ti_threads_run(work > 2 * MAC_CHUNK ? t : NULL, n_slots, dw_images, &o);
    if (o.narrow) dw_narrow_out(&o, n_slots, dw);
    else dw_wide_out(&o, n_slots, dw);
}

int64_t small_conv_chain(const ti_conv *v, ti_conv_pass pass)
{
    const job o = start(v, pass);

    if (pass == TI_CONV_FWD) return v->r * o.sc + 1;
    if (pass == TI_CONV_DX) return v->k + v->r * v->s;
    if (o.narrow) return ceil_div(v->p * v->q, VL) + o.images + SLOTS + 4;
    return dw_rows(v) * v->q + ceil_div(v->p, dw_rows(v)) * o.images + SLOTS;
}
