/*
 * selftest_flow.cpp - branches, calls, memory spaces, atomics, barriers and warp collectives, in
 * small kernels whose results are plain formulas of the thread's number.
 */
#include "by_hand.h"

static void branches()
{
    /* Steps of Collatz from t + 1: every lane leaves the loop at a time of its own. */
    want_words("loop", R"(
        add.s32 %r1, %r0, 1;
        mov.u32 %r2, 0;
    L_top:
        setp.eq.s32 %p1, %r1, 1;
        @%p1 bra L_end;
        and.b32 %r3, %r1, 1;
        setp.eq.s32 %p2, %r3, 0;
        @%p2 shr.u32 %r1, %r1, 1;
        @!%p2 mad.lo.s32 %r1, %r1, 3, 1;
        add.s32 %r2, %r2, 1;
        bra.uni L_top;
    L_end:
        st.global.u32 [%rd2], %r2;)",
               70, [](unsigned t) {
                   unsigned n = 0;
                   for (unsigned v = t + 1; v != 1; n++) v = v & 1 ? 3 * v + 1 : v / 2;
                   return n;
               });
    want_words("table", R"(
        rem.u32 %r1, %r0, 3;
        mov.u32 %r2, 7;
    T: .branchtargets A, B, C;
        brx.idx %r1, T;
    A:  add.s32 %r2, %r2, 100;
    B:  add.s32 %r2, %r2, 10;
        bra E;
    C:  mov.u32 %r2, 1;
    E:  st.global.u32 [%rd2], %r2;)",
               40, [](unsigned t) { return t % 3 == 0   ? 117
                                           : t % 3 == 1 ? 17
                                                        : 1; });
    want_words("exit", R"(
        setp.gt.u32 %p1, %r0, 20;
        st.global.u32 [%rd2], 1;
        @%p1 exit;
        st.global.u32 [%rd2], 2;)",
               40, [](unsigned t) { return t > 20 ? 1 : 2; });
    want_words("guarded results keep other lanes' values", R"(
        mov.u32 %r1, 5;
        setp.lt.u32 %p1, %r0, 9;
        @%p1 mov.u32 %r1, %r0;
        @!%p1 add.s32 %r1, %r1, %r0;
        st.global.u32 [%rd2], %r1;)",
               40, [](unsigned t) { return t < 9 ? t : t + 5; });
}

static void calls()
{
    const char *const functions = R"(
        .func (.param .b32 r) twice(.param .b32 x)
        {
            .reg .b32 %a<3>;
            ld.param.u32 %a1, [x];
            add.s32 %a2, %a1, %a1;
            st.param.b32 [r], %a2;
            ret;
        }
        .func (.param .align 4 .b8 r[8]) pair(.param .b32 x, .param .align 4 .b8 y[8])
        {
            .reg .b32 %a<6>;
            .reg .pred %q<2>;
            ld.param.u32 %a1, [x];
            ld.param.u32 %a2, [y+4];
            setp.gt.s32 %q1, %a1, 10;
            @%q1 bra BIG;
            {
                .param .b32 p0;
                st.param.b32 [p0], %a2;
                .param .b32 q0;
                call.uni (q0), twice, (p0);
                ld.param.b32 %a2, [q0];
            }
            st.param.b32 [r], %a2;
            st.param.b32 [r+4], %a1;
            ret;
        BIG:
            st.param.b32 [r], 0;
            st.param.b32 [r+4], %a2;
            ret;
        }
    )";
    want_words(
        "calls", R"(
        add.s32 %r1, %r0, 1000;
        mov.u32 %r4, 9;
        setp.ne.s32 %p1, %r0, 5;
        {
            .param .b32 p0;
            st.param.b32 [p0+0], %r0;
            .param .align 8 .b8 p1[8];
            st.param.v2.b32 [p1], {%r0, %r1};
            .param .align 8 .b8 q0[8];
            st.param.b32 [q0], 3;
            st.param.b32 [q0+4], 4;
            @%p1 call (q0), pair, (p0, p1);
            ld.param.v2.b32 {%r2, %r3}, [q0];
        }
        add.s32 %r2, %r2, %r3;
        st.global.u32 [%rd2], %r2;)",
        40, [](unsigned t) { return t == 5   ? 7
                                    : t > 10 ? t + 1000
                                             : 2 * (t + 1000) + t; }, {},
        functions);
}

