/*
 * tables.c - what every table of operations and kernels must hold.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

static int n_rows(const ti_row *const *lists, const char *op)
{
    int n = 0;

    for (; *lists; lists++)
        for (const ti_row *r = *lists; r->op; r++) n += strcmp(r->op, op) == 0;
    return n;
}

static void each_op(void (*fn)(const ti_op *op))
{
    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++) fn(*op);
}

static void has_reference(const ti_op *op)
{
    cr_expect(op->view || n_rows(ti_ref_rows, op->name) >= 1, "%s: no reference row", op->name);
}

Test(tables, every_op_has_a_reference_row) { each_op(has_reference); }

static void has_gradient(const ti_op *op)
{
    cr_expect((op->grad != NULL) != (op->no_grad != NULL),
              "%s: a gradient, or else a reason for none", op->name);
    cr_expect(!op->composed || op->grad == ti_composed_grad, "%s: derivative of a composition",
              op->name);
}

Test(tables, every_op_has_a_gradient_or_says_why_not) { each_op(has_gradient); }

static void has_samples(const ti_op *op)
{
    int n = 0;

    for (const ti_sample *s = tc_samples(op); s->note; s++, n++)
        cr_expect(op->n_in < 0 || s->n_in == op->n_in, "%s (%s): %d inputs", op->name, s->note,
                  s->n_in);
    cr_expect(n >= 1, "%s: %d samples", op->name, n);
}

Test(tables, every_op_has_samples) { each_op(has_samples); }

static void has_names(const ti_op *op)
{
    cr_expect(op->n_out >= 1 && op->n_out <= TI_OUTS, "%s: %d outputs", op->name, op->n_out);
    cr_expect(op->opts_size <= TI_OPTS, "%s: %zu bytes of options", op->name, op->opts_size);
    cr_expect((op->shape != NULL) != (op->view != NULL), "%s: a shape rule or a view", op->name);
    for (int i = 0; i < op->n_out; i++)
        cr_expect(op->out[i].name, "%s: output %d has no name", op->name, i);
    for (int i = 0; i < (op->n_in < 0 ? 1 : op->n_in); i++)
        cr_expect(op->in[i], "%s: input %d has no name", op->name, i);
    cr_expect(ti_op_named(op->name) == op, "%s: two ops of this name", op->name);
}

Test(tables, every_op_names_its_operands) { each_op(has_names); }

static void check_rows(const ti_row *const *lists)
{
    for (; *lists; lists++)
        for (const ti_row *r = *lists; r->op; r++) {
            cr_expect(ti_op_named(r->op), "row %s/%s: there is no such op", r->op, r->impl);
            cr_expect((r->body != NULL) != (r->run != NULL), "row %s/%s: body or run", r->op,
                      r->impl);
        }
}

Test(tables, every_row_belongs_to_an_op)
{
    check_rows(ti_cpu_rows);
    check_rows(ti_ref_rows);
}

/* ---- Devices ---- */

/* Each op has a row on an open device. */
static void check_device(const char *device)
{
    tern_ctx *ctx;
    const ti_row *const *rows;

    if (!tc_has(device)) return;
    ctx = tc_open(device);
    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++) {
            int n = 0;

            for (int k = 0; (rows = ctx->backend->rows(ctx->device, k)) != NULL; k++)
                n += n_rows(rows, (*op)->name);
            cr_expect((*op)->view || n >= 1, "%s has no row for %s", device, (*op)->name);
        }
    tc_close(ctx);
}

Test(tables, simt_has_a_row_for_every_op) { check_device("simt"); }
Test(tables, cuda_has_a_row_for_every_op) { check_device("cuda"); }

/* Options as text come back as the same bytes. */
static void text_round_trip(const ti_op *op, const ti_sample *s, void *user)
{
    int64_t a[TI_OPTS / 8], b[TI_OPTS / 8], c[TI_OPTS / 8];
    char text[1000];

    ti_opts_fill(op, a, s->opts);
    const size_t n = ti_opts_text(op, a, text, sizeof text);
    cr_assert(n < sizeof text);
    cr_assert(ti_opts_parse(user, op, b, text) == TERN_OK, "%s \"%s\": %s", op->name, text,
              tern_error_text(user));
    ti_opts_fill(op, c, b);
    cr_expect(memcmp(a, c, op->opts_size) == 0, "%s (%s): \"%s\" is not the same options", op->name,
              s->note, text);
}

Test(tables, options_survive_their_text)
{
    tern_ctx *ctx = tc_open("cpu");

    tc_each_sample(text_round_trip, ctx);
    tc_close(ctx);
}
