/*
 * conformance.c - every op, every sample, every device against the reference in double.
 *
 * A row's result may differ from the reference by its op's derived bound and no more; ops without
 * a bound must give the rounded reference's bits. Contiguous and strided inputs, any number of
 * threads. Built as simt_checked/test_conformance it runs kernels that the checker watches.
 */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "core/tune.h"
#include "cpu/simd_choose.h"
#include "emulator.h"

typedef struct {
    tern_ctx *ref, *dev;
    tern_type type;
    bool strided;
    tern_math_t math;
    const char *by;          /* NULL, or how the names of the rows begin that must take the calls */
    long n_compared, n_bf16; /* n_bf16: calls by rows of that name */
    double worst;            /* share of a bound */
    char worst_name[120];
} run;

static bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static double rounded(tern_type type, double x) { return type == TERN_F32 ? (double)(float)x : x; }

/* What op->bound says for this call, in doubles; NULL: exact. */
static double *bound_of(run *r, const ti_op *op, const void *opts, int n_in, tern_tensor *const *in,
                        tern_tensor *const *out, int i, const ti_choice *how)
{
    ti_call c = {.ctx = r->ref, .op = op, .opts = opts, .n_in = n_in, .in = in};
    tern_tensor *b;

    memcpy(c.out, out, sizeof c.out);
    if (how) c.numbers = how->row->numbers;
    if (out[i]->m.type != TERN_F64) return NULL; /* whole numbers are exact */
    if (!op->bound || !(b = op->bound(&c, i, how ? how->chain : 1))) {
        cr_assert(tern_error(r->ref) == TERN_OK, "%s: bound: %s", op->name,
                  tern_error_text(r->ref));
        return NULL;
    }
    cr_assert(tern_same_shape(b->m.shape, out[i]->m.shape), "%s: shape of the bound", op->name);
    return tc_doubles(r->ref, b);
}

/* The row that takes this call on r->dev, or NULL for a view. */
static const ti_choice *choice_of(run *r, const ti_op *op, const void *opts, int n_in,
                                  tern_tensor *const *in, unsigned wanted)
{
    ti_call c = {.ctx = r->dev, .op = op, .opts = opts, .n_in = n_in, .in = in};

    return op->view ? NULL : ti_choose(r->dev, &c, wanted);
}

static void compare(run *r, const ti_op *op, const char *name, int i, const double *want,
                    const double *got, const double *bound, int64_t n)
{
    const double u = r->type == TERN_F32 ? 0x1p-24 : 0x1p-53;
    const double tiny = r->type == TERN_F32 ? 0x1p-149 : 0x1p-1074;

    for (int64_t k = 0; k < n; k++) {
        const double w = rounded(r->type, want[k]);
        /* the reference in double has an error of its own, far smaller than that of f32 */
        const double allowed =
            bound ? (r->type == TERN_F32 ? u * 1.01 : 2 * u) * bound[k] + tiny : 0;
        const double error = fabs(got[k] - want[k]);

        r->n_compared++;
        if (same(w, got[k])) continue;
        if (bound && error / allowed > r->worst) {
            r->worst = error / allowed;
            snprintf(r->worst_name, sizeof r->worst_name, "%s", name);
        }
        cr_expect(error <= allowed, "%s %s%s on %s: %s[%lld] is %.9g, wanted %.9g, bound %.3g",
                  name, tern_type_name(r->type), r->strided ? " strided" : "", tern_device(r->dev),
                  op->out[i].name, (long long)k, got[k], want[k], allowed);
        if (!(error <= allowed)) return;
    }
}

