/*
 * device.c - the properties of the GPUs as JSON, asked of the driver alone: no toolkit is needed.
 *
 * Attributes go by the names that cuda.h gives them. With cuDNN on the loader's path its own
 * description of each device is added, which stands in for the device where there is none.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void text(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') putchar('\\');
        if ((unsigned char)*s >= 32) putchar(*s);
    }
    putchar('"');
}

/* By the names and numbers of CUdevice_attribute. */
static const struct {
    const char *name;
    int attribute;
} attributes[] = {{"COMPUTE_CAPABILITY_MAJOR", 75},
                  {"COMPUTE_CAPABILITY_MINOR", 76},
                  {"MULTIPROCESSOR_COUNT", 16},
                  {"CLOCK_RATE", 13},
                  {"MEMORY_CLOCK_RATE", 36},
                  {"GLOBAL_MEMORY_BUS_WIDTH", 37},
                  {"L2_CACHE_SIZE", 38},
                  {"MAX_THREADS_PER_BLOCK", 1},
                  {"MAX_THREADS_PER_MULTIPROCESSOR", 39},
                  {"MAX_BLOCKS_PER_MULTIPROCESSOR", 106},
                  {"MAX_SHARED_MEMORY_PER_BLOCK", 8},
                  {"MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", 97},
                  {"MAX_SHARED_MEMORY_PER_MULTIPROCESSOR", 81},
                  {"MAX_REGISTERS_PER_BLOCK", 12},
                  {"MAX_REGISTERS_PER_MULTIPROCESSOR", 82},
                  {"ASYNC_ENGINE_COUNT", 40},
                  {"CONCURRENT_KERNELS", 31},
                  {"COOPERATIVE_LAUNCH", 95},
                  {"ECC_ENABLED", 32},
                  {"INTEGRATED", 18},
                  {"MEMORY_POOLS_SUPPORTED", 115}};

typedef int (*get_int)(int *);
typedef int (*get_device)(int *, int);
typedef int (*get_name)(char *, int, int);
typedef int (*get_size)(size_t *, int);
typedef int (*get_attribute)(int *, int, int);

static void *find(void *lib, const char *name)
{
    void *f = dlsym(lib, name);

    if (f) return f;
    fprintf(stderr, "error: the driver has no %s\n", name);
    exit(1);
}

/* Of cuDNN 9: a descriptor's kind, its attributes, their types. */
enum { DEVICEPROP = 38, DEVICE_ID = 2700, JSON = 2702, INT32 = 23, CHAR = 24 };

/* cuDNN's own description, which is JSON already; null where it cannot be had. */
static void described(int i)
{
    void *lib = dlopen("libcudnn.so.9", RTLD_NOW);
    int (*create)(int, void **), (*set)(void *, int, int, int64_t, const void *);
    int (*get)(void *, int, int, int64_t, int64_t *, void *), (*finalize)(void *);
    void *d = NULL;
    static char json[1 << 16];
    int64_t n = 0;
    const int32_t id = i;

    printf(",\n      \"cudnn\": ");
    if (lib) {
        *(void **)&create = find(lib, "cudnnBackendCreateDescriptor");
        *(void **)&set = find(lib, "cudnnBackendSetAttribute");
        *(void **)&get = find(lib, "cudnnBackendGetAttribute");
        *(void **)&finalize = find(lib, "cudnnBackendFinalize");
        if (create(DEVICEPROP, &d) == 0 && set(d, DEVICE_ID, INT32, 1, &id) == 0 &&
            finalize(d) == 0 && get(d, JSON, CHAR, sizeof json - 1, &n, json) == 0 && n > 0 &&
            n < (int64_t)sizeof json && json[0] == '{') {
            json[n] = '\0';
            printf("%s", json);
            return;
        }
    }
    printf("null");
}

static void device(void *lib, int i)
{
    get_device get;
    get_name name;
    get_size size;
    get_attribute attribute;
    int d;
    char called[256] = "";
    size_t bytes = 0;

    *(void **)&get = find(lib, "cuDeviceGet");
    *(void **)&name = find(lib, "cuDeviceGetName");
    *(void **)&size = find(lib, "cuDeviceTotalMem_v2");
    *(void **)&attribute = find(lib, "cuDeviceGetAttribute");
    if (get(&d, i) != 0) return;
    (void)name(called, sizeof called, d);
    (void)size(&bytes, d);
    printf("%s\n    {\n      \"index\": %d,\n      \"name\": ", i ? "," : "", i);
    text(called);
    printf(",\n      \"memory_bytes\": %zu", bytes);
    for (size_t k = 0; k < sizeof attributes / sizeof *attributes; k++) {
        int value = 0;
        if (attribute(&value, attributes[k].attribute, d) == 0)
            printf(",\n      \"%s\": %d", attributes[k].name, value);
    }
    described(i);
    printf("\n    }");
}

static int ask(void *lib)
{
    int (*init)(unsigned);
    get_int version, count;
    int driver = 0, n = 0;

    *(void **)&init = find(lib, "cuInit");
    *(void **)&version = find(lib, "cuDriverGetVersion");
    *(void **)&count = find(lib, "cuDeviceGetCount");
    (void)version(&driver);
    const int e = init(0);

    printf("  \"driver_cuda\": %d,\n", driver);
    if (e != 0 || count(&n) != 0) n = 0;
    if (n == 0) printf("  \"why\": \"the driver finds no device (error %d)\",\n", e);
    printf("  \"devices\": [");
    for (int i = 0; i < n; i++) device(lib, i);
    printf("%s]\n}\n", n ? "\n  " : "");
    return n == 0;
}

/* 0: there are devices; 1: none, and the document says why. */
int main(void)
{
    printf("{\n  \"schema\": \"tern.gpu-device/1\",\n");
    void *lib = dlopen("libcuda.so.1", RTLD_NOW);

    if (lib) return ask(lib);
    printf("  \"why\": \"there is no NVIDIA driver here (libcuda.so.1)\",\n");
    printf("  \"driver_cuda\": null,\n  \"devices\": []\n}\n");
    return 1;
}
