/* data.c - data sets: from memory, by name, from folders; splits, standardisation, bad files. */
#include "files.h"

#include <math.h>

#include "data/augment.h"
#include "data/source.h"

TestSuite(data, .init = tc_folder_begin, .fini = tc_folder_end);

static void folder(const char *name) { cr_assert(mkdir(tc_file(name), 0700) == 0); }

/* Images as bytes [n][h][w], labels. */
static void put_idx(const char *images, const char *labels, int n, int h, int w, int n_labels,
                    const uint8_t *label)
{
    const size_t size = 16 + (size_t)(n * h * w);
    uint8_t *x = calloc(1, size + 8 + (size_t)n_labels), *y = x + size;

    x[2] = y[2] = 8;
    x[3] = 3, y[3] = 1;
    x[6] = (uint8_t)(n >> 8), x[7] = (uint8_t)n;
    x[11] = (uint8_t)h, x[15] = (uint8_t)w;
    for (int i = 0; i < n * h * w; i++) x[16 + i] = (uint8_t)i;
    y[6] = (uint8_t)(n_labels >> 8), y[7] = (uint8_t)n_labels;
    for (int i = 0; i < n_labels; i++) y[8 + i] = label ? label[i] : (uint8_t)(i % 10);
    tc_put(tc_file(images), x, size);
    tc_put(tc_file(labels), y, 8 + (size_t)n_labels);
    free(x);
}

static tern_data *small(tern_ctx *ctx)
{
    uint8_t x[2 * 3 * 2 * 2];
    const int64_t labels[2] = {1, 0};

    for (int i = 0; i < 24; i++) x[i] = (uint8_t)i;
    return tern_data_from_arrays(ctx, TERN_U8, x, TI_SHAPE(2, 3, 2, 2), labels, 2,
                                 (const char *[]){"cat", "dog"});
}

Test(data, arrays_lie_channels_last)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = small(ctx);

    cr_assert(d, "%s", tern_error_text(ctx));
    cr_expect(tern_data_count(d) == 2 && tern_data_classes(d) == 2);
    cr_expect_str_eq(tern_data_class_name(d, 1), "dog");
    cr_expect(tern_data_label(d, 0) == 1 && tern_data_label(d, 2) == -1);
    const uint8_t *p = tern_data_pixels(d, 1);
    cr_expect(p[0] == 12 && p[1] == 16 && p[2] == 20 && p[3] == 13);
    cr_expect(tern_data_pixels(d, 2) == NULL && !tern_data_synthetic(d));
    cr_expect(strlen(tern_data_hash(ctx, d)) == 32 || !*tern_data_hash(ctx, d));
    char before[40];
    strcpy(before, tern_data_hash(ctx, d));
    tern_data *turned = tern_data_subset(ctx, d, (int64_t[]){1, 0}, 2);
    cr_expect(!*before || strcmp(tern_data_hash(ctx, turned), before) != 0);
    tern_data_close(ctx, d); /* the view keeps the samples */
    cr_expect(tern_data_label(turned, 0) == 0 && tern_data_pixels(turned, 0)[0] == 12);
    tc_close(ctx);
}

Test(data, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = small(ctx);
    const int64_t label = 0;

#define BAD(expr)                                                                                  \
    cr_expect(!(expr) && tern_error(ctx) != TERN_OK, "%s", #expr);                                 \
    tern_error_clear(ctx)
    BAD(tern_data_from_arrays(ctx, TERN_U8, NULL, TI_SHAPE(1, 1, 1, 1), &label, 1, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_I32, &label, TI_SHAPE(1, 1), &label, 1, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_U8, &label, TI_SHAPE(1, 1, 1), &label, 1, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_U8, &label, TI_SHAPE(0, 1), &label, 1, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_U8, &label, TI_SHAPE(1, 1), &label, 0, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_U8, &label, TI_SHAPE(1, 1), &(int64_t){1}, 1, NULL));
    BAD(tern_data_from_arrays(ctx, TERN_U8, &label, TI_SHAPE(1, 1), &(int64_t){-1}, 1, NULL));
    BAD(tern_data_subset(ctx, d, (int64_t[]){2}, 1));
    BAD(tern_data_split(ctx, d, 2));
    BAD(tern_data_split(ctx, d, 0));
    BAD(tern_data_split(ctx, NULL, 1));
    BAD(tern_dataset(ctx, "shapes", "validation"));
    BAD(tern_dataset(ctx, tc_file("none"), "train"));
    BAD(tern_dataset_open(ctx, "shapes", "train", &(tern_data_opts){.height = 3}));
    BAD(tern_data_norm_set(ctx, d, &(tern_norm){1, {0}, {0}}) == TERN_OK);
    BAD(tern_data_norm_set(ctx, d, &(tern_norm){1, {NAN}, {1}}) == TERN_OK);
    BAD(tern_data_norm_set(ctx, d, &(tern_norm){5, {0}, {1}}) == TERN_OK);
    tern_data_close(ctx, NULL);
    cr_expect(tern_data_count(NULL) == 0 && tern_data_label(NULL, 0) == -1);
    tc_close(ctx);
}

Test(data, standardise)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = small(ctx);

    cr_assert(tern_data_standardise(ctx, d) == TERN_OK);
    const tern_norm n = tern_data_norm(d);
    /* Channel 0 holds 0 1 2 3 12 13 14 15: mean 7.5, variance 37.25. */
    cr_expect(n.channels == 3 && fabs(n.mean[0] - 7.5 / 255) < 1e-7);
    cr_expect(fabs(n.std[0] - sqrt(37.25) / 255) < 1e-8 && fabs(n.mean[2] - 15.5 / 255) < 1e-7);
    tc_close(ctx);
}

