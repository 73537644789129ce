/*
 * elementwise.c - CPU kernels for arithmetic, unary operations and activations.
 *
 * f32 runs on the loops of simd/vector.c, any strides; f64 on plain loops with the C library's
 * functions. Each element of a result is a function of its operands only, whatever the strides,
 * the chunks and the threads. The result may lie on the first input (on the cotangent, for
 * derivatives): each run is read before it is written.
 */
#include <math.h>

#include "cpu/loops.h"

/* ---- What an operation is in f32 ---- */

typedef struct {
    const ti_vector *vector;
    int which;
    float p, q;
    void (*f64)(int64_t n, char *const *x, const int64_t *step, double p, double q);
    double p64, q64;
} kernel;

static void run_one(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const kernel *k = arg;

    if (step[1]) {
        k->vector->one[k->which](n, (const float *)(void *)x[1], (float *)(void *)x[0], k->p, k->q);
        return;
    }
    float *y = (float *)(void *)x[0], v; /* a repeated input: one value, many times */
    k->vector->one[k->which](1, (const float *)(void *)x[1], &v, k->p, k->q);
    for (int64_t i = 0; i < n; i++) y[i] = v;
}

static void run_two(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const kernel *k = arg;

    k->vector->two[k->which](n, (const float *)(void *)x[1], step[1], (const float *)(void *)x[2],
                             step[2], (float *)(void *)x[0], k->p);
}

static void run_f64(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const kernel *k = arg;

    k->f64(n, x, step, k->p64, k->q64);
}

/* ---- f64 ---- */

#define LOOP_1(name, expression)                                                                   \
    static void name(int64_t n, char *const *x_, const int64_t *step, double p, double q)          \
    {                                                                                              \
        const double *x1 = (const double *)(void *)x_[1];                                          \
        double *y = (double *)(void *)x_[0];                                                       \
        (void)p;                                                                                   \
        (void)q;                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const double x = x1[i * step[1]];                                                      \
            y[i] = expression;                                                                     \
        }                                                                                          \
    }
#define LOOP_2(name, expression)                                                                   \
    static void name(int64_t n, char *const *x_, const int64_t *step, double p, double q)          \
    {                                                                                              \
        const double *x1 = (const double *)(void *)x_[1], *x2 = (const double *)(void *)x_[2];     \
        double *y = (double *)(void *)x_[0];                                                       \
        (void)p;                                                                                   \
        (void)q;                                                                                   \
        for (int64_t i = 0; i < n; i++) {                                                          \
            const double a = x1[i * step[1]], b = x2[i * step[2]];                                 \
            y[i] = expression;                                                                     \
        }                                                                                          \
    }

LOOP_1(scale_64, x *p)
LOOP_1(shift_64, x + p)
LOOP_1(neg_64, -x)
LOOP_1(abs_64, fabs(x))
LOOP_1(square_64, x *x)
LOOP_1(reciprocal_64, 1 / x)
LOOP_1(pow_64, pow(x, p))
LOOP_1(clamp_64, (x < p ? p : x) > q ? q : (x < p ? p : x))
LOOP_1(exp_64, exp(x))
LOOP_1(log_64, log(x))
LOOP_1(sqrt_64, sqrt(x))
LOOP_1(rsqrt_64, 1 / sqrt(x))
LOOP_1(tanh_64, tanh(x))
LOOP_1(sigmoid_64, (x < 0 ? exp(x) : 1) / (1 + exp(-fabs(x))))
LOOP_1(relu_64, x <= 0 ? 0 : x)
LOOP_1(leaky_relu_64, x > 0 ? x : p * x)
LOOP_2(add_64, a + b)
LOOP_2(sub_64, a - b)
LOOP_2(mul_64, a *b)
LOOP_2(div_64, a / b)
LOOP_2(maximum_64, a > b || a != a ? a : b)
LOOP_2(minimum_64, a < b || a != a ? a : b)
LOOP_2(tanh_d_64, b *(1 - a * a))
LOOP_2(sigmoid_d_64, b *a *(1 - a))
LOOP_2(relu_d_64, a > 0 ? b : 0)
LOOP_2(leaky_relu_d_64, a > 0 ? b : p * b)
LOOP_2(power_64, pow(a, b))

/* ---- Options ---- */

static void no_options(const ti_work *w, kernel *k)
{
    (void)w;
    (void)k;
}

static void value_options(const ti_work *w, kernel *k)
{
    k->p64 = ((const tern_scalar_opts *)w->opts)->value;
    k->p = (float)k->p64;
}

