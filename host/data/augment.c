/*
 * augment.c - images turned, scaled, moved, flipped, cropped.
 *
 * An output pixel p (centred coordinates) comes from q = R(-angle) (p - shift) / size, after a crop
 * by whole pixels and a flip. Positions are doubles, made by sums and products only; pixels are
 * blended in f32 in one order. No libm, no contraction: bits do not depend on the machine.
 */
#include "data/augment.h"

#include "base/philox.h"

/* Taylor series around 0 for up to 45 degrees, after whole quarter turns are taken off. */
void ti_turn(double degrees, double *sine, double *cosine)
{
    const double quarters = degrees / 90;
    const int64_t n = (int64_t)(quarters + (quarters < 0 ? -0.5 : 0.5));
    const double x = (degrees - 90 * (double)n) * 0.017453292519943295, z = x * x;
    double s = 0, c = 0;

    for (int i = 9; i > 0; i--) {
        s = (1 - s) * z / (double)(2 * i * (2 * i + 1));
        c = (1 - c) * z / (double)(2 * i * (2 * i - 1));
    }
    s = x - x * s;
    c = 1 - c;
    *sine = n & 1 ? c : s;
    *cosine = n & 1 ? -s : c;
    if (n & 2) {
        *sine = -*sine;
        *cosine = -*cosine;
    }
}

bool ti_augments(const tern_augment *a)
{
    return a->rotate != 0 || a->shift != 0 || a->scale != 0 || a->flip || a->crop != 0;
}

const char *ti_augment_wrong(const tern_augment *a)
{
    if (!(a->rotate >= 0 && a->rotate <= 180)) return "rotate is not in 0 to 180 degrees";
    if (!(a->shift >= 0 && a->shift <= 4096)) return "shift is not in 0 to 4096 pixels";
    if (!(a->scale >= 0 && a->scale < 1)) return "scale is not in 0 to 1";
    if (a->crop < 0 || a->crop > 4096) return "crop is not in 0 to 4096 pixels";
    return NULL;
}

/* What is drawn for one sample: the map from output to input pixels. */
typedef struct {
    double xx, xy, yx, yy, x0, y0; /* q = (xx px + xy py + x0, yx px + yy py + y0), in pixels */
    int64_t dx, dy;                /* if it is only moved by whole pixels */
    bool whole, flip;
} map;

static double symmetric(uint32_t bits) { return ((double)bits + 0.5) * 0x1p-31 - 1; }

static map draw(const tern_augment *a, int64_t h, int64_t w, uint64_t seed, uint32_t epoch,
                int64_t sample)
{
    const uint64_t at = (uint64_t)sample << 1;
    const ti_philox4 r = ti_philox_at(seed, TI_FOR_AUGMENT, epoch, at);
    const ti_philox4 t = ti_philox_at(seed, TI_FOR_AUGMENT, epoch, at + 1);
    const double size = 1 + (double)a->scale * symmetric(r.x[1]);
    const double sx = (double)a->shift * symmetric(r.x[2]);
    const double sy = (double)a->shift * symmetric(r.x[3]);
    const double cx = (double)(w - 1) / 2, cy = (double)(h - 1) / 2;
    const uint64_t span = 2 * (uint64_t)a->crop + 1;
    double sine, cosine;
    map m = {.flip = a->flip && t.x[0] >> 31,
             .whole = a->rotate == 0 && a->shift == 0 && a->scale == 0};

    m.dx = (int64_t)(t.x[1] * span >> 32) - a->crop;
    m.dy = (int64_t)(t.x[2] * span >> 32) - a->crop;
    ti_turn((double)a->rotate * symmetric(r.x[0]), &sine, &cosine);
    m.xx = m.yy = cosine / size;
    m.xy = sine / size;
    m.yx = -m.xy;
    /* p = pixel + crop - centre - shift; q = map(p) + centre */
    const double px = (double)m.dx - cx - sx, py = (double)m.dy - cy - sy;

    m.x0 = m.xx * px + m.xy * py + cx;
    m.y0 = m.yx * px + m.yy * py + cy;
    return m;
}

static float get(const ti_source *s, const void *from, int64_t i)
{
    return s->type == TERN_U8 ? (float)((const uint8_t *)from)[i] : ((const float *)from)[i];
}

static float pixel(const ti_source *s, const void *from, int64_t y, int64_t x, int64_t c)
{
    if (y < 0 || y >= s->h || x < 0 || x >= s->w) return 0;
    return get(s, from, (y * s->w + x) * s->c + c);
}

static int64_t down(double x)
{
    const int64_t i = (int64_t)x;

    return (double)i > x ? i - 1 : i;
}

/* Whole pixels: rows are copied, perhaps backwards. */
static void move(float *to, const ti_source *s, const void *from, const map *m, const float *scale,
                 const float *offset)
{
    for (int64_t y = 0; y < s->h; y++) {
        const int64_t from_y = y + m->dy;
        const bool row = from_y >= 0 && from_y < s->h;

        for (int64_t i = 0; i < s->w; i++, to += s->c) {
            const int64_t x = (m->flip ? s->w - 1 - i : i) + m->dx;
            const bool in = row && x >= 0 && x < s->w;
            const int64_t at = in ? (from_y * s->w + x) * s->c : 0;

            for (int64_t c = 0; c < s->c; c++)
                to[c] = (in ? get(s, from, at + c) : 0) * scale[c] + offset[c];
        }
    }
}

/* The four pixels around a place, 0 outside. */
static void around(float p[4], const ti_source *s, const void *from, int64_t y, int64_t x,
                   int64_t c)
{
    if (y >= 0 && y + 1 < s->h && x >= 0 && x + 1 < s->w) {
        const int64_t i = (y * s->w + x) * s->c + c, below = i + s->w * s->c;

        p[0] = get(s, from, i);
        p[1] = get(s, from, i + s->c);
        p[2] = get(s, from, below);
        p[3] = get(s, from, below + s->c);
    } else {
        p[0] = pixel(s, from, y, x, c);
        p[1] = pixel(s, from, y, x + 1, c);
        p[2] = pixel(s, from, y + 1, x, c);
        p[3] = pixel(s, from, y + 1, x + 1, c);
    }
}

void ti_augment_image(float *to, const ti_source *s, const void *from, const tern_augment *a,
                      uint64_t seed, uint32_t epoch, int64_t sample, const float *scale,
                      const float *offset)
{
    const map m = draw(a, s->h, s->w, seed, epoch, sample);

    if (m.whole) {
        move(to, s, from, &m, scale, offset);
        return;
    }
    for (int64_t y = 0; y < s->h; y++)
        for (int64_t i = 0; i < s->w; i++, to += s->c) {
            const int64_t x = m.flip ? s->w - 1 - i : i; /* of the image before the flip */
            const double qx = m.xx * (double)x + m.xy * (double)y + m.x0;
            const double qy = m.yx * (double)x + m.yy * (double)y + m.y0;
            const int64_t x0 = down(qx), y0 = down(qy);
            const float fx = (float)(qx - (double)x0), fy = (float)(qy - (double)y0);

            for (int64_t c = 0; c < s->c; c++) {
                float p[4];

                around(p, s, from, y0, x0, c);
                const float top = p[0] + fx * (p[1] - p[0]), low = p[2] + fx * (p[3] - p[2]);

                to[c] = (top + fy * (low - top)) * scale[c] + offset[c];
            }
        }
}
