/*
 * cublas_matmul.c - products of matrices and fully connected layers by cuBLASLt.
 *
 *   matmul:       y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]
 *   linear_act:   y[r, m] = act(sum over d of x[r, d] w[m, d] + b[m]), act none or relu
 *   linear_act_d: h = gy act'(y); dx = h w, dw = h' x, db = column sums of h
 *
 * A matrix may lie transposed; batches must lie at equal steps (lt.c multiplies). f32 is strict. In
 * math modes tf32, bf16 and f16 the operands are rounded here and multiplied by tensor cores, as
 * tf32.
 */
#include <string.h>

#include "lt.h"
#include "tern/ops.h"

/* ---- From views to a product ---- */

/* How a matrix of n rows and m columns lies: by rows with `ld` between them, or by columns. Axes
 * of extent 1 have no stride of their own. */
static bool lies(int64_t n, int64_t m, int64_t row, int64_t column, int64_t *ld, int *turned)
{
    *turned = 0;
    *ld = n == 1 ? m : row;
    if ((m == 1 || column == 1) && *ld >= m) return true;
    *turned = 1;
    *ld = m == 1 ? n : column;
    return (n == 1 || row == 1) && *ld >= n;
}

/* The batch axes of y as one: n of them, `step` elements apart in v. */
static bool batches(const ti_meta *y, const ti_meta *v, int64_t *step)
{
    const int n = y->shape.rank - 2, shift = v->shape.rank - y->shape.rank;
    int64_t inner = 0; /* extent that the axes further in make together */

    *step = 0;
    for (int a = n - 1; a >= 0; a--) {
        const int64_t dim = y->shape.dim[a];
        const int64_t stride =
            a + shift >= 0 && v->shape.dim[a + shift] > 1 ? v->stride[a + shift] : 0;

        if (dim == 1) continue;
        if (inner == 0) *step = stride;
        else if (stride != *step * inner) return false;
        inner = (inner ? inner : 1) * dim;
    }
    return true;
}

static const char *product_of(const ti_work *w, ti_product *p)
{
    const ti_meta *y = &w->out[0].m, *a = &w->in[0].m, *b = &w->in[1].m;
    const int i = a->shape.rank - 2, j = b->shape.rank - 2, k = y->shape.rank - 2;

    memset(p, 0, sizeof *p);
    p->type = y->type;
    p->M = y->shape.dim[k];
    p->N = y->shape.dim[k + 1];
    p->K = a->shape.dim[i + 1];
    p->batch = p->M * p->N > 0 ? w->out[0].count / (p->M * p->N) : 0;
    if (!lies(p->M, p->K, a->stride[i], a->stride[i + 1], &p->lda, &p->turn_a) ||
        !lies(p->K, p->N, b->stride[j], b->stride[j + 1], &p->ldb, &p->turn_b))
        return "a matrix lies neither by rows nor by columns";
    if (!batches(y, a, &p->step_a) || !batches(y, b, &p->step_b))
        return "the batches do not lie at equal steps";
    return NULL;
}

/* The layer on rows: x [rows,D], w [M,D]. */
static void layer_of(const ti_work *w, ti_product *p)
{
    const int64_t M = w->in[1].m.shape.dim[0], D = w->in[1].m.shape.dim[1];

    memset(p, 0, sizeof *p);
    p->type = w->out[0].m.type;
    p->M = M > 0 ? w->out[0].count / M : 0;
    p->N = M;
    p->K = p->lda = p->ldb = D;
    p->batch = 1;
    p->turn_b = 1;
    p->bias = w->in[2].count >= 0;
    p->relu = ((const tern_linear_opts *)w->opts)->act == TERN_RELU;
}

static const char *unfit(const ti_work *w, const ti_product *p)
{
    const int64_t most = INT32_MAX, all[] = {p->M, p->N, p->K, p->batch};
    const char *why;

    if (!ti_cublaslt_of(w->device, NULL, &why)) return why;
    for (int i = 0; i < 4; i++) {
        if (all[i] < 1) return "nothing to multiply";
        if (all[i] > most) return "an extent needs more than 31 bits";
    }
    return NULL;
}

