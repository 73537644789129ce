/*
 * opcodes.cpp - arithmetic, found by the instruction's name without its rounding, .ftz and .sat.
 *
 * Add, sub, mul, fma, div, sqrt and rcp are rounded as asked for; the host's own rounding mode is
 * set around them. The .approx and .full forms are worked out in f64 and rounded once: closer than
 * the 1 to 2 units in the last place (2^-22 relative and less, 2^-20.5 absolute for sin and cos,
 * 2^-11 relative for tanh) that the PTX manual allows a GPU.
 */
#include "compile.h"
#include "floats.h"

namespace simt
{
namespace ptx
{

template <class F, class R, class A> static void one(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0);

    each(s.mask, [=](unsigned l) { put<R>(d, l, F::of(get<A>(a, l))); });
}
template <class F, class R, class A, class B> static void two(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1);

    each(s.mask, [=](unsigned l) { put<R>(d, l, F::of(get<A>(a, l), get<B>(b, l))); });
}
template <class F, class R, class A, class B, class C>
static void three(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1), *c = in_row(s, i, 2);

    each(s.mask,
         [=](unsigned l) { put<R>(d, l, F::of(get<A>(a, l), get<B>(b, l), get<C>(c, l))); });
}
template <class F> static void four(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1), *c = in_row(s, i, 2),
               *e = in_row(s, i, 3);
    using T = typename F::type;

    each(s.mask, [=](unsigned l) {
        put<T>(d, l, F::of(get<T>(a, l), get<T>(b, l), get<uint32_t>(c, l), get<uint32_t>(e, l)));
    });
}
template <class F> static void predicates(const Step &s, const Ins &i)
{
    set_predicate(s, i.out[0], F::of(predicate(s, i.in[0]), predicate(s, i.in[1])));
}

