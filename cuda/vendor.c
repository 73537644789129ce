/*
 * vendor.c - a device's handles of the vendor's libraries, what rows keep with it, and what is told
 * to the log.
 *
 * Everything here belongs to one device, which one thread uses at a time.
 */
#include "vendor.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NOTES = 8, MOST_PLANS = 4096 };

typedef struct {
    bool tried, ready;
    char why[200];
} library;

struct ti_vendor {
    library lib[TI_LIBRARIES];
#ifdef TI_WITH_CUBLASLT
    ti_cublaslt lt;
    cublasLtHandle_t lt_handle;
#endif
#ifdef TI_WITH_CUDNN
    ti_cudnn dnn;
    cudnnHandle_t dnn_handle;
#endif
    ti_kept_plan *plans;
    int n_plans;
    char note[NOTES][TI_VENDOR_TEXT], why[TI_VENDOR_TEXT];
    int n_note, first_note;
};

static struct ti_vendor *vendor_of(ti_device *d)
{
    if (!d->vendor) d->vendor = ti_cuda_host_alloc(sizeof *d->vendor);
    return d->vendor;
}

/* ---- Opening ---- */

/* Whether the library is ready; it is opened at the first call. start: the rest of the way. */
static bool open_once(ti_device *d, ti_library k, const char **why,
                      bool (*start)(ti_device *d, void *lib, char why[200]))
{
    struct ti_vendor *v = vendor_of(d);

    if (!v) {
        *why = "out of host memory";
        return false;
    }
    library *l = &v->lib[k];
    if (!l->tried) {
        void *lib = ti_library_open(k, d->disabled, l->why);

        l->tried = true;
        l->ready = lib && start(d, lib, l->why);
        if (!l->ready) ti_vendor_tell(d, "%s is not used: %s", ti_library_name(k), l->why);
        if (lib) dlclose(lib); /* it stays: see library.c */
    }
    *why = l->why;
    return l->ready;
}

#ifdef TI_WITH_CUBLASLT
static bool start_cublaslt(ti_device *d, void *lib, char why[200])
{
    struct ti_vendor *v = d->vendor;
    const char *missing = ti_library_load(TI_CUBLASLT, &v->lt, lib);

    if (missing) {
        snprintf(why, 200, "it has no %s", missing);
        return false;
    }
    (void)cudaSetDevice(d->index);
    const cublasStatus_t s = v->lt.create(&v->lt_handle);
    if (s != CUBLAS_STATUS_SUCCESS) {
        snprintf(why, 200, "cublasLtCreate: %.100s", v->lt.status_text(s));
        v->lt_handle = NULL;
    }
    return s == CUBLAS_STATUS_SUCCESS;
}

const ti_cublaslt *ti_cublaslt_of(ti_device *d, cublasLtHandle_t *handle, const char **why)
{
    if (!open_once(d, TI_CUBLASLT, why, start_cublaslt)) return NULL;
    if (handle) *handle = d->vendor->lt_handle;
    return &d->vendor->lt;
}
#endif

#ifdef TI_WITH_CUDNN
static bool start_cudnn(ti_device *d, void *lib, char why[200])
{
    struct ti_vendor *v = d->vendor;
    const char *missing = ti_library_load(TI_CUDNN, &v->dnn, lib);

    if (missing) {
        snprintf(why, 200, "it has no %s", missing);
        return false;
    }
    (void)cudaSetDevice(d->index);
    cudnnStatus_t s = v->dnn.create(&v->dnn_handle);
    if (s != CUDNN_STATUS_SUCCESS) v->dnn_handle = NULL;
    else s = v->dnn.set_stream(v->dnn_handle, d->stream);
    if (s != CUDNN_STATUS_SUCCESS) snprintf(why, 200, "cudnnCreate: %s", v->dnn.status_text(s));
    return s == CUDNN_STATUS_SUCCESS;
}

const ti_cudnn *ti_cudnn_of(ti_device *d, cudnnHandle_t *handle, const char **why)
{
    if (!open_once(d, TI_CUDNN, why, start_cudnn)) return NULL;
    if (handle) *handle = d->vendor->dnn_handle;
    return &d->vendor->dnn;
}
#endif

void ti_vendor_close(ti_device *d)
{
    struct ti_vendor *v = d->vendor;

    if (!v) return;
#ifdef TI_WITH_CUDNN
    ti_plans_close(d);
#endif
    while (v->plans) {
        ti_kept_plan *p = v->plans;

        v->plans = p->next;
        p->drop(d, p->plan);
        ti_cuda_host_free(p);
    }
#ifdef TI_WITH_CUBLASLT
    if (v->lt_handle) (void)v->lt.destroy(v->lt_handle);
#endif
#ifdef TI_WITH_CUDNN
    if (v->dnn_handle) (void)v->dnn.destroy(v->dnn_handle);
#endif
    ti_cuda_host_free(v);
    d->vendor = NULL;
}

/* Whether a library is there that can offer plans whose results vary. */
bool ti_vendor_varies(ti_device *d)
{
    const char *why = NULL;
    bool there = false;

    (void)d, (void)why;
#ifdef TI_WITH_CUBLASLT
    there |= ti_cublaslt_of(d, NULL, &why) != NULL;
#endif
#ifdef TI_WITH_CUDNN
    there |= ti_cudnn_of(d, NULL, &why) != NULL;
#endif
    return there;
}

/* ---- Telling ---- */

void ti_vendor_tell(ti_device *d, const char *text, ...)
{
    struct ti_vendor *v = vendor_of(d);
    va_list args;

    if (!v || v->n_note == NOTES) return; /* what came first stays */
    va_start(args, text);
    vsnprintf(v->note[(v->first_note + v->n_note++) % NOTES], TI_VENDOR_TEXT, text, args);
    va_end(args);
}

const char *ti_vendor_why(ti_device *d, bool aloud, const char *text, ...)
{
    struct ti_vendor *v = vendor_of(d);
    va_list args;

    if (!v) return "out of host memory";
    va_start(args, text);
    vsnprintf(v->why, sizeof v->why, text, args);
    va_end(args);
    if (aloud) ti_vendor_tell(d, "%s", v->why);
    return v->why;
}

const char *ti_vendor_remark(ti_device *d)
{
    struct ti_vendor *v = d->vendor;

    if (!v || v->n_note == 0) return NULL;
    const char *text = v->note[v->first_note];
    v->first_note = (v->first_note + 1) % NOTES;
    v->n_note--;
    return text;
}

/* ---- Plans ---- */

void *ti_vendor_find(ti_device *d, const void *key, size_t key_bytes)
{
    for (ti_kept_plan *p = d->vendor ? d->vendor->plans : NULL; p; p = p->next)
        if (p->key_bytes == key_bytes && memcmp(p->plan, key, key_bytes) == 0) return p->plan;
    return NULL;
}

void *ti_vendor_keep(ti_device *d, const void *key, size_t key_bytes, size_t plan_bytes,
                     void (*drop)(ti_device *d, void *plan))
{
    struct ti_vendor *v = vendor_of(d);
    ti_kept_plan *p;

    if (!v || v->n_plans >= MOST_PLANS) return NULL;
    p = ti_cuda_host_alloc(sizeof *p + plan_bytes);
    if (!p) return NULL;
    memcpy(p->plan, key, key_bytes);
    p->key_bytes = key_bytes;
    p->drop = drop;
    p->next = v->plans;
    v->plans = p;
    v->n_plans++;
    return p->plan;
}
