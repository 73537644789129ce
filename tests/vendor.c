/*
 * vendor.c - rows by cuBLASLt and cuDNN, against stand-ins for these libraries (tests/simt): right
 * ones are trusted and used, wrong ones are found out before they compute anything that counts.
 *
 * Nothing here runs the true libraries, which need a GPU.
 */
#include "vendor.h"

#include <unistd.h>

#include "core/tune.h"
#include "step.h"

/* The implementation that takes a call. */
static const char *taken_by(tern_ctx *ctx, const char *op, const void *opts, int n_in,
                            tern_tensor *const *in)
{
    int64_t filled[TI_OPTS / 8];
    const ti_op *o = ti_op_named(op);
    ti_call c = {.ctx = ctx, .op = o, .opts = filled, .n_in = n_in, .in = in};

    ti_opts_fill(o, filled, opts);
    const ti_choice *how = ti_choose(ctx, &c, (1u << o->n_out) - 1);
    cr_assert(how != NULL, "%s: %s", op, tern_error_text(ctx));
    return how->row->impl;
}

/* ---- cuBLASLt ---- */

Test(vendor, matmuls_of_every_layout_are_cublaslts)
{
    shim s;
    static memory log;

    if (!shim_open(&s, TC_SHIM_CUBLASLT)) return;
    tern_ctx *ctx = open_simt(&log), *ref = tc_open("ref");
    for (int type = TERN_F32; type <= TERN_F64; type++)
        for (int turn = 0; turn < 4; turn++)
            for (int batch = 1; batch < 4; batch += 2) {
                tern_tensor *in[2], *y[2];

                for (int k = 0; k < 2; k++) {
                    tern_ctx *c = k ? ref : ctx;
                    const int64_t n = batch;

                    in[0] = draw(c, (tern_type)type, 1,
                                 turn & 1 ? TI_SHAPE(n, 7, 5) : TI_SHAPE(n, 5, 7));
                    in[1] = draw(c, (tern_type)type, 2,
                                 turn & 2 ? TI_SHAPE(n, 9, 7) : TI_SHAPE(n, 7, 9));
                    if (turn & 1) in[0] = tern_transpose(c, in[0], 1, 2);
                    if (turn & 2) in[1] = tern_transpose(c, in[1], 1, 2);
                    y[k] = tern_matmul(c, in[0], in[1]);
                    if (k == 0)
                        cr_expect(strcmp(taken_by(c, "matmul", NULL, 2, in), "cublaslt") == 0,
                                  "turn %d: %s", turn, log.text);
                }
                near(ctx, y[0], ref, y[1], type == TERN_F64 ? 1e-14 : 2e-6);
            }
    cr_expect(s.calls() > 0);
    tc_close(ref);
    tc_close(ctx);
}

