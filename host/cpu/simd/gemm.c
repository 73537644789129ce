/*
 * gemm.c - matrix products on the microkernels: choose a tile, pack what is worth packing, walk.
 *
 *   for jc by NC: for pc by KC: pack B[KC x NC] in panels of NR columns
 *     for ic by MC: pack A[MC x KC] in panels of MR rows          (a block of A: L2)
 *       for each panel of B (stays in L1): for each panel of A: microkernel
 *
 * An element's sum is cut into slices of at most KC_MAX products, whose length depends on k alone;
 * tiles and blocks do not change it. So threads may cut C in any way: each computes a part of C as
 * if it were alone. What decides the bits is the form (dot or tile), chosen from the whole problem.
 *
 * This file is compiled for float, and by gemm_f64.c for double.
 */
#include "gemm.h"
#include "cpu/simd/kernels.h"
#include "mk.h"
#include "pack.h"

enum { KC_MAX = 256, MC_MAX = 256, NC_MAX = 1024, SLACK = 64 };
enum { TURN_ROWS = MK_MAX_VECS * VL, TURN_COLS = 512 }; /* what gemm_turned does at a time */

/* Cost of work in ns, roughly: what makes threads worth waking. */
#define NS_PARALLEL 40000.0
#define NS_CHUNK 20000.0

typedef enum {
    EMPTY,  /* no products */
    DOT,    /* both operands contiguous along k, one of them a few vectors: lanes along k */
    DIRECT, /* one tile, nothing packed */
    OUTER,  /* a column times a row: all is writing, row after row */
    BLOCKED
} form;

typedef struct {
    int64_t mr, nv, kc, mc, nc;
} plan;

static const int max_rows[MK_MAX_VECS] = MK_ROWS;
#define PACKED_STORE 4.0 /* cycles of an unaligned store and its load from another row */

/* ---- choices
 * --------------------------------------------------------------------------------------- */

/* Where an extent is 1 its stride means nothing; give it the value that serves best. */
static ti_gemm tidied(const ti_gemm *from)
{
    ti_gemm g = *from;

    if (g.k == 1 && g.a_rs != 1) g.a_cs = 1;
    if (g.k == 1 && g.b_cs != 1) g.b_rs = 1;
    if (g.m == 1 && g.a_cs != 1) g.a_rs = 1;
    if (g.m == 1 && g.a_cs == 1) g.a_rs = g.k;
    if (g.n == 1 && g.b_rs != 1) g.b_cs = 1;
    if (g.n == 1 && g.b_rs == 1) g.b_cs = g.k;
    return g;
}

static form choose_form(const ti_gemm *g)
{
    const bool a_along_k = g->a_cs == 1, b_along_k = g->b_rs == 1;

    if (g->k <= 0) return EMPTY;
    if (a_along_k && b_along_k && (g->b_cs != 1 || g->n == 1) &&
        (g->m <= MK_DOT_M || g->n <= MK_DOT_M))
        return DOT;
    if (g->k == 1 && g->b_cs == 1) return OUTER;
    if (g->b_cs == 1 && g->n <= MK_MAX_VECS * VL && g->k <= KC_MAX &&
        g->m <= max_rows[(g->n - 1) / VL])
        return DIRECT;
    return BLOCKED;
}

/* Cycles of one k step of a tile on a core with one full-width FMA a cycle and an FMA latency of 4
 * (broadcasts ride along: two a cycle); the small term prefers tiles that load less. */
static double tile_cost(int64_t mr, int64_t nv)
{
    const double fma = (double)(mr * nv);
    return (fma > 4 ? fma : 4) + 0.02 * (double)(mr + nv);
}

/* b_raw: B lies row-major and unpacked; then a second row of tiles costs a pack on the way. packs:
 * A is packed from rows along m, a vector stored for each row of a tile and k. */
