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

enum { TI_STAGES = 2, TI_SUSPECTS = 8 };

/* What kernels raise, in device memory, all zero at first: the first call that found a wrong index,
 * in the stream's order, and of its complaints the one about the first place, whatever the blocks'
 * order. Either key is the complement of place << 32 | half of the value, so that the greatest is
 * that of the first place. (From place 2^32 - 1 on, all places count as that one.) */
typedef struct {
    unsigned long long call, low, high;
    int64_t limit;
    const char *op; /* its name at the host's address */
} ti_cuda_fault;

/* What is read late: a flag, and whether a kernel has raised something. */
typedef struct {
    float x;
    unsigned long long raised; /* a call, or 0 */
} ti_cuda_noted_t;

struct ti_device {
    int index, n_threads, n_processors;
    cudaStream_t stream, ahead; /* ahead: batches only, see stage.c */
    ti_cuda_fault *fault;
    unsigned long long n_calls; /* that take indices */
    struct {
        char *data; /* pinned */
        cudaEvent_t done;
    } stage[TI_STAGES];
    int next_stage;
    const char *recent[TI_SUSPECTS]; /* ops launched since the last wait: a late fault is of one */
    unsigned n_recent;
    bool counted;
    char isa[16];
    char failed[400]; /* the first failure of the device: it stays */
    bool capturing;
    char spoilt[200]; /* of the capture that goes on: what failed first, or "" */
    struct {
        ti_cuda_noted_t *to; /* pinned */
        cudaEvent_t done;
    } note[2];
    char disabled[128];
    struct ti_vendor *vendor;       /* vendor.c's; NULL until a row asks for a library */
    struct ti_plan_file *plan_file; /* plans.c's */
};

/* Notes e as the device's failure unless there is one already; `what` was being done. */
void ti_cuda_check(ti_device *d, cudaError_t e, const char *what);
/* After the launches of an op. */
void ti_cuda_launched(ti_device *d, const char *op);

/* capture.c: the same for a capture, and the table's entries. */
void ti_cuda_spoil(ti_device *d, cudaError_t e);
const char *ti_cuda_capture_begin(ti_device *d);
const char *ti_cuda_capture_spoilt(ti_device *d);
ti_graph *ti_cuda_capture_end(ti_device *d, const char **why);
size_t ti_cuda_graph_size(const ti_graph *g);
void ti_cuda_graph_run(ti_device *d, const ti_graph *g);
void ti_cuda_graph_free(ti_device *d, ti_graph *g);

/* stage.c */
cudaError_t ti_cuda_stages_open(ti_device *d); /* the second stream, the notes */
void ti_cuda_stages_close(ti_device *d);
ti_stage *ti_cuda_stage_open(ti_device *d, size_t bytes, void **host);
void ti_cuda_stage_close(ti_device *d, ti_stage *s);
void ti_cuda_stage_mark(ti_device *d, ti_stage *s);
void ti_cuda_stage_send(ti_device *d, ti_stage *s, void *to, size_t at, size_t bytes);
void ti_cuda_stage_wait(ti_device *d, ti_stage *s);
void ti_cuda_note(ti_device *d, int i, const float *from);
float ti_cuda_noted(ti_device *d, int i);

/* The same for a failure that is no cudaError_t. */
void ti_cuda_fail(ti_device *d, const char *text, const char *what);
/* Copies in the stream's order through the staging buffers; download waits. */
void ti_cuda_upload(ti_device *d, void *to, const void *from, size_t bytes);
void ti_cuda_download(ti_device *d, void *to, const void *from, size_t bytes);
/* Host memory, zeroed; NULL: there is none. Rows have no context, so none of ti_alloc's. */
void *ti_cuda_host_alloc(size_t bytes);
void ti_cuda_host_free(void *p);

/* Our own rows, by file; and those that call libraries of the vendor's. */
extern const ti_row *const ti_cuda_rows[], *const ti_vendor_rows[];

#ifdef __cplusplus
}
#endif

#endif
