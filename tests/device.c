/*
 * device.c - a device that fails: late faults, no memory, wrong indices, blocks overrun. On the
 * emulated device, where all of that can be made to happen.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "check.h"
#include "core/program.h"
#include "emulator.h"
#include "step.h"

static void expect_status(tern_ctx *ctx, tern_status status, const char *part)
{
    cr_expect(tern_error(ctx) == status && strstr(tern_error_text(ctx), part), "%s: %s, not %s",
              tern_status_name(tern_error(ctx)), tern_error_text(ctx), part);
}

/* ---- Late faults ---- */

static tern_tensor *square(tern_ctx *ctx, int64_t n) { return randoms(ctx, TI_SHAPE(n, n), 5); }

static void works(const char *device)
{
    tern_ctx *ctx = tc_open(device);

    cr_expect(tern_item(ctx, tern_fill(ctx, TERN_F32, TI_SCALAR, 3)) == 3);
    FINE(ctx);
    tc_close(ctx);
}

/* The context is lost, and says so at each turn; its closing is as clean as any. */
static void is_lost(tern_ctx *ctx)
{
    for (int i = 0; i < 3; i++) {
        tern_error_clear(ctx);
        (void)tern_item(ctx, tern_fill(ctx, TERN_F32, TI_SCALAR, 3));
        expect_status(ctx, TERN_E_DEVICE, "cudaErrorLaunchFailure");
    }
    tern_error_clear(ctx);
    cr_expect(tern_close(ctx) == TERN_OK);
}

Test(device, a_late_fault_names_its_operation)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt"), *cpu = tc_open("cpu");
    tern_tensor *x = square(ctx, 8);

    tc_emulator_of(ctx).fail_kernel(1);
    x = tern_matmul(ctx, x, x);
    cr_expect(x && tern_error(ctx) == TERN_OK, "the fault comes late");
    (void)tern_item(ctx, tern_sum(ctx, x, NULL));
    expect_status(ctx, TERN_E_DEVICE, "matmul");
    expect_status(ctx, TERN_E_DEVICE, "unspecified launch failure (cudaErrorLaunchFailure)");
    cr_expect(tern_item(cpu, tern_fill(cpu, TERN_F32, TI_SCALAR, 4)) == 4, "others go on");
    tc_close(cpu);
    is_lost(ctx);
    works("cpu");
    works("simt");
}

Test(device, alone_an_operation_is_named_exactly)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt");
    tern_tensor *x = square(ctx, 8);
    double v[64];

    (void)!tern_to_doubles(ctx, v, x); /* waits */
    tc_emulator_of(ctx).fail_kernel(1);
    (void)!tern_to_doubles(ctx, v, tern_exp(ctx, x));
    expect_status(ctx, TERN_E_DEVICE, "cudaErrorLaunchFailure), in exp");
    is_lost(ctx);
}

static bool is_op(const char *name)
{
    for (const ti_op *const *const *list = ti_all_ops; *list; list++)
        for (const ti_op *const *op = *list; *op; op++)
            if (strcmp((*op)->name, name) == 0) return true;
    return false;
}

/* Eager, and replayed: with this check no step is captured. */
Test(device, check_sync_names_the_operation_among_many)
{
    if (!tc_has("simt")) return;
    cr_assert(setenv("TERN_CHECK", "sync", 1) == 0);
    for (int traced = 0; traced < 2; traced++) {
        tern_ctx *ctx = tc_open("simt");
        job j = small_net(ctx, false);
        tern_program *p = tern_record(ctx, train_step, &j);
        tern_tensor *in[3], *loss;

        tern_eager_set(ctx, !traced);
        feed(ctx, in, 0, 4);
        (void)!tern_program_run(ctx, &loss, p, in);
        FINE(ctx);
        tc_emulator_of(ctx).fail_kernel(3);
        cr_expect(tern_program_run(ctx, &loss, p, in) == TERN_E_DEVICE, "told within the step");
        expect_status(ctx, TERN_E_DEVICE, "cudaErrorLaunchFailure), in ");
        const char *op = strstr(tern_error_text(ctx), "), in ") + 6;
        cr_expect(is_op(op), "%s is no operation", op);
        is_lost(ctx);
    }
}

