/*
 * context.c - open and close, the sticky error, host memory, frames, settings, the log.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"
#include "core/tune.h"

/* ---- Errors ---- */

static tern_status fail_with(tern_ctx *ctx, tern_status status, const char *text, va_list args)
{
    if (ctx->error) return ctx->error;
    vsnprintf(ctx->text, sizeof ctx->text, text, args);
    ctx->error = status;
    ti_log(ctx, "error", "%s: %s", tern_status_name(status), ctx->text);
    return status;
}

tern_status ti_fail(tern_ctx *ctx, tern_status status, const char *text, ...)
{
    va_list args;

    va_start(args, text);
    status = fail_with(ctx, status, text, args);
    va_end(args);
    return status;
}

tern_status tern_fail(tern_ctx *ctx, tern_status status, const char *text, ...)
{
    va_list args;

    if (!ctx) return TERN_E_ARGUMENT;
    va_start(args, text);
    status = fail_with(ctx, status == TERN_OK ? TERN_E_ARGUMENT : status, text, args);
    va_end(args);
    return status;
}

tern_status tern_error(const tern_ctx *ctx) { return ctx ? ctx->error : TERN_E_ARGUMENT; }

const char *tern_error_text(const tern_ctx *ctx)
{
    return !ctx ? "the context is NULL" : ctx->error ? ctx->text : "";
}

void tern_error_clear(tern_ctx *ctx)
{
    if (!ctx) return;
    ctx->error = TERN_OK;
    ctx->text[0] = 0;
    ctx->fault = (ti_fault){0};
}

const char *tern_status_name(tern_status status)
{
    static const char *const names[] = {
        "TERN_OK",       "TERN_E_ARGUMENT",    "TERN_E_SHAPE",  "TERN_E_TYPE", "TERN_E_MEMORY",
        "TERN_E_STATE",  "TERN_E_TRACE",       "TERN_E_VALUE",  "TERN_E_IO",   "TERN_E_FORMAT",
        "TERN_E_DEVICE", "TERN_E_UNSUPPORTED", "TERN_E_STOPPED"};

    return (unsigned)status < sizeof names / sizeof *names ? names[status] : "unknown status";
}

const char *tern_version(void) { return TI_VERSION; }

/* ---- The log ---- */

bool ti_logs(const tern_ctx *ctx, const char *topic)
{
    return ctx->log || (ctx->env.log[0] && ti_listed(ctx->env.log, topic));
}

void ti_log(tern_ctx *ctx, const char *topic, const char *text, ...)
{
    char line[1024];
    va_list args;

    if (!ti_logs(ctx, topic)) return;
    va_start(args, text);
    vsnprintf(line, sizeof line, text, args);
    va_end(args);
    if (ctx->log) ctx->log(ctx->log_user, topic, line);
    else fprintf(stderr, "tern %s: %s\n", topic, line); /* asked for by TERN_LOG */
}

void tern_log_to(tern_ctx *ctx, tern_log_fn fn, void *user)
{
    if (!ctx) return;
    ctx->log = fn;
    ctx->log_user = user;
}

/* ---- Host memory ---- */

bool ti_may_allocate(tern_ctx *ctx)
{
    const long n = ctx->n_alloc++;

    if (ctx->fail_at < 0 || n < ctx->fail_at) return true;
    return n > ctx->fail_at && !ctx->fail_all;
}

#ifndef TI_KEPT_BYTES
#define TI_KEPT_BYTES 32768 /* of each size; builds for sanitizers have 0 */
#endif

/*
 * Tensors, storages and tape nodes come and go with every eager operation, and calloc takes longer
 * than such an operation's arithmetic. So small blocks are kept by size when they are freed, each
 * behind a head that says which size it is.
 */
enum { KEPT_STEP = 64, KEPT_MOST = TI_KEPT_BYTES };

typedef union head {
    struct {
        union head *next; /* while it is kept */
        int size;         /* in steps; 0: too large to be kept */
    } is;
    max_align_t aligned;
} head;

/* In whole steps, of which compilers make a few wide stores: a call takes longer than the work. */
static void clear(head *h, size_t steps)
{
    char *at = (char *)(h + 1);

    for (size_t i = 0; i < steps; i++, at += KEPT_STEP) memset(at, 0, KEPT_STEP);
}

