/*
 * shim_cublaslt.c - the dozen functions of cuBLASLt that Tern calls, as its documents describe
 * them: products by columns, transposed or not, batched at equal steps, with a bias along the rows
 * of the result and ReLU.
 */
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

/* How the opaque structs are used here. */
typedef struct {
    int32_t compute, scale, turn_a, turn_b, epilogue;
    const void *bias;
} op;
typedef struct {
    int32_t type, batch;
    uint64_t rows, columns;
    int64_t ld, step;
} matrix;
typedef struct {
    size_t workspace;
    uint32_t schemes, aligned[4];
} preference;

_Static_assert(sizeof(op) <= sizeof(cublasLtMatmulDescOpaque_t), "op");
_Static_assert(sizeof(matrix) <= sizeof(cublasLtMatrixLayoutOpaque_t), "matrix");
_Static_assert(sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "preference");

enum { ALGORITHM = 7, WORKSPACE = 4096 };

SHIM_API size_t cublasLtGetVersion(void) { return CUBLAS_VERSION + (size_t)shim_version_more; }
SHIM_API const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_NOT_SUPPORTED      ? "the shim does not support this"
           : s == CUBLAS_STATUS_INVALID_VALUE    ? "the shim was given an invalid value"
           : s == CUBLAS_STATUS_EXECUTION_FAILED ? "the shim was told to fail"
                                                 : "a status of the shim";
}

SHIM_API cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = malloc(1);
    return *handle ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}
SHIM_API cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

