/*
 * bench_small.c - `tern bench pool` and `tern bench launch`: what everything else stands on.
 *
 * pool: a block taken from the cache and given back, by size; then training steps of four batches
 * by turns, what the pool holds beside what is in use at most, and what it asks of the device.
 * launch: a chain of operations on 4 numbers: eager, with its derivatives, replayed; on a device
 * with graphs also what the host needs to ask for a replayed step, captured or call by call.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"

typedef struct {
    tern_ctx *ctx;
    size_t bytes;
    tern_tensor *x;
    tern_program *program;
    bool derive;
} small;

static char *repro(const bench *b, const bench_row *row)
{
    return cli_format("tern bench %s --threads %d", b->what, row->threads);
}

/* Samples of fn divided by `each`, as a row. */
static bool time_row(bench *b, const char *kind, const char *name, bench_fn fn, void *user,
                     double each)
{
    bench_row *row = bench_add(b, kind, name);

    row->threads = tern_threads(b->ctx);
    row->repro = repro(b, row);
    for (int64_t round = 0; round < b->rounds; round++)
        if (!bench_sample(b, &row->time, round, fn, user)) return false;
    for (int i = 0; i < row->time.n; i++) row->time.x[i] /= each;
    samples_sum(&row->time);
    return true;
}

static int finish(bench *b, bool fine)
{
    int status = EXIT_FAILED;

    if (fine) status = bench_report(b);
    else session_failed(b->ctx, NULL);
    tern_error_clear(b->ctx);
    bench_end(b);
    return session_close(b->ctx, status);
}

/* ---- Pool ------------------------------------------------------------------------------------ */

static bool cycle(void *user, int64_t times)
{
    const small *s = user;

    return tern_memory_cycle(s->ctx, s->bytes, times) == TERN_OK;
}

typedef struct {
    tern_module *net;
    tern_optim *opt;
    tern_program *program;
} turns;

static tern_status train_step(tern_ctx *ctx, tern_tensor **to, tern_tensor **in, void *user)
{
    turns *t = user;

    to[0] = tern_cross_entropy(ctx, tern_forward(ctx, t->net, in[0]), in[1], NULL, NULL);
    if (tern_backward(ctx, to[0], t->net) != TERN_OK) return tern_error(ctx);
    return tern_optim_step(ctx, t->opt);
}

static bool run_step(tern_ctx *ctx, turns *t, int64_t batch)
{
    int64_t *label = cli_alloc((size_t)batch * sizeof *label);
    tern_tensor *loss;

    for (int64_t i = 0; i < batch; i++) label[i] = i % 10;
    tern_frame_begin(ctx);
    tern_tensor *in[] = {tern_fill(ctx, TERN_F32, (tern_shape){4, {batch, 1, 28, 28}}, 0.5),
                         tern_from_host(ctx, TERN_I64, label, (tern_shape){1, {batch}}), NULL};
    (void)!tern_program_run(ctx, &loss, t->program, in);
    tern_frame_end(ctx);
    free(label);
    return tern_error(ctx) == TERN_OK;
}

/* What 200 steps left, as a row. */
static void add_turns(bench *b, const char *name, const tern_memory *before, const tern_memory *m)
{
    bench_row *row = bench_add(b, "pool", name);
    json j = {.line = true};
    const double per_peak = (double)m->peak_reserved / (double)m->peak;
    const long long asked = (long long)(m->n_device_alloc - before->n_device_alloc);

    row->threads = tern_threads(b->ctx);
    row->repro = repro(b, row);
    row->notes =
        cli_format("\n%s: in use at most %s, reserved at most %s (%.2f of it); after 80 "
                   "steps of warm-up %lld allocations, %lld of them by the device; "
                   "fragmentation %.0f%%.\n",
                   name, mebibytes((double)m->peak), mebibytes((double)m->peak_reserved), per_peak,
                   (long long)(m->n_alloc - before->n_alloc), asked, 100 * m->fragmentation);
    json_open(&j, NULL, '{');
    json_int(&j, "peak_bytes", (int64_t)m->peak);
    json_int(&j, "peak_reserved_bytes", (int64_t)m->peak_reserved);
    json_real(&j, "reserved_per_peak", per_peak);
    json_int(&j, "allocations", m->n_alloc - before->n_alloc);
    json_int(&j, "device_allocations", asked);
    json_real(&j, "fragmentation", m->fragmentation);
    json_close(&j, '}');
    row->extra = json_take(&j);
    row->extra[strlen(row->extra) - 1] = '\0';
}

