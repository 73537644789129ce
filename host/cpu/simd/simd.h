/*
 * simd.h - the one layer between the inner kernels and the instruction set.
 *
 * A vector `vf` of VL numbers of type `real`, masks over its lanes, and the transpose of a VL x VL
 * block in registers. Everything else in this folder is written in these names. `real` is float,
 * or double in a file that sets TI_F64 before its includes.
 *
 * v_div_near is a / b within 1.5 units of the last place for b from 2^-100 on; for b over 2^100 it
 * may be a / 2^100.
 *
 * v_beats (f32) is where a number follows one that it is larger than, or a NaN a number; v_pick
 * takes a there, b elsewhere.
 *
 * N_REGS bounds the register tiles: accumulators + vectors of B + one broadcast must fit.
 */
#ifndef TI_SIMD_H
#define TI_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each external name carries its instruction set: TI_SIMD(mk_unit) is mk_unit_avx512. */
#define TI_PASTE_2(a, b) a##_##b
#define TI_PASTE(a, b) TI_PASTE_2(a, b)
#define TI_SIMD(name) TI_PASTE(name, TI_ISA)
#define TI_QUOTE_2(x) #x
#define TI_QUOTE(x) TI_QUOTE_2(x)
#define TI_ISA_NAME TI_QUOTE(TI_ISA)

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

#ifdef TI_F64
typedef double real;
#else
typedef float real;
#endif

INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

#if defined(TI_ISA_avx512)
#include "simd_avx512.h"
#elif defined(TI_ISA_avx2)
#include "simd_avx2.h"
#else
#include "simd_portable.h"
#endif

INLINE vf v_zero(void) { return v_set1(0); }
/* Keeps NaN: the second operand of v_max is the one that survives. */
INLINE vf v_relu(vf x) { return v_max(v_zero(), x); }
INLINE real relu_of(real x) { return x < 0 ? 0 : x; }

#endif
