/* compare_inject.c - --inject NAME.TENSOR,rel=R of `compare`: which tensor is meant. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compare.h"
#include "cli/out.h"

/* "a, b, c" of the layers, or of the tensors of one; each once. */
static char *list_of(const comparison *k, const char *layer)
{
    char *all = cli_copy("");

    for (int i = 0; i < k->n; i++) {
        const tern_compare_tensor *t = &k->tensor[i].t;
        bool told = false;

        if (layer ? strcmp(t->layer, layer) != 0 : strcmp(t->layer, "step") == 0) continue;
        for (int j = 0; j < i && !told; j++)
            told = strcmp(k->tensor[j].t.layer, t->layer) == 0 &&
                   (!layer || strcmp(k->tensor[j].t.name, t->name) == 0);
        if (told) continue;
        char *more = cli_format("%s%s%s", all, *all ? ", " : "", layer ? t->name : t->layer);
        free(all);
        all = more;
    }
    return all;
}

/* dW and db are a layer's first weight and first bias, where it has several. */
static bool stands_for(const char *word, const char *name)
{
    return (strcmp(word, "dW") == 0 && strncmp(name, "dweight", 7) == 0) ||
           (strcmp(word, "db") == 0 && strncmp(name, "dbias", 5) == 0);
}

static int find(const comparison *k, const char *layer, const char *word)
{
    int found = -1;

    for (int i = k->n; i-- > 0;) {
        const tern_compare_tensor *t = &k->tensor[i].t;
        if (strcmp(t->layer, layer) == 0 && strcmp(t->name, word) == 0) found = i;
    }
    for (int i = 0; i < k->n && found < 0; i++)
        if (strcmp(k->tensor[i].t.layer, layer) == 0 && stands_for(word, k->tensor[i].t.name))
            found = i;
    return found;
}

/* Whether `tern summary` prints such a layer. */
static bool in_summary(const comparison *k, const char *layer)
{
    const tern_model_opts *o = &k->run.size;
    const tern_shape x = {4, {k->batch, o->channels, o->height, o->width}};
    const tern_summary_table *table = tern_summary_rows(k->run.ctx, k->run.net, x);

    for (int i = 0; table && i < table->n; i++)
        if (strcmp(table->row[i].name, layer) == 0) return true;
    tern_error_clear(k->run.ctx);
    return false;
}

static void no_such_layer(const comparison *k, const char *given, const char *layer)
{
    const char **names = cli_alloc(((size_t)k->n + 1) * sizeof *names), *near;
    char *all = list_of(k, NULL);

    for (int i = 0; i < k->n; i++) names[i] = k->tensor[i].t.layer;
    near = nearest(layer, names);
    if (in_summary(k, layer))
        usage_error(k->c, "--inject %s: %s has no call of its own: its result is a view%s", given,
                    layer, cli_flag(k->c, "fused") ? ", or it is fused" : "");
    else
        usage_error(k->c, "--inject %s: there is no layer \"%s\"%s%s%s", given, layer,
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    hint("layers: %s", all);
    free(all);
    free(names);
}

static bool read_tensor(comparison *k, const char *given, char *name)
{
    char *dot = strrchr(name, '.'), *all;

    if (!dot || dot == name || !dot[1]) {
        usage_error(k->c, "--inject %s: this is not NAME.out|.dX|.dW|.db|.update,rel=R", given);
        return false;
    }
    *dot = '\0';
    k->i_fault = find(k, name, dot + 1);
    if (k->i_fault >= 0) return true;
    all = list_of(k, name);
    if (!*all) {
        no_such_layer(k, given, name);
    } else {
        usage_error(k->c, "--inject %s: %s has no %s in this step", given, name, dot + 1);
        hint("%s has: %s", name, all);
    }
    free(all);
    return false;
}

bool inject_read(comparison *k)
{
    const char *given = cli_text(k->c, "inject");
    char *name, *comma, *end;
    bool ok;

    if (!given) return true;
    name = cli_copy(given);
    comma = strstr(name, ",rel=");
    k->rel = comma ? strtod(comma + 5, &end) : 0;
    if (!comma || end == comma + 5 || *end || !isfinite(k->rel) || k->rel == 0) {
        usage_error(k->c, "--inject %s: this is not NAME.out|.dX|.dW|.db|.update,rel=R, R not 0",
                    given);
        free(name);
        return false;
    }
    *comma = '\0';
    ok = read_tensor(k, given, name);
    free(name);
    if (!ok) return false;
    if (tern_compare_inject(k->run.ctx, k->compare, k->i_fault, k->n_side - 1, k->rel) == TERN_OK)
        return true;
    session_failed(k->run.ctx, "--inject");
    return false;
}