/* Neither what lies oddly nor what has no sum is the library's; both are computed all the same. */
Test(vendor, what_cublaslt_cannot_take_our_own_row_takes)
{
    shim s;
    static memory log;

    if (!shim_open(&s, TC_SHIM_CUBLASLT)) return;
    tern_ctx *ctx = open_simt(&log), *ref = tc_open("ref");
    tern_tensor *b = draw(ctx, TERN_F32, 1, TI_SHAPE(7, 3));
    tern_tensor *odd = tc_strided(ctx, draw(ctx, TERN_F32, 1, TI_SHAPE(5, 7)));
    tern_tensor *empty[] = {draw(ctx, TERN_F32, 1, TI_SHAPE(2, 0)),
                            draw(ctx, TERN_F32, 1, TI_SHAPE(0, 3))};
    tern_tensor *batches[] = {draw(ctx, TERN_F32, 1, TI_SHAPE(2, 1, 3, 4)),
                              draw(ctx, TERN_F32, 2, TI_SHAPE(3, 4, 5))};

    /* the strided one lies by columns, so it is fine; every second of its rows is not */
    cr_expect(strcmp(taken_by(ctx, "matmul", NULL, 2, TI_IN(odd, b)), "cublaslt") == 0, "%s",
              log.text);
    cr_expect(strcmp(taken_by(ctx, "matmul", NULL, 2, empty), "tiled") == 0);
    cr_expect(strcmp(taken_by(ctx, "matmul", NULL, 2, batches), "tiled") == 0);
    cr_expect(strstr(log.text, "nothing to multiply") && strstr(log.text, "at equal steps"), "%s",
              log.text);

    /* an operand that starts between multiples of 16 bytes: the plan is there, our own row runs */
    tern_tensor *long_one = draw(ctx, TERN_F32, 3, TI_SHAPE(6, 7));
    tern_tensor *late = tern_slice(ctx, long_one, &(tern_slice_opts){.from = 1, .count = 5});
    (void)tern_matmul(ctx, tern_slice(ctx, long_one, &(tern_slice_opts){.count = 5}), b);
    const long before = s.calls();
    tern_tensor *y = tern_matmul(ctx, late, b);
    tern_tensor *l2 = draw(ref, TERN_F32, 3, TI_SHAPE(6, 7));
    near(ctx, y, ref,
         tern_matmul(ref, tern_slice(ref, l2, &(tern_slice_opts){.from = 1, .count = 5}),
                     draw(ref, TERN_F32, 1, TI_SHAPE(7, 3))),
         2e-6);
    cr_expect(s.calls() == before);
    tc_close(ref);
    tc_close(ctx);
}

Test(vendor, layers_with_epilogues_and_their_gradients)
{
    shim s;
    static memory log;

    if (!shim_open(&s, TC_SHIM_CUBLASLT)) return;
    tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
    for (int act = TERN_ACT_NONE; act <= TERN_TANH; act++)
        for (int bias = 0; bias < 2; bias++) {
            const tern_linear_opts o = {act};
            tern_tensor *out[2][4];

            for (int k = 0; k < 2; k++) {
                tern_ctx *c = both[k];
                tern_tensor *in[3] = {tern_track(c, draw(c, TERN_F32, 1, TI_SHAPE(6, 12))),
                                      tern_track(c, draw(c, TERN_F32, 2, TI_SHAPE(8, 12))),
                                      bias ? tern_track(c, draw(c, TERN_F32, 3, TI_SHAPE(8)))
                                           : NULL};
                tern_tensor *y = out[k][0] = tern_linear_act(c, in[0], in[1], in[2], &o);
                tern_tensor *loss = tern_sum(c, tern_mul(c, y, y), NULL);

                cr_assert(tern_grads(c, out[k] + 1, 1, &loss, NULL, 2 + bias, in) == TERN_OK, "%s",
                          tern_error_text(c));
            }
            for (int i = 0; i < 3 + bias; i++) near(both[0], out[0][i], both[1], out[1][i], 3e-5);
        }
    cr_expect(strstr(log.text, "linear_act/cublaslt takes"), "%s", log.text);
    cr_expect(strstr(log.text, "linear_act_d/cublaslt takes"), "%s", log.text);
    cr_expect(strstr(log.text, "linear_act/cublaslt refuses: there is no such epilogue"), "%s",
              log.text);
    tc_close(both[0]);
    tc_close(both[1]);
}

/* ---- The clock ---- */

static double prefer(void *user, const char *kernel, double seconds)
{
    return strcmp(kernel, user) == 0 ? 1e-6 : 1e-3 + 0 * seconds;
}

/* With --tune a library's row is one among others; a file made with the library is of no use
 * without it. */