namespace
{
#define TAKES(F, T, args, result)                                                                  \
    struct F {                                                                                     \
        template <class T> static T of args { return result; }                                     \
    };
/* Integers: the same bits for both signs, so T is unsigned. */
TAKES(Add, T, (T a, T b), (T)(a + b))
TAKES(Sub, T, (T a, T b), (T)(a - b))
TAKES(MulLo, T, (T a, T b), (T)((uint64_t)a *b))
TAKES(MadLo, T, (T a, T b, T c), (T)((uint64_t)a *b + c))
TAKES(And, T, (T a, T b), (T)(a &b))
TAKES(Or, T, (T a, T b), (T)(a | b))
TAKES(Xor, T, (T a, T b), (T)(a ^ b))
TAKES(Not, T, (T a), (T)~a)
TAKES(NegInt, T, (T a), (T)(0 - a))
/* By sign. */
TAKES(Min, T, (T a, T b), b < a ? b : a)
TAKES(Max, T, (T a, T b), a < b ? b : a)
TAKES(Clz, T, (T a),
      (T)(a ? __builtin_clzll((uint64_t)a) - (64 - 8 * (int)sizeof(T)) : 8 * sizeof(T)))
/* Floats. */
TAKES(Plus, T, (T a, T b), gpu_nan(a + b))
TAKES(Minus, T, (T a, T b), gpu_nan(a - b))
TAKES(Times, T, (T a, T b), gpu_nan(a *b))
TAKES(Over, T, (T a, T b), gpu_nan(a / b))
TAKES(Fma, T, (T a, T b, T c), gpu_nan(std::fma(a, b, c)))
TAKES(Sqrt, T, (T a), gpu_nan(std::sqrt(a)))
TAKES(Rcp, T, (T a), gpu_nan(T(1) / a))
TAKES(NegFloat, T, (T a), -a)
TAKES(AbsFloat, T, (T a), std::fabs(a))
TAKES(Copysign, T, (T a, T b), std::copysign(b, a))
TAKES(MinFloat, T, (T a, T b),
      a != a                     ? gpu_nan(b)
      : b != b || a < b          ? a
      : b < a || std::signbit(b) ? b
                                 : a)
TAKES(MaxFloat, T, (T a, T b),
      a != a                      ? gpu_nan(b)
      : b != b || a > b           ? a
      : b > a || !std::signbit(b) ? b
                                  : a)
TAKES(MinNan, T, (T a, T b), a != a || b != b ? gpu_nan(a + b) : MinFloat::of(a, b))
TAKES(MaxNan, T, (T a, T b), a != a || b != b ? gpu_nan(a + b) : MaxFloat::of(a, b))
#undef TAKES

template <class U, class S> struct Signed { /* operations that ask for the sign; U, S: one size */
    struct MulHi {
        static S of(S a, S b) { return (S)(((__int128)a * b) >> (8 * sizeof(S))); }
        static S of(S a, S b, S c) { return (S)((U)of(a, b) + (U)c); }
    };
    struct Div {
        static S of(S a, S b)
        {
            if (b == 0) return (S)~U(0);
            return b == (S)-1 && (S)-1 < 0 ? (S)(0 - (U)a) : (S)(a / b);
        }
    };
    struct Rem {
        static S of(S a, S b)
        {
            if (b == 0) return a;
            return b == (S)-1 && (S)-1 < 0 ? (S)0 : (S)(a % b);
        }
    };
    struct Abs {
        static S of(S a) { return a < 0 ? (S)(0 - (U)a) : a; }
    };
    struct Shr {
        static S of(S a, uint32_t n)
        {
            if (n < 8 * sizeof(S)) return (S)(a >> n);
            return (S)(a < 0 ? -1 : 0);
        }
    };
    struct Shl {
        static U of(U a, uint32_t n) { return n < 8 * sizeof(U) ? (U)(a << n) : U(0); }
    };
};
template <class W, class N> struct Wide { /* products of twice the size */
    static W of(N a, N b) { return (W)((W)a * (W)b); }
    static W of(N a, N b, W c) { return (W)((uint64_t)((W)a * (W)b) + (uint64_t)c); }
};
struct Popc {
    template <class T> static uint32_t of(T a) { return (uint32_t)__builtin_popcountll(a); }
};
struct ClzTo {
    template <class T> static uint32_t of(T a) { return (uint32_t)Clz::of(a); }
};
struct Find { /* the highest bit that differs from the sign */
    template <class T> static uint32_t of(T a)
    {
        using U = typename std::make_unsigned<T>::type;
        const U v = a < 0 ? (U)~a : (U)a;
        return v ? 63u - (uint32_t)__builtin_clzll(v) : ~0u;
    }
};
struct Reverse {
    template <class T> static T of(T a)
    {
        T r = 0;
        for (unsigned n = 0; n < 8 * sizeof(T); n++) r |= (a >> n & 1) << (8 * sizeof(T) - 1 - n);
        return r;
    }
};
template <class T> struct Extract { /* bfe: beyond the top the sign goes on */
    static T of(T a, uint32_t pos, uint32_t len)
    {
        using U = typename std::make_unsigned<T>::type;
        const unsigned n = 8 * sizeof(T);
        U r = 0;

        pos &= 255;
        len &= 255;
        const unsigned top = pos + len - 1 < n - 1 ? pos + len - 1 : n - 1;
        const bool sign = len && std::is_signed<T>::value && ((U)a >> top & 1);
        for (unsigned k = 0; k < n; k++) {
            const bool bit = k < len && pos + k < n ? (U)a >> (pos + k) & 1 : sign;
            r |= (U)bit << k;
        }
        return (T)r;
    }
};
template <class T> struct Insert { /* bfi: a's low bits into b */
    using type = T;
    static T of(T a, T b, uint32_t pos, uint32_t len)
    {
        pos &= 255;
        len &= 255;
        for (unsigned k = 0; k < len && pos + k < 8 * sizeof(T); k++)
            b = (T)((b & ~((T)1 << (pos + k))) | (a >> k & 1) << (pos + k));
        return b;
    }
};
struct Lop3 {
    using type = uint32_t;
    static uint32_t of(uint32_t a, uint32_t b, uint32_t c, uint32_t table)
    {
        uint32_t r = 0;
        for (unsigned k = 0; k < 32; k++)
            r |= (table >> ((a >> k & 1) << 2 | (b >> k & 1) << 1 | (c >> k & 1)) & 1) << k;
        return r;
    }
};
struct Permute {
    static uint32_t of(uint32_t a, uint32_t b, uint32_t c)
    {
        const uint64_t v = a | (uint64_t)b << 32;
        uint32_t r = 0;
        for (unsigned k = 0; k < 4; k++) {
            const unsigned how = c >> (4 * k) & 15, byte = v >> (8 * (how & 7)) & 255;
            r |= (how & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * k);
        }
        return r;
    }
};
template <bool right, bool wraps> struct Funnel {
    static uint32_t of(uint32_t a, uint32_t b, uint32_t c)
    {
        const unsigned n = wraps ? c & 31 : c < 32 ? c : 32;
        const uint64_t v = a | (uint64_t)b << 32;
        return right ? (uint32_t)(v >> n) : (uint32_t)(v << n >> 32);
    }
};

/* Halves: one rounding, to to_small's digits. */
#define HALVES(F, args, result)                                                                    \
    struct F {                                                                                     \
        template <class T> static T of args { return to_small<T>(result); }                        \
    };
HALVES(HalfAdd, (T a, T b), to_double(a) + to_double(b))
HALVES(HalfSub, (T a, T b), to_double(a) - to_double(b))
HALVES(HalfMul, (T a, T b), to_double(a) * to_double(b))
HALVES(HalfFma, (T a, T b, T c), sum_to_odd(to_double(a) * to_double(b), to_double(c)))
HALVES(HalfMin, (T a, T b), MinFloat::of(to_double(a), to_double(b)))
HALVES(HalfMax, (T a, T b), MaxFloat::of(to_double(a), to_double(b)))
#undef HALVES
struct HalfNeg {
    template <class T> static T of(T a) { return T{(uint16_t)(a.bits ^ 0x8000)}; }
};
struct HalfAbs {
    template <class T> static T of(T a) { return T{(uint16_t)(a.bits & 0x7fff)}; }
};
template <class T> struct Pair { /* two in a word */
    T low, high;
};
template <class F> struct Both {
    template <class T, class... P> static Pair<T> of(Pair<T> a, P... more)
    {
        return {F::of(a.low, more.low...), F::of(a.high, more.high...)};
    }
};

#define THROUGH_F64(F, result)                                                                     \
    struct F {                                                                                     \
        static float of(float v)                                                                   \
        {                                                                                          \
            const double x = v;                                                                    \
            return gpu_nan((float)(result));                                                       \
        }                                                                                          \
    };
THROUGH_F64(Ex2, std::exp2(x))
THROUGH_F64(Lg2, std::log2(x))
THROUGH_F64(Sin, std::sin(x))
THROUGH_F64(Cos, std::cos(x))
THROUGH_F64(Tanh, std::tanh(x))
THROUGH_F64(Rsqrt, 1 / std::sqrt(x))
#undef THROUGH_F64
struct Rsqrt64 {
    static double of(double x) { return 1 / std::sqrt(x); }
};
/* Of the upper half only, into the upper half only: the manual's "gross" approximation. */
template <class F> struct Gross {
    static double upper(double v)
    {
        uint64_t bits;
        memcpy(&bits, &v, sizeof bits);
        const bool small = !(bits >> 52 & 0x7ff); /* subnormal numbers are zeros */
        bits &= small ? 1ull << 63 : ~0ull << 32;
        memcpy(&v, &bits, sizeof v);
        return v;
    }
    static double of(double v)
    {
        const double x = upper(v), y = upper(F::of(x));
        return x != x ? x : y;
    }
};
} // namespace

