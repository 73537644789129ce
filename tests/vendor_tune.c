/*
 * vendor_tune.c - a library's own plans by the clock, against stand-ins that have several
 * (tests/simt): the fastest right one is taken, kept in the file of choices and found again; a
 * wrong one never is, and one whose results vary only where that is admitted.
 */
#include <unistd.h>

#include "core/tune.h"
#include "vendor.h"

static char folder[200], path[300];
static shim lt, dnn;
static void (*lt_newer)(int), (*dnn_newer)(int);

static bool begin(void)
{
    snprintf(folder, sizeof folder, "/tmp/tern_vendor_XXXXXX");
    if (!shim_open(&lt, TC_SHIM_CUBLASLT) || !shim_open(&dnn, TC_SHIM_CUDNN)) return false;
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/choices", folder);
    *(void **)&lt_newer = dlsym(lt.lib, "shim_newer");
    *(void **)&dnn_newer = dlsym(dnn.lib, "shim_newer");
    lt.behave(SHIM_SEVERAL);
    dnn.behave(SHIM_SEVERAL);
    return true;
}

static void end(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert(system(command) == 0);
}

/* Rows of libraries are the fastest; among their plans the true clock decides. */
static double say(void *user, const char *kernel, double seconds)
{
    int *n = user;

    (*n)++;
    if (strcmp(kernel, "cudnn") == 0 || strcmp(kernel, "cublaslt") == 0) return 1e-9;
    return strncmp(kernel, "cudnn", 5) == 0 || strncmp(kernel, "cublaslt", 8) == 0 ? seconds : 1;
}

static tern_ctx *open_tuned(memory *log, bool varies, int *samples)
{
    tern_ctx *ctx = open_simt(log);

    *samples = 0;
    cr_assert(tern_deterministic_set(ctx, !varies) == TERN_OK);
    cr_expect(tern_deterministic(ctx) == !varies);
    ti_tune_clock(ctx, say, samples);
    cr_assert(tern_tune(ctx, path) == TERN_OK, "%s", tern_error_text(ctx));
    return ctx;
}

/* A convolution, its gradients and a product; all must be right. */
static void compute(tern_ctx *ctx)
{
    tern_ctx *both[2] = {ctx, tc_open("ref")};
    tern_tensor *out[2][4];

    for (int k = 0; k < 2; k++) {
        tern_ctx *c = both[k];
        tern_tensor *in[2] = {tern_track(c, draw(c, TERN_F32, 1, TI_SHAPE(2, 4, 6, 5))),
                              tern_track(c, draw(c, TERN_F32, 2, TI_SHAPE(4, 4, 3, 3)))};
        tern_tensor *y = out[k][0] = tern_conv2d(c, in[0], in[1], NULL);
        tern_tensor *loss = tern_sum(c, tern_mul(c, y, y), NULL);

        cr_assert(tern_grads(c, out[k] + 1, 1, &loss, NULL, 2, in) == TERN_OK, "%s",
                  tern_error_text(c));
        out[k][3] = tern_matmul(c, draw(c, TERN_F32, 3, TI_SHAPE(6, 12)),
                                draw(c, TERN_F32, 4, TI_SHAPE(12, 8)));
    }
    for (int i = 0; i < 4; i++) near(both[0], out[0][i], both[1], out[1][i], 2e-4);
    tc_close(both[1]);
}

static size_t read_file(char text[8000])
{
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(text, 1, 7999, f) : 0;

    if (f) fclose(f);
    text[n] = 0;
    return n;
}

static void tune_once(memory *log, bool varies, int *samples, char text[8000])
{
    tern_ctx *ctx = open_tuned(log, varies, samples);

    compute(ctx);
    tc_close(ctx);
    read_file(text); /* there is none where nothing was to choose */
}

/* An algorithm of the stand-in: its words in the file. */
static const char *algorithm(char text[40], int plan)
{
    snprintf(text, 40, "\t%016x%016x", 7 + plan, 0);
    return text;
}

