/* image.c - PNG and JPEG: round trips, kinds of pixels, damage, promises; resizing. */
#include "files.h"

#include <zlib.h>

TestSuite(image, .init = tc_folder_begin, .fini = tc_folder_end);

static bool read_image(tern_ctx *ctx, const char *path)
{
    tern_image image;
    const bool ok = tern_image_read(ctx, &image, path, 0) == TERN_OK;

    tern_free(ctx, image.pixels);
    return ok;
}

#ifdef TI_WITH_PNG

/* A PNG file put together by hand: IHDR, further chunks, the packed rows, IEND. */
typedef struct {
    uint8_t bytes[4096];
    size_t n;
} png;

static void put32(png *p, uint32_t x)
{
    for (int i = 3; i >= 0; i--) p->bytes[p->n++] = (uint8_t)(x >> 8 * i);
}

static void chunk(png *p, const char *type, const void *data, size_t n)
{
    put32(p, (uint32_t)n);
    const size_t at = p->n;
    memcpy(p->bytes + p->n, type, 4);
    if (n) memcpy(p->bytes + p->n + 4, data, n);
    p->n += 4 + n;
    put32(p, (uint32_t)crc32(crc32(0, NULL, 0), p->bytes + at, (unsigned)(4 + n)));
}

static void begin(png *p, uint32_t w, uint32_t h, int depth, int kind)
{
    png head = {.n = 0};

    memcpy(p->bytes, "\x89PNG\r\n\x1a\n", 8);
    p->n = 8;
    put32(&head, w);
    put32(&head, h);
    head.bytes[head.n++] = (uint8_t)depth;
    head.bytes[head.n++] = (uint8_t)kind;
    head.n += 3;
    chunk(p, "IHDR", head.bytes, 13);
}

static const char *finish(png *p, const void *rows, size_t n)
{
    uint8_t packed[1024];
    unsigned long size = sizeof packed;

    cr_assert(compress(packed, &size, rows, n) == Z_OK);
    chunk(p, "IDAT", packed, size);
    chunk(p, "IEND", NULL, 0);
    tc_put(tc_file("made.png"), p->bytes, p->n);
    return tc_file("made.png");
}

