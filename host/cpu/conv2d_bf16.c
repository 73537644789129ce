/*
 * conv2d_bf16.c - 1x1 convolutions in bf16: linear layers whose rows are pixels (linear.c).
 */
#include <string.h>

#include "cpu/products.h"

extern const ti_row ti_cpu_linear[];

/* The same call as one of linear_act or linear_act_d, and its row. */
typedef struct {
    const ti_row *row;
    ti_work w;
    ti_view in[5], out[TI_OUTS];
    tern_linear_opts opts;
} layer;

static const ti_row *row_of(const char *op)
{
    const ti_row *r = ti_cpu_linear;

    while (strcmp(r->op, op) != 0 || strcmp(r->impl, "bf16") != 0) r++;
    return r;
}

/* Images [N,C,H,W], channels-last, as [N·H·W, C]; filters [K,C,1,1] as [K,C]. */
static void as_matrix(ti_view *v, bool image)
{
    const int64_t *d = v->m.shape.dim;

    if (v->count < 0) return;
    v->m = ti_packed_meta(v->m.type,
                          image ? TI_SHAPE(d[0] * d[2] * d[3], d[1]) : TI_SHAPE(d[0], d[1]));
}

static void layer_of(layer *l, const ti_work *w)
{
    const bool back = w->n_in == 5;

    l->row = row_of(back ? "linear_act_d" : "linear_act");
    l->opts.act = ((const tern_conv2d_act_opts *)w->opts)->act;
    l->w = *w;
    memcpy(l->in, w->in, (size_t)w->n_in * sizeof *l->in);
    memcpy(l->out, w->out, sizeof l->out);
    for (int i = 0; i < w->n_in; i++)
        if (i != 2) as_matrix(&l->in[i], i != 1);
    for (int i = 0; i < (back ? 2 : 1); i++) as_matrix(&l->out[i], i != 1);
    l->w.in = l->in;
    l->w.out = l->out;
    l->w.opts = &l->opts;
}

static const char *rejects(const ti_work *w)
{
    const tern_conv2d_act_opts *o = w->opts;
    const int64_t *f = w->in[1].m.shape.dim;
    layer l;

    for (int a = 0; a < 2; a++)
        if (f[2 + a] != 1 || o->stride[a] != 1 || o->pad[a] != 0 || o->groups != 1)
            return "takes 1x1 filters, stride 1, no padding, one group";
    layer_of(&l, w);
    return l.row->reject(&l.w);
}

static double cost(const ti_work *w)
{
    layer l;

    layer_of(&l, w);
    return l.row->cost(&l.w);
}

static size_t scratch(const ti_work *w)
{
    layer l;

    layer_of(&l, w);
    return l.row->scratch(&l.w);
}

static double chain(const ti_work *w)
{
    layer l;

    layer_of(&l, w);
    return l.row->chain(&l.w);
}

static void run(const ti_work *w)
{
    layer l;

    layer_of(&l, w);
    l.row->run(&l.w);
}

#define ROW(op_, ...)                                                                              \
    {                                                                                              \
        .op = op_, .impl = "bf16", .reject = rejects, .cost = cost, .scratch = scratch,            \
        .want = {TI_CHANNELS_LAST, TI_ROW_MAJOR, TI_ROW_MAJOR, __VA_ARGS__}, .run = run,           \
        .chain = chain, .numbers = TI_CLASS_BF16                                                   \
    }
const ti_row ti_cpu_conv2d_bf16[] = {
    ROW("conv2d_act", TI_ANY_LAYOUT),
    ROW("conv2d_act_d", TI_CHANNELS_LAST, TI_CHANNELS_LAST),
    {.op = NULL},
};
