/*
 * source.h - samples and the views of them.
 *
 * A source holds pixels and labels, which never change once a data set is open: loaders' threads
 * read them without locks. Views and loaders count as its owners; counts change on the context's
 * thread only.
 */
#ifndef TI_SOURCE_H
#define TI_SOURCE_H

#include "core/object.h"
#include "tern/data.h"

typedef struct {
    int refs;
    tern_type type;    /* TERN_U8 or TERN_F32 */
    tern_shape sample; /* [C,H,W] or [D] */
    int64_t c, h, w;   /* of [D]: D, 1, 1 */
    int64_t count;
    void *pixels;    /* [count][h][w][c]; NULL: made by fn */
    int64_t *labels; /* [count] */
    int n_classes;
    char **names; /* [n_classes], or NULL */
    char *origin;
    bool synthetic;
    int64_t n_resized;
    tern_sample_fn fn;
    void *user;
} ti_source;

struct tern_data {
    ti_object object;
    ti_source *source;
    int64_t *index; /* [count] into the source */
    int64_t count;
    tern_norm norm;
    char number[24], hash[40]; /* texts that were given out */
};

/* What random numbers are for: the third word of Philox's counter. */
enum {
    TI_FOR_SHUFFLE = 0x73687566,
    TI_FOR_SPLIT = 0x73706c74,
    TI_FOR_AUGMENT = 0x6175676d,
    TI_FOR_SHAPES = 0x73686170
};

/* A data set of zeros over a source of its own; sample: [C,H,W] or [D]. It checks their product. */
tern_data *ti_data_new(tern_ctx *ctx, tern_type type, tern_shape sample, int64_t count,
                       int n_classes, tern_sample_fn fn);
/* A copy of the names; count of them. */
tern_status ti_data_names(tern_ctx *ctx, tern_data *data, const char *const *names, int count);
__attribute__((format(printf, 3, 4))) tern_status ti_data_origin(tern_ctx *ctx, tern_data *data,
                                                                 const char *text, ...);
void ti_source_drop(tern_ctx *ctx, ti_source *source); /* NULL is legal */

/* Puts x into an order that is a function of (seed, purpose, call) and n. */
void ti_shuffle(int64_t *x, int64_t n, uint64_t seed, uint32_t purpose, uint32_t call);
/* Marks n of `count` samples, stratified by class (labels NULL: one class). taken: zeroed. */
tern_status ti_stratify(tern_ctx *ctx, bool *taken, const int64_t *labels, int64_t count,
                        int n_classes, int64_t n, uint64_t seed);

/* Readers of data sets, each in a file of its own. `train`: which part. */
typedef struct {
    const char *folder;
    const char *name; /* "fashion-mnist"; "" for a folder's own */
    bool train;
    const tern_data_opts *opts;
} ti_data_place;
bool ti_idx_here(const char *folder);
tern_data *ti_idx_open(tern_ctx *ctx, const ti_data_place *at);
bool ti_cifar_here(const char *folder, bool hundred);
tern_data *ti_cifar_open(tern_ctx *ctx, const ti_data_place *at, bool hundred);
tern_data *ti_folder_open(tern_ctx *ctx, const ti_data_place *at);
tern_data *ti_shapes_open(tern_ctx *ctx, bool train, const tern_data_opts *opts);

/* "FOLDER/NAME" from ti_alloc; NULL: no memory. */
char *ti_join(tern_ctx *ctx, const char *folder, const char *name);
bool ti_is_folder(const char *path);
bool ti_is_file(const char *path);

#endif
