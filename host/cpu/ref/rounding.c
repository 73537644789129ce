/* rounding.c - reference for round_to: the nearest number of the format, ties to even. */
#include "base/rounding.h"
#include "cpu/ref/ref.h"

static void round_to(const ti_work *w, ti_vec in, ti_vec out)
{
    const int to = ((const tern_round_to_opts *)w->opts)->to;

    for (int64_t i = 0; i < w->out[0].count; i++) out[0][i] = ti_round_f64(to, in[0][i]);
}

const ti_row ti_ref_rounding[] = {
    {.op = "round_to", .impl = "ref", .body = round_to},
    {.op = NULL},
};
