/*
 * compare.c - the comparison of devices: distances and their judgement, the names of a step's
 * tensors, planted faults, the reference's own steps.
 */
#include "tern/compare.h"

#include "core/judge.h"
#include "step.h"
#include "tern/call.h"

/* ---- Distances ---- */

static tern_distance judged(tern_type type, int64_t n, const double *got, const double *want,
                            const double *bound)
{
    tern_distance d;

    memset(&d, 0x55, sizeof d);
    ti_judge(&d, &(ti_judged){type, type, n, got, want, bound});
    return d;
}

Test(compare, equal_bits_are_no_distance)
{
    const double third = 1.0 / 3, got[] = {(float)third, 0, NAN, INFINITY};
    const double want[] = {third, 0.0, NAN, INFINITY}, bound[] = {0, 0, 0, 0};
    const tern_distance d = judged(TERN_F32, 4, got, want, bound);

    cr_expect(d.n == 4 && d.n_unequal == 0 && d.n_beyond == 0 && d.worst == -1);
    cr_expect(d.max_abs == 0 && d.max_rel == 0 && d.ulp_max == 0 && d.share == 0 && !d.exact);
}

Test(compare, steps_are_counted_across_zero)
{
    const double tiny = 0x1p-149;
    const double got[] = {1 + 0x1p-23, 2 - 0x1p-23, -tiny, 3 * tiny, -1};
    const double want[] = {1, 2, tiny, 0, 1}, wide[] = {1e9, 1e9, 1e9, 1e9, 1e9};
    const double steps[] = {1, 1, 2, 3, 2.0 * 0x3f800000};

    for (int i = 0; i < 5; i++) {
        const tern_distance d = judged(TERN_F32, 1, got + i, want + i, wide);
        cr_expect(d.ulp_max == steps[i], "%d: %g steps, not %g", i, d.ulp_max, steps[i]);
        cr_expect(d.n_unequal == 1 && d.n_beyond == 0 && d.worst == 0);
    }
    const double a = 1 + 0x1p-50, b = 1;
    cr_expect(judged(TERN_F64, 1, &a, &b, wide).ulp_max == 4);
}

Test(compare, a_bound_is_a_line)
{
    const double u = 0x1p-24 * 1.01, want[] = {1, 1, 8}, bound[] = {100, 100, 100};
    double got[] = {1 + 99 * u, 1 + 101 * u, 8};
    tern_distance d = judged(TERN_F32, 3, got, want, bound);

    cr_expect(d.n_beyond == 1 && d.n_unequal == 2 && d.worst == 1);
    cr_expect(fabs(d.share - 1.01) < 1e-9 && fabs(d.max_abs - 101 * u) < 1e-12);
    cr_expect(d.got == got[1] && d.want == 1);
    got[1] = NAN; /* a number is wanted: no bound is wide enough */
    d = judged(TERN_F32, 3, got, want, bound);
    cr_expect(d.n_beyond == 1 && d.worst == 1 && isinf(d.share) && isinf(d.ulp_max));
    got[1] = 1;
    d = judged(TERN_F32, 3, got, want, NULL); /* no bound: every other bit counts */
    cr_expect(d.exact && d.n_beyond == 1 && isinf(d.share) && d.worst == 0);
}

Test(compare, percentiles)
{
    double got[1000], want[1000], bound[1000];

    for (int i = 0; i < 1000; i++) {
        want[i] = 1;
        got[i] = 1 + (i < 989 ? 3 : 1000) * 0x1p-23;
        bound[i] = 1e9;
    }
    tern_distance d = judged(TERN_F32, 1000, got, want, bound);
    cr_expect(d.ulp_max == 1000 && d.ulp_p99 == 1000, "%g", d.ulp_p99); /* 1024, but no more is */
    got[999] = got[998] = 1 + 3 * 0x1p-23;                              /* 9 of 1000 are left */
    d = judged(TERN_F32, 1000, got, want, bound);
    cr_expect(d.ulp_max == 1000 && d.ulp_p99 == 3, "%g", d.ulp_p99);
    got[0] = 1 + 5000 * 0x1p-23;
    for (int i = 900; i < 1000; i++) got[i] = 1 + 1000 * 0x1p-23;
    d = judged(TERN_F32, 1000, got, want, bound);
    cr_expect(d.ulp_max == 5000 && d.ulp_p99 == 1024, "%g", d.ulp_p99);
}

/* ---- Steps ---- */

typedef struct {
    tern_ctx *ref, *side[2];
    job j;
    tern_compare *c;
} pair;

