/* info.c - the verbs `devices` and `info`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/env.h"
#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/verbs.h"

typedef struct {
    const char *id, *text;
    bool usable, standard;
    char name[80], why[300];
} device_row;

static void look(device_row *d)
{
    tern_ctx *ctx = NULL;

    d->usable = tern_open(&ctx, d->id) == TERN_OK;
    if (d->usable && strcmp(d->id, "cpu") == 0)
        snprintf(d->name, sizeof d->name, "%d threads, %s", tern_threads(ctx), tern_isa(ctx));
    else snprintf(d->name, sizeof d->name, "%s", d->usable ? d->text : "–");
    snprintf(d->why, sizeof d->why, "%s",
             d->usable ? ""
             : ctx     ? tern_error_text(ctx)
                       : "out of memory");
    tern_error_clear(ctx);
    (void)!tern_close(ctx);
}

int verb_devices(cli *c)
{
    device_row rows[] = {{.id = "cpu", .standard = true},
                         {.id = "ref", .text = "the reference kernels (slow)"},
                         {.id = "null", .text = "plans, computes nothing"},
                         {.id = "cuda"}};
    const int n = sizeof rows / sizeof rows[0];
    double total, free_bytes = memory_available(&total);
    json js = {0};
    char *text;

    if (c->n_arg) return usage_error(c, "devices takes no \"%s\"", c->arg[0]);
    for (int i = 0; i < n; i++) look(&rows[i]);
    if (out.json) {
        json_open(&js, NULL, '{');
        json_text(&js, "schema", "tern.devices/1");
        json_int(&js, "memory_free_bytes", (int64_t)free_bytes);
        json_int(&js, "memory_total_bytes", (int64_t)total);
        json_open(&js, "devices", '[');
        for (int i = 0; i < n; i++) {
            json_open(&js, NULL, '{');
            json_text(&js, "id", rows[i].id);
            json_text(&js, "name", rows[i].usable ? rows[i].name : NULL);
            json_bool(&js, "usable", rows[i].usable);
            json_bool(&js, "default", rows[i].standard);
            json_text(&js, "why", rows[i].usable ? NULL : rows[i].why);
            json_close(&js, '}');
        }
        json_close(&js, ']');
        json_close(&js, '}');
        text = json_take(&js);
        result("%s", text);
        free(text);
        return EXIT_DONE;
    }
    result("%-8s %-34s %-24s %s\n", "id", "name", "memory free/total", "state");
    for (int i = 0; i < n; i++) {
        char memory[64] = "";

        if (rows[i].usable)
            snprintf(memory, sizeof memory, "%s / %s", mebibytes(free_bytes), mebibytes(total));
        /* A dash of three bytes takes one column. */
        result("%-8s %-*s %-24s %s%s%s\n", rows[i].id, rows[i].usable ? 34 : 36, rows[i].name,
               memory, rows[i].usable ? "usable" : "no: ", rows[i].usable ? "" : rows[i].why,
               rows[i].standard ? ", default" : "");
    }
    return EXIT_DONE;
}

/* ---- info ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool with;
} features[] = {
    {"zlib", true},
#ifdef TI_WITH_PNG
    {"png", true},
#else
    {"png", false},
#endif
#ifdef TI_WITH_JPEG
    {"jpeg", true},
#else
    {"jpeg", false},
#endif
#ifdef TI_WITH_JANSSON
    {"jansson", true},
#else
    {"jansson", false},
#endif
#ifdef TI_WITH_XXHASH
    {"xxhash", true},
#else
    {"xxhash", false},
#endif
#ifdef TI_WITH_ZIP
    {"zip", true},
#else
    {"zip", false},
#endif
#ifdef TI_WITH_CAIRO
    {"cairo", true},
#else
    {"cairo", false},
#endif
};
enum { N_FEATURES = sizeof features / sizeof features[0] };

static const char *const variables[] = {"TERN_DEVICE", "TERN_DISABLE",    "TERN_LOG",
                                        "TERN_TRACE",  "TERN_CHECK",      "TERN_THREADS",
                                        "TERN_SEED",   "TERN_POOL_BYTES", "TERN_DATA_PATH"};
enum { N_VARIABLES = sizeof variables / sizeof variables[0] };

/* "cuda-13.0", "cudnn-9.19.0"; the name alone for what is missing. */
static const char *part_name(char text[40], const tern_part *p)
{
    snprintf(text, 40, "%s%s%s", p->name, p->found ? "-" : "", p->found ? p->version : "");
    return text;
}

/* Parts of the CUDA backend that are there, or those that are not: each is given to `each`. */
static void parts(tern_ctx *ctx, bool found, void (*each)(void *user, const tern_part *p),
                  void *user)
{
    tern_part p;

    for (int i = 0; tern_part_at(ctx, i, &p); i++)
        if (p.found == found) each(user, &p);
}

static void part_in_list(void *js, const tern_part *p)
{
    char text[40];

    json_text(js, NULL, part_name(text, p));
}

