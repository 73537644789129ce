/*
 * out.h - what the command prints, and where.
 *
 * Results go to stdout, narration to stderr (and to --log). Each stream is a terminal or not, and
 * what is written follows that: colours and redrawn lines only on a terminal.
 */
#ifndef CLI_OUT_H
#define CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_BOUND, EXIT_SLOWER, EXIT_NONFINITE };

typedef enum { SHOW_AUTO, SHOW_TTY, SHOW_LINES, SHOW_NEVER } out_show;

typedef struct {
    bool out_tty, err_tty;     /* the stream is a terminal */
    bool out_color, err_color; /* colours are wanted there */
    out_show show;             /* of progress: never SHOW_AUTO after out_setup */
    bool quiet, verbose, json;
} out_state;
extern out_state out;

typedef struct {
    const char *color, *progress, *log; /* options, or NULL */
    bool quiet, verbose, json;
} out_how;
/* Looks at streams and environment. False (after a message) if the log file cannot be written. */
bool out_setup(const out_how *how);

#define CLI_PRINTF(a, b) __attribute__((format(printf, a, b)))
/* A result, on stdout. */
void result(const char *format, ...) CLI_PRINTF(1, 2);
/* Narration, on stderr unless -q, and into the log file. */
void say(const char *format, ...) CLI_PRINTF(1, 2);
/* Only with -v. */
void say_more(const char *format, ...) CLI_PRINTF(1, 2);
void warn(const char *format, ...) CLI_PRINTF(1, 2);
/* "error: …"; a second line of help follows with hint(). */
void error(const char *format, ...) CLI_PRINTF(1, 2);
void hint(const char *format, ...) CLI_PRINTF(1, 2);
/* A line that the next one overwrites, on a terminal; "" clears it. Never in the log. */
void redraw(const char *text);
/* Columns of the terminal at stderr. */
int out_width(void);
/* A text for stderr that starts or ends a style there: "bold", "dim", "red", "green", "off". */
const char *style(const char *name);
const char *style_out(const char *name); /* the same for stdout */

/* Flushes; a stdout that could not be written makes the status EXIT_FAILED, with a message. */
int out_finish(int status);

/* Memory of the command: it ends with a message and EXIT_FAILED when there is none. */
void *cli_realloc(void *p, size_t bytes);
void *cli_alloc(size_t bytes); /* zeroed */
char *cli_copy(const char *text);
char *cli_format(const char *format, ...) CLI_PRINTF(1, 2);
/* Lives until the command ends (settings and where they are from). */
char *cli_keep(char *text);

/* "55,000"; the texts rotate through eight buffers. */
const char *thousands(int64_t n);
/* "4GiB", "512M", "2GB" (1000s), "1000000" as bytes; NaN: it is no size. */
double size_parse(const char *text);
const char *mebibytes(double bytes); /* "104.2 MiB", "1.91 GiB" */
/* "18 s", "3 min 5 s", "2 h 4 min" */
const char *duration(double seconds);
/* "61.1k" images per second and the like */
const char *rate(double per_s);
/* Wilson's 95 % interval of a share p that was seen in n trials. */
void wilson(double p, double n, double *low, double *high);
/* Bytes of memory that a process could get now; *total: of the machine, 0 if not known. */
double memory_available(double *total);
/* Monotonic seconds. */
double seconds_now(void);
/* Largest resident memory of this process so far. */
int64_t peak_rss_bytes(void);

#endif
