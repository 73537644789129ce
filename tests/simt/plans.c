/*
 * plans.c - what the true cuDNN says of Tern's convolutions, without a GPU.
 *
 * A training step of every model is traced; each of its convolutions becomes the graph that the
 * rows make of it, for each GPU whose properties lie in tests/devices. For every one of them
 *
 *   - a plan of an engine compiled beforehand can be finalised, or
 *   - the heuristics know only engines that are compiled at run time: reported as not finalised, or
 *   - the library knows no fitting engine: reported with its reason; our own row takes the call.
 *
 * A chosen engine must be found again from its number and knobs, as the plan cache writes them.
 * usage: plans FOLDER [--list]; exit 77: there is no cuDNN.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/program.h"
#include "dnn.h"
#include "tern/tern.h"

enum { MOST = 400 };

static ti_cudnn api;
static ti_conv convs[MOST];
static char names[MOST][80];
static int n_convs, n_wrong, listing;

/* ---- The convolutions of all models ---- */

static void add(const char *model, const ti_line *l, const ti_conv *c)
{
    for (int i = 0; i < n_convs; i++)
        if (memcmp(&convs[i], c, sizeof *c) == 0) return;
    if (n_convs == MOST) {
        n_wrong++;
        fprintf(stderr, "more than %d convolutions\n", MOST);
        return;
    }
    snprintf(names[n_convs], sizeof names[0], "%s %s%s", model, l->op->name,
             c->kind == TI_CONV_DX   ? " (dx)"
             : c->kind == TI_CONV_DW ? " (dw)"
                                     : "");
    convs[n_convs++] = *c;
}

static void collect(const char *model, const ti_plan *p)
{
    for (int i = 0; i < p->n_line; i++) {
        const ti_line *l = &p->line[i];
        ti_view in[TI_FEW], out[TI_OUTS];
        ti_work w = {.op = l->op, .opts = l->opts, .n_in = l->n_in, .in = in, .out = out};
        ti_conv c[2];

        if (strncmp(l->op->name, "conv2d", 6) != 0) continue;
        for (int k = 0; k < l->n_in + l->op->n_out; k++) {
            const ti_arg *a = k < l->n_in ? &l->in[k] : &l->out[k - l->n_in];
            ti_view *v = k < l->n_in ? &in[k] : &out[k - l->n_in];

            *v = a->value < 0 ? (ti_view){.count = -1} : ti_view_at(&a->m, NULL);
        }
        const int n = ti_convs_of(&w, c);
        if (n == 0) n_wrong++, fprintf(stderr, "%s: %s is no convolution\n", model, l->op->name);
        for (int k = 0; k < n; k++) add(model, l, &c[k]);
    }
}

static bool collect_all(int64_t batch)
{
    tern_model_info m;

    for (int i = 0; tern_model_at(i, &m); i++) {
        tern_ctx *ctx = NULL;
        bool fine = tern_open(&ctx, "null") == TERN_OK;

        if (fine) {
            const tern_shape x = {4, {batch, m.own.channels, m.own.height, m.own.width}};
            tern_module *net = tern_model(ctx, m.name, NULL);
            tern_program *program = tern_plan_step(ctx, net, tern_adam(ctx, net, NULL), x, 0);

            fine = program != NULL;
            if (fine) collect(m.name, ti_last_plan(program));
        }
        if (!fine) fprintf(stderr, "%s: %s\n", m.name, tern_error_text(ctx));
        tern_error_clear(ctx);
        if (tern_close(ctx) != TERN_OK || !fine) return false;
    }
    return n_convs > 0;
}

/* ---- Devices ---- */

/* The braces behind "properties" in a file of tests/devices. */
static bool read_properties(const char *folder, const char *name, char *text, size_t room)
{
    char path[1000];
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *f = fopen(path, "r");
    const size_t n = f ? fread(text, 1, room - 1, f) : 0;

    if (f) fclose(f);
    text[n] = 0;
    char *from = strstr(text, "\"properties\"");
    char *open = from ? strchr(from, '{') : NULL, *close = open ? strchr(open, '}') : NULL;
    if (!close) {
        fprintf(stderr, "%s: no properties\n", path);
        return false;
    }
    close[1] = 0;
    memmove(text, open, strlen(open) + 1);
    return true;
}

