/*
 * chain.c - elementwise calls that programs run as one: which, which not, and that bits stay.
 */
#include "step.h"
#include "tern/ops.h"

enum { SWISH, LONG, WIDE, READ_TWICE, BROADCAST };

static tern_tensor *swish(tern_ctx *ctx, tern_tensor *x)
{
    return tern_mul(ctx, x, tern_sigmoid(ctx, x));
}

static tern_tensor *function(tern_ctx *ctx, int kind, tern_tensor **in, tern_tensor **also)
{
    tern_tensor *x = in[0], *y = x, *t;

    switch (kind) {
    case SWISH: return tern_relu(ctx, tern_shift(ctx, swish(ctx, x), 0.1));
    case LONG:
        for (int i = 0; i < 10; i++) y = tern_tanh(ctx, tern_scale(ctx, y, 1.5));
        return y;
    case WIDE:
        for (int i = 1; i < 6; i++) y = tern_add(ctx, y, tern_scale(ctx, in[i], 0.5));
        return y;
    case READ_TWICE:
        t = tern_exp(ctx, tern_neg(ctx, x));
        *also = t;
        return tern_mul(ctx, tern_sqrt(ctx, t), in[1]);
    default: return tern_relu(ctx, tern_add(ctx, x, in[6]));
    }
}

static tern_status forward_and_back(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *also = NULL, *own[7];

    for (int i = 0; i < 7; i++) own[i] = in[i];
    own[0] = tern_track(ctx, in[0]);
    out[0] = function(ctx, *(const int *)user, own, &also);
    if (tern_grads(ctx, &out[1], 1, out, NULL, 1, own)) return tern_error(ctx);
    out[2] = also;
    return tern_error(ctx);
}

typedef struct {
    double *x[3];
    int n_chain, n_line;
    size_t peak;
} outcome;

static outcome outcome_of(const char *device, int kind, bool fuses)
{
    tern_ctx *ctx = tc_open(device);
    tern_program *p = tern_record(ctx, forward_and_back, &kind);
    const tern_shape shape = TI_SHAPE(3, 5, 61);
    tern_tensor *in[8] = {NULL}, *out[3] = {NULL};
    outcome o = {.n_chain = 0};

    if (!fuses) snprintf(ctx->env.disable, sizeof ctx->env.disable, "fuse");
    for (int i = 0; i < 7; i++)
        in[i] = randoms(ctx, i == 6 ? TI_SHAPE(61) : shape, 40 + (uint64_t)i);
    cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    for (int i = 0; i < 3 && out[i]; i++) o.x[i] = tc_doubles(ctx, out[i]);
    for (tern_program_line l; tern_program_line_at(p, o.n_line, &l); o.n_line++)
        o.n_chain += strcmp(l.op, "chain") == 0;
    o.peak = tern_program_peak(p);
    tc_close(ctx);
    return o;
}

/* bits: the device's kernels are those of the single calls. */
static void compare(const char *device, int kind, bool bits, bool chains)
{
    if (!tc_has(device)) return;
    outcome a = outcome_of(device, kind, true), b = outcome_of(device, kind, false);

    cr_expect((a.n_chain > 0) == chains && b.n_chain == 0, "%d: %d chains", kind, a.n_chain);
    cr_expect(chains ? a.n_line < b.n_line : a.n_line == b.n_line, "%d: %d lines, %d", kind,
              a.n_line, b.n_line);
    cr_expect(a.peak <= b.peak, "%d: %zu bytes, %zu", kind, a.peak, b.peak);
    for (int k = 0; k < 3; k++) {
        cr_assert((a.x[k] != NULL) == (b.x[k] != NULL));
        for (int i = 0; a.x[k] && i < 3 * 5 * 61; i++) {
            const double off = fabs(a.x[k][i] - b.x[k][i]);
            const bool good = bits ? off == 0 : off <= 1e-5;
            cr_expect(good, "%s, %d: %.9g, %.9g", device, kind, a.x[k][i], b.x[k][i]);
            if (!good) break;
        }
        free(a.x[k]);
        free(b.x[k]);
    }
}

Test(chain, calls_that_follow_each_other) { compare("cpu", SWISH, true, true); }
Test(chain, more_steps_than_one_holds) { compare("cpu", LONG, true, true); }
Test(chain, more_inputs_than_one_takes) { compare("cpu", WIDE, true, true); }
Test(chain, not_past_what_is_a_result) { compare("cpu", READ_TWICE, true, true); }
Test(chain, no_operands_that_broadcast) { compare("cpu", BROADCAST, true, false); }
Test(chain, on_the_emulated_device)
{
    for (int kind = SWISH; kind <= READ_TWICE; kind++) compare("simt", kind, false, true);
}

Test(chain, wrong_arguments)
{
    static const tern_chain_opts bad[] = {
        {.kind = {0}},                                                       /* no step */
        {.kind = {TERN_CHAIN_NEG}, .a = {3}},                                /* its own result */
        {.kind = {TERN_CHAIN_NEG}, .a = {-1}},                               /* */
        {.kind = {TERN_CHAIN_ADD}, .a = {0}, .b = {1}},                      /* an absent input */
        {.kind = {TERN_CHAIN_NEG, TERN_CHAIN_ABS}, .a = {0, 0}},             /* step 0 is lost */
        {.kind = {TERN_CHAIN_KINDS}},                                        /* no such kind */
        {.kind = {-1}},                                                      /* */
        {.kind = {TERN_CHAIN_NEG, TERN_CHAIN_END, TERN_CHAIN_ABS}, .a = {1}} /* absent again */
    };
    tern_ctx *ctx = tc_open("cpu");
    tern_tensor *x = randoms(ctx, TI_SHAPE(3), 1), *y = randoms(ctx, TI_SHAPE(4), 1);
    const tern_chain_opts sum = {.kind = {TERN_CHAIN_ADD}, .b = {1}};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(!tern_chain(ctx, x, NULL, NULL, &bad[i]), "%zu", i);
        cr_expect(tern_error(ctx) == TERN_E_ARGUMENT, "%zu: %s", i, tern_error_text(ctx));
        tern_error_clear(ctx);
    }
    cr_expect(!tern_chain(ctx, x, y, NULL, &sum) && tern_error(ctx) == TERN_E_SHAPE);
    tern_error_clear(ctx);
    cr_expect(!tern_chain(ctx, x, x, x, &sum) && tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_chain(ctx, x, x, NULL, &sum) != NULL);
    FINE(ctx);
    tc_close(ctx);
}
