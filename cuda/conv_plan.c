/*
 * conv_plan.c - one convolution by cuDNN: which of the library's plans, whether it is trusted, and
 * its run.
 *
 * The plan is the one that the plan file names (plans.c), else the heuristics' first. With kernels
 * by the clock (tern/tune.h) it is the one that the file of choices names, else the fastest of some
 * ten; the plan file is left alone then.
 *
 * Filters come row-major (K,C,R,S) and go to the library as K,R,S,C: where the two differ they are
 * copied through scratch, dw on its way back.
 */
#include <stdio.h>
#include <string.h>

#include "dnn.h"
#include "tern/ops.h"

/* ---- Running ---- */

static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Row-major and channels-last are one where either has extent 1. */
static bool same_both_ways(const int64_t *w) { return w[1] == 1 || w[2] * w[3] == 1; }

static void copy(const ti_work *w, const ti_view *from, const ti_view *to)
{
    ti_inner c;

    ti_inner_call(&c, w, "copy", NULL, 1, from, *to);
    ti_own_row(&c.w)->run(&c.w);
}

void ti_conv_run(const ti_work *w)
{
    const ti_conv_single *s = w->plan;
    const int kind = s->k->key.kind;
    const ti_view *x = kind == TI_CONV_DX ? &w->out[0] : &w->in[0];
    const ti_view *f = kind == TI_CONV_DW ? &w->out[0] : &w->in[1];
    const ti_view *y = kind == TI_CONV_Y ? &w->out[0] : kind == TI_CONV_DX ? &w->in[0] : &w->in[1];
    ti_view turned = *f;

    (void)cudaSetDevice(w->device->index);
    if (s->copy) {
        turned.m = ti_channels_last_meta(f->m.type, f->m.shape);
        turned.packed = false;
        turned.data = (char *)w->scratch + s->work;
        if (kind != TI_CONV_DW) copy(w, f, &turned);
    }
    const cudnnStatus_t status = ti_dnn_run(&s->k->g, x->data, turned.data, y->data,
                                            s->k->key.bias ? w->in[2].data : NULL, w->scratch);
    if (status) {
        ti_cuda_fail(w->device, s->k->g.target.api->status_text(status), w->op->name);
        return;
    }
    ti_cuda_launched(w->device, w->op->name);
    if (s->copy && kind == TI_CONV_DW) copy(w, &turned, f);
    if (s->relu_after) ti_relu_after(w);
}

/* ---- The plan ---- */

static void drop_plan(ti_device *d, void *plan)
{
    (void)d;
    ti_dnn_drop(&((ti_conv_plan *)plan)->g);
}

double ti_conv_chain(const ti_conv *c)
{
    const double taps = (double)(c->w[2] * c->w[3]);

    const double K = c->kind == TI_CONV_Y    ? taps * (double)c->w[1]
                     : c->kind == TI_CONV_DX ? taps * (double)c->w[0] /* of one group: fewer */
                                             : (double)(c->y[0] * c->y[2] * c->y[3]);

    return ti_vendor_chain(K + 2, (ti_math)c->math);
}

static ti_conv_single single_of(ti_conv_plan *k, const ti_row *own, bool relu_after)
{
    const ti_conv *c = &k->key;
    ti_conv_single s = {.k = k, .own = own, .relu_after = relu_after};

    s.work = rounded((size_t)k->g.workspace);
    if (!same_both_ways(c->w))
        s.copy = rounded((size_t)(c->w[0] * c->w[1] * c->w[2] * c->w[3]) *
                         tern_type_size((tern_type)c->type));
    return s;
}

/* The engine that a file names at `where`, if the library still has it. */
static bool recall(const ti_work *w, ti_conv_plan *k, const ti_engine *e, const char *where)
{
    if (ti_dnn_recall(&k->g, &k->key, e)) {
        ti_vendor_tell(w->device, "%s: cudnn engine %lld, by %.200s", w->op->name,
                       (long long)e->engine, where);
        return true;
    }
    ti_vendor_tell(w->device, "%.200s: this plan is not used: %.80s", where, k->g.trouble);
    k->g.trouble[0] = 0;
    return false;
}

static bool by_plan_file(const ti_work *w, ti_conv_plan *k)
{
    char where[TI_VENDOR_TEXT];
    ti_engine e;

    return ti_plans_find(w->device, &k->key, &e, where) && recall(w, k, &e, where);
}

/* ---- By the clock ---- */

/* A plan on trial. */
typedef struct {
    ti_conv_plan plan;
    ti_conv_single single;
} runner;

static bool by_choices(const ti_work *w, ti_conv_plan *k, bool *named)
{
    char text[TI_PLAN_TEXT], where[TI_PLAN_WHERE];
    ti_engine e;

    *named = w->tuner->find(w->tuner, "cudnn", &k->key, sizeof k->key, text, where);
    if (!*named) return false;
    if (ti_engine_read(text, &e)) return recall(w, k, &e, where);
    ti_vendor_tell(w->device, "%.200s: this plan is not used: it is none of cuDNN's", where);
    return false;
}

