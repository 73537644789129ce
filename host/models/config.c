/*
 * config.c - networks from config files: one section, one layer, in order.
 *
 * The builder knows what leaves each layer, so a section says only what it adds: [conv] needs no
 * input channels, [dense] flattens by itself, and a layer that does not fit is refused with its
 * line. Darknet's spellings convolutional, connected, output, batch_normalize, probability, leaky
 * and logistic are understood.
 */
#include <string.h>

#include "models/section.h"
#include "tern/models.h"

typedef enum { ACT_NONE, ACT_RELU, ACT_TANH, ACT_SIGMOID, ACT_LEAKY, ACT_ELU, ACT_GELU } act;

/* What leaves a layer: c×h×w; or c features; or a sequence of h steps of w features (c is 1). */
typedef struct {
    bool flat;
    int64_t c, h, w;
    bool sequence;
} extent;

enum { MOST_PARTS = 2048, MOST_DEPTH = 16, MOST_EXTENT = 1 << 20 };

typedef struct {
    tern_ctx *ctx;
    const tern_config *config;
    int i; /* the section to read */
    ti_section s;
    int64_t classes;
    extent now;
    tern_module **part; /* all lists of the nesting behind each other */
    int n;
    int *first; /* of each section of the innermost list: its first part, for [shortcut] */
    extent *before;
    int n_layer;
} builder;

static bool failed(const builder *b) { return tern_error(b->ctx) != TERN_OK; }

static void add(builder *b, tern_module *m)
{
    if (!m) return;
    if (b->n == MOST_PARTS) ti_section_fail(&b->s, NULL, "a net has at most %d parts", MOST_PARTS);
    else b->part[b->n++] = m;
}

static bool is(const builder *b, const char *name, const char *also)
{
    return strcmp(b->s.at->name, name) == 0 || (also && strcmp(b->s.at->name, also) == 0);
}

/* ---- Words ---- */

static act activation(const builder *b, act otherwise)
{
    static const struct {
        const char *word;
        act is;
    } words[] = {{"none", ACT_NONE},   {"linear", ACT_NONE},      {"relu", ACT_RELU},
                 {"tanh", ACT_TANH},   {"sigmoid", ACT_SIGMOID},  {"logistic", ACT_SIGMOID},
                 {"leaky", ACT_LEAKY}, {"leaky_relu", ACT_LEAKY}, {"elu", ACT_ELU},
                 {"gelu", ACT_GELU},   {NULL, ACT_NONE}};
    const tern_config_entry *e = tern_config_find(b->s.at, "activation");

    if (!e) return otherwise;
    for (int i = 0; words[i].word; i++)
        if (strcmp(words[i].word, e->value) == 0) return words[i].is;
    ti_section_fail(&b->s, e,
                    "activation=%.40s: none, relu, tanh, sigmoid, leaky, elu or gelu is wanted",
                    e->value);
    return otherwise;
}

/* As a part of its own; slope: of leaky and elu. */
static void add_activation(builder *b, act a)
{
    const tern_slope_opts slope = {
        true, ti_section_real(&b->s, "slope", a == ACT_ELU ? 1 : 0.01, 0, 100)};

    if (failed(b)) return;
    switch (a) {
    case ACT_NONE: break;
    case ACT_RELU: add(b, tern_nn_relu(b->ctx)); break;
    case ACT_TANH: add(b, tern_nn_tanh(b->ctx)); break;
    case ACT_SIGMOID: add(b, tern_nn_sigmoid(b->ctx)); break;
    case ACT_LEAKY: add(b, tern_nn_leaky_relu(b->ctx, &slope)); break;
    case ACT_ELU: add(b, tern_nn_elu(b->ctx, &slope)); break;
    case ACT_GELU: add(b, tern_nn_gelu(b->ctx, NULL)); break;
    }
}

/* Activations that the layers before them take in. */
static int fused(act a) { return a <= ACT_SIGMOID ? (int)a : TERN_ACT_NONE; }

