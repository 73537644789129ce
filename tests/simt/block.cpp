/*
 * block.cpp - runs a grid of CUDA threads on one thread of the host.
 *
 * Blocks run one after another. In a block, a CUDA thread that waits owns a fiber; one that never
 * waits is a plain call on its predecessor's fiber, so kernels without barriers never switch, and
 * a thread that does wait switches straight to the next that can run. All live threads of a block
 * must meet at the same barrier in the source; where nobody can go on, it is said who waits where.
 */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "internal.h"

/* The coordinates: writable here, constant in simt.h, under the same symbols. */
__attribute__((visibility("hidden"))) uint3 simt_thread_index __asm__("threadIdx");
__attribute__((visibility("hidden"))) uint3 simt_block_index __asm__("blockIdx");
__attribute__((visibility("hidden"))) uint3 simt_block_dim __asm__("blockDim");
__attribute__((visibility("hidden"))) uint3 simt_grid_dim __asm__("gridDim");

namespace simt
{

Thread threads[max_threads];
Thread *self;
Warp warps[max_warps];
Where where;
unsigned order_seed;
simt_stats work_done;

static unsigned n_threads, n_live, n_at_barrier, n_true;
static uint16_t ring[2 * max_threads]; /* threads that can run */
static unsigned ring_head, ring_tail;
static const Grid *grid;

struct Variable {
    const void *key;
    char *p;
};
static Variable variables[max_shared];
static unsigned n_variables;
alignas(256) static char arena[optin_limit + max_shared * 128];
static size_t arena_used, static_bytes;
static std::map<const void *, size_t> &static_of = *new std::map<const void *, size_t>;

void make_ready(Thread *t) { ring[ring_tail++ % (2 * max_threads)] = t->linear; }

void make_current(Thread *t)
{
    self = t;
    simt_thread_index = t->index;
    where.thread = t->index;
    where.linear = t->linear;
}

const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : nullptr;

    return slash ? slash + 1 : path ? path : "?";
}

/* Who waits */

static void describe(char *out, size_t bytes, const Thread &t)
{
    static const char *const names[] = {"running",     "__syncthreads",   "__syncwarp",
                                        "__shfl_sync", "__ballot_sync",   "__all_sync",
                                        "__any_sync",  "__match_any_sync"};

    if (t.state == State::done) snprintf(out, bytes, "exited");
    else
        snprintf(out, bytes, "%s %s:%d mask %08x", names[(int)t.op], base_name(t.site.file),
                 t.site.line, t.mask);
}

[[noreturn]] static void deadlock()
{
    char text[1400] = "", one[160], before[160] = "";
    size_t n = 0;
    unsigned first = 0;

    for (unsigned i = 0; i <= n_threads && n + 200 < sizeof text; i++) {
        if (i < n_threads) describe(one, sizeof one, threads[i]);
        if (i == n_threads || (i && strcmp(one, before))) {
            n += (size_t)snprintf(text + n, sizeof text - n, "\n    threads %u-%u: %s", first,
                                  i - 1, before);
            first = i;
        }
        memcpy(before, one, sizeof before);
    }
    fault(cudaErrorLaunchFailure, "deadlock: no thread of the block can go on%s", text);
}

/* If all live threads stand at one barrier, all go on. */
static bool open_barrier()
{
    const Thread *first = nullptr;

    if (!n_live || n_at_barrier != n_live) return false;
    for (unsigned i = 0; i < n_threads; i++) {
        const Thread &t = threads[i];
        if (t.state != State::waiting) continue;
        if (!first) first = &t;
        if (t.site.line != first->site.line || strcmp(t.site.file, first->site.file))
            fault(cudaErrorLaunchFailure,
                  "divergent __syncthreads: thread %u waits at %s:%d, thread %u at %s:%d",
                  first->linear, base_name(first->site.file), first->site.line, t.linear,
                  base_name(t.site.file), t.site.line);
    }
    for (unsigned i = 0; i < n_threads; i++) {
        if (threads[i].state != State::waiting) continue;
        threads[i].state = State::ready;
        threads[i].out = n_true;
        make_ready(&threads[i]);
    }
    n_at_barrier = n_true = 0;
    check::block_barrier();
    return true;
}

/* Runs somebody else. Returns when self may go on; in a thread that is done, when its fiber is to
 * begin another one. */
static void next_thread()
{
    while (ring_head == ring_tail)
        if (!open_barrier()) {
            if (n_live) deadlock();
            fiber_retire(fiber_now());
            fiber_switch(nullptr);
            return;
        }

    Thread *t = &threads[ring[ring_head++ % (2 * max_threads)]];
    const bool was_done = self->state == State::done, waited = t->state == State::ready;
    Fiber *to = waited ? t->fiber : was_done ? fiber_now() : fiber_fresh();

    make_current(t);
    if (waited && was_done) fiber_retire(fiber_now());
    if (to != fiber_now()) {
        work_done.switches++;
        fiber_switch(to);
    }
}

void fiber_main()
{
    for (;;) {
        Thread *t = self;

        t->state = State::ready;
        t->op = Op::none;
        t->fiber = fiber_now();
        where.running = true;
        grid->thread(grid->call);
        where.running = false;
        t->state = State::done;
        n_live--;
        left_warp(*t);
        next_thread();
    }
}

void wait_here(Op op, unsigned mask, Site s)
{
    Thread *t = self;

    where.running = false;
    t->op = op;
    t->mask = mask;
    t->site = s;
    t->state = State::waiting;
    if (op == Op::barrier) {
        n_at_barrier++;
    } else {
        warps[t->linear / lanes].waiting |= 1u << t->linear % lanes;
        settle(*t);
    }
    next_thread();
    t->op = Op::none;
    where.running = true;
}

