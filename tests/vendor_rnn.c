/*
 * vendor_rnn.c - recurrent layers by cuDNN, against a stand-in for the library (tests/simt): right
 * ones are trusted and used, forward and back; wrong ones are found out; and what the library does
 * not compute is refused with its reason, and is our own row's.
 */
#include "vendor.h"

enum { T = 5, N = 3, D = 6, H = 4 };

/* The setting without which the library may differ from run to run. */
static bool open_repeatable(shim *s)
{
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2", 1);
    return shim_open(s, TC_SHIM_CUDNN);
}

typedef struct {
    char kind; /* r, l, g */
    bool states, bias_ih, bias_hh, last, lengths;
    tern_rnn_opts o; /* the others begin with the same field */
    int reset_before;
} net;

enum { OUTS = 10 };

/* y, h_n, c_n, and what they make of all inputs; how many. */
static int run(tern_ctx *c, const net *a, tern_tensor **out)
{
    const int G = a->kind == 'l' ? 4 : a->kind == 'g' ? 3 : 1;
    const int64_t lengths[N] = {T, 2, 0};
    tern_tensor *x = draw(c, TERN_F32, 1, TI_SHAPE(T, N, D)), *h0 = NULL, *c0 = NULL;
    tern_tensor *w_ih = draw(c, TERN_F32, 3, TI_SHAPE(G * H, D)),
                *w_hh = draw(c, TERN_F32, 4, TI_SHAPE(G * H, H)), *b_ih = NULL, *b_hh = NULL;
    tern_tensor *of = a->lengths ? tern_from_host(c, TERN_I64, lengths, TI_SHAPE(N)) : NULL;
    tern_tensor *in[7], *y, *h_n = NULL, *c_n = NULL, *loss = NULL;
    int n = 0, n_in = 0;

    if (a->states) h0 = draw(c, TERN_F32, 2, TI_SHAPE(N, H));
    if (a->states && a->kind == 'l') c0 = draw(c, TERN_F32, 7, TI_SHAPE(N, H));
    if (a->bias_ih) b_ih = draw(c, TERN_F32, 5, TI_SHAPE(G * H));
    if (a->bias_hh) b_hh = draw(c, TERN_F32, 6, TI_SHAPE(G * H));
    tern_tensor **const all[] = {&x, &h0, &c0, &w_ih, &w_hh, &b_ih, &b_hh};
    for (int i = 0; i < 7; i++)
        if (*all[i]) in[n_in++] = *all[i] = tern_track(c, *all[i]);
    if (a->kind == 'l')
        y = tern_lstm(c, &h_n, &c_n, x, h0, c0, w_ih, w_hh, b_ih, b_hh, of,
                      &(tern_lstm_opts){a->o.reverse});
    else if (a->kind == 'g')
        y = tern_gru(c, &h_n, x, h0, w_ih, w_hh, b_ih, b_hh, of,
                     &(tern_gru_opts){a->o.reverse, a->reset_before});
    else y = tern_rnn(c, &h_n, x, h0, w_ih, w_hh, b_ih, b_hh, of, &a->o);
    tern_tensor *const ends[] = {y, h_n, c_n};
    for (int i = a->last; i < 2 + (a->kind == 'l'); i++) {
        tern_tensor *part = tern_sum(c, tern_mul(c, ends[i], ends[i]), NULL);
        loss = loss ? tern_add(c, loss, part) : part;
    }
    cr_assert(tern_grads(c, out, 1, &loss, NULL, n_in, in) == TERN_OK, "%s", tern_error_text(c));
    n = n_in;
    for (int i = 0; i < 2 + (a->kind == 'l'); i++) out[n++] = ends[i];
    return n;
}

/* The log of running both; all results agree. */
static void agree(const net *a, memory *log, double allowed)
{
    tern_ctx *both[2] = {open_simt(log), tc_open("ref")};
    tern_tensor *out[2][OUTS];
    int n = 0;

    for (int k = 0; k < 2; k++) n = run(both[k], a, out[k]);
    for (int i = 0; i < n; i++) near(both[0], out[0][i], both[1], out[1][i], allowed);
    tc_close(both[0]);
    tc_close(both[1]);
}

