/*
 * bench_model.c - `tern bench model`: whole training steps (forward, loss, backward, Adam) on made
 * images; labels rotate. The program is planned before the clock starts. Besides the models by name
 * there are lstm and gru: sequences of 64 steps, one label a step.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/verbs.h"

enum { N_LABELS = 8, STEPS = 64, FEATURES = 128, STATE = 256, CLASSES = 128 };

typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_optim *opt;
    int64_t batch, classes;
    tern_shape x, y; /* of a batch, of its labels */
    tern_program *program;
    tern_tensor *images, *labels[N_LABELS];
    double *ms;
    int n;
    size_t arena, planned; /* bytes: of the step's arena; of all that training needs */
} timed;

static tern_status step(tern_ctx *ctx, tern_tensor **result_of, tern_tensor **in, void *user)
{
    timed *b = user;

    result_of[0] = tern_cross_entropy(ctx, tern_forward(ctx, b->net, in[0]), in[1], NULL, NULL);
    if (!result_of[0] || tern_backward(ctx, result_of[0], b->net) != TERN_OK)
        return tern_error(ctx);
    return tern_optim_step(ctx, b->opt);
}

static tern_status make_inputs(timed *b)
{
    tern_ctx *ctx = b->ctx;
    const int64_t zero = 0;
    tern_tensor *counter, *x;
    tern_random_opts o = {.seed = (int64_t)tern_seed(ctx),
                          .purpose = tern_purpose("bench.images"),
                          .rank = b->x.rank,
                          .type = TERN_F32,
                          .a = 0,
                          .b = 1};
    int64_t *label = cli_alloc((size_t)b->y.dim[0] * sizeof *label);
    unsigned long long state = tern_seed(ctx) * 2 + 1;

    memcpy(o.dim, b->x.dim, sizeof o.dim);
    tern_frame_begin(ctx);
    counter = tern_from_host(ctx, TERN_I64, &zero, (tern_shape){0});
    x = tern_normal(ctx, counter, &o);
    b->images = tern_hold(b->x.rank == 4 ? tern_channels_last(ctx, x) : x);
    for (int k = 0; k < N_LABELS; k++) {
        for (int64_t i = 0; i < b->y.dim[0]; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            label[i] = (int64_t)((state >> 33) % (unsigned long long)b->classes);
        }
        b->labels[k] = tern_hold(tern_from_host(ctx, TERN_I64, label, b->y));
    }
    tern_frame_end(ctx);
    free(label);
    return tern_error(ctx);
}

static double one(timed *b, int i)
{
    tern_tensor *in[] = {b->images, b->labels[i % N_LABELS], NULL}, *loss = NULL;
    const double before = seconds_now();
    double took;

    tern_frame_begin(b->ctx);
    if (tern_program_run(b->ctx, &loss, b->program, in) == TERN_OK) (void)tern_item(b->ctx, loss);
    took = seconds_now() - before;
    tern_frame_end(b->ctx);
    return 1e3 * took;
}

static tern_status measure(cli *c, timed *b)
{
    const tern_shape shapes[] = {b->x, b->y};
    const int64_t warm = cli_int(c, "warm-up"), least = cli_int(c, "repeat");
    const double seconds = cli_real(c, "seconds");
    double began;
    int room = 0;

    if (make_inputs(b) != TERN_OK) return tern_error(b->ctx);
    b->program = tern_record(b->ctx, step, b);
    tern_mode(b->ctx, TERN_TRAIN);
    if (!tern_eager(b->ctx) && tern_program_plan(b->ctx, b->program, 2, shapes,
                                                 (tern_type[]){TERN_F32, TERN_I64}) != TERN_OK)
        return tern_error(b->ctx);
    b->arena = tern_program_peak(b->program);
    for (int64_t i = 0; i < warm && tern_error(b->ctx) == TERN_OK; i++) one(b, (int)i);
    began = seconds_now();
    while (tern_error(b->ctx) == TERN_OK &&
           (b->n < least || (seconds_now() - began < seconds && b->n < 1000000))) {
        if (b->n == room)
            b->ms = cli_realloc(b->ms, (size_t)(room = room ? 2 * room : 256) * sizeof *b->ms);
        b->ms[b->n] = one(b, b->n + (int)warm);
        b->n++;
    }
    return tern_error(b->ctx);
}

