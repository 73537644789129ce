/*
 * backend.c - a CUDA device: its memory, its one stream, copies through pinned staging buffers, and
 * how its failures reach the context.
 *
 * All work of a context goes through one stream, in order. A failure stays: memory is then refused,
 * downloads give zeros, and sync tells what happened and which op was launched last. The simt
 * plug-in is this very file beside an emulated CUDA runtime.
 */
#include "backend.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vendor.h"

#ifdef TI_SIMT
#include "control.h"
static const char backend_name[] = "simt";
static const size_t stage_bytes = (size_t)64 << 10; /* small, so that tests copy in many parts */
#else
static const char backend_name[] = "cuda";
static const size_t stage_bytes = (size_t)4 << 20;
#endif

enum { WHY = 200, OLDEST = 75 };

/* Errors that a launch itself gives; all others are of something earlier. */
static bool is_of_launch(cudaError_t e)
{
    return e == cudaErrorInvalidConfiguration || e == cudaErrorInvalidValue ||
           e == cudaErrorLaunchOutOfResources || e == cudaErrorNoKernelImageForDevice ||
           e == cudaErrorInvalidDeviceFunction;
}

void ti_cuda_check(ti_device *d, cudaError_t e, const char *what)
{
    int n = 0;

    if (d->capturing) {
        ti_cuda_spoil(d, e);
        return;
    }
    if (e == cudaSuccess || d->failed[0]) return;
    n = snprintf(d->failed, sizeof d->failed, "%.100s (%.40s), ", cudaGetErrorString(e),
                 cudaGetErrorName(e));
    if (d->n_recent == 1) what = d->recent[0];
    if (d->n_recent <= 1 || is_of_launch(e)) {
        snprintf(d->failed + n, sizeof d->failed - (size_t)n, "in %.60s", what);
        return;
    }
    n += snprintf(d->failed + n, sizeof d->failed - (size_t)n,
                  "noticed in %.40s, after (TERN_CHECK=sync tells which)", what);
    for (unsigned k = 0; k < TI_SUSPECTS && k < d->n_recent; k++)
        n += snprintf(d->failed + n, sizeof d->failed - (size_t)n, "%s%.20s", k ? ", " : " ",
                      d->recent[(d->n_recent - 1 - k) % TI_SUSPECTS]);
}

void ti_cuda_launched(ti_device *d, const char *op)
{
    if (d->capturing) { /* nothing runs */
        ti_cuda_check(d, cudaGetLastError(), op);
        return;
    }
    if (!d->n_recent || d->recent[(d->n_recent - 1) % TI_SUSPECTS] != op)
        d->recent[d->n_recent++ % TI_SUSPECTS] = op;
    ti_cuda_check(d, cudaGetLastError(), op);
}

void ti_cuda_fail(ti_device *d, const char *text, const char *what)
{
    char *to = d->capturing ? d->spoilt : d->failed;

    if (!to[0]) snprintf(to, sizeof d->spoilt, "%.120s, in %.40s", text, what);
}

/* ---- Opening ---- */

/* "cuda" is "cuda:0". -1: no number. */
static int index_of(const char *name)
{
    const char *digits = strchr(name, ':');
    char *end;

    if (!digits) return 0;
    const long index = strtol(digits + 1, &end, 10);
    return end == digits + 1 || *end || index < 0 || index > 1000 ? -1 : (int)index;
}

static bool check(cudaError_t e, char *why)
{
    if (e != cudaSuccess)
        snprintf(why, WHY, "%.120s (%.40s)", cudaGetErrorString(e), cudaGetErrorName(e));
    return e == cudaSuccess;
}

/* There is such a device, and it can run what is in here. */
static bool usable(int index, char *why)
{
    int n = 0, driver = 0;
    const cudaError_t e = cudaGetDeviceCount(&n);

    if (e == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver)
        snprintf(why, WHY, "the NVIDIA driver is made for CUDA %d.%d, %d.%d is needed",
                 driver / 1000, driver % 100 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 100 / 10);
    else if (check(e, why) && (index < 0 || index >= n))
        snprintf(why, WHY, "there are %d CUDA devices, numbered from 0", n);
    else if (e == cudaSuccess) return true;
    (void)cudaGetLastError();
    return false;
}