static const char *name_of(const net *a)
{
    return a->kind == 'l' ? "lstm" : a->kind == 'g' ? "gru" : "rnn";
}

Test(vendor, recurrent_layers_and_their_gradients)
{
    static const net all[] = {
        {'r', .states = true, .bias_ih = true, .bias_hh = true},
        {'r', .bias_ih = true, .o = {.act = TERN_RELU}},
        {'r', .states = true, .bias_hh = true, .last = true},
        {'l', .states = true, .bias_ih = true, .bias_hh = true},
        {'l', .bias_hh = true},
        {'l', .states = true, .last = true},
        {'g', .states = true, .bias_ih = true, .bias_hh = true},
        {'g', .bias_ih = true, .last = true},
        {'g'},
    };
    static memory log;
    char taken[40];
    shim s;

    if (!open_repeatable(&s)) return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        agree(&all[i], &log, 3e-5);
        cr_expect(!strstr(log.text, "dropped"), "%zu: %s", i, log.text);
        snprintf(taken, sizeof taken, "%s_d/cudnn takes", name_of(&all[i]));
        cr_expect(strstr(log.text, taken), "%zu: no \"%s\" in:\n%s", i, taken, log.text);
    }
    cr_expect(s.calls() > 0);
}

/* Without history nobody wants our reserve, and the library runs forward for all three. */
Test(vendor, recurrent_layers_forward)
{
    static memory log;
    shim s;

    if (!open_repeatable(&s)) return;
    tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
    tern_tensor *y[2][5];
    for (int k = 0; k < 2; k++) {
        tern_ctx *c = both[k];
        tern_tensor *x = draw(c, TERN_F32, 1, TI_SHAPE(T, N, D));
        tern_tensor *b = draw(c, TERN_F32, 2, TI_SHAPE(4 * H));

        y[k][0] = tern_rnn(c, NULL, x, NULL, draw(c, TERN_F32, 3, TI_SHAPE(H, D)),
                           draw(c, TERN_F32, 4, TI_SHAPE(H, H)), NULL, NULL, NULL, NULL);
        y[k][1] = tern_gru(c, &y[k][2], x, NULL, draw(c, TERN_F32, 3, TI_SHAPE(3 * H, D)),
                           draw(c, TERN_F32, 4, TI_SHAPE(3 * H, H)), NULL, NULL, NULL, NULL);
        y[k][3] =
            tern_lstm(c, NULL, &y[k][4], x, NULL, NULL, draw(c, TERN_F32, 3, TI_SHAPE(4 * H, D)),
                      draw(c, TERN_F32, 4, TI_SHAPE(4 * H, H)), b, NULL, NULL, NULL);
    }
    for (int i = 0; i < 5; i++) near(both[0], y[0][i], both[1], y[1][i], 2e-6);
    cr_expect(strstr(log.text, "rnn/cudnn takes") && strstr(log.text, "gru/cudnn takes") &&
                  strstr(log.text, "lstm/cudnn takes"),
              "%s", log.text);
    tc_close(both[0]);
    tc_close(both[1]);
}

Test(vendor, what_the_library_does_not_run_our_own_row_runs)
{
    static const struct {
        net a;
        const char *why;
    } all[] = {
        {{'l', .lengths = true}, "lstm_d/cudnn refuses: lengths lie on the device"},
        {{'r', .o = {.reverse = 1}}, "rnn/cudnn refuses: the library runs backwards only"},
        {{'g', .reset_before = 1}, "gru_d/cudnn refuses: the library's reset gate acts behind"},
        {{'l', .states = true}, "lstm/cudnn refuses: the library's reserve is of another form"},
    };
    static memory log;
    shim s;

    if (!open_repeatable(&s)) return;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        agree(&all[i].a, &log, 3e-5);
        cr_expect(strstr(log.text, all[i].why), "no \"%s\" in:\n%s", all[i].why, log.text);
    }
    const long before = s.calls();
    unsetenv("CUBLAS_WORKSPACE_CONFIG");
    agree(&(net){'r'}, &log, 3e-5);
    cr_expect(s.calls() == before);
    cr_expect(strstr(log.text, "rnn/cudnn refuses: may differ from run to run"), "%s", log.text);
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 1);
    agree(&(net){'r'}, &log, 3e-5);
    cr_expect(s.calls() == before);
}

