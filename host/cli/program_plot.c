/*
 * program_plot.c - a program as a picture: its calls in order, joined by arcs from what makes a
 * value to what reads it, and below them, on the same axis, the values' lifetimes in the arena.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/draw.h"
#include "cli/out.h"
#include "cli/summary.h"

#ifndef TI_WITH_CAIRO
bool program_plot(const tern_program *p, const char *model, int64_t batch, const char *path)
{
    (void)p, (void)model, (void)batch;
    error("--plot %s: this command was built without Cairo", path ? path : "svg");
    return false;
}
#else

enum { LEFT = 86, RIGHT = 30, TOP = 96, ARCS = 210, NAMES = 210, BARS = 380, BOTTOM = 50 };
enum { CALLS = TOP + ARCS, BARS_TOP = CALLS + NAMES, BARS_END = BARS_TOP + BARS };

/* Kinds of values and calls, by colour. */
typedef enum { FORWARD, KEPT, BACKWARD, SCRATCH, INPUT, UPDATE } kind;
static const struct {
    const char *text;
    color color;
} kinds[] = {
    [FORWARD] = {"forward", {0.34, 0.71, 0.91}}, [KEPT] = {"kept for backward", {0, 0.45, 0.70}},
    [BACKWARD] = {"backward", {0.90, 0.62, 0}},  [SCRATCH] = {"scratch", {0.62, 0.62, 0.62}},
    [INPUT] = {"input", {0, 0.62, 0.45}},        [UPDATE] = {"update", {0.80, 0.47, 0.65}}};

typedef struct {
    const tern_program *p;
    int n_line, n_commit, first_back, last_back; /* lines without the commits at the end */
    double step;
    size_t arena;
} sheet;

static double x_of(const sheet *s, double i) { return LEFT + (i + 0.5) * s->step; }
static double y_of(const sheet *s, size_t at)
{
    return BARS_END - (double)at / (double)(s->arena ? s->arena : 1) * BARS;
}

static kind kind_of_line(const sheet *s, int i)
{
    tern_program_line l;

    if (!tern_program_line_at(s->p, i, &l)) return FORWARD;
    return l.backward ? BACKWARD : i > s->last_back ? UPDATE : FORWARD;
}

static kind kind_of_value(const sheet *s, const tern_program_value *v)
{
    if (v->kind == TERN_VALUE_INPUT) return INPUT;
    if (v->scratch) return SCRATCH;
    const kind k = kind_of_line(s, v->first);
    return k == FORWARD && v->last >= s->first_back ? KEPT : k;
}

static void look(sheet *s)
{
    tern_program_line l;

    s->last_back = -1;
    for (int i = 0; tern_program_line_at(s->p, i, &l); i++) {
        if (l.commit) s->n_commit++;
        else s->n_line = i + 1;
        if (!l.backward) continue;
        if (s->last_back < 0) s->first_back = i;
        s->last_back = i;
    }
    if (s->last_back < 0) s->first_back = s->last_back = s->n_line;
    s->arena = tern_program_peak(s->p);
    s->step = s->n_line < 90 ? 1100.0 / (s->n_line ? s->n_line : 1) : 12;
}

/* ---- Calls ---- */

static void arc(cairo_t *c, const sheet *s, int from, int to)
{
    const double x0 = x_of(s, from), x1 = x_of(s, to);
    const double top =
        CALLS - (10 + (ARCS - 20) * pow((double)(to - from) / s->n_line, 0.7)) / 0.75;

    draw_color(c, kinds[kind_of_line(s, to)].color, 0.45);
    cairo_set_line_width(c, 1);
    cairo_move_to(c, x0, CALLS);
    cairo_curve_to(c, x0, top, x1, top, x1, CALLS);
    cairo_stroke(c);
}

static void call(cairo_t *c, const sheet *s, int i, const tern_program_line *l)
{
    char *name = cli_format("%s%s%s", l->op, *l->where ? "  " : "", l->where);

    draw_color(c, kinds[kind_of_line(s, i)].color, 1);
    cairo_arc(c, x_of(s, i), CALLS, *l->fused ? 4.5 : 3, 0, 2 * acos(-1.0));
    cairo_fill(c);
    if (*l->fused) { /* a ring */
        draw_color(c, ink, 1);
        cairo_set_line_width(c, 1.2);
        cairo_arc(c, x_of(s, i), CALLS, 4.5, 0, 2 * acos(-1.0));
        cairo_stroke(c);
    }
    cairo_save(c);
    cairo_rectangle(c, 0, CALLS, x_of(s, s->n_line) + RIGHT, NAMES - 12);
    cairo_clip(c);
    cairo_translate(c, x_of(s, i) + 3, CALLS + 10);
    cairo_rotate(c, acos(-1.0) / 2);
    draw_color(c, *l->fused ? ink : faint, 1);
    draw_text(c, 0, 0, 1, fmin(10, s->step - 2.5), name);
    cairo_restore(c);
    free(name);
}

