/*
 * matmul.c - matrix products and linear layers on the inner kernels' gemm, f32 and f64.
 *
 * Operands are taken as they lie, transposed views too; sums run as kernels.h says. Many small
 * matrices are spread over the threads, large ones are cut by gemm itself; either way the bits are
 * those of one thread.
 */
#include <math.h>

#include "cpu/fast.h"
#include "cpu/simd/norms.h"

static size_t gemm_scratch(const ti_work *w, const ti_gemm *g, int n_threads)
{
    const ti_simd *k = ti_cpu_simd(w->device);

    return w->in[0].m.type == TERN_F64 ? k->gemm_f64_scratch(g, n_threads)
                                       : k->gemm_scratch(g, n_threads);
}

static void gemm(const ti_work *w, ti_threads *t, const ti_gemm *g, const char *a, const char *b,
                 char *c, void *scratch)
{
    const ti_simd *k = ti_cpu_simd(w->device);

    if (w->in[0].m.type == TERN_F64)
        k->gemm_f64(t, g, (const double *)(const void *)a, (const double *)(const void *)b,
                    (double *)(void *)c, scratch);
    else
        k->gemm(t, g, (const float *)(const void *)a, (const float *)(const void *)b,
                (float *)(void *)c, scratch);
}

static double gemm_ns(const ti_work *w, double products)
{
    return 300 + products * (w->in[0].m.type == TERN_F64 ? 0.05 : 0.025);
}

static size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* ---- matmul ---- */

typedef struct {
    ti_gemm g;
    int rank; /* batch axes, and the operands' steps along them, in bytes */
    int64_t batches, dim[TERN_RANK], a_step[TERN_RANK], b_step[TERN_RANK], c_step;
} product;

static void batch_steps(const ti_view *v, int rank, int64_t *step)
{
    const int own = v->m.shape.rank - 2;
    const int64_t size = (int64_t)tern_type_size(v->m.type);

    for (int a = 0; a < rank; a++) {
        const int b = a - rank + own;
        step[a] = b < 0 || v->m.shape.dim[b] == 1 ? 0 : v->m.stride[b] * size;
    }
}

static product product_of(const ti_work *w)
{
    const ti_meta *a = &w->in[0].m, *b = &w->in[1].m, *y = &w->out[0].m;
    const int ra = a->shape.rank, rb = b->shape.rank, ry = y->shape.rank;
    product p = {.rank = ry - 2, .batches = 1};
    ti_rows rows;

    p.g = (ti_gemm){.m = y->shape.dim[ry - 2],
                    .n = y->shape.dim[ry - 1],
                    .k = a->shape.dim[ra - 1],
                    .a_rs = a->stride[ra - 2],
                    .a_cs = a->stride[ra - 1],
                    .b_rs = b->stride[rb - 2],
                    .b_cs = b->stride[rb - 1]};
    p.g.ldc = p.g.n;
    if (rb == 2 && p.rank > 0 && ti_rows_of(&w->in[0], &rows)) { /* one b: one long product */
        p.g.m = rows.rows;
        p.g.a_rs = rows.row_step;
        p.rank = 0;
    }
    ti_matrix(p.g.m, p.g.k, &p.g.a_rs, &p.g.a_cs);
    ti_matrix(p.g.k, p.g.n, &p.g.b_rs, &p.g.b_cs);
    batch_steps(&w->in[0], p.rank, p.a_step);
    batch_steps(&w->in[1], p.rank, p.b_step);
    for (int i = 0; i < p.rank; i++) p.batches *= p.dim[i] = y->shape.dim[i];
    p.c_step = p.g.m * p.g.n * (int64_t)tern_type_size(y->type);
    return p;
}

/* Many matrices of less than 100 µs each go to the threads whole. */
static bool whole(const product *p)
{
    return p->batches > 1 && (double)p->g.m * (double)p->g.n * (double)p->g.k < 4e6;
}

typedef struct {
    const ti_work *w;
    const product *p;
    size_t scratch_each;
} batches;

static void some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const batches *o = arg;
    const product *p = o->p;
    ti_threads *t = whole(p) ? NULL : ti_cpu_threads(o->w->device);

    for (int64_t i = from; i < to; i++) {
        const char *a = o->w->in[0].data, *b = o->w->in[1].data;
        int64_t rest = i;
        for (int k = p->rank - 1; k >= 0; k--) {
            a += rest % p->dim[k] * p->a_step[k];
            b += rest % p->dim[k] * p->b_step[k];
            rest /= p->dim[k];
        }
        gemm(o->w, t, &p->g, a, b, o->w->out[0].data + i * p->c_step,
             (char *)o->w->scratch + (size_t)i_worker * o->scratch_each);
    }
}

static size_t matmul_scratch(const ti_work *w)
{
    const product p = product_of(w);
    const int n = ti_threads_count(ti_cpu_threads(w->device));

    return whole(&p) ? (size_t)n * padded(gemm_scratch(w, &p.g, 1)) : gemm_scratch(w, &p.g, n);
}

static void matmul(const ti_work *w)
{
    const product p = product_of(w);
    batches o = {w, &p, whole(&p) ? padded(gemm_scratch(w, &p.g, 1)) : 0};
    const double ns = gemm_ns(w, (double)p.g.m * (double)p.g.n * (double)p.g.k);

    if (whole(&p)) ti_run_ranges(w->device, p.batches, ti_items_of(ns), some, &o);
    else some(&o, 0, p.batches, 0);
}

static double matmul_chain(const ti_work *w)
{
    return (double)ti_cpu_simd(w->device)->gemm_chain(product_of(w).g.k);
}