static pair open_pair(const char *a, const char *b, bool dropout)
{
    tern_tensor *in[3];
    pair p = {.ref = tc_open("ref"), .side = {tc_open(a), tc_open(b)}};

    p.j = small_net(p.ref, dropout);
    tern_frame_begin(p.ref);
    feed(p.ref, in, 0, 5);
    p.c = tern_compare_open(p.ref, train_step, &p.j, in, 2, p.side, false);
    tern_frame_end(p.ref);
    FINE(p.ref);
    cr_assert(p.c != NULL);
    return p;
}

static void close_pair(pair *p)
{
    for (int s = 0; s < 2; s++) tc_close(p->side[s]);
    tc_close(p->ref);
}

static tern_status one_step(pair *p, int number)
{
    tern_tensor *in[3];

    tern_frame_begin(p->ref);
    feed(p->ref, in, number, 5);
    const tern_status status = tern_compare_step(p->ref, p->c, in, NULL, NULL);
    tern_frame_end(p->ref);
    return status;
}

static int find(const pair *p, const char *layer, const char *name)
{
    tern_compare_tensor t;
    int found = -1;

    for (int i = 0; tern_compare_at(p->c, i, &t); i++)
        if (strcmp(t.layer, layer) == 0 && strcmp(t.name, name) == 0) {
            cr_expect(found < 0, "%s.%s is there twice", layer, name);
            found = i;
        }
    return found;
}

Test(compare, tensors_have_their_layers_names)
{
    static const char *const names[][2] = {
        {"conv1", "out"},  {"conv1", "dW"},     {"conv1", "db"},     {"conv1", "update"},
        {"bn1", "out"},    {"bn1", "new_mean"}, {"bn1", "new_var"},  {"bn1", "dX"},
        {"bn1", "dW"},     {"bn1", "db"},       {"bn1", "update"},   {"relu1", "out"},
        {"relu1", "dX"},   {"fc1", "out"},      {"fc1", "dX"},       {"fc1", "dW"},
        {"fc1", "db"},     {"fc1", "update"},   {"dropout1", "out"}, {"dropout1", "dX"},
        {"fc2", "out"},    {"fc2", "dX"},       {"fc2", "dW"},       {"fc2", "db"},
        {"fc2", "update"}, {"loss", "out"},     {"loss", "dX"},      {"step", "new_m"},
    };
    static const struct {
        const char *layer, *name, *op, *param;
        tern_pass pass;
    } some[] = {{"conv1", "out", "conv2d_act", "", TERN_PASS_FORWARD},
                {"fc1", "dW", "linear_act_d", "fc1.weight", TERN_PASS_BACKWARD},
                {"bn1", "db", "batch_norm_d", "bn1.bias", TERN_PASS_BACKWARD},
                {"loss", "dX", "cross_entropy_d", "", TERN_PASS_BACKWARD},
                {"fc2", "update", "sgd_update", "", TERN_PASS_UPDATE}};
    pair p = open_pair("cpu", "ref", true);
    tern_compare_tensor t;
    char text[200];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cr_expect(find(&p, names[i][0], names[i][1]) >= 0, "no %s.%s", names[i][0], names[i][1]);
    cr_expect(find(&p, "conv1", "dX") < 0, "nobody asks for the gradient of the images");
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        cr_assert(tern_compare_at(p.c, find(&p, some[i].layer, some[i].name), &t));
        cr_expect(strcmp(t.op, some[i].op) == 0, "%s.%s: %s", t.layer, t.name, t.op);
        cr_expect(strcmp(t.param, some[i].param) == 0, "%s.%s: %s", t.layer, t.name, t.param);
        cr_expect(t.pass == some[i].pass, "%s.%s", t.layer, t.name);
    }
    /* fc1 has 8 x 108 weights, then 8 biases */
    const int i = find(&p, "fc1", "update");
    cr_assert(tern_compare_at(p.c, i, &t));
    cr_expect(t.shape.rank == 1 && t.shape.dim[0] == 8 * 108 + 8);
    cr_expect(strcmp(tern_compare_place(text, p.c, i, 109), "fc1.weight [1,1]") == 0, "%s", text);
    cr_expect(strcmp(tern_compare_place(text, p.c, i, 869), "fc1.bias [5]") == 0, "%s", text);
    cr_expect(!tern_compare_at(p.c, -1, &t) && !tern_compare_at(p.c, 100000, &t));
    cr_expect(!tern_compare_distance(p.c, 0, 0, NULL), "no step was made yet");
    close_pair(&p);
}