static void spaces()
{
    want_words("local memory, through generic addresses too", R"(
        .local .align 8 .b8 depot[32];
        mov.u64 %rd10, depot;
        cvta.local.u64 %rd11, %rd10;
        st.local.u32 [%rd10+4], %r0;
        add.s64 %rd12, %rd11, 4;
        ld.u32 %r1, [%rd12];
        st.u8 [%rd11], 255;
        ld.local.s8 %r2, [depot];
        add.s32 %r1, %r1, %r2;
        st.global.u32 [%rd2], %r1;)",
               40, [](unsigned t) { return t - 1; });
    want_words(
        "shared memory in other lanes' hands", R"(
        shl.b32 %r1, %r0, 2;
        mov.u32 %r2, tile;
        add.s32 %r2, %r2, %r1;
        st.shared.u32 [%r2], %r0;
        bar.sync 0;
        xor.b32 %r3, %r1, 252;
        cvt.u64.u32 %rd10, %r3;
        mov.u64 %rd11, tile;
        cvta.shared.u64 %rd11, %rd11;
        add.s64 %rd11, %rd11, %rd10;
        isspacep.shared %p1, %rd11;
        ld.u32 %r4, [%rd11];
        selp.b32 %r4, %r4, 999, %p1;
        st.global.u32 [%rd2], %r4;)",
        64, [](unsigned t) { return 63 - t; }, {}, ".shared .align 4 .b8 tile[256];\n");
    want_words(
        "constants and globals", R"(
        and.b32 %r1, %r0, 3;
        mul.wide.u32 %rd10, %r1, 2;
        mov.u64 %rd11, table;
        add.s64 %rd11, %rd11, %rd10;
        ld.const.s16 %r2, [%rd11];
        ld.global.u32 %r3, [start];
        add.s32 %r2, %r2, %r3;
        st.global.u32 [%rd2], %r2;)",
        40,
        [](unsigned t) {
            return 50 + (int[]){-1, 2, 300, -400}[t & 3];
        },
        {},
        ".const .align 2 .b16 table[4] = {-1, 2, 300, -400};\n"
        ".global .align 4 .u32 start = 50;\n");
    want_words("vectors and narrow elements", R"(
        ld.global.v4.u8 {%r1, %r2, %r3, %r4}, [%rd1];
        ld.global.v2.s16 {%h1, %h2}, [%rd1+4];
        ld.global.v2.u64 {%rd10, %rd11}, [%rd1+16];
        ld.global.s32 %rd12, [%rd1+8];
        mad.lo.s32 %r1, %r2, 256, %r1;
        mad.lo.s32 %r1, %r4, 65536, %r1;
        cvt.s32.s16 %r5, %h2;
        add.s32 %r1, %r1, %r5;
        cvt.u32.u64 %r6, %rd11;
        add.s32 %r1, %r1, %r6;
        shr.s64 %rd12, %rd12, 40;
        cvt.u32.u64 %r7, %rd12;
        add.s32 %r1, %r1, %r7;
        st.global.u32 [%rd2], %r1;)",
               40, [](unsigned) { return 0x440000 + 0x2211 - 2 + 77 - 1; },
               {0x44332211, 0xfffe0005, 0x80000000, 0, 1, 2, 77, 0});
    want_words("packing", R"(
        mov.b32 {%h1, %h2}, %r0;
        mov.b32 %r1, {%h2, %h1};
        mov.b64 %rd10, {%r1, %r0};
        mov.b64 {%r2, _}, %rd10;
        mov.b64 {%h3, %h4, %h5, %h6}, %rd10;
        cvt.u32.u16 %r3, %h5;
        add.s32 %r2, %r2, %r3;
        st.global.u32 [%rd2], %r2;)",
               40, [](unsigned t) { return (t << 16) + t; });
}

/* 100 threads meet at one word; `in`: operand of thread t. */
static void one_atomic(const char *code, uint32_t start, uint32_t want)
{
    const std::string text = std::string("setp.ne.s32 %p1, %r0, 0;\n@!%p1 st.global.u32 [%rd0], ") +
                             std::to_string(start) + ";\nbar.sync 0;\nadd.s32 %r1, %r0, 1;\n" +
                             code;
    const Outcome o = run(kernel(text), 100, 100, {});

    expect(o.error == cudaSuccess && o.out[0] == want, "%s: %08x, not %08x %s", code,
           o.error == cudaSuccess ? o.out[0] : 0, want, o.heard.c_str());
}

