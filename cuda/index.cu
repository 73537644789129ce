/*
 * index.cu - gather, take, one_hot; scatter_add and take_add, their adjoints.
 *
 * An index out of range raises the fault; what it would have named is left out (zero). Reads take a
 * thread an element. Sums go through all indices in order and add those of a range of destinations,
 * so equal indices add up in order, without atomics: scatter_add a thread for a column and a range,
 * take_add a block for 256 columns and a range, which lists what lies in it first.
 */
#include "kernel.cuh"

/* How a tensor falls apart around an axis. */
typedef struct {
    int64_t outer, n, inner;
} cut;
static cut cut_of(const tern_shape &s, int axis)
{
    cut k = {1, 1, 1};

    if (axis < 0) axis += s.rank;
    for (int a = 0; a < s.rank; a++)
        *(a < axis ? &k.outer : a == axis ? &k.n : &k.inner) *= s.dim[a];
    return k;
}

/* ---- Reads: y[o,j,i] = x[o, index, i], rows of a table where the index has no inner axes ---- */

template <class T>
static __global__ void gather_kernel(const cut k, int64_t n, T *y, const T *x,
                                     const ti_indices index)
{
    for (int64_t i = ti_first(); i < k.outer * k.n * k.inner; i += ti_step()) {
        const int64_t at = ti_checked(index, i, n), outer = i / k.inner / k.n;

        y[i] = at < 0 ? T(0) : x[(outer * n + at) * k.inner + i % k.inner];
    }
}
template <class T>
static __global__ void take_kernel(int64_t count, int64_t row, int64_t n, T *y, const T *x,
                                   const ti_indices index)
{
    for (int64_t i = ti_first(); i < count; i += ti_step()) {
        const int64_t at = ti_checked(index, i / row, n);

        y[i] = at < 0 ? T(0) : x[at * row + i % row];
    }
}

template <class T> static void gather_as(const ti_work *w)
{
    const int axis = ti_opts<tern_axis_opts>(w).axis;

    TI_LAUNCH(gather_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              cut_of(w->in[1].m.shape, axis), cut_of(w->in[0].m.shape, axis).n, ti_at<T>(w->out[0]),
              ti_at<const T>(w->in[0]), ti_indices_of(w, w->in[1]));
    ti_launched(w);
}
template <class T> static void take_as(const ti_work *w)
{
    TI_LAUNCH(take_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              w->out[0].count, w->out[0].count / w->in[1].count, w->in[0].m.shape.dim[0],
              ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), ti_indices_of(w, w->in[1]));
    ti_launched(w);
}

#define BY_SIZE(name)                                                                              \
    static void name(const ti_work *w)                                                             \
    {                                                                                              \
        switch (tern_type_size(w->out[0].m.type)) {                                                \
        case 1: name##_as<uint8_t>(w); break;                                                      \
        case 2: name##_as<uint16_t>(w); break;                                                     \
        case 4: name##_as<uint32_t>(w); break;                                                     \
        default: name##_as<uint64_t>(w);                                                           \
        }                                                                                          \
    }
BY_SIZE(gather)
BY_SIZE(take)

/* ---- Sums ---- */

/* y [outer, count, inner] from g [outer, n, inner] and an index of its shape. `ranges` of `each`
 * destinations. */
typedef struct {
    cut k;
    int64_t count, ranges, each;
} scattering;

template <class T>
static __global__ void scatter_kernel(const scattering s, T *y, const T *g, const ti_indices index)
{
    const int64_t columns = s.k.outer * s.k.inner;

    for (int64_t i = ti_first(); i < columns * s.ranges; i += ti_step()) {
        const int64_t c = i % columns, outer = c / s.k.inner, inner = c % s.k.inner;
        const int64_t from = i / columns * s.each;
        const int64_t to = from + s.each < s.count ? from + s.each : s.count;
        T *own = y + outer * s.count * s.k.inner + inner;

        for (int64_t j = from; j < to; j++) own[j * s.k.inner] = T(0);
        for (int64_t j = 0; j < s.k.n; j++) {
            const int64_t place = (outer * s.k.n + j) * s.k.inner + inner;
            const int64_t at = ti_index(index, place);

            if (at >= from && at < to) own[at * s.k.inner] += g[place];
        }
    }
}

static __global__ void check_kernel(int64_t n, int64_t limit, const ti_indices index)
{
    for (int64_t i = ti_first(); i < n; i += ti_step()) (void)ti_checked(index, i, limit);
}

/* Ranges enough for 65536 threads, of 4 destinations at least. */
static scattering scattering_of(const cut &k, int64_t count)
{
    const int64_t columns = k.outer * k.inner;
    scattering s = {k, count, columns > 0 ? 65536 / columns : 1, 0};

    if (s.ranges > count / 4) s.ranges = count / 4;
    if (s.ranges < 1) s.ranges = 1;
    s.each = (count + s.ranges - 1) / s.ranges;
    return s;
}

