/*
 * vector.c - elementwise loops and sums over runs of f32 (vector.h), in plain C that compilers
 * vectorise: no branches, selects only. exp, tanh and sigmoid are in functions.h.
 */
#include "cpu/simd/vector.h"

#include <math.h>
#include <stddef.h>

#include "cpu/simd/eights.h"
#include "cpu/simd/functions.h"

/* x = 2^e (1 + f), f in sqrt(1/2)-1 … sqrt(2)-1; log(1 + f) = f - f^2/2 + f^3 q(f) (Moshier's
 * Cephes). */
INLINE float f_log(float x)
{
    const float up = x < 0x1p-126f ? x * 0x1p23f : x;
    const uint32_t u = bits(up) - 0x3f3504f3u; /* sqrt(1/2) becomes exponent 0 */
    const float e = (float)((int32_t)u >> 23) - (x < 0x1p-126f ? 23.0f : 0.0f);
    const float f = from_bits((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f, ff = f * f;
    float q = 7.0376836292e-2f;

    q = FMA(q, f, -1.1514610310e-1f);
    q = FMA(q, f, 1.1676998740e-1f);
    q = FMA(q, f, -1.2420140846e-1f);
    q = FMA(q, f, 1.4249322787e-1f);
    q = FMA(q, f, -1.6668057665e-1f);
    q = FMA(q, f, 2.0000714765e-1f);
    q = FMA(q, f, -2.4999993993e-1f);
    q = FMA(q, f, 3.3333331174e-1f);
    q = FMA(q, ff * f, e * -2.12194440e-4f);
    float y = FMA(e, 0.693359375f, FMA(-0.5f, ff, q) + f);
    y = x > 0x1.fffffep127f ? x : y;
    y = x == 0 ? -INFINITY : y;
    y = x < 0 ? NAN : y;
    return x != x ? x : y;
}

/* x + x q(x^2) up to 0.93, 1 - exp(q(|x|)) beyond (after N. Juffa). */
INLINE float f_erf(float x)
{
    const float s = x * x, t = fabsf(x), cut = t > 5.0f ? 5.0f : t;
    float r = FMA(-1.72853470e-5f, cut, 3.83197126e-4f);
    float q = -5.96761703e-4f;

    r = FMA(r, cut * cut, FMA(-3.88396438e-3f, cut, 2.42546219e-2f));
    r = FMA(r, cut, -1.06777877e-1f);
    r = FMA(r, cut, -6.34846687e-1f);
    r = FMA(r, cut, -1.28717512e-1f);
    r = copysignf(1.0f - f_exp(FMA(r, cut, -cut)), x);
    q = FMA(q, s, 4.99119423e-3f);
    q = FMA(q, s, -2.67681349e-2f);
    q = FMA(q, s, 1.12819925e-1f);
    q = FMA(q, s, -3.76125336e-1f);
    q = FMA(q, s, 1.28379166e-1f);
    q = FMA(q, x, x);
    return t > 0.927734375f ? r : q;
}

INLINE float f_sign(float x)
{
    const float s = (x > 0 ? 1.0f : 0.0f) - (x < 0 ? 1.0f : 0.0f);

    return x != x ? x : s;
}

/* x cut to -100 … 100, where all factors have reached their limits and nothing overflows. */
INLINE float near(float x)
{
    const float up = x < -100.0f ? -100.0f : x;

    return up > 100.0f ? 100.0f : up;
}

INLINE float f_elu(float x, float slope)
{
    float low = x < -60.0f ? -60.0f : x;

    low = low > 0 ? 0.0f : low;
    const float y = slope * exp_less_one(low);
    return x > 0 ? x : x == 0 ? slope * x : y;
}

INLINE float f_elu_d(float x, float g, float slope)
{
    const float low = x > 0 ? 0.0f : x, y = slope * f_exp(low) * g;

    return x > 0 ? g : y;
}

INLINE float f_gelu(float x)
{
    const float left = x < -100.0f ? -100.0f : x;

    return 0.5f * left * (1.0f + f_erf(left * 0x1.6a09e6p-1f));
}

INLINE float f_gelu_d(float x, float g)
{
    const float c = near(x), density = 0x1.988454p-2f * f_exp(-0.5f * c * c);

    return g * FMA(c, density, 0.5f * (1.0f + f_erf(c * 0x1.6a09e6p-1f)));
}

/* sqrt(2/pi) (x + 0.044715 x^3) */
INLINE float gelu_inner(float x) { return x * FMA(0x1.2444dep-5f, x * x, 0x1.988454p-1f); }

INLINE float f_gelu_tanh(float x)
{
    const float left = x < -100.0f ? -100.0f : x;

    return 0.5f * left * (1.0f + f_tanh(gelu_inner(left)));
}

INLINE float f_gelu_tanh_d(float x, float g)
{
    const float c = near(x), t = f_tanh(gelu_inner(c));
    const float slope = FMA(0x1.b6674dp-4f, c * c, 0x1.988454p-1f);

    return g * (0.5f * (1.0f + t) + 0.5f * c * FMA(-t, t, 1.0f) * slope);
}

/* ---- Loops ---- */

#define ONE(name, expression)                                                                      \
    static void one_##name(int64_t n, const float *xs, float *ys, float p, float q)                \
    {                                                                                              \
        (void)p;                                                                                   \
        (void)q;                                                                                   \
        INDEPENDENT for (int64_t i = 0; i < n; i++)                                                \
        {                                                                                          \
            const float x = xs[i];                                                                 \
            ys[i] = expression;                                                                    \
        }                                                                                          \
    }
#define TWO(name, expression)                                                                      \
    static void two_##name(int64_t n, const float *as, int64_t a_step, const float *bs,            \
                           int64_t b_step, float *ys, float p)                                     \
    {                                                                                              \
        (void)p;                                                                                   \
        if (a_step && b_step) {                                                                    \
            INDEPENDENT for (int64_t i = 0; i < n; i++)                                            \
            {                                                                                      \
                const float a = as[i], b = bs[i];                                                  \
                ys[i] = expression;                                                                \
            }                                                                                      \
        } else if (a_step) {                                                                       \
            const float b = *bs;                                                                   \
            INDEPENDENT for (int64_t i = 0; i < n; i++)                                            \
            {                                                                                      \
                const float a = as[i];                                                             \
                ys[i] = expression;                                                                \
            }                                                                                      \
        } else {                                                                                   \
            const float a = *as;                                                                   \
            INDEPENDENT for (int64_t i = 0; i < n; i++)                                            \
            {                                                                                      \
                const float b = bs[i * b_step];                                                    \
                ys[i] = expression;                                                                \
            }                                                                                      \
        }                                                                                          \
    }

ONE(scale, x *p)
ONE(shift, x + p)
ONE(neg, -x)
ONE(abs, fabsf(x))
ONE(sign, f_sign(x))
ONE(square, x *x)
ONE(reciprocal, 1.0f / x)
ONE(clamp, (x < p ? p : x) > q ? q : (x < p ? p : x))
ONE(exp, f_exp(x))
ONE(log, f_log(x))
ONE(sqrt, sqrtf(x))
ONE(rsqrt, 1.0f / sqrtf(x))
ONE(erf, f_erf(x))
ONE(tanh, f_tanh(x))
ONE(sigmoid, f_sigmoid(x))
ONE(relu, x <= 0 ? 0.0f : x)
ONE(leaky_relu, x > 0 ? x : p * x)
ONE(elu, f_elu(x, p))
ONE(gelu, f_gelu(x))
ONE(gelu_tanh, f_gelu_tanh(x))

TWO(add, a + b)
TWO(sub, a - b)
TWO(mul, a *b)
TWO(div, a / b)
TWO(maximum, a > b ? a : (a != a ? a : b))
TWO(minimum, a < b ? a : (a != a ? a : b))
TWO(tanh_d, b *FMA(-a, a, 1.0f))
TWO(sigmoid_d, b *a *(1.0f - a))
TWO(relu_d, a > 0 ? b : 0.0f)
TWO(leaky_relu_d, a > 0 ? b : p * b)
TWO(elu_d, f_elu_d(a, b, p))
TWO(gelu_d, f_gelu_d(a, b))
TWO(gelu_tanh_d, f_gelu_tanh_d(a, b))

static void choose(int64_t n, const uint8_t *c, const float *a, const float *b, float *y)
{
    INDEPENDENT for (int64_t i = 0; i < n; i++)
    {
        const float s = a[i], t = b[i];
        y[i] = c[i] ? s : t;
    }
}

/* Squares of VL x VL in registers, the rest element by element. */
static void transpose(int64_t m, int64_t n, const float *x, int64_t x_step, float *y,
                      int64_t y_step)
{
    const int64_t m_whole = m - m % VL, n_whole = n - n % VL;

    for (int64_t i = 0; i < m_whole; i += VL)
        for (int64_t j = 0; j < n_whole; j += VL) {
            vf r[VL];
            UNROLL for (int k = 0; k < VL; k++) r[k] = v_load(x + (j + k) * x_step + i);
            v_transpose(r);
            UNROLL for (int k = 0; k < VL; k++) v_store(y + (i + k) * y_step + j, r[k]);
        }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = i < m_whole ? n_whole : 0; j < n; j++)
            memcpy(y + i * y_step + j, x + j * x_step + i, sizeof *y);
}

