/*
 * summary.c - what a net consists of, from shapes alone: its forward pass is traced, not run.
 */
#include "nn/module.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tern/grad.h"

struct ti_summary {
    ti_summary *next;
    tern_module *net;
    tern_program *program;
    tern_summary_row *row;
    int cap;
    tern_summary_table table;
    char *text;
    size_t n_text, cap_text;
};

void ti_nn_summaries_free(tern_module *m)
{
    for (ti_summary *s = m->summaries, *next; s; s = next) {
        next = s->next;
        tern_free(m->ctx, s->row);
        tern_free(m->ctx, s->text);
        tern_free(m->ctx, s);
    }
    m->summaries = NULL;
}

static int64_t own_params(const tern_module *m)
{
    int64_t n = 0;

    for (int i = 0; i < m->n_slot; i++)
        if (m->slot[i].param) n += tern_count(m->slot[i].shape);
    return n;
}

static int64_t all_buffers(const tern_module *m)
{
    int64_t n = 0;

    for (int i = 0; i < m->n_slot; i++)
        if (!m->slot[i].param) n += tern_count(m->slot[i].shape);
    for (int i = 0; i < m->n_child; i++) n += all_buffers(m->child[i]);
    return n;
}

/* Called by tern_forward for each call; notes it if somebody asked. */
void ti_nn_note(tern_module *m, tern_tensor *x, tern_tensor *y)
{
    ti_summary *s = tern_module_root(m)->recording;
    const int64_t params = s ? own_params(m) : 0;

    if (!s || strcmp(m->kind, "flatten") == 0) return; /* which moves nothing */
    if (m->n_child && !params && !m->flops) return;
    if (!ti_nn_room(m->ctx, &s->row, s->table.n, &s->cap, sizeof *s->row)) return;
    const tern_shape out = tern_shape_of(y);
    const int64_t flops = m->flops ? m->flops(m, tern_shape_of(x), out) : 0;
    s->row[s->table.n++] = (tern_summary_row){m->path, m->kind, tern_module_text(m),
                                              out,     params,  flops / s->table.x.dim[0]};
}

static tern_status look(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    ti_summary *s = user;

    s->table.n = 0;
    tern_no_grad_begin(ctx);
    out[0] = tern_forward(ctx, s->net, in[0]);
    tern_no_grad_end(ctx);
    s->table.out = tern_shape_of(out[0]);
    return tern_error(ctx);
}

static ti_summary *summary_of(tern_ctx *ctx, tern_module *net, tern_shape x)
{
    ti_summary *s = net->summaries;

    while (s && !tern_same_shape(s->table.x, x)) s = s->next;
    if (s) return s;
    if (!(s = tern_alloc(ctx, sizeof *s))) return NULL;
    s->net = net;
    s->table.x = x;
    if (!(s->program = tern_record(ctx, look, s))) {
        tern_free(ctx, s);
        return NULL;
    }
    s->next = net->summaries;
    net->summaries = s;
    return s;
}

const tern_summary_table *tern_summary_rows(tern_ctx *ctx, tern_module *net, tern_shape x)
{
    char text[160];

    if (ti_nn_need(ctx, net, "summary")) return NULL;
    if (x.rank < 1 || x.rank > TERN_RANK || tern_count(x) < 1) {
        tern_fail(ctx, TERN_E_SHAPE, "summary: a batch of at least one image is wanted, not %s",
                  x.rank < 0 || x.rank > TERN_RANK ? "this rank" : tern_shape_text(text, x));
        return NULL;
    }
    if (tern_module_finish(ctx, net)) return NULL;
    ti_summary *s = summary_of(ctx, net, x);
    if (!s) return NULL;
    tern_module *root = tern_module_root(net);
    const tern_mode_t mode = tern_mode_of(ctx);

    tern_mode(ctx, TERN_EVAL);
    root->recording = s;
    const tern_status status = tern_program_plan(ctx, s->program, 1, &x, &root->type);
    root->recording = NULL;
    tern_mode(ctx, mode);
    if (status) return NULL;
    s->table.row = s->row;
    s->table.params = tern_module_size(net);
    s->table.buffers = all_buffers(net);
    s->table.flops = 0;
    for (int i = 0; i < s->table.n; i++) s->table.flops += s->row[i].flops;
    return &s->table;
}

