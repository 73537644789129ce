/* fuse.c - the pass that fuses: which lines it replaces, which not, and that numbers stay. */
#include "core/pattern.h"
#include "step.h"

static int count_lines(const ti_plan *p, const char *op)
{
    int n = 0;

    for (int i = 0; i < p->n_line; i++) n += strcmp(p->line[i].op->name, op) == 0;
    return n;
}

static tern_ctx *open_on(const char *device, bool fuses)
{
    tern_ctx *ctx = tc_open(device);

    if (!fuses) snprintf(ctx->env.disable, sizeof ctx->env.disable, "fuse");
    tern_mode(ctx, TERN_TRAIN);
    return ctx;
}

/* ---- The tables ---- */

Test(fuse, every_pattern_can_be_read)
{
    int n = 0;

    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++)
            for (const ti_fusion *f = (*op)->fusions; f && f->forward; f++, n++) {
                ti_names names = {0};
                ti_pattern t;

                cr_expect(ti_pattern_parse(f->forward, &names, &t), "%s", f->forward);
                cr_expect(t.n == ti_pattern_length(f->forward));
                cr_expect(ti_pattern_parse(f->made, &names, &t) && t.n == 1 && t.line[0].op == *op,
                          "%s", f->made);
                for (const ti_rewrite *r = f->backward; r < f->backward + 3 && r->pattern; r++) {
                    const int known = ti_pattern_parse(r->pattern, &names, &t) ? names.n : 0;
                    cr_expect(known > 0, "%s", r->pattern);
                    cr_expect(ti_pattern_parse(r->made, &names, &t) && t.n == 1 && names.n == known,
                              "%s: a name that is not in the pattern", r->made);
                }
            }
    cr_expect(n >= 9, "%d patterns", n);
}

Test(fuse, what_is_no_pattern_is_refused)
{
    static const char *const bad[] = {"",         "y relu x",     "y = ",          "y = nope x",
                                      "y = relu", "y = relu x z", "a, b = relu x", "y = add x"};
    ti_names names = {0};
    ti_pattern t;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(!ti_pattern_parse(bad[i], &names, &t), "\"%s\"", bad[i]);
}

/* ---- A residual net: batch norms with and without a sum, a layer and its activation apart ---- */

static tern_module *residual_net(tern_ctx *ctx)
{
    const tern_nn_conv2d_opts bare = {.kernel = {3, 3}, .pad = {1, 1}, .no_bias = true},
                              conv = {.kernel = {3, 3}, .pad = {1, 1}};
    const tern_nn_residual_opts o = {.act = TERN_RELU};
    tern_module *inner[] = {
        tern_nn_conv2d(ctx, 4, 4, &bare), tern_nn_batch_norm(ctx, 4, NULL), tern_nn_relu(ctx),
        tern_nn_conv2d(ctx, 4, 4, &bare), tern_nn_batch_norm(ctx, 4, NULL), NULL};
    tern_module *parts[] = {tern_nn_conv2d(ctx, 1, 4, &conv),
                            tern_nn_relu(ctx),
                            tern_nn_residual(ctx, inner, &o),
                            tern_nn_maxpool2d(ctx, 2, NULL),
                            tern_nn_flatten(ctx),
                            tern_nn_linear(ctx, 36, 8, NULL),
                            tern_nn_tanh(ctx),
                            tern_nn_linear(ctx, 8, 4, NULL),
                            NULL};

    return tern_sequential(ctx, parts);
}

typedef struct {
    double loss[4], *params;
    int64_t n_params;
    size_t peak;
    uint64_t hash;
} result;

