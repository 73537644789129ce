/*
 * layers.c - inner loops of updates and random numbers (layers.h).
 *
 * Written with the vectors of simd.h and the operators that gcc and clang give them, or as plain
 * loops that they vectorise.
 */
#include "cpu/simd/layers.h"

#include <math.h>

#include "cpu/simd/simd.h"

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
    .sgd = sgd,
    .adam = adam,
    .philox = philox,
    .drop = drop,
};
