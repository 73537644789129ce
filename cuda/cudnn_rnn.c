/*
 * cudnn_rnn.c - rnn, lstm, gru and their derivatives by cuDNN's recurrent interface (version 8).
 *
 * Taken are f32 layers that run forwards in time over sequences of one length; gru with the reset
 * gate behind the product only. Lengths lie on the device, while the library wants them on the host
 * when its descriptors are made; and it runs backwards in time only in both directions at once.
 *
 * The library keeps weights and biases in one space of its own order. Each gate's piece is copied
 * into it, out of order, through the addresses that the library names; derivatives come back the
 * same way. What its forward pass leaves for the way back has a form of its own, which no other row
 * can read: so a call that wants our reserve is refused, and a derivative runs the library's
 * forward pass again, in scratch.
 *
 * CUDNN_FMA_MATH keeps tensor cores out; math modes leave recurrent products alone, so one row
 * serves them all. The library's documents say that its recurrent calls may differ from run to run
 * unless cuBLAS is held to one size of workspace: without that setting the rows refuse, if results
 * may not vary.
 */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "tern/ops.h"
#include "vendor.h"

/* What a plan is for. A key: all bytes are defined. */
typedef struct {
    int64_t T, N, D, H;
    int cell, gates, states, biases, back;
    unsigned given, wanted; /* masks of inputs and outputs that are there */
    int varies;             /* results may */
} net;

/* Descriptors and sizes, kept with the device. */
typedef struct {
    net n;
    const ti_cudnn *api;
    cudnnHandle_t handle;
    cudnnRNNDescriptor_t how;
    cudnnRNNDataDescriptor_t x, y;
    cudnnTensorDescriptor_t state, matrix, bias;
    size_t weights, work, reserve; /* bytes */
    bool judged;
    char why[TI_VENDOR_TEXT]; /* there is no plan, or it is not trusted */
} kept;

typedef struct {
    kept *k;
    const ti_row *own;
} plan;

/* Where things begin in scratch; `all` is its size. */
typedef struct {
    size_t weights, d_weights, work, reserve, y, dy, dx, all;
} areas;

/* ---- Calls ---- */

static net net_of(const ti_work *w)
{
    const char first = w->op->name[0];
    const int s = first == 'l' ? 2 : 1;
    net n;

    memset(&n, 0, sizeof n);
    n.T = w->in[0].m.shape.dim[0];
    n.N = w->in[0].m.shape.dim[1];
    n.D = w->in[0].m.shape.dim[2];
    n.H = w->in[2 + s].m.shape.dim[1];
    n.cell = first == 'l'                                         ? CUDNN_LSTM
             : first == 'g'                                       ? CUDNN_GRU
             : ((const tern_rnn_opts *)w->opts)->act == TERN_RELU ? CUDNN_RNN_RELU
                                                                  : CUDNN_RNN_TANH;
    n.states = s;
    n.varies = w->varies;
    n.gates = first == 'l' ? 4 : first == 'g' ? 3 : 1;
    n.biases = w->in[3 + s].count >= 0 || w->in[4 + s].count >= 0;
    n.back = strchr(w->op->name, '_') != NULL;
    for (int i = 0; i < 7 + 2 * s && i < w->n_in; i++) /* y and the reserve are not looked at */
        n.given |= (unsigned)(w->in[i].count >= 0) << i;
    for (int i = 0; i < w->op->n_out; i++) n.wanted |= (unsigned)(w->out[i].count >= 0) << i;
    return n;
}

static bool repeats(void)
{
    const char *sizes = ti_env_get("CUBLAS_WORKSPACE_CONFIG");

    return sizes && (strcmp(sizes, ":16:8") == 0 || strcmp(sizes, ":4096:2") == 0);
}

