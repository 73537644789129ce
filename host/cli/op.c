/*
 * op.c - the verb `op`: one operation on arrays from files.
 *
 * With cotangents g, one for each output, it writes d<y,g>/dx as grad_INPUT.npy; with vectors v,
 * one for each input, also the derivatives of <d<y,g>/dx, v> in the inputs (second_INPUT.npy) and
 * in the cotangents (second_g_OUTPUT.npy). Everything goes through the public interface.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/json.h"
#include "cli/out.h"
#include "cli/session.h"
#include "cli/verbs.h"

enum { MOST = 64 };

typedef struct {
    cli *c;
    tern_ctx *ctx;
    tern_op_info info;
    char *options; /* "stride=2,1 pad=1,1" */
    const char *folder;
    int n_in;
    tern_tensor *in[MOST], *tracked[MOST]; /* tracked: NULL where it cannot be */
    tern_tensor *out[8];
    int n_written;
} call;

/* ---- the list -------------------------------------------------------------------------------- */

static void field_json(json *j, const tern_op_field *f)
{
    json_open(j, NULL, '{');
    json_text(j, "name", f->name);
    json_text(j, "type", f->type);
    json_int(j, "count", f->count);
    json_real(j, "default", f->otherwise);
    json_text(j, "names", f->names);
    json_close(j, '}');
}

static void op_json(json *j, const tern_op_info *o)
{
    json_open(j, NULL, '{');
    json_text(j, "name", o->name);
    json_bool(j, "variadic", o->n_in < 0);
    json_open(j, "inputs", '[');
    for (int i = 0; i < (o->n_in < 0 ? 1 : o->n_in); i++) {
        json_open(j, NULL, '{');
        json_text(j, "name", o->in[i] ? o->in[i] : "x");
        json_bool(j, "optional", o->optional >> i & 1);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "outputs", '[');
    for (int i = 0; i < o->n_out; i++) {
        json_open(j, NULL, '{');
        json_text(j, "name", o->out[i]);
        json_bool(j, "differentiable", o->differentiable >> i & 1);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "options", '[');
    for (int i = 0; i < o->n_fields; i++) field_json(j, &o->field[i]);
    json_close(j, ']');
    json_close(j, '}');
}

static void op_text(const tern_op_info *o)
{
    result("%-20s", o->name);
    if (o->n_in < 0) result(" x...");
    for (int i = 0; i < o->n_in; i++)
        result(o->optional >> i & 1 ? " [%s]" : " %s", o->in[i] ? o->in[i] : "x");
    result(" ->");
    for (int i = 0; i < o->n_out; i++) result(" %s", o->out[i]);
    for (int i = 0; i < o->n_fields; i++)
        result("%s%s=%s", i ? " " : "   ", o->field[i].name,
               o->field[i].names ? o->field[i].names : o->field[i].type);
    result("\n");
}

static int list_ops(void)
{
    tern_op_info info;
    json j = {0};
    char *text;

    if (!out.json) {
        for (int i = 0; tern_op_at(i, &info); i++) op_text(&info);
        return EXIT_DONE;
    }
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "tern.op/1");
    json_open(&j, "ops", '[');
    for (int i = 0; tern_op_at(i, &info); i++) op_json(&j, &info);
    json_close(&j, ']');
    json_close(&j, '}');
    text = json_take(&j);
    result("%s", text);
    free(text);
    return EXIT_DONE;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static bool absent(const char *word) { return strcmp(word, "-") == 0 || strcmp(word, "none") == 0; }

static bool is_option(const char *word)
{
    const size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz_0123456789");

    return n > 0 && word[n] == '=';
}

static bool is_float(tern_type type) { return type == TERN_F32 || type == TERN_F64; }

/* --dtype, for floats that compute. */
static tern_tensor *as_wanted(call *k, tern_tensor *x)
{
    const char *dtype = cli_text(k->c, "dtype");
    const tern_type want = dtype ? tern_type_named(dtype) : TERN_N_TYPES;

    if (!x || !dtype || tern_type_of(x) == want || tern_type_of(x) >= TERN_I64) return x;
    return tern_cast(k->ctx, x, want);
}

/* The arrays of a file, appended. */
static tern_status load(call *k, const char *file, tern_tensor **to, int *n)
{
    const size_t length = strlen(file);
    tern_archive *zip;

    if (absent(file)) {
        if (*n < MOST) to[(*n)++] = NULL;
        return tern_error(k->ctx);
    }
    if (length < 4 || strcmp(file + length - 4, ".npz") != 0) {
        if (*n >= MOST) return tern_fail(k->ctx, TERN_E_ARGUMENT, "more than %d inputs", MOST);
        to[*n] = as_wanted(k, tern_npy_load(k->ctx, file));
        (*n)++;
        return tern_error(k->ctx);
    }
    zip = tern_npz_read(k->ctx, file);
    for (int i = 0; zip && i < tern_archive_count(zip); i++) {
        const tern_array *a = tern_archive_at(zip, i);

        if (*n >= MOST) {
            tern_fail(k->ctx, TERN_E_ARGUMENT, "more than %d inputs", MOST);
            break;
        }
        to[(*n)++] = as_wanted(k, tern_from_host(k->ctx, a->type, a->data, a->shape));
    }
    tern_archive_close(k->ctx, zip);
    return tern_error(k->ctx);
}

