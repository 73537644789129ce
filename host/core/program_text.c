/*
 * program_text.c - a program as text, one call a line:
 *
 *   %7 = conv2d %x0 @conv1.weight stride=1,1 pad=1,1 -> f32[64,32,28,28]  # direct, at 4096, conv1
 *
 * %x0 is an input, @name a variable, %c3 a constant, %d5 what is kept from run to run, [a:+n] a
 * range of one; ' marks an operand that
 * lies neither row-major nor channels-last. After # stand the row, the places, and the scope.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/program.h"

/* Text that is cut where there is no room, and still counted. */
typedef struct {
    char *text;
    size_t room, n;
} sink;

__attribute__((format(printf, 2, 3))) static void say(sink *s, const char *text, ...)
{
    const size_t left = s->n < s->room ? s->room - s->n : 0;
    va_list args;

    va_start(args, text);
    const int n = vsnprintf(left ? s->text + s->n : NULL, left, text, args);
    va_end(args);
    if (n > 0) s->n += (size_t)n;
}

/* A range of a block by the name of the parameter that it is. */
static void say_variable(sink *s, const tern_var *block, const ti_arg *a)
{
    const int64_t count = tern_count(a->m.shape);

    for (int i = 0; i < block->n_params; i++) {
        const tern_var *v = block->params[i];
        if (v->offset != a->m.offset || v->count != count) continue;
        say(s, "@%s", v->name);
        return;
    }
    say(s, "@%s", block->name);
    if (count != block->count) say(s, "[%lld:+%lld]", (long long)a->m.offset, (long long)count);
}

static void say_arg(sink *s, const ti_plan *p, const ti_arg *a)
{
    static const char *const mark[] = {[TI_INPUT] = "x", [TI_CONSTANT] = "c", [TI_DERIVED] = "d"};
    const ti_value *v = a->value >= 0 ? &p->value[a->value] : NULL;

    if (!v) {
        say(s, "-");
        return;
    }
    if (v->kind == TI_VARIABLE) say_variable(s, v->var, a);
    else say(s, "%%%s%d", v->kind == TI_TEMPORARY ? "" : mark[v->kind], a->value);
    if (v->kind != TI_VARIABLE && (a->m.offset != 0 || ti_bytes(&a->m) != v->bytes))
        say(s, "[%lld:+%lld]", (long long)a->m.offset, (long long)tern_count(a->m.shape));
    if (!ti_is_packed(&a->m) && !ti_is_channels_last(&a->m)) say(s, "'");
}

static void say_place(sink *s, const ti_plan *p, const ti_arg *a)
{
    size_t at;
    const ti_value *r = &p->value[ti_root_value(p, a->value, &at)];

    if (r->kind == TI_VARIABLE) say(s, ", in @%s+%zu", r->var->name, at);
    else say(s, ", %s %zu", r->kind == TI_DERIVED ? "kept at" : "at", r->at + at);
}

/* The ops of a pattern: "batch_norm+add+relu". */
size_t ti_fused_text(const char *pattern, char *text, size_t room)
{
    sink s = {text, room, 0};

    if (room) text[0] = 0;
    for (const char *at = pattern; at && (at = strstr(at, " = ")) != NULL;) {
        at += 3;
        say(&s, "%s%.*s", s.n ? "+" : "", (int)strcspn(at, " ;"), at);
    }
    return s.n;
}

static void say_line(sink *s, const ti_plan *p, const ti_line *l, bool placed)
{
    char shape[160], opts[512];
    const char *between = "";

    for (int k = 0; k < l->op->n_out; k++) {
        if (l->out[k].value < 0) continue;
        say(s, "%s", between);
        say_arg(s, p, &l->out[k]);
        between = ", ";
    }
    say(s, " = %s", l->op->name);
    for (int k = 0; k < l->n_in; k++) {
        say(s, " ");
        say_arg(s, p, &l->in[k]);
    }
    if (ti_opts_text(l->op, l->opts, opts, sizeof opts) > 0) say(s, " %s", opts);
    between = " -> ";
    for (int k = 0; k < l->op->n_out; k++) {
        if (l->out[k].value < 0) continue;
        say(s, "%s%s%s", between, tern_type_name(l->out[k].m.type),
            tern_shape_text(shape, l->out[k].m.shape));
        between = ", ";
    }
    say(s, "  # %s", l->how->row->impl);
    if (l->fused && ti_fused_text(l->fused, opts, sizeof opts) > 0) say(s, ", for %s", opts);
    for (int k = 0; k < l->op->n_out && placed; k++)
        if (l->out[k].value >= 0) say_place(s, p, &l->out[k]);
    if (l->again) say(s, ", again");
    if (l->predicated) say(s, ", unless skip");
    if (l->where || l->back)
        say(s, ", %s%s", l->where ? l->where : "step", l->back ? " backward" : "");
}

size_t ti_line_text(const ti_plan *p, int i, bool placed, char *text, size_t room)
{
    sink s = {text, room, 0};

    say_line(&s, p, &p->line[i], placed);
    return s.n;
}

void ti_log_plan(const ti_plan *p, const char *after, bool placed)
{
    char line[900];

    if (!ti_logs(p->ctx, "program")) return;
    ti_log(p->ctx, "program", "%s: %d lines", after, p->n_line);
    for (int i = 0; i < p->n_line; i++) {
        ti_line_text(p, i, placed, line, sizeof line);
        ti_log(p->ctx, "program", "%s", line);
    }
}

static void say_plan(sink *s, const ti_plan *p)
{
    char shape[160];

    say(s, "# arena %zu bytes, %d lines\n", p->arena_bytes, p->n_line);
    for (int i = 0; i < p->n_line; i++) {
        say_line(s, p, &p->line[i], true);
        say(s, "\n");
    }
    for (int i = 0; i < p->n_out; i++) {
        say(s, i ? ", " : "return ");
        say_arg(s, p, &p->out[i]);
        say(s, " %s%s", tern_type_name(p->out[i].m.type),
            tern_shape_text(shape, p->out[i].m.shape));
    }
    if (p->n_out) say(s, "\n");
}

const char *tern_program_text(tern_ctx *ctx, tern_program *prog)
{
    sink s = {0};

    if (!ctx || ctx->error || !prog || !prog->last) return "";
    say_plan(&s, prog->last);
    ti_free(ctx, prog->text);
    prog->text = ti_alloc(ctx, s.n + 1);
    if (!prog->text) return "";
    s = (sink){prog->text, s.n + 1, 0};
    say_plan(&s, prog->last);
    return prog->text;
}
