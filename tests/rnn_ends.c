/*
 * rnn_ends.c - a sequence without steps passes its cotangent on, whatever the weights hold.
 */
#include <criterion/criterion.h>
#include <math.h>

#include "check.h"
#include "tern/grad.h"

/* rnn, gru after, gru before; sequence 0 has no steps, and an infinite weight must not meet it. */
static void infinite_weights(const char *device)
{
    const float x[4] = {1, 2, 3, 4}, h[2] = {0.5f, 0.25f}, w[3] = {1, 1, 1};
    const float u[3] = {INFINITY, INFINITY, INFINITY};
    const int64_t steps[2] = {0, 2};
    tern_ctx *ctx = tc_open(device);

    for (int what = 0; what < 3; what++)
        for (int reverse = 0; reverse < 2; reverse++) {
            const int64_t rows = what == 0 ? 1 : 3;
            const tern_rnn_opts rnn = {.reverse = reverse};
            const tern_gru_opts gru = {.reverse = reverse, .reset_before = what == 2};
            tern_tensor *a = tern_from_host(ctx, TERN_F32, x, TI_SHAPE(2, 2, 1));
            tern_tensor *h0 = tern_track(ctx, tern_from_host(ctx, TERN_F32, h, TI_SHAPE(2, 1)));
            tern_tensor *w_ih = tern_from_host(ctx, TERN_F32, w, TI_SHAPE(rows, 1));
            tern_tensor *w_hh = tern_from_host(ctx, TERN_F32, u, TI_SHAPE(rows, 1));
            tern_tensor *n = tern_from_host(ctx, TERN_I64, steps, TI_SHAPE(2)), *h_n = NULL, *d;
            float got[2];

            if (what == 0) tern_rnn(ctx, &h_n, a, h0, w_ih, w_hh, NULL, NULL, n, &rnn);
            else tern_gru(ctx, &h_n, a, h0, w_ih, w_hh, NULL, NULL, n, &gru);
            cr_assert(!tern_grads(ctx, &d, 1, &h_n, NULL, 1, &h0), "%s", tern_error_text(ctx));
            cr_assert(!tern_to_host(ctx, got, d));
            cr_expect(got[0] == 1, "%d on %s: %g", what, device, (double)got[0]);
        }
    tc_close(ctx);
}

Test(rnn_ends, infinite_weights_do_not_reach_what_is_over)
{
    infinite_weights("cpu");
    infinite_weights("ref");
}
Test(rnn_ends, infinite_weights_do_not_reach_what_is_over_on_simt)
{
    if (tc_has("simt")) infinite_weights("simt");
}
