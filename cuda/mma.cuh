/*
 * mma.cuh - tensor cores, and copies that run on their own: all inline PTX of the project.
 *
 * Each function has a twin in plain CUDA, which host compilers and GPUs before sm_80 take. All
 * lanes of a warp call them together, in blocks whose blockDim.y and z are 1.
 *
 * A tile lies in words of 32 bits: one number of tf32, or two neighbours along k of bf16 or f16,
 * the first in the lower half. With g = lane / 4 and q = lane % 4, a lane holds
 *     of A [16 rows, 8 words along k]      word r: row g + 8 (r % 2), word q + 4 (r / 2)
 *     of B [8 columns, 8 words along k]    word r: column g, word q + 4 r
 *     of D [16 rows, 8 columns] in f32     e:      row g + 8 (e / 2), column 2 q + e % 2
 * Products are exact. The twins add in f32 in the order of k; a tensor core in an order, and with a
 * rounding, of its own.
 */
#ifndef TI_CUDA_MMA_CUH
#define TI_CUDA_MMA_CUH

#include "base/rounding.h"
#include "groups.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define TI_HAS_MMA 1
#else
#define TI_HAS_MMA 0
#endif

/* Rounding and cutting leave a NaN a NaN if it has the highest bit of the fraction. */
static __device__ __forceinline__ float ti_quiet(float x)
{
    return x == x ? x : __uint_as_float(0x7fffffffu);
}

/* A format: numbers in a word and their type; a float rounded to a number; the word of so many
 * floats; sum += the products of two words. */
struct ti_tf32 {
    enum { ROUNDS = 1, PER_WORD = 1 };
    typedef uint32_t number;
    static __device__ __forceinline__ float rounded(float x) { return ti_round_tf32(x); }
    static __device__ __forceinline__ uint32_t word(const float *x)
    {
        return __float_as_uint(ti_round_tf32(ti_quiet(x[0])));
    }
    static __device__ __forceinline__ float plus(float sum, uint32_t x, uint32_t y)
    {
        return fmaf(__uint_as_float(x), __uint_as_float(y), sum);
    }
};
struct ti_bf16 {
    enum { ROUNDS = 1, PER_WORD = 2 };
    typedef uint16_t number;
    static __device__ __forceinline__ float rounded(float x) { return ti_round_bf16(x); }
    static __device__ __forceinline__ uint32_t word(const float *x)
    {
        return __float_as_uint(ti_round_bf16(ti_quiet(x[0]))) >> 16 |
               (__float_as_uint(ti_round_bf16(ti_quiet(x[1]))) & 0xffff0000u);
    }
    static __device__ __forceinline__ float plus(float sum, uint32_t x, uint32_t y)
    {
        sum = fmaf(__uint_as_float(x << 16), __uint_as_float(y << 16), sum);
        return fmaf(__uint_as_float(x & 0xffff0000u), __uint_as_float(y & 0xffff0000u), sum);
    }
};
struct ti_f16 {
    enum { ROUNDS = 1, PER_WORD = 2 };
    typedef uint16_t number;
    static __device__ __forceinline__ float rounded(float x)
    {
        return __half2float(__float2half_rn(x));
    }
    static __device__ __forceinline__ float half(uint32_t word, int n)
    {
        return __half2float(__ushort_as_half((unsigned short)(word >> (16 * n))));
    }
    static __device__ __forceinline__ uint32_t word(const float *x)
    {
        return __half_as_ushort(__float2half_rn(x[0])) |
               (uint32_t)__half_as_ushort(__float2half_rn(x[1])) << 16;
    }
    static __device__ __forceinline__ float plus(float sum, uint32_t x, uint32_t y)
    {
        sum = fmaf(half(x, 0), half(y, 0), sum);
        return fmaf(half(x, 1), half(y, 1), sum);
    }
};

/* ---- d += a b ---- */