static plan make_plan(bool b_raw, bool packs, int64_t m, int64_t n, int64_t k)
{
    const int64_t n_vecs = ceil_div(n, VL);
    plan p = {0};
    double best = 0;

    for (int64_t nv = 1; nv <= MK_MAX_VECS; nv++) {
        /* Rows are dealt evenly: 64 rows are 13+13+13+13+12, not 14+14+14+14+8. */
        const int64_t tiles = ceil_div(m, max_rows[nv - 1]), mr = ceil_div(m, tiles);
        const int64_t mr_last = m - (tiles - 1) * mr, full = n_vecs / nv, rest = n_vecs % nv;
        const double rows = (double)(tiles - 1);
        double cost = (double)full * (rows * tile_cost(mr, nv) + tile_cost(mr_last, nv));
        if (rest) cost += rows * tile_cost(mr, rest) + tile_cost(mr_last, rest);
        if (b_raw && tiles > 1) cost *= 1.05;
        if (packs) cost += PACKED_STORE * (double)tiles;
        if (p.mr == 0 || cost < best) {
            best = cost;
            p.mr = mr;
            p.nv = nv;
        }
    }
    p.kc = ceil_div(k, ceil_div(k, KC_MAX));
    p.mc = p.mr * ceil_div(ceil_div(m, p.mr), ceil_div(m, MC_MAX));
    p.nc = p.nv * VL * (NC_MAX / (p.nv * VL));
    return p;
}

/* Rows of unpacked A that L1 (32 KiB, 8 ways: 4 KiB apart collide) can hold at once without
 * evicting a line before all of it is used. */
static int64_t rows_in_l1(int64_t ld)
{
    const int64_t bytes = ld * (int64_t)sizeof(real);
    const int64_t gap = bytes & -bytes; /* largest power of two that divides it */
    return gap >= 4096 ? 8 : gap >= 256 ? 8 * (4096 / gap) : 128;
}

/* ---- packing
 * --------------------------------------------------------------------------------------- */

/* A block of m rows into panels of mr rows. */
static void pack_a(const ti_gemm *g, const real *a, int64_t m, int64_t k, int64_t mr, real *dst)
{
    if (g->a_rs == 1) {
        pack_panels(a, g->a_cs, m, k, mr, dst);
        return;
    }
    for (int64_t i = 0; i < m; i += mr, dst += mr * k) {
        const int64_t n = min_of(mr, m - i);
        if (g->a_cs != 1) pack_any(a + i * g->a_rs, g->a_cs, g->a_rs, n, k, dst, mr);
        else /* later rows first: the overhang of row group r lands in group 0 of the next k */
            for (int64_t r = (n - 1) / VL * VL; r >= 0; r -= VL)
                pack_transposed(a + (i + r) * g->a_rs, g->a_rs, min_of(VL, n - r), k, dst + r, mr);
    }
}

static void pack_b(const ti_gemm *g, const real *b, int64_t n, int64_t k, int64_t nr, real *dst)
{
    for (int64_t j = 0; j < n; j += nr, dst += nr * k) {
        const int64_t w = min_of(nr, n - j);
        if (g->b_rs != 1) pack_any(b + j * g->b_cs, g->b_rs, g->b_cs, w, k, dst, nr);
        else
            for (int64_t r = 0; r < w; r += VL)
                pack_transposed(b + (j + r) * g->b_cs, g->b_cs, min_of(VL, w - r), k, dst + r, nr);
    }
}

/* ---- forms
 * ----------------------------------------------------------------------------------------- */

static void gemm_empty(const ti_gemm *g, real *c)
{
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            real *x = c + i * g->ldc + j;
            if (!g->accumulate) *x = 0;
            if (g->bias) *x += ((const real *)g->bias)[j];
            if (g->relu) *x = relu_of(*x);
        }
}

static void gemm_dot(const ti_gemm *g, const real *a, const real *b, real *c)
{
    const real *bias = g->bias;

    for (int64_t l = 0; l < g->k; l += KC_MAX * VL)
        for (int64_t j = 0; j < g->n; j += MK_DOT_N) {
            const bool last = l + KC_MAX * VL >= g->k;
            mk_dot_tile t = {
                .b = b + j * g->b_cs + l,
                .lda = g->a_rs,
                .ldb = g->b_cs,
                .ldc = g->ldc,
                .k = min_of(KC_MAX * VL, g->k - l),
                .bias = last && bias ? bias + j : NULL,
                .accumulate = g->accumulate || l > 0,
                .relu = last && g->relu,
            };
            for (int64_t i = 0; i < g->m; i += MK_DOT_M) {
                t.a = a + i * g->a_rs + l;
                t.c = c + i * g->ldc + j;
                MK(mk_dot)[min_of(MK_DOT_M, g->m - i) - 1][min_of(MK_DOT_N, g->n - j) - 1](&t);
            }
        }
}

