/*
 * dnn.c - descriptors, heuristics and plans of cuDNN's backend interface.
 *
 * Mode A ranks engines for the device, FALLBACK lists what always works. Of both, the first one is
 * taken whose notes c allows, whose workspace is small enough and which can be finalised; engines
 * that are compiled at run time come after all others. Strict f32 leaves tensor cores out, and
 * sums must be plain ones in a fixed order: no Winograd, no FFT, nothing that does not repeat,
 * unless c->varies.
 */
#include "dnn.h"

#include <stdio.h>
#include <string.h>

#include "tern/ops.h"

enum { MOST_CONFIGS = 128, MOST_NOTES = 16 };

/* ---- Convolutions ---- */

static void conv_of(ti_conv *c, ti_conv_kind kind, const ti_view *x, const ti_view *w,
                    const ti_view *y, const int *stride, const int *pad, const int *dilation)
{
    memset(c, 0, sizeof *c);
    memcpy(c->x, x->m.shape.dim, sizeof c->x);
    memcpy(c->w, w->m.shape.dim, sizeof c->w);
    memcpy(c->y, y->m.shape.dim, sizeof c->y);
    for (int a = 0; a < 2; a++) {
        c->stride[a] = stride[a];
        c->pad[a] = pad[a];
        c->dilation[a] = dilation[a];
    }
    c->kind = (int)kind;
    c->type = (int)y->m.type;
    c->math = TI_MATH_F32;
}

int ti_convs_of(const ti_work *w, ti_conv c[2])
{
    const char *op = w->op->name;
    const tern_conv2d_opts *o = w->opts;
    const tern_conv2d_act_opts *a = w->opts;
    int n = 0;

    if (strcmp(op, "conv2d") == 0)
        conv_of(&c[n++], TI_CONV_Y, &w->in[0], &w->in[1], &w->out[0], o->stride, o->pad,
                o->dilation);
    else if (strcmp(op, "conv2d_dx") == 0)
        conv_of(&c[n++], TI_CONV_DX, &w->out[0], &w->in[1], &w->in[0], o->stride, o->pad,
                o->dilation);
    else if (strcmp(op, "conv2d_dw") == 0)
        conv_of(&c[n++], TI_CONV_DW, &w->in[0], &w->out[0], &w->in[1], o->stride, o->pad,
                o->dilation);
    else if (strcmp(op, "conv2d_act") == 0) {
        conv_of(&c[n++], TI_CONV_Y, &w->in[0], &w->in[1], &w->out[0], a->stride, a->pad,
                a->dilation);
        c[0].bias = w->in[2].count >= 0;
        c[0].relu = a->act == TERN_RELU;
    } else if (strcmp(op, "conv2d_act_d") == 0)
        for (int k = 0; k < 2; k++)
            if (w->out[k].count > 0)
                conv_of(&c[n++], k ? TI_CONV_DW : TI_CONV_DX, &w->in[0], &w->in[1], &w->in[3],
                        a->stride, a->pad, a->dilation);
    for (int i = 0; i < n; i++) c[i].varies = w->varies;
    return n;
}

/* ---- Descriptors ---- */

static bool fine(ti_dnn *g, cudnnStatus_t s, const char *what)
{
    const ti_cudnn *api = g->target.api;
    char why[160] = "";

    if (s == CUDNN_STATUS_SUCCESS) return true;
    api->last_error(why, sizeof why);
    for (char *p = why; *p; p++)
        if (*p == '\n') *p = ' ';
    snprintf(g->trouble, sizeof g->trouble, "%s: %s%s%.140s", what, api->status_text(s),
             why[0] ? ", " : "", why);
    return false;
}

/* A descriptor that dies with the graph, or NULL. */
static cudnnBackendDescriptor_t make(ti_dnn *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;

    if (g->n_made == TI_DESCRIPTORS) {
        snprintf(g->trouble, sizeof g->trouble, "a graph of more than %d parts", TI_DESCRIPTORS);
        return NULL;
    }
    if (!fine(g, g->target.api->make(type, &d), "a descriptor")) return NULL;
    return g->made[g->n_made++] = d;
}

static bool set(ti_dnn *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    char what[40];

    if (!d) return false;
    snprintf(what, sizeof what, "attribute %d", (int)name);
    return fine(g, g->target.api->set(d, name, type, n, value), what);
}

