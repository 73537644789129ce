/* options.c - the table of options, command lines, help. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/out.h"

#define WHOLE 0, 9e15
#define RUNS (V_TRAIN | V_EVAL | V_PREDICT)
#define NETS (V_TRAIN | V_SUMMARY | V_BENCH)

const option option_table[] = {
    /* train */
    {"data", 0, O_TEXT, V_TRAIN | V_EVAL | V_COMPARE, true, 0, 0, "NAME|DIR", NULL,
     "fashion-mnist, mnist, cifar10, cifar100, shapes, or a folder"},
    {"data-path", 0, O_TEXT, V_TRAIN | V_EVAL | V_COMPARE, true, 0, 0, "DIR", NULL,
     "where the files of a named data set lie"},
    {"model", 0, O_TEXT, V_TRAIN | V_SUMMARY | V_COMPARE, true, 0, 0, "NAME|FILE", "lenet5",
     "a network by name, or a config file that describes one"},
    {"resume", 0, O_TEXT, V_TRAIN, false, 0, 0, "RUN", NULL, "go on with a run, to the bit"},
    {"name", 0, O_TEXT, V_TRAIN, false, 0, 0, "NAME", NULL, "of the run's folder; must be new"},
    {"runs", 0, O_TEXT, V_TRAIN, true, 0, 0, "DIR", "runs", "where runs lie"},
    {"epochs", 0, O_INT, V_TRAIN, true, 1, 1e9, "N", NULL, "passes over the training data"},
    {"steps", 0, O_INT, V_TRAIN | V_COMPARE, true, 1, 9e15, "N", NULL,
     "end after N steps in all, resumes counted"},
    {"batch", 'b', O_COUNT, V_TRAIN | V_SUMMARY | V_BENCH | V_EVAL | V_COMPARE, true, 1, 1 << 20,
     "N|auto", NULL, "images in a step; of train and summary auto: as many as fit the memory"},
    {"memory", 0, O_SIZE, V_TRAIN | V_SUMMARY | V_BENCH, true, 1, 1e15, "SIZE", NULL,
     "the most that training may take, as 512MiB or 4GiB: steps are changed to fit"},
    {"optimizer", 0, O_CHOICE, V_TRAIN | V_SUMMARY | V_COMPARE, true, 0, 0, "adam|adamw|sgd",
     "adam", "update rule"},
    {"lr", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1e300, "X", NULL, "learning rate"},
    {"momentum", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1, "X", "0.9", "of sgd"},
    {"nesterov", 0, O_FLAG, V_TRAIN | V_COMPARE, true, 0, 0, NULL, NULL,
     "Nesterov's momentum, for sgd"},
    {"decay", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1e300, "X", NULL, "weight decay"},
    {"schedule", 0, O_CHOICE, V_TRAIN, true, 0, 0, "constant|step|cosine|plateau", "cosine",
     "of the learning rate"},
    {"warmup", 0, O_INT, V_TRAIN, true, WHOLE, "N", "0", "steps in which the rate rises"},
    {"lr-every", 0, O_INT, V_TRAIN, true, WHOLE, "N", "0", "steps between cuts (schedule step)"},
    {"lr-factor", 0, O_REAL, V_TRAIN, true, 0, 1, "X", "0", "of a cut (step 0.1, plateau 0.5)"},
    {"lr-patience", 0, O_INT, V_TRAIN, true, WHOLE, "N", "0", "epochs before a cut (plateau, 5)"},
    {"clip", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1e300, "X", NULL,
     "largest norm of the gradient"},
    {"clip-value", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1e300, "X", NULL,
     "largest value in the gradient"},
    {"smoothing", 0, O_REAL, V_TRAIN | V_COMPARE, true, 0, 1, "X", "0", "of the labels"},
    {"augment", 0, O_TEXT, V_TRAIN, true, 0, 0, "LIST", NULL,
     "none, or of flip, shift=2, rotate=10, scale=0.1, crop=4"},
    {"val-split", 0, O_INT, V_TRAIN, true, WHOLE, "N", "5000",
     "training images held out for validation; 0: none"},
    {"patience", 0, O_INT, V_TRAIN, true, WHOLE, "N", "0",
     "end after N epochs without a lower validation loss"},
    {"save-every", 0, O_INT, V_TRAIN, true, WHOLE, "N", "0",
     "steps between checkpoints, beside those of epochs"},
    {"log-every", 0, O_INT, V_TRAIN, true, 1, 9e15, "N", "50",
     "steps between lines of steps.jsonl"},
    {"allow-nonfinite", 0, O_FLAG, V_TRAIN, true, 0, 0, NULL, NULL, "go on when values overflow"},
    {"size", 0, O_TEXT, V_TRAIN | V_SUMMARY | V_BENCH | V_COMPARE, true, 0, 0, "CxHxW", NULL,
     "of images: folders are resized, nets made for it"},
    {"classes", 0, O_INT, V_SUMMARY | V_BENCH | V_COMPARE, true, 1, 1 << 20, "N", NULL,
     "outputs of the net"},
    {"samples", 0, O_INT, V_TRAIN | V_EVAL | V_COMPARE, true, 1, 1e9, "N", NULL,
     "of shapes to generate"},
    /* eval, predict */
    {"split", 0, O_CHOICE, V_EVAL, false, 0, 0, "test|val|train", "test", "part of the data"},
    {"top", 0, O_INT, V_PREDICT, false, 1, 1000, "K", "1", "classes to list for each image"},
    {"format", 0, O_CHOICE, V_PREDICT | V_BENCH, false, 0, 0, "text|csv|md|json|jsonl", "text",
     "of the answer: text or csv; of bench: md (text), csv, json, jsonl"},
    {"weights", 0, O_TEXT, V_EVAL | V_PREDICT | V_COMPARE, false, 0, 0, "FILE", NULL,
     "other weights than the run's best"},
    /* op */
    {"list", 0, O_FLAG, V_OP, false, 0, 0, NULL, NULL, "print all operations"},
    {"dtype", 0, O_CHOICE, V_OP, false, 0, 0, "f32|f64", NULL, "convert float inputs to this type"},
    {"grad", 0, O_LIST, V_OP, false, 0, 0, "FILE...", NULL, "cotangents, one for each output"},
    {"second", 0, O_LIST, V_OP, false, 0, 0, "FILE...", NULL,
     "vectors, one for each input, that multiply the second derivative"},
    {"output", 'o', O_TEXT, V_OP, false, 0, 0, "DIR", NULL, "where results are written"},
    /* bench */
    {"op", 0, O_TEXT, V_BENCH, false, 0, 0, "NAME", NULL, "only problems of this operation"},
    {"dir", 0, O_CHOICE, V_BENCH, false, 0, 0, "fwd|bwd|bwd-x|bwd-w|update", NULL,
     "only problems of this direction"},
    {"filter", 0, O_TEXT, V_BENCH, false, 0, 0, "TEXT", NULL, "only problems that hold this text"},
    {"problems", 0, O_TEXT, V_BENCH, false, 0, 0, "FILE|DIR", NULL,
     "other ones than bench/problems"},
    {"warm-up", 0, O_INT, V_BENCH, false, 0, 1e6, "N", "3", "runs that are not timed"},
    {"repeat", 0, O_INT, V_BENCH, false, 1, 1e7, "N", "10", "samples, at least"},
    {"seconds", 0, O_REAL, V_BENCH, false, 0, 1e6, "X", "0.3", "time a row at least this long"},
    {"rounds", 0, O_INT, V_BENCH, false, 1, 1000, "N", "5", "passes over all rows"},
    {"noise", 0, O_REAL, V_BENCH, false, 0, 1e6, "PERCENT", "1", "measure on above this noise"},
    {"timeout", 0, O_REAL, V_BENCH, false, 0, 1e6, "X", "1", "seconds to wait for low noise"},
    {"no-check", 0, O_FLAG, V_BENCH, false, 0, 0, NULL, NULL, "no comparison with ref"},
    {"save", 0, O_TEXT, V_BENCH, false, 0, 0, "FILE", NULL, "write all samples as JSON"},
    {"baseline", 0, O_TEXT, V_BENCH, false, 0, 0, "FILE", NULL, "compare with what --save wrote"},
    {"program", 0, O_CHOICE, V_SUMMARY, false, 0, 0, "text|dot|svg", NULL,
     "a training step, call by call, with lifetimes; alone: text"},
    {"plot", 0, O_TEXT, V_BENCH | V_SUMMARY, false, 0, 0, "FILE", NULL,
     "draw a roofline or bars; of summary the program: .svg, .png"},
    {"force", 0, O_FLAG, V_BENCH, false, 0, 0, NULL, NULL, "compare with other hardware, too"},
    /* compare */
    {"devices", 0, O_TEXT, V_COMPARE, false, 0, 0, "A,B", NULL,
     "one or two devices; each is compared with ref in f64"},
    {"fused", 0, O_FLAG, V_COMPARE, false, 0, 0, NULL, NULL,
     "calls that span layers, as training makes them; else each layer has its own"},
    {"inject", 0, O_TEXT, V_COMPARE, false, 0, 0, "TENSOR,rel=R", NULL,
     "a fault on the last device: LAYER.out, .dX, .dW, .db or .update, its largest element times "
     "1 + R"},
    /* info */
    {"origins", 0, O_FLAG, V_INFO, false, 0, 0, NULL, NULL, "every setting and where it is from"},
    {"ops", 0, O_FLAG, V_INFO, false, 0, 0, NULL, NULL, "the names of all operations"},
    /* global */
    {"device", 0, O_TEXT, V_ALL, true, 0, 0, "auto|cpu|ref|null|cuda[:N]", "auto", "what computes"},
    {"math", 0, O_CHOICE, V_ALL, true, 0, 0, "f32|tf32|bf16|f16", "f32",
     "products take operands rounded to this"},
    {"conv", 0, O_CHOICE, V_ALL, true, 0, 0, "auto|direct", "auto", "direct: without Winograd"},
    {"tune", 0, O_TEXT, V_TRAIN | V_EVAL | V_PREDICT | V_BENCH | V_COMPARE | V_OP, true, 0, 0,
     "FILE", NULL, "time kernels where several fit; the file keeps the choices"},
    {"nondeterministic", 0, O_FLAG, V_ALL, true, 0, 0, NULL, NULL,
     "admit plans of cuDNN and cuBLASLt whose results vary from run to run; nothing else varies"},
    {"threads", 0, O_INT, V_ALL, true, 1, 256, "N", NULL,
     "that compute; results do not depend on it"},
    {"seed", 0, O_INT, V_ALL, true, 0, 9.2e18, "N", NULL, "of all that is random (42)"},
    {"config", 0, O_TEXT, V_ALL, false, 0, 0, "FILE", NULL, "settings from its [train] section"},
    {"set", 0, O_TEXT, V_ALL, false, 0, 0, "KEY=VALUE", NULL, "any key of a config file"},
    {"json", 0, O_FLAG, V_ALL, false, 0, 0, NULL, NULL, "one JSON document on stdout"},
    {"quiet", 'q', O_FLAG, V_ALL, false, 0, 0, NULL, NULL, "no narration"},
    {"verbose", 'v', O_FLAG, V_ALL, false, 0, 0, NULL, NULL, "more narration"},
    {"color", 0, O_CHOICE, V_ALL, false, 0, 0, "auto|always|never", "auto", "colours"},
    {"progress", 0, O_CHOICE, V_ALL, false, 0, 0, "auto|tty|lines|never", "auto",
     "a redrawn line, or one line an epoch"},
    {"log", 0, O_TEXT, V_ALL, false, 0, 0, "FILE", NULL, "narration into a file, too"},
    {"help", 'h', O_FLAG, V_ALL, false, 0, 0, NULL, NULL, "this text"},
    {"version", 0, O_FLAG, V_ALL, false, 0, 0, NULL, NULL, "the version"},
};
const int option_count = sizeof option_table / sizeof option_table[0];

