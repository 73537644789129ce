/*
 * runtime.cpp - the functions that objects made by nvcc call: they register their code and their
 * kernels when they are loaded, and launch them. The code is a container of machine code for some
 * targets and PTX; the PTX must be there as text (nvcc -no-compress, code=compute_XX).
 */
#include <cstdio>

#include "ptx.h"

namespace simt
{
namespace ptx
{

namespace
{
struct Loaded { /* one object's container */
    std::vector<std::unique_ptr<Module>> modules;
};
struct Named {
    Loaded *from;
    std::string name;
    Kernel *kernel;
    bool looked;
};
struct Mirror { /* a variable of the device, by the host's address */
    Loaded *from;
    std::string name;
    size_t bytes;
};
} // namespace

/* Objects register before this file's own variables would be made: all are made at first use, and
 * never destroyed. */
template <class T> static T &made_once()
{
    static T &one = *new T;

    return one;
}
static auto &kernels() { return made_once<std::map<const void *, Named>>(); }
static auto &mirrors() { return made_once<std::map<const void *, Mirror>>(); }

Kernel *kernel_at(const void *function)
{
    auto it = kernels().find(function);

    if (it == kernels().end()) return nullptr;
    Named &n = it->second;
    for (size_t i = 0; !n.kernel && !n.looked && i < n.from->modules.size(); i++)
        n.kernel = kernel_of(*n.from->modules[i], n.name);
    n.looked = true;
    return n.kernel;
}

static Loaded *keep()
{
    auto &all = made_once<std::vector<std::unique_ptr<Loaded>>>();

    all.emplace_back(new Loaded);
    return all.back().get();
}

Module *load(const std::string &text)
{
    Loaded *l = keep();

    l->modules.emplace_back(new Module);
    l->modules.back()->text = text;
    kernels()[l->modules.back().get()] = Named{l, "", nullptr, true};
    return l->modules.back().get();
}

cudaError_t start(Module *m, const char *name, dim3 grid, dim3 block, size_t dynamic,
                  const void *params, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    auto &keys = made_once<std::vector<std::unique_ptr<std::string>>>();
    Kernel *k = kernel_of(*m, name);

    keys.emplace_back(new std::string(name));
    kernels()[keys.back().get()] = Named{nullptr, name, k, true};
    launch({keys.back()->c_str(), keys.back().get(), grid, block, dynamic, nullptr}, nullptr,
           params, bytes);
    return cudaPeekAtLastError();
}

/* The PTX in a container: entries of a head (kind, size of the head, size of what follows, and its
 * size when packed) and a body. Kind 1 is PTX. */
static void unpack(Loaded *l, const char *container)
{
    uint64_t total;
    uint16_t head;

    memcpy(&head, container + 6, sizeof head);
    memcpy(&total, container + 8, sizeof total);
    for (const char *e = container + head, *end = e + total; e < end;) {
        uint16_t kind;
        uint32_t skip, packed;
        uint64_t bytes;
        memcpy(&kind, e, sizeof kind);
        memcpy(&skip, e + 4, sizeof skip);
        memcpy(&bytes, e + 8, sizeof bytes);
        memcpy(&packed, e + 16, sizeof packed);
        if (kind == 1) {
            l->modules.emplace_back(new Module);
            if (packed) l->modules.back()->problem = "the PTX in this object is packed";
            else l->modules.back()->text.assign(e + skip, strnlen(e + skip, bytes));
        }
        e += skip + bytes;
    }
}

static thread_local struct {
    dim3 grid, block;
    size_t dynamic;
    void *stream;
} configured;

static char *address_of(const Mirror &v)
{
    for (auto &m : v.from->modules) {
        index_module(*m);
        auto it = m->variables.find(v.name);
        if (it == m->variables.end()) continue;
        return (it->second.space == Space::constant ? m->constants : m->data).data() +
               it->second.at;
    }
    return nullptr;
}

} // namespace ptx
} // namespace simt

using namespace simt;
using namespace simt::ptx;

namespace
{
struct Wrapper {
    int magic, version;
    const char *data;
    void *file;
};
} // namespace

extern "C" {

/* No header declares them: they are between nvcc and its runtime. */
void **__cudaRegisterFatBinary(void *wrapper);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
char __cudaInitModule(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
                            int threads, uint3 *tid, uint3 *bid, dim3 *block, dim3 *grid,
                            int *warp);
void __cudaRegisterVar(void **handle, char *host, char *device, const char *name, int external,
                       size_t bytes, int constant, int global);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t dynamic, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *dynamic, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t dynamic, cudaStream_t stream);

void **__cudaRegisterFatBinary(void *wrapper)
{
    Loaded *l = keep();

    unpack(l, static_cast<Wrapper *>(wrapper)->data);
    return reinterpret_cast<void **>(l);
}

void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
char __cudaInitModule(void **) { return 1; }

void __cudaRegisterFunction(void **handle, const char *host, char *, const char *name, int, uint3 *,
                            uint3 *, dim3 *, dim3 *, int *)
{
    kernels()[host] = Named{reinterpret_cast<Loaded *>(handle), name, nullptr, false};
}

void __cudaRegisterVar(void **handle, char *host, char *, const char *name, int, size_t bytes, int,
                       int)
{
    mirrors()[host] = Mirror{reinterpret_cast<Loaded *>(handle), name, bytes};
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t dynamic, void *stream)
{
    configured = {grid, block, dynamic, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *dynamic, void *stream)
{
    *grid = configured.grid;
    *block = configured.block;
    *dynamic = configured.dynamic;
    *static_cast<void **>(stream) = configured.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host)
{
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void *>(host));
    return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **args, size_t dynamic,
                             cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    const Kernel *k = kernel_at(host);

    if (!k) return fail(cudaErrorInvalidDeviceFunction);
    std::vector<char> params(k->param_bytes + 1);
    for (size_t i = 0; i < k->params.size() && k->problem.empty(); i++)
        memcpy(params.data() + k->params[i].at, args[i], k->params[i].bytes);
    launch({k->shown.c_str(), host, grid, block, dynamic, stream}, nullptr, params.data(),
           params.size());
    return cudaPeekAtLastError();
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args,
                               size_t dynamic, cudaStream_t stream)
{
    return cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, block, args, dynamic,
                            stream);
}

cudaError_t cudaGetSymbolAddress(void **out, const void *host)
{
    SIMT_ENTER;
    auto it = mirrors().find(host);
    *out = it == mirrors().end() ? nullptr : address_of(it->second);
    return fail(*out ? cudaSuccess : cudaErrorInvalidSymbol);
}

} /* extern "C" */
