/* selftest_host.cpp - the emulated runtime: streams, capture, errors, injected faults. */
#include <cmath>
#include <string>
#include <thread>

#include "selftest.h"

static void is(cudaError_t got, cudaError_t want, const char *what)
{
    expect(got == want, "%s: %s, not %s", what, cudaGetErrorName(got), cudaGetErrorName(want));
}

/* A producer in one stream, a consumer in another: right with an event, wrong at times without. */
static int wrong_runs(bool with_event)
{
    int wrong = 0;

    for (unsigned run = 0; run < 50; run++) {
        Buffer<float> a(std::vector<float>(64, 1.0f)), b(std::vector<float>(64, 0.0f));
        cudaStream_t s1, s2;
        cudaEvent_t e;
        std::vector<float> out(64);

        simt_seed(run);
        cudaStreamCreateWithFlags(&s1, cudaStreamNonBlocking);
        cudaStreamCreateWithFlags(&s2, cudaStreamNonBlocking);
        cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
        sample_axpy(a.d, a.d, 1.0f, 64, 0, s1); /* a = 2 */
        if (with_event) {
            cudaEventRecord(e, s1);
            cudaStreamWaitEvent(s2, e, 0);
        }
        sample_axpy(b.d, a.d, 1.0f, 64, 0, s2);
        cudaMemcpyAsync(out.data(), b.d, 256, cudaMemcpyDeviceToHost, s2);
        is(cudaStreamSynchronize(s2), cudaSuccess, "two streams");
        wrong += out[0] != 2.0f;
        cudaStreamDestroy(s1);
        cudaStreamDestroy(s2);
        cudaEventDestroy(e);
    }
    simt_seed(0);
    return wrong;
}

static void order_of_streams()
{
    const int without = wrong_runs(false), with = wrong_runs(true);

    expect(without > 5, "a missing wait shows in %d of 50 runs", without);
    expect(with == 0, "with the wait %d of 50 runs are wrong", with);

    /* A blocking stream and the legacy stream follow each other without events. */
    Buffer<float> a(std::vector<float>(64, 1.0f));
    cudaStream_t s;
    for (unsigned run = 0; run < 20; run++) {
        simt_seed(run);
        a.put(std::vector<float>(64, 1.0f));
        cudaStreamCreate(&s);
        sample_axpy(a.d, a.d, 1.0f, 64, 0, s);
        sample_scale4(a.d, a.d, 3.0f, 64, nullptr);
        sample_axpy(a.d, a.d, 1.0f, 64, 0, s);
        is(cudaStreamSynchronize(s), cudaSuccess, "legacy stream");
        expect(a.get()[63] == 12.0f, "the legacy stream waits");
        cudaStreamDestroy(s);
    }
    simt_seed(0);
}

/* Pageable memory may be changed once the call is back; pinned memory may not. */
static void host_memory()
{
    Buffer<float> a(4);
    std::vector<float> pages{1, 2, 3, 4};
    float *pinned;
    cudaStream_t s;

    cudaStreamCreate(&s);
    cudaMemcpyAsync(a.d, pages.data(), 16, cudaMemcpyHostToDevice, s);
    pages[0] = 9;
    is(cudaStreamSynchronize(s), cudaSuccess, "pageable copy");
    expect(a.get()[0] == 1.0f, "pageable memory was read at the call");
    is(cudaMallocHost((void **)&pinned, 16), cudaSuccess, "pinned memory");
    for (int i = 0; i < 4; i++) pinned[i] = (float)i;
    cudaMemcpyAsync(a.d, pinned, 16, cudaMemcpyHostToDevice, s);
    pinned[0] = 9;
    cudaStreamSynchronize(s);
    expect(a.get()[0] == 9.0f, "pinned memory is read later");
    cudaMemcpyAsync(pinned, a.d, 16, cudaMemcpyDeviceToHost, s);
    expect(pinned[1] == 1.0f && cudaStreamSynchronize(s) == cudaSuccess && pinned[0] == 9.0f,
           "and written by the wait");
    is(cudaMemcpy(pages.data(), pages.data(), 16, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
       "a wrong kind");
    is(cudaMemcpy(a.d, pages.data(), 20, cudaMemcpyHostToDevice), cudaErrorInvalidValue,
       "a copy too long");
    is(cudaFree(pages.data()), cudaErrorInvalidValue, "a free of host memory");
    cudaGetLastError();
    cudaFreeHost(pinned);
    cudaStreamDestroy(s);
}

static void replays()
{
    Buffer<float> a(std::vector<float>(64, 1.0f)), b(std::vector<float>(64, 0.0f));
    Buffer<float> c(std::vector<float>(64, 0.0f));
    cudaStream_t s, side;
    cudaEvent_t fork, join;
    cudaGraph_t g;
    cudaGraphExec_t x;
    size_t n;

    cudaStreamCreate(&s);
    cudaStreamCreate(&side);
    cudaEventCreate(&fork);
    cudaEventCreate(&join);
    is(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal), cudaSuccess, "begin");
    sample_axpy(b.d, a.d, 1.0f, 64, 0, s);
    cudaEventRecord(fork, s);
    cudaStreamWaitEvent(side, fork, 0);
    sample_axpy(c.d, b.d, 1.0f, 64, 0, side);
    cudaEventRecord(join, side);
    sample_axpy(a.d, a.d, 0.0f, 64, 0, s);
    cudaStreamWaitEvent(s, join, 0);
    sample_axpy(b.d, c.d, 0.0f, 64, 0, s);
    is(cudaStreamEndCapture(s, &g), cudaSuccess, "end");
    expect(cudaGraphGetNodes(g, nullptr, &n) == cudaSuccess && n == 4, "four nodes");
    is(cudaGraphInstantiate(&x, g, 0), cudaSuccess, "instantiate");
    expect(b.get()[0] == 0.0f, "a capture runs nothing");
    for (int i = 0; i < 10; i++) is(cudaGraphLaunch(x, s), cudaSuccess, "launch");
    is(cudaStreamSynchronize(s), cudaSuccess, "ten replays");
    expect(b.get()[5] == 10.0f && c.get()[5] == 55.0f, "ten replays: %g %g", (double)b.get()[5],
           (double)c.get()[5]);
    cudaGraphDestroy(g);
    cudaGraphExecDestroy(x);
    cudaEventDestroy(fork);
    cudaEventDestroy(join);
    cudaStreamDestroy(side);
    cudaStreamDestroy(s);
}

