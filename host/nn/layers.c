/*
 * layers.c - linear, convolution, batch norm, layer norm.
 *
 * Each layer is what a user's own module is: a kind, a forward function, a copied state, and
 * parameters by name.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tern/nn.h"

/* m, or NULL if something failed on the way of making it. */
static tern_module *done(tern_ctx *ctx, tern_module *m) { return tern_error(ctx) ? NULL : m; }

static bool act_fits(tern_ctx *ctx, const char *who, int act)
{
    if (act >= TERN_ACT_NONE && act <= TERN_SIGMOID) return true;
    tern_fail(ctx, TERN_E_ARGUMENT, "%s: there is no activation %d", who, act);
    return false;
}

static const char *act_text(int act)
{
    static const char *const text[] = {"", ", relu", ", tanh", ", sigmoid"};

    return text[act];
}

/* weight and, unless it is unwanted, bias: within 1/sqrt(fan_in) unless the options say more. */
static tern_status weights(tern_module *m, tern_shape shape, tern_init weight, tern_init bias,
                           bool no_bias, double fan_in)
{
    const double bound = 1 / sqrt(fan_in);

    if (bias.kind == TERN_INIT_DEFAULT)
        bias = (tern_init){.kind = TERN_INIT_UNIFORM, .a = -bound, .b = bound};
    const tern_status status = tern_module_param(m, "weight", shape, &weight);
    if (status || no_bias) return status;
    return tern_module_param(m, "bias", (tern_shape){1, {shape.dim[0]}}, &bias);
}

static tern_tensor *own(tern_ctx *ctx, tern_module *m, const char *name)
{
    return tern_read(ctx, tern_module_var(ctx, m, name));
}

/* ---- Linear ---- */

typedef struct {
    tern_linear_opts op;
    bool bias;
    int64_t d, m;
} linear_state;

static tern_tensor *linear_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const linear_state *s = tern_module_state(m);
    tern_tensor *w = own(ctx, m, "weight"), *b = s->bias ? own(ctx, m, "bias") : NULL;

    return tern_error(ctx) ? NULL : tern_linear_act(ctx, x, w, b, &s->op);
}

static int64_t linear_flops(const tern_module *m, tern_shape x, tern_shape y)
{
    const linear_state *s = tern_module_state((tern_module *)m);

    (void)x;
    return 2 * s->d * tern_count(y);
}

tern_module *tern_nn_linear(tern_ctx *ctx, int64_t d, int64_t m, const tern_nn_linear_opts *opts)
{
    const tern_nn_linear_opts o = opts ? *opts : (tern_nn_linear_opts){0};
    const linear_state s = {{.act = o.act}, !o.no_bias, d, m};
    char text[64];

    if (tern_error(ctx) || !act_fits(ctx, "linear", o.act)) return NULL;
    if (d < 1 || m < 1) {
        tern_fail(ctx, TERN_E_ARGUMENT, "linear: %lld to %lld features: both are at least 1",
                  (long long)d, (long long)m);
        return NULL;
    }
    tern_module *l = tern_module_new(ctx, "dense", linear_forward, &s, sizeof s);
    if (!l || weights(l, (tern_shape){2, {m, d}}, o.weight, o.bias, o.no_bias, (double)d))
        return NULL;
    snprintf(text, sizeof text, "dense%s", act_text(o.act));
    tern_module_flops(l, linear_flops);
    return tern_module_describe(l, text) ? NULL : l;
}

/* ---- Convolution ---- */

typedef struct {
    tern_conv2d_act_opts op;
    bool bias;
    int64_t macs; /* per output element */
} conv_state;

static tern_tensor *conv_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const conv_state *s = tern_module_state(m);
    tern_tensor *w = own(ctx, m, "weight"), *b = s->bias ? own(ctx, m, "bias") : NULL;

    return tern_error(ctx) ? NULL : tern_conv2d_act(ctx, x, w, b, &s->op);
}

static int64_t conv_flops(const tern_module *m, tern_shape x, tern_shape y)
{
    const conv_state *s = tern_module_state((tern_module *)m);

    (void)x;
    return 2 * s->macs * tern_count(y);
}

