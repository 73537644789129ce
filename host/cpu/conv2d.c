/*
 * conv2d.c - convolutions on the inner kernels, f32, images channels-last, filters row-major.
 *
 * "direct" takes every shape; "winograd" 3x3 filters with stride 1 or 2 where it is faster
 * (simd/wino.c). Bias and activation are done on the way out; tanh and sigmoid in a second pass.
 */
#include <math.h>

#include "cpu/fast.h"
#include "cpu/simd/norms.h"

/* What differs between the plain and the fused ops. */
typedef struct {
    const ti_view *x, *w, *y;
    const int *stride, *pad, *dilation;
    int groups, act;
} problem;

static ti_conv conv_of(const problem *p)
{
    const int64_t *x = p->x->m.shape.dim, *w = p->w->m.shape.dim, *y = p->y->m.shape.dim;
    ti_conv v = {.n = x[0],
                 .h = x[2],
                 .w = x[3],
                 .c = x[1],
                 .k = w[0],
                 .r = w[2],
                 .s = w[3],
                 .p = y[2],
                 .q = y[3],
                 .groups = p->groups};

    for (int a = 0; a < 2; a++) {
        v.stride[a] = p->stride[a];
        v.pad[a] = p->pad[a];
        v.dilation[a] = p->dilation[a];
    }
    return v;
}

static problem plain(const ti_work *w, const ti_view *x, const ti_view *f, const ti_view *y)
{
    const tern_conv2d_opts *o = w->opts;

    return (problem){x, f, y, o->stride, o->pad, o->dilation, o->groups, TERN_ACT_NONE};
}
static problem fused(const ti_work *w, const ti_view *y)
{
    const tern_conv2d_act_opts *o = w->opts;

    return (problem){&w->in[0], &w->in[1], y, o->stride, o->pad, o->dilation, o->groups, o->act};
}

static const char *not_f32(const ti_work *w) { return ti_all_f32(w) ? NULL : "takes f32"; }

static double products(const ti_conv *v)
{
    return (double)v->n * (double)v->p * (double)v->q * (double)v->k *
           (double)(v->c / v->groups * v->r * v->s);
}
static double direct_ns(const ti_conv *v) { return 1000 + 0.03 * products(v); }

/* Winograd: refused where it does not fit or does not pay; then it is cheaper by definition. */
static const char *no_winograd(const ti_work *w, const ti_conv *v, ti_conv_pass pass)
{
    const ti_simd *k = ti_cpu_simd(w->device);

    if (!ti_all_f32(w)) return "takes f32";
    if (!k->wino_fits(v))
        return "takes 3x3 filters, stride 1 and padding up to 2, or stride 2 and padding 1";
    return k->wino_pays(v, pass) ? NULL : "does not pay";
}
static double winograd_ns(const ti_conv *v) { return 0.9 * direct_ns(v); }

/* What the transforms make of the sums is in the bounds of the class. */
static double winograd_chain(const ti_work *w, const ti_conv *v, ti_conv_pass pass)
{
    return (double)ti_cpu_simd(w->device)->wino_chain(v, pass);
}

static int n_threads(const ti_work *w) { return ti_threads_count(ti_cpu_threads(w->device)); }

/* ---- conv2d, conv2d_dx, conv2d_dw ---- */

static ti_conv of_y(const ti_work *w)
{
    const problem p = plain(w, &w->in[0], &w->in[1], &w->out[0]);
    return conv_of(&p);
}
static ti_conv of_dx(const ti_work *w)
{
    const problem p = plain(w, &w->out[0], &w->in[1], &w->in[0]);
    return conv_of(&p);
}
static ti_conv of_dw(const ti_work *w)
{
    const problem p = plain(w, &w->in[0], &w->out[0], &w->in[1]);
    return conv_of(&p);
}

