/*
 * tune_clock.c - how long a kernel takes.
 *
 * It runs on inputs of its layout in memory of its own, not the pool's: three runs to get warm,
 * then five samples of so many runs that a sample takes a fifth of a millisecond; their median
 * counts. Inputs that the row wants repacked or rounded cost a copy of their bytes on top.
 */
#include <string.h>
#include <time.h>

#include "core/tune.h"

enum { WARM = 3, SAMPLES = 5, MOST_RUNS = 1000 };

static const double SAMPLE = 2e-4;

/* ---- Memory ---- */

/* Memory of one row's runs. */
typedef struct {
    tern_ctx *ctx;
    ti_memory memory;
    struct {
        void *at;
        size_t bytes;
    } piece[TI_FEW + TI_OUTS + 2];
    int n;
} room;

static void *take(room *r, size_t bytes)
{
    void *at = r->memory.alloc(r->memory.user, bytes);

    if (!at) return NULL;
    if (r->memory.mark) r->memory.mark(r->memory.user, at, bytes, true);
    r->piece[r->n].at = at;
    r->piece[r->n++].bytes = bytes;
    return at;
}

static void give_back(room *r)
{
    while (r->n-- > 0) {
        if (r->memory.mark)
            r->memory.mark(r->memory.user, r->piece[r->n].at, r->piece[r->n].bytes, false);
        r->memory.free(r->memory.user, r->piece[r->n].at, r->piece[r->n].bytes);
    }
}

static size_t span_of(const ti_view *v)
{
    int64_t last = 0;

    for (int a = 0; a < v->m.shape.rank; a++)
        if (v->m.shape.dim[a] > 1) last += (v->m.shape.dim[a] - 1) * v->m.stride[a];
    return (size_t)(last + 1) * tern_type_size(v->m.type);
}

/* Floats between 0.25 and 1, which suit every operation; whole numbers are 0, which suits as an
 * index. */
static bool fill(room *r, ti_view *v)
{
    const size_t bytes = span_of(v), size = tern_type_size(v->m.type);
    const bool floats = 1u << v->m.type & TI_STORED_FLOATS;
    char *host = ti_alloc(r->ctx, bytes);
    uint64_t z = 1;

    if (!host || !(v->data = take(r, bytes))) {
        ti_free(r->ctx, host);
        return false;
    }
    for (size_t i = 0; floats && i < bytes / size; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        ti_store(v->m.type, host + i * size, 0.25 + 0.75 * (double)(z >> 40) * 0x1p-24);
    }
    r->ctx->backend->upload(r->ctx->device, v->data, host, bytes);
    ti_free(r->ctx, host);
    return true;
}

/* ---- The clock ---- */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds for n runs, with copies of what has to be repacked; -1: the device has failed. */
static double sample(room *r, const ti_row *row, const ti_work *w, const ti_view *packed, int n)
{
    const tern_ctx *ctx = r->ctx;
    const double began = now();

    for (int k = 0; k < n; k++) {
        for (int i = 0; i < w->n_in; i++)
            if (packed[i].count > 0)
                ctx->backend->copy(ctx->device, packed[i].data, w->in[i].data,
                                   ti_bytes(&packed[i].m));
        ti_run_row(row, w);
    }
    if (ctx->backend->sync && ctx->backend->sync(ctx->device)) return -1;
    return now() - began;
}

static double median(double *t)
{
    for (int i = 1; i < SAMPLES; i++)
        for (int k = i; k > 0 && t[k] < t[k - 1]; k--) {
            const double x = t[k];
            t[k] = t[k - 1];
            t[k - 1] = x;
        }
    return t[SAMPLES / 2];
}

