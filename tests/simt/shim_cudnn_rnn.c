/*
 * shim_cudnn_rnn.c - the part of cuDNN's recurrent interface that Tern uses: one layer, forwards in
 * time, sequences of one length, in f32 without tensor cores. Computed in double.
 *
 * The pieces of the weight space lie in an order that nobody would guess, with gaps. A forward pass
 * for training leaves in the reserve what the way back reads: per step, sequence and feature the
 * gates, c and h; then what arrived at the gates.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shim_cudnn.h"

enum { GAP = 4, WORK = 512, GATES = 4, C = 4, STATE = 5, DX = 6, DH = 10, KEPT = 14, MARK = 7353 };

struct cudnnRNNStruct {
    int cell, gates, biases, D, H;
};
struct cudnnRNNDataStruct {
    int T, N, width;
};
struct cudnnTensorStruct {
    int n, dim[4], stride[4];
};

#define MAKE(name, type)                                                                           \
    SHIM_API cudnnStatus_t cudnnCreate##name(type *to)                                             \
    {                                                                                              \
        *to = calloc(1, sizeof **to);                                                              \
        return *to ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;    \
    }                                                                                              \
    SHIM_API cudnnStatus_t cudnnDestroy##name(type d)                                              \
    {                                                                                              \
        free(d);                                                                                   \
        return CUDNN_STATUS_SUCCESS;                                                               \
    }
MAKE(TensorDescriptor, cudnnTensorDescriptor_t)
MAKE(RNNDescriptor, cudnnRNNDescriptor_t)
MAKE(RNNDataDescriptor, cudnnRNNDataDescriptor_t)

SHIM_API cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t t, cudnnDataType_t type,
                                                  int n, const int *dim, const int *stride)
{
    if (type != CUDNN_DATA_FLOAT || n != 3) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a state");
    t->n = n;
    memcpy(t->dim, dim, (size_t)n * sizeof *dim);
    memcpy(t->stride, stride, (size_t)n * sizeof *stride);
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t d, cudnnRNNAlgo_t algo,
                                                cudnnRNNMode_t cell, cudnnRNNBiasMode_t biases,
                                                cudnnDirectionMode_t way, cudnnRNNInputMode_t input,
                                                cudnnDataType_t type, cudnnDataType_t precision,
                                                cudnnMathType_t math, int32_t D, int32_t H,
                                                int32_t projection, int32_t layers,
                                                cudnnDropoutDescriptor_t dropout, uint32_t flags)
{
    if (D < 1 || H < 1 || projection != H || layers != 1 || dropout || flags)
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a net's extents");
    if (algo != CUDNN_RNN_ALGO_STANDARD || way != CUDNN_UNIDIRECTIONAL ||
        input != CUDNN_LINEAR_INPUT || type != CUDNN_DATA_FLOAT || precision != CUDNN_DATA_FLOAT)
        return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "such a net");
    if (math != CUDNN_FMA_MATH)
        return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "tensor cores would round to tf32");
    *d = (struct cudnnRNNStruct){cell,
                                 cell == CUDNN_LSTM  ? 4
                                 : cell == CUDNN_GRU ? 3
                                                     : 1,
                                 biases == CUDNN_RNN_DOUBLE_BIAS, D, H};
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type,
                                                 cudnnRNNDataLayout_t layout, int T, int N,
                                                 int width, const int *length, void *fill)
{
    if (type != CUDNN_DATA_FLOAT || layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED || fill)
        return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "such a layout");
    for (int i = 0; i < N; i++)
        if (length[i] != T) return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "lengths that differ");
    *d = (struct cudnnRNNDataStruct){T, N, width};
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Spaces ---- */

/* Where the pieces of linear layer `id` begin, in floats; the last ones come first. */
static size_t piece(const struct cudnnRNNStruct *d, int id, size_t *bias)
{
    size_t at = GAP;

    for (int i = 2 * d->gates - 1;; i--) {
        const size_t matrix = (size_t)d->H * (size_t)(i < d->gates ? d->D : d->H);

        if (bias) *bias = at + matrix + GAP;
        if (i == id) return at;
        at += matrix + GAP + (size_t)d->H + GAP;
    }
}

