/*
 * norms.c - inner loops of batch norms, and of what is fused to them (norms.h).
 */
#include "cpu/simd/norms.h"

#include "cpu/simd/eights.h"

typedef int32_t vi __attribute__((vector_size(sizeof(vf))));

INLINE vf some(const float *p, int64_t n) { return n >= VL ? v_load(p) : v_load_m(p, v_lanes(n)); }
INLINE void put(float *p, int64_t n, vf x)
{
    if (n >= VL) v_store(p, x);
    else v_store_m(p, v_lanes(n), x);
}

/* ---- Batch norm ---- */

/*
 * Channels in groups with their sums in registers, over runs of RUN pixels so that what the groups
 * share of cache lines is still there. A group is eight channels of doubles, times as many as the
 * registers hold; what is left over goes channel by channel. All add pixel after pixel.
 */
enum { RUN = 64, WIDE = N_REGS == 32 ? 8 : 2 };

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

/* Few channels: how many pixels are taken as one wide one, and how many such there are. */
static int64_t wide_pixels(int64_t pixels, int64_t n, int64_t *wides)
{
    const int64_t each = n > 0 && n <= 4 * WIDE ? 8 * WIDE / n : 1, width = each * n;

    *wides = each > 1 ? pixels / each : 0;
    if (*wides > 0 && *wides * width + 8 * WIDE - width > pixels * n) --*wides; /* reads over */
    return each;
}

static void fold(int64_t width, int64_t n, const double *wide, double *sum)
{
    for (int64_t j = 0; j < width; j++) sum[j % n] += wide[j];
}