static bool set_part(ti_dnn *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                     cudnnBackendDescriptor_t part)
{
    return part && set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static bool done(ti_dnn *g, cudnnBackendDescriptor_t d, const char *what)
{
    return d && fine(g, g->target.api->finalize(d), what);
}

/* Of what is stored; of sums. */
static cudnnDataType_t type_of(const ti_conv *c)
{
    switch (c->type) {
    case TERN_F64: return CUDNN_DATA_DOUBLE;
    case TERN_F16: return CUDNN_DATA_HALF;
    case TERN_BF16: return CUDNN_DATA_BFLOAT16;
    default: return CUDNN_DATA_FLOAT;
    }
}
static cudnnDataType_t sums_of(const ti_conv *c)
{
    return c->type == TERN_F64 ? CUDNN_DATA_DOUBLE : CUDNN_DATA_FLOAT;
}

/* Channels-last; virtual: it exists inside the graph only. */
static cudnnBackendDescriptor_t tensor(ti_dnn *g, const ti_conv *c, int64_t uid, const int64_t *dim,
                                       bool is_virtual)
{
    const int64_t stride[4] = {dim[1] * dim[2] * dim[3], 1, dim[1] * dim[3], dim[1]};
    /* a bias lies anywhere in its block */
    const int64_t align =
        uid == TI_UID_BIAS ? (int64_t)tern_type_size((tern_type)c->type) : TI_VENDOR_ALIGN;
    const cudnnDataType_t type = is_virtual ? sums_of(c) : type_of(c);
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);

    if (set(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type) &&
        set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim) &&
        set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride) &&
        set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid) &&
        set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align) &&
        (!is_virtual ||
         set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual)) &&
        done(g, d, "a tensor"))
        return d;
    return NULL;
}

static cudnnBackendDescriptor_t geometry(ti_dnn *g, const ti_conv *c)
{
    const int64_t axes = 2;
    const cudnnDataType_t type = sums_of(c);
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);

    if (set(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, c->dilation) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, c->stride) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, c->pad) &&
        set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, c->pad) &&
        done(g, d, "a convolution's geometry"))
        return d;
    return NULL;
}

/* The attributes of the three kinds, in one order: x, w, y, geometry, alpha, beta. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, geometry, alpha, beta;
} kinds[] = {[TI_CONV_Y] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                            CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
             [TI_CONV_DX] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
             [TI_CONV_DW] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                             CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

static cudnnBackendDescriptor_t convolution(ti_dnn *g, const ti_conv *c, cudnnBackendDescriptor_t y)
{
    static const double one64 = 1, zero64 = 0;
    static const float one = 1, zero = 0;
    const bool wide = c->type == TERN_F64;
    const cudnnBackendAttributeType_t scale = wide ? CUDNN_TYPE_DOUBLE : CUDNN_TYPE_FLOAT;
    cudnnBackendDescriptor_t d = make(g, kinds[c->kind].type);

    if (set_part(g, d, kinds[c->kind].x, tensor(g, c, TI_UID_X, c->x, false)) &&
        set_part(g, d, kinds[c->kind].w, tensor(g, c, TI_UID_W, c->w, false)) &&
        set_part(g, d, kinds[c->kind].y, y) &&
        set_part(g, d, kinds[c->kind].geometry, geometry(g, c)) &&
        set(g, d, kinds[c->kind].alpha, scale, 1, wide ? (const void *)&one64 : &one) &&
        set(g, d, kinds[c->kind].beta, scale, 1, wide ? (const void *)&zero64 : &zero) &&
        done(g, d, "a convolution"))
        return d;
    return NULL;
}

/* y = x + b, or y = relu(x) without b. */
static cudnnBackendDescriptor_t pointwise(ti_dnn *g, const ti_conv *c, cudnnBackendDescriptor_t x,
                                          cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    const cudnnPointwiseMode_t mode = b ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_RELU_FWD;
    const cudnnDataType_t type = sums_of(c);
    cudnnBackendDescriptor_t how = make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);

    if (!set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode) ||
        !set(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type) ||
        !done(g, how, "a pointwise mode"))
        return NULL;
    cudnnBackendDescriptor_t d = make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    if (set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how) &&
        set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x) &&
        (!b || set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b)) &&
        set_part(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y) &&
        done(g, d, "a pointwise operation"))
        return d;
    return NULL;
}

