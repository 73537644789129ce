/* check_none.cpp - linked where the kernels are not instrumented: every hook is empty. */
#include "internal.h"

namespace simt
{
namespace check
{

const bool present = false;

void launch_begin() {}
void block_begin() {}
void block_barrier() {}
void warp_joined(unsigned, unsigned) {}
void fence() {}
void atomic(const volatile void *, size_t, const void *) {}
void shared_arena(const char *, size_t) {}
void shared_variable(const char *, size_t, const char *) {}
void allocated(char *, size_t) {}
void released(char *) {}
void marked(char *, size_t, bool) {}
void touched_by_host(const void *, size_t, const char *) {}
void written_by_host(const void *, size_t) {}
void copied(const void *, const void *, size_t) {}

} // namespace check

void fence(bool) {}
void atomic_begin(const volatile void *, size_t) {}

} // namespace simt
