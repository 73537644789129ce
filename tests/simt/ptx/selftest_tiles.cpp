/*
 * selftest_tiles.cpp - mma.sync, ldmatrix and cp.async. Tiles are laid out by the manual's formulas
 * for element i of a lane, not by the interpreter's for registers; small integers keep sums exact.
 */
#include <cmath>
#include <cstring>

#include "by_hand.h"

enum Format { f16_, bf16_, tf32_ };

/* Exact for small integers and halves. */
static uint32_t encode(Format f, float v)
{
    uint32_t b;

    memcpy(&b, &v, sizeof b);
    if (f == tf32_) return b;
    if (f == bf16_) return b >> 16;
    if (v == 0) return b >> 16;
    return (b >> 16 & 0x8000) | (((b >> 23 & 255) - 112) << 10) | (b >> 13 & 1023);
}

static float value(int i, int j, int salt) { return (float)((i * 7 + j * 3 + salt) % 9 - 4) / 2; }

/* The manual: groupID = lane >> 2, threadID_in_group = lane % 4. */
struct Shape {
    const char *name;
    Format format;
    int depth;
    bool small; /* sums in f16 */
};

static void a_place(const Shape &s, int lane, int i, int *row, int *column)
{
    const int group = lane >> 2, in = lane % 4;

    if (s.format == tf32_) {
        *row = i == 0 || i == 2 ? group : group + 8;
        *column = i < 2 ? in : in + 4;
    } else if (s.depth == 16) {
        *row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
        *column = i < 4 ? in * 2 + (i & 1) : in * 2 + (i & 1) + 8;
    } else {
        *row = i < 2 ? group : group + 8;
        *column = in * 2 + (i & 1);
    }
}

static void b_place(const Shape &s, int lane, int i, int *row, int *column)
{
    const int in = lane % 4;

    *column = lane >> 2;
    if (s.format == tf32_) *row = i == 0 ? in : in + 4;
    else *row = in * 2 + (i & 1) + (i < 2 ? 0 : 8);
}

static std::string numbered(const char *prefix, int from, int n)
{
    std::string s = "{";

    for (int i = 0; i < n; i++)
        s += (i ? ", " : "") + std::string(prefix) + std::to_string(from + i);
    return s + "}";
}

