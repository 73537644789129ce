/*
 * linear.cu - fully connected layers, by the tiled product (conv_tiled.cuh).
 *
 *   linear_act:   y[n, k] = act(sum over c of x[n, c] w[k, c] + b[k])
 *   linear_act_d: h = gy act'(y); dx = h w, dw = h' x, db = column sums of h
 *
 * All lie row-major.
 */
#include "conv_tiled.cuh"

static double cost(const ti_work *w) { return 2000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_linear) = {
    TI_LINEAR_ROWS("tiled", ti_tiled_way<ti_linear_layer>, TI_REORDERED, cost), {.op = NULL}};
