/*
 * selftest.cpp - the emulator checks itself: `samples` computes with right kernels under several
 * orders of threads, `bugs` wants every deliberate bug reported, `host` is selftest_host.cpp.
 */
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "selftest.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>

static uint32_t seed = 1;

static uint32_t next_random()
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static std::vector<float> random_floats(size_t n)
{
    std::vector<float> v(n);

    for (float &x : v) x = (float)((int)(next_random() % 2001) - 1000) / 500.0f;
    return v;
}

static void close_to(const char *what, const std::vector<float> &got,
                     const std::vector<double> &want, double bound)
{
    for (size_t i = 0; i < want.size(); i++)
        if (!(std::fabs((double)got[i] - want[i]) <= bound)) {
            expect(false, "%s: element %zu is %g, not %g", what, i, (double)got[i], want[i]);
            return;
        }
    expect(true, "%s", what);
}

static void elementwise()
{
    for (int64_t n : {0, 1, 255, 256, 257, 10007}) {
        const std::vector<float> x = random_floats((size_t)n + 1), y = random_floats((size_t)n + 1);
        std::vector<double> want(y.begin(), y.end());
        for (unsigned grid : {0u, 1u, 7u}) {
            Buffer<float> dx(x), dy(y);
            for (int64_t i = 0; i < n; i++)
                want[(size_t)i] = y[(size_t)i] + (double)(3.0f * x[(size_t)i]);
            sample_axpy(dy.d, dx.d, 3.0f, n, grid, nullptr);
            close_to("axpy", dy.get(), want, 1e-5);
        }
        for (size_t i = 0; i < (size_t)n; i++) want[i] = 2.0 * x[i];
        want.resize((size_t)n);
        std::vector<float> aligned(x.begin(), x.begin() + n);
        if (!n) continue;
        Buffer<float> dx(aligned), dy((size_t)n);
        sample_scale4(dy.d, dx.d, 2.0f, n, nullptr);
        close_to("scale4", dy.get(), want, 0);
    }
}

static void gemm()
{
    const int m = 70, n = 50, k = 33;
    const std::vector<float> a = random_floats((size_t)(m * k)), b = random_floats((size_t)(k * n));
    std::vector<double> want((size_t)(m * n));

    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            for (int p = 0; p < k; p++)
                want[(size_t)(i * n + j)] +=
                    (double)a[(size_t)(i * k + p)] * b[(size_t)(p * n + j)];
    Buffer<float> da(a), db(b), dc((size_t)(m * n));
    sample_gemm(dc.d, da.d, db.d, m, n, k, nullptr);
    close_to("gemm", dc.get(), want, 1e-4);
}

static void rows()
{
    const int r = 5, c = 1000;
    const std::vector<float> x = random_floats((size_t)(r * c));
    std::vector<double> want((size_t)(r * c));

    for (int i = 0; i < r; i++) {
        const float *row = &x[(size_t)(i * c)];
        double most = -INFINITY, sum = 0;
        for (int j = 0; j < c; j++) most = std::fmax(most, row[j]);
        for (int j = 0; j < c; j++) sum += std::exp(row[j] - most);
        for (int j = 0; j < c; j++) want[(size_t)(i * c + j)] = std::exp(row[j] - most) / sum;
    }
    Buffer<float> dx(x), dy((size_t)(r * c));
    sample_softmax(dy.d, dx.d, r, c, nullptr);
    close_to("softmax", dy.get(), want, 1e-6);

    std::vector<double> turned(3 * 5 * 6);
    for (int k = 0; k < 3; k++)
        for (int j = 0; j < 5; j++)
            for (int i = 0; i < 6; i++)
                turned[(size_t)((i * 5 + j) * 3 + k)] = x[(size_t)((k * 5 + j) * 6 + i)];
    Buffer<float> dt(90);
    sample_transpose3(dt.d, dx.d, 3, 5, 6, nullptr);
    close_to("transpose in three dimensions", dt.get(), turned, 0);
}

