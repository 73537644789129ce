/* panel.c - the register tiles of panel.h and the loops around them. */
#include "panel.h"

/* Where one tile of the product goes: rows of a panel, or rows of their own. */
typedef struct {
    const float *a, *b;
    int64_t depth, a_step; /* a_step: floats from one panel of A to the next */
    float *c;              /* a panel, c_step floats before its right neighbour, or */
    int64_t c_step;
    float *const *c_rows;  /* row i at c_rows[i] + c_off */
    int64_t c_off, n_cols; /* columns in use */
    bool add;              /* C holds the sum of earlier slices */
    const float *bias;
    bool relu;
} nn_job;

INLINE void nn_tile(const nn_job *o, const int rows, const int nv)
{
    const float *a = o->a, *b = o->b;
    vf s[NN_ROWS][2];

    UNROLL for (int i = 0; i < rows; i++) s[i][0] = s[i][1] = v_zero();
    for (int64_t d = 0; d < o->depth; d += VL, a += o->a_step)
        _Pragma("GCC unroll 4") for (int j = 0; j < VL; j++, b += NR)
        {
            const vf b0 = v_load(b), b1 = nv > 1 ? v_load(b + VL) : b0;
            UNROLL for (int i = 0; i < rows; i++)
            {
                const vf x = v_set1(a[i * VL + j]);
                s[i][0] = v_fma(x, b0, s[i][0]);
                if (nv > 1) s[i][1] = v_fma(x, b1, s[i][1]);
            }
        }

    if (!o->c_rows) {
        UNROLL for (int i = 0; i < rows; i++)
        {
            UNROLL for (int j = 0; j < nv; j++)
            {
                float *c = o->c + i * VL + j * o->c_step;
                v_store(c, o->add ? v_add(s[i][j], v_load(c)) : s[i][j]);
            }
        }
        return;
    }
    UNROLL for (int j = 0; j < nv; j++)
    {
        const vmask m = v_lanes(o->n_cols - j * VL);
        const vf bias = o->bias ? v_load_m(o->bias + j * VL, m) : v_zero();
        UNROLL for (int i = 0; i < rows; i++)
        {
            float *c = o->c_rows[i] + o->c_off + j * VL;
            vf x = s[i][j];
            if (o->add) x = v_add(x, v_load_m(c, m));
            if (o->bias) x = v_add(x, bias);
            if (o->relu) x = v_relu(x);
            v_store_m(c, m, x);
        }
    }
}

/* The row count must be a constant inside the tile, so each count is a function of its own. */
typedef void nn_fn(const nn_job *o);
#define DEFINE(rows)                                                                               \
    static void nn_##rows##_1(const nn_job *o) { nn_tile(o, rows, 1); }                            \
    static void nn_##rows##_2(const nn_job *o) { nn_tile(o, rows, 2); }
#define NAME_1(rows) nn_##rows##_1,
#define NAME_2(rows) nn_##rows##_2,
#if N_REGS == 32
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#else
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
EACH(DEFINE)
static nn_fn *const nn_fns[2][NN_ROWS] = {{EACH(NAME_1)}, {EACH(NAME_2)}};

/* Rows are cut into equal pieces, so that 64 rows become 13+13+13+13+12 and not 14+14+14+14+8. */
static void nn_rows(nn_job *o, int64_t n_t, int64_t n_cols, const float *a, float *c,
                    float *const *c_rows)
{
    const int64_t piece = ceil_div(n_t, ceil_div(n_t, NN_ROWS));

    for (int64_t t = 0; t < n_t; t += piece) {
        o->a = a + t * VL;
        if (c) o->c = c + t * VL;
        if (c_rows) o->c_rows = c_rows + t;
        nn_fns[n_cols > VL][min_of(piece, n_t - t) - 1](o);
    }
}

