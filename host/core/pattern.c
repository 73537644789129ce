/*
 * pattern.c - patterns of lines: their text, and where they fit.
 *
 * A pattern is matched from its last line up: a value that a later line reads leads to the one line
 * that makes it, so there is little to try.
 */
#include "core/pattern.h"

#include <string.h>

/* ---- Text ---- */

int ti_pattern_length(const char *text)
{
    int n = 1;

    for (; *text; text++) n += *text == ';';
    return n;
}

/* The next word up to `end`, without the commas around it; its length, 0 for none. */
static size_t word(const char **at, const char *end)
{
    const char *from = *at;

    while (from < end && (*from == ' ' || *from == ',')) from++;
    *at = from;
    while (from < end && *from != ' ') from++;
    const size_t n = (size_t)(from - *at);
    return n && (*at)[n - 1] == ',' ? n - 1 : n;
}

/* The number of the name, a new one if need be; -1 for "-", -2: no room. */
static int name_of(ti_names *names, const char *text, size_t n)
{
    if (n == 1 && *text == '-') return -1;
    for (int i = 0; i < names->n; i++)
        if (strlen(names->text[i]) == n && memcmp(names->text[i], text, n) == 0) return i;
    if (names->n == TI_NAMES || n >= sizeof names->text[0]) return -2;
    memcpy(names->text[names->n], text, n);
    names->text[names->n][n] = 0;
    return names->n++;
}

static bool parse_line(const char *at, const char *end, ti_names *names, ti_pattern_line *to)
{
    char op[32] = "";
    size_t n;

    *to = (ti_pattern_line){0};
    for (; (n = word(&at, end)) > 0 && *at != '='; at += n) { /* outputs, up to a lone = */
        if (to->n_out == TI_OUTS || (to->out[to->n_out++] = name_of(names, at, n)) < -1)
            return false;
    }
    at += n;
    if (n != 1 || (n = word(&at, end)) == 0 || n >= sizeof op) return false;
    memcpy(op, at, n);
    at += n;
    if (!(to->op = ti_op_named(op)) || to->n_out > to->op->n_out) return false;
    for (; (n = word(&at, end)) > 0 && !memchr(at, '=', n); at += n)
        if (to->n_in == TI_FEW || (to->in[to->n_in++] = name_of(names, at, n)) < -1) return false;
    if (n && (size_t)(end - at) >= sizeof to->opts) return false;
    if (n) memcpy(to->opts, at, (size_t)(end - at));
    return to->n_in == to->op->n_in;
}

bool ti_pattern_parse(const char *text, ti_names *names, ti_pattern *to)
{
    to->n = 0;
    to->text = text;
    for (const char *end;; text = end + 1) {
        end = text + strcspn(text, ";");
        if (to->n == TI_PATTERN_LINES || !parse_line(text, end, names, &to->line[to->n]))
            return false;
        to->n++;
        if (!*end) return true;
    }
}

/* ---- Fit ---- */

static bool unify(ti_match *m, int name, const ti_arg *a)
{
    if (name < 0) return a->value < 0;
    if (m->arg[name]) return ti_same_arg(m->arg[name], a);
    m->arg[name] = a;
    return true;
}

static bool line_fits(ti_match *m, const ti_pattern_line *t, int i, bool swapped)
{
    const ti_line *l = &m->p->line[i];

    if (l->op != t->op || m->taken[i] >= 0) return false;
    if (t->opts[0] && !ti_opts_agree(m->p->ctx, t->op, l->opts, t->opts)) return false;
    for (int k = 0; k < l->op->n_out; k++)
        if (k < t->n_out ? !unify(m, t->out[k], &l->out[k]) : l->out[k].value >= 0) return false;
    for (int k = 0; k < l->n_in; k++)
        if (!unify(m, t->in[k], &l->in[swapped ? 1 - k : k])) return false;
    return true;
}

/* Lines k … 0, where the names of those behind them are bound; line k is one of from … to-1. */
static bool lines_fit(ti_match *m, const ti_pattern *t, int k, int from, int to)
{
    const ti_pattern_line *l = &t->line[k];
    const ti_arg *saved[TI_NAMES];

    for (int j = 0; j < l->n_out && k + 1 < t->n; j++) {
        const ti_arg *a = l->out[j] >= 0 ? m->arg[l->out[j]] : NULL;

        if (!a) continue;
        if (a->value < 0 || m->maker[a->value] < 0) return false;
        from = m->maker[a->value];
        to = from + 1;
        break;
    }
    const bool commutes = strcmp(l->op->name, "add") == 0 || strcmp(l->op->name, "mul") == 0;
    memcpy(saved, m->arg, sizeof saved);
    for (int i = from; i < to; i++)
        for (int swapped = 0; swapped < 1 + commutes; swapped++) {
            m->line[k] = i;
            if (line_fits(m, l, i, swapped) && (k == 0 || lines_fit(m, t, k - 1, 0, m->p->n_line)))
                return true;
            memcpy(m->arg, saved, sizeof saved);
        }
    return false;
}

bool ti_pattern_fits(ti_match *m, const ti_pattern *t, int i)
{
    return m->p->line[i].op == t->line[t->n - 1].op && lines_fit(m, t, t->n - 1, i, i + 1);
}
