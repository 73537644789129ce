/*
 * copy.c - CPU kernels that move elements: copy, commit, concat, pad, fill, cast between floats.
 *
 * A move of one strided block into another is a nest of two operands (loops.h). Where both lie the
 * same way along the inner axis it is memcpy; where the input runs along another axis it is a
 * transposition in square tiles, for f32 in registers (simd/vector.c). Elements keep their bytes.
 */
#include "cpu/loops.h"

enum { TILE = 16 };

/* ---- Transpositions: y[i][j] = x[i + j * x_step], runs of i along the input ---- */

typedef struct {
    ti_nest e;
    int along;                      /* the axis along which the input runs */
    int64_t i_tiles, j_tiles, edge; /* tiles along it, along the inner axis; edge elements each */
    const ti_vector *vector;
} turn;

#define TURN(name, type)                                                                           \
    static void name(int64_t m, int64_t n, const char *x_, int64_t x_step, char *y_,               \
                     int64_t y_step)                                                               \
    {                                                                                              \
        const type *x = (const type *)(const void *)x_;                                            \
        type *y = (type *)(void *)y_;                                                              \
        for (int64_t j0 = 0; j0 < n; j0 += TILE)                                                   \
            for (int64_t i = 0; i < m; i++) {                                                      \
                const int64_t j1 = j0 + TILE < n ? j0 + TILE : n;                                  \
                for (int64_t j = j0; j < j1; j++) y[i * y_step + j] = x[i + j * x_step];           \
            }                                                                                      \
    }
TURN(turn_1, uint8_t)
TURN(turn_2, uint16_t)
TURN(turn_8, uint64_t)

/* One tile of at most edge by edge elements, at one position of all other axes. */
static void turn_chunk(void *arg, int64_t i_chunk, int i_worker)
{
    const turn *t = arg;
    const ti_nest *e = &t->e;
    const int last = e->rank - 1;
    const int64_t size = e->size[0];
    const int64_t j0 = i_chunk % t->j_tiles * t->edge;
    const int64_t i0 = i_chunk / t->j_tiles % t->i_tiles * t->edge;
    int64_t rest = i_chunk / t->j_tiles / t->i_tiles;
    int64_t m = e->dim[t->along] - i0, n = e->dim[last] - j0;
    char *y = e->data[0] + i0 * e->stride[0][t->along] + j0 * size;
    const char *x = e->data[1] + i0 * size + j0 * e->stride[1][last];

    (void)i_worker;
    if (m > t->edge) m = t->edge;
    if (n > t->edge) n = t->edge;
    for (int a = last - 1; a >= 0; a--) {
        if (a == t->along) continue;
        y += rest % e->dim[a] * e->stride[0][a];
        x += rest % e->dim[a] * e->stride[1][a];
        rest /= e->dim[a];
    }
    const int64_t x_step = e->stride[1][last] / size, y_step = e->stride[0][t->along] / size;
    if (size == 4)
        t->vector->transpose(m, n, (const float *)(const void *)x, x_step, (float *)(void *)y,
                             y_step);
    else if (size == 8) turn_8(m, n, x, x_step, y, y_step);
    else if (size == 2) turn_2(m, n, x, x_step, y, y_step);
    else turn_1(m, n, x, x_step, y, y_step);
}

/* The axis along which the input runs, if that pays: both runs must be worth a tile. -1: none. */
static int turns_along(const ti_nest *e)
{
    const int last = e->rank - 1;

    if (e->stride[0][last] != e->size[0] || e->stride[1][last] % e->size[0] != 0) return -1;
    for (int a = 0; a < last; a++)
        if (e->stride[1][a] == e->size[0] && e->stride[1][last] != e->size[0] &&
            e->stride[1][last] != 0 && e->dim[a] >= 4)
            return a;
    return -1;
}

/* ---- Moves ---- */

static void run_move(const void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const int64_t size = *(const int64_t *)arg;

    (void)step;
    memmove(p[0], p[1], (size_t)(n * size));
}

/* y takes x's elements; both of one shape and type. */
static void move(const ti_work *w, const ti_view *y, const ti_view *x)
{
    ti_view out[1] = {*y}, in[1] = {*x};
    const ti_work part = {.op = w->op, .n_in = 1, .in = in, .out = out, .device = w->device};
    turn t;
    ti_nest *const e = &t.e;

    if (y->count == 0) return;
    out[0].packed = ti_is_packed(&y->m); /* it may be a part of what is packed */
    ti_nest_of(e, &part, 1);
    t.along = turns_along(e);
    t.vector = ti_cpu_vector(w->device);
    if (t.along < 0) {
        ti_loop_over(&part, e, true, 0.1 * (double)e->size[0], run_move, &e->size[0]);
        return;
    }
    const int last = e->rank - 1;
    int64_t chunks = 1;
    t.edge = 64;
    t.i_tiles = (e->dim[t.along] + t.edge - 1) / t.edge;
    t.j_tiles = (e->dim[last] + t.edge - 1) / t.edge;
    for (int a = 0; a < last; a++) chunks *= a == t.along ? t.i_tiles : e->dim[a];
    chunks *= t.j_tiles;
    ti_threads_run(y->count < 32768 ? NULL : ti_cpu_threads(w->device), chunks, turn_chunk, &t);
}

static double move_cost(const ti_work *w)
{
    return 100 + 0.2 * (double)w->out[0].count * (double)tern_type_size(w->out[0].m.type);
}

static void copy(const ti_work *w) { move(w, &w->out[0], &w->in[0]); }

