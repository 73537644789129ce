/* data.c - data sets: samples, views of them, what can be asked of them. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "data/source.h"
#include "tern/io.h"

enum { MOST_CLASSES = 16384 };

/* ---- sources --------------------------------------------------------------------------------- */

void ti_source_drop(tern_ctx *ctx, ti_source *s)
{
    if (!s || --s->refs > 0) return;
    for (int i = 0; s->names && i < s->n_classes; i++) ti_free(ctx, s->names[i]);
    ti_free(ctx, s->names);
    ti_free(ctx, s->origin);
    ti_free(ctx, s->labels);
    ti_free(ctx, s->pixels);
    ti_free(ctx, s);
}

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_data *d = (tern_data *)object;

    ti_source_drop(ctx, d->source);
    ti_free(ctx, d->index);
}

/* Bytes go to -1 … 1, floats stay. */
static tern_norm default_norm(tern_type type)
{
    tern_norm n = {.channels = 1};

    n.mean[0] = type == TERN_U8 ? 0.5f : 0.0f;
    n.std[0] = type == TERN_U8 ? 0.5f : 1.0f;
    return n;
}

static ti_source *source_new(tern_ctx *ctx, tern_type type, tern_shape sample, int64_t count,
                             int n_classes, tern_sample_fn fn)
{
    const int64_t each = tern_count(sample);
    int64_t bytes;
    char text[160];

    if (count < 0 || n_classes < 1 || n_classes > MOST_CLASSES ||
        (sample.rank != 1 && sample.rank != 3) || each < 1 ||
        __builtin_mul_overflow(each, count, &bytes) ||
        __builtin_mul_overflow(bytes, (int64_t)tern_type_size(type), &bytes) ||
        bytes > PTRDIFF_MAX / 2 || count > PTRDIFF_MAX / 16) {
        ti_fail(ctx, TERN_E_SHAPE, "data: %lld samples of %s in %d classes", (long long)count,
                tern_shape_text(text, sample), n_classes);
        return NULL;
    }
    ti_source *s = ti_alloc(ctx, sizeof *s);

    if (!s) return NULL;
    const bool image = sample.rank == 3;

    *s = (ti_source){.refs = 1,
                     .type = type,
                     .sample = sample,
                     .count = count,
                     .n_classes = n_classes,
                     .fn = fn,
                     .c = sample.dim[0],
                     .h = image ? sample.dim[1] : 1,
                     .w = image ? sample.dim[2] : 1};
    if (fn) return s;
    s->pixels = ti_alloc(ctx, (size_t)bytes);
    s->labels = s->pixels ? ti_alloc(ctx, (size_t)count * sizeof *s->labels) : NULL;
    if (s->labels) return s;
    ti_source_drop(ctx, s);
    return NULL;
}

/* A view with room for count indices; the source gets one more owner. */
static tern_data *view_new(tern_ctx *ctx, ti_source *source, int64_t count)
{
    tern_data *d = ti_object_new(ctx, sizeof *d, end);

    if (!d) return NULL;
    d->source = source;
    source->refs++;
    d->count = count;
    d->norm = default_norm(source->type);
    if ((d->index = ti_alloc(ctx, (size_t)count * sizeof *d->index))) return d;
    ti_object_close(ctx, d);
    return NULL;
}

tern_data *ti_data_new(tern_ctx *ctx, tern_type type, tern_shape sample, int64_t count,
                       int n_classes, tern_sample_fn fn)
{
    ti_source *s = source_new(ctx, type, sample, count, n_classes, fn);
    tern_data *d = s ? view_new(ctx, s, count) : NULL;

    ti_source_drop(ctx, s); /* the view owns it now, if there is one */
    for (int64_t i = 0; d && i < count; i++) d->index[i] = i;
    return d;
}