static bool open_stream(ti_device *d, char *why)
{
    if (!check(cudaSetDevice(d->index), why) ||
        !check(cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking), why) ||
        !check(cudaMalloc((void **)&d->fault, sizeof *d->fault), why) ||
        !check(cudaMemsetAsync(d->fault, 0, sizeof *d->fault, d->stream), why) ||
        !check(ti_cuda_stages_open(d), why))
        return false;
    for (int i = 0; i < TI_STAGES; i++)
        if (!check(cudaHostAlloc((void **)&d->stage[i].data, stage_bytes, cudaHostAllocDefault),
                   why) ||
            !check(cudaEventCreateWithFlags(&d->stage[i].done, cudaEventDisableTiming), why))
            return false;
    return true;
}

static bool look_at(ti_device *d, char *why)
{
    int major = 0, minor = 0;

    if (!check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, d->index), why) ||
        !check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, d->index), why) ||
        !check(cudaDeviceGetAttribute(&d->n_processors, cudaDevAttrMultiProcessorCount, d->index),
               why))
        return false;
#ifdef TI_SIMT
    snprintf(d->isa, sizeof d->isa, "simt");
#else
    snprintf(d->isa, sizeof d->isa, "sm_%d%d", major % 100, minor % 100);
#endif
    if (major * 10 + minor >= OLDEST) return true;
    snprintf(why, WHY, "device %d is of compute capability %d.%d; the oldest supported is 7.5",
             d->index, major, minor);
    return false;
}

/* Contexts by device. A kernel's fault spoils what the whole process has on a device; when the last
 * context there has closed, the next one starts anew. */
enum { MOST_DEVICES = 64 };
static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;
static int n_contexts[MOST_DEVICES];

static void count_context(ti_device *d, int change)
{
    if (d->index >= MOST_DEVICES) return;
    pthread_mutex_lock(&count_lock);
    n_contexts[d->index] += change;
    if (change < 0 && n_contexts[d->index] == 0 && d->failed[0] &&
        cudaStreamQuery(cudaStreamLegacy) != cudaSuccess)
        (void)cudaDeviceReset();
    (void)cudaGetLastError();
    pthread_mutex_unlock(&count_lock);
}

static void cuda_close(ti_device *d)
{
    (void)cudaSetDevice(d->index);
    if (d->stream) (void)cudaStreamSynchronize(d->stream);
    ti_vendor_close(d);
    for (int i = 0; i < TI_STAGES; i++) {
        if (d->stage[i].done) (void)cudaEventDestroy(d->stage[i].done);
        if (d->stage[i].data) (void)cudaFreeHost(d->stage[i].data);
    }
    ti_cuda_stages_close(d);
    if (d->fault) (void)cudaFree(d->fault);
    if (d->stream) (void)cudaStreamDestroy(d->stream);
    (void)cudaGetLastError();
    if (d->counted) count_context(d, -1);
    free(d);
}

static ti_device *cuda_open(const char *name, int n_threads, const char *disabled, char *why)
{
    const int index = index_of(name);
    ti_device *d;

    if (!usable(index, why)) return NULL;
    if (!(d = calloc(1, sizeof *d))) {
        strcpy(why, "out of host memory");
        return NULL;
    }
    d->index = index;
    d->n_threads = n_threads;
    count_context(d, 1);
    d->counted = true;
    snprintf(d->disabled, sizeof d->disabled, "%s", disabled ? disabled : "");
    if (look_at(d, why) && open_stream(d, why)) return d;
    cuda_close(d);
    return NULL;
}

/* ---- Memory ---- */

void *ti_cuda_host_alloc(size_t bytes) { return calloc(1, bytes); }
void ti_cuda_host_free(void *p) { free(p); }