Test(vendor, the_clock_decides_between_a_library_and_our_own_row)
{
    char path[] = "/tmp/tern_vendor_XXXXXX", kernel[2][16] = {"tiled", "cublaslt"};
    tern_tuning look;
    static memory log;
    shim s;

    if (!shim_open(&s, TC_SHIM_CUBLASLT)) return;
    for (int i = 0; i < 3; i++) {
        if (i < 2) {
            const int file = i == 0 ? mkstemp(path) : -1;
            if (file >= 0) close(file);
            (void)unlink(path);
        } else setenv("TERN_DISABLE", "cublaslt", 1);
        tern_ctx *ctx = open_simt(&log);
        ti_tune_clock(ctx, prefer, kernel[i % 2]);
        cr_assert(tern_tune(ctx, path) == TERN_OK, "%s", tern_error_text(ctx));
        tern_tensor *in[] = {draw(ctx, TERN_F32, 1, TI_SHAPE(6, 12)),
                             draw(ctx, TERN_F32, 2, TI_SHAPE(12, 8))};
        cr_expect(strcmp(taken_by(ctx, "matmul", NULL, 2, in), i == 1 ? "cublaslt" : "tiled") == 0,
                  "%d: %s", i, log.text);
        cr_assert(tern_tune_look(ctx, &look));
        /* the call's row, and the plan of the library's row */
        cr_expect(look.n_choices == 2 && look.n_timed == (i < 2 ? 2 : 0), "%d: %d of %d", i,
                  look.n_timed, look.n_choices);
        tc_close(ctx);
    }
    (void)unlink(path);
}

/* ---- Trust ---- */

static void distrusts(const char *path, int how, const char *op, const char *why)
{
    shim s;
    static memory log;

    if (!shim_open(&s, path)) return;
    tern_ctx *ctx = open_simt(&log), *ref = tc_open("ref");
    tern_tensor *y[2];

    s.behave(how);
    for (int k = 0; k < 2; k++) {
        tern_ctx *c = k ? ref : ctx;
        y[k] = strcmp(op, "matmul") == 0
                   ? tern_matmul(c, draw(c, TERN_F32, 1, TI_SHAPE(6, 12)),
                                 draw(c, TERN_F32, 2, TI_SHAPE(12, 8)))
                   : tern_conv2d(c, draw(c, TERN_F32, 1, TI_SHAPE(2, 4, 6, 5)),
                                 draw(c, TERN_F32, 2, TI_SHAPE(4, 4, 3, 3)), NULL);
    }
    near(ctx, y[0], ref, y[1], 4e-6);
    cr_expect(strstr(log.text, why), "wanted \"%s\" in:\n%s", why, log.text);
    tc_close(ref);
    tc_close(ctx);
}

Test(vendor, a_wrong_product_is_found_out)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_WRONG, "matmul", "info: matmul by cublaslt: element");
}
Test(vendor, a_product_that_does_not_repeat_is_found_out)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_RESTLESS, "matmul", "two runs differ in their bits");
}
Test(vendor, a_product_that_writes_too_far_is_found_out)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_BEYOND, "matmul", "it writes behind its output");
}
Test(vendor, a_product_that_hides_nan_is_found_out)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_NO_NAN, "matmul", "is not a NaN where tiled gives one");
}
Test(vendor, a_product_that_leaves_elements_is_found_out)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_PARTLY, "matmul", "nan, tiled gives");
}
Test(vendor, a_library_without_algorithm_refuses)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_HELPLESS, "matmul", "cuBLASLt has no algorithm: the shim");
}
Test(vendor, a_call_that_fails_costs_the_plan_only)
{
    distrusts(TC_SHIM_CUBLASLT, SHIM_FAILING, "matmul", "the shim was told to fail");
}

Test(vendor, a_wrong_convolution_is_found_out)
{
    distrusts(TC_SHIM_CUDNN, SHIM_WRONG, "conv2d", "info: conv2d by cudnn engine 11: element");
}
Test(vendor, a_convolution_that_does_not_repeat_is_found_out)
{
    distrusts(TC_SHIM_CUDNN, SHIM_RESTLESS, "conv2d", "two runs differ in their bits");
}
Test(vendor, a_convolution_that_hides_nan_is_found_out)
{
    distrusts(TC_SHIM_CUDNN, SHIM_NO_NAN, "conv2d", "is not a NaN where implicit gives one");
}
Test(vendor, heuristics_without_a_result_are_a_refusal)
{
    distrusts(TC_SHIM_CUDNN, SHIM_HELPLESS, "conv2d", "cuDNN has no plan: the heuristics know no");
}
Test(vendor, an_engine_that_cannot_be_compiled_is_a_refusal)
{
    distrusts(TC_SHIM_CUDNN, SHIM_NO_COMPILER, "conv2d",
              "conv2d/cudnn refuses: cuDNN has no plan: the plan: a status of the shim, shim: "
              "nothing is compiled here");
}
Test(vendor, an_engine_that_is_compiled_is_taken_where_there_is_no_other)
{
    distrusts(TC_SHIM_CUDNN, SHIM_COMPILES, "conv2d", "conv2d/cudnn takes");
}
Test(vendor, a_convolution_that_fails_costs_the_plan_only)
{
    distrusts(TC_SHIM_CUDNN, SHIM_FAILING, "conv2d", "the shim was told to fail");
}

