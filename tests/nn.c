/*
 * nn.c - modules: names, finishing (and its failures), layers against the operations they stand
 * for, buffers, modules of one's own, summaries.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/nn.h"
#include "tern/optim.h"

#define SEQ(ctx, ...) tern_sequential(ctx, (tern_module *[]){__VA_ARGS__, NULL})

static tern_tensor *image(tern_ctx *ctx, tern_type type, tern_shape shape, uint64_t seed)
{
    const ti_sample_in like = {.shape = shape, .draw = TI_S_NORMAL};
    double *x = calloc((size_t)tern_count(shape) + 1, sizeof *x);

    tc_values(&like, seed, x);
    tern_tensor *t = tern_from_doubles(ctx, type, x, shape);
    free(x);
    cr_assert(t, "%s", tern_error_text(ctx));
    return t;
}

static void expect_equal(tern_ctx *ctx, const char *what, tern_tensor *a, tern_tensor *b)
{
    cr_assert(a && b, "%s: %s", what, tern_error_text(ctx));
    cr_assert(tern_same_shape(a->m.shape, b->m.shape), "%s: shapes", what);
    double *x = tc_doubles(ctx, a), *y = tc_doubles(ctx, b);
    for (int64_t i = 0; i < tern_count(a->m.shape); i++)
        if (x[i] != y[i]) {
            cr_expect(false, "%s: [%lld] is %.9g, not %.9g", what, (long long)i, x[i], y[i]);
            break;
        }
    free(x);
    free(y);
}

static void expect_failure(tern_ctx *ctx, tern_status status, const char *part)
{
    cr_expect(tern_error(ctx) == status, "%s: %s", tern_status_name(tern_error(ctx)),
              tern_error_text(ctx));
    cr_expect(strstr(tern_error_text(ctx), part), "\"%s\" lacks \"%s\"", tern_error_text(ctx),
              part);
    tern_error_clear(ctx);
}

static tern_tensor *var(tern_ctx *ctx, tern_module *m, const char *path)
{
    return tern_read(ctx, tern_module_var(ctx, m, path));
}

static const tern_nn_conv2d_opts conv3 = {.kernel = {3, 3}, .pad = {1, 1}, .act = TERN_RELU};

static tern_module *small_net(tern_ctx *ctx)
{
    return SEQ(ctx, tern_nn_conv2d(ctx, 1, 4, &conv3), tern_nn_batch_norm(ctx, 4, NULL),
               tern_nn_maxpool2d(ctx, 2, NULL), tern_nn_conv2d(ctx, 4, 4, &conv3),
               tern_nn_residual(ctx,
                                (tern_module *[]){tern_nn_conv2d(ctx, 4, 4, &conv3),
                                                  tern_nn_batch_norm(ctx, 4, NULL), NULL},
                                NULL),
               tern_nn_flatten(ctx), tern_nn_linear(ctx, 4 * 3 * 3, 8, NULL),
               tern_nn_dropout(ctx, 0.5), tern_nn_linear(ctx, 8, 3, NULL));
}

/* ---- Names and order ---- */

