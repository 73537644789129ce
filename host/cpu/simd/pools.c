/*
 * pools.c - inner loops of pools (pools.h), written with the vectors of simd.h and the operators
 * that gcc and clang give them.
 */
#include "cpu/simd/pools.h"

#include "cpu/simd/simd.h"

typedef int32_t vi __attribute__((vector_size(sizeof(vf))));

INLINE vf some(const float *p, int64_t n) { return n >= VL ? v_load(p) : v_load_m(p, v_lanes(n)); }
/* n elements count; `room` may be touched. */
INLINE vf some_in(const float *p, int64_t n, int64_t room)
{
    return n >= VL || room >= VL ? v_load(p) : v_load_m(p, v_lanes(n));
}
INLINE void put(float *p, int64_t n, vf x)
{
    if (n >= VL) v_store(p, x);
    else v_store_m(p, v_lanes(n), x);
}
INLINE vi splat(int32_t x) { return x - (vi){0}; }

/* Bytes to and from lanes, k of them: loops, which compilers turn into one instruction where they
 * scalarise __builtin_convertvector. */
INLINE vi lanes_of(const uint8_t *from, int64_t k)
{
    uint8_t b[VL] = {0};
    int32_t i[VL];
    vi x;

    if (k >= VL) memcpy(b, from, VL);
    else memcpy(b, from, (size_t)k);
    for (int j = 0; j < VL; j++) i[j] = b[j];
    memcpy(&x, i, sizeof x);
    return x;
}
INLINE void bytes_of(uint8_t *to, int64_t k, vi x)
{
    uint8_t b[VL];
    int32_t i[VL];

    memcpy(i, &x, sizeof x);
    for (int j = 0; j < VL; j++) b[j] = (uint8_t)i[j];
    if (k >= VL) memcpy(to, b, VL);
    else memcpy(to, b, (size_t)k);
}

/* ---- Maxima ---- */

/* One more element of a window: its place is kept where it is larger, or the first NaN. */
INLINE void meet(vf *best, vi *place, vf v, int32_t here)
{
    const vwhere wins = v_beats(v, *best);

    *best = v_pick(wins, v, *best);
    *place = (vi)v_pick(wins, (vf)splat(here), (vf)*place);
}

INLINE int32_t position(const ti_window *o, int64_t r, int64_t s)
{
    return o->first + (int32_t)r * o->row_position + (int32_t)s;
}

static void max_window(int64_t n, const ti_window *o, const float *x, float *y, uint8_t *where)
{
    for (int64_t c = 0; c < n; c += VL) {
        const int64_t k = n - c, room = o->y_room - c;
        vf best = some_in(x + c, k, o->x_room - c);
        vi place = splat(o->first);

        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t s = 0; s < o->columns; s++) {
                const int64_t at = c + r * o->row_step + s * o->column_step;
                meet(&best, &place, some_in(x + at, k, o->x_room - at), position(o, r, s));
            }
        put(y + c, room >= VL ? VL : k, best);
        if (!where) continue;
        bytes_of(where + c, room >= VL ? VL : k, place);
    }
}

INLINE void max_tiles_of(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                         int64_t x_room, const float *x, float *y, uint8_t *where)
{
    for (int64_t j = 0; j < count; j++, x += columns * n, x_room -= columns * n, y += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t last = c + (rows - 1) * row + (columns - 1) * n;
            const int64_t in = x_room - last >= VL ? VL : n - c, room = (count - j) * n - c;
            vf best = some(x + c, in);
            vi place = splat(0);

            UNROLL for (int64_t r = 0; r < rows; r++)
            {
                UNROLL for (int64_t s = r == 0; s < columns; s++) meet(
                    &best, &place, some(x + c + r * row + s * n, in), (int32_t)(r * columns + s));
            }
            put(y + c, room >= VL ? VL : n - c, best);
            if (where) bytes_of(where + j * n + c, room >= VL ? VL : n - c, place);
        }
}

static void max_tiles(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                      int64_t x_room, const float *x, float *y, uint8_t *where)
{
    if (rows == 2 && columns == 2) max_tiles_of(n, count, 2, 2, row, x_room, x, y, where);
    else max_tiles_of(n, count, rows, columns, row, x_room, x, y, where);
}

static void max_window_back(int64_t n, const ti_window *o, const float *g, const uint8_t *where,
                            float *dx)
{
    for (int64_t c = 0; c < n; c += VL) {
        const vf own = some(g + c, n - c);
        const vi place = lanes_of(where + c, n - c);

        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t s = 0; s < o->columns; s++) {
                const vi here = (vi)(place == splat(position(o, r, s)));
                float *to = dx + c + r * o->row_step + s * o->column_step;
                put(to, n - c, v_add(some(to, n - c), (vf)((vi)own & here)));
            }
    }
}

