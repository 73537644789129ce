/*
 * tern/data.h - labelled images, and loaders that make batches of them.
 *
 * A data set is a list of samples; it may be a view of some samples of another. Pixels are bytes,
 * or floats from memory, and become f32 by (x * scale - mean) / std with one mean and std for each
 * channel, where scale is 1/255 for bytes and 1 for floats. The order of a shuffle is a function of
 * (seed, epoch), an augmentation one of (seed, epoch, sample): neither depends on threads, batches,
 * or on what ran before.
 */
#ifndef TERN_DATA_H
#define TERN_DATA_H

#include "tern/tensor.h"

TERN_BEGIN_DECLS

/* ---- data sets ------------------------------------------------------------------------------ */

typedef struct tern_data_opts {
    const char *path;      /* where it lies; NULL: TERN_DATA_PATH, then the usual places      */
    int64_t height, width; /* image folders: resize to this; 0: the first image's             */
    int channels;          /* image folders: 1 grey, 3 colour; 0: the first image's           */
    int64_t count;         /* shapes: samples; 0: 20,000 for train, 4,000 for test            */
    uint64_t seed;         /* shapes, and the test part of folders without one; 0 means 42    */
} tern_data_opts;

/*
 * `part` is "train" or "test". `name` is one of
 *   fashion-mnist, mnist    four IDX files, gzipped or not
 *   cifar10, cifar100       their binary files
 *   shapes                  synthetic: ten kinds of drawn figures, 28 x 28, grey
 *   a folder                of such files, or with one folder of PNG and JPEG files for each class;
 *                           either in subfolders "train" and "test", or else a tenth of each class
 *                           is the test part. Classes are numbered in the order of sorted names.
 * Nothing is ever downloaded. TERN_E_IO, with what is missing and where it was looked for.
 */
TERN_API tern_data *tern_dataset(tern_ctx *ctx, const char *name, const char *part);
TERN_API tern_data *tern_dataset_open(tern_ctx *ctx, const char *name, const char *part,
                                      const tern_data_opts *opts);

/* Copies arrays: x of type u8 or f32, [N,C,H,W] or [N,D]; labels [N] below n_classes. names: as
 * many as there are classes, or NULL. */
TERN_API tern_data *tern_data_from_arrays(tern_ctx *ctx, tern_type type, const void *x,
                                          tern_shape shape, const int64_t *labels, int n_classes,
                                          const char *const *names);
/*
 * Samples that a function makes: sample i of `count` into x, f32, shaped `sample` ([C,H,W] or [D],
 * row-major). It runs on the loader's thread and must not touch the context. Another result than 0
 * is a failure, which tern_loader_next reports.
 */
typedef int (*tern_sample_fn)(void *user, int64_t i, float *x, int64_t *label);
TERN_API tern_data *tern_data_from_function(tern_ctx *ctx, tern_shape sample, int64_t count,
                                            int n_classes, tern_sample_fn fn, void *user);

/*
 * Takes n samples out of data and gives them as a data set of their own (validation): the same ones
 * for the same seed of the context. Stratified: each class loses its share, rounded by largest
 * remainders. Both are views; loaders that are open keep the samples they have.
 */
TERN_API tern_data *tern_data_split(tern_ctx *ctx, tern_data *data, int64_t n);
/* A view of samples index[0…n) of data. */
TERN_API tern_data *tern_data_subset(tern_ctx *ctx, const tern_data *data, const int64_t *index,
                                     int64_t n);
/* Frees it before its context does. Loaders and views that use its samples keep them. */
TERN_API void tern_data_close(tern_ctx *ctx, tern_data *data);

