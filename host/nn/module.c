/*
 * module.c - modules: making them, their slots, their place in a tree.
 */
#include "nn/module.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

bool ti_nn_room(tern_ctx *ctx, void *list, int n, int *cap, size_t each)
{
    void *old, *wide;

    if (n < *cap) return true;
    const int want = *cap ? 2 * *cap : 4;
    if (!(wide = tern_alloc(ctx, (size_t)want * each))) return false;
    memcpy(&old, list, sizeof old);
    if (n) memcpy(wide, old, (size_t)n * each);
    tern_free(ctx, old);
    memcpy(list, &wide, sizeof wide);
    *cap = want;
    return true;
}

char *ti_nn_copy(tern_ctx *ctx, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = tern_alloc(ctx, bytes);

    return copy ? memcpy(copy, text, bytes) : NULL;
}

tern_status ti_nn_need(tern_ctx *ctx, const tern_module *m, const char *who)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!m) return tern_fail(ctx, TERN_E_ARGUMENT, "%s: the module is NULL", who);
    if (m->ctx != ctx)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: the module belongs to another context", who);
    return TERN_OK;
}

static bool is_word(const char *text, const char *extra)
{
    if (!text || !*text) return false;
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr(extra, *text)) return false;
    return true;
}

static void module_close(tern_ctx *ctx, void *user)
{
    tern_module *m = user;

    for (int i = 0; i < m->n_slot; i++) tern_free(ctx, m->slot[i].name);
    ti_nn_summaries_free(m);
    tern_free(ctx, m->slot);
    tern_free(ctx, m->child);
    tern_free(ctx, m->state);
    tern_free(ctx, m->name);
    tern_free(ctx, m->path);
    tern_free(ctx, m);
}

tern_module *tern_module_new(tern_ctx *ctx, const char *kind, tern_module_fn forward,
                             const void *state, size_t bytes)
{
    tern_module *m;

    if (tern_error(ctx)) return NULL;
    if (!is_word(kind, "_") || strlen(kind) >= sizeof m->kind || !forward) {
        tern_fail(ctx, TERN_E_ARGUMENT,
                  "module: kind \"%s\": 1 to 31 letters, digits and _, and a forward function",
                  kind ? kind : "");
        return NULL;
    }
    if (tern_in_step(ctx)) {
        tern_fail(ctx, TERN_E_TRACE, "%s: modules cannot be made inside a step", kind);
        return NULL;
    }
    if (!(m = tern_alloc(ctx, sizeof *m))) return NULL;
    m->ctx = ctx;
    m->type = TERN_F32;
    m->forward = forward;
    memcpy(m->kind, kind, strlen(kind));
    if (bytes && !(m->state = tern_alloc(ctx, bytes))) goto fail;
    if (bytes && state) memcpy(m->state, state, bytes);
    if (tern_on_close(ctx, module_close, m)) goto fail;
    return m;

fail:
    module_close(ctx, m);
    return NULL;
}

void *tern_module_state(tern_module *m) { return m ? m->state : NULL; }

static tern_status open_tree(const tern_module *m, const char *who)
{
    const tern_module *root = m;

    while (root->parent) root = root->parent;
    if (root->finished || root->block)
        return tern_fail(m->ctx, TERN_E_STATE, "%s: %s belongs to a finished tree", who, m->kind);
    return tern_error(m->ctx);
}

static tern_status add_slot(tern_module *m, bool param, const char *name, tern_type type,
                            tern_shape shape, tern_init init)
{
    tern_ctx *ctx = m->ctx;
    char text[160];

    if (open_tree(m, "module_param")) return tern_error(ctx);
    if (!is_word(name, "_-"))
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: \"%s\" is no name for a parameter or buffer",
                         m->kind, name ? name : "");
    for (int i = 0; i < m->n_slot; i++)
        if (strcmp(m->slot[i].name, name) == 0)
            return tern_fail(ctx, TERN_E_ARGUMENT, "%s: %s is there twice", m->kind, name);
    if (shape.rank < 0 || shape.rank > TERN_RANK || tern_count(shape) < 0)
        return tern_fail(ctx, TERN_E_SHAPE, "%s: %s cannot have the shape %s", m->kind, name,
                         shape.rank < 0 || shape.rank > TERN_RANK ? "of this rank"
                                                                  : tern_shape_text(text, shape));
    if (ti_nn_init_check(ctx, name, shape, &init)) return tern_error(ctx);
    if (!ti_nn_room(ctx, &m->slot, m->n_slot, &m->cap_slot, sizeof *m->slot))
        return tern_error(ctx);
    char *copy = ti_nn_copy(ctx, name);
    if (!copy) return tern_error(ctx);
    m->slot[m->n_slot++] = (ti_slot){copy, shape, type, param, init, NULL};
    return TERN_OK;
}

