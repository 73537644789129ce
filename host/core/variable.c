/*
 * variable.c - what changes over time.
 *
 * A variable is a range of a block, and a block has one address for life. Inside a step an
 * assignment is a pending (block, range, value); a read pieces together the newest values of its
 * range; the commit at the step's end writes through the skip flag.
 */
#include <string.h>

#include "core/core.h"

/* ---- Making ---- */

tern_var *tern_variable(tern_ctx *ctx, const char *name, tern_type type, tern_shape shape)
{
    const int64_t count = tern_count(shape);
    char text[160];
    tern_var *v;

    if (!ctx || ctx->error) return NULL;
    if (!name || count < 0 || count > INT64_MAX / 16 || (unsigned)type >= TERN_N_TYPES) {
        ti_fail(ctx, TERN_E_ARGUMENT, "variable %s: no tensor can be %s%s", name ? name : "(NULL)",
                tern_type_name(type), tern_shape_text(text, shape));
        return NULL;
    }
    if (ctx->tracing) {
        ti_fail(ctx, TERN_E_TRACE, "%s: variables cannot be created in a traced step", name);
        return NULL;
    }
    v = ti_alloc(ctx, sizeof *v);
    if (!v) return NULL;
    *v = (tern_var){.ctx = ctx, .type = type, .shape = shape, .count = count, .block = v};
    if (!(v->name = ti_strdup(ctx, name))) {
        ti_free(ctx, v);
        return NULL;
    }
    v->next = ctx->vars;
    ctx->vars = v;
    return v;
}

static tern_status block_check(tern_ctx *ctx, const char *name, int n, tern_var *const *vars)
{
    int64_t total = 0;

    if (!name) return ti_fail(ctx, TERN_E_ARGUMENT, "block: the name is NULL");
    if (n < 1 || !vars)
        return ti_fail(ctx, TERN_E_ARGUMENT, "block %s: no variables were given", name);
    for (int i = 0; i < n; i++) {
        const tern_var *v = vars[i];

        if (!v) return ti_fail(ctx, TERN_E_ARGUMENT, "block %s: variable %d is NULL", name, i);
        if (v->ctx != ctx)
            return ti_fail(ctx, TERN_E_ARGUMENT, "block %s: %s belongs to another context", name,
                           v->name);
        for (int k = 0; k < i; k++)
            if (vars[k] == v)
                return ti_fail(ctx, TERN_E_ARGUMENT, "block %s: %s was given twice", name, v->name);
        if (__builtin_add_overflow(total, v->count, &total))
            return ti_fail(ctx, TERN_E_SHAPE, "block %s: too many elements", name);
        if (v->type != vars[0]->type)
            return ti_fail(ctx, TERN_E_TYPE, "block %s: %s is %s, but %s is %s", name, v->name,
                           tern_type_name(v->type), vars[0]->name, tern_type_name(vars[0]->type));
        if (v->block != v || v->used || v->params)
            return ti_fail(ctx, TERN_E_STATE, "block %s: %s %s", name, v->name,
                           v->block != v ? "lies in a block already"
                           : v->used     ? "was read or assigned already"
                                         : "is a block");
    }
    return TERN_OK;
}

tern_var *tern_block(tern_ctx *ctx, const char *name, int n, tern_var *const *vars)
{
    int64_t total = 0;
    tern_var *b, *grads;
    tern_var **list = NULL;

    if (tern_error(ctx) || block_check(ctx, name, n, vars)) return NULL;
    for (int i = 0; i < n; i++) total += vars[i]->count;
    for (int i = 0; i < n; i++)
        if (!vars[i]->leaf && (vars[i]->leaf = ti_node_new(ctx, 0, 0)) != NULL)
            vars[i]->leaf->var = vars[i];
    if (ctx->error || !(list = ti_alloc(ctx, (size_t)n * sizeof(tern_var *)))) return NULL;
    grads = tern_variable(ctx, "gradients", vars[0]->type, TI_SHAPE(total));
    b = tern_variable(ctx, name, vars[0]->type, TI_SHAPE(total));
    if (!b || ti_materialise(b)) {
        ti_free(ctx, list);
        return NULL;
    }
    total = 0;
    for (int i = 0; i < n; i++) {
        list[i] = vars[i];
        vars[i]->block = b;
        vars[i]->offset = total;
        total += vars[i]->count;
    }
    b->params = list;
    b->n_params = n;
    b->grads = grads;
    ctx->structure++;
    return b;
}

