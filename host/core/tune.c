/*
 * tune.c - which kernel is fastest, by the clock.
 *
 * Every row that takes the call, but for those far dearer by their stated cost, runs on inputs of
 * its layout in memory of its own, not the pool's: three runs to get warm, then five samples of so
 * many runs that a sample takes a fifth of a millisecond; their median counts. Inputs that the row
 * wants repacked or rounded cost a copy of their bytes on top. The cheapest row by its stated cost
 * stays unless another one is 3 % faster.
 */
#include "core/tune.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/object.h"

enum { WARM = 3, SAMPLES = 5, MOST_RUNS = 1000, CANDIDATES = 32 };

static const double SAMPLE = 2e-4, GAIN = 0.97, FAR = 30;

/* ---- Public functions ---- */

static void describe(tern_ctx *ctx, char where[TI_TUNE_WHERE])
{
    if (ctx->backend->hardware) ctx->backend->hardware(ctx->device, where, TI_TUNE_WHERE);
    else snprintf(where, TI_TUNE_WHERE, "%s %s", ctx->device_name, tern_isa(ctx));
    for (char *p = where; *p; p++)
        if ((unsigned char)*p < ' ') *p = ' ';
}

static ti_tune *table_of(tern_ctx *ctx)
{
    if (!ctx->tune) ctx->tune = ti_alloc(ctx, sizeof *ctx->tune);
    return ctx->tune;
}

void ti_tune_clock(tern_ctx *ctx, ti_clock_fn fn, void *user)
{
    ti_tune *t = table_of(ctx);

    if (!t) return;
    t->clock = fn;
    t->user = user;
}

void ti_tune_close(tern_ctx *ctx)
{
    if (ctx->tune) ti_free(ctx, ctx->tune->all);
    ti_free(ctx, ctx->tune);
    ctx->tune = NULL;
}

tern_status tern_tune(tern_ctx *ctx, const char *path)
{
    ti_tune *t;

    if (!ti_ready(ctx, path, "tune")) return ctx ? ctx->error : TERN_E_ARGUMENT;
    if (!*path || strlen(path) >= TI_TUNE_PATH)
        return ti_fail(ctx, TERN_E_ARGUMENT, "tune: a path of 1 to %d bytes is wanted",
                       TI_TUNE_PATH - 1);
    if (ctx->tracing) return ti_fail(ctx, TERN_E_TRACE, "tune: a step is being traced");
    if (!(t = table_of(ctx))) return ctx->error;
    if (t->path[0]) return ti_fail(ctx, TERN_E_STATE, "tune: %s is in use already", t->path);
    strcpy(t->path, path);
    describe(ctx, t->where);
    if (ti_tune_read(ctx, t) == TERN_OK) return TERN_OK;
    t->path[0] = '\0';
    return ctx->error;
}

static bool is_on(const tern_ctx *ctx) { return ctx && ctx->tune && ctx->tune->path[0]; }

bool tern_tune_look(const tern_ctx *ctx, tern_tuning *to)
{
    const ti_tune *t = ctx ? ctx->tune : NULL;

    *to = (tern_tuning){.path = "", .stamp = ""};
    if (!is_on(ctx)) return false;
    *to = (tern_tuning){t->path, t->n, t->n_timed, t->stamp};
    return true;
}

bool tern_tune_holds(const tern_ctx *ctx, const char *stamp)
{
    unsigned long long hash;
    int n;

    if (!*stamp || !is_on(ctx)) return !*stamp && !is_on(ctx);
    if (sscanf(stamp, "%d:%16llx", &n, &hash) != 2 || n < 0 || n > ctx->tune->n) return false;
    return n == 0 || ctx->tune->all[n - 1].hash == hash;
}

/* ---- What a choice depends on ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = data;

    for (size_t i = 0; i < bytes; i++) hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

static uint64_t key_of(const tern_ctx *ctx, const ti_call *c, unsigned wanted)
{
    const int64_t settings[] = {wanted, (int64_t)ctx->math, ctx->no_winograd, ctx->n_threads,
                                c->n_in};
    uint64_t hash = mix(14695981039346656037u, c->op->name, strlen(c->op->name));

    hash = mix(hash, tern_version(), strlen(tern_version()));
    hash = mix(hash, ctx->tune->where, strlen(ctx->tune->where));
    hash = mix(hash, settings, sizeof settings);
    hash = mix(hash, c->opts, c->op->opts_size);
    for (int i = 0; i < c->n_in; i++) {
        const ti_meta *m = c->in[i] ? &c->in[i]->m : NULL;
        const int64_t kind[] = {m ? (int64_t)m->type : -1, m ? m->shape.rank : 0};

        hash = mix(hash, kind, sizeof kind);
        for (int a = 0; m && a < m->shape.rank; a++) {
            hash = mix(hash, &m->shape.dim[a], sizeof m->shape.dim[a]);
            hash = mix(hash, &m->stride[a], sizeof m->stride[a]);
        }
    }
    return hash;
}

/* ---- The clock ---- */

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

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds for n runs, with copies of what has to be repacked. */
static double sample(room *r, const ti_row *row, const ti_work *w, const ti_view *packed, int n)
{
    tern_ctx *ctx = r->ctx;
    const double began = now();

    for (int k = 0; k < n; k++) {
        for (int i = 0; i < w->n_in; i++)
            if (packed[i].count > 0)
                ctx->backend->copy(ctx->device, packed[i].data, w->in[i].data,
                                   ti_bytes(&packed[i].m));
        ti_run_row(row, w);
    }
    (void)!ti_check_device(ctx, true);
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

    for (int i = 0; i < SAMPLES && !r->ctx->error; i++) {
        took[i] = sample(r, row, w, packed, n) / n;
        if (t->clock) took[i] = t->clock(t->user, row->impl, took[i]);
    }
    return r->ctx->error ? -1 : median(took);
}