/* ---- cuDNN ---- */

/* Strides, padding, dilation, groups; 1x1; one channel; bias or none; and all gradients. */
Test(vendor, convolutions_and_their_gradients)
{
    static const struct {
        int64_t x[4], w[4];
        tern_conv2d_act_opts o;
        bool bias;
    } all[] = {{{2, 4, 6, 5}, {8, 4, 3, 3}, {.pad = {1, 1}, .act = TERN_RELU}, true},
               {{2, 4, 7, 6}, {4, 4, 3, 2}, {.stride = {2, 1}, .pad = {1, 0}}, true},
               {{1, 8, 5, 5}, {4, 8, 1, 1}, {.stride = {2, 2}, .act = TERN_RELU}, false},
               {{2, 1, 6, 8}, {4, 1, 3, 3}, {.act = TERN_ACT_NONE}, false},
               {{1, 4, 8, 8}, {8, 2, 3, 3}, {.dilation = {2, 2}, .groups = 2}, true}};
    shim s;
    static memory log;

    if (!shim_open(&s, TC_SHIM_CUDNN)) return;
    tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
    for (size_t t = 0; t < sizeof all / sizeof *all; t++) {
        tern_tensor *out[2][4];
        const int n = 2 + all[t].bias;

        for (int k = 0; k < 2; k++) {
            tern_ctx *c = both[k];
            const int64_t *X = all[t].x, *W = all[t].w;
            tern_tensor *in[3] = {
                tern_track(c, draw(c, TERN_F32, 1, TI_SHAPE(X[0], X[1], X[2], X[3]))),
                tern_track(c, draw(c, TERN_F32, 2, TI_SHAPE(W[0], W[1], W[2], W[3]))),
                all[t].bias ? tern_track(c, draw(c, TERN_F32, 3, TI_SHAPE(W[0]))) : NULL};
            tern_tensor *y = out[k][0] = tern_conv2d_act(c, in[0], in[1], in[2], &all[t].o);
            tern_tensor *loss = tern_sum(c, tern_mul(c, y, y), NULL);

            cr_assert(tern_grads(c, out[k] + 1, 1, &loss, NULL, n, in) == TERN_OK, "%s",
                      tern_error_text(c));
        }
        for (int i = 0; i <= n; i++) near(both[0], out[0][i], both[1], out[1][i], 2e-4);
    }
    cr_expect(strstr(log.text, "conv2d_act/cudnn takes"), "%s", log.text);
    cr_expect(strstr(log.text, "conv2d_act_d/cudnn takes"), "%s", log.text);
    cr_expect(!strstr(log.text, "dropped"), "%s", log.text);
    tc_close(both[0]);
    tc_close(both[1]);
}

/* ---- Training ---- */

