/*
 * copy.cu - kernels that move elements: copy, commit, concat, pad, fill, cast.
 *
 * A move is y[place in y] = x[place in x] over a nest of two operands: bytes keep their bits.
 * concat is one move a part; pad fills first. commit does nothing where the flag says so or an
 * index was found wrong. A cast goes through double or, from i64, through i64, and rounds once.
 */
#include "nest.cuh"

/* ---- Moves, by the size of an element ---- */

template <class T>
static __global__ void move_kernel(const ti_nest e, T *y, const T *x, const float *skip,
                                   const ti_cuda_fault *fault)
{
    if (fault && ti_stopped(skip, fault)) return;
    ti_each(e, y, x, [](T v) { return v; });
}

/* fault NULL: unconditional. */
static void move(const ti_work *w, const ti_view *y, const ti_view *x, bool predicated)
{
    const ti_nest e = ti_nest_of(y, x, NULL, NULL);
    const ti_cuda_fault *fault = predicated ? w->device->fault : NULL;
    const float *skip = predicated ? w->skip : NULL;
    const unsigned grid = ti_grid(e.vector ? (e.count + 3) / 4 : e.count);
    const cudaStream_t stream = ti_cuda_stream(w);

    if (e.count == 0) return;
    switch (tern_type_size(y->m.type)) {
    case 1:
        TI_LAUNCH(move_kernel<uint8_t>, grid, TI_BLOCK, 0, stream, e, ti_at<uint8_t>(*y),
                  ti_at<uint8_t>(*x), skip, fault);
        break;
    case 2:
        TI_LAUNCH(move_kernel<uint16_t>, grid, TI_BLOCK, 0, stream, e, ti_at<uint16_t>(*y),
                  ti_at<uint16_t>(*x), skip, fault);
        break;
    case 4:
        TI_LAUNCH(move_kernel<uint32_t>, grid, TI_BLOCK, 0, stream, e, ti_at<uint32_t>(*y),
                  ti_at<uint32_t>(*x), skip, fault);
        break;
    default:
        TI_LAUNCH(move_kernel<uint64_t>, grid, TI_BLOCK, 0, stream, e, ti_at<uint64_t>(*y),
                  ti_at<uint64_t>(*x), skip, fault);
    }
    ti_launched(w);
}

static void copy(const ti_work *w) { move(w, &w->out[0], &w->in[0], false); }

/* In a program the flag is w->skip; a commit that stands alone has it as its input. */
static void commit(const ti_work *w)
{
    ti_work v = *w;

    if (!v.skip && w->in[1].count > 0) v.skip = ti_at<float>(w->in[1]);
    if (w->in[0].data != w->out[0].data) move(&v, &w->out[0], &w->in[0], true);
}

/* The part of y that begins `from` elements along an axis and has x's shape. */
static ti_view part_of(const ti_view *y, const ti_view *x, const int64_t *from)
{
    ti_view part = *y;

    part.m.shape = x->m.shape;
    part.count = x->count;
    part.packed = false;
    for (int a = 0; a < y->m.shape.rank; a++)
        part.data += from[a] * y->m.stride[a] * (int64_t)tern_type_size(y->m.type);
    return part;
}

static void concat(const ti_work *w)
{
    const int o = ti_opts<tern_axis_opts>(w).axis, axis = o < 0 ? o + w->out[0].m.shape.rank : o;
    int64_t from[TERN_RANK] = {0};

    for (int k = 0; k < w->n_in; k++) {
        const ti_view part = part_of(&w->out[0], &w->in[k], from);

        if (w->in[k].count > 0 && part.data != w->in[k].data) move(w, &part, &w->in[k], false);
        from[axis] += w->in[k].m.shape.dim[axis];
    }
}

/* ---- Elements of any type, through double ---- */

static inline __device__ double load(int type, const void *x, int64_t i)
{
    switch (type) {
    case TERN_F32: return ((const float *)x)[i];
    case TERN_F64: return ((const double *)x)[i];
    case TERN_F16: return (double)__half2float(((const __half *)x)[i]);
    case TERN_BF16: return (double)__bfloat162float(((const __nv_bfloat16 *)x)[i]);
    case TERN_I64: return (double)((const int64_t *)x)[i];
    case TERN_I32: return ((const int32_t *)x)[i];
    case TERN_U8: return ((const uint8_t *)x)[i];
    default: return ((const uint8_t *)x)[i] != 0;
    }
}

