/* out.c - streams, colours, small texts. */
#include "cli/out.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cli/env.h"

out_state out;
static FILE *log_file;
static int why_lost;    /* errno of the first result that could not be written */
static bool line_drawn; /* a redrawn line stands at the cursor */

static bool wants_color(const char *how, bool tty)
{
    const char *no = cli_env("NO_COLOR"), *force = cli_env("CLICOLOR_FORCE"),
               *term = cli_env("TERM");

    if (how && strcmp(how, "always") == 0) return true;
    if (how && strcmp(how, "never") == 0) return false;
    if (no && *no) return false;
    if (force && *force && strcmp(force, "0") != 0) return true;
    return tty && !(term && strcmp(term, "dumb") == 0);
}

bool out_setup(const out_how *how)
{
    const char *term = cli_env("TERM"), *p = how->progress;
    const bool dumb = !term || !*term || strcmp(term, "dumb") == 0;

    out.out_tty = isatty(STDOUT_FILENO);
    out.err_tty = isatty(STDERR_FILENO);
    out.out_color = wants_color(how->color, out.out_tty);
    out.err_color = wants_color(how->color, out.err_tty);
    out.quiet = how->quiet;
    out.verbose = how->verbose;
    out.json = how->json;
    out.show = !p || strcmp(p, "auto") == 0 ? (out.err_tty && !dumb ? SHOW_TTY : SHOW_LINES)
               : strcmp(p, "tty") == 0      ? SHOW_TTY
               : strcmp(p, "lines") == 0    ? SHOW_LINES
                                            : SHOW_NEVER;
    if (how->log) {
        log_file = fopen(how->log, "we");
        if (!log_file) {
            error("--log %s: %s", how->log, strerror(errno));
            return false;
        }
        setvbuf(log_file, NULL, _IOLBF, 0);
    }
    return true;
}

void result(const char *format, ...)
{
    va_list args;

    redraw("");
    va_start(args, format);
    if (vprintf(format, args) < 0 && !why_lost) why_lost = errno;
    va_end(args);
}

/* Text without the escape sequences of colours. */
static void plain(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '\033') {
            while (*text && *text != 'm') text++;
            if (!*text) return;
            continue;
        }
        fputc(*text, to);
    }
}

static void narrate(bool shown, const char *format, va_list args)
{
    char *text = NULL;

    if (vasprintf(&text, format, args) < 0) return;
    if (shown) {
        redraw("");
        fputs(text, stderr);
    }
    if (log_file) plain(log_file, text);
    free(text);
}

#define NARRATE(shown)                                                                             \
    do {                                                                                           \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        narrate(shown, format, args);                                                              \
        va_end(args);                                                                              \
    } while (0)

void say(const char *format, ...) { NARRATE(!out.quiet); }

void say_more(const char *format, ...)
{
    if (out.verbose) NARRATE(!out.quiet);
}

static void marked(const char *mark, const char *color, const char *format, va_list args)
{
    redraw("");
    fprintf(stderr, "%s%s%s ", style(color), mark, style("off"));
    if (log_file) fprintf(log_file, "%s ", mark);
    narrate(true, format, args);
    fputc('\n', stderr);
    if (log_file) fputc('\n', log_file);
}

void warn(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    marked("warning:", "bold", format, args);
    va_end(args);
}

void error(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    va_start(args, format);
    marked("error:", "red", format, args);
    va_end(args);
}

void hint(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    marked("      ", "off", format, args);
    va_end(args);
}

void redraw(const char *text)
{
    if (!*text && !line_drawn) return;
    fputs("\r\033[K", stderr);
    fputs(text, stderr);
    fflush(stderr);
    line_drawn = *text != '\0';
}

int out_width(void)
{
    struct winsize size;
    const char *columns = cli_env("COLUMNS");

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return columns && atoi(columns) > 0 ? atoi(columns) : 80;
}

static const char *escape(const char *name)
{
    static const char *const codes[][2] = {
        {"bold", "\033[1m"}, {"dim", "\033[2m"}, {"red", "\033[1;31m"}, {"green", "\033[32m"}};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (strcmp(codes[i][0], name) == 0) return codes[i][1];
    return "\033[0m";
}