tern_var *tern_var_block(tern_var *var) { return var ? var->block : NULL; }
int64_t tern_var_offset(const tern_var *var) { return var ? var->offset : 0; }
const char *tern_var_name(const tern_var *var) { return var ? var->name : ""; }
tern_shape tern_var_shape(const tern_var *var) { return var ? var->shape : TI_SCALAR; }
tern_type tern_var_type(const tern_var *var) { return var ? var->type : TERN_F32; }

void tern_var_always(tern_var *var)
{
    if (var) var->block->always = true;
}

tern_status ti_materialise(tern_var *block)
{
    tern_ctx *ctx = block->ctx;
    ti_plan *tracing = ctx->tracing;

    block->used = true;
    if (block->store) return TERN_OK;
    ctx->tracing = NULL; /* a variable has bytes, traced or not */
    block->store = ti_storage_new(ctx, (size_t)block->count * tern_type_size(block->type));
    ctx->tracing = tracing;
    if (!block->store) return ctx->error;
    ctx->backend->zero(ctx->device, block->store->data, block->store->bytes);
    block->store->owner = block;
    return TERN_OK;
}

/*
 * The address stays with the variable. If tensors share the old value, their storage gets a copy
 * of the bytes, and the variable a fresh storage around the address: no list of sharers is needed.
 */
tern_status ti_unshare(tern_var *block)
{
    tern_ctx *ctx = block->ctx;
    ti_storage *old = block->store, *fresh;

    block->version++; /* it is to be written */
    if (old->refs == 1) return TERN_OK;
    fresh = ti_storage_new(ctx, old->bytes);
    if (!fresh) return ctx->error;
    ctx->backend->copy(ctx->device, fresh->data, old->data, old->bytes);
    ti_block *copy = fresh->block;
    fresh->block = old->block;
    fresh->data = old->data;
    fresh->owner = block;
    old->block = copy;
    old->data = copy->data;
    old->owner = NULL;
    old->refs--;
    block->store = fresh;
    return TERN_OK;
}

/* ---- Reading ---- */

static tern_tensor *base_range(tern_ctx *ctx, tern_var *b, int64_t from, int64_t count)
{
    ti_meta m = ti_packed_meta(b->type, TI_SHAPE(count));

    m.offset = from;
    b->used = true;
    if (ctx->tracing) return ti_tensor(ctx, &m, ti_traced_var(ctx, b), NULL, 0);
    return ti_materialise(b) ? NULL : ti_tensor(ctx, &m, b->store, NULL, 0);
}

/* The range's value as the first n pending assignments leave it: a view, or pieces put together. */
static tern_tensor *read_after(tern_ctx *ctx, tern_var *b, int64_t from, int64_t count, int n)
{
    while (n-- > 0) {
        const ti_pending *p = &ctx->pending[n];
        const int64_t lo = from > p->offset ? from : p->offset;
        const int64_t hi =
            from + count < p->offset + p->count ? from + count : p->offset + p->count;
        tern_tensor *piece[3];
        int n_piece = 0;

        if (p->block != b || (lo >= hi && !(count == 0 && from == p->offset))) continue;
        ti_meta m = ti_packed_meta(b->type, TI_SHAPE(hi - lo));
        m.offset = p->value->m.offset + lo - p->offset;
        tern_tensor *mid = ti_tensor(ctx, &m, p->value->store, NULL, 0);
        if (hi - lo == count) return mid;
        if (from < lo) piece[n_piece++] = read_after(ctx, b, from, lo - from, n);
        piece[n_piece++] = mid;
        if (hi < from + count) piece[n_piece++] = read_after(ctx, b, hi, from + count - hi, n);
        return tern_concat(ctx, n_piece, piece, 0);
    }
    return base_range(ctx, b, from, count);
}

