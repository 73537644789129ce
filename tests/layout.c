/*
 * layout.c - how weights and images may lie: PyTorch's weights give PyTorch's logits, and inputs
 * that are not contiguous give the bits of the contiguous run.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fixtures/torch_net.h"
#include "tern/nn.h"

static tern_module *small_net(tern_ctx *ctx)
{
    const tern_nn_conv2d_opts conv = {.kernel = {3, 3}, .pad = {1, 1}, .act = TERN_RELU};

    return tern_sequential(
        ctx, (tern_module *[]){tern_nn_conv2d(ctx, 2, 3, &conv), tern_nn_maxpool2d(ctx, 2, NULL),
                               tern_nn_flatten(ctx), tern_nn_linear(ctx, 18, 4, NULL), NULL});
}

static void assign(tern_ctx *ctx, tern_module *net, const char *path, const float *x)
{
    tern_var *var = tern_module_var(ctx, net, path);

    cr_assert(var != NULL, "%s: %s", path, tern_error_text(ctx));
    cr_assert(!tern_assign(ctx, var, tern_from_host(ctx, TERN_F32, x, tern_var_shape(var))));
}

/* |a - b| <= 2e-6 of the largest: both round in f32. */
static void near(tern_ctx *ctx, const char *what, tern_tensor *t, const float *want)
{
    double *got = tc_doubles(ctx, t), most = 0;
    const int64_t n = tern_count(t->m.shape);

    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        cr_expect(fabs(got[i] - want[i]) <= 2e-6 * most, "%s[%lld] is %.9g, PyTorch says %.9g",
                  what, (long long)i, got[i], want[i]);
    free(got);
}

static void torch_on(const char *device)
{
    static const int64_t label[] = {1, 3, 0};
    static const char *const paths[] = {"conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias"};
    static const float *const values[] = {torch_conv_weight, torch_conv_bias, torch_fc_weight,
                                          torch_fc_bias};
    static const float *const grads[] = {torch_conv_weight_grad, torch_conv_bias_grad,
                                         torch_fc_weight_grad, torch_fc_bias_grad};
    tern_ctx *ctx = tc_open(device);
    tern_module *net = small_net(ctx);
    tern_tensor *x = tern_from_host(ctx, TERN_F32, torch_x, TI_SHAPE(3, 2, 6, 5));

    for (int i = 0; i < 4; i++) assign(ctx, net, paths[i], values[i]);
    for (int last = 0; last < 2; last++) { /* images as PyTorch lays them, and channels-last */
        tern_tensor *y = tern_forward(ctx, net, last ? tern_channels_last(ctx, x) : x);
        tern_tensor *loss = tern_cross_entropy(
            ctx, y, tern_from_host(ctx, TERN_I64, label, TI_SHAPE(3)), NULL, NULL);

        near(ctx, "logits", y, torch_logits);
        near(ctx, "loss", loss, torch_loss);
        cr_assert(!tern_backward(ctx, loss, net), "%s", tern_error_text(ctx));
        for (int i = 0; i < 4; i++)
            near(ctx, paths[i], tern_grad_of(ctx, tern_module_var(ctx, net, paths[i])), grads[i]);
        tern_var *block = tern_var_block(tern_module_var(ctx, net, paths[0]));
        tern_block_grads_clear(ctx, block, 0, tern_count(tern_var_shape(block)));
    }
    tc_close(ctx);
}

Test(layout, weights_of_pytorch_give_its_logits) { torch_on("cpu"); }
Test(layout, weights_of_pytorch_give_its_logits_on_ref) { torch_on("ref"); }

/* The bytes of logits and of all gradients for one input. */
static void bytes_of(tern_ctx *ctx, tern_module *net, tern_tensor *x, float *logits, float *grads)
{
    tern_tensor *y = tern_forward(ctx, net, x);
    tern_var *block = tern_var_block(tern_module_var(ctx, net, "conv1.weight"));
    const int64_t n = tern_count(tern_var_shape(block));

    cr_assert(!tern_backward(ctx, tern_sum(ctx, tern_mul(ctx, y, y), NULL), net));
    cr_assert(!tern_to_host(ctx, logits, y));
    cr_assert(!tern_to_host(ctx, grads, tern_block_grads(ctx, block, 0, n)));
    tern_block_grads_clear(ctx, block, 0, n);
}

Test(layout, strided_images_give_the_bits_of_contiguous_ones)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *net = small_net(ctx);
    tern_tensor *x = tern_from_host(ctx, TERN_F32, torch_x, TI_SHAPE(3, 2, 6, 5));
    tern_tensor *forms[] = {x, tern_channels_last(ctx, x), tc_strided(ctx, x)};
    float logits[3][12], grads[3][256] = {{0}};

    for (int i = 0; i < 3; i++) bytes_of(ctx, net, forms[i], logits[i], grads[i]);
    for (int i = 1; i < 3; i++) {
        cr_expect(memcmp(logits[0], logits[i], sizeof logits[0]) == 0, "form %d: logits", i);
        cr_expect(memcmp(grads[0], grads[i], sizeof grads[0]) == 0, "form %d: gradients", i);
    }
    tc_close(ctx);
}