SHIM_API cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t size,
                                                        cublasComputeType_t compute,
                                                        cudaDataType_t scale)
{
    op *o = (op *)(void *)d;

    if (size != sizeof *d) return CUBLAS_STATUS_INVALID_VALUE;
    memset(o, 0, sizeof *o);
    o->compute = (int32_t)compute;
    o->scale = (int32_t)scale;
    o->turn_a = o->turn_b = CUBLAS_OP_N;
    o->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t take(void *to, size_t room, const void *from, size_t bytes)
{
    if (bytes != room) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

SHIM_API cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                                       cublasLtMatmulDescAttributes_t attribute,
                                                       const void *value, size_t bytes)
{
    op *o = (op *)(void *)d;

    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(&o->turn_a, sizeof o->turn_a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(&o->turn_b, sizeof o->turn_b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(&o->epilogue, sizeof o->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(&o->bias, sizeof o->bias, value, bytes);
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

SHIM_API cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t size,
                                                          cudaDataType type, uint64_t rows,
                                                          uint64_t columns, int64_t ld)
{
    matrix *m = (matrix *)(void *)l;

    if (size != sizeof *l) return CUBLAS_STATUS_INVALID_VALUE;
    *m = (matrix){(int32_t)type, 1, rows, columns, ld, 0};
    return CUBLAS_STATUS_SUCCESS;
}

SHIM_API cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                         cublasLtMatrixLayoutAttribute_t attribute,
                                                         const void *value, size_t bytes)
{
    matrix *m = (matrix *)(void *)l;

    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return take(&m->batch, sizeof m->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return take(&m->step, sizeof m->step, value, bytes);
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

SHIM_API cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p,
                                                              size_t size)
{
    preference *to = (preference *)(void *)p;

    if (size != sizeof *p) return CUBLAS_STATUS_INVALID_VALUE;
    *to = (preference){0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

SHIM_API cublasStatus_t cublasLtMatmulPreferenceSetAttribute(
    cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
    size_t bytes)
{
    preference *to = (preference *)(void *)p;
    const int i = (int)attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;

    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return take(&to->workspace, sizeof to->workspace, value, bytes);
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return take(&to->schemes, sizeof to->schemes, value, bytes);
    if (i < 0 || i > 3) return CUBLAS_STATUS_NOT_SUPPORTED;
    return take(&to->aligned[i], sizeof to->aligned[i], value, bytes);
}

/* ---- Products ---- */

typedef struct {
    op o;
    matrix a, b, d;
    const char *A, *B;
    char *D;
    bool wide;
    int plan;
} job;

static bool reaches(const matrix *m)
{
    return m->ld >= (int64_t)m->rows && m->rows > 0 && m->columns > 0 && m->batch > 0;
}

static cublasStatus_t check(const job *j, const matrix *c)
{
    const uint64_t m = j->o.turn_a == CUBLAS_OP_T ? j->a.columns : j->a.rows;
    const uint64_t k = j->o.turn_a == CUBLAS_OP_T ? j->a.rows : j->a.columns;
    const uint64_t l = j->o.turn_b == CUBLAS_OP_T ? j->b.columns : j->b.rows;
    const uint64_t n = j->o.turn_b == CUBLAS_OP_T ? j->b.rows : j->b.columns;
    const bool plain = j->o.epilogue == CUBLASLT_EPILOGUE_DEFAULT;

    if (!reaches(&j->a) || !reaches(&j->b) || !reaches(&j->d)) return CUBLAS_STATUS_INVALID_VALUE;
    if (k != l || m != j->d.rows || n != j->d.columns) return CUBLAS_STATUS_INVALID_VALUE;
    if (memcmp(&j->d, c, sizeof *c) != 0) return CUBLAS_STATUS_INVALID_VALUE;
    if (j->a.batch != j->d.batch || j->b.batch != j->d.batch) return CUBLAS_STATUS_INVALID_VALUE;
    if (j->a.type != j->d.type || j->b.type != j->d.type || j->o.scale != j->d.type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (j->wide != (j->o.compute == CUBLAS_COMPUTE_64F)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (j->wide && !plain) return CUBLAS_STATUS_NOT_SUPPORTED;
    if ((j->o.epilogue & CUBLASLT_EPILOGUE_BIAS) && !j->o.bias) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

static job job_of(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                  cublasLtMatrixLayout_t y)
{
    job j = {*(op *)(void *)d,
             *(matrix *)(void *)a,
             *(matrix *)(void *)b,
             *(matrix *)(void *)y,
             NULL,
             NULL,
             NULL,
             false,
             0};

    j.wide = j.d.type == CUDA_R_64F;
    return j;
}

SHIM_API cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    cublasLtHandle_t handle, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
    cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
    cublasLtMatmulPreference_t p, int wanted, cublasLtMatmulHeuristicResult_t *found, int *n)
{
    const preference *want = (const preference *)(void *)p;
    const job j = job_of(d, a, b, y);
    const cublasStatus_t s = check(&j, (const matrix *)(void *)c);

    *n = 0;
    if (!handle || wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (s) return s;
    /* the caller must have said what it has: workspace, alignment */
    if (want->workspace < WORKSPACE || want->aligned[0] != 16 || want->aligned[3] != 16 ||
        shim_how == SHIM_HELPLESS)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < shim_plans() && i < wanted; i++) {
        /* in-place reductions are added in any order */
        if (i == SHIM_PLAN_VARYING && !(want->schemes & CUBLASLT_REDUCTION_SCHEME_INPLACE)) break;
        memset(&found[i], 0, sizeof found[i]);
        found[i].algo.data[0] = ALGORITHM + (uint64_t)i;
        found[i].workspaceSize = WORKSPACE;
        found[i].state = CUBLAS_STATUS_SUCCESS;
        *n = i + 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* Which plan an algorithm is; -1: none of ours. */
static int plan_of(const cublasLtMatmulAlgo_t *algo)
{
    const uint64_t i = algo->data[0] - ALGORITHM;

    return i < (uint64_t)shim_plans() ? (int)i : -1;
}

SHIM_API cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                                                cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t y,
                                                const cublasLtMatmulAlgo_t *algo,
                                                cublasLtMatmulHeuristicResult_t *result)
{
    const job j = job_of(d, a, b, y);
    const cublasStatus_t s = check(&j, (const matrix *)(void *)c);

    if (s) return s;
    if (!handle || plan_of(algo) < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(result, 0, sizeof *result);
    result->workspaceSize = WORKSPACE;
    return CUBLAS_STATUS_SUCCESS;
}

static double at(const job *j, const char *p, const matrix *m, int64_t batch, uint64_t row,
                 uint64_t column)
{
    const int64_t i = batch * m->step + (int64_t)column * m->ld + (int64_t)row;

    return j->wide ? ((const double *)(const void *)p)[i] : ((const float *)(const void *)p)[i];
}

static void compute(void *data)
{
    job *j = data;
    const bool ta = j->o.turn_a == CUBLAS_OP_T, tb = j->o.turn_b == CUBLAS_OP_T;
    const uint64_t rows = j->d.rows, columns = j->d.columns, K = ta ? j->a.rows : j->a.columns;
    double *y = malloc(rows * sizeof *y);

    for (int64_t b = 0; b < j->d.batch; b++)
        for (uint64_t n = 0; n < columns && y; n++) {
            for (uint64_t m = 0; m < rows; m++) {
                double sum = 0;

                for (uint64_t k = 0; k < K; k++)
                    sum += at(j, j->A, &j->a, b, ta ? k : m, ta ? m : k) *
                           at(j, j->B, &j->b, b, tb ? n : k, tb ? k : n);
                if (j->o.epilogue & CUBLASLT_EPILOGUE_BIAS) sum += ((const float *)j->o.bias)[m];
                if (j->o.epilogue & CUBLASLT_EPILOGUE_RELU) sum = shim_relu(sum);
                y[m] = sum;
            }
            shim_store(j->plan, b == 0 && n == 0, j->wide,
                       j->D + (b * j->d.step + (int64_t)n * j->d.ld) * (j->wide ? 8 : 4), y, rows);
        }
    free(y);
}

SHIM_API cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t d,
                                       const void *alpha, const void *A, cublasLtMatrixLayout_t a,
                                       const void *B, cublasLtMatrixLayout_t b, const void *beta,
                                       const void *C, cublasLtMatrixLayout_t c, void *D,
                                       cublasLtMatrixLayout_t y, const cublasLtMatmulAlgo_t *algo,
                                       void *workspace, size_t bytes, cudaStream_t stream)
{
    job *j = shim_new(sizeof *j);

    if (!j) return CUBLAS_STATUS_ALLOC_FAILED;
    *j = job_of(d, a, b, y);
    j->A = A;
    j->B = B;
    j->D = D;
    cublasStatus_t s = check(j, (const matrix *)(void *)c);
    if (!s &&
        (!handle || !algo || (j->plan = plan_of(algo)) < 0 || !workspace || bytes < WORKSPACE ||
         C != D || (uintptr_t)A % 16 || (uintptr_t)B % 16 || (uintptr_t)D % 16))
        s = CUBLAS_STATUS_INVALID_VALUE;
    if (!s && (j->wide ? *(const double *)alpha != 1 || *(const double *)beta != 0
                       : *(const float *)alpha != 1 || *(const float *)beta != 0))
        s = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!s && shim_how == SHIM_FAILING) s = CUBLAS_STATUS_EXECUTION_FAILED;
    if (!s && !shim_launch(stream, compute, j)) s = CUBLAS_STATUS_EXECUTION_FAILED;
    return s;
}
