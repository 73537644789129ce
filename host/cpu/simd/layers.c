/*
 * layers.c - inner loops of pools, batch norms, updates and random numbers (layers.h).
 *
 * Written with the vectors of simd.h and the operators that gcc and clang give them, or as plain
 * loops that they vectorise.
 */
#include "cpu/simd/layers.h"

#include <math.h>

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
/* Where c is all ones a, where it is 0 b. */
INLINE vf choose_f(vi c, vf a, vf b) { return (vf)(((vi)a & c) | ((vi)b & ~c)); }
INLINE vi choose_i(vi c, vi a, vi b) { return (a & c) | (b & ~c); }
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

/* ---- Pools ---- */

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
                const vf v = some_in(x + at, k, o->x_room - at);
                /* larger, or the first NaN */
                const vi wins = ((vi)(v > best) | (vi)(v != v)) & (vi)(best == best);
                best = choose_f(wins, v, best);
                place = choose_i(wins, splat(position(o, r, s)), place);
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

            UNROLL for (int64_t i = 1; i < rows * columns; i++)
            {
                const vf v = some(x + c + i / columns * row + i % columns * n, in);
                const vi wins = ((vi)(v > best) | (vi)(v != v)) & (vi)(best == best);
                best = choose_f(wins, v, best);
                place = choose_i(wins, splat((int32_t)i), place);
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

/* ---- Batch norm ---- */

/*
 * Channels in groups with their sums in registers, over runs of RUN pixels so that what the groups
 * share of cache lines is still there. A group is eight channels of doubles, times as many as the
 * registers hold; what is left over goes channel by channel. All add pixel after pixel.
 */
enum { LANES = 16, RUN = 64, WIDE = N_REGS == 32 ? 8 : 2 };

typedef float f8 __attribute__((vector_size(32)));
typedef double d8 __attribute__((vector_size(64)));

/* Macros: functions must not return vectors wider than the registers. */
#define GET(type, x, from)                                                                         \
    type x;                                                                                        \
    memcpy(&x, from, sizeof x)
#define ADD_TO(to, x)                                                                              \
    do {                                                                                           \
        GET(d8, old_, to);                                                                         \
        old_ += x;                                                                                 \
        memcpy(to, &old_, sizeof old_);                                                            \
    } while (0)

INLINE void sums_of(const int wide, int64_t count, int64_t step, const float *x, double *sum)
{
    d8 s[WIDE];

    memcpy(s, sum, (size_t)wide * sizeof *s);
    for (int64_t i = 0; i < count; i++, x += step) {
        UNROLL for (int k = 0; k < wide; k++)
        {
            GET(f8, v, x + 8 * k);
            s[k] += __builtin_convertvector(v, d8);
        }
    }
    memcpy(sum, s, (size_t)wide * sizeof *s);
}

/* Few channels: pixels enough to fill the registers are taken as one wide one. */
static void sums(int64_t pixels, int64_t n, const float *x, double *sum)
{
    const int64_t each = n > 0 && n <= 4 * WIDE ? 8 * WIDE / n : 1, width = each * n;
    int64_t wides = each > 1 ? pixels / each : 0;

    if (wides > 0 && wides * width + 8 * WIDE - width > pixels * n) wides--; /* reads over */
    if (wides > 0) {
        double wide[8 * WIDE] = {0};
        sums_of(WIDE, wides, width, x, wide);
        for (int64_t j = 0; j < width; j++) sum[j % n] += wide[j];
        x += wides * width;
        pixels -= wides * each;
    }
    for (int64_t i = 0; i < pixels; i += RUN, x += RUN * n) {
        const int64_t run = min_of(RUN, pixels - i);
        int64_t c = 0;

        for (; c + 8 * WIDE <= n; c += 8 * WIDE) sums_of(WIDE, run, n, x + c, sum + c);
        for (; c + 8 <= n; c += 8) sums_of(1, run, n, x + c, sum + c);
        for (; c < n; c++)
            for (int64_t j = 0; j < run; j++) sum[c] += (double)x[j * n + c];
    }
}

INLINE void moments_of(const int wide, int64_t pixels, int64_t n, const float *x,
                       const double *pivot, double *sum, double *squares)
{
    d8 s[WIDE] = {{0}}, q[WIDE] = {{0}}, p[WIDE];

    memcpy(p, pivot, (size_t)wide * sizeof *p);
    for (int64_t i = 0; i < pixels; i++, x += n) {
        UNROLL for (int k = 0; k < wide; k++)
        {
            GET(f8, v, x + 8 * k);
            const d8 d = __builtin_convertvector(v, d8) - p[k];
            s[k] += d;
            q[k] += d * d;
        }
    }
    UNROLL for (int k = 0; k < wide; k++)
    {
        ADD_TO(sum + 8 * k, s[k]);
        ADD_TO(squares + 8 * k, q[k]);
    }
}

static void moments(int64_t pixels, int64_t n, const float *x, const double *pivot, double *sum,
                    double *squares)
{
    for (int64_t i = 0; i < pixels; i += RUN) {
        const int64_t run = min_of(RUN, pixels - i);
        const float *from = x + i * n;
        int64_t c = 0;

        for (; c + 8 * WIDE <= n; c += 8 * WIDE)
            moments_of(WIDE, run, n, from + c, pivot + c, sum + c, squares + c);
        for (; c + 8 <= n; c += 8) moments_of(1, run, n, from + c, pivot + c, sum + c, squares + c);
        for (; c < n; c++) {
            double s = 0, q = 0;
            for (int64_t j = 0; j < run; j++) {
                const double d = (double)from[j * n + c] - pivot[c];
                s += d;
                q += d * d;
            }
            sum[c] += s;
            squares[c] += q;
        }
    }
}

INLINE void moments_back_of(const int wide, int64_t pixels, int64_t n, const float *x,
                            const float *g, const float *mean, double *sum_g, double *sum_gz)
{
    d8 s[WIDE] = {{0}}, q[WIDE] = {{0}};
    f8 m[WIDE];

    memcpy(m, mean, (size_t)wide * sizeof *m);
    for (int64_t i = 0; i < pixels; i++, x += n, g += n) {
        UNROLL for (int k = 0; k < wide; k++)
        {
            GET(f8, v, x + 8 * k);
            GET(f8, w, g + 8 * k);
            const d8 own = __builtin_convertvector(w, d8);
            s[k] += own;
            q[k] += own * __builtin_convertvector(v - m[k], d8);
        }
    }
    UNROLL for (int k = 0; k < wide; k++)
    {
        ADD_TO(sum_g + 8 * k, s[k]);
        ADD_TO(sum_gz + 8 * k, q[k]);
    }
}

static void moments_back(int64_t pixels, int64_t n, const float *x, const float *g,
                         const float *mean, double *sum_g, double *sum_gz)
{
    for (int64_t i = 0; i < pixels; i += RUN) {
        const int64_t run = min_of(RUN, pixels - i);
        const float *a = x + i * n, *b = g + i * n;
        int64_t c = 0;

        for (; c + 8 * WIDE <= n; c += 8 * WIDE)
            moments_back_of(WIDE, run, n, a + c, b + c, mean + c, sum_g + c, sum_gz + c);
        for (; c + 8 <= n; c += 8)
            moments_back_of(1, run, n, a + c, b + c, mean + c, sum_g + c, sum_gz + c);
        for (; c < n; c++) {
            double s = 0, q = 0;
            for (int64_t j = 0; j < run; j++) {
                const double own = (double)b[j * n + c];
                s += own;
                q += own * (double)(a[j * n + c] - mean[c]);
            }
            sum_g[c] += s;
            sum_gz[c] += q;
        }
    }
}

static void normalise(int64_t pixels, int64_t n, const float *x, const float *mean,
                      const float *gain, const float *beta, float *y)
{
    for (int64_t i = 0; i < pixels; i++, x += n, y += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t k = n - c;
            const vf z = v_sub(some(x + c, k), some(mean + c, k));
            put(y + c, k, v_fma(z, some(gain + c, k), some(beta + c, k)));
        }
}

static void normalise_back(int64_t pixels, int64_t n, const float *x, const float *g,
                           const float *mean, const float *gain, const float *mean_g,
                           const float *slope, float *dx)
{
    for (int64_t i = 0; i < pixels; i++, x += n, g += n, dx += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t k = n - c;
            const vf z = v_sub(some(x + c, k), some(mean + c, k));
            const vf own = v_sub(some(g + c, k), some(mean_g + c, k));
            put(dx + c, k, v_mul(some(gain + c, k), v_fnma(z, some(slope + c, k), own)));
        }
}

/* ---- Layer norm: sums in lanes of a fixed number, then in order ---- */

static void group(int64_t n, const float *x, float mean, float inv, const float *gamma,
                  const float *beta, float *y)
{
    const vf m = v_set1(mean), scale = v_set1(inv);

    for (int64_t i = 0; i < n; i += VL) {
        vf h = v_mul(v_sub(some(x + i, n - i), m), scale);
        if (gamma) h = v_mul(h, some(gamma + i, n - i));
        if (beta) h = v_add(h, some(beta + i, n - i));
        put(y + i, n - i, h);
    }
}

static void group_sums(int64_t n, const float *x, const float *g, const float *gamma, float mean,
                       double *sum_q, double *sum_qz)
{
    double s[LANES] = {0}, t[LANES] = {0};
    int64_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            const double q = (double)g[i + j] * (gamma ? (double)gamma[i + j] : 1);
            s[j] += q;
            t[j] += q * (double)(x[i + j] - mean);
        }
    for (int j = 0; i + j < n; j++) {
        const double q = (double)g[i + j] * (gamma ? (double)gamma[i + j] : 1);
        s[j] += q;
        t[j] += q * (double)(x[i + j] - mean);
    }
    *sum_q = *sum_qz = 0;
    for (int j = 0; j < LANES; j++) *sum_q += s[j], *sum_qz += t[j];
}

