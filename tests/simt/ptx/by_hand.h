/* by_hand.h - what the interpreter's self-tests of hand-written PTX share. */
#ifndef SIMT_PTX_BY_HAND_H
#define SIMT_PTX_BY_HAND_H

#include <cstdint>
#include <string>
#include <vector>

#include "ptx.h"
#include "selftest.h"

struct Outcome {
    cudaError_t error;
    std::string heard; /* all reports */
    std::vector<uint32_t> out;
};

/* Runs kernel `k` of a text whose head is added here: parameters `out` (n words, zeros at first)
 * and `in` (words), both .u64 addresses. */
Outcome run(const std::string &body, unsigned threads, size_t n_out,
            const std::vector<uint32_t> &in, unsigned blocks = 1, size_t dynamic = 0);
/* The same text as a kernel: registers %r, %rd, %f, %fd, %h, %p 0 ... 63; %rd0 out, %rd1 in, %r0
 * the thread's number, %rd2 = out + 4 * %r0. `more` stands before the kernel. */
std::string kernel(const std::string &code, const std::string &more = "");
/* Runs kernel(code); element t of what it stores at %rd2 must be want(t). */
template <class F>
void want_words(const char *what, const std::string &code, unsigned threads, F want,
                const std::vector<uint32_t> &in = {}, const std::string &more = "")
{
    const Outcome o = run(kernel(code, more), threads, threads, in);
    bool good = o.error == cudaSuccess;

    for (unsigned t = 0; t < threads && good; t++)
        if (o.out[t] != (uint32_t)want(t)) {
            expect(false, "%s: thread %u has %08x, not %08x", what, t, o.out[t], (unsigned)want(t));
            return;
        }
    expect(good, "%s: %s %s", what, cudaGetErrorName(o.error), o.heard.c_str());
}
/* The kernel must be reported with these words, and end with the error. */
void want_report(const char *words, cudaError_t error, const std::string &code,
                 unsigned threads = 64, const std::string &more = "");

void test_scalars(const char *path);
void test_flow();  /* selftest_flow.cpp */
void test_tiles(); /* selftest_tiles.cpp */
void test_rules(); /* selftest_rules.cpp */

#endif /* SIMT_PTX_BY_HAND_H */
