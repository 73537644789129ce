/* train.c - trains a small network and tests it. usage: train [DATA], such as fashion-mnist */
#include <inttypes.h>
#include <stdio.h>
#include <tern/tern.h>

static void on_epoch(const tern_epoch *e, void *user)
{
    (void)user;
    printf("%2d  loss %.4f  val %.2f%%  %.0f img/s\n", e->index, e->train_loss,
           100 * e->val_accuracy, e->images_per_s);
}

static tern_status run(tern_ctx *ctx, const char *name)
{
    tern_data *train = tern_dataset(ctx, name, "train"), *test = tern_dataset(ctx, name, "test");
    tern_data *val = tern_data_split(ctx, train, 2000);
    const tern_nn_conv2d_opts conv = {.kernel = {5, 5}, .pad = {2, 2}, .act = TERN_RELU};
    tern_module *net = tern_sequential(
        ctx, (tern_module *[]){tern_nn_conv2d(ctx, 1, 8, &conv), tern_nn_maxpool2d(ctx, 2, NULL),
                               tern_nn_conv2d(ctx, 8, 16, &conv), tern_nn_maxpool2d(ctx, 2, NULL),
                               tern_nn_flatten(ctx), tern_nn_linear(ctx, 784, 10, NULL), NULL});
    tern_optim *opt = tern_adam(ctx, net, &(tern_adam_opts){.lr = 0.002});
    tern_fit_opts how = {.epochs = 2, .validate = val, .on_epoch = on_epoch};
    tern_score score;

    fputs(tern_summary(ctx, net, (tern_shape){4, {64, 1, 28, 28}}), stdout);
    if (tern_fit(ctx, net, opt, train, &how) != TERN_OK ||
        tern_evaluate(ctx, &score, net, test) != TERN_OK ||
        tern_save(ctx, net, "train.safetensors") != TERN_OK)
        return tern_error(ctx);
    printf("test %.2f%% of %" PRId64 " images\n", 100 * score.accuracy, score.count);
    return score.accuracy > 0.5 ? TERN_OK : tern_fail(ctx, TERN_E_VALUE, "it did not learn");
}

int main(int argc, char **argv)
{
    tern_ctx *ctx;
    int failed = tern_open(&ctx, "auto") != TERN_OK || run(ctx, argc > 1 ? argv[1] : "shapes");

    if (failed) fprintf(stderr, "%s\n", tern_error_text(ctx)); /* the first failure */
    return tern_close(ctx) != TERN_OK || failed;
}
