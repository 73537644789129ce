/*
 * vendor.h - cuBLASLt and cuDNN: opened when a row first asks, by soname, never linked; and how
 * far they are trusted. Plain C; kernel files do not see it.
 *
 * A library is looked for on the loader's path, in the CUDA toolkit ($CUDA_HOME, $CUDA_PATH, the
 * usual folders), then in the folders of Python's NVIDIA packages. One that is not there, too old
 * or listed in TERN_DISABLE makes its rows refuse with the reason, and our own rows take the calls.
 */
#ifndef TI_CUDA_VENDOR_H
#define TI_CUDA_VENDOR_H

#include "backend.h"

#ifdef TI_WITH_CUBLASLT
#include <cublasLt.h>
#endif
#ifdef TI_WITH_CUDNN
#include <cudnn.h>
#endif

/*
 * How products of f32 are computed. TI_MATH_TF32 is for operands that tf32 holds exactly: they were
 * rounded to tf32, bf16 or f16, so that a tensor core has nothing left to round and a math mode
 * means the same as anywhere else. Its sums need not be rounded to nearest.
 */
typedef enum { TI_MATH_F32, TI_MATH_TF32 } ti_math;

/* Most bytes of scratch that a library may ask for. */
#define TI_VENDOR_WORKSPACE ((size_t)512 << 20)

/* Alignment that the plans assume. Where an operand of a call lies otherwise, our own row runs. */
enum { TI_VENDOR_ALIGN = 16, TI_VENDOR_TEXT = 300 };

#ifdef TI_WITH_CUBLASLT
typedef struct {
    __typeof__(&cublasLtGetVersion) version;
    __typeof__(&cublasLtCreate) create;
    __typeof__(&cublasLtDestroy) destroy;
    __typeof__(&cublasLtGetStatusString) status_text;
    __typeof__(&cublasLtMatmulDescInit_internal) desc_init;
    __typeof__(&cublasLtMatmulDescSetAttribute) desc_set;
    __typeof__(&cublasLtMatrixLayoutInit_internal) layout_init;
    __typeof__(&cublasLtMatrixLayoutSetAttribute) layout_set;
    __typeof__(&cublasLtMatmulPreferenceInit_internal) preference_init;
    __typeof__(&cublasLtMatmulPreferenceSetAttribute) preference_set;
    __typeof__(&cublasLtMatmulAlgoGetHeuristic) heuristic;
    __typeof__(&cublasLtMatmulAlgoCheck) check;
    __typeof__(&cublasLtMatmul) matmul;
} ti_cublaslt;
/* The library's functions and a handle; NULL and the reason. */
const ti_cublaslt *ti_cublaslt_of(ti_device *d, cublasLtHandle_t *handle, const char **why);
#endif

#ifdef TI_WITH_CUDNN
typedef struct {
    __typeof__(&cudnnGetVersion) version;
    __typeof__(&cudnnCreate) create;
    __typeof__(&cudnnDestroy) destroy;
    __typeof__(&cudnnSetStream) set_stream;
    __typeof__(&cudnnGetErrorString) status_text;
    __typeof__(&cudnnGetLastErrorString) last_error; /* NULL in a library older than 9.0 */
    __typeof__(&cudnnBackendCreateDescriptor) make;
    __typeof__(&cudnnBackendDestroyDescriptor) drop;
    __typeof__(&cudnnBackendFinalize) finalize;
    __typeof__(&cudnnBackendSetAttribute) set;
    __typeof__(&cudnnBackendGetAttribute) get;
    __typeof__(&cudnnBackendExecute) execute;
    /* recurrent nets */
    __typeof__(&cudnnCreateTensorDescriptor) tensor_make;
    __typeof__(&cudnnSetTensorNdDescriptor) tensor_set;
    __typeof__(&cudnnDestroyTensorDescriptor) tensor_drop;
    __typeof__(&cudnnCreateRNNDescriptor) rnn_make;
    __typeof__(&cudnnSetRNNDescriptor_v8) rnn_set;
    __typeof__(&cudnnDestroyRNNDescriptor) rnn_drop;
    __typeof__(&cudnnCreateRNNDataDescriptor) rnn_data_make;
    __typeof__(&cudnnSetRNNDataDescriptor) rnn_data_set;
    __typeof__(&cudnnDestroyRNNDataDescriptor) rnn_data_drop;
    __typeof__(&cudnnGetRNNWeightSpaceSize) rnn_weight_space;
    __typeof__(&cudnnGetRNNTempSpaceSizes) rnn_temp_space;
    __typeof__(&cudnnGetRNNWeightParams) rnn_weight;
    __typeof__(&cudnnRNNForward) rnn_forward;
    __typeof__(&cudnnRNNBackwardData_v8) rnn_back_data;
    __typeof__(&cudnnRNNBackwardWeights_v8) rnn_back_weights;
} ti_cudnn;
/* The same; the handle is on the device's stream. */
const ti_cudnn *ti_cudnn_of(ti_device *d, cudnnHandle_t *handle, const char **why);
#endif

/* ---- library.c ---- */

typedef enum { TI_CUBLASLT, TI_CUDNN, TI_LIBRARIES } ti_library;
const char *ti_library_name(ti_library k);
/* The library, which stays in the process; NULL and why it cannot be used. */
void *ti_library_open(ti_library k, const char *disabled, char why[200]);
/* Its functions into a ti_cublaslt or ti_cudnn; the name of one that it lacks, or NULL. */
const char *ti_library_load(ti_library k, void *to, void *library);

/* ---- vendor.c ---- */

/* plans.c: forgets what was read. */
void ti_plans_close(ti_device *d);

/* Destroys what the device's libraries made. */
void ti_vendor_close(ti_device *d);

