/* stats.c - medians, quantiles, bootstrap intervals, verdicts. */
#include "cli/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"

enum { RESAMPLES = 2000, ROUNDS = 64 };

const char *const verdict_names[] = {"same", "faster", "SLOWER", "unsure"};
const char *const verdict_keys[] = {"same", "faster", "slower", "unsure"};

void samples_put(samples *s, double x, int round)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->x = cli_realloc(s->x, (size_t)s->room * sizeof *s->x);
        s->round = cli_realloc(s->round, (size_t)s->room * sizeof *s->round);
    }
    s->x[s->n] = x;
    s->round[s->n++] = round;
}

void samples_free(samples *s)
{
    free(s->x);
    free(s->round);
    *s = (samples){0};
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

void sort_doubles(double *x, int n) { qsort(x, (size_t)n, sizeof *x, by_size); }

double quantile(const double *sorted, int n, double share)
{
    const double at = share * (n - 1);
    const int i = (int)at;

    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

void samples_sum(samples *s)
{
    double *sorted;

    s->median = s->least = s->q25 = s->q75 = s->noise = 0;
    if (s->n == 0) return;
    sorted = cli_alloc((size_t)s->n * sizeof *sorted);
    memcpy(sorted, s->x, (size_t)s->n * sizeof *sorted);
    sort_doubles(sorted, s->n);
    s->median = quantile(sorted, s->n, 0.5);
    s->least = sorted[0];
    s->q25 = quantile(sorted, s->n, 0.25);
    s->q75 = quantile(sorted, s->n, 0.75);
    s->noise = s->median > 0 ? (s->q75 - s->q25) / s->median : 0;
    free(sorted);
}

/* ---- Two of them ----------------------------------------------------------------------------- */

typedef struct {
    const samples *s;
    double *sorted; /* values, ascending, with their places: */
    int *place;     /* in the order by rounds */
    int *count;     /* how often a resample has taken each */
    int *by_round;  /* sample indices by round */
    int first[ROUNDS + 1], n_round;
} pool;

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) * below >> 31;
}

typedef struct {
    double x;
    int i;
} pair;

static int pair_by_size(const void *a, const void *b) { return by_size(a, b); }

static void pool_make(pool *p, const samples *s)
{
    pair *pairs = cli_alloc((size_t)s->n * sizeof *pairs);
    int at = 0, last = 0;

    *p = (pool){.s = s};
    p->sorted = cli_alloc((size_t)s->n * sizeof *p->sorted);
    p->place = cli_alloc((size_t)s->n * sizeof *p->place);
    p->count = cli_alloc((size_t)s->n * sizeof *p->count);
    p->by_round = cli_alloc((size_t)s->n * sizeof *p->by_round);
    for (int i = 0; i < s->n; i++) {
        pairs[i] = (pair){s->x[i], i};
        if (s->round[i] > last) last = s->round[i];
    }
    for (int r = 0; r <= last && p->n_round < ROUNDS; r++) {
        const int from = at;
        for (int i = 0; i < s->n; i++)
            if (s->round[i] == r || (r == ROUNDS - 1 && s->round[i] > r)) p->by_round[at++] = i;
        if (at > from) p->first[p->n_round++] = from;
    }
    p->first[p->n_round] = at;
    qsort(pairs, (size_t)s->n, sizeof *pairs, pair_by_size);
    for (int i = 0; i < s->n; i++) {
        p->sorted[i] = pairs[i].x;
        p->place[pairs[i].i] = i;
    }
    free(pairs);
}

static void pool_free(pool *p)
{
    free(p->sorted);
    free(p->place);
    free(p->count);
    free(p->by_round);
}

/* The median of rounds drawn with replacement, and of samples drawn within each. */
static double pool_median(pool *p, uint64_t *state)
{
    int taken = 0, seen = 0, low = -1;

    memset(p->count, 0, (size_t)p->s->n * sizeof *p->count);
    for (int r = 0; r < p->n_round; r++) {
        const int k = (int)draw(state, (uint64_t)p->n_round);
        const int from = p->first[k], size = p->first[k + 1] - from;

        for (int i = 0; i < size; i++)
            p->count[p->place[p->by_round[from + (int)draw(state, (uint64_t)size)]]]++;
        taken += size;
    }
    for (int i = 0; i < p->s->n; i++) {
        seen += p->count[i];
        if (low < 0 && seen >= (taken + 1) / 2) low = i;
        if (seen >= taken / 2 + 1) return (p->sorted[low] + p->sorted[i]) / 2;
    }
    return p->sorted[p->s->n - 1];
}

verdict compare_samples(const samples *base, const samples *now, double threshold)
{
    double *ratio, a = 0, b = 0;
    uint64_t state = 20240229;
    samples one = *base, two = *now;
    pool p, q;
    verdict v = {.kind = IS_UNSURE, .low = -INFINITY, .high = INFINITY};

    if (base->n < 3 || now->n < 3) return v;
    samples_sum(&one);
    samples_sum(&two);
    if (!(one.median > 0)) return v;
    v.change = two.median / one.median - 1;
    pool_make(&p, base);
    pool_make(&q, now);
    ratio = cli_alloc(RESAMPLES * sizeof *ratio);
    for (int i = 0; i < RESAMPLES; i++) {
        a = pool_median(&p, &state);
        b = pool_median(&q, &state);
        ratio[i] = b / a - 1;
    }
    sort_doubles(ratio, RESAMPLES);
    v.low = quantile(ratio, RESAMPLES, 0.025);
    v.high = quantile(ratio, RESAMPLES, 0.975);
    free(ratio);
    pool_free(&p);
    pool_free(&q);
    if (v.low > threshold) v.kind = IS_SLOWER;
    else if (v.high < -threshold) v.kind = IS_FASTER;
    else if (v.low >= -threshold && v.high <= threshold) v.kind = IS_SAME;
    return v;
}
