/*
 * depthwise.c - convolution with one channel in each group: lanes are channels, no products of
 * matrices. The weights are turned to [r][s][c] first.
 *
 * Threads: forward and dx give out rows of pixels; dw gives out a fixed number of stretches of
 * output rows, each with a slot for its sums, added in order afterwards.
 */
#include "depthwise.h"

#include <string.h>

enum { DW_SLOTS = 16 };

/* Products that are worth a thread: about 20 us of one core. */
#define MAC_CHUNK 300000.0

typedef struct {
    const ti_conv *v;
    const float *x, *w, *dy; /* w: [r][s][c], rows whole vectors */
    float *out;
    const ti_conv_epilogue *e;
    int64_t width; /* c in whole vectors */
    int64_t rows, chunk_rows;
} job;

size_t depthwise_scratch(const ti_conv *v, ti_conv_pass pass)
{
    const int64_t floats = v->r * v->s * round_up(v->c, VL) * (pass == TI_CONV_DW ? DW_SLOTS : 1);
    return (size_t)round_up(floats * (int64_t)sizeof(float), 64);
}

static float *turn(const ti_conv *v, const float *w, float *to)
{
    const int64_t width = round_up(v->c, VL), taps = v->r * v->s;

    for (int64_t u = 0; u < taps; u++)
        for (int64_t c = 0; c < width; c++) to[u * width + c] = c < v->c ? w[c * taps + u] : 0;
    return to;
}

/* Rows of the grid in chunks that are worth a thread. */
static void run_rows(ti_threads *t, job *o, int64_t rows, int64_t row_pixels, ti_chunk_fn fn)
{
    const double row = (double)row_pixels * (double)o->v->c * (double)(o->v->r * o->v->s);

    o->rows = rows;
    o->chunk_rows = (int64_t)(MAC_CHUNK / (row + 1)) + 1;
    ti_threads_run(row * (double)rows > 2 * MAC_CHUNK ? t : NULL, ceil_div(rows, o->chunk_rows), fn,
                   o);
}

/* One pixel of y: the taps [r0, r1) x [s0, s1) that lie inside; tap (0, 0) is x[corner]. */
static void fwd_pixel(const job *o, int64_t corner, int64_t r0, int64_t r1, int64_t s0, int64_t s1,
                      float *y)
{
    const ti_conv *v = o->v;
    const int64_t x_row = v->dilation[0] * v->w * v->c, x_col = v->dilation[1] * v->c;

    for (int64_t c = 0; c < v->c; c += VL) {
        const vmask m = v_lanes(v->c - c);
        vf sum = v_zero();
        for (int64_t r = r0; r < r1; r++)
            for (int64_t s = s0; s < s1; s++)
                sum = v_fma(v_load_m(o->x + (corner + r * x_row + s * x_col + c), m),
                            v_load(o->w + (r * v->s + s) * o->width + c), sum);
        if (o->e && o->e->bias) sum = v_add(sum, v_load_m(o->e->bias + c, m));
        if (o->e && o->e->relu) sum = v_relu(sum);
        v_store_m(y + c, m, sum);
    }
}

/* Taps t with 0 <= at + t * step < size. */
static void taps_inside(int64_t at, int64_t step, int64_t size, int64_t taps, int64_t *t0,
                        int64_t *t1)
{
    *t0 = at < 0 ? min_of(taps, ceil_div(-at, step)) : 0;
    *t1 = size > at ? min_of(taps, ceil_div(size - at, step)) : 0;
    if (*t1 < *t0) *t1 = *t0;
}

static void fwd_rows(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    const int64_t end = min_of(o->rows, (i + 1) * o->chunk_rows);

    (void)i_worker;
    for (int64_t row = i * o->chunk_rows; row < end; row++) {
        const int64_t h = row % v->p * v->stride[0] - v->pad[0];
        int64_t r0, r1, s0, s1;
        taps_inside(h, v->dilation[0], v->h, v->r, &r0, &r1);
        for (int64_t q = 0; q < v->q; q++) {
            const int64_t u = q * v->stride[1] - v->pad[1];
            taps_inside(u, v->dilation[1], v->w, v->s, &s0, &s1);
            const int64_t corner = ((row / v->p * v->h + h) * v->w + u) * v->c;
            fwd_pixel(o, corner, r0, r1, s0, s1, o->out + (row * v->q + q) * v->c);
        }
    }
}

void depthwise_fwd(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                   const ti_conv_epilogue *e, void *scratch)
{
    job o = {.v = v, .x = x, .w = turn(v, w, scratch), .out = y, .e = e};

    o.width = round_up(v->c, VL);
    run_rows(t, &o, v->n * v->p, v->q, fwd_rows);
}

