/*
 * memory.cpp - loads, stores, atomics, fences, and copies that run on their own (cp.async).
 *
 * Global addresses are the host's. Shared ones count from the arena's start, local ones from the
 * lane's own piece, parameters' from the launch's copy. Global and shared accesses go through the
 * checker; the other spaces have their bounds looked at here.
 */
#include <algorithm>

#include "compile.h"
#include "floats.h"

namespace simt
{
namespace ptx
{

static bool inside(const void *p, size_t n, const char *base, size_t bytes)
{
    const uintptr_t at = (uintptr_t)p - (uintptr_t)base;

    return at < bytes && n <= bytes - at;
}

[[noreturn]] static void stray(const Ins &i, unsigned bytes, uint64_t a, const char *space,
                               size_t size)
{
    char at[160];

    where.running = false;
    check::source(at, sizeof at, id_of(i));
    fault(cudaErrorIllegalAddress, "%s of %u bytes outside %s memory at %s: byte %lld of %zu",
          i.name->c_str(), bytes, space, at, (long long)a, size);
}

static char *lane_memory(unsigned warp, unsigned lane)
{
    return now.local.data() + (size_t)(warp * lanes + lane) * now.kernel->local_bytes;
}

/* A piece of memory that only this lane, or only reads, may touch; null: it is none. */
static char *private_memory(const Step &s, const Ins &i, unsigned lane, uint64_t a, unsigned bytes,
                            Kind kind)
{
    const Kernel &k = *now.kernel;
    char *p = reinterpret_cast<char *>(a);

    if (inside(p, 1, now.local.data(), now.local.size())) {
        char *own = lane_memory(s.warp, lane);
        if (!inside(p, bytes, own, k.local_bytes))
            stray(i, bytes, a - (uint64_t)own, "the thread's local", k.local_bytes);
        return p;
    }
    if (kind != Kind::read) return nullptr;
    const bool constant = inside(p, bytes, k.home->constants.data(), k.home->constants.size());
    return constant || inside(p, bytes, now.params, k.param_bytes) ? p : nullptr;
}

char *locate(const Step &s, const Ins &i, unsigned lane, Space space, uint64_t a, unsigned bytes,
             Kind kind)
{
    const Kernel &k = *now.kernel;
    char *p = reinterpret_cast<char *>(a), *own = nullptr;

    enter(s.warp, lane);
    if (a & (bytes - 1)) check::misaligned(p, bytes, id_of(i));
    switch (space) {
    case Space::param:
        own = const_cast<char *>(now.params) + a;
        if (kind != Kind::read || !inside(own, bytes, now.params, k.param_bytes))
            stray(i, bytes, a, "parameter", k.param_bytes);
        return own;
    case Space::local:
        own = lane_memory(s.warp, lane) + a;
        if (!inside(own, bytes, lane_memory(s.warp, lane), k.local_bytes))
            stray(i, bytes, a, "local", k.local_bytes);
        return own;
    case Space::constant:
        if (kind != Kind::read ||
            !inside(p, bytes, k.home->constants.data(), k.home->constants.size()))
            stray(i, bytes, a - (uint64_t)k.home->constants.data(), "constant",
                  k.home->constants.size());
        return p;
    case Space::shared: p = now.arena + a; break;
    case Space::generic: own = private_memory(s, i, lane, a, bytes, kind); break;
    case Space::global: break;
    }
    if (own) return own;
    check::access(p, bytes, kind != Kind::read, kind == Kind::atomic, id_of(i), false);
    return p;
}

static inline uint64_t address_of(const Step &s, int place, bool wide, int64_t offset, unsigned l)
{
    const char *row = s.frame + place;

    if (wide) return get<uint64_t>(row, l) + (uint64_t)offset;
    return (uint32_t)(get<uint32_t>(row, l) + (uint32_t)offset);
}

/* M: as it lies in memory; R: what a register's row holds, extended by M's sign. */
template <class M, class R> static void run_load(const Step &s, const Ins &i)
{
    const unsigned n = i.n_out;

    each(s.mask, [&](unsigned l) {
        const uint64_t a = address_of(s, i.in[0], i.wide_address, i.offset, l);
        const char *p = locate(s, i, l, i.space, a, (unsigned)sizeof(M) * n, Kind::read);
        for (unsigned k = 0; k < n; k++) {
            M v;
            memcpy(&v, p + k * sizeof v, sizeof v);
            put<R>(out_row(s, i, (int)k), l, (R)v);
        }
    });
    if (i.order_after) check::fence();
}

template <class M, class R> static void run_store(const Step &s, const Ins &i)
{
    const unsigned n = i.n_in - 1u;

    if (i.order_before) check::fence();
    each(s.mask, [&](unsigned l) {
        const uint64_t a = address_of(s, i.in[0], i.wide_address, i.offset, l);
        char *p = locate(s, i, l, i.space, a, (unsigned)sizeof(M) * n, Kind::write);
        for (unsigned k = 0; k < n; k++) {
            const M v = (M)get<R>(in_row(s, i, (int)k + 1), l);
            memcpy(p + k * sizeof v, &v, sizeof v);
        }
    });
}

Run load_of(Type t, bool wide)
{
    switch (bytes_of(t)) {
    case 1:
        if (is_signed(t)) return wide ? run_load<int8_t, uint64_t> : run_load<int8_t, uint32_t>;
        return wide ? run_load<uint8_t, uint64_t> : run_load<uint8_t, uint32_t>;
    case 2:
        if (is_signed(t)) return wide ? run_load<int16_t, uint64_t> : run_load<int16_t, uint32_t>;
        return wide ? run_load<uint16_t, uint64_t> : run_load<uint16_t, uint32_t>;
    case 4:
        if (is_signed(t)) return wide ? run_load<int32_t, uint64_t> : run_load<int32_t, uint32_t>;
        return wide ? run_load<uint32_t, uint64_t> : run_load<uint32_t, uint32_t>;
    case 8: return run_load<uint64_t, uint64_t>;
    default: return nullptr;
    }
}

Run store_of(Type t, bool wide)
{
    (void)wide;
    switch (bytes_of(t)) {
    case 1: return run_store<uint8_t, uint32_t>;
    case 2: return run_store<uint16_t, uint32_t>;
    case 4: return run_store<uint32_t, uint32_t>;
    case 8: return run_store<uint64_t, uint64_t>;
    default: return nullptr;
    }
}

/* Atomics: lanes one after another, the lowest first. */
namespace
{
#define ATOMIC(F, result)                                                                          \
    struct F {                                                                                     \
        template <class T> static T of(T old, T v, T w)                                            \
        {                                                                                          \
            (void)old;                                                                             \
            (void)v;                                                                               \
            (void)w;                                                                               \
            return result;                                                                         \
        }                                                                                          \
    };
ATOMIC(AtomicAdd, (T)(old + v))
ATOMIC(AtomicMin, v < old ? v : old)
ATOMIC(AtomicMax, old < v ? v : old)
ATOMIC(AtomicExch, v)
ATOMIC(AtomicCas, old == v ? w : old)
ATOMIC(AtomicAnd, (T)(old &v))
ATOMIC(AtomicOr, (T)(old | v))
ATOMIC(AtomicXor, (T)(old ^ v))
ATOMIC(AtomicInc, old >= v ? T(0) : (T)(old + 1))
ATOMIC(AtomicDec, old == 0 || old > v ? v : (T)(old - 1))
#undef ATOMIC
} // namespace

template <class F, class T> static void run_atomic(const Step &s, const Ins &i)
{
    if (i.order_before) check::fence();
    for (unsigned m = s.mask; m; m &= m - 1) {
        const unsigned l = (unsigned)__builtin_ctz(m);
        const uint64_t a = address_of(s, i.in[0], i.wide_address, i.offset, l);
        char *p = locate(s, i, l, i.space, a, sizeof(T), Kind::atomic);
        T old, v;
        memcpy(&old, p, sizeof old);
        v = F::of(old, get<T>(in_row(s, i, 1), l), get<T>(in_row(s, i, i.n_in - 1), l));
        memcpy(p, &v, sizeof v);
        put<T>(out_row(s, i, 0), l, old);
    }
    if (i.order_after) check::fence();
}

template <class U, class S> static Run whole_atomic(const std::string &how, bool by_sign)
{
    if (how == "add") return run_atomic<AtomicAdd, U>;
    if (how == "min") return by_sign ? run_atomic<AtomicMin, S> : run_atomic<AtomicMin, U>;
    if (how == "max") return by_sign ? run_atomic<AtomicMax, S> : run_atomic<AtomicMax, U>;
    if (how == "inc" && !by_sign) return run_atomic<AtomicInc, U>;
    if (how == "dec" && !by_sign) return run_atomic<AtomicDec, U>;
    return nullptr;
}

template <class U> static Run bit_atomic(const std::string &how)
{
    if (how == "exch") return run_atomic<AtomicExch, U>;
    if (how == "cas") return run_atomic<AtomicCas, U>;
    if (how == "and") return run_atomic<AtomicAnd, U>;
    if (how == "or") return run_atomic<AtomicOr, U>;
    if (how == "xor") return run_atomic<AtomicXor, U>;
    return nullptr;
}

Run atomic_of(const std::string &how, Type t)
{
    switch (t) {
    case U32:
    case S32: return whole_atomic<uint32_t, int32_t>(how, t == S32);
    case U64:
    case S64: return whole_atomic<uint64_t, int64_t>(how, t == S64);
    case B32: return bit_atomic<uint32_t>(how);
    case B64: return bit_atomic<uint64_t>(how);
    case F32: return how == "add" ? run_atomic<AtomicAdd, float> : nullptr;
    case F64: return how == "add" ? run_atomic<AtomicAdd, double> : nullptr;
    default: return nullptr;
    }
}

void run_fence(const Step &s, const Ins &i)
{
    (void)s;
    if (i.mode) check::fence();
}

/* Addresses */

void run_to_generic(const Step &s, const Ins &i)
{
    each(s.mask, [&](unsigned l) {
        const uint64_t a = get<uint64_t>(in_row(s, i, 0), l);
        uint64_t base = 0;
        if (i.space == Space::shared) base = (uint64_t)now.arena;
        if (i.space == Space::local) base = (uint64_t)lane_memory(s.warp, l);
        if (i.space == Space::param) base = (uint64_t)now.params;
        put<uint64_t>(out_row(s, i, 0), l, base + a);
    });
}

void run_from_generic(const Step &s, const Ins &i)
{
    each(s.mask, [&](unsigned l) {
        const uint64_t a = get<uint64_t>(in_row(s, i, 0), l);
        uint64_t base = 0;
        if (i.space == Space::shared) base = (uint64_t)now.arena;
        if (i.space == Space::local) base = (uint64_t)lane_memory(s.warp, l);
        if (i.space == Space::param) base = (uint64_t)now.params;
        put<uint64_t>(out_row(s, i, 0), l, a - base);
    });
}

void run_is_space(const Step &s, const Ins &i)
{
    unsigned bits = 0;

    for (unsigned l = 0; l < lanes; l++) {
        const uint64_t a = get<uint64_t>(in_row(s, i, 0), l);
        const bool shared = inside((void *)a, 1, now.arena, optin_limit),
                   local = inside((void *)a, 1, now.local.data(), now.local.size());
        const bool is = i.space == Space::shared  ? shared
                        : i.space == Space::local ? local
                                                  : !shared && !local;
        bits |= (unsigned)is << l;
    }
    set_predicate(s, i.out[0], bits);
}

void run_trap(const Step &s, const Ins &i)
{
    char at[160];

    enter(s.warp, (unsigned)__builtin_ctz(s.mask));
    where.running = false;
    check::source(at, sizeof at, id_of(i));
    fault(cudaErrorLaunchFailure, "__trap at %s", at);
}

/* Copies of cp.async. Each may arrive at any moment up to its wait: it counts as a write when it
 * is given, when NaN is put there, and again at the wait, when the bytes are. */
namespace
{
struct Copy {
    uint64_t to, from;
    unsigned bytes, given; /* given: the rest are zeros */
    const Ins *ins;
};
struct Copies {
    std::vector<Copy> open; /* not yet in a group */
    std::vector<std::vector<Copy>> groups;
};
} // namespace
static Copies (&copies)[max_threads] = *new Copies[1][max_threads];

void forget_copies()
{
    for (unsigned t = 0; t < now.n_threads; t++) copies[t] = Copies();
}

void run_copy_async(const Step &s, const Ins &i)
{
    each(s.mask, [&](unsigned l) {
        const uint64_t to = address_of(s, i.in[0], i.mode != 0, i.offset, l);
        const uint64_t from = address_of(s, i.in[1], i.wide_address, i.offset2, l);
        const unsigned given = get<uint32_t>(in_row(s, i, 2), l);
        enter(s.warp, l);
        if (given > i.bytes) stray(i, given, given, "the copied", i.bytes);
        if (from & (i.bytes - 1u))
            check::misaligned(reinterpret_cast<void *>(from), i.bytes, id_of(i));
        memset(locate(s, i, l, Space::shared, to, i.bytes, Kind::write), 0xff, i.bytes);
        copies[s.warp * lanes + l].open.push_back({to, from, i.bytes, given, &i});
    });
}

void run_commit(const Step &s, const Ins &i)
{
    (void)i;
    each(s.mask, [&](unsigned l) {
        Copies &c = copies[s.warp * lanes + l];
        c.groups.push_back(std::move(c.open));
        c.open.clear();
    });
}

static void arrive(const Step &s, unsigned lane, const std::vector<Copy> &group)
{
    for (const Copy &c : group) {
        char *to = locate(s, *c.ins, lane, Space::shared, c.to, c.bytes, Kind::write);
        memset(to, 0, c.bytes);
        for (unsigned n = 0; n < c.given;) { /* as wide as the rest allows */
            unsigned step = c.bytes;
            while (n + step > c.given) step /= 2;
            memcpy(to + n, locate(s, *c.ins, lane, Space::global, c.from + n, step, Kind::read),
                   step);
            n += step;
        }
    }
}

/* All but the latest groups, as many as the operand says, have arrived. */
void run_wait_copies(const Step &s, const Ins &i)
{
    each(s.mask, [&](unsigned l) {
        Copies &c = copies[s.warp * lanes + l];
        const size_t keep = get<uint32_t>(in_row(s, i, 0), l);
        while (c.groups.size() > keep) {
            arrive(s, l, c.groups.front());
            c.groups.erase(c.groups.begin());
        }
        if (i.mode) {
            arrive(s, l, c.open);
            c.open.clear();
        }
    });
}

} // namespace ptx
} // namespace simt
