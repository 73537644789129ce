/* summary.h - what the files of the verb `summary` share. */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "cli/options.h"
#include "tern/tern.h"

/* summary_program.c: as --program and --plot want it; false: that was said, or is in ctx. */
bool summary_program(cli *c, tern_ctx *ctx, tern_program *p, const char *model, int64_t batch);
/* program_plot.c: calls with their arcs, lifetimes below; path NULL: SVG to stdout. */
bool program_plot(const tern_program *p, const char *model, int64_t batch, const char *path);

#endif
