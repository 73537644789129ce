/*
 * unary.c - reference for operations on one input, element by element.
 */
#include "cpu/ref/ref.h"

#define EACH for (int64_t i = 0; i < w->out[0].count; i++)
#define ONE(name, expression)                                                                      \
    static void name(const ti_work *w, ti_vec in, ti_vec out)                                      \
    {                                                                                              \
        EACH                                                                                       \
        {                                                                                          \
            const double x = in[0][i];                                                             \
            out[0][i] = expression;                                                                \
        }                                                                                          \
    }
/* p: the value in the options */
#define ONE_BY(name, expression)                                                                   \
    static void name(const ti_work *w, ti_vec in, ti_vec out)                                      \
    {                                                                                              \
        const double p = ((const tern_scalar_opts *)w->opts)->value;                               \
        EACH                                                                                       \
        {                                                                                          \
            const double x = in[0][i];                                                             \
            out[0][i] = expression;                                                                \
        }                                                                                          \
    }
#define INTEGERS(name, operator)                                                                   \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        const int64_t p = (int64_t)((const tern_scalar_opts *)w->opts)->value;                     \
        const tern_type type = w->in[0].m.type;                                                    \
        EACH                                                                                       \
        {                                                                                          \
            const int64_t x = ti_load_integer(type, ti_element(&w->in[0], i));                     \
            const int64_t y = (int64_t)((uint64_t)x operator(uint64_t) p);                         \
            ti_store_integer(type, ti_element(&w->out[0], i), y);                                  \
        }                                                                                          \
    }

ONE_BY(scale, x *p)
ONE_BY(shift, x + p)
ONE_BY(to_power, pow(x, p))
INTEGERS(scale_integers, *)
INTEGERS(shift_integers, +)
ONE(neg, -x)
ONE(absolute, fabs(x))
ONE(sign, x > 0 ? 1 : x < 0 ? -1 : x != x ? x : 0)
ONE(exponential, exp(x))
ONE(logarithm, log(x))
ONE(root, sqrt(x))
ONE(inverse_root, 1 / sqrt(x))
ONE(error_function, erf(x))
ONE(tangent, tanh(x))
ONE(sigmoid, x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)))
ONE(is_finite, isfinite(x) != 0)

static void clamp(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_clamp_opts *o = w->opts;

    EACH
    {
        out[0][i] = in[0][i];
        if (o->has_min && in[0][i] < o->min) out[0][i] = o->min;
        if (o->has_max && in[0][i] > o->max) out[0][i] = o->max;
    }
}

/* in: y, g */
static void tanh_d(const ti_work *w, ti_vec in, ti_vec out)
{
    EACH out[0][i] = in[1][i] * (1 - in[0][i] * in[0][i]);
}

static void sigmoid_d(const ti_work *w, ti_vec in, ti_vec out)
{
    EACH out[0][i] = in[1][i] * in[0][i] * (1 - in[0][i]);
}

const ti_row ti_ref_unary[] = {
    {.op = "scale", .impl = "ref", .reject = ti_only_floats, .body = scale},
    {.op = "scale", .impl = "ref_integers", .reject = ti_only_integers, .run = scale_integers},
    {.op = "shift", .impl = "ref", .reject = ti_only_floats, .body = shift},
    {.op = "shift", .impl = "ref_integers", .reject = ti_only_integers, .run = shift_integers},
    {.op = "pow", .impl = "ref", .body = to_power},
    {.op = "clamp", .impl = "ref", .body = clamp},
    {.op = "neg", .impl = "ref", .body = neg},
    {.op = "abs", .impl = "ref", .body = absolute},
    {.op = "sign", .impl = "ref", .body = sign},
    {.op = "exp", .impl = "ref", .body = exponential},
    {.op = "log", .impl = "ref", .body = logarithm},
    {.op = "sqrt", .impl = "ref", .body = root},
    {.op = "rsqrt", .impl = "ref", .body = inverse_root},
    {.op = "erf", .impl = "ref", .body = error_function},
    {.op = "tanh", .impl = "ref", .body = tangent},
    {.op = "tanh_d", .impl = "ref", .body = tanh_d},
    {.op = "sigmoid", .impl = "ref", .body = sigmoid},
    {.op = "sigmoid_d", .impl = "ref", .body = sigmoid_d},
    {.op = "is_finite", .impl = "ref", .body = is_finite},
    {.op = NULL},
};