int option_named(const char *name)
{
    for (int i = 0; i < option_count; i++)
        if (strcmp(option_table[i].name, name) == 0) return i;
    return -1;
}

const setting *cli_setting(const cli *c, const char *name) { return &c->set[option_named(name)]; }

const char *cli_text(const cli *c, const char *name)
{
    const int i = option_named(name);

    return c->set[i].text ? c->set[i].text : option_table[i].built_in;
}

bool cli_given(const cli *c, const char *name) { return cli_setting(c, name)->text != NULL; }

bool cli_flag(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);

    return text && strcmp(text, "0") != 0;
}

int64_t cli_int(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);

    return text ? strtoll(text, NULL, 10) : 0;
}

double cli_real(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);

    return text ? strtod(text, NULL) : 0;
}

double cli_size(const cli *c, const char *name)
{
    const char *text = cli_text(c, name);

    return text ? size_parse(text) : 0;
}

void cli_default(cli *c, const char *name, const char *value)
{
    setting *s = &c->set[option_named(name)];

    if (s->text || !value) return;
    s->text = value;
    s->origin = "default";
}

void cli_force(cli *c, const char *name, const char *value)
{
    setting *s = &c->set[option_named(name)];

    s->text = value;
    s->origin = "the verb";
}

/* ---- nearest names --------------------------------------------------------------------------- */

