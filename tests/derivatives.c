/*
 * derivatives.c - first and second derivatives of every op against differences in f64.
 *
 * s(x) = sum of <y_i(x), c_i> over the differentiable outputs. Its derivative along a random
 * direction v is <ds/dx, v>; a central difference with one step of Richardson's extrapolation
 * tells what that must be. The second order does the same to <ds/dx, w>.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "emulator.h"

typedef struct {
    tern_ctx *ctx;
    const ti_op *op;
    const ti_sample *s;
    bool strided;
    double *x[TI_FEW], *v[TI_FEW]; /* values and directions; v NULL: not differentiated */
    long n_first, n_second;
} problem;

static bool floating(const ti_sample_in *in) { return tc_type_of(in, TERN_F64) == TERN_F64; }

/* Inputs at x + h v, tracked where they are differentiated. */
static void inputs_at(problem *p, double h, tern_tensor **in)
{
    for (int i = 0; i < p->s->n_in; i++) {
        const ti_sample_in *si = &p->s->in[i];
        const int64_t n = tern_count(si->shape);
        double *x;

        in[i] = NULL;
        if (si->draw == TI_S_NONE) continue;
        x = calloc((size_t)n + 1, sizeof *x);
        for (int64_t k = 0; k < n; k++) x[k] = p->x[i][k] + (p->v[i] ? h * p->v[i][k] : 0);
        in[i] = tern_from_doubles(p->ctx, tc_type_of(si, TERN_F64), x, si->shape);
        if (p->strided) in[i] = tc_strided(p->ctx, in[i]);
        if (p->v[i]) in[i] = tern_track(p->ctx, in[i]);
        free(x);
    }
}

/* A fixed random tensor of y's shape. */
static tern_tensor *weights_for(problem *p, const tern_tensor *y, uint64_t seed)
{
    const ti_sample_in like = {.shape = y->m.shape, .draw = TI_S_NORMAL};
    double *c = calloc((size_t)tern_count(y->m.shape) + 1, sizeof *c);

    tc_values(&like, seed, c);
    tern_tensor *t = tern_from_doubles(p->ctx, TERN_F64, c, y->m.shape);
    free(c);
    return t;
}

/* Outputs that depend on something tracked, and a cotangent for each. */
static int outputs(problem *p, tern_tensor *const *in, tern_tensor **y, tern_tensor **c)
{
    tern_tensor *out[TI_OUTS];
    char name[120];
    int n = 0;

    cr_assert(!ti_apply(p->ctx, p->op, p->s->opts, p->s->n_in, in, (1u << p->op->n_out) - 1, out),
              "%s: %s", tc_name(name, p->op, p->s), tern_error_text(p->ctx));
    for (int i = 0; i < p->op->n_out; i++)
        if (out[i] && tern_is_tracked(out[i])) {
            y[n] = out[i];
            c[n++] = weights_for(p, out[i], 100 + (uint64_t)i);
        }
    return n;
}

static double dot(tern_ctx *ctx, tern_tensor *a, const double *b)
{
    double *x = tc_doubles(ctx, a), sum = 0;

    for (int64_t k = 0; k < tern_count(a->m.shape); k++) sum += x[k] * b[k];
    free(x);
    return sum;
}

/* d[i]: the gradients of s at x + h v, for the differentiated inputs; n of them. */
static int gradients_at(problem *p, double h, tern_tensor **in, tern_tensor **d, int *which)
{
    tern_tensor *y[TI_OUTS], *c[TI_OUTS], *to[TI_FEW];
    char name[120];
    int n = 0;

    inputs_at(p, h, in);
    const int n_y = outputs(p, in, y, c);
    for (int i = 0; i < p->s->n_in; i++)
        if (p->v[i]) {
            which[n] = i;
            to[n++] = in[i];
        }
    if (!n_y) return 0;
    cr_assert(!tern_grads(p->ctx, d, n_y, y, c, n, to), "%s: %s", tc_name(name, p->op, p->s),
              tern_error_text(p->ctx));
    for (int k = 0; k < n; k++)
        cr_assert(tern_same_shape(d[k]->m.shape, to[k]->m.shape), "%s: shape of gradient %d",
                  tc_name(name, p->op, p->s), which[k]);
    return n;
}

/* order 1: s; order 2: <ds/dx, w>. At x + h v. */
static double value_at(problem *p, int order, double h)
{
    tern_tensor *in[TI_FEW], *y[TI_OUTS], *c[TI_OUTS], *d[TI_FEW];
    int which[TI_FEW];
    double sum = 0;

    tern_frame_begin(p->ctx);
    if (order == 1) {
        inputs_at(p, h, in);
        const int n = outputs(p, in, y, c);
        for (int i = 0; i < n; i++) {
            double *cx = tc_doubles(p->ctx, c[i]);
            sum += dot(p->ctx, y[i], cx);
            free(cx);
        }
    } else {
        const int n = gradients_at(p, h, in, d, which);
        for (int k = 0; k < n; k++) {
            tern_tensor *w = weights_for(p, d[k], 500 + (uint64_t)which[k]);
            double *wx = tc_doubles(p->ctx, w);
            sum += dot(p->ctx, d[k], wx);
            free(wx);
        }
    }
    tern_frame_end(p->ctx);
    return sum;
}

