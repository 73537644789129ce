/* safetensors.c - archives: round trips, damage, hostile headers, failing memory. */
#include "files.h"

#ifdef TI_WITH_JANSSON

TestSuite(safetensors, .init = tc_folder_begin, .fini = tc_folder_end);

static const float floats[6] = {1, -2, 3.5f, 0, 1e-30f, 1e30f};
static const int64_t wholes[3] = {-1, 0, INT64_MAX};

static tern_archive *example(tern_ctx *ctx)
{
    tern_archive *a = tern_archive_new(ctx);

    tern_archive_add(ctx, a, "b", TERN_U8, TI_SHAPE(5), "\1\2\3\4\5");
    tern_archive_add(ctx, a, "conv1.weight", TERN_F32, TI_SHAPE(2, 3), floats);
    tern_archive_add(ctx, a, "n", TERN_I64, TI_SHAPE(3), wholes);
    tern_archive_add(ctx, a, "flag", TERN_BOOL, TI_SHAPE(1, 2), "\1\0");
    tern_archive_add(ctx, a, "scalar", TERN_F64, TI_SCALAR, &(double){0.1});
    tern_archive_add(ctx, a, "empty", TERN_F16, TI_SHAPE(0, 4), NULL);
    if (tern_archive_meta_set(ctx, a, "classes", "[\"caf\xc3\xa9\", \"\\n\"]") != TERN_OK ||
        tern_archive_meta_set(ctx, a, "step", "1") != TERN_OK ||
        tern_archive_meta_set(ctx, a, "step", "17") != TERN_OK) {
        tern_archive_close(ctx, a);
        return NULL;
    }
    return a;
}

static bool save_example(tern_ctx *ctx, const char *path)
{
    tern_archive *a = example(ctx);
    const bool ok = a && tern_archive_save(ctx, a, path) == TERN_OK;

    tern_archive_close(ctx, a);
    return ok;
}

static bool read_any(tern_ctx *ctx, const char *path)
{
    tern_archive *a = tern_archive_read(ctx, path);

    tern_archive_close(ctx, a);
    return a != NULL;
}

Test(safetensors, round_trip)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *path = tc_file("a"), *again = tc_file("b");
    size_t n[2];

    cr_assert(save_example(ctx, path), "%s", tern_error_text(ctx));
    tern_archive *a = tern_archive_read(ctx, path);

    cr_assert(a, "%s", tern_error_text(ctx));
    cr_expect(tern_archive_count(a) == 6);
    cr_expect(memcmp(tern_archive_get(a, "conv1.weight")->data, floats, sizeof floats) == 0);
    cr_expect(memcmp(tern_archive_get(a, "n")->data, wholes, sizeof wholes) == 0);
    cr_expect(*(double *)tern_archive_get(a, "scalar")->data == 0.1);
    cr_expect(tern_archive_get(a, "scalar")->shape.rank == 0);
    cr_expect(tern_archive_get(a, "empty")->bytes == 0);
    cr_expect(tern_archive_get(a, "none") == NULL && tern_archive_at(a, 6) == NULL);
    cr_expect_str_eq(tern_archive_meta(a, "step"), "17");
    cr_expect_str_eq(tern_archive_meta(a, "classes"), "[\"caf\xc3\xa9\", \"\\n\"]");
    cr_expect(tern_archive_meta_count(a) == 2);
    cr_expect(tern_archive_save(ctx, a, again) == TERN_OK);
    char *x = tc_get(path, &n[0]), *y = tc_get(again, &n[1]);

    cr_expect(n[0] == n[1] && memcmp(x, y, n[0]) == 0, "saving again gives other bytes");
    uint64_t length;

    memcpy(&length, x, 8);
    cr_expect((8 + length) % 64 == 0);
    free(x);
    free(y);
    tern_archive_close(ctx, a);
    tc_close(ctx);
}

Test(safetensors, every_truncation_and_bit_flip_is_refused)
{
    tern_ctx *ctx = tc_open("cpu");
    int cut, flipped;

    cr_assert(save_example(ctx, tc_file("a")));
    tc_damage(ctx, tc_file("a"), read_any, &cut, &flipped);
    cr_expect(cut == 0 && flipped == 0, "%d cuts and %d flips were not noticed", cut, flipped);
    tc_close(ctx);
}