static inline void *take(tern_ctx *ctx, size_t bytes, bool zeroed)
{
    const bool small = KEPT_MOST > 0 && bytes <= (TI_KEPT_SIZES - 1) * KEPT_STEP;
    const size_t steps = small ? (bytes + KEPT_STEP - 1) / KEPT_STEP : 0;
    head *h = NULL;

    if (ti_may_allocate(ctx) && bytes < SIZE_MAX - sizeof *h) {
        if (small && (h = ctx->kept[steps]) != NULL) {
            ctx->kept[steps] = h->is.next;
            ctx->n_kept[steps]--;
            if (zeroed) clear(h, steps);
        } else if ((h = calloc(1, sizeof *h + (small ? steps * KEPT_STEP : bytes))) != NULL)
            h->is.size = small ? (int)steps : 0;
    }
    if (!h) {
        ti_fail(ctx, TERN_E_MEMORY, "out of host memory: %zu bytes", bytes);
        return NULL;
    }
    ctx->n_live++;
    return h + 1;
}

void *ti_alloc(tern_ctx *ctx, size_t bytes) { return take(ctx, bytes, true); }
void *ti_alloc_as_is(tern_ctx *ctx, size_t bytes) { return take(ctx, bytes, false); }

void ti_free(tern_ctx *ctx, void *p)
{
    head *h = p;

    if (!p) return;
    ctx->n_live--;
    const int size = (--h)->is.size;
    if (size == 0 || (ctx->n_kept[size] + 1) * size * KEPT_STEP > KEPT_MOST) {
        free(h);
        return;
    }
    h->is.next = ctx->kept[size];
    ctx->kept[size] = h;
    ctx->n_kept[size]++;
}

static void free_kept(tern_ctx *ctx)
{
    for (int i = 0; i < TI_KEPT_SIZES; i++)
        for (head *h = ctx->kept[i], *next; h; h = next) {
            next = h->is.next;
            free(h);
        }
}

void *ti_grow_full(tern_ctx *ctx, void *list, int n, int *cap, size_t each)
{
    const int more = *cap ? 2 * *cap : 16;
    void *bigger = ti_alloc(ctx, (size_t)more * each);

    if (!bigger) return NULL;
    if (list) memcpy(bigger, list, (size_t)n * each);
    ti_free(ctx, list);
    *cap = more;
    return bigger;
}

char *ti_strdup(tern_ctx *ctx, const char *text)
{
    char *copy = ti_alloc(ctx, strlen(text) + 1);

    return copy ? strcpy(copy, text) : NULL;
}

void *tern_alloc(tern_ctx *ctx, size_t bytes) { return ctx ? ti_alloc(ctx, bytes) : NULL; }

void tern_free(tern_ctx *ctx, void *p)
{
    if (ctx) ti_free(ctx, p);
}

void ti_fail_allocation(tern_ctx *ctx, long nth, bool all)
{
    ctx->n_alloc = 0;
    ctx->fail_at = nth;
    ctx->fail_all = all;
}

long ti_live_allocations(const tern_ctx *ctx) { return ctx->n_live; }

tern_status tern_on_close(tern_ctx *ctx, void (*fn)(tern_ctx *, void *), void *user)
{
    ti_closer *c;

    if (tern_error(ctx)) return tern_error(ctx);
    if (!fn) return ti_fail(ctx, TERN_E_ARGUMENT, "on_close: the function is NULL");
    if (!(c = ti_alloc(ctx, sizeof *c))) return ctx->error;
    *c = (ti_closer){ctx->closers, fn, user};
    ctx->closers = c;
    return TERN_OK;
}

/* ---- Frames ---- */

void tern_frame_begin(tern_ctx *ctx)
{
    if (!ctx) return;
    if (ctx->depth < TI_FRAMES) ctx->mark[ctx->depth] = ctx->n_owned;
    else ti_fail(ctx, TERN_E_STATE, "frames open more than %d deep", TI_FRAMES);
    ctx->depth++; /* so that each end meets its begin, error or not */
}

