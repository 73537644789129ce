/* plan.c - what becomes of a step: tracing, passes, text, assignments that are hard to place. */
#include <stdio.h>
#include <time.h>

#include "step.h"

/* Homes alive at the same time that share bytes of the arena. */
static int overlaps(const ti_plan *p)
{
    int n = 0;

    for (int a = 0; a < p->n_value; a++)
        for (int b = a + 1; b < p->n_value; b++) {
            const ti_value *x = &p->value[a], *y = &p->value[b];
            if (x->home != a || y->home != b || x->last < 0 || y->last < 0) continue;
            if ((x->kind != TI_INPUT && x->kind != TI_TEMPORARY) ||
                (y->kind != TI_INPUT && y->kind != TI_TEMPORARY))
                continue;
            n += x->first <= y->last && y->first <= x->last && x->at < y->at + y->bytes &&
                 y->at < x->at + x->bytes;
        }
    return n;
}

/* What is alive at the fullest line: no placement can do with less. */
static size_t least_arena(const ti_plan *p)
{
    size_t most = 0;

    for (int i = 0; i < p->n_line; i++) {
        size_t now = 0;
        for (int v = 0; v < p->n_value; v++) {
            const ti_value *x = &p->value[v];
            if (x->home != v || x->first > i || x->last < i) continue;
            if (x->kind == TI_INPUT || x->kind == TI_TEMPORARY) now += (x->bytes + 63) / 64 * 64;
        }
        if (now > most) most = now;
    }
    return most;
}

static int count_lines(const ti_plan *p, const char *op)
{
    int n = 0;

    for (int i = 0; i < p->n_line; i++) n += strcmp(p->line[i].op->name, op) == 0;
    return n;
}

/* ---- Variables ---- */

static tern_status swap_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_var **v = user;
    tern_tensor *a = tern_read(ctx, v[0]), *b = tern_read(ctx, v[1]);

    (void)in;
    (void)!tern_assign(ctx, v[0], b);
    (void)!tern_assign(ctx, v[1], a);
    out[0] = tern_read(ctx, v[0]); /* the pending value */
    out[1] = a;                    /* the old one */
    return tern_error(ctx);
}

Test(plan, two_variables_are_swapped)
{
    for (int eager = 0; eager < 2; eager++) {
        tern_ctx *ctx = tc_open("cpu");
        tern_var *v[] = {tern_variable(ctx, "a", TERN_F32, TI_SHAPE(2)),
                         tern_variable(ctx, "b", TERN_F32, TI_SHAPE(2))};
        tern_program *p = tern_record(ctx, swap_step, v);
        tern_tensor *out[2], *old;
        double x[2];

        tern_eager_set(ctx, eager);
        check_option(ctx, "poison");
        cr_assert(tern_set(ctx, v[0], 1) == TERN_OK && tern_set(ctx, v[1], 2) == TERN_OK);
        const char *address = v[0]->store->data;
        old = tern_read(ctx, v[0]);
        (void)!tern_program_run(ctx, out, p, NULL);
        (void)!tern_to_doubles(ctx, x, old);
        cr_expect(x[0] == 1 && x[1] == 1, "a tensor changed: %g", x[0]);
        (void)!tern_to_doubles(ctx, x, tern_read(ctx, v[0]));
        cr_expect(x[0] == 2, "a is %g", x[0]);
        (void)!tern_to_doubles(ctx, x, tern_read(ctx, v[1]));
        cr_expect(x[0] == 1, "b is %g", x[0]);
        (void)!tern_to_doubles(ctx, x, out[0]);
        cr_expect(x[0] == 2, "pending read %g", x[0]);
        (void)!tern_to_doubles(ctx, x, out[1]);
        cr_expect(x[0] == 1, "old read %g", x[0]);
        cr_expect(v[0]->store->data == address, "the address moved");
        tc_close(ctx);
    }
}

/* Assignments that must not be made in place, and a read across pending ranges. */
enum { READ_LATER, RANGE_EARLY_BLOCK_LATE, MOVED_ALONG, IN_PIECES, INDEX_LATER, N_ODD };
typedef struct {
    tern_var *part[3], *block;
    int what;
} odd;

