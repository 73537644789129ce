/* session.c - the context, the net and the data of a verb. */
#include "cli/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/out.h"

const char *build_type(void)
{
#ifdef TI_BUILD_TYPE
    return TI_BUILD_TYPE;
#else
    return "unknown";
#endif
}

const char *build_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

int session_failed(tern_ctx *ctx, const char *about)
{
    const char *text = ctx ? tern_error_text(ctx) : "out of memory";

    error("%s%s%s", about ? about : "", about ? ": " : "",
          *text ? text : "something failed without a text");
    return EXIT_FAILED;
}

int session_close(tern_ctx *ctx, int status)
{
    if (!ctx) return status;
    if (tern_error(ctx) != TERN_OK && status == EXIT_DONE) status = session_failed(ctx, NULL);
    tern_error_clear(ctx);
    if (tern_close(ctx) != TERN_OK && status == EXIT_DONE) {
        error("tensors were still held at the end");
        status = EXIT_FAILED;
    }
    return status;
}

tern_ctx *session_open(const cli *c)
{
    const char *device = cli_text(c, "device");
    tern_ctx *ctx = NULL;

    if (tern_open(&ctx, device) != TERN_OK) {
        char *about = cli_format("--device %s", device);
        const char *text = ctx ? tern_error_text(ctx) : "";
        /* The library's text may begin with the device, too. */
        const bool twice = strncmp(text, "device ", 7) == 0;

        if (twice) error("--%s", text);
        else session_failed(ctx, about);
        hint("tern devices shows what there is; --device auto would use the CPU");
        free(about);
        (void)!tern_close(ctx);
        return NULL;
    }
    if ((cli_given(c, "seed") && tern_seed_set(ctx, (uint64_t)cli_int(c, "seed")) != TERN_OK) ||
        (cli_given(c, "threads") && tern_threads_set(ctx, (int)cli_int(c, "threads")) != TERN_OK) ||
        tern_math_set(ctx, (tern_math_t)tern_math_named(cli_text(c, "math"))) != TERN_OK ||
        tern_winograd_set(ctx, strcmp(cli_text(c, "conv"), "direct") != 0) != TERN_OK ||
        tern_deterministic_set(ctx, !cli_flag(c, "nondeterministic")) != TERN_OK ||
        (cli_given(c, "tune") && tern_tune(ctx, cli_text(c, "tune")) != TERN_OK)) {
        session_failed(ctx, NULL);
        (void)!session_close(ctx, EXIT_FAILED);
        return NULL;
    }
    if (cli_flag(c, "nondeterministic") && tern_deterministic(ctx))
        warn("--nondeterministic changes nothing on %s: all kernels there are repeatable",
             tern_device(ctx));
    return ctx;
}

const char *session_choices(const tern_ctx *ctx)
{
    tern_tuning tuning;

    return tern_tune_look(ctx, &tuning) ? tuning.stamp : NULL;
}

/* ---- nets ------------------------------------------------------------------------------------ */

bool net_size(cli *c, tern_model_opts *how)
{
    const char *size = cli_text(c, "size");
    long long ch, h, w;
    char rest;

    *how = (tern_model_opts){.classes = cli_int(c, "classes")};
    if (!size) return true;
    if (sscanf(size, "%lldx%lldx%lld%c", &ch, &h, &w, &rest) != 3 || ch < 1 || h < 1 || w < 1 ||
        ch > 4096 || h > 65536 || w > 65536) {
        usage_error(c, "--size %s: this is not CHANNELSxHEIGHTxWIDTH", size);
        return false;
    }
    how->channels = ch;
    how->height = h;
    how->width = w;
    return true;
}