/* Pixels in order: whole vectors may run over into the next one, but not over the row's end. */
static void max_tiles_back(int64_t n, int64_t count, int64_t size, int64_t row, const float *g,
                           const uint8_t *where, float *dx)
{
    const int64_t first = row * size;

    for (int64_t j = 0; j < count; j++, g += n, where += n, dx += size * n) {
        if (n <= VL) { /* one vector of channels: read once */
            const int64_t k = (count - j) * n >= VL ? VL : n;
            const vi place = lanes_of(where, k);
            const vi own = (vi)some(g, k);

            for (int64_t s = 0; s < size; s++) {
                const int64_t room = ((count - j) * size - s) * n;
                const vi here = (vi)(place == splat((int32_t)(first + s)));
                put(dx + s * n, room >= VL ? VL : n, (vf)(own & here));
            }
            continue;
        }
        for (int64_t s = 0; s < size; s++)
            for (int64_t c = 0; c < n; c += VL) {
                const vi place = lanes_of(where + c, n - c);
                const vi here = (vi)(place == splat((int32_t)(first + s)));
                put(dx + s * n + c, n - c, (vf)((vi)some(g + c, n - c) & here));
            }
    }
}

/* ---- Averages ---- */

static void avg_window(int64_t n, const ti_window *o, const float *x, float scale, float *y)
{
    for (int64_t c = 0; c < n; c += VL) {
        vf sum = v_zero();

        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t s = 0; s < o->columns; s++)
                sum = v_add(sum, some(x + c + r * o->row_step + s * o->column_step, n - c));
        put(y + c, n - c, v_mul(sum, v_set1(scale)));
    }
}

static void avg_window_back(int64_t n, const ti_window *o, const float *g, float scale, float *dx)
{
    for (int64_t c = 0; c < n; c += VL) {
        const vf own = v_mul(some(g + c, n - c), v_set1(scale));

        for (int64_t r = 0; r < o->rows; r++)
            for (int64_t s = 0; s < o->columns; s++) {
                float *to = dx + c + r * o->row_step + s * o->column_step;
                put(to, n - c, v_add(some(to, n - c), own));
            }
    }
}

INLINE void avg_tiles_of(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                         int64_t x_room, const float *x, float scale, float *y)
{
    for (int64_t j = 0; j < count; j++, x += columns * n, x_room -= columns * n, y += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t last = c + (rows - 1) * row + (columns - 1) * n;
            const int64_t in = x_room - last >= VL ? VL : n - c, room = (count - j) * n - c;
            vf sum = v_zero();

            UNROLL for (int64_t r = 0; r < rows; r++)
            {
                UNROLL for (int64_t s = 0; s < columns; s++) sum =
                    v_add(sum, some(x + c + r * row + s * n, in));
            }
            put(y + c, room >= VL ? VL : n - c, v_mul(sum, v_set1(scale)));
        }
}

static void avg_tiles(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                      int64_t x_room, const float *x, float scale, float *y)
{
    if (rows == 2 && columns == 2) avg_tiles_of(n, count, 2, 2, row, x_room, x, scale, y);
    else avg_tiles_of(n, count, rows, columns, row, x_room, x, scale, y);
}

/* Pixels in order, as in max_tiles_back: whole vectors may run over into the next one. */
static void avg_tiles_back(int64_t n, int64_t count, int64_t rows, int64_t columns, int64_t row,
                           const float *g, float scale, float *dx)
{
    for (int64_t j = 0; j < count; j++, g += n)
        for (int64_t s = 0; s < columns; s++, dx += n)
            for (int64_t c = 0; c < n; c += VL) {
                const int64_t in = (count - j) * n - c >= VL ? VL : n - c;
                const int64_t room = ((count - j) * columns - s) * n - c;
                const vf own = v_mul(some(g + c, in), v_set1(scale));

                for (int64_t r = 0; r < rows; r++)
                    put(dx + r * row + c, room >= VL ? VL : n - c, own);
            }
}

const ti_pools TI_SIMD(ti_pools) = {
    .max_window = max_window,
    .max_tiles = max_tiles,
    .max_window_back = max_window_back,
    .max_tiles_back = max_tiles_back,
    .avg_window = avg_window,
    .avg_window_back = avg_window_back,
    .avg_tiles = avg_tiles,
    .avg_tiles_back = avg_tiles_back,
};