static tern_init initial(const builder *b)
{
    const tern_config_entry *e = tern_config_find(b->s.at, "init");
    const int kind = e ? tern_init_named(e->value) : TERN_INIT_DEFAULT;

    if (kind < 0 || kind == TERN_INIT_CONSTANT) {
        ti_section_fail(&b->s, e,
                        "init=%.40s: default, uniform, normal, xavier_uniform, xavier_normal, "
                        "he_uniform, he_normal or orthogonal is wanted",
                        e->value);
        return (tern_init){0};
    }
    tern_init init = {.kind = kind};
    if (kind == TERN_INIT_UNIFORM) init.a = -0.05, init.b = 0.05;
    if (kind == TERN_INIT_NORMAL) init.b = 0.05;
    return init;
}

static void add_named(builder *b, tern_module *m)
{
    const char *name = ti_section_text(&b->s, "name");

    add(b, m && name ? tern_module_name(m, name) : m);
}

/* ---- Extents ---- */

static bool need_image(builder *b)
{
    if (!b->now.flat && !b->now.sequence) return true;
    if (b->now.sequence)
        ti_section_fail(&b->s, NULL, "images are wanted here, but a sequence arrives");
    else
        ti_section_fail(&b->s, NULL, "images are wanted here, but %lld features arrive",
                        (long long)b->now.c);
    return false;
}

static void flatten(builder *b)
{
    if (b->now.flat) return;
    add(b, tern_nn_flatten(b->ctx));
    b->now = (extent){true, b->now.c * b->now.h * b->now.w, 1, 1, false};
}

/* One axis behind a window, or a failure. */
static int64_t behind(builder *b, int64_t extent_in, int size, int stride, int pad, int dilation)
{
    const int64_t reach = (int64_t)dilation * (size - 1) + 1, room = extent_in + 2 * (int64_t)pad;

    if (room < reach) {
        ti_section_fail(&b->s, NULL, "a window of %lld does not fit images of %lldx%lld, pad %d",
                        (long long)reach, (long long)b->now.h, (long long)b->now.w, pad);
        return 1;
    }
    const int64_t out = (room - reach) / stride + 1;
    if (out > MOST_EXTENT)
        ti_section_fail(&b->s, NULL, "it makes images of more than %d pixels a side", MOST_EXTENT);
    return out;
}

/* ---- Layers ---- */

static void conv(builder *b)
{
    int stride[2] = {1, 1}, size[2] = {0, 0}, dilation[2] = {1, 1}, pad[2] = {0, 0};
    const char *text = ti_section_text(&b->s, "pad");

    if (ti_section_keys(&b->s, "name filters size stride pad dilation groups bias activation slope "
                               "batch_normalize init") ||
        !need_image(b))
        return;
    const int64_t k = ti_section_int(&b->s, "filters", 0, 1, MOST_EXTENT);
    const bool norm = ti_section_flag(&b->s, "batch_normalize", false);
    const bool bias = ti_section_flag(&b->s, "bias", !norm);
    const int groups = (int)ti_section_int(&b->s, "groups", 1, 1, MOST_EXTENT);
    const act a = activation(b, ACT_NONE);
    ti_section_pair(&b->s, "size", size, 1);
    ti_section_pair(&b->s, "stride", stride, 1);
    ti_section_pair(&b->s, "dilation", dilation, 1);
    if (text && strcmp(text, "same") == 0) {
        for (int i = 0; i < 2; i++) pad[i] = (size[i] - 1) / 2 * dilation[i];
        if (size[0] % 2 == 0 || size[1] % 2 == 0)
            ti_section_fail(&b->s, tern_config_find(b->s.at, "pad"), "pad=same needs an odd size");
    } else ti_section_pair(&b->s, "pad", pad, 0);
    if (failed(b)) return;
    if (!k || !size[0]) {
        ti_section_fail(&b->s, NULL, "filters and size are required");
        return;
    }
    tern_nn_conv2d_opts o = {.groups = groups,
                             .act = norm ? TERN_ACT_NONE : fused(a),
                             .no_bias = !bias,
                             .weight = initial(b)};
    memcpy(o.kernel, size, sizeof size);
    memcpy(o.stride, stride, sizeof stride);
    memcpy(o.pad, pad, sizeof pad);
    memcpy(o.dilation, dilation, sizeof dilation);
    const int64_t h = behind(b, b->now.h, size[0], stride[0], pad[0], dilation[0]);
    const int64_t w = behind(b, b->now.w, size[1], stride[1], pad[1], dilation[1]);
    if (!failed(b) && (b->now.c % groups || k % groups))
        ti_section_fail(&b->s, NULL, "%d groups do not divide %lld and %lld channels", groups,
                        (long long)b->now.c, (long long)k);
    if (failed(b)) return;
    add_named(b, tern_nn_conv2d(b->ctx, b->now.c, k, &o));
    if (norm) add(b, tern_nn_batch_norm(b->ctx, k, NULL));
    if (norm || a != (act)fused(a)) add_activation(b, a);
    b->now = (extent){false, k, h, w};
}

