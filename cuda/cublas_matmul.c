/*
 * cublas_matmul.c - products of matrices and fully connected layers by cuBLASLt.
 *
 *   matmul:       y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]
 *   linear_act:   y[r, m] = act(sum over d of x[r, d] w[m, d] + b[m]), act none or relu
 *   linear_act_d: h = gy act'(y); dx = h w, dw = h' x, db = column sums of h
 *
 * The library counts by columns: our row-major y [M,N] is its [N,M], the product of b' and a'. A
 * matrix may lie transposed; batches must lie at equal steps. Sums are split, if at all, by a
 * fixed order (no in-place reduction), so equal calls give equal bits. f32 is strict. In math modes
 * tf32, bf16 and f16 the operands are rounded here and multiplied by tensor cores, as tf32.
 */
#include <stdlib.h>
#include <string.h>

#include "tern/ops.h"
#include "vendor.h"

/* y = act(a b + bias): y [M,N] dense, a [M,K], b [K,N]. All bytes are defined: it is a key. */
typedef struct {
    int64_t M, N, K, batch, lda, ldb, step_a, step_b;
    int turn_a, turn_b; /* the matrix lies by columns */
    int type, bias, relu, math;
} product;

typedef struct {
    product p;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    const ti_row *own;
    tern_math_t to;  /* what the operands are rounded to */
    bool relu_after; /* by our own row */
} plan;

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

static const char *product_of(const ti_work *w, product *p)
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
static void layer_of(const ti_work *w, product *p)
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

static const char *unfit(const ti_work *w, const product *p)
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

/* ---- Descriptors: plain memory, made anew for each use ---- */

typedef struct {
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, y;
} descriptors;

static cublasStatus_t layout(const ti_cublaslt *lt, cublasLtMatrixLayout_t l, const product *p,
                             int64_t rows, int64_t columns, int64_t ld, int64_t step)
{
    const cudaDataType type = p->type == TERN_F64 ? CUDA_R_64F : CUDA_R_32F;
    const int32_t n = (int32_t)p->batch;
    cublasStatus_t s = lt->layout_init(l, sizeof *l, type, (uint64_t)rows, (uint64_t)columns, ld);

    if (s == CUBLAS_STATUS_SUCCESS && n > 1)
        s = lt->layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n);
    if (s == CUBLAS_STATUS_SUCCESS && n > 1)
        s = lt->layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    return s;
}

static cublasStatus_t describe(const ti_cublaslt *lt, const product *p, const void *bias,
                               descriptors *d)
{
    const cublasComputeType_t compute = p->type == TERN_F64       ? CUBLAS_COMPUTE_64F
                                        : p->math == TI_MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                  : CUBLAS_COMPUTE_32F;
    const cublasOperation_t op_b = p->turn_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t op_a = p->turn_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = p->bias && p->relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                                        : p->bias          ? CUBLASLT_EPILOGUE_BIAS
                                        : p->relu          ? CUBLASLT_EPILOGUE_RELU
                                                           : CUBLASLT_EPILOGUE_DEFAULT;
    cublasStatus_t s =
        lt->desc_init(&d->op, sizeof d->op, compute, p->type == TERN_F64 ? CUDA_R_64F : CUDA_R_32F);

    if (!s) s = lt->desc_set(&d->op, CUBLASLT_MATMUL_DESC_TRANSA, &op_b, sizeof op_b);
    if (!s) s = lt->desc_set(&d->op, CUBLASLT_MATMUL_DESC_TRANSB, &op_a, sizeof op_a);
    if (!s) s = lt->desc_set(&d->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!s && p->bias)
        s = lt->desc_set(&d->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!s)
        s = layout(lt, &d->a, p, p->turn_b ? p->K : p->N, p->turn_b ? p->N : p->K, p->ldb,
                   p->step_b);
    if (!s)
        s = layout(lt, &d->b, p, p->turn_a ? p->M : p->K, p->turn_a ? p->K : p->M, p->lda,
                   p->step_a);
    if (!s) s = layout(lt, &d->y, p, p->N, p->M, p->N, p->M * p->N);
    return s;
}

/* ---- Plans ---- */

static cublasStatus_t preferences(const ti_cublaslt *lt, const ti_device *d,
                                  cublasLtMatmulPreferenceOpaque_t *to)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    /* what its makers advise: 32 MiB from Hopper on, 4 MiB before */
    const size_t most = (size_t)(atoi(d->isa[0] ? d->isa + 3 : "0") >= 90 ? 32 : 4) << 20;
    const uint32_t schemes =
                       CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
                   bytes = TI_VENDOR_ALIGN;
    cublasStatus_t s = lt->preference_init(to, sizeof *to);

    if (!s)
        s = lt->preference_set(to, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    if (!s)
        s = lt->preference_set(to, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                               sizeof schemes);
    for (int i = 0; i < 4 && !s; i++) s = lt->preference_set(to, aligned[i], &bytes, sizeof bytes);
    return s;
}

static const char *choose(const ti_work *w, plan *to)
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[1];
    cublasLtHandle_t handle;
    const char *why;
    const ti_cublaslt *lt = ti_cublaslt_of(w->device, &handle, &why);
    /* The heuristics look at the pointer's alignment only. A bias lies anywhere in its block. */
    const void *bias = (const void *)tern_type_size((tern_type)to->p.type);
    descriptors d;
    int n = 0;

    if (!lt) return why;
    cublasStatus_t s = describe(lt, &to->p, bias, &d);
    if (!s) s = preferences(lt, w->device, &preference);
    if (!s) s = lt->heuristic(handle, &d.op, &d.a, &d.b, &d.y, &d.y, &preference, 1, found, &n);
    if (!s && n > 0) s = found[0].state;
    if (s || n < 1)
        return ti_vendor_why(w->device, false, "cuBLASLt has no algorithm: %.100s",
                             s ? lt->status_text(s) : "none is returned");
    to->algo = found[0].algo;
    to->workspace = found[0].workspaceSize;
    return NULL;
}

