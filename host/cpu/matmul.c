/*
 * matmul.c - matrix products on the inner kernels' gemm: f32, f64, and operands rounded to bf16.
 *
 * Operands are taken as they lie, transposed views too; sums run as kernels.h says. Many small
 * matrices are spread over the threads, large ones are cut by gemm itself; either way the bits are
 * those of one thread.
 */
#include <math.h>

#include "cpu/products.h"

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
    bool bf16;
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
        ti_product(o->w, o->bf16, t, &p->g, a, b, o->w->out[0].data + i * p->c_step,
                   (char *)o->w->scratch + (size_t)i_worker * o->scratch_each);
    }
}

static size_t scratch_by(const ti_work *w, bool bf16)
{
    const product p = product_of(w);
    const int n = ti_threads_count(ti_cpu_threads(w->device));

    return whole(&p) ? (size_t)n * ti_padded(ti_product_scratch(w, bf16, &p.g, 1))
                     : ti_product_scratch(w, bf16, &p.g, n);
}
static size_t scratch(const ti_work *w) { return scratch_by(w, false); }
static size_t bf16_scratch(const ti_work *w) { return scratch_by(w, true); }

static void matmul_by(const ti_work *w, bool bf16)
{
    const product p = product_of(w);
    batches o = {.w = w, .p = &p, .bf16 = bf16};

    if (!whole(&p)) {
        some(&o, 0, p.batches, 0);
        return;
    }
    o.scratch_each = ti_padded(ti_product_scratch(w, bf16, &p.g, 1));
    ti_run_ranges(w->device, p.batches, ti_items_of(ti_product_ns(w, bf16, &p.g)), some, &o);
}
static void matmul(const ti_work *w) { matmul_by(w, false); }
static void bf16_matmul(const ti_work *w) { matmul_by(w, true); }

static double chain(const ti_work *w) { return ti_product_chain(w, false, product_of(w).g.k); }
static double bf16_chain(const ti_work *w) { return ti_product_chain(w, true, product_of(w).g.k); }

static double cost_by(const ti_work *w, bool bf16)
{
    const product p = product_of(w);

    return (double)p.batches * ti_product_ns(w, bf16, &p.g);
}
static double cost(const ti_work *w) { return cost_by(w, false); }
static double bf16_cost(const ti_work *w) { return cost_by(w, true); }

const ti_row ti_cpu_matmul[] = {
    {.op = "matmul",
     .impl = "gemm",
     .cost = cost,
     .scratch = scratch,
     .run = matmul,
     .chain = chain,
     .numbers = TI_REORDERED},
    {.op = "matmul",
     .impl = "bf16",
     .reject = ti_no_bf16,
     .cost = bf16_cost,
     .scratch = bf16_scratch,
     .run = bf16_matmul,
     .chain = bf16_chain,
     .numbers = TI_CLASS_BF16},
    {.op = NULL},
};
