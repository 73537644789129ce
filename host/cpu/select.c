/*
 * select.c - CPU kernels for comparisons and where, and for power and pow in f32.
 *
 * Comparisons of f32, f64, i64 and i32 give bytes; where moves elements of 1, 4 and 8 bytes as
 * they are; powers are the C library's, in double for f32.
 */
#include <math.h>

#include "cpu/loops.h"

typedef void (*loop_fn)(int64_t n, char *const *x, const int64_t *step);
typedef struct {
    loop_fn loop;
    double p;
} kernel;

static void run(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    ((const kernel *)arg)->loop(n, x, step);
}

static double cost(const ti_work *w) { return ti_loop_cost(w, 0.5); }

/* ---- Comparisons ---- */

#define COMPARE(name, type, operator)                                                              \
    static void name(int64_t n, char *const *x, const int64_t *step)                               \
    {                                                                                              \
        const type *a = (const type *)(void *)x[1], *b = (const type *)(void *)x[2];               \
        char *y = x[0];                                                                            \
        if (step[1] && step[2])                                                                    \
            for (int64_t i = 0; i < n; i++) y[i] = a[i] operator b[i];                             \
        else                                                                                       \
            for (int64_t i = 0; i < n; i++) y[i] = a[i * step[1]] operator b[i * step[2]];         \
    }
#define COMPARISON(name, operator)                                                                 \
    COMPARE(name##_f32, float, operator)                                                           \
    COMPARE(name##_f64, double, operator)                                                          \
    COMPARE(name##_i64, int64_t, operator)                                                         \
    COMPARE(name##_i32, int32_t, operator)                                                         \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        const tern_type t = w->in[0].m.type;                                                       \
        const kernel k = {t == TERN_F32   ? name##_f32                                             \
                          : t == TERN_F64 ? name##_f64                                             \
                          : t == TERN_I64 ? name##_i64                                             \
                                          : name##_i32};                                           \
        ti_loop(w, 2, false, 0.5, run, &k);                                                        \
    }
COMPARISON(eq, ==)
COMPARISON(ne, !=)
COMPARISON(lt, <)
COMPARISON(le, <=)
COMPARISON(gt, >)
COMPARISON(ge, >=)

/* ---- where ---- */

#define WHERE(name, type)                                                                          \
    static void name(int64_t n, char *const *x, const int64_t *step)                               \
    {                                                                                              \
        const type *a = (const type *)(void *)x[2], *b = (const type *)(void *)x[3];               \
        type *y = (type *)(void *)x[0];                                                            \
        const uint8_t *c = (const uint8_t *)(void *)x[1];                                          \
        for (int64_t i = 0; i < n; i++) y[i] = c[i * step[1]] ? a[i * step[2]] : b[i * step[3]];   \
    }
WHERE(where_8, uint64_t)
WHERE(where_1, uint8_t)

static void run_where_4(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    (void)step;
    ((const ti_vector *)arg)
        ->select(n, (const uint8_t *)(void *)x[1], (const float *)(void *)x[2],
                 (const float *)(void *)x[3], (float *)(void *)x[0]);
}

static const char *where_reject(const ti_work *w)
{
    return tern_type_size(w->out[0].m.type) == 2 ? "takes elements of 1, 4 and 8 bytes" : NULL;
}

static void where(const ti_work *w)
{
    const size_t size = tern_type_size(w->out[0].m.type);
    const kernel k = {size == 8 ? where_8 : where_1};

    if (size == 4) ti_loop(w, 3, true, 0.3, run_where_4, ti_cpu_vector(w->device));
    else ti_loop(w, 3, false, 0.5, run, &k);
}

/* ---- is_finite ---- */

static void finite_f32(int64_t n, char *const *x, const int64_t *step)
{
    const float *a = (const float *)(void *)x[1];

    for (int64_t i = 0; i < n; i++) x[0][i] = fabsf(a[i * step[1]]) <= 0x1.fffffep127f;
}
static void finite_f64(int64_t n, char *const *x, const int64_t *step)
{
    const double *a = (const double *)(void *)x[1];

    for (int64_t i = 0; i < n; i++) x[0][i] = fabs(a[i * step[1]]) <= 0x1.fffffffffffffp1023;
}
static void is_finite(const ti_work *w)
{
    const kernel k = {w->in[0].m.type == TERN_F32 ? finite_f32 : finite_f64};

    ti_loop(w, 1, false, 0.5, run, &k);
}

/* ---- Powers of f32 ---- */

static void run_power(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const float *a = (const float *)(void *)x[1], *b = (const float *)(void *)x[2];
    float *y = (float *)(void *)x[0];

    (void)arg;
    for (int64_t i = 0; i < n; i++) y[i] = (float)pow(a[i * step[1]], b[i * step[2]]);
}
static void run_pow(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const double p = ((const kernel *)arg)->p;
    const float *a = (const float *)(void *)x[1];
    float *y = (float *)(void *)x[0];

    for (int64_t i = 0; i < n; i++) y[i] = (float)pow(a[i * step[1]], p);
}
static void power(const ti_work *w) { ti_loop(w, 2, false, 25, run_power, NULL); }
static void to_power(const ti_work *w)
{
    const kernel k = {NULL, ((const tern_scalar_opts *)w->opts)->value};

    ti_loop(w, 1, false, 25, run_pow, &k);
}
static const char *not_f32(const ti_work *w)
{
    return w->in[0].m.type == TERN_F32 ? NULL : "takes f32";
}
static double power_cost(const ti_work *w) { return ti_loop_cost(w, 25); }
static int on_first(int i_out)
{
    (void)i_out;
    return 0;
}

#define COMPARING(name)                                                                            \
    {                                                                                              \
        .op = #name, .impl = "loops", .cost = cost, .run = name                                    \
    }

const ti_row ti_cpu_select[] = {
    COMPARING(eq),
    COMPARING(ne),
    COMPARING(lt),
    COMPARING(le),
    COMPARING(gt),
    COMPARING(ge),
    {.op = "where", .impl = "loops", .reject = where_reject, .cost = cost, .run = where},
    {.op = "is_finite", .impl = "loops", .cost = cost, .run = is_finite},
    {.op = "power",
     .impl = "loops",
     .reject = not_f32,
     .cost = power_cost,
     .may_alias = on_first,
     .run = power},
    {.op = "pow",
     .impl = "loops",
     .reject = not_f32,
     .cost = power_cost,
     .may_alias = on_first,
     .run = to_power},
    {.op = NULL},
};