static result run_residual(const char *device, bool fuses, bool eager)
{
    tern_ctx *ctx = open_on(device, fuses);
    job j = {.net = residual_net(ctx)};
    tern_program *p = tern_record(ctx, train_step, &j);
    result r = {0};

    tern_eager_set(ctx, eager);
    j.opt = tern_sgd(ctx, j.net, &(tern_sgd_opts){.lr = 0.05, .momentum = 0.9});
    for (int i = 0; i < 4; i++) {
        tern_tensor *in[3], *loss = NULL;
        tern_frame_begin(ctx);
        feed(ctx, in, i, 6);
        cr_assert(tern_program_run(ctx, &loss, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        r.loss[i] = tern_item(ctx, loss);
        tern_frame_end(ctx);
    }
    tern_tensor *all = tern_read(ctx, tern_module_block(ctx, j.net));
    r.n_params = tern_count(all->m.shape);
    r.params = tc_doubles(ctx, all);
    r.hash = hash_vars(ctx, true);
    r.peak = tern_program_peak(p);
    if (!eager) {
        const ti_plan *plan = ti_last_plan(p);
        const int relus = count_lines(plan, "relu"), norms = count_lines(plan, "batch_norm");
        const int slopes = count_lines(plan, "relu_d"), back = count_lines(plan, "batch_norm_d");
        cr_expect(fuses ? relus == 0 && norms == 0 && slopes == 0 && back == 0
                        : relus == 3 && norms == 2 && slopes == 3 && back == 2,
                  "%s: %d relu, %d batch_norm, %d relu_d, %d batch_norm_d", device, relus, norms,
                  slopes, back);
        cr_expect(count_lines(plan, "bn_add_act") == (fuses ? 2 : 0));
        cr_expect(count_lines(plan, "bn_add_act_d") == (fuses ? 2 : 0));
        cr_expect(count_lines(plan, "tanh") == (fuses ? 0 : 1));
        cr_expect(count_lines(plan, "tanh_d") == (fuses ? 0 : 1));
    }
    FINE(ctx);
    tc_close(ctx);
    return r;
}

static void close_results(const result *a, const result *b, double within)
{
    for (int i = 0; i < 4; i++)
        cr_expect(fabs(a->loss[i] - b->loss[i]) <= within, "step %d: loss %.9g, %.9g", i,
                  a->loss[i], b->loss[i]);
    for (int64_t k = 0; k < a->n_params; k++) {
        const double off = fabs(a->params[k] - b->params[k]);
        cr_expect(off <= within, "parameter %lld: %.9g, %.9g", (long long)k, a->params[k],
                  b->params[k]);
        if (!(off <= within)) break;
    }
}

static void compare_on(const char *device)
{
    if (!tc_has(device)) return;
    result fused = run_residual(device, true, false), again = run_residual(device, true, false);
    result plain = run_residual(device, false, false), eager = run_residual(device, true, true);

    close_results(&fused, &plain, 1e-5);
    cr_expect(fused.hash == again.hash, "fused steps are not repeatable");
    cr_expect(plain.hash == eager.hash, "with fusion off, traced and eager steps differ");
    if (strcmp(device, "cpu") == 0) /* elsewhere a fused derivative may want more scratch */
        cr_expect(fused.peak <= plain.peak, "peak %zu, without %zu", fused.peak, plain.peak);
    free(fused.params);
    free(again.params);
    free(plain.params);
    free(eager.params);
}

Test(fuse, a_residual_net_on_cpu) { compare_on("cpu"); }
Test(fuse, a_residual_net_on_ref) { compare_on("ref"); }
Test(fuse, a_residual_net_on_simt) { compare_on("simt"); }

/* The plan as those outside see it: every operand has a value, and places lie within the arena. */
Test(fuse, a_plan_can_be_looked_at)
{
    tern_ctx *ctx = open_on("cpu", true);
    job j = {.net = residual_net(ctx)};
    tern_program *p = tern_record(ctx, train_step, &j);
    const tern_shape shapes[] = {TI_SHAPE(6, 1, 6, 6), TI_SHAPE(6)};
    const tern_type types[] = {TERN_F32, TERN_I64};
    tern_program_line l;
    tern_program_value v;
    int n_fused = 0, n_commit = 0, n_inside = 0;

    j.opt = tern_adam(ctx, j.net, NULL);
    cr_expect(!tern_program_line_at(p, 0, &l) && !tern_program_value_at(p, 0, &v));
    cr_assert(tern_program_plan(ctx, p, 2, shapes, types) == TERN_OK, "%s", tern_error_text(ctx));
    for (int i = 0; tern_program_line_at(p, i, &l); i++) {
        n_fused += strcmp(l.fused, "batch_norm+add+relu") == 0;
        n_commit += l.commit;
        for (int k = 0; k < l.n_in + l.n_out; k++) {
            const int value = tern_program_operand(p, i, k);
            cr_expect(value < 0 || tern_program_value_at(p, value, &v), "line %d, %d", i, k);
        }
        cr_expect(tern_program_operand(p, i, l.n_in + l.n_out) == -1);
        if (l.commit) cr_expect(strncmp(l.out, "f32[", 4) == 0 || strncmp(l.out, "i64[", 4) == 0);
    }
    for (int i = 0; tern_program_value_at(p, i, &v); i++) {
        n_inside += v.inside != i;
        if (v.inside != i || v.last < 0) continue;
        if (v.kind == TERN_VALUE_INPUT || v.kind == TERN_VALUE_TEMPORARY)
            cr_expect(v.at + v.bytes <= tern_program_peak(p), "value %d", i);
        if (v.kind == TERN_VALUE_VARIABLE) cr_expect(v.name[0], "value %d has no name", i);
    }
    cr_expect(n_fused == 1 && n_commit >= 8 && n_inside > 8, "%d, %d, %d", n_fused, n_commit,
              n_inside);
    tc_close(ctx);
}

/* ---- What must not be fused ---- */

enum { PLAIN, READ_ELSEWHERE, A_RESULT, BROADCAST, TWO_READERS, SWAPPED };
static tern_status odd_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const int kind = *(const int *)user;
    tern_tensor *v = in[1], *n, *r = tern_channels_last(ctx, in[2]), *mean = NULL;

    n = tern_batch_norm(ctx, &mean, NULL, in[0], v, v, v, v, NULL);
    if (kind == BROADCAST) r = tern_reshape(ctx, v, TI_SHAPE(tern_count(v->m.shape), 1, 1));
    out[0] = tern_relu(ctx, kind == SWAPPED ? tern_add(ctx, r, n) : tern_add(ctx, n, r));
    if (kind == READ_ELSEWHERE) out[1] = tern_exp(ctx, n);
    if (kind == A_RESULT) out[1] = n;
    if (kind == TWO_READERS) out[1] = mean;
    return tern_error(ctx);
}

static void odd(int kind, int n_fused, int n_relu)
{
    tern_ctx *a = open_on("cpu", true), *b = open_on("cpu", false);
    double *x[2][2] = {{NULL}};
    int64_t count[2] = {0};

    for (int i = 0; i < 2; i++) {
        tern_ctx *ctx = i ? b : a;
        tern_program *p = tern_record(ctx, odd_step, &kind);
        tern_tensor *out[2] = {NULL};
        tern_tensor *in[] = {randoms(ctx, TI_SHAPE(4, 5, 3, 3), 1), randoms(ctx, TI_SHAPE(5), 2),
                             randoms(ctx, TI_SHAPE(4, 5, 3, 3), 3), NULL};

        cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        const int made = count_lines(ti_last_plan(p), "bn_add_act");
        const int left =
            count_lines(ti_last_plan(p), "relu") + count_lines(ti_last_plan(p), "chain");
        cr_expect(made == (i ? 0 : n_fused) && left == (i ? 1 : n_relu), "%d: %d made, %d relu",
                  kind, made, left);
        for (int k = 0; k < 2 && out[k]; k++) {
            count[k] = tern_count(out[k]->m.shape);
            x[i][k] = tc_doubles(ctx, out[k]);
        }
    }
    for (int k = 0; k < 2 && x[0][k]; k++)
        for (int64_t m = 0; m < count[k]; m++)
            cr_expect(fabs(x[0][k][m] - x[1][k][m]) <= 1e-5, "%d: %g, %g", kind, x[0][k][m],
                      x[1][k][m]);
    for (int i = 0; i < 4; i++) free(x[i / 2][i % 2]);
    tc_close(a);
    tc_close(b);
}

Test(fuse, a_sum_in_either_order) { odd(PLAIN, 1, 0), odd(SWAPPED, 1, 0); }
Test(fuse, other_outputs_live_on) { odd(TWO_READERS, 1, 0); }
Test(fuse, not_what_others_read) { odd(READ_ELSEWHERE, 0, 1); }
Test(fuse, not_what_is_a_result) { odd(A_RESULT, 0, 1); }
Test(fuse, not_a_sum_that_broadcasts) { odd(BROADCAST, 0, 1); }

/* An output of the first replaced line is read before the last one, so the new line moves up to its
 * reader where all that it reads is there by then, and is not made where it is not. */
static tern_status early_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const bool late = *(const bool *)user;
    tern_tensor *v = in[1], *mean = NULL, *r = tern_channels_last(ctx, in[2]), *n;

    n = tern_batch_norm(ctx, &mean, NULL, in[0], v, v, v, v, NULL);
    tern_tensor *m = tern_exp(ctx, mean);
    if (late) r = tern_add(ctx, r, tern_reshape(ctx, m, TI_SHAPE(tern_count(v->m.shape), 1, 1)));
    out[0] = tern_relu(ctx, tern_add(ctx, n, r));
    out[1] = m;
    return tern_error(ctx);
}

