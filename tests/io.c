/* io.c - whole files and the durable writer: pipes, limits, full disks, killed writers, hashes. */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

TestSuite(io, .init = tc_folder_begin, .fini = tc_folder_end);

static int entries(void)
{
    DIR *dir = opendir(tc_folder);
    int n = 0;

    for (struct dirent *e; (e = readdir(dir));) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static bool is(const char *path, const char *text)
{
    size_t n;
    char *bytes = tc_get(path, &n);
    const bool same = n == strlen(text) && memcmp(bytes, text, n) == 0;

    free(bytes);
    return same;
}

Test(io, write_and_read)
{
    tern_ctx *ctx = tc_open("cpu");
    const char *path = tc_file("a");
    size_t n;

    cr_assert(tern_file_write(ctx, path, "hello", 5) == TERN_OK, "%s", tern_error_text(ctx));
    cr_expect(is(path, "hello"));
    cr_expect(chmod(path, 0640) == 0);
    cr_assert(tern_file_write(ctx, path, "again", 5) == TERN_OK);
    struct stat st;
    cr_expect(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640, "the rights were changed");
    char *x = tern_file_read(ctx, &n, path, 5);
    cr_expect(x && n == 5 && memcmp(x, "again", 6) == 0, "a 0 follows the bytes");
    tern_free(ctx, x);
    cr_expect(!tern_file_read(ctx, &n, path, 4) && tern_error(ctx) == TERN_E_FORMAT);
    tc_refused(ctx, "limit", path);
    cr_expect(tern_file_write(ctx, path, NULL, 0) == TERN_OK && is(path, ""));
    x = tern_file_read(ctx, &n, path, 0);
    cr_expect(x && n == 0 && x[0] == 0);
    tern_free(ctx, x);
    cr_expect(entries() == 1, "something was left beside the file");
    tc_close(ctx);
}

Test(io, what_is_not_a_file_is_refused)
{
    tern_ctx *ctx = tc_open("cpu");
    size_t n;

    cr_expect(!tern_file_read(ctx, &n, tc_folder, 0));
    tc_refused(ctx, "a folder", tc_folder);
    cr_expect(!tern_file_read(ctx, &n, "/dev/zero", 0));
    tc_refused(ctx, "a device", "/dev/zero");
    cr_expect(!tern_file_read(ctx, &n, tc_file("none"), 0));
    tc_refused(ctx, "missing", tc_file("none"));
    cr_expect(tern_file_write(ctx, tc_folder, "x", 1) == TERN_E_IO);
    tern_error_clear(ctx);
    cr_expect(tern_file_write(ctx, "", "x", 1) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    cr_expect(tern_file_write(ctx, tc_file("no/such/folder"), "x", 1) == TERN_E_IO);
    tern_error_clear(ctx);
    cr_expect(!tern_file_read(ctx, NULL, "a", 0) && tern_error(ctx) == TERN_E_ARGUMENT);
    tern_error_clear(ctx);
    /* A file whose size the system does not know. */
    char *x = tern_file_read(ctx, &n, "/proc/self/status", 0);
    cr_expect(x && n > 100 && strncmp(x, "Name:", 5) == 0);
    tern_free(ctx, x);
    cr_expect(!tern_file_read(ctx, &n, "/proc/self/status", 10));
    tern_error_clear(ctx);
    tc_close(ctx);
}

static void *feed(void *path)
{
    const int fd = open(path, O_WRONLY);
    char block[1000];

    memset(block, 'x', sizeof block);
    for (int i = 0; i < 300; i++)
        if (write(fd, block, sizeof block) < 0) break;
    close(fd);
    return NULL;
}

static char *read_fifo(tern_ctx *ctx, size_t *n, size_t most)
{
    const char *path = tc_file("fifo");
    pthread_t id;

    signal(SIGPIPE, SIG_IGN);
    cr_assert(access(path, F_OK) == 0 || mkfifo(path, 0600) == 0);
    cr_assert(pthread_create(&id, NULL, feed, (void *)path) == 0);
    char *x = tern_file_read(ctx, n, path, most);
    pthread_join(id, NULL);
    return x;
}

Test(io, pipes_are_read_up_to_their_limit)
{
    tern_ctx *ctx = tc_open("cpu");
    size_t n = 0;
    const size_t limits[] = {0, 300000, 300001, 1 << 20};

    for (int i = 0; i < 4; i++) {
        char *x = read_fifo(ctx, &n, limits[i]);
        cr_expect(x && n == 300000 && x[n] == 0 && x[n - 1] == 'x', "limit %zu", limits[i]);
        tern_free(ctx, x);
    }
    cr_expect(!read_fifo(ctx, &n, 299999) && tern_error(ctx) == TERN_E_FORMAT);
    tern_error_clear(ctx);
    tc_close(ctx);
}

Test(io, links_stay_and_devices_are_written_directly)
{
    tern_ctx *ctx = tc_open("cpu");
    struct stat st;

    tc_put(tc_file("real"), "old", 3);
    cr_assert(symlink("real", tc_file("link")) == 0);
    cr_expect(tern_file_write(ctx, tc_file("link"), "new", 3) == TERN_OK);
    cr_expect(lstat(tc_file("link"), &st) == 0 && S_ISLNK(st.st_mode) &&
              is(tc_file("real"), "new"));
    cr_expect(tern_file_write(ctx, "/dev/null", "x", 1) == TERN_OK);
    cr_expect(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
    cr_expect(tern_file_write(ctx, "/dev/full", "x", 1) == TERN_E_IO);
    cr_expect(strstr(tern_error_text(ctx), "/dev/full: write: No space left"), "%s",
              tern_error_text(ctx));
    tern_error_clear(ctx);
    tc_close(ctx);
}

/* The disk full at each of many bytes: the old file stays, nothing is left beside it. */
Test(io, a_full_disk_leaves_the_old_file)
{
    tern_ctx *ctx = tc_open("cpu");
    struct rlimit before, limit;
    char block[4096];

    memset(block, 'n', sizeof block);
    signal(SIGXFSZ, SIG_IGN);
    tc_put(tc_file("a"), "old", 3);
    getrlimit(RLIMIT_FSIZE, &before);
    for (int k = 0; k < 5000; k += 97) {
        limit = before;
        limit.rlim_cur = (rlim_t)k;
        setrlimit(RLIMIT_FSIZE, &limit);
        tern_writer *w = tern_writer_open(ctx, tc_file("a"));
        bool ok = w != NULL;
        for (int i = 0; i < 5 && ok; i++) ok = tern_writer_put(ctx, w, block, 1000) == TERN_OK;
        if (w) ok = tern_writer_commit(ctx, w) == TERN_OK && ok;
        setrlimit(RLIMIT_FSIZE, &before);
        cr_expect(!ok && strstr(tern_error_text(ctx), tc_file("a")), "%d: %s", k,
                  tern_error_text(ctx));
        tern_error_clear(ctx);
        cr_expect(is(tc_file("a"), "old") && entries() == 1, "at %d", k);
    }
    tc_close(ctx);
}

/* A caller that clears the error cannot make a file with a hole in it. */
Test(io, a_writer_that_failed_never_renames)
{
    tern_ctx *ctx = tc_open("cpu");
    struct rlimit before, limit;

    signal(SIGXFSZ, SIG_IGN);
    tc_put(tc_file("a"), "old", 3);
    tern_writer *w = tern_writer_open(ctx, tc_file("a"));
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 2;
    setrlimit(RLIMIT_FSIZE, &limit);
    cr_expect(tern_writer_put(ctx, w, "12345", 5) == TERN_E_IO);
    setrlimit(RLIMIT_FSIZE, &before);
    tern_error_clear(ctx);
    cr_expect(tern_writer_commit(ctx, w) == TERN_E_STATE);
    tern_error_clear(ctx);
    cr_expect(is(tc_file("a"), "old") && entries() == 1);
    tc_close(ctx);
}

Test(io, abandoned_and_forgotten_writers_leave_nothing)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_writer *w = tern_writer_open(ctx, tc_file("a"));

    cr_expect(tern_writer_put(ctx, w, "x", 1) == TERN_OK && entries() == 1);
    tern_writer_abandon(ctx, w);
    tern_writer_abandon(ctx, NULL);
    cr_expect(entries() == 0);
    cr_assert(tern_writer_open(ctx, tc_file("b")) != NULL); /* the context ends it */
    tc_close(ctx);
    cr_expect(entries() == 0);
}

Test(io, what_a_killed_writer_left_is_cleaned_what_lives_stays)
{
    tern_ctx *ctx = tc_open("cpu");
    const pid_t child = fork();

    if (child == 0) {
        tern_writer *w = tern_writer_open(ctx, tc_file("dead.ckpt"));
        kill(getpid(), w ? SIGKILL : SIGTERM);
    }
    int status;
    cr_assert(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    tern_writer *w = tern_writer_open(ctx, tc_file("live.ckpt"));
    tc_put(tc_file("notes.tern-tmp"), "mine", 4);
    tc_put(tc_file("a.12-x.tern-tmp"), "mine", 4);
    cr_expect(entries() == 4);
    cr_expect(tern_files_clean(ctx, tc_folder) == 1);
    cr_expect(tern_files_clean(ctx, tc_folder) == 0);
    cr_expect(tern_files_clean(ctx, tc_file("none")) == 0);
    cr_expect(tern_writer_commit(ctx, w) == TERN_OK && access(tc_file("live.ckpt"), F_OK) == 0);
    tc_close(ctx);
}

/* Killed at random moments while it replaces a file again and again: always one whole version. */
Test(io, kill_9_leaves_a_whole_file)
{
    enum { BYTES = 200000 };
    static char block[BYTES];

    memset(block, 'a', BYTES);
    tc_put(tc_file("a"), block, BYTES);
    for (int round = 0; round < 20; round++) {
        const pid_t child = fork();

        if (child == 0) {
            tern_ctx *ctx;
            if (tern_open(&ctx, "cpu") != TERN_OK) _exit(1);
            for (int i = 0;; i++) {
                memset(block, 'a' + i % 26, BYTES);
                if (tern_file_write(ctx, tc_file("a"), block, BYTES) != TERN_OK) _exit(1);
            }
        }
        usleep(10000 + 3000 * (unsigned)round);
        int status;
        kill(child, SIGKILL);
        cr_assert(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        size_t n;
        char *x = tc_get(tc_file("a"), &n);
        cr_expect(n == BYTES && x[0] == x[BYTES - 1], "round %d", round);
        free(x);
    }
    tern_ctx *ctx = tc_open("cpu");
    tern_files_clean(ctx, tc_folder);
    cr_expect(entries() == 1);
    tc_close(ctx);
}

Test(io, hash_of_weights)
{
    tern_ctx *ctx = tc_open("cpu");
    tern_hash *h = tern_hash_open(ctx);

    tern_hash_add(h, "ab", 2);
    tern_hash_add(h, NULL, 0);
    tern_hash_add(h, "c", 1);
#ifdef TI_WITH_XXHASH
    /* printf abc | xxhsum -H2 */
    cr_expect_str_eq(tern_hash_text(h), "06b05ab6733a618578af5f94892f3950");
#else
    cr_expect(tern_hash_text(h) == NULL);
#endif
    tern_hash_close(ctx, h);
    tern_hash_close(ctx, NULL);
    tc_close(ctx);
}

static bool write_and_read(tern_ctx *ctx)
{
    size_t n;

    if (tern_file_write(ctx, tc_file("f"), "x", 1) != TERN_OK) return false;
    void *x = tern_file_read(ctx, &n, tc_file("f"), 0);
    void *y = x ? tern_file_read(ctx, &n, "/proc/self/maps", 0) : NULL;
    tern_free(ctx, x);
    tern_free(ctx, y);
    return y != NULL;
}

Test(io, every_allocation_may_fail)
{
    tern_ctx *ctx = tc_open("cpu");

    cr_expect(tc_faults(ctx, write_and_read) > 5);
    cr_expect(entries() == 1);
    tc_close(ctx);
}