static void pool(builder *b, bool max)
{
    tern_pool2d_opts o = {0};
    const bool global = !max && !tern_config_find(b->s.at, "size");

    if (ti_section_keys(&b->s, "name size stride pad") || !need_image(b)) return;
    if (global) { /* [avgpool] alone: over the whole image */
        add_named(b, tern_nn_global_avgpool(b->ctx));
        b->now = (extent){true, b->now.c, 1, 1};
        return;
    }
    o.size[0] = o.size[1] = 2;
    ti_section_pair(&b->s, "size", o.size, 1);
    memcpy(o.stride, o.size, sizeof o.stride);
    ti_section_pair(&b->s, "stride", o.stride, 1);
    ti_section_pair(&b->s, "pad", o.pad, 0);
    if (!failed(b) && (o.pad[0] > o.size[0] / 2 || o.pad[1] > o.size[1] / 2))
        ti_section_fail(&b->s, NULL, "pad is at most half of size");
    const int64_t h = behind(b, b->now.h, o.size[0], o.stride[0], o.pad[0], 1);
    const int64_t w = behind(b, b->now.w, o.size[1], o.stride[1], o.pad[1], 1);
    if (failed(b)) return;
    add_named(b, max ? tern_nn_maxpool2d(b->ctx, 0, &o) : tern_nn_avgpool2d(b->ctx, 0, &o));
    b->now.h = h;
    b->now.w = w;
}

static void dense(builder *b)
{
    const char *key = tern_config_find(b->s.at, "output") ? "output" : "units";

    if (ti_section_keys(&b->s, "name units output bias activation slope batch_normalize init"))
        return;
    flatten(b);
    /* without units it gives the classes */
    const int64_t m = ti_section_int(&b->s, key, b->classes, 1, MOST_EXTENT);
    const bool norm = ti_section_flag(&b->s, "batch_normalize", false);
    const bool bias = ti_section_flag(&b->s, "bias", !norm);
    const act a = activation(b, ACT_NONE);
    if (!m && !failed(b))
        ti_section_fail(&b->s, NULL, "units are required, since [net] does not say the classes");
    const tern_nn_linear_opts o = {
        .act = norm ? TERN_ACT_NONE : fused(a), .no_bias = !bias, .weight = initial(b)};
    if (failed(b)) return;
    add_named(b, tern_nn_linear(b->ctx, b->now.c, m, &o));
    if (norm) add(b, tern_nn_batch_norm(b->ctx, m, NULL));
    if (norm || a != (act)fused(a)) add_activation(b, a);
    b->now = (extent){true, m, 1, 1};
}

static void batch_norm(builder *b)
{
    if (ti_section_keys(&b->s, "name eps momentum") || (b->now.sequence && !need_image(b))) return;
    const tern_batch_norm_opts o = {true, true, ti_section_real(&b->s, "eps", 1e-5, 0, 1),
                                    ti_section_real(&b->s, "momentum", 0.1, 0, 1)};
    if (!failed(b)) add_named(b, tern_nn_batch_norm(b->ctx, b->now.c, &o));
}

static void layer_norm(builder *b)
{
    if (ti_section_keys(&b->s, "name eps")) return;
    const tern_nn_layer_norm_opts o = {.has_eps = 1,
                                       .eps = ti_section_real(&b->s, "eps", 1e-5, 0, 1)};
    const tern_shape shape = b->now.flat       ? (tern_shape){1, {b->now.c}}
                             : b->now.sequence ? (tern_shape){1, {b->now.w}}
                                               : (tern_shape){3, {b->now.c, b->now.h, b->now.w}};
    if (!failed(b)) add_named(b, tern_nn_layer_norm(b->ctx, shape, &o));
}

/* [rnn], [lstm], [gru]: images are read row by row. With sequence=1 all steps leave, not only the
 * last one's state. */
