/* loader.c - batches: orders, threads, resuming, tensors that outlive their batch, augmentation. */
#include "files.h"

#include <math.h>
#include <sys/resource.h>

#include "core/tensor.h"
#include "data/augment.h"
#include "data/source.h"
#include "tern/data.h"

static tern_data *shapes(tern_ctx *ctx, int64_t count)
{
    return tern_dataset_open(ctx, "shapes", "train", &(tern_data_opts){.count = count});
}

/* A number for all bits of a batch. */
static uint64_t mix(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return h;
}

static uint64_t bits_of(tern_ctx *ctx, const tern_batch *b)
{
    const int64_t n = tern_count(tern_shape_of(b->in[0]));
    float *x = malloc((size_t)n * sizeof *x);
    int64_t labels[128];

    cr_assert(tern_to_host(ctx, x, b->in[0]) == TERN_OK &&
              tern_to_host(ctx, labels, b->in[1]) == TERN_OK);
    uint64_t h = mix(0xcbf29ce484222325u, x, (size_t)n * sizeof *x);
    h = mix(h, labels, (size_t)b->count * sizeof *labels);
    free(x);
    return mix(h, b->sample, (size_t)b->count * sizeof *b->sample);
}

/* Bits of the batches of two epochs. */
static int run(tern_ctx *ctx, tern_loader *l, uint64_t *bits)
{
    int n = 0;

    for (int epoch = 0; epoch < 2; epoch++)
        for (tern_batch b; tern_loader_next(ctx, &b, l);) bits[n++] = bits_of(ctx, &b);
    cr_assert(tern_error(ctx) == TERN_OK, "%s", tern_error_text(ctx));
    return n;
}

static const tern_augment everything = {10, 2, 0.1f, true, 2};

Test(loader, epochs_batches_and_values)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 10);
    tern_loader *l = tern_loader_open(ctx, d, &(tern_loader_opts){.batch = 4});
    int seen[10] = {0}, sizes[3], n = 0;

    cr_assert(l, "%s", tern_error_text(ctx));
    cr_expect(tern_loader_batches(l) == 3 && tern_loader_samples(l) == 10);
    for (tern_batch b; tern_loader_next(ctx, &b, l); n++) {
        cr_assert(n < 3 && b.in[2] == NULL);
        sizes[n] = (int)b.count;
        cr_expect(tern_same_shape(tern_shape_of(b.in[0]), TI_SHAPE(b.count, 1, 28, 28)));
        float *x = malloc((size_t)b.count * 784 * sizeof *x);
        int64_t labels[4];
        cr_assert(tern_to_host(ctx, x, b.in[0]) == TERN_OK &&
                  tern_to_host(ctx, labels, b.in[1]) == TERN_OK);
        for (int k = 0; k < b.count; k++) {
            seen[b.sample[k]]++;
            cr_expect(labels[k] == tern_data_label(d, b.sample[k]));
            for (int p = 0; p < 784; p++) {
                const double want = (tern_data_pixels(d, b.sample[k])[p] / 255.0 - 0.5) / 0.5;
                cr_assert(fabs(x[k * 784 + p] - want) < 1e-6);
            }
        }
        free(x);
    }
    cr_expect(n == 3 && sizes[0] == 4 && sizes[1] == 4 && sizes[2] == 2);
    for (int i = 0; i < 10; i++) cr_expect(seen[i] == 1);
    cr_expect(tern_loader_tell(l).epoch == 1 && tern_loader_tell(l).index == 0);
    tern_loader_close(ctx, l);
    l = tern_loader_open(ctx, d,
                         &(tern_loader_opts){.batch = 4, .drop_last = true, .in_order = true});
    n = 0;
    for (tern_batch b; tern_loader_next(ctx, &b, l); n++)
        cr_expect(b.count == 4 && b.sample[0] == 4 * n);
    cr_expect(n == 2 && tern_loader_samples(l) == 8);
    tc_close(ctx); /* which ends the loader and its thread */
}

