/*
 * groups.c - inner loops of layer norms (groups.h).
 */
#include "cpu/simd/groups.h"

#include <math.h>

#include "cpu/simd/eights.h"

enum { CHAINS = N_REGS == 32 ? 4 : 2 };

INLINE vf some(const float *p, int64_t n) { return n >= VL ? v_load(p) : v_load_m(p, v_lanes(n)); }
INLINE void put(float *p, int64_t n, vf x)
{
    if (n >= VL) v_store(p, x);
    else v_store_m(p, v_lanes(n), x);
}

/* One pass: with one of the values as the pivot nothing cancels that double could not bear. */
static void statistics(int64_t n, const float *x, double eps, double *mean, double *inv)
{
    const double pivot = isfinite(*x) ? (double)*x : 0;
    const d8 one = {1, 1, 1, 1, 1, 1, 1, 1}, p = pivot * one;
    d8 s[CHAINS] = {{0}}, q[CHAINS] = {{0}};
    double sum = 0, squares = 0;
    int64_t i = 0;

    for (; i + 8 * CHAINS <= n; i += 8 * CHAINS) {
        UNROLL for (int k = 0; k < CHAINS; k++)
        {
            GET(f8, v, x + i + 8 * k);
            const d8 d = MUL_ADD(__builtin_convertvector(v, d8), one, -p);
            s[k] += d;
            q[k] = MUL_ADD(d, d, q[k]);
        }
    }
    for (int k = 1; k < CHAINS; k++) {
        s[0] += s[k];
        q[0] += q[k];
    }
    for (; i < n; i++) {
        const double d = (double)x[i] - pivot;
        sum += d;
        squares += d * d;
    }
    sum = (sum + total_of(s)) / (double)n;
    squares = (squares + total_of(q)) / (double)n - sum * sum;
    *mean = pivot + sum;
    *inv = 1 / sqrt((squares < 0 ? 0 : squares) + eps); /* NaN stays */
}

static void apply(int64_t n, const float *x, float mean, float inv, const float *gamma,
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

INLINE void sums_back_of(const int groups, const bool scales, int64_t n, const float *x,
                         const float *g, const float *gamma, const float *mean, const float *inv,
                         double *sum_q, double *sum_qz, double *dgamma, double *dbeta)
{
    d8 s[TI_GROUPS] = {{0}}, t[TI_GROUPS] = {{0}};
    int64_t i = 0;

    for (; i + 8 <= n; i += 8) {
        GET(d8, own_gamma, dgamma + i);
        GET(d8, own_beta, dbeta + i);
        GET(f8, factor, scales ? gamma + i : g);
        UNROLL for (int k = 0; k < groups; k++)
        {
            GET(f8, v, x + k * n + i);
            GET(f8, w, g + k * n + i);
            const d8 own = __builtin_convertvector(w, d8);
            const d8 z = __builtin_convertvector(v - mean[k], d8);
            const d8 q = scales ? own * __builtin_convertvector(factor, d8) : own;
            s[k] += q;
            t[k] = MUL_ADD(q, z, t[k]);
            own_beta += own;
            own_gamma = MUL_ADD(own, z * (double)inv[k], own_gamma);
        }
        memcpy(dgamma + i, &own_gamma, sizeof own_gamma);
        memcpy(dbeta + i, &own_beta, sizeof own_beta);
    }
    for (int k = 0; k < groups; k++) {
        sum_q[k] = total_of(&s[k]);
        sum_qz[k] = total_of(&t[k]);
        for (int64_t j = i; j < n; j++) {
            const double own = (double)g[k * n + j], z = (double)(x[k * n + j] - mean[k]);
            const double q = scales ? own * (double)gamma[j] : own;
            sum_q[k] += q;
            sum_qz[k] += q * z;
            dbeta[j] += own;
            dgamma[j] += own * (z * (double)inv[k]);
        }
    }
}

static void sums_back(int groups, int64_t n, const float *x, const float *g, const float *gamma,
                      const float *mean, const float *inv, double *sum_q, double *sum_qz,
                      double *dgamma, double *dbeta)
{
    int k = 0;

    if (groups == TI_GROUPS && gamma) {
        sums_back_of(TI_GROUPS, true, n, x, g, gamma, mean, inv, sum_q, sum_qz, dgamma, dbeta);
        return;
    }
    for (; k < groups && gamma; k++)
        sums_back_of(1, true, n, x + k * n, g + k * n, gamma, mean + k, inv + k, sum_q + k,
                     sum_qz + k, dgamma, dbeta);
    for (; k < groups; k++)
        sums_back_of(1, false, n, x + k * n, g + k * n, NULL, mean + k, inv + k, sum_q + k,
                     sum_qz + k, dgamma, dbeta);
}

static void apply_back(int64_t n, const float *x, const float *g, const float *gamma, float mean,
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

const ti_groups TI_SIMD(ti_groups) = {
    .statistics = statistics,
    .apply = apply,
    .sums_back = sums_back,
    .apply_back = apply_back,
};
