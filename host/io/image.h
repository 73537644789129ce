/* image.h - decoders, each in a file with its library. */
#ifndef TI_IMAGE_H
#define TI_IMAGE_H

#include "io/file.h"

/* Sides bound the integer sums of resizing: 255 * (2 * side)^2 fits 64 bits. */
enum { TI_MOST_SIDE = 1 << 20, TI_MOST_PIXELS = 64000000, TI_MOST_FILE = 1 << 28 };

/* Room for width x height x channels, after checking them. */
tern_status ti_image_room(tern_ctx *ctx, tern_image *image, const char *path, uint64_t width,
                          uint64_t height, int64_t channels);
/* Into 1 or 3 channels, as the file has it. The caller frees the pixels after a failure. */
tern_status ti_png_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                        size_t n);
tern_status ti_jpeg_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                         size_t n);

#endif
