/*
 * op.c - option tables and the helpers of shape rules.
 */
#include "core/op.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Options ---- */

static size_t field_size(const ti_field *f) { return f->type == TI_INT ? sizeof(int) : 8; }

static int *flag_of(const ti_field *f, void *opts)
{
    return f->has ? (int *)(void *)((char *)opts + f->has - 1) : NULL;
}

static double field_get(const ti_field *f, const void *opts, int i)
{
    const char *at = (const char *)opts + f->offset + (size_t)i * field_size(f);

    return f->type == TI_INT   ? *(const int *)(const void *)at
           : f->type == TI_I64 ? (double)*(const int64_t *)(const void *)at
                               : *(const double *)(const void *)at;
}

static void field_put(const ti_field *f, void *opts, int i, double x)
{
    char *at = (char *)opts + f->offset + (size_t)i * field_size(f);

    if (f->type == TI_INT) *(int *)(void *)at = (int)x;
    else if (f->type == TI_I64) *(int64_t *)(void *)at = (int64_t)x;
    else *(double *)(void *)at = x;
}

void ti_opts_fill(const ti_op *op, void *to, const void *from)
{
    memset(to, 0, op->opts_size);
    for (const ti_field *f = op->fields; f && f->name; f++) {
        const size_t bytes = (size_t)f->count * field_size(f);
        int *flag = flag_of(f, to);
        bool given = flag && from && *flag_of(f, (void *)(uintptr_t)from);

        if (from) memcpy((char *)to + f->offset, (const char *)from + f->offset, bytes);
        for (int i = 0; i < f->count; i++) given |= flag && field_get(f, to, i) != 0;
        for (int i = 0; i < f->count && !given; i++)
            if (field_get(f, to, i) == 0) field_put(f, to, i, f->otherwise);
        /* A flag without a default tells "none" from "given"; one with a default is always set. */
        if (flag) *flag = given || f->otherwise != 0;
    }
}

/* One value: a word of the field's names, or a number of its type. */
static const char *parse_value(const ti_field *f, void *opts, int i, const char *text, char **end)
{
    char *at = (char *)opts + f->offset + (size_t)i * field_size(f);
    int k = 0;

    for (const char *n = f->names; n && *n; k++) {
        const size_t length = strcspn(n, "|");
        if (strncmp(text, n, length) == 0 && (text[length] == 0 || strchr(", ", text[length]))) {
            field_put(f, opts, i, k);
            *end = (char *)(uintptr_t)(text + length);
            return NULL;
        }
        n += length + (n[length] == '|');
    }
    errno = 0;
    if (f->type == TI_F64) {
        *(double *)(void *)at = strtod(text, end);
        return *end == text ? "a number is wanted" : NULL;
    }
    const long long n = strtoll(text, end, 10);
    if (*end == text) return f->names ? f->names : "a whole number is wanted";
    if (errno || (f->type == TI_INT && (n > INT32_MAX || n < INT32_MIN))) return "out of range";
    if (f->type == TI_INT) *(int *)(void *)at = (int)n;
    else *(int64_t *)(void *)at = n;
    return NULL;
}

static const ti_field *field_named(const ti_op *op, const char *name, size_t length)
{
    for (const ti_field *f = op->fields; f && f->name; f++)
        if (strlen(f->name) == length && strncmp(f->name, name, length) == 0) return f;
    return NULL;
}

static tern_status parse_field(tern_ctx *ctx, const ti_op *op, void *to, const char **text)
{
    const char *name = *text;
    const size_t length = strcspn(name, "= ");
    const ti_field *f = field_named(op, name, length);
    char *end;
    int n = 0;

    if (!f || name[length] != '=')
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s: there is no option \"%.*s\"", op->name,
                       (int)(length > 40 ? 40 : length), name);
    end = (char *)(uintptr_t)(name + length);
    do {
        const char *value = end + 1;
        const char *why = n < f->count ? parse_value(f, to, n, value, &end) : "too many values";
        if (!why && *end && !strchr(", ", *end)) why = "a number is wanted";
        if (why)
            return ti_fail(ctx, TERN_E_ARGUMENT, "%s: option %s, value %d \"%.20s\": %s", op->name,
                           f->name, n + 1, value, why);
        n++;
    } while (*end == ',');
    if (n == 1) /* one value for all: stride=2 */
        for (int i = 1; i < f->count && f->count == 2; i++)
            memcpy((char *)to + f->offset + (size_t)i * field_size(f), (char *)to + f->offset,
                   field_size(f));
    if (f->has) *flag_of(f, to) = 1;
    *text = end;
    return TERN_OK;
}

