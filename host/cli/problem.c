/*
 * problem.c - problems of `tern bench ops`: one operation, its shapes and options, a line each.
 *
 *   conv2d N=64 x=Nx64x32x32 w=64x64x3x3 pad=1 name="conv 3×3 64→64 32²"
 *
 * N is the batch: a letter in shapes and options ("N", "N*32"), so that it can be swept and so that
 * the comparison with ref can take a smaller one. A shape may be followed by what it is filled
 * with (":small" is normal by 0.05, ":unit", ":positive", ":index<10", ":bool", ":zeros", ":count";
 * standard normal if nothing is said) and "@packed": row-major, where images would lie
 * channels-last (filters w do not).
 * "from:OP" takes the output of that name of OP, on the inputs of this line. out=y,mean: only
 * these are made.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/bench.h"
#include "cli/out.h"

/* ---- Numbers with N -------------------------------------------------------------------------- */

/* "64", "N", "N*4"; *at moves behind it. False: it is none of these. */
static bool extent(const char **at, int64_t batch, int64_t *n)
{
    const bool letter = **at == 'N';
    long long x = 1;
    char *end;

    if (letter) (*at)++;
    if (!letter || **at == '*') {
        if (letter) (*at)++;
        if (**at < '0' || **at > '9') return false;
        x = strtoll(*at, &end, 10);
        *at = end;
    }
    if (x > (int64_t)1 << 32 || batch > 1 << 20) return false;
    *n = letter ? batch * x : x;
    return true;
}

static bool shape_of(const char *text, int64_t batch, tern_shape *shape)
{
    *shape = (tern_shape){0};
    if (strcmp(text, "scalar") == 0) return true;
    while (shape->rank < TERN_RANK && extent(&text, batch, &shape->dim[shape->rank])) {
        shape->rank++;
        if (!*text) return tern_count(*shape) >= 0;
        if (*text++ != 'x') return false;
    }
    return false;
}

