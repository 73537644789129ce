/*
 * trust.c - a library's plan must agree with our own row before it computes anything that counts.
 *
 * Both compute the call on the same pseudo-random inputs. For sums of products the bounds of both
 * rows are u e(L) S, where S is the same sum over absolute values, which our own row computes in a
 * third run, and e(L) is ti_sum_error of the longest chain L (host/ops/common.h); an activation
 * adds 4 u |y| to each. A recurrent net has no such sum: there our own row also runs in f64, what
 * it is off by in f32 is the measure, and the library may be off by eight times as much. The last
 * pair of runs has a NaN in the first input: both must show it at the same places. All of it lies
 * in device memory of its own, and nothing is being captured.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tern/ops.h"
#include "vendor.h"

/* Behind each output of a library lies this much that must stay as it was. */
enum { GUARD = 256, GUARD_BYTE = 0xA5, PATTERN = 65521 };

/* ---- The trial ---- */

typedef struct {
    const ti_work *call;
    const ti_row *own;
    ti_run_fn run;
    ti_device *d;
    char *in[TI_FEW], *out, *scratch; /* device memory */
    size_t in_bytes[TI_FEW], scratch_bytes;
    size_t at[TI_OUTS], out_bytes[TI_OUTS], all; /* outputs lie in one piece, a guard behind each */
    char *first, *second, *wanted, *sums;        /* host memory, `all` bytes each */
    char *pattern;
    double scale[TI_FEW]; /* of the inputs; 0: 1 */
    ti_math math;
} trial;

/* Bytes from the first element of a view to behind its last. */
static size_t span_of(const ti_view *v)
{
    int64_t last = 0;

    for (int a = 0; a < v->m.shape.rank; a++)
        if (v->m.shape.dim[a] > 1) last += (v->m.shape.dim[a] - 1) * v->m.stride[a];
    return (size_t)(last + 1) * tern_type_size(v->m.type);
}

static bool on_device(char **p, size_t bytes)
{
    if (cudaMalloc((void **)p, bytes) == cudaSuccess) return true;
    *p = NULL;
    (void)cudaGetLastError();
    return false;
}

static bool make_room(trial *t)
{
    bool fine = on_device(&t->out, t->all) && on_device(&t->scratch, t->scratch_bytes);

    for (int i = 0; i < t->call->n_in && fine; i++)
        if (t->in_bytes[i]) fine = on_device(&t->in[i], t->in_bytes[i]);
    if (!fine) return false;
    t->pattern = ti_cuda_host_alloc(PATTERN * sizeof(double));
    t->first = ti_cuda_host_alloc(4 * t->all);
    t->second = t->first + t->all;
    t->wanted = t->second + t->all;
    t->sums = t->wanted + t->all;
    return t->pattern && t->first;
}

static void give_back(trial *t)
{
    for (int i = 0; i < t->call->n_in; i++)
        if (t->in[i]) (void)cudaFree(t->in[i]);
    if (t->out) (void)cudaFree(t->out);
    if (t->scratch) (void)cudaFree(t->scratch);
    ti_cuda_host_free(t->first);
    ti_cuda_host_free(t->pattern);
}

/* Numbers in -1 … 1, or 0 … 1, over and over: the period is a prime, so that it does not fall in
 * step with any extent. For tensor cores they are such that tf32, bf16 and f16 hold them. */
static void fill_input(trial *t, int i, bool positive)
{
    const tern_type type = t->call->in[i].m.type;
    const size_t size = tern_type_size(type);
    const double scale = t->scale[i] > 0 ? t->scale[i] : 1;
    uint64_t state = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);

    for (int k = 0; k < PATTERN; k++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        const double x = t->math == TI_MATH_TF32 ? (double)(int64_t)(z >> 56) * 0x1p-7 - 1
                                                 : (double)(int64_t)(z >> 40) * 0x1p-23 - 1;
        ti_store(type, t->pattern + (size_t)k * size, (positive ? fabs(x) : x) * scale);
    }
    for (size_t at = 0, n; at < t->in_bytes[i]; at += n) {
        n = t->in_bytes[i] - at < PATTERN * size ? t->in_bytes[i] - at : PATTERN * size;
        ti_cuda_upload(t->d, t->in[i] + at, t->pattern, n);
    }
}

/* A NaN in the middle of the first input. */
static void spoil(trial *t)
{
    char bad[8];
    const tern_type type = t->call->in[0].m.type;
    const size_t size = tern_type_size(type);

    ti_store(type, bad, NAN);
    ti_cuda_upload(t->d, t->in[0] + t->in_bytes[0] / size / 2 * size, bad, size);
}

