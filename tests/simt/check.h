/* check.h - between the checker's rules (check.cpp) and the compiler's calls (callbacks.cpp). */
#ifndef SIMT_CHECK_H
#define SIMT_CHECK_H

#include "internal.h"

namespace simt
{
namespace check
{

/* An access of the running CUDA thread; aligned: the type asks for it, n is a power of two. */
void access(const void *p, size_t n, bool write, bool atomic, uint32_t pc, bool aligned);
/* "file.cu:12" of a place in this program, given as an offset into it. */
void source(char *out, size_t n, uint32_t pc);
bool in_program(const void *p);
[[noreturn]] void misaligned(const void *p, size_t n, uint32_t pc);

} // namespace check
} // namespace simt

#endif /* SIMT_CHECK_H */