static void recurrent(builder *b)
{
    const bool gru = is(b, "gru", NULL), lstm = is(b, "lstm", NULL);
    tern_nn_rnn_opts o = {.batch_first = 1};

    if (ti_section_keys(&b->s, gru ? "name units layers bidirectional sequence dropout bias init "
                                     "reset_before"
                               : lstm
                                   ? "name units layers bidirectional sequence dropout bias init "
                                     "forget_bias"
                                   : "name units layers bidirectional sequence dropout bias init "
                                     "activation"))
        return;
    const int64_t h = ti_section_int(&b->s, "units", 0, 1, MOST_EXTENT);
    o.layers = (int)ti_section_int(&b->s, "layers", 1, 1, 64);
    o.bidirectional = ti_section_flag(&b->s, "bidirectional", false);
    o.last = !ti_section_flag(&b->s, "sequence", false);
    o.dropout = ti_section_real(&b->s, "dropout", 0, 0, 0.9999);
    o.no_bias = !ti_section_flag(&b->s, "bias", true);
    o.reset_before = gru && ti_section_flag(&b->s, "reset_before", false);
    o.has_forget_bias = lstm && tern_config_find(b->s.at, "forget_bias") != NULL;
    o.forget_bias = ti_section_real(&b->s, "forget_bias", 0, -100, 100);
    o.weight_ih = initial(b);
    const act a = lstm || gru ? ACT_NONE : activation(b, ACT_TANH);
    if (!failed(b) && a != ACT_NONE && a != ACT_TANH && a != ACT_RELU)
        ti_section_fail(&b->s, tern_config_find(b->s.at, "activation"), "tanh or relu is wanted");
    if (!failed(b) && !h) ti_section_fail(&b->s, NULL, "units are required");
    if (!failed(b) && b->now.flat)
        ti_section_fail(&b->s, NULL,
                        "images or a sequence are wanted here, but %lld features "
                        "arrive",
                        (long long)b->now.c);
    if (failed(b)) return;
    o.act = fused(a);
    if (!b->now.sequence) add(b, tern_nn_rows(b->ctx));
    const int64_t d = b->now.c * b->now.w, out = o.bidirectional ? 2 * h : h;
    add_named(b, lstm  ? tern_nn_lstm(b->ctx, d, h, &o)
                 : gru ? tern_nn_gru(b->ctx, d, h, &o)
                       : tern_nn_rnn(b->ctx, d, h, &o));
    b->now = o.last ? (extent){true, out, 1, 1, false} : (extent){false, 1, b->now.h, out, true};
}

static void dropout(builder *b)
{
    const char *key = tern_config_find(b->s.at, "probability") ? "probability" : "p";

    if (ti_section_keys(&b->s, "name p probability")) return;
    const double p = ti_section_real(&b->s, key, 0.5, 0, 0.9999);
    if (!failed(b)) add_named(b, tern_nn_dropout(b->ctx, p));
}

static void activate(builder *b)
{
    if (ti_section_keys(&b->s, "activation slope")) return;
    const act a = activation(b, ACT_NONE);
    if (!failed(b) && a == ACT_NONE) ti_section_fail(&b->s, NULL, "activation is required");
    add_activation(b, a);
}

/* ---- Shortcuts ---- */

/* parts[first …] become one residual part; `from` is what entered them. */
static void wrap(builder *b, int first, extent from, act a)
{
    tern_nn_residual_opts o = {.act = fused(a)};
    const extent to = b->now;

    if (failed(b)) return;
    if (b->n == first) {
        ti_section_fail(&b->s, NULL, "there is no layer that it could go around");
        return;
    }
    if (from.flat != to.flat || from.sequence != to.sequence || (from.flat && from.c != to.c) ||
        (from.sequence && from.w != to.w)) {
        ti_section_fail(&b->s, NULL,
                        "what enters (%lld features) and what leaves (%lld) do not add "
                        "up",
                        (long long)(from.sequence ? from.w : from.c),
                        (long long)(to.sequence ? to.w : to.c));
        return;
    }
    if (from.c != to.c || from.h != to.h || from.w != to.w) { /* a 1×1 convolution fits them */
        const int64_t sh = (from.h + to.h - 1) / to.h, sw = (from.w + to.w - 1) / to.w;
        if ((from.h - 1) / sh + 1 != to.h || (from.w - 1) / sw + 1 != to.w) {
            ti_section_fail(&b->s, NULL,
                            "no stride of a 1x1 shortcut turns %lldx%lld into %lldx%lld",
                            (long long)from.h, (long long)from.w, (long long)to.h, (long long)to.w);
            return;
        }
        o.shortcut = tern_sequential(
            b->ctx,
            (tern_module *[]){tern_nn_conv2d(b->ctx, from.c, to.c,
                                             &(tern_nn_conv2d_opts){.kernel = {1, 1},
                                                                    .stride = {(int)sh, (int)sw},
                                                                    .no_bias = true}),
                              tern_nn_batch_norm(b->ctx, to.c, NULL), NULL});
        if (failed(b)) return;
    }
    b->part[b->n] = NULL;
    tern_module *m = tern_nn_residual(b->ctx, b->part + first, &o);
    b->n = first;
    add_named(b, m);
    if (a != (act)fused(a)) add_activation(b, a);
}

