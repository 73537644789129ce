/*
 * simd_conv.c - convolutions of every instruction set against plain loops in double: odd shapes and
 * options, writes outside the result, equal bits for every number of threads.
 */
#include "simd.h"

typedef struct {
    tc_guarded x, w, y, bias; /* y: also dy */
} operands;

static int64_t x_len(const ti_conv *v) { return v->n * v->h * v->w * v->c; }
static int64_t w_len(const ti_conv *v) { return v->k * v->r * v->s * (v->c / v->groups); }
static int64_t y_len(const ti_conv *v) { return v->n * v->p * v->q * v->k; }

static void fill_pq(ti_conv *v)
{
    v->p = (v->h + 2 * v->pad[0] - v->dilation[0] * (v->r - 1) - 1) / v->stride[0] + 1;
    v->q = (v->w + 2 * v->pad[1] - v->dilation[1] * (v->s - 1) - 1) / v->stride[1] + 1;
}

/* sum: the pass in double. size: the same of absolute values. Both start at zero. */
static void reference(const ti_conv *v, ti_conv_pass pass, const operands *o, double *sum,
                      double *size)
{
    const float *x = tc_data(o->x), *w = tc_data(o->w), *y = tc_data(o->y);
    const int64_t cg = v->c / v->groups, kg = v->k / v->groups;

    for (int64_t i = 0; i < y_len(v); i++) {
        const int64_t k = i % v->k, q = i / v->k % v->q, p = i / v->k / v->q % v->p;
        const int64_t n = i / v->k / v->q / v->p;
        for (int64_t j = 0; j < v->r * v->s; j++) {
            const int64_t h = p * v->stride[0] - v->pad[0] + j / v->s * v->dilation[0];
            const int64_t u = q * v->stride[1] - v->pad[1] + j % v->s * v->dilation[1];
            if (h < 0 || h >= v->h || u < 0 || u >= v->w) continue;
            const int64_t xe = ((n * v->h + h) * v->w + u) * v->c + k / kg * cg;
            const int64_t we = k * cg * v->r * v->s + j;
            for (int64_t c = 0; c < cg; c++) {
                const double a = pass == TI_CONV_DX ? y[i] : x[xe + c];
                const int64_t wc = we + c * v->r * v->s;
                const double b = pass == TI_CONV_DW ? y[i] : w[wc];
                const int64_t to = pass == TI_CONV_FWD ? i : pass == TI_CONV_DX ? xe + c : wc;
                sum[to] += a * b;
                size[to] += fabs(a * b);
            }
        }
    }
}

typedef struct {
    bool wino, bias, relu;
} options;

static void run(const ti_simd *simd, const ti_conv *v, ti_conv_pass pass, const operands *o,
                tc_guarded out, const options *opt, int threads)
{
    ti_threads *pool = threads ? ti_threads_open(threads) : NULL;
    const int count = ti_threads_count(pool);
    tc_guarded scratch = tc_guard(opt->wino ? simd->wino_scratch(v, pass, count)
                                            : simd->conv_scratch(v, pass, count));
    const ti_conv_epilogue e = {.bias = opt->bias ? tc_data(o->bias) : NULL, .relu = opt->relu};
    const float *x = tc_data(o->x), *w = tc_data(o->w), *y = tc_data(o->y);
    float *to = tc_data(out);

    switch (pass) {
    case TI_CONV_FWD:
        (opt->wino ? simd->wino_fwd : simd->conv_fwd)(pool, v, x, w, to, &e, tc_data(scratch));
        break;
    case TI_CONV_DX:
        (opt->wino ? simd->wino_dx : simd->conv_dx)(pool, v, y, w, to, tc_data(scratch));
        break;
    case TI_CONV_DW:
        (opt->wino ? simd->wino_dw : simd->conv_dw)(pool, v, x, y, to, tc_data(scratch));
        break;
    }
    cr_assert(tc_intact(scratch), "scratch");
    tc_release(&scratch);
    ti_threads_close(pool);
}

