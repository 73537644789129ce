/* progress.h - what a training run shows while it goes on. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "tern/train.h"

typedef struct {
    tern_ctx *ctx;
    const char *run;    /* folder */
    double drawn, line; /* when the last bar or line was shown */
    bool told;          /* that a signal came */
    bool saving;        /* SIGUSR1: the next step has saved */
    bool resumed;       /* to be told with the first step */
} progress;

/* Callbacks for tern_fit; user is a progress. */
void progress_epoch(const tern_epoch *e, void *user);
tern_wish progress_step(const tern_progress *at, void *user);
/* The line above the epochs, on a terminal. */
void progress_head(void);

#endif
