/* run.c - a finished run as eval and predict take it: a folder, or a weights file of one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/out.h"
#include "cli/session.h"

static void take_names(run_net *run, const char *text)
{
    char *copy = cli_copy(text), *rest = copy, *word;

    while ((word = strsep(&rest, "\n")) != NULL) {
        run->names = cli_realloc(run->names, ((size_t)run->n_names + 1) * sizeof *run->names);
        run->names[run->n_names++] = cli_copy(word);
    }
    free(copy);
}

static bool take_numbers(const char *text, float *x, int *n)
{
    char *end;

    for (*n = 0; text && *text && *n < TERN_CHANNELS; text = *end ? end + 1 : end) {
        x[(*n)++] = strtof(text, &end);
        if (*end && *end != ',') return false;
    }
    return *n > 0;
}

/* What the weights file says about its net: classes, standardisation, extents of an image. */
static int take_texts(run_net *run)
{
    tern_archive *file = tern_archive_read(run->ctx, run->weights);
    const char *classes, *image;
    long long d[3];
    int n = 0, rank;

    if (!file) return session_failed(run->ctx, NULL);
    classes = tern_archive_meta(file, "classes");
    image = tern_archive_meta(file, "image");
    rank = image ? sscanf(image, "[%lld,%lld,%lld]", &d[0], &d[1], &d[2]) : 0;
    if (!classes || (rank != 3 && rank != 1) ||
        !take_numbers(tern_archive_meta(file, "mean"), run->norm.mean, &run->norm.channels) ||
        !take_numbers(tern_archive_meta(file, "std"), run->norm.std, &n) ||
        n != run->norm.channels) {
        error("%s: says nothing about classes, images and their scale: not from a run",
              run->weights);
        tern_archive_close(run->ctx, file);
        return EXIT_FAILED;
    }
    run->size.channels = d[0];
    run->size.height = rank == 3 ? d[1] : 1;
    run->size.width = rank == 3 ? d[2] : 1;
    take_names(run, classes);
    run->size.classes = run->n_names;
    tern_archive_close(run->ctx, file);
    return EXIT_DONE;
}

int run_open(cli *c, run_net *run, const char *folder)
{
    char *config = cli_format("%s/config.cfg", folder);
    const char *weights = cli_text(c, "weights");
    struct stat st;
    tern_model_opts got;
    int status = EXIT_FAILED;

    *run = (run_net){0};
    run->weights = weights ? cli_copy(weights) : cli_format("%s/best.safetensors", folder);
    if (stat(config, &st) != 0) {
        error("%s: this is no run: it has no config.cfg", folder);
        hint("tern train makes one; the folders of runs lie in runs/");
    } else if ((status = settings_from(c, config)) == EXIT_DONE) {
        run->ctx = session_open(c);
        status = run->ctx ? take_texts(run) : EXIT_FAILED;
    }
    free(config);
    if (status != EXIT_DONE) return status;
    run->net = net_open(run->ctx, cli_text(c, "model"), &run->size, &got, &status);
    if (!run->net) return status;
    if (tern_load(run->ctx, run->net, run->weights) != TERN_OK)
        return session_failed(run->ctx, NULL);
    return EXIT_DONE;
}

void run_close(run_net *run)
{
    for (int i = 0; i < run->n_names; i++) free(run->names[i]);
    free(run->names);
    free(run->weights);
}
