/*
 * compile.cpp - reads a kernel: declarations, labels, operands; calls are inlined. Each register of
 * the text, constant and special register becomes a number; registers.cpp gives them places.
 */
#include <cctype>
#include <cstdlib>
#include <cxxabi.h>

#include "compile.h"

namespace simt
{
namespace ptx
{

constexpr int most_depth = 24;
constexpr size_t most_code = 1 << 20;

void Compiler::stop(const std::string &why) { throw Unreadable{why, w.line}; }

void Compiler::expect(const char *word)
{
    const std::string s = w.next();

    if (s != word) stop("'" + std::string(word) + "' is wanted where '" + s + "' stands");
}

/* Registers, constants */

int Compiler::fresh(Bank b)
{
    k.bank.push_back(b);
    return (int)k.bank.size() - 1;
}

int Compiler::constant(Bank b, uint64_t value)
{
    const auto key = std::make_pair((int)b, b == Bank::narrow ? (uint32_t)value : value);
    auto it = constants.find(key);

    if (it != constants.end()) return it->second;
    const int reg = fresh(b);
    k.constants.push_back({reg, key.second, b});
    return constants[key] = reg;
}

int Compiler::special(const std::string &word)
{
    static const struct {
        const char *name;
        Special what;
        bool axes, per_block;
    } known[] = {
        {"%tid", Special::tid, true, false},
        {"%ntid", Special::ntid, true, false},
        {"%ctaid", Special::ctaid, true, true},
        {"%nctaid", Special::nctaid, true, false},
        {"%laneid", Special::laneid, false, false},
        {"%warpid", Special::warpid, false, false},
        {"%nwarpid", Special::nwarpid, false, false},
        {"%dynamic_smem_size", Special::dynamic_size, false, false},
    };
    static const char *const masks[] = {"eq", "lt", "le", "gt", "ge"};
    auto it = specials.find(word);
    Fill fill{-1, Special::tid, 0, false, false};
    bool found = false;

    if (it != specials.end()) return it->second;
    for (const auto &s : known)
        for (int axis = 0; axis < (s.axes ? 3 : 1); axis++)
            if (word == s.name + (s.axes ? std::string(".") + "xyz"[axis] : "")) {
                fill = {-1, s.what, axis, s.per_block, false};
                found = true;
            }
    for (int i = 0; i < 5; i++)
        if (word == std::string("%lanemask_") + masks[i]) {
            fill = {-1, Special::lanemask, i, false, false};
            found = true;
        }
    if (!found) return -1;
    fill.reg = fresh(Bank::narrow);
    k.fills.push_back(fill);
    return specials[word] = fill.reg;
}

const Compiler::Range *Compiler::find_register(const std::string &word, int *at)
{
    size_t digits = word.size();

    while (digits > 0 && isdigit((unsigned char)word[digits - 1])) digits--;
    const std::string stem = word.substr(0, digits);
    const int number = digits < word.size() ? atoi(word.c_str() + digits) : -1;
    for (size_t i = scopes.size(); i-- > 0;) {
        auto it = scopes[i].registers.find(word);
        if (it != scopes[i].registers.end() && it->second.count == 0) {
            *at = it->second.first;
            return &it->second;
        }
        it = scopes[i].registers.find(stem);
        if (it != scopes[i].registers.end() && number >= 0 && number < it->second.count) {
            *at = it->second.first + number;
            return &it->second;
        }
    }
    return nullptr;
}

bool Compiler::is_register(const std::string &word, int *reg)
{
    if (find_register(word, reg)) return true;
    if (word[0] != '%') return false;
    *reg = special(word);
    return *reg >= 0;
}

const Variable *Compiler::find_variable(const std::string &word)
{
    for (size_t i = scopes.size(); i-- > 0;) {
        auto it = scopes[i].variables.find(word);
        if (it != scopes[i].variables.end()) return &it->second;
    }
    auto it = m.variables.find(word);
    return it == m.variables.end() ? nullptr : &it->second;
}

/* "_ZZ6kernelPfE4tile" is "tile". */
static std::string short_name(const std::string &mangled)
{
    int status = 0;
    char *text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
    std::string s = text ? text : mangled;

    free(text);
    const size_t colon = s.rfind("::");
    return colon == std::string::npos ? s : s.substr(colon + 2);
}

/* The row that holds where a shared variable lies; the kernel then has it. */
int Compiler::shared_address(const std::string &word, Bank b)
{
    const std::string key = word + (b == Bank::wide ? " wide" : "");
    const Variable *v = find_variable(word);
    int index = -1;

    if (specials.count(key)) return specials[key];
    for (size_t i = 0; index < 0 && i < k.shared.size(); i++)
        if (k.shared[i].name == word) index = (int)i;
    if (index < 0) {
        index = (int)k.shared.size();
        k.shared.push_back({word, v->bytes, v->align, 0, v->dynamic});
        if (!v->dynamic)
            k.static_bytes = (k.static_bytes + v->align - 1) / v->align * v->align + v->bytes;
    }
    k.fills.push_back({fresh(b), Special::shared, index, false, false});
    return specials[key] = k.fills.back().reg;
}

/* Operands */

uint64_t Compiler::literal(const std::string &word, bool negative, Type t)
{
    char *end = nullptr;
    uint64_t v;

    if (word.size() > 2 && word[0] == '0' && strchr("fFdD", word[1])) {
        v = strtoull(word.c_str() + 2, &end, 16);
        const unsigned digits = word[1] == 'f' || word[1] == 'F' ? 4 : 8;
        if (digits != bytes_of(t)) stop("the number " + word + " in an operand of another size");
        if (negative) v ^= 1ull << (digits * 8 - 1);
    } else {
        if (is_float(t)) stop("the decimal number " + word + " where a float is wanted");
        v = strtoull(word.c_str(), &end, 0);
        if (*end == 'U') end++;
        if (negative) v = 0 - v;
    }
    if (end == word.c_str() || *end) stop("unknown operand '" + word + "'");
    return bytes_of(t) >= 8 ? v : v & ((1ull << bytes_of(t) * 8) - 1);
}

int Compiler::micro(Run run, Bank bank, int in)
{
    Ins i;

    i.run = run;
    i.in[i.n_in++] = in;
    i.out[i.n_out++] = fresh(bank);
    i.guard = guard;
    i.guard_not = guard_not;
    return push(i).out[0];
}

int Compiler::predicate_source()
{
    const bool negated = w.peek() == "!";

    if (negated) w.next();
    const int reg = source(PRED);
    return negated ? micro(run_not_predicate, Bank::predicate, reg) : reg;
}

static Bank bank_of(Type t)
{
    return t == PRED ? Bank::predicate : is_wide(t) ? Bank::wide : Bank::narrow;
}

int Compiler::source(Type t)
{
    std::string word = w.next();
    const bool negative = word == "-";
    const Bank b = bank_of(t);
    int reg;

    if (negative) word = w.next();
    if (is_register(word, &reg)) {
        if (k.bank[(size_t)reg] == b) return reg;
        if (loose && b == Bank::narrow && k.bank[(size_t)reg] == Bank::wide)
            return micro(run_narrow, Bank::narrow, reg);
        stop("the register " + word + " is of another size than the operand");
    }
    if (b == Bank::predicate) {
        if (word != "0" && word != "1") stop("unknown predicate '" + word + "'");
        return constant(b, word == "1" ? 0xffffffff : 0);
    }
    if (word == "WARP_SZ") return constant(b, lanes);
    if (const Variable *v = find_variable(word)) {
        switch (v->space) {
        case Space::shared: return shared_address(word, b);
        case Space::global: return constant(b, (uint64_t)(m.data.data() + v->at));
        case Space::constant: return constant(b, (uint64_t)(m.constants.data() + v->at));
        default: return constant(b, v->at);
        }
    }
    return constant(b, literal(word, negative, t));
}

int Compiler::destination(Type t)
{
    const std::string word = w.next();
    const Bank b = bank_of(t);
    int reg;

    if (word == "_") return fresh(b);
    if (!find_register(word, &reg)) stop("unknown register '" + word + "'");
    if (k.bank[(size_t)reg] == b) return reg;
    stop("the register " + word + " is of another size than the result");
}

int Compiler::list(Type t, bool result, int *regs, int most)
{
    int n = 0;

    if (w.peek() != "{") {
        regs[0] = result ? destination(t) : source(t);
        return 1;
    }
    w.next();
    for (;;) {
        if (n == most) stop("a list of more than " + std::to_string(most) + " operands");
        regs[n++] = result ? destination(t) : source(t);
        const std::string s = w.next();
        if (s == "}") return n;
        if (s != ",") stop("'" + s + "' in a list");
    }
}

/* [register + 4], [variable + 4], [number]: one more input, and its offset. */
void Compiler::address(Ins &i, int64_t *offset)
{
    expect("[");
    const std::string word = w.next();
    int reg;

    if (is_register(word, &reg)) {
        if (k.bank[(size_t)reg] == Bank::predicate) stop("a predicate as an address");
    } else if (const Variable *v = find_variable(word)) {
        w.at -= word.size();
        if (i.space == Space::param) i.space = v->space; /* of a call: lies in local memory */
        else if (i.space != v->space && (i.space != Space::generic || v->space == Space::shared))
            stop("the variable " + word + " lies in another space");
        reg = source(B64);
    } else {
        reg = constant(Bank::wide, literal(word, false, B64));
    }
    i.wide_address = k.bank[(size_t)reg] == Bank::wide;
    i.in[i.n_in++] = reg;
    for (std::string s = w.next(); s != "]"; s = w.next()) {
        if (s != "+" && s != "-") stop("'" + s + "' in an address");
        const bool minus = s == "-" || w.peek() == "-";
        if (s == "+" && minus) w.next();
        const int64_t n = (int64_t)literal(w.next(), false, B64);
        *offset += minus ? -n : n;
    }
}

/* Statements */

Ins &Compiler::push(Ins i)
{
    static std::map<std::string, int> &names = *new std::map<std::string, int>;

    if (k.code.size() >= most_code) stop("more than a million instructions");
    i.line = w.line;
    i.file = file;
    i.source_line = source_line;
    i.name = &names.emplace(name, 0).first->first;
    k.code.push_back(i);
    return k.code.back();
}

void Compiler::registers()
{
    const Type t = type_of(w.next().substr(1));

    if (t == NONE || t == B128) stop("registers of an unknown type");
    for (;;) {
        const std::string s = w.next();
        Range r = {(int)k.bank.size(), 0};
        if (w.peek() == "<") {
            w.next();
            r.count = atoi(w.next().c_str());
            expect(">");
        }
        for (int i = 0; i < (r.count ? r.count : 1); i++) fresh(bank_of(t));
        scopes.back().registers[s] = r;
        const std::string end = w.next();
        if (end == ";") return;
        if (end != ",") stop("'" + end + "' in a declaration of registers");
    }
}

/* .local and .shared variables of a function; .param ones of a call, which are local memory. */
void Compiler::local(Space s)
{
    Variable v;
    std::vector<std::string> values;
    const std::string word = declare(w, v, values);

    expect(";");
    v.space = s == Space::param ? Space::local : s;
    if (v.space == Space::local) {
        v.at = (k.local_bytes + v.align - 1) / v.align * v.align;
        k.local_bytes = v.at + v.bytes;
    }
    scopes.back().variables[word] = v;
    if (s == Space::shared) shared_address(word, Bank::wide);
}

void Compiler::parameters(std::vector<std::string> *names)
{
    expect("(");
    while (w.peek() != ")") {
        Variable v;
        std::vector<std::string> values;
        expect(".param");
        const std::string word = declare(w, v, values);
        if (names) {
            names->push_back(word);
        } else {
            v.space = Space::param;
            v.at = (k.param_bytes + v.align - 1) / v.align * v.align;
            k.params.push_back({v.at, v.bytes});
            k.param_bytes = v.at + v.bytes;
            scopes.back().variables[word] = v;
        }
        if (w.peek() == ",") w.next();
    }
    expect(")");
}

/* .loc file line column, function_name, inlined_at file line column. Of the toolkit's headers it is
 * the call of them that matters. */
void Compiler::location()
{
    const size_t end = m.text.find('\n', w.at), in = m.text.find("inlined_at", w.at);
    auto place = [&] {
        const int of = atoi(w.next().c_str());
        return std::make_pair(of, atoi(w.next().c_str()));
    };
    auto here = place();

    if (in < end) {
        w.at = in;
        w.next();
        inlined[here] = place();
    }
    for (int n = 0; n < 8 && m.files[here.first].find(".h") != std::string::npos; n++) {
        auto outer = inlined.find(here);
        if (outer == inlined.end()) break;
        here = outer->second;
    }
    file = here.first;
    source_line = here.second;
    w.at = end;
}

void Compiler::statement(const std::string &word)
{
    if (word == ".reg") {
        registers();
    } else if (word == ".shared" || word == ".local" || word == ".param") {
        local(word == ".shared" ? Space::shared : word == ".local" ? Space::local : Space::param);
    } else if (word == ".loc") {
        location();
    } else if (word == ".pragma") {
        while (w.next() != ";") {
        }
    } else if (word == "@") {
        guard_not = w.peek() == "!";
        if (guard_not) w.next();
        guard = source(PRED);
        instruction(w.next());
        guard = -1;
    } else if (w.peek() == ":") {
        w.next();
        f->labels[word] = (int)k.code.size();
        if (w.peek() != ".branchtargets") return;
        do {
            w.next();
            f->lists[word].push_back(w.next());
        } while (w.peek() == ",");
        expect(";");
    } else if (word[0] == '.') {
        stop("unknown directive '" + word + "'");
    } else {
        instruction(word);
    }
}

void Compiler::body()
{
    scopes.emplace_back();
    for (;;) {
        const std::string word = w.next();
        if (word.empty()) stop("the text ends in a function");
        if (word == "{") body();
        else if (word == "}") break;
        else if (word != ";") statement(word);
    }
    scopes.pop_back();
}

/* Jumps of the function that has been read; its returns lead to what follows. */
void Compiler::resolve()
{
    auto place = [&](const std::string &label) {
        auto it = f->labels.find(label);
        if (it == f->labels.end()) stop("unknown label '" + label + "'");
        return it->second;
    };
    for (auto &j : f->jumps) k.code[j.first].target = place(j.second);
    for (auto &t : f->tables) {
        k.code[t.first].target = (int)k.tables.size();
        k.tables.emplace_back();
        for (const std::string &label : f->lists[t.second]) k.tables.back().push_back(place(label));
        if (k.tables.back().empty()) stop("unknown list of labels '" + t.second + "'");
    }
    for (size_t at : f->returns) k.code[at].target = (int)k.code.size();
}

void Compiler::inline_call(const std::string &callee, const std::vector<std::string> &returned,
                           const std::vector<std::string> &given)
{
    auto it = m.bodies.find(callee);
    const Words here = w;
    std::vector<Scope> outer(1);
    std::vector<std::string> to, from;
    Function own, *caller = f;
    const int old_guard = guard;

    if (it == m.bodies.end() || it->second.entry)
        stop("'" + callee + "' is called, and has no body here");
    if (++depth > most_depth) stop("calls of '" + callee + "' that go too deep, or in a circle");
    w.at = it->second.at;
    w.line = it->second.line;
    if (w.peek() == "(") parameters(&to);
    w.next();
    if (w.peek() == "(") parameters(&from);
    if (to.size() != returned.size() || from.size() != given.size())
        stop("a call of '" + callee + "' with other parameters than it has");
    for (size_t n = 0; n < to.size() + from.size(); n++) {
        const std::string &actual = n < to.size() ? returned[n] : given[n - to.size()];
        const Variable *v = find_variable(actual);
        if (!v) stop("unknown parameter '" + actual + "' of a call");
        outer[0].variables[n < to.size() ? to[n] : from[n - to.size()]] = *v;
    }
    while (w.next() != "{") {
    }
    scopes.swap(outer);
    f = &own;
    guard = -1;
    body();
    resolve();
    f = caller;
    guard = old_guard;
    scopes.swap(outer);
    w.at = here.at;
    w.line = here.line;
    depth--;
}

void Compiler::kernel()
{
    const Body &b = m.bodies[k.name];
    Function own;

    w.at = b.at;
    w.line = b.line;
    f = &own;
    own.entry = true;
    scopes.emplace_back();
    w.next();
    if (w.peek() == "(") parameters(nullptr);
    for (std::string s = w.next(); s != "{"; s = w.next())
        if (s == ".maxntid") {
            k.most_threads = (unsigned)atoi(w.next().c_str());
            while (w.peek() == ",") {
                w.next();
                k.most_threads *= (unsigned)atoi(w.next().c_str());
            }
        }
    body();
    name = "exit";
    Ins end;
    end.flow = Flow::exit;
    push(end);
    resolve();
}

Kernel *kernel_of(Module &m, const std::string &name)
{
    index_module(m);
    auto it = m.kernels.find(name);
    if (it != m.kernels.end()) return it->second.get();
    if (m.problem.empty() && (!m.bodies.count(name) || !m.bodies[name].entry)) return nullptr;

    Kernel *k = new Kernel;
    int status = 0;
    char *text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    m.kernels[name].reset(k);
    k->name = name;
    k->shown = text ? text : name;
    free(text);
    k->home = &m;
    k->problem = m.problem;
    if (!k->problem.empty()) return k;
    Compiler c(m, *k);
    try {
        c.kernel();
        for (Shared &s : k->shared)
            s.name = s.dynamic ? "dynamic shared memory" : short_name(s.name);
        number_instructions(*k);
        assign_registers(*k);
    } catch (const Unreadable &u) {
        char where_it_is[64];
        snprintf(where_it_is, sizeof where_it_is, ", line %d of the PTX", u.line);
        k->problem = u.why + where_it_is;
        if (m.files.count(c.file))
            k->problem += " (" + m.files[c.file] + ":" + std::to_string(c.source_line) + ")";
    }
    return k;
}

} // namespace ptx
} // namespace simt
