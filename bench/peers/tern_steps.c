/*
 * tern_steps.c - training steps in Tern, on request: one of the sides of interleaved.py.
 *
 *   tern_steps MODEL BATCH THREADS [direct]
 *
 * MODEL: one of the library's, or lstm, gru: sequences of 64 steps, one label a step; or eager:
 * multiplications of 4 by 4 numbers forward and backward. A step is forward, loss, backward and
 * Adam, in f32, replayed; images are fixed, labels rotate. direct: no Winograd. What is said and
 * answered: steps.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <tern/tern.h>
#include <time.h>

enum { N_LABELS = 8, FEW = 2, MANY = 34, SAMPLES = 1 << 20 };
enum { TIME = 64, FEATURES = 128, STATE = 256, TOKENS = 128 }; /* of the recurrent nets */

typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_optim *opt;
    tern_program *program; /* NULL: eager */
    tern_tensor *x, *factor, *labels[N_LABELS];
    int turn;
} side;

typedef struct {
    int n;
    double ms[SAMPLES];
    bool calm[SAMPLES]; /* the system took no core away */
} samples;

static samples one, few, many;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long preempted(void)
{
    struct rusage use;

    return getrusage(RUSAGE_SELF, &use) == 0 ? use.ru_nivcsw : 0;
}

/* Not ru_maxrss, which begins with what the parent had. */
static long long peak_rss(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long long kib = 0;

    while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %lld", &kib) != 1) {
    }
    if (f) fclose(f);
    return kib * 1024;
}

/* ---- A step ---------------------------------------------------------------------------------- */

static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    side *s = user;

    out[0] = tern_cross_entropy(ctx, tern_forward(ctx, s->net, in[0]), in[1], NULL, NULL);
    if (!out[0] || tern_backward(ctx, out[0], s->net) != TERN_OK) return tern_error(ctx);
    return tern_optim_step(ctx, s->opt);
}

static void run_step(side *s, int unused)
{
    tern_tensor *in[] = {s->x, s->labels[s->turn++ % N_LABELS], NULL}, *loss;

    (void)unused;
    tern_frame_begin(s->ctx);
    if (tern_program_run(s->ctx, &loss, s->program, in) == TERN_OK) (void)tern_item(s->ctx, loss);
    tern_frame_end(s->ctx);
}

/* n operations, forward and backward, their sum and its derivative. */
static void run_chain(side *s, int n)
{
    tern_tensor *x, *y, *d;

    tern_frame_begin(s->ctx);
    y = x = tern_track(s->ctx, s->x);
    for (int i = 0; i < n; i++) y = tern_mul(s->ctx, y, s->factor);
    y = tern_sum(s->ctx, y, NULL);
    (void)!tern_grads(s->ctx, &d, 1, &y, NULL, 1, &x);
    tern_frame_end(s->ctx);
}

/* [T,N,K] -> [TN,K], for the loss */
static tern_tensor *merge(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);

    (void)m;
    return tern_reshape(ctx, x, (tern_shape){2, {s.dim[0] * s.dim[1], s.dim[2]}});
}

static tern_module *recurrent(tern_ctx *ctx, bool lstm)
{
    return tern_sequential(ctx,
                           (tern_module *[]){lstm ? tern_nn_lstm(ctx, FEATURES, STATE, NULL)
                                                  : tern_nn_gru(ctx, FEATURES, STATE, NULL),
                                             tern_nn_linear(ctx, STATE, TOKENS, NULL),
                                             tern_module_new(ctx, "merge", merge, NULL, 0), NULL});
}

static tern_tensor *random_values(tern_ctx *ctx, tern_shape s)
{
    const int64_t zero = 0;
    tern_random_opts o = {.seed = (int64_t)tern_seed(ctx),
                          .purpose = tern_purpose("peers"),
                          .rank = s.rank,
                          .type = TERN_F32,
                          .b = 1};
    tern_tensor *x;

    memcpy(o.dim, s.dim, sizeof o.dim);
    x = tern_normal(ctx, tern_from_host(ctx, TERN_I64, &zero, (tern_shape){0}), &o);
    return tern_hold(s.rank == 4 ? tern_channels_last(ctx, x) : x);
}