/* Winograd's sums mix a tile: its errors are measured against the largest size of all. */
static void check_values(const ti_simd *simd, const ti_conv *v, ti_conv_pass pass,
                         const operands *o, tc_guarded out, const options *opt, const char *text)
{
    const int64_t n = (int64_t)(out.bytes / sizeof(float));
    const float *got = tc_data(out), *bias = tc_data(o->bias);
    double *sum = calloc((size_t)n + 1, sizeof *sum), *size = calloc((size_t)n + 1, sizeof *size);
    double largest = 0;
    const int64_t chain = opt->wino ? simd->wino_chain(v, pass) : simd->conv_chain(v, pass);
    const double grows = (opt->wino ? 8 : 4) * sqrt((double)chain) * U32;

    cr_assert(sum && size);
    reference(v, pass, o, sum, size);
    for (int64_t i = 0; i < n; i++) {
        if (pass == TI_CONV_FWD && opt->bias)
            sum[i] += bias[i % v->k], size[i] += fabs(bias[i % v->k]);
        if (size[i] > largest) largest = size[i];
        if (pass == TI_CONV_FWD && opt->relu && sum[i] < 0) sum[i] = 0;
    }
    for (int64_t i = 0; i < n; i++)
        cr_assert(fabs(got[i] - sum[i]) <= grows * (opt->wino ? largest : size[i]),
                  "%s: [%ld] is %g, not %g", text, (long)i, got[i], sum[i]);
    free(sum);
    free(size);
}

static void check(const ti_simd *simd, const ti_conv *v, options opt, uint64_t *s)
{
    static const char *const names[] = {"fwd", "dx", "dw"};
    operands o = {tc_random_floats(s, x_len(v)), tc_random_floats(s, w_len(v)),
                  tc_random_floats(s, y_len(v)), tc_random_floats(s, v->k)};

    for (ti_conv_pass pass = TI_CONV_FWD; pass <= TI_CONV_DW; pass++) {
        const int64_t n = pass == TI_CONV_FWD ? y_len(v) : pass == TI_CONV_DX ? x_len(v) : w_len(v);
        tc_guarded out = tc_guard((size_t)n * sizeof(float));
        tc_guarded again = tc_guard((size_t)n * sizeof(float));
        char text[300];

        snprintf(text, sizeof text,
                 "%s %s%s n%d %dx%dx%d k%d %dx%d /%d,%d +%d,%d *%d,%d g%d bias %d relu %d",
                 simd->name, opt.wino ? "wino " : "", names[pass], (int)v->n, (int)v->h, (int)v->w,
                 (int)v->c, (int)v->k, (int)v->r, (int)v->s, (int)v->stride[0], (int)v->stride[1],
                 (int)v->pad[0], (int)v->pad[1], (int)v->dilation[0], (int)v->dilation[1],
                 (int)v->groups, opt.bias, opt.relu);
        run(simd, v, pass, &o, out, &opt, 0);
        cr_assert(tc_intact(out), "%s: writes outside", text);
        check_values(simd, v, pass, &o, out, &opt, text);
        for (int threads = 1; threads <= 4; threads++) {
            memset(tc_data(again), 0x7f, again.bytes);
            run(simd, v, pass, &o, again, &opt, threads);
            cr_assert(tc_intact(again), "%s: writes outside", text);
            cr_assert(memcmp(tc_data(out), tc_data(again), out.bytes) == 0, "%s: %d threads", text,
                      threads);
        }
        tc_release(&out), tc_release(&again);
    }
    tc_release(&o.x), tc_release(&o.w), tc_release(&o.y), tc_release(&o.bias);
}

static int64_t max_size(int64_t n) { return n > 0 ? n : 0; }