static void group_back(int64_t n, const float *x, const float *g, const float *gamma, float mean,
                       float inv, float mean_q, float slope, float *dx)
{
    const vf m = v_set1(mean), a = v_set1(inv), b = v_set1(mean_q), k = v_set1(slope);

    for (int64_t i = 0; i < n; i += VL) {
        vf q = some(g + i, n - i);
        if (gamma) q = v_mul(q, some(gamma + i, n - i));
        q = v_fnma(v_sub(some(x + i, n - i), m), k, v_sub(q, b));
        put(dx + i, n - i, v_mul(q, a));
    }
}

static void group_shares(int64_t n, const float *x, const float *g, float mean, float inv,
                         double *dgamma, double *dbeta)
{
    if (dgamma)
        for (int64_t i = 0; i < n; i++) dgamma[i] += (double)g[i] * (double)((x[i] - mean) * inv);
    if (dbeta)
        for (int64_t i = 0; i < n; i++) dbeta[i] += (double)g[i];
}

/* ---- Updates: no sums, so plain loops; results may lie on operands ---- */

#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

static void sgd(int64_t n, const ti_sgd *from, const float *p, const float *m, const float *g,
                float *new_p, float *new_m)
{
    const ti_sgd o = *from;

    if (!m) {
        INDEPENDENT
        for (int64_t i = 0; i < n; i++) {
            const float own = o.scale * g[i] + o.decay * p[i];
            new_p[i] = p[i] - o.lr * own;
        }
        return;
    }
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) {
        const float own = o.scale * g[i] + o.decay * p[i];
        const float next = o.momentum * m[i] + o.fresh * own;
        const float step = o.nesterov ? own + o.momentum * next : next;
        new_p[i] = p[i] - o.lr * step;
        new_m[i] = next;
    }
}