Test(nn, names_and_order)
{
    static const char *const params[] = {"conv1.weight",
                                         "conv1.bias",
                                         "bn1.weight",
                                         "bn1.bias",
                                         "conv2.weight",
                                         "conv2.bias",
                                         "block1.conv1.weight",
                                         "block1.conv1.bias",
                                         "block1.bn1.weight",
                                         "block1.bn1.bias",
                                         "fc1.weight",
                                         "fc1.bias",
                                         "fc2.weight",
                                         "fc2.bias",
                                         NULL};
    static const char *const buffers[] = {"bn1.running_mean",        "bn1.running_var",
                                          "block1.bn1.running_mean", "block1.bn1.running_var",
                                          "dropout1.counter",        NULL};
    tern_ctx *ctx = tc_open("cpu");
    tern_module *net = small_net(ctx);
    int64_t offset = 0;
    int i;

    for (i = 0; params[i]; i++) {
        tern_var *v = tern_param_at(ctx, net, i);
        cr_assert_str_eq(tern_var_name(v), params[i]);
        cr_expect(v == tern_module_var(ctx, net, params[i]));
        cr_expect(tern_var_block(v) == tern_module_block(ctx, net), "one block");
        cr_expect(tern_var_offset(v) == offset, "side by side");
        offset += tern_count(tern_var_shape(v));
    }
    cr_expect(!tern_param_at(ctx, net, i) && !tern_param_at(ctx, net, -1));
    cr_expect(offset == tern_module_size(net));
    for (i = 0; buffers[i]; i++)
        cr_assert_str_eq(tern_var_name(tern_buffer_at(ctx, net, i)), buffers[i]);
    cr_expect(!tern_buffer_at(ctx, net, i));

    tern_module *block = tern_module_child(net, 4);
    int64_t from, count;
    cr_expect_str_eq(tern_module_path(block), "block1");
    cr_expect(tern_module_range(ctx, block, &from, &count) == TERN_OK);
    cr_expect(from == tern_var_offset(tern_module_var(ctx, net, "block1.conv1.weight")));
    cr_expect(count == tern_module_size(block) && count == 4 * 4 * 9 + 4 + 8);
    cr_expect_str_eq(tern_var_name(tern_module_var(ctx, block, "bn1.weight")), "block1.bn1.weight");
    cr_expect(!tern_module_var(ctx, net, "conv3.weight"));
    expect_failure(ctx, TERN_E_ARGUMENT, "conv3.weight");
    tc_close(ctx);
}

Test(nn, explicit_names)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = tern_module_name(tern_nn_linear(ctx, 2, 2, NULL), "fc2");
    tern_module *net =
        SEQ(ctx, tern_nn_linear(ctx, 2, 2, NULL), a, tern_nn_linear(ctx, 2, 2, NULL));

    cr_assert(net && tern_module_finish(ctx, net) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect_str_eq(tern_var_name(tern_param_at(ctx, net, 0)), "fc1.weight");
    cr_expect_str_eq(tern_var_name(tern_param_at(ctx, net, 2)), "fc2.weight");
    cr_expect_str_eq(tern_var_name(tern_param_at(ctx, net, 4)), "fc3.weight");

    tern_module *x = tern_module_name(tern_nn_relu(ctx), "x");
    tern_module *y = tern_module_name(tern_nn_relu(ctx), "x");
    cr_expect(!SEQ(ctx, x, y));
    expect_failure(ctx, TERN_E_ARGUMENT, "name x");
    cr_expect(!tern_module_name(tern_nn_relu(ctx), "a.b"));
    expect_failure(ctx, TERN_E_ARGUMENT, "a.b");
    cr_expect(!tern_module_name(a, "late"));
    expect_failure(ctx, TERN_E_STATE, "finished");
    tc_close(ctx);
}

/* ---- Finishing ---- */

static tern_status forward_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_forward(ctx, user, in[0]);
    return tern_error(ctx);
}

Test(nn, trees)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = tern_nn_relu(ctx), *net = SEQ(ctx, a, tern_nn_linear(ctx, 2, 2, NULL)), *b;
    tern_tensor *x = image(ctx, TERN_F32, (tern_shape){2, {1, 2}}, 1), *y, *in[] = {x, NULL};

    cr_expect(!SEQ(ctx, a));
    expect_failure(ctx, TERN_E_STATE, "part of a sequential already");
    cr_expect(tern_module_add(net, net) != TERN_OK);
    expect_failure(ctx, TERN_E_ARGUMENT, "itself");
    cr_expect(!tern_sequential(ctx, (tern_module *[]){NULL}));
    expect_failure(ctx, TERN_E_ARGUMENT, "at least one");
    cr_expect(tern_module_add(net, NULL) != TERN_OK);
    expect_failure(ctx, TERN_E_ARGUMENT, "NULL");

    tern_program *p = tern_record(ctx, forward_step, net);
    cr_expect(tern_program_run(ctx, &y, p, in) == TERN_E_TRACE);
    expect_failure(ctx, TERN_E_TRACE, "before the step");
    cr_assert(tern_module_finish(ctx, net) == TERN_OK, "%s", tern_error_text(ctx));
    cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    expect_equal(ctx, "replayed", y, tern_forward(ctx, net, x));
    cr_expect(!SEQ(ctx, net));
    expect_failure(ctx, TERN_E_STATE, "finished");
    b = tern_nn_relu(ctx);
    cr_expect(tern_module_add(net, b) != TERN_OK);
    expect_failure(ctx, TERN_E_STATE, "finished tree");
    cr_expect(!tern_forward(ctx, net, NULL));
    expect_failure(ctx, TERN_E_ARGUMENT, "NULL");
    cr_expect(!tern_forward(ctx, NULL, x));
    expect_failure(ctx, TERN_E_ARGUMENT, "NULL");
    tc_close(ctx);
}

