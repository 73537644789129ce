/*
 * chain.c - reference for chains of elementwise operations.
 */
#include "core/chain.h"
#include "cpu/ref/ref.h"

static double value_of(int kind, double a, double b, double p)
{
    switch (kind) {
    case TERN_CHAIN_ADD: return a + b;
    case TERN_CHAIN_SUB: return a - b;
    case TERN_CHAIN_MUL: return a * b;
    case TERN_CHAIN_DIV: return a / b;
    case TERN_CHAIN_MAXIMUM: return a > b || a != a ? a : b;
    case TERN_CHAIN_MINIMUM: return a < b || a != a ? a : b;
    case TERN_CHAIN_TANH_D: return b * (1 - a * a);
    case TERN_CHAIN_SIGMOID_D: return b * a * (1 - a);
    case TERN_CHAIN_SCALE: return a * p;
    case TERN_CHAIN_SHIFT: return a + p;
    case TERN_CHAIN_NEG: return -a;
    case TERN_CHAIN_ABS: return fabs(a);
    case TERN_CHAIN_EXP: return exp(a);
    case TERN_CHAIN_LOG: return log(a);
    case TERN_CHAIN_SQRT: return sqrt(a);
    case TERN_CHAIN_RSQRT: return 1 / sqrt(a);
    case TERN_CHAIN_TANH: return tanh(a);
    case TERN_CHAIN_SIGMOID: return (a < 0 ? exp(a) : 1) / (1 + exp(-fabs(a)));
    default: return a <= 0 ? 0 : a; /* relu; NaN stays */
    }
}

static void chain(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_chain_opts *o = w->opts;
    const int n = ti_chain_steps(o);

    for (int64_t i = 0; i < w->out[0].count; i++) {
        double s[TERN_CHAIN_IN + TERN_CHAIN];

        for (int k = 0; k < TERN_CHAIN_IN; k++) s[k] = in[k] ? in[k][i] : 0;
        for (int k = 0; k < n; k++)
            s[TERN_CHAIN_IN + k] = value_of(o->kind[k], s[o->a[k]], s[o->b[k]], o->p[k]);
        out[0][i] = s[TERN_CHAIN_IN + n - 1];
    }
}

const ti_row ti_ref_chain[] = {
    {.op = "chain", .impl = "ref", .body = chain},
    {.op = NULL},
};