tern_status ti_opts_parse(tern_ctx *ctx, const ti_op *op, void *to, const char *text)
{
    memset(to, 0, op->opts_size);
    while (text && *text) {
        if (*text == ' ') text++;
        else TI_TRY(parse_field(ctx, op, to, &text));
    }
    return ctx ? tern_error(ctx) : TERN_OK;
}

/* Whether the text gives the option: a word of it is "name=…". */
static bool gives(const char *text, const char *name)
{
    const size_t length = strlen(name);

    for (; text && *text; text += strcspn(text, " "), text += strspn(text, " "))
        if (strncmp(text, name, length) == 0 && text[length] == '=') return true;
    return false;
}

bool ti_opts_agree(tern_ctx *ctx, const ti_op *op, const void *opts, const char *text)
{
    int64_t wanted[TI_OPTS / 8];

    if (ti_opts_parse(ctx, op, wanted, text)) return false;
    for (const ti_field *f = op->fields; f && f->name; f++)
        for (int i = 0; i < f->count && gives(text, f->name); i++)
            if (field_get(f, wanted, i) != field_get(f, opts, i)) return false;
    return true;
}

void ti_opts_inherit(const ti_op *op, void *to, const char *text, const ti_op *from_op,
                     const void *from)
{
    for (const ti_field *f = op->fields; f && f->name; f++) {
        const ti_field *own = field_named(from_op, f->name, strlen(f->name));

        if (!own || own->type != f->type || own->count != f->count || gives(text, f->name))
            continue;
        memcpy((char *)to + f->offset, (const char *)from + own->offset,
               (size_t)f->count * field_size(f));
        if (f->has) *flag_of(f, to) = !own->has || *flag_of(own, (void *)(uintptr_t)from);
    }
}

/* The word of a value among "none|relu|tanh"; length 0 if it has none. */
static int word_of(const char *names, int64_t value, const char **word)
{
    while (names && value-- > 0) {
        names = strchr(names, '|');
        if (names) names++;
    }
    *word = names;
    return names ? (int)strcspn(names, "|") : 0;
}

size_t ti_opts_text(const ti_op *op, const void *opts, char *text, size_t room)
{
    size_t n = 0;

    if (room) text[0] = 0;
    for (const ti_field *f = op->fields; f && f->name; f++) {
        const int *flag = flag_of(f, (void *)(uintptr_t)opts);
        bool differs = false;

        for (int i = 0; i < f->count; i++) differs |= field_get(f, opts, i) != f->otherwise;
        if (!differs && !(flag && *flag && f->otherwise == 0)) continue;
        for (int i = 0; i < f->count; i++) {
            const char *word;
            const char *at = (const char *)opts + f->offset + (size_t)i * field_size(f);
            char *to = n < room ? text + n : NULL;
            const size_t left = n < room ? room - n : 0;

            n += (size_t)snprintf(to, left, i ? "," : "%s%s=", n ? " " : "", f->name);
            to = n < room ? text + n : NULL;
            const size_t rest = n < room ? room - n : 0;
            const int length =
                f->type == TI_INT ? word_of(f->names, *(const int *)(const void *)at, &word) : 0;
            if (length) n += (size_t)snprintf(to, rest, "%.*s", length, word);
            else if (f->type == TI_INT)
                n += (size_t)snprintf(to, rest, "%d", *(const int *)(const void *)at);
            else if (f->type == TI_I64)
                n += (size_t)snprintf(to, rest, "%lld",
                                      (long long)*(const int64_t *)(const void *)at);
            else n += (size_t)snprintf(to, rest, "%.17g", *(const double *)(const void *)at);
        }
    }
    return n;
}

