/*
 * chain.c - CPU kernels for chains: y = the last of s_k = f_k(a_k, b_k; p_k), element by element.
 *
 * A run is cut into tiles that stay in the first cache; on a tile each step is the loop that the
 * operation alone would take (simd/vector.c), so that the bits are those of the single calls.
 */
#include <math.h>

#include "core/chain.h"
#include "cpu/loops.h"

enum { TILE = 512, OPERANDS = TERN_CHAIN_IN + TERN_CHAIN };

typedef struct {
    const ti_vector *vector;
    const tern_chain_opts *o;
    int n, slot[TERN_CHAIN_IN]; /* steps; which pointer of a run is input i, 0: none */
} chain;

static const int twos[] = {
    [TERN_CHAIN_ADD] = TI_V_ADD,         [TERN_CHAIN_SUB] = TI_V_SUB,
    [TERN_CHAIN_MUL] = TI_V_MUL,         [TERN_CHAIN_DIV] = TI_V_DIV,
    [TERN_CHAIN_MAXIMUM] = TI_V_MAXIMUM, [TERN_CHAIN_MINIMUM] = TI_V_MINIMUM,
    [TERN_CHAIN_TANH_D] = TI_V_TANH_D,   [TERN_CHAIN_SIGMOID_D] = TI_V_SIGMOID_D};
static const int ones[] = {[TERN_CHAIN_SCALE] = TI_V_SCALE, [TERN_CHAIN_SHIFT] = TI_V_SHIFT,
                           [TERN_CHAIN_NEG] = TI_V_NEG,     [TERN_CHAIN_ABS] = TI_V_ABS,
                           [TERN_CHAIN_EXP] = TI_V_EXP,     [TERN_CHAIN_LOG] = TI_V_LOG,
                           [TERN_CHAIN_SQRT] = TI_V_SQRT,   [TERN_CHAIN_RSQRT] = TI_V_RSQRT,
                           [TERN_CHAIN_TANH] = TI_V_TANH,   [TERN_CHAIN_SIGMOID] = TI_V_SIGMOID,
                           [TERN_CHAIN_RELU] = TI_V_RELU};

/* The last step writes the result; by then the tile of every input is read. */
static void tile_f32(const chain *c, int64_t n, const float *const *in, float *y)
{
    _Alignas(64) float step[TERN_CHAIN][TILE];
    const float *s[OPERANDS];
    const tern_chain_opts *o = c->o;

    for (int i = 0; i < TERN_CHAIN_IN; i++) s[i] = in[i];
    for (int k = 0; k < c->n; k++) {
        float *to = k + 1 < c->n ? step[k] : y;

        if (ti_chain_is_two(o->kind[k]))
            c->vector->two[twos[o->kind[k]]](n, s[o->a[k]], 1, s[o->b[k]], 1, to, 0);
        else c->vector->one[ones[o->kind[k]]](n, s[o->a[k]], to, (float)o->p[k], 0);
        s[TERN_CHAIN_IN + k] = to;
    }
}

static void run_f32(const void *arg, int64_t n, char *const *x, const int64_t *step)
{
    const chain *c = arg;

    (void)step; /* all of one shape: 1 */
    for (int64_t i = 0; i < n; i += TILE) {
        const float *in[TERN_CHAIN_IN];

        for (int k = 0; k < TERN_CHAIN_IN; k++) /* an absent one is never looked at */
            in[k] = c->slot[k] ? (const float *)(const void *)x[c->slot[k]] + i : NULL;
        tile_f32(c, n - i < TILE ? n - i : TILE, in, (float *)(void *)x[0] + i);
    }
}

/* ---- Rows ---- */

static double ns_of(const ti_work *w) { return 0.2 + 0.2 * ti_chain_steps(w->opts); }

/* The loop's operands are the inputs that are there. */
static void chain_f32(const ti_work *w)
{
    chain c = {.vector = ti_cpu_vector(w->device), .o = w->opts, .n = ti_chain_steps(w->opts)};
    ti_view in[TERN_CHAIN_IN];
    ti_work own = *w;
    int n = 0;

    for (int i = 0; i < TERN_CHAIN_IN; i++) {
        if (w->in[i].count < 0) continue;
        in[n] = w->in[i];
        c.slot[i] = ++n;
    }
    own.in = in;
    own.n_in = n;
    ti_loop(&own, n, true, ns_of(w), run_f32, &c);
}

static double cost(const ti_work *w) { return ti_loop_cost(w, ns_of(w)); }

static int on_first(int i_out)
{
    (void)i_out;
    return 0;
}

/* A value that f32 cannot hold to its precision would change the result. */
static const char *not_f32(const ti_work *w)
{
    const tern_chain_opts *o = w->opts;

    if (w->out[0].m.type != TERN_F32) return "takes f32";
    for (int k = 0; k < ti_chain_steps(o); k++) {
        const double p = fabs(o->p[k]);

        if (p != 0 && (p > 0x1.fffffep127 || p < 0x1p-126)) return "a value is no normal f32";
    }
    return NULL;
}

const ti_row ti_cpu_chain[] = {
    {.op = "chain",
     .impl = "tiles",
     .reject = not_f32,
     .cost = cost,
     .may_alias = on_first,
     .run = chain_f32},
    {.op = NULL},
};
