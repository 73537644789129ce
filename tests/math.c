/* math.c - math modes: what they round, what they leave, the scale of the loss, settings. */
#include "expect.h"

#include "step.h"

#define N TI_SHAPE

/* ---- round_to ---- */

TC_BOTH(math, rounds_to_nearest_even)
{
    /* tf32 has 11 significant bits, bf16 8, f16 11 and multiples of 2^-24 */
    tern_tensor *x = TC(ctx, F32, N(8), 1 + 0x1p-11, 1 + 0x1p-10 + 0x1p-11, 1 + 0x1p-11 + 0x1p-20,
                        -1 - 0x1p-8, 1 + 0x1p-7 + 0x1p-8, 0x1p-126, 3e38, -0.0);

    TC_EXPECT(tern_round_to(ctx, x, TERN_MATH_F32), N(8), 0, 1 + 0x1p-11, 1 + 0x1p-10 + 0x1p-11,
              1 + 0x1p-11 + 0x1p-20, -1 - 0x1p-8, 1 + 0x1p-7 + 0x1p-8, 0x1p-126, (double)3e38f,
              -0.0);
    TC_EXPECT(tern_round_to(ctx, x, TERN_MATH_TF32), N(8), 0, 1, 1 + 0x1p-9, 1 + 0x1p-10,
              -1 - 0x1p-8, 1 + 0x1p-7 + 0x1p-8, 0x1p-126, 0x1.c38p+127, -0.0);
    TC_EXPECT(tern_round_to(ctx, x, TERN_MATH_BF16), N(8), 0, 1, 1, 1, -1, 1 + 0x1p-6, 0x1p-126,
              0x1.c4p+127, -0.0);
    TC_EXPECT(tern_round_to(ctx, x, TERN_MATH_F16), N(8), 0, 1, 1 + 0x1p-9, 1 + 0x1p-10,
              -1 - 0x1p-8, 1 + 0x1p-7 + 0x1p-8, 0, INFINITY, -0.0);
}

TC_BOTH(math, rounds_at_the_ends_of_a_format)
{
    tern_tensor *x = TC(ctx, F32, N(8), 65504, 65519.99609375, -65520, 0x1p-25, -0x1.000002p-25,
                        0x1.8p-24, 0x1p-14 - 0x1p-25, NAN);
    tern_tensor *y = TC(ctx, F32, N(4), 0x1.fffffep127, -0x1.fe7ffep127, 0x1p-149, -INFINITY);

    TC_EXPECT(tern_round_to(ctx, x, TERN_MATH_F16), N(8), 0, 65504, 65504, -INFINITY, 0, -0x1p-24,
              0x1p-23, 0x1p-14, NAN);
    TC_EXPECT(tern_round_to(ctx, y, TERN_MATH_BF16), N(4), 0, INFINITY, -0x1.fep127, 0, -INFINITY);
    TC_EXPECT(tern_round_to(ctx, y, TERN_MATH_TF32), N(4), 0, INFINITY, -0x1.fe8p127, 0, -INFINITY);
}

/* The bit patterns of all kinds of floats: the fast kernel against the definition. */
Test(math, kernels_round_like_the_definition)
{
    enum { COUNT = 100000 };
    tern_ctx *ctx = tc_open("cpu"), *ref = tc_open("ref");
    float *x = malloc(COUNT * sizeof *x), *a = malloc(COUNT * sizeof *a),
          *b = malloc(COUNT * sizeof *b);
    uint64_t state = 7;

    for (int i = 0; i < COUNT; i++) {
        const uint32_t u = (uint32_t)(tc_uniform(&state) * 0x1p32);
        memcpy(&x[i], &u, sizeof u);
        if (i % 2) x[i] = ldexpf(1 + (float)(u >> 20) / 2048, (int)(u % 40) - 26); /* near ties */
    }
    for (int to = TERN_MATH_F32; to <= TERN_MATH_F16; to++) {
        tern_tensor *y = tern_round_to(ctx, tern_from_host(ctx, TERN_F32, x, N(COUNT)), to);
        tern_tensor *z = tern_round_to(ref, tern_from_host(ref, TERN_F32, x, N(COUNT)), to);
        cr_assert(tern_to_host(ctx, a, y) == TERN_OK && tern_to_host(ref, b, z) == TERN_OK);
        for (int i = 0; i < COUNT; i++)
            cr_assert(a[i] != a[i] ? b[i] != b[i] : memcmp(&a[i], &b[i], sizeof *a) == 0,
                      "%s of %a: %a, not %a", tern_math_name(to), (double)x[i], (double)a[i],
                      (double)b[i]);
    }
    free(x);
    free(a);
    free(b);
    tc_close(ctx);
    tc_close(ref);
}

