/*
 * bench_model.c - `tern bench model`: whole training steps (forward, loss, backward, Adam) on made
 * images; labels rotate. The program is planned before the clock starts. Then the same steps with a
 * clock around each line, summed by layer. Besides the models by name there are lstm and gru:
 * sequences of 64 steps, one label a step.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/memory.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/table.h"

enum { N_LABELS = 8, LINES = 4096, LAYERS = 512 };
enum { STEPS = 64, FEATURES = 128, STATE = 256, CLASSES = 128 }; /* of the recurrent nets */

typedef struct {
    const char *name;
    double ns[3], flops[3]; /* forward, backward, update */
} layer;
typedef struct {
    cli *c;
    const char *name;
    tern_ctx *ctx;
    tern_module *net;
    tern_optim *opt;
    int64_t batch, classes;
    tern_shape x, y; /* of a batch, of its labels */
    tern_program *program;
    tern_tensor *images, *labels[N_LABELS];
    int turn;
    size_t arena, planned; /* bytes: of the step's arena; of all that training needs */
    int again;             /* calls that run twice for --memory */
    tern_memory memory;
    layer part[LAYERS];
    int n_part;
    double profiled, flops; /* ns of a replay with clocks; of all lines */
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

static bool steps(void *user, int64_t times)
{
    timed *b = user;

    for (int64_t i = 0; i < times && tern_error(b->ctx) == TERN_OK; i++) {
        tern_tensor *in[] = {b->images, b->labels[b->turn++ % N_LABELS], NULL}, *loss = NULL;

        tern_frame_begin(b->ctx);
        if (tern_program_run(b->ctx, &loss, b->program, in) == TERN_OK && i == times - 1)
            (void)tern_item(b->ctx, loss); /* waits: a device works beside the host */
        tern_frame_end(b->ctx);
    }
    return tern_error(b->ctx) == TERN_OK;
}

/* The step as a program, which keeps within --memory. EXIT_DONE, or a status after a message. */
static int plan(timed *b)
{
    const tern_shape shapes[] = {b->x, b->y};
    const memory_job m = memory_of(b->c, b->ctx, b->net, b->opt, b->x);
    tern_memory_plan p;
    int status = EXIT_DONE;

    if (m.asked) status = memory_plan(&m, &p);
    else (void)!tern_plan_memory(b->ctx, &p, b->net, b->opt, b->x);
    if (status != EXIT_DONE) return status;
    b->planned = p.train_total;
    tern_memory_peak_reset(b->ctx);
    if (make_inputs(b) != TERN_OK) return session_failed(b->ctx, NULL);
    b->program = tern_record(b->ctx, step, b);
    if (m.asked) tern_program_limit(b->program, m.asked - (p.needed - p.train));
    tern_mode(b->ctx, TERN_TRAIN);
    if (!tern_eager(b->ctx) && tern_program_plan(b->ctx, b->program, 2, shapes,
                                                 (tern_type[]){TERN_F32, TERN_I64}) != TERN_OK)
        return session_failed(b->ctx, NULL);
    b->arena = tern_program_peak(b->program);
    b->again = tern_program_again(b->program);
    return EXIT_DONE;
}

/* ---- Layer by layer -------------------------------------------------------------------------- */

static layer *part_of(timed *b, const char *name)
{
    for (int i = 0; i < b->n_part; i++)
        if (strcmp(b->part[i].name, name) == 0) return &b->part[i];
    if (b->n_part == LAYERS) return NULL;
    b->part[b->n_part] = (layer){.name = name};
    return &b->part[b->n_part++];
}

static tern_status profile(timed *b, double step_ns)
{
    tern_tensor *in[] = {b->images, b->labels[0], NULL};
    tern_line_time *line = cli_alloc(LINES * sizeof *line);
    const double share = cli_real(b->c, "seconds") * 1e9 / (step_ns > 0 ? step_ns : 1);
    const int times = share < 5 ? 5 : share > 200 ? 200 : (int)share;
    int n = 0;

    if (tern_program_profile(b->ctx, b->program, in, times, line, LINES, &n, &b->profiled)) n = 0;
    for (int i = 0; i < n && i < LINES; i++) {
        const char *name = *line[i].where     ? line[i].where
                           : line[i].update   ? "optimizer"
                           : line[i].backward ? "loss"
                                              : "loss, guard";
        layer *l = part_of(b, name);
        const int way = line[i].update ? 2 : line[i].backward ? 1 : 0;

        if (!l) continue;
        l->ns[way] += line[i].ns;
        l->flops[way] += line[i].flops;
        b->flops += line[i].flops;
    }
    free(line);
    return tern_error(b->ctx);
}

static double sum_of(const timed *b)
{
    double sum = 0;

    for (int i = 0; i < b->n_part; i++)
        sum += b->part[i].ns[0] + b->part[i].ns[1] + b->part[i].ns[2];
    return sum;
}

static const char *speed(double flops, double ns)
{
    return flops > 0 && ns > 0 ? cell("%.1f", flops / ns) : "–";
}

static const char *time_or_none(double ns) { return ns > 0 ? bench_time(ns) : "–"; }

/* The table below the row. */
static char *notes(const timed *b, const bench_row *row)
{
    table t = {{"layer", "forward", "GFLOP/s", "backward", "GFLOP/s", "update", "% of step"},
               {false, true, true, true, true, true, true},
               7};
    const double sum = sum_of(b);
    char *text, *more;

    if (b->n_part == 0) return NULL;
    text = cli_format("\n%s, batch %lld, %d thread%s, line by line:\n\n", row->name,
                      (long long)row->batch, row->threads, row->threads > 1 ? "s" : "");
    for (int i = 0; i < b->n_part; i++) {
        const layer *l = &b->part[i];

        table_put(&t,
                  (const char *[]){l->name, time_or_none(l->ns[0]), speed(l->flops[0], l->ns[0]),
                                   time_or_none(l->ns[1]), speed(l->flops[1], l->ns[1]),
                                   time_or_none(l->ns[2]),
                                   cell("%.1f%%", 100 * (l->ns[0] + l->ns[1] + l->ns[2]) / sum)});
    }
    table_print(&t, &text);
    more = cli_format("%ssum of lines %s, replay with clocks %s, whole step %s (least %s)\n", text,
                      bench_time(sum), bench_time(b->profiled), bench_time(row->time.median),
                      bench_time(row->time.least));
    free(text);
    return more;
}

/* ---- Results --------------------------------------------------------------------------------- */

static void keys(json *j, const timed *b, const bench_row *row)
{
    const samples *t = &row->time;

    json_text(j, "model", b->name);
    json_int(j, "batch", b->batch);
    json_int(j, "threads", row->threads);
    json_int(j, "params", tern_module_size(b->net));
    json_text(j, "device", tern_device(b->ctx));
    json_text(j, "isa", tern_isa(b->ctx));
    json_text(j, "math", tern_math_name((int)tern_math(b->ctx)));
    json_text(j, "conv", tern_winograd(b->ctx) ? "auto" : "direct");
    json_text(j, "build", build_type());
    json_text(j, "version", tern_version());
    json_text(j, "optimizer", "adam");
    json_bool(j, "eager", tern_eager(b->ctx));
    json_int(j, "warmup", cli_int(b->c, "warm-up"));
    json_int(j, "arena_bytes", (int64_t)b->arena);
    json_int(j, "planned_bytes", (int64_t)b->planned);
    json_int(j, "calls_again", b->again);
    json_int(j, "pool_peak_bytes", (int64_t)b->memory.peak);
    json_int(j, "peak_rss_bytes", peak_rss_bytes());
    json_real(j, "img_per_s", 1e9 * (double)b->batch / t->median);
    json_open(j, "step_ms", '{');
    json_real(j, "median", 1e-6 * t->median);
    json_real(j, "min", 1e-6 * t->least);
    json_real(j, "q25", 1e-6 * t->q25);
    json_real(j, "q75", 1e-6 * t->q75);
    json_real(j, "noise", t->noise);
    json_open(j, "samples", '[');
    for (int i = 0; i < t->n; i++) json_real(j, NULL, 1e-6 * t->x[i]);
    json_close(j, ']');
    json_close(j, '}');
    if (b->n_part == 0) return;
    json_real(j, "lines_ms", 1e-6 * sum_of(b));
    json_real(j, "profiled_ms", 1e-6 * b->profiled);
    json_open(j, "layers", '[');
    for (int i = 0; i < b->n_part; i++) {
        static const char *const ways[] = {"forward_ms", "backward_ms", "update_ms"};
        const layer *l = &b->part[i];

        json_open(j, NULL, '{');
        json_text(j, "name", l->name);
        for (int k = 0; k < 3; k++) json_real(j, ways[k], 1e-6 * l->ns[k]);
        json_real(j, "forward_flops", l->flops[0]);
        json_real(j, "backward_flops", l->flops[1]);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* On one line, without the newline at its end. */
static char *details(const timed *b, const bench_row *row)
{
    json j = {.line = true};
    char *text;

    json_open(&j, NULL, '{');
    keys(&j, b, row);
    json_close(&j, '}');
    text = json_take(&j);
    text[strlen(text) - 1] = '\0';
    return text;
}

static bool measure(bench *to, timed *b, bench_row *row)
{
    for (int64_t round = 0; round < to->rounds; round++)
        if (!bench_sample(to, &row->time, round, steps, b)) return false;
    samples_sum(&row->time);
    tern_memory_stats(b->ctx, &b->memory);
    if (!tern_eager(b->ctx) && profile(b, row->time.median) != TERN_OK) return false;
    row->flops = b->flops;
    row->extra = details(b, row);
    row->notes = notes(b, row);
    return true;
}

/* ---- Nets ------------------------------------------------------------------------------------ */

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

static tern_module *image_net(timed *b, const char *model, int *status)
{
    tern_model_opts how, got = {0};

    *status = EXIT_USAGE;
    if (!net_size(b->c, &how)) return NULL;
    tern_module *net = net_open(b->ctx, model, &how, &got, status);
    b->x = (tern_shape){4, {b->batch, got.channels, got.height, got.width}};
    b->y = (tern_shape){1, {b->batch}};
    b->classes = got.classes;
    return net;
}

static int one(bench *to, const char *name, int64_t batch, int threads)
{
    const char *limit = cli_text(to->c, "memory");
    timed *b = cli_alloc(sizeof *b);
    bench_row *row;
    int status = EXIT_FAILED;

    b->c = to->c;
    b->name = name;
    b->batch = batch;
    b->ctx = session_open(to->c);
    if (!b->ctx || tern_threads_set(b->ctx, threads) != TERN_OK) {
        status = session_close(b->ctx, EXIT_FAILED);
        free(b);
        return status;
    }
    if (strcmp(name, "lstm") == 0 || strcmp(name, "gru") == 0) {
        b->net = sequence_net(b, *name == 'l');
        if (!b->net) session_failed(b->ctx, NULL);
    } else b->net = image_net(b, name, &status);
    if (b->net) {
        row = bench_add(to, "step", name);
        row->what = cli_copy(name);
        row->direction = "step";
        row->batch = batch;
        row->threads = threads;
        row->repro =
            cli_format("tern bench model %s --batch %lld --threads %d%s%s", name, (long long)batch,
                       threads, limit ? " --memory " : "", limit ? limit : "");
        b->opt = tern_adam(b->ctx, b->net, NULL);
        status = plan(b);
        if (status == EXIT_DONE && !measure(to, b, row)) status = session_failed(b->ctx, NULL);
    }
    tern_drop(b->images);
    for (int i = 0; i < N_LABELS; i++) tern_drop(b->labels[i]);
    if (status != EXIT_DONE) tern_error_clear(b->ctx);
    status = session_close(b->ctx, status);
    free(b);
    return status;
}

int bench_run_model(bench *to, const char *name, int64_t batch)
{
    int64_t *list = NULL;
    int n = 0, status = EXIT_DONE;

    if (cli_given(to->c, "batch")) n = ints_parse(cli_text(to->c, "batch"), &list);
    for (int t = 0; t < to->n_threads && status == EXIT_DONE; t++)
        for (int i = 0; i < (n ? n : 1) && status == EXIT_DONE; i++) {
            status = one(to, name, n ? list[i] : batch, to->threads[t]);
            if (status == EXIT_DONE) bench_judge(to, &to->row[to->n_row - 1]);
        }
    free(list);
    return status;
}

int bench_model(cli *c)
{
    bench b;
    int status = EXIT_DONE;

    if (c->n_arg < 2) return usage_error(c, "bench model needs the name of a net");
    if (!bench_start(&b, c, "model")) return EXIT_FAILED;
    for (int i = 1; i < c->n_arg && status == EXIT_DONE; i++)
        status = bench_run_model(&b, c->arg[i], 64);
    if (status == EXIT_DONE) status = bench_report(&b);
    bench_end(&b);
    return session_close(b.ctx, status);
}
