/*
 * reduce.c - CPU kernels for sum, mean, variance, max, min in f32 and f64.
 *
 * The axes of x fall into kept and reduced ones; each list is merged where strides allow.
 *  - rows: x runs along a reduced axis. A result is made of runs, one after the other.
 *  - columns: x runs along a kept axis. A block of up to 256 results is made at a time, each
 *    reduced position adding a run to it.
 * Large reductions of few results are split along the outermost reduced axis; the parts are
 * combined in order. Shapes of blocks and parts depend on the problem only.
 *
 * f32 is summed in double, so only the last rounding counts. f64 is summed in 8 lanes per run; the
 * chain function counts what is added one after the other.
 */
#include <math.h>

#include "cpu/loops.h"

enum { COLUMNS = 256, WORK = 32768, MOST_PARTS = 64 };

typedef enum { SUM, MEAN, VARIANCE, LARGEST, SMALLEST } kind;

typedef struct {
    kind what;
    const ti_vector *vector;
    bool f64, squares;             /* squares: of x - mean, the second pass of variance */
    int n_kept, n_reduced, column; /* column: the kept axis along which x runs, or -1 */
    int64_t kept[TERN_RANK], kept_x[TERN_RANK], kept_y[TERN_RANK]; /* extents; strides, elements */
    int64_t reduced[TERN_RANK], reduced_x[TERN_RANK];
    int64_t n, results, size;    /* elements of each result; results; bytes of an element */
    int64_t blocks, each;        /* of columns; results (or blocks) of a chunk */
    int64_t chunks, parts, part; /* per part; parts; extent of a part along reduced[0] */
    const char *x;
    char *y;
    double *partial, *mean; /* [parts][results], [results] */
    double divisor;
} plan;

static void merge_kept(plan *p)
{
    int n = 0;

    for (int a = 0; a < p->n_kept; a++) {
        const bool even = n > 0 && p->kept_x[n - 1] == p->kept_x[a] * p->kept[a] &&
                          p->kept_y[n - 1] == p->kept_y[a] * p->kept[a];

        if (even) n--;
        p->kept[n] = even ? p->kept[n] * p->kept[a] : p->kept[a];
        p->kept_x[n] = p->kept_x[a];
        p->kept_y[n++] = p->kept_y[a];
    }
    p->n_kept = n;
}

/* Largest stride first, then merged. */
static void merge_reduced(plan *p)
{
    int n = 0;

    for (int a = 1; a < p->n_reduced; a++)
        for (int b = a; b > 0 && p->reduced_x[b - 1] < p->reduced_x[b]; b--) {
            const int64_t d = p->reduced[b], s = p->reduced_x[b];
            p->reduced[b] = p->reduced[b - 1];
            p->reduced_x[b] = p->reduced_x[b - 1];
            p->reduced[b - 1] = d;
            p->reduced_x[b - 1] = s;
        }
    for (int a = 0; a < p->n_reduced; a++) {
        const bool even = n > 0 && p->reduced_x[n - 1] == p->reduced_x[a] * p->reduced[a];

        if (even) n--;
        p->reduced[n] = even ? p->reduced[n] * p->reduced[a] : p->reduced[a];
        p->reduced_x[n++] = p->reduced_x[a];
    }
    if (n == 0) {
        p->reduced[0] = 1;
        n = 1;
    }
    p->n_reduced = n;
}

/* How the work is cut. */
static void cut(plan *p)
{
    const int64_t inner = p->column >= 0 ? p->kept[p->column] : 1;
    int64_t units;

    p->blocks = p->column >= 0 ? (inner + COLUMNS - 1) / COLUMNS : 1;
    units = p->column >= 0 ? p->results / inner * p->blocks : p->results;
    const int64_t work = p->n * (p->column >= 0 ? (inner < COLUMNS ? inner : COLUMNS) : 1);
    p->each = work > 0 && WORK / work > 1 ? WORK / work : 1;
    p->chunks = (units + p->each - 1) / p->each;
    p->parts = p->chunks >= 8 ? 1 : work / WORK;
    if (p->parts > MOST_PARTS) p->parts = MOST_PARTS;
    if (p->parts > p->reduced[0]) p->parts = p->reduced[0];
    if (p->parts < 1) p->parts = 1;
    p->part = (p->reduced[0] + p->parts - 1) / p->parts;
    p->parts = p->part > 0 ? (p->reduced[0] + p->part - 1) / p->part : 1;
}

