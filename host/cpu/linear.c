/*
 * linear.c - linear layers and their derivatives on the inner kernels' gemm: f32, f64, and operands
 * rounded to bf16.
 */
#include <math.h>

#include "base/rounding.h"
#include "cpu/products.h"
#include "cpu/simd/norms.h"

static int act_of(const ti_work *w) { return ((const tern_linear_opts *)w->opts)->act; }

/* ---- linear_act ---- */

static const char *linear_rejects(const ti_work *w)
{
    ti_rows r;

    return ti_rows_of(&w->in[0], &r) ? NULL : "the rows of x do not lie evenly";
}

static const char *linear_bf16_rejects(const ti_work *w)
{
    const char *why = ti_no_bf16(w);

    return why ? why : linear_rejects(w);
}

static ti_gemm linear_gemm(const ti_work *w)
{
    const ti_meta *f = &w->in[1].m;
    ti_rows x;

    ti_rows_of(&w->in[0], &x);
    ti_gemm g = {.m = x.rows,
                 .n = f->shape.dim[0],
                 .k = f->shape.dim[1],
                 .a_rs = x.row_step,
                 .a_cs = x.step,
                 .b_rs = f->stride[1],
                 .b_cs = f->stride[0],
                 .ldc = f->shape.dim[0],
                 .bias = w->in[2].count >= 0 ? w->in[2].data : NULL,
                 .relu = ((const tern_linear_opts *)w->opts)->act == TERN_RELU};
    ti_matrix(g.m, g.k, &g.a_rs, &g.a_cs);
    ti_matrix(g.k, g.n, &g.b_rs, &g.b_cs);
    return g;
}

static int n_threads(const ti_work *w) { return ti_threads_count(ti_cpu_threads(w->device)); }

static size_t linear_scratch_by(const ti_work *w, bool bf16)
{
    const ti_gemm g = linear_gemm(w);

    return ti_product_scratch(w, bf16, &g, n_threads(w));
}

typedef struct {
    const ti_work *w;
    int act;
    const char *y, *gy; /* gy NULL: y's place gets act(y) */
    char *to;
} slope;

static void act_f64(const slope *o, int64_t from, int64_t to)
{
    double *y = (double *)(void *)o->to;

    for (int64_t i = from; i < to; i++)
        y[i] = o->act == TERN_TANH ? tanh(y[i]) : 1 / (1 + exp(-y[i]));
}

static void back_f64(const slope *o, int64_t from, int64_t to)
{
    const double *y = (const double *)(const void *)o->y;
    const double *g = (const double *)(const void *)o->gy;
    double *h = (double *)(void *)o->to;

    for (int64_t i = from; i < to; i++)
        h[i] = o->act == TERN_RELU   ? (y[i] > 0 ? g[i] : 0)
               : o->act == TERN_TANH ? g[i] * (1 - y[i] * y[i])
                                     : g[i] * y[i] * (1 - y[i]);
}

static void act_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const slope *o = arg;
    const ti_vector *v = ti_cpu_vector(o->w->device);
    const bool wide = o->w->in[0].m.type == TERN_F64;
    float *at = (float *)(void *)o->to + from;

    (void)i_worker;
    if (wide && o->gy) back_f64(o, from, to);
    else if (wide) act_f64(o, from, to);
    else if (o->gy) {
        const ti_v_two f = o->act == TERN_RELU   ? TI_V_RELU_D
                           : o->act == TERN_TANH ? TI_V_TANH_D
                                                 : TI_V_SIGMOID_D;
        v->two[f](to - from, (const float *)(const void *)o->y + from, 1,
                  (const float *)(const void *)o->gy + from, 1, at, 0);
    } else v->one[o->act == TERN_TANH ? TI_V_TANH : TI_V_SIGMOID](to - from, at, at, 0, 0);
}

static void linear_by(const ti_work *w, bool bf16)
{
    const ti_gemm g = linear_gemm(w);
    slope o = {.w = w, .act = act_of(w), .to = w->out[0].data};

    ti_product(w, bf16, ti_cpu_threads(w->device), &g, w->in[0].data, w->in[1].data, w->out[0].data,
               w->scratch);
    if (o.act == TERN_TANH || o.act == TERN_SIGMOID)
        ti_run_ranges(w->device, w->out[0].count, 8192, act_some, &o);
}

