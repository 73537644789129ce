/*
 * module.h - what the files of nn share: the module.
 */
#ifndef TI_NN_MODULE_H
#define TI_NN_MODULE_H

#include "tern/nn.h"

/* A parameter or buffer: a wish until the tree is finished, a variable from then on. */
typedef struct {
    char *name;
    tern_shape shape;
    tern_type type;
    bool param;
    tern_init init;
    tern_var *var;
} ti_slot;

typedef struct ti_summary ti_summary;

struct tern_module {
    tern_ctx *ctx;
    tern_module *parent, **child;
    ti_slot *slot;
    int n_child, cap_child, n_slot, cap_slot;
    char kind[32], text[80];
    char *name; /* explicit, or NULL; from finishing on always there but for a root */
    char *path;
    void *state;
    tern_module_fn forward;
    tern_flops_fn flops;
    bool finished;
    /* Of roots: */
    tern_type type;
    tern_var *block;
    ti_summary *summaries; /* one for each shape that was asked for */
    ti_summary *recording; /* the one whose forward pass is being traced */
};

/* Room for one more entry: *list may move; false: no memory, nothing changed. */
bool ti_nn_room(tern_ctx *ctx, void *list, int n, int *cap, size_t each);
char *ti_nn_copy(tern_ctx *ctx, const char *text);
/* A NULL module: a failure of its own in a clean context. */
tern_status ti_nn_need(tern_ctx *ctx, const tern_module *m, const char *who);
/* init.c */
tern_status ti_nn_init_check(tern_ctx *ctx, const char *name, tern_shape shape, const tern_init *o);
/* summary.c */
void ti_nn_note(tern_module *m, tern_tensor *x, tern_tensor *y);
void ti_nn_summaries_free(tern_module *root);

#endif
