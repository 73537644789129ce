/*
 * cudart_device.cpp - the CUDA runtime's errors, devices and kernel attributes.
 *
 * Errors are of two kinds, as on a GPU. Wrong arguments and failed allocations are returned, and
 * cudaGetLastError clears them. A fault in a kernel is found when somebody waits; it stays, and
 * every later call returns it until cudaDeviceReset.
 */
#include <map>

#include "internal.h"

namespace simt
{

std::recursive_mutex big_lock;
cudaError_t sticky, absent;
int live_objects;
bool skipping;

static thread_local cudaError_t last;
static long fail_creation, n_creations, fail_kernel;
static std::map<const void *, size_t> &opted_in = *new std::map<const void *, size_t>;

cudaError_t fail(cudaError_t e)
{
    if (e != cudaSuccess) last = e;
    return e;
}

cudaError_t entry()
{
    if (host_function_runs()) return fail(cudaErrorNotPermitted);
    return fail(absent != cudaSuccess ? absent : sticky);
}

bool creation_fails()
{
    n_creations++;
    return fail_creation > 0 && --fail_creation == 0;
}

bool kernel_fails() { return fail_kernel > 0 && --fail_kernel == 0; }

/* Static and dynamic shared memory together: more than 48 KiB has to be asked for. */
size_t dynamic_limit(const void *function)
{
    auto it = opted_in.find(function);

    return it == opted_in.end() ? static_limit : it->second + shared_bytes(function);
}

} // namespace simt

using namespace simt;

namespace
{
struct Name {
    cudaError_t error;
    const char *name, *text;
};
} // namespace

static const Name names[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
    {cudaErrorHostMemoryAlreadyRegistered, "cudaErrorHostMemoryAlreadyRegistered",
     "part or all of the requested memory range is already mapped"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered",
     "pointer does not correspond to a registered memory region"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotPermitted, "cudaErrorNotPermitted", "operation not permitted"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureMerge, "cudaErrorStreamCaptureMerge",
     "operation would result in a merge of separate capture sequences"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

static const Name *name_of(cudaError_t e)
{
    for (const Name &n : names)
        if (n.error == e) return &n;
    return nullptr;
}

extern "C" {

cudaError_t cudaGetLastError(void)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    const cudaError_t e = last;

    last = sticky;
    return e;
}

cudaError_t cudaPeekAtLastError(void) { return last; }

const char *cudaGetErrorName(cudaError_t e)
{
    const Name *n = name_of(e);

    return n ? n->name : "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t e)
{
    const Name *n = name_of(e);

    return n ? n->text : "unrecognized error code";
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = absent != cudaSuccess ? 0 : CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);

    if (absent != cudaSuccess) return fail(absent); /* *n stays, as with the real one */
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    SIMT_ENTER;
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    SIMT_ENTER;
    return fail(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags)
{
    (void)device_flags;
    (void)flags;
    return cudaSetDevice(device);
}

/* Streams, events and memory of the old context are gone with it. */
cudaError_t cudaDeviceReset(void)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);

    if (absent != cudaSuccess) return fail(absent);
    sticky = last = cudaSuccess;
    reset_streams();
    reset_memory();
    return cudaSuccess;
}

/* No particular GPU: the limits that sm_75 and later share, few multiprocessors, so that small
 * tests meet grids that are smaller than their problem. */
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    SIMT_ENTER;
    if (device != 0) return fail(cudaErrorInvalidDevice);
    size_t left, total;
    cudaMemGetInfo(&left, &total);
    *p = cudaDeviceProp{};
    strcpy(p->name, "emulated CUDA device");
    p->totalGlobalMem = total;
    p->sharedMemPerBlock = static_limit;
    p->sharedMemPerBlockOptin = optin_limit;
    p->sharedMemPerMultiprocessor = optin_limit + 1024;
    p->reservedSharedMemPerBlock = 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = (int)lanes;
    p->maxThreadsPerBlock = (int)max_threads;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->multiProcessorCount = 4;
    p->major = 9;
    p->minor = 0;
    p->textureAlignment = 512;
    p->totalConstMem = 65536;
    p->l2CacheSize = 1 << 20;
    p->memoryBusWidth = 64;
    p->unifiedAddressing = 1;
    p->asyncEngineCount = 1;
    p->concurrentKernels = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;

    if (cudaError_t e = cudaGetDeviceProperties(&p, device)) return e;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
    case cudaDevAttrMaxGridDimX: *value = p.maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: *value = p.maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: *value = p.maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrWarpSize: *value = p.warpSize; break;
    case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
    case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
    case cudaDevAttrClockRate: *value = 1000000; break;       /* kHz, invented */
    case cudaDevAttrMemoryClockRate: *value = 1000000; break; /* kHz, invented */
    case cudaDevAttrGlobalMemoryBusWidth: *value = p.memoryBusWidth; break;
    case cudaDevAttrAsyncEngineCount: *value = p.asyncEngineCount; break;
    case cudaDevAttrUnifiedAddressing: *value = p.unifiedAddressing; break;
    case cudaDevAttrMemoryPoolsSupported: *value = 0; break;
    case cudaDevAttrCooperativeLaunch: *value = 0; break; /* blocks never wait for each other */
    default: return fail(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    SIMT_ENTER;
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device)
{
    SIMT_ENTER;
    if (device != 0 || bytes < 13) return fail(cudaErrorInvalidValue);
    strcpy(id, "0000:00:00.0");
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    SIMT_ENTER;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        (size_t)value + shared_bytes(function) > optin_limit)
        return fail(cudaErrorInvalidValue);
    opted_in[function] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, const void *function)
{
    SIMT_ENTER;
    *a = cudaFuncAttributes{};
    a->sharedSizeBytes = shared_bytes(function); /* as far as launches have shown */
    a->maxThreadsPerBlock = (int)max_threads;
    a->maxDynamicSharedSizeBytes = (int)(dynamic_limit(function) - shared_bytes(function));
    a->ptxVersion = a->binaryVersion = 90;
    return cudaSuccess;
}

/* By threads and shared memory; registers are not known here. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, const void *function, int block,
                                                          size_t dynamic)
{
    SIMT_ENTER;
    const size_t shared = shared_bytes(function) + dynamic + 1024;
    if (block < 1 || block > (int)max_threads) return fail(cudaErrorInvalidValue);
    *n = 2048 / block < 32 ? 2048 / block : 32;
    if ((size_t)*n > (optin_limit + 1024) / shared) *n = (int)((optin_limit + 1024) / shared);
    return cudaSuccess;
}

void simt_fail_creation(long nth) { fail_creation = nth; }
long simt_creations(void) { return n_creations; }
void simt_fail_kernel(long nth) { fail_kernel = nth; }
void simt_skip_kernels(int on) { skipping = on != 0; }
void simt_no_driver(int error) { absent = (cudaError_t)error; }
int simt_live_objects(void) { return live_objects; }

} /* extern "C" */
