/*
 * matmul.cu - products of matrices and fully connected layers, by the tiled product of gemm.cuh.
 *
 *   matmul:       y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]
 *   linear_act:   y[r, m] = act(sum over d of x[r, d] w[m, d] + b[m])
 *   linear_act_d: h = gy act'(y); dx = h w, dw = h' x, db = column sums of h
 *
 * matmul takes any strides; the others take x, gy, y row-major and w row-major.
 */
#include "columns.cuh"
#include "product.cuh"

static ti_product matmul_of(const ti_work *w)
{
    const tern_shape &y = w->out[0].m.shape, &a = w->in[0].m.shape;
    ti_product p =
        ti_product_of(ti_matmul_count(y), y.dim[y.rank - 2], y.dim[y.rank - 1], a.dim[a.rank - 1]);

    ti_matmul_batch(&p, &w->out[0].m, &w->in[0].m, &w->in[1].m);
    return p;
}

template <class T> static void matmul_as(const ti_work *w)
{
    const ti_product p = matmul_of(w);
    const ti_meta *a = &w->in[0].m, *b = &w->in[1].m;
    const int i = a->shape.rank - 2, j = b->shape.rank - 2;

    ti_gemm(w, ti_matrix_of(ti_at<const T>(w->in[0]), a->stride[i], a->stride[i + 1]),
            ti_matrix_of(ti_at<const T>(w->in[1]), b->stride[j + 1], b->stride[j]), p,
            ti_result_of(ti_at<T>(w->out[0]), p.N, 1, p.N), (T *)w->scratch);
}
TI_FLOAT_ROW(matmul, w->in[0])

static size_t size_of(const ti_work *w) { return tern_type_size(w->in[0].m.type); }
static size_t matmul_scratch(const ti_work *w)
{
    return (size_t)ti_product_scratch(matmul_of(w)) * size_of(w);
}
static double matmul_chain(const ti_work *w) { return ti_product_chain(matmul_of(w)); }

/* ---- linear_act ---- */

typedef struct {
    int64_t rows, D, M;
} layer;

/* y: a result of the layer, or a cotangent of one. */
static layer layer_of(const ti_work *w, const ti_view &y)
{
    const tern_shape &f = w->in[1].m.shape;

    return layer{f.dim[0] > 0 ? y.count / f.dim[0] : 0, f.dim[1], f.dim[0]};
}

template <class T> static void forward(const ti_work *w, const layer &s, T *y, int act, T *scratch)
{
    ti_result<T> to = ti_result_of(y, s.M, 1, s.M);

    to.bias = w->in[2].count >= 0 ? ti_at<const T>(w->in[2]) : NULL;
    to.act = act;
    ti_gemm(w, ti_matrix_of(ti_at<const T>(w->in[0]), s.D, 1),
            ti_matrix_of(ti_at<const T>(w->in[1]), s.D, 1), ti_product_of(1, s.rows, s.M, s.D), to,
            scratch);
}

template <class T> static void linear_as(const ti_work *w)
{
    forward(w, layer_of(w, w->out[0]), ti_at<T>(w->out[0]), ti_opts<tern_linear_opts>(w).act,
            (T *)w->scratch);
}
TI_FLOAT_ROW(linear, w->in[0])

static ti_product linear_of(const ti_work *w)
{
    const layer s = layer_of(w, w->out[0]);

    return ti_product_of(1, s.rows, s.M, s.D);
}
static size_t linear_scratch(const ti_work *w)
{
    return (size_t)ti_product_scratch(linear_of(w)) * size_of(w);
}
static double linear_chain(const ti_work *w) { return ti_product_chain(linear_of(w)) + 2; }

/* ---- linear_act_d: scratch holds h, then what the products and sums need ---- */

typedef struct {
    layer s;
    ti_product y, dx, dw;
    ti_columns db;
    bool makes_y, makes_h;
    int64_t most;
} backward;

