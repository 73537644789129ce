/*
 * finish.c - from a tree of wishes to variables: paths, the block, initial values.
 *
 * Each stage skips what an earlier, failed attempt has done, and drawing is a pure function of
 * (seed, path, element), so finishing can be tried again and ends in the same values.
 */
#include "nn/module.h"

#include <stdio.h>
#include <string.h>

#include "tern/grad.h"

/* Default names: conv1, fc1, pool1; a kind that is not here names itself. */
static const char *stem_of(const char *kind)
{
    static const char *const stem[][2] = {
        {"dense", "fc"},     {"maxpool", "pool"},     {"avgpool", "pool"},   {"batchnorm", "bn"},
        {"layernorm", "ln"}, {"sequential", "block"}, {"residual", "block"}, {NULL, NULL}};

    for (int i = 0; stem[i][0]; i++)
        if (strcmp(kind, stem[i][0]) == 0) return stem[i][1];
    return kind;
}

static bool has_child(const tern_module *m, const char *name)
{
    for (int i = 0; i < m->n_child; i++)
        if (m->child[i]->name && strcmp(m->child[i]->name, name) == 0) return true;
    return false;
}

/* The first free number after those of earlier siblings with the same stem. */
static tern_status name_child(tern_module *m, int i_child)
{
    const char *stem = stem_of(m->child[i_child]->kind);
    char name[64];
    int n = 1;

    for (int i = 0; i < i_child; i++) n += strcmp(stem_of(m->child[i]->kind), stem) == 0;
    do snprintf(name, sizeof name, "%s%d", stem, n++);
    while (has_child(m, name));
    m->child[i_child]->name = ti_nn_copy(m->ctx, name);
    return tern_error(m->ctx);
}

static char *join(tern_ctx *ctx, const char *path, const char *name)
{
    const size_t bytes = strlen(path) + strlen(name) + 2;
    char *text = tern_alloc(ctx, bytes);

    if (text) snprintf(text, bytes, "%s%s%s", path, *path ? "." : "", name);
    return text;
}

static tern_status name_all(tern_module *m)
{
    tern_ctx *ctx = m->ctx;

    if (!m->path) m->path = m->parent ? join(ctx, m->parent->path, m->name) : ti_nn_copy(ctx, "");
    for (int i = 0; i < m->n_child && !tern_error(ctx); i++)
        if (!m->child[i]->name && name_child(m, i)) break;
    for (int i = 0; i < m->n_child && !tern_error(ctx); i++)
        if (name_all(m->child[i])) break;
    return tern_error(ctx);
}

static tern_status make_variables(tern_module *m, tern_type type)
{
    tern_ctx *ctx = m->ctx;

    for (int i = 0; i < m->n_slot; i++) {
        ti_slot *s = &m->slot[i];
        if (s->var) continue;
        char *path = join(ctx, m->path, s->name);
        if (!path) return tern_error(ctx);
        if (s->type == TERN_F32) s->type = type;
        s->var = tern_variable(ctx, path, s->type, s->shape);
        tern_free(ctx, path);
        if (!s->var) return tern_error(ctx);
    }
    for (int i = 0; i < m->n_child; i++)
        if (make_variables(m->child[i], type)) return tern_error(ctx);
    return TERN_OK;
}

/* Into to, unless it is NULL; returns how many. */
static int collect(const tern_module *m, tern_var **to)
{
    int n = 0;

    for (int i = 0; i < m->n_slot; i++)
        if (m->slot[i].param) {
            if (to) to[n] = m->slot[i].var;
            n++;
        }
    for (int i = 0; i < m->n_child; i++) n += collect(m->child[i], to ? to + n : NULL);
    return n;
}

static tern_status make_block(tern_module *root)
{
    tern_ctx *ctx = root->ctx;
    const int n = collect(root, NULL);
    tern_var **all;

    if (root->block || n == 0) return TERN_OK;
    if (!(all = tern_alloc(ctx, (size_t)n * sizeof *all))) return tern_error(ctx);
    collect(root, all);
    root->block = tern_block(ctx, root->name ? root->name : root->kind, n, all);
    tern_free(ctx, all);
    return tern_error(ctx);
}

/* What a root's name adds to what numbers are drawn from: "generator/conv1.weight". */
static char *origin(const tern_module *m, const char *path)
{
    const tern_module *root = m;

    while (root->parent) root = root->parent;
    const char *name = root->name ? root->name : "";
    const size_t bytes = strlen(name) + strlen(path) + 2;
    char *text = tern_alloc(m->ctx, bytes);

    if (text) snprintf(text, bytes, "%s%s%s", name, *name ? "/" : "", path);
    return text;
}

int64_t tern_module_purpose(const tern_module *m)
{
    char *text = m ? origin(m, tern_module_path(m)) : NULL;
    const int64_t purpose = text ? tern_purpose(text) : 0;

    if (m) tern_free(m->ctx, text);
    return purpose;
}