static void expect(tern_ctx *ctx, const char *path, int channels, int h, int w, int c,
                   const void *want)
{
    tern_image image;

    cr_assert(tern_image_read(ctx, &image, path, channels) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(image.height == h && image.width == w && image.channels == c, "%dx%dx%d",
              (int)image.height, (int)image.width, (int)image.channels);
    for (int i = 0; i < h * w * c; i++)
        cr_expect(image.pixels[i] == ((const uint8_t *)want)[i], "pixel %d: %d", i,
                  image.pixels[i]);
    tern_free(ctx, image.pixels);
}

Test(image, kinds_of_png)
{
    tern_ctx *ctx = tc_open("cpu");
    png p;

    begin(&p, 2, 2, 8, 0);
    expect(ctx, finish(&p, "\0\1\2\0\3\4", 6), 0, 2, 2, 1, "\1\2\3\4");
    expect(ctx, tc_file("made.png"), 3, 2, 2, 3, "\1\1\1\2\2\2\3\3\3\4\4\4");
    begin(&p, 4, 1, 1, 0);
    expect(ctx, finish(&p, "\0\xa0", 2), 0, 1, 4, 1, "\xff\0\xff\0");
    begin(&p, 2, 1, 8, 2);
    expect(ctx, finish(&p, "\0\1\2\3\4\5\6", 7), 0, 1, 2, 3, "\1\2\3\4\5\6");
    begin(&p, 1, 1, 8, 2); /* red to grey: 299 thousandths of 200 */
    expect(ctx, finish(&p, "\0\xc8\0\0", 4), 1, 1, 1, 1, "\x3c");
    begin(&p, 2, 1, 16, 0);
    expect(ctx, finish(&p, "\0\x80\x80\x01\x00", 5), 0, 1, 2, 1, "\x80\1");
    begin(&p, 2, 1, 8, 4); /* transparent lies on black */
    expect(ctx, finish(&p, "\0\x64\xff\x64\0", 5), 0, 1, 2, 1, "\x64\0");
    begin(&p, 2, 1, 8, 3);
    chunk(&p, "PLTE", "\1\2\3\4\5\6", 6);
    expect(ctx, finish(&p, "\0\1\0", 3), 0, 1, 2, 3, "\4\5\6\1\2\3");
    tc_close(ctx);
}

Test(image, hostile_pngs)
{
    tern_ctx *ctx = tc_open("cpu");
    png p;

    for (int i = 0; i < 9; i++) {
        const char *path = NULL;
        char what[48];

        if (i == 0)
            begin(&p, 60000, 60000, 8, 0), path = finish(&p, "\0\1", 2); /* in a few bytes */
        if (i == 1) begin(&p, 0, 2, 8, 0), path = finish(&p, "\0\1", 2);
        if (i == 2) begin(&p, 0x7fffffff, 0x7fffffff, 16, 6), path = finish(&p, "\0\1", 2);
        if (i == 3) begin(&p, 2, 2, 8, 0), path = finish(&p, "\0\1\2", 3); /* a row too few */
        if (i == 4) begin(&p, 2, 1, 8, 3), path = finish(&p, "\0\1\0", 3); /* no palette */
        if (i == 5) begin(&p, 2, 1, 7, 0), path = finish(&p, "\0\1\0", 3);
        if (i == 6) begin(&p, 2, 1, 8, 5), path = finish(&p, "\0\1\0", 3);
        if (i == 7) { /* IHDR twice */
            begin(&p, 2, 1, 8, 0);
            chunk(&p, "IHDR", p.bytes + 16, 13);
            path = finish(&p, "\0\1\2", 3);
        }
        if (i == 8) { /* no pixels at all */
            begin(&p, 2, 1, 8, 0);
            chunk(&p, "IEND", NULL, 0);
            path = tc_file("made.png");
            tc_put(path, p.bytes, p.n);
        }
        snprintf(what, sizeof what, "case %d", i);
        cr_expect(!read_image(ctx, path), "%s was read", what);
        tc_refused(ctx, what, path);
    }
    tc_close(ctx);
}

Test(image, png_round_trip_and_damage)
{
    tern_ctx *ctx = tc_open("cpu");
    uint8_t x[5 * 7 * 3];
    const char *path = tc_file("a.png");
    int cut, flipped;

    for (int i = 0; i < 105; i++) x[i] = (uint8_t)(i * 37);
    for (int c = 1; c <= 3; c += 2) {
        cr_assert(tern_png_write(ctx, path, &(tern_image){5, 7, c, x}) == TERN_OK);
        expect(ctx, path, 0, 5, 7, c, x);
    }
    cr_assert(tern_png_write(ctx, path, &(tern_image){2, 3, 1, x}) == TERN_OK);
    tc_damage(ctx, path, read_image, &cut, &flipped);
    cr_expect(cut == 0 && flipped == 0, "%d cuts and %d flips were not noticed", cut, flipped);
    cr_expect(tern_png_write(ctx, path, &(tern_image){2, 3, 2, x}) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_png_write(ctx, path, &(tern_image){2, 0, 1, x}) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_image_read(ctx, &(tern_image){0}, path, 2) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_put(tc_file("x.png"), "GIF89a", 6);
    cr_expect(!read_image(ctx, tc_file("x.png")));
    tc_refused(ctx, "gif", tc_file("x.png"));
    tc_close(ctx);
}

static bool png_there_and_back(tern_ctx *ctx)
{
    tern_image image, small = {0};
    bool ok =
        tern_png_write(ctx, tc_file("f"), &(tern_image){2, 2, 1, (uint8_t *)"abcd"}) == TERN_OK &&
        tern_image_read(ctx, &image, tc_file("f"), 3) == TERN_OK;

    if (!ok) return false;
    ok = tern_image_resize(ctx, &small, &image, 1, 1) == TERN_OK;
    tern_free(ctx, image.pixels);
    tern_free(ctx, small.pixels);
    return ok;
}

Test(image, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tc_faults(ctx, png_there_and_back) > 5);
    tc_close(ctx);
}

#endif

#ifdef TI_WITH_JPEG

#include <jpeglib.h>

/* A JPEG file, `w` by `h`; progressive ones have several scans. */
static const char *jpeg(int w, int h, int c, bool progressive)
{
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr err;
    unsigned char *bytes = NULL, *row = malloc((size_t)(w * c));
    unsigned long n = 0;

    j.err = jpeg_std_error(&err);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &bytes, &n);
    j.image_width = (unsigned)w;
    j.image_height = (unsigned)h;
    j.input_components = c;
    j.in_color_space = c == 1 ? JCS_GRAYSCALE : c == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 95, TRUE);
    if (progressive) jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    for (int y = 0; y < h; y++) {
        for (int i = 0; i < w * c; i++) row[i] = (uint8_t)(8 * y + i / c * 5 + 20 * (i % c));
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    tc_put(tc_file("a.jpg"), bytes, n);
    free(bytes);
    free(row);
    return tc_file("a.jpg");
}