/* One row of C, with what is asked for besides the products. */
static void outer_row(const ti_gemm *g, vf x, const real *b, real *c)
{
    const real *bias = g->bias;

    for (int64_t j = 0; j < g->n; j += VL) {
        const vmask m = v_lanes(g->n - j);
        vf y = v_fma(x, v_load_m(b + j, m), v_zero());
        if (g->accumulate) y = v_add(y, v_load_m(c + j, m));
        if (bias) y = v_add(y, v_load_m(bias + j, m));
        v_store_m(c + j, m, g->relu ? v_relu(y) : y);
    }
}

static void gemm_outer(const ti_gemm *g, const real *a, const real *b, real *c)
{
    const bool plain = !g->accumulate && !g->bias && !g->relu;
    const int64_t whole = g->n / VL * VL;
    const vmask m = v_lanes(g->n - whole);

    for (int64_t i = 0; i < g->m; i++, c += g->ldc) {
        const vf x = v_set1(a[i * g->a_rs]);
        for (int64_t j = 0; j < whole && plain; j += VL)
            v_store(c + j, v_fma(x, v_load(b + j), v_zero()));
        if (!plain) outer_row(g, x, b, c);
        else if (whole < g->n) v_store_m(c + whole, m, v_fma(x, v_load_m(b + whole, m), v_zero()));
    }
}

static void gemm_direct(const ti_gemm *g, const real *a, const real *b, real *c)
{
    const int64_t nv = ceil_div(g->n, VL);
    const mk_tile t = {
        .a = a,
        .b = b,
        .c = c,
        .a_rs = g->a_rs,
        .a_ks = g->a_cs,
        .ldb = g->b_rs,
        .k_len = g->k,
        .n_runs = 1,
        .ldc = g->ldc,
        .bias = g->bias,
        .accumulate = g->accumulate,
        .relu = g->relu,
        .last_lanes = (int)(g->n - (nv - 1) * VL),
    };
    mk_fn *const *fns = g->a_rs == 1 ? MK(mk_unit)[nv - 1] : MK(mk_strided)[nv - 1];
    fns[g->m - 1](&t);
}

/* One block: all tiles of C[m x n] over one slice of k. */
typedef struct {
    bool a_packed, b_packed;
    real *pack; /* the first row of tiles packs B here for those that follow: */
    bool keep;  /* the whole block if other blocks of A come, else each panel over the last */
    int64_t m, n;
    const real *a, *b;
    real *c;
} block;

/* `same` holds what does not change from tile to tile. */
static void run_block(const mk_tile *same, const plan *p, const block *k)
{
    const int64_t nr = p->nv * VL;

    for (int64_t j = 0; j < k->n; j += nr) {
        const int64_t w = min_of(nr, k->n - j), nv = ceil_div(w, VL);
        mk_fn *const *fns = same->a_rs == 1 ? MK(mk_unit)[nv - 1] : MK(mk_strided)[nv - 1];
        mk_tile t = *same;
        t.last_lanes = (int)(w - (nv - 1) * VL);
        t.b = k->b_packed ? k->b + j * t.k_len : k->b + j;
        t.pack = k->pack && k->keep ? k->pack + j * t.k_len : k->pack;
        if (t.bias) t.bias += j;
        for (int64_t i = 0; i < k->m; i += p->mr) {
            const int64_t rows = min_of(p->mr, k->m - i);
            t.a = k->a_packed ? k->a + i * t.k_len : k->a + i * t.a_rs;
            t.c = k->c + i * t.ldc + j;
            if (k->pack && i == 0) {
                MK(mk_packing)[nv - 1][rows - 1](&t);
                t.b = t.pack;
                t.ldb = nr;
            } else {
                fns[rows - 1](&t);
            }
        }
    }
}