static void run_y(const ti_work *w)
{
    const ti_conv v = of_y(w);

    ti_cpu_simd(w->device)->conv_fwd(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                     TI_F(w->out[0]), NULL, w->scratch);
}
static void run_dx(const ti_work *w)
{
    const ti_conv v = of_dx(w);

    ti_cpu_simd(w->device)->conv_dx(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                    TI_F(w->out[0]), w->scratch);
}
static void run_dw(const ti_work *w)
{
    const ti_conv v = of_dw(w);

    ti_cpu_simd(w->device)->conv_dw(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                    TI_F(w->out[0]), w->scratch);
}
static void wino_y(const ti_work *w)
{
    const ti_conv v = of_y(w);

    ti_cpu_simd(w->device)->wino_fwd(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                     TI_F(w->out[0]), NULL, w->scratch);
}
static void wino_dx(const ti_work *w)
{
    const ti_conv v = of_dx(w);

    ti_cpu_simd(w->device)->wino_dx(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                    TI_F(w->out[0]), w->scratch);
}
static void wino_dw(const ti_work *w)
{
    const ti_conv v = of_dw(w);

    ti_cpu_simd(w->device)->wino_dw(ti_cpu_threads(w->device), &v, TI_F(w->in[0]), TI_F(w->in[1]),
                                    TI_F(w->out[0]), w->scratch);
}

/* The same four questions about each of the three, direct and by Winograd. */
#define PASS(name, of, pass)                                                                       \
    static double name##_cost(const ti_work *w)                                                    \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return direct_ns(&v);                                                                      \
    }                                                                                              \
    static size_t name##_scratch(const ti_work *w)                                                 \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return ti_cpu_simd(w->device)->conv_scratch(&v, pass, n_threads(w));                       \
    }                                                                                              \
    static double name##_chain(const ti_work *w)                                                   \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return (double)ti_cpu_simd(w->device)->conv_chain(&v, pass);                               \
    }                                                                                              \
    static const char *name##_wino_rejects(const ti_work *w)                                       \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return no_winograd(w, &v, pass);                                                           \
    }                                                                                              \
    static double name##_wino_cost(const ti_work *w)                                               \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return winograd_ns(&v);                                                                    \
    }                                                                                              \
    static size_t name##_wino_scratch(const ti_work *w)                                            \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return ti_cpu_simd(w->device)->wino_scratch(&v, pass, n_threads(w));                       \
    }                                                                                              \
    static double name##_wino_chain(const ti_work *w)                                              \
    {                                                                                              \
        const ti_conv v = of(w);                                                                   \
        return winograd_chain(w, &v, pass);                                                        \
    }
PASS(y, of_y, TI_CONV_FWD)
PASS(dx, of_dx, TI_CONV_DX)
PASS(dw, of_dw, TI_CONV_DW)

/* ---- conv2d_act ---- */

static ti_conv of_act(const ti_work *w)
{
    const problem p = fused(w, &w->out[0]);
    return conv_of(&p);
}

static int act_of(const ti_work *w) { return ((const tern_conv2d_act_opts *)w->opts)->act; }

typedef struct {
    const ti_work *w;
    const float *y, *gy; /* gy NULL: `to` gets act(to) */
    float *to;
} slope;

static void act_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const slope *o = arg;
    const ti_vector *v = ti_cpu_vector(o->w->device);
    const int act = act_of(o->w);
    float *at = o->to + from;

    (void)i_worker;
    if (!o->gy) v->one[act == TERN_TANH ? TI_V_TANH : TI_V_SIGMOID](to - from, at, at, 0, 0);
    else {
        const ti_v_two f = act == TERN_RELU   ? TI_V_RELU_D
                           : act == TERN_TANH ? TI_V_TANH_D
                                              : TI_V_SIGMOID_D;
        v->two[f](to - from, o->y + from, 1, o->gy + from, 1, at, 0);
    }
}

static void run_activated(const ti_work *w, bool winograd)
{
    const ti_simd *k = ti_cpu_simd(w->device);
    const ti_conv v = of_act(w);
    const int act = act_of(w);
    const ti_conv_epilogue e = {.bias = w->in[2].count >= 0 ? TI_F(w->in[2]) : NULL,
                                .relu = act == TERN_RELU};
    slope o = {.w = w, .to = TI_F(w->out[0])};

    (winograd ? k->wino_fwd : k->conv_fwd)(ti_cpu_threads(w->device), &v, TI_F(w->in[0]),
                                           TI_F(w->in[1]), o.to, &e, w->scratch);
    if (act == TERN_TANH || act == TERN_SIGMOID)
        ti_run_ranges(w->device, w->out[0].count, 8192, act_some, &o);
}
static void run_act(const ti_work *w) { run_activated(w, false); }
static void wino_act(const ti_work *w) { run_activated(w, true); }

