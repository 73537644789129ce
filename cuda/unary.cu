/*
 * unary.cu - kernels on one input, element by element: y = f(x; p, q), and those of two inputs that
 * do not broadcast (derivatives).
 *
 * One thread an element or 16 bytes of them, over any strides (nest.cuh).
 */
#include "base/rounding.h"
#include "math.cuh"
#include "nest.cuh"

/* Options as numbers: p, q. */
typedef struct {
    double p, q;
    bool has_p, has_q;
} numbers;

static numbers none_of(const ti_work *w)
{
    (void)w;
    return numbers{0, 0, false, false};
}
static numbers value_of(const ti_work *w)
{
    return numbers{ti_opts<tern_scalar_opts>(w).value, 0, true, false};
}
static numbers slope_of(const ti_work *w)
{
    return numbers{ti_opts<tern_slope_opts>(w).slope, 0, true, false};
}
static numbers tanh_of(const ti_work *w)
{
    return numbers{0, 0, ti_opts<tern_gelu_opts>(w).tanh != 0, false};
}
static numbers limits_of(const ti_work *w)
{
    const tern_clamp_opts &o = ti_opts<tern_clamp_opts>(w);

    return numbers{o.min, o.max, o.has_min != 0, o.has_max != 0};
}

static numbers format_of(const ti_work *w)
{
    return numbers{double(ti_opts<tern_round_to_opts>(w).to), 0, true, false};
}
static inline __device__ double rounded(double x, int to) { return ti_round_f64(to, x); }
static inline __device__ float rounded(float x, int to)
{
    return to == TERN_MATH_TF32   ? ti_round_tf32(x)
           : to == TERN_MATH_BF16 ? ti_round_bf16(x)
           : to == TERN_MATH_F16  ? ti_round_f16(x)
                                  : x;
}

static unsigned grid_of(const ti_nest &e)
{
    return ti_grid(e.vector ? (e.count + 3) / 4 : e.count);
}

/* name(x) for elements of type T, results of type R; o: numbers. */
#define ONE(name, R, numbers_, expression)                                                         \
    template <class T>                                                                             \
    static __global__ void name##_kernel(const ti_nest e, R *y, const T *x_, const numbers o)      \
    {                                                                                              \
        ti_each(e, y, x_, [o](T x) -> R {                                                          \
            (void)o;                                                                               \
            return expression;                                                                     \
        });                                                                                        \
    }                                                                                              \
    template <class T> static void name##_as(const ti_work *w)                                     \
    {                                                                                              \
        const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], NULL, NULL);                           \
        TI_LAUNCH(name##_kernel<T>, grid_of(e), TI_BLOCK, 0, ti_cuda_stream(w), e,                 \
                  ti_at<R>(w->out[0]), ti_at<T>(w->in[0]), numbers_(w));                           \
        ti_launched(w);                                                                            \
    }
#define FLOATS(name, R, numbers_, expression)                                                      \
    ONE(name, R, numbers_, expression)                                                             \
    TI_FLOAT_ROW(name, w->in[0])
/* x and g, or y and g. */
#define TWO(name, numbers_, expression)                                                            \
    template <class T>                                                                             \
    static __global__ void name##_kernel(const ti_nest e, T *y, const T *x_, const T *g_,          \
                                         const numbers o)                                          \
    {                                                                                              \
        ti_each(e, y, x_, g_, [o](T x, T g) -> T {                                                 \
            (void)o;                                                                               \
            return expression;                                                                     \
        });                                                                                        \
    }                                                                                              \
    template <class T> static void name##_as(const ti_work *w)                                     \
    {                                                                                              \
        const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], &w->in[1], NULL);                      \
        TI_LAUNCH(name##_kernel<T>, grid_of(e), TI_BLOCK, 0, ti_cuda_stream(w), e,                 \
                  ti_at<T>(w->out[0]), ti_at<T>(w->in[0]), ti_at<T>(w->in[1]), numbers_(w));       \
        ti_launched(w);                                                                            \
    }                                                                                              \
    TI_FLOAT_ROW(name, w->in[0])

/* ---- Functions ---- */

template <class T> static inline __device__ T clamped(T x, const numbers &o)
{
    if (o.has_p && x < T(o.p)) x = T(o.p);
    if (o.has_q && x > T(o.q)) x = T(o.q);
    return x;
}

/* Whole exponents of everyday use by products, all others by the library in f64. */
static inline __device__ double power_of(double x, double p)
{
    return p == 2 ? x * x : p == 1 ? x : p == 0.5 && x > 0 ? sqrt(x) : pow(x, p);
}

static const double root_half = 0.70710678118654752, density = 0.39894228040143268;
static const double tanh_k = 0.79788456080286536, cubic = 0.044715; /* sqrt(2/pi) */

