/*
 * row.h - kernels as rows: what a backend's files state.
 *
 * A row says in one place what it computes, what it refuses, what it costs and what it wants of
 * its operands. A file host/cpu/x.c exports only `const ti_row ti_cpu_x[]`, host/cpu/ref/x.c only
 * `const ti_row ti_ref_x[]`; both end with op NULL.
 */
#ifndef TI_ROW_H
#define TI_ROW_H

#include "core/op.h"

typedef struct ti_device ti_device;
typedef struct ti_row ti_row;
typedef struct ti_graph ti_graph;
typedef struct ti_stage ti_stage;

/* A kernel's complaint about values that only it sees (an index out of range). That of the first
 * call stays, and of its complaints the one about the first place, whatever the threads' order;
 * the host looks after eager calls and at the end of a replay. */
typedef struct {
    int raised, busy;
    const void *call; /* which: the address of its outputs */
    int64_t at, value, limit;
    const char *op;
} ti_fault;

typedef struct ti_tuner ti_tuner;

typedef struct {
    const ti_op *op;
    const void *opts, *plan; /* plan: what prepare made, or NULL */
    int n_in;
    const ti_view *in, *out; /* out: TI_OUTS; absent ones have data NULL and count -1 */
    void *scratch;           /* 64-byte aligned, lives for one call */
    ti_device *device;
    ti_fault *fault;
    const float *skip; /* device memory, or NULL: a predicated row does nothing where it holds 1 */
    ti_tuner *tuner;   /* for prepare: kernels are chosen by the clock; NULL: they are not */
    bool varies;       /* the result may differ between equal runs */
} ti_work;

/*
 * The clock and its file (core/tune.h), for rows that choose among a library's plans when they
 * prepare. A plan is a text; it is kept for a problem, bytes of which all are defined, of a library
 * on a device as the file's other choices are.
 */
enum { TI_PLAN_TEXT = 400, TI_PLAN_WHERE = 1100 };
struct ti_tuner {
    tern_ctx *ctx;
    /* The plan that is kept, and the file and line that say so. False: none is. */
    bool (*find)(const ti_tuner *t, const char *library, const void *problem, size_t bytes,
                 char plan[TI_PLAN_TEXT], char where[TI_PLAN_WHERE]);
    /*
     * The seconds that `run` takes for w, whose views have no data, with each of n plans (what
     * w->plan becomes) and so much scratch; -1: there was no memory, or the device has failed.
     */
    void (*time)(const ti_tuner *t, const ti_work *w, void (*run)(const ti_work *w), size_t scratch,
                 int n, void *const *plan, const char *const *name, double *seconds);
    /* Keeps a plan. What cannot be kept is the context's failure. */
    void (*keep)(const ti_tuner *t, const char *library, const void *problem, size_t bytes,
                 const char *op, const char *plan, double seconds);
};

/* How a row wants an input to lie; apply repacks it by a `copy` call where it does not. */
typedef enum { TI_ANY_LAYOUT, TI_ROW_MAJOR, TI_CHANNELS_LAST, TI_DENSE } ti_layout;

struct ti_row {
    const char *op, *impl;
    /* NULL: takes it. Static, from shapes, types and options; views have no data then. Inputs will
     * lie as `want` says. */
    const char *(*reject)(const ti_work *w);
    /* Nanoseconds, roughly, on one thread: a pure function of the call. NULL: last choice. */
    double (*cost)(const ti_work *w);
    ti_layout want[TI_FEW]; /* of each input; variadic ops: want[0] for all */
    /* The input that output i_out may lie on (same bytes, same strides), or -1. NULL: none. */
    int (*may_alias)(int i_out);
    size_t plan_bytes;
    const char *(*prepare)(const ti_work *w, void *plan); /* NULL text: done; may still refuse */
    size_t (*scratch)(const ti_work *w); /* bytes, beside the doubles that a body gets */
    /* Either body (reference rows: packed row-major doubles in and out; inputs absent are NULL;
     * shapes in w->in[i].m.shape) or run (views as they lie). */
    void (*body)(const ti_work *w, double *const *in, double *const *out);
    void (*run)(const ti_work *w);
    /* Longest sequential chain of sums per output, for the bound. NULL: 1. */
    double (*chain)(const ti_work *w);
    ti_class numbers;
    /* The row itself looks at w->skip. On devices whose memory the host cannot read, only such rows
     * may write variables. */
    bool predicated;
};

/* Raises the fault of w: element `at` of its indices is `value`, which is not in 0 ... limit-1. Any
 * thread may call. */
