/*
 * shim.h - what the stand-ins for cuBLASLt and cuDNN share (shim_control.h says what they are).
 */
#ifndef SIMT_SHIM_H
#define SIMT_SHIM_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>

#include "shim_control.h"

/* What the plug-in calls: `launch` is the emulator's cudaLaunchHostFunc. */
SHIM_API int simt_vendor(cudaError_t (*launch)(cudaStream_t, cudaHostFn_t, void *));

extern int shim_how, shim_version_more;
/* How many plans there are now. */
int shim_plans(void);
/* Zeroed memory that stays to the end: a captured call runs as often as its graph. */
void *shim_new(size_t bytes);
/* Runs f(data) in the stream's order. */
bool shim_launch(cudaStream_t stream, cudaHostFn_t f, void *data);
double shim_relu(double x);
/* n elements (f64 or f32) as computed into the output, or as this plan of the library misbehaves.
 * The first piece of a call takes the plan's time. */
void shim_store(int plan, bool first, bool wide, void *to, const double *y, size_t n);

#endif