/* ---- Modes ---- */

static void same_bits(tern_ctx *ctx, tern_tensor *a, tern_tensor *b, const char *what)
{
    double *x = tc_doubles(ctx, a), *y = tc_doubles(ctx, b);

    cr_assert(x && y, "%s: %s", what, tern_error_text(ctx));
    cr_expect(memcmp(x, y, (size_t)tern_count(tern_shape_of(a)) * sizeof *x) == 0, "%s differs",
              what);
    free(x);
    free(y);
}

typedef struct {
    tern_ctx *ctx;
    tern_math_t math;
    tern_type type;
    int n, changed; /* calls; those whose bits the mode changed */
} modes;

/* Whether the call's row rounds the operands itself and adds up in an order of its own, as the
 * processor's instructions for bf16 do. */
static bool has_own_order(modes *m, const ti_op *op, const ti_sample *s, tern_tensor *const *in)
{
    int64_t opts[TI_OPTS / 8];
    ti_call c = {.ctx = m->ctx, .op = op, .opts = opts, .n_in = s->n_in, .in = in};

    if (strcmp(tern_device(m->ctx), "cpu") != 0) return false;
    ti_opts_fill(op, opts, s->opts);
    return ti_choose(m->ctx, &c, (1u << op->n_out) - 1)->row->numbers == TI_CLASS_BF16;
}

/* A call in the mode is the strict call on operands rounded before. Where the strict call adds up
 * in another order, it is the same call on those; what that is worth conformance.c looks at. */
static void rounded_call(const ti_op *op, const ti_sample *s, void *user)
{
    modes *m = user;
    tern_ctx *ctx = m->ctx;
    tern_tensor *in[TI_FEW], *by_hand[TI_FEW], *y[TI_OUTS], *want[TI_OUTS], *strict[TI_OUTS];
    char text[120];

    if (!op->operands) return;
    tern_frame_begin(ctx);
    tc_inputs(ctx, op, s, m->type, 5, in);
    for (int i = 0; i < s->n_in; i++)
        by_hand[i] = in[i] && (op->operands >> i & 1) && m->type == TERN_F32
                         ? tern_round_to(ctx, in[i], m->math)
                         : in[i];
    (void)!tern_math_set(ctx, m->math);
    (void)!ti_apply(ctx, op, s->opts, s->n_in, in, (1u << op->n_out) - 1, y);
    if (!has_own_order(m, op, s, in)) (void)!tern_math_set(ctx, TERN_MATH_F32);
    (void)!ti_apply(ctx, op, s->opts, s->n_in, by_hand, (1u << op->n_out) - 1, want);
    (void)!tern_math_set(ctx, TERN_MATH_F32);
    (void)!ti_apply(ctx, op, s->opts, s->n_in, in, (1u << op->n_out) - 1, strict);
    FINE(ctx);
    for (int i = 0; i < op->n_out; i++) {
        if (!y[i]) continue;
        same_bits(ctx, y[i], want[i], tc_name(text, op, s));
        double *a = tc_doubles(ctx, y[i]), *b = tc_doubles(ctx, strict[i]);
        m->changed += memcmp(a, b, (size_t)tern_count(tern_shape_of(y[i])) * sizeof *a) != 0;
        free(a);
        free(b);
    }
    m->n++;
    tern_frame_end(ctx);
}

static void every_mode(const char *device)
{
    for (int math = TERN_MATH_TF32; math <= TERN_MATH_F16; math++)
        for (int wide = 0; wide < 2; wide++) {
            modes m = {tc_open(device), (tern_math_t)math, wide ? TERN_F64 : TERN_F32, 0, 0};

            tc_each_sample(rounded_call, &m);
            cr_expect(m.n > 20, "%d calls", m.n);
            if (wide) cr_expect(m.changed == 0, "f64 was rounded in %d outputs", m.changed);
            else cr_expect(m.changed > 20, "only %d outputs changed", m.changed);
            tc_close(m.ctx);
        }
}
Test(math, a_mode_rounds_the_operands_of_products_and_nothing_else) { every_mode("cpu"); }
Test(math, a_mode_means_the_same_on_ref) { every_mode("ref"); }
Test(math, a_mode_means_the_same_on_simt)
{
    if (tc_has("simt")) every_mode("simt");
}