static void adam(int64_t n, const ti_adam *from, const float *p, const float *m, const float *v,
                 const float *g, float *new_p, float *new_m, float *new_v)
{
    const ti_adam o = *from;

    INDEPENDENT
    for (int64_t i = 0; i < n; i++) {
        const float own = o.scale * g[i] + o.decay * p[i];
        const float mean = o.beta1 * m[i] + o.fresh1 * own;
        const float square = o.beta2 * v[i] + o.fresh2 * (own * own);
        const float step = o.rate * mean / (sqrtf(square * o.fix2) + o.eps);
        new_p[i] = o.kept * p[i] - step;
        new_m[i] = mean;
        new_v[i] = square;
    }
}

/* ---- Random numbers: base/philox.h on 16 counters at a time ---- */

static void philox(uint64_t key, uint64_t counter, uint64_t first, uint32_t to[64])
{
    uint32_t a[16], b[16], c[16], d[16], k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);

    for (int i = 0; i < 16; i++) {
        a[i] = (uint32_t)(first + (uint64_t)i);
        b[i] = (uint32_t)((first + (uint64_t)i) >> 32);
        c[i] = (uint32_t)counter;
        d[i] = (uint32_t)(counter >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 16; i++) {
            const uint64_t x = (uint64_t)0xD2511F53u * a[i], y = (uint64_t)0xCD9E8D57u * c[i];
            a[i] = (uint32_t)(y >> 32) ^ b[i] ^ k0;
            b[i] = (uint32_t)y;
            c[i] = (uint32_t)(x >> 32) ^ d[i] ^ k1;
            d[i] = (uint32_t)x;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 16; i++) {
        to[4 * i] = a[i];
        to[4 * i + 1] = b[i];
        to[4 * i + 2] = c[i];
        to[4 * i + 3] = d[i];
    }
}

static void drop(int64_t n, const uint32_t *bits, uint32_t cut, const float *x, float scale,
                 float *y)
{
    INDEPENDENT
    for (int64_t i = 0; i < n; i++) y[i] = bits[i] < cut ? 0.0f : x[i] * scale;
}

const ti_layers TI_SIMD(ti_layers) = {
    .max_window = max_window,
    .max_tiles = max_tiles,
    .max_window_back = max_window_back,
    .max_tiles_back = max_tiles_back,
    .avg_window = avg_window,
    .avg_window_back = avg_window_back,
    .sums = sums,
    .moments = moments,
    .normalise = normalise,
    .moments_back = moments_back,
    .normalise_back = normalise_back,
    .group = group,
    .group_sums = group_sums,
    .group_back = group_back,
    .group_shares = group_shares,
    .sgd = sgd,
    .adam = adam,
    .philox = philox,
    .drop = drop,
};
