/* job.h - one training run of the command: what train.c sets up and job.c tells about. */
#ifndef CLI_JOB_H
#define CLI_JOB_H

#include "cli/options.h"
#include "tern/tern.h"

typedef struct {
    tern_ctx *ctx;
    char *folder;
    bool fresh, resumed;
    tern_data *train, *val, *test;
    tern_model_opts size; /* that the net was made for */
    tern_module *net;
    char *net_text; /* the sections that describe it; NULL: it has a name */
    tern_optim *opt;
    tern_status status; /* of the fit */
    tern_fit_result fit;
} job;

void job_header(cli *c, job *j); /* version, device, seed, run */
int job_batch(cli *c, job *j);   /* settles --batch auto */
/* Data, layers, memory; a plan that does not fit is refused. */
int job_start(cli *c, job *j, int64_t steps);
tern_status job_environment(cli *c, job *j); /* env.json */
int job_results(cli *c, job *j);             /* test, result.json, the last lines */
int job_stopped(cli *c, job *j);             /* by a signal, or by the guard */

#endif
