/*
 * library.c - finds the vendor's libraries, loads what Tern calls of them, and describes them.
 *
 * Nothing here needs a device. Libraries stay in the process once opened: they do not bear being
 * unloaded.
 */
#include <dlfcn.h>
#include <glob.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "vendor.h"

#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x

/* soname NULL: the headers were missing when this was built. */
static const struct {
    const char *name, *soname, *header;
} libraries[TI_LIBRARIES] = {
#ifdef TI_WITH_CUBLASLT
    {"cublaslt", "libcublasLt.so." TEXT_OF(CUBLAS_VER_MAJOR), "cublasLt.h"},
#else
    {"cublaslt", NULL, "cublasLt.h"},
#endif
#ifdef TI_WITH_CUDNN
    {"cudnn", "libcudnn.so." TEXT_OF(CUDNN_MAJOR), "cudnn.h"},
#else
    {"cudnn", NULL, "cudnn.h"},
#endif
};

/* ---- Finding ---- */

/* A library for the emulated device says so by this function, which gets what stands in for a
 * kernel launch. The true libraries would take the emulator's memory for a GPU's. */
#ifdef TI_SIMT
typedef int (*simt_entry)(cudaError_t (*launch)(cudaStream_t, cudaHostFn_t, void *));

static bool suits(void *lib)
{
    simt_entry entry;

    *(void **)&entry = dlsym(lib, "simt_vendor");
    return entry && entry(cudaLaunchHostFunc) == 0;
}
#else
static bool suits(void *lib)
{
    (void)lib;
    return true;
}
#endif

static void *open_at(const char *path)
{
    void *lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);

    if (!lib || suits(lib)) return lib;
    dlclose(lib);
    return NULL;
}

#ifndef TI_SIMT
/* The first library that a pattern of folders leads to. */
static void *open_in(const char *pattern, const char *soname)
{
    glob_t found;
    char path[1200];
    void *lib = NULL;

    snprintf(path, sizeof path, "%s/%s", pattern, soname);
    if (glob(path, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc && !lib; i++) lib = open_at(found.gl_pathv[i]);
        globfree(&found);
    }
    return lib;
}

static void *open_in_toolkit(const char *soname)
{
    static const char *const names[] = {"CUDA_HOME", "CUDA_PATH"};
    static const char *const usual[] = {"/usr/local/cuda/lib64", "/opt/cuda/lib64"};
    void *lib = NULL;

    for (int i = 0; i < 2 && !lib; i++) {
        const char *home = ti_env_get(names[i]);
        char folder[1024];

        if (!home || !*home || strlen(home) > 900) continue;
        snprintf(folder, sizeof folder, "%s/lib64", home);
        lib = open_in(folder, soname);
    }
    for (int i = 0; i < 2 && !lib; i++) lib = open_in(usual[i], soname);
    return lib;
}

/* Beside each folder of $PATH with a python3 in it, and in the user's own packages. */
static void *open_in_python(const char *soname)
{
    static const char *const beside[] = {
        "../lib/python3*/site-packages", "../lib/python3*/dist-packages",
        "../lib/python3/dist-packages", "../versions/*/lib/python3*/site-packages"};
    const char *path = ti_env_get("PATH"), *home = ti_env_get("HOME");
    char pattern[1024];
    void *lib = NULL;

    while (path && *path && !lib) {
        const size_t n = strcspn(path, ":");

        snprintf(pattern, sizeof pattern, "%.*s/python3", (int)n, path);
        glob_t python;
        const bool there = n > 0 && n < 800 && glob(pattern, 0, NULL, &python) == 0;
        if (there) globfree(&python);
        for (int i = 0; there && i < 4 && !lib; i++) {
            snprintf(pattern, sizeof pattern, "%.*s/%s/nvidia/*/lib", (int)n, path, beside[i]);
            lib = open_in(pattern, soname);
        }
        path += n + (path[n] == ':');
    }
    if (!lib && home && *home && strlen(home) < 800) {
        snprintf(pattern, sizeof pattern, "%s/.local/lib/python3*/site-packages/nvidia/*/lib",
                 home);
        lib = open_in(pattern, soname);
    }
    return lib;
}
#endif