static tern_status own_var(tern_ctx *ctx, const char *what, const tern_var *v)
{
    if (v->ctx == ctx) return TERN_OK;
    return ti_fail(ctx, TERN_E_ARGUMENT, "%s %s: the variable belongs to another context", what,
                   v->name);
}

tern_status ti_check_range(tern_ctx *ctx, const char *what, const tern_var *block, int64_t from,
                           int64_t count)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!block) return ti_fail(ctx, TERN_E_ARGUMENT, "%s: the variable is NULL", what);
    TI_TRY(own_var(ctx, what, block));
    if (from < 0 || count < 0 || from > block->block->count - count)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s %s: %lld elements from %lld of %lld", what,
                       block->name, (long long)count, (long long)from,
                       (long long)block->block->count);
    return TERN_OK;
}

/* Reading puts pieces together beneath the tape: what is recorded is the parameter. */
static tern_tensor *read_range(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count)
{
    tern_no_grad_begin(ctx);
    tern_tensor *t = read_after(ctx, block, from, count, ctx->n_pending);
    tern_no_grad_end(ctx);
    return t;
}

tern_tensor *tern_block_read(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count)
{
    if (ti_check_range(ctx, "read", block, from, count)) return NULL;
    return read_range(ctx, block->block, from, count);
}

tern_tensor *tern_read(tern_ctx *ctx, tern_var *var)
{
    if (!ctx || ctx->error) return NULL;
    if (!var) {
        ti_fail(ctx, TERN_E_ARGUMENT, "read: the variable is NULL");
        return NULL;
    }
    if (own_var(ctx, "read", var)) return NULL;
    var->used = true;
    tern_tensor *flat = read_range(ctx, var->block, var->offset, var->count);
    if (!flat) return NULL;
    ti_meta m = ti_packed_meta(var->type, var->shape);
    m.offset = flat->m.offset;
    return ti_tensor(ctx, &m, flat->store, var->leaf, 0);
}

/* ---- Assigning ---- */

static void drop_pending(tern_ctx *ctx, int i)
{
    tern_drop(ctx->pending[i].value);
    memmove(ctx->pending + i, ctx->pending + i + 1,
            (size_t)(--ctx->n_pending - i) * sizeof *ctx->pending);
}

static void write_now(const ti_pending *p)
{
    tern_ctx *ctx = p->block->ctx;
    const int64_t size = (int64_t)tern_type_size(p->block->type);

    ctx->backend->copy(ctx->device, p->block->store->data + p->offset * size,
                       p->value->store->data + p->value->m.offset * size,
                       (size_t)(p->count * size));
}

/* Assigns a packed value to block[from …]. Commits at once outside a step. */
static tern_status assign_range(tern_ctx *ctx, tern_var *block, int64_t from, tern_tensor *value)
{
    const ti_pending p = {block, from, tern_count(value->m.shape), value};
    ti_pending *room;

    block->used = true;
    if (!ctx->in_step) {
        TI_TRY(ti_materialise(block));
        /* the value may be the old one: hold it across the copy that unsharing makes */
        TI_TRY(ti_unshare(block));
        write_now(&p);
        if (block == ctx->tripped) ctx->n_noted = 0; /* what was noted before is no news */
        return TERN_OK;
    }
    room = ti_grow(ctx, ctx->pending, ctx->n_pending, &ctx->cap_pending, sizeof *room);
    if (!room) return ctx->error;
    ctx->pending = room;
    ctx->pending[ctx->n_pending++] = p;
    tern_hold(value);
    for (int i = ctx->n_pending - 1; i-- > 0;) { /* older ones that this one hides */
        const ti_pending *q = &ctx->pending[i];
        if (q->block == block && q->offset >= from && q->offset + q->count <= from + p.count)
            drop_pending(ctx, i);
    }
    return TERN_OK;
}