/* ---- matmul, linear_act ---- */

static const char *matmul_prepare(const ti_work *w, void *to, tern_math_t math)
{
    const char *why = product_of(w, &((ti_lt_plan *)to)->p);

    return why ? why : ti_lt_prepare(w, to, math);
}

static const char *linear_act_prepare(const ti_work *w, void *to, tern_math_t math)
{
    layer_of(w, &((ti_lt_plan *)to)->p);
    return ti_lt_prepare(w, to, math);
}

/* What lies off its alignment is our own row's. */
static void run(const ti_work *w)
{
    if (ti_vendor_aligned(&w->in[0]) && ti_vendor_aligned(&w->in[1]) &&
        ti_vendor_aligned(&w->out[0]))
        ti_lt_run(w);
    else ((const ti_lt_plan *)w->plan)->own->run(w);
}

static size_t scratch(const ti_work *w)
{
    const ti_lt_plan *how = w->plan;
    const size_t own = ti_own_scratch(how->own, w);

    return how->workspace > own ? how->workspace : own;
}

static double chain(const ti_work *w)
{
    const ti_lt_plan *how = w->plan;
    const double mine = ti_vendor_chain((double)how->p.K + 3, ti_lt_math(how->to)),
                 own = how->own->chain ? how->own->chain(w) : 1;

    return mine > own ? mine : own;
}

static const char *matmul_rejects(const ti_work *w)
{
    ti_product p;
    const char *why = product_of(w, &p);

    return why ? why : unfit(w, &p);
}

static const char *linear_act_rejects(const ti_work *w)
{
    const int act = ((const tern_linear_opts *)w->opts)->act;
    ti_product p;

    if (act != TERN_ACT_NONE && act != TERN_RELU) return "there is no such epilogue";
    layer_of(w, &p);
    return unfit(w, &p);
}

/* ---- linear_act_d: scratch holds what the products and sums need, then h ---- */

typedef struct {
    ti_lt_plan dx, dw;
    ti_layer_d layer;
    tern_math_t to;
} backward;

typedef struct {
    ti_view x, w, h, dx, dw, db;
} parts;

static ti_view as_matrix(const ti_view *v, int64_t rows, int64_t columns)
{
    const ti_meta m = ti_packed_meta(v->m.type, (tern_shape){2, {rows, columns}});
    ti_view to = ti_view_at(&m, NULL);

    to.data = v->data;
    return to;
}

static ti_view turned(const ti_view *v)
{
    ti_view to = *v;

    for (int a = 0; a < 2; a++) {
        to.m.shape.dim[a] = v->m.shape.dim[1 - a];
        to.m.stride[a] = v->m.stride[1 - a];
    }
    to.packed = ti_is_packed(&to.m);
    return to;
}

static parts parts_of(const ti_work *w, char *h)
{
    const int64_t M = w->in[1].m.shape.dim[0], D = w->in[1].m.shape.dim[1];
    const int64_t rows = w->in[3].count / M;
    const ti_meta db = ti_packed_meta(w->in[3].m.type, (tern_shape){1, {M}});
    parts p = {.x = as_matrix(&w->in[0], rows, D),
               .w = w->in[1],
               .h = as_matrix(&w->in[3], rows, M),
               .dx = as_matrix(&w->out[0], rows, D),
               .dw = as_matrix(&w->out[1], M, D),
               .db = ti_view_at(&db, NULL)};

    p.db.data = w->out[2].data;
    if (h) p.h.data = h;
    return p;
}

static const tern_reduce_opts over_rows = {.axes = 1};