template <class T> static constexpr Type kind();
#define KIND(T, t)                                                                                 \
    template <> constexpr Type kind<T>() { return t; }
KIND(uint16_t, U16)
KIND(int16_t, S16)
KIND(uint32_t, U32)
KIND(int32_t, S32)
KIND(uint64_t, U64)
KIND(int64_t, S64)
KIND(float, F32)
KIND(double, F64)
KIND(f16, F16)
KIND(bf16, BF16)
KIND(Pair<f16>, F16X2)
KIND(Pair<bf16>, BF16X2)
#undef KIND

using Table = std::map<std::string, Opcode>;

template <class F, class R, class A> static Opcode make1()
{
    return {one<F, R, A>, kind<R>(), {kind<A>()}, 1};
}
template <class F, class R, class A, class B> static Opcode make2()
{
    return {two<F, R, A, B>, kind<R>(), {kind<A>(), kind<B>()}, 2};
}
template <class F, class R, class A, class B, class C> static Opcode make3()
{
    return {three<F, R, A, B, C>, kind<R>(), {kind<A>(), kind<B>(), kind<C>()}, 3};
}

/* What is the same for both signs, then what is not; t: "16", "32", "64". */
template <class U, class S> static void integers(Table &m, const std::string &t)
{
    using G = Signed<U, S>;
    using N = Signed<U, U>;

    for (const char *sign : {".s", ".u"}) {
        m["add" + (sign + t)] = make2<Add, U, U, U>();
        m["sub" + (sign + t)] = make2<Sub, U, U, U>();
        m["mul.lo" + (sign + t)] = make2<MulLo, U, U, U>();
        m["mad.lo" + (sign + t)] = make3<MadLo, U, U, U, U>();
    }
    m["and.b" + t] = make2<And, U, U, U>();
    m["or.b" + t] = make2<Or, U, U, U>();
    m["xor.b" + t] = make2<Xor, U, U, U>();
    m["not.b" + t] = make1<Not, U, U>();
    m["neg.s" + t] = make1<NegInt, U, U>();
    m["abs.s" + t] = make1<typename G::Abs, S, S>();
    m["shl.b" + t] = make2<typename N::Shl, U, U, uint32_t>();
    m["shr.u" + t] = m["shr.b" + t] = make2<typename N::Shr, U, U, uint32_t>();
    m["shr.s" + t] = make2<typename G::Shr, S, S, uint32_t>();
    m["min.u" + t] = make2<Min, U, U, U>();
    m["max.u" + t] = make2<Max, U, U, U>();
    m["div.u" + t] = make2<typename N::Div, U, U, U>();
    m["rem.u" + t] = make2<typename N::Rem, U, U, U>();
    m["mul.hi.s" + t] = make2<typename G::MulHi, S, S, S>();
    m["mad.hi.s" + t] = make3<typename G::MulHi, S, S, S, S>();
    m["min.s" + t] = make2<Min, S, S, S>();
    m["max.s" + t] = make2<Max, S, S, S>();
    m["div.s" + t] = make2<typename G::Div, S, S, S>();
    m["rem.s" + t] = make2<typename G::Rem, S, S, S>();
}