static ti_conv random_shape(uint64_t *s)
{
    static const int64_t channels[] = {1, 2, 3, 5, 6, 8, 15, 16, 17, 32, 33, 40};
    static const int64_t groups[] = {1, 1, 1, 1, 2, 3};
    ti_conv v = {.n = tc_below(s, 4), .groups = groups[tc_below(s, 6)]};

    v.c = channels[tc_below(s, 12)] * v.groups;
    v.k = channels[tc_below(s, 12)] * v.groups;
    if (tc_below(s, 5) == 0) v.c = v.k = v.groups = channels[tc_below(s, 12)]; /* depthwise */
    v.r = 1 + tc_below(s, 5);
    v.s = tc_below(s, 2) ? v.r : 1 + tc_below(s, 5);
    for (int i = 0; i < 2; i++) {
        v.stride[i] = 1 + tc_below(s, 2) * tc_below(s, 3);
        v.pad[i] = tc_below(s, 4);
        v.dilation[i] = 1 + tc_below(s, 2) * tc_below(s, 3);
    }
    v.h = 1 + tc_below(s, 14) + max_size(v.dilation[0] * (v.r - 1) - 2 * v.pad[0]);
    v.w = 1 + tc_below(s, 18) + max_size(v.dilation[1] * (v.s - 1) - 2 * v.pad[1]);
    fill_pq(&v);
    return v;
}

static void odd_shapes(const ti_simd *simd)
{
    uint64_t s = 3;

    for (int i = 0; i < 250; i++) {
        const ti_conv v = random_shape(&s);
        check(simd, &v, (options){.bias = tc_below(&s, 2), .relu = tc_below(&s, 2)}, &s);
    }
}

/* n, h, w, c, k, r, s, stride, pad, dilation, groups: large enough for threads, several blocks. */
static const int shapes[][11] = {
    {4, 28, 28, 1, 6, 5, 5, 1, 2, 1, 1},
    {5, 14, 14, 6, 16, 5, 5, 1, 0, 1, 1},
    {3, 28, 28, 1, 32, 3, 3, 1, 1, 1, 1},
    {2, 32, 32, 3, 64, 3, 3, 1, 1, 1, 1},
    {2, 33, 31, 3, 24, 7, 7, 2, 3, 1, 1},
    {2, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1},
    {3, 17, 15, 40, 50, 3, 3, 2, 1, 1, 1},
    {2, 16, 16, 64, 128, 1, 1, 2, 0, 1, 1},
    {1, 4, 4, 256, 256, 3, 3, 1, 1, 1, 1},
    {1, 1, 1, 5000, 70, 1, 1, 1, 0, 1, 1},
    {2, 20, 20, 64, 64, 3, 3, 1, 1, 1, 8},
    {4, 40, 40, 70, 70, 3, 3, 1, 1, 1, 70},
    {4, 41, 40, 32, 32, 5, 5, 2, 2, 1, 32},
    {2, 24, 24, 20, 30, 3, 3, 1, 2, 2, 1},
    {9, 12, 12, 9, 7, 3, 3, 1, 1, 1, 1},
    {33, 12, 12, 16, 8, 3, 3, 1, 1, 1, 1},
    /* Many images of few pixels: border regions, whose taps are fewer. */
    {64, 4, 4, 48, 40, 3, 3, 1, 1, 1, 1},
    {70, 5, 3, 32, 33, 3, 3, 2, 1, 1, 1},
    {40, 6, 5, 64, 64, 5, 5, 1, 2, 1, 2},
    {50, 7, 6, 32, 48, 3, 3, 1, 2, 2, 1},
    {30, 10, 9, 16, 32, 9, 9, 1, 4, 1, 1},
    {48, 2, 2, 32, 32, 1, 1, 1, 3, 1, 1},
    {64, 4, 5, 32, 64, 5, 5, 2, 4, 1, 1},
};

static ti_conv shape_of(const int *d)
{
    ti_conv v = {.n = d[0], .h = d[1], .w = d[2], .c = d[3], .k = d[4], .r = d[5], .s = d[6]};

    v.stride[0] = v.stride[1] = d[7];
    v.pad[0] = v.pad[1] = d[8];
    v.dilation[0] = v.dilation[1] = d[9];
    v.groups = d[10];
    fill_pq(&v);
    return v;
}

static void large_shapes(const ti_simd *simd)
{
    uint64_t s = 4;

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const ti_conv v = shape_of(shapes[i]);
        check(simd, &v, (options){.bias = i % 2, .relu = i % 3 == 0}, &s);
    }
}