static void one_sample(const ti_op *op, const ti_sample *s, void *user)
{
    run *r = user;
    tern_tensor *in64[TI_FEW], *in[TI_FEW], *out64[TI_OUTS], *out[TI_OUTS];
    int64_t opts[TI_OPTS / 8];
    const unsigned all = (1u << op->n_out) - 1;
    char name[120];

    if (r->math && !op->operands) return;
    tc_name(name, op, s);
    tern_frame_begin(r->ref);
    tern_frame_begin(r->dev);
    ti_opts_fill(op, opts, s->opts);
    tc_inputs(r->ref, op, s, TERN_F64, 1, in64);
    tc_inputs(r->dev, op, s, r->type, 1, in);
    for (int i = 0; i < s->n_in && r->strided; i++)
        if (in[i]) in[i] = tc_strided(r->dev, in[i]);
    for (int i = 0; i < s->n_in && r->math; i++) /* what the mode does to operands */
        if (in64[i] && (op->operands >> i & 1)) in64[i] = tern_round_to(r->ref, in64[i], r->math);
    if (op->view && r->strided && ti_apply(r->dev, op, s->opts, s->n_in, in, all, out)) {
        tern_error_clear(r->dev); /* a view that these strides do not allow says so */
        goto out;
    }
    cr_assert(!ti_apply(r->ref, op, s->opts, s->n_in, in64, all, out64), "%s: %s", name,
              tern_error_text(r->ref));
    cr_assert(!ti_apply(r->dev, op, s->opts, s->n_in, in, all, out), "%s on %s: %s", name,
              tern_device(r->dev), tern_error_text(r->dev));
    const ti_choice *how = choice_of(r, op, opts, s->n_in, in, all);
    const char *by = how ? how->row->impl : "no row"; /* views have none */
    cr_expect(!r->by || strncmp(by, r->by, strlen(r->by)) == 0, "%s by %s", name, by);
    r->n_bf16 += strncmp(by, "bf16", 4) == 0;
    for (int i = 0; i < op->n_out; i++) {
        if (op->out[i].kind == TI_HINT || !out64[i]) continue;
        double *want = tc_doubles(r->ref, out64[i]), *got = tc_doubles(r->dev, out[i]);
        double *bound = bound_of(r, op, opts, s->n_in, in64, out64, i, how);

        compare(r, op, name, i, want, got, bound, tern_count(out64[i]->m.shape));
        free(want);
        free(got);
        free(bound);
    }
out:
    tern_frame_end(r->dev);
    tern_frame_end(r->ref);
}

static void conform(const char *device, tern_type type, bool strided)
{
    run r = {.ref = tc_open("ref"), .dev = tc_open(device), .type = type, .strided = strided};

    if (strcmp(device, "simt") == 0) tc_shuffle(r.dev);
    tc_each_sample(one_sample, &r);
    cr_log_info("%s %s: %ld values, worst %.2f of its bound: %s", device, tern_type_name(type),
                r.n_compared, r.worst, r.worst_name);
    cr_expect(r.n_compared > 1000);
    if (strcmp(device, "simt") == 0) tc_clean(r.dev, 100000);
    tc_close(r.dev);
    tc_close(r.ref);
}

/* Products in a math mode: the reference gets operands that were rounded before. */
static void conform_in(const char *device, tern_math_t math)
{
    run r = {.ref = tc_open("ref"), .dev = tc_open(device), .type = TERN_F32, .math = math};

    cr_assert(tern_math_set(r.dev, math) == TERN_OK);
    if (strcmp(device, "simt") == 0) tc_shuffle(r.dev);
    tc_each_sample(one_sample, &r);
    cr_log_info("%s in %s: %ld values, worst %.2f of its bound: %s", device, tern_math_name(math),
                r.n_compared, r.worst, r.worst_name);
    cr_expect(r.n_compared > 1000);
    if (strcmp(device, "simt") == 0) tc_clean(r.dev, 100000);
    tc_close(r.dev);
    tc_close(r.ref);
}

static void conform_in_modes(const char *device)
{
    for (int math = TERN_MATH_TF32; math <= TERN_MATH_F16; math++)
        conform_in(device, (tern_math_t)math);
}

/* What takes a product several tiles, large and small ones, and sums of several pieces. */
#define N(...)                                                                                     \
    {                                                                                              \
        TI_SHAPE(__VA_ARGS__), TI_S_NORMAL, 0                                                      \
    }
