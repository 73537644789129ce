/* env.c - the only place of the command that reads the environment. */
#include "cli/env.h"

#include <stdlib.h>

const char *cli_env(const char *name) { return getenv(name); }
