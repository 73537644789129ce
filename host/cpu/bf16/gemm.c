/*
 * gemm.c - the products of gemm.h: both operands packed whole, then parts of C by register tiles.
 *
 *   for each part of C (rows and columns that stay in L2): for each SLICE of k:
 *     for each panel of B (stays in L1): for each panel of A: a tile of ROWS x 2 vectors
 *
 * An element's sum is that of its slices in their order, each summed from zero pair by pair. Parts
 * do not change it.
 */
#include "gemm.h"
#include "pairs.h"

enum {
    ROWS = 14,        /* most rows of a tile: 28 sums, two vectors of B, a pair of A */
    COLS = 2 * VL,    /* columns of a tile */
    PART_PANELS = 16, /* of A and of B, at most, in a part of C */
    PACKED_PANELS = 8 /* at a time: side by side they are read by whole lines */
};
#define NS_PART 20000.0     /* what a part should take at least */
#define NS_PARALLEL 40000.0 /* what makes threads worth waking */

/* ---- Register tiles ---- */

typedef struct {
    const uint32_t *a, *b;
    int64_t pairs, a_width, b_width, cols;
    float *c;
    int64_t ldc;
    const float *bias; /* NULL: none */
    bool add, relu;
} tile;

/* s + the products of both numbers of each pair, the odd ones first. */
INLINE vf dot(vf s, __m512i a, __m512i b, const bool exact)
{
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000);

    if (!exact) return _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)b);
    s = v_fma(_mm512_castsi512_ps(_mm512_and_si512(a, odd)),
              _mm512_castsi512_ps(_mm512_and_si512(b, odd)), s);
    return v_fma(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)),
                 _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)), s);
}

INLINE void sum_tile(const tile *t, const int rows, const int nv, const bool exact)
{
    const uint32_t *a = t->a, *b = t->b;
    vf s[ROWS][2];

    UNROLL for (int i = 0; i < rows; i++) s[i][0] = s[i][1] = v_zero();
    for (int64_t p = 0; p < t->pairs; p++, a += t->a_width, b += t->b_width) {
        const __m512i b0 = _mm512_loadu_si512(b), b1 = nv > 1 ? _mm512_loadu_si512(b + VL) : b0;
        UNROLL for (int i = 0; i < rows; i++)
        {
            const __m512i x = _mm512_set1_epi32((int)a[i]);
            s[i][0] = dot(s[i][0], x, b0, exact);
            if (nv > 1) s[i][1] = dot(s[i][1], x, b1, exact);
        }
    }
    UNROLL for (int j = 0; j < nv; j++)
    {
        const vmask m = v_lanes(t->cols - j * VL);
        const vf bias = t->bias ? v_load_m(t->bias + j * VL, m) : v_zero();
        UNROLL for (int i = 0; i < rows; i++)
        {
            float *c = t->c + i * t->ldc + j * VL;
            vf x = s[i][j];
            if (t->add) x = v_add(x, v_load_m(c, m));
            if (t->bias) x = v_add(x, bias);
            v_store_m(c, m, t->relu ? v_relu(x) : x);
        }
    }
}

/* The row count must be a constant inside the tile, so each count is a function of its own. */
typedef void tile_fn(const tile *t);
#define DEFINE(rows)                                                                               \
    static void fast_##rows##_1(const tile *t) { sum_tile(t, rows, 1, false); }                    \
    static void fast_##rows##_2(const tile *t) { sum_tile(t, rows, 2, false); }                    \
    static void exact_##rows##_1(const tile *t) { sum_tile(t, rows, 1, true); }                    \
    static void exact_##rows##_2(const tile *t) { sum_tile(t, rows, 2, true); }
#define EACH(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define FAST_1(rows) fast_##rows##_1,
#define FAST_2(rows) fast_##rows##_2,
#define EXACT_1(rows) exact_##rows##_1,
#define EXACT_2(rows) exact_##rows##_2,
EACH(DEFINE)
static tile_fn *const tiles[2][2][ROWS] = {{{EACH(FAST_1)}, {EACH(FAST_2)}},
                                           {{EACH(EXACT_1)}, {EACH(EXACT_2)}}};

/* ---- The whole product ---- */

typedef struct {
    ti_gemm g;
    ti_pairs a, b;
    float *c;
    int64_t packs_a, packs_b;     /* chunks of packing */
    int64_t part_rows, part_cols; /* panels of a part of C */
    bool exact;
    int tiny; /* set by any chunk */
} job;

static void slice_along(ti_pairs *o, int64_t k)
{
    const int64_t slices = max_of(1, ceil_div(k, SLICE));

    o->k = k;
    o->slice = max_of(2, round_up(ceil_div(k, slices), 2));
    o->slices = max_of(1, ceil_div(k, o->slice));
}

static int64_t room_of(const ti_pairs *o)
{
    return round_up(o->slices * o->slice / 2 * o->panels * o->width, VL);
}