/* The fault is known to the process, not yet to the context, when that asks for memory. */
Test(device, a_fault_that_an_allocation_meets)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt"), *other = tc_open("simt");
    tern_tensor *x = square(ctx, 8);

    tc_emulator_of(ctx).fail_kernel(1);
    (void)tern_exp(ctx, x);
    FINE(ctx);
    (void)tern_item(other, tern_fill(other, TERN_F32, TI_SCALAR, 3)); /* streams run in any order */
    for (int i = 0; i < 100 && !tern_error(other); i++)
        (void)tern_item(other, tern_fill(other, TERN_F32, TI_SCALAR, 3));
    expect_status(other, TERN_E_DEVICE, "cudaErrorLaunchFailure");
    (void)tern_fill(ctx, TERN_F32, TI_SHAPE(1 << 20), 0); /* more than the pool has */
    expect_status(ctx, TERN_E_DEVICE, "exp");
    tern_error_clear(other);
    cr_expect(tern_close(other) == TERN_OK);
    is_lost(ctx);
    works("simt");
}

/* There is no memory either, but it is the fault that is told. */
Test(device, a_fault_behind_an_allocation_that_fails)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt");
    const tc_emulator e = tc_emulator_of(ctx);
    tern_tensor *x = square(ctx, 8);

    e.fail_kernel(1);
    (void)tern_exp(ctx, x);
    e.limit_memory(e.live_bytes() + 1000);
    (void)tern_fill(ctx, TERN_F32, TI_SHAPE(1 << 20), 0);
    e.limit_memory(0);
    expect_status(ctx, TERN_E_DEVICE, "exp");
    is_lost(ctx);
}

/* ---- Memory ---- */

static void step_of(tern_ctx *ctx, job *j, tern_program *p, int64_t n, double *loss)
{
    tern_tensor *in[3], *out = NULL;

    (void)j;
    tern_frame_begin(ctx);
    feed(ctx, in, (int)n, n);
    if (!tern_program_run(ctx, &out, p, in)) *loss = tern_item(ctx, out);
    tern_frame_end(ctx);
}

static void survive(bool eager)
{
    tern_ctx *ctx = tc_open("simt"), *calm = tc_open("simt");
    const tc_emulator e = tc_emulator_of(ctx);
    job j = small_net(ctx, false), k = small_net(calm, false);
    tern_program *p = tern_record(ctx, train_step, &j), *q = tern_record(calm, train_step, &k);
    double loss = 0, want = 0;

    tern_eager_set(ctx, eager);
    tern_eager_set(calm, eager);
    step_of(ctx, &j, p, 4, &loss);
    step_of(calm, &k, q, 4, &want);
    FINE(ctx);
    for (size_t room = 0; room < 3; room++) {
        e.limit_memory(e.live_bytes() + room * 4096);
        step_of(ctx, &j, p, 64, &loss);
        expect_status(ctx, TERN_E_MEMORY, "no memory for");
        e.limit_memory(0);
        tern_error_clear(ctx);
        e.limit_memory(e.live_bytes() + (64 << 10));
        step_of(ctx, &j, p, 4, &loss);
        e.limit_memory(0);
        FINE(ctx);
        step_of(calm, &k, q, 4, &want);
        cr_expect(loss == want, "%.17g, not %.17g", loss, want);
    }
    step_of(ctx, &j, p, 64, &loss);
    step_of(calm, &k, q, 64, &want);
    FINE(ctx);
    cr_expect(loss == want);
    tc_close(calm);
    tc_close(ctx);
}

Test(device, no_memory_is_survived)
{
    if (!tc_has("simt")) return;
    survive(true);
    survive(false);
}