struct MulHiUnsigned {
    template <class T> static T of(T a, T b)
    {
        return (T)(((unsigned __int128)a * b) >> (8 * sizeof(T)));
    }
    template <class T> static T of(T a, T b, T c) { return (T)(of(a, b) + c); }
};

template <class U, class S> static void bits(Table &m, const std::string &t)
{
    m["mul.hi.u" + t] = make2<MulHiUnsigned, U, U, U>();
    m["mad.hi.u" + t] = make3<MulHiUnsigned, U, U, U, U>();
    m["popc.b" + t] = make1<Popc, uint32_t, U>();
    m["clz.b" + t] = make1<ClzTo, uint32_t, U>();
    m["brev.b" + t] = make1<Reverse, U, U>();
    m["bfind.u" + t] = make1<Find, uint32_t, U>();
    m["bfind.s" + t] = make1<Find, uint32_t, S>();
    m["bfe.u" + t] = make3<Extract<U>, U, U, uint32_t, uint32_t>();
    m["bfe.s" + t] = make3<Extract<S>, S, S, uint32_t, uint32_t>();
    m["bfi.b" + t] = {four<Insert<U>>, kind<U>(), {kind<U>(), kind<U>(), U32, U32}, 4};
}

template <class W, class N> static void wide(Table &m, const std::string &t)
{
    m["mul.wide" + t] = make2<Wide<W, N>, W, N, N>();
    m["mad.wide" + t] = make3<Wide<W, N>, W, N, N, W>();
}

template <class T> static void floats(Table &m, const std::string &t)
{
    m["add." + t] = make2<Plus, T, T, T>();
    m["sub." + t] = make2<Minus, T, T, T>();
    m["mul." + t] = make2<Times, T, T, T>();
    m["div." + t] = make2<Over, T, T, T>();
    m["fma." + t] = m["mad." + t] = make3<Fma, T, T, T, T>();
    m["sqrt." + t] = make1<Sqrt, T, T>();
    m["rcp." + t] = make1<Rcp, T, T>();
    m["neg." + t] = make1<NegFloat, T, T>();
    m["abs." + t] = make1<AbsFloat, T, T>();
    m["copysign." + t] = make2<Copysign, T, T, T>();
    m["min." + t] = make2<MinFloat, T, T, T>();
    m["max." + t] = make2<MaxFloat, T, T, T>();
    m["min.NaN." + t] = make2<MinNan, T, T, T>();
    m["max.NaN." + t] = make2<MaxNan, T, T, T>();
}

template <class T, class F2, class F3, class Neg, class Sub, class Mul, class Min2, class Max2,
          class Abs>