static void counts()
{
    const int bins = 37, n = 5000;
    std::vector<int> x((size_t)n), want((size_t)bins), signs(200);
    std::vector<unsigned> mask(7);

    for (int &v : x) want[(size_t)(v = (int)(next_random() % bins))]++;
    Buffer<int> dx(x), dh(std::vector<int>((size_t)bins, 0));
    sample_histogram(dh.d, dx.d, bins, n, nullptr);
    expect(dh.get() == want, "histogram");

    for (size_t i = 0; i < 200; i++) {
        signs[i] = (int)(next_random() % 3) - 1;
        if (signs[i] > 0) mask[i / 32] |= 1u << i % 32;
    }
    Buffer<int> ds(signs);
    Buffer<unsigned> dm(7);
    sample_mask(dm.d, ds.d, 200, nullptr);
    expect(dm.get() == mask, "votes");

    Buffer<float> ones(std::vector<float>(20000, 1.0f)), parts(16), sum(1);
    Buffer<unsigned> ticket(std::vector<unsigned>{0});
    sample_sum(sum.d, parts.d, ticket.d, ones.d, 20000, 16, nullptr);
    expect(sum.get()[0] == 20000.0f, "the last block's sum");
}

static void halves()
{
    std::vector<uint16_t> h(1000);
    std::vector<double> want(1000);

    for (int bf16 = 0; bf16 < 2; bf16++) {
        for (int i = 0; i < 1000; i++) {
            const float f = (float)(i - 500) * 0.37f;
            const __half a = __float2half(f);
            const __nv_bfloat16 b = __float2bfloat16(f);
            memcpy(&h[(size_t)i], bf16 ? (const void *)&b : (const void *)&a, 2);
            want[(size_t)i] = bf16 ? __bfloat162float(b) : __half2float(a);
        }
        Buffer<uint16_t> dh(h);
        Buffer<float> out(1000);
        sample_to_float(out.d, dh.d, bf16, 1000, nullptr);
        close_to(bf16 ? "bf16" : "half", out.get(), want, 0);
    }
}

static void collectives()
{
    Buffer<int> out(640);

    sample_warps(out.d, nullptr);
    const std::vector<int> got = out.get();
    for (int t = 0; t < 64; t++) {
        const int lane = t % 32, base = t - lane;
        const int want[10] = {
            base + lane / 8 * 8 + 5,
            lane % 16 >= 3 ? t - 3 : t,
            lane < 30 ? t + 2 : t,
            t ^ 1,
            1,
            0xff << lane / 8 * 8,
            22,
            1,
            lane < 16 ? 2 * t + 16 : t,
            base + (lane < 16 ? 15 - lane : 16 + 31 - lane),
        };
        for (int kind = 0; kind < 10; kind++)
            expect(got[(size_t)(kind * 64 + t)] == want[kind],
                   "collective %d, thread %d: %d, not %d", kind, t, got[(size_t)(kind * 64 + t)],
                   want[kind]);
    }
}

static void shared_limits()
{
    Buffer<float> y(1);

    expect(sample_dynamic(y.d, 48 << 10, 0, nullptr) == cudaSuccess, "48 KiB");
    expect(y.get()[0] == 12287.0f, "the last of 48 KiB");
    expect(sample_dynamic(y.d, (48 << 10) + 4, 0, nullptr) == cudaErrorInvalidValue, "and no more");
    expect(sample_dynamic(y.d, 227 << 10, 1, nullptr) == cudaSuccess, "227 KiB when asked for");
    expect(sample_dynamic(y.d, (227 << 10) + 4, 1, nullptr) == cudaErrorInvalidValue,
           "and no more");
    cudaGetLastError();
}

