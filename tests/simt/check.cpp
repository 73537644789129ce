/*
 * check.cpp - finds races, stray accesses and unwritten reads in emulated kernels.
 *
 * Kernels are compiled with -fsanitize=thread and linked without it: the compiler then calls
 * __tsan_read4(p), __tsan_write4(p), ... before each access, and callbacks.cpp brings them here.
 * Verdicts come from the structure of barriers, never from the order in which threads ran.
 *
 * Time is one counter, `epoch`, that grows at every block's start and every block barrier. Blocks
 * run one after another, so the epoch of an earlier access, set against three marks, tells all:
 *   < launch_mark: an earlier launch, ordered     < block_mark: another block of this launch
 *   < epoch: this block, before a barrier         = epoch: no barrier between
 * Inside a warp, what a lane knows of the others is a 32 x 32 clock matrix, joined by __syncwarp.
 * Shuffles and votes order no memory, as CUDA documents. Between blocks there are atomics, and the
 * pattern of the last block: fence, then atomic, releases; atomic, then fence, acquires.
 */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>

#include "check.h"

namespace simt
{
namespace check
{

const bool present = true;

struct Cell { /* the history of one granule of memory */
    uint32_t w_epoch, r_epoch;
    uint32_t w_pc, r_pc;
    uint32_t w_clock, r_clock; /* the lane's own clock at the access */
    uint32_t r_lanes;          /* lanes of r_warp that read in r_epoch */
    uint16_t w_thread;
    uint8_t r_warp, flags;
};
enum : uint8_t { WRITTEN = 1, W_ATOMIC = 2, R_MANY_WARPS = 4, R_ATOMIC = 8 };

struct Region {
    char *base;
    size_t bytes;
    unsigned shift; /* log2 of a cell's bytes: 2, or 0 after a narrow access */
    Cell *cells;
    const char *name;                 /* of a shared variable; null: global memory */
    std::map<char *, size_t> *pieces; /* what the pool has handed out of it; null: all of it */
};

static std::map<char *, Region> &globals = *new std::map<char *, Region>; /* by base */
static Region shared[max_shared];
static unsigned n_shared;
static const char *arena_low, *arena_high;
static uint32_t epoch = 1, launch_mark = 1, block_mark = 1;
static bool did_atomic, acquired, dirty, released_writes;
static std::map<uint32_t, bool> &blocks = *new std::map<uint32_t, bool>; /* mark: released */
static uint32_t clocks[max_warps][lanes][lanes]; /* [w][i][j]: what lane i knows of lane j */
static std::set<uint64_t> &said = *new std::set<uint64_t>;
static Region *hot;

static Cell *make_cells(size_t n)
{
    Cell *c = static_cast<Cell *>(calloc(n ? n : 1, sizeof(Cell)));

    if (!c) {
        fprintf(stderr, "simt: no memory for the checker's cells\n");
        abort();
    }
    return c;
}

static size_t index_of(const Region *r, const char *p) { return (size_t)(p - r->base) >> r->shift; }

/* What the scheduler tells */

void launch_begin()
{
    launch_mark = epoch + 1;
    blocks.clear();
    said.clear();
}

void block_begin()
{
    if (block_mark >= launch_mark) blocks[block_mark] = released_writes;
    block_mark = ++epoch;
    acquired = did_atomic = dirty = released_writes = false;
    for (unsigned i = 0; i < n_shared; i++) free(shared[i].cells);
    n_shared = 0;
    memset(clocks, 0, sizeof clocks);
    for (auto &w : clocks)
        for (unsigned i = 0; i < lanes; i++) w[i][i] = 1;
}

void block_barrier()
{
    ++epoch;
    did_atomic = false;
}

void warp_joined(unsigned w, unsigned mask)
{
    uint32_t join[lanes] = {0};

    for (unsigned i = 0; i < lanes; i++)
        for (unsigned j = 0; mask >> i & 1 && j < lanes; j++)
            if (clocks[w][i][j] > join[j]) join[j] = clocks[w][i][j];
    for (unsigned i = 0; i < lanes; i++)
        if (mask >> i & 1) {
            memcpy(clocks[w][i], join, sizeof join);
            clocks[w][i][i]++;
        }
}

void fence()
{
    dirty = false;
    acquired |= did_atomic;
}

void shared_arena(const char *p, size_t bytes)
{
    arena_low = p;
    arena_high = p + bytes;
}

void shared_variable(const char *p, size_t bytes, const char *name)
{
    shared[n_shared++] =
        Region{const_cast<char *>(p), bytes, 2, make_cells((bytes + 3) / 4), name, nullptr};
}

/* What the runtime tells */

static Region *global_of(const void *p, size_t n)
{
    char *c = static_cast<char *>(const_cast<void *>(p));

    if (hot && c >= hot->base && c + n <= hot->base + hot->bytes) return hot;
    auto it = globals.upper_bound(c);
    if (it == globals.begin()) return nullptr;
    Region *r = &(--it)->second;
    return c + n <= r->base + r->bytes ? hot = r : nullptr;
}

void allocated(char *p, size_t bytes)
{
    globals[p] = Region{p, bytes, 2, make_cells((bytes + 3) / 4), nullptr, nullptr};
    hot = nullptr;
}

void released(char *p)
{
    auto it = globals.find(p);

    if (it == globals.end()) return;
    free(it->second.cells);
    delete it->second.pieces;
    globals.erase(it);
    hot = nullptr;
}

static void set_written(const void *p, size_t n, bool on)
{
    Region *r = n ? global_of(p, n) : nullptr;
    const char *c = static_cast<const char *>(p);

    if (!r) return;
    for (size_t i = index_of(r, c), end = index_of(r, c + n - 1); i <= end; i++)
        r->cells[i].flags = on ? r->cells[i].flags | WRITTEN : 0;
}

void written_by_host(const void *p, size_t n) { set_written(p, n, true); }

void copied(const void *to, const void *from, size_t n)
{
    Region *t = global_of(to, n), *f = global_of(from, n);
    char *a = static_cast<char *>(const_cast<void *>(to));
    const char *b = static_cast<const char *>(from);

    if (!t || !f) return;
    for (size_t i = 0; i < n; i += 1u << t->shift) {
        Cell &cell = t->cells[index_of(t, a + i)];
        const bool on = f->cells[index_of(f, b + i)].flags & WRITTEN;
        cell.flags = (uint8_t)((cell.flags & ~WRITTEN) | (on ? WRITTEN : 0));
    }
}

void marked(char *p, size_t n, bool live)
{
    Region *r = global_of(p, n);

    if (!r) return;
    if (!r->pieces) r->pieces = new std::map<char *, size_t>;
    if (live) (*r->pieces)[p] = n;
    else r->pieces->erase(p);
    set_written(p, n, false);
}

/* The pool's piece that holds all of [p, p + n), or the allocation where nothing is marked. */
static bool in_piece(const Region *r, const char *p, size_t n)
{
    if (!r->pieces) return true;
    auto it = r->pieces->upper_bound(const_cast<char *>(p));
    return it != r->pieces->begin() && p + n <= (--it)->first + it->second;
}

void touched_by_host(const void *p, size_t n, const char *what)
{
    const Region *r = global_of(p, n);

    if (r && !in_piece(r, static_cast<const char *>(p), n))
        report("%s of %zu bytes at byte %zu of an allocation is not within one block of the pool",
               what, n, (size_t)(static_cast<const char *>(p) - r->base));
}

static Region *find(const char *p, size_t n, bool *global)
{
    *global = !(p >= arena_low && p < arena_high);
    if (*global) {
        Region *r = global_of(p, n);
        return r && in_piece(r, p, n) ? r : nullptr;
    }
    for (unsigned i = 0; i < n_shared; i++)
        if (p >= shared[i].base && p + n <= shared[i].base + shared[i].bytes) return &shared[i];
    return nullptr;
}

/* Reports */

static void describe(char *out, size_t n, const Region *r, const char *p)
{
    if (r->name)
        snprintf(out, n, "shared %s[byte %zu of %zu]", r->name, (size_t)(p - r->base), r->bytes);
    else
        snprintf(out, n, "global allocation of %zu bytes, byte %zu", r->bytes,
                 (size_t)(p - r->base));
}

static bool once(uint32_t a, uint32_t b) { return said.insert((uint64_t)a << 32 | b).second; }

struct Act { /* one access, as the rules see it */
    Region *region;
    bool write, atomic, global;
    uint32_t pc;
};
enum : unsigned { SEVERAL = max_threads, OTHER_BLOCK };

static void race(const Act &a, const char *p, bool write, uint32_t other_pc, unsigned other)
{
    char here[160], there[160], what[160], who[64];

    if (!once(a.pc, other_pc)) return;
    Quiet q;
    source(here, sizeof here, a.pc);
    source(there, sizeof there, other_pc);
    describe(what, sizeof what, a.region, p);
    if (other == OTHER_BLOCK) snprintf(who, sizeof who, "another block");
    else if (other == SEVERAL) snprintf(who, sizeof who, "several threads");
    else snprintf(who, sizeof who, "thread %u", other);
    report("race: %s at %s, not ordered with the access of %s at %s (%s)", write ? "write" : "read",
           here, who, there, what);
}

static void stray(const char *p, size_t n, const Act &a)
{
    char here[160], near_by[200] = "";
    bool global;

    Quiet q;
    source(here, sizeof here, a.pc);
    if (const Region *r = global_of(p, 1)) { /* inside an allocation, outside what was handed out */
        describe(near_by, sizeof near_by, r, p);
    } else {
        for (size_t back = 1; back <= 64 << 10 && !*near_by; back *= 2)
            if (const Region *near = find(p - back, 1, &global))
                snprintf(near_by, sizeof near_by, "%zu bytes past the end of %s %s of %zu bytes",
                         (size_t)(p - near->base) - near->bytes, near->name ? "shared" : "a global",
                         near->name ? near->name : "allocation", near->bytes);
    }
    fault(cudaErrorIllegalAddress, "%s of %zu bytes outside device memory at %s: %p %s",
          a.write ? "write" : "read", n, here, static_cast<const void *>(p), near_by);
}

/* Rules */

static bool ordered_in_warp(unsigned other, uint32_t clock)
{
    const unsigned me = where.linear;

    return other / lanes == me / lanes && clocks[me / lanes][me % lanes][other % lanes] > clock;
}

static bool handed_over(uint32_t e) /* by the earlier block of epoch e */
{
    if (!acquired) return false;
    auto it = blocks.upper_bound(e);
    return it != blocks.begin() && (--it)->second;
}

static void after_write(const Act &a, const Cell *c, const char *p)
{
    const unsigned me = where.linear;

    if (c->w_epoch < (a.global ? launch_mark : block_mark)) return;
    if (a.atomic && c->flags & W_ATOMIC) return;
    if (c->w_epoch < block_mark) {
        if (!handed_over(c->w_epoch)) race(a, p, a.write, c->w_pc, OTHER_BLOCK);
    } else if (c->w_epoch == epoch && c->w_thread != me &&
               !ordered_in_warp(c->w_thread, c->w_clock - 1)) {
        race(a, p, a.write, c->w_pc, c->w_thread);
    }
}

static void after_reads(const Act &a, const Cell *c, const char *p)
{
    const unsigned me = where.linear;

    if (c->r_epoch < (a.global ? launch_mark : block_mark)) return;
    if (c->r_epoch < block_mark) {
        if (!handed_over(c->r_epoch)) race(a, p, true, c->r_pc, OTHER_BLOCK);
    } else if (c->r_epoch == epoch && c->flags & R_MANY_WARPS) {
        race(a, p, true, c->r_pc, SEVERAL);
    } else if (c->r_epoch == epoch) {
        for (unsigned m = c->r_lanes; m; m &= m - 1) {
            const unsigned other = c->r_warp * lanes + (unsigned)__builtin_ctz(m);
            if (other == me || ordered_in_warp(other, c->r_clock - 1)) continue;
            race(a, p, true, c->r_pc, other);
            return;
        }
    }
}

static void note_read(const Act &a, Cell *c)
{
    const unsigned w = where.linear / lanes, lane = where.linear % lanes;

    if (c->r_epoch != epoch) {
        c->r_epoch = epoch;
        c->r_lanes = 0;
        c->r_warp = (uint8_t)w;
        c->flags &= (uint8_t)~R_MANY_WARPS;
    } else if (c->r_warp != w) {
        c->flags |= R_MANY_WARPS;
    }
    if (c->r_warp == w) { /* lanes that this read comes after need not be remembered */
        if (c->r_clock != clocks[w][lane][lane]) c->r_lanes = 0;
        c->r_lanes |= 1u << lane;
        c->r_clock = clocks[w][lane][lane];
    }
    c->r_pc = a.pc;
}

static void on_cell(const Act &a, Cell *c, const char *p)
{
    const bool known = a.global ? c->flags & WRITTEN : c->w_epoch >= block_mark;

    after_write(a, c, p);
    if ((!a.write || a.atomic) && !known && once(a.pc, 0)) {
        char here[160], what[160];
        Quiet q;
        source(here, sizeof here, a.pc);
        describe(what, sizeof what, a.region, p);
        report("read of unwritten memory at %s (%s)", here, what);
    }
    if (!a.write) {
        note_read(a, c);
        return;
    }
    after_reads(a, c, p);
    c->w_epoch = epoch;
    c->w_thread = (uint16_t)where.linear;
    c->w_clock = clocks[where.linear / lanes][where.linear % lanes][where.linear % lanes];
    c->w_pc = a.pc;
    c->flags = (uint8_t)((c->flags & R_MANY_WARPS) | WRITTEN | (a.atomic ? W_ATOMIC : 0));
}

/* One cell a byte from now on. */
static void narrow(Region *r)
{
    Cell *c = make_cells(r->bytes);

    for (size_t i = 0; i < r->bytes; i++) c[i] = r->cells[i >> r->shift];
    free(r->cells);
    r->cells = c;
    r->shift = 0;
}

void access(const void *v, size_t n, bool write, bool is_atomic, uint32_t pc, bool aligned)
{
    const char *p = static_cast<const char *>(v);
    Act a = {nullptr, write, is_atomic, false, pc};

    if (!where.running || !n || on_fiber_stack(v)) return;
    work_done.accesses++;
    a.region = find(p, n, &a.global);
    if (is_atomic) {
        did_atomic = true;
        released_writes |= !dirty;
    } else if (write && a.global) {
        dirty = true;
    }
    if (!a.region) {
        if (a.global && !write && in_program(v)) return; /* constants */
        if ((uintptr_t)p - (uintptr_t)where.args < where.args_bytes) return;
        stray(p, n, a);
    }
    if (aligned && (uintptr_t)p & (n - 1)) misaligned(v, n, pc);
    if (a.region->shift && (n & 3 || (uintptr_t)p & 3)) narrow(a.region);
    for (size_t i = index_of(a.region, p), end = index_of(a.region, p + n - 1); i <= end; i++)
        on_cell(a, &a.region->cells[i], a.region->base + (i << a.region->shift));
}

} // namespace check

void fence(bool device)
{
    if (device) check::fence();
}

} // namespace simt
