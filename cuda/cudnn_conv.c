/*
 * cudnn_conv.c - convolutions by cuDNN: conv2d, its adjoints, and conv2d_act with its derivative.
 *
 * Images lie channels-last, as everywhere, filters row-major (conv_plan.c runs one convolution).
 * f32 is strict. In math modes tf32, bf16 and f16 the operands are rounded here and multiplied by
 * tensor cores, as tf32. conv2d_act is one graph, convolution, bias, ReLU; its derivative is dx and
 * dw by the library, h = gy act'(y) and db by our own rows.
 */
#include <limits.h>
#include <string.h>

#include "dnn.h"
#include "tern/ops.h"

typedef struct {
    ti_conv_single dx, dw;
    ti_layer_d layer;
    ti_math math;
} backward;

/* ---- conv2d, conv2d_dx, conv2d_dw, conv2d_act ---- */

static const char *prepare(const ti_work *w, void *plan, tern_math_t math)
{
    ti_conv c[2];

    return ti_convs_of(w, c) == 1 ? ti_conv_prepare(w, c, plan, math) : "no convolution";
}

/* What lies off its alignment is our own row's; a filter that is copied, and a bias, may. */
static void run(const ti_work *w)
{
    const ti_conv_single *s = w->plan;
    const int kind = s->k->key.kind;
    const bool filter_first = kind == TI_CONV_DW;
    const ti_view *f = filter_first ? &w->out[0] : &w->in[1];
    const ti_view *other = filter_first ? &w->in[1] : &w->out[0];

    if (ti_vendor_aligned(&w->in[0]) && ti_vendor_aligned(other) &&
        (s->copy || ti_vendor_aligned(f)))
        ti_conv_run(w);
    else s->own->run(w);
}

static size_t scratch(const ti_work *w)
{
    const ti_conv_single *s = w->plan;
    const size_t own = ti_own_scratch(s->own, w), mine = s->work + s->copy;

    return mine > own ? mine : own;
}

static double chain(const ti_work *w)
{
    const ti_conv_single *s = w->plan;
    const double mine = ti_conv_chain(&s->k->key), own = s->own->chain ? s->own->chain(w) : 1;

    return mine > own ? mine : own;
}

static const char *unfit(const ti_work *w)
{
    const char *why;

    if (w->in[0].m.type != TERN_F32) return "takes f32";
    for (int i = 0; i < w->n_in + w->op->n_out; i++) {
        const ti_view *v = i < w->n_in ? &w->in[i] : &w->out[i - w->n_in];
        if (v->count == 0) return "nothing to convolve";
        if (v->count > INT_MAX) return "a tensor has more than 2^31 elements";
    }
    return ti_cudnn_of(w->device, NULL, &why) ? NULL : why;
}

static int act_of(const ti_work *w) { return ((const tern_conv2d_act_opts *)w->opts)->act; }

static const char *act_rejects(const ti_work *w)
{
    if (act_of(w) != TERN_ACT_NONE && act_of(w) != TERN_RELU) return "there is no such epilogue";
    return unfit(w);
}

/* ---- conv2d_act_d: scratch holds what the parts need, then h ---- */

static const char *act_d_rejects(const ti_work *w)
{
    if (act_of(w) == TERN_RELU && w->in[4].count < 0) return "y is absent";
    return act_rejects(w);
}

static tern_conv2d_opts plain(const ti_work *w, const ti_view *like)
{
    const tern_conv2d_act_opts *a = w->opts;
    tern_conv2d_opts o;

    memset(&o, 0, sizeof o);
    for (int i = 0; i < 2; i++) {
        o.stride[i] = a->stride[i];
        o.pad[i] = a->pad[i];
        o.dilation[i] = a->dilation[i];
    }
    o.groups = a->groups;
    memcpy(o.shape, like->m.shape.dim, sizeof o.shape);
    return o;
}

