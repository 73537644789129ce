/*
 * grid.cpp - runs a grid of an interpreted kernel: blocks one after another, in a block each warp
 * until it waits, then the barriers. It stands where block.cpp and warp.cpp stand for kernels that
 * a host compiler made: what the runtime asks of those, it asks of this file.
 *
 * A barrier without a number of threads is met by all live threads, at one place in the text. One
 * with a number may be met anywhere; the checker takes it as one of the whole block, so that of
 * threads that do not meet there, it may miss a race, and never invents one.
 */
#include <cstdio>
#include <utility>

#include "ptx.h"

namespace simt
{

Where where;
unsigned order_seed;
simt_stats work_done;

const char *base_name(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : nullptr;

    return slash ? slash + 1 : path ? path : "?";
}

size_t shared_bytes(const void *function)
{
    const ptx::Kernel *k = ptx::kernel_at(function);

    return k ? k->static_bytes : 0;
}

namespace ptx
{

Launched now;
uint3 thread_index[max_threads];

alignas(256) static char arena[optin_limit + max_shared * 128];
static std::vector<char> &frames = *new std::vector<char>;
static std::vector<size_t> &shared_at = *new std::vector<size_t>;
static unsigned n_warps;

constexpr unsigned n_barriers = 16;
static unsigned arrived[n_barriers], wanted[n_barriers]; /* by bar.arrive; threads, 0: all */

/* Shared variables lie apart, with at least 64 bytes between them. */
static void place_shared()
{
    size_t used = 0;

    shared_at.clear();
    for (const Shared &v : now.kernel->shared) {
        const size_t step = v.align < 128 ? 128 : v.align;
        used = (used + step - 1) / step * step;
        shared_at.push_back(used);
        used += (v.dynamic ? now.dynamic : v.bytes) + 64;
    }
}

static uint64_t fill_value(const Fill &f, unsigned t)
{
    auto axis = [&](const uint3 &v) { return f.axis == 0 ? v.x : f.axis == 1 ? v.y : v.z; };
    const unsigned lane = t % lanes;

    switch (f.what) {
    case Special::tid: return axis(thread_index[t]);
    case Special::ntid: return axis(now.block_dim);
    case Special::ctaid: return axis(where.block);
    case Special::nctaid: return axis(now.grid_dim);
    case Special::laneid: return lane;
    case Special::warpid: return t / lanes;
    case Special::nwarpid: return n_warps;
    case Special::dynamic_size: return now.dynamic;
    case Special::shared: return shared_at[(size_t)f.axis];
    case Special::lanemask: break;
    }
    const unsigned eq = 1u << lane, lt = eq - 1;
    const unsigned masks[] = {eq, lt, lt | eq, ~(lt | eq), ~lt};
    return masks[f.axis];
}

static void fill(char *frame, unsigned warp, const Fill &f)
{
    for (unsigned l = 0; l < lanes; l++) {
        const uint64_t v = fill_value(f, (warp * lanes + l) % max_threads);
        if (f.wide) put<uint64_t>(frame + f.reg, l, v);
        else put<uint32_t>(frame + f.reg, l, (uint32_t)v);
    }
}

static void set_constant(char *frame, const Constant &c)
{
    if (c.bank == Bank::predicate) put<uint32_t>(frame + c.reg, 0, (uint32_t)c.value);
    for (unsigned l = 0; l < lanes && c.bank != Bank::predicate; l++)
        if (c.bank == Bank::wide) put<uint64_t>(frame + c.reg, l, c.value);
        else put<uint32_t>(frame + c.reg, l, (uint32_t)c.value);
}

static void begin_launch()
{
    const Kernel &k = *now.kernel;
    const uint3 b = now.block_dim;

    n_warps = (now.n_threads + lanes - 1) / lanes;
    for (unsigned t = 0; t < max_threads; t++)
        thread_index[t] = uint3{t % b.x, t / b.x % b.y, t / (b.x * b.y)};
    place_shared();
    frames.assign(n_warps * k.frame_bytes + 64, 0);
    now.local.assign(now.n_threads * k.local_bytes, (char)0xff);
    for (unsigned w = 0; w < n_warps; w++) {
        char *base = frames.data() + (64 - (uintptr_t)frames.data() % 64) % 64;
        char *frame = warp_lanes[w].frame = base + w * k.frame_bytes;
        for (const Constant &c : k.constants) set_constant(frame, c);
        for (const Fill &f : k.fills)
            if (!f.per_block) fill(frame, w, f);
    }
}

static void begin_block()
{
    const Kernel &k = *now.kernel;

    check::block_begin();
    forget_copies();
    memset(arrived, 0, sizeof arrived);
    memset(wanted, 0, sizeof wanted);
    for (size_t v = 0; v < k.shared.size(); v++) {
        const size_t bytes = k.shared[v].dynamic ? now.dynamic : k.shared[v].bytes;
        memset(arena + shared_at[v], 0xff, bytes); /* NaN in every float format */
        check::shared_variable(arena + shared_at[v], bytes, k.shared[v].name.c_str());
    }
    for (unsigned w = 0; w < n_warps; w++) {
        Lanes &l = warp_lanes[w];
        const unsigned left = now.n_threads - w * lanes;
        l.born = l.live = l.run = left >= lanes ? ~0u : (1u << left) - 1;
        l.at_barrier = l.at_collective = 0;
        memset(l.pc, 0, sizeof l.pc);
        for (const Fill &f : k.fills)
            if (f.per_block) fill(l.frame, w, f);
    }
}

/* Barriers */

static const Ins &stands_at(unsigned t)
{
    return now.kernel->code[(size_t)warp_lanes[t / lanes].pc[t % lanes]];
}

static bool at_barrier(unsigned t) { return warp_lanes[t / lanes].at_barrier >> (t % lanes) & 1; }

static void place_of(char *out, size_t n, unsigned t)
{
    check::source(out, n, id_of(stands_at(t)));
}

[[noreturn]] static void deadlock()
{
    char text[1400] = "", one[200], before[200] = "";
    size_t n = 0;
    unsigned first = 0;

    for (unsigned t = 0; t <= now.n_threads && n + 260 < sizeof text; t++) {
        if (t < now.n_threads) {
            if (warp_lanes[t / lanes].live >> (t % lanes) & 1) place_of(one, sizeof one, t);
            else snprintf(one, sizeof one, "exited");
        }
        if (t == now.n_threads || (t && strcmp(one, before))) {
            n += (size_t)snprintf(text + n, sizeof text - n, "\n    threads %u-%u: %s", first,
                                  t - 1, before);
            first = t;
        }
        memcpy(before, one, sizeof before);
    }
    where.running = false;
    fault(cudaErrorLaunchFailure, "deadlock: no thread of the block can go on%s", text);
}

[[noreturn]] static void divergent(unsigned a, unsigned b)
{
    char here[160], there[160];

    place_of(here, sizeof here, a);
    place_of(there, sizeof there, b);
    enter(a / lanes, a % lanes);
    where.running = false;
    fault(cudaErrorLaunchFailure, "divergent __syncthreads: thread %u waits at %s, thread %u at %s",
          a, here, b, there);
}

static uint32_t operand(unsigned t, int n)
{
    return get<uint32_t>(warp_lanes[t / lanes].frame + stands_at(t).in[n], t % lanes);
}

static void go_on(unsigned t)
{
    Lanes &w = warp_lanes[t / lanes];

    w.at_barrier &= ~(1u << t % lanes);
    w.run |= 1u << t % lanes;
    w.pc[t % lanes]++;
}

[[noreturn]] static void bad_barrier(unsigned t, const char *why)
{
    char at[160];

    place_of(at, sizeof at, t);
    enter(t / lanes, t % lanes);
    where.running = false;
    fault(cudaErrorLaunchFailure, "%s at %s", why, at);
}

/* Those that only arrive are counted, and go on. */
static bool take_arrivals()
{
    bool any = false;

    for (unsigned t = 0; t < now.n_threads; t++) {
        if (!at_barrier(t)) continue;
        const uint32_t id = operand(t, 0), n = stands_at(t).offset ? operand(t, 1) : 0;
        if (id >= n_barriers) bad_barrier(t, "a barrier beyond the 16 of a block");
        if (stands_at(t).offset && (!n || n % lanes || n > (now.n_threads + 31) / lanes * lanes))
            bad_barrier(t, "a barrier's threads are no multiple of 32 in the block");
        if (stands_at(t).mode != 1) continue;
        if (!n) bad_barrier(t, "bar.arrive without a number of threads");
        arrived[id]++;
        wanted[id] = n;
        go_on(t);
        any = true;
    }
    return any;
}

/* bar.red: a count of predicates, all, any. */
static void give_result(unsigned t, unsigned yes, unsigned waiting)
{
    Lanes &w = warp_lanes[t / lanes];
    const Ins &i = stands_at(t);
    const bool holds = i.mode == 3 ? yes == waiting : yes != 0;
    const Step s{w.frame, 1u << t % lanes, t / lanes};

    if (i.mode == 2) put<uint32_t>(w.frame + i.out[0], t % lanes, yes);
    else if (i.mode > 2) set_predicate(s, i.out[0], holds ? ~0u : 0);
}

/* Threads that have met at one of the barriers go on. */
static bool open_one()
{
    unsigned waiting[n_barriers] = {0}, yes[n_barriers] = {0}, live = 0, first[n_barriers];
    bool opened = false;

    for (unsigned w = 0; w < n_warps; w++) live += (unsigned)__builtin_popcount(warp_lanes[w].live);
    for (unsigned t = 0; t < now.n_threads; t++) {
        if (!at_barrier(t)) continue;
        const Ins &i = stands_at(t);
        const uint32_t id = operand(t, 0);
        if (!waiting[id]++) first[id] = t;
        if (i.offset) wanted[id] = operand(t, 1);
        if (i.mode > 1)
            yes[id] +=
                predicate(Step{warp_lanes[t / lanes].frame, 0, 0}, i.in[2]) >> (t % lanes) & 1;
    }
    for (unsigned id = 0; id < n_barriers; id++) {
        const unsigned want = wanted[id] ? wanted[id] : live;
        if (!waiting[id] || waiting[id] + arrived[id] < want) continue;
        for (unsigned t = 0; t < now.n_threads && !wanted[id]; t++)
            if (at_barrier(t) && operand(t, 0) == id && &stands_at(t) != &stands_at(first[id]))
                divergent(first[id], t);
        for (unsigned t = 0; t < now.n_threads; t++)
            if (at_barrier(t) && operand(t, 0) == id) {
                give_result(t, yes[id], waiting[id]);
                go_on(t);
            }
        arrived[id] = wanted[id] = 0;
        check::block_barrier();
        opened = true;
    }
    return opened;
}

static bool any_live()
{
    for (unsigned w = 0; w < n_warps; w++)
        if (warp_lanes[w].live) return true;
    return false;
}

static uint64_t random_below(uint64_t *state, uint64_t limit)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % limit;
}

static void run_blocks()
{
    const uint3 n = now.grid_dim;
    const uint64_t n_blocks = (uint64_t)n.x * n.y * n.z;
    uint64_t state = order_seed * 0x9E3779B97F4A7C15u + work_done.launches * 2 + 1;
    const uint64_t start = order_seed ? random_below(&state, n_blocks) : 0;
    unsigned order[max_warps];

    for (unsigned w = 0; w < n_warps; w++) order[w] = w;
    for (uint64_t b = 0; b < n_blocks; b++) {
        const uint64_t i = (start + b) % n_blocks;
        where.block =
            uint3{(unsigned)(i % n.x), (unsigned)(i / n.x % n.y), (unsigned)(i / n.x / n.y)};
        begin_block();
        do {
            for (unsigned w = n_warps - 1; order_seed && w > 0; w--)
                std::swap(order[w], order[random_below(&state, w + 1)]);
            for (unsigned w = 0; w < n_warps; w++) run_warp(order[w]);
            const bool arrivals = take_arrivals();
            if (!open_one() && !arrivals && any_live()) deadlock();
        } while (any_live());
    }
}

static cudaError_t refuse(cudaError_t e, const Kernel *k)
{
    char at[160];

    where.block = where.thread = uint3{0, 0, 0};
    if (e == cudaErrorLaunchOutOfResources) {
        check::source(at, sizeof at, k->first_id);
        report("%u threads in a block whose bound at %s is %u", now.n_threads, at, k->most_threads);
    } else {
        report("%s", k ? k->problem.c_str() : "there is no PTX of this kernel");
    }
    return e;
}

} // namespace ptx

