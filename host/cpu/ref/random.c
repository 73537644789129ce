/*
 * random.c - reference for uniform, normal and dropout. Element i is number i of the stream; see
 * base/random.h for how bits become reals.
 */
#include "base/random.h"
#include "cpu/ref/ref.h"

static ti_stream stream_of(const tern_random_opts *o, double counter)
{
    return ti_stream_of(o->seed, o->purpose, (int64_t)counter);
}

static void uniform(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_random_opts *o = w->opts;
    const double b = o->a == 0 && o->b == 0 ? 1 : o->b;
    const ti_stream s = stream_of(o, in[0][0]);

    for (int64_t i = 0; i < w->out[0].count; i++) {
        if (o->type == TERN_F32) {
            const float u = ti_unit_f32(ti_bits32(&s, (uint64_t)i));
            out[0][i] = (double)ti_between_f32((float)o->a, (float)b, u);
        } else {
            const double u = ti_unit_f64(ti_bits64(&s, (uint64_t)i));
            out[0][i] = ti_between_f64(o->a, b, u);
        }
    }
}

static void normal(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_random_opts *o = w->opts;
    const double b = o->a == 0 && o->b == 0 ? 1 : o->b;
    const ti_stream s = stream_of(o, in[0][0]);

    for (int64_t i = 0; i < w->out[0].count; i++)
        out[0][i] = fma(b, ti_normal_of(ti_bits64(&s, (uint64_t)i)), o->a);
}

static void dropout(const ti_work *w, ti_vec in, ti_vec out)
{
    const tern_dropout_opts *o = w->opts;
    const ti_stream s = ti_stream_of(o->seed, o->purpose, (int64_t)in[1][0]);
    const uint32_t cut = ti_dropout_cut(o->p);

    for (int64_t i = 0; i < w->out[0].count; i++)
        out[0][i] = ti_bits32(&s, (uint64_t)i) < cut ? 0 : in[0][i] / (1 - o->p);
}

const ti_row ti_ref_random[] = {
    {.op = "uniform", .impl = "ref", .body = uniform},
    {.op = "normal", .impl = "ref", .body = normal},
    {.op = "dropout", .impl = "ref", .body = dropout},
    {.op = NULL},
};
