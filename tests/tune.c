/*
 * tune.c - kernels by the clock: the injected fastest one is taken and found again, the file's
 * choices are those of its writer, and every file that is not what was written is refused.
 */
#include "core/tune.h"
#include "files.h"
#include "tern/tern.h"

static const char *path;

static void begin(void)
{
    tc_folder_begin();
    path = tc_file("choices");
}

TestSuite(tune, .init = begin, .fini = tc_folder_end);

/* What the clock shall say: `fast` takes a microsecond, all others a millisecond. */
typedef struct {
    const char *fast;
    int n;
} clock_of;

static double say(void *user, const char *kernel, double seconds)
{
    clock_of *c = user;

    cr_expect(seconds >= 0);
    c->n++;
    return strcmp(kernel, c->fast) == 0 ? 1e-6 : 1e-3;
}

static tern_ctx *open_tuned(const char *device, clock_of *c)
{
    tern_ctx *ctx = tc_open(device);

    ti_tune_clock(ctx, say, c);
    cr_assert(tern_tune(ctx, path) == TERN_OK, "%s", tern_error_text(ctx));
    return ctx;
}

/* A layer's product, whose values do not depend on the kernel (they are whole numbers), and who
 * computed it. */
static const char *multiply(tern_ctx *ctx, int64_t n)
{
    float x[64 * 64];
    tern_call_info info;

    for (int64_t i = 0; i < n * n; i++) x[i] = (float)(i % 7 - 3);
    tern_tensor *in[] = {tern_from_host(ctx, TERN_F32, x, TI_SHAPE(n, n)),
                         tern_from_host(ctx, TERN_F32, x, TI_SHAPE(n, n)), NULL};
    tern_call *call = tern_call_open(ctx, "linear_act", "", 3, in, 0);
    cr_assert(call != NULL, "%s", tern_error_text(ctx));
    tern_call_look(call, &info);
    double *y = tc_doubles(ctx, tern_call_out(call, 0)), want = 0;
    for (int64_t k = 0; k < n; k++) want += (double)x[k] * (double)x[k];
    cr_expect(y[0] == want, "%s: %g, not %g", info.kernel, y[0], want);
    free(y);
    tern_call_close(ctx, call);
    return info.kernel;
}

/* The kernels for such layers. */
static int kernels(const char *device, char names[8][32])
{
    tern_ctx *ctx = tc_open(device);
    const ti_row *const *rows;
    int n = 0;

    for (int k = 0; (rows = ctx->backend->rows(ctx->device, k)) != NULL; k++)
        for (int j = 0; rows[j]; j++)
            for (const ti_row *r = rows[j]; r->op && n < 8; r++)
                if (strcmp(r->op, "linear_act") == 0) snprintf(names[n++], 32, "%s", r->impl);
    tc_close(ctx);
    return n;
}

/* Whichever kernel the clock prefers is taken, written down, and taken again without a clock. */
static void prefer(const char *device)
{
    char names[8][32];
    const int n = kernels(device, names);
    size_t bytes;
    int taken = 0;

    for (int i = 0; i < n; i++) {
        clock_of c = {.fast = names[i]}, none = {.fast = "nothing"};
        tern_tuning look;

        (void)unlink(path);
        tern_ctx *ctx = open_tuned(device, &c);
        const char *kernel = multiply(ctx, 48);
        cr_assert(tern_tune_look(ctx, &look));
        if (strcmp(kernel, names[i]) != 0) { /* it does not take such a call */
            tc_close(ctx);
            continue;
        }
        taken++;
        cr_expect(c.n >= 10 && c.n % 5 == 0, "%d samples", c.n);
        cr_expect(look.n_choices >= 1 && look.n_timed == look.n_choices);
        char *text = tc_get(path, &bytes);
        cr_expect(strncmp(text, "tern choices 1\n", 15) == 0, "%s", text);
        cr_expect(strstr(text, "\tlinear_act\t") && strstr(text, names[i]), "%s", text);
        free(text);
        (void)multiply(ctx, 48);
        cr_assert(tern_tune_look(ctx, &look));
        const int before = look.n_choices;
        tc_close(ctx);

        ctx = open_tuned(device, &none);
        cr_expect(strcmp(multiply(ctx, 48), names[i]) == 0);
        cr_expect(none.n == 0, "%d samples of a call that is in the file", none.n);
        (void)multiply(ctx, 40); /* another call: timed */
        cr_expect(none.n > 0);
        cr_assert(tern_tune_look(ctx, &look));
        cr_expect(look.n_choices > before && look.n_timed == look.n_choices - before);
        tc_close(ctx);
    }
    cr_expect(taken >= 2, "%d of %d kernels could be preferred", taken, n);
}

