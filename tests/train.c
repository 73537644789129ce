/* train.c - fit, evaluate, meters, weights in files, runs that stop and go on. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "tern/tern.h"

enum { COUNT = 230, SIDE = 8, CLASSES = 3 };

static char folder[64];

static void begin(void)
{
    snprintf(folder, sizeof folder, "train-test-%ld", (long)getpid());
    cr_assert(mkdir(folder, 0777) == 0);
}

static void end(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert(system(command) == 0);
}

TestSuite(train, .init = begin, .fini = end);

static const char *in_folder(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", folder, name);
    return path;
}

/* Images whose class is where they are bright. */
static tern_data *data_of(tern_ctx *ctx, int count, uint64_t seed)
{
    float *x = malloc(sizeof(float) * (size_t)count * SIDE * SIDE);
    int64_t label[1024];

    for (int i = 0; i < count; i++) {
        label[i] = i % CLASSES;
        for (int k = 0; k < SIDE * SIDE; k++)
            x[i * SIDE * SIDE + k] = (float)(0.8 * tc_normal(&seed) +
                                             (k * CLASSES / (SIDE * SIDE) == label[i] ? 0.5 : 0));
    }
    tern_data *data = tern_data_from_arrays(
        ctx, TERN_F32, x, (tern_shape){4, {count, 1, SIDE, SIDE}}, label, CLASSES, NULL);
    free(x);
    cr_assert(data != NULL, "%s", tern_error_text(ctx));
    return data;
}

/* Convolution, batch norm, dropout: parameters, statistics, counters. */
static tern_module *net_of(tern_ctx *ctx)
{
    const tern_nn_conv2d_opts conv = {.kernel = {3, 3}, .pad = {1, 1}};
    tern_module *net = tern_sequential(
        ctx, (tern_module *[]){tern_nn_conv2d(ctx, 1, 4, &conv), tern_nn_batch_norm(ctx, 4, NULL),
                               tern_nn_relu(ctx), tern_nn_maxpool2d(ctx, 2, NULL),
                               tern_nn_flatten(ctx), tern_nn_dropout(ctx, 0.25),
                               tern_nn_linear(ctx, 64, CLASSES, NULL), NULL});

    cr_assert(net != NULL, "%s", tern_error_text(ctx));
    return net;
}

typedef struct {
    int threads;
    bool eager, resume;
    int64_t steps, stop_at; /* stop_at: on_step asks for the end after so many */
    const char *name;
    int patience;
    int schedule; /* tern_schedule_kind */
    double lr;
} plan;
typedef struct {
    tern_status status;
    tern_fit_result fit;
    char hash[33], text[512];
    tern_score score;
} ending;

static tern_wish stop_there(const tern_progress *at, void *user)
{
    const plan *p = user;

    return at->step == p->stop_at ? TERN_STOP : TERN_GO_ON;
}

/* A run of its own context: what a process does. */
static ending train_it(const plan *p)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *data = data_of(ctx, COUNT, 1), *val = data_of(ctx, 60, 2);
    tern_module *net = net_of(ctx);
    tern_optim *opt;
    char path[256];
    ending e = {0};
    const tern_schedule schedule = {
        .kind = p->schedule, .lr = p->lr ? p->lr : 0.01, .total = 48, .patience = 1};
    const tern_fit_opts how = {.epochs = 4,
                               .steps = p->steps,
                               .batch = 20,
                               .validate = val,
                               .patience = p->patience,
                               .schedule = &schedule,
                               .run_dir = p->name ? in_folder(path, p->name) : NULL,
                               .resume = p->resume,
                               .save_every = 5,
                               .log_every = 4,
                               .augment = &(tern_augment){.flip = true, .shift = 1},
                               .on_step = stop_there,
                               .user = (void *)p,
                               .result = &e.fit};

    if (p->threads) cr_assert(eq(int, tern_threads_set(ctx, p->threads), TERN_OK));
    tern_eager_set(ctx, p->eager);
    opt = tern_adam(ctx, net, NULL);
    e.status = tern_fit(ctx, net, opt, data, &how);
    snprintf(e.text, sizeof e.text, "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    cr_assert(eq(int, tern_mode_of(ctx), TERN_EVAL));
    cr_assert(eq(int, tern_weights_hash(ctx, e.hash, net), TERN_OK), "%s", tern_error_text(ctx));
    cr_assert(eq(int, tern_evaluate(ctx, &e.score, net, val), TERN_OK), "%s", tern_error_text(ctx));
    tc_close(ctx);
    return e;
}