bool ti_dnn_make(ti_dnn *g, const ti_dnn_target *t, const ti_conv *c)
{
    const int64_t bias[4] = {1, c->y[1], 1, 1};
    const int n_op = 1 + (c->bias != 0) + (c->relu != 0);
    cudnnBackendDescriptor_t op[3] = {NULL}, x, y;
    int n = 0;

    memset(g, 0, sizeof *g);
    g->target = *t;
    y = tensor(g, c, n_op > 1 ? TI_UID_BIAS + 1 : TI_UID_Y, c->y, n_op > 1);
    op[n++] = convolution(g, c, y);
    for (; n < n_op && op[n - 1]; n++) {
        const bool last = n == n_op - 1, adds = c->bias && n == 1;

        x = y;
        y = tensor(g, c, last ? TI_UID_Y : TI_UID_BIAS + 1 + n, c->y, !last);
        op[n] = pointwise(g, c, x, adds ? tensor(g, c, TI_UID_BIAS, bias, false) : NULL, y);
    }
    if (!op[n_op - 1]) return false;
    g->graph = make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    return set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n_op,
               op) &&
           (!t->handle ||
            set(g, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle)) &&
           done(g, g->graph, "the graph");
}

void ti_dnn_drop(ti_dnn *g)
{
    const ti_cudnn *api = g->target.api;

    if (g->plan) (void)api->drop(g->plan);
    while (g->n_made > 0) (void)api->drop(g->made[--g->n_made]);
    g->plan = g->graph = NULL;
}

/* ---- Plans ---- */

/* Of a configuration. */
typedef struct {
    bool unfit, varies, compiled;
} notes;

static bool unfit(const ti_conv *c, cudnnBackendNumericalNote_t note)
{
    switch (note) {
    case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: return c->type == TERN_F64 || c->math == TI_MATH_F32;
    case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP: return false;
    case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC: return !c->varies;
    default: return true; /* converts down, FFT, Winograd, or is not known yet */
    }
}

/* False: the library does not say. */
static bool look_at(ti_dnn *g, const ti_conv *c, cudnnBackendDescriptor_t engine, notes *to)
{
    cudnnBackendNumericalNote_t number[MOST_NOTES];
    cudnnBackendBehaviorNote_t behaviour[MOST_NOTES];
    int64_t n = 0;

    *to = (notes){0};
    if (!fine(g,
              g->target.api->get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, MOST_NOTES, &n, number),
              "an engine's notes"))
        return false;
    for (int64_t i = 0; i < n; i++) {
        to->unfit |= unfit(c, number[i]);
        to->varies |= number[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    }
    n = 0;
    if (!fine(g,
              g->target.api->get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                                 MOST_NOTES, &n, behaviour),
              "an engine's behaviour"))
        return false;
    for (int64_t i = 0; i < n; i++)
        to->compiled |= behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    return true;
}

/* Makes g->plan of a configuration. */
static bool finish(ti_dnn *g, cudnnBackendDescriptor_t config)
{
    const ti_dnn_target *t = &g->target;
    cudnnBackendDescriptor_t d = NULL;
    int64_t n = 0;

    if (!fine(g, t->api->make(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &d), "a plan")) return false;
    if (set_part(g, d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config) &&
        (t->handle ? set(g, d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &t->handle)
                   : set_part(g, d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, t->properties)) &&
        done(g, d, "the plan") &&
        fine(g,
             t->api->get(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                         &g->workspace),
             "the plan's workspace")) {
        g->plan = d;
        return true;
    }
    (void)t->api->drop(d);
    return false;
}

