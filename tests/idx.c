/* idx.c - IDX files, plain and gzipped: types, damage, promises that the bytes do not keep. */
#include "files.h"

#include <zlib.h>

TestSuite(idx, .init = tc_folder_begin, .fini = tc_folder_end);

static const char *zipped(const void *bytes, size_t n)
{
    const char *path = tc_file("made.gz");
    gzFile f = gzopen(path, "wb");

    cr_assert(f && gzwrite(f, bytes, (unsigned)n) == (int)n && gzclose(f) == Z_OK);
    return path;
}

static const char *plain(const void *bytes, size_t n)
{
    const char *path = tc_file("made");

    tc_put(path, bytes, n);
    return path;
}

Test(idx, types_and_byte_order)
{
    const struct {
        const char *bytes;
        size_t n;
        tern_type type;
        const void *want;
        size_t size;
    } good[] = {
        {"\0\0\x08\1\0\0\0\2\5\xff", 10, TERN_U8, "\5\xff", 2},
        {"\0\0\x09\1\0\0\0\2\5\xff", 10, TERN_I32, (int32_t[]){5, -1}, 8},
        {"\0\0\x0b\1\0\0\0\2\1\0\xff\xfe", 12, TERN_I32, (int32_t[]){256, -2}, 8},
        {"\0\0\x0c\1\0\0\0\1\0\0\1\0", 12, TERN_I32, (int32_t[]){256}, 4},
        {"\0\0\x0d\1\0\0\0\1\x3f\x80\0\0", 12, TERN_F32, (float[]){1}, 4},
        {"\0\0\x0e\1\0\0\0\1\x3f\xf0\0\0\0\0\0\0", 16, TERN_F64, (double[]){1}, 8},
        {"\0\0\x08\2\0\0\0\0\0\0\0\7", 12, TERN_U8, "", 0},
    };
    tern_ctx *ctx = tc_open("cpu");
    tern_array a;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (int z = 0; z < 2; z++) {
            const char *path = (z ? zipped : plain)(good[i].bytes, good[i].n);
            cr_assert(tern_idx_read(ctx, &a, path) == TERN_OK, "%s", tern_error_text(ctx));
            cr_expect(a.type == good[i].type && a.bytes == good[i].size, "case %zu", i);
            cr_expect(!a.bytes || memcmp(a.data, good[i].want, a.bytes) == 0, "case %zu", i);
            tern_free(ctx, a.data);
        }
    tc_close(ctx);
}

Test(idx, promises_that_the_bytes_do_not_keep)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"", 0},
        {"\0\0\x08", 3},
        {"\0\1\x08\1\0\0\0\1x", 9},
        {"\0\0\x0a\1\0\0\0\1x", 9},
        {"\0\0\x08\0x", 5},
        {"\0\0\x08\x09", 4},
        {"\0\0\x08\2\0\0\0\1\0\0", 10},
        {"\0\0\x08\1\xff\xff\xff\xff", 8},                                  /* 4 GiB in 8 bytes */
        {"\0\0\x08\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16}, /* wraps */
        {"\0\0\x0e\2\x80\0\0\0\x40\0\0\0", 12},
        {"\0\0\x08\1\0\0\0\2x", 9},
        {"\0\0\x08\1\0\0\0\2xyz", 11},
    };
    tern_ctx *ctx = tc_open("cpu");
    tern_array a;
    char what[48];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int z = 0; z < 2; z++) {
            const char *path = (z ? zipped : plain)(bad[i].bytes, bad[i].n);
            snprintf(what, sizeof what, "case %zu.%d", i, z);
            cr_expect(tern_idx_read(ctx, &a, path) != TERN_OK && !a.data, "%s was read", what);
            tc_refused(ctx, what, path);
        }
    cr_expect(tern_idx_read(ctx, NULL, "a") == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

static bool read_idx(tern_ctx *ctx, const char *path)
{
    tern_array a;
    const bool ok = tern_idx_read(ctx, &a, path) == TERN_OK;

    tern_free(ctx, a.data);
    return ok;
}

Test(idx, every_truncation_and_bit_flip)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *bytes = "\0\0\x08\2\0\0\0\3\0\0\0\4abcdefghijkl";
    int cut, flipped;

    tc_damage(ctx, plain(bytes, 24), read_idx, &cut, &flipped);
    /* Plain files have no sums: pixels, and a type of the same size, are not seen. */
    cr_expect(cut == 0 && flipped == 8 * 12 + 1, "%d cuts, %d flips", cut, flipped);
    tc_damage(ctx, zipped(bytes, 24), read_idx, &cut, &flipped);
    /* gzip's header has a date, flags of the packer and the system, which mean nothing here. */
    cr_expect(cut == 0 && flipped <= 8 * 6 + 4, "%d cuts, %d flips", cut, flipped);
    tc_close(ctx);
}

static bool read_both(tern_ctx *ctx)
{
    const char *bytes = "\0\0\x0b\1\0\0\0\2abcd";

    return read_idx(ctx, plain(bytes, 12)) && read_idx(ctx, zipped(bytes, 12));
}

Test(idx, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tc_faults(ctx, read_both) >= 4);
    tc_close(ctx);
}
