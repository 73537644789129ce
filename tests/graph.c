/*
 * graph.c - steps captured as graphs of the device, batches copied ahead, flags read late. On simt,
 * whose streams run in random orders that only what CUDA promises limits, and whose captures forbid
 * what a GPU's forbid.
 */
#include <dlfcn.h>

#include "core/program.h"
#include "simt/control.h"
#include "step.h"
#include "tern/data.h"
#include "tern/models.h"
#include "tern/train.h"

/* ---- The device ---- */

static const char *tested = "simt"; /* of the device under test */

/* A function of control.h in the plug-in. */
static void *control(tern_ctx *ctx, const char *name)
{
    void *f = dlsym(ctx->plugin, name);

    cr_assert(f != NULL, "the plug-in has no %s", name);
    return f;
}

typedef enum { EAGER, CALLS, GRAPH } way;

static int n_told; /* that graphs are switched off */

static void count_captures(void *user, const char *topic, const char *text)
{
    *(int *)user += strcmp(topic, "program") == 0 && strstr(text, "captured as a graph") != NULL;
    n_told += strcmp(topic, "program") == 0 && strstr(text, "graphs are switched off") != NULL;
}

static tern_ctx *open_as(way how, unsigned seed, int *captures)
{
    tern_ctx *ctx = tc_open(tested);
    void (*set_seed)(unsigned);

    if (strcmp(tested, "simt") == 0) {
        *(void **)&set_seed = control(ctx, "simt_seed");
        set_seed(seed);
    }
    snprintf(ctx->env.disable, sizeof ctx->env.disable, "fuse");
    tern_eager_set(ctx, how == EAGER);
    tern_graphs_set(ctx, how == GRAPH);
    *captures = 0;
    tern_log_to(ctx, count_captures, captures);
    return ctx;
}

/* All bytes of all variables, as one hash. */
static uint64_t hash_of(tern_ctx *ctx)
{
    uint64_t h = 14695981039346656037u;

    for (tern_var *v = ctx->vars; v; v = v->next) {
        const size_t bytes = (size_t)v->count * tern_type_size(v->type);
        unsigned char *x = calloc(bytes + 1, 1);

        if (v->block == v && v->store)
            ctx->backend->download(ctx->device, x, v->store->data, bytes);
        for (size_t i = 0; i < bytes; i++) h = (h ^ x[i]) * 1099511628211u;
        free(x);
    }
    FINE(ctx);
    return h;
}

/* ---- Jobs ---- */

static job mlp(tern_ctx *ctx)
{
    tern_module *parts[] = {tern_nn_flatten(ctx),
                            tern_nn_linear(ctx, 36, 7, NULL),
                            tern_nn_layer_norm(ctx, (tern_shape){1, {7}}, NULL),
                            tern_nn_dropout(ctx, 0.5),
                            tern_nn_linear(ctx, 7, 4, NULL),
                            NULL};
    job j = {.net = tern_sequential(ctx, parts)};

    j.opt = tern_adam(ctx, j.net, &(tern_adam_opts){.lr = 0.01, .clip_norm = 0.5});
    tern_mode(ctx, TERN_TRAIN);
    FINE(ctx);
    return j;
}

static job lenet(tern_ctx *ctx)
{
    job j = {.net = tern_model(ctx, "lenet5", &(tern_model_opts){.height = 20, .width = 20})};

    j.opt = tern_adam(ctx, j.net, NULL);
    tern_mode(ctx, TERN_TRAIN);
    FINE(ctx);
    return j;
}

static job make_job(tern_ctx *ctx, int kind)
{
    return kind == 0 ? small_net(ctx, true) : kind == 1 ? mlp(ctx) : lenet(ctx);
}

/* Images of the job's kind; a number that is not finite among them if `bad`. */
static void feed_job(tern_ctx *ctx, tern_tensor **in, int kind, int i, int64_t n, bool bad)
{
    feed(ctx, in, i, n);
    if (kind == 2) in[0] = randoms(ctx, TI_SHAPE(n, 1, 20, 20), 500 + (uint64_t)i);
    if (bad) in[0] = tern_mul(ctx, in[0], tern_fill(ctx, TERN_F32, TI_SCALAR, INFINITY));
    FINE(ctx);
}