static const char *rejects(const ti_work *w)
{
    const net n = net_of(w);
    const char *why;

    if (w->in[0].m.type != TERN_F32) return "takes f32";
    if (w->in[0].count == 0) return "there are no steps";
    if (w->in[5 + n.states].count >= 0)
        return "lengths lie on the device, and the library wants them on the host";
    if (*(const int *)w->opts) return "the library runs backwards only in both directions at once";
    if (n.cell == CUDNN_GRU && ((const tern_gru_opts *)w->opts)->reset_before)
        return "the library's reset gate acts behind the product";
    if (!n.back && n.gates > 1 && w->out[1 + n.states].count >= 0)
        return "the library's reserve is of another form than that of our own rows";
    for (int i = 0; i < w->n_in; i++)
        if (w->in[i].count > INT_MAX) return "a tensor has more than 2^31 elements";
    if (n.gates * n.H > INT_MAX) return "an extent needs more than 31 bits";
    if (!w->varies && !repeats())
        return "may differ from run to run without CUBLAS_WORKSPACE_CONFIG=:4096:2 (or :16:8)";
    return ti_cudnn_of(w->device, NULL, &why) ? NULL : why;
}

static size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

static areas areas_of(const kept *k)
{
    const size_t y = rounded((size_t)(k->n.T * k->n.N * k->n.H) * sizeof(float));
    areas a = {0};

    a.weights = 0;
    a.d_weights = rounded(k->weights);
    a.work = a.d_weights + (k->n.back ? rounded(k->weights) : 0);
    a.reserve = a.work + rounded(k->work);
    a.y = a.reserve + (k->n.back ? rounded(k->reserve) : 0);
    a.dy = a.y + y;
    a.dx = a.dy + (k->n.back ? y : 0);
    a.all = a.dx + (k->n.back ? rounded((size_t)(k->n.T * k->n.N * k->n.D) * sizeof(float)) : 0);
    return a;
}

/* ---- Running ---- */

static bool fine(const ti_work *w, const kept *k, cudnnStatus_t s)
{
    if (s) ti_cuda_fail(w->device, k->api->status_text(s), w->op->name);
    return s == CUDNN_STATUS_SUCCESS;
}

static void copy(const ti_work *w, void *to, const void *from, size_t bytes)
{
    ti_cuda_check(w->device,
                  cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, w->device->stream),
                  w->op->name);
}

static void zero(const ti_work *w, void *to, size_t bytes)
{
    ti_cuda_check(w->device, cudaMemsetAsync(to, 0, bytes, w->device->stream), w->op->name);
}

/* One gate's rows of ours and the library's piece; a bias that is absent is zeros. */
static void move_piece(const ti_work *w, const ti_view *ours, int gate, size_t bytes, char *piece,
                       bool back)
{
    char *rows = ours->count >= 0 ? (char *)ours->data + (size_t)gate * bytes : NULL;

    if (!piece) return;
    if (!back && !rows) zero(w, piece, bytes);
    else if (rows) copy(w, back ? rows : piece, back ? piece : rows, bytes);
}

/* Weights and biases into the library's space; or their derivatives out of it. */
static bool move(const ti_work *w, const kept *k, char *space, bool back)
{
    const net *n = &k->n;
    const ti_view *ours = (back ? w->out : w->in) + 1 + n->states; /* w_ih, w_hh, b_ih, b_hh */
    const size_t row = (size_t)n->H * sizeof(float);

    for (int i = 0; i < 2 * n->gates; i++) {
        const int gate = i % n->gates, recurrent = i / n->gates;
        void *matrix = NULL, *bias = NULL;

        if (!fine(w, k,
                  k->api->rnn_weight(k->handle, k->how, 0, k->weights, space, i, k->matrix, &matrix,
                                     k->bias, &bias)))
            return false;
        move_piece(w, &ours[recurrent], gate, row * (size_t)(recurrent ? n->H : n->D), matrix,
                   back);
        if (back && w->in[3 + n->states + recurrent].count < 0) continue; /* its gradient is zero */
        move_piece(w, &ours[2 + recurrent], gate, row, bias, back);
    }
    return true;
}

