/*
 * mk.c - the microkernel family (see mk.h).
 *
 * The body is written once; constant arguments to an always-inline function make the compiler
 * unroll it into registers: on AVX-512 28 accumulators, the vectors of B and a broadcast or two.
 */
#include "mk.h"

/* Four rows share a pointer (offsets 0, 1, 2, 3 times the stride fit x86 addressing), so that 28
 * strided rows cost 7 pointers and not 28. */
#define ROW_GROUP 4

/* A kernel that packs reads B where it lies, for the first time: rows far apart, each two or three
 * cache lines, which the hardware does not prefetch. So it asks for the row this many k ahead. */
#define B_AHEAD 24

typedef enum { UNIT, STRIDED, PACKING } kind;

/* Sum, then C, bias and relu, then out. */
INLINE void finish(const mk_tile *t, const int mr, const int nv, vf *acc)
{
    const vmask last = v_lanes(t->last_lanes);

    if (t->accumulate) {
        const real *c = t->c;
        UNROLL for (int i = 0; i < mr; i++, c += t->ldc)
        {
            UNROLL for (int j = 0; j < nv; j++)
            {
                const vf old = j < nv - 1 ? v_load(c + j * VL) : v_load_m(c + j * VL, last);
                acc[i * nv + j] = v_add(acc[i * nv + j], old);
            }
        }
    }
    if (t->bias) {
        UNROLL for (int j = 0; j < nv; j++)
        {
            const vf bias = v_load_m(t->bias + j * VL, j < nv - 1 ? v_lanes(VL) : last);
            UNROLL for (int i = 0; i < mr; i++) acc[i * nv + j] = v_add(acc[i * nv + j], bias);
        }
    }
    if (t->relu) UNROLL for (int i = 0; i < mr * nv; i++) acc[i] = v_relu(acc[i]);

    real *c = t->c;
    UNROLL for (int i = 0; i < mr; i++, c += t->ldc)
    {
        UNROLL for (int j = 0; j < nv - 1; j++) v_store(c + j * VL, acc[i * nv + j]);
        v_store_m(c + (nv - 1) * VL, last, acc[i * nv + nv - 1]);
    }
}

INLINE void body(const mk_tile *t, const int mr, const int nv, const kind what)
{
    const vmask last = v_lanes(t->last_lanes);
    const int64_t rs = t->a_rs, rs3 = 3 * rs, ks = t->a_ks, ldb = t->ldb;
    vf acc[N_REGS];

    UNROLL for (int i = 0; i < mr * nv; i++) acc[i] = v_zero();
    if (t->k_len * t->n_runs > 24) { /* the tile of C is far away more often than not */
        real *c = t->c;
        UNROLL for (int i = 0; i < mr; i++, c += t->ldc)
        {
            UNROLL for (int j = 0; j < nv; j++) __builtin_prefetch(c + j * VL, 1);
        }
    }

    for (int64_t u = 0; u < t->n_runs; u++) {
        const real *b = t->b + u * t->b_run;
        const real *a[MK_MAX_ROWS / ROW_GROUP];
        real *pack = t->pack;
        UNROLL for (int g = 0; g * ROW_GROUP < mr; g++) a[g] =
            t->a + u * t->a_run + g * ROW_GROUP * rs;
        for (int64_t k = t->k_len; k > 0; k--) {
            vf bv[MK_MAX_VECS];
            UNROLL for (int j = 0; j < nv - 1; j++) bv[j] = v_load(b + j * VL);
            bv[nv - 1] = v_load_m(b + (nv - 1) * VL, last);
            if (what == PACKING) {
                UNROLL for (int j = 0; j < nv; j++)
                {
                    v_store(pack + j * VL, bv[j]);
                    __builtin_prefetch(b + B_AHEAD * ldb + j * VL, 0, 2);
                }
                pack += t->pack_ld;
            }
            UNROLL for (int i = 0; i < mr; i++)
            {
                const int s = i % ROW_GROUP;
                const real *p = a[i / ROW_GROUP];
                const vf av = v_set1(what == UNIT ? a[0][i]
                                     : s == 0     ? p[0]
                                     : s == 1     ? p[rs]
                                     : s == 2     ? p[2 * rs]
                                                  : p[rs3]);
                UNROLL for (int j = 0; j < nv; j++) acc[i * nv + j] =
                    v_fma(av, bv[j], acc[i * nv + j]);
            }
            if (what == UNIT) a[0] += ks;
            else UNROLL for (int g = 0; g * ROW_GROUP < mr; g++) a[g] += ks;
            b += ldb;
        }
    }
    finish(t, mr, nv, acc);
}

#define DEFINE(mr, nv)                                                                             \
    static void unit_##mr##_##nv(const mk_tile *t) { body(t, mr, nv, UNIT); }                      \
    static void strided_##mr##_##nv(const mk_tile *t) { body(t, mr, nv, STRIDED); }                \
    static void packing_##mr##_##nv(const mk_tile *t) { body(t, mr, nv, PACKING); }
#define UNIT_NAME(mr, nv) unit_##mr##_##nv,
#define STRIDED_NAME(mr, nv) strided_##mr##_##nv,
#define PACKING_NAME(mr, nv) packing_##mr##_##nv,

