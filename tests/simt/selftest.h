/* selftest.h - what the emulator's self-tests share. */
#ifndef SIMT_SELFTEST_H
#define SIMT_SELFTEST_H

#include <cstdio>
#include <vector>

#include "control.h"
#include "expect.h"
#include "samples.h"

template <class T> struct Buffer { /* device memory for the length of a scope */
    T *d = nullptr;
    size_t n;

    explicit Buffer(size_t count) : n(count)
    {
        const cudaError_t e = cudaMalloc(reinterpret_cast<void **>(&d), n * sizeof(T));
        if (e != cudaSuccess) expect(false, "cudaMalloc: %s", cudaGetErrorName(e));
    }
    explicit Buffer(const std::vector<T> &h) : Buffer(h.size()) { put(h); }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { cudaFree(d); }
    void put(const std::vector<T> &h)
    {
        cudaMemcpy(d, h.data(), h.size() * sizeof(T), cudaMemcpyHostToDevice);
    }
    std::vector<T> get()
    {
        std::vector<T> h(n);
        const cudaError_t e = cudaMemcpy(h.data(), d, n * sizeof(T), cudaMemcpyDeviceToHost);
        if (e != cudaSuccess) expect(false, "cudaMemcpy: %s", cudaGetErrorName(e));
        return h;
    }
};

void test_host();  /* selftest_host.cpp: streams, graphs, errors, injected faults */
void test_tiles(); /* selftest_tiles.cpp: mma.cuh */

#endif /* SIMT_SELFTEST_H */
