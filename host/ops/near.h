/*
 * near.h - values that carry probes of their errors: compositions and bounds of ops with many steps
 * out of one text.
 *
 * To first order an error is a sum over all earlier roundings, each times the Jacobians on its way,
 * with their signs. Roundings are taken as independent, of mean 0, each within its size times u (a
 * sum of L terms: within sqrt(L + 1) times their sizes, as ti_sum_error has it). Then an error is
 * beyond k s u with probability 2 exp(-k² / 2), where s² is the sum of the squares of those
 * products (Azuma). s is found by PROBES vectors that go the same way: in the place of each
 * rounding they take its size times a uniform number of variance 1, and pass on what they have by
 * the same Jacobians. With v such a probe of an error, its density is at most 1 / (s sqrt 6) (Ball
 * 1986, sections of the cube), so the mean of exp(-k² v² / 2 s²) is at most 1.024 / k, and an error
 * is beyond k u sqrt(sum v²) with probability 2 (1.024 / k)^16 = 2.5e-8 for k = 3.2.
 *
 * Two things are not as taken here:
 *  - Equal operands, in other steps or sequences, round equally. So a probe takes each size twice:
 *    by numbers that are new each time, and by numbers that steps and sequences share.
 *  - Errors may leave the first order, where steps amplify what came before; there the first order
 *    can cancel where the rest does not. So what an activation or a product adds beyond it counts
 *    as one more rounding, as large as the errors allow. This takes u for that of f32.
 *
 * Without `errors` only values are computed.
 */
#ifndef TI_OPS_NEAR_H
#define TI_OPS_NEAR_H

#include "ops/common.h"
#include "ops/rules.h"

enum { TI_PROBES = 16 };
#define TI_PROBES_FACTOR 3.2
#define TI_NEAR_U 0x1p-24
#define TI_NEAR_MOST 1e100 /* of a probe: its square is finite, and no f32 is as far off */

typedef struct {
    tern_tensor *v;
    tern_tensor *e;    /* [PROBES, as v]; NULL: exact, or not asked */
    tern_tensor *flip; /* of relu's result: 1 where the error leads to the other side of 0 */
    bool unit;         /* lies in [-1, 1] */
} ti_near;

/* Which random numbers come next. */
typedef struct {
    int64_t drawn, place; /* since the beginning, and since the beginning of a step */
} ti_near_count;

typedef struct {
    tern_ctx *ctx;
    bool errors;
    double chain;   /* L of the row: the longest of all its sums */
    int64_t beside; /* terms that a kernel may add up together with those of a product */
    ti_near_count *count;
} ti_near_how;

/* The size of the roundings in a sum of so many terms, as a multiple of the sum of their sizes. */
static inline double ti_near_scale(const ti_near_how *m, int64_t terms)
{
    return sqrt(fmin(m->chain, (double)(terms + m->beside)) + 1);
}

/* a + b, NULL for none. */
static inline tern_tensor *ti_near_total(tern_ctx *ctx, tern_tensor *a, tern_tensor *b)
{
    return a && b ? tern_add(ctx, a, b) : a ? a : b;
}

/* ---- Probes ---- */

static inline tern_shape ti_near_probes(tern_shape s)
{
    tern_shape to = {s.rank + 1, {TI_PROBES}};

    memcpy(to.dim + 1, s.dim, (size_t)s.rank * sizeof *s.dim);
    return to;
}

static inline tern_tensor *ti_near_draw(tern_ctx *ctx, const char *purpose, int64_t counter,
                                        tern_shape s)
{
    const double sqrt3 = 1.7320508075688772;
    tern_random_opts o = {
        .purpose = tern_purpose(purpose), .type = TERN_F64, .a = -sqrt3, .b = sqrt3};

    ti_shape_into(s, &o.rank, o.dim);
    return tern_uniform(ctx, tern_fill(ctx, TERN_I64, TI_SCALAR, (double)counter), &o);
}

