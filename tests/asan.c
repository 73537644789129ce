/*
 * asan.c - AddressSanitizer watches each block of the CPU's pool, and each value in the arena of a
 * program that runs. Built where it is switched on (preset dev).
 */
#include <criterion/criterion.h>
#include <sanitizer/asan_interface.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/program.h"
#include "step.h"

/* What a child says that must die of it. */
static void dies_of(void (*bug)(tern_ctx *ctx, char *at), tern_ctx *ctx, char *at, const char *part)
{
    char text[8192] = "";
    size_t n = 0;
    int end[2], status;

    cr_assert(pipe(end) == 0);
    const pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        (void)dup2(end[1], STDERR_FILENO);
        bug(ctx, at);
        _exit(0);
    }
    close(end[1]);
    for (ssize_t k; n < sizeof text - 1 && (k = read(end[0], text + n, sizeof text - 1 - n)) > 0;)
        n += (size_t)k;
    close(end[0]);
    cr_assert(waitpid(child, &status, 0) == child);
    cr_expect(!WIFEXITED(status) || WEXITSTATUS(status) != 0, "the bug went by");
    cr_expect(strstr(text, part) != NULL, "%s", text);
}

static void write_one(tern_ctx *ctx, char *at)
{
    (void)ctx;
    *(volatile char *)at = 1;
}

Test(asan, a_block_overrun_is_reported)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_tensor *x = randoms(ctx, TI_SHAPE(101), 3), *y = randoms(ctx, TI_SHAPE(101), 4);
    char *data = x->store->data;

    cr_assert(x && y);
    cr_expect(!__asan_region_is_poisoned(data, 404));
    dies_of(write_one, ctx, data + 404, "use-after-poison");
    ti_block *b = ti_pool_alloc(ctx->pool, 100, 0, "b");
    char *at = b->data;
    for (int i = 0; i < 100; i++) cr_expect(at[i] == (char)0xff, "new memory is no number");
    ti_pool_free(ctx->pool, b);
    dies_of(write_one, ctx, at, "use-after-poison");
    tc_close(ctx);
}

/* b is made when a is dead. */
static tern_status two_calls(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *a = tern_exp(ctx, in[0]), *b = tern_sum(ctx, a, NULL);

    (void)user;
    out[0] = tern_add(ctx, tern_tanh(ctx, in[1]), b);
    return tern_error(ctx);
}

static void run(tern_ctx *ctx, tern_program *p)
{
    tern_tensor *out = NULL, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(101), 0.5),
                                      tern_fill(ctx, TERN_F32, TI_SHAPE(101), 0.25), NULL};

    cr_assert(tern_program_run(ctx, &out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
}

static void run_bug(tern_ctx *ctx, char *at)
{
    (void)at;
    run(ctx, ctx->programs);
}

static ti_bound_line *bound_line(tern_program *p, const char *op)
{
    ti_bound_line *b = ti_last_plan(p)->bound->line;

    while (b->row && strcmp(b->row->op, op) != 0) b++;
    cr_assert(b->row != NULL, "no %s in the program", op);
    return b;
}

Test(asan, values_in_the_arena_are_apart)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_program *p = tern_record(ctx, two_calls, NULL);

    for (int i = 0; i < 2; i++) run(ctx, p);
    cr_expect(!__asan_region_is_poisoned(ctx->arena->data, ctx->arena->bytes));

    ti_view *to = (ti_view *)(uintptr_t)&bound_line(p, "add")->work.in[0];
    const ti_view was = *to;
    to->data = bound_line(p, "exp")->work.out[0].data; /* dead by then */
    dies_of(run_bug, ctx, NULL, "use-after-poison");
    *to = was;

    ti_bound_line *b = bound_line(p, "exp");
    for (int k = 0; k < 2; k++) {
        ti_view *v = (ti_view *)(uintptr_t)(k ? b->work.out : b->work.in);
        v->count = v->m.shape.dim[0] = 105;
    }
    dies_of(run_bug, ctx, NULL, "use-after-poison");
    tc_close(ctx);
}
