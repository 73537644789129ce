/*
 * ahead.c - batches that a loader copies ahead, and the guard's flag read late: what a fit on simt
 * does is what it does without either, for every order of the streams.
 */
#include <dlfcn.h>
#include <unistd.h>

#include "core/program.h"
#include "step.h"
#include "tern/data.h"
#include "tern/train.h"

enum { COUNT = 22, PIXELS = 36 };

typedef struct {
    tern_ctx *ctx;
    tern_data *data;
    tern_module *net;
    tern_optim *opt;
} fitting;

static void seed_streams(tern_ctx *ctx, unsigned seed)
{
    void (*set)(unsigned) = NULL;

    if (strcmp(tern_device(ctx), "simt") != 0) return;
    *(void **)&set = dlsym(ctx->plugin, "simt_seed");
    cr_assert(set != NULL);
    set(seed);
}

/* bad: the image with a number that is not finite, or -1. */
static fitting open_fitting(const char *device, unsigned seed, int bad)
{
    fitting f = {.ctx = tc_open(device)};
    float x[COUNT * PIXELS];
    int64_t label[COUNT];
    uint64_t state = 5;

    seed_streams(f.ctx, seed);
    for (int i = 0; i < COUNT * PIXELS; i++) x[i] = (float)tc_normal(&state);
    for (int i = 0; i < COUNT; i++) label[i] = i % 4;
    if (bad >= 0) x[bad * PIXELS + 7] = INFINITY;
    f.data = tern_data_from_arrays(f.ctx, TERN_F32, x, TI_SHAPE(COUNT, 1, 6, 6), label, 4, NULL);
    f.net = tern_sequential(
        f.ctx,
        (tern_module *[]){tern_nn_conv2d(f.ctx, 1, 3, &(tern_nn_conv2d_opts){{3, 3}}),
                          tern_nn_batch_norm(f.ctx, 3, NULL), tern_nn_flatten(f.ctx),
                          tern_nn_dropout(f.ctx, 0.5), tern_nn_linear(f.ctx, 48, 4, NULL), NULL});
    f.opt = tern_sgd(f.ctx, f.net, &(tern_sgd_opts){.lr = 0.05, .momentum = 0.9});
    FINE(f.ctx);
    return f;
}

/* Stops behind the step *user. */
static tern_wish stop_at(const tern_progress *p, void *user)
{
    return p->step >= *(int *)user ? TERN_STOP : TERN_GO_ON;
}

static tern_status fit(fitting *f, const char *folder, int stop, tern_fit_result *result)
{
    const tern_schedule cosine = {.kind = TERN_SCHEDULE_COSINE, .lr = 0.05, .total = 13};

    return tern_fit(f->ctx, f->net, f->opt, f->data,
                    &(tern_fit_opts){.steps = 13,
                                     .batch = 5, /* the last one of an epoch has two images */
                                     .schedule = &cosine,
                                     .on_step = stop_at,
                                     .user = &stop,
                                     .run_dir = folder,
                                     .resume = folder != NULL,
                                     .result = result});
}

/* Fits on a device; the weights' hash. */
static void fit_as(char hash[33], const char *device, unsigned seed, bool eager, bool graphs)
{
    fitting f = open_fitting(device, seed, -1);

    tern_eager_set(f.ctx, eager);
    tern_graphs_set(f.ctx, graphs);
    cr_assert(fit(&f, NULL, 99, NULL) == TERN_OK, "%s", tern_error_text(f.ctx));
    cr_assert(tern_weights_hash(f.ctx, hash, f.net) == TERN_OK);
    tc_close(f.ctx);
}

Test(ahead, a_fit_does_not_depend_on_the_order_of_streams)
{
    char eager[33], hash[33];

    if (!tc_has("simt")) return;
    fit_as(eager, "simt", 0, true, false);
    for (unsigned seed = 0; seed < 6; seed++) {
        fit_as(hash, "simt", seed, false, seed > 0);
        cr_expect(strcmp(hash, eager) == 0, "order %u: %s, not %s", seed, hash, eager);
    }
}