static void calls(cairo_t *c, const sheet *s)
{
    tern_program_value v;
    tern_program_line l;
    int n_value = 0;

    while (tern_program_value_at(s->p, n_value, &v)) n_value++;
    int *maker = cli_alloc((size_t)(n_value + 1) * sizeof *maker);
    for (int k = 0; k < n_value; k++) maker[k] = -1;
    for (int i = 0; i < s->n_line && tern_program_line_at(s->p, i, &l); i++) {
        for (int k = 0; k < l.n_in; k++) {
            const int value = tern_program_operand(s->p, i, k);
            if (value >= 0 && maker[value] >= 0) arc(c, s, maker[value], i);
        }
        for (int k = 0; k < l.n_out && !l.commit; k++) {
            const int value = tern_program_operand(s->p, i, l.n_in + k);
            if (value >= 0) maker[value] = i;
        }
    }
    for (int i = 0; i < s->n_line && tern_program_line_at(s->p, i, &l); i++) call(c, s, i, &l);
    free(maker);
}

/* ---- Lifetimes ---- */

static void bar(cairo_t *c, const sheet *s, const tern_program_value *v)
{
    const double x0 = x_of(s, (v->first < 0 ? 0 : v->first) - 0.5);
    const double x1 = x_of(s, (v->last < s->n_line ? v->last : s->n_line - 1) + 0.5);
    const double y0 = y_of(s, v->at + v->bytes), y1 = y_of(s, v->at);
    const color k = kinds[kind_of_value(s, v)].color;

    draw_color(c, k, 0.75);
    cairo_rectangle(c, x0, y0, x1 - x0, y1 - y0);
    cairo_fill(c);
    if (y1 - y0 < 2) return;
    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_set_line_width(c, 0.6);
    cairo_rectangle(c, x0, y0, x1 - x0, y1 - y0);
    cairo_stroke(c);
}

static void bars(cairo_t *c, const sheet *s)
{
    const double x1 = LEFT + s->n_line * s->step;
    tern_program_value v;

    for (int i = 0; i <= 4; i++) {
        const size_t at = s->arena / 4 * (size_t)i;
        draw_color(c, line, 1);
        draw_line(c, LEFT, y_of(s, at), x1, y_of(s, at), 1);
        draw_color(c, faint, 1);
        draw_text(c, LEFT - 8, y_of(s, at) + 4, -1, 11, mebibytes((double)at));
    }
    for (int i = 0; tern_program_value_at(s->p, i, &v); i++)
        if (v.inside == i && v.last >= 0 && v.bytes > 0 &&
            (v.kind == TERN_VALUE_INPUT || v.kind == TERN_VALUE_TEMPORARY))
            bar(c, s, &v);
    for (int i = 0; i < s->n_line; i += s->step < 20 ? 10 : 5) {
        char *number = cli_format("%d", i);
        draw_color(c, faint, 1);
        draw_text(c, x_of(s, i), BARS_END + 18, 0, 11, number);
        free(number);
    }
    draw_text(c, LEFT, BARS_END + 38, 1, 11,
              "line of the program; above it what lies in the arena");
}

static void legend(cairo_t *c)
{
    double x = 28;

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        cairo_text_extents_t e;

        draw_color(c, kinds[i].color, 1);
        cairo_rectangle(c, x, 70, 11, 11);
        cairo_fill(c);
        draw_color(c, ink, 1);
        draw_text(c, x + 16, 80, 1, 12, kinds[i].text);
        cairo_text_extents(c, kinds[i].text, &e);
        x += e.x_advance + 36;
    }
    draw_color(c, ink, 1);
    cairo_set_line_width(c, 1.2);
    cairo_new_path(c);
    cairo_arc(c, x + 6, 75.5, 4.5, 0, 2 * acos(-1.0));
    cairo_stroke(c);
    draw_text(c, x + 16, 80, 1, 12, "fused");
}

bool program_plot(const tern_program *p, const char *model, int64_t batch, const char *path)
{
    sheet s = {.p = p};
    picture to;

    look(&s);
    if (!picture_begin(&to, path, LEFT + s.n_line * s.step + RIGHT, BARS_END + BOTTOM))
        return false;
    cairo_select_font_face(to.c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    draw_color(to.c, ink, 1);
    draw_text(to.c, 28, 36, 1, 19, model);
    cairo_select_font_face(to.c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    draw_color(to.c, faint, 1);
    char *below = cli_format("a training step at batch %lld: %d calls, %d commits, an arena of %s",
                             (long long)batch, s.n_line, s.n_commit, mebibytes((double)s.arena));
    draw_text(to.c, 28, 57, 1, 12.5, below);
    free(below);
    legend(to.c);
    calls(to.c, &s);
    bars(to.c, &s);
    return picture_end(&to);
}
#endif
