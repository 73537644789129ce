/*
 * pool2d.c - pools, f32, channels-last: windows clipped to the image, vectors of channels.
 *
 * Forward passes are cut into rows of the result, backward ones into images, whose gradients no
 * other image touches. Windows overlap in the order of the windows, so sums repeat bit for bit.
 */
#include <string.h>

#include "cpu/fast.h"
#include "cpu/simd/pools.h"

typedef struct {
    const ti_work *w;
    const ti_pools *loops;
    const tern_pool2d_opts *o;
    int64_t N, C, H, W, P, Q, stride[2];
    const float *x, *g; /* of the image side and of the window side; the other is written */
    float *y, *dx;
    uint8_t *where;
    int64_t *indices;
} pool;

static pool pool_of(const ti_work *w, const ti_view *x, const ti_view *y)
{
    const int64_t *X = x->m.shape.dim, *Y = y->m.shape.dim;
    const tern_pool2d_opts *o = w->opts;
    pool p = {.w = w, .o = o, .N = X[0], .C = X[1], .H = X[2], .W = X[3], .P = Y[2], .Q = Y[3]};

    p.loops = ti_pools_for(ti_cpu_simd(w->device)->name);
    for (int a = 0; a < 2; a++) p.stride[a] = o->stride[a] ? o->stride[a] : o->size[a];
    return p;
}

static int64_t ceil_div(int64_t a, int64_t b) { return b == 1 ? a : (a + b - 1) / b; }

/* The part of window i along an axis that lies inside: from its element `first` on. */
static int64_t clip(const pool *p, int a, int64_t i, int64_t extent, int64_t *first, int64_t *at)
{
    const int64_t start = i * p->stride[a] - p->o->pad[a], d = p->o->dilation[a];
    const int64_t most = ceil_div(extent - start, d), size = p->o->size[a];

    *first = start < 0 ? ceil_div(-start, d) : 0;
    *at = start + *first * d;
    return (most < size ? most : size) - *first;
}

/* Window (i, j); its first element's place in the image's data is returned. */
static int64_t window_of(const pool *p, int64_t i, int64_t j, ti_window *o)
{
    int64_t r, s, row, column;

    o->rows = clip(p, 0, i, p->H, &r, &row);
    o->columns = clip(p, 1, j, p->W, &s, &column);
    o->row_step = p->o->dilation[0] * p->W * p->C;
    o->column_step = p->o->dilation[1] * p->C;
    o->row_position = p->o->size[1];
    o->first = (int)(r * p->o->size[1] + s);
    return (row * p->W + column) * p->C;
}

static double window_ns(const pool *p)
{
    return 8 + 0.1 * (double)(p->C * p->o->size[0] * p->o->size[1]);
}

/* Windows side by side: each element of dx is under one at most, and is written once. */
static bool tiles(const pool *p)
{
    for (int a = 0; a < 2; a++)
        if (p->o->pad[a] || p->o->dilation[a] != 1 || p->stride[a] != p->o->size[a]) return false;
    return p->P * p->stride[0] <= p->H && p->Q * p->stride[1] <= p->W; /* none hangs over */
}

/* Where the windows of a row of results begin in x. */
static int64_t tiles_at(const pool *p, int64_t row)
{
    return (row / p->P * p->H + row % p->P * p->o->size[0]) * p->W * p->C;
}

/* What is to the right of the windows and below them: an image of dx whose rows are written. */
static void clear_rest(const pool *p, float *dx)
{
    const int64_t R = p->o->size[0], row = p->W * p->C;
    const int64_t rest = (p->W - p->Q * p->o->size[1]) * p->C;

    for (int64_t i = 0; i < p->P * R && rest; i++)
        memset(dx + (i + 1) * row - rest, 0, (size_t)rest * sizeof(float));
    memset(dx + p->P * R * row, 0, (size_t)((p->H - p->P * R) * row) * sizeof(float));
}

/* ---- Maxima ---- */

static const char *max_rejects(const ti_work *w)
{
    const tern_pool2d_opts *o = w->opts;

    if (!ti_all_f32(w)) return "takes f32";
    if (w->out[0].count < 0) return "wants y";
    return (int64_t)o->size[0] * o->size[1] > 256 ? "windows of more than 256 elements" : NULL;
}

/* One row of windows. */
static void tiles_row(const pool *p, int64_t row)
{
    const int64_t x = tiles_at(p, row), y = row * p->Q * p->C;

    p->loops->max_tiles(p->C, p->Q, p->o->size[0], p->o->size[1], p->W * p->C,
                        p->w->in[0].count - x, p->x + x, p->y + y, p->where ? p->where + y : NULL);
}

enum { SOME = 256 };

