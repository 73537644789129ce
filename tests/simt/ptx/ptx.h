/*
 * ptx.h - what the parts of the PTX interpreter share.
 *
 * A module's text is indexed when it is first needed (module.cpp), and each kernel is compiled at
 * its first launch to an array of pre-decoded instructions (compile.cpp, opcodes.cpp): calls are
 * inlined, registers become places in a frame (registers.cpp). A warp runs one instruction for all
 * its lanes that stand there (warp.cpp, grid.cpp). In a frame, a register is a row of 32 values of
 * 4 bytes (types up to 32 bits) or 8, a predicate one word with a bit for each lane.
 */
#ifndef SIMT_PTX_H
#define SIMT_PTX_H

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "check.h"

namespace simt
{
namespace ptx
{

enum Type : uint8_t {
    NONE,
    PRED,
    B8,
    U8,
    S8,
    B16,
    U16,
    S16,
    F16,
    BF16,
    B32,
    U32,
    S32,
    F32,
    F16X2,
    BF16X2,
    TF32,
    B64,
    U64,
    S64,
    F64,
    B128
};
Type type_of(const std::string &name); /* NONE: no type */
unsigned bytes_of(Type t);
inline bool is_signed(Type t) { return t == S8 || t == S16 || t == S32 || t == S64; }
inline bool is_float(Type t) { return t == F16 || t == BF16 || t == F32 || t == F64; }
inline bool is_wide(Type t) { return bytes_of(t) == 8; } /* its row has 8 bytes a lane */

enum class Space : uint8_t { generic, global, shared, constant, local, param };

struct Ins;
struct Step { /* one instruction of one warp */
    char *frame;
    unsigned mask; /* lanes that do it */
    unsigned warp;
};
using Run = void (*)(const Step &s, const Ins &i);

/* What the scheduler does with an instruction. */
enum class Flow : uint8_t { plain, branch, table, exit, barrier, collective };

constexpr int most_out = 8, most_in = 12;

struct Ins {
    Run run = nullptr;
    Flow flow = Flow::plain;
    bool guard_not = false, wide_address = false;
    uint8_t mode = 0, n_out = 0, n_in = 0; /* mode: of this kind of instruction */
    uint8_t bytes = 0;                     /* of one element in memory */
    Space space = Space::generic;
    bool order_before = false, order_after = false; /* a release, an acquire */
    int rounding = 0;                               /* fesetround's, 0: to nearest */
    int guard = -1;                                 /* a predicate */
    int out[most_out] = {},
        in[most_in] = {}; /* registers; places in the frame, once they are assigned */
    int64_t offset = 0, offset2 = 0;
    int target = -1; /* of a branch; of a table, its number */
    int line = 0;    /* in the PTX text */
    int file = 0, source_line = 0;
    const std::string *name = nullptr;
};

struct Variable {
    Space space = Space::global;
    Type type = B8;
    size_t at = 0, bytes = 0, align = 1;
    bool dynamic = false; /* extern: as many bytes as the launch says */
};

struct Shared { /* a shared variable of a kernel */
    std::string name;
    size_t bytes, align, at;
    bool dynamic;
};

enum class Special : uint8_t {
    tid,
    ntid,
    ctaid,
    nctaid,
    laneid,
    warpid,
    nwarpid,
    lanemask,
    dynamic_size,
    shared
};
struct Fill { /* a row that is set before a block runs */
    int reg;
    Special what;
    int axis; /* 0, 1, 2; kind of lane mask; index of a shared variable */
    bool per_block, wide;
};
enum class Bank : uint8_t { narrow, wide, predicate };
struct Constant {
    int reg;
    uint64_t value;
    Bank bank;
};

struct Module;
struct Param {
    size_t at, bytes;
};
struct Kernel {
    std::string name, shown; /* as in the text, and for people */
    Module *home = nullptr;
    std::string problem; /* why it cannot run: empty if it can */
    std::vector<Ins> code;
    std::vector<std::vector<int>> tables;
    std::vector<Bank> bank; /* of each register, until places are assigned */
    std::vector<Constant> constants;
    std::vector<Fill> fills;
    std::vector<Shared> shared;
    std::vector<Param> params;
    size_t param_bytes = 0, local_bytes = 0, frame_bytes = 0, static_bytes = 0;
    unsigned most_threads = max_threads;
    uint32_t first_id = 0; /* of its instructions, for the checker */
};

struct Body { /* of a function, where it stands in the text */
    size_t at = 0;
    int line = 0;
    bool entry = false;
};

struct Module {
    std::string text, problem;
    bool indexed = false, announced = false;
    std::map<std::string, Body> bodies; /* from the name, or from the return parameter before it */
    std::map<std::string, Variable> variables;
    std::vector<char> data, constants; /* .global and .const: they stay where they are */
    std::map<int, std::string> files;
    std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

/* module.cpp. Text that cannot be read is the module's problem. */
void index_module(Module &m);
/* compile.cpp: the kernel, compiled at its first use; null: there is none of that name. */
Kernel *kernel_of(Module &m, const std::string &name);
/* registers.cpp: gives registers their places, and frame_bytes. */
void assign_registers(Kernel &k);
/* place.cpp: numbers for the checker's reports. */
void number_instructions(Kernel &k);
uint32_t id_of(const Ins &i);

/* Words of PTX: identifiers, numbers, directives, strings, or one other character. */
struct Words {
    const std::string &text;
    size_t at = 0;
    int line = 1;