Test(tune, the_fastest_by_the_clock_is_taken_and_found_again) { prefer("cpu"); }
/* Settings and threads are part of the key; layout is, too. */
Test(tune, another_call_is_another_choice)
{
    clock_of c = {.fast = "nothing"};
    tern_ctx *ctx = open_tuned("cpu", &c);
    tern_tuning look;
    int n = 0;

    (void)multiply(ctx, 32);
    for (int k = 0; k < 3; k++) {
        if (k == 0) cr_assert(tern_threads_set(ctx, tern_threads(ctx) + 1) == TERN_OK);
        if (k == 1) cr_assert(tern_math_set(ctx, TERN_MATH_BF16) == TERN_OK);
        if (k == 2) cr_assert(tern_winograd_set(ctx, false) == TERN_OK);
        n = c.n;
        (void)multiply(ctx, 32);
        cr_expect(c.n > n, "step %d was not timed", k);
    }
    cr_assert(tern_tune_look(ctx, &look));
    cr_expect(look.n_choices >= 4);
    cr_expect(tern_tune(ctx, path) == TERN_E_STATE);
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* A stamp names a prefix of the file: what was added later does not matter, what has changed does.
 */
Test(tune, a_stamp_stands_for_the_choices_until_then)
{
    clock_of c = {.fast = "nothing"};
    tern_ctx *ctx = open_tuned("cpu", &c), *plain = tc_open("cpu");
    tern_tuning look;
    char stamp[40];

    cr_expect(!tern_tune_look(plain, &look) && !look.stamp[0]);
    cr_expect(tern_tune_holds(plain, ""));
    cr_expect(!tern_tune_holds(ctx, ""));
    (void)multiply(ctx, 32);
    cr_assert(tern_tune_look(ctx, &look));
    snprintf(stamp, sizeof stamp, "%s", look.stamp);
    (void)multiply(ctx, 33);
    cr_expect(tern_tune_holds(ctx, stamp) && strcmp(stamp, look.stamp) != 0);
    cr_expect(!tern_tune_holds(plain, stamp));
    stamp[strlen(stamp) - 1] ^= 1;
    cr_expect(!tern_tune_holds(ctx, stamp));
    cr_expect(!tern_tune_holds(ctx, "999:0000000000000000"));
    cr_expect(!tern_tune_holds(ctx, "x"));
    tc_close(ctx);
    tc_close(plain);
}

static void refused(const char *text, size_t n, tern_status status, const char *why)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_tuning look;

    tc_put(path, text, n);
    cr_expect(tern_tune(ctx, path) == status, "%s", text);
    cr_expect(strstr(tern_error_text(ctx), why), "wanted \"%s\", got \"%s\"", why,
              tern_error_text(ctx));
    cr_expect(!tern_tune_look(ctx, &look));
    tern_error_clear(ctx);
    (void)multiply(ctx, 32); /* and the context computes */
    tc_close(ctx);
}