/* x Phi(x), Phi by erfc on the left, where it keeps the tail. Infinities are limits. */
template <class T> static inline __device__ T share(T x) /* Phi */
{
    const T z = x * T(root_half);

    return x < 0 ? T(0.5) * ti_erfc(-z) : T(0.5) + T(0.5) * ti_erf(z);
}
template <class T> static inline __device__ T gelu_of(T x, bool by_tanh)
{
    if (x == -INFINITY) return -T(0);
    if (!by_tanh) return x * share(x);
    return T(0.5) * x * (T(1) + ti_tanh(T(tanh_k) * (x + T(cubic) * x * x * x)));
}
template <class T> static inline __device__ T gelu_slope(T x, bool by_tanh)
{
    if (ti_abs(x) > T(100)) return x > 0;
    if (!by_tanh) return share(x) + x * T(density) * ti_exp(T(-0.5) * x * x);
    const T t = ti_tanh(T(tanh_k) * (x + T(cubic) * x * x * x));
    return T(0.5) * (T(1) + t) +
           T(0.5) * x * (T(1) - t * t) * T(tanh_k) * (T(1) + T(3 * cubic) * x * x);
}

/* Integers wrap around, as unsigned numbers do. */
ONE(scale, T, value_of, (T)(x *T(o.p)))
ONE(shift, T, value_of, (T)(x + T(o.p)))
ONE(scale_whole, T, value_of, (T)((uint64_t)x *(uint64_t)(int64_t)o.p))
ONE(shift_whole, T, value_of, (T)((uint64_t)x + (uint64_t)(int64_t)o.p))
TI_FLOAT_ROW(scale, w->in[0])
TI_FLOAT_ROW(shift, w->in[0])
static void scale_integers(const ti_work *w)
{
    if (ti_is(w->in[0], TERN_I64)) scale_whole_as<int64_t>(w);
    else scale_whole_as<int32_t>(w);
}
static void shift_integers(const ti_work *w)
{
    if (ti_is(w->in[0], TERN_I64)) shift_whole_as<int64_t>(w);
    else shift_whole_as<int32_t>(w);
}

FLOATS(to_power, T, value_of, T(power_of(double(x), o.p)))
FLOATS(clamp, T, limits_of, clamped(x, o))
FLOATS(neg, T, none_of, -x)
FLOATS(absolute, T, none_of, ti_abs(x))
FLOATS(sign, T, none_of, x > 0 ? T(1) : x < 0 ? T(-1) : x != x ? x : T(0))
FLOATS(exponential, T, none_of, ti_exp(x))
FLOATS(logarithm, T, none_of, ti_log(x))
FLOATS(root, T, none_of, ti_sqrt(x))
FLOATS(inverse_root, T, none_of, ti_rsqrt(x))
FLOATS(error_function, T, none_of, ti_erf(x))
FLOATS(tangent, T, none_of, ti_tanh(x))
FLOATS(sigmoid, T, none_of, ti_sigmoid(x))
FLOATS(round_to, T, format_of, rounded(x, (int)o.p))
FLOATS(is_finite, uint8_t, none_of, ti_finite(x))
TWO(tanh_d, none_of, g *(T(1) - x * x))
TWO(sigmoid_d, none_of, g *x *(T(1) - x))

FLOATS(relu, T, none_of, x > 0 || x != x ? x : T(0))
FLOATS(leaky_relu, T, slope_of, x > 0 ? x : T(o.p) * x)
FLOATS(elu, T, slope_of, x > 0 ? x : T(o.p) * ti_expm1(x))
FLOATS(gelu, T, tanh_of, gelu_of(x, o.has_p))
TWO(relu_d, none_of, x > 0 ? g : T(0))
TWO(leaky_relu_d, slope_of, x > 0 ? g : T(o.p) * g)
TWO(elu_d, slope_of, x > 0 ? g : T(o.p) * ti_exp(x) * g)
TWO(gelu_d, tanh_of, g *gelu_slope(x, o.has_p))

/* ---- Rows ---- */

static const char *only_integers(const ti_work *w)
{
    return TI_INDICES >> w->in[0].m.type & 1 ? NULL : "takes i64 and i32";
}

#define ROW(op_, name)                                                                             \
    {                                                                                              \
        .op = op_, .impl = "loop", .reject = ti_only_floats, .cost = ti_moved_cost,                \
        .may_alias = ti_on_first, .run = name                                                      \
    }
#define INTEGERS(op_, name)                                                                        \
    {                                                                                              \
        .op = op_, .impl = "loop_integers", .reject = only_integers, .cost = ti_moved_cost,        \
        .may_alias = ti_on_first, .run = name                                                      \
    }

TI_KERNELS(ti_cuda_unary) = {
    ROW("scale", scale),
    INTEGERS("scale", scale_integers),
    ROW("shift", shift),
    INTEGERS("shift", shift_integers),
    ROW("pow", to_power),
    ROW("clamp", clamp),
    ROW("neg", neg),
    ROW("abs", absolute),
    ROW("sign", sign),
    ROW("exp", exponential),
    ROW("log", logarithm),
    ROW("sqrt", root),
    ROW("rsqrt", inverse_root),
    ROW("erf", error_function),
    ROW("tanh", tangent),
    ROW("tanh_d", tanh_d),
    ROW("sigmoid", sigmoid),
    ROW("sigmoid_d", sigmoid_d),
    ROW("round_to", round_to),
    {.op = "is_finite", .impl = "loop", .cost = ti_moved_cost, .run = is_finite},
    ROW("relu", relu),
    ROW("relu_d", relu_d),
    ROW("leaky_relu", leaky_relu),
    ROW("leaky_relu_d", leaky_relu_d),
    ROW("elu", elu),
    ROW("elu_d", elu_d),
    ROW("gelu", gelu),
    ROW("gelu_d", gelu_d),
    {.op = NULL},
};