void ti_frame_end(tern_ctx *ctx, int n_keep, tern_tensor *const *keep)
{
    if (ctx->depth == 0) {
        ti_fail(ctx, TERN_E_STATE, "frame_end: no frame is open");
        return;
    }
    const int depth = --ctx->depth;

    if (depth >= TI_FRAMES) return;
    int n = ctx->mark[depth], end = ctx->n_owned;
    for (int i = n; i < end; i++) {
        tern_tensor *t = ctx->owned[i];
        bool kept = false;

        for (int k = 0; k < n_keep && !kept; k++) kept = keep[k] == t;
        if (kept) ctx->owned[n++] = t;
        else tern_drop(t);
    }
    ctx->n_owned = n;
}

void tern_frame_end(tern_ctx *ctx)
{
    if (ctx) ti_frame_end(ctx, 0, NULL);
}

tern_tensor *tern_frame_keep(tern_ctx *ctx, tern_tensor *t)
{
    if (ctx) ti_frame_end(ctx, t ? 1 : 0, &t);
    return t;
}

/* ---- Settings ---- */

void tern_mode(tern_ctx *ctx, tern_mode_t mode)
{
    if (ctx) ctx->mode = mode;
}
tern_mode_t tern_mode_of(const tern_ctx *ctx) { return ctx ? ctx->mode : TERN_EVAL; }
uint64_t tern_seed(const tern_ctx *ctx) { return ctx ? ctx->seed : 0; }
const char *tern_device(const tern_ctx *ctx) { return ctx ? ctx->device_name : ""; }
const char *tern_device_why(const tern_ctx *ctx) { return ctx ? ctx->device_why : ""; }
bool tern_eager(const tern_ctx *ctx) { return ctx && ctx->eager; }
int tern_threads(const tern_ctx *ctx) { return ctx ? ctx->n_threads : 1; }

const char *tern_isa(const tern_ctx *ctx)
{
    return ctx && ctx->device ? ctx->backend->isa(ctx->device) : "";
}

void tern_eager_set(tern_ctx *ctx, bool on)
{
    if (ctx) ctx->eager = on;
}

tern_status tern_seed_set(tern_ctx *ctx, uint64_t seed)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "seed_set: a step is running");
    if (seed != ctx->seed) ctx->structure++;
    ctx->seed = seed;
    return TERN_OK;
}

static const char *const math_names[] = {"f32", "tf32", "bf16", "f16"};

const char *tern_math_name(int math)
{
    return math >= 0 && math <= TERN_MATH_F16 ? math_names[math] : NULL;
}

int tern_math_named(const char *name)
{
    for (int i = 0; name && i <= TERN_MATH_F16; i++)
        if (strcmp(name, math_names[i]) == 0) return i;
    return -1;
}

tern_math_t tern_math(const tern_ctx *ctx) { return ctx ? ctx->math : TERN_MATH_F32; }
bool tern_winograd(const tern_ctx *ctx) { return ctx && !ctx->no_winograd; }

tern_status tern_math_set(tern_ctx *ctx, tern_math_t math)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "math_set: a step is running");
    if (!tern_math_name((int)math))
        return ti_fail(ctx, TERN_E_ARGUMENT, "math_set: %d is none of 0 (f32) to 3 (f16)",
                       (int)math);
    if (math == TERN_MATH_F16) TI_TRY(ti_loss_scale_open(ctx));
    if (math != ctx->math) ctx->structure++;
    ctx->math = math;
    return TERN_OK;
}

tern_status tern_winograd_set(tern_ctx *ctx, bool on)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "winograd_set: a step is running");
    if (ctx->no_winograd == on) ctx->structure++;
    ctx->no_winograd = !on;
    return TERN_OK;
}

tern_status tern_deterministic_set(tern_ctx *ctx, bool on)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "deterministic_set: a step is running");
    if (ctx->varies == on) ctx->structure++;
    ctx->varies = !on;
    return TERN_OK;
}

bool tern_deterministic(const tern_ctx *ctx)
{
    return !ctx || !ctx->varies || !ctx->backend->varies || !ctx->backend->varies(ctx->device);
}