template <class F>
static __device__ __forceinline__ void ti_multiply_twin(float (&d)[4], const uint32_t (&a)[4],
                                                        const uint32_t (&b)[2])
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1)), row = lane & ~3, column = lane % 4 * 8;

    TI_UNROLL
    for (int w = 0; w < 8; w++) {
        const uint32_t x0 = __shfl_sync(TI_ALL_LANES, a[w / 4 * 2], row + w % 4);
        const uint32_t x1 = __shfl_sync(TI_ALL_LANES, a[w / 4 * 2 + 1], row + w % 4);
        const uint32_t y0 = __shfl_sync(TI_ALL_LANES, b[w / 4], column + w % 4);
        const uint32_t y1 = __shfl_sync(TI_ALL_LANES, b[w / 4], column + 4 + w % 4);

        d[0] = F::plus(d[0], x0, y0);
        d[1] = F::plus(d[1], x0, y1);
        d[2] = F::plus(d[2], x1, y0);
        d[3] = F::plus(d[3], x1, y1);
    }
}

#if TI_HAS_MMA
#define TI_MMA(F, shape, type)                                                                     \
    static __device__ __forceinline__ void ti_multiply_ptx(F, float(&d)[4], const uint32_t(&a)[4], \
                                                           const uint32_t(&b)[2])                  \
    {                                                                                              \
        asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 "               \
                     "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"             \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));          \
    }
TI_MMA(ti_tf32, "m16n8k8", "tf32")
TI_MMA(ti_bf16, "m16n8k16", "bf16")
TI_MMA(ti_f16, "m16n8k16", "f16")
#undef TI_MMA
#endif

template <class F>
static __device__ __forceinline__ void ti_multiply(float (&d)[4], const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2])
{
#if TI_HAS_MMA
    ti_multiply_ptx(F(), d, a, b);
#else
    ti_multiply_twin<F>(d, a, b);
#endif
}

/* ---- Four tiles of 8 rows of 4 words from shared memory ----
 *
 * Lane 8 m + i says where row i of tile m lies, a multiple of 16 bytes. Word m of the result is
 * word q of row g of tile m; turned: of the tile of 8 x 8 halves, rows and columns exchanged. */

template <bool turned>
static __device__ __forceinline__ void ti_load_words_twin(uint32_t (&r)[4], const void *row)
{
    const int lane = (int)(threadIdx.x & (TI_WARP - 1)), g = lane / 4, q = lane % 4;

    TI_UNROLL
    for (int m = 0; m < 4; m++) {
        const unsigned long long at = (unsigned long long)(uintptr_t)row;
        const int first = 8 * m + (turned ? 2 * q : g);
        const unsigned long long p = __shfl_sync(TI_ALL_LANES, at, first);
        const unsigned long long next = __shfl_sync(TI_ALL_LANES, at, turned ? first + 1 : first);

        if (turned)
            r[m] = ((const uint16_t *)(uintptr_t)p)[g] |
                   (uint32_t)((const uint16_t *)(uintptr_t)next)[g] << 16;
        else r[m] = ((const uint32_t *)(uintptr_t)p)[q];
    }
}

template <bool turned>
static __device__ __forceinline__ void ti_load_words(uint32_t (&r)[4], const void *row)
{
#if TI_HAS_MMA
    const unsigned at = (unsigned)__cvta_generic_to_shared(row);

    if (turned)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(at)
                     : "memory");
#else
    ti_load_words_twin<turned>(r, row);
#endif
}

/* ---- Copies of 16 bytes from global to shared memory ----
 *
 * The first `bytes` of them, then zeros; both addresses are multiples of 16. They have arrived for
 * this thread when ti_wait_copies<n>() returns, all but the n latest groups; others need a barrier
 * behind it. The twin copies at once. */

static __device__ __forceinline__ void ti_copy_16(void *to, const void *from, int bytes)
{
#if TI_HAS_MMA
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (unsigned)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
#else
    for (int i = 0; i < 16; i += 4) {
        uint32_t word = 0;

        for (int n = 0; n < 4 && i + n < bytes; n++)
            word |= (uint32_t)((const unsigned char *)from)[i + n] << (8 * n);
        ((uint32_t *)to)[i / 4] = word;
    }
#endif
}
static __device__ __forceinline__ void ti_end_group(void)
{
#if TI_HAS_MMA
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int n> static __device__ __forceinline__ void ti_wait_copies(void)
{
#if TI_HAS_MMA
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

#endif
