/*
 * train.c - the verb `train`: settings, data, net, the run's folder; then the library's fit loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/job.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "cli/signals.h"
#include "cli/verbs.h"

/* ---- defaults that depend on other settings -------------------------------------------------- */

static void defaults(cli *c)
{
    const char *data = data_name(c);
    const bool sgd = strcmp(cli_text(c, "optimizer"), "sgd") == 0;

    cli_default(c, "data", "fashion-mnist");
    cli_default(c, "lr", sgd ? "0.05" : "0.002");
    cli_default(c, "batch", "64");
    if (!cli_given(c, "steps")) cli_default(c, "epochs", "15");
    cli_default(c, "augment",
                strncmp(data, "cifar", 5) == 0       ? "flip,crop=4"
                : strcmp(data, "fashion-mnist") == 0 ? "flip"
                                                     : "none");
}

/* "flip,shift=2" */
static bool augment_of(cli *c, tern_augment *a)
{
    char *list = cli_copy(cli_text(c, "augment")), *rest = list, *word, *end;
    bool ok = true;

    *a = (tern_augment){0};
    while (ok && (word = strsep(&rest, ",")) != NULL) {
        char *is = strchr(word, '=');
        const float x = is ? strtof(is + 1, &end) : 0;

        ok = !is || (end != is + 1 && !*end && isfinite(x) && x >= 0 && x <= 1000);
        if (is) *is = '\0';
        if (ok && strcmp(word, "flip") == 0 && !is) a->flip = true;
        else if (ok && strcmp(word, "rotate") == 0 && is) a->rotate = x;
        else if (ok && strcmp(word, "shift") == 0 && is) a->shift = x;
        else if (ok && strcmp(word, "scale") == 0 && is && x < 1) a->scale = x;
        else if (ok && strcmp(word, "crop") == 0 && is && x == floorf(x)) a->crop = (int)x;
        else if (strcmp(word, "none") != 0 || is) ok = false;
    }
    free(list);
    if (!ok)
        usage_error(
            c,
            "--augment %s: this is not none, or a list of flip, shift=X, rotate=X, scale=X, crop=N",
            cli_text(c, "augment"));
    return ok;
}

static void schedule_of(cli *c, tern_schedule *s, int64_t steps)
{
    *s = (tern_schedule){.kind = tern_schedule_named(cli_text(c, "schedule")),
                         .lr = cli_real(c, "lr"),
                         .total = steps,
                         .warmup = cli_int(c, "warmup"),
                         .every = cli_int(c, "lr-every"),
                         .factor = cli_real(c, "lr-factor"),
                         .patience = cli_int(c, "lr-patience")};
}

/* ---- the run's folder ------------------------------------------------------------------------ */

/* The last part of a path, without ".cfg". */
static char *base_of(const char *path)
{
    const size_t n = strlen(path);
    size_t end = n, from;

    while (end > 1 && path[end - 1] == '/') end--;
    for (from = end; from > 0 && path[from - 1] != '/'; from--) continue;
    if (end - from > 4 && strncmp(path + end - 4, ".cfg", 4) == 0) end -= 4;
    return cli_format("%.*s", (int)(end - from), path + from);
}

/* The entry in its parent is to outlive a power cut. */
static void sync_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent;
    int fd;

    parent =
        !slash ? cli_copy(".") : cli_format("%.*s", slash > path ? (int)(slash - path) : 1, path);
    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd); /* some file systems refuse; the folder is there all the same */
        close(fd);
    }
    free(parent);
}

static bool make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0) return false;
    sync_parent(path);
    return true;
}

static bool make_parents(const char *folder)
{
    char *path = cli_copy(folder);
    bool ok = true;

    for (char *at = path + 1; ok && *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        ok = make_folder(path) || errno == EEXIST;
        *at = '/';
    }
    free(path);
    return ok;
}

static tern_status write_text(tern_ctx *ctx, const char *folder, const char *file, char *text)
{
    char *path = cli_format("%s/%s", folder, file);
    const tern_status status = tern_file_write(ctx, path, text, strlen(text));

    free(path);
    free(text);
    return status;
}

static tern_status write_config(cli *c, job *j, const char *folder)
{
    setting *model = &c->set[option_named("model")];
    const setting asked = *model;
    char *train, *text;

    /* A net that a file describes stands in config.cfg itself: no other file is needed then. */
    if (j->net_text) *model = (setting){.text = NO_SETTING};
    train = settings_text(c);
    *model = asked;
    text = j->net_text ? cli_format("%s\n%s", j->net_text, train) : cli_copy(train);
    free(train);
    return write_text(j->ctx, folder, "config.cfg", text);
}

