/*
 * png.c - PNG through libpng's simplified interface.
 *
 * The library forgives much (unknown chunks with wrong sums, warnings), so the chain of chunks is
 * walked first: every sum must be right, and the packed pixels must be able to hold the promised
 * ones, before memory is taken for them.
 */
#include "io/image.h"

#include <string.h>

#ifndef TI_WITH_PNG

tern_status ti_png_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                        size_t n)
{
    (void)image, (void)bytes, (void)n;
    return ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: PNG: built without libpng", path);
}

tern_status tern_png_write(tern_ctx *ctx, const char *path, const tern_image *image)
{
    if (!ti_ready(ctx, path && image, "png_write")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    return ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: PNG: built without libpng", path);
}

#else

#include <png.h>
#include <zlib.h>

enum { RATIO = 1032, SLACK = 1 << 16 }; /* what deflate can do; small files need no proof */

static uint32_t big(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Bits of a pixel in the file, from IHDR; 0: no such kind. */
static unsigned pixel_bits(const uint8_t *ihdr)
{
    const unsigned depth = ihdr[8], kind = ihdr[9];
    const unsigned samples = kind == 0 || kind == 3 ? 1 : kind == 4 ? 2 : kind == 2 ? 3 : 4;

    return kind > 6 || kind == 1 || kind == 5 || depth > 16 ? 0 : depth * samples;
}

/* Walks the chunks. *packed: bytes of pixel data; *ihdr: its 13 bytes. */
static tern_status walk(tern_ctx *ctx, const char *path, const uint8_t *bytes, size_t n,
                        uint64_t *packed, const uint8_t **ihdr)
{
    size_t at = 8;

    *packed = 0;
    *ihdr = NULL;
    for (int i = 0;; i++) {
        if (n - at < 12 || big(bytes + at) > n - at - 12)
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: truncated or damaged: chunk %d at byte %zu",
                           path, i, at);
        const uint32_t length = big(bytes + at);
        const uint8_t *type = bytes + at + 4;

        if (crc32_z(crc32_z(0, NULL, 0), type, 4 + (size_t)length) != big(type + 4 + length))
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: damaged: the sum of chunk %d at byte %zu",
                           path, i, at);
        if ((memcmp(type, "IHDR", 4) == 0) != (i == 0) || (i == 0 && length != 13))
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: IHDR must come first, once, with 13 bytes",
                           path);
        if (i == 0) *ihdr = type + 4;
        if (memcmp(type, "IDAT", 4) == 0) *packed += length;
        if (memcmp(type, "IEND", 4) == 0) return TERN_OK;
        at += 12 + (size_t)length;
    }
}

tern_status ti_png_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                        size_t n)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    const png_color black = {0, 0, 0};
    const uint8_t *ihdr;
    uint64_t packed;

    TI_TRY(walk(ctx, path, bytes, n, &packed, &ihdr));
    const uint64_t rows = big(ihdr + 4), row = ((uint64_t)big(ihdr) * pixel_bits(ihdr) + 7) / 8;

    if (!pixel_bits(ihdr) || rows > UINT32_MAX / 2 || row > UINT32_MAX ||
        rows * row > packed * RATIO + SLACK)
        return ti_fail(ctx, TERN_E_FORMAT,
                       "%.300s: promises %u x %u pixels in %llu bytes of pixel data", path,
                       big(ihdr), big(ihdr + 4), (unsigned long long)packed);
    if (!png_image_begin_read_from_memory(&png, bytes, n))
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: PNG: %.64s", path, png.message);
    png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB; /* 16 bits without gamma are not linear light */
    const bool colour = png.format & PNG_FORMAT_FLAG_COLOR;

    png.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    if (ti_image_room(ctx, image, path, png.width, png.height, colour ? 3 : 1) == TERN_OK &&
        !png_image_finish_read(&png, &black, image->pixels, 0, NULL))
        ti_fail(ctx, TERN_E_FORMAT, "%.300s: PNG: %.64s", path, png.message);
    png_image_free(&png);
    return tern_error(ctx);
}

tern_status tern_png_write(tern_ctx *ctx, const char *path, const tern_image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    png_alloc_size_t bytes = 0;
    void *file;

    if (!ti_ready(ctx, path && image && image->pixels, "png_write"))
        return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (image->width < 1 || image->height < 1 || image->width > TI_MOST_SIDE ||
        image->height > TI_MOST_SIDE || (image->channels != 1 && image->channels != 3))
        return ti_fail(ctx, TERN_E_ARGUMENT, "png_write: %.300s: %lld x %lld with %lld channels",
                       path, (long long)image->width, (long long)image->height,
                       (long long)image->channels);
    png.width = (png_uint_32)image->width;
    png.height = (png_uint_32)image->height;
    png.format = image->channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    if (!png_image_write_get_memory_size(png, bytes, 0, image->pixels, 0, NULL))
        return ti_fail(ctx, TERN_E_MEMORY, "%.300s: PNG: %.64s", path, png.message);
    if (!(file = ti_alloc(ctx, bytes))) return tern_error(ctx);
    if (!png_image_write_to_memory(&png, file, &bytes, 0, image->pixels, 0, NULL))
        ti_fail(ctx, TERN_E_MEMORY, "%.300s: PNG: %.64s", path, png.message);
    else (void)!tern_file_write(ctx, path, file, bytes);
    ti_free(ctx, file);
    return tern_error(ctx);
}

#endif