/* Every allocation fails once; then it works, and the values are those of an untroubled tree. */
Test(nn, finishing_can_be_retried)
{
    tern_ctx *ctx = tc_open(tc_device()), *calm = tc_open(tc_device());
    tern_module *right = small_net(calm);
    long n = 0;
    bool failed = true;

    cr_assert(tern_module_finish(calm, right) == TERN_OK);
    tern_module *net = small_net(ctx);
    for (; failed && n < 5000; n++) {
        ti_fail_allocation(ctx, n, false);
        failed = tern_module_finish(ctx, net) != TERN_OK;
        ti_fail_allocation(ctx, -1, false);
        if (!failed) break;
        cr_assert(tern_error(ctx) == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(!failed && n > 5, "%ld failures", n);
    for (int i = 0; tern_param_at(ctx, net, i); i++) {
        tern_tensor *want = tern_read(calm, tern_param_at(calm, right, i));
        double *x = tc_doubles(calm, want); /* values go from one context to another by the host */

        expect_equal(ctx, tern_var_name(tern_param_at(ctx, net, i)),
                     tern_read(ctx, tern_param_at(ctx, net, i)),
                     tern_from_doubles(ctx, want->m.type, x, want->m.shape));
        free(x);
    }
    tc_close(ctx);
    tc_close(calm);
}

Test(nn, building_survives_failing_allocations)
{
    for (long n = 0; n < 400; n++) {
        tern_ctx *ctx = tc_open(tc_device());
        ti_fail_allocation(ctx, n, false);
        tern_module *net = small_net(ctx);
        ti_fail_allocation(ctx, -1, false);
        if (!net) cr_expect(tern_error(ctx) == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        const bool done = net != NULL;
        tern_error_clear(ctx);
        tc_close(ctx);
        if (done) return;
    }
    cr_expect(false, "never done");
}

Test(nn, initial_values)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *named = tern_module_name(small_net(ctx), "generator"), *net = small_net(ctx);
    const double bound = 1 / sqrt(4 * 9);
    double *w = tc_doubles(ctx, var(ctx, net, "conv2.weight")),
           *b = tc_doubles(ctx, var(ctx, net, "conv2.bias"));
    double *o = tc_doubles(ctx, var(ctx, named, "conv2.weight"));
    double most = 0;

    for (int i = 0; i < 4 * 4 * 9; i++) most = fmax(most, fabs(w[i]));
    cr_expect(most <= bound && most > 0.9 * bound);
    for (int i = 0; i < 4; i++) cr_expect(fabs(b[i]) <= bound && b[i] != 0);
    cr_expect(memcmp(w, o, 144 * sizeof *w) != 0, "a root's name makes other numbers");
    expect_equal(ctx, "bn weight", var(ctx, net, "bn1.weight"),
                 tern_fill(ctx, TERN_F32, (tern_shape){1, {4}}, 1));
    expect_equal(ctx, "bn var", var(ctx, net, "bn1.running_var"),
                 tern_fill(ctx, TERN_F32, (tern_shape){1, {4}}, 1));
    tern_module *f64 = small_net(ctx);
    cr_assert(tern_module_type(f64, TERN_F64) == TERN_OK);
    cr_expect(tern_type_of(var(ctx, f64, "conv1.weight")) == TERN_F64);
    cr_expect(tern_type_of(var(ctx, f64, "bn1.running_var")) == TERN_F64);
    cr_expect(tern_type_of(var(ctx, f64, "dropout1.counter")) == TERN_I64);
    tern_mode(ctx, TERN_TRAIN);
    cr_expect(tern_forward(ctx, f64, image(ctx, TERN_F64, (tern_shape){4, {2, 1, 6, 6}}, 3)), "%s",
              tern_error_text(ctx));
    free(w);
    free(b);
    free(o);
    tc_close(ctx);
}

/* ---- Layers are the operations they stand for ---- */

static void layers_on(const char *device)
{
    tern_ctx *ctx = tc_open(device);
    tern_tensor *x = image(ctx, TERN_F32, (tern_shape){4, {2, 4, 7, 6}}, 5);
    tern_tensor *d = image(ctx, TERN_F32, (tern_shape){2, {3, 5}}, 6);
    const tern_pool2d_opts two = {.size = {2, 2}};
    tern_module *m;

#define SAME(what, module, value)                                                                  \
    m = module;                                                                                    \
    expect_equal(ctx, what, tern_forward(ctx, m, x), value)
    const tern_nn_conv2d_opts co = {.kernel = {3, 2},
                                    .stride = {2, 1},
                                    .pad = {1, 0},
                                    .groups = 2,
                                    .dilation = {1, 2},
                                    .act = TERN_TANH};
    SAME("conv", tern_nn_conv2d(ctx, 4, 6, &co),
         tern_conv2d_act(ctx, x, var(ctx, m, "weight"), var(ctx, m, "bias"),
                         &(tern_conv2d_act_opts){{2, 1}, {1, 0}, {1, 2}, 2, TERN_TANH}));
    SAME("conv without bias",
         tern_nn_conv2d(ctx, 4, 3, &(tern_nn_conv2d_opts){.kernel = {3}, .no_bias = true}),
         tern_conv2d_act(ctx, x, var(ctx, m, "weight"), NULL, NULL));
    SAME("maxpool", tern_nn_maxpool2d(ctx, 2, NULL), tern_max_pool2d(ctx, NULL, x, &two));
    SAME("avgpool", tern_nn_avgpool2d(ctx, 0, &two), tern_avg_pool2d(ctx, x, &two));
    SAME("global", tern_nn_global_avgpool(ctx), tern_mean(ctx, x, &(tern_reduce_opts){.axes = 12}));
    SAME("relu", tern_nn_relu(ctx), tern_relu(ctx, x));
    SAME("sigmoid", tern_nn_sigmoid(ctx), tern_sigmoid(ctx, x));
    SAME("tanh", tern_nn_tanh(ctx), tern_tanh(ctx, x));
    const tern_slope_opts slope = {1, 0.3};
    SAME("leaky", tern_nn_leaky_relu(ctx, &slope), tern_leaky_relu(ctx, x, &slope));
    SAME("elu", tern_nn_elu(ctx, NULL), tern_elu(ctx, x, NULL));
    SAME("gelu", tern_nn_gelu(ctx, NULL), tern_gelu(ctx, x, NULL));
    SAME("flatten", tern_nn_flatten(ctx), tern_flatten(ctx, x));
    SAME("residual",
         tern_nn_residual(ctx, (tern_module *[]){tern_nn_tanh(ctx), NULL},
                          &(tern_nn_residual_opts){.act = TERN_RELU}),
         tern_relu(ctx, tern_add(ctx, tern_tanh(ctx, x), x)));
    SAME("sum", tern_nn_sum(ctx, (tern_module *[]){tern_nn_tanh(ctx), tern_nn_relu(ctx), NULL}),
         tern_add(ctx, tern_tanh(ctx, x), tern_relu(ctx, x)));
    SAME("layer norm", tern_nn_layer_norm(ctx, (tern_shape){3, {4, 7, 6}}, NULL),
         tern_layer_norm(ctx, x, var(ctx, m, "weight"), var(ctx, m, "bias"),
                         &(tern_layer_norm_opts){.axes = 3}));
    SAME("bn, evaluated", tern_nn_batch_norm(ctx, 4, NULL),
         tern_batch_norm_eval(ctx, x, var(ctx, m, "weight"), var(ctx, m, "bias"),
                              var(ctx, m, "running_mean"), var(ctx, m, "running_var"), NULL));
    SAME("a chain that gives its input back",
         SEQ(ctx, tern_nn_relu(ctx), tern_nn_tanh(ctx), tern_nn_dropout(ctx, 0.3)),
         tern_tanh(ctx, tern_relu(ctx, x)));
    m = tern_nn_linear(ctx, 5, 2, NULL);
    expect_equal(ctx, "linear", tern_forward(ctx, m, d),
                 tern_linear_act(ctx, d, var(ctx, m, "weight"), var(ctx, m, "bias"), NULL));
    m = tern_nn_layer_norm(ctx, (tern_shape){1, {5}}, &(tern_nn_layer_norm_opts){.no_affine = 1});
    expect_equal(ctx, "plain layer norm", tern_forward(ctx, m, d),
                 tern_layer_norm(ctx, d, NULL, NULL, NULL));
    cr_expect(!tern_forward(
        ctx, tern_nn_residual(ctx, (tern_module *[]){tern_nn_maxpool2d(ctx, 2, NULL), NULL}, NULL),
        x));
    expect_failure(ctx, TERN_E_SHAPE, "do not add up");
    tc_close(ctx);
}

Test(nn, layers) { layers_on("cpu"); }
Test(nn, layers_on_ref) { layers_on("ref"); }

static void refused(tern_ctx *ctx, tern_module *m, const char *part)
{
    cr_expect(!m);
    expect_failure(ctx, TERN_E_ARGUMENT, part);
}

Test(nn, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");

    refused(ctx, tern_nn_linear(ctx, 0, 3, NULL), "at least 1");
    refused(ctx, tern_nn_linear(ctx, 2, 3, &(tern_nn_linear_opts){.act = 9}), "activation 9");
    refused(ctx, tern_nn_conv2d(ctx, 1, 3, NULL), "kernel 0x0");
    refused(ctx, tern_nn_conv2d(ctx, 3, 4, &(tern_nn_conv2d_opts){.kernel = {3}, .groups = 2}),
            "2 groups");
    refused(ctx, tern_nn_conv2d(ctx, 3, 4, &(tern_nn_conv2d_opts){.kernel = {3}, .pad = {-1}}),
            "negative");
    refused(ctx, tern_nn_maxpool2d(ctx, 0, NULL), "size 0");
    refused(ctx, tern_nn_maxpool2d(ctx, 2, &(tern_pool2d_opts){.pad = {2, 2}}), "half");
    refused(ctx, tern_nn_batch_norm(ctx, 0, NULL), "channels");
    refused(ctx,
            tern_nn_batch_norm(ctx, 2, &(tern_batch_norm_opts){.has_momentum = 1, .momentum = 2}),
            "momentum 2");
    refused(ctx, tern_nn_dropout(ctx, 1), "p is 1");
    refused(ctx, tern_nn_dropout(ctx, -0.1), "p is");
    refused(ctx, tern_nn_dropout(ctx, NAN), "p is");
    refused(ctx, tern_nn_layer_norm(ctx, (tern_shape){0}, NULL), "axes");
    cr_expect(!tern_nn_linear(ctx, INT64_MAX / 2, INT64_MAX / 2, NULL));
    expect_failure(ctx, TERN_E_SHAPE, "weight");
    tc_close(ctx);
}

/* ---- Buffers ---- */

static tern_status twice(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_forward(ctx, user, in[0]);
    out[1] = tern_forward(ctx, user, in[1]);
    return tern_error(ctx);
}

/* Two calls in a step move the statistics twice, as two steps do. */
static void statistics(bool eager)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = tern_nn_batch_norm(ctx, 3, NULL), *b = tern_nn_batch_norm(ctx, 3, NULL);
    const tern_shape shape = {4, {2, 3, 4, 5}};
    tern_tensor *in[] = {image(ctx, TERN_F32, shape, 1), image(ctx, TERN_F32, shape, 2), NULL};
    tern_tensor *out[TERN_STEP_OUT], *mean = NULL, *v = NULL;

    cr_assert(!tern_module_finish(ctx, a) && !tern_module_finish(ctx, b));
    tern_eager_set(ctx, eager);
    tern_mode(ctx, TERN_TRAIN);
    tern_tensor *one = tern_fill(ctx, TERN_F32, (tern_shape){1, {3}}, 1);
    tern_tensor *zero = tern_fill(ctx, TERN_F32, (tern_shape){1, {3}}, 0);
    cr_assert(tern_batch_norm(ctx, &mean, &v, in[0], one, zero, zero, one, NULL), "%s",
              tern_error_text(ctx));
    tern_tensor *y = tern_batch_norm(ctx, &mean, &v, in[1], one, zero, mean, v, NULL);
    tern_program *p = tern_record(ctx, twice, a);
    cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    expect_equal(ctx, "second output", out[1], y);
    expect_equal(ctx, "mean", var(ctx, a, "running_mean"), mean);
    expect_equal(ctx, "var", var(ctx, a, "running_var"), v);
    cr_assert(tern_forward(ctx, b, in[0]) && tern_forward(ctx, b, in[1]));
    expect_equal(ctx, "mean, outside a step", var(ctx, b, "running_mean"), mean);
    tern_mode(ctx, TERN_EVAL);
    cr_assert(tern_forward(ctx, a, in[0]) != NULL);
    expect_equal(ctx, "mean after evaluation", var(ctx, a, "running_mean"), mean);
    tc_close(ctx);
}

Test(nn, two_batch_norms_in_a_step) { statistics(false); }
Test(nn, two_batch_norms_in_an_eager_step) { statistics(true); }

Test(nn, dropout)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = tern_nn_dropout(ctx, 0.25), *b = tern_nn_dropout(ctx, 0.25);
    tern_module *net = SEQ(ctx, a, b);
    tern_tensor *x = tern_fill(ctx, TERN_F32, (tern_shape){2, {100, 100}}, 1);
    double sum = 0;

    expect_equal(ctx, "evaluation", tern_forward(ctx, net, x), x);
    cr_expect(tern_item(ctx, var(ctx, a, "counter")) == 0, "evaluation does not count");
    tern_mode(ctx, TERN_TRAIN);
    double *p = tc_doubles(ctx, tern_forward(ctx, a, x)),
           *q = tc_doubles(ctx, tern_forward(ctx, b, x));
    double *r = tc_doubles(ctx, tern_forward(ctx, a, x)), *s;
    for (int i = 0; i < 10000; i++) {
        cr_assert(p[i] == 0 || fabs(p[i] - 1 / 0.75) < 1e-6);
        sum += p[i] == 0;
    }
    cr_expect(fabs(sum - 2500) < 6 * sqrt(10000 * 0.25 * 0.75), "%g zeros", sum);
    cr_expect(memcmp(p, q, 10000 * sizeof *p) != 0, "two dropouts differ");
    cr_expect(memcmp(p, r, 10000 * sizeof *p) != 0, "two calls differ");
    cr_expect(tern_item(ctx, var(ctx, a, "counter")) == 2);
    cr_assert(tern_set(ctx, tern_module_var(ctx, a, "counter"), 1) == TERN_OK);
    s = tc_doubles(ctx, tern_forward(ctx, a, x));
    cr_expect(memcmp(s, r, 10000 * sizeof *p) == 0, "the same call, after a resume");

    tern_program *program = tern_record(ctx, forward_step, net);
    tern_tensor *y, *in[] = {x, NULL};
    for (int i = 0; i < 3; i++) cr_assert(tern_program_run(ctx, &y, program, in) == TERN_OK);
    cr_expect(tern_program_traces(program) == 1);
    cr_assert(tern_nn_set_dropout(ctx, net, 0) == TERN_OK);
    cr_assert(tern_program_run(ctx, &y, program, in) == TERN_OK, "%s", tern_error_text(ctx));
    expect_equal(ctx, "p = 0", y, x);
    cr_expect(tern_program_traces(program) == 2, "a changed option traces again");
    cr_expect(tern_nn_set_dropout(ctx, net, 2) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_nn_set_dropout(ctx, tern_nn_relu(ctx), 0.5) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    free(p);
    free(q);
    free(r);
    free(s);
    tc_close(ctx);
}

/* ---- Modules of one's own; gradients of parts ---- */

typedef struct {
    double by;
} scaled_state;

static tern_tensor *scaled_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const scaled_state *s = tern_module_state(m);
    tern_tensor *y = tern_forward(ctx, tern_module_child(m, 0), x);

    return tern_scale(ctx, tern_mul(ctx, y, tern_read(ctx, tern_module_var(ctx, m, "gain"))),
                      s->by);
}

