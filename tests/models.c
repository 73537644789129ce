/*
 * models.c - networks by name (parameters counted by hand from the layers' definitions) and from
 * config files.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "tern/models.h"

static const struct {
    const char *name;
    int64_t params;
} known[] = {
    /* 6·25+6, 16·150+16, 400·120+120, 120·84+84, 84·10+10 */
    {"lenet5", 61706},
    /* 784·512+512, 512·512+512, 512·10+10 */
    {"mlp", 669706},
    /* 32·9+32, 32·288+32, 4608·128+128, 128·10+10 */
    {"cnn", 600810},
    /* 1,144,512 in filters, 1,792 in norms, 2,570 */
    {"vgg-small", 1148874},
    /* 11,159,232 in filters, 9,600 in norms, 5,130 */
    {"resnet18", 11173962},
    /* 270,256 in filters (2,560 of them in shortcuts), 1,568 in norms, 650 */
    {"resnet20", 272474},
    {"lstm-rows", 82186},
};

Test(models, by_name)
{
    tern_ctx *ctx = tc_open("null");
    tern_model_info info;
    int n = 0;

    for (; tern_model_at(n, &info); n++) {
        tern_module *net = tern_model(ctx, info.name, NULL);
        const tern_shape x = {4, {2, info.own.channels, info.own.height, info.own.width}};
        const tern_summary_table *t = tern_summary_rows(ctx, net, x);
        bool found = false;

        cr_assert(t, "%s: %s", info.name, tern_error_text(ctx));
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strcmp(known[k].name, info.name) == 0) {
                found = true;
                cr_expect(t->params == known[k].params, "%s: %lld", info.name,
                          (long long)t->params);
            }
        cr_expect(found, "%s", info.name);
        cr_expect(t->out.rank == 2 && t->out.dim[0] == 2 && t->out.dim[1] == 10, "%s", info.name);
    }
    cr_expect(n == sizeof known / sizeof *known);
    cr_expect(tern_model_named("cnn", &info) && !tern_model_named("cnm", &info) &&
              !tern_model_named(NULL, &info));
    tc_close(ctx);
}

/* The convolutions and dense layers of the first image, times two. */
Test(models, flops)
{
    tern_ctx *ctx = tc_open("null");
    const tern_summary_table *t =
        tern_summary_rows(ctx, tern_model(ctx, "lenet5", NULL), (tern_shape){4, {1, 1, 28, 28}});

    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->flops == 2 * (6 * 784 * 25 + 16 * 100 * 150 + 48000 + 10080 + 840));
    t = tern_summary_rows(ctx, tern_model(ctx, "resnet18", NULL), (tern_shape){4, {1, 3, 32, 32}});
    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->flops == 1110845440, "%lld", (long long)t->flops);
    tc_close(ctx);
}

