/* evaluate.c - accuracy, loss and confusion of a network on a data set. */
#include <string.h>

#include "tern/grad.h"
#include "tern/ops.h"
#include "tern/train.h"

enum { BATCH = 250 };

typedef struct {
    int64_t *label, *taken; /* [batch] */
    double loss;
} scratch;

/* out: the sum of the losses, the classes taken. */
static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *y = tern_forward(ctx, user, in[0]);

    out[0] = tern_cross_entropy(ctx, y, in[1], NULL,
                                &(tern_cross_entropy_opts){.reduction = TERN_REDUCE_SUM});
    out[1] = tern_argmax(ctx, y, &(tern_arg_opts){.has_axis = 1, .axis = 1});
    return tern_error(ctx);
}

static tern_status score_batch(tern_ctx *ctx, tern_score *score, tern_program *program,
                               tern_batch *b, scratch *s, const tern_evaluate_opts *o)
{
    tern_tensor *out[TERN_STEP_OUT] = {NULL};

    if (tern_program_run(ctx, out, program, b->in) != TERN_OK) return tern_error(ctx);
    if (tern_count(tern_shape_of(out[1])) != b->count)
        return tern_fail(ctx, TERN_E_SHAPE, "evaluate: the network does not give [N,classes]");
    s->loss += tern_item(ctx, out[0]);
    if (tern_to_host(ctx, s->taken, out[1]) != TERN_OK) return tern_error(ctx);
    if (tern_to_host(ctx, s->label, b->in[1]) != TERN_OK) return tern_error(ctx);
    for (int64_t i = 0; i < b->count; i++) {
        const int64_t is = s->label[i], took = s->taken[i];

        score->correct += is == took;
        if (o->confusion && is >= 0 && is < o->classes && took < o->classes)
            o->confusion[is * o->classes + took]++;
    }
    score->count += b->count;
    return TERN_OK;
}

static tern_status score_all(tern_ctx *ctx, tern_score *score, tern_module *net, tern_loader *load,
                             scratch *s, const tern_evaluate_opts *o)
{
    tern_program *program = tern_record(ctx, step, net);
    tern_batch b;

    tern_program_limit(program, o->arena);
    while (program && tern_loader_next(ctx, &b, load)) {
        tern_frame_begin(ctx);
        (void)!score_batch(ctx, score, program, &b, s, o);
        tern_frame_end(ctx);
        if (tern_error(ctx) != TERN_OK) break;
    }
    tern_program_close(ctx, program);
    return tern_error(ctx);
}

tern_status tern_evaluate_with(tern_ctx *ctx, tern_score *score, tern_module *net, tern_data *data,
                               const tern_evaluate_opts *opts)
{
    tern_evaluate_opts o = opts ? *opts : (tern_evaluate_opts){0};
    const tern_mode_t before = tern_mode_of(ctx);
    tern_loader *load;
    scratch s = {0};

    if (score) *score = (tern_score){0};
    if (!score || !net || !data)
        return tern_fail(ctx, TERN_E_ARGUMENT, "evaluate: no score, module or data");
    if (o.batch < 0 || o.classes < 0)
        return tern_fail(ctx, TERN_E_ARGUMENT, "evaluate: batch %d, %d classes", o.batch,
                         o.classes);
    if (tern_module_finish(ctx, net) != TERN_OK) return tern_error(ctx);
    if (o.batch == 0) o.batch = BATCH;
    if (o.confusion)
        memset(o.confusion, 0, (size_t)o.classes * (size_t)o.classes * sizeof *o.confusion);
    s.label = tern_alloc(ctx, (size_t)o.batch * sizeof *s.label);
    s.taken = tern_alloc(ctx, (size_t)o.batch * sizeof *s.taken);
    load =
        s.label && s.taken
            ? tern_loader_open(ctx, data, &(tern_loader_opts){.batch = o.batch, .in_order = true})
            : NULL;
    if (load) {
        tern_mode(ctx, TERN_EVAL);
        tern_no_grad_begin(ctx);
        (void)!score_all(ctx, score, net, load, &s, &o);
        tern_no_grad_end(ctx);
        tern_mode(ctx, before);
    }
    if (score->count > 0) {
        score->accuracy = (double)score->correct / (double)score->count;
        score->loss = s.loss / (double)score->count;
    }
    tern_loader_close(ctx, load);
    tern_free(ctx, s.label);
    tern_free(ctx, s.taken);
    return tern_error(ctx);
}

tern_status tern_evaluate(tern_ctx *ctx, tern_score *score, tern_module *net, tern_data *data)
{
    return tern_evaluate_with(ctx, score, net, data, NULL);
}
