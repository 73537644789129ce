/*
 * capture.c - a step's calls as a CUDA graph.
 *
 * The stream is captured in thread-local mode, so that other threads may go on with calls of their
 * own. While it lasts, errors spoil the capture, not the device.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend.h"

struct ti_graph {
    cudaGraphExec_t exec;
    size_t n_nodes;
};

void ti_cuda_spoil(ti_device *d, cudaError_t e)
{
    if (e == cudaSuccess || d->spoilt[0]) return;
    snprintf(d->spoilt, sizeof d->spoilt, "%.100s (%.40s)", cudaGetErrorString(e),
             cudaGetErrorName(e));
}

const char *ti_cuda_capture_begin(ti_device *d)
{
    (void)cudaSetDevice(d->index);
    d->spoilt[0] = 0;
    if (d->failed[0]) return d->failed;
    const cudaError_t e = cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal);

    d->capturing = e == cudaSuccess;
    ti_cuda_spoil(d, e);
    return e == cudaSuccess ? NULL : d->spoilt;
}

const char *ti_cuda_capture_spoilt(ti_device *d)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;

    ti_cuda_spoil(d, cudaStreamIsCapturing(d->stream, &status));
    if (status != cudaStreamCaptureStatusActive)
        ti_cuda_spoil(d, cudaErrorStreamCaptureInvalidated);
    return d->spoilt[0] ? d->spoilt : NULL;
}

ti_graph *ti_cuda_capture_end(ti_device *d, const char **why)
{
    ti_graph *g = calloc(1, sizeof *g);
    cudaGraph_t graph = NULL;
    cudaError_t e = cudaStreamEndCapture(d->stream, &graph);

    d->capturing = false;
    if (e == cudaSuccess && g) {
        e = cudaGraphGetNodes(graph, NULL, &g->n_nodes);
        if (e == cudaSuccess) e = cudaGraphInstantiate(&g->exec, graph, 0);
    }
    if (graph) (void)cudaGraphDestroy(graph);
    if (e == cudaSuccess && g) return g;
    (void)cudaGetLastError(); /* else the next launch reports it */
    free(g);
    ti_cuda_spoil(d, e);
    *why = e == cudaErrorMemoryAllocation || e == cudaSuccess ? "" : d->spoilt;
    return NULL;
}

size_t ti_cuda_graph_size(const ti_graph *g) { return g->n_nodes; }

void ti_cuda_graph_run(ti_device *d, const ti_graph *g)
{
    (void)cudaSetDevice(d->index);
    if (d->failed[0]) return;
    ti_cuda_check(d, cudaGraphLaunch(g->exec, d->stream), "a captured step");
    ti_cuda_launched(d, "a captured step (TERN_CHECK=sync names the operation)");
}

void ti_cuda_graph_free(ti_device *d, ti_graph *g)
{
    (void)cudaSetDevice(d->index);
    (void)cudaGraphExecDestroy(g->exec);
    free(g);
}