static cudnnBackendDescriptor_t properties_of(const char *folder, const char *name)
{
    char text[4000], why[300] = "";
    cudnnBackendDescriptor_t d = NULL;

    if (!read_properties(folder, name, text, sizeof text)) return NULL;
    if (api.make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d) == CUDNN_STATUS_SUCCESS &&
        api.set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                (int64_t)strlen(text) + 1, text) == CUDNN_STATUS_SUCCESS &&
        api.finalize(d) == CUDNN_STATUS_SUCCESS)
        return d;
    api.last_error(why, sizeof why);
    fprintf(stderr, "%s: %s\n", name, why);
    if (d) (void)api.drop(d);
    return NULL;
}

/* ---- Plans ---- */

typedef struct {
    int finalised, compiled, unsupported;
    int64_t workspace;
    char why[240];
} score;

static void say(const char *device, int i, const char *text)
{
    const ti_conv *c = &convs[i];

    printf("%s  %s x=%lld,%lld,%lld,%lld w=%lld,%lld,%lld,%lld stride=%lld pad=%lld%s%s: %s\n",
           device, names[i], (long long)c->x[0], (long long)c->x[1], (long long)c->x[2],
           (long long)c->x[3], (long long)c->w[0], (long long)c->w[1], (long long)c->w[2],
           (long long)c->w[3], (long long)c->stride[0], (long long)c->pad[0],
           c->bias ? " bias" : "", c->relu ? " relu" : "", text);
}

/* The same engine from its number and knobs. */
static void recall(const ti_dnn_target *t, const ti_conv *c, const ti_dnn *chosen,
                   const char *device, int i)
{
    ti_dnn g;

    if (!ti_dnn_make(&g, t, c) || !ti_dnn_recall(&g, c, &chosen->engine) ||
        g.workspace != chosen->workspace) {
        n_wrong++;
        say(device, i, g.trouble[0] ? g.trouble : "recalled with another workspace");
    }
    ti_dnn_drop(&g);
}

static void try_one(const ti_dnn_target *t, const char *device, int i, ti_math math, score *to)
{
    ti_conv c = convs[i];
    ti_dnn g;
    ti_tally tally = {0};
    char text[400];

    c.math = (int)math;
    if (ti_dnn_make(&g, t, &c) && ti_dnn_choose(&g, &c, &tally)) {
        to->finalised++;
        if (g.workspace > to->workspace) to->workspace = g.workspace;
        recall(t, &c, &g, device, i);
        snprintf(text, sizeof text, "engine %lld, %lld bytes of workspace, %d offered, %d unfit",
                 (long long)g.engine.engine, (long long)g.workspace, tally.offered, tally.unfit);
        if (listing) say(device, i, text);
    } else if (tally.compiled > 0) {
        to->compiled++;
        snprintf(text, sizeof text, "compiled at run time, not finalised here: %s", g.trouble);
        say(device, i, text);
    } else {
        to->unsupported++;
        snprintf(to->why, sizeof to->why, "%s", g.trouble);
        snprintf(text, sizeof text, "our own row: %s", g.trouble);
        say(device, i, text);
        if (!g.trouble[0]) n_wrong++; /* a refusal carries its reason */
    }
    ti_dnn_drop(&g);
}

static void try_device(const char *folder, const char *name)
{
    const ti_dnn_target t = {&api, NULL, properties_of(folder, name)};

    if (!t.properties) {
        n_wrong++;
        return;
    }
    for (int math = TI_MATH_F32; math <= TI_MATH_TF32; math++) {
        score s = {0};

        for (int i = 0; i < n_convs; i++) try_one(&t, name, i, (ti_math)math, &s);
        printf("%-5s %-5s %3d convolutions: %3d finalised (workspace up to %lld KiB), %d compiled "
               "at run time, %d left to our own rows\n",
               name, math == TI_MATH_F32 ? "f32" : "tf32", n_convs, s.finalised,
               (long long)s.workspace / 1024, s.compiled, s.unsupported);
        if (s.finalised + s.compiled + s.unsupported != n_convs || s.finalised == 0) n_wrong++;
    }
    (void)api.drop(t.properties);
}

