/*
 * ref.h - what reference rows share: where a broadcast operand's element lies, loads and stores of
 * integers, the kinds of types.
 */
#ifndef TI_CPU_REF_H
#define TI_CPU_REF_H

#include <math.h>
#include <string.h>

#include "core/row.h"

typedef double *const *ti_vec;

/* Index, in operand k, of what element i of output 0 is made of (both row-major). */
static inline int64_t ti_meet(const ti_work *w, int k, int64_t i)
{
    const tern_shape *y = &w->out[0].m.shape, *x = &w->in[k].m.shape;
    int64_t at = 0, step = 1;

    for (int a = y->rank - 1, b = x->rank - 1; b >= 0; a--, b--) {
        if (x->dim[b] != 1) at += i % y->dim[a] * step;
        step *= x->dim[b];
        i /= y->dim[a];
    }
    return at;
}

/* Address of element i (row-major) of a view. */
static inline char *ti_element(const ti_view *v, int64_t i)
{
    int64_t at = 0;

    for (int a = v->m.shape.rank - 1; a >= 0; a--) {
        at += i % v->m.shape.dim[a] * v->m.stride[a];
        i /= v->m.shape.dim[a];
    }
    return v->data + at * (int64_t)tern_type_size(v->m.type);
}

/* Integers exactly; storing wraps around. */
static inline int64_t ti_load_integer(tern_type type, const char *at)
{
    int64_t wide = 0;
    int32_t narrow;

    switch (type) {
    case TERN_I32: memcpy(&narrow, at, 4); return narrow;
    case TERN_I64: memcpy(&wide, at, 8); return wide;
    default: return (uint8_t)*at;
    }
}

static inline void ti_store_integer(tern_type type, char *at, int64_t x)
{
    const int32_t narrow = (int32_t)(uint32_t)(uint64_t)x;
    const uint8_t byte = (uint8_t)x;

    switch (type) {
    case TERN_I32: memcpy(at, &narrow, 4); break;
    case TERN_I64: memcpy(at, &x, 8); break;
    default: memcpy(at, &byte, 1);
    }
}

static inline const char *ti_only_floats(const ti_work *w)
{
    return TI_FLOATS >> w->in[0].m.type & 1 ? NULL : "takes f32 and f64";
}

static inline const char *ti_only_integers(const ti_work *w)
{
    return TI_INDICES >> w->in[0].m.type & 1 ? NULL : "takes i64 and i32";
}

/* f(i) is what w's index operand k holds at element i; raises a fault and gives -1 where it is not
 * in 0 ... limit-1. */
static inline int64_t ti_index_at(const ti_work *w, const ti_view *index, int64_t i, int64_t limit)
{
    const int64_t at = ti_load_integer(index->m.type, ti_element(index, i));

    if (at >= 0 && at < limit) return at;
    ti_raise(w, i, at, limit);
    return -1;
}

/* The activations of fused ops; back: g times the slope, from the result y. */
static inline double ti_act_of(int act, double z)
{
    switch (act) {
    case TERN_RELU: return z > 0 || z != z ? z : 0;
    case TERN_TANH: return tanh(z);
    case TERN_SIGMOID: return 1 / (1 + exp(-z));
    default: return z;
    }
}

static inline double ti_act_back(int act, double y, double g)
{
    switch (act) {
    case TERN_RELU: return y > 0 ? g : 0;
    case TERN_TANH: return g * (1 - y * y);
    case TERN_SIGMOID: return g * y * (1 - y);
    default: return g;
    }
}

#endif
