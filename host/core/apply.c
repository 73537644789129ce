/*
 * apply.c - the one choke point every operation goes through.
 *
 * Check, choose (cached), make the outputs, run now or note the call, record it on the tape.
 */
#include <string.h>

#include "core/core.h"
#include "core/tune.h"

enum { KEY_FEW = 200, CHOICES_MOST = 8192 };

static const ti_view absent = {.count = -1};

/* ---- Reference rows: packed doubles in, packed doubles out, rounded once ---- */

static size_t ref_scratch(const ti_work *w)
{
    size_t n = 0;

    for (int i = 0; i < w->n_in; i++) n += w->in[i].count > 0 ? (size_t)w->in[i].count : 0;
    for (int i = 0; i < w->op->n_out; i++) n += w->out[i].count > 0 ? (size_t)w->out[i].count : 0;
    return n * sizeof(double) + (size_t)(w->n_in + 1) * sizeof(double *);
}

static void ref_run(const ti_row *row, const ti_work *w)
{
    double **in = w->scratch, *at = (double *)(void *)(in + w->n_in + 1), *out[TI_OUTS] = {0};

    for (int i = 0; i < w->n_in; i++) {
        in[i] = w->in[i].count < 0 ? NULL : at;
        if (w->in[i].count <= 0) continue;
        ti_get_all(&w->in[i], at);
        at += w->in[i].count;
    }
    for (int i = 0; i < w->op->n_out; i++) {
        if (w->out[i].count < 0) continue;
        out[i] = at;
        at += w->out[i].count;
    }
    ti_work own = *w;
    own.scratch = at;
    row->body(&own, in, out);
    for (int i = 0; i < w->op->n_out; i++)
        if (out[i] && w->out[i].count > 0) ti_put_all(&w->out[i], out[i]);
}

void ti_run_row(const ti_row *row, const ti_work *w)
{
    if (row->run) row->run(w);
    else if (row->body) ref_run(row, w);
}