/* Runs one of the two on the trial's memory and fetches what it wrote. */
static bool run_one(trial *t, ti_run_fn run, char *to)
{
    ti_work w = *t->call;
    ti_view in[TI_FEW], out[TI_OUTS];

    memcpy(in, w.in, (size_t)w.n_in * sizeof *in);
    memcpy(out, w.out, sizeof out);
    for (int i = 0; i < w.n_in; i++) in[i].data = t->in[i];
    w.in = in;
    w.out = out;
    w.scratch = t->scratch;
    memset(to, GUARD_BYTE, t->all);
    for (int k = 0; k < w.op->n_out; k++) {
        memset(to + t->at[k], 0xff, t->out_bytes[k]); /* NaN: what is not written shows */
        if (out[k].count >= 0) out[k].data = t->out + t->at[k];
    }
    ti_cuda_upload(t->d, t->out, to, t->all);
    run(&w);
    ti_cuda_download(t->d, to, t->out, t->all);
    return !t->d->failed[0];
}

double ti_vendor_chain(double K, ti_math math)
{
    return math == TI_MATH_TF32 ? (K / 3) * (K / 3) + 35 : K;
}

static double sum_error(double L) { return L < 35 ? L + 1 : 6 * sqrt(L + 1); }

static bool guard_broken(const trial *t, const char *got)
{
    for (int k = 0; k < t->call->op->n_out; k++)
        for (size_t i = 0; i < GUARD; i++)
            if ((unsigned char)got[t->at[k] + t->out_bytes[k] + i] != GUARD_BYTE) return true;
    return false;
}

/* What plans must hold to: the same bits twice, unless they say that they vary, and nothing beside
 * the outputs. */
static const char *misbehaves(const trial *t, const char *who)
{
    const char *op = t->call->op->name;

    if (!t->call->varies && memcmp(t->first, t->second, t->all) != 0)
        return ti_vendor_why(t->d, true, "%s by %s: two runs differ in their bits: dropped", op,
                             who);
    if (guard_broken(t, t->first))
        return ti_vendor_why(t->d, true, "%s by %s: it writes behind its output: dropped", op, who);
    return NULL;
}

static double element(const trial *t, const char *from, int k, size_t i)
{
    const tern_type type = t->call->out[k].m.type;

    return ti_load(type, from + t->at[k] + i * tern_type_size(type));
}

static const char *differs(const trial *t, int k, size_t i, double want, double allowed,
                           const char *who)
{
    return ti_vendor_why(t->d, true,
                         "%s by %s: element %zu of %s is %.9g, %s gives %.9g, they may differ by "
                         "%.3g: dropped",
                         t->call->op->name, who, i, t->call->op->out[k].name,
                         element(t, t->first, k, i), t->own->impl, want, allowed);
}

static size_t count_of(const trial *t, int k)
{
    return t->out_bytes[k] ? t->out_bytes[k] / tern_type_size(t->call->out[k].m.type) : 0;
}

/* The first element out of its bound, or NULL. */
static const char *compare(const trial *t, double chain, const char *who)
{
    const double u = t->call->out[0].m.type == TERN_F64 ? 0x1p-53 : 0x1p-24;
    const double own_chain = t->own->chain ? t->own->chain(t->call) : 1;
    const double factor = sum_error(own_chain) + sum_error(chain);

    for (size_t i = 0; i < count_of(t, 0); i++) {
        const double want = element(t, t->wanted, 0, i);
        const double allowed = u * (1.01 * factor * element(t, t->sums, 0, i) + 8 * fabs(want));

        if (!(fabs(element(t, t->first, 0, i) - want) <= allowed))
            return differs(t, 0, i, want, allowed, who);
    }
    return NULL;
}

static const char *compare_nan(const trial *t, const char *who)
{
    for (int k = 0; k < t->call->op->n_out; k++)
        for (size_t i = 0; i < count_of(t, k); i++) {
            const bool got = isnan(element(t, t->first, k, i)),
                       want = isnan(element(t, t->wanted, k, i));

            if (got != want)
                return ti_vendor_why(t->d, true,
                                     "%s by %s: element %zu of %s %s a NaN where %s gives %s: "
                                     "dropped",
                                     t->call->op->name, who, i, t->call->op->out[k].name,
                                     got ? "is" : "is not", t->own->impl, want ? "one" : "none");
        }
    return NULL;
}

/* A call that the library refused has not harmed the device: only the plan goes. */
static const char *forgive(trial *t, const char *who)
{
    if (cudaStreamSynchronize(t->d->stream) != cudaSuccess) return t->d->failed;
    const char *why = ti_vendor_why(t->d, true, "%s by %s: %.200s: dropped", t->call->op->name, who,
                                    t->d->failed);
    t->d->failed[0] = 0;
    return why;
}