#define UP_TO_2(X, nv) X(1, nv) X(2, nv)
#define UP_TO_3(X, nv) UP_TO_2(X, nv) X(3, nv)
#define UP_TO_6(X, nv) UP_TO_3(X, nv) X(4, nv) X(5, nv) X(6, nv)
#define UP_TO_8(X, nv) UP_TO_6(X, nv) X(7, nv) X(8, nv)
#define UP_TO_12(X, nv) UP_TO_8(X, nv) X(9, nv) X(10, nv) X(11, nv) X(12, nv)
#define UP_TO_14(X, nv) UP_TO_12(X, nv) X(13, nv) X(14, nv)
#define UP_TO_20(X, nv) UP_TO_14(X, nv) X(15, nv) X(16, nv) X(17, nv) X(18, nv) X(19, nv) X(20, nv)
#define UP_TO_28(X, nv)                                                                            \
    UP_TO_20(X, nv) X(21, nv) X(22, nv) X(23, nv) X(24, nv) X(25, nv) X(26, nv) X(27, nv) X(28, nv)

#if N_REGS == 32
#define ROWS_1(X) UP_TO_28(X, 1)
#define ROWS_2(X) UP_TO_14(X, 2)
#define ROWS_3(X) UP_TO_8(X, 3)
#define ROWS_4(X) UP_TO_6(X, 4)
#else
#define ROWS_1(X) UP_TO_12(X, 1)
#define ROWS_2(X) UP_TO_6(X, 2)
#define ROWS_3(X) UP_TO_3(X, 3)
#define ROWS_4(X) UP_TO_2(X, 4)
#endif

ROWS_1(DEFINE)
ROWS_2(DEFINE)
ROWS_3(DEFINE)
ROWS_4(DEFINE)

#define TABLE(X)                                                                                   \
    {                                                                                              \
        {ROWS_1(X)}, {ROWS_2(X)}, {ROWS_3(X)}, { ROWS_4(X) }                                       \
    }
mk_fn *const MK(mk_unit)[MK_MAX_VECS][MK_MAX_ROWS] = TABLE(UNIT_NAME);
mk_fn *const MK(mk_strided)[MK_MAX_VECS][MK_MAX_ROWS] = TABLE(STRIDED_NAME);
mk_fn *const MK(mk_packing)[MK_MAX_VECS][MK_MAX_ROWS] = TABLE(PACKING_NAME);

/* Dot form: both operands contiguous along k, lanes along k. Needs no packing at all, so it is the
 * way where an operand is read once (a vector) or the tile is too small to repay a transpose. */
INLINE void dot_body(const mk_dot_tile *t, const int mr, const int nr)
{
    vf acc[MK_DOT_M * MK_DOT_N];
    const real *a = t->a, *b = t->b;
    int64_t k = t->k;
    const vmask rest = v_lanes(k % VL);

    UNROLL for (int i = 0; i < mr * nr; i++) acc[i] = v_zero();
    for (; k >= VL; k -= VL, a += VL, b += VL) {
        vf av[MK_DOT_M];
        UNROLL for (int i = 0; i < mr; i++) av[i] = v_load(a + i * t->lda);
        UNROLL for (int j = 0; j < nr; j++)
        {
            const vf bv = v_keep(v_load(b + j * t->ldb));
            UNROLL for (int i = 0; i < mr; i++) acc[i * nr + j] = v_fma(av[i], bv, acc[i * nr + j]);
        }
    }
    if (k > 0) {
        vf av[MK_DOT_M];
        UNROLL for (int i = 0; i < mr; i++) av[i] = v_load_m(a + i * t->lda, rest);
        UNROLL for (int j = 0; j < nr; j++)
        {
            const vf bv = v_load_m(b + j * t->ldb, rest);
            UNROLL for (int i = 0; i < mr; i++) acc[i * nr + j] = v_fma(av[i], bv, acc[i * nr + j]);
        }
    }
    if (t->lanes) {
        UNROLL for (int e = 0; e < mr * nr; e++)
            v_store(t->lanes + e * VL, v_add(acc[e], v_load(t->lanes + e * VL)));
        return;
    }
    UNROLL for (int i = 0; i < mr; i++)
    {
        UNROLL for (int j = 0; j < nr; j++)
        {
            real x = v_sum(acc[i * nr + j]), *c = t->c + i * t->ldc + j;
            if (t->accumulate) x += *c;
            if (t->bias) x += t->bias[j];
            if (t->relu) x = relu_of(x);
            *c = x;
        }
    }
}

#define DEFINE_DOT(mr, nr)                                                                         \
    static void dot_##mr##_##nr(const mk_dot_tile *t) { dot_body(t, mr, nr); }
#define DOT_NAME(mr, nr) dot_##mr##_##nr,
#define DOT_ROW(X, mr) X(mr, 1) X(mr, 2) X(mr, 3) X(mr, 4) X(mr, 5) X(mr, 6)
DOT_ROW(DEFINE_DOT, 1)
DOT_ROW(DEFINE_DOT, 2)
DOT_ROW(DEFINE_DOT, 3)
DOT_ROW(DEFINE_DOT, 4)
mk_dot_fn *const MK(mk_dot)[MK_DOT_M][MK_DOT_N] = {
    {DOT_ROW(DOT_NAME, 1)},
    {DOT_ROW(DOT_NAME, 2)},
    {DOT_ROW(DOT_NAME, 3)},
    {DOT_ROW(DOT_NAME, 4)},
};