/* Levenshtein's distance, neighbours swapped counts 1. */
static int distance(const char *a, const char *b)
{
    enum { MOST = 40 };
    const int n = (int)strlen(a), m = (int)strlen(b);
    int d[MOST + 1][MOST + 1];

    if (n > MOST || m > MOST) return MOST;
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);

            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 1;

    for (; *names; names++) {
        const int far = distance(word, *names);

        if (far <= least && far < (int)strlen(*names)) {
            if (best && far == least) continue;
            least = far;
            best = *names;
        }
    }
    return best;
}

static const char *nearest_option(const char *word, unsigned verbs)
{
    const char *names[sizeof option_table / sizeof option_table[0] + 1];
    int n = 0;

    for (int i = 0; i < option_count; i++)
        if (option_table[i].verbs & verbs) names[n++] = option_table[i].name;
    names[n] = NULL;
    return nearest(word, names);
}

int usage_error(const cli *c, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) text = NULL;
    va_end(args);
    error("%s", text ? text : format);
    free(text);
    if (c->verb) hint("tern help %s lists what it takes", c->verb->name);
    else hint("tern help lists the verbs");
    return EXIT_USAGE;
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool among(const char *choices, const char *word)
{
    const size_t n = strlen(word);

    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == '|' || at[n] == '\0')) return true;
    return false;
}

