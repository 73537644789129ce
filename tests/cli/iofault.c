/*
 * iofault.c - preloaded into the command by io_faults.sh: the N-th call that changes the run's
 * folder fails. TC_FAIL_AT: N, from 1; TC_FAIL_ERRNO; TC_FAIL_ON: calls count when their path has
 * this text.
 */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static long calls;

static bool fails(const char *path)
{
    const char *at = getenv("TC_FAIL_AT"), *code = getenv("TC_FAIL_ERRNO");
    const char *on = getenv("TC_FAIL_ON");

    if (!at || !code || !on || !path || !strstr(path, on)) return false;
    if (++calls != atol(at)) return false;
    errno = atoi(code);
    return true;
}

/* TC_COUNT: a file for the number of calls. */
__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("TC_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;

    if (!file) return;
    fprintf(file, "%ld\n", calls);
    fclose(file);
}

static bool fails_fd(int fd)
{
    char link[64], path[4096];
    ssize_t n;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0) return false;
    path[n] = '\0';
    return fails(path);
}

#define REAL(type, name, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

static int mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, int) : 0;
}

int open(const char *path, int flags, ...)
{
    REAL(int, "open", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    const int mode = mode_of(flags, args);
    va_end(args);
    return fails(path) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    REAL(int, "open64", const char *, int, ...);
    va_list args;
    va_start(args, flags);
    const int mode = mode_of(flags, args);
    va_end(args);
    return fails(path) ? -1 : real(path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return fd > 2 && fails_fd(fd) ? -1 : real(fd, data, bytes);
}

int fsync(int fd)
{
    REAL(int, "fsync", int);
    return fails_fd(fd) ? -1 : real(fd);
}

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails(to) ? -1 : real(from, to);
}

int ftruncate(int fd, off_t size)
{
    REAL(int, "ftruncate", int, off_t);
    return fails_fd(fd) ? -1 : real(fd, size);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    return fails(path) ? -1 : real(path, mode);
}
