/* verbs.h - one function for each verb; all give the exit status. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/options.h"

int verb_train(cli *c);
int verb_eval(cli *c);
int verb_predict(cli *c);
int verb_summary(cli *c);
int verb_devices(cli *c);
int verb_info(cli *c);
int verb_op(cli *c);
int verb_bench(cli *c);
int verb_compare(cli *c);

#endif