    explicit Words(const std::string &t) : text(t) {}
    std::string next(); /* "" at the end */
    std::string peek();
    void skip_line();
};

/* Thrown while a text is read; caught where a module or kernel is made. */
struct Unreadable {
    std::string why;
    int line;
};

/* Sees to variables' declarations, at the word behind .global, .shared, ... */
std::string declare(Words &w, Variable &v, std::vector<std::string> &values);

/* opcodes.cpp: arithmetic by the name without rounding, .ftz and .sat; null: unknown. */
struct Opcode {
    Run run;
    Type out;
    Type in[4];
    int n_in;
};
const Opcode *opcode(const std::string &name);
Run convert_of(Type to, Type from, char mode); /* convert.cpp; mode: 'i' to integers, 's' sat */

/* The launch that runs. */
struct Launched {
    const Kernel *kernel;
    const char *params;
    uint3 block_dim, grid_dim;
    unsigned n_threads;
    size_t dynamic;
    char *arena;
    std::vector<char> local; /* n_threads times local_bytes */
};
extern Launched now;
extern uint3 thread_index[max_threads];

/* memory.cpp: the host's address of an access of a lane, which is checked. */
enum class Kind : uint8_t { read, write, atomic };
char *locate(const Step &s, const Ins &i, unsigned lane, Space space, uint64_t address,
             unsigned bytes, Kind kind);
inline void enter(unsigned warp, unsigned lane)
{
    where.linear = warp * lanes + lane;
    where.thread = thread_index[where.linear];
}
void forget_copies(); /* of cp.async, when a block begins */

/* grid.cpp and warp.cpp */
enum class Wait : uint8_t { none, barrier, collective };
struct Lanes { /* of one warp */
    char *frame;
    unsigned born, live, run, at_barrier, at_collective;
    int pc[lanes];
};
extern Lanes warp_lanes[max_warps];
void run_warp(unsigned w); /* until no lane of it can go on */
unsigned members_of(const Lanes &w, const Ins &i, unsigned lane);
extern unsigned long long instructions_run;

/* runtime.cpp, for tests: a module of one's own, and a launch of one of its kernels. */
Module *load(const std::string &text);
cudaError_t start(Module *m, const char *kernel, dim3 grid, dim3 block, size_t dynamic,
                  const void *params, size_t bytes);
Kernel *kernel_at(const void *function);

/* Rows. */
template <class F> inline void each(unsigned mask, F f)
{
    if (mask == ~0u) {
#ifdef __clang__
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
        for (unsigned l = 0; l < lanes; l++) f(l);
    } else {
        for (unsigned m = mask; m; m &= m - 1) f((unsigned)__builtin_ctz(m));
    }
}
template <class T> using Cell = typename std::conditional<sizeof(T) <= 4, uint32_t, uint64_t>::type;
template <class T> inline T get(const char *row, unsigned lane)
{
    const Cell<T> bits = reinterpret_cast<const Cell<T> *>(row)[lane];
    T v;

    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}
template <class T> inline void put(char *row, unsigned lane, T v)
{
    Cell<T> bits = 0;

    __builtin_memcpy(&bits, &v, sizeof v);
    reinterpret_cast<Cell<T> *>(row)[lane] = bits;
}
inline char *out_row(const Step &s, const Ins &i, int k) { return s.frame + i.out[k]; }
inline char *in_row(const Step &s, const Ins &i, int k) { return s.frame + i.in[k]; }
inline unsigned &predicate(const Step &s, int place)
{
    return *reinterpret_cast<unsigned *>(s.frame + place);
}
inline void set_predicate(const Step &s, int place, unsigned bits)
{
    unsigned &p = predicate(s, place);
    p = (p & ~s.mask) | (bits & s.mask);
}

} // namespace ptx
} // namespace simt

#endif /* SIMT_PTX_H */
