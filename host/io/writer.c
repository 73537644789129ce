/*
 * writer.c - durable writing: aside, fsync, rename, fsync of the folder.
 *
 * The temporary file lies beside its target as NAME.PID-N.tern-tmp, locked (flock) while its writer
 * lives. The lock goes with the process, however that ends, so what can be locked is stale.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

#define SUFFIX ".tern-tmp"
enum { TRIES = 100 };

struct tern_writer {
    ti_object object;
    int fd;
    char *path;    /* as the caller named it, for messages */
    char *target;  /* where it leads to, links resolved */
    char *aside;   /* NULL: written directly (a device, a pipe) */
    bool finished; /* nothing to remove any more */
    bool broken;   /* a piece is missing: never to be renamed */
};

static atomic_uint n_writers; /* tells writers of one process apart, nothing else */

static void end(tern_ctx *ctx, ti_object *object)
{
    tern_writer *w = (tern_writer *)object;

    if (w->fd >= 0) close(w->fd);
    if (w->aside && !w->finished) unlink(w->aside);
    ti_free(ctx, w->aside);
    ti_free(ctx, w->target);
    ti_free(ctx, w->path);
}

/* The folder of a path into `folder`, "." if it names none. */
static void folder_of(char *folder, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) strcpy(folder, ".");
    else if (slash == path) strcpy(folder, "/");
    else sprintf(folder, "%.*s", (int)(slash - path), path);
}

static tern_status sync_folder(tern_ctx *ctx, const tern_writer *w)
{
    char *folder = ti_alloc(ctx, strlen(w->target) + 2);
    tern_status status = TERN_OK;
    int fd, rc;

    if (!folder) return tern_error(ctx);
    folder_of(folder, w->target);
    do fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        /* A folder that may be written but not read cannot be synced; the file itself is. */
        if (errno != EACCES) status = ti_fail_errno(ctx, folder, "open the folder to sync it");
    } else {
        do rc = fsync(fd);
        while (rc != 0 && errno == EINTR);
        /* Some file systems cannot sync a folder and say EINVAL. */
        if (rc != 0 && errno != EINVAL) status = ti_fail_errno(ctx, folder, "sync the folder");
        close(fd);
    }
    ti_free(ctx, folder);
    return status;
}

/* Makes and locks the file aside. A cleaner may have taken it for stale between the two: then it
 * has no link any more, and another one is made. */