tern_status ti_data_names(tern_ctx *ctx, tern_data *d, const char *const *names, int count)
{
    ti_source *s = d->source;

    if (!(s->names = ti_alloc(ctx, (size_t)s->n_classes * sizeof *s->names)))
        return tern_error(ctx);
    for (int i = 0; i < count && i < s->n_classes; i++)
        if (!(s->names[i] = ti_strdup(ctx, names[i] ? names[i] : ""))) return tern_error(ctx);
    return TERN_OK;
}

tern_status ti_data_origin(tern_ctx *ctx, tern_data *d, const char *text, ...)
{
    char line[1024];
    va_list args;

    va_start(args, text);
    vsnprintf(line, sizeof line, text, args);
    va_end(args);
    d->source->origin = ti_strdup(ctx, line);
    return tern_error(ctx);
}

/* ---- from memory ----------------------------------------------------------------------------- */

/* Row-major [N,C,H,W] into [N][H][W][C]. */
static void lay_channels_last(ti_source *s, const void *x)
{
    const size_t size = tern_type_size(s->type);
    const int64_t plane = s->h * s->w;
    char *to = s->pixels;

    if (s->c == 1 || plane == 1) {
        memcpy(to, x, (size_t)(s->count * s->c * plane) * size);
        return;
    }
    for (int64_t n = 0; n < s->count; n++)
        for (int64_t c = 0; c < s->c; c++)
            for (int64_t p = 0; p < plane; p++)
                memcpy(to + (size_t)((n * plane + p) * s->c + c) * size,
                       (const char *)x + (size_t)((n * s->c + c) * plane + p) * size, size);
}

tern_data *tern_data_from_arrays(tern_ctx *ctx, tern_type type, const void *x, tern_shape shape,
                                 const int64_t *labels, int n_classes, const char *const *names)
{
    tern_shape sample = {.rank = shape.rank - 1};
    tern_data *d;
    char text[160];

    if (!ti_ready(ctx, x && labels, "data_from_arrays")) return NULL;
    if ((type != TERN_U8 && type != TERN_F32) || (shape.rank != 2 && shape.rank != 4) ||
        tern_count(shape) < 1) {
        ti_fail(ctx, TERN_E_ARGUMENT,
                "data_from_arrays: %s %s; u8 or f32, [N,C,H,W] or [N,D], not empty",
                tern_type_name(type),
                shape.rank < 0 || shape.rank > TERN_RANK ? "?" : tern_shape_text(text, shape));
        return NULL;
    }
    for (int64_t i = 0; i < shape.dim[0]; i++)
        if (labels[i] < 0 || labels[i] >= n_classes) {
            ti_fail(ctx, TERN_E_VALUE, "data_from_arrays: label %lld of sample %lld; 0 to %d",
                    (long long)labels[i], (long long)i, n_classes - 1);
            return NULL;
        }
    memcpy(sample.dim, shape.dim + 1, (size_t)sample.rank * sizeof *sample.dim);
    if (!(d = ti_data_new(ctx, type, sample, shape.dim[0], n_classes, NULL))) return NULL;
    lay_channels_last(d->source, x);
    memcpy(d->source->labels, labels, (size_t)shape.dim[0] * sizeof *labels);
    if (ti_data_origin(ctx, d, "arrays in memory") == TERN_OK &&
        (!names || ti_data_names(ctx, d, names, n_classes) == TERN_OK))
        return d;
    tern_data_close(ctx, d);
    return NULL;
}

tern_data *tern_data_from_function(tern_ctx *ctx, tern_shape sample, int64_t count, int n_classes,
                                   tern_sample_fn fn, void *user)
{
    tern_data *d;

    if (!ti_ready(ctx, fn, "data_from_function")) return NULL;
    if (!(d = ti_data_new(ctx, TERN_F32, sample, count, n_classes, fn))) return NULL;
    d->source->user = user;
    if (ti_data_origin(ctx, d, "a function") == TERN_OK) return d;
    tern_data_close(ctx, d);
    return NULL;
}

/* ---- views ----------------------------------------------------------------------------------- */

