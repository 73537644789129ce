/*
 * simt.h - the device side of CUDA for a host compiler (C++17): what launch.cuh includes when
 * nvcc is not the compiler.
 *
 * The toolkit's own headers do most of the work: vector types, dim3, __half and __nv_bfloat16
 * compile under g++ and clang++, and __global__ and its sisters are empty there. What is added
 * here: the coordinates, shared memory, barriers, warp collectives, atomics, and the intrinsics
 * our kernels use. Whatever is missing does not compile, so nothing is silently wrong.
 */
#ifndef SIMT_H
#define SIMT_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>
#include <tuple>
#include <type_traits>
#include <vector_functions.h>
#include <vector_types.h>

/* Bounds cannot be seen from outside a function here: TI_BOUND in its body checks them. */
#undef __launch_bounds__
#define __launch_bounds__(...)

/* Constant while one CUDA thread runs, so compilers need not watch its reads; the scheduler
 * writes them under other names when it changes threads. */
extern "C" const uint3 threadIdx, blockIdx;
extern "C" const uint3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace simt
{

struct Site { /* where a barrier or collective stands */
    const char *file;
    int line;
};
/* As last parameters these give the caller's position. They must be direct defaults: inside a
 * braced initialiser g++ gives the position in this header. */
#define SIMT_HERE const char *site_file = __builtin_FILE(), int site_line = __builtin_LINE()
#define SIMT_SITE                                                                                  \
    simt::Site { site_file, site_line }

enum class Op : uint8_t { none, barrier, syncwarp, shfl, ballot, all, any, match };
enum class Shfl : uint8_t { idx, up, down, exor };

int barrier(int predicate, Site s); /* how many threads' predicates held */
void syncwarp(unsigned mask, Site s);
unsigned vote(Op op, unsigned mask, uint64_t value, Site s);
uint64_t shfl(Shfl kind, unsigned mask, uint64_t value, int lane, int width, Site s);
void fence(bool device);
void atomic_begin(const volatile void *p, size_t bytes);
void bound(unsigned most_threads, Site s);
void trap(const char *text, Site s);
void *shared_static(const void *key, size_t bytes, size_t align, const char *name);
void *shared_dynamic(size_t align);

/* Checks the geometry, then queues the grid on the stream; errors as from <<<>>>. */
struct Launch {
    const char *name;
    const void *function;
    dim3 grid, block;
    size_t dynamic;
    cudaStream_t stream;
};
void launch(const Launch &l, void (*thread)(void *), const void *call, size_t bytes);

/* Arguments become the kernel's parameters here and now, as on a GPU; the call is copied. */
template <class... P, class... A>
inline void start(const char *name, dim3 grid, dim3 block, size_t dynamic, cudaStream_t stream,
                  void (*kernel)(P...), A... args)
{
    static_assert((std::is_trivially_copyable<P>::value && ...), "parameters are plain data");
    struct Call {
        void (*kernel)(P...);
        std::tuple<P...> args;
    } call = {kernel, std::tuple<P...>(static_cast<P>(args)...)};

    launch(
        {name, reinterpret_cast<const void *>(kernel), grid, block, dynamic, stream},
        [](void *c) { std::apply(static_cast<Call *>(c)->kernel, static_cast<Call *>(c)->args); },
        &call, sizeof call);
}

template <class T> inline uint64_t to_bits(T v)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "shuffled type");
    uint64_t bits = 0;

    __builtin_memcpy(&bits, &v, sizeof v);
    return bits;
}
template <class T> inline T from_bits(uint64_t bits)
{
    T v;

    __builtin_memcpy(&v, &bits, sizeof v);
    return v;
}

} // namespace simt

template <class T>
inline cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

/* Barriers and fences. */
static inline void __syncthreads(SIMT_HERE) { simt::barrier(0, SIMT_SITE); }
static inline int __syncthreads_count(int p, SIMT_HERE) { return simt::barrier(p != 0, SIMT_SITE); }
static inline int __syncthreads_or(int p, SIMT_HERE)
{
    return simt::barrier(p != 0, SIMT_SITE) != 0;
}
static inline int __syncthreads_and(int p, SIMT_HERE)
{
    return simt::barrier(p == 0, SIMT_SITE) == 0;
}
static inline void __syncwarp(unsigned mask = ~0u, SIMT_HERE) { simt::syncwarp(mask, SIMT_SITE); }
static inline void __threadfence() { simt::fence(true); }
static inline void __threadfence_block() { simt::fence(false); }
static inline void __trap(SIMT_HERE) { simt::trap("__trap", SIMT_SITE); }

