/*
 * control.h - what a test may ask of the emulated CUDA device, in plain C.
 *
 * The functions are exported by every plug-in that tern_simt_plugin() makes, so that a program
 * which opens the plug-in finds them by name. All may be called at any time between two calls of
 * the CUDA runtime; none is safe beside another thread that uses the device.
 */
#ifndef SIMT_CONTROL_H
#define SIMT_CONTROL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIMT_API __attribute__((visibility("default")))

/* Reports since the last simt_errors_clear(), and the text of the latest ("" if none). */
SIMT_API int simt_errors(void);
SIMT_API const char *simt_last_error(void);
SIMT_API void simt_errors_clear(void);
/* Where reports go; NULL: standard error, the first twenty of them. */
SIMT_API void simt_on_report(void (*report)(const char *text, void *data), void *data);
/* 1: a report of the checker does not fail the launch (all of a kernel's are wanted). */
SIMT_API void simt_keep_going(int on);
/* 1 if the kernels of this plug-in were compiled for the checker. */
SIMT_API int simt_checked(void);

/* 0 (the start): threads in ascending order, streams in the order of seed 1. Other values shuffle
 * the threads of each block, the blocks' start, and the streams. */
SIMT_API void simt_seed(unsigned seed);

/* The nth creation of something from now on (device or pinned memory, stream, event, graph) runs
 * out of memory, once; 0: none. simt_creations() counts those asked for so far. */
SIMT_API void simt_fail_creation(long nth);
SIMT_API long simt_creations(void);
/* The nth kernel that starts from now on dies of a device fault; 0: none. */
SIMT_API void simt_fail_kernel(long nth);
/* 1: kernels launched from now on are looked at and queued as ever, but do nothing; 0: they run.
 * For loops over what the host does, in which results do not matter. */
SIMT_API void simt_skip_kernels(int on);
/* Device memory in bytes; 0: the 8 GiB of the start. */
SIMT_API void simt_limit_memory(size_t bytes);
/* Every call returns this cudaError_t, as without a driver (35); 0: the device is there. */
SIMT_API void simt_no_driver(int error);

/* What has been created and not yet destroyed. */
SIMT_API size_t simt_live_bytes(void);
SIMT_API int simt_live_objects(void);

/* 1: host code that follows a device pointer dies of SIGSEGV. Costs time by memory in use. */
SIMT_API void simt_protect(int on);

/* A pool tells of its sub-allocations: live 1 when it hands [p, p + bytes) out, 0 when it takes
 * them back. It acts in the order of the stream (a cudaStream_t), and fills them with 0xFF. Once a
 * piece of an allocation was marked, only marked pieces of it may be touched. */
SIMT_API void simt_mark(void *p, size_t bytes, int live, void *stream);

/* Work done so far; accesses: those that the checker looked at. */
typedef struct {
    unsigned long long launches, threads, switches, accesses;
} simt_stats;
SIMT_API simt_stats simt_work_done(void);

#ifdef __cplusplus
}
#endif

#endif /* SIMT_CONTROL_H */
