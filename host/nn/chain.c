/*
 * chain.c - modules made of modules: one after the other, around a shortcut, side by side.
 */
#include "tern/nn.h"

static tern_module *with_parts(tern_ctx *ctx, const char *kind, tern_module_fn forward,
                               const void *state, size_t bytes, tern_module *const *parts)
{
    tern_module *m;

    if (tern_error(ctx)) return NULL;
    if (!parts || !parts[0]) {
        tern_fail(ctx, TERN_E_ARGUMENT,
                  "%s: a list of modules that ends with NULL is wanted, with "
                  "at least one",
                  kind);
        return NULL;
    }
    if (!(m = tern_module_new(ctx, kind, forward, state, bytes))) return NULL;
    for (int i = 0; parts[i]; i++)
        if (tern_module_add(m, parts[i])) return NULL;
    return m;
}

/*
 * parts[from] … parts[to-1] of m, one after the other. What lies between two parts is dropped as
 * soon as the next has used it, so that evaluation holds two activations and not all of them.
 */
static tern_tensor *run(tern_ctx *ctx, tern_module *m, int from, int to, tern_tensor *x)
{
    tern_tensor *held = NULL, *y = x;

    for (int i = from; y && i < to; i++) {
        const bool last = i == to - 1;
        if (!last) tern_frame_begin(ctx);
        y = tern_forward(ctx, tern_module_child(m, i), y);
        if (last) break;
        y = tern_hold(y);
        tern_frame_end(ctx);
        tern_drop(held);
        held = y;
    }
    if (y && y == held) { /* the last part gave its input back, which is ours: a view outlives it */
        tern_permute_opts same = {{0}};
        for (int a = 0; a < tern_shape_of(y).rank; a++) same.axes[a] = a;
        y = tern_permute(ctx, y, &same);
    }
    tern_drop(held);
    return y;
}

static int count_parts(tern_module *m)
{
    int n = 0;

    while (tern_module_child(m, n)) n++;
    return n;
}

static tern_tensor *sequential_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return run(ctx, m, 0, count_parts(m), x);
}

tern_module *tern_sequential(tern_ctx *ctx, tern_module *const *parts)
{
    return with_parts(ctx, "sequential", sequential_forward, NULL, 0, parts);
}

typedef struct {
    int n_parts; /* children; the one after them is the shortcut, if there is one */
    int act;
} residual_state;

static tern_tensor *residual_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    const residual_state *s = tern_module_state(m);
    tern_module *shortcut = tern_module_child(m, s->n_parts);
    tern_tensor *y = run(ctx, m, 0, s->n_parts, x), *z = x;

    if (y && shortcut) z = tern_forward(ctx, shortcut, x);
    if (!y || !z) return NULL;
    const tern_shape a = tern_shape_of(y), b = tern_shape_of(z);
    char text[160], other[160];
    if (!tern_same_shape(a, b)) {
        tern_fail(ctx, TERN_E_SHAPE, "%s: %s from the parts and %s from the shortcut do not add up",
                  tern_module_path(m), tern_shape_text(text, a), tern_shape_text(other, b));
        return NULL;
    }
    y = tern_add(ctx, y, z);
    switch (s->act) {
    case TERN_RELU: return tern_relu(ctx, y);
    case TERN_TANH: return tern_tanh(ctx, y);
    case TERN_SIGMOID: return tern_sigmoid(ctx, y);
    default: return y;
    }
}

tern_module *tern_nn_residual(tern_ctx *ctx, tern_module *const *parts,
                              const tern_nn_residual_opts *opts)
{
    const tern_nn_residual_opts o = opts ? *opts : (tern_nn_residual_opts){0};
    residual_state s = {0, o.act};

    if (tern_error(ctx)) return NULL;
    if (o.act < TERN_ACT_NONE || o.act > TERN_SIGMOID) {
        tern_fail(ctx, TERN_E_ARGUMENT, "residual: there is no activation %d", o.act);
        return NULL;
    }
    while (parts && parts[s.n_parts]) s.n_parts++;
    tern_module *m = with_parts(ctx, "residual", residual_forward, &s, sizeof s, parts);
    if (!m || !o.shortcut) return m;
    if (!tern_module_name(o.shortcut, "shortcut") || tern_module_add(m, o.shortcut)) return NULL;
    return m;
}

static tern_tensor *sum_forward(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    tern_tensor *sum = NULL;
    tern_module *part;

    for (int i = 0; (part = tern_module_child(m, i)); i++) {
        tern_tensor *y = tern_forward(ctx, part, x);
        if (!y) return NULL;
        sum = sum ? tern_add(ctx, sum, y) : y;
    }
    return sum;
}

tern_module *tern_nn_sum(tern_ctx *ctx, tern_module *const *parts)
{
    return with_parts(ctx, "sum", sum_forward, NULL, 0, parts);
}
