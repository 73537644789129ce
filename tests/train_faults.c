/* train_faults.c - allocations of a whole fit fail, one after the other: nothing is lost. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "tern/tern.h"

enum { COUNT = 24, PIXELS = 16 };

typedef struct {
    tern_ctx *ctx;
    tern_data *data, *val;
    tern_module *net;
    tern_optim *opt;
} job;

static job open_job(void)
{
    job j = {.ctx = tc_open(tc_device())};
    float x[COUNT * PIXELS];
    int64_t label[COUNT];
    uint64_t seed = 5;

    for (int i = 0; i < COUNT * PIXELS; i++) x[i] = (float)tc_normal(&seed);
    for (int i = 0; i < COUNT; i++) label[i] = i % 3;
    j.data = tern_data_from_arrays(j.ctx, TERN_F32, x, (tern_shape){4, {COUNT, 1, 4, 4}}, label, 3,
                                   NULL);
    j.val = tern_data_split(j.ctx, j.data, 6);
    j.net = tern_sequential(
        j.ctx, (tern_module *[]){tern_nn_flatten(j.ctx), tern_nn_linear(j.ctx, PIXELS, 5, NULL),
                                 tern_nn_batch_norm(j.ctx, 5, NULL), tern_nn_dropout(j.ctx, 0.5),
                                 tern_nn_linear(j.ctx, 5, 3, NULL), NULL});
    j.opt = tern_adam(j.ctx, j.net, NULL);
    cr_assert(j.opt && j.val, "%s", tern_error_text(j.ctx));
    return j;
}

static tern_status fit(job *j, const char *folder)
{
    const tern_fit_opts how = {.epochs = 2,
                               .batch = 9,
                               .validate = j->val,
                               .run_dir = folder,
                               .resume = true,
                               .save_every = 1,
                               .log_every = 1};

    return tern_fit(j->ctx, j->net, j->opt, j->data, &how);
}

static void remove_folder(const char *folder)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert(system(command) == 0);
}

Test(train_faults, every_allocation_of_a_fit)
{
    char folder[64], whole[33], hash[33];
    long nth = 0, failed = 0;
    tern_status status;

    snprintf(folder, sizeof folder, "train-faults-%ld", (long)getpid());
    job j = open_job();
    cr_assert(eq(int, fit(&j, folder), TERN_OK), "%s", tern_error_text(j.ctx));
    cr_assert(eq(int, tern_weights_hash(j.ctx, whole, j.net), TERN_OK));
    tc_close(j.ctx);
    do {
        remove_folder(folder);
        j = open_job();
        ti_fail_allocation(j.ctx, nth, nth & 1);
        status = fit(&j, folder);
        ti_fail_allocation(j.ctx, -1, false);
        cr_assert(status == TERN_OK || status == TERN_E_MEMORY, "allocation %ld: %s: %s", nth,
                  tern_status_name(status), tern_error_text(j.ctx));
        cr_assert(status == TERN_OK || tern_error_text(j.ctx)[0] != '\0', "allocation %ld", nth);
        tern_error_clear(j.ctx);
        /* The context still works; another one goes on and ends as if nothing had been. */
        tern_score score;
        cr_assert(eq(int, tern_evaluate(j.ctx, &score, j.net, j.val), TERN_OK), "%s",
                  tern_error_text(j.ctx));
        tc_close(j.ctx);
        j = open_job();
        cr_assert(eq(int, fit(&j, folder), TERN_OK), "after allocation %ld: %s", nth,
                  tern_error_text(j.ctx));
        cr_assert(eq(int, tern_weights_hash(j.ctx, hash, j.net), TERN_OK));
        cr_assert(eq(str, hash, whole), "after allocation %ld", nth);
        tc_close(j.ctx);
        failed += status != TERN_OK;
        nth += 1 + nth / 16; /* each of the first, then fewer and fewer */
    } while (status != TERN_OK && nth < 100000);
    cr_expect(status == TERN_OK && failed > 50, "%ld allocations failed", failed);
    remove_folder(folder);
}
