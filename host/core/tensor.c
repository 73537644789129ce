/*
 * tensor.c - storage, tensors, host arrays.
 */
#include "core/tensor.h"

#include <string.h>

#include "core/core.h"

/* ---- Storage ---- */

ti_storage *ti_storage_wrap(tern_ctx *ctx, void *data, size_t bytes)
{
    ti_storage *s = ti_alloc_as_is(ctx, sizeof *s);

    if (s) *s = (ti_storage){.refs = 1, .bytes = bytes, .data = data, .value = -1, .ctx = ctx};
    return s;
}

ti_storage *ti_storage_new(tern_ctx *ctx, size_t bytes)
{
    ti_storage *s = ti_storage_wrap(ctx, NULL, bytes);

    if (!s || ctx->tracing) return s;
    s->block = ti_take(ctx, bytes, ctx->where, ctx->device_name, "");
    if (!s->block) {
        ti_free(ctx, s);
        return NULL;
    }
    s->data = s->block->data;
    return s;
}

void ti_storage_drop(ti_storage *s)
{
    if (!s || --s->refs > 0) return;
    tern_ctx *ctx = s->ctx;

    ti_pool_free(ctx->pool, s->block);
    ti_free(ctx, s);
}

/* ---- Tensors ---- */

tern_shape tern_shape_of(const tern_tensor *t) { return t ? t->m.shape : TI_SCALAR; }
tern_type tern_type_of(const tern_tensor *t) { return t ? t->m.type : TERN_F32; }
bool tern_is_packed(const tern_tensor *t) { return t && ti_is_packed(&t->m); }

void tern_strides_of(const tern_tensor *t, int64_t stride[TERN_RANK])
{
    if (!stride) return;
    memset(stride, 0, TERN_RANK * sizeof *stride);
    if (t) memcpy(stride, t->m.stride, TERN_RANK * sizeof *stride);
}

tern_status ti_own(tern_ctx *ctx, const char *who, const tern_tensor *t)
{
    if (t->store->ctx == ctx) return TERN_OK;
    return ti_fail(
        ctx, TERN_E_ARGUMENT,
        "%s: a tensor belongs to another context; hand its values over with tern_to_host "
        "and tern_from_host",
        who);
}

tern_tensor *tern_hold(tern_tensor *t)
{
    if (t) t->refs++;
    return t;
}

void tern_drop(tern_tensor *t)
{
    if (!t || --t->refs > 0) return;
    tern_ctx *ctx = t->store->ctx;

    ti_node_drop(t->node);
    ti_storage_drop(t->store);
    ti_free(ctx, t);
}

tern_tensor *ti_tensor(tern_ctx *ctx, const ti_meta *m, ti_storage *s, ti_node *node, int i_out)
{
    tern_tensor **room =
        s ? ti_grow(ctx, ctx->owned, ctx->n_owned, &ctx->cap_owned, sizeof *room) : NULL;
    tern_tensor *t;

    if (!room) return NULL;
    ctx->owned = room;
    t = ti_alloc_as_is(ctx, sizeof *t);
    if (!t) return NULL;
    *t = (tern_tensor){.refs = 1, .i_out = i_out, .m = *m, .store = s, .node = node};
    s->refs++;
    if (node) node->refs++;
    ctx->owned[ctx->n_owned++] = t;
    return t;
}

tern_tensor *ti_tensor_wrap(tern_ctx *ctx, const ti_meta *m, void *data)
{
    ti_storage *s = ctx->error ? NULL : ti_storage_wrap(ctx, data, ti_bytes(m));
    tern_tensor *t = ti_tensor(ctx, m, s, NULL, 0);

    ti_storage_drop(s);
    return t;
}

/* ---- Host arrays ---- */