/* Nothing to sum: zeros, or the bias. */
static void empty_shapes(const ti_simd *simd)
{
    uint64_t s = 5;

    for (int i = 0; i < 5; i++) {
        ti_conv v = {2, 5, 6, 3, 4, 3, 3, 5, 6, {1, 1}, {1, 1}, {1, 1}, 1};
        if (i == 0) v.n = 0;
        if (i == 1) v.c = 0;
        if (i == 2) v.k = 0;
        if (i == 3) v.h = 0, v.pad[0] = 2, v.p = 2;
        if (i == 4) v.p = 0, v.h = 0;
        check(simd, &v, (options){.bias = true}, &s);
    }
}

/* Images that are no multiple of a tile, channels that are no whole vectors, both regimes. */
static void winograd(const ti_simd *simd)
{
    static const int64_t channels[] = {1, 3, 8, 15, 16, 17, 33, 48, 64, 70};
    uint64_t s = 6;

    for (int i = 0; i < 60; i++) {
        ti_conv v = {
            .r = 3, .s = 3, .stride = {1, 1}, .pad = {1, 1}, .dilation = {1, 1}, .groups = 1};
        v.n = 1 + tc_below(&s, 3);
        if (i % 3 == 1) v.pad[0] = tc_below(&s, 3), v.pad[1] = tc_below(&s, 3);
        if (i % 3 == 2) v.stride[0] = v.stride[1] = 2;
        v.h = 1 + tc_below(&s, 13) + (v.pad[0] ? 0 : 2);
        v.w = 1 + tc_below(&s, 13) + (v.pad[1] ? 0 : 2);
        v.c = channels[tc_below(&s, 10)];
        v.k = channels[tc_below(&s, 10)];
        if (i >= 52) v.n = 9, v.h = (20 + i % 4) * (int)v.stride[0], v.w = 21 * v.stride[1];
        if (i == 59) v.n = 1, v.h = v.w = 8, v.c = 70, v.k = 300;
        fill_pq(&v);
        cr_assert(simd->wino_fits(&v));
        check(simd, &v, (options){true, tc_below(&s, 2), tc_below(&s, 2)}, &s);
    }
}

/* The sums of an output and of its squares, as batch normalization wants them. */
static void winograd_sums(const ti_simd *simd)
{
    const ti_conv v = {3, 18, 18, 20, 37, 3, 3, 18, 18, {1, 1}, {1, 1}, {1, 1}, 1};
    uint64_t s = 7;
    operands o = {tc_random_floats(&s, x_len(&v)), tc_random_floats(&s, w_len(&v)),
                  tc_guard((size_t)y_len(&v) * sizeof(float)), tc_random_floats(&s, v.k)};
    float sums[2 * 37], first[2 * 37];

    for (int threads = 1; threads <= 3; threads++) {
        ti_threads *pool = ti_threads_open(threads);
        ti_conv_epilogue e = {.bias = tc_data(o.bias), .sums = sums};
        tc_guarded scratch = tc_guard(simd->wino_scratch(&v, TI_CONV_FWD, threads));
        const float *y = tc_data(o.y);

        simd->wino_fwd(pool, &v, tc_data(o.x), tc_data(o.w), tc_data(o.y), &e, tc_data(scratch));
        cr_assert(tc_intact(scratch));
        for (int64_t k = 0; k < v.k; k++) {
            double sum = 0, square = 0;
            for (int64_t i = k; i < y_len(&v); i += v.k) sum += y[i], square += (double)y[i] * y[i];
            cr_expect(fabs(sums[k] - sum) <= 1e-5 * square);
            cr_expect(fabs(sums[v.k + k] - square) <= 1e-5 * square);
        }
        if (threads == 1) memcpy(first, sums, sizeof first);
        cr_expect(memcmp(first, sums, sizeof first) == 0);
        tc_release(&scratch);
        ti_threads_close(pool);
    }
    tc_release(&o.x), tc_release(&o.w), tc_release(&o.y), tc_release(&o.bias);
}

/* Both are the same bits, or, where values are only near the end of the range, finite alike. */
static bool alike(const tc_guarded *a, const tc_guarded *b, bool bits)
{
    const float *x = tc_data(*a), *y = tc_data(*b);

    if (bits) return memcmp(x, y, a->bytes) == 0;
    for (size_t i = 0; i < a->bytes / sizeof *x; i++)
        if (isfinite(x[i]) != isfinite(y[i])) return false;
    return true;
}