static void call_dx(ti_inner *c, const ti_work *w, const parts *p)
{
    ti_inner_call(c, w, "matmul", NULL, 2, (ti_view[]){p->h, p->w}, p->dx);
}
static void call_dw(ti_inner *c, const ti_work *w, const parts *p)
{
    ti_inner_call(c, w, "matmul", NULL, 2, (ti_view[]){turned(&p->h), p->x}, p->dw);
}
static void call_db(ti_inner *c, const ti_work *w, const parts *p)
{
    ti_inner_call(c, w, "sum", &over_rows, 1, &p->h, p->db);
}
/* h as a whole: relu_d(y, gy). */
static void call_h(ti_inner *c, const ti_work *w, const parts *p)
{
    const int64_t rows = p->h.m.shape.dim[0], M = p->h.m.shape.dim[1];

    ti_inner_call(c, w, "relu_d", NULL, 2,
                  (ti_view[]){as_matrix(&w->in[4], rows, M), as_matrix(&w->in[3], rows, M)}, p->h);
}

static const char *linear_act_d_rejects(const ti_work *w)
{
    const int act = ((const tern_linear_opts *)w->opts)->act;
    const char *why;

    if (act != TERN_ACT_NONE && act != TERN_RELU) return "there is no such epilogue";
    if (act == TERN_RELU && w->in[4].count < 0) return "y is absent";
    if (w->in[3].count <= 0 || w->in[0].count <= 0) return "nothing to multiply";
    if (w->in[3].count > INT32_MAX || w->in[0].count > INT32_MAX || w->in[1].count > INT32_MAX)
        return "an extent needs more than 31 bits";
    return ti_cublaslt_of(w->device, NULL, &why) ? NULL : why;
}

static const char *prepare_part(const ti_inner *c, ti_lt_plan *to, ti_layer_d *layer,
                                tern_math_t math)
{
    const char *why = matmul_prepare(&c->w, to, math);

    if (!why) ti_layer_d_room(layer, to->workspace);
    return why;
}

static const char *linear_act_d_prepare(const ti_work *w, void *to, tern_math_t math)
{
    const bool makes_h = ((const tern_linear_opts *)w->opts)->act == TERN_RELU;
    backward *b = to;
    const parts p = parts_of(w, NULL);
    ti_inner c, h;
    const char *why = NULL;

    b->to = math;
    call_dx(&c, w, &p);
    if (w->out[0].count > 0) why = prepare_part(&c, &b->dx, &b->layer, math);
    call_dw(&c, w, &p);
    if (!why && w->out[1].count > 0) why = prepare_part(&c, &b->dw, &b->layer, math);
    if (why) return why;
    call_db(&c, w, &p);
    if (makes_h) call_h(&h, w, &p);
    return ti_layer_d_prepare(&b->layer, w, &c.w, makes_h ? &h.w : NULL);
}

static void multiply_part(const ti_inner *c, const ti_lt_plan *how)
{
    ti_lt_multiply(&c->w, how, c->out[0].data, c->in[0].data, c->in[1].data, NULL);
}

static void linear_act_d_run(const ti_work *w)
{
    const backward *b = w->plan;
    const parts p = parts_of(w, b->layer.mask ? (char *)w->scratch + b->layer.room : NULL);
    ti_inner c;

    if (!ti_vendor_aligned(&w->in[0]) || !ti_vendor_aligned(&w->in[1]) ||
        !ti_vendor_aligned(&w->in[3]) || !ti_vendor_aligned(&w->out[0]) ||
        !ti_vendor_aligned(&w->out[1])) {
        b->layer.own->run(w);
        return;
    }
    if (b->layer.mask) {
        call_h(&c, w, &p);
        b->layer.mask->run(&c.w);
    }
    call_dx(&c, w, &p);
    if (w->out[0].count > 0) multiply_part(&c, &b->dx);
    call_dw(&c, w, &p);
    if (w->out[1].count > 0) multiply_part(&c, &b->dw);
    call_db(&c, w, &p);
    ti_layer_d_db(&b->layer, w, &c.w);
}

static size_t linear_act_d_scratch(const ti_work *w)
{
    return ti_layer_d_scratch(&((const backward *)w->plan)->layer, w);
}

