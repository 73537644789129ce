/*
 * callbacks.cpp - the functions that instrumented kernels call.
 *
 * -fsanitize=thread brings __tsan_*; -fsanitize=alignment,bounds,... brings __ubsan_*, which know
 * file and line themselves. clang 14 turns copies of structs into plain memcpy and memset (later
 * ones call __tsan_memcpy): the plug-in is linked with --wrap for those, and calls of the emulator
 * and of the host's code, during which no kernel runs, pass straight through.
 */
#include <cstdio>
#include <cstdlib>
#include <link.h>
#include <unistd.h>

#include "check.h"

namespace simt
{
namespace check
{

/* The program or library that this code, and so the kernels', lies in. */
static struct Image {
    uintptr_t base, low, high;
    char path[512];
} image;

static int look(dl_phdr_info *info, size_t, void *)
{
    uintptr_t low = UINTPTR_MAX, high = 0;

    for (int k = 0; k < info->dlpi_phnum; k++) {
        if (info->dlpi_phdr[k].p_type != PT_LOAD) continue;
        const uintptr_t from = info->dlpi_addr + info->dlpi_phdr[k].p_vaddr;
        if (from < low) low = from;
        if (from + info->dlpi_phdr[k].p_memsz > high) high = from + info->dlpi_phdr[k].p_memsz;
    }
    if ((uintptr_t)&image < low || (uintptr_t)&image >= high) return 0;
    image.base = info->dlpi_addr;
    image.low = low;
    image.high = high;
    snprintf(image.path, sizeof image.path, "%s", info->dlpi_name);
    if (!image.path[0]) {
        const ssize_t n = readlink("/proc/self/exe", image.path, sizeof image.path - 1);
        image.path[n > 0 ? n : 0] = 0;
    }
    return 1;
}

static inline const Image &here()
{
    if (!image.high) dl_iterate_phdr(look, nullptr);
    return image;
}

static inline uint32_t offset(const void *pc) { return (uint32_t)((uintptr_t)pc - here().base); }

bool in_program(const void *p) { return (uintptr_t)p >= here().low && (uintptr_t)p < here().high; }

/* addr2line once per report; a return address lies behind the call. */
void source(char *out, size_t n, uint32_t pc)
{
    char command[640];

    snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%x 2> /dev/null", here().path,
             pc - 1);
    FILE *f = strchr(here().path, '\'') ? nullptr : popen(command, "r");
    if (!f || !fgets(out, (int)n, f)) snprintf(out, n, "offset 0x%x", pc);
    if (f) pclose(f);
    out[strcspn(out, " \n")] = 0;
}

void misaligned(const void *p, size_t n, uint32_t pc)
{
    char at[160];

    where.running = false;
    source(at, sizeof at, pc);
    fault(cudaErrorMisalignedAddress, "misaligned access of %zu bytes at %s: %p", n, at, p);
}

} // namespace check

void atomic_begin(const volatile void *p, size_t n)
{
    check::access(const_cast<const void *>(p), n, true, true,
                  check::offset(__builtin_return_address(0)), true);
}

} // namespace simt

using simt::check::access;
using simt::check::offset;

#define SIMT_PC offset(__builtin_return_address(0))
#define SIMT_CALLS(n)                                                                              \
    void __tsan_read##n(void *p) { access(p, n, false, false, SIMT_PC, true); }                    \
    void __tsan_write##n(void *p) { access(p, n, true, false, SIMT_PC, true); }                    \
    void __tsan_unaligned_read##n(void *p) { access(p, n, false, false, SIMT_PC, false); }         \
    void __tsan_unaligned_write##n(void *p) { access(p, n, true, false, SIMT_PC, false); }         \
    void __tsan_volatile_read##n(void *p) { access(p, n, false, false, SIMT_PC, true); }           \
    void __tsan_volatile_write##n(void *p) { access(p, n, true, false, SIMT_PC, true); }           \
    void __tsan_unaligned_volatile_read##n(void *p)                                                \
    {                                                                                              \
        access(p, n, false, false, SIMT_PC, false);                                                \
    }                                                                                              \
    void __tsan_unaligned_volatile_write##n(void *p)                                               \
    {                                                                                              \
        access(p, n, true, false, SIMT_PC, false);                                                 \
    }                                                                                              \
    void __tsan_read_write##n(void *p)                                                             \
    {                                                                                              \
        access(p, n, false, false, SIMT_PC, true);                                                 \
        access(p, n, true, false, SIMT_PC, true);                                                  \
    }                                                                                              \
    void __tsan_unaligned_read_write##n(void *p)                                                   \
    {                                                                                              \
        access(p, n, false, false, SIMT_PC, false);                                                \
        access(p, n, true, false, SIMT_PC, false);                                                 \
    }