Test(vendor, the_fastest_right_plan_is_kept_and_found_again)
{
    static const char *const convs[] = {"conv2d", "conv2d_dx", "conv2d_dw"};
    static memory log;
    static char first[8000], second[8000];
    char line[400], algo[40];
    tern_tuning look;
    int samples;

    if (!begin()) return;
    tune_once(&log, false, &samples, first);
    cr_expect(samples > 0);
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "\t%s\t%d:2=3\t", convs[i], 11 + SHIM_PLAN_RIGHT);
        cr_expect(strstr(first, line), "no \"%s\" in:\n%s", line, first);
        snprintf(line, sizeof line, "%s by cudnn engine %d:2=3: element", convs[i],
                 11 + SHIM_PLAN_WRONG);
        cr_expect(strstr(log.text, line), "no \"%s\" in:\n%s", line, log.text);
    }
    cr_expect(!strstr(first, "\t12:") && !strstr(first, "\t14:") && !strstr(first, "\t11:"), "%s",
              first);
    cr_expect(strstr(first, algorithm(algo, SHIM_PLAN_RIGHT)), "no \"%s\" in:\n%s", algo, first);
    cr_expect(!strstr(first, algorithm(algo, SHIM_PLAN_WRONG)), "%s", first);
    cr_expect(!strstr(log.text, "engine 14"), "one that varies was tried:\n%s", log.text);

    tern_ctx *ctx = open_tuned(&log, false, &samples);
    compute(ctx);
    cr_assert(tern_tune_look(ctx, &look));
    cr_expect(samples == 0 && look.n_timed == 0, "%d samples", samples);
    tc_close(ctx);
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "%s: cudnn engine 13, by %s:", convs[i], path);
        cr_expect(strstr(log.text, line), "no \"%s\" in:\n%s", line, log.text);
    }
    snprintf(line, sizeof line, "matmul: cublaslt by %s:", path);
    cr_expect(strstr(log.text, line), "no \"%s\" in:\n%s", line, log.text);
    read_file(second);
    cr_expect(strcmp(first, second) == 0, "%s\n%s", first, second);
    end();
}

/* Without --tune nothing is timed: the heuristics' first plan runs, slow as it is. */
Test(vendor, without_the_clock_the_first_plan_is_taken)
{
    static memory log;

    if (!begin()) return;
    tern_ctx *ctx = open_simt(&log);
    compute(ctx);
    tc_close(ctx);
    cr_expect(strstr(log.text, "conv2d/cudnn takes"), "%s", log.text);
    cr_expect(!strstr(log.text, " us\n"), "something was timed:\n%s", log.text);
    cr_expect(!strstr(log.text, "dropped"), "%s", log.text);
    end();
}

Test(vendor, plans_whose_results_vary_are_admitted_by_that_option_only)
{
    static memory log;
    static char text[8000];
    char algo[40];
    int samples;

    if (!begin()) return;
    tune_once(&log, true, &samples, text);
    cr_expect(strstr(text, "\tconv2d\t14:2=3\t"), "%s", text);
    cr_expect(strstr(text, algorithm(algo, SHIM_PLAN_VARYING)), "%s", text);
    cr_expect(strstr(log.text, "conv2d: cudnn engine 14 may vary from run to run"), "%s", log.text);
    tune_once(&log, false, &samples, text); /* another choice */
    cr_expect(samples > 0);
    cr_expect(strstr(text, "\tconv2d\t13:2=3\t"), "%s", text);
    end();
}

Test(vendor, another_version_of_a_library_is_another_choice)
{
    static memory log;
    static char text[8000], now[8000];
    int samples;

    if (!begin()) return;
    tune_once(&log, false, &samples, text);
    dnn_newer(1);
    tune_once(&log, false, &samples, now);
    cr_expect(samples > 0 && strlen(now) > strlen(text));
    tune_once(&log, false, &samples, text);
    cr_expect(samples == 0);
    lt_newer(1);
    tune_once(&log, false, &samples, now);
    cr_expect(samples > 0);
    dnn_newer(0);
    lt_newer(0);
    end();
}