/* The engine's number and knobs, out of a configuration. */
static bool read_engine(ti_dnn *g, cudnnBackendDescriptor_t config, cudnnBackendDescriptor_t engine,
                        ti_engine *e)
{
    const ti_cudnn *api = g->target.api;
    cudnnBackendDescriptor_t knob[TI_KNOBS] = {NULL};
    int64_t n = 0, one = 0;
    int made = 0;

    memset(e, 0, sizeof *e);
    bool well = fine(
        g, api->get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &one, &e->engine),
        "an engine's number");
    while (well && made < TI_KNOBS) {
        well = fine(g, api->make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knob[made]), "a knob");
        made += well;
    }
    well = well && fine(g,
                        api->get(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                 CUDNN_TYPE_BACKEND_DESCRIPTOR, TI_KNOBS, &n, knob),
                        "an engine's knobs");
    for (int i = 0; i < n && i < TI_KNOBS && well; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;

        well = fine(g,
                    api->get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
                             &one, &type),
                    "a knob") &&
               fine(g,
                    api->get(knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &one,
                             &e->value[i]),
                    "a knob");
        e->knob[i] = (int64_t)type;
        e->n_knob = i + 1;
    }
    while (made > 0) (void)api->drop(knob[--made]);
    return well;
}

/* The engine of a configuration, made here, and its notes. NULL: the library does not say. */
static cudnnBackendDescriptor_t engine_of(ti_dnn *g, const ti_conv *c,
                                          cudnnBackendDescriptor_t config, notes *to)
{
    const ti_cudnn *api = g->target.api;
    cudnnBackendDescriptor_t engine = NULL;
    int64_t one = 0;

    if (!fine(g, api->make(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine), "an engine")) return NULL;
    if (fine(g,
             api->get(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &one,
                      &engine),
             "an engine") &&
        look_at(g, c, engine, to))
        return engine;
    (void)api->drop(engine);
    return NULL;
}

/* Takes a configuration if it is fit and of this kind; false: it is not. */
static bool take(ti_dnn *g, const ti_conv *c, cudnnBackendDescriptor_t config, bool compiled,
                 ti_tally *tally)
{
    const ti_cudnn *api = g->target.api;
    notes n;
    cudnnBackendDescriptor_t engine = engine_of(g, c, config, &n);
    bool taken = false;

    if (!engine) return false;
    if (!compiled) {
        tally->offered++;
        tally->unfit += n.unfit;
        tally->compiled += !n.unfit && n.compiled;
    }
    if (!n.unfit && n.compiled == compiled) {
        if (!finish(g, config)) {
            tally->refused++;
        } else if (g->workspace > (int64_t)TI_VENDOR_WORKSPACE ||
                   !read_engine(g, config, engine, &g->engine)) {
            tally->large += g->workspace > (int64_t)TI_VENDOR_WORKSPACE;
            (void)api->drop(g->plan);
            g->plan = NULL;
        } else {
            taken = true;
            g->varies = n.varies;
        }
    }
    (void)api->drop(engine);
    return taken;
}

/* The configurations of one mode into `config`; how many. */
static int64_t ask(ti_dnn *g, cudnnBackendHeurMode_t mode, cudnnBackendDescriptor_t *config)
{
    const ti_dnn_target *t = &g->target;
    cudnnBackendDescriptor_t d = NULL;
    int64_t n = 0;

    if (!fine(g, t->api->make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &d), "the heuristics")) return 0;
    if (!set_part(g, d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g->graph) ||
        !set(g, d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) ||
        (!t->handle && !set_part(g, d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, t->properties)) ||
        !done(g, d, "the heuristics") ||
        !fine(g,
              t->api->get(d, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                          MOST_CONFIGS, &n, config),
              "the heuristics' results"))
        n = 0;
    (void)t->api->drop(d);
    return n;
}

/* What mode A offers, then what FALLBACK does, into descriptors that are made here. */
typedef struct {
    cudnnBackendDescriptor_t all[2 * MOST_CONFIGS];
    int n, n_ranked, made; /* of n the first n_ranked are mode A's */
} configs;

static void ask_all(ti_dnn *g, configs *to)
{
    bool well = true;

    memset(to, 0, sizeof *to);
    while (well && to->made < 2 * MOST_CONFIGS) {
        well = fine(g, g->target.api->make(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &to->all[to->made]),
                    "a choice");
        to->made += well;
    }
    if (!well) return;
    to->n = to->n_ranked = (int)ask(g, CUDNN_HEUR_MODE_A, to->all);
    to->n += (int)ask(g, CUDNN_HEUR_MODE_FALLBACK, to->all + to->n);
}

static void drop_all(ti_dnn *g, configs *c)
{
    while (c->made > 0) (void)g->target.api->drop(c->all[--c->made]);
}

