/*
 * zoo.c - networks by name. Each is a function of the images' size; those that stand in the papers
 * have the papers' layers, for any size that fits.
 */
#include <string.h>

#include "tern/models.h"

/* A list of modules that grows; a NULL (failed) module ends it, and the context knows why. */
typedef struct {
    tern_ctx *ctx;
    tern_module *part[64];
    int n;
} list;

static void add(list *l, tern_module *m)
{
    if (m && l->n < 63) l->part[l->n++] = m;
}

static tern_module *seal(list *l)
{
    return tern_error(l->ctx) ? NULL : tern_sequential(l->ctx, l->part);
}

static tern_module *misfit(tern_ctx *ctx, const char *name, const tern_model_opts *o, int least)
{
    tern_fail(ctx, TERN_E_SHAPE, "%s: images of %lldx%lld do not fit; it needs at least %dx%d",
              name, (long long)o->height, (long long)o->width, least, least);
    return NULL;
}

static void conv_act(list *l, int64_t c, int64_t k, int size, int pad)
{
    add(l, tern_nn_conv2d(l->ctx, c, k,
                          &(tern_nn_conv2d_opts){
                              .kernel = {size, size}, .pad = {pad, pad}, .act = TERN_RELU}));
}

static void dense(list *l, int64_t d, int64_t m, int act)
{
    add(l, tern_nn_linear(l->ctx, d, m, &(tern_nn_linear_opts){.act = act}));
}

