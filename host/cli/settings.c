/* settings.c - settings that stand in files and in the environment. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/env.h"
#include "cli/out.h"
#include "cli/session.h"

const char NO_SETTING[] = "";

const char *settings_origin(const cli *c, int i)
{
    return c->set[i].text ? c->set[i].origin : option_table[i].built_in ? "default" : NULL;
}

/* A file that describes a net is a model, unless something else was asked for. */
static bool take_sections(cli *c, const tern_config *config, const char *path)
{
    bool net = false;

    for (int i = 0; i < tern_config_count(config); i++) {
        const tern_config_section *s = tern_config_at(config, i);

        net = net || strcmp(s->name, "net") == 0;
        if (strcmp(s->name, "train") != 0) continue;
        for (int k = 0; k < s->count; k++) {
            const char *origin = cli_keep(cli_format("%s:%d", path, s->entry[k].line));
            if (!cli_put(c, s->entry[k].key, cli_keep(cli_copy(s->entry[k].value)), origin))
                return false;
        }
    }
    const char *file = cli_keep(cli_copy(path));

    return !net || cli_put(c, "model", file, file);
}

int settings_from(cli *c, const char *path)
{
    tern_ctx *ctx = NULL;
    tern_config *config;
    int status = EXIT_USAGE;

    if (tern_open(&ctx, "null") != TERN_OK) {
        status = session_failed(ctx, NULL);
    } else {
        config = tern_config_read(ctx, path);
        if (!config) session_failed(ctx, NULL);
        else if (take_sections(c, config, path)) status = EXIT_DONE;
        tern_config_close(ctx, config);
    }
    tern_error_clear(ctx);
    return tern_close(ctx) == TERN_OK ? status : EXIT_FAILED;
}

static bool from_environment(cli *c)
{
    static const char *const names[][2] = {
        {"TERN_DEVICE", "device"}, {"TERN_SEED", "seed"}, {"TERN_THREADS", "threads"}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = cli_env(names[i][0]);
        if (value && *value && !cli_put(c, names[i][1], value, names[i][0])) return false;
    }
    return true;
}

/* A run that goes on keeps its own settings, whatever the environment says by now. */
static int from_run(cli *c, const char *folder)
{
    char *path = cli_keep(cli_format("%s/config.cfg", folder));

    if (access(path, F_OK) != 0) {
        error("--resume %s: this is no run: %s: %s", folder, path, strerror(errno));
        return EXIT_FAILED;
    }
    return settings_from(c, path);
}

int settings_read(cli *c)
{
    const char *config = cli_text(c, "config"), *home = cli_env("HOME");
    const char *xdg = cli_env("XDG_CONFIG_HOME");
    char *own = xdg && *xdg ? cli_format("%s/tern/config", xdg)
                : home      ? cli_format("%s/.config/tern/config", home)
                            : NULL;
    int status = cli_given(c, "resume") ? from_run(c, cli_text(c, "resume")) : EXIT_DONE;

    if (status == EXIT_DONE && !from_environment(c)) status = EXIT_USAGE;
    if (status == EXIT_DONE && config) status = settings_from(c, config);
    if (status == EXIT_DONE && own && access(own, R_OK) == 0) status = settings_from(c, own);
    free(own);
    return status;
}

char *settings_text(const cli *c)
{
    char *text = cli_copy("[train]\n"), *more;

    for (int i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        const char *value = c->set[i].text ? c->set[i].text : o->built_in;

        if (!o->key || !value || value == NO_SETTING || !(o->verbs & V_TRAIN)) continue;
        if (strcmp(o->name, "threads") == 0 || strcmp(o->name, "runs") == 0) continue;
        if (c->set[i].text == NULL &&
            (strcmp(o->name, "device") == 0 || strcmp(o->name, "val-split") == 0))
            continue; /* their defaults follow the machine and the size of the data */
        more = cli_format("%s%s=%s\n", text, o->name, value);
        free(text);
        text = more;
    }
    return text;
}
