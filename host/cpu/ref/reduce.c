/*
 * reduce.c - reference for reductions over a set of axes.
 *
 * Each result is made of its elements in row-major order. Integers have rows of their own; their
 * sums wrap around.
 */
#include "cpu/ref/ref.h"

typedef struct {
    int64_t step[TERN_RANK]; /* in the result, of one step along each axis of x; 0: reduced */
    tern_shape x;
    double n; /* elements per result */
} walk;

static walk walk_of(const ti_work *w, int64_t axes)
{
    walk k = {.x = w->in[0].m.shape, .n = 1};
    int64_t step = 1;

    for (int a = k.x.rank - 1; a >= 0; a--) {
        if (axes == 0 || (axes >> a & 1)) {
            k.n *= (double)k.x.dim[a];
            continue;
        }
        k.step[a] = step;
        step *= k.x.dim[a];
    }
    return k;
}

static walk reduction(const ti_work *w)
{
    return walk_of(w, ((const tern_reduce_opts *)w->opts)->axes);
}

/* The result that element i of x goes into. */
static int64_t target(const walk *k, int64_t i)
{
    int64_t at = 0;

    for (int a = k->x.rank - 1; a >= 0; a--) {
        at += i % k->x.dim[a] * k->step[a];
        i /= k->x.dim[a];
    }
    return at;
}

#define RESULTS for (int64_t j = 0; j < w->out[0].count; j++)
#define ELEMENTS for (int64_t i = 0; i < w->in[0].count; i++)

static void sum(const ti_work *w, ti_vec in, ti_vec out)
{
    const walk k = reduction(w);

    RESULTS out[0][j] = 0;
    ELEMENTS out[0][target(&k, i)] += in[0][i];
}

static void mean(const ti_work *w, ti_vec in, ti_vec out)
{
    const walk k = reduction(w);

    sum(w, in, out);
    RESULTS out[0][j] /= k.n;
}

/* Twice over x for each result: once for the mean, once for the squares. */
static void variance(const ti_work *w, ti_vec in, ti_vec out)
{
    const walk k = reduction(w);
    const double by = k.n - ((const tern_reduce_opts *)w->opts)->correction;

    RESULTS
    {
        double m = 0, s = 0;
        ELEMENTS if (target(&k, i) == j) m += in[0][i] / k.n;
        ELEMENTS if (target(&k, i) == j) s += (in[0][i] - m) * (in[0][i] - m);
        out[0][j] = s / (by > 0 ? by : 0);
    }
}

/* Whether b takes the place of a: larger (sign 1), smaller (-1); NaN beats all but NaN. */
static bool beats(double b, double a, int sign)
{
    return (b != b && a == a) || (sign > 0 ? b > a : b < a);
}

static void extreme(const ti_work *w, ti_vec in, ti_vec out, int sign)
{
    const walk k = reduction(w);

    RESULTS out[0][j] = sign > 0 ? -INFINITY : INFINITY;
    ELEMENTS
    {
        double *best = &out[0][target(&k, i)];
        if (beats(in[0][i], *best, sign)) *best = in[0][i];
    }
}
static void largest(const ti_work *w, ti_vec in, ti_vec out) { extreme(w, in, out, 1); }
static void smallest(const ti_work *w, ti_vec in, ti_vec out) { extreme(w, in, out, -1); }

/* ---- Integers ---- */

static void integers(const ti_work *w, int sign)
{
    const walk k = reduction(w);
    const tern_type type = w->in[0].m.type;
    const int64_t first = sign == 0 ? 0 : sign > 0 ? INT64_MIN : INT64_MAX;

    /* An i32 result starts at a value that i32 has. */
    RESULTS ti_store_integer(type, ti_element(&w->out[0], j),
                             type == TERN_I32 && sign ? (sign > 0 ? INT32_MIN : INT32_MAX) : first);
    ELEMENTS
    {
        const int64_t x = ti_load_integer(type, ti_element(&w->in[0], i));
        char *at = ti_element(&w->out[0], target(&k, i));
        const int64_t y = ti_load_integer(type, at);
        if (sign == 0) ti_store_integer(type, at, (int64_t)((uint64_t)y + (uint64_t)x));
        else if (sign > 0 ? x > y : x < y) ti_store_integer(type, at, x);
    }
}
static void sum_integers(const ti_work *w) { integers(w, 0); }
static void largest_integer(const ti_work *w) { integers(w, 1); }
static void smallest_integer(const ti_work *w) { integers(w, -1); }

/* ---- Where the extreme is: the first one, the first NaN before all ---- */

static bool beats_at(const ti_work *w, int64_t i, int64_t best, int sign)
{
    const tern_type type = w->in[0].m.type;
    const char *b = ti_element(&w->in[0], i), *a = ti_element(&w->in[0], best);

    if (TI_FLOATS >> type & 1) return beats(ti_load(type, b), ti_load(type, a), sign);
    const int64_t y = ti_load_integer(type, b), x = ti_load_integer(type, a);
    return sign > 0 ? y > x : y < x;
}

static void arg(const ti_work *w, int sign)
{
    const tern_arg_opts *o = w->opts;
    const tern_shape s = w->in[0].m.shape;
    const int axis = o->axis < 0 ? o->axis + s.rank : o->axis;
    int64_t n = o->has_axis ? s.dim[axis] : w->in[0].count, inner = 1;

    for (int a = axis + 1; o->has_axis && a < s.rank; a++) inner *= s.dim[a];
    RESULTS
    {
        const int64_t first = j / inner * inner * n + j % inner;
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++)
            if (beats_at(w, first + i * inner, first + best * inner, sign)) best = i;
        ti_store_integer(TERN_I64, ti_element(&w->out[0], j), best);
    }
}
static void argmax(const ti_work *w) { arg(w, 1); }
static void argmin(const ti_work *w) { arg(w, -1); }

/* The sums of these rows are in double: one chain, but of roundings of 2^-53. In f64 that is what
 * counts. */
static double chain(const ti_work *w) { return w->in[0].m.type == TERN_F64 ? reduction(w).n : 1; }

const ti_row ti_ref_reduce[] = {
    {.op = "sum", .impl = "ref", .reject = ti_only_floats, .body = sum, .chain = chain},
    {.op = "sum", .impl = "ref_integers", .reject = ti_only_integers, .run = sum_integers},
    {.op = "mean", .impl = "ref", .body = mean, .chain = chain},
    {.op = "variance", .impl = "ref", .body = variance, .chain = chain},
    {.op = "max", .impl = "ref", .reject = ti_only_floats, .body = largest},
    {.op = "max", .impl = "ref_integers", .reject = ti_only_integers, .run = largest_integer},
    {.op = "min", .impl = "ref", .reject = ti_only_floats, .body = smallest},
    {.op = "min", .impl = "ref_integers", .reject = ti_only_integers, .run = smallest_integer},
    {.op = "argmax", .impl = "ref", .run = argmax},
    {.op = "argmin", .impl = "ref", .run = argmin},
    {.op = NULL},
};
