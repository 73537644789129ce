/*
 * chain.cu - chains of elementwise operations: y = the last of s_k = f_k(a_k, b_k; p_k).
 *
 * One thread an element, over any strides (nest.cuh). All threads take the same way through the
 * steps, whose values stay in registers.
 */
#include "core/chain.h"
#include "groups.cuh"
#include "math.cuh"
#include "nest.cuh"

template <class T> static inline __device__ T value_of(int kind, T a, T b, T p)
{
    switch (kind) {
    case TERN_CHAIN_ADD: return a + b;
    case TERN_CHAIN_SUB: return a - b;
    case TERN_CHAIN_MUL: return a * b;
    case TERN_CHAIN_DIV: return a / b;
    case TERN_CHAIN_MAXIMUM: return a > b || a != a ? a : b;
    case TERN_CHAIN_MINIMUM: return a < b || a != a ? a : b;
    case TERN_CHAIN_TANH_D: return b * (T(1) - a * a);
    case TERN_CHAIN_SIGMOID_D: return b * a * (T(1) - a);
    case TERN_CHAIN_SCALE: return a * p;
    case TERN_CHAIN_SHIFT: return a + p;
    case TERN_CHAIN_NEG: return -a;
    case TERN_CHAIN_ABS: return ti_abs(a);
    case TERN_CHAIN_EXP: return ti_exp(a);
    case TERN_CHAIN_LOG: return ti_log(a);
    case TERN_CHAIN_SQRT: return ti_sqrt(a);
    case TERN_CHAIN_RSQRT: return ti_rsqrt(a);
    case TERN_CHAIN_TANH: return ti_tanh(a);
    case TERN_CHAIN_SIGMOID: return ti_sigmoid(a);
    default: return a > 0 || a != a ? a : T(0);
    }
}

/* s[i]; by selects, since what is indexed would lie in memory. */
template <class T, int n> static inline __device__ T picked(const T (&s)[n], int i)
{
    T x = s[0];

    TI_UNROLL for (int k = 1; k < n; k++) x = i == k ? s[k] : x;
    return x;
}

template <class T>
static inline __device__ T last_of(const tern_chain_opts &o, int n, T x0, T x1, T x2)
{
    T s[TERN_CHAIN_IN + TERN_CHAIN] = {x0, x1, x2}, last = x0;

    TI_UNROLL for (int k = 0; k < TERN_CHAIN; k++)
    {
        if (k < n) last = value_of(o.kind[k], picked(s, o.a[k]), picked(s, o.b[k]), T(o.p[k]));
        s[TERN_CHAIN_IN + k] = last;
    }
    return last;
}

/* Absent inputs repeat the first one: no step takes them. */
template <class T>
static __global__ void chain_kernel(const ti_nest e, T *y, const T *x0, const T *x1, const T *x2,
                                    const tern_chain_opts o, int n)
{
    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[4];

        ti_place(e, i, at);
        y[at[0]] = last_of(o, n, x0[at[1]], x1[at[2]], x2[at[3]]);
    }
}

template <class T> static void chain_as(const ti_work *w)
{
    const tern_chain_opts &o = ti_opts<tern_chain_opts>(w);
    const ti_view *x[TERN_CHAIN_IN];

    for (int i = 0; i < TERN_CHAIN_IN; i++) x[i] = &w->in[w->in[i].count < 0 ? 0 : i];
    const ti_nest e = ti_nest_of(&w->out[0], x[0], x[1], x[2]);
    TI_LAUNCH(chain_kernel<T>, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              ti_at<T>(w->out[0]), ti_at<T>(*x[0]), ti_at<T>(*x[1]), ti_at<T>(*x[2]), o,
              ti_chain_steps(&o));
    ti_launched(w);
}
TI_FLOAT_ROW(chain, w->in[0])

TI_KERNELS(ti_cuda_chain) = {
    {.op = "chain",
     .impl = "steps",
     .reject = ti_only_floats,
     .cost = ti_moved_cost,
     .may_alias = ti_on_first,
     .run = chain},
    {.op = NULL},
};
