/*
 * place.cpp - where an instruction stands, for reports: the checker's positions are numbers given
 * to instructions here, in place of the addresses that callbacks.cpp knows of compiled kernels.
 */
#include "ptx.h"

namespace simt
{
namespace ptx
{

static std::map<uint32_t, const Kernel *> &numbered = *new std::map<uint32_t, const Kernel *>;
static uint32_t next_id = 1;

void number_instructions(Kernel &k)
{
    k.first_id = next_id;
    next_id += (uint32_t)k.code.size();
    numbered[k.first_id] = &k;
}

uint32_t id_of(const Ins &i)
{
    return now.kernel->first_id + (uint32_t)(&i - now.kernel->code.data());
}

} // namespace ptx

namespace check
{

/* "file.cu:12 (ld.global.f32, line 345 of the PTX)" */
void source(char *out, size_t n, uint32_t id)
{
    auto it = ptx::numbered.upper_bound(id);

    if (it == ptx::numbered.begin()) {
        snprintf(out, n, "an unknown place");
        return;
    }
    const ptx::Kernel &k = *(--it)->second;
    const ptx::Ins &i = k.code[id - k.first_id];
    auto file = k.home->files.find(i.file);
    if (file == k.home->files.end())
        snprintf(out, n, "line %d of the PTX (%s)", i.line, i.name->c_str());
    else
        snprintf(out, n, "%s:%d (%s, line %d of the PTX)", file->second.c_str(), i.source_line,
                 i.name->c_str(), i.line);
}

bool in_program(const void *) { return false; }

void misaligned(const void *p, size_t n, uint32_t id)
{
    char at[160];

    where.running = false;
    source(at, sizeof at, id);
    fault(cudaErrorMisalignedAddress, "misaligned access of %zu bytes at %s: %p", n, at, p);
}

} // namespace check

void atomic_begin(const volatile void *, size_t) {}

} // namespace simt
