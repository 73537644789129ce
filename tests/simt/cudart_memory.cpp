/*
 * cudart_memory.cpp - the CUDA runtime's memory calls, on host memory.
 *
 * Device memory is one reserved range of addresses. Allocations start at a multiple of 256 that is
 * none of 512, lie at least 64 KiB apart, are filled with 0xFF, and never lie where a freed one
 * lay: a stale pointer faults. Under simt_protect() the range is out of reach of host code.
 */
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <sys/mman.h>
#include <vector>

#include "internal.h"

namespace simt
{

constexpr size_t range_bytes = (size_t)1 << 40, piece = 64 << 10, lead = 256;

static char *range;
static size_t range_used, live_bytes, limit_bytes = (size_t)8 << 30;
static std::map<char *, size_t> &device_blocks = *new std::map<char *, size_t>;
static std::map<char *, std::pair<size_t, bool>> &pinned =
    *new std::map<char *, std::pair<size_t, bool>>; /* bytes, and whether it is ours to free */
static std::set<char *> &divided = *new std::set<char *>; /* allocations that a pool cuts up */
static bool protecting;
static int access_depth;

static size_t round_up(size_t n) { return (n + piece - 1) / piece * piece; }

static void reach(bool on)
{
    if (range_used) mprotect(range, range_used, on ? PROT_READ | PROT_WRITE : PROT_NONE);
}

Access::Access()
{
    if (access_depth++ == 0 && protecting) reach(true);
}

Access::~Access()
{
    if (--access_depth == 0 && protecting) reach(false);
}

bool is_device(const void *p)
{
    const char *c = static_cast<const char *>(p);

    return range && c >= range && c < range + range_used;
}

template <class Map> static typename Map::iterator holding(Map &m, const void *p)
{
    auto it = m.upper_bound(static_cast<char *>(const_cast<void *>(p)));

    return it == m.begin() ? m.end() : --it;
}

static bool inside_device(const void *p, size_t n)
{
    auto it = holding(device_blocks, p);

    return it != device_blocks.end() && static_cast<const char *>(p) + n <= it->first + it->second;
}

static bool is_pinned(const void *p, size_t n)
{
    auto it = holding(pinned, p);

    return it != pinned.end() && static_cast<const char *>(p) + n <= it->first + it->second.first;
}

static cudaError_t take_device(void **out, size_t n)
{
    *out = nullptr;
    if (!n) return cudaSuccess;
    if (creation_fails() || n > limit_bytes || live_bytes + n > limit_bytes)
        return cudaErrorMemoryAllocation;
    if (!range) {
        void *m = mmap(nullptr, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1, 0);
        if (m == MAP_FAILED) return cudaErrorMemoryAllocation;
        range = static_cast<char *>(m);
    }
    const size_t span = round_up(n + lead);
    char *p = range + range_used + lead;
    if (range_used + span + piece > range_bytes || mprotect(p - lead, span, PROT_READ | PROT_WRITE))
        return cudaErrorMemoryAllocation;
    range_used += span + piece;
    memset(p, 0xFF, n);
    SIMT_POISON(p - lead, lead);
    SIMT_POISON(p + n, span - lead - n);
    check::allocated(p, n);
    if (protecting && !access_depth) reach(false);
    device_blocks[p] = n;
    live_bytes += n;
    *out = p;
    return cudaSuccess;
}

static void give_device(std::map<char *, size_t>::iterator it)
{
    char *p = it->first;
    const size_t span = round_up(it->second + lead);

    check::released(p);
    SIMT_UNPOISON(p - lead, span);
    /* Mapped anew it becomes one with what was freed beside it: mappings are limited in number. */
    if (mmap(p - lead, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        mprotect(p - lead, span, PROT_NONE);
    live_bytes -= it->second;
    divided.erase(p);
    device_blocks.erase(it);
}

void reset_memory()
{
    while (!device_blocks.empty()) give_device(device_blocks.begin());
}

static cudaError_t copy_kind(cudaMemcpyKind kind, const void *to, const void *from, size_t n)
{
    const bool to_device = is_device(to), from_device = is_device(from);

    if (kind != cudaMemcpyDefault) {
        if (to_device != (kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) ||
            from_device != (kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice))
            return cudaErrorInvalidValue;
    }
    if ((to_device && !inside_device(to, n)) || (from_device && !inside_device(from, n)))
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

static cudaError_t copy_now(void *to, const void *from, size_t n)
{
    if ((is_device(to) && !inside_device(to, n)) || (is_device(from) && !inside_device(from, n)))
        return cudaErrorIllegalAddress; /* freed since the call */
    Access a;
    if (is_device(to)) check::touched_by_host(to, n, "copy to the device");
    if (is_device(from)) check::touched_by_host(from, n, "copy from the device");
    if (is_device(to) && is_device(from)) check::copied(to, from, n);
    else if (is_device(to)) check::written_by_host(to, n);
    memmove(to, from, n);
    return cudaSuccess;
}

static cudaError_t copy_async(void *to, const void *from, size_t n, cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    cudaError_t e = copy_kind(kind, to, from, n);

    if (e != cudaSuccess || !n) return e;
    /* Pageable memory: the source is read before the call returns, the target is written by then.
     * A capture cannot hold such a copy. */
    const bool from_pages = !is_device(from) && !is_pinned(from, n);
    const bool to_pages = !is_device(to) && !is_pinned(to, n);
    if ((from_pages || to_pages) && is_capturing(stream)) return cudaErrorStreamCaptureUnsupported;
    if (from_pages) {
        const char *c = static_cast<const char *>(from);
        auto staged = std::make_shared<std::vector<char>>(c, c + n);
        e = enqueue(stream, [=] { return copy_now(to, staged->data(), n); });
    } else {
        e = enqueue(stream, [=] { return copy_now(to, from, n); });
    }
    return e != cudaSuccess || !to_pages ? e : drain_stream(stream);
}

static cudaError_t set_now(void *to, int value, size_t n)
{
    if (!inside_device(to, n)) return cudaErrorIllegalAddress;
    Access a;
    check::touched_by_host(to, n, "fill");
    memset(to, value, n);
    check::written_by_host(to, n);
    return cudaSuccess;
}

static cudaError_t mark_now(char *p, size_t n, bool live)
{
    if (!inside_device(p, n)) return cudaErrorIllegalAddress;
    auto whole = holding(device_blocks, p);
    Access a;
    if (divided.insert(whole->first).second) SIMT_POISON(whole->first, whole->second);
    SIMT_UNPOISON(p, n);
    memset(p, 0xFF, n);
    if (!live) SIMT_POISON(p, n);
    check::marked(p, n, live);
    return cudaSuccess;
}

} // namespace simt

using namespace simt;

extern "C" {

cudaError_t cudaMalloc(void **out, size_t n)
{
    SIMT_ENTER;
    SIMT_NO_CAPTURE;
    return out ? fail(take_device(out, n)) : fail(cudaErrorInvalidValue);
}

cudaError_t cudaFree(void *p)
{
    SIMT_ENTER;
    if (!p) return cudaSuccess;
    SIMT_NO_CAPTURE;
    const cudaError_t e = drain_all(); /* as the driver does */
    auto it = device_blocks.find(static_cast<char *>(p));
    if (it == device_blocks.end()) return fail(cudaErrorInvalidValue);
    give_device(it);
    return e;
}

cudaError_t cudaMallocAsync(void **out, size_t n, cudaStream_t stream)
{
    SIMT_ENTER;
    if (is_capturing(stream))
        return fail(cudaErrorNotSupported); /* memory nodes are not emulated */
    return out ? fail(take_device(out, n)) : fail(cudaErrorInvalidValue);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    SIMT_ENTER;
    if (!p) return cudaSuccess;
    if (is_capturing(stream)) return fail(cudaErrorNotSupported);
    if (!device_blocks.count(static_cast<char *>(p))) return fail(cudaErrorInvalidValue);
    return fail(enqueue(stream, [=] {
        auto it = device_blocks.find(static_cast<char *>(p));
        if (it == device_blocks.end()) return cudaErrorInvalidValue;
        give_device(it);
        return cudaSuccess;
    }));
}

cudaError_t cudaHostAlloc(void **out, size_t n, unsigned flags)
{
    SIMT_ENTER;
    SIMT_NO_CAPTURE;
    (void)flags;
    *out = nullptr;
    if (!n) return cudaSuccess;
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    void *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096);
    if (!p) return fail(cudaErrorMemoryAllocation);
    memset(p, 0xFF, n);
    pinned[static_cast<char *>(p)] = {n, true};
    live_objects++;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t n) { return cudaHostAlloc(out, n, 0); }

cudaError_t cudaFreeHost(void *p)
{
    SIMT_ENTER;
    if (!p) return cudaSuccess;
    SIMT_NO_CAPTURE;
    const cudaError_t e = drain_all();
    auto it = pinned.find(static_cast<char *>(p));
    if (it == pinned.end() || !it->second.second) return fail(cudaErrorInvalidValue);
    pinned.erase(it);
    live_objects--;
    free(p);
    return e;
}

cudaError_t cudaHostRegister(void *p, size_t n, unsigned flags)
{
    SIMT_ENTER;
    (void)flags;
    if (!p || !n) return fail(cudaErrorInvalidValue);
    if (is_pinned(p, n)) return fail(cudaErrorHostMemoryAlreadyRegistered);
    if (creation_fails()) return fail(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(p)] = {n, false};
    live_objects++;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    SIMT_ENTER;
    auto it = pinned.find(static_cast<char *>(p));
    if (it == pinned.end() || it->second.second) return fail(cudaErrorHostMemoryNotRegistered);
    drain_all();
    pinned.erase(it);
    live_objects--;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    SIMT_ENTER;
    return fail(copy_async(to, from, n, kind, stream));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    SIMT_ENTER;
    SIMT_NO_CAPTURE;
    const cudaError_t e = copy_async(to, from, n, kind, nullptr);
    return fail(e != cudaSuccess ? e : drain_stream(nullptr));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    SIMT_ENTER;
    if (width > to_pitch || width > from_pitch) return fail(cudaErrorInvalidPitchValue);
    for (size_t i = 0; i < height; i++) {
        const cudaError_t e =
            copy_async(static_cast<char *>(to) + i * to_pitch,
                       static_cast<const char *>(from) + i * from_pitch, width, kind, stream);
        if (e != cudaSuccess) return fail(e);
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t stream)
{
    SIMT_ENTER;
    if (!n) return cudaSuccess;
    if (!inside_device(to, n)) return fail(cudaErrorInvalidValue);
    return fail(enqueue(stream, [=] { return set_now(to, value, n); }));
}

cudaError_t cudaMemset(void *to, int value, size_t n)
{
    SIMT_ENTER;
    SIMT_NO_CAPTURE;
    return cudaMemsetAsync(to, value, n, nullptr); /* asynchronous, as on a GPU */
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    SIMT_ENTER;
    *left = live_bytes < limit_bytes ? limit_bytes - live_bytes : 0;
    *total = limit_bytes;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p)
{
    SIMT_ENTER;
    *a = cudaPointerAttributes{};
    if (is_device(p)) {
        a->type = cudaMemoryTypeDevice;
        a->devicePointer = const_cast<void *>(p);
    } else {
        a->type = is_pinned(p, 1) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
        a->hostPointer = const_cast<void *>(p);
    }
    return cudaSuccess;
}

void simt_mark(void *p, size_t bytes, int live, void *stream)
{
    std::lock_guard<std::recursive_mutex> locked(big_lock);
    char *c = static_cast<char *>(p);

    if (is_capturing(static_cast<cudaStream_t>(stream)))
        report("a block of the pool changes hands while its stream is captured");
    else if (sticky == cudaSuccess && bytes)
        enqueue(static_cast<cudaStream_t>(stream), [=] { return mark_now(c, bytes, live != 0); });
}

void simt_limit_memory(size_t bytes) { limit_bytes = bytes ? bytes : (size_t)8 << 30; }
size_t simt_live_bytes(void) { return live_bytes; }

void simt_protect(int on)
{
    protecting = on != 0;
    reach(!on);
}

} /* extern "C" */