/* ---- Graphs whose verdict is known ---- */

static ti_conv known(tern_type type, bool relu)
{
    ti_conv c;

    memset(&c, 0, sizeof c);
    for (int a = 0; a < 2; a++) {
        c.x[a + 2] = c.y[a + 2] = 14;
        c.w[a + 2] = 3;
        c.stride[a] = c.pad[a] = c.dilation[a] = 1;
    }
    c.x[0] = c.y[0] = 32;
    c.x[1] = c.y[1] = c.w[0] = c.w[1] = 64;
    c.kind = TI_CONV_Y;
    c.type = type;
    c.relu = relu;
    c.math = TI_MATH_TF32;
    return c;
}

static void expect(const ti_dnn_target *t, const char *device, const char *what, const ti_conv *c,
                   bool wanted)
{
    ti_dnn g;
    ti_tally tally = {0};
    const bool got = ti_dnn_make(&g, t, c) && ti_dnn_choose(&g, c, &tally);

    printf("%-5s %s: %s%s\n", device, what, got ? "a plan" : "our own row: ", got ? "" : g.trouble);
    if (got != wanted || (!got && !g.trouble[0])) {
        n_wrong++;
        printf("%-5s %s: %s was expected\n", device, what, wanted ? "a plan" : "a refusal");
    }
    ti_dnn_drop(&g);
}

/* A T4 has nothing for bf16; the library has no graph of a convolution and ReLU without a bias, so
 * there the row has our own ReLU behind the convolution. */
static void try_known(const char *folder, const char *name)
{
    const ti_dnn_target t = {&api, NULL, properties_of(folder, name)};
    const ti_conv half = known(TERN_F16, false), brain = known(TERN_BF16, false),
                  relu = known(TERN_F32, true);

    if (!t.properties) return;
    expect(&t, name, "f16", &half, true);
    expect(&t, name, "bf16", &brain, strcmp(name, "t4") != 0);
    expect(&t, name, "f32, relu without a bias", &relu, false);
    (void)api.drop(t.properties);
}

/* What the library must refuse, or the test above shows nothing. */
static void refuses_nonsense(const char *folder)
{
    const ti_dnn_target t = {&api, NULL, properties_of(folder, "h100")};
    ti_conv c = convs[0];
    ti_dnn g;
    ti_tally tally;

    c.y[1]++;
    if (ti_dnn_make(&g, &t, &c) && ti_dnn_choose(&g, &c, &tally)) {
        n_wrong++;
        printf("a convolution of a wrong shape got a plan\n");
    }
    ti_dnn_drop(&g);
    if (t.properties) (void)api.drop(t.properties);
}

int main(int n_arg, char **arg)
{
    static const char *const devices[] = {"t4", "a100", "4090", "h100", "b200", "5090"};
    char why[200];
    const char *missing;
    void *lib = n_arg > 1 ? ti_library_open(TI_CUDNN, "", why) : NULL;

    if (n_arg < 2) {
        fprintf(stderr, "usage: plans FOLDER [--list]\n");
        return 2;
    }
    if (!lib || (missing = ti_library_load(TI_CUDNN, &api, lib)) != NULL) {
        printf("SKIPPED: cudnn: %s\n", lib ? missing : why);
        return 77;
    }
    listing = n_arg > 2 && strcmp(arg[2], "--list") == 0;
    if (!collect_all(32)) return 1;
    printf("cuDNN %zu; %d different convolutions; the devices' properties were written by hand\n",
           api.version(), n_convs);
    refuses_nonsense(arg[1]);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        try_known(arg[1], devices[i]);
        try_device(arg[1], devices[i]);
    }
    if (n_wrong) printf("%d failures\n", n_wrong);
    return n_wrong > 0;
}
