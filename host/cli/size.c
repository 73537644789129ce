/* size.c - sizes in bytes, as people write them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"

double size_parse(const char *text)
{
    static const char letters[] = "KMGT";
    char *end;
    const double x = strtod(text, &end);
    const char *unit = *end ? strchr(letters, *end) : NULL;
    double bytes = x;

    if (end == text || !(*text >= '0' && *text <= '9') || !isfinite(x)) return NAN;
    if (!*end || strcmp(end, "B") == 0) return floor(bytes);
    if (!unit) return NAN;
    const bool decimal = strcmp(end + 1, "B") == 0;
    if (!decimal && end[1] && strcmp(end + 1, "iB") != 0) return NAN;
    for (const char *at = letters; at <= unit; at++) bytes *= decimal ? 1000 : 1024;
    return floor(bytes);
}
