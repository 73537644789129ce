/*
 * windows.cuh - what a convolution's products are made of (conv_tiled.cuh, conv_tensor.cuh): images
 * as operands, and the offsets of groups, which are a batch.
 */
#ifndef TI_CUDA_WINDOWS_CUH
#define TI_CUDA_WINDOWS_CUH

#include "conv.cuh"
#include "gemm.cuh"

/* Whether each window is one place: then images are matrices. */
static inline bool ti_one_place(const ti_geometry &d)
{
    return d.R * d.S * d.stride[0] * d.stride[1] == 1 && d.pad[0] + d.pad[1] == 0;
}

/* x as windows over it meet it. */
template <class T> static ti_patches<T> ti_windows(const ti_geometry &d, const T *x, bool by_tap)
{
    return ti_patches<T>{x,
                         d.H * d.W * d.C,
                         (int)d.H,
                         (int)d.W,
                         (int)d.P,
                         (int)d.Q,
                         (int)d.S,
                         (int)(d.C / d.G),
                         (int)d.C,
                         {d.stride[0], d.stride[1]},
                         {-d.pad[0], -d.pad[1]},
                         {d.dilation[0], d.dilation[1]},
                         {1, 1},
                         by_tap};
}

/* g as elements of x meet it. */
template <class T> static ti_patches<T> ti_covering(const ti_geometry &d, const T *g)
{
    return ti_patches<T>{g,
                         d.P * d.Q * d.K,
                         (int)d.P,
                         (int)d.Q,
                         (int)d.H,
                         (int)d.W,
                         (int)d.S,
                         (int)(d.K / d.G),
                         (int)d.K,
                         {1, 1},
                         {d.pad[0], d.pad[1]},
                         {-d.dilation[0], -d.dilation[1]},
                         {d.stride[0], d.stride[1]},
                         false};
}

/* A product of one group: offsets of y, a and b from one group to the next. */
static inline ti_product ti_grouped(ti_product p, int64_t y, int64_t a, int64_t b)
{
    p.batch.stride[0][0] = y;
    p.batch.stride[1][0] = a;
    p.batch.stride[2][0] = b;
    p.batch.stride[3][0] = p.N; /* bias */
    return p;
}

#endif
