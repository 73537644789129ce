/*
 * activation.c - reference for activations and their first derivatives.
 */
#include "cpu/ref/ref.h"

static const double root_half = 0.70710678118654752, density = 0.39894228040143268;
static const double k = 0.79788456080286536, cubic = 0.044715; /* sqrt(2/pi) */

static double slope_of(const ti_work *w) { return ((const tern_slope_opts *)w->opts)->slope; }
static bool by_tanh(const ti_work *w) { return ((const tern_gelu_opts *)w->opts)->tanh; }

#define EACH for (int64_t i = 0; i < w->out[0].count; i++)
/* y(x; p) and dx(x, g; p), p the slope */
#define ONE(name, p_, expression)                                                                  \
    static void name(const ti_work *w, ti_vec in, ti_vec out)                                      \
    {                                                                                              \
        const double p = p_;                                                                       \
        (void)p;                                                                                   \
        EACH                                                                                       \
        {                                                                                          \
            const double x = in[0][i];                                                             \
            out[0][i] = expression;                                                                \
        }                                                                                          \
    }
#define DERIVATIVE(name, p_, expression)                                                           \
    static void name(const ti_work *w, ti_vec in, ti_vec out)                                      \
    {                                                                                              \
        const double p = p_;                                                                       \
        (void)p;                                                                                   \
        EACH                                                                                       \
        {                                                                                          \
            const double x = in[0][i], g = in[1][i];                                               \
            out[0][i] = expression;                                                                \
        }                                                                                          \
    }

/* x Phi(x); erfc keeps the tail. Infinities are limits: -0 on the left. */
static double gelu_of(double x) { return x == -INFINITY ? -0.0 : 0.5 * x * erfc(-x * root_half); }
static double gelu_slope(double x)
{
    return isinf(x) ? x > 0 : 0.5 * erfc(-x * root_half) + x * density * exp(-0.5 * x * x);
}
static double gelu_tanh_of(double x)
{
    return x == -INFINITY ? -0.0 : 0.5 * x * (1 + tanh(k * (x + cubic * x * x * x)));
}
static double gelu_tanh_slope(double x)
{
    const double t = tanh(k * (x + cubic * x * x * x));

    if (fabs(x) > 100) return x > 0;
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * cubic * x * x);
}

ONE(relu, 0, x > 0 || x != x ? x : 0)
DERIVATIVE(relu_d, 0, x > 0 ? g : 0) /* x: the result of relu */
ONE(leaky_relu, slope_of(w), x > 0 ? x : p * x)
DERIVATIVE(leaky_relu_d, slope_of(w), x > 0 ? g : p * g)
ONE(elu, slope_of(w), x > 0 ? x : p * expm1(x))
DERIVATIVE(elu_d, slope_of(w), x > 0 ? g : p * exp(x) * g)
ONE(gelu, 0, by_tanh(w) ? gelu_tanh_of(x) : gelu_of(x))
DERIVATIVE(gelu_d, 0, g *(by_tanh(w) ? gelu_tanh_slope(x) : gelu_slope(x)))

const ti_row ti_ref_activation[] = {
    {.op = "relu", .impl = "ref", .body = relu},
    {.op = "relu_d", .impl = "ref", .body = relu_d},
    {.op = "leaky_relu", .impl = "ref", .body = leaky_relu},
    {.op = "leaky_relu_d", .impl = "ref", .body = leaky_relu_d},
    {.op = "elu", .impl = "ref", .body = elu},
    {.op = "elu_d", .impl = "ref", .body = elu_d},
    {.op = "gelu", .impl = "ref", .body = gelu},
    {.op = "gelu_d", .impl = "ref", .body = gelu_d},
    {.op = NULL},
};
