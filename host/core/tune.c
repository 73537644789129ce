/*
 * tune.c - which kernel is fastest, by the clock (tune_clock.c).
 *
 * Every row that takes the call is timed, but for those far dearer by their stated cost. The
 * cheapest row by its stated cost stays unless another one is 3 % faster. A row of a library may
 * choose among the library's plans in the same way when it prepares: see ti_tuner.
 */
#include "core/tune.h"

#include <stdio.h>
#include <string.h>

#include "core/object.h"

enum { CANDIDATES = 32 };

static const double GAIN = 0.97, FAR = 30;

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

/* Of an operation's or a library's name: where it runs, and with which version of Tern. */
static uint64_t mix_place(const tern_ctx *ctx, const char *name)
{
    uint64_t hash = mix(14695981039346656037u, name, strlen(name));

    hash = mix(hash, tern_version(), strlen(tern_version()));
    return mix(hash, ctx->tune->where, strlen(ctx->tune->where));
}

static uint64_t key_of(const tern_ctx *ctx, const ti_call *c, unsigned wanted)
{
    const int64_t settings[] = {wanted,      (int64_t)ctx->math, ctx->no_winograd,
                                ctx->varies, ctx->n_threads,     c->n_in};
    uint64_t hash = mix_place(ctx, c->op->name);

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

static const ti_tuned *add(tern_ctx *ctx, uint64_t key, const char *op, const char *kernel,
                           double seconds)
{
    ti_tuned made = {.key = key, .ns = 1e9 * seconds};

    snprintf(made.op, sizeof made.op, "%s", op);
    snprintf(made.kernel, sizeof made.kernel, "%s", kernel);
    snprintf(made.where, sizeof made.where, "%s", ctx->tune->where);
    return ti_tune_add(ctx, ctx->tune, &made);
}

static const ti_tuned *measure(tern_ctx *ctx, const ti_call *c, uint64_t key, ti_work *w,
                               ti_view *in)
{
    const ti_row *row[CANDIDATES], *best = NULL, *cheapest = NULL;
    const int n = candidates(ctx, c, w, in, row);
    double least = 0, least_cost = 0, of_cheapest = 0;
    int timed = 0;

    for (int i = 0; i < n && n > 1; i++) {
        const double s = ti_tune_row(ctx, c, row[i], *w, in);

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
    return add(ctx, key, c->op->name, best->impl, least);
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

/* ---- Plans of libraries ---- */

static uint64_t plan_key(const ti_tuner *t, const char *library, const void *problem, size_t bytes)
{
    return mix(mix_place(t->ctx, library), problem, bytes);
}

static bool find_plan(const ti_tuner *t, const char *library, const void *problem, size_t bytes,
                      char plan[TI_PLAN_TEXT], char where[TI_PLAN_WHERE])
{
    const ti_tune *file = t->ctx->tune;
    const ti_tuned *found = ti_tune_find(file, plan_key(t, library, problem, bytes));

    if (!found) return false;
    snprintf(plan, TI_PLAN_TEXT, "%s", found->kernel);
    snprintf(where, TI_PLAN_WHERE, "%s:%d", file->path, ti_tune_line(file, found));
    return true;
}

static void keep_plan(const ti_tuner *t, const char *library, const void *problem, size_t bytes,
                      const char *op, const char *plan, double seconds)
{
    (void)add(t->ctx, plan_key(t, library, problem, bytes), op, plan, seconds);
}

ti_tuner *ti_tune_tuner(tern_ctx *ctx)
{
    if (!is_on(ctx)) return NULL;
    ctx->tune->tuner =
        (ti_tuner){.ctx = ctx, .find = find_plan, .time = ti_tune_plans, .keep = keep_plan};
    return &ctx->tune->tuner;
}