/* A plan that the library no longer has is told with its place; its first one runs. A line that is
 * not what was written is refused as in any file of choices. */
Test(vendor, a_plan_that_is_gone_or_spoilt_is_told_with_its_line)
{
    static memory log;
    static char text[8000];
    int samples;

    if (!begin()) return;
    tune_once(&log, false, &samples, text);
    lt.behave(SHIM_RIGHT); /* one plan each */
    dnn.behave(SHIM_RIGHT);
    tern_ctx *ctx = open_tuned(&log, false, &samples);
    compute(ctx);
    tc_close(ctx);
    cr_expect(samples == 0);
    cr_expect(strstr(log.text, "choices:2: this plan is not used: a stored engine"), "%s",
              log.text);
    cr_expect(strstr(log.text, "this plan is not used: cuBLASLt has no such algorithm"), "%s",
              log.text);
    cr_expect(strstr(log.text, "conv2d/cudnn takes") && strstr(log.text, "matmul/cublaslt takes"),
              "%s", log.text);

    char *at = strstr(text, "\t13:2=3\t");
    cr_assert(at != NULL);
    at[2] = '1';
    FILE *f = fopen(path, "wb");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
    ctx = open_simt(&log);
    cr_expect(tern_tune(ctx, path) == TERN_E_FORMAT);
    cr_expect(strstr(tern_error_text(ctx), "choices:2: this line is not what was written there"),
              "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
    end();
}

/* A library none of whose plans is right computes nothing. */
Test(vendor, where_no_plan_is_right_our_own_row_runs)
{
    static memory log;
    static char text[8000];
    int samples;

    if (!begin()) return;
    lt.behave(SHIM_WRONG);
    dnn.behave(SHIM_WRONG);
    tune_once(&log, false, &samples, text);
    cr_expect(!strstr(text, ":2=3"), "%s", text);
    cr_expect(!strstr(text, "cudnn") && !strstr(text, "\tcublaslt\t"), "%s", text);
    end();
}

/* Nor does one whose plans fail when they are called. */
Test(vendor, plans_that_fail_on_the_clock_cost_themselves_only)
{
    static memory log;
    static char text[8000];
    int samples;

    if (!begin()) return;
    lt.behave(SHIM_FAILING);
    dnn.behave(SHIM_FAILING);
    tune_once(&log, false, &samples, text);
    cr_expect(!strstr(text, ":2=3"), "%s", text);
    cr_expect(strstr(log.text, "conv2d/cudnn refuses: cuDNN has no plan: none of its plans could"),
              "%s", log.text);
    end();
}

/* Every allocation of the context fails once: an error, or a choice; never a crash or a leak. */
Test(vendor, tuning_survives_each_allocation_failing)
{
    static memory log;
    bool done = false;

    if (!begin()) return;
    lt.behave(SHIM_RIGHT);
    dnn.behave(SHIM_RIGHT);
    for (long nth = 0; !done; nth++) {
        int samples = 0;

        (void)unlink(path);
        tern_ctx *ctx = open_tuned(&log, false, &samples);
        tern_tensor *x = draw(ctx, TERN_F32, 1, TI_SHAPE(1, 2, 4, 4));
        tern_tensor *w = draw(ctx, TERN_F32, 2, TI_SHAPE(2, 2, 3, 3));
        ti_fail_allocation(ctx, nth, false);
        tern_tensor *y = tern_conv2d(ctx, x, w, NULL);
        ti_fail_allocation(ctx, -1, false);
        cr_expect((y != NULL) == (tern_error(ctx) == TERN_OK));
        cr_expect(y || tern_error(ctx) == TERN_E_MEMORY, "allocation %ld: %s", nth,
                  tern_error_text(ctx));
        done = y != NULL && samples >= 10;
        cr_assert(nth < 2000);
        tern_error_clear(ctx);
        tc_close(ctx);
    }
    end();
}
