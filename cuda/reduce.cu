/*
 * reduce.cu - sums, means, extremes, variances over any set of axes; where an extreme is.
 *
 * A group of `lanes` threads takes one piece of the elements of one result: each thread in steps of
 * `lanes`, in order, then a tree over the group; a second kernel puts the pieces together in order.
 * Lanes run along the reduced axes where these lie denser, else neighbouring threads take
 * neighbouring results. All counts depend on the problem only. Variances go twice over x: a mean,
 * then squares of differences. Integers wrap around.
 */
#include "math.cuh"
#include "nest.cuh"

enum { SUM, LARGEST, SMALLEST, SQUARES };

typedef struct {
    ti_nest kept, gone; /* x along the axes that stay, and along those that go */
    int64_t n, count;   /* results, elements of each */
    int64_t pieces, each;
    int lanes;
} reduction;

/* The axes of a mask (0: all), those that go sorted as x lies, or left in their order. */
static reduction reduction_of(const ti_work *w, int64_t axes, bool sorted)
{
    const ti_meta *x = &w->in[0].m;
    reduction r;

    memset(&r, 0, sizeof r);
    r.kept.n = r.gone.n = 1;
    for (int a = 0; a < x->shape.rank; a++) {
        ti_nest *e = axes == 0 || (axes >> a & 1) ? &r.gone : &r.kept;

        e->dim[e->rank] = x->shape.dim[a];
        e->stride[0][e->rank++] = x->stride[a];
    }
    ti_nest_simplify(&r.kept, false);
    ti_nest_simplify(&r.gone, sorted);
    r.n = r.kept.count;
    r.count = r.gone.count;
    r.lanes = r.pieces = 1;
    const int64_t near = r.gone.stride[0][r.gone.rank - 1], far = r.kept.stride[0][r.kept.rank - 1];
    if (r.n == 1 || far == 0 || (near != 0 && near < far)) {
        while (r.lanes < TI_BLOCK && r.lanes * 4 < r.count) r.lanes *= 2;
        r.pieces = r.count / 8192;
    } else {
        r.pieces = r.count / 64;
    }
    const int64_t enough = 262144 / (r.n * r.lanes > 0 ? r.n * r.lanes : 1);
    if (r.pieces > enough) r.pieces = enough;
    if (r.pieces > 128) r.pieces = 128;
    if (r.pieces < 1) r.pieces = 1;
    r.each = (r.count + r.pieces - 1) / r.pieces;
    if (r.each > 0) r.pieces = (r.count + r.each - 1) / r.each;
    return r;
}

static reduction of(const ti_work *w)
{
    return reduction_of(w, ti_opts<tern_reduce_opts>(w).axes, true);
}

/* Blocks of `lanes`-sized groups. */
static unsigned grid_of(const reduction &r)
{
    const int64_t groups = TI_BLOCK / r.lanes, blocks = (r.n * r.pieces + groups - 1) / groups;

    return (unsigned)(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks);
}

/* ---- Putting two together ---- */

static inline __device__ float plus(float a, float b) { return a + b; }
static inline __device__ double plus(double a, double b) { return a + b; }
static inline __device__ int64_t plus(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}
static inline __device__ int32_t plus(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}
static inline __device__ void first_of(int kind, float *x)
{
    *x = kind == LARGEST ? -INFINITY : kind == SMALLEST ? INFINITY : 0.0f;
}
static inline __device__ void first_of(int kind, double *x)
{
    *x = kind == LARGEST ? -(double)INFINITY : kind == SMALLEST ? (double)INFINITY : 0.0;
}
static inline __device__ void first_of(int kind, int64_t *x)
{
    *x = kind == LARGEST ? INT64_MIN : kind == SMALLEST ? INT64_MAX : 0;
}
static inline __device__ void first_of(int kind, int32_t *x)
{
    *x = kind == LARGEST ? INT32_MIN : kind == SMALLEST ? INT32_MAX : 0;
}
template <class T> static inline __device__ T together(int kind, T a, T b)
{
    if (kind == LARGEST) return ti_larger(a, b);
    if (kind == SMALLEST) return b < a || b != b ? (a != a ? a : b) : a;
    return plus(a, b);
}

/* ---- Kernels ---- */