Test(data, split_is_stratified_and_a_function_of_the_seed)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d[3], *v[3];

    for (int i = 0; i < 3; i++) {
        cr_assert(tern_seed_set(ctx, i == 2 ? 7 : 42) == TERN_OK);
        d[i] = tern_dataset_open(ctx, "shapes", "train", &(tern_data_opts){.count = 205});
        v[i] = tern_data_split(ctx, d[i], 50);
        cr_assert(v[i], "%s", tern_error_text(ctx));
        cr_expect(tern_data_count(v[i]) == 50 && tern_data_count(d[i]) == 155);
    }
    cr_expect(memcmp(d[0]->index, d[1]->index, 155 * 8) == 0);
    cr_expect(memcmp(v[0]->index, v[2]->index, 50 * 8) != 0, "another seed, the same samples");
    bool seen[205] = {false};
    int per_class[10] = {0};
    for (int i = 0; i < 155; i++) seen[d[0]->index[i]] = true;
    for (int i = 0; i < 50; i++) {
        cr_expect(!seen[v[0]->index[i]], "in both parts");
        seen[v[0]->index[i]] = true;
        per_class[tern_data_label(v[0], i)]++;
    }
    for (int i = 0; i < 205; i++) cr_expect(seen[i]);
    /* Classes 0 to 4 have 21 samples, 5.12 of which are their share; the others 20, 4.88. */
    for (int i = 0; i < 10; i++) cr_expect(per_class[i] == 5, "class %d: %d", i, per_class[i]);
    tc_close(ctx);
}

Test(data, shapes_are_the_same_everywhere_and_balanced)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_data_opts few = {.count = 100};
    tern_data *a = tern_dataset_open(ctx, "shapes", "train", &few);
    tern_data *b = tern_dataset_open(ctx, "shapes", "test", &few);

    cr_assert(a && b && tern_data_synthetic(a));
    cr_expect(strstr(tern_data_origin(a), "synthetic"));
    cr_expect(tern_same_shape(tern_data_shape(a), TI_SHAPE(1, 28, 28)));
    cr_expect(memcmp(tern_data_pixels(a, 0), tern_data_pixels(b, 0), 784) != 0);
#ifdef TI_WITH_XXHASH
    cr_expect_str_eq(tern_data_hash(ctx, a), "064ab0dae0c24e1c699c5bc6522eafd5");
#endif
    tern_data *all = tern_dataset(ctx, "shapes", "test");
    cr_expect(tern_data_count(all) == 4000 && tern_data_label(all, 3999) == 9);
    tc_close(ctx);
}

Test(data, fashion_mnist_if_it_is_here)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = tern_dataset(ctx, "fashion-mnist", "test");

    if (!d) {
        cr_expect(tern_error(ctx) == TERN_E_IO);
        tern_error_clear(ctx);
        tc_close(ctx);
        cr_skip_test("Fashion-MNIST is not on this machine");
    }
    cr_expect(tern_data_count(d) == 10000 && tern_data_classes(d) == 10);
    cr_expect_str_eq(tern_data_class_name(d, tern_data_label(d, 0)), "Ankle boot");
    cr_expect(fabs(tern_data_norm(d).mean[0] - 0.286) < 1e-6);
    tern_data *train = tern_dataset(ctx, "fashion-mnist", "train");
    cr_assert(tern_data_count(train) == 60000 && tern_data_standardise(ctx, train) == TERN_OK);
    cr_expect(fabs(tern_data_norm(train).mean[0] - 0.2860) < 1e-4);
    cr_expect(fabs(tern_data_norm(train).std[0] - 0.3530) < 1e-4);
    tc_close(ctx);
}

