/* npy.c - .npy and .npz: bytes made by hand, round trips, damage, NumPy itself where it is. */
#include "files.h"

#ifdef TI_WITH_ZIP
#include <zip.h>
#endif

TestSuite(npy, .init = tc_folder_begin, .fini = tc_folder_end);

/* A file of that version with this dictionary, padded by a newline, and data. */
static const char *made(int version, const char *dictionary, const void *data, size_t n)
{
    const char *path = tc_file("made.npy");
    const size_t length = strlen(dictionary) + 1, before = version == 1 ? 10 : 12;
    char *bytes = calloc(1, before + length + n);

    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (char)version;
    bytes[8] = (char)(length & 255);
    bytes[9] = (char)(length >> 8);
    memcpy(bytes + before, dictionary, length - 1);
    bytes[before + length - 1] = '\n';
    if (n) memcpy(bytes + before + length, data, n);
    tc_put(path, bytes, before + length + n);
    free(bytes);
    return path;
}

#define DICT(descr, fortran, shape)                                                                \
    "{'descr': '" descr "', 'fortran_order': " fortran ", 'shape': " shape ", }"

Test(npy, orders_of_bytes_and_elements)
{
    tern_ctx *ctx = tc_open("cpu");
    const float f[6] = {1, 2, 3, 4, 5, 6};
    uint8_t big[24];
    tern_array a;

    for (int i = 0; i < 24; i++) big[i] = ((const uint8_t *)f)[i / 4 * 4 + 3 - i % 4];
    for (int version = 1; version <= 3; version++) {
        cr_assert(tern_npy_read(ctx, &a, made(version, DICT("<f4", "False", "(2, 3)"), f, 24)) == 0,
                  "%s", tern_error_text(ctx));
        cr_expect(a.type == TERN_F32 && a.shape.rank == 2 && memcmp(a.data, f, 24) == 0);
        tern_free(ctx, a.data);
        cr_assert(tern_npy_read(ctx, &a, made(version, DICT(">f4", "False", "(6,)"), big, 24)) ==
                  0);
        cr_expect(a.shape.rank == 1 && memcmp(a.data, f, 24) == 0);
        tern_free(ctx, a.data);
    }
    /* Columns first: [[1,3,5],[2,4,6]]. */
    cr_assert(tern_npy_read(ctx, &a, made(1, DICT(">f4", "True", "(2, 3)"), big, 24)) == 0);
    cr_expect(memcmp(a.data, (float[]){1, 3, 5, 2, 4, 6}, 24) == 0);
    tern_free(ctx, a.data);
    float cube[24], want[24];
    for (int i = 0; i < 24; i++) cube[i] = (float)i;
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 4; k++) want[(i * 3 + j) * 4 + k] = (float)(i + 2 * j + 6 * k);
    cr_assert(tern_npy_read(ctx, &a, made(1, DICT("<f4", "True", "(2, 3, 4)"), cube, 96)) == 0);
    cr_expect(memcmp(a.data, want, 96) == 0);
    tern_free(ctx, a.data);
    /* The keys in another order, other quotes, no comma at the end. */
    cr_assert(tern_npy_read(ctx, &a,
                            made(1, "{\"shape\":(),'fortran_order':True,\"descr\":'<f4'}", f, 4)) ==
              0);
    cr_expect(a.shape.rank == 0 && *(float *)a.data == 1);
    tern_free(ctx, a.data);
    tc_close(ctx);
}

