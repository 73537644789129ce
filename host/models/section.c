/*
 * section.c - numbers, pairs, words and flags out of a config's section. Independent of the locale.
 */
#include "models/section.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

tern_status ti_section_fail(const ti_section *s, const tern_config_entry *entry, const char *text,
                            ...)
{
    char what[256];
    va_list list;

    va_start(list, text);
    vsnprintf(what, sizeof what, text, list);
    va_end(list);
    return tern_fail(s->ctx, TERN_E_FORMAT, "%.200s:%d: [%.40s]: %s", s->file,
                     entry ? entry->line : s->at->line, s->at->name, what);
}

static bool listed(const char *list, const char *word)
{
    const size_t n = strlen(word);

    for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    return false;
}

tern_status ti_section_keys(const ti_section *s, const char *known)
{
    for (int i = 0; i < s->at->count; i++)
        if (!listed(known, s->at->entry[i].key))
            return ti_section_fail(s, &s->at->entry[i], "there is no key \"%.60s\" here%s%s",
                                   s->at->entry[i].key, *known ? "; there are " : "", known);
    return tern_error(s->ctx);
}

const char *ti_section_text(const ti_section *s, const char *key)
{
    const tern_config_entry *e = tern_config_find(s->at, key);

    return e ? e->value : NULL;
}

/* An integer at *text, which moves behind it; false: there is none, or it is too large. */
static bool take_int(const char **text, int64_t *to)
{
    const char *p = *text;
    const bool minus = *p == '-';
    int64_t x = 0;

    p += *p == '-' || *p == '+';
    if (!isdigit((unsigned char)*p)) return false;
    for (; isdigit((unsigned char)*p); p++) {
        if (x > (INT64_MAX - 9) / 10) return false;
        x = 10 * x + (*p - '0');
    }
    *to = minus ? -x : x;
    *text = p;
    return true;
}

int64_t ti_section_int(const ti_section *s, const char *key, int64_t otherwise, int64_t least,
                       int64_t most)
{
    const tern_config_entry *e = tern_config_find(s->at, key);
    int64_t x;

    if (!e) return otherwise;
    const char *p = e->value;
    if (take_int(&p, &x) && !*p && x >= least && x <= most) return x;
    ti_section_fail(s, e, "%s=%.60s: a whole number in %lld … %lld is wanted", key, e->value,
                    (long long)least, (long long)most);
    return otherwise;
}

bool ti_section_pair(const ti_section *s, const char *key, int to[2], int least)
{
    const tern_config_entry *e = tern_config_find(s->at, key);
    int64_t a = 0, b = 0;

    if (!e) return false;
    const char *p = e->value;
    bool fits = take_int(&p, &a);
    b = a;
    if (fits && *p == ',') {
        p++;
        fits = take_int(&p, &b);
    }
    if (fits && !*p && a >= least && b >= least && a <= 1 << 20 && b <= 1 << 20) {
        to[0] = (int)a;
        to[1] = (int)b;
        return true;
    }
    ti_section_fail(s, e,
                    "%s=%.60s: one or two whole numbers (\"3\", \"3,5\"), at least %d, are "
                    "wanted",
                    key, e->value, least);
    return false;
}

/* Decimal, with a dot; not strtod, which asks the locale. Exact enough for settings. */
static bool take_real(const char **text, double *to)
{
    const char *p = *text;
    const bool minus = *p == '-';
    double x = 0;
    int digits = 0, scale = 0;
    int64_t exponent = 0;

    p += *p == '-' || *p == '+';
    for (; isdigit((unsigned char)*p); p++, digits++) x = 10 * x + (*p - '0');
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++, digits++, scale--) x = 10 * x + (*p - '0');
    if (!digits) return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        if (!take_int(&p, &exponent) || exponent > 400 || exponent < -400) return false;
    }
    scale += (int)exponent;
    x = scale < 0 ? x / pow(10, -scale) : x * pow(10, scale);
    *to = minus ? -x : x;
    *text = p;
    return isfinite(x);
}

double ti_section_real(const ti_section *s, const char *key, double otherwise, double least,
                       double most)
{
    const tern_config_entry *e = tern_config_find(s->at, key);
    double x;

    if (!e) return otherwise;
    const char *p = e->value;
    if (take_real(&p, &x) && !*p && x >= least && x <= most) return x;
    ti_section_fail(s, e, "%s=%.60s: a number in %g … %g is wanted", key, e->value, least, most);
    return otherwise;
}

bool ti_section_flag(const ti_section *s, const char *key, bool otherwise)
{
    const tern_config_entry *e = tern_config_find(s->at, key);

    if (!e) return otherwise;
    if (listed("1 yes true", e->value)) return true;
    if (listed("0 no false", e->value)) return false;
    ti_section_fail(s, e, "%s=%.60s: 0 or 1 is wanted", key, e->value);
    return otherwise;
}