static void gemm_blocked(const ti_gemm *g, const real *a, const real *b, real *c, real *scratch)
{
    const bool b_raw = g->b_cs == 1;
    /* A transposing pack costs about 1/3 cycle a value, the products n / VL. */
    const bool do_pack_a = g->n > 4 * VL;
    plan p = make_plan(b_raw, do_pack_a && g->a_rs == 1, g->m, g->n, g->k);
    const int64_t nr = p.nv * VL;
    const bool pack_along = b_raw && g->m > p.mr;
    if (!do_pack_a && g->a_rs != 1 && p.mr > rows_in_l1(g->a_rs))
        p.mr = ceil_div(g->m, ceil_div(g->m, rows_in_l1(g->a_rs)));
    real *const pa = scratch;
    real *const pb = scratch + round_up((p.mc + p.mr) * p.kc + SLACK, SLACK);

    for (int64_t jc = 0; jc < g->n; jc += p.nc) {
        const int64_t nc = min_of(p.nc, g->n - jc);
        for (int64_t pc = 0; pc < g->k; pc += p.kc) {
            const int64_t kc = min_of(p.kc, g->k - pc);
            const bool last = pc + kc == g->k;
            mk_tile t = {
                .k_len = kc,
                .n_runs = 1,
                .ldc = g->ldc,
                .accumulate = g->accumulate || pc > 0,
                .bias = last && g->bias ? (const real *)g->bias + jc : NULL,
                .relu = last && g->relu,
                .ldb = b_raw ? g->b_rs : nr,
                .pack_ld = nr,
            };
            block k = {.a_packed = do_pack_a, .b_packed = !b_raw, .keep = g->m > p.mc, .n = nc};
            k.b = b + pc * g->b_rs + jc * g->b_cs;
            if (!b_raw) {
                pack_b(g, k.b, nc, kc, nr, pb);
                k.b = pb;
            }
            for (int64_t ic = 0; ic < g->m; ic += p.mc) {
                k.m = min_of(p.mc, g->m - ic);
                k.a = a + pc * g->a_cs + ic * g->a_rs;
                k.c = c + ic * g->ldc + jc;
                k.pack = pack_along && ic == 0 ? pb : NULL;
                t.a_rs = do_pack_a ? 1 : g->a_rs;
                t.a_ks = do_pack_a ? p.mr : g->a_cs;
                if (do_pack_a) {
                    pack_a(g, k.a, k.m, kc, p.mr, pa);
                    k.a = pa;
                }
                run_block(&t, &p, &k);
                if (pack_along) {
                    k.b = pb;
                    k.b_packed = true;
                    t.ldb = nr;
                }
            }
        }
    }
}

/* A few rows times many that lie along k: packing those takes up to a tenth of the time. The
 * product is made the other way round, where they are taken as they lie, and turned at the end. */
static bool is_turned(const ti_gemm *g)
{
    return g->a_cs == 1 && g->b_rs == 1 && g->m <= 2 * TURN_ROWS && g->n >= 2 * g->m &&
           g->k >= VL && !g->accumulate;
}

/* `other`, in `turned`, to C, VL by VL. */
static void turn(const ti_gemm *g, const ti_gemm *other, const real *turned, const real *bias,
                 real *c)
{
    for (int64_t j = 0; j < other->m; j += VL) {
        const vmask m = v_lanes(other->m - j);
        const vf add = bias ? v_load_m(bias + j, m) : v_zero();
        for (int64_t i = 0; i < other->n; i += VL) {
            vf r[VL];
            for (int64_t l = 0; l < VL; l++)
                r[l] = j + l < other->m ? v_load(turned + (j + l) * other->ldc + i) : v_zero();
            v_transpose(r);
            for (int64_t l = 0; l < min_of(VL, other->n - i); l++) {
                vf x = bias ? v_add(r[l], add) : r[l];
                v_store_m(c + (i + l) * g->ldc + j, m, g->relu ? v_relu(x) : x);
            }
        }
    }
}

static void gemm_turned(const ti_gemm *g, const real *a, const real *b, real *c, real *scratch)
{
    const real *bias = g->bias;
    ti_gemm other = {
        .k = g->k, .a_rs = g->b_cs, .a_cs = 1, .b_rs = 1, .b_cs = g->a_rs, .ldc = TURN_ROWS};

    for (int64_t j = 0; j < g->n; j += TURN_COLS)
        for (int64_t i = 0; i < g->m; i += TURN_ROWS) {
            other.m = min_of(TURN_COLS, g->n - j);
            other.n = min_of(TURN_ROWS, g->m - i);
            gemm_blocked(&other, b + j * g->b_cs, a + i * g->a_rs, scratch,
                         scratch + TURN_COLS * TURN_ROWS);
            turn(g, &other, scratch, bias ? bias + j : NULL, c + i * g->ldc + j);
        }
}

/* ---- threads
 * --------------------------------------------------------------------------------------- */

typedef struct {
    const ti_gemm *g;
    form how;
    const real *a, *b;
    real *c;
    char *scratch;
    size_t scratch_each;
    int64_t rows, cols; /* of one part of C */
    int64_t parts_n;
} job;