Test(npy, integers_widen)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_array a;

    cr_assert(tern_npy_read(ctx, &a, made(1, DICT("|i1", "False", "(3,)"), "\xff\1\x80", 3)) == 0);
    cr_expect(a.type == TERN_I32 && memcmp(a.data, (int32_t[]){-1, 1, -128}, 12) == 0);
    tern_free(ctx, a.data);
    cr_assert(tern_npy_read(ctx, &a, made(1, DICT(">i2", "False", "(2,)"), "\xff\xfe\1\0", 4)) ==
              0);
    cr_expect(a.type == TERN_I32 && memcmp(a.data, (int32_t[]){-2, 256}, 8) == 0);
    tern_free(ctx, a.data);
    cr_assert(tern_npy_read(ctx, &a, made(1, DICT("<u2", "False", "(1,)"), "\xff\xff", 2)) == 0);
    cr_expect(a.type == TERN_I32 && *(int32_t *)a.data == 65535);
    tern_free(ctx, a.data);
    cr_assert(
        tern_npy_read(ctx, &a, made(1, DICT("<u4", "False", "(1,)"), "\xff\xff\xff\xff", 4)) == 0);
    cr_expect(a.type == TERN_I64 && *(int64_t *)a.data == 4294967295);
    tern_free(ctx, a.data);
    cr_assert(
        tern_npy_read(ctx, &a, made(1, DICT("<u8", "False", "(1,)"), "\1\0\0\0\0\0\0\0", 8)) == 0);
    cr_expect(a.type == TERN_I64 && *(int64_t *)a.data == 1);
    tern_free(ctx, a.data);
    tc_close(ctx);
}

Test(npy, refused)
{
    static const struct {
        const char *dictionary;
        size_t bytes;
    } bad[] = {
        {"", 0},
        {"{}", 0},
        {"{'descr': '<f4'}", 0},
        {"x", 0},
        {"{'descr'", 0},
        {DICT("<f4", "False", "(2,)"), 7},
        {DICT("<f4", "False", "(2,)"), 9},
        {DICT("<f4", "false", "(2,)"), 8},
        {DICT("<f4", "0", "(2,)"), 8},
        {DICT("<f4", "False", "(2)"), 8},
        {DICT("<f4", "False", "2"), 8},
        {DICT("<f4", "False", "(-2,)"), 8},
        {DICT("<f4", "False", "(2,,)"), 8},
        {DICT("<f4", "False", "(2"), 8},
        {DICT("<f4", "False", "[2]"), 8},
        {DICT("<f4", "False", "(1,1,1,1,1,1,1,1,1)"), 4},
        {DICT("<f4", "False", "(4611686018427387904, 4)"), 0},
        {DICT("<f4", "False", "(99999999999999999999,)"), 0},
        {DICT("<f4", "False", "(9223372036854775807,)"), 8},
        {DICT("<f3", "False", "(1,)"), 3},
        {DICT("<c8", "False", "(1,)"), 8},
        {DICT("|O", "False", "(1,)"), 8},
        {DICT("|f4", "False", "(1,)"), 4},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 4},
        {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1, }", 4},
        {DICT("<f4", "False", "(1,)") " x", 4},
        {DICT("|b1", "False", "(2,)"), 2}, /* the data are 2s */
    };
    tern_ctx *ctx = tc_open("cpu");
    tern_array a;
    char data[64], what[16];

    memset(data, 2, sizeof data);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = made(1, bad[i].dictionary, data, bad[i].bytes);
        snprintf(what, sizeof what, "case %zu", i);
        cr_expect(tern_npy_read(ctx, &a, path) != TERN_OK && !a.data, "%s was read", what);
        tc_refused(ctx, what, path);
    }
    memset(data, 0xff, sizeof data);
    cr_expect(tern_npy_read(ctx, &a, made(1, DICT("<u8", "False", "(1,)"), data, 8)) != TERN_OK);
    tern_error_clear(ctx);
    cr_expect(tern_npy_read(ctx, &a, made(4, DICT("<f4", "False", "(1,)"), data, 4)) != TERN_OK);
    tern_error_clear(ctx);
    tc_put(tc_file("long"), "\x93NUMPY\2\0\xff\xff\xff\xff{}", 14);
    cr_expect(tern_npy_read(ctx, &a, tc_file("long")) != TERN_OK);
    tc_refused(ctx, "a header of 4 GiB", tc_file("long"));
    tc_close(ctx);
}