/* h: gy, or gy where y is positive. */
static void call_dx(ti_inner *c, const ti_work *w, const tern_conv2d_opts *o, const ti_view *h)
{
    ti_inner_call(c, w, "conv2d_dx", o, 2, (ti_view[]){*h, w->in[1]}, w->out[0]);
}
static void call_dw(ti_inner *c, const ti_work *w, const tern_conv2d_opts *o, const ti_view *h)
{
    ti_inner_call(c, w, "conv2d_dw", o, 2, (ti_view[]){w->in[0], *h}, w->out[1]);
}
static void call_h(ti_inner *c, const ti_work *w, const ti_view *h)
{
    ti_inner_call(c, w, "relu_d", NULL, 2, (ti_view[]){w->in[4], w->in[3]}, *h);
}
static const tern_reduce_opts but_channels = {.axes = 1 | 4 | 8};
static void call_db(ti_inner *c, const ti_work *w, const ti_view *h)
{
    const ti_meta m = ti_packed_meta(h->m.type, (tern_shape){1, {h->m.shape.dim[1]}});
    ti_view db = ti_view_at(&m, NULL);

    db.data = w->out[2].data;
    ti_inner_call(c, w, "sum", &but_channels, 1, h, db);
}

static const char *prepare_part(const ti_inner *call, ti_conv_single *to, ti_layer_d *layer,
                                tern_math_t math)
{
    ti_conv c[2];

    (void)ti_convs_of(&call->w, c);
    const char *why = ti_conv_prepare(&call->w, c, to, math);
    if (!why) ti_layer_d_room(layer, to->work + to->copy);
    return why;
}

static const char *act_d_prepare(const ti_work *w, void *plan, tern_math_t math)
{
    const tern_conv2d_opts to_x = plain(w, &w->in[0]), to_w = plain(w, &w->in[1]);
    backward *b = plan;
    const char *why = NULL;
    ti_inner call, h;

    b->math = math == TERN_MATH_F32 ? TI_MATH_F32 : TI_MATH_TF32;
    call_dx(&call, w, &to_x, &w->in[3]);
    if (w->out[0].count > 0) why = prepare_part(&call, &b->dx, &b->layer, math);
    call_dw(&call, w, &to_w, &w->in[3]);
    if (!why && w->out[1].count > 0) why = prepare_part(&call, &b->dw, &b->layer, math);
    if (why) return why;
    call_db(&call, w, &w->in[3]);
    const bool makes_h = act_of(w) == TERN_RELU;
    if (makes_h) call_h(&h, w, &w->in[3]);
    return ti_layer_d_prepare(&b->layer, w, &call.w, makes_h ? &h.w : NULL);
}

static void run_part(ti_inner *c, const ti_conv_single *s)
{
    c->w.plan = s;
    ti_conv_run(&c->w);
}

static bool lies_well(const ti_work *w, const backward *b)
{
    return ti_vendor_aligned(&w->in[0]) && ti_vendor_aligned(&w->in[3]) &&
           ti_vendor_aligned(&w->out[0]) && (b->dx.copy || ti_vendor_aligned(&w->in[1])) &&
           (b->dw.copy || ti_vendor_aligned(&w->out[1]));
}

static void act_d_run(const ti_work *w)
{
    const tern_conv2d_opts to_x = plain(w, &w->in[0]), to_w = plain(w, &w->in[1]);
    const backward *b = w->plan;
    ti_view h = w->in[3];
    ti_inner c;

    if (!lies_well(w, b)) {
        b->layer.own->run(w);
        return;
    }
    if (b->layer.mask) {
        h.data = (char *)w->scratch + b->layer.room;
        call_h(&c, w, &h);
        b->layer.mask->run(&c.w);
    }
    if (w->out[0].count > 0) {
        call_dx(&c, w, &to_x, &h);
        run_part(&c, &b->dx);
    }
    if (w->out[1].count > 0) {
        call_dw(&c, w, &to_w, &h);
        run_part(&c, &b->dw);
    }
    call_db(&c, w, &h);
    ti_layer_d_db(&b->layer, w, &c.w);
}

static size_t act_d_scratch(const ti_work *w)
{
    return ti_layer_d_scratch(&((const backward *)w->plan)->layer, w);
}