/* Where it looks, and what it says when there is nothing. */
Test(data, search)
{
    tern_ctx *ctx;
    char line[200];

    setenv("TERN_DATA_PATH", "/nonexistent/a:/nonexistent/b", 1);
    setenv("HOME", "/nonexistent/h", 1);
    setenv("XDG_DATA_HOME", tc_folder, 1);
    cr_assert(chdir(tc_folder) == 0);
    cr_assert(tern_open(&ctx, "cpu") == TERN_OK);
    tern_data *d = tern_dataset(ctx, "mnist", "train");
    cr_expect(!d && tern_error(ctx) == TERN_E_IO);
    const char *want[] = {
        "train-images-idx3-ubyte (47040016 bytes)", "t10k-labels-idx1-ubyte (10008)",
        "/nonexistent/a, /nonexistent/b, data, /nonexistent/h/data", "/usr/share/datasets"};
    for (int i = 0; i < 4; i++)
        cr_expect(strstr(tern_error_text(ctx), want[i]), "%s: %s", want[i], tern_error_text(ctx));
    tern_error_clear(ctx);
    snprintf(line, sizeof line, "mkdir -p %s/tern/mnist %s/data/MNIST/raw", tc_folder, tc_folder);
    cr_assert(system(line) == 0);
    put_idx("tern/mnist/t10k-images-idx3-ubyte", "tern/mnist/t10k-labels-idx1-ubyte", 3, 28, 28, 3,
            NULL);
    d = tern_dataset(ctx, "mnist", "test");
    cr_expect(tern_data_count(d) == 3, "XDG: %s", tern_error_text(ctx));
    cr_expect(!tern_dataset(ctx, "mnist", "train"));
    cr_expect(strstr(tern_error_text(ctx), "train-images-idx3-ubyte.gz: there is no such file"),
              "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    put_idx("data/MNIST/raw/t10k-images-idx3-ubyte", "data/MNIST/raw/t10k-labels-idx1-ubyte", 4, 28,
            28, 4, NULL);
    cr_expect(tern_data_count(tern_dataset(ctx, "mnist", "test")) == 4, "./data comes first");
    /* A path that was given is the only place. */
    cr_expect(
        !tern_dataset_open(ctx, "mnist", "test", &(tern_data_opts){.path = "/nonexistent/c"}));
    cr_expect(strstr(tern_error_text(ctx), "Looked in /nonexistent/c") != NULL);
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(data, idx_folders_and_what_is_wrong_with_them)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *images = "t10k-images-idx3-ubyte", *labels = "t10k-labels-idx1-ubyte";
    const tern_data_opts here = {.path = tc_folder};

    put_idx(images, labels, 300, 5, 6, 300, NULL);
    tern_data *d = tern_dataset(ctx, tc_folder, "test");
    cr_assert(d, "%s", tern_error_text(ctx));
    cr_expect(tern_same_shape(tern_data_shape(d), TI_SHAPE(1, 5, 6)) && tern_data_classes(d) == 10);
    cr_expect(tern_data_pixels(d, 1)[0] == 30 && fabs(tern_data_norm(d).mean[0] - 0.5) < 1e-9);
    /* As fashion-mnist it has the wrong size. */
    cr_expect(!tern_dataset_open(ctx, "fashion-mnist", "test", &here));
    cr_expect(strstr(tern_error_text(ctx), "5 x 6; those of fashion-mnist are 28 x 28"));
    tc_refused(ctx, "size", images);
    put_idx(images, labels, 3, 28, 28, 4, NULL);
    cr_expect(!tern_dataset_open(ctx, "fashion-mnist", "test", &here));
    cr_expect(strstr(tern_error_text(ctx), "4 labels for 3 images"), "%s", tern_error_text(ctx));
    tc_refused(ctx, "counts", labels);
    put_idx(images, labels, 3, 28, 28, 3, (uint8_t[]){0, 10, 0});
    cr_expect(!tern_dataset_open(ctx, "fashion-mnist", "test", &here));
    cr_expect(strstr(tern_error_text(ctx), "label 1 is 10; 0 to 9"), "%s", tern_error_text(ctx));
    tc_refused(ctx, "label", labels);
    put_idx(labels, images, 3, 28, 28, 3, NULL); /* swapped */
    cr_expect(!tern_dataset_open(ctx, "fashion-mnist", "test", &here));
    tc_refused(ctx, "swapped", images);
    /* Classes are counted in the training part. */
    put_idx("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 3, 4, 4, 3,
            (uint8_t[]){0, 46, 0});
    put_idx(images, labels, 3, 4, 4, 3, (uint8_t[]){0, 20, 0});
    cr_expect(tern_data_classes(tern_dataset(ctx, tc_folder, "test")) == 47);
    tc_close(ctx);
}