Test(math, settings_refuse_what_they_must)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tern_math(ctx) == TERN_MATH_F32 && tern_winograd(ctx));
    cr_expect(tern_math_set(ctx, (tern_math_t)7) == TERN_E_ARGUMENT);
    cr_expect(strstr(tern_error_text(ctx), "7"), "%s", tern_error_text(ctx));
    tern_error_clear(ctx);
    cr_expect(tern_math_named("bf16") == TERN_MATH_BF16 && tern_math_named("f64") == -1);
    cr_expect(tern_math_named(NULL) == -1 && tern_math_name(4) == NULL);
    cr_expect(tern_math_set(NULL, TERN_MATH_F16) == TERN_E_ARGUMENT);
    cr_expect(tern_loss_scale(ctx) == NULL);
    TC_REFUSES(tern_round_to(ctx, TC(ctx, F32, N(1), 1), (tern_math_t)9), TERN_E_ARGUMENT, "9");
    TC_REFUSES(tern_round_to(ctx, TC(ctx, I64, N(1), 1), TERN_MATH_F16), TERN_E_TYPE, "i64");
    tc_close(ctx);
}

static int n_winograd; /* calls that a Winograd row took */
static void count_winograd(void *user, const char *topic, const char *text)
{
    (void)user;
    if (strcmp(topic, "dispatch") == 0 && strstr(text, "wino") && strstr(text, " takes "))
        n_winograd++;
}

Test(math, winograd_can_be_refused)
{
    tern_ctx *ctx = tc_open("cpu");
    const tern_conv2d_opts o = {.pad = {1, 1}};
    tern_tensor *x = randoms(ctx, N(8, 32, 16, 16), 3), *w = randoms(ctx, N(32, 32, 3, 3), 4);

    tern_log_to(ctx, count_winograd, NULL);
    cr_assert(tern_conv2d(ctx, x, w, &o) != NULL);
    cr_assert(n_winograd == 1, "this convolution is not one for Winograd: %d", n_winograd);
    cr_assert(tern_winograd_set(ctx, false) == TERN_OK);
    cr_assert(tern_conv2d(ctx, x, w, &o) != NULL);
    cr_expect(n_winograd == 1);
    cr_assert(tern_winograd_set(ctx, true) == TERN_OK);
    cr_assert(tern_conv2d(ctx, x, w, &o) != NULL);
    cr_expect(n_winograd == 1, "the choice is cached");
    tc_close(ctx);
}

/* ---- Steps ---- */

static double run_one(tern_ctx *ctx, tern_program *p, int i)
{
    tern_tensor *in[3], *loss;

    tern_frame_begin(ctx);
    feed(ctx, in, i, 6);
    cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    const double x = tern_item(ctx, loss);
    tern_frame_end(ctx);
    return x;
}

/* The losses of some steps, and all variables at their end. */
static uint64_t steps_in(tern_math_t math, bool eager, double *loss)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, true);
    tern_program *p = tern_record(ctx, train_step, &j);

    cr_assert(tern_math_set(ctx, math) == TERN_OK, "%s", tern_error_text(ctx));
    tern_eager_set(ctx, eager);
    for (int i = 0; i < 12; i++) loss[i] = run_one(ctx, p, i % 2);
    const uint64_t h = hash_vars(ctx, true);
    tc_close(ctx);
    return h;
}

Test(math, modes_train_and_replay_to_the_bit)
{
    double strict[12], loss[12], again[12];

    steps_in(TERN_MATH_F32, false, strict);
    for (int math = TERN_MATH_TF32; math <= TERN_MATH_F16; math++) {
        const uint64_t a = steps_in((tern_math_t)math, false, loss);

        cr_expect(a == steps_in((tern_math_t)math, true, again), "%s: eager and replayed differ",
                  tern_math_name(math));
        cr_expect(memcmp(loss, again, sizeof loss) == 0);
        cr_expect(memcmp(loss, strict, sizeof loss) != 0, "%s changed nothing",
                  tern_math_name(math));
        cr_expect(loss[11] < loss[1], "%s: loss %g to %g", tern_math_name(math), loss[1], loss[11]);
        for (int i = 0; i < 12; i++) /* empirical: a tenth of what bf16 keeps */
            cr_expect(fabs(loss[i] - strict[i]) < 0.1 * strict[i], "%s: step %d: %g, %g",
                      tern_math_name(math), i, loss[i], strict[i]);
    }
}

/* A loss so small that f16 has no number for its cotangents: the scale keeps them. */
static tern_status tiny_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;
    tern_tensor *loss =
        tern_cross_entropy(ctx, tern_forward(ctx, j->net, in[0]), in[1], NULL, NULL);

    out[0] = tern_scale(ctx, loss, 1e-8);
    if (tern_backward(ctx, out[0], j->net)) return tern_error(ctx);
    out[1] = tern_copy(ctx, tern_grad_of(ctx, tern_param_at(ctx, j->net, 0)));
    return tern_optim_step(ctx, j->opt);
}