static double act_d_chain(const ti_work *w)
{
    const backward *b = w->plan;
    const int64_t *f = w->in[1].m.shape.dim, *y = w->in[3].m.shape.dim;
    const double dx = (double)(f[0] * f[2] * f[3]), dw = (double)(y[0] * y[2] * y[3]);

    return ti_layer_d_chain(&b->layer, w, (dx > dw ? dx : dw) + 3, b->math);
}

/* ---- Rows ---- */

/* Below those of our own rows; not yet by measurements on a GPU. */
static double cost(const ti_work *w) { return 6000 + ti_work_bytes(w) * 1e-3; }
/* Below that of a row above behind a rounding call. */
static double rounded_cost(const ti_work *w) { return 5500 + ti_work_bytes(w) * 1e-3; }

/* The functions of the rows in math mode `mode`, around those for f32. */
#define IN_MODE(prefix, name, mode)                                                                \
    static const char *prefix##prepare_##name(const ti_work *w, void *to)                          \
    {                                                                                              \
        return prefix##prepare(w, to, mode);                                                       \
    }                                                                                              \
    static size_t prefix##scratch_##name(const ti_work *w)                                         \
    {                                                                                              \
        return mode == TERN_MATH_F32 ? prefix##scratch(w)                                          \
                                     : ti_rounded_scratch(w, prefix##scratch(w));                  \
    }                                                                                              \
    static void prefix##run_##name(const ti_work *w)                                               \
    {                                                                                              \
        if (mode == TERN_MATH_F32) prefix##run(w);                                                 \
        else ti_rounded_run(w, mode, prefix##scratch(w), prefix##run);                             \
    }
#define IN_MODES(prefix)                                                                           \
    IN_MODE(prefix, f32, TERN_MATH_F32)                                                            \
    IN_MODE(prefix, tf32, TERN_MATH_TF32)                                                          \
    IN_MODE(prefix, bf16, TERN_MATH_BF16)                                                          \
    IN_MODE(prefix, f16, TERN_MATH_F16)

IN_MODES()
IN_MODES(act_d_)

#define IMAGE TI_CHANNELS_LAST
#define ROW(op_, rejects_, prefix, plan_, name, class_, cost_, ...)                                \
    {                                                                                              \
        .op = op_, .impl = class_ == TI_REORDERED ? "cudnn" : "cudnn_" #name, .reject = rejects_,  \
        .cost = cost_, .want = {__VA_ARGS__}, .plan_bytes = sizeof(plan_),                         \
        .prepare = prefix##prepare_##name, .scratch = prefix##scratch_##name,                      \
        .run = prefix##run_##name, .chain = prefix##chain, .numbers = class_                       \
    }
#define ROWS(op, rejects, prefix, plan, ...)                                                       \
    ROW(op, rejects, prefix, plan, f32, TI_REORDERED, cost, __VA_ARGS__),                          \
        ROW(op, rejects, prefix, plan, tf32, TI_CLASS_TF32, rounded_cost, __VA_ARGS__),            \
        ROW(op, rejects, prefix, plan, bf16, TI_CLASS_BF16, rounded_cost, __VA_ARGS__),            \
        ROW(op, rejects, prefix, plan, f16, TI_CLASS_F16, rounded_cost, __VA_ARGS__)

const ti_row ti_vendor_cudnn_conv[] = {
    ROWS("conv2d", unfit, , ti_conv_single, IMAGE, TI_ROW_MAJOR),
    ROWS("conv2d_dx", unfit, , ti_conv_single, IMAGE, TI_ROW_MAJOR),
    ROWS("conv2d_dw", unfit, , ti_conv_single, IMAGE, IMAGE),
    ROWS("conv2d_act", act_rejects, , ti_conv_single, IMAGE, TI_ROW_MAJOR, TI_ROW_MAJOR),
    ROWS("conv2d_act_d", act_d_rejects, act_d_, backward, IMAGE, TI_ROW_MAJOR, TI_ROW_MAJOR, IMAGE,
         IMAGE),
    {.op = NULL},
};