static void max_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const pool *p = arg;
    uint8_t few[SOME];
    const bool side_by_side = tiles(p) && !p->indices;

    (void)i_worker;
    for (int64_t row = from; row < to && side_by_side; row++) tiles_row(p, row);
    for (int64_t row = from; row < to && !side_by_side; row++)
        for (int64_t j = 0; j < p->Q; j++) {
            const int64_t i = row % p->P, y = (row * p->Q + j) * p->C;
            ti_window o;
            const int64_t first = row / p->P * p->H * p->W * p->C + window_of(p, i, j, &o);
            const float *x = p->x + first;
            o.x_room = p->w->in[0].count - first;
            o.y_room = p->indices ? 0 : (p->Q - j) * p->C;
            if (!p->indices) {
                p->loops->max_window(p->C, &o, x, p->y + y, p->where ? p->where + y : NULL);
                continue;
            }
            for (int64_t c = 0; c < p->C; c += SOME) {
                const int64_t n = p->C - c < SOME ? p->C - c : SOME;
                o.x_room = p->w->in[0].count - first - c;
                p->loops->max_window(n, &o, x + c, p->y + y + c, few);
                if (p->where) memcpy(p->where + y + c, few, (size_t)n);
                for (int64_t k = 0; k < n; k++) {
                    const int64_t r = few[k] / p->o->size[1], s = few[k] % p->o->size[1];
                    const int64_t h = i * p->stride[0] - p->o->pad[0] + r * p->o->dilation[0];
                    const int64_t v = j * p->stride[1] - p->o->pad[1] + s * p->o->dilation[1];
                    p->indices[y + c + k] = h * p->W + v;
                }
            }
        }
}

static void max_pool(const ti_work *w)
{
    pool p = pool_of(w, &w->in[0], &w->out[0]);

    p.x = TI_F(w->in[0]);
    p.y = TI_F(w->out[0]);
    p.indices = w->out[1].count >= 0 ? (int64_t *)(void *)w->out[1].data : NULL;
    p.where = w->out[2].count >= 0 ? (uint8_t *)w->out[2].data : NULL;
    ti_run_ranges(w->device, p.N * p.P, ti_items_of((double)p.Q * window_ns(&p)), max_rows, &p);
}

static const char *max_d_rejects(const ti_work *w)
{
    if (!ti_all_f32(w)) return "takes f32";
    if (w->in[2].count < 0) return "wants the hint where";
    return w->in[2].m.type == TERN_U8 ? NULL : "windows of more than 256 elements";
}

static void tiles_back(const pool *p, int64_t n)
{
    const int64_t R = p->o->size[0], S = p->o->size[1], row = p->W * p->C;
    float *dx = p->dx + n * p->H * row;

    for (int64_t i = 0; i < p->P * R; i++) {
        const int64_t y = (n * p->P + i / R) * p->Q * p->C;
        p->loops->max_tiles_back(p->C, p->Q, S, i % R, p->g + y, p->where + y, dx + i * row);
    }
    clear_rest(p, dx);
}

static void windows_back(const pool *p, int64_t n)
{
    const int64_t image = p->H * p->W * p->C;

    memset(p->dx + n * image, 0, (size_t)image * sizeof(float));
    for (int64_t i = 0; i < p->P; i++)
        for (int64_t j = 0; j < p->Q; j++) {
            const int64_t y = ((n * p->P + i) * p->Q + j) * p->C;
            ti_window o;
            float *dx = p->dx + n * image + window_of(p, i, j, &o);
            p->loops->max_window_back(p->C, &o, p->g + y, p->where + y, dx);
        }
}

static void max_images_back(void *arg, int64_t from, int64_t to, int i_worker)
{
    const pool *p = arg;

    (void)i_worker;
    for (int64_t n = from; n < to; n++) {
        if (tiles(p)) tiles_back(p, n);
        else windows_back(p, n);
    }
}

static void max_pool_d(const ti_work *w)
{
    pool p = pool_of(w, &w->out[0], &w->in[1]);

    p.dx = TI_F(w->out[0]);
    p.g = TI_F(w->in[1]);
    p.where = (uint8_t *)w->in[2].data;
    ti_run_ranges(w->device, p.N, ti_items_of((double)(p.P * p.Q) * window_ns(&p)), max_images_back,
                  &p);
}

/* ---- Averages ---- */

static const char *avg_rejects(const ti_work *w) { return ti_all_f32(w) ? NULL : "takes f32"; }

/* 1 / what window (i, j) divides by: its elements in x, or in x and its padding. */
static float share(const pool *p, int64_t i, int64_t j, const ti_window *o)
{
    const int64_t at[2] = {i, j}, extent[2] = {p->H, p->W};
    double n = 1;

    if (p->o->exclude_pad) return (float)(1 / (double)(o->rows * o->columns));
    for (int a = 0; a < 2; a++) {
        const int64_t start = at[a] * p->stride[a] - p->o->pad[a];
        const int64_t room = extent[a] + p->o->pad[a] - start;
        n *= (double)(room < p->o->size[a] ? room : p->o->size[a]);
    }
    return (float)(1 / n);
}