/* What is wrong with a value of a verb's option, or NULL. */
static char *wrong(const cli *c, const option *o, const char *text)
{
    const bool plans = c->verb && (c->verb->bit & (V_TRAIN | V_SUMMARY));
    char *end;

    errno = 0;
    if (o->kind == O_COUNT && plans && strcmp(text, "auto") == 0) return NULL;
    if (o->kind == O_INT || o->kind == O_COUNT) {
        const long long n = strtoll(text, &end, 10);
        if (end == text || *end || errno || *text == ' ')
            return cli_format("\"%s\" is not a whole number", text);
        if ((double)n < o->least || (double)n > o->most)
            return cli_format("%lld is not within %.15g and %.15g", n, o->least, o->most);
    } else if (o->kind == O_REAL) {
        const double x = strtod(text, &end);
        if (end == text || *end || !isfinite(x) || *text == ' ')
            return cli_format("\"%s\" is not a number", text);
        if (x < o->least || x > o->most)
            return cli_format("%g is not within %g and %g", x, o->least, o->most);
    } else if (o->kind == O_SIZE) {
        const double bytes = size_parse(text);
        if (!(bytes >= o->least && bytes <= o->most))
            return cli_format("\"%s\" is no size, as 1000000, 512MiB or 4GiB", text);
    } else if (o->kind == O_CHOICE) {
        if (!*text || !among(o->value, text))
            return cli_format("\"%s\" is none of %s", text, o->value);
    } else if (o->kind == O_FLAG) {
        if (!among("0|1", text)) return cli_format("\"%s\" is neither 0 nor 1", text);
    } else if (!*text) {
        return cli_copy("the value is empty");
    }
    return NULL;
}