template <class T>
static __global__ void reduce_kernel(const reduction r, int kind, T *to, const T *x, const T *mean)
{
    TI_SHARED(T, room, [TI_BLOCK]);
    const int groups = TI_BLOCK / r.lanes, t = (int)threadIdx.x, lane = t & (r.lanes - 1);
    const int64_t n_work = r.n * r.pieces;

    for (int64_t w0 = (int64_t)blockIdx.x * groups; w0 < n_work;
         w0 += (int64_t)gridDim.x * groups) {
        const int64_t work = w0 + t / r.lanes;
        T sum;

        first_of(kind, &sum);
        if (work < n_work) {
            const int64_t j = work % r.n, from = work / r.n * r.each;
            const int64_t end = from + r.each < r.count ? from + r.each : r.count;
            const T middle = kind == SQUARES ? mean[j] : T(0);
            int64_t base[1], at[1];

            ti_place(r.kept, j, base);
            for (int64_t i = from + lane; i < end; i += r.lanes) {
                ti_place(r.gone, i, at);
                T v = x[base[0] + at[0]];
                if (kind == SQUARES) v = (v - middle) * (v - middle);
                sum = together(kind, sum, v);
            }
        }
        if (r.lanes > 1) {
            room[t] = sum;
            __syncthreads();
            for (int span = r.lanes / 2; span > 0; span /= 2) {
                if (lane < span) room[t] = together(kind, room[t], room[t + span]);
                __syncthreads();
            }
            sum = room[t - lane];
            __syncthreads();
        }
        if (work < n_work && lane == 0) to[work] = sum;
    }
}

/* Pieces in order; divided by `by` where it says so. */
template <class T>
static __global__ void finish_kernel(int64_t n, int64_t pieces, int kind, T *y, const T *partial,
                                     bool divides, double by)
{
    for (int64_t j = ti_first(); j < n; j += ti_step()) {
        T sum = partial[j];

        for (int64_t s = 1; s < pieces; s++) sum = together(kind, sum, partial[s * n + j]);
        y[j] = divides ? (T)(sum / (T)by) : sum;
    }
}

/* scratch: n pieces of room, where there are several. */
template <class T>
static void run(const ti_work *w, const reduction &r, int kind, T *y, const T *mean, bool divides,
                double by, T *scratch)
{
    T *partial = r.pieces > 1 ? scratch : y;

    TI_LAUNCH(reduce_kernel<T>, grid_of(r), TI_BLOCK, 0, ti_cuda_stream(w), r, kind, partial,
              ti_at<const T>(w->in[0]), mean);
    if (r.pieces > 1 || divides)
        TI_LAUNCH(finish_kernel<T>, ti_grid(r.n), TI_BLOCK, 0, ti_cuda_stream(w), r.n, r.pieces,
                  kind, y, partial, divides, by);
    ti_launched(w);
}

template <class T> static void plain_as(const ti_work *w, int kind)
{
    run<T>(w, of(w), kind, ti_at<T>(w->out[0]), NULL, false, 0, (T *)w->scratch);
}
static void plain(const ti_work *w, int kind)
{
    switch (w->in[0].m.type) {
    case TERN_F32: plain_as<float>(w, kind); break;
    case TERN_F64: plain_as<double>(w, kind); break;
    case TERN_I64: plain_as<int64_t>(w, kind); break;
    default: plain_as<int32_t>(w, kind);
    }
}
static void sum(const ti_work *w) { plain(w, SUM); }
static void largest(const ti_work *w) { plain(w, LARGEST); }
static void smallest(const ti_work *w) { plain(w, SMALLEST); }

template <class T> static void mean_as(const ti_work *w)
{
    const reduction r = of(w);

    run<T>(w, r, SUM, ti_at<T>(w->out[0]), NULL, true, (double)r.count, (T *)w->scratch);
}
TI_FLOAT_ROW(mean, w->in[0])

/* Scratch: the means, then the pieces. */
template <class T> static void variance_as(const ti_work *w)
{
    const reduction r = of(w);
    const double by = (double)r.count - ti_opts<tern_reduce_opts>(w).correction;
    T *middle = (T *)w->scratch, *room = middle + r.n;

    run<T>(w, r, SUM, middle, NULL, true, (double)r.count, room);
    run<T>(w, r, SQUARES, ti_at<T>(w->out[0]), middle, true, by > 0 ? by : 0, room);
}
TI_FLOAT_ROW(variance, w->in[0])

static size_t pieces_of(const ti_work *w, int64_t more)
{
    const reduction r = of(w);

    return (size_t)(r.n * ((r.pieces > 1 ? r.pieces : 0) + more)) * tern_type_size(w->in[0].m.type);
}
static size_t scratch(const ti_work *w) { return pieces_of(w, 0); }
static size_t variance_scratch(const ti_work *w) { return pieces_of(w, 1); }

static double chain(const ti_work *w)
{
    const reduction r = of(w);
    double L = (double)((r.each + r.lanes - 1) / r.lanes) + (double)r.pieces;

    for (int lanes = r.lanes; lanes > 1; lanes /= 2) L++;
    return L;
}

/* ---- Where the extreme is: the first of equals; the first NaN before all ---- */

template <class T> static inline __device__ bool beats(T b, T a, int sign)
{
    return (b != b && a == a) || (sign > 0 ? b > a : b < a);
}
template <class T> static inline __device__ bool wins(T b, int64_t i_b, T a, int64_t i_a, int sign)
{
    return i_b >= 0 && (i_a < 0 || beats(b, a, sign) || (!beats(a, b, sign) && i_b < i_a));
}