static void tell(cli *c, timed *b, const char *model)
{
    double *sorted = cli_alloc((size_t)b->n * sizeof *sorted);
    double median, low, high;
    tern_memory memory;
    json j = {0};
    char *text;

    tern_memory_stats(b->ctx, &memory);
    memcpy(sorted, b->ms, (size_t)b->n * sizeof *sorted);
    sort_doubles(sorted, b->n);
    median = quantile(sorted, b->n, 0.5);
    low = quantile(sorted, b->n, 0.25);
    high = quantile(sorted, b->n, 0.75);
    if (out.json) {
        json_open(&j, NULL, '{');
        json_text(&j, "schema", "tern.bench/1");
        json_text(&j, "model", model);
        json_int(&j, "batch", b->batch);
        json_int(&j, "threads", tern_threads(b->ctx));
        json_int(&j, "params", tern_module_size(b->net));
        json_text(&j, "device", tern_device(b->ctx));
        json_text(&j, "isa", tern_isa(b->ctx));
        json_text(&j, "build", build_type());
        json_text(&j, "version", tern_version());
        json_text(&j, "optimizer", "adam");
        json_bool(&j, "eager", tern_eager(b->ctx));
        json_int(&j, "warmup", cli_int(c, "warm-up"));
        json_int(&j, "arena_bytes", (int64_t)b->arena);
        json_int(&j, "planned_bytes", (int64_t)b->planned);
        json_int(&j, "pool_peak_bytes", (int64_t)memory.peak);
        json_int(&j, "peak_rss_bytes", peak_rss_bytes());
        json_real(&j, "img_per_s", 1e3 * (double)b->batch / median);
        json_open(&j, "step_ms", '{');
        json_real(&j, "median", median);
        json_real(&j, "min", sorted[0]);
        json_real(&j, "q25", low);
        json_real(&j, "q75", high);
        json_real(&j, "noise", median > 0 ? (high - low) / median : 0);
        json_open(&j, "samples", '[');
        for (int i = 0; i < b->n; i++) json_real(&j, NULL, b->ms[i]);
        json_close(&j, ']');
        json_close(&j, '}');
        json_close(&j, '}');
        text = json_take(&j);
        result("%s", text);
        free(text);
    } else {
        result("| model      | batch | threads | median ms |  min ms | noise |  img/s |\n"
               "|:-----------|------:|--------:|----------:|--------:|------:|-------:|\n"
               "| %-10s | %5lld | %7d | %9.3f | %7.3f | %4.1f%% | %6s |\n",
               model, (long long)b->batch, tern_threads(b->ctx), median, sorted[0],
               100 * (high - low) / median, rate(1e3 * (double)b->batch / median));
    }
    free(sorted);
}

static tern_status plan(timed *b)
{
    tern_memory_plan p;

    if (tern_plan_memory(b->ctx, &p, b->net, b->opt, b->x) != TERN_OK) return tern_error(b->ctx);
    b->planned = p.train_total;
    tern_memory_peak_reset(b->ctx);
    return TERN_OK;
}

/* [T,N,K] -> [TN,K], for the loss */
static tern_tensor *merge_steps(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);

    (void)m;
    return tern_reshape(ctx, x, (tern_shape){2, {s.dim[0] * s.dim[1], s.dim[2]}});
}

/* A recurrent layer, a linear one for each step. */
static tern_module *sequence_net(timed *b, bool lstm)
{
    tern_ctx *ctx = b->ctx;

    b->x = (tern_shape){3, {STEPS, b->batch, FEATURES}};
    b->y = (tern_shape){1, {STEPS * b->batch}};
    b->classes = CLASSES;
    return tern_sequential(
        ctx, (tern_module *[]){lstm ? tern_nn_lstm(ctx, FEATURES, STATE, NULL)
                                    : tern_nn_gru(ctx, FEATURES, STATE, NULL),
                               tern_nn_linear(ctx, STATE, CLASSES, NULL),
                               tern_module_new(ctx, "merge", merge_steps, NULL, 0), NULL});
}

static tern_module *image_net(timed *b, cli *c, const char *model, int *status)
{
    tern_model_opts how, got = {0};

    *status = EXIT_USAGE;
    if (!net_size(c, &how)) return NULL;
    tern_module *net = net_open(b->ctx, model, &how, &got, status);
    b->x = (tern_shape){4, {b->batch, got.channels, got.height, got.width}};
    b->y = (tern_shape){1, {b->batch}};
    b->classes = got.classes;
    return net;
}

static int run(cli *c, timed *b, const char *model)
{
    int status = EXIT_FAILED;

    b->batch = cli_given(c, "batch") ? cli_int(c, "batch") : 64;
    if (strcmp(model, "lstm") == 0 || strcmp(model, "gru") == 0) {
        b->net = sequence_net(b, *model == 'l');
        if (!b->net) return session_failed(b->ctx, NULL);
    } else b->net = image_net(b, c, model, &status);
    if (!b->net) return status;
    b->opt = tern_adam(b->ctx, b->net, NULL);
    if (b->opt && plan(b) == TERN_OK && measure(c, b) == TERN_OK) tell(c, b, model);
    tern_drop(b->images);
    for (int i = 0; i < N_LABELS; i++) tern_drop(b->labels[i]);
    free(b->ms);
    return tern_error(b->ctx) == TERN_OK ? EXIT_DONE : session_failed(b->ctx, NULL);
}

int bench_model(cli *c)
{
    timed b = {0};

    if (c->n_arg != 2) return usage_error(c, "bench takes: model NAME");
    if (strcmp(build_type(), "Release") != 0)
        warn("this is a %s build: its times say nothing", build_type());
    b.ctx = session_open(c);
    return b.ctx ? session_close(b.ctx, run(c, &b, c->arg[1])) : EXIT_FAILED;
}
