/* expect.cpp - how the self-tests count. */
#include "expect.h"

#include <cstdarg>
#include <cstdio>

int n_passed, n_failed;

void expect(bool good, const char *format, ...)
{
    va_list args;

    if (good) {
        n_passed++;
        return;
    }
    n_failed++;
    fprintf(stderr, "FAILED: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}
