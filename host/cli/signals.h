/* signals.h - the only signal handlers of the project. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <stdbool.h>

#include "tern/base.h"

/* A closed pipe is an error of the write, not the end of the process. */
void signals_ignore_pipe(void);
/* From now on the first SIGINT or SIGTERM asks ctx to stop after its step, the second one ends the
 * process at once; SIGUSR1 asks for a checkpoint. */
void signals_watch(tern_ctx *ctx);
void signals_unwatch(void);
int signals_got(void);        /* SIGINT or SIGTERM, or 0 */
bool signals_want_save(void); /* whether SIGUSR1 came since the last call */

#endif
