/*
 * pattern.h - patterns of lines in the text of fused ops, and where they fit in a program.
 */
#ifndef TI_PATTERN_H
#define TI_PATTERN_H

#include "core/program.h"

enum { TI_PATTERN_LINES = 6, TI_NAMES = 24 };

typedef struct {
    int n;
    char text[TI_NAMES][16];
} ti_names;

typedef struct {
    const ti_op *op;
    int n_in, n_out, in[TI_FEW], out[TI_OUTS]; /* numbers of names; -1: absent */
    char opts[64];
} ti_pattern_line;

typedef struct {
    int n;
    const char *text;
    ti_pattern_line line[TI_PATTERN_LINES];
} ti_pattern;

typedef struct {
    const ti_plan *p;
    const int *maker;            /* of each value: its line, or -1 */
    const int *taken;            /* of each line: not -1 if it may not fit any more */
    const ti_arg *arg[TI_NAMES]; /* what a name stands for; NULL: nothing yet */
    int line[TI_PATTERN_LINES];  /* of the program, for each line of the pattern */
} ti_match;

/* How many lines the text has; the pattern, with its names added to those there are. False: the
 * text is none, which is a mistake in an op's table. */
int ti_pattern_length(const char *text);
bool ti_pattern_parse(const char *text, ti_names *names, ti_pattern *to);

/* Whether the pattern fits with line i as its last line and the names bound so far. Without it the
 * match is as it was. */
bool ti_pattern_fits(ti_match *m, const ti_pattern *t, int i);

#endif
