/* A program that finds Tern by pkg-config. Its argument is the version that pkg-config named. */
#include <stdio.h>
#include <string.h>
#include <tern/base.h>

int main(int argc, char **argv)
{
    tern_ctx *ctx;
    int failed =
        tern_open(&ctx, "cpu") != TERN_OK || argc != 2 || strcmp(tern_version(), argv[1]) != 0;

    printf("tern %s (asked for %s): %s\n", tern_version(), argc == 2 ? argv[1] : "nothing",
           failed ? tern_error_text(ctx) : "open");
    return tern_close(ctx) != TERN_OK || failed;
}
