/*
 * loader.c - batches of a data set, the next one made while the last one is used.
 *
 * Three slots go round: at call t the batch of slot t mod 3 is given out, and the one that was
 * given at call t - 2 ends, so that its slot can take batch t + 1 at once. Slots are the loader's
 * own memory and tensors are made around them; if somebody still holds one when its batch ends,
 * its memory retires and the slot takes new memory, so tensors never change.
 *
 * A device with memory of its own gets batch t while it works on step t - 1: the slot's memory is
 * pinned, the tensors' storages are taken one call ahead, the copy goes beside the device's work.
 *
 * The thread touches the slot that it was given, the order of the epoch and the source, never the
 * context. One mutex guards whose turn it is.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"
#include "data/augment.h"
#include "data/source.h"

enum { SLOTS = 3, ALIGN = 64 };

typedef struct retired retired;
typedef struct {
    float *x;       /* [batch][h][w][c], in `memory` */
    int64_t *label; /* [batch] */
    int64_t *sample;
    void *memory;
    ti_stage *stage;      /* on a device with memory of its own: memory is the stage's */
    ti_storage *store[2]; /* there, taken ahead for the next batch */
    retired *spare;       /* for the day when the memory is still used at its batch's end */
    int64_t count;
    tern_position at; /* what it holds */
    bool filled;
    int64_t bad;      /* the sample that could not be made, or -1 */
    int64_t bad_code; /* what its function gave, or the label that it set if bad_label */
    bool bad_label;
    tern_tensor *in[2];
} slot;

struct tern_loader {
    ti_object object;
    tern_ctx *ctx;
    ti_source *source;
    int64_t *index; /* of the data when it was opened */
    int64_t count, batch, batches;
    tern_loader_opts opts;
    uint64_t seed;
    float *scale, *offset; /* [c] */
    int64_t *order;        /* of `order_epoch`; the filler's */
    int64_t order_epoch;
    float *row; /* one row-major image of a function */

    tern_position next; /* to be given out */
    int turn;
    slot slots[SLOTS];
    retired *retired;

    bool threaded;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    slot *wanted; /* by the thread, NULL: nothing to do */
    bool quit;
};

/* ---- filling a slot (any thread) ------------------------------------------------------------- */

static void order_for(tern_loader *l, int64_t epoch)
{
    if (l->order_epoch == epoch) return;
    for (int64_t i = 0; i < l->count; i++) l->order[i] = i;
    if (!l->opts.in_order) ti_shuffle(l->order, l->count, l->seed, TI_FOR_SHUFFLE, (uint32_t)epoch);
    l->order_epoch = epoch;
}

static void plain_image(float *to, const ti_source *s, const void *from, const float *scale,
                        const float *offset)
{
    const int64_t n = s->h * s->w * s->c;
    const uint8_t *bytes = from;
    const float *floats = from;

    if (s->c == 1 && s->type == TERN_U8) { /* a loop that compilers turn into vectors */
        const float a = scale[0], b = offset[0];

        for (int64_t i = 0; i < n; i++) to[i] = (float)bytes[i] * a + b;
        return;
    }
    for (int64_t i = 0; i < n; i += s->c)
        for (int64_t c = 0; c < s->c; c++)
            to[i + c] =
                (s->type == TERN_U8 ? (float)bytes[i + c] : floats[i + c]) * scale[c] + offset[c];
}

/* The image and label of sample i of the source; false if its function fails. */
static bool fill_sample(tern_loader *l, slot *t, int64_t k, int64_t i)
{
    const ti_source *s = l->source;
    const int64_t each = s->h * s->w * s->c;
    const void *from;

    if (s->fn) {
        const int code = s->fn(s->user, i, l->row, &t->label[k]);

        t->bad_label = !code && (t->label[k] < 0 || t->label[k] >= s->n_classes);
        t->bad_code = code ? code : t->label[k];
        if (code || t->bad_label) {
            t->bad = i;
            return false;
        }
        float *turned = l->row + each;

        for (int64_t c = 0; c < s->c; c++)
            for (int64_t p = 0; p < s->h * s->w; p++)
                turned[p * s->c + c] = l->row[c * s->h * s->w + p];
        from = turned;
    } else {
        t->label[k] = s->labels[i];
        from = (const char *)s->pixels + (size_t)(i * each) * tern_type_size(s->type);
    }
    if (ti_augments(&l->opts.augment))
        ti_augment_image(t->x + k * each, s, from, &l->opts.augment, l->seed, (uint32_t)t->at.epoch,
                         i, l->scale, l->offset);
    else plain_image(t->x + k * each, s, from, l->scale, l->offset);
    return true;
}

