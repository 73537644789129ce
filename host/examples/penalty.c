/*
 * penalty.c - a loop of one's own, with a second derivative: the loss has a penalty on the gradient
 * of the logits in the images, so that its own gradient is one of second order.
 */
#include <stdio.h>
#include <tern/tern.h>

typedef struct {
    tern_module *net;
    tern_optim *opt;
} job;

/* One training step. in: images, labels; out: the loss, the mean squared norm of the gradient. */
static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;
    tern_tensor *x = tern_track(ctx, in[0]), *y = tern_forward(ctx, j->net, x), *g;

    if (tern_grads(ctx, &g, 1, &y, NULL, 1, &x) != TERN_OK) return tern_error(ctx);
    out[1] = tern_scale(ctx, tern_sum(ctx, tern_mul(ctx, g, g), NULL),
                        1.0 / (double)tern_shape_of(x).dim[0]);
    out[0] =
        tern_add(ctx, tern_cross_entropy(ctx, y, in[1], NULL, NULL), tern_scale(ctx, out[1], 0.01));
    if (tern_backward(ctx, out[0], j->net) != TERN_OK) return tern_error(ctx);
    return tern_optim_step(ctx, j->opt);
}

static tern_status train(tern_ctx *ctx, tern_data *data, job *j)
{
    tern_loader *load = tern_loader_open(ctx, data, &(tern_loader_opts){.batch = 32});
    tern_program *program = tern_record(ctx, step, j); /* traced once, replayed from then on */
    tern_meter *loss = tern_meter_open(ctx), *penalty = tern_meter_open(ctx);

    tern_mode(ctx, TERN_TRAIN);
    for (int epoch = 1; epoch <= 3 && tern_error(ctx) == TERN_OK; epoch++) {
        for (tern_batch b; tern_loader_next(ctx, &b, load);) { /* false: it is over, or failed */
            tern_tensor *out[2];

            tern_frame_begin(ctx);
            if (tern_program_run(ctx, out, program, b.in) == TERN_OK &&
                tern_meter_add(ctx, loss, out[0]) == TERN_OK) /* both stay on the device */
                (void)!tern_meter_add(ctx, penalty, out[1]);
            tern_frame_end(ctx);
        }
        printf("%d  loss %.4f  penalty %.4f\n", epoch, tern_meter_take(ctx, loss),
               tern_meter_take(ctx, penalty)); /* the only values that are read */
    }
    tern_loader_close(ctx, load);
    return tern_error(ctx);
}

static tern_status run(tern_ctx *ctx)
{
    tern_data *data = tern_dataset_open(ctx, "shapes", "train", &(tern_data_opts){.count = 1600});
    tern_module *net = tern_sequential(
        ctx, (tern_module *[]){tern_nn_flatten(ctx), tern_nn_linear(ctx, 784, 32, NULL),
                               tern_nn_tanh(ctx), tern_nn_linear(ctx, 32, 10, NULL), NULL});
    job j = {net, tern_adam(ctx, net, NULL)};

    return train(ctx, data, &j);
}

int main(void)
{
    tern_ctx *ctx;
    int failed = tern_open(&ctx, "auto") != TERN_OK || run(ctx) != TERN_OK;

    if (failed) fprintf(stderr, "%s\n", tern_error_text(ctx));
    return tern_close(ctx) != TERN_OK || failed;
}
