/*
 * arithmetic.cu - kernels on two or three inputs that broadcast, element by element.
 *
 * One thread an element or 16 bytes of them, over any strides (nest.cuh); integers wrap around.
 */
#include "math.cuh"
#include "nest.cuh"

#define KERNEL(name, R, expression)                                                                \
    template <class T>                                                                             \
    static __global__ void name##_kernel(const ti_nest e, R *y, const T *a_, const T *b_)          \
    {                                                                                              \
        ti_each(e, y, a_, b_, [](T a, T b) -> R { return expression; });                           \
    }                                                                                              \
    template <class T> static void name##_as(const ti_work *w)                                     \
    {                                                                                              \
        const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], &w->in[1], NULL);                      \
        TI_LAUNCH(name##_kernel<T>, ti_grid(e.vector ? (e.count + 3) / 4 : e.count), TI_BLOCK, 0,  \
                  ti_cuda_stream(w), e, ti_at<R>(w->out[0]), ti_at<T>(w->in[0]),                   \
                  ti_at<T>(w->in[1]));                                                             \
        ti_launched(w);                                                                            \
    }
#define FLOATS(name, expression)                                                                   \
    KERNEL(name, T, expression)                                                                    \
    TI_FLOAT_ROW(name, w->in[0])
/* whole: what integers do, if they do it otherwise. */
#define NUMBERS(name, R, expression, whole)                                                        \
    KERNEL(name, R, expression)                                                                    \
    KERNEL(name##_whole, R, whole)                                                                 \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        switch (w->in[0].m.type) {                                                                 \
        case TERN_F32: name##_as<float>(w); break;                                                 \
        case TERN_F64: name##_as<double>(w); break;                                                \
        case TERN_I64: name##_whole_as<int64_t>(w); break;                                         \
        default: name##_whole_as<int32_t>(w);                                                      \
        }                                                                                          \
    }
#define COMPARISON(name, operator) NUMBERS(name, uint8_t, a operator b, a operator b)

NUMBERS(add, T, a + b, (T)((uint64_t)a + (uint64_t)b))
NUMBERS(sub, T, a - b, (T)((uint64_t)a - (uint64_t)b))
NUMBERS(mul, T, a *b, (T)((uint64_t)a *(uint64_t)b))
NUMBERS(maximum, T, a > b || a != a ? a : b, a > b ? a : b)
NUMBERS(minimum, T, a < b || a != a ? a : b, a < b ? a : b)
FLOATS(divide, a / b)
FLOATS(power, T(pow(double(a), double(b))))
COMPARISON(eq, ==)
COMPARISON(ne, !=)
COMPARISON(lt, <)
COMPARISON(le, <=)
COMPARISON(gt, >)
COMPARISON(ge, >=)

/* ---- where: bytes as they are, by the size of an element ---- */

template <class T>
static __global__ void where_kernel(const ti_nest e, T *y, const uint8_t *cond, const T *a,
                                    const T *b)
{
    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[4];

        ti_place(e, i, at);
        y[at[0]] = cond[at[1]] ? a[at[2]] : b[at[3]];
    }
}

template <class T> static void where_as(const ti_work *w)
{
    const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], &w->in[1], &w->in[2]);

    TI_LAUNCH(where_kernel<T>, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              ti_at<T>(w->out[0]), ti_at<uint8_t>(w->in[0]), ti_at<T>(w->in[1]),
              ti_at<T>(w->in[2]));
    ti_launched(w);
}

static void where(const ti_work *w)
{
    switch (tern_type_size(w->out[0].m.type)) {
    case 1: where_as<uint8_t>(w); break;
    case 2: where_as<uint16_t>(w); break;
    case 4: where_as<uint32_t>(w); break;
    default: where_as<uint64_t>(w);
    }
}

#define ROW(op_, name)                                                                             \
    {                                                                                              \
        .op = op_, .impl = "loop", .cost = ti_moved_cost, .may_alias = ti_on_first, .run = name    \
    }
#define COMPARING(name)                                                                            \
    {                                                                                              \
        .op = #name, .impl = "loop", .cost = ti_moved_cost, .run = name                            \
    }

TI_KERNELS(ti_cuda_arithmetic) = {
    ROW("add", add),
    ROW("sub", sub),
    ROW("mul", mul),
    ROW("div", divide),
    ROW("power", power),
    ROW("maximum", maximum),
    ROW("minimum", minimum),
    COMPARING(eq),
    COMPARING(ne),
    COMPARING(lt),
    COMPARING(le),
    COMPARING(gt),
    COMPARING(ge),
    {.op = "where", .impl = "loop", .cost = ti_moved_cost, .run = where},
    {.op = NULL},
};