/* Gives a folder its name if nothing has it. */
static bool rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return true;
    if (errno != EINVAL && errno != ENOSYS) return false;
    /* A file system without that call: an empty folder may be replaced. */
    return mkdir(to, 0777) == 0 && rename(from, to) == 0;
}

static void remove_new(const char *folder)
{
    static const char *const files[] = {"config.cfg", "env.json"};

    for (int i = 0; i < 2; i++) {
        char *path = cli_format("%s/%s", folder, files[i]);

        (void)!unlink(path);
        free(path);
    }
    (void)!rmdir(folder);
}

/* NAME, or else NAME-2 and so on, for the folder `made`. NULL after a message. */
static char *name_folder(cli *c, const char *made, const char *first, bool *second)
{
    const char *name = cli_text(c, "name");

    for (int i = 1; i < 100000; i++) {
        char *folder = i == 1 ? cli_copy(first) : cli_format("%s-%d", first, i);

        if (rename_new(made, folder)) {
            sync_parent(folder);
            *second = i > 1;
            return folder;
        }
        if (errno != EEXIST || name) {
            if (errno != EEXIST) error("%s: %s", folder, strerror(errno));
            else {
                error("--name %s: %s is there already", name, folder);
                hint("tern train --resume %s goes on with that run; another --name starts anew",
                     folder);
            }
            free(folder);
            return NULL;
        }
        free(folder);
    }
    error("%s: there are a hundred thousand runs of that name", first);
    return NULL;
}

/* A new folder that appears whole: whoever is killed leaves a run that can be resumed, or none. */
static char *new_folder(cli *c, job *j, bool *second)
{
    const char *runs = cli_text(c, "runs"), *name = cli_text(c, "name");
    char *data = base_of(data_name(c)), *model = base_of(cli_text(c, "model"));
    char *first =
        name ? cli_format("%s/%s", runs, name) : cli_format("%s/%s-%s", runs, data, model);
    char *made = cli_format("%s.%ld.tern-tmp", first, (long)getpid()), *folder = NULL;

    if (!make_parents(first) || !make_folder(made)) {
        error("%s: %s", first, strerror(errno));
    } else {
        if (write_config(c, j, made) != TERN_OK) session_failed(j->ctx, NULL);
        else folder = name_folder(c, made, first, second);
        if (!folder) remove_new(made);
    }
    free(data);
    free(model);
    free(first);
    free(made);
    return folder;
}

/* ---- the verb ------------------------------------------------------------------------------ */

static bool stopped(tern_status status)
{
    return status == TERN_E_STOPPED || (status == TERN_E_VALUE);
}

static int open_data(cli *c, job *j, const tern_model_opts *size)
{
    int64_t held;

    j->train = data_open(c, j->ctx, "train", size);
    j->test = j->train ? data_open(c, j->ctx, "test", size) : NULL;
    if (!j->test) return session_failed(j->ctx, NULL);
    held = data_held_out(c, tern_data_count(j->train));
    if (held > 0 && !(j->val = tern_data_split(j->ctx, j->train, held)))
        return session_failed(j->ctx, NULL);
    return EXIT_DONE;
}

static int open_net(cli *c, job *j, const tern_model_opts *size)
{
    const tern_shape x = tern_data_shape(j->train);
    tern_model_opts how = *size;
    int status;

    if (x.rank == 3) {
        how.channels = x.dim[0];
        how.height = x.dim[1];
        how.width = x.dim[2];
    }
    how.classes = tern_data_classes(j->train);
    j->net = net_open(j->ctx, cli_text(c, "model"), &how, &j->size, &status);
    if (!j->net) return status;
    if (!j->net_text) j->net_text = net_text(j->ctx, cli_text(c, "model"));
    j->opt = optimizer_open(c, j->ctx, j->net);
    return j->opt ? EXIT_DONE : session_failed(j->ctx, NULL);
}

/* --batch auto becomes a number, which the run's config.cfg keeps: a resume takes the same. */
static int settle_batch(cli *c, job *j)
{
    const bool open = strcmp(cli_text(c, "batch"), "auto") == 0;
    const int status = job_batch(c, j);

    if (status != EXIT_DONE || !open) return status;
    return write_config(c, j, j->folder) == TERN_OK ? EXIT_DONE : session_failed(j->ctx, NULL);
}