tern_status tern_block_assign(tern_ctx *ctx, tern_var *block, int64_t from, tern_tensor *value)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!value)
        return ti_fail(ctx, TERN_E_ARGUMENT, "assign %s: the value is NULL",
                       block ? block->name : "");
    TI_TRY(ti_own(ctx, "assign", value));
    TI_TRY(ti_check_range(ctx, "assign", block, from, tern_count(value->m.shape)));
    if (value->m.type != block->type)
        return ti_fail(ctx, TERN_E_TYPE, "assign %s: %s is not %s", block->name,
                       tern_type_name(value->m.type), tern_type_name(block->type));
    if (!ti_is_packed(&value->m)) value = tern_copy(ctx, value);
    return value ? assign_range(ctx, block->block, from, value) : ctx->error;
}

tern_status tern_assign(tern_ctx *ctx, tern_var *var, tern_tensor *value)
{
    char a[160], b[160];

    if (tern_error(ctx)) return tern_error(ctx);
    if (!var) return ti_fail(ctx, TERN_E_ARGUMENT, "assign: the variable is NULL");
    TI_TRY(own_var(ctx, "assign", var));
    if (value && !tern_same_shape(value->m.shape, var->shape))
        return ti_fail(ctx, TERN_E_SHAPE, "assign %s: %s is not %s", var->name,
                       tern_shape_text(a, value->m.shape), tern_shape_text(b, var->shape));
    var->used = true;
    if (value && value->m.type != var->type)
        return ti_fail(ctx, TERN_E_TYPE, "assign %s: %s is not %s", var->name,
                       tern_type_name(value->m.type), tern_type_name(var->type));
    return tern_block_assign(ctx, var->block, var->offset, value);
}

tern_status tern_set(tern_ctx *ctx, tern_var *var, double x)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!var) return ti_fail(ctx, TERN_E_ARGUMENT, "set: the variable is NULL");
    TI_TRY(own_var(ctx, "set", var));
    if (ctx->in_step)
        return ti_fail(ctx, TERN_E_STATE, "set %s: host values are set between steps", var->name);
    tern_frame_begin(ctx);
    const tern_status status = tern_assign(ctx, var, tern_fill(ctx, var->type, var->shape, x));
    tern_frame_end(ctx);
    return status;
}

/* ---- Gradients ---- */

tern_tensor *tern_grad_of(tern_ctx *ctx, tern_var *v)
{
    if (!v || tern_error(ctx) || !v->has_grad) return NULL;
    return tern_reshape(ctx, tern_block_read(ctx, v->block->grads, v->offset, v->count), v->shape);
}

static bool inside(const tern_var *v, int64_t from, int64_t count)
{
    return count > 0 && v->offset - from < count && v->offset + v->count > from;
}

bool tern_block_has_grads(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count)
{
    bool any = false;

    (void)ctx;
    for (int i = 0; block && i < block->n_params; i++)
        any |= block->params[i]->has_grad && inside(block->params[i], from, count);
    return any;
}

tern_tensor *tern_block_grads(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count)
{
    if (ti_check_range(ctx, "gradients of", block, from, count)) return NULL;
    if (!block->grads) {
        ti_fail(ctx, TERN_E_ARGUMENT, "gradients of %s: it is not a block", block->name);
        return NULL;
    }
    return tern_block_has_grads(ctx, block, from, count)
               ? tern_block_read(ctx, block->grads, from, count)
               : tern_fill(ctx, block->type, TI_SHAPE(count), 0);
}

void tern_block_grads_clear(tern_ctx *ctx, tern_var *block, int64_t from, int64_t count)
{
    bool left = false;

    if (!ctx || !block || block->ctx != ctx || from < 0 || count > block->count) return;
    for (int i = 0; block && i < block->n_params; i++) {
        tern_var *v = block->params[i];
        if (v->offset >= from && v->offset + v->count <= from + count) v->has_grad = false;
        left |= v->has_grad;
    }
    for (int i = ctx->n_pending; block && !left && i-- > 0;)
        if (ctx->pending[i].block == block->grads) drop_pending(ctx, i);
}

