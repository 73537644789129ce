/* draw.c - pictures through Cairo (draw.h). */
#include "cli/draw.h"

#ifdef TI_WITH_CAIRO
#include <cairo-svg.h>
#include <string.h>

#include "cli/out.h"

const color ink = {0.13, 0.15, 0.18}, faint = {0.45, 0.48, 0.52}, line = {0.88, 0.89, 0.91};
const color families[FAMILIES] = {{0, 0.45, 0.70},    {0.90, 0.62, 0},   {0, 0.62, 0.45},
                                  {0.80, 0.47, 0.65}, {0.84, 0.37, 0},   {0.34, 0.71, 0.91},
                                  {0.55, 0.50, 0.10}, {0.35, 0.35, 0.35}};

void draw_color(cairo_t *c, color k, double opaque)
{
    cairo_set_source_rgba(c, k.r, k.g, k.b, opaque);
}

void draw_text(cairo_t *c, double x, double y, int at, double size, const char *text)
{
    cairo_text_extents_t e;

    cairo_set_font_size(c, size);
    cairo_text_extents(c, text, &e);
    cairo_move_to(c, x - (at < 0 ? e.x_advance : at == 0 ? e.x_advance / 2 : 0), y);
    cairo_show_text(c, text);
}

void draw_line(cairo_t *c, double x0, double y0, double x1, double y1, double width)
{
    cairo_set_line_width(c, width);
    cairo_move_to(c, x0, y0);
    cairo_line_to(c, x1, y1);
    cairo_stroke(c);
}

/* ---- Files ---- */

static cairo_status_t to_stdout(void *user, const unsigned char *bytes, unsigned int n)
{
    (void)user;
    result("%.*s", (int)n, (const char *)bytes);
    return CAIRO_STATUS_SUCCESS;
}

bool picture_begin(picture *p, const char *path, double width, double height)
{
    const size_t n = path ? strlen(path) : 0;
    const bool svg = !path || (n > 4 && strcmp(path + n - 4, ".svg") == 0);
    const double zoom = svg ? 1 : 2;

    *p = (picture){.path = path, .png = n > 4 && strcmp(path + n - 4, ".png") == 0};
    if (!svg && !p->png) {
        error("--plot %s: the name ends neither with .svg nor with .png", path);
        return false;
    }
    p->surface = !path ? cairo_svg_surface_create_for_stream(to_stdout, NULL, width, height)
                 : svg ? cairo_svg_surface_create(path, width, height)
                       : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(width * zoom),
                                                    (int)(height * zoom));
    p->c = cairo_create(p->surface);
    cairo_scale(p->c, zoom, zoom);
    cairo_set_source_rgb(p->c, 1, 1, 1);
    cairo_paint(p->c);
    return true;
}

bool picture_end(picture *p)
{
    cairo_status_t status = cairo_status(p->c);

    cairo_destroy(p->c);
    if (status == CAIRO_STATUS_SUCCESS && p->png)
        status = cairo_surface_write_to_png(p->surface, p->path);
    cairo_surface_finish(p->surface);
    if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(p->surface);
    cairo_surface_destroy(p->surface);
    if (status != CAIRO_STATUS_SUCCESS)
        error("--plot %s: %s", p->path ? p->path : "-", cairo_status_to_string(status));
    else if (p->path) say("drew %s\n", p->path);
    return status == CAIRO_STATUS_SUCCESS;
}
#endif