bool ti_dnn_choose(ti_dnn *g, const ti_conv *c, ti_tally *tally)
{
    configs offer;
    bool taken = false;

    memset(tally, 0, sizeof *tally);
    ask_all(g, &offer);
    for (int compiled = 0; compiled < 2 && !taken; compiled++)
        for (int i = 0; i < offer.n && !taken; i++)
            taken = take(g, c, offer.all[i], compiled, tally);
    drop_all(g, &offer);
    if (taken) return true;
    if (offer.n == 0 && !g->trouble[0])
        snprintf(g->trouble, sizeof g->trouble, "the heuristics know no engine");
    else if (tally->refused == 0 && offer.n > 0)
        snprintf(g->trouble, sizeof g->trouble,
                 "of %d engines %d do not compute as the math mode says, %d need too much memory",
                 tally->offered, tally->unfit, tally->large);
    return false;
}

static bool listed(const ti_engine *all, int n, const ti_engine *e)
{
    while (n > 0)
        if (memcmp(&all[--n], e, sizeof *e) == 0) return true;
    return false;
}

int ti_dnn_list(ti_dnn *g, const ti_conv *c, ti_engine *to, int most)
{
    enum { FALLBACKS = 2 }; /* places that are theirs */
    configs offer;
    int n = 0;

    ask_all(g, &offer);
    for (int compiled = 0; compiled < 2; compiled++)
        for (int i = 0; i < offer.n && n < most; i++) {
            cudnnBackendDescriptor_t engine = NULL;
            notes of;

            if (i < offer.n_ranked && n >= most - FALLBACKS) continue;
            engine = engine_of(g, c, offer.all[i], &of);
            if (!engine) continue;
            if (!of.unfit && of.compiled == compiled &&
                read_engine(g, offer.all[i], engine, &to[n]) && !listed(to, n, &to[n]))
                n++;
            (void)g->target.api->drop(engine);
        }
    drop_all(g, &offer);
    return n;
}

bool ti_dnn_recall(ti_dnn *g, const ti_conv *c, const ti_engine *e)
{
    cudnnBackendDescriptor_t engine = make(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR), config,
                             knob[TI_KNOBS];
    const ti_dnn_target *t = &g->target;
    notes of = {0};
    int n = 0;
    bool well = set_part(g, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, g->graph) &&
                set(g, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &e->engine) &&
                (t->handle || set_part(g, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, t->properties)) &&
                done(g, engine, "a stored engine") && look_at(g, c, engine, &of);

    if (well && of.unfit) {
        snprintf(g->trouble, sizeof g->trouble, "it does not compute as the math mode says");
        well = false;
    }
    for (; n < e->n_knob && well; n += well) {
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)e->knob[n];

        well = fine(g, t->api->make(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knob[n]), "a knob");
        if (!well) break;
        if (!set(g, knob[n], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type) ||
            !set(g, knob[n], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                 &e->value[n]) ||
            !done(g, knob[n], "a stored knob")) {
            (void)t->api->drop(knob[n]);
            well = false;
        }
    }
    if (well) {
        config = make(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        well = set_part(g, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine) &&
               (n == 0 || set(g, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                              CUDNN_TYPE_BACKEND_DESCRIPTOR, n, knob)) &&
               done(g, config, "a stored choice") && finish(g, config);
    }
    while (n > 0) (void)t->api->drop(knob[--n]);
    g->engine = *e;
    g->varies = of.varies;
    return well && g->workspace <= (int64_t)TI_VENDOR_WORKSPACE;
}

/* ---- Running ---- */

cudnnStatus_t ti_dnn_run(const ti_dnn *g, const void *x, const void *w, const void *y,
                         const void *bias, void *workspace)
{
    static const int64_t uid[] = {TI_UID_X, TI_UID_W, TI_UID_Y, TI_UID_BIAS};
    const void *const at[] = {x, w, y, bias};
    const ti_cudnn *api = g->target.api;
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t s = api->make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    const int64_t n = bias ? 4 : 3;

    if (s) return s;
    s = api->set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uid);
    if (!s) s = api->set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, at);
    if (!s)
        s = api->set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!s) s = api->finalize(pack);
    if (!s) s = api->execute(g->target.handle, g->plan, pack);
    (void)api->drop(pack);
    return s;
}
