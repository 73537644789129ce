/* image.c - images told apart, made grey or colour, resized. */
#include "io/image.h"

#include <string.h>

tern_status ti_image_room(tern_ctx *ctx, tern_image *image, const char *path, uint64_t width,
                          uint64_t height, int64_t channels)
{
    if (!width || !height || width > TI_MOST_SIDE || height > TI_MOST_SIDE ||
        width * height > TI_MOST_PIXELS)
        return ti_fail(ctx, TERN_E_FORMAT,
                       "%.300s: is %llu x %llu pixels; 1 to %d a side, %d in all are read", path,
                       (unsigned long long)width, (unsigned long long)height, TI_MOST_SIDE,
                       TI_MOST_PIXELS);
    *image = (tern_image){.height = (int64_t)height, .width = (int64_t)width, .channels = channels};
    image->pixels = ti_alloc(ctx, (size_t)(width * height) * (size_t)channels);
    return tern_error(ctx);
}

/* Grey is ITU-R 601's luma in 16-bit fixed point, as other programs compute it. */
static tern_status convert(tern_ctx *ctx, tern_image *image, int channels)
{
    const int64_t n = image->height * image->width;
    uint8_t *x = image->pixels, *wide;

    if (!channels || channels == image->channels) return TERN_OK;
    if (channels == 1) {
        for (int64_t i = 0; i < n; i++)
            x[i] = (uint8_t)((x[3 * i] * 19595u + x[3 * i + 1] * 38470u + x[3 * i + 2] * 7471u +
                              0x8000) >>
                             16);
    } else {
        if (!(wide = ti_alloc(ctx, (size_t)n * 3))) return tern_error(ctx);
        for (int64_t i = 0; i < 3 * n; i++) wide[i] = x[i / 3];
        ti_free(ctx, x);
        image->pixels = wide;
    }
    image->channels = channels;
    return TERN_OK;
}

tern_status tern_image_read(tern_ctx *ctx, tern_image *image, const char *path, int channels)
{
    uint8_t *bytes;
    size_t n;

    if (image) *image = (tern_image){0};
    if (!ti_ready(ctx, image && path, "image_read")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (channels != 0 && channels != 1 && channels != 3)
        return ti_fail(ctx, TERN_E_ARGUMENT, "image_read: %d channels; 0, 1 or 3", channels);
    if (!(bytes = tern_file_read(ctx, &n, path, TI_MOST_FILE))) return tern_error(ctx);
    if (n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        (void)!ti_png_read(ctx, image, path, bytes, n);
    else if (n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        (void)!ti_jpeg_read(ctx, image, path, bytes, n);
    else ti_fail(ctx, TERN_E_FORMAT, "%.300s: is neither a PNG nor a JPEG file", path);
    ti_free(ctx, bytes);
    if (tern_error(ctx) == TERN_OK) (void)!convert(ctx, image, channels);
    if (tern_error(ctx) == TERN_OK) return TERN_OK;
    ti_free(ctx, image->pixels);
    *image = (tern_image){0};
    return tern_error(ctx);
}

/* ---- resizing -------------------------------------------------------------------------------- */

/* Output k of `out` along an axis of `in` pixels: weights of pixels first … last, in whole units
 * of which there are `total`. Shrinking: overlaps of [k*in, (k+1)*in) with [i*out, (i+1)*out).
 * Growing: linear between centres; p is the centre of output k from that of pixel 0, in 1/(2 out).
 */
typedef struct {
    int64_t first, last, total;
    int64_t in, out, k, p;
} axis;

static axis axis_at(int64_t in, int64_t out, int64_t k)
{
    axis a = {.in = in, .out = out, .k = k, .p = (2 * k + 1) * in - out};

    if (out <= in) {
        a.first = k * in / out;
        a.last = ((k + 1) * in - 1) / out;
        a.total = in;
    } else {
        if (a.p < 0) a.p = 0;
        if (a.p > 2 * out * (in - 1)) a.p = 2 * out * (in - 1);
        a.first = a.p / (2 * out);
        a.last = a.first + (a.first + 1 < in);
        a.total = 2 * out;
    }
    return a;
}

static int64_t weight(const axis *a, int64_t i)
{
    if (a->out <= a->in) {
        const int64_t from = a->k * a->in > i * a->out ? a->k * a->in : i * a->out;
        const int64_t to =
            (a->k + 1) * a->in < (i + 1) * a->out ? (a->k + 1) * a->in : (i + 1) * a->out;

        return to - from;
    }
    const int64_t right = a->p - a->first * 2 * a->out;

    return i == a->first ? a->total - right : right;
}

tern_status tern_image_resize(tern_ctx *ctx, tern_image *out, const tern_image *in, int64_t height,
                              int64_t width)
{
    if (out) *out = (tern_image){0};
    if (!ti_ready(ctx, out && in && in->pixels, "image_resize"))
        return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (height < 1 || width < 1 || in->height < 1 || in->width < 1 || in->height > TI_MOST_SIDE ||
        in->width > TI_MOST_SIDE)
        return ti_fail(ctx, TERN_E_ARGUMENT, "image_resize: %lld x %lld to %lld x %lld",
                       (long long)in->height, (long long)in->width, (long long)height,
                       (long long)width);
    const int64_t c = in->channels;

    TI_TRY(ti_image_room(ctx, out, "image_resize", (uint64_t)width, (uint64_t)height, c));
    for (int64_t y = 0; y < height; y++) {
        const axis down = axis_at(in->height, height, y);

        for (int64_t x = 0; x < width; x++) {
            const axis along = axis_at(in->width, width, x);
            const uint64_t total = (uint64_t)down.total * (uint64_t)along.total;
            uint64_t sum[4] = {total / 2, total / 2, total / 2, total / 2};

            for (int64_t i = down.first; i <= down.last; i++) {
                const uint64_t wy = (uint64_t)weight(&down, i);

                for (int64_t j = along.first; j <= along.last; j++) {
                    const uint64_t w = wy * (uint64_t)weight(&along, j);
                    const uint8_t *from = in->pixels + (i * in->width + j) * c;

                    for (int64_t k = 0; k < c; k++) sum[k] += w * from[k];
                }
            }
            for (int64_t k = 0; k < c; k++)
                out->pixels[(y * width + x) * c + k] = (uint8_t)(sum[k] / total);
        }
    }
    return TERN_OK;
}