/* Darknet's: adds what left the layer `from` (negative: counted back from here). */
static void shortcut(builder *b)
{
    if (ti_section_keys(&b->s, "name from activation slope")) return;
    const int64_t from = ti_section_int(&b->s, "from", 0, -MOST_PARTS, -2);
    const act a = activation(b, ACT_NONE);
    if (!failed(b) && (from == 0 || b->n_layer + from + 1 < 0))
        ti_section_fail(&b->s, NULL, "from is required, -2 … %d here", -b->n_layer - 1);
    if (failed(b)) return;
    const int layer = b->n_layer + (int)from + 1; /* the first one to go around */
    wrap(b, b->first[layer], b->before[layer], a);
}

static void layers(builder *b, int depth);

/* [residual] … [end] */
static void residual(builder *b, int depth)
{
    const ti_section opened = b->s;
    const extent from = b->now;
    const int first = b->n, layer = b->n_layer;
    builder inner = *b;

    if (ti_section_keys(&b->s, "name activation slope")) return;
    const act a = activation(b, ACT_NONE);
    if (depth == MOST_DEPTH) {
        ti_section_fail(&b->s, NULL, "nested more than %d deep", MOST_DEPTH);
        return;
    }
    inner.first = b->first + layer + 1;
    inner.before = b->before + layer + 1;
    inner.n_layer = 0;
    inner.i++;
    layers(&inner, depth + 1);
    b->i = inner.i;
    b->n = inner.n;
    b->now = inner.now;
    b->s = opened;
    if (!failed(b) && !tern_config_at(b->config, b->i))
        ti_section_fail(&b->s, NULL, "[end] is missing");
    wrap(b, first, from, a);
}

/* ---- The whole ---- */

static bool is_others(const builder *b)
{
    static const char *const others[] = {"train", "data", "augment", "optimizer", "run", NULL};

    for (int i = 0; others[i]; i++)
        if (is(b, others[i], NULL)) return true;
    return false;
}

static void layer(builder *b, int depth)
{
    if (is(b, "conv", "convolutional")) conv(b);
    else if (is(b, "maxpool", NULL)) pool(b, true);
    else if (is(b, "avgpool", NULL)) pool(b, false);
    else if (is(b, "dense", "connected")) dense(b);
    else if (is(b, "lstm", "gru") || is(b, "rnn", NULL)) recurrent(b);
    else if (is(b, "batchnorm", NULL)) batch_norm(b);
    else if (is(b, "layernorm", NULL)) layer_norm(b);
    else if (is(b, "activation", NULL)) activate(b);
    else if (is(b, "dropout", NULL)) dropout(b);
    else if (is(b, "flatten", NULL)) {
        if (!ti_section_keys(&b->s, "")) flatten(b);
    } else if (is(b, "shortcut", NULL)) shortcut(b);
    else if (is(b, "residual", NULL)) residual(b, depth);
    else if (is(b, "end", NULL)) ti_section_fail(&b->s, NULL, "there is no [residual] to end");
    else if (is(b, "net", NULL)) ti_section_fail(&b->s, NULL, "it stands once, before all layers");
    else ti_section_fail(&b->s, NULL, "there is no such layer");
}

/* Sections up to the end, or up to [end] inside of [residual]. */
static void layers(builder *b, int depth)
{
    for (; !failed(b) && (b->s.at = tern_config_at(b->config, b->i)) != NULL; b->i++) {
        if (is_others(b)) continue;
        if (depth && is(b, "end", NULL)) {
            (void)!ti_section_keys(&b->s, "");
            return;
        }
        b->first[b->n_layer] = b->n;
        b->before[b->n_layer] = b->now;
        layer(b, depth);
        b->n_layer++;
    }
}