static job job_of(const ti_gemm *g, void *scratch)
{
    const int64_t row_panels = max_of(1, ceil_div(g->m, ROWS));
    job o = {.g = *g};

    o.a = (ti_pairs){.n = g->m, .n_step = g->a_rs, .k_step = g->a_cs, .to = scratch};
    o.b = (ti_pairs){.n = g->n, .n_step = g->b_cs, .k_step = g->b_rs};
    slice_along(&o.a, g->k);
    slice_along(&o.b, g->k);
    /* Rows are dealt evenly: 64 rows are 13+13+13+13+12, not 14+14+14+14+8. */
    o.a.width = max_of(1, ceil_div(g->m, row_panels));
    o.a.panels = ceil_div(g->m, o.a.width);
    o.b.width = g->n <= VL ? VL : COLS;
    o.b.panels = ceil_div(g->n, o.b.width);
    if (scratch) o.b.to = o.a.to + room_of(&o.a);
    return o;
}

static void pack_chunk(void *arg, int64_t i, int i_worker)
{
    job *o = arg;
    const ti_pairs *x = i < o->packs_a ? &o->a : &o->b;
    const int64_t chunk = i < o->packs_a ? i : i - o->packs_a;
    const int64_t from = chunk / x->slices * PACKED_PANELS, slice = chunk % x->slices;
    const int64_t to = min_of(from + PACKED_PANELS, x->panels);

    (void)i_worker;
    if (o->exact) pack_panels_of(x, slice, from, to, true);
    else if (pack_panels_of(x, slice, from, to, false))
        __atomic_store_n(&o->tiny, 1, __ATOMIC_RELAXED);
}

static void part(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const ti_gemm *g = &o->g;
    const int64_t across = ceil_div(o->b.panels, o->part_cols);
    const int64_t i0 = i / across * o->part_rows, j0 = i % across * o->part_cols;
    const int64_t i1 = min_of(i0 + o->part_rows, o->a.panels);
    const int64_t j1 = min_of(j0 + o->part_cols, o->b.panels);
    tile t = {.a_width = o->a.width, .b_width = o->b.width, .ldc = g->ldc};

    (void)i_worker;
    for (int64_t s = 0; s < o->a.slices; s++) {
        const bool last = s + 1 == o->a.slices;
        t.pairs = pairs_of(&o->a, s);
        t.add = g->accumulate || s > 0;
        t.relu = last && g->relu;
        for (int64_t p = j0; p < j1; p++) {
            const int64_t j = p * o->b.width;
            t.b = panel_at(&o->b, s, p);
            t.cols = g->n - j;
            t.bias = last && g->bias ? (const float *)g->bias + j : NULL;
            for (int64_t r = i0; r < i1; r++) {
                const int64_t row = r * o->a.width, rows = min_of(o->a.width, g->m - row);
                t.a = panel_at(&o->a, s, r);
                t.c = o->c + row * g->ldc + j;
                tiles[o->exact][t.cols > VL][rows - 1](&t);
            }
        }
    }
}

static double products_ns(int64_t m, int64_t n, int64_t k)
{
    return (double)m * (double)n * (double)k / 120;
}

/* Few panels of columns make a part where it takes long enough for a thread of its own. */
static void cut(job *o)
{
    o->part_rows = min_of(o->a.panels, PART_PANELS);
    const double ns = products_ns(o->part_rows * o->a.width, o->b.width, o->g.k);
    const int64_t cols = ns * PART_PANELS < NS_PART ? PART_PANELS : (int64_t)(NS_PART / ns) + 1;
    o->part_cols = min_of(cols, PART_PANELS);
}

static size_t gemm_scratch(const ti_gemm *g)
{
    const job o = job_of(g, NULL);

    return (size_t)(room_of(&o.a) + room_of(&o.b)) * sizeof(uint32_t);
}

static void gemm(ti_threads *t, const ti_gemm *g, const float *a, const float *b, float *c,
                 void *scratch)
{
    job o = job_of(g, scratch);

    if (g->m <= 0 || g->n <= 0) return;
    o.a.x = a;
    o.b.x = b;
    o.c = c;
    if (products_ns(g->m, g->n, g->k) < NS_PARALLEL) t = NULL;
    o.packs_a = g->k > 0 ? o.a.slices * ceil_div(o.a.panels, PACKED_PANELS) : 0;
    o.packs_b = g->k > 0 ? o.b.slices * ceil_div(o.b.panels, PACKED_PANELS) : 0;
    ti_threads_run(t, o.packs_a + o.packs_b, pack_chunk, &o);
    if (o.tiny) {
        o.exact = true;
        ti_threads_run(t, o.packs_a + o.packs_b, pack_chunk, &o);
    }
    cut(&o);
    ti_threads_run(t, ceil_div(o.a.panels, o.part_rows) * ceil_div(o.b.panels, o.part_cols), part,
                   &o);
}

/* Of one slice, of the slices, then C and bias. */
static int64_t gemm_chain(int64_t k) { return min_of(k, SLICE) + ceil_div(k, SLICE) + 2; }

const ti_bf16 ti_bf16_avx512 = {gemm_scratch, gemm, gemm_chain};