static void expect_inside(pair *p, int s)
{
    tern_compare_tensor t;
    tern_distance d;

    for (int i = 0; tern_compare_at(p->c, i, &t); i++) {
        cr_assert(tern_compare_distance(p->c, i, s, &d));
        cr_expect(d.n == tern_count(t.shape) && !d.missing && d.kernel, "%s.%s", t.layer, t.name);
        cr_expect(d.n_beyond == 0, "%s.%s on %s: %g of its bound", t.layer, t.name,
                  tern_device(p->side[s]), d.share);
    }
}

Test(compare, cpu_is_inside_and_ref_is_the_rounded_reference)
{
    pair p = open_pair("cpu", "ref", true);
    tern_compare_tensor t;
    tern_distance d;
    int differing = 0;

    for (int number = 0; number < 3; number++) {
        cr_assert(one_step(&p, number) == TERN_OK, "%s", tern_error_text(p.ref));
        expect_inside(&p, 0);
        expect_inside(&p, 1);
        for (int i = 0; tern_compare_at(p.c, i, &t); i++) {
            cr_assert(tern_compare_distance(p.c, i, 1, &d));
            cr_expect(d.n_unequal == 0, "%s.%s", t.layer, t.name);
            cr_assert(tern_compare_distance(p.c, i, 0, &d));
            differing += d.n_unequal > 0;
        }
    }
    cr_expect(differing > 10, "the fast kernels round like the reference: nothing was compared");
    close_pair(&p);
}

/* What the reference computes is what the device ref computes: in double, rounded once. */
Test(compare, the_reference_goes_on_like_a_run_on_ref)
{
    tern_ctx *ctx = tc_open("ref");
    job j = small_net(ctx, true);
    tern_program *program = tern_record(ctx, train_step, &j);
    pair p = open_pair("cpu", "cpu", true);

    for (int number = 0; number < 4; number++) {
        tern_tensor *in[3], *loss;

        tern_frame_begin(ctx);
        feed(ctx, in, number, 5);
        cr_assert(tern_program_run(ctx, &loss, program, in) == TERN_OK, "%s", tern_error_text(ctx));
        tern_frame_end(ctx);
        const uint64_t before = hash_vars(p.ref, true);
        cr_assert(one_step(&p, number) == TERN_OK, "%s", tern_error_text(p.ref));
        cr_expect(hash_vars(p.ref, true) != before, "no variable moved");
        cr_expect(hash_vars(p.ref, true) == hash_vars(ctx, true), "step %d", number);
    }
    close_pair(&p);
    tc_close(ctx);
}

/* Every tensor in turn: found there, and nowhere else. */
Test(compare, a_planted_fault_is_found_where_it_is)
{
    pair p = open_pair("cpu", "cpu", true);
    tern_compare_tensor t, other;
    tern_distance d;
    int planted = 0;

    for (int i = 0; tern_compare_at(p.c, i, &t); i++) {
        if (t.type != TERN_F32) continue;
        /* conv1 feeds batch norm: exactly its db is 0, and a percent of what rounding left of that
         * is inside any bound */
        const bool noise = strcmp(t.layer, "conv1") == 0 && strcmp(t.name, "db") == 0;
        cr_assert(tern_compare_inject(p.ref, p.c, i, 1, noise ? 1e6 : 0.01) == TERN_OK);
        if (one_step(&p, 1) != TERN_OK) { /* flags, and nothing else, are zero */
            cr_expect(tern_error(p.ref) == TERN_E_VALUE && tern_count(t.shape) == 1, "%s.%s: %s",
                      t.layer, t.name, tern_error_text(p.ref));
            tern_error_clear(p.ref);
            continue;
        }
        planted++;
        expect_inside(&p, 0);
        for (int k = 0; tern_compare_at(p.c, k, &other); k++) {
            cr_assert(tern_compare_distance(p.c, k, 1, &d));
            cr_expect((d.n_beyond == 1) == (k == i), "fault in %s.%s, %lld outside in %s.%s",
                      t.layer, t.name, (long long)d.n_beyond, other.layer, other.name);
        }
    }
    cr_expect(planted > 25, "%d", planted);
    close_pair(&p);
}

/* ---- Winograd ---- */

/* Normal values, all but one in `every` of them 0. */
static tern_tensor *sparse(tern_ctx *ctx, tern_shape s, uint64_t seed, int every)
{
    const int64_t n = tern_count(s);
    double *x = calloc((size_t)n, sizeof *x);

    for (int64_t i = 0; i < n; i++) {
        const double value = tc_normal(&seed);
        if (tc_uniform(&seed) * every < 1) x[i] = (float)value;
    }
    tern_tensor *t = tern_from_doubles(ctx, TERN_F32, x, s);
    free(x);
    return t;
}

