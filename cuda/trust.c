/*
 * trust.c - a library's plan must agree with our own row before it computes anything that counts.
 *
 * Both compute the call on the same pseudo-random inputs. For sums of products the bounds of both
 * rows are u e(L) S, where S is the same sum over absolute values, which our own row computes in a
 * third run, and e(L) is ti_sum_error of the longest chain L (host/ops/common.h); an activation
 * adds 4 u |y| to each. A fourth pair of runs has a NaN in the first input: both must show it at
 * the same places. All of it lies in device memory of its own, and nothing is being captured.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tern/ops.h"
#include "vendor.h"

/* Behind each output of a library lies this much that must stay as it was. */
enum { GUARD = 256, GUARD_BYTE = 0xA5, PATTERN = 65521 };

/* One that takes the numbers as they are: rows of other math modes are no measure. */
const ti_row *ti_own_row(const ti_work *w)
{
    const ti_row *best = NULL;
    double least = 0;

    for (int k = 0; ti_cuda_rows[k]; k++)
        for (const ti_row *r = ti_cuda_rows[k]; r->op; r++) {
            if (strcmp(r->op, w->op->name) != 0 || r->prepare || r->numbers >= TI_CLASS_TF32 ||
                (r->reject && r->reject(w)))
                continue;
            const double cost = r->cost ? r->cost(w) : 1e18;
            if (!best || cost < least) best = r, least = cost;
        }
    return best;
}

size_t ti_own_scratch(const ti_row *row, const ti_work *w)
{
    const size_t bytes = row && row->scratch ? row->scratch(w) : 0;

    return bytes < 64 ? 64 : bytes;
}

double ti_work_bytes(const ti_work *w)
{
    double bytes = 0;

    for (int i = 0; i < w->n_in + w->op->n_out; i++) {
        const ti_view *v = i < w->n_in ? &w->in[i] : &w->out[i - w->n_in];
        if (v->count > 0) bytes += (double)v->count * (double)tern_type_size(v->m.type);
    }
    return bytes;
}

void ti_inner_call(ti_inner *c, const ti_work *w, const char *op, const void *opts, int n_in,
                   const ti_view *in, ti_view out)
{
    memset(c, 0, sizeof *c);
    c->op = (ti_op){.name = op, .n_in = n_in, .n_out = 1};
    for (int i = 0; i < TI_OUTS; i++) c->out[i].count = -1;
    memcpy(c->in, in, (size_t)n_in * sizeof *in);
    c->out[0] = out;
    c->w = (ti_work){.op = &c->op,
                     .opts = opts,
                     .n_in = n_in,
                     .in = c->in,
                     .out = c->out,
                     .scratch = w->scratch,
                     .device = w->device,
                     .fault = w->fault};
}

void ti_relu_after(const ti_work *w)
{
    ti_inner c;

    ti_inner_call(&c, w, "relu", NULL, 1, &w->out[0], w->out[0]);
    ti_own_row(&c.w)->run(&c.w);
}

/* ---- The trial ---- */

typedef struct {
    const ti_work *call;
    const ti_row *own;
    ti_run_fn run;
    ti_device *d;
    char *in[TI_FEW], *out, *scratch; /* device memory */
    size_t in_bytes[TI_FEW], out_bytes, scratch_bytes;
    char *first, *second, *wanted, *sums; /* host memory, out_bytes + GUARD each */
    char *pattern;
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
    const size_t bytes = t->out_bytes + GUARD;
    bool fine = on_device(&t->out, bytes) && on_device(&t->scratch, t->scratch_bytes);

    for (int i = 0; i < t->call->n_in && fine; i++)
        if (t->in_bytes[i]) fine = on_device(&t->in[i], t->in_bytes[i]);
    if (!fine) return false;
    t->pattern = ti_cuda_host_alloc(PATTERN * sizeof(double));
    t->first = ti_cuda_host_alloc(4 * bytes);
    t->second = t->first + bytes;
    t->wanted = t->second + bytes;
    t->sums = t->wanted + bytes;
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
    uint64_t state = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);

    for (int k = 0; k < PATTERN; k++) {
        uint64_t z = state += 0x9e3779b97f4a7c15u;

        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        const double x = t->math == TI_MATH_TF32 ? (double)(int64_t)(z >> 56) * 0x1p-7 - 1
                                                 : (double)(int64_t)(z >> 40) * 0x1p-23 - 1;
        ti_store(type, t->pattern + (size_t)k * size, positive ? fabs(x) : x);
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
    const size_t bytes = t->out_bytes + GUARD;

    memcpy(in, w.in, (size_t)w.n_in * sizeof *in);
    memcpy(out, w.out, sizeof out);
    for (int i = 0; i < w.n_in; i++) in[i].data = t->in[i];
    out[0].data = t->out;
    w.in = in;
    w.out = out;
    w.scratch = t->scratch;
    memset(to, GUARD_BYTE, bytes);
    memset(to, 0xff, t->out_bytes); /* NaN: what is not written shows */
    ti_cuda_upload(t->d, t->out, to, bytes);
    run(&w);
    ti_cuda_download(t->d, to, t->out, bytes);
    return !t->d->failed[0];
}

double ti_vendor_chain(double K, ti_math math)
{
    return math == TI_MATH_TF32 ? (K / 3) * (K / 3) + 35 : K;
}

static double sum_error(double L) { return L < 35 ? L + 1 : 6 * sqrt(L + 1); }

