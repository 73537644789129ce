/*
 * warp.cpp - collectives of a warp: __syncwarp, shuffles, votes.
 *
 * A lane that calls one waits until every live lane of its mask stands at the same operation with
 * the same mask and the same place in the source; the last one works out everybody's result.
 */
#include "internal.h"

namespace simt
{

static int source_lane(const Thread &t, int lane)
{
    const int first = lane & ~(t.width - 1), last = first + t.width - 1;
    int from = lane;

    switch (t.kind) {
    case Shfl::idx: return first + (t.arg & (t.width - 1));
    case Shfl::up: from = lane - t.arg; return from < first ? lane : from;
    case Shfl::down: from = lane + t.arg; return from > last ? lane : from;
    case Shfl::exor: from = lane ^ t.arg; return from > last ? lane : from;
    }
    return from;
}

/* The lanes of a group may read each other only: a GPU gives anything else. */
static uint64_t shuffled(const Thread *warp, unsigned lane, unsigned group)
{
    const Thread &t = warp[lane];
    const int from = source_lane(t, (int)lane);

    if (from < 0 || from >= (int)lanes || !(group >> from & 1)) {
        make_current(const_cast<Thread *>(&t));
        report("__shfl_sync at %s:%d reads lane %d, which is not in the mask or has exited",
               base_name(t.site.file), t.site.line, from);
        return 0xDEADBEEFDEADBEEFu;
    }
    return warp[from].in;
}

static uint64_t voted(const Thread *warp, const Thread &t, unsigned group)
{
    unsigned yes = 0, same = 0;

    for (unsigned m = group; m; m &= m - 1) {
        const unsigned i = (unsigned)__builtin_ctz(m);
        if (warp[i].in) yes |= 1u << i;
        if (warp[i].in == t.in) same |= 1u << i;
    }
    switch (t.op) {
    case Op::ballot: return yes;
    case Op::any: return yes != 0;
    case Op::all: return yes == group;
    case Op::match: return same;
    default: return 0;
    }
}

void settle(const Thread &t)
{
    const unsigned w = t.linear / lanes, mask = t.mask, group = mask & warps[w].live;
    Thread *warp = &threads[w * lanes], *me = self;

    if (group & ~warps[w].waiting) return;
    for (unsigned m = group; m; m &= m - 1) {
        const Thread &other = warp[__builtin_ctz(m)];
        if (other.op != t.op || other.mask != mask) return;
    }
    /* Lanes that a small block never had are let pass, as GPUs do; lanes that left are not. */
    if (mask & warps[w].born & ~warps[w].live)
        report("warp collective at %s:%d: its mask %08x names lanes that have exited (live: %08x)",
               base_name(t.site.file), t.site.line, mask, warps[w].live);
    if (t.op == Op::syncwarp) {
        check::warp_joined(w, group);
    } else {
        for (unsigned m = group; m; m &= m - 1) {
            const unsigned i = (unsigned)__builtin_ctz(m);
            warp[i].out = t.op == Op::shfl ? shuffled(warp, i, group) : voted(warp, warp[i], group);
        }
    }
    if (self != me) make_current(me);
    warps[w].waiting &= ~group;
    for (unsigned m = group; m; m &= m - 1) {
        Thread *other = &warp[__builtin_ctz(m)];
        other->state = State::ready;
        make_ready(other);
    }
}

void left_warp(const Thread &t)
{
    Warp &w = warps[t.linear / lanes];

    w.live &= ~(1u << t.linear % lanes);
    for (unsigned m = w.waiting; m; m &= m - 1) {
        const Thread &other = threads[t.linear / lanes * lanes + (unsigned)__builtin_ctz(m)];
        if (other.state == State::waiting) settle(other);
    }
}

static void need_own_lane(unsigned mask, Site s)
{
    if (!(mask >> self->linear % lanes & 1))
        fault(cudaErrorLaunchFailure,
              "warp collective at %s:%d: the calling lane is not in its mask %08x",
              base_name(s.file), s.line, mask);
}

void syncwarp(unsigned mask, Site s)
{
    need_own_lane(mask, s);
    wait_here(Op::syncwarp, mask, s);
}

unsigned vote(Op op, unsigned mask, uint64_t value, Site s)
{
    need_own_lane(mask, s);
    self->in = value;
    wait_here(op, mask, s);
    return (unsigned)self->out;
}

uint64_t shfl(Shfl kind, unsigned mask, uint64_t value, int lane, int width, Site s)
{
    need_own_lane(mask, s);
    if (width < 1 || width > (int)lanes || (width & (width - 1)))
        fault(cudaErrorLaunchFailure, "__shfl_sync at %s:%d: width %d is no power of two up to 32",
              base_name(s.file), s.line, width);
    self->kind = kind;
    self->in = value;
    self->arg = lane;
    self->width = width;
    wait_here(Op::shfl, mask, s);
    return self->out;
}

} // namespace simt