tern_status tern_module_param(tern_module *m, const char *name, tern_shape shape,
                              const tern_init *init)
{
    if (!m) return TERN_E_ARGUMENT;
    return add_slot(m, true, name, TERN_F32, shape, init ? *init : (tern_init){0});
}

tern_status tern_module_buffer(tern_module *m, const char *name, tern_type type, tern_shape shape,
                               const tern_init *init)
{
    if (!m) return TERN_E_ARGUMENT;
    return add_slot(m, false, name, type, shape,
                    init ? *init : (tern_init){.kind = TERN_INIT_CONSTANT});
}

/* A sibling of m with this explicit name. */
static bool taken(const tern_module *parent, const tern_module *m, const char *name)
{
    for (int i = 0; i < parent->n_child; i++)
        if (parent->child[i] != m && parent->child[i]->name &&
            strcmp(parent->child[i]->name, name) == 0)
            return true;
    return false;
}

tern_status tern_module_add(tern_module *m, tern_module *child)
{
    if (!m) return TERN_E_ARGUMENT;
    tern_ctx *ctx = m->ctx;

    if (ti_nn_need(ctx, child, m->kind) || open_tree(m, "module_add")) return tern_error(ctx);
    if (child->parent)
        return tern_fail(ctx, TERN_E_STATE, "%s: this %s is a part of a %s already", m->kind,
                         child->kind, child->parent->kind);
    if (child->finished || child->block)
        return tern_fail(ctx, TERN_E_STATE,
                         "%s: this %s was finished as a tree of its own and enters no other",
                         m->kind, child->kind);
    for (const tern_module *up = m; up; up = up->parent)
        if (up == child)
            return tern_fail(ctx, TERN_E_ARGUMENT, "%s: a module cannot be a part of itself",
                             m->kind);
    if (child->name && taken(m, child, child->name))
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: two parts have the name %s", m->kind,
                         child->name);
    if (!ti_nn_room(ctx, &m->child, m->n_child, &m->cap_child, sizeof(tern_module *)))
        return tern_error(ctx);
    m->child[m->n_child++] = child;
    child->parent = m;
    return TERN_OK;
}

tern_module *tern_module_name(tern_module *m, const char *name)
{
    if (!m || tern_error(m->ctx) || open_tree(m, "module_name")) return NULL;
    if (!is_word(name, "_-")) {
        tern_fail(m->ctx, TERN_E_ARGUMENT, "module_name: \"%s\": letters, digits, _ and - only",
                  name ? name : "");
        return NULL;
    }
    if (m->parent && taken(m->parent, m, name)) {
        tern_fail(m->ctx, TERN_E_ARGUMENT, "%s: two parts have the name %s", m->parent->kind, name);
        return NULL;
    }
    char *copy = ti_nn_copy(m->ctx, name);
    if (!copy) return NULL;
    tern_free(m->ctx, m->name);
    m->name = copy;
    return m;
}

tern_status tern_module_describe(tern_module *m, const char *text)
{
    if (!m) return TERN_E_ARGUMENT;
    if (!text || strlen(text) >= sizeof m->text)
        return tern_fail(m->ctx, TERN_E_ARGUMENT, "%s: a description has 1 to %d bytes", m->kind,
                         (int)sizeof m->text - 1);
    memcpy(m->text, text, strlen(text) + 1);
    return tern_error(m->ctx);
}

void tern_module_flops(tern_module *m, tern_flops_fn flops)
{
    if (m) m->flops = flops;
}

tern_status tern_module_type(tern_module *root, tern_type type)
{
    if (!root) return TERN_E_ARGUMENT;
    if (open_tree(root, "module_type")) return tern_error(root->ctx);
    if (root->parent || (type != TERN_F32 && type != TERN_F64))
        return tern_fail(root->ctx, TERN_E_ARGUMENT,
                         "module_type: f32 or f64, for the root of a tree");
    root->type = type;
    return TERN_OK;
}

const char *tern_module_kind(const tern_module *m) { return m ? m->kind : ""; }
const char *tern_module_text(const tern_module *m)
{
    return !m ? "" : m->text[0] ? m->text : m->kind;
}
const char *tern_module_path(const tern_module *m) { return m && m->path ? m->path : ""; }

tern_module *tern_module_root(tern_module *m)
{
    while (m && m->parent) m = m->parent;
    return m;
}

tern_module *tern_module_child(const tern_module *m, int i)
{
    return m && i >= 0 && i < m->n_child ? m->child[i] : NULL;
}

int64_t tern_module_size(const tern_module *m)
{
    int64_t n = 0;

    if (!m) return -1;
    for (int i = 0; i < m->n_slot; i++)
        if (m->slot[i].param) n += tern_count(m->slot[i].shape);
    for (int i = 0; i < m->n_child; i++) n += tern_module_size(m->child[i]);
    return n;
}