/* Rows of dx, tap by tap: along a row of dy a tap moves in steps of the stride. */
static void dx_rows(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    const int64_t end = min_of(o->rows, (i + 1) * o->chunk_rows), step = v->stride[1] * v->c;

    (void)i_worker;
    for (int64_t row = i * o->chunk_rows; row < end; row++) {
        float *dx = o->out + row * v->w * v->c;
        memset(dx, 0, (size_t)(v->w * v->c) * sizeof(float));
        for (int64_t u = 0; u < v->r * v->s; u++) {
            const int64_t y = row % v->h + v->pad[0] - u / v->s * v->dilation[0];
            const int64_t left = u % v->s * v->dilation[1] - v->pad[1], p = y / v->stride[0];
            int64_t q0, q1;
            if (y < 0 || y % v->stride[0] || p >= v->p) continue;
            taps_inside(left, v->stride[1], v->w, v->q, &q0, &q1);
            const float *dy = o->dy + (row / v->h * v->p + p) * v->q * v->c;
            for (int64_t q = q0; q < q1; q++)
                for (int64_t c = 0; c < v->c; c += VL) {
                    const vmask m = v_lanes(v->c - c);
                    float *to = dx + (left * v->c + q * step + c);
                    const vf w = v_load(o->w + u * o->width + c);
                    v_store_m(to, m, v_fma(v_load_m(dy + q * v->c + c, m), w, v_load_m(to, m)));
                }
        }
    }
}

void depthwise_dx(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                  void *scratch)
{
    job o = {.v = v, .dy = dy, .w = turn(v, w, scratch), .out = dx};

    o.width = round_up(v->c, VL);
    run_rows(t, &o, v->n * v->h, v->w, dx_rows);
}

/* Some output rows, summed into slot i: [r][s][c]. */
static void dw_stretch(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const ti_conv *v = o->v;
    const int64_t end = min_of(o->rows, (i + 1) * o->chunk_rows), taps = v->r * v->s;
    float *slot = o->out + i * taps * o->width;

    (void)i_worker;
    memset(slot, 0, (size_t)(taps * o->width) * sizeof(float));
    for (int64_t row = i * o->chunk_rows; row < end; row++)
        for (int64_t u = 0; u < taps; u++) {
            const int64_t h = row % v->p * v->stride[0] - v->pad[0] + u / v->s * v->dilation[0];
            const int64_t left = u % v->s * v->dilation[1] - v->pad[1];
            int64_t q0, q1;
            if (h < 0 || h >= v->h) continue;
            taps_inside(left, v->stride[1], v->w, v->q, &q0, &q1);
            const int64_t corner = ((row / v->p * v->h + h) * v->w + left) * v->c;
            const float *dy = o->dy + row * v->q * v->c;
            for (int64_t c = 0; c < v->c; c += VL) {
                const vmask m = v_lanes(v->c - c);
                vf sum = v_zero();
                for (int64_t q = q0; q < q1; q++)
                    sum = v_fma(v_load_m(o->x + (corner + q * v->stride[1] * v->c + c), m),
                                v_load_m(dy + q * v->c + c, m), sum);
                float *to = slot + u * o->width + c;
                v_store(to, v_add(v_load(to), sum));
            }
        }
}

void depthwise_dw(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                  void *scratch)
{
    const int64_t taps = v->r * v->s, width = round_up(v->c, VL), rows = v->n * v->p;
    float *slots = scratch;
    job o = {.v = v, .x = x, .dy = dy, .out = slots, .width = width, .rows = rows};

    o.chunk_rows = max_of(1, ceil_div(rows, DW_SLOTS));
    const int64_t n = ceil_div(rows, o.chunk_rows);
    const double work = (double)(rows * v->q) * (double)(v->c * taps);
    ti_threads_run(work > 2 * MAC_CHUNK ? t : NULL, n, dw_stretch, &o);
    for (int64_t c = 0; c < v->c; c++)
        for (int64_t u = 0; u < taps; u++) {
            float sum = 0;
            for (int64_t i = 0; i < n; i++) sum += slots[(i * taps + u) * width + c];
            dw[c * taps + u] = sum;
        }
}

int64_t depthwise_chain(const ti_conv *v, ti_conv_pass pass)
{
    if (pass != TI_CONV_DW) return v->r * v->s + 1;
    return v->q + ceil_div(v->n * v->p, DW_SLOTS) + DW_SLOTS;
}