/* What the schedule spans. --steps beside --epochs ends the run earlier, and changes no step. */
static int64_t planned_steps(cli *c, const job *j)
{
    const int64_t batch = cli_int(c, "batch"), n = tern_data_count(j->train);
    const int64_t by_epochs = (n + batch - 1) / batch * cli_int(c, "epochs");

    return by_epochs ? by_epochs : cli_int(c, "steps");
}

static int64_t total_steps(cli *c, const job *j)
{
    const int64_t planned = planned_steps(c, j), steps = cli_int(c, "steps");

    return steps && steps < planned ? steps : planned;
}

static int fit(cli *c, job *j)
{
    progress shown = {.ctx = j->ctx, .run = j->folder, .resumed = j->resumed};
    const char *const meta[] = {"data", data_name(c), j->net_text ? "net" : "model",
                                j->net_text ? j->net_text : cli_text(c, "model"), NULL};
    tern_schedule schedule;
    tern_augment augment;
    tern_fit_opts how = {.epochs = (int)cli_int(c, "epochs"),
                         .steps = cli_int(c, "steps"),
                         .batch = (int)cli_int(c, "batch"),
                         .smoothing = cli_real(c, "smoothing"),
                         .augment = &augment,
                         .schedule = &schedule,
                         .validate = j->val,
                         .patience = (int)cli_int(c, "patience"),
                         .run_dir = j->folder,
                         .resume = j->resumed,
                         .save_every = cli_int(c, "save-every"),
                         .log_every = cli_int(c, "log-every"),
                         .memory = (size_t)cli_size(c, "memory"),
                         .allow_nonfinite = cli_flag(c, "allow-nonfinite"),
                         .metadata = meta,
                         .on_epoch = progress_epoch,
                         .on_step = progress_step,
                         .user = &shown,
                         .result = &j->fit};
    int status;

    if (!augment_of(c, &augment)) return EXIT_USAGE;
    schedule_of(c, &schedule, planned_steps(c, j));
    if ((status = job_start(c, j, total_steps(c, j))) != EXIT_DONE) return status;
    progress_head();
    signals_watch(j->ctx);
    j->status = tern_fit(j->ctx, j->net, j->opt, j->train, &how);
    signals_unwatch();
    redraw("");
    return EXIT_DONE;
}

static int prepare(cli *c, job *j)
{
    const char *resume = cli_text(c, "resume");
    bool second = false;

    if (resume) {
        j->folder = cli_copy(resume);
        j->resumed = true;
    } else {
        j->net_text = net_text(j->ctx, cli_text(c, "model"));
        tern_error_clear(j->ctx); /* a model that cannot be read is told when it is opened */
        j->folder = new_folder(c, j, &second);
        if (!j->folder) return EXIT_FAILED;
        j->fresh = true;
    }
    job_header(c, j);
    if (second) say("note    a run of that name is there already: this one is %s\n", j->folder);
    return EXIT_DONE;
}

/* An empty folder that this run made and has nothing to say in is taken away again. */
static void forget(job *j)
{
    if (j->fresh) remove_new(j->folder);
}

static int run(cli *c, job *j)
{
    tern_model_opts size;
    int status;

    if (!net_size(c, &size)) return EXIT_USAGE;
    if ((status = prepare(c, j)) != EXIT_DONE) return status;
    if ((status = open_data(c, j, &size)) == EXIT_DONE &&
        (status = open_net(c, j, &size)) == EXIT_DONE &&
        (status = settle_batch(c, j)) == EXIT_DONE) {
        if (j->fresh && job_environment(c, j) != TERN_OK) status = session_failed(j->ctx, NULL);
        else status = fit(c, j);
    }
    if (status != EXIT_DONE) {
        forget(j);
        return status;
    }
    if (j->status == TERN_OK) return job_results(c, j);
    return stopped(j->status) ? job_stopped(c, j) : session_failed(j->ctx, NULL);
}

int verb_train(cli *c)
{
    const char *resume = cli_text(c, "resume");
    job j = {0};
    int status;

    if (c->n_arg) return usage_error(c, "train takes no \"%s\"", c->arg[0]);
    if (resume && cli_given(c, "name"))
        return usage_error(c, "--resume and --name exclude each other");
    defaults(c);
    j.ctx = session_open(c);
    if (!j.ctx) return EXIT_FAILED;
    status = session_close(j.ctx, run(c, &j));
    free(j.folder);
    free(j.net_text);
    return status;
}