static void *data_of(const ti_view *v) { return v->count >= 0 ? v->data : NULL; }

static bool forward(const ti_work *w, const kept *k, const areas *a, void *y, void *h_n, void *c_n)
{
    char *at = w->scratch;
    const bool lstm = k->n.states == 2;

    return move(w, k, at + a->weights, false) &&
           fine(
               w, k,
               k->api->rnn_forward(k->handle, k->how,
                                   k->n.back ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE,
                                   NULL, k->x, w->in[0].data, k->y, y, k->state, data_of(&w->in[1]),
                                   h_n, lstm ? k->state : NULL, lstm ? data_of(&w->in[2]) : NULL,
                                   c_n, k->weights, at + a->weights, k->work, at + a->work,
                                   k->n.back ? k->reserve : 0, k->n.back ? at + a->reserve : NULL));
}

static void run_forward(const ti_work *w)
{
    const kept *k = ((const plan *)w->plan)->k;
    const areas a = areas_of(k);
    void *y = data_of(&w->out[0]);

    (void)cudaSetDevice(w->device->index);
    if (forward(w, k, &a, y ? y : (char *)w->scratch + a.y, data_of(&w->out[1]),
                k->n.states == 2 ? data_of(&w->out[2]) : NULL))
        ti_cuda_launched(w->device, w->op->name);
}

/* Of x and the states; of the weights. */
static bool back_data(const ti_work *w, const kept *k, const areas *a)
{
    char *at = w->scratch;
    const int s = k->n.states;
    const size_t y_bytes = (size_t)(k->n.T * k->n.N * k->n.H) * sizeof(float);
    const ti_view *gy = &w->in[6 + s], *h0 = &w->in[1], *c0 = &w->in[2];
    void *dx = data_of(&w->out[0]);

    if (gy->count < 0) zero(w, at + a->dy, y_bytes);
    return fine(w, k,
                k->api->rnn_back_data(
                    k->handle, k->how, NULL, k->y, at + a->y, gy->count < 0 ? at + a->dy : gy->data,
                    k->x, dx ? dx : at + a->dx, k->state, data_of(h0), data_of(&w->in[7 + s]),
                    h0->count < 0 ? NULL : data_of(&w->out[1]), s == 2 ? k->state : NULL,
                    s == 2 ? data_of(c0) : NULL, s == 2 ? data_of(&w->in[8 + s]) : NULL,
                    s == 2 && c0->count >= 0 ? data_of(&w->out[2]) : NULL, k->weights,
                    at + a->weights, k->work, at + a->work, k->reserve, at + a->reserve));
}

static bool back_weights(const ti_work *w, const kept *k, const areas *a)
{
    char *at = w->scratch;

    zero(w, at + a->d_weights, k->weights); /* the library adds */
    return fine(w, k,
                k->api->rnn_back_weights(k->handle, k->how, CUDNN_WGRAD_MODE_ADD, NULL, k->x,
                                         w->in[0].data, k->state, data_of(&w->in[1]), k->y,
                                         at + a->y, k->weights, at + a->d_weights, k->work,
                                         at + a->work, k->reserve, at + a->reserve)) &&
           move(w, k, at + a->d_weights, true);
}

static void zero_view(const ti_work *w, const ti_view *v)
{
    if (v->count > 0) zero(w, v->data, ti_bytes(&v->m));
}

static void run_back(const ti_work *w)
{
    const kept *k = ((const plan *)w->plan)->k;
    const areas a = areas_of(k);
    const int s = k->n.states;
    bool weighs = false;

    (void)cudaSetDevice(w->device->index);
    for (int i = 1; i <= s; i++) /* of a state that is absent */
        if (w->in[i].count < 0) zero_view(w, &w->out[i]);
    for (int i = 0; i < 2; i++)
        if (w->in[3 + s + i].count < 0) zero_view(w, &w->out[3 + s + i]);
    for (int i = 1 + s; i <= 4 + s; i++) weighs |= w->out[i].count >= 0;
    if (!forward(w, k, &a, (char *)w->scratch + a.y, NULL, NULL) || !back_data(w, k, &a)) return;
    if (weighs && !back_weights(w, k, &a)) return;
    ti_cuda_launched(w->device, w->op->name);
}