static void atomics()
{
    one_atomic("atom.global.add.u32 %r2, [%rd0], %r1;", 5, 5 + 5050);
    one_atomic("red.global.add.u32 [%rd0], %r1;", 5, 5 + 5050);
    one_atomic("neg.s32 %r1, %r1; red.global.min.s32 [%rd0], %r1;", 5, (uint32_t)-100);
    one_atomic("neg.s32 %r1, %r1; red.global.max.s32 [%rd0], %r1;", 0x80000000, (uint32_t)-1);
    one_atomic("neg.s32 %r1, %r1; red.global.min.u32 [%rd0], %r1;", 0xffffffff, (uint32_t)-100);
    one_atomic("red.global.or.b32 [%rd0], %r1;", 128, 255);
    one_atomic("not.b32 %r1, %r1; red.global.and.b32 [%rd0], %r1;", 0xffff, 0xff80);
    one_atomic("red.global.xor.b32 [%rd0], 1;", 3, 3);
    one_atomic("atom.global.inc.u32 %r2, [%rd0], 6;", 0, 100 % 7);
    one_atomic("atom.global.dec.u32 %r2, [%rd0], 6;", 3, (3 + 700 - 100) % 7);
    one_atomic("cvt.rn.f32.u32 %f1, %r1; red.global.add.f32 [%rd0], %f1;", 0x3f800000, 0x459dd800);
    one_atomic("setp.eq.u32 %p2, %r0, 41; @%p2 atom.global.exch.b32 %r2, [%rd0], 77;", 3, 77);
    one_atomic("setp.lt.u32 %p2, %r0, 32; @%p2 atom.global.cas.b32 %r2, [%rd0], %r0, %r1;", 0,
               32); /* a chain, lane by lane */
    want_words(
        "old values are a permutation", R"(
        mov.u32 %r5, 0;
        mov.u32 %r6, counter;
        setp.eq.s32 %p1, %r0, 0;
        @%p1 st.shared.u32 [%r6], %r5;
        bar.sync 0;
        atom.shared.add.u32 %r2, [%r6], 1;
        mul.wide.u32 %rd10, %r2, 4;
        add.s64 %rd10, %rd10, %rd0;
        st.global.u32 [%rd10], %r2;)",
        96, [](unsigned t) { return t; }, {}, ".shared .align 4 .u32 counter;\n");
}

static void barriers()
{
    want_words("bar.red", R"(
        and.b32 %r1, %r0, 3;
        setp.eq.s32 %p1, %r1, 1;
        bar.red.popc.u32 %r2, 0, %p1;
        bar.red.and.pred %p2, 0, %p1;
        bar.red.or.pred %p3, 0, !%p1;
        setp.lt.u32 %p4, %r0, 100;
        bar.red.and.pred %p5, 1, 128, %p4;
        selp.b32 %r3, 1000, 0, %p2;
        selp.b32 %r4, 2000, 0, %p3;
        selp.b32 %r5, 4000, 0, %p5;
        add.s32 %r2, %r2, %r3;
        add.s32 %r2, %r2, %r4;
        add.s32 %r2, %r2, %r5;
        st.global.u32 [%rd2], %r2;)",
               128, [](unsigned) { return 32 + 2000; });
    /* Warp 0 makes, warp 1 takes, by two named barriers; warp 2 has nothing to do with them. */
    want_words(
        "a maker and a taker", R"(
        shr.u32 %r1, %r0, 5;
        and.b32 %r2, %r0, 31;
        mov.u32 %r3, tile;
        shl.b32 %r4, %r2, 2;
        add.s32 %r3, %r3, %r4;
        mov.u32 %r9, 0;
        mov.u32 %r8, 0;
        setp.eq.s32 %p1, %r1, 0;
        @%p1 bra MAKE;
        setp.eq.s32 %p1, %r1, 1;
        @%p1 bra TAKE;
        mov.u32 %r9, 5;
        bra END;
    MAKE:
        mad.lo.s32 %r5, %r8, 100, %r2;
        st.shared.u32 [%r3], %r5;
        bar.arrive 1, 64;
        bar.sync 2, 64;
        add.s32 %r8, %r8, 1;
        setp.lt.s32 %p2, %r8, 3;
        @%p2 bra MAKE;
        bra END;
    TAKE:
        bar.sync 1, 64;
        ld.shared.u32 %r5, [%r3];
        add.s32 %r9, %r9, %r5;
        bar.arrive 2, 64;
        add.s32 %r8, %r8, 1;
        setp.lt.s32 %p2, %r8, 3;
        @%p2 bra TAKE;
    END:
        st.global.u32 [%rd2], %r9;)",
        96, [](unsigned t) { return t < 32   ? 0
                                    : t < 64 ? 300 + 3 * (t - 32)
                                             : 5; }, {},
        ".shared .align 4 .b8 tile[128];\n");
    want_words(
        "bar.warp.sync of half a warp, in two paths", R"(
        mov.u32 %r3, tile;
        shl.b32 %r4, %r0, 2;
        add.s32 %r5, %r3, %r4;
        st.shared.u32 [%r5], %r0;
        setp.lt.u32 %p1, %r0, 16;
        @%p1 bra LOW;
        bar.warp.sync 0xffff0000;
        xor.b32 %r4, %r4, 60;
        add.s32 %r5, %r3, %r4;
        ld.shared.u32 %r1, [%r5];
        bra END;
    LOW:
        bar.warp.sync 0xffff;
        xor.b32 %r4, %r4, 4;
        add.s32 %r5, %r3, %r4;
        ld.shared.u32 %r1, [%r5];
    END:
        st.global.u32 [%rd2], %r1;)",
        32, [](unsigned t) { return t < 16 ? t ^ 1 : t ^ 15; }, {},
        ".shared .align 4 .b8 tile[128];\n");
}

