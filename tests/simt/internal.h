/*
 * internal.h - what the parts of the emulator share: fibers, scheduler, reports, the checker's
 * hooks, and the runtime's queues.
 */
#ifndef SIMT_INTERNAL_H
#define SIMT_INTERNAL_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>

#include "control.h"
#include "simt.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif
#ifndef SIMT_ASAN
#define SIMT_ASAN 0
#endif
#if SIMT_ASAN
#include <sanitizer/asan_interface.h>
#define SIMT_POISON(p, n) __asan_poison_memory_region(p, n)
#define SIMT_UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define SIMT_POISON(p, n) ((void)(p), (void)(n))
#define SIMT_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

namespace simt
{

constexpr unsigned max_threads = 1024, lanes = 32, max_warps = max_threads / lanes;
constexpr size_t static_limit = 48 << 10; /* also for dynamic memory, without the attribute */
constexpr size_t optin_limit = 227 << 10;
constexpr unsigned max_shared = 96; /* variables in one block */

struct Where { /* the running CUDA thread, for reports and for the checker */
    const char *kernel;
    const void *function;
    uint3 block, thread;
    unsigned linear;  /* within the block */
    bool running;     /* kernel code runs; false: host code, or the emulator's own */
    const void *args; /* the launch's parameters, which a kernel may read */
    size_t args_bytes;
};
extern Where where;

/* Inside this scope the emulator works for a kernel: nothing it touches is the kernel's doing. */
struct Quiet {
    bool was;
    Quiet() : was(where.running) { where.running = false; }
    ~Quiet() { where.running = was; }
    Quiet(const Quiet &) = delete;
    Quiet &operator=(const Quiet &) = delete;
};

/* Ends the running kernel as a device fault does on a GPU (a sticky error). */
[[noreturn]] void fault(cudaError_t e, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Notes a rule that was broken; the kernel goes on, and its launch fails at its end. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* fiber.cpp */
struct Fiber;
Fiber *fiber_now();
Fiber *fiber_fresh();         /* starts at the scheduler's entry when switched to */
void fiber_retire(Fiber *f);  /* may be reused */
void fiber_switch(Fiber *to); /* nullptr: the stack that called the launch */
void fiber_abandon_all();     /* after a fault: all of them start anew */
void fiber_main();            /* block.cpp's, run by every fiber */
bool on_fiber_stack(const void *p);

/* block.cpp */
struct Grid {
    dim3 grid, block;
    size_t dynamic;
    void (*thread)(void *);
    void *call;
};
cudaError_t run_grid(const Grid &g);
size_t shared_bytes(const void *function); /* most static bytes seen of it */
extern unsigned order_seed;
extern simt_stats work_done;

/* warp.cpp */
enum class State : uint8_t { fresh, ready, waiting, done };
struct Thread {
    uint3 index;
    uint16_t linear;
    State state;
    Op op;
    Shfl kind;
    unsigned mask;
    int arg, width;
    uint64_t in, out;
    Site site;
    Fiber *fiber;
};
extern Thread threads[max_threads];
extern Thread *self;
extern struct Warp {
    unsigned born, live, waiting; /* masks of lanes */
} warps[max_warps];
void make_current(Thread *t);
void make_ready(Thread *t);
void wait_here(Op op, unsigned mask, Site s);
void settle(const Thread &t);    /* lets t's group go on if it is complete */
void left_warp(const Thread &t); /* an exited lane completes groups that waited for it */
const char *base_name(const char *path);

/* check.cpp, or check_none.cpp where the kernels are not instrumented */
namespace check
{
extern const bool present;
void launch_begin();
void block_begin();
void block_barrier();
void warp_joined(unsigned warp, unsigned mask);
void fence();
void atomic(const volatile void *p, size_t bytes, const void *pc);
void shared_arena(const char *arena, size_t bytes);
void shared_variable(const char *p, size_t bytes, const char *name);
void allocated(char *p, size_t bytes);
void released(char *p);
void marked(char *p, size_t bytes, bool live);
void touched_by_host(const void *p, size_t bytes, const char *what); /* within one block? */
void written_by_host(const void *p, size_t bytes);
void copied(const void *to, const void *from, size_t bytes); /* unwritten bytes stay unwritten */
} // namespace check

/* report.cpp */
extern bool report_failed; /* a report since the launch began */
extern bool keep_going;
cudaError_t device_fault(); /* of the grid that just ended */
void device_fault_clear();
void set_device_fault(cudaError_t e);

/* cudart_*.cpp. The runtime may be called by several threads: one lock, taken by every call. */
using Work = std::function<cudaError_t()>;
extern std::recursive_mutex big_lock;
extern cudaError_t sticky, absent;
extern int live_objects;
cudaError_t fail(cudaError_t e); /* notes e for cudaGetLastError, and returns it */
cudaError_t entry();             /* what each call asks first: driver, earlier faults */
bool creation_fails();           /* counts a creation; the fault injection */
bool kernel_fails();             /* counts a kernel; the fault injection */
extern bool skipping;            /* kernels launched now do nothing */
cudaError_t unsafe_in_capture(); /* an allocation or wait: spoils a capture that forbids it */
cudaError_t enqueue(cudaStream_t stream, Work w);
cudaError_t drain_stream(cudaStream_t stream);
cudaError_t drain_all();
bool is_capturing(cudaStream_t stream);
bool host_function_runs(); /* it may not call the runtime */
bool is_device(const void *p);
size_t dynamic_limit(const void *function);
void reset_streams();
void reset_memory();

/* The first lines of a call of the runtime. */
#define SIMT_ENTER                                                                                 \
    std::lock_guard<std::recursive_mutex> locked(simt::big_lock);                                  \
    if (cudaError_t e_ = simt::entry()) return e_
#define SIMT_NO_CAPTURE                                                                            \
    if (cudaError_t e_ = simt::unsafe_in_capture()) return simt::fail(e_)

struct Access { /* device memory is reachable in this scope, even under simt_protect() */
    Access();
    ~Access();
    Access(const Access &) = delete;
    Access &operator=(const Access &) = delete;
};

} // namespace simt

#endif /* SIMT_INTERNAL_H */
