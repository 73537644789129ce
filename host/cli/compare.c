/*
 * compare.c - the verb `compare`: training steps of a net on other devices, call by call, against
 * double. The net is made, traced and computed on the device `ref`.
 */
#include "cli/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/out.h"
#include "cli/verbs.h"

/* ---- What the results say -------------------------------------------------------------------- */

says tensor_says(const comparison *k, int i)
{
    const tensor_result *r = &k->tensor[i];
    says what = SAYS_EQUAL;

    for (int s = 0; s < k->n_side; s++) {
        const tern_distance *d = &r->side[s].d;
        const says one = d->n_beyond        ? SAYS_OUTSIDE
                         : d->missing       ? SAYS_MISSING
                         : d->n_unequal > 0 ? SAYS_OK
                                            : SAYS_EQUAL;
        if (one > what) what = one;
    }
    return what;
}

int first_outside(const comparison *k)
{
    int first = -1;

    for (int i = 0; i < k->n; i++)
        if (k->tensor[i].failed_at &&
            (first < 0 || k->tensor[i].failed_at < k->tensor[first].failed_at))
            first = i;
    return first;
}

int count_says(const comparison *k, says what)
{
    int n = 0;

    for (int i = 0; i < k->n; i++) n += tensor_says(k, i) == what;
    return n;
}

int compare_status(const comparison *k)
{
    if (first_outside(k) >= 0) return EXIT_BOUND;
    if (count_says(k, SAYS_MISSING) == 0) return EXIT_DONE;
    return EXIT_FAILED;
}

/* ---- The step -------------------------------------------------------------------------------- */

static tern_status step(tern_ctx *ctx, tern_tensor **result_of, tern_tensor **in, void *user)
{
    comparison *k = user;
    const tern_cross_entropy_opts o = {.smoothing = cli_real(k->c, "smoothing")};

    result_of[0] = tern_cross_entropy(ctx, tern_forward(ctx, k->run.net, in[0]), in[1], NULL, &o);
    if (!result_of[0] || tern_backward(ctx, result_of[0], k->run.net) != TERN_OK)
        return tern_error(ctx);
    return tern_optim_step(ctx, k->opt);
}

/* Images from a standard normal and any labels, the same for every device and machine. */
static tern_status make_batch(comparison *k, int64_t number, tern_tensor **in)
{
    tern_ctx *ctx = k->run.ctx;
    const tern_model_opts *size = &k->run.size;
    const int64_t dim[] = {k->batch, size->channels, size->height, size->width};
    tern_random_opts o = {.seed = (int64_t)tern_seed(ctx),
                          .purpose = tern_purpose("compare.images"),
                          .rank = 4,
                          .type = TERN_F32,
                          .a = 0,
                          .b = 1};
    tern_tensor *counter = tern_from_host(ctx, TERN_I64, &number, (tern_shape){0});
    double *u = cli_alloc((size_t)k->batch * sizeof *u);
    int64_t *label = cli_alloc((size_t)k->batch * sizeof *label);

    memcpy(o.dim, dim, sizeof dim);
    in[0] = tern_channels_last(ctx, tern_normal(ctx, counter, &o));
    o = (tern_random_opts){.seed = o.seed,
                           .purpose = tern_purpose("compare.labels"),
                           .rank = 1,
                           .dim = {k->batch},
                           .type = TERN_F64,
                           .a = 0,
                           .b = 1};
    if (tern_to_doubles(ctx, u, tern_uniform(ctx, counter, &o)) == TERN_OK) {
        for (int64_t i = 0; i < k->batch; i++) label[i] = (int64_t)(u[i] * (double)size->classes);
        in[1] = tern_from_host(ctx, TERN_I64, label, (tern_shape){1, {k->batch}});
    }
    free(u);
    free(label);
    return tern_error(ctx);
}

/* in: images, labels, NULL; they belong to the frame or to the loader. */
static tern_status next_batch(comparison *k, int64_t number, tern_tensor **in)
{
    tern_batch b;

    if (!k->loader) return make_batch(k, number, in);
    /* past the last batch the loader begins again */
    if (!tern_loader_next(k->run.ctx, &b, k->loader) && tern_error(k->run.ctx) == TERN_OK &&
        !tern_loader_next(k->run.ctx, &b, k->loader))
        return tern_fail(k->run.ctx, TERN_E_ARGUMENT, "no batch of %lld images",
                         (long long)k->batch);
    if (tern_error(k->run.ctx) == TERN_OK) memcpy(in, b.in, sizeof b.in);
    return tern_error(k->run.ctx);
}

