/*
 * vendor_plans.c - the file in which the engines of cuDNN's plans are kept, against a stand-in for
 * the library (tests/simt): found again, cut, hostile, without a place.
 */
#include "files.h"
#include "vendor.h"

static const char *plans;

/* A folder of its own for the plans of this test. */
static void own_cache(void)
{
    tc_folder_begin();
    plans = tc_file("tern/plans");
    setenv("XDG_CACHE_HOME", tc_folder, 1);
}

/* One convolution in a context of its own; it must be right. */
static void convolve(memory *log)
{
    tern_ctx *ctx = open_simt(log), *ref = tc_open("ref");
    tern_tensor *y[2];

    for (int k = 0; k < 2; k++) {
        tern_ctx *c = k ? ref : ctx;
        y[k] = tern_conv2d(c, draw(c, TERN_F32, 1, TI_SHAPE(2, 4, 6, 5)),
                           draw(c, TERN_F32, 2, TI_SHAPE(4, 4, 3, 3)), NULL);
    }
    near(ctx, y[0], ref, y[1], 4e-6);
    tc_close(ref);
    tc_close(ctx);
}

Test(vendor, a_plan_is_found_again_in_its_file)
{
    static memory log;
    size_t n;
    shim s;

    if (!shim_open(&s, TC_SHIM_CUDNN)) return;
    own_cache();
    convolve(&log);
    cr_expect(!strstr(log.text, "by /"), "%s", log.text);
    char *first = tc_get(plans, &n);
    cr_expect(strncmp(first, "tern plans 1\nconv\t", 18) == 0, "%s", first);
    cr_expect(strstr(first, "\tf32\trepeatable\tf32\t") && strstr(first, "\t11\t2=3\t"), "%s",
              first);
    convolve(&log);
    cr_expect(strstr(log.text, "conv2d: cudnn engine 11, by ") && strstr(log.text, "plans:2"), "%s",
              log.text);
    cr_expect(strstr(log.text, "conv2d/cudnn takes"), "%s", log.text);
    char *second = tc_get(plans, &n);
    cr_expect(strcmp(first, second) == 0, "%s\n%s", first, second);
    free(first);
    free(second);
    tc_folder_end();
}

/* Every such file is named with its line, computes nothing, and is followed by a whole one. */
Test(vendor, a_hostile_file_of_plans_is_not_used)
{
    static const struct {
        const char *find, *put, *why;
    } all[] = {
        {"tern plans 1", "tern plans 2", "plans:1: not used: this line is not"},
        {"conv\t", "conf\t", "plans:2: not used: this line is no plan"},
        {"\t11\t", "\t-1\t", "plans:2: not used: this line has no engine"},
        {"\t11\t", "\t99999999999999999999999\t", "plans:2: not used: this line has no engine"},
        {"\t2=3\t", "\t2=3,2=4\t", "plans:2: not used: this line has no knobs"},
        {"\t2=3\t", "\t2=3,\t", "plans:2: not used: this line has no knobs"},
        {"\t2=3\t", "\t=\t", "plans:2: not used: this line has no knobs"},
        {"\trepeatable\t", "\tfast\t", "plans:2: not used: this line says not whether"},
        {"\tf32\trep", "\tu8\trep", "plans:2: not used: this line has no type"},
        {"\t2=3\t", "\t2=4\t", "plans:2: this plan is not used"},
        {"\t11\t", "\t12\t", "plans:2: this plan is not used"}};
    static memory log;
    char bad[2100];
    size_t whole;
    shim s;

    if (!shim_open(&s, TC_SHIM_CUDNN)) return;
    own_cache();
    convolve(&log);
    char *good = tc_get(plans, &whole);
    cr_assert(whole > 20 && whole < 2000);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *at = strstr(good, all[i].find);

        cr_assert(at != NULL);
        const int n = snprintf(bad, sizeof bad, "%.*s%s%s", (int)(at - good), good, all[i].put,
                               at + strlen(all[i].find));
        tc_put(plans, bad, (size_t)n);
        convolve(&log);
        cr_expect(strstr(log.text, all[i].why), "wanted \"%s\" in:\n%s", all[i].why, log.text);
        cr_expect(strstr(log.text, "conv2d/cudnn takes"), "%s", log.text);
        char *now = tc_get(plans, &whole);
        cr_expect(strcmp(now, good) == 0, "case %zu left:\n%s", i, now);
        free(now);
    }
    for (size_t n = 0; n + 1 < whole; n += 7) { /* cut anywhere */
        tc_put(plans, good, n);
        convolve(&log);
        cr_expect(strstr(log.text, "not used: this line") || n == 13, "cut at %zu:\n%s", n,
                  log.text);
    }
    memcpy(bad, good, whole);
    bad[20] = 0;
    tc_put(plans, bad, whole);
    convolve(&log);
    cr_expect(strstr(log.text, "plans:2: not used: this line holds a zero byte"), "%s", log.text);
    free(good);
    tc_folder_end();
}

/* A folder that cannot be made, or is switched off, costs nothing but the file. */
Test(vendor, plans_without_a_place_are_not_kept)
{
    static memory log;
    shim s;

    if (!shim_open(&s, TC_SHIM_CUDNN)) return;
    setenv("XDG_CACHE_HOME", "/proc/nowhere", 1);
    convolve(&log);
    cr_expect(strstr(log.text, "/proc/nowhere/tern/plans: not written: "), "%s", log.text);
    cr_expect(strstr(log.text, "conv2d/cudnn takes"), "%s", log.text);
    setenv("TERN_DISABLE", "plans", 1);
    convolve(&log);
    cr_expect(!strstr(log.text, "not written"), "%s", log.text);
}
