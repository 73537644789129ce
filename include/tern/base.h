/*
 * tern/base.h - contexts, errors, frames, settings.
 *
 * Rules that hold for every function of the library, so no other comment repeats them:
 *
 *  - Failure.  The context keeps the first error, code and text. Functions that make things
 *              return NULL after a failure and accept NULL, so an expression is written straight
 *              and checked once; everything else returns a must-check status.
 *  - Owners.   The context is the outermost frame: all that was made from it dies with
 *              tern_close. Accessors return what they borrow from the object.
 *  - Options.  Zero-initialised structs passed by pointer; zero means the default, NULL means all
 *              defaults; they are copied.
 *  - Threads.  One thread at a time in a context; contexts are independent of each other.
 *  - Guest.    No abort, no output, no signal handlers, no setlocale.
 */
#ifndef TERN_BASE_H
#define TERN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define TERN_BEGIN_DECLS extern "C" {
#define TERN_END_DECLS }
#else
#define TERN_BEGIN_DECLS
#define TERN_END_DECLS
#endif
#if defined(__GNUC__)
#define TERN_API __attribute__((visibility("default")))
#define TERN_CHECKED __attribute__((warn_unused_result))
#else
#define TERN_API
#define TERN_CHECKED
#endif

TERN_BEGIN_DECLS

/* What went wrong. The text (tern_error_text) says where and with which numbers. */
typedef enum {
    TERN_OK,
    TERN_E_ARGUMENT,    /* an argument is missing or out of its range             */
    TERN_E_SHAPE,       /* extents do not fit each other                          */
    TERN_E_TYPE,        /* element types do not fit each other or the operation   */
    TERN_E_MEMORY,      /* host or device memory, or the cap on it, is exhausted  */
    TERN_E_STATE,       /* the call is not legal now                              */
    TERN_E_TRACE,       /* not possible while a step is traced                    */
    TERN_E_VALUE,       /* non-finite values, or indices out of range             */
    TERN_E_IO,          /* the operating system refused: open, read, write, sync  */
    TERN_E_FORMAT,      /* a file does not hold what its format demands           */
    TERN_E_DEVICE,      /* no such device, or it failed                           */
    TERN_E_UNSUPPORTED, /* not in this build, or no kernel takes the call         */
    TERN_E_STOPPED      /* tern_request_stop was called                           */
} tern_status;

typedef struct tern_ctx tern_ctx;
typedef struct tern_tensor tern_tensor;
typedef struct tern_var tern_var;
typedef struct tern_module tern_module;
typedef struct tern_optim tern_optim;
typedef struct tern_program tern_program;
typedef struct tern_data tern_data;
typedef struct tern_loader tern_loader;

/* "0.1.0" */
TERN_API const char *tern_version(void);

/*
 * Opens a context on a device: "cpu", "ref" (the reference kernels only), "null" (plans, computes
 * nothing), "auto" (the best usable one). NULL means TERN_DEVICE, else "auto". *ctx is set even on
 * failure, so that the reason can be read, unless there is no memory for it (TERN_E_MEMORY, NULL).
 */
TERN_API TERN_CHECKED tern_status tern_open(tern_ctx **ctx, const char *device);

/* Frees all that was made from the context. TERN_E_STATE if tensors were still held. NULL is legal.
 */
TERN_API TERN_CHECKED tern_status tern_close(tern_ctx *ctx);

/* The first failure since the last clear. TERN_E_ARGUMENT and a text for a NULL context. */
TERN_API tern_status tern_error(const tern_ctx *ctx);
TERN_API const char *tern_error_text(const tern_ctx *ctx);
TERN_API void tern_error_clear(tern_ctx *ctx);
/* Name of a status, "TERN_E_SHAPE". */
TERN_API const char *tern_status_name(tern_status status);
/* Records a failure of the caller's own (a user's module, a step function), printf-like, unless
 * there is one already. Returns the context's status. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
TERN_API tern_status
tern_fail(tern_ctx *ctx, tern_status status, const char *text, ...);

/* Host memory of the context, zeroed; NULL and TERN_E_MEMORY when there is none. What is not freed
 * by then, tern_close reports as held. For extensions such as modules. */
TERN_API void *tern_alloc(tern_ctx *ctx, size_t bytes);
TERN_API void tern_free(tern_ctx *ctx, void *p);
/* Calls fn(ctx, user) when the context closes, the last registered first. */
TERN_API TERN_CHECKED tern_status tern_on_close(tern_ctx *ctx, void (*fn)(tern_ctx *, void *),
                                                void *user);

/*
 * Results belong to the innermost open frame and die when it ends, unless somebody holds them.
 * tern_frame_keep ends the frame but hands t (NULL is legal) to the next one out; it returns t.
 */
TERN_API void tern_frame_begin(tern_ctx *ctx);
TERN_API void tern_frame_end(tern_ctx *ctx);
TERN_API tern_tensor *tern_frame_keep(tern_ctx *ctx, tern_tensor *t);
/* One more owner, one owner less. NULL is legal. */
TERN_API tern_tensor *tern_hold(tern_tensor *t);
TERN_API void tern_drop(tern_tensor *t);

/* A context opens in TERN_EVAL. Modules (batch norm, dropout) look at the mode. */
typedef enum { TERN_EVAL, TERN_TRAIN } tern_mode_t;
TERN_API void tern_mode(tern_ctx *ctx, tern_mode_t mode);
TERN_API tern_mode_t tern_mode_of(const tern_ctx *ctx);

/* The seed of all that is random: initial values, dropout, shuffles. Default TERN_SEED, else 42. */
TERN_API TERN_CHECKED tern_status tern_seed_set(tern_ctx *ctx, uint64_t seed);
TERN_API uint64_t tern_seed(const tern_ctx *ctx);