static void slope_options(const ti_work *w, kernel *k)
{
    k->p64 = ((const tern_slope_opts *)w->opts)->slope;
    k->p = (float)k->p64;
}

static void clamp_options(const ti_work *w, kernel *k)
{
    const tern_clamp_opts *o = w->opts;

    k->p64 = o->has_min ? o->min : -INFINITY;
    k->q64 = o->has_max ? o->max : INFINITY;
    k->p = (float)k->p64;
    k->q = (float)k->q64;
}

static void gelu_options(const ti_work *w, kernel *k)
{
    if (((const tern_gelu_opts *)w->opts)->tanh)
        k->which = k->which == TI_V_GELU ? TI_V_GELU_TANH : TI_V_GELU_TANH_D;
}

/* The exponents that have loops of their own. */
static void pow_options(const ti_work *w, kernel *k)
{
    value_options(w, k);
    if (k->p64 == 2) k->f64 = square_64;
    if (k->p64 == -1) k->f64 = reciprocal_64;
    k->which = k->p64 == 2 ? TI_V_SQUARE : TI_V_RECIPROCAL;
}

/* ---- Rejections ---- */

static const char *all_of(const ti_work *w, tern_type type, const char *text)
{
    for (int i = 0; i < w->n_in; i++)
        if (w->in[i].m.type != type) return text;
    return w->out[0].m.type == type ? NULL : text;
}
static const char *not_f32(const ti_work *w) { return all_of(w, TERN_F32, "takes f32"); }
static const char *not_f64(const ti_work *w) { return all_of(w, TERN_F64, "takes f64"); }

/* An option that f32 cannot hold to its precision would change the result. */
static const char *not_f32_value(const ti_work *w)
{
    const double v = fabs(((const tern_scalar_opts *)w->opts)->value);

    if (v != 0 && (v > 0x1.fffffep127 || v < 0x1p-126)) return "the value is no normal f32";
    return not_f32(w);
}

static const char *not_f32_slope(const ti_work *w)
{
    const double v = fabs(((const tern_slope_opts *)w->opts)->slope);

    if (v != 0 && (v > 0x1.fffffep127 || v < 0x1p-126)) return "the slope is no normal f32";
    return not_f32(w);
}

static const char *not_f32_square(const ti_work *w)
{
    const double p = ((const tern_scalar_opts *)w->opts)->value;

    return p == 2 || p == -1 ? not_f32(w) : "takes exponents 2 and -1";
}

static int on_first(int i_out)
{
    (void)i_out;
    return 0;
}
static int on_second(int i_out)
{
    (void)i_out;
    return 1;
}

/* ---- Rows ---- */

/* name, index in the vector's table, inputs, options, nanoseconds an element costs. */
#define F32(name, which_, inputs, options, ns)                                                     \
    static void name##_f32(const ti_work *w)                                                       \
    {                                                                                              \
        kernel k = {.vector = ti_cpu_vector(w->device), .which = which_};                          \
        options(w, &k);                                                                            \
        ti_loop(w, inputs, false, ns, inputs == 1 ? run_one : run_two, &k);                        \
    }                                                                                              \
    static double name##_cost(const ti_work *w) { return ti_loop_cost(w, ns); }