void panel_nn(int64_t n_t, int64_t n_cols, int64_t depth, const float *a, int64_t t_stride,
              const float *b, float *c)
{
    const int64_t step = t_stride * VL;
    nn_job o = {.a_step = step, .c_step = step};

    for (int64_t n = 0; n < n_cols && n_t > 0; n += NR, b += depth * NR)
        for (int64_t d = 0; d < depth; d += SLICE) {
            o.depth = min_of(SLICE, depth - d);
            o.b = b + d * NR;
            o.add = d > 0;
            nn_rows(&o, n_t, n_cols - n, a + d / VL * step, c + n / VL * step, NULL);
        }
}

void panel_nn_runs(int64_t n_t, int64_t n_cols, const panel_runs *r, const float *a,
                   int64_t t_stride, const float *b, float *const *c_rows, const float *bias,
                   bool relu)
{
    const int64_t step = t_stride * VL;
    nn_job o = {.a_step = step};

    for (int64_t n = 0; n < n_cols && n_t > 0; n += NR, b += r->b_depth * NR)
        for (int64_t i = 0; i < r->runs; i++)
            for (int64_t d = 0; d < r->depth; d += SLICE) {
                const bool last = i + 1 == r->runs && d + SLICE >= r->depth;
                o.depth = min_of(SLICE, r->depth - d);
                o.b = b + (i * r->b_step + d) * NR;
                o.n_cols = n_cols - n;
                o.c_off = n;
                o.add = i + d > 0;
                o.bias = last && bias ? bias + n : NULL;
                o.relu = last && relu;
                nn_rows(&o, n_t, n_cols - n, a + (i * r->depth + d) / VL * step, NULL, c_rows);
            }
}

void panel_nn_rows(int64_t n_t, int64_t n_cols, int64_t depth, const float *a, int64_t t_stride,
                   const float *b, float *const *c_rows, const float *bias, bool relu)
{
    const panel_runs r = {.runs = 1, .depth = depth, .b_depth = depth};

    panel_nn_runs(n_t, n_cols, &r, a, t_stride, b, c_rows, bias, relu);
}

/* a: TN_ROWS of the VL columns of a panel; b0, b1: two panels. */
INLINE void tn_tile(const int nv, int64_t n_t, const float *a, const float *b0, const float *b1,
                    float *c, int64_t ldc, bool add)
{
    vf s[TN_ROWS][2];

    UNROLL for (int i = 0; i < TN_ROWS; i++) s[i][0] = s[i][1] = v_zero();
    _Pragma("GCC unroll 2") for (int64_t t = 0; t < n_t; t++)
    {
        const vf y0 = v_load(b0 + t * VL), y1 = nv > 1 ? v_load(b1 + t * VL) : y0;
        UNROLL for (int i = 0; i < TN_ROWS; i++)
        {
            const vf x = v_set1(a[t * VL + i]);
            s[i][0] = v_fma(x, y0, s[i][0]);
            if (nv > 1) s[i][1] = v_fma(x, y1, s[i][1]);
        }
    }
    UNROLL for (int i = 0; i < TN_ROWS; i++)
    {
        UNROLL for (int j = 0; j < nv; j++)
        {
            float *to = c + i * ldc + j * VL;
            v_store(to, add ? v_add(s[i][j], v_load(to)) : s[i][j]);
        }
    }
}

void panel_tn(int64_t n_t, int64_t m, int64_t n, const float *a, const float *b, int64_t t_stride,
              float *c, int64_t ldc, bool add)
{
    const int64_t step = t_stride * VL;

    for (int64_t j = 0; j < n; j += NR)
        for (int64_t i = 0; i < m; i += TN_ROWS) {
            const float *pa = a + i / VL * step + i % VL, *pb = b + j / VL * step;
            if (n - j > VL) tn_tile(2, n_t, pa, pb, pb + step, c + i * ldc + j, ldc, add);
            else tn_tile(1, n_t, pa, pb, pb, c + i * ldc + j, ldc, add);
        }
}
