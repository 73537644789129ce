/* file.c - reading whole files, and the checked reader under the formats. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_DEFAULT ((size_t)2 << 30)
#define PIPE_START ((size_t)64 << 10)

tern_status ti_fail_errno(tern_ctx *ctx, const char *path, const char *what)
{
    const int code = errno;
    char text[128];

    return ti_fail(ctx, code == ENOMEM ? TERN_E_MEMORY : TERN_E_IO, "%.300s: %s: %s", path, what,
                   strerror_r(code, text, sizeof text));
}

bool ti_array_bytes(size_t *bytes, tern_type type, tern_shape shape)
{
    const int64_t count = tern_count(shape);

    if (count < 0 || (uint64_t)count > (uint64_t)(PTRDIFF_MAX / 16)) return false;
    *bytes = (size_t)count * tern_type_size(type);
    return true;
}

/* All that comes, EINTR or not; fewer than `bytes` only at the end. -1: errno. */
static ssize_t read_all(int fd, char *to, size_t bytes)
{
    size_t n = 0;

    while (n < bytes) {
        const ssize_t got = read(fd, to + n, bytes - n);

        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        n += (size_t)got;
    }
    return (ssize_t)n;
}

static int open_checked(tern_ctx *ctx, const char *path, struct stat *st)
{
    int fd;

    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        ti_fail_errno(ctx, path, "open");
        return -1;
    }
    if (fstat(fd, st) != 0) ti_fail_errno(ctx, path, "stat");
    else if (S_ISDIR(st->st_mode)) ti_fail(ctx, TERN_E_IO, "%.300s: is a folder, not a file", path);
    else if (!S_ISREG(st->st_mode) && !S_ISFIFO(st->st_mode) && !S_ISSOCK(st->st_mode))
        ti_fail(ctx, TERN_E_IO, "%.300s: is a device, not a file", path);
    else return fd;
    close(fd);
    return -1;
}

static void *too_long(tern_ctx *ctx, const char *path, size_t most)
{
    ti_fail(ctx, TERN_E_FORMAT, "%.300s: has more than %zu bytes, the most that is read of it",
            path, most);
    return NULL;
}

/* A pipe, or a file whose size the system does not know (/proc). */
static char *read_stream(tern_ctx *ctx, size_t *bytes, int fd, const char *path, size_t most)
{
    size_t room = most < PIPE_START ? most : PIPE_START, n = 0;
    char *data = ti_alloc(ctx, room + 1);

    while (data) {
        const ssize_t got = read_all(fd, data + n, room + (room == most) - n);

        if (got < 0) {
            ti_fail_errno(ctx, path, "read");
            break;
        }
        n += (size_t)got;
        if (n > most) {
            too_long(ctx, path, most);
            break;
        }
        if (n < room + (room == most)) {
            data[n] = 0;
            *bytes = n;
            return data;
        }
        const size_t more = room > most / 2 ? most : 2 * room;
        char *bigger = ti_alloc(ctx, more + 1);

        if (!bigger) break;
        memcpy(bigger, data, n);
        ti_free(ctx, data);
        data = bigger;
        room = more;
    }
    ti_free(ctx, data);
    return NULL;
}

static char *read_regular(tern_ctx *ctx, size_t *bytes, int fd, const char *path, size_t size)
{
    char *data = ti_alloc(ctx, size + 1);
    const ssize_t got = data ? read_all(fd, data, size + 1) : 0;

    if (!data) return NULL;
    if (got == (ssize_t)size) {
        data[size] = 0;
        *bytes = size;
        return data;
    }
    if (got < 0) ti_fail_errno(ctx, path, "read");
    else
        ti_fail(ctx, TERN_E_IO, "%.300s: changed while it was read: %zu bytes, then %s", path, size,
                (size_t)got < size ? "fewer" : "more");
    ti_free(ctx, data);
    return NULL;
}

void *tern_file_read(tern_ctx *ctx, size_t *bytes, const char *path, size_t most)
{
    struct stat st;
    char *data = NULL;
    int fd;

    if (!ti_ready(ctx, bytes && path, "file_read")) return NULL;
    if (!most || most > PTRDIFF_MAX - 1) most = MOST_DEFAULT;
    if ((fd = open_checked(ctx, path, &st)) < 0) return NULL;
    if (!S_ISREG(st.st_mode) || st.st_size == 0) data = read_stream(ctx, bytes, fd, path, most);
    else if ((uint64_t)st.st_size > most) data = too_long(ctx, path, most);
    else data = read_regular(ctx, bytes, fd, path, (size_t)st.st_size);
    close(fd);
    return data;
}

/* ---- the reader under the formats ------------------------------------------------------------ */

tern_status ti_file_open(tern_ctx *ctx, ti_file *file, const char *path)
{
    struct stat st;
    size_t bytes = 0;

    *file = (ti_file){.path = path, .fd = open_checked(ctx, path, &st)};
    if (file->fd < 0) return tern_error(ctx);
    file->size = (uint64_t)st.st_size;
    if (S_ISREG(st.st_mode) && st.st_size > 0) return TERN_OK;
    file->memory = read_stream(ctx, &bytes, file->fd, path, MOST_DEFAULT);
    close(file->fd);
    file->fd = -1;
    file->size = bytes;
    return tern_error(ctx);
}

tern_status ti_file_at(tern_ctx *ctx, const ti_file *file, uint64_t from, void *to, size_t bytes)
{
    size_t n = 0;

    if (from > file->size || bytes > file->size - from)
        return ti_fail(ctx, TERN_E_FORMAT, "%.300s: ends after %llu bytes, %llu are needed",
                       file->path, (unsigned long long)file->size,
                       (unsigned long long)(from + bytes));
    if (file->fd < 0) {
        if (bytes) memcpy(to, file->memory + from, bytes);
        return TERN_OK;
    }
    while (n < bytes) {
        const ssize_t got = pread(file->fd, (char *)to + n, bytes - n, (off_t)(from + n));

        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ti_fail_errno(ctx, file->path, "read");
        if (got == 0)
            return ti_fail(ctx, TERN_E_IO, "%.300s: became shorter while it was read", file->path);
        n += (size_t)got;
    }
    return TERN_OK;
}

void ti_file_close(tern_ctx *ctx, ti_file *file)
{
    if (file->fd >= 0) close(file->fd);
    ti_free(ctx, file->memory);
    *file = (ti_file){.fd = -1};
}
