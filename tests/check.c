/*
 * check.c - what the tests share.
 */
#include "check.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tc_devices[] = {"cpu", "ref", NULL};

bool tc_has(const char *device)
{
    const char *require = getenv("TERN_REQUIRE_GPU");
    tern_ctx *ctx = NULL;
    const bool there = tern_open(&ctx, device) == TERN_OK;

    if (!there) {
        fprintf(stderr, "SKIPPED: %s\n", tern_error_text(ctx));
        cr_assert(!require || strcmp(require, "1") != 0 || strcmp(device, "cuda") != 0, "%s",
                  tern_error_text(ctx));
    }
    tern_error_clear(ctx);
    cr_assert(tern_close(ctx) == TERN_OK);
    if (!there) cr_skip_test("no %s device", device);
    return there;
}

const char *tc_device(void)
{
    const char *name = getenv("TC_DEVICE");

    return name && *name ? name : "cpu";
}

tern_ctx *tc_open(const char *device)
{
    tern_ctx *ctx = NULL;
    const tern_status status = tern_open(&ctx, device);

    cr_assert(status == TERN_OK, "%s: %s", device, tern_error_text(ctx));
    return ctx;
}

void tc_close(tern_ctx *ctx)
{
    cr_assert(tern_error(ctx) == TERN_OK, "%s", tern_error_text(ctx));
    cr_assert(tern_close(ctx) == TERN_OK, "something is still held when the context closes");
}

static uint64_t next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double tc_uniform(uint64_t *state) { return (double)(next(state) >> 11) * 0x1p-53; }

double tc_normal(uint64_t *state)
{
    const double u = 1 - tc_uniform(state), v = tc_uniform(state);

    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* A shuffled grid around 0, neighbours 1/32 apart. */
static void distinct(int64_t n, uint64_t *state, double *x)
{
    for (int64_t i = 0; i < n; i++) x[i] = (double)(i - n / 2) / 32 + 1.0 / 64;
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)(next(state) % (uint64_t)(i + 1));
        const double t = x[i];
        x[i] = x[j];
        x[j] = t;
    }
}

/* Positive, sums to 1 along axis 1. */
static void probabilities(const ti_sample_in *in, uint64_t *state, double *x)
{
    const int64_t k = in->shape.rank > 1 ? in->shape.dim[1] : 1, n = tern_count(in->shape);
    int64_t inner = 1;

    for (int a = 2; a < in->shape.rank; a++) inner *= in->shape.dim[a];
    for (int64_t i = 0; i < n; i++) x[i] = 0.1 + tc_uniform(state);
    for (int64_t i = 0; i < n && k; i++) {
        const int64_t outer = i / inner / k, at = i % inner;
        double sum = 0;
        if (i / inner % k) continue;
        for (int64_t j = 0; j < k; j++) sum += x[(outer * k + j) * inner + at];
        for (int64_t j = 0; j < k; j++) x[(outer * k + j) * inner + at] /= sum;
    }
}

void tc_values(const ti_sample_in *in, uint64_t seed, double *x)
{
    const int64_t n = tern_count(in->shape);
    uint64_t state = seed;

    if (in->draw == TI_S_DISTINCT) distinct(n, &state, x);
    if (in->draw == TI_S_PROB) probabilities(in, &state, x);
    for (int64_t i = 0; i < n; i++) {
        const double u = tc_uniform(&state);

        switch (in->draw) {
        case TI_S_NORMAL: x[i] = tc_normal(&state); break;
        case TI_S_POSITIVE: x[i] = 0.5 + 1.5 * u; break;
        case TI_S_UNIT: x[i] = 0.05 + 0.9 * u; break;
        case TI_S_AWAY:
            x[i] = tc_normal(&state);
            x[i] += x[i] < 0 ? -0.1 : 0.1;
            break;
        case TI_S_INDEX: x[i] = floor(u * (double)in->limit); break;
        case TI_S_BOOL: x[i] = u < 0.5; break;
        case TI_S_INT: x[i] = floor(u * (double)(2 * in->limit + 1)) - (double)in->limit; break;
        case TI_S_COUNTER: x[i] = in->limit ? (double)in->limit : 3; break;
        default: break;
        }
        x[i] = (float)x[i];
    }
}

