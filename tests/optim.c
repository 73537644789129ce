/*
 * optim.c - every option of every optimizer against a model in f64 written here, eager and in a
 * recorded step; the guard; schedules against their formulas; wrong arguments.
 *
 * The net is p -> sum(p x), whose gradient is x: a trajectory is a list of gradients.
 */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "tern/optim.h"

enum { N = 6, STEPS = 9 };

static const char *const parts[] = {"p", "q", "r"}; /* parameters of two elements each */

static tern_tensor *whole(tern_ctx *ctx, tern_module *m)
{
    tern_tensor *t[3];

    for (int i = 0; i < 3; i++) t[i] = tern_read(ctx, tern_module_var(ctx, m, parts[i]));
    return tern_concat(ctx, 3, t, 0);
}

static tern_tensor *product(tern_ctx *ctx, tern_module *m, tern_tensor *x)
{
    return tern_sum(ctx, tern_mul(ctx, x, whole(ctx, m)), NULL);
}

static double start_of(int i) { return 0.5 * i - 1; }

static tern_module *net_of(tern_ctx *ctx, tern_type type)
{
    tern_module *m = tern_module_new(ctx, "product", product, NULL, 0);
    const tern_init zero = {.kind = TERN_INIT_CONSTANT};

    for (int i = 0; i < 3; i++)
        cr_assert(!tern_module_param(m, parts[i], (tern_shape){1, {2}}, &zero));
    cr_assert(tern_module_type(m, type) == TERN_OK && tern_module_finish(ctx, m) == TERN_OK);
    for (int i = 0; i < 3; i++) {
        const double p[2] = {start_of(2 * i), start_of(2 * i + 1)};
        cr_assert(!tern_assign(ctx, tern_module_var(ctx, m, parts[i]),
                               tern_from_doubles(ctx, type, p, (tern_shape){1, {2}})),
                  "%s", tern_error_text(ctx));
    }
    return m;
}

/* The gradient of element i in a step, exact in f32. */
static double gradient_of(int step, int i)
{
    return (double)((step * 7 + i * 5) % 11 - 5) / 8 + (i == 2 ? 0.25 : 0);
}

static tern_tensor *gradients(tern_ctx *ctx, tern_type type, int step)
{
    double g[N];

    for (int i = 0; i < N; i++) g[i] = gradient_of(step, i);
    return tern_from_doubles(ctx, type, g, (tern_shape){1, {N}});
}

typedef struct {
    const char *note;
    enum { SGD, ADAM, ADAMW } rule;
    tern_sgd_opts sgd;
    tern_adam_opts adam;
} option_case;

static const option_case cases[] = {
    {"sgd", SGD, .sgd = {.lr = 0.1}},
    {"momentum", SGD, .sgd = {.lr = 0.1, .momentum = 0.9}},
    {"dampening", SGD, .sgd = {.lr = 0.1, .momentum = 0.9, .dampening = 0.3}},
    {"nesterov", SGD, .sgd = {.lr = 0.1, .momentum = 0.8, .nesterov = 1}},
    {"decay", SGD, .sgd = {.lr = 0.1, .decay = 0.05}},
    {"all of sgd", SGD, .sgd = {.lr = 0.1, .momentum = 0.9, .nesterov = 1, .decay = 0.05}},
    {"sgd, clip by norm", SGD, .sgd = {.lr = 0.1, .momentum = 0.9, .clip_norm = 0.5}},
    {"sgd, a norm that is seldom reached", SGD, .sgd = {.lr = 0.1, .clip_norm = 1.2}},
    {"sgd, clip by value", SGD, .sgd = {.lr = 0.1, .momentum = 0.5, .clip_value = 0.3}},
    {"sgd, clip and decay", SGD, .sgd = {.lr = 0.1, .decay = 0.2, .clip_norm = 0.5}},
    {"sgd of a range", SGD, .sgd = {.lr = 0.1, .momentum = 0.9, .from = 2, .count = 2}},
    {"sgd from an element on", SGD, .sgd = {.lr = 0.1, .from = 4}},
    {"adam", ADAM, .adam = {0}},
    {"adam, lr", ADAM, .adam = {.lr = 0.05}},
    {"adam, betas", ADAM,
     .adam = {.lr = 0.05, .has_beta1 = 1, .beta1 = 0.5, .has_beta2 = 1, .beta2 = 0.9}},
    {"adam, beta1 0", ADAM, .adam = {.lr = 0.05, .has_beta1 = 1}},
    {"adam, eps", ADAM, .adam = {.lr = 0.05, .has_eps = 1, .eps = 0.1}},
    {"adam, decay", ADAM, .adam = {.lr = 0.05, .decay = 0.1}},
    {"adam, clip by norm", ADAM, .adam = {.lr = 0.05, .clip_norm = 0.4}},
    {"adam, clip by value", ADAM, .adam = {.lr = 0.05, .clip_value = 0.2}},
    {"adam of a range", ADAM, .adam = {.lr = 0.05, .from = 2, .count = 2}},
    {"adamw", ADAMW, .adam = {.lr = 0.05}},
    {"adamw, decay", ADAMW, .adam = {.lr = 0.05, .decay = 0.3}},
    {"adamw, no decay", ADAMW, .adam = {.lr = 0.05, .has_decay = 1}},
};