/* ---- Operations by name ---- */

const ti_op *ti_op_named(const char *name)
{
    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++)
            if (strcmp((*op)->name, name) == 0) return *op;
    return NULL;
}

static void describe(const ti_op *op, tern_op_info *info)
{
    static const char *const type_names[] = {"int", "i64", "f64"};

    memset(info, 0, sizeof *info);
    info->name = op->name;
    info->n_in = op->n_in;
    for (int i = 0; i < TI_FEW; i++) info->in[i] = op->in[i];
    info->optional = op->optional;
    info->n_out = op->n_out;
    for (int i = 0; i < op->n_out; i++) {
        info->out[i] = op->out[i].name;
        if (op->out[i].kind == TI_DIFF && op->grad) info->differentiable |= 1u << i;
    }
    for (const ti_field *f = op->fields; f && f->name && info->n_fields < 24; f++)
        info->field[info->n_fields++] =
            (tern_op_field){f->name, type_names[f->type], f->count, f->otherwise, f->names};
}

bool tern_op_at(int i, tern_op_info *info)
{
    const ti_op *best = NULL;
    const char *after = "";

    if (i < 0) return false;
    do { /* selection by name: the lists are short, and nobody is in a hurry here */
        best = NULL;
        for (const ti_op *const *const *list = ti_all_ops; *list; list++)
            for (const ti_op *const *op = *list; *op; op++)
                if (strcmp((*op)->name, after) > 0 &&
                    (!best || strcmp((*op)->name, best->name) < 0))
                    best = *op;
        if (best) after = best->name;
    } while (best && i-- > 0);
    if (best && info) describe(best, info);
    return best != NULL;
}

bool tern_op_named(const char *name, tern_op_info *info)
{
    const ti_op *op = name ? ti_op_named(name) : NULL;

    if (op && info) describe(op, info);
    return op != NULL;
}

tern_status tern_apply(tern_ctx *ctx, const char *name, const char *options, int n_in,
                       tern_tensor *const *in, tern_tensor **out)
{
    const ti_op *op = name ? ti_op_named(name) : NULL;
    int64_t opts[TI_OPTS / 8];
    tern_tensor *all[TI_OUTS], *copied;

    if (tern_error(ctx)) return tern_error(ctx);
    if (!op)
        return ti_fail(ctx, TERN_E_ARGUMENT, "apply: there is no operation \"%.60s\"",
                       name ? name : "");
    if ((!in && n_in > 0) || !out)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s: the list of %s is NULL", name,
                       out ? "inputs" : "results");
    for (int i = 0; i < op->n_out; i++) out[i] = NULL;
    if (op->n_in >= 0 ? n_in != op->n_in : n_in < 1)
        return ti_fail(ctx, TERN_E_ARGUMENT, "%s: %d inputs were given, %s%d are wanted", name,
                       n_in, op->n_in < 0 ? "at least " : "", op->n_in < 0 ? 1 : op->n_in);
    TI_TRY(ti_opts_parse(ctx, op, opts, options));
    if (op->viewable && n_in && in[0] && !op->viewable(in[0], opts)) {
        copied = tern_copy(ctx, in[0]);
        in = &copied;
    }
    tern_status status = ti_apply(ctx, op, opts, n_in, in, (1u << op->n_out) - 1, all);
    for (int i = 0; i < op->n_out; i++) out[i] = all[i];
    return status;
}

/* ---- Helpers of shape rules ---- */

static const char *in_name(const ti_call *c, int i, char text[24])
{
    if (i < TI_FEW && c->op->n_in >= 0 && c->op->in[i]) return c->op->in[i];
    snprintf(text, 24, "input %d", i);
    return text;
}