extern "C" {

SIMT_CALLS(1)
SIMT_CALLS(2)
SIMT_CALLS(4)
SIMT_CALLS(8)
SIMT_CALLS(16)
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void *, void *) {}
void __tsan_vptr_read(void *) {}
void __tsan_read_range(void *p, size_t n) { access(p, n, false, false, SIMT_PC, false); }
void __tsan_write_range(void *p, size_t n) { access(p, n, true, false, SIMT_PC, false); }

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int value, size_t n);

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
    access(from, n, false, false, SIMT_PC, false);
    access(to, n, true, false, SIMT_PC, false);
    return __real_memcpy(to, from, n);
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
    access(from, n, false, false, SIMT_PC, false);
    access(to, n, true, false, SIMT_PC, false);
    return __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int value, size_t n)
{
    access(to, n, true, false, SIMT_PC, false);
    return __real_memset(to, value, n);
}

void *__tsan_memcpy(void *to, const void *from, size_t n)
{
    access(from, n, false, false, SIMT_PC, false);
    access(to, n, true, false, SIMT_PC, false);
    return __real_memcpy(to, from, n);
}

void *__tsan_memmove(void *to, const void *from, size_t n)
{
    access(from, n, false, false, SIMT_PC, false);
    access(to, n, true, false, SIMT_PC, false);
    return __real_memmove(to, from, n);
}

void *__tsan_memset(void *to, int value, size_t n)
{
    access(to, n, true, false, SIMT_PC, false);
    return __real_memset(to, value, n);
}

/* What the compiler passes to the handlers of undefined behaviour, as far as it is read here. */
typedef struct {
    const char *file;
    uint32_t line, column;
} ubsan_site;
typedef struct {
    ubsan_site site;
    const void *type;
    unsigned char log_alignment, kind;
} ubsan_mismatch;

void __ubsan_handle_type_mismatch_v1(const ubsan_mismatch *m, uintptr_t p)
{
    if (!simt::where.kernel) return;
    simt::where.running = false;
    simt::fault(cudaErrorMisalignedAddress, "misaligned access at %s:%u: %p is no multiple of %u",
                simt::base_name(m->site.file), m->site.line, reinterpret_cast<void *>(p),
                1u << m->log_alignment);
}

void __ubsan_handle_out_of_bounds(const ubsan_site *s, uintptr_t i)
{
    if (!simt::where.kernel) return;
    simt::where.running = false;
    simt::fault(cudaErrorIllegalAddress, "index %lld out of bounds at %s:%u", (long long)i,
                simt::base_name(s->file), s->line);
}

#define SIMT_UNDEFINED(name, text)                                                                 \
    void __ubsan_handle_##name(const ubsan_site *s, uintptr_t, uintptr_t)                          \
    {                                                                                              \
        if (simt::where.kernel) simt::report(text " at %s:%u", simt::base_name(s->file), s->line); \
    }
SIMT_UNDEFINED(add_overflow, "signed sum overflows")
SIMT_UNDEFINED(sub_overflow, "signed difference overflows")
SIMT_UNDEFINED(mul_overflow, "signed product overflows")
SIMT_UNDEFINED(negate_overflow, "negation overflows")
SIMT_UNDEFINED(divrem_overflow, "division by zero or overflow")
SIMT_UNDEFINED(shift_out_of_bounds, "shift by too much, or of a negative value")

} /* extern "C" */
