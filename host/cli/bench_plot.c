/*
 * bench_plot.c - rows of `tern bench` as a picture, .svg or .png: a roofline where operations state
 * their arithmetic, else bars of the share of the roof, else bars of times.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/draw.h"
#include "cli/out.h"

#ifndef TI_WITH_CAIRO
bool bench_plot(const bench *b, const char *path)
{
    (void)b;
    error("--plot %s: this command was built without Cairo", path);
    return false;
}
#else
enum { WIDTH = 1100, HEIGHT = 680, LEFT = 80, TOP = 110, BOTTOM = 70, RIGHT = 270, BAR = 22 };
enum { ROWS_MOST = 400 };
/* What a row belongs to: its operation without "_dx", "_d"; its model. */
static void family_of(const bench_row *r, char name[48])
{
    size_t n;

    strncpy(name, r->what ? r->what : r->kind, 47);
    name[47] = '\0';
    n = strlen(name);
    if (n > 3 && (strcmp(name + n - 3, "_dx") == 0 || strcmp(name + n - 3, "_dw") == 0))
        name[n - 3] = '\0';
    else if (n > 2 && strcmp(name + n - 2, "_d") == 0) name[n - 2] = '\0';
}

typedef struct {
    char name[FAMILIES][48];
    int n;
} legend;

static int family(legend *l, const bench_row *r)
{
    char name[48];

    family_of(r, name);
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->name[i], name) == 0) return i;
    if (l->n == FAMILIES) return FAMILIES - 1;
    if (l->n == FAMILIES - 1) strcpy(name, "others");
    strcpy(l->name[l->n], name);
    return l->n++;
}