Test(nn, module_of_ones_own)
{
    tern_ctx *ctx = tc_open("cpu");
    const scaled_state two = {2};
    tern_module *m = tern_module_new(ctx, "scaled", scaled_forward, &two, sizeof two);
    const tern_init three = {.kind = TERN_INIT_CONSTANT, .a = 3};

    cr_assert(!tern_module_param(m, "gain", (tern_shape){1, {2}}, &three));
    cr_expect(tern_module_param(m, "gain", (tern_shape){1, {2}}, &three) == TERN_E_ARGUMENT);
    expect_failure(ctx, TERN_E_ARGUMENT, "twice");
    cr_expect(tern_module_param(m, "bias", (tern_shape){1, {2}}, NULL) == TERN_E_SHAPE);
    expect_failure(ctx, TERN_E_SHAPE, "2 axes");
    cr_assert(!tern_module_add(m, tern_nn_linear(ctx, 3, 2, NULL)));
    tern_module *net = SEQ(ctx, m, tern_nn_linear(ctx, 2, 1, NULL));
    tern_tensor *x = image(ctx, TERN_F32, (tern_shape){2, {4, 3}}, 8);
    tern_tensor *inner = tern_linear_act(ctx, x, var(ctx, net, "scaled1.fc1.weight"),
                                         var(ctx, net, "scaled1.fc1.bias"), NULL);
    expect_equal(ctx, "forward", tern_forward(ctx, m, x),
                 tern_scale(ctx, tern_scale(ctx, inner, 3), 2));

    tern_tensor *loss = tern_sum(ctx, tern_forward(ctx, net, x), NULL);
    tern_module *head = tern_module_child(net, 1);
    cr_assert(tern_backward(ctx, loss, head) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(tern_grad_of(ctx, tern_module_var(ctx, head, "weight")) != NULL);
    cr_expect(!tern_grad_of(ctx, tern_module_var(ctx, m, "gain")), "the part's own gradients only");
    tern_grads_clear(ctx, head);
    cr_expect(!tern_grad_of(ctx, tern_module_var(ctx, head, "weight")));
    loss = tern_sum(ctx, tern_forward(ctx, net, x), NULL);
    cr_assert(tern_backward(ctx, loss, net) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(tern_grad_of(ctx, tern_module_var(ctx, m, "gain")) != NULL);
    cr_expect(tern_backward(ctx, loss, net) == TERN_E_STATE, "a second walk");
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* ---- Summaries ---- */

/* The net of the documents: 467,818 parameters, 37,383,680 FLOPs. */
static tern_module *fashion(tern_ctx *ctx)
{
    const tern_nn_linear_opts relu = {.act = TERN_RELU};

    return SEQ(ctx, tern_nn_conv2d(ctx, 1, 32, &conv3), tern_nn_conv2d(ctx, 32, 32, &conv3),
               tern_nn_maxpool2d(ctx, 2, NULL), tern_nn_conv2d(ctx, 32, 64, &conv3),
               tern_nn_conv2d(ctx, 64, 64, &conv3), tern_nn_maxpool2d(ctx, 2, NULL),
               tern_nn_flatten(ctx), tern_nn_linear(ctx, 3136, 128, &relu),
               tern_nn_dropout(ctx, 0.25), tern_nn_linear(ctx, 128, 10, NULL));
}

static const char fashion_text[] =
    "  #  name       kind                output      params   MFLOP/image\n"
    "  1  conv1      conv 3\u00d73, relu      32\u00d728\u00d728       320          0.45\n"
    "  2  conv2      conv 3\u00d73, relu      32\u00d728\u00d728     9,248         14.45\n"
    "  3  pool1      maxpool 2           32\u00d714\u00d714\n"
    "  4  conv3      conv 3\u00d73, relu      64\u00d714\u00d714    18,496          7.23\n"
    "  5  conv4      conv 3\u00d73, relu      64\u00d714\u00d714    36,928         14.45\n"
    "  6  pool2      maxpool 2           64\u00d77\u00d77\n"
    "  7  fc1        dense, relu         128        401,536          0.80\n"
    "  8  dropout1   dropout 0.25        128\n"
    "  9  fc2        dense               10           1,290          0.00\n"
    "                                               467,818         37.38   forward; a "
    "multiply-add counts 2\n";

Test(nn, summary)
{
    static const char *const devices[] = {"cpu", "null"};

    for (int i = 0; i < 2; i++) {
        tern_ctx *ctx = tc_open(devices[i]);
        tern_module *net = fashion(ctx);
        const tern_shape x = {4, {128, 1, 28, 28}}, one = {4, {1, 1, 28, 28}};

        tern_mode(ctx, TERN_TRAIN);
        cr_expect_str_eq(tern_summary(ctx, net, x), fashion_text);
        const tern_summary_table *t = tern_summary_rows(ctx, net, x);
        cr_assert(t, "%s", tern_error_text(ctx));
        cr_expect(t->n == 9 && t->params == 467818 && t->flops == 37383680 && t->buffers == 1);
        cr_expect(t->row[1].flops == 14450688 && t->row[1].params == 9248);
        cr_expect(t->out.rank == 2 && t->out.dim[0] == 128 && t->out.dim[1] == 10);
        t = tern_summary_rows(ctx, net, one);
        cr_expect(t && t->flops == 37383680, "of one image, whatever the batch");
        cr_expect(tern_mode_of(ctx) == TERN_TRAIN, "the mode is put back");
        cr_expect(tern_item(ctx, var(ctx, net, "dropout1.counter")) == 0);
        cr_expect_str_eq(tern_summary(ctx, net, (tern_shape){4, {1, 2, 28, 28}}), "");
        cr_expect(tern_error(ctx) == TERN_E_SHAPE, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
        cr_expect_str_eq(tern_summary(ctx, net, (tern_shape){4, {0, 1, 28, 28}}), "");
        expect_failure(ctx, TERN_E_SHAPE, "at least one image");
        tc_close(ctx);
    }
}

Test(nn, memory_plan)
{
    tern_ctx *ctx = tc_open("null");
    tern_module *net = fashion(ctx);
    tern_optim *opt = tern_sgd(ctx, net, &(tern_sgd_opts){.lr = 0.05, .momentum = 0.9});
    tern_memory_plan a, b, c;

    cr_assert(!tern_plan_memory(ctx, &a, net, opt, (tern_shape){4, {64, 1, 28, 28}}), "%s",
              tern_error_text(ctx));
    cr_assert(!tern_plan_memory(ctx, &b, net, opt, (tern_shape){4, {128, 1, 28, 28}}));
    cr_assert(!tern_plan_memory(ctx, &c, net, NULL, (tern_shape){4, {128, 1, 28, 28}}));
    cr_expect(a.weights == 467818 * 4 && a.gradients == a.weights && a.optimizer == a.weights + 4);
    cr_expect(c.optimizer == 0);
    cr_expect(b.inputs == 128 * (784 * 4 + 8));
    cr_expect(b.train > b.infer && b.train > a.train && b.infer > a.infer);
    cr_expect(b.infer >= 2 * 128 * 32 * 28 * 28 * 4, "two activations of conv1's size at once");
    cr_expect(!tern_grad_of(ctx, tern_param_at(ctx, net, 0)), "planning leaves no gradients");
    tc_close(ctx);
}
