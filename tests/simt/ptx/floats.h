/* floats.h - the 16-bit formats, and NaN as a GPU makes it. */
#ifndef SIMT_PTX_FLOATS_H
#define SIMT_PTX_FLOATS_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace simt
{
namespace ptx
{

struct f16 {
    uint16_t bits;
};
struct bf16 {
    uint16_t bits;
};

template <class T> struct Format;
template <> struct Format<f16> {
    static constexpr int digits = 11, least = -14, most = 15;
};
template <> struct Format<bf16> {
    static constexpr int digits = 8, least = -126, most = 127;
};

template <class T> inline double to_double(T v) { return (double)v; }
template <class T> inline double small_to_double(T v)
{
    constexpr int fraction = Format<T>::digits - 1;
    const int exponent = (v.bits & 0x7fff) >> fraction, top = 0x7fff >> fraction;
    const double part = v.bits & ((1 << fraction) - 1), sign = v.bits & 0x8000 ? -1.0 : 1.0;

    if (exponent == top) return part != 0 ? (double)NAN : sign * (double)INFINITY;
    if (!exponent) return sign * std::ldexp(part, Format<T>::least - fraction);
    return sign * std::ldexp(part + (1 << fraction), exponent - 1 + Format<T>::least - fraction);
}
template <> inline double to_double(f16 v) { return small_to_double(v); }
template <> inline double to_double(bf16 v) { return small_to_double(v); }

/* v in a 16-bit format, rounded once, as fegetround says. */
template <class T> inline T to_small(long double v)
{
    constexpr int fraction = Format<T>::digits - 1;
    const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
    int e;

    if (v != v) return T{0x7fff};
    if (std::isinf(v)) return T{(uint16_t)(sign | (0x7fff >> fraction << fraction))};
    std::frexp(v, &e);
    e = e - 1 < Format<T>::least ? Format<T>::least : e - 1;
    long double units = std::nearbyint(std::ldexp(v, fraction - e)); /* of the last place */
    if (std::fabs(units) >= 2 << fraction) {
        units /= 2;
        e++;
    }
    if (e > Format<T>::most) { /* infinity, or the greatest number where rounding leads inward */
        const long double big = v > 0 ? 0x1p63L : -0x1p63L;
        const bool inward = std::nearbyint(big / 0x1p63L * 1.25L) == (v > 0 ? 1 : -1) &&
                            std::nearbyint(big / 0x1p63L * 1.75L) == (v > 0 ? 1 : -1);
        return T{(uint16_t)(sign | ((0x7fff >> fraction << fraction) - (inward ? 1 : 0)))};
    }
    const unsigned m = (unsigned)std::fabs(units);
    if (m < 1u << fraction) return T{(uint16_t)(sign | m)};
    return T{(uint16_t)(sign | ((unsigned)(e - Format<T>::least + 1) << fraction) |
                        (m - (1u << fraction)))};
}

/* p + z as a double whose last bit is set where it is not exact: rounding it once more, to far
 * fewer digits, rounds the sum itself. */
inline double sum_to_odd(double p, double z)
{
    const double s = p + z, q = s - p, lost = (p - (s - q)) + (z - q);
    uint64_t bits;

    if (lost == 0 || s - s != 0) return s;
    memcpy(&bits, &s, sizeof bits);
    if (bits & 1) return s;
    return std::nextafter(s, lost > 0 ? (double)INFINITY : -(double)INFINITY);
}

inline float gpu_nan(float v)
{
    const uint32_t nan = 0x7fffffff;
    float f;

    memcpy(&f, &nan, sizeof f);
    return v == v ? v : f;
}
inline double gpu_nan(double v) { return v; }

} // namespace ptx
} // namespace simt

#endif /* SIMT_PTX_FLOATS_H */