static double linear_act_d_chain(const ti_work *w)
{
    const backward *b = w->plan;
    const double M = (double)w->in[1].m.shape.dim[0], rows = (double)w->in[3].count / M;

    return ti_layer_d_chain(&b->layer, w, (rows > M ? rows : M) + 3, ti_lt_math(b->to));
}

/* ---- Rows ---- */

/* Below those of our own rows; not yet by measurements on a GPU. */
static double cost(const ti_work *w) { return 3500 + ti_work_bytes(w) * 1e-3; }
/* Below that of a row above behind a rounding call. */
static double rounded_cost(const ti_work *w) { return 3000 + ti_work_bytes(w) * 1e-3; }

/* The functions of an op's rows in math mode `mode`, around those of the f32 row. */
#define IN_MODE(op_, scratch_, run_, name, mode)                                                   \
    static const char *op_##_prepare_##name(const ti_work *w, void *to)                            \
    {                                                                                              \
        return op_##_prepare(w, to, mode);                                                         \
    }                                                                                              \
    static size_t op_##_scratch_##name(const ti_work *w)                                           \
    {                                                                                              \
        return mode == TERN_MATH_F32 ? scratch_(w) : ti_rounded_scratch(w, scratch_(w));           \
    }                                                                                              \
    static void op_##_run_##name(const ti_work *w)                                                 \
    {                                                                                              \
        if (mode == TERN_MATH_F32) run_(w);                                                        \
        else ti_rounded_run(w, mode, scratch_(w), run_);                                           \
    }
#define IN_MODES(op_, scratch_, run_)                                                              \
    IN_MODE(op_, scratch_, run_, f32, TERN_MATH_F32)                                               \
    IN_MODE(op_, scratch_, run_, tf32, TERN_MATH_TF32)                                             \
    IN_MODE(op_, scratch_, run_, bf16, TERN_MATH_BF16)                                             \
    IN_MODE(op_, scratch_, run_, f16, TERN_MATH_F16)

#define ROW(op_, plan_, chain_, name, class_, cost_, ...)                                          \
    {                                                                                              \
        .op = #op_, .impl = class_ == TI_REORDERED ? "cublaslt" : "cublaslt_" #name,               \
        .reject = op_##_rejects, .cost = cost_, .want = {__VA_ARGS__},                             \
        .plan_bytes = sizeof(plan_), .prepare = op_##_prepare_##name,                              \
        .scratch = op_##_scratch_##name, .run = op_##_run_##name, .chain = chain_,                 \
        .numbers = class_                                                                          \
    }
#define BY_ROWS TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR
#define ROWS(op_, plan_, chain_, ...)                                                              \
    ROW(op_, plan_, chain_, tf32, TI_CLASS_TF32, rounded_cost, __VA_ARGS__),                       \
        ROW(op_, plan_, chain_, bf16, TI_CLASS_BF16, rounded_cost, __VA_ARGS__),                   \
        ROW(op_, plan_, chain_, f16, TI_CLASS_F16, rounded_cost, __VA_ARGS__)

IN_MODES(matmul, scratch, run)
IN_MODES(linear_act, scratch, run)
IN_MODES(linear_act_d, linear_act_d_scratch, linear_act_d_run)

const ti_row ti_vendor_cublas_matmul[] = {
    ROW(matmul, ti_lt_plan, chain, f32, TI_REORDERED, cost, TI_ANY_LAYOUT),
    ROWS(matmul, ti_lt_plan, chain, TI_DENSE, TI_DENSE),
    ROW(linear_act, ti_lt_plan, chain, f32, TI_REORDERED, cost, BY_ROWS),
    ROWS(linear_act, ti_lt_plan, chain, BY_ROWS),
    ROW(linear_act_d, backward, linear_act_d_chain, f32, TI_REORDERED, cost, BY_ROWS, TI_ROW_MAJOR,
        TI_ROW_MAJOR),
    ROWS(linear_act_d, backward, linear_act_d_chain, BY_ROWS, TI_ROW_MAJOR, TI_ROW_MAJOR),
    {.op = NULL},
};
