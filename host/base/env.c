/*
 * env.c - the only reader of the environment.
 */
#include "base/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ti_env_get(const char *name) { return getenv(name); }

bool ti_listed(const char *list, const char *word)
{
    const size_t n = strlen(word);

    while (*list) {
        const size_t length = strcspn(list, ",");
        if (length == n && strncmp(list, word, n) == 0) return true;
        list += length;
        if (*list == ',') list++;
    }
    return false;
}

static void complain(ti_env *e, const char *name, const char *value, const char *want)
{
    if (!e->bad[0]) snprintf(e->bad, sizeof e->bad, "%s=%.40s: %s", name, value, want);
}

static void text(ti_env *e, const char *name, char *to, size_t room)
{
    const char *value = getenv(name);

    if (!value) return;
    if (strlen(value) < room) strcpy(to, value);
    else complain(e, name, value, "the value is too long");
}

/* A whole number in least … most; false if the variable is not set. */
static bool number(ti_env *e, const char *name, uint64_t least, uint64_t most, uint64_t *to)
{
    const char *value = getenv(name);
    char want[80], *end;

    if (!value || !*value) return false;
    errno = 0;
    *to = strtoull(value, &end, 10);
    if (*end == 0 && errno == 0 && *value != '-' && *to >= least && *to <= most) return true;
    snprintf(want, sizeof want, "a whole number from %llu to %llu is wanted",
             (unsigned long long)least, (unsigned long long)most);
    complain(e, name, value, want);
    return false;
}

void ti_env_read(ti_env *e)
{
    uint64_t n = 0;

    memset(e, 0, sizeof *e);
    text(e, "TERN_DEVICE", e->device, sizeof e->device);
    text(e, "TERN_DISABLE", e->disable, sizeof e->disable);
    text(e, "TERN_LOG", e->log, sizeof e->log);
    text(e, "TERN_TRACE", e->trace, sizeof e->trace);
    text(e, "TERN_CHECK", e->check, sizeof e->check);
    text(e, "TERN_DATA_PATH", e->data_path, sizeof e->data_path);
    if (number(e, "TERN_THREADS", 1, 256, &n)) e->threads = (int)n;
    e->has_seed = number(e, "TERN_SEED", 0, UINT64_MAX, &e->seed);
    if (number(e, "TERN_POOL_BYTES", 0, SIZE_MAX / 2, &n)) e->pool_bytes = (size_t)n;
}
