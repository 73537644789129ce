/*
 * plain.c - layers without parameters: activations, pools, dropout, flatten.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tern/nn.h"

/* A module whose kind also describes it. */
static tern_module *plain(tern_ctx *ctx, const char *kind, tern_module_fn forward,
                          const void *state, size_t bytes, const char *text)
{
    tern_module *m = tern_module_new(ctx, kind, forward, state, bytes);

    if (!m || (text && tern_module_describe(m, text))) return NULL;
    return m;
}

/* ---- Activations ---- */

static tern_tensor *relu_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    (void)m;
    return tern_relu(ctx, x);
}
tern_module *tern_nn_relu(tern_ctx *ctx) { return plain(ctx, "relu", relu_forward, NULL, 0, NULL); }

static tern_tensor *sigmoid_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    (void)m;
    return tern_sigmoid(ctx, x);
}
tern_module *tern_nn_sigmoid(tern_ctx *ctx)
{
    return plain(ctx, "sigmoid", sigmoid_forward, NULL, 0, NULL);
}

static tern_tensor *tanh_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    (void)m;
    return tern_tanh(ctx, x);
}
tern_module *tern_nn_tanh(tern_ctx *ctx) { return plain(ctx, "tanh", tanh_forward, NULL, 0, NULL); }

static tern_tensor *leaky_relu_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_leaky_relu(ctx, x, tern_module_state(m));
}
tern_module *tern_nn_leaky_relu(tern_ctx *ctx, const tern_slope_opts *opts)
{
    const tern_slope_opts o = opts ? *opts : (tern_slope_opts){0};

    return plain(ctx, "leaky_relu", leaky_relu_forward, &o, sizeof o, "leaky relu");
}

static tern_tensor *elu_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_elu(ctx, x, tern_module_state(m));
}
tern_module *tern_nn_elu(tern_ctx *ctx, const tern_slope_opts *opts)
{
    const tern_slope_opts o = opts ? *opts : (tern_slope_opts){0};

    return plain(ctx, "elu", elu_forward, &o, sizeof o, NULL);
}

static tern_tensor *gelu_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_gelu(ctx, x, tern_module_state(m));
}
tern_module *tern_nn_gelu(tern_ctx *ctx, const tern_gelu_opts *opts)
{
    const tern_gelu_opts o = opts ? *opts : (tern_gelu_opts){0};

    return plain(ctx, "gelu", gelu_forward, &o, sizeof o, o.tanh ? "gelu (tanh)" : NULL);
}

/* ---- Pools ---- */

static tern_tensor *maxpool_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_max_pool2d(ctx, NULL, x, tern_module_state(m));
}

static tern_tensor *avgpool_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_avg_pool2d(ctx, x, tern_module_state(m));
}

static tern_module *pool(tern_ctx *ctx, const char *kind, tern_module_fn forward, int size,
                         const tern_pool2d_opts *opts)
{
    tern_pool2d_opts o = opts ? *opts : (tern_pool2d_opts){0};
    char text[64];

    if (tern_error(ctx)) return NULL;
    if (size) o.size[0] = o.size[1] = size;
    for (int i = 0; i < 2; i++)
        if (o.size[i] < 1 || o.stride[i] < 0 || o.pad[i] < 0 || o.pad[i] > o.size[i] / 2 ||
            o.dilation[i] < 0) {
            tern_fail(ctx, TERN_E_ARGUMENT,
                      "%s: size %d, stride %d, pad %d, dilation %d: size at least 1, pad at most "
                      "half of it, none negative",
                      kind, o.size[i], o.stride[i], o.pad[i], o.dilation[i]);
            return NULL;
        }
    memset(o.shape, 0, sizeof o.shape); /* of adjoints only */
    const int stride = o.stride[0] ? o.stride[0] : o.size[0];
    if (o.size[0] == o.size[1] && stride == o.size[0] && o.stride[0] == o.stride[1])
        snprintf(text, sizeof text, "%s %d", kind, o.size[0]);
    else snprintf(text, sizeof text, "%s %d\xc3\x97%d /%d", kind, o.size[0], o.size[1], stride);
    return plain(ctx, kind, forward, &o, sizeof o, text);
}

tern_module *tern_nn_maxpool2d(tern_ctx *ctx, int size, const tern_pool2d_opts *opts)
{
    return pool(ctx, "maxpool", maxpool_forward, size, opts);
}