Test(loader, channels_last_and_standardised)
{
    tern_ctx *ctx = tc_open("cpu");
    float x[2 * 2 * 3 * 2], back[24];
    const int64_t labels[2] = {0, 1};

    for (int i = 0; i < 24; i++) x[i] = (float)i;
    tern_data *d = tern_data_from_arrays(ctx, TERN_F32, x, TI_SHAPE(2, 2, 3, 2), labels, 2, NULL);
    cr_assert(tern_data_norm_set(ctx, d, &(tern_norm){2, {1, 2}, {2, 4}}) == TERN_OK);
    tern_loader *l = tern_loader_open(ctx, d, &(tern_loader_opts){.in_order = true});
    tern_batch b;
    int64_t stride[TERN_RANK];
    cr_assert(tern_loader_next(ctx, &b, l) && b.count == 2);
    tern_strides_of(b.in[0], stride);
    cr_expect(stride[1] == 1 && stride[3] == 2 && stride[2] == 4 && stride[0] == 12);
    cr_assert(tern_to_host(ctx, back, b.in[0]) == TERN_OK);
    for (int i = 0; i < 24; i++) {
        const int c = i / 6 % 2;
        cr_expect(back[i] == ((float)i - (c ? 2 : 1)) / (c ? 4 : 2));
    }
    /* Rows of features keep their two axes. */
    d = tern_data_from_arrays(ctx, TERN_F32, x, TI_SHAPE(2, 12), labels, 2, NULL);
    l = tern_loader_open(ctx, d, &(tern_loader_opts){.in_order = true});
    cr_assert(tern_loader_next(ctx, &b, l));
    cr_expect(tern_same_shape(tern_shape_of(b.in[0]), TI_SHAPE(2, 12)));
    cr_assert(tern_to_host(ctx, back, b.in[0]) == TERN_OK && memcmp(back, x, sizeof x) == 0);
    tc_close(ctx);
}

Test(loader, bits_depend_on_seed_and_epoch_only)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 100);
    uint64_t bits[5][32];
    const tern_loader_opts how[5] = {{.batch = 16, .augment = everything},
                                     {.batch = 16, .augment = everything, .no_prefetch = true},
                                     {.batch = 16, .augment = everything, .seed = 42},
                                     {.batch = 16, .augment = everything, .seed = 43},
                                     {.batch = 16}};
    for (int i = 0; i < 5; i++) {
        cr_assert(tern_threads_set(ctx, 1 + i % 2) == TERN_OK);
        cr_assert(run(ctx, tern_loader_open(ctx, d, &how[i]), bits[i]) == 14);
    }
    cr_expect(memcmp(bits[0], bits[1], 14 * 8) == 0, "prefetching changes bits");
    cr_expect(memcmp(bits[0], bits[2], 14 * 8) == 0, "42 is the context's seed");
    for (int i = 0; i < 14; i++) cr_expect(bits[0][i] != bits[3][i] && bits[0][i] != bits[4][i]);
    for (int i = 0; i < 7; i++) cr_expect(bits[0][i] != bits[0][i + 7], "two epochs are the same");
    tc_close(ctx);
}

/* One sample's augmentation is the same in batches of any size and in a view. */
Test(loader, augmentation_is_a_function_of_the_sample)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 30);
    const int64_t one[] = {17};
    tern_data *view = tern_data_subset(ctx, d, one, 1);
    float a[784], b[784];
    tern_batch batch;

    tern_loader *l = tern_loader_open(ctx, view, &(tern_loader_opts){.augment = everything});
    cr_assert(tern_loader_next(ctx, &batch, l) && tern_to_host(ctx, a, batch.in[0]) == TERN_OK);
    l = tern_loader_open(ctx, d, &(tern_loader_opts){.batch = 7, .augment = everything});
    bool found = false;
    while (tern_loader_next(ctx, &batch, l))
        for (int k = 0; k < batch.count; k++) {
            float *x = malloc((size_t)batch.count * sizeof a);
            cr_assert(tern_to_host(ctx, x, batch.in[0]) == TERN_OK);
            if (batch.sample[k] == 17) {
                memcpy(b, x + 784 * k, sizeof b);
                found = true;
            }
            free(x);
        }
    cr_expect(found && memcmp(a, b, sizeof a) == 0);
    tc_close(ctx);
}