tern_type tc_type_of(const ti_sample_in *in, tern_type type)
{
    switch (in->draw) {
    case TI_S_INDEX:
    case TI_S_INT:
    case TI_S_COUNTER: return TERN_I64;
    case TI_S_BOOL: return TERN_BOOL;
    default: return type;
    }
}

void tc_inputs(tern_ctx *ctx, const ti_op *op, const ti_sample *s, tern_type type, uint64_t seed,
               tern_tensor **in)
{
    (void)op;
    for (int i = 0; i < s->n_in; i++) {
        const int64_t n = tern_count(s->in[i].shape);
        double *x = calloc((size_t)n + 1, sizeof *x);

        in[i] = NULL;
        if (s->in[i].draw != TI_S_NONE) {
            tc_values(&s->in[i], seed + (uint64_t)i * 1000003, x);
            in[i] = tern_from_doubles(ctx, tc_type_of(&s->in[i], type), x, s->in[i].shape);
        }
        free(x);
    }
}

/* The axes turned around in memory, one element more along each, and everything shifted. */
tern_tensor *tc_strided(tern_ctx *ctx, tern_tensor *x)
{
    const int rank = x->m.shape.rank;
    tern_shape big = {.rank = rank};
    tern_permute_opts turn = {{0}};
    double *from = tc_doubles(ctx, x), *to;
    int64_t n;

    if (rank == 0) { /* a scalar inside a vector */
        const double three[3] = {77, from[0], 77};
        free(from);
        x = tern_from_doubles(ctx, x->m.type, three, TI_SHAPE(3));
        x = tern_slice(ctx, x, &(tern_slice_opts){.from = 1, .count = 1});
        return tern_reshape(ctx, x, TI_SCALAR);
    }
    for (int a = 0; a < rank; a++) {
        big.dim[a] = x->m.shape.dim[rank - 1 - a] + 2;
        turn.axes[a] = rank - 1 - a;
    }
    n = tern_count(big);
    to = calloc((size_t)n, sizeof *to);
    for (int64_t i = 0; i < n; i++) to[i] = 77;
    for (int64_t i = 0; i < tern_count(x->m.shape); i++) {
        int64_t rest = i, at = 0, stride[TERN_RANK], index;
        int64_t s = 1;
        for (int a = rank - 1; a >= 0; a--) { /* strides of big, by its own axes */
            stride[a] = s;
            s *= big.dim[a];
        }
        for (int a = rank - 1; a >= 0; a--) {
            index = rest % x->m.shape.dim[a];
            rest /= x->m.shape.dim[a];
            at += (index + 1) * stride[rank - 1 - a];
        }
        to[at] = from[i];
    }
    tern_tensor *t = tern_from_doubles(ctx, x->m.type, to, big);
    free(from);
    free(to);
    for (int a = 0; a < rank; a++)
        t = tern_slice(ctx, t, &(tern_slice_opts){.axis = a, .from = 1, .count = big.dim[a] - 2});
    return tern_permute(ctx, t, &turn);
}

double *tc_doubles(tern_ctx *ctx, tern_tensor *t)
{
    double *x = t ? calloc((size_t)tern_count(t->m.shape) + 1, sizeof *x) : NULL;

    cr_assert(x != NULL, "no tensor: %s", tern_error_text(ctx));
    cr_assert(tern_to_doubles(ctx, x, t) == TERN_OK, "%s", tern_error_text(ctx));
    return x;
}

const ti_sample *tc_samples(const ti_op *op)
{
    static const ti_sample none[] = {TI_SAMPLES_END};

    return op->samples ? op->samples : none;
}

/* $TC_OPS, "matmul,lstm": these only, for tools that slow everything down. */
static bool is_asked_for(const char *op)
{
    const char *list = getenv("TC_OPS");
    const size_t n = strlen(op);

    if (!list || !*list) return true;
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strcspn(at, ",") == n && strncmp(at, op, n) == 0) return true;
    return false;
}

void tc_each_sample(tc_sample_fn fn, void *user)
{
    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++)
            for (const ti_sample *s = tc_samples(*op); s->note && is_asked_for((*op)->name); s++)
                fn(*op, s, user);
}

const char *tc_name(char text[120], const ti_op *op, const ti_sample *s)
{
    snprintf(text, 120, "%s (%s)", op->name, s->note);
    return text;
}