/* A file with this header and `n` bytes of data, all 1. */
static const char *made(const char *header, size_t n)
{
    const char *path = tc_file("made");
    const uint64_t length = strlen(header);
    char *bytes = malloc(8 + length + n);

    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    memset(bytes + 8 + length, 1, n);
    tc_put(path, bytes, 8 + length + n);
    free(bytes);
    return path;
}

Test(safetensors, files_of_others)
{
    tern_ctx *ctx = tc_open("cpu");
    /* Not padded, not in the order of the data, an array that is not aligned. */
    tern_archive *a = tern_archive_read(
        ctx, made("{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]},"
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                  "\"__metadata__\":{\"format\":\"pt\"}}  ",
                  5));

    cr_assert(a, "%s", tern_error_text(ctx));
    cr_expect(*(uint32_t *)tern_archive_get(a, "w")->data == 0x01010101);
    cr_expect_str_eq(tern_archive_at(a, 0)->name, "b");
    cr_expect_str_eq(tern_archive_meta(a, "format"), "pt");
    tern_archive_close(ctx, a);
    cr_expect(read_any(ctx, made("{}", 0)));
    cr_expect(read_any(ctx, made("{\"a\":{\"dtype\":\"BF16\",\"shape\":[2,0],"
                                 "\"data_offsets\":[0,0]}}",
                                 0)));
    tc_close(ctx);
}

#define ONE(dtype, shape, offsets)                                                                 \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

Test(safetensors, hostile_headers)
{
    static const struct {
        const char *header;
        size_t bytes;
    } bad[] = {
        {"", 0},
        {"{", 0},
        {"[]", 0},
        {"{}x", 0},
        {"{}", 1},
        {"{}\n\n", 0},
        {"{\"a\":1}", 0},
        {ONE("\"F32\"", "[4]", "[0,15]"), 16}, /* too short for its shape */
        {ONE("\"F32\"", "[4]", "[0,16]"), 15}, /* beyond the end */
        {ONE("\"F32\"", "[4]", "[0,16]"), 17}, /* bytes after it */
        {ONE("\"F32\"", "[4]", "[1,17]"), 17}, /* a hole before it */
        {ONE("\"F32\"", "[4]", "[16,0]"), 16}, /* end before begin */
        {ONE("\"F32\"", "[4]", "[-16,0]"), 16},
        {ONE("\"F32\"", "[-4]", "[0,16]"), 16},
        {ONE("\"F32\"", "[4.0]", "[0,16]"), 16},
        {ONE("\"F32\"", "4", "[0,16]"), 16},
        {ONE("\"F32\"", "[4]", "[0]"), 16},
        {ONE("\"F32\"", "[4]", "{}"), 16},
        {ONE("\"F99\"", "[4]", "[0,16]"), 16},
        {ONE("7", "[4]", "[0,16]"), 16},
        {ONE("\"BOOL\"", "[4]", "[0,4]") " ", 4 + 1},
        {ONE("\"F32\"", "[4611686018427387904,4]", "[0,0]"), 0}, /* wraps to 0 bytes */
        {ONE("\"F32\"", "[4294967296,4294967296]", "[0,0]"), 0},
        {ONE("\"F32\"", "[9223372036854775807]", "[0,4]"), 4},
        {ONE("\"F32\"", "[99999999999999999999]", "[0,4]"), 4},
        {ONE("\"F32\"", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), 16}, /* rank 9 */
        {ONE("\"F32\"", "[[[[[[1]]]]]]", "[0,4]"), 4},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2}, /* twice */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3}, /* overlap */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
         2},
        {"{\"__metadata__\":{\"a\":1}}", 0},
        {"{\"__metadata__\":[]}", 0},
        {"{\"__metadata__\":{\"a\":\"\xff\"}}", 0},
        {"{\"__metadata__\":{\"a\\u0000\":\"\"}}", 0},
        {"{\"__metadata__\":{\"tern.step\":\"1\"}}", 0}, /* ours, without its checksum */
        {"{\"__metadata__\":{\"tern.format\":\"1\",\"tern.checksum\":\"md5:0\"}}", 0},
        {"{\"__metadata__\":{\"tern.format\":\"1\",\"tern.checksum\": \"crc32:00000000\"}}", 0},
    };
    tern_ctx *ctx = tc_open("cpu");
    char what[16];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *path = made(bad[i].header, bad[i].bytes);

        snprintf(what, sizeof what, "case %zu", i);
        cr_expect(!read_any(ctx, path), "%s was read", what);
        tc_refused(ctx, what, path);
    }
    /* A BOOL that is 2. */
    tern_archive *a = tern_archive_new(ctx);
    tern_archive_add(ctx, a, "a", TERN_BOOL, TI_SHAPE(1), "\2");
    cr_expect(tern_archive_save(ctx, a, tc_file("bool")) == TERN_OK);
    cr_expect(!read_any(ctx, tc_file("bool")));
    tern_error_clear(ctx);
    tern_archive_close(ctx, a);
    tc_close(ctx);
}

