/* meter.c - a mean that is kept on the device, so that a loop need not wait for its values. */
#include <math.h>

#include "tern/grad.h"
#include "tern/ops.h"
#include "tern/program.h"
#include "tern/train.h"
#include "train/run.h"

struct tern_meter {
    tern_var *sum, *count; /* f64 scalars */
};

static void forget(tern_ctx *ctx, void *meter) { tern_free(ctx, meter); }

tern_meter *tern_meter_open(tern_ctx *ctx)
{
    tern_meter *m = tern_alloc(ctx, sizeof *m);

    if (!m) return NULL;
    if (tern_on_close(ctx, forget, m) != TERN_OK) {
        tern_free(ctx, m);
        return NULL;
    }
    m->sum = tern_variable(ctx, "meter.sum", TERN_F64, (tern_shape){0});
    m->count = tern_variable(ctx, "meter.count", TERN_F64, (tern_shape){0});
    return m->sum && m->count ? m : NULL;
}

tern_status tern_meter_add_weighted(tern_ctx *ctx, tern_meter *m, tern_tensor *x, double weight)
{
    tern_tensor *sum, *count;

    if (tern_error(ctx)) return tern_error(ctx);
    if (!m || !x) return tern_fail(ctx, TERN_E_ARGUMENT, "meter: nothing to add");
    if (tern_count(tern_shape_of(x)) != 1)
        return tern_fail(ctx, TERN_E_SHAPE, "meter: adds scalars only");
    tern_frame_begin(ctx);
    tern_no_grad_begin(ctx);
    x = tern_reshape(ctx, tern_detach(ctx, x), (tern_shape){0});
    if (x && tern_type_of(x) != TERN_F64) x = tern_cast(ctx, x, TERN_F64);
    if (weight != 1) x = tern_scale(ctx, x, weight);
    sum = tern_add(ctx, tern_read(ctx, m->sum), x);
    count = tern_shift(ctx, tern_read(ctx, m->count), weight);
    if (sum && count && tern_assign(ctx, m->sum, sum) == TERN_OK)
        (void)!tern_assign(ctx, m->count, count);
    tern_no_grad_end(ctx);
    tern_frame_end(ctx);
    return tern_error(ctx);
}

tern_status tern_meter_add(tern_ctx *ctx, tern_meter *m, tern_tensor *x)
{
    return tern_meter_add_weighted(ctx, m, x, 1);
}

tern_status ti_meter_get(tern_ctx *ctx, const tern_meter *m, double value[2])
{
    tern_frame_begin(ctx);
    value[0] = tern_item(ctx, tern_read(ctx, m->sum));
    value[1] = tern_item(ctx, tern_read(ctx, m->count));
    tern_frame_end(ctx);
    return tern_error(ctx);
}

tern_status ti_meter_set(tern_ctx *ctx, tern_meter *m, const double value[2])
{
    if (tern_set(ctx, m->sum, value[0]) != TERN_OK) return tern_error(ctx);
    return tern_set(ctx, m->count, value[1]);
}

double tern_meter_mean(tern_ctx *ctx, tern_meter *m)
{
    double value[2];

    if (!ctx || !m || ti_meter_get(ctx, m, value) != TERN_OK) return NAN;
    return value[1] > 0 ? value[0] / value[1] : NAN;
}

double tern_meter_take(tern_ctx *ctx, tern_meter *m)
{
    const double mean = tern_meter_mean(ctx, m);

    if (m && tern_error(ctx) == TERN_OK) (void)!ti_meter_set(ctx, m, (double[2]){0, 0});
    return mean;
}