/*
 * How products (matmul, linear layers, convolutions and their adjoints) take their f32 operands: as
 * they are, or rounded to nearest even to tf32 (10 bits of fraction), bf16 (7) or f16 (10, and its
 * range). They are added up in f32, results and all else stay f32. It means the same on every
 * device; a new context is strict (TERN_MATH_F32). With f16, tern_backward scales the loss
 * (tern/program.h). Recurrent layers compute in f32 in every mode.
 */
typedef enum { TERN_MATH_F32, TERN_MATH_TF32, TERN_MATH_BF16, TERN_MATH_F16 } tern_math_t;
TERN_API TERN_CHECKED tern_status tern_math_set(tern_ctx *ctx, tern_math_t math);
TERN_API tern_math_t tern_math(const tern_ctx *ctx);
/* "f32", "tf32", "bf16", "f16", or NULL; the mode of that name, or -1. */
TERN_API const char *tern_math_name(int math);
TERN_API int tern_math_named(const char *name);
/* Whether convolutions may take Winograd's algorithms (default), whose bound is wider. */
TERN_API TERN_CHECKED tern_status tern_winograd_set(tern_ctx *ctx, bool on);
TERN_API bool tern_winograd(const tern_ctx *ctx);
/*
 * Equal calls give equal bits, run after run (default), or kernels are admitted too whose results
 * differ between equal runs. Only vendor libraries have such kernels: tern_deterministic stays true
 * on a device without them. Each plan that makes use of it is told to the log.
 */
TERN_API TERN_CHECKED tern_status tern_deterministic_set(tern_ctx *ctx, bool on);
TERN_API bool tern_deterministic(const tern_ctx *ctx);

/* Threads that compute, 1 to 256. Default TERN_THREADS, else the cores this process may use. No
 * result depends on the number. */
TERN_API TERN_CHECKED tern_status tern_threads_set(tern_ctx *ctx, int n);
TERN_API int tern_threads(const tern_ctx *ctx);

/* "cpu", and why it was taken, for messages. The instruction set its kernels use ("avx512"). */
TERN_API const char *tern_device(const tern_ctx *ctx);
TERN_API const char *tern_device_why(const tern_ctx *ctx);
TERN_API const char *tern_isa(const tern_ctx *ctx);

/* What computes on NVIDIA GPUs, from i = 0: the CUDA backend ("cuda"), and the libraries that it
 * opens when a device is used ("cublaslt", "cudnn"). text: version and place, or why it is not
 * there. False: there are no more. */
typedef struct tern_part {
    char name[16], version[16];
    bool found;
    char text[300];
} tern_part;
TERN_API bool tern_part_at(tern_ctx *ctx, int i, tern_part *part);

/* Eager steps instead of replayed ones (also TERN_DISABLE=program). */
TERN_API void tern_eager_set(tern_ctx *ctx, bool on);
TERN_API bool tern_eager(const tern_ctx *ctx);
/* Whether replayed steps are captured and run as graphs of the device (off: TERN_DISABLE=graph, and
 * devices that have none). */
TERN_API void tern_graphs_set(tern_ctx *ctx, bool on);
TERN_API bool tern_graphs(const tern_ctx *ctx);

/* Memory of the context's device, in bytes. `live` is in use, `reserved` what the pool took from
 * the device, `largest_free` the largest block it could give without asking for more. Steps whose
 * sizes come by turns ask the device for nothing once each was there twice, and `reserved` keeps
 * within 1.10 of `peak`; eager steps of a few large blocks take longer, and up to 2. */
typedef struct tern_memory {
    size_t live, peak, reserved, peak_reserved, largest_free;
    size_t cap;                             /* 0: none */
    int64_t n_alloc, n_hit, n_device_alloc; /* calls, those served from the cache, those not */
    double fragmentation; /* 1 - largest_free / (reserved - live); 0 if none is free */
} tern_memory;
TERN_API void tern_memory_stats(tern_ctx *ctx, tern_memory *stats);
TERN_API void tern_memory_peak_reset(tern_ctx *ctx);
/* Bytes that the device says it could still give, beside what is reserved; 0 where it cannot say (a
 * CPU). Asks the device: not for every step. */
TERN_API size_t tern_memory_room(tern_ctx *ctx);
/* Who holds the memory in use: names of layers, "arena" of programs, "scratch" of calls; most bytes
 * first. How many were written, `most` at the most; if there are more holders, "others" is one of
 * them and holds the rest. The names live as long as the context. */
typedef struct tern_holder {
    const char *name;
    size_t bytes;
    int64_t n_block;
} tern_holder;
TERN_API int tern_memory_holders(tern_ctx *ctx, tern_holder *holder, int most);
/* Allocations that would take more than `bytes` fail. 0: no cap. Default TERN_POOL_BYTES. */
TERN_API void tern_memory_cap(tern_ctx *ctx, size_t bytes);

/* Asks a running fit (or the next one) to stop after its step; safe in a signal handler and from
 * any thread. The fit that stops for it clears it. */
TERN_API void tern_request_stop(tern_ctx *ctx);
TERN_API bool tern_stop_requested(const tern_ctx *ctx);
TERN_API void tern_stop_clear(tern_ctx *ctx);

/* A line of the library's log (without newline). Default: stderr, if TERN_LOG asks for the topic
 * (error, info, dispatch, memory, program). */
typedef void (*tern_log_fn)(void *user, const char *topic, const char *text);
TERN_API void tern_log_to(tern_ctx *ctx, tern_log_fn fn, void *user);

TERN_END_DECLS

#endif
