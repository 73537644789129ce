/*
 * prune.c - a pass over a program: equal calls are one, and what nothing needs is gone.
 *
 * All operations are pure (random ones take their counter as an input), so two calls with equal
 * options and inputs have equal outputs.
 */
#include <string.h>

#include "core/program.h"

bool ti_same_arg(const ti_arg *a, const ti_arg *b)
{
    return a->value == b->value && (a->value < 0 || ti_same_meta(&a->m, &b->m));
}

bool ti_same_line(const ti_line *a, const ti_line *b)
{
    if (a->op != b->op || a->n_in != b->n_in) return false;
    if (memcmp(a->opts, b->opts, a->op->opts_size) != 0) return false;
    for (int i = 0; i < a->n_in; i++)
        if (!ti_same_arg(&a->in[i], &b->in[i])) return false;
    for (int i = 0; i < a->op->n_out; i++)
        if ((a->out[i].value < 0) != (b->out[i].value < 0)) return false;
    return true;
}

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t hash_line(const ti_line *l)
{
    uint64_t h = mix(14695981039346656037u, (uintptr_t)l->op);
    const char *opts = l->opts;

    for (size_t i = 0; i < l->op->opts_size; i += 8) {
        const size_t n = l->op->opts_size - i;
        uint64_t word = 0;
        memcpy(&word, opts + i, n < 8 ? n : 8);
        h = mix(h, word);
    }
    for (int i = 0; i < l->n_in; i++) {
        const ti_arg *a = &l->in[i];
        h = mix(h, (uint64_t)(int64_t)a->value);
        if (a->value < 0) continue;
        h = mix(h, (uint64_t)a->m.offset);
        for (int k = 0; k < a->m.shape.rank; k++)
            h = mix(mix(h, (uint64_t)a->m.shape.dim[k]), (uint64_t)a->m.stride[k]);
    }
    return h;
}

/* A line takes the outputs of an equal one before it; `table` holds 1 + line, by hash. */
static void share_equal(ti_plan *p, int *now, int *table, size_t slots)
{
    for (int v = 0; v < p->n_value; v++) now[v] = v;
    for (int i = 0; i < p->n_line; i++) {
        ti_line *l = &p->line[i];

        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0) l->in[k].value = now[l->in[k].value];
        if (l->op == p->commit) continue;
        size_t at = hash_line(l) & (slots - 1);
        while (table[at] && !ti_same_line(l, &p->line[table[at] - 1])) at = (at + 1) & (slots - 1);
        if (!table[at]) {
            table[at] = i + 1;
            continue;
        }
        for (int k = 0; k < l->op->n_out; k++)
            if (l->out[k].value >= 0) now[l->out[k].value] = p->line[table[at] - 1].out[k].value;
    }
    for (int i = 0; i < p->n_out; i++) p->out[i].value = now[p->out[i].value];
    p->skip = now[p->skip];
}

/* Outputs, assignments and the flag are needed, and so is what they are made of. */
static void drop_dead(ti_plan *p, int *used)
{
    int n = 0;

    memset(used, 0, (size_t)p->n_value * sizeof *used);
    for (int i = 0; i < p->n_out; i++) used[p->out[i].value] = 1;
    used[p->skip] = 1;
    for (int i = p->n_line; i-- > 0;) {
        ti_line *l = &p->line[i];
        bool alive = l->op == p->commit;

        for (int k = 0; k < l->op->n_out; k++)
            alive |= l->out[k].value >= 0 && used[l->out[k].value];
        if (!alive) {
            ti_line_free(p, l);
            continue;
        }
        for (int k = 0; k < l->n_in; k++)
            if (l->in[k].value >= 0) used[l->in[k].value] = 1;
    }
    for (int i = 0; i < p->n_line; i++)
        if (p->line[i].op) p->line[n++] = p->line[i];
    p->n_line = n;
}

tern_status ti_prune(ti_plan *p)
{
    size_t slots = 16;

    while (slots < 2 * (size_t)p->n_line) slots *= 2;
    int *mark = ti_alloc(p->ctx, (size_t)p->n_value * sizeof *mark);
    int *table = mark ? ti_alloc(p->ctx, slots * sizeof *table) : NULL;

    if (table) {
        share_equal(p, mark, table, slots);
        drop_dead(p, mark);
    }
    ti_free(p->ctx, table);
    ti_free(p->ctx, mark);
    return p->ctx->error;
}
