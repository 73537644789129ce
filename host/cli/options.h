/*
 * options.h - the one table of options, and what a command line made of it.
 *
 * Help, "did you mean", the keys of config files and the list of resolved settings all come from
 * the table in options.c.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    V_TRAIN = 1,
    V_EVAL = 2,
    V_PREDICT = 4,
    V_SUMMARY = 8,
    V_DEVICES = 16,
    V_INFO = 32,
    V_OP = 64,
    V_BENCH = 128,
    V_HELP = 256,
    V_COMPARE = 512,
    V_ALL = 1023
};

typedef enum {
    O_FLAG,
    O_INT,
    O_COUNT, /* a whole number or "auto" */
    O_REAL,
    O_SIZE, /* bytes: "4GiB" */
    O_TEXT,
    O_CHOICE,
    O_LIST
} option_kind;
typedef struct {
    const char *name;
    char letter; /* 0: none */
    option_kind kind;
    unsigned verbs;       /* mask */
    bool key;             /* config files and --set know it, too */
    double least, most;   /* of numbers */
    const char *value;    /* "N", or the choices "auto|always|never" */
    const char *built_in; /* the default as text, NULL if there is none */
    const char *help;
} option;
extern const option option_table[];
extern const int option_count;

typedef struct {
    const char *text;   /* NULL: not given */
    const char *origin; /* "--batch", "TERN_SEED", "fashion.cfg:30" */
    const char **list;  /* O_LIST */
    int n_list;
} setting;

typedef struct cli cli;
typedef struct {
    const char *name;
    unsigned bit;
    const char *line, *usage, *examples; /* for help */
    int (*run)(cli *c);
} verb;
extern const verb verb_table[];

struct cli {
    const verb *verb;
    const char **arg; /* positional ones, the verb not counted */
    int n_arg;
    setting *set; /* one for each option */
    bool help, version;
};

/* Reads argv; false after a message (exit status 2). */
bool cli_parse(cli *c, int argc, char **argv);
/* Sets an option from elsewhere (config, environment) unless it was set already; false after a
 * message. */
bool cli_put(cli *c, const char *name, const char *value, const char *origin);

/* The index of an option, -1 if there is none. */
int option_named(const char *name);
const setting *cli_setting(const cli *c, const char *name);
/* Given, or else the built-in value; NULL if there is neither. */
const char *cli_text(const cli *c, const char *name);
bool cli_given(const cli *c, const char *name);
bool cli_flag(const cli *c, const char *name);
int64_t cli_int(const cli *c, const char *name);
double cli_real(const cli *c, const char *name);
double cli_size(const cli *c, const char *name); /* in bytes; 0: there is none */
/* Built-in values of this call only, for what depends on other options. */
void cli_default(cli *c, const char *name, const char *value);
/* A verb's own value, whatever was given. */
void cli_force(cli *c, const char *name, const char *value);

void cli_help(const verb *v); /* NULL: of the command */
/* The nearest of the names (ends with NULL) if it is near enough, or NULL. */
const char *nearest(const char *word, const char *const *names);
/* A usage error with a pointer to the verb's help. Returns EXIT_USAGE. */
int usage_error(const cli *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