static tern_status load_list(call *k, const char *flag, tern_tensor **to, int *n)
{
    const setting *s = cli_setting(k->c, flag);

    for (int i = 0; i < s->n_list; i++)
        if (load(k, s->list[i], to, n) != TERN_OK) break;
    return tern_error(k->ctx);
}

static tern_status arguments(call *k)
{
    k->options = cli_copy("");
    for (int i = 1; i < k->c->n_arg; i++) {
        if (is_option(k->c->arg[i])) {
            char *more = cli_format("%s%s%s", k->options, *k->options ? " " : "", k->c->arg[i]);
            free(k->options);
            k->options = more;
        } else if (load(k, k->c->arg[i], k->in, &k->n_in) != TERN_OK) {
            return tern_error(k->ctx);
        }
    }
    while (k->n_in < k->info.n_in && k->n_in < MOST) k->in[k->n_in++] = NULL;
    return TERN_OK;
}

/* ---- the call, its gradients, their products ------------------------------------------------- */

static tern_status write_array(call *k, const char *before, const char *name, tern_tensor *t)
{
    char *path = cli_format("%s/%s%s.npy", k->folder, before, name);
    const tern_status status = tern_npy_save(k->ctx, path, t);

    if (status == TERN_OK) {
        char shape[160];
        say("%s  %s%s\n", path, tern_type_name(tern_type_of(t)),
            tern_shape_text(shape, tern_shape_of(t)));
        k->n_written++;
    }
    free(path);
    return status;
}

static const char *input_name(const call *k, int i, char text[32])
{
    if (k->info.n_in >= 0 && k->info.in[i]) return k->info.in[i];
    snprintf(text, 32, "x%d", i);
    return text;
}

static const char *output_name(const call *k, int i)
{
    return k->info.out[i] ? k->info.out[i] : "y";
}

/* Outputs with their cotangents. Those that were not given count as zero. */
static int outputs_of(call *k, tern_tensor **g, int n_g, tern_tensor **y, tern_tensor **gy,
                      int *which)
{
    int n = 0;

    for (int i = 0; i < k->info.n_out && i < n_g; i++) {
        if (!g[i]) continue;
        if (!k->out[i]) {
            tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: no output %s to take a gradient of",
                      k->info.name, output_name(k, i));
            return -1;
        }
        if (!(k->info.differentiable >> i & 1)) {
            tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: output %s is not differentiable", k->info.name,
                      output_name(k, i));
            return -1;
        }
        y[n] = k->out[i];
        gy[n] = g[i];
        which[n++] = i;
    }
    return n;
}

static tern_status second(call *k, int n_y, tern_tensor **gy, const int *which_y, int n_x,
                          tern_tensor **x, const int *which_x, tern_tensor **d)
{
    tern_tensor *v[MOST] = {0}, *from[MOST], *by[MOST], *into[2 * MOST], *result_of[2 * MOST];
    char name[32];
    int n_v = 0, n = 0;

    if (load_list(k, "second", v, &n_v) != TERN_OK) return tern_error(k->ctx);
    if (n_v > k->n_in)
        return tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: %d vectors for %d inputs", k->info.name, n_v,
                         k->n_in);
    for (int i = 0; i < n_x; i++) {
        if (!v[which_x[i]]) continue;
        from[n] = d[i];
        by[n++] = v[which_x[i]];
    }
    if (n == 0)
        return tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: no vector for a differentiable input",
                         k->info.name);
    for (int i = 0; i < n_x; i++) into[i] = x[i];
    for (int i = 0; i < n_y; i++) into[n_x + i] = gy[i];
    if (tern_grads(k->ctx, result_of, n, from, by, n_x + n_y, into) != TERN_OK)
        return tern_error(k->ctx);
    for (int i = 0; i < n_x; i++)
        if (write_array(k, "second_", input_name(k, which_x[i], name), result_of[i]) != TERN_OK)
            return tern_error(k->ctx);
    for (int i = 0; i < n_y; i++)
        if (write_array(k, "second_g_", output_name(k, which_y[i]), result_of[n_x + i]) != TERN_OK)
            return tern_error(k->ctx);
    return TERN_OK;
}

