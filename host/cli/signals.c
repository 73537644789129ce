/* signals.c - SIGINT, SIGTERM, SIGUSR1, SIGPIPE. */
#include "cli/signals.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static tern_ctx *volatile watched;
static volatile sig_atomic_t got, want_save;

static void stop(int number)
{
    if (got) _exit(128 + number);
    got = number;
    if (watched) tern_request_stop(watched);
}

static void save(int number)
{
    (void)number;
    want_save = 1;
}

static void install(int number, void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void signals_ignore_pipe(void) { install(SIGPIPE, SIG_IGN); }

void signals_watch(tern_ctx *ctx)
{
    watched = ctx;
    got = want_save = 0;
    install(SIGINT, stop);
    install(SIGTERM, stop);
    install(SIGUSR1, save);
}

void signals_unwatch(void)
{
    install(SIGINT, SIG_DFL);
    install(SIGTERM, SIG_DFL);
    install(SIGUSR1, SIG_IGN);
    watched = NULL;
}

int signals_got(void) { return got; }

bool signals_want_save(void)
{
    const bool was = want_save;

    want_save = 0;
    return was;
}