/* A tensor of the device's memory; *at: its bytes, or a host buffer to fill and upload. */
static tern_tensor *new_from_host(tern_ctx *ctx, tern_type type, tern_shape shape, const void *x,
                                  void (*fill)(const ti_view *, const void *))
{
    const int64_t count = tern_count(shape);
    char text[160];

    if (tern_error(ctx)) return NULL;
    if ((unsigned)type >= TERN_N_TYPES) {
        ti_fail(ctx, TERN_E_TYPE, "from_host: %d is no element type", (int)type);
        return NULL;
    }
    if (count < 0 || count > INT64_MAX / 16) {
        ti_fail(ctx, TERN_E_SHAPE, "from_host: no tensor can have the shape %s",
                tern_shape_text(text, shape));
        return NULL;
    }
    if (!x && count > 0) {
        ti_fail(ctx, TERN_E_ARGUMENT, "from_host: the host array is NULL");
        return NULL;
    }
    if (ctx->tracing) {
        ti_fail(ctx, TERN_E_TRACE,
                "from_host: host values would freeze in a traced step; pass them as inputs or "
                "variables");
        return NULL;
    }
    const ti_meta m = ti_packed_meta(type, shape);
    ti_storage *s = ti_storage_new(ctx, ti_bytes(&m));
    char *host = !s ? NULL : ctx->backend->host_memory ? s->data : ti_alloc(ctx, s->bytes);
    if (host) {
        const ti_view v = ti_view_at(&m, host);
        if (count) fill(&v, x);
        if (host != s->data) {
            ctx->backend->upload(ctx->device, s->data, host, s->bytes);
            ti_free(ctx, host);
        }
    }
    tern_tensor *t = host ? ti_tensor(ctx, &m, s, NULL, 0) : NULL;
    ti_storage_drop(s);
    return t;
}

static void fill_same(const ti_view *v, const void *x)
{
    memcpy(v->data, x, (size_t)v->count * tern_type_size(v->m.type));
}

static void fill_doubles(const ti_view *v, const void *x) { ti_put_all(v, x); }

tern_tensor *tern_from_host(tern_ctx *ctx, tern_type type, const void *x, tern_shape shape)
{
    return new_from_host(ctx, type, shape, x, fill_same);
}

tern_tensor *tern_from_doubles(tern_ctx *ctx, tern_type type, const double *x, tern_shape shape)
{
    return new_from_host(ctx, type, shape, x, fill_doubles);
}

/* Waits, and gives a view of t's bytes on the host: its own, or a copy in *copy to be freed. */
static tern_status on_host(tern_ctx *ctx, tern_tensor *t, const void *x, ti_view *v, char **copy)
{
    *copy = NULL;
    if (tern_error(ctx)) return tern_error(ctx);
    if (!t) return ti_fail(ctx, TERN_E_ARGUMENT, "to_host: the tensor is NULL");
    TI_TRY(ti_own(ctx, "to_host", t));
    if (!x && tern_count(t->m.shape) > 0)
        return ti_fail(ctx, TERN_E_ARGUMENT, "to_host: the host array is NULL");
    if (!t->store->data)
        return ti_fail(ctx, TERN_E_TRACE, "to_host: a traced step has shapes but no values");
    TI_TRY(ti_check_device(ctx, true));
    if (ctx->backend->fault) {
        ctx->backend->fault(ctx->device, &ctx->fault);
        TI_TRY(ti_check_fault(ctx));
    }
    if (!ctx->backend->host_memory && t->store->block) {
        if (!(*copy = ti_alloc(ctx, t->store->bytes))) return ctx->error;
        ctx->backend->download(ctx->device, *copy, t->store->data, t->store->bytes);
        if (ti_check_device(ctx, false)) {
            ti_free(ctx, *copy);
            return ctx->error;
        }
    }
    *v = ti_view_at(&t->m, *copy ? *copy : t->store->data);
    return TERN_OK;
}

tern_status tern_to_host(tern_ctx *ctx, void *x, tern_tensor *t)
{
    ti_view v;
    char *copy;

    TI_TRY(on_host(ctx, t, x, &v, &copy));
    const ti_meta m = ti_packed_meta(t->m.type, t->m.shape);
    const ti_view to = ti_view_at(&m, x);
    if (v.count) ti_copy_view(&to, &v);
    ti_free(ctx, copy);
    return TERN_OK;
}

tern_status tern_to_doubles(tern_ctx *ctx, double *x, tern_tensor *t)
{
    ti_view v;
    char *copy;

    TI_TRY(on_host(ctx, t, x, &v, &copy));
    if (v.count) ti_get_all(&v, x);
    ti_free(ctx, copy);
    return TERN_OK;
}

double tern_item(tern_ctx *ctx, tern_tensor *t)
{
    char text[160];
    double x = 0;

    if (t && !tern_error(ctx) && tern_count(t->m.shape) != 1) {
        ti_fail(ctx, TERN_E_SHAPE, "item: %s is not one element",
                tern_shape_text(text, t->m.shape));
        return 0;
    }
    return tern_to_doubles(ctx, &x, t) ? 0 : x;
}
