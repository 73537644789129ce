/*
 * meta.c - types, shapes, metas, views: pure functions, without a context.
 *
 * Plug-ins compile this file, too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tensor.h"

/* ---- Types ---- */

static const struct {
    const char *name;
    size_t size;
} types[TERN_N_TYPES] = {{"f32", 4}, {"f64", 8}, {"f16", 2}, {"bf16", 2},
                         {"i64", 8}, {"i32", 4}, {"u8", 1},  {"bool", 1}};

const char *tern_type_name(tern_type type)
{
    return (unsigned)type < TERN_N_TYPES ? types[type].name : "unknown type";
}

size_t tern_type_size(tern_type type)
{
    return (unsigned)type < TERN_N_TYPES ? types[type].size : 0;
}

tern_type tern_type_named(const char *name)
{
    int t = 0;

    while (t < TERN_N_TYPES && (!name || strcmp(types[t].name, name) != 0)) t++;
    return (tern_type)t;
}

/* ---- Shapes ---- */

static int64_t count_of(const tern_shape *s)
{
    int64_t n = 1;
    bool empty = false;

    if (s->rank < 0 || s->rank > TERN_RANK) return -1;
    for (int i = 0; i < s->rank; i++) {
        if (s->dim[i] < 0) return -1;
        if (s->dim[i] == 0) empty = true;
        else if (__builtin_mul_overflow(n, s->dim[i], &n)) return -1;
    }
    return empty ? 0 : n;
}

int64_t tern_count(tern_shape s) { return count_of(&s); }