/* Training steps of four batches by turns, replayed or eager; ctx is new, its pool empty. */
static bool take_turns(bench *b, tern_ctx *ctx, bool eager, const char *name)
{
    static const int64_t batch[] = {128, 32, 96, 64};
    const int warm = 80, steps = 200;
    tern_memory m, before = {0};
    turns t = {.net = tern_model(ctx, "lenet5", NULL)};

    t.opt = t.net ? tern_adam(ctx, t.net, NULL) : NULL;
    t.program = t.opt ? tern_record(ctx, train_step, &t) : NULL;
    tern_mode(ctx, TERN_TRAIN);
    tern_eager_set(ctx, eager);
    for (int i = 0; i < warm + steps && t.program; i++) {
        if (i == warm) tern_memory_stats(ctx, &before);
        if (!run_step(ctx, &t, batch[i % 4])) return false;
    }
    if (!t.program) return false;
    tern_memory_stats(ctx, &m);
    add_turns(b, name, &before, &m);
    return true;
}

static bool by_turns(bench *b, bool eager, const char *name)
{
    tern_ctx *ctx = NULL;
    bool fine = tern_open(&ctx, tern_device(b->ctx)) == TERN_OK &&
                tern_threads_set(ctx, tern_threads(b->ctx)) == TERN_OK;

    fine = fine && take_turns(b, ctx, eager, name);
    if (!fine) (void)tern_fail(b->ctx, tern_error(ctx), "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    (void)!tern_close(ctx);
    return fine;
}

int bench_pool(cli *c)
{
    static const size_t sizes[] = {64, 1024, 65536, 1 << 20, 16 << 20};
    bench b;
    bool fine = true;

    if (c->n_arg != 1) return usage_error(c, "bench pool takes no \"%s\"", c->arg[1]);
    if (!bench_start(&b, c, "pool")) return EXIT_FAILED;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && fine; i++) {
        small s = {.ctx = b.ctx, .bytes = sizes[i]};
        char *name =
            cli_format("hit of %s", sizes[i] < 1024 ? "64 B" : mebibytes((double)sizes[i]));

        fine = time_row(&b, "pool", name, cycle, &s, 1);
        free(name);
    }
    fine = fine && by_turns(&b, true, "200 eager steps of lenet5, four batches by turns");
    fine = fine && (tern_eager(b.ctx) ||
                    by_turns(&b, false, "200 replayed steps of lenet5, four batches by turns"));
    return finish(&b, fine);
}

/* ---- Launch ---------------------------------------------------------------------------------- */

enum { CHAIN = 64 };

/* Two operations by turns, none of which a program could leave out. */
static tern_tensor *chain(tern_ctx *ctx, tern_tensor *x)
{
    tern_tensor *y = x;

    for (int i = 0; i < CHAIN / 2; i++) y = tern_mul(ctx, tern_tanh(ctx, y), x);
    return y;
}

/* A device works beside the host: what was asked for is done when this returns. */
static bool wait_for(tern_ctx *ctx)
{
    tern_frame_begin(ctx);
    (void)tern_item(ctx, tern_read(ctx, tern_tripped(ctx)));
    tern_frame_end(ctx);
    return tern_error(ctx) == TERN_OK;
}