static tern_status odd_step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    odd *o = user;
    tern_var *b = o->part[1], *block = o->block;
    tern_tensor *old = tern_read(ctx, o->part[0]), *early = tern_scale(ctx, in[1], 2), *x;

    out[0] = tern_sum(ctx, in[0], NULL);
    switch (o->what) {
    case READ_LATER:
        (void)!tern_assign(ctx, o->part[0], tern_mul(ctx, old, old));
        out[0] = tern_sum(ctx, tern_add(ctx, tern_mul(ctx, old, old), old), NULL);
        break;
    case RANGE_EARLY_BLOCK_LATE:
        (void)!tern_block_assign(ctx, block, 0, tern_scale(ctx, in[0], 3));
        (void)!tern_assign(ctx, b, early);
        break;
    case MOVED_ALONG:
        x = tern_block_read(ctx, block, 0, 9);
        (void)!tern_block_assign(ctx, block, 2, tern_relu(ctx, x));
        break;
    case IN_PIECES:
        (void)!tern_assign(ctx, b, early);
        x = tern_block_read(ctx, block, 0, block->count);
        out[0] = tern_sum(ctx, tern_mul(ctx, x, in[0]), NULL);
        break;
    case INDEX_LATER:
        (void)!tern_assign(ctx, b, early);
        out[0] = tern_sum(ctx, tern_take(ctx, in[0], in[2]), NULL);
        break;
    }
    return tern_error(ctx);
}

static tern_ctx *open_odd(odd *o)
{
    static const char *const names[] = {"a", "b", "c"};
    static const int64_t n[] = {6, 4, 11};
    tern_ctx *ctx = tc_open("cpu");
    uint64_t seed = 3;

    for (int i = 0; i < 3; i++) o->part[i] = tern_variable(ctx, names[i], TERN_F32, TI_SHAPE(n[i]));
    o->block = tern_block(ctx, "abc", 3, o->part);
    for (int i = 0; i < 3; i++)
        (void)!tern_assign(ctx, o->part[i], randoms(ctx, TI_SHAPE(n[i]), seed++));
    FINE(ctx);
    return ctx;
}

Test(plan, odd_assignments_are_those_of_eager_steps)
{
    for (int what = 0; what < N_ODD; what++) {
        uint64_t h[2];
        double x[2];

        for (int eager = 0; eager < 2; eager++) {
            odd o = {.what = what};
            tern_ctx *ctx = open_odd(&o);
            tern_program *p = tern_record(ctx, odd_step, &o);
            const int64_t index[] = {3, 20, 0};
            tern_tensor *y, *in[] = {randoms(ctx, TI_SHAPE(21), 13), randoms(ctx, TI_SHAPE(4), 14),
                                     tern_from_host(ctx, TERN_I64, index, TI_SHAPE(3)), NULL};

            tern_eager_set(ctx, eager);
            check_option(ctx, "poison");
            cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "case %d: %s", what,
                      tern_error_text(ctx));
            x[eager] = tern_item(ctx, y);
            h[eager] = hash_vars(ctx, true);
            if (!eager) cr_expect(overlaps(ti_last_plan(p)) == 0);
            tc_close(ctx);
        }
        cr_expect(h[0] == h[1] && x[0] == x[1], "case %d: traced %g, eager %g", what, x[0], x[1]);
    }
}

/* A kernel that finds an index out of range fails the step before anything is written. */
Test(plan, a_bad_index_changes_nothing)
{
    for (int eager = 0; eager < 2; eager++) {
        odd o = {.what = INDEX_LATER};
        tern_ctx *ctx = open_odd(&o);
        tern_program *p = tern_record(ctx, odd_step, &o);
        const int64_t index[] = {3, 21, 0};
        tern_tensor *y, *in[] = {randoms(ctx, TI_SHAPE(21), 13), randoms(ctx, TI_SHAPE(4), 14),
                                 tern_from_host(ctx, TERN_I64, index, TI_SHAPE(3)), NULL};
        const uint64_t before = hash_vars(ctx, true);

        tern_eager_set(ctx, eager);
        cr_expect(tern_program_run(ctx, &y, p, in) == TERN_E_VALUE);
        cr_expect(strstr(tern_error_text(ctx), "21"), "%s", tern_error_text(ctx));
        tern_error_clear(ctx);
        cr_expect(hash_vars(ctx, true) == before, "eager %d", eager);
        tc_close(ctx);
    }
}

static tern_status counting(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)in;
    (void)!tern_assign(ctx, user, tern_shift(ctx, tern_read(ctx, user), 1));
    out[0] = tern_read(ctx, user);
    return tern_error(ctx);
}