typedef struct {
    double loss[12];
    uint64_t hash;
    int captures;
} trained;

enum { STEPS = 12 };

/* A rate of its own for each step, every fifth batch smaller, one step that the guard skips. */
static trained train(int kind, way how, unsigned seed)
{
    trained t = {0};
    tern_ctx *ctx = open_as(how, seed, &t.captures);
    job j = make_job(ctx, kind);
    tern_program *p = tern_record(ctx, train_step, &j);

    for (int i = 0; i < STEPS; i++) {
        tern_tensor *in[3], *loss;

        cr_assert(tern_optim_set_lr(ctx, j.opt, 0.05 / (1 + i)) == TERN_OK);
        tern_frame_begin(ctx);
        feed_job(ctx, in, kind, i % 3, i % 5 == 4 ? 3 : 6, i == 7);
        cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        t.loss[i] = i == 7 ? 0 : tern_item(ctx, loss);
        cr_expect((value(ctx, tern_tripped(ctx)) != 0) == (i == 7), "step %d", i);
        if (i == 7) cr_assert(tern_set(ctx, tern_tripped(ctx), 0) == TERN_OK);
        tern_frame_end(ctx);
    }
    cr_expect(tern_program_traces(p) == (how == EAGER ? 0 : 2));
    t.hash = hash_of(ctx);
    tc_close(ctx);
    return t;
}

static void same(const trained *a, const trained *b, const char *what)
{
    for (int i = 0; i < STEPS; i++)
        cr_expect(memcmp(&a->loss[i], &b->loss[i], sizeof a->loss[i]) == 0,
                  "%s: step %d: %.17g and %.17g", what, i, a->loss[i], b->loss[i]);
    cr_expect(a->hash == b->hash, "%s: variables differ", what);
}

static void compare_ways(void)
{
    if (!tc_has(tested)) return;
    for (int kind = 0; kind < 3; kind++) {
        const trained eager = train(kind, EAGER, 0), calls = train(kind, CALLS, 0);

        same(&eager, &calls, "call by call");
        cr_expect(eager.captures == 0 && calls.captures == 0);
        for (unsigned seed = 0; seed < 3; seed++) {
            const trained graph = train(kind, GRAPH, seed);

            same(&eager, &graph, "captured");
            cr_expect(graph.captures == 2, "one graph a batch size, not %d", graph.captures);
        }
    }
}

Test(graph, captured_and_eager_steps_are_the_same_bits) { compare_ways(); }

Test(graph_cuda, captured_and_eager_steps_are_the_same_bits)
{
    tested = "cuda";
    compare_ways();
}

/* ---- When it is captured ---- */

/* One more run of the step; the loss's bits. */
static double run_once(tern_ctx *ctx, tern_program *p, int i, int64_t n)
{
    tern_tensor *in[3], *loss;

    tern_frame_begin(ctx);
    feed(ctx, in, i, n);
    cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    const double x = tern_item(ctx, loss);
    tern_frame_end(ctx);
    return x;
}

Test(graph, the_arena_moves_and_the_step_is_captured_again)
{
    int captures;

    if (!tc_has("simt")) return;
    tern_ctx *ctx = open_as(GRAPH, 0, &captures);
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, train_step, &j);

    for (int i = 0; i < 3; i++) (void)run_once(ctx, p, i, 4);
    cr_expect(captures == 1, "%d", captures);
    const uint64_t age = ctx->arena_age;
    (void)run_once(ctx, p, 3, 60);
    cr_assert(ctx->arena_age > age, "a larger batch needs a larger arena");
    (void)run_once(ctx, p, 0, 4); /* bound anew: call by call */
    cr_expect(captures == 1, "%d", captures);
    (void)run_once(ctx, p, 1, 4);
    (void)run_once(ctx, p, 2, 4);
    cr_expect(captures == 2, "%d", captures);
    tc_close(ctx);
}

