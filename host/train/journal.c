/*
 * journal.c - the files of a run that people read: metrics.csv, steps.jsonl, clock.json.
 *
 * Times stand here and not in the checkpoint, whose bytes are the same for every run of a seed. A
 * resumed run keeps the rows of the epochs that its checkpoint knows and drops what came later.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "train/run.h"

static const char head[] = "epoch,step,train_loss,val_loss,val_acc,lr,best,seconds,img_per_s\n";
enum { ROW = 320 };

double ti_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *ti_number(char text[32], double x)
{
    char *from = text, *to = text;

    if (!isfinite(x)) {
        text[0] = '\0';
        return text;
    }
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    /* Whatever the program's locale puts between the digits becomes one point. */
    while (*from) {
        if (strchr("0123456789+-e", *from)) {
            *to++ = *from++;
            continue;
        }
        while (*from && !strchr("0123456789+-e", *from)) from++;
        *to++ = '.';
    }
    *to = '\0';
    return text;
}

static tern_status failed(ti_run *run, const char *path)
{
    return tern_fail(run->ctx, TERN_E_IO, "%s: %s", path, strerror(errno));
}

/* mkdir -p; each folder that is made is synced into its parent. */
static tern_status make_folder(ti_run *run, const char *folder)
{
    char path[TI_PATH];
    const size_t n = strlen(folder);

    if (n == 0 || n >= sizeof path)
        return tern_fail(run->ctx, TERN_E_ARGUMENT, "run_dir: the path has %zu characters", n);
    memcpy(path, folder, n + 1);
    for (size_t i = 1; i <= n; i++) {
        char cut = path[i], *slash;
        int parent;

        if (cut != '/' && cut != '\0') continue;
        path[i] = '\0';
        if (mkdir(path, 0777) == 0) {
            slash = strrchr(path, '/');
            if (slash) *slash = '\0';
            parent = open(!slash          ? "."
                          : slash == path ? "/"
                                          : path,
                          O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (slash) *slash = '/';
            if (parent >= 0) {
                (void)!fsync(parent); /* some file systems refuse; the folder exists anyway */
                close(parent);
            }
        } else if (errno != EEXIST) {
            return failed(run, path);
        }
        path[i] = cut;
    }
    return TERN_OK;
}

static tern_status open_steps(ti_run *run)
{
    char path[TI_PATH];

    if (ti_run_path(run, path, "steps.jsonl") != TERN_OK) return tern_error(run->ctx);
    do run->steps_file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    while (run->steps_file < 0 && errno == EINTR);
    if (run->steps_file < 0) return failed(run, path);
    return TERN_OK;
}

tern_status ti_journal_open(ti_run *run)
{
    run->steps_file = -1;
    if (!run->o.run_dir) return TERN_OK;
    if (make_folder(run, run->o.run_dir) != TERN_OK) return tern_error(run->ctx);
    tern_files_clean(run->ctx, run->o.run_dir);
    return open_steps(run);
}

void ti_journal_close(ti_run *run)
{
    if (run->o.run_dir && run->steps_file >= 0) close(run->steps_file);
    run->steps_file = -1;
    tern_free(run->ctx, run->csv);
    run->csv = NULL;
}

/* ---- metrics.csv ----------------------------------------------------------------------------- */

static void csv_row(char row[ROW], const ti_row *r, double seconds, double images_per_s)
{
    char t[7][32];

    snprintf(row, ROW, "%lld,%lld,%s,%s,%s,%s,%d,%s,%s\n", (long long)r->epoch, (long long)r->step,
             ti_number(t[0], r->train_loss), ti_number(t[1], r->val_loss),
             ti_number(t[2], r->val_accuracy), ti_number(t[3], r->lr), r->best != 0,
             ti_number(t[4], round(seconds * 1e3) / 1e3), ti_number(t[5], round(images_per_s)));
}

/* Room for one more row in run->csv: an array of fixed rows, grown by doubling. */
static char *csv_slot(ti_run *run, int i)
{
    char(*rows)[ROW] = (char(*)[ROW])run->csv;

    if (i >= run->csv_room) {
        const int room = i < 32 ? 64 : 2 * i;
        char(*more)[ROW] = tern_alloc(run->ctx, (size_t)room * ROW);

        if (!more) return NULL;
        if (rows) memcpy(more, rows, (size_t)run->csv_room * ROW);
        tern_free(run->ctx, rows);
        run->csv = more;
        run->csv_room = room;
        rows = more;
    }
    return rows[i];
}

static tern_status write_csv(ti_run *run)
{
    char path[TI_PATH];
    tern_writer *w;
    tern_ctx *ctx = run->ctx;

    if (ti_run_path(run, path, "metrics.csv") != TERN_OK) return tern_error(ctx);
    w = tern_writer_open(ctx, path);
    if (!w || tern_writer_put(ctx, w, head, sizeof head - 1) != TERN_OK) goto fail;
    for (int i = 0; i < run->n_rows; i++) {
        const char *row = csv_slot(run, i);
        if (!row || tern_writer_put(ctx, w, row, strlen(row)) != TERN_OK) goto fail;
    }
    return tern_writer_commit(ctx, w);
fail:
    tern_writer_abandon(ctx, w);
    return tern_error(ctx);
}

tern_status ti_journal_row(ti_run *run, const tern_epoch *e)
{
    char *row;

    if (!run->o.run_dir) return TERN_OK;
    row = csv_slot(run, run->n_rows - 1);
    if (!row) return tern_error(run->ctx);
    csv_row(row, &run->rows[run->n_rows - 1], e->seconds, e->images_per_s);
    return write_csv(run);
}

/* The old line of epoch i, kept for its times, if it agrees with what the checkpoint knows. */
static bool old_row(char row[ROW], const char *text, const ti_row *r)
{
    char mine[ROW];
    const char *line, *end;
    size_t same;

    csv_row(mine, r, 0, 0);
    same = (size_t)(strrchr(mine, ',') - mine);
    while (mine[same - 1] != ',') same--; /* up to the times */
    for (line = text; line && *line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        if (!end || strncmp(line, mine, same) != 0 || end - line + 2 > ROW) continue;
        memcpy(row, line, (size_t)(end - line + 1));
        row[end - line + 1] = '\0';
        return true;
    }
    return false;
}

static tern_status rewind_csv(ti_run *run)
{
    tern_ctx *ctx = run->ctx;
    char path[TI_PATH], *text = NULL;
    struct stat st;
    size_t bytes;

    if (ti_run_path(run, path, "metrics.csv") != TERN_OK) return tern_error(ctx);
    if (stat(path, &st) == 0 && !(text = tern_file_read(ctx, &bytes, path, 64 << 20)))
        return tern_error(ctx);
    for (int i = 0; i < run->n_rows; i++) {
        char *row = csv_slot(run, i);

        if (!row) break;
        if (!text || !old_row(row, text, &run->rows[i])) csv_row(row, &run->rows[i], NAN, NAN);
    }
    tern_free(ctx, text);
    if (tern_error(ctx) != TERN_OK) return tern_error(ctx);
    return run->n_rows ? write_csv(run) : TERN_OK;
}

/* ---- steps.jsonl ----------------------------------------------------------------------------- */

static tern_status put(ti_run *run, const char *text, size_t n)
{
    char path[TI_PATH];

    while (n > 0) {
        const ssize_t done = write(run->steps_file, text, n);

        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) {
            if (ti_run_path(run, path, "steps.jsonl") != TERN_OK) return tern_error(run->ctx);
            return failed(run, path);
        }
        text += done;
        n -= (size_t)done;
    }
    return TERN_OK;
}