static void run_plan(const ti_work *w)
{
    if (((const plan *)w->plan)->k->n.back) run_back(w);
    else run_forward(w);
}

/* What lies off its alignment is our own row's; weights are copied and may. */
static void run(const ti_work *w)
{
    const plan *p = w->plan;
    const int s = p->k->n.states;
    bool lies_well = true;

    for (int i = 0; i < w->n_in; i++)
        if (i <= s || i > 5 + s) lies_well &= ti_vendor_aligned(&w->in[i]);
    for (int i = 0; i <= s; i++) lies_well &= ti_vendor_aligned(&w->out[i]);
    if (lies_well) run_plan(w);
    else p->own->run(w);
}

/* ---- Preparing ---- */

static void drop_kept(ti_device *d, void *from)
{
    kept *k = from;

    (void)d;
    if (k->how) (void)k->api->rnn_drop(k->how);
    if (k->x) (void)k->api->rnn_data_drop(k->x);
    if (k->y) (void)k->api->rnn_data_drop(k->y);
    if (k->state) (void)k->api->tensor_drop(k->state);
    if (k->matrix) (void)k->api->tensor_drop(k->matrix);
    if (k->bias) (void)k->api->tensor_drop(k->bias);
}

/* length[N]: all T. */
static cudnnStatus_t describe(kept *k, const int *length)
{
    const net *n = &k->n;
    const ti_cudnn *api = k->api;
    const int T = (int)n->T, N = (int)n->N, D = (int)n->D, H = (int)n->H;
    const int dim[3] = {1, N, H}, stride[3] = {N * H, H, 1};
    const cudnnRNNDataLayout_t packed = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED;
    cudnnStatus_t s = api->rnn_make(&k->how);

    if (!s) s = api->rnn_data_make(&k->x);
    if (!s) s = api->rnn_data_make(&k->y);
    if (!s) s = api->tensor_make(&k->state);
    if (!s) s = api->tensor_make(&k->matrix);
    if (!s) s = api->tensor_make(&k->bias);
    if (!s)
        s = api->rnn_set(k->how, CUDNN_RNN_ALGO_STANDARD, (cudnnRNNMode_t)n->cell,
                         n->biases ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_NO_BIAS,
                         CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT,
                         CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, D, H, H, 1, NULL,
                         CUDNN_RNN_PADDED_IO_DISABLED);
    if (!s) s = api->rnn_data_set(k->x, CUDNN_DATA_FLOAT, packed, T, N, D, length, NULL);
    if (!s) s = api->rnn_data_set(k->y, CUDNN_DATA_FLOAT, packed, T, N, H, length, NULL);
    if (!s) s = api->tensor_set(k->state, CUDNN_DATA_FLOAT, 3, dim, stride);
    if (!s) s = api->rnn_weight_space(k->handle, k->how, &k->weights);
    if (!s)
        s = api->rnn_temp_space(k->handle, k->how,
                                n->back ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE, k->x,
                                &k->work, &k->reserve);
    return s;
}

static void make(kept *k)
{
    int *length = ti_cuda_host_alloc((size_t)k->n.N * sizeof *length);

    if (!length) {
        snprintf(k->why, sizeof k->why, "no memory for a plan");
        return;
    }
    for (int64_t i = 0; i < k->n.N; i++) length[i] = (int)k->n.T;
    const cudnnStatus_t s = describe(k, length);
    ti_cuda_host_free(length);
    if (s) {
        char text[160] = "";

        k->api->last_error(text, sizeof text);
        snprintf(k->why, sizeof k->why, "cuDNN has no plan: %.60s %.160s", k->api->status_text(s),
                 text);
    } else if (k->work > TI_VENDOR_WORKSPACE) {
        snprintf(k->why, sizeof k->why, "cuDNN wants %zu bytes of workspace, %zu are allowed",
                 k->work, TI_VENDOR_WORKSPACE);
    }
}