static void put_cifar(const char *name, int coarse, int n, int label)
{
    const size_t record = 3073 + (size_t)coarse;
    uint8_t *x = calloc((size_t)n, record);

    for (int i = 0; i < n; i++) {
        x[(size_t)i * record + (size_t)coarse] = (uint8_t)label;
        for (int c = 0; c < 3; c++)
            x[(size_t)i * record + (size_t)(1 + coarse + c * 1024 + 33)] = (uint8_t)(10 * c + i);
    }
    tc_put(tc_file(name), x, (size_t)n * record);
    free(x);
}

Test(data, cifar)
{
    tern_ctx *ctx = tc_open("cpu");
    char name[32];
    const tern_data_opts here = {.path = tc_folder};

    for (int i = 1; i <= 5; i++) {
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        put_cifar(name, 0, 2, i);
    }
    put_cifar("test_batch.bin", 0, 3, 9);
    tc_put(tc_file("batches.meta.txt"), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n", 21);
    tern_data *d = tern_dataset_open(ctx, "cifar10", "train", &here);
    cr_assert(d, "%s", tern_error_text(ctx));
    cr_expect(tern_data_count(d) == 10 && tern_data_label(d, 9) == 5);
    cr_expect_str_eq(tern_data_class_name(d, 9), "j");
    const uint8_t *p = tern_data_pixels(d, 1) + 33 * 3;
    cr_expect(p[0] == 1 && p[1] == 11 && p[2] == 21);
    cr_expect(tern_data_count(tern_dataset(ctx, tc_folder, "test")) == 3);
    put_cifar("test_batch.bin", 0, 3, 10);
    cr_expect(!tern_dataset_open(ctx, "cifar10", "test", &here));
    tc_refused(ctx, "label", "test_batch.bin");
    tc_put(tc_file("test_batch.bin"), "short", 5);
    cr_expect(!tern_dataset_open(ctx, "cifar10", "test", &here));
    tc_refused(ctx, "truncated", "test_batch.bin");
    put_cifar("train.bin", 1, 2, 99);
    d = tern_dataset_open(ctx, "cifar100", "train", &here);
    cr_expect(tern_data_classes(d) == 100 && tern_data_label(d, 0) == 99 &&
                  tern_data_pixels(d, 0)[33 * 3 + 2] == 20,
              "%s", tern_error_text(ctx));
    tc_close(ctx);
}

#ifdef TI_WITH_PNG

static void put_png(tern_ctx *ctx, const char *name, int h, int w, int c, uint8_t value)
{
    uint8_t pixels[12 * 12 * 3];

    memset(pixels, value, sizeof pixels);
    cr_assert(tern_png_write(ctx, tc_file(name), &(tern_image){h, w, c, pixels}) == TERN_OK, "%s",
              tern_error_text(ctx));
}

Test(data, image_folders)
{
    tern_ctx *ctx = tc_open("cpu");
    char name[64];

    folder("dog");
    folder("cat");
    tc_put(tc_file("readme.txt"), "x", 1);
    tc_put(tc_file("dog/notes.txt"), "x", 1);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "cat/%02d.png", i);
        put_png(ctx, name, i == 3 ? 12 : 6, 8, i == 4 ? 3 : 1, (uint8_t)i);
        snprintf(name, sizeof name, "dog/%02d.PNG", i);
        if (i < 5) put_png(ctx, name, 6, 8, 1, 200);
    }
    tern_data *d = tern_dataset(ctx, tc_folder, "train"), *t = tern_dataset(ctx, tc_folder, "test");
    cr_assert(d && t, "%s", tern_error_text(ctx));
    cr_expect(tern_data_count(d) == 22 && tern_data_count(t) == 3, "%d", (int)tern_data_count(d));
    cr_expect(tern_same_shape(tern_data_shape(t), TI_SHAPE(1, 6, 8)));
    cr_expect_str_eq(tern_data_class_name(d, 0), "cat");
    cr_expect(tern_data_resized(d) + tern_data_resized(t) == 1);
    cr_expect(strstr(tern_data_origin(d), "resized to 6x8"), "%s", tern_data_origin(d));
    cr_expect(tern_data_pixels(d, 21)[0] == 200 && tern_data_label(d, 21) == 1);
    d = tern_dataset_open(ctx, tc_folder, "train",
                          &(tern_data_opts){.height = 3, .width = 4, .channels = 3});
    cr_expect(tern_same_shape(tern_data_shape(d), TI_SHAPE(3, 3, 4)) && tern_data_resized(d) == 22);
    /* What cannot be read is named. */
    tc_put(tc_file("dog/bad.png"), "\x89PNG\r\n\x1a\n", 8);
    cr_expect(!tern_dataset(ctx, tc_folder, "train") || !tern_dataset(ctx, tc_folder, "test"));
    tc_refused(ctx, "broken", "dog/bad.png");
    cr_assert(unlink(tc_file("dog/bad.png")) == 0);
    folder("empty");
    cr_expect(!tern_dataset(ctx, tc_folder, "train"));
    cr_expect(strstr(tern_error_text(ctx), "class empty has no PNG or JPEG file"));
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(data, image_folders_with_parts)
{
    tern_ctx *ctx = tc_open("cpu");

    folder("train");
    cr_expect(!tern_dataset(ctx, tc_folder, "train") && tern_error(ctx) == TERN_E_IO);
    tern_error_clear(ctx);
    folder("train/a");
    folder("train/b");
    folder("test");
    folder("test/b");
    put_png(ctx, "train/a/1.png", 6, 6, 3, 1);
    put_png(ctx, "train/b/1.png", 6, 6, 3, 2);
    put_png(ctx, "test/b/1.png", 12, 12, 1, 3);
    tern_data *d = tern_dataset(ctx, tc_folder, "test");
    cr_assert(d, "%s", tern_error_text(ctx));
    cr_expect(tern_data_count(d) == 1 && tern_data_classes(d) == 2 && tern_data_label(d, 0) == 1);
    cr_expect(tern_same_shape(tern_data_shape(d), TI_SHAPE(3, 6, 6)), "the training part's size");
    folder("test/c");
    cr_expect(!tern_dataset(ctx, tc_folder, "test"));
    tc_refused(ctx, "unknown class", "test/c");
    tc_close(ctx);
}