/* Memory for all that the row touches. False: there is not enough. */
static bool furnish(room *r, const ti_call *c, const ti_row *row, ti_work *w, ti_view *in,
                    ti_view *packed)
{
    size_t bytes;

    for (int i = 0; i < w->n_in; i++) {
        packed[i] = (ti_view){.count = -1};
        if (in[i].count <= 0) continue;
        if (!fill(r, &in[i])) return false;
        if (!ti_row_packs(row, c, i)) continue;
        packed[i] = in[i];
        if (!(packed[i].data = take(r, span_of(&in[i])))) return false;
    }
    for (int i = 0; i < c->op->n_out; i++)
        if (w->out[i].count > 0) {
            ti_view *out = (ti_view *)&w->out[i];
            if (!(out->data = take(r, span_of(out)))) return false;
        }
    bytes = ti_row_scratch(row, w);
    w->scratch = take(r, bytes > 64 ? bytes : 64);
    return w->scratch != NULL;
}

/* Seconds that the row takes; -1: it does not take the call, or cannot be timed. */
static double seconds_of(tern_ctx *ctx, const ti_call *c, const ti_row *row, ti_work w, ti_view *in)
{
    room r = {.ctx = ctx, .memory = ctx->backend->memory(ctx->device)};
    ti_view packed[TI_FEW], out[TI_OUTS];
    void *plan = NULL;
    double seconds = -1;

    memcpy(out, w.out, sizeof out);
    w.out = out;
    if (ti_row_refuses(ctx, row, c, &w, in)) return -1;
    if (row->prepare) {
        if (!(plan = ti_alloc(ctx, row->plan_bytes))) return -1;
        if (row->prepare(&w, plan)) goto out;
        w.plan = plan;
    }
    if (furnish(&r, c, row, &w, in, packed)) seconds = time_row(&r, row, &w, packed);
    else ti_log(ctx, "info", "%s/%s is not timed: no memory for it", c->op->name, row->impl);
out:
    give_back(&r);
    ti_free(ctx, plan);
    return seconds;
}

/* ---- Choosing ---- */

static double cost_of(const ti_row *row, const ti_work *w)
{
    return row->cost ? row->cost(w) : 1e18;
}

/* Rows that do not refuse the call by themselves, and state no more than FAR times the least cost:
 * a reference row may take minutes. */
static int candidates(tern_ctx *ctx, const ti_call *c, const ti_work *w, ti_view *in,
                      const ti_row **to)
{
    const ti_row *const *rows;
    double cost[CANDIDATES], least = 0;
    int n = 0, kept = 0;

    for (int k = 0; (rows = ctx->backend->rows(ctx->device, k)) != NULL; k++)
        for (int j = 0; rows[j]; j++)
            for (const ti_row *r = rows[j]; r->op && n < CANDIDATES; r++) {
                if (strcmp(r->op, c->op->name) != 0 || ti_row_refuses(ctx, r, c, w, in)) continue;
                cost[n] = cost_of(r, w);
                if (n == 0 || cost[n] < least) least = cost[n];
                to[n++] = r;
            }
    for (int i = 0; i < n; i++)
        if (cost[i] <= FAR * least) to[kept++] = to[i];
    return kept;
}

static const ti_tuned *measure(tern_ctx *ctx, const ti_call *c, uint64_t key, ti_work *w,
                               ti_view *in)
{
    const ti_row *row[CANDIDATES], *best = NULL, *cheapest = NULL;
    const int n = candidates(ctx, c, w, in, row);
    double least = 0, least_cost = 0, of_cheapest = 0;
    ti_tuned made = {.key = key};
    int timed = 0;

    for (int i = 0; i < n && n > 1; i++) {
        const double s = seconds_of(ctx, c, row[i], *w, in);

        if (ctx->error) return NULL;
        if (s < 0) continue;
        const double cost = cost_of(row[i], w);
        ti_log(ctx, "dispatch", "%s/%s takes %.4g us", row[i]->op, row[i]->impl, 1e6 * s);
        if (!best || s < least) best = row[i], least = s;
        if (!cheapest || cost < least_cost) cheapest = row[i], least_cost = cost, of_cheapest = s;
        timed++;
    }
    if (timed < 2) return NULL;
    if (least > GAIN * of_cheapest) best = cheapest, least = of_cheapest;
    snprintf(made.op, sizeof made.op, "%s", c->op->name);
    snprintf(made.kernel, sizeof made.kernel, "%s", best->impl);
    snprintf(made.where, sizeof made.where, "%s", ctx->tune->where);
    made.ns = 1e9 * least;
    return ti_tune_add(ctx, ctx->tune, &made);
}

const char *ti_tune_choose(tern_ctx *ctx, const ti_call *c, unsigned wanted, ti_work *w,
                           ti_view *in)
{
    const ti_fault before = ctx->fault;
    const ti_tuned *found;

    if (!is_on(ctx) || c->n_in > TI_FEW) return NULL;
    for (int i = 0; i < c->op->n_out; i++) /* an empty call runs nowhere */
        if (w->out[i].count == 0) return NULL;
    const uint64_t key = key_of(ctx, c, wanted);
    found = ti_tune_find(ctx->tune, key);
    if (!found) {
        found = measure(ctx, c, key, w, in);
        ctx->fault = before;
    }
    return found ? found->kernel : NULL;
}
