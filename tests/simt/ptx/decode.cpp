/*
 * decode.cpp - instructions, one function for each kind: the parts of the name, then the operands.
 * A part that nobody asked for makes the whole instruction unknown.
 */
#include <cfenv>

#include "compile.h"

namespace simt
{
namespace ptx
{

bool Compiler::take(const char *part)
{
    for (std::string &p : parts)
        if (p == part) {
            p.clear();
            return true;
        }
    return false;
}

Type Compiler::take_type()
{
    for (std::string &p : parts) {
        const Type t = p.empty() ? NONE : type_of(p);
        if (t == NONE) continue;
        p.clear();
        return t;
    }
    stop("unknown instruction '" + name + "'");
}

/* Caches, and how likely it is that data is needed again: they change no value. */
void Compiler::take_hints()
{
    static const char *const hints[] = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc", "noftz"};

    for (const char *h : hints) take(h);
    for (std::string &p : parts)
        if (p.compare(0, 4, "L1::") == 0 || (p.compare(0, 4, "L2::") == 0 && p != "L2::cache_hint"))
            p.clear();
}

void Compiler::take_scope()
{
    for (const char *s : {"cta", "cluster", "gpu", "sys"}) take(s);
}

void Compiler::take_order(Ins &i)
{
    const bool both = take("acq_rel");

    take("relaxed");
    i.order_before = take("release") || both;
    i.order_after = take("acquire") || both;
}

int Compiler::take_rounding()
{
    if (take("rz")) return FE_TOWARDZERO;
    if (take("rm")) return FE_DOWNWARD;
    if (take("rp")) return FE_UPWARD;
    take("rn");
    return 0;
}

Space Compiler::take_space()
{
    if (take("global")) return Space::global;
    if (take("shared") || take("shared::cta")) return Space::shared;
    if (take("const")) return Space::constant;
    if (take("local")) return Space::local;
    if (take("param") || take("param::entry") || take("param::func")) return Space::param;
    return Space::generic;
}

/* Behind the operands: nothing of the name may be left. Conversions of results follow it. */
void Compiler::finish(Ins &i)
{
    for (const std::string &p : parts)
        if (!p.empty()) stop("unknown instruction '" + name + "' (the part '" + p + "')");
    expect(";");
    i.guard = guard;
    i.guard_not = guard_not;
    push(i);
    for (Ins &next : after) {
        next.guard = guard;
        next.guard_not = guard_not;
        push(next);
    }
    after.clear();
}

void Compiler::instruction(const std::string &word)
{
    static const std::map<std::string, void (Compiler::*)()> kinds = {
        {"mov", &Compiler::move},           {"cvt", &Compiler::convert},
        {"cvta", &Compiler::to_address},    {"setp", &Compiler::compare},
        {"set", &Compiler::set_value},      {"selp", &Compiler::select},
        {"slct", &Compiler::select_sign},   {"ld", &Compiler::load},
        {"ldu", &Compiler::load},           {"st", &Compiler::store},
        {"atom", &Compiler::atomic},        {"red", &Compiler::atomic},
        {"bra", &Compiler::branch},         {"brx", &Compiler::branch_table},
        {"call", &Compiler::call},          {"ret", &Compiler::leave},
        {"exit", &Compiler::leave},         {"bar", &Compiler::barrier},
        {"barrier", &Compiler::barrier},    {"membar", &Compiler::fence},
        {"fence", &Compiler::fence},        {"shfl", &Compiler::shuffle},
        {"vote", &Compiler::vote},          {"match", &Compiler::match},
        {"redux", &Compiler::reduce_lanes}, {"activemask", &Compiler::active},
        {"mma", &Compiler::multiply_tiles}, {"ldmatrix", &Compiler::load_tiles},
        {"cp", &Compiler::copy_async},      {"isspacep", &Compiler::is_space},
        {"trap", &Compiler::trap},
    };
    size_t from = 0;

    name = word;
    parts.clear();
    for (size_t dot; (dot = word.find('.', from)) != std::string::npos; from = dot + 1)
        parts.push_back(word.substr(from, dot - from));
    parts.push_back(word.substr(from));
    auto it = kinds.find(parts[0]);
    if (it == kinds.end()) {
        arithmetic();
        return;
    }
    loose = parts[0] == "st" || parts[0] == "cvt";
    parts[0].clear();
    (this->*it->second)();
    loose = false;
}

/* .ftz: subnormal inputs and results are zeros of their sign. */
void Compiler::flush(Ins &i, Type t)
{
    if (t != F32) return; /* of f64: the instruction's own business; of f16: none has it */
    for (int n = 0; n < i.n_in; n++)
        if (k.bank[(size_t)i.in[n]] == Bank::narrow)
            i.in[n] = micro(run_flush, Bank::narrow, i.in[n]);
}

static Ins follow(Run run, int reg)
{
    Ins i;

    i.run = run;
    i.in[i.n_in++] = i.out[i.n_out++] = reg;
    return i;
}

void Compiler::saturate(Ins &i, Type t)
{
    const Run run = saturate_of(t);

    if (!run) stop("unknown instruction '" + name + "'");
    after.push_back(follow(run, i.out[0]));
}

void Compiler::arithmetic()
{
    const bool ftz = take("ftz"), sat = take("sat");
    Ins i;
    std::string key;
    i.rounding = take_rounding();
    for (std::string &p : parts) {
        if (!p.empty()) key += (key.empty() ? "" : ".") + p;
        p.clear();
    }
    const Opcode *o = opcode(key);
    if (!o || ((sat || ftz || i.rounding) && !is_float(o->out) && o->out != F16X2))
        stop("unknown instruction '" + name + "'");
    i.run = o->run;
    i.out[i.n_out++] = destination(o->out);
    for (int n = 0; n < o->n_in; n++) {
        expect(",");
        i.in[i.n_in++] = source(o->in[n]);
    }
    if (ftz) flush(i, o->out);
    if (ftz && o->out == F32) after.push_back(follow(run_flush, i.out[0]));
    if (sat) saturate(i, o->out);
    finish(i);
}

/* Of the list in braces that follows. */
unsigned Compiler::elements()
{
    Words ahead = w;
    unsigned n = 1;

    for (std::string s = ahead.next(); s != "}" && !s.empty(); s = ahead.next()) n += s == ",";
    return n;
}

void Compiler::move()
{
    const Type t = take_type();
    const bool unpacks = w.peek() == "{";
    Ins i;

    i.bytes = (uint8_t)bytes_of(t);
    if (unpacks) {
        const unsigned one = bytes_of(t) / elements();
        i.n_out = (uint8_t)list(one == 4 ? B32 : one == 8 ? B64 : B16, true, i.out, most_out);
        expect(",");
        i.in[i.n_in++] = source(t);
        i.run = run_unpack;
        i.mode = is_wide(t);
    } else {
        i.out[i.n_out++] = destination(t);
        expect(",");
        i.run = t == PRED ? run_move_predicate : is_wide(t) ? run_move_wide : run_move_narrow;
        if (w.peek() == "{") {
            const Type one = bytes_of(t) / elements() == 4 ? B32 : B16;
            i.n_in = (uint8_t)list(one, false, i.in, most_in);
            i.run = run_pack;
            i.mode = is_wide(t);
        } else {
            i.in[i.n_in++] = source(t);
        }
    }
    finish(i);
}

void Compiler::convert()
{
    const bool ftz = take("ftz"), sat = take("sat"), away = take("rna");
    Ins i;
    char whole = 0;
    for (const char *r : {"rni", "rzi", "rmi", "rpi"})
        if (take(r)) whole = r[1];
    i.rounding = take_rounding();
    const Type to = take_type(), from = take_type();
    const bool pair = to == F16X2 || to == BF16X2;
    i.mode = (uint8_t)(away ? 'a' : whole ? whole : sat ? 's' : 0);
    i.run = convert_of(to, from, (char)i.mode);
    if (!i.run || (pair && from != F32)) stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = destination(to);
    for (int n = 0; n < (pair ? 2 : 1); n++) {
        expect(",");
        i.in[i.n_in++] = source(from);
    }
    if (ftz) flush(i, from);
    if (ftz && to == F32) after.push_back(follow(run_flush, i.out[0]));
    if (sat && is_float(to)) saturate(i, to);
    finish(i);
}

void Compiler::to_address()
{
    const bool to = take("to");
    Ins i;

    i.space = take_space();
    if (take_type() != U64) stop("unknown instruction '" + name + "'");
    i.run = to ? run_from_generic : run_to_generic;
    i.out[i.n_out++] = destination(U64);
    expect(",");
    i.in[i.n_in++] = source(U64);
    finish(i);
}

/* What both forms of a comparison read: a, b, and c where there is a mode. */
void Compiler::compared(Ins &i, Type t, bool ftz)
{
    for (int n = 0; n < 2; n++) {
        expect(",");
        i.in[i.n_in++] = source(t);
    }
    if (ftz) flush(i, t);
    if (i.mode) {
        expect(",");
        i.in[i.n_in++] = predicate_source();
    }
}

/* p = a ? b, then joined with a predicate c; and its contrary, joined likewise. */
void Compiler::compare()
{
    Ins i;
    const std::string how = parts.size() > 1 ? parts[1] : "";
    if (parts.size() > 1) parts[1].clear();
    i.mode = take("and") ? 1 : take("or") ? 2 : take("xor") ? 3 : 0;
    const bool ftz = take("ftz");
    const Type t = take_type();
    i.run = compare_of(how, t);
    if (!i.run) stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = destination(PRED);
    if (w.peek() == "|") {
        w.next();
        i.out[i.n_out++] = destination(PRED);
    }
    compared(i, t, ftz);
    finish(i);
}

/* set: a comparison whose result is a number, 1.0 or all bits. */
void Compiler::set_value()
{
    Ins i, pick;
    const std::string how = parts.size() > 1 ? parts[1] : "";
    if (parts.size() > 1) parts[1].clear();
    i.mode = take("and") ? 1 : take("or") ? 2 : take("xor") ? 3 : 0;
    const bool ftz = take("ftz");
    const Type to = take_type(), t = take_type();
    i.run = compare_of(how, t);
    if (!i.run || (to != F32 && to != U32 && to != S32)) stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = fresh(Bank::predicate);
    pick.out[pick.n_out++] = destination(to);
    compared(i, t, ftz);
    pick.run = run_select_narrow;
    pick.in[pick.n_in++] = constant(Bank::narrow, to == F32 ? 0x3f800000 : 0xffffffff);
    pick.in[pick.n_in++] = constant(Bank::narrow, 0);
    pick.in[pick.n_in++] = i.out[0];
    after.push_back(pick);
    finish(i);
}

void Compiler::select()
{
    const Type t = take_type();
    Ins i;

    i.run = is_wide(t) ? run_select_wide : run_select_narrow;
    i.out[i.n_out++] = destination(t);
    for (int n = 0; n < 2; n++) {
        expect(",");
        i.in[i.n_in++] = source(t);
    }
    expect(",");
    i.in[i.n_in++] = source(PRED);
    finish(i);
}

/* slct: a where c >= 0. */
void Compiler::select_sign()
{
    const bool ftz = take("ftz");
    const Type t = take_type(), of = take_type();
    Ins i, pick;

    i.run = of == F32 || of == S32 ? compare_of("ge", of) : nullptr;
    if (!i.run) stop("unknown instruction '" + name + "'");
    pick.run = is_wide(t) ? run_select_wide : run_select_narrow;
    pick.out[pick.n_out++] = destination(t);
    for (int n = 0; n < 2; n++) {
        expect(",");
        pick.in[pick.n_in++] = source(t);
    }
    expect(",");
    i.in[i.n_in++] = source(of);
    i.in[i.n_in++] = constant(Bank::narrow, 0);
    i.out[i.n_out++] = pick.in[pick.n_in++] = fresh(Bank::predicate);
    if (ftz) flush(i, of);
    after.push_back(pick);
    finish(i);
}

static Type narrow_type(Type t) { return is_wide(t) ? t : B32; }

/* The registers may be wider than what is read: it is extended. Lists are of equal registers. */
void Compiler::load()
{
    Ins i;

    take_hints();
    take("weak");
    take("volatile");
    take_order(i);
    take_scope();
    i.space = take_space();
    const int n = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
    const Type t = take_type();
    bool wide = is_wide(t);
    if (!wide) { /* by the first register */
        Words ahead = w;
        int reg;
        std::string s = ahead.next();
        if (s == "{") s = ahead.next();
        wide = find_register(s, &reg) && k.bank[(size_t)reg] == Bank::wide;
    }
    i.n_out = (uint8_t)list(wide ? B64 : narrow_type(t), true, i.out, most_out);
    expect(",");
    i.bytes = (uint8_t)bytes_of(t);
    i.run = load_of(t, wide);
    if (!i.run || i.n_out != n) stop("unknown instruction '" + name + "'");
    address(i, &i.offset);
    finish(i);
}

void Compiler::store()
{
    Ins i;

    take_hints();
    take("weak");
    take("volatile");
    take_order(i);
    take_scope();
    i.space = take_space();
    const int n = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
    const Type t = take_type();
    int values[most_out];
    address(i, &i.offset);
    expect(",");
    const int found = list(t, false, values, most_out);
    for (int v = 0; v < found; v++) i.in[i.n_in++] = values[v];
    i.bytes = (uint8_t)bytes_of(t);
    i.run = store_of(t, is_wide(t));
    if (!i.run || found != n) stop("unknown instruction '" + name + "'");
    finish(i);
}

void Compiler::atomic()
{
    const bool has_result = name.compare(0, 4, "atom") == 0;
    Ins i;
    std::string how;

    take_hints();
    take_order(i);
    take_scope();
    i.space = take_space();
    for (const char *h : {"add", "min", "max", "exch", "cas", "and", "or", "xor", "inc", "dec"})
        if (take(h)) how = h;
    const Type t = take_type();
    i.run = atomic_of(how, t);
    if (!i.run) stop("unknown instruction '" + name + "'");
    i.out[i.n_out++] = has_result ? destination(t) : fresh(is_wide(t) ? Bank::wide : Bank::narrow);
    if (has_result) expect(",");
    address(i, &i.offset);
    i.bytes = (uint8_t)bytes_of(t);
    for (int n = 0; n < (how == "cas" ? 2 : 1); n++) {
        expect(",");
        i.in[i.n_in++] = source(t);
    }
    finish(i);
}

void Compiler::trap()
{
    Ins i;

    i.run = run_trap;
    finish(i);
}

} // namespace ptx
} // namespace simt