/* Values that are not finite, or that a transform makes so, have a part in as many outputs as in a
 * plain sum: then the result is the direct one. Both strides, one block of tiles and many. */
static void winograd_spoilt(const ti_simd *simd)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3e38F};
    uint64_t s = 8;

    for (int i = 0; i < 16; i++) {
        const int64_t stride = 1 + i % 2, n = i / 2 % 2 ? 9 : 1;
        ti_conv v = {n, 11 * stride, 13 * stride,      35,     50,     3, 3,
                     0, 0,           {stride, stride}, {1, 1}, {1, 1}, 1};
        fill_pq(&v);
        operands o = {tc_random_floats(&s, x_len(&v)), tc_random_floats(&s, w_len(&v)),
                      tc_random_floats(&s, y_len(&v)), tc_random_floats(&s, v.k)};
        const tc_guarded *all[] = {&o.x, &o.w, &o.y};
        for (int k = 0; k < 9; k++) { /* a pass, and which of its operands */
            const ti_conv_pass pass = (ti_conv_pass)(k / 3);
            if (k % 3 == (pass == TI_CONV_FWD ? 2 : pass == TI_CONV_DX ? 0 : 1)) continue;
            const tc_guarded *to = pass == TI_CONV_FWD ? &o.y : pass == TI_CONV_DX ? &o.x : &o.w;
            tc_guarded direct = tc_guard(to->bytes), wino = tc_guard(to->bytes);
            float *at = tc_data(*all[k % 3]);
            at += tc_below(&s, (int64_t)(all[k % 3]->bytes / sizeof *at));
            const float good = *at;

            *at = bad[i / 4];
            run(simd, &v, pass, &o, direct, &(options){.bias = true, .relu = true}, 1);
            run(simd, &v, pass, &o, wino, &(options){true, true, true}, 1 + i % 3);
            cr_expect(alike(&direct, &wino, !isfinite(*at)),
                      "%s pass %d, %g in operand %d, stride %ld, n %ld", simd->name, (int)pass,
                      bad[i / 4], k % 3, (long)stride, (long)n);
            *at = good;
            tc_release(&direct), tc_release(&wino);
        }
        tc_release(&o.x), tc_release(&o.w), tc_release(&o.y), tc_release(&o.bias);
    }
}

static const ti_simd *table(const char *name)
{
    const ti_simd *simd = ti_simd_find(name);
    if (!simd) cr_skip_test("this machine has no %s", name);
    return simd;
}

Test(simd_conv, portable_odd_shapes) { odd_shapes(table("portable")); }
Test(simd_conv, portable_large_shapes) { large_shapes(table("portable")); }
Test(simd_conv, portable_empty_shapes) { empty_shapes(table("portable")); }
Test(simd_conv, avx2_odd_shapes) { odd_shapes(table("avx2")); }
Test(simd_conv, avx2_large_shapes) { large_shapes(table("avx2")); }
Test(simd_conv, avx2_empty_shapes) { empty_shapes(table("avx2")); }
Test(simd_conv, avx512_odd_shapes) { odd_shapes(table("avx512")); }
Test(simd_conv, avx512_large_shapes) { large_shapes(table("avx512")); }
Test(simd_conv, avx512_empty_shapes) { empty_shapes(table("avx512")); }
Test(simd_conv, portable_winograd) { winograd(table("portable")); }
Test(simd_conv, portable_winograd_spoilt) { winograd_spoilt(table("portable")); }
Test(simd_conv, portable_winograd_sums) { winograd_sums(table("portable")); }
Test(simd_conv, avx2_winograd) { winograd(table("avx2")); }
Test(simd_conv, avx2_winograd_spoilt) { winograd_spoilt(table("avx2")); }
Test(simd_conv, avx2_winograd_sums) { winograd_sums(table("avx2")); }
Test(simd_conv, avx512_winograd) { winograd(table("avx512")); }
Test(simd_conv, avx512_winograd_spoilt) { winograd_spoilt(table("avx512")); }
Test(simd_conv, avx512_winograd_sums) { winograd_sums(table("avx512")); }