static void *cuda_alloc(void *user, size_t bytes)
{
    ti_device *d = user;
    void *p = NULL;

    if (d->failed[0]) return NULL;
    cudaError_t e = cudaSetDevice(d->index);
    if (e == cudaSuccess && (e = cudaMalloc(&p, bytes)) == cudaSuccess) return p;
    (void)cudaGetLastError(); /* else the next launch reports it */
    /* It may be a kernel's fault that shows here. */
    if (e != cudaErrorMemoryAllocation) ti_cuda_check(d, e, "allocation");
    return NULL;
}

/* The pool frees what earlier work of the stream may still use. */
static void cuda_free(void *user, void *p, size_t bytes)
{
    ti_device *d = user;

    (void)bytes;
    (void)cudaSetDevice(d->index);
    ti_cuda_check(d, cudaStreamSynchronize(d->stream), "free");
    ti_cuda_check(d, cudaFree(p), "free");
}

#ifdef TI_SIMT
/* The emulator then watches each block of the pool by itself. */
static void simt_block(void *user, void *p, size_t bytes, bool live)
{
    simt_mark(p, bytes, live, ((ti_device *)user)->stream);
}
#endif

static size_t cuda_room(void *user)
{
    const ti_device *d = user;
    size_t left = 0, total;

    if (d->failed[0] || cudaSetDevice(d->index) != cudaSuccess ||
        cudaMemGetInfo(&left, &total) != cudaSuccess)
        left = 0;
    (void)cudaGetLastError(); /* it only asked */
    return left;
}

static ti_memory cuda_memory(ti_device *d)
{
    return (ti_memory){
        .alloc = cuda_alloc,
        .free = cuda_free,
        .room = cuda_room,
#ifdef TI_SIMT
        .mark = simt_block,
#endif
        .user = d,
    };
}

/* ---- Copies ---- */

/* A staging buffer that no copy uses any more. */
static int free_stage(ti_device *d)
{
    const int i = d->next_stage;

    d->next_stage = (i + 1) % TI_STAGES;
    ti_cuda_check(d, cudaEventSynchronize(d->stage[i].done), "copy to the device");
    return i;
}

void ti_cuda_upload(ti_device *d, void *to, const void *from, size_t bytes)
{
    (void)cudaSetDevice(d->index);
    for (size_t at = 0, n; at < bytes && !d->failed[0]; at += n) {
        const int i = free_stage(d);

        n = bytes - at < stage_bytes ? bytes - at : stage_bytes;
        memcpy(d->stage[i].data, (const char *)from + at, n);
        ti_cuda_check(d,
                      cudaMemcpyAsync((char *)to + at, d->stage[i].data, n, cudaMemcpyHostToDevice,
                                      d->stream),
                      "copy to the device");
        ti_cuda_check(d, cudaEventRecord(d->stage[i].done, d->stream), "copy to the device");
    }
}

/* Two buffers in turn: one is filled while the other is emptied. */
void ti_cuda_download(ti_device *d, void *to, const void *from, size_t bytes)
{
    const char *what = "copy from the device";
    size_t asked = 0, n_last = 0;
    int last = -1;

    (void)cudaSetDevice(d->index);
    for (size_t got = 0; got < bytes && !d->failed[0];) {
        int i = -1;
        size_t n = 0;

        if (asked < bytes) {
            i = free_stage(d);
            n = bytes - asked < stage_bytes ? bytes - asked : stage_bytes;
            ti_cuda_check(d,
                          cudaMemcpyAsync(d->stage[i].data, (const char *)from + asked, n,
                                          cudaMemcpyDeviceToHost, d->stream),
                          what);
            ti_cuda_check(d, cudaEventRecord(d->stage[i].done, d->stream), what);
            asked += n;
        }
        if (last >= 0) {
            ti_cuda_check(d, cudaEventSynchronize(d->stage[last].done), what);
            memcpy((char *)to + got, d->stage[last].data, n_last);
            got += n_last;
        }
        last = i;
        n_last = n;
    }
    if (d->failed[0]) memset(to, 0, bytes);
}

static void cuda_copy(ti_device *d, void *to, const void *from, size_t bytes)
{
    (void)cudaSetDevice(d->index);
    if (bytes && !d->failed[0])
        ti_cuda_check(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, d->stream),
                      "copy");
}

