/*
 * memory.c - what training and inference of a net take, planned without running either.
 */
#include "nn/module.h"

#include "tern/grad.h"
#include "tern/optim.h"

/* A step as tern_fit runs it, of a net and perhaps an optimizer. */
typedef struct {
    tern_module *net;
    tern_optim *opt;
} job;

static tern_status train_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const job *j = user;
    tern_tensor *y = tern_forward(ctx, j->net, in[0]);

    out[0] = in[1] ? tern_cross_entropy(ctx, y, in[1], NULL, NULL) : tern_sum(ctx, y, NULL);
    if (tern_backward(ctx, out[0], j->net)) return tern_error(ctx);
    return j->opt ? tern_optim_step(ctx, j->opt) : TERN_OK;
}

static tern_status infer_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const job *j = user;

    tern_no_grad_begin(ctx);
    out[0] = tern_forward(ctx, j->net, in[0]);
    tern_no_grad_end(ctx);
    return tern_error(ctx);
}

static void job_close(tern_ctx *ctx, void *user) { tern_free(ctx, user); }

/* The arena of a step in a mode. Programs live as long as the context, and so does what they use.
 */
static tern_status peak_of(tern_ctx *ctx, size_t *peak, tern_step step, job how, tern_mode_t mode,
                           int n, const tern_shape *shapes, const tern_type *types)
{
    const tern_mode_t before = tern_mode_of(ctx);
    job *j = tern_alloc(ctx, sizeof *j);

    if (!j) return tern_error(ctx);
    *j = how;
    if (tern_on_close(ctx, job_close, j)) {
        tern_free(ctx, j);
        return tern_error(ctx);
    }
    tern_program *program = tern_record(ctx, step, j);
    tern_mode(ctx, mode);
    const tern_status status =
        program ? tern_program_plan(ctx, program, n, shapes, types) : tern_error(ctx);
    tern_mode(ctx, before);
    if (status == TERN_OK) *peak = tern_program_peak(program);
    return status;
}

tern_status tern_plan_memory(tern_ctx *ctx, tern_memory_plan *plan, tern_module *net,
                             tern_optim *opt, tern_shape x)
{
    const tern_summary_table *t = tern_summary_rows(ctx, net, x);

    if (plan) *plan = (tern_memory_plan){0};
    if (t && !plan) return tern_fail(ctx, TERN_E_ARGUMENT, "plan_memory: no room for the plan");
    if (!t) return tern_error(ctx);
    const tern_type type = tern_module_root(net)->type;
    const size_t each = tern_type_size(type);
    const bool labels = t->out.rank == 2 && t->out.dim[0] == x.dim[0];
    const tern_shape shapes[2] = {x, {1, {x.dim[0]}}};
    const tern_type types[2] = {type, TERN_I64};
    const job how = {net, opt};

    plan->weights = (size_t)t->params * each;
    plan->buffers = (size_t)t->buffers * each;
    plan->optimizer = opt ? tern_optim_bytes(opt) : 0;
    plan->inputs =
        (size_t)tern_count(x) * each + (labels ? (size_t)x.dim[0] * tern_type_size(TERN_I64) : 0);
    if (peak_of(ctx, &plan->infer, infer_step, how, TERN_EVAL, 1, shapes, types))
        return tern_error(ctx);
    if (t->params) {
        plan->gradients = plan->weights;
        if (peak_of(ctx, &plan->train, train_step, how, TERN_TRAIN, labels ? 2 : 1, shapes, types))
            return tern_error(ctx);
    }
    plan->infer_total = plan->weights + plan->buffers + plan->inputs + plan->infer;
    /* An optimizer consumes the gradients within the step: then they are a part of its arena. */
    plan->train_total = plan->weights + plan->buffers + plan->inputs + plan->optimizer +
                        plan->train + (opt ? 0 : plan->gradients);
    return TERN_OK;
}
