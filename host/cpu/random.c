/*
 * random.c - uniform and normal numbers, dropout: base/random.h in bulk, the bits of the reference.
 */
#include "base/random.h"

#include "cpu/fast.h"
#include "cpu/simd/layers.h"

enum { FEW = 64, PIECE = 4096 }; /* elements of one philox call; of one chunk, a multiple of it */

typedef struct {
    const ti_work *w;
    const ti_layers *loops;
    ti_stream stream;
    const float *x;
    uint32_t cut;
    float scale;
} job;

static job job_of(const ti_work *w, int64_t seed, int64_t purpose, const ti_view *counter)
{
    const int64_t n = *(const int64_t *)(const void *)counter->data;

    return (job){.w = w,
                 .loops = ti_layers_for(ti_cpu_simd(w->device)->name),
                 .stream = ti_stream_of(seed, purpose, n)};
}

/* 32 bits for each of the elements i … i+63, i a multiple of 64. */
static void bits_at(const job *o, int64_t i, uint32_t bits[FEW])
{
    o->loops->philox(o->stream.key, o->stream.counter, (uint64_t)i / 4, bits);
}

/* ---- uniform and normal ---- */

static void uniform_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    const tern_random_opts *r = o->w->opts;
    const double b = r->a == 0 && r->b == 0 ? 1 : r->b;

    (void)i_worker;
    if (r->type == TERN_F64) {
        double *y = (double *)(void *)o->w->out[0].data;
        for (int64_t i = from; i < to; i++)
            y[i] = ti_between_f64(r->a, b, ti_unit_f64(ti_bits64(&o->stream, (uint64_t)i)));
        return;
    }
    for (int64_t i = from; i < to; i += FEW) {
        uint32_t bits[FEW];
        bits_at(o, i, bits);
        for (int64_t k = 0; k < FEW && i + k < to; k++)
            TI_F(o->w->out[0])[i + k] = ti_between_f32((float)r->a, (float)b, ti_unit_f32(bits[k]));
    }
}

static void normal_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    const tern_random_opts *r = o->w->opts;
    const double b = r->a == 0 && r->b == 0 ? 1 : r->b;

    (void)i_worker;
    for (int64_t i = from; i < to; i += 2) {
        const ti_philox4 block = ti_stream_block(&o->stream, (uint64_t)i / 2);
        for (int half = 0; half < 2 && i + half < to; half++) {
            const double y = fma(b, ti_normal_of(ti_pair(block, half)), r->a);
            if (r->type == TERN_F64) ((double *)(void *)o->w->out[0].data)[i + half] = y;
            else TI_F(o->w->out[0])[i + half] = (float)y;
        }
    }
}

static void fill(const ti_work *w, ti_range_fn fn)
{
    const tern_random_opts *r = w->opts;
    job o = job_of(w, r->seed, r->purpose, &w->in[0]);

    ti_run_ranges(w->device, w->out[0].count, PIECE, fn, &o);
}
static void uniform(const ti_work *w) { fill(w, uniform_some); }
static void normal(const ti_work *w) { fill(w, normal_some); }

/* ---- dropout ---- */

static void drop_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;

    (void)i_worker;
    for (int64_t i = from; i < to; i += FEW) {
        uint32_t bits[FEW];
        bits_at(o, i, bits);
        o->loops->drop(to - i < FEW ? to - i : FEW, bits, o->cut, o->x + i, o->scale,
                       TI_F(o->w->out[0]) + i);
    }
}

static job dropping(const ti_work *w)
{
    const tern_dropout_opts *d = w->opts;
    job o = job_of(w, d->seed, d->purpose, &w->in[1]);

    o.x = TI_F(w->in[0]);
    o.cut = ti_dropout_cut(d->p);
    o.scale = (float)(1 / (1 - d->p));
    return o;
}

static void dropout(const ti_work *w)
{
    job o = dropping(w);

    ti_run_ranges(w->device, w->out[0].count, PIECE, drop_some, &o);
}

static const char *dropout_rejects(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return w->in[0].packed && w->out[0].packed ? NULL : "takes row-major tensors";
}

/* Channels-last: element (n, c, p) has number (n C + c) S + p and lies at (n S + p) C + c. */
static void drop_images(void *arg, int64_t from, int64_t to, int i_worker)
{
    const job *o = arg;
    const tern_shape *s = &o->w->in[0].m.shape;
    const int64_t C = s->dim[1], S = o->w->out[0].count / (s->dim[0] * C);

    (void)i_worker;
    for (int64_t plane = from; plane < to; plane++) {
        const int64_t first = plane * S, at = plane / C * S * C + plane % C;
        for (int64_t i = first / FEW * FEW; i < first + S; i += FEW) {
            uint32_t bits[FEW];
            bits_at(o, i, bits);
            for (int64_t k = i < first ? first - i : 0; k < FEW && i + k < first + S; k++) {
                const int64_t e = at + (i + k - first) * C;
                TI_F(o->w->out[0])[e] = bits[k] < o->cut ? 0 : o->x[e] * o->scale;
            }
        }
    }
}

static void dropout_images(const ti_work *w)
{
    const tern_shape *s = &w->in[0].m.shape;
    const int64_t planes = s->dim[0] * s->dim[1];
    job o = dropping(w);

    ti_run_ranges(w->device, planes, ti_items_of(2 * (double)w->out[0].count / (double)planes),
                  drop_images, &o);
}

static const char *images_reject(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return ti_is_channels_last(&w->in[0].m) && ti_is_channels_last(&w->out[0].m)
               ? NULL
               : "takes channels-last tensors";
}

static double cost(const ti_work *w) { return 200 + (double)w->out[0].count; }
static double slow(const ti_work *w) { return 200 + 3 * (double)w->out[0].count; }
static int on_first(int i_out) { return i_out == 0 ? 0 : -1; }

const ti_row ti_cpu_random[] = {
    {.op = "uniform", .impl = "bulk", .cost = cost, .run = uniform},
    {.op = "normal", .impl = "bulk", .cost = slow, .run = normal},
    {.op = "dropout",
     .impl = "bulk",
     .reject = dropout_rejects,
     .cost = cost,
     .may_alias = on_first,
     .run = dropout,
     .numbers = TI_REORDERED},
    {.op = "dropout",
     .impl = "images",
     .reject = images_reject,
     .cost = slow,
     .may_alias = on_first,
     .run = dropout_images,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