tern_data *tern_data_subset(tern_ctx *ctx, const tern_data *data, const int64_t *index, int64_t n)
{
    tern_data *d;

    if (!ti_ready(ctx, data && (index || n == 0), "data_subset")) return NULL;
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= data->count) {
            ti_fail(ctx, TERN_E_ARGUMENT, "data_subset: index %lld in data of %lld samples",
                    (long long)index[i], (long long)data->count);
            return NULL;
        }
    if (n < 0 || n > PTRDIFF_MAX / 16) {
        ti_fail(ctx, TERN_E_ARGUMENT, "data_subset: %lld samples", (long long)n);
        return NULL;
    }
    if (!(d = view_new(ctx, data->source, n))) return NULL;
    for (int64_t i = 0; i < n; i++) d->index[i] = data->index[index[i]];
    d->norm = data->norm;
    return d;
}

/* Labels of a view, in its order; NULL and no error: from a function. */
static int64_t *labels_of(tern_ctx *ctx, const tern_data *d)
{
    int64_t *labels = d->source->labels ? ti_alloc(ctx, (size_t)d->count * sizeof *labels) : NULL;

    for (int64_t i = 0; labels && i < d->count; i++) labels[i] = d->source->labels[d->index[i]];
    return labels;
}

tern_data *tern_data_split(tern_ctx *ctx, tern_data *data, int64_t n)
{
    int64_t *labels, kept = 0, k = 0;
    tern_data *part = NULL;
    bool *taken;

    if (!ti_ready(ctx, data, "data_split")) return NULL;
    if (n < 1 || n >= data->count) {
        ti_fail(ctx, TERN_E_ARGUMENT, "data_split: %lld of %lld samples; at least one must stay",
                (long long)n, (long long)data->count);
        return NULL;
    }
    labels = labels_of(ctx, data);
    taken = tern_error(ctx) ? NULL : ti_alloc(ctx, (size_t)data->count);
    if (taken && ti_stratify(ctx, taken, labels, data->count, data->source->n_classes, n,
                             tern_seed(ctx)) == TERN_OK)
        part = view_new(ctx, data->source, n);
    if (part) {
        part->norm = data->norm;
        for (int64_t i = 0; i < data->count; i++) {
            if (taken[i]) part->index[k++] = data->index[i];
            else data->index[kept++] = data->index[i];
        }
        data->count = kept;
    }
    ti_free(ctx, labels);
    ti_free(ctx, taken);
    return part;
}

void tern_data_close(tern_ctx *ctx, tern_data *data) { ti_object_close(ctx, data); }

/* ---- what it holds --------------------------------------------------------------------------- */

int64_t tern_data_count(const tern_data *d) { return d ? d->count : 0; }
tern_shape tern_data_shape(const tern_data *d) { return d ? d->source->sample : (tern_shape){0}; }
int tern_data_classes(const tern_data *d) { return d ? d->source->n_classes : 0; }
const char *tern_data_origin(const tern_data *d) { return d ? d->source->origin : ""; }
bool tern_data_synthetic(const tern_data *d) { return d && d->source->synthetic; }
int64_t tern_data_resized(const tern_data *d) { return d ? d->source->n_resized : 0; }

const char *tern_data_class_name(const tern_data *d, int i)
{
    if (!d || i < 0 || i >= d->source->n_classes) return "";
    if (d->source->names && d->source->names[i]) return d->source->names[i];
    snprintf(((tern_data *)d)->number, sizeof d->number, "%d", i);
    return d->number;
}

int64_t tern_data_label(const tern_data *d, int64_t i)
{
    return d && d->source->labels && i >= 0 && i < d->count ? d->source->labels[d->index[i]] : -1;
}

const uint8_t *tern_data_pixels(const tern_data *d, int64_t i)
{
    if (!d || d->source->type != TERN_U8 || i < 0 || i >= d->count) return NULL;
    return (const uint8_t *)d->source->pixels + d->index[i] * tern_count(d->source->sample);
}

