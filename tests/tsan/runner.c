/*
 * runner.c - runs the tests of one program, each in a process of its own; see criterion.h here.
 *
 * `--xml=FILE` leaves one line per test in the form that tests/run.sh counts. `--filter=SUITE/TEST`
 * runs only those that fit one of the patterns, which commas part.
 */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

enum { PASSED, FAILED, SKIPPED };
static stand_in_entry *entries;
static bool failed;

void stand_in_add(stand_in_entry *entry)
{
    entry->next = entries;
    entries = entry;
}

static void say(const char *text, va_list args)
{
    vfprintf(stderr, text, args);
    fputc('\n', stderr);
}

void stand_in_check(bool fatal, const char *file, int line, const char *what, bool holds,
                    const char *text, ...)
{
    va_list args;

    if (holds) return;
    failed = true;
    fprintf(stderr, "%s:%d: %s: ", file, line, what);
    va_start(args, text);
    say(text, args);
    va_end(args);
    if (fatal) exit(FAILED);
}

void stand_in_log(const char *text, ...)
{
    va_list args;

    va_start(args, text);
    say(text, args);
    va_end(args);
}

void stand_in_skip(const char *text, ...)
{
    va_list args;

    va_start(args, text);
    say(text, args);
    va_end(args);
    exit(SKIPPED);
}

static const stand_in_extra *suite_of(const stand_in_entry *test)
{
    static const stand_in_extra none;

    for (stand_in_entry *e = entries; e; e = e->next)
        if (!e->name && strcmp(e->suite, test->suite) == 0) return &e->extra;
    return &none;
}

static int run(const stand_in_entry *test)
{
    const stand_in_extra *suite = suite_of(test);
    int status;
    pid_t child;

    if (test->extra.disabled || suite->disabled) return SKIPPED;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        if (suite->init) suite->init();
        if (test->extra.init) test->extra.init();
        test->run();
        if (test->extra.fini) test->extra.fini();
        if (suite->fini) suite->fini();
        exit(failed ? FAILED : PASSED); /* ThreadSanitizer makes it 66 if it has found something */
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return FAILED;
    if (WIFSIGNALED(status)) fprintf(stderr, "%s: signal %d\n", test->name, WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) <= SKIPPED ? WEXITSTATUS(status) : FAILED;
}

static bool wanted(const stand_in_entry *test, const char *filter)
{
    char name[256], pattern[256];

    snprintf(name, sizeof name, "%s/%s", test->suite, test->name);
    for (const char *at = filter; *at; at += *at == ',') {
        const size_t n = strcspn(at, ",");

        snprintf(pattern, sizeof pattern, "%.*s", (int)n, at);
        if (fnmatch(pattern, name, 0) == 0) return true;
        at += n;
    }
    return false;
}

int main(int argc, char **argv)
{
    static const char *const words[] = {"PASSED", "FAILED", "SKIPPED"};
    const char *filter = "*";
    int counts[3] = {0};
    FILE *xml = NULL;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--filter=", 9) == 0) filter = argv[i] + 9;
        if (strncmp(argv[i], "--xml=", 6) == 0 && !(xml = fopen(argv[i] + 6, "w"))) {
            perror(argv[i] + 6);
            return 1;
        }
    }
    for (stand_in_entry *e = entries; e; e = e->next) {
        if (!e->name || !wanted(e, filter)) continue;
        const int got = run(e);

        counts[got]++;
        if (got != PASSED) fprintf(stderr, "[%s] %s::%s\n", words[got], e->suite, e->name);
        if (xml)
            fprintf(xml, "<testsuite name=\"%s\">\n<testcase name=\"%s\" status=\"%s\"/>\n",
                    e->suite, e->name, words[got]);
    }
    fprintf(stderr, "%d passed, %d failed, %d skipped\n", counts[PASSED], counts[FAILED],
            counts[SKIPPED]);
    if (xml && fclose(xml)) return 1;
    return counts[FAILED] || !(counts[PASSED] + counts[SKIPPED]); /* nothing ran: a bad filter */
}
