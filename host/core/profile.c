/*
 * profile.c - where the time of a program's step goes: replays with a clock around each line.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/program.h"

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

tern_status ti_replay_timed(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    const bool waits = !ctx->backend->host_memory; /* a line may still run when its call returns */
    const double began = now();
    double from = began;

    for (const ti_bound_line *b = ti_after_derived(p); b->row; b++) {
        if (b->writes && __atomic_load_n(&ctx->fault.raised, __ATOMIC_RELAXED)) break;
        ti_watch_line(p, b->i_line);
        if (!b->skip || *b->skip == 0) ti_run_row(b->row, &b->work);
        if (waits) (void)!ctx->backend->sync(ctx->device);
        const double to = now();
        p->times[b->i_line] = to - from;
        from = to;
    }
    p->times[p->n_line] = from - began;
    return ti_check_fault(ctx);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The median of column i of `times` rows of `width`. */
static double median(const double *all, int times, int width, int i, double *spare)
{
    for (int k = 0; k < times; k++) spare[k] = all[(size_t)k * (size_t)width + (size_t)i];
    qsort(spare, (size_t)times, sizeof *spare, by_size);
    return (spare[(times - 1) / 2] + spare[times / 2]) / 2;
}

double ti_line_flops(const ti_plan *p, const ti_line *l)
{
    tern_tensor in[TI_FEW], *at[TI_FEW];
    ti_call c = {.ctx = p->ctx, .op = l->op, .opts = l->opts, .n_in = l->n_in, .in = at};

    if (!l->op->flops || l->n_in > TI_FEW) return 0;
    for (int i = 0; i < l->n_in; i++) {
        in[i] = (tern_tensor){.m = l->in[i].m};
        at[i] = l->in[i].value < 0 ? NULL : &in[i];
    }
    for (int i = 0; i < l->op->n_out; i++) c.meta[i] = l->out[i].m;
    return l->op->flops(&c);
}

static tern_line_time about(const ti_plan *p, const ti_line *l)
{
    tern_line_time t = {.op = l->op->name,
                        .kernel = l->how->row->impl,
                        .where = l->where ? l->where : "",
                        .backward = l->back,
                        .flops = ti_line_flops(p, l)};

    for (int i = 0; i < l->n_in; i++)
        if (l->in[i].value >= 0) t.bytes += (double)ti_bytes(&l->in[i].m);
    for (int i = 0; i < l->op->n_out; i++) {
        const int v = l->out[i].value;
        size_t at;

        if (v < 0) continue;
        t.bytes += (double)ti_bytes(&l->out[i].m);
        t.update |= p->value[ti_root_value(p, v, &at)].kind == TI_VARIABLE;
    }
    return t;
}

static tern_status one(tern_ctx *ctx, tern_program *prog, tern_tensor **in)
{
    tern_tensor *out[TERN_STEP_OUT];

    tern_frame_begin(ctx);
    const tern_status status = tern_program_run(ctx, out, prog, in);
    tern_frame_end(ctx);
    return status;
}

tern_status tern_program_profile(tern_ctx *ctx, tern_program *prog, tern_tensor **in, int times,
                                 tern_line_time *line, int room, int *n, double *step_ns)
{
    if (!ctx) return TERN_E_ARGUMENT;
    if (ctx->error) return ctx->error;
    if (!prog || !n || times < 1 || times > 100000 || room < 0 || (room > 0 && !line))
        return ti_fail(ctx, TERN_E_ARGUMENT, "profile: an argument is missing or out of range");
    if (ctx->eager)
        return ti_fail(ctx, TERN_E_STATE, "profile: the context is eager: it replays nothing");
    TI_TRY(one(ctx, prog, in));
    ti_plan *p = prog->last;
    const int width = p->n_line + 1;
    double *all = ti_alloc(ctx, ((size_t)times + 1) * (size_t)width * sizeof *all);
    double *spare = all ? ti_alloc(ctx, (size_t)times * sizeof *spare) : NULL;

    for (int k = 0; spare && k < times && !ctx->error; k++) {
        p->times = all + (size_t)k * (size_t)width;
        (void)!one(ctx, prog, in);
        p->times = NULL;
        if (prog->last != p) ti_fail(ctx, TERN_E_STATE, "profile: the step was traced again");
    }
    *n = p->n_line;
    for (int i = 0; spare && i < p->n_line && i < room && !ctx->error; i++) {
        line[i] = about(p, &p->line[i]);
        line[i].ns = median(all, times, width, i, spare);
    }
    if (spare && step_ns) *step_ns = median(all, times, width, p->n_line, spare);
    ti_free(ctx, spare);
    ti_free(ctx, all);
    return ctx->error;
}