static void cuda_zero(ti_device *d, void *to, size_t bytes)
{
    (void)cudaSetDevice(d->index);
    if (bytes && !d->failed[0])
        ti_cuda_check(d, cudaMemsetAsync(to, 0, bytes, d->stream), "fill with zeros");
}

/* ---- Waiting, faults ---- */

static const char *cuda_sync(ti_device *d)
{
    (void)cudaSetDevice(d->index);
    if (!d->failed[0]) ti_cuda_check(d, cudaStreamSynchronize(d->stream), "wait");
    d->n_recent = 0;
    return d->failed[0] ? d->failed : NULL;
}

static bool cuda_broken(const ti_device *d) { return d->failed[0] != 0; }

static void cuda_fault(ti_device *d, ti_fault *fault)
{
    ti_cuda_fault raised = {0};

    ti_cuda_download(d, &raised, d->fault, sizeof raised);
    if (!raised.call || d->failed[0]) return;
    if (!fault->raised)
        *fault = (ti_fault){.raised = 1,
                            .at = (int64_t)(~raised.low >> 32),
                            .value = (int64_t)(~raised.high << 32 | (~raised.low & 0xffffffffu)),
                            .limit = raised.limit,
                            .op = raised.op};
    cuda_zero(d, d->fault, sizeof raised);
}

static const char *cuda_isa(const ti_device *d) { return d->isa; }

/* The GPU, its multiprocessors, and each library with its version. */
static void cuda_hardware(ti_device *d, char *text, size_t room)
{
    struct cudaDeviceProp properties;
    tern_part part = {.found = false};
    size_t n;

    if (cudaGetDeviceProperties(&properties, d->index) != cudaSuccess) properties.name[0] = '\0';
    n = (size_t)snprintf(text, room, "%.80s, %d processors", properties.name, d->n_processors);
    for (int i = 0; n < room && ti_vendor_part(i, d->disabled, &part); i++)
        if (part.found) {
            n += (size_t)snprintf(text + n, room - n, ", %s %s", part.name, part.version);
            part.found = false;
        }
}

static bool cuda_threads(ti_device *d, int n)
{
    d->n_threads = n;
    return true;
}

static int cuda_thread_count(const ti_device *d) { return d->n_threads; }

static const ti_row *const *cuda_row_lists(const ti_device *d, int i_list)
{
    (void)d;
    return i_list == 0 ? ti_cuda_rows : i_list == 1 ? ti_vendor_rows : NULL;
}

static const ti_backend backend = {
    .name = backend_name,
    .open = cuda_open,
    .close = cuda_close,
    .memory = cuda_memory,
    .upload = ti_cuda_upload,
    .download = ti_cuda_download,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .broken = cuda_broken,
    .fault = cuda_fault,
    .capture_begin = ti_cuda_capture_begin,
    .capture_spoilt = ti_cuda_capture_spoilt,
    .capture_end = ti_cuda_capture_end,
    .graph_size = ti_cuda_graph_size,
    .graph_run = ti_cuda_graph_run,
    .graph_free = ti_cuda_graph_free,
    .stage_open = ti_cuda_stage_open,
    .stage_close = ti_cuda_stage_close,
    .stage_mark = ti_cuda_stage_mark,
    .stage_send = ti_cuda_stage_send,
    .stage_wait = ti_cuda_stage_wait,
    .note = ti_cuda_note,
    .noted = ti_cuda_noted,
    .host_memory = false,
    .computes = true,
    .isa = cuda_isa,
    .hardware = cuda_hardware,
    .threads = cuda_threads,
    .thread_count = cuda_thread_count,
    .rows = cuda_row_lists,
    .varies = ti_vendor_varies,
    .remark = ti_vendor_remark,
    .part = ti_vendor_part,
};

/* The plug-in's one symbol. */
__attribute__((visibility("default"))) const ti_backend *ti_plugin(const char *hash, char *why);
const ti_backend *ti_plugin(const char *hash, char *why)
{
    if (strcmp(hash, TI_CORE_HASH) == 0) return &backend;
    snprintf(why, WHY, "libtern_%s.so was built with other headers than this library",
             backend_name);
    return NULL;
}