static void part_whole(void *js, const tern_part *p)
{
    json_open(js, NULL, '{');
    json_text(js, "name", p->name);
    json_text(js, "version", p->found ? p->version : NULL);
    json_bool(js, "found", p->found);
    json_text(js, p->found ? "where" : "why", p->text);
    json_close(js, '}');
}

static void document(const cli *c, tern_ctx *ctx)
{
    tern_op_info op;
    json js = {0};
    char *text;

    json_open(&js, NULL, '{');
    json_text(&js, "schema", "tern.info/1");
    json_text(&js, "version", tern_version());
    json_text(&js, "build", build_type());
    json_text(&js, "device", tern_device(ctx));
    json_text(&js, "device_why", tern_device_why(ctx));
    json_text(&js, "isa", tern_isa(ctx));
    json_int(&js, "threads", tern_threads(ctx));
    json_bool(&js, "deterministic", tern_deterministic(ctx));
    json_open(&js, "with", '[');
    for (int i = 0; i < N_FEATURES; i++)
        if (features[i].with) json_text(&js, NULL, features[i].name);
    parts(ctx, true, part_in_list, &js);
    json_close(&js, ']');
    json_open(&js, "without", '[');
    for (int i = 0; i < N_FEATURES; i++)
        if (!features[i].with) json_text(&js, NULL, features[i].name);
    parts(ctx, false, part_in_list, &js);
    json_close(&js, ']');
    json_open(&js, "parts", '[');
    parts(ctx, true, part_whole, &js);
    parts(ctx, false, part_whole, &js);
    json_close(&js, ']');
    json_open(&js, "ops", '[');
    for (int i = 0; tern_op_at(i, &op); i++) json_text(&js, NULL, op.name);
    json_close(&js, ']');
    json_open(&js, "config", '{');
    for (int i = 0; i < option_count; i++) {
        const char *value = c->set[i].text ? c->set[i].text : option_table[i].built_in;

        if (!option_table[i].key) continue;
        json_open(&js, option_table[i].name, '{');
        json_text(&js, "value", value);
        json_text(&js, "origin", settings_origin(c, i));
        json_close(&js, '}');
    }
    json_close(&js, '}');
    json_open(&js, "environment", '{');
    for (int i = 0; i < N_VARIABLES; i++) json_text(&js, variables[i], cli_env(variables[i]));
    json_close(&js, '}');
    json_close(&js, '}');
    text = json_take(&js);
    result("%s", text);
    free(text);
}

static void part_word(void *user, const tern_part *p)
{
    char text[40];

    (void)user;
    result(" %s", part_name(text, p));
}

static void list_features(tern_ctx *ctx, const char *head, bool with)
{
    result("%s", head);
    for (int i = 0; i < N_FEATURES; i++)
        if (features[i].with == with) result(" %s", features[i].name);
    parts(ctx, with, part_word, NULL);
}

static void part_line(void *user, const tern_part *p)
{
    (void)user;
    result(p->found ? "%-9s%s\n" : "no %s: %s\n", p->name, p->text);
}

static void list_config(const cli *c)
{
    for (int i = 0; i < option_count; i++) {
        const char *value = c->set[i].text ? c->set[i].text : option_table[i].built_in;

        if (option_table[i].key && value)
            result("%-18s %-24s %s\n", option_table[i].name, value, settings_origin(c, i));
    }
}

static void text_info(const cli *c, tern_ctx *ctx)
{
    tern_op_info op;
    int n = 0;

    result("tern %s, %s, libtern.so.0 · device %s, %s (%s), %d threads\n", tern_version(),
           build_type(), tern_device(ctx), tern_isa(ctx), tern_device_why(ctx), tern_threads(ctx));
    list_features(ctx, "with   ", true);
    list_features(ctx, "      without ", false);
    result("\n");
    parts(ctx, true, part_line, NULL);
    parts(ctx, false, part_line, NULL);
    while (tern_op_at(n, &op)) n++;
    result("bits    %s\n", tern_deterministic(ctx)
                               ? "equal calls give equal ones, run after run"
                               : "may vary from run to run (--nondeterministic)");
    result("ops     %d (tern info --ops, tern op --list)\n", n);
    for (int i = 0; i < N_VARIABLES; i++)
        if (cli_env(variables[i])) result("env     %s=%s\n", variables[i], cli_env(variables[i]));
    if (cli_flag(c, "ops"))
        for (int i = 0; tern_op_at(i, &op); i++) result("%s\n", op.name);
    if (cli_flag(c, "origins") || cli_given(c, "config")) list_config(c);
}

int verb_info(cli *c)
{
    tern_ctx *ctx;

    if (c->n_arg) return usage_error(c, "info takes no \"%s\"", c->arg[0]);
    ctx = session_open(c);
    if (!ctx) return EXIT_FAILED;
    if (out.json) document(c, ctx);
    else text_info(c, ctx);
    return session_close(ctx, EXIT_DONE);
}
