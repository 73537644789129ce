/*
 * update.c - reference for census, sgd_update and adam_update.
 *
 *   sgd:  g' = scale g + decay p, m' = momentum m + (1 - dampening) g',
 *         p' = p - lr (g' without m; m'; nesterov: g' + momentum m')
 *   adam: g' = scale g [+ decay p], m' = b1 m + (1 - b1) g', v' = b2 v + (1 - b2) g'^2,
 *         p' = p [(1 - lr decay)] - lr m' / (1 - b1^t) / (sqrt(v' / (1 - b2^t)) + eps)
 */
#include "base/powi.h"
#include "cpu/ref/ref.h"

/* Runs on its inputs as they lie: no copies of whole blocks. */
static void census(const ti_work *w)
{
    double squares = 0, bad = 0;

    for (int k = 0; k < w->n_in; k++)
        for (int64_t i = 0; i < w->in[k].count; i++) {
            const double x = ti_get(&w->in[k], i);
            bad += !isfinite(x);
            if (k == 0) squares += x * x;
        }
    if (w->out[0].data) ti_put(&w->out[0], 0, bad > 0);
    if (!w->out[1].data) return;
    ti_put(&w->out[1], 0, sqrt(squares));
    ti_put(&w->out[1], 1, bad);
}

static double census_chain(const ti_work *w)
{
    return w->in[0].m.type == TERN_F64 ? (double)w->in[0].count : 1;
}

/* p m g lr [scale] */
static void sgd(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_sgd_update_opts *o = w->opts;
    const double lr = in[3][0], scale = in[4] ? in[4][0] : 1;

    for (int64_t i = 0; i < w->in[0].count; i++) {
        const double g = scale * in[2][i] + o->decay * in[0][i];
        double step = g;
        if (in[1]) {
            const double m = o->momentum * in[1][i] + (1 - o->dampening) * g;
            step = o->nesterov ? g + o->momentum * m : m;
            if (out[1]) out[1][i] = m;
        } else if (out[1]) out[1][i] = g;
        if (out[0]) out[0][i] = in[0][i] - lr * step;
    }
}

/* p m v g lr t [scale] */
static void adam(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_adam_update_opts *o = w->opts;
    const double lr = in[4][0], scale = in[6] ? in[6][0] : 1;
    const double fix1 = 1 - ti_powi(o->beta1, (int64_t)in[5][0]);
    const double fix2 = 1 - ti_powi(o->beta2, (int64_t)in[5][0]);

    for (int64_t i = 0; i < w->in[0].count; i++) {
        const double p = in[0][i], g = scale * in[3][i] + (o->decoupled ? 0 : o->decay * p);
        const double m = o->beta1 * in[1][i] + (1 - o->beta1) * g;
        const double v = o->beta2 * in[2][i] + (1 - o->beta2) * g * g;
        const double kept = o->decoupled ? p * (1 - lr * o->decay) : p;
        if (out[0]) out[0][i] = kept - lr * (m / fix1) / (sqrt(v / fix2) + o->eps);
        if (out[1]) out[1][i] = m;
        if (out[2]) out[2][i] = v;
    }
}

const ti_row ti_ref_update[] = {
    {.op = "census", .impl = "ref", .run = census, .chain = census_chain},
    {.op = "sgd_update", .impl = "ref", .body = sgd},
    {.op = "adam_update", .impl = "ref", .body = adam},
    {.op = NULL},
};