/* What a capture forbids fails there, and the capture with it. */
static void forbidden()
{
    cudaStream_t s, t;
    cudaEvent_t e;
    cudaGraph_t g;
    void *p;
    float host[4];
    Buffer<float> a(std::vector<float>(64, 1.0f));

    cudaStreamCreate(&s);
    cudaStreamCreate(&t);
    cudaEventCreate(&e);
    for (int what = 0; what < 8; what++) {
        cudaError_t want = cudaErrorStreamCaptureUnsupported, got = cudaSuccess;
        cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
        switch (what) {
        case 0: got = cudaMalloc(&p, 4); break;
        case 1: got = cudaStreamSynchronize(s); break;
        case 2: got = cudaDeviceSynchronize(); break;
        case 3: got = cudaFree(a.d); break;
        case 4: got = cudaMemcpy(host, a.d, 16, cudaMemcpyDeviceToHost); break;
        case 5: got = cudaStreamQuery(s); break;
        case 6:
            sample_axpy(a.d, a.d, 1.0f, 64, 0, nullptr);
            got = cudaGetLastError();
            want = cudaErrorStreamCaptureImplicit;
            break;
        case 7:
            cudaEventRecord(e, t);
            got = cudaStreamWaitEvent(s, e, 0);
            want = cudaErrorStreamCaptureIsolation;
            break;
        }
        expect(got == want, "forbidden %d: %s", what, cudaGetErrorName(got));
        is(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureInvalidated, "its end");
    }
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    is(cudaMemcpyAsync(host, a.d, 16, cudaMemcpyDeviceToHost, s), cudaErrorStreamCaptureUnsupported,
       "pageable memory in a capture");
    cudaError_t elsewhere = cudaSuccess;
    std::thread([&] { elsewhere = cudaMalloc(&p, 4); }).join();
    is(elsewhere, cudaErrorStreamCaptureUnsupported, "an allocation by another thread");
    cudaStreamEndCapture(s, &g);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal);
    std::thread([&] { elsewhere = cudaMalloc(&p, 4); }).join();
    is(elsewhere, cudaSuccess, "which a local capture allows");
    is(cudaStreamEndCapture(s, &g), cudaSuccess, "its end");
    cudaFree(p);
    cudaGraphDestroy(g);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    sample_axpy(a.d, a.d, 1.0f, 64, 0, s);
    cudaEventRecord(e, s);
    cudaStreamWaitEvent(t, e, 0);
    sample_axpy(a.d, a.d, 1.0f, 64, 0, t);
    is(cudaEventSynchronize(e), cudaErrorCapturedEvent, "a wait for a captured event");
    is(cudaStreamEndCapture(s, &g), cudaErrorStreamCaptureUnjoined, "a branch left open");
    cudaGetLastError();
    cudaEventDestroy(e);
    cudaStreamDestroy(t);
    cudaStreamDestroy(s);
}

