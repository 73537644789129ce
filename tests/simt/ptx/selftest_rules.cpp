/*
 * selftest_rules.cpp - what must be refused or reported: unknown instructions, and one deliberate
 * bug per rule that the samples of bugs.cu do not reach.
 */
#include "by_hand.h"

static void unknown()
{
    const cudaError_t bad = cudaErrorInvalidPtx;

    want_report("unknown instruction 'frob.s32'", bad, "frob.s32 %r1, %r0;");
    want_report("line 19 of the PTX", bad, "\nadd.s32 %r1, %r0, 1;\nfrob.s32 %r1, %r0;");
    want_report("unknown instruction 'add.frob.s32'", bad, "add.frob.s32 %r1, %r0, %r0;");
    want_report("unknown instruction 'ld.global.frob.u32'", bad, "ld.global.frob.u32 %r1, [%rd0];");
    want_report("unknown instruction 'add.sat.s32'", bad, "add.sat.s32 %r1, %r0, %r0;");
    want_report("unknown instruction 'wgmma.fence.sync.aligned'", bad, "wgmma.fence.sync.aligned;");
    want_report("unknown instruction 'mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64'", bad,
                "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%fd1,%fd2},{%fd3},{%fd4},"
                "{%fd1,%fd2};");
    want_report("unknown instruction 'cvt.s32.f32'", bad, "cvt.s32.f32 %r1, %f1;");
    want_report("unknown operand 'nobody'", bad, "mov.u32 %r1, nobody;");
    want_report("unknown operand '%clock64'", bad, "mov.u64 %rd9, %clock64;");
    want_report("the register %rd1 is of another size", bad, "add.s32 %r1, %rd1, %r0;");
    want_report("'missing' is called, and has no body here", bad, "call.uni missing;");
    want_report("in a circle", bad, "call.uni again;", 64,
                ".func again\n()\n{\ncall.uni again;\nret;\n}\n");
    want_report("unknown label 'NOWHERE'", bad, "bra NOWHERE;");
    want_report("unknown directive '.frob'", bad, "", 64, ".frob 1;\n");
}

static void memory()
{
    const cudaError_t stray = cudaErrorIllegalAddress;
    const char *const tile = ".shared .align 16 .b8 tile[1024];\n";

    want_report("ld.local.u32 of 4 bytes outside local memory", stray,
                ".local .align 4 .b8 d[8];\nmov.u64 %rd9, d;\nld.local.u32 %r1, [%rd9+8];");
    want_report("outside the thread's local memory", stray,
                ".local .align 4 .b8 d[8];\nmov.u64 %rd9, d;\ncvta.local.u64 %rd9, %rd9;\n"
                "setp.eq.s32 %p1, %r0, 0;\n@%p1 ld.u32 %r1, [%rd9+12];");
    want_report("ld.param.u32 of 4 bytes outside parameter memory", stray,
                "mov.u64 %rd9, in;\nld.param.u32 %r1, [%rd9+8];");
    want_report("outside constant memory", stray, "mov.u64 %rd9, c;\nld.const.u32 %r1, [%rd9+4];",
                64, ".const .align 4 .u32 c = 1;\n");
    want_report("write of 4 bytes outside device memory", stray,
                "mov.u64 %rd9, c;\nst.u32 [%rd9], 1;", 64, ".const .align 4 .u32 c = 1;\n");
    want_report("past the end of a global allocation of 256 bytes", stray,
                "ld.global.u32 %r1, [%rd2+128];");
    want_report("misaligned access of 16 bytes", cudaErrorMisalignedAddress,
                "ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1+8];");
    want_report("misaligned access of 16 bytes", cudaErrorMisalignedAddress,
                "mov.u32 %r1, tile;\ncp.async.cg.shared.global [%r1], [%rd1+4], 16;", 1, tile);
    want_report("read of 4 bytes outside device memory", stray,
                "mov.u32 %r1, tile;\ncp.async.ca.shared.global [%r1], [%rd1+256], 4;\n"
                "cp.async.wait_all;",
                1, tile);
    want_report("past the end of shared tile of 1024 bytes", stray,
                "mov.u32 %r1, tile;\ncp.async.ca.shared.global [%r1+1024], [%rd1], 4;", 1, tile);
    want_report("race: read", cudaErrorAssert, /* the copy has come, and nobody waited for others */
                "mov.u32 %r1, tile;\nshl.b32 %r2, %r0, 2;\nadd.s32 %r3, %r1, %r2;\n"
                "cp.async.ca.shared.global [%r3], [%rd1], 4;\ncp.async.wait_all;\n"
                "xor.b32 %r2, %r2, 128;\nadd.s32 %r3, %r1, %r2;\nld.shared.u32 %r4, [%r3];",
                64, tile);
    want_report("race: write", cudaErrorAssert, /* refilled while another warp may read */
                "mov.u32 %r1, tile;\nshl.b32 %r2, %r0, 2;\nadd.s32 %r3, %r1, %r2;\n"
                "st.shared.u32 [%r3], %r0;\nbar.sync 0;\nxor.b32 %r4, %r2, 128;\n"
                "add.s32 %r4, %r4, %r1;\nld.shared.u32 %r5, [%r4];\n"
                "cp.async.ca.shared.global [%r3], [%rd1], 4;\ncp.async.wait_all;",
                64, tile);
    want_report("read of unwritten memory", cudaErrorAssert,
                "mov.u32 %r1, tile;\nldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];", 32,
                tile);
}

static void waiting()
{
    const cudaError_t stops = cudaErrorLaunchFailure;

    want_report("a barrier beyond the 16 of a block", stops, "bar.sync 16;");
    want_report("no multiple of 32", stops, "bar.sync 1, 40;");
    want_report("deadlock", stops, "bar.sync 1, 64;", 32 + 31);
    want_report("deadlock", stops,
                "setp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 1, 64;\n"
                "@!%p1 bar.sync 2, 64;");
    want_report("divergent __syncthreads", stops,
                "setp.lt.u32 %p1, %r0, 32;\n@%p1 bar.sync 0;\n@!%p1 bar.sync 0;");
    want_report("in a warp of fewer than 32 lanes", stops,
                "mov.u32 %r3, 0;\nmma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                "{%r10, %r11, %r12, %r13}, {%r3, %r3, %r3, %r3}, {%r3, %r3}, "
                "{%r3, %r3, %r3, %r3};",
                31);
    want_report("deadlock", stops, /* half of the warp never comes to the tile */
                "mov.u32 %r1, tile;\nsetp.lt.u32 %p1, %r0, 16;\n@%p1 bra A;\nbar.sync 0;\nA:\n"
                "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r2}, [%r1];",
                32, ".shared .align 16 .b8 tile[1024];\n");
    want_report("__trap at line", stops, "trap;");
    want_report("number 3 of 1 labels", cudaErrorIllegalAddress,
                "T: .branchtargets A;\nmov.u32 %r1, 3;\nbrx.idx %r1, T;\nA:");
}

void test_rules()
{
    unknown();
    memory();
    waiting();
    expect(run(kernel("ret;"), 32, 1, {}).error == cudaSuccess, "and all is well afterwards");
}