/* The losses of some steps of LeNet, replayed and captured; the libraries' calls. */
static void train(const char *disable, int how, double *loss, int n, long *calls, memory *log)
{
    shim lt, dnn;
    float x[4 * 784];
    const int64_t labels[4] = {3, 1, 4, 1};
    uint64_t state = 5;
    job j = {0};

    if (!shim_open(&lt, TC_SHIM_CUBLASLT) || !shim_open(&dnn, TC_SHIM_CUDNN)) return;
    const long before = lt.calls() + dnn.calls();
    lt.behave(how);
    dnn.behave(how);
    if (disable) setenv("TERN_DISABLE", disable, 1);
    tern_ctx *ctx = open_simt(log);
    unsetenv("TERN_DISABLE");
    tern_mode(ctx, TERN_TRAIN);
    j.net = tern_model(ctx, "lenet5", NULL);
    j.opt = tern_adam(ctx, j.net, NULL);
    tern_program *program = tern_record(ctx, train_step, &j);
    for (int i = 0; i < 4 * 784; i++) x[i] = (float)tc_uniform(&state);
    for (int i = 0; i < n; i++) {
        tern_tensor *out = NULL;

        tern_frame_begin(ctx);
        tern_tensor *in[] = {tern_from_host(ctx, TERN_F32, x, TI_SHAPE(4, 1, 28, 28)),
                             tern_from_host(ctx, TERN_I64, labels, TI_SHAPE(4)), NULL};
        cr_assert(tern_program_run(ctx, &out, program, in) == TERN_OK, "%s", tern_error_text(ctx));
        loss[i] = tern_item(ctx, out);
        tern_frame_end(ctx);
    }
    tc_close(ctx);
    *calls = lt.calls() + dnn.calls() - before;
}

enum { STEPS = 4 };

Test(vendor, training_with_libraries_gives_the_losses_of_our_own_rows)
{
    static memory log;
    double own[STEPS] = {0}, with[STEPS] = {0};
    long calls = 0;

    train("cudnn,cublaslt", SHIM_RIGHT, own, STEPS, &calls, &log);
    cr_assert(calls == 0, "%ld calls of libraries that were disabled", calls);
    train(NULL, SHIM_RIGHT, with, STEPS, &calls, &log);
    cr_expect(calls > 0);
    for (int i = 0; i < STEPS; i++) /* empirical: four steps in f32 */
        cr_expect(fabs(own[i] - with[i]) <= 2e-4, "step %d: %.9g and %.9g", i, own[i], with[i]);
    cr_expect(own[0] != 0 && own[STEPS - 1] < own[0]);
}

Test(vendor, training_with_wrong_libraries_is_that_of_our_own_rows_to_the_bit)
{
    static memory log;
    double own[STEPS] = {0}, with[STEPS] = {0};
    long calls = 0;

    train("cudnn,cublaslt", SHIM_RIGHT, own, STEPS, &calls, &log);
    train(NULL, SHIM_WRONG, with, STEPS, &calls, &log);
    cr_expect(calls > 0); /* they were tried */
    cr_expect(strstr(log.text, "by cudnn engine 11: element"), "%s", log.text);
    cr_expect(strstr(log.text, "by cublaslt: element"), "%s", log.text);
    cr_expect(memcmp(own, with, sizeof own) == 0, "%.9g and %.9g", own[0], with[0]);
}