bool ti_same_shape(const tern_shape *a, const tern_shape *b)
{
    if (a->rank != b->rank || a->rank < 0 || a->rank > TERN_RANK) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool tern_same_shape(tern_shape a, tern_shape b) { return ti_same_shape(&a, &b); }

const char *tern_shape_text(char text[160], tern_shape s)
{
    if (!text) return "";
    if (s.rank < 0 || s.rank > TERN_RANK) {
        snprintf(text, 160, "[%d axes]", s.rank);
        return text;
    }
    int n = snprintf(text, 160, "[");

    for (int i = 0; i < s.rank && n < 136; i++)
        n += snprintf(text + n, (size_t)(160 - n), i ? ",%lld" : "%lld", (long long)s.dim[i]);
    snprintf(text + n, (size_t)(160 - n), "]");
    return text;
}

/* ---- Metas ---- */

/* Strides without gaps for axes taken in the order order[0] (outermost) … order[rank-1]. */
static ti_meta ordered_meta(tern_type type, tern_shape s, const int *order)
{
    ti_meta m;
    int64_t stride = 1;

    memset(&m, 0, sizeof m);
    m.type = type;
    m.shape.rank = s.rank;
    for (int k = s.rank; k-- > 0;) {
        const int i = order ? order[k] : k;

        m.shape.dim[i] = s.dim[i];
        m.stride[i] = s.dim[i] == 1 ? 0 : stride;
        stride *= s.dim[i] > 0 ? s.dim[i] : 1;
    }
    return m;
}

ti_meta ti_packed_meta(tern_type type, tern_shape s) { return ordered_meta(type, s, NULL); }

ti_meta ti_channels_last_meta(tern_type type, tern_shape s)
{
    int order[TERN_RANK] = {0}, n = 1;

    if (s.rank < 3) return ti_packed_meta(type, s);
    for (int i = 2; i < s.rank; i++) order[n++] = i;
    order[n] = 1;
    return ordered_meta(type, s, order);
}

bool ti_is_packed(const ti_meta *m)
{
    int64_t stride = 1;

    for (int i = m->shape.rank - 1; i >= 0; i--) {
        if (m->shape.dim[i] == 1) continue;
        if (m->stride[i] != stride) return false;
        stride *= m->shape.dim[i];
    }
    return true;
}

static bool same_strides(const ti_meta *a, const ti_meta *b)
{
    return memcmp(a->stride, b->stride, (size_t)a->shape.rank * sizeof a->stride[0]) == 0;
}

bool ti_is_channels_last(const ti_meta *m)
{
    const ti_meta want = ti_channels_last_meta(m->type, m->shape);

    return same_strides(m, &want);
}

/* Axes from the largest stride to the smallest; axes of extent 1 stay in place, outermost. */
static void axis_order(const ti_meta *m, int *order)
{
    for (int i = 0; i < m->shape.rank; i++) {
        int k = i;

        for (; k > 0; k--) {
            const int before = order[k - 1];
            if (m->shape.dim[before] == 1 || m->shape.dim[i] == 1) break;
            if (m->stride[before] >= m->stride[i]) break;
            order[k] = before;
        }
        order[k] = i;
    }
}

ti_meta ti_follow_meta(tern_type type, const ti_meta *m)
{
    int order[TERN_RANK];

    if (ti_is_packed(m)) return ti_packed_meta(type, m->shape);
    if (ti_is_channels_last(m)) return ti_channels_last_meta(type, m->shape);
    axis_order(m, order);
    ti_meta f = ordered_meta(type, m->shape, order);
    return same_strides(&f, m) ? f : ti_packed_meta(type, m->shape);
}

bool ti_is_dense(const ti_meta *m)
{
    const ti_meta f = ti_follow_meta(m->type, m);

    return same_strides(&f, m);
}

bool ti_same_meta(const ti_meta *a, const ti_meta *b)
{
    return a->type == b->type && a->offset == b->offset && tern_same_shape(a->shape, b->shape) &&
           same_strides(a, b);
}

size_t ti_bytes(const ti_meta *m) { return (size_t)count_of(&m->shape) * types[m->type].size; }

/* ---- Elements ---- */

static float from_half(uint16_t h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const float x = e == 31 ? (m ? NAN : INFINITY)
                    : e     ? ldexpf((float)(m | 1024), e - 25)
                            : ldexpf((float)m, -24);

    return h >> 15 ? -x : x;
}

/* Rounds to nearest even at the format's last place, once, from double. */
static uint16_t to_half(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    int e;

    if (isnan(x)) return 0x7e00;
    x = fabs(x);
    if (x == 0) return sign;
    if (isinf(x)) return sign | 0x7c00;
    frexp(x, &e); /* x in 2^(e-1) … 2^e */
    const int least = e - 11 < -24 ? -24 : e - 11;
    const double units = nearbyint(ldexp(x, -least)); /* default rounding: to even */
    if (e > 16) return sign | 0x7c00;
    /* the leading bit of units carries into the exponent, up to infinity */
    return (uint16_t)(sign | (((least + 24) << 10) + (int)units));
}

static uint16_t to_bfloat(double x)
{
    float f = (float)x;
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40);
    /* x may lie between f and a neighbour: keep the direction, so that nothing is rounded twice */
    if ((double)f != x && !isinf(f)) {
        if (fabs((double)f) > fabs(x)) bits--; /* truncate to f32 toward zero */
        bits |= 1;                             /* and remember that something is left */
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double ti_load(tern_type type, const void *at)
{
    switch (type) {
    case TERN_F32: return *(const float *)at;
    case TERN_F64: return *(const double *)at;
    case TERN_F16: return from_half(*(const uint16_t *)at);
    case TERN_BF16: {
        const uint32_t bits = (uint32_t) * (const uint16_t *)at << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    case TERN_I64: return (double)*(const int64_t *)at;
    case TERN_I32: return *(const int32_t *)at;
    case TERN_U8: return *(const uint8_t *)at;
    case TERN_BOOL: return *(const uint8_t *)at != 0;
    default: return 0;
    }
}

static double whole(double x, double least, double most) /* truncated, saturated; NaN is 0 */
{
    return isnan(x) ? 0 : x <= least ? least : x >= most ? most : trunc(x);
}

void ti_store(tern_type type, void *at, double x)
{
    switch (type) {
    case TERN_F32: *(float *)at = (float)x; break;
    case TERN_F64: *(double *)at = x; break;
    case TERN_F16: *(uint16_t *)at = to_half(x); break;
    case TERN_BF16: *(uint16_t *)at = to_bfloat(x); break;
    case TERN_I64:
        *(int64_t *)at = x >= 9223372036854775808.0
                             ? INT64_MAX
                             : (int64_t)whole(x, -9223372036854775808.0, 9.3e18);
        break;
    case TERN_I32: *(int32_t *)at = (int32_t)whole(x, INT32_MIN, INT32_MAX); break;
    case TERN_U8: *(uint8_t *)at = (uint8_t)whole(x, 0, 255); break;
    case TERN_BOOL: *(uint8_t *)at = x != 0; break;
    default: break;
    }
}

/* ---- Views ---- */

ti_view ti_view_at(const ti_meta *m, char *base)
{
    return (ti_view){base ? base + m->offset * (int64_t)tern_type_size(m->type) : NULL,
                     tern_count(m->shape), ti_is_packed(m), *m};
}

static int64_t offset_of(const ti_view *v, int64_t i)
{
    int64_t at = 0;

    if (v->packed) return i;
    for (int a = v->m.shape.rank - 1; a >= 0; a--) {
        at += i % v->m.shape.dim[a] * v->m.stride[a];
        i /= v->m.shape.dim[a];
    }
    return at;
}

double ti_get(const ti_view *v, int64_t i)
{
    return ti_load(v->m.type, v->data + offset_of(v, i) * (int64_t)tern_type_size(v->m.type));
}

void ti_put(const ti_view *v, int64_t i, double x)
{
    ti_store(v->m.type, v->data + offset_of(v, i) * (int64_t)tern_type_size(v->m.type), x);
}

/* Walks all elements but the last axis in row-major order; calls fn for each run along it. */
typedef void (*run_fn)(void *arg, char *at, int64_t i, int64_t n, int64_t stride);

static void each_run(const ti_view *v, run_fn fn, void *arg)
{
    const int64_t size = (int64_t)tern_type_size(v->m.type);
    const int last = v->m.shape.rank - 1;
    int64_t index[TERN_RANK] = {0}, at = 0;

    if (v->count <= 0) return;
    if (v->packed || last < 0) {
        fn(arg, v->data, 0, v->count, size);
        return;
    }
    const int64_t n = v->m.shape.dim[last], stride = v->m.stride[last] * size;
    for (int64_t i = 0; i < v->count; i += n) {
        fn(arg, v->data + at * size, i, n, stride);
        for (int a = last - 1; a >= 0; a--) {
            at += v->m.stride[a];
            if (++index[a] < v->m.shape.dim[a]) break;
            at -= v->m.stride[a] * v->m.shape.dim[a];
            index[a] = 0;
        }
    }
}

typedef struct {
    tern_type type;
    double *x;
} doubles;

static void get_run(void *arg, char *at, int64_t i, int64_t n, int64_t stride)
{
    const doubles *d = arg;

    if (d->type == TERN_F32)
        for (int64_t k = 0; k < n; k++)
            d->x[i + k] = *(const float *)(const void *)(at + k * stride);
    else
        for (int64_t k = 0; k < n; k++) d->x[i + k] = ti_load(d->type, at + k * stride);
}

static void put_run(void *arg, char *at, int64_t i, int64_t n, int64_t stride)
{
    const doubles *d = arg;

    if (d->type == TERN_F32)
        for (int64_t k = 0; k < n; k++) *(float *)(void *)(at + k * stride) = (float)d->x[i + k];
    else
        for (int64_t k = 0; k < n; k++) ti_store(d->type, at + k * stride, d->x[i + k]);
}

void ti_get_all(const ti_view *v, double *x)
{
    doubles d = {v->m.type, x};

    each_run(v, get_run, &d);
}

void ti_put_all(const ti_view *v, const double *x)
{
    doubles d = {v->m.type, (double *)(uintptr_t)x};

    each_run(v, put_run, &d);
}

typedef struct {
    const ti_view *from;
    int64_t size;
} copying;

static void copy_run(void *arg, char *at, int64_t i, int64_t n, int64_t stride)
{
    const copying *c = arg;
    const ti_view *f = c->from;
    const int last = f->m.shape.rank - 1;

    if (f->packed && stride == c->size) {
        memcpy(at, f->data + i * c->size, (size_t)(n * c->size));
        return;
    }
    if (last < 0 || n != f->m.shape.dim[last]) { /* `to` is packed: element by element */
        for (int64_t k = 0; k < n; k++)
            memcpy(at + k * stride, f->data + offset_of(f, i + k) * c->size, (size_t)c->size);
        return;
    }
    const char *source = f->data + offset_of(f, i) * c->size;
    const int64_t step = f->packed ? c->size : f->m.stride[last] * c->size;
    for (int64_t k = 0; k < n; k++) memcpy(at + k * stride, source + k * step, (size_t)c->size);
}

void ti_copy_view(const ti_view *to, const ti_view *from)
{
    copying c = {from, (int64_t)tern_type_size(to->m.type)};

    if (same_strides(&to->m, &from->m) && ti_is_dense(&to->m)) {
        if (to->count > 0) memcpy(to->data, from->data, (size_t)(to->count * c.size));
        return;
    }
    each_run(to, copy_run, &c);
}