Test(graph, switched_off)
{
    int captures = 0;

    if (!tc_has("simt")) return;
    for (int i = 0; i < 2; i++) {
        if (i == 0) setenv("TERN_DISABLE", "graph", 1);
        else unsetenv("TERN_DISABLE");
        tern_ctx *ctx = tc_open("simt");
        tern_log_to(ctx, count_captures, &captures);
        job j = small_net(ctx, false);
        tern_program *p = tern_record(ctx, train_step, &j);
        for (int k = 0; k < 3; k++) (void)run_once(ctx, p, k, 4);
        cr_expect(tern_graphs(ctx) == (i == 1));
        cr_expect(captures == i && n_told == 1, "%d, %d", captures, n_told);
        tc_close(ctx);
    }
    tern_ctx *cpu = tc_open("cpu");
    cr_expect(!tern_graphs(cpu));
    tc_close(cpu);
}

/* ---- What a capture may not hold ---- */

static const ti_backend *device;
static void (*honest)(const ti_work *w);

static void runs_and_allocates(const ti_work *w)
{
    const ti_memory m = device->memory(w->device);

    honest(w);
    void *p = m.alloc(m.user, 4096);
    if (p) m.free(m.user, p, 4096);
}

static void runs_and_waits(const ti_work *w)
{
    honest(w);
    (void)!device->sync(w->device);
}

/* The bound line of an op, whose row is `bad` from now on. */
static void replace(tern_program *p, const char *op, ti_row *bad, void (*run)(const ti_work *w),
                    const ti_row **was, ti_bound_line **at)
{
    for (ti_bound_line *b = p->last->bound->line; b->row; b++)
        if (strcmp(b->row->op, op) == 0) *at = b;
    cr_assert(*at != NULL, "no line of %s", op);
    *was = (*at)->row;
    *bad = **was;
    honest = bad->run;
    bad->run = run;
    (*at)->row = bad;
}

static void forbidden(void (*run)(const ti_work *w))
{
    int captures, eager_captures;
    tern_ctx *ctx = open_as(GRAPH, 0, &captures), *other = open_as(CALLS, 0, &eager_captures);
    job j = small_net(ctx, true), k = small_net(other, true);
    tern_program *p = tern_record(ctx, train_step, &j), *q = tern_record(other, train_step, &k);
    const ti_row *was = NULL;
    ti_bound_line *at = NULL;
    tern_tensor *in[3], *loss;
    ti_row bad;

    device = ctx->backend;
    cr_assert(run_once(ctx, p, 0, 6) == run_once(other, q, 0, 6));
    const uint64_t before = hash_of(ctx);
    replace(p, "batch_norm_d", &bad, run, &was, &at);
    feed(ctx, in, 1, 6);
    for (int i = 0; i < 2; i++) { /* again and again, and never a wrong result */
        cr_expect(tern_program_run(ctx, &loss, p, in) == TERN_E_UNSUPPORTED);
        const char *text = tern_error_text(ctx);
        cr_expect(strstr(text, "batch_norm_d/") && strstr(text, "backward") &&
                      strstr(text, "capture") && strstr(text, "TERN_DISABLE=graph"),
                  "%s", text);
        tern_error_clear(ctx);
        cr_expect(hash_of(ctx) == before, "a step that failed has changed a variable");
    }
    cr_expect(captures == 0);
    at->row = was; /* the context is usable: the run goes on, to the same bits */
    for (int i = 1; i < 4; i++) {
        const double a = run_once(ctx, p, i, 6), b = run_once(other, q, i, 6);
        cr_expect(memcmp(&a, &b, sizeof a) == 0, "step %d: %.17g and %.17g", i, a, b);
    }
    cr_expect(captures == 1 && hash_of(ctx) == hash_of(other));
    tc_close(other);
    tc_close(ctx);
}

Test(graph, an_allocation_inside_is_an_error_that_names_the_call)
{
    if (tc_has("simt")) forbidden(runs_and_allocates);
}

Test(graph, a_wait_inside_is_an_error_that_names_the_call)
{
    if (tc_has("simt")) forbidden(runs_and_waits);
}

