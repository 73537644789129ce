/*
 * lt.c - products by cuBLASLt: descriptors, algorithms, and the multiplication.
 *
 * The library counts by columns: our row-major y [M,N] is its [N,M], the product of b' and a'. Sums
 * are split, if at all, by a fixed order (no in-place reduction), so equal calls give equal bits,
 * unless results may vary. The algorithm is the heuristics' first; with kernels by the clock
 * (tern/tune.h) the one that the file of choices names, else the fastest of some ten.
 */
#include "lt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Descriptors: plain memory, made anew for each use ---- */

typedef struct {
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, y;
} descriptors;

static cublasStatus_t layout(const ti_cublaslt *lt, cublasLtMatrixLayout_t l, const ti_product *p,
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

static cublasStatus_t describe(const ti_cublaslt *lt, const ti_product *p, const void *bias,
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

/* ---- Algorithms ---- */

/* Most bytes of workspace; what its makers advise: 32 MiB from Hopper on, 4 MiB before. */
static size_t most_workspace(const ti_device *d)
{
    return (size_t)(atoi(d->isa[0] ? d->isa + 3 : "0") >= 90 ? 32 : 4) << 20;
}

static cublasStatus_t preferences(const ti_cublaslt *lt, const ti_work *w,
                                  cublasLtMatmulPreferenceOpaque_t *to)
{
    static const cublasLtMatmulPreferenceAttributes_t aligned[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const size_t most = most_workspace(w->device);
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE |
                             CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                             (w->varies ? (uint32_t)CUBLASLT_REDUCTION_SCHEME_INPLACE : 0);
    const uint32_t bytes = TI_VENDOR_ALIGN;
    cublasStatus_t s = lt->preference_init(to, sizeof *to);

    if (!s)
        s = lt->preference_set(to, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most);
    if (!s)
        s = lt->preference_set(to, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                               sizeof schemes);
    for (int i = 0; i < 4 && !s; i++) s = lt->preference_set(to, aligned[i], &bytes, sizeof bytes);
    return s;
}

/* What a question to the library is made of. The heuristics look at the pointer's alignment only,
 * and a bias lies anywhere in its block. */
static cublasStatus_t ask(const ti_cublaslt *lt, const ti_product *p, descriptors *d)
{
    return describe(lt, p, (const void *)tern_type_size((tern_type)p->type), d);
}

/* The heuristics' algorithms, at most `most`; how many, and why none. */
static int offered(const ti_work *w, const ti_product *p, cublasLtMatmulHeuristicResult_t *to,
                   int most, const char **why)
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtHandle_t handle;
    const ti_cublaslt *lt = ti_cublaslt_of(w->device, &handle, why);
    descriptors d;
    int n = 0, kept = 0;

    if (!lt) return 0;
    cublasStatus_t s = ask(lt, p, &d);
    if (!s) s = preferences(lt, w, &preference);
    if (!s) s = lt->heuristic(handle, &d.op, &d.a, &d.b, &d.y, &d.y, &preference, most, to, &n);
    for (int i = 0; !s && i < n; i++)
        if (to[i].state == CUBLAS_STATUS_SUCCESS) to[kept++] = to[i];
    if (kept == 0)
        *why = ti_vendor_why(w->device, false, "cuBLASLt has no algorithm: %.100s",
                             s ? lt->status_text(s) : "none is returned");
    return kept;
}

static void use(ti_lt_plan *to, const cublasLtMatmulHeuristicResult_t *result)
{
    to->algo = result->algo;
    to->workspace = result->workspaceSize;
}

/* ---- An algorithm as a text: its words in hexadecimal ---- */

enum { WORDS = sizeof(cublasLtMatmulAlgo_t) / 8, WORD_TEXT = 16 };

static void write_algo(const cublasLtMatmulAlgo_t *algo, char to[TI_PLAN_TEXT])
{
    for (int i = 0; i < WORDS; i++)
        snprintf(to + WORD_TEXT * i, TI_PLAN_TEXT - WORD_TEXT * (size_t)i, "%016llx",
                 (unsigned long long)algo->data[i]);
}

static bool read_algo(const char *text, cublasLtMatmulAlgo_t *to)
{
    char word[WORD_TEXT + 1] = "";

    if (strlen(text) != WORD_TEXT * WORDS || strspn(text, "0123456789abcdef") != WORD_TEXT * WORDS)
        return false;
    for (int i = 0; i < WORDS; i++) {
        memcpy(word, text + WORD_TEXT * i, WORD_TEXT);
        to->data[i] = strtoull(word, NULL, 16);
    }
    return true;
}

/* ---- Running ---- */

void ti_lt_multiply(const ti_work *w, const ti_lt_plan *how, void *y, const void *a, const void *b,
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

void ti_lt_run(const ti_work *w)
{
    const ti_lt_plan *how = w->plan;

    ti_lt_multiply(w, how, w->out[0].data, w->in[0].data, w->in[1].data,
                   how->p.bias ? w->in[2].data : NULL);
    if (how->relu_after) ti_relu_after(w);
}

/* ---- Preparing ---- */

static double chain_of(const ti_product *p)
{
    return ti_vendor_chain((double)p->K + 1, (ti_math)p->math);
}

/* The algorithm that the file of choices names. `named`: it names one. */
static bool by_choices(const ti_work *w, ti_lt_plan *to, bool *named)
{
    char text[TI_PLAN_TEXT], where[TI_PLAN_WHERE];
    cublasLtMatmulHeuristicResult_t result;
    cublasLtHandle_t handle;
    const char *why;
    const ti_cublaslt *lt = ti_cublaslt_of(w->device, &handle, &why);
    descriptors d;

    *named = lt && w->tuner->find(w->tuner, "cublaslt", &to->p, sizeof to->p, text, where);
    if (!*named) return false;
    memset(&result, 0, sizeof result);
    if (read_algo(text, &to->algo) && ask(lt, &to->p, &d) == CUBLAS_STATUS_SUCCESS &&
        lt->check(handle, &d.op, &d.a, &d.b, &d.y, &d.y, &to->algo, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= most_workspace(w->device)) {
        to->workspace = result.workspaceSize;
        ti_vendor_tell(w->device, "%s: cublaslt by %.200s", w->op->name, where);
        return true;
    }
    ti_vendor_tell(w->device, "%.200s: this plan is not used: cuBLASLt has no such algorithm",
                   where);
    return false;
}

/* The fastest algorithm that our own row confirms, which is kept; or why there is none. */
static const char *race(const ti_work *w, ti_lt_plan *to)
{
    cublasLtMatmulHeuristicResult_t found[TI_CANDIDATES];
    ti_lt_plan plan[TI_CANDIDATES];
    ti_candidate c[TI_CANDIDATES];
    char text[TI_PLAN_TEXT];
    const char *why = NULL;
    const int n = offered(w, &to->p, found, TI_CANDIDATES, &why);

    for (int i = 0; i < n; i++) {
        plan[i] = *to;
        use(&plan[i], &found[i]);
        c[i] = (ti_candidate){
            .plan = &plan[i], .run = ti_lt_run, .scratch = plan[i].workspace, .varies = w->varies};
        snprintf(c[i].name, sizeof c[i].name, "cublaslt %d of %d", i + 1, n);
    }
    if (n == 0) return why;
    const int best = ti_fastest(w, to->own, c, n, chain_of(&to->p), (ti_math)to->p.math, &why);
    if (best < 0) return why;
    *to = plan[best];
    write_algo(&to->algo, text);
    w->tuner->keep(w->tuner, "cublaslt", &to->p, sizeof to->p, w->op->name, text, c[best].seconds);
    return NULL;
}

static const char *choose_and_try(const ti_work *w, ti_lt_plan *to)
{
    cublasLtMatmulHeuristicResult_t found[1];
    ti_work trial = *w;
    const char *why = NULL;
    bool named = false;

    if (!w->tuner || !by_choices(w, to, &named)) {
        if (w->tuner && !named) return race(w, to);
        if (offered(w, &to->p, found, 1, &why) == 0) return why;
        use(to, &found[0]);
    }
    trial.plan = to;
    return ti_trust(&trial, to->own, ti_lt_run, to->workspace, chain_of(&to->p),
                    (ti_math)to->p.math, to->p.relu ? "cublaslt with relu" : "cublaslt");
}

const char *ti_lt_prepare(const ti_work *w, ti_lt_plan *to, tern_math_t math)
{
    const char *why;

    to->to = math;
    to->p.math = (int)ti_lt_math(math);
    to->p.varies = w->varies;
    if (math != TERN_MATH_F32 && to->p.type != TERN_F32) return "f64 is never rounded";
    to->own = ti_own_row(w);
    if (!to->own) return "there is no row of our own to check it against";
    if ((why = choose_and_try(w, to)) == NULL || !to->p.relu) return why;
    to->p.relu = 0;
    to->relu_after = true;
    return choose_and_try(w, to);
}