static void show(void *user, int done, int all)
{
    const comparison *k = user;
    char line[80];

    if (out.quiet || out.show != SHOW_TTY) return;
    snprintf(line, sizeof line, "call %d of %d", done, all);
    redraw(done == all || k->n == 0 ? "" : line);
}

/* Keeps, for each tensor and side, the step in which it was farthest off. */
static void take_results(comparison *k, int64_t number)
{
    for (int i = 0; i < k->n; i++)
        for (int s = 0; s < k->n_side; s++) {
            side_result *r = &k->tensor[i].side[s];
            tern_distance d;

            if (!tern_compare_distance(k->compare, i, s, &d)) continue;
            if (d.n_beyond && !k->tensor[i].failed_at) k->tensor[i].failed_at = number;
            if (r->step && !(d.share > r->d.share)) continue;
            r->d = d;
            if (d.missing) r->d.missing = cli_keep(cli_copy(d.missing));
            r->step = number;
        }
}

static tern_status run_steps(comparison *k)
{
    tern_ctx *ctx = k->run.ctx;

    for (int64_t number = 1; number <= k->steps && tern_error(ctx) == TERN_OK; number++) {
        tern_tensor *in[3] = {NULL};

        tern_frame_begin(ctx);
        if (next_batch(k, number, in) == TERN_OK &&
            tern_compare_step(ctx, k->compare, in, show, k) == TERN_OK)
            take_results(k, number);
        tern_frame_end(ctx);
    }
    redraw("");
    return tern_error(ctx);
}

/* Traces the step; the list of its tensors is known before anything is computed. */
static tern_status trace(comparison *k)
{
    tern_ctx *ctx = k->run.ctx;
    tern_tensor *in[3] = {NULL};

    tern_mode(ctx, TERN_TRAIN);
    tern_frame_begin(ctx);
    if (next_batch(k, 0, in) == TERN_OK)
        k->compare =
            tern_compare_open(ctx, step, k, in, k->n_side, k->side, cli_flag(k->c, "fused"));
    tern_frame_end(ctx);
    if (!k->compare) return tern_error(ctx);
    while (tern_compare_at(k->compare, k->n, NULL)) k->n++;
    k->tensor = cli_alloc((size_t)k->n * sizeof *k->tensor);
    for (int i = 0; i < k->n; i++) (void)tern_compare_at(k->compare, i, &k->tensor[i].t);
    if (k->loader) return tern_loader_seek(ctx, k->loader, (tern_position){0, 0});
    return tern_error(ctx);
}

/* ---- Devices, net, data ---------------------------------------------------------------------- */

/* Roundings of a math mode are calls of the step, except where a device's kernel does them. */
static int open_side(comparison *k, const char *name)
{
    tern_ctx **side = &k->side[k->n_side++];

    if (tern_open(side, name) == TERN_OK &&
        tern_math_set(*side, tern_math(k->run.ctx)) == TERN_OK &&
        (!cli_given(k->c, "threads") ||
         tern_threads_set(*side, (int)cli_int(k->c, "threads")) == TERN_OK))
        return EXIT_DONE;
    error("--devices %s: %s", name, *side ? tern_error_text(*side) : "out of memory");
    hint("tern devices shows what there is");
    tern_error_clear(*side);
    return EXIT_FAILED;
}

static int open_sides(comparison *k)
{
    char *list = cli_copy(cli_text(k->c, "devices")), *rest = list, *name;
    int status = EXIT_DONE;

    while (status == EXIT_DONE && (name = strsep(&rest, ",")) != NULL) {
        if (!*name) status = usage_error(k->c, "--devices %s: a name is empty", rest ? rest : "");
        else if (strcmp(name, "null") == 0)
            status = usage_error(k->c, "--devices null: that device computes nothing");
        else if (k->n_side == SIDES)
            status = usage_error(k->c, "--devices: at most %d at once", SIDES);
        else status = open_side(k, name);
    }
    free(list);
    return status;
}

