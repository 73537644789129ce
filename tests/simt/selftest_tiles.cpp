/*
 * selftest_tiles.cpp - the functions of mma.cuh and their twins: against matrices multiplied here,
 * which are laid out in words by the formulas of that header.
 */
#include <cmath>
#include <cstdint>
#include <cstring>

#include "selftest.h"

enum Format { TF32, BF16, F16 };
static const int per_word[] = {1, 2, 2}, digits[] = {11, 8, 11};

static uint32_t state = 12345;

static float random_float() /* -2 ... 2 */
{
    state = state * 1664525u + 1013904223u;
    return (float)(int)(state >> 8) / (1 << 22) - 2;
}

/* To so many significant digits, nearest even; no small or great numbers come here. */
static float rounded(float v, int n)
{
    int e;
    const double m = std::frexp((double)v, &e);

    return (float)std::ldexp(std::nearbyint(std::ldexp(m, n)), e - n);
}

static uint32_t bits_of(Format f, float v) /* of a number that the format has */
{
    uint32_t u;

    memcpy(&u, &v, sizeof u);
    if (f == TF32) return u;
    if (f == BF16) return u >> 16;
    if (v == 0) return u >> 16;
    int e;
    const int m = (int)std::ldexp(std::frexp(std::fabs((double)v), &e), 11); /* 1024 ... 2047 */
    return (u >> 16 & 0x8000) | (uint32_t)(e - 1 + 15) << 10 | (uint32_t)(m & 1023);
}

struct Tiles {
    float a[16][16], b[16][8], c[16][8];
};

static std::vector<uint32_t> words_of(Format f, const Tiles &t)
{
    std::vector<uint32_t> in(320);
    const int per = per_word[f];

    for (int lane = 0; lane < 32; lane++) {
        const int g = lane / 4, q = lane % 4;
        uint32_t *w = &in[(size_t)lane * 10];
        for (int n = 0; n < per; n++) {
            for (int r = 0; r < 4; r++)
                w[r] |= bits_of(f, t.a[g + 8 * (r % 2)][(q + 4 * (r / 2)) * per + n]) << (16 * n);
            for (int r = 0; r < 2; r++)
                w[4 + r] |= bits_of(f, t.b[(q + 4 * r) * per + n][g]) << (16 * n);
        }
        for (int e = 0; e < 4; e++)
            memcpy(&w[6 + e], &t.c[g + 8 * (e / 2)][2 * q + e % 2], sizeof(float));
    }
    return in;
}

static void multiply(Format f, bool whole)
{
    const int depth = 8 * per_word[f];
    Tiles t;

    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            t.a[i][k] =
                whole ? (float)((i * 5 + k * 3) % 7 - 3) : rounded(random_float(), digits[f]);
    for (int k = 0; k < 16; k++)
        for (int j = 0; j < 8; j++) {
            t.b[k][j] =
                whole ? (float)((k * 2 + j * 5) % 9 - 4) : rounded(random_float(), digits[f]);
            t.c[k][j] = whole ? (float)(k - j) : random_float();
        }
    Buffer<uint32_t> in(words_of(f, t)), out(128), twin(128);
    sample_multiply(f, out.d, twin.d, in.d, nullptr);
    const std::vector<uint32_t> got[] = {out.get(), twin.get()};
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 4; e++) {
            const int i = lane / 4 + 8 * (e / 2), j = lane % 4 * 2 + e % 2;
            double want = t.c[i][j], size = std::fabs(want);
            for (int k = 0; k < depth; k++) {
                want += (double)t.a[i][k] * t.b[k][j];
                size += std::fabs((double)t.a[i][k] * t.b[k][j]);
            }
            for (int which = 0; which < 2; which++) {
                float y;
                memcpy(&y, &got[which][(size_t)(lane * 4 + e)], sizeof y);
                expect(std::fabs((double)y - want) <= (whole ? 0 : depth * 0x1p-24 * size),
                       "format %d, %s, [%d, %d]: %g, not %g", f, which ? "twin" : "instruction", i,
                       j, (double)y, want);
            }
        }
}

static void load_words()
{
    std::vector<uint32_t> in(128);
    std::vector<uint8_t> rows(512);

    for (uint32_t &w : in) w = state = state * 1664525u + 1013904223u;
    memcpy(rows.data(), in.data(), 512);
    for (size_t i = 256; i < 512; i++)
        if (i % 16 >= 5) rows[i] = 0;
    for (int turned = 0; turned < 2; turned++) {
        Buffer<uint32_t> from(in), out(128), twin(128);
        sample_load_words(turned, out.d, twin.d, from.d, nullptr);
        const std::vector<uint32_t> a = out.get(), b = twin.get();
        for (int lane = 0; lane < 32; lane++)
            for (int m = 0; m < 4; m++) {
                const int g = lane / 4, q = lane % 4;
                uint16_t half[2];
                for (int n = 0; n < 2; n++) {
                    const int row = turned ? 2 * q + n : g, column = turned ? g : 2 * q + n;
                    memcpy(&half[n], &rows[(size_t)((8 * m + row) * 16 + column * 2)], 2);
                }
                const uint32_t want = half[0] | (uint32_t)half[1] << 16;
                const size_t at = (size_t)(lane * 4 + m);
                expect(a[at] == want && b[at] == want, "words%s: %08x and %08x, not %08x",
                       turned ? ", turned" : "", a[at], b[at], want);
            }
    }
}

/* A copy that nobody waits for has come late where there are such copies, in nvcc's code; its bytes
 * are ones until then. The twin copies at once. */
static void waits()
{
    std::vector<uint32_t> in(128);

    for (size_t i = 0; i < 128; i++) in[i] = (uint32_t)i;
    for (int waited = 0; waited < 2; waited++) {
        Buffer<uint32_t> from(in), out(128);
        sample_wait(waited, out.d, from.d, nullptr);
        const std::vector<uint32_t> got = out.get();
        for (size_t i = 0; i < 128; i++) {
            uint32_t want = in[(31 - i / 4) * 4 + i % 4];
#ifdef SIMT_PTX
            if (!waited) want = ~0u;
#endif
            expect(got[i] == want, "%swaited for: word %zu is %08x, not %08x", waited ? "" : "not ",
                   i, got[i], want);
        }
    }
}

static void words()
{
    const float special[] = {0.0f,     -0.0f,   1 + 0x1p-11f, 1 + 0x3p-11f, 1 + 0x1p-8f,
                             -1.9999f, 0x1p-9f, 1 + 0x3p-8f,  65504.0f,     3.0f};
    std::vector<float> x(41);

    for (size_t i = 0; i < 41; i++) x[i] = i < 10 ? special[i] : random_float();
    for (int f = 0; f < 3; f++) {
        Buffer<float> in(x);
        Buffer<uint32_t> out(40);
        sample_word(f, out.d, in.d, 40, nullptr);
        const std::vector<uint32_t> got = out.get();
        for (size_t i = 0; i < 40; i++) {
            uint32_t want = 0;
            for (int n = 0; n < per_word[f]; n++)
                want |= bits_of((Format)f, rounded(x[i + (size_t)n], digits[f])) << (16 * n);
            expect(got[i] == want, "format %d of %a: %08x, not %08x", f, (double)x[i], got[i],
                   want);
        }
    }
}

void test_tiles()
{
    for (unsigned order = 0; order < 3; order++) {
        simt_seed(order);
        for (Format f : {TF32, BF16, F16}) {
            multiply(f, true);
            multiply(f, false);
        }
        load_words();
        waits();
        words();
    }
    simt_seed(0);
    expect(simt_errors() == 0, "clean kernels were reported %d times", simt_errors());
}
