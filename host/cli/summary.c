/* summary.c - the verb `summary`: layers, parameters, FLOPs, memory plan, from shapes alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/json.h"
#include "cli/memory.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/summary.h"
#include "cli/verbs.h"

enum { MOST = 1 << 20 }; /* images in a batch, for --batch auto */

static void shape_of(json *js, const char *key, tern_shape s)
{
    json_open(js, key, '[');
    for (int i = 0; i < s.rank; i++) json_int(js, NULL, s.dim[i]);
    json_close(js, ']');
}

static void plan_of(json *js, const tern_memory_plan *p, const memory_job *m)
{
    json_open(js, "memory", '{');
    json_int(js, "batch", m->x.dim[0]);
    json_int(js, "weights", (int64_t)p->weights);
    json_int(js, "buffers", (int64_t)p->buffers);
    json_int(js, "gradients", (int64_t)p->gradients);
    json_int(js, "optimizer", (int64_t)p->optimizer);
    json_int(js, "inputs", (int64_t)p->inputs);
    json_int(js, "train_arena", (int64_t)p->train);
    json_int(js, "infer_arena", (int64_t)p->infer);
    json_int(js, "train_total", (int64_t)p->train_total);
    json_int(js, "infer_total", (int64_t)p->infer_total);
    json_int(js, "needed", (int64_t)p->needed);
    json_int(js, "calls_again", p->again);
    if (m->asked) json_int(js, "allowed", (int64_t)m->asked);
    else json_null(js, "allowed");
    json_close(js, '}');
}

static void document(const char *model, const tern_summary_table *t, const tern_memory_plan *p,
                     const memory_job *m)
{
    json js = {0};
    char *text;

    json_open(&js, NULL, '{');
    json_text(&js, "schema", "tern.summary/1");
    json_text(&js, "model", model);
    json_int(&js, "params", t->params);
    json_int(&js, "buffers", t->buffers);
    json_int(&js, "flops", t->flops);
    shape_of(&js, "input", t->x);
    shape_of(&js, "output", t->out);
    json_open(&js, "layers", '[');
    for (int i = 0; i < t->n; i++) {
        json_open(&js, NULL, '{');
        json_text(&js, "name", t->row[i].name);
        json_text(&js, "kind", t->row[i].kind);
        json_text(&js, "text", t->row[i].text);
        shape_of(&js, "output", t->row[i].out);
        json_int(&js, "params", t->row[i].params);
        json_int(&js, "flops", t->row[i].flops);
        json_close(&js, '}');
    }
    json_close(&js, ']');
    plan_of(&js, p, m);
    json_close(&js, '}');
    text = json_take(&js);
    result("%s", text);
    free(text);
}

static void plan_text(const char *what, double weights, double gradients, double optimizer,
                      double arena, double inputs, double total, int64_t batch)
{
    result("%s at batch %lld: weights %s", what, (long long)batch, mebibytes(weights));
    if (gradients > 0) result(" + gradients %s", mebibytes(gradients));
    if (optimizer > 0) result(" + optimizer %s", mebibytes(optimizer));
    result(" + activations and workspace %s + images %s = %s\n", mebibytes(arena),
           mebibytes(inputs), mebibytes(total));
}

static void training_text(const tern_memory_plan *p, const memory_job *m)
{
    const int64_t batch = m->x.dim[0];

    plan_text("training ", (double)(p->weights + p->buffers), (double)p->gradients,
              (double)p->optimizer, (double)(p->train - p->gradients), (double)p->inputs,
              (double)p->train_total, batch);
    if (p->again)
        result("%d calls of a step run twice, to keep within %s\n", p->again,
               mebibytes((double)m->asked));
}

static tern_optim *optimizer(const cli *c, tern_ctx *ctx, tern_module *net)
{
    const char *kind = cli_text(c, "optimizer");

    if (strcmp(kind, "sgd") == 0)
        return tern_sgd(ctx, net, &(tern_sgd_opts){.lr = 0.01, .momentum = 0.9});
    return strcmp(kind, "adamw") == 0 ? tern_adamw(ctx, net, NULL) : tern_adam(ctx, net, NULL);
}

/* The program of the planned step, as --program and --plot want it. */
static int draw(cli *c, const char *model, const memory_job *m, const tern_memory_plan *plan)
{
    const char *form = cli_text(c, "program");
    const size_t arena = m->asked ? m->asked - (plan->needed - plan->train) : 0;
    tern_program *program = tern_plan_step(m->ctx, m->net, m->opt, m->x, arena);

    if (!program || !summary_program(c, m->ctx, program, model, m->x.dim[0]))
        return tern_error(m->ctx) == TERN_OK ? EXIT_FAILED : session_failed(m->ctx, NULL);
    if (form && strcmp(form, "text") == 0) training_text(plan, m);
    return EXIT_DONE;
}

static int summarise(cli *c, tern_ctx *ctx)
{
    const char *model = cli_text(c, "model");
    tern_model_opts how, got;
    tern_memory_plan plan;
    const tern_summary_table *table;
    memory_job m;
    tern_module *net;
    tern_optim *opt;
    int status;

    cli_default(c, "batch", "64");

    if (!net_size(c, &how)) return EXIT_USAGE;
    net = net_open(ctx, model, &how, &got, &status);
    if (!net) return status;
    opt = optimizer(c, ctx, net);
    m = memory_of(c, ctx, net, opt, (tern_shape){4, {1, got.channels, got.height, got.width}});
    if (!opt) return session_failed(ctx, NULL);
    if ((status = memory_batch(c, &m, MOST)) != EXIT_DONE) return status;
    table = tern_summary_rows(ctx, net, m.x);
    if (m.asked) status = memory_plan(&m, &plan);
    else if (tern_plan_memory(ctx, &plan, net, opt, m.x) != TERN_OK)
        status = session_failed(ctx, NULL);
    if (status != EXIT_DONE) return status;
    if (cli_given(c, "program") || cli_given(c, "plot")) return draw(c, model, &m, &plan);
    if (out.json) {
        document(model, table, &plan, &m);
        return EXIT_DONE;
    }
    result("%s", tern_summary(ctx, net, m.x));
    training_text(&plan, &m);
    plan_text("inference", (double)(plan.weights + plan.buffers), 0, 0, (double)plan.infer,
              (double)plan.inputs, (double)plan.infer_total, m.x.dim[0]);
    return EXIT_DONE;
}

/* A model by name or file, or the folder of a run. */
static int named(cli *c, const char *what)
{
    char *config = cli_format("%s/config.cfg", what);
    const bool is_run = access(config, F_OK) == 0;
    const int status = is_run ? settings_from(c, config) : EXIT_DONE;

    free(config);
    if (!is_run && !cli_put(c, "model", what, "summary")) return EXIT_USAGE;
    return status;
}

int verb_summary(cli *c)
{
    tern_ctx *ctx;
    int status;

    if (out.json && (cli_given(c, "program") || cli_given(c, "plot")))
        return usage_error(c, "--program and --plot make no JSON");
    if (c->n_arg > 1) return usage_error(c, "summary takes one model");
    if (c->n_arg && (status = named(c, c->arg[0])) != EXIT_DONE) return status;
    ctx = session_open(c);
    return ctx ? session_close(ctx, summarise(c, ctx)) : EXIT_FAILED;
}