/* ---- Sums: four accumulators of eight doubles, the same on every instruction set ---- */

/* acc += eight floats */
#define ADD_EIGHT(acc, x)                                                                          \
    do {                                                                                           \
        GET(f8, v_, x);                                                                            \
        acc += __builtin_convertvector(v_, d8);                                                    \
    } while (0)

INLINE double total(const d8 acc[4])
{
    const d8 s = (acc[0] + acc[1]) + (acc[2] + acc[3]);

    return total_of(&s);
}

static double sum(int64_t n, const float *x)
{
    d8 acc[4] = {{0}};
    double rest = 0;

    for (; n >= 32; n -= 32, x += 32) {
        ADD_EIGHT(acc[0], x);
        ADD_EIGHT(acc[1], x + 8);
        ADD_EIGHT(acc[2], x + 16);
        ADD_EIGHT(acc[3], x + 24);
    }
    for (; n >= 8; n -= 8, x += 8) ADD_EIGHT(acc[0], x);
    for (; n > 0; n--) rest += *x++;
    return total(acc) + rest;
}

static double sum_squares(int64_t n, const float *x, double mean)
{
    d8 acc[4] = {{0}};
    double rest = 0;

    for (; n >= 32; n -= 32, x += 32)
        for (int k = 0; k < 4; k++) {
            d8 z = -(d8){mean, mean, mean, mean, mean, mean, mean, mean};
            ADD_EIGHT(z, x + 8 * k);
            acc[k] += z * z;
        }
    for (; n > 0; n--, x++) rest += (*x - mean) * (*x - mean);
    return total(acc) + rest;
}

