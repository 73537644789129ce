/*
 * summary_program.c - `tern summary --program`: the program of a training step as text, its fusions
 * and the lifetimes of its values; as a graph in the dot language; as a picture.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"
#include "cli/summary.h"

/* ---- Text ---- */

static void numbered(const char *text)
{
    for (int i = 0; *text; text += strcspn(text, "\n"), text += *text == '\n') {
        const int length = (int)strcspn(text, "\n");

        if (*text == '%' || *text == '@') result("%4d  %.*s\n", i++, length, text);
        else if (*text != '#') result("      %.*s\n", length, text);
    }
}

/* Each fused op and what it stands for, with how often. */
static void fusions(const tern_program *p)
{
    tern_program_line a, b;
    int n = 0;

    for (int i = 0; tern_program_line_at(p, i, &a); i++) {
        int times = 0, first = -1;

        for (int k = 0; a.fused[0] && tern_program_line_at(p, k, &b); k++) {
            if (strcmp(a.op, b.op) != 0 || strcmp(a.fused, b.fused) != 0) continue;
            if (first < 0) first = k;
            times++;
        }
        if (first != i) continue;
        result("%s%4d \xc3\x97 %s for %s\n", n++ ? "" : "\nfused\n", times, a.op, a.fused);
    }
    if (!n) result("\nnothing is fused\n");
}

/* A value of the arena that has a place of its own there. */
static bool has_place(const tern_program *p, int i, tern_program_value *v)
{
    return tern_program_value_at(p, i, v) && v->inside == i && v->last >= 0 &&
           (v->kind == TERN_VALUE_INPUT || v->kind == TERN_VALUE_TEMPORARY);
}

static void lifetimes(const tern_program *p)
{
    tern_program_value v;

    result("\nlifetimes in the arena: value, bytes, at, lines\n");
    for (int i = 0; tern_program_value_at(p, i, &v); i++) {
        if (!has_place(p, i, &v)) continue;
        char *name = cli_format("%%%s%d%s", v.kind == TERN_VALUE_INPUT ? "x" : "", i,
                                v.scratch ? " scratch" : "");
        result("  %-14s %12zu %12zu  %d \xe2\x80\xa6 %d\n", name, v.bytes, v.at,
               v.first < 0 ? 0 : v.first, v.last);
        free(name);
    }
}

/* ---- The dot language ---- */

static int maker_of(const tern_program *p, int value)
{
    tern_program_line l;

    for (int i = 0; tern_program_line_at(p, i, &l); i++)
        for (int k = 0; k < l.n_out && !l.commit; k++)
            if (tern_program_operand(p, i, l.n_in + k) == value) return i;
    return -1;
}

static void dot(const tern_program *p, const char *model)
{
    tern_program_line l;
    tern_program_value v;

    result("digraph \"%s\" {\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n", model);
    for (int i = 0; tern_program_line_at(p, i, &l); i++)
        result("  n%d [label=\"%s\\n%s%s%s\", fillcolor=\"%s\"%s];\n", i, l.op, l.where,
               *l.where ? "\\n" : "", l.out,
               l.commit     ? "#eeeeee"
               : l.backward ? "#fbe3c0"
                            : "#cfe4f3",
               *l.fused ? ", penwidth=2.5" : "");
    for (int i = 0; tern_program_value_at(p, i, &v); i++)
        if (v.kind == TERN_VALUE_INPUT)
            result("  v%d [label=\"x%d\", shape=ellipse, fillcolor=white];\n", i, i);
    for (int i = 0; tern_program_line_at(p, i, &l); i++)
        for (int k = 0; k < l.n_in; k++) {
            const int value = tern_program_operand(p, i, k);
            const int maker = value < 0 ? -1 : maker_of(p, value);

            if (maker >= 0) result("  n%d -> n%d;\n", maker, i);
            else if (tern_program_value_at(p, value, &v) && v.kind == TERN_VALUE_INPUT)
                result("  v%d -> n%d;\n", value, i);
        }
    result("}\n");
}

/* ---- The verb ---- */

bool summary_program(cli *c, tern_ctx *ctx, tern_program *p, const char *model, int64_t batch)
{
    const char *form = cli_text(c, "program"), *plot = cli_text(c, "plot");
    const bool svg = form && strcmp(form, "svg") == 0;
    if (plot && !program_plot(p, model, batch, plot)) return false;
    if (svg && !program_plot(p, model, batch, NULL)) return false;
    if (form && strcmp(form, "dot") == 0) dot(p, model);
    if (!form || strcmp(form, "text") != 0) return true;
    result("%s, a training step at batch %lld: arena %zu bytes\n", model, (long long)batch,
           tern_program_peak(p));
    numbered(tern_program_text(ctx, p));
    fusions(p);
    lifetimes(p);
    result("\n");
    return true;
}