/* The plan for n, made for the first time or found again. NULL: there is no memory, or no library.
 */
static kept *keep(const ti_work *w, const net *n, const char **why)
{
    kept *k = ti_vendor_find(w->device, n, sizeof *n);
    cudnnHandle_t handle;
    const ti_cudnn *api = ti_cudnn_of(w->device, &handle, why);

    if (k || !api) return k;
    *why = "no memory for a plan";
    k = ti_vendor_keep(w->device, n, sizeof *n, sizeof *k, drop_kept);
    if (!k) return NULL;
    k->api = api;
    k->handle = handle;
    make(k);
    return k;
}

/* Weights are drawn so small that the gates do not saturate. */
static const char *try_it(const ti_work *w, const plan *p)
{
    const net *n = &p->k->n;
    const int s = n->states, saved = 7 + 2 * s; /* y, the reserve: our own row makes them again */
    double scale[TI_FEW] = {0};
    ti_view in[TI_FEW];
    ti_work trial = *w;

    memcpy(in, w->in, (size_t)w->n_in * sizeof *in);
    for (int i = saved; i < w->n_in; i++) in[i].count = -1;
    trial.in = in;
    trial.plan = p;
    scale[1 + s] = exp2(-ceil(log2((double)n->D) / 2));
    scale[2 + s] = exp2(-ceil(log2((double)n->H) / 2));
    return ti_trust_net(&trial, p->own, run_plan, areas_of(p->k).all, scale, "cudnn");
}

static const char *prepare(const ti_work *w, void *to)
{
    const net n = net_of(w);
    const char *why = NULL;
    plan *p = to;

    p->own = ti_own_row(w);
    if (!p->own) return "there is no row of our own to check it against";
    p->k = keep(w, &n, &why);
    if (!p->k) return why;
    if (p->k->why[0] || p->k->judged) return p->k->why[0] ? p->k->why : NULL;
    why = try_it(w, p);
    p->k->judged = true;
    if (why) snprintf(p->k->why, sizeof p->k->why, "%s", why);
    return why;
}

static size_t scratch(const ti_work *w)
{
    const plan *p = w->plan;
    const size_t own = ti_own_scratch(p->own, w), mine = areas_of(p->k).all;

    return mine > own ? mine : own;
}

static double chain(const ti_work *w)
{
    const plan *p = w->plan;
    const net *n = &p->k->n;
    const double widest = (double)(n->D > n->H ? n->D : n->H);
    const double rows = n->back ? fmax((double)(n->T * n->N), (double)(n->gates * n->H)) : 0;
    const double own = p->own->chain ? p->own->chain(w) : 1;

    return fmax(own, fmax(widest, rows) + 3);
}

/* ---- Rows ---- */

/* Below those of our own rows; not yet by measurements on a GPU. */
static double cost(const ti_work *w)
{
    return 2500 * (double)(w->in[0].m.shape.dim[0] + 1) + ti_work_bytes(w) * 1e-3;
}

#define M TI_ROW_MAJOR
#define ROW(name)                                                                                  \
    {                                                                                              \
        .op = name, .impl = "cudnn", .reject = rejects, .cost = cost,                              \
        .want = {M, M, M, M, M, M, M, M, M, M, M, M, M}, .plan_bytes = sizeof(plan),               \
        .prepare = prepare, .scratch = scratch, .run = run, .chain = chain,                        \
        .numbers = TI_REORDERED                                                                    \
    }

const ti_row ti_vendor_cudnn_rnn[] = {ROW("rnn"),    ROW("lstm"),  ROW("gru"),  ROW("rnn_d"),
                                      ROW("lstm_d"), ROW("gru_d"), {.op = NULL}};
