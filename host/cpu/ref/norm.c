/*
 * norm.c - reference for batch and layer normalisation.
 *
 *   mean = <x>, var = <(x - mean)^2>, inv = 1 / sqrt(var + eps), h = (x - mean) inv
 *   y = gamma h + beta
 *   dx = gamma inv (g - <g> - h <g h>)   dgamma = sum g h   dbeta = sum g
 *
 * <.> is the mean over the n values of a channel (batch) or of a group (layer; there g is gamma
 * times the cotangent, and gamma inv is inv).
 */
#include "cpu/ref/ref.h"

/* Channel c of x [N,C,...]: N runs of S values. */
typedef struct {
    int64_t N, C, S;
} planes;

static planes planes_of(const ti_view *x)
{
    planes p = {x->m.shape.dim[0], x->m.shape.dim[1], 1};

    for (int a = 2; a < x->m.shape.rank; a++) p.S *= x->m.shape.dim[a];
    return p;
}

#define EACH(p, c, i)                                                                              \
    for (int64_t n_ = 0; n_ < (p).N; n_++)                                                         \
        for (int64_t i = (n_ * (p).C + (c)) * (p).S, to_ = i + (p).S; i < to_; i++)

static void moments(const double *x, planes p, int64_t c, double *mean, double *var)
{
    const double n = (double)(p.N * p.S);
    double sum = 0, squares = 0;

    EACH(p, c, i) sum += x[i];
    *mean = sum / n;
    EACH(p, c, i) squares += (x[i] - *mean) * (x[i] - *mean);
    *var = squares / n;
}

static void batch_norm(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_batch_norm_opts *o = w->opts;
    const planes p = planes_of(&w->in[0]);
    const double n = (double)(p.N * p.S), m = o->momentum;

    for (int64_t c = 0; c < p.C; c++) {
        double mean, var;

        moments(in[0], p, c, &mean, &var);
        const double inv = 1 / sqrt(var + o->eps);
        if (out[0]) EACH(p, c, i) out[0][i] = (in[0][i] - mean) * inv * in[1][c] + in[2][c];
        if (out[1]) out[1][c] = (1 - m) * in[3][c] + m * mean;
        if (out[2]) out[2][c] = (1 - m) * in[4][c] + m * var * n / (n - 1);
        if (out[3]) out[3][c] = mean;
        if (out[4]) out[4][c] = inv;
    }
}

/* x gamma beta - - gy [mean inv]; the hints are not looked at: x says it all. */
static void batch_norm_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const planes p = planes_of(&w->in[0]);
    const double n = (double)(p.N * p.S), *x = in[0], *g = in[5];

    for (int64_t c = 0; c < p.C; c++) {
        double mean, var, sum_g = 0, sum_gh = 0;

        moments(x, p, c, &mean, &var);
        const double inv = 1 / sqrt(var + ((const tern_batch_norm_opts *)w->opts)->eps);
        EACH(p, c, i)
        {
            sum_g += g[i];
            sum_gh += g[i] * (x[i] - mean) * inv;
        }
        if (out[0]) EACH(p, c, i)
            {
                const double h = (x[i] - mean) * inv;
                out[0][i] = in[1][c] * inv * (g[i] - sum_g / n - h * sum_gh / n);
            }
        if (out[1]) out[1][c] = sum_gh;
        if (out[2]) out[2][c] = sum_g;
    }
}

/* x gamma beta r mean var */
static void bn_add_act(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_bn_add_act_opts *o = w->opts;
    const tern_batch_norm_opts norm = {1, 1, o->eps, o->momentum};
    double *const own[] = {in[0], in[1], in[2], in[4], in[5]};
    ti_work v = *w;

    v.opts = &norm;
    batch_norm(&v, own, out);
    for (int64_t i = 0; out[0] && i < w->in[0].count; i++) {
        const double y = out[0][i] + (in[3] ? in[3][i] : 0);
        out[0][i] = o->act == TERN_RELU && y <= 0 ? 0 : y;
    }
}

/* x gamma beta g g2 y [mean inv]; q in the place of g, where batch_norm_d reads it */
static void bn_add_act_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_bn_add_act_opts *o = w->opts;
    const tern_batch_norm_opts norm = {1, 1, o->eps, o->momentum};
    double *const own[] = {in[0], in[1], in[2], NULL, NULL, in[3]};
    ti_work v = *w;

    for (int64_t i = 0; i < w->in[0].count; i++) {
        if (in[4]) in[3][i] += in[4][i];
        if (o->act == TERN_RELU && !(in[5][i] > 0)) in[3][i] = 0;
        if (out[3]) out[3][i] = in[3][i];
    }
    v.opts = &norm;
    batch_norm_d(&v, own, out);
}