/* A square one is written once: "conv 3×3 /2, groups 4, relu". */
static void conv_text(char *text, size_t room, const tern_nn_conv2d_opts *o)
{
    const char *cross = "\xc3\x97";
    size_t n = (size_t)snprintf(text, room, "conv %d%s%d", o->kernel[0], cross, o->kernel[1]);
    const int sh = o->stride[0] ? o->stride[0] : 1, sw = o->stride[1] ? o->stride[1] : 1;

    if (sh == sw && sh > 1) n += (size_t)snprintf(text + n, room - n, " /%d", sh);
    if (sh != sw) n += (size_t)snprintf(text + n, room - n, " /%d,%d", sh, sw);
    if (o->groups > 1) n += (size_t)snprintf(text + n, room - n, ", groups %d", o->groups);
    snprintf(text + n, room - n, "%s", act_text(o->act));
}

tern_module *tern_nn_conv2d(tern_ctx *ctx, int64_t c, int64_t k, const tern_nn_conv2d_opts *opts)
{
    tern_nn_conv2d_opts o = opts ? *opts : (tern_nn_conv2d_opts){0};
    const int64_t groups = o.groups ? o.groups : 1;
    char text[80];

    if (tern_error(ctx) || !act_fits(ctx, "conv2d", o.act)) return NULL;
    if (o.kernel[1] == 0) o.kernel[1] = o.kernel[0];
    if (c < 1 || k < 1 || o.kernel[0] < 1 || o.kernel[1] < 1) {
        tern_fail(ctx, TERN_E_ARGUMENT,
                  "conv2d: %lld to %lld channels, kernel %dx%d: all are at least 1", (long long)c,
                  (long long)k, o.kernel[0], o.kernel[1]);
        return NULL;
    }
    if (groups < 1 || c % groups || k % groups) {
        tern_fail(ctx, TERN_E_ARGUMENT, "conv2d: %lld groups do not divide %lld and %lld channels",
                  (long long)groups, (long long)c, (long long)k);
        return NULL;
    }
    for (int i = 0; i < 2; i++)
        if (o.stride[i] < 0 || o.pad[i] < 0 || o.dilation[i] < 0) {
            tern_fail(ctx, TERN_E_ARGUMENT, "conv2d: stride, pad or dilation is negative");
            return NULL;
        }
    const tern_shape shape = {4, {k, c / groups, o.kernel[0], o.kernel[1]}};
    const int64_t taps = (int64_t)o.kernel[0] * o.kernel[1];
    conv_state s = {.bias = !o.no_bias};
    memcpy(s.op.stride, o.stride, sizeof s.op.stride);
    memcpy(s.op.pad, o.pad, sizeof s.op.pad);
    memcpy(s.op.dilation, o.dilation, sizeof s.op.dilation);
    s.op.groups = o.groups;
    s.op.act = o.act;
    tern_module *m;
    if (tern_count(shape) < 0) {
        tern_fail(ctx, TERN_E_SHAPE, "conv2d: the filter has more elements than 63 bits count");
        return NULL;
    }
    s.macs = c / groups * taps;
    if (!(m = tern_module_new(ctx, "conv", conv_forward, &s, sizeof s)) ||
        weights(m, shape, o.weight, o.bias, o.no_bias, (double)s.macs))
        return NULL;
    conv_text(text, sizeof text, &o);
    tern_module_flops(m, conv_flops);
    return tern_module_describe(m, text) ? NULL : m;
}

/* ---- Batch norm ---- */

/* The op is pure and gives the new statistics; the module assigns them, once per call. */
static tern_tensor *batch_norm_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const tern_batch_norm_opts *o = tern_module_state(m);
    tern_var *mean = tern_module_var(ctx, m, "running_mean");
    tern_var *var = tern_module_var(ctx, m, "running_var");
    tern_tensor *gamma = own(ctx, m, "weight"), *beta = own(ctx, m, "bias");
    tern_tensor *old_mean = tern_read(ctx, mean), *old_var = tern_read(ctx, var);
    tern_tensor *new_mean = NULL, *new_var = NULL, *y;

    if (tern_mode_of(ctx) == TERN_EVAL)
        return tern_batch_norm_eval(ctx, x, gamma, beta, old_mean, old_var, o);
    y = tern_batch_norm(ctx, &new_mean, &new_var, x, gamma, beta, old_mean, old_var, o);
    if (!y || tern_assign(ctx, mean, new_mean) || tern_assign(ctx, var, new_var)) return NULL;
    return y;
}

