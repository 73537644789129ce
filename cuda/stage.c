/*
 * stage.c - batches copied ahead on a second stream, and flags read late.
 *
 * A stage has two events: `mark`, behind what may still use the memory that is sent to, and `sent`,
 * behind the copies. The second stream waits for the one, the first stream for the other.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"

struct ti_stage {
    char *data; /* pinned */
    cudaEvent_t mark, sent;
};

static const char what[] = "copy of a batch", note[] = "note of a flag";

void ti_cuda_stage_close(ti_device *d, ti_stage *s)
{
    if (!s) return;
    (void)cudaSetDevice(d->index);
    if (s->sent) (void)cudaEventSynchronize(s->sent);
    if (s->sent) (void)cudaEventDestroy(s->sent);
    if (s->mark) (void)cudaEventDestroy(s->mark);
    if (s->data) (void)cudaFreeHost(s->data);
    free(s);
}

ti_stage *ti_cuda_stage_open(ti_device *d, size_t bytes, void **host)
{
    ti_stage *s = d->failed[0] ? NULL : calloc(1, sizeof *s);

    if (!s || cudaSetDevice(d->index) != cudaSuccess) {
        free(s);
        return NULL;
    }
    if (cudaHostAlloc((void **)&s->data, bytes ? bytes : 1, cudaHostAllocDefault) == cudaSuccess &&
        cudaEventCreateWithFlags(&s->mark, cudaEventDisableTiming) == cudaSuccess &&
        cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming) == cudaSuccess) {
        memset(s->data, 0, bytes);
        *host = s->data;
        return s;
    }
    (void)cudaGetLastError(); /* else the next launch reports it */
    ti_cuda_stage_close(d, s);
    return NULL;
}

void ti_cuda_stage_mark(ti_device *d, ti_stage *s)
{
    (void)cudaSetDevice(d->index);
    if (!d->failed[0]) ti_cuda_check(d, cudaEventRecord(s->mark, d->stream), what);
}

void ti_cuda_stage_send(ti_device *d, ti_stage *s, void *to, size_t at, size_t bytes)
{
    (void)cudaSetDevice(d->index);
    if (d->failed[0] || !bytes) return;
    ti_cuda_check(d, cudaStreamWaitEvent(d->ahead, s->mark, 0), what);
    ti_cuda_check(d, cudaMemcpyAsync(to, s->data + at, bytes, cudaMemcpyHostToDevice, d->ahead),
                  what);
    ti_cuda_check(d, cudaEventRecord(s->sent, d->ahead), what);
    ti_cuda_check(d, cudaStreamWaitEvent(d->stream, s->sent, 0), what);
}

void ti_cuda_stage_wait(ti_device *d, ti_stage *s)
{
    (void)cudaSetDevice(d->index);
    if (!d->failed[0]) ti_cuda_check(d, cudaEventSynchronize(s->sent), what);
}

void ti_cuda_note(ti_device *d, int i, const float *from)
{
    ti_cuda_noted_t *to = d->note[i].to;

    (void)cudaSetDevice(d->index);
    if (d->failed[0]) return;
    ti_cuda_check(d, cudaMemcpyAsync(&to->x, from, sizeof to->x, cudaMemcpyDeviceToHost, d->stream),
                  note);
    ti_cuda_check(d,
                  cudaMemcpyAsync(&to->raised, &d->fault->call, sizeof to->raised,
                                  cudaMemcpyDeviceToHost, d->stream),
                  note);
    ti_cuda_check(d, cudaEventRecord(d->note[i].done, d->stream), note);
}

/* NAN where the device has failed, or a kernel has raised something: a wait tells what. */
float ti_cuda_noted(ti_device *d, int i)
{
    (void)cudaSetDevice(d->index);
    if (!d->failed[0]) ti_cuda_check(d, cudaEventSynchronize(d->note[i].done), note);
    return d->failed[0] || d->note[i].to->raised ? NAN : d->note[i].to->x;
}

cudaError_t ti_cuda_stages_open(ti_device *d)
{
    cudaError_t e = cudaStreamCreateWithFlags(&d->ahead, cudaStreamNonBlocking);

    for (int i = 0; i < 2 && e == cudaSuccess; i++) {
        e = cudaHostAlloc((void **)&d->note[i].to, sizeof *d->note[i].to, cudaHostAllocDefault);
        if (e == cudaSuccess)
            e = cudaEventCreateWithFlags(&d->note[i].done, cudaEventDisableTiming);
    }
    return e;
}

void ti_cuda_stages_close(ti_device *d)
{
    for (int i = 0; i < 2; i++) {
        if (d->note[i].done) (void)cudaEventDestroy(d->note[i].done);
        if (d->note[i].to) (void)cudaFreeHost(d->note[i].to);
    }
    if (d->ahead) (void)cudaStreamDestroy(d->ahead);
}