static void batch_norm_eval(const ti_work *w, ti_vec in, ti_vec out)
{
    const planes p = planes_of(&w->in[0]);

    for (int64_t c = 0; c < p.C; c++) {
        const double inv = 1 / sqrt(in[4][c] + ((const tern_batch_norm_opts *)w->opts)->eps);
        EACH(p, c, i) out[0][i] = (in[0][i] - in[3][c]) * inv * in[1][c] + in[2][c];
    }
}

/* Values of a group: the trailing axes. */
static int64_t group_of(const ti_work *w)
{
    const tern_shape *s = &w->in[0].m.shape;
    int64_t n = 1;

    for (int a = 0; a < ((const tern_layer_norm_opts *)w->opts)->axes; a++)
        n *= s->dim[s->rank - 1 - a];
    return n;
}

static void layer_norm(const ti_work *w, ti_vec in, ti_vec out)
{
    const int64_t n = group_of(w), groups = n ? w->in[0].count / n : 0;
    const planes p = {1, 1, n};

    for (int64_t j = 0; j < groups; j++) {
        const double *x = in[0] + j * n;
        double mean, var;

        moments(x, p, 0, &mean, &var);
        const double inv = 1 / sqrt(var + ((const tern_layer_norm_opts *)w->opts)->eps);
        for (int64_t i = 0; out[0] && i < n; i++)
            out[0][j * n + i] =
                (x[i] - mean) * inv * (in[1] ? in[1][i] : 1) + (in[2] ? in[2][i] : 0);
        if (out[1]) out[1][j] = mean;
        if (out[2]) out[2][j] = inv;
    }
}

/* x gamma beta gy [mean inv]; the derivatives of what is absent are 0. */
static void layer_norm_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const int64_t n = group_of(w), groups = n ? w->in[0].count / n : 0;
    const planes p = {1, 1, n};

    for (int k = 1; k < 3; k++)
        for (int64_t i = 0; out[k] && i < n; i++) out[k][i] = 0;
    for (int64_t j = 0; j < groups; j++) {
        const double *x = in[0] + j * n, *g = in[3] + j * n;
        double mean, var, sum_q = 0, sum_qh = 0;

        moments(x, p, 0, &mean, &var);
        const double inv = 1 / sqrt(var + ((const tern_layer_norm_opts *)w->opts)->eps);
        for (int64_t i = 0; i < n; i++) {
            const double q = g[i] * (in[1] ? in[1][i] : 1), h = (x[i] - mean) * inv;
            sum_q += q;
            sum_qh += q * h;
            if (out[1] && in[1]) out[1][i] += g[i] * h;
            if (out[2] && in[2]) out[2][i] += g[i];
        }
        for (int64_t i = 0; out[0] && i < n; i++) {
            const double q = g[i] * (in[1] ? in[1][i] : 1), h = (x[i] - mean) * inv;
            out[0][j * n + i] = inv * (q - sum_q / (double)n - h * sum_qh / (double)n);
        }
    }
}

/* Sums in double: one chain of such roundings, which in f64 is what counts. */
static double batch_chain(const ti_work *w)
{
    const planes p = planes_of(&w->in[0]);

    return w->in[0].m.type == TERN_F64 ? (double)(p.N * p.S) : 1;
}
static double layer_chain(const ti_work *w)
{
    const double n = (double)group_of(w);

    return w->in[0].m.type == TERN_F64 ? fmax(n, n > 0 ? (double)w->in[0].count / n : 0) : 1;
}

const ti_row ti_ref_norm[] = {
    {.op = "batch_norm", .impl = "ref", .body = batch_norm, .chain = batch_chain},
    {.op = "batch_norm_d", .impl = "ref", .body = batch_norm_d, .chain = batch_chain},
    {.op = "batch_norm_eval", .impl = "ref", .body = batch_norm_eval},
    {.op = "bn_add_act", .impl = "ref", .body = bn_add_act, .chain = batch_chain},
    {.op = "bn_add_act_d", .impl = "ref", .body = bn_add_act_d, .chain = batch_chain},
    {.op = "layer_norm", .impl = "ref", .body = layer_norm, .chain = layer_chain},
    {.op = "layer_norm_d", .impl = "ref", .body = layer_norm_d, .chain = layer_chain},
    {.op = NULL},
};