static char *bytes_of(const char *name, const char *file, size_t *bytes)
{
    char path[512];
    struct stat st;
    FILE *f;
    char *data;

    snprintf(path, sizeof path, "%s/%s/%s", folder, name, file);
    f = fopen(path, "rb");
    cr_assert(f != NULL && stat(path, &st) == 0, "%s", path);
    data = calloc(1, (size_t)st.st_size + 1);
    *bytes = fread(data, 1, (size_t)st.st_size, f);
    fclose(f);
    return data;
}

static void same_file(const char *a, const char *b, const char *file)
{
    size_t n, m;
    char *x = bytes_of(a, file, &n), *y = bytes_of(b, file, &m);

    cr_expect(n == m && memcmp(x, y, n) == 0, "%s of %s and %s differ", file, a, b);
    free(x);
    free(y);
}

Test(train, learns_and_tells)
{
    const ending e = train_it(&(plan){.name = "a"});

    cr_assert(eq(int, e.status, TERN_OK), "%s", e.text);
    cr_expect(eq(int, e.fit.ended, TERN_ENDED_DONE));
    cr_expect(eq(int, (int)e.fit.steps, 48));
    cr_expect(eq(int, e.fit.epochs, 4));
    cr_expect(eq(int, (int)e.fit.images, 4 * COUNT));
    cr_expect(e.score.accuracy > 0.8, "accuracy %g", e.score.accuracy);
    cr_expect(e.fit.best_accuracy >= e.score.accuracy);
    cr_expect(isfinite(e.fit.train_loss) && e.fit.train_loss < 1);
}

Test(train, threads_and_eager_steps_change_no_bit)
{
    const ending one = train_it(&(plan){.name = "t1", .threads = 1});

    for (int n = 2; n <= 4; n++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", n);
        const ending more = train_it(&(plan){.name = name, .threads = n});
        cr_expect(eq(str, (char *)more.hash, (char *)one.hash));
        same_file("t1", name, "last.ckpt");
        same_file("t1", name, "best.safetensors");
    }
    train_it(&(plan){.name = "eager", .eager = true});
    same_file("t1", "eager", "last.ckpt");
}

Test(train, a_stopped_run_is_continued_to_the_bit)
{
    const int kinds[] = {TERN_SCHEDULE_COSINE, TERN_SCHEDULE_PLATEAU};

    for (int k = 0; k < 2; k++) {
        char whole[24], parts[24];
        snprintf(whole, sizeof whole, "whole%d", k);
        snprintf(parts, sizeof parts, "parts%d", k);
        const ending all = train_it(&(plan){.name = whole, .schedule = kinds[k]});
        cr_assert(eq(int, all.status, TERN_OK), "%s", all.text);
        /* In the middle of an epoch, at its end, right after it, twice in a row. */
        const int64_t stops[] = {1, 7, 12, 13, 14, 30, 47};
        for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
            const ending part = train_it(
                &(plan){.name = parts, .resume = true, .stop_at = stops[i], .schedule = kinds[k]});
            cr_assert(eq(int, part.status, TERN_E_STOPPED), "%s", part.text);
            cr_expect(eq(int, (int)part.fit.saved_step, (int)stops[i]));
        }
        const ending last = train_it(&(plan){.name = parts, .resume = true, .schedule = kinds[k]});
        cr_assert(eq(int, last.status, TERN_OK), "%s", last.text);
        cr_expect(eq(int, (int)last.fit.steps_resumed, 47));
        cr_expect(eq(str, (char *)last.hash, (char *)all.hash));
        same_file(whole, parts, "last.ckpt");
        same_file(whole, parts, "best.safetensors");
    }
}

