/* range.c - lists and ranges of whole numbers: "1,2,8", "64..1024*2", "1..4+1", "1..4". */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"

enum { MOST = 4096 };

static bool number(const char **at, int64_t *n)
{
    char *end;

    errno = 0;
    *n = strtoll(*at, &end, 10);
    if (end == *at || errno || strchr(" \t\n\v\f\r+", **at)) return false;
    *at = end;
    return true;
}

int ints_parse(const char *text, int64_t **list)
{
    const char *at = text;
    int64_t from, to, by;
    int n = 0;

    *list = NULL;
    do {
        char step = '+';

        if (n) at++; /* the comma */
        if (!number(&at, &from)) goto none;
        to = from;
        by = 1;
        if (strncmp(at, "..", 2) == 0) {
            at += 2;
            if (!number(&at, &to) || to < from) goto none;
            if (*at == '*' || *at == '+') {
                step = *at++;
                if (!number(&at, &by) || by < (step == '*' ? 2 : 1)) goto none;
            }
            if (step == '*' && from < 1) goto none;
        }
        for (int64_t x = from; x <= to;) {
            if (n == MOST) goto none;
            *list = cli_realloc(*list, (size_t)(n + 1) * sizeof **list);
            (*list)[n++] = x;
            if (step == '*' ? x > to / by : x > to - by) break;
            x = step == '*' ? x * by : x + by;
        }
    } while (*at == ',');
    if (!*at) return n;
none:
    free(*list);
    *list = NULL;
    return 0;
}