Test(fuse, a_line_moves_up_to_its_reader_or_is_not_made)
{
    for (int late = 0; late < 2; late++) {
        bool user = late != 0;
        tern_ctx *ctx = open_on("cpu", true);
        tern_program *p = tern_record(ctx, early_step, &user);
        tern_tensor *out[2],
            *in[] = {randoms(ctx, TI_SHAPE(4, 5, 3, 3), 1), randoms(ctx, TI_SHAPE(5), 2),
                     randoms(ctx, TI_SHAPE(4, 5, 3, 3), 3), NULL};
        tern_tensor *again[2];

        cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        cr_expect(count_lines(ti_last_plan(p), "bn_add_act") == !late, "late %d", late);
        cr_assert(early_step(ctx, again, in, &user) == TERN_OK);
        for (int k = 0; k < 2; k++) {
            double *x = tc_doubles(ctx, out[k]), *y = tc_doubles(ctx, again[k]);
            for (int64_t i = 0; i < tern_count(out[k]->m.shape); i++)
                cr_expect(fabs(x[i] - y[i]) <= 1e-5, "%g, %g", x[i], y[i]);
            free(x);
            free(y);
        }
        tc_close(ctx);
    }
}

/* A device that computes nothing plans the same. */
Test(fuse, the_null_device_plans_the_same)
{
    int n[2];

    for (int i = 0; i < 2; i++) {
        tern_ctx *ctx = open_on(i ? "null" : "cpu", true);
        job j = {.net = residual_net(ctx)};
        tern_program *p = tern_record(ctx, train_step, &j);
        const tern_shape shapes[] = {TI_SHAPE(6, 1, 6, 6), TI_SHAPE(6)};
        const tern_type types[] = {TERN_F32, TERN_I64};

        j.opt = tern_adam(ctx, j.net, NULL);
        cr_assert(tern_program_plan(ctx, p, 2, shapes, types) == TERN_OK, "%s",
                  tern_error_text(ctx));
        n[i] = count_lines(ti_last_plan(p), "bn_add_act") + count_lines(ti_last_plan(p), "relu");
        tc_close(ctx);
    }
    cr_expect(n[0] == 2 && n[1] == 2, "%d lines on cpu, %d on null", n[0], n[1]);
}

