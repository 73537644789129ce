/*
 * shim_cudnn.c - the part of cuDNN's backend interface that Tern uses: descriptors with attributes,
 * engines with one knob, plans, and their execution for graphs of a convolution, a bias and
 * ReLU. What an operation needs is asked for when its descriptor is finalised.
 */
#include "shim_cudnn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTES = 12, ROOM = 8, ENGINE = 11, KNOB = CUDNN_KNOB_TYPE_TILE_SIZE, WORKSPACE = 1024 };

typedef struct {
    cudnnBackendAttributeName_t name;
    int64_t n;
    char value[ROOM * 8];
} attribute;

typedef struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool done;
    int n;
    attribute all[ATTRIBUTES];
    int64_t number; /* of an engine, also in what is made of it, or a knob's value */
    const struct descriptor *graph;
} descriptor;

static char last[200];

cudnnStatus_t shim_refuse(cudnnStatus_t s, const char *why)
{
    snprintf(last, sizeof last, "shim: %s", why);
    return s;
}

SHIM_API size_t cudnnGetVersion(void) { return CUDNN_VERSION + (size_t)shim_version_more; }
SHIM_API const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s == CUDNN_STATUS_EXECUTION_FAILED ? "the shim was told to fail"
                                              : "a status of the shim";
}
SHIM_API void cudnnGetLastErrorString(char *to, size_t room)
{
    snprintf(to, room, "%s", last);
    last[0] = 0;
}
SHIM_API cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = calloc(1, sizeof **handle);
    return *handle ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
}
SHIM_API cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    free(handle);
    return CUDNN_STATUS_SUCCESS;
}
SHIM_API cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Descriptors ---- */

SHIM_API cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                    cudnnBackendDescriptor_t *d)
{
    descriptor *made = calloc(1, sizeof *made);

    *d = made;
    if (!made) return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    made->type = type;
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;
    }
}

static const attribute *find(const descriptor *d, cudnnBackendAttributeName_t name)
{
    for (int i = 0; d && i < d->n; i++)
        if (d->all[i].name == name) return &d->all[i];
    return NULL;
}

SHIM_API cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t to,
                                                cudnnBackendAttributeName_t name,
                                                cudnnBackendAttributeType_t type, int64_t n,
                                                const void *value)
{
    descriptor *d = to;

    if (!d || d->done || n < 1 || n > ROOM || d->n == ATTRIBUTES || find(d, name))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "an attribute");
    for (int64_t i = 0; i < n && type == CUDNN_TYPE_BACKEND_DESCRIPTOR; i++) {
        const descriptor *part = ((descriptor *const *)value)[i];
        if (!part || !part->done)
            return shim_refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "a part is not finalised");
    }
    attribute *a = &d->all[d->n++];
    a->name = name;
    a->n = n;
    memcpy(a->value, value, (size_t)n * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

static const descriptor *part(const descriptor *d, cudnnBackendAttributeName_t name)
{
    const attribute *a = find(d, name);
    const descriptor *p = NULL;

    if (a) memcpy(&p, a->value, sizeof p);
    return p;
}

static const int64_t *numbers(const descriptor *d, cudnnBackendAttributeName_t name)
{
    const attribute *a = find(d, name);

    return a ? (const int64_t *)(const void *)a->value : NULL;
}

/* ---- What must hold when something is finalised ---- */

typedef struct {
    const descriptor *x, *w, *y, *how;
} operands;

static bool operands_of(const descriptor *op, operands *o)
{
    switch (op->type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        *o = (operands){part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC)};
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        *o = (operands){part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC)};
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        *o = (operands){part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY),
                        part(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC)};
        break;
    default: return false;
    }
    return true;
}