template <class T> static void scatter_add_as(const ti_work *w)
{
    const tern_scatter_opts &o = ti_opts<tern_scatter_opts>(w);
    const scattering s = scattering_of(cut_of(w->in[1].m.shape, o.axis), o.count);
    const cudaStream_t stream = ti_cuda_stream(w);
    const ti_indices index = ti_indices_of(w, w->in[1]);

    TI_LAUNCH(check_kernel, ti_grid(w->in[1].count), TI_BLOCK, 0, stream, w->in[1].count, s.count,
              index);
    TI_LAUNCH(scatter_kernel<T>, ti_grid(s.k.outer * s.k.inner * s.ranges), TI_BLOCK, 0, stream, s,
              ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]), index);
    ti_launched(w);
}

/* y [count, inner] from g [n, inner]; a block takes one of `ranges` and one of `chunks` columns. */
typedef struct {
    int64_t n, count, inner, ranges, each, chunks;
} addition;

template <class T>
static __global__ void take_add_kernel(const addition s, T *y, const T *g, const ti_indices index)
{
    TI_SHARED(int64_t, from_row, [TI_BLOCK]);
    TI_SHARED(int64_t, to_row, [TI_BLOCK]);
    TI_SHARED(int, hits, [TI_BLOCK / TI_WARP]);
    const int t = (int)threadIdx.x, lane = t % TI_WARP, warp = t / TI_WARP;

    for (int64_t work = blockIdx.x; work < s.ranges * s.chunks; work += gridDim.x) {
        const int64_t c = work % s.chunks * TI_BLOCK + t, from = work / s.chunks * s.each;
        const int64_t to = from + s.each < s.count ? from + s.each : s.count;

        for (int64_t r = from; c < s.inner && r < to; r++) y[r * s.inner + c] = T(0);
        for (int64_t base = 0; base < s.n; base += TI_BLOCK) {
            const int64_t at = base + t < s.n ? ti_checked(index, base + t, s.count) : -1;
            const bool hit = at >= from && at < to;
            const unsigned votes = __ballot_sync(TI_ALL_LANES, hit);
            int place = __popc(votes & ((1u << lane) - 1)), all = 0;

            if (lane == 0) hits[warp] = __popc(votes);
            __syncthreads();
            for (int k = 0; k < TI_BLOCK / TI_WARP; k++) {
                if (k < warp) place += hits[k];
                all += hits[k];
            }
            if (hit) {
                from_row[place] = base + t;
                to_row[place] = at;
            }
            __syncthreads();
            for (int k = 0; c < s.inner && k < all; k++)
                y[to_row[k] * s.inner + c] += g[from_row[k] * s.inner + c];
            __syncthreads();
        }
    }
}

template <class T> static void take_add_as(const ti_work *w)
{
    const int64_t count = w->out[0].m.shape.dim[0], inner = w->out[0].count / count;
    addition s = {w->in[1].count, count, inner, 0, 0, (inner + TI_BLOCK - 1) / TI_BLOCK};

    s.ranges = 1024 / s.chunks < 1 ? 1 : 1024 / s.chunks;
    if (s.ranges > count) s.ranges = count;
    s.each = (count + s.ranges - 1) / s.ranges;
    const int64_t blocks = s.ranges * s.chunks;
    TI_LAUNCH(take_add_kernel<T>, (unsigned)(blocks < 65535 ? blocks : 65535), TI_BLOCK, 0,
              ti_cuda_stream(w), s, ti_at<T>(w->out[0]), ti_at<const T>(w->in[0]),
              ti_indices_of(w, w->in[1]));
    ti_launched(w);
}
TI_FLOAT_ROW(scatter_add, w->in[0])
TI_FLOAT_ROW(take_add, w->in[0])

/* ---- one_hot ---- */

template <class T>
static __global__ void one_hot_kernel(const tern_one_hot_opts o, int64_t n, T *y,
                                      const ti_indices index)
{
    for (int64_t i = ti_first(); i < n * o.classes; i += ti_step()) {
        const int64_t row = i / o.classes, k = ti_index(index, row);

        if (o.has_ignore && k == o.ignore) y[i] = T(0);
        else y[i] = T(ti_checked(index, row, o.classes) == i % o.classes);
    }
}

template <class T> static void one_hot_as(const ti_work *w)
{
    TI_LAUNCH(one_hot_kernel<T>, ti_grid(w->out[0].count), TI_BLOCK, 0, ti_cuda_stream(w),
              ti_opts<tern_one_hot_opts>(w), w->in[0].count, ti_at<T>(w->out[0]),
              ti_indices_of(w, w->in[0]));
    ti_launched(w);
}
TI_FLOAT_ROW(one_hot, w->out[0])

/* ---- Rows ---- */

static double chain(const ti_work *w) { return (double)w->in[1].count; }

#define ROW(name, chain_)                                                                          \
    {                                                                                              \
        .op = #name, .impl = "loop", .cost = ti_moved_cost, .want = {TI_ROW_MAJOR, TI_ROW_MAJOR},  \
        .run = name, .chain = chain_                                                               \
    }
TI_KERNELS(ti_cuda_index) = {
    ROW(gather, NULL),    ROW(scatter_add, chain), ROW(take, NULL),
    ROW(take_add, chain), ROW(one_hot, NULL),      {.op = NULL},
};
