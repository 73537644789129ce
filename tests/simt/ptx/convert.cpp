/*
 * convert.cpp - cvt between all types. Floats to integers: rounded as asked for, held in the
 * integer's range; NaN is 0, or the top bit alone where one of the two has 64 bits. i.mode: 'n',
 * 'z', 'm', 'p' round to a whole number, 's' saturates an integer, 'a' is .rna of tf32.
 */
#include <limits>

#include "compile.h"
#include "floats.h"

namespace simt
{
namespace ptx
{

static double whole(double x, char mode)
{
    switch (mode) {
    case 'n': return std::nearbyint(x);
    case 'z': return std::trunc(x);
    case 'm': return std::floor(x);
    case 'p': return std::ceil(x);
    default: return x;
    }
}

template <class To> static To from_double(double x) { return gpu_nan((To)x); }
template <> f16 from_double(double x) { return to_small<f16>(x); }
template <> bf16 from_double(double x) { return to_small<bf16>(x); }

/* [from integer or float][to integer or float] */
template <class To, class From> static To integer_to_integer(From v, char mode)
{
    if (mode != 's') return (To)v;
    const __int128 least = std::numeric_limits<To>::min(), most = std::numeric_limits<To>::max();
    return (To)((__int128)v < least ? least : (__int128)v > most ? most : (__int128)v);
}

template <class To> struct Into { /* floats */
    template <class From> static To of(From v, char mode, std::true_type)
    {
        (void)mode;
        return (To)v;
    }
    template <class From> static To of(From v, char mode, std::false_type)
    {
        return from_double<To>(whole(to_double(v), mode));
    }
};
template <class T> struct IntoSmall {
    template <class From> static T of(From v, char mode, std::true_type)
    {
        (void)mode;
        return to_small<T>((long double)v);
    }
    template <class From> static T of(From v, char mode, std::false_type)
    {
        return from_double<T>(whole(to_double(v), mode));
    }
};
template <> struct Into<f16> : IntoSmall<f16> {
};
template <> struct Into<bf16> : IntoSmall<bf16> {
};

template <class To, class From> static To float_to_integer(From v, char mode)
{
    const double x = whole(to_double(v), mode);
    const bool big = sizeof(To) == 8 || sizeof(From) == 8;
    const double top = std::ldexp(1.0, (int)(8 * sizeof(To)) - std::is_signed<To>::value);

    if (x != x) return big ? (To)(1ull << (8 * sizeof(To) - 1)) : To(0);
    if (x >= top) return std::numeric_limits<To>::max();
    if (x < (double)std::numeric_limits<To>::min()) return std::numeric_limits<To>::min();
    return (To)x;
}

template <class To, class From> static To convert(From v, char mode)
{
    if constexpr (std::is_integral<To>::value && std::is_integral<From>::value)
        return integer_to_integer<To>(v, mode);
    else if constexpr (std::is_integral<To>::value) return float_to_integer<To>(v, mode);
    else return Into<To>::of(v, mode, std::is_integral<From>());
}

/* Short signed results are extended: the register may be wider. */
template <class T> struct Stored {
    using type = T;
};
template <> struct Stored<int8_t> {
    using type = int32_t;
};
template <> struct Stored<int16_t> {
    using type = int32_t;
};

template <class To, class From> static void run_convert(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), mode = (char)i.mode;

    each(s.mask, [=](unsigned l) {
        put<typename Stored<To>::type>(d, l, convert<To>(get<From>(a, l), mode));
    });
}

template <class To> static Run to(Type from)
{
    switch (from) {
    case U8: return run_convert<To, uint8_t>;
    case S8: return run_convert<To, int8_t>;
    case U16: return run_convert<To, uint16_t>;
    case S16: return run_convert<To, int16_t>;
    case U32: return run_convert<To, uint32_t>;
    case S32: return run_convert<To, int32_t>;
    case U64: return run_convert<To, uint64_t>;
    case S64: return run_convert<To, int64_t>;
    case F16: return run_convert<To, f16>;
    case BF16: return run_convert<To, bf16>;
    case F32: return run_convert<To, float>;
    case F64: return run_convert<To, double>;
    default: return nullptr;
    }
}

template <class T> static void run_pair(const Step &s, const Ins &i) /* a is the upper half */
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0), *b = in_row(s, i, 1);

    each(s.mask, [=](unsigned l) {
        put<uint32_t>(d, l,
                      (uint32_t)to_small<T>(get<float>(a, l)).bits << 16 |
                          to_small<T>(get<float>(b, l)).bits);
    });
}

/* tf32 has 10 bits of fraction; the rest is zero. Ties go away from zero. */
static void run_tf32(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0);

    each(s.mask, [=](unsigned l) {
        const uint32_t v = get<uint32_t>(a, l), special = (v & 0x7f800000) == 0x7f800000;
        const bool nan = special && (v & 0x7fffff);
        put<uint32_t>(d, l, nan ? 0x7fffffff : special ? v : (v + 0x1000) & ~0x1fffu);
    });
}

Run convert_of(Type type, Type from, char mode)
{
    const bool chosen = mode == 'n' || mode == 'z' || mode == 'm' || mode == 'p';

    if (type == TF32) return from == F32 && mode == 'a' ? run_tf32 : nullptr;
    if (mode == 'a' || (is_float(from) && !is_float(type) && type < F16X2 && !chosen))
        return nullptr;
    switch (type) {
    case U8: return to<uint8_t>(from);
    case S8: return to<int8_t>(from);
    case U16: return to<uint16_t>(from);
    case S16: return to<int16_t>(from);
    case U32: return to<uint32_t>(from);
    case S32: return to<int32_t>(from);
    case U64: return to<uint64_t>(from);
    case S64: return to<int64_t>(from);
    case F16: return to<f16>(from);
    case BF16: return to<bf16>(from);
    case F32: return to<float>(from);
    case F64: return to<double>(from);
    case F16X2: return run_pair<f16>;
    case BF16X2: return run_pair<bf16>;
    default: return nullptr;
    }
}

void run_flush(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0);

    each(s.mask, [=](unsigned l) {
        const uint32_t v = get<uint32_t>(a, l);
        put<uint32_t>(d, l, v & 0x7f800000 ? v : v & 0x80000000);
    });
}

template <class T> static void run_saturate(const Step &s, const Ins &i)
{
    char *d = out_row(s, i, 0);
    const char *a = in_row(s, i, 0);

    each(s.mask, [=](unsigned l) { /* NaN is 0 */
                                   const double x = to_double(get<T>(a, l));
                                   put<T>(d, l, from_double<T>(x > 0 ? x < 1 ? x : 1 : 0));
    });
}

Run saturate_of(Type t)
{
    switch (t) {
    case F16: return run_saturate<f16>;
    case BF16: return run_saturate<bf16>;
    case F32: return run_saturate<float>;
    case F64: return run_saturate<double>;
    default: return nullptr;
    }
}

} // namespace ptx
} // namespace simt
