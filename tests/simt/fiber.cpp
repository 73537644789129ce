/*
 * fiber.cpp - stacks that the emulator switches between.
 *
 * A switch is fifteen instructions on x86-64; elsewhere, and with SIMT_UCONTEXT, the C library's
 * swapcontext does it (6 to 9 times slower where barriers dominate). Each stack has a guard page.
 * AddressSanitizer is told of every switch.
 */
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#include "internal.h"

#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT 1
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif
#if SIMT_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt
{

constexpr size_t stack_bytes = 256 << 10, guard_bytes = 64 << 10;

struct Fiber {
    void *sp = nullptr;
    char *low = nullptr;
    void *fake = nullptr; /* AddressSanitizer's stack of its own */
#ifdef SIMT_UCONTEXT
    ucontext_t context;
#endif
};

static Fiber outside, *current = &outside;
/* Never destroyed: leak checkers look after static destructors have run. */
static std::vector<Fiber *> &idle = *new std::vector<Fiber *>;
static std::vector<Fiber *> &all = *new std::vector<Fiber *>;

#if SIMT_ASAN
static Fiber *came_from;
static const void *outside_low;
static size_t outside_bytes;

static void arrived(void *fake)
{
    const void *low;
    size_t bytes;

    __sanitizer_finish_switch_fiber(fake, &low, &bytes);
    if (came_from == &outside) {
        outside_low = low;
        outside_bytes = bytes;
    }
}
#endif

#ifndef SIMT_UCONTEXT
/* Saves what a function must preserve, changes stacks, restores. The control words of the
 * floating-point unit are the same on all stacks. */
extern "C" void simt_switch_stack(void **save, void *load);
__asm__(".text\n"
        ".p2align 4\n"
        ".local simt_switch_stack\n"
        ".type simt_switch_stack,@function\n"
        "simt_switch_stack:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp,(%rdi)\n"
        "  movq %rsi,%rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size simt_switch_stack,.-simt_switch_stack\n");
#endif

void fiber_switch(Fiber *to)
{
    Fiber *from = current;

    if (!to) to = &outside;
    current = to;
#if SIMT_ASAN
    came_from = from;
    __sanitizer_start_switch_fiber(&from->fake, to->low ? to->low : outside_low,
                                   to->low ? stack_bytes : outside_bytes);
#endif
#ifdef SIMT_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    simt_switch_stack(&from->sp, to->sp);
#endif
#if SIMT_ASAN
    arrived(from->fake);
#endif
}

static void fiber_entry()
{
#if SIMT_ASAN
    arrived(nullptr);
#endif
    fiber_main();
    abort(); /* it never returns */
}

/* Makes it start at fiber_entry. */
static void rewind(Fiber *f)
{
#ifdef SIMT_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->low;
    f->context.uc_stack.ss_size = stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_entry, 0);
#else
    /* After six pops and the return, the stack pointer is 8 off a multiple of 16, as at any entry. */
    void **top = reinterpret_cast<void **>(f->low + stack_bytes) - 3;
    *--top = reinterpret_cast<void *>(fiber_entry);
    f->sp = top - 6;
#endif
    f->fake = nullptr;
    SIMT_UNPOISON(f->low, stack_bytes);
}

Fiber *fiber_now() { return current; }

Fiber *fiber_fresh()
{
    if (!idle.empty()) {
        Fiber *f = idle.back();
        idle.pop_back();
        return f;
    }
    void *m = mmap(nullptr, stack_bytes + guard_bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED || mprotect(m, guard_bytes, PROT_NONE)) {
        perror("simt: no memory for a stack");
        abort();
    }
    Fiber *f = new Fiber;
    f->low = static_cast<char *>(m) + guard_bytes;
    all.push_back(f);
    rewind(f);
    return f;
}

void fiber_retire(Fiber *f) { idle.push_back(f); }

void fiber_abandon_all()
{
    idle = all;
    for (Fiber *f : all) rewind(f);
}

bool on_fiber_stack(const void *p)
{
    const char *c = static_cast<const char *>(p);

    return current->low && c >= current->low && c < current->low + stack_bytes;
}

} // namespace simt