static bool fits(const operands *o)
{
    if (!o->x || !o->w || !o->y || !o->how) return false;
    const int64_t *x = numbers(o->x, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t *w = numbers(o->w, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t *y = numbers(o->y, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t *pad = numbers(o->how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const int64_t *step = numbers(o->how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const int64_t *tap = numbers(o->how, CUDNN_ATTR_CONVOLUTION_DILATIONS);

    for (int a = 0; a < 2; a++)
        if ((x[a + 2] + 2 * pad[a] - tap[a] * (w[a + 2] - 1) - 1) / step[a] + 1 != y[a + 2])
            return false;
    return x[0] == y[0] && y[1] == w[0] && x[1] % w[1] == 0 && w[0] % (x[1] / w[1]) == 0;
}

SHIM_API cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t to)
{
    descriptor *d = to;
    operands o;

    if (!d || d->done) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "finalised twice");
    if (operands_of(d, &o) && !fits(&o))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "extents do not fit");
    if (d->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR &&
        (!find(d, CUDNN_ATTR_TENSOR_DATA_TYPE) || !find(d, CUDNN_ATTR_TENSOR_DIMENSIONS) ||
         !find(d, CUDNN_ATTR_TENSOR_STRIDES) || !find(d, CUDNN_ATTR_TENSOR_UNIQUE_ID) ||
         !find(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a tensor lacks something");
    if (d->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR) {
        const int64_t *n = numbers(d, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);

        d->graph = part(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
        if (!n || *n < ENGINE || *n >= ENGINE + shim_plans() || !d->graph)
            return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "there is no such engine");
        d->number = *n;
    }
    if (d->type == CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)
        d->number = *numbers(d, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
    if (d->type == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) {
        const descriptor *engine = part(d, CUDNN_ATTR_ENGINECFG_ENGINE);
        const descriptor *knob = part(d, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);

        if (!engine || !knob || knob->number != 3)
            return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "a knob of another value");
        d->graph = engine->graph;
        d->number = engine->number;
    }
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        const descriptor *config = part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);

        if (!find(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE))
            return shim_refuse(CUDNN_STATUS_BAD_PARAM, "a plan without a handle");
        if (shim_how == SHIM_NO_COMPILER)
            return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING,
                               "nothing is compiled here");
        d->graph = config->graph;
        d->number = config->number;
    }
    d->done = true;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t give(int64_t room, int64_t *n, void *to, const void *value, size_t bytes)
{
    if (room < 1) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "no room for an attribute");
    if (n) *n = 1;
    memcpy(to, value, bytes);
    return CUDNN_STATUS_SUCCESS;
}

/* Attributes that are descriptors, numbered from `number`, are written into some that the caller
 * made. */
static cudnnStatus_t fill(int64_t room, int64_t *n, void *to, const descriptor *graph,
                          int64_t number, int64_t count)
{
    if (room < count) return shim_refuse(CUDNN_STATUS_BAD_PARAM, "no room for a descriptor");
    for (int64_t i = 0; i < count; i++) {
        descriptor *d = ((descriptor **)to)[i];

        d->done = true;
        d->graph = graph;
        d->number = number + i;
    }
    *n = count;
    return CUDNN_STATUS_SUCCESS;
}

SHIM_API cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const from,
                                                cudnnBackendAttributeName_t name,
                                                cudnnBackendAttributeType_t type, int64_t room,
                                                int64_t *n, void *to)
{
    const descriptor *d = from;
    const int64_t workspace = WORKSPACE;
    const cudnnBackendKnobType_t knob = (cudnnBackendKnobType_t)KNOB;
    const cudnnBackendNumericalNote_t varies = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    const cudnnBackendBehaviorNote_t note = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;

    (void)type;
    if (!d || !d->done) return shim_refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "asked too early");
    if (n) *n = 0;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        if (shim_how == SHIM_HELPLESS) return CUDNN_STATUS_SUCCESS; /* no error, and no result */
        return fill(room, n, to, part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), ENGINE,
                    shim_plans());
    case CUDNN_ATTR_ENGINECFG_ENGINE: return fill(room, n, to, d->graph, d->number, 1);
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES: return fill(room, n, to, NULL, 3, 1);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        if (d->number != ENGINE + SHIM_PLAN_VARYING) return CUDNN_STATUS_SUCCESS;
        return give(room, n, to, &varies, sizeof varies);
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        if (shim_how != SHIM_COMPILES && shim_how != SHIM_NO_COMPILER) return CUDNN_STATUS_SUCCESS;
        return give(room, n, to, &note, sizeof note);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: return give(room, n, to, &d->number, 8);
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE: return give(room, n, to, &knob, sizeof knob);
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE: return give(room, n, to, &d->number, 8);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: return give(room, n, to, &workspace, 8);
    default: return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED, "an attribute that is not known");
    }
}

/* ---- Execution ---- */

typedef struct {
    cudnnBackendDescriptorType_t kind;
    int64_t x[4], w[4], y[4], xs[4], ws[4], ys[4], pad[2], step[2], tap[2];
    float *X, *W, *Y, *bias;
    bool relu;
    int plan;
} job;