Test(image, jpeg_kinds)
{
    tern_ctx *ctx = tc_open("cpu");

    for (int c = 1; c <= 3; c += 2)
        for (int progressive = 0; progressive < 2; progressive++) {
            tern_image image;
            cr_assert(tern_image_read(ctx, &image, jpeg(11, 9, c, progressive), 0) == TERN_OK, "%s",
                      tern_error_text(ctx));
            cr_expect(image.width == 11 && image.height == 9 && image.channels == c);
            cr_expect(abs(image.pixels[(4 * 11 + 5) * c] - (32 + 25)) < 16, "%d",
                      image.pixels[(4 * 11 + 5) * c]);
            tern_free(ctx, image.pixels);
        }
    cr_expect(!read_image(ctx, jpeg(8, 8, 4, false)));
    cr_expect(strstr(tern_error_text(ctx), "4 components"));
    tc_refused(ctx, "CMYK", tc_file("a.jpg"));
    tc_close(ctx);
}

/* Entropy-coded pixels have no sums: some flips only change them. No cut is taken, no flip
 * crashes. */
Test(image, jpeg_damage)
{
    tern_ctx *ctx = tc_open("cpu");
    int cut, flipped;

    for (int progressive = 0; progressive < 2; progressive++) {
        tc_damage(ctx, jpeg(9, 9, 1, progressive), read_image, &cut, &flipped);
        cr_expect(cut == 0, "%d cuts were not noticed", cut);
    }
    /* Promises 65500 x 65500 pixels: the height and width of its frame header. */
    size_t n;
    char *bytes = tc_get(jpeg(9, 9, 1, false), &n), *frame = memmem(bytes, n, "\xff\xc0", 2);
    memcpy(frame + 5, "\xff\xdc\xff\xdc", 4);
    tc_put(tc_file("b.jpg"), bytes, n);
    cr_expect(!read_image(ctx, tc_file("b.jpg")));
    tc_refused(ctx, "large", tc_file("b.jpg"));
    free(bytes);
    tc_close(ctx);
}

#endif

/* ---- resizing ---- */

static void resized(tern_ctx *ctx, tern_image in, int h, int w, const void *want)
{
    tern_image out;

    cr_assert(tern_image_resize(ctx, &out, &in, h, w) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(out.height == h && out.width == w && out.channels == in.channels);
    for (int i = 0; i < h * w * (int)in.channels; i++)
        cr_expect(out.pixels[i] == ((const uint8_t *)want)[i], "pixel %d: %d", i, out.pixels[i]);
    tern_free(ctx, out.pixels);
}

Test(image, resize)
{
    tern_ctx *ctx = tc_open("cpu");
    uint8_t x[] = {10, 20, 30, 40, 50, 60, 70, 80};
    uint8_t flat[6 * 5 * 3], same[11 * 3 * 3];

    resized(ctx, (tern_image){2, 4, 1, x}, 2, 4, x);
    resized(ctx, (tern_image){2, 4, 1, x}, 1, 2, (uint8_t[]){35, 55});
    resized(ctx, (tern_image){1, 3, 1, x}, 1, 2,
            (uint8_t[]){13, 27}); /* 10+20/2 and 20/2+30, of 1.5 */
    resized(ctx, (tern_image){1, 2, 1, x}, 1, 4, (uint8_t[]){10, 13, 18, 20}); /* 12.5, 17.5 */
    resized(ctx, (tern_image){1, 1, 1, x}, 2, 2, (uint8_t[]){10, 10, 10, 10});
    resized(ctx, (tern_image){2, 1, 2, x}, 1, 1, (uint8_t[]){20, 30});
    memset(flat, 77, sizeof flat);
    memset(same, 77, sizeof same);
    resized(ctx, (tern_image){6, 5, 3, flat}, 11, 3, same);
    tern_image out;
    cr_expect(tern_image_resize(ctx, &out, &(tern_image){1, 1, 1, x}, 0, 1) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_image_resize(ctx, &out, &(tern_image){1, 1, 1, x}, 1 << 20, 1 << 20) ==
              TERN_E_FORMAT);
    tern_error_clear(ctx);
    cr_expect(tern_image_resize(ctx, &out, NULL, 1, 1) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}
