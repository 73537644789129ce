/* idxset.c - MNIST and its family: images and labels in IDX files, gzipped or not. */
#include <stdio.h>
#include <string.h>

#include "data/source.h"
#include "tern/io.h"

static const char *const fashion[] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                      "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};

/* The published mean and standard deviation of the training parts. */
static const struct {
    const char *name;
    float mean, std;
} constants[] = {{"fashion-mnist", 0.2860f, 0.3530f}, {"mnist", 0.1307f, 0.3081f}};

enum { MOST_SIDE = 4096 };

/* "train-images-idx3-ubyte" of a folder, plain or gzipped, into `path`. */
static bool find(char path[1200], const char *folder, bool train, bool images)
{
    static const char *const ends[] = {"", ".gz"};

    for (int i = 0; i < 2; i++) {
        snprintf(path, 1200, "%.1000s/%s-%s%s", folder, train ? "train" : "t10k",
                 images ? "images-idx3-ubyte" : "labels-idx1-ubyte", ends[i]);
        if (ti_is_file(path)) return true;
    }
    return false;
}

bool ti_idx_here(const char *folder)
{
    char path[1200];

    return find(path, folder, true, true) || find(path, folder, true, false) ||
           find(path, folder, false, true) || find(path, folder, false, false);
}

static tern_status read_file(tern_ctx *ctx, tern_array *array, char path[1200],
                             const ti_data_place *at, bool train, bool images)
{
    const int rank = images ? 3 : 1;
    char text[160];

    if (!find(path, at->folder, train, images))
        return ti_fail(ctx, TERN_E_IO, "%.300s: there is no such file, nor one with .gz", path);
    TI_TRY(tern_idx_read(ctx, array, path));
    if (array->type != TERN_U8 || array->shape.rank != rank)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: holds %s %s; u8 of rank %d is wanted", path,
                       tern_type_name(array->type), tern_shape_text(text, array->shape), rank);
    if (array->shape.dim[0] < 1)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: holds no samples", path);
    const int64_t h = array->shape.dim[1], w = array->shape.dim[2];

    if (images && (h < 1 || w < 1 || h > MOST_SIDE || w > MOST_SIDE))
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: images of %lld x %lld; 1 to %d a side", path,
                       (long long)h, (long long)w, MOST_SIDE);
    if (images && *at->name && (h != 28 || w != 28))
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: images of %lld x %lld; those of %s are 28 x 28",
                       path, (long long)h, (long long)w, at->name);
    return TERN_OK;
}

/* Ten for the named sets; else one more than the training part's largest label. */
static tern_status count_classes(tern_ctx *ctx, int *n, const ti_data_place *at)
{
    tern_array labels = {0};
    char path[1200];

    *n = 10;
    if (*at->name || !find(path, at->folder, true, false)) return TERN_OK;
    if (read_file(ctx, &labels, path, at, true, false) == TERN_OK) {
        *n = 1;
        for (size_t i = 0; i < labels.bytes; i++)
            if (((uint8_t *)labels.data)[i] >= *n) *n = ((uint8_t *)labels.data)[i] + 1;
    }
    tern_free(ctx, labels.data);
    return tern_error(ctx);
}

static tern_status set_labels(tern_ctx *ctx, tern_data *d, const tern_array *labels,
                              const char *path)
{
    const uint8_t *x = labels->data;

    for (int64_t i = 0; i < d->count; i++) {
        if (x[i] >= d->source->n_classes)
            return ti_fail(ctx, TERN_E_FORMAT, "%.300s: label %lld is %d; 0 to %d are right", path,
                           (long long)i, x[i], d->source->n_classes - 1);
        d->source->labels[i] = x[i];
    }
    return TERN_OK;
}

static tern_status fill(tern_ctx *ctx, tern_data **out, const tern_array *images,
                        const tern_array *labels, const char *path, const ti_data_place *at)
{
    const int64_t n = images->shape.dim[0];
    const tern_shape sample = {3, {1, images->shape.dim[1], images->shape.dim[2]}};
    int n_classes;

    if (labels->shape.dim[0] != n)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: %lld labels for %lld images", path,
                       (long long)labels->shape.dim[0], (long long)n);
    TI_TRY(count_classes(ctx, &n_classes, at));
    tern_data *d = *out = ti_data_new(ctx, TERN_U8, sample, n, n_classes, NULL);

    if (!d) return tern_error(ctx);
    TI_TRY(set_labels(ctx, d, labels, path));
    memcpy(d->source->pixels, images->data, images->bytes);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (strcmp(at->name, constants[i].name) == 0)
            d->norm = (tern_norm){1, {constants[i].mean}, {constants[i].std}};
    if (strcmp(at->name, "fashion-mnist") == 0) TI_TRY(ti_data_names(ctx, d, fashion, 10));
    return ti_data_origin(ctx, d, "%s%s%.600s, %s part", at->name, *at->name ? " from " : "",
                          at->folder, at->train ? "train" : "test");
}

tern_data *ti_idx_open(tern_ctx *ctx, const ti_data_place *at)
{
    tern_array images = {0}, labels = {0};
    char path[2][1200];
    tern_data *d = NULL;

    if (read_file(ctx, &images, path[0], at, at->train, true) == TERN_OK &&
        read_file(ctx, &labels, path[1], at, at->train, false) == TERN_OK)
        (void)!fill(ctx, &d, &images, &labels, path[1], at);
    tern_free(ctx, images.data);
    tern_free(ctx, labels.data);
    if (tern_error(ctx) == TERN_OK) return d;
    tern_data_close(ctx, d);
    return NULL;
}
