/*
 * kernels.h - the CPU backend's inner kernels: matrix products and convolutions.
 *
 * The files of this folder are compiled once for each instruction set; what differs lies in simd.h
 * alone. Each build exports one table, ti_simd_avx512, ti_simd_avx2 or ti_simd_portable;
 * cpu/simd_choose.h picks one at run time.
 *
 * Rules for every function of the table:
 *
 *  - Sizes count elements and may be zero. Strides count elements.
 *  - Operands are read only; results overlap no operand.
 *  - Nothing is allocated. The caller gives scratch of the size that the `_scratch` function of the
 *    same arguments returns, in bytes, aligned to 64; its content need not be set. Where that is 0,
 *    NULL will do.
 *  - Threads: `t` may be NULL; pass ti_threads_count(t) to the `_scratch` function. Small problems
 *    stay on the caller. The result has the same bits for every number of threads: the order of
 *    each sum depends on the shape and the layout of the operands, never on who computes it. (The
 *    tables of two instruction sets differ in the last bits.)
 *  - Sums: no more than 256 products (for each lane of a vector) are added one after the other,
 *    then such sums are added. The `_chain` functions give the longest sequence of roundings that
 *    one product passes through, so |error| <= chain * u * sum |a||b| always, and about
 *    sqrt(chain) * u * sum |a||b| in practice (u = 2^-24, 2^-53).
 *  - Border pixels of a convolution are multiplied as zeros, so an infinite weight (or dy) there
 *    gives NaN, as it does in any matrix form of convolution.
 */
#ifndef TI_CPU_KERNELS_H
#define TI_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/threads.h"

/*
 * C[m,n] = act(A[m,k] B[k,n] + bias[n]); with `accumulate`, act(C + A B + bias).
 *
 *   A[i][l] = a[i * a_rs + l * a_cs]    B[l][j] = b[l * b_rs + j * b_cs]    C[i][j] = c[i * ldc +
 * j]
 *
 * Any strides are right, zero included; fast where one of the two strides of each operand is 1.
 * k = 0 is an empty sum. relu keeps NaN.
 */
typedef struct {
    int64_t m, n, k;
    int64_t a_rs, a_cs;
    int64_t b_rs, b_cs;
    int64_t ldc;
    const void *bias; /* n values of the product's type, or NULL */
    bool relu;
    bool accumulate;
} ti_gemm;

/*
 * A two-dimensional convolution, all dense: images channels-last, weights and their gradients as
 * modules hold them, so that no step copies a filter or its gradient.
 *
 *   x [n][h][w][c]    weights [k][c / groups][r][s]    y [n][p][q][k]
 *   y[n,p,q,k] = sum over r,s,c of x[n, p*stride - pad + r*dilation, …, c0 + c] * w[k,c,r,s]
 *
 * p and q are the caller's (pads are symmetric); strides, dilations, groups >= 1, pads >= 0,
 * groups divides c and k.
 */
typedef struct {
    int64_t n, h, w, c;
    int64_t k, r, s;
    int64_t p, q;
    int64_t stride[2], pad[2], dilation[2]; /* rows, columns */
    int64_t groups;
} ti_conv;

typedef enum { TI_CONV_FWD, TI_CONV_DX, TI_CONV_DW } ti_conv_pass;

/* What is done to y on the way out. All optional: NULL and false leave y alone. */
typedef struct {
    const float *bias; /* [k] */
    bool relu;         /* after the bias; keeps NaN */
    /* [2][k], Winograd of stride 1 only: sums of y and of its squares, after bias, before relu */
    float *sums;
} ti_conv_epilogue;

typedef struct {
    const char *name; /* "avx512", "avx2", "portable" */

    size_t (*gemm_scratch)(const ti_gemm *g, int n_threads);
    void (*gemm)(ti_threads *t, const ti_gemm *g, const float *a, const float *b, float *c,
                 void *scratch);
    size_t (*gemm_f64_scratch)(const ti_gemm *g, int n_threads);
    void (*gemm_f64)(ti_threads *t, const ti_gemm *g, const double *a, const double *b, double *c,
                     void *scratch);
    int64_t (*gemm_chain)(int64_t k); /* either type, bias and accumulate included */

    /* Any shape. e may be NULL; e->sums is ignored. dx and dw are written whole, not added to. */
    size_t (*conv_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads);
    void (*conv_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                     const ti_conv_epilogue *e, void *scratch);
    void (*conv_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                    void *scratch);
    void (*conv_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                    void *scratch);
    int64_t (*conv_chain)(const ti_conv *v, ti_conv_pass pass);

    /*
     * Winograd for 3x3 filters: F(4x4,3x3) with stride 1 and padding 0, 1 or 2, 36 products for
     * 144; with stride 2 and padding 1, 81 for 144. wino_fits says whether a shape is of that kind;
     * where it says no, the others must not be called. wino_pays is a cost rule on the shape alone:
     * is it faster than conv_*?
     *
     * Errors: |error| <= wino_chain * wino_growth * u * T * largest |a| * largest |b|, and about
     * sqrt(chain) * u * the same for all practical purposes, where a, b are the operands and T the
     * products of one result: 9 c (forward), 9 k (dx), n p q (dw). Measured errors are smaller.
     */
    bool (*wino_fits)(const ti_conv *v);
    bool (*wino_pays)(const ti_conv *v, ti_conv_pass pass);
    size_t (*wino_scratch)(const ti_conv *v, ti_conv_pass pass, int n_threads);
    void (*wino_fwd)(ti_threads *t, const ti_conv *v, const float *x, const float *w, float *y,
                     const ti_conv_epilogue *e, void *scratch);
    void (*wino_dx)(ti_threads *t, const ti_conv *v, const float *dy, const float *w, float *dx,
                    void *scratch);
    void (*wino_dw)(ti_threads *t, const ti_conv *v, const float *x, const float *dy, float *dw,
                    void *scratch);
    int64_t (*wino_chain)(const ti_conv *v, ti_conv_pass pass);
    double (*wino_growth)(const ti_conv *v, ti_conv_pass pass); /* of the transforms */
} ti_simd;

extern const ti_simd ti_simd_portable;
#ifdef __x86_64__
extern const ti_simd ti_simd_avx2, ti_simd_avx512;
#endif

#endif