/* Warp collectives. */
static inline unsigned __ballot_sync(unsigned mask, int p, SIMT_HERE)
{
    return simt::vote(simt::Op::ballot, mask, p != 0, SIMT_SITE);
}
static inline int __all_sync(unsigned mask, int p, SIMT_HERE)
{
    return (int)simt::vote(simt::Op::all, mask, p != 0, SIMT_SITE);
}
static inline int __any_sync(unsigned mask, int p, SIMT_HERE)
{
    return (int)simt::vote(simt::Op::any, mask, p != 0, SIMT_SITE);
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T v, SIMT_HERE)
{
    return simt::vote(simt::Op::match, mask, simt::to_bits(v), SIMT_SITE);
}
#define SIMT_SHUFFLE(name, kind, type)                                                             \
    template <class T> inline T name(unsigned mask, T v, type at, int width = 32, SIMT_HERE)       \
    {                                                                                              \
        return simt::from_bits<T>(                                                                 \
            simt::shfl(simt::Shfl::kind, mask, simt::to_bits(v), (int)at, width, SIMT_SITE));      \
    }
SIMT_SHUFFLE(__shfl_sync, idx, int)
SIMT_SHUFFLE(__shfl_up_sync, up, unsigned)
SIMT_SHUFFLE(__shfl_down_sync, down, unsigned)
SIMT_SHUFFLE(__shfl_xor_sync, exor, int)
#undef SIMT_SHUFFLE

/* Atomics. One CUDA thread runs at a time, so a plain read and write is atomic; it stands in
 * functions the compiler does not instrument, and the checker hears of one atomic access. */
#define SIMT_UNSEEN __attribute__((noinline, no_sanitize("thread")))
template <class T, class F> SIMT_UNSEEN T simt_exchange(T *p, F f)
{
    simt::atomic_begin(p, sizeof(T));
    T old = *p;
    *p = f(old);
    return old;
}
#define SIMT_ATOMIC(name, result)                                                                  \
    template <class T> inline T name(T *p, typename std::common_type<T>::type v)                   \
    {                                                                                              \
        return simt_exchange(p, [=](T old) SIMT_UNSEEN -> T {                                      \
            (void)old;                                                                             \
            return result;                                                                         \
        });                                                                                        \
    }
SIMT_ATOMIC(atomicAdd, (T)(old + v))
SIMT_ATOMIC(atomicSub, (T)(old - v))
SIMT_ATOMIC(atomicMax, old > v ? old : v)
SIMT_ATOMIC(atomicMin, old < v ? old : v)
SIMT_ATOMIC(atomicExch, v)
SIMT_ATOMIC(atomicAnd, (T)(old &v))
SIMT_ATOMIC(atomicOr, (T)(old | v))
SIMT_ATOMIC(atomicXor, (T)(old ^ v))
SIMT_ATOMIC(atomicInc, (T)(old >= v ? 0 : old + 1))
SIMT_ATOMIC(atomicDec, (T)(old == 0 || old > v ? v : old - 1))
#undef SIMT_ATOMIC
template <class T>
inline T atomicCAS(T *p, typename std::common_type<T>::type expected,
                   typename std::common_type<T>::type v)
{
    return simt_exchange(p, [=](T old) SIMT_UNSEEN -> T { return old == expected ? v : old; });
}

/* Scalar intrinsics. glibc owns some of the names: those are macros. The approximate ones are
 * exact here; a bound that holds only for the exact ones is wrong on a GPU. */
template <class T> static inline T __ldg(const T *p) { return *p; }
static inline float __int_as_float(int v) { return simt::from_bits<float>((uint32_t)v); }
static inline float __uint_as_float(unsigned v) { return simt::from_bits<float>(v); }
static inline int __float_as_int(float v) { return (int)simt::to_bits(v); }
static inline unsigned __float_as_uint(float v) { return (unsigned)simt::to_bits(v); }
static inline long long __double_as_longlong(double v) { return (long long)simt::to_bits(v); }
static inline double __longlong_as_double(long long v)
{
    return simt::from_bits<double>((uint64_t)v);
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)(((uint64_t)a * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline float simt_rsqrt(float v) { return (float)(1.0 / sqrt((double)v)); }
#define rsqrtf(v) simt_rsqrt(v)
#define rsqrt(v) (1.0 / sqrt((double)(v)))
#define __expf(v) expf(v)
#define __exp10f(v) powf(10.0f, v)
#define __logf(v) logf(v)
#define __log2f(v) log2f(v)
#define __sinf(v) sinf(v)
#define __cosf(v) cosf(v)
#define __tanf(v) tanf(v)
#define __powf(a, b) powf(a, b)
#define sincospif(v, s, c) simt_sincospi(v, s, c)
#define normcdff(v) (0.5f * erfcf(-(v)*0.70710678118654752f))
static inline void simt_sincospi(float v, float *s, float *c)
{
    *s = (float)sin((double)v * 3.14159265358979323846);
    *c = (float)cos((double)v * 3.14159265358979323846);
}
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
static inline float __int2float_rn(int v) { return (float)v; }
static inline float __uint2float_rn(unsigned v) { return (float)v; }
#define SIMT_MINMAX(T)                                                                             \
    static inline T min(T a, T b) { return b < a ? b : a; }                                        \
    static inline T max(T a, T b) { return a < b ? b : a; }
SIMT_MINMAX(int)
SIMT_MINMAX(unsigned)
SIMT_MINMAX(long)
SIMT_MINMAX(unsigned long)
SIMT_MINMAX(long long)
SIMT_MINMAX(unsigned long long)
#undef SIMT_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

#endif /* SIMT_H */