static void multiply(const Shape &s)
{
    const int per = s.format == tf32_ ? 1 : 2, n_a = 16 * s.depth / 32, n_b = 8 * s.depth / 32;
    const int w_a = n_a / per, w_b = n_b / per, w_c = s.small ? 2 : 4, each = w_a + w_b + w_c;
    std::vector<uint32_t> in((size_t)(32 * each));
    std::string code = "mul.lo.s32 %r1, %r0, " + std::to_string(4 * each) +
                       ";\ncvt.u64.u32 %rd10, %r1;\nadd.s64 %rd10, %rd10, %rd1;\n";
    const std::string type = s.format == tf32_ ? "tf32" : s.format == bf16_ ? "bf16" : "f16";
    const std::string sum = s.small ? "f16" : "f32";
    int row, column;

    for (int lane = 0; lane < 32; lane++) {
        uint32_t *w = &in[(size_t)(lane * each)];
        for (int i = 0; i < n_a; i++) {
            a_place(s, lane, i, &row, &column);
            w[i / per] |= encode(s.format, value(row, column, 1)) << (16 * (i % per));
        }
        for (int i = 0; i < n_b; i++) {
            b_place(s, lane, i, &row, &column);
            w[w_a + i / per] |= encode(s.format, value(row, column, 5)) << (16 * (i % per));
        }
        for (int i = 0; i < 4; i++) { /* c: row by i < 2, column by i & 1 */
            row = (lane >> 2) + (i < 2 ? 0 : 8);
            column = lane % 4 * 2 + (i & 1);
            if (s.small)
                w[w_a + w_b + i / 2] |= encode(f16_, value(row, column, 2)) << (16 * (i & 1));
            else w[w_a + w_b + i] = encode(tf32_, value(row, column, 2));
        }
    }
    for (int i = 0; i < each; i++)
        code += "ld.global.b32 %r" + std::to_string(10 + i) + ", [%rd10+" + std::to_string(4 * i) +
                "];\n";
    code += "mma.sync.aligned." + std::string(s.name) + ".row.col." + sum + "." + type + "." +
            type + "." + sum + " " + numbered("%r", 30, w_c) + ", " + numbered("%r", 10, w_a) +
            ", " + numbered("%r", 10 + w_a, w_b) + ", " + numbered("%r", 10 + w_a + w_b, w_c) +
            ";\nmul.lo.s32 %r1, %r0, " + std::to_string(4 * w_c) +
            ";\ncvt.u64.u32 %rd10, %r1;\nadd.s64 %rd10, %rd10, %rd0;\n";
    for (int i = 0; i < w_c; i++)
        code += "st.global.b32 [%rd10+" + std::to_string(4 * i) + "], %r" + std::to_string(30 + i) +
                ";\n";
    const Outcome o = run(kernel(code), 32, (size_t)(32 * w_c), in);
    expect(o.error == cudaSuccess, "%s %s: %s", s.name, type.c_str(), o.heard.c_str());
    for (int lane = 0; lane < 32 && o.error == cudaSuccess; lane++)
        for (int i = 0; i < 4; i++) {
            row = (lane >> 2) + (i < 2 ? 0 : 8);
            column = lane % 4 * 2 + (i & 1);
            float want = value(row, column, 2);
            for (int k = 0; k < s.depth; k++) want += value(row, k, 1) * value(k, column, 5);
            const uint32_t word = o.out[(size_t)(lane * w_c + (s.small ? i / 2 : i))];
            const uint32_t got = s.small ? word >> (16 * (i & 1)) & 0xffff : word;
            const uint32_t bits = encode(s.small ? f16_ : tf32_, want);
            expect(got == bits, "%s %s, row %d, column %d: %08x, not %08x", s.name, type.c_str(),
                   row, column, got, bits);
        }
}

/* tf32 operands: the lowest 13 bits do not count. All other elements are zero. */
static void low_bits()
{
    want_words("tf32 is cut", R"(
        setp.eq.s32 %p1, %r0, 0;
        selp.b32 %r1, 0x3f801fff, 0, %p1;
        selp.b32 %r2, 0x3f800000, 0, %p1;
        mov.u32 %r3, 0;
        mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%r10, %r11, %r12, %r13},
            {%r1, %r3, %r3, %r3}, {%r2, %r3}, {%r3, %r3, %r3, %r3};
        st.global.u32 [%rd2], %r10;)",
               32, [](unsigned t) { return t == 0 ? 0x3f800000 : 0; });
}

/* Halves numbered 0, 1, ... in shared memory, rows of 8, at a pitch of 16 bytes. */
static void load_tiles()
{
    for (int n : {1, 2, 4})
        for (bool turned : {false, true})
            for (int r = 0; r < n; r++) {
                const std::string code =
                    "mov.u32 %r1, tile;\nshl.b32 %r2, %r0, 4;\nadd.s32 %r2, %r2, %r1;\n"
                    "mul.lo.s32 %r3, %r0, 524296;\nadd.s32 %r3, %r3, 65536;\n" /* 8 t, 8 t + 1 */
                    "st.shared.u32 [%r2], %r3;\nadd.s32 %r3, %r3, 131074;\n"
                    "st.shared.u32 [%r2+4], %r3;\nadd.s32 %r3, %r3, 131074;\n"
                    "st.shared.u32 [%r2+8], %r3;\nadd.s32 %r3, %r3, 131074;\n"
                    "st.shared.u32 [%r2+12], %r3;\nbar.sync 0;\n"
                    "ldmatrix.sync.aligned.m8n8.x" +
                    std::to_string(n) + (turned ? ".trans" : "") + ".shared.b16 " +
                    numbered("%r", 10, n) + ", [%r2];\nst.global.u32 [%rd2], %r" +
                    std::to_string(10 + r) + ";";
                want_words(
                    "ldmatrix", code, 32,
                    [&](unsigned t) {
                        const unsigned row = t / 4, c = t % 4 * 2, first = 64u * (unsigned)r;
                        const unsigned low = turned ? 8 * c + row : 8 * row + c,
                                       high = turned ? low + 8 : low + 1;
                        return (first + low) | (first + high) << 16;
                    },
                    {}, ".shared .align 16 .b8 tile[512];\n");
            }
}