/* LeCun et al. 1998, with ReLU and max-pooling. */
static tern_module *lenet5(tern_ctx *ctx, const tern_model_opts *o)
{
    const int64_t h = (o->height / 2 - 4) / 2, w = (o->width / 2 - 4) / 2;
    list l = {.ctx = ctx};

    if (o->height < 12 || o->width < 12) return misfit(ctx, "lenet5", o, 12);
    conv_act(&l, o->channels, 6, 5, 2);
    add(&l, tern_nn_maxpool2d(ctx, 2, NULL));
    conv_act(&l, 6, 16, 5, 0);
    add(&l, tern_nn_maxpool2d(ctx, 2, NULL));
    add(&l, tern_nn_flatten(ctx));
    dense(&l, 16 * h * w, 120, TERN_RELU);
    dense(&l, 120, 84, TERN_RELU);
    dense(&l, 84, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

static tern_module *mlp(tern_ctx *ctx, const tern_model_opts *o)
{
    list l = {.ctx = ctx};

    add(&l, tern_nn_flatten(ctx));
    dense(&l, o->channels * o->height * o->width, 512, TERN_RELU);
    dense(&l, 512, 512, TERN_RELU);
    dense(&l, 512, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

static tern_module *cnn(tern_ctx *ctx, const tern_model_opts *o)
{
    const int64_t h = (o->height - 4) / 2, w = (o->width - 4) / 2;
    list l = {.ctx = ctx};

    if (o->height < 6 || o->width < 6) return misfit(ctx, "cnn", o, 6);
    conv_act(&l, o->channels, 32, 3, 0);
    conv_act(&l, 32, 32, 3, 0);
    add(&l, tern_nn_maxpool2d(ctx, 2, NULL));
    add(&l, tern_nn_flatten(ctx));
    dense(&l, 32 * h * w, 128, TERN_RELU);
    dense(&l, 128, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

/* 3×3 (or 1×1) without bias, and batch norm. */
static void conv_bn(list *l, int64_t c, int64_t k, int size, int stride)
{
    add(l, tern_nn_conv2d(l->ctx, c, k,
                          &(tern_nn_conv2d_opts){.kernel = {size, size},
                                                 .stride = {stride, stride},
                                                 .pad = {size / 2, size / 2},
                                                 .no_bias = true}));
    add(l, tern_nn_batch_norm(l->ctx, k, NULL));
}

/* After Simonyan and Zisserman 2015, short and with batch norm. */
static tern_module *vgg_small(tern_ctx *ctx, const tern_model_opts *o)
{
    static const int plan[] = {64, 64, 0, 128, 128, 0, 256, 256, 0}; /* 0: a pool */
    int64_t c = o->channels;
    list l = {.ctx = ctx};

    if (o->height < 8 || o->width < 8) return misfit(ctx, "vgg-small", o, 8);
    for (size_t i = 0; i < sizeof plan / sizeof *plan; i++) {
        if (plan[i] == 0) {
            add(&l, tern_nn_maxpool2d(ctx, 2, NULL));
            continue;
        }
        conv_bn(&l, c, plan[i], 3, 1);
        add(&l, tern_nn_relu(ctx));
        c = plan[i];
    }
    add(&l, tern_nn_global_avgpool(ctx));
    dense(&l, c, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

/* The basic block; where extents change the shortcut is a 1×1 convolution (option B). */
static tern_module *block(tern_ctx *ctx, int64_t c, int64_t k, int stride)
{
    list l = {.ctx = ctx}, s = {.ctx = ctx};
    tern_nn_residual_opts o = {.act = TERN_RELU};

    conv_bn(&l, c, k, 3, stride);
    add(&l, tern_nn_relu(ctx));
    conv_bn(&l, k, k, 3, 1);
    if (stride != 1 || c != k) {
        conv_bn(&s, c, k, 1, stride);
        if (!(o.shortcut = seal(&s))) return NULL;
    }
    return tern_error(ctx) ? NULL : tern_nn_residual(ctx, l.part, &o);
}

/* A 3×3 stem of stride 1, stages of basic blocks that halve the image from the second one on. */
static tern_module *resnet(tern_ctx *ctx, const tern_model_opts *o, int width, int n_stage,
                           int n_block)
{
    int64_t c = width;
    list l = {.ctx = ctx};

    conv_bn(&l, o->channels, c, 3, 1);
    add(&l, tern_nn_relu(ctx));
    for (int i = 0; i < n_stage; i++)
        for (int j = 0; j < n_block; j++) {
            const int64_t k = (int64_t)width << i;
            add(&l, block(ctx, c, k, i > 0 && j == 0 ? 2 : 1));
            c = k;
        }
    add(&l, tern_nn_global_avgpool(ctx));
    dense(&l, c, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

static tern_module *resnet18(tern_ctx *ctx, const tern_model_opts *o)
{
    return resnet(ctx, o, 64, 4, 2);
}

static tern_module *resnet20(tern_ctx *ctx, const tern_model_opts *o)
{
    return resnet(ctx, o, 16, 3, 3);
}

/* An image read row by row. */
static tern_module *lstm_rows(tern_ctx *ctx, const tern_model_opts *o)
{
    list l = {.ctx = ctx};

    add(&l, tern_nn_rows(ctx));
    add(&l, tern_nn_lstm(ctx, o->channels * o->width, 128,
                         &(tern_nn_rnn_opts){.batch_first = 1, .last = 1}));
    dense(&l, 128, o->classes, TERN_ACT_NONE);
    return seal(&l);
}

static const struct {
    tern_model_info info;
    tern_module *(*make)(tern_ctx *ctx, const tern_model_opts *o);
} models[] = {
    {{"lenet5", "LeNet-5: two convolutions, three dense layers", {1, 28, 28, 10}}, lenet5},
    {{"mlp", "dense layers of 512 and 512 features", {1, 28, 28, 10}}, mlp},
    {{"cnn", "two 3x3 convolutions of 32, a dense layer of 128", {1, 28, 28, 10}}, cnn},
    {{"vgg-small", "six 3x3 convolutions of 64 to 256 with batch norm", {3, 32, 32, 10}},
     vgg_small},
    {{"resnet18", "ResNet-18 with a 3x3 stem; 1x1 convolutions as shortcuts", {3, 32, 32, 10}},
     resnet18},
    {{"resnet20", "ResNet-20 for CIFAR; 1x1 convolutions as shortcuts (option B)", {3, 32, 32, 10}},
     resnet20},
    {{"lstm-rows", "LSTM of 128 that reads an image row by row, a dense layer", {1, 28, 28, 10}},
     lstm_rows},
};
enum { N_MODELS = sizeof models / sizeof *models };

bool tern_model_at(int i, tern_model_info *info)
{
    if (i < 0 || i >= N_MODELS) return false;
    if (info) *info = models[i].info;
    return true;
}

bool tern_model_named(const char *name, tern_model_info *info)
{
    for (int i = 0; name && i < N_MODELS; i++)
        if (strcmp(models[i].info.name, name) == 0) return tern_model_at(i, info);
    return false;
}

static tern_status no_model(tern_ctx *ctx, const char *name)
{
    char known[256] = "";

    for (int i = 0; i < N_MODELS; i++) {
        if (i) strncat(known, ", ", sizeof known - strlen(known) - 1);
        strncat(known, models[i].info.name, sizeof known - strlen(known) - 1);
    }
    return tern_fail(ctx, TERN_E_ARGUMENT, "there is no model \"%s\"; there are %s",
                     name ? name : "", known);
}

tern_module *tern_model(tern_ctx *ctx, const char *name, const tern_model_opts *opts)
{
    const int64_t most = 1 << 20; /* products of three of them still fit */
    tern_model_opts o = opts ? *opts : (tern_model_opts){0};
    int i = 0;

    if (tern_error(ctx)) return NULL;
    while (name && i < N_MODELS && strcmp(models[i].info.name, name) != 0) i++;
    if (!name || i == N_MODELS) {
        no_model(ctx, name);
        return NULL;
    }
    const tern_model_opts *own = &models[i].info.own;
    if (!o.channels) o.channels = own->channels;
    if (!o.height) o.height = own->height;
    if (!o.width) o.width = own->width;
    if (!o.classes) o.classes = own->classes;
    if (o.channels < 1 || o.height < 1 || o.width < 1 || o.classes < 1 || o.channels > most ||
        o.height > most || o.width > most || o.classes > most) {
        tern_fail(ctx, TERN_E_SHAPE,
                  "%s: %lld channels, %lldx%lld pixels, %lld classes: each is 1 … %lld", name,
                  (long long)o.channels, (long long)o.height, (long long)o.width,
                  (long long)o.classes, (long long)most);
        return NULL;
    }
    return models[i].make(ctx, &o);
}