Test(loader, goes_on_in_the_middle_of_an_epoch)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 50);
    const tern_loader_opts how = {.batch = 8, .augment = everything};
    uint64_t bits[32];
    tern_batch b;
    const int n = run(ctx, tern_loader_open(ctx, d, &how), bits);

    cr_assert(n == 14);
    for (int stop = 0; stop <= 14; stop++) {
        tern_loader *first = tern_loader_open(ctx, d, &how), *second;
        for (int i = 0; i < stop; i++)
            if (!tern_loader_next(ctx, &b, first)) i--; /* the end of an epoch */
        const tern_position at = tern_loader_tell(first);
        second = tern_loader_open(ctx, d, &how);
        cr_assert(tern_loader_seek(ctx, second, at) == TERN_OK);
        for (int i = stop; i < n; i++) {
            while (!tern_loader_next(ctx, &b, second)) cr_assert(tern_error(ctx) == TERN_OK);
            cr_expect(bits_of(ctx, &b) == bits[i], "stopped at %d: batch %d", stop, i);
        }
        tern_loader_close(ctx, first);
        tern_loader_close(ctx, second);
    }
    /* Going back, too, with a batch already made ahead. */
    tern_loader *l = tern_loader_open(ctx, d, &how);
    for (int i = 0; i < 3; i++) cr_assert(tern_loader_next(ctx, &b, l));
    cr_assert(tern_loader_seek(ctx, l, (tern_position){0, 1}) == TERN_OK);
    cr_assert(tern_loader_next(ctx, &b, l) && bits_of(ctx, &b) == bits[1]);
    cr_assert(tern_loader_seek(ctx, l, (tern_position){0, 7}) == TERN_OK);
    cr_expect(!tern_loader_next(ctx, &b, l) && tern_loader_next(ctx, &b, l));
    cr_expect(bits_of(ctx, &b) == bits[7]);
    cr_expect(tern_loader_seek(ctx, l, (tern_position){0, 8}) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_loader_seek(ctx, l, (tern_position){-1, 0}) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* The guard keeps two runs' inputs: the last two batches are valid; held ones for good. */
Test(loader, batches_stay_and_held_tensors_never_change)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 90);
    tern_loader *l = tern_loader_open(ctx, d, &(tern_loader_opts){.batch = 10});
    tern_batch b[9];
    tern_tensor *held[9];
    uint64_t bits[9];
    const long before = ti_live_allocations(ctx);

    for (int i = 0; i < 9; i++) {
        cr_assert(tern_loader_next(ctx, &b[i], l));
        bits[i] = bits_of(ctx, &b[i]);
        if (i > 0) cr_expect(bits_of(ctx, &b[i - 1]) == bits[i - 1], "batch %d", i - 1);
        held[i] = i % 2 ? tern_hold(b[i].in[0]) : NULL;
    }
    float *x = malloc(7840 * sizeof *x);
    for (int i = 1; i < 9; i += 2) {
        cr_assert(tern_to_host(ctx, x, held[i]) == TERN_OK);
        tern_loader *again = tern_loader_open(ctx, d, &(tern_loader_opts){.batch = 10});
        tern_batch c;
        cr_assert(tern_loader_seek(ctx, again, (tern_position){0, i}) == TERN_OK);
        cr_assert(tern_loader_next(ctx, &c, again));
        float *y = malloc(7840 * sizeof *y);
        cr_assert(tern_to_host(ctx, y, c.in[0]) == TERN_OK && memcmp(x, y, 7840 * sizeof *x) == 0);
        free(y);
        tern_loader_close(ctx, again);
    }
    for (int i = 1; i < 7; i += 2) tern_drop(held[i]);
    cr_expect(!tern_loader_next(ctx, &b[0], l) && tern_loader_next(ctx, &b[0], l));
    /* Memory of what was dropped is given back: three batches are held again. */
    cr_expect(ti_live_allocations(ctx) - before < 20, "%ld", ti_live_allocations(ctx) - before);
    tern_loader_close(ctx, l);
    cr_assert(tern_to_host(ctx, x, held[7]) == TERN_OK, "after the loader");
    tern_drop(held[7]);
    free(x);
    tc_close(ctx);
}

