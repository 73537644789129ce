/*
 * fused.c - fused ops against their compositions, and their first derivatives against those that
 * the compositions have, in f64.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* |a - b| <= 1e-11 of the largest magnitude in either: the two round differently, no more. */
static void close_to(tern_ctx *ctx, const char *name, const char *what, tern_tensor *a,
                     tern_tensor *b)
{
    double *x = tc_doubles(ctx, a), *y = tc_doubles(ctx, b), most = 1;
    const int64_t n = tern_count(a->m.shape);

    cr_assert(tern_same_shape(a->m.shape, b->m.shape), "%s: shape of %s", name, what);
    for (int64_t i = 0; i < n; i++) most = fmax(most, isfinite(y[i]) ? fabs(y[i]) : 0);
    for (int64_t i = 0; i < n; i++) {
        const bool ok =
            x[i] == y[i] || (isnan(x[i]) && isnan(y[i])) || fabs(x[i] - y[i]) <= 1e-11 * most;
        cr_expect(ok, "%s: %s[%lld] is %.15g, the composition says %.15g", name, what, (long long)i,
                  x[i], y[i]);
        if (!ok) break;
    }
    free(x);
    free(y);
}

static tern_tensor *cotangent(tern_ctx *ctx, const tern_tensor *y, uint64_t seed)
{
    const ti_sample_in like = {.shape = y->m.shape, .draw = TI_S_NORMAL};
    double *c = calloc((size_t)tern_count(y->m.shape) + 1, sizeof *c);

    tc_values(&like, seed, c);
    tern_tensor *t = tern_from_doubles(ctx, TERN_F64, c, y->m.shape);
    free(c);
    return t;
}

static void one_sample(const ti_op *op, const ti_sample *s, void *user)
{
    tern_ctx *ctx = user;
    tern_tensor *in[TI_FEW], *out[TI_OUTS], *y[TI_OUTS] = {0}, *to[TI_FEW], *c[TI_OUTS];
    tern_tensor *ya[TI_OUTS], *yb[TI_OUTS], *a[TI_FEW], *b[TI_FEW];
    int64_t opts[TI_OPTS / 8];
    int n_y = 0, n_to = 0, k = 0;
    char name[120];

    if (!op->compose) return;
    tern_frame_begin(ctx);
    tc_name(name, op, s);
    tc_inputs(ctx, op, s, TERN_F64, 11, in);
    for (int i = 0; i < s->n_in; i++)
        if (in[i] && in[i]->m.type == TERN_F64) to[n_to++] = in[i] = tern_track(ctx, in[i]);
    ti_opts_fill(op, opts, s->opts);
    const ti_call call = {.ctx = ctx, .op = op, .opts = opts, .n_in = s->n_in, .in = in};
    cr_assert(!ti_apply(ctx, op, s->opts, s->n_in, in, (1u << op->n_out) - 1, out), "%s: %s", name,
              tern_error_text(ctx));
    cr_assert(!op->compose(&call, y), "%s: composition: %s", name, tern_error_text(ctx));
    for (int i = 0; i < op->n_out; i++) {
        if (op->out[i].kind != TI_DIFF) continue;
        close_to(ctx, name, op->out[i].name, out[i], y[k]);
        if (out[i]->node && y[k]->node) {
            ya[n_y] = out[i];
            yb[n_y] = y[k];
            c[n_y++] = cotangent(ctx, y[k], 40 + (uint64_t)k);
        }
        k++;
    }
    if (n_y) {
        cr_assert(!tern_grads(ctx, a, n_y, ya, c, n_to, to), "%s: %s", name, tern_error_text(ctx));
        cr_assert(!tern_grads(ctx, b, n_y, yb, c, n_to, to), "%s: %s", name, tern_error_text(ctx));
        for (int i = 0; i < n_to; i++) close_to(ctx, name, "a gradient", a[i], b[i]);
    }
    tern_frame_end(ctx);
}

Test(fused, equal_their_compositions)
{
    tern_ctx *ctx = tc_open("cpu");

    tc_each_sample(one_sample, ctx);
    tc_close(ctx);
}