static const char *or_null(const char *number) { return *number ? number : "null"; }

tern_status ti_journal_step(ti_run *run, double loss, double images_per_s)
{
    char line[256], t[3][32];

    if (run->steps_file < 0) return TERN_OK;
    snprintf(line, sizeof line,
             "{\"step\":%lld,\"epoch\":%lld,\"loss\":%s,\"lr\":%s,\"img_per_s\":%s}\n",
             (long long)run->r.steps, (long long)run->at.epoch + 1, or_null(ti_number(t[0], loss)),
             or_null(ti_number(t[1], tern_optim_lr(run->opt))),
             or_null(ti_number(t[2], round(images_per_s))));
    return put(run, line, strlen(line));
}

/* Cuts the file after the last whole line that is not newer than the checkpoint. */
static tern_status rewind_steps(ti_run *run)
{
    char path[TI_PATH], *text, *line, *end;
    size_t bytes;
    off_t keep;
    long long step;

    if (ti_run_path(run, path, "steps.jsonl") != TERN_OK) return tern_error(run->ctx);
    text = tern_file_read(run->ctx, &bytes, path, 0);
    if (!text) return tern_error(run->ctx);
    for (line = text; (end = strchr(line, '\n')) != NULL; line = end + 1)
        if (sscanf(line, "{\"step\":%lld,", &step) != 1 || step > run->r.steps) break;
    keep = (off_t)(line - text);
    tern_free(run->ctx, text);
    if (ftruncate(run->steps_file, keep) != 0 || lseek(run->steps_file, keep, SEEK_SET) < 0)
        return failed(run, path);
    return TERN_OK;
}

/* ---- clock.json: how long the run has trained, over all its resumes -------------------------- */

tern_status ti_journal_clock(ti_run *run)
{
    char path[TI_PATH], text[160];

    if (ti_run_path(run, path, "clock.json") != TERN_OK) return tern_error(run->ctx);
    snprintf(text, sizeof text, "{\"step\":%lld,\"train_ms\":%lld,\"epoch_ms\":%lld}\n",
             (long long)run->r.steps, llround(run->r.train_seconds * 1e3),
             llround(run->epoch_seconds * 1e3));
    return tern_file_write(run->ctx, path, text, strlen(text));
}

static tern_status rewind_clock(ti_run *run)
{
    char path[TI_PATH], *text;
    size_t bytes;
    struct stat st;
    long long step, train, epoch;

    if (ti_run_path(run, path, "clock.json") != TERN_OK) return tern_error(run->ctx);
    if (stat(path, &st) != 0) return TERN_OK;
    text = tern_file_read(run->ctx, &bytes, path, 1 << 16);
    if (!text) return tern_error(run->ctx);
    if (sscanf(text, "{\"step\":%lld,\"train_ms\":%lld,\"epoch_ms\":%lld}", &step, &train,
               &epoch) == 3 &&
        train >= 0 && epoch >= 0 && step >= 0) {
        run->r.train_seconds = 1e-3 * (double)train;
        run->epoch_seconds = 1e-3 * (double)epoch;
    }
    tern_free(run->ctx, text);
    return TERN_OK;
}

tern_status ti_journal_rewind(ti_run *run)
{
    if (!run->o.run_dir) return TERN_OK;
    if (rewind_csv(run) != TERN_OK || rewind_steps(run) != TERN_OK) return tern_error(run->ctx);
    if (run->r.steps == 0) return TERN_OK;
    return rewind_clock(run);
}