/* y = act(a b + bias) by the plan; y, a, b and bias are addresses. */
static void multiply(const ti_work *w, const plan *how, void *y, const void *a, const void *b,
                     const void *bias)
{
    static const float one = 1, zero = 0;
    static const double one64 = 1, zero64 = 0;
    const bool wide = how->p.type == TERN_F64;
    cublasLtHandle_t handle;
    const char *why;
    const ti_cublaslt *lt = ti_cublaslt_of(w->device, &handle, &why);
    descriptors d;

    (void)cudaSetDevice(w->device->index);
    cublasStatus_t s = describe(lt, &how->p, bias, &d);
    if (!s)
        s = lt->matmul(handle, &d.op, wide ? (const void *)&one64 : &one, b, &d.a, a, &d.b,
                       wide ? (const void *)&zero64 : &zero, y, &d.y, y, &d.y, &how->algo,
                       w->scratch, how->workspace, w->device->stream);
    if (s) ti_cuda_fail(w->device, lt->status_text(s), w->op->name);
    else ti_cuda_launched(w->device, w->op->name);
}

/* ---- matmul, linear_act ---- */

static void run_plan(const ti_work *w)
{
    const plan *how = w->plan;

    multiply(w, how, w->out[0].data, w->in[0].data, w->in[1].data,
             how->p.bias ? w->in[2].data : NULL);
    if (how->relu_after) ti_relu_after(w);
}

static const char *choose_and_try(const ti_work *w, plan *to)
{
    const ti_math math = (ti_math)to->p.math;
    ti_work trial = *w;
    const char *why = choose(w, to);

    if (why) return why;
    trial.plan = to;
    return ti_trust(&trial, to->own, run_plan, to->workspace,
                    ti_vendor_chain((double)to->p.K + 1, math), math,
                    to->p.relu ? "cublaslt with relu" : "cublaslt");
}

static ti_math math_of(tern_math_t to) { return to == TERN_MATH_F32 ? TI_MATH_F32 : TI_MATH_TF32; }

static const char *prepare(const ti_work *w, plan *to, tern_math_t math)
{
    const char *why;

    to->to = math;
    to->p.math = (int)math_of(math);
    if (math != TERN_MATH_F32 && to->p.type != TERN_F32) return "f64 is never rounded";
    to->own = ti_own_row(w);
    if (!to->own) return "there is no row of our own to check it against";
    if ((why = choose_and_try(w, to)) == NULL || !to->p.relu) return why;
    to->p.relu = 0;
    to->relu_after = true;
    return choose_and_try(w, to);
}

static const char *matmul_prepare(const ti_work *w, void *to, tern_math_t math)
{
    const char *why = product_of(w, &((plan *)to)->p);

    return why ? why : prepare(w, to, math);
}

static const char *linear_act_prepare(const ti_work *w, void *to, tern_math_t math)
{
    layer_of(w, &((plan *)to)->p);
    return prepare(w, to, math);
}

/* What lies off its alignment is our own row's. */
static void run(const ti_work *w)
{
    if (ti_vendor_aligned(&w->in[0]) && ti_vendor_aligned(&w->in[1]) &&
        ti_vendor_aligned(&w->out[0]))
        run_plan(w);
    else ((const plan *)w->plan)->own->run(w);
}

static size_t scratch(const ti_work *w)
{
    const plan *how = w->plan;
    const size_t own = ti_own_scratch(how->own, w);

    return how->workspace > own ? how->workspace : own;
}

static double chain(const ti_work *w)
{
    const plan *how = w->plan;
    const double mine = ti_vendor_chain((double)how->p.K + 3, math_of(how->to)),
                 own = how->own->chain ? how->own->chain(w) : 1;

    return mine > own ? mine : own;
}

static const char *matmul_rejects(const ti_work *w)
{
    product p;
    const char *why = product_of(w, &p);

    return why ? why : unfit(w, &p);
}

static const char *linear_act_rejects(const ti_work *w)
{
    const int act = ((const tern_linear_opts *)w->opts)->act;
    product p;

    if (act != TERN_ACT_NONE && act != TERN_RELU) return "there is no such epilogue";
    layer_of(w, &p);
    return unfit(w, &p);
}

/* ---- linear_act_d: scratch holds what the products and sums need, then h ---- */

typedef struct {
    plan dx, dw;
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

static const char *prepare_part(const ti_inner *c, plan *to, ti_layer_d *layer, tern_math_t math)
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

static void multiply_part(const ti_inner *c, const plan *how)
{
    multiply(&c->w, how, c->out[0].data, c->in[0].data, c->in[1].data, NULL);
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

    return ti_layer_d_chain(&b->layer, w, (rows > M ? rows : M) + 3, math_of(b->to));
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
    ROW(matmul, plan, chain, f32, TI_REORDERED, cost, TI_ANY_LAYOUT),
    ROWS(matmul, plan, chain, TI_DENSE, TI_DENSE),
    ROW(linear_act, plan, chain, f32, TI_REORDERED, cost, BY_ROWS),
    ROWS(linear_act, plan, chain, BY_ROWS),
    ROW(linear_act_d, backward, linear_act_d_chain, f32, TI_REORDERED, cost, BY_ROWS, TI_ROW_MAJOR,
        TI_ROW_MAJOR),
    ROWS(linear_act_d, backward, linear_act_d_chain, BY_ROWS, TI_ROW_MAJOR, TI_ROW_MAJOR),
    {.op = NULL},
};
