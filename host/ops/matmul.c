/*
 * matmul.c - products of matrices, batched and broadcast.
 *
 * y = a b is linear in both, so its gradient is two products with transposed views: no copy, and
 * derivatives of every order stay inside this file.
 */
#include "ops/common.h"

static tern_shape leading(tern_shape s)
{
    s.rank -= 2;
    s.dim[s.rank] = s.dim[s.rank + 1] = 0;
    return s;
}

static tern_status matmul_shape(ti_call *c)
{
    tern_shape y;

    for (int i = 0; i < 2; i++) {
        TI_TRY(ti_need_types(c, i, TI_FLOATS));
        TI_TRY(ti_need_rank(c, i, 2, TERN_RANK));
    }
    TI_TRY(ti_same_types(c, 3));
    const tern_shape a = c->in[0]->m.shape, b = c->in[1]->m.shape;
    if (a.dim[a.rank - 1] != b.dim[b.rank - 2] || !ti_broadcast(leading(a), leading(b), &y))
        return ti_misfit(c, 0, 1);
    y.dim[y.rank++] = a.dim[a.rank - 2];
    y.dim[y.rank++] = b.dim[b.rank - 1];
    c->meta[0] = ti_packed_meta(c->in[0]->m.type, y);
    return TERN_OK;
}

/* [..., R, C] as one matrix [all the others · R, C]. */
static tern_tensor *flat(tern_ctx *ctx, tern_tensor *x)
{
    const tern_shape s = tern_shape_of(x);
    int64_t rows = 1;

    if (s.rank == 2 || !x) return x;
    for (int a = 0; a < s.rank - 1; a++) rows *= s.dim[a];
    return tern_reshape(ctx, x, TI_SHAPE(rows, s.dim[s.rank - 1]));
}

static void matmul_grad(const ti_call *c, tern_tensor *const *g, tern_tensor **d)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *a = c->in[0], *b = c->in[1];

    if (c->wants[0]) d[0] = ti_fold(ctx, tern_matmul(ctx, g[0], tern_transpose(ctx, b, -2, -1)), a);
    if (!c->wants[1]) return;
    if (b->m.shape.rank == 2) /* one b for all: one long product instead of a sum of many */
        d[1] = tern_matmul(ctx, tern_transpose(ctx, flat(ctx, a), 0, 1), flat(ctx, g[0]));
    else d[1] = ti_fold(ctx, tern_matmul(ctx, tern_transpose(ctx, a, -2, -1), g[0]), b);
}

static tern_tensor *matmul_bound(const ti_call *c, int i_out, double L)
{
    tern_ctx *ctx = c->ctx;
    tern_tensor *size = tern_matmul(ctx, tern_abs(ctx, c->in[0]), tern_abs(ctx, c->in[1]));
    const tern_shape a = c->in[0]->m.shape;

    (void)i_out;
    return ti_flushed(c, tern_scale(ctx, size, ti_sum_error(L)), a.dim[a.rank - 1]);
}

static double matmul_flops(const ti_call *c)
{
    const tern_shape a = c->in[0]->m.shape;

    return 2.0 * (double)tern_count(c->meta[0].shape) * (double)a.dim[a.rank - 1];
}

static const ti_sample matmul_samples[] = {
    {"odd", 2, {TI_NORMAL(5, 7), TI_NORMAL(7, 3)}, NULL},
    {"one row", 2, {TI_NORMAL(1, 65), TI_NORMAL(65, 33)}, NULL},
    {"one column", 2, {TI_NORMAL(17, 19), TI_NORMAL(19, 1)}, NULL},
    {"broadcast batches", 2, {TI_NORMAL(2, 1, 3, 4), TI_NORMAL(3, 4, 5)}, NULL},
    {"one matrix for all", 2, {TI_NORMAL(3, 2, 5), TI_NORMAL(5, 4)}, NULL},
    {"empty sum", 2, {TI_NORMAL(2, 0), TI_NORMAL(0, 3)}, NULL},
    {"empty batch", 2, {TI_NORMAL(0, 2, 3), TI_NORMAL(3, 2)}, NULL},
    TI_SAMPLES_END,
};

static const ti_op matmul = {
    .name = "matmul",
    .n_in = 2,
    .in = {"a", "b"},
    .operands = 3,
    .n_out = 1,
    .out = {{"y", TI_DIFF}},
    .shape = matmul_shape,
    .grad = matmul_grad,
    .bound = matmul_bound,
    .samples = matmul_samples,
    .flops = matmul_flops,
};

const ti_op *const ti_ops_matmul[] = {&matmul, NULL};

tern_tensor *tern_matmul(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)
{
    return ti_apply1(ctx, &matmul, NULL, 2, TI_IN(a, b));
}