Test(models, other_sizes)
{
    static const struct {
        const char *name;
        tern_model_opts o;
    } fits[] = {
        {"lenet5", {3, 12, 12, 2}}, {"lenet5", {3, 33, 47, 100}},  {"mlp", {2, 5, 3, 1}},
        {"cnn", {3, 6, 9, 4}},      {"vgg-small", {1, 8, 8, 3}},   {"vgg-small", {3, 33, 29, 7}},
        {"resnet18", {1, 9, 7, 3}}, {"resnet20", {1, 28, 28, 10}}, {"resnet20", {3, 1, 1, 2}}};
    static const struct {
        const char *name;
        tern_model_opts o;
    } not [] = {{"lenet5", {1, 11, 28, 10}},
                {"cnn", {1, 28, 5, 10}},
                {"vgg-small", {3, 7, 32, 10}},
                {"mlp", {-1, 28, 28, 10}},
                {"mlp", {1, 28, 28, -1}},
                {"mlp", {1, 1 << 21, 1, 10}},
                {"mlp", {1 << 20, 1 << 20, 1 << 20, 10}}};
    tern_ctx *ctx = tc_open("null");

    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        const tern_model_opts *o = &fits[i].o;
        tern_module *net = tern_model(ctx, fits[i].name, o);
        const tern_summary_table *t =
            tern_summary_rows(ctx, net, (tern_shape){4, {3, o->channels, o->height, o->width}});
        cr_assert(t, "%s: %s", fits[i].name, tern_error_text(ctx));
        cr_expect(t->out.dim[1] == o->classes, "%s", fits[i].name);
    }
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++) {
        cr_expect(!tern_model(ctx, not [i].name, &not [i].o));
        cr_expect(tern_error(ctx) == TERN_E_SHAPE, "%s: %s", not [i].name, tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(!tern_model(ctx, "lenet", NULL));
    cr_expect(tern_error(ctx) == TERN_E_ARGUMENT && strstr(tern_error_text(ctx), "resnet18"), "%s",
              tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* ---- Config files ---- */

static tern_module *parse(tern_ctx *ctx, const char *text, const tern_model_opts *how,
                          tern_model_opts *got)
{
    tern_config *config = tern_config_parse(ctx, "net.cfg", text, strlen(text));
    cr_assert(config, "%s", tern_error_text(ctx));
    tern_module *net = tern_model_from_config(ctx, config, how, got);
    tern_config_close(ctx, config);
    return net;
}

static const char fashion[] = "[net]\nchannels=1\nheight=28\nwidth=28\nclasses=10\n"
                              "[train]\nepochs=20\n"
                              "[conv]\nname=conv1\nfilters=32\nsize=3\npad=same\nactivation=relu\n"
                              "[conv]\nfilters=32\nsize=3\npad=same\nactivation=relu\n"
                              "[maxpool]\nsize=2\n"
                              "[conv]\nfilters=64\nsize=3\npad=same\nactivation=relu\n"
                              "[conv]\nfilters=64\nsize=3\npad=same\nactivation=relu\n"
                              "[maxpool]\nsize=2\n"
                              "[dense]\nunits=128\nactivation=relu\n"
                              "[dropout]\np=0.25\n"
                              "[dense]\n";

Test(models, config)
{
    tern_ctx *ctx = tc_open("null");
    tern_model_opts got;
    tern_module *net = parse(ctx, fashion, NULL, &got);
    const tern_summary_table *t = tern_summary_rows(ctx, net, (tern_shape){4, {8, 1, 28, 28}});

    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->params == 467818 && t->flops == 37383680 && t->n == 9);
    cr_expect(got.channels == 1 && got.height == 28 && got.width == 28 && got.classes == 10);
    cr_expect_str_eq(t->row[0].name, "conv1");
    cr_expect_str_eq(t->row[1].name, "conv2");
    net = parse(ctx, fashion,
                &(tern_model_opts){.channels = 3, .height = 32, .width = 20, .classes = 4}, &got);
    t = tern_summary_rows(ctx, net, (tern_shape){4, {8, 3, 32, 20}});
    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->out.dim[1] == 4 && got.classes == 4 && got.height == 32);
    tc_close(ctx);
}

/* Every kind of section, Darknet's names, both spellings of shortcuts. */
Test(models, config_of_everything)
{
    static const char text[] =
        "[net]\nchannels=3\nheight=16\nwidth=16\n"
        "[convolutional]\nfilters=8\nsize=3,3\nstride=1\npad=1\nbatch_normalize=1\nactivation="
        "leaky\n"
        "slope=0.1\n"
        "[residual]\nactivation=relu\n"
        "[conv]\nfilters=8\nsize=3\npad=same\nbatch_normalize=1\nactivation=relu\ninit=he_normal\n"
        "[conv]\nfilters=8\nsize=3\npad=same\nbatch_normalize=1\n"
        "[end]\n"
        "[residual]\nname=down\nactivation=gelu\n"
        "[conv]\nfilters=16\nsize=3\nstride=2\npad=1\nbias=0\n[batchnorm]\nmomentum=0.2\n["
        "activation]\n"
        "activation=elu\n"
        "[residual]\n[conv]\nfilters=16\nsize=1\ngroups=4\nactivation=tanh\n[end]\n"
        "[end]\n"
        "[conv]\nfilters=16\nsize=1\nactivation=sigmoid\n[conv]\nfilters=16\nsize=3\npad=same\n"
        "[shortcut]\nfrom=-3\nactivation=relu\n"
        "[maxpool]\nsize=3\nstride=2\npad=1\n[avgpool]\nsize=2\n[layernorm]\n"
        "[flatten]\n[connected]\noutput=12\nactivation=logistic\n[batchnorm]\n"
        "[dropout]\nprobability=.5\n[dense]\nunits=5\nbias=no\n";
    tern_ctx *ctx = tc_open("null");
    tern_model_opts got;
    tern_module *net = parse(ctx, text, NULL, &got);
    const tern_summary_table *t = tern_summary_rows(ctx, net, (tern_shape){4, {2, 3, 16, 16}});
    /* stem, block, block with shortcut and an inner block, shortcut's two, norm, dense layers */
    const int64_t want = (216 + 16) + 2 * (576 + 16) + (1152 + 32) + (16 * 4 + 16) + (128 + 32) +
                         (256 + 16) + (2304 + 16) + 2 * 16 * 2 * 2 + (64 * 12 + 12) + 24 + 60;

    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->params == want, "%lld, not %lld", (long long)t->params, (long long)want);
    cr_expect(got.classes == 5);
    cr_expect(tern_module_var(ctx, net, "down.block1.conv1.weight") != NULL);
    cr_expect(tern_module_var(ctx, net, "down.shortcut.conv1.weight") != NULL);
    cr_expect(tern_module_var(ctx, net, "block3.conv2.weight") != NULL);
    tc_close(ctx);
}