static void kinds_of_errors()
{
    Buffer<float> a(std::vector<float>(64, 1.0f));
    cudaDeviceProp prop;
    int n = -7;

    /* A wrong launch is told at once and can be cleared. */
    bug_run(40, a.d, 64, 1, 2048, 0, nullptr);
    is(cudaPeekAtLastError(), cudaErrorInvalidConfiguration, "2048 threads");
    is(cudaGetLastError(), cudaErrorInvalidConfiguration, "2048 threads");
    is(cudaGetLastError(), cudaSuccess, "cleared");
    is(cudaDeviceSynchronize(), cudaSuccess, "not sticky");

    simt_skip_kernels(1);
    sample_axpy(a.d, a.d, 1.0f, 64, 0, nullptr);
    bug_run(40, a.d, 64, 1, 2048, 0, nullptr);
    is(cudaGetLastError(), cudaErrorInvalidConfiguration, "2048 threads of a kernel left out");
    simt_skip_kernels(0);
    is(cudaDeviceSynchronize(), cudaSuccess, "a kernel left out");
    expect(a.get() == std::vector<float>(64, 1.0f), "it writes nothing");

    simt_fail_kernel(2);
    sample_axpy(a.d, a.d, 1.0f, 64, 0, nullptr);
    is(cudaDeviceSynchronize(), cudaSuccess, "the first kernel lives");
    sample_axpy(a.d, a.d, 1.0f, 64, 0, nullptr);
    is(cudaGetLastError(), cudaSuccess, "the fault comes late");
    is(cudaDeviceSynchronize(), cudaErrorLaunchFailure, "the second one dies");
    is(cudaMalloc((void **)&a.d, 4), cudaErrorLaunchFailure, "and everything after it");
    is(cudaGetLastError(), cudaErrorLaunchFailure, "sticky");
    is(cudaGetLastError(), cudaErrorLaunchFailure, "sticky");
    is(cudaDeviceReset(), cudaSuccess, "reset");
    a.d = nullptr;

    simt_no_driver(cudaErrorInsufficientDriver);
    is(cudaGetDeviceCount(&n), cudaErrorInsufficientDriver, "no driver");
    expect(n == -7, "the count stays as it was");
    is(cudaSetDevice(0), cudaErrorInsufficientDriver, "no driver");
    simt_no_driver(0);
    cudaGetLastError();
    is(cudaGetDeviceCount(&n), cudaSuccess, "driver");
    is(cudaSetDevice(1), cudaErrorInvalidDevice, "device 1");
    is(cudaGetDeviceProperties(&prop, 0), cudaSuccess, "properties");
    expect(n == 1 && prop.warpSize == 32 && prop.sharedMemPerBlockOptin == 227 << 10, "figures");
    cudaGetLastError();
}

/* Every creation fails once; what was made before it is given back, and nothing is lost. */
static void injected()
{
    void *p = nullptr, *q = nullptr;
    cudaStream_t s = nullptr;
    cudaEvent_t e = nullptr;

    for (long nth = 1; nth <= 5; nth++) {
        const size_t bytes = simt_live_bytes();
        const int objects = simt_live_objects();
        simt_fail_creation(nth);
        cudaError_t err = cudaMalloc(&p, 100);
        if (!err) err = cudaStreamCreate(&s);
        if (!err) err = cudaEventCreate(&e);
        if (!err) err = cudaMallocHost(&q, 100);
        is(err, nth < 5 ? cudaErrorMemoryAllocation : cudaSuccess, "injected");
        simt_fail_creation(0);
        cudaGetLastError();
        if (p) cudaFree(p);
        if (s) cudaStreamDestroy(s);
        if (e) cudaEventDestroy(e);
        if (q) cudaFreeHost(q);
        p = q = nullptr;
        s = nullptr;
        e = nullptr;
        expect(simt_live_bytes() == bytes && simt_live_objects() == objects, "all given back");
    }
    simt_limit_memory(1 << 20);
    is(cudaMalloc(&p, 2 << 20), cudaErrorMemoryAllocation, "too much");
    is(cudaMalloc(&p, 1 << 19), cudaSuccess, "the next smaller one");
    cudaFree(p);
    simt_limit_memory(0);
    cudaGetLastError();
}

static void call_back(void *data) { *static_cast<cudaError_t *>(data) = cudaDeviceSynchronize(); }

static void host_function()
{
    cudaError_t seen = cudaSuccess;

    cudaLaunchHostFunc(nullptr, call_back, &seen);
    is(cudaDeviceSynchronize(), cudaSuccess, "a function of the host");
    is(seen, cudaErrorNotPermitted, "which calls the runtime");
    cudaGetLastError();
}

void test_host()
{
    order_of_streams();
    host_memory();
    replays();
    forbidden();
    kinds_of_errors();
    injected();
    host_function();
    expect(simt_errors() == 0, "%d reports", simt_errors());
    expect(simt_live_bytes() == 0 && simt_live_objects() == 0, "%zu bytes and %d objects are left",
           simt_live_bytes(), simt_live_objects());
}
