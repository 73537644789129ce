/* session.h - what several verbs need: settings from files, a context, a net, data, a run. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "cli/options.h"
#include "tern/tern.h"

/* Settings below the flags: those of a resumed run, TERN_*, --config, the user's config file. */
int settings_read(cli *c);
/* The [train] section of a file, for settings that are not made yet. Status of exit. */
int settings_from(cli *c, const char *path);
/* A text that leaves a setting out of settings_text. */
extern const char NO_SETTING[];
/* "key=value" lines of all that is in effect, for config.cfg. The caller frees it. */
char *settings_text(const cli *c);
/* Where a setting is from: "default", "--lr", "fashion.cfg:3". */
const char *settings_origin(const cli *c, int i);

/* Opens the context on --device with --seed and --threads. NULL after a message. */
tern_ctx *session_open(const cli *c);
/* Says the context's error, if it has one, and closes it; gives the exit status. */
int session_close(tern_ctx *ctx, int status);
/* The stamp of the file that --tune keeps, or NULL. */
const char *session_choices(const tern_ctx *ctx);
/* "error: " and the context's text. EXIT_FAILED. */
int session_failed(tern_ctx *ctx, const char *about);

/* A net by name or from a config file. *status is the exit status where it is NULL. */
tern_module *net_open(tern_ctx *ctx, const char *model, const tern_model_opts *how,
                      tern_model_opts *got, int *status);
/* --size into how; false after a message. */
bool net_size(cli *c, tern_model_opts *how);
/* The sections of a config file that describe a net, as text; NULL and no error if the model is
 * one by name. */
char *net_text(tern_ctx *ctx, const char *model);
/* --optimizer with its settings. NULL: failed. */
tern_optim *optimizer_open(const cli *c, tern_ctx *ctx, tern_module *net);

/* The data set of --data, one part of it. */
tern_data *data_open(cli *c, tern_ctx *ctx, const char *part, const tern_model_opts *size);
/* The default of --val-split, for so many images. */
int64_t data_held_out(const cli *c, int64_t count);
const char *data_name(const cli *c);
/* Says what was resized, and that made data are made. */
void data_notes(const tern_data *data);

/* A run's folder as eval and predict take it: settings, net with its best weights. */
typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_model_opts size;
    char *weights;  /* path */
    tern_norm norm; /* of the training data */
    char **names;   /* classes */
    int n_names;
} run_net;
int run_open(cli *c, run_net *run, const char *folder);
void run_close(run_net *run);

const char *build_type(void);
const char *build_compiler(void); /* "gcc 12.2.0" */

#endif