/* Recurrent sections: each of their keys changes the layer. */
Test(models, config_recurrent)
{
    static const char text[] =
        "[net]\nchannels=2\nheight=5\nwidth=3\n"
        "[rnn]\nunits=4\nlayers=2\nactivation=relu\nsequence=1\ndropout=0.1\n"
        "[lstm]\nname=both\nunits=3\nbidirectional=1\nsequence=1\nforget_bias=1.5\n"
        "[gru]\nunits=2\nreset_before=1\nbias=0\n[dense]\nunits=5\n";
    tern_ctx *ctx = tc_open("cpu");
    tern_module *net = parse(ctx, text, NULL, NULL);
    const tern_summary_table *t = tern_summary_rows(ctx, net, (tern_shape){4, {2, 2, 5, 3}});
    const int64_t rnn = 4 * (6 + 4) + 8 + 4 * (4 + 4) + 8, lstm = 2 * (12 * (4 + 3) + 24);
    double bias[12];

    cr_assert(t, "%s", tern_error_text(ctx));
    cr_expect(t->params == rnn + lstm + 6 * (6 + 2) + 15, "%lld", (long long)t->params);
    cr_expect(t->out.rank == 2 && t->out.dim[1] == 5);
    tern_tensor *b = tern_read(ctx, tern_module_var(ctx, net, "both.bias_ih_l0_reverse"));
    cr_assert(!tern_to_doubles(ctx, bias, b), "%s", tern_error_text(ctx));
    for (int i = 0; i < 12; i++) cr_expect((bias[i] == 1.5) == (i / 3 == 1), "%d", i);
    cr_expect(!parse(ctx,
                     "[net]\nchannels=1\nheight=2\nwidth=2\n[lstm]\nunits=2\nactivation=relu\n",
                     NULL, NULL));
    cr_expect(strstr(tern_error_text(ctx), "activation"), "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(models, config_errors)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"[conv]\nfilters=2\n", "net.cfg:1: [net] is wanted"},
        {"[net]\nheight=8\nheigth=8\n[dense]\nunits=2\n", "net.cfg:3: [net]: there is no key"},
        {"[net]\nheight=eight\n[dense]\nunits=2\n", "net.cfg:2: [net]: height=eight"},
        {"[net]\nheight=0\n[dense]\nunits=2\n", "net.cfg:2:"},
        {"[net]\nheight=99999999999999999999\n[dense]\nunits=2\n", "net.cfg:2:"},
        {"[net]\n[dense]\nunits=2\n", "net.cfg:1: [net]: height is required"},
        {"[net]\nheight=8\n", "no layers"},
        {"[net]\nheight=8\n[covn]\nfilters=2\n", "net.cfg:3: [covn]: there is no such layer"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsiez=3\n", "net.cfg:5: [conv]: there is no key"},
        {"[net]\nheight=8\n[conv]\nfilters=2\n", "net.cfg:3: [conv]: filters and size"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=9\n", "does not fit images of 8x8"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=2\npad=same\n", "net.cfg:6: [conv]: pad=same"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3,4,5\n", "net.cfg:5:"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3\ngroups=2\n", "2 groups do not divide"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3\nactivation=reul\n", "activation=reul"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3\ninit=best\n", "init=best"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3\nbias=maybe\n", "bias=maybe"},
        {"[net]\nheight=8\n[conv]\nfilters=2\nsize=3\n", "the net ends in images of 2x6x6"},
        {"[net]\nheight=8\n[dense]\n", "units are required"},
        {"[net]\nheight=8\nclasses=3\n[dense]\nunits=2\n", "2 features, but there are 3 classes"},
        {"[net]\nheight=8\n[dense]\nunits=2\n[maxpool]\n", "images are wanted here"},
        {"[net]\nheight=8\n[dropout]\np=1\n[dense]\nunits=2\n", "net.cfg:4: [dropout]: p=1"},
        {"[net]\nheight=8\n[dropout]\np=0,5\n[dense]\nunits=2\n", "p=0,5"},
        {"[net]\nheight=8\n[residual]\n[dense]\nunits=2\n", "[end] is missing"},
        {"[net]\nheight=8\n[residual]\n[end]\n", "no layer that it could go around"},
        {"[net]\nheight=8\n[residual]\n[dense]\nunits=2\n[end]\n", "do not add up"},
        {"[net]\nheight=8\n[end]\n", "no [residual] to end"},
        {"[net]\nheight=8\n[shortcut]\nfrom=-2\n", "from is required, -2 … -1"},
        {"[net]\nheight=8\n[shortcut]\nfrom=1\n", "from=1"},
        {"[net]\nheight=8\n[net]\nheight=8\n", "net.cfg:3: [net]: it stands once"},
        {"[net]\nheight=8\n[conv]\nname=a.b\nfilters=1\nsize=1\n[dense]\nunits=2\n", "a.b"},
    };
    tern_ctx *ctx = tc_open("null");

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!parse(ctx, bad[i].text, NULL, NULL), "%s", bad[i].text);
        cr_expect(strstr(tern_error_text(ctx), bad[i].part), "\"%s\" lacks \"%s\"",
                  tern_error_text(ctx), bad[i].part);
        tern_error_clear(ctx);
    }
    cr_expect(!tern_model_from_config(ctx, NULL, NULL, NULL) && tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(models, failing_allocations)
{
    for (long n = 0; n < 3000; n++) {
        tern_ctx *ctx = tc_open("null");
        tern_config *config = tern_config_parse(ctx, "net.cfg", fashion, strlen(fashion));
        ti_fail_allocation(ctx, n, false);
        tern_module *net = tern_model_from_config(ctx, config, NULL, NULL);
        ti_fail_allocation(ctx, -1, false);
        if (!net) cr_expect(tern_error(ctx) == TERN_E_MEMORY, "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
        tern_config_close(ctx, config);
        tc_close(ctx);
        if (net) return;
    }
    cr_expect(false, "never done");
}