Test(train, a_finished_run_is_left_alone)
{
    const ending first = train_it(&(plan){.name = "f"});
    const ending again = train_it(&(plan){.name = "f", .resume = true});
    const ending anew = train_it(&(plan){.name = "f"});

    cr_expect(eq(int, again.status, TERN_OK), "%s", again.text);
    cr_expect(again.fit.nothing_left);
    cr_expect(eq(str, (char *)again.hash, (char *)first.hash));
    cr_expect(eq(dbl, again.fit.train_loss, first.fit.train_loss));
    cr_expect(eq(int, anew.status, TERN_E_STATE));
    cr_expect(strstr(anew.text, "f/last.ckpt") != NULL, "%s", anew.text);
}

Test(train, patience_ends_a_run_that_does_not_get_better)
{
    const ending e = train_it(&(plan){.name = "p", .patience = 1, .lr = 1e-30});
    const ending again = train_it(&(plan){.name = "p", .patience = 1, .lr = 1e-30, .resume = true});

    cr_assert(eq(int, e.status, TERN_OK), "%s", e.text);
    cr_expect(e.fit.ended == TERN_ENDED_EARLY || e.fit.epochs == 4);
    cr_expect(again.fit.nothing_left);
    cr_expect(eq(int, again.fit.epochs, e.fit.epochs));
}

Test(train, the_guard_stops_and_spoils_nothing)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *data = data_of(ctx, COUNT, 1);
    tern_module *net = net_of(ctx);
    tern_optim *opt = tern_sgd(ctx, net, &(tern_sgd_opts){.lr = 1e30});
    tern_fit_result r;
    char path[256], hash[33], kept[33];
    const tern_fit_opts how = {
        .epochs = 3, .batch = 20, .run_dir = in_folder(path, "n"), .result = &r};

    cr_expect(eq(int, tern_fit(ctx, net, opt, data, &how), TERN_E_VALUE));
    cr_expect(strstr(tern_error_text(ctx), "non-finite values at step ") != NULL, "%s",
              tern_error_text(ctx));
    cr_expect(eq(int, r.ended, TERN_ENDED_NONFINITE));
    cr_expect(r.nonfinite_step == r.steps + 1 && r.saved_step >= 0);
    tern_error_clear(ctx);
    for (int i = 0; tern_param_at(ctx, net, i); i++) {
        tern_tensor *p = tern_read(ctx, tern_param_at(ctx, net, i));
        double *x = tc_doubles(ctx, p);
        for (int64_t k = 0; k < tern_count(tern_shape_of(p)); k++) cr_assert(isfinite(x[k]));
        free(x);
    }
    cr_expect(eq(int, tern_weights_hash(ctx, hash, net), TERN_OK));
    /* The context is usable, and the run may go on: to the same end. */
    const tern_fit_opts more = {.epochs = 3, .batch = 20, .run_dir = path, .resume = true};
    cr_expect(eq(int, tern_fit(ctx, net, opt, data, &more), TERN_E_VALUE));
    tern_error_clear(ctx);
    cr_expect(eq(int, tern_weights_hash(ctx, kept, net), TERN_OK));
    cr_expect(eq(str, hash, kept));
    tc_close(ctx);
}

Test(train, weights_go_through_files)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = net_of(ctx), *b, *other;
    char path[256], first[33], second[33];

    cr_assert(eq(int, tern_weights_hash(ctx, first, a), TERN_OK));
    cr_assert(eq(int, tern_save(ctx, a, in_folder(path, "w.safetensors")), TERN_OK));
    cr_assert(eq(int, tern_seed_set(ctx, 7), TERN_OK));
    b = net_of(ctx);
    cr_assert(eq(int, tern_weights_hash(ctx, second, b), TERN_OK));
    cr_expect(ne(str, first, second));
    cr_assert(eq(int, tern_load(ctx, b, path), TERN_OK), "%s", tern_error_text(ctx));
    cr_assert(eq(int, tern_weights_hash(ctx, second, b), TERN_OK));
    cr_expect(eq(str, first, second));
    /* A file that does not fit changes nothing and says what is wrong. */
    other = tern_sequential(
        ctx, (tern_module *[]){tern_nn_flatten(ctx), tern_nn_linear(ctx, 64, 3, NULL), NULL});
    cr_assert(eq(int, tern_weights_hash(ctx, first, other), TERN_OK));
    cr_expect(eq(int, tern_load(ctx, other, path), TERN_E_FORMAT));
    cr_expect(strstr(tern_error_text(ctx), "w.safetensors") != NULL);
    tern_error_clear(ctx);
    cr_assert(eq(int, tern_weights_hash(ctx, second, other), TERN_OK));
    cr_expect(eq(str, first, second));
    tc_close(ctx);
}

