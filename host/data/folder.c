/*
 * folder.c - one folder of PNG and JPEG files for each class.
 *
 * Either FOLDER/train/CLASS/… and FOLDER/test/CLASS/…, or FOLDER/CLASS/…, of which a tenth of each
 * class (at least one of two) is the test part. The classes are the training part's, in the order
 * of their sorted names; size and channels are the first image's there unless they are given.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "data/source.h"
#include "tern/io.h"

enum { MOST_FILES = 10000000 };

typedef struct {
    tern_ctx *ctx;
    char **item;
    int n, cap;
} list;

typedef struct {
    char *path;
    int label;
} file;

typedef struct {
    tern_ctx *ctx;
    const ti_data_place *at;
    char *root, *train_root;
    bool divided; /* there are folders for the two parts */
    list classes, names;
    file *files;
    int n, cap;
} folder;

static void list_free(list *l)
{
    for (int i = 0; i < l->n; i++) ti_free(l->ctx, l->item[i]);
    ti_free(l->ctx, l->item);
    *l = (list){.ctx = l->ctx};
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The sorted names in a folder, without those that begin with a dot. */
static tern_status read_names(list *l, const char *path)
{
    DIR *dir = opendir(path);

    if (!dir) return ti_fail(l->ctx, TERN_E_IO, "%.300s: the folder cannot be read", path);
    for (struct dirent *e; tern_error(l->ctx) == TERN_OK && (e = readdir(dir));) {
        char **grown, *copy;

        if (e->d_name[0] == '.') continue;
        if (l->n >= MOST_FILES)
            ti_fail(l->ctx, TERN_E_FORMAT, "%.300s: more than %d files", path, MOST_FILES);
        else if ((grown = ti_grow(l->ctx, l->item, l->n, &l->cap, sizeof *grown))) {
            l->item = grown;
            if ((copy = ti_strdup(l->ctx, e->d_name))) grown[l->n++] = copy;
        }
    }
    closedir(dir);
    if (l->n > 1) qsort(l->item, (size_t)l->n, sizeof *l->item, by_name);
    return tern_error(l->ctx);
}

static bool is_image(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot &&
           (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg"));
}

/* The images of one class at the end of f->files. */
static tern_status add_class(folder *f, const char *root, int label)
{
    char *path = ti_join(f->ctx, root, f->classes.item[label]);

    f->names = (list){.ctx = f->ctx};
    if (path && ti_is_folder(path)) (void)!read_names(&f->names, path);
    for (int i = 0; i < f->names.n && tern_error(f->ctx) == TERN_OK; i++) {
        file *grown = is_image(f->names.item[i])
                          ? ti_grow(f->ctx, f->files, f->n, &f->cap, sizeof *grown)
                          : NULL;
        char *image = grown ? ti_join(f->ctx, path, f->names.item[i]) : NULL;

        if (grown) f->files = grown;
        if (image) f->files[f->n++] = (file){image, label};
    }
    list_free(&f->names);
    ti_free(f->ctx, path);
    return tern_error(f->ctx);
}

/* The subfolders of the training part's root. */
static tern_status find_classes(folder *f)
{
    int n = 0;

    TI_TRY(read_names(&f->classes, f->train_root));
    for (int i = 0; i < f->classes.n; i++) {
        char *path = ti_join(f->ctx, f->train_root, f->classes.item[i]);

        if (path && ti_is_folder(path)) {
            char *name = f->classes.item[i];

            f->classes.item[i] = f->classes.item[n];
            f->classes.item[n++] = name;
        }
        ti_free(f->ctx, path);
        TI_TRY(tern_error(f->ctx));
    }
    for (; f->classes.n > n; f->classes.n--) ti_free(f->ctx, f->classes.item[f->classes.n - 1]);
    if (!n)
        return ti_fail(f->ctx, TERN_E_IO,
                       "%.300s: holds neither IDX nor CIFAR files, nor a folder of images for each "
                       "class",
                       f->train_root);
    return TERN_OK;
}

/* Classes of the test folder that training does not know would be lost silently. */
static tern_status check_test_classes(folder *f)
{
    list names = {.ctx = f->ctx};

    (void)!read_names(&names, f->root);
    for (int i = 0; i < names.n && tern_error(f->ctx) == TERN_OK; i++) {
        char *path = ti_join(f->ctx, f->root, names.item[i]);

        if (path && ti_is_folder(path) &&
            !bsearch(&names.item[i], f->classes.item, (size_t)f->classes.n, sizeof *names.item,
                     by_name))
            ti_fail(f->ctx, TERN_E_FORMAT, "%.300s: the training part has no such class", path);
        ti_free(f->ctx, path);
    }
    list_free(&names);
    return tern_error(f->ctx);
}

/* Keeps one part of a folder that is not divided. */
static tern_status keep_part(folder *f)
{
    const uint64_t seed = f->at->opts->seed ? f->at->opts->seed : 42;
    bool *test = ti_alloc(f->ctx, (size_t)f->n);
    int kept = 0;

    for (int from = 0, to; test && from < f->n; from = to) {
        for (to = from; to < f->n && f->files[to].label == f->files[from].label;) to++;
        const int count = to - from;

        if (ti_stratify(f->ctx, test + from, NULL, count, 1, count < 2 ? 0 : (count + 9) / 10,
                        seed + (uint64_t)f->files[from].label) != TERN_OK)
            break;
    }
    for (int i = 0; i < f->n && tern_error(f->ctx) == TERN_OK; i++) {
        const file t = f->files[i];

        if (test[i] == f->at->train) ti_free(f->ctx, t.path);
        else f->files[kept++] = t;
    }
    if (tern_error(f->ctx) == TERN_OK) f->n = kept;
    ti_free(f->ctx, test);
    return tern_error(f->ctx);
}

static tern_status find_files(folder *f)
{
    TI_TRY(find_classes(f));
    if (f->divided && !f->at->train) TI_TRY(check_test_classes(f));
    for (int i = 0; i < f->classes.n; i++) {
        const int before = f->n;

        TI_TRY(add_class(f, f->root, i));
        if (f->n == before && (f->at->train || !f->divided))
            return ti_fail(f->ctx, TERN_E_FORMAT, "%.250s: class %.100s has no PNG or JPEG file",
                           f->root, f->classes.item[i]);
    }
    return TERN_OK;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* The height, width and channels that all shall have. */
static tern_status find_size(folder *f, tern_image *size)
{
    const tern_data_opts *o = f->at->opts;
    tern_image first = {0};
    char *path = NULL;

    *size = (tern_image){o->height, o->width, o->channels, NULL};
    if (size->height && size->channels) return TERN_OK;
    if (!f->divided || f->at->train) path = f->n ? ti_strdup(f->ctx, f->files[0].path) : NULL;
    else {
        folder t = {.ctx = f->ctx, .classes = f->classes};

        for (int i = 0; i < f->classes.n && !t.n && !tern_error(f->ctx); i++)
            (void)!add_class(&t, f->train_root, i);
        path = t.n ? ti_strdup(f->ctx, t.files[0].path) : NULL;
        for (int i = 0; i < t.n; i++) ti_free(f->ctx, t.files[i].path);
        ti_free(f->ctx, t.files);
    }
    TI_TRY(tern_error(f->ctx));
    if (!path) return ti_fail(f->ctx, TERN_E_FORMAT, "%.300s: has no images", f->train_root);
    if (tern_image_read(f->ctx, &first, path, 0) == TERN_OK) {
        if (!size->height) size->height = first.height, size->width = first.width;
        if (!size->channels) size->channels = first.channels;
    }
    tern_free(f->ctx, first.pixels);
    ti_free(f->ctx, path);
    return tern_error(f->ctx);
}

static tern_status read_image(folder *f, tern_data *d, int i, const tern_image *size)
{
    const size_t bytes = (size_t)(size->height * size->width * size->channels);
    tern_image image, fitted = {0};

    TI_TRY(tern_image_read(f->ctx, &image, f->files[i].path, (int)size->channels));
    const bool fits = image.height == size->height && image.width == size->width;

    if (!fits) (void)!tern_image_resize(f->ctx, &fitted, &image, size->height, size->width);
    if (tern_error(f->ctx) == TERN_OK) {
        memcpy((char *)d->source->pixels + (size_t)i * bytes, fits ? image.pixels : fitted.pixels,
               bytes);
        d->source->labels[i] = f->files[i].label;
        d->source->n_resized += !fits;
    }
    tern_free(f->ctx, image.pixels);
    tern_free(f->ctx, fitted.pixels);
    return tern_error(f->ctx);
}

static tern_status open_all(folder *f, tern_data **out)
{
    tern_image size;

    TI_TRY(find_files(f));
    TI_TRY(find_size(f, &size));
    if (!f->divided) TI_TRY(keep_part(f));
    if (!f->n)
        return ti_fail(f->ctx, TERN_E_FORMAT, "%.300s: no images for the %s part", f->root,
                       f->at->train ? "train" : "test");
    tern_data *d = *out =
        ti_data_new(f->ctx, TERN_U8, (tern_shape){3, {size.channels, size.height, size.width}},
                    f->n, f->classes.n, NULL);

    if (!d) return tern_error(f->ctx);
    for (int i = 0; i < f->n; i++) TI_TRY(read_image(f, d, i, &size));
    TI_TRY(ti_data_names(f->ctx, d, (const char *const *)f->classes.item, f->classes.n));
    return ti_data_origin(f->ctx, d, "%.500s, %s part%s; %lld of %d images resized to %lldx%lld",
                          f->root, f->at->train ? "train" : "test",
                          f->divided ? "" : " (a tenth of each class is the test part)",
                          (long long)d->source->n_resized, f->n, (long long)size.height,
                          (long long)size.width);
}

tern_data *ti_folder_open(tern_ctx *ctx, const ti_data_place *at)
{
    folder f = {.ctx = ctx, .at = at, .classes = {.ctx = ctx}};
    tern_data *d = NULL;

    if (!(f.train_root = ti_join(ctx, at->folder, "train"))) return NULL;
    f.divided = ti_is_folder(f.train_root);
    if (!f.divided) {
        ti_free(ctx, f.train_root);
        f.train_root = ti_strdup(ctx, at->folder);
    }
    f.root = f.divided ? ti_join(ctx, at->folder, at->train ? "train" : "test")
                       : ti_strdup(ctx, at->folder);
    if (f.root && f.train_root) (void)!open_all(&f, &d);
    for (int i = 0; i < f.n; i++) ti_free(ctx, f.files[i].path);
    ti_free(ctx, f.files);
    list_free(&f.classes);
    ti_free(ctx, f.root);
    ti_free(ctx, f.train_root);
    if (tern_error(ctx) == TERN_OK) return d;
    tern_data_close(ctx, d);
    return NULL;
}