static void distrusts(int how, const net *a, const char *why)
{
    static memory log;
    shim s;

    if (!open_repeatable(&s)) return;
    s.behave(how);
    agree(a, &log, 3e-5);
    cr_expect(strstr(log.text, why), "wanted \"%s\" in:\n%s", why, log.text);
    cr_expect(!strstr(log.text, "_d/cudnn takes"), "%s", log.text);
}

static const net lstm = {'l', .states = true, .bias_ih = true, .bias_hh = true};

Test(vendor, a_wrong_net_is_found_out)
{
    distrusts(SHIM_WRONG, &lstm, "info: lstm_d by cudnn: element");
}
Test(vendor, a_net_that_does_not_repeat_is_found_out)
{
    distrusts(SHIM_RESTLESS, &lstm, "lstm_d by cudnn: two runs differ in their bits");
}
Test(vendor, a_net_that_writes_too_far_is_found_out)
{
    distrusts(SHIM_BEYOND, &lstm, "lstm_d by cudnn: it writes behind its output");
}
Test(vendor, a_net_that_hides_nan_is_found_out)
{
    distrusts(SHIM_NO_NAN, &lstm, "a NaN where steps gives");
}
Test(vendor, a_net_that_leaves_elements_is_found_out)
{
    distrusts(SHIM_PARTLY, &lstm, "nan, steps gives");
}
Test(vendor, a_relu_net_that_hides_nan_is_found_out)
{
    distrusts(SHIM_RELU_HIDES_NAN, &(net){'r', .o = {.act = TERN_RELU}}, "rnn by cudnn: element");
}
Test(vendor, a_library_without_such_a_net_refuses)
{
    distrusts(SHIM_HELPLESS, &lstm, "lstm_d/cudnn refuses: cuDNN has no plan: ");
}
Test(vendor, a_net_that_fails_costs_the_plan_only)
{
    distrusts(SHIM_FAILING, &lstm, "the shim was told to fail");
}

/* An operand between multiples of 16 bytes: the plan is there, our own row runs. */
Test(vendor, a_net_that_lies_oddly_is_our_own_rows)
{
    static memory log;
    shim s;

    if (!open_repeatable(&s)) return;
    tern_ctx *both[2] = {open_simt(&log), tc_open("ref")};
    tern_tensor *y[2];
    long before = 0;
    for (int k = 0; k < 2; k++) {
        tern_ctx *c = both[k];
        tern_tensor *x = draw(c, TERN_F32, 1, TI_SHAPE(T + 1, 1, 5));
        tern_tensor *w = draw(c, TERN_F32, 3, TI_SHAPE(H, 5)),
                    *u = draw(c, TERN_F32, 4, TI_SHAPE(H, H));

        for (int64_t from = 0; from < 2; from++) {
            tern_tensor *part = tern_slice(c, x, &(tern_slice_opts){.from = from, .count = T});

            if (k == 0) before = s.calls();
            y[k] = tern_rnn(c, NULL, part, NULL, w, u, NULL, NULL, NULL, NULL);
        }
        if (k == 0) cr_expect(s.calls() == before);
    }
    cr_expect(strstr(log.text, "rnn/cudnn takes"), "%s", log.text);
    near(both[0], y[0], both[1], y[1], 2e-6);
    tc_close(both[0]);
    tc_close(both[1]);
}
