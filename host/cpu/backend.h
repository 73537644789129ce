/*
 * backend.h - what CPU rows may ask of their device.
 */
#ifndef TI_CPU_BACKEND_H
#define TI_CPU_BACKEND_H

#include "base/threads.h"
#include "core/row.h"
#include "cpu/bf16/gemm.h"
#include "cpu/simd/kernels.h"
#include "cpu/simd/vector.h"

ti_threads *ti_cpu_threads(const ti_device *d);
const ti_simd *ti_cpu_simd(const ti_device *d);
const ti_bf16 *ti_cpu_bf16(const ti_device *d); /* NULL: there is none */
const ti_vector *ti_cpu_vector(const ti_device *d);

#endif
