/*
 * jpeg.c - JPEG through libjpeg-turbo. Its errors are long jumps, which stay inside this file; the
 * warnings by which it forgives truncated and damaged pixels are errors here.
 */
#include "io/image.h"

#ifndef TI_WITH_JPEG

tern_status ti_jpeg_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                         size_t n)
{
    (void)image, (void)bytes, (void)n;
    return ti_fail(ctx, TERN_E_UNSUPPORTED, "%.300s: JPEG: built without libjpeg", path);
}

#else

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs FILE */

#include <jerror.h>
#include <jpeglib.h>

enum {
    PIXELS_A_BYTE = 1024, /* 64 pixels take a bit at the very least */
    SLACK = 1 << 16,
    MOST_SCANS = 500,
    MOST_MEMORY = 512 << 20
};

typedef struct {
    struct jpeg_error_mgr base;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char text[JMSG_LENGTH_MAX];
} watch;

static void leave(j_common_ptr c)
{
    watch *w = (watch *)c->err;

    c->err->format_message(c, w->text);
    longjmp(w->out, 1);
}

static void message(j_common_ptr c, int level)
{
    const int code = c->err->msg_code;

    /* Warnings that leave every pixel as it was meant. */
    if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM ||
        code == JWRN_JFIF_MAJOR)
        return;
    leave(c);
}

static void silent(j_common_ptr c) { (void)c; }

/* A file of endless scans takes endless time. */
static void progress(j_common_ptr c)
{
    watch *w = (watch *)c->err;

    if (((j_decompress_ptr)c)->input_scan_number <= MOST_SCANS) return;
    snprintf(w->text, sizeof w->text, "more than %d scans", MOST_SCANS);
    longjmp(w->out, 1);
}

static tern_status decode(tern_ctx *ctx, j_decompress_ptr j, tern_image *image, const char *path,
                          const uint8_t *bytes, size_t n)
{
    jpeg_mem_src(j, bytes, (unsigned long)n);
    jpeg_read_header(j, TRUE);
    if (j->num_components != 1 && j->num_components != 3)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: JPEG with %d components; 1 or 3 are read", path,
                       j->num_components);
    if ((uint64_t)j->image_width * j->image_height > (uint64_t)n * PIXELS_A_BYTE + SLACK)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: promises %u x %u pixels in %zu bytes", path,
                       j->image_width, j->image_height, n);
    TI_TRY(ti_image_room(ctx, image, path, j->image_width, j->image_height, j->num_components));
    j->out_color_space = j->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    j->dct_method = JDCT_ISLOW; /* the same pixels on every machine */
    jpeg_start_decompress(j);
    while (j->output_scanline < j->output_height) {
        JSAMPROW row = image->pixels +
                       (size_t)j->output_scanline * j->output_width * (size_t)j->num_components;

        jpeg_read_scanlines(j, &row, 1);
    }
    jpeg_finish_decompress(j);
    return TERN_OK;
}

/* The jump comes back here, where no local changes between it and setjmp. */
static tern_status guarded(tern_ctx *ctx, j_decompress_ptr j, watch *w, tern_image *image,
                           const char *path, const uint8_t *bytes, size_t n)
{
    if (setjmp(w->out))
        return ti_fail(ctx, w->base.msg_code == JERR_OUT_OF_MEMORY ? TERN_E_MEMORY : TERN_E_FORMAT,
                       "%.300s: JPEG: %.120s", path, w->text);
    jpeg_create_decompress(j);
    j->progress = &w->progress;
    j->mem->max_memory_to_use = MOST_MEMORY;
    return decode(ctx, j, image, path, bytes, n);
}

tern_status ti_jpeg_read(tern_ctx *ctx, tern_image *image, const char *path, const uint8_t *bytes,
                         size_t n)
{
    struct jpeg_decompress_struct j = {0};
    watch w = {0};

    j.err = jpeg_std_error(&w.base);
    w.base.error_exit = leave;
    w.base.emit_message = message;
    w.base.output_message = silent;
    w.progress.progress_monitor = progress;
    (void)!guarded(ctx, &j, &w, image, path, bytes, n);
    jpeg_destroy_decompress(&j);
    return tern_error(ctx);
}

#endif
