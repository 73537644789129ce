/* memory.h - what a net's training takes, told, kept within what there is, or refused. */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include "cli/options.h"
#include "tern/tern.h"

typedef struct {
    tern_ctx *ctx;
    tern_module *net;
    tern_optim *opt;
    tern_shape x; /* of a batch */
    size_t asked; /* --memory, or 0 */
    double room;  /* that, else the pool's cap, else what the machine has free */
} memory_job;

/* x: of a batch, whose first extent may still be open. */
memory_job memory_of(const cli *c, tern_ctx *ctx, tern_module *net, tern_optim *opt, tern_shape x);

/* Settles --batch auto: the largest multiple of 64 that fits, or power of two below that, of 1 …
 * `most`. m->x has its batch from then on. EXIT_DONE, or a status after a message. */
int memory_batch(cli *c, memory_job *m, int64_t most);

/* The plan of training. EXIT_DONE, or a status after a message: it is more than there is. */
int memory_plan(const memory_job *m, tern_memory_plan *plan);

#endif
