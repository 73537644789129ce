/*
 * draw.h - pictures through Cairo: files, colours, text. Without Cairo there is nothing here.
 */
#ifndef CLI_DRAW_H
#define CLI_DRAW_H

#ifdef TI_WITH_CAIRO
#include <cairo.h>
#include <stdbool.h>

typedef struct {
    double r, g, b;
} color;
extern const color ink, faint, line;
/* Okabe and Ito: told apart by everyone. */
enum { FAMILIES = 8 };
extern const color families[FAMILIES];

void draw_color(cairo_t *c, color k, double opaque);
/* at: -1 left of x, 0 around it, 1 right of it. */
void draw_text(cairo_t *c, double x, double y, int at, double size, const char *text);
void draw_line(cairo_t *c, double x0, double y0, double x1, double y1, double width);

typedef struct {
    const char *path; /* NULL: SVG to stdout */
    bool png;
    cairo_surface_t *surface;
    cairo_t *c;
} picture;
/* A white sheet in a file that ends with .svg or .png; false: that was said. */
bool picture_begin(picture *p, const char *path, double width, double height);
bool picture_end(picture *p);
#endif

#endif