Test(plan, what_is_declared_always_commits_in_skipped_steps)
{
    for (int eager = 0; eager < 2; eager++) {
        tern_ctx *ctx = tc_open("cpu");
        tern_var *n = tern_variable(ctx, "steps", TERN_I64, TI_SCALAR);
        tern_program *p = tern_record(ctx, counting, n);
        tern_tensor *out;

        tern_eager_set(ctx, eager);
        tern_var_always(n);
        cr_assert(tern_set(ctx, tern_tripped(ctx), 1) == TERN_OK);
        for (int i = 0; i < 3; i++) (void)!tern_program_run(ctx, &out, p, NULL);
        cr_expect(value(ctx, n) == 3 && tern_item(ctx, out) == 3);
        tc_close(ctx);
    }
}

/* ---- Passes ---- */

static tern_status twice(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *a = tern_exp(ctx, in[0]), *b = tern_exp(ctx, in[0]);

    (void)user;
    tern_log(ctx, b); /* nobody needs it */
    out[0] = tern_mul(ctx, a, tern_scale(ctx, b, 2));
    return tern_error(ctx);
}

Test(plan, equal_calls_are_one_and_dead_ones_go)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_program *p = tern_record(ctx, twice, NULL);

    /* Fused, what is left of it would be one chain. */
    snprintf(ctx->env.disable, sizeof ctx->env.disable, "fuse");
    tern_tensor *y, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(3), 1), NULL};

    cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    const ti_plan *plan = ti_last_plan(p);
    cr_expect(count_lines(plan, "exp") == 1 && count_lines(plan, "log") == 0);
    double x[3];
    (void)!tern_to_doubles(ctx, x, y);
    cr_expect(fabs(x[0] - 2 * exp(2)) < 1e-5, "%g", x[0]);
    tc_close(ctx);
}

/* Big results that are soon summed up, all made first: running each sum early needs less. */
static tern_status wide(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *t[6], *s = NULL;

    (void)user;
    for (int i = 0; i < 6; i++) t[i] = tern_scale(ctx, in[0], i + 1);
    for (int i = 0; i < 6; i++) {
        tern_tensor *one = tern_sum(ctx, t[i], NULL);
        s = s ? tern_add(ctx, s, one) : one;
    }
    out[0] = s;
    return tern_error(ctx);
}

Test(plan, another_order_where_it_lowers_the_peak)
{
    for (int null = 0; null < 2; null++) { /* there without scratch of kernels */
        tern_ctx *ctx = tc_open(null ? "null" : "cpu");
        tern_program *p = tern_record(ctx, wide, NULL);
        tern_tensor *y, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(1000), 1), NULL};

        check_option(ctx, "poison");
        cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        if (null) cr_expect(tern_program_peak(p) < 3 * 4096, "%zu bytes", tern_program_peak(p));
        else cr_expect(tern_item(ctx, y) == 21000);
        cr_expect(overlaps(ti_last_plan(p)) == 0);
        tc_close(ctx);
    }
}

/* As many lines as a ResNet-50's step, results alive until their turn comes backward. */
static tern_status deep(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    enum { N = 375 };
    tern_tensor *kept[N], *x = in[0], *total = NULL;

    (void)user;
    for (int i = 0; i < N; i++) {
        x = tern_tanh(ctx, tern_shift(ctx, x, 0.001 * i));
        if (i % 50 == 49)
            x = tern_slice(ctx, x, &(tern_slice_opts){.count = x->m.shape.dim[0] / 2});
        kept[i] = x;
    }
    for (int i = N; i-- > 0;) {
        tern_tensor *s = tern_sum(ctx, tern_mul(ctx, kept[i], kept[i]), NULL);
        total = total ? tern_add(ctx, total, s) : s;
    }
    out[0] = total;
    return tern_error(ctx);
}