const char *style(const char *name) { return out.err_color ? escape(name) : ""; }
const char *style_out(const char *name) { return out.out_color ? escape(name) : ""; }

int out_finish(int status)
{
    bool lost;

    redraw("");
    errno = 0;
    lost = fflush(stdout) != 0 || ferror(stdout) || fclose(stdout) != 0;
    if (!why_lost) why_lost = errno;
    if (lost && why_lost != EPIPE) /* a reader that left, as `head` does, has what it wanted */
        error("standard output could not be written%s%s", why_lost ? ": " : "",
              why_lost ? strerror(why_lost) : "");
    if (lost && status == EXIT_DONE) status = EXIT_FAILED;
    if (log_file) {
        errno = 0;
        if (fclose(log_file) != 0) {
            log_file = NULL;
            error("the log file could not be written: %s", strerror(errno));
            if (status == EXIT_DONE) status = EXIT_FAILED;
        }
    }
    return status;
}

void *cli_realloc(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    if (!p) {
        fputs("error: out of memory\n", stderr);
        exit(EXIT_FAILED);
    }
    return p;
}

void *cli_alloc(size_t bytes) { return memset(cli_realloc(NULL, bytes), 0, bytes); }

char *cli_copy(const char *text)
{
    const size_t n = strlen(text) + 1;

    return memcpy(cli_realloc(NULL, n), text, n);
}

char *cli_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    return n < 0 ? cli_realloc(NULL, SIZE_MAX / 2) : text;
}

static char **kept;
static int n_kept;

char *cli_keep(char *text)
{
    kept = cli_realloc(kept, ((size_t)n_kept + 1) * sizeof *kept);
    kept[n_kept++] = text;
    return text;
}

static char *slot(void)
{
    static char texts[8][48];
    static unsigned next;

    return texts[next++ % 8];
}

const char *thousands(int64_t n)
{
    char digits[32], *text = slot(), *at = text;
    const int count = snprintf(digits, sizeof digits, "%lld", (long long)(n < 0 ? -n : n));

    if (n < 0) *at++ = '-';
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0) *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return text;
}

const char *mebibytes(double bytes)
{
    char *text = slot();

    if (bytes < 1 << 20) snprintf(text, 48, "%.1f KiB", bytes / (1 << 10));
    else if (bytes < 1 << 30) snprintf(text, 48, "%.1f MiB", bytes / (1 << 20));
    else snprintf(text, 48, "%.2f GiB", bytes / (1 << 30));
    return text;
}

const char *duration(double seconds)
{
    char *text = slot();
    const long s = seconds < 0 ? 0 : seconds > 1e9 ? 1000000000 : (long)(seconds + 0.5);

    if (seconds < 10) snprintf(text, 48, "%.1f s", seconds < 0 ? 0.0 : seconds);
    else if (s < 60) snprintf(text, 48, "%ld s", s);
    else if (s < 3600) snprintf(text, 48, "%ld min %ld s", s / 60, s % 60);
    else snprintf(text, 48, "%ld h %ld min", s / 3600, s / 60 % 60);
    return text;
}

const char *rate(double per_s)
{
    char *text = slot();

    if (!(per_s > 0)) snprintf(text, 48, "-");
    else if (per_s < 1e3) snprintf(text, 48, "%.0f", per_s);
    else if (per_s < 1e6) snprintf(text, 48, "%.1fk", per_s / 1e3);
    else snprintf(text, 48, "%.1fM", per_s / 1e6);
    return text;
}

void wilson(double p, double n, double *low, double *high)
{
    const double z = 1.959964, scale = 1 + z * z / n;
    const double middle = (p + z * z / (2 * n)) / scale;
    const double half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale;

    *low = middle - half;
    *high = middle + half;
}

double memory_available(double *total)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[160];
    double free_kib = 0, kib;

    *total = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemTotal: %lf", &kib) == 1) *total = kib * 1024;
        if (sscanf(line, "MemAvailable: %lf", &kib) == 1) free_kib = kib;
    }
    if (file) fclose(file);
    return free_kib * 1024;
}

double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t peak_rss_bytes(void)
{
    struct rusage use;

    return getrusage(RUSAGE_SELF, &use) == 0 ? (int64_t)use.ru_maxrss * 1024 : 0;
}