Test(tune, a_file_that_is_not_what_was_written_is_refused)
{
    clock_of c = {.fast = "nothing"};
    tern_ctx *ctx = open_tuned("cpu", &c);
    char bad[4000];
    size_t n;

    (void)multiply(ctx, 32);
    (void)multiply(ctx, 33);
    tc_close(ctx);
    char *good = tc_get(path, &n);
    cr_assert(n > 100 && n < sizeof bad);
    refused("", 0, TERN_E_FORMAT, "empty");
    refused("tern choices 2\n", 15, TERN_E_FORMAT, ":1: this line is not");
    refused("\x7f"
            "ELF\n",
            5, TERN_E_FORMAT, ":1: this line is not");
    for (size_t i = 15; i < n; i++) { /* any byte changed */
        memcpy(bad, good, n + 1);
        bad[i] = bad[i] == '7' ? '8' : '7';
        refused(bad, n, TERN_E_FORMAT, "not a file of choices");
    }
    for (size_t i = 1; i < n; i++) { /* cut; whole lines are a prefix, which is a file */
        memcpy(bad, good, n + 1);
        if (good[i - 1] != '\n') refused(bad, i, TERN_E_FORMAT, "not a file of choices");
    }
    const char *second = strchr(strchr(good, '\n') + 1, '\n') + 1; /* lines that changed places */
    snprintf(bad, sizeof bad, "tern choices 1\n%s%.*s", second, (int)(second - good - 15),
             good + 15);
    refused(bad, strlen(bad), TERN_E_FORMAT, ":2: this line is not what was written");
    tc_put(path, good, n);
    free(good);
    ctx = open_tuned("cpu", &c);
    tc_close(ctx);
}

/* Another process's choices are taken over, another file is left alone. */
Test(tune, two_writers)
{
    clock_of c = {.fast = "nothing"};
    tern_ctx *a = open_tuned("cpu", &c), *b = open_tuned("cpu", &c);
    tern_tuning look;
    size_t n;

    (void)multiply(a, 32);
    (void)multiply(b, 33);
    cr_assert(tern_tune_look(b, &look));
    cr_expect(look.n_choices > look.n_timed);
    (void)multiply(a, 34);
    tc_put(path, "tern choices 1\n", 15);
    (void)multiply(a, 35);
    char *text = tc_get(path, &n);
    cr_expect(n == 15, "%s", text);
    free(text);
    tc_close(a);
    tc_close(b);
}

Test(tune, without_a_place)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_assert(tern_tune(ctx, "/proc/nowhere/choices") == TERN_OK); /* as if it were empty */
    tern_tensor *x = tern_fill(ctx, TERN_F32, TI_SHAPE(32, 32), 1);
    cr_expect(tern_linear_act(ctx, x, x, NULL, NULL) == NULL);
    cr_expect(tern_error(ctx) == TERN_E_IO);
    cr_expect(strstr(tern_error_text(ctx), "/proc/nowhere/choices: "));
    tern_error_clear(ctx);
    cr_expect(tern_tune(NULL, path) == TERN_E_ARGUMENT);
    cr_expect(tern_tune(ctx, NULL) != TERN_OK);
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* Every allocation fails once: an error, or a choice; never a crash or a leak. */
Test(tune, survives_each_allocation_failing)
{
    bool done = false;

    for (long nth = 0; !done; nth++) {
        clock_of c = {.fast = "nothing"};
        tern_ctx *ctx = tc_open("cpu");
        tern_tensor *x = tern_fill(ctx, TERN_F32, TI_SHAPE(32, 32), 1);

        (void)unlink(path);
        ti_fail_allocation(ctx, nth, false);
        ti_tune_clock(ctx, say, &c);
        done = tern_tune(ctx, path) == TERN_OK && tern_linear_act(ctx, x, x, NULL, NULL) != NULL &&
               c.n >= 10;
        cr_expect(tern_error(ctx) == TERN_OK || tern_error(ctx) == TERN_E_MEMORY, "%s",
                  tern_error_text(ctx));
        ti_fail_allocation(ctx, -1, false);
        tern_error_clear(ctx);
        tc_close(ctx);
        cr_assert(nth < 2000);
    }
}
