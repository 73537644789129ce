/* bench.c - the verb `bench`: which kind of measurement is asked for. */
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"
#include "cli/verbs.h"

static const struct {
    const char *name;
    int (*run)(cli *c);
} kinds[] = {{"ops", bench_ops},
             {"model", bench_model},
             {"suite", bench_suite},
             {"pool", bench_pool},
             {"launch", bench_launch}};

int verb_bench(cli *c)
{
    const char *names[8] = {0}, *near;

    if (strcmp(cli_text(c, "format"), "text") == 0) cli_default(c, "format", "md");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        names[i] = kinds[i].name;
        if (c->n_arg && strcmp(c->arg[0], kinds[i].name) == 0) return kinds[i].run(c);
    }
    if (c->n_arg == 0)
        return usage_error(c, "bench takes: ops, model NAME, suite NAME, pool, launch");
    near = nearest(c->arg[0], names);
    return usage_error(c, "there is no bench %s%s%s%s", c->arg[0], near ? "; did you mean " : "",
                       near ? near : "", near ? "?" : "");
}