static tern_status gradients(call *k)
{
    const bool twice = cli_given(k->c, "second");
    tern_tensor *g[MOST] = {0}, *y[8], *gy[8], *x[MOST], *d[MOST];
    int which_y[8], which_x[MOST], n_g = 0, n_y, n_x = 0;
    char name[32];

    if (load_list(k, "grad", g, &n_g) != TERN_OK) return tern_error(k->ctx);
    if (n_g > k->info.n_out)
        return tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: %d cotangents for %d outputs", k->info.name,
                         n_g, k->info.n_out);
    n_y = outputs_of(k, g, n_g, y, gy, which_y);
    if (n_y < 0) return tern_error(k->ctx);
    if (n_y == 0)
        return tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: no cotangent was given", k->info.name);
    for (int i = 0; i < n_y && twice; i++) gy[i] = tern_track(k->ctx, gy[i]);
    for (int i = 0; i < k->n_in; i++)
        if (k->tracked[i]) {
            which_x[n_x] = i;
            x[n_x++] = k->tracked[i];
        }
    if (n_x == 0)
        return tern_fail(k->ctx, TERN_E_ARGUMENT, "%s: no input is of floats", k->info.name);
    if (tern_grads(k->ctx, d, n_y, y, gy, n_x, x) != TERN_OK) return tern_error(k->ctx);
    for (int i = 0; i < n_x; i++)
        if (write_array(k, "grad_", input_name(k, which_x[i], name), d[i]) != TERN_OK)
            return tern_error(k->ctx);
    return twice ? second(k, n_y, gy, which_y, n_x, x, which_x, d) : TERN_OK;
}

static tern_status apply(call *k)
{
    const bool grads = cli_given(k->c, "grad");
    tern_tensor *in[MOST] = {0};

    for (int i = 0; i < k->n_in; i++) {
        in[i] = k->in[i];
        if (!grads || !in[i] || !is_float(tern_type_of(in[i]))) continue;
        in[i] = k->tracked[i] = tern_track(k->ctx, in[i]);
    }
    if (tern_error(k->ctx) != TERN_OK) return tern_error(k->ctx);
    if (tern_apply(k->ctx, k->info.name, k->options, k->n_in, in, k->out) != TERN_OK)
        return tern_error(k->ctx);
    for (int i = 0; i < k->info.n_out; i++)
        if (k->out[i] && write_array(k, "", output_name(k, i), k->out[i]) != TERN_OK)
            return tern_error(k->ctx);
    return grads ? gradients(k) : TERN_OK;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static int no_such_op(const char *name)
{
    const char *names[512] = {0}, *near;
    tern_op_info info;
    char *all = cli_copy("");

    for (int i = 0; i < 511 && tern_op_at(i, &info); i++) {
        char *more = cli_format("%s%s%s", all, i ? " " : "", info.name);
        free(all);
        all = more;
        names[i] = info.name;
    }
    near = nearest(name, names);
    error("there is no operation \"%s\"%s%s%s", name, near ? "; did you mean \"" : "",
          near ? near : "", near ? "\"?" : "");
    hint("operations: %s", all);
    free(all);
    return EXIT_FAILED;
}

static void done(const call *k)
{
    json j = {0};
    char *text;

    if (!out.json) return;
    json_open(&j, NULL, '{');
    json_text(&j, "schema", "tern.op/1");
    json_text(&j, "op", k->info.name);
    json_text(&j, "options", k->options);
    json_text(&j, "device", tern_device(k->ctx));
    json_text(&j, "folder", k->folder);
    json_int(&j, "written", k->n_written);
    json_close(&j, '}');
    text = json_take(&j);
    result("%s", text);
    free(text);
}

int verb_op(cli *c)
{
    call k = {.c = c, .folder = cli_text(c, "output")};
    int status = EXIT_DONE;

    if (cli_flag(c, "list")) return list_ops();
    if (c->n_arg == 0) return usage_error(c, "op needs the name of an operation");
    if (!tern_op_named(c->arg[0], &k.info)) return no_such_op(c->arg[0]);
    if (!k.folder) return usage_error(c, "op needs a folder for its results: -o DIR");
    if (cli_given(c, "second") && !cli_given(c, "grad"))
        return usage_error(c, "--second needs --grad");
    k.ctx = session_open(c);
    if (!k.ctx) return EXIT_FAILED;
    if (mkdir(k.folder, 0777) != 0 && errno != EEXIST) {
        error("%s: %s", k.folder, strerror(errno));
        status = EXIT_FAILED;
    } else if (arguments(&k) != TERN_OK || apply(&k) != TERN_OK) {
        status = session_failed(k.ctx, NULL);
    } else {
        done(&k);
    }
    free(k.options);
    return session_close(k.ctx, status);
}