PASS(act, of_act, TI_CONV_FWD)

/* ---- conv2d_act_d(x, w, b, gy, y): h = gy act'(y), then the adjoints at h ---- */

static ti_conv of_act_d(const ti_work *w)
{
    const problem p = fused(w, &w->in[3]);
    return conv_of(&p);
}

static const char *act_d_rejects(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    return act_of(w) != TERN_ACT_NONE && w->in[4].count < 0 ? "wants y" : NULL;
}

/* Which of dx and dw the row "winograd" does by Winograd. */
static bool pays(const ti_work *w, const ti_conv *v, ti_conv_pass pass)
{
    return no_winograd(w, v, pass) == NULL;
}

static const char *act_d_wino_rejects(const ti_work *w)
{
    const char *why = act_d_rejects(w);

    if (why) return why;
    const ti_conv v = of_act_d(w);
    return pays(w, &v, TI_CONV_DX) || pays(w, &v, TI_CONV_DW) ? NULL : "does not pay";
}

/* Columns are added up in chunks of pixels that depend on the problem only, in double. */
enum { SUM_CHUNKS = 64 };
static int64_t pixels_each(const ti_work *w)
{
    const int64_t *y = w->in[3].m.shape.dim, pixels = y[0] * y[2] * y[3];
    const int64_t least = ti_items_of(0.2 * (double)y[1]), each = (pixels - 1) / SUM_CHUNKS + 1;

    return each > least ? each : least;
}

static size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }
static size_t h_bytes(const ti_work *w)
{
    return act_of(w) == TERN_ACT_NONE ? 0 : padded((size_t)w->in[3].count * sizeof(float));
}
static size_t sums_bytes(const ti_work *w)
{
    return padded((size_t)w->in[1].m.shape.dim[0] * SUM_CHUNKS * sizeof(double));
}

/* dx and dw, one after the other in the same scratch. */
static size_t both_scratch(const ti_work *w, bool winograd)
{
    const ti_simd *k = ti_cpu_simd(w->device);
    const ti_conv v = of_act_d(w);
    size_t most = 0;

    for (int i = 0; i < 2; i++) {
        const ti_conv_pass pass = i ? TI_CONV_DW : TI_CONV_DX;
        if (w->out[i].count < 0) continue;
        const size_t bytes = (winograd && pays(w, &v, pass) ? k->wino_scratch : k->conv_scratch)(
            &v, pass, n_threads(w));
        most = bytes > most ? bytes : most;
    }
    return h_bytes(w) + sums_bytes(w) + most;
}
static size_t act_d_scratch(const ti_work *w) { return both_scratch(w, false); }
static size_t act_d_wino_scratch(const ti_work *w) { return both_scratch(w, true); }

typedef struct {
    const ti_work *w;
    const float *h;
    int64_t k, each;
    double *sums;
} columns;

static void sum_some(void *arg, int64_t from, int64_t to, int i_worker)
{
    const columns *o = arg;
    double *sum = o->sums + from / o->each * o->k;

    (void)i_worker;
    for (int64_t j = 0; j < o->k; j++) sum[j] = 0;
    ti_norms_for(ti_cpu_simd(o->w->device)->name)->sums(to - from, o->k, o->h + from * o->k, sum);
}

static void run_db(const ti_work *w, const float *h, double *sums)
{
    const int64_t *y = w->in[3].m.shape.dim, pixels = y[0] * y[2] * y[3];
    columns o = {w, h, y[1], pixels_each(w), sums};
    float *db = TI_F(w->out[2]);
    const int64_t chunks = w->in[2].count < 0 ? 0 : (pixels + o.each - 1) / o.each;

    if (chunks > 0) ti_run_ranges(w->device, pixels, o.each, sum_some, &o);
    for (int64_t j = 0; j < o.k; j++) {
        double sum = 0;
        for (int64_t i = 0; i < chunks; i++) sum += sums[i * o.k + j];
        db[j] = (float)sum;
    }
}