/* Without its sign, an infinity or a NaN is larger than the bits of any finite number. */
static bool finite_all(int64_t n, const float *x)
{
    uint32_t most = 0;

    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = bits(x[i]) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    return most < 0x7f800000u;
}

static void add_to(int64_t n, const float *x, double *to)
{
    INDEPENDENT for (int64_t i = 0; i < n; i++) to[i] += (double)x[i];
}

static void add_squares_to(int64_t n, const float *x, const double *mean, double *to)
{
    INDEPENDENT for (int64_t i = 0; i < n; i++)
    {
        const double z = (double)x[i] - mean[i];
        to[i] += z * z;
    }
}

/* Once a lane holds NaN nothing compares with it, and it stays. Selects of vectors are masks: C has
 * no ?: for them everywhere. */
typedef int32_t i8 __attribute__((vector_size(32)));
#define BETTER(v, x, compare)                                                                      \
    do {                                                                                           \
        f8 x_;                                                                                     \
        memcpy(&x_, x, sizeof x_);                                                                 \
        const i8 wins = (x_ compare v) | (x_ != x_);                                               \
        v = (f8)((wins & (i8)x_) | (~wins & (i8)v));                                               \
    } while (0)
#define BEST(name, compare)                                                                        \
    static float name(int64_t n, const float *x, float from)                                       \
    {                                                                                              \
        f8 v = {from, from, from, from, from, from, from, from}, v2 = v;                           \
        float lane[16], best = from;                                                               \
        const bool wide = n >= 16;                                                                 \
        for (; n >= 16; n -= 16, x += 16) {                                                        \
            BETTER(v, x, compare);                                                                 \
            BETTER(v2, x + 8, compare);                                                            \
        }                                                                                          \
        for (; n > 0; n--, x++) best = *x compare best || *x != *x ? *x : best;                    \
        memcpy(lane, &v, sizeof v);                                                                \
        memcpy(lane + 8, &v2, sizeof v2);                                                          \
        for (int k = 0; wide && k < 16; k++)                                                       \
            best = lane[k] compare best || lane[k] != lane[k] ? lane[k] : best;                    \
        return best;                                                                               \
    }
BEST(best_up, >)
BEST(best_down, <)

static float largest(int64_t n, const float *x, float from, int smallest)
{
    return smallest ? best_down(n, x, from) : best_up(n, x, from);
}

static void largest_to(int64_t n, const float *x, double *to, int smallest)
{
    if (smallest) {
        INDEPENDENT for (int64_t i = 0; i < n; i++)
        {
            const double v = (double)x[i], best = v < to[i] ? v : to[i];
            to[i] = v != v ? v : best;
        }
    } else {
        INDEPENDENT for (int64_t i = 0; i < n; i++)
        {
            const double v = (double)x[i], best = v > to[i] ? v : to[i];
            to[i] = v != v ? v : best;
        }
    }
}

const ti_vector TI_SIMD(ti_vector) = {
    .name = TI_ISA_NAME,
    .one = {one_scale,  one_shift,      one_neg,   one_abs,  one_sign,
            one_square, one_reciprocal, one_clamp, one_exp,  one_log,
            one_sqrt,   one_rsqrt,      one_erf,   one_tanh, one_sigmoid,
            one_relu,   one_leaky_relu, one_elu,   one_gelu, one_gelu_tanh},
    .two = {two_add, two_sub, two_mul, two_div, two_maximum, two_minimum, two_tanh_d, two_sigmoid_d,
            two_relu_d, two_leaky_relu_d, two_elu_d, two_gelu_d, two_gelu_tanh_d},
    .select = choose,
    .transpose = transpose,
    .sum = sum,
    .sum_squares = sum_squares,
    .finite = finite_all,
    .add_to = add_to,
    .add_squares_to = add_squares_to,
    .largest = largest,
    .largest_to = largest_to,
};