static plan plan_of(const ti_work *w, kind what)
{
    const tern_reduce_opts *o = w->opts;
    const ti_meta *x = &w->in[0].m;
    plan p = {.what = what, .f64 = x->type == TERN_F64, .column = -1, .n = 1, .results = 1};
    int64_t y_step = 1;

    p.size = p.f64 ? 8 : 4;
    for (int a = 0; a < x->shape.rank; a++) {
        const bool gone = o->axes == 0 || (o->axes >> a & 1);
        *(gone ? &p.n : &p.results) *= x->shape.dim[a];
        if (x->shape.dim[a] == 1) continue;
        if (gone) {
            p.reduced[p.n_reduced] = x->shape.dim[a];
            p.reduced_x[p.n_reduced++] = x->stride[a];
        } else {
            p.kept[p.n_kept] = x->shape.dim[a];
            p.kept_x[p.n_kept++] = x->stride[a];
        }
    }
    for (int a = p.n_kept - 1; a >= 0; a--) {
        p.kept_y[a] = y_step;
        y_step *= p.kept[a];
    }
    merge_kept(&p);
    merge_reduced(&p);
    if (p.reduced_x[p.n_reduced - 1] != 1)
        for (int a = 0; a < p.n_kept; a++)
            if (p.kept_x[a] == 1) p.column = a;
    cut(&p);
    return p;
}

/* ---- f64 runs, and runs with gaps ---- */

static double element(const plan *p, const char *x, int64_t i)
{
    if (p->f64) return ((const double *)(const void *)x)[i];
    return (double)((const float *)(const void *)x)[i];
}

static bool beats(double x, double best, kind what)
{
    return (x != x && best == best) || (what == LARGEST ? x > best : x < best);
}

static double start(const plan *p)
{
    return p->what == LARGEST ? -INFINITY : p->what == SMALLEST ? INFINITY : 0;
}