static double matmul_cost(const ti_work *w)
{
    return gemm_ns(w, (double)w->out[0].count * (double)product_of(w).g.k);
}

/* ---- linear_act ---- */

static const char *linear_rejects(const ti_work *w)
{
    ti_rows r;

    return ti_rows_of(&w->in[0], &r) ? NULL : "the rows of x do not lie evenly";
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

static size_t linear_scratch(const ti_work *w)
{
    const ti_gemm g = linear_gemm(w);

    return gemm_scratch(w, &g, ti_threads_count(ti_cpu_threads(w->device)));
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

static void linear(const ti_work *w)
{
    const ti_gemm g = linear_gemm(w);
    slope o = {.w = w, .act = ((const tern_linear_opts *)w->opts)->act, .to = w->out[0].data};

    gemm(w, ti_cpu_threads(w->device), &g, w->in[0].data, w->in[1].data, w->out[0].data,
         w->scratch);
    if (o.act == TERN_TANH || o.act == TERN_SIGMOID)
        ti_run_ranges(w->device, w->out[0].count, 8192, act_some, &o);
}

static double linear_chain(const ti_work *w)
{
    return (double)ti_cpu_simd(w->device)->gemm_chain(w->in[1].m.shape.dim[1]) + 1;
}

static double linear_cost(const ti_work *w)
{
    return gemm_ns(w, (double)w->out[0].count * (double)w->in[1].m.shape.dim[1]);
}

/* ---- linear_act_d(x, w, b, gy, y): h = gy act'(y); dx = h w, dw = h' x, db = sum of rows ---- */

static int act_of(const ti_work *w) { return ((const tern_linear_opts *)w->opts)->act; }

static const char *linear_d_rejects(const ti_work *w)
{
    if (act_of(w) != TERN_ACT_NONE && w->in[4].count < 0) return "wants y";
    return linear_rejects(w);
}

typedef struct {
    ti_gemm dx, dw;
    int64_t rows, m, d;
    size_t h_bytes, sum_bytes;
} adjoint;

static adjoint adjoint_of(const ti_work *w)
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
    a.h_bytes = act_of(w) == TERN_ACT_NONE ? 0 : padded((size_t)(g.m * g.n) * size);
    a.sum_bytes = padded((size_t)g.n * sizeof(double));
    return a;
}

static size_t linear_d_scratch(const ti_work *w)
{
    const adjoint a = adjoint_of(w);
    const int n = ti_threads_count(ti_cpu_threads(w->device));
    const size_t x = w->out[0].count >= 0 ? gemm_scratch(w, &a.dx, n) : 0;
    const size_t f = w->out[1].count >= 0 ? gemm_scratch(w, &a.dw, n) : 0;

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

static void linear_d(const ti_work *w)
{
    const adjoint a = adjoint_of(w);
    ti_threads *t = ti_cpu_threads(w->device);
    char *at = w->scratch;
    double *sum = (double *)(void *)(at + a.h_bytes);
    void *rest = at + a.h_bytes + a.sum_bytes;
    slope o = {w, act_of(w), w->in[4].data, w->in[3].data, at};
    const char *h = w->in[3].data;

    if (a.h_bytes > 0) {
        ti_run_ranges(w->device, w->in[3].count, 16384, act_some, &o);
        h = at;
    }
    if (w->out[0].count >= 0) gemm(w, t, &a.dx, h, w->in[1].data, w->out[0].data, rest);
    if (w->out[1].count >= 0) gemm(w, t, &a.dw, h, w->in[0].data, w->out[1].data, rest);
    if (w->out[2].count >= 0) column_sums(w, &a, h, sum);
}

static double linear_d_chain(const ti_work *w)
{
    const ti_simd *k = ti_cpu_simd(w->device);
    const adjoint a = adjoint_of(w);
    const double x = (double)k->gemm_chain(a.m), f = (double)k->gemm_chain(a.rows);
    const double sums = w->in[0].m.type == TERN_F64 ? (double)a.rows : 1;

    return fmax(fmax(x, f), sums);
}

static double linear_d_cost(const ti_work *w)
{
    return gemm_ns(w, 2 * (double)w->in[0].count * (double)w->in[1].m.shape.dim[0]);
}

/* Inputs whose rows do not lie evenly are repacked by the second row of each pair. */
#define LINEAR                                                                                     \
    .reject = linear_rejects, .cost = linear_cost, .scratch = linear_scratch, .run = linear,       \
    .chain = linear_chain, .numbers = TI_REORDERED
#define LINEAR_D                                                                                   \
    .reject = linear_d_rejects, .cost = linear_d_cost, .scratch = linear_d_scratch,                \
    .run = linear_d, .chain = linear_d_chain, .numbers = TI_REORDERED

const ti_row ti_cpu_matmul[] = {
    {.op = "matmul",
     .impl = "gemm",
     .cost = matmul_cost,
     .scratch = matmul_scratch,
     .run = matmul,
     .chain = matmul_chain,
     .numbers = TI_REORDERED},
    {.op = "linear_act", .impl = "gemm", .want = {[2] = TI_ROW_MAJOR}, LINEAR},
    {.op = "linear_act", .impl = "gemm_packed", .want = {TI_ROW_MAJOR, [2] = TI_ROW_MAJOR}, LINEAR},
    {.op = "linear_act_d",
     .impl = "gemm",
     .want = {[3] = TI_ROW_MAJOR, [4] = TI_ROW_MAJOR},
     LINEAR_D},
    {.op = "linear_act_d",
     .impl = "gemm_packed",
     .want = {TI_ROW_MAJOR, [3] = TI_ROW_MAJOR, [4] = TI_ROW_MAJOR},
     LINEAR_D},
    {.op = NULL},
};