static bool same(tern_ctx *ctx, const char *path, tern_type type, tern_shape shape,
                 const void *data)
{
    tern_array a;

    if (tern_npy_read(ctx, &a, path) != TERN_OK) return false;
    const bool ok = a.type == type && tern_same_shape(a.shape, shape) &&
                    (!a.bytes || memcmp(a.data, data, a.bytes) == 0);
    tern_free(ctx, a.data);
    return ok;
}

Test(npy, round_trips_of_all_types)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_shape shapes[] = {TI_SCALAR, TI_SHAPE(3), TI_SHAPE(0, 2),
                                 TI_SHAPE(1, 2, 1, 2, 1, 1, 1, 1)};
    uint8_t bits[32];

    for (int i = 0; i < 32; i++) bits[i] = i % 2;
    for (tern_type type = 0; type < TERN_N_TYPES; type++)
        for (int i = 0; i < 4; i++) {
            const char *path = tc_file("a.npy");
            size_t n;

            cr_assert(tern_npy_write(ctx, path, type, shapes[i], bits) == TERN_OK);
            free(tc_get(path, &n));
            if (type == TERN_BF16) continue;
            cr_expect(same(ctx, path, type, shapes[i], bits), "%s %d", tern_type_name(type), i);
            cr_expect((n - (size_t)tern_count(shapes[i]) * tern_type_size(type)) % 64 == 0);
        }
    /* bf16 as f32: 1 and -2. */
    cr_assert(tern_npy_write(ctx, tc_file("a.npy"), TERN_BF16, TI_SHAPE(2),
                             (uint16_t[]){0x3f80, 0xc000}) == 0);
    cr_expect(same(ctx, tc_file("a.npy"), TERN_F32, TI_SHAPE(2), (float[]){1, -2}));
    tern_frame_begin(ctx);
    tern_tensor *t = tern_from_host(ctx, TERN_F32, (float[]){1, 2, 3, 4, 5, 6}, TI_SHAPE(2, 3));
    cr_assert(tern_npy_save(ctx, tc_file("t.npy"), t) == TERN_OK);
    tern_tensor *u = tern_npy_load(ctx, tc_file("t.npy"));
    float back[6];
    cr_assert(u && tern_to_host(ctx, back, u) == TERN_OK && back[5] == 6);
    tern_frame_end(ctx);
    cr_expect(tern_npy_write(ctx, tc_file("a"), TERN_N_TYPES, TI_SCALAR, bits) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_npy_save(ctx, tc_file("a"), NULL) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

static bool read_npy(tern_ctx *ctx, const char *path)
{
    tern_array a;
    const bool ok = tern_npy_read(ctx, &a, path) == TERN_OK;

    tern_free(ctx, a.data);
    return ok;
}

/* The format has no sums: a flip in the data, or one that leaves a right header, is not seen. */
Test(npy, every_truncation_is_refused_and_no_flip_crashes)
{
    tern_ctx *ctx = tc_open("cpu");
    int cut, flipped;

    cr_assert(tern_npy_write(ctx, tc_file("a.npy"), TERN_F32, TI_SHAPE(2), (float[]){1, 2}) == 0);
    tc_damage(ctx, tc_file("a.npy"), read_npy, &cut, &flipped);
    cr_expect(cut == 0 && flipped >= 64, "%d cuts were not noticed, %d flips", cut, flipped);
    tc_close(ctx);
}

#ifdef TI_WITH_ZIP

static bool read_npz(tern_ctx *ctx, const char *path)
{
    tern_archive *a = tern_npz_read(ctx, path);

    tern_archive_close(ctx, a);
    return a != NULL;
}

static bool write_npz(tern_ctx *ctx)
{
    tern_archive *a = tern_archive_new(ctx);

    tern_archive_add(ctx, a, "x", TERN_F32, TI_SHAPE(2), (float[]){1, 2});
    tern_archive_add(ctx, a, "n", TERN_I64, TI_SHAPE(1), (int64_t[]){7});
    const bool ok = tern_npz_write(ctx, a, tc_file("a.npz")) == TERN_OK;
    tern_archive_close(ctx, a);
    return ok;
}

Test(npy, npz_round_trip)
{
    tern_ctx *ctx = tc_open("cpu");
    size_t n[2];

    cr_assert(write_npz(ctx), "%s", tern_error_text(ctx));
    tern_archive *a = tern_npz_read(ctx, tc_file("a.npz"));
    cr_assert(a && tern_archive_count(a) == 2, "%s", tern_error_text(ctx));
    cr_expect(((float *)tern_archive_get(a, "x")->data)[1] == 2);
    cr_expect(*(int64_t *)tern_archive_get(a, "n")->data == 7);
    char *x = tc_get(tc_file("a.npz"), &n[0]);
    cr_assert(tern_npz_write(ctx, a, tc_file("b.npz")) == TERN_OK);
    char *y = tc_get(tc_file("b.npz"), &n[1]);
    cr_expect(n[0] == n[1] && memcmp(x, y, n[0]) == 0, "equal arrays, other bytes");
    free(x);
    free(y);
    tern_archive_close(ctx, a);
    a = tern_archive_new(ctx);
    cr_assert(tern_npz_write(ctx, a, tc_file("e.npz")) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(read_npz(ctx, tc_file("e.npz")), "%s", tern_error_text(ctx));
    tern_archive_close(ctx, a);
    tc_close(ctx);
}

/* Dates, attributes and the like are not covered by zip's sums; arrays and names are. */
Test(npy, npz_damage)
{
    tern_ctx *ctx = tc_open("cpu");
    int cut, flipped;
    const char *path = tc_file("a.npz");
    tern_archive *a = tern_archive_new(ctx);

    tern_archive_add(ctx, a, "x", TERN_U8, TI_SHAPE(2), "ab");
    cr_assert(tern_npz_write(ctx, a, path) == TERN_OK);
    tern_archive_close(ctx, a);
    tc_damage(ctx, path, read_npz, &cut, &flipped);
    cr_expect(cut == 0, "%d cuts were not noticed (%d flips)", cut, flipped);
    tc_put(tc_file("x"), "no zip", 6);
    cr_expect(!read_npz(ctx, tc_file("x")));
    tc_refused(ctx, "no zip", tc_file("x"));
    tc_close(ctx);
}

/* A zip file with these entries, deflated; name, bytes and size of each; NULL ends. */
typedef struct {
    const char *name;
    const void *bytes;
    size_t n;
} member;

static const char *zipped(const member *m, int method, int encryption)
{
    int rc = 0;
    zip_t *zip = zip_open(tc_file("made.npz"), ZIP_CREATE | ZIP_TRUNCATE, &rc);

    cr_assert(zip != NULL);
    for (; m->name; m++) {
        const zip_int64_t i =
            zip_file_add(zip, m->name, zip_source_buffer(zip, m->bytes, m->n, 0), ZIP_FL_ENC_UTF_8);

        cr_assert(i >= 0 && zip_set_file_compression(zip, (zip_uint64_t)i, method, 0) == 0);
        if (encryption)
            cr_assert(
                zip_file_set_encryption(zip, (zip_uint64_t)i, (zip_uint16_t)encryption, "x") == 0);
    }
    cr_assert(zip_close(zip) == 0);
    return tc_file("made.npz");
}

Test(npy, hostile_npz)
{
    tern_ctx *ctx = tc_open("cpu");
    size_t n;
    char *npy = tc_get(made(1, DICT("<f4", "False", "(4,)"), "0123456789abcdef", 16), &n),
         long_name[300];
    char *zeros = calloc(1, 100000);
    const member good[] = {{"x.npy", npy, n}, {NULL, NULL, 0}};
    const member bad[][2] = {
        {{"x.txt", npy, n}, {NULL, NULL, 0}},     {{".npy", npy, n}, {NULL, NULL, 0}},
        {{"x.npy", npy, n - 1}, {NULL, NULL, 0}}, {{"x.npy", npy, 20}, {NULL, NULL, 0}},
        {{"x.npy", npy, 4}, {NULL, NULL, 0}},     {{"x.npy", zeros, 100000}, {NULL, NULL, 0}},
        {{long_name, npy, n}, {NULL, NULL, 0}}};

    memset(long_name, 'n', sizeof long_name);
    strcpy(long_name + sizeof long_name - 5, ".npy");
    cr_expect(read_npz(ctx, zipped(good, ZIP_CM_DEFLATE, 0)), "%s", tern_error_text(ctx));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!read_npz(ctx, zipped(bad[i], ZIP_CM_DEFLATE, 0)), "case %zu", i);
        tc_refused(ctx, "npz", tc_file("made.npz"));
    }
    if (zip_encryption_method_supported(ZIP_EM_AES_128, 1)) {
        cr_expect(!read_npz(ctx, zipped(good, ZIP_CM_DEFLATE, ZIP_EM_AES_128)));
        tc_refused(ctx, "encrypted", tc_file("made.npz"));
    }
    /* Promises 4 GiB less one in a few bytes, in both of its headers. */
    zipped(good, ZIP_CM_DEFLATE, 0);
    size_t size;
    char *zip = tc_get(tc_file("made.npz"), &size), *entry = memmem(zip, size, "PK\1\2", 4);
    memset(zip + 22, 0xfe, 4);
    memset(entry + 24, 0xfe, 4);
    tc_put(tc_file("bomb.npz"), zip, size);
    cr_expect(!read_npz(ctx, tc_file("bomb.npz")));
    cr_expect(strstr(tern_error_text(ctx), "promises"), "%s", tern_error_text(ctx));
    tc_refused(ctx, "bomb", tc_file("bomb.npz"));
    free(npy);
    free(zip);
    free(zeros);
    tc_close(ctx);
}

