/* memory.c - --memory and --batch auto: plans that fit, and the message about those that do not. */
#include "cli/memory.h"

#include <math.h>
#include <string.h>

#include "cli/out.h"
#include "cli/session.h"

/* Free now: what the pool may still take, or the device or the machine can give, and what the pool
 * has. */
static double free_bytes(tern_ctx *ctx)
{
    const size_t room = tern_memory_room(ctx);
    tern_memory now;
    double total, available;

    tern_memory_stats(ctx, &now);
    if (now.cap) return (double)now.cap;
    if (room) return (double)room + (double)now.reserved;
    available = memory_available(&total);
    return total > 0 ? available + (double)now.live : HUGE_VAL;
}

memory_job memory_of(const cli *c, tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_shape x)
{
    const double asked = cli_size(c, "memory");

    return (memory_job){.ctx = ctx,
                        .net = net,
                        .opt = opt,
                        .x = x,
                        .asked = (size_t)asked,
                        .room = asked > 0 ? asked : free_bytes(ctx)};
}

static int64_t largest(const memory_job *m, int64_t most)
{
    const size_t room = m->room < 1e18 ? (size_t)m->room : (size_t)1e18;

    return tern_largest_batch(m->ctx, m->net, m->opt, m->x, room, m->asked > 0, most);
}

int memory_batch(cli *c, memory_job *m, int64_t most)
{
    int64_t n, power = 1;

    if (strcmp(cli_text(c, "batch"), "auto") != 0) {
        m->x.dim[0] = cli_int(c, "batch");
        return EXIT_DONE;
    }
    n = largest(m, most);
    if (tern_error(m->ctx) != TERN_OK) return session_failed(m->ctx, NULL);
    if (n == 0) {
        error("--batch auto: not even one image fits %s", mebibytes(m->room));
        return EXIT_FAILED;
    }
    while (2 * power <= n && power < 64) power *= 2;
    m->x.dim[0] = n < 64 ? power : n / 64 * 64;
    cli_force(c, "batch", cli_keep(cli_format("%lld", (long long)m->x.dim[0])));
    return EXIT_DONE;
}

static int too_much(const memory_job *m, const tern_memory_plan *p)
{
    const long long batch = (long long)m->x.dim[0];
    const int64_t best = batch > 1 ? largest(m, batch - 1) : 0;

    error("this plan needs %s on %s, %s is %s", mebibytes((double)p->needed), tern_device(m->ctx),
          mebibytes(m->room), m->asked ? "allowed" : "free");
    hint("weights %s, gradients %s, optimizer %s, activations and workspace %s   (batch %lld)",
         mebibytes((double)(p->weights + p->buffers)), mebibytes((double)p->gradients),
         mebibytes((double)p->optimizer), mebibytes((double)(p->train - p->gradients)), batch);
    if (best > 0)
        hint("largest batch that fits now: %lld.  Try --batch %lld or --batch auto",
             (long long)best, (long long)best);
    else hint("no batch fits: not even --batch 1");
    tern_error_clear(m->ctx);
    return EXIT_FAILED;
}

int memory_plan(const memory_job *m, tern_memory_plan *plan)
{
    if (tern_plan_memory_within(m->ctx, plan, m->net, m->opt, m->x, m->asked) != TERN_OK)
        return session_failed(m->ctx, NULL);
    return (double)plan->needed > m->room ? too_much(m, plan) : EXIT_DONE;
}