static tern_module *no_such_net(const char *model, int *status)
{
    const char *names[64] = {0}, *near;
    tern_model_info info;
    char *all = cli_copy("");

    for (int i = 0; i < 63 && tern_model_at(i, &info); i++) {
        char *more = cli_format("%s%s%s", all, i ? ", " : "", info.name);
        free(all);
        all = more;
        names[i] = info.name;
    }
    near = nearest(model, names);
    error("--model %s: there is no model and no file of that name%s%s%s", model,
          near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    hint("models: %s; or a config file", all);
    free(all);
    *status = EXIT_USAGE;
    return NULL;
}

tern_module *net_open(tern_ctx *ctx, const char *model, const tern_model_opts *how,
                      tern_model_opts *got, int *status)
{
    tern_model_info info;
    tern_config *config;
    tern_module *net;

    *status = EXIT_FAILED;
    if (tern_model_named(model, &info)) {
        *got = info.own;
        if (how->channels) got->channels = how->channels;
        if (how->height) got->height = how->height;
        if (how->width) got->width = how->width;
        if (how->classes) got->classes = how->classes;
        net = tern_model(ctx, model, how);
        if (!net) session_failed(ctx, NULL);
        return net;
    }
    if (access(model, F_OK) != 0 && !strchr(model, '/') && !strstr(model, ".cfg"))
        return no_such_net(model, status);
    *status = EXIT_USAGE;
    config = tern_config_read(ctx, model);
    net = config ? tern_model_from_config(ctx, config, how, got) : NULL;
    if (!net) session_failed(ctx, NULL);
    tern_config_close(ctx, config);
    return net;
}

char *net_text(tern_ctx *ctx, const char *model)
{
    tern_model_info info;
    tern_config *config;
    char *text, *more;

    if (tern_model_named(model, &info) || !(config = tern_config_read(ctx, model))) return NULL;
    text = cli_copy("");
    for (int i = 0; i < tern_config_count(config); i++) {
        const tern_config_section *s = tern_config_at(config, i);

        if (strcmp(s->name, "train") == 0) continue;
        more = cli_format("%s[%s]\n", text, s->name);
        free(text);
        text = more;
        for (int k = 0; k < s->count; k++) {
            more = cli_format("%s%s=%s\n", text, s->entry[k].key, s->entry[k].value);
            free(text);
            text = more;
        }
    }
    tern_config_close(ctx, config);
    return text;
}

tern_optim *optimizer_open(const cli *c, tern_ctx *ctx, tern_module *net)
{
    const char *kind = cli_text(c, "optimizer");
    const tern_adam_opts adam = {.lr = cli_real(c, "lr"),
                                 .has_lr = 1,
                                 .decay = cli_real(c, "decay"),
                                 .has_decay = cli_given(c, "decay"),
                                 .clip_norm = cli_real(c, "clip"),
                                 .clip_value = cli_real(c, "clip-value")};
    const tern_sgd_opts sgd = {.lr = cli_real(c, "lr"),
                               .has_lr = 1,
                               .momentum = cli_real(c, "momentum"),
                               .nesterov = cli_flag(c, "nesterov"),
                               .decay = cli_real(c, "decay"),
                               .clip_norm = cli_real(c, "clip"),
                               .clip_value = cli_real(c, "clip-value")};

    if (strcmp(kind, "sgd") == 0) return tern_sgd(ctx, net, &sgd);
    return strcmp(kind, "adamw") == 0 ? tern_adamw(ctx, net, &adam) : tern_adam(ctx, net, &adam);
}

/* ---- data ------------------------------------------------------------------------------------ */

const char *data_name(const cli *c)
{
    const char *name = cli_text(c, "data");

    return name ? name : "fashion-mnist";
}

tern_data *data_open(cli *c, tern_ctx *ctx, const char *part, const tern_model_opts *size)
{
    const bool train = strcmp(part, "train") == 0;
    const int64_t samples = cli_int(c, "samples");
    const tern_data_opts opts = {.path = cli_text(c, "data-path"),
                                 .height = size ? size->height : 0,
                                 .width = size ? size->width : 0,
                                 .channels = size ? (int)size->channels : 0,
                                 .count = train ? samples : (samples + 4) / 5};

    return tern_dataset_open(ctx, data_name(c), part, &opts);
}

int64_t data_held_out(const cli *c, int64_t count)
{
    const int64_t n = cli_int(c, "val-split");

    return cli_given(c, "val-split") || n * 5 <= count ? n : count / 10;
}

void data_notes(const tern_data *data)
{
    if (tern_data_synthetic(data))
        warn("these images were made here, by a formula: this is not Fashion-MNIST");
    if (tern_data_resized(data) > 0) warn("%s", tern_data_origin(data));
}