static bool npz_there_and_back(tern_ctx *ctx)
{
    return write_npz(ctx) && read_npz(ctx, tc_file("a.npz"));
}

Test(npy, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tc_faults(ctx, npz_there_and_back) > 20);
    tc_close(ctx);
}

/* What NumPy writes is read, and what is written, NumPy reads. Without python3 and NumPy this case
 * says so and is not counted as passed. */
Test(npy, numpy_on_the_other_side)
{
    tern_ctx *ctx = tc_open("cpu");
    char line[1200];

    if (system("python3 -c 'import numpy' 2> /dev/null") != 0) {
        tc_close(ctx);
        cr_skip_test("python3 with numpy is not here");
    }
    snprintf(line, sizeof line,
             "cd %s && python3 -c 'import numpy as n\n"
             "x = n.arange(24.).reshape(2, 3, 4)\n"
             "n.savez_compressed(\"z.npz\", f4=x.astype(\">f4\"), f=n.asfortranarray(x), "
             "i=x.astype(n.int16), b=x > 3, e=n.zeros((0, 3)))'",
             tc_folder);
    cr_assert(system(line) == 0);
    tern_archive *a = tern_npz_read(ctx, tc_file("z.npz"));
    cr_assert(a && tern_archive_count(a) == 5, "%s", tern_error_text(ctx));
    for (int i = 0; i < 24; i++) {
        cr_expect(((float *)tern_archive_get(a, "f4")->data)[i] == (float)i);
        cr_expect(((double *)tern_archive_get(a, "f")->data)[i] == i);
        cr_expect(((int32_t *)tern_archive_get(a, "i")->data)[i] == i);
        cr_expect(((uint8_t *)tern_archive_get(a, "b")->data)[i] == (i > 3));
    }
    cr_assert(tern_npz_write(ctx, a, tc_file("back.npz")) == TERN_OK);
    snprintf(line, sizeof line,
             "cd %s && python3 -c 'import numpy as n\n"
             "a, b = n.load(\"z.npz\"), n.load(\"back.npz\")\n"
             "assert sorted(a) == sorted(b)\n"
             "assert all((a[k] == b[k]).all() and a[k].shape == b[k].shape for k in a)'",
             tc_folder);
    cr_expect(system(line) == 0);
    tern_archive_close(ctx, a);
    tc_close(ctx);
}

#endif