static void copies()
{
    const char *const tile = ".shared .align 16 .b8 tile[1024];\n";
    const std::string begin = "mov.u32 %r1, tile;\nshl.b32 %r2, %r0, 4;\nadd.s32 %r1, %r1, %r2;\n"
                              "cvt.u64.u32 %rd10, %r2;\nadd.s64 %rd10, %rd10, %rd1;\n";
    std::vector<uint32_t> in(256);

    for (uint32_t i = 0; i < 256; i++) in[i] = 1000 + i;
    want_words(
        "16 bytes", begin + R"(
        cp.async.cg.shared.global [%r1], [%rd10], 16;
        cp.async.commit_group;
        cp.async.wait_group 0;
        ld.shared.u32 %r3, [%r1+12];
        st.global.u32 [%rd2], %r3;)",
        32, [](unsigned t) { return 1003 + 4 * t; }, in, tile);
    want_words(
        "9 of 16 bytes, the rest zeros", begin + R"(
        cp.async.ca.shared.global [%r1], [%rd10], 16, 9;
        cp.async.wait_all;
        ld.shared.u32 %r3, [%r1+8];
        ld.shared.u32 %r4, [%r1+12];
        add.s32 %r3, %r3, %r4;
        st.global.u32 [%rd2], %r3;)",
        32, [](unsigned t) { return (1002 + 4 * t) & 255; }, in, tile);
    want_words(
        "none of 16 bytes, zeros", begin + R"(
        cp.async.cg.shared.global [%r1], [%rd10], 16, 0;
        cp.async.wait_all;
        ld.shared.u32 %r3, [%r1+4];
        st.global.u32 [%rd2], %r3;)",
        32, [](unsigned) { return 0; }, in, tile);
    want_words(
        "a barrier is no wait", begin + R"(
        cp.async.cg.shared.global [%r1], [%rd10], 16;
        cp.async.commit_group;
        bar.sync 0;
        ld.shared.u32 %r3, [%r1];
        st.global.u32 [%rd2], %r3;)",
        32, [](unsigned) { return ~0u; }, in, tile);
    /* Two groups: the first must have come, the second is not there yet (NaN). */
    want_words(
        "groups in their order", begin + R"(
        cp.async.ca.shared.global [%r1], [%rd10], 4;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r1+4], [%rd10+4], 4;
        cp.async.commit_group;
        cp.async.wait_group 1;
        ld.shared.u32 %r3, [%r1];
        ld.shared.u32 %r4, [%r1+4];
        cp.async.wait_group 0;
        ld.shared.u32 %r5, [%r1+4];
        add.s32 %r3, %r3, %r4;
        add.s32 %r3, %r3, %r5;
        st.global.u32 [%rd2], %r3;)",
        32, [](unsigned t) { return 1000 + 4 * t - 1 + 1001 + 4 * t; }, in, tile);
}

void test_tiles()
{
    const Shape shapes[] = {
        {"m16n8k4", tf32_, 4, false}, {"m16n8k8", tf32_, 8, false},  {"m16n8k8", f16_, 8, false},
        {"m16n8k8", bf16_, 8, false}, {"m16n8k16", f16_, 16, false}, {"m16n8k16", bf16_, 16, false},
        {"m16n8k8", f16_, 8, true},   {"m16n8k16", f16_, 16, true},
    };

    for (const Shape &s : shapes) multiply(s);
    low_bits();
    load_tiles();
    copies();
}