/* What a loader retired is freed once, whoever ends first. */
Test(loader, contexts_close_over_retired_memory)
{
    for (int order = 0; order < 3; order++) {
        tern_ctx *ctx = tc_open("cpu");
        tern_loader *l = tern_loader_open(ctx, shapes(ctx, 40), &(tern_loader_opts){.batch = 4});
        tern_tensor *held[6];
        tern_batch b;

        for (int i = 0; i < 6; i++) {
            cr_assert(tern_loader_next(ctx, &b, l));
            held[i] = tern_hold(b.in[i % 2]);
        }
        if (order == 0) tern_loader_close(ctx, l);
        for (int i = 0; i < 6; i++) tern_drop(held[i]);
        if (order == 1) tern_loader_close(ctx, l);
        tc_close(ctx);
    }
}

static int made(void *user, int64_t i, float *x, int64_t *label)
{
    for (int k = 0; k < 6; k++) x[k] = (float)(10 * i + k);
    *label = i % 3;
    if (*(int64_t *)user == i) return 7;
    if (*(int64_t *)user == -i) *label = 3;
    return 0;
}

Test(loader, functions_and_their_failures)
{
    tern_ctx *ctx = tc_open("cpu");
    int64_t bad = 1000;
    tern_data *d = tern_data_from_function(ctx, TI_SHAPE(2, 3, 1), 12, 3, made, &bad);
    tern_batch b;
    float x[24];

    for (int threads = 0; threads < 2; threads++) {
        tern_loader *l = tern_loader_open(
            ctx, d, &(tern_loader_opts){.batch = 4, .in_order = true, .no_prefetch = !threads});
        cr_assert(tern_loader_next(ctx, &b, l) && tern_to_host(ctx, x, b.in[0]) == TERN_OK);
        for (int i = 0; i < 24; i++) cr_expect(x[i] == (float)(10 * (i / 6) + i % 6));
        tern_loader_close(ctx, l);
        for (int kind = 0; kind < 2; kind++) {
            bad = kind ? -6 : 6;
            l = tern_loader_open(
                ctx, d, &(tern_loader_opts){.batch = 4, .in_order = true, .no_prefetch = !threads});
            cr_assert(tern_loader_next(ctx, &b, l));
            cr_expect(!tern_loader_next(ctx, &b, l));
            cr_expect(tern_error(ctx) == (kind ? TERN_E_VALUE : TERN_E_IO));
            cr_expect(strstr(tern_error_text(ctx), kind ? "sample 6: its function set label 3"
                                                        : "sample 6: its function gave 7"));
            cr_expect(!tern_loader_next(ctx, &b, l), "the error stays");
            tern_error_clear(ctx);
            bad = 1000; /* it has recovered: the same batch again */
            cr_expect(tern_loader_next(ctx, &b, l) && b.sample[0] == 4, "%s", tern_error_text(ctx));
            tern_loader_close(ctx, l);
        }
    }
    cr_expect(tern_data_split(ctx, d, 3) != NULL, "without labels, not stratified");
    cr_expect(tern_data_standardise(ctx, d) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* Address space for no more stacks: batches are made without a thread. */
Test(loader, works_without_a_thread)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    cr_skip_test("sanitizers need address space");
#else
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 40);
    const tern_loader_opts how = {.batch = 8};
    uint64_t want[16], bits[16];
    struct rlimit limit, before;

    cr_assert(tern_threads_set(ctx, 1) == TERN_OK);
    run(ctx, tern_loader_open(ctx, d, &how), want);
    getrlimit(RLIMIT_AS, &before);
    limit = before;
    limit.rlim_cur = 1 << 20;
    tern_loader *l = tern_loader_open(ctx, d, &how);
    tern_batch b;
    setrlimit(RLIMIT_AS, &limit);
    const bool ok = tern_loader_next(ctx, &b, l); /* tries to start the thread */
    setrlimit(RLIMIT_AS, &before);
    cr_assert(ok, "%s", tern_error_text(ctx));
    cr_assert(tern_loader_seek(ctx, l, (tern_position){0, 0}) == TERN_OK);
    run(ctx, l, bits);
    cr_expect(memcmp(want, bits, 10 * 8) == 0);
    tc_close(ctx);
#endif
}

