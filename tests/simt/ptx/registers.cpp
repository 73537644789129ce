/*
 * registers.cpp - a place in the frame for each register. nvcc's PTX has thousands of registers
 * that live shortly; those that never live at the same time share a place, so that a warp's frame
 * stays in the cache. A lane follows its own path, and places are apart by lane: what holds for
 * one path through the code holds for all lanes.
 */
#include <algorithm>

#include "ptx.h"

namespace simt
{
namespace ptx
{

namespace
{
using Set = std::vector<uint64_t>;

struct Block {
    size_t from, to; /* instructions */
    std::vector<size_t> next;
    Set uses, defines, in, out;
};

struct Life {
    int reg, from, to;
};

bool has(const Set &s, int reg) { return s[(size_t)reg / 64] >> (reg % 64) & 1; }
void put_in(Set &s, int reg) { s[(size_t)reg / 64] |= 1ull << (reg % 64); }
} // namespace

/* Blocks of instructions that are run from the first to the last. */
static std::vector<Block> blocks_of(const Kernel &k)
{
    std::vector<char> leads(k.code.size() + 1);
    std::vector<size_t> number(k.code.size() + 1);
    std::vector<Block> blocks;

    leads[0] = 1;
    for (size_t i = 0; i < k.code.size(); i++) {
        const Ins &ins = k.code[i];
        if (ins.flow == Flow::plain || ins.flow == Flow::barrier || ins.flow == Flow::collective)
            continue;
        leads[i + 1] = 1;
        if (ins.flow == Flow::branch) leads[(size_t)ins.target] = 1;
        if (ins.flow == Flow::table)
            for (int t : k.tables[(size_t)ins.target]) leads[(size_t)t] = 1;
    }
    for (size_t i = 0; i < k.code.size(); i++) {
        if (leads[i]) blocks.push_back({i, i, {}, {}, {}, {}, {}});
        blocks.back().to = i + 1;
        number[i] = blocks.size() - 1;
    }
    for (Block &b : blocks) {
        const Ins &last = k.code[b.to - 1];
        if (last.flow == Flow::branch) b.next.push_back(number[(size_t)last.target]);
        if (last.flow == Flow::table)
            for (int t : k.tables[(size_t)last.target]) b.next.push_back(number[(size_t)t]);
        const bool leaves = last.flow != Flow::plain && last.flow != Flow::barrier &&
                            last.flow != Flow::collective && last.guard < 0;
        if (!leaves && b.to < k.code.size()) b.next.push_back(number[b.to]);
    }
    return blocks;
}

/* A result under a guard leaves the value of other lanes: it is a use as well. */
static void look(const Kernel &k, Block &b, size_t words)
{
    b.uses.assign(words, 0);
    b.defines.assign(words, 0);
    b.in.assign(words, 0);
    b.out.assign(words, 0);
    auto use = [&](int reg) {
        if (!has(b.defines, reg)) put_in(b.uses, reg);
    };
    for (size_t i = b.from; i < b.to; i++) {
        const Ins &ins = k.code[i];
        for (int n = 0; n < ins.n_in; n++) use(ins.in[n]);
        if (ins.guard >= 0) use(ins.guard);
        for (int n = 0; n < ins.n_out; n++) {
            if (ins.guard >= 0) use(ins.out[n]);
            else put_in(b.defines, ins.out[n]);
        }
    }
}

static void flow(std::vector<Block> &blocks)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t n = blocks.size(); n-- > 0;) {
            Block &b = blocks[n];
            for (size_t w = 0; w < b.in.size(); w++) {
                uint64_t out = 0;
                for (size_t to : b.next) out |= blocks[to].in[w];
                const uint64_t in = b.uses[w] | (out & ~b.defines[w]);
                changed |= in != b.in[w] || out != b.out[w];
                b.in[w] = in;
                b.out[w] = out;
            }
        }
    }
}

static std::vector<Life> lives_of(const Kernel &k, const std::vector<Block> &blocks)
{
    std::vector<Life> lives(k.bank.size());

    for (size_t r = 0; r < lives.size(); r++) lives[r] = {(int)r, INT32_MAX, -1};
    auto meet = [&](int reg, size_t at) {
        Life &l = lives[(size_t)reg];
        l.from = std::min(l.from, (int)at);
        l.to = std::max(l.to, (int)at);
    };
    for (const Block &b : blocks) {
        for (size_t r = 0; r < lives.size(); r++) {
            if (has(b.in, (int)r)) meet((int)r, b.from);
            if (has(b.out, (int)r)) meet((int)r, b.to); /* also at what follows in the text */
        }
        for (size_t i = b.from; i < b.to; i++) {
            const Ins &ins = k.code[i];
            for (int n = 0; n < ins.n_in; n++) meet(ins.in[n], i);
            for (int n = 0; n < ins.n_out; n++) meet(ins.out[n], i);
            if (ins.guard >= 0) meet(ins.guard, i);
        }
    }
    return lives;
}

void assign_registers(Kernel &k)
{
    static const size_t size[] = {lanes * 4, lanes * 8, 4};
    const size_t words = (k.bank.size() + 63) / 64;
    std::vector<Block> blocks = blocks_of(k);
    std::vector<int> place(k.bank.size(), -1);
    size_t top[3] = {0, 0, 0};
    std::vector<size_t> idle[3];
    auto take = [&](int reg) {
        const int bank = (int)k.bank[(size_t)reg];
        if (idle[bank].empty()) idle[bank].push_back(top[bank]++);
        place[(size_t)reg] = (int)idle[bank].back();
        idle[bank].pop_back();
    };

    for (Block &b : blocks) look(k, b, words);
    flow(blocks);
    std::vector<Life> lives = lives_of(k, blocks);
    for (const Constant &c : k.constants) take(c.reg); /* for good */
    for (const Fill &f : k.fills) take(f.reg);
    std::sort(lives.begin(), lives.end(), [](const Life &a, const Life &b) {
        return a.from != b.from ? a.from < b.from : a.reg < b.reg;
    });
    std::vector<Life> active; /* a heap, the first to end on top */
    auto later = [](const Life &a, const Life &b) { return a.to > b.to; };
    for (const Life &l : lives) {
        if (l.to < 0 || place[(size_t)l.reg] >= 0) continue;
        while (!active.empty() && active.front().to < l.from) {
            const int reg = active.front().reg;
            idle[(int)k.bank[(size_t)reg]].push_back((size_t)place[(size_t)reg]);
            std::pop_heap(active.begin(), active.end(), later);
            active.pop_back();
        }
        take(l.reg);
        active.push_back(l);
        std::push_heap(active.begin(), active.end(), later);
    }

    const size_t first[] = {0, top[0] * size[0], top[0] * size[0] + top[1] * size[1]};
    k.frame_bytes = (first[2] + top[2] * size[2] + 63) / 64 * 64;
    auto settle = [&](int &reg) {
        const int bank = (int)k.bank[(size_t)reg];
        reg = (int)(first[bank] + (size_t)place[(size_t)reg] * size[bank]);
    };
    for (Ins &i : k.code) {
        for (int n = 0; n < i.n_in; n++) settle(i.in[n]);
        for (int n = 0; n < i.n_out; n++) settle(i.out[n]);
        if (i.guard >= 0) settle(i.guard);
    }
    for (Constant &c : k.constants) settle(c.reg);
    for (Fill &f : k.fills) {
        const bool wide = k.bank[(size_t)f.reg] == Bank::wide;
        settle(f.reg);
        f.wide = wide;
    }
}

} // namespace ptx
} // namespace simt