/* Truncated, saturated; NaN is 0. */
static inline __device__ double whole(double x, double least, double most)
{
    return x != x ? 0 : x <= least ? least : x >= most ? most : trunc(x);
}

/* To f32 toward zero with the last bit set if something is left: what is then rounded to fewer bits
 * is rounded once. NaN and infinities stay. */
static inline __device__ float sticky(double x)
{
    const float f = (float)x;
    uint32_t bits;

    if ((double)f == x || x != x) return f;
    memcpy(&bits, &f, sizeof bits);
    if (fabs((double)f) > fabs(x)) bits--;
    bits |= 1;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

static inline __device__ void store(int type, void *y, int64_t i, double x)
{
    switch (type) {
    case TERN_F32: ((float *)y)[i] = (float)x; break;
    case TERN_F64: ((double *)y)[i] = x; break;
    case TERN_F16: ((__half *)y)[i] = __float2half_rn(sticky(x)); break;
    case TERN_BF16: ((__nv_bfloat16 *)y)[i] = __float2bfloat16_rn(sticky(x)); break;
    case TERN_I64:
        ((int64_t *)y)[i] = x >= 9223372036854775808.0
                                ? INT64_MAX
                                : (int64_t)whole(x, -9223372036854775808.0, 9.3e18);
        break;
    case TERN_I32: ((int32_t *)y)[i] = (int32_t)whole(x, INT32_MIN, INT32_MAX); break;
    case TERN_U8: ((uint8_t *)y)[i] = (uint8_t)whole(x, 0, 255); break;
    default: ((uint8_t *)y)[i] = x != 0;
    }
}

static __global__ void cast_kernel(const ti_nest e, int to, void *y, int from, const void *x)
{
    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[2];

        ti_place(e, i, at);
        if (from == TERN_I64 && to == TERN_I64) ((int64_t *)y)[at[0]] = ((const int64_t *)x)[at[1]];
        else if (from == TERN_I64 && to == TERN_F32)
            ((float *)y)[at[0]] = (float)((const int64_t *)x)[at[1]];
        else store(to, y, at[0], load(from, x, at[1]));
    }
}

static void cast(const ti_work *w)
{
    const ti_nest e = ti_nest_of(&w->out[0], &w->in[0], NULL, NULL);

    TI_LAUNCH(cast_kernel, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              (int)w->out[0].m.type, w->out[0].data, (int)w->in[0].m.type, w->in[0].data);
    ti_launched(w);
}

/* ---- Constants ---- */

static __global__ void fill_kernel(const ti_nest e, int type, void *y, double value)
{
    for (int64_t i = ti_first(); i < e.count; i += ti_step()) {
        int64_t at[1];

        ti_place(e, i, at);
        store(type, y, at[0], value);
    }
}

static void fill_with(const ti_work *w, double value)
{
    const ti_nest e = ti_nest_of(&w->out[0], NULL, NULL, NULL);

    TI_LAUNCH(fill_kernel, ti_grid(e.count), TI_BLOCK, 0, ti_cuda_stream(w), e,
              (int)w->out[0].m.type, w->out[0].data, value);
    ti_launched(w);
}

/* fill's options begin with its value. */
static void fill(const ti_work *w) { fill_with(w, *(const double *)w->opts); }

static void pad(const ti_work *w)
{
    const tern_pad_opts &o = ti_opts<tern_pad_opts>(w);
    const ti_view middle = part_of(&w->out[0], &w->in[0], o.before);

    fill_with(w, o.value);
    if (w->in[0].count > 0) move(w, &middle, &w->in[0], false);
}

TI_KERNELS(ti_cuda_copy) = {
    {.op = "copy", .impl = "move", .cost = ti_moved_cost, .run = copy},
    {.op = "commit",
     .impl = "move",
     .cost = ti_moved_cost,
     .may_alias = ti_on_first,
     .run = commit,
     .predicated = true},
    {.op = "concat", .impl = "move", .cost = ti_moved_cost, .run = concat},
    {.op = "pad", .impl = "move", .cost = ti_moved_cost, .run = pad},
    {.op = "cast", .impl = "loop", .cost = ti_moved_cost, .run = cast},
    {.op = "fill", .impl = "loop", .cost = ti_moved_cost, .run = fill},
    {.op = NULL},
};