static void collectives()
{
    struct {
        const char *how, *operands;
        int (*want)(int);
    } shuffles[] = {
        {"idx", "5, 6175", [](int t) { return t / 8 * 8 + 5; }},          /* width 8: c = 0x181f */
        {"up", "3, 4096", [](int t) { return t % 16 >= 3 ? t - 3 : t; }}, /* width 16: 0x1000 */
        {"down", "2, 31", [](int t) { return t % 32 < 30 ? t + 2 : t; }},
        {"bfly", "9, 31", [](int t) { return t ^ 9; }},
    };
    for (auto &s : shuffles)
        want_words(s.how,
                   std::string("shfl.sync.") + s.how + ".b32 %r1|%p1, %r0, " + s.operands +
                       ", -1;\nselp.b32 %r2, 1000, 0, %p1;\nadd.s32 %r1, %r1, %r2;\n"
                       "st.global.u32 [%rd2], %r1;",
                   64, [&](unsigned t) {
                       const int from = s.want((int)t);
                       return from +
                              (from != (int)t || t % 32 == 5 || (t % 8 == 5 && s.how[0] == 'i')
                                   ? 1000
                                   : 0);
                   });
    want_words("votes of the lanes below 20", R"(
        setp.lt.u32 %p9, %r0, 20;
        @!%p9 bra END;
        and.b32 %r1, %r0, 1;
        setp.eq.s32 %p1, %r1, 1;
        vote.sync.ballot.b32 %r2, %p1, 0xfffff;
        vote.sync.all.pred %p2, %p9, 0xfffff;
        vote.sync.any.pred %p3, !%p9, 0xfffff;
        vote.sync.uni.pred %p4, %p1, 0xfffff;
        selp.b32 %r3, 1, 0, %p2;
        selp.b32 %r4, 2, 0, %p3;
        selp.b32 %r5, 4, 0, %p4;
        add.s32 %r2, %r2, %r3;
        add.s32 %r2, %r2, %r4;
        add.s32 %r2, %r2, %r5;
        activemask.b32 %r6;
        xor.b32 %r2, %r2, %r6;
        st.global.u32 [%rd2], %r2;
    END:)",
               32, [](unsigned t) { return t < 20 ? (0xaaaaa + 1) ^ 0xfffff : 0; });
    want_words("match and redux", R"(
        rem.u32 %r1, %r0, 5;
        match.any.sync.b32 %r2, %r1, -1;
        mov.b64 %rd10, {%r1, %r1};
        match.any.sync.b64 %r3, %rd10, -1;
        xor.b32 %r3, %r3, %r2;
        match.all.sync.b32 %r4|%p1, %r1, -1;
        match.all.sync.b32 %r5|%p2, 7, -1;
        selp.b32 %r6, 1, 0, %p1;
        selp.b32 %r7, 2, 0, %p2;
        add.s32 %r3, %r3, %r4;
        add.s32 %r3, %r3, %r6;
        add.s32 %r3, %r3, %r7;
        redux.sync.add.s32 %r8, %r0, -1;
        sub.s32 %r9, 3, %r0;
        redux.sync.min.s32 %r10, %r9, -1;
        redux.sync.max.u32 %r11, %r9, -1;
        redux.sync.or.b32 %r12, %r0, -1;
        xor.b32 %r2, %r2, %r3;
        add.s32 %r2, %r2, %r8;
        add.s32 %r2, %r2, %r10;
        add.s32 %r2, %r2, %r11;
        add.s32 %r2, %r2, %r12;
        st.global.u32 [%rd2], %r2;)",
               32, [](unsigned t) {
                   unsigned same = 0;
                   for (unsigned k = 0; k < 32; k++) same |= (unsigned)(k % 5 == t % 5) << k;
                   return (same ^ 2) + 496 - 28 - 1 + 31;
               });
}

void test_flow()
{
    for (unsigned order = 0; order < 3; order++) {
        simt_seed(order);
        branches();
        calls();
        spaces();
        atomics();
        barriers();
        collectives();
    }
    simt_seed(0);
}