/* Of each piece of each result [pieces, n]; tops: their values, or NULL where nobody asks. */
template <class T>
static __global__ void arg_kernel(const reduction r, int sign, int64_t *y, T *tops, const T *x)
{
    TI_SHARED(T, values, [TI_BLOCK]);
    TI_SHARED(int64_t, places, [TI_BLOCK]);
    const int groups = TI_BLOCK / r.lanes, t = (int)threadIdx.x, lane = t & (r.lanes - 1);
    const int64_t n = r.n * r.pieces;

    for (int64_t w0 = (int64_t)blockIdx.x * groups; w0 < n; w0 += (int64_t)gridDim.x * groups) {
        const int64_t j = w0 + t / r.lanes, from = j / r.n * r.each;
        const int64_t to = from + r.each < r.count ? from + r.each : r.count;
        int64_t best = -1;
        T top = T(0);

        if (j < n) {
            int64_t base[1], at[1];

            ti_place(r.kept, j % r.n, base);
            for (int64_t i = from + lane; i < to; i += r.lanes) {
                ti_place(r.gone, i, at);
                const T v = x[base[0] + at[0]];
                if (best >= 0 && !beats(v, top, sign)) continue;
                best = i;
                top = v;
            }
        }
        values[t] = top;
        places[t] = best;
        __syncthreads();
        for (int span = r.lanes / 2; span > 0; span /= 2) {
            if (lane < span &&
                wins(values[t + span], places[t + span], values[t], places[t], sign)) {
                values[t] = values[t + span];
                places[t] = places[t + span];
            }
            __syncthreads();
        }
        if (j < n && lane == 0) {
            y[j] = places[t];
            if (tops) tops[j] = values[t];
        }
        __syncthreads();
    }
}

template <class T>
static __global__ void arg_finish_kernel(const reduction r, int sign, int64_t *y,
                                         const int64_t *places, const T *tops)
{
    for (int64_t j = ti_first(); j < r.n; j += ti_step()) {
        int64_t best = places[j];
        T top = tops[j];

        for (int64_t i = j + r.n; i < r.n * r.pieces; i += r.n)
            if (wins(tops[i], places[i], top, best, sign)) best = places[i], top = tops[i];
        y[j] = best;
    }
}

static reduction arg_of(const ti_work *w)
{
    const tern_arg_opts &o = ti_opts<tern_arg_opts>(w);
    const int axis = o.axis < 0 ? o.axis + w->in[0].m.shape.rank : o.axis;

    return reduction_of(w, o.has_axis ? (int64_t)1 << axis : 0, false);
}
/* Places, then values, of all pieces. */
static size_t arg_scratch(const ti_work *w)
{
    const reduction r = arg_of(w);

    return r.pieces > 1 ? (size_t)(r.n * r.pieces) * 2 * sizeof(int64_t) : 0;
}

template <class T> static void arg_as(const ti_work *w, int sign)
{
    const reduction r = arg_of(w);
    const cudaStream_t stream = ti_cuda_stream(w);
    const bool cut = r.pieces > 1;
    int64_t *y = ti_at<int64_t>(w->out[0]), *places = cut ? (int64_t *)w->scratch : y;
    T *tops = cut ? (T *)(places + r.n * r.pieces) : NULL;

    TI_LAUNCH(arg_kernel<T>, grid_of(r), TI_BLOCK, 0, stream, r, sign, places, tops,
              ti_at<const T>(w->in[0]));
    if (cut)
        TI_LAUNCH(arg_finish_kernel<T>, ti_grid(r.n), TI_BLOCK, 0, stream, r, sign, y,
                  (const int64_t *)places, (const T *)tops);
    ti_launched(w);
}
static void arg(const ti_work *w, int sign)
{
    switch (w->in[0].m.type) {
    case TERN_F32: arg_as<float>(w, sign); break;
    case TERN_F64: arg_as<double>(w, sign); break;
    case TERN_I64: arg_as<int64_t>(w, sign); break;
    default: arg_as<int32_t>(w, sign);
    }
}
static void argmax(const ti_work *w) { arg(w, 1); }
static void argmin(const ti_work *w) { arg(w, -1); }

#define ROW(op_, name, scratch_, chain_, class_)                                                   \
    {                                                                                              \
        .op = op_, .impl = "tree", .cost = ti_moved_cost, .scratch = scratch_, .run = name,        \
        .chain = chain_, .numbers = class_                                                         \
    }
TI_KERNELS(ti_cuda_reduce) = {
    ROW("sum", sum, scratch, chain, TI_REORDERED),
    ROW("mean", mean, scratch, chain, TI_REORDERED),
    ROW("variance", variance, variance_scratch, chain, TI_REORDERED),
    ROW("max", largest, scratch, NULL, TI_EXACT),
    ROW("min", smallest, scratch, NULL, TI_EXACT),
    ROW("argmax", argmax, arg_scratch, NULL, TI_EXACT),
    ROW("argmin", argmin, arg_scratch, NULL, TI_EXACT),
    {.op = NULL},
};
