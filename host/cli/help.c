/* help.c - help texts, from the tables of verbs and options. */
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/out.h"

static void rows(unsigned bit, bool global)
{
    for (int i = 0; i < option_count; i++) {
        const option *o = &option_table[i];
        char left[96];

        if ((o->verbs == V_ALL) != global || !(o->verbs & bit)) continue;
        snprintf(left, sizeof left, "%s%c%s--%s %s", o->letter ? "-" : "",
                 o->letter ? o->letter : ' ', o->letter ? ", " : "   ", o->name,
                 o->value ? o->value : "");
        if (strlen(left) > 30) result("  %s\n  %-30s  %s", left, "", o->help);
        else result("  %-30s  %s", left, o->help);
        if (o->built_in && strcmp(o->built_in, "0") != 0) result(" [%s]", o->built_in);
        result("\n");
    }
}

void cli_help(const verb *v)
{
    const char *bold = style_out("bold"), *off = style_out("off");

    if (v) {
        result("%s%s%s\n\n%sexamples%s\n%s\n%susage%s\n  %s\n", bold, v->line, off, bold, off,
               v->examples, bold, off, v->usage);
        result("\n%soptions%s\n", bold, off);
        rows(v->bit, false);
        result("\n%sfor all verbs%s\n", bold, off);
        rows(v->bit, true);
        return;
    }
    result("%sTern trains neural networks on images%s\n\n%sexamples%s\n", bold, off, bold, off);
    result("  tern train --data fashion-mnist --model lenet5\n"
           "  tern eval runs/fashion-mnist-lenet5\n"
           "  tern predict runs/fashion-mnist-lenet5 coat.png --top 3\n\n%sverbs%s\n",
           bold, off);
    for (v = verb_table; v->name; v++) result("  %-10s %s\n", v->name, v->line);
    result("\n%sfor all verbs, before and after them%s\n", bold, off);
    rows(V_HELP, true);
    result(
        "\n%sexit status%s\n"
        "  0 done    1 could not do it (file, device, memory, format)    2 wrong usage or config\n"
        "  3 compare: outside a bound    5 training stopped: non-finite values\n"
        "  128+n ended by signal n, state saved\n",
        bold, off);
}