static tern_status open_aside(tern_ctx *ctx, tern_writer *w, mode_t mode)
{
    const size_t room = strlen(w->target) + 64;
    struct stat st;

    if (!(w->aside = ti_alloc(ctx, room))) return tern_error(ctx);
    for (int i = 0; i < TRIES; i++) {
        snprintf(w->aside, room, "%s.%ld-%u" SUFFIX, w->target, (long)getpid(),
                 atomic_fetch_add(&n_writers, 1));
        w->fd = open(w->aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (w->fd < 0 && (errno == EINTR || errno == EEXIST)) continue;
        if (w->fd < 0) {
            w->finished = true;
            return ti_fail_errno(ctx, w->path, "write a file beside it");
        }
        /* File systems without locks only lose the protection from a cleaner. */
        if (flock(w->fd, LOCK_EX | LOCK_NB) == 0 && fstat(w->fd, &st) == 0 && st.st_nlink == 0) {
            close(w->fd);
            w->fd = -1;
            continue;
        }
        return TERN_OK;
    }
    w->finished = true;
    return ti_fail(ctx, TERN_E_IO, "%.300s: no name is free for a file beside it", w->path);
}

static tern_status open_writer(tern_ctx *ctx, tern_writer *w, const char *path)
{
    const size_t length = strlen(path);
    struct stat st;
    char *real;

    w->fd = -1;
    if (!length || path[length - 1] == '/')
        return ti_fail(ctx, TERN_E_ARGUMENT, "\"%.300s\" does not name a file", path);
    if (!(w->path = ti_strdup(ctx, path))) return tern_error(ctx);
    const bool exists = stat(path, &st) == 0;

    if (exists && S_ISDIR(st.st_mode))
        return ti_fail(ctx, TERN_E_IO, "%.300s: is a folder, not a file", path);
    /* A link stays; the file it leads to is replaced. */
    real = exists ? realpath(path, NULL) : NULL;
    w->target = ti_strdup(ctx, real ? real : path);
    free(real);
    if (!w->target) return tern_error(ctx);
    if (!exists || S_ISREG(st.st_mode)) {
        TI_TRY(open_aside(ctx, w, 0666));
        if (exists)
            (void)!fchmod(w->fd, st.st_mode & 07777); /* rights of the old file, if it may */
        return TERN_OK;
    }
    do w->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    while (w->fd < 0 && errno == EINTR);
    return w->fd < 0 ? ti_fail_errno(ctx, path, "open") : TERN_OK;
}

tern_writer *tern_writer_open(tern_ctx *ctx, const char *path)
{
    tern_writer *w;

    if (!ti_ready(ctx, path, "writer_open")) return NULL;
    if (!(w = ti_object_new(ctx, sizeof *w, end))) return NULL;
    w->fd = -1;
    if (open_writer(ctx, w, path) == TERN_OK) return w;
    ti_object_close(ctx, w);
    return NULL;
}

tern_status tern_writer_put(tern_ctx *ctx, tern_writer *w, const void *data, size_t bytes)
{
    const char *from = data;

    if (!ti_ready(ctx, w && (data || !bytes), "writer_put"))
        return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    w->broken = true; /* until this piece is there */
    while (bytes > 0) {
        /* The system writes at most 2 GiB at once. */
        const ssize_t put = write(w->fd, from, bytes < INT_MAX / 2 ? bytes : INT_MAX / 2);

        if (put < 0 && errno == EINTR) continue;
        if (put == 0) errno = ENOSPC;
        if (put <= 0) return ti_fail_errno(ctx, w->path, "write");
        from += put;
        bytes -= (size_t)put;
    }
    w->broken = false;
    return TERN_OK;
}

static tern_status commit(tern_ctx *ctx, tern_writer *w)
{
    int rc;

    if (tern_error(ctx) != TERN_OK) return tern_error(ctx);
    if (w->broken)
        return ti_fail(ctx, TERN_E_STATE, "%.300s: a write failed before; it stays as it was",
                       w->path);
    if (w->aside) {
        do rc = fsync(w->fd);
        while (rc != 0 && errno == EINTR);
        if (rc != 0) return ti_fail_errno(ctx, w->path, "sync");
    }
    /* The lock goes with the descriptor, so the rename comes first. */
    if (w->aside) {
        do rc = rename(w->aside, w->target);
        while (rc != 0 && errno == EINTR);
        if (rc != 0) return ti_fail_errno(ctx, w->path, "rename the new file to it");
    }
    w->finished = true;
    rc = close(w->fd);
    w->fd = -1;
    if (rc != 0 && errno != EINTR) return ti_fail_errno(ctx, w->path, "close");
    return w->aside ? sync_folder(ctx, w) : TERN_OK;
}

tern_status tern_writer_commit(tern_ctx *ctx, tern_writer *w)
{
    if (!ctx) return TERN_E_ARGUMENT;
    if (w) (void)!commit(ctx, w);
    else (void)ti_ready(ctx, false, "writer_commit");
    ti_object_close(ctx, w);
    return tern_error(ctx);
}

void tern_writer_abandon(tern_ctx *ctx, tern_writer *w) { ti_object_close(ctx, w); }

tern_status tern_file_write(tern_ctx *ctx, const char *path, const void *data, size_t bytes)
{
    tern_writer *w = tern_writer_open(ctx, path);

    if (!w) return ctx ? tern_error(ctx) : TERN_E_ARGUMENT;
    (void)!tern_writer_put(ctx, w, data, bytes);
    return tern_writer_commit(ctx, w); /* which abandons it after a failure */
}

/* NAME.PID-N.tern-tmp? */
static bool is_aside(const char *name)
{
    const size_t length = strlen(name), tail = sizeof SUFFIX - 1;
    const char *p = name + length - tail;
    int digits[2] = {0, 0};

    if (length <= tail || strcmp(p, SUFFIX) != 0) return false;
    for (; p > name && p[-1] >= '0' && p[-1] <= '9'; p--) digits[1]++;
    if (p == name || *--p != '-') return false;
    for (; p > name && p[-1] >= '0' && p[-1] <= '9'; p--) digits[0]++;
    return digits[0] && digits[1] && p - name > 1 && p[-1] == '.';
}

int tern_files_clean(tern_ctx *ctx, const char *folder)
{
    DIR *dir = ctx && folder ? opendir(folder) : NULL;
    int n = 0;

    if (!dir) return 0;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;

        if (!is_aside(e->d_name)) continue;
        const int fd =
            openat(dirfd(dir), e->d_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

        if (fd < 0) continue;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
            n += unlinkat(dirfd(dir), e->d_name, 0) == 0;
        close(fd);
    }
    closedir(dir);
    return n;
}