static bool open_folder(tern_ctx *ctx)
{
    tern_data *d = tern_dataset(ctx, tc_folder, "train");

    tern_data_close(ctx, d);
    return d != NULL;
}

Test(data, every_allocation_may_fail_in_folders)
{
    tern_ctx *ctx = tc_open("cpu");

    folder("a");
    folder("b");
    put_png(ctx, "a/1.png", 6, 6, 3, 1);
    put_png(ctx, "a/2.png", 7, 6, 3, 1);
    put_png(ctx, "b/1.png", 6, 6, 1, 2);
    cr_expect(tc_faults(ctx, open_folder) > 20);
    tc_close(ctx);
}

#endif

static bool open_sets(tern_ctx *ctx)
{
    tern_data *s = tern_dataset_open(ctx, "shapes", "train", &(tern_data_opts){.count = 20});
    tern_data *v = tern_data_split(ctx, s, 5);
    tern_data *d = v ? tern_dataset(ctx, tc_folder, "test") : NULL;

    tern_data_close(ctx, v);
    tern_data_close(ctx, s);
    tern_data_close(ctx, d);
    return d != NULL;
}

Test(data, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    put_idx("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 3, 4, 4, 3, NULL);
    cr_expect(tc_faults(ctx, open_sets) > 20);
    tc_close(ctx);
}

Test(data, turn_is_sine_and_cosine)
{
    for (double a = -720; a <= 720; a += 0.37) {
        double s, c;

        ti_turn(a, &s, &c);
        cr_expect(fabs(s - sin(a * 0.017453292519943295)) < 2e-15, "%g", a);
        cr_expect(fabs(c - cos(a * 0.017453292519943295)) < 2e-15, "%g", a);
    }
}