/* ---- The model ---- */

typedef struct {
    double p[N], m[N], v[N], lr;
    int t, from, count;
} model;

static model model_of(const option_case *c)
{
    model s = {.from = (int)(c->rule == SGD ? c->sgd.from : c->adam.from),
               .count = (int)(c->rule == SGD ? c->sgd.count : c->adam.count),
               .lr = c->rule == SGD    ? c->sgd.lr
                     : c->adam.lr != 0 ? c->adam.lr
                                       : 0.001};

    if (!s.count) s.count = N - s.from;
    for (int i = 0; i < N; i++) s.p[i] = start_of(i);
    return s;
}

static void sgd_step(model *s, const tern_sgd_opts *o, int i, double g)
{
    g += o->decay * s->p[i];
    s->m[i] = o->momentum * s->m[i] + (1 - o->dampening) * g;
    s->p[i] -= s->lr * (o->momentum == 0 ? g : o->nesterov ? g + o->momentum * s->m[i] : s->m[i]);
}

static void adam_step(model *s, const tern_adam_opts *o, bool decoupled, int i, double g)
{
    const double b1 = o->has_beta1 ? o->beta1 : 0.9, b2 = o->has_beta2 ? o->beta2 : 0.999;
    const double decay = decoupled && !o->has_decay && o->decay == 0 ? 0.01 : o->decay;

    if (decoupled) s->p[i] *= 1 - s->lr * decay;
    else g += decay * s->p[i];
    s->m[i] = b1 * s->m[i] + (1 - b1) * g;
    s->v[i] = b2 * s->v[i] + (1 - b2) * g * g;
    s->p[i] -= s->lr * s->m[i] / (1 - pow(b1, s->t)) /
               (sqrt(s->v[i] / (1 - pow(b2, s->t))) + (o->has_eps ? o->eps : 1e-8));
}

static void model_step(model *s, const option_case *c, int step)
{
    const double most = c->rule == SGD ? c->sgd.clip_norm : c->adam.clip_norm;
    const double limit = c->rule == SGD ? c->sgd.clip_value : c->adam.clip_value;
    double square = 0, scale = 1;

    for (int i = s->from; i < s->from + s->count; i++)
        square += gradient_of(step, i) * gradient_of(step, i);
    if (most > 0 && sqrt(square) > most) scale = most / sqrt(square);
    s->t++;
    for (int i = s->from; i < s->from + s->count; i++) {
        double g = scale * gradient_of(step, i);
        if (limit > 0) g = fmin(fmax(g, -limit), limit);
        if (c->rule == SGD) sgd_step(s, &c->sgd, i, g);
        else adam_step(s, &c->adam, c->rule == ADAMW, i, g);
    }
}

/* ---- The library ---- */

static tern_optim *optim_of(tern_ctx *ctx, tern_module *m, const option_case *c)
{
    tern_optim *o = c->rule == SGD    ? tern_sgd(ctx, m, &c->sgd)
                    : c->rule == ADAM ? tern_adam(ctx, m, &c->adam)
                                      : tern_adamw(ctx, m, &c->adam);
    cr_assert(o, "%s: %s", c->note, tern_error_text(ctx));
    return o;
}

typedef struct {
    tern_module *net;
    tern_optim *opt;
} job;

static tern_status step(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    job *j = user;

    out[0] = tern_forward(ctx, j->net, in[0]);
    if (tern_backward(ctx, out[0], j->net)) return tern_error(ctx);
    return tern_optim_step(ctx, j->opt);
}

