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

/* ---- Layer norm: sums in lanes of a fixed number, then in order ---- */

enum { LANES = 16 };

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

/* One vector; `plain`: nothing scales the gradient, nothing decays; `near`: eps keeps the divisor
 * away from 0. */
INLINE void adam_vector(bool plain, bool near, const ti_adam *o, vf *p, vf *m, vf *v, vf g)
{
    const vf own = plain ? g : v_fma(v_set1(o->decay), *p, v_mul(v_set1(o->scale), g));
    const vf kept = plain ? *p : v_mul(v_set1(o->kept), *p);

    *m = v_fma(v_set1(o->fresh1), own, v_mul(v_set1(o->beta1), *m));
    *v = v_fma(v_set1(o->fresh2), v_mul(own, own), v_mul(v_set1(o->beta2), *v));
    const vf size = v_add(v_sqrt(*v), v_set1(o->eps));
    *p = v_fnma(v_set1(o->rate), near ? v_div_near(*m, size) : v_div(*m, size), kept);
}

INLINE void adam_of(bool plain, bool near, int64_t n, const ti_adam *o, const float *p,
                    const float *m, const float *v, const float *g, float *new_p, float *new_m,
                    float *new_v)
{
    int64_t i = 0;

    for (; i + VL <= n; i += VL) {
        vf a = v_load(p + i), b = v_load(m + i), c = v_load(v + i);
        adam_vector(plain, near, o, &a, &b, &c, v_load(g + i));
        v_store(new_p + i, a);
        v_store(new_m + i, b);
        v_store(new_v + i, c);
    }
    if (i == n) return;
    const vmask k = v_lanes(n - i);
    vf a = v_load_m(p + i, k), b = v_load_m(m + i, k), c = v_load_m(v + i, k);
    adam_vector(plain, near, o, &a, &b, &c, v_load_m(g + i, k));
    v_store_m(new_p + i, k, a);
    v_store_m(new_m + i, k, b);
    v_store_m(new_v + i, k, c);
}

static void adam(int64_t n, const ti_adam *from, const float *p, const float *m, const float *v,
                 const float *g, float *new_p, float *new_m, float *new_v)
{
    const ti_adam o = *from;

    if (!(o.eps >= 0x1p-100f)) adam_of(false, false, n, &o, p, m, v, g, new_p, new_m, new_v);
    else if (o.scale == 1 && o.decay == 0 && o.kept == 1)
        adam_of(true, true, n, &o, p, m, v, g, new_p, new_m, new_v);
    else adam_of(false, true, n, &o, p, m, v, g, new_p, new_m, new_v);
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
    .group = group,
    .group_sums = group_sums,
    .group_back = group_back,
    .group_shares = group_shares,
    .sgd = sgd,
    .adam = adam,
    .philox = philox,
    .drop = drop,
};