static size_t weight_floats(const struct cudnnRNNStruct *d)
{
    size_t bias;

    (void)piece(d, 0, &bias);
    return bias + (size_t)d->H + GAP;
}

SHIM_API cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                                  size_t *bytes)
{
    if (!handle || !d->H) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "no net");
    if (shim_how == SHIM_HELPLESS) return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "no such net");
    *bytes = weight_floats(d) * sizeof(float);
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                                 cudnnForwardMode_t mode,
                                                 cudnnRNNDataDescriptor_t x, size_t *work,
                                                 size_t *reserve)
{
    if (!handle || x->width != d->D) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "x does not fit");
    *work = WORK;
    *reserve = mode == CUDNN_FWD_MODE_TRAINING
                   ? ((size_t)x->T * (size_t)x->N * (size_t)d->H * KEPT + 1) * sizeof(double)
                   : 0;
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                               int32_t layer, size_t bytes, const void *space,
                                               int32_t id, cudnnTensorDescriptor_t matrix,
                                               void **to_matrix, cudnnTensorDescriptor_t bias,
                                               void **to_bias)
{
    size_t b;

    if (!handle || layer != 0 || id < 0 || id >= 2 * d->gates || !space || !matrix || !bias ||
        bytes != weight_floats(d) * sizeof(float))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "no such piece");
    float *const base = (float *)(uintptr_t)space;
    *to_matrix = base + piece(d, id, &b);
    *to_bias = d->biases ? base + b : NULL;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Jobs ---- */

typedef struct {
    struct cudnnRNNStruct net;
    int T, N;
    bool training;
    const float *x, *hx, *cx, *weights, *dy, *dhy, *dcy;
    float *y, *hy, *cy, *dx, *dhx, *dcx, *d_weights;
    double *kept;
} job;

static double *at(const job *j, int t, int n, int k)
{
    return j->kept + 1 +
           (((size_t)t * (size_t)j->N + (size_t)n) * (size_t)j->net.H + (size_t)k) * KEPT;
}

static double weight(const job *j, int id, int row, int column)
{
    const size_t width = (size_t)(id < j->net.gates ? j->net.D : j->net.H);

    return j->weights[piece(&j->net, id, NULL) + (size_t)row * width + (size_t)column];
}

/* The state before step t. */
static double before(const job *j, int t, int n, int k, int what)
{
    const float *first = what == C ? j->cx : j->hx;

    if (t > 0) return at(j, t - 1, n, k)[what];
    return first ? first[n * j->net.H + k] : 0;
}