static void expect_p(tern_ctx *ctx, const job *j, const option_case *c, const model *s, int i_step,
                     double tight)
{
    double *p = tc_doubles(ctx, whole(ctx, j->net));

    for (int i = 0; i < N; i++)
        cr_expect(fabs(p[i] - s->p[i]) <= tight * fmax(1, fabs(s->p[i])),
                  "%s, step %d: p[%d] is %.17g, not %.17g", c->note, i_step, i, p[i], s->p[i]);
    free(p);
}

/* how 0: the update is a step of its own; 1: a recorded step; 2: the same, not replayed */
static void run_case(const char *device, const option_case *c, tern_type type, int how)
{
    const double tight = type == TERN_F64 ? 1e-13 : 2e-6;
    tern_ctx *ctx = tc_open(device);
    job j = {.net = net_of(ctx, type)};
    tern_program *program = tern_record(ctx, step, &j);
    model s = model_of(c);

    tern_eager_set(ctx, how == 2);
    j.opt = optim_of(ctx, j.net, c);
    for (int i = 0; i < STEPS; i++) {
        tern_frame_begin(ctx);
        tern_tensor *in[2] = {gradients(ctx, type, i), NULL}, *out[TERN_STEP_OUT];
        if (i == 5) { /* the rate is a variable: no new trace */
            s.lr *= 0.5;
            cr_assert(tern_optim_set_lr(ctx, j.opt, s.lr) == TERN_OK);
            cr_expect(tern_optim_lr(j.opt) == s.lr);
        }
        if (how == 0) cr_assert(step(ctx, out, in, &j) == TERN_OK, "%s", tern_error_text(ctx));
        else
            cr_assert(tern_program_run(ctx, out, program, in) == TERN_OK, "%s: %s", c->note,
                      tern_error_text(ctx));
        model_step(&s, c, i);
        expect_p(ctx, &j, c, &s, i, tight);
        tern_frame_end(ctx);
    }
    /* other parameters' gradients, which no one consumes, are pending from the second step on */
    const int traces = s.count == N ? 1 : 2;
    if (how == 1)
        cr_expect(tern_program_traces(program) == traces, "%s: traced %d times", c->note,
                  tern_program_traces(program));
    tc_close(ctx);
}

Test(optim, trajectories)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int how = 0; how < 3; how++) {
            run_case("cpu", &cases[i], TERN_F64, how);
            run_case("cpu", &cases[i], TERN_F32, how);
        }
}

Test(optim, trajectories_on_ref)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        run_case("ref", &cases[i], TERN_F32, 1);
}

/* ---- The guard ---- */

static void fill_gradients(tern_ctx *ctx, job *j, double g)
{
    double x[N];

    for (int i = 0; i < N; i++) x[i] = i == 3 ? g : 1;
    tern_tensor *t = tern_from_doubles(ctx, TERN_F32, x, (tern_shape){1, {N}});
    cr_assert(tern_backward(ctx, tern_forward(ctx, j->net, t), j->net) == TERN_OK, "%s",
              tern_error_text(ctx));
}

Test(optim, a_step_that_is_not_finite_changes_nothing)
{
    tern_ctx *ctx = tc_open("cpu");
    job j = {.net = net_of(ctx, TERN_F32)};
    double *before[8] = {0}, *after;
    tern_var *v;

    j.opt = tern_adam(ctx, j.net, &(tern_adam_opts){.lr = 0.1, .clip_norm = 1});
    fill_gradients(ctx, &j, 0.5);
    cr_assert(tern_optim_step(ctx, j.opt) == TERN_OK, "%s", tern_error_text(ctx));
    for (int i = 0; (v = tern_optim_var(j.opt, i)); i++)
        before[i] = tc_doubles(ctx, tern_read(ctx, v));
    before[7] = tc_doubles(ctx, whole(ctx, j.net));

    for (int k = 0; k < 2; k++) {
        fill_gradients(ctx, &j, k ? NAN : INFINITY);
        cr_assert(tern_optim_step(ctx, j.opt) == TERN_OK, "%s", tern_error_text(ctx));
        cr_expect(tern_item(ctx, tern_read(ctx, tern_tripped(ctx))) == 1);
        for (int i = 0; (v = tern_optim_var(j.opt, i)); i++) {
            after = tc_doubles(ctx, tern_read(ctx, v));
            cr_expect(memcmp(before[i], after,
                             (size_t)tern_count(tern_var_shape(v)) * sizeof *after) == 0,
                      "%s moved", tern_var_name(v));
            free(after);
        }
        after = tc_doubles(ctx, whole(ctx, j.net));
        cr_expect(memcmp(before[7], after, N * sizeof *after) == 0, "p moved");
        free(after);
        cr_assert(tern_set(ctx, tern_tripped(ctx), 0) == TERN_OK);
    }
    fill_gradients(ctx, &j, 1);
    cr_assert(tern_optim_step(ctx, j.opt) == TERN_OK);
    cr_expect(tern_item(ctx, tern_read(ctx, tern_optim_var(j.opt, 3))) == 2, "t counts commits");
    for (int i = 0; i < 8; i++) free(before[i]);
    tc_close(ctx);
}