static tern_status make_labels(side *s, int64_t n, int64_t classes)
{
    int64_t *label = malloc((size_t)n * sizeof *label);
    unsigned long long state = 1;

    if (!label) return tern_fail(s->ctx, TERN_E_MEMORY, "no room for labels");
    for (int k = 0; k < N_LABELS; k++) {
        for (int64_t i = 0; i < n; i++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            label[i] = (int64_t)((state >> 33) % (unsigned long long)classes);
        }
        s->labels[k] = tern_hold(tern_from_host(s->ctx, TERN_I64, label, (tern_shape){1, {n}}));
    }
    free(label);
    return tern_error(s->ctx);
}

static tern_status prepare(side *s, const char *model, int64_t batch)
{
    tern_ctx *ctx = s->ctx;
    const bool lstm = strcmp(model, "lstm") == 0;
    tern_model_info about;

    if (strcmp(model, "eager") == 0) {
        s->x = random_values(ctx, (tern_shape){2, {4, 4}});
        s->factor = random_values(ctx, (tern_shape){2, {4, 4}});
        return tern_error(ctx);
    }
    if (lstm || strcmp(model, "gru") == 0) {
        s->net = recurrent(ctx, lstm);
        s->x = random_values(ctx, (tern_shape){3, {TIME, batch, FEATURES}});
        (void)!make_labels(s, TIME * batch, TOKENS);
    } else {
        s->net = tern_model(ctx, model, NULL);
        if (!s->net || !tern_model_named(model, &about)) return tern_error(ctx);
        const tern_model_opts *o = &about.own;
        s->x = random_values(ctx, (tern_shape){4, {batch, o->channels, o->height, o->width}});
        (void)!make_labels(s, batch, o->classes);
    }
    tern_mode(ctx, TERN_TRAIN);
    s->opt = tern_adam(ctx, s->net, NULL);
    s->program = tern_record(ctx, step, s);
    return tern_error(ctx);
}

/* ---- Samples --------------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Of the calm samples; of all, if none is. Spoils them. */
static double median(samples *t)
{
    int n = 0;

    for (int i = 0; i < t->n; i++)
        if (t->calm[i]) t->ms[n++] = t->ms[i];
    if (n == 0) n = t->n;
    qsort(t->ms, (size_t)n, sizeof *t->ms, by_size);
    return (t->ms[(n - 1) / 2] + t->ms[n / 2]) / 2;
}

static void sample(side *s, samples *to, void (*run)(side *, int), int n)
{
    const long before = preempted();
    const double from = now();

    run(s, n);
    to->ms[to->n] = 1e3 * (now() - from);
    to->calm[to->n++] = preempted() == before;
}

static double measure(side *s, double seconds, int *n)
{
    one.n = few.n = many.n = 0;
    if (s->program) run_step(s, 0);
    else run_chain(s, MANY);
    const double end = now() + seconds;
    do {
        if (s->program) sample(s, &one, run_step, 0);
        else {
            sample(s, &few, run_chain, FEW);
            sample(s, &many, run_chain, MANY);
        }
    } while (now() < end && one.n < SAMPLES && many.n < SAMPLES);
    *n = s->program ? one.n : many.n;
    return s->program ? median(&one) : (median(&many) - median(&few)) / (MANY - FEW);
}

static void serve(side *s)
{
    char line[64];
    int n;

    if (s->program) run_step(s, 0);
    else run_chain(s, FEW);
    if (tern_error(s->ctx)) return;
    printf("{\"at\": %.6f, \"versions\": {\"tern\": \"%s\", \"isa\": \"%s\"}}\n", now(),
           tern_version(), tern_isa(s->ctx));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && !tern_error(s->ctx)) {
        const double ms = measure(s, strtod(line, NULL), &n);
        printf("{\"ms\": %.9g, \"n\": %d, \"peak_rss\": %lld}\n", ms, n, peak_rss());
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    side s = {0};

    if (argc < 4) {
        fprintf(stderr, "usage: tern_steps MODEL BATCH THREADS [direct]\n");
        return 2;
    }
    const bool winograd = argc == 4 || strcmp(argv[4], "direct") != 0;
    if (tern_open(&s.ctx, "cpu") == TERN_OK && tern_threads_set(s.ctx, atoi(argv[3])) == TERN_OK &&
        tern_winograd_set(s.ctx, winograd) == TERN_OK &&
        prepare(&s, argv[1], atoll(argv[2])) == TERN_OK)
        serve(&s);
    const int failed = tern_error(s.ctx) != TERN_OK;
    if (failed) fprintf(stderr, "%s\n", tern_error_text(s.ctx));
    tern_drop(s.x);
    tern_drop(s.factor);
    for (int k = 0; k < N_LABELS; k++) tern_drop(s.labels[k]);
    return tern_close(s.ctx) != TERN_OK || failed;
}