Test(ahead, a_resumed_fit_is_the_fit_continued)
{
    char folder[64], command[80], whole[33], hash[33];

    if (!tc_has("simt")) return;
    fit_as(whole, "simt", 0, false, true);
    snprintf(folder, sizeof folder, "ahead-%ld", (long)getpid());
    snprintf(command, sizeof command, "rm -rf %s", folder);
    for (int stop = 1; stop < 13; stop += 3) {
        fitting f = open_fitting("simt", 3, -1), g;

        cr_assert(system(command) == 0);
        cr_assert(fit(&f, folder, stop, NULL) == TERN_E_STOPPED);
        tern_error_clear(f.ctx);
        tc_close(f.ctx);
        g = open_fitting("simt", 4, -1);
        cr_assert(fit(&g, folder, 99, NULL) == TERN_OK, "%s", tern_error_text(g.ctx));
        cr_assert(tern_weights_hash(g.ctx, hash, g.net) == TERN_OK);
        cr_expect(strcmp(hash, whole) == 0, "stopped at %d: %s, not %s", stop, hash, whole);
        tc_close(g.ctx);
    }
    cr_assert(system(command) == 0);
}

/* The guard's verdict is the same, whether it is looked at at once or late. */
Test(ahead, the_bad_step_is_the_same_on_every_device)
{
    char text[2][512];
    tern_fit_result r[2];

    if (!tc_has("simt")) return;
    for (int bad = 0; bad < COUNT; bad += 3) {
        for (int k = 0; k < 2; k++) {
            fitting f = open_fitting(k ? "simt" : "cpu", (unsigned)bad, bad);

            cr_expect(fit(&f, NULL, 99, &r[k]) == TERN_E_VALUE, "%s", tern_error_text(f.ctx));
            snprintf(text[k], sizeof text[k], "%s", tern_error_text(f.ctx));
            tern_error_clear(f.ctx);
            cr_expect(value(f.ctx, tern_tripped(f.ctx)) == 0);
            tc_close(f.ctx);
        }
        cr_expect(strcmp(text[0], text[1]) == 0, "cpu: %s\nsimt: %s", text[0], text[1]);
        cr_expect(strstr(text[1], "input 0") != NULL, "%s", text[1]);
        cr_expect(r[0].nonfinite_step == r[1].nonfinite_step && r[0].steps == r[1].steps &&
                      r[0].images == r[1].images && r[1].ended == TERN_ENDED_NONFINITE,
                  "image %d: steps %lld and %lld, images %lld and %lld", bad, (long long)r[0].steps,
                  (long long)r[1].steps, (long long)r[0].images, (long long)r[1].images);
    }
}

Test(ahead, the_flag_is_known_one_run_late)
{
    if (!tc_has("simt")) return;
    for (int k = 0; k < 2; k++) {
        tern_ctx *ctx = tc_open(k ? "simt" : "cpu");
        job j = small_net(ctx, false);
        tern_program *p = tern_record(ctx, train_step, &j);
        bool tripped = true;
        int behind = -1;

        for (int i = 0; i < 6; i++) {
            tern_tensor *in[3], *loss;

            tern_frame_begin(ctx);
            feed(ctx, in, i, 4);
            if (i == 3) in[0] = tern_mul(ctx, in[0], tern_fill(ctx, TERN_F32, TI_SCALAR, NAN));
            cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK);
            cr_assert(tern_guard_look(ctx, &tripped, &behind) == TERN_OK);
            cr_expect(behind == k && tripped == (i >= 3 + k), "run %d: %d", i, tripped);
            tern_frame_end(ctx);
        }
        cr_assert(tern_set(ctx, tern_tripped(ctx), 0) == TERN_OK);
        cr_assert(tern_guard_look(ctx, &tripped, &behind) == TERN_OK && !tripped);
        cr_expect(tern_guard_look(ctx, NULL, NULL) == TERN_E_ARGUMENT);
        tern_error_clear(ctx);
        tc_close(ctx);
    }
}

/* ---- The loader ---- */