Test(optim, consumes_what_is_in_its_range)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *a = tern_nn_linear(ctx, 2, 2, NULL), *b = tern_nn_linear(ctx, 2, 1, NULL);
    tern_module *net = tern_sequential(ctx, (tern_module *[]){a, b, NULL});
    tern_optim *first = tern_sgd(ctx, a, &(tern_sgd_opts){.lr = 0.1});
    tern_optim *second = tern_sgd(ctx, b, &(tern_sgd_opts){.lr = 0.1, .name = "head"});
    const double x[2] = {1, 2};
    tern_tensor *y =
        tern_forward(ctx, net, tern_from_doubles(ctx, TERN_F32, x, (tern_shape){2, {1, 2}}));

    cr_assert(first && second, "%s", tern_error_text(ctx));
    cr_expect_str_eq(tern_var_name(tern_optim_var(second, 0)), "head.lr");
    cr_expect(tern_optim_step(ctx, first) == TERN_E_STATE, "nothing is pending");
    tern_error_clear(ctx);
    cr_assert(tern_backward(ctx, tern_sum(ctx, y, NULL), net) == TERN_OK, "%s",
              tern_error_text(ctx));
    double *head = tc_doubles(ctx, tern_read(ctx, tern_module_var(ctx, net, "fc2.weight")));
    cr_assert(tern_optim_step(ctx, first) == TERN_OK, "%s", tern_error_text(ctx));
    double *same = tc_doubles(ctx, tern_read(ctx, tern_module_var(ctx, net, "fc2.weight")));
    cr_expect(memcmp(head, same, 2 * sizeof *same) == 0, "the other range stays");
    cr_expect(!tern_grad_of(ctx, tern_module_var(ctx, a, "weight")), "its gradients are gone");
    cr_expect(tern_grad_of(ctx, tern_module_var(ctx, b, "weight")) != NULL, "the others wait");
    cr_expect(tern_optim_step(ctx, first) == TERN_E_STATE);
    tern_error_clear(ctx);
    cr_expect(tern_optim_step(ctx, second) == TERN_OK, "%s", tern_error_text(ctx));
    free(head);
    free(same);
    tc_close(ctx);
}

/* Each allocation of an update fails once: nothing moved, the gradients still wait, and the update
 * that comes through gives the bits of an untroubled one. */
Test(optim, failing_allocations)
{
    const tern_adam_opts o = {.lr = 0.1, .clip_norm = 1};
    tern_ctx *ctx = tc_open(tc_device()), *calm = tc_open(tc_device());
    job j = {.net = net_of(ctx, TERN_F32)}, right = {.net = net_of(calm, TERN_F32)};
    bool failed = true;
    long n = 0;

    j.opt = tern_adam(ctx, j.net, &o);
    right.opt = tern_adam(calm, right.net, &o);
    fill_gradients(ctx, &j, 0.5);
    fill_gradients(calm, &right, 0.5);
    double *before = tc_doubles(ctx, whole(ctx, j.net));
    for (; failed && n < 3000; n++) {
        ti_fail_allocation(ctx, n, false);
        failed = tern_optim_step(ctx, j.opt) != TERN_OK;
        ti_fail_allocation(ctx, -1, false);
        if (!failed) break;
        cr_assert(tern_error(ctx) == TERN_E_MEMORY, "%ld: %s", n, tern_error_text(ctx));
        tern_error_clear(ctx);
        double *p = tc_doubles(ctx, whole(ctx, j.net));
        cr_expect(memcmp(p, before, N * sizeof *p) == 0, "%ld: p moved", n);
        free(p);
        cr_expect(tern_item(ctx, tern_read(ctx, tern_optim_var(j.opt, 3))) == 0, "%ld: t moved", n);
        cr_assert(tern_grad_of(ctx, tern_module_var(ctx, j.net, "p")), "%ld: no gradients", n);
    }
    cr_expect(!failed && n > 5, "%ld failures", n);
    cr_assert(tern_optim_step(calm, right.opt) == TERN_OK);
    double *p = tc_doubles(ctx, whole(ctx, j.net)), *q = tc_doubles(calm, whole(calm, right.net));
    cr_expect(memcmp(p, q, N * sizeof *p) == 0 && memcmp(p, before, N * sizeof *p) != 0);
    free(before);
    free(p);
    free(q);
    tc_close(ctx);
    tc_close(calm);
}

