/*
 * matmul.c - reference for matrix products.
 *
 *   matmul:     y[..., i, j] = sum over l of a[..., i, l] b[..., l, j]
 *   linear_act: y[r, m] = act(sum over d of x[r, d] w[m, d] + b[m])
 */
#include "cpu/ref/ref.h"

/* Where the matrix of operand k lies that belongs to batch element `i` of the result. */
static int64_t batch(const ti_work *w, int k, int64_t i)
{
    const tern_shape *y = &w->out[0].m.shape, *x = &w->in[k].m.shape;
    int64_t at = 0, step = x->dim[x->rank - 1] * x->dim[x->rank - 2];

    for (int a = y->rank - 3, b = x->rank - 3; b >= 0; a--, b--) {
        if (x->dim[b] != 1) at += i % y->dim[a] * step;
        step *= x->dim[b];
        i /= y->dim[a];
    }
    return at;
}

static void matmul(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_shape *y = &w->out[0].m.shape, *a = &w->in[0].m.shape;
    const int64_t m = y->dim[y->rank - 2], n = y->dim[y->rank - 1], k = a->dim[a->rank - 1];

    for (int64_t i = 0; i < w->out[0].count; i++) {
        const double *row = in[0] + batch(w, 0, i / (m * n)) + i / n % m * k;
        const double *column = in[1] + batch(w, 1, i / (m * n)) + i % n;
        double s = 0;
        for (int64_t l = 0; l < k; l++) s += row[l] * column[l * n];
        out[0][i] = s;
    }
}

static double matmul_chain(const ti_work *w)
{
    const tern_shape *a = &w->in[0].m.shape;

    return w->in[0].m.type == TERN_F64 ? (double)a->dim[a->rank - 1] : 1;
}

static void linear(const ti_work *w, ti_vec in, ti_vec out)
{
    const int act = ((const tern_linear_opts *)w->opts)->act;
    const int64_t m = w->in[1].m.shape.dim[0], d = w->in[1].m.shape.dim[1];

    for (int64_t i = 0; i < w->out[0].count; i++) {
        const double *x = in[0] + i / m * d, *wr = in[1] + i % m * d;
        double z = 0;
        for (int64_t j = 0; j < d; j++) z += x[j] * wr[j];
        out[0][i] = ti_act_of(act, in[2] ? z + in[2][i % m] : z);
    }
}

/* x w b gy [y]: h = gy act'(z); dx = h w, dw = h' x, db = column sums of h, 0 without b. */
static void linear_d(const ti_work *w, ti_vec in, ti_vec out)
{
    const int act = ((const tern_linear_opts *)w->opts)->act;
    const int64_t m = w->in[1].m.shape.dim[0], d = w->in[1].m.shape.dim[1];

    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; out[k] && i < w->out[k].count; i++) out[k][i] = 0;
    for (int64_t i = 0; i < w->in[3].count; i++) {
        const double *x = in[0] + i / m * d, *wr = in[1] + i % m * d;
        double y = 0;
        if (in[4]) y = in[4][i];
        else if (act != TERN_ACT_NONE) {
            for (int64_t j = 0; j < d; j++) y += x[j] * wr[j];
            y = ti_act_of(act, in[2] ? y + in[2][i % m] : y);
        }
        const double h = ti_act_back(act, y, in[3][i]);
        for (int64_t j = 0; j < d; j++) {
            if (out[0]) out[0][i / m * d + j] += h * wr[j];
            if (out[1]) out[1][i % m * d + j] += h * x[j];
        }
        if (out[2] && in[2]) out[2][i % m] += h;
    }
}

static double linear_chain(const ti_work *w)
{
    return w->in[0].m.type == TERN_F64 ? (double)w->in[1].m.shape.dim[1] + 2 : 2;
}

static double linear_d_chain(const ti_work *w)
{
    const double m = (double)w->in[1].m.shape.dim[0], d = (double)w->in[1].m.shape.dim[1];
    const double rows = (double)w->in[0].count / (d > 0 ? d : 1);

    return w->in[0].m.type == TERN_F64 ? fmax(fmax(m, rows), d) + 2 : 2;
}

const ti_row ti_ref_matmul[] = {
    {.op = "matmul", .impl = "ref", .body = matmul, .chain = matmul_chain},
    {.op = "linear_act", .impl = "ref", .body = linear, .chain = linear_chain},
    {.op = "linear_act_d", .impl = "ref", .body = linear_d, .chain = linear_d_chain},
    {.op = NULL},
};
