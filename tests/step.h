/*
 * step.h - a small training job, for the tests of programs and variables.
 */
#ifndef TC_STEP_H
#define TC_STEP_H

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/nn.h"
#include "tern/optim.h"

#define FINE(ctx) cr_assert(tern_error(ctx) == TERN_OK, "%s", tern_error_text(ctx))

typedef struct {
    tern_module *net, *drop;
    tern_optim *opt;
    bool read_inside;
} job;

static inline tern_tensor *randoms(tern_ctx *ctx, tern_shape s, uint64_t seed)
{
    double *x = malloc(((size_t)tern_count(s) + 1) * sizeof *x);

    for (int64_t i = 0; i < tern_count(s); i++) x[i] = 2 * tc_uniform(&seed) - 1;
    tern_tensor *t = tern_from_doubles(ctx, TERN_F32, x, s);
    free(x);
    return t;
}

static inline double value(tern_ctx *ctx, tern_var *v)
{
    tern_frame_begin(ctx);
    const double x = tern_item(ctx, tern_read(ctx, v));
    tern_frame_end(ctx);
    return x;
}

/* All bytes of all variables, as one hash (what has no bytes yet is zeros); without those that
 * commit always, if need be. */
static inline uint64_t hash_vars(tern_ctx *ctx, bool always_too)
{
    uint64_t h = 14695981039346656037u;

    for (tern_var *v = ctx->vars; v; v = v->next) {
        const size_t bytes = (size_t)v->count * tern_type_size(v->type);
        unsigned char *x = calloc(bytes + 1, 1);

        if (v->store && ctx->backend->host_memory) memcpy(x, v->store->data, bytes);
        else if (v->store) ctx->backend->download(ctx->device, x, v->store->data, bytes);
        for (size_t i = 0; v->block == v && (always_too || !v->always) && i < bytes; i++)
            h = (h ^ x[i]) * 1099511628211u;
        free(x);
    }
    return h;
}

static inline job small_net(tern_ctx *ctx, bool dropout)
{
    const tern_nn_conv2d_opts conv = {.kernel = {3, 3}, .pad = {1, 1}};
    const tern_nn_linear_opts relu = {.act = TERN_RELU};
    job j = {.drop = dropout ? tern_nn_dropout(ctx, 0.25) : tern_nn_relu(ctx)};
    tern_module *parts[] = {tern_nn_conv2d(ctx, 1, 3, &conv),
                            tern_nn_batch_norm(ctx, 3, NULL),
                            tern_nn_relu(ctx),
                            tern_nn_flatten(ctx),
                            tern_nn_linear(ctx, 108, 8, &relu),
                            j.drop,
                            tern_nn_linear(ctx, 8, 4, NULL),
                            NULL};

    j.net = tern_sequential(ctx, parts);
    j.opt = tern_sgd(ctx, j.net, &(tern_sgd_opts){.lr = 0.05, .momentum = 0.9, .decay = 1e-3});
    tern_mode(ctx, TERN_TRAIN);
    FINE(ctx);
    return j;
}

static inline tern_status train_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;

    out[0] = tern_cross_entropy(ctx, tern_forward(ctx, j->net, in[0]), in[1], NULL, NULL);
    if (j->read_inside) tern_item(ctx, out[0]);
    if (tern_backward(ctx, out[0], j->net)) return tern_error(ctx);
    return tern_optim_step(ctx, j->opt);
}

/* A batch of n images and labels; in has room for a third, NULL. */
static inline void feed(tern_ctx *ctx, tern_tensor **in, int i, int64_t n)
{
    int64_t label[64];
    uint64_t seed = 77 + (uint64_t)i;

    for (int64_t k = 0; k < n; k++) label[k] = (int64_t)(4 * tc_uniform(&seed));
    in[0] = randoms(ctx, TI_SHAPE(n, 1, 6, 6), 1000 + (uint64_t)i);
    in[1] = tern_from_host(ctx, TERN_I64, label, TI_SHAPE(n));
    in[2] = NULL;
}

static inline void check_option(tern_ctx *ctx, const char *words)
{
    snprintf(ctx->env.check, sizeof ctx->env.check, "%s", words);
}

#endif