Test(plan, large_steps_are_planned_without_being_run)
{
    tern_ctx *ctx = tc_open("null");
    tern_program *p = tern_record(ctx, deep, NULL);
    const tern_shape shape = TI_SHAPE(1 << 20, 64);
    const tern_type type = TERN_F32;
    struct timespec a, b;
    tern_memory m;

    clock_gettime(CLOCK_MONOTONIC, &a);
    cr_assert(tern_program_plan(ctx, p, 1, &shape, &type) == TERN_OK, "%s", tern_error_text(ctx));
    clock_gettime(CLOCK_MONOTONIC, &b);
    const ti_plan *plan = ti_last_plan(p);
    cr_log_info("%d lines planned in %.1f ms", plan->n_line,
                (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6);
    cr_expect(plan->n_line > 1490, "%d lines", plan->n_line);
    cr_expect(overlaps(plan) == 0);
    const double room = (double)tern_program_peak(p) / (double)least_arena(plan);
    cr_expect(room >= 1 && room < 1.01, "%zu bytes, %zu alive", tern_program_peak(p),
              least_arena(plan));
    tern_memory_stats(ctx, &m);
    cr_expect(m.peak < 1 << 20, "planning took %zu bytes", m.peak);
    cr_expect(tern_program_traces(p) == 1);
    tc_close(ctx);
}

/* ---- Text ---- */

static tern_status convolves(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const char *before = tern_scope_begin(ctx, "conv1");
    const tern_conv2d_opts opts = {.stride = {2, 1}, .pad = {1, 1}};

    tern_var **v = user;

    out[0] = tern_conv2d(ctx, in[0], tern_read(ctx, v[0]), &opts);
    tern_scope_end(ctx, before);
    (void)!tern_assign(ctx, v[1], tern_scale(ctx, out[0], 0.5));
    return tern_error(ctx);
}

static int n_logged;
static void logged(void *user, const char *topic, const char *text)
{
    (void)user;
    n_logged += strcmp(topic, "program") == 0 && strstr(text, "conv2d") != NULL;
}

Test(plan, prints_as_text)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_var *w = tern_variable(ctx, "w", TERN_F32, TI_SHAPE(4, 3, 3, 3));
    tern_var *v = tern_variable(ctx, "v", TERN_F32, TI_SHAPE(2, 4, 4, 8)), *vars[] = {w, v};
    tern_program *p = tern_record(ctx, convolves, vars);
    const tern_shape shape = TI_SHAPE(2, 3, 8, 8);
    const tern_type type = TERN_F32;

    cr_expect(strcmp(tern_program_text(ctx, p), "") == 0);
    tern_log_to(ctx, logged, NULL);
    cr_assert(tern_program_plan(ctx, p, 1, &shape, &type) == TERN_OK, "%s", tern_error_text(ctx));
    tern_log_to(ctx, NULL, NULL);
    cr_expect(n_logged >= 4, "%d passes were logged", n_logged);
    const char *text = tern_program_text(ctx, p);
    cr_expect(strstr(text, " = conv2d ") && strstr(text, "stride=2,1 pad=1,1 -> f32[2,4,4,8]  # "),
              "%s", text);
    cr_expect(strstr(text, ", conv1\n") && strstr(text, "scale") && strstr(text, "in @v+0") &&
                  strstr(text, "unless skip") && strstr(text, "return %"),
              "%s", text);
    tc_close(ctx);
}

/* ---- Tracing fails where values are needed, and the context stays usable ---- */

static tern_status reads_a_value(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_frame_begin(ctx); /* left open by the failure, as are the next two */
    tern_no_grad_begin(ctx);
    tern_scope_begin(ctx, "somewhere");
    (void)!tern_assign(ctx, user, tern_sum(ctx, in[0], NULL));
    if (isnan(tern_item(ctx, tern_sum(ctx, in[0], NULL)))) return tern_error(ctx);
    if (tern_error(ctx)) return tern_error(ctx);
    tern_no_grad_end(ctx);
    out[0] = tern_frame_keep(ctx, tern_read(ctx, user));
    return tern_error(ctx);
}
static tern_status makes_host_value(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    const float one = 1;

    (void)user;
    out[0] = tern_add(ctx, in[0], tern_from_host(ctx, TERN_F32, &one, TI_SHAPE(1)));
    return tern_error(ctx);
}
static tern_status makes_variable(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)user;
    out[0] = tern_add(ctx, in[0], tern_read(ctx, tern_variable(ctx, "new", TERN_F32, TI_SHAPE(1))));
    return tern_error(ctx);
}
static tern_status uses_outside(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_add(ctx, in[0], user);
    return tern_error(ctx);
}
static tern_status fails_silently(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)ctx, (void)out, (void)in, (void)user;
    return TERN_E_IO;
}
static tern_status leaves_a_gap(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    (void)user;
    out[1] = tern_neg(ctx, in[0]);
    return tern_error(ctx);
}

