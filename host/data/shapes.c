/*
 * shapes.c - drawn figures: a data set for where there is none. Synthetic, and says so.
 *
 * Ten figures, 28 x 28, grey, each moved, turned by up to 20 degrees, of its own size, stroke,
 * brightness and noise. A pixel is a function of (seed, part, sample, pixel). A figure is a signed
 * distance d (in half image widths, negative inside), brightness falls from inside to outside over
 * one pixel. Only sums, products, quotients and roots: the same bytes everywhere.
 */
#include <math.h>

#include "base/philox.h"
#include "data/augment.h"
#include "data/source.h"

enum { SIDE = 28, CLASSES = 10 };

static const char *const names[CLASSES] = {"disc",  "ring", "square", "frame", "triangle",
                                           "cross", "x",    "bar",    "bars",  "half disc"};

typedef struct {
    double size, stroke, cx, cy, sin, cos, bright, noise;
} figure;

static double most(double a, double b) { return a > b ? a : b; }
static double least(double a, double b) { return a < b ? a : b; }
static double size_of(double x) { return x < 0 ? -x : x; }

static double box(double x, double y, double w, double h)
{
    return most(size_of(x) - w, size_of(y) - h);
}

/* Distance to figure `kind` of half size r and stroke s, centred, upright. */
static double distance(int kind, double x, double y, double r, double s)
{
    const double disc = sqrt(x * x + y * y) - r, diagonal = 0.7071067811865476;

    switch (kind) {
    case 0: return disc;
    case 1: return size_of(disc + s / 2) - s / 2;
    case 2: return box(x, y, r * 0.85, r * 0.85);
    case 3: return size_of(box(x, y, r * 0.85, r * 0.85) + s / 2) - s / 2;
    case 4: return most(y - r * 0.6, 0.8660254037844386 * size_of(x) - 0.5 * y - r * 0.5);
    case 5: return least(box(x, y, r, s / 2), box(x, y, s / 2, r));
    case 6: {
        const double u = diagonal * (x + y), v = diagonal * (x - y);

        return least(box(u, v, r * 1.2, s / 2), box(u, v, s / 2, r * 1.2));
    }
    case 7: return box(x, y, s / 2, r);
    case 8: return box(size_of(x) - r * 0.6, y, s / 2, r);
    default: return most(disc, y);
    }
}

static double uniform(uint32_t bits, double from, double to)
{
    return from + (to - from) * ((double)bits * 0x1p-32);
}

static figure draw_figure(uint64_t seed, uint32_t part, int64_t sample)
{
    const uint64_t at = (uint64_t)sample << 10; /* the numbers of pixels come after these */
    const ti_philox4 a = ti_philox_at(seed, TI_FOR_SHAPES, part, at);
    const ti_philox4 b = ti_philox_at(seed, TI_FOR_SHAPES, part, at + 1);
    figure f = {.size = uniform(a.x[0], 0.4, 0.75),
                .stroke = uniform(a.x[1], 0.16, 0.3),
                .bright = uniform(b.x[1], 130, 255),
                .noise = uniform(b.x[2], 0, 40)};
    const double room = 0.85 - f.size;

    f.cx = uniform(a.x[2], -room, room);
    f.cy = uniform(a.x[3], -room, room);
    ti_turn(uniform(b.x[0], -20, 20), &f.sin, &f.cos);
    return f;
}

static void draw(uint8_t *pixels, int kind, const figure *f, uint64_t seed, uint32_t part,
                 int64_t sample)
{
    ti_philox4 r = {{0}};

    for (int i = 0; i < SIDE * SIDE; i++) {
        if (i % 4 == 0)
            r = ti_philox_at(seed, TI_FOR_SHAPES, part,
                             ((uint64_t)sample << 10) + 2 + (uint64_t)i / 4);
        const double x = (2 * (i % SIDE) + 1 - SIDE) / (double)SIDE - f->cx;
        const double y = (2 * (i / SIDE) + 1 - SIDE) / (double)SIDE - f->cy;
        const double d =
            distance(kind, f->cos * x + f->sin * y, f->cos * y - f->sin * x, f->size, f->stroke);
        const double cover = least(1, most(0, 0.5 - d * (SIDE / 2.0)));
        const double v = cover * f->bright + f->noise * uniform(r.x[i % 4], 0, 1);

        pixels[i] = (uint8_t)least(255, v);
    }
}

tern_data *ti_shapes_open(tern_ctx *ctx, bool train, const tern_data_opts *opts)
{
    const uint64_t seed = opts->seed ? opts->seed : 42;
    const int64_t count = opts->count ? opts->count : train ? 20000 : 4000;
    tern_data *d =
        ti_data_new(ctx, TERN_U8, (tern_shape){3, {1, SIDE, SIDE}}, count, CLASSES, NULL);

    if (!d) return NULL;
    d->source->synthetic = true;
    for (int64_t i = 0; i < count; i++) {
        const int kind = (int)(i % CLASSES);
        const figure f = draw_figure(seed, !train, i);

        draw((uint8_t *)d->source->pixels + i * SIDE * SIDE, kind, &f, seed, !train, i);
        d->source->labels[i] = kind;
    }
    if (ti_data_names(ctx, d, names, CLASSES) == TERN_OK &&
        ti_data_origin(ctx, d, "shapes: synthetic figures drawn from seed %llu, %s part",
                       (unsigned long long)seed, train ? "train" : "test") == TERN_OK)
        return d;
    tern_data_close(ctx, d);
    return NULL;
}