/* Calls each (x, w, y) that meet. */
static void walk(const job *j, double *to)
{
    const int64_t groups = j->x[1] / j->w[1], each = j->w[0] / groups;

    for (int64_t n = 0; n < j->y[0]; n++)
        for (int64_t k = 0; k < j->y[1]; k++)
            for (int64_t p = 0; p < j->y[2]; p++)
                for (int64_t q = 0; q < j->y[3]; q++)
                    for (int64_t c = 0; c < j->w[1]; c++)
                        for (int64_t r = 0; r < j->w[2]; r++)
                            for (int64_t s = 0; s < j->w[3]; s++) {
                                const int64_t h = p * j->step[0] - j->pad[0] + r * j->tap[0];
                                const int64_t v = q * j->step[1] - j->pad[1] + s * j->tap[1];

                                if (h < 0 || h >= j->x[2] || v < 0 || v >= j->x[3]) continue;
                                const int64_t ch = k / each * j->w[1] + c;
                                const int64_t x =
                                    n * j->xs[0] + ch * j->xs[1] + h * j->xs[2] + v * j->xs[3];
                                const int64_t w =
                                    k * j->ws[0] + c * j->ws[1] + r * j->ws[2] + s * j->ws[3];
                                const int64_t y =
                                    n * j->ys[0] + k * j->ys[1] + p * j->ys[2] + q * j->ys[3];
                                if (j->kind ==
                                    CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
                                    to[y] += (double)j->X[x] * j->W[w];
                                else if (
                                    j->kind ==
                                    CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
                                    to[x] += (double)j->Y[y] * j->W[w];
                                else to[w] += (double)j->X[x] * j->Y[y];
                            }
}

static void compute(void *data)
{
    job *j = data;
    const bool forward = j->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR;
    const bool back = j->kind == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
    const int64_t *dim = forward ? j->y : back ? j->x : j->w;
    const size_t n = (size_t)(dim[0] * dim[1] * dim[2] * dim[3]);
    double *to = calloc(n ? n : 1, sizeof *to);

    if (!to) return;
    walk(j, to);
    for (size_t i = 0; i < n && forward; i++) { /* channels are innermost */
        if (j->bias) to[i] += j->bias[i % (size_t)j->y[1]];
        if (j->relu) to[i] = shim_relu(to[i]);
    }
    shim_store(j->plan, true, false, forward ? j->Y : back ? j->X : j->W, to, n);
    free(to);
}

/* The address of a tensor by its number; NULL: not in the pack. */
static void *address(const descriptor *pack, const descriptor *tensor)
{
    const attribute *ids = find(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const attribute *at = find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    const int64_t *uid = numbers(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID);

    for (int64_t i = 0; ids && at && i < ids->n; i++)
        if (((const int64_t *)(const void *)ids->value)[i] == *uid)
            return ((void *const *)(const void *)at->value)[i];
    return NULL;
}

static void geometry(const descriptor *t, int64_t *dim, int64_t *stride)
{
    memcpy(dim, numbers(t, CUDNN_ATTR_TENSOR_DIMENSIONS), 4 * sizeof *dim);
    memcpy(stride, numbers(t, CUDNN_ATTR_TENSOR_STRIDES), 4 * sizeof *stride);
}

static bool aligned(const void *p, const descriptor *t)
{
    return p && (uintptr_t)p % (uintptr_t)*numbers(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT) == 0;
}

SHIM_API cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                           cudnnBackendDescriptor_t pack)
{
    const descriptor *p = plan, *addresses = pack;
    const attribute *ops = p && p->done ? find(p->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS) : NULL;
    const descriptor *const *op = ops ? (const descriptor *const *)(const void *)ops->value : NULL;
    job *j = shim_new(sizeof *j);
    operands o;

    if (!handle || !op || !addresses->done || !j || !operands_of(op[0], &o))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "nothing to execute");
    if (!find(addresses, CUDNN_ATTR_VARIANT_PACK_WORKSPACE))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM, "no workspace");
    j->kind = op[0]->type;
    j->plan = (int)(p->number - ENGINE);
    geometry(o.x, j->x, j->xs);
    geometry(o.w, j->w, j->ws);
    geometry(o.y, j->y, j->ys);
    memcpy(j->pad, numbers(o.how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS), sizeof j->pad);
    memcpy(j->step, numbers(o.how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES), sizeof j->step);
    memcpy(j->tap, numbers(o.how, CUDNN_ATTR_CONVOLUTION_DILATIONS), sizeof j->tap);
    for (int64_t i = 1; i < ops->n; i++) { /* y of the one is x of the next */
        const descriptor *b = part(op[i], CUDNN_ATTR_OPERATION_POINTWISE_BDESC);

        if (part(op[i], CUDNN_ATTR_OPERATION_POINTWISE_XDESC) != o.y)
            return shim_refuse(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN, "the chain is broken");
        if (b && !aligned(j->bias = address(addresses, b), b))
            return shim_refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "the bias");
        j->relu |= !b;
        o.y = part(op[i], CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    }
    j->X = address(addresses, o.x);
    j->W = address(addresses, o.w);
    j->Y = address(addresses, o.y);
    if (!aligned(j->X, o.x) || !aligned(j->W, o.w) || !aligned(j->Y, o.y))
        return shim_refuse(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "an operand");
    if (shim_how == SHIM_FAILING) return shim_refuse(CUDNN_STATUS_EXECUTION_FAILED, "as told");
    return shim_launch(handle->stream, compute, j) ? CUDNN_STATUS_SUCCESS
                                                   : CUDNN_STATUS_EXECUTION_FAILED;
}