#define F64(name, inputs, options, ns)                                                             \
    static void name##_f64(const ti_work *w)                                                       \
    {                                                                                              \
        kernel k = {.f64 = name##_64};                                                             \
        options(w, &k);                                                                            \
        ti_loop(w, inputs, false, ns, run_f64, &k);                                                \
    }                                                                                              \
    static double name##_cost_64(const ti_work *w) { return ti_loop_cost(w, ns); }
#define BOTH(name, which, inputs, options, ns, ns_64)                                              \
    F32(name, which, inputs, options, ns)                                                          \
    F64(name, inputs, options, ns_64)

BOTH(add, TI_V_ADD, 2, no_options, 0.2, 0.4)
BOTH(sub, TI_V_SUB, 2, no_options, 0.2, 0.4)
BOTH(mul, TI_V_MUL, 2, no_options, 0.2, 0.4)
BOTH(div, TI_V_DIV, 2, no_options, 0.3, 1)
BOTH(maximum, TI_V_MAXIMUM, 2, no_options, 0.2, 0.5)
BOTH(minimum, TI_V_MINIMUM, 2, no_options, 0.2, 0.5)
F64(power, 2, no_options, 40)
BOTH(scale, TI_V_SCALE, 1, value_options, 0.15, 0.3)
BOTH(shift, TI_V_SHIFT, 1, value_options, 0.15, 0.3)
BOTH(pow, TI_V_SQUARE, 1, pow_options, 0.2, 40)
BOTH(clamp, TI_V_CLAMP, 1, clamp_options, 0.15, 0.4)
BOTH(neg, TI_V_NEG, 1, no_options, 0.15, 0.3)
BOTH(abs, TI_V_ABS, 1, no_options, 0.15, 0.3)
F32(sign, TI_V_SIGN, 1, no_options, 0.15)
BOTH(exp, TI_V_EXP, 1, no_options, 0.4, 8)
BOTH(log, TI_V_LOG, 1, no_options, 0.5, 8)
BOTH(sqrt, TI_V_SQRT, 1, no_options, 0.3, 3)
BOTH(rsqrt, TI_V_RSQRT, 1, no_options, 0.5, 5)
F32(erf, TI_V_ERF, 1, no_options, 0.6)
BOTH(tanh, TI_V_TANH, 1, no_options, 0.6, 15)
BOTH(sigmoid, TI_V_SIGMOID, 1, no_options, 0.6, 15)
BOTH(tanh_d, TI_V_TANH_D, 2, no_options, 0.2, 0.5)
BOTH(sigmoid_d, TI_V_SIGMOID_D, 2, no_options, 0.2, 0.5)
BOTH(relu, TI_V_RELU, 1, no_options, 0.15, 0.3)
BOTH(relu_d, TI_V_RELU_D, 2, no_options, 0.2, 0.5)
BOTH(leaky_relu, TI_V_LEAKY_RELU, 1, slope_options, 0.15, 0.4)
BOTH(leaky_relu_d, TI_V_LEAKY_RELU_D, 2, slope_options, 0.2, 0.5)
F32(elu, TI_V_ELU, 1, slope_options, 0.5)
F32(elu_d, TI_V_ELU_D, 2, slope_options, 0.5)
F32(gelu, TI_V_GELU, 1, gelu_options, 0.8)
F32(gelu_d, TI_V_GELU_D, 2, gelu_options, 1.2)

#define ROW_32(name, reject_, alias)                                                               \
    {                                                                                              \
        .op = #name, .impl = "vector", .reject = reject_, .cost = name##_cost, .may_alias = alias, \
        .run = name##_f32                                                                          \
    }
#define ROW_64(name, alias)                                                                        \
    {                                                                                              \
        .op = #name, .impl = "loops_f64", .reject = not_f64, .cost = name##_cost_64,               \
        .may_alias = alias, .run = name##_f64                                                      \
    }
#define ROWS(name, reject, alias) ROW_32(name, reject, alias), ROW_64(name, alias)

const ti_row ti_cpu_elementwise[] = {
    ROWS(add, not_f32, on_first),
    ROWS(sub, not_f32, on_first),
    ROWS(mul, not_f32, on_first),
    ROWS(div, not_f32, on_first),
    ROWS(maximum, not_f32, on_first),
    ROWS(minimum, not_f32, on_first),
    ROW_64(power, on_first),
    ROWS(scale, not_f32_value, on_first),
    ROWS(shift, not_f32_value, on_first),
    ROWS(pow, not_f32_square, on_first),
    ROWS(clamp, not_f32, on_first),
    ROWS(neg, not_f32, on_first),
    ROWS(abs, not_f32, on_first),
    ROW_32(sign, not_f32, on_first),
    ROWS(exp, not_f32, on_first),
    ROWS(log, not_f32, on_first),
    ROWS(sqrt, not_f32, on_first),
    ROWS(rsqrt, not_f32, on_first),
    ROW_32(erf, not_f32, on_first),
    ROWS(tanh, not_f32, on_first),
    ROWS(sigmoid, not_f32, on_first),
    ROWS(tanh_d, not_f32, on_second),
    ROWS(sigmoid_d, not_f32, on_second),
    ROWS(relu, not_f32, on_first),
    ROWS(relu_d, not_f32, on_second),
    ROWS(leaky_relu, not_f32_slope, on_first),
    ROWS(leaky_relu_d, not_f32_slope, on_second),
    ROW_32(elu, not_f32_slope, on_first),
    ROW_32(elu_d, not_f32_slope, on_second),
    ROW_32(gelu, not_f32, on_first),
    ROW_32(gelu_d, not_f32, on_second),
    {.op = NULL},
};
