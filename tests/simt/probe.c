/*
 * probe.c - a plug-in's host side in small, in C: what tern_simt_plugin() makes must load, run a
 * kernel, and show nothing but its own symbol. Compiled with PROBE_OPENS it is the program that
 * opens the plug-ins named on its command line.
 */
#ifdef PROBE_OPENS

#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        void *lib = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        int (*run)(void) = 0, (*errors)(void) = 0;

        if (!lib) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        *(void **)&run = dlsym(lib, "probe_run");
        *(void **)&errors = dlsym(lib, "simt_errors");
        if (!run || !errors || dlsym(lib, "cudaMalloc") || dlsym(lib, "sample_axpy")) {
            fprintf(stderr, "%s: wrong symbols\n", argv[i]);
            return 1;
        }
        if (run() || errors()) {
            fprintf(stderr, "%s: wrong result\n", argv[i]);
            return 1;
        }
        /* It stays open: what its globals hold for good is then no leak. */
    }
    return argc < 2;
}

#else

#include "samples.h"

__attribute__((visibility("default"))) int probe_run(void);

/* 0 if y = 1 + 2 * 3 comes back in all elements. */
int probe_run(void)
{
    float x[100], y[100], *dx = 0, *dy = 0;
    int bad = 0;

    for (int i = 0; i < 100; i++) {
        x[i] = 3.0f;
        y[i] = 1.0f;
    }
    bad |= cudaMalloc((void **)&dx, sizeof x) || cudaMalloc((void **)&dy, sizeof y);
    bad |= cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice) != cudaSuccess;
    bad |= cudaMemcpy(dy, y, sizeof y, cudaMemcpyHostToDevice) != cudaSuccess;
    sample_axpy(dy, dx, 2.0f, 100, 0, 0);
    bad |= cudaMemcpy(y, dy, sizeof y, cudaMemcpyDeviceToHost) != cudaSuccess;
    for (int i = 0; i < 100; i++) bad |= y[i] != 7.0f;
    bad |= cudaFree(dx) || cudaFree(dy);
    return bad;
}

#endif