int barrier(int predicate, Site s)
{
    n_true += (unsigned)predicate;
    wait_here(Op::barrier, ~0u, s);
    return (int)self->out;
}

void bound(unsigned most, Site s)
{
    if (n_threads > most && !self->linear) {
        Quiet q;
        fault(cudaErrorLaunchOutOfResources, "%u threads in a block whose bound at %s:%d is %u",
              n_threads, base_name(s.file), s.line, most);
    }
}

void trap(const char *text, Site s)
{
    fault(cudaErrorLaunchFailure, "%s at %s:%d", text, base_name(s.file), s.line);
}

/* Shared memory */

size_t shared_bytes(const void *function)
{
    auto it = static_of.find(function);

    return it == static_of.end() ? 0 : it->second;
}

static char *take(const void *key, size_t bytes, size_t align, const char *name)
{
    const size_t step = align < 128 ? 128 : align; /* a red zone of 64 bytes or more between two */
    char *p = arena + (arena_used + step - 1) / step * step;

    if (n_variables == max_shared || p + bytes + 64 > arena + sizeof arena)
        fault(cudaErrorInvalidValue, "shared memory: more than %u variables or %zu bytes",
              max_shared, optin_limit);
    arena_used = (size_t)(p - arena) + bytes + 64;
    variables[n_variables++] = {key, p};
    SIMT_UNPOISON(p, bytes);
    memset(p, 0xFF, bytes); /* NaN in every float format */
    check::shared_variable(p, bytes, name);
    return p;
}

void *shared_static(const void *key, size_t bytes, size_t align, const char *name)
{
    for (unsigned i = 0; i < n_variables; i++)
        if (variables[i].key == key) return variables[i].p;

    Quiet q;
    static_bytes = (static_bytes + align - 1) / align * align + bytes;
    size_t &most = static_of[where.function];
    if (static_bytes > most) most = static_bytes;
    if (static_bytes > static_limit)
        fault(cudaErrorInvalidValue, "static shared memory: %zu bytes with %s, limit %zu",
              static_bytes, name, static_limit);
    if (static_bytes + grid->dynamic > dynamic_limit(where.function))
        fault(cudaErrorInvalidValue, "shared memory: %zu static and %zu dynamic bytes, limit %zu",
              static_bytes, grid->dynamic, dynamic_limit(where.function));
    return take(key, bytes, align, name);
}

void *shared_dynamic(size_t align)
{
    for (unsigned i = 0; i < n_variables; i++)
        if (variables[i].key == &arena) return variables[i].p;

    Quiet q;
    return take(&arena, grid->dynamic, align, "dynamic shared memory");
}

/* Grids */

static void run_block(const uint16_t *order)
{
    n_variables = 0;
    arena_used = static_bytes = 0;
    SIMT_POISON(arena, sizeof arena);
    check::block_begin();
    n_live = n_threads;
    n_at_barrier = n_true = ring_head = ring_tail = 0;
    for (unsigned i = 0; i < n_threads; i++) threads[i].state = State::fresh;
    for (unsigned i = 0; i < n_threads; i += lanes) {
        warps[i / lanes].waiting = 0;
        warps[i / lanes].live = warps[i / lanes].born =
            n_threads - i >= lanes ? ~0u : (1u << (n_threads - i)) - 1;
    }
    for (unsigned i = 0; i < n_threads; i++) make_ready(&threads[order[i]]);
    make_current(&threads[ring[ring_head++]]);
    fiber_switch(fiber_fresh());
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % limit;
}

cudaError_t run_grid(const Grid &g)
{
    static uint16_t order[max_threads];
    const dim3 b = g.block, n = g.grid;
    const uint64_t n_blocks = (uint64_t)n.x * n.y * n.z;

    grid = &g;
    n_threads = b.x * b.y * b.z;
    simt_block_dim = uint3{b.x, b.y, b.z};
    simt_grid_dim = uint3{n.x, n.y, n.z};
    for (unsigned i = 0; i < n_threads; i++) {
        order[i] = threads[i].linear = (uint16_t)i;
        threads[i].index = uint3{i % b.x, i / b.x % b.y, i / (b.x * b.y)};
    }
    report_failed = false;
    device_fault_clear();
    check::shared_arena(arena, sizeof arena);
    check::launch_begin();

    uint64_t state = order_seed * 0x9E3779B97F4A7C15u + work_done.launches * 2 + 1;
    const uint64_t start = order_seed ? random_below(&state, n_blocks) : 0;
    for (uint64_t k = 0; k < n_blocks && device_fault() == cudaSuccess; k++) {
        const uint64_t i = (start + k) % n_blocks;
        if (order_seed)
            for (unsigned j = n_threads - 1; j > 0; j--)
                std::swap(order[j], order[random_below(&state, j + 1)]);
        where.block = simt_block_index =
            uint3{(unsigned)(i % n.x), (unsigned)(i / n.x % n.y), (unsigned)(i / n.x / n.y)};
        run_block(order);
        where.running = false;
    }
    if (device_fault() != cudaSuccess) fiber_abandon_all();
    SIMT_UNPOISON(arena, sizeof arena);
    work_done.launches++;
    work_done.threads += n_blocks * n_threads;
    if (device_fault() == cudaSuccess && report_failed && !keep_going) return cudaErrorAssert;
    return device_fault();
}

} // namespace simt