static void run_part(void *arg, int64_t i, int i_worker)
{
    const job *o = arg;
    const int64_t i0 = i / o->parts_n * o->rows, j0 = i % o->parts_n * o->cols;
    ti_gemm g = *o->g;
    const real *a = o->a + i0 * g.a_rs, *b = o->b + j0 * g.b_cs;
    real *c = o->c + i0 * g.ldc + j0;

    g.m = min_of(o->rows, g.m - i0);
    g.n = min_of(o->cols, g.n - j0);
    if (g.bias) g.bias = (const real *)g.bias + j0;
    if (g.m <= 0 || g.n <= 0) return;
    switch (o->how) {
    case EMPTY: gemm_empty(&g, c); break;
    case DOT: gemm_dot(&g, a, b, c); break;
    case DIRECT: gemm_direct(&g, a, b, c); break;
    case OUTER: gemm_outer(&g, a, b, c); break;
    case BLOCKED:
        (is_turned(&g) ? gemm_turned : gemm_blocked)(
            &g, a, b, c, (real *)(o->scratch + (size_t)i_worker * o->scratch_each));
        break;
    }
}

/* Bounds of make_plan's blocks for every part of the problem, either way round. */
static size_t scratch_each(const ti_gemm *g)
{
    const bool may_turn = g->a_cs == 1 && g->b_rs == 1;
    const int64_t kc = min_of(g->k, KC_MAX), most = may_turn ? max_of(g->m, g->n) : 0;
    const int64_t rows = min_of(max_of(g->m, most), MC_MAX) + 3 * MK_MAX_ROWS;
    const int64_t cols = min_of(max_of(g->n, most), NC_MAX) + MK_MAX_VECS * VL;
    const int64_t turned = may_turn ? TURN_COLS * TURN_ROWS : 0;

    return (size_t)round_up((turned + (rows + cols) * kc + 4 * SLACK) * (int64_t)sizeof(real), 64);
}

/* How many parts C is cut into: two for each thread, so that a slow one is helped out, if they are
 * worth it. */
static int64_t wanted_parts(const ti_gemm *g, int n_threads)
{
    const double m = (double)g->m, n = (double)g->n, k = (double)g->k;
    const double ns = m * n * k * (double)sizeof(real) / 200 + (m * k + k * n + m * n) / 8;

    if (n_threads <= 1 || ns < NS_PARALLEL) return 1;
    return min_of(2 * (int64_t)n_threads, (int64_t)(ns / NS_CHUNK));
}

/* The grid of parts that packs least twice. */
static void cut(job *o, int64_t parts)
{
    const ti_gemm *g = o->g;
    double best = -1;

    for (int64_t i = 1; i <= parts; i++) {
        const int64_t j = ceil_div(parts, i);
        const int64_t rows = ceil_div(g->m, i), cols = round_up(ceil_div(g->n, j), VL);
        if ((i > 1 && rows < MK_MAX_ROWS) || (j > 1 && cols < 2 * VL)) continue;
        const double cost = (double)i * (double)g->n + (double)j * (double)g->m;
        if (best >= 0 && cost >= best) continue;
        best = cost;
        o->rows = rows;
        o->cols = cols;
    }
    if (best < 0) { /* neither side is long enough: do not cut */
        o->rows = g->m;
        o->cols = g->n;
    }
}

size_t GEMM(gemm_scratch)(const ti_gemm *from, int n_threads)
{
    const ti_gemm g = tidied(from);

    if (g.m <= 0 || g.n <= 0 || choose_form(&g) != BLOCKED) return 0;
    return (size_t)(n_threads > 1 ? n_threads : 1) * scratch_each(&g);
}

void GEMM(gemm)(ti_threads *t, const ti_gemm *from, const real *a, const real *b, real *c,
                void *scratch)
{
    const ti_gemm g = tidied(from);
    job o = {.g = &g, .a = a, .b = b, .c = c, .scratch = scratch};

    if (g.m <= 0 || g.n <= 0) return;
    o.how = choose_form(&g);
    o.rows = g.m;
    o.cols = g.n;
    if (o.how == BLOCKED) o.scratch_each = scratch_each(&g);
    const int64_t parts = wanted_parts(&g, ti_threads_count(t));
    if (parts > 1) cut(&o, parts);
    o.parts_n = ceil_div(g.n, o.cols);
    const int64_t n_parts = ceil_div(g.m, o.rows) * o.parts_n;
    if (n_parts == 1) run_part(&o, 0, 0);
    else ti_threads_run(t, n_parts, run_part, &o);
}

#ifndef TI_F64
/* Of one slice, of the slices, of a dot's lanes, then C and bias. */
int64_t TI_SIMD(gemm_chain)(int64_t k) { return min_of(k, KC_MAX) + ceil_div(k, KC_MAX) + 4 + 2; }
#endif