static double run_any(const plan *p, int64_t n, const char *x, int64_t step, double mean,
                      double best)
{
    double lane[8] = {0};

    if (p->what >= LARGEST) {
        for (int64_t i = 0; i < n; i++) {
            const double v = element(p, x, i * step);
            if (beats(v, best, p->what)) best = v;
        }
        return best;
    }
    for (int64_t i = 0; i < n; i++) {
        const double z = element(p, x, i * step) - mean;
        lane[i & 7] += p->squares ? z * z : z;
    }
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

/* One run: what it adds, or the best of it and of `best`. */
static double run_of(const plan *p, int64_t n, const char *x, double mean, double best)
{
    const int64_t step = p->reduced_x[p->n_reduced - 1];

    if (p->f64 || step != 1) return run_any(p, n, x, step, mean, best);
    const float *f = (const float *)(const void *)x;
    if (p->what >= LARGEST)
        return (double)p->vector->largest(n, f, (float)best, p->what == SMALLEST);
    return p->squares ? p->vector->sum_squares(n, f, mean) : p->vector->sum(n, f);
}

/* A run of columns into the results' accumulators. */
static void column_run(const plan *p, int64_t n, const char *x, const double *mean, double *acc)
{
    const float *f = (const float *)(const void *)x;

    if (p->what >= LARGEST && !p->f64) {
        p->vector->largest_to(n, f, acc, p->what == SMALLEST);
    } else if (p->what >= LARGEST) {
        for (int64_t i = 0; i < n; i++) {
            const double v = element(p, x, i);
            if (beats(v, acc[i], p->what)) acc[i] = v;
        }
    } else if (p->f64) {
        for (int64_t i = 0; i < n; i++) {
            const double z = element(p, x, i) - (p->squares ? mean[i] : 0);
            acc[i] += p->squares ? z * z : z;
        }
    } else if (p->squares) {
        p->vector->add_squares_to(n, f, mean, acc);
    } else {
        p->vector->add_to(n, f, acc);
    }
}

/* ---- Walks ---- */

static double finished(const plan *p, double v)
{
    if (p->what == MEAN) return v / p->divisor;
    if (p->what == VARIANCE && p->squares) return v / p->divisor;
    return v;
}

/* Result j of part i_part: into the parts, the means, or y. */
static void put(const plan *p, int64_t i_part, int64_t j, double v)
{
    if (p->parts > 1) p->partial[i_part * p->results + j] = v;
    else if (p->what == VARIANCE && !p->squares) p->mean[j] = v / (double)p->n;
    else if (p->f64) ((double *)(void *)p->y)[j] = finished(p, v);
    else ((float *)(void *)p->y)[j] = (float)finished(p, v);
}

/* Steps through the reduced axes of a part, the innermost `skip` ones left to the runs. */
typedef struct {
    int64_t index[TERN_RANK], at, extent;
} walk;
static bool advance(const plan *p, walk *k, int n_axes)
{
    for (int a = n_axes - 1; a >= 0; a--) {
        const int64_t extent = a == 0 ? k->extent : p->reduced[a];
        k->at += p->reduced_x[a];
        if (++k->index[a] < extent) return true;
        k->at -= p->reduced_x[a] * extent;
        k->index[a] = 0;
    }
    return false;
}

static int64_t part_extent(const plan *p, int64_t i_part)
{
    const int64_t left = p->reduced[0] - i_part * p->part;

    return left < p->part ? left : p->part;
}

/* Where result position j (of the kept axes but `without`) lies in x and y. */
static void locate(const plan *p, int64_t j, int without, int64_t *x, int64_t *y)
{
    *x = *y = 0;
    for (int a = p->n_kept - 1; a >= 0; a--) {
        if (a == without) continue;
        *x += j % p->kept[a] * p->kept_x[a];
        *y += j % p->kept[a] * p->kept_y[a];
        j /= p->kept[a];
    }
}

static void rows_chunk(const plan *p, int64_t i_part, int64_t from, int64_t to)
{
    const int runs = p->n_reduced - 1;
    const int64_t n = runs == 0 ? part_extent(p, i_part) : p->reduced[runs];

    for (int64_t j = from; j < to; j++) {
        int64_t x_at, y_at;
        walk k = {.extent = part_extent(p, i_part)};
        double v = start(p);

        locate(p, j, -1, &x_at, &y_at);
        x_at += i_part * p->part * p->reduced_x[0];
        const double mean = p->squares ? p->mean[y_at] : 0;
        do {
            const double r = run_of(p, n, p->x + (x_at + k.at) * p->size, mean, v);
            v = p->what >= LARGEST ? r : v + r;
        } while (advance(p, &k, runs));
        put(p, i_part, y_at, v);
    }
}

static void columns_chunk(const plan *p, int64_t i_part, int64_t from, int64_t to)
{
    const int64_t y_step = p->kept_y[p->column];

    for (int64_t u = from; u < to; u++) {
        const int64_t first = u % p->blocks * COLUMNS, left = p->kept[p->column] - first;
        const int64_t n = left < COLUMNS ? left : COLUMNS;
        double acc[COLUMNS], mean[COLUMNS];
        int64_t x_at, y_at;
        walk k = {.extent = part_extent(p, i_part)};

        locate(p, u / p->blocks, p->column, &x_at, &y_at);
        x_at += first + i_part * p->part * p->reduced_x[0];
        y_at += first * y_step;
        for (int64_t i = 0; i < n; i++) {
            acc[i] = start(p);
            mean[i] = p->squares ? p->mean[y_at + i * y_step] : 0;
        }
        do column_run(p, n, p->x + (x_at + k.at) * p->size, mean, acc);
        while (advance(p, &k, p->n_reduced));
        for (int64_t i = 0; i < n; i++) put(p, i_part, y_at + i * y_step, acc[i]);
    }
}

static void chunk(void *arg, int64_t i_chunk, int i_worker)
{
    const plan *p = arg;
    const int64_t i_part = i_chunk / p->chunks, from = i_chunk % p->chunks * p->each;
    const int64_t units = p->column >= 0 ? p->results / p->kept[p->column] * p->blocks : p->results;
    const int64_t to = from + p->each < units ? from + p->each : units;

    (void)i_worker;
    if (p->column >= 0) columns_chunk(p, i_part, from, to);
    else rows_chunk(p, i_part, from, to);
}

/* One pass over x, then the parts in their order. */
static void pass(const ti_work *w, plan *p)
{
    plan whole = *p;
    const bool small = p->n * p->results < 65536;

    ti_threads_run(small ? NULL : ti_cpu_threads(w->device), p->chunks * p->parts, chunk, p);
    whole.parts = 1;
    for (int64_t j = 0; p->parts > 1 && j < p->results; j++) {
        double v = p->partial[j];
        for (int64_t i = 1; i < p->parts; i++) {
            const double r = p->partial[i * p->results + j];
            if (p->what < LARGEST) v += r;
            else if (beats(r, v, p->what)) v = r;
        }
        put(&whole, 0, j, v);
    }
}

/* ---- Rows ---- */

static size_t scratch_of(const ti_work *w, kind what)
{
    const plan p = plan_of(w, what);
    const int64_t n = (p.parts > 1 ? p.parts : 0) + (what == VARIANCE);

    return (size_t)(n * p.results) * sizeof(double);
}

static void reduce(const ti_work *w, kind what)
{
    plan p = plan_of(w, what);

    p.vector = ti_cpu_vector(w->device);
    p.x = w->in[0].data;
    p.y = w->out[0].data;
    p.mean = w->scratch;
    p.partial = what == VARIANCE ? p.mean + p.results : p.mean;
    p.divisor = (double)p.n;
    pass(w, &p);
    if (what != VARIANCE) return;
    p.squares = true;
    p.divisor -= ((const tern_reduce_opts *)w->opts)->correction;
    if (p.divisor < 0) p.divisor = 0;
    pass(w, &p);
}

static const char *reject(const ti_work *w)
{
    if (w->in[0].count == 0) return "takes no empty input";
    return TI_FLOATS >> w->in[0].m.type & 1 ? NULL : "takes f32 and f64";
}

static double cost(const ti_work *w) { return 200 + 0.5 * (double)w->in[0].count; }

/* In f32 all is in double. In f64: of a run an eighth is added in each lane. */
static double chain(const ti_work *w)
{
    const plan p = plan_of(w, SUM);
    const double run = (double)(p.n_reduced == 1 ? p.part : p.reduced[p.n_reduced - 1]);
    const double runs = (double)p.n / (double)p.parts / run;

    if (!p.f64) return 1;
    return (double)p.parts + (p.column >= 0 ? run * runs : run / 8 + 4 + runs);
}

#define KIND(name, what)                                                                           \
    static void name(const ti_work *w) { reduce(w, what); }                                        \
    static size_t name##_scratch(const ti_work *w) { return scratch_of(w, what); }
KIND(sum, SUM)
KIND(mean, MEAN)
KIND(variance, VARIANCE)
KIND(largest, LARGEST)
KIND(smallest, SMALLEST)

#define ROW(name, op_, chain_)                                                                     \
    {                                                                                              \
        .op = op_, .impl = "runs", .reject = reject, .cost = cost, .scratch = name##_scratch,      \
        .run = name, .chain = chain_, .numbers = TI_REORDERED                                      \
    }
const ti_row ti_cpu_reduce[] = {
    ROW(sum, "sum", chain),    ROW(mean, "mean", chain),   ROW(variance, "variance", chain),
    ROW(largest, "max", NULL), ROW(smallest, "min", NULL), {.op = NULL},
};