int ti_count_params(const tern_ctx *ctx)
{
    int n = 0;

    for (const tern_var *b = ctx->vars; b; b = b->next) n += b->n_params;
    return n;
}

void ti_grads_state(tern_ctx *ctx, bool *to, const bool *from)
{
    int n = 0;

    for (tern_var *b = ctx->vars; b; b = b->next)
        for (int i = 0; i < b->n_params; i++, n++) {
            if (to) to[n] = b->params[i]->has_grad;
            if (from) b->params[i]->has_grad = from[n];
        }
}

static void remember(tern_ctx *ctx, bool restore)
{
    for (tern_var *b = ctx->vars; b; b = b->next)
        for (int i = 0; i < b->n_params; i++) {
            tern_var *v = b->params[i];
            if (restore) v->has_grad = v->had_grad;
            else v->had_grad = v->has_grad;
        }
}

/* ---- Steps ---- */

/* The flag of a step starts as `tripped` left it: a copy, complete before the first call. */
tern_status ti_step_begin(tern_ctx *ctx)
{
    if (ctx->error) return ctx->error;
    if (ctx->in_step) return ti_fail(ctx, TERN_E_STATE, "a step is already running");
    ctx->in_step = true;
    remember(ctx, false);
    return tern_assign(ctx, ctx->skip, tern_copy(ctx, tern_read(ctx, ctx->tripped)));
}

/* All or nothing: everything that can fail happens before the first write. */
tern_status ti_step_commit(tern_ctx *ctx)
{
    tern_frame_begin(ctx);
    const double skip = tern_item(ctx, tern_read(ctx, ctx->skip));
    tern_frame_end(ctx);
    for (int i = 0; i < ctx->n_pending && !ctx->error; i++) {
        ti_pending *p = &ctx->pending[i];

        if (ti_materialise(p->block)) break;
        if (p->value->store->owner) { /* an old value: another commit may overwrite it */
            tern_frame_begin(ctx);
            tern_no_grad_begin(ctx);
            tern_tensor *copy = tern_hold(tern_copy(ctx, p->value));
            tern_no_grad_end(ctx);
            tern_frame_end(ctx);
            if (!copy) break;
            tern_drop(p->value);
            p->value = copy;
        }
    }
    for (int i = 0; i < ctx->n_pending && !ctx->error; i++)
        if (ti_unshare(ctx->pending[i].block)) break;
    for (int i = 0; i < ctx->n_pending && !ctx->error; i++)
        if (skip == 0 || ctx->pending[i].block->always) write_now(&ctx->pending[i]);
    return ctx->error;
}

void ti_step_end(tern_ctx *ctx, bool keep)
{
    while (ctx->n_pending) drop_pending(ctx, ctx->n_pending - 1);
    tern_drop(ctx->loss);
    ctx->loss = NULL;
    if (ctx->in_step && !keep) remember(ctx, true);
    ctx->in_step = false;
}

/* ---- Scopes ---- */

const char *tern_scope_begin(tern_ctx *ctx, const char *path)
{
    const char *before = ctx ? ctx->where : NULL;

    if (ctx) ctx->where = path;
    return before;
}

void tern_scope_end(tern_ctx *ctx, const char *before)
{
    if (ctx) ctx->where = before;
}

void tern_structure_changed(tern_ctx *ctx)
{
    if (ctx) ctx->structure++;
}

void ti_variables_close(tern_ctx *ctx)
{
    for (tern_var *v = ctx->vars, *next; v; v = next) {
        next = v->next;
        ti_node_drop(v->leaf);
        ti_storage_drop(v->store);
        ti_free(ctx, v->params);
        ti_free(ctx, v->name);
        ti_free(ctx, v);
    }
    ctx->vars = NULL;
}