static double time_row(room *r, const ti_row *row, const ti_work *w, const ti_view *packed)
{
    const ti_tune *t = r->ctx->tune;
    const double first = sample(r, row, w, packed, WARM) / WARM;
    const int n = first * MOST_RUNS < SAMPLE ? MOST_RUNS
                  : first < SAMPLE           ? (int)(SAMPLE / first)
                                             : 1;
    double took[SAMPLES];

    if (first < 0) return -1;
    for (int i = 0; i < SAMPLES; i++) {
        const double s = sample(r, row, w, packed, n);

        if (s < 0) return -1;
        took[i] = t->clock ? t->clock(t->user, row->impl, s / n) : s / n;
    }
    return median(took);
}

/* ---- Rows ---- */

/* Memory for inputs as they lie; of these `packs` (by bits) are copied before each run. */
static bool furnish_inputs(room *r, const ti_work *w, ti_view *in, unsigned packs, ti_view *packed)
{
    for (int i = 0; i < w->n_in; i++) {
        packed[i] = (ti_view){.count = -1};
        if (in[i].count <= 0) continue;
        if (!fill(r, &in[i])) return false;
        if (!(packs >> i & 1)) continue;
        packed[i] = in[i];
        if (!(packed[i].data = take(r, span_of(&in[i])))) return false;
    }
    return true;
}

static bool furnish_outputs(room *r, ti_work *w, ti_view *out, size_t scratch)
{
    for (int i = 0; i < w->op->n_out; i++)
        if (out[i].count > 0 && !(out[i].data = take(r, span_of(&out[i])))) return false;
    w->scratch = take(r, scratch > 64 ? scratch : 64);
    return w->scratch != NULL;
}

double ti_tune_row(tern_ctx *ctx, const ti_call *c, const ti_row *row, ti_work w, ti_view *in)
{
    room r = {.ctx = ctx, .memory = ctx->backend->memory(ctx->device)};
    ti_view packed[TI_FEW], out[TI_OUTS];
    void *plan = NULL;
    double seconds = -1;
    unsigned packs = 0;

    memcpy(out, w.out, sizeof out);
    w.out = out;
    if (ti_row_refuses(ctx, row, c, &w, in)) return -1;
    if (row->prepare) {
        if (!(plan = ti_alloc(ctx, row->plan_bytes))) return -1;
        if (row->prepare(&w, plan)) goto out;
        w.plan = plan;
    }
    for (int i = 0; i < c->n_in; i++) packs |= (unsigned)ti_row_packs(row, c, i) << i;
    if (furnish_inputs(&r, &w, in, packs, packed) &&
        furnish_outputs(&r, &w, out, ti_row_scratch(row, &w)))
        seconds = time_row(&r, row, &w, packed);
    else ti_log(ctx, "info", "%s/%s is not timed: no memory for it", c->op->name, row->impl);
    (void)!ti_check_device(ctx, true);
out:
    give_back(&r);
    ti_free(ctx, plan);
    return seconds;
}

/* ---- Plans of a library: all of them in the same memory ---- */

void ti_tune_plans(const ti_tuner *t, const ti_work *call, void (*run)(const ti_work *w),
                   size_t scratch, int n, void *const *plan, const char *const *name,
                   double *seconds)
{
    tern_ctx *ctx = t->ctx;
    room r = {.ctx = ctx, .memory = ctx->backend->memory(ctx->device)};
    ti_view in[TI_FEW], out[TI_OUTS], packed[TI_FEW];
    ti_work w = *call;

    memcpy(in, w.in, (size_t)w.n_in * sizeof *in);
    memcpy(out, w.out, sizeof out);
    w.in = in;
    w.out = out;
    const bool fine =
        furnish_inputs(&r, &w, in, 0, packed) && furnish_outputs(&r, &w, out, scratch);
    if (!fine) ti_log(ctx, "info", "%s: no memory to time a library's plans", w.op->name);
    for (int i = 0; i < n; i++) {
        const ti_row row = {.op = w.op->name, .impl = name[i], .run = run};

        w.plan = plan[i];
        seconds[i] = fine ? time_row(&r, &row, &w, packed) : -1;
        if (seconds[i] >= 0)
            ti_log(ctx, "dispatch", "%s/%s takes %.4g us", row.op, row.impl, 1e6 * seconds[i]);
    }
    give_back(&r);
}
