/*
 * tune.h - choices by the clock: the choice (tune.c), the clock (tune_clock.c), the table and its
 * file (tune_file.c).
 */
#ifndef TI_TUNE_H
#define TI_TUNE_H

#include "core/core.h"
#include "tern/tune.h"

enum { TI_TUNE_NAME = 32, TI_TUNE_WHERE = 200, TI_TUNE_PATH = 1024 };

/* One choice, a line of the file. */
typedef struct {
    uint64_t key, hash;                          /* hash: of all lines up to this one */
    char op[TI_TUNE_NAME], kernel[TI_PLAN_TEXT]; /* or a library's plan */
    double ns;
    char where[TI_TUNE_WHERE]; /* the device, for people: it is part of the key */
} ti_tuned;

/* Gives the seconds that are to count for a sample of a kernel; for tests. */
typedef double (*ti_clock_fn)(void *user, const char *kernel, double seconds);

typedef struct ti_tune {
    char path[TI_TUNE_PATH], stamp[32], where[TI_TUNE_WHERE];
    ti_tuned *all;
    int n, cap, n_timed;
    bool lost; /* the file is another one now: it is left alone */
    ti_tuner tuner;
    ti_clock_fn clock;
    void *user;
} ti_tune;

/* tune_file.c. Reads all of t->path. */
tern_status ti_tune_read(tern_ctx *ctx, ti_tune *t);
const ti_tuned *ti_tune_find(const ti_tune *t, uint64_t key);
/* Where it stands in the file, from 1. */
int ti_tune_line(const ti_tune *t, const ti_tuned *choice);
/* Adds and writes what was not there; the choice that stands then, or NULL and a failure. */
const ti_tuned *ti_tune_add(tern_ctx *ctx, ti_tune *t, const ti_tuned *choice);

/* apply.c. Why the context's settings or the row do not allow it; lays `in` as the row wants it. */
const char *ti_row_refuses(tern_ctx *ctx, const ti_row *row, const ti_call *c, const ti_work *w,
                           ti_view *in);
/* Whether input i must be repacked or rounded for it. */
bool ti_row_packs(const ti_row *row, const ti_call *c, int i);
size_t ti_row_scratch(const ti_row *row, const ti_work *w);

/* tune_clock.c. Seconds that the row takes; -1: it does not take the call, or cannot be timed. */
double ti_tune_row(tern_ctx *ctx, const ti_call *c, const ti_row *row, ti_work w, ti_view *in);
/* As ti_tuner.time. */
void ti_tune_plans(const ti_tuner *t, const ti_work *call, void (*run)(const ti_work *w),
                   size_t scratch, int n, void *const *plan, const char *const *name,
                   double *seconds);

/* tune.c. The kernel that is chosen for the call, timed now if it never was; NULL: by cost. w:
 * views of the outputs; in: room for those of the inputs. */
const char *ti_tune_choose(tern_ctx *ctx, const ti_call *c, unsigned wanted, ti_work *w,
                           ti_view *in);
/* For rows that prepare; NULL: kernels are not chosen by the clock. */
ti_tuner *ti_tune_tuner(tern_ctx *ctx);
void ti_tune_close(tern_ctx *ctx);
/* Before tern_tune: samples go through fn. */
void ti_tune_clock(tern_ctx *ctx, ti_clock_fn fn, void *user);

#endif