/* ---- Wrong arguments ---- */

static void refused(tern_ctx *ctx, tern_optim *o, const char *what)
{
    cr_expect(!o && tern_error(ctx) == TERN_E_ARGUMENT, "%s: %s", what, tern_error_text(ctx));
    cr_expect(strlen(tern_error_text(ctx)) > 10);
    tern_error_clear(ctx);
}

Test(optim, wrong_arguments)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_module *m = net_of(ctx, TERN_F32);
#define BAD(...) refused(ctx, tern_sgd(ctx, m, &(tern_sgd_opts){__VA_ARGS__}), #__VA_ARGS__)
#define BAD_ADAM(...) refused(ctx, tern_adam(ctx, m, &(tern_adam_opts){__VA_ARGS__}), #__VA_ARGS__)
    refused(ctx, tern_sgd(ctx, NULL, &(tern_sgd_opts){.lr = 1}), "no module");
    refused(ctx, tern_sgd(ctx, m, NULL), "no rate");
    BAD(.lr = -1);
    BAD(.lr = NAN);
    BAD(.lr = INFINITY);
    BAD(.lr = 1, .momentum = -0.1);
    BAD(.lr = 1, .momentum = 1.1);
    BAD(.lr = 1, .dampening = 2);
    BAD(.lr = 1, .decay = -1);
    BAD(.lr = 1, .decay = NAN);
    BAD(.lr = 1, .nesterov = 1);
    BAD(.lr = 1, .nesterov = 1, .momentum = 0.9, .dampening = 0.1);
    BAD(.lr = 1, .clip_norm = -1);
    BAD(.lr = 1, .clip_value = -1);
    BAD(.lr = 1, .clip_norm = 1, .clip_value = 1);
    BAD(.lr = 1, .from = 1);
    BAD(.lr = 1, .from = 2, .count = 3);
    BAD(.lr = 1, .from = -1);
    BAD(.lr = 1, .from = N);
    BAD(.lr = 1, .from = 2, .count = N - 1);
    BAD(.lr = 1, .count = -1);
    BAD(.lr = 1, .name = "");
    BAD_ADAM(.lr = -1);
    BAD_ADAM(.has_beta1 = 1, .beta1 = 1);
    BAD_ADAM(.has_beta2 = 1, .beta2 = -0.5);
    BAD_ADAM(.has_eps = 1, .eps = -1);
    BAD_ADAM(.decay = -1);
    refused(ctx, tern_adam(ctx, tern_nn_relu(ctx), NULL), "no parameters");
    cr_expect(tern_optim_step(ctx, NULL) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tern_optim *o = tern_sgd(ctx, m, &(tern_sgd_opts){.has_lr = 1});
    cr_assert(o, "a rate of 0 that is meant");
    cr_expect(tern_optim_set_lr(ctx, o, -1) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_optim_set_lr(ctx, o, NAN) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* ---- Schedules ---- */

static void near(const char *what, double got, double want)
{
    cr_expect(fabs(got - want) <= 1e-15 + 1e-14 * fabs(want), "%s: %.17g, not %.17g", what, got,
              want);
}

Test(schedule, formulas)
{
    const double pi = acos(-1);
    const tern_schedule flat = {.lr = 0.3}, warm = {.lr = 0.3, .warmup = 4};
    const tern_schedule stairs = {.kind = TERN_SCHEDULE_STEP, .lr = 0.8, .every = 3, .factor = 0.5};
    const tern_schedule thirds = {.kind = TERN_SCHEDULE_STEP, .lr = 1, .total = 10};
    const tern_schedule floor_at = {.kind = TERN_SCHEDULE_STEP, .lr = 1, .every = 1, .least = 0.05};
    const tern_schedule wave = {
        .kind = TERN_SCHEDULE_COSINE, .lr = 0.2, .total = 50, .warmup = 5, .least = 0.01};

    for (int i = 0; i < 60; i++) {
        near("constant", tern_schedule_lr(&flat, NULL, i), 0.3);
        near("warmup", tern_schedule_lr(&warm, NULL, i), i < 4 ? 0.3 * (i + 1) / 4 : 0.3);
        near("step", tern_schedule_lr(&stairs, NULL, i), 0.8 * pow(0.5, floor(i / 3.0)));
        near("step by thirds", tern_schedule_lr(&thirds, NULL, i), pow(0.1, floor(i / 4.0)));
        near("least", tern_schedule_lr(&floor_at, NULL, i), i == 0 ? 1 : i == 1 ? 0.1 : 0.05);
        near("cosine", tern_schedule_lr(&wave, NULL, i),
             i < 5    ? 0.2 * (i + 1) / 5
             : i < 50 ? 0.01 + 0.19 * (1 + cos(pi * (i - 5) / 45)) / 2
                      : 0.01);
    }
}

Test(schedule, plateau)
{
    const tern_schedule s = {
        .kind = TERN_SCHEDULE_PLATEAU, .lr = 0.4, .patience = 2, .least = 0.09, .threshold = 0.01};
    /* better, no, cut, no, better by too little: cut, better, NaN, cut */
    const double seen[] = {1, 1, 1.1, 1, 0.995, 0.9, NAN, 0.9};
    const bool cut[] = {false, false, true, false, true, false, false, true};
    const double lr[] = {0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.1, 0.09};
    tern_schedule_state state = {0}, copy;

    for (int i = 0; i < 8; i++) {
        copy = state; /* plain numbers: a copy goes on alike */
        cr_expect(tern_schedule_observe(&s, &state, seen[i]) == cut[i], "observation %d", i);
        cr_expect(tern_schedule_observe(&s, &copy, seen[i]) == cut[i]);
        near("plateau", tern_schedule_lr(&s, &state, i), lr[i]);
    }
    state = (tern_schedule_state){0};
    const tern_schedule plain = {.kind = TERN_SCHEDULE_PLATEAU, .lr = 1};
    for (int i = 0; i < 6; i++)
        cr_expect(tern_schedule_observe(&plain, &state, 2) == (i == 5), "patience is 5");
    near("halved", tern_schedule_lr(&plain, &state, 0), 0.5);
    cr_expect(!tern_schedule_observe(&(tern_schedule){.lr = 1}, &state, 2), "constant never cuts");
}

Test(schedule, names_and_checks)
{
    tern_ctx *ctx = tc_open("cpu");

    for (int i = 0; i <= TERN_SCHEDULE_PLATEAU; i++)
        cr_expect(tern_schedule_named(tern_schedule_name(i)) == i);
    cr_expect(tern_schedule_named("linear") == -1 && tern_schedule_named(NULL) == -1);
    cr_expect(tern_schedule_name(9) == NULL);
    const tern_schedule bad[] = {{.kind = 9},
                                 {.lr = -1},
                                 {.lr = NAN},
                                 {.lr = 1, .least = 2},
                                 {.lr = 1, .factor = 2},
                                 {.lr = 1, .warmup = -1},
                                 {.lr = 1, .patience = -1},
                                 {.lr = 1, .threshold = 1},
                                 {.kind = TERN_SCHEDULE_COSINE, .lr = 1},
                                 {.kind = TERN_SCHEDULE_COSINE, .lr = 1, .total = 5, .warmup = 5},
                                 {.kind = TERN_SCHEDULE_STEP, .lr = 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect(tern_schedule_check(ctx, &bad[i]) == TERN_E_ARGUMENT, "%d", (int)i);
        tern_error_clear(ctx);
    }
    cr_expect(tern_schedule_check(ctx, NULL) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_schedule_check(ctx, &(tern_schedule){.lr = 0.1}) == TERN_OK);
    tc_close(ctx);
}
