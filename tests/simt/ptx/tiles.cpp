/*
 * tiles.cpp - tensor cores: mma.sync and ldmatrix, as the PTX manual lays tiles out over lanes.
 *
 * With g = lane / 4 and q = lane % 4, and E elements in a 32-bit register (2 of f16 and bf16, 1 of
 * tf32), register r of A holds row g + 8 (r mod 2) and columns q E + 4 E (r / 2) + ..., of B rows
 * q E + 4 E r + ... and column g, of C and D row g + 8 (e / 2) and column 2 q + e mod 2, where e
 * counts elements. Sums: products are exact, added in f64 from k = 0 on to c, and rounded once; a
 * GPU adds in an order and with a rounding of its own, with the digits of f32 or a few more.
 */
#include "compile.h"
#include "floats.h"

namespace simt
{
namespace ptx
{

namespace
{
struct Tf32 { /* the lowest 13 bits are not looked at */
    static constexpr int per_word = 1;
    static double of(uint32_t word, int)
    {
        float f;
        word &= 0xffffe000u;
        memcpy(&f, &word, sizeof f);
        return f;
    }
};
template <class T> struct Half2 {
    static constexpr int per_word = 2;
    static double of(uint32_t word, int n) { return to_double(T{(uint16_t)(word >> (16 * n))}); }
};
} // namespace

static void need_whole_warp(const Step &s, const Ins &i)
{
    char at[160];

    if (s.mask == ~0u) return;
    enter(s.warp, (unsigned)__builtin_ctz(s.mask));
    where.running = false;
    check::source(at, sizeof at, id_of(i));
    fault(cudaErrorLaunchFailure, "%s at %s in a warp of fewer than 32 lanes (%08x)",
          i.name->c_str(), at, s.mask);
}

/* n_a registers of A, half as many of B; `small` sums have the type of Half2<f16>. */
template <class E, int n_a, bool small> static void run_tiles(const Step &s, const Ins &i)
{
    constexpr int depth = 4 * E::per_word * (n_a / 2), n_b = n_a / 2, n_cd = small ? 2 : 4;
    double a[16][depth], b[depth][8];

    need_whole_warp(s, i);
    for (unsigned l = 0; l < lanes; l++) {
        const int g = (int)l / 4, q = (int)l % 4 * E::per_word;
        for (int n = 0; n < E::per_word; n++) {
            for (int r = 0; r < n_a; r++)
                a[g + 8 * (r & 1)][q + n + 4 * E::per_word * (r / 2)] =
                    E::of(get<uint32_t>(in_row(s, i, r), l), n);
            for (int r = 0; r < n_b; r++)
                b[q + n + 4 * E::per_word * r][g] =
                    E::of(get<uint32_t>(in_row(s, i, n_a + r), l), n);
        }
    }
    for (unsigned l = 0; l < lanes; l++)
        for (int r = 0; r < n_cd; r++) {
            uint32_t word = 0;
            for (int n = 0; n < (small ? 2 : 1); n++) {
                const int e = small ? 2 * r + n : r;
                const int row = (int)l / 4 + 8 * (e / 2), column = (int)l % 4 * 2 + e % 2;
                const char *c = in_row(s, i, n_a + n_b + r);
                double sum = small ? Half2<f16>::of(get<uint32_t>(c, l), n) : get<float>(c, l);
                for (int k = 0; k < depth; k++) sum += a[row][k] * b[k][column];
                const float f = gpu_nan((float)sum);
                if (small) word |= (uint32_t)to_small<f16>(sum).bits << (16 * n);
                else memcpy(&word, &f, sizeof word);
            }
            put<uint32_t>(out_row(s, i, r), l, word);
        }
}

Run tiles_of(const std::string &shape, Type ab, Type cd, int *n_a, int *n_b, int *n_cd)
{
    const int depth = shape == "m16n8k4"    ? 4
                      : shape == "m16n8k8"  ? 8
                      : shape == "m16n8k16" ? 16
                                            : 0;
    const int words = depth / (ab == TF32 ? 1 : 2); /* of a row of A */

    *n_a = words / 2; /* 16 rows of so many words, over 32 lanes */
    *n_b = words / 4;
    *n_cd = cd == F16 ? 2 : 4;
    if (cd == F16) {
        if (ab != F16) return nullptr;
        return *n_a == 2   ? run_tiles<Half2<f16>, 2, true>
               : *n_a == 4 ? run_tiles<Half2<f16>, 4, true>
                           : nullptr;
    }
    if (cd != F32 || (*n_a != 2 && *n_a != 4)) return nullptr;
    switch (ab) {
    case TF32: return *n_a == 2 ? run_tiles<Tf32, 2, false> : run_tiles<Tf32, 4, false>;
    case F16: return *n_a == 2 ? run_tiles<Half2<f16>, 2, false> : run_tiles<Half2<f16>, 4, false>;
    case BF16:
        return *n_a == 2 ? run_tiles<Half2<bf16>, 2, false> : run_tiles<Half2<bf16>, 4, false>;
    default: return nullptr;
    }
}

/* Lane 8 t + r has the address of row r of tile t, 16 bytes. A lane gets two neighbours of row
 * lane / 4; of the turned tile with i.mode. */
void run_load_tiles(const Step &s, const Ins &i)
{
    need_whole_warp(s, i);
    for (int t = 0; t < i.n_out; t++) {
        uint16_t tile[8][8];
        for (int r = 0; r < 8; r++) {
            const unsigned l = (unsigned)(8 * t + r);
            const char *row = in_row(s, i, 0);
            const uint64_t base = i.wide_address ? get<uint64_t>(row, l) : get<uint32_t>(row, l);
            memcpy(tile[r], locate(s, i, l, i.space, base + (uint64_t)i.offset, 16, Kind::read),
                   16);
        }
        for (unsigned l = 0; l < lanes; l++) {
            const unsigned r = l / 4, c = l % 4 * 2;
            const uint32_t low = i.mode ? tile[c][r] : tile[r][c],
                           high = i.mode ? tile[c + 1][r] : tile[r][c + 1];
            put<uint32_t>(out_row(s, i, t), l, low | high << 16);
        }
    }
}

} // namespace ptx
} // namespace simt