TERN_API int64_t tern_data_count(const tern_data *data);
TERN_API tern_shape tern_data_shape(const tern_data *data); /* of a sample: [C,H,W] or [D] */
TERN_API int tern_data_classes(const tern_data *data);
TERN_API const char *tern_data_class_name(const tern_data *data, int i); /* "7" if it has none */
TERN_API int64_t tern_data_label(const tern_data *data, int64_t i);      /* -1: from a function */
/* The image of sample i as bytes [H][W][C], borrowed; NULL if it does not lie as bytes. */
TERN_API const uint8_t *tern_data_pixels(const tern_data *data, int64_t i);
/* Where it came from and what was done to it ("14 of 312 images resized to 28x28"). */
TERN_API const char *tern_data_origin(const tern_data *data);
TERN_API bool tern_data_synthetic(const tern_data *data);
TERN_API int64_t tern_data_resized(const tern_data *data); /* images that were resized */
/* XXH128 of the samples and labels in order; "" in a build without xxHash, or from a function. */
TERN_API const char *tern_data_hash(tern_ctx *ctx, tern_data *data);

/*
 * Standardisation, in units of pixels scaled to 0…1 (bytes) or as they are (floats). Named sets
 * come with their published constants, other bytes with 0.5 and 0.5, floats with 0 and 1.
 * channels: 0, or as many as mean and std have.
 */
enum { TERN_CHANNELS = 4 }; /* more channels: all have the mean and std of the last */
typedef struct tern_norm {
    int channels;
    float mean[TERN_CHANNELS], std[TERN_CHANNELS];
} tern_norm;
TERN_API tern_norm tern_data_norm(const tern_data *data);
TERN_API TERN_CHECKED tern_status tern_data_norm_set(tern_ctx *ctx, tern_data *data,
                                                     const tern_norm *norm);
/* Computes it over data's own samples (the training part) and sets it; give the result to the
 * other parts. */
TERN_API TERN_CHECKED tern_status tern_data_standardise(tern_ctx *ctx, tern_data *data);

/* ---- loaders -------------------------------------------------------------------------------- */

/* Drawn anew for each sample and epoch. What comes from outside the image is black (0 in floats).
 * Turned, scaled and moved in one step, linear between pixels. */
typedef struct tern_augment {
    float rotate; /* degrees, up to ± this                                          */
    float shift;  /* pixels, up to ± this, each axis                                */
    float scale;  /* 0.1: size times 0.9 to 1.1                                     */
    bool flip;    /* left and right, half of the time                               */
    int crop;     /* pixels of black border, then a crop of the old size from it    */
} tern_augment;

typedef struct tern_loader_opts {
    int64_t batch;        /* 0 means 64                                              */
    bool in_order;        /* no shuffle                                              */
    bool drop_last;       /* leave out a last batch that is not full                 */
    bool no_prefetch;     /* do not make the next batch on a thread of its own       */
    uint64_t seed;        /* 0: the context's                                        */
    tern_augment augment; /* zeros: none                                             */
} tern_loader_opts;

/* images f32 [n,C,H,W], channels-last (or [n,D]), labels i64 [n]; NULL. Valid until the second next
 * call of tern_loader_next; hold a tensor to keep it longer. */
typedef struct tern_batch {
    tern_tensor *in[3];
    int64_t count;         /* n */
    const int64_t *sample; /* [n] their indices in the data */
} tern_batch;

/* Where a loader stands: the next batch it gives. */
typedef struct tern_position {
    int64_t epoch, index;
} tern_position;

TERN_API tern_loader *tern_loader_open(tern_ctx *ctx, const tern_data *data,
                                       const tern_loader_opts *opts);
TERN_API void tern_loader_close(tern_ctx *ctx, tern_loader *loader); /* NULL is legal */
/* false: the epoch is over, and the next call begins the next one; or a failure. */
TERN_API bool tern_loader_next(tern_ctx *ctx, tern_batch *batch, tern_loader *loader);
TERN_API int64_t tern_loader_batches(const tern_loader *loader); /* in an epoch */
TERN_API int64_t tern_loader_samples(const tern_loader *loader); /* in an epoch */
TERN_API tern_position tern_loader_tell(const tern_loader *loader);
/* Goes on there, as if it had come there by itself. index = batches: the epoch's end. */
TERN_API TERN_CHECKED tern_status tern_loader_seek(tern_ctx *ctx, tern_loader *loader,
                                                   tern_position position);

TERN_END_DECLS

#endif