/* Room on the device is the device's word, and the pool's takings lessen it. */
Test(device, says_what_room_is_left)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt"), *cpu = tc_open("cpu");
    const tc_emulator e = tc_emulator_of(ctx);
    const size_t limit = (size_t)64 << 20;
    tern_memory now;

    e.limit_memory(limit);
    cr_expect(tern_memory_room(ctx) == limit - e.live_bytes());
    tern_memory_stats(ctx, &now);
    const size_t others = e.live_bytes() - now.reserved; /* the context's own */
    (void)randoms(ctx, TI_SHAPE(1 << 20), 1);
    FINE(ctx);
    tern_memory_stats(ctx, &now);
    cr_expect(now.reserved >= 4 << 20 && tern_memory_room(ctx) == limit - others - now.reserved);
    cr_expect(tern_memory_room(cpu) == 0 && tern_memory_room(NULL) == 0);
    e.limit_memory(0);
    tc_close(cpu);
    tc_close(ctx);
}

/* ---- Wrong indices: the one named is that of the first place, however threads run ---- */

enum { MANY = 20000 };

static tern_tensor *wrong(tern_ctx *ctx, tern_type type, int64_t first, int64_t value)
{
    int64_t *x = calloc(MANY, sizeof *x);

    for (int64_t i = first; i < MANY; i += 1 + i % 7) x[i] = i == first ? value : -i;
    double *d = calloc(MANY, sizeof *d);
    for (int i = 0; i < MANY; i++) d[i] = (double)x[i];
    tern_tensor *t = type == TERN_I64 ? tern_from_host(ctx, type, x, TI_SHAPE(MANY))
                                      : tern_from_doubles(ctx, type, d, TI_SHAPE(MANY));
    free(d);
    free(x);
    return t;
}

static void one_call(tern_ctx *ctx, int which, tern_type type, int64_t first, int64_t value)
{
    static const char *const names[] = {"take", "one_hot", "gather", "scatter_add",
                                        "cross_entropy"};
    tern_tensor *i = wrong(ctx, type, first, value), *y = NULL;
    tern_tensor *x = tern_fill(ctx, TERN_F32, TI_SHAPE(MANY, 2), 1);
    double *out = calloc(MANY * 4, sizeof *out);
    char want[100];

    snprintf(want, sizeof want, "%s: index %lld is not in 0 to 1", names[which], (long long)value);
    if (which == 0) y = tern_take(ctx, tern_fill(ctx, TERN_F32, TI_SHAPE(2), 1), i);
    if (which == 1) y = tern_one_hot(ctx, i, &(tern_one_hot_opts){.classes = 2});
    if (which == 2)
        y = tern_gather(ctx, tern_fill(ctx, TERN_F32, TI_SHAPE(2), 1), i, &(tern_axis_opts){0});
    if (which == 3)
        y = tern_scatter_add(ctx, tern_fill(ctx, TERN_F32, TI_SHAPE(MANY), 1), i,
                             &(tern_scatter_opts){.axis = 0, .count = 2});
    if (which == 4) y = tern_cross_entropy(ctx, x, i, NULL, NULL);
    if (y) (void)!tern_to_doubles(ctx, out, y);
    expect_status(ctx, TERN_E_VALUE, want);
    tern_error_clear(ctx);
    free(out);
}

static void name_the_first(tern_ctx *ctx)
{
    const int64_t far = ((int64_t)1 << 40) + 5;

    for (int which = 0; which < 5; which++) {
        tern_frame_begin(ctx);
        one_call(ctx, which, TERN_I64, 17, far);
        one_call(ctx, which, TERN_I64, 14001, -far);
        one_call(ctx, which, TERN_I64, 0, INT64_MIN);
        one_call(ctx, which, TERN_I32, 300, 2);
        tern_frame_end(ctx);
    }
}