/* ---- As text ---- */

__attribute__((format(printf, 3, 4))) static void put(tern_ctx *ctx, ti_summary *s, const char *how,
                                                      ...)
{
    char piece[512];
    va_list list;

    va_start(list, how);
    vsnprintf(piece, sizeof piece, how, list);
    va_end(list);
    const size_t n = strlen(piece);
    if (s->n_text + n + 1 > s->cap_text) {
        const size_t cap = 2 * (s->n_text + n + 1) + 1024;
        char *wide = tern_alloc(ctx, cap);
        if (!wide) return;
        if (s->n_text) memcpy(wide, s->text, s->n_text);
        tern_free(ctx, s->text);
        s->text = wide;
        s->cap_text = cap;
    }
    memcpy(s->text + s->n_text, piece, n + 1);
    s->n_text += n;
}

/* Characters on a terminal: bytes that begin one. */
static int width(const char *text)
{
    int n = 0;

    for (; *text; text++) n += (*text & 0xc0) != 0x80;
    return n;
}

static const char *with_commas(char text[32], int64_t x)
{
    char digits[32];
    const int n = snprintf(digits, sizeof digits, "%" PRId64, x);
    int to = 0;

    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) text[to++] = ',';
        text[to++] = digits[i];
    }
    text[to] = 0;
    return text;
}

/* 37383680 as "37.38", with a dot whatever the locale. */
static const char *millions(char text[48], int64_t x)
{
    const int64_t cents = x / 10000 + (x % 10000 >= 5000);
    char whole[32];

    snprintf(text, 48, "%s.%02d", with_commas(whole, cents / 100), (int)(cents % 100));
    return text;
}

/* One image of a batch: "32×28×28". */
static const char *extents(char text[160], tern_shape s)
{
    int n = snprintf(text, 160, "%s", s.rank < 2 ? "1" : "");

    for (int i = 1; i < s.rank && n < 140; i++)
        n += snprintf(text + n, 160 - (size_t)n, "%s%" PRId64, i > 1 ? "\xc3\x97" : "", s.dim[i]);
    return text;
}

typedef struct {
    int name, kind, out;
} widths;

static int larger(int a, int b) { return a > b ? a : b; }

static widths widths_of(const tern_summary_table *t)
{
    widths w = {5, 17, 8};
    char text[160];

    for (int i = 0; i < t->n; i++) {
        w.name = larger(w.name, width(t->row[i].name));
        w.kind = larger(w.kind, width(t->row[i].text));
        w.out = larger(w.out, width(extents(text, t->row[i].out)));
    }
    return w;
}

static void put_padded(tern_ctx *ctx, ti_summary *s, const char *text, int to)
{
    put(ctx, s, "%s%*s", text, larger(to - width(text), 0), "");
}

const char *tern_summary(tern_ctx *ctx, tern_module *net, tern_shape x)
{
    const tern_summary_table *t = tern_summary_rows(ctx, net, x);
    char params[32], flops[48], out[160];

    if (!t) return "";
    ti_summary *s = summary_of(ctx, net, x); /* there already: cannot fail */
    const widths w = widths_of(t);
    s->n_text = 0;
    put(ctx, s, "  #  %-*s   %-*s   %-*s%10s   %11s\n", w.name, "name", w.kind, "kind", w.out,
        "output", "params", "MFLOP/image");
    for (int i = 0; i < t->n; i++) {
        const tern_summary_row *r = &t->row[i];
        put(ctx, s, "%3d  ", i + 1);
        put_padded(ctx, s, r->name, w.name + 3);
        put_padded(ctx, s, r->text, w.kind + 3);
        extents(out, r->out);
        if (!r->params && !r->flops) {
            put(ctx, s, "%s\n", out);
            continue;
        }
        put_padded(ctx, s, out, w.out);
        put(ctx, s, "%10s", r->params ? with_commas(params, r->params) : "");
        if (r->flops) put(ctx, s, "   %11s", millions(flops, r->flops));
        put(ctx, s, "\n");
    }
    put(ctx, s, "%*s%10s   %11s   forward; a multiply-add counts 2\n",
        5 + w.name + 3 + w.kind + 3 + w.out, "", with_commas(params, t->params),
        millions(flops, t->flops));
    return tern_error(ctx) ? "" : s->text;
}