Test(train, scores_do_not_depend_on_batches)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *data = data_of(ctx, COUNT, 3);
    tern_module *net = net_of(ctx);
    int64_t confusion[CLASSES * CLASSES], all = 0, right = 0;
    tern_score one, many;

    cr_assert(eq(int, tern_evaluate(ctx, &one, net, data), TERN_OK));
    cr_assert(eq(int,
                 tern_evaluate_with(
                     ctx, &many, net, data,
                     &(tern_evaluate_opts){.batch = 7, .classes = CLASSES, .confusion = confusion}),
                 TERN_OK));
    cr_expect(one.count == COUNT && one.correct == many.correct);
    cr_expect(fabs(one.loss - many.loss) < 1e-6);
    for (int i = 0; i < CLASSES * CLASSES; i++) {
        all += confusion[i];
        right += i % (CLASSES + 1) == 0 ? confusion[i] : 0;
    }
    cr_expect(all == COUNT && right == many.correct);
    tc_close(ctx);
}

Test(train, meters)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_meter *m = tern_meter_open(ctx);

    cr_expect(isnan(tern_meter_mean(ctx, m)));
    for (int i = 1; i <= 4; i++)
        cr_assert(
            eq(int, tern_meter_add(ctx, m, tern_fill(ctx, TERN_F32, (tern_shape){0}, i)), TERN_OK));
    cr_expect(eq(dbl, tern_meter_mean(ctx, m), 2.5));
    cr_assert(eq(int,
                 tern_meter_add_weighted(ctx, m, tern_fill(ctx, TERN_F32, (tern_shape){0}, 10), 4),
                 TERN_OK));
    cr_expect(eq(dbl, tern_meter_take(ctx, m), 50.0 / 8));
    cr_expect(isnan(tern_meter_take(ctx, m)));
    tc_close(ctx);
}

Test(train, says_what_does_not_fit)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_data *data = data_of(ctx, 30, 3);
    tern_module *net = net_of(ctx);
    tern_optim *opt = tern_adam(ctx, net, NULL);
    const tern_fit_opts wrong[] = {{.epochs = -1},     {.steps = -1},
                                   {.batch = -2},      {.patience = 3},
                                   {.smoothing = 2},   {.resume = true},
                                   {.save_every = -1}, {.schedule = &(tern_schedule){.kind = 99}},
                                   {.smoothing = NAN}, {.log_every = -1}};

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect(eq(int, tern_fit(ctx, net, opt, data, &wrong[i]), TERN_E_ARGUMENT), "case %zu",
                  i);
        cr_expect(strlen(tern_error_text(ctx)) > 0);
        tern_error_clear(ctx);
    }
    cr_expect(eq(int, tern_fit(ctx, NULL, opt, data, NULL), TERN_E_ARGUMENT));
    tern_error_clear(ctx);
    cr_expect(eq(int, tern_evaluate(ctx, NULL, net, data), TERN_E_ARGUMENT));
    tern_error_clear(ctx);
    cr_expect(eq(int, tern_load(ctx, net, "no/such.safetensors"), TERN_E_IO));
    tern_error_clear(ctx);
    cr_expect(eq(int, tern_fit(ctx, net, opt, data, NULL), TERN_OK), "%s", tern_error_text(ctx));
    tc_close(ctx);
}
