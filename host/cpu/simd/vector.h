/*
 * vector.h - elementwise loops and sums over runs of f32, compiled once for each instruction set.
 *
 *  - Runs may have any length and alignment. Results may lie exactly on an operand.
 *  - Nothing depends on threads or on how a tensor is cut into runs: element i of a result is a
 *    function of the elements i of the operands only.
 *  - Errors, the largest seen over a million floats of all sizes, in ulps of the exact result:
 *    exp 1.1, log 0.8, erf 1.1, elu 1.0, rsqrt 1.5, sigmoid 2.1, tanh 2.5; gelu 1.1 ulp of x.
 *    The arithmetic and sqrt are rounded once. Each error is a function of the operand alone.
 *  - NaN stays NaN. Subnormal operands and results are kept.
 */
#ifndef TI_CPU_VECTOR_H
#define TI_CPU_VECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* y = f(x; p, q) */
typedef enum {
    TI_V_SCALE, /* x p */
    TI_V_SHIFT, /* x + p */
    TI_V_NEG,
    TI_V_ABS,
    TI_V_SIGN,
    TI_V_SQUARE,
    TI_V_RECIPROCAL,
    TI_V_CLAMP, /* to p … q */
    TI_V_EXP,
    TI_V_LOG,
    TI_V_SQRT,
    TI_V_RSQRT,
    TI_V_ERF,
    TI_V_TANH,
    TI_V_SIGMOID,
    TI_V_RELU,
    TI_V_LEAKY_RELU, /* slope p */
    TI_V_ELU,        /* slope p */
    TI_V_GELU,
    TI_V_GELU_TANH,
    TI_V_ONES
} ti_v_one;

/* y = f(a, b; p) */
typedef enum {
    TI_V_ADD,
    TI_V_SUB,
    TI_V_MUL,
    TI_V_DIV,
    TI_V_MAXIMUM,
    TI_V_MINIMUM,
    TI_V_TANH_D,       /* b (1 - a a) */
    TI_V_SIGMOID_D,    /* b a (1 - a) */
    TI_V_RELU_D,       /* a > 0 ? b : 0 */
    TI_V_LEAKY_RELU_D, /* a > 0 ? b : p b */
    TI_V_ELU_D,        /* a > 0 ? b : p b exp a */
    TI_V_GELU_D,
    TI_V_GELU_TANH_D,
    TI_V_TWOS
} ti_v_two;

typedef struct ti_vector {
    const char *name; /* as in ti_simd */
    void (*one[TI_V_ONES])(int64_t n, const float *x, float *y, float p, float q);
    /* a_step, b_step: 1, or 0 for an operand that is one number. */
    void (*two[TI_V_TWOS])(int64_t n, const float *a, int64_t a_step, const float *b,
                           int64_t b_step, float *y, float p);
    /* y = c ? a : b, bytes c of 0 or 1, all of step 1. */
    void (*select)(int64_t n, const uint8_t *c, const float *a, const float *b, float *y);
    /* y[i][j] = x[j][i], i < m, j < n; bits as they are. */
    void (*transpose)(int64_t m, int64_t n, const float *x, int64_t x_step, float *y,
                      int64_t y_step);
    /* Sums in double: lanes of a fixed number, then a tree. Of x, and of (x - mean)^2. */
    double (*sum)(int64_t n, const float *x);
    double (*sum_squares)(int64_t n, const float *x, double mean);
    bool (*finite)(int64_t n, const float *x); /* all of them */
    /* to[i] += x[i], to[i] += (x[i] - mean[i])^2 */
    void (*add_to)(int64_t n, const float *x, double *to);
    void (*add_squares_to)(int64_t n, const float *x, const double *mean, double *to);
    /* Largest or smallest (sign -1) of x and `from`; NaN wins. n may be 0. */
    float (*largest)(int64_t n, const float *x, float from, int smallest);
    /* The same for each column: to[i] becomes x[i] where that wins. */
    void (*largest_to)(int64_t n, const float *x, double *to, int smallest);
} ti_vector;

extern const ti_vector ti_vector_portable;
#ifdef __x86_64__
extern const ti_vector ti_vector_avx2, ti_vector_avx512;
#endif

/* The table of the same instruction set as a ti_simd called `name`. */
static inline const ti_vector *ti_vector_for(const char *name)
{
#ifdef __x86_64__
    if (strcmp(name, "avx512") == 0) return &ti_vector_avx512;
    if (strcmp(name, "avx2") == 0) return &ti_vector_avx2;
#endif
    (void)name;
    return &ti_vector_portable;
}

#endif
