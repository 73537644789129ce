/*
 * dnn.h - convolutions as operation graphs of cuDNN's backend interface, and plans for them.
 *
 * Only execution needs a device: graphs, heuristics and plans are also made for the properties of
 * one that is not there, which is how tests without a GPU see what the library takes.
 */
#ifndef TI_CUDA_DNN_H
#define TI_CUDA_DNN_H

#include "vendor.h"

typedef enum { TI_CONV_Y, TI_CONV_DX, TI_CONV_DW } ti_conv_kind;

/* One convolution, forward or an adjoint: y = act(conv(x, w) + bias), channels-last images and
 * filters (K,R,S,C/G in memory). A key: all bytes are defined. */
typedef struct {
    int64_t x[4], w[4], y[4]; /* extents N,C,H,W; K,C/G,R,S; N,K,P,Q */
    int64_t stride[2], pad[2], dilation[2];
    int kind, type, bias, relu, math;
    int varies; /* the result may differ between equal runs */
} ti_conv;

/* The convolutions that a call of conv2d, conv2d_dx, conv2d_dw, conv2d_act or conv2d_act_d is made
 * of, its views with or without data; how many: 0 (none), 1, or 2 (dx and dw, not the bias). */
int ti_convs_of(const ti_work *w, ti_conv c[2]);

/* Numbers by which the tensors go in a pack of addresses. */
enum { TI_UID_X = 1, TI_UID_W, TI_UID_Y, TI_UID_BIAS };

/* Where plans are for: a device's handle, or properties. */
typedef struct {
    const ti_cudnn *api;
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
} ti_dnn_target;

/* What a plan is made of, as the plan cache writes it. */
enum { TI_KNOBS = 32 };
typedef struct {
    int64_t engine;
    int n_knob;
    int64_t knob[TI_KNOBS], value[TI_KNOBS];
} ti_engine;

enum { TI_DESCRIPTORS = 24 };
typedef struct {
    ti_dnn_target target;
    cudnnBackendDescriptor_t made[TI_DESCRIPTORS], graph, plan; /* in the order they were made */
    int n_made;
    int64_t workspace;
    ti_engine engine;
    bool varies;       /* the plan says that its results do */
    char trouble[240]; /* why there is no graph, or no plan */
} ti_dnn;

/* What became of the configurations that the heuristics returned. */
typedef struct {
    int offered;
    int unfit;    /* by their notes: tensor cores in strict f32, not repeatable, other sums */
    int large;    /* need more workspace than TI_VENDOR_WORKSPACE */
    int compiled; /* at run time: they need a driver, and come after all others */
    int refused;  /* when finalised */
} ti_tally;

/* The graph of c. False and g->trouble: the library does not know such a graph. */
bool ti_dnn_make(ti_dnn *g, const ti_dnn_target *t, const ti_conv *c);
/* The best plan that c allows, by the heuristics. False and g->trouble. */
bool ti_dnn_choose(ti_dnn *g, const ti_conv *c, ti_tally *tally);
/* Engines that c allows, at most n of them in the order in which ti_dnn_choose would take them,
 * some of those that always work among them; how many. Whether they can be finalised is not tried.
 */
int ti_dnn_list(ti_dnn *g, const ti_conv *c, ti_engine *to, int n);
/* The plan of an engine that was chosen before, if its notes still fit. False and g->trouble. */
bool ti_dnn_recall(ti_dnn *g, const ti_conv *c, const ti_engine *e);
void ti_dnn_drop(ti_dnn *g);
/* Executes the plan; a status that is no success is the library's. */
cudnnStatus_t ti_dnn_run(const ti_dnn *g, const void *x, const void *w, const void *y,
                         const void *bias, void *workspace);

/* ---- plans.c ---- */

/* "11:2=3,5=1", the engine and its knobs ("11:-" without any). False: no room; no such text. */
bool ti_engine_text(const ti_engine *e, char *to, size_t room);
bool ti_engine_read(const char *text, ti_engine *to);

/* The engine that was taken for c on such a device before, and the file and line that say so. */
bool ti_plans_find(ti_device *d, const ti_conv *c, ti_engine *to, char where[TI_VENDOR_TEXT]);
/* Keeps it for later processes. */
void ti_plans_add(ti_device *d, const ti_conv *c, const ti_engine *engine);

/* ---- conv_plan.c ---- */

/* A plan as it is kept with the device. */
typedef struct {
    ti_conv key;
    ti_dnn g;
    bool judged;
    char why[TI_VENDOR_TEXT]; /* it is not trusted, or there is none */
} ti_conv_plan;

/* One convolution of a row. */
typedef struct {
    ti_conv_plan *k;
    const ti_row *own;
    size_t work, copy; /* bytes of scratch: the library's, then the filter's copy */
    bool relu_after;   /* by our own row */
} ti_conv_single;

/* w: a call whose only convolution is c. Its plan, which our own row has confirmed; or why there is
 * none. */
const char *ti_conv_prepare(const ti_work *w, ti_conv *c, ti_conv_single *to, tern_math_t math);
/* w->plan is a ti_conv_single. */
void ti_conv_run(const ti_work *w);
/* The longest chain of sums. */
double ti_conv_chain(const ti_conv *c);

#endif
