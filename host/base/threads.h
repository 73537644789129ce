/*
 * threads.h - the one thread pool of a CPU device.
 *
 * Work is cut into chunks whose number and shapes depend on the problem only, never on the number
 * of threads; workers take chunks from a shared counter. So results do not depend on threads, as
 * long as each chunk writes what no other chunk touches (or partial results that are combined
 * afterwards in the chunks' order).
 */
#ifndef TI_THREADS_H
#define TI_THREADS_H

#include <stdint.h>

typedef struct ti_threads ti_threads;
/* i_worker: 0 … count-1, for scratch of a worker's own; never let results depend on it. */
typedef void (*ti_chunk_fn)(void *arg, int64_t i_chunk, int i_worker);

/* A pool of n threads, the caller counted. Workers start with the first run that needs them.
 * NULL without memory. */
ti_threads *ti_threads_open(int n);
void ti_threads_close(ti_threads *t);      /* NULL is legal */
int ti_threads_count(const ti_threads *t); /* NULL: 1 */
/* Runs fn on chunks 0 … n_chunks-1 and returns when all are done. NULL or one chunk: in place,
 * in order. A run inside a run is serial. */
void ti_threads_run(ti_threads *t, int64_t n_chunks, ti_chunk_fn fn, void *arg);
/* Cores that this process may use (affinity, cgroup quota), at least 1. */
int ti_threads_default(void);

#endif
