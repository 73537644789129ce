/*
 * random.h - streams of numbers out of philox.h, for .c and .cu alike.
 *
 * A number is a function of (seed, purpose, counter, element) and of nothing else. Reals are made
 * of integers by exact steps, fma and square roots, without the math library, so the bits are the
 * same everywhere.
 */
#ifndef TI_RANDOM_H
#define TI_RANDOM_H

#include <math.h>
#include <string.h>

#include "base/philox.h"

/* The numbers of one (seed, purpose, counter): 2^64 blocks of four words. */
typedef struct {
    uint64_t key, counter;
} ti_stream;

/* Seed and purpose are hashed into the key: all their bits count. */
TI_PHILOX ti_stream ti_stream_of(int64_t seed, int64_t purpose, int64_t counter)
{
    const uint64_t p = (uint64_t)purpose;
    const ti_philox4 c = {{(uint32_t)p, (uint32_t)(p >> 32), 0x74657264, 0x6e72}};
    const ti_philox4 k = ti_philox(c, (uint64_t)seed);
    const ti_stream stream = {(uint64_t)k.x[1] << 32 | k.x[0], (uint64_t)counter};

    return stream;
}

TI_PHILOX ti_philox4 ti_stream_block(const ti_stream *s, uint64_t block)
{
    const ti_philox4 c = {{(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)s->counter,
                           (uint32_t)(s->counter >> 32)}};

    return ti_philox(c, s->key);
}

/* 32 bits for element i (four elements a block); 64 bits for element i (two a block). */
TI_PHILOX uint32_t ti_bits32(const ti_stream *s, uint64_t i)
{
    const ti_philox4 b = ti_stream_block(s, i / 4);
    const int k = (int)(i % 4);

    /* no index into the array: on GPUs it stays in registers */
    return k < 2 ? (k ? b.x[1] : b.x[0]) : (k == 2 ? b.x[2] : b.x[3]);
}
TI_PHILOX uint64_t ti_pair(ti_philox4 b, int half)
{
    return (uint64_t)b.x[2 * half + 1] << 32 | b.x[2 * half];
}
TI_PHILOX uint64_t ti_bits64(const ti_stream *s, uint64_t i)
{
    return ti_pair(ti_stream_block(s, i / 2), (int)(i % 2));
}

/* 0 … 1, 1 excluded. */
TI_PHILOX float ti_unit_f32(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
TI_PHILOX double ti_unit_f64(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

/* a … b, b excluded, although a + (b - a) u may round up to it. */
TI_PHILOX float ti_between_f32(float a, float b, float u)
{
    const float x = fmaf(b - a, u, a);

    if (x < b) return x;
    uint32_t bits;
    memcpy(&bits, &b, sizeof bits);
    bits = b > 0 ? bits - 1 : b < 0 ? bits + 1 : 0x80000001u;
    float below;
    memcpy(&below, &bits, sizeof below);
    return below;
}
TI_PHILOX double ti_between_f64(double a, double b, double u)
{
    const double x = fma(b - a, u, a);

    if (x < b) return x;
    uint64_t bits;
    memcpy(&bits, &b, sizeof bits);
    bits = b > 0 ? bits - 1 : b < 0 ? bits + 1 : 0x8000000000000001u;
    double below;
    memcpy(&below, &bits, sizeof below);
    return below;
}

/* log of a positive normal number within 1e-15 of it: x = m 2^e, f = (m-1)/(m+1), 2 atanh f. */
TI_PHILOX double ti_log_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t e = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    const double f = (m - 1) / (m + 1), ff = f * f;
    double s = 1.0 / 21;
    for (int k = 19; k >= 3; k -= 2) s = fma(s, ff, 1.0 / k);
    s = fma(2 * f * ff, s, 2 * f);
    return fma((double)e, 0x1.62e42fefa39efp-1, s);
}

/* Quotient of two polynomials of degree 7 in r. */
TI_PHILOX double ti_quotient(const double num[8], const double den[8], double r)
{
    double n = num[7], d = den[7];

    for (int k = 6; k >= 0; k--) {
        n = fma(n, r, num[k]);
        d = fma(d, r, den[k]);
    }
    return n / d;
}

/* The standard normal number of a share of 2^-53 … 1 - 2^-53: the inverse of its distribution
 * (Wichura 1988, algorithm AS 241), within 1e-15 of it. */
TI_PHILOX double ti_normal_of(uint64_t bits)
{
    const double a[8] = {3.3871328727963666080e0,  1.3314166789178437745e+2,
                         1.9715909503065514427e+3, 1.3731693765509461125e+4,
                         4.5921953931549871457e+4, 6.7265770927008700853e+4,
                         3.3430575583588128105e+4, 2.5090809287301226727e+3};
    const double b[8] = {1.0,
                         4.2313330701600911252e+1,
                         6.8718700749205790830e+2,
                         5.3941960214247511077e+3,
                         2.1213794301586595867e+4,
                         3.9307895800092710610e+4,
                         2.8729085735721942674e+4,
                         5.2264952788528545610e+3};
    const double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                         5.76949722146069140550e0,  3.64784832476320460504e0,
                         1.27045825245236838258e0,  2.41780725177450611770e-1,
                         2.27238449892691845833e-2, 7.74545014278341407640e-4};
    const double d[8] = {1.0,
                         2.05319162663775882187e0,
                         1.67638483018380384940e0,
                         6.89767334985100004550e-1,
                         1.48103976427480074590e-1,
                         1.51986665636164571966e-2,
                         5.47593808499534494600e-4,
                         1.05075007164441684324e-9};
    const double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                         1.78482653991729133580e0,  2.96560571828504891230e-1,
                         2.65321895265761230930e-2, 1.24266094738807843860e-3,
                         2.71155556874348757815e-5, 2.01033439929228813265e-7};
    const double f[8] = {1.0,
                         5.99832206555887937690e-1,
                         1.36929880922735805310e-1,
                         1.48753612908506148525e-2,
                         7.86869131145613259100e-4,
                         1.84631831751005468180e-5,
                         1.42151175831644588870e-7,
                         2.04426310338993978564e-15};
    const double p = ((double)(bits >> 12) + 0.5) * 0x1p-52, q = p - 0.5;

    if (fabs(q) <= 0.425) return q * ti_quotient(a, b, fma(-q, q, 0.180625));
    double r = sqrt(-ti_log_of(q < 0 ? p : 1 - p));
    r = r <= 5 ? ti_quotient(c, d, r - 1.6) : ti_quotient(e, f, r - 5);
    return q < 0 ? -r : r;
}

/* What dropout compares 32 random bits with: an element goes where they are below. */
TI_PHILOX uint32_t ti_dropout_cut(double p) { return (uint32_t)(p * 4294967296.0); }

#endif