static void run_both(const ti_work *w, bool winograd)
{
    const ti_simd *k = ti_cpu_simd(w->device);
    ti_threads *t = ti_cpu_threads(w->device);
    const ti_conv v = of_act_d(w);
    char *at = w->scratch;
    double *sums = (double *)(void *)(at + h_bytes(w));
    void *rest = at + h_bytes(w) + sums_bytes(w);
    const float *h = TI_F(w->in[3]);
    slope o = {w, w->in[4].count >= 0 ? TI_F(w->in[4]) : NULL, h, (float *)(void *)at};

    if (act_of(w) != TERN_ACT_NONE) {
        ti_run_ranges(w->device, w->in[3].count, 16384, act_some, &o);
        h = o.to;
    }
    if (w->out[0].count > 0)
        (winograd && pays(w, &v, TI_CONV_DX) ? k->wino_dx : k->conv_dx)(t, &v, h, TI_F(w->in[1]),
                                                                        TI_F(w->out[0]), rest);
    if (w->out[1].count > 0)
        (winograd && pays(w, &v, TI_CONV_DW) ? k->wino_dw : k->conv_dw)(t, &v, TI_F(w->in[0]), h,
                                                                        TI_F(w->out[1]), rest);
    if (w->out[2].count > 0) run_db(w, h, sums);
}

static void run_act_d(const ti_work *w) { run_both(w, false); }
static void wino_act_d(const ti_work *w) { run_both(w, true); }

static double act_d_cost(const ti_work *w)
{
    const ti_conv v = of_act_d(w);

    return 2 * direct_ns(&v);
}
static double act_d_wino_cost(const ti_work *w) { return 0.9 * act_d_cost(w); }

static double both_chain(const ti_work *w, bool winograd)
{
    const ti_simd *k = ti_cpu_simd(w->device);
    const ti_conv v = of_act_d(w);
    double chain[2];

    for (int i = 0; i < 2; i++) {
        const ti_conv_pass pass = i ? TI_CONV_DW : TI_CONV_DX;
        chain[i] = winograd && pays(w, &v, pass) ? winograd_chain(w, &v, pass)
                                                 : (double)k->conv_chain(&v, pass);
    }
    return fmax(chain[0], chain[1]);
}
static double act_d_chain(const ti_work *w) { return both_chain(w, false); }
static double act_d_wino_chain(const ti_work *w) { return both_chain(w, true); }

/* The second input is a filter, or an image. */
#define FILTER TI_ROW_MAJOR
#define IMAGE TI_CHANNELS_LAST
#define DIRECT(op_, name, run_, second)                                                            \
    {                                                                                              \
        .op = op_, .impl = "direct", .reject = not_f32, .cost = name##_cost,                       \
        .want = {IMAGE, second, TI_ROW_MAJOR}, .scratch = name##_scratch, .run = run_,             \
        .chain = name##_chain, .numbers = TI_REORDERED                                             \
    }
#define WINOGRAD(op_, name, run_, second)                                                          \
    {                                                                                              \
        .op = op_, .impl = "winograd", .reject = name##_wino_rejects, .cost = name##_wino_cost,    \
        .want = {IMAGE, second, TI_ROW_MAJOR}, .scratch = name##_wino_scratch, .run = run_,        \
        .chain = name##_wino_chain, .numbers = TI_WINOGRAD                                         \
    }

#define BOTH(impl_, name, run_, numbers_)                                                          \
    {                                                                                              \
        .op = "conv2d_act_d", .impl = impl_, .reject = name##_rejects, .cost = name##_cost,        \
        .want = {IMAGE, FILTER, TI_ROW_MAJOR, IMAGE, IMAGE}, .scratch = name##_scratch,            \
        .run = run_, .chain = name##_chain, .numbers = numbers_                                    \
    }

const ti_row ti_cpu_conv2d[] = {
    DIRECT("conv2d", y, run_y, FILTER),
    WINOGRAD("conv2d", y, wino_y, FILTER),
    DIRECT("conv2d_dx", dx, run_dx, FILTER),
    WINOGRAD("conv2d_dx", dx, wino_dx, FILTER),
    DIRECT("conv2d_dw", dw, run_dw, IMAGE),
    WINOGRAD("conv2d_dw", dw, wino_dw, IMAGE),
    DIRECT("conv2d_act", act, run_act, FILTER),
    WINOGRAD("conv2d_act", act, wino_act, FILTER),
    BOTH("direct", act_d, run_act_d, TI_REORDERED),
    BOTH("winograd", act_d_wino, wino_act_d, TI_WINOGRAD),
    {.op = NULL},
};
