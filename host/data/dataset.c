/* dataset.c - data sets by name: where they are looked for, and who reads them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "core/core.h"
#include "data/source.h"

/* ---- places ---------------------------------------------------------------------------------- */

char *ti_join(tern_ctx *ctx, const char *folder, const char *name)
{
    const size_t n = strlen(folder);
    char *path = ti_alloc(ctx, n + strlen(name) + 2);

    if (path) sprintf(path, "%s%s%s", folder, *name && n && folder[n - 1] != '/' ? "/" : "", name);
    return path;
}

bool ti_is_folder(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool ti_is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

typedef enum { IDX, CIFAR10, CIFAR100 } kind;

typedef struct {
    const char *name;
    kind kind;
    const char *subfolders[5]; /* of a data folder, as various programs name them; NULL ends */
    const char *files;         /* for the message when it is missing */
} set;

static const set sets[] = {
    {"fashion-mnist",
     IDX,
     {"", "fashion-mnist", "FashionMNIST/raw"},
     "train-images-idx3-ubyte (47040016 bytes), train-labels-idx1-ubyte (60008), "
     "t10k-images-idx3-ubyte (7840016), t10k-labels-idx1-ubyte (10008), or each with .gz"},
    {"mnist",
     IDX,
     {"", "mnist", "MNIST/raw"},
     "train-images-idx3-ubyte (47040016 bytes), train-labels-idx1-ubyte (60008), "
     "t10k-images-idx3-ubyte (7840016), t10k-labels-idx1-ubyte (10008), or each with .gz"},
    {"cifar10",
     CIFAR10,
     {"", "cifar10", "cifar-10-batches-bin"},
     "data_batch_1.bin to data_batch_5.bin and test_batch.bin (30730000 bytes each)"},
    {"cifar100",
     CIFAR100,
     {"", "cifar100", "cifar-100-binary"},
     "train.bin (153700000 bytes) and test.bin (30740000)"},
};

static bool is_here(const set *s, const char *folder)
{
    return s->kind == IDX ? ti_idx_here(folder) : ti_cifar_here(folder, s->kind == CIFAR100);
}

/* The folder of s at or below `top`, from ti_alloc; NULL: not there, or no memory. */
static char *find_below(tern_ctx *ctx, const set *s, const char *top)
{
    for (int i = 0; s->subfolders[i]; i++) {
        char *folder = ti_join(ctx, top, s->subfolders[i]);

        if (!folder) return NULL;
        if (is_here(s, folder)) return folder;
        ti_free(ctx, folder);
    }
    return NULL;
}

/* One folder more that was looked at: found there, or noted in `looked`. */
static char *look(tern_ctx *ctx, const set *s, char *looked, size_t room, const char *top,
                  const char *tail)
{
    char folder[800];
    const size_t n = strlen(looked);

    if (!top || !*top) return NULL;
    snprintf(folder, sizeof folder, "%s%s", top, tail);
    if (n + 3 < room) snprintf(looked + n, room - n, "%s%s", n ? ", " : "", folder);
    return find_below(ctx, s, folder);
}

/* The places in their order; quickstart looks in the same. */
static char *find(tern_ctx *ctx, const set *s, const char *path, char *looked, size_t room)
{
    const char *home = ti_env_get("HOME"), *xdg = ti_env_get("XDG_DATA_HOME");
    char paths[sizeof ctx->env.data_path], *rest = paths, *folder = NULL, tail[64];

    if (path) return look(ctx, s, looked, room, path, "");
    strcpy(paths, ctx->env.data_path);
    for (char *top; !folder && (top = strsep(&rest, ":"));)
        folder = look(ctx, s, looked, room, top, "");
    if (!folder) folder = look(ctx, s, looked, room, "data", "");
    if (!folder) folder = look(ctx, s, looked, room, home, "/data");
    snprintf(tail, sizeof tail, "%s/tern", xdg && *xdg ? "" : "/.local/share");
    if (!folder) folder = look(ctx, s, looked, room, xdg && *xdg ? xdg : home, tail);
    if (!folder) folder = look(ctx, s, looked, room, "/usr/share/datasets", "");
    if (!folder) folder = look(ctx, s, looked, room, home, "/.keras/datasets");
    return folder;
}

/* ---- opening --------------------------------------------------------------------------------- */

static tern_data *open_set(tern_ctx *ctx, const set *s, const ti_data_place *at)
{
    return s->kind == IDX ? ti_idx_open(ctx, at) : ti_cifar_open(ctx, at, s->kind == CIFAR100);
}

static tern_data *open_named(tern_ctx *ctx, const set *s, bool train, const tern_data_opts *opts)
{
    char looked[900] = "";
    char *folder = find(ctx, s, opts->path, looked, sizeof looked);
    tern_data *data = NULL;

    if (folder) data = open_set(ctx, s, &(ti_data_place){folder, s->name, train, opts});
    else if (tern_error(ctx) == TERN_OK)
        ti_fail(ctx, TERN_E_IO, "%s is not on this machine: %s. Looked in %s", s->name, s->files,
                looked);
    ti_free(ctx, folder);
    return data;
}

/* A folder: of files of a known kind, else of images. */
static tern_data *open_folder(tern_ctx *ctx, const char *folder, bool train,
                              const tern_data_opts *opts)
{
    const ti_data_place at = {folder, "", train, opts};

    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (is_here(&sets[i], folder)) return open_set(ctx, &sets[i], &at);
    return ti_folder_open(ctx, &at);
}

tern_data *tern_dataset_open(tern_ctx *ctx, const char *name, const char *part,
                             const tern_data_opts *opts)
{
    static const tern_data_opts none;

    if (!ti_ready(ctx, name && part, "dataset")) return NULL;
    if (!opts) opts = &none;
    const bool train = strcmp(part, "train") == 0;

    if (!train && strcmp(part, "test") != 0) {
        ti_fail(ctx, TERN_E_ARGUMENT, "dataset %.100s: part \"%.40s\"; \"train\" or \"test\"", name,
                part);
        return NULL;
    }
    if (opts->height < 0 || opts->width < 0 || !opts->height != !opts->width || opts->count < 0 ||
        (opts->channels != 0 && opts->channels != 1 && opts->channels != 3)) {
        ti_fail(ctx, TERN_E_ARGUMENT,
                "dataset %.100s: resize to %lld x %lld, %d channels, %lld samples", name,
                (long long)opts->height, (long long)opts->width, opts->channels,
                (long long)opts->count);
        return NULL;
    }
    if (strcmp(name, "shapes") == 0) return ti_shapes_open(ctx, train, opts);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(name, sets[i].name) == 0) return open_named(ctx, &sets[i], train, opts);
    if (ti_is_folder(name)) return open_folder(ctx, name, train, opts);
    ti_fail(ctx, TERN_E_IO,
            "data set %.200s: neither a folder nor one of fashion-mnist, mnist, cifar10, cifar100, "
            "shapes",
            name);
    return NULL;
}

tern_data *tern_dataset(tern_ctx *ctx, const char *name, const char *part)
{
    return tern_dataset_open(ctx, name, part, NULL);
}