Test(loader, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *d = shapes(ctx, 10);
    const tern_loader_opts bad[] = {{.batch = -1},
                                    {.batch = 11, .drop_last = true},
                                    {.augment = {.rotate = -1}},
                                    {.augment = {.rotate = NAN}},
                                    {.augment = {.scale = 1}},
                                    {.augment = {.shift = 1e9f}},
                                    {.augment = {.crop = -1}}};
    tern_batch b;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!tern_loader_open(ctx, d, &bad[i]) && tern_error(ctx) == TERN_E_ARGUMENT, "%zu",
                  i);
        tern_error_clear(ctx);
    }
    cr_expect(!tern_loader_open(ctx, NULL, NULL));
    tern_error_clear(ctx);
    cr_expect(!tern_loader_open(ctx, tern_data_subset(ctx, d, NULL, 0), NULL), "no samples");
    tern_error_clear(ctx);
    cr_expect(!tern_loader_next(ctx, &b, NULL) && tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(!tern_loader_next(NULL, &b, NULL));
    tern_loader_close(ctx, NULL);
    /* A batch larger than any memory: only as many as there are. */
    tern_loader *l = tern_loader_open(ctx, d, &(tern_loader_opts){.batch = INT64_MAX / 2});
    cr_expect(tern_loader_next(ctx, &b, l) && b.count == 10, "%s", tern_error_text(ctx));
    tc_close(ctx);
}

/* ---- augmentation ---- */

static const float same_scale[3] = {1, 1, 1}, no_offset[3];

static ti_source image(const uint8_t *x, int64_t h, int64_t w, int64_t c)
{
    return (ti_source){.type = TERN_U8, .c = c, .h = h, .w = w, .pixels = (void *)x};
}

Test(loader, flips_and_crops_are_exact)
{
    uint8_t x[5 * 4 * 2];
    float y[40];
    int n_flipped = 0, n_seen[5][5] = {{0}};

    for (int i = 0; i < 40; i++) x[i] = (uint8_t)(i + 1);
    const ti_source s = image(x, 5, 4, 2);
    for (int64_t k = 0; k < 400; k++) {
        ti_augment_image(y, &s, x, &(tern_augment){.flip = true}, 1, 0, k, same_scale, no_offset);
        const bool flipped = y[0] != 1;
        n_flipped += flipped;
        for (int i = 0; i < 40; i++) {
            const int row = i / 8, col = i / 2 % 4;
            cr_assert(y[i] == x[(row * 4 + (flipped ? 3 - col : col)) * 2 + i % 2]);
        }
        ti_augment_image(y, &s, x, &(tern_augment){.crop = 2}, 1, 0, k, same_scale, no_offset);
        bool found = false;
        for (int dy = -2; dy <= 2; dy++)
            for (int dx = -2; dx <= 2; dx++) {
                bool same = true;
                for (int i = 0; i < 40 && same; i++) {
                    const int row = i / 8 + dy, col = i / 2 % 4 + dx;
                    const bool in = row >= 0 && row < 5 && col >= 0 && col < 4;
                    same = y[i] == (in ? (float)x[(row * 4 + col) * 2 + i % 2] : 0);
                }
                if (same) n_seen[dy + 2][dx + 2]++;
                found |= same;
            }
        cr_assert(found, "sample %d", (int)k);
    }
    cr_expect(n_flipped > 150 && n_flipped < 250, "%d of 400", n_flipped);
    for (int i = 0; i < 25; i++) cr_expect(n_seen[i / 5][i % 5] > 3, "offset %d never comes", i);
}

