/*
 * conv2d_tensor.cu - convolution, its adjoints and its fused forms in the math modes tf32, bf16 and
 * f16, on tensor cores (conv_tensor.cuh).
 */
#include "conv_tensor.cuh"

static double cost(const ti_work *w) { return 4000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_conv2d_tensor) = {
    TI_CONV_ROWS("tensor_tf32", ti_conv_tensor<ti_tf32>, TI_CLASS_TF32, cost),
    TI_CONV_ROWS("tensor_bf16", ti_conv_tensor<ti_bf16>, TI_CLASS_BF16, cost),
    TI_CONV_ROWS("tensor_f16", ti_conv_tensor<ti_f16>, TI_CLASS_F16, cost),
    {.op = NULL},
};