static void test_samples()
{
    for (unsigned order = 0; order < 4; order++) {
        simt_seed(order);
        simt_protect(order == 1);
        elementwise();
        gemm();
        rows();
        counts();
        halves();
        collectives();
    }
    shared_limits();
    simt_seed(0);
    expect(simt_errors() == 0, "clean kernels were reported %d times", simt_errors());
    expect(simt_live_bytes() == 0, "%zu bytes are left", simt_live_bytes());
}

struct Bug {
    int which;
    const char *report; /* words of the report */
    bool needs_checker; /* invisible in the results' way */
    cudaError_t error;  /* of the wait that finds it */
    int blocks, threads;
    size_t dynamic;
};

static const Bug bugs[] = {
    {0, "write of 4 bytes outside device memory", true, cudaErrorIllegalAddress, 1, 64, 0},
    {1, "past the end of shared s", true, cudaErrorIllegalAddress, 1, 64, 0},
    {2, "read of 4 bytes outside device memory", true, cudaErrorIllegalAddress, 1, 64, 0},
    {3, "write of 4 bytes outside device memory", true, cudaErrorIllegalAddress, 1, 64, 0},
    {4, "race: read", true, cudaErrorAssert, 1, 64, 0},
    {5, "read of unwritten memory", true, cudaErrorAssert, 1, 64, 0},
    {6, "read of unwritten memory", true, cudaErrorAssert, 1, 64, 0},
    {7, "race: write", true, cudaErrorAssert, 1, 64, 0},
    {8, "of another block", true, cudaErrorAssert, 3, 64, 0},
    {9, "race: ", true, cudaErrorAssert, 1, 64, 0},
    {10, "of another block", true, cudaErrorAssert, 3, 64, 0},
    {11, "misaligned access", true, cudaErrorMisalignedAddress, 1, 64, 0},
#ifdef SIMT_PTX /* nvcc gives device globals memory, and its code no longer knows types or signs */
    {12, "race: write", true, cudaErrorAssert, 1, 64, 0},
    {15, "past the end of shared s", true, cudaErrorIllegalAddress, 1, 64, 0},
#else
    {12, "write of 4 bytes outside device memory", true, cudaErrorIllegalAddress, 1, 64, 0},
    {15, "index 64 out of bounds", true, cudaErrorIllegalAddress, 1, 64, 0},
    {16, "signed sum overflows", true, cudaErrorAssert, 1, 64, 0},
    {41, "static shared memory: 49156 bytes", false, cudaErrorInvalidValue, 1, 64, 0},
#endif
    {13, "race: write", true, cudaErrorAssert, 1, 64, 0},
    {14, "race: write", true, cudaErrorAssert, 1, 64, 0},
    {17, "misaligned access", true, cudaErrorMisalignedAddress, 1, 64, 0},
    {20, "of another block", true, cudaErrorAssert, 4, 64, 0},
    {21, "of another block", true, cudaErrorAssert, 4, 64, 0},
    {30, "divergent __syncthreads: thread 0 waits", false, cudaErrorLaunchFailure, 1, 64, 0},
    {31, "deadlock", false, cudaErrorLaunchFailure, 1, 64, 0},
    {32, "reads lane 16, which is not in the mask", false, cudaErrorAssert, 1, 64, 0},
    {33, "the calling lane is not in its mask", false, cudaErrorLaunchFailure, 1, 64, 0},
    {34, "names lanes that have exited", false, cudaErrorAssert, 1, 32, 0},
    {35, "no power of two", false, cudaErrorLaunchFailure, 1, 64, 0},
    {36, "deadlock", false, cudaErrorLaunchFailure, 1, 64, 0},
    {37, "__trap", false, cudaErrorLaunchFailure, 1, 64, 0},
    {40, "64 threads in a block whose bound", false, cudaErrorLaunchOutOfResources, 1, 64, 0},
    {42, "past the end of shared dynamic shared memory", true, cudaErrorIllegalAddress, 1, 64, 128},
};

struct Heard {
    std::string all;
};

static void hear(const char *text, void *data)
{
    static_cast<Heard *>(data)->all += std::string(text) + "\n";
}