Test(graph, a_device_that_fails_says_so)
{
    void (*fail_kernel)(long);
    int captures;

    if (!tc_has("simt")) return;
    tern_ctx *ctx = open_as(GRAPH, 0, &captures);
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, train_step, &j);
    tern_tensor *in[3], *loss = NULL;

    for (int i = 0; i < 2; i++) (void)run_once(ctx, p, i, 6);
    feed(ctx, in, 2, 6);
    *(void **)&fail_kernel = control(ctx, "simt_fail_kernel");
    fail_kernel(5);
    if (tern_program_run(ctx, &loss, p, in) == TERN_OK) (void)tern_item(ctx, loss);
    cr_expect(tern_error(ctx) == TERN_E_DEVICE, "%s", tern_error_text(ctx));
    cr_expect(
        strstr(tern_error_text(ctx), "in a captured step (TERN_CHECK=sync names the operation)"),
        "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    cr_expect(tern_close(ctx) == TERN_OK);
    tern_ctx *next = tc_open("simt"); /* the process lives, and so does the device for others */
    cr_expect(tern_item(next, tern_fill(next, TERN_F32, TI_SCALAR, 3)) == 3);
    tc_close(next);
}

/* ---- Faults ---- */

Test(graph, survives_each_allocation_failing)
{
    int captures;
    uint64_t whole = 0;
    long failed = 0;
    bool went_through = false;

    if (!tc_has("simt")) return;
    for (long nth = -1; !went_through && nth < 1000; nth++) {
        tern_ctx *ctx = open_as(GRAPH, 0, &captures);
        job j = mlp(ctx);
        tern_program *p = tern_record(ctx, train_step, &j);
        tern_tensor *in[3], *loss;

        (void)run_once(ctx, p, 0, 6);
        tern_frame_begin(ctx);
        feed(ctx, in, 1, 6);
        ti_fail_allocation(ctx, nth, nth & 1);
        const tern_status status = tern_program_run(ctx, &loss, p, in);
        ti_fail_allocation(ctx, -1, false);
        cr_assert(status == TERN_OK || status == TERN_E_MEMORY, "allocation %ld: %s", nth,
                  tern_error_text(ctx));
        tern_error_clear(ctx);
        went_through = nth >= 0 && status == TERN_OK;
        failed += status != TERN_OK;
        if (status != TERN_OK) /* the same step again: as if nothing had been */
            cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "allocation %ld: %s", nth,
                      tern_error_text(ctx));
        tern_frame_end(ctx);
        (void)run_once(ctx, p, 2, 6);
        if (nth < 0) whole = hash_of(ctx);
        cr_expect(hash_of(ctx) == whole && captures == 1, "allocation %ld", nth);
        tc_close(ctx);
    }
    cr_expect(went_through && failed > 4, "%ld allocations failed", failed);
}

Test(graph, survives_each_failing_creation_on_the_device)
{
    void (*fail_creation)(long);
    long (*creations)(void);
    int (*live)(void);
    int ignored;

    if (!tc_has("simt")) return;
    tern_ctx *keeps = open_as(CALLS, 0, &ignored); /* the plug-in stays loaded */
    *(void **)&fail_creation = control(keeps, "simt_fail_creation");
    *(void **)&creations = control(keeps, "simt_creations");
    *(void **)&live = control(keeps, "simt_live_objects");
    const int objects = live();
    long n = 1;
    for (long nth = 0; nth <= n; nth++) {
        int captures;
        tern_ctx *ctx = open_as(GRAPH, 0, &captures);
        job j = mlp(ctx);
        tern_program *p = tern_record(ctx, train_step, &j);

        (void)run_once(ctx, p, 0, 6);
        const long before = creations();
        fail_creation(nth);
        (void)run_once(ctx, p, 1,
                       6); /* once: the pool gives back what it can, the next try works */
        fail_creation(0);
        if (nth == 0) n = creations() - before;
        cr_expect(captures == 1 && creations() > before, "creation %ld of %ld", nth, n);
        tc_close(ctx);
        cr_expect(live() == objects, "creation %ld: %d objects are left", nth, live() - objects);
    }
    cr_expect(n >= 2, "a graph and its executable: %ld", n);
    tc_close(keeps);
}