static const struct {
    const char *op;
    ti_sample sample;
} many_tiles[] = {
    {"matmul", {"large tiles", 2, {N(64, 65, 9), N(64, 9, 66)}, NULL}},
    {"matmul", {"pieces", 2, {N(70, 603), N(603, 67)}, NULL}},
    {"matmul", {"one matrix for all, tiles", 2, {N(3, 70, 20), N(20, 67)}, NULL}},
    {"conv2d",
     {"groups, tiles",
      2,
      {N(2, 20, 9, 11), N(140, 10, 3, 3)},
      &(tern_conv2d_opts){.stride = {2, 1}, .pad = {1, 1}, .groups = 2}}},
    {"conv2d_act",
     {"large tiles",
      3,
      {N(1, 3, 82, 100), N(66, 3, 1, 1), N(66)},
      &(tern_conv2d_act_opts){.act = TERN_TANH}}},
    {"conv2d_act",
     {"pieces",
      3,
      {N(1, 61, 5, 6), N(5, 61, 3, 3), N(5)},
      &(tern_conv2d_act_opts){.pad = {1, 1}, .act = TERN_RELU}}},
    {"conv2d_dx",
     {"tiles",
      2,
      {N(1, 3, 21, 5), N(3, 66, 2, 2)},
      &(tern_conv2d_opts){.stride = {2, 2}, .shape = {1, 66, 42, 10}}}},
    {"conv2d_dw",
     {"large tiles",
      2,
      {N(1, 1024, 4, 3), N(1, 66, 2, 1)},
      &(tern_conv2d_opts){.shape = {66, 1024, 3, 3}}}},
    {"conv2d_dw",
     {"pieces",
      2,
      {N(2, 7, 20, 20), N(2, 5, 20, 20)},
      &(tern_conv2d_opts){.pad = {1, 1}, .shape = {5, 7, 3, 3}}}},
    {"conv2d_act_d",
     {"relu, y given",
      5,
      {N(2, 9, 9, 8), N(70, 9, 3, 3), N(70), N(2, 70, 9, 8), {TI_SHAPE(2, 70, 9, 8), TI_S_AWAY, 0}},
      &(tern_conv2d_act_opts){.pad = {1, 1}, .act = TERN_RELU}}},
    {"conv2d_dw",
     {"one place, pieces",
      2,
      {N(2, 19, 20, 20), N(2, 5, 20, 20)},
      &(tern_conv2d_opts){.shape = {5, 19, 1, 1}}}},
    {"conv2d_dx",
     {"one place",
      2,
      {N(2, 19, 5, 7), N(19, 70, 1, 1)},
      &(tern_conv2d_opts){.shape = {2, 70, 5, 7}}}},
    {"linear_act",
     {"tanh, pieces", 3, {N(33, 520), N(70, 520), N(70)}, &(tern_linear_opts){.act = TERN_TANH}}},
    {"linear_act_d",
     {"relu, y given",
      5,
      {N(300, 21), N(70, 21), N(70), N(300, 70), {TI_SHAPE(300, 70), TI_S_AWAY, 0}},
      &(tern_linear_opts){.act = TERN_RELU}}},
    {"conv2d_act_d",
     {"one place, relu, y given",
      5,
      {N(2, 9, 5, 8), N(70, 9, 1, 1), N(70), N(2, 70, 5, 8), {TI_SHAPE(2, 70, 5, 8), TI_S_AWAY, 0}},
      &(tern_conv2d_act_opts){.act = TERN_RELU}}},
    {"conv2d_act_d",
     {"no activation",
      5,
      {N(2, 9, 9, 8), N(7, 9, 3, 3), N(7), N(2, 7, 9, 8), {.draw = TI_S_NONE}},
      &(tern_conv2d_act_opts){.pad = {1, 1}}}},
};
#undef N

/* On a GPU by tensor cores: rows of our own, where no library's are before them. */
static void conform_in_tiles(const char *device)
{
    for (int math = TERN_MATH_TF32; math <= TERN_MATH_F16; math++) {
        setenv("TERN_DISABLE", "cudnn,cublaslt", 1);
        run r = {.ref = tc_open("ref"), .dev = tc_open(device), .type = TERN_F32};

        r.math = (tern_math_t)math;
        r.by = strcmp(device, "cpu") == 0 ? NULL : "tensor_";
        cr_assert(tern_math_set(r.dev, r.math) == TERN_OK);
        if (strcmp(device, "simt") == 0) tc_shuffle(r.dev);
        for (size_t i = 0; i < sizeof many_tiles / sizeof *many_tiles; i++)
            one_sample(ti_op_named(many_tiles[i].op), &many_tiles[i].sample, &r);
        cr_log_info("%s in %s, many tiles: %ld values, worst %.2f of its bound: %s", device,
                    tern_math_name(r.math), r.n_compared, r.worst, r.worst_name);
        if (strcmp(device, "simt") == 0) tc_clean(r.dev, 100000);
        tc_close(r.dev);
        tc_close(r.ref);
    }
}

/* ---- Products in bf16 on the processor, of every size: a clock finds them the fastest ---- */

static double bf16_is_fast(void *user, const char *kernel, double seconds)
{
    (void)user;
    (void)seconds;
    return strncmp(kernel, "bf16", 4) == 0 ? 1e-6 : 1e-3;
}

