/* predict.c - the verb `predict`: likeliest classes of images (PNG, JPEG) and arrays (npy, IDX). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/verbs.h"

enum { MOST_TOP = 1000 };

typedef struct {
    cli *c;
    run_net run;
    int top;
    bool csv;
    json js;
    int64_t n; /* images so far */
} oracle;

static bool ends(const char *text, const char *with)
{
    const size_t n = strlen(text), m = strlen(with);

    return n >= m && strcmp(text + n - m, with) == 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* [H][W][C] bytes to [C][H][W]. */
static void to_planes(uint8_t *to, const tern_image *image)
{
    const int64_t plane = image->height * image->width;

    for (int64_t i = 0; i < plane; i++)
        for (int64_t ch = 0; ch < image->channels; ch++)
            to[ch * plane + i] = image->pixels[i * image->channels + ch];
}

static tern_data *from_image(oracle *o, const char *file)
{
    tern_ctx *ctx = o->run.ctx;
    const tern_model_opts *size = &o->run.size;
    const int channels = size->channels == 1 ? 1 : 3;
    tern_image raw = {0}, fit = {0};
    tern_data *data = NULL;
    uint8_t *planes = NULL;

    if (tern_image_read(ctx, &raw, file, channels) != TERN_OK) return NULL;
    if (raw.height != size->height || raw.width != size->width) {
        warn("%s is %lld×%lld; made %lld×%lld %s as in training", file, (long long)raw.width,
             (long long)raw.height, (long long)size->width, (long long)size->height,
             channels == 1 ? "grey" : "colour");
        if (tern_image_resize(ctx, &fit, &raw, size->height, size->width) != TERN_OK) goto out;
    } else {
        fit = raw;
        raw.pixels = NULL;
    }
    planes = cli_alloc((size_t)(fit.height * fit.width * fit.channels));
    to_planes(planes, &fit);
    data = tern_data_from_arrays(ctx, TERN_U8, planes,
                                 (tern_shape){4, {1, fit.channels, fit.height, fit.width}},
                                 (int64_t[]){0}, o->run.n_names, NULL);
out:
    free(planes);
    tern_free(ctx, raw.pixels);
    tern_free(ctx, fit.pixels);
    return data;
}

/* Any of [H,W], [C,H,W], [N,H,W] (of grey nets), [N,C,H,W], [D], [N,D]. */
static bool as_batch(const tern_model_opts *size, tern_shape s, tern_shape *batch)
{
    const int64_t all = size->channels * size->height * size->width, count = tern_count(s);
    const bool image =
        s.rank >= 2 && s.dim[s.rank - 1] == size->width && s.dim[s.rank - 2] == size->height &&
        (size->channels == 1 || (s.rank >= 3 && s.dim[s.rank - 3] == size->channels));
    const bool flat = s.rank >= 1 && s.rank <= 2 && s.dim[s.rank - 1] == all;

    if ((!image && !flat) || count <= 0 || count % all != 0) return false;
    *batch = (tern_shape){4, {count / all, size->channels, size->height, size->width}};
    return true;
}

/* The array as u8 or f32; *free_it is to be freed where it had to be converted. */
static const void *usable(const tern_array *a, tern_type *type, float **converted)
{
    const int64_t n = tern_count(a->shape);

    *type = a->type == TERN_U8 ? TERN_U8 : TERN_F32;
    if (a->type == TERN_U8 || a->type == TERN_F32) return a->data;
    if (a->type != TERN_F64) return NULL;
    *converted = cli_alloc((size_t)n * sizeof **converted);
    for (int64_t i = 0; i < n; i++) (*converted)[i] = (float)((const double *)a->data)[i];
    return *converted;
}

static tern_data *from_array(oracle *o, const char *file)
{
    tern_ctx *ctx = o->run.ctx;
    const tern_model_opts *size = &o->run.size;
    tern_array a = {0};
    tern_data *data = NULL;
    float *converted = NULL;
    int64_t *zeros = NULL;
    tern_shape batch;
    tern_type type;
    const void *x;
    char shape[160];

    if ((ends(file, ".npy") ? tern_npy_read(ctx, &a, file) : tern_idx_read(ctx, &a, file)) !=
        TERN_OK)
        return NULL;
    x = usable(&a, &type, &converted);
    if (!x || !as_batch(size, a.shape, &batch)) {
        tern_fail(ctx, TERN_E_SHAPE, "%s: %s%s is no image of %lldx%lldx%lld (u8, f32 or f64)",
                  file, tern_type_name(a.type), tern_shape_text(shape, a.shape),
                  (long long)size->channels, (long long)size->height, (long long)size->width);
    } else {
        zeros = cli_alloc((size_t)batch.dim[0] * sizeof *zeros);
        data = tern_data_from_arrays(ctx, type, x, batch, zeros, o->run.n_names, NULL);
    }
    free(zeros);
    free(converted);
    tern_free(ctx, a.data);
    return data;
}

/* ---- answering ------------------------------------------------------------------------------- */

static void csv_field(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        result("%s", text);
        return;
    }
    result("\"");
    for (; *text; text++) result(*text == '"' ? "\"\"" : "%c", *text);
    result("\"");
}