static bool eager(void *user, int64_t times)
{
    small *s = user;

    for (int64_t i = 0; i < times && tern_error(s->ctx) == TERN_OK; i++) {
        tern_tensor *x, *y, *d;

        tern_frame_begin(s->ctx);
        x = s->derive ? tern_track(s->ctx, s->x) : s->x;
        y = chain(s->ctx, x);
        if (s->derive) (void)!tern_grads(s->ctx, &d, 1, &y, NULL, 1, &x);
        tern_frame_end(s->ctx);
    }
    return wait_for(s->ctx);
}

static tern_status chain_step(tern_ctx *ctx, tern_tensor **to, tern_tensor **in, void *user)
{
    (void)user;
    to[0] = chain(ctx, in[0]);
    return tern_error(ctx);
}

/* Without the wait. */
static bool ask(void *user, int64_t times)
{
    small *s = user;

    for (int64_t i = 0; i < times && tern_error(s->ctx) == TERN_OK; i++) {
        tern_tensor *y, *in[] = {s->x, NULL};

        tern_frame_begin(s->ctx);
        (void)!tern_program_run(s->ctx, &y, s->program, in);
        tern_frame_end(s->ctx);
    }
    return tern_error(s->ctx) == TERN_OK;
}

static bool replayed(void *user, int64_t times)
{
    return ask(user, times) && wait_for(((small *)user)->ctx);
}

/* The host's time for asking: a few steps into an empty queue, not waited for. */
static bool time_launch(bench *b, small *s, const char *name)
{
    enum { BURST = 8 };
    bench_row *row = bench_add(b, "launch", name);
    const double began = seconds_now();

    row->threads = tern_threads(b->ctx);
    row->repro = repro(b, row);
    if (!ask(s, 2)) return false; /* captured by then */
    while (row->time.n < 3 || (row->time.n < 1000 && seconds_now() - began < b->seconds)) {
        if (!wait_for(b->ctx)) return false;
        const double from = seconds_now();
        if (!ask(s, BURST)) return false;
        samples_put(&row->time, 1e9 * (seconds_now() - from) / BURST, row->time.n % 2);
    }
    samples_sum(&row->time);
    return true;
}

static bool launch_rows(bench *b, small *s, int n)
{
    char *name = cli_format("asking for a captured step of %d calls", n);
    bool fine = time_launch(b, s, name);

    free(name);
    tern_graphs_set(b->ctx, false);
    name = cli_format("asking for a replayed step of %d calls, call by call", n);
    fine = fine && time_launch(b, s, name);
    free(name);
    tern_graphs_set(b->ctx, true);
    return fine;
}

static bool replay_rows(bench *b, small *s)
{
    tern_line_time line[4 * CHAIN];
    tern_tensor *in[] = {s->x, NULL};
    char *name;
    int n = 0;
    bool fine;

    s->program = tern_record(b->ctx, chain_step, s);
    if (tern_eager(b->ctx)) return true; /* nothing is replayed then */
    if (tern_program_profile(b->ctx, s->program, in, 3, line, 4 * CHAIN, &n, NULL) != TERN_OK ||
        n < 1)
        return false;
    name = cli_format("replayed line (of %d)", n);
    fine = time_row(b, "launch", name, replayed, s, n);
    free(name);
    return fine && (!tern_graphs(b->ctx) || launch_rows(b, s, n));
}

int bench_launch(cli *c)
{
    const float four[] = {0.1f, 0.2f, 0.3f, 0.4f};
    bench b;
    small s = {0};
    bool fine;

    if (c->n_arg != 1) return usage_error(c, "bench launch takes no \"%s\"", c->arg[1]);
    if (!bench_start(&b, c, "launch")) return EXIT_FAILED;
    s.ctx = b.ctx;
    s.x = tern_from_host(b.ctx, TERN_F32, four, (tern_shape){1, {4}});
    fine = s.x && time_row(&b, "launch", "eager operation", eager, &s, CHAIN);
    s.derive = true;
    fine = fine &&
           time_row(&b, "launch", "eager operation, forward and backward", eager, &s, CHAIN) &&
           replay_rows(&b, &s);
    return finish(&b, fine);
}
