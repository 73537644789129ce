/*
 * schedule.c - a pass over a program: another order where that lowers the peak.
 *
 * A list schedule: of the lines that may run next, near the front of the recorded order, the one
 * after which least is alive. The recorded order stays unless the peak of the other one, simulated
 * line by line, is lower. The flag keeps its place between what comes before and what comes after
 * it, and commits stay at the end in their order.
 */
#include <string.h>

#include "core/program.h"

enum { NEAR = 24 }; /* lines looked at for the next one */

typedef struct {
    ti_plan *p;
    int *maker; /* of each value: its line, or -1 */
    int *uses;  /* of each value: lines that read it and have not run, results counted once */
    int *left;  /* the same at the beginning */
    int *order; /* the lines, as they will run */
    bool *done; /* of each line */
} schedule;

static bool in_arena(const ti_value *v) { return v->kind == TI_TEMPORARY || v->kind == TI_INPUT; }

static int64_t size_of(const schedule *s, int v)
{
    return in_arena(&s->p->value[v]) ? (int64_t)ti_align(s->p->value[v].bytes) : 0;
}

/* Whether in[k] is the line's first mention of its value. */
static bool first_mention(const ti_line *l, int k)
{
    for (int i = 0; i < k; i++)
        if (l->in[i].value == l->in[k].value) return false;
    return true;
}

static void count_uses(schedule *s)
{
    ti_plan *p = s->p;

    for (int v = 0; v < p->n_value; v++) s->maker[v] = -1;
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];

        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0 && first_mention(l, k)) s->left[l->in[k].value]++;
        for (int k = 0; k < l->op->n_out && l->op != p->commit; k++)
            if (l->out[k].value >= 0) s->maker[l->out[k].value] = i;
    }
    for (int i = 0; i < p->n_out; i++) s->left[p->out[i].value]++; /* alive to the end */
}

/* Bytes that the line makes, and that die with it. */
static void effect(const schedule *s, const ti_line *l, int64_t *makes, int64_t *frees)
{
    *makes = *frees = 0;
    for (int k = 0; k < l->op->n_out && l->op != s->p->commit; k++) {
        if (l->out[k].value < 0) continue;
        *makes += size_of(s, l->out[k].value);
        if (s->uses[l->out[k].value] == 0) *frees += size_of(s, l->out[k].value);
    }
    for (int k = 0; k < l->n_in; k++)
        if (l->in[k].value >= 0 && s->uses[l->in[k].value] == 1 && first_mention(l, k))
            *frees += size_of(s, l->in[k].value);
}

static void run(schedule *s, const ti_line *l)
{
    for (int k = 0; k < l->n_in; k++)
        if (l->in[k].value >= 0 && first_mention(l, k)) s->uses[l->in[k].value]--;
}

/* The most that is alive at once when the lines run in this order. */
static int64_t peak_of(schedule *s, const int *order)
{
    ti_plan *p = s->p;
    int64_t live = 0, peak = 0, makes, frees;

    memcpy(s->uses, s->left, (size_t)p->n_value * sizeof *s->uses);
    for (int v = 0; v < p->n_value; v++)
        if (p->value[v].kind == TI_INPUT && s->uses[v]) live += size_of(s, v);
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[order ? order[i] : i];
        const int64_t scratch = (int64_t)ti_align(l->how->scratch);

        effect(s, l, &makes, &frees);
        live += makes;
        if (live + scratch > peak) peak = live + scratch;
        live -= frees;
        run(s, l);
    }
    return peak;
}

static bool ready(const schedule *s, const ti_line *l)
{
    for (int k = 0; k < l->n_in; k++) {
        const int v = l->in[k].value;
        if (v >= 0 && s->maker[v] >= 0 && !s->done[s->maker[v]]) return false;
    }
    return true;
}

/* Lines from … to-1 among themselves. */
static void list_lines(schedule *s, int from, int to)
{
    int64_t makes, frees;

    for (int n = from, head = from; n < to; n++) {
        int best = -1;
        int64_t least = 0;

        while (s->done[head]) head++;
        for (int i = head, seen = 0; i < to && seen < NEAR; i++) {
            if (s->done[i]) continue;
            seen++;
            if (!ready(s, &s->p->line[i])) continue;
            effect(s, &s->p->line[i], &makes, &frees);
            if (best < 0 || makes - frees < least) best = i, least = makes - frees;
        }
        s->order[n] = best; /* the first that is not done is ready */
        s->done[best] = true;
        run(s, &s->p->line[best]);
    }
}

static void list_all(schedule *s)
{
    ti_plan *p = s->p;
    int commits = p->n_line, flag = s->maker[p->skip] + 1;

    while (commits > 0 && p->line[commits - 1].op == p->commit) commits--;
    memcpy(s->uses, s->left, (size_t)p->n_value * sizeof *s->uses);
    for (int i = 0; i < p->n_derived; i++) { /* they stay at the front */
        s->order[i] = i;
        s->done[i] = true;
        run(s, &p->line[i]);
    }
    if (flag < p->n_derived) flag = p->n_derived;
    list_lines(s, p->n_derived, flag);
    list_lines(s, flag, commits);
    for (int i = commits; i < p->n_line; i++) s->order[i] = i;
}

static tern_status reorder(ti_plan *p, const int *order)
{
    ti_line *line = ti_alloc(p->ctx, (size_t)p->n_line * sizeof *line);

    if (!line) return p->ctx->error;
    for (int i = 0; i < p->n_line; i++) line[i] = p->line[order[i]];
    memcpy(p->line, line, (size_t)p->n_line * sizeof *line);
    ti_free(p->ctx, line);
    return TERN_OK;
}

tern_status ti_schedule(ti_plan *p)
{
    tern_ctx *ctx = p->ctx;
    const size_t n = (size_t)(3 * p->n_value + p->n_line);
    int *memory = ti_alloc(ctx, n * sizeof *memory);
    bool *done = memory ? ti_alloc(ctx, (size_t)p->n_line + 1) : NULL;
    schedule s = {
        p, memory, memory + p->n_value, memory + 2 * p->n_value, memory + 3 * p->n_value, done};

    if (done) {
        count_uses(&s);
        list_all(&s);
        if (peak_of(&s, s.order) < peak_of(&s, NULL)) (void)reorder(p, s.order);
    }
    ti_free(ctx, done);
    ti_free(ctx, memory);
    return ctx->error;
}