/* [net], overridden by `how`. */
static tern_model_opts net_section(builder *b, const tern_model_opts *how)
{
    tern_model_opts o = {0};

    while ((b->s.at = tern_config_at(b->config, b->i)) != NULL && is_others(b)) b->i++;
    if (!b->s.at || !is(b, "net", NULL)) {
        tern_fail(b->ctx, TERN_E_FORMAT, "%.200s:%d: [net] is wanted before the layers", b->s.file,
                  b->s.at ? b->s.at->line : 1);
        return o;
    }
    if (ti_section_keys(&b->s, "channels height width classes")) return o;
    o.channels = ti_section_int(&b->s, "channels", 1, 1, MOST_EXTENT);
    o.height = ti_section_int(&b->s, "height", 0, 1, MOST_EXTENT);
    o.width = ti_section_int(&b->s, "width", o.height, 1, MOST_EXTENT);
    o.classes = ti_section_int(&b->s, "classes", 0, 1, MOST_EXTENT);
    if (how && how->channels) o.channels = how->channels;
    if (how && how->height) o.height = how->height;
    if (how && how->width) o.width = how->width;
    if (how && how->classes) o.classes = how->classes;
    const int64_t given[] = {o.channels, o.height, o.width, o.classes};
    for (int i = 0; i < 4; i++)
        if (given[i] < 0 || given[i] > MOST_EXTENT)
            tern_fail(b->ctx, TERN_E_ARGUMENT, "%.200s: images and classes: %lld is not in 1 to %d",
                      b->s.file, (long long)given[i], MOST_EXTENT);
    if (!failed(b) && !o.height) ti_section_fail(&b->s, NULL, "height is required");
    if (!o.width) o.width = o.height;
    b->i++;
    return o;
}

static tern_module *finish(builder *b, tern_model_opts *o)
{
    if (failed(b)) return NULL;
    b->s.at = tern_config_at(b->config, tern_config_count(b->config) - 1);
    if (b->n == 0) ti_section_fail(&b->s, NULL, "there are no layers");
    else if (b->now.sequence)
        ti_section_fail(&b->s, NULL, "the net ends in a sequence; [flatten] or [dense] comes last");
    else if (!b->now.flat)
        ti_section_fail(&b->s, NULL,
                        "the net ends in images of %lldx%lldx%lld; [avgpool], [flatten] "
                        "or [dense] comes last",
                        (long long)b->now.c, (long long)b->now.h, (long long)b->now.w);
    else if (o->classes && o->classes != b->now.c)
        ti_section_fail(&b->s, NULL, "the net ends in %lld features, but there are %lld classes",
                        (long long)b->now.c, (long long)o->classes);
    if (failed(b)) return NULL;
    o->classes = b->now.c;
    b->part[b->n] = NULL;
    return tern_sequential(b->ctx, b->part);
}

tern_module *tern_model_from_config(tern_ctx *ctx, const tern_config *config,
                                    const tern_model_opts *how, tern_model_opts *got)
{
    if (tern_error(ctx)) return NULL;
    if (!config) {
        tern_fail(ctx, TERN_E_ARGUMENT, "model_from_config: the config is NULL");
        return NULL;
    }
    const size_t n = (size_t)tern_config_count(config) + 1;
    builder b = {.ctx = ctx, .config = config, .s = {ctx, tern_config_file(config), NULL}};
    tern_module *net = NULL;

    b.part = tern_alloc(ctx, (MOST_PARTS + 1) * sizeof *b.part);
    b.first = tern_alloc(ctx, n * sizeof *b.first);
    b.before = tern_alloc(ctx, n * sizeof *b.before);
    if (b.part && b.first && b.before) {
        tern_model_opts o = net_section(&b, how);
        b.classes = o.classes;
        b.now = (extent){false, o.channels, o.height, o.width};
        if (!failed(&b)) layers(&b, 0);
        net = finish(&b, &o);
        if (net && got) *got = o;
    }
    tern_free(ctx, b.part);
    tern_free(ctx, b.first);
    tern_free(ctx, b.before);
    return net;
}
