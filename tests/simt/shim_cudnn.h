/* shim_cudnn.h - what the files of the stand-in for cuDNN share. */
#ifndef SIMT_SHIM_CUDNN_H
#define SIMT_SHIM_CUDNN_H

#include <cudnn.h>

#include "shim.h"

struct cudnnContext {
    cudaStream_t stream;
};

/* s, and why for cudnnGetLastErrorString. */
cudnnStatus_t shim_refuse(cudnnStatus_t s, const char *why);

#endif