/* The options with N put in, to be freed. */
static char *options_of(const problem *p, int64_t batch)
{
    char *text = cli_copy(""), *more;
    const char *at = p->options;

    while (*at) {
        const bool value = at != p->options && strchr("=,", at[-1]);
        int64_t n;

        if (value && *at == 'N' && extent(&at, batch, &n))
            more = cli_format("%s%lld", text, (long long)n);
        else more = cli_format("%s%c", text, *at++);
        free(text);
        text = more;
    }
    return text;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool wrong(const char *where, const char *field, const char *why)
{
    error("%s: %s: %s", where, field, why);
    return false;
}

static int input_named(const problem *p, const char *name)
{
    if (p->op.n_in < 0) return strcmp(name, "x") == 0 && p->n_in < INPUTS ? p->n_in : -1;
    for (int i = 0; i < p->op.n_in; i++)
        if (strcmp(p->op.in[i], name) == 0) return i;
    return -1;
}

static bool fits_draw(const char *draw)
{
    static const char *const draws[] = {"normal", "unit",  "positive", "small",
                                        "bool",   "zeros", "count"};
    char rest;
    long long n;

    for (size_t i = 0; i < sizeof draws / sizeof draws[0]; i++)
        if (strcmp(draw, draws[i]) == 0) return true;
    return sscanf(draw, "index<%lld%c", &n, &rest) == 1 && n > 0;
}

static bool take_input(problem *p, int i, const char *value, const char *token)
{
    problem_input *in = &p->in[i];
    tern_op_info from;
    tern_shape shape;
    char *at, *draw, *layout;

    if (in->shape || in->draw) return wrong(p->where, token, "this input was given before");
    if (p->op.n_in < 0 && i >= p->n_in) p->n_in = i + 1;
    if (strncmp(value, "from:", 5) == 0) {
        if (!tern_op_named(value + 5, &from)) return wrong(p->where, token, "no such operation");
        in->draw = cli_copy(value);
        return true;
    }
    at = cli_copy(value);
    if ((layout = strchr(at, '@')) != NULL) *layout++ = '\0';
    if ((draw = strchr(at, ':')) != NULL) *draw++ = '\0';
    in->shape = at;
    in->draw = cli_copy(draw ? draw : "normal");
    in->packed = layout != NULL;
    if (layout && strcmp(layout, "packed") != 0)
        return wrong(p->where, token, "after @ only \"packed\" is known");
    if (!fits_draw(in->draw))
        return wrong(p->where, token,
                     "normal, small, unit, positive, bool, zeros, count, index<NUMBER");
    if (!shape_of(at, p->batch ? p->batch : 1, &shape))
        return wrong(p->where, token, "this is no shape such as 64x3x3, Nx10 or scalar");
    if (!p->batch && strchr(at, 'N')) return wrong(p->where, token, "N=… must come first");
    return true;
}

static bool take_out(problem *p, const char *value, const char *token)
{
    while (*value) {
        const size_t n = strcspn(value, ",");
        int found = -1;

        for (int i = 0; i < p->op.n_out; i++)
            if (strlen(p->op.out[i]) == n && strncmp(p->op.out[i], value, n) == 0) found = i;
        if (found < 0) return wrong(p->where, token, "no such output");
        p->wanted |= 1u << found;
        value += n + (value[n] == ',');
    }
    return p->wanted != 0 || wrong(p->where, token, "no output is named");
}

static bool take_option(problem *p, const char *name, const char *token)
{
    for (int i = 0; i < p->op.n_fields; i++)
        if (strcmp(p->op.field[i].name, name) == 0) {
            char *more = cli_format("%s%s%s", p->options, *p->options ? " " : "", token);
            free(p->options);
            p->options = more;
            return true;
        }
    return wrong(p->where, token,
                 cli_keep(cli_format("%s has no input and no option \"%s\"", p->op.name, name)));
}

static bool take(problem *p, const char *token)
{
    const char *is = strchr(token, '=');
    char *name = is ? cli_keep(cli_format("%.*s", (int)(is - token), token)) : NULL;
    int i;

    if (!is || is == token || !is[1]) return wrong(p->where, token, "this is not KEY=VALUE");
    if (strcmp(name, "N") == 0) {
        char *end;
        p->batch = strtoll(is + 1, &end, 10);
        return (!*end && p->batch >= 1) ||
               wrong(p->where, token, "a batch of at least 1 is wanted");
    }
    if (strcmp(name, "out") == 0) return take_out(p, is + 1, token);
    i = input_named(p, name);
    return i >= 0 ? take_input(p, i, is + 1, token) : take_option(p, name, token);
}

static void free_problem(problem *p)
{
    for (int i = 0; i < INPUTS; i++) {
        free(p->in[i].shape);
        free(p->in[i].draw);
    }
    free(p->where);
    free(p->text);
    free(p->name);
    free(p->options);
}

/* Takes name="…" out of the line. */
static bool take_name(problem *p, char *text)
{
    char *from = strstr(text, " name=\""), *to;

    if (!from) return true;
    to = strchr(from + 7, '"');
    if (!to || to == from + 7) return wrong(p->where, "name", "a text in quotes is wanted");
    p->name = cli_format("%.*s", (int)(to - from - 7), from + 7);
    memmove(from, to + 1, strlen(to + 1) + 1);
    return true;
}

static bool complete(problem *p)
{
    if (p->op.n_in >= 0) p->n_in = p->op.n_in;
    for (int i = 0; i < p->n_in; i++)
        if (!p->in[i].draw && !(p->op.n_in >= 0 && p->op.optional >> i & 1))
            return wrong(p->where, p->op.in[i] ? p->op.in[i] : "x", "this input is missing");
    if (p->op.n_in < 0 && p->n_in == 0) return wrong(p->where, "x", "no input is given");
    if (!p->name) p->name = cli_copy(p->text);
    return true;
}

bool problem_add(problem_list *list, const char *text, const char *where)
{
    problem p = {.where = cli_copy(where), .options = cli_copy("")};
    char *line = cli_copy(text), *at = NULL, *token;
    bool fine = take_name(&p, line);

    while (fine && strlen(line) && strchr(" \t", line[strlen(line) - 1]))
        line[strlen(line) - 1] = 0;
    p.text = cli_copy(line + strspn(line, " \t"));
    token = strtok_r(line, " \t", &at);
    if (fine && !token) fine = wrong(where, "operation", "there is none");
    if (fine && !tern_op_named(token, &p.op)) fine = wrong(where, token, "no such operation");
    while (fine && (token = strtok_r(NULL, " \t", &at)) != NULL) fine = take(&p, token);
    fine = fine && complete(&p);
    free(line);
    if (!fine) {
        free_problem(&p);
        return false;
    }
    list->at = cli_realloc(list->at, (size_t)(list->n + 1) * sizeof *list->at);
    list->at[list->n++] = p;
    return true;
}

void problems_free(problem_list *list)
{
    for (int i = 0; i < list->n; i++) free_problem(&list->at[i]);
    free(list->at);
    *list = (problem_list){0};
}

void problems_keep(problem_list *list, int from, const char *op, const char *dir, const char *text)
{
    int kept = from;

    for (int i = from; i < list->n; i++) {
        const problem p = list->at[i];
        const bool keep = (!op || strcmp(op, p.op.name) == 0) &&
                          (!dir || strcmp(dir, problem_direction(&p)) == 0) &&
                          (!text || strstr(p.name, text) || strstr(p.text, text));

        if (keep) list->at[kept++] = p;
        else free_problem(&list->at[i]);
    }
    list->n = kept;
}

bool bench_each_line(const char *path, bench_line_fn each, void *user)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t room = 0;
    bool fine = true;

    if (!file) {
        error("%s: %s", path, strerror(errno));
        return false;
    }
    for (int line = 1; fine && getline(&text, &room, file) >= 0; line++) {
        char *where = cli_format("%s:%d", path, line);

        text[strcspn(text, "\r\n")] = '\0';
        if (text[strspn(text, " \t")] && text[strspn(text, " \t")] != '#')
            fine = each(user, where, text);
        free(where);
    }
    if (fine && ferror(file)) {
        error("%s: %s", path, strerror(errno));
        fine = false;
    }
    free(text);
    fclose(file);
    return fine;
}

