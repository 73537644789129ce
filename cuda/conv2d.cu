/*
 * conv2d.cu - convolution, its adjoints and its fused forms, as implicit products (conv_tiled.cuh).
 */
#include "conv_tiled.cuh"

static double cost(const ti_work *w) { return 5000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_conv2d) = {
    TI_CONV_ROWS("implicit", ti_tiled_way<ti_conv_layer>, TI_REORDERED, cost), {.op = NULL}};