tern_module *tern_nn_batch_norm(tern_ctx *ctx, int64_t c, const tern_batch_norm_opts *opts)
{
    const tern_batch_norm_opts o = opts ? *opts : (tern_batch_norm_opts){0};
    const tern_shape shape = {1, {c}};
    const tern_init ones = {.kind = TERN_INIT_CONSTANT, .a = 1},
                    zeros = {.kind = TERN_INIT_CONSTANT};

    if (tern_error(ctx)) return NULL;
    if (c < 1 || (o.has_eps && !(o.eps >= 0 && isfinite(o.eps))) ||
        (o.has_momentum && !(o.momentum >= 0 && o.momentum <= 1))) {
        tern_fail(
            ctx, TERN_E_ARGUMENT,
            "batch_norm: %lld channels, eps %g, momentum %g: at least 1, not negative, 0 to 1",
            (long long)c, o.eps, o.momentum);
        return NULL;
    }
    tern_module *m = tern_module_new(ctx, "batchnorm", batch_norm_forward, &o, sizeof o);
    if (!m || tern_module_param(m, "weight", shape, &ones) ||
        tern_module_param(m, "bias", shape, &zeros) ||
        tern_module_buffer(m, "running_mean", TERN_F32, shape, NULL) ||
        tern_module_buffer(m, "running_var", TERN_F32, shape, &ones) ||
        tern_module_describe(m, "batch norm"))
        return NULL;
    return done(ctx, m);
}

/* ---- Layer norm ---- */

typedef struct {
    tern_layer_norm_opts op;
    tern_shape shape;
    bool affine;
} layer_norm_state;

static tern_tensor *layer_norm_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const layer_norm_state *s = tern_module_state(m);
    const tern_shape got = tern_shape_of(x);
    const int lead = got.rank - s->shape.rank;
    char a[160], b[160];

    if (lead < 0 || memcmp(got.dim + lead, s->shape.dim, (size_t)s->shape.rank * sizeof *got.dim)) {
        tern_fail(ctx, TERN_E_SHAPE, "%s: the trailing axes of %s are not %s", tern_module_path(m),
                  tern_shape_text(a, got), tern_shape_text(b, s->shape));
        return NULL;
    }
    tern_tensor *gamma = s->affine ? own(ctx, m, "weight") : NULL;
    tern_tensor *beta = s->affine ? own(ctx, m, "bias") : NULL;
    return tern_error(ctx) ? NULL : tern_layer_norm(ctx, x, gamma, beta, &s->op);
}

tern_module *tern_nn_layer_norm(tern_ctx *ctx, tern_shape shape,
                                const tern_nn_layer_norm_opts *opts)
{
    const tern_nn_layer_norm_opts o = opts ? *opts : (tern_nn_layer_norm_opts){0};
    const tern_init ones = {.kind = TERN_INIT_CONSTANT, .a = 1},
                    zeros = {.kind = TERN_INIT_CONSTANT};
    const layer_norm_state s = {
        {.axes = shape.rank, .has_eps = o.has_eps, .eps = o.eps}, shape, !o.no_affine};

    if (tern_error(ctx)) return NULL;
    if (shape.rank < 1 || shape.rank > TERN_RANK || tern_count(shape) < 1 ||
        (o.has_eps && !(o.eps >= 0 && isfinite(o.eps)))) {
        tern_fail(
            ctx, TERN_E_ARGUMENT,
            "layer_norm: %d axes, eps %g: at least one axis without extent 0, eps not negative",
            shape.rank, o.eps);
        return NULL;
    }
    tern_module *m = tern_module_new(ctx, "layernorm", layer_norm_forward, &s, sizeof s);
    if (!m || tern_module_describe(m, "layer norm")) return NULL;
    if (s.affine && (tern_module_param(m, "weight", shape, &ones) ||
                     tern_module_param(m, "bias", shape, &zeros)))
        return NULL;
    return m;
}
