/*
 * compare.cpp - setp, selp, moves, packing of registers. Comparisons of floats: those with u are
 * true where one is NaN, the others false; num: none is; nan: one is.
 */
#include "compile.h"
#include "floats.h"

namespace simt
{
namespace ptx
{

namespace
{
#define COMPARES(F, result)                                                                        \
    struct F {                                                                                     \
        template <class T> static bool of(T a, T b) { return result; }                             \
    };
COMPARES(Eq, a == b)
COMPARES(Ne, a<b || a> b)
COMPARES(Lt, a < b)
COMPARES(Le, a <= b)
COMPARES(Gt, a > b)
COMPARES(Ge, a >= b)
COMPARES(Equ, !(a < b || a > b))
COMPARES(Neu, a != b)
COMPARES(Ltu, !(a >= b))
COMPARES(Leu, !(a > b))
COMPARES(Gtu, !(a <= b))
COMPARES(Geu, !(a < b))
COMPARES(Num, a == a && b == b)
COMPARES(Nan, a != a || b != b)
#undef COMPARES
} // namespace

template <class T> static T number(T v) { return v; }
static double number(f16 v) { return to_double(v); }
static double number(bf16 v) { return to_double(v); }

/* All lanes are compared, those that take part keep the result. */
template <class F, class T> static void run_compare(const Step &s, const Ins &i)
{
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1);
    unsigned bits = 0, other;

    for (unsigned l = 0; l < lanes; l++)
        bits |= (unsigned)F::of(number(get<T>(a, l)), number(get<T>(b, l))) << l;
    other = ~bits;
    if (i.mode) {
        const unsigned c = predicate(s, i.in[2]);
        bits = i.mode == 1 ? bits & c : i.mode == 2 ? bits | c : bits ^ c;
        other = i.mode == 1 ? other & c : i.mode == 2 ? other | c : other ^ c;
    }
    set_predicate(s, i.out[0], bits);
    if (i.n_out > 1) set_predicate(s, i.out[1], other);
}

template <class T> static Run whole_number(const std::string &how)
{
    const bool is_unsigned = !std::is_signed<T>::value;

    if (how == "eq") return run_compare<Eq, T>;
    if (how == "ne") return run_compare<Neu, T>;
    if (how == "lt" || (is_unsigned && how == "lo")) return run_compare<Lt, T>;
    if (how == "le" || (is_unsigned && how == "ls")) return run_compare<Le, T>;
    if (how == "gt" || (is_unsigned && how == "hi")) return run_compare<Gt, T>;
    if (how == "ge" || (is_unsigned && how == "hs")) return run_compare<Ge, T>;
    return nullptr;
}

template <class T> static Run real_number(const std::string &how)
{
    static const struct {
        const char *name;
        Run run;
    } known[] = {
        {"eq", run_compare<Eq, T>},   {"ne", run_compare<Ne, T>},   {"lt", run_compare<Lt, T>},
        {"le", run_compare<Le, T>},   {"gt", run_compare<Gt, T>},   {"ge", run_compare<Ge, T>},
        {"equ", run_compare<Equ, T>}, {"neu", run_compare<Neu, T>}, {"ltu", run_compare<Ltu, T>},
        {"leu", run_compare<Leu, T>}, {"gtu", run_compare<Gtu, T>}, {"geu", run_compare<Geu, T>},
        {"num", run_compare<Num, T>}, {"nan", run_compare<Nan, T>},
    };

    for (const auto &k : known)
        if (how == k.name) return k.run;
    return nullptr;
}

Run compare_of(const std::string &how, Type t)
{
    const bool equality = how == "eq" || how == "ne";

    switch (t) {
    case B16: return equality ? whole_number<uint16_t>(how) : nullptr;
    case B32: return equality ? whole_number<uint32_t>(how) : nullptr;
    case B64: return equality ? whole_number<uint64_t>(how) : nullptr;
    case U16: return whole_number<uint16_t>(how);
    case S16: return whole_number<int16_t>(how);
    case U32: return whole_number<uint32_t>(how);
    case S32: return whole_number<int32_t>(how);
    case U64: return whole_number<uint64_t>(how);
    case S64: return whole_number<int64_t>(how);
    case F16: return real_number<f16>(how);
    case BF16: return real_number<bf16>(how);
    case F32: return real_number<float>(how);
    case F64: return real_number<double>(how);
    default: return nullptr;
    }
}

template <class T> static void run_select(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1);
    const unsigned c = predicate(s, i.in[2]);

    each(s.mask, [=](unsigned l) { put<T>(d, l, c >> l & 1 ? get<T>(a, l) : get<T>(b, l)); });
}

void run_select_narrow(const Step &s, const Ins &i) { run_select<uint32_t>(s, i); }
void run_select_wide(const Step &s, const Ins &i) { run_select<uint64_t>(s, i); }

template <class To, class From> static void run_move(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0);

    each(s.mask, [=](unsigned l) { put<To>(d, l, (To)get<From>(a, l)); });
}

void run_move_narrow(const Step &s, const Ins &i) { run_move<uint32_t, uint32_t>(s, i); }
void run_move_wide(const Step &s, const Ins &i) { run_move<uint64_t, uint64_t>(s, i); }
void run_narrow(const Step &s, const Ins &i) { run_move<uint32_t, uint64_t>(s, i); }

void run_move_predicate(const Step &s, const Ins &i)
{
    set_predicate(s, i.out[0], predicate(s, i.in[0]));
}

void run_not_predicate(const Step &s, const Ins &i)
{
    set_predicate(s, i.out[0], ~predicate(s, i.in[0]));
}

/* The first of the list is the lowest part; i.mode: the whole has a wide row. */
void run_pack(const Step &s, const Ins &i)
{
    const unsigned n = i.n_in, part = i.bytes / n;
    const uint64_t ones = (1ull << 8 * part) - 1;

    each(s.mask, [&](unsigned l) {
        uint64_t v = 0;
        for (unsigned k = 0; k < n; k++)
            v |= (get<uint32_t>(in_row(s, i, (int)k), l) & ones) << (8 * part * k);
        if (i.mode) put<uint64_t>(out_row(s, i, 0), l, v);
        else put<uint32_t>(out_row(s, i, 0), l, (uint32_t)v);
    });
}

void run_unpack(const Step &s, const Ins &i)
{
    const unsigned n = i.n_out, part = i.bytes / n;
    const uint64_t ones = (1ull << 8 * part) - 1;

    each(s.mask, [&](unsigned l) {
        const uint64_t v =
            i.mode ? get<uint64_t>(in_row(s, i, 0), l) : get<uint32_t>(in_row(s, i, 0), l);
        for (unsigned k = 0; k < n; k++)
            put<uint32_t>(out_row(s, i, (int)k), l, (uint32_t)(v >> (8 * part * k) & ones));
    });
}

} // namespace ptx
} // namespace simt
