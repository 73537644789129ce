/* A program that finds Tern by find_package. */
#include <stdio.h>
#include <string.h>
#include <tern/base.h>

int main(void)
{
    tern_ctx *ctx;
    int failed = tern_open(&ctx, "cpu") != TERN_OK || strcmp(tern_version(), EXPECTED) != 0;

    printf("tern %s (package %s) on %s: %s\n", tern_version(), EXPECTED, tern_device(ctx),
           failed ? tern_error_text(ctx) : "open");
    return tern_close(ctx) != TERN_OK || failed;
}