static int open_model(comparison *k)
{
    const char *model = cli_text(k->c, "model");
    tern_model_opts how;
    int status;

    if (!net_size(k->c, &how)) return EXIT_USAGE;
    k->run.ctx = session_open(k->c);
    if (!k->run.ctx) return EXIT_FAILED;
    k->run.net = net_open(k->run.ctx, model, &how, &k->run.size, &status);
    k->subject = model;
    return k->run.net ? EXIT_DONE : status;
}

/* Images of --data (a run has one): its test part, in order. Without: made ones. */
static tern_status open_data(comparison *k)
{
    tern_ctx *ctx = k->run.ctx;
    const tern_loader_opts how = {
        .batch = k->batch, .in_order = true, .drop_last = true, .no_prefetch = true};

    k->input = "made images";
    if (!cli_given(k->c, "data")) return TERN_OK;
    k->input = data_name(k->c);
    k->data = data_open(k->c, ctx, "test", &k->run.size);
    if (!k->data) return tern_error(ctx);
    if (k->run.norm.channels && tern_data_norm_set(ctx, k->data, &k->run.norm) != TERN_OK)
        return tern_error(ctx);
    if (tern_data_classes(k->data) > k->run.size.classes)
        return tern_fail(ctx, TERN_E_SHAPE, "%s has %d classes, the net %lld", k->input,
                         tern_data_classes(k->data), (long long)k->run.size.classes);
    if (tern_data_count(k->data) < k->batch)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s has %lld images, the batch is %lld", k->input,
                         (long long)tern_data_count(k->data), (long long)k->batch);
    k->loader = tern_loader_open(ctx, k->data, &how);
    return tern_error(ctx);
}

static int compare(comparison *k)
{
    cli *c = k->c;
    int status;

    status = c->n_arg ? run_open(c, &k->run, c->arg[0]) : open_model(k);
    if (c->n_arg) k->subject = c->arg[0];
    if (status != EXIT_DONE || (status = open_sides(k)) != EXIT_DONE) return status;
    cli_default(c, "lr", strcmp(cli_text(c, "optimizer"), "sgd") == 0 ? "0.05" : "0.002");
    k->opt = optimizer_open(c, k->run.ctx, k->run.net);
    if (!k->opt || open_data(k) != TERN_OK || trace(k) != TERN_OK)
        return session_failed(k->run.ctx, NULL);
    if (!inject_read(k)) return EXIT_USAGE;
    if (run_steps(k) != TERN_OK) return session_failed(k->run.ctx, NULL);
    if (out.json) compare_document(k);
    else compare_text(k);
    return compare_status(k);
}

/* A run's own settings: what it is compared on is said here, and no run says how often. */
static void own_settings(cli *c, comparison *k)
{
    k->batch = cli_given(c, "batch") ? cli_int(c, "batch") : 2;
    k->steps = cli_given(c, "steps") ? cli_int(c, "steps") : 1;
    cli_force(c, "device", "ref");
    if (!cli_given(c, "batch")) cli_force(c, "batch", "2");
    if (!cli_given(c, "steps")) cli_force(c, "steps", "1");
}

int verb_compare(cli *c)
{
    const setting *device = cli_setting(c, "device");
    comparison k = {.c = c, .i_fault = -1};
    int status;

    if (c->n_arg > 1) return usage_error(c, "compare takes one run");
    if (c->n_arg == (int)cli_given(c, "model"))
        return usage_error(c, c->n_arg ? "a run has its own model: --model does not fit"
                                       : "compare needs --model NAME, or a run");
    if (!cli_given(c, "devices")) return usage_error(c, "compare needs --devices A,B");
    if (device->text && strcmp(device->origin, "--device") == 0)
        return usage_error(c, "compare takes --devices A,B; the reference is always ref");
    own_settings(c, &k);
    status = compare(&k);
    for (int s = 0; s < k.n_side; s++) {
        tern_ctx *ctx = k.side[s];
        if (k.compare) tern_compare_close(k.run.ctx, k.compare);
        k.compare = NULL;
        status = session_close(ctx, status);
    }
    status = session_close(k.run.ctx, status);
    free(k.tensor);
    run_close(&k.run);
    return status;
}