/* <gradient, v>, by the tape; *size: the sum of magnitudes. False if there is nothing to it. */
static bool by_tape(problem *p, int order, double *slope, double *size)
{
    tern_tensor *in[TI_FEW], *d[TI_FEW], *w[TI_FEW], *dd[TI_FEW], *ys[TI_FEW], *ws[TI_FEW];
    tern_tensor *to[TI_FEW];
    int which[TI_FEW], n_y = 0;
    char name[120];

    *slope = *size = 0;
    int n = gradients_at(p, 0, in, d, which);
    if (order == 2) {
        for (int k = 0; k < n; k++) {
            w[k] = weights_for(p, d[k], 500 + (uint64_t)which[k]);
            to[k] = in[which[k]];
            if (!tern_is_tracked(d[k])) continue; /* linear: constant */
            ys[n_y] = d[k];
            ws[n_y++] = w[k];
        }
        if (!n_y) return n > 0;
        cr_assert(!tern_grads(p->ctx, dd, n_y, ys, ws, n, to), "%s, second order: %s",
                  tc_name(name, p->op, p->s), tern_error_text(p->ctx));
        memcpy(d, dd, sizeof dd);
    }
    for (int k = 0; k < n; k++) {
        double *x = tc_doubles(p->ctx, d[k]);
        for (int64_t j = 0; j < tern_count(d[k]->m.shape); j++) {
            *slope += x[j] * p->v[which[k]][j];
            *size += fabs(x[j] * p->v[which[k]][j]);
        }
        free(x);
    }
    return n > 0;
}

static void check_order(problem *p, int order)
{
    const double h = 1e-4;
    double slope, size;
    char name[120];

    tern_frame_begin(p->ctx);
    const bool any = by_tape(p, order, &slope, &size);
    tern_frame_end(p->ctx);
    if (!any) return;
    const double d1 = (value_at(p, order, h) - value_at(p, order, -h)) / (2 * h);
    const double d2 = (value_at(p, order, h / 2) - value_at(p, order, -h / 2)) / h;
    const double difference = (4 * d2 - d1) / 3, middle = fabs(value_at(p, order, 0));
    /* rounding: 1e-16 of the sums' magnitude over h; truncation: h^4 of the fifth derivative */
    const double allowed = 1e-7 * (size + 1) + 2e-11 * (middle + 1);

    cr_expect(fabs(slope - difference) <= allowed,
              "%s%s, order %d: the tape says %.12g, differences %.12g (allowed %.2g)",
              tc_name(name, p->op, p->s), p->strided ? " strided" : "", order, slope, difference,
              allowed);
    if (order == 1) p->n_first++;
    else p->n_second++;
}

static void one_sample(const ti_op *op, const ti_sample *s, void *user)
{
    problem *p = user;
    bool any = false;

    if (!op->grad) return;
    if (op->view && p->strided) return; /* a view that these strides do not allow says so */
    p->op = op;
    p->s = s;
    for (int i = 0; i < s->n_in; i++) {
        const int64_t n = tern_count(s->in[i].shape);
        const ti_sample_in direction = {.shape = s->in[i].shape, .draw = TI_S_NORMAL};

        p->x[i] = p->v[i] = NULL;
        if (s->in[i].draw == TI_S_NONE) continue;
        p->x[i] = calloc((size_t)n + 1, sizeof(double));
        tc_values(&s->in[i], 3 + (uint64_t)i * 1000003, p->x[i]);
        if (!floating(&s->in[i]) || n == 0) continue;
        p->v[i] = calloc((size_t)n + 1, sizeof(double));
        tc_values(&direction, 900 + (uint64_t)i, p->v[i]);
        any = true;
    }
    if (any) {
        check_order(p, 1);
        check_order(p, 2);
    }
    for (int i = 0; i < s->n_in; i++) {
        free(p->x[i]);
        free(p->v[i]);
    }
}

static void check_all(const char *device, bool strided)
{
    problem p = {.ctx = tc_open(device), .strided = strided};

    tc_each_sample(one_sample, &p);
    cr_log_info("%ld first and %ld second derivatives", p.n_first, p.n_second);
    cr_expect(p.n_first > 50 && p.n_second > 50);
    if (strcmp(device, "simt") == 0) tc_clean(p.ctx, 100000);
    tc_close(p.ctx);
}

Test(derivatives, match_differences) { check_all("cpu", false); }
Test(derivatives, match_differences_strided) { check_all("cpu", true); }
Test(derivatives, match_differences_on_simt)
{
    if (tc_has("simt")) check_all("simt", false);
}