Test(safetensors, deep_and_endless_headers_are_refused_before_parsing)
{
    tern_ctx *ctx = tc_open("cpu");
    char *text = malloc(4000100);

    memset(text, '[', 1000000);
    strcpy(text + 1000000, "}");
    text[0] = '{';
    cr_expect(!read_any(ctx, made(text, 0)));
    tern_error_clear(ctx);
    strcpy(text, "{\"a\":[");
    for (int i = 0; i < 1500000; i++) memcpy(text + 6 + 2 * i, "1,", 2);
    strcpy(text + 6 + 3000000, "1]}");
    cr_expect(!read_any(ctx, made(text, 0)));
    cr_expect(strstr(tern_error_text(ctx), "more than 1000000 values"));
    tern_error_clear(ctx);
    free(text);
    /* Lengths that the file does not have: of 100 MB, of 2^64 - 1. */
    for (int i = 0; i < 2; i++) {
        uint64_t head[2] = {i ? UINT64_MAX : 99999999, 0};

        tc_put(tc_file("long"), head, sizeof head);
        cr_expect(!read_any(ctx, tc_file("long")));
        tern_error_clear(ctx);
    }
    tc_close(ctx);
}

Test(safetensors, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_archive *a = tern_archive_new(ctx);
    const struct {
        const char *name;
        tern_type type;
        tern_shape shape;
    } bad[] = {{NULL, TERN_F32, TI_SHAPE(1)},
               {"a", TERN_N_TYPES, TI_SHAPE(1)},
               {"a", TERN_F32, {.rank = 9}},
               {"a", TERN_F32, TI_SHAPE(-1)},
               {"a", TERN_F32, TI_SHAPE(INT64_MAX, 2)},
               {"x", TERN_F32, TI_SHAPE(1)}};

    tern_archive_add(ctx, a, "x", TERN_F32, TI_SHAPE(1), NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!tern_archive_add(ctx, a, bad[i].name, bad[i].type, bad[i].shape, NULL));
        cr_expect(tern_error(ctx) != TERN_OK, "case %zu", i);
        tern_error_clear(ctx);
    }
    cr_expect(tern_archive_meta_set(ctx, a, "tern.checksum", "") == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tern_archive_add(ctx, a, "\xff", TERN_F32, TI_SHAPE(1), NULL);
    cr_expect(tern_archive_save(ctx, a, tc_file("a")) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_archive_read(NULL, "a") == NULL);
    cr_expect(tern_archive_save(NULL, a, "a") == TERN_E_ARGUMENT);
    tern_archive_close(ctx, a);
    tc_close(ctx);
}

static bool save_and_read(tern_ctx *ctx)
{
    const char *path = tc_file("fault");

    return save_example(ctx, path) && read_any(ctx, path);
}

Test(safetensors, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");
    const long n = tc_faults(ctx, save_and_read);

    cr_expect(n > 20, "%ld sites", n);
    cr_expect(save_and_read(ctx));
    tc_close(ctx);
}

#else

Test(safetensors, without_jansson_it_says_so)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(!tern_archive_read(ctx, "a") && tern_error(ctx) == TERN_E_UNSUPPORTED);
    tern_error_clear(ctx);
    tc_close(ctx);
}

#endif