static bool guard_broken(const trial *t, const char *got)
{
    for (int i = 0; i < GUARD; i++)
        if ((unsigned char)got[t->out_bytes + (size_t)i] != GUARD_BYTE) return true;
    return false;
}

/* The first element out of its bound, or NULL. */
static const char *compare(const trial *t, double chain, const char *who)
{
    const ti_work *w = t->call;
    const ti_view *y = &w->out[0];
    const tern_type type = y->m.type;
    const size_t size = tern_type_size(type);
    const double u = type == TERN_F64 ? 0x1p-53 : 0x1p-24;
    const double own_chain = t->own->chain ? t->own->chain(w) : 1;
    const double factor = sum_error(own_chain) + sum_error(chain);

    if (memcmp(t->first, t->second, t->out_bytes) != 0)
        return ti_vendor_why(t->d, true, "%s by %s: two runs differ in their bits: dropped",
                             w->op->name, who);
    if (guard_broken(t, t->first))
        return ti_vendor_why(t->d, true, "%s by %s: it writes behind its output: dropped",
                             w->op->name, who);
    for (size_t i = 0; i < t->out_bytes / size; i++) {
        const double got = ti_load(type, t->first + i * size);
        const double want = ti_load(type, t->wanted + i * size);
        const double allowed =
            u * (1.01 * factor * ti_load(type, t->sums + i * size) + 8 * fabs(want));

        if (!(fabs(got - want) <= allowed))
            return ti_vendor_why(t->d, true,
                                 "%s by %s: element %zu is %.9g, %s gives %.9g, they may differ "
                                 "by %.3g: dropped",
                                 w->op->name, who, i, got, t->own->impl, want, allowed);
    }
    return NULL;
}

static const char *compare_nan(const trial *t, const char *who)
{
    const tern_type type = t->call->out[0].m.type;
    const size_t size = tern_type_size(type);

    for (size_t i = 0; i < t->out_bytes / size; i++)
        if (isnan(ti_load(type, t->first + i * size)) != isnan(ti_load(type, t->wanted + i * size)))
            return ti_vendor_why(
                t->d, true, "%s by %s: element %zu %s a NaN where %s gives %s: dropped",
                t->call->op->name, who, i,
                isnan(ti_load(type, t->first + i * size)) ? "is" : "is not", t->own->impl,
                isnan(ti_load(type, t->wanted + i * size)) ? "one" : "none");
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

static const char *judge(trial *t, double chain, const char *who)
{
    const ti_work *w = t->call;
    const char *why;

    for (int i = 0; i < w->n_in; i++)
        if (t->in_bytes[i]) fill_input(t, i, false);
    if (!run_one(t, t->own->run, t->wanted)) return t->d->failed;
    if (!run_one(t, t->run, t->first) || !run_one(t, t->run, t->second)) return forgive(t, who);
    for (int i = 0; i < w->n_in; i++)
        if (t->in_bytes[i]) fill_input(t, i, true);
    if (!run_one(t, t->own->run, t->sums)) return t->d->failed;
    if ((why = compare(t, chain, who)) != NULL) return why;
    spoil(t);
    if (!run_one(t, t->own->run, t->wanted)) return t->d->failed;
    return run_one(t, t->run, t->first) ? compare_nan(t, who) : forgive(t, who);
}

const char *ti_trust(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch,
                     double chain, ti_math math, const char *who)
{
    trial t = {.call = w, .own = own, .run = run, .d = w->device, .math = math};
    const size_t own_scratch = ti_own_scratch(own, w);
    const char *why;

    (void)cudaSetDevice(t.d->index);
    for (int i = 0; i < w->n_in; i++) t.in_bytes[i] = w->in[i].count > 0 ? span_of(&w->in[i]) : 0;
    t.out_bytes = ti_bytes(&w->out[0].m);
    t.scratch_bytes = scratch > own_scratch ? scratch : own_scratch;
    if (!make_room(&t))
        why =
            ti_vendor_why(t.d, true, "%s by %s: no memory to check it: dropped", w->op->name, who);
    else why = judge(&t, chain, who);
    give_back(&t);
    return why;
}

/* ---- Rounding the operands ---- */

static bool is_operand(const ti_work *w, int i)
{
    return (w->op->operands >> i & 1) && w->in[i].count > 0 && w->in[i].m.type == TERN_F32;
}

static size_t whole(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t ti_rounded_scratch(const ti_work *w, size_t inner)
{
    size_t bytes = whole(inner);

    for (int i = 0; i < w->n_in; i++)
        if (is_operand(w, i)) bytes += whole(ti_bytes(&w->in[i].m));
    return bytes;
}

void ti_rounded_run(const ti_work *w, tern_math_t to, size_t inner, ti_run_fn run)
{
    const tern_round_to_opts format = {(int)to};
    char *at = (char *)w->scratch + whole(inner);
    ti_work rounded = *w;
    ti_view in[TI_FEW];

    memcpy(in, w->in, (size_t)w->n_in * sizeof *in);
    for (int i = 0; i < w->n_in; i++) {
        ti_inner c;

        if (!is_operand(w, i)) continue;
        in[i].data = at;
        at += whole(ti_bytes(&in[i].m));
        ti_inner_call(&c, w, "round_to", &format, 1, &w->in[i], in[i]);
        ti_own_row(&c.w)->run(&c.w);
    }
    rounded.in = in;
    run(&rounded);
}