static void fill(tern_loader *l, slot *t)
{
    const int64_t first = t->at.index * l->batch, left = l->count - first;

    order_for(l, t->at.epoch);
    t->count = left < l->batch ? left : l->batch;
    t->bad = -1;
    for (int64_t k = 0; k < t->count; k++) {
        t->sample[k] = l->order[first + k];
        if (!fill_sample(l, t, k, l->index[t->sample[k]])) return;
    }
}

static void *work(void *arg)
{
    tern_loader *l = arg;

    pthread_mutex_lock(&l->mutex);
    while (!l->quit) {
        slot *t = l->wanted;

        if (!t) {
            pthread_cond_wait(&l->cond, &l->mutex);
            continue;
        }
        pthread_mutex_unlock(&l->mutex);
        fill(l, t);
        pthread_mutex_lock(&l->mutex);
        l->wanted = NULL;
        pthread_cond_broadcast(&l->cond);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* ---- the thread, from outside ---------------------------------------------------------------- */

/* Signals are for the program's own threads. */
static bool start(tern_loader *l)
{
    sigset_t all, before;

    if (l->threaded) return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&l->thread, NULL, work, l);

    pthread_sigmask(SIG_SETMASK, &before, NULL);
    l->threaded = rc == 0;
    if (rc == 0) return true;
    ti_log(l->ctx, "info",
           "loader: no thread could be started (error %d): batches are not prefetched", rc);
    l->opts.no_prefetch = true;
    return false;
}

/* Waits until the thread has nothing to do. */
static void settle(tern_loader *l)
{
    if (!l->threaded) return;
    pthread_mutex_lock(&l->mutex);
    while (l->wanted) pthread_cond_wait(&l->cond, &l->mutex);
    pthread_mutex_unlock(&l->mutex);
}

/* ---- slots and tensors ----------------------------------------------------------------------- */

/* Memory of a slot that somebody still uses when its batch ends. On its loader's list, and owned by
 * the context, which may end it first. */
struct retired {
    ti_object object;
    struct retired *next;
    tern_loader *loader; /* NULL: it is closed */
    void *memory;
    ti_storage *store[2];
};

static void end_retired(tern_ctx *ctx, ti_object *object)
{
    retired *r = (retired *)object;

    for (retired **at = r->loader ? &r->loader->retired : NULL; at && *at; at = &(*at)->next)
        if (*at == r) {
            *at = r->next;
            break;
        }
    for (int i = 0; i < 2; i++) ti_storage_drop(r->store[i]);
    ti_free(ctx, r->memory);
}

/* Frees what nobody uses any more. */
static void sweep(tern_ctx *ctx, tern_loader *l)
{
    for (retired *r = l->retired, *next; r; r = next) {
        next = r->next;
        if (r->store[0]->refs == 1 && r->store[1]->refs == 1) ti_object_close(ctx, r);
    }
}

/* Pinned memory is asked for like all else, and may be refused. */
static void *stage_memory(tern_ctx *ctx, slot *t, size_t bytes)
{
    if (ti_may_allocate(ctx)) t->stage = ctx->backend->stage_open(ctx->device, bytes, &t->memory);
    if (t->stage) return t->memory;
    ti_fail(ctx, TERN_E_MEMORY, "loader: %s: no pinned memory for a batch of %zu bytes",
            ctx->device_name, bytes);
    return NULL;
}

static tern_status make_slot(tern_ctx *ctx, slot *t, const tern_loader *l)
{
    const int64_t each = tern_count(l->source->sample);
    const int64_t batch = l->batch < l->count ? l->batch : l->count;
    int64_t bytes;

    if (__builtin_mul_overflow(batch, each * (int64_t)sizeof(float) + 16, &bytes) ||
        bytes > PTRDIFF_MAX / 4)
        return ti_fail(ctx, TERN_E_ARGUMENT, "loader: batches of %lld samples are too large",
                       (long long)batch);
    /* Images first, at a cache line's start; labels and samples after them. */
    const size_t room = (size_t)bytes + 3 * ALIGN;
    t->spare = ti_alloc(ctx, sizeof *t->spare);
    if (t->spare)
        t->memory = ctx->backend->stage_open ? stage_memory(ctx, t, room) : ti_alloc(ctx, room);
    if (!t->memory) {
        ti_free(ctx, t->spare);
        t->spare = NULL;
        return tern_error(ctx);
    }
    char *at = (char *)(((uintptr_t)t->memory + ALIGN - 1) / ALIGN * ALIGN);
    const size_t x_bytes = ((size_t)(batch * each) * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;

    t->x = (float *)at;
    t->label = (int64_t *)(at + x_bytes);
    t->sample = t->label + batch;
    return TERN_OK;
}

static void free_slot(tern_ctx *ctx, slot *t)
{
    for (int i = 0; i < 2; i++) ti_storage_drop(t->store[i]);
    if (t->stage) ctx->backend->stage_close(ctx->device, t->stage);
    else ti_free(ctx, t->memory);
    ti_free(ctx, t->spare);
}

static bool shared(const tern_tensor *t) { return t && (t->refs > 1 || t->store->refs > 1); }

/* Leaves the slot's memory to those who use it and, unless the loader ends, takes new memory. */
static bool retire(tern_ctx *ctx, tern_loader *l, slot *t, bool ending)
{
    slot fresh = {0};
    retired *r = t->spare;

    if (!ending && make_slot(ctx, &fresh, l) != TERN_OK) return false;
    ti_object_own(ctx, &r->object, end_retired);
    r->memory = t->memory;
    for (int i = 0; i < 2; i++) {
        r->store[i] = t->in[i]->store;
        r->store[i]->refs++;
    }
    r->loader = l;
    r->next = l->retired;
    l->retired = r;
    t->spare = fresh.spare;
    t->memory = fresh.memory;
    t->x = fresh.x;
    t->label = fresh.label;
    t->sample = fresh.sample;
    return true;
}

/* Ends the loader's use of a slot's tensors. */
static bool release(tern_ctx *ctx, tern_loader *l, slot *t, bool ending)
{
    if (ctx->backend->host_memory && (shared(t->in[0]) || shared(t->in[1])) &&
        !retire(ctx, l, t, ending))
        return false;
    for (int i = 0; i < 2; i++) {
        tern_drop(t->in[i]);
        t->in[i] = NULL;
    }
    return true;
}

/* ---- batches ahead (devices with memory of their own) ---------------------------------------- */

/* The host may write the slot's memory: no copy reads it any more. */
static void settle_copies(tern_ctx *ctx, slot *t)
{
    if (t->stage) ctx->backend->stage_wait(ctx->device, t->stage);
}

/* Storages for a batch at `at`, unless they are there. What the device was asked before may still
 * use the memory that they got: the copy will wait for that, and for nothing later. */
static tern_status take_ahead(tern_ctx *ctx, tern_loader *l, slot *t, tern_position at)
{
    const int64_t left = l->count - at.index * l->batch, n = left < l->batch ? left : l->batch;
    const size_t bytes[2] = {(size_t)(n * tern_count(l->source->sample)) * sizeof *t->x,
                             (size_t)n * sizeof *t->label};
    bool taken = false;

    for (int i = 0; i < 2 && t->stage; i++) {
        if (t->store[i] && t->store[i]->bytes == bytes[i]) continue;
        ti_storage_drop(t->store[i]);
        if (!(t->store[i] = ti_storage_new(ctx, bytes[i]))) return ctx->error;
        taken = true;
    }
    if (taken) ctx->backend->stage_mark(ctx->device, t->stage);
    return TERN_OK;
}

static tern_tensor *tensor_of(tern_ctx *ctx, slot *t, int i, const ti_meta *m, void *data)
{
    if (!t->stage) return ti_tensor_wrap(ctx, m, data);
    const size_t at = (size_t)((char *)data - (char *)t->memory);
    ti_storage *s = t->store[i];

    ctx->backend->stage_send(ctx->device, t->stage, s->data, at, ti_bytes(m));
    t->store[i] = NULL;
    tern_tensor *made = ti_tensor(ctx, m, s, NULL, 0);
    ti_storage_drop(s);
    return made;
}

/* Held tensors of the slot's batch, which no frame owns any more. */
static bool make_tensors(tern_ctx *ctx, tern_loader *l, slot *t)
{
    tern_shape shape = {.rank = l->source->sample.rank + 1, .dim = {t->count}};

    memcpy(shape.dim + 1, l->source->sample.dim, (size_t)(shape.rank - 1) * sizeof *shape.dim);
    const ti_meta x = ti_channels_last_meta(TERN_F32, shape);
    const ti_meta y = ti_packed_meta(TERN_I64, (tern_shape){1, {t->count}});

    if (take_ahead(ctx, l, t, t->at) != TERN_OK) return false;
    tern_frame_begin(ctx);
    t->in[0] = tern_hold(tensor_of(ctx, t, 0, &x, t->x));
    t->in[1] = tern_hold(tensor_of(ctx, t, 1, &y, t->label));
    tern_frame_end(ctx);
    if (t->in[0] && t->in[1]) return true;
    release(ctx, l, t, false);
    return false;
}

/* ---- what users call ------------------------------------------------------------------------- */

static tern_position after(const tern_loader *l, tern_position p)
{
    return p.index + 1 < l->batches ? (tern_position){p.epoch, p.index + 1}
                                    : (tern_position){p.epoch + 1, 0};
}

static bool same(tern_position a, tern_position b)
{
    return a.epoch == b.epoch && a.index == b.index;
}

/* Lets the thread make the batch after this one. The slot's last batch ends here. */
static tern_status prefetch(tern_ctx *ctx, tern_loader *l, slot *t, tern_position at)
{
    if (l->opts.no_prefetch || !start(l)) return TERN_OK;
    settle_copies(ctx, t);
    TI_TRY(take_ahead(ctx, l, t, at));
    pthread_mutex_lock(&l->mutex);
    t->at = at;
    t->filled = true; /* whoever wants it waits for the thread first */
    l->wanted = t;
    pthread_cond_broadcast(&l->cond);
    pthread_mutex_unlock(&l->mutex);
    return TERN_OK;
}

static tern_status report(tern_ctx *ctx, const slot *t)
{
    if (t->bad_label)
        return ti_fail(ctx, TERN_E_VALUE, "loader: sample %lld: its function set label %lld",
                       (long long)t->bad, (long long)t->bad_code);
    return ti_fail(ctx, TERN_E_IO, "loader: sample %lld: its function gave %lld", (long long)t->bad,
                   (long long)t->bad_code);
}

bool tern_loader_next(tern_ctx *ctx, tern_batch *batch, tern_loader *l)
{
    if (batch) *batch = (tern_batch){0};
    if (!ti_ready(ctx, batch && l, "loader_next")) return false;
    if (tern_tracing(ctx)) {
        ti_fail(ctx, TERN_E_TRACE, "loader_next: a step is traced");
        return false;
    }
    if (l->next.index >= l->batches) {
        l->next = (tern_position){l->next.epoch + 1, 0};
        return false;
    }
    slot *t = &l->slots[l->turn % SLOTS], *ahead = &l->slots[(l->turn + 1) % SLOTS];

    settle(l);
    sweep(ctx, l);
    if (!t->filled || !same(t->at, l->next)) {
        if (!release(ctx, l, t, false)) return false;
        settle_copies(ctx, t);
        t->at = l->next;
        fill(l, t);
        t->filled = true;
    }
    if (t->bad >= 0) {
        t->filled = false; /* the next call tries again */
        report(ctx, t);
        return false;
    }
    if (!release(ctx, l, ahead, false) || !make_tensors(ctx, l, t)) return false;
    if (prefetch(ctx, l, ahead, after(l, l->next)) != TERN_OK) {
        release(ctx, l, t, false);
        return false;
    }
    t->filled = false; /* given out: not to be given again */
    l->next.index++;
    l->turn = (l->turn + 1) % SLOTS;
    *batch = (tern_batch){{t->in[0], t->in[1], NULL}, t->count, t->sample};
    return true;
}

int64_t tern_loader_batches(const tern_loader *l) { return l ? l->batches : 0; }
tern_position tern_loader_tell(const tern_loader *l) { return l ? l->next : (tern_position){0}; }

int64_t tern_loader_samples(const tern_loader *l)
{
    if (!l) return 0;
    return l->opts.drop_last ? l->batches * l->batch : l->count;
}

tern_status tern_loader_seek(tern_ctx *ctx, tern_loader *l, tern_position p)
{
    if (!ti_ready(ctx, l, "loader_seek")) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    if (p.epoch < 0 || p.epoch > INT32_MAX || p.index < 0 || p.index > l->batches)
        return ti_fail(ctx, TERN_E_ARGUMENT,
                       "loader_seek: epoch %lld, batch %lld; an epoch has %lld batches",
                       (long long)p.epoch, (long long)p.index, (long long)l->batches);
    l->next = p;
    return TERN_OK;
}

/* ---- opening and closing --------------------------------------------------------------------- */

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_loader *l = (tern_loader *)object;

    if (l->threaded) {
        settle(l);
        pthread_mutex_lock(&l->mutex);
        l->quit = true;
        pthread_cond_broadcast(&l->cond);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    pthread_cond_destroy(&l->cond);
    pthread_mutex_destroy(&l->mutex);
    for (int i = 0; i < SLOTS; i++) {
        release(ctx, l, &l->slots[i], true);
        free_slot(ctx, &l->slots[i]);
    }
    sweep(ctx, l);
    for (retired *r = l->retired; r; r = r->next) r->loader = NULL; /* its context ends it */
    ti_free(ctx, l->index);
    ti_free(ctx, l->order);
    ti_free(ctx, l->scale);
    ti_free(ctx, l->row);
    ti_source_drop(ctx, l->source);
}

static tern_status set_norm(tern_ctx *ctx, tern_loader *l, const tern_norm *norm)
{
    const int64_t c = l->source->c;
    const double unit = l->source->type == TERN_U8 ? 255 : 1;

    if (!(l->scale = ti_alloc(ctx, 2 * (size_t)c * sizeof *l->scale))) return tern_error(ctx);
    l->offset = l->scale + c;
    for (int64_t i = 0; i < c; i++) {
        const int64_t k = i < norm->channels ? i : norm->channels - 1;

        l->scale[i] = (float)(1 / (unit * (double)norm->std[k]));
        l->offset[i] = (float)(-(double)norm->mean[k] / (double)norm->std[k]);
    }
    return TERN_OK;
}

static tern_status set_up(tern_ctx *ctx, tern_loader *l, const tern_data *data)
{
    const int64_t each = tern_count(l->source->sample);
    const size_t list = (size_t)l->count * sizeof *l->index;

    if (!(l->index = ti_alloc(ctx, list)) || !(l->order = ti_alloc(ctx, list)))
        return tern_error(ctx);
    memcpy(l->index, data->index, list);
    TI_TRY(set_norm(ctx, l, &data->norm));
    if (l->source->fn && !(l->row = ti_alloc(ctx, 2 * (size_t)each * sizeof *l->row)))
        return tern_error(ctx);
    for (int i = 0; i < SLOTS; i++) TI_TRY(make_slot(ctx, &l->slots[i], l));
    return TERN_OK;
}

tern_loader *tern_loader_open(tern_ctx *ctx, const tern_data *data, const tern_loader_opts *opts)
{
    const tern_loader_opts o = opts ? *opts : (tern_loader_opts){0};
    const char *wrong = ti_augment_wrong(&o.augment);
    tern_loader *l;

    if (!ti_ready(ctx, data, "loader_open")) return NULL;
    const int64_t batch = o.batch ? o.batch : 64;

    if (!wrong && ti_augments(&o.augment) && data->source->sample.rank != 3)
        wrong = "augmentation is for images";
    if (wrong || batch < 1 || data->count < 1 || (o.drop_last && data->count < batch)) {
        ti_fail(ctx, TERN_E_ARGUMENT, "loader_open: batches of %lld out of %lld samples%s%s",
                (long long)batch, (long long)data->count, wrong ? ": " : "", wrong ? wrong : "");
        return NULL;
    }
    if (!(l = ti_object_new(ctx, sizeof *l, end))) return NULL;
    l->ctx = ctx;
    l->opts = o;
    l->source = data->source;
    l->source->refs++;
    l->count = data->count;
    l->batch = batch;
    l->batches = o.drop_last ? l->count / batch : (l->count - 1) / batch + 1;
    l->seed = o.seed ? o.seed : tern_seed(ctx);
    l->order_epoch = -1;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->cond, NULL);
    if (set_up(ctx, l, data) == TERN_OK) return l;
    ti_object_close(ctx, l);
    return NULL;
}

void tern_loader_close(tern_ctx *ctx, tern_loader *l) { ti_object_close(ctx, l); }