static void *find(const char *soname)
{
    void *lib = open_at(soname);

#ifndef TI_SIMT
    if (!lib) lib = open_in_toolkit(soname);
    if (!lib) lib = open_in_python(soname);
#endif
    return lib;
}

/* ---- Functions by name ---- */

typedef struct {
    const char *name;
    size_t at;
} symbol;

/* All of them into a table; the first that is missing, or NULL. */
static const char *load(void *to, void *lib, const symbol *symbols)
{
    for (; symbols->name; symbols++) {
        void *f = dlsym(lib, symbols->name);

        if (!f) return symbols->name;
        memcpy((char *)to + symbols->at, &f, sizeof f);
    }
    return NULL;
}

#ifdef TI_WITH_CUBLASLT
static const symbol cublaslt_symbols[] = {
    {"cublasLtGetVersion", offsetof(ti_cublaslt, version)},
    {"cublasLtCreate", offsetof(ti_cublaslt, create)},
    {"cublasLtDestroy", offsetof(ti_cublaslt, destroy)},
    {"cublasLtGetStatusString", offsetof(ti_cublaslt, status_text)},
    {"cublasLtMatmulDescInit_internal", offsetof(ti_cublaslt, desc_init)},
    {"cublasLtMatmulDescSetAttribute", offsetof(ti_cublaslt, desc_set)},
    {"cublasLtMatrixLayoutInit_internal", offsetof(ti_cublaslt, layout_init)},
    {"cublasLtMatrixLayoutSetAttribute", offsetof(ti_cublaslt, layout_set)},
    {"cublasLtMatmulPreferenceInit_internal", offsetof(ti_cublaslt, preference_init)},
    {"cublasLtMatmulPreferenceSetAttribute", offsetof(ti_cublaslt, preference_set)},
    {"cublasLtMatmulAlgoGetHeuristic", offsetof(ti_cublaslt, heuristic)},
    {"cublasLtMatmulAlgoCheck", offsetof(ti_cublaslt, check)},
    {"cublasLtMatmul", offsetof(ti_cublaslt, matmul)},
    {NULL, 0}};
#endif
#ifdef TI_WITH_CUDNN
static const symbol cudnn_symbols[] = {
    {"cudnnGetVersion", offsetof(ti_cudnn, version)},
    {"cudnnCreate", offsetof(ti_cudnn, create)},
    {"cudnnDestroy", offsetof(ti_cudnn, destroy)},
    {"cudnnSetStream", offsetof(ti_cudnn, set_stream)},
    {"cudnnGetErrorString", offsetof(ti_cudnn, status_text)},
    {"cudnnGetLastErrorString", offsetof(ti_cudnn, last_error)},
    {"cudnnBackendCreateDescriptor", offsetof(ti_cudnn, make)},
    {"cudnnBackendDestroyDescriptor", offsetof(ti_cudnn, drop)},
    {"cudnnBackendFinalize", offsetof(ti_cudnn, finalize)},
    {"cudnnBackendSetAttribute", offsetof(ti_cudnn, set)},
    {"cudnnBackendGetAttribute", offsetof(ti_cudnn, get)},
    {"cudnnBackendExecute", offsetof(ti_cudnn, execute)},
    {"cudnnCreateTensorDescriptor", offsetof(ti_cudnn, tensor_make)},
    {"cudnnSetTensorNdDescriptor", offsetof(ti_cudnn, tensor_set)},
    {"cudnnDestroyTensorDescriptor", offsetof(ti_cudnn, tensor_drop)},
    {"cudnnCreateRNNDescriptor", offsetof(ti_cudnn, rnn_make)},
    {"cudnnSetRNNDescriptor_v8", offsetof(ti_cudnn, rnn_set)},
    {"cudnnDestroyRNNDescriptor", offsetof(ti_cudnn, rnn_drop)},
    {"cudnnCreateRNNDataDescriptor", offsetof(ti_cudnn, rnn_data_make)},
    {"cudnnSetRNNDataDescriptor", offsetof(ti_cudnn, rnn_data_set)},
    {"cudnnDestroyRNNDataDescriptor", offsetof(ti_cudnn, rnn_data_drop)},
    {"cudnnGetRNNWeightSpaceSize", offsetof(ti_cudnn, rnn_weight_space)},
    {"cudnnGetRNNTempSpaceSizes", offsetof(ti_cudnn, rnn_temp_space)},
    {"cudnnGetRNNWeightParams", offsetof(ti_cudnn, rnn_weight)},
    {"cudnnRNNForward", offsetof(ti_cudnn, rnn_forward)},
    {"cudnnRNNBackwardData_v8", offsetof(ti_cudnn, rnn_back_data)},
    {"cudnnRNNBackwardWeights_v8", offsetof(ti_cudnn, rnn_back_weights)},
    {NULL, 0}};