const char *tern_data_hash(tern_ctx *ctx, tern_data *d)
{
    tern_hash *h;
    const char *text;

    if (!ti_ready(ctx, d, "data_hash") || d->source->fn || !(h = tern_hash_open(ctx))) return "";
    const ti_source *s = d->source;
    const size_t bytes = (size_t)tern_count(s->sample) * tern_type_size(s->type);

    for (int64_t i = 0; i < d->count; i++) {
        tern_hash_add(h, (const char *)s->pixels + (size_t)d->index[i] * bytes, bytes);
        tern_hash_add(h, &s->labels[d->index[i]], sizeof *s->labels);
    }
    text = tern_hash_text(h);
    snprintf(d->hash, sizeof d->hash, "%s", text ? text : "");
    tern_hash_close(ctx, h);
    return d->hash;
}

/* ---- standardisation ------------------------------------------------------------------------- */

tern_norm tern_data_norm(const tern_data *d) { return d ? d->norm : (tern_norm){0}; }

tern_status tern_data_norm_set(tern_ctx *ctx, tern_data *d, const tern_norm *norm)
{
    if (!ti_ready(ctx, d && norm, "data_norm_set")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (norm->channels < 1 || norm->channels > TERN_CHANNELS)
        return ti_fail(ctx, TERN_E_ARGUMENT, "data_norm_set: %d channels; 1 to %d", norm->channels,
                       TERN_CHANNELS);
    for (int i = 0; i < norm->channels; i++)
        if (!(norm->std[i] > 0) || norm->std[i] > 1e30f || !(norm->mean[i] > -1e30f) ||
            norm->mean[i] > 1e30f)
            return ti_fail(ctx, TERN_E_VALUE, "data_norm_set: channel %d: mean %g, std %g", i,
                           (double)norm->mean[i], (double)norm->std[i]);
    d->norm = *norm;
    return TERN_OK;
}

/* Newton's iteration for the root of x ≥ 0: plain arithmetic, the same bits everywhere. */
static double root(double x)
{
    double y = x > 1 ? x : 1;

    for (int i = 0; i < 200 && x > 0; i++) {
        const double z = (y + x / y) / 2;

        if (z >= y) break;
        y = z;
    }
    return x > 0 ? y : 0;
}

/* Over all pixels of channel c: the sum of x - mean, or of its square. */
static double sum_of(const tern_data *d, int64_t c, double mean, bool squares)
{
    const ti_source *s = d->source;
    const int64_t each = tern_count(s->sample);
    double sum = 0;

    for (int64_t i = 0; i < d->count; i++) {
        const int64_t at = d->index[i] * each;

        for (int64_t k = at + c; k < at + each; k += s->c) {
            const double x =
                (s->type == TERN_U8 ? ((uint8_t *)s->pixels)[k] : ((float *)s->pixels)[k]) - mean;

            sum += squares ? x * x : x;
        }
    }
    return sum;
}

tern_status tern_data_standardise(tern_ctx *ctx, tern_data *d)
{
    tern_norm norm = {0};

    if (!ti_ready(ctx, d, "data_standardise")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    const ti_source *s = d->source;
    const int64_t each = tern_count(s->sample);

    if (s->fn || s->c > TERN_CHANNELS || d->count < 1)
        return ti_fail(
            ctx, TERN_E_ARGUMENT, "data_standardise: %lld samples of %lld channels (at most %d)%s",
            (long long)d->count, (long long)s->c, TERN_CHANNELS, s->fn ? " from a function" : "");
    norm.channels = (int)s->c;
    for (int c = 0; c < norm.channels; c++) {
        const double n = (double)d->count * (double)(each / s->c);
        const double scale = s->type == TERN_U8 ? 255 : 1;
        const double mean = sum_of(d, c, 0, false) / n;
        const double std = root(sum_of(d, c, mean, true) / n) / scale;

        norm.mean[c] = (float)(mean / scale);
        norm.std[c] = std > 1e-6 ? (float)std : 1; /* a constant channel becomes zeros */
    }
    return tern_data_norm_set(ctx, d, &norm);
}
