/*
 * selftest.cpp - the interpreter against PTX written by hand, with results worked out by hand or
 * by other arithmetic: one thread's instructions from scalars.txt here, the rest in its sisters.
 */
#include <cstdio>
#include <fstream>
#include <sstream>

#include "by_hand.h"

using simt::ptx::load;

static void hear(const char *text, void *data)
{
    *static_cast<std::string *>(data) += std::string(text) + "\n";
}

static const char head[] = ".version 9.0\n.target sm_90\n.address_size 64\n";

Outcome run(const std::string &body, unsigned threads, size_t n_out,
            const std::vector<uint32_t> &in, unsigned blocks, size_t dynamic)
{
    Outcome o;
    uint32_t *params[2] = {nullptr, nullptr};
    simt::ptx::Module *m = load(head + body);

    cudaMalloc(reinterpret_cast<void **>(&params[0]), n_out * 4);
    cudaMemset(params[0], 0, n_out * 4);
    if (!in.empty()) {
        cudaMalloc(reinterpret_cast<void **>(&params[1]), in.size() * 4);
        cudaMemcpy(params[1], in.data(), in.size() * 4, cudaMemcpyHostToDevice);
    }
    simt_on_report(hear, &o.heard);
    simt::ptx::start(m, "k", dim3(blocks), dim3(threads), dynamic, params, sizeof params);
    o.error = cudaDeviceSynchronize();
    simt_on_report(nullptr, nullptr);
    if (o.error == cudaSuccess) {
        o.out.resize(n_out);
        cudaMemcpy(o.out.data(), params[0], n_out * 4, cudaMemcpyDeviceToHost);
        cudaFree(params[0]);
        cudaFree(params[1]);
    } else {
        cudaDeviceReset();
    }
    return o;
}

std::string kernel(const std::string &code, const std::string &more)
{
    return more +
           ".visible .entry k(.param .u64 out, .param .u64 in)\n{\n"
           ".reg .pred %p<64>;\n.reg .b16 %h<64>;\n.reg .b32 %r<64>;\n.reg .f32 %f<64>;\n"
           ".reg .b64 %rd<64>;\n.reg .f64 %fd<64>;\n"
           "ld.param.u64 %rd0, [out];\nld.param.u64 %rd1, [in];\n"
           "mov.u32 %r0, %tid.x;\nmul.wide.u32 %rd2, %r0, 4;\n"
           "add.s64 %rd2, %rd2, %rd0;\n" +
           code + "\nret;\n}\n";
}

void want_report(const char *words, cudaError_t error, const std::string &code, unsigned threads,
                 const std::string &more)
{
    const Outcome o = run(kernel(code, more), threads, 64, std::vector<uint32_t>(64, 7));

    expect(o.heard.find(words) != std::string::npos && o.heard.find("simt: k block (") == 0,
           "wanted \"%s\", heard: %s", words, o.heard.c_str());
    expect(o.error == error, "%s: error %s, not %s", words, cudaGetErrorName(o.error),
           cudaGetErrorName(error));
}

/* One thread's instructions */

namespace
{
struct Scalar {
    std::string name, kinds;
    std::vector<uint64_t> in;
    uint64_t want;
};
} // namespace

/* Loads operands, runs it in lanes that all take part, and in one alone; stores 64 bits each. */
static std::string text_of(const Scalar &s)
{
    const std::map<char, std::string> regs = {{'h', "%h"}, {'w', "%r"}, {'d', "%rd"}, {'p', "%p"}};
    std::string code, operands;

    for (size_t i = 0; i < s.in.size(); i++) {
        const char kind = s.kinds[i + 1];
        const std::string reg = regs.at(kind) + std::to_string(10 + i);
        const std::string at = "[%rd1+" + std::to_string(8 * i) + "]";
        if (kind == 'h') code += "ld.global.u16 " + reg + ", " + at + ";\n";
        if (kind == 'w') code += "ld.global.u32 " + reg + ", " + at + ";\n";
        if (kind == 'd') code += "ld.global.u64 " + reg + ", " + at + ";\n";
        if (kind == 'p')
            code += "ld.global.u32 %r9, " + at + ";\nsetp.ne.s32 " + reg + ", %r9, 0;\n";
        operands += ", " + reg;
    }
    const std::string result = regs.at(s.kinds[0]) + "8";
    code += s.name + " " + result + operands +
            ";\nmul.wide.u32 %rd3, %r0, 8;\n"
            "add.s64 %rd3, %rd3, %rd0;\n";
    if (s.kinds[0] == 'h') code += "cvt.u64.u16 %rd4, %h8;\n";
    if (s.kinds[0] == 'w') code += "cvt.u64.u32 %rd4, %r8;\n";
    if (s.kinds[0] == 'd') code += "mov.b64 %rd4, %rd8;\n";
    if (s.kinds[0] == 'p') code += "selp.b64 %rd4, 1, 0, %p8;\n";
    return code + "st.global.u64 [%rd3], %rd4;\n";
}

void test_scalars(const char *path)
{
    std::ifstream file(path);
    std::string line;
    int n = 0;

    while (std::getline(file, line)) {
        if (line.empty() || line[0] == '#') continue;
        std::istringstream words(line);
        std::string word;
        std::vector<uint32_t> in;
        Scalar s;
        words >> s.name >> s.kinds;
        while (words >> word && word != "=") {
            s.in.push_back(std::stoull(word, nullptr, 16));
            in.push_back((uint32_t)s.in.back());
            in.push_back((uint32_t)(s.in.back() >> 32));
        }
        words >> word;
        s.want = std::stoull(word, nullptr, 16);
        const Outcome o = run(kernel(text_of(s)), 33, 66, in);
        bool good = o.error == cudaSuccess && s.in.size() + 1 == s.kinds.size();
        uint64_t got = 0;
        for (size_t t = 0; good && t < 33; t++) {
            got = o.out[2 * t] | (uint64_t)o.out[2 * t + 1] << 32;
            good = got == s.want;
        }
        expect(good, "%s: %llx %s", line.c_str(), (unsigned long long)got, o.heard.c_str());
        n++;
    }
    expect(n > 600, "%s: only %d instructions", path, n);
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    test_scalars(argv[1]);
    test_flow();
    test_tiles();
    test_rules();
    printf("%d passed, %d failed\n", n_passed, n_failed);
    return n_failed != 0 || n_passed == 0;
}
