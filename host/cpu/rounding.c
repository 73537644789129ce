/* rounding.c - CPU kernels for round_to in f32: bits of the fraction rounded away. */
#include "base/rounding.h"
#include "cpu/loops.h"

#define ROUND(name, rounded)                                                                       \
    static void name(const void *arg, int64_t n, char *const *p, const int64_t *step)              \
    {                                                                                              \
        const float *x = (const float *)(void *)p[1];                                              \
        float *y = (float *)(void *)p[0];                                                          \
                                                                                                   \
        (void)arg;                                                                                 \
        if (step[1] == 1)                                                                          \
            for (int64_t i = 0; i < n; i++) y[i] = rounded(x[i]);                                  \
        else                                                                                       \
            for (int64_t i = 0; i < n; i++) y[i] = rounded(x[i * step[1]]);                        \
    }
ROUND(to_f32, )
ROUND(to_tf32, ti_round_tf32)
ROUND(to_bf16, ti_round_bf16)
ROUND(to_f16, ti_round_f16)

static const char *reject(const ti_work *w)
{
    return w->in[0].m.type == TERN_F32 ? NULL : "takes f32 only";
}

static double cost(const ti_work *w) { return ti_loop_cost(w, 0.3); }

static void round_to(const ti_work *w)
{
    static const ti_run_fn to[] = {to_f32, to_tf32, to_bf16, to_f16};

    ti_loop(w, 1, false, 0.3, to[((const tern_round_to_opts *)w->opts)->to], NULL);
}

const ti_row ti_cpu_rounding[] = {
    {.op = "round_to", .impl = "bits", .reject = reject, .cost = cost, .run = round_to},
    {.op = NULL},
};
