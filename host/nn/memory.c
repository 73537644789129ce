/*
 * memory.c - what training and inference of a net take, planned without running either; plans that
 * keep within a limit, and the largest batch that does.
 */
#include "nn/module.h"

#include "tern/grad.h"
#include "tern/optim.h"

/* The steps of a net and perhaps an optimizer, as programs. They live as long as the context. */
typedef struct {
    tern_module *net;
    tern_optim *opt;
    tern_program *train, *infer;
    tern_type type;
    bool labels; /* the net gives [N,K]: the loss is cross-entropy over N labels, else the sum */
} planner;

static tern_status train_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const planner *p = user;
    tern_tensor *y = tern_forward(ctx, p->net, in[0]);

    out[0] = in[1] ? tern_cross_entropy(ctx, y, in[1], NULL, NULL) : tern_sum(ctx, y, NULL);
    if (tern_backward(ctx, out[0], p->net)) return tern_error(ctx);
    return p->opt ? tern_optim_step(ctx, p->opt) : TERN_OK;
}

static tern_status infer_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const planner *p = user;

    tern_no_grad_begin(ctx);
    out[0] = tern_forward(ctx, p->net, in[0]);
    tern_no_grad_end(ctx);
    return tern_error(ctx);
}

static void planner_close(tern_ctx *ctx, void *user) { tern_free(ctx, user); }

/* t: what tern_summary_rows says of such batches; NULL after its failure. */
static planner *planner_open(tern_ctx *ctx, tern_module *net, tern_optim *opt,
                             const tern_summary_table *t)
{
    planner *p = t ? tern_alloc(ctx, sizeof *p) : NULL;

    if (!p) return NULL;
    *p = (planner){.net = net, .opt = opt, .type = tern_module_root(net)->type};
    p->labels = t->out.rank == 2 && t->out.dim[0] == t->x.dim[0];
    if (tern_on_close(ctx, planner_close, p)) {
        tern_free(ctx, p);
        return NULL;
    }
    p->train = tern_record(ctx, train_step, p);
    p->infer = tern_record(ctx, infer_step, p);
    return p->train && p->infer ? p : NULL;
}

static tern_status plan_in(tern_ctx *ctx, const planner *p, tern_mode_t mode, tern_shape x,
                           size_t arena)
{
    const bool train = mode == TERN_TRAIN;
    const tern_shape shapes[2] = {x, {1, {x.dim[0]}}};
    const tern_type types[2] = {p->type, TERN_I64};
    tern_program *program = train ? p->train : p->infer;
    const tern_mode_t before = tern_mode_of(ctx);

    tern_program_limit(program, arena);
    tern_mode(ctx, mode);
    const tern_status status =
        tern_program_plan(ctx, program, train && p->labels ? 2 : 1, shapes, types);
    tern_mode(ctx, before);
    return status;
}

tern_program *tern_plan_step(tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_shape x,
                             size_t arena)
{
    const planner *p = planner_open(ctx, net, opt, tern_summary_rows(ctx, net, x));

    return p && plan_in(ctx, p, TERN_TRAIN, x, arena) == TERN_OK ? p->train : NULL;
}

/* What a limit on all leaves to the arena. At least something: then the plan takes the least. */
static size_t left(size_t memory, size_t taken)
{
    return !memory ? 0 : memory > taken ? memory - taken : 1;
}

static tern_status plan_all(tern_ctx *ctx, tern_memory_plan *to, const planner *p, int64_t params,
                            int64_t buffers, tern_shape x, size_t memory)
{
    const size_t each = tern_type_size(p->type);
    const size_t label = p->labels ? tern_type_size(TERN_I64) : 0;

    *to = (tern_memory_plan){.weights = (size_t)params * each, .buffers = (size_t)buffers * each};
    to->optimizer = p->opt ? tern_optim_bytes(p->opt) : 0;
    to->gradients = to->weights;
    to->inputs = (size_t)tern_count(x) * each + (size_t)x.dim[0] * label;
    /* An optimizer consumes the gradients within the step: then they are a part of its arena. */
    const size_t kept = to->weights + to->buffers + to->inputs,
                 fixed = kept + to->optimizer + (p->opt ? 0 : to->gradients);
    if (plan_in(ctx, p, TERN_EVAL, x, left(memory, kept + to->inputs))) return tern_error(ctx);
    to->infer = tern_program_peak(p->infer);
    if (params) {
        if (plan_in(ctx, p, TERN_TRAIN, x, left(memory, fixed + to->inputs)))
            return tern_error(ctx);
        to->train = tern_program_peak(p->train);
        to->again = tern_program_again(p->train);
    }
    to->infer_total = kept + to->infer;
    to->train_total = fixed + to->train;
    to->needed = to->train_total + to->inputs;
    return TERN_OK;
}

tern_status tern_plan_memory_within(tern_ctx *ctx, tern_memory_plan *plan, tern_module *net,
                                    tern_optim *opt, tern_shape x, size_t memory)
{
    const tern_summary_table *t = tern_summary_rows(ctx, net, x);

    if (plan) *plan = (tern_memory_plan){0};
    if (t && !plan) return tern_fail(ctx, TERN_E_ARGUMENT, "plan_memory: no room for the plan");
    const planner *p = planner_open(ctx, net, opt, t);
    return p ? plan_all(ctx, plan, p, t->params, t->buffers, x, memory) : tern_error(ctx);
}

tern_status tern_plan_memory(tern_ctx *ctx, tern_memory_plan *plan, tern_module *net,
                             tern_optim *opt, tern_shape x)
{
    return tern_plan_memory_within(ctx, plan, net, opt, x, 0);
}

int64_t tern_largest_batch(tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_shape x,
                           size_t memory, bool adapts, int64_t most)
{
    int64_t fits = 0, too_large = most + 1;

    if (x.rank > 0) x.dim[0] = 1;
    const tern_summary_table *t = tern_summary_rows(ctx, net, x);
    const planner *p = planner_open(ctx, net, opt, t);

    if (p && (!memory || most < 1)) {
        tern_fail(ctx, TERN_E_ARGUMENT, "largest_batch: %zu bytes, at most %lld images", memory,
                  (long long)most);
        return 0;
    }
    for (int64_t n = 1; p && too_large - fits > 1;) {
        tern_memory_plan plan;

        x.dim[0] = n;
        if (plan_all(ctx, &plan, p, t->params, t->buffers, x, adapts ? memory : 0)) return 0;
        if (plan.needed <= memory) fits = n;
        else too_large = n;
        /* doubled while it fits, then halved between the two */
        n = too_large > most ? (2 * n < most ? 2 * n : most) : fits + (too_large - fits) / 2;
    }
    return fits;
}