tern_status ti_need_types(const ti_call *c, int i, unsigned mask)
{
    char name[24], list[80] = "";
    size_t n = 0;

    if (!c->in[i] || mask >> c->in[i]->m.type & 1) return TERN_OK;
    for (int t = 0; t < TERN_N_TYPES; t++)
        if (mask >> t & 1)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "",
                                  tern_type_name((tern_type)t));
    return ti_fail(c->ctx, TERN_E_TYPE, "%s: %s is %s; wanted: %s", c->op->name,
                   in_name(c, i, name), tern_type_name(c->in[i]->m.type), list);
}

tern_status ti_same_types(const ti_call *c, unsigned inputs)
{
    int first = -1;
    char a[24], b[24];

    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i] || (i < 32 && !(inputs >> i & 1))) continue;
        if (first < 0) first = i;
        else if (c->in[i]->m.type != c->in[first]->m.type)
            return ti_fail(c->ctx, TERN_E_TYPE, "%s: %s is %s, but %s is %s", c->op->name,
                           in_name(c, first, a), tern_type_name(c->in[first]->m.type),
                           in_name(c, i, b), tern_type_name(c->in[i]->m.type));
    }
    return TERN_OK;
}

tern_status ti_need_rank(const ti_call *c, int i, int least, int most)
{
    char name[24], text[160], range[32];

    if (!c->in[i] || (c->in[i]->m.shape.rank >= least && c->in[i]->m.shape.rank <= most))
        return TERN_OK;
    if (least == most) snprintf(range, sizeof range, "%d", least);
    else if (most >= TERN_RANK) snprintf(range, sizeof range, "at least %d", least);
    else snprintf(range, sizeof range, "%d to %d", least, most);
    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %s is %s; wanted: %s axes", c->op->name,
                   in_name(c, i, name), tern_shape_text(text, c->in[i]->m.shape), range);
}

tern_status ti_misfit(const ti_call *c, int i, int j)
{
    char a[160], b[160], x[24], y[24];

    return ti_fail(c->ctx, TERN_E_SHAPE, "%s: %s %s does not fit %s %s", c->op->name,
                   in_name(c, i, x), tern_shape_text(a, c->in[i]->m.shape), in_name(c, j, y),
                   tern_shape_text(b, c->in[j]->m.shape));
}

void ti_like(ti_call *c, int i_out, int i_in)
{
    c->meta[i_out] = ti_follow_meta(c->in[i_in]->m.type, &c->in[i_in]->m);
}

tern_status ti_axis(const ti_call *c, int i, int axis, int *to)
{
    const int rank = c->in[i]->m.shape.rank;
    char text[160];

    *to = axis < 0 ? axis + rank : axis;
    if (*to >= 0 && *to < rank) return TERN_OK;
    *to = 0;
    return ti_fail(c->ctx, TERN_E_ARGUMENT, "%s: %s has no axis %d", c->op->name,
                   tern_shape_text(text, c->in[i]->m.shape), axis);
}

bool ti_broadcast(tern_shape a, tern_shape b, tern_shape *to)
{
    *to = (tern_shape){.rank = a.rank > b.rank ? a.rank : b.rank};
    for (int i = 0; i < to->rank; i++) {
        const int ia = i - to->rank + a.rank, ib = i - to->rank + b.rank;
        const int64_t p = ia < 0 ? 1 : a.dim[ia], q = ib < 0 ? 1 : b.dim[ib];

        if (p != q && p != 1 && q != 1) return false;
        to->dim[i] = p == 1 ? q : p;
    }
    return true;
}

tern_tensor *ti_fold(tern_ctx *ctx, tern_tensor *g, tern_tensor *like)
{
    int64_t axes = 0;

    if (!g || !like || ti_same_shape(&g->m.shape, &like->m.shape)) return g;
    for (int a = 0; a < g->m.shape.rank; a++) {
        const int b = a - (g->m.shape.rank - like->m.shape.rank);
        if (b < 0 || (like->m.shape.dim[b] == 1 && g->m.shape.dim[a] != 1)) axes |= 1ll << a;
    }
    if (axes) g = tern_sum(ctx, g, &(tern_reduce_opts){.axes = axes, .keep = 1});
    return tern_reshape(ctx, g, like->m.shape);
}