static double linear_chain_by(const ti_work *w, bool bf16)
{
    return ti_product_chain(w, bf16, w->in[1].m.shape.dim[1]) + 1;
}

static double linear_cost_by(const ti_work *w, bool bf16)
{
    const ti_gemm g = linear_gemm(w);

    return ti_product_ns(w, bf16, &g);
}

/* ---- linear_act_d(x, w, b, gy, y): h = gy act'(y); dx = h w, dw = h' x, db = sum of rows ---- */

static const char *linear_d_rejects(const ti_work *w)
{
    if (act_of(w) != TERN_ACT_NONE && w->in[4].count < 0) return "wants y";
    return linear_rejects(w);
}

/* h is rounded where gy is: tanh and the sigmoid would have it rounded a second time. */
static const char *linear_d_bf16_rejects(const ti_work *w)
{
    const int act = act_of(w);
    const char *why = linear_bf16_rejects(w);

    if (why) return why;
    if (act != TERN_ACT_NONE && act != TERN_RELU) return "takes no activation but relu";
    return linear_d_rejects(w);
}

typedef struct {
    ti_gemm dx, dw;
    int64_t rows, m, d;
    size_t h_bytes, sum_bytes;
} adjoint;

static adjoint adjoint_of(const ti_work *w, bool bf16)
{
    const ti_gemm g = linear_gemm(w); /* x: m by k; w' : k by n */
    adjoint a = {.rows = g.m, .m = g.n, .d = g.k};
    const size_t size = tern_type_size(w->in[0].m.type);

    a.dx = (ti_gemm){.m = g.m,
                     .n = g.k,
                     .k = g.n,
                     .a_rs = g.n,
                     .a_cs = 1,
                     .b_rs = g.b_cs,
                     .b_cs = g.b_rs,
                     .ldc = g.k};
    a.dw = (ti_gemm){.m = g.n,
                     .n = g.k,
                     .k = g.m,
                     .a_rs = 1,
                     .a_cs = g.n,
                     .b_rs = g.a_rs,
                     .b_cs = g.a_cs,
                     .ldc = g.k};
    ti_matrix(a.dx.m, a.dx.k, &a.dx.a_rs, &a.dx.a_cs);
    ti_matrix(a.dw.m, a.dw.k, &a.dw.a_rs, &a.dw.a_cs);
    if (bf16 || act_of(w) != TERN_ACT_NONE) a.h_bytes = ti_padded((size_t)(g.m * g.n) * size);
    a.sum_bytes = ti_padded((size_t)g.n * sizeof(double));
    return a;
}

static size_t linear_d_scratch_by(const ti_work *w, bool bf16)
{
    const adjoint a = adjoint_of(w, bf16);
    const int n = n_threads(w);
    const size_t x = w->out[0].count >= 0 ? ti_product_scratch(w, bf16, &a.dx, n) : 0;
    const size_t f = w->out[1].count >= 0 ? ti_product_scratch(w, bf16, &a.dw, n) : 0;

    return a.h_bytes + a.sum_bytes + (x > f ? x : f);
}

/* In double, row after row. */
static void column_sums(const ti_work *w, const adjoint *a, const char *h, double *sum)
{
    const bool wide = w->in[0].m.type == TERN_F64;
    const int64_t rows = w->in[2].count < 0 ? 0 : a->rows;

    for (int64_t j = 0; j < a->m; j++) sum[j] = 0;
    if (!wide)
        ti_norms_for(ti_cpu_simd(w->device)->name)
            ->sums(rows, a->m, (const float *)(const void *)h, sum);
    for (int64_t i = 0; wide && i < rows * a->m; i++)
        sum[i % a->m] += ((const double *)(const void *)h)[i];
    for (int64_t j = 0; j < a->m; j++) {
        if (wide) ((double *)(void *)w->out[2].data)[j] = sum[j];
        else TI_F(w->out[2])[j] = (float)sum[j];
    }
}

static void round_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const slope *o = arg;
    const float *g = (const float *)(const void *)o->gy;
    float *h = (float *)(void *)o->to;

    (void)i_worker;
    for (int64_t i = from; i < to; i++) h[i] = ti_round_bf16(g[i]);
}