/* For the backend's table. */
const char *ti_vendor_remark(ti_device *d);
bool ti_vendor_varies(ti_device *d);
bool ti_vendor_part(int i, const char *disabled, tern_part *part);

/* A line for the log, printf-like. */
__attribute__((format(printf, 2, 3))) void ti_vendor_tell(ti_device *d, const char *text, ...);
/* A reason that lives until the next one, printf-like; told to the log too if `aloud`. */
__attribute__((format(printf, 3, 4))) const char *ti_vendor_why(ti_device *d, bool aloud,
                                                                const char *text, ...);

/* What a row file keeps with the device, one piece for each key of key_bytes; it begins with them.
 * `drop` ends it when the device closes. */
typedef struct ti_kept_plan {
    struct ti_kept_plan *next;
    void (*drop)(ti_device *d, void *plan);
    size_t key_bytes;
    _Alignas(16) char plan[];
} ti_kept_plan;
/* The plan with this key; NULL: there is none yet. */
void *ti_vendor_find(ti_device *d, const void *key, size_t key_bytes);
/* A new one of plan_bytes with the key in front; NULL: no memory, or too many. */
void *ti_vendor_keep(ti_device *d, const void *key, size_t key_bytes, size_t plan_bytes,
                     void (*drop)(ti_device *d, void *plan));

/* ---- inner.c ---- */

/* Our own row that takes the call w (views need no data): the cheapest of those that do not round
 * its operands; NULL: none does. */
const ti_row *ti_own_row(const ti_work *w);
/* What that row takes of scratch, at least 64 bytes. */
size_t ti_own_scratch(const ti_row *row, const ti_work *w);

/* A call of another op inside a row's: its views are copies, so the struct stays where it is. */
typedef struct {
    ti_op op;
    ti_work w;
    ti_view in[3], out[TI_OUTS];
} ti_inner;
void ti_inner_call(ti_inner *c, const ti_work *w, const char *op, const void *opts, int n_in,
                   const ti_view *in, ti_view out);

/* out = relu(out), by our own row: where a library's ReLU is not trusted (fmax hides NaN). */
void ti_relu_after(const ti_work *w);

/* Bytes of all operands. */
double ti_work_bytes(const ti_work *w);

/* ---- trust.c ---- */

/*
 * Whether `run` may stand for `own` in the call w, whose views have no data: both get the same
 * pseudo-random inputs, and every element must agree within the sum of both rows' derived bounds;
 * `run` must give the same bits twice (unless w->varies), write all of its output and nothing
 * behind it, and must not hide a NaN. NULL: it may. Else the difference, which is told to the log.
 * `who` names the plan; `chain`: the longest chain of sums that it may make.
 */
typedef void (*ti_run_fn)(const ti_work *w);
const char *ti_trust(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch,
                     double chain, ti_math math, const char *who);

/* The same for a recurrent net or its derivatives, all outputs of it, in f32. scale[TI_FEW]: of
 * the inputs drawn; 0: 1. */
const char *ti_trust_net(const ti_work *w, const ti_row *own, ti_run_fn run, size_t scratch,
                         const double *scale, const char *who);

/* The chain whose bound covers K sums. Those of tensor cores may be rounded toward zero: errors of
 * 2 u that all point one way, so the bound is 2 K instead of 6 sqrt(K). */
double ti_vendor_chain(double K, ti_math math);

/* ---- fastest.c: plans by the clock ---- */

enum { TI_CANDIDATES = 12, TI_CANDIDATE_NAME = 80 };
typedef struct {
    void *plan;
    ti_run_fn run;
    size_t scratch;
    bool varies; /* its bits may differ from run to run */
    char name[TI_CANDIDATE_NAME];
    double seconds;
    bool failed; /* on the clock */
} ti_candidate;
/* With w->tuner: of n plans for w, the library's first choice first, the fastest one that ti_trust
 * lets through, and its seconds; -1 and why there is none. */
int ti_fastest(const ti_work *w, const ti_row *own, ti_candidate *c, int n, double chain,
               ti_math math, const char **why);

/*
 * inner.c again. A row of math mode tf32, bf16 or f16 rounds its operands itself: its scratch is
 * what the row inside takes, `inner` bytes, then the rounded operands. Operands lie without gaps.
 */
size_t ti_rounded_scratch(const ti_work *w, size_t inner);
void ti_rounded_run(const ti_work *w, tern_math_t to, size_t inner, ti_run_fn run);

/* ---- layer_d.c: linear_act_d and conv2d_act_d, whose inputs and outputs stand alike ---- */

typedef struct {
    const ti_row *own;        /* for the whole call */
    const ti_row *sum, *mask; /* for db; for h, NULL where that is gy */
    size_t room;              /* the most that one part takes of scratch; h lies behind it */
} ti_layer_d;
/* db, h: the calls of these parts, h NULL where it is gy. NULL, or why there cannot be a row. */
const char *ti_layer_d_prepare(ti_layer_d *l, const ti_work *w, const ti_work *db,
                               const ti_work *h);
/* Some part takes so many bytes. */
void ti_layer_d_room(ti_layer_d *l, size_t bytes);
size_t ti_layer_d_scratch(const ti_layer_d *l, const ti_work *w);
/* K: terms of the longest sums. */
double ti_layer_d_chain(const ti_layer_d *l, const ti_work *w, double K, ti_math math);
/* The bias's derivative: zeros for a layer without one. */
void ti_layer_d_db(const ti_layer_d *l, const ti_work *w, const ti_work *db);

/* Whether an operand, if it is there, lies on a multiple of TI_VENDOR_ALIGN. */
static inline bool ti_vendor_aligned(const ti_view *v)
{
    return v->count <= 0 || (uintptr_t)v->data % TI_VENDOR_ALIGN == 0;
}

#endif
