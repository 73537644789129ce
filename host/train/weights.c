/* weights.c - a module's values in files, and their hash. */
#include <stdlib.h>
#include <string.h>

#include "tern/io.h"
#include "tern/program.h"
#include "tern/train.h"
#include "train/run.h"

/* The i-th of a module's variables, parameters first. */
tern_var *ti_net_var(tern_ctx *ctx, tern_module *net, int i)
{
    int n = 0;

    while (tern_param_at(ctx, net, n)) {
        if (n == i) return tern_param_at(ctx, net, n);
        n++;
    }
    return tern_error(ctx) == TERN_OK ? tern_buffer_at(ctx, net, i - n) : NULL;
}

tern_status ti_archive_put(tern_ctx *ctx, tern_archive *to, const char *prefix, tern_var *var)
{
    char name[TI_NAME];
    void *data;

    if (snprintf(name, sizeof name, "%s%s", prefix, tern_var_name(var)) >= (int)sizeof name)
        return tern_fail(ctx, TERN_E_ARGUMENT, "%s: a name that long cannot be saved",
                         tern_var_name(var));
    data = tern_archive_add(ctx, to, name, tern_var_type(var), tern_var_shape(var), NULL);
    if (!data) return tern_error(ctx);
    tern_frame_begin(ctx);
    (void)!tern_to_host(ctx, data, tern_read(ctx, var));
    tern_frame_end(ctx);
    return tern_error(ctx);
}

/* The array for a variable: NULL and an error if it is missing or does not fit. */
const tern_array *ti_archive_fits(tern_ctx *ctx, const tern_archive *from, const char *file,
                                  const char *prefix, tern_var *var)
{
    char name[TI_NAME], has[160], wants[160];
    const tern_array *array;

    snprintf(name, sizeof name, "%s%s", prefix, tern_var_name(var));
    array = tern_archive_get(from, name);
    if (!array) {
        tern_fail(ctx, TERN_E_FORMAT, "%s: has no %s", file, name);
        return NULL;
    }
    if (array->type == tern_var_type(var) && tern_same_shape(array->shape, tern_var_shape(var)))
        return array;
    tern_fail(ctx, TERN_E_FORMAT, "%s: %s is %s%s, but the network has %s%s", file, name,
              tern_type_name(array->type), tern_shape_text(has, array->shape),
              tern_type_name(tern_var_type(var)), tern_shape_text(wants, tern_var_shape(var)));
    return NULL;
}

tern_status ti_archive_take(tern_ctx *ctx, const tern_array *array, tern_var *var)
{
    tern_tensor *value;

    tern_frame_begin(ctx);
    value = tern_from_host(ctx, array->type, array->data, array->shape);
    if (value) (void)!tern_assign(ctx, var, value);
    tern_frame_end(ctx);
    return tern_error(ctx);
}

static tern_status put_all(tern_ctx *ctx, tern_module *net, tern_archive *to)
{
    tern_var *var;

    for (int i = 0; (var = ti_net_var(ctx, net, i)) != NULL; i++)
        if (ti_archive_put(ctx, to, "", var) != TERN_OK) return tern_error(ctx);
    return tern_error(ctx);
}

tern_status tern_save_with(tern_ctx *ctx, tern_module *net, const char *path,
                           const char *const *metadata)
{
    tern_archive *to;

    if (!net || !path) return tern_fail(ctx, TERN_E_ARGUMENT, "save: no module or no path");
    to = tern_archive_new(ctx);
    if (!to) return tern_error(ctx);
    for (; metadata && metadata[0] && metadata[1]; metadata += 2)
        if (tern_archive_meta_set(ctx, to, metadata[0], metadata[1]) != TERN_OK) break;
    if (tern_error(ctx) == TERN_OK && put_all(ctx, net, to) == TERN_OK)
        (void)!tern_archive_save(ctx, to, path);
    tern_archive_close(ctx, to);
    return tern_error(ctx);
}

tern_status tern_save(tern_ctx *ctx, tern_module *net, const char *path)
{
    return tern_save_with(ctx, net, path, NULL);
}

/* Counters that other frameworks do not have, or that only they have. */
static bool counts(tern_type type) { return type == TERN_I64 || type == TERN_I32; }

static bool known(tern_ctx *ctx, tern_module *net, const tern_array *array)
{
    static const char batches[] = "num_batches_tracked";
    const size_t n = strlen(array->name);
    tern_var *var;

    if (n >= sizeof batches - 1 && counts(array->type) &&
        strcmp(array->name + n - (sizeof batches - 1), batches) == 0)
        return true;
    for (int i = 0; (var = ti_net_var(ctx, net, i)) != NULL; i++)
        if (strcmp(tern_var_name(var), array->name) == 0) return true;
    return false;
}

static tern_status take_all(tern_ctx *ctx, tern_module *net, const char *path,
                            const tern_archive *from)
{
    tern_var *var;

    for (int i = 0; i < tern_archive_count(from); i++)
        if (!known(ctx, net, tern_archive_at(from, i)))
            return tern_fail(ctx, TERN_E_FORMAT, "%s: the network has no %s", path,
                             tern_archive_at(from, i)->name);
    for (int i = 0; (var = ti_net_var(ctx, net, i)) != NULL; i++) {
        if (counts(tern_var_type(var)) && !tern_archive_get(from, tern_var_name(var))) continue;
        if (!ti_archive_fits(ctx, from, path, "", var)) return tern_error(ctx);
    }
    for (int i = 0; (var = ti_net_var(ctx, net, i)) != NULL; i++) {
        const tern_array *array = tern_archive_get(from, tern_var_name(var));
        if (array && ti_archive_take(ctx, array, var) != TERN_OK) return tern_error(ctx);
    }
    return tern_error(ctx);
}

tern_status tern_load(tern_ctx *ctx, tern_module *net, const char *path)
{
    tern_archive *from;

    if (!net || !path) return tern_fail(ctx, TERN_E_ARGUMENT, "load: no module or no path");
    if (tern_module_finish(ctx, net) != TERN_OK) return tern_error(ctx);
    from = tern_archive_read(ctx, path);
    if (!from) return tern_error(ctx);
    (void)!take_all(ctx, net, path, from);
    tern_archive_close(ctx, from);
    return tern_error(ctx);
}

static int by_name(const void *a, const void *b)
{
    const tern_array *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

tern_status tern_weights_hash(tern_ctx *ctx, char text[33], tern_module *net)
{
    tern_archive *all = net && text ? tern_archive_new(ctx) : NULL;
    const tern_array **sorted = NULL;
    tern_hash *hash = NULL;
    int n;

    if (text) text[0] = '\0';
    if (!net || !text)
        return tern_fail(ctx, TERN_E_ARGUMENT, "weights_hash: no %s", net ? "text" : "module");
    if (!all || put_all(ctx, net, all) != TERN_OK) goto out;
    n = tern_archive_count(all);
    sorted = tern_alloc(ctx, ((size_t)n + 1) * sizeof *sorted);
    hash = sorted ? tern_hash_open(ctx) : NULL;
    if (!hash) goto out;
    for (int i = 0; i < n; i++) sorted[i] = tern_archive_at(all, i);
    qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    for (int i = 0; i < n; i++) tern_hash_add(hash, sorted[i]->data, sorted[i]->bytes);
    if (tern_hash_text(hash)) snprintf(text, 33, "%s", tern_hash_text(hash));
out:
    tern_hash_close(ctx, hash);
    tern_free(ctx, sorted);
    tern_archive_close(ctx, all);
    return tern_error(ctx);
}