static double largest_gradient(tern_math_t math, double scale)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, tiny_step, &j);
    tern_tensor *in[3], *out[TERN_STEP_OUT];
    double most = 0;

    cr_assert(tern_math_set(ctx, math) == TERN_OK);
    if (scale > 0) cr_assert(tern_set(ctx, tern_loss_scale(ctx), scale) == TERN_OK);
    feed(ctx, in, 0, 6);
    cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    double *g = tc_doubles(ctx, out[1]);
    for (int64_t i = 0; i < tern_count(tern_shape_of(out[1])); i++) most = fmax(most, fabs(g[i]));
    free(g);
    tc_close(ctx);
    return most;
}

Test(math, the_scale_keeps_small_gradients_and_is_taken_out_again)
{
    const double strict = largest_gradient(TERN_MATH_F32, 0);

    cr_expect(strict > 0 && strict < 1e-7);
    cr_expect(largest_gradient(TERN_MATH_F16, 1) < 0.5 * strict, "without a scale: %g of %g",
              largest_gradient(TERN_MATH_F16, 1), strict);
    cr_expect(fabs(largest_gradient(TERN_MATH_F16, 0) - strict) < 0.01 * strict, "%g, not %g",
              largest_gradient(TERN_MATH_F16, 0), strict);
}

Test(math, an_overflow_skips_the_step_and_halves_the_scale)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, train_step, &j);

    cr_assert(tern_math_set(ctx, TERN_MATH_F16) == TERN_OK);
    cr_expect(value(ctx, tern_loss_scale(ctx)) == 65536);
    (void)run_one(ctx, p, 0);
    cr_expect(value(ctx, tern_loss_scale(ctx)) == 65536);
    cr_expect(value(ctx, tern_loss_scale_good(ctx)) == 1);
    const uint64_t before = hash_vars(ctx, false);
    cr_assert(tern_set(ctx, tern_loss_scale(ctx), 0x1p24) == TERN_OK);
    (void)run_one(ctx, p, 1);
    cr_expect(value(ctx, tern_loss_scale(ctx)) == 0x1p23);
    cr_expect(value(ctx, tern_loss_scale_good(ctx)) == 0);
    cr_expect(value(ctx, tern_tripped(ctx)) == 0);
    cr_expect(hash_vars(ctx, false) == before, "a skipped step changed a variable");
    while (value(ctx, tern_loss_scale_good(ctx)) == 0) (void)run_one(ctx, p, 1);
    cr_expect(hash_vars(ctx, false) != before);
    cr_expect(value(ctx, tern_loss_scale(ctx)) >= 1024, "%g", value(ctx, tern_loss_scale(ctx)));
    cr_expect(tern_program_traces(p) == 1);
    /* after 2,000 good ones it grows; at 1024 nothing overflows here */
    cr_assert(tern_set(ctx, tern_loss_scale(ctx), 1024) == TERN_OK);
    cr_assert(tern_set(ctx, tern_loss_scale_good(ctx), 1998) == TERN_OK);
    (void)run_one(ctx, p, 1);
    cr_expect(value(ctx, tern_loss_scale(ctx)) == 1024);
    cr_expect(value(ctx, tern_loss_scale_good(ctx)) == 1999);
    (void)run_one(ctx, p, 1);
    cr_expect(value(ctx, tern_loss_scale(ctx)) == 2048);
    cr_expect(value(ctx, tern_loss_scale_good(ctx)) == 0);
    tc_close(ctx);
}

/* What is lost in the forward pass is no matter of the scale. */
static tern_status lost_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;
    tern_tensor *y = tern_forward(ctx, j->net, tern_scale(ctx, in[0], 1e6));

    out[0] = tern_cross_entropy(ctx, y, in[1], NULL, NULL);
    if (tern_backward(ctx, out[0], j->net)) return tern_error(ctx);
    return tern_optim_step(ctx, j->opt);
}

Test(math, an_overflow_of_the_forward_pass_trips)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = small_net(ctx, false);
    tern_program *p = tern_record(ctx, lost_step, &j);

    cr_assert(tern_math_set(ctx, TERN_MATH_F16) == TERN_OK);
    const uint64_t before = hash_vars(ctx, false);
    (void)run_one(ctx, p, 0);
    cr_expect(value(ctx, tern_tripped(ctx)) == 1);
    cr_expect(hash_vars(ctx, false) == before);
    tc_close(ctx);
}
