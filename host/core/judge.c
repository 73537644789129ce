/*
 * judge.c - how far results are from exact ones, and whether a bound allows it.
 *
 * An element may be off by u (1 + 1/100) bound + tiny: the hundredth is what the reference in
 * double has of errors of its own, tiny the smallest step of the type, which no relative bound
 * covers. An element that has the rounded reference's bits is right whatever the bound says.
 */
#include "core/judge.h"

#include <math.h>
#include <string.h>

tern_type ti_working_type(int n, tern_tensor *const *in, tern_type otherwise)
{
    for (int i = 0; i < n; i++)
        if (in[i] && (in[i]->m.type == TERN_F32 || in[i]->m.type == TERN_F64)) return in[i]->m.type;
    return otherwise;
}

/* ---- Steps between numbers ---- */

/* Floats in their order as whole numbers: neighbours differ by 1, and both zeros are 0. */
static double place_f32(double x)
{
    const float f = (float)x;
    int32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits < 0 ? -(double)(bits & INT32_MAX) : (double)bits;
}

static double steps_f64(double a, double b)
{
    int64_t x, y;

    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    if ((x < 0) != (y < 0)) return (double)(x & INT64_MAX) + (double)(y & INT64_MAX);
    return fabs((double)(x - y));
}

/* Where two differ as much as a number and NaN the distance is infinite. */
static double steps(tern_type type, double a, double b)
{
    if (isnan(a) || isnan(b)) return INFINITY;
    if (type == TERN_F32) return fabs(place_f32(a) - place_f32(b));
    return type == TERN_F64 ? steps_f64(a, b) : fabs(a - b);
}

/* Counts of distances: one for each up to 255, one for each power of 2 beyond. */
enum { EXACT = 256, BINS = EXACT + 60 };

static int bin_of(double distance)
{
    if (distance < EXACT) return (int)distance;
    const int bin = isinf(distance) ? BINS : EXACT + ilogb(distance) - 8;
    return bin < BINS ? bin : BINS - 1;
}

/* The least distance that 99 of 100 elements do not exceed. */
static double percentile(const int64_t *count, int64_t n)
{
    int64_t left = n - n / 100;
    int i = 0;

    while (i < BINS - 1 && (left -= count[i]) > 0) i++;
    if (i < EXACT) return (double)i;
    return i == BINS - 1 ? INFINITY : ldexp(1, i - EXACT + 9);
}

/* ---- Judgement ---- */

static void count_in(tern_distance *d, const ti_judged *j, int64_t k, double allowed)
{
    const double got = j->got[k], want = j->want[k], error = fabs(got - want);
    const double share = j->bound ? error / allowed : INFINITY;

    d->n_unequal++;
    if (!(share <= 1)) d->n_beyond++;
    if (!(error <= d->max_abs)) d->max_abs = isnan(error) ? INFINITY : error;
    if (want != 0 && !(error <= d->max_rel * fabs(want)))
        d->max_rel = isnan(error) ? INFINITY : error / fabs(want);
    if (d->worst >= 0 && share <= d->share) return;
    d->share = isnan(share) ? INFINITY : share;
    d->worst = k;
    d->got = got;
    d->want = want;
}

void ti_judge(tern_distance *d, const ti_judged *j)
{
    const double u = j->work == TERN_F32 ? 0x1p-24 * 1.01 : 0x1p-52;
    const double tiny = j->work == TERN_F32 ? 0x1p-149 : 0x1p-1074;
    int64_t count[BINS] = {0};

    d->n = j->n;
    d->exact = j->bound == NULL;
    d->n_unequal = d->n_beyond = 0;
    d->max_abs = d->max_rel = d->ulp_max = d->share = d->got = d->want = 0;
    d->worst = -1;
    for (int64_t k = 0; k < j->n; k++) {
        const double w = j->type == TERN_F32 ? (double)(float)j->want[k] : j->want[k];

        if (w == j->got[k] || (isnan(w) && isnan(j->got[k]))) {
            count[0]++;
            continue;
        }
        const double far = steps(j->type, j->got[k], w);
        count[bin_of(far)]++;
        if (far > d->ulp_max) d->ulp_max = far;
        count_in(d, j, k, j->bound ? u * j->bound[k] + tiny : 0);
    }
    d->ulp_p99 = percentile(count, j->n);
    if (d->ulp_p99 > d->ulp_max) d->ulp_p99 = d->ulp_max;
}
