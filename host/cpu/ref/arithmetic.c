/*
 * arithmetic.c - reference for operations on two or three inputs, element by element.
 *
 * One body in double for f32 and f64; integers have rows of their own, exact and wrapping around.
 */
#include "cpu/ref/ref.h"

#define EACH for (int64_t i = 0; i < w->out[0].count; i++)
#define FLOATS(name, expression)                                                                   \
    static void name(const ti_work *w, ti_vec in, ti_vec out)                                      \
    {                                                                                              \
        EACH                                                                                       \
        {                                                                                          \
            const double a = in[0][ti_meet(w, 0, i)], b = in[1][ti_meet(w, 1, i)];                 \
            out[0][i] = expression;                                                                \
        }                                                                                          \
    }
#define INTEGERS(name, expression)                                                                 \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        const tern_type type = w->in[0].m.type, to = w->out[0].m.type;                             \
        EACH                                                                                       \
        {                                                                                          \
            const int64_t a = ti_load_integer(type, ti_element(&w->in[0], ti_meet(w, 0, i)));      \
            const int64_t b = ti_load_integer(type, ti_element(&w->in[1], ti_meet(w, 1, i)));      \
            ti_store_integer(to, ti_element(&w->out[0], i), expression);                           \
        }                                                                                          \
    }
#define BOTH(name, expression)                                                                     \
    FLOATS(name, expression)                                                                       \
    INTEGERS(name##_integers, expression)

FLOATS(add, a + b)
FLOATS(sub, a - b)
FLOATS(mul, a *b)
FLOATS(divide, a / b)
FLOATS(power, pow(a, b))
FLOATS(maximum, a > b || a != a ? a : b)
FLOATS(minimum, a < b || a != a ? a : b)
INTEGERS(add_integers, (int64_t)((uint64_t)a + (uint64_t)b))
INTEGERS(sub_integers, (int64_t)((uint64_t)a - (uint64_t)b))
INTEGERS(mul_integers, (int64_t)((uint64_t)a *(uint64_t)b))
INTEGERS(maximum_integers, a > b ? a : b)
INTEGERS(minimum_integers, a < b ? a : b)
BOTH(eq, a == b)
BOTH(ne, a != b)
BOTH(lt, a < b)
BOTH(le, a <= b)
BOTH(gt, a > b)
BOTH(ge, a >= b)

/* cond ? a : b, bytes as they are. */
static void where(const ti_work *w)
{
    const size_t size = tern_type_size(w->out[0].m.type);

    EACH
    {
        const int k = *ti_element(&w->in[0], ti_meet(w, 0, i)) ? 1 : 2;
        memcpy(ti_element(&w->out[0], i), ti_element(&w->in[k], ti_meet(w, k, i)), size);
    }
}

#define ROWS(name)                                                                                 \
    {.op = #name, .impl = "ref", .reject = ti_only_floats, .body = name},                          \
    {                                                                                              \
        .op = #name, .impl = "ref_integers", .reject = ti_only_integers, .run = name##_integers    \
    }

const ti_row ti_ref_arithmetic[] = {
    ROWS(add),
    ROWS(sub),
    ROWS(mul),
    {.op = "div", .impl = "ref", .body = divide},
    {.op = "power", .impl = "ref", .body = power},
    ROWS(maximum),
    ROWS(minimum),
    ROWS(eq),
    ROWS(ne),
    ROWS(lt),
    ROWS(le),
    ROWS(gt),
    ROWS(ge),
    {.op = "where", .impl = "ref", .run = where},
    {.op = NULL},
};
