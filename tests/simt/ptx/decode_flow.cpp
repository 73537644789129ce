/*
 * decode_flow.cpp - instructions that steer, wait, or join the lanes of a warp; copies and tiles.
 */
#include "compile.h"

namespace simt
{
namespace ptx
{

void Compiler::branch()
{
    Ins i;

    take("uni");
    i.flow = Flow::branch;
    f->jumps.push_back({k.code.size(), w.next()});
    finish(i);
}

void Compiler::branch_table()
{
    Ins i;

    take("uni");
    if (!take("idx")) stop("unknown instruction '" + name + "'");
    i.flow = Flow::table;
    i.in[i.n_in++] = source(U32);
    expect(",");
    f->tables.push_back({k.code.size(), w.next()});
    finish(i);
}

/* call (results), function, (parameters); under a guard, a jump leads around the body. */
void Compiler::call()
{
    std::vector<std::string> returned, given;
    std::string word = (take("uni"), w.next());
    auto words = [&](std::vector<std::string> &out) {
        for (std::string s = w.next(); s != ")"; s = w.next())
            if (s != ",") out.push_back(s);
    };
    if (word == "(") {
        words(returned);
        expect(",");
        word = w.next();
    }
    int reg;
    if (is_register(word, &reg)) stop("unknown instruction '" + name + "' of a function in memory");
    const std::string callee = word;
    if (w.peek() == ",") {
        w.next();
        expect("(");
        words(given);
    }
    expect(";");
    size_t around = 0;
    const bool guarded = guard >= 0;
    if (guarded) {
        Ins i;
        i.flow = Flow::branch;
        i.guard = guard;
        i.guard_not = !guard_not;
        around = k.code.size();
        push(i);
    }
    inline_call(callee, returned, given);
    if (guarded) k.code[around].target = (int)k.code.size();
}

void Compiler::leave()
{
    const bool returns = name.compare(0, 3, "ret") == 0 && !f->entry;
    Ins i;

    take("uni");
    i.flow = returns ? Flow::branch : Flow::exit;
    if (returns) f->returns.push_back(k.code.size());
    finish(i);
}

/* mode: 0 sync, 1 arrive, 2 count, 3 and, 4 or. in: barrier, threads (none: all), predicate. */
void Compiler::barrier()
{
    Ins i;

    take("aligned");
    take("cta");
    if (take("warp")) {
        if (!take("sync")) stop("unknown instruction '" + name + "'");
        i.run = run_sync_warp;
        i.flow = Flow::collective;
        i.in[i.n_in++] = source(B32);
        finish(i);
        return;
    }
    const bool red = take("red");
    if (red) i.mode = take("popc") ? 2 : take("and") ? 3 : take("or") ? 4 : 0;
    else i.mode = take("arrive") ? 1 : !take("sync");
    if ((red && !i.mode) || (!red && i.mode && name.find("arrive") == std::string::npos))
        stop("unknown instruction '" + name + "'");
    i.flow = Flow::barrier;
    i.offset = 0; /* whether a number of threads is given */
    if (red) {
        const Type t = take_type();
        if (t != PRED && t != U32) stop("unknown instruction '" + name + "'");
        i.out[i.n_out++] = destination(t);
        expect(",");
    }
    i.in[i.n_in++] = source(U32);
    i.in[i.n_in++] = constant(Bank::narrow, 0);
    if (w.peek() == ",") {
        w.next();
        int reg;
        const bool counted = w.peek() != "!" && !(red && find_register(w.peek(), &reg) &&
                                                  k.bank[(size_t)reg] == Bank::predicate);
        if (counted) {
            i.offset = 1;
            i.in[1] = source(U32);
            if (red) expect(",");
        }
        if (red) i.in[i.n_in++] = predicate_source();
    }
    if (red && i.n_in != 3) stop("a bar.red without a predicate");
    finish(i);
}

void Compiler::fence()
{
    Ins i;

    take("sc");
    take("acq_rel");
    i.run = run_fence;
    i.mode = take("gl") || take("gpu") || take("sys"); /* else of the block only */
    take("cta");
    finish(i);
}

/* mode: as of simt::Shfl. in: value, lane, clamp and segment, members. */
void Compiler::shuffle()
{
    static const char *const modes[] = {"idx", "up", "down", "bfly"};
    Ins i;

    i.run = run_shuffle;
    i.flow = Flow::collective;
    i.mode = 4;
    for (uint8_t n = 0; n < 4; n++)
        if (take(modes[n])) i.mode = n;
    if (!take("sync") || i.mode > 3 || take_type() != B32)
        stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = destination(B32);
    if (w.peek() == "|") {
        w.next();
        i.out[i.n_out++] = destination(PRED);
    }
    for (int n = 0; n < 4; n++) {
        expect(",");
        i.in[i.n_in++] = source(B32);
    }
    finish(i);
}

/* mode: 0 ballot, 1 all, 2 any, 3 uni. in: predicate, members. */
void Compiler::vote()
{
    static const char *const modes[] = {"ballot", "all", "any", "uni"};
    Ins i;

    i.run = run_vote;
    i.flow = Flow::collective;
    i.mode = 4;
    for (uint8_t n = 0; n < 4; n++)
        if (take(modes[n])) i.mode = n;
    const Type t = take_type();
    if (!take("sync") || i.mode > 3 || t != (i.mode ? PRED : B32))
        stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = destination(t);
    expect(",");
    i.in[i.n_in++] = predicate_source();
    expect(",");
    i.in[i.n_in++] = source(B32);
    finish(i);
}

/* mode: bit 0 all, bit 1 of 64 bits. in: value, members. */
void Compiler::match()
{
    Ins i;
    const bool all = take("all"), any = take("any"), sync = take("sync");
    const Type t = take_type();

    if (all == any || !sync || (t != B32 && t != B64)) stop("unknown instruction '" + name + "'");
    i.run = run_match;
    i.flow = Flow::collective;
    i.mode = (uint8_t)(all | (t == B64) << 1);
    i.out[i.n_out++] = destination(B32);
    if (w.peek() == "|") {
        w.next();
        i.out[i.n_out++] = destination(PRED);
    }
    expect(",");
    i.in[i.n_in++] = source(t);
    expect(",");
    i.in[i.n_in++] = source(B32);
    finish(i);
}

void Compiler::reduce_lanes()
{
    Ins i;
    std::string how;

    for (const char *h : {"add", "min", "max", "and", "or", "xor"})
        if (take(h)) how = h;
    const bool sync = take("sync");
    const Type t = take_type();
    i.run = sync ? reduce_of(how, t) : nullptr;
    if (!i.run) stop("unknown instruction '" + name + "'");
    i.flow = Flow::collective;
    i.out[i.n_out++] = destination(t);
    expect(",");
    i.in[i.n_in++] = source(t);
    expect(",");
    i.in[i.n_in++] = source(B32);
    finish(i);
}

void Compiler::active()
{
    Ins i;

    if (take_type() != B32) stop("unknown instruction '" + name + "'");
    i.run = run_active;
    i.out[i.n_out++] = destination(B32);
    finish(i);
}

/* mma.sync.aligned.SHAPE.row.col.TYPE of d, a, b, c. The last input: all lanes take part. */
void Compiler::multiply_tiles()
{
    Ins i;
    int n_a, n_b, n_cd;
    const bool usual = take("sync") && take("aligned") && take("row") && take("col");
    const std::string shape = parts.size() > 3 ? parts[3] : "";

    if (parts.size() > 3) parts[3].clear();
    const Type d = take_type(), a = take_type(), b = take_type(), c = take_type();
    i.run = usual && a == b && c == d ? tiles_of(shape, a, c, &n_a, &n_b, &n_cd) : nullptr;
    if (!i.run) stop("unknown instruction '" + name + "'");
    i.flow = Flow::collective;
    i.n_out = (uint8_t)list(B32, true, i.out, most_out);
    for (int want : {n_a, n_b, n_cd}) {
        expect(",");
        if (list(B32, false, i.in + i.n_in, want) != want) stop("a tile of the wrong size");
        i.n_in = (uint8_t)(i.n_in + want);
    }
    if (i.n_out != n_cd) stop("a tile of the wrong size");
    i.in[i.n_in++] = constant(Bank::narrow, 0xffffffff);
    finish(i);
}

void Compiler::load_tiles()
{
    Ins i;
    const bool usual = take("sync") && take("aligned") && take("m8n8");
    const int n = take("x1") ? 1 : take("x2") ? 2 : take("x4") ? 4 : 0;

    i.mode = take("trans");
    i.space = take_space();
    const Type t = take_type();
    if (!usual || !n || t != B16 || (i.space != Space::shared && i.space != Space::generic))
        stop("unknown instruction '" + name + "'");
    i.run = run_load_tiles;
    i.flow = Flow::collective;
    i.n_out = (uint8_t)list(B32, true, i.out, most_out);
    if (i.n_out != n) stop("a tile of the wrong size");
    expect(",");
    address(i, &i.offset);
    i.in[i.n_in++] = constant(Bank::narrow, 0xffffffff);
    finish(i);
}

/* cp.async [to], [from], bytes, bytes that are not zeros; its commit_group and wait_group. */
void Compiler::copy_async()
{
    Ins i;

    if (!take("async")) stop("unknown instruction '" + name + "'");
    if (take("commit_group")) {
        i.run = run_commit;
    } else if (take("wait_all")) {
        i.run = run_wait_copies;
        i.mode = 1; /* those that were not committed, too */
        i.in[i.n_in++] = constant(Bank::narrow, 0);
    } else if (take("wait_group")) {
        i.run = run_wait_copies;
        i.in[i.n_in++] = source(U32);
    } else {
        const bool whole = take("cg"), any = take("ca");
        if (whole == any || !take_shared_to_global()) stop("unknown instruction '" + name + "'");
        take_hints();
        i.run = run_copy_async;
        address(i, &i.offset);
        i.mode = i.wide_address;
        expect(",");
        i.space = Space::global;
        address(i, &i.offset2);
        expect(",");
        const uint64_t n = literal(w.next(), false, U32);
        if (n != 16 && (whole || (n != 4 && n != 8))) stop("cp.async of a wrong number of bytes");
        i.bytes = (uint8_t)n;
        i.in[i.n_in++] = w.peek() == "," ? (w.next(), source(U32)) : constant(Bank::narrow, n);
    }
    finish(i);
}

bool Compiler::take_shared_to_global()
{
    const bool shared = take("shared") || take("shared::cta");

    return take("global") && shared;
}

void Compiler::is_space()
{
    Ins i;

    i.space = take_space();
    i.run = run_is_space;
    i.out[i.n_out++] = destination(PRED);
    expect(",");
    i.in[i.n_in++] = source(B64);
    finish(i);
}

} // namespace ptx
} // namespace simt