static void answer(oracle *o, const char *name, const float *p)
{
    int order[MOST_TOP];
    const int n = o->run.n_names, top = o->top < n ? o->top : n;

    for (int k = 0; k < top; k++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            bool used = false;
            for (int m = 0; m < k; m++) used = used || order[m] == i;
            if (!used && (best < 0 || p[i] > p[best])) best = i;
        }
        order[k] = best;
    }
    o->n++;
    if (out.json) {
        json_open(&o->js, NULL, '{');
        json_text(&o->js, "file", name);
        json_open(&o->js, "classes", '[');
        for (int k = 0; k < top; k++) {
            json_open(&o->js, NULL, '{');
            json_text(&o->js, "name", o->run.names[order[k]]);
            json_int(&o->js, "index", order[k]);
            json_real(&o->js, "probability", (double)p[order[k]]);
            json_close(&o->js, '}');
        }
        json_close(&o->js, ']');
        json_close(&o->js, '}');
        return;
    }
    for (int k = 0; k < top && o->csv; k++) {
        csv_field(name);
        result(",%d,", k + 1);
        csv_field(o->run.names[order[k]]);
        result(",%.6f\n", (double)p[order[k]]);
    }
    if (o->csv) return;
    result("%s", name);
    for (int k = 0; k < top; k++)
        result("   %s %.1f%%", o->run.names[order[k]], 100 * (double)p[order[k]]);
    result("\n");
}

static tern_status answer_batch(oracle *o, const char *file, const tern_batch *b, int64_t all)
{
    tern_ctx *ctx = o->run.ctx;
    const int n = o->run.n_names;
    tern_tensor *y =
        tern_softmax(ctx, tern_forward(ctx, o->run.net, b->in[0]), &(tern_axis_opts){.axis = 1});
    float *p;

    if (!y) return tern_error(ctx);
    if (tern_count(tern_shape_of(y)) != b->count * n)
        return tern_fail(ctx, TERN_E_SHAPE,
                         "the network gives other classes than the run has names");
    p = cli_alloc((size_t)(b->count * n) * sizeof *p);
    if (tern_to_host(ctx, p, y) == TERN_OK)
        for (int64_t i = 0; i < b->count; i++) {
            char *name =
                all == 1 ? cli_copy(file) : cli_format("%s[%lld]", file, (long long)b->sample[i]);
            answer(o, name, p + i * n);
            free(name);
        }
    free(p);
    return tern_error(ctx);
}

static tern_status predict_file(oracle *o, const char *file)
{
    tern_ctx *ctx = o->run.ctx;
    const bool image = ends(file, ".png") || ends(file, ".jpg") || ends(file, ".jpeg") ||
                       ends(file, ".PNG") || ends(file, ".JPG") || ends(file, ".JPEG");
    tern_data *data = image ? from_image(o, file) : from_array(o, file);
    tern_loader *load;
    tern_batch b;

    if (!data || tern_data_norm_set(ctx, data, &o->run.norm) != TERN_OK) return tern_error(ctx);
    load = tern_loader_open(
        ctx, data, &(tern_loader_opts){.batch = 100, .in_order = true, .no_prefetch = true});
    tern_no_grad_begin(ctx);
    while (load && tern_loader_next(ctx, &b, load)) {
        tern_frame_begin(ctx);
        (void)!answer_batch(o, file, &b, tern_data_count(data));
        tern_frame_end(ctx);
        if (tern_error(ctx) != TERN_OK) break;
    }
    tern_no_grad_end(ctx);
    tern_loader_close(ctx, load);
    tern_data_close(ctx, data);
    return tern_error(ctx);
}

/* One file; those that cannot be read are told and do not keep the others from being answered. */
static bool try_file(oracle *o, const char *file)
{
    if (predict_file(o, file) == TERN_OK) return true;
    error("%s", tern_error_text(o->run.ctx));
    tern_error_clear(o->run.ctx);
    return false;
}

static bool from_stdin(oracle *o)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t n;
    bool ok = true;

    while ((n = getline(&line, &room, stdin)) > 0) {
        if (line[n - 1] == '\n') line[--n] = '\0';
        if (n > 0) ok = try_file(o, line) && ok;
    }
    free(line);
    return ok;
}

static int predict_all(oracle *o)
{
    cli *c = o->c;
    bool ok = true;
    char *text;

    if (o->csv) result("file,rank,class,probability\n");
    if (out.json) {
        json_open(&o->js, NULL, '{');
        json_text(&o->js, "schema", "tern.predict/1");
        json_text(&o->js, "run", c->arg[0]);
        json_open(&o->js, "images", '[');
    }
    for (int i = 1; i < c->n_arg; i++)
        ok = (strcmp(c->arg[i], "-") == 0 ? from_stdin(o) : try_file(o, c->arg[i])) && ok;
    if (out.json) {
        json_close(&o->js, ']');
        json_int(&o->js, "count", o->n);
        json_close(&o->js, '}');
        text = json_take(&o->js);
        result("%s", text);
        free(text);
    }
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int verb_predict(cli *c)
{
    oracle o = {
        .c = c, .top = (int)cli_int(c, "top"), .csv = strcmp(cli_text(c, "format"), "csv") == 0};
    int status;

    if (c->n_arg < 2) return usage_error(c, "predict takes a run and at least one file (or -)");
    if (o.csv && out.json) return usage_error(c, "--json and --format csv exclude each other");
    status = run_open(c, &o.run, c->arg[0]);
    if (status == EXIT_DONE) status = predict_all(&o);
    status = session_close(o.run.ctx, status);
    run_close(&o.run);
    return status;
}
