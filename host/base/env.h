/*
 * env.h - the environment, read once when a context opens; nothing else calls getenv.
 */
#ifndef TI_ENV_H
#define TI_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char device[64];     /* TERN_DEVICE, "" if not set */
    char disable[128];   /* TERN_DISABLE: "program,graph,avx512" */
    char log[128];       /* TERN_LOG: topics */
    char trace[256];     /* TERN_TRACE: a file for the Chrome trace */
    char check[128];     /* TERN_CHECK: "trace,poison,leak,nan,sync" */
    char data_path[512]; /* TERN_DATA_PATH */
    int threads;         /* TERN_THREADS, 0 if not set */
    bool has_seed;
    uint64_t seed;     /* TERN_SEED */
    size_t pool_bytes; /* TERN_POOL_BYTES, 0: no cap */
    char bad[128];     /* the first variable that makes no sense and why, or "" */
} ti_env;

void ti_env_read(ti_env *env);
/* Whether a comma-separated list has the word. */
bool ti_listed(const char *list, const char *word);
/* The value of an environment variable, for the few that are not Tern's own (HOME, XDG_DATA_HOME);
 * NULL if not set. */
const char *ti_env_get(const char *name);

#endif
