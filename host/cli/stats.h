/*
 * stats.h - samples of a time, and what can be said about two of them.
 */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include <stdint.h>

/* Samples were taken in rounds, apart in time: within one they resemble each other. */
typedef struct {
    double *x;
    int *round;
    int n, room;
    int disturbed; /* samples that the system got in the way of */
    /* By samples_sum: */
    double median, least, q25, q75, noise; /* noise: (q75 - q25) / median */
} samples;

void samples_put(samples *s, double x, int round);
void samples_sum(samples *s);
void samples_free(samples *s);
/* The value below which a share of the sorted samples lies. */
double quantile(const double *sorted, int n, double share);
void sort_doubles(double *x, int n);

typedef enum { IS_SAME, IS_FASTER, IS_SLOWER, IS_UNSURE } verdict_kind;
extern const char *const verdict_names[]; /* for people; */
extern const char *const verdict_keys[];  /* for JSON */
typedef struct {
    verdict_kind kind;
    double change, low, high; /* of the medians: 0.1 is 10 % slower; 95 % interval */
} verdict;
/*
 * now against base. The interval is of 2000 resamples of rounds, and of samples within them, by a
 * generator that starts the same each time. Slower (faster): all of it lies beyond +threshold
 * (-threshold). Same: all of it lies within. Unsure: else.
 */
verdict compare_samples(const samples *base, const samples *now, double threshold);

#endif