/* The plans that can be finalised, at most TI_CANDIDATES; how many. */
static int line_up(ti_conv_plan *k, const ti_row *own, bool relu_after, runner *t, ti_candidate *c)
{
    ti_engine e[TI_CANDIDATES];
    const int offered = ti_dnn_list(&k->g, &k->key, e, TI_CANDIDATES);
    char text[TI_PLAN_TEXT];
    int n = 0;

    for (int i = 0; i < offered; i++) {
        ti_conv_plan *p = &t[n].plan;

        *p = (ti_conv_plan){.key = k->key};
        if (!ti_engine_text(&e[i], text, sizeof text) ||
            !ti_dnn_make(&p->g, &k->g.target, &p->key) || !ti_dnn_recall(&p->g, &p->key, &e[i])) {
            ti_dnn_drop(&p->g);
            continue;
        }
        t[n].single = single_of(p, own, relu_after);
        c[n] = (ti_candidate){.plan = &t[n].single,
                              .run = ti_conv_run,
                              .scratch = t[n].single.work + t[n].single.copy,
                              .varies = p->g.varies};
        snprintf(c[n].name, sizeof c[n].name, "cudnn engine %.60s", text);
        n++;
    }
    return n;
}

/* The fastest plan that our own row confirms becomes k's and is kept. */
static void race(const ti_work *w, ti_conv_plan *k, const ti_row *own, bool relu_after)
{
    runner *t = ti_cuda_host_alloc(TI_CANDIDATES * sizeof *t);
    ti_candidate c[TI_CANDIDATES];
    char text[TI_PLAN_TEXT];
    const char *why = "no memory to choose a plan";
    const int n = t ? line_up(k, own, relu_after, t, c) : 0;
    const int best =
        n > 0 ? ti_fastest(w, own, c, n, ti_conv_chain(&k->key), (ti_math)k->key.math, &why) : -1;

    if (t && n == 0) why = k->g.trouble[0] ? k->g.trouble : "the heuristics know no engine";
    if (best >= 0) {
        ti_dnn_drop(&k->g);
        k->g = t[best].plan.g;
        k->judged = true;
        (void)ti_engine_text(&k->g.engine, text, sizeof text);
        w->tuner->keep(w->tuner, "cudnn", &k->key, sizeof k->key, w->op->name, text,
                       c[best].seconds);
    } else snprintf(k->why, sizeof k->why, "cuDNN has no plan: %.200s", why);
    for (int i = 0; i < n; i++)
        if (i != best) ti_dnn_drop(&t[i].plan.g);
    ti_cuda_host_free(t);
}

/* ---- Preparing ---- */

/* Finds k->g's plan, or says in k->why that there is none. */
static void choose(const ti_work *w, ti_conv_plan *k, const ti_row *own, bool relu_after)
{
    ti_tally tally;
    bool named = false;

    if (w->tuner ? by_choices(w, k, &named) : by_plan_file(w, k)) return;
    if (w->tuner && !named) race(w, k, own, relu_after);
    else if (!ti_dnn_choose(&k->g, &k->key, &tally))
        snprintf(k->why, sizeof k->why, "cuDNN has no plan: %.200s", k->g.trouble);
}

/* The plan for c, made for the first time or found again. NULL: no memory. */
static ti_conv_plan *keep(const ti_work *w, const ti_conv *c, const ti_row *own, bool relu_after,
                          const char **why)
{
    ti_conv_plan *k = ti_vendor_find(w->device, c, sizeof *c);
    ti_dnn_target t = {0};

    if (k) return k;
    t.api = ti_cudnn_of(w->device, &t.handle, why);
    if (!t.api) return NULL;
    k = ti_vendor_keep(w->device, c, sizeof *c, sizeof *k, drop_plan);
    if (!k) {
        *why = "no memory for a plan";
        return NULL;
    }
    if (ti_dnn_make(&k->g, &t, c)) choose(w, k, own, relu_after);
    else snprintf(k->why, sizeof k->why, "cuDNN has no plan: %.200s", k->g.trouble);
    if (!k->why[0] && k->g.varies)
        ti_vendor_tell(w->device, "%s: cudnn engine %lld may vary from run to run", w->op->name,
                       (long long)k->g.engine.engine);
    return k;
}

static const char *choose_and_try(const ti_work *w, const ti_conv *c, ti_conv_single *to)
{
    ti_work trial = *w;
    const char *why = NULL;
    char who[60];
    ti_conv_plan *k = keep(w, c, to->own, to->relu_after, &why);

    if (!k || k->why[0]) return k ? k->why : why;
    *to = single_of(k, to->own, to->relu_after);
    if (k->judged) return NULL;
    trial.plan = to;
    trial.varies = k->g.varies;
    snprintf(who, sizeof who, "cudnn engine %lld%s", (long long)k->g.engine.engine,
             c->relu ? " with relu" : "");
    why = ti_trust(&trial, to->own, ti_conv_run, to->work + to->copy, ti_conv_chain(c),
                   (ti_math)c->math, who);
    k->judged = true;
    if (why) snprintf(k->why, sizeof k->why, "%s", why);
    else if (!w->tuner) ti_plans_add(w->device, c, &k->g.engine);
    return why;
}

const char *ti_conv_prepare(const ti_work *w, ti_conv *c, ti_conv_single *to, tern_math_t math)
{
    const char *why;

    c->math = math == TERN_MATH_F32 ? TI_MATH_F32 : TI_MATH_TF32;
    to->own = ti_own_row(w);
    if (!to->own) return "there is no row of our own to check it against";
    if ((why = choose_and_try(w, c, to)) == NULL || !c->relu) return why;
    c->relu = 0;
    to->relu_after = true;
    return choose_and_try(w, c, to);
}