/* The same of each window where they lie side by side. */
static float tile_share(const pool *p) { return 1 / (float)(p->o->size[0] * p->o->size[1]); }

static void avg_rows(void *arg, int64_t from, int64_t to, int i_worker)
{
    const pool *p = arg;
    const bool side_by_side = tiles(p);

    (void)i_worker;
    for (int64_t row = from; row < to && side_by_side; row++) {
        const int64_t x = tiles_at(p, row);
        p->loops->avg_tiles(p->C, p->Q, p->o->size[0], p->o->size[1], p->W * p->C,
                            p->w->in[0].count - x, p->x + x, tile_share(p),
                            p->y + row * p->Q * p->C);
    }
    for (int64_t row = from; row < to && !side_by_side; row++)
        for (int64_t j = 0; j < p->Q; j++) {
            ti_window o;
            const float *x =
                p->x + row / p->P * p->H * p->W * p->C + window_of(p, row % p->P, j, &o);
            p->loops->avg_window(p->C, &o, x, share(p, row % p->P, j, &o),
                                 p->y + (row * p->Q + j) * p->C);
        }
}

static void avg_pool(const ti_work *w)
{
    pool p = pool_of(w, &w->in[0], &w->out[0]);

    p.x = TI_F(w->in[0]);
    p.y = TI_F(w->out[0]);
    ti_run_ranges(w->device, p.N * p.P, ti_items_of((double)p.Q * window_ns(&p)), avg_rows, &p);
}

static void avg_tiles_back(const pool *p, int64_t n)
{
    const int64_t R = p->o->size[0], row = p->W * p->C;
    float *dx = p->dx + n * p->H * row;

    for (int64_t i = 0; i < p->P; i++)
        p->loops->avg_tiles_back(p->C, p->Q, R, p->o->size[1], row,
                                 p->g + (n * p->P + i) * p->Q * p->C, tile_share(p),
                                 dx + i * R * row);
    clear_rest(p, dx);
}

static void avg_windows_back(const pool *p, int64_t n)
{
    const int64_t image = p->H * p->W * p->C;

    memset(p->dx + n * image, 0, (size_t)image * sizeof(float));
    for (int64_t i = 0; i < p->P; i++)
        for (int64_t j = 0; j < p->Q; j++) {
            ti_window o;
            float *dx = p->dx + n * image + window_of(p, i, j, &o);
            p->loops->avg_window_back(p->C, &o, p->g + ((n * p->P + i) * p->Q + j) * p->C,
                                      share(p, i, j, &o), dx);
        }
}

static void avg_images_back(void *arg, int64_t from, int64_t to, int i_worker)
{
    const pool *p = arg;

    (void)i_worker;
    for (int64_t n = from; n < to; n++) {
        if (tiles(p)) avg_tiles_back(p, n);
        else avg_windows_back(p, n);
    }
}

static void avg_pool_dx(const ti_work *w)
{
    pool p = pool_of(w, &w->out[0], &w->in[0]);

    p.dx = TI_F(w->out[0]);
    p.g = TI_F(w->in[0]);
    ti_run_ranges(w->device, p.N, ti_items_of((double)(p.P * p.Q) * window_ns(&p)), avg_images_back,
                  &p);
}

static double cost(const ti_work *w)
{
    const tern_pool2d_opts *o = w->opts;

    return 500 + 0.1 * (double)w->out[0].count * (double)o->size[0] * (double)o->size[1];
}

/* Elements of a window, or windows over an element. */
static double chain(const ti_work *w)
{
    const tern_pool2d_opts *o = w->opts;

    return (double)o->size[0] * (double)o->size[1] + 1;
}

const ti_row ti_cpu_pool2d[] = {
    {.op = "max_pool2d",
     .impl = "channels",
     .reject = max_rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST},
     .run = max_pool},
    {.op = "max_pool2d_d",
     .impl = "channels",
     .reject = max_d_rejects,
     .cost = cost,
     .want = {TI_ANY_LAYOUT, TI_CHANNELS_LAST, TI_CHANNELS_LAST},
     .run = max_pool_d,
     .chain = chain,
     .numbers = TI_REORDERED},
    {.op = "avg_pool2d",
     .impl = "channels",
     .reject = avg_rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST},
     .run = avg_pool,
     .chain = chain,
     .numbers = TI_REORDERED},
    {.op = "avg_pool2d_dx",
     .impl = "channels",
     .reject = avg_rejects,
     .cost = cost,
     .want = {TI_CHANNELS_LAST},
     .run = avg_pool_dx,
     .chain = chain,
     .numbers = TI_REORDERED},
    {.op = NULL},
};