/* The fiber is only what a fault leaves. */
void fiber_main()
{
    for (;;) {
        where.running = true;
        ptx::run_blocks();
        where.running = false;
        fiber_retire(fiber_now());
        fiber_switch(nullptr);
    }
}

cudaError_t run_grid(const Grid &g)
{
    using ptx::now;
    ptx::Kernel *k = ptx::kernel_at(where.function);

    report_failed = false;
    device_fault_clear();
    now.kernel = k;
    now.params = static_cast<const char *>(g.call);
    now.block_dim = uint3{g.block.x, g.block.y, g.block.z};
    now.grid_dim = uint3{g.grid.x, g.grid.y, g.grid.z};
    now.n_threads = g.block.x * g.block.y * g.block.z;
    now.dynamic = g.dynamic;
    now.arena = ptx::arena;
    if (k) where.kernel = k->shown.c_str();
    if (!k) return ptx::refuse(cudaErrorInvalidDeviceFunction, k);
    if (!k->problem.empty()) return ptx::refuse(cudaErrorInvalidPtx, k);
    if (now.n_threads > k->most_threads) return ptx::refuse(cudaErrorLaunchOutOfResources, k);
    if (!k->home->announced && !k->home->data.empty()) {
        check::allocated(k->home->data.data(), k->home->data.size());
        check::written_by_host(k->home->data.data(), k->home->data.size());
    }
    k->home->announced = true;
    check::shared_arena(ptx::arena, sizeof ptx::arena);
    check::launch_begin();
    ptx::begin_launch();
    fiber_switch(fiber_fresh());
    if (device_fault() != cudaSuccess) fiber_abandon_all();
    work_done.launches++;
    work_done.threads += (uint64_t)g.grid.x * g.grid.y * g.grid.z * now.n_threads;
    if (device_fault() == cudaSuccess && report_failed && !keep_going) return cudaErrorAssert;
    return device_fault();
}

} // namespace simt