static void sums(int64_t pixels, int64_t n, const float *x, double *sum)
{
    int64_t wides;
    const int64_t each = wide_pixels(pixels, n, &wides);

    if (wides > 0) {
        double wide[8 * WIDE] = {0};
        sums_of(WIDE, wides, each * n, x, wide);
        fold(each * n, n, wide, sum);
        x += wides * each * n;
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
    const d8 one = {1, 1, 1, 1, 1, 1, 1, 1};
    d8 s[WIDE] = {{0}}, q[WIDE] = {{0}}, p[WIDE];

    memcpy(p, pivot, (size_t)wide * sizeof *p);
    for (int64_t i = 0; i < pixels; i++, x += n) {
        UNROLL for (int k = 0; k < wide; k++)
        {
            GET(f8, v, x + 8 * k);
            const d8 d = MUL_ADD(__builtin_convertvector(v, d8), one, -p[k]);
            s[k] += d;
            q[k] = MUL_ADD(d, d, q[k]);
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
    int64_t wides;
    const int64_t each = wide_pixels(pixels, n, &wides);

    if (wides > 0) {
        double s[8 * WIDE] = {0}, q[8 * WIDE] = {0}, p[8 * WIDE] = {0};
        for (int64_t j = 0; j < each * n; j++) p[j] = pivot[j % n];
        moments_of(WIDE, wides, each * n, x, p, s, q);
        fold(each * n, n, s, sum);
        fold(each * n, n, q, squares);
        x += wides * each * n;
        pixels -= wides * each;
    }
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

typedef int32_t i8 __attribute__((vector_size(32)));

INLINE void moments_back_of(const int wide, const bool plain, int64_t pixels, int64_t n,
                            const float *x, ti_cotangent g, const float *mean, double *sum_g,
                            double *sum_gz, float *dr)
{
    const f8 zero = {0};
    d8 s[WIDE] = {{0}}, q[WIDE] = {{0}};
    f8 m[WIDE];

    memcpy(m, mean, (size_t)wide * sizeof *m);
    for (int64_t i = 0; i < pixels * n; i += n) {
        UNROLL for (int k = 0; k < wide; k++)
        {
            GET(f8, v, x + i + 8 * k);
            GET(f8, w, g.g + i + 8 * k);
            if (!plain && g.g2) {
                GET(f8, also, g.g2 + i + 8 * k);
                w += also;
            }
            if (!plain && g.y) {
                GET(f8, y, g.y + i + 8 * k);
                w = (f8)((i8)w & (y > zero));
            }
            if (!plain && dr) memcpy(dr + i + 8 * k, &w, sizeof w);
            const d8 own = __builtin_convertvector(w, d8);
            s[k] += own;
            q[k] = MUL_ADD(own, __builtin_convertvector(v - m[k], d8), q[k]);
        }
    }
    UNROLL for (int k = 0; k < wide; k++)
    {
        ADD_TO(sum_g + 8 * k, s[k]);
        ADD_TO(sum_gz + 8 * k, q[k]);
    }
}

INLINE ti_cotangent further(ti_cotangent g, int64_t n)
{
    return (ti_cotangent){g.g + n, g.g2 ? g.g2 + n : NULL, g.y ? g.y + n : NULL};
}
INLINE float cotangent_at(const ti_cotangent *g, int64_t i)
{
    const float q = g->g2 ? g->g[i] + g->g2[i] : g->g[i];

    return !g->y || g->y[i] > 0 ? q : 0.0f;
}

INLINE void moments_back_as(const bool plain, int64_t pixels, int64_t n, const float *x,
                            ti_cotangent g, const float *mean, double *sum_g, double *sum_gz,
                            float *dr)
{
    for (int64_t i = 0; i < pixels; i += RUN) {
        const int64_t run = min_of(RUN, pixels - i);
        int64_t c = 0;

        for (; c + 8 * WIDE <= n; c += 8 * WIDE)
            moments_back_of(WIDE, plain, run, n, x + i * n + c, further(g, i * n + c), mean + c,
                            sum_g + c, sum_gz + c, dr ? dr + i * n + c : NULL);
        for (; c + 8 <= n; c += 8)
            moments_back_of(1, plain, run, n, x + i * n + c, further(g, i * n + c), mean + c,
                            sum_g + c, sum_gz + c, dr ? dr + i * n + c : NULL);
        for (; c < n; c++) {
            double s = 0, q = 0;
            for (int64_t j = i * n + c; j < (i + run) * n; j += n) {
                const float w = cotangent_at(&g, j);
                const double own = (double)w;
                if (dr) dr[j] = w;
                s += own;
                q += own * (double)(x[j] - mean[c]);
            }
            sum_g[c] += s;
            sum_gz[c] += q;
        }
    }
}

/* Wide pixels read and, in dr, write over their end: what comes there is written again. */
INLINE int64_t moments_back_wide(const bool plain, int64_t pixels, int64_t n, const float *x,
                                 ti_cotangent g, const float *mean, double *sum_g, double *sum_gz,
                                 float *dr)
{
    double s[8 * WIDE] = {0}, q[8 * WIDE] = {0};
    float m[8 * WIDE] = {0};
    int64_t wides;
    const int64_t each = wide_pixels(pixels, n, &wides), width = each * n;

    if (wides <= 0 || (dr && width != 8 * WIDE)) return 0;
    for (int64_t j = 0; j < width; j++) m[j] = mean[j % n];
    moments_back_of(WIDE, plain, wides, width, x, g, m, s, q, dr);
    fold(width, n, s, sum_g);
    fold(width, n, q, sum_gz);
    return wides * each;
}

static void moments_back(int64_t pixels, int64_t n, const float *x, const ti_cotangent *g,
                         const float *mean, double *sum_g, double *sum_gz, float *dr)
{
    if (!g->g2 && !g->y && !dr) {
        const int64_t done = moments_back_wide(true, pixels, n, x, *g, mean, sum_g, sum_gz, NULL);
        moments_back_as(true, pixels - done, n, x + done * n, further(*g, done * n), mean, sum_g,
                        sum_gz, NULL);
    } else {
        const int64_t done = moments_back_wide(false, pixels, n, x, *g, mean, sum_g, sum_gz, dr);
        moments_back_as(false, pixels - done, n, x + done * n, further(*g, done * n), mean, sum_g,
                        sum_gz, dr ? dr + done * n : NULL);
    }
}

INLINE void normalise_as(const bool adds, const bool relu, int64_t pixels, int64_t n,
                         const float *x, const float *mean, const float *gain, const float *beta,
                         const float *r, float *y)
{
    for (int64_t i = 0; i < pixels * n; i += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t k = n - c;
            const vf z = v_sub(some(x + i + c, k), some(mean + c, k));
            vf to = v_fma(z, some(gain + c, k), some(beta + c, k));
            if (adds) to = v_add(to, some(r + i + c, k));
            put(y + i + c, k, relu ? v_relu(to) : to);
        }
}

static void normalise(int64_t pixels, int64_t n, const float *x, const float *mean,
                      const float *gain, const float *beta, const float *r, bool relu, float *y)
{
    if (r && relu) normalise_as(true, true, pixels, n, x, mean, gain, beta, r, y);
    else if (r) normalise_as(true, false, pixels, n, x, mean, gain, beta, r, y);
    else if (relu) normalise_as(false, true, pixels, n, x, mean, gain, beta, r, y);
    else normalise_as(false, false, pixels, n, x, mean, gain, beta, r, y);
}

INLINE void normalise_back_as(const bool adds, const bool cuts, int64_t pixels, int64_t n,
                              const float *x, const ti_cotangent *g, const float *mean,
                              const float *gain, const float *mean_g, const float *slope, float *dx)
{
    for (int64_t i = 0; i < pixels * n; i += n)
        for (int64_t c = 0; c < n; c += VL) {
            const int64_t k = n - c;
            const vf z = v_sub(some(x + i + c, k), some(mean + c, k));
            vf q = some(g->g + i + c, k);
            if (adds) q = v_add(q, some(g->g2 + i + c, k));
            if (cuts) q = (vf)((vi)q & (some(g->y + i + c, k) > v_zero()));
            const vf own = v_sub(q, some(mean_g + c, k));
            put(dx + i + c, k, v_mul(some(gain + c, k), v_fnma(z, some(slope + c, k), own)));
        }
}

static void normalise_back(int64_t pixels, int64_t n, const float *x, const ti_cotangent *g,
                           const float *mean, const float *gain, const float *mean_g,
                           const float *slope, float *dx)
{
    if (g->g2 && g->y)
        normalise_back_as(true, true, pixels, n, x, g, mean, gain, mean_g, slope, dx);
    else if (g->g2) normalise_back_as(true, false, pixels, n, x, g, mean, gain, mean_g, slope, dx);
    else if (g->y) normalise_back_as(false, true, pixels, n, x, g, mean, gain, mean_g, slope, dx);
    else normalise_back_as(false, false, pixels, n, x, g, mean, gain, mean_g, slope, dx);
}

const ti_norms TI_SIMD(ti_norms) = {
    .sums = sums,
    .moments = moments,
    .normalise = normalise,
    .moments_back = moments_back,
    .normalise_back = normalise_back,
};
