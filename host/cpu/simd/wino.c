/*
 * wino.c - which Winograd kernel a convolution takes, and whether it pays: by its shape alone.
 *
 * Where a value is not finite, or overflows in a transform, all is computed again the direct way:
 * there it spoils no more than it has a part in.
 */
#include "conv.h"
#include "winograd.h"
#include "winograd_s2.h"

static bool strided(const ti_conv *v) { return v->stride[0] == 2; }

bool TI_SIMD(wino_fits)(const ti_conv *v)
{
    const int64_t stride = v->stride[0], *pad = v->pad;

    if (v->r != 3 || v->s != 3 || v->groups != 1 || v->stride[1] != stride || v->dilation[0] != 1 ||
        v->dilation[1] != 1 || v->n <= 0 || v->h <= 0 || v->w <= 0 || v->p <= 0 || v->q <= 0 ||
        v->c <= 0 || v->k <= 0)
        return false;
    if (stride == 1)
        return pad[0] <= 2 && pad[1] <= 2 && v->p == v->h + 2 * pad[0] - 2 &&
               v->q == v->w + 2 * pad[1] - 2;
    return stride == 2 && pad[0] == 1 && pad[1] == 1 && v->p == (v->h + 1) / 2 &&
           v->q == (v->w + 1) / 2;
}

/* In cycles of one core: products at one vector FMA a cycle, transforms as measured, and the
 * weights, which is what decides at small batch: Winograd's 36 matrices are 4 times the plain
 * weights, are written and read once however few tiles there are, and cost more per vector once
 * they outgrow L3. The three passes cross over within a factor of two in batch, so one rule
 * does. */
bool TI_SIMD(wino_pays)(const ti_conv *v, ti_conv_pass pass)
{
    const double lanes = VL, c = (double)round_up(v->c, VL), k = (double)round_up(v->k, VL);
    const double block = c * k / lanes, depth = (double)round_up(9 * v->c, VL);
    const double flat = depth * k / lanes, u_mib = 36 * 4 * c * k / (1 << 20);
    const double pixels = (double)(v->n * v->p * v->q), products = strided(v) ? 81 : 36;
    const bool of_x = pass == TI_CONV_DX && !strided(v);
    const int64_t h = of_x ? v->h : v->p, w = of_x ? v->w : v->q;
    const double tiles = (double)(v->n * ceil_div(h, 4) * ceil_div(w, 4));
    double u_cycles = 3 + u_mib / 3;

    if (!TI_SIMD(wino_fits)(v)) return false;
    u_cycles = u_cycles < 6 ? 6 : u_cycles > 16 ? 16 : u_cycles;
    const double tile = products * (1.02 * block + 8 * c / lanes + 7 * k / lanes);
    const double wino = tiles * tile + 36 * block * u_cycles;
    const double igemm = pixels * (1.1 * flat + 3 * depth / lanes) + 12 * flat;
    return wino < igemm;
}

size_t TI_SIMD(wino_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads)
{
    const size_t bytes = (strided(v) ? wino2_scratch : wino1_scratch)(v, pass, n_threads);
    const size_t direct = TI_SIMD(conv_scratch)(v, pass, n_threads);

    return bytes > direct ? bytes : direct;
}

void TI_SIMD(wino_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                       const ti_conv_epilogue *e, void *scratch)
{
    if (!(strided(v) ? wino2_fwd : wino1_fwd)(t, v, x, w, y, e, scratch))
        TI_SIMD(conv_fwd)(t, v, x, w, y, e, scratch);
}

void TI_SIMD(wino_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                      void *scratch)
{
    if (!(strided(v) ? wino2_dx : wino1_dx)(t, v, dy, w, dx, scratch))
        TI_SIMD(conv_dx)(t, v, dy, w, dx, scratch);
}

void TI_SIMD(wino_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                      void *scratch)
{
    if (!(strided(v) ? wino2_dw : wino1_dw)(t, v, x, dy, dw, scratch))
        TI_SIMD(conv_dw)(t, v, x, dy, dw, scratch);
}

int64_t TI_SIMD(wino_chain)(const ti_conv *v, ti_conv_pass pass)
{
    return (strided(v) ? wino2_chain : wino1_chain)(v, pass);
}

double TI_SIMD(wino_growth)(const ti_conv *v, ti_conv_pass pass)
{
    return (strided(v) ? wino2_growth : wino1_growth)(pass);
}