/* What cancels in the transforms leaves its rounding in elements whose own products are all 0: the
 * bound of the class counts it. */
static void sparse_winograd(const char *op, const char *options, tern_shape a, tern_shape b)
{
    tern_ctx *cpu = tc_open("cpu"), *ref = tc_open("ref");
    tern_call_info info;
    tern_call_error e;
    double share = 0;

    for (int every = 1; every <= 256; every *= 4) {
        tern_frame_begin(cpu);
        tern_tensor *in[] = {sparse(cpu, a, 5, every), sparse(cpu, b, 7, every)};
        if (strcmp(op, "conv2d_dx") != 0) in[0] = tern_channels_last(cpu, in[0]);
        tern_call *k = tern_call_open(cpu, op, options, 2, in, 0);
        cr_assert(k != NULL, "%s %s: %s", op, options, tern_error_text(cpu));
        tern_call_look(k, &info);
        cr_expect(strcmp(info.kernel, "winograd") == 0, "%s %s runs on %s", op, options,
                  info.kernel);
        cr_assert(tern_call_check(cpu, &e, k, ref) == TERN_OK, "%s", tern_error_text(cpu));
        cr_expect(e.n_beyond == 0, "%s %s, 1 in %d: %g of the bound", op, options, every, e.share);
        share = fmax(share, e.share);
        tern_call_close(cpu, k);
        tern_frame_end(cpu);
    }
    cr_expect(share > 0.001, "%s %s: %g of the bound: it says nothing", op, options, share);
    tc_close(ref);
    tc_close(cpu);
}

Test(compare, winograd_has_a_bound_where_all_own_products_are_zero)
{
    const tern_shape w = TI_SHAPE(64, 64, 3, 3), x = TI_SHAPE(2, 64, 9, 10);
    const tern_shape y = TI_SHAPE(2, 64, 9, 10), wide = TI_SHAPE(4, 64, 16, 15);
    const tern_shape half = TI_SHAPE(4, 64, 8, 8);

    sparse_winograd("conv2d", "pad=1,1", x, w);
    sparse_winograd("conv2d_dx", "pad=1,1 shape=2,64,9,10", y, w);
    sparse_winograd("conv2d_dw", "pad=1,1 shape=64,64,3,3", x, y);
    sparse_winograd("conv2d", "stride=2,2 pad=1,1", wide, w);
    sparse_winograd("conv2d_dx", "stride=2,2 pad=1,1 shape=4,64,16,15", half, w);
    sparse_winograd("conv2d_dw", "stride=2,2 pad=1,1 shape=64,64,3,3", wide, half);
}

/* ---- What a side lacks ---- */

static bool has_op(const ti_row *const list, const char *op)
{
    for (const ti_row *r = list; r->op; r++)
        if (strcmp(r->op, op) == 0) return true;
    return false;
}

/* The reference's rows without those of batch norm. */
static const ti_row *const *fewer_rows(const ti_device *d, int i_list)
{
    static const ti_row *few[64];
    int n = 0;

    (void)d;
    for (int i = 0; ti_ref_rows[i] && n < 63; i++)
        if (!has_op(ti_ref_rows[i], "batch_norm")) few[n++] = ti_ref_rows[i];
    few[n] = NULL;
    return i_list == 0 ? few : NULL;
}

Test(compare, a_missing_kernel_is_said_and_the_rest_compared)
{
    pair p = open_pair("cpu", "ref", false);
    ti_backend lacking = *p.side[1]->backend;
    tern_compare_tensor t;
    tern_distance d;
    int missing = 0;

    lacking.rows = fewer_rows;
    p.side[1]->backend = &lacking;
    cr_assert(one_step(&p, 0) == TERN_OK, "%s", tern_error_text(p.ref));
    expect_inside(&p, 0);
    for (int i = 0; tern_compare_at(p.c, i, &t); i++) {
        const bool lacks = strncmp(t.op, "batch_norm", 10) == 0;

        cr_assert(tern_compare_distance(p.c, i, 1, &d));
        cr_expect((d.missing != NULL) == lacks, "%s.%s", t.layer, t.name);
        cr_expect(!lacks || strstr(d.missing, "no kernel on ref"), "%s", d.missing);
        cr_expect(d.n_beyond == 0);
        missing += lacks;
    }
    cr_expect(missing == 6, "%d", missing); /* y, mean, variance; dx, dgamma, dbeta */
    FINE(p.side[1]);
    close_pair(&p);
}

/* ---- Wrong arguments, memory ---- */