static double gate_sum(const job *j, int id, int t, int n, int row)
{
    const int D = j->net.D;
    const bool recurrent = id >= j->net.gates;
    size_t bias;
    double sum = 0;

    (void)piece(&j->net, id, &bias);
    if (j->net.biases) sum = j->weights[bias + (size_t)row];
    for (int i = 0; i < (recurrent ? j->net.H : D); i++)
        sum += weight(j, id, row, i) *
               (recurrent ? before(j, t, n, i, STATE)
                          : j->x[((size_t)t * (size_t)j->N + (size_t)n) * (size_t)D + (size_t)i]);
    return sum;
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static void step(const job *j, int t, int n, int k)
{
    const int G = j->net.gates;
    double a[GATES], b[GATES], *to = at(j, t, n, k);

    for (int g = 0; g < G; g++) {
        a[g] = gate_sum(j, g, t, n, k);
        b[g] = gate_sum(j, G + g, t, n, k);
    }
    switch (j->net.cell) {
    case CUDNN_LSTM:
        for (int g = 0; g < 4; g++) to[g] = g == 2 ? tanh(a[g] + b[g]) : sigmoid(a[g] + b[g]);
        to[C] = to[1] * before(j, t, n, k, C) + to[0] * to[2];
        to[STATE] = to[3] * tanh(to[C]);
        break;
    case CUDNN_GRU:
        to[0] = sigmoid(a[0] + b[0]);
        to[1] = sigmoid(a[1] + b[1]);
        to[3] = b[2];
        to[2] = tanh(a[2] + to[0] * b[2]);
        to[STATE] = (1 - to[1]) * to[2] + to[1] * before(j, t, n, k, STATE);
        break;
    case CUDNN_RNN_RELU: to[STATE] = shim_relu(a[0] + b[0]); break;
    default: to[STATE] = tanh(a[0] + b[0]);
    }
}

/* what[STATE or C] of some steps as floats. */
static void give(const job *j, float *to, int from, int steps, int what)
{
    const size_t n = (size_t)steps * (size_t)j->N * (size_t)j->net.H;
    double *all = to ? malloc((n + 1) * sizeof *all) : NULL;

    for (size_t i = 0; all && i < n; i++) all[i] = at(j, from, 0, 0)[i * KEPT + (size_t)what];
    if (all) shim_store(0, false, false, to, all, n);
    free(all);
}

static void run_forward(void *data)
{
    job *j = data;
    job own = *j;
    double *mine = NULL;

    if (!j->training)
        own.kept = mine =
            malloc(((size_t)j->T * (size_t)j->N * (size_t)j->net.H * KEPT + 1) * sizeof *mine);
    if (!own.kept) return;
    own.kept[0] = MARK;
    for (int t = 0; t < own.T; t++)
        for (int n = 0; n < own.N; n++)
            for (int k = 0; k < own.net.H; k++) step(&own, t, n, k);
    give(&own, j->y, 0, j->T, STATE);
    give(&own, j->hy, j->T - 1, 1, STATE);
    give(&own, j->cy, j->T - 1, 1, C);
    free(mine);
}

/* From what arrives at h and c of step t to the gates' sums; d[0], d[1]: to h and c before it,
 * past the recurrent weights. */
static void step_back(const job *j, int t, int n, int k, double dh, double dc, double d[2])
{
    double *g = at(j, t, n, k), *x = g + DX, *h = g + DH;
    const double c = tanh(g[C]);

    d[0] = d[1] = 0;
    switch (j->net.cell) {
    case CUDNN_LSTM:
        dc += dh * g[3] * (1 - c * c);
        x[0] = dc * g[2] * g[0] * (1 - g[0]);
        x[1] = dc * before(j, t, n, k, C) * g[1] * (1 - g[1]);
        x[2] = dc * g[0] * (1 - g[2] * g[2]);
        x[3] = dh * c * g[3] * (1 - g[3]);
        d[1] = dc * g[1];
        break;
    case CUDNN_GRU:
        x[2] = dh * (1 - g[1]) * (1 - g[2] * g[2]);
        x[1] = dh * (before(j, t, n, k, STATE) - g[2]) * g[1] * (1 - g[1]);
        x[0] = x[2] * g[3] * g[0] * (1 - g[0]);
        d[0] = dh * g[1];
        break;
    case CUDNN_RNN_RELU: x[0] = g[STATE] > 0 ? dh : 0; break;
    default: x[0] = dh * (1 - g[STATE] * g[STATE]);
    }
    memcpy(h, x, GATES * sizeof *h);
    if (j->net.cell == CUDNN_GRU) h[2] = x[2] * g[0];
}

/* Column i of the gates' weights times what arrived at them. */
static double through(const job *j, int t, int n, int i, bool recurrent)
{
    double sum = 0;

    for (int g = 0; g < j->net.gates; g++)
        for (int k = 0; k < j->net.H; k++)
            sum += weight(j, recurrent ? j->net.gates + g : g, k, i) *
                   at(j, t, n, k)[(recurrent ? DH : DX) + g];
    return sum;
}

static void states_back(const job *j, int t, int n, double *dh, double *dc, double *dx)
{
    const int H = j->net.H, D = j->net.D;
    double *past = malloc((size_t)H * sizeof *past);

    for (int k = 0; past && k < H; k++) {
        double d[2];

        step_back(j, t, n, k,
                  dh[k] + j->dy[((size_t)t * (size_t)j->N + (size_t)n) * (size_t)H + (size_t)k],
                  dc[k], d);
        past[k] = d[0];
        dc[k] = d[1];
    }
    for (int k = 0; past && k < H; k++) dh[k] = past[k] + through(j, t, n, k, true);
    for (int i = 0; past && i < D; i++) dx[i] = through(j, t, n, i, false);
    free(past);
}

static void run_back(void *data)
{
    const job *j = data;
    const size_t H = (size_t)j->net.H, D = (size_t)j->net.D, N = (size_t)j->N, T = (size_t)j->T;
    double *dh = calloc(2 * N * H + T * N * D + 1, sizeof *dh);
    double *dc = dh + N * H, *dx = dc + N * H;

    if (!dh || j->kept[0] != MARK) return; /* and leaves the results as they were */
    for (size_t i = 0; i < N * H; i++) {
        dh[i] = j->dhy ? j->dhy[i] : 0;
        dc[i] = j->dcy ? j->dcy[i] : 0;
    }
    for (size_t t = T; t-- > 0;)
        for (size_t n = 0; n < N; n++)
            states_back(j, (int)t, (int)n, dh + n * H, dc + n * H, dx + (t * N + n) * D);
    shim_store(0, false, false, j->dx, dx, T * N * D);
    if (j->dhx) shim_store(0, false, false, j->dhx, dh, N * H);
    if (j->dcx) shim_store(0, false, false, j->dcx, dc, N * H);
    free(dh);
}

/* What one step of one sequence adds to the pieces of linear layer `id`. */
static void add_weights(const job *j, double *to, int id, int t, int n)
{
    const int G = j->net.gates, H = j->net.H, D = j->net.D;
    const bool recurrent = id >= G;
    const int width = recurrent ? H : D;
    size_t bias;
    const size_t matrix = piece(&j->net, id, &bias);

    for (int k = 0; k < H; k++) {
        const double d = at(j, t, n, k)[(recurrent ? DH : DX) + id % G];

        if (j->net.biases) to[bias + (size_t)k] += d;
        for (int i = 0; i < width; i++)
            to[matrix + (size_t)k * (size_t)width + (size_t)i] +=
                d * (recurrent
                         ? before(j, t, n, i, STATE)
                         : j->x[((size_t)t * (size_t)j->N + (size_t)n) * (size_t)D + (size_t)i]);
    }
}

static void run_weights(void *data)
{
    const job *j = data;
    const size_t all = weight_floats(&j->net);
    double *to = malloc(all * sizeof *to);

    if (!to || j->kept[0] != MARK) return;
    for (size_t i = 0; i < all; i++) to[i] = j->d_weights[i];
    for (int id = 0; id < 2 * j->net.gates; id++)
        for (int t = 0; t < j->T; t++)
            for (int n = 0; n < j->N; n++) add_weights(j, to, id, t, n);
    shim_store(0, false, false, j->d_weights, to, all);
    free(to);
}

/* ---- Calls ---- */

static bool is_state(cudnnTensorDescriptor_t t, const job *j)
{
    return t && t->dim[0] == 1 && t->dim[1] == j->N && t->dim[2] == j->net.H && t->stride[2] == 1 &&
           t->stride[1] == j->net.H;
}

/* A job with what all calls check. NULL: it does not fit. */
static job *job_of(cudnnHandle_t handle, cudnnRNNDescriptor_t d, const int32_t *lengths,
                   cudnnRNNDataDescriptor_t x, cudnnRNNDataDescriptor_t y,
                   cudnnTensorDescriptor_t h, size_t weight_bytes, size_t work, const void *space)
{
    job *j = shim_new(sizeof *j);

    if (!handle || !j || lengths || x->width != d->D || y->width != d->H || x->T != y->T ||
        x->N != y->N || work < WORK || !space || weight_bytes != weight_floats(d) * sizeof(float))
        return NULL;
    j->net = *d;
    j->T = x->T;
    j->N = x->N;
    return is_state(h, j) ? j : NULL;
}

static cudnnStatus_t launch(cudnnHandle_t handle, cudaHostFn_t f, job *j)
{
    if (shim_how == SHIM_FAILING) return shim_refuse(CUDNN_STATUS_EXECUTION_FAILED, "as told");
    return shim_launch(handle->stream, f, j) ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_EXECUTION_FAILED;
}

SHIM_API cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t d,
                                       cudnnForwardMode_t mode, const int32_t *lengths,
                                       cudnnRNNDataDescriptor_t x_is, const void *x,
                                       cudnnRNNDataDescriptor_t y_is, void *y,
                                       cudnnTensorDescriptor_t h, const void *hx, void *hy,
                                       cudnnTensorDescriptor_t c, const void *cx, void *cy,
                                       size_t weight_bytes, const void *weights, size_t work_bytes,
                                       void *work, size_t reserve_bytes, void *reserve)
{
    const bool training = mode == CUDNN_FWD_MODE_TRAINING;
    job *j = job_of(handle, d, lengths, x_is, y_is, h, weight_bytes, work_bytes, work);

    if (!j || !x || !y || !weights || (training && (!reserve || !reserve_bytes)) ||
        (d->cell == CUDNN_LSTM && !is_state(c, j)))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a forward pass");
    j->training = training;
    j->x = x, j->hx = hx, j->cx = cx, j->weights = weights;
    j->y = y, j->hy = hy, j->cy = d->cell == CUDNN_LSTM ? cy : NULL;
    j->kept = reserve;
    return launch(handle, run_forward, j);
}