/* Image i holds the number i everywhere. */
static tern_data *numbered(tern_ctx *ctx)
{
    float x[COUNT * PIXELS];
    int64_t label[COUNT];

    for (int i = 0; i < COUNT * PIXELS; i++) x[i] = (float)(i / PIXELS);
    for (int i = 0; i < COUNT; i++) label[i] = i;
    return tern_data_from_arrays(ctx, TERN_F32, x, TI_SHAPE(COUNT, 1, 6, 6), label, COUNT, NULL);
}

static void look_at_batch(tern_ctx *ctx, tern_tensor *x, tern_tensor *y, const int64_t *sample)
{
    double *pixels = tc_doubles(ctx, x), *label = tc_doubles(ctx, y);
    const int64_t n = tern_shape_of(y).dim[0];

    for (int64_t i = 0; i < n; i++) {
        cr_expect(label[i] == (double)sample[i], "label %g of sample %lld", label[i],
                  (long long)sample[i]);
        for (int p = 0; p < PIXELS; p++)
            cr_expect(pixels[i * PIXELS + p] == (double)sample[i], "image %g of sample %lld",
                      pixels[i * PIXELS + p], (long long)sample[i]);
    }
    free(pixels);
    free(label);
}

Test(ahead, batches_keep_their_values_while_later_ones_are_copied)
{
    enum { HELD = 3 };

    if (!tc_has("simt")) return;
    for (unsigned seed = 0; seed < 8; seed++) {
        tern_ctx *ctx = tc_open("simt");
        seed_streams(ctx, seed);
        tern_loader *l = tern_loader_open(ctx, numbered(ctx),
                                          &(tern_loader_opts){.batch = 4, .no_prefetch = seed & 1});
        tern_tensor *x[HELD] = {0}, *y[HELD] = {0}, *twice = NULL;
        int64_t sample[HELD][4];

        for (int i = 0; i < 17; i++) {
            const int k = i % HELD;
            tern_batch b;

            if (i == 9) cr_assert(tern_loader_seek(ctx, l, (tern_position){2, 5}) == TERN_OK);
            while (!tern_loader_next(ctx, &b, l)) FINE(ctx);
            if (x[k]) look_at_batch(ctx, x[k], y[k], sample[k]);
            tern_drop(x[k]);
            tern_drop(y[k]);
            x[k] = tern_hold(b.in[0]);
            y[k] = tern_hold(b.in[1]);
            memcpy(sample[k], b.sample, (size_t)b.count * sizeof(int64_t));
            tern_frame_begin(ctx); /* work that is behind, and memory that goes round */
            twice = tern_add(ctx, b.in[0], b.in[0]);
            for (int r = 0; r < 3; r++) twice = tern_mul(ctx, twice, twice);
            tern_frame_end(ctx);
        }
        for (int k = 0; k < HELD; k++) {
            tern_drop(x[k]);
            tern_drop(y[k]);
        }
        tern_loader_close(ctx, l);
        tc_close(ctx);
    }
}

Test(ahead, each_allocation_of_a_loader_fails)
{
    bool whole = false;

    if (!tc_has("simt")) return;
    for (long nth = 0; !whole && nth < 500; nth++) {
        tern_ctx *ctx = tc_open("simt");
        tern_data *data = numbered(ctx);
        tern_loader *l;
        int64_t seen = 0;
        tern_batch b;

        FINE(ctx);
        ti_fail_allocation(ctx, nth, nth & 1);
        l = tern_loader_open(ctx, data, &(tern_loader_opts){.batch = 4});
        for (int i = 0; l && i < 4 && tern_loader_next(ctx, &b, l); i++) {
        }
        whole = tern_error(ctx) == TERN_OK;
        cr_assert(whole || tern_error(ctx) == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        ti_fail_allocation(ctx, -1, false);
        tern_error_clear(ctx);
        if (l) cr_assert(tern_loader_seek(ctx, l, (tern_position){0, 0}) == TERN_OK);
        while (l && tern_loader_next(ctx, &b, l)) { /* what follows is whole, and right */
            look_at_batch(ctx, b.in[0], b.in[1], b.sample);
            seen += b.count;
        }
        cr_expect(!l || seen == COUNT, "allocation %ld: %lld images", nth, (long long)seen);
        tern_loader_close(ctx, l);
        tc_close(ctx);
    }
    cr_expect(whole);
}