static void test_bug(const Bug &b, unsigned order)
{
    const int n = 128;
    Heard heard;
    float *g;

    simt_seed(order);
    cudaMalloc(reinterpret_cast<void **>(&g), n * sizeof(float));
    cudaMemset(g, 0, (n - (b.which == 6 ? 1 : 0)) * sizeof(float));
    cudaDeviceSynchronize();
    simt_errors_clear();
    simt_on_report(hear, &heard);
    bug_run(b.which, g, n, b.blocks, b.threads, b.dynamic, nullptr);
    const cudaError_t launched = cudaGetLastError(), e = cudaDeviceSynchronize();
    simt_on_report(nullptr, nullptr);
    const bool words = heard.all.find(b.report) != std::string::npos;
    const bool place = heard.all.find("bugs.cu:") != std::string::npos ||
                       strstr(b.report, "static shared") != nullptr;
    const bool who = heard.all.find("block (") != std::string::npos;
    expect(launched == cudaSuccess, "bug %d: the launch fails at once", b.which);
    expect(words && place && who && simt_errors() > 0,
           "bug %d, order %u: wanted \"%s\", heard:\n%s", b.which, order, b.report,
           heard.all.c_str());
    expect(e == b.error, "bug %d: error %s, not %s", b.which, cudaGetErrorName(e),
           cudaGetErrorName(b.error));
    expect(cudaGetLastError() == e && cudaDeviceSynchronize() == e, "bug %d: it stays", b.which);
    expect(cudaDeviceReset() == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess,
           "bug %d: the reset clears it", b.which);
}

/* Pieces of a pool: what is handed out may be touched, what is taken back may not. */
static void test_pieces()
{
    Heard heard;
    char *p;

    simt_on_report(hear, &heard);
    cudaMalloc(reinterpret_cast<void **>(&p), 4096);
    simt_mark(p, 512, 1, nullptr);
    cudaMemset(p, 0, 512);
    bug_run(0, reinterpret_cast<float *>(p), 0, 1, 64, 0, nullptr); /* writes [0, 256) */
    expect(cudaDeviceSynchronize() == cudaSuccess, "a piece: %s", heard.all.c_str());
    bug_run(0, reinterpret_cast<float *>(p), 80, 1, 64, 0, nullptr); /* writes [320, 576) */
    expect(cudaDeviceSynchronize() == cudaErrorIllegalAddress, "past a piece");
    cudaDeviceReset();
    cudaMalloc(reinterpret_cast<void **>(&p), 4096);
    simt_mark(p, 512, 1, nullptr);
    bug_run(0, reinterpret_cast<float *>(p), 0, 1, 64, 0, nullptr);
    simt_mark(p, 512, 0, nullptr);
    expect(cudaDeviceSynchronize() == cudaSuccess, "a piece is given back in the stream's order");
    bug_run(0, reinterpret_cast<float *>(p), 0, 1, 64, 0, nullptr);
    expect(cudaDeviceSynchronize() == cudaErrorIllegalAddress, "a piece given back");
    cudaDeviceReset();
    simt_on_report(nullptr, nullptr);
}

static void test_bugs()
{
    int left_out = 0;

    for (const Bug &b : bugs)
        for (unsigned order = 0; order < 3; order++) {
            if (b.needs_checker && !simt_checked()) left_out++;
            else if (b.which != 41 || !order) test_bug(b, order); /* known, it fails earlier */
        }
    if (simt_checked()) test_pieces();
    printf("%d deliberate bugs need the checker, which is not built in here\n", left_out / 3);
}

int main(int argc, char **argv)
{
    const std::string group = argc > 1 ? argv[1] : "";

    if (group == "samples") test_samples();
    if (group == "bugs") test_bugs();
    if (group == "host") test_host();
    if (group == "tiles") test_tiles();
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed != 0 || n_passed == 0;
}
