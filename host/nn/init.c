/*
 * init.c - initial values: functions of (seed, name, element).
 */
#include "nn/module.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {"default",    "constant",       "uniform",
                                    "normal",     "xavier_uniform", "xavier_normal",
                                    "he_uniform", "he_normal",      "orthogonal"};

int tern_init_named(const char *name)
{
    for (int i = 0; name && i <= TERN_INIT_ORTHOGONAL; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

typedef struct {
    double in, out;
} fans;

static fans fans_of(tern_shape s)
{
    double taps = 1;

    if (s.rank < 0 || s.rank > TERN_RANK) return (fans){1, 1}; /* refused when it is drawn */
    for (int i = 2; i < s.rank; i++) taps *= (double)s.dim[i];
    return (fans){(double)s.dim[1] * taps, (double)s.dim[0] * taps};
}

static tern_tensor *random(tern_ctx *ctx, bool normal, const char *name, tern_type type,
                           tern_shape shape, double a, double b)
{
    const int64_t zero = 0;
    tern_random_opts o = {.seed = (int64_t)tern_seed(ctx),
                          .purpose = tern_purpose(name),
                          .rank = shape.rank,
                          .type = (int)type,
                          .a = a,
                          .b = b};
    tern_tensor *counter = tern_from_host(ctx, TERN_I64, &zero, (tern_shape){0});

    memcpy(o.dim, shape.dim, sizeof o.dim);
    return normal ? tern_normal(ctx, counter, &o) : tern_uniform(ctx, counter, &o);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Takes the parts along v[0] … v[i-1] out of v[i]; twice, which is enough for full precision
 * (Giraud, Langou and Rozloznik 2005). Returns the norm that is left. */
static double cleave(double *v, int64_t i, int64_t n)
{
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < i; j++) {
            const double along = dot(v + j * n, v + i * n, n);
            for (int64_t k = 0; k < n; k++) v[i * n + k] -= along * v[j * n + k];
        }
    return sqrt(dot(v + i * n, v + i * n, n));
}

/* m <= n vectors of n normal numbers become orthonormal: the Q of a QR decomposition whose R has
 * a positive diagonal, so that Q is uniform over the orthogonal matrices (Mezzadri 2007). */
static void orthonormalise(double *v, int64_t m, int64_t n)
{
    for (int64_t i = 0; i < m; i++) {
        double norm = cleave(v, i, n);

        /* A vector that depends on the earlier ones gives way to a unit vector that does not. */
        for (int64_t e = 0; !(norm > 1e-9) && e < n; e++) {
            memset(v + i * n, 0, (size_t)n * sizeof *v);
            v[i * n + e] = 1;
            norm = cleave(v, i, n);
            if (norm * norm < (double)(n - i) / (2.0 * (double)n)) norm = 0;
        }
        for (int64_t k = 0; k < n; k++) v[i * n + k] /= norm;
    }
}

static tern_tensor *orthogonal(tern_ctx *ctx, const char *name, tern_type type, tern_shape shape,
                               double gain)
{
    const int64_t count = tern_count(shape), rows = shape.dim[0], cols = rows ? count / rows : 0;
    const bool flip = rows > cols;
    const int64_t m = flip ? cols : rows, n = flip ? rows : cols;
    tern_tensor *raw = random(ctx, true, name, TERN_F64, (tern_shape){2, {m, n}}, 0, 1), *y = NULL;
    double *v = tern_alloc(ctx, (size_t)count * sizeof *v);
    double *w = tern_alloc(ctx, (size_t)count * sizeof *w);

    if (v && w && raw && tern_to_doubles(ctx, v, raw) == TERN_OK) {
        orthonormalise(v, m, n);
        for (int64_t i = 0; i < m; i++)
            for (int64_t k = 0; k < n; k++) w[flip ? k * m + i : i * n + k] = gain * v[i * n + k];
        y = tern_from_doubles(ctx, type, w, shape);
    }
    tern_free(ctx, v);
    tern_free(ctx, w);
    return y;
}

/* Everything that can be wrong with an initialiser, before anything is drawn. */
tern_status ti_nn_init_check(tern_ctx *ctx, const char *name, tern_shape shape, const tern_init *o)
{
    const char *what = NULL;

    if (o->kind < TERN_INIT_DEFAULT || o->kind > TERN_INIT_ORTHOGONAL) what = "no such initialiser";
    else if (!isfinite(o->a) || !isfinite(o->b) || !isfinite(o->gain) || o->gain < 0)
        what = "a, b and gain are finite, and gain is not negative";
    else if (o->kind == TERN_INIT_UNIFORM && !(o->a < o->b) && (o->a != 0 || o->b != 0))
        what = "uniform: a is below b";
    else if (o->kind == TERN_INIT_NORMAL && o->b < 0)
        what = "normal: the deviation is not negative";
    else if (o->count < 0 ||
             (o->count > 0 && (shape.rank < 1 || o->from < 0 || o->from > shape.dim[0] - o->count)))
        what = "from and count lie within the first axis";
    else if (!isfinite(o->value)) what = "value is finite";
    if (what) return tern_fail(ctx, TERN_E_ARGUMENT, "initial values of %s: %s", name, what);
    if (o->kind != TERN_INIT_CONSTANT && o->kind != TERN_INIT_UNIFORM &&
        o->kind != TERN_INIT_NORMAL && shape.rank < 2)
        return tern_fail(ctx, TERN_E_SHAPE, "initial values of %s: %s needs 2 axes or more, not %d",
                         name, names[o->kind], shape.rank);
    return tern_error(ctx);
}

static tern_tensor *draw(tern_ctx *ctx, const char *name, tern_type type, tern_shape shape,
                         tern_init o)
{
    const bool normal = o.kind == TERN_INIT_NORMAL;

    if (o.kind == TERN_INIT_CONSTANT) return tern_fill(ctx, type, shape, o.a);
    if (normal || o.kind == TERN_INIT_UNIFORM)
        return random(ctx, normal, name, type, shape, o.a, o.a == 0 && o.b == 0 ? 1 : o.b);
    if (tern_count(shape) == 0) return tern_fill(ctx, type, shape, 0);
    const fans fan = fans_of(shape);
    const double he_fan = o.fan_out ? fan.out : fan.in, gain = o.gain != 0 ? o.gain : 1;
    const double he = (o.gain != 0 ? o.gain : sqrt(2)) / sqrt(he_fan);
    const double xavier = gain * sqrt(2 / (fan.in + fan.out)), wide = sqrt(3); /* of deviation 1 */
    const double plain = 1 / sqrt(fan.in);

    switch (o.kind) {
    case TERN_INIT_XAVIER_UNIFORM:
        return random(ctx, false, name, type, shape, -wide * xavier, wide * xavier);
    case TERN_INIT_XAVIER_NORMAL: return random(ctx, true, name, type, shape, 0, xavier);
    case TERN_INIT_HE_UNIFORM: return random(ctx, false, name, type, shape, -wide * he, wide * he);
    case TERN_INIT_HE_NORMAL: return random(ctx, true, name, type, shape, 0, he);
    case TERN_INIT_ORTHOGONAL: return orthogonal(ctx, name, type, shape, gain);
    default: return random(ctx, false, name, type, shape, -plain, plain);
    }
}

/* x with `count` slices of axis 0 from `from` on set to the value. */
static tern_tensor *with_value(tern_ctx *ctx, tern_tensor *x, const tern_init *o)
{
    const tern_shape s = tern_shape_of(x);
    const int64_t end = o->from + o->count;
    tern_shape middle = s;
    tern_tensor *part[3];
    int n = 0;

    middle.dim[0] = o->count;
    if (o->from > 0) part[n++] = tern_slice(ctx, x, &(tern_slice_opts){.count = o->from});
    part[n++] = tern_fill(ctx, tern_type_of(x), middle, o->value);
    if (end < s.dim[0])
        part[n++] = tern_slice(ctx, x, &(tern_slice_opts){.from = end, .count = s.dim[0] - end});
    return tern_concat(ctx, n, part, 0);
}

tern_tensor *tern_init_draw(tern_ctx *ctx, const char *name, tern_type type, tern_shape shape,
                            const tern_init *init)
{
    const tern_init o = init ? *init : (tern_init){0};

    if (tern_error(ctx)) return NULL;
    if (!name || (o.kind != TERN_INIT_CONSTANT && type != TERN_F32 && type != TERN_F64)) {
        tern_fail(ctx, TERN_E_ARGUMENT, "initial values: they have a name, and are f32 or f64");
        return NULL;
    }
    if (ti_nn_init_check(ctx, name, shape, &o)) return NULL;
    tern_tensor *x = draw(ctx, name, type, shape, o);
    return x && o.count > 0 ? with_value(ctx, x, &o) : x;
}