static tern_status draw(tern_module *m, ti_slot *s)
{
    tern_ctx *ctx = m->ctx;

    if (s->init.kind == TERN_INIT_CONSTANT && !s->init.count)
        return tern_set(ctx, s->var, s->init.a);
    char *name = origin(m, tern_var_name(s->var));
    tern_frame_begin(ctx);
    tern_tensor *value = name ? tern_init_draw(ctx, name, s->type, s->shape, &s->init) : NULL;
    const tern_status status = value ? tern_assign(ctx, s->var, value) : tern_error(ctx);
    tern_frame_end(ctx);
    tern_free(ctx, name);
    return status;
}

static tern_status draw_all(tern_module *m)
{
    for (int i = 0; i < m->n_slot; i++)
        if (draw(m, &m->slot[i])) return tern_error(m->ctx);
    for (int i = 0; i < m->n_child; i++)
        if (draw_all(m->child[i])) return tern_error(m->ctx);
    return TERN_OK;
}

static void mark_finished(tern_module *m)
{
    m->finished = true;
    for (int i = 0; i < m->n_child; i++) mark_finished(m->child[i]);
}

tern_status tern_module_finish(tern_ctx *ctx, tern_module *m)
{
    if (ti_nn_need(ctx, m, "module_finish")) return tern_error(ctx);
    tern_module *root = tern_module_root(m);

    if (root->finished) return TERN_OK;
    if (tern_in_step(ctx))
        return tern_fail(ctx, TERN_E_TRACE,
                         "%s: not finished yet; open its optimizer, load it or call "
                         "tern_module_finish before the step",
                         root->name ? root->name : root->kind);
    if (name_all(root) || make_variables(root, root->type) || make_block(root))
        return tern_error(ctx);
    tern_no_grad_begin(ctx);
    const tern_status status = draw_all(root);
    tern_no_grad_end(ctx);
    if (status == TERN_OK) mark_finished(root);
    return status;
}

/* ---- Looking variables up ---- */

static ti_slot *slot_named(tern_module *m, const char *path)
{
    for (int i = 0; i < m->n_slot; i++)
        if (strcmp(m->slot[i].name, path) == 0) return &m->slot[i];
    const char *dot = strchr(path, '.');
    if (!dot) return NULL;
    const size_t n = (size_t)(dot - path);
    for (int i = 0; i < m->n_child; i++)
        if (strncmp(m->child[i]->name, path, n) == 0 && !m->child[i]->name[n])
            return slot_named(m->child[i], dot + 1);
    return NULL;
}

tern_var *tern_module_var(tern_ctx *ctx, tern_module *m, const char *path)
{
    if (ti_nn_need(ctx, m, "module_var") || tern_module_finish(ctx, m)) return NULL;
    ti_slot *s = path ? slot_named(m, path) : NULL;
    if (!s)
        tern_fail(ctx, TERN_E_ARGUMENT, "%s has no parameter or buffer \"%s\"",
                  *m->path ? m->path : m->kind, path ? path : "");
    return s ? s->var : NULL;
}

/* The i-th of one sort below m; *i is counted down on the way. */
static tern_var *nth(const tern_module *m, bool param, int *i)
{
    for (int k = 0; k < m->n_slot; k++)
        if (m->slot[k].param == param && (*i)-- == 0) return m->slot[k].var;
    for (int k = 0; k < m->n_child; k++) {
        tern_var *v = nth(m->child[k], param, i);
        if (v) return v;
    }
    return NULL;
}

tern_var *tern_param_at(tern_ctx *ctx, tern_module *m, int i)
{
    if (ti_nn_need(ctx, m, "param_at") || tern_module_finish(ctx, m)) return NULL;
    return i < 0 ? NULL : nth(m, true, &i);
}

tern_var *tern_buffer_at(tern_ctx *ctx, tern_module *m, int i)
{
    if (ti_nn_need(ctx, m, "buffer_at") || tern_module_finish(ctx, m)) return NULL;
    return i < 0 ? NULL : nth(m, false, &i);
}

tern_var *tern_module_block(tern_ctx *ctx, tern_module *m)
{
    if (ti_nn_need(ctx, m, "module_block") || tern_module_finish(ctx, m)) return NULL;
    return tern_module_root(m)->block;
}

tern_status tern_module_range(tern_ctx *ctx, tern_module *m, int64_t *from, int64_t *count)
{
    if (from) *from = 0;
    if (count) *count = 0;
    if (ti_nn_need(ctx, m, "module_range") || tern_module_finish(ctx, m)) return tern_error(ctx);
    if (!from || !count)
        return tern_fail(ctx, TERN_E_ARGUMENT, "module_range: no room for the range");
    int first = 0;
    const tern_var *v = nth(m, true, &first);
    if (v) *from = tern_var_offset(v);
    *count = tern_module_size(m);
    return TERN_OK;
}