SHIM_API cudnnStatus_t cudnnRNNBackwardData_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t d, const int32_t *lengths,
    cudnnRNNDataDescriptor_t y_is, const void *y, const void *dy, cudnnRNNDataDescriptor_t x_is,
    void *dx, cudnnTensorDescriptor_t h, const void *hx, const void *dhy, void *dhx,
    cudnnTensorDescriptor_t c, const void *cx, const void *dcy, void *dcx, size_t weight_bytes,
    const void *weights, size_t work_bytes, void *work, size_t reserve_bytes, void *reserve)
{
    job *j = job_of(handle, d, lengths, x_is, y_is, h, weight_bytes, work_bytes, work);

    if (!j || !y || !dy || !dx || !weights || !reserve || !reserve_bytes ||
        (d->cell == CUDNN_LSTM && !is_state(c, j)))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a way back");
    j->hx = hx, j->cx = cx, j->weights = weights;
    j->dy = dy, j->dhy = dhy, j->dcy = dcy;
    j->dx = dx, j->dhx = dhx, j->dcx = dcx;
    j->kept = reserve;
    return launch(handle, run_back, j);
}

SHIM_API cudnnStatus_t cudnnRNNBackwardWeights_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t d, cudnnWgradMode_t mode, const int32_t *lengths,
    cudnnRNNDataDescriptor_t x_is, const void *x, cudnnTensorDescriptor_t h, const void *hx,
    cudnnRNNDataDescriptor_t y_is, const void *y, size_t weight_bytes, void *d_weights,
    size_t work_bytes, void *work, size_t reserve_bytes, void *reserve)
{
    job *j = job_of(handle, d, lengths, x_is, y_is, h, weight_bytes, work_bytes, work);

    if (mode != CUDNN_WGRAD_MODE_ADD) return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "no adding");
    if (!j || !x || !y || !d_weights || !reserve || !reserve_bytes)
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "derivatives of weights");
    j->x = x, j->hx = hx, j->d_weights = d_weights, j->kept = reserve;
    return launch(handle, run_weights, j);
}
