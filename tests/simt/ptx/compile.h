/* compile.h - the compiler of one kernel: compile.cpp (functions, declarations, operands) and
 * decode.cpp (instructions). Whatever it does not know stops it with the word and its place. */
#ifndef SIMT_PTX_COMPILE_H
#define SIMT_PTX_COMPILE_H

#include <unordered_map>

#include "ptx.h"

namespace simt
{
namespace ptx
{

struct Compiler {
    Compiler(Module &module, Kernel &kernel) : m(module), k(kernel), w(module.text) {}
    void kernel();

    struct Range { /* .reg .b32 %r<12>; or one register, count 0 */
        int first, count;
    };
    struct Scope {
        std::unordered_map<std::string, Range> registers;
        std::unordered_map<std::string, Variable> variables;
    };
    struct Function { /* one that is being read; a call reads it again */
        std::map<std::string, int> labels;
        std::map<std::string, std::vector<std::string>> lists; /* .branchtargets */
        std::vector<std::pair<size_t, std::string>> jumps, tables;
        std::vector<size_t> returns;
        bool entry = false;
    };

    Module &m;
    Kernel &k;
    Words w;
    std::vector<Scope> scopes;
    Function *f = nullptr;
    int depth = 0, file = 0, source_line = 0;
    std::map<std::pair<int, uint64_t>, int> constants;
    std::map<std::string, int> specials;
    std::map<std::pair<int, int>, std::pair<int, int>> inlined; /* file, line: of the call */

    /* The instruction that is being read. */
    std::string name;
    std::vector<std::string> parts;
    int guard = -1;
    bool guard_not = false;
    bool loose = false;     /* st and cvt: registers may be wider than their operand */
    std::vector<Ins> after; /* follow it: conversions of its results */

    /* compile.cpp */
    [[noreturn]] void stop(const std::string &why);
    void expect(const char *word);
    int fresh(Bank b);
    int constant(Bank b, uint64_t value);
    int special(const std::string &word);
    int shared_address(const std::string &word, Bank b);
    const Range *find_register(const std::string &word, int *at);
    const Variable *find_variable(const std::string &word);
    bool is_register(const std::string &word, int *reg);
    int source(Type t);                                 /* a register that holds it, in t's bank */
    int destination(Type t);                            /* the same for a result */
    int predicate_source();                             /* p or !p */
    int list(Type t, bool result, int *regs, int most); /* {a, b} or a */
    void address(Ins &i, int64_t *offset);
    uint64_t literal(const std::string &word, bool negative, Type t);
    int micro(Run run, Bank bank, int in); /* an instruction of one operand, before this one */
    Ins &push(Ins i);
    void body();
    void statement(const std::string &word);
    void registers();
    void local(Space s);
    void location();
    void parameters(std::vector<std::string> *names);
    void inline_call(const std::string &callee, const std::vector<std::string> &returned,
                     const std::vector<std::string> &given);
    void resolve();

    /* decode.cpp */
    bool take(const char *part); /* whether the name has it; it is then seen to */
    Type take_type();
    void take_hints();
    void take_scope();
    void take_order(Ins &i);
    int take_rounding();
    Space take_space();
    bool take_shared_to_global();
    void instruction(const std::string &word);
    void finish(Ins &i);
    void arithmetic();
    unsigned elements();
    void move();
    void convert();
    void to_address();
    void compare();
    void set_value();
    void compared(Ins &i, Type t, bool ftz);
    void select();
    void select_sign();
    void load();
    void store();
    void atomic();
    void branch();
    void branch_table();
    void call();
    void leave();
    void barrier();
    void fence();
    void shuffle();
    void vote();
    void match();
    void reduce_lanes();
    void active();
    void multiply_tiles();
    void load_tiles();
    void copy_async();
    void is_space();
    void trap();
    void flush(Ins &i, Type t);
    void saturate(Ins &i, Type t);
};

/* The instructions' bodies, where no table holds them. */
void run_move_narrow(const Step &s, const Ins &i);
void run_move_wide(const Step &s, const Ins &i);
void run_move_predicate(const Step &s, const Ins &i);
void run_not_predicate(const Step &s, const Ins &i);
void run_narrow(const Step &s, const Ins &i);
void run_flush(const Step &s, const Ins &i);
Run saturate_of(Type t);
void run_pack(const Step &s, const Ins &i);
void run_unpack(const Step &s, const Ins &i);
Run compare_of(const std::string &how, Type t);
void run_select_narrow(const Step &s, const Ins &i);
void run_select_wide(const Step &s, const Ins &i);
Run load_of(Type t, bool wide_register);
Run store_of(Type t, bool wide_register);
Run atomic_of(const std::string &how, Type t);
void run_fence(const Step &s, const Ins &i);
void run_trap(const Step &s, const Ins &i);
void run_to_generic(const Step &s, const Ins &i);
void run_from_generic(const Step &s, const Ins &i);
void run_is_space(const Step &s, const Ins &i);
void run_active(const Step &s, const Ins &i);
void run_copy_async(const Step &s, const Ins &i);
void run_commit(const Step &s, const Ins &i);
void run_wait_copies(const Step &s, const Ins &i);
void run_shuffle(const Step &s, const Ins &i);
void run_vote(const Step &s, const Ins &i);
void run_match(const Step &s, const Ins &i);
Run reduce_of(const std::string &how, Type t);
void run_sync_warp(const Step &s, const Ins &i);
void run_load_tiles(const Step &s, const Ins &i);
/* shape "m16n8k8", types of a and b, of c and d; null: unknown. */
Run tiles_of(const std::string &shape, Type ab, Type cd, int *n_a, int *n_b, int *n_cd);

} // namespace ptx
} // namespace simt

#endif /* SIMT_PTX_COMPILE_H */