tern_status tern_threads_set(tern_ctx *ctx, int n)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "threads_set: a step is running");
    if (n < 1 || n > 256)
        return ti_fail(ctx, TERN_E_ARGUMENT, "threads_set: %d is not in 1 to 256", n);
    if (!ctx->backend->threads(ctx->device, n))
        return ti_fail(ctx, TERN_E_MEMORY, "threads_set: no memory for %d threads", n);
    ctx->n_threads = n;
    ctx->structure++; /* programs were planned with other scratch */
    return TERN_OK;
}

void tern_memory_stats(tern_ctx *ctx, tern_memory *stats)
{
    if (!stats) return;
    *stats = (tern_memory){0};
    if (ctx && ctx->pool) ti_pool_stats(ctx->pool, stats);
}

size_t tern_memory_room(tern_ctx *ctx) { return ctx && ctx->pool ? ti_pool_room(ctx->pool) : 0; }

int tern_memory_holders(tern_ctx *ctx, tern_holder *holder, int most)
{
    return ctx && ctx->pool && holder ? ti_pool_holders(ctx->pool, holder, most) : 0;
}

void tern_memory_peak_reset(tern_ctx *ctx)
{
    if (ctx && ctx->pool) ti_pool_peak_reset(ctx->pool);
}

void tern_memory_cap(tern_ctx *ctx, size_t bytes)
{
    if (ctx && ctx->pool) ti_pool_cap(ctx->pool, bytes);
}

void tern_request_stop(tern_ctx *ctx)
{
    if (ctx) atomic_store_explicit(&ctx->stop, true, memory_order_relaxed);
}

void tern_stop_clear(tern_ctx *ctx)
{
    if (ctx) atomic_store_explicit(&ctx->stop, false, memory_order_relaxed);
}

bool tern_stop_requested(const tern_ctx *ctx)
{
    return ctx && atomic_load_explicit(&ctx->stop, memory_order_relaxed);
}

/* ---- Open and close ---- */

tern_status tern_open(tern_ctx **out, const char *device)
{
    if (!out) return TERN_E_ARGUMENT;
    tern_ctx *ctx = *out = calloc(1, sizeof *ctx);

    if (!ctx) return TERN_E_MEMORY;
    ctx->fail_at = -1;
    ctx->guard = true;
    ti_env_read(&ctx->env);
    if (ctx->env.bad[0]) return ti_fail(ctx, TERN_E_ARGUMENT, "environment: %s", ctx->env.bad);
    ctx->seed = ctx->env.has_seed ? ctx->env.seed : 42;
    ctx->n_threads = ctx->env.threads ? ctx->env.threads : ti_threads_default();
    ctx->eager = ti_listed(ctx->env.disable, "program");
    ctx->check_sync = ti_listed(ctx->env.check, "sync");
    ctx->graphs = !ctx->check_sync && !ti_listed(ctx->env.disable, "graph");
    TI_TRY(ti_device_open(ctx, device ? device : ctx->env.device[0] ? ctx->env.device : "auto"));
    ctx->skip = tern_variable(ctx, "skip", TERN_F32, TI_SCALAR);
    ctx->tripped = tern_variable(ctx, "tripped", TERN_F32, TI_SCALAR);
    if (ctx->error || ti_materialise(ctx->skip) || ti_materialise(ctx->tripped)) return ctx->error;
    ctx->skip->always = ctx->tripped->always = true;
    return TERN_OK;
}

tern_status tern_close(tern_ctx *ctx)
{
    if (!ctx) return TERN_OK;
    ti_step_end(ctx, false);
    ctx->tracing = NULL;
    while (ctx->depth) tern_frame_end(ctx);
    while (ctx->n_owned) tern_drop(ctx->owned[--ctx->n_owned]);
    ti_free(ctx, ctx->owned);
    for (ti_closer *c = ctx->closers, *next; c; c = next) {
        next = c->next;
        c->fn(ctx, c->user);
        ti_free(ctx, c);
    }
    ti_programs_close(ctx);
    ti_variables_close(ctx);
    ti_free(ctx, ctx->pending);
    ti_choices_close(ctx);
    ti_tune_close(ctx);
    const long held = ctx->n_live;
    if (held) ti_log(ctx, "error", "close: %ld allocations are still held", held);
    ti_pool_close(ctx->pool);
    ti_device_close(ctx);
    free_kept(ctx);
    free(ctx);
    return held ? TERN_E_STATE : TERN_OK;
}