static bool take_problem(void *list, const char *where, char *line)
{
    return problem_add(list, line, where);
}

static int is_list(const struct dirent *e)
{
    const size_t n = strlen(e->d_name);

    return n > 4 && strcmp(e->d_name + n - 4, ".txt") == 0;
}

bool problems_read(problem_list *list, const char *path)
{
    struct dirent **name;
    struct stat about;
    bool fine = true;
    int n;

    if (stat(path, &about) != 0 || !S_ISDIR(about.st_mode))
        return bench_each_line(path, take_problem, list);
    n = scandir(path, &name, is_list, alphasort);
    for (int i = 0; i < n; i++) {
        char *file = cli_format("%s/%s", path, name[i]->d_name);
        fine = fine && bench_each_line(file, take_problem, list);
        free(file);
        free(name[i]);
    }
    if (n >= 0) free(name);
    if (n <= 0) error("%s: %s", path, n < 0 ? strerror(errno) : "no .txt files");
    return fine && n > 0;
}

char *bench_path(const char *what)
{
    static const char *const tries[] = {"/../share/tern/bench", "/../../bench", "/../bench"};
    char exe[4096], *path = cli_format("bench/%s", what);
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    exe[n > 0 ? n : 0] = '\0';
    if (strrchr(exe, '/')) *strrchr(exe, '/') = '\0'; /* its folder */
    for (size_t i = 0; access(path, R_OK) != 0; i++) {
        free(path);
        if (i == sizeof tries / sizeof tries[0] || n <= 0) {
            error("bench/%s is neither here nor beside the command", what);
            return NULL;
        }
        path = cli_format("%s%s/%s", exe, tries[i], what);
    }
    return path;
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static tern_tensor *counter(tern_ctx *ctx, int64_t n)
{
    return tern_from_host(ctx, TERN_I64, &n, (tern_shape){0});
}

/* Whole numbers below `most`; bool: 0 or 1. */
static tern_tensor *whole(tern_ctx *ctx, tern_type type, tern_shape shape, int64_t most, int salt)
{
    const int64_t n = tern_count(shape);
    double *x = cli_alloc((size_t)(n + 1) * sizeof *x);
    uint64_t state = (uint64_t)salt * 977 + 1;
    tern_tensor *t;

    for (int64_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (double)((state >> 33) % (uint64_t)most);
    }
    t = tern_from_doubles(ctx, type, x, shape);
    free(x);
    return t;
}

static tern_tensor *filled(tern_ctx *ctx, const problem_input *in, tern_shape shape, int salt)
{
    tern_random_opts o = {.seed = (int64_t)tern_seed(ctx),
                          .purpose = salt,
                          .rank = shape.rank,
                          .type = TERN_F32,
                          .b = 1};
    long long most = 0;

    memcpy(o.dim, shape.dim, sizeof o.dim);
    if (strcmp(in->draw, "small") == 0) o.b = 0.05;
    if (strcmp(in->draw, "normal") == 0 || o.b != 1) return tern_normal(ctx, counter(ctx, 0), &o);
    if (strcmp(in->draw, "zeros") == 0) return tern_fill(ctx, TERN_F32, shape, 0);
    if (strcmp(in->draw, "count") == 0) return whole(ctx, TERN_I64, shape, 1, salt);
    if (strcmp(in->draw, "bool") == 0) return whole(ctx, TERN_BOOL, shape, 2, salt);
    if (sscanf(in->draw, "index<%lld", &most) == 1) return whole(ctx, TERN_I64, shape, most, salt);
    o.a = strcmp(in->draw, "positive") == 0 ? 0.5 : 0.05;
    o.b = strcmp(in->draw, "positive") == 0 ? 2 : 0.95;
    return tern_uniform(ctx, counter(ctx, 0), &o);
}

static int salt_of(const char *name)
{
    int salt = 7;

    while (*name) salt = (salt * 31 + *name++) & 0xffff;
    return salt;
}

/* Output `name` of the operation after "from:", on inputs of this problem by their names. */
static tern_tensor *from(tern_ctx *ctx, const problem *p, int i, const char *options,
                         tern_tensor *const *in)
{
    tern_tensor *given[16] = {0}, *made[8] = {0};
    tern_op_info op;

    tern_op_named(p->in[i].draw + 5, &op);
    for (int k = 0; k < op.n_in; k++)
        for (int j = 0; j < p->op.n_in; j++)
            if (strcmp(op.in[k], p->op.in[j]) == 0) given[k] = in[j];
    if (tern_apply(ctx, op.name, options, op.n_in, given, made) != TERN_OK) return NULL;
    for (int k = 0; k < op.n_out; k++)
        if (strcmp(op.out[k], p->op.in[i]) == 0) return made[k];
    tern_fail(ctx, TERN_E_ARGUMENT, "%s has no output %s", op.name, p->op.in[i]);
    return NULL;
}

tern_call *problem_call(tern_ctx *ctx, const problem *p, int64_t batch)
{
    tern_tensor *in[INPUTS] = {0};
    char *options = options_of(p, batch);
    tern_call *call = NULL;

    tern_frame_begin(ctx);
    for (int i = 0; i < p->n_in && tern_error(ctx) == TERN_OK; i++) {
        const problem_input *spec = &p->in[i];
        tern_shape shape;

        if (!spec->draw || strncmp(spec->draw, "from:", 5) == 0) continue;
        if (!shape_of(spec->shape, batch, &shape)) {
            tern_fail(ctx, TERN_E_SHAPE, "%s: %s with N=%lld is too large", p->where, spec->shape,
                      (long long)batch);
            break;
        }
        in[i] = filled(ctx, spec, shape, salt_of(p->op.in[i] ? p->op.in[i] : "x") + i);
        /* Variables lie row-major, and filters are variables. */
        const bool filter = p->op.in[i] && strcmp(p->op.in[i], "w") == 0;
        if (shape.rank == 4 && !spec->packed && !filter) in[i] = tern_channels_last(ctx, in[i]);
    }
    for (int i = 0; i < p->n_in && tern_error(ctx) == TERN_OK; i++)
        if (p->in[i].draw && strncmp(p->in[i].draw, "from:", 5) == 0)
            in[i] = from(ctx, p, i, options, in);
    if (tern_error(ctx) == TERN_OK)
        call = tern_call_open(ctx, p->op.name, options, p->n_in, in, p->wanted);
    tern_frame_end(ctx);
    free(options);
    return call;
}

const char *problem_direction(const problem *p)
{
    const char *name = p->op.name;
    const size_t n = strlen(name);
    const char *tail = n > 3 ? name + n - 3 : name;

    if (strcmp(tail, "_dx") == 0) return "bwd-x";
    if (strcmp(tail, "_dw") == 0) return "bwd-w";
    if (strcmp(tail + 1, "_d") == 0) return "bwd";
    if (strstr(name, "_update") || strcmp(name, "census") == 0) return "update";
    return "fwd";
}
