/*
 * backend.h - the device behind CUDA rows: its stream, its fault, the name of the last op.
 */
#ifndef TI_CUDA_BACKEND_H
#define TI_CUDA_BACKEND_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "core/row.h"

enum { TI_STAGES = 2 };

struct ti_device {
    int index, n_threads, n_processors;
    cudaStream_t stream;
    ti_fault *fault; /* device memory: what kernels raise, the op's name by the host's address */
    struct {
        char *data; /* pinned */
        cudaEvent_t done;
    } stage[TI_STAGES];
    int next_stage;
    const char *last_op; /* launched last; a late fault is its or an earlier one's */
    char isa[16];
    char failed[200]; /* the first failure of the device: it stays */
};

/* Notes e as the device's failure unless there is one already; `what` was being done. */
void ti_cuda_check(ti_device *d, cudaError_t e, const char *what);

extern const ti_row *const ti_cuda_rows[];

#ifdef __cplusplus
}
#endif

#endif
