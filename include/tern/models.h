/*
 * tern/models.h - networks by name and from config files.
 */
#ifndef TERN_MODELS_H
#define TERN_MODELS_H

#include "tern/io.h"
#include "tern/nn.h"

TERN_BEGIN_DECLS

/* Images and classes of a network. 0: the model's own (or the config's). */
typedef struct tern_model_opts {
    int64_t channels, height, width, classes;
} tern_model_opts;
typedef struct tern_model_info {
    const char *name, *text; /* "lenet5" and one line about it */
    tern_model_opts own;     /* the defaults */
} tern_model_info;
/* The i-th model, false past the last; the one with this name, or false. */
TERN_API bool tern_model_at(int i, tern_model_info *info);
TERN_API bool tern_model_named(const char *name, tern_model_info *info);
/* TERN_E_ARGUMENT for an unknown name, TERN_E_SHAPE if images of that size do not fit the net. */
TERN_API tern_module *tern_model(tern_ctx *ctx, const char *name, const tern_model_opts *opts);

/*
 * The net of a config file: [net] first, then [conv], [maxpool], [avgpool], [batchnorm],
 * [layernorm], [activation], [dense], [dropout], [flatten], [rnn], [lstm], [gru], [residual] …
 * [end]; other sections ([train], …) are left to others. `how` (may be NULL) overrides [net]; *got
 * (may be NULL) takes what the net was made for. Errors name file and line (TERN_E_FORMAT).
 */
TERN_API tern_module *tern_model_from_config(tern_ctx *ctx, const tern_config *config,
                                             const tern_model_opts *how, tern_model_opts *got);

TERN_END_DECLS

#endif
