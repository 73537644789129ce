/*
 * schedule.c - learning rates over time. Host arithmetic: the rate is a variable, set between
 * steps.
 */
#include <math.h>
#include <string.h>

#include "tern/optim.h"

static const char *const names[] = {"constant", "step", "cosine", "plateau"};

int tern_schedule_named(const char *name)
{
    for (int i = 0; name && i <= TERN_SCHEDULE_PLATEAU; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

const char *tern_schedule_name(int kind)
{
    return kind >= 0 && kind <= TERN_SCHEDULE_PLATEAU ? names[kind] : NULL;
}

static double factor_of(const tern_schedule *s)
{
    return s->factor != 0 ? s->factor : s->kind == TERN_SCHEDULE_PLATEAU ? 0.5 : 0.1;
}

static double not_below(double lr, double least) { return lr > least ? lr : least; }

static int64_t every_of(const tern_schedule *s)
{
    if (s->every > 0) return s->every;
    const int64_t third = s->total / 3 + (s->total % 3 != 0);
    return third > 0 ? third : 1;
}

tern_status tern_schedule_check(tern_ctx *ctx, const tern_schedule *s)
{
    if (tern_error(ctx)) return tern_error(ctx);
    if (!s) return tern_fail(ctx, TERN_E_ARGUMENT, "schedule: NULL");
    if (!tern_schedule_name(s->kind))
        return tern_fail(ctx, TERN_E_ARGUMENT, "schedule: there is no kind %d", s->kind);
    const char *name = names[s->kind];
    if (!(s->lr >= 0 && isfinite(s->lr)))
        return tern_fail(ctx, TERN_E_ARGUMENT,
                         "schedule %s: lr is %g; it is finite and not negative", name, s->lr);
    if (!(s->least >= 0 && s->least <= s->lr))
        return tern_fail(ctx, TERN_E_ARGUMENT, "schedule %s: least is %g; it is in 0 … lr (%g)",
                         name, s->least, s->lr);
    if (!(s->factor >= 0 && s->factor <= 1))
        return tern_fail(ctx, TERN_E_ARGUMENT, "schedule %s: factor is %g; it is in 0 … 1", name,
                         s->factor);
    if (s->total < 0 || s->warmup < 0 || s->every < 0 || s->patience < 0)
        return tern_fail(ctx, TERN_E_ARGUMENT,
                         "schedule %s: total, warmup, every and patience are not negative", name);
    if (!(s->threshold >= 0 && s->threshold < 1))
        return tern_fail(ctx, TERN_E_ARGUMENT, "schedule %s: threshold is %g; it is in 0 … 1", name,
                         s->threshold);
    if (s->kind == TERN_SCHEDULE_COSINE && s->total <= s->warmup)
        return tern_fail(ctx, TERN_E_ARGUMENT,
                         "schedule cosine: total is %lld; it is more than the warmup's %lld steps",
                         (long long)s->total, (long long)s->warmup);
    if (s->kind == TERN_SCHEDULE_STEP && s->total == 0 && s->every == 0)
        return tern_fail(ctx, TERN_E_ARGUMENT, "schedule step: it needs every or total");
    return TERN_OK;
}

double tern_schedule_lr(const tern_schedule *s, const tern_schedule_state *state, int64_t step)
{
    const double pi = 3.14159265358979323846;

    if (!s) return 0;
    if (step < 0) step = 0;
    if (step < s->warmup) return s->lr * (double)(step + 1) / (double)s->warmup;
    const int64_t i = step - s->warmup, span = s->total - s->warmup;

    switch (s->kind) {
    case TERN_SCHEDULE_STEP:
        return not_below(s->lr * pow(factor_of(s), (double)(i / every_of(s))), s->least);
    case TERN_SCHEDULE_COSINE:
        if (i >= span) return s->least;
        return s->least + (s->lr - s->least) * (1 + cos(pi * (double)i / (double)span)) / 2;
    case TERN_SCHEDULE_PLATEAU:
        return not_below(s->lr * pow(factor_of(s), state ? (double)state->cuts : 0), s->least);
    default: return s->lr;
    }
}

bool tern_schedule_observe(const tern_schedule *s, tern_schedule_state *state, double value)
{
    if (!s || !state || s->kind != TERN_SCHEDULE_PLATEAU) return false;
    const double gain = (s->threshold > 0 ? s->threshold : 1e-4) * fabs(state->best);
    const bool better = !isnan(value) && (state->seen == 0 || value < state->best - gain);

    if (!isnan(value)) state->seen++; /* what is not a number is no observation to compare with */
    if (better) {
        state->best = value;
        state->bad = 0;
        return false;
    }
    if (++state->bad < (s->patience > 0 ? s->patience : 5)) return false;
    state->bad = 0;
    state->cuts++;
    return true;
}