static inline tern_tensor *ti_near_clip(tern_ctx *ctx, tern_tensor *x, double most)
{
    const tern_clamp_opts o = {.has_min = 1, .has_max = 1, .min = -most, .max = most};

    return tern_clamp(ctx, x, &o);
}

/* Probes of e, and of roundings of such sizes [rows, columns] or [columns]; results that are
 * subnormal in f32 round by half of its smallest step. */
static inline tern_tensor *ti_near_rounded(const ti_near_how *m, tern_tensor *e, tern_tensor *size)
{
    tern_shape s = ti_near_probes(tern_shape_of(size));

    size = tern_shift(m->ctx, size, 0x1p-150 / TI_NEAR_U);
    tern_tensor *own = ti_near_draw(m->ctx, "near.own", m->count->drawn++, s);

    if (s.rank == 3) s.dim[1] = 1;
    tern_tensor *all = ti_near_draw(m->ctx, "near.all", m->count->place++, s);
    own = tern_mul(m->ctx, tern_add(m->ctx, own, all), size);
    return ti_near_clip(m->ctx, ti_near_total(m->ctx, e, own), TI_NEAR_MOST);
}

/* How far off a value with these probes is, in units of u. */
static inline tern_tensor *ti_near_reach(tern_ctx *ctx, tern_tensor *e)
{
    const tern_reduce_opts probes = {.axes = 1};
    tern_tensor *squares = tern_sum(ctx, tern_mul(ctx, e, e), &probes);

    return tern_scale(ctx, tern_sqrt(ctx, squares), TI_PROBES_FACTOR);
}

/* How far off a is; what stays in [-1, 1] is off by 2 at most. */
static inline tern_tensor *ti_near_off(const ti_near_how *m, ti_near a)
{
    tern_tensor *reach = ti_near_reach(m->ctx, a.e);

    return a.unit ? ti_near_clip(m->ctx, reach, 2 / TI_NEAR_U) : reach;
}

/* ---- Arithmetic ---- */

static inline ti_near ti_near_add(const ti_near_how *m, ti_near a, ti_near b)
{
    ti_near y = {.v = tern_add(m->ctx, a.v, b.v)};

    if (m->errors) y.e = ti_near_rounded(m, ti_near_total(m->ctx, a.e, b.e), tern_abs(m->ctx, y.v));
    return y;
}

/* (a + da) (b + db) - a b = da b + a db + da db, of which the last is beyond the first order. */
static inline ti_near ti_near_mul(const ti_near_how *m, ti_near a, ti_near b)
{
    tern_ctx *ctx = m->ctx;
    ti_near y = {.v = tern_mul(ctx, a.v, b.v), .unit = a.unit && b.unit};

    if (!m->errors) return y;
    tern_tensor *by_a = a.e ? tern_mul(ctx, a.e, b.v) : NULL;
    tern_tensor *by_b = b.e ? tern_mul(ctx, b.e, a.v) : NULL;
    tern_tensor *size = tern_abs(ctx, y.v);
    if (a.e && b.e) {
        tern_tensor *both = tern_mul(ctx, ti_near_off(m, a), ti_near_off(m, b));
        size = tern_add(ctx, size, tern_scale(ctx, both, TI_NEAR_U));
    }
    y.e = ti_near_rounded(m, ti_near_total(ctx, by_a, by_b), size);
    return y;
}

static inline ti_near ti_near_neg(const ti_near_how *m, ti_near a)
{
    return (ti_near){
        .v = tern_neg(m->ctx, a.v), .e = a.e ? tern_neg(m->ctx, a.e) : NULL, .unit = a.unit};
}

/* 1 - a, for a in [0, 1] if it is a unit. */
static inline ti_near ti_near_rest(const ti_near_how *m, ti_near a)
{
    ti_near minus = ti_near_neg(m, a), y = {.v = tern_shift(m->ctx, minus.v, 1), .unit = a.unit};

    if (m->errors) y.e = ti_near_rounded(m, minus.e, tern_abs(m->ctx, y.v));
    return y;
}