static backward backward_of(const ti_work *w)
{
    const layer s = layer_of(w, w->in[3]);
    const int act = ti_opts<tern_linear_opts>(w).act;
    backward b = {s,
                  ti_product_of(1, s.rows, s.M, s.D),
                  ti_product_of(1, s.rows, s.D, s.M),
                  ti_product_of(1, s.M, s.D, s.rows),
                  ti_columns_of(s.rows, s.M),
                  act != TERN_ACT_NONE && w->in[4].count < 0,
                  act != TERN_ACT_NONE,
                  0};
    const int64_t need[] = {ti_product_scratch(b.y), ti_product_scratch(b.dx),
                            ti_product_scratch(b.dw), ti_columns_scratch(b.db)};

    for (int i = 0; i < 4; i++) b.most = need[i] > b.most ? need[i] : b.most;
    return b;
}

template <class T> static void linear_d_as(const ti_work *w)
{
    const backward b = backward_of(w);
    const layer &s = b.s;
    const int act = ti_opts<tern_linear_opts>(w).act;
    T *room = (T *)w->scratch, *h = room + b.most;
    const T *gy = ti_at<const T>(w->in[3]), *from = gy;
    const cudaStream_t stream = ti_cuda_stream(w);

    if (b.makes_y) forward(w, s, h, act, room);
    if (b.makes_h) {
        TI_LAUNCH(ti_back_kernel<T>, ti_grid(s.rows * s.M), TI_BLOCK, 0, stream, act, s.rows * s.M,
                  h, b.makes_y ? h : ti_at<const T>(w->in[4]), gy);
        from = h;
    }
    if (w->out[0].count > 0)
        ti_gemm(w, ti_matrix_of(from, s.M, 1), ti_matrix_of(ti_at<const T>(w->in[1]), 1, s.D), b.dx,
                ti_result_of(ti_at<T>(w->out[0]), s.D, 1, s.D), room);
    if (w->out[1].count > 0)
        ti_gemm(w, ti_matrix_of(from, 1, s.M), ti_matrix_of(ti_at<const T>(w->in[0]), 1, s.D), b.dw,
                ti_result_of(ti_at<T>(w->out[1]), s.D, 1, s.D), room);
    if (w->out[2].count > 0 && w->in[2].count >= 0)
        ti_column_sums(w, ti_at<T>(w->out[2]), from, b.db, room);
    else if (w->out[2].count > 0)
        ti_cuda_check(w->device,
                      cudaMemsetAsync(w->out[2].data, 0, (size_t)s.M * sizeof(T), stream), "zero");
    ti_launched(w);
}
TI_FLOAT_ROW(linear_d, w->in[0])

static size_t linear_d_scratch(const ti_work *w)
{
    const backward b = backward_of(w);

    return (size_t)(b.most + (b.makes_h ? b.s.rows * b.s.M : 0)) * size_of(w);
}
static double linear_d_chain(const ti_work *w)
{
    const backward b = backward_of(w);
    const double all[] = {b.makes_y ? ti_product_chain(b.y) : 0, ti_product_chain(b.dx),
                          ti_product_chain(b.dw), ti_columns_chain(b.db)};
    double most = 0;

    for (int i = 0; i < 4; i++) most = all[i] > most ? all[i] : most;
    return most + 2;
}

static double cost(const ti_work *w) { return 2000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_matmul) = {
    {.op = "matmul",
     .impl = "tiled",
     .cost = cost,
     .scratch = matmul_scratch,
     .run = matmul,
     .chain = matmul_chain,
     .numbers = TI_REORDERED},
    {.op = "linear_act",
     .impl = "tiled",
     .cost = cost,
     .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR},
     .scratch = linear_scratch,
     .run = linear,
     .chain = linear_chain,
     .numbers = TI_REORDERED},
    {.op = "linear_act_d",
     .impl = "tiled",
     .cost = cost,
     .want = {TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR, TI_ROW_MAJOR},
     .scratch = linear_d_scratch,
     .run = linear_d,
     .chain = linear_d_chain,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
