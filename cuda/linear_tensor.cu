/*
 * linear_tensor.cu - fully connected layers in the math modes tf32, bf16 and f16, on tensor cores
 * (conv_tensor.cuh).
 */
#include "conv_tensor.cuh"

static double cost(const ti_work *w) { return 1000 + ti_moved_cost(w); }

TI_KERNELS(ti_cuda_linear_tensor) = {
    TI_LINEAR_ROWS("tensor_tf32", ti_linear_tensor<ti_tf32>, TI_CLASS_TF32, cost),
    TI_LINEAR_ROWS("tensor_bf16", ti_linear_tensor<ti_bf16>, TI_CLASS_BF16, cost),
    TI_LINEAR_ROWS("tensor_f16", ti_linear_tensor<ti_f16>, TI_CLASS_F16, cost),
    {.op = NULL},
};