void ti_raise(const ti_work *w, int64_t at, int64_t value, int64_t limit)
{
    ti_fault *f = w->fault;

    while (__atomic_exchange_n(&f->busy, 1, __ATOMIC_ACQUIRE)) {
    }
    if (!f->raised || (f->call == w->out && at < f->at)) {
        f->call = w->out;
        f->at = at;
        f->value = value;
        f->limit = limit;
        f->op = w->op->name;
        __atomic_store_n(&f->raised, 1, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&f->busy, 0, __ATOMIC_RELEASE);
}

tern_status ti_check_fault(tern_ctx *ctx)
{
    if (!ctx->fault.raised) return ctx->error;
    const ti_fault f = ctx->fault;
    ctx->fault = (ti_fault){0};
    return ti_fail(ctx, TERN_E_VALUE, "%s: index %lld is not in 0 to %lld", f.op,
                   (long long)f.value, (long long)f.limit - 1);
}

/* ---- Choosing a row ---- */

static ti_layout wanted_layout(const ti_row *row, const ti_op *op, int i)
{
    return row->want[op->n_in < 0 ? 0 : i];
}

static bool lies(const ti_meta *m, ti_layout want)
{
    return want == TI_ROW_MAJOR       ? ti_is_packed(m)
           : want == TI_CHANNELS_LAST ? ti_is_channels_last(m)
           : want == TI_DENSE         ? ti_is_dense(m)
                                      : true;
}

/* What a row's numbers are in a math mode other than f32, if it rounds the operands itself. */
static ti_class class_of(tern_math_t math)
{
    return math == TERN_MATH_TF32   ? TI_CLASS_TF32
           : math == TERN_MATH_BF16 ? TI_CLASS_BF16
                                    : TI_CLASS_F16;
}

/* NULL: the context's settings allow this row. */
static const char *forbidden(const tern_ctx *ctx, const ti_row *row)
{
    if (row->numbers == TI_WINOGRAD && ctx->no_winograd) return "Winograd is switched off";
    if (row->numbers < TI_CLASS_TF32) return NULL;
    return ctx->math != TERN_MATH_F32 && row->numbers == class_of(ctx->math)
               ? NULL
               : "is for another math mode";
}

/* Whether input i is an operand that is to be rounded before the row sees it. */
static bool is_rounded(const ti_row *row, const ti_call *c, int i)
{
    return c->ctx->math != TERN_MATH_F32 && ti_is_operand(c->op, i) &&
           c->in[i]->m.type == TERN_F32 && row->numbers != class_of(c->ctx->math);
}

/* The inputs as they will lie for this row; whether any must be repacked or rounded. */
static bool lay(const ti_row *row, const ti_call *c, ti_view *in)
{
    bool packs = false;

    for (int i = 0; i < c->n_in; i++) {
        const ti_layout want = wanted_layout(row, c->op, i);

        in[i] = absent;
        if (!c->in[i]) continue;
        ti_meta m = c->in[i]->m;
        if (is_rounded(row, c, i)) {
            packs = true;
            m = ti_follow_meta(m.type, &m);
        }
        if (!lies(&m, want)) {
            packs = true;
            m = want == TI_CHANNELS_LAST ? ti_channels_last_meta(m.type, m.shape)
                                         : ti_packed_meta(m.type, m.shape);
        }
        in[i] = ti_view_at(&m, NULL);
    }
    return packs;
}

const char *ti_row_refuses(tern_ctx *ctx, const ti_row *row, const ti_call *c, const ti_work *w,
                           ti_view *in)
{
    const char *why = forbidden(ctx, row);

    lay(row, c, in);
    if (why) return why;
    return row->reject ? row->reject(w) : NULL;
}

bool ti_row_packs(const ti_row *row, const ti_call *c, int i)
{
    return c->in[i] && (is_rounded(row, c, i) || !lies(&c->in[i]->m, wanted_layout(row, c->op, i)));
}

size_t ti_row_scratch(const ti_row *row, const ti_work *w)
{
    const size_t bytes = row->scratch ? row->scratch(w) : 0;

    return row->body ? bytes + ref_scratch(w) : bytes;
}

/* A device that computes nothing takes every call. */
static const ti_row no_row = {.op = "", .impl = "null"};

typedef struct {
    const ti_row *row;
    void *plan;
    bool packs;
    size_t scratch;
    double chain;
} chosen;

/* What rows have to tell besides their refusals. */
static void log_remarks(tern_ctx *ctx)
{
    const char *text;

    while (ctx->backend->remark && (text = ctx->backend->remark(ctx->device)) != NULL)
        ti_log(ctx, "info", "%s", text);
}

/* The cheapest row that neither refuses nor fails to prepare; before all others the one whose name
 * is `first`, which may be NULL. */
static tern_status choose_row(tern_ctx *ctx, const ti_call *c, ti_work *w, ti_view *in,
                              const char *first, chosen *best)
{
    char shape[160];
    const char *why = "no row for this operation";
    uint64_t refused = 0; /* rows of this op, in the tables' order */

    while (true) {
        double least = 0;
        int i = 0, i_best = 0;
        const ti_row *const *rows, *r;

        best->row = NULL;
        for (int k = 0; (rows = ctx->backend->rows(ctx->device, k)) != NULL; k++)
            for (int j = 0; (r = rows[j]) != NULL; j++)
                for (; r->op; r++) {
                    if (strcmp(r->op, c->op->name) != 0) continue;
                    const bool tried = refused >> (i & 63) & 1;
                    const char *text = tried ? why : ti_row_refuses(ctx, r, c, w, in);
                    const bool asked = first && strcmp(first, r->impl) == 0;
                    const double cost = text ? 0 : asked ? -1 : r->cost ? r->cost(w) : 1e18;
                    if (text) {
                        why = text;
                        if (!tried)
                            ti_log(ctx, "dispatch", "%s/%s refuses: %s", r->op, r->impl, text);
                    } else if (!best->row || cost < least) {
                        best->row = r, least = cost, i_best = i;
                    }
                    i++;
                }
        if (!best->row)
            return ti_fail(ctx, TERN_E_UNSUPPORTED, "%s: no kernel on %s: %s", c->op->name,
                           ctx->device_name, why);
        best->packs = lay(best->row, c, in);
        log_remarks(ctx);
        if (best->row->prepare && !(best->plan = ti_alloc(ctx, best->row->plan_bytes)))
            return ctx->error;
        const char *text = best->row->prepare ? best->row->prepare(w, best->plan) : NULL;
        log_remarks(ctx);
        w->plan = best->plan;
        if (!text) best->scratch = ti_row_scratch(best->row, w);
        if (!text && c->scratch_below && best->scratch >= c->scratch_below)
            text = "takes more scratch than is left";
        if (!text) break;
        ti_log(ctx, "dispatch", "%s/%s refuses: %s", c->op->name, best->row->impl, text);
        why = text;
        refused |= (uint64_t)1 << i_best;
        ti_free(ctx, best->plan);
        w->plan = best->plan = NULL;
    }
    if (ti_logs(ctx, "dispatch"))
        ti_log(ctx, "dispatch", "%s/%s takes %s", c->op->name, best->row->impl,
               tern_shape_text(shape, c->n_in && c->in[0] ? c->in[0]->m.shape : TI_SCALAR));
    return TERN_OK;
}

/* What besides op, options and operands decides. */
static int64_t settings_word(const ti_call *c, unsigned wanted)
{
    /* how much scratch a row takes may depend on the number of threads */
    return wanted | (int64_t)c->ctx->n_threads << 8 | (int64_t)c->ctx->math << 20 |
           (int64_t)c->ctx->no_winograd << 22 | (int64_t)c->ctx->varies << 23 |
           (int64_t)c->n_in << 32;
}

static int64_t kind_word(const ti_meta *m)
{
    return m ? (int64_t)m->shape.rank | (int64_t)m->type << 8 : -1;
}

static int key_words(const ti_call *c, unsigned wanted, int64_t *word)
{
    int n = 0;

    word[n++] = (int64_t)(intptr_t)c->op;
    word[n++] = settings_word(c, wanted);
    word[n++] = (int64_t)c->scratch_below;
    word[n + (int)(c->op->opts_size / 8)] = 0; /* the last word may be half full */
    memcpy(word + n, c->opts, c->op->opts_size);
    n += (int)((c->op->opts_size + 7) / 8);
    for (int i = 0; i < c->n_in; i++) {
        const ti_meta *m = c->in[i] ? &c->in[i]->m : NULL;

        word[n++] = kind_word(m);
        for (int a = 0; m && a < m->shape.rank; a++) {
            word[n++] = m->shape.dim[a];
            word[n++] = m->stride[a];
        }
    }
    return n;
}

/* Whether the choice's words are what key_words would give, of which none is written. */
static bool is_for(const ti_choice *how, const ti_call *c, unsigned wanted)
{
    const int64_t *word = how->words;

    if (*word++ != (int64_t)(intptr_t)c->op || *word++ != settings_word(c, wanted) ||
        *word++ != (int64_t)c->scratch_below)
        return false;
    if (c->op->opts_size && memcmp(word, c->opts, c->op->opts_size) != 0) return false;
    word += (c->op->opts_size + 7) / 8;
    for (int i = 0; i < c->n_in; i++) {
        const ti_meta *m = c->in[i] ? &c->in[i]->m : NULL;

        if (*word++ != kind_word(m)) return false;
        for (int a = 0; m && a < m->shape.rank; a++, word += 2)
            if (word[0] != m->shape.dim[a] || word[1] != m->stride[a]) return false;
    }
    return true;
}

static void free_choice(tern_ctx *ctx, ti_choice *c)
{
    ti_free(ctx, c->plan);
    ti_free(ctx, c->views);
    ti_free(ctx, c);
}

/* Forgets what no program refers to. */
static void evict(tern_ctx *ctx)
{
    memset(ctx->recent, 0, sizeof ctx->recent);
    for (int i = 0; i < TI_CHOICES; i++)
        for (ti_choice **at = &ctx->choice[i]; *at;) {
            ti_choice *c = *at;
            if (c->refs) {
                at = &c->next;
                continue;
            }
            *at = c->next;
            free_choice(ctx, c);
            ctx->n_choices--;
        }
}

void ti_choices_close(tern_ctx *ctx)
{
    for (int i = 0; i < TI_CHOICES; i++)
        for (ti_choice *c = ctx->choice[i], *next; c; c = next) {
            next = c->next;
            free_choice(ctx, c);
        }
}

/* Shapes first, then a row. */
static ti_choice *new_choice(tern_ctx *ctx, ti_call *c, unsigned wanted, const int64_t *word, int n)
{
    ti_view few_in[TI_FEW], *in = few_in, out[TI_OUTS];
    chosen best = {0};
    ti_choice *made = NULL;

    memset(c->meta, 0, sizeof c->meta);
    if (c->op->shape(c)) return NULL;
    if (c->n_in > TI_FEW && !(in = ti_alloc(ctx, (size_t)c->n_in * sizeof *in))) return NULL;
    for (int i = 0; i < TI_OUTS; i++)
        out[i] = i < c->op->n_out && wanted >> i & 1 ? ti_view_at(&c->meta[i], NULL) : absent;
    ti_work w = {.op = c->op,
                 .opts = c->opts,
                 .n_in = c->n_in,
                 .in = in,
                 .out = out,
                 .device = ctx->device,
                 .fault = &ctx->fault,
                 .tuner = ti_tune_tuner(ctx),
                 .varies = ctx->varies};
    if (!ctx->backend->computes) best.row = &no_row;
    else {
        const char *first = ti_tune_choose(ctx, c, wanted, &w, in);

        if (ctx->error || choose_row(ctx, c, &w, in, first, &best) || ctx->error) goto out;
    }
    best.chain = best.row->chain ? best.row->chain(&w) : 1;
    if (ctx->n_choices >= CHOICES_MOST) evict(ctx);
    made = ti_alloc(ctx, sizeof *made + (size_t)n * sizeof *word);
    if (!made) goto out;
    ctx->n_choices++;
    made->n_words = n;
    made->row = best.row;
    made->plan = best.plan;
    made->packs = best.packs;
    made->scratch = best.scratch;
    made->chain = best.chain;
    memcpy(made->words, word, (size_t)n * sizeof *word);
    memcpy(made->out, c->meta, sizeof made->out);
    for (int i = 0; i < c->op->n_out; i++) made->out_bytes[i] = ti_bytes(&c->meta[i]);
out:
    if (!made) ti_free(ctx, best.plan);
    if (in != few_in) ti_free(ctx, in);
    return made;
}

ti_choice *ti_choose(tern_ctx *ctx, ti_call *c, unsigned wanted)
{
    int64_t few[KEY_FEW], *word = few;
    const size_t most = 4 + c->op->opts_size / 8 + (size_t)c->n_in * (1 + 2 * TERN_RANK);
    uint64_t hash = 0, weight = 0x9e3779b97f4a7c15u;
    ti_choice **recent = &ctx->recent[(uintptr_t)c->op / sizeof(ti_op) % TI_RECENT], *found;

    if (*recent && is_for(*recent, c, wanted)) return *recent;
    if (most > KEY_FEW && !(word = ti_alloc(ctx, most * sizeof *word))) return NULL;
    const int n = key_words(c, wanted, word);
    for (int i = 0; i < n; i++) { /* the products do not wait for each other */
        hash += ((uint64_t)word[i] + weight) * weight;
        weight += 0xbf58476d1ce4e5b8u; /* even: weights stay odd */
    }
    hash ^= hash >> 32;
    for (found = ctx->choice[hash % TI_CHOICES]; found; found = found->next)
        if (found->hash == hash && found->n_words == n &&
            memcmp(found->words, word, (size_t)n * sizeof *word) == 0)
            break;
    if (!found && (found = new_choice(ctx, c, wanted, word, n)) != NULL) {
        found->hash = hash;
        found->next = ctx->choice[hash % TI_CHOICES];
        ctx->choice[hash % TI_CHOICES] = found;
    }
    if (word != few) ti_free(ctx, word);
    return *recent = found;
}

/* ---- Running ---- */

static void view_to(ti_view *v, const tern_tensor *t)
{
    v->m.offset = t->m.offset;
    v->data = t->store->data;
    if (t->m.offset) v->data += t->m.offset * (int64_t)tern_type_size(t->m.type);
}

/* The views of a choice differ from call to call only in where the data lies. */
static ti_view *views_of(tern_ctx *ctx, const ti_call *c, ti_choice *how, tern_tensor *const *in,
                         tern_tensor *const *out)
{
    const int n = c->n_in + TI_OUTS;
    ti_view *v = how->views;

    if (!v) {
        if (!(v = ti_alloc(ctx, (size_t)n * sizeof *v))) return NULL;
        for (int i = 0; i < n; i++) {
            const int k = i - c->n_in;
            const tern_tensor *t = k < 0 ? in[i] : k < c->op->n_out ? out[k] : NULL;

            v[i] = t ? ti_view_at(&t->m, t->store->data) : absent;
        }
        return how->views = v;
    }
    for (int i = 0; i < c->n_in; i++)
        if (in[i]) view_to(&v[i], in[i]);
    for (int i = 0; i < c->op->n_out; i++)
        if (out[i]) view_to(&v[c->n_in + i], out[i]);
    return v;
}

static tern_status run_now(tern_ctx *ctx, const ti_call *c, ti_choice *how, tern_tensor *const *in,
                           tern_tensor *const *out)
{
    _Alignas(64) char small[1024];
    ti_view *const v = views_of(ctx, c, how, in, out);
    ti_block *block = NULL;

    if (!v) return ctx->error;
    ti_work w = {.op = c->op,
                 .opts = c->opts,
                 .plan = how->plan,
                 .n_in = c->n_in,
                 .in = v,
                 .out = v + c->n_in,
                 .scratch = small,
                 .device = ctx->device,
                 .fault = &ctx->fault};
    if (how->scratch > (ctx->backend->host_memory ? sizeof small : 0)) {
        block = ti_take(ctx, how->scratch, "scratch", c->op->name, "scratch: ");
        if (!block) return ctx->error;
        w.scratch = block->data;
    }
    ti_run_row(how->row, &w);
    (void)!ti_check_device(ctx, ctx->check_sync);
    ti_pool_free(ctx->pool, block);
    return ti_check_fault(ctx);
}

/* Makes the outputs and runs or notes the call, on inputs that lie as the row wants them. */
static tern_status call(tern_ctx *ctx, const ti_call *c, ti_choice *how, unsigned wanted,
                        tern_tensor *const *in, tern_tensor **out)
{
    bool empty = true;

    for (int i = 0; i < c->op->n_out; i++) {
        const ti_meta *m = &how->out[i];

        if (!(wanted >> i & 1)) continue;
        empty &= how->out_bytes[i] == 0;
        ti_storage *s = ti_storage_new(ctx, how->out_bytes[i]);
        out[i] = ti_tensor(ctx, m, s, NULL, i);
        ti_storage_drop(s);
        if (!out[i]) return ctx->error;
    }
    if (ctx->tracing) return ti_note(ctx, c->op, c->opts, c->n_in, in, out, how);
    if (empty) return TERN_OK; /* no kernel ever sees it */
    return run_now(ctx, c, how, in, out);
}

static tern_status call_packed(tern_ctx *ctx, const ti_call *c, ti_choice *how, unsigned wanted,
                               tern_tensor **out)
{
    tern_tensor *few[TI_FEW], **in = few;

    if (c->n_in > TI_FEW && !(in = ti_alloc(ctx, (size_t)c->n_in * sizeof *in))) return ctx->error;
    tern_frame_begin(ctx);
    tern_no_grad_begin(ctx); /* beneath the tape: the node keeps the inputs as they were given */
    for (int i = 0; i < c->n_in; i++) {
        const ti_layout want = wanted_layout(how->row, c->op, i);

        in[i] = c->in[i];
        if (in[i] && is_rounded(how->row, c, i)) in[i] = tern_round_to(ctx, in[i], ctx->math);
        if (!in[i] || lies(&in[i]->m, want)) continue;
        in[i] = want == TI_CHANNELS_LAST ? tern_channels_last(ctx, in[i]) : tern_copy(ctx, in[i]);
    }
    if (!ctx->error) call(ctx, c, how, wanted, in, out);
    tern_no_grad_end(ctx);
    ti_frame_end(ctx, c->op->n_out, out);
    if (in != few) ti_free(ctx, in);
    return ctx->error;
}

/* Views have no kernel and no line in a program: the output is the first input's storage. */
static tern_status call_view(tern_ctx *ctx, ti_call *c, tern_tensor **out)
{
    memset(&c->meta[0], 0, sizeof c->meta[0]);
    TI_TRY(c->op->view(c));
    out[0] = ti_tensor(ctx, &c->meta[0], c->in[0]->store, NULL, 0);
    return ctx->error;
}

tern_status ti_apply(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                     tern_tensor *const *in, unsigned wanted, tern_tensor **out)
{
    int64_t filled[TI_OPTS / 8];
    ti_call c; /* its metas are for who fills them: they are large */
    ti_choice *how;

    c.ctx = ctx;
    c.op = op;
    c.opts = filled;
    c.n_in = n_in;
    c.in = in;
    c.wants = NULL;
    c.scratch_below = 0;
    for (int i = 0; i < TI_OUTS; i++) c.out[i] = out[i] = NULL;
    if (!ctx) return TERN_E_ARGUMENT;
    if (ctx->error) return ctx->error;
    if (n_in < 1 && op->n_in < 0)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s: no inputs were given", op->name);
    if (!in && n_in > 0)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s: the list of inputs is NULL", op->name);
    for (int i = 0; i < n_in; i++)
        if (!in[i] && !(op->n_in >= 0 && op->optional >> i & 1))
            return ti_fail(ctx, TERN_E_ARGUMENT, "%s: %s is NULL", op->name,
                           op->n_in >= 0 && op->in[i] ? op->in[i] : "an input");
    for (int i = 0; i < n_in; i++)
        if (in[i] && in[i]->store->ctx != ctx) return ti_own(ctx, op->name, in[i]);
    if (op->opts_size) ti_opts_fill(op, filled, opts);

    if (op->view) {
        call_view(ctx, &c, out);
    } else if ((how = ti_choose(ctx, &c, wanted)) != NULL) {
        how->refs++; /* repacking may fill the cache */
        if (how->packs) call_packed(ctx, &c, how, wanted, out);
        else call(ctx, &c, how, wanted, in, out);
        how->refs--;
    }
    if (!ctx->error && op->grad && ctx->no_grad == 0) ti_record(ctx, op, filled, n_in, in, out);
    if (ctx->error) /* what was made dies with its frame */
        for (int i = 0; i < TI_OUTS; i++) out[i] = NULL;
    return ctx->error;
}

tern_tensor *ti_apply1(tern_ctx *ctx, const ti_op *op, const void *opts, int n_in,
                       tern_tensor *const *in)
{
    tern_tensor *out[TI_OUTS];

    ti_apply(ctx, op, opts, n_in, in, 1, out);
    return out[0];
}