/* Gradients of a gradient's norm: both derivatives of the first pattern, and what is no pattern. */
static tern_status penalty_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_var **w = user;
    tern_tensor *x = tern_track(ctx, in[0]), *g, *v = tern_read(ctx, w[0]);
    tern_tensor *n = tern_batch_norm(ctx, NULL, NULL, x, v, v, v, v, NULL);
    tern_tensor *y = tern_relu(ctx, tern_add(ctx, n, x)), *gy = tern_mul(ctx, y, y);

    if (tern_grads(ctx, &g, 1, &y, &gy, 1, &x)) return tern_error(ctx);
    tern_tensor *loss = tern_sum(ctx, tern_mul(ctx, g, g), NULL);
    if (tern_grads(ctx, &out[1], 1, &loss, NULL, 1, &x)) return tern_error(ctx);
    out[0] = loss;
    return tern_error(ctx);
}

Test(fuse, second_derivatives_stay)
{
    double *x[2];
    int made = 0;

    for (int i = 0; i < 2; i++) {
        tern_ctx *ctx = open_on("cpu", i == 0);
        tern_var *w[] = {tern_variable(ctx, "w", TERN_F32, TI_SHAPE(5))};
        tern_program *p = tern_record(ctx, penalty_step, w);
        tern_tensor *out[2] = {NULL}, *in[] = {randoms(ctx, TI_SHAPE(4, 5, 3, 3), 1), NULL};

        cr_assert(tern_assign(ctx, w[0], randoms(ctx, TI_SHAPE(5), 2)) == TERN_OK);
        cr_assert(tern_program_run(ctx, out, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        made += i == 0 ? count_lines(ti_last_plan(p), "bn_add_act") : 0;
        x[i] = tc_doubles(ctx, out[1]);
        tc_close(ctx);
    }
    for (int i = 0; i < 180; i++)
        cr_expect(fabs(x[0][i] - x[1][i]) <= 1e-4 * (1 + fabs(x[1][i])), "%g, %g", x[0][i],
                  x[1][i]);
    free(x[0]);
    free(x[1]);
    cr_expect(made <= 1, "%d", made); /* the derivative reads the batch norm's result or not */
}