#endif

const char *ti_library_load(ti_library k, void *to, void *lib)
{
    const symbol *all = NULL;

#ifdef TI_WITH_CUBLASLT
    if (k == TI_CUBLASLT) all = cublaslt_symbols;
#endif
#ifdef TI_WITH_CUDNN
    if (k == TI_CUDNN) all = cudnn_symbols;
#endif
    return all ? load(to, lib, all) : "function that we know";
}

/* ---- Opening and describing ---- */

const char *ti_library_name(ti_library k) { return libraries[k].name; }

/* The library, or NULL and why it cannot be used. */
void *ti_library_open(ti_library k, const char *disabled, char why[200])
{
    void *lib = NULL;

    if (!libraries[k].soname)
        snprintf(why, 200, "built without %s, which the toolkit lacked", libraries[k].header);
    else if (ti_listed(disabled, libraries[k].name))
        snprintf(why, 200, "left out by TERN_DISABLE=%.60s", disabled);
    else if (!(lib = find(libraries[k].soname)))
        snprintf(why, 200, "%s was not found%s", libraries[k].soname,
#ifdef TI_SIMT
                 " for the emulated device on the loader's path"
#else
                 " on the loader's path, in the CUDA toolkit or Python's NVIDIA packages"
#endif
        );
    return lib;
}

static void version_of(ti_library k, void *lib, tern_part *part)
{
    size_t (*version)(void) = NULL;
    Dl_info info = {0};
    const char *name = k == TI_CUDNN ? "cudnnGetVersion" : "cublasLtGetVersion";
    void *f = dlsym(lib, name);

    memcpy(&version, &f, sizeof version);
    if (!version) {
        snprintf(part->text, sizeof part->text, "it has no %s", name);
        return;
    }
    const size_t n = version();
    snprintf(part->version, sizeof part->version, "%zu.%zu.%zu", n / 10000 % 100, n % 10000 / 100,
             n % 100);
    (void)dladdr(f, &info);
    snprintf(part->text, sizeof part->text, "%s", info.dli_fname ? info.dli_fname : "");
    part->found = true;
}

bool ti_vendor_part(int i, const char *disabled, tern_part *part)
{
    char why[200] = "";
    void *lib;

    if (i > TI_LIBRARIES) return false;
    if (i == 0) {
#ifdef TI_SIMT
        strcpy(part->name, "simt");
        strcpy(part->text, "an emulated device");
#else
        strcpy(part->name, "cuda");
        strcpy(part->text, TI_CUDA_ARCHS);
#endif
        snprintf(part->version, sizeof part->version, "%d.%d", CUDART_VERSION / 1000,
                 CUDART_VERSION % 100 / 10);
        return part->found = true;
    }
    strcpy(part->name, libraries[i - 1].name);
    lib = ti_library_open((ti_library)(i - 1), disabled, why);
    if (lib) version_of((ti_library)(i - 1), lib, part);
    else snprintf(part->text, sizeof part->text, "%s", why);
    if (lib) dlclose(lib);
    return true;
}