static void commit(const ti_work *w)
{
    if (w->in[1].count > 0 && *(const float *)(const void *)w->in[1].data != 0) return;
    if (w->in[0].data != w->out[0].data) copy(w);
}

static int on_first(int i_out)
{
    (void)i_out;
    return 0;
}

/* The part of v that begins at an index of an axis and has x's shape. */
static ti_view part_of(const ti_view *v, int axis, int64_t from, const ti_view *x)
{
    ti_view p = *v;

    p.m.shape = x->m.shape;
    p.count = x->count;
    p.data += from * p.m.stride[axis] * (int64_t)tern_type_size(p.m.type);
    return p;
}

static void concat(const ti_work *w)
{
    const int o = ((const tern_axis_opts *)w->opts)->axis;
    const int axis = o < 0 ? o + w->out[0].m.shape.rank : o;
    int64_t from = 0;

    for (int k = 0; k < w->n_in; k++) {
        const ti_view part = part_of(&w->out[0], axis, from, &w->in[k]);
        /* a program may have let the input lie there already */
        if (part.data != w->in[k].data) move(w, &part, &w->in[k]);
        from += w->in[k].m.shape.dim[axis];
    }
}

/* ---- fill, pad ---- */

typedef struct {
    union {
        uint64_t eight;
        uint32_t four;
        uint16_t two;
        uint8_t one;
    } value;
    int64_t size;
} constant;

#define FILL(type, member)                                                                         \
    do {                                                                                           \
        const type v = c->value.member;                                                            \
        type *y = (type *)(void *)p[0];                                                            \
        for (int64_t i = 0; i < n; i++) y[i] = v;                                                  \
    } while (0)

static void run_fill(const void *arg, int64_t n, char *const *p, const int64_t *step)
{
    const constant *c = arg;

    (void)step;
    if (c->size == 4) FILL(uint32_t, four);
    else if (c->size == 8) FILL(uint64_t, eight);
    else if (c->size == 2) FILL(uint16_t, two);
    else FILL(uint8_t, one);
}

static void fill_with(const ti_work *w, double value)
{
    const tern_type type = w->out[0].m.type;
    constant c = {.size = (int64_t)tern_type_size(type)};

    ti_store(type, &c.value, value);
    ti_loop(w, 0, false, 0.05 * (double)c.size, run_fill, &c);
}

/* fill's options begin with its value. */
static void fill(const ti_work *w) { fill_with(w, *(const double *)w->opts); }

static void pad(const ti_work *w)
{
    const tern_pad_opts *o = w->opts;
    ti_view part = w->out[0];

    fill_with(w, o->value);
    part.m.shape = w->in[0].m.shape;
    part.count = w->in[0].count;
    for (int a = 0; a < part.m.shape.rank; a++)
        part.data += o->before[a] * part.m.stride[a] * (int64_t)tern_type_size(part.m.type);
    move(w, &part, &w->in[0]);
}

/* ---- cast: one rounding, or none ---- */

#define CAST(name, from, to)                                                                       \
    static void name(const void *arg, int64_t n, char *const *p, const int64_t *step)              \
    {                                                                                              \
        const from *x = (const from *)(void *)p[1];                                                \
        to *y = (to *)(void *)p[0];                                                                \
        (void)arg;                                                                                 \
        for (int64_t i = 0; i < n; i++) y[i] = (to)x[i * step[1]];                                 \
    }
CAST(f32_to_f64, float, double)
CAST(f64_to_f32, double, float)
CAST(byte_to_f32, uint8_t, float)
CAST(byte_to_f64, uint8_t, double)
CAST(i64_to_f32, int64_t, float)
CAST(i64_to_f64, int64_t, double)
CAST(i32_to_i64, int32_t, int64_t)

static ti_run_fn caster(tern_type from, tern_type to)
{
    static const struct {
        tern_type from, to;
        ti_run_fn run;
    } known[] = {
        {TERN_F32, TERN_F64, f32_to_f64}, {TERN_F64, TERN_F32, f64_to_f32},
        {TERN_U8, TERN_F32, byte_to_f32}, {TERN_BOOL, TERN_F32, byte_to_f32},
        {TERN_U8, TERN_F64, byte_to_f64}, {TERN_BOOL, TERN_F64, byte_to_f64},
        {TERN_I64, TERN_F32, i64_to_f32}, {TERN_I64, TERN_F64, i64_to_f64},
        {TERN_I32, TERN_I64, i32_to_i64},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].from == from && known[i].to == to) return known[i].run;
    return NULL;
}

static const char *cast_reject(const ti_work *w)
{
    return caster(w->in[0].m.type, w->out[0].m.type) ? NULL : "does not know these two types";
}

static void cast(const ti_work *w)
{
    ti_loop(w, 1, false, 0.3, caster(w->in[0].m.type, w->out[0].m.type), NULL);
}

const ti_row ti_cpu_copy[] = {
    {.op = "copy", .impl = "tiles", .cost = move_cost, .run = copy},
    {.op = "commit", .impl = "tiles", .cost = move_cost, .may_alias = on_first, .run = commit},
    {.op = "concat", .impl = "tiles", .cost = move_cost, .run = concat},
    {.op = "pad", .impl = "tiles", .cost = move_cost, .run = pad},
    {.op = "fill", .impl = "tiles", .cost = move_cost, .run = fill},
    {.op = "cast", .impl = "loops", .reject = cast_reject, .cost = move_cost, .run = cast},
    {.op = NULL},
};
