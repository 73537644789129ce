/*
 * copy.c - reference for what moves bytes: copy, commit, concat, pad; and for cast and fill.
 */
#include "cpu/ref/ref.h"

/* Same type on both sides, one element after the other. */
static void move(const ti_view *to, int64_t i, const ti_view *from, int64_t j)
{
    memcpy(ti_element(to, i), ti_element(from, j), tern_type_size(to->m.type));
}

static void copy(const ti_work *w)
{
    for (int64_t i = 0; i < w->out[0].count; i++) move(&w->out[0], i, &w->in[0], i);
}

static void commit(const ti_work *w)
{
    if (w->in[1].count > 0 && ti_get(&w->in[1], 0) != 0) return;
    if (w->in[0].data != w->out[0].data) copy(w);
}

static int commit_alias(int i_out)
{
    (void)i_out;
    return 0;
}

/* y[.., from_k + j, ..] = x_k[.., j, ..] */
static void concat(const ti_work *w)
{
    const int o = ((const tern_axis_opts *)w->opts)->axis;
    const tern_shape s = w->out[0].m.shape;
    const int axis = o < 0 ? o + s.rank : o;
    int64_t inner = 1, from = 0;

    for (int a = axis + 1; a < s.rank; a++) inner *= s.dim[a];
    for (int k = 0; k < w->n_in; k++) {
        const int64_t n = w->in[k].m.shape.dim[axis];
        for (int64_t i = 0; i < w->in[k].count; i++) {
            const int64_t outer = i / (n * inner), rest = i % (n * inner);
            move(&w->out[0], (outer * s.dim[axis] + from) * inner + rest, &w->in[k], i);
        }
        from += n;
    }
}

/* A constant everywhere, then x in the middle. */
static void pad(const ti_work *w)
{
    const tern_pad_opts *o = w->opts;
    const ti_view *x = &w->in[0], *y = &w->out[0];

    for (int64_t i = 0; i < y->count; i++) ti_store(y->m.type, ti_element(y, i), o->value);
    for (int64_t i = 0; i < x->count; i++) {
        int64_t at = 0, step = 1, rest = i;
        for (int a = x->m.shape.rank - 1; a >= 0; a--) {
            at += (rest % x->m.shape.dim[a] + o->before[a]) * step;
            rest /= x->m.shape.dim[a];
            step *= y->m.shape.dim[a];
        }
        move(y, at, x, i);
    }
}

/* Through double, which holds all types but i64. */
static void cast(const ti_work *w)
{
    const ti_view *x = &w->in[0], *y = &w->out[0];
    const tern_type from = x->m.type, to = y->m.type;

    for (int64_t i = 0; i < y->count; i++) {
        const char *at = ti_element(x, i);
        if (from != TERN_I64) {
            ti_store(to, ti_element(y, i), ti_load(from, at));
            continue;
        }
        const int64_t n = ti_load_integer(from, at);
        if (to == TERN_I64) ti_store_integer(to, ti_element(y, i), n);
        else if (to == TERN_F32) *(float *)(void *)ti_element(y, i) = (float)n;
        else ti_store(to, ti_element(y, i), (double)n);
    }
}

/* fill's options begin with its value. */
static void fill(const ti_work *w)
{
    const double value = *(const double *)w->opts;

    for (int64_t i = 0; i < w->out[0].count; i++)
        ti_store(w->out[0].m.type, ti_element(&w->out[0], i), value);
}

const ti_row ti_ref_copy[] = {
    {.op = "copy", .impl = "ref", .run = copy},
    {.op = "commit", .impl = "ref", .may_alias = commit_alias, .run = commit},
    {.op = "concat", .impl = "ref", .run = concat},
    {.op = "pad", .impl = "ref", .run = pad},
    {.op = "cast", .impl = "ref", .run = cast},
    {.op = "fill", .impl = "ref", .run = fill},
    {.op = NULL},
};