/* Of `bench`: each number of a list or range. */
static char *wrong_list(const option *o, const char *text)
{
    int64_t *list;
    const int n = ints_parse(text, &list);
    char *why = n ? NULL : cli_format("\"%s\" is no number, list 1,2 or range 1..8*2", text);

    for (int k = 0; k < n && !why; k++)
        if ((double)list[k] < o->least || (double)list[k] > o->most)
            why = cli_format("%lld is not within %.15g and %.15g", (long long)list[k], o->least,
                             o->most);
    free(list);
    return why;
}

static bool put(cli *c, int i, const char *value, const char *origin)
{
    const option *o = &option_table[i];
    const bool number = o->kind == O_INT || o->kind == O_COUNT;
    const bool list =
        number && c->verb && c->verb->bit == V_BENCH && (strchr(value, ',') || strstr(value, ".."));
    char *why = list ? wrong_list(o, value) : wrong(c, o, value);

    if (why) {
        usage_error(c, "%s: %s", origin, why);
        free(why);
        return false;
    }
    c->set[i].text = value;
    c->set[i].origin = origin;
    return true;
}

bool cli_put(cli *c, const char *name, const char *value, const char *origin)
{
    const int i = option_named(name);

    if (i < 0 || !option_table[i].key) {
        const char *near = nearest_option(name, V_ALL);

        usage_error(c, "%s: there is no key \"%s\"%s%s%s", origin, name,
                    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
        return false;
    }
    if (c->set[i].text) return true;
    return put(c, i, value, origin);
}

/* ---- command lines --------------------------------------------------------------------------- */

static int by_letter(char letter)
{
    for (int i = 0; i < option_count; i++)
        if (option_table[i].letter && option_table[i].letter == letter) return i;
    return -1;
}

static bool add(cli *c, const char *word)
{
    if (!c->verb) {
        for (const verb *v = verb_table; v->name; v++)
            if (strcmp(v->name, word) == 0) {
                c->verb = v;
                return true;
            }
        const char *names[16] = {0};
        int n = 0;
        for (const verb *v = verb_table; v->name && n < 15; v++) names[n++] = v->name;
        const char *near = nearest(word, names);
        usage_error(c, "there is no verb \"%s\"%s%s%s", word, near ? "; did you mean \"" : "",
                    near ? near : "", near ? "\"?" : "");
        return false;
    }
    c->arg[c->n_arg++] = word;
    return true;
}

static bool field(const char *word)
{
    const size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz_0123456789");

    return n > 0 && word[n] == '=';
}

/* Takes the values of a list up to the next option or key=value; gives how many words it took. */
static int take_list(cli *c, int i, char **word, int n)
{
    setting *s = &c->set[i];
    int taken = 0;

    while (taken < n && (word[taken][0] != '-' || strcmp(word[taken], "-") == 0) &&
           !field(word[taken])) {
        s->list = cli_realloc(s->list, ((size_t)s->n_list + 1) * sizeof *s->list);
        s->list[s->n_list++] = word[taken++];
    }
    s->text = s->n_list ? s->list[0] : "";
    return taken;
}

static bool set_key(cli *c, const char *pair)
{
    const char *is = strchr(pair, '=');
    char *name;

    if (!is || is == pair) {
        usage_error(c, "--set %s: this is not KEY=VALUE", pair);
        return false;
    }
    name = cli_keep(cli_format("%.*s", (int)(is - pair), pair));
    return cli_put(c, name, is + 1, cli_keep(cli_format("--set %s", name)));
}

/* One option; *used: how many of the following words it took. */
static bool take(cli *c, const char *word, char **next, int n_next, int *used)
{
    const char *is = word[1] == '-' ? strchr(word, '=') : NULL;
    char *name = cli_keep(cli_format("%.*s", (int)(is ? is - word - 2 : (long)strlen(word)),
                                     word[1] == '-' ? word + 2 : word + 1));
    const int i = word[1] == '-' ? option_named(name) : word[2] ? -1 : by_letter(word[1]);
    const option *o = i < 0 ? NULL : &option_table[i];
    const char *value = is ? is + 1 : NULL;

    *used = 0;
    if (!o) {
        const char *near = nearest_option(name, c->verb ? c->verb->bit : V_ALL);
        usage_error(c, "there is no option %s%s%s%s", word, near ? "; did you mean --" : "",
                    near ? near : "", near ? "?" : "");
        return false;
    }
    if (o->kind == O_FLAG)
        return put(c, i, value ? value : "1", cli_keep(cli_format("--%s", o->name)));
    if (o->kind == O_LIST && !value) {
        *used = take_list(c, i, next, n_next);
        return true;
    }
    if (!value && strcmp(o->name, "config") == 0 && c->verb && c->verb->bit == V_INFO &&
        (n_next == 0 || next[0][0] == '-'))
        return put(c, option_named("origins"), "1", "--config");
    if (!value && strcmp(o->name, "program") == 0 && (n_next == 0 || next[0][0] == '-'))
        return put(c, i, "text", "--program");
    if (!value) {
        if (n_next == 0) {
            usage_error(c, "--%s needs a value: %s", o->name, o->value);
            return false;
        }
        value = next[0];
        *used = 1;
    }
    if (o->kind == O_LIST) return take_list(c, i, (char *[]){(char *)value}, 1) == 1;
    if (strcmp(o->name, "set") == 0) return set_key(c, value);
    return put(c, i, value, cli_keep(cli_format("--%s", o->name)));
}

bool cli_parse(cli *c, int argc, char **argv)
{
    bool options = true;

    c->set = cli_alloc((size_t)option_count * sizeof *c->set);
    c->arg = cli_alloc(((size_t)argc + 1) * sizeof *c->arg);
    for (int i = 1; i < argc; i++) {
        int used = 0;

        if (options && strcmp(argv[i], "--") == 0) options = false;
        else if (!options || argv[i][0] != '-' || argv[i][1] == '\0') {
            if (!add(c, argv[i])) return false;
        } else if (!take(c, argv[i], argv + i + 1, argc - i - 1, &used)) return false;
        i += used;
    }
    c->help = cli_flag(c, "help");
    c->version = cli_flag(c, "version");
    for (int i = 0; i < option_count && c->verb && !c->help; i++)
        if (c->set[i].text && !(option_table[i].verbs & c->verb->bit)) {
            if (c->set[i].origin && strncmp(c->set[i].origin, "--set", 5) == 0) continue;
            usage_error(c, "tern %s does not take --%s", c->verb->name, option_table[i].name);
            if (c->verb->bit == V_BENCH && strcmp(option_table[i].name, "model") == 0)
                hint("tern bench model %s times its steps, and each layer in them", c->set[i].text);
            return false;
        }
    return true;
}