Test(plan, tracing_fails_and_leaves_the_context_usable)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_var *v = tern_variable(ctx, "v", TERN_F32, TI_SCALAR);
    tern_tensor *y, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(4), 1), NULL};
    tern_tensor *read = tern_read(ctx, v), *one = tern_fill(ctx, TERN_F32, TI_SHAPE(1), 1);
    const struct {
        tern_step step;
        void *user;
        tern_status status;
        const char *text;
        bool eager_too;
    } cases[] = {{reads_a_value, v, TERN_E_TRACE, "", false},
                 {makes_host_value, NULL, TERN_E_TRACE, "", false},
                 {makes_variable, NULL, TERN_E_TRACE, "new", false},
                 {uses_outside, read, TERN_E_TRACE, "variable v was read outside", false},
                 {fails_silently, NULL, TERN_E_IO, "without saying why", true},
                 {leaves_a_gap, NULL, TERN_E_ARGUMENT, "result 1 but not result 0", true}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int eager = 0; eager < 1 + cases[i].eager_too; eager++) {
            tern_program *p = tern_record(ctx, cases[i].step, cases[i].user);

            tern_eager_set(ctx, eager);
            y = one;
            cr_expect(tern_program_run(ctx, &y, p, in) == cases[i].status, "case %zu: %s", i,
                      tern_error_text(ctx));
            cr_expect(strstr(tern_error_text(ctx), cases[i].text), "case %zu: %s", i,
                      tern_error_text(ctx));
            tern_error_clear(ctx);
            cr_assert(!ctx->tracing && !ctx->in_step && !ctx->no_grad && ctx->depth == 0 &&
                      !ctx->where && ctx->n_pending == 0);
        }
    tern_eager_set(ctx, false);
    cr_expect(value(ctx, v) == 0, "a failed trace changed a variable");
    /* any other tensor is a constant */
    tern_program *p = tern_record(ctx, uses_outside, one);
    cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(tern_item(ctx, tern_sum(ctx, y, NULL)) == 8);
    tc_close(ctx);
}

static tern_status depends_on_host(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_scale(ctx, in[0], *(double *)user); /* freezes */
    return tern_error(ctx);
}
static tern_status depends_on_tensor(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    out[0] = tern_add(ctx, in[0], *(tern_tensor **)user); /* is held */
    return tern_error(ctx);
}

Test(plan, tracing_again_names_the_first_different_call)
{
    tern_ctx *ctx = tc_open("cpu");
    double by = 2;
    tern_tensor *y, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(4), 1), NULL}, *by_tensor = in[0];
    tern_program *p = tern_record(ctx, depends_on_host, &by),
                 *q = tern_record(ctx, depends_on_tensor, &by_tensor);

    check_option(ctx, "trace");
    for (int i = 0; i < 2; i++) {
        cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
        cr_assert(tern_program_run(ctx, &y, q, in) == TERN_OK, "%s", tern_error_text(ctx));
    }
    by = 3;
    cr_expect(tern_program_run(ctx, &y, p, in) == TERN_E_TRACE);
    cr_expect(strstr(tern_error_text(ctx), "was scale of the step, is scale of the step"), "%s",
              tern_error_text(ctx));
    tern_error_clear(ctx);
    by_tensor = tern_scale(ctx, by_tensor, 2);
    cr_expect(tern_program_run(ctx, &y, q, in) == TERN_E_TRACE);
    cr_expect(strstr(tern_error_text(ctx), "make it an input or a variable"), "%s",
              tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* Steps of ever new shapes do not pile up plans. */
Test(plan, old_plans_go)
{
    tern_ctx *ctx = tc_open("cpu");
    double by = 2;
    tern_program *p = tern_record(ctx, depends_on_host, &by);
    long live[2];

    for (int round = 0; round < 2; round++) {
        for (int i = 1; i <= 100; i++) {
            tern_frame_begin(ctx);
            tern_tensor *y, *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(i), 1), NULL};
            cr_assert(tern_program_run(ctx, &y, p, in) == TERN_OK, "%s", tern_error_text(ctx));
            cr_assert(y->m.shape.dim[0] == i);
            tern_frame_end(ctx);
        }
        live[round] = ctx->n_live;
    }
    cr_expect(tern_program_traces(p) == 200);
    tern_structure_changed(ctx); /* explaining makes one more, and the oldest goes */
    cr_expect(tern_program_explain(ctx, p) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(live[0] == live[1], "%ld, then %ld blocks", live[0], live[1]);
    tc_close(ctx);
}