/* Both on the same inputs, the library twice. */
static const char *run_both(trial *t, const char *who)
{
    for (int i = 0; i < t->call->n_in; i++)
        if (t->in_bytes[i]) fill_input(t, i, false);
    if (!run_one(t, t->own->run, t->wanted)) return t->d->failed;
    if (!run_one(t, t->run, t->first) || !run_one(t, t->run, t->second)) return forgive(t, who);
    return NULL;
}

static const char *run_with_nan(trial *t, const char *who)
{
    spoil(t);
    if (!run_one(t, t->own->run, t->wanted)) return t->d->failed;
    return run_one(t, t->run, t->first) ? compare_nan(t, who) : forgive(t, who);
}

static const char *judge(trial *t, double chain, const char *who)
{
    const char *why = run_both(t, who);

    if (why) return why;
    for (int i = 0; i < t->call->n_in; i++)
        if (t->in_bytes[i]) fill_input(t, i, true);
    if (!run_one(t, t->own->run, t->sums)) return t->d->failed;
    if ((why = misbehaves(t, who)) != NULL || (why = compare(t, chain, who)) != NULL) return why;
    return run_with_nan(t, who);
}

static trial trial_of(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch)
{
    trial t = {.call = w, .own = own, .run = run, .d = w->device};
    const size_t own_scratch = ti_own_scratch(own, w);

    for (int i = 0; i < w->n_in; i++) t.in_bytes[i] = w->in[i].count > 0 ? span_of(&w->in[i]) : 0;
    for (int k = 0; k < w->op->n_out; k++) {
        t.at[k] = t.all;
        t.out_bytes[k] = w->out[k].count > 0 ? ti_bytes(&w->out[k].m) : 0;
        t.all += (t.out_bytes[k] + 2 * GUARD - 1) / GUARD * GUARD;
    }
    t.scratch_bytes = scratch > own_scratch ? scratch : own_scratch;
    return t;
}

static const char *no_room(const trial *t, const char *who)
{
    return ti_vendor_why(t->d, true, "%s by %s: no memory to check it: dropped", t->call->op->name,
                         who);
}

const char *ti_trust(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch,
                     double chain, ti_math math, const char *who)
{
    trial t = trial_of(w, own, run, scratch);

    (void)cudaSetDevice(t.d->index);
    t.math = math;
    const char *why = make_room(&t) ? judge(&t, chain, who) : no_room(&t, who);
    give_back(&t);
    return why;
}

/* ---- Nets, whose errors have no bound out of sums ---- */

/* e holds our own row's results in f64. */
static const char *compare_measured(const trial *t, const trial *e, const char *who)
{
    for (int k = 0; k < t->call->op->n_out; k++) {
        double off = 0, most = 0;

        for (size_t i = 0; i < count_of(t, k); i++) {
            const double exact = element(e, e->wanted, k, i);

            off = fmax(off, fabs(element(t, t->wanted, k, i) - exact));
            most = fmax(most, fabs(exact));
        }
        const double allowed = 8 * off + 0x1p-20 * most;
        for (size_t i = 0; i < count_of(t, k); i++) {
            const double exact = element(e, e->wanted, k, i);

            if (!(fabs(element(t, t->first, k, i) - exact) <= allowed))
                return differs(t, k, i, exact, allowed, who);
        }
    }
    return NULL;
}

static const char *judge_measured(trial *t, trial *e, const char *who)
{
    const char *why = run_both(t, who);

    if (why || (why = misbehaves(t, who)) != NULL) return why;
    for (int i = 0; i < e->call->n_in; i++)
        if (e->in_bytes[i]) fill_input(e, i, false);
    if (!run_one(e, e->own->run, e->wanted)) return e->d->failed;
    if ((why = compare_measured(t, e, who)) != NULL) return why;
    return run_with_nan(t, who);
}

const char *ti_trust_net(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch,
                         const double *scale, const char *who)
{
    ti_view in[TI_FEW], out[TI_OUTS];
    ti_work wide = *w;

    (void)cudaSetDevice(w->device->index);
    memcpy(in, w->in, (size_t)w->n_in * sizeof *in);
    memcpy(out, w->out, sizeof out);
    for (int i = 0; i < w->n_in; i++) in[i].m.type = TERN_F64;
    for (int k = 0; k < TI_OUTS; k++) out[k].m.type = TERN_F64;
    wide.in = in;
    wide.out = out;
    const ti_row *exact = ti_own_row(&wide);
    if (!exact) return "there is no row of our own in f64 to check it against";
    trial t = trial_of(w, own, run, scratch), e = trial_of(&wide, exact, exact->run, 0);
    memcpy(t.scale, scale, sizeof t.scale);
    memcpy(e.scale, scale, sizeof e.scale);
    const char *why =
        make_room(&t) && make_room(&e) ? judge_measured(&t, &e, who) : no_room(&t, who);
    give_back(&t);
    give_back(&e);
    return why;
}