/* ---- Activations ---- */

/* The slope of an activation with result y. */
static inline ti_near ti_near_slope(const ti_near_how *m, ti_near y, int act)
{
    if (act == TERN_SIGMOID) return ti_near_mul(m, y, ti_near_rest(m, y));
    return ti_near_rest(m, ti_near_mul(m, y, y));
}

static inline tern_tensor *ti_near_slope_at(tern_ctx *ctx, tern_tensor *a, int act)
{
    const ti_near_how exact = {.ctx = ctx};

    return ti_near_slope(&exact, (ti_near){.v = ti_act(ctx, a, act)}, act).v;
}

/* What the error of a adds to tanh or the sigmoid beyond the first order. With s the largest slope
 * within the error d: at most s d, and s d² (their second derivatives are within 2 s). Slopes are
 * taken below 0, where a sigmoid far out is no 1. */
static inline tern_tensor *ti_near_bend(const ti_near_how *m, ti_near a, int act)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *reach = ti_near_reach(ctx, a.e), *d = tern_scale(ctx, reach, TI_NEAR_U);
    tern_tensor *least = tern_relu(ctx, tern_sub(ctx, tern_abs(ctx, a.v), d));
    tern_tensor *slope = ti_near_slope_at(ctx, tern_neg(ctx, least), act);

    return tern_mul(ctx, tern_mul(ctx, slope, reach), ti_near_clip(ctx, d, 1));
}

static inline ti_near ti_near_relu(const ti_near_how *m, ti_near a)
{
    tern_ctx *ctx = m->ctx;
    ti_near y = {.v = tern_relu(ctx, a.v)};

    if (!a.e) return y;
    tern_tensor *zero = ti_constant(ctx, a.v, 0), *reach = ti_near_reach(ctx, a.e);
    tern_tensor *d = tern_scale(ctx, reach, TI_NEAR_U);
    y.flip = tern_cast(ctx, tern_le(ctx, tern_abs(ctx, a.v), d), a.v->m.type);
    y.e = ti_near_rounded(m, tern_where(ctx, tern_gt(ctx, a.v, zero), a.e, zero),
                          tern_mul(ctx, y.flip, reach));
    return y;
}

static inline ti_near ti_near_act(const ti_near_how *m, ti_near a, int act)
{
    tern_ctx *ctx = m->ctx;
    tern_tensor *before = NULL;

    if (act == TERN_RELU) return ti_near_relu(m, a);
    ti_near y = {.v = ti_act(ctx, a.v, act), .unit = true};
    if (!m->errors) return y;
    tern_tensor *size = tern_scale(ctx, tern_abs(ctx, y.v), 4);
    if (a.e) {
        tern_tensor *slope = ti_near_slope_at(ctx, tern_neg(ctx, tern_abs(ctx, a.v)), act);
        before = tern_mul(ctx, a.e, slope);
        size = tern_add(ctx, size, ti_near_bend(m, a, act));
    }
    y.e = ti_near_clip(ctx, ti_near_rounded(m, before, size), 8 / TI_NEAR_U);
    return y;
}

/* g times the slope of an activation whose result is y. Where relu's argument may lie on the other
 * side of 0 all of g may be the error. */
static inline ti_near ti_near_back(const ti_near_how *m, ti_near y, ti_near g, int act)
{
    tern_ctx *ctx = m->ctx;

    if (act != TERN_RELU) return ti_near_mul(m, ti_near_slope(m, y, act), g);
    tern_tensor *zero = ti_constant(ctx, y.v, 0), *up = tern_gt(ctx, y.v, zero);
    ti_near d = {.v = tern_where(ctx, up, g.v, zero)};
    if (g.e) d.e = tern_where(ctx, up, g.e, zero);
    if (y.flip)
        d.e = ti_near_rounded(
            m, d.e, tern_scale(ctx, tern_mul(ctx, tern_abs(ctx, g.v), y.flip), 1 / TI_NEAR_U));
    return d;
}

#endif
