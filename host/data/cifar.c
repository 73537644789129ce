/*
 * cifar.c - CIFAR-10 and CIFAR-100 in their binary form.
 *
 * A record is one label (CIFAR-100: a coarse one before it, not used), then 32 x 32 bytes of red,
 * of green, of blue.
 */
#include <stdio.h>
#include <string.h>

#include "data/source.h"
#include "tern/io.h"

enum { PLANE = 32 * 32, PIXELS = 3 * PLANE, MOST_FILE = 1 << 28, NAMES = 4096 };

static const char *const files10[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                      "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};
static const char *const files100[] = {"train.bin", "test.bin"};

bool ti_cifar_here(const char *folder, bool hundred)
{
    char path[1200];

    for (int i = 0; i < (hundred ? 2 : 6); i++) {
        snprintf(path, sizeof path, "%.1000s/%s", folder, hundred ? files100[i] : files10[i]);
        if (ti_is_file(path)) return true;
    }
    return false;
}

typedef struct {
    uint8_t *bytes;
    size_t n;
    char path[1200];
} batch;

static tern_status read_batch(tern_ctx *ctx, batch *b, const char *folder, const char *name,
                              size_t record)
{
    snprintf(b->path, sizeof b->path, "%.1000s/%s", folder, name);
    if (!(b->bytes = tern_file_read(ctx, &b->n, b->path, MOST_FILE))) return tern_error(ctx);
    if (b->n == 0 || b->n % record)
        return ti_fail(ctx, TERN_E_FORMAT,
                       "%.300s: truncated: %zu bytes are not a whole number of records of %zu",
                       b->path, b->n, record);
    return TERN_OK;
}

static tern_status add_batch(tern_ctx *ctx, tern_data *d, const batch *b, size_t record,
                             int64_t *at)
{
    for (size_t i = 0; i < b->n / record; i++, ++*at) {
        const uint8_t *x = b->bytes + i * record + (record - PIXELS);
        uint8_t *to = (uint8_t *)d->source->pixels + *at * PIXELS;

        if (x[-1] >= d->source->n_classes)
            return ti_fail(ctx, TERN_E_FORMAT,
                           "%.300s: label of record %zu is %d; 0 to %d are right", b->path, i,
                           x[-1], d->source->n_classes - 1);
        d->source->labels[*at] = x[-1];
        for (int p = 0; p < PLANE; p++)
            for (int c = 0; c < 3; c++) to[3 * p + c] = x[c * PLANE + p];
    }
    return TERN_OK;
}

/* Class names, one a line, from the file that comes with the data; without it there are none. */
static tern_status read_names(tern_ctx *ctx, tern_data *d, const char *folder, bool hundred)
{
    const char *names[100] = {NULL};
    char path[1200], *text, *rest;
    size_t bytes;
    int n = 0;

    snprintf(path, sizeof path, "%.1000s/%s", folder,
             hundred ? "fine_label_names.txt" : "batches.meta.txt");
    if (!ti_is_file(path)) return TERN_OK;
    if (!(text = rest = tern_file_read(ctx, &bytes, path, NAMES))) return tern_error(ctx);
    for (char *line; n < d->source->n_classes && (line = strsep(&rest, "\r\n"));)
        if (*line) names[n++] = line;
    if (n == d->source->n_classes) (void)!ti_data_names(ctx, d, names, n);
    tern_free(ctx, text);
    return tern_error(ctx);
}

static tern_status fill(tern_ctx *ctx, tern_data *d, const batch *batches, int n, size_t record,
                        const ti_data_place *at, bool hundred)
{
    static const tern_norm ten = {3, {0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}};
    static const tern_norm all = {3, {0.5071f, 0.4865f, 0.4409f}, {0.2673f, 0.2564f, 0.2762f}};
    int64_t count = 0;

    for (int i = 0; i < n; i++) TI_TRY(add_batch(ctx, d, &batches[i], record, &count));
    d->norm = hundred ? all : ten;
    TI_TRY(read_names(ctx, d, at->folder, hundred));
    return ti_data_origin(ctx, d, "%s from %.600s, %s part", hundred ? "cifar100" : "cifar10",
                          at->folder, at->train ? "train" : "test");
}

tern_data *ti_cifar_open(tern_ctx *ctx, const ti_data_place *at, bool hundred)
{
    const size_t record = PIXELS + (hundred ? 2 : 1);
    const int first = at->train ? 0 : hundred ? 1 : 5, n = at->train && !hundred ? 5 : 1;
    batch *batches = ti_alloc(ctx, 5 * sizeof *batches);
    tern_data *d = NULL;
    int64_t count = 0;

    if (!batches) return NULL;
    for (int i = 0; i < n && tern_error(ctx) == TERN_OK; i++) {
        const char *name = (hundred ? files100 : files10)[first + i];

        if (read_batch(ctx, &batches[i], at->folder, name, record) == TERN_OK)
            count += (int64_t)(batches[i].n / record);
    }
    if (tern_error(ctx) == TERN_OK)
        d = ti_data_new(ctx, TERN_U8, (tern_shape){3, {3, 32, 32}}, count, hundred ? 100 : 10,
                        NULL);
    if (d) (void)!fill(ctx, d, batches, n, record, at, hundred);
    for (int i = 0; i < n; i++) ti_free(ctx, batches[i].bytes);
    ti_free(ctx, batches);
    if (tern_error(ctx) == TERN_OK) return d;
    tern_data_close(ctx, d);
    return NULL;
}