static void linear_d_by(const ti_work *w, bool bf16)
{
    const adjoint a = adjoint_of(w, bf16);
    ti_threads *t = ti_cpu_threads(w->device);
    char *at = w->scratch;
    double *sum = (double *)(void *)(at + a.h_bytes);
    void *rest = at + a.h_bytes + a.sum_bytes;
    slope o = {w, act_of(w), w->in[4].data, w->in[3].data, at};
    const char *h = w->in[3].data;

    if (bf16) {
        ti_run_ranges(w->device, w->in[3].count, 16384, round_some, &o);
        o.gy = h = at;
    }
    if (o.act != TERN_ACT_NONE) {
        ti_run_ranges(w->device, w->in[3].count, 16384, act_some, &o);
        h = at;
    }
    if (w->out[0].count >= 0) ti_product(w, bf16, t, &a.dx, h, w->in[1].data, w->out[0].data, rest);
    if (w->out[1].count >= 0) ti_product(w, bf16, t, &a.dw, h, w->in[0].data, w->out[1].data, rest);
    if (w->out[2].count >= 0) column_sums(w, &a, h, sum);
}

static double linear_d_chain_by(const ti_work *w, bool bf16)
{
    const adjoint a = adjoint_of(w, bf16);
    const double x = ti_product_chain(w, bf16, a.m), f = ti_product_chain(w, bf16, a.rows);
    const double sums = w->in[0].m.type == TERN_F64 ? (double)a.rows : 1;

    return fmax(fmax(x, f), sums);
}

static double linear_d_cost_by(const ti_work *w, bool bf16)
{
    const adjoint a = adjoint_of(w, bf16);

    return ti_product_ns(w, bf16, &a.dx) + ti_product_ns(w, bf16, &a.dw);
}

/* The questions about both ops, by gemm and in bf16. */
#define QUESTIONS(name)                                                                            \
    static double name##_cost(const ti_work *w) { return name##_cost_by(w, false); }               \
    static double name##_bf16_cost(const ti_work *w) { return name##_cost_by(w, true); }           \
    static double name##_chain(const ti_work *w) { return name##_chain_by(w, false); }             \
    static double name##_bf16_chain(const ti_work *w) { return name##_chain_by(w, true); }         \
    static size_t name##_scratch(const ti_work *w) { return name##_scratch_by(w, false); }         \
    static size_t name##_bf16_scratch(const ti_work *w) { return name##_scratch_by(w, true); }     \
    static void name(const ti_work *w) { name##_by(w, false); }                                    \
    static void name##_bf16(const ti_work *w) { name##_by(w, true); }
QUESTIONS(linear)
QUESTIONS(linear_d)

/* Inputs whose rows do not lie evenly are repacked by the second row of each pair. */
#define ROW(op_, name, impl_, numbers_, ...)                                                       \
    {                                                                                              \
        .op = op_, .impl = impl_, .want = {__VA_ARGS__}, .reject = name##_rejects,                 \
        .cost = name##_cost, .scratch = name##_scratch, .run = name, .chain = name##_chain,        \
        .numbers = numbers_                                                                        \
    }
#define LINEAR(name, impl, numbers)                                                                \
    ROW("linear_act", name, impl, numbers, [2] = TI_ROW_MAJOR),                                    \
        ROW("linear_act", name, impl "_packed", numbers, TI_ROW_MAJOR, [2] = TI_ROW_MAJOR)
#define LINEAR_D(name, impl, numbers)                                                              \
    ROW("linear_act_d", name, impl, numbers, [3] = TI_ROW_MAJOR, [4] = TI_ROW_MAJOR),              \
        ROW("linear_act_d", name, impl "_packed", numbers,                                         \
            TI_ROW_MAJOR, [3] = TI_ROW_MAJOR, [4] = TI_ROW_MAJOR)

const ti_row ti_cpu_linear[] = {
    LINEAR(linear, "gemm", TI_REORDERED),
    LINEAR(linear_bf16, "bf16", TI_CLASS_BF16),
    LINEAR_D(linear_d, "gemm", TI_REORDERED),
    LINEAR_D(linear_d_bf16, "bf16", TI_CLASS_BF16),
    {.op = NULL},
};