static void conform_by_bf16(bool strided)
{
    if (!ti_bf16_choose(NULL)) cr_skip_test("this machine has no avx512_bf16");
    char path[] = "bf16.XXXXXX";
    run r = {.ref = tc_open("ref"), .dev = tc_open("cpu"), .type = TERN_F32, .strided = strided};
    const int file = mkstemp(path);

    cr_assert(file >= 0 && close(file) == 0 && remove(path) == 0);
    r.math = TERN_MATH_BF16;
    cr_assert(tern_math_set(r.dev, r.math) == TERN_OK);
    ti_tune_clock(r.dev, bf16_is_fast, NULL);
    cr_assert(tern_tune(r.dev, path) == TERN_OK, "%s", tern_error_text(r.dev));
    tc_each_sample(one_sample, &r);
    for (size_t i = 0; i < sizeof many_tiles / sizeof *many_tiles; i++)
        one_sample(ti_op_named(many_tiles[i].op), &many_tiles[i].sample, &r);
    cr_log_info("cpu by bf16: %ld calls, worst %.2f of its bound: %s", r.n_bf16, r.worst,
                r.worst_name);
    cr_expect(r.n_bf16 > 15, "%ld calls", r.n_bf16);
    tc_close(r.dev);
    tc_close(r.ref);
    (void)remove(path);
}

/* The same where the device is there. */
static void conform_if(const char *device, tern_type type, bool strided)
{
    if (tc_has(device)) conform(device, type, strided);
}

Test(conformance, cpu_f32) { conform("cpu", TERN_F32, false); }
Test(conformance, cpu_f32_strided) { conform("cpu", TERN_F32, true); }
Test(conformance, cpu_f64) { conform("cpu", TERN_F64, false); }
Test(conformance, cpu_f64_strided) { conform("cpu", TERN_F64, true); }
Test(conformance, ref_f32) { conform("ref", TERN_F32, false); }
Test(conformance, ref_f32_strided) { conform("ref", TERN_F32, true); }
Test(conformance, simt_f32) { conform_if("simt", TERN_F32, false); }
Test(conformance, simt_f32_strided) { conform_if("simt", TERN_F32, true); }
Test(conformance, simt_f64) { conform_if("simt", TERN_F64, false); }
Test(conformance, simt_f64_strided) { conform_if("simt", TERN_F64, true); }
Test(conformance, cpu_math) { conform_in_modes("cpu"); }
Test(conformance, simt_math)
{
    if (tc_has("simt")) conform_in_modes("simt");
}
Test(conformance, cuda_math)
{
    if (tc_has("cuda")) conform_in_modes("cuda");
}
Test(conformance, cpu_bf16) { conform_by_bf16(false); }
Test(conformance, cpu_bf16_strided) { conform_by_bf16(true); }
Test(conformance, cpu_tiles) { conform_in_tiles("cpu"); }
Test(conformance, simt_tiles)
{
    if (tc_has("simt")) conform_in_tiles("simt");
}
Test(conformance, cuda_tiles)
{
    if (tc_has("cuda")) conform_in_tiles("cuda");
}
Test(conformance, cuda_f32) { conform_if("cuda", TERN_F32, false); }
Test(conformance, cuda_f32_strided) { conform_if("cuda", TERN_F32, true); }
Test(conformance, cuda_f64) { conform_if("cuda", TERN_F64, false); }
Test(conformance, cuda_f64_strided) { conform_if("cuda", TERN_F64, true); }

/* ---- Threads: equal bits for any number ---- */

static void one_by_threads(const ti_op *op, const ti_sample *s, void *user)
{
    tern_ctx *const *ctx = user;
    tern_tensor *in[TI_FEW], *out[TI_OUTS];
    double *first[TI_OUTS] = {0};
    char name[120];

    for (int t = 0; t < 4; t++) {
        tern_frame_begin(ctx[t]);
        tc_inputs(ctx[t], op, s, TERN_F32, 7, in);
        cr_assert(!ti_apply(ctx[t], op, s->opts, s->n_in, in, (1u << op->n_out) - 1, out));
        for (int i = 0; i < op->n_out; i++) {
            if (!out[i] || op->out[i].kind == TI_HINT) continue;
            const size_t bytes = (size_t)tern_count(out[i]->m.shape) * sizeof(double);
            double *x = tc_doubles(ctx[t], out[i]);

            if (t == 0) first[i] = x;
            else {
                cr_expect(memcmp(first[i], x, bytes) == 0, "%s: %d threads give other bits",
                          tc_name(name, op, s), t + 1);
                free(x);
            }
        }
        tern_frame_end(ctx[t]);
    }
    for (int i = 0; i < op->n_out; i++) free(first[i]);
}

Test(conformance, threads_do_not_matter)
{
    tern_ctx *ctx[4];

    for (int t = 0; t < 4; t++) {
        ctx[t] = tc_open("cpu");
        cr_assert(tern_threads_set(ctx[t], t + 1) == TERN_OK);
    }
    tc_each_sample(one_by_threads, ctx);
    for (int t = 0; t < 4; t++) tc_close(ctx[t]);
}