static void halves(Table &m, const std::string &t)
{
    m["add." + t] = make2<F2, T, T, T>();
    m["sub." + t] = make2<Sub, T, T, T>();
    m["mul." + t] = make2<Mul, T, T, T>();
    m["fma." + t] = make3<F3, T, T, T, T>();
    m["neg." + t] = make1<Neg, T, T>();
    m["abs." + t] = make1<Abs, T, T>();
    m["min." + t] = make2<Min2, T, T, T>();
    m["max." + t] = make2<Max2, T, T, T>();
}

static Table make_table()
{
    Table m;

    integers<uint16_t, int16_t>(m, "16");
    integers<uint32_t, int32_t>(m, "32");
    integers<uint64_t, int64_t>(m, "64");
    bits<uint32_t, int32_t>(m, "32");
    bits<uint64_t, int64_t>(m, "64");
    m["mul.hi.u16"] = make2<MulHiUnsigned, uint16_t, uint16_t, uint16_t>();
    wide<uint32_t, uint16_t>(m, ".u16");
    wide<int32_t, int16_t>(m, ".s16");
    wide<uint64_t, uint32_t>(m, ".u32");
    wide<int64_t, int32_t>(m, ".s32");
    m["prmt.b32"] = make3<Permute, uint32_t, uint32_t, uint32_t, uint32_t>();
    m["shf.l.clamp.b32"] = make3<Funnel<false, false>, uint32_t, uint32_t, uint32_t, uint32_t>();
    m["shf.l.wrap.b32"] = make3<Funnel<false, true>, uint32_t, uint32_t, uint32_t, uint32_t>();
    m["shf.r.clamp.b32"] = make3<Funnel<true, false>, uint32_t, uint32_t, uint32_t, uint32_t>();
    m["shf.r.wrap.b32"] = make3<Funnel<true, true>, uint32_t, uint32_t, uint32_t, uint32_t>();
    m["lop3.b32"] = {four<Lop3>, U32, {U32, U32, U32, U32}, 4};
    m["and.pred"] = {predicates<And>, PRED, {PRED, PRED}, 2};
    m["or.pred"] = {predicates<Or>, PRED, {PRED, PRED}, 2};
    m["not.pred"] = {run_not_predicate, PRED, {PRED}, 1};
    m["xor.pred"] = {predicates<Xor>, PRED, {PRED, PRED}, 2};
    floats<float>(m, "f32");
    floats<double>(m, "f64");
    m["div.approx.f32"] = m["div.full.f32"] = m["div.f32"];
    m["sqrt.approx.f32"] = m["sqrt.f32"];
    m["rcp.approx.f32"] = m["rcp.f32"];
    m["ex2.approx.f32"] = make1<Ex2, float, float>();
    m["lg2.approx.f32"] = make1<Lg2, float, float>();
    m["sin.approx.f32"] = make1<Sin, float, float>();
    m["cos.approx.f32"] = make1<Cos, float, float>();
    m["tanh.approx.f32"] = make1<Tanh, float, float>();
    m["rsqrt.approx.f32"] = make1<Rsqrt, float, float>();
    m["rcp.approx.f64"] = make1<Gross<Rcp>, double, double>();
    m["rsqrt.approx.f64"] = make1<Gross<Rsqrt64>, double, double>();
    halves<f16, HalfAdd, HalfFma, HalfNeg, HalfSub, HalfMul, HalfMin, HalfMax, HalfAbs>(m, "f16");
    halves<bf16, HalfAdd, HalfFma, HalfNeg, HalfSub, HalfMul, HalfMin, HalfMax, HalfAbs>(m, "bf16");
    halves<Pair<f16>, Both<HalfAdd>, Both<HalfFma>, Both<HalfNeg>, Both<HalfSub>, Both<HalfMul>,
           Both<HalfMin>, Both<HalfMax>, Both<HalfAbs>>(m, "f16x2");
    halves<Pair<bf16>, Both<HalfAdd>, Both<HalfFma>, Both<HalfNeg>, Both<HalfSub>, Both<HalfMul>,
           Both<HalfMin>, Both<HalfMax>, Both<HalfAbs>>(m, "bf16x2");
    return m;
}

const Opcode *opcode(const std::string &name)
{
    static const Table &table = *new Table(make_table());
    auto it = table.find(name);

    return it == table.end() ? nullptr : &it->second;
}

} // namespace ptx
} // namespace simt
