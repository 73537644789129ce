/* env.h - the environment as the command sees it; the library reads its own TERN_* in base/env. */
#ifndef CLI_ENV_H
#define CLI_ENV_H

/* The value of a variable, NULL if it is not set. The only getenv of the command. */
const char *cli_env(const char *name);

#endif
