/*
 * fastest.c - of several plans of a library the fastest one that agrees with our own row.
 *
 * All are timed, then tried in the order of their times: checking costs more than timing, and only
 * the plan that is kept computes anything that counts. The library's first choice stays unless
 * another one is 3 % faster. A plan that fails when it is timed is left out.
 */
#include "vendor.h"

static const double GAIN = 0.97;

/* One plan on the clock; w->plan is the candidate. */
static void run_candidate(const ti_work *w)
{
    ti_candidate *c = (ti_candidate *)(uintptr_t)w->plan;
    ti_work inner = *w;

    if (c->failed) return;
    inner.plan = c->plan;
    c->run(&inner);
    if (!w->device->failed[0] || cudaStreamSynchronize(w->device->stream) != cudaSuccess) return;
    w->device->failed[0] = 0; /* the call was refused; the device is well */
    c->failed = true;
}

/* The seconds of those that ran, -1 of others. */
static void time_all(const ti_work *w, ti_candidate *c, int n)
{
    void *plan[TI_CANDIDATES] = {NULL};
    const char *name[TI_CANDIDATES] = {NULL};
    double seconds[TI_CANDIDATES] = {0};
    size_t scratch = 0;

    for (int i = 0; i < n; i++) {
        plan[i] = &c[i];
        name[i] = c[i].name;
        if (c[i].scratch > scratch) scratch = c[i].scratch;
    }
    w->tuner->time(w->tuner, w, run_candidate, scratch, n, plan, name, seconds);
    for (int i = 0; i < n; i++) c[i].seconds = c[i].failed ? -1 : seconds[i];
}

/* The fastest that was not tried yet; -1: there is none. */
static int next(const ti_candidate *c, int n)
{
    int best = -1;
    double least = 0;

    for (int i = 0; i < n; i++) {
        const double s = i == 0 ? GAIN * c[i].seconds : c[i].seconds;

        if (c[i].seconds >= 0 && (best < 0 || s < least)) best = i, least = s;
    }
    return best;
}

int ti_fastest(const ti_work *w, const ti_row *own, ti_candidate *c, int n, double chain,
               ti_math math, const char **why)
{
    *why = "none of its plans could be timed";
    time_all(w, c, n);
    for (int i; (i = next(c, n)) >= 0; c[i].seconds = -1) {
        ti_work trial = *w;

        trial.plan = c[i].plan;
        trial.varies = c[i].varies;
        *why = ti_trust(&trial, own, c[i].run, c[i].scratch, chain, math, c[i].name);
        if (!*why) return i;
        if (w->device->failed[0]) break;
    }
    return -1;
}