Test(device, the_first_wrong_index_is_named_on_cpu)
{
    for (int t = 1; t < 5; t += 3) {
        tern_ctx *ctx = tc_open("cpu");
        cr_assert(tern_threads_set(ctx, t) == TERN_OK);
        for (int i = 0; i < 20; i++) name_the_first(ctx);
        tc_close(ctx);
    }
}

Test(device, the_first_wrong_index_is_named)
{
    if (!tc_has("simt")) return;
    tern_ctx *ctx = tc_open("simt");
    const tc_emulator e = tc_emulator_of(ctx);

    for (unsigned seed = 0; seed < 2; seed++) {
        e.seed(seed);
        name_the_first(ctx);
    }
    e.seed(0);
    /* Of two calls the earlier one is named, wherever it is wrong. */
    double out[4];
    const int64_t late[] = {0, 0, 0, 7}, soon[] = {9, 0, 0, 0};
    tern_tensor *table = tern_fill(ctx, TERN_F32, TI_SHAPE(2), 1);
    tern_tensor *x = tern_take(ctx, table, tern_from_host(ctx, TERN_I64, late, TI_SHAPE(4)));
    tern_tensor *y = tern_take(ctx, table, tern_from_host(ctx, TERN_I64, soon, TI_SHAPE(4)));
    (void)!tern_to_doubles(ctx, out, tern_add(ctx, x, y));
    expect_status(ctx, TERN_E_VALUE, "index 7 ");
    tern_error_clear(ctx);
    tc_clean(ctx, 100000);
    tc_close(ctx);
}

/* ---- Blocks of the pool ---- */

#ifdef TC_CHECKED
/* The kernel is told of 4 elements more than the block holds: inside the pool's segment, and even
 * inside what the block was rounded up to. */
Test(device, a_block_overrun_is_reported)
{
    tern_ctx *ctx = tc_open("simt");
    const tc_emulator e = tc_emulator_of(ctx);
    tern_tensor *before = randoms(ctx, TI_SHAPE(101), 3), *x = randoms(ctx, TI_SHAPE(101), 4);
    double out[105];

    cr_assert(before && e.checked() == 1 && e.errors() == 0);
    (void)!tern_to_doubles(ctx, out, tern_exp(ctx, x));
    FINE(ctx);
    cr_assert(e.errors() == 0, "%s", e.last_error());
    x->m.shape.dim[0] = 105;
    tern_tensor *y = tern_exp(ctx, x);
    (void)!tern_to_doubles(ctx, out, y);
    expect_status(ctx, TERN_E_DEVICE, "exp");
    cr_expect(e.errors() == 1);
    const char *text = e.last_error();
    cr_expect(strstr(text, "block (0,0,0)") && strstr(text, "thread (") &&
                  strstr(text, "outside device memory at ") && strstr(text, "allocation of"),
              "%s", text);
    fprintf(stderr, "%s\n", text);
    x->m.shape.dim[0] = 101;
    tern_error_clear(ctx);
    cr_expect(tern_close(ctx) == TERN_OK);
}

/* ---- Values in a program's arena ---- */

enum { ROWS = 101 };

/* Three values in the arena: b is made when a is dead. */
static tern_status three_calls(tern_ctx *ctx, tern_tensor **out, tern_tensor **in, void *user)
{
    tern_tensor *a = tern_exp(ctx, in[0]), *b = tern_sum(ctx, a, NULL);

    (void)user;
    out[0] = tern_add(ctx, tern_tanh(ctx, in[1]), b);
    return tern_error(ctx);
}

static tern_tensor *three(tern_ctx *ctx, tern_program *p)
{
    tern_tensor *in[] = {tern_fill(ctx, TERN_F32, TI_SHAPE(ROWS), 0.5),
                         tern_fill(ctx, TERN_F32, TI_SHAPE(ROWS), 0.25), NULL};
    tern_tensor *out = NULL;
    double v[ROWS];

    if (!tern_program_run(ctx, &out, p, in)) (void)!tern_to_doubles(ctx, v, out);
    return out;
}

