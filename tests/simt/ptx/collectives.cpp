/*
 * collectives.cpp - what the lanes of a warp do together: shuffles, votes, matches, sums. s.mask
 * are the lanes that do it; all members of their mask are here.
 */
#include "compile.h"

namespace simt
{
namespace ptx
{

void run_sync_warp(const Step &s, const Ins &i)
{
    (void)i;
    check::warp_joined(s.warp, s.mask);
}

void run_active(const Step &s, const Ins &i)
{
    each(s.mask, [&](unsigned l) { put<uint32_t>(out_row(s, i, 0), l, s.mask); });
}

static void outsider(const Step &s, const Ins &i, unsigned lane, int from)
{
    char at[160];

    enter(s.warp, lane);
    Quiet q;
    check::source(at, sizeof at, id_of(i));
    report("__shfl_sync at %s reads lane %d, which is not in the mask or has exited", at, from);
}

/* A width of 2^n lanes leaves the top 5-n bits for the segment. */
static void need_power_of_two(const Step &s, const Ins &i, unsigned lane, unsigned segment)
{
    char at[160];

    if (((~segment & 31) & ((~segment & 31) + 1)) == 0) return;
    enter(s.warp, lane);
    where.running = false;
    check::source(at, sizeof at, id_of(i));
    fault(cudaErrorLaunchFailure, "__shfl_sync at %s: width %u is no power of two up to 32", at,
          32 - segment);
}

void run_shuffle(const Step &s, const Ins &i)
{
    uint32_t in[lanes];
    unsigned ok = 0;

    memcpy(in, in_row(s, i, 0), sizeof in);
    for (unsigned m = s.mask; m; m &= m - 1) {
        const int l = __builtin_ctz(m), b = (int)(get<uint32_t>(in_row(s, i, 1), (unsigned)l) & 31);
        const uint32_t c = get<uint32_t>(in_row(s, i, 2), (unsigned)l);
        const int segment = (int)(c >> 8 & 31), clamp = (int)(c & 31);
        const int most = (l & segment) | (clamp & ~segment), least = l & segment;
        int from = l;
        need_power_of_two(s, i, (unsigned)l, (unsigned)segment);
        switch (i.mode) {
        case 0: from = least | (b & ~segment); break;
        case 1: from = l - b; break;
        case 2: from = l + b; break;
        default: from = l ^ b; break;
        }
        const bool valid = i.mode == 1 ? from >= most : from <= most;
        if (!valid) from = l;
        if (!(s.mask >> from & 1)) outsider(s, i, (unsigned)l, from);
        ok |= (unsigned)valid << l;
        put<uint32_t>(out_row(s, i, 0), (unsigned)l, s.mask >> from & 1 ? in[from] : 0xDEADBEEFu);
    }
    if (i.n_out > 1) set_predicate(s, i.out[1], ok);
}

void run_vote(const Step &s, const Ins &i)
{
    const unsigned yes = predicate(s, i.in[0]) & s.mask;

    switch (i.mode) {
    case 0: each(s.mask, [&](unsigned l) { put<uint32_t>(out_row(s, i, 0), l, yes); }); break;
    case 1: set_predicate(s, i.out[0], yes == s.mask ? ~0u : 0); break;
    case 2: set_predicate(s, i.out[0], yes ? ~0u : 0); break;
    default: set_predicate(s, i.out[0], !yes || yes == s.mask ? ~0u : 0); break;
    }
}

void run_match(const Step &s, const Ins &i)
{
    uint64_t in[lanes];
    unsigned agree = 0;

    for (unsigned l = 0; l < lanes; l++)
        in[l] = i.mode & 2 ? get<uint64_t>(in_row(s, i, 0), l) : get<uint32_t>(in_row(s, i, 0), l);
    each(s.mask, [&](unsigned l) {
        unsigned same = 0;
        for (unsigned m = s.mask; m; m &= m - 1)
            if (in[__builtin_ctz(m)] == in[l]) same |= m & (0u - m);
        if (i.mode & 1 && same != s.mask) same = 0;
        put<uint32_t>(out_row(s, i, 0), l, same);
        agree |= (unsigned)(same == s.mask) << l;
    });
    if (i.n_out > 1) set_predicate(s, i.out[1], agree);
}

namespace
{
struct Sum {
    template <class T> static T of(T a, T b) { return (T)((uint32_t)a + (uint32_t)b); }
};
struct Least {
    template <class T> static T of(T a, T b) { return b < a ? b : a; }
};
struct Most {
    template <class T> static T of(T a, T b) { return a < b ? b : a; }
};
struct AllBits {
    template <class T> static T of(T a, T b) { return a & b; }
};
struct AnyBit {
    template <class T> static T of(T a, T b) { return a | b; }
};
struct OddBits {
    template <class T> static T of(T a, T b) { return a ^ b; }
};
} // namespace

template <class F, class T> static void run_reduce(const Step &s, const Ins &i)
{
    T all = get<T>(in_row(s, i, 0), (unsigned)__builtin_ctz(s.mask));

    for (unsigned m = s.mask & (s.mask - 1); m; m &= m - 1)
        all = F::of(all, get<T>(in_row(s, i, 0), (unsigned)__builtin_ctz(m)));
    each(s.mask, [&](unsigned l) { put<T>(out_row(s, i, 0), l, all); });
}

Run reduce_of(const std::string &how, Type t)
{
    if (t == B32) {
        if (how == "and") return run_reduce<AllBits, uint32_t>;
        if (how == "or") return run_reduce<AnyBit, uint32_t>;
        return how == "xor" ? run_reduce<OddBits, uint32_t> : nullptr;
    }
    if (t != U32 && t != S32) return nullptr;
    if (how == "add") return run_reduce<Sum, uint32_t>;
    if (how == "min") return t == S32 ? run_reduce<Least, int32_t> : run_reduce<Least, uint32_t>;
    if (how == "max") return t == S32 ? run_reduce<Most, int32_t> : run_reduce<Most, uint32_t>;
    return nullptr;
}

} // namespace ptx
} // namespace simt
