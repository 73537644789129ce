/* compare.h - what the files of the verb `compare` share. */
#ifndef CLI_COMPARE_H
#define CLI_COMPARE_H

#include "cli/options.h"
#include "cli/session.h"
#include "tern/tern.h"

enum { SIDES = 2 }; /* a table has room for two */

typedef struct {
    tern_distance d;
    int64_t step; /* of all steps, the one in which it was farthest off */
} side_result;
typedef struct {
    tern_compare_tensor t;
    int64_t failed_at; /* the first step in which a side was outside, 0: none */
    side_result side[SIDES];
} tensor_result;

typedef struct {
    cli *c;
    run_net run; /* of --model: only ctx, net and size */
    const char *subject, *input;
    tern_optim *opt;
    tern_data *data; /* NULL: made images */
    tern_loader *loader;
    int64_t batch, steps;
    int n_side;
    tern_ctx *side[SIDES];
    tern_compare *compare;
    int n;
    tensor_result *tensor;
    int i_fault; /* the planted fault, -1: none */
    double rel;
} comparison;

/* What a tensor's results say. */
typedef enum { SAYS_EQUAL, SAYS_OK, SAYS_MISSING, SAYS_OUTSIDE } says;
says tensor_says(const comparison *k, int i);
/* The tensor that was outside first: by step, then in the order of the calls. -1: none. */
int first_outside(const comparison *k);
int count_says(const comparison *k, says what);
int compare_status(const comparison *k);

/* compare_inject.c: --inject; false after a message. */
bool inject_read(comparison *k);

/* compare_print.c: tables and sentences, or one document. */
void compare_text(const comparison *k);
void compare_document(const comparison *k);

#endif