static ti_bound_line *bound_line(tern_program *p, const char *op)
{
    ti_bound_line *b = ti_last_plan(p)->bound->line;

    while (b->row && strcmp(b->row->op, op) != 0) b++;
    cr_assert(b->row != NULL, "no %s in the program", op);
    return b;
}

/* A program whose first run was clean; each later one is replayed call by call. */
static tern_program *clean_program(tern_ctx *ctx)
{
    tern_program *p = tern_record(ctx, three_calls, NULL);
    const tc_emulator e = tc_emulator_of(ctx);

    tern_graphs_set(ctx, false);
    for (int i = 0; i < 2; i++) cr_assert(three(ctx, p) != NULL, "%s", tern_error_text(ctx));
    cr_assert(e.checked() == 1 && e.errors() == 0, "%s", e.last_error());
    return p;
}

static void must_be_reported(tern_ctx *ctx, tern_program *p, const char *part)
{
    const tc_emulator e = tc_emulator_of(ctx);

    (void)three(ctx, p);
    cr_expect(e.errors() > 0 && strstr(e.last_error(), part), "%s", e.last_error());
    fprintf(stderr, "%s\n", e.last_error());
    tern_error_clear(ctx);
    cr_expect(tern_close(ctx) == TERN_OK);
}

/* The call writes 4 elements more than its output has: still in the arena, and even in what the
 * value was rounded up to. */
Test(device, an_overrun_in_the_arena_is_reported)
{
    tern_ctx *ctx = tc_open("simt");
    tern_program *p = clean_program(ctx);
    ti_bound_line *b = bound_line(p, "exp");

    for (int k = 0; k < 2; k++) {
        ti_view *v = (ti_view *)(uintptr_t)(k ? b->work.out : b->work.in);
        v->count = v->m.shape.dim[0] = ROWS + 4;
    }
    must_be_reported(ctx, p, "outside device memory");
}

/* The addition reads what exp left, when that has died. */
Test(device, a_dead_value_in_the_arena_is_reported)
{
    tern_ctx *ctx = tc_open("simt");
    tern_program *p = clean_program(ctx);
    ti_view *to = (ti_view *)(uintptr_t)&bound_line(p, "add")->work.in[0];

    to->data = bound_line(p, "exp")->work.out[0].data;
    must_be_reported(ctx, p, "outside device memory");
}

/* exp reads its own output, of which nothing is written. */
Test(device, an_early_read_in_the_arena_is_reported)
{
    tern_ctx *ctx = tc_open("simt");
    tern_program *p = clean_program(ctx);
    ti_bound_line *b = bound_line(p, "exp");

    *(ti_view *)(uintptr_t)&b->work.in[0] = b->work.out[0];
    must_be_reported(ctx, p, "read of unwritten memory");
}

/* What a block held before is not what the next one holds: it reads as unwritten. */
Test(device, a_block_starts_unwritten)
{
    tern_ctx *ctx = tc_open("simt");
    const tc_emulator e = tc_emulator_of(ctx);
    ti_block *b = ti_pool_alloc(ctx->pool, 400, 0, "first");
    tern_shape s = TI_SHAPE(100);
    double out[100];

    ctx->backend->zero(ctx->device, b->data, 400);
    ti_pool_free(ctx->pool, b);
    tern_tensor *x = tern_fill(ctx, TERN_F32, TI_SCALAR, 1);
    ti_storage *store = ti_storage_new(ctx, 400);
    const ti_meta m = ti_packed_meta(TERN_F32, s);
    x = ti_tensor(ctx, &m, store, NULL, 0);
    ti_storage_drop(store);
    e.errors_clear();
    (void)!tern_to_doubles(ctx, out, tern_exp(ctx, x));
    cr_expect(e.errors() > 0 && strstr(e.last_error(), "read of unwritten memory"), "%s",
              e.last_error());
    tern_error_clear(ctx);
    cr_expect(tern_close(ctx) == TERN_OK);
}
#endif
