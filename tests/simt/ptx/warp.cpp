/*
 * warp.cpp - the lanes of a warp. Each has a place in the code; those at the lowest place go
 * first, together, so that paths which parted meet again. At a collective, lanes wait for the
 * others that their mask names; at a barrier, for the block (grid.cpp).
 */
#include <cfenv>

#include "compile.h"

namespace simt
{
namespace ptx
{

Lanes warp_lanes[max_warps];
unsigned long long instructions_run;

unsigned members_of(const Lanes &w, const Ins &i, unsigned lane)
{
    return get<uint32_t>(w.frame + i.in[i.n_in - 1], lane);
}

static void set_places(Lanes &w, unsigned who, int pc)
{
    for (unsigned m = who; m; m &= m - 1) w.pc[__builtin_ctz(m)] = pc;
}

/* Lanes that can run, at the lowest place, and the next place where others are. */
static unsigned lowest(const Lanes &w, int *pc, int *next)
{
    unsigned group = 0;

    *pc = *next = INT32_MAX;
    for (unsigned m = w.run; m; m &= m - 1) {
        const unsigned l = (unsigned)__builtin_ctz(m);
        if (w.pc[l] < *pc) {
            *next = *pc;
            *pc = w.pc[l];
            group = 0;
        }
        if (w.pc[l] == *pc) group |= 1u << l;
        else if (w.pc[l] < *next) *next = w.pc[l];
    }
    return group;
}

static void wait_at(Lanes &w, unsigned who, int pc, unsigned &waiting)
{
    w.run &= ~who;
    waiting |= who;
    set_places(w, who, pc);
}

[[noreturn]] static void not_a_member(unsigned warp, const Ins &i, unsigned lane, unsigned members)
{
    char at[160];

    enter(warp, lane);
    where.running = false;
    check::source(at, sizeof at, id_of(i));
    fault(cudaErrorLaunchFailure,
          "warp collective at %s: the calling lane is not in its mask %08x (%s)", at, members,
          i.name->c_str());
}

static void says_exited(unsigned warp, const Ins &i, unsigned lane, unsigned members)
{
    const Lanes &w = warp_lanes[warp];
    char at[160];

    enter(warp, lane);
    Quiet q;
    check::source(at, sizeof at, id_of(i));
    report("warp collective at %s: its mask %08x names lanes that have exited (live: %08x, %s)", at,
           members, w.live, i.name->c_str());
}

/* Runs it for each set of lanes whose mask is the same and all of whose members are here; the
 * others wait. Lanes a small block never had are let pass. */
static void collective(unsigned warp, const Ins &i, unsigned mask, int pc)
{
    Lanes &w = warp_lanes[warp];

    for (unsigned rest = mask; rest;) {
        const unsigned first = (unsigned)__builtin_ctz(rest), members = members_of(w, i, first);
        unsigned same = 0;
        for (unsigned m = rest; m; m &= m - 1) {
            const unsigned l = (unsigned)__builtin_ctz(m);
            if (members_of(w, i, l) == members) same |= 1u << l;
        }
        rest &= ~same;
        if (same & ~members)
            not_a_member(warp, i, (unsigned)__builtin_ctz(same & ~members), members);
        if (members & w.live & ~same) {
            wait_at(w, same, pc, w.at_collective);
            continue;
        }
        if (members & w.born & ~w.live) says_exited(warp, i, first, members);
        i.run(Step{w.frame, same, warp}, i);
    }
}

/* Collectives whose last lane has come, or left: their lanes may go there again. */
static void wake(Lanes &w)
{
    for (unsigned left = w.at_collective; left;) {
        const unsigned first = (unsigned)__builtin_ctz(left);
        const Ins &i = now.kernel->code[(size_t)w.pc[first]];
        const unsigned members = members_of(w, i, first);
        unsigned same = 0;
        for (unsigned m = left; m; m &= m - 1) {
            const unsigned l = (unsigned)__builtin_ctz(m);
            if (w.pc[l] == w.pc[first] && members_of(w, i, l) == members) same |= 1u << l;
        }
        left &= ~same;
        if (members & w.live & ~same) continue;
        w.at_collective &= ~same;
        w.run |= same;
    }
}

static void plain(const Step &s, const Ins &i)
{
    if (!i.rounding) {
        i.run(s, i);
        return;
    }
    fesetround(i.rounding);
    i.run(s, i);
    fesetround(FE_TONEAREST);
}

/* Where lanes of a branch go. True: all of the group went to one place, *pc. */
static bool jump(Lanes &w, const Ins &i, unsigned group, unsigned taken, int *pc, int next)
{
    if (i.flow == Flow::branch && taken == group && i.target < next) {
        *pc = i.target;
        return true;
    }
    for (unsigned m = group; m; m &= m - 1) {
        const unsigned l = (unsigned)__builtin_ctz(m);
        int to = *pc + 1;
        if (taken >> l & 1) {
            to = i.target;
            if (i.flow == Flow::table) {
                const std::vector<int> &table = now.kernel->tables[(size_t)i.target];
                const uint32_t k = get<uint32_t>(w.frame + i.in[0], l);
                if (k >= table.size()) {
                    enter((unsigned)(&w - warp_lanes), l);
                    fault(cudaErrorIllegalAddress, "%s: number %u of %zu labels", i.name->c_str(),
                          k, table.size());
                }
                to = table[k];
            }
        }
        w.pc[l] = to;
    }
    return false;
}

/* The group goes on until it parts, waits, ends, or reaches others. */
static void advance(unsigned warp, unsigned group, int pc, int next)
{
    Lanes &w = warp_lanes[warp];
    const Ins *code = now.kernel->code.data();

    for (; pc != next;) {
        const Ins &i = code[pc];
        unsigned mask = group;
        if (i.guard >= 0) {
            const unsigned p = *reinterpret_cast<unsigned *>(w.frame + i.guard);
            mask &= i.guard_not ? ~p : p;
        }
        instructions_run++;
        if (mask) switch (i.flow) {
            case Flow::plain: plain(Step{w.frame, mask, warp}, i); break;
            case Flow::branch:
            case Flow::table:
                if (!jump(w, i, group, mask, &pc, next)) return;
                continue;
            case Flow::exit:
                w.run &= ~mask;
                w.live &= ~mask;
                break;
            case Flow::barrier: wait_at(w, mask, pc, w.at_barrier); break;
            case Flow::collective: collective(warp, i, mask, pc); break;
            }
        group &= w.run;
        if (!group) return;
        pc++;
    }
    set_places(w, group, pc);
}

void run_warp(unsigned warp)
{
    Lanes &w = warp_lanes[warp];

    while (w.run) {
        int pc, next;
        const unsigned group = lowest(w, &pc, &next);
        advance(warp, group, pc, next);
        wake(w);
    }
}

} // namespace ptx
} // namespace simt