static void refused(tern_ctx *ctx, const tern_compare *c, const char *text)
{
    cr_expect(c == NULL && strstr(tern_error_text(ctx), text), "\"%s\" instead of \"%s\"",
              tern_error_text(ctx), text);
    tern_error_clear(ctx);
}

Test(compare, wrong_arguments)
{
    tern_ctx *ref = tc_open("ref"), *cpu = tc_open("cpu"), *null = tc_open("null");
    tern_ctx *five[5] = {cpu, cpu, cpu, cpu, cpu};
    job j = small_net(ref, false), on_cpu = small_net(cpu, false);
    tern_tensor *in[3], *there[3], *other[3];

    feed(ref, in, 0, 3);
    feed(ref, other, 0, 4);
    feed(cpu, there, 0, 3);
    refused(ref, tern_compare_open(ref, NULL, &j, in, 1, &cpu, false), "required");
    refused(ref, tern_compare_open(ref, train_step, &j, in, 0, &cpu, false), "0 devices");
    refused(ref, tern_compare_open(ref, train_step, &j, in, 5, five, false), "5 devices");
    refused(ref, tern_compare_open(ref, train_step, &j, in, 1, &ref, false), "side 0");
    refused(ref, tern_compare_open(ref, train_step, &j, in, 1, &null, false), "computes nothing");
    refused(ref, tern_compare_open(ref, train_step, &j, there, 1, &cpu, false), "another context");
    refused(cpu, tern_compare_open(cpu, train_step, &on_cpu, there, 1, &ref, false), "not on ref");
    tern_compare *c = tern_compare_open(ref, train_step, &j, in, 1, &cpu, false);
    FINE(ref);
    cr_expect(tern_compare_step(ref, c, other, NULL, NULL) == TERN_E_SHAPE);
    tern_error_clear(ref);
    cr_expect(tern_compare_step(ref, c, (tern_tensor *[]){in[0], NULL}, NULL, NULL));
    refused(ref, NULL, "input 1 is missing");
    cr_expect(tern_compare_step(ref, c, there, NULL, NULL) == TERN_E_ARGUMENT);
    tern_error_clear(ref);
    cr_expect(tern_compare_inject(ref, c, 0, 1, 0.1) == TERN_E_ARGUMENT);
    tern_error_clear(ref);
    cr_expect(tern_compare_inject(ref, c, 100000, 0, 0.1) == TERN_E_ARGUMENT);
    tern_error_clear(ref);
    cr_expect(tern_compare_inject(ref, c, 0, 0, NAN) == TERN_E_ARGUMENT);
    tern_error_clear(ref);
    cr_expect(tern_compare_step(ref, c, in, NULL, NULL) == TERN_OK, "%s", tern_error_text(ref));
    tern_compare_close(ref, c);
    tern_compare_close(ref, NULL);
    tc_close(null);
    tc_close(cpu);
    tc_close(ref);
}

/* Each allocation of opening and of a step fails once, on the reference or on the side: nothing is
 * left behind, and the same comparison works afterwards. */
static long failing_allocations(bool on_side)
{
    tern_ctx *ref = tc_open("ref"), *side = tc_open(tc_device());
    tern_ctx *hurt = on_side ? side : ref;
    job j = small_net(ref, true);
    tern_tensor *in[3];
    long n = 0;
    bool done = false;

    tern_frame_begin(ref);
    feed(ref, in, 0, 2);
    for (; !done; n += n < 60 ? 1 : 7) {
        ti_fail_allocation(hurt, n, n & 1);
        tern_compare *c = tern_compare_open(ref, train_step, &j, in, 1, &side, false);
        const tern_status status = c ? tern_compare_step(ref, c, in, NULL, NULL) : tern_error(ref);
        ti_fail_allocation(hurt, -1, false);
        cr_expect(status == TERN_OK || status == TERN_E_MEMORY, "allocation %ld: %s", n,
                  tern_error_text(ref));
        cr_expect(tern_error(side) == TERN_OK);
        done = status == TERN_OK;
        tern_error_clear(ref);
        tern_compare_close(ref, c);
    }
    tern_compare *c = tern_compare_open(ref, train_step, &j, in, 1, &side, false);
    cr_expect(tern_compare_step(ref, c, in, NULL, NULL) == TERN_OK, "%s", tern_error_text(ref));
    tern_compare_close(ref, c);
    tern_frame_end(ref);
    tc_close(side);
    tc_close(ref);
    return n;
}

Test(compare, every_allocation_may_fail)
{
    cr_expect(failing_allocations(false) > 300);
    cr_expect(failing_allocations(true) > 100);
}