tern_module *tern_nn_avgpool2d(tern_ctx *ctx, int size, const tern_pool2d_opts *opts)
{
    return pool(ctx, "avgpool", avgpool_forward, size, opts);
}

static tern_tensor *global_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);
    char text[160];

    if (s.rank != 4) {
        tern_fail(ctx, TERN_E_SHAPE, "%s: [N,C,H,W] is wanted, not %s", tern_module_path(m),
                  tern_shape_text(text, s));
        return NULL;
    }
    return tern_mean(ctx, x, &(tern_reduce_opts){.axes = 1 << 2 | 1 << 3});
}
tern_module *tern_nn_global_avgpool(tern_ctx *ctx)
{
    return plain(ctx, "avgpool", global_forward, NULL, 0, "avgpool, global");
}

/* ---- Dropout ---- */

/* The counter is a buffer that grows with every training call: two calls in a step differ, and the
 * same step after a resume is the same. */
static tern_tensor *dropout_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const double *p = tern_module_state(m);
    tern_var *calls = tern_module_var(ctx, m, "counter");

    if (tern_mode_of(ctx) == TERN_EVAL || *p == 0) return x;
    const tern_dropout_opts o = {*p, (int64_t)tern_seed(ctx), tern_module_purpose(m)};
    tern_tensor *counter = tern_read(ctx, calls), *y = tern_dropout(ctx, x, counter, &o);
    if (!y || tern_assign(ctx, calls, tern_shift(ctx, counter, 1))) return NULL;
    return y;
}

/* "dropout 0.25", with a dot whatever the locale. */
static void dropout_text(char text[64], double p)
{
    int n = snprintf(text, 64, "dropout 0.%04d", (int)(p * 10000 + 0.5));

    if (p * 10000 + 0.5 >= 10000) n = snprintf(text, 64, "dropout 1.0");
    while (text[n - 1] == '0' && text[n - 2] != '.') text[--n] = 0;
}

static bool share_fits(tern_ctx *ctx, double p)
{
    if (p >= 0 && p < 1) return true;
    tern_fail(ctx, TERN_E_ARGUMENT, "dropout: p is %g; it is at least 0 and below 1", p);
    return false;
}

tern_module *tern_nn_dropout(tern_ctx *ctx, double p)
{
    char text[64];

    if (tern_error(ctx) || !share_fits(ctx, p)) return NULL;
    dropout_text(text, p);
    tern_module *m = plain(ctx, "dropout", dropout_forward, &p, sizeof p, text);
    if (!m || tern_module_buffer(m, "counter", TERN_I64, (tern_shape){0}, NULL)) return NULL;
    return m;
}

static tern_status set_all(tern_module *m, double p, int *found)
{
    tern_module *child;
    char text[64];

    if (strcmp(tern_module_kind(m), "dropout") == 0) {
        memcpy(tern_module_state(m), &p, sizeof p);
        dropout_text(text, p);
        const tern_status status = tern_module_describe(m, text);
        if (status) return status;
        ++*found;
    }
    for (int i = 0; (child = tern_module_child(m, i)); i++) {
        const tern_status status = set_all(child, p, found);
        if (status) return status;
    }
    return TERN_OK;
}

tern_status tern_nn_set_dropout(tern_ctx *ctx, tern_module *m, double p)
{
    int found = 0;

    if (tern_error(ctx)) return tern_error(ctx);
    if (!m) return tern_fail(ctx, TERN_E_ARGUMENT, "set_dropout: the module is NULL");
    if (tern_in_step(ctx))
        return tern_fail(ctx, TERN_E_TRACE, "set_dropout: options do not change inside a step");
    if (!share_fits(ctx, p) || set_all(m, p, &found)) return tern_error(ctx);
    if (!found)
        return tern_fail(ctx, TERN_E_ARGUMENT, "set_dropout: there is no dropout in %s",
                         tern_module_kind(m));
    tern_structure_changed(ctx);
    return TERN_OK;
}

/* ---- Flatten ---- */

static tern_tensor *flatten_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    (void)m;
    return tern_flatten(ctx, x);
}
tern_module *tern_nn_flatten(tern_ctx *ctx)
{
    return plain(ctx, "flatten", flatten_forward, NULL, 0, NULL);
}