Test(loader, turning_moves_pixels_as_it_should)
{
    /* A disc stays a disc; the sum of a centred blob is kept; a shift moves its centre. */
    uint8_t x[31 * 31];
    float y[31 * 31];

    for (int i = 0; i < 961; i++) {
        const int dx = i % 31 - 15, dy = i / 31 - 15;
        x[i] = dx * dx + dy * dy < 64 ? 200 : 0;
    }
    const ti_source s = image(x, 31, 31, 1);
    for (int64_t k = 0; k < 50; k++) {
        double sum[2] = {0}, mx = 0, my = 0;

        ti_augment_image(y, &s, x, &(tern_augment){.rotate = 180}, 3, 1, k, same_scale, no_offset);
        for (int i = 0; i < 961; i++) {
            sum[0] += x[i];
            sum[1] += (double)y[i];
            mx += (double)y[i] * (i % 31 - 15);
            my += (double)y[i] * (i / 31 - 15);
        }
        cr_expect(fabs(sum[1] / sum[0] - 1) < 0.02, "%g of %g", sum[1], sum[0]);
        cr_expect(fabs(mx / sum[1]) < 0.05 && fabs(my / sum[1]) < 0.05);
        ti_augment_image(y, &s, x, &(tern_augment){.shift = 3}, 3, 1, k, same_scale, no_offset);
        sum[1] = mx = my = 0;
        for (int i = 0; i < 961; i++) {
            sum[1] += (double)y[i];
            mx += (double)y[i] * (i % 31 - 15);
            my += (double)y[i] * (i / 31 - 15);
        }
        cr_expect(fabs(sum[1] / sum[0] - 1) < 1e-4);
        cr_expect(fabs(mx / sum[1]) <= 3 && fabs(my / sum[1]) <= 3);
    }
    /* Bits that were seen once, so that another machine or compiler cannot differ silently. */
    ti_augment_image(y, &s, x, &everything, 42, 5, 12345, same_scale, no_offset);
    const uint64_t h = mix(0xcbf29ce484222325u, y, sizeof y);
    cr_expect(h == 0xbb9ddcf87659fa47u, "%016llx", (unsigned long long)h);
}

static bool load(tern_ctx *ctx)
{
    tern_data *d = shapes(ctx, 12);
    tern_loader *l = d ? tern_loader_open(ctx, d, &(tern_loader_opts){.batch = 5}) : NULL;
    tern_tensor *held = NULL;
    tern_batch b;

    for (int i = 0; l && i < 3; i++)
        if (tern_loader_next(ctx, &b, l) && i == 0) held = tern_hold(b.in[0]);
    tern_loader_close(ctx, l);
    tern_drop(held);
    tern_data_close(ctx, d);
    return tern_error(ctx) == TERN_OK;
}

/* What a held tensor keeps until the context closes is let go here, to count what is left. */
static bool load_alone(tern_ctx *ctx)
{
    tern_ctx *inner = NULL;

    (void)ctx;
    cr_assert(tern_open(&inner, tc_device()) == TERN_OK);
    const bool ok = load(inner);
    cr_expect(tern_close(inner) == TERN_OK);
    return ok;
}

Test(loader, every_allocation_may_fail)
{
    bool failed = true;
    long n;

    cr_assert(load_alone(NULL));
    for (n = 0; failed; n++) {
        failed = false;
        for (int all = 0; all < 2; all++) {
            tern_ctx *ctx = tc_open(tc_device());
            ti_fail_allocation(ctx, n, all);
            if (!load(ctx)) {
                failed = true;
                cr_expect(tern_error(ctx) == TERN_E_MEMORY, "%ld: %s", n, tern_error_text(ctx));
            }
            ti_fail_allocation(ctx, -1, false);
            tern_error_clear(ctx);
            cr_expect(tern_close(ctx) == TERN_OK, "allocation %ld: something is left", n);
        }
    }
    cr_expect(n > 20, "%ld sites", n);
}