void ti_raise(const ti_work *w, int64_t at, int64_t value, int64_t limit);

/* One table per backend. */
typedef struct ti_backend {
    const char *name;
    /* Opens device `name` ("cpu", "ref", …). why: text on failure, 200 bytes. */
    ti_device *(*open)(const char *name, int n_threads, const char *disabled, char *why);
    void (*close)(ti_device *d);
    ti_memory (*memory)(ti_device *d);
    /* Bytes between host and device; may be asynchronous in the device's order. */
    void (*upload)(ti_device *d, void *to, const void *from, size_t bytes);
    void (*download)(ti_device *d, void *to, const void *from, size_t bytes); /* waits */
    void (*copy)(ti_device *d, void *to, const void *from, size_t bytes);
    void (*zero)(ti_device *d, void *to, size_t bytes);
    /* Waits; a text if the device has failed. */
    const char *(*sync)(ti_device *d);
    /* Whether a failure is known already, without waiting; NULL: never. */
    bool (*broken)(const ti_device *d);
    /* What its kernels raised since the last call, after a sync; NULL: they write w->fault. */
    void (*fault)(ti_device *d, ti_fault *fault);
    /*
     * Capture, NULL where a device has none: calls noted once as a graph and run by one launch.
     * Between begin and end rows launch as ever and nothing runs; a row may not allocate, wait, or
     * copy memory that is not pinned. A forbidden call spoils the capture, which then ends without
     * a graph; nothing has run, and the device stays usable. Texts: NULL where all is well.
     */
    const char *(*capture_begin)(ti_device *d);
    const char *(*capture_spoilt)(ti_device *d); /* why, asked while it goes on */
    /* NULL: there is none, and *why; "" for want of memory. */
    ti_graph *(*capture_end)(ti_device *d, const char **why);
    size_t (*graph_size)(const ti_graph *g); /* launches, fills and copies in it */
    void (*graph_run)(ti_device *d, const ti_graph *g);
    void (*graph_free)(ti_device *d, ti_graph *g); /* after the runs that were asked for */
    /*
     * Batches ahead, NULL where host_memory. A stage is pinned memory of the host, whose bytes go
     * to the device beside its work. stage_mark: what was asked so far is the last that may use the
     * memory which will be sent to. stage_send: the stage's bytes from `at` go there after the
     * mark, and what is asked from now on waits for them. stage_wait: until all is sent.
     */
    ti_stage *(*stage_open)(ti_device *d, size_t bytes, void **host); /* NULL: no memory */
    void (*stage_close)(ti_device *d, ti_stage *s);                   /* NULL is legal */
    void (*stage_mark)(ti_device *d, ti_stage *s);
    void (*stage_send)(ti_device *d, ti_stage *s, void *to, size_t at, size_t bytes);
    void (*stage_wait)(ti_device *d, ti_stage *s);
    /* A float read late, NULL where host_memory: note i (0 or 1) takes it in the order of the
     * device's work, noted waits for that only. */
    void (*note)(ti_device *d, int i, const float *from);
    float (*noted)(ti_device *d, int i);
    /* Whether there are rows that give more speed where results may differ between equal runs.
     * NULL: no. */
    bool (*varies)(ti_device *d);
    bool host_memory; /* the host may read and write its storage directly */
    bool computes;    /* false: null */
    const char *(*isa)(const ti_device *d);
    /* What timings depend on: the processor's name, versions of libraries. NULL: as isa. */
    void (*hardware)(ti_device *d, char *text, size_t room);
    bool (*threads)(ti_device *d, int n);
    int (*thread_count)(const ti_device *d);
    /* Lists of rows by file, ends with NULL. */
    const ti_row *const *(*rows)(const ti_device *d, int i_list);
    /* The oldest thing worth a line of the log that has not been told yet; NULL: none. May be NULL.
     */
    const char *(*remark)(ti_device *d);
    /* Libraries that rows use, from 0, no device being open: name, whether it is found, and its
     * version and place or what is missing. False: no more. May be NULL. */
    bool (*part)(int i, const char *disabled, tern_part *part);
} ti_backend;

extern const ti_backend ti_backend_cpu, ti_backend_null;

/*
 * A backend may be a plug-in: libtern_NAME.so exports `ti_plugin` alone. It gives its table, or
 * NULL and the reason (200 bytes). hash: of the headers that both sides were built with; another
 * one is refused. Plug-ins compile core/meta.c, which needs nothing else of the library.
 */
typedef const ti_backend *(*ti_plugin_fn)(const char *hash, char *why);

extern const ti_row *const ti_cpu_rows[], *const ti_ref_rows[];

#endif