static void head(cairo_t *c, const bench *b, const char *title, int width)
{
    char *hardware = bench_hardware(b), *below;

    cairo_set_source_rgb(c, 1, 1, 1);
    cairo_paint(c);
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
    draw_color(c, ink, 1);
    draw_text(c, 28, 38, 1, 19, title);
    cairo_select_font_face(c, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    draw_color(c, faint, 1);
    below = cli_format("tern %s · %s", tern_version(), hardware);
    draw_text(c, 28, 60, 1, 12.5, below);
    free(below);
    free(hardware);
    (void)width;
}

/* ---- Roofline -------------------------------------------------------------------------------- */

typedef struct {
    double x0, x1, y0, y1; /* decades */
} axes;

static double at_x(const axes *a, double v)
{
    return LEFT + (log10(v) - a->x0) / (a->x1 - a->x0) * (WIDTH - LEFT - RIGHT);
}
static double at_y(const axes *a, double v)
{
    return HEIGHT - BOTTOM - (log10(v) - a->y0) / (a->y1 - a->y0) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2, 5 of each decade by name, the others as faint lines. */
static void grid_axis(cairo_t *c, const axes *a, bool across)
{
    const double low = across ? a->x0 : a->y0, high = across ? a->x1 : a->y1;

    for (int d = (int)floor(low); d <= (int)ceil(high); d++)
        for (int k = 1; k < 10; k++) {
            const double v = k * pow(10, d), at = across ? at_x(a, v) : at_y(a, v);
            const bool named = k == 1 || k == 2 || k == 5;
            char *label;

            if (log10(v) < low - 1e-9 || log10(v) > high + 1e-9) continue;
            draw_color(c, line, k == 1 ? 1 : named ? 0.8 : 0.4);
            if (across) draw_line(c, at, TOP, at, HEIGHT - BOTTOM, k == 1 ? 1.4 : 0.8);
            else draw_line(c, LEFT, at, WIDTH - RIGHT, at, k == 1 ? 1.4 : 0.8);
            if (!named) continue;
            label = cli_format("%g", v);
            draw_color(c, faint, 1);
            if (across) draw_text(c, at, HEIGHT - BOTTOM + 20, 0, 12, label);
            else draw_text(c, LEFT - 10, at + 4, -1, 12, label);
            free(label);
        }
}

static void grid(cairo_t *c, const axes *a)
{
    grid_axis(c, a, true);
    grid_axis(c, a, false);
    draw_color(c, ink, 1);
    draw_text(c, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 22, 0, 13,
              "flop for each byte of inputs and outputs");
    cairo_save(c);
    cairo_translate(c, 26, (TOP + HEIGHT - BOTTOM) / 2.0);
    cairo_rotate(c, -acos(-1.0) / 2);
    draw_text(c, 0, 0, 0, 13, "GFLOP/s");
    cairo_restore(c);
}

/* The slopes of the slowest and the fastest copy, then the flat top. */
static void roof_lines(cairo_t *c, const axes *a, const roof *r, double slow, double fast)
{
    const double knee = r->gflops / slow, left = pow(10, a->x0), right = pow(10, a->x1);
    const double top = at_y(a, r->gflops);

    cairo_save(c);
    cairo_rectangle(c, LEFT, TOP, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    cairo_clip(c);
    draw_color(c, ink, 0.85);
    draw_line(c, at_x(a, knee), top, at_x(a, right), top, 1.8);
    draw_line(c, at_x(a, left), at_y(a, left * slow), at_x(a, knee), top, 1.8);
    cairo_set_dash(c, (const double[]){5, 4}, 2, 0);
    draw_line(c, at_x(a, left), at_y(a, left * fast), at_x(a, r->gflops / fast), top, 1.2);
    draw_line(c, at_x(a, r->gflops / fast), top, at_x(a, knee), top, 1.2);
    cairo_restore(c);
}

static void roofs(cairo_t *c, const axes *a, const bench *b)
{
    for (int i = 0; i < b->n_roof; i++) {
        const roof *r = &b->roofs[i];
        const double slow = r->gb_per_s[r->n_copy - 1];
        double fast = slow;
        char *label;

        for (int k = 0; k < r->n_copy; k++) fast = fmax(fast, r->gb_per_s[k]);
        roof_lines(c, a, r, slow, fast);
        draw_color(c, ink, 1);
        label = cli_format("%.0f GFLOP/s, %d thread%s", r->gflops, r->threads,
                           r->threads > 1 ? "s" : "");
        draw_text(c, WIDTH - RIGHT - 6, at_y(a, r->gflops) - 7, -1, 12, label);
        free(label);
        label = cli_format("%d thread%s: copies %.0f GB/s from memory (slope), %.0f GB/s from "
                           "caches (dashes)",
                           r->threads, r->threads > 1 ? "s" : "", slow, fast);
        draw_color(c, faint, 1);
        draw_text(c, LEFT, TOP - 12 - 15 * (b->n_roof - 1 - i), 1, 12, label);
        free(label);
    }
}

static bool has_point(const bench_row *r) { return r->time.n > 0 && r->flops > 0 && r->bytes > 0; }

static void mark(cairo_t *c, const bench_row *r, double x, double y, color k)
{
    const char *d = r->direction ? r->direction : "fwd";

    draw_color(c, k, 0.8);
    cairo_new_path(c); /* text leaves a point behind */
    if (strcmp(d, "fwd") == 0) cairo_arc(c, x, y, 4.5, 0, 7);
    else if (strcmp(d, "bwd-w") == 0) cairo_rectangle(c, x - 4, y - 4, 8, 8);
    else {
        cairo_move_to(c, x, y - 5.5);
        cairo_line_to(c, x + 5.2, y + 4);
        cairo_line_to(c, x - 5.2, y + 4);
        cairo_close_path(c);
    }
    cairo_fill(c);
}

static void roofline(cairo_t *c, const bench *b)
{
    static const char *const ways[] = {"fwd", "bwd", "bwd-w"};
    static const char *const words[] = {"forward", "backward (in x, or all)", "backward in w"};
    axes a = {1e9, -1e9, 1e9, -1e9};
    legend l = {.n = 0};

    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];
        if (!has_point(r)) continue;
        a.x0 = fmin(a.x0, log10(r->flops / r->bytes) - 0.2);
        a.x1 = fmax(a.x1, log10(r->flops / r->bytes) + 0.2);
        a.y0 = fmin(a.y0, log10(r->flops / r->time.median) - 0.2);
        a.y1 = fmax(a.y1, log10(r->flops / r->time.median) + 0.2);
    }
    for (int i = 0; i < b->n_roof; i++) {
        a.y1 = fmax(a.y1, log10(b->roofs[i].gflops) + 0.12);
        a.x0 = fmin(a.x0, -0.3);
        a.x1 = fmax(a.x1,
                    log10(b->roofs[i].gflops / b->roofs[i].gb_per_s[b->roofs[i].n_copy - 1]) + 0.6);
    }
    a.y0 = fmin(a.y0, a.y1 - 2);
    head(c, b, "Roofline: arithmetic against bytes", WIDTH);
    grid(c, &a);
    cairo_save(c);
    cairo_rectangle(c, LEFT, TOP - 20, WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM + 20);
    cairo_clip(c);
    for (int i = 0; i < b->n_row; i++) {
        const bench_row *r = &b->row[i];
        if (has_point(r))
            mark(c, r, at_x(&a, r->flops / r->bytes), at_y(&a, r->flops / r->time.median),
                 families[family(&l, r)]);
    }
    cairo_restore(c);
    roofs(c, &a, b);
    for (int i = 0; i < l.n; i++) {
        draw_color(c, families[i], 1);
        cairo_rectangle(c, WIDTH - RIGHT + 26, TOP + 24 * i, 12, 12);
        cairo_fill(c);
        draw_color(c, ink, 1);
        draw_text(c, WIDTH - RIGHT + 46, TOP + 24 * i + 11, 1, 13, l.name[i]);
    }
    for (int i = 0; i < 3; i++) {
        const bench_row r = {.direction = ways[i]};
        const double y = TOP + 24 * (l.n + 1 + i) + 6;
        mark(c, &r, WIDTH - RIGHT + 32, y, faint);
        draw_color(c, ink, 1);
        draw_text(c, WIDTH - RIGHT + 46, y + 5, 1, 13, words[i]);
    }
}

/* ---- Bars ------------------------------------------------------------------------------------ */

static int n_bars(const bench *b)
{
    int n = 0;

    for (int i = 0; i < b->n_row; i++) n += b->row[i].time.n > 0;
    return n > ROWS_MOST ? ROWS_MOST : n;
}

static void bars(cairo_t *c, const bench *b)
{
    const double from = 380, to = WIDTH - 150;
    bool share = true;
    double most = 0;
    legend l = {.n = 0};
    int at = 0;

    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].time.n > 0) share &= b->row[i].bound != NULL;
    for (int i = 0; i < b->n_row; i++)
        if (b->row[i].time.n) most = fmax(most, share ? b->row[i].roof : b->row[i].time.median);
    if (share && most < 1) most = 1;
    head(c, b, share ? "Share of what the machine allows" : "Times", WIDTH);
    if (share) { /* the roof itself */
        const double x = from + (to - from) / most;
        draw_color(c, faint, 1);
        cairo_set_dash(c, (const double[]){5, 4}, 2, 0);
        draw_line(c, x, TOP - 8, x, TOP + BAR * n_bars(b), 1);
        cairo_set_dash(c, NULL, 0, 0);
    }
    for (int i = 0; i < b->n_row && at < ROWS_MOST; i++) {
        const bench_row *r = &b->row[i];
        const double value = share ? r->roof : r->time.median, y = TOP + BAR * at;
        char *name, *label;

        if (r->time.n == 0) continue;
        at++;
        name = cli_format("%s%s%s", r->name, r->direction ? "  " : "",
                          r->direction ? r->direction : "");
        label = share ? cli_format("%.0f%%  %s", 100 * r->roof, bench_time(r->time.median))
                      : cli_copy(bench_time(r->time.median));
        draw_color(c, ink, 1);
        draw_text(c, from - 10, y + 13, -1, 12, name);
        draw_color(c, families[family(&l, r)], 0.85);
        cairo_rectangle(c, from, y + 2, (to - from) * value / most, BAR - 7);
        cairo_fill(c);
        cairo_set_source_rgb(c, 1, 1, 1); /* the label hides the line of the roof */
        cairo_rectangle(c, from + (to - from) * value / most + 4, y + 1, 110, BAR - 5);
        cairo_fill(c);
        draw_color(c, faint, 1);
        draw_text(c, from + (to - from) * value / most + 8, y + 13, 1, 12, label);
        free(name);
        free(label);
    }
}

/* ---- Files ----------------------------------------------------------------------------------- */

bool bench_plot(const bench *b, const char *path)
{
    int points = 0;
    picture p;

    for (int i = 0; i < b->n_row; i++) points += has_point(&b->row[i]);
    if (!picture_begin(&p, path, WIDTH, points ? HEIGHT : TOP + BAR * n_bars(b) + 30)) return false;
    if (points) roofline(p.c, b);
    else bars(p.c, b);
    return picture_end(&p);
}
#endif