/* The library's sum is still used; only ReLU is our own then, and NaN goes through. */
Test(vendor, a_relu_that_hides_nan_is_replaced)
{
    static const tern_linear_opts relu = {TERN_RELU};
    static const tern_conv2d_act_opts conv_relu = {.pad = {1, 1}, .act = TERN_RELU};
    static memory log;
    shim lt, dnn;

    if (!shim_open(&lt, TC_SHIM_CUBLASLT) || !shim_open(&dnn, TC_SHIM_CUDNN)) return;
    lt.behave(SHIM_RELU_HIDES_NAN);
    dnn.behave(SHIM_RELU_HIDES_NAN);
    tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
    tern_tensor *out[2][3];
    for (int k = 0; k < 2; k++) {
        tern_ctx *c = both[k];
        const float bad[] = {1, NAN, -1};
        tern_tensor *x = draw(c, TERN_F32, 1, TI_SHAPE(6, 12)),
                    *b = draw(c, TERN_F32, 3, TI_SHAPE(8));
        tern_tensor *w = draw(c, TERN_F32, 2, TI_SHAPE(8, 12));

        out[k][0] = tern_linear_act(c, x, w, b, &relu);
        out[k][1] = tern_conv2d_act(c, draw(c, TERN_F32, 4, TI_SHAPE(2, 4, 6, 5)),
                                    draw(c, TERN_F32, 5, TI_SHAPE(4, 4, 3, 3)),
                                    draw(c, TERN_F32, 6, TI_SHAPE(4)), &conv_relu);
        out[k][2] = tern_linear_act(c, tern_from_host(c, TERN_F32, bad, TI_SHAPE(3, 1)),
                                    draw(c, TERN_F32, 7, TI_SHAPE(4, 1)), NULL, &relu);
    }
    for (int i = 0; i < 2; i++) near(both[0], out[0][i], both[1], out[1][i], 4e-6);
    double *y = tc_doubles(both[0], out[0][2]);
    for (int i = 0; i < 12; i++) cr_expect(isnan(y[i]) == (i / 4 == 1), "[%d] is %g", i, y[i]);
    free(y);
    cr_expect(strstr(log.text, "by cublaslt with relu: element"), "%s", log.text);
    cr_expect(strstr(log.text, "by cudnn engine 11 with relu: element"), "%s", log.text);
    cr_expect(strstr(log.text, "linear_act/cublaslt takes"), "%s", log.text);
    cr_expect(strstr(log.text, "conv2d_act/cudnn takes"), "%s", log.text);
    tc_close(both[0]);
    tc_close(both[1]);
}

/* ---- Math modes ---- */

/* A row that rounds for itself gives what our own row gives behind a rounding call. */
Test(vendor, math_modes_mean_the_same_by_libraries)
{
    static const tern_linear_opts relu = {TERN_RELU};
    static const tern_conv2d_act_opts conv_relu = {.pad = {1, 1}, .act = TERN_RELU};
    static memory log;
    shim lt, dnn;

    if (!shim_open(&lt, TC_SHIM_CUBLASLT) || !shim_open(&dnn, TC_SHIM_CUDNN)) return;
    for (int math = TERN_MATH_TF32; math <= TERN_MATH_F16; math++) {
        tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
        tern_tensor *out[2][9];
        char row[40];

        for (int k = 0; k < 2; k++) {
            tern_ctx *c = both[k];
            tern_tensor *in[6] = {tern_track(c, draw(c, TERN_F32, 1, TI_SHAPE(6, 12))),
                                  tern_track(c, draw(c, TERN_F32, 2, TI_SHAPE(8, 12))),
                                  tern_track(c, draw(c, TERN_F32, 3, TI_SHAPE(8))),
                                  tern_track(c, draw(c, TERN_F32, 4, TI_SHAPE(2, 4, 6, 5))),
                                  tern_track(c, draw(c, TERN_F32, 5, TI_SHAPE(4, 4, 3, 3))),
                                  tern_track(c, draw(c, TERN_F32, 6, TI_SHAPE(4)))};

            cr_assert(tern_math_set(c, (tern_math_t)math) == TERN_OK);
            out[k][0] = tern_linear_act(c, in[0], in[1], in[2], &relu);
            out[k][1] = tern_conv2d_act(c, in[3], in[4], in[5], &conv_relu);
            out[k][2] = tern_matmul(c, in[0], tern_transpose(c, in[1], 0, 1));
            cr_assert(tern_grads(c, out[k] + 3, 2, out[k], NULL, 6, in) == TERN_OK, "%s",
                      tern_error_text(c));
        }
        for (int i = 0; i < 9; i++) near(both[0], out[0][i], both[1], out[1][i], 2e-5);
        static const char *const ops[] = {"matmul/cublaslt", "linear_act/cublaslt",
                                          "linear_act_d/cublaslt", "conv2d_act/cudnn",
                                          "conv2d_act_d/cudnn"};
        for (int i = 0; i < 5; i++) {
            snprintf(row, sizeof row, "%s_%s takes", ops[i], tern_math_name(math));
            cr_expect(strstr(log.text, row), "no \"%s\" in:\n%s", row, log.text);
        }
        tc_close(both[0]);
        tc_close(both[1]);
    }
}
